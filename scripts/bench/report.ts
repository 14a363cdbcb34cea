import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";
import { root } from "../prepare.mjs";
import type { AppResult } from "./app.ts";
import type { PagesResult } from "./generator.ts";
import { linePlot, type Series } from "./plot.ts";
import type { Run } from "./run.ts";
import { spread, type Spread } from "./statistics.ts";
import { ablationSection, storedTable } from "./reportAblation.ts";
import type { SystemName } from "./systems.ts";
import {
  cell,
  figuresOf,
  groups,
  jobOf,
  loadTable,
  number,
  of,
  over,
  refusals,
  remarks,
  results,
  short,
  table,
  type Group,
  type Kept,
  type LoadFigures,
  type Pass,
} from "./tables.ts";
import type {
  CalibrationResult,
  ChurnResult,
  IdleResult,
  ManyResult,
  OpenResult,
  RedisResult,
  ReplicasResult,
  ReturnResult,
} from "./workloads.ts";

/** The results page and its plots, from docs/performance/latest.json and nothing else. */

const folder = join(root, "docs/performance");
const file = join(folder, "latest.json");

type Fresh = { runs: Run[]; absent: string[]; began: number; ended: number };

/**
 * Keeps a pass, if one is given, and writes the page and the plots of the one that is kept. With `part`, the given
 * runs take the place of those of the same workload and system.
 */
export async function writeReport(fresh?: Fresh, part = false): Promise<void> {
  mkdirSync(folder, { recursive: true });
  if (fresh?.runs[0]) {
    const kept = fresh.runs.map(({ workload, system, options, verdict, reasons, at, commit, result }) => {
      return { workload, system, options, verdict, reasons, at, commit, figures: figuresOf(result) };
    });
    const { host } = fresh.runs[0];
    const whole: Pass = {
      began: new Date(fresh.began).toISOString(),
      ended: new Date(fresh.ended).toISOString(),
      host,
      absent: fresh.absent,
      runs: kept,
    };
    const name = ({ workload, system }: Kept) => `${workload} of ${system}`;
    const again = new Set(kept.map(name));
    const old = part ? (JSON.parse(readFileSync(file, "utf8")) as Pass) : undefined;
    const pass: Pass = old
      ? { ...old, ended: whole.ended, runs: [...old.runs.filter((run) => !again.has(name(run))), ...kept] }
      : whole;
    writeFileSync(file, `${JSON.stringify(pass)}\n`);
  }
  const pass = JSON.parse(readFileSync(file, "utf8")) as Pass;
  const page = await format(pageOf(pass), { parser: "markdown", printWidth: 110 });
  writeFileSync(join(root, "docs/performance.md"), page);
  for (const [name, svg] of Object.entries(plotsOf(pass))) writeFileSync(join(folder, `${name}.svg`), svg);
}

type Target = { what: string; wanted: string; measured: string; met: boolean | null };

