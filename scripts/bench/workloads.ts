import { setTimeout as sleep } from "node:timers/promises";
import { io, type Socket } from "socket.io-client";
import { readConfig } from "../../server/src/config.ts";
import { createKeys } from "../../server/src/keys.ts";
import type { Hits, Message, Page, Reply } from "../../server/src/protocol.ts";
import { GENERAL } from "../../server/src/store/kinds.ts";
import { Log } from "../../server/src/store/log.ts";
import type { RedisClient } from "../../server/src/store/redis.ts";
import { startGenerator } from "./drive.ts";
import { markedText } from "./marks.ts";
import type { LoadOrder } from "./generator.ts";
import { connect, failedBy, judge, load, onStage, quiet, record, type Run, type Stage } from "./run.ts";
import { kernelMemory, memoryOf, used } from "../machine.ts";
import type { SystemName, Target, Town } from "./systems.ts";
import {
  CHANGES,
  IDLE,
  LOAD,
  READING,
  RETURN,
  SEARCH,
  type IdleResult,
  type ReturnResult,
  type SearchResult,
} from "./tables.ts";

/** The workloads. Each answers its runs, which are already in files. */

/** Sizes from the command line; a workload has its own for the others. */
export type Sizes = {
  rates?: number[];
  members?: number;
  seconds?: number;
  connections?: number;
  messages?: number[];
  env?: Record<string, string>;
};

export type Workload = {
  about: string;
  /** What it runs on by default. */
  systems: SystemName[];
  run: (target: Target, sizes: Sizes) => Promise<Run[]>;
};

/** So many members, all in General. */
function crowd(members: number): Town {
  return { roomIds: [GENERAL], members: Array.from({ length: members }, () => ({ rooms: [0] })) };
}

/** Members spread evenly over rooms, each in one of them. */
function towns(members: number, each: number): Town {
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
    warmRate: Math.min(400, Math.max(rate, 50)),
    measureSeconds: 5,
    ...more,
  };
}

/** One room with many members; one server, one rate after the other, slow ones first. */
export async function hot(target: Target, sizes: Sizes): Promise<Run[]> {
  const { members = 500, seconds = 4, env = {} } = sizes;
  // The peers fall behind at 400: higher rates would only make their queue longer.
  const rates = sizes.rates ?? (target.system === "hubbub" ? [20, 100, 400, 1_000] : [20, 100, 400]);
  return onStage(target, { town: crowd(members), env }, async (at) => {
    const runs: Run[] = [];
    for (const rate of rates) {
      // A run ends only when a saturated system has worked off its queue: measure high rates for less time.
      const measureSeconds = rate >= 1_000 ? Math.ceil(seconds / 2) : seconds;
      // A new process compiles for seconds.
      const warmSeconds = runs.length === 0 ? 8 : 2;
      const result = await load(at, order(rate, { measureSeconds, warmSeconds }));
      runs.push(record("hot", target, { members, rate, ...env }, LOAD, result, judge(result)));
    }
    return runs;
  });
}

/** 100 rooms of 10, 80 random messages a second over all of them. */
async function quietRooms(target: Target, { seconds = 5, env = {} }: Sizes): Promise<Run[]> {
  return onStage(target, { town: towns(1_000, 10), env }, async (at) => {
    const more = { arrivals: "poisson", measureSeconds: seconds, warmRate: 400, warmSeconds: 6 } as const;
    const result = await load(at, order(80, more));
    return [record("quiet", target, { rooms: 100, members: 10, rate: 80 }, LOAD, result, judge(result))];
  });
}

/** Below the limit of 20,000 descriptors a process. */
const MOST_PER_PROCESS = 18_000;
/** Everybody is told of everybody's arrival: work that grows with the square would be another workload. */
const MOST_PEOPLE = 10_000;

/**
 * The memory of open, silent connections. If there are too many for one process, several replicas share them, each with
 * its own generator, and some people have several connections.
 */
