import { isUtf8 } from "node:buffer";
import { hash as digest } from "node:crypto";
import { Cluster } from "ioredis";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import {
  LIMITS,
  ROOM_ROLES,
  USER_ID,
  isRoomId,
  type Cursor,
  type Message,
  type MessageFile,
  type Page,
  type Revision,
  type Room,
  type RoomId,
  type SendMessage,
  type Standing,
  type Thread,
  type UserId,
} from "../protocol.ts";
import { keepsRecords } from "./kinds.ts";
import { defineScript, type RedisClient } from "./redis.ts";
import { LATEST, type Schema } from "./schema.ts";

/** The end of a room's log: its newest message, as kept in `{room:<id>}:meta`. */
export type Head = { seq: number; date: number; hash: string };

/** The end of a room's log and of its changes. */
export type Position = Head & Revision;

/**
 * The present state of what changed. For a member (`what` is `@<user id>`): the record as JSON, or `""` for somebody
 * who is no member. For a message (`what` is its date): its row, or `""` if it is gone.
 */
export type Change = { what: string; now: string };

/**
 * What `after` answers: what changed, and the rows that follow a head; or where the log stands now, if the head is no
 * part of it, or too far back. `changes` is null if the changes since then are no longer known.
 */
export type Following = {
  reset: (typeof RESETS)[number] | "far" | undefined;
  changes: Change[] | null;
  rows: string[];
  more: boolean;
  position: Position;
};

/**
 * Dates in ms; without either, the newest page. Each other field asks for another kind of page: around the message of
 * this number, from a moment on, of the thread that holds this message, or of pinned messages.
 */
export type PageCursor = {
  before?: number | undefined;
  after?: number | undefined;
  around?: number | undefined;
  at?: number | undefined;
  thread?: number | undefined;
  pinned?: true | undefined;
  /** Of pinned messages: where the page before ended. */
  cursor?: number | undefined;
  /** Whether to tell how many answers are in the threads that begin on the page. */
  threads?: true | undefined;
  size: number;
};

/** JSON, as a text or as the bytes that Redis has, which are passed on without being read. */
export type Json = string | Buffer;

/**
 * Rows oldest first; `more`: further ones in the asked direction, or before them; `newer`: newer ones exist; `cursor`:
 * of pinned messages, where further ones begin.
 */
type Rows = { rows: Json[]; more: boolean; newer?: boolean; cursor?: number | undefined };

export type Row = Head & { json: string };
/** A row as it was announced. */
export type Heard = Row & {
  roomId: RoomId;
  tail: string;
  /** The room's last change when it was stored; undefined from a server of the previous version. */
  revHash: string | undefined;
};

/** How a message becomes another, by what is known of whoever asks. */
export type Decide = (
  message: Message,
  record: MemberRecord | null,
) => Message | null | Promise<Message | null>;

/** What a room knows of a member, as JSON in `{room:<id>}:records`. In General and in private rooms, of few. */
export type MemberRecord = Standing & { disabled?: true };

/** A change as it was announced. */
export type HeardChange = Change & { roomId: RoomId; rev: number; hash: string };

const NUMBER = String.raw`(?:0|[1-9]\d{0,15})`;
const STRING = String.raw`"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\x00-\x1f]*)*"`;
const IDS = String.raw`\[(?:"\d+"(?:,"\d+")*)?\]`;
const REACTION = String.raw`\[${STRING},${IDS}\]`;
const FILE_ID = String.raw`"[\w-]{22}"`;
/** As `fileIn` spells it. */
const FILE = String.raw`\{"id":${FILE_ID},"name":${STRING},"type":${STRING},"size":${NUMBER}(?:,"width":${NUMBER},"height":${NUMBER})?(?:,"animated":true)?(?:,"alt":${STRING})?\}`;
type Optional = Exclude<keyof Message, keyof Head | "roomId" | "from" | "message">;
/**
 * How each optional field of a message is spelt, in the order of a row. A change adds `editRev` and `rev`, which come
 * last.
 */
const OPTIONAL = {
  nonce: STRING,
  replyTo: NUMBER,
  thread: NUMBER,
  mentions: IDS,
  mentionsRoom: "true",
  edited: NUMBER,
  deleted: NUMBER,
  pinned: NUMBER,
  files: String.raw`\[${FILE}(?:,${FILE})*\]`,
  reactions: String.raw`\[(?:${REACTION}(?:,${REACTION})*)?\]`,
  editRev: NUMBER,
  rev: NUMBER,
} as const satisfies Record<Optional, string>;
const TAIL = ["from", "message", ...(Object.keys(OPTIONAL) as Optional[])] as const;
const CHANGED = (["roomId", "seq", "date", "hash", ...TAIL] as const).filter((name) => name !== "rev");
const EDITED = CHANGED.filter((name) => name !== "editRev");
const REST = Object.entries(OPTIONAL)
  .map(([name, value]) => `(?:,"${name}":${value})?`)
  .join("");
/**
 * A row that a script wrote: a match is valid JSON of the right shape, so its bytes can be passed on as they are.
 * Groups: room id, seq, date, hash, tail.
 */
const MESSAGE = String.raw`\{"roomId":"([\d:]+)","seq":(${NUMBER}),"date":(${NUMBER}),"hash":"([0-9a-f]+)",("from":"\d+","message":${STRING}${REST}\})`;
const STORED = new RegExp(`^${MESSAGE}$`);
const ANNOUNCED = new RegExp(
  String.raw`^\{"serverId":"[^"\\]*","type":"message",(?:"rev":${NUMBER},"revHash":"([0-9a-f]*)",)?"data":(${MESSAGE})\}$`,
);
const ANNOUNCED_CHANGE = new RegExp(
  String.raw`^\{"serverId":"[^"\\]*","type":"change","data":\{"roomId":"([\d:]+)","what":"(@?\d+)","rev":(${NUMBER}),"hash":"([0-9a-f]+)"(?:,"now":(?:(${MESSAGE})|(${STRING})))?\}\}$`,
);

