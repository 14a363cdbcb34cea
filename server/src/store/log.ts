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

/** Where a room's log stands: its newest message, as kept in `{room:<id>}:meta`. */
export type Head = { seq: number; date: number; hash: string };

/** What `after` answers: the rows that follow a head, or where the log stands now if the head is no part of it. */
export type Following = { reset: boolean; rows: string[]; more: boolean; head: Head };

/** Dates in ms; without either, the newest page. */
export type PageCursor = { before?: number | undefined; after?: number | undefined; size: number };

export type Row = Head & { json: string };
/** A row as it was announced. */
export type Heard = Row & { roomId: RoomId; tail: string };

const NUMBER = String.raw`(?:0|[1-9]\d{0,15})`;
const STRING = String.raw`"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\x00-\x1f]*)*"`;
/**
 * A message as a script wrote it: a match is valid JSON of the right shape, and can be passed on byte by byte. Groups:
 * room id, seq, date, hash, tail.
 */
const MESSAGE = String.raw`\{"roomId":"([\d:]+)","seq":(${NUMBER}),"date":(${NUMBER}),"hash":"([0-9a-f]+)",("from":"\d+","message":${STRING}(?:,"nonce":${STRING})?\})`;
const STORED = new RegExp(`^${MESSAGE}$`);
const ANNOUNCED = new RegExp(String.raw`^\{"serverId":"[^"\\]*","type":"message","data":(${MESSAGE})\}$`);

/** The last moment that a Date can tell, in the year 275760: formatting a later one throws, here and in browsers. */
const LAST_DATE = 8.64e15;
/** How long a retry of a send is recognised. */
const NONCE_MS = 48 * 3600 * 1_000;
const RESETS = ["ahead", "rewound", "trimmed"] as const;
const EMPTY: Head = { seq: 0, date: 0, hash: "" };

/**
 * The messages of each room, in a sorted set: gap-free by `seq` and strictly rising by `date`, the score, so that a
 * page is a score range, and equal texts stay two messages. How a row is spelt is known here and in the scripts alone.
 */
export class Log {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #channelOf: (roomId: RoomId) => string;
  readonly #envelope: string;
  readonly #copies: { count: number; timeoutMs: number };
  readonly #reads = new Map<string, Promise<unknown>>();
  readonly #waits = new Map<string, { running: Promise<void>; next: Promise<void> | undefined }>();
  readonly #append: ReturnType<typeof defineScript>;
  readonly #sync: ReturnType<typeof defineScript>;
  readonly #load: ReturnType<typeof defineScript>;

  constructor(
    redis: RedisClient,
    keys: Keys,
    config: Pick<Config, "serverId" | "relayChannel" | "waitReplicas" | "waitMs">,
  ) {
    this.#redis = redis;
    this.#keys = keys;
    this.#channelOf = config.relayChannel === "rooms" ? keys.roomChannel : () => keys.channel;
    this.#envelope = `{"serverId":${JSON.stringify(config.serverId)},"type":"message","data":`;
    this.#copies = { count: config.waitReplicas, timeoutMs: config.waitMs };
    this.#append = defineScript(redis, "append.lua", 5);
    this.#sync = defineScript(redis, "sync.lua", 2);
    this.#load = defineScript(redis, "load.lua", 2);
  }

