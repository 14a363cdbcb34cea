import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { io, type Socket } from "socket.io-client";
import { Rooms } from "../../server/src/chat/rooms.ts";
import { createKeys } from "../../server/src/keys.ts";
import { GENERAL, type Message, type Reply } from "../../server/src/protocol.ts";
import { connectRedis, type RedisClient } from "../../server/src/redis.ts";
import { startGenerator } from "./drive.ts";
import { markedText } from "./frames.ts";
import type { LoadOrder, LoadResult, PagesResult } from "./generator.ts";
import { connect, judge, load, merged, quiet, record, stage, type Run, type Stage } from "./run.ts";
import { summarise, type Summary } from "./statistics.ts";
import { cpuNs, kernelMemory, memoryOf, nowUs, rss } from "./system.ts";
import { METRICS_TOKEN, sendProgram, type SystemName, type Town } from "./systems.ts";
import type { TechniqueName } from "./techniques.ts";

/** What is measured, by name. Every workload answers its runs, each written to a file already. */

const BYTES = 200;
const DRAIN_SECONDS = 60;

/** A number of members, all in General. */
export function crowd(members: number): Town {
  return { roomIds: [GENERAL], members: Array.from({ length: members }, () => ({ rooms: [0] })) };
}

/** Rooms that share out the members evenly, each member in one. */
export function towns(members: number, each: number): Town {
  return {
    roomIds: Array.from({ length: members / each }, (_, index) => String(index + 1)),
    members: Array.from({ length: members }, (_, index) => ({ rooms: [Math.floor(index / each)] })),
  };
}

export function order(rate: number, more: Partial<LoadOrder> = {}): Omit<LoadOrder, "parts"> {
  return {
    rate,
    arrivals: "even",
    warmSeconds: 2,
    // Enough to have the code compiled, and no queue longer than the measured time makes it.
    warmRate: Math.min(400, Math.max(rate, 50)),
    measureSeconds: 5,
    drainSeconds: DRAIN_SECONDS,
    bytes: BYTES,
    ...more,
  };
}

/** Hubbub with one of its techniques taken out, and the name that the run is kept by. */
type Without = { without?: TechniqueName; label?: string };

type HotOptions = Without & { members?: number; seconds?: number; env?: Record<string, string> };

/** One room with many members, at one rate after the other on the same server, slow ones first. */
export async function hotRoom(
  system: SystemName,
  rates: number[],
  { members = 500, seconds = 4, env = {}, without, label = "hot room" }: HotOptions = {},
): Promise<Run<LoadResult>[]> {
  const at = await stage(system, { town: crowd(members), env, ...(without && { without }) });
  try {
    const runs: Run<LoadResult>[] = [];
    for (const rate of rates) {
      // What a saturated system has left over is to be waited for: the faster, the shorter.
      const measureSeconds = rate >= 1_000 ? Math.ceil(seconds / 2) : seconds;
      const asked = order(rate, { measureSeconds });
      // Above 50 messages a second prosody is behind: the queue of its warming-up would be measured.
      if (system === "prosody") asked.warmRate = Math.min(asked.warmRate, 20);
      // What it is offered in a second here takes it half a minute.
      if (system === "prosody" && rate > 100) asked.measureSeconds = 1;
      const result = await load(at, asked);
      const options = { members, rate, ...env, ...(without && { without }) };
      runs.push(record({ workload: label, system, options, result, ...judge(result) }));
    }
    return runs;
  } finally {
    await at.stop();
  }
}

/** 100 rooms of 10, 80 messages a second into all of them together, by chance. */
export async function quietRooms(system: SystemName): Promise<Run<LoadResult>[]> {
  const at = await stage(system, { town: towns(1_000, 10) });
  try {
    const more = { arrivals: "poisson", measureSeconds: 5, warmRate: 400, warmSeconds: 6 } as const;
    const result = await load(at, order(80, more));
    const options = { rooms: 100, members: 10, rate: 80 };
    return [record({ workload: "quiet rooms", system, options, result, ...judge(result) })];
  } finally {
    await at.stop();
  }
}

