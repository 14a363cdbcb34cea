import { hash as digest } from "node:crypto";
import { Cluster } from "ioredis";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import {
  GENERAL,
  LIMITS,
  USER_ID,
  isRoomId,
  pairOf,
  type Cursor,
  type Message,
  type Page,
  type RoomId,
  type SendMessage,
  type UserId,
} from "../protocol.ts";
import { defineScript, type RedisClient } from "./redis.ts";
import { LATEST, type Schema } from "./schema.ts";

/** Where a room's log stands: its newest message, as kept in `{room:<id>}:meta`. */
export type Head = { seq: number; date: number; hash: string };

/** A head, and how far the room's changes are known: `rev` counts them, `revHash` runs over them. */
export type Position = Head & { rev: number; revHash: string };

/** What is now so of a member: their record as JSON, or `""` for somebody who is none. */
export type Change = { userId: UserId; record: string };

/**
 * What `after` answers: what changed, and the rows that follow a head, or where the log stands now if the head is no
 * part of it. `changes` is null where nobody can tell any more what changed since.
 */
export type Following = {
  reset: boolean;
  changes: Change[] | null;
  rows: string[];
  more: boolean;
  position: Position;
};

/** Dates in ms; without either, the newest page. */
export type PageCursor = { before?: number | undefined; after?: number | undefined; size: number };

export type Row = Head & { json: string };
/** A row as it was announced. */
export type Heard = Row & {
  roomId: RoomId;
  tail: string;
  /** Of the room's changes when it was stored; undefined where a server of the version before says it. */
  revHash: string | undefined;
};

/** A change as it was announced. */
export type HeardChange = Change & { roomId: RoomId; rev: number; hash: string };

const NUMBER = String.raw`(?:0|[1-9]\d{0,15})`;
const STRING = String.raw`"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\x00-\x1f]*)*"`;
/**
 * A message as a script wrote it: a match is valid JSON of the right shape, and can be passed on byte by byte. Groups:
 * room id, seq, date, hash, tail.
 */
const MESSAGE = String.raw`\{"roomId":"([\d:]+)","seq":(${NUMBER}),"date":(${NUMBER}),"hash":"([0-9a-f]+)",("from":"\d+","message":${STRING}(?:,"nonce":${STRING})?\})`;
const STORED = new RegExp(`^${MESSAGE}$`);
const ANNOUNCED = new RegExp(
  String.raw`^\{"serverId":"[^"\\]*","type":"message",(?:"rev":${NUMBER},"revHash":"([0-9a-f]*)",)?"data":(${MESSAGE})\}$`,
);

/** The last moment that a Date can tell, in the year 275760: formatting a later one throws, here and in browsers. */
const LAST_DATE = 8.64e15;
/** How long a retry of a send is recognised. */
const NONCE_MS = 48 * 3600 * 1_000;
/** Rows that are looked at, or adopted, in one step: about a millisecond of Redis. */
const ADOPTED_AT_ONCE = 200;
const ADOPTED_MOST = 5_000;
const STRAYS_REMEMBERED = 10_000;
/** How often what is another program's is adopted before what is left of it is passed over. */
const ADOPT_TRIES = 3;
/** Dates below it are in seconds: as the Redis chat demos store them, and as ms they would be in 1973 at the latest. */
const SECONDS_BELOW = 1e11;
const RESETS = ["ahead", "rewound", "trimmed"] as const;
const EMPTY: Head = { seq: 0, date: 0, hash: "" };
const NO_CHANGES = ["", ""] as const;

/**
 * The messages of each room, in a sorted set: gap-free by `seq` and strictly rising by `date`, the score, so that a
 * page is a score range, and equal texts stay two messages. How a row is spelt is known here and in the scripts alone.
 */
export class Log {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #channelOf: (roomId: RoomId) => string;
  readonly #envelope: string;
  readonly #schema: Schema;
  readonly #copies: { count: number; timeoutMs: number };
  readonly #reads = new Map<string, Promise<unknown>>();
  /** How many rows of a room were found to be no messages. */
  readonly #strays = new Map<RoomId, number>();
  readonly #copying = new Turns<void>();
  readonly #adopting = new Turns<number>();
  readonly #append: ReturnType<typeof defineScript>;
  readonly #sync: ReturnType<typeof defineScript>;
  readonly #load: ReturnType<typeof defineScript>;
  readonly #adoptRows: ReturnType<typeof defineScript>;

