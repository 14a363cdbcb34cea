import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { unlessWrongType } from "../server/src/errors.ts";
import type { Keys } from "../server/src/keys.ts";
import { isRoomId } from "../server/src/protocol.ts";
import { beginningOf } from "../server/src/store/codec.ts";
import { primariesOf, type RedisClient } from "../server/src/store/redis.ts";
import type { Item, KeyType, Values } from "./archive.ts";

/**
 * All that an installation keeps in Redis, read while servers write, in an order that keeps it consistent: a log ends
 * where its head says, and no read mark is beyond it; names come before the accounts and rooms that they lead to, which
 * exist before their names; messages come before their nonces; counters come last, and are never below an id. What is
 * deleted comes after everything that a deletion changes: wherever a deletion has left a trace, it is named there.
 *
 * What is damaged is kept as it is and named on stderr: a key of the wrong type, and the whole log of a room whose head
 * is not its log's.
 *
 * `sessions` includes sessions. Presence, attempts and locks are always left out, because they are only momentary.
 */
export async function* readContents(
  redis: RedisClient,
  keys: Keys,
  { sessions }: { sessions: boolean },
): AsyncGenerator<Item> {
  const reader = new Reader(redis, keys);
  yield* reader.logs();
  for (const kind of ["claim", "plain"] as const) yield* reader.keys(kind);
  // Of rooms that were made meanwhile, which have names by now: without its kind an invite room would come back open.
  yield* reader.logs();
  for (const kind of [...(sessions ? ["session" as const] : []), "late", "deletion", "nonce"] as const)
    yield* reader.keys(kind);
  yield* reader.counters();
}

type Kind = "moment" | "session" | "log" | "claim" | "plain" | "late" | "deletion" | "nonce" | "counter";

/** The treatment of a key in a backup, by its name without prefix. Unknown keys are kept. */
export function kindOf(name: string): Kind {
  if (/^(\{?online_users\b|limit\b|seed:lock$|schema$)/.test(name)) return "moment";
  // Without the edited row, a restored nonce would make the retry of an edit look done.
  if (/^\{room:[^}]*\}:(?:edit|spoke):/.test(name)) return "moment";
  if (/^(sess:|sessions:|session_secret$|reset:)/.test(name)) return "session";
  if (/^total_(users|rooms)$/.test(name)) return "counter";
  if (roomOf(name) !== undefined) return "log";
  if (/^(username|roomname):/.test(name)) return "claim";
  if (/^\{room:[^}]*\}:nonce:/.test(name)) return "nonce";
  if (/^\{room:[^}]*\}:deleted$/.test(name)) return "deletion";
  return name.startsWith("{") ? "late" : "plain";
}

/** The room of a key that is read together with its log. */
function roomOf(name: string): string | undefined {
  const [, plain, braced] = /^(?:room:([\d:]+)|\{room:([\d:]+)\}:(?:meta|read))$/.exec(name) ?? [];
  const room = plain ?? braced;
  return room !== undefined && isRoomId(room) ? room : undefined;
}

/** The types of the keys that a backup or a restore looks into. */
const WANTED: [RegExp, KeyType][] = [
  [/^room:[\d:]+$/, "zset"],
  [/^\{room:[\d:]+\}:(?:meta|read|records|files|revs)$/, "hash"],
  [/^\{room:[\d:]+\}:(?:thread:\d+|mentions:\w+|deleted|pins|changed)$/, "zset"],
  [/^user:\d+:rooms$|^\{room:[\d:]+\}:members$/, "set"],
  [/^user:\d+$/, "hash"],
  [/^total_(?:users|rooms)$/, "string"],
];

type Head = Record<"seq" | "date" | "hash", string | null | undefined>;

/** Whether the log has the row that the head names. */
export async function hasHead(
  redis: RedisClient,
  keys: Keys,
  room: string,
  { seq, date, hash }: Head,
): Promise<boolean> {
  if (!/^\d{1,16}$/.test(date ?? "")) return false;
  const found = persist(() => redis.zrangebyscore(keys.room(room), date ?? "", date ?? ""));
  const row = beginningOf({ roomId: room, seq: Number(seq), date: Number(date), hash: String(hash) });
  return (await unlessWrongType(found, [])).some((one) => one.startsWith(row));
}

/** How many keys one SCAN or one step through a big key returns, and how many small keys are read at once. */
const SCAN_COUNT = 1_000;
const STEP = 200;
const TOGETHER = 50;
/** How many logs are begun at once, and how far: most are small, and each round trip takes time. */
const LOGS_TOGETHER = 16;
const AHEAD = 4;
const TRIES = 6;