function targets(pass: Pass): Target[] {
  const list: Target[] = [];
  const add = (what: string, wanted: string, measured: string, met: boolean | null) =>
    list.push({ what, wanted, measured, met });
  const median = (
    workload: string,
    system: SystemName,
    rate: number,
    of_: (figures: LoadFigures) => number | null,
  ) => over(of(pass, workload, system, rate), of_)?.median;
  const less = (value: number | undefined, limit: number) => (value === undefined ? null : value <= limit);
  const cost = ({ cpuUs }: LoadFigures) => cpuUs;

  const hot = median("hot room", "hubbub", 400, cost);
  const plain = median("hot room", "socket.io classic", 400, cost);
  add("hot room, 400 messages a second: CPU per delivery", "≤ 1.5 µs", `${short(hot)} µs`, less(hot, 1.5));
  const times = hot && plain ? plain / hot : undefined;
  add(
    "the same, beside Socket.IO with its Redis adapter",
    "≥ 5 times cheaper",
    `${short(times)} times`,
    times === undefined ? null : times >= 5,
  );
  add("the same, beside nginx with nchan", "cheaper", ...besideNchan(pass));
  const p50 = median("hot room", "hubbub", 400, ({ p50Ms }) => p50Ms);
  const p99 = median("hot room", "hubbub", 400, ({ p99Ms }) => p99Ms);
  add("the same: p50", "≤ 30 ms", `${short(p50)} ms`, less(p50, 30));
  add("the same: p99", "≤ 150 ms", `${short(p99)} ms`, less(p99, 150));
  const perSecond = median("hot room", "hubbub", 1_000, ({ replicaUs }) => 1e6 / replicaUs);
  add(
    "hot room, 1,000 messages a second: deliveries per CPU second of the replica",
    "≥ 1,300,000",
    number(perSecond, 0),
    perSecond === undefined ? null : perSecond >= 1_300_000,
  );
  const quiet = median("quiet rooms", "hubbub", 80, cost);
  const quietWs = median("quiet rooms", "ws", 80, cost);
  const quietAlike = median("quiet rooms", "ws tier 3", 80, cost);
  const quietPlain = median("quiet rooms", "socket.io classic", 80, cost);
  add(
    "quiet rooms: CPU per delivery beside plain `ws`, which only hands out",
    "no worse",
    `${short(quiet)} µs and ${short(quietWs)} µs`,
    quiet && quietWs ? quiet <= quietWs : null,
  );
  add(
    "the same beside `ws` that does the same job",
    "no worse",
    `${short(quiet)} µs and ${short(quietAlike)} µs`,
    quiet && quietAlike ? quiet <= quietAlike : null,
  );
  add(
    "quiet rooms: CPU per delivery beside Socket.IO with its Redis adapter",
    "better by a quarter",
    `${short(quiet)} µs and ${short(quietPlain)} µs`,
    quiet && quietPlain ? quiet <= 0.75 * quietPlain : null,
  );
  const quietP50 = median("quiet rooms", "hubbub", 80, ({ p50Ms }) => p50Ms);
  add("quiet rooms: p50", "≤ 3 ms", `${short(quietP50)} ms`, less(quietP50, 3));

  const slope = slopeOf(pass, "hubbub");
  add(
    "idle connection, signed in and in General",
    "≤ 10 KB",
    `${short(slope && slope / 1e3)} KB`,
    less(slope, 10_000),
  );
  for (const [count, limit] of [
    [1_000, 110e6],
    [10_000, 220e6],
  ] as const) {
    const found = idleOf(pass, "hubbub").find(({ connections }) => connections === count);
    add(
      `${number(count, 0)} idle connections: the server's memory`,
      `≤ ${limit / 1e6} MB`,
      `${number(found && found.server / 1e6, 0)} MB`,
      less(found?.server, limit),
    );
  }
  const most = results<ManyResult>(pass, "many").find(
    ({ figures }) => figures.connections === 90_000,
  )?.figures;
  add(
    "90,000 connections: the memory of all replicas",
    "≤ 1,200 MB",
    `${number(most && most.server / 1e6, 0)} MB`,
    less(most?.server, 1.2e9),
  );
  const told = groups(pass, "many with a message a second").find(
    ({ options }) => options["connections"] === 90_000,
  );
  add(
    "the same: a message a second to all of them",
    "nothing lost",
    told ? remarks(told) : "—",
    told ? told.runs.every(({ verdict }) => verdict === "ok") : null,
  );
  const redis = storedAlone(pass);
  add("commands to Redis for each stored message", "1", number(redis?.sent, 2), less(redis?.sent, 1.05));
  add(
    "Redis' CPU for each stored message, 400 a second",
    "≤ 60 µs",
    `${number(redis?.cpuUs, 0)} µs`,
    less(redis?.cpuUs, 60),
  );
  const spreadOut = results<ReplicasResult>(pass, "replicas");
  const perMessage = (count: number) =>
    spreadOut.find(({ run }) => run.options["replicas"] === count)?.figures.cpuUsPerMessage;
  const [one, eight] = [perMessage(1), perMessage(8)];
  const ratio = one && eight ? eight / one : undefined;
  const perMessageBusy = (count: number) =>
    spreadOut.find(({ run }) => run.options["replicas"] === count)?.figures.cpuUsPerMessageBusy;
  const [oneBusy, eightBusy] = [perMessageBusy(1), perMessageBusy(8)];
  const ratioBusy = oneBusy && eightBusy ? eightBusy / oneBusy : undefined;
  add(
    "rooms of two: CPU per message with 8 replicas beside 1",
    "≤ 1.3 times",
    `${short(ratio)} times${ratioBusy ? ` (${short(ratioBusy)} without what idle replicas take)` : ""}`,
    less(ratio, 1.3),
  );
  const exact = spreadOut.every(({ figures }) => figures.heard.join() === figures.due.join());
  add(
    "a replica without a member of a room hears nothing of it",
    "nothing",
    exact ? "nothing" : "something",
    spreadOut.length > 0 ? exact : null,
  );
  const rate = (system: string, pages?: number) =>
    results<PagesResult>(pass, "pages").find(
      ({ run }) => run.system === system && (pages === undefined || run.options["pages"] === pages),
    )?.figures.perSecond;
  const [ours, apart, theirs] = [rate("hubbub"), rate("hubbub", 32), rate("pages")];
  const pagesTimes = ours && theirs ? ours / theirs : undefined;
  const apartTimes = apart && theirs ? ` (${short(apart / theirs)} where each reads another page)` : "";
  add(
    "`GET messages` beside five commands in a row",
    "≥ 5 times",
    `${short(pagesTimes)} times${apartTimes}`,
    pagesTimes === undefined ? null : pagesTimes >= 5,
  );
  const opened = results<OpenResult>(pass, "open a room").map(({ figures }) => figures.joinMs?.p50);
  const openTimes = opened[0] && opened[1] ? opened[1] / opened[0] : undefined;
  add(
    "opening a room of 1,000,000 messages beside one of 100",
    "the same (≤ 1.2 times)",
    `${short(openTimes)} times`,
    less(openTimes, 1.2),
  );
  const churned = results<ChurnResult>(pass, "churn")[0]?.figures;
  add(
    "1,000 people come in 10 s: frames per client and second",
    "≤ 1",
    short(churned?.mostPerSecond),
    less(churned?.mostPerSecond, 1),
  );
  const returned = results<ReturnResult>(pass, "come back")[0]?.figures;
  add(
    "5,000 connections come back at once",
    "≤ 30 s, nothing missing",
    returned ? `${short(returned.backMs / 1e3)} s, ${returned.missing} missing` : "—",
    returned ? returned.backMs <= 30_000 && returned.missing === 0 : null,
  );
  const first = inApp(pass, ({ script }) => script.gzip)?.median;
  add(
    "the app: JavaScript of the first load, compressed",
    "≤ 170 KB",
    `${number(first && first / 1e3, 0)} KB`,
    less(first, 170_000),
  );
  const [cached, cold] = (["cached", "cold"] as const).map(
    (which) => inApp(pass, ({ switchMs }) => switchMs[which]?.p50)?.median,
  );
  add("the app: to a room that was open before", "≤ 50 ms", `${number(cached, 0)} ms`, less(cached, 50));
  add("the app: to a room that was not", "≤ 200 ms", `${number(cold, 0)} ms`, less(cold, 200));
  const frames = inApp(pass, ({ busy }) => busy.framesPerSecond)?.median;
  add(
    "the app: frames a second while 100 messages a second come",
    "≥ 50",
    number(frames, 0),
    frames === undefined ? null : frames >= 50,
  );
  const moved = inApp(pass, ({ scroll }) => scroll.movedPx)?.max;
  const rows = inApp(pass, ({ scroll }) => scroll.mostRows)?.max;
  add(
    "the app: back through 10,000 messages",
    "no jump (≤ 1 px), ≤ 400 of them in the page",
    `${number(moved, 2)} px, ${number(rows, 0)} messages`,
    moved === undefined || rows === undefined ? null : moved <= 1 && rows <= 400,
  );
  return list;
}

