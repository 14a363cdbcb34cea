import { setTimeout as sleep } from "node:timers/promises";
import type { Message } from "../../server/src/protocol.ts";
import { Members } from "../../server/src/store/members.ts";
import { percentile } from "../statistics.ts";
import { becomes, type Person, type Replica, type Stage } from "./stage.ts";
import { Talker } from "./wire.ts";

/** People who talk all the time across both replicas, and measure what an attack does to them. */
export type Bystanders = {
  /** The named room where they talk. */
  roomId: string;
  /** Starts a new measurement. */
  begin: () => void;
  /** The figures since `begin`. */
  figures: () => Figures;
  /** Messages since the start that were acknowledged but are not in the log. */
  missing: () => Promise<number>;
  /** Who is not connected, and why the server let them in no more. */
  absent: () => string[];
  /** What bystanders heard twice, out of order or not at all, since the last call. */
  faults: () => string[];
  /** The faults that remain once every message had time to arrive. */
  settle: () => Promise<string[]>;
  stop: () => Promise<void>;
};

/** Milliseconds from sending to hearing, over both replicas, for messages since `begin`. */
export type Figures = {
  left: Delays;
  right: Delays;
  sent: number;
  /** Messages that were refused. */
  refused: number;
  /** Messages without an answer in the measured time, or whose connection was closed. */
  unanswered: number;
};
export type Delays = {
  p50: number;
  p99: number;
  count: number;
  /** p99 of the messages of the first second, and of those after it. */
  first: number;
  later: number;
};

const PER_REPLICA = 3;
const FIRST_MS = 1_000;
/** Messages a second of each bystander: under the limit of 10. */
const RATE = 8;
const RETRY_MS = 1_000;

type Bystander = {
  person: Person;
  replica: Replica;
  talker: Talker | undefined;
  entering: boolean;
  /** Why the last attempt to connect failed; "" if it did not. */
  refusal: string;
  /** The seq of the newest message heard in the room. */
  heardUpTo: number;
};

let gathered = 0;