async function idle(target: Target, sizes: Sizes): Promise<Run[]> {
  const counts = sizes.connections
    ? [sizes.connections]
    : [1_000, target.system === "hubbub" ? 10_000 : 8_000];
  const most = Math.max(...counts);
  const replicas = most > MOST_PER_PROCESS ? Math.max(5, Math.ceil(most / MOST_PER_PROCESS)) : 1;
  const people = Math.min(most, MOST_PEOPLE);
  return onStage(target, { town: crowd(people), replicas, env: sizes.env, connected: 0 }, async (at) => {
    const generators = [at.generator];
    try {
      while (generators.length < replicas) generators.push(await startGenerator());
      const { system } = at;
      const pids = (name: string) => system.parts.flatMap((part) => (part.name === name ? [part.pid] : []));
      await sleep(3_000);
      let server = memoryOf(pids("replica"));
      const kernel = kernelMemory();
      const runs: Run[] = [];
      let open = 0;
      for (const connections of counts) {
        const each = Math.ceil((connections - open) / replicas);
        let ms = 0;
        for (const [replica, generator] of generators.entries()) {
          const from = open + replica * each;
          const members = Array.from(
            { length: Math.min(each, connections - from) },
            (_, index) => system.members[(from + index) % people] ?? { cookie: "", rooms: [0] },
          );
          ms += (await connect({ ...at, generator }, members, 32, { replica })).ms;
        }
        for (const generator of generators) await quiet(generator);
        await sleep(4_000);
        const before = used(system.parts, "replica");
        await sleep(3_000);
        const memory = memoryOf(pids("replica"));
        const result: IdleResult = {
          server: memory,
          each: (memory - server) / (connections - open),
          redis: memoryOf(pids("redis")),
          kernel: kernelMemory() - kernel,
          perSecond: (1_000 * (connections - open)) / ms,
          idleUs: (used(system.parts, "replica") - before) / 3_000 / connections,
        };
        open = connections;
        server = memory;
        runs.push(record("idle", target, { connections, replicas }, IDLE, result));
      }
      return runs;
    } finally {
      for (const generator of generators.slice(1)) await generator.stop();
    }
  });
}

/** 5,000 connections break at once and come back at once, while another goes on talking. */
async function comeBack(target: Target, { connections: members = 5_000, env }: Sizes): Promise<Run[]> {
  return onStage(target, { town: crowd(members + 1), env, connected: members }, async (at) => {
    const { system, generator } = at;
    const talker = await clientOf(at, members);
    const { seq, date, hash } = await say(talker, GENERAL, "Before it breaks.", "first");
    await sleep(500);
    await generator.order("close");
    const limit = 190;
    const returning = { cursor: JSON.stringify({ roomId: GENERAL, seq, date, hash }), messages: limit };
    let sent = 0;
    let back = false;
    const talking = (async () => {
      for (; !back && sent < limit; sent += 1) {
        await say(talker, GENERAL, markedText(sent, 0), `back${sent}`);
        await sleep(50);
      }
    })();
    const before = used(system.parts);
    const { ms: backMs, handshakeMs } = await connect(at, system.members.slice(0, members), members, {
      returning,
    });
    const cpuUs = (used(system.parts) - before) / 1_000 / members;
    back = true;
    await talking;
    await sleep(2_000);
    const missing = await generator.order("missing", sent);
    talker.disconnect();
    const result: ReturnResult = { backMs, cpuUs, handshakeMs: handshakeMs?.p50, sent, missing };
    const judged = failedBy({ "messages missing": missing });
    return [record("return", target, { members }, RETURN, result, judged)];
  });
}

/**
 * 500 people react within 5 s: to one message while 20 a second are sent, and to 50 messages while 400 are; each also
 * without reactions.
 */
async function changes(target: Target, { members = 500, seconds = 5, env }: Sizes): Promise<Run[]> {
  return onStage(target, { town: crowd(members), env }, async (at) => {
    await fill(at, 0, [[GENERAL, 50]]);
    if (!(await react(at, [50], 1))) throw new Error("this build knows no reactions");
    const runs: Run[] = [];
    for (const [rate, messages] of [
      [20, 1],
      [400, 50],
    ] as const) {
      let quietNs = 0;
      for (const reactions of [0, members / 5]) {
        const seqs = Array.from({ length: messages }, (_, index) => index + 1);
        const more = reactions > 0 && { reactions: { rate: reactions, seqs } };
        const loaded = await load(at, order(rate, { measureSeconds: seconds, ...more }));
        const usedNs = loaded.cpuUsAll * loaded.deliveries;
        if (reactions === 0) quietNs = usedNs;
        const due = reactions * seconds;
        const result = { ...loaded, changeUs: due === 0 ? undefined : (usedNs - quietNs) / due };
        const judged = failedBy({ "reactions not answered": due - loaded.reacted }, judge(loaded));
        runs.push(record("changes", target, { members, rate, reactions }, CHANGES, result, judged));
      }
    }
    return runs;
  });
}