  constructor(
    redis: RedisClient,
    keys: Keys,
    config: Pick<Config, "serverId" | "relayChannel" | "waitReplicas" | "waitMs">,
    schema: Schema = LATEST,
  ) {
    this.#schema = schema;
    this.#redis = redis;
    this.#keys = keys;
    this.#channelOf = channelsOf(keys, config);
    this.#envelope = `{"serverId":${JSON.stringify(config.serverId)},"type":"message",`;
    this.#copies = { count: config.waitReplicas, timeoutMs: config.waitMs };
    this.#append = defineScript(redis, "append.lua", 6);
    this.#sync = defineScript(redis, "sync.lua", 5);
    this.#load = defineScript(redis, "load.lua", 2);
    this.#adoptRows = defineScript(redis, "adopt.lua", 2);
  }

  /**
   * Stores and announces a message in one atomic step, and marks the room as read by its author up to it. Answers the
   * row, a Message as JSON; for the same nonce again that of the first message. Resolves once as many Redis replicas
   * hold it as are configured; throws `unavailable` where they do not in time: then the outcome is unknown, and the
   * same nonce finds out. Throws `not_found` for a room that keeps records and has none of this user's; of others the
   * caller has checked that they are in it.
   */
  async append(
    from: UserId,
    send: SendMessage,
    adopted = false,
  ): Promise<{ row: string; repeated: boolean }> {
    const { roomId, message, nonce } = send;
    const keys = this.#keys;
    const listed = keepsRecords(roomId);
    const tail = JSON.stringify({ from, message, nonce }).slice(1);
    const reply = await this.#append(
      [
        keys.room(roomId),
        keys.meta(roomId),
        keys.records(roomId),
        keys.nonce(roomId, from, nonce),
        keys.read(roomId),
        keys.members(roomId),
      ],
      [
        roomId,
        from,
        tail,
        this.#channelOf(roomId),
        this.#envelope,
        NONCE_MS,
        listed ? "1" : "0",
        adopted ? "1" : "0",
        this.#schema.mixed ? "1" : "0",
      ],
    );
    const [outcome, row] = reply as [string, string?];
    if (outcome === "theirs") {
      await this.adopt(roomId);
      return this.append(from, send, true);
    }
    if (outcome === "stranger" || row === undefined) throw unknownRoom();
    if (this.#copies.count > 0) await this.#copied(roomId);
    return { row, repeated: outcome === "repeated" };
  }

