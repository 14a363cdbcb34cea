import { randomUUID } from "node:crypto";
import { ChatError, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { looksLikeGeneral } from "../names.ts";
import {
  NOTIFY_LEVELS,
  type ListedRoom,
  type NotifyLevel,
  type RoomId,
  type RoomKind,
  type RoomSettings,
  type UserId,
} from "../protocol.ts";
import { Ids, idsUpTo, lastId, pageOfIds, type Picked } from "./ids.ts";
import { GENERAL, keepsRecords, kindOf, pairOf, privateRoomId } from "./kinds.ts";
import { headOf, type MemberRecord } from "./codec.ts";
import { Looks } from "./looks.ts";
import { recordOf, type Guard, type Members } from "./members.ts";
import { NameIndex, type NamesFound } from "./nameIndex.ts";
import { defineScript, type RedisClient } from "./redis.ts";

const DELETED_MOST = 500;
/** What is not made after so long, a room or an account, was being made when its replica ended: its name is free. */
export const MAKING_MS = 10_000;

/** What one member sees of a room, before ids are resolved to names. */
export type RoomState = {
  id: RoomId;
  kind: RoomKind;
  name: string | null;
  /** The two users of a direct room. */
  userIds: [UserId, UserId] | null;
  /** The newest row, by whoever stored it. */
  newest: Buffer | null;
  seq: number;
  read: number;
  /** Which messages after `read` are deleted, the newest of them. */
  deleted: number[];
  /** How many messages after `read` are not deleted. */
  unread: number;
  /** How many messages after `read` mention this user. */
  mentions: number;
  /** seq after which messages to everybody in the room call this user. */
  calledSince: number;
  notify: NotifyLevel | null;
  folded: boolean;
  favourite: boolean;
  /** Whether this user has hidden it, and nothing was said since. */
  hidden: boolean;
  settings: Partial<RoomSettings>;
  record: MemberRecord | null;
};

/** What a user has chosen for their rooms: of `hidden` ones the hash of the message that was the newest then. */
export type Choices = {
  notify: Record<RoomId, string>;
  folded: ReadonlySet<RoomId>;
  favourites: ReadonlySet<RoomId>;
  hidden: Record<RoomId, string>;
};

/** What state.lua answers: the newest row, the record, two numbers, numbers of messages, three counts, fields of meta. */
type Stored = [Buffer | null, Buffer | null, Buffer, Buffer, Buffer[], ...(Buffer | number | null)[]];

/** A room without what its members see of it. */
export type Facts = { kind: RoomKind; name: string; settings: Partial<RoomSettings> };

/**
 * Rooms: their kinds, names and settings, and how each user sees them. `Members` has who is in them, `Log` what was said.
 */
export class Rooms {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #ids: Ids;
  readonly #members: Members;
  readonly #index: NameIndex;
  readonly #looks: Looks;
  readonly #read: ReturnType<typeof defineScript>;
  readonly #replace: ReturnType<typeof defineScript>;
  readonly #state: ReturnType<typeof defineScript>;
  /** Up to this id, as far as this server knows, every named room has a stored kind, or has lost it: see `noteOlder`. */
  #noted = 0;

  constructor(redis: RedisClient, keys: Keys, members: Members) {
    this.#redis = redis;
    this.#keys = keys;
    this.#members = members;
    this.#ids = new Ids(redis, keys, "room");
    const last = () => lastId(redis, keys, "room");
    this.#looks = new Looks(redis, {
      key: keys.roomLooks,
      last,
      namesOf: async (id) => [(await unlessWrongType(this.#nameHeld(id), null)) ?? []].flat(),
    });
    this.#index = new NameIndex({
      last,
      read: (ids) => Promise.all(ids.map((id) => unlessWrongType(this.#madeName(id), null))),
      hidden: (ids) => Promise.all(ids.map((id) => this.#isHidden(id))),
    });
    this.#read = defineScript(redis, ["head.lua", "read.lua"]);
    this.#replace = defineScript(redis, "replace.lua");
    this.#state = defineScript(redis, "state.lua", true);
  }

  /** Creates a named room with its first member, its owner. Throws `taken`, also if the name looks like another room's. */
  async create(
    name: string,
    creator: UserId,
    kind: ListedRoom["kind"] = "open",
    topic = "",
  ): Promise<RoomId> {
    const keys = this.#keys;
    if (looksLikeGeneral(name) || (await this.byName(name)) !== null) throw taken();
    await this.#looks.writeDown();
    const id = await this.#ids.claim((free) => this.#claimId(free, name, kind));
    try {
      await this.#claimName(id, name);
      if (topic !== "") await this.#redis.hset(keys.meta(id), "topic", topic);
      // With its owner it is made: `making` goes in the same step.
      await this.#members.join(id, creator, { record: { role: "owner" } });
      // It took so long that another room got the name.
      if ((await this.byName(name)) !== id) throw taken();
      return id;
    } catch (error) {
      // What cannot be undone now is, like all of a crash, given up later: see `#nameHeld`.
      await this.#unmake(id, name).catch(() => undefined);
      throw error;
    }
  }

  /** Takes everybody out of a room that is not to be. `making` stays for a while: nobody comes in who looked earlier. */
  async #unmake(id: RoomId, name: string): Promise<void> {
    const { meta, roomName } = this.#keys;
    await this.#redis.hset(meta(id), "making", Date.now());
    for (let inside: UserId[]; (inside = await this.#members.all(id)).length > 0;)
      for (const userId of inside) await this.#members.takeOut(id, userId, null, () => ({ record: null }));
    await this.#redis.del(roomName(id));
    await this.#redis.hdel(meta(id), "kind", "topic");
    await this.#redis.pexpire(meta(id), MAKING_MS);
    await this.#giveNameBack(id, name);
  }

  /** Claims a name and its look for a room. Throws `taken`. */
  async #claimName(id: RoomId, name: string): Promise<void> {
    const claim = this.#keys.roomByName(name);
    const isNew = (await this.#redis.set(claim, `room:${id}`, "NX")) === "OK";
    const holder = isNew ? id : await this.byName(name);
    if (holder !== null && holder !== id) throw taken();
    // A rename that was cut short has left it to a room that is called otherwise.
    if (holder === null) await this.#redis.set(claim, `room:${id}`);
    if (await this.#looks.claim(id, name)) return;
    // Another may have claimed it meanwhile.
    if (holder !== id || isNew) await this.#replace([claim], [`room:${id}`, ""]);
    throw new ChatError("taken", "There is already a room whose name looks like this one.");
  }

  /**
   * Gives a named room another name, and its old one back. Throws `taken`, `unavailable` to all but one at once, and what
   * the guard throws.
   */
  async rename(id: RoomId, name: string, guard?: Guard): Promise<void> {
    const keys = this.#keys;
    const before = await this.#redis.get(keys.roomName(id));
    if (before === null || before === name) return;
    if (looksLikeGeneral(name)) throw taken();
    await this.#looks.writeDown();
    await this.#claimName(id, name);
    if (!(await this.#replaceName(id, before, name))) {
      await this.#giveNameBack(id, name);
      throw new ChatError("unavailable", "Somebody else is renaming this room. Try again.", 500);
    }
    try {
      // Until then another room may have taken the name, or its look, over; and the actor may have lost the right.
      await this.#claimName(id, name);
      if (guard) await this.#members.check(id, guard);
    } catch (error) {
      // Another rename may have given the old name back, which must not stand without a claim.
      if (await this.#replaceName(id, name, before)) await this.#claimName(id, before).catch(() => undefined);
      await this.#giveNameBack(id, name);
      throw error;
    }
    await this.#giveNameBack(id, before);
  }

  /** False if the room has another name than `before` by now. */
  async #replaceName(id: RoomId, before: string, name: string): Promise<boolean> {
    if ((await this.#replace([this.#keys.roomName(id)], [before, name])) !== 1) return false;
    // On a Cluster a room's name has a slot of its own.
    await this.#redis.hset(this.#keys.meta(id), "facts", randomUUID());
    return true;
  }

  /** Frees what a room has claimed of a name, except what its present name needs. */
  async #giveNameBack(id: RoomId, name: string): Promise<void> {
    const { roomByName, roomName } = this.#keys;
    const claim = roomByName(name);
    const isPresent = async () => {
      const present = await this.#redis.get(roomName(id));
      return present !== null && roomByName(present) === claim;
    };
    const isFreed = !(await isPresent()) && (await this.#replace([claim], [`room:${id}`, ""])) === 1;
    // The room may have got the name back meanwhile.
    if (isFreed && (await isPresent())) await this.#redis.set(claim, `room:${id}`, "NX");
    await this.#looks.release(id, name);
  }

  /** Changes what moderators set; undefined keeps a setting, and 0 or `""` takes it away. Throws what the guard throws. */
  async set(
    id: RoomId,
    settings: Partial<RoomSettings & { kind: ListedRoom["kind"] }>,
    guard?: Guard,
  ): Promise<void> {
    const { kind, ...rest } = settings;
    const given = Object.entries(rest).filter(([, value]) => value !== undefined);
    const gone = given.flatMap(([name, value]) => (value === 0 || value === "" ? [name] : []));
    const set = given.filter(([name]) => !gone.includes(name));
    if (kind !== undefined) set.push(["kind", kind]);
    if (set.length === 0 && gone.length === 0) return;
    set.push(["facts", randomUUID()]);
    await this.#members.write(id, this.#keys.meta(id), { set: Object.fromEntries(set), gone }, guard);
  }

  /** What is known of a room without its members; null if there is none. */
  async facts(id: RoomId): Promise<Facts | null> {
    const keys = this.#keys;
    const [name, [kind = null, making = null, ...settings]] = await Promise.all([
      pairOf(id) ? "" : this.#nameOf(id),
      this.#redis.hmget(keys.meta(id), "kind", "making", ...SETTINGS),
    ]);
    if (name === null || !(await this.#isMade(id, making))) return null;
    return { kind: this.#kindOf(id, kind), name, settings: settingsOf(settings) };
  }

  /**
   * Claims an id for a name; false if a room, or the messages or members of a lost one, has it. Stores the kind before
   * the name, so that nobody sees an invite room as an open one, and `making`, so that nobody comes in before its owner.
   */
  async #claimId(id: RoomId, name: string, kind: ListedRoom["kind"]): Promise<boolean> {
    const keys = this.#keys;
    const traces = [keys.room(id), keys.records(id), keys.members(id)] as const;
    if ((await this.#redis.exists(keys.meta(id), ...traces)) > 0) return false;
    await this.#redis.hset(keys.meta(id), { kind, making: Date.now() });
    if ((await this.#redis.setnx(keys.roomName(id), name)) === 0) {
      await this.#redis.hdel(keys.meta(id), "kind", "making");
      return false;
    }
    if ((await this.#redis.exists(...traces)) === 0) return true;
    await this.#redis.del(keys.roomName(id));
    return false;
  }

  async #noteOne(id: RoomId): Promise<void> {
    const meta = this.#keys.meta(id);
    await this.#redis.hsetnx(meta, "kind", "open");
    const isEmpty = (await this.#members.size(id)) === 0 && (await this.#making(id)) === null;
    if (isEmpty) await this.#redis.hsetnx(meta, "unowned", 1);
  }

  /** The room that has this name, in any case; null if none has. */
  async byName(name: string): Promise<RoomId | null> {
    const { roomByName } = this.#keys;
    const id = (await this.#redis.get(roomByName(name)))?.replace(/^room:/, "");
    const stored = id === undefined ? null : await this.#nameHeld(id);
    return id !== undefined && stored !== null && roomByName(stored) === roomByName(name) ? id : null;
  }

  /** The name that a room keeps from others; null if it has none, or if the room was not completely made. */
  async #nameHeld(id: RoomId): Promise<string | null> {
    const name = await this.#redis.get(this.#keys.roomName(id));
    if (name === null) return null;
    const making = await this.#making(id);
    return Number(making) > Date.now() - MAKING_MS || (await this.#isMade(id, making)) ? name : null;
  }

  /** Whether a room that has a name is one: while it is being made, it is none until it has its owner. */
  async #isMade(id: RoomId, making: string | null): Promise<boolean> {
    return making === null || (await this.#members.size(id)) > 0;
  }

  /** Since when a room is being made, in ms; null once it has its owner. */
  #making(id: RoomId): Promise<string | null> {
    return unlessWrongType(this.#redis.hget(this.#keys.meta(id), "making"), null);
  }

  /** The name of General, also where it was lost, or of a named room, also while it is being made; or null. */
  async #nameOf(id: RoomId): Promise<string | null> {
    return (await this.#redis.get(this.#keys.roomName(id))) ?? (id === GENERAL ? "General" : null);
  }

  /** The name of a named room; null if there is no such room, or if it was not completely made. */
  async #madeName(id: RoomId): Promise<string | null> {
    const [name, making] = await Promise.all([this.#redis.get(this.#keys.roomName(id)), this.#making(id)]);
    return name !== null && (await this.#isMade(id, making)) ? name : null;
  }

  /** Gives General its name, so that no other room gets it. */
  async nameGeneral(): Promise<void> {
    await this.#redis.set(this.#keys.roomByName("General"), `room:${GENERAL}`, "NX");
    await this.#redis.set(this.#keys.roomName(GENERAL), "General", "NX");
  }

  /** The kind of a room; null if there is no room with this id. */
  async kind(roomId: RoomId): Promise<RoomKind | null> {
    if (!keepsRecords(roomId)) return this.#kindOf(roomId, null);
    const [exists, [stored = null, making = null]] = await Promise.all([
      this.#redis.exists(this.#keys.roomName(roomId)),
      this.#redis.hmget(this.#keys.meta(roomId), "kind", "making"),
    ]);
    return exists === 1 && (await this.#isMade(roomId, making)) ? this.#kindOf(roomId, stored) : null;
  }

  /** A room's kind, by what is stored of it. */
  #kindOf(roomId: RoomId, stored: string | null): RoomKind {
    return kindOf(roomId, stored ?? (Number(roomId) > this.#noted ? "open" : null));
  }

  /**
   * Stores what servers of before did not store of their rooms, each once: the kind of an open one, and that nobody is in
   * it. Of any other room that is lost, which may have been an invite room, or somebody's. Call it at the start, and now
   * and then.
   */
  async noteOlder(): Promise<void> {
    const { settings, roomName } = this.#keys;
    const [stored, total] = await Promise.all([
      unlessWrongType(this.#redis.hget(settings, "kinds"), "damaged"),
      lastId(this.#redis, this.#keys, "room"),
    ]);
    const noted = Number(stored ?? 0);
    // If that is no number, or was lost, nobody can tell which rooms have lost theirs: none is opened.
    const isLost = Number.isNaN(noted) || (stored === null && this.#noted > 0);
    this.#noted = Math.max(this.#noted, isLost ? total : noted);
    if (!isLost && total <= this.#noted) return;
    for (const ids of idsUpTo(total, this.#noted)) {
      const made = await Promise.all(ids.map((id) => this.#redis.exists(roomName(id))));
      const rooms = ids.filter((_, index) => made[index] === 1);
      await Promise.all(rooms.map((id) => unlessWrongType(this.#noteOne(id), undefined)));
    }
    await unlessWrongType(this.#redis.hset(settings, "kinds", total), undefined);
    this.#noted = total;
  }

  /** The two users of a direct room, ascending; null for any other room. */
  usersOf(roomId: RoomId): [UserId, UserId] | null {
    return pairOf(roomId);
  }

  /** The direct room of two users, in either order. */
  between(one: UserId, other: UserId): RoomId {
    return privateRoomId(one, other);
  }

  /** What a user has chosen for each of their rooms. */
  async choices(userId: UserId): Promise<Choices> {
    const keys = this.#keys;
    const [notify, folded, favourites, hidden] = await Promise.all([
      this.#redis.hgetall(keys.userNotify(userId)),
      this.#redis.smembers(keys.userFolded(userId)),
      this.#redis.smembers(keys.userFavourites(userId)),
      this.#redis.hgetall(keys.userHidden(userId)),
    ]);
    return { notify, folded: new Set(folded), favourites: new Set(favourites), hidden };
  }

  /** A room as one user sees it: the same for all rooms of a list are read with the same `choices`. */
  async state(roomId: RoomId, userId: UserId, choices: Choices): Promise<RoomState> {
    const keys = this.#keys;
    const userIds = pairOf(roomId);
    const since = keepsRecords(roomId) ? "" : await this.calledSince(roomId, userId);
    const [name, state] = await Promise.all([
      userIds ? null : this.#nameOf(roomId),
      this.#state(
        [
          keys.room(roomId),
          keys.meta(roomId),
          keys.records(roomId),
          keys.read(roomId),
          keys.joined(roomId),
          keys.deleted(roomId),
          keys.mentions(roomId, userId),
          keys.roomMentions(roomId),
        ],
        [userId, since, DELETED_MOST, "hash", "kind", ...SETTINGS],
      ),
    ]);
    const [newest, record, read, called, deleted, ...rest] = state as Stored;
    const [gone, own, everybody, seq] = rest.slice(0, 4).map(Number) as [number, number, number, number];
    const [hash, kind = null, ...settings] = rest
      .slice(4)
      .map((value) => (value === null ? null : String(value)));
    return {
      id: roomId,
      kind: this.#kindOf(roomId, kind),
      name,
      userIds,
      newest,
      seq,
      read: Number(read),
      deleted: deleted.map(Number).toReversed(),
      unread: Math.max(0, seq - Number(read) - gone),
      mentions: own + everybody,
      calledSince: Number(called),
      notify: NOTIFY_LEVELS.find((level) => level === choices.notify[roomId]) ?? null,
      folded: choices.folded.has(roomId),
      favourite: choices.favourites.has(roomId),
      hidden: userIds !== null && choices.hidden[roomId] === (hash ?? ""),
      settings: settingsOf(settings),
      record: recordOf(record?.toString()),
    };
  }

  /**
   * The seq after which messages to everybody in a room call this user: in General none from before their account, in a
   * named room none from before they joined.
   */
  async calledSince(roomId: RoomId, userId: UserId): Promise<number> {
    if (roomId !== GENERAL)
      return keepsRecords(roomId)
        ? Number((await this.#redis.hget(this.#keys.joined(roomId), userId)) ?? 0)
        : 0;
    // Mostly nobody has said anything to everybody, and the log need not be read.
    if ((await this.#redis.zcard(this.#keys.roomMentions(roomId))) === 0) return 0;
    const created = await this.#redis.hget(this.#keys.user(userId), "created");
    if (created === null || !Number.isSafeInteger(Number(created))) return 0;
    const limit = ["LIMIT", "0", "1"] as const;
    const [row] = await this.#redis.zrevrangebyscore(
      this.#keys.room(roomId),
      `(${created}`,
      "-inf",
      ...limit,
    );
    return row === undefined ? 0 : (headOf(row)?.seq ?? 0);
  }

  /** Stores what a user is notified of in a room; null deletes it. */
  async setNotify(roomId: RoomId, userId: UserId, level: NotifyLevel | null): Promise<void> {
    const key = this.#keys.userNotify(userId);
    await (level === null ? this.#redis.hdel(key, roomId) : this.#redis.hset(key, roomId, level));
  }

  /** Notes whether a user has a room's answers folded into their threads. */
  async setFolded(roomId: RoomId, userId: UserId, folded: boolean): Promise<void> {
    await this.#choose(this.#keys.userFolded(userId), roomId, folded);
  }

  /** Notes whether a user sees a room on top of their list. */
  async setFavourite(roomId: RoomId, userId: UserId, favourite: boolean): Promise<void> {
    await this.#choose(this.#keys.userFavourites(userId), roomId, favourite);
  }

  async #choose(key: string, roomId: RoomId, on: boolean): Promise<void> {
    await (on ? this.#redis.sadd(key, roomId) : this.#redis.srem(key, roomId));
  }

  /**
   * Hides a direct room from a user until its next message. `known`: the newest message that they know; if there is a
   * newer one, the room stays. Answers the seq of the newest message, or null if the room stays.
   */
  async hide(roomId: RoomId, userId: UserId, known = Infinity): Promise<number | null> {
    const [seq, hash] = await this.#redis.hmget(this.#keys.meta(roomId), "seq", "hash");
    if (Number(seq ?? 0) > known) return null;
    await this.#redis.hset(this.#keys.userHidden(userId), roomId, hash ?? "");
    return Number(seq ?? 0);
  }

  /** Shows a hidden room again; false if it was not hidden. */
  async unhide(roomId: RoomId, userId: UserId): Promise<boolean> {
    return (await this.#redis.hdel(this.#keys.userHidden(userId), roomId)) === 1;
  }

  /** Forgets what a user has chosen for a named room. */
  async forgetChoices(roomId: RoomId, userId: UserId): Promise<void> {
    await this.setNotify(roomId, userId, null);
    await this.setFolded(roomId, userId, false);
    await this.setFavourite(roomId, userId, false);
  }

  /** Raises a read mark, or with `unread` lowers it; answers the mark. */
  async read(roomId: RoomId, userId: UserId, seq: number, unread = false): Promise<number> {
    const keys = [this.#keys.read(roomId), this.#keys.meta(roomId)];
    return Number(await this.#read(keys, [userId, seq, unread ? "down" : "up"]));
  }

  /** A user's read mark. */
  async mark(userId: UserId, roomId: RoomId): Promise<number> {
    return Number((await this.#redis.hget(this.#keys.read(roomId), userId)) ?? 0);
  }

  /** The next `size` named rooms with an id above `after`, ascending. */
  async directory(after: number, size: number, userId: UserId): Promise<Picked<ListedRoom>> {
    const total = await lastId(this.#redis, this.#keys, "room");
    return pageOfIds(after, total, size, (ids) => this.listed(ids, userId));
  }

  /** Named rooms with this text in their name, among those the user may see; for `after` see NameIndex. */
  async search(text: string, after: RoomId | undefined, size: number, userId: UserId): Promise<NamesFound> {
    const theirs = new Set(await this.#members.of(userId));
    return this.#index.find(text, after, size, (id) => theirs.has(id));
  }

  async #isHidden(roomId: RoomId): Promise<boolean> {
    const kind = await unlessWrongType(this.#redis.hget(this.#keys.meta(roomId), "kind"), "invite");
    return this.#kindOf(roomId, kind) === "invite";
  }

  /** How many names a search covers. */
  get searched(): number {
    return this.#index.size;
  }

  /** What the directory tells this user about those of these ids that are named rooms. */
  async listed(ids: readonly RoomId[], userId: UserId): Promise<ListedRoom[]> {
    // A room that somebody has damaged keeps nobody from all others.
    return (await Promise.all(ids.map((id) => unlessWrongType(this.#listed(id, userId), [])))).flat();
  }

  async #listed(id: RoomId, userId: UserId): Promise<ListedRoom[]> {
    const [name, isHidden, members, joined] = await Promise.all([
      this.#madeName(id),
      this.#isHidden(id),
      this.#members.size(id),
      this.#members.has(id, userId),
    ]);
    if (name === null || (isHidden && !joined)) return [];
    return [{ id, kind: isHidden ? "invite" : "open", name, members, joined }];
  }
}

const SETTINGS = ["topic", "slow", "archived"] as const;

/** The stored settings, in the order of SETTINGS. */
function settingsOf([topic, slow, archived]: (string | null)[]): Partial<RoomSettings> {
  return {
    ...(topic && { topic }),
    ...(Number(slow) > 0 && { slow: Number(slow) }),
    ...(Number(archived) > 0 && { archived: Number(archived) }),
  };
}

function taken(): ChatError {
  return new ChatError("taken", "There is already a room of this name.");
}