/** In signs or bytes: ten times the longest row, of a message with files and reactions. */
const LONGEST = 1e6;
/** The last moment of a Date, in the year 275760: formatting a later one throws, here and in browsers. */
const LAST_DATE = 8.64e15;
/** As change.lua has it. */
const CHANGES_KEPT = 1_000;
/** How long the retry of a send, or of an edit, is recognised. */
const NONCE_MS = 48 * 3600 * 1_000;
/** Rows that one step reads or adopts: about a millisecond of Redis. */
const ADOPTED_AT_ONCE = 200;
const ADOPTED_MOST = 5_000;
/** Rooms of which something is remembered. */
const ROOMS_REMEMBERED = 10_000;
/** How often rows of other programs are adopted before the rest is skipped. */
const ADOPT_TRIES = 3;
/** So many rows that are no messages are passed over for one page. */
const PASSED_OVER = 5_000;
/** Lower dates are in seconds, as the Redis chat demos store them; as ms they would be in 1973 at the latest. */
const SECONDS_BELOW = 1e11;
const RESETS = ["ahead", "rewound", "trimmed"] as const;
const EMPTY: Head = { seq: 0, date: 0, hash: "" };
const NO_CHANGES = ["", ""] as const;
/** A cursor that no log has reached. */
const BEYOND: Head = { seq: Number.MAX_SAFE_INTEGER, date: 0, hash: "" };
const COMMA = Buffer.from(",");
/** How many steps Redis may spend on leaving deleted answers out of one page's counts: about a millisecond. */
const THREAD_STEPS = 5_000;
/** How often a change is tried while other replicas change the same message. */
const CHANGE_TRIES = 20;

/**
 * The messages of each room, in a sorted set: gap-free by `seq` and strictly rising by `date`, the score. So a page is
 * a score range, and equal texts stay two messages. Only this file and its scripts know how a row is spelt.
 */
export class Log {
  readonly #redis: RedisClient;
  readonly #storing: RedisClient;
  readonly #keys: Keys;
  readonly #channelOf: (roomId: RoomId) => string;
  readonly #envelope: string;
  readonly #schema: Schema;
  readonly #copies: { count: number; timeoutMs: number };
  /** Rooms with so long messages that a page was cut. */
  readonly #longRooms = new Set<RoomId>();
  #reads = new Map<string, Promise<Json>>();
  /** How many rows of a room are no messages. */
  readonly #strays = new Map<RoomId, number>();
  /** Rooms that have a message: the next one has nothing to clear away. */
  readonly #begun = new Set<RoomId>();
  readonly #copying = new SharedRuns<void>();
  readonly #adopting = new SharedRuns<number>();
  /** The running change of each message that is being changed here. */
  readonly #changing = new Map<string, Promise<unknown>>();
  readonly #serverId: string;
  readonly #append: ReturnType<typeof defineScript>;
  readonly #sync: ReturnType<typeof defineScript>;
  readonly #swap: ReturnType<typeof defineScript>;
  readonly #load: ReturnType<typeof defineScript>;
  readonly #adoptRows: ReturnType<typeof defineScript>;
  readonly #threads: ReturnType<typeof defineScript>;
  readonly #row: ReturnType<typeof defineScript>;
  readonly #page: ReturnType<typeof defineScript>;
  readonly #count: ReturnType<typeof defineScript>;

  /**
   * `storing` has what Redis' replicas are waited for: WAIT blocks its connection and covers what was written there, so
   * everything else needs another one.
   */
  constructor(
    redis: RedisClient,
    keys: Keys,
    config: Pick<Config, "serverId" | "relayChannel" | "waitReplicas" | "waitMs">,
    schema: Schema = LATEST,
    storing: RedisClient = redis,
  ) {
    this.#schema = schema;
    this.#redis = redis;
    this.#storing = storing;
    this.#keys = keys;
    this.#channelOf = channelsOf(keys, config);
    this.#serverId = config.serverId;
    this.#envelope = `{"serverId":${JSON.stringify(config.serverId)},"type":"message",`;
    this.#copies = { count: config.waitReplicas, timeoutMs: config.waitMs };
    this.#append = defineScript(storing, "append.lua");
    this.#sync = defineScript(redis, ["rows.lua", "sync.lua"], true);
    this.#swap = defineScript(storing, "change.lua");
    this.#load = defineScript(redis, "load.lua");
    this.#adoptRows = defineScript(redis, "adopt.lua");
    this.#threads = defineScript(redis, "threads.lua");
    this.#row = defineScript(redis, ["rows.lua", "row.lua"], true);
    this.#page = defineScript(redis, "page.lua", true);
    this.#count = defineScript(redis, "count.lua");
  }

