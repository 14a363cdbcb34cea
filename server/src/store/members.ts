import type { Config } from "../config.ts";
import type { Keys } from "../keys.ts";
import { isRoomId, type RoomId, type UserId } from "../protocol.ts";
import { keepsRecords } from "./kinds.ts";
import { announcementOf, changeKeys, channelsOf, unknownRoom } from "./log.ts";
import { defineScript, type RedisClient } from "./redis.ts";
import { LATEST, type Schema } from "./schema.ts";

/** What a named room stores about one member. */
const MEMBER = JSON.stringify({ role: "member" });
const MOVED_AT_ONCE = 500;

/**
 * Who is in which room. A named room's records are the one authority; every change of them has a `rev`, and is
 * announced in the room's own order. Each user's list of rooms is an index of it; it also says which of the other
 * rooms (General and private rooms, which nobody is removed from) the user sees.
 */
export class Members {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #schema: Schema;
  readonly #channelOf: (roomId: RoomId) => string;
  readonly #serverId: string;
  readonly #change: ReturnType<typeof defineScript>;

  constructor(
    redis: RedisClient,
    keys: Keys,
    config: Pick<Config, "serverId" | "relayChannel">,
    schema: Schema = LATEST,
  ) {
    this.#redis = redis;
    this.#keys = keys;
    this.#schema = schema;
    this.#serverId = config.serverId;
    this.#channelOf = channelsOf(keys, config);
    this.#change = defineScript(redis, "change.lua", 9);
  }

  /**
   * Writes the room's records first: a member without the room in their list can join again; the reverse hears
   * nothing.
   */
  async join(roomId: RoomId, userId: UserId): Promise<void> {
    await this.#set(roomId, userId, "", MEMBER);
    await this.#redis.sadd(this.#keys.userRooms(userId), roomId);
  }

  async leave(roomId: RoomId, userId: UserId): Promise<void> {
    await this.#set(roomId, userId, "*", "");
    await this.#redis.srem(this.#keys.userRooms(userId), roomId);
  }

  /** Puts a private room into a user's list; true if it was not there. */
  async show(roomId: RoomId, userId: UserId): Promise<boolean> {
    return (await this.#redis.sadd(this.#keys.userRooms(userId), roomId)) === 1;
  }

  /** The rooms that a user sees. */
  async of(userId: UserId): Promise<RoomId[]> {
    // Another program may have added anything.
    return (await this.#redis.smembers(this.#keys.userRooms(userId))).filter(isRoomId);
  }

  /** Whether a room is in the user's list. */
  async sees(roomId: RoomId, userId: UserId): Promise<boolean> {
    return (await this.#redis.sismember(this.#keys.userRooms(userId), roomId)) === 1;
  }

  count(userId: UserId): Promise<number> {
    return this.#redis.scard(this.#keys.userRooms(userId));
  }

  /** Whether the user is in the room. */
  async has(roomId: RoomId, userId: UserId): Promise<boolean> {
    if (!keepsRecords(roomId)) return this.sees(roomId, userId);
    if (this.#schema.mixed) await this.#set(roomId, userId, "set", MEMBER);
    return (await this.#redis.hexists(this.#keys.records(roomId), userId)) === 1;
  }

  /** Throws `not_found`, as of a room that does not exist, if this is no room of the user's. */
  async demand(roomId: RoomId, userId: UserId): Promise<void> {
    if (!(await this.has(roomId, userId))) throw unknownRoom();
  }

  /** Those of these users who are in a room, by its records. */
  async among(roomId: RoomId, userIds: UserId[]): Promise<Set<UserId>> {
    if (!keepsRecords(roomId)) return new Set(userIds);
    const inside = await Promise.all(userIds.map((id) => this.has(roomId, id)));
    return new Set(userIds.filter((_, index) => inside[index]));
  }

  /** Makes a user's list agree with the room's records; answers whether the user is in the room. */
  async mendList(userId: UserId, roomId: RoomId): Promise<boolean> {
    const isTheirs = await this.has(roomId, userId);
    if (!keepsRecords(roomId)) return isTheirs;
    const list = this.#keys.userRooms(userId);
    await (isTheirs ? this.#redis.sadd(list, roomId) : this.#redis.srem(list, roomId));
    return isTheirs;
  }

  size(roomId: RoomId): Promise<number> {
    return this.#redis.hlen(this.#keys.records(roomId));
  }

  /** Copies into the records what servers that know only the set have changed. */
  async settle(roomId: RoomId): Promise<void> {
    const { records, members } = this.#keys;
    const [recorded, listed] = await Promise.all([
      this.#redis.hkeys(records(roomId)),
      this.#redis.smembers(members(roomId)),
    ]);
    const known = new Set(recorded);
    const inside = new Set(listed);
    const differing = [
      ...listed.filter((id) => !known.has(id)),
      ...(listed.length > 0 ? recorded.filter((id) => !inside.has(id)) : []),
    ];
    for (const id of differing) await this.#set(roomId, id, "set", MEMBER);
  }

  /** Copies the sets of all rooms into records. Announces nothing: membership stays the same. */
  async move(): Promise<void> {
    for await (const roomId of this.#named()) {
      let cursor = "0";
      do {
        const [next, ids] = await this.#redis.sscan(
          this.#keys.members(roomId),
          cursor,
          "COUNT",
          MOVED_AT_ONCE,
        );
        await Promise.all(ids.map((id) => this.#redis.hsetnx(this.#keys.records(roomId), id, MEMBER)));
        cursor = next;
      } while (cursor !== "0");
    }
  }

  async settleAll(): Promise<void> {
    for await (const roomId of this.#named()) await this.settle(roomId);
  }

  /** Deletes the sets, once no server reads them. */
  async forgetSets(): Promise<void> {
    for await (const roomId of this.#named()) {
      await this.settle(roomId);
      await this.#redis.unlink(this.#keys.members(roomId));
    }
  }

  async *#named(): AsyncGenerator<RoomId> {
    const total = Number((await this.#redis.get(this.#keys.totalRooms)) ?? 0);
    for (let id = 1; id <= total; id += 1) yield String(id);
  }

  async #set(roomId: RoomId, userId: UserId, before: string, record: string): Promise<void> {
    const what = `@${userId}`;
    await this.#change(changeKeys(this.#keys, roomId), [
      what,
      before,
      record,
      this.#channelOf(roomId),
      announcementOf(this.#serverId, roomId, what),
      `,"now":${JSON.stringify(record)}`,
      this.#schema.mixed ? "1" : "0",
    ]);
  }
}
