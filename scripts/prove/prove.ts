import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pLimit from "p-limit";
import { fetchPackage, unpacked } from "../debian.ts";
import { which } from "../child.ts";
import { findHaproxy } from "../haproxy.ts";
import { build, orHelp, partIsBuilt, root, stop } from "../prepare.mjs";
import { findRedis } from "../redis.ts";
import { INVARIANTS } from "./check.ts";
import { bundleWithFaults, FAULT, FAULTS } from "./faults.ts";
import { buildOlder } from "./older.ts";
import { abandonRigs } from "./rig.ts";
import { PROVE_RESULT, tableOf, writePage, type Report } from "./report.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";
import { rollingUpgrade } from "./scenarios/upgrade.ts";
import { NOT_HAPPENED, play, type Result, type Scenario, type Tools } from "./stage.ts";

const HELP = `npm run prove [-- options]

Starts replicas, HAProxy and Redis, lets 40 people talk in 6 rooms, breaks things, and checks that every acknowledged
message reached every member once, in one order. Prints a table at the end; the exit code is 1 if a promise was broken.

  --short               plays the scenarios that \`npm test\` runs
  --only NAME,NAME      plays these scenarios
  --list                lists their names
  --seed NUMBER         repeats the random choices of an earlier run
  --mutations           switches off one remedy of the server at a time; its scenario must fail each time
  --beside COMMIT       only replaces the replicas of that commit's server by this one's, one by one
  --write               writes the table into docs/proof.md`;

/** The server under test: near its packages, and safe from builds that others start meanwhile. */
const bundle = join(root, "server/.cache/prove", String(process.pid));

/** How many scenarios the short version plays at once: each has a rig of its own, and waits for most of its time. */
const SHORT_AT_ONCE = 2;

/** Set in the process that runs in a network namespace of its own. */
const INSIDE = "HUBBUB_PROVE_NETNS";
/** "yes" if there is an HAProxy. */
const HAPROXY = "HUBBUB_PROVE_HAPROXY";
/** The folder of an older server's build. */
const OLDER = "HUBBUB_PROVE_OLDER";

export async function main(args: string[]): Promise<number> {
  const options = readArguments(args);
  if (options === "help") {
    console.log(HELP);
    return 0;
  }
  if (options.list) {
    for (const { name, title, short } of SCENARIOS)
      console.log(`${name.padEnd(22)} ${short ? "short  " : "       "} ${title}`);
    return 0;
  }
  if (!process.env[INSIDE]) {
    const older = options.beside === undefined ? "" : await buildOlder(options.beside);
    return await enterNamespace(args, older);
  }

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      abandonRigs();
      rmSync(bundle, { recursive: true, force: true });
      process.exit(130);
    });
  }
  if (options.mutations) return await proveMutations(options);
  const folder = join(root, ".cache/prove");
  cpSync(join(root, "server/dist"), bundle, { recursive: true });
  const began = Date.now();
  let results: Result[];
  try {
    const tools = findTools();
    console.log(`Seed ${options.seed}. Histories go to .cache/prove.`);
    const places = pLimit(options.short ? SHORT_AT_ONCE : 1);
    const run = { bundle, seed: options.seed, tools, folder };
    results = await places.map(options.scenarios, async (scenario) => {
      const result = await play(scenario, run);
      tell(result);
      return result;
    });
  } finally {
    rmSync(bundle, { recursive: true, force: true });
  }
  const report: Report = {
    date: new Date(began).toISOString(),
    seed: options.seed,
    seconds: Math.round((Date.now() - began) / 1000),
    node: process.versions.node,
    results,
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(PROVE_RESULT, `${JSON.stringify(report, null, 2)}\n`);
  console.log(`\n${tableOf(report)}`);
  if (options.write) writePage(report);
  const failed = results.filter((result) => result.outcome === "failed");
  if (failed.length > 0) console.error(`Broken: ${failed.map((result) => result.name).join(", ")}.`);
  return failed.length > 0 ? 1 : 0;
}