  /**
   * Stores and announces a message in one atomic step, and marks the room as read by its author up to it. Answers the
   * row, a Message as JSON; for a repeated nonce, the row of the first message. Resolves once the configured number of
   * Redis replicas hold it. Throws `unavailable` if they do not in time: the outcome is then unknown, and a retry with
   * the same nonce finds out. Throws `not_found` for a room that keeps records and has none of this user's; for other
   * rooms the caller must have checked the membership. Throws `muted`, `archived`, `unauthorized` for a disabled account,
   * and `rate_limited` in slow mode; also `not_found` for a file that is not the user's to send, in this room, or that a
   * message has, and for an answer whose message is not there any more.
   */
  async append(from: UserId, send: NewMessage, adopted = false): Promise<{ row: string; repeated: boolean }> {
    const { roomId, nonce } = send;
    const keys = this.#keys;
    const files = send.files?.map(fileIn);
    if (send.replyTo !== undefined || files !== undefined) this.#demandLatest();
    const listed = keepsRecords(roomId);
    const isNew = adopted || !this.#begun.has(roomId);
    const { mixed } = this.#schema;
    // Servers of the previous version would take a row with mentions for another program's.
    const { mentions, mentionsRoom }: Partial<NewMessage> = mixed ? {} : send;
    const tail = tailOf({ ...send, from, mentions, mentionsRoom, files });
    const fileIds = files?.map(({ id }) => id) ?? [];
    const flags =
      (listed ? "l" : "") +
      (adopted ? "a" : "") +
      (isNew ? "n" : "") +
      (mixed ? "m" : "") +
      (send.thread === undefined ? "" : "t") +
      (files === undefined ? "" : "f") +
      (send.answered === undefined ? "" : "r") +
      (send.unhurried ? "u" : "");
    const answered = send.answered === undefined ? [] : [send.answered.date, beginningOf(send.answered)];
    const reply = await this.#append(
      [
        keys.room(roomId),
        keys.meta(roomId),
        keys.records(roomId),
        keys.nonce(roomId, from, nonce),
        keys.read(roomId),
        keys.spoke(roomId, from),
        ...(mixed ? [keys.members(roomId)] : []),
        ...(send.thread === undefined ? [] : [keys.thread(roomId, send.thread)]),
        ...(files === undefined ? [] : [keys.roomFiles(roomId)]),
        ...(isNew ? [keys.deleted, keys.pins, keys.joined, keys.roomMentions].map((key) => key(roomId)) : []),
        ...this.#toldOf({ roomId, from, mentions, mentionsRoom }),
      ],
      [roomId, from, tail, this.#channelOf(roomId), this.#envelope, NONCE_MS, flags, ...answered, ...fileIds],
    );
    const [outcome, row] = reply as [string, string?];
    if (outcome === "theirs") {
      await this.adopt(roomId);
      return this.append(from, send, true);
    }
    if (row === undefined || outcome === "muted" || outcome === "slow") throw notWritten(outcome, row);
    if (this.#begun.size >= ROOMS_REMEMBERED) this.#begun.clear();
    this.#begun.add(roomId);
    return { row: await this.#copied(roomId, row), repeated: outcome === "repeated" };
  }

  /** The row of a message that was stored under this nonce, as it is now; null if none is known. */
  repeated(from: UserId, { roomId, nonce }: Pick<NewMessage, "roomId" | "nonce">): Promise<string | null> {
    return this.#rowDoneBy(roomId, this.#keys.nonce(roomId, from, nonce));
  }

  /** The row of a message whose text was changed under this nonce, as it is now; null if none is known. */
  edited(by: UserId, { roomId, nonce }: Pick<NewMessage, "roomId" | "nonce">): Promise<string | null> {
    return this.#rowDoneBy(roomId, this.#keys.edit(roomId, by, nonce));
  }

  /** The row at the date that a key holds. */
  async #rowDoneBy(roomId: RoomId, key: string): Promise<string | null> {
    const date = await this.#redis.get(key);
    const rows = date === null ? [] : await this.#redis.zrangebyscore(this.#keys.room(roomId), date, date);
    const row = rows.find(isOwnRow);
    return row === undefined ? null : this.#copied(roomId, row);
  }

  /**
   * Appends old messages, oldest first; 500 at a time are quick. Raises dates that do not rise. Announces nothing:
   * replicas find such messages at their next look. Safe beside `append`.
   */
  async load(
    roomId: RoomId,
    messages: readonly { from: UserId; message: string; date: number }[],
  ): Promise<void> {
    const keys = [this.#keys.room(roomId), this.#keys.meta(roomId)];
    await this.adopt(roomId);
    for (;;) {
      const head = await this.position(roomId);
      let { seq, date, hash } = head;
      const rows: (string | number)[] = [];
      for (const { from, message, date: wanted } of messages) {
        seq += 1;
        date = Math.max(Math.floor(wanted), date + 1);
        const tail = tailOf({ from, message });
        hash = chain(hash, date, tail);
        rows.push(date, beginningOf({ roomId, seq, date, hash }) + tail);
      }
      if (rows.length === 0 || (await this.#load(keys, [head.hash, seq, date, hash, ...rows])) === 1) return;
    }
  }

  /**
   * Changes a message. `decide` gets the message and the actor's record in the room, if there is one, and answers the
   * new message, or null if nothing is to change; it is called again after a conflict, and if the record has changed.
   * Head, author and nonce stay. Announces the change; answers the new row. With a `nonce`, a text change that was
   * done before is not done again. Throws `not_found` for a message that does not exist, and for a room that keeps
   * records and has none of this user's (for other rooms the caller must have checked the membership); `unavailable`
   * while older servers may run, which would misread the row.
   */
  change(
    by: UserId,
    { roomId, seq, nonce }: { roomId: RoomId; seq: number; nonce?: string },
    decide: Decide,
  ): Promise<string> {
    // One at a time on this replica: hundreds of people reacting to one message would only conflict.
    const name = `${roomId} ${seq}`;
    const turn = (this.#changing.get(name) ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => this.#changeNow(by, { roomId, seq, nonce }, decide))
      .then((row) => this.#copied(roomId, row));
    this.#changing.set(name, turn);
    const over = () => {
      if (this.#changing.get(name) === turn) this.#changing.delete(name);
    };
    turn.then(over, over);
    return turn;
  }

  async #changeNow(
    by: UserId,
    { roomId, seq, nonce }: { roomId: RoomId; seq: number; nonce: string | undefined },
    decide: Decide,
  ): Promise<string> {
    this.#demandLatest();
    const keys = this.#keys;
    const once = nonce === undefined ? undefined : keys.edit(roomId, by, nonce);
    for (let tries = 1; tries <= CHANGE_TRIES; tries += 1) {
      const [row, record, done] = await Promise.all([
        this.#demandRow(roomId, seq),
        this.#redis.hget(keys.records(roomId), by),
        once === undefined ? null : this.#redis.get(once),
      ]);
      const before = parseRow(row);
      // The log may have lost the message that was edited, and given its number to another.
      if (done === String(before.date)) return String(row);
      const after = await decide(before, record === null ? null : parseRecord(record));
      if (after === null) return String(row);
      const note = noteOf(before, after);
      const named = this.#toldOf(after);
      const unnamed = this.#toldOf(before).filter((key) => !named.includes(key));
      const reply = await this.#swap(
        [...changeKeys(keys, roomId, once), ...named, ...unnamed],
        [
          String(before.date),
          row,
          `{${spell(after, note === "edited" ? EDITED : CHANGED)}`,
          this.#channelOf(roomId),
          announcementOf(this.#serverId, roomId, String(before.date)),
          "",
          "0",
          by,
          record ?? "",
          seq,
          note,
          once === undefined ? "0" : NONCE_MS,
          named.length,
          note === "deleted" ? "0" : "1",
          ...lostFiles(before, after),
        ],
      );
      const [outcome, changed] = reply as [string, string?];
      if (outcome === "archived") throw notWritten(outcome);
      if (outcome === "changed" && changed !== undefined) return changed;
    }
    throw new ChatError("unavailable", "Too many are changing this message. Try again.", 500);
  }

  /**
   * The lists of mentions that a message is in: those of whom it names, not its author's. Where it names everybody it is
   * in the room's list alone, however many they are, so that nobody counts it twice.
   */
  #toldOf({ roomId, from, mentions = [], mentionsRoom }: Mentioning): string[] {
    if (mentionsRoom) return [this.#keys.roomMentions(roomId)];
    return mentions.filter((id) => id !== from).map((id) => this.#keys.mentions(roomId, id));
  }

  /** Servers of the previous version would take a row with unknown fields for another program's. */
  #demandLatest(): void {
    if (this.#schema.mixed)
      throw new ChatError("unavailable", "Older servers are still running. Try again in a minute.", 5_000);
  }

  /** A message by its number, or null. */
  async at(roomId: RoomId, seq: number): Promise<Message | null> {
    const row = await this.rowAt(roomId, seq);
    return row === null ? null : parseRow(row);
  }

  /** The row of a message by its number, or null. */
  async rowAt(roomId: RoomId, seq: number): Promise<Json | null> {
    const { room, meta } = this.#keys;
    const rows = (await this.#row([room(roomId), meta(roomId)], [seq])) as Buffer[];
    return rows.find((row) => headOf(row)?.seq === seq) ?? null;
  }

  async #demandRow(roomId: RoomId, seq: number): Promise<Json> {
    const row = await this.rowAt(roomId, seq);
    if (row === null) throw new ChatError("not_found", "There is no such message.");
    return row;
  }

  /**
   * Numbers of the newest messages that mention a user, or everybody in the room, some of which may be their own; newest
   * first, below a seq or else up to the newest one before a date. Messages to everybody count after `since`, a seq. With
   * `below` there may be more, below that seq.
   */
  async mentions(
    roomId: RoomId,
    userId: UserId,
    { before, below, since, size }: { before?: number; below?: number; since: number; size: number },
  ): Promise<{ seqs: number[]; below?: number }> {
    const { room, mentions, roomMentions } = this.#keys;
    let top = below === undefined ? "+inf" : `(${below}`;
    if (below === undefined && before !== undefined) {
      const [row] = await this.#redis.zrevrangebyscore(room(roomId), `(${before}`, "-inf", "LIMIT", "0", "1");
      if (row === undefined) return { seqs: [] };
      top = String(headOf(row)?.seq ?? top);
    }
    const limit = ["LIMIT", "0", String(size)] as const;
    const found = await Promise.all([
      this.#redis.zrevrangebyscore(mentions(roomId, userId), top, "-inf", ...limit),
      this.#redis.zrevrangebyscore(roomMentions(roomId), top, `(${since}`, ...limit),
    ]);
    // A list that is cut says nothing of what comes below its end.
    const end = Math.max(0, ...found.map((list) => (list.length < size ? 0 : Number(list.at(-1)))));
    const seqs = [...new Set(found.flat().map(Number))].filter((seq) => seq >= end);
    return { seqs: seqs.toSorted((one, other) => other - one), ...(end > 0 && { below: end }) };
  }

  /** One page, oldest first, either before a date (the newest page without one) or after it. */
  async page(roomId: RoomId, cursor: PageCursor): Promise<Page> {
    const { rows, more } = await this.#rows(roomId, cursor);
    return { messages: rows.map(parseRow), more };
  }

  /**
   * What somebody who joins a room sees first: its newest messages, oldest first, each as JSON, as many as `sync` answers
   * after a reset; and the last change that they include.
   */
  async newestRows(roomId: RoomId): Promise<{ rows: Json[]; revision: Revision }> {
    const { rows, position } = await this.#following(roomId, BEYOND);
    return { rows, revision: position };
  }

  /**
   * Messages between two dates, newest first, `size` rows at most. `reached`: the date down to which it was read, or
   * undefined at the end; `bytes`: roughly how much was read.
   */
  async slice(
    roomId: RoomId,
    cursor: { before: number; after: number; size: number },
  ): Promise<{ messages: Message[]; bytes: number; reached: number | undefined }> {
    const room = this.#keys.room(roomId);
    const before = Number.isFinite(cursor.before) ? cursor.before : undefined;
    const { found, own: rows, more } = await this.#found(roomId, { ...cursor, before }, "newest");
    const last = found.at(-1);
    const oldest =
      !more || last === undefined
        ? undefined
        : (headOf(last)?.date ?? Number(await this.#redis.zscore(room, last)));
    return { messages: rows.map(parseRow), bytes: bytesOf(found), reached: oldest };
  }

  /** A page of any kind, as JSON. Throws `not_found` for a message that does not exist. */
  pageJson(roomId: RoomId, cursor: PageCursor): Promise<Buffer> {
    return this.#readOnce(`page ${roomId} ${JSON.stringify(cursor)}`, async () => {
      // Asked first: a later change may be in the rows already, and is then sent again.
      const revision = this.revision(roomId);
      const [{ rows, more, newer, cursor: next }, { rev, revHash }] = await Promise.all([
        this.#rowsOf(roomId, cursor),
        revision,
      ]);
      const threads = cursor.threads
        ? `,"threads":${JSON.stringify(await this.#threadsOf(roomId, rows))}`
        : "";
      const isNewer = newer === undefined ? "" : `,"newer":${newer}`;
      const further = next === undefined ? "" : `,"cursor":${next}`;
      const whether = `"more":${more}${isNewer}${further}${threads}`;
      return toBytes(listJson(`{"messages":[`, rows, `],${whether},"rev":${rev},"revHash":"${revHash}"}`));
    });
  }

  #rowsOf(roomId: RoomId, cursor: PageCursor): Promise<Rows> {
    const { around, at, thread, pinned, size } = cursor;
    if (around !== undefined) return this.#around(roomId, around, size);
    if (at !== undefined) return this.#from(roomId, at, size);
    if (thread !== undefined) return this.#thread(roomId, thread, cursor);
    return pinned ? this.#pinned(roomId, cursor) : this.#rows(roomId, cursor);
  }

  async #around(roomId: RoomId, seq: number, size: number): Promise<Rows> {
    const { date } = headOf(await this.#demandRow(roomId, seq))!;
    const half = Math.floor(size / 2);
    const [older, newer] = await Promise.all([
      this.#rows(roomId, { before: date + 1, size: size - half }),
      this.#rows(roomId, { after: date, size: Math.max(1, half) }),
    ]);
    const rows = [...older.rows, ...newer.rows.slice(0, half)];
    return { rows, more: older.more, newer: newer.more || newer.rows.length > half };
  }

  /** The first messages from a moment on; the newest page if nothing was said since. */
  async #from(roomId: RoomId, at: number, size: number): Promise<Rows> {
    const [before, since] = await Promise.all([
      this.#rows(roomId, { before: at, size }),
      this.#rows(roomId, { after: at - 1, size }),
    ]);
    if (since.rows.length === 0) return { ...before, newer: false };
    return { rows: since.rows, more: before.rows.length > 0, newer: since.more };
  }

  /** A thread's first message comes before its oldest answer. */
  async #thread(roomId: RoomId, seq: number, { before, after, size }: PageCursor): Promise<Rows> {
    const asked = parseRow(await this.#demandRow(roomId, seq));
    const root = asked.thread ?? seq;
    const thread = this.#keys.thread(roomId, root);
    const max = before === undefined ? "+inf" : `(${before}`;
    const limit = ["LIMIT", "0", String(size + 1)] as const;
    const found =
      after === undefined
        ? await this.#redis.zrevrangebyscore(thread, max, "-inf", ...limit)
        : await this.#redis.zrangebyscore(thread, `(${after}`, max, ...limit);
    const seqs = found.slice(0, size).map(Number);
    const ended = found.length <= size;
    const { rows, read } = await this.#present(roomId, after === undefined && ended ? [...seqs, root] : seqs);
    const more = !ended || read < seqs.length;
    return { rows: after === undefined ? rows.toReversed() : rows, more };
  }

  /** What is in the threads that begin with one of these rows. */
  async #threadsOf(roomId: RoomId, rows: Json[]): Promise<Thread[]> {
    const keys = this.#keys;
    const seqs = rows.map(parseRow).flatMap(({ seq, thread }) => (thread === undefined ? [seq] : []));
    if (seqs.length === 0) return [];
    const threads = seqs.map((seq) => keys.thread(roomId, seq));
    const found = await this.#threads([keys.room(roomId), keys.deleted(roomId), ...threads], [THREAD_STEPS]);
    const told = found as (number | string)[];
    return seqs.flatMap((seq, index) => {
      const [count, row] = [Number(told[2 * index]), String(told[2 * index + 1])];
      if (count === 0 || row === "" || !isOwnRow(row)) return [];
      const { seq: last, date, from } = parseRow(row);
      return [{ seq, count, last: { seq: last, date, from } }];
    });
  }

  /** The messages pinned last, or before those of a page, in the order of pinning. */
  async #pinned(roomId: RoomId, { size, cursor }: PageCursor): Promise<Rows> {
    const max = cursor === undefined ? "+inf" : `(${cursor}`;
    const found = await this.#redis.zrevrangebyscore(
      this.#keys.pins(roomId),
      max,
      "-inf",
      "WITHSCORES",
      "LIMIT",
      0,
      size + 1,
    );
    const pins = Array.from({ length: found.length / 2 }, (_, at) => ({
      seq: Number(found[2 * at]),
      rev: Number(found[2 * at + 1]),
    }));
    const some = pins.slice(0, size).map(({ seq }) => seq);
    const { rows, read } = await this.#present(roomId, some);
    const more = read < pins.length;
    return { rows: rows.toReversed(), more, cursor: more ? pins[read - 1]?.rev : undefined };
  }

  /** The first rows of those numbers that exist: fewer where they are long. `read`: how many numbers were looked up. */
  async #present(roomId: RoomId, seqs: number[]): Promise<{ rows: Json[]; read: number }> {
    const rows: Json[] = [];
    let read = 0;
    while (read < seqs.length && bytesOf(rows) <= BOUNDS.pageBytes.value) {
      const some = seqs.slice(read, read + BOUNDS.messagesAtOnce.value);
      const found = await Promise.all(some.map((seq) => this.rowAt(roomId, seq)));
      rows.push(...found.filter((row) => row !== null));
      read += some.length;
    }
    return { rows, read };
  }

  /** The room's last change. */
  async revision(roomId: RoomId): Promise<Revision> {
    const [rev, revHash] = await this.#redis.hmget(this.#keys.meta(roomId), "rev", "revHash");
    return { rev: Number(rev ?? 0), revHash: revHash ?? "" };
  }

  /** What follows a client's cursor: a SyncedRoom as JSON. */
  syncJson({ roomId, seq, date, hash = "", rev, revHash = "" }: Cursor): Promise<Json> {
    return this.#readOnce(`sync ${roomId} ${seq} ${date} ${hash} ${rev} ${revHash}`, async () => {
      const since = rev === undefined ? undefined : ([String(rev), revHash] as const);
      const { reset, changes, rows, more, position } = await this.#following(
        roomId,
        { seq, date, hash },
        since,
      );
      // A copy that the client drops has nothing to catch up with; if the log lost its tail, nobody knows which
      // changes it lost.
      const isLost = reset === "ahead" || reset === "rewound";
      const isWhole = reset === "trimmed" || seq === 0;
      const changed = isLost ? null : isWhole ? [] : (changes?.flatMap(rowIn) ?? null);
      return syncedJson({ roomId, rows, more, reset, after: rev, changed, revision: position });
    });
  }

  /**
   * Equal questions in one turn of the event loop share one answer, as when thousands come back at once. The answer is
   * never too old: what completes in a turn was asked for before it.
   */
  #readOnce<T extends Json>(name: string, read: () => Promise<T>): Promise<T> {
    const asked = this.#reads.get(name) as Promise<T> | undefined;
    if (asked) return asked;
    const answer = read();
    // A Map that is cleared keeps what it held alive as long as its next contents: see docs/decisions.md.
    if (this.#reads.size === 0) setImmediate(() => (this.#reads = new Map()));
    this.#reads.set(name, answer);
    return answer;
  }

  /** What follows a replica's position, for the relay. */
  async after(roomId: RoomId, from: Position): Promise<Following> {
    const { reset, changes, rows, more, position } = await this.#following(roomId, from, [
      String(from.rev),
      from.revHash,
    ]);
    const isFar = position.seq - from.seq > BOUNDS.healRows.value;
    if (reset || isFar) return { reset: reset ?? "far", changes, rows: [], more: false, position };
    const last = rows.at(-1);
    const reached = (last === undefined ? null : headOf(last)) ?? from;
    return { reset, changes, rows: rows.map(String), more, position: { ...position, ...headPart(reached) } };
  }

  /** The place of the newest message in the log, and of the newest change. */
  async position(roomId: RoomId): Promise<Position> {
    const [seq, date, hash, rev, revHash] = await this.#redis.hmget(
      this.#keys.meta(roomId),
      ...(["seq", "date", "hash", "rev", "revHash"] as const),
    );
    const head = seq && date && hash ? { seq: Number(seq), date: Number(date), hash } : EMPTY;
    return { ...head, rev: Number(rev ?? 0), revHash: revHash ?? "" };
  }

  /** The row of the newest message, or null. */
  async newest(roomId: RoomId): Promise<Json | null> {
    return (await this.#rows(roomId, { size: 1 })).rows[0] ?? null;
  }

  /**
   * Turns what other programs added to a room's sorted set into messages, a few at a time: the row goes, and a message
   * with its text is appended, once, by the first replica. Answers how many. Rows that are no messages stay, and are
   * never read. Calls during a run share the next one.
   */
  adopt(roomId: RoomId): Promise<number> {
    return this.#adopting.run(roomId, () => this.#adopt(roomId));
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
    const rows = await this.#redis.zrevrange(room(roomId), 0, ADOPTED_AT_ONCE - 1);
    const newest = rows.find(isOwnRow);
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
    const room = this.#keys.room(roomId);
    let missing = others;
    const found: Foreign[] = [];
    for (
      let place = 0;
      place < size && missing > 0 && found.length < ADOPTED_MOST;
      place += ADOPTED_AT_ONCE
    ) {
      const slice = await this.#redis.zrevrange(room, place, place + ADOPTED_AT_ONCE - 1);
      const rows = slice.filter((row) => !isOwnRow(row));
      missing -= rows.length;
      found.unshift(...readForeign(roomId, rows.toReversed()));
    }
    return this.#take(roomId, "ours", found);
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

  /**
   * Answers a row once the configured number of Redis' replicas hold it, also one that an earlier request stored, which
   * may have been told that they do not. Group commit: what is stored during one WAIT shares the next one. On a Cluster,
   * where rooms are on different primaries, each room has its own.
   */
  async #copied(roomId: RoomId, row: string): Promise<string> {
    const group = this.#storing instanceof Cluster ? roomId : "all";
    if (this.#copies.count > 0) await this.#copying.run(group, () => this.#wait(roomId));
    return row;
  }

  async #wait(roomId: RoomId): Promise<void> {
    const { count, timeoutMs } = this.#copies;
    // WAIT names no key and covers its own connection's writes: the command before it routes a Cluster's client to the
    // room's primary.
    const pipeline = this.#storing.pipeline().exists(this.#keys.meta(roomId)).wait(count, timeoutMs);
    const [error, copies] = (await pipeline.exec())?.[1] ?? [];
    if (error || Number(copies) < count)
      throw new ChatError("unavailable", "Not stored safely yet. Try again.", 500);
  }

  /** Rows of ours only; adopts other programs' rows first, and passes over those that are no messages. */
  async #rows(roomId: RoomId, cursor: PageCursor): Promise<Rows> {
    const { size } = cursor;
    const isNewest = cursor.after === undefined;
    const rows: Buffer[] = [];
    let more = true;
    for (let read = 0; more && rows.length <= size && bytesOf(rows) <= BOUNDS.pageBytes.value;) {
      const part = await this.#found(
        roomId,
        { ...cursor, size: size + 1 },
        isNewest ? "newest" : "oldest",
        read,
      );
      rows.push(...part.own);
      read += part.found.length;
      more = part.more && read < PASSED_OVER;
    }
    const page = rows.slice(0, size);
    return { rows: isNewest ? page.toReversed() : page, more: more || rows.length > size };
  }

  /**
   * The newest or the oldest rows between two dates, in that order, after the first ones, and those among them that are
   * messages: fewer than asked for where they are long. `more`: whether there may be more.
   */
  async #found(
    roomId: RoomId,
    { before, after, size }: PageCursor,
    first: "newest" | "oldest",
    passed = 0,
  ): Promise<{ found: Buffer[]; own: Buffer[]; more: boolean }> {
    const max = before === undefined ? "+inf" : `(${before}`;
    const min = after === undefined ? "-inf" : `(${after}`;
    for (let tries = 1; ; tries += 1) {
      const { found, more } = await this.#stored(
        roomId,
        first === "newest" ? [max, min] : [min, max],
        first,
        passed,
        size,
      );
      const own = found.filter(isOwnRow);
      const isDone = tries === ADOPT_TRIES || own.length === found.length;
      if (isDone || (await this.adopt(roomId)) === 0) return { found, own, more };
    }
  }

  /**
   * Rows as they are stored. A plain command costs Redis a quarter of the script that stops at long ones: that one reads
   * rooms in which there were too many.
   */
  async #stored(
    roomId: RoomId,
    [from, to]: [string, string],
    first: "newest" | "oldest",
    passed: number,
    size: number,
  ): Promise<{ found: Buffer[]; more: boolean }> {
    const room = this.#keys.room(roomId);
    const most = BOUNDS.pageBytes.value;
    if (this.#longRooms.has(roomId)) {
      const [more, ...found] = (await this.#page([room], [first, from, to, passed, size, most])) as [
        number,
        ...Buffer[],
      ];
      return { found, more: more === 1 };
    }
    const limit = ["LIMIT", String(passed), String(size)] as const;
    const found =
      first === "newest"
        ? await this.#redis.zrevrangebyscoreBuffer(room, from, to, ...limit)
        : await this.#redis.zrangebyscoreBuffer(room, from, to, ...limit);
    let bytes = 0;
    const fitting = found.findIndex((row) => (bytes += row.length) > most) + 1;
    if (fitting === 0) return { found, more: found.length === size };
    if (this.#longRooms.size >= ROOMS_REMEMBERED) this.#longRooms.clear();
    this.#longRooms.add(roomId);
    return { found: found.slice(0, fitting), more: found.length > fitting || found.length === size };
  }

  async #following(roomId: RoomId, from: Head, since: readonly [string, string] = NO_CHANGES) {
    const { room, meta, records, changed, revs } = this.#keys;
    const keys = [room, meta, records, changed, revs].map((key) => key(roomId));
    const bounds = [BOUNDS.syncRows.value, BOUNDS.pageBytes.value];
    for (let tries = 1; ; tries += 1) {
      const passOver = tries < ADOPT_TRIES ? "0" : "1";
      const reply = await this.#sync(keys, [from.seq, from.date, from.hash, ...bounds, passOver, ...since]);
      const [first, rest] = [(reply as unknown[]).slice(0, 8), (reply as Buffer[]).slice(8)];
      const [status, seq, date, hash = "", more, rev, revHash = "", count] = first.map(String);
      if (status === "theirs") {
        await this.adopt(roomId);
        continue;
      }
      const told = Math.max(0, Number(count));
      const changes = Array.from({ length: told }, (_, index) => ({
        what: String(rest[index * 2] ?? ""),
        now: String(rest[index * 2 + 1] ?? ""),
      }));
      const found = rest.slice(told * 2);
      const rows = found.filter(isOwnRow);
      // The script knows a row of ours by its beginning only.
      if (rows.length < found.length && tries < ADOPT_TRIES && (await this.adopt(roomId)) > 0) continue;
      const following = {
        reset: RESETS.find((reason) => reason === status),
        changes: Number(count) < 0 ? null : changes,
        rows,
        more: more === "1",
        position: { seq: Number(seq), date: Number(date), hash, rev: Number(rev), revHash },
      };
      if (rows.length > 0 || !following.more) return following;
      // Whoever asked again from here would get the same.
      const page = await this.#rows(roomId, { size: LIMITS.pageDefault });
      return { ...following, reset: "trimmed" as const, rows: page.rows, more: false };
    }
  }
}

