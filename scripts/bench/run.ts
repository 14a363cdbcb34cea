import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "../prepare.mjs";
import { startGenerator, type Generator } from "./drive.ts";
import type { LoadOrder, LoadResult } from "./generator.ts";
import { hostFacts, type HostFacts } from "./system.ts";
import { SYSTEMS, type StartOptions, type SystemName, type SystemUnderTest, type Town } from "./systems.ts";

/** Share of its core above which the generator measures itself and not the system. */
const GENERATOR_BUSY = 0.85;
/** Milliseconds by which the generator may send late, 99 of 100 times: its own part in a latency. */
const LATENESS_MS = 50;
/** Share of what was sent that must arrive in the measured time: CPU per delivery means nothing for a few of them. */
const ARRIVED = 0.1;

/** `refused`: the generator was above its limit, or too little arrived for figures. `failed`: messages were lost, repeated, disordered or unanswered. */
export type Verdict = "ok" | "refused" | "failed";

/** One run, as it is kept in a file of its own. */
export type Run<Result = unknown> = {
  workload: string;
  system: SystemName;
  /** What distinguishes this run from others of its workload: options, sizes, rates. */
  options: Record<string, string | number>;
  verdict: Verdict;
  reasons: string[];
  at: string;
  commit: string;
  host: HostFacts;
  result: Result;
};

const RESULTS = join(root, ".cache/bench/results");

/** A system with its members connected and quiet, and the generator that they are connected from. */
export type Stage = { system: SystemUnderTest; generator: Generator; town: Town; stop: () => Promise<void> };

/** Starts a system and a generator; connects the members, one replica after the other, unless told not to. */
export async function stage(
  name: SystemName,
  options: StartOptions,
  connecting: { members?: number; replicaOf?: (member: number) => number } = {},
): Promise<Stage> {
  const system = await SYSTEMS[name](options);
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
    const { members = system.members.length, replicaOf = () => 0 } = connecting;
    for (const [replica, port] of system.ports.entries()) {
      const theirs = system.members.slice(0, members).filter((_, index) => replicaOf(index) === replica);
      if (theirs.length > 0) await connect(built, port, theirs);
    }
    await quiet(generator);
    return built;
  } catch (error) {
    await built.stop();
    throw error;
  }
}

/** Opens connections and throws if one of them fails. */
export async function connect(
  { system, generator, town }: Omit<Stage, "stop">,
  port: number,
  members: SystemUnderTest["members"],
  more: { concurrency?: number; perSecond?: number } = {},
) {
  const { host, dialect, deflate } = system;
  const order = { host, port, dialect, deflate, members, roomIds: town.roomIds, concurrency: 50, ...more };
  const connected = await generator.order("connect", order);
  if (connected.failed.length > 0) throw new Error(`connections failed: ${connected.failed.join("; ")}`);
  return connected;
}

/** Waits for a second without a frame, but not for ever. */
export async function quiet(generator: Generator): Promise<void> {
  for (let still = 0, waited = 0; still < 2 && waited < 60; waited += 1) {
    await sleep(500);
    still = (await generator.order("quiet")).otherFrames === 0 ? still + 1 : 0;
  }
}

export async function load(
  { system, generator }: Pick<Stage, "system" | "generator">,
  order: Omit<LoadOrder, "parts">,
) {
  return generator.order("load", { ...order, parts: system.parts });
}

/** What is wrong with a load's figures. */
export function judge(result: LoadResult): { verdict: Verdict; reasons: string[] } {
  const { lost, duplicated, unknown, disordered } = result.reconciliation;
  const { refused, unanswered, generator } = result;
  const faults = Object.entries({ lost, duplicated, unknown, disordered, refused, unanswered })
    .filter(([, count]) => count > 0)
    .map(([what, count]) => `${count} ${what}`);
  if (faults.length > 0) return { verdict: "failed", reasons: faults };
  const reasons: string[] = [];
  const arrived = result.deliveries / result.offered;
  if (arrived < ARRIVED)
    reasons.push(`only ${(100 * arrived).toFixed(1)} % arrived in the measured time, the rest later`);
  const lateness = generator.latenessMs?.p99 ?? 0;
  if (generator.busy > GENERATOR_BUSY)
    reasons.push(`the generator used ${Math.round(100 * generator.busy)} % of its core`);
  if (lateness > LATENESS_MS) reasons.push(`the generator was ${Math.round(lateness)} ms late (p99)`);
  return { verdict: reasons.length > 0 ? "refused" : "ok", reasons };
}

