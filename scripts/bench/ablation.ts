import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Socket } from "socket.io-client";
import { WebSocket } from "ws";
import { GENERAL, type Message, type Reply } from "../../server/src/protocol.ts";
import { freePort } from "../redis.ts";
import type { LoadResult } from "./generator.ts";
import { connect, judge, load, quiet, record, stage, type Run, type Stage } from "./run.ts";
import { rss } from "./system.ts";
import { MEASURES, TECHNIQUES, type Ablation, type Measure, type TechniqueName } from "./techniques.ts";
import {
  clientOf,
  comeBack,
  crowd,
  hotRoom,
  onReplicas,
  order,
  readPages,
  towns,
  watch,
} from "./workloads.ts";

/** Each technique, and each piece of advice that is often heard, on and off. */

/** Enough that a difference can be told from chance. */
const TURNS = 5;

/** What is taken out in a turn; nothing in the one as it is. */
type Taken = { without?: TechniqueName };
/** How a turn differs from the one as it is. */
type Variant = Taken & { connections?: "new"; deflate?: "on" };
type Turn = {
  variant: Variant;
  label: string;
  /** What is to be measured: the values of an option, in the order of MEASURES. */
  values: (option: string) => number[];
};

/** A turn of each part, and what it has besides techniques. Only techniques that are measured on it have turns. */
const PARTS: Record<Ablation, { turn: (turn: Turn) => Promise<Run[]>; also?: Variant }> = {
  ablation: {
    turn: ({ variant, label, values }) =>
      hotRoom("hubbub", values("rate"), { ...variant, seconds: 2, label }),
  },
  reading: {
    turn: ({ variant, label, values }) =>
      readPages("hubbub", {
        ...variant,
        pages: variant.connections ? [1] : values("pages"),
        seconds: [1, 1.5],
        label,
      }),
    also: { connections: "new" },
  },
  joining: { turn: joining },
  handshake: { turn: handshakes },
  returning: { turn: ({ variant, label }) => comeBack({ ...variant, label }) },
  private: { turn: privateRooms },
  memory: { turn: memory },
  channels: {
    turn: async ({ variant, label }) => [await onReplicas(4, { ...variant, brief: true, label })],
  },
  deflate: { turn: deflated, also: { deflate: "on" } },
};

/** What a part of the ablation is called among the runs. */
export function labelOf(ablation: Ablation): string {
  return ablation === "ablation" ? ablation : `ablation ${ablation}`;
}

/**
 * The parts, by name. All variants have their turn, one after the other, again and again, so that all see the same
 * weather.
 */
export const ABLATIONS: Record<string, () => Promise<Run[]>> = Object.fromEntries(
  Object.keys(PARTS).map((name) => [name, () => inTurns(name as Ablation)]),
);

async function inTurns(ablation: Ablation): Promise<Run[]> {
  const runs: Run[] = [];
  const turns = turnsOf(ablation);
  for (let count = 0; count < TURNS; count += 1) {
    // Each begins elsewhere: nothing is always behind the same one.
    const first = Math.floor((count * turns.length) / TURNS);
    for (const turn of [...turns.slice(first), ...turns.slice(0, first)])
      runs.push(...(await PARTS[ablation].turn(turn)));
  }
  return runs;
}

/** As it is, without each technique that is measured here, and what else there is. */
export function turnsOf(ablation: Ablation): Turn[] {
  const { also } = PARTS[ablation];
  const label = labelOf(ablation);
  const here = Object.values(MEASURES).filter((measure) => measure.ablation === ablation);
  const turns: Turn[] = [];
  const add = (variant: Variant, measures: Measure[]) => {
    const values = (option: string) => [
      ...new Set(measures.flatMap(({ options }) => options?.[option] ?? [])),
    ];
    turns.push({ variant, label, values });
  };
  add({}, here);
  for (const [name, { on }] of Object.entries(TECHNIQUES)) {
    const measures = here.filter((measure) => on.some((one) => MEASURES[one] === measure));
    if (measures.length > 0) add({ without: name as TechniqueName }, measures);
  }
  if (also) add(also, here);
  return turns;
}

