import { Cluster } from "ioredis";
import { ChatError } from "../errors.ts";
import type { Config } from "../config.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import {
  GENERAL,
  isRoomId,
  pairOf,
  type Cursor,
  type ListedRoom,
  type Message,
  type Page,
  type RoomId,
  type SendMessage,
  type UserId,
} from "../protocol.ts";
import { defineScript, type RedisClient } from "../redis.ts";
import { chain, headOf, isOwnRow, parseForeignMessage, type Following, type Head } from "../relay.ts";
import { Ids } from "./ids.ts";
import { looksLikeGeneral, looksOf } from "./names.ts";

/** The field of the looks that says up to which room they were written down: no name has it. */
const LOOKS_DONE = "";
const LOOKS_AT_ONCE = 500;
/** How long a retry of a send is recognised. */
const NONCE_MS = 48 * 3600 * 1_000;
const RESETS = ["ahead", "rewound", "trimmed"] as const;
const EMPTY: Head = { seq: 0, date: 0, hash: "" };

/** Dates in ms; without either, the newest page. */
export type PageCursor = { before?: number | undefined; after?: number | undefined; size: number };

/** What one member sees of a room, before names are put to ids. */
export type RoomState = { id: RoomId; name: string | null; last: Message | null; seq: number; read: number };

/**
 * Rooms, and their messages in sorted sets. The log of a room is gap-free by `seq` and strictly rising by `date`,
 * the score, so that a page is a score range, and equal texts stay two messages.
 */
export class Rooms {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #ids: Ids;
  readonly #channelOf: (roomId: RoomId) => string;
  readonly #envelope: string;
  readonly #copies: { count: number; timeoutMs: number };
  readonly #reads = new Map<string, Promise<unknown>>();
  readonly #waits = new Map<string, { running: Promise<void>; next: Promise<void> | undefined }>();
  readonly #append: ReturnType<typeof defineScript>;
  readonly #sync: ReturnType<typeof defineScript>;
  readonly #read: ReturnType<typeof defineScript>;
  readonly #load: ReturnType<typeof defineScript>;