/** Runs one task at a time under each name. Callers during a run share the next one. */
class SharedRuns<T> {
  readonly #turns = new Map<string, { running: Promise<unknown>; next: Promise<T> | undefined }>();

  run(name: string, work: () => Promise<T>): Promise<T> {
    const turn = this.#turns.get(name) ?? { running: Promise.resolve(), next: undefined };
    this.#turns.set(name, turn);
    turn.next ??= turn.running.then(() => {
      turn.next = undefined;
      const done = work();
      const over = () => {
        if (!turn.next) this.#turns.delete(name);
      };
      turn.running = done.then(over, over);
      return done;
    });
    return turn.next;
  }
}

/** The hash that `append.lua` gives a message: equal hashes prove that the logs up to it are equal, byte by byte. */
export function chain(hash: string, date: number, tail: string): string {
  return digest("sha1", `${hash}|${date}|${tail}`).slice(0, 12);
}

/** A message that `append.lua` announced, or null for any other announcement. */
export function readAnnouncement(text: string): Heard | null {
  const announced = matched(ANNOUNCED, text);
  if (!announced) return null;
  const [, revHash, json = "", roomId = "", seq, date, hash = "", tail = ""] = announced;
  return { seq: Number(seq), date: Number(date), hash, roomId, json, tail, revHash };
}