export type CalibrationResult = {
  members: number;
  /** Deliveries a second at the fastest step that the generator came through. */
  limit: number;
  /** What ended the ladder; null where the generator came through every step. */
  end: string | null;
  steps: CalibrationStep[];
};
type CalibrationStep = {
  rate: number;
  perSecond: number;
  perRead: number;
  generatorBusy: number;
  lateP99Ms: number;
  serverBusy: number;
  verdict: Run["verdict"];
};

/** Milliseconds of frames in one write, and the messages a second into 500 members that are tried with it. */
const LADDERS: [window: number, rates: number[]][] = [
  [0, [40, 80, 120, 160, 200, 250, 300, 400]],
  [20, [400, 3_200, 6_400, 9_600, 12_800]],
];

/**
 * How many deliveries a second the generator itself can account for, before it is above its own limit: faster and
 * faster from a server that does next to nothing, once with a frame in each write and once with those of 20 ms.
 */
export async function calibration(): Promise<Run[]> {
  const members = 500;
  const runs: Run[] = [];
  for (const [window, rates] of LADDERS) {
    const at = await stage("null", { town: crowd(members), env: { WINDOW: String(window) } });
    try {
      const result: CalibrationResult = { members, limit: 0, end: null, steps: [] };
      for (const rate of rates) {
        const loaded = await load(at, order(rate, { warmSeconds: 2, measureSeconds: 2 }));
        const { verdict, reasons } = judge(loaded);
        const perSecond = loaded.deliveries / loaded.seconds;
        result.steps.push({
          rate,
          perSecond,
          perRead: loaded.deliveriesPerRead,
          generatorBusy: loaded.generator.busy,
          lateP99Ms: loaded.generator.latenessMs?.p99 ?? 0,
          serverBusy: loaded.busy["replica"] ?? 0,
          verdict,
        });
        if (verdict !== "ok") {
          result.end = reasons.join(", ");
          break;
        }
        if (loaded.deliveries < 0.95 * loaded.offered) {
          // The generator may well be good for more.
          result.end = "the null server fell behind";
          break;
        }
        result.limit = perSecond;
      }
      runs.push(record({ workload: "calibration", system: "null", options: { window }, result }));
    } finally {
      await at.stop();
    }
  }
  return runs;
}

export type IdleResult = {
  connections: number;
  /** Bytes in memory: the server's processes, its Redis, and the kernel's objects for the whole machine. */
  server: number;
  redis: number;
  slab: number;
  connectMs: number;
  /** CPU of the server in µs per connection and second, while nothing happens. */
  idleCpuUs: number;
};

/** Memory of open connections in which nothing happens, then one message a second to all of them. */
async function idle(system: SystemName, counts: number[]): Promise<Run[]> {
  const at = await stage(system, { town: crowd(Math.max(...counts)) }, { members: 0 });
  try {
    const pids = at.system.parts.filter(({ name }) => name === "replica").map(({ pid }) => pid);
    const redisPid = at.system.parts.find(({ name }) => name === "redis")?.pid;
    const runs: Run[] = [];
    await sleep(3_000);
    const before = kernelMemory().slab;
    let open = 0;
    for (const count of counts) {
      const theirs = at.system.members.slice(open, count);
      const { ms } =
        theirs.length > 0
          ? await connect(at, at.system.ports[0] ?? 0, theirs, { concurrency: 32 })
          : { ms: 0 };
      open = count;
      await quiet(at.generator);
      await sleep(4_000);
      const from = pids.map(cpuNs);
      await sleep(3_000);
      const used = pids.reduce((sum, pid, index) => sum + cpuNs(pid) - (from[index] ?? 0), 0);
      const result: IdleResult = {
        connections: count,
        server: pids.reduce((sum, pid) => sum + rss(pid), 0),
        redis: redisPid ? rss(redisPid) : 0,
        slab: kernelMemory().slab - before,
        connectMs: ms,
        idleCpuUs: count > 0 ? used / 3_000 / count : 0,
      };
      runs.push(record({ workload: "idle", system, options: { connections: count }, result }));
    }
    const result = await load(at, order(1, { warmSeconds: 3, warmRate: 1, measureSeconds: 5 }));
    const options = { connections: open, rate: 1 };
    runs.push(
      record({ workload: "idle with a message a second", system, options, result, ...judge(result) }),
    );
    return runs;
  } finally {
    await at.stop();
  }
}