/** CPU in µs of one answer, and in ms a second while nothing happens. */
export type JoiningResult = { members: number; joinUs: number; syncUs: number; idleMs: number };

const ASKERS = 16;
const ASKED = 2_000;
const BEHIND = 40;
const IDLE_MS = 2_000;

/** What a busy room's newest messages cost whoever opens it, and whoever comes back to it, while nobody speaks. */
async function joining({ variant, label }: Turn): Promise<Run[]> {
  const members = 100;
  const at = await stage("hubbub", { town: crowd(members + ASKERS), ...variant }, { members });
  const clients: Socket[] = [];
  try {
    for (let index = 0; index < ASKERS; index += 1) clients.push(await clientOf(at, members + index));
    const ask = async <Value>(client: Socket | undefined, event: string, asked: unknown): Promise<Value> => {
      const reply = (await client?.emitWithAck(event, asked)) as Reply<Value>;
      if (!reply.ok) throw new Error(reply.error.message);
      return reply.value;
    };
    const idle = watch(at);
    await sleep(IDLE_MS);
    const idleMs = idle() / IDLE_MS;
    const said: Message[] = [];
    for (let index = 0; index < 60; index += 1) {
      const message = `Message ${index} ${"of a room that is busy ".repeat(6)}`;
      said.push(await ask(clients[0], "message", { roomId: GENERAL, message, nonce: `said${index}` }));
    }
    const { seq, date, hash } = said.at(-1 - BEHIND) ?? {};
    const each = async (event: string, asked: unknown, check: (value: never) => number, rows: number) => {
      const all = async (count: number) => {
        let left = count;
        await Promise.all(
          clients.map(async (client) => {
            while (left > 0) {
              left -= 1;
              const got = check(await ask(client, event, asked));
              if (got !== rows) throw new Error(`${event} answered ${got} messages`);
            }
          }),
        );
      };
      await all(ASKED / 2);
      const used = watch(at);
      await all(ASKED);
      return used() / ASKED;
    };
    type Synced = { rooms: { messages: unknown[] }[] };
    const cursor = { roomId: GENERAL, seq, date, hash };
    const result: JoiningResult = {
      members,
      idleMs,
      joinUs: await each(
        "room.join",
        { roomId: GENERAL },
        ({ messages }: { messages: unknown[] }) => messages.length,
        50,
      ),
      syncUs: await each(
        "sync",
        { rooms: [cursor] },
        ({ rooms }: Synced) => rooms[0]?.messages.length ?? 0,
        BEHIND,
      ),
    };
    const options = { members, ...variant };
    return [record({ workload: label, system: "hubbub", options, result })];
  } finally {
    for (const client of clients) client.disconnect();
    await at.stop();
  }
}

export type HandshakeResult = { connections: number; cpuUs: number };

/** What it costs to open a WebSocket, sign in and hear one's rooms: what a connection for each message would cost. */
async function handshakes({ variant, label }: Turn): Promise<Run[]> {
  const members = 500;
  const at = await stage("hubbub", { town: towns(2 * members, 2), ...variant }, { members });
  try {
    const used = watch(at);
    await connect(at, at.system.ports[0] ?? 0, at.system.members.slice(members));
    const result: HandshakeResult = { connections: members, cpuUs: used() / members };
    const options = { connections: members, ...variant };
    return [record({ workload: label, system: "hubbub", options, result })];
  } finally {
    await at.stop();
  }
}

export type PrivateResult = LoadResult & { messageUs: number };

/** 200 private rooms: what a message costs where handing it out is next to nothing. */
async function privateRooms({ variant, label }: Turn): Promise<Run[]> {
  const { members } = towns(400, 2);
  const roomIds = Array.from(
    { length: members.length / 2 },
    (_, index) => `${2 * index + 1}:${2 * index + 2}`,
  );
  const at = await stage("hubbub", { town: { roomIds, members }, ...variant });
  try {
    const loaded = await load(at, order(800, { warmRate: 800, measureSeconds: 2 }));
    const messageUs = (loaded.cpuUsAll * loaded.deliveries) / (800 * loaded.seconds);
    const options = { rooms: roomIds.length, rate: 800, ...variant };
    const result: PrivateResult = { ...loaded, messageUs };
    return [record({ workload: label, system: "hubbub", options, result, ...judge(loaded) })];
  } finally {
    await at.stop();
  }
}