/** The channel on which a room's messages and changes are announced. */
export function channelsOf(
  keys: Keys,
  { relayChannel }: Pick<Config, "relayChannel">,
): (roomId: RoomId) => string {
  return relayChannel === "rooms" ? keys.roomChannel : () => keys.channel;
}

/** The keys of the script that changes one thing in a room; `once`: the key that makes it happen only once. */
export function changeKeys(keys: Keys, roomId: RoomId, once = keys.changed(roomId)): string[] {
  const { meta, records, changed, revs, members, room, deleted, pins, bans, roomFiles, joined } = keys;
  const named = [meta, records, changed, revs, members, room].map((key) => key(roomId));
  const rest = [deleted, pins, bans, roomFiles, joined].map((key) => key(roomId));
  return [...named, once, ...rest];
}

/** The newest change that is kept of a room, with the running hash over all; rev 0 if none is. */
export async function newestChange(redis: RedisClient, keys: Keys, roomId: RoomId): Promise<Revision> {
  const [, rev = "0"] = await redis.zrevrange(keys.changed(roomId), 0, 0, "WITHSCORES");
  const kept = await redis.hget(keys.revs(roomId), String(Number(rev) % CHANGES_KEPT));
  const [known, revHash = ""] = kept?.split(":") ?? [];
  return { rev: Number(rev), revHash: known === rev ? revHash : "" };
}

