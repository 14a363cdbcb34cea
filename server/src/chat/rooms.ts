import pLimit from "p-limit";
import { ChatError, redisCode, unlessWrongType } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import {
  isNamed,
  isRoomId,
  type Found,
  type ListedRoom,
  type MarkRead,
  type NewRoom,
  type NotifyLevel,
  type Room,
  type RoomId,
  type RoomKind,
  type RoomPatch,
  type RoomView,
  type ServerEvents,
  type ServerRole,
  type Standing,
  type User,
  type UserId,
} from "../protocol.ts";
import type { Audit } from "../store/audit.ts";
import type { Picked } from "../store/ids.ts";
import { keepsRecords } from "../store/kinds.ts";
import { headOf, joinedJson, parseRow, type MemberRecord } from "../store/codec.ts";
import { withField, type Json } from "../store/json.ts";
import { unknownRoom, type Log } from "../store/log.ts";
import { tooManyRooms, type Entry, type Guard, type Members } from "../store/members.ts";
import type { Choices, Facts, Rooms } from "../store/rooms.ts";
import { demand, roleIn, type Action, type Situation } from "./access.ts";
import { unknownUser, type Users } from "./users.ts";

/** Reaches users' connections on every replica. May get lost; what it says is stored before. */
export type Announcer = {
  /** The users are in this room now: their connections hear it, and show it. `unheard`: only those that do not hear it. */
  showRoom: (userIds: UserId[], roomId: RoomId, unheard?: true) => void;
  readRoom: (userId: UserId, roomId: RoomId, read: number, unread?: true) => void;
  changeRoom: (room: RoomChanged) => void;
};

type RoomChanged = Parameters<ServerEvents["room.changed"]>[0];

/** How long we assume that both users list the private room. */
const OPENED_MS = 60_000;
const OPENED_REMEMBERED = 50_000;

type Parts = {
  rooms: Rooms;
  members: Members;
  log: Log;
  users: Users;
  announce: Announcer;
  audit: Audit;
  /** Logs that a room cannot be read, because one of its keys has a wrong type. */
  tellDamage: (roomId: RoomId) => void;
};

/** The rooms as their people see them: made, joined, left, read, listed. */
export class ChatRooms {
  readonly #rooms: Rooms;
  readonly #members: Members;
  readonly #log: Log;
  readonly #users: Users;
  readonly #announce: Announcer;
  readonly #audit: Audit;
  readonly #tellDamage: Parts["tellDamage"];
  readonly #opened = new Map<RoomId, { at: number; opening: Promise<UserId[]> }>();
  readonly #damaged = new Set<RoomId>();

  constructor({ rooms, members, log, users, announce, audit, tellDamage }: Parts) {
    this.#rooms = rooms;
    this.#members = members;
    this.#log = log;
    this.#users = users;
    this.#announce = announce;
    this.#audit = audit;
    this.#tellDamage = tellDamage;
  }

  /** How many names a search looks at. */
  get searched(): number {
    return this.#rooms.searched;
  }

  /** Ids of the rooms that a connection of this user hears. */
  of(userId: UserId): Promise<RoomId[]> {
    return this.#members.of(userId);
  }