/** Searches all messages for a word that nobody used, while 50 people talk. */
async function search(target: Target, { messages: wanted, seconds = 5, env }: Sizes): Promise<Run[]> {
  const runs: Run[] = [];
  for (const messages of wanted ?? [10_000, 100_000]) {
    await onStage(target, { town: crowd(50), env }, async (at) => {
      const { parts, redis } = at.system;
      await store(redis, messages);
      const talk = () => load(at, order(20, { measureSeconds: seconds }));
      const before = await talk();
      const [began, redisNs, serverNs] = [performance.now(), used(parts, "redis"), used(parts, "replica")];
      let over = false;
      const talking = talk().finally(() => (over = true));
      let [calls, scans] = [0, 0];
      do {
        let cursor: string | undefined;
        do {
          const asked = new URLSearchParams({ q: "xylophone", ...(cursor !== undefined && { cursor }) });
          ({ cursor } = await get<Hits>(at, `/api/search?${asked}`));
          calls += 1;
        } while (cursor !== undefined);
        scans += 1;
      } while (!over);
      const result: SearchResult = {
        ms: (performance.now() - began) / scans,
        calls: calls / scans,
        redisMs: (used(parts, "redis") - redisNs) / 1e6 / scans,
        serverMs: (used(parts, "replica") - serverNs) / 1e6 / scans,
        quietP99: before.latencyMs?.p99,
        p99: (await talking).latencyMs?.p99,
      };
      runs.push(record("search", target, { messages }, SEARCH, result));
    });
  }
  return runs;
}

async function get<T>({ system: { host, ports, members } }: Stage, path: string): Promise<T> {
  const headers = { cookie: members[0]?.cookie ?? "" };
  const answer = await fetch(`http://${host}:${ports[0]}${path}`, { headers });
  if (!answer.ok) throw new Error(`${path} was answered with ${answer.status}`);
  return (await answer.json()) as T;
}

/** Writes so many messages into General, without the server. */
async function store(redis: RedisClient | null, messages: number): Promise<void> {
  if (redis === null) throw new Error("this system has no Redis to search");
  const log = new Log(redis, createKeys(""), readConfig({ REDIS_URL: "redis://127.0.0.1" }));
  for (let start = 0; start < messages; start += 500) {
    const some = Array.from({ length: Math.min(500, messages - start) }, (_, index) => ({
      from: "1",
      message: `Message ${start + index} of an old conversation, of a hundred characters as most are, and no longer.`,
      date: 1_600_000_000_000 + (start + index) * 1_000,
    }));
    await log.load(GENERAL, some);
  }
}

const READERS = 32;
/** Of each message on a page. */
const REACTIONS = 20;

/** `GET messages`, 50 a page, on 32 connections at once: all the same page, then each its own. */
async function reading(target: Target, { seconds = 5, env }: Sizes): Promise<Run[]> {
  return onStage(target, { town: crowd(READERS), env, connected: 0 }, async (at) => {
    const { host, ports, parts, members } = at.system;
    await fill(at, 0, [[GENERAL, 50 * (READERS + 1)]]);
    const newest = Array.from({ length: 50 }, (_, index) => 50 * READERS + 1 + index);
    const cookies = members.map(({ cookie }) => cookie);
    const path = `/api/rooms/${GENERAL}/messages?size=50`;
    const paths = [path];
    while (paths.length < READERS) {
      const [oldest] = (await get<Page>(at, paths.at(-1) ?? path)).messages;
      paths.push(`${path}&before=${oldest?.date}`);
    }
    const runs: Run[] = [];
    for (const [pages, reactions] of [
      [1, 0],
      [READERS, 0],
      [1, REACTIONS],
    ] as const) {
      if (reactions > 0 && !(await react(at, newest, reactions))) break;
      const read = pages === 1 ? cookies.map(() => path) : paths;
      const asked = { host, port: ports[0] ?? 0, paths: read, cookies, parts };
      await at.generator.order("pages", { ...asked, seconds: 3 });
      const result = await at.generator.order("pages", { ...asked, seconds });
      const judged = failedBy({ "requests failed": result.failed });
      runs.push(record("reading", target, { readers: READERS, pages, reactions }, READING, result, judged));
    }
    return runs;
  });
}