/** Plays each fault in its scenario. The exit code is 1 if a scenario passed with its fault. */
async function proveMutations({ seed, scenarios }: { seed: number; scenarios: Scenario[] }): Promise<number> {
  const folder = join(root, ".cache/prove/mutants");
  const rows: string[] = [];
  let survivors = 0;
  try {
    await bundleWithFaults(bundle);
    for (const { name: fault, remedy, scenario: where } of FAULTS) {
      const scenario = scenarios.find(({ name }) => name === where);
      if (!scenario) continue;
      process.stdout.write(`${remedy}: off. ${where} `);
      const env = { [FAULT]: fault };
      const result = await play(scenario, { bundle, seed, tools: findTools(), folder, env });
      const seen = [
        ...new Set(
          result.verdict?.violations.map(({ invariant }) => `${invariant}: ${INVARIANTS[invariant]}`),
        ),
        ...result.failures.filter((failure) => !failure.startsWith(NOT_HAPPENED)),
      ].map((line) => line.split("\n")[0] ?? "");
      const caught = result.outcome === "failed" && seen.length > 0;
      if (!caught && result.outcome !== "skipped") survivors += 1;
      const colour = result.outcome === "skipped" ? `skipped: ${result.reason}` : caught ? "red" : "green";
      console.log(`${colour}${caught ? `: ${seen[0]}` : ""} (${result.seconds} s)`);
      rows.push(`| ${remedy} | ${where} | ${colour} | ${seen.slice(0, 3).join("; ")} |`);
    }
  } finally {
    rmSync(bundle, { recursive: true, force: true });
  }
  console.log(
    `\nSeed ${seed}\n\n| remedy switched off | scenario | turned | broken |\n| --- | --- | --- | --- |\n${rows.join("\n")}`,
  );
  if (survivors > 0) console.error(`${survivors} mutants went unnoticed.`);
  return survivors > 0 ? 1 : 0;
}

function tell({ name, outcome, reason, seconds, verdict, notes, failures }: Result): void {
  const counts = verdict ? `${verdict.sent} sent, ${verdict.delivered} delivered; ` : "";
  console.log(`${name.padEnd(22)} ${outcome} in ${seconds} s; ${counts}${reason ?? notes.join("; ")}`);
  for (const { invariant, what } of verdict?.violations ?? []) console.log(`    ${invariant} ${what}`);
  for (const failure of failures) console.log(`    ${failure}`);
}

function readArguments(args: string[]) {
  const known = {
    short: { type: "boolean" },
    only: { type: "string" },
    list: { type: "boolean" },
    seed: { type: "string" },
    mutations: { type: "boolean" },
    beside: { type: "string" },
    write: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  } as const;
  return orHelp(HELP, () => {
    const { values } = parseArgs({ args, options: known });
    if (values.help) return "help" as const;
    const names = values.only?.split(",");
    const unknown = names?.find((name) => !SCENARIOS.some((scenario) => scenario.name === name));
    if (unknown) throw new Error(`There is no scenario "${unknown}".`);
    const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
    if (!Number.isInteger(seed)) throw new Error("--seed takes a whole number.");
    return {
      seed,
      list: values.list ?? false,
      short: values.short ?? false,
      mutations: values.mutations ?? false,
      write: values.write ?? false,
      beside: values.beside,
      scenarios:
        values.beside === undefined
          ? SCENARIOS.filter(({ name, short }) => (names ? names.includes(name) : !values.short || short))
          : [rollingUpgrade],
    };
  });
}

/**
 * Runs the command again in a network namespace, where all ports are free and packets may be dropped. If namespaces are not
 * allowed, it runs here and skips what needs one. Everything is fetched before, because the namespace has no network.
 */
async function enterNamespace(args: string[], older: string): Promise<number> {
  if (!partIsBuilt("server")) await build();
  if (!existsSync(join(root, "server/dist/main.js"))) throw stop("There is no build of the server.", 1);
  await findRedis(console.log);
  const haproxy = await findHaproxy(console.log).then(
    () => "yes",
    () => "no",
  );
  if (!faketime()) await fetchPackage("libfaketime", "usr/lib", console.log).catch(() => undefined);
  const command = [process.execPath, join(root, "scripts/run.mjs"), "prove", ...args];
  const ways = [
    ["unshare", "-n"],
    ["unshare", "-Urn"],
  ];
  const way = ways.find(
    ([program = "", ...flags]) =>
      spawnSync(program, [...flags, "ip", "link", "set", "lo", "up"]).status === 0,
  );
  const line = way ? [...way, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", ...command] : command;
  const [program = "", ...rest] = line;
  const child = spawn(program, rest, {
    stdio: "inherit",
    env: { ...process.env, [INSIDE]: way ? "yes" : "no", [HAPROXY]: haproxy, [OLDER]: older },
  });
  const forward = (signal: NodeJS.Signals) => void child.kill(signal);
  process.on("SIGTERM", forward).on("SIGINT", () => {});
  return new Promise((done) => {
    child.once("error", () => done(1));
    child.once("exit", (code) => done(code ?? 1));
  });
}

function findTools(): Tools {
  return {
    netns: process.env[INSIDE] === "yes",
    haproxy: process.env[HAPROXY] === "yes",
    older: process.env[OLDER] || undefined,
    nft: which("nft") ?? which("/usr/sbin/nft"),
    faketime: faketime(),
  };
}

function faketime(): string | undefined {
  const places = ["x86_64", "aarch64"].map((cpu) => `usr/lib/${cpu}-linux-gnu/faketime/libfaketimeMT.so.1`);
  const fetched = places.map((place) => unpacked("libfaketime", place)?.command);
  return [...places.map((place) => `/${place}`), ...fetched].find(
    (file) => file !== undefined && existsSync(file),
  );
}