export type ManyResult = {
  connections: number;
  /** Whose they are: some people are there more than once. */
  people: number;
  /** Bytes in memory of all replicas together, what they share once, with and without connections. */
  server: number;
  empty: number;
  redis: number;
  slab: number;
  connectMs: number;
};

/** Below the 20,000 descriptors that a process may have. */
const MOST_PER_PROCESS = 18_000;
/** Everybody's coming is told to everybody: what grows with their square is another workload's. */
const MOST_PEOPLE = 10_000;

/** As many connections as the machine takes, on at least five replicas, each with a generator of its own. */
async function many(connections: number): Promise<Run[]> {
  const processes = Math.max(5, Math.ceil(connections / MOST_PER_PROCESS));
  const each = Math.ceil(connections / processes);
  const people = Math.min(connections, MOST_PEOPLE);
  const { generator, ...at } = await stage(
    "hubbub",
    { town: crowd(people), replicas: processes },
    { members: 0 },
  );
  const generators = [generator];
  try {
    while (generators.length < processes) generators.push(await startGenerator());
    const { system } = at;
    const pids = system.parts.filter(({ name }) => name === "replica").map(({ pid }) => pid);
    const redisPid = system.parts.find(({ name }) => name === "redis")?.pid ?? 0;
    const memory = () => memoryOf(pids);
    await sleep(3_000);
    const empty = memory();
    const slab = kernelMemory().slab;
    let connectMs = 0;
    for (const [index, one] of generators.entries()) {
      const count = Math.min(each, connections - index * each);
      const members = Array.from({ length: count }, (_, number) => {
        const member = system.members[(index * each + number) % people];
        if (!member) throw new Error("nobody is there");
        return member;
      });
      const { ms } = await connect({ ...at, generator: one }, system.ports[index] ?? 0, members);
      connectMs += ms;
    }
    for (const one of generators) await quiet(one);
    await sleep(4_000);
    const result: ManyResult = {
      connections,
      people,
      server: memory(),
      empty,
      redis: rss(redisPid),
      slab: kernelMemory().slab - slab,
      connectMs,
    };
    const options = { connections, replicas: processes };
    const runs: Run[] = [record({ workload: "many", system: "hubbub", options, result })];
    // Time enough for every generator to make ready.
    const startUs = nowUs() + 3_000_000;
    const asked = order(1, { warmSeconds: 3, warmRate: 1, measureSeconds: 5, startUs });
    const [first, ...others] = await Promise.all(
      generators.map((one, index) => load({ system, generator: one }, { ...asked, listens: index > 0 })),
    );
    if (!first) throw new Error("nobody spoke");
    const loaded = merged([first, ...others]);
    runs.push(
      record({
        workload: "many with a message a second",
        system: "hubbub",
        options: { ...options, rate: 1 },
        result: loaded,
        ...judge(loaded),
      }),
    );
    return runs;
  } finally {
    for (const one of generators.slice(1)) await one.stop();
    await at.stop();
  }
}

/** With few listeners, so that it is storing that is measured; and with so few that a replica can be kept busy. */
const STORED: { rooms: number; members: number; rate: number }[] = [
  { rooms: 10, members: 10, rate: 400 },
  { rooms: 100, members: 2, rate: 2_000 },
];

export type RedisResult = {
  messages: number;
  /** What Redis counted, per stored message, scripts' own calls included. */
  calls: Record<string, number>;
  /** Commands that a replica sent, per stored message. */
  sent: number;
  cpuUs: number;
  usPerAppend: number;
};

/** Commands that scripts run inside of Redis: a replica sends the scripts. */
const INSIDE = new Set(
  "get hmget time hset zadd set publish sismember zrangebyscore zrevrange zcard sadd hincrby".split(" "),
);

/** What a stored message costs Redis: alone, and where many come at once. */
async function redisCost(): Promise<Run[]> {
  const runs: Run[] = [];
  for (const options of STORED) runs.push(await storing(options));
  return runs;
}