/** The beginning of what `change.lua` announces; the script adds rev, hash and the new state. */
export function announcementOf(serverId: string, roomId: RoomId, what: string): string {
  return `{"serverId":${JSON.stringify(serverId)},"type":"change","data":{"roomId":"${roomId}","what":"${what}","rev":`;
}

/** A change that `change.lua` announced, or null for any other announcement. */
export function readChange(text: string): HeardChange | null {
  const heard = matched(ANNOUNCED_CHANGE, text);
  if (!heard) return null;
  const [, roomId = "", what = "", rev, hash = "", row] = heard;
  const record = heard.at(-1);
  const now = row ?? (record === undefined ? "" : (JSON.parse(record) as string));
  return { roomId, what, rev: Number(rev), hash, now };
}

/** The hash that `change.lua` gives a change. */
export function chainChange(revHash: string, { rev, what, now }: HeardChange): string {
  return digest("sha1", `${revHash}|${rev}|${what}|${now}`).slice(0, 12);
}

/** The user whose record changed; null for a message. */
export function memberIn({ what }: Change): UserId | null {
  return what.startsWith("@") ? what.slice(1) : null;
}

/** A stored record. Other programs, and later versions, may have written anything: then a plain member's. */
export function parseRecord(text: string): MemberRecord {
  const value = parseJson(text);
  const { role, mutedUntil, disabled } = isRecord(value) ? value : {};
  return {
    role: ROOM_ROLES.find((known) => known === role) ?? "member",
    ...(typeof mutedUntil === "number" && { mutedUntil }),
    ...(disabled === true && { disabled }),
  };
}