  /**
   * Puts in old messages, oldest first, behind what the log holds; 500 at a time are quick. Dates that do not rise
   * are moved up. Nobody is told: replicas find such messages at their next look. Safe beside `append`.
   */
  async load(
    roomId: RoomId,
    messages: readonly { from: UserId; message: string; date: number }[],
  ): Promise<void> {
    const keys = [this.#keys.room(roomId), this.#keys.meta(roomId)];
    await this.adopt(roomId);
    for (;;) {
      const head = await this.position(roomId);
      let { seq, date, hash } = head;
      const rows: (string | number)[] = [];
      for (const { from, message, date: wanted } of messages) {
        seq += 1;
        date = Math.max(Math.floor(wanted), date + 1);
        const tail = JSON.stringify({ from, message }).slice(1);
        hash = chain(hash, date, tail);
        rows.push(date, `{"roomId":"${roomId}","seq":${seq},"date":${date},"hash":"${hash}",${tail}`);
      }
      if (rows.length === 0 || (await this.#load(keys, [head.hash, seq, date, hash, ...rows])) === 1) return;
    }
  }

  /** One page, oldest first, either before a date (the newest page without one) or after it. */
  async page(roomId: RoomId, cursor: PageCursor): Promise<Page> {
    const { rows, more } = await this.#rows(roomId, cursor);
    return { messages: rows.map(parseRow), more };
  }

  /** The same as JSON. */
  pageJson(roomId: RoomId, cursor: PageCursor): Promise<Buffer> {
    const { before, after, size } = cursor;
    return this.#readOnce(`page ${roomId} ${before} ${after} ${size}`, async () => {
      const { rows, more } = await this.#rows(roomId, cursor);
      return Buffer.from(`{"messages":[${rows.join(",")}],"more":${more}}`);
    });
  }

  /** What follows a client's cursor: a SyncedRoom as JSON. */
  syncJson({ roomId, seq, date, hash = "" }: Cursor): Promise<string> {
    return this.#readOnce(`sync ${roomId} ${seq} ${date} ${hash}`, async () => {
      const { reset, rows, more } = await this.#following(roomId, { seq, date, hash });
      const why = reset ? `,"reset":"${reset}"` : "";
      return `{"roomId":"${roomId}","messages":[${rows.join(",")}],"more":${more}${why}}`;
    });
  }

  /**
   * Who asks for the same in the same turn of the event loop gets the same answer, as thousands do who come back at
   * once. Nobody gets one that is too old: what is done in one turn had been asked for before it.
   */
  #readOnce<T extends string | Buffer>(name: string, read: () => Promise<T>): Promise<T> {
    const asked = this.#reads.get(name) as Promise<T> | undefined;
    if (asked) return asked;
    const answer = read();
    if (this.#reads.size === 0) setImmediate(() => this.#reads.clear());
    this.#reads.set(name, answer);
    return answer;
  }

  /** What follows a replica's position, as the relay wants it. */
  async after(roomId: RoomId, from: Position): Promise<Following> {
    const { reset, changes, rows, more, position } = await this.#following(roomId, from, [
      String(from.rev),
      from.revHash,
    ]);
    if (reset) return { reset: true, changes, rows: [], more: false, position };
    const last = rows.at(-1);
    const reached = (last === undefined ? null : headOf(last)) ?? from;
    return { reset: false, changes, rows, more, position: { ...position, ...headPart(reached) } };
  }

  /** The newest message's place in the log, and the newest change's. */
  async position(roomId: RoomId): Promise<Position> {
    const [seq, date, hash, rev, revHash] = await this.#redis.hmget(
      this.#keys.meta(roomId),
      ...(["seq", "date", "hash", "rev", "revHash"] as const),
    );
    const head = seq && date && hash ? { seq: Number(seq), date: Number(date), hash } : EMPTY;
    return { ...head, rev: Number(rev ?? 0), revHash: revHash ?? "" };
  }

  /** The newest message, or null. */
  async newest(roomId: RoomId): Promise<Message | null> {
    const [newest] = await this.#redis.zrevrange(this.#keys.room(roomId), "0", "0");
    if (newest === undefined) return null;
    if (isOwnRow(newest)) return parseRow(newest);
    return (await this.page(roomId, { size: 1 })).messages[0] ?? null;
  }

  /**
   * Makes messages of what other programs have put into a room's sorted set, a few at a time: the row goes, and a
   * message with its text comes, once, whichever replica is first. Answers how many. What is no message stays where it
   * is, and is never read. Calls while one is under way share the next.
   */
  adopt(roomId: RoomId): Promise<number> {
    return this.#adopting.run(roomId, () => this.#adopt(roomId));
  }

  async #adopt(roomId: RoomId): Promise<number> {
    const { room, meta } = this.#keys;
    const [first, seq, theirs] = await this.#redis.hmget(meta(roomId), "first", "seq", "theirs");
    const size = await this.#redis.zcard(room(roomId));
    const others = size - (seq === null ? 0 : Number(seq) - Number(first ?? 1) + 1);
    if (others <= (this.#strays.get(roomId) ?? 0) && theirs === null) return 0;
    const isOurs = seq !== null && theirs === null;
    const taken = isOurs ? await this.#takeNewest(roomId, size, others) : await this.#takeOver(roomId);
    if (this.#strays.size >= STRAYS_REMEMBERED) this.#strays.clear();
    this.#strays.set(roomId, taken === 0 ? others : 0);
    return taken;
  }

  /** Adopts rows in a log of ours: seldom more than the newest few. */
  async #takeNewest(roomId: RoomId, size: number, others: number): Promise<number> {
    const room = this.#keys.room(roomId);
    let missing = others;
    const found: Foreign[] = [];
    for (
      let place = 0;
      place < size && missing > 0 && found.length < ADOPTED_MOST;
      place += ADOPTED_AT_ONCE
    ) {
      const slice = await this.#redis.zrevrange(room, place, place + ADOPTED_AT_ONCE - 1);
      const rows = slice.filter((row) => !isOwnRow(row));
      missing -= rows.length;
      found.unshift(...readForeign(roomId, rows.toReversed()));
    }
    return this.#take(roomId, "ours", found);
  }

  /** Takes over a log that is all another program's, from its beginning. */
  async #takeOver(roomId: RoomId): Promise<number> {
    const { room, meta } = this.#keys;
    let taken = 0;
    for (let place = 0; ;) {
      const slice = await this.#redis.zrange(room(roomId), `${place}`, `${place + ADOPTED_AT_ONCE - 1}`);
      if (slice.length === 0) break;
      const found = readForeign(
        roomId,
        slice.filter((row) => !isOwnRow(row)),
      );
      taken += await this.#take(roomId, "theirs", found);
      place += slice.length - found.length;
    }
    await this.#redis.hdel(meta(roomId), "theirs");
    return taken;
  }

  async #take(roomId: RoomId, begun: "ours" | "theirs", found: Foreign[]): Promise<number> {
    const keys = [this.#keys.room(roomId), this.#keys.meta(roomId)];
    const how = [roomId, this.#channelOf(roomId), this.#envelope, begun, this.#schema.mixed ? "1" : "0"];
    let taken = 0;
    for (let start = 0; start < found.length; start += ADOPTED_AT_ONCE) {
      const some = found.slice(start, start + ADOPTED_AT_ONCE);
      const args = some.flatMap(({ row, date, tail }) => [row, date, tail]);
      taken += Number(await this.#adoptRows(keys, [...how, ...args]));
    }
    return taken;
  }

  /**
   * Group commit: all messages that were stored while one WAIT was under way share the next one. On a Cluster, where
   * rooms are on different primaries, each room has its own.
   */
  #copied(roomId: RoomId): Promise<void> {
    const group = this.#redis instanceof Cluster ? roomId : "all";
    return this.#copying.run(group, () => this.#wait(roomId));
  }

  async #wait(roomId: RoomId): Promise<void> {
    const { count, timeoutMs } = this.#copies;
    // WAIT names no key, and speaks for what its own connection has written: the command before it leads a Cluster's
    // client to the room's primary.
    const pipeline = this.#redis.pipeline().exists(this.#keys.meta(roomId)).wait(count, timeoutMs);
    const [error, copies] = (await pipeline.exec())?.[1] ?? [];
    if (error || Number(copies) < count)
      throw new ChatError("unavailable", "Not stored safely yet. Try again.", 500);
  }

  /** Rows of ours alone; what is another program's in between is adopted first. */
  async #rows(
    roomId: RoomId,
    { before, after, size }: PageCursor,
  ): Promise<{ rows: string[]; more: boolean }> {
    const room = this.#keys.room(roomId);
    const max = before === undefined ? "+inf" : `(${before}`;
    for (let tries = 1; ; tries += 1) {
      const limit = ["LIMIT", "0", String(size + 1)] as const;
      const found =
        after === undefined
          ? await this.#redis.zrevrangebyscore(room, max, "-inf", ...limit)
          : await this.#redis.zrangebyscore(room, `(${after}`, max, ...limit);
      const rows = found.filter(isOwnRow);
      const isOurs = rows.length === found.length;
      if (!isOurs && tries < ADOPT_TRIES && (await this.adopt(roomId)) > 0) continue;
      const page = rows.slice(0, size);
      return { rows: after === undefined ? page.toReversed() : page, more: found.length > size };
    }
  }

  async #following(roomId: RoomId, from: Head, since: readonly [string, string] = NO_CHANGES) {
    const { room, meta, records, changed, revs } = this.#keys;
    const keys = [room, meta, records, changed, revs].map((key) => key(roomId));
    const bounds = [BOUNDS.syncRows.value, BOUNDS.syncBytes.value];
    for (let tries = 1; ; tries += 1) {
      const passOver = tries < ADOPT_TRIES ? "0" : "1";
      const reply = await this.#sync(keys, [from.seq, from.date, from.hash, ...bounds, passOver, ...since]);
      const [status, seq, date, hash = "", more, rev, revHash = "", count, ...rest] = reply as string[];
      if (status === "theirs") {
        await this.adopt(roomId);
        continue;
      }
      const told = Math.max(0, Number(count));
      const changes = Array.from({ length: told }, (_, index) => ({
        userId: rest[index * 2]?.slice(1) ?? "",
        record: rest[index * 2 + 1] ?? "",
      }));
      return {
        reset: RESETS.find((reason) => reason === status),
        changes: Number(count) < 0 ? null : changes,
        rows: rest.slice(told * 2),
        more: more === "1",
        position: { seq: Number(seq), date: Number(date), hash, rev: Number(rev), revHash },
      };
    }
  }
}

