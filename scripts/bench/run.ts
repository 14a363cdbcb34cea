import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "../prepare.mjs";
import { startGenerator, type Generator } from "./drive.ts";
import type { Connected, LoadOrder, LoadResult } from "./generator.ts";
import { hostFacts, type HostFacts } from "../machine.ts";
import { SYSTEMS, type StartOptions, type SystemUnderTest, type Target, type Town } from "./systems.ts";
import { figuresOf, type Column } from "./tables.ts";

/** Share of its core above which the generator measures itself and not the system. */
const GENERATOR_BUSY = 0.85;
/** Milliseconds by which the generator may send late, 99 of 100 times: its own part in a latency. */
const LATENESS_MS = 50;
/** Share of what was sent that must arrive in the measured time: CPU per delivery means nothing for a few of them. */
const ARRIVED = 0.1;

/** `refused`: the generator was above its limit, or too little arrived for figures. `failed`: messages were lost, repeated, disordered or unanswered. */
export type Judged = { verdict: "ok" | "refused" | "failed"; reasons: string[] };

/** One run, as it is kept in a file of its own. */
export type Run = Judged & {
  workload: string;
  /** A system's name, and the checkout where it is not this one's. */
  system: string;
  /** Which system's figures these are to be compared with. */
  beside?: string;
  /** What distinguishes this run from others of its workload: sizes, rates. */
  options: Record<string, string | number>;
  at: string;
  commit: string;
  host: HostFacts;
  figures: Record<string, { value: number | null; more?: true }>;
  result: unknown;
};

const RESULTS = join(root, ".cache/bench/results");

/** A system with its members connected and quiet, and the generator that they are connected from. */
export type Stage = { system: SystemUnderTest; generator: Generator; town: Town; stop: () => Promise<void> };

/** Starts a system and a generator, and connects the first `connected` members: all of them, unless told otherwise. */
export async function stage(target: Target, options: StartOptions, connected = Infinity): Promise<Stage> {
  const system = await SYSTEMS[target.system]({ ...options, checkout: target.checkout });
  const generator = await startGenerator().catch(async (error: unknown) => {
    await system.stop();
    throw error;
  });
  const built: Stage = {
    system,
    generator,
    town: options.town,
    async stop() {
      await generator.stop();
      await system.stop();
    },
  };
  try {
    await connect(built, system.members.slice(0, connected), 50);
    await quiet(generator);
    return built;
  } catch (error) {
    await built.stop();
    throw error;
  }
}

/** Opens connections, so many at once, and throws if one of them fails. */
export async function connect(
  { system, generator, town }: Omit<Stage, "stop">,
  members: SystemUnderTest["members"],
  concurrency: number,
  replica = 0,
): Promise<Connected> {
  const { host, dialect, ports } = system;
  const port = ports[replica] ?? 0;
  const order = { host, port, dialect, members, roomIds: town.roomIds, concurrency };
  const connected = await generator.order("connect", order);
  if (connected.failed.length > 0) throw new Error(`connections failed: ${connected.failed.join("; ")}`);
  return connected;
}

/** Waits for a second without a frame, but not for ever. */
export async function quiet(generator: Generator): Promise<void> {
  for (let still = 0, waited = 0; still < 2 && waited < 60; waited += 1) {
    await sleep(500);
    still = (await generator.order("quiet")) === 0 ? still + 1 : 0;
  }
}

export async function load(
  { system, generator }: Pick<Stage, "system" | "generator">,
  order: Omit<LoadOrder, "parts">,
): Promise<LoadResult> {
  return generator.order("load", { ...order, parts: system.parts });
}

/** What is wrong with a load's figures. */
export function judge(result: LoadResult): Judged {
  const { lost, duplicated, unknown, disordered } = result.reconciliation;
  const { refused, unanswered, busy } = result;
  const faults = Object.entries({ lost, duplicated, unknown, disordered, refused, unanswered })
    .filter(([, count]) => count > 0)
    .map(([what, count]) => `${count} ${what}`);
  if (faults.length > 0) return { verdict: "failed", reasons: faults };
  const reasons: string[] = [];
  const arrived = result.deliveries / result.offered;
  if (arrived < ARRIVED)
    reasons.push(`only ${(100 * arrived).toFixed(1)} % arrived in the measured time, the rest later`);
  const lateness = result.latenessMs?.p99 ?? 0;
  if (busy > GENERATOR_BUSY) reasons.push(`the generator used ${Math.round(100 * busy)} % of its core`);
  if (lateness > LATENESS_MS) reasons.push(`the generator was ${Math.round(lateness)} ms late (p99)`);
  return { verdict: reasons.length > 0 ? "refused" : "ok", reasons };
}

const commit = (() => {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
})();

/** Writes a run's file, says it in one line on standard error, and answers it. */
export function record<Result>(
  workload: string,
  { name, beside }: Target,
  options: Run["options"],
  columns: Column<Result>[],
  result: Result,
  judged: Judged = { verdict: "ok", reasons: [] },
): Run {
  const run: Run = {
    workload,
    system: name,
    ...(beside !== undefined && { beside }),
    options,
    ...judged,
    at: new Date().toISOString(),
    commit,
    host: hostFacts(),
    figures: figuresOf(columns, result),
    result,
  };
  mkdirSync(RESULTS, { recursive: true });
  const file = [workload, name, ...Object.values(options), run.at].join("_").replaceAll(/[^\w.-]+/g, "-");
  writeFileSync(join(RESULTS, `${file}.json`), `${JSON.stringify(run, null, 1)}\n`);
  const told = [
    ...Object.entries(options).map(([option, value]) => `${option} ${value}`),
    [run.verdict, ...run.reasons].join(", "),
    ...Object.entries(run.figures).map(([label, { value }]) => `${label} ${value?.toFixed(2) ?? "—"}`),
  ];
  process.stderr.write(`${workload}, ${name}: ${told.join(" · ")}\n`);
  return run;
}
