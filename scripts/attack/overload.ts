import { fork as forkProcess, type ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Log } from "../../server/src/store/log.ts";
import { Members } from "../../server/src/store/members.ts";
import { Rooms } from "../../server/src/store/rooms.ts";
import { CORE, confine, cpuNs, giveWay, pin } from "../machine.ts";
import { orHelp, root } from "../prepare.mjs";
import { gatherBystanders, type Bystanders, type Delays, type Figures } from "./bystanders.ts";
import { FLOODS, type FloodName, type Order, type Tally } from "./floods.ts";
import { becomes, openStage, PASSWORD, type Person, type Stage } from "./stage.ts";
import { ask } from "./wire.ts";

/**
 * `npm run attack -- overload`: how one client's flood delays other people. Each flood is played in rounds of three turns:
 * quiet, the flood to a sink, the flood to the left replica; the median round counts. The left replica and Redis have one
 * core. The flood comes from a process on the other core, where the people's programs have priority over it, so that
 * its own CPU hardly counts; the turn with the sink shows how much still does.
 */

type Round = {
  quiet: Figures;
  /** While the same flood goes to a program that discards it. */
  beside: Figures;
  attacked: Figures;
  /** The median duration in ms of other people's log-ins, if they were tried. */
  logIn?: { quiet: number; attacked: number; refused: number };
  /** How many of the calls of /readyz were not answered 200 within 2 s, left and right. */
  notReady: { left: number; right: number; of: number };
  /** The attacked replica's MB before the flood, and at most. */
  memory: { before: number; most: number };
  /** % of a core while attacked. */
  cpu: Record<keyof Processes, number>;
  /** Seconds until others' delays were normal again; -1 if not within 10 s. */
  recovered: number;
  /** Whether the attacked replica ended. */
  died: boolean;
  tally: Tally;
};

type Processes = { left: number; right: number; redis: number; generator: number; bystanders: number };

type Played = { flood: FloodName; title: string; rounds: Round[] };

type Run = {
  label: string;
  date: string;
  people: number;
  played: Played[];
  missing: number;
  faults: string[];
};

const folder = join(root, ".cache/attack");
const QUIET_MS = 3_000;
const BESIDE_MS = 3_000;
const ATTACK_MS = 5_000;
const RECOVERY_MS = 10_000;
const ROUNDS = 3;
/** Other people's p50 and p99 must stay below this multiple of their quiet value. */
const MOST = 2;
const PEOPLE = 60;
const ADDRESSES = 8;
const MANY_ROOMS = 60;

const HELP = `npm run attack -- overload [--only NAME,NAME] [--people NUMBER] [--rounds NUMBER] [--label NAME] [--beside LABEL]

  --only    these floods: ${Object.keys(FLOODS).join(" ")}
  --people  so many accounts and addresses at most flood (${PEOPLE}, and ${ADDRESSES} addresses)
  --rounds  quiet and attacked so often, in turns (${ROUNDS})
  --label   keeps the figures as .cache/attack/overload-NAME.json
  --beside  prints the figures of an earlier label beside these

Exit code 1 where others' p50 or p99 is above ${MOST} times its quiet value, or that beside a flood to nobody.`;

