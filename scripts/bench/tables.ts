import type { DeflateResult, PrivateResult } from "./ablation.ts";
import type { LoadResult } from "./generator.ts";
import type { Run } from "./run.ts";
import { spread, type Spread } from "./statistics.ts";
import type { HostFacts } from "./system.ts";
import { TIERS, type SystemName } from "./systems.ts";
import type { ReplicasResult } from "./workloads.ts";

/** What a pass keeps of its runs, and how it is told in tables. */

/** What is kept of a run under load. */
export type LoadFigures = {
  cpuUs: number;
  replicaUs: number;
  redisUs: number;
  kernelUs: number;
  p50Ms: number | null;
  p99Ms: number | null;
  deliveries: number;
  offered: number;
  replicaBusy: number;
  generatorBusy: number;
  lateP99Ms: number;
  others: number;
  lost: number;
  duplicated: number;
  disordered: number;
  /** Bytes that a connection read for each delivery. */
  wireBytes?: number;
  /** Memory of a connection, where that is what is compared. */
  connectionBytes?: number;
  /** CPU for each message, where handing it out is not what is compared. */
  messageUs?: number;
};

export type Kept = Omit<Run, "host" | "result"> & { figures: unknown };
export type Pass = { began: string; ended: string; host: HostFacts; absent: string[]; runs: Kept[] };

/** A run's result, as little of it as the page needs. */
export function figuresOf(result: unknown): unknown {
  if (typeof result !== "object" || result === null || !("cpuUsAll" in result)) return result;
  const load = result as LoadResult & Partial<ReplicasResult & DeflateResult & PrivateResult>;
  const figures: LoadFigures = {
    cpuUs: load.cpuUsAll,
    replicaUs: load.cpuUs["replica"] ?? 0,
    redisUs: load.cpuUs["redis"] ?? 0,
    kernelUs: load.cpuUs["kernel"] ?? 0,
    p50Ms: load.latencyMs?.p50 ?? null,
    p99Ms: load.latencyMs?.p99 ?? null,
    deliveries: load.deliveries,
    offered: load.offered,
    replicaBusy: load.busy["replica"] ?? 0,
    generatorBusy: load.generator.busy,
    lateP99Ms: load.generator.latenessMs?.p99 ?? 0,
    others: load.foreign,
    lost: load.reconciliation.lost,
    duplicated: load.reconciliation.duplicated,
    disordered: load.reconciliation.disordered,
    wireBytes: load.bytesPerDelivery,
    ...(load.connectionBytes !== undefined && { connectionBytes: load.connectionBytes }),
    ...(load.messageUs !== undefined && { messageUs: load.messageUs }),
  };
  const { cpuUsPerMessage, cpuUsPerMessageBusy, heard, due, idleReplicaMs, idleRedisMs } = load;
  if (cpuUsPerMessage === undefined) return figures;
  const ofReplicas = { cpuUsPerMessage, cpuUsPerMessageBusy, heard, due, idleReplicaMs, idleRedisMs };
  return { ...figures, ...ofReplicas };
}

export type Group = { system: SystemName; options: Kept["options"]; runs: Kept[] };

/** Runs of one workload that differ in nothing but when they ran. */
export function groups(pass: Pass, workload: string): Group[] {
  const found = new Map<string, Group>();
  for (const run of pass.runs) {
    if (run.workload !== workload) continue;
    const key = JSON.stringify([run.system, run.options]);
    const group = found.get(key) ?? { system: run.system, options: run.options, runs: [] };
    found.set(key, group);
    group.runs.push(run);
  }
  return [...found.values()];
}

/** Over the runs that count: those that were not refused. A failed run counts: its figures are told with its fault. */
export function over(
  group: Group | undefined,
  figure: (figures: LoadFigures) => number | null,
): Spread | null {
  return figuresOver(group, figure);
}

/** The same for results that are no loads. */
export function figuresOver<Figures>(
  group: Group | undefined,
  figure: (figures: Figures) => number | null,
): Spread | null {
  return spread(inEachRun(group, figure));
}

/** The figure of each run, in their order; NaN for those that do not count, and where there is none. */
export function inEachRun<Figures>(
  group: Group | undefined,
  figure: (figures: Figures) => number | null,
): number[] {
  return (group?.runs ?? []).map(({ verdict, figures }) =>
    verdict === "refused" ? Number.NaN : (figure(figures as Figures) ?? Number.NaN),
  );
}

/** What a system does with a message, as TIERS says; "—" where it is no chat. */
export function jobOf(system: SystemName): string {
  return String(TIERS[system] ?? "—");
}

/** Why runs were refused, one reason of each kind. */
export function refusals(runs: Kept[]): string[] {
  const kinds = new Map<string, string>();
  for (const { verdict, reasons } of runs)
    if (verdict === "refused")
      for (const reason of reasons) kinds.set(reason.replaceAll(/[\d.]+/g, "n"), reason);
  return [...kinds.values()];
}

export function of(pass: Pass, workload: string, system: SystemName, rate?: number): Group | undefined {
  return groups(pass, workload).find(
    (group) => group.system === system && (rate === undefined || group.options["rate"] === rate),
  );
}

export function number(value: number | undefined, digits: number): string {
  return value === undefined || Number.isNaN(value)
    ? "—"
    : value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Few digits, as many as mean something. */
export function short(value: number | undefined): string {
  if (value === undefined) return "—";
  return number(value, Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
}

export function cell(values: Spread | null): string {
  if (!values) return "refused";
  if (values.runs === 1) return short(values.median);
  return `${short(values.min)} / **${short(values.median)}** / ${short(values.max)}`;
}

export function table(head: string[], rows: string[][]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

export function remarks(group: Group): string {
  const count = (verdict: string) => group.runs.filter((run) => run.verdict === verdict).length;
  const lost = group.runs.flatMap(({ verdict, reasons }) => (verdict === "failed" ? reasons : []));
  const parts = [`${count("ok")} of ${group.runs.length}`];
  if (count("refused") > 0) parts.push(`${count("refused")} refused: ${refusals(group.runs).join(", ")}`);
  if (lost.length > 0) parts.push(`failed: ${[...new Set(lost)].join(", ")}`);
  return parts.join("; ");
}

export function loadTable(pass: Pass, workload: string, by: (group: Group) => string): string {
  const sorted = groups(pass, workload).toSorted(
    (a, b) => Number(a.options["rate"] ?? 0) - Number(b.options["rate"] ?? 0),
  );
  return table(
    [
      "messages a second",
      "system",
      "job",
      "CPU µs per delivery",
      "of it Redis",
      "p50 ms",
      "p99 ms",
      "delivered in time",
      "runs that are ok",
    ],
    sorted.map((group) => [
      number(Number(group.options["rate"]), 0),
      by(group),
      jobOf(group.system),
      cell(over(group, ({ cpuUs }) => cpuUs)),
      short(over(group, ({ redisUs }) => redisUs)?.median),
      cell(over(group, ({ p50Ms }) => p50Ms)),
      cell(over(group, ({ p99Ms }) => p99Ms)),
      `${number(100 * (over(group, ({ deliveries, offered }) => deliveries / offered)?.median ?? Number.NaN), 0)} %`.replace(
        "— %",
        "—",
      ),
      remarks(group),
    ]),
  );
}

export function results<Result>(pass: Pass, workload: string): { run: Kept; figures: Result }[] {
  return pass.runs
    .filter((run) => run.workload === workload)
    .map((run) => ({ run, figures: run.figures as Result }));
}
