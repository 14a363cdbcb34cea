import type { Metrics } from "../metrics.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import { mentionsIn, namesIn, namesRoom, parseText, ROOM_NAME } from "../markdown.ts";
import {
  LIMITS,
  type Cursor,
  type EditMessage,
  type Found,
  type Hits,
  type ListedRoom,
  type MarkRead,
  type Message,
  type NewRoom,
  type NotifyLevel,
  type Presence as PresentUser,
  type React,
  type Revision,
  type Room,
  type RoomId,
  type RoomKind,
  type SendMessage,
  type SyncedRoom,
  type User,
  type UserId,
} from "../protocol.ts";
import type { Presence } from "../live/presence.ts";
import { unknownRoom, type Log, type NewMessage, type PageCursor } from "../store/log.ts";
import type { Members } from "../store/members.ts";
import type { Rooms } from "../store/rooms.ts";
import { asDeleted, asEdited, asPinned, asReacted, type Mentioned } from "./changes.ts";
import { findMessages, type Finding } from "./find.ts";
import { transcript } from "./transcript.ts";
import type { Users } from "./users.ts";

/** Reaches users' connections on every replica. May get lost; what it says is stored before. */
export type Announcer = {
  /** The users are in this room now: their connections hear it, and show it. */
  showRoom: (userIds: UserId[], roomId: RoomId) => void;
  readRoom: (userId: UserId, roomId: RoomId, read: number, unread?: true) => void;
};

type Target = { roomId: RoomId; seq: number };

/** How long we assume that both users list the private room. */
const OPENED_MS = 60_000;
const OPENED_REMEMBERED = 50_000;

function isTold({ from, mentions, mentionsRoom }: Message, userId: UserId): boolean {
  return from !== userId && (mentionsRoom === true || mentions?.includes(userId) === true);
}

/** What a user may do. Checks, stores, announces; knows no door. */
export class Chat {
  readonly users: Users;
  readonly presence: Presence;
  readonly #rooms: Rooms;
  readonly #members: Members;
  readonly #messages: Log;
  readonly #metrics: Metrics;
  readonly #announce: Announcer;
  /** By user and room, the last message with a running look-up. */
  readonly #lookingUp = new Map<string, Promise<unknown>>();
  readonly #opened = new Map<RoomId, { at: number; opening: Promise<UserId[]> }>();

  constructor(parts: {
    users: Users;
    rooms: Rooms;
    members: Members;
    messages: Log;
    presence: Presence;
    announce: Announcer;
    metrics: Metrics;
  }) {
    this.users = parts.users;
    this.presence = parts.presence;
    this.#rooms = parts.rooms;
    this.#members = parts.members;
    this.#messages = parts.messages;
    this.#announce = parts.announce;
    this.#metrics = parts.metrics;
  }

  /**
   * Stores a message, and answers it as JSON; storing announces it. Emits nothing itself. Throws `not_found`, and
   * Redis' errors if the outcome is unknown: then a retry with the same nonce is safe.
   */
  async sendMessage(user: User, send: SendMessage): Promise<string> {
    const pair = this.#rooms.usersOf(send.roomId);
    const shown = pair ? await this.#openPrivateRoom(user.id, send.roomId, pair) : [];
    const found = await this.#lookedUp(user, send);
    const stop = this.#metrics.append.startTimer();
    const { row, repeated } = await this.#messages.append(user.id, { ...send, ...found });
    stop();
    (repeated ? this.#metrics.repeated : this.#metrics.stored).inc();
    if (shown.length > 0) this.#announce.showRoom(shown, send.roomId);
    return row;
  }

  /**
   * Replaces the text of one's own message, and answers it as JSON, as the next three do. Throws `conflict`,
   * `forbidden` and `not_found`.
   */
  async editMessage(user: User, asked: EditMessage): Promise<string> {
    await this.#demandMember(user.id, asked.roomId);
    const mentioned = await this.#mentionsIn(asked.message);
    return this.#messages.change(user.id, asked, (message) =>
      asEdited(message, user.id, asked, Date.now(), mentioned),
    );
  }

