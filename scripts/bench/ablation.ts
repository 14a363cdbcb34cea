import { setTimeout as sleep } from "node:timers/promises";
import type { Socket } from "socket.io-client";
import { GENERAL, type Message, type Reply } from "../../server/src/protocol.ts";
import type { LoadResult } from "./generator.ts";
import { connect, judge, load, quiet, record, stage, type Run, type Stage } from "./run.ts";
import { cpuNs, rss } from "./system.ts";
import { MEASURES, TECHNIQUES, type Ablation, type TechniqueName } from "./techniques.ts";
import { clientOf, crowd, hotRoom, onReplicas, order, readPages, towns } from "./workloads.ts";

/** Each technique, and each piece of advice that is often heard, on and off. */

/** Enough that a difference can be told from chance. */
const TURNS = 5;

/** How a turn differs from the one as it is. */
type Variant = { without?: TechniqueName; connections?: "new"; deflate?: "on" };

/** A turn of each part, and what it has besides techniques. Only techniques that are measured on it have turns. */
const PARTS: Record<Ablation, { turn: (variant: Variant, label: string) => Promise<Run[]>; also?: Variant }> =
  {
    ablation: {
      turn: (variant, label) => hotRoom("hubbub", [20, 400], { ...variant, seconds: 2, label }),
    },
    reading: {
      turn: (variant, label) =>
        readPages("hubbub", {
          ...variant,
          pages: variant.connections ? [1] : [1, 32],
          seconds: [2, 2],
          label,
        }),
      also: { connections: "new" },
    },
    joining: { turn: joining },
    handshake: { turn: handshakes },
    private: { turn: privateRooms },
    memory: { turn: memory },
    channels: {
      turn: async (variant, label) => [await onReplicas(4, { ...variant, idleSeconds: 2, label })],
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
export const ABLATIONS = Object.fromEntries(
  Object.entries(PARTS).map(([name, { turn, also }]) => {
    const ablation = name as Ablation;
    const techniques = Object.entries(TECHNIQUES).filter(([, { on }]) =>
      on.some((measure) => MEASURES[measure].ablation === ablation),
    );
    const variants: Variant[] = [
      {},
      ...techniques.map(([without]) => ({ without: without as TechniqueName })),
      ...(also ? [also] : []),
    ];
    const run = async () => {
      const runs: Run[] = [];
      for (let count = 0; count < TURNS; count += 1)
        for (const variant of variants) runs.push(...(await turn(variant, labelOf(ablation))));
      return runs;
    };
    return [name, run];
  }),
);

/** CPU of the system, Redis included, in µs since now. */
function watch({ system }: Pick<Stage, "system">): () => number {
  const sum = () => system.parts.reduce((ns, { pid }) => ns + cpuNs(pid), 0);
  const from = sum();
  return () => (sum() - from) / 1_000;
}

/** CPU in µs of one answer, and in ms a second while nothing happens. */
export type JoiningResult = { members: number; joinUs: number; syncUs: number; idleMs: number };

const ASKERS = 16;
const ASKED = 3_000;
const BEHIND = 40;
const IDLE_MS = 2_000;

/** What a busy room's newest messages cost whoever opens it, and whoever comes back to it, while nobody speaks. */
async function joining({ without }: Variant, label: string): Promise<Run[]> {
  const members = 100;
  const options = { town: crowd(members + ASKERS), ...(without && { without }) };
  const at = await stage("hubbub", options, { members });
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
    return [
      record({
        workload: label,
        system: "hubbub",
        options: { members, ...(without && { without }) },
        result,
      }),
    ];
  } finally {
    for (const client of clients) client.disconnect();
    await at.stop();
  }
}

export type HandshakeResult = { connections: number; cpuUs: number; toldUs: number };

/**
 * What it costs to open a WebSocket, sign in and hear one's rooms, which is what a connection for each message would
 * cost; and what it costs until others who are there know.
 */
async function handshakes({ without }: Variant, label: string): Promise<Run[]> {
  const members = 500;
  const at = await stage("hubbub", { town: towns(2 * members, 2), ...(without && { without }) }, { members });
  try {
    const used = watch(at);
    await connect(at, at.system.ports[0] ?? 0, at.system.members.slice(members));
    const cpuUs = used() / members;
    await sleep(1_500);
    const result: HandshakeResult = { connections: members, cpuUs, toldUs: used() / members };
    const options = { connections: members, ...(without && { without }) };
    return [record({ workload: label, system: "hubbub", options, result })];
  } finally {
    await at.stop();
  }
}

export type PrivateResult = LoadResult & { messageUs: number };

/** 200 private rooms: what a message costs where handing it out is next to nothing. */
async function privateRooms({ without }: Variant, label: string): Promise<Run[]> {
  const { members } = towns(400, 2);
  const roomIds = Array.from(
    { length: members.length / 2 },
    (_, index) => `${2 * index + 1}:${2 * index + 2}`,
  );
  const at = await stage("hubbub", { town: { roomIds, members }, ...(without && { without }) });
  try {
    const loaded = await load(at, order(800, { warmRate: 800, measureSeconds: 3 }));
    const messageUs = (loaded.cpuUsAll * loaded.deliveries) / (800 * loaded.seconds);
    const options = { rooms: roomIds.length, rate: 800, ...(without && { without }) };
    const result: PrivateResult = { ...loaded, messageUs };
    return [record({ workload: label, system: "hubbub", options, result, ...judge(loaded) })];
  } finally {
    await at.stop();
  }
}

export type MemoryResult = {
  connections: number;
  /** Bytes of the replica in memory with the first connections, and what each of the further ones added. */
  server: number;
  connectionBytes: number;
};

const FIRST_CONNECTIONS = 1_000;
const FURTHER_CONNECTIONS = 2_000;
const SETTLE_MS = 1_500;

/** The server's memory with connections in which nothing happens. */
async function memory({ without }: Variant, label: string): Promise<Run[]> {
  const connections = FIRST_CONNECTIONS + FURTHER_CONNECTIONS;
  const at = await stage("hubbub", { town: crowd(connections), ...(without && { without }) }, { members: 0 });
  try {
    const pid = at.system.parts.find(({ name }) => name === "replica")?.pid ?? 0;
    const come = async (from: number, to: number) => {
      const theirs = at.system.members.slice(from, to);
      await connect(at, at.system.ports[0] ?? 0, theirs, { concurrency: 32 });
      await quiet(at.generator);
      await sleep(SETTLE_MS);
      return rss(pid);
    };
    const server = await come(0, FIRST_CONNECTIONS);
    const connectionBytes = ((await come(FIRST_CONNECTIONS, connections)) - server) / FURTHER_CONNECTIONS;
    const result: MemoryResult = { connections, server, connectionBytes };
    const options = { connections, ...(without && { without }) };
    return [record({ workload: label, system: "hubbub", options, result })];
  } finally {
    await at.stop();
  }
}

/** A load's figures, and the bytes of memory that a connection takes once it was used. */
export type DeflateResult = LoadResult & { connectionBytes: number };

const DEFLATE_MEMBERS = 200;
const DEFLATE_RATES = [5, 20];

/** Socket.IO with and without `perMessageDeflate: true`, before clients that offer it as browsers do. */
async function deflated({ deflate: DEFLATE = "off" as const }: { deflate?: "on" | "off" }, label: string) {
  const members = DEFLATE_MEMBERS;
  const at = await stage("socket.io classic", { town: crowd(members), env: { DEFLATE } }, { members: 0 });
  try {
    const pid = at.system.parts.find(({ name }) => name === "replica")?.pid ?? 0;
    const before = rss(pid);
    await connect(at, at.system.ports[0] ?? 0, at.system.members);
    await quiet(at.generator);
    const runs: Run<DeflateResult>[] = [];
    for (const rate of DEFLATE_RATES) {
      const loaded = await load(at, order(rate, { measureSeconds: 3, warmRate: rate, words: true }));
      const result = { ...loaded, connectionBytes: (rss(pid) - before) / members };
      const options = { members, rate, DEFLATE };
      runs.push(record({ workload: label, system: "socket.io classic", options, result, ...judge(loaded) }));
    }
    return runs;
  } finally {
    await at.stop();
  }
}