/** Hubbub and nchan where both have figures: at 400 messages a second, or at the rates around it. */
function besideNchan(pass: Pass): [measured: string, met: boolean | null] {
  const at = (system: SystemName, rate: number) =>
    over(of(pass, "hot room", system, rate), ({ cpuUs }) => cpuUs)?.median;
  const all = [400, 100, 1_000].flatMap((rate) => {
    const [ours, theirs] = [at("hubbub", rate), at("nchan", rate)];
    return ours && theirs ? [{ rate, ours, theirs }] : [];
  });
  const told = all[0]?.rate === 400 ? all.slice(0, 1) : all;
  const refused = refusals(of(pass, "hot room", "nchan", 400)?.runs ?? []);
  const parts = told.map(
    ({ rate, ours, theirs }) =>
      `${rate === 400 ? "" : `at ${number(rate, 0)}: `}${short(ours)} µs and ${short(theirs)} µs`,
  );
  if (told[0]?.rate !== 400 && refused.length > 0) parts.unshift(`at 400 refused: ${refused.join(", ")}`);
  if (told.length === 0) return [parts[0] ?? "nchan was not measured", null];
  return [parts.join("; "), told.every(({ ours, theirs }) => ours < theirs)];
}

/** What Redis takes where storing is all that it does. */
function storedAlone(pass: Pass): RedisResult | undefined {
  return results<RedisResult>(pass, "redis").find(({ run }) => run.options["rate"] === 400)?.figures;
}