/**
 * Lets so many people react to each of these messages of General; false if the build knows no reactions. Retries,
 * because a build accepts reactions only once it is sure that no older one runs beside it.
 */
async function react(at: Stage, seqs: number[], people: number): Promise<boolean> {
  const until = performance.now() + 90_000;
  for (let member = 0; member < people; member += 1) {
    const client = await clientOf(at, member);
    try {
      for (const seq of seqs) {
        const asked = { roomId: GENERAL, seq, emoji: ["👍", "🎉", "😀", "👀"][member % 4], on: true };
        const ask = () =>
          client.timeout(5_000).emitWithAck("message.react", asked) as Promise<Reply<Message>>;
        while (!(await ask().catch(() => null))?.ok) {
          if (performance.now() > until) return false;
          await sleep(1_000);
        }
      }
    } finally {
      client.disconnect();
    }
  }
  return true;
}

/** Sends so many messages to each room as this member, through the server, because only that knows its rows' form. */
export async function fill(
  at: Stage,
  member: number,
  rooms: [roomId: string, messages: number][],
): Promise<void> {
  const client = await clientOf(at, member);
  for (const [roomId, messages] of rooms) {
    for (let start = 0; start < messages; start += 100) {
      const some = Array.from({ length: Math.min(100, messages - start) }, (_, index) => start + index);
      const text = "of an old conversation ".repeat(4);
      await Promise.all(
        some.map((number) => say(client, roomId, `Message ${number} ${text}`, `fill${number}`)),
      );
    }
  }
  client.disconnect();
}

async function say(client: Socket, roomId: string, message: string, nonce: string): Promise<Message> {
  const reply = (await client.emitWithAck("message", { roomId, message, nonce })) as Reply<Message>;
  if (!reply.ok) throw new Error(reply.error.message);
  return reply.value;
}

/** Connects a stock client as this member. */
async function clientOf({ system }: Stage, member: number): Promise<Socket> {
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

export const WORKLOADS = {
  hot: {
    about: "one room of 500, at 20, 100, 400 and 1,000 messages a second",
    systems: ["hubbub", "socket.io", "ws", "nchan"],
    run: hot,
  },
  quiet: {
    about: "100 rooms of 10, 80 messages a second in all",
    systems: ["hubbub", "socket.io", "ws", "nchan"],
    run: quietRooms,
  },
  // The peers tell everybody of each arrival at once: with thousands that would be another workload.
  idle: { about: "1,000 and 10,000 silent connections", systems: ["hubbub"], run: idle },
  return: { about: "5,000 connections break and come back at once", systems: ["hubbub"], run: comeBack },
  reading: { about: "pages of 50 messages over REST, 32 at a time", systems: ["hubbub"], run: reading },
  changes: {
    about: "500 people react within 5 s, while 20 and 400 messages a second are sent",
    systems: ["hubbub"],
    run: changes,
  },
  search: {
    about: "a search through 10,000 and 100,000 messages while others talk",
    systems: ["hubbub"],
    run: search,
  },
  app: {
    about: "the app in Chromium",
    systems: ["hubbub"],
    // Load Playwright only when it is needed.
    run: async (target, sizes) => (await import("./app.ts")).app(target, sizes),
  },
} satisfies Record<string, Workload>;

/**
 * Runs each target once a turn, in reverse order every second turn, so that drift affects all alike; or all at once, so
 * that noise does too. Passes runs on as they come; if one throws, notes why in `broken` and goes on.
 */
export async function inTurns(
  { run }: Workload,
  targets: Target[],
  { repeats, sizes, atOnce }: { repeats: number; sizes: Sizes; atOnce: boolean },
  told: (runs: Run[]) => void,
  broken: string[],
): Promise<void> {
  const one = async (target: Target) => {
    try {
      told(await run(target, sizes));
    } catch (error) {
      broken.push(`${target.name} broke off: ${error instanceof Error ? error.message : String(error)}`);
      process.stderr.write(`${broken.at(-1)}\n`);
    }
  };
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    const turn = repeat % 2 === 0 ? targets : targets.toReversed();
    if (atOnce) await Promise.all(turn.map(one));
    else for (const target of turn) await one(target);
  }
}