/** The new row of a changed message, if the change is one of a message that still exists. */
export function rowIn(change: Change): string[] {
  return memberIn(change) === null && isOwnRow(change.now) ? [change.now] : [];
}

/**
 * A SyncedRoom as JSON. `changed`: the rows that changed after the rev `after`, which is undefined if the client does
 * not follow changes; null if the changes are no longer known.
 */
export function syncedJson(room: {
  roomId: RoomId;
  rows: readonly Json[];
  more: boolean;
  reset?: string | undefined;
  after: number | undefined;
  changed: readonly string[] | null;
  revision: Revision;
}): Json {
  const { roomId, rows, more, reset, changed, revision } = room;
  const begin = `{"roomId":"${roomId}","messages":[`;
  const end = `],"more":${more}${reset === undefined ? "" : `,"reset":"${reset}"`}`;
  if (room.after === undefined) return listJson(begin, rows, `${end}}`);
  const after = changed === null || reset !== undefined ? revision.rev : room.after;
  const changes = changesJson({ ...revision, after }, changed ?? []);
  return listJson(begin, rows, `${end},"changes":{${changes}${changed === null ? `,"reset":true` : ""}}}`);
}

/** A room that was joined, with its newest rows, as JSON. */
export function joinedJson(room: Room, rows: readonly Json[], { rev, revHash }: Revision): Json {
  return listJson(
    `{"room":${JSON.stringify(room)},"messages":[`,
    rows,
    `],"rev":${rev},"revHash":"${revHash}"}`,
  );
}

/** An object, which has fields, as JSON, with one more that is JSON already. */
export function withField(object: object, name: string, json: Json): Json {
  return listJson(`${JSON.stringify(object).slice(0, -1)},"${name}":`, [json], "}");
}

/**
 * JSON with a list of what is JSON already, which `begin` and `end` open and close: a text if all of it is. Bytes that are
 * no UTF-8, as another program may have written, would end a client's connection: they are replaced.
 */
export function listJson(begin: string, list: readonly Json[], end: string): Json {
  if (list.every((one) => typeof one === "string")) return `${begin}${list.join(",")}${end}`;
  const parts: Buffer[] = [Buffer.from(begin)];
  for (const one of list) parts.push(toBytes(one), COMMA);
  parts.pop();
  const bytes = Buffer.concat([...parts, Buffer.from(end)]);
  return isUtf8(bytes) ? bytes : bytes.toString();
}