function inApp(pass: Pass, figure: (figures: AppResult) => number | null | undefined): Spread | null {
  const counted = results<AppResult>(pass, "app").filter(({ run }) => run.verdict !== "refused");
  return spread(counted.map(({ figures }) => figure(figures) ?? Number.NaN));
}

/** The app's figures, a row for each. */
function appTable(pass: Pass): string {
  const rows: [what: string, figure: (figures: AppResult) => number | null | undefined][] = [
    ["first load: JavaScript, gzip KB", ({ script }) => script.gzip / 1e3],
    ["the same: brotli KB", ({ script }) => script.brotli / 1e3],
    ["the same: as it is, KB", ({ script }) => script.plain / 1e3],
    ["to a room that was open before: p50 ms", ({ switchMs }) => switchMs.cached?.p50],
    ["the same: slowest, ms", ({ switchMs }) => switchMs.cached?.max],
    ["to a room that was not: p50 ms", ({ switchMs }) => switchMs.cold?.p50],
    ["the same: slowest, ms", ({ switchMs }) => switchMs.cold?.max],
    ["100 messages a second: frames a second", ({ busy }) => busy.framesPerSecond],
    ["the same: longest time between two frames, ms", ({ busy }) => busy.longestFrameMs],
    ["the same: longest task, ms (0: none of 50)", ({ busy }) => busy.longestTaskMs ?? 0],
    ["the same: from a key to its frame, p50 ms", ({ busy }) => busy.keyMs?.p50],
    ["the same: slowest key, ms", ({ busy }) => busy.keyMs?.max],
    ["back through 10,000 messages: s", ({ scroll }) => scroll.seconds],
    ["the same: most messages in the page", ({ scroll }) => scroll.mostRows],
    ["the same: most elements in the page", ({ scroll }) => scroll.mostNodes],
    ["the same: what one reads moved by, px at most", ({ scroll }) => scroll.movedPx],
  ];
  return table(
    ["what", "measured"],
    rows.map(([what, figure]) => [what, cell(inApp(pass, figure))]),
  );
}

/** What several replicas hold together, and what they take to tell it to all. */
function manyTable(pass: Pass): string {
  const found = results<ManyResult>(pass, "many");
  if (found.length === 0) return "Not measured.";
  const rows = found.map(({ run, figures }) => [
    number(figures.connections, 0),
    number(figures.people, 0),
    String(run.options["replicas"]),
    number(figures.server / 1e6, 0),
    number(figures.empty / 1e6, 0),
    short((figures.server - figures.empty) / figures.connections / 1e3),
    number(figures.redis / 1e6, 0),
    number(figures.slab / 1e6, 0),
    number((1_000 * figures.connections) / figures.connectMs, 0),
  ]);
  return `A process may have 20,000 descriptors here, so that there are several replicas, on one core, and as many generators, on the other. What their processes share, Node itself, counts once. Everybody is signed in and in General; some people are there more than once, for with everybody's coming told to everybody it is the square of the people that costs.

${table(
  [
    "connections",
    "people",
    "replicas",
    "replicas' MB in all",
    "before the first connection",
    "KB per connection",
    "Redis MB",
    "kernel objects MB, whole machine, generators included",
    "connected a second",
  ],
  rows,
)}

${loadTable(pass, "many with a message a second", ({ options }) => `hubbub, ${number(Number(options["connections"]), 0)} connections`)}`;
}