async function storing(options: (typeof STORED)[number]): Promise<Run> {
  const { rooms, members, rate } = options;
  const at = await stage("hubbub", { town: towns(rooms * members, members) });
  try {
    const { redis, parts } = at.system;
    if (!redis) throw new Error("no Redis");
    await load(at, order(rate, { measureSeconds: 1 }));
    const pid = parts.find(({ name }) => name === "redis")?.pid ?? 0;
    const before = { stats: await commandStats(redis), cpu: cpuNs(pid) };
    const measureSeconds = Math.max(3, 3_200 / rate);
    const loaded = await load(at, order(rate, { warmSeconds: 0, measureSeconds }));
    const after = { stats: await commandStats(redis), cpu: cpuNs(pid) };
    const calls: Record<string, number> = {};
    let usec = 0;
    for (const [name, { count, us }] of after.stats) {
      const more = count - (before.stats.get(name)?.count ?? 0);
      if (more > 0) calls[name] = more / loaded.sent;
      if (name === "evalsha") usec = us - (before.stats.get(name)?.us ?? 0);
    }
    const sent = Object.entries(calls).reduce(
      (sum, [name, count]) => sum + (INSIDE.has(name) ? 0 : count),
      0,
    );
    const result: RedisResult = {
      messages: loaded.sent,
      calls,
      sent,
      cpuUs: (after.cpu - before.cpu) / 1_000 / loaded.sent,
      usPerAppend: usec / loaded.sent,
    };
    return record({ workload: "redis", system: "hubbub", options, result, ...judge(loaded) });
  } finally {
    await at.stop();
  }
}

async function commandStats(redis: RedisClient): Promise<Map<string, { count: number; us: number }>> {
  const text = await redis.info("commandstats");
  const lines = text.matchAll(/^cmdstat_(\S+):calls=(\d+),usec=(\d+)/gm);
  return new Map(
    [...lines].map(([, name = "", count, us]) => [name, { count: Number(count), us: Number(us) }]),
  );
}

export type ReplicasResult = LoadResult & {
  cpuUsPerMessage: number;
  /** Announcements that each replica heard, and those of rooms that have a member there. */
  heard: number[];
  due: number[];
  /** CPU in ms a second while nobody says anything: a replica's on the average, and that of Redis. */
  idleReplicaMs: number;
  idleRedisMs: number;
  /** What is left of a message's CPU without that of idle replicas and their Redis. */
  cpuUsPerMessageBusy: number;
};

const IDLE_SECONDS = 8;

/** Rooms of two whose members are anywhere, on more and more replicas that share one core. */
async function replicas(): Promise<Run[]> {
  const runs: Run[] = [];
  for (const count of [1, 2, 4, 8]) runs.push(await onReplicas(count));
  return runs;
}

/** 200 rooms of two on so many replicas; in brief, what replicas take at rest is not to be believed. */
export async function onReplicas(
  count: number,
  { without, brief = false, label = "replicas" }: Without & { brief?: boolean } = {},
): Promise<Run<ReplicasResult>> {
  const idleSeconds = brief ? 1 : IDLE_SECONDS;
  const town = towns(400, 2);
  const random = (member: number) => ((Math.imul(member + 1, 2_654_435_761) >>> 8) & 0xffff) % count;
  const options = { town, replicas: count, ...(without && { without }) };
  const at = await stage("hubbub", options, { replicaOf: random });
  try {
    const { host, ports, parts } = at.system;
    // What came with the connections is over: a look at all rooms and sessions comes once in 25 s, and may be in here.
    await sleep(2_000);
    const idleFrom = parts.map(({ pid }) => cpuNs(pid));
    await sleep(idleSeconds * 1_000);
    const still = { replica: 0, redis: 0 };
    parts.forEach(({ name, pid }, index) => {
      const ms = (cpuNs(pid) - (idleFrom[index] ?? 0)) / 1e6 / idleSeconds;
      if (name === "redis") still.redis += ms;
      else still.replica += ms;
    });
    const before = await Promise.all(ports.map((port) => relayed(host, port)));
    const more = { warmSeconds: brief ? 3 : 6, warmRate: 800, measureSeconds: brief ? 3 : 4 };
    const loaded = await load(at, order(800, more));
    const heard = await Promise.all(
      ports.map(async (port, index) => (await relayed(host, port)) - (before[index] ?? 0)),
    );
    const perRoom = loaded.sent / town.roomIds.length;
    const due = ports.map((_, replica) => {
      const here = new Set(
        town.members.flatMap(({ rooms }, index) => (random(index) === replica ? rooms : [])),
      );
      return here.size * perRoom;
    });
    const judged = judge(loaded);
    if (heard.some((number, index) => number !== due[index]))
      Object.assign(judged, {
        verdict: "failed",
        reasons: [...judged.reasons, `heard ${heard.join()} and not ${due.join()}`],
      });
    const cpuUsPerMessage = (loaded.cpuUsAll * loaded.deliveries) / (800 * loaded.seconds);
    const result: ReplicasResult = {
      ...loaded,
      cpuUsPerMessage,
      heard,
      due,
      idleReplicaMs: still.replica / count,
      idleRedisMs: still.redis,
      cpuUsPerMessageBusy: cpuUsPerMessage - (1_000 * (still.replica + still.redis)) / 800,
    };
    const told = { replicas: count, rooms: 200, members: 2, rate: 800, ...(without && { without }) };
    return record({ workload: label, system: "hubbub", options: told, result, ...judged });
  } finally {
    await at.stop();
  }
}

