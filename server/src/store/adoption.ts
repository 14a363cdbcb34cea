import type { Config } from "../config.ts";
import type { Keys } from "../keys.ts";
import type { Revision, RoomId } from "../protocol.ts";
import { channelsOf, envelopeOf, isOwnRow, parseRow, readForeign, type Foreign } from "./codec.ts";
import type { Json } from "./json.ts";
import { defineScript, type RedisClient } from "./redis.ts";
import type { Schema } from "./schema.ts";
import { SharedRuns } from "./sharedRuns.ts";

/** As change.lua has it. */
const CHANGES_KEPT = 1_000;
/** Rows that one step reads or adopts: about a millisecond of Redis. */
const ADOPTED_AT_ONCE = 200;
const ADOPTED_MOST = 5_000;
/** Rooms of which something is remembered. */
export const ROOMS_REMEMBERED = 10_000;
/** How often rows of other programs are adopted before the rest is skipped. */
export const ADOPT_TRIES = 3;

/** What other programs did to a room's sorted set: rows of theirs become messages, and what they took away is noted. */
export class Adoption {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #channelOf: (roomId: RoomId) => string;
  readonly #envelope: string;
  readonly #schema: Schema;
  readonly #running = new SharedRuns<number>();
  /** How many rows of a room are no messages. */
  readonly #strays = new Map<RoomId, number>();
  readonly #count: ReturnType<typeof defineScript>;
  readonly #adoptRows: ReturnType<typeof defineScript>;
  readonly #load: ReturnType<typeof defineScript>;

  constructor(
    redis: RedisClient,
    keys: Keys,
    config: Pick<Config, "serverId" | "relayChannel">,
    schema: Schema,
  ) {
    this.#redis = redis;
    this.#keys = keys;
    this.#channelOf = channelsOf(keys, config);
    this.#envelope = envelopeOf(config.serverId);
    this.#schema = schema;
    this.#count = defineScript(redis, ["head.lua", "count.lua"]);
    this.#adoptRows = defineScript(redis, ["head.lua", "adopt.lua"]);
    this.#load = defineScript(redis, ["head.lua", "load.lua"]);
  }

  /**
   * Turns what other programs added to a room's sorted set into messages, a few at a time: the row goes, and a message
   * with its text is appended, once, by the first replica. Answers how many. Rows that are no messages stay, and are
   * never read. Calls during a run share the next one.
   */
  run(roomId: RoomId): Promise<number> {
    return this.#running.run(roomId, () => this.#adopt(roomId));
  }