export type MemoryResult = {
  connections: number;
  /** Bytes of the replica in memory, and what each connection added to them. */
  server: number;
  connectionBytes: number;
  /** Bytes of its heap, once the garbage is collected. */
  heap: number;
};

const CONNECTIONS = 2_000;
const SETTLE_MS = 1_500;

/** The server's memory with connections in which nothing happens. */
async function memory({ variant, label }: Turn): Promise<Run[]> {
  const inspected = await freePort();
  const nodeArgs = [`--inspect-port=127.0.0.1:${inspected}`, "--inspect-publish-uid=http"];
  const at = await stage("hubbub", { town: crowd(CONNECTIONS), nodeArgs, ...variant }, { members: 0 });
  try {
    const pid = replicaOf(at);
    const before = rss(pid);
    await connect(at, at.system.ports[0] ?? 0, at.system.members, { concurrency: 32 });
    await quiet(at.generator);
    await sleep(SETTLE_MS);
    const server = rss(pid);
    const result: MemoryResult = {
      connections: CONNECTIONS,
      server,
      connectionBytes: (server - before) / CONNECTIONS,
      heap: await heapInUse(pid, inspected),
    };
    const options = { connections: CONNECTIONS, ...variant };
    return [record({ workload: label, system: "hubbub", options, result })];
  } finally {
    await at.stop();
  }
}

function replicaOf({ system }: Stage): number {
  return system.parts.find(({ name }) => name === "replica")?.pid ?? 0;
}

/** By Node's inspector, which listens at this port from now on. */
async function heapInUse(pid: number, port: number): Promise<number> {
  process.kill(pid, "SIGUSR1");
  const listed = async () => (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  let targets: unknown;
  for (let tries = 0; !targets && tries < 50; tries += 1) {
    await sleep(100);
    targets = await listed().catch(() => undefined);
  }
  const [target] = targets as { webSocketDebuggerUrl: string }[];
  const socket = new WebSocket(target?.webSocketDebuggerUrl ?? "");
  await once(socket, "open");
  const ask = async (method: string) => {
    socket.send(JSON.stringify({ id: 1, method }));
    const [answer] = (await once(socket, "message")) as [Buffer];
    return (JSON.parse(answer.toString()) as { result: { usedSize: number } }).result;
  };
  await ask("HeapProfiler.collectGarbage");
  const { usedSize } = await ask("Runtime.getHeapUsage");
  socket.terminate();
  return usedSize;
}

/** A load's figures, and the bytes of memory that a connection takes once it was used. */
export type DeflateResult = LoadResult & { connectionBytes: number };

const DEFLATE_MEMBERS = 200;

/** Socket.IO with and without `perMessageDeflate: true`, before clients that offer it as browsers do. */
async function deflated({ variant, label, values }: Turn): Promise<Run[]> {
  const members = DEFLATE_MEMBERS;
  const DEFLATE = variant.deflate ?? "off";
  const at = await stage("socket.io classic", { town: crowd(members), env: { DEFLATE } }, { members: 0 });
  try {
    const pid = replicaOf(at);
    const before = rss(pid);
    await connect(at, at.system.ports[0] ?? 0, at.system.members);
    await quiet(at.generator);
    const runs: Run<DeflateResult>[] = [];
    for (const rate of values("rate")) {
      const loaded = await load(at, order(rate, { measureSeconds: 2, warmRate: rate, words: true }));
      const result = { ...loaded, connectionBytes: (rss(pid) - before) / members };
      const options = { members, rate, DEFLATE };
      runs.push(record({ workload: label, system: "socket.io classic", options, result, ...judge(loaded) }));
    }
    return runs;
  } finally {
    await at.stop();
  }
}