export async function overload(args: string[]): Promise<number> {
  const { names, people, rounds, label, beside } = readArguments(args);
  const stage = await openStage();
  const fork = (program: string) =>
    forkProcess(new URL(program, import.meta.url), {
      execArgv: ["--import", "tsx"],
      stdio: ["ignore", 2, 2, "ipc"],
    });
  const generator = fork("floods.ts");
  const sink = fork("sink.ts");
  const sinkPort = await new Promise<number>((resolve) => sink.once("message", resolve));
  const run: Run = { label, date: new Date().toISOString(), people, played: [], missing: 0, faults: [] };
  try {
    const rooms = await prepare(stage);
    const bystanders = await gatherBystanders(stage);
    place(stage);
    for (const outsider of [generator, sink]) {
      confine(outsider.pid ?? 0, CORE.load);
      // They were started with this program's priority.
      giveWay(outsider.pid ?? 0);
    }
    for (const flood of names) {
      process.stderr.write(`${flood} `);
      const played: Played = { flood, title: FLOODS[flood].title, rounds: [] };
      run.played.push(played);
      while (played.rounds.length < rounds) {
        const crowd = await gatherFlooders(stage, rooms, people);
        const order: Order = { ...crowd, rooms, flood, port: stage.left.port, ms: ATTACK_MS };
        played.rounds.push(await play(stage, generator, bystanders, order, sinkPort));
      }
    }
    process.stderr.write("\n");
    await bystanders.stop();
    run.missing = await bystanders.missing();
    run.faults = bystanders.faults();
  } finally {
    generator.kill("SIGKILL");
    sink.kill("SIGKILL");
    await stage.close();
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(fileOf(label), `${JSON.stringify(run, null, 2)}\n`);
  console.log(tableOf(run, beside ? (JSON.parse(readFileSync(fileOf(beside), "utf8")) as Run) : undefined));
  for (const replica of stage.replicas) {
    for (const line of replica.log.filter((text) => /"level":[56]0\b/.test(text)).slice(0, 5))
      console.log(`${replica.name}: ${line}`);
  }
  return run.played.every((played) => verdictOf(played).held) ? 0 : 1;
}

/** Puts the attacked processes on one core, and those of other people on the other. */
function place({ left, right, redis }: Stage): void {
  pin(left.pid(), CORE.system);
  pin(redis.pid, CORE.system);
  pin(right.pid(), CORE.load);
  pin(process.pid, CORE.load);
}

function readArguments(args: string[]) {
  const options = {
    only: { type: "string" },
    people: { type: "string" },
    rounds: { type: "string" },
    label: { type: "string" },
    beside: { type: "string" },
  } as const;
  return orHelp(HELP, () => {
    const { values } = parseArgs({ args, options });
    const names = values.only?.split(",") ?? Object.keys(FLOODS);
    const unknown = names.find((name) => !(name in FLOODS));
    if (unknown) throw new Error(`There is no flood "${unknown}".`);
    const count = (name: "people" | "rounds", usual: number) => {
      const value = Number(values[name] ?? usual);
      if (!(Number.isInteger(value) && value > 0)) throw new Error(`--${name} takes a whole number.`);
      return value;
    };
    return {
      names: names as FloodName[],
      people: count("people", PEOPLE),
      rounds: count("rounds", ROUNDS),
      label: values.label ?? "latest",
      beside: values.beside,
    };
  });
}

function fileOf(label: string): string {
  return join(folder, `overload-${label}.json`);
}

/** Makes a room with 240 long messages, one with 3,000, and many with a long one each. */
async function prepare({ admin, keys, person }: Stage): Promise<Order["rooms"]> {
  const author = await person();
  const log = new Log(admin, keys, {
    serverId: "attack",
    relayChannel: "rooms",
    waitReplicas: 0,
    waitMs: 500,
  });
  const store = new Rooms(
    admin,
    keys,
    new Members(admin, keys, { serverId: "attack", relayChannel: "rooms" }),
  );
  const long = "€".repeat(4_000);
  const rooms: Order["rooms"] = { heavy: "", long: "", many: [] };
  for (let count = 1; count <= MANY_ROOMS; count += 1) {
    const id = await store.create(`many ${count}`, author.id);
    await log.load(id, [{ from: author.id, message: long, date: Date.now() - 1e7 }]);
    rooms.many.push(id);
  }
  for (const [name, messages, text] of [
    ["heavy", 240, long],
    ["long", 3_000, "a sentence as people write them in a chat, of some length but not too long"],
  ] as const) {
    const id = await store.create(name, author.id);
    rooms[name] = id;
    for (let start = 0; start < messages; start += 100) {
      await log.load(
        id,
        Array.from({ length: Math.min(100, messages - start) }, (_, index) => ({
          from: author.id,
          message: text,
          date: Date.now() - 1e7 + start + index,
        })),
      );
    }
  }
  return rooms;
}

let owners = 0;

/** Makes new people for each flood, so that no limit remains from an earlier one. The owner's hash has production's cost. */
async function gatherFlooders(
  { admin, keys, person, address, left }: Stage,
  rooms: Order["rooms"],
  count: number,
): Promise<Pick<Order, "people" | "owner" | "addresses">> {
  const people: Person[] = await Promise.all(Array.from({ length: count }, () => person()));
  for (const [index, { id }] of people.entries()) {
    const theirs = [rooms.heavy, rooms.long, ...(index < 5 ? rooms.many : [])];
    await admin.sadd(keys.userRooms(id), ...theirs);
    for (const room of theirs)
      await new Members(admin, keys, { serverId: "attack", relayChannel: "rooms" }).join(room, id);
  }
  const owner = { username: `owner${(owners += 1)}`, password: "a password of its own" };
  await ask(left.port, "/api/users", { from: address() }, { method: "POST", body: owner });
  const addresses = Array.from({ length: Math.min(count, ADDRESSES) }, address);
  return { people, owner, addresses };
}

async function play(
  stage: Stage,
  generator: ChildProcess,
  bystanders: Bystanders,
  order: Order,
  sinkPort: number,
): Promise<Round> {
  const { left, right } = stage;
  const logsIn = order.flood === "logins";
  const memory = { before: left.memory(), most: 0 };
  const notReady = { left: 0, right: 0, of: 0 };

  bystanders.begin();
  const quietLogIns = logsIn ? await logInFor(stage, QUIET_MS) : [];
  if (!logsIn) await sleep(QUIET_MS);
  const quiet = bystanders.figures();

  bystanders.begin();
  const idle = new Promise((resolve) => generator.once("message", resolve));
  generator.send({ ...order, port: sinkPort, ms: BESIDE_MS });
  await sleep(BESIDE_MS);
  const beside = bystanders.figures();
  // A late answer must not count for the next flood.
  await Promise.race([idle, sleep(20_000)]);

  const processes: Processes = {
    left: left.pid(),
    right: right.pid(),
    redis: stage.redis.pid,
    generator: generator.pid ?? 0,
    bystanders: process.pid,
  };
  const before = cpuOf(processes);
  const began = performance.now();
  bystanders.begin();
  const flooding = new Promise<Tally>((resolve) =>
    generator.once("message", (tally: Tally) => resolve(tally)),
  );
  generator.send(order);
  let over = false;
  const looking = (async () => {
    while (!over) {
      const [here, there] = await Promise.all([left.ready(), right.ready()]);
      notReady.of += 1;
      if (here !== 200) notReady.left += 1;
      if (there !== 200) notReady.right += 1;
      await sleep(200);
    }
  })();
  const weighing = setInterval(() => {
    memory.most = Math.max(memory.most, left.memory());
  }, 50);
  const logIns = logsIn ? await logInFor(stage, ATTACK_MS) : [];
  await sleep(Math.max(0, began + ATTACK_MS - performance.now()));
  const attacked = bystanders.figures();
  const used = cpuOf(processes);
  const seconds = (performance.now() - began) / 1_000;
  over = true;
  clearInterval(weighing);
  const ended = performance.now();
  const tally = await Promise.race([flooding, sleep(20_000, { "the generator": -1 })]);
  await looking;

  const died = left.hasEnded();
  for (const replica of stage.replicas) await replica.revive();
  place(stage);
  const quick = async () => {
    bystanders.begin();
    await sleep(300);
    const now = bystanders.figures();
    return (
      now.unanswered <= 1 &&
      now.left.p50 <= quiet.left.p50 * 3 + 2 &&
      now.right.p50 <= quiet.right.p50 * 3 + 2 &&
      now.left.count > 0
    );
  };
  const recovered = await becomes(quick, RECOVERY_MS);
  const share = (name: keyof Processes) => Math.round((used[name] - before[name]) / seconds / 1e7);
  return {
    quiet,
    beside,
    attacked,
    ...(logsIn && {
      logIn: {
        quiet: middle(quietLogIns),
        attacked: middle(logIns),
        refused: logIns.filter(Number.isNaN).length,
      },
    }),
    notReady,
    memory: { before: mb(memory.before), most: mb(memory.most) },
    cpu: {
      left: share("left"),
      right: share("right"),
      redis: share("redis"),
      generator: share("generator"),
      bystanders: share("bystanders"),
    },
    recovered: recovered ? Math.round((performance.now() - ended) / 100) / 10 : -1,
    died,
    tally,
  };
}

let logInsTried = 0;

/** Lets other people log in, once each, from their own addresses. Answers the ms of each, NaN if it was refused. */
async function logInFor(stage: Stage, ms: number): Promise<number[]> {
  const end = performance.now() + ms;
  const took: number[] = [];
  while (performance.now() < end) {
    logInsTried += 1;
    const body = { username: `bystander${1 + (logInsTried % 6)}`, password: PASSWORD };
    const answer = await ask(
      stage.left.port,
      "/api/login",
      { from: stage.address() },
      { method: "POST", body, timeoutMs: 15_000 },
    );
    took.push(answer.status === 200 ? answer.ms : Number.NaN);
    await sleep(200);
  }
  return took;
}

/** The median; NaN if there is no value. */
function middle(values: number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

function cpuOf<Name extends string>(processes: Record<Name, number>): Record<Name, number> {
  const entries = Object.entries<number>(processes).map(([name, pid]) => {
    try {
      return [name, cpuNs(pid)];
    } catch {
      return [name, 0];
    }
  });
  return Object.fromEntries(entries) as Record<Name, number>;
}

function mb(bytes: number): number {
  return Math.round(bytes / 1e6);
}

type Turn = "quiet" | "beside" | "attacked";

/** The median round's delays of people on one side. */
function middleOf({ rounds }: Played, turn: Turn, side: "left" | "right" = "left"): Delays {
  const of = (figure: keyof Delays) => middle(rounds.map((round) => round[turn][side][figure]));
  return { p50: of("p50"), p99: of("p99"), count: of("count"), first: of("first"), later: of("later") };
}

/** The ratio to the quiet value, and to the greater of that and the value during a flood to the sink. */
function verdictOf(played: Played) {
  const [quiet, beside, attacked] = (["quiet", "beside", "attacked"] as const).map((turn) =>
    middleOf(played, turn),
  );
  const times = (figure: "p50" | "p99") => {
    const base = quiet?.[figure] ?? Number.NaN;
    const now = attacked?.[figure] ?? Number.NaN;
    return { quiet: now / base, fair: now / Math.max(base, beside?.[figure] ?? base) };
  };
  const verdict = { p50: times("p50"), p99: times("p99") };
  return { ...verdict, held: verdict.p50.fair <= MOST && verdict.p99.fair <= MOST };
}

function tableOf(run: Run, earlier: Run | undefined): string {
  const head = [
    "flood",
    "quiet p50 / p99",
    "flood to nobody p50 / p99",
    ...(earlier ? [`${earlier.label}: p50 / p99`] : []),
    "attacked p50 / p99",
    "times quiet",
    "times the greater of the two",
    "",
    "p99 of the first second, later",
    "other replica p50 / p99",
    "others refused, unanswered",
    "not ready left, right",
    "MB before, most",
    "CPU % left, right, Redis, generator, bystanders",
    "recovered",
    "what came back",
  ];
  const rows = run.played.map((played) => {
    const { flood, title, rounds } = played;
    const before = earlier?.played.find((other) => other.flood === flood);
    const ms = ({ p50, p99 }: Delays) => `${tidy(p50)} / ${tidy(p99)}`;
    const sum = (figure: (round: Round) => number) => rounds.reduce((all, round) => all + figure(round), 0);
    const most = (figure: (round: Round) => number) => Math.max(...rounds.map(figure));
    const { p50, p99, held } = verdictOf(played);
    const attacked = middleOf(played, "attacked");
    return [
      `${flood}: ${title}`,
      ms(middleOf(played, "quiet")),
      ms(middleOf(played, "beside")),
      ...(earlier ? [before ? ms(middleOf(before, "attacked")) : ""] : []),
      ms(attacked),
      `${tidy(p50.quiet)} / ${tidy(p99.quiet)}`,
      `${tidy(p50.fair)} / ${tidy(p99.fair)}`,
      held ? "held" : "OVER",
      `${tidy(attacked.first)}, ${tidy(attacked.later)}`,
      ms(middleOf(played, "attacked", "right")),
      `${sum((round) => round.attacked.refused)}, ${sum((round) => round.attacked.unanswered)} of ${sum((round) => round.attacked.sent)}`,
      `${sum(({ notReady }) => notReady.left)}, ${sum(({ notReady }) => notReady.right)} of ${sum(({ notReady }) => notReady.of)}`,
      `${most(({ memory }) => memory.before)}, ${most(({ memory }) => memory.most)}`,
      (["left", "right", "redis", "generator", "bystanders"] as const)
        .map((name) => middle(rounds.map(({ cpu }) => cpu[name])))
        .join(", "),
      rounds.some(({ died }) => died)
        ? "DIED"
        : rounds.some(({ recovered }) => recovered < 0)
          ? "not in 10 s"
          : `${most(({ recovered }) => recovered)} s`,
      [...came(rounds), ...othersLogIns(rounds)].join("; "),
    ];
  });
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  return [
    `${run.date.slice(0, 16).replace("T", " ")} UTC, ${run.label}, by ${run.people} people at most: ms from saying to hearing, the middle one of the rounds. Acknowledged but not stored: ${run.missing}. Heard out of order: ${run.faults.length}${run.faults.length > 0 ? ` (${run.faults.slice(0, 3).join("; ")})` : ""}.`,
    "",
    line(head),
    line(head.map(() => "---")),
    ...rows.map(line),
  ].join("\n");
}

/** The answers that the flood got, over all rounds. */
function came(rounds: Round[]): string[] {
  const all: Tally = {};
  for (const { tally } of rounds)
    for (const [what, count] of Object.entries(tally)) all[what] = (all[what] ?? 0) + count;
  return Object.entries(all).map(([what, count]) => `${what} ${count}`);
}

function othersLogIns(rounds: Round[]): string[] {
  const logIns = rounds.flatMap(({ logIn }) => logIn ?? []);
  if (logIns.length === 0) return [];
  const ms = (turn: "quiet" | "attacked") => middle(logIns.map((logIn) => logIn[turn])).toFixed(0);
  const refused = logIns.reduce((sum, logIn) => sum + logIn.refused, 0);
  return [`others' log-in ${ms("quiet")} -> ${ms("attacked")} ms, ${refused} refused`];
}

function tidy(ms: number): string {
  return Number.isNaN(ms) ? "-" : ms < 10 ? ms.toFixed(1) : ms.toFixed(0);
}
