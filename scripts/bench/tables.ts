import type { LoadResult, PagesResult } from "./generator.ts";
import type { Run } from "./run.ts";
import { spread, type Spread } from "../statistics.ts";

/** Each workload's figures as data, and the tables that are made of them. */

/** One figure of a run; null or undefined if it has none. */
export type Column<Result> = {
  label: string;
  of: (result: Result) => number | null | undefined;
  /** More is better; otherwise less is. */
  more?: true;
};

/** From this ratio on a build is marked as worse than the one beside it. */
const WORSE = 1.05;

export const LOAD: Column<LoadResult>[] = [
  { label: "CPU µs a delivery", of: ({ cpuUsAll }) => cpuUsAll },
  { label: "of it Redis", of: ({ cpuUs }) => cpuUs["redis"] },
  { label: "p50 ms", of: ({ latencyMs }) => latencyMs?.p50 },
  { label: "p99 ms", of: ({ latencyMs }) => latencyMs?.p99 },
  { label: "% in time", of: ({ deliveries, offered }) => (100 * deliveries) / offered, more: true },
];

export const CHANGES: Column<LoadResult & { changeUs: number | undefined }>[] = [
  ...LOAD,
  { label: "CPU µs a reaction", of: ({ changeUs }) => changeUs },
  { label: "frames of changes a client and second", of: ({ changeFrames }) => changeFrames },
];

/** One search through everything; the p99 is how long others wait for a message. */
export type SearchResult = {
  ms: number;
  calls: number;
  redisMs: number;
  serverMs: number;
  quietP99: number | undefined;
  p99: number | undefined;
};

export const SEARCH: Column<SearchResult>[] = [
  { label: "s", of: ({ ms }) => ms / 1_000 },
  { label: "calls", of: ({ calls }) => calls },
  { label: "Redis CPU ms", of: ({ redisMs }) => redisMs },
  { label: "replica CPU ms", of: ({ serverMs }) => serverMs },
  { label: "others' p99 ms before", of: ({ quietP99 }) => quietP99 },
  { label: "others' p99 ms", of: ({ p99 }) => p99 },
];

/** Resident bytes of all the server's processes together, of its Redis, and of the whole machine's kernel. */
export type IdleResult = {
  server: number;
  redis: number;
  kernel: number;
  /** The server's growth for each connection since the measurement before; the first one is without connections. */
  each: number;
  perSecond: number;
  idleUs: number;
};

export const IDLE: Column<IdleResult>[] = [
  { label: "server MB", of: ({ server }) => server / 1e6 },
  { label: "KB for each more", of: ({ each }) => each / 1_000 },
  { label: "Redis MB", of: ({ redis }) => redis / 1e6 },
  { label: "kernel MB", of: ({ kernel }) => kernel / 1e6 },
  { label: "connected a second", of: ({ perSecond }) => perSecond, more: true },
  { label: "idle CPU µs a connection and second", of: ({ idleUs }) => idleUs },
];

export type ReturnResult = {
  backMs: number;
  cpuUs: number;
  handshakeMs: number | undefined;
  sent: number;
  missing: number;
};

export const RETURN: Column<ReturnResult>[] = [
  { label: "all back after s", of: ({ backMs }) => backMs / 1_000 },
  { label: "CPU µs each", of: ({ cpuUs }) => cpuUs },
  { label: "handshake p50 ms", of: ({ handshakeMs }) => handshakeMs },
  { label: "messages meanwhile", of: ({ sent }) => sent, more: true },
  { label: "missing", of: ({ missing }) => missing },
];

export const READING: Column<PagesResult>[] = [
  { label: "CPU µs a page", of: ({ cpuUs }) => cpuUs },
  { label: "pages a second", of: ({ perSecond }) => perSecond, more: true },
  { label: "p50 ms", of: ({ latencyMs }) => latencyMs?.p50 },
  { label: "p99 ms", of: ({ latencyMs }) => latencyMs?.p99 },
];

