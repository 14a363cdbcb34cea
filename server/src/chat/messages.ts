import { ChatError, isRefusal, unlessWrongType } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import { mentionsIn, namesIn, namesRoom, parseText, ROOM_NAME } from "../markdown.ts";
import type { Metrics } from "../metrics.ts";
import {
  LIMITS,
  type Cursor,
  type Hits,
  type Message,
  type RoomId,
  type SendMessage,
  type Target,
  type User,
  type UserId,
} from "../protocol.ts";
import type { Audit } from "../store/audit.ts";
import { headOf, parseRow } from "../store/codec.ts";
import type { Json } from "../store/json.ts";
import { unanswered, type Log, type NewMessage } from "../store/log.ts";
import type { Members } from "../store/members.ts";
import type { PageCursor } from "../store/pages.ts";
import type { Settings } from "../store/settings.ts";
import { demand, may, refused, roleIn } from "./access.ts";
import type { ChatFiles } from "./files.ts";
import { asChanged, demandMeant, type Mentioned, type MessageChange } from "./changes.ts";
import { findMessages, textWithFiles, type Finding } from "./find.ts";
import type { Announcer, ChatRooms } from "./rooms.ts";
import { transcript } from "./transcript.ts";
import type { Users } from "./users.ts";
import { hasOneOf } from "./words.ts";

type Parts = {
  rooms: ChatRooms;
  files: ChatFiles;
  members: Members;
  log: Log;
  users: Users;
  announce: Announcer;
  metrics: Metrics;
  audit: Audit;
  settings: Settings;
};

/** Stores, changes, reads and finds the messages in rooms. */
export class ChatMessages {
  readonly #rooms: ChatRooms;
  readonly #files: ChatFiles;
  readonly #members: Members;
  readonly #log: Log;
  readonly #users: Users;
  readonly #announce: Announcer;
  readonly #metrics: Metrics;
  readonly #audit: Audit;
  readonly #settings: Settings;
  /** By user and room, the last message with a running look-up. */
  readonly #lookingUp = new Map<string, Promise<unknown>>();

  constructor({ rooms, files, members, log, users, announce, metrics, audit, settings }: Parts) {
    this.#rooms = rooms;
    this.#files = files;
    this.#members = members;
    this.#log = log;
    this.#users = users;
    this.#announce = announce;
    this.#metrics = metrics;
    this.#audit = audit;
    this.#settings = settings;
  }

