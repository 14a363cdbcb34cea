import { Cluster } from "ioredis";
import type { Config } from "../config.ts";
import { ChatError, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import {
  LIMITS,
  type Cursor,
  type Message,
  type MessageFile,
  type Revision,
  type RoomId,
  type SendMessage,
  type UserId,
} from "../protocol.ts";
import { ADOPT_TRIES, Adoption, ROOMS_REMEMBERED } from "./adoption.ts";
import {
  announcementOf,
  beginningOf,
  chain,
  changedRow,
  channelsOf,
  envelopeOf,
  fileIn,
  headOf,
  isOwnRow,
  parseRecord,
  parseRow,
  revisionOf,
  rowIn,
  storedHead,
  syncedJson,
  tailOf,
  type Change,
  type Head,
  type MemberRecord,
} from "./codec.ts";
import type { Json } from "./json.ts";
import { keepsRecords } from "./kinds.ts";
import { Pages } from "./pages.ts";
import { defineScript, type RedisClient } from "./redis.ts";
import { LATEST, type Schema } from "./schema.ts";
import { SharedReads, SharedRuns } from "./sharedRuns.ts";

/** The end of a room's log and of its changes. */
export type Position = Head & Revision;

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

/** How a message becomes another, by what is known of whoever asks. */
export type Decide = (
  message: Message,
  record: MemberRecord | null,
) => Message | null | Promise<Message | null>;

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

type Mentioning = Pick<Message, "roomId" | "from"> & {
  mentions?: readonly UserId[] | undefined;
  mentionsRoom?: true | undefined;
};

/** How long the retry of a send, or of an edit, is recognised. */
const NONCE_MS = 48 * 3600 * 1_000;
const RESETS = ["ahead", "rewound", "trimmed"] as const;
const EMPTY: Head = { seq: 0, date: 0, hash: "" };
const NO_CHANGES = ["", ""] as const;
/** A cursor that no log has reached. */
const BEYOND: Head = { seq: Number.MAX_SAFE_INTEGER, date: 0, hash: "" };
/** How often a change is tried while other replicas change the same message. */
const CHANGE_TRIES = 20;

/** The messages of each room, in a sorted set: gap-free by `seq` and strictly rising by `date`, the score. */
export class Log {
  /** Its messages, by their numbers and a page at a time. */
  readonly pages: Pages;
  readonly #redis: RedisClient;
  readonly #storing: RedisClient;
  readonly #keys: Keys;
  readonly #channelOf: (roomId: RoomId) => string;
  readonly #envelope: string;
  readonly #schema: Schema;
  readonly #copies: { count: number; timeoutMs: number };
  readonly #reads = new SharedReads();
  /** Rooms that have a message: the next one has nothing to clear away. */
  readonly #begun = new Set<RoomId>();
  readonly #copying = new SharedRuns<void>();
  readonly #adoption: Adoption;
  /** The running change of each message that is being changed here. */
  readonly #changing = new Map<string, Promise<unknown>>();
  readonly #serverId: string;
  readonly #append: ReturnType<typeof defineScript>;
  readonly #sync: ReturnType<typeof defineScript>;
  readonly #swap: ReturnType<typeof defineScript>;
  readonly #load: ReturnType<typeof defineScript>;

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
    this.#envelope = envelopeOf(config.serverId);
    this.#copies = { count: config.waitReplicas, timeoutMs: config.waitMs };
    this.#adoption = new Adoption(redis, keys, config, schema);
    this.pages = new Pages(redis, keys, this.#adoption);
    this.#append = defineScript(storing, ["head.lua", "append.lua"]);
    this.#sync = defineScript(redis, ["head.lua", "rows.lua", "sync.lua"], true);
    this.#swap = defineScript(storing, ["head.lua", "change.lua"]);
    this.#load = defineScript(redis, ["head.lua", "load.lua"]);
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
    const { roomId, message, nonce, replyTo, thread } = send;
    const keys = this.#keys;
    const files = send.files?.map(fileIn);
    if (replyTo !== undefined || files !== undefined) this.#demandLatest();
    const listed = keepsRecords(roomId);
    const isNew = adopted || !this.#begun.has(roomId);
    const { mixed } = this.#schema;
    // Servers of the previous version would take a row with mentions for another program's.
    const mentions = mixed ? undefined : send.mentions;
    const mentionsRoom = mixed ? undefined : send.mentionsRoom;
    const tail = tailOf({ from, message, nonce, replyTo, thread, mentions, mentionsRoom, files });
    const flags =
      (listed ? "l" : "") +
      (adopted ? "a" : "") +
      (isNew ? "n" : "") +
      (mixed ? "m" : "") +
      (thread === undefined ? "" : "t") +
      (files === undefined ? "" : "f") +
      (send.answered === undefined ? "" : "r") +
      (send.unhurried ? "u" : "");
    const touched = [
      keys.room(roomId),
      keys.meta(roomId),
      keys.records(roomId),
      keys.nonce(roomId, from, nonce),
      keys.read(roomId),
      keys.spoke(roomId, from),
    ];
    if (mixed) touched.push(keys.members(roomId));
    if (thread !== undefined) touched.push(keys.thread(roomId, thread));
    if (files) touched.push(keys.roomFiles(roomId));
    if (isNew)
      touched.push(...[keys.deleted, keys.pins, keys.joined, keys.roomMentions].map((key) => key(roomId)));
    touched.push(...this.#toldOf({ roomId, from, mentions, mentionsRoom }));
    const args = [roomId, from, tail, this.#channelOf(roomId), this.#envelope, NONCE_MS, flags];
    if (send.answered) args.push(send.answered.date, beginningOf(send.answered));
    for (const { id } of files ?? []) args.push(id);
    const reply = await this.#append(touched, args);
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
        this.pages.demandRow(roomId, seq),
        this.#redis.hget(keys.records(roomId), by),
        once === undefined ? null : this.#redis.get(once),
      ]);
      const before = parseRow(row);
      // The log may have lost the message that was edited, and given its number to another.
      if (done === String(before.date)) return String(row);
      const decided = await decide(before, record === null ? null : parseRecord(record));
      // Whoever pins it again puts it back into a list that has lost it.
      const isUnlisted =
        decided === null && before.pinned !== undefined && !(await this.#isPinned(roomId, seq));
      if (decided === null && !isUnlisted) return String(row);
      const after = decided ?? before;
      const note = isUnlisted ? "pinned" : noteOf(before, after);
      const named = this.#toldOf(after);
      const unnamed = this.#toldOf(before).filter((key) => !named.includes(key));
      const reply = await this.#swap(
        [...changeKeys(keys, roomId, once), ...named, ...unnamed],
        [
          String(before.date),
          row,
          changedRow(after, note === "edited"),
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

  async #isPinned(roomId: RoomId, seq: number): Promise<boolean> {
    const score = this.#redis.zscore(this.#keys.pins(roomId), String(seq));
    return (await unlessWrongType(score, "")) !== null;
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

  /**
   * What somebody who joins a room sees first: its newest messages, oldest first, each as JSON, as many as `sync` answers
   * after a reset; and the last change that they include.
   */
  async newestRows(roomId: RoomId): Promise<{ rows: Json[]; revision: Revision }> {
    const { rows, position } = await this.#following(roomId, BEYOND);
    return { rows, revision: position };
  }

  /** What follows a client's cursor: a SyncedRoom as JSON. */
  syncJson({ roomId, seq, date, hash = "", rev, revHash = "" }: Cursor): Promise<Json> {
    return this.#reads.once(`sync ${roomId} ${seq} ${date} ${hash} ${rev} ${revHash}`, async () => {
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
    return (await this.look(roomId)).position;
  }

  /** The same, and `facts`, which changes whenever the room's name, kind or settings do. */
  async look(roomId: RoomId): Promise<{ position: Position; facts: string }> {
    const [seq, date, hash, rev, revHash, facts] = await this.#redis.hmget(
      this.#keys.meta(roomId),
      ...(["seq", "date", "hash", "rev", "revHash", "facts"] as const),
    );
    const position = { ...(storedHead(seq, date, hash) ?? EMPTY), ...revisionOf(rev, revHash) };
    return { position, facts: facts ?? "" };
  }

  /** Makes messages of what other programs added: see Adoption. `announced`: one of them has said so. */
  adopt(roomId: RoomId, announced = false): Promise<number> {
    return announced ? this.#adoption.runFor(roomId) : this.#adoption.run(roomId);
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
      const isMixed = rows.length < found.length && tries < ADOPT_TRIES;
      if (isMixed && (await this.#adoption.runFor(roomId, found)) > 0) continue;
      const following = {
        reset: RESETS.find((reason) => reason === status),
        changes: Number(count) < 0 ? null : changes,
        rows,
        more: more === "1",
        position: { seq: Number(seq), date: Number(date), hash, rev: Number(rev), revHash },
      };
      if (rows.length > 0 || !following.more) return following;
      // Whoever asked again from here would get the same.
      const page = await this.pages.rows(roomId, { size: LIMITS.pageDefault });
      return { ...following, reset: "trimmed" as const, rows: page.rows, more: false };
    }
  }
}

/** The keys of the script that changes one thing in a room; `once`: the key that makes it happen only once. */
export function changeKeys(keys: Keys, roomId: RoomId, once = keys.changed(roomId)): string[] {
  const { meta, records, changed, revs, members, room, deleted, pins, bans, roomFiles, joined } = keys;
  const named = [meta, records, changed, revs, members, room].map((key) => key(roomId));
  const rest = [deleted, pins, bans, roomFiles, joined].map((key) => key(roomId));
  return [...named, once, ...rest];
}

function headPart({ seq, date, hash }: Head): Head {
  return { seq, date, hash };
}

/** The files that a change takes from a message. */
function lostFiles({ files = [] }: Message, after: Message): string[] {
  const kept = new Set(after.files?.map(({ id }) => id));
  return files.flatMap(({ id }) => (kept.has(id) ? [] : id));
}

/** The script's name for a change, because it keeps lists of some kinds. */
function noteOf(before: Message, after: Message): "edited" | "deleted" | "pinned" | "unpinned" | "" {
  if (after.deleted !== undefined) return "deleted";
  if (after.message !== before.message) return "edited";
  if ((before.pinned === undefined) === (after.pinned === undefined)) return "";
  return after.pinned === undefined ? "unpinned" : "pinned";
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
  return new ChatError("not_found", "The message that this replies to is not there.");
}

export function unknownRoom(): ChatError {
  return new ChatError("not_found", "There is no such room for you.");
}