/** Those whose idle connections were measured, Hubbub first. */
function idleSystems(pass: Pass): SystemName[] {
  const all = groups(pass, "idle").map(({ system }) => system);
  return [...new Set(all)].toSorted((a, b) => Number(b === "hubbub") - Number(a === "hubbub"));
}

function idleOf(pass: Pass, system: SystemName): IdleResult[] {
  return results<IdleResult>(pass, "idle")
    .filter(({ run }) => run.system === system)
    .map(({ figures }) => figures)
    .toSorted((a, b) => a.connections - b.connections);
}

/** Bytes per connection, from 1,000 connections to the most: what the first ones cost is the program. */
function slopeOf(pass: Pass, system: SystemName): number | undefined {
  const all = idleOf(pass, system);
  const from = all.find(({ connections }) => connections === 1_000);
  const to = all.at(-1);
  if (!from || !to || from === to) return undefined;
  return (to.server - from.server) / (to.connections - from.connections);
}

/** Up to where the generator's own figures can be believed, and where the figures of this page lie. */
function calibrated(pass: Pass): string {
  const found = groups(pass, "calibration");
  if (found.length === 0) return "It was not calibrated.";
  const rows = found.map(({ options, runs }) => {
    const all = runs.map(({ figures }) => figures as CalibrationResult);
    const last = all.map(({ steps, limit }) => steps.findLast(({ perSecond }) => perSecond === limit));
    return [
      options["window"] === 0 ? "one message" : `those of ${options["window"]} ms`,
      cell(spread(all.map(({ limit }) => limit))),
      short(spread(last.map((step) => step?.perRead ?? Number.NaN))?.median),
      `${number(100 * (spread(last.map((step) => step?.generatorBusy ?? Number.NaN))?.median ?? Number.NaN), 0)} %`,
      [...new Set(all.map(({ end }) => end ?? "no faster one was tried"))].join("; "),
    ];
  });
  return `Fed by a server that does next to nothing, raw TCP and ready frames to 500 connections, the generator accounts for this many deliveries a second before it is above its own limit. What it takes is mostly the reading: few large reads are cheap and many small ones are not.

${table(
  [
    "a write has",
    "deliveries a second",
    "of them in a read",
    "of the generator's core",
    "what ended the next faster step",
  ],
  rows,
)}

Every run is held against the limit itself, not against this table: where the generator is above it, the run is refused.`;
}

const RUNGS: [what: string, system: SystemName][] = [
  ["`send(2)` in C", "C send"],
  ["`socket.write` of Node", "socket.write"],
  ["Bun, its own `publish`", "bun"],
  ["nginx with nchan", "nchan"],
  ["`ws`", "ws"],
  ["`ws`", "ws tier 3"],
  ["Socket.IO with its Redis adapter", "socket.io classic tier 1"],
  ["Socket.IO with its Redis adapter", "socket.io classic"],
  ["Hubbub", "hubbub"],
];

