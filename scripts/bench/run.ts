import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "../prepare.mjs";
import { startGenerator, type Generator } from "./drive.ts";
import type { Connected, ConnectOrder, LoadOrder, LoadResult } from "./generator.ts";
import { hostFacts, type HostFacts } from "../machine.ts";
import { SYSTEMS, type StartOptions, type SystemUnderTest, type Target, type Town } from "./systems.ts";
import { figuresOf, type Column } from "./tables.ts";

/** Above this share of its core the generator would measure itself and not the system. */
const GENERATOR_BUSY = 0.85;
/** How late the generator may send (p99 in ms): its lateness is part of each latency. */
const LATENESS_MS = 50;
/** The share of messages that must arrive in the measured time, because CPU per delivery means nothing for a few. */
const ARRIVED = 0.1;

/**
 * `refused`: the generator was over its limit, or too little arrived. `failed`: messages were lost, repeated,
 * disordered or unanswered.
 */
export type Judged = { verdict: "ok" | "refused" | "failed"; reasons: string[] };

/** One run, as its file keeps it. */
export type Run = Judged & {
  workload: string;
  /** The system's name, with its checkout unless it is this one. */
  system: string;
  /** The system to compare these figures with. */
  beside?: string;
  /** What distinguishes this run from others of its workload: sizes, rates. */
  options: Record<string, string | number>;
  at: string;
  commit: string;
  host: HostFacts;
  figures: Record<string, { value: number | null; more?: true }>;
  result: unknown;
};

const OK: Judged = { verdict: "ok", reasons: [] };
const RESULTS = join(root, ".cache/bench/results");

/** A system, and the generator that its members connect from. */
export type Stage = { system: SystemUnderTest; generator: Generator; town: Town };

/** Starts a system and a generator, connects the first `connected` members (default: all), and stops both after `use`. */
export async function onStage<Result>(
  target: Target,
  { connected = Infinity, ...options }: StartOptions & { connected?: number },
  use: (stage: Stage) => Promise<Result>,
): Promise<Result> {
  const system = await SYSTEMS[target.system]({ ...options, checkout: target.checkout });
  try {
    const generator = await startGenerator();
    try {
      const built = { system, generator, town: options.town };
      await connect(built, system.members.slice(0, connected), 50);
      await quiet(generator);
      return await use(built);
    } finally {
      await generator.stop();
    }
  } finally {
    await system.stop();
  }
}

/** Connects members, `concurrency` at a time, and throws if one of them fails. */
export async function connect(
  { system, generator, town }: Stage,
  members: SystemUnderTest["members"],
  concurrency: number,
  { replica = 0, ...more }: { replica?: number } & Pick<ConnectOrder, "returning"> = {},
): Promise<Connected> {
  const { host, dialect, ports } = system;
  const port = ports[replica] ?? 0;
  const order = { host, port, dialect, members, roomIds: town.roomIds, concurrency, ...more };
  const connected = await generator.order("connect", order);
  if (connected.failed.length > 0) throw new Error(`connections failed: ${connected.failed.join("; ")}`);
  return connected;
}

/** Waits for a second without a frame, at most 30 s. */
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

/** A verdict, which these counts turn into `failed` unless all are 0. */
export function failedBy(counts: Record<string, number>, judged: Judged = OK): Judged {
  const faults = Object.entries(counts).filter(([, count]) => count > 0);
  if (faults.length === 0) return judged;
  return {
    verdict: "failed",
    reasons: [...judged.reasons, ...faults.map(([what, count]) => `${count} ${what}`)],
  };
}

/** Whether a load's figures may be trusted. */
export function judge(result: LoadResult): Judged {
  const { lost, duplicated, unknown, disordered } = result.reconciliation;
  const { refused, unanswered, busy } = result;
  const account = failedBy({ lost, duplicated, unknown, disordered, refused, unanswered });
  if (account.verdict === "failed") return account;
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

/** Writes a run's file, reports it in one line on standard error, and answers it. */
export function record<Result>(
  workload: string,
  { name, beside }: Target,
  options: Run["options"],
  columns: Column<Result>[],
  result: Result,
  judged: Judged = OK,
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
