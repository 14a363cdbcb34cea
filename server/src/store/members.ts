import pLimit from "p-limit";
import type { Config } from "../config.ts";
import { ChatError, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { isRoomId, type Ban, type RoomId, type UserId } from "../protocol.ts";
import { BOUNDS } from "../limits.ts";
import { lastId, type Picked } from "./ids.ts";
import { FIRST_ROOMS, keepsRecords } from "./kinds.ts";
import { announcementOf, channelsOf, parseRecord, type MemberRecord } from "./codec.ts";
import { isRecord, parseJson } from "./json.ts";
import { changeKeys, unknownRoom } from "./log.ts";
import { defineScript, type RedisClient } from "./redis.ts";
import { LATEST, type Schema } from "./schema.ts";

const MEMBER = recordJson({ role: "member" });
const MOVED_AT_ONCE = 500;
/** How often a change is tried again while others change the record, or the actor's. */
const CHANGE_TRIES = 20;

/** The actor of a change: `decide` sees their record, which must not change until the change is stored. */
export type By = UserId | null;

/** A stored ban, without names. */
export type StoredBan = Omit<Ban, "username">;

/** What becomes of a member: the record, `null` for none; and of their ban. Undefined: nothing changes. */
export type Decided = { record: MemberRecord | null; ban?: Omit<StoredBan, "id"> | Entry } | undefined;

/**
 * What keeps somebody from coming in at the moment when that is stored: a ban, or also that the room is not open, or not
 * made yet.
 */
export type Entry = "guarded" | "open";

/** `mute`: for somebody who is not in the room, the mute with which they left it, unless it has ended. */
type Decide = (
  target: MemberRecord | null,
  actor: MemberRecord | null,
  mute: Mute,
) => Decided | Promise<Decided>;
export type Mute = Pick<MemberRecord, "mutedUntil">;

/** Who changes something in a room; `demand` throws if they may not with this record, null for none. */
export type Guard = { by: UserId; demand: (record: MemberRecord | null) => Promise<void> };

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
  readonly #add: ReturnType<typeof defineScript>;
  readonly #fields: ReturnType<typeof defineScript>;

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
    this.#change = defineScript(redis, ["head.lua", "change.lua"]);
    this.#add = defineScript(redis, "limited.lua");
    this.#fields = defineScript(redis, "fields.lua");
  }

  /**
   * Joins as a plain member, or as what `record` says, and as muted as they left. Writes the room's records first: a
   * member without the room in their list can join again; the reverse hears nothing. Throws `forbidden` for a banned user,
   * and for one in too many rooms, and as `change` does.
   */
  async join(
    roomId: RoomId,
    userId: UserId,
    { record = { role: "member" }, entry = "guarded" }: { record?: MemberRecord; entry?: Entry } = {},
  ): Promise<void> {
    const { before } = await this.change(roomId, userId, null, (known, _actor, mute) =>
      known === null ? { record: { ...record, ...mute }, ban: entry } : undefined,
    );
    await this.list(roomId, userId, before === null);
  }

  /**
   * Puts a room into its member's list, unless they are no member any more; throws `forbidden` if the list is full, and
   * takes a new member out again.
   */
  async list(roomId: RoomId, userId: UserId, isNew: boolean): Promise<void> {
    if ((await this.showWithin(roomId, userId)) !== null) {
      if (!(await this.has(roomId, userId))) await this.mendList(userId, roomId);
      return;
    }
    // The same user may have come in twice at once, the second time into a place that had become free.
    if (isNew) await this.takeOut(roomId, userId, null, () => ({ record: null }));
    throw tooManyRooms();
  }

  /**
   * Takes a member out of a room, as `change` does; answers what they were. The room leaves their list first: who has it
   * there alone would hear the room for ever, and who is in the records alone can be taken out, or come in, once more.
   */
  async takeOut(roomId: RoomId, userId: UserId, by: By, decide: Decide): Promise<MemberRecord | null> {
    await this.#unlist(roomId, userId);
    try {
      const { before } = await this.change(roomId, userId, by, decide);
      // A look at their connections may have put it back meanwhile; or they have come in again.
      await this.mendList(userId, roomId);
      return before;
    } catch (error) {
      await this.mendList(userId, roomId).catch(() => undefined);
      throw error;
    }
  }

  /** Answers what the member was. */
  async leave(roomId: RoomId, userId: UserId): Promise<MemberRecord | null> {
    if ((await this.record(roomId, userId))?.role === "owner") await this.keepOwner(roomId, userId);
    return this.takeOut(roomId, userId, null, () => ({ record: null }));
  }

  async #unlist(roomId: RoomId, userId: UserId): Promise<void> {
    await this.#redis.srem(this.#keys.userRooms(userId), roomId);
  }

  /**
   * Changes a member's record in the order of the room's changes, and announces it. `decide` gets it, and the actor's,
   * null for none; it is called again if one of the two changes before the change is stored. Answers the record before
   * and after. Throws `forbidden` if it would add a banned user, and `not_found` for a room that had to be open.
   */
  async change(
    roomId: RoomId,
    userId: UserId,
    by: By,
    decide: Decide,
  ): Promise<{ before: MemberRecord | null; after: MemberRecord | null }> {
    if (this.#schema.mixed) await this.#set(roomId, userId, "set", MEMBER);
    for (let tries = 1; tries <= CHANGE_TRIES; tries += 1) {
      const [stored, actor] = await this.#redis.hmget(this.#keys.records(roomId), userId, by ?? userId);
      const before = recordOf(stored);
      const mute = before === null ? await this.#muteOf(roomId, userId) : {};
      const decided = await decide(before, recordOf(actor), mute);
      if (decided === undefined) return { before, after: before };
      const { ban = "" } = decided;
      const record = storedOf(roomId, decided.record);
      const outcome = await this.#set(
        roomId,
        userId,
        stored ?? "",
        record === null ? "" : recordJson(record),
        {
          by: by ?? "",
          actor: actor ?? "",
          ban: typeof ban === "string" ? ban : JSON.stringify(ban),
        },
      );
      if (outcome === "banned") throw isBanned();
      if (outcome === "closed") throw unknownRoom();
      if (outcome === "changed" || outcome === "same") return { before, after: record };
    }
    throw tooMany();
  }

  async #muteOf(roomId: RoomId, userId: UserId): Promise<Mute> {
    const stored = this.#redis.hget(this.#keys.joined(roomId), `muted:${userId}`);
    const mutedUntil = Number(await unlessWrongType(stored, null));
    // Whether it is over, Redis' clock says: this one may be ahead.
    return mutedUntil > 0 ? { mutedUntil } : {};
  }

  /** Throws what keeps the actor from it by now. */
  async check(roomId: RoomId, { by, demand }: Guard): Promise<void> {
    await demand(await this.record(roomId, by));
  }

  /**
   * Sets and deletes fields of one of a room's hashes, while the actor may; answers how many were deleted. Without a
   * guard the server itself acts.
   */
  async write(
    roomId: RoomId,
    hash: string,
    { set = {}, gone = [] }: { set?: Readonly<Record<string, string | number>>; gone?: readonly string[] },
    guard?: Guard,
  ): Promise<number> {
    const records = this.#keys.records(roomId);
    const fields = Object.entries(set);
    for (let tries = 1; tries <= CHANGE_TRIES; tries += 1) {
      const actor = guard ? await this.#redis.hget(records, guard.by) : null;
      await guard?.demand(recordOf(actor));
      const told = [guard?.by ?? "", actor ?? "", fields.length, ...fields.flat(), ...gone];
      const deleted = Number(await this.#fields([records, hash], told));
      if (deleted >= 0) return deleted;
    }
    throw tooMany();
  }

  /**
   * What the room knows of this user; null if that is nothing: then they are no member, or in General an ordinary one.
   */
  async record(roomId: RoomId, userId: UserId): Promise<MemberRecord | null> {
    return recordOf(await this.#redis.hget(this.#keys.records(roomId), userId));
  }

  async records(roomId: RoomId, userIds: readonly UserId[]): Promise<(MemberRecord | null)[]> {
    if (userIds.length === 0) return [];
    return (await this.#redis.hmget(this.#keys.records(roomId), ...userIds)).map(recordOf);
  }

  /** The members of a room that keeps records, with an id above `after`, ascending. */
  async page(roomId: RoomId, after: number, size: number): Promise<Picked<UserId>> {
    const ids = (await this.all(roomId)).map(Number);
    const found = ids
      .filter((id) => id > after)
      .toSorted((one, other) => one - other)
      .slice(0, size)
      .map(String);
    return { found, looked: ids.length };
  }

  /**
   * Gives a room that lost its owner a new one, if it has members: a moderator, or else the member who has been on the
   * server for the longest time. `leaving`: an owner who is about to go, and does not count; call it once more when they
   * are gone, because another owner may have left meanwhile.
   */
  async keepOwner(roomId: RoomId, leaving?: UserId): Promise<void> {
    const meta = this.#keys.meta(roomId);
    let isNoted = false;
    for (;;) {
      const all = Object.entries(await this.#redis.hgetall(this.#keys.records(roomId)))
        .map(([id, text]) => ({ id, ...parseRecord(text) }))
        .filter(({ id, disabled }) => !disabled && id !== leaving)
        .toSorted((one, other) => Number(one.id) - Number(other.id));
      const heir = all.find(({ role }) => role === "moderator") ?? all[0];
      if (all.some(({ role }) => role === "owner")) break;
      if (heir) {
        // The heir may leave at the same time: then there may be another.
        await this.change(roomId, heir.id, null, (record) =>
          record === null ? undefined : { record: { ...record, role: "owner" } },
        );
      } else {
        if (isNoted) return;
        // Before the owner goes too: nothing else tells an empty room from one that has lost its records.
        await this.#redis.hset(meta, "unowned", 1);
        if (leaving !== undefined) return;
        // Whoever comes in now may not have seen the note yet: look once more.
        isNoted = true;
      }
    }
    await this.#redis.hdel(meta, "unowned");
  }

  /**
   * Makes a new member the owner of a room that nobody owned. Of a room whose records are lost nobody becomes one by
   * coming in: an admin of the server says who is.
   */
  async giveOwner(roomId: RoomId): Promise<void> {
    const unowned = await this.#redis.hget(this.#keys.meta(roomId), "unowned");
    if (unowned !== null) await this.keepOwner(roomId);
  }

  /** The owners of a room that are not disabled. */
  async owners(roomId: RoomId): Promise<UserId[]> {
    return Object.entries(await this.#redis.hgetall(this.#keys.records(roomId))).flatMap(([id, text]) => {
      const { role, disabled } = parseRecord(text);
      return role === "owner" && !disabled ? [id] : [];
    });
  }

  /** Who may not come back to a room. */
  async bans(roomId: RoomId): Promise<StoredBan[]> {
    const stored = await this.#redis.hgetall(this.#keys.bans(roomId));
    return Object.entries(stored).flatMap(([id, text]) => {
      const { by, at, until } = banOf(text);
      return until !== undefined && until <= Date.now()
        ? []
        : [{ id, by, at, ...(until !== undefined && { until }) }];
    });
  }

  /** Those that have ended too. */
  countBans(roomId: RoomId): Promise<number> {
    return this.#redis.hlen(this.#keys.bans(roomId));
  }

  /** Throws `forbidden` for a banned user, as joining does. */
  async demandUnbanned(roomId: RoomId, userId: UserId): Promise<void> {
    const stored = await this.#redis.hget(this.#keys.bans(roomId), userId);
    if (stored !== null && (banOf(stored).until ?? Infinity) > Date.now()) throw isBanned();
  }

  /** Ends a ban; false if there was none. */
  async liftBan(roomId: RoomId, userId: UserId, guard: Guard): Promise<boolean> {
    return (await this.write(roomId, this.#keys.bans(roomId), { gone: [userId] }, guard)) === 1;
  }

  /**
   * Shuts a user out of all their rooms, or lets them in again: from then on the rooms' scripts refuse what they send.
   * The account must be marked as disabled before, because joining a room checks that afterwards: see `ChatRooms.keepOut`.
   */
  async bar(userId: UserId, on: boolean): Promise<void> {
    await this.#inEach(await this.of(userId), (roomId) => this.barFrom(roomId, userId, on));
  }

  /** Takes a user whose account is deleted out of all rooms that keep records. */
  async leaveAll(userId: UserId): Promise<void> {
    const rooms = (await this.of(userId)).filter(keepsRecords);
    await this.#inEach(rooms, (roomId) => this.drop(roomId, userId));
  }

  /**
   * Takes somebody whose account is deleted out of a room. Unlike `leave`, the room stays in their list until they are
   * out: nobody but a repeat, which looks there, goes on with what is cut short.
   */
  async drop(roomId: RoomId, userId: UserId): Promise<void> {
    if ((await this.record(roomId, userId))?.role === "owner") await this.keepOwner(roomId, userId);
    const { before } = await this.change(roomId, userId, null, () => ({ record: null }));
    if (before?.role === "owner") await this.keepOwner(roomId);
    await this.mendList(userId, roomId);
  }

  /** A room that cannot be read does not keep the others from it: what it throws is thrown in the end. */
  async #inEach(roomIds: RoomId[], work: (roomId: RoomId) => Promise<void>): Promise<void> {
    const faults: unknown[] = [];
    await pLimit(BOUNDS.roomsAtOnce.value).map(roomIds, (roomId) =>
      work(roomId).catch((error: unknown) => faults.push(error)),
    );
    if (faults.length > 0) throw faults[0];
  }

  async barFrom(roomId: RoomId, userId: UserId, on: boolean): Promise<void> {
    if (on && (await this.record(roomId, userId))?.role === "owner") await this.keepOwner(roomId, userId);
    const { before } = await this.change(roomId, userId, null, (record) => {
      if (record === null && keepsRecords(roomId)) return undefined;
      const { disabled, ...rest } = record ?? { role: "member" };
      if ((disabled === true) === on) return undefined;
      return { record: on ? { ...rest, disabled: true } : rest };
    });
    if (on && before?.role === "owner") await this.keepOwner(roomId);
  }

  /** Puts a room into a user's list; true if it was not there, null if the list is full. */
  async showWithin(roomId: RoomId, userId: UserId): Promise<boolean | null> {
    const reply = await this.#add([this.#keys.userRooms(userId)], [roomId, BOUNDS.roomsOfUser.value]);
    return reply === -1 ? null : reply === 1;
  }

  /** Puts a private room into a user's list, however full it is; true if it was not there. */
  async show(roomId: RoomId, userId: UserId): Promise<boolean> {
    return (await this.#redis.sadd(this.#keys.userRooms(userId), roomId)) === 1;
  }

  /** The rooms that a user sees: General too where the list was lost. */
  async of(userId: UserId): Promise<RoomId[]> {
    // Another program may have added anything.
    const listed = (await this.#redis.smembers(this.#keys.userRooms(userId))).filter(isRoomId);
    return [...new Set([...FIRST_ROOMS, ...listed])];
  }

  /** Whether a room is in the user's list. */
  async sees(roomId: RoomId, userId: UserId): Promise<boolean> {
    if (FIRST_ROOMS.includes(roomId)) return true;
    return (await this.#redis.sismember(this.#keys.userRooms(userId), roomId)) === 1;
  }

  count(userId: UserId): Promise<number> {
    return this.#redis.scard(this.#keys.userRooms(userId));
  }

  /** Whether the user is in the room; nobody is whose account is disabled. */
  async has(roomId: RoomId, userId: UserId): Promise<boolean> {
    const isListed = keepsRecords(roomId);
    if (isListed && this.#schema.mixed) await this.#set(roomId, userId, "set", MEMBER);
    const [record, sees] = await Promise.all([
      this.record(roomId, userId),
      isListed || this.sees(roomId, userId),
    ]);
    return sees && (record === null ? !isListed : record.disabled !== true);
  }

  /** Throws `not_found`, as of a room that does not exist, if this is no room of the user's. */
  async demand(roomId: RoomId, userId: UserId): Promise<void> {
    if (!(await this.has(roomId, userId))) throw unknownRoom();
  }

  /**
   * Answers what is read of a room. Throws `not_found` if the user is not in it afterwards: if that were asked before, who
   * is removed meanwhile would read what was said later. What was read for a stranger is dropped, and so is its error.
   */
  async reading<T>(roomId: RoomId, userId: UserId, read: Promise<T>): Promise<T> {
    const [answer] = await Promise.allSettled([read]);
    await this.demand(roomId, userId);
    if (answer.status === "rejected") throw answer.reason;
    return answer.value;
  }

  /** Those of these users who are in a room, by its records. */
  async among(roomId: RoomId, userIds: UserId[]): Promise<Set<UserId>> {
    if (this.#schema.mixed && keepsRecords(roomId))
      for (const id of userIds) await this.#set(roomId, id, "set", MEMBER);
    const records = await this.records(roomId, userIds);
    const isInside = (record: MemberRecord | null | undefined) =>
      record ? record.disabled !== true : !keepsRecords(roomId);
    return new Set(userIds.filter((_, index) => isInside(records[index])));
  }

  /**
   * Makes a user's list agree with the room's records, whatever others write at once; answers whether the user is in the
   * room. A disabled account keeps its list, for the day when it is enabled.
   */
  async mendList(userId: UserId, roomId: RoomId): Promise<boolean> {
    const list = this.#keys.userRooms(userId);
    for (let isTheirs = await this.has(roomId, userId); ;) {
      if (!keepsRecords(roomId)) return isTheirs;
      const isKnown = isTheirs || (await this.record(roomId, userId)) !== null;
      // Within the limit: who is about to be taken out again, because the list is full, must not get into it here.
      await (isKnown ? this.showWithin(roomId, userId) : this.#redis.srem(list, roomId));
      const was = isTheirs;
      isTheirs = await this.has(roomId, userId);
      if (isTheirs === was) return isTheirs;
    }
  }

  /** Everybody in a room that keeps records. */
  all(roomId: RoomId): Promise<UserId[]> {
    return this.#redis.hkeys(this.#keys.records(roomId));
  }

  size(roomId: RoomId): Promise<number> {
    return this.#redis.hlen(this.#keys.records(roomId));
  }

  /** How many members a room has whose accounts are not disabled. */
  async present(roomId: RoomId): Promise<number> {
    const records = await this.#redis.hvals(this.#keys.records(roomId));
    return records.filter((text) => parseRecord(text).disabled !== true).length;
  }

  /** Copies into the records what servers that know only the set have changed. */
  async copySet(roomId: RoomId): Promise<void> {
    const [recorded, listed] = await Promise.all([
      this.all(roomId),
      this.#redis.smembers(this.#keys.members(roomId)),
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
    for await (const roomId of this.named()) {
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

  async copySets(): Promise<void> {
    for await (const roomId of this.named()) await this.copySet(roomId);
  }

  /** Deletes the sets, once no server reads them. */
  async forgetSets(): Promise<void> {
    for await (const roomId of this.named()) {
      await this.copySet(roomId);
      await this.#redis.unlink(this.#keys.members(roomId));
    }
  }

  /** The ids that named rooms may have, ascending. */
  async *named(): AsyncGenerator<RoomId> {
    const total = await lastId(this.#redis, this.#keys, "room");
    for (let id = 1; id <= total; id += 1) yield String(id);
  }

  /** The ids of General and of all that named rooms may have, ascending. */
  async *shared(): AsyncGenerator<RoomId> {
    yield* FIRST_ROOMS;
    yield* this.named();
  }

  async #set(
    roomId: RoomId,
    userId: UserId,
    before: string,
    record: string,
    { by = "", actor = "", ban = "" } = {},
  ): Promise<string> {
    const what = `@${userId}`;
    const [outcome] = (await this.#change(changeKeys(this.#keys, roomId), [
      what,
      before,
      record,
      this.#channelOf(roomId),
      announcementOf(this.#serverId, roomId, what),
      `,"now":${JSON.stringify(record)}`,
      keepsRecords(roomId) ? (this.#schema.mixed ? "2" : "1") : "0",
      by,
      actor,
      ban,
    ])) as [string];
    return outcome;
  }
}

function tooMany(): ChatError {
  return new ChatError("unavailable", "Too many are changing this room. Try again.", 500);
}

function isBanned(): ChatError {
  return new ChatError("forbidden", "This person is banned from the room.");
}

export function tooManyRooms(): ChatError {
  return new ChatError("forbidden", `You are in ${BOUNDS.roomsOfUser.value} rooms. Leave one first.`);
}

/** What is stored of a record: of somebody ordinary nothing, unless records say who is in the room. */
function storedOf(roomId: RoomId, record: MemberRecord | null): MemberRecord | null {
  const isOrdinary = record?.role === "member" && record.mutedUntil === undefined && !record.disabled;
  return isOrdinary && !keepsRecords(roomId) ? null : record;
}

/** The bytes of a record. A plain member's are always the same: scripts know them. */
function recordJson({ role, mutedUntil, disabled }: MemberRecord): string {
  return JSON.stringify({ role, mutedUntil, disabled });
}

export function recordOf(stored: string | null | undefined): MemberRecord | null {
  return stored === null || stored === undefined ? null : parseRecord(stored);
}

function banOf(text: string): { by: UserId; at: number; until?: number } {
  const value = parseJson(text);
  const { by, at, until } = isRecord(value) ? value : {};
  return {
    by: typeof by === "string" ? by : "",
    at: Number(at ?? 0),
    ...(typeof until === "number" && { until }),
  };
}