/** From the least that the machine takes up to Hubbub, with a message in each write and with many. */
function ladderSection(pass: Pass): string {
  const cost = ({ cpuUs }: LoadFigures) => cpuUs;
  const ladder = (system: SystemName, rate: number, window: Record<string, string>) =>
    groups(pass, "ladder").find(
      ({ system: name, options }) =>
        name === system &&
        options["rate"] === rate &&
        Object.entries(window).every(([variable, value]) => options[variable] === value),
    );
  const single = (system: SystemName, rate: number): Group | undefined => {
    if (system === "hubbub") return ladder(system, rate, { BATCH_WINDOW: "0" });
    if (system === "C send" || system === "socket.write") return ladder(system, rate, { WINDOW: "0" });
    return of(pass, "hot room", system, rate);
  };
  const many = (system: SystemName, rate: number): Group | undefined =>
    system === "hubbub" ? of(pass, "hot room", system, rate) : ladder(system, rate, { WINDOW: "50" });
  const told = (group: Group | undefined) => (group ? cell(over(group, cost)) : "not measured");
  const hasBatches = (system: SystemName) => ["C send", "socket.write", "hubbub"].includes(system);
  const rows = RUNGS.map(([what, system]) => [
    what,
    jobOf(system),
    ...[100, 400].map((rate) => told(single(system, rate))),
    ...[100, 400].map((rate) => (hasBatches(system) ? told(many(system, rate)) : "—")),
  ]);
  const refused = refusals(RUNGS.flatMap(([, system]) => single(system, 400)?.runs ?? []));
  const beside = [100, 400].flatMap((rate) => {
    const [ours, floor] = [many("hubbub", rate), many("C send", rate)].map(
      (group) => over(group, cost)?.median,
    );
    return ours && floor ? [`${short(ours / floor)} times at ${rate} messages a second`] : [];
  });
  return `## The ladder

The same hot room, from the least that the machine takes up to Hubbub: CPU µs per delivery.

${table(
  [
    "rung",
    "job",
    "a message in each write, 100 a second",
    "the same, 400 a second",
    "batches of up to 50 ms, 100 a second",
    "the same, 400 a second",
  ],
  rows,
)}

Hubbub's batches are its own; without them (\`BATCH_WINDOW=0\`) it still writes at once what came at once.${refused.length > 0 ? ` Refused at 400, where 500 small reads for each message are more than the generator can account for: ${refused.join(", ")}.` : ""}${beside.length > 0 ? ` With all that it does beside writing, Hubbub takes ${beside.join(" and ")} what C takes for the same batches.` : ""}`;
}

const ANSWER = { true: "yes", false: "**no**", null: "not measured" };