/** Repeats a harmless command during a failover or a short absence of Redis, for 6 s in all. */
export async function persist<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      const refused = error instanceof Error && /^(WRONGTYPE|NOPERM|OOM|NOAUTH|ERR) /.test(error.message);
      if (refused || tries === TRIES) throw error;
      await sleep(100 * 2 ** tries);
    }
  }
}

/** Names, without prefix and in latin1, of every key of this installation; some twice, if Redis moves them meanwhile. */
export async function* scanNames(redis: RedisClient, keys: Keys): AsyncGenerator<string[]> {
  for (const node of primariesOf(redis)) {
    let cursor = "0";
    do {
      const [next, found] = await persist(() =>
        node.scanBuffer(cursor, "MATCH", keys.scan.pattern, "COUNT", SCAN_COUNT),
      );
      cursor = next.toString();
      yield found.flatMap((key) => keys.scan.nameOf(key.toString("latin1")) ?? []);
    } while (cursor !== "0");
  }
}

class Reader {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #highest = { user: 0, room: 0 };
  /** The rooms whose logs were read. */
  readonly #rooms = new Set<string>();

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** The logs that were not read yet. */
  async *logs(): AsyncGenerator<Item> {
    for await (const names of scanNames(this.#redis, this.#keys)) {
      const fresh = names.flatMap((name) => {
        const room = roomOf(name);
        if (room === undefined || this.#rooms.has(room)) return [];
        this.#rooms.add(room);
        this.#note(name);
        return this.#log(room);
      });
      for (let start = 0; start < fresh.length; start += LOGS_TOGETHER)
        yield* ahead(fresh.slice(start, start + LOGS_TOGETHER));
    }
  }

  /** Marks, head, log: rows that arrive in between are beyond the head, and are not read. */
  async *#log(room: string): AsyncGenerator<Item> {
    yield* this.#read([`{room:${room}}:read`]);
    const head = new Map<string, string>();
    for await (const meta of this.#read([`{room:${room}}:meta`])) {
      if (meta.type === "hash")
        meta.values.forEach(([field, value]) => head.set(String(field), String(value)));
      yield meta;
    }
    let messages = 0;
    for await (const rows of this.#read([`room:${room}`], await this.#endOf(room, head))) {
      if (rows.type === "zset") messages += rows.values.length;
      yield rows;
    }
    yield { room, messages, hash: head.get("hash") ?? "" };
  }

  /** The date of the newest row to read: the head's, if the log has the head. */
  async #endOf(room: string, head: ReadonlyMap<string, string>): Promise<string> {
    const [seq, date, hash] = ["seq", "date", "hash"].map((field) => head.get(field));
    if (seq === undefined && date === undefined && hash === undefined) return "+inf";
    if (await hasHead(this.#redis, this.#keys, room, { seq, date, hash })) return date ?? "+inf";
    console.error(`The head of room ${room} is not in its log: the whole log is kept, as it is.`);
    return "+inf";
  }

  /** Each key once, although Redis may name some twice: keeps 12 bytes of a hash of each. */
  async *keys(kind: Kind): AsyncGenerator<Item> {
    const seen = new Set<string>();
    for await (const names of scanNames(this.#redis, this.#keys)) {
      const fresh = names.filter((name) => {
        if (kindOf(name) !== kind) return false;
        const mark = createHash("sha1").update(name, "latin1").digest("latin1").slice(0, 12);
        return !seen.has(mark) && seen.add(mark);
      });
      fresh.forEach((name) => this.#note(name));
      for (let start = 0; start < fresh.length; start += TOGETHER)
        yield* this.#read(fresh.slice(start, start + TOGETHER));
    }
  }

  /** Corrects a counter that was lost or is behind. */
  async *counters(): AsyncGenerator<Values> {
    for (const [name, highest] of [
      ["total_users", this.#highest.user],
      ["total_rooms", this.#highest.room],
    ] as const) {
      let stored: number | undefined = 0;
      for await (const counter of this.#read([name])) {
        const text = String(counter.values[0]?.[0]);
        if (counter.type !== "string") stored = undefined;
        else if (/^\d{1,15}$/.test(text)) stored = Number(text);
        if (stored === undefined) yield counter;
      }
      const value = stored === undefined ? 0 : Math.max(highest, stored);
      if (value > 0) yield { type: "string", name, values: [[Buffer.from(String(value))]], expires: null };
    }
  }

  #key(name: string): Buffer {
    return Buffer.from(this.#keys.scan.keyOf(name), "latin1");
  }

  #note(name: string): void {
    const { user, room } = this.#keys.scan.idsIn(this.#keys.scan.keyOf(name));
    this.#highest.user = Math.max(this.#highest.user, ...user);
    this.#highest.room = Math.max(this.#highest.room, ...room);
  }

  /** The values of these keys, small ones all at once, big ones step by step; of a sorted set none above `max`. */
  async *#read(names: string[], max = "+inf"): AsyncGenerator<Values> {
    const first = await Promise.all(
      names.map(async (name) => {
        const key = this.#key(name);
        const [type, expires] = await Promise.all([
          persist(() => this.#redis.type(key)),
          persist(() => this.#redis.pexpiretime(key)),
        ]);
        if (type === "none") return undefined;
        const wanted = WANTED.find(([pattern]) => pattern.test(name))?.[1];
        if (wanted !== undefined && wanted !== type)
          console.error(`The key ${key.toString()} is a ${type}, and not a ${wanted}: it is kept, as it is.`);
        const steps = this.#steps(key, type as KeyType, max);
        const step = await steps.next();
        return { steps, step, about: { type: type as KeyType, name, expires: expires < 0 ? null : expires } };
      }),
    );
    for (const one of first) {
      if (!one) continue;
      for (let { step } = one; !step.done; step = await one.steps.next())
        if (step.value.length > 0) yield { ...one.about, values: step.value };
    }
  }

  async *#steps(key: Buffer, type: KeyType, max: string): AsyncGenerator<Buffer[][]> {
    const redis = this.#redis;
    switch (type) {
      case "string": {
        const value = await persist(() => redis.getBuffer(key));
        if (value) yield [[value]];
        return;
      }
      case "hash":
        yield* scan((cursor) => redis.hscanBuffer(key, cursor, "COUNT", STEP), 2);
        return;
      case "set":
        yield* scan((cursor) => redis.sscanBuffer(key, cursor, "COUNT", STEP), 1);
        return;
      case "zset":
        yield* this.#byScore(key, max);
        return;
      case "list":
        for (let start = 0; ; start += STEP) {
          const values = await persist(() => redis.lrangeBuffer(key, start, start + STEP - 1));
          yield values.map((value) => [value]);
          if (values.length < STEP) return;
        }
      case "stream":
        for (let from = "-"; ;) {
          const values = await persist(() => redis.xrangeBuffer(key, from, "+", "COUNT", STEP));
          yield values.map(([id, fields]) => [id, ...fields]);
          const last = values.at(-1);
          if (!last || values.length < STEP) return;
          from = `(${last[0].toString()}`;
        }
      default:
        throw new Error(
          `The key ${key.toString()} is a ${String(type satisfies never)}: no backup knows that.`,
        );
    }
  }

  /** By score and not by rank: additions and removals meanwhile shift no other row. */
  async *#byScore(key: Buffer, max: string): AsyncGenerator<Buffer[][]> {
    let from = "-inf";
    // The number of rows with the score `from` that were read.
    let skip = 0;
    for (;;) {
      const found = await persist(() =>
        this.#redis.zrangebyscoreBuffer(key, from, max, "WITHSCORES", "LIMIT", skip, STEP),
      );
      const values = pairs(found, 2);
      yield values;
      if (values.length < STEP) return;
      const last = String(values.at(-1)?.[1]);
      const same = values.filter(([, score]) => String(score) === last).length;
      skip = last === from ? skip + same : same;
      from = last;
    }
  }
}

/** In sequence, but with the first items of all requested at once. */
async function* ahead(all: AsyncGenerator<Item>[]): AsyncGenerator<Item> {
  const begun = await Promise.all(
    all.map(async (one) => {
      const first: Item[] = [];
      for (let step = await one.next(); !step.done; step = await one.next())
        if (first.push(step.value) === AHEAD) break;
      return first;
    }),
  );
  for (const [index, first] of begun.entries()) {
    yield* first;
    const rest = all[index];
    if (first.length === AHEAD && rest) yield* rest;
  }
}

/** Redis may return a part twice while a hash or set grows or shrinks. */
async function* scan(
  step: (cursor: string) => Promise<[Buffer, Buffer[]]>,
  size: number,
): AsyncGenerator<Buffer[][]> {
  const seen = new Set<string>();
  for (let cursor = "0"; ;) {
    const [next, found] = await persist(() => step(cursor));
    const isOnly = cursor === "0" && next.toString() === "0";
    yield pairs(found, size).filter(([first]) => {
      if (isOnly) return true;
      const mark = first?.toString("latin1") ?? "";
      return !seen.has(mark) && seen.add(mark);
    });
    cursor = next.toString();
    if (cursor === "0") return;
  }
}

function pairs(flat: Buffer[], size: number): Buffer[][] {
  return Array.from({ length: flat.length / size }, (_, index) =>
    flat.slice(index * size, (index + 1) * size),
  );
}