async function relayed(host: string, port: number): Promise<number> {
  const text = await (
    await fetch(`http://${host}:${port}/metrics`, { headers: { authorization: `Bearer ${METRICS_TOKEN}` } })
  ).text();
  return Number(/^hubbub_relay_messages_total (\d+)/m.exec(text)?.[1]);
}

/**
 * `GET messages`, 50 of them, on 32 connections at once, beside the same by five commands in a row: all the same page,
 * which a replica reads once for those who ask at once, and each another. The five commands cost the same either way.
 */
async function pages(): Promise<Run[]> {
  return [
    ...(await readPages("hubbub")),
    ...(await readPages("hubbub", { pages: [32] })),
    ...(await readPages("pages")),
  ];
}

export type PagesOptions = Without & {
  /** How many pages the 32 ask for: one and the same, or each another. More than one: one after the other. */
  pages?: number[];
  connections?: "kept" | "new";
  /** Of warming up, and of measuring each. */
  seconds?: [warm: number, measure: number];
};

/** A page of 50 messages again and again, by 32 people at once; what differs from the default is part of the options. */
export async function readPages(
  system: SystemName,
  { pages: all = [1], connections = "kept", seconds = [3, 5], without, label = "pages" }: PagesOptions = {},
): Promise<Run<PagesResult>[]> {
  const at = await stage(system, { town: crowd(32), ...(without && { without }) }, { members: 0 });
  try {
    await fill(at.system.url, GENERAL, 10_000);
    const now = Date.now();
    const path = `/api/rooms/${GENERAL}/messages?size=50`;
    const cookies = at.system.members.map(({ cookie }) => cookie);
    await at.system.redis?.set(createKeys("").roomName(GENERAL), "General");
    const runs: Run<PagesResult>[] = [];
    for (const different of all) {
      const asked = {
        host: at.system.host,
        port: at.system.ports[0] ?? 0,
        paths: cookies.map((_, index) =>
          different === 1 ? path : `${path}&before=${now - index * 100_000}`,
        ),
        cookies,
        connections,
        parts: at.system.parts,
      };
      await at.generator.order("pages", { ...asked, seconds: seconds[0] });
      const result: PagesResult = await at.generator.order("pages", { ...asked, seconds: seconds[1] });
      const verdict = result.failed > 0 ? "failed" : "ok";
      const reasons = result.failed > 0 ? [`${result.failed} requests failed`] : [];
      const options = {
        connections: 32,
        pages: different,
        ...(connections === "new" && { each: "new" }),
        ...(without && { without }),
      };
      runs.push(record({ workload: label, system, options, result, verdict, reasons }));
    }
    return runs;
  } finally {
    await at.stop();
  }
}

export async function fill(url: string, roomId: string, messages: number): Promise<void> {
  const redis = await connectRedis(url, "commands", pino({ level: "silent" }));
  try {
    const config = { serverId: "bench", relayChannel: "rooms", waitReplicas: 0, waitMs: 500 } as const;
    const rooms = new Rooms(redis, createKeys(""), config);
    const from = Date.now() - messages * 1_000;
    for (let start = 0; start < messages; start += 500) {
      const batch = Array.from({ length: Math.min(500, messages - start) }, (_, index) => ({
        from: "1",
        message: `Message ${start + index} ${"of an old conversation ".repeat(4)}`,
        date: from + (start + index) * 1_000,
      }));
      await rooms.load(roomId, batch);
    }
  } finally {
    redis.disconnect();
  }
}