export function pageOf(pass: Pass): string {
  const { host, runs } = pass;
  const commits = [...new Set(runs.map(({ commit }) => commit))].join(", ");
  const refused = runs.filter(({ verdict }) => verdict === "refused").length;
  const broken = runs.filter(({ verdict }) => verdict === "failed");
  const expected = broken.filter(({ options }) => options["without"]).length;
  const minutes = Math.round((Date.parse(pass.ended) - Date.parse(pass.began)) / 60_000);
  const redis = storedAlone(pass);
  return `# Performance

This page is written by \`npm run bench\` from [latest.json](performance/latest.json). Nothing on it was typed in.

\`\`\`sh
npm run --silent bench -- --quick    # a minute: the hot room, beside Socket.IO; one line of JSON
npm run bench -- --peers             # fetches Bun, nchan and prosody into .cache
npm run bench -- --all --repeats 3   # everything on this page
npm run bench -- --workload idle     # one part of it; --help names them
npm run bench -- --report            # this page again from the JSON
\`\`\`

Measured ${pass.began.slice(0, 16).replace("T", " ")} UTC in ${minutes} minutes at ${commits}, on ${host.cores} cores of ${host.cpu}, ${Math.round(host.memory / 2 ** 30)} GB, Linux ${host.kernel}, Node ${host.node}. The machine is a shared virtual one: other programs ran on it at the same time, so that a figure may be worse than the software, and not better. ${runs.length} runs, ${refused} refused, ${broken.length} failed${expected > 0 ? `, ${expected} of them without one of Hubbub's techniques` : ""}.${pass.absent.length > 0 ? ` ${pass.absent.join(". ")}.` : ""}

## Targets

${table(
  ["what", "target", "measured", "met"],
  targets(pass).map(({ what, wanted, measured, met }) => [what, wanted, measured, ANSWER[`${met}`]]),
)}

## How it is measured

- Load is open: every message has an intended time, and latency counts from there to its arrival at a member, so that a system that falls behind shows as latency and not as fewer messages.
- The system under test, its Redis included, has one core and the generator the other. CPU is what the kernel accounts to all processes of the system and to its own network thread, divided by the messages that arrived at members.
- Every message of every member is reconciled. A loss, a repetition, another order or a missing answer makes a run *failed* and the exit code 1. A run in which the generator used more than 85 % of its core, or sent more than 50 ms late (p99), is *refused* and not counted; so is one in which less than a tenth arrived in the measured time.
- Compared systems take turns. Three figures in a cell are min / **median** / max, one figure is one run. “Delivered in time” is the share of what was sent in the measured time that also arrived in it: below 100 % a system is saturated, and its latency is a queue that grows.
- Every system says which job it does. **1**: a message is handed out. **2**: it is also stored first. **3**: also, the sender is known by a session, only members may write, the stored message is acknowledged, and everybody is told who came and went. Where no job is named, it is no chat.
- Hubbub does job 3, and more than it: one order for all, retries by nonce, no gaps. Socket.IO and \`ws\` have a variant of job 1 and one of job 3 that share their code for what is not fan-out; with job 1 they, and Bun (its own \`publish\`, in native code), only publish to Redis and send. nchan and prosody (strangers in an XMPP room, nothing stored, nobody told who came) do job 1 without Redis. \`C send\` and \`socket.write\` are the least that the machine and Node take to write each message to each connection.
- A server is warmed up for 2 s (quiet rooms: 6 s), and takes one rate after the other, slow ones first.

## The generator

${calibrated(pass)}

## The hot room

500 members in one room, 200 characters a message.

![CPU per delivery](performance/cost.svg) ![Latency](performance/latency.svg)

${loadTable(pass, "hot room", ({ system }) => system)}

${ladderSection(pass)}

## Quiet rooms

100 rooms of 10, 80 messages a second into all of them together, by chance.

${loadTable(pass, "quiet rooms", ({ system }) => system)}

## Idle connections

![Memory](performance/memory.svg)

${table(
  [
    "system",
    "job",
    "connections",
    "server MB",
    "Redis MB",
    "kernel objects MB, whole machine",
    "connected a second",
    "idle CPU µs per connection and second",
  ],
  idleSystems(pass).flatMap((system) =>
    idleOf(pass, system).map(({ connections, server, redis: kept, slab, connectMs, idleCpuUs }) => [
      system,
      jobOf(system),
      number(connections, 0),
      number(server / 1e6, 1),
      number(kept / 1e6, 1),
      number(slab / 1e6, 1),
      connections > 0 ? number((1_000 * newConnections(connections)) / connectMs, 0) : "—",
      short(idleCpuUs),
    ]),
  ),
)}

Per connection from 1,000 to the most: ${idleSystems(pass)
    .map((system) => {
      const slope = slopeOf(pass, system);
      return `${system} ${short(slope && slope / 1e3)} KB`;
    })
    .join(
      ", ",
    )}. Hubbub's are signed in and hear their rooms; Socket.IO's and \`ws\`' hear one room and are nobody's.

${loadTable(pass, "idle with a message a second", ({ system, options }) => `${system}, ${number(Number(options["connections"]), 0)} connections`)}

## Many connections

${manyTable(pass)}

## Redis

${
  redis
    ? `For each stored message a replica sends ${number(redis.sent, 2)} commands; Redis takes ${number(redis.cpuUs, 0)} µs of CPU, ${number(redis.usPerAppend, 0)} µs of them in the script. Its calls, scripts' own included: ${Object.entries(
        redis.calls,
      )
        .filter(([, count]) => count >= 0.01)
        .map(([name, count]) => `${name} ${number(count, 2)}`)
        .join(", ")}.`
    : "Not measured."
}

The more come at once, the less each costs: what Redis does once for each turn of its loop is shared.

${storedTable(pass)}

## Replicas

200 rooms of two, members anywhere, 800 messages a second, all replicas on one core.

${table(
  [
    "replicas",
    "CPU µs per message",
    "beside one",
    "an idle replica: CPU ms a second",
    "Redis then",
    "beside one, without that",
    "p50 ms",
    "p99 ms",
    "announcements heard by the replicas",
    "due",
  ],
  results<ReplicasResult & LoadFigures>(pass, "replicas").map(({ run, figures }, _, all) => [
    String(run.options["replicas"]),
    number(figures.cpuUsPerMessage, 0),
    `${number(figures.cpuUsPerMessage / (all[0]?.figures.cpuUsPerMessage ?? Number.NaN), 2)} times`,
    short(figures.idleReplicaMs),
    short(figures.idleRedisMs),
    figures.cpuUsPerMessageBusy === undefined
      ? "—"
      : `${number(figures.cpuUsPerMessageBusy / (all[0]?.figures.cpuUsPerMessageBusy ?? Number.NaN), 2)} times`,
    short(figures.p50Ms ?? undefined),
    short(figures.p99Ms ?? undefined),
    figures.heard.join(" "),
    figures.due.join(" "),
  ]),
)}

## Reading

${table(
  [
    "`GET messages`, 50 of them, 32 connections",
    "requests a second",
    "CPU µs each, Redis included",
    "p50 ms",
    "p99 ms",
  ],
  results<PagesResult>(pass, "pages").map(({ run, figures }) => [
    run.system !== "hubbub"
      ? "Express, five commands in a row"
      : run.options["pages"] === 32
        ? "hubbub, each reads another page"
        : "hubbub",
    number(figures.perSecond, 0),
    number(figures.cpuUs, 0),
    short(figures.latencyMs?.p50),
    short(figures.latencyMs?.p99),
  ]),
)}

${table(
  ["messages in the room", "`room.join` p50 ms", "p99 ms", "the page before, p50 ms", "p99 ms"],
  results<OpenResult>(pass, "open a room").map(({ figures }) => [
    number(figures.messages, 0),
    number(figures.joinMs?.p50, 2),
    number(figures.joinMs?.p99, 2),
    number(figures.pageMs?.p50, 2),
    number(figures.pageMs?.p99, 2),
  ]),
)}

## Coming and going

${results<ChurnResult>(pass, "churn")
  .map(
    ({ figures }) =>
      `${number(figures.joined, 0)} people came in ${number(figures.seconds, 1)} s: an onlooker got ${number(figures.framesPerSecond, 2)} frames a second, at most ${number(figures.mostPerSecond, 2)}.`,
  )
  .join("\n")}
${results<ReturnResult>(pass, "come back")
  .map(
    ({ figures }) =>
      `${number(figures.members, 0)} connections broke at once and came back at once: all were back after ${number(figures.backMs / 1e3, 1)} s (a handshake p50 ${number((figures.handshakeMs?.p50 ?? 0) / 1e3, 1)} s), ${figures.sent} messages were sent meanwhile, ${figures.missing} were missing.`,
  )
  .join("\n")}

## The app in Chromium

${
  results(pass, "app").length === 0
    ? "Not measured."
    : `Without a window and without a graphics card, on both cores, before one replica on one of them. The replica sends scripts compressed; the figures are for gzip and Brotli at their usual levels. A room is there when its messages are laid out after the click. Somebody types while two others talk in the open room; every message of theirs is reconciled, as everywhere here.

