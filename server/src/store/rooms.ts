import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { looksLikeGeneral, looksOf } from "../names.ts";
import { GENERAL, pairOf, type ListedRoom, type RoomId, type UserId } from "../protocol.ts";
import { Ids } from "./ids.ts";
import type { Members } from "./members.ts";
import { NameIndex, type NamesFound } from "./nameIndex.ts";
import { defineScript, type RedisClient } from "./redis.ts";

/** The field of the looks that says up to which room they were written down: no name has it. */
const LOOKS_DONE = "";
const LOOKS_AT_ONCE = 500;
const DELETED_MOST = 500;

/** What one member sees of a room, before names are put to ids. */
export type RoomState = { id: RoomId; name: string | null; seq: number; read: number; deleted: number[] };

/** Rooms: their names, who is in them, and how far each has read. Their messages are the log's. */
export class Rooms {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #ids: Ids;
  readonly #members: Members;
  readonly #index: NameIndex;
  readonly #read: ReturnType<typeof defineScript>;

  constructor(redis: RedisClient, keys: Keys, members: Members) {
    this.#redis = redis;
    this.#keys = keys;
    this.#members = members;
    this.#ids = new Ids(redis, keys, "room");
    this.#index = new NameIndex({
      last: async () => Number((await redis.get(keys.totalRooms)) ?? 0),
      read: (ids) => Promise.all(ids.map((id) => redis.get(keys.roomName(id)))),
    });
    this.#read = defineScript(redis, "read.lua", 2);
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
    await this.#members.join(id, creator);
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
    if ((await this.#redis.exists(keys.room(id), keys.meta(id), keys.records(id), keys.members(id))) === 0)
      return true;
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

  async state(roomId: RoomId, userId: UserId): Promise<RoomState> {
    const keys = this.#keys;
    const [name, seq, read] = await Promise.all([
      pairOf(roomId) ? null : this.#redis.get(keys.roomName(roomId)),
      this.#redis.hget(keys.meta(roomId), "seq"),
      this.#redis.hget(keys.read(roomId), userId),
    ]);
    return {
      id: roomId,
      name,
      seq: Number(seq ?? 0),
      read: Number(read ?? 0),
      deleted: await this.#deleted(roomId, Number(read ?? 0)),
    };
  }

  /** Which messages beyond a mark are deleted: so many of the newest as anybody counts unread ones. */
  async #deleted(roomId: RoomId, read: number): Promise<number[]> {
    const limit = ["LIMIT", "0", String(DELETED_MOST)] as const;
    const seqs = await this.#redis.zrevrangebyscore(this.#keys.deleted(roomId), "+inf", `(${read}`, ...limit);
    return seqs.map(Number).toReversed();
  }

  /** Moves a read mark upwards; answers where it stands. */
  async read(roomId: RoomId, userId: UserId, seq: number): Promise<number> {
    return Number(await this.#read([this.#keys.read(roomId), this.#keys.meta(roomId)], [userId, seq]));
  }

  /** Named rooms with an id above `after`, ascending, from the next `size` ids. */
  async directory(after: number, size: number, userId: UserId): Promise<ListedRoom[]> {
    const total = Number((await this.#redis.get(this.#keys.totalRooms)) ?? 0);
    const ids = Array.from({ length: Math.max(0, Math.min(size, total - after)) }, (_, index) =>
      String(after + 1 + index),
    );
    return this.listed(ids, userId);
  }

  /** Named rooms with this text in their name: NameIndex tells how, and what `after` is. */
  search(text: string, after: RoomId | undefined, size: number): Promise<NamesFound> {
    return this.#index.find(text, after, size);
  }

  /** How many names a search looks at. */
  get searched(): number {
    return this.#index.size;
  }

  /** What the directory says of the named rooms that there are among these. */
  async listed(ids: readonly RoomId[], userId: UserId): Promise<ListedRoom[]> {
    const keys = this.#keys;
    const rooms = await Promise.all(
      ids.map(async (id) => {
        const [name, members, joined] = await Promise.all([
          this.#redis.get(keys.roomName(id)),
          this.#members.size(id),
          this.#members.has(id, userId),
        ]);
        return name === null ? [] : [{ id, name, members, joined }];
      }),
    );
    return rooms.flat();
  }
}