  /** Deletes one's own message: its text is gone for good. Throws `forbidden` and `not_found`. */
  async deleteMessage(user: User, { roomId, seq }: Target): Promise<string> {
    await this.#demandMember(user.id, roomId);
    return this.#messages.change(user.id, { roomId, seq }, (message) =>
      asDeleted(message, user.id, Date.now()),
    );
  }

  /** Throws `conflict` if the message is deleted, `forbidden` if it has too many reactions, `not_found`. */
  async reactTo(user: User, asked: React): Promise<string> {
    const { roomId, seq } = asked;
    await this.#demandMember(user.id, roomId);
    return this.#messages.change(user.id, { roomId, seq }, (message) => asReacted(message, user.id, asked));
  }

  /** Throws `conflict` if the message is deleted, and `not_found`. */
  async pinMessage(user: User, { roomId, seq, on }: Target & { on: boolean }): Promise<string> {
    await this.#demandMember(user.id, roomId);
    return this.#messages.change(user.id, { roomId, seq }, (message) => asPinned(message, on, Date.now()));
  }

  /**
   * The look-ups that a message needs before it is stored. One sender's messages keep their order: later ones wait for
   * a running look-up.
   */
  async #lookedUp(user: User, send: SendMessage): Promise<Pick<NewMessage, "thread"> & Mentioned> {
    const { roomId, message, replyTo } = send;
    const key = `${user.id} ${roomId}`;
    const before = this.#lookingUp.get(key);
    const isPlain = replyTo === undefined && namesIn(message).length === 0;
    if (isPlain && !before) return {};
    const found = Promise.all([
      replyTo === undefined ? undefined : this.#threadOf(user.id, roomId, replyTo),
      this.#mentionsIn(message),
    ]);
    const turn = Promise.allSettled([before, found]);
    this.#lookingUp.set(key, turn);
    await turn;
    if (this.#lookingUp.get(key) === turn) this.#lookingUp.delete(key);
    const [thread, mentioned] = await found;
    return { ...(thread !== undefined && { thread }), ...mentioned };
  }

  /** The first message of the thread that an answer to this one joins. Throws `not_found`. */
  async #threadOf(userId: UserId, roomId: RoomId, seq: number): Promise<number> {
    await this.#demandMember(userId, roomId);
    const answered = await this.#messages.at(roomId, seq);
    if (answered === null) throw new ChatError("not_found", "There is no such message to answer.");
    return answered.thread ?? answered.seq;
  }

  /** Ids of the rooms that a connection of this user hears. */
  roomsOf(userId: UserId): Promise<RoomId[]> {
    return this.#members.of(userId);
  }

  /** Which of these rooms the user is in, by the rooms' own records. */
  async areTheirs(userId: UserId, roomIds: RoomId[]): Promise<RoomId[]> {
    const inside = await Promise.all(roomIds.map((id) => this.#members.has(id, userId)));
    return roomIds.filter((_, index) => inside[index]);
  }

  /** Makes a user's list agree with the room's records; answers whether the user is in the room. */
  mendList(userId: UserId, roomId: RoomId): Promise<boolean> {
    return this.#members.mendList(userId, roomId);
  }

  countRoomsOf(userId: UserId): Promise<number> {
    return this.#members.count(userId);
  }

  /** The user's rooms, General first, then by their newest message. */
  async listRooms(user: User): Promise<Room[]> {
    const ids = await this.#members.of(user.id);
    const rooms: Room[] = [];
    // A few at a time: Redis and this process must serve others in between.
    for (let start = 0; start < ids.length; start += BOUNDS.roomsAtOnce.value) {
      const some = ids.slice(start, start + BOUNDS.roomsAtOnce.value);
      rooms.push(...(await Promise.all(some.map((id) => this.describeRoom(id, user.id)))));
    }
    return rooms.toSorted((a, b) =>
      a.kind === "everyone" ? -1 : b.kind === "everyone" ? 1 : (b.last?.date ?? 0) - (a.last?.date ?? 0),
    );
  }

  /** A room as this user sees it. The caller must have checked that the user is in it. */
  async describeRoom(roomId: RoomId, userId: UserId): Promise<Room> {
    const [last, { kind, name, userIds, seq, read, deleted: gone, mentions, notify }] = await Promise.all([
      this.#messages.newest(roomId),
      this.#rooms.state(roomId, userId),
    ]);
    const names = userIds ? (await this.users.find(userIds)).map((one) => one.username) : [name ?? ""];
    return {
      id: roomId,
      kind,
      names,
      ...(userIds && { userIds }),
      private: kind === "direct",
      last,
      seq,
      read,
      unread: Math.max(0, seq - read - gone.length),
      ...(gone.length > 0 && { deleted: gone }),
      ...(mentions > 0 && { mentions }),
      ...(notify && { notify }),
    };
  }

  /** The kind of a room; null if there is no room with this id. */
  kindOf(roomId: RoomId): Promise<RoomKind | null> {
    return this.#rooms.kind(roomId);
  }

  listDirectory(user: User, after: number, size: number): Promise<ListedRoom[]> {
    return this.#rooms.directory(after, size, user.id);
  }

  /** A page of the named rooms with this text in their name. */
  async searchRooms(
    user: User,
    text: string,
    after: RoomId | undefined,
    size: number,
  ): Promise<Found<ListedRoom>> {
    const { ids, total, complete } = await this.#rooms.search(text, after, size, user.id);
    return { found: await this.#rooms.listed(ids, user.id), total, complete };
  }

  /** A page of the users with this text in their name. */
  async searchUsers(text: string, after: UserId | undefined, size: number): Promise<Found<PresentUser>> {
    const { ids, total, complete } = await this.users.search(text, after, size);
    return { found: await this.findUsers(ids), total, complete };
  }

  /** How many names a search covers. */
  searched(what: "users" | "rooms"): number {
    return (what === "users" ? this.users : this.#rooms).searched;
  }

  /** Throws `taken`, and `forbidden` to a user in too many rooms. */
  async createRoom(user: User, { name, kind }: NewRoom): Promise<Room> {
    await this.#demandPlace(user.id);
    const roomId = await this.#rooms.create(name, user.id, kind);
    this.#announce.showRoom([user.id], roomId);
    return this.describeRoom(roomId, user.id);
  }

  /**
   * The private room of two users. The asker's list shows it at once, the other's with the first message. Throws
   * `invalid` for oneself, `not_found` for an unknown user, `forbidden` as above.
   */
  async startPrivateRoom(user: User, otherId: UserId): Promise<{ room: Room; created: boolean }> {
    if (otherId === user.id) throw new ChatError("invalid", "A private room needs somebody else.");
    const [other] = await this.users.find([otherId]);
    if (!other) throw new ChatError("not_found", "There is no such user.");
    const roomId = this.#rooms.between(user.id, otherId);
    if (!(await this.#members.has(roomId, user.id))) await this.#demandPlace(user.id);
    const created = await this.#members.show(roomId, user.id);
    if (created) this.#announce.showRoom([user.id], roomId);
    return { room: await this.describeRoom(roomId, user.id), created };
  }

  /**
   * Joins an open room, or does nothing if the user is in it. Throws `forbidden`, and `not_found` for an unknown room
   * and for an invite room of others.
   */
  async joinRoom(user: User, roomId: RoomId): Promise<void> {
    const [isMember, sees] = await Promise.all([
      this.#members.has(roomId, user.id),
      this.#members.sees(roomId, user.id),
    ]);
    if (isMember && sees) return;
    const kind = await this.#rooms.kind(roomId);
    if (kind !== "open" && !(kind === "invite" && isMember)) throw unknownRoom();
    await this.#demandPlace(user.id);
    await this.#members.join(roomId, user.id);
    this.#announce.showRoom([user.id], roomId);
  }

  /** A room with its newest page. Throws `not_found`. */
  async openRoom(
    user: User,
    roomId: RoomId,
    size: number,
  ): Promise<{ room: Room; messages: Message[] } & Revision> {
    const revision = this.#messages.revision(roomId);
    const [, room, { messages }, { rev, revHash }] = await Promise.all([
      this.#demandMember(user.id, roomId),
      this.describeRoom(roomId, user.id),
      this.#messages.page(roomId, { size }),
      revision,
    ]);
    return { room, messages, rev, revHash };
  }

  /** A room's newest messages, oldest first. The caller must have checked that the user is in it. */
  async newestMessages(roomId: RoomId, size: number): Promise<Message[]> {
    return (await this.#messages.page(roomId, { size })).messages;
  }

  /** Leaves a named room. General and private rooms cannot be left: `invalid`. Throws `not_found`. */
  async leaveRoom(user: User, roomId: RoomId): Promise<void> {
    await this.#demandMember(user.id, roomId);
    const kind = await this.#rooms.kind(roomId);
    if (kind === "everyone" || kind === "direct") throw new ChatError("invalid", "This room cannot be left.");
    await this.#members.leave(roomId, user.id);
    await this.#rooms.setNotify(roomId, user.id, null);
  }

  /** Sets what notifies the user in a room, for all their windows. Throws `not_found`. */
  async setNotify(user: User, roomId: RoomId, level: NotifyLevel): Promise<Room> {
    await this.#demandMember(user.id, roomId);
    await this.#rooms.setNotify(roomId, user.id, level);
    this.#announce.showRoom([user.id], roomId);
    return this.describeRoom(roomId, user.id);
  }

  /** How many people a message to everybody in the room reaches, its author too. Throws `not_found`. */
  async countPeople(user: User, roomId: RoomId): Promise<number> {
    await this.#demandMember(user.id, roomId);
    const kind = await this.#rooms.kind(roomId);
    if (kind === "everyone") return this.users.count();
    return kind === "direct" ? 2 : this.#members.size(roomId);
  }

  /** Throws `not_found`. */
  async readRoom(user: User, { roomId, seq, unread }: MarkRead): Promise<number> {
    await this.#demandMember(user.id, roomId);
    const read = await this.#rooms.read(roomId, user.id, seq, unread);
    this.#announce.readRoom(user.id, roomId, read, unread);
    return read;
  }

  /**
   * A Page, as JSON; other callers may share its bytes. Throws `not_found` for a room that is not the user's, first of
   * all.
   */
  async listMessages(user: User, roomId: RoomId, cursor: PageCursor): Promise<Buffer> {
    // Both run at once; a page for a stranger is discarded, and so is its error.
    const [member, page] = await Promise.allSettled([
      this.#demandMember(user.id, roomId),
      this.#messages.pageJson(roomId, cursor),
    ]);
    if (member.status === "rejected") throw member.reason;
    if (page.status === "rejected") throw page.reason;
    return page.value;
  }

  /**
   * A page of the messages with these words in the user's rooms, or in one of them; and how many were read. For
   * `turn`, and what it throws, see `findMessages`. Throws `not_found` for a room that is not theirs.
   */
  async searchMessages(
    user: User,
    asked: Finding,
    turn: () => Promise<boolean>,
  ): Promise<Hits & { rows: number }> {
    if (asked.room !== undefined) await this.#demandMember(user.id, asked.room);
    const rooms = asked.room === undefined ? await this.#members.of(user.id) : [asked.room];
    const { hits, ...rest } = await findMessages(this.#messages, rooms, asked, turn);
    // A user's list of rooms is an index that may be behind, and they may have been removed meanwhile.
    const theirs = new Set(
      await this.areTheirs(user.id, [...new Set(hits.map(({ message }) => message.roomId))]),
    );
    return { ...rest, hits: hits.filter(({ message }) => theirs.has(message.roomId)) };
  }

  /** Messages that mention this user in their rooms, newest first, before a date; and whether there are more. */
  async listMentions(
    user: User,
    { before, size }: { before?: number | undefined; size: number },
  ): Promise<{ messages: Message[]; more: boolean }> {
    const roomIds = await this.areTheirs(user.id, await this.#members.of(user.id));
    type Rest = { roomId: RoomId; seqs: number[]; next: Message | undefined };
    const rests: Rest[] = [];
    const advance = async (rest: Rest): Promise<Rest> => {
      rest.next = undefined;
      while (rest.next === undefined && rest.seqs.length > 0) {
        const message = await this.#messages.at(rest.roomId, rest.seqs.shift() ?? 0);
        if (message && isTold(message, user.id) && message.date < (before ?? Infinity)) rest.next = message;
      }
      return rest;
    };
    for (let start = 0; start < roomIds.length; start += BOUNDS.roomsAtOnce.value) {
      const some = roomIds.slice(start, start + BOUNDS.roomsAtOnce.value).map(async (roomId) => {
        const seqs = await this.#messages.mentions(roomId, user.id, before, size + 1);
        return advance({ roomId, seqs, next: undefined });
      });
      rests.push(...(await Promise.all(some)));
    }
    const messages: Message[] = [];
    for (;;) {
      let newest: Rest | undefined;
      for (const rest of rests) {
        if (rest.next && rest.next.date > (newest?.next?.date ?? -Infinity)) newest = rest;
      }
      if (newest?.next === undefined) return { messages, more: false };
      if (messages.length === size) return { messages, more: true };
      messages.push(newest.next);
      await advance(newest);
    }
  }

  /** The users whom a text mentions, by the parser that formats it: unknown names are text. */
  async #mentionsIn(text: string): Promise<Mentioned> {
    const names = namesIn(text).filter((name) => name !== ROOM_NAME);
    const asked = names.slice(0, 2 * LIMITS.mentions);
    const ids = asked.length === 0 ? new Map<string, UserId>() : await this.users.byNames(asked);
    const found = mentionsIn(parseText(text, (name) => ids.has(name)));
    const mentions = found.flatMap((name) => ids.get(name) ?? []).slice(0, LIMITS.mentions);
    return {
      ...(mentions.length > 0 && { mentions }),
      ...(namesRoom(text) && { mentionsRoom: true }),
    };
  }

  /** A room's history as an HTML page, in chunks. Throws `not_found` before the first of them. */
  async exportRoom(user: User, roomId: RoomId): Promise<AsyncGenerator<string>> {
    await this.#demandMember(user.id, roomId);
    const { names } = await this.describeRoom(roomId, user.id);
    return transcript({
      title: names.join(", "),
      page: (after) => this.#messages.page(roomId, { after, size: BOUNDS.transcriptPage.value }),
      nameOf: async (id) => (await this.users.find([id]))[0]?.username ?? id,
    });
  }

  /** What follows a cursor, a SyncedRoom as JSON; `notFound` for a room that is not the user's. */
  async sync(user: User, cursor: Cursor): Promise<string> {
    if (await this.#members.has(cursor.roomId, user.id)) return this.#messages.syncJson(cursor);
    const unknown: SyncedRoom = { roomId: cursor.roomId, messages: [], more: false, notFound: true };
    return JSON.stringify(unknown);
  }

  async listUsers(after: number, size: number): Promise<PresentUser[]> {
    return this.#withPresence(await this.users.list(after, size));
  }

  async findUsers(ids: UserId[]): Promise<PresentUser[]> {
    return this.#withPresence(await this.users.find(ids));
  }

  async listOnline(): Promise<PresentUser[]> {
    const users = await this.users.find(await this.presence.online());
    return users.map((user) => ({ ...user, online: true }));
  }

  async #withPresence(users: User[]): Promise<PresentUser[]> {
    const online = await this.presence.areOnline(users.map((user) => user.id));
    return users.map((user) => ({ ...user, online: online.has(user.id) }));
  }

  async #demandPlace(userId: UserId): Promise<void> {
    if ((await this.#members.count(userId)) >= BOUNDS.roomsOfUser.value)
      throw new ChatError("forbidden", `You are in ${BOUNDS.roomsOfUser.value} rooms. Leave one first.`);
  }

  async #demandMember(userId: UserId, roomId: RoomId): Promise<void> {
    if (!(await this.#members.has(roomId, userId))) throw unknownRoom();
  }

  /**
   * Puts a private room into both users' lists before its message is stored, so that no crash in between can hide it
   * from one of them. Answers the users to whom it is new.
   */
  async #openPrivateRoom(userId: UserId, roomId: RoomId, pair: [UserId, UserId]): Promise<UserId[]> {
    if (!pair.includes(userId)) throw unknownRoom();
    const opened = this.#opened.get(roomId);
    if (opened && opened.at + OPENED_MS > performance.now()) {
      // One sender's messages keep their order: later ones wait for the first.
      await opened.opening;
      return [];
    }
    if (this.#opened.size >= OPENED_REMEMBERED) this.#opened.clear();
    const opening = this.#showPrivateRoom(roomId, pair);
    this.#opened.set(roomId, { at: performance.now(), opening });
    try {
      return await opening;
    } catch (error) {
      this.#opened.delete(roomId);
      throw error;
    }
  }

  async #showPrivateRoom(roomId: RoomId, pair: [UserId, UserId]): Promise<UserId[]> {
    if ((await this.users.find(pair)).length < 2) throw unknownRoom();
    const added = await Promise.all(pair.map((id) => this.#members.show(roomId, id)));
    return pair.filter((_, index) => added[index]);
  }
}