  /**
   * Stores a message, and answers it as JSON; storing announces it. Emits nothing itself. Throws `not_found`, and
   * Redis' errors if the outcome is unknown: then a retry with the same nonce is safe. A file that is unknown, of
   * another room or person, or another message's, is `not_found` too.
   */
  async send(user: User, send: SendMessage): Promise<string> {
    try {
      return await this.#sendNew(user, send);
    } catch (error) {
      // A refusal is final, and what was stored before is no less stored: by now words are filtered, or a file is gone.
      if (!isRefusal(error)) throw error;
      const row = await this.#members
        .reading(send.roomId, user.id, this.#log.repeated(user.id, send))
        .catch((fault: unknown) => {
          // Whether it was stored is not known, or not safe yet.
          if (!isRefusal(fault)) throw fault;
          return null;
        });
      if (row === null) throw error;
      this.#metrics.repeated.inc();
      return row;
    }
  }

  async #sendNew(user: User, send: SendMessage): Promise<string> {
    const { shown, message } = await this.#inTurn(`${user.id} ${send.roomId}`, this.#lookUp(user, send));
    const stop = this.#metrics.append.startTimer();
    const { row, repeated } = await this.#append(user, message);
    stop();
    // The message of a repeat may have others: these are nobody's then.
    if (message.files && !repeated) await this.#files.noteSent(message.files);
    (repeated ? this.#metrics.repeated : this.#metrics.stored).inc();
    // A message that was refused, or whose outcome is unknown, has put the room into their lists and told nobody.
    const pair = this.#rooms.usersOf(send.roomId);
    const told = shown.length === 0 && pair.length > 0 && isFirst(row) ? pair : shown;
    if (told.length > 0) this.#announce.showRoom([...told], send.roomId, true);
    return row;
  }

  /** The log knows roles in the room alone: admins of the server wait in slow mode no more than its owners do. */
  async #append(user: User, message: NewMessage): Promise<{ row: string; repeated: boolean }> {
    try {
      return await this.#log.append(user.id, message);
    } catch (error) {
      if (!(error instanceof ChatError) || error.code !== "rate_limited") throw error;
      const { kind, standing, server } = (await this.#rooms.situation(user, message.roomId)).situation;
      if (roleIn(kind, standing, server) !== "owner") throw error;
      return this.#log.append(user.id, { ...message, unhurried: true });
    }
  }

  /**
   * Changes a stored message as its author, or a reader, asks; answers it as JSON, as it is now. Throws what
   * `asChanged` throws, and `not_found`.
   */
  async change(user: User, asked: MessageChange): Promise<string> {
    const { roomId, seq } = asked;
    const { situation, withRecord } = await this.#rooms.situation(user, roomId);
    // Before the row is read: a stranger must not learn which messages there are.
    const seen = may(asked.do === "delete" ? "delete.others" : asked.do, situation);
    if (seen === "not_found") throw refused(seen);
    if (asked.do === "edit") {
      try {
        await this.#demandWords(asked.message);
      } catch (error) {
        const row = await this.#log.edited(user.id, asked);
        if (row === null || !(error instanceof ChatError)) throw error;
        return row;
      }
    }
    const mentioned = asked.do === "edit" ? await this.#mentionsIn(asked.message) : {};
    const change = () =>
      this.#log.change(user.id, asked, async (message, record) => {
        const action = asked.do === "delete" && message.from !== user.id ? "delete.others" : asked.do;
        demand(await withRecord(record), action);
        return asChanged(message, user.id, asked, Date.now(), mentioned);
      });
    if (asked.do !== "delete") return change();
    const target = await this.#log.pages.at(roomId, seq);
    if (target) demandMeant(target, asked);
    const { files = [], from } = target ?? {};
    const remove = files.length === 0 ? change : () => this.#files.withdraw(files, change);
    if (from === undefined || from === user.id) return remove();
    const note = { by: user.id, what: "delete.others", roomId, seq, userId: from };
    return this.#audit.noted(note, async (begin) => {
      if (may("delete.others", situation) === null) await begin();
      return remove();
    });
  }

  /** Throws `forbidden` for a text with a word that the server's admins have filtered. */
  async #demandWords(text: string): Promise<void> {
    if (hasOneOf(await this.#settings.words(), text))
      throw new ChatError("forbidden", "This has a word that is not allowed here.");
  }

  /** One sender's messages keep their order in a room: this one's look-ups are over once those of earlier ones are. */
  async #inTurn<T>(key: string, found: Promise<T>): Promise<T> {
    const earlier = this.#lookingUp.get(key);
    // Without what they answered, which a long row of messages would keep.
    const turn = found.then(
      () => earlier,
      () => earlier,
    );
    this.#lookingUp.set(key, turn);
    await turn;
    if (this.#lookingUp.get(key) === turn) this.#lookingUp.delete(key);
    return found;
  }

  /** Everything that is asked before a message is stored; and to whom its private room is new. */
  async #lookUp(user: User, send: SendMessage): Promise<{ message: NewMessage; shown: UserId[] }> {
    const { roomId, message, replyTo, replyToHash } = send;
    const files = send.files && (await this.#files.describe(user, roomId, send.files));
    await this.#demandWords(textWithFiles({ message, files }));
    const meant = replyTo === undefined ? undefined : { roomId, seq: replyTo, hash: replyToHash };
    const answered = meant && (await this.#answered(user.id, meant));
    // After what may refuse it: a refused message must show nobody its private room.
    const shown = await this.#rooms.showBoth(user.id, roomId);
    const { mentions, mentionsRoom } = await this.#mentionsIn(message);
    const thread = answered && (answered.thread ?? answered.seq);
    return { shown, message: { ...send, answered, thread, files, mentions, mentionsRoom } };
  }

  /** The message that is answered. Throws `not_found`, also if another one has its number. */
  async #answered(userId: UserId, { roomId, seq, hash }: Target): Promise<Message> {
    await this.#members.demand(roomId, userId);
    const answered = await this.#log.pages.at(roomId, seq);
    if (answered === null || (hash !== undefined && hash !== answered.hash)) throw unanswered();
    return answered;
  }

  /** A room's newest messages, oldest first. The caller must have checked that the user is in it. */
  async newest(roomId: RoomId, size: number): Promise<Message[]> {
    return (await this.#log.pages.page(roomId, { size })).messages;
  }

  /**
   * A Page, as JSON; other callers may share its bytes. Throws `not_found` for a room that is not the user's, before any
   * other error.
   */
  async list(user: User, roomId: RoomId, cursor: PageCursor): Promise<Buffer> {
    return this.#members.reading(roomId, user.id, this.#log.pages.pageJson(roomId, cursor));
  }

  /**
   * A page of the messages with these words in the user's rooms, or in one of them; and how many were read. For
   * `turn`, and what it throws, see `findMessages`. Throws `not_found` for a room that is not theirs.
   */
  async search(user: User, asked: Finding, turn: () => Promise<boolean>): Promise<Hits & { rows: number }> {
    if (asked.room !== undefined) await this.#members.demand(asked.room, user.id);
    const rooms = asked.room === undefined ? await this.#members.of(user.id) : [asked.room];
    const { hits, ...rest } = await findMessages(this.#log, rooms, asked, turn);
    // A user's list of rooms is an index that may be behind, and they may have been removed meanwhile.
    const theirs = new Set(
      await this.#rooms.areTheirs(user.id, [...new Set(hits.map(({ message }) => message.roomId))]),
    );
    return { ...rest, hits: hits.filter(({ message }) => theirs.has(message.roomId)) };
  }

  /**
   * Messages that mention this user in their rooms, each as JSON, newest first, before a date; whether there are more;
   * and how many were looked at, some of them their own. Ends as a page does. May have more than `size`: those of one
   * moment, in several rooms, come together, because the next page begins before it. Awaits `turn` before it reads
   * further rooms.
   */
  async listMentions(
    user: User,
    { before, size }: { before?: number | undefined; size: number },
    turn: () => Promise<void> | undefined,
  ): Promise<{ messages: Json[]; more: boolean; looked: number }> {
    const roomIds = await this.#rooms.areTheirs(user.id, await this.#members.of(user.id));
    let looked = 0;
    type Next = { date: number; json: Json };
    type Rest = { roomId: RoomId; since: number; seqs: number[]; below?: number; next: Next | undefined };
    const rests: Rest[] = [];
    const read = async (rest: Rest, top: { before?: number; below?: number }) => {
      const { seqs, below } = await this.#log.pages.mentions(rest.roomId, user.id, {
        ...top,
        since: rest.since,
        size: size + 1,
      });
      rest.seqs = seqs;
      if (below === undefined) delete rest.below;
      else rest.below = below;
    };
    const advance = async (rest: Rest): Promise<Rest> => {
      rest.next = undefined;
      // This user's own messages to everybody are no mentions of them: pass over them, however many they are.
      while (rest.next === undefined) {
        const seq = rest.seqs.shift();
        if (seq !== undefined) {
          const json = await this.#log.pages.rowAt(rest.roomId, seq);
          looked += 1;
          const message = json && parseRow(json);
          if (message && isTold(message, user.id) && message.date < (before ?? Infinity))
            rest.next = { date: message.date, json };
        } else if (rest.below === undefined) break;
        else await read(rest, { below: rest.below });
      }
      return rest;
    };
    for (let start = 0; start < roomIds.length; start += BOUNDS.roomsAtOnce.value) {
      if (start > 0) await turn();
      const some = roomIds.slice(start, start + BOUNDS.roomsAtOnce.value).map(async (roomId) => {
        const since = await this.#rooms.calledSince(roomId, user.id);
        const rest: Rest = { roomId, since, seqs: [], next: undefined };
        await read(rest, before === undefined ? {} : { before });
        return [await advance(rest)];
      });
      // A room that somebody has damaged keeps nobody from all others.
      rests.push(...(await Promise.all(some.map((rest) => unlessWrongType(rest, [])))).flat());
    }
    const messages: Json[] = [];
    const shown = new Set<RoomId>();
    let bytes = 0;
    let last: number | undefined;
    let more: boolean;
    for (;;) {
      let newest: Rest | undefined;
      for (const rest of rests) {
        if (rest.next && rest.next.date > (newest?.next?.date ?? -Infinity)) newest = rest;
      }
      more = newest?.next !== undefined;
      const isFull = messages.length >= size || bytes > BOUNDS.pageBytes.value;
      if (newest?.next === undefined || (isFull && newest.next.date !== last)) break;
      const { date, json } = newest.next;
      messages.push(json);
      shown.add(newest.roomId);
      bytes += Buffer.byteLength(json);
      last = date;
      await advance(newest);
    }
    // Who was removed meanwhile reads nothing that was said afterwards.
    const isWhole = (await this.#rooms.areTheirs(user.id, [...shown])).length === shown.size;
    return isWhole ? { messages, more, looked } : this.listMentions(user, { before, size }, turn);
  }

  /**
   * What follows a cursor, a SyncedRoom as JSON; null for a room that is not the user's, and for one that somebody has
   * damaged, as the list of rooms leaves it out: it keeps nobody from all others.
   */
  sync(user: User, cursor: Cursor): Promise<Json | null> {
    return unlessWrongType(this.#synced(user, cursor), null);
  }

  async #synced(user: User, cursor: Cursor): Promise<Json | null> {
    if (!(await this.#members.has(cursor.roomId, user.id))) return null;
    const synced = await this.#log.syncJson(cursor);
    // Asked again, for who was removed meanwhile.
    return (await this.#members.has(cursor.roomId, user.id)) ? synced : null;
  }

  /** A room's history as an HTML page, in chunks. Throws `not_found` before the first of them. */
  async transcript(user: User, roomId: RoomId): Promise<AsyncGenerator<string>> {
    await this.#members.demand(roomId, user.id);
    const { names } = await this.#rooms.describe(roomId, user.id);
    return transcript({
      title: names.join(", "),
      page: (after) => {
        const page = this.#log.pages.page(roomId, { after, size: BOUNDS.transcriptPage.value });
        return this.#members.reading(roomId, user.id, page);
      },
      nameOf: async (id) => (await this.#users.find([id]))[0]?.username ?? id,
    });
  }

  /** The users whom a text mentions, by the parser that formats it: unknown names are text. */
  async #mentionsIn(text: string): Promise<Mentioned> {
    const named = namesIn(text);
    if (named.length === 0) return {};
    const names = named.filter((name) => name !== ROOM_NAME);
    const asked = names.slice(0, 2 * LIMITS.mentions);
    const ids = asked.length === 0 ? new Map<string, UserId>() : await this.#users.byNames(asked);
    const found = mentionsIn(parseText(text, (name) => ids.has(name)));
    const mentions = found.flatMap((name) => ids.get(name) ?? []).slice(0, LIMITS.mentions);
    return {
      ...(mentions.length > 0 && { mentions }),
      ...(namesRoom(text) && { mentionsRoom: true }),
    };
  }
}

/** Whether a message mentions this user; nobody's own message does. */
function isTold({ from, mentions, mentionsRoom }: Message, userId: UserId): boolean {
  return from !== userId && (mentionsRoom === true || mentions?.includes(userId) === true);
}

/** Whether a row is its log's first. */
function isFirst(row: string): boolean {
  return headOf(row)?.seq === 1;
}