function bytesOf(rows: readonly Json[]): number {
  return rows.reduce((total, row) => total + Buffer.byteLength(row), 0);
}

function toBytes(text: Json): Buffer {
  return typeof text === "string" ? Buffer.from(text) : text;
}

/** The fields of Changes as JSON. */
export function changesJson(
  { after, rev, revHash }: Revision & { after: number },
  rows: readonly string[],
): string {
  return `"after":${after},"rev":${rev},"revHash":"${revHash}","messages":[${rows.join(",")}]`;
}

function headPart({ seq, date, hash }: Head): Head {
  return { seq, date, hash };
}

/** Nothing that a script writes is so long, and a pattern throws at a text of a few MB. */
function matched(pattern: RegExp, text: string): RegExpExecArray | null {
  return text.length > LONGEST ? null : pattern.exec(text);
}

/** Whether a script wrote this row: then it is valid JSON of a message. */
export function isOwnRow(row: Json): boolean {
  return row.length <= LONGEST && STORED.test(bytewise(row));
}

/** The place in the log of a row that a script wrote, or null for any other row. */
export function headOf(row: Json): Head | null {
  const [, , seq, date, hash = ""] = matched(STORED, bytewise(row)) ?? [];
  return seq === undefined ? null : { seq: Number(seq), date: Number(date), hash };
}

/** A row to be matched, a byte a character: what is asked of it is all ASCII. */
function bytewise(row: Json): string {
  return typeof row === "string" ? row : row.toString("latin1");
}

type Mentioning = Pick<Message, "roomId" | "from"> & {
  mentions?: readonly UserId[] | undefined;
  mentionsRoom?: true | undefined;
};

/**
 * What to store: what the author sent, and what the server derived from it. `answered`: the message with the number
 * `replyTo`, as it was found.
 */
export type NewMessage = Omit<SendMessage, "files" | "replyToHash"> &
  Pick<Message, "thread" | "mentions" | "mentionsRoom"> & {
    files?: MessageFile[] | undefined;
    answered?: Message;
    /** Slow mode does not hold the author. */
    unhurried?: true;
  };

/** The bytes with which a message's row begins, and which no change touches. */
export function beginningOf({ roomId, seq, date, hash }: Head & { roomId: RoomId }): string {
  return `{"roomId":"${roomId}","seq":${seq},"date":${date},"hash":"${hash}",`;
}

/** A file in the one order of a row, and nothing else. */
function fileIn({ id, name, type, size, width, height, animated, alt }: MessageFile): MessageFile {
  return {
    id,
    name,
    type,
    size,
    ...(width !== undefined && height !== undefined && { width, height }),
    ...(animated && { animated }),
    ...(alt !== undefined && { alt }),
  };
}

/** The files that a change takes from a message. */
function lostFiles({ files = [] }: Message, after: Message): string[] {
  const kept = new Set(after.files?.map(({ id }) => id));
  return files.flatMap(({ id }) => (kept.has(id) ? [] : id));
}

/** A row without its head: the input of the hash when the row is first stored. */
function tailOf(message: Partial<Message>): string {
  return `${spell(message, TAIL)}}`;
}

/** A row without its braces. */
function spell(message: Partial<Message>, fields: readonly (keyof Message)[]): string {
  let row = "";
  for (const name of fields) {
    const value = message[name];
    if (value !== undefined) row += `,"${name}":${JSON.stringify(value)}`;
  }
  return row.slice(1);
}

/** The script's name for a change, because it keeps lists of some kinds. */
function noteOf(before: Message, after: Message): "edited" | "deleted" | "pinned" | "unpinned" | "" {
  if (after.deleted !== undefined) return "deleted";
  if (after.message !== before.message) return "edited";
  if ((before.pinned === undefined) === (after.pinned === undefined)) return "";
  return after.pinned === undefined ? "unpinned" : "pinned";
}

/** A row that another program added to a room's sorted set, and the message it becomes. */
type Foreign = { row: string; date: number; tail: string };

/** The messages among another program's rows; ids may be numbers, and a date in seconds. */
function readForeign(roomId: RoomId, rows: string[]): Foreign[] {
  return rows.flatMap((row) => {
    const said = parseForeign(parseJson(row));
    if (!said || said.roomId !== roomId) return [];
    const { date, from, message, nonce } = said;
    const tail = tailOf({ from, message, nonce });
    return [{ row, date: Math.floor(date < SECONDS_BELOW ? date * 1_000 : date), tail }];
  });
}

/** A message as another program spells it, in a sorted set or in an announcement; null for anything else. */
export function parseForeign(data: unknown): Omit<Message, "seq" | "hash"> | null {
  if (!isRecord(data)) return null;
  const { from, message, date, nonce } = data;
  const roomId = typeof data["roomId"] === "number" ? String(data["roomId"]) : data["roomId"];
  const author = typeof from === "number" ? String(from) : from;
  if (!isRoomId(roomId) || typeof author !== "string" || !USER_ID.test(author)) return null;
  if (typeof message !== "string" || message.length === 0 || message.length > LIMITS.message) return null;
  if (typeof date !== "number" || !(date >= 0 && date <= LAST_DATE)) return null;
  return { roomId, date, from: author, message, ...(typeof nonce === "string" && { nonce }) };
}

export function parseRow(row: Json): Message {
  return JSON.parse(String(row)) as Message;
}

/** What the scripts refuse by a room's records, as their users read it. */
export const REFUSED = {
  muted: "You are muted in this room.",
  archived: "This room is archived. It can only be read.",
};

/** Why `append.lua` or `change.lua` refused, with the ms to wait, if any. */
function notWritten(outcome: string, ms?: string): ChatError {
  if (outcome === "muted") return new ChatError("muted", REFUSED.muted, Number(ms));
  if (outcome === "slow")
    return new ChatError("rate_limited", "Slow mode: wait before you go on.", Number(ms));
  if (outcome === "archived") return new ChatError("archived", REFUSED.archived);
  if (outcome === "file") return new ChatError("not_found", "A file of this message is not there any more.");
  if (outcome === "unanswered") return unanswered();
  return outcome === "disabled" ? new ChatError("unauthorized", "Log in first.") : unknownRoom();
}

/** Of an answer to a message that is not in the log, or not any more. */
export function unanswered(): ChatError {
  return new ChatError("not_found", "The message that this answers is not there.");
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