  /** Which of these rooms the user is in, by the rooms' own records. */
  async areTheirs(userId: UserId, roomIds: RoomId[]): Promise<RoomId[]> {
    const some = pLimit(BOUNDS.lookupsAtOnce.value);
    const inside = await some.map(roomIds, (id) => unlessWrongType(this.#members.has(id, userId), false));
    return roomIds.filter((_, index) => inside[index]);
  }

  /** Makes a user's list agree with the room's records; answers whether the user is in the room. */
  mendList(userId: UserId, roomId: RoomId): Promise<boolean> {
    return this.#members.mendList(userId, roomId);
  }

  /** The seq after which messages to everybody in a room call this user. */
  calledSince(roomId: RoomId, userId: UserId): Promise<number> {
    return this.#rooms.calledSince(roomId, userId);
  }

  count(userId: UserId): Promise<number> {
    return this.#members.count(userId);
  }

  /**
   * The user's rooms, each as JSON, General first, then by their newest message. A few are read at a time, and `turn` is
   * awaited before each further read: Redis and this process must serve others in between.
   */
  async list(user: User, turn: () => Promise<void> | undefined): Promise<Json[]> {
    const [ids, choices, { role }] = await Promise.all([
      this.#members.of(user.id),
      this.#rooms.choices(user.id),
      this.#users.accountOf(user.id),
    ]);
    const rooms: { date: number; json: Json }[] = [];
    for (let start = 0; start < ids.length; start += BOUNDS.roomsAtOnce.value) {
      if (start > 0) await turn();
      const some = ids.slice(start, start + BOUNDS.roomsAtOnce.value);
      const seen = some.map((id) =>
        this.#seen(id, user.id, choices, role).catch((error) => this.#passOver(id, error)),
      );
      for (const { room, last, date, record } of (await Promise.all(seen)).flat()) {
        // The list is an index, which a removal that was cut short may have left behind.
        const isTheirs = record !== null || !keepsRecords(room.id);
        if (!isTheirs && !(await this.#members.mendList(user.id, room.id))) continue;
        const json = withField(room, "last", last ?? "null");
        rooms.push({ date: room.kind === "everyone" ? Infinity : date, json });
      }
    }
    return rooms.toSorted((a, b) => b.date - a.date).map(({ json }) => json);
  }

  /** One room that somebody has damaged does not keep its people from all others. Throws any other error. */
  #passOver(roomId: RoomId, error: unknown): [] {
    if (redisCode(error) !== "WRONGTYPE") throw error;
    if (!this.#damaged.has(roomId)) this.#tellDamage(roomId);
    this.#damaged.add(roomId);
    return [];
  }

  /** A room as this user sees it. Throws `not_found` if they are not in it, unless they see it as an admin. */
  async describe(roomId: RoomId, userId: UserId): Promise<Room> {
    const { room, last, record, server } = await this.#seen(
      roomId,
      userId,
      await this.#rooms.choices(userId),
    );
    if (roleIn(room.kind, standingOf(roomId, record, true), server) === null) throw unknownRoom();
    return { ...room, last: last === null ? null : parseRow(last) };
  }

  /** `last`: the newest message as Redis has it, in bytes that V8 does not keep; `date`: when it was said. */
  async #seen(
    roomId: RoomId,
    userId: UserId,
    choices: Choices,
    known?: ServerRole,
  ): Promise<{
    room: Omit<Room, "last">;
    last: Json | null;
    date: number;
    record: MemberRecord | null;
    server: ServerRole;
  }> {
    const [state, server] = await Promise.all([
      this.#rooms.state(roomId, userId, choices),
      known ?? this.#users.accountOf(userId).then(({ role }) => role),
    ]);
    const {
      kind,
      name,
      userIds,
      newest,
      seq,
      read,
      deleted: gone,
      unread,
      mentions,
      calledSince,
      notify,
      folded,
      favourite,
      hidden,
      settings,
      record,
    } = state;
    const head = newest === null ? null : headOf(newest);
    // What another program stored is adopted first.
    const last = newest !== null && head === null ? await this.#log.pages.newest(roomId) : newest;
    const date = (head ?? (last === null ? null : headOf(last)))?.date ?? 0;
    const names = userIds ? (await this.#users.find(userIds)).map((one) => one.username) : [name ?? ""];
    const room: Omit<Room, "last"> = {
      id: roomId,
      kind,
      names,
      ...(userIds && { userIds }),
      private: kind === "direct",
      seq,
      read,
      unread,
      ...(gone.length > 0 && { deleted: gone }),
      ...(mentions > 0 && { mentions }),
      ...(calledSince > 0 && { calledSince }),
      ...(notify && { notify }),
      ...(folded && { folded }),
      ...(favourite && { favourite }),
      ...(hidden && { hidden }),
      ...toldStanding(kind, record, server),
      ...settings,
    };
    return { room, last, date, record, server };
  }

  /**
   * The facts that decide what a user may do in a room; `withRecord` answers them for a record that was read again, and
   * reads again what else an admin of the server may lose. Throws `not_found` for a room that does not exist for them.
   */
  async situation(
    user: User,
    roomId: RoomId,
  ): Promise<{
    facts: Facts;
    situation: Situation;
    withRecord: (record: MemberRecord | null) => Promise<Situation>;
  }> {
    const [facts, server, record, sees] = await Promise.all([
      this.#rooms.facts(roomId),
      this.#users.roleNow(user.id),
      this.#members.record(roomId, user.id),
      keepsRecords(roomId) || this.#members.sees(roomId, user.id),
    ]);
    if (facts === null) throw unknownRoom();
    const situationOf = (
      { kind, settings }: Facts,
      role: ServerRole,
      now: MemberRecord | null,
    ): Situation => ({
      kind,
      archived: settings.archived !== undefined,
      standing: standingOf(roomId, now, sees),
      server: role,
      now: Date.now(),
    });
    const withRecord = async (now: MemberRecord | null): Promise<Situation> => {
      // Nothing but their record gives anybody else a right.
      if (server === "user") return situationOf(facts, server, now);
      const [present, role] = await Promise.all([this.#rooms.facts(roomId), this.#users.roleNow(user.id)]);
      return situationOf(present ?? facts, role, now);
    };
    return { facts, situation: situationOf(facts, server, record), withRecord };
  }

  /** What a user is told that they are in a room; null if they are not in it. */
  async standing(roomId: RoomId, userId: UserId): Promise<Standing | null> {
    const [kind, record, { role }] = await Promise.all([
      this.#rooms.kind(roomId),
      this.#members.record(roomId, userId),
      this.#users.accountOf(userId),
    ]);
    const isInside = record === null ? !keepsRecords(roomId) : !record.disabled;
    return kind !== null && isInside ? toldStanding(kind, record, role) : null;
  }

  /** Throws what keeps a user from doing this in a room: `not_found`, `forbidden`, `muted`, `archived`. */
  async demand(user: User, roomId: RoomId, ...actions: Action[]): Promise<Facts> {
    const { facts, situation } = await this.situation(user, roomId);
    demand(situation, ...actions);
    return facts;
  }

  /** The same, and what checks it once more when the change is stored: the right may be lost in between. */
  async guard(user: User, roomId: RoomId, ...actions: Action[]): Promise<Guard> {
    const { situation, withRecord } = await this.situation(user, roomId);
    demand(situation, ...actions);
    return { by: user.id, demand: async (record) => demand(await withRecord(record), ...actions) };
  }

  /** The users of a direct room, ascending; none for any other room. */
  usersOf(roomId: RoomId): readonly UserId[] {
    return this.#rooms.usersOf(roomId) ?? [];
  }

  /** What is known of any room without its members; null if there is none. */
  facts(roomId: RoomId): Promise<Facts | null> {
    return this.#rooms.facts(roomId);
  }

  /** Changes a room's name, kind or settings, and tells its people. Throws as `demand` does, and `taken`. */
  async change(user: User, roomId: RoomId, patch: RoomPatch): Promise<Room> {
    const { name, kind, topic, slow, archived } = patch;
    const actions: Action[] = [
      ...(name === undefined ? [] : ["name" as const]),
      ...(kind === undefined ? [] : ["kind" as const]),
      ...(archived === undefined ? [] : ["archive" as const]),
      ...(topic === undefined && slow === undefined ? [] : ["settings" as const]),
    ];
    const note = { by: user.id, what: "settings", roomId, detail: JSON.stringify(patch) };
    await this.#audit.noted(note, async (begin) => {
      const guard = await this.guard(user, roomId, "members", ...actions);
      if (actions.length === 0) return;
      await begin();
      await this.set(roomId, patch, guard);
    });
    return this.describe(roomId, user.id);
  }

  /** Changes a room and tells its people. Without a guard the server itself acts. Throws `taken`, and as the guard. */
  async set(roomId: RoomId, { name, kind, topic, slow, archived }: RoomPatch, guard?: Guard): Promise<void> {
    if (name !== undefined) await this.#rooms.rename(roomId, name, guard);
    const closed = archived === undefined ? {} : { archived: archived ? Date.now() : 0 };
    try {
      await this.#rooms.set(roomId, { ...closed, ...given({ kind, topic, slow }) }, guard);
    } finally {
      // The new name stands, whatever becomes of the rest.
      await this.#tell(roomId);
    }
  }

  async #tell(roomId: RoomId): Promise<void> {
    const facts = await this.#rooms.facts(roomId);
    if (facts === null) throw unknownRoom();
    this.#announce.changeRoom({ roomId, kind: facts.kind, name: facts.name, ...facts.settings });
  }

  /**
   * The room with this id, or else of this name; null if there is none, and for a direct one. Anybody may call a room as
   * another one's id, which must not take that one's place.
   */
  async find(idOrName: string): Promise<RoomId | null> {
    const isId = isRoomId(idOrName) && this.#rooms.usersOf(idOrName) === null;
    if (isId && (await this.#rooms.facts(idOrName)) !== null) return idOrName;
    return this.#rooms.byName(idOrName);
  }

  /** The kind of a room; null if there is no room with this id. */
  kindOf(roomId: RoomId): Promise<RoomKind | null> {
    return this.#rooms.kind(roomId);
  }

  directory(user: User, after: number, size: number): Promise<Picked<ListedRoom>> {
    return this.#rooms.directory(after, size, user.id);
  }

  /** A page of the named rooms with this text in their name. */
  async search(
    user: User,
    text: string,
    after: RoomId | undefined,
    size: number,
  ): Promise<Found<ListedRoom>> {
    const { ids, total, complete } = await this.#rooms.search(text, after, size, user.id);
    return { found: await this.#rooms.listed(ids, user.id), total, complete };
  }

  /** Throws `taken`, and `forbidden` to a user in too many rooms. */
  async create(user: User, { name, kind, topic }: NewRoom): Promise<Room> {
    await this.demandPlace(user.id);
    const roomId = await this.#rooms.create(name, user.id, kind, topic);
    await this.keepOut(roomId, user.id);
    this.#announce.showRoom([user.id], roomId);
    return this.describe(roomId, user.id);
  }

  /**
   * The private room of two users. The asker's list shows it at once, the other's with the first message. Throws
   * `invalid` for oneself, `not_found` for an unknown user, `forbidden` as above.
   */
  async startPrivate(user: User, otherId: UserId): Promise<{ room: Room; created: boolean }> {
    if (otherId === user.id) throw new ChatError("invalid", "A private room needs somebody else.");
    const [other] = await this.#users.find([otherId]);
    const roomId = this.#rooms.between(user.id, otherId);
    const isNew = !(await this.#members.has(roomId, user.id));
    if (!other || (isNew && other.deleted)) throw unknownUser();
    const created = await this.#members.showWithin(roomId, user.id);
    if (created === null) throw tooManyRooms();
    const wasHidden = await this.#rooms.unhide(roomId, user.id);
    if (created || wasHidden) this.#announce.showRoom([user.id], roomId);
    return { room: await this.describe(roomId, user.id), created };
  }

  /**
   * Joins an open room; puts a room that the user is in into their list, if it is not there. Throws `forbidden`, and
   * `not_found` for an unknown room and for an invite room of others.
   */
  async join(user: User, roomId: RoomId): Promise<void> {
    const [isMember, sees] = await Promise.all([
      this.#members.has(roomId, user.id),
      this.#members.sees(roomId, user.id),
    ]);
    if (isMember && sees) return;
    const kind = await this.#rooms.kind(roomId);
    if (kind === "open") return this.enter(user.id, roomId, "open");
    if (kind !== "invite" || !isMember) throw unknownRoom();
    // Their list alone is mended: whoever is removed at this moment does not come back by it.
    await this.#members.list(roomId, user.id, false);
    await this.#members.demand(roomId, user.id);
    this.#announce.showRoom([user.id], roomId);
  }

  /**
   * Makes a user a member of a named room, whoever asks for it. Throws `forbidden` if they are banned, or in too many
   * rooms, and `not_found` for a room that had to be open.
   */
  async enter(userId: UserId, roomId: RoomId, entry: Entry = "guarded"): Promise<void> {
    await this.demandPlace(userId);
    await this.#members.join(roomId, userId, { entry });
    // Their account was enabled while a crash had taken this room from their list.
    await this.#members.barFrom(roomId, userId, false);
    await this.keepOut(roomId, userId);
    // The last one who left, or whose account has ended, took the room's owner along.
    await this.#members.giveOwner(roomId);
    this.#announce.showRoom([userId], roomId);
  }

  /**
   * Bars an account that was disabled while it came into a room, and takes out one that was deleted. Call it once the room
   * is in the user's list.
   */
  async keepOut(roomId: RoomId, userId: UserId): Promise<void> {
    if (!(await this.#users.accountOf(userId)).disabled) return;
    await this.#members.barFrom(roomId, userId, true);
    const { disabled, deleted } = await this.#users.accountOf(userId);
    if (!disabled) await this.#members.barFrom(roomId, userId, false);
    else if (deleted && keepsRecords(roomId)) await this.#members.drop(roomId, userId);
  }

  /** A room with its newest messages, oldest first, as JSON. Throws `not_found`. */
  async open(user: User, roomId: RoomId): Promise<Json> {
    const read = Promise.all([this.describe(roomId, user.id), this.#log.newestRows(roomId)]);
    const [room, { rows, revision }] = await this.#members.reading(roomId, user.id, read);
    return joinedJson(room, rows, revision);
  }

  /** Leaves a named room. General and private rooms cannot be left: `invalid`. Throws `not_found`. */
  async leave(user: User, roomId: RoomId): Promise<void> {
    await this.#members.demand(roomId, user.id);
    const kind = await this.#rooms.kind(roomId);
    if (kind !== null && !isNamed(kind)) throw new ChatError("invalid", "This room cannot be left.");
    const before = await this.#members.leave(roomId, user.id);
    await this.cleanUpAfter(roomId, user.id, before);
  }

  /** Cleans up after a user who is no longer a member; `before` is their last record. */
  async cleanUpAfter(roomId: RoomId, userId: UserId, before: MemberRecord | null): Promise<void> {
    await this.#rooms.forgetChoices(roomId, userId);
    if (before?.role === "owner") await this.#members.keepOwner(roomId);
  }

  /** Sets what notifies the user in a room, for all their windows. Throws `not_found`. */
  async setNotify(user: User, roomId: RoomId, level: NotifyLevel): Promise<Room> {
    await this.#members.demand(roomId, user.id);
    await this.#rooms.setNotify(roomId, user.id, level);
    this.#announce.showRoom([user.id], roomId);
    return this.describe(roomId, user.id);
  }

  /**
   * Sets how the user sees a room, for all their windows. A room that they hide counts as read, and one in which
   * something was said that they did not know of stays. Throws `not_found`, and `invalid` to hide a room that is not
   * direct.
   */
  async setView(user: User, roomId: RoomId, { folded, favourite, hidden, seq }: RoomView): Promise<Room> {
    await this.#members.demand(roomId, user.id);
    if (hidden !== undefined && this.#rooms.usersOf(roomId) === null)
      throw new ChatError("invalid", "Only a direct room can be hidden.");
    if (folded !== undefined) await this.#rooms.setFolded(roomId, user.id, folded);
    if (favourite !== undefined) await this.#rooms.setFavourite(roomId, user.id, favourite);
    if (hidden === false) await this.#rooms.unhide(roomId, user.id);
    const newest = hidden === true ? await this.#rooms.hide(roomId, user.id, seq) : null;
    if (newest !== null) await this.read(user, { roomId, seq: newest });
    this.#announce.showRoom([user.id], roomId);
    return this.describe(roomId, user.id);
  }

  /** How many people a message to everybody in the room reaches, its author too. Throws `not_found`. */
  async countPeople(user: User, roomId: RoomId): Promise<number> {
    await this.#members.demand(roomId, user.id);
    const kind = await this.#rooms.kind(roomId);
    if (kind === "everyone") return this.#users.present();
    return kind === "direct" ? 2 : this.#members.present(roomId);
  }

  /** Throws `not_found`. */
  async read(user: User, { roomId, seq, unread }: MarkRead): Promise<number> {
    await this.#members.demand(roomId, user.id);
    const read = await this.#rooms.read(roomId, user.id, seq, unread);
    this.#announce.readRoom(user.id, roomId, read, unread);
    return read;
  }

  /** The seq up to which a user has read a room. */
  mark(userId: UserId, roomId: RoomId): Promise<number> {
    return this.#rooms.mark(userId, roomId);
  }

  /**
   * Puts a private room into both users' lists before its message is stored, so that no crash in between can hide it
   * from one of them. Answers the users to whom it is new: nobody in a room of another kind.
   */
  async showBoth(userId: UserId, roomId: RoomId): Promise<UserId[]> {
    const pair = this.#rooms.usersOf(roomId);
    if (!pair) return [];
    if (!pair.includes(userId)) throw unknownRoom();
    const opened = this.#opened.get(roomId);
    if (opened && opened.at + OPENED_MS > performance.now()) {
      // One sender's messages keep their order: later ones wait for the first.
      await opened.opening;
      return [];
    }
    if (this.#opened.size >= OPENED_REMEMBERED) this.#opened.clear();
    const opening = this.#showToBoth(roomId, pair, userId);
    this.#opened.set(roomId, { at: performance.now(), opening });
    try {
      return await opening;
    } catch (error) {
      this.#opened.delete(roomId);
      throw error;
    }
  }

  async #showToBoth(roomId: RoomId, pair: [UserId, UserId], userId: UserId): Promise<UserId[]> {
    const people = await this.#users.find(pair);
    const isNew = people.length === 2 && !(await this.#members.sees(roomId, userId));
    // Nobody begins to write to somebody who is gone.
    if (people.length < 2 || (isNew && people.some(({ deleted }) => deleted))) throw unknownRoom();
    const added = await Promise.all(pair.map((id) => this.#members.show(roomId, id)));
    await Promise.all(pair.map((id) => this.keepOut(roomId, id)));
    return pair.filter((_, index) => added[index]);
  }

  /** Throws what would keep a user from entering a room, while nothing is stored yet. */
  async demandEntry(userId: UserId, roomId: RoomId): Promise<void> {
    await this.demandPlace(userId);
    await this.#members.demandUnbanned(roomId, userId);
  }

  /** Throws `forbidden` for a user in too many rooms. */
  async demandPlace(userId: UserId): Promise<void> {
    if ((await this.#members.count(userId)) >= BOUNDS.roomsOfUser.value) throw tooManyRooms();
  }
}

/** What somebody is told that they are in a room that they are in, or see as an admin: with the role that counts there. */
function toldStanding(kind: RoomKind, record: MemberRecord | null, server: ServerRole): Standing {
  const { role, mutedUntil } = record ?? { role: "member" };
  return {
    role: roleIn(kind, { role }, server) ?? role,
    ...(mutedUntil !== undefined && { mutedUntil }),
  };
}

/** What somebody is in a room by its record, and for General and private rooms by their list of rooms. */
function standingOf(roomId: RoomId, record: MemberRecord | null, sees: boolean): Standing | null {
  if (record?.disabled || !sees) return null;
  return record ?? (keepsRecords(roomId) ? null : { role: "member" });
}

/** An object without the fields that are undefined. */
function given<T extends object>(values: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