export type OpenResult = { messages: number; joinMs: Summary | null; pageMs: Summary | null };

/** Opening a room of a hundred and of a million messages: `room.join` and the page before the newest. */
async function openRoom(sizes = [100, 1_000_000]): Promise<Run[]> {
  const town: Town = { roomIds: ["1", "2"], members: [{ rooms: [0, 1] }] };
  const at = await stage("hubbub", { town }, { members: 0 });
  try {
    for (const [index, size] of sizes.entries()) await fill(at.system.url, town.roomIds[index] ?? "", size);
    const client = await clientOf(at, 0);
    const taken = sizes.map(() => ({ join: [] as number[], page: [] as number[] }));
    const cookie = at.system.members[0]?.cookie ?? "";
    for (let round = 0; round < 600; round += 1) {
      const one = round % sizes.length;
      const roomId = town.roomIds[one] ?? "";
      const from = performance.now();
      const reply = (await client.emitWithAck("room.join", { roomId })) as Reply<{ messages: Message[] }>;
      const joined = performance.now();
      if (!reply.ok) throw new Error(reply.error.message);
      const before = reply.value.messages[0]?.date ?? 0;
      const url = `http://${at.system.host}:${at.system.ports[0]}/api/rooms/${roomId}/messages?before=${before}`;
      const { messages } = (await (await fetch(url, { headers: { cookie } })).json()) as {
        messages: Message[];
      };
      if (messages.length !== 50) throw new Error(`a page of ${messages.length}`);
      // The first rounds compile.
      if (round < 200) continue;
      taken[one]?.join.push(joined - from);
      taken[one]?.page.push(performance.now() - joined);
    }
    client.disconnect();
    return sizes.map((messages, index) => {
      const { join = [], page = [] } = taken[index] ?? {};
      const result: OpenResult = { messages, joinMs: summarise(join), pageMs: summarise(page) };
      return record({ workload: "open a room", system: "hubbub", options: { messages }, result });
    });
  } finally {
    await at.stop();
  }
}

/** A stock client of one of the town's people. */
export async function clientOf({ system }: Stage, member: number): Promise<Socket> {
  const client = io(`http://${system.host}:${system.ports[0]}`, {
    transports: ["websocket"],
    extraHeaders: { cookie: system.members[member]?.cookie ?? "" },
    forceNew: true,
  });
  await new Promise<void>((resolve, reject) => {
    client.once("connect", resolve);
    client.once("connect_error", reject);
  });
  return client;
}

/** CPU of the system, Redis included, in µs since now. */
export function watch({ system }: Pick<Stage, "system">): () => number {
  const sum = () => system.parts.reduce((ns, { pid }) => ns + cpuNs(pid), 0);
  const from = sum();
  return () => (sum() - from) / 1_000;
}

export type ChurnResult = { joined: number; seconds: number; framesPerSecond: number; mostPerSecond: number };

/** 1,000 people come within ten seconds while 50 others look on. */
async function churn(): Promise<Run[]> {
  const watching = 50;
  const at = await stage("hubbub", { town: crowd(watching + 1_000) }, { members: watching });
  try {
    await at.generator.order("heard", watching);
    const from = performance.now();
    const coming = at.system.members.slice(watching);
    await connect(at, at.system.ports[0] ?? 0, coming, { perSecond: 100, concurrency: 100 });
    await sleep(1_500);
    const seconds = (performance.now() - from) / 1_000;
    const { total, most } = await at.generator.order("heard", watching);
    const result: ChurnResult = {
      joined: coming.length,
      seconds,
      framesPerSecond: total / watching / seconds,
      mostPerSecond: most / seconds,
    };
    return [record({ workload: "churn", system: "hubbub", options: { joins: coming.length }, result })];
  } finally {
    await at.stop();
  }
}

export type ReturnResult = {
  members: number;
  sent: number;
  missing: number;
  backMs: number;
  /** CPU of the system until all were back, in µs for each of them. */
  cpuUs: number;
  handshakeMs: Summary | null;
};