  constructor(
    redis: RedisClient,
    keys: Keys,
    config: Pick<Config, "serverId" | "relayChannel" | "waitReplicas" | "waitMs">,
  ) {
    this.#redis = redis;
    this.#keys = keys;
    this.#ids = new Ids(redis, keys, "room");
    this.#channelOf = config.relayChannel === "rooms" ? keys.roomChannel : () => keys.channel;
    this.#envelope = `{"serverId":${JSON.stringify(config.serverId)},"type":"message","data":`;
    this.#copies = { count: config.waitReplicas, timeoutMs: config.waitMs };
    this.#append = defineScript(redis, "chat/append.lua", 5);
    this.#sync = defineScript(redis, "chat/sync.lua", 2);
    this.#read = defineScript(redis, "chat/read.lua", 2);
    this.#load = defineScript(redis, "chat/load.lua", 2);
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

  /** Creates a named room with its first member. Throws `taken`, also where its name can be taken for another room's. */
  async create(name: string, creator: UserId): Promise<RoomId> {
    const keys = this.#keys;
    const taken = new ChatError("taken", "There is already a room of this name.");
    if (looksLikeGeneral(name) || (await this.#redis.exists(keys.roomByName(name)))) throw taken;
    await this.#writeDownLooks();
    const id = await this.#ids.claim((free) => this.#claimId(free, name));
    const claimed = await this.#redis.set(keys.roomByName(name), `room:${id}`, "NX");
    if (claimed !== "OK") {
      await this.#redis.del(keys.roomName(id));
      throw taken;
    }
    if (!(await this.#claimLooks(id, name))) {
      await this.#redis.del(keys.roomName(id));
      await this.#redis.del(keys.roomByName(name));
      throw new ChatError("taken", "There is already a room whose name looks like this one.");
    }
    await this.join(id, creator);
    return id;
  }

  /** Takes what a name looks like for its room; false where another room has it. */
  async #claimLooks(id: RoomId, name: string): Promise<boolean> {
    const looks = this.#keys.roomLooks;
    const claimed: string[] = [];
    for (const look of looksOf(name).toSorted()) {
      if ((await this.#redis.hsetnx(looks, look, id)) === 1) {
        claimed.push(look);
        continue;
      }
      const holder = await this.#redis.hget(looks, look);
      if (holder === id) continue;
      const theirs = holder === null ? null : await this.#redis.get(this.#keys.roomName(holder));
      if (theirs !== null && looksOf(theirs).includes(look)) {
        if (claimed.length > 0) await this.#redis.hdel(looks, ...claimed);
        return false;
      }
      // A room that was not made in the end, or is gone, had it.
      await this.#redis.hset(looks, look, id);
    }
    return true;
  }

  /** Writes down the looks of rooms that were made without: before there were any, by older replicas, up to a crash. */
  async #writeDownLooks(): Promise<void> {
    const { roomLooks: looks, totalRooms } = this.#keys;
    const [last, done] = await Promise.all([
      this.#redis.get(totalRooms),
      this.#redis.hget(looks, LOOKS_DONE),
    ]);
    const total = Number(last ?? 0);
    for (let from = Number(done ?? 0); from < total; from += LOOKS_AT_ONCE) {
      const ids = Array.from({ length: Math.min(LOOKS_AT_ONCE, total - from) }, (_, index) =>
        String(from + 1 + index),
      );
      await Promise.all(
        ids.map(async (id) => {
          const name = await this.#redis.get(this.#keys.roomName(id));
          const written = looksOf(name ?? "").filter(Boolean);
          await Promise.all(written.map((look) => this.#redis.hsetnx(looks, look, id)));
        }),
      );
    }
    if (total > Number(done ?? 0)) await this.#redis.hset(looks, LOOKS_DONE, total);
  }

  /** Takes an id for a name; false where a room, or the messages or members of a lost one, has it. */
  async #claimId(id: RoomId, name: string): Promise<boolean> {
    const keys = this.#keys;
    if ((await this.#redis.setnx(keys.roomName(id), name)) === 0) return false;
    if ((await this.#redis.exists(keys.room(id), keys.meta(id), keys.members(id))) === 0) return true;
    await this.#redis.del(keys.roomName(id));
    return false;
  }

  async byName(name: string): Promise<RoomId | null> {
    const claim = await this.#redis.get(this.#keys.roomByName(name));
    return claim === null ? null : claim.replace(/^room:/, "");
  }

  /** Makes sure that General has its name, and that no other room gets it. */
  async nameGeneral(): Promise<void> {
    await this.#redis.set(this.#keys.roomByName("General"), `room:${GENERAL}`, "NX");
    await this.#redis.set(this.#keys.roomName(GENERAL), "General", "NX");
  }

  exists(roomId: RoomId): Promise<boolean> {
    return this.#redis.exists(this.#keys.roomName(roomId)).then(Boolean);
  }

  /** Members first: who is listed as a member but does not see the room can join again; the reverse would be deaf. */
  async join(roomId: RoomId, userId: UserId): Promise<void> {
    await this.#redis.sadd(this.#keys.members(roomId), userId);
    await this.#redis.sadd(this.#keys.userRooms(userId), roomId);
  }

  async leave(roomId: RoomId, userId: UserId): Promise<void> {
    await this.#redis.srem(this.#keys.userRooms(userId), roomId);
    await this.#redis.srem(this.#keys.members(roomId), userId);
  }

  /** Puts a private room into a user's list; true if it was not there. */
  async show(roomId: RoomId, userId: UserId): Promise<boolean> {
    return (await this.#redis.sadd(this.#keys.userRooms(userId), roomId)) === 1;
  }

  async of(userId: UserId): Promise<RoomId[]> {
    // Another program may have put in anything.
    return (await this.#redis.smembers(this.#keys.userRooms(userId))).filter(isRoomId);
  }

  count(userId: UserId): Promise<number> {
    return this.#redis.scard(this.#keys.userRooms(userId));
  }

  isMember(roomId: RoomId, userId: UserId): Promise<boolean> {
    return this.#redis.sismember(this.#keys.userRooms(userId), roomId).then(Boolean);
  }

  async state(roomId: RoomId, userId: UserId): Promise<RoomState> {
    const keys = this.#keys;
    const [name, newest, seq, read] = await Promise.all([
      pairOf(roomId) ? null : this.#redis.get(keys.roomName(roomId)),
      this.#redis.zrevrange(keys.room(roomId), 0, 0),
      this.#redis.hget(keys.meta(roomId), "seq"),
      this.#redis.hget(keys.read(roomId), userId),
    ]);
    return {
      id: roomId,
      name,
      last: parseRows(roomId, newest)[0] ?? null,
      seq: Number(seq ?? 0),
      read: Number(read ?? 0),
    };
  }

  /** Moves a read mark upwards; answers where it stands. */
  async read(roomId: RoomId, userId: UserId, seq: number): Promise<number> {
    return Number(await this.#read([this.#keys.read(roomId), this.#keys.meta(roomId)], [userId, seq]));
  }

  /** Named rooms with an id above `after`, ascending, from the next `size` ids. */
  async directory(after: number, size: number, userId: UserId): Promise<ListedRoom[]> {
    const keys = this.#keys;
    const total = Number((await this.#redis.get(keys.totalRooms)) ?? 0);
    const ids = Array.from({ length: Math.max(0, Math.min(size, total - after)) }, (_, index) =>
      String(after + 1 + index),
    );
    const listed = await Promise.all(
      ids.map(async (id) => {
        const [name, members, joined] = await Promise.all([
          this.#redis.get(keys.roomName(id)),
          this.#redis.scard(keys.members(id)),
          this.#redis.sismember(keys.members(id), userId),
        ]);
        return name === null ? [] : [{ id, name, members, joined: joined === 1 }];
      }),
    );
    return listed.flat();
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

/**
 * Rows of a room's sorted set. Those that another program added lack a place in the log and may spell ids as numbers;
 * what is no message at all is left out rather than taking the whole page with it.
 */
function parseRows(roomId: RoomId, rows: string[]): Message[] {
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