${appTable(pass)}`
}

${ablationSection(pass)}`;
}

/** Of the steps 0, 1,000, most: how many a step added. */
function newConnections(connections: number): number {
  return connections === 1_000 ? 1_000 : connections - 1_000;
}

function plotsOf(pass: Pass): Record<string, string> {
  const hot = (figure: (figures: LoadFigures) => number | null): Series[] => {
    const systems = [...new Set(groups(pass, "hot room").map(({ system }) => system))];
    return systems.map((name) => ({
      name,
      points: groups(pass, "hot room")
        .filter(({ system }) => system === name)
        .flatMap((group) => {
          const values = over(group, figure);
          return values ? [{ x: Number(group.options["rate"]), y: values }] : [];
        }),
    }));
  };
  const memory = idleSystems(pass).map((name) => ({
    name,
    points: idleOf(pass, name)
      .filter(({ connections }) => connections > 0)
      .map(({ connections, server }) => {
        const mb = server / 1e6;
        return { x: connections, y: { runs: 1, min: mb, median: mb, max: mb } };
      }),
  }));
  return {
    cost: linePlot(
      "CPU µs per delivery, 500 members",
      "messages a second",
      hot(({ cpuUs }) => cpuUs),
    ),
    latency: linePlot(
      "p50 ms, 500 members",
      "messages a second",
      hot(({ p50Ms }) => p50Ms),
    ),
    memory: linePlot("server MB, idle connections", "connections", memory),
  };
}