  /**
   * The same, and of these rows whatever the count says, oldest first: a program may have added some and removed as many.
   * Without rows, of the newest ones.
   */
  async runFor(roomId: RoomId, rows?: readonly Json[]): Promise<number> {
    const taken = await this.run(roomId);
    if (taken > 0) return taken;
    const seen = rows ?? (await this.#newest(roomId, 0)).toReversed();
    return this.#take(roomId, "ours", readForeign(roomId, seen.filter((row) => !isOwnRow(row)).map(String)));
  }

  async #adopt(roomId: RoomId): Promise<number> {
    const { seq, isTheirs, size, others } = await this.#counted(roomId);
    if (seq === null && (await this.#restoreHead(roomId))) return this.#adopt(roomId);
    if (others < 0 && !isTheirs) return this.#recount(roomId, size);
    if (others <= (this.#strays.get(roomId) ?? 0) && !isTheirs) {
      // If they are fewer than before, one more is a new one.
      if (this.#strays.has(roomId)) this.#strays.set(roomId, others);
      return 0;
    }
    const isOurs = seq !== null && !isTheirs;
    const taken = isOurs ? await this.#takeNewest(roomId, size, others) : await this.#takeOver(roomId);
    // Counted again, because another replica may have taken some; and what came since was not looked at.
    const left = taken === 0 ? Math.min(others, (await this.#counted(roomId)).others) : 0;
    if (this.#strays.size >= ROOMS_REMEMBERED) this.#strays.clear();
    this.#strays.set(roomId, left);
    return taken;
  }

  /** How many rows a room has, and how many of them are not ours: fewer than none if rows of ours are gone. */
  async #counted(
    roomId: RoomId,
  ): Promise<{ seq: number | null; isTheirs: boolean; size: number; others: number }> {
    const reply = await this.#count([this.#keys.room(roomId), this.#keys.meta(roomId)], []);
    const [first, seq, theirs, size] = reply as [string | null, string | null, string | null, number];
    const ours = seq === null ? 0 : Number(seq) - Number(first ?? 1) + 1;
    return { seq: seq === null ? null : Number(seq), isTheirs: theirs !== null, size, others: size - ours };
  }

  /**
   * Finds the head of a log of ours again, if Redis has lost it: otherwise the next messages would get numbers that others
   * have. False if the log has no row of ours among its newest, or somebody else found it.
   */
  async #restoreHead(roomId: RoomId): Promise<boolean> {
    const { room, meta } = this.#keys;
    const newest = (await this.#newest(roomId, 0)).find(isOwnRow);
    if (newest === undefined) return false;
    const { seq, date, hash } = parseRow(newest);
    const { rev, revHash } = await newestChange(this.#redis, this.#keys, roomId);
    if (rev > 0) {
      await this.#redis.hsetnx(meta(roomId), "revHash", revHash);
      await this.#redis.hsetnx(meta(roomId), "rev", rev);
    }
    const first = seq - (await this.#redis.zcard(room(roomId))) + 1;
    if (first > 1) await this.#redis.hsetnx(meta(roomId), "first", first);
    return (await this.#load([room(roomId), meta(roomId)], ["", seq, date, hash, date, newest])) === 1;
  }

  /**
   * Another program has removed rows, and perhaps added some: adopts those among the newest, and notes how many are left, as
   * if the oldest had been trimmed.
   */
  async #recount(roomId: RoomId, size: number): Promise<number> {
    const taken = await this.#takeNewest(roomId, Math.min(size, ADOPTED_MOST), ADOPTED_MOST);
    const { seq, size: left } = await this.#counted(roomId);
    if (seq !== null) await this.#redis.hset(this.#keys.meta(roomId), "first", seq - left + 1);
    this.#strays.delete(roomId);
    return taken;
  }

  /** Adopts rows in a log of ours: rarely more than the newest few. */
  async #takeNewest(roomId: RoomId, size: number, others: number): Promise<number> {
    let missing = others;
    const found: Foreign[] = [];
    for (
      let place = 0;
      place < size && missing > 0 && found.length < ADOPTED_MOST;
      place += ADOPTED_AT_ONCE
    ) {
      const slice = await this.#newest(roomId, place);
      const rows = slice.filter((row) => !isOwnRow(row));
      missing -= rows.length;
      found.unshift(...readForeign(roomId, rows.toReversed()));
    }
    return this.#take(roomId, "ours", found);
  }

  /** Some rows, newest first, after the first ones. */
  #newest(roomId: RoomId, place: number): Promise<string[]> {
    return this.#redis.zrevrange(this.#keys.room(roomId), place, place + ADOPTED_AT_ONCE - 1);
  }

  /** Takes over a log that is wholly another program's, from its beginning. */
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
}

/** The newest change that is kept of a room, with the running hash over all; rev 0 if none is. */
export async function newestChange(redis: RedisClient, keys: Keys, roomId: RoomId): Promise<Revision> {
  const [, rev = "0"] = await redis.zrevrange(keys.changed(roomId), 0, 0, "WITHSCORES");
  const kept = await redis.hget(keys.revs(roomId), String(Number(rev) % CHANGES_KEPT));
  const [known, revHash = ""] = kept?.split(":") ?? [];
  return { rev: Number(rev), revHash: known === rev ? revHash : "" };
}