/** 5,000 connections break at once and come back at once, while others go on talking. */
export async function comeBack({ without, label = "come back" }: Without = {}): Promise<Run[]> {
  const members = 5_000;
  const at = await stage("hubbub", { town: crowd(members + 1), ...(without && { without }) }, { members });
  try {
    const talker = await clientOf(at, members);
    const say = (message: string, nonce: string) =>
      talker.emitWithAck("message", { roomId: GENERAL, message, nonce }) as Promise<Reply<Message>>;
    const first = await say("Before it breaks.", "first");
    if (!first.ok) throw new Error(first.error.message);
    const { seq, date, hash } = first.value;
    await sleep(500);
    await at.generator.order("close");
    const limit = 190;
    const cursor = JSON.stringify({ roomId: GENERAL, seq, date, hash });
    await at.generator.order("expect", { cursor, messages: limit });
    let sent = 0;
    let back = false;
    const talking = (async () => {
      for (; !back && sent < limit; sent += 1) {
        const reply = await say(markedText(sent, 0, BYTES), `back${sent}`);
        if (!reply.ok) throw new Error(reply.error.message);
        await sleep(50);
      }
    })();
    const theirs = at.system.members.slice(0, members);
    const used = watch(at);
    const connected = await connect(at, at.system.ports[0] ?? 0, theirs, { concurrency: members });
    const cpuUs = used() / members;
    back = true;
    await talking;
    await sleep(2_000);
    const { missing } = await at.generator.order("missing", sent);
    talker.disconnect();
    const { ms: backMs, handshakeMs } = connected;
    const result: ReturnResult = { members, sent, missing, backMs, cpuUs, handshakeMs };
    const verdict = missing > 0 ? "failed" : "ok";
    const reasons = missing > 0 ? [`${missing} messages missing`] : [];
    const options = { members, ...(without && { without }) };
    return [record({ workload: label, system: "hubbub", options, result, verdict, reasons })];
  } finally {
    await at.stop();
  }
}

/** The least that writes to 500 sockets take, one frame in each and those of 50 ms, and Hubbub without its batches. */
async function ladder(): Promise<Run[]> {
  const runs: Run[] = [];
  const floors: SystemName[] = sendProgram() ? ["C send", "socket.write"] : ["socket.write"];
  const rungs: [SystemName, env: Record<string, string>][] = floors.flatMap((name) => [
    [name, { WINDOW: "0" }],
    [name, { WINDOW: "50" }],
  ]);
  rungs.push(["hubbub", { BATCH_WINDOW: "0" }]);
  for (const [system, env] of rungs)
    runs.push(...(await hotRoom(system, [100, 400], { env, seconds: 3, label: "ladder" })));
  return runs;
}

/** What quiet rooms and idle connections are compared on. */
const COMPARED: SystemName[] = ["hubbub", "socket.io classic", "socket.io classic tier 1", "ws", "ws tier 3"];
/** In tier 3 the peers tell everybody of everybody: with thousands of members that is another workload. */
const IDLE: SystemName[] = ["hubbub", "socket.io classic tier 1", "ws"];

/** Each answers its runs; those that compare take the systems, and how often each has its turn. */
export const WORKLOADS: Record<
  string,
  (systems?: SystemName[], repeats?: number, connections?: number) => Promise<Run[]>
> = {
  calibration,
  hot: (systems = ["hubbub"], repeats = 1) =>
    inTurns(systems, repeats, (system) => hotRoom(system, [20, 100, 400, 1_000])),
  quiet: (systems = COMPARED, repeats = 1) => inTurns(systems, repeats, quietRooms),
  idle: (systems = IDLE) =>
    inTurns(systems, 1, (system) => idle(system, [0, 1_000, system === "hubbub" ? 10_000 : 8_000])),
  many: (_systems, _repeats, connections = 90_000) => many(connections),
  redis: redisCost,
  replicas,
  pages,
  open: () => openRoom(),
  churn,
  return: () => comeBack(),
  ladder: (_systems, repeats = 1) => inTurns(["hubbub"], repeats, ladder),
};

async function inTurns(
  systems: SystemName[],
  repeats: number,
  work: (system: SystemName) => Promise<Run[]>,
): Promise<Run[]> {
  const runs: Run[] = [];
  for (let repeat = 0; repeat < repeats; repeat += 1)
    for (const system of systems) runs.push(...(await work(system)));
  return runs;
}
