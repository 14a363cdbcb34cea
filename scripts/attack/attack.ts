import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { build, orHelp } from "../prepare.mjs";
import { ATTACKS, rowOf, writeSecurity } from "./attacks.ts";
import { gatherBystanders, type Bystanders } from "./bystanders.ts";
import { fuzz, fuzzCommand, tellFuzz } from "./fuzz.ts";
import { overload } from "./overload.ts";
import { ATTACK_RESULT, type Report, type Result } from "./report.ts";
import { playOn, type Attack } from "./scene.ts";
import { becomes, openStage, type Stage } from "./stage.ts";

const HELP = `npm run attack [-- --only 1,31] [-- --short] [-- --list] [-- --seed NUMBER]
npm run attack -- fuzz
npm run attack -- overload

  --only    plays these numbers
  --short   plays attacks that take seconds, and 5,000 sequences of the fuzzer, as npm test does
  --list    lists all attacks and their defences
  --write-security  writes the list into SECURITY.md
  --seed    repeats the fuzzer's random choices of an earlier run
  fuzz      sequences of a grammar, from TCP to events (npm run attack -- fuzz --help)
  overload  how one client's flood delays other people (npm run attack -- overload --help)`;

/** The most MB that a replica may use after an attack. */
const MEMORY = 450;
const SHORT_SEQUENCES = 5_000;
const SEQUENCES = 20_000;

type Playable = Extract<Attack, { play: unknown }>;

/** `npm run attack`: see HELP. The exit code is 1 if a defence did not hold. */
export async function main(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  if (command === "fuzz") return fuzzCommand(rest);
  if (command === "overload") return overload(rest);
  const options = readArguments(args);
  if (options.list) {
    for (const attack of ATTACKS) console.log(rowOf(attack).join(" | "));
    return 0;
  }
  if (options.write) {
    writeSecurity();
    return 0;
  }
  await build();
  const began = performance.now();
  const results = await attackAll(options);
  if (options.sequences > 0) {
    const result = await fuzz({ seed: options.seed, sequences: options.sequences });
    tellFuzz(result);
    results.push({
      number: 0,
      title: "sequences of a grammar",
      seconds: result.seconds,
      broken: result.faults,
    });
  }
  const broken = results.filter((result) => result.broken.length > 0);
  const seconds = (performance.now() - began) / 1_000;
  const report: Report = { date: new Date().toISOString(), seed: options.seed, seconds, results };
  mkdirSync(dirname(ATTACK_RESULT), { recursive: true });
  writeFileSync(ATTACK_RESULT, `${JSON.stringify(report, null, 2)}\n`);
  console.log(`${results.length - broken.length} of ${results.length} held in ${seconds.toFixed(0)} s.`);
  return broken.length > 0 ? 1 : 0;
}

function readArguments(args: string[]) {
  const known = {
    only: { type: "string" },
    short: { type: "boolean" },
    list: { type: "boolean" },
    "write-security": { type: "boolean" },
    seed: { type: "string" },
  } as const;
  return orHelp(HELP, () => {
    const { values } = parseArgs({ args, options: known });
    const numbers = values.only?.split(",").map(Number);
    const unknown = numbers?.find((number) => !ATTACKS.some((attack) => attack.number === number));
    if (unknown !== undefined) throw new Error(`There is no attack ${unknown}.`);
    const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
    if (!Number.isSafeInteger(seed)) throw new Error("--seed takes a whole number.");
    const short = values.short ?? false;
    const attacks = ATTACKS.filter((attack): attack is Playable => "play" in attack).filter((attack) =>
      numbers ? numbers.includes(attack.number) : !(short && attack.long),
    );
    const sequences = numbers ? 0 : short ? SHORT_SEQUENCES : SEQUENCES;
    return {
      attacks,
      short,
      seed,
      sequences,
      list: values.list ?? false,
      write: values["write-security"] ?? false,
    };
  });
}

/** Plays attacks one after the other, with those that mostly wait beside them, and checks both replicas after each. */
async function attackAll({ attacks, short }: { attacks: Playable[]; short: boolean }): Promise<Result[]> {
  // Hashing would take most of the time.
  const stage = await openStage(short ? { BCRYPT_COST: "6" } : {});
  const results: Result[] = [];
  try {
    const bystanders = await gatherBystanders(stage);
    const waiting = attacks.filter((attack) => attack.waits).map((attack) => timed(stage, attack));
    for (const attack of attacks.filter((one) => !one.waits && !one.alone)) {
      const result = await timed(stage, attack);
      result.broken.push(...(await lookAround(stage, bystanders)));
      results.push(tell(stage, result));
    }
    for (const result of await Promise.all(waiting)) results.push(tell(stage, result));
    const last = await bystanders.settle();
    await bystanders.stop();
    results.push(
      tell(stage, {
        number: 0,
        title: "bystanders hear everything once and in order",
        seconds: 0,
        broken: last,
      }),
    );
    for (const attack of attacks.filter((one) => one.alone)) {
      const result = await timed(stage, attack);
      const quiet = await gatherBystanders(stage);
      result.broken.push(...(await lookAround(stage, quiet)));
      await quiet.stop();
      results.push(tell(stage, result));
    }
  } finally {
    await stage.close();
  }
  return results;
}

async function timed(stage: Stage, { number, title, play }: Playable): Promise<Result> {
  const began = performance.now();
  const { broken } = await playOn(stage, play);
  return { number, title, seconds: Math.round((performance.now() - began) / 100) / 10, broken };
}

/** Checks that both replicas are alive, ready and small, and that people on both hear each other. */
async function lookAround(stage: Stage, bystanders: Bystanders): Promise<string[]> {
  const broken: string[] = [];
  for (const replica of stage.replicas) {
    if (replica.hasEnded()) {
      const why = replica.log.findLast((line) => line.includes('"level":60')) ?? replica.log.at(-1);
      broken.push(`the ${replica.name} replica ended: ${why}`);
      await replica.revive();
    }
    if (!(await becomes(async () => (await replica.ready()) === 200, 5_000)))
      broken.push(`the ${replica.name} replica is not ready after 5 s`);
    const mb = replica.memory() / 1e6;
    if (mb > MEMORY) broken.push(`the ${replica.name} replica has ${mb.toFixed(0)} MB`);
    for (const line of replica.errors()) broken.push(`the ${replica.name} replica logged: ${line}`);
  }
  bystanders.begin();
  const heard = await becomes(() => {
    const { left, right } = bystanders.figures();
    return left.count > 0 && right.count > 0;
  }, 5_000);
  if (!heard) broken.push("bystanders do not hear each other", ...bystanders.absent());
  broken.push(...bystanders.faults());
  return broken;
}

function tell(stage: Stage, result: Result): Result {
  const { number, title, seconds, broken } = result;
  console.log(
    `${String(number || "").padStart(2)} ${broken.length > 0 ? "BROKEN" : "held"} ${title} (${seconds} s)`,
  );
  for (const what of broken) console.log(`       ${what}`);
  if (broken.length > 0)
    for (const replica of stage.replicas)
      for (const line of replica.log.filter((text) => !text.includes('"level":30')).slice(-2))
        console.log(`       ${replica.name}: ${line.slice(0, 300)}`);
  return result;
}