/**
 * One load that several generators on one core heard, each with members of its own, as one: counts are added up,
 * latency is that of the generator that heard latest. The first one spoke and watched the system.
 */
export function merged(results: readonly [LoadResult, ...LoadResult[]]): LoadResult {
  const [first, ...others] = results;
  const sum = (figure: (result: LoadResult) => number) =>
    results.reduce((all, result) => all + figure(result), 0);
  const deliveries = sum((result) => result.deliveries);
  const perDelivery = first.deliveries / deliveries;
  const theirs = others.reduce((all, { generator }) => all + generator.busy, 0);
  const slowest = results.toSorted((a, b) => (b.latencyMs?.p99 ?? 0) - (a.latencyMs?.p99 ?? 0))[0] ?? first;
  const account = Object.keys(first.reconciliation) as (keyof LoadResult["reconciliation"])[];
  return {
    ...first,
    deliveries,
    offered: sum(({ offered }) => offered),
    deliveriesPerRead: deliveries / sum((result) => result.deliveries / result.deliveriesPerRead),
    latencyMs: slowest.latencyMs,
    reconciliation: Object.fromEntries(
      account.map((what) => [what, sum(({ reconciliation }) => reconciliation[what])]),
    ) as LoadResult["reconciliation"],
    cpuUs: Object.fromEntries(Object.entries(first.cpuUs).map(([part, us]) => [part, us * perDelivery])),
    cpuUsAll: first.cpuUsAll * perDelivery,
    generator: {
      ...first.generator,
      busy: first.generator.busy + theirs,
      foreign: first.generator.foreign - theirs,
    },
    drainMs: Math.max(...results.map(({ drainMs }) => drainMs)),
    otherFrames: sum(({ otherFrames }) => otherFrames),
  };
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
  told: Pick<Run<Result>, "workload" | "system" | "options" | "result"> &
    Partial<Pick<Run, "verdict" | "reasons">>,
): Run<Result> {
  const run: Run<Result> = {
    verdict: "ok",
    reasons: [],
    ...told,
    at: new Date().toISOString(),
    commit,
    host: hostFacts(),
  };
  mkdirSync(RESULTS, { recursive: true });
  const name = [run.workload, run.system, ...Object.values(run.options), run.at]
    .join("_")
    .replaceAll(/[^\w.-]+/g, "-");
  writeFileSync(join(RESULTS, `${name}.json`), `${JSON.stringify(run, null, 1)}\n`);
  const options = Object.entries(run.options).map(([key, value]) => `${key} ${value}`);
  process.stderr.write(
    `${run.workload}, ${run.system}, ${options.join(", ")}: ${run.verdict}${run.reasons.length > 0 ? ` (${run.reasons.join(", ")})` : ""} ${brief(run.result)}\n`,
  );
  return run;
}

function brief(result: unknown): string {
  if (!isLoad(result)) return JSON.stringify(result);
  const { cpuUsAll, latencyMs, generator } = result;
  return `${cpuUsAll.toFixed(2)} µs a delivery, p50 ${latencyMs?.p50.toFixed(1)} ms, p99 ${latencyMs?.p99.toFixed(1)} ms, late ${generator.latenessMs?.p99.toFixed(1)} ms, others ${result.foreign.toFixed(2)}`;
}

function isLoad(result: unknown): result is LoadResult {
  return typeof result === "object" && result !== null && "cpuUsAll" in result;
}
