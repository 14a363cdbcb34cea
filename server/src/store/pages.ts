import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import type { Message, Page, Revision, RoomId, Thread, UserId } from "../protocol.ts";
import { ADOPT_TRIES, ROOMS_REMEMBERED, type Adoption } from "./adoption.ts";
import { headOf, isOwnRow, parseRow, revisionOf } from "./codec.ts";
import { bytesOf, listJson, toBytes, type Json } from "./json.ts";
import { defineScript, type RedisClient } from "./redis.ts";
import { SharedReads } from "./sharedRuns.ts";

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

/**
 * Rows oldest first; `more`: further ones in the asked direction, or before them; `newer`: newer ones exist; `cursor`:
 * of pinned messages, where further ones begin.
 */
type Rows = { rows: Json[]; more: boolean; newer?: boolean; cursor?: number | undefined };

/** So many rows that are no messages are passed over for one page. */
const PASSED_OVER = 5_000;
/** How many steps Redis may spend on leaving deleted answers out of one page's counts: about a millisecond. */
const THREAD_STEPS = 5_000;

/**
 * Pages of a room's messages. The log is a sorted set, strictly rising by `date`, the score: so a page is a score range,
 * and equal texts stay two messages.
 */
export class Pages {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #adoption: Adoption;
  /** Rooms with so long messages that a page was cut. */
  readonly #longRooms = new Set<RoomId>();
  readonly #reads = new SharedReads();
  readonly #threads: ReturnType<typeof defineScript>;
  readonly #row: ReturnType<typeof defineScript>;
  readonly #page: ReturnType<typeof defineScript>;

  constructor(redis: RedisClient, keys: Keys, adoption: Adoption) {
    this.#redis = redis;
    this.#keys = keys;
    this.#adoption = adoption;
    this.#threads = defineScript(redis, "threads.lua");
    this.#row = defineScript(redis, ["head.lua", "rows.lua", "row.lua"], true);
    this.#page = defineScript(redis, "page.lua", true);
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

  /** As `rowAt`; throws `not_found` for a message that does not exist. */
  async demandRow(roomId: RoomId, seq: number): Promise<Json> {
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
    const { rows, more } = await this.rows(roomId, cursor);
    return { messages: rows.map(parseRow), more };
  }

  /** Rows of ours only; adopts other programs' rows first, and passes over those that are no messages. */
  async rows(roomId: RoomId, cursor: PageCursor): Promise<Rows> {
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

  /** The row of the newest message, or null. */
  async newest(roomId: RoomId): Promise<Json | null> {
    return (await this.rows(roomId, { size: 1 })).rows[0] ?? null;
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
    return this.#reads.once(`page ${roomId} ${JSON.stringify(cursor)}`, async () => {
      // Asked first: a later change may be in the rows already, and is then sent again.
      const revision = this.#revision(roomId);
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
    return pinned ? this.#pinned(roomId, cursor) : this.rows(roomId, cursor);
  }

  async #around(roomId: RoomId, seq: number, size: number): Promise<Rows> {
    const { date } = headOf(await this.demandRow(roomId, seq))!;
    const half = Math.floor(size / 2);
    const [older, newer] = await Promise.all([
      this.rows(roomId, { before: date + 1, size: size - half }),
      this.rows(roomId, { after: date, size: Math.max(1, half) }),
    ]);
    const rows = [...older.rows, ...newer.rows.slice(0, half)];
    return { rows, more: older.more, newer: newer.more || newer.rows.length > half };
  }

  /** The first messages from a moment on; the newest page if nothing was said since. */
  async #from(roomId: RoomId, at: number, size: number): Promise<Rows> {
    const [before, since] = await Promise.all([
      this.rows(roomId, { before: at, size }),
      this.rows(roomId, { after: at - 1, size }),
    ]);
    if (since.rows.length === 0) return { ...before, newer: false };
    return { rows: since.rows, more: before.rows.length > 0, newer: since.more };
  }

  /** A thread's first message comes before its oldest answer. */
  async #thread(roomId: RoomId, seq: number, { before, after, size }: PageCursor): Promise<Rows> {
    const asked = parseRow(await this.demandRow(roomId, seq));
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
    const wanted = after === undefined && ended ? [...seqs, root] : seqs;
    const { rows, read } = await this.#present(roomId, wanted);
    const more = !ended || read < wanted.length;
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
  async #revision(roomId: RoomId): Promise<Revision> {
    const [rev, revHash] = await this.#redis.hmget(this.#keys.meta(roomId), "rev", "revHash");
    return revisionOf(rev, revHash);
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
      const seen = first === "newest" ? found.toReversed() : found;
      if (isDone || (await this.#adoption.runFor(roomId, seen)) === 0) return { found, own, more };
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
}