/** The figures of a result by their labels, in the order of the columns. */
export function figuresOf<Result>(columns: Column<Result>[], result: Result): Run["figures"] {
  return Object.fromEntries(
    columns.map(({ label, of, more }) => [label, { value: of(result) ?? null, ...(more && { more }) }]),
  );
}

type Group = { runs: Run[]; options: Run["options"]; system: string };

/** Groups the runs of one workload by system and options. */
function groups(runs: Run[], workload: string): Group[] {
  const found = new Map<string, Group>();
  for (const run of runs) {
    if (run.workload !== workload) continue;
    const key = JSON.stringify([run.options, run.system]);
    const group = found.get(key) ?? { runs: [], options: run.options, system: run.system };
    found.set(key, group);
    group.runs.push(run);
  }
  return [...found.values()];
}

/** The spread over the runs that count: failed ones too, whose faults the table names, but not refused ones. */
function over({ runs }: Group, label: string): Spread | null {
  const told = runs.filter(({ verdict }) => verdict !== "refused");
  return spread(told.map(({ figures }) => figures[label]?.value ?? Number.NaN));
}

/** A table for each workload, in the order of the runs; if two builds took turns, also one that compares their medians. */
export function tablesOf(runs: Run[]): string {
  const workloads = [...new Set(runs.map(({ workload }) => workload))];
  return workloads.flatMap((workload) => [`## ${workload}`, ...tables(groups(runs, workload))]).join("\n\n");
}

function tables(all: Group[]): string[] {
  const options = [...new Set(all.flatMap((group) => Object.keys(group.options)))];
  const labels = [...new Set(all.flatMap(({ runs }) => runs.flatMap(({ figures }) => Object.keys(figures))))];
  const rows = all.map((group) => [
    ...options.map((option) => String(group.options[option] ?? "")),
    group.system,
    ...labels.map((label) => cell(over(group, label))),
    remarks(group),
  ]);
  return [table([...options, "system", ...labels, "runs"], rows), ...besides(all, labels)];
}

function besides(all: Group[], labels: string[]): string[] {
  const rows = all.flatMap((group) => {
    const { beside } = group.runs[0] ?? {};
    const key = JSON.stringify(group.options);
    const other =
      beside && all.find(({ system, options }) => system === beside && JSON.stringify(options) === key);
    if (!other) return [];
    return labels.flatMap((label) => {
      const [old, now] = [over(other, label)?.median, over(group, label)?.median];
      if (old === undefined || now === undefined) return [];
      const more = group.runs.some(({ figures }) => figures[label]?.more);
      const isWorse = more ? old > WORSE * now : now > WORSE * old;
      const ratio = old === 0 ? "—" : `${short(now / old)}${isWorse ? " **worse**" : ""}`;
      return [[...Object.values(group.options).map(String), label, short(old), short(now), ratio]];
    });
  });
  const options = Object.keys(all[0]?.options ?? {});
  return rows.length > 0 ? [table([...options, "median of", "beside", "this", "this / beside"], rows)] : [];
}

function remarks({ runs }: Group): string {
  const ok = runs.filter(({ verdict }) => verdict === "ok").length;
  const reasons = runs.flatMap((run) => run.reasons.map((reason) => `${run.verdict}: ${reason}`));
  // One reason of each kind, whatever its numbers.
  const kinds = new Map(reasons.map((reason) => [reason.replaceAll(/[\d.]+/g, "n"), reason]));
  return [`${ok} of ${runs.length} ok`, ...kinds.values()].join("; ");
}

/** Three significant digits. */
function short(value: number): string {
  const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function cell(values: Spread | null): string {
  if (!values) return "—";
  if (values.runs === 1) return short(values.median);
  return `${short(values.min)} / **${short(values.median)}** / ${short(values.max)}`;
}

function table(head: string[], rows: string[][]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}