/** Does one thing at a time under each name. Whoever asks while one is under way shares the next. */
class Turns<T> {
  readonly #turns = new Map<string, { running: Promise<unknown>; next: Promise<T> | undefined }>();

  run(name: string, work: () => Promise<T>): Promise<T> {
    const turn = this.#turns.get(name) ?? { running: Promise.resolve(), next: undefined };
    this.#turns.set(name, turn);
    turn.next ??= turn.running.then(() => {
      turn.next = undefined;
      const done = work();
      const over = () => {
        if (!turn.next) this.#turns.delete(name);
      };
      turn.running = done.then(over, over);
      return done;
    });
    return turn.next;
  }
}

/** The hash that `append.lua` gives a message: equal hashes vouch for every byte of the log up to it. */
export function chain(hash: string, date: number, tail: string): string {
  return digest("sha1", `${hash}|${date}|${tail}`).slice(0, 12);
}

/** A message that `append.lua` announced, or null for any other announcement. */
export function readAnnouncement(text: string): Heard | null {
  const announced = ANNOUNCED.exec(text);
  if (!announced) return null;
  const [, revHash, json = "", roomId = "", seq, date, hash = "", tail = ""] = announced;
  const head = { seq: Number(seq), date: Number(date), hash };
  return { ...head, roomId, json, tail, revHash };
}