  /**
   * Stores and announces a message in one atomic step, and marks the room as read by its author up to it. Answers the
   * row, a Message as JSON; for the same nonce again that of the first message. Resolves once as many Redis replicas
   * hold it as are configured; throws `unavailable` where they do not in time: then the outcome is unknown, and the
   * same nonce finds out. Throws `not_found` for a named room without this member; for General and private rooms the
   * caller has checked.
   */
  async append(from: UserId, send: SendMessage): Promise<{ row: string; repeated: boolean }> {
    const { roomId, message, nonce } = send;
    const keys = this.#keys;
    const listed = roomId !== GENERAL && pairOf(roomId) === null;
    const tail = JSON.stringify({ from, message, nonce }).slice(1);
    const reply = await this.#append(
      [
        keys.room(roomId),
        keys.meta(roomId),
        keys.members(roomId),
        keys.nonce(roomId, from, nonce),
        keys.read(roomId),
      ],
      [roomId, from, tail, this.#channelOf(roomId), this.#envelope, NONCE_MS, listed ? "1" : "0"],
    );
    const [outcome, row] = reply as [string, string?];
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
    for (;;) {
      const head = await this.head(roomId);
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
    return { messages: parseRows(roomId, rows), more };
  }

  /** The same as JSON. */
  pageJson(roomId: RoomId, cursor: PageCursor): Promise<Buffer> {
    const { before, after, size } = cursor;
    return this.#readOnce(`page ${roomId} ${before} ${after} ${size}`, async () => {
      const { rows, more } = await this.#rows(roomId, cursor);
      return Buffer.from(`{"messages":[${toJson(roomId, rows)}],"more":${more}}`);
    });
  }

  /** What follows a client's cursor: a SyncedRoom as JSON. */
  syncJson({ roomId, seq, date, hash = "" }: Cursor): Promise<string> {
    return this.#readOnce(`sync ${roomId} ${seq} ${date} ${hash}`, async () => {
      const { reset, rows, more } = await this.#following(roomId, { seq, date, hash });
      const why = reset ? `,"reset":"${reset}"` : "";
      return `{"roomId":"${roomId}","messages":[${toJson(roomId, rows)}],"more":${more}${why}}`;
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

  /** What follows a replica's head, as the relay wants it: rows untouched. */
  async after(roomId: RoomId, from: Head): Promise<Following> {
    const { reset, rows, more, head } = await this.#following(roomId, from);
    if (reset) return { reset: true, rows: [], more: false, head };
    const stored = rows.filter(isOwnRow);
    const last = stored.at(-1);
    const reached = last === undefined ? null : headOf(last);
    return { reset: false, rows: stored, more: more && reached !== null, head: reached ?? from };
  }

  /** The newest message's place in the log. */
  async head(roomId: RoomId): Promise<Head> {
    const [seq, date, hash] = await this.#redis.hmget(this.#keys.meta(roomId), "seq", "date", "hash");
    return seq && date && hash ? { seq: Number(seq), date: Number(date), hash } : EMPTY;
  }

  async isStored(roomId: RoomId, row: string): Promise<boolean> {
    return (await this.#redis.zscore(this.#keys.room(roomId), row)) !== null;
  }

  /**
   * Group commit: all messages that were stored while one WAIT was under way share the next one. On a Cluster, where
   * rooms are on different primaries, each room has its own.
   */
  #copied(roomId: RoomId): Promise<void> {
    const group = this.#redis instanceof Cluster ? roomId : "all";
    const waits = this.#waits.get(group) ?? { running: Promise.resolve(), next: undefined };
    this.#waits.set(group, waits);
    waits.next ??= waits.running.then(() => {
      waits.next = undefined;
      const wait = this.#wait(roomId);
      const over = () => {
        if (!waits.next) this.#waits.delete(group);
      };
      waits.running = wait.then(over, over);
      return wait;
    });
    return waits.next;
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

  async #rows(
    roomId: RoomId,
    { before, after, size }: PageCursor,
  ): Promise<{ rows: string[]; more: boolean }> {
    const room = this.#keys.room(roomId);
    const max = before === undefined ? "+inf" : `(${before}`;
    if (after !== undefined) {
      const rows = await this.#redis.zrangebyscore(room, `(${after}`, max, "LIMIT", 0, size + 1);
      return { rows: rows.slice(0, size), more: rows.length > size };
    }
    const rows = await this.#redis.zrevrangebyscore(room, max, "-inf", "LIMIT", 0, size + 1);
    return { rows: rows.slice(0, size).toReversed(), more: rows.length > size };
  }

  async #following(roomId: RoomId, from: Head) {
    const keys = [this.#keys.room(roomId), this.#keys.meta(roomId)];
    const reply = await this.#sync(keys, [
      from.seq,
      from.date,
      from.hash,
      BOUNDS.syncRows.value,
      BOUNDS.syncBytes.value,
    ]);
    const [status, seq, date, hash, more, ...rows] = reply as [
      string,
      string,
      string,
      string,
      string,
      ...string[],
    ];
    return {
      reset: RESETS.find((reason) => reason === status),
      rows,
      more: more === "1",
      head: { seq: Number(seq), date: Number(date), hash },
    };
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
  const [, json = "", roomId = "", seq, date, hash = "", tail = ""] = announced;
  return { roomId, json, tail, hash, seq: Number(seq), date: Number(date) };
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

/**
 * A message that another program announced without `append`. It is passed on as it is, but without a place in
 * the log: `seq` and `hash` are the log's own, and the next stored message will carry that seq.
 */
export function parseForeignMessage(data: unknown): Message | null {
  if (!isRecord(data)) return null;
  const { from, message, date, nonce } = data;
  const roomId = typeof data["roomId"] === "number" ? String(data["roomId"]) : data["roomId"];
  const author = typeof from === "number" ? String(from) : from;
  if (!isRoomId(roomId) || typeof author !== "string" || !USER_ID.test(author)) return null;
  if (typeof message !== "string" || message.length === 0 || message.length > LIMITS.message) return null;
  if (typeof date !== "number" || !(date >= 0 && date <= LAST_DATE)) return null;
  return { roomId, date, from: author, message, ...(typeof nonce === "string" && { nonce }) };
}

/**
 * Rows of a room's sorted set. Those that another program added lack a place in the log and may spell ids as numbers;
 * what is no message at all is left out rather than taking the whole page with it.
 */
export function parseRows(roomId: RoomId, rows: string[]): Message[] {
  return rows.flatMap((row) => {
    try {
      const stored: unknown = JSON.parse(row);
      if (isOwnRow(row)) return stored as Message;
      return parseForeignMessage({ ...(stored as object), roomId }) ?? [];
    } catch {
      return [];
    }
  });
}

/** The same as JSON, separated by commas, parsing only what other programs added. */
function toJson(roomId: RoomId, rows: string[]): string {
  return rows
    .flatMap((row) =>
      isOwnRow(row) ? row : parseRows(roomId, [row]).map((message) => JSON.stringify(message)),
    )
    .join(",");
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