export async function gatherBystanders(stage: Stage): Promise<Bystanders> {
  const roomId = await roomOf(stage);
  type Delay = { at: number; ms: number };
  const delays = { left: [] as Delay[], right: [] as Delay[] };
  let beganAt = 0;
  const said = new Map<string, { at: number; acknowledged: boolean }>();
  const acknowledged: string[] = [];
  const found: string[] = [];
  let counts = { sent: 0, refused: 0, unanswered: 0 };
  let stopped = false;
  let paused = false;

  const everybody: Bystander[] = await Promise.all(
    Array.from({ length: PER_REPLICA * 2 }, async (_, index) => {
      gathered += 1;
      const person = await stage.person(`bystander${gathered}`);
      await new Members(stage.admin, stage.keys, { serverId: "attack", relayChannel: "rooms" }).join(
        roomId,
        person.id,
      );
      return {
        person,
        replica: index % 2 === 0 ? stage.left : stage.right,
        talker: undefined,
        entering: false,
        refusal: "",
        heardUpTo: 0,
      };
    }),
  );

  async function enter(one: Bystander): Promise<void> {
    if (one.entering) return;
    one.entering = true;
    try {
      one.talker = await Talker.connect(one.replica.port, one.person);
      one.refusal = "";
    } catch (error) {
      one.refusal = error instanceof Error ? error.message : String(error);
      // The app waits too, and whoever tries eight times a second is soon limited for that.
      await sleep(RETRY_MS);
      return;
    } finally {
      one.entering = false;
    }
    one.heardUpTo = 0;
    one.talker.onEvent = (packet) => {
      if (!packet.startsWith('42["message"')) return;
      const [, message] = JSON.parse(packet.slice(2)) as [string, Message];
      if (message.roomId !== roomId) return;
      if (one.heardUpTo > 0 && message.seq !== one.heardUpTo + 1)
        found.push(`${one.person.username} heard ${message.seq} after ${one.heardUpTo}`);
      one.heardUpTo = message.seq;
      const sent = said.get(message.message);
      // One delay a message for each replica's members.
      if (!sent || sent.at < beganAt) return;
      const side = one.replica === stage.left ? "left" : "right";
      delays[side].push({ at: sent.at, ms: performance.now() - sent.at });
    };
  }

  async function say(one: Bystander, text: string): Promise<void> {
    if (!one.talker || one.talker.wire.isClosed) {
      counts.unanswered += 1;
      await enter(one);
      return;
    }
    const now = counts;
    now.sent += 1;
    said.set(text, { at: performance.now(), acknowledged: false });
    now.unanswered += 1;
    const reply = await one.talker.emit<Message>("message", { roomId, message: text, nonce: text });
    now.unanswered -= 1;
    if (reply.ok) acknowledged.push(text);
    else if (reply.error.message === "closed") now.unanswered += 1;
    else now.refused += 1;
  }

  await Promise.all(everybody.map(enter));
  // From one start, so that whoever was held up talks between the others again: people do not all talk at once.
  const start = performance.now();
  const talking = everybody.map(async (one, index) => {
    for (let count = 0; !stopped; count += 1) {
      const turn = start + (1_000 / RATE) * (count + index / everybody.length);
      await sleep(Math.max(0, turn - performance.now()));
      if (!paused) void say(one, `${one.person.username}-${count}`);
    }
  });

  const summary = (values: Delay[]): Delays => {
    const sorted = (some: Delay[]) => Float64Array.from(some, ({ ms }) => ms).toSorted();
    const all = sorted(values);
    const isFirst = ({ at }: Delay) => at - beganAt < FIRST_MS;
    return {
      p50: percentile(all, 0.5),
      p99: percentile(all, 0.99),
      count: values.length,
      first: percentile(sorted(values.filter(isFirst)), 0.99),
      later: percentile(sorted(values.filter((one) => !isFirst(one))), 0.99),
    };
  };
  async function missing(): Promise<number> {
    const rows = await stage.admin.zrange(stage.keys.room(roomId), "0", "-1");
    const stored = new Set(rows.map((row) => (JSON.parse(row) as Message).message));
    return acknowledged.filter((text) => !stored.has(text)).length;
  }
  return {
    roomId,
    begin() {
      delays.left = [];
      delays.right = [];
      beganAt = performance.now();
      counts = { sent: 0, refused: 0, unanswered: 0 };
    },
    figures: () => ({ left: summary(delays.left), right: summary(delays.right), ...counts }),
    missing,
    absent: () =>
      everybody
        .filter(({ talker }) => !talker || talker.wire.isClosed)
        .map(({ person, talker, refusal }) => {
          const ended = talker?.wire.closeCode === undefined ? "" : `closed with ${talker.wire.closeCode}`;
          return `${person.username} is away: ${[ended, refusal].filter(Boolean).join(", then ")}`;
        }),
    faults: () => found.splice(0),
    async settle() {
      paused = true;
      const newest = () => Math.max(...everybody.map(({ heardUpTo }) => heardUpTo));
      await becomes(
        () => counts.unanswered === 0 && everybody.every(({ heardUpTo }) => heardUpTo === newest()),
        5_000,
      );
      for (const { person, heardUpTo } of everybody)
        if (heardUpTo !== newest()) found.push(`${person.username} heard up to ${heardUpTo} of ${newest()}`);
      const lost = await missing();
      if (lost > 0) found.push(`${lost} acknowledged messages are not stored`);
      paused = false;
      return found.splice(0);
    },
    async stop() {
      stopped = true;
      await Promise.all(talking);
      for (const { talker } of everybody) talker?.close();
    },
  };
}

/** Makes a named room for the bystanders. */
async function roomOf(stage: Stage): Promise<string> {
  const id = String(await stage.admin.incr(stage.keys.totalRooms));
  await stage.admin
    .multi()
    .set(stage.keys.roomName(id), `bystanders ${id}`)
    .set(stage.keys.roomByName(`bystanders ${id}`), `room:${id}`)
    .exec();
  return id;
}