/** The channel on which a room's messages and changes are announced. */
export function channelsOf(
  keys: Keys,
  { relayChannel }: Pick<Config, "relayChannel">,
): (roomId: RoomId) => string {
  return relayChannel === "rooms" ? keys.roomChannel : () => keys.channel;
}

/** The two ends of what `change.lua` announces; between them go the change's rev and hash. */
export function announcementOf(
  serverId: string,
  roomId: RoomId,
  userId: UserId,
  record: string,
): { begin: string; end: string } {
  return {
    begin: `{"serverId":${JSON.stringify(serverId)},"type":"change","data":{"roomId":"${roomId}","userId":"${userId}","rev":`,
    end: `,"record":${JSON.stringify(record)}`,
  };
}

/** The data of an announced change, or null for anything else. */
export function readChange(data: unknown): HeardChange | null {
  if (!isRecord(data)) return null;
  const { roomId, userId, rev, hash, record = "" } = data;
  if (!isRoomId(roomId) || typeof userId !== "string" || !USER_ID.test(userId)) return null;
  if (!Number.isSafeInteger(rev) || typeof hash !== "string" || typeof record !== "string") return null;
  return { roomId, userId, rev: rev as number, hash, record };
}

/** The hash that `change.lua` gives a change. */
export function chainChange(revHash: string, { rev, userId, record }: HeardChange): string {
  return digest("sha1", `${revHash}|${rev}|@${userId}|${record}`).slice(0, 12);
}

/** Whether who is in a room stands in its records. Everybody is in General, and a private room's id says who. */
export function keepsRecords(roomId: RoomId): boolean {
  return roomId !== GENERAL && pairOf(roomId) === null;
}

function headPart({ seq, date, hash }: Head): Head {
  return { seq, date, hash };
}

/** Whether a script wrote this row: then it is valid JSON of a message's shape. */
export function isOwnRow(row: string): boolean {
  return STORED.test(row);
}

/** The place in the log of a row that a script wrote, or null for any other row. */
export function headOf(row: string): Head | null {
  const [, , seq, date, hash = ""] = STORED.exec(row) ?? [];
  return seq === undefined ? null : { seq: Number(seq), date: Number(date), hash };
}

/** What another program put into a room's sorted set: its row, and what becomes of it. */
type Foreign = { row: string; date: number; tail: string };

/** Those of another program's rows that are messages; ids may be numbers, and a date in seconds. */
function readForeign(roomId: RoomId, rows: string[]): Foreign[] {
  return rows.flatMap((row) => {
    const said = parseForeign(parseJson(row));
    if (!said || said.roomId !== roomId) return [];
    const { date, from, message, nonce } = said;
    const tail = JSON.stringify({ from, message, nonce }).slice(1);
    return [{ row, date: Math.floor(date < SECONDS_BELOW ? date * 1_000 : date), tail }];
  });
}

/** A message as another program spells it, in a room's sorted set or in an announcement; null for anything else. */
export function parseForeign(data: unknown): Omit<Message, "seq" | "hash"> | null {
  if (!isRecord(data)) return null;
  const { from, message, date, nonce } = data;
  const roomId = typeof data["roomId"] === "number" ? String(data["roomId"]) : data["roomId"];
  const author = typeof from === "number" ? String(from) : from;
  if (!isRoomId(roomId) || typeof author !== "string" || !USER_ID.test(author)) return null;
  if (typeof message !== "string" || message.length === 0 || message.length > LIMITS.message) return null;
  if (typeof date !== "number" || !(date >= 0 && date <= LAST_DATE)) return null;
  return { roomId, date, from: author, message, ...(typeof nonce === "string" && { nonce }) };
}

function parseRow(row: string): Message {
  return JSON.parse(row) as Message;
}

export function unknownRoom(): ChatError {
  return new ChatError("not_found", "There is no such room for you.");
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
