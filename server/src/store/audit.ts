import { isRefusal, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { AuditEntry, RoomId, UserId } from "../protocol.ts";
import { isRecord, parseJson } from "./json.ts";
import type { RedisClient } from "./redis.ts";

/** How many entries the server keeps, of itself and of all rooms, and how many a room. */
const KEPT = 10_000;
const KEPT_IN_ROOM = 1_000;
/** Of what somebody is refused, one entry in this time: nobody pushes the others out of the log. */
const REFUSED_MS = 10_000;
const REFUSED_REMEMBERED = 10_000;
/** Of the newest entries, so many are of what was refused: nor do many accounts together push the others out. */
const REFUSED_AMONG = 200;
const REFUSED_MOST = 50;

/** An entry in a stream. */
type Entry = { key: string; id: string };

/** What happened, to be noted. */
export type Note = Omit<AuditEntry, "id" | "at">;

/** Who did what as a moderator, an admin or an operator, and who tried to. Entries stay. */
export class Audit {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  /** When something that a user was refused was last noted. */
  readonly #refusedAt = new Map<UserId, number>();

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Notes what has happened. */
  async note(note: Note): Promise<void> {
    if (!note.refused || this.#isNews(note.by)) await this.#add(note);
  }

  /**
   * Does what matters, and notes it; also that it was refused, but not what somebody asks of a room that they do not
   * see. `work` calls `begin` once it knows that it may, before anything is stored: the entry stands from then on, as
   * unfinished until the work is done, so that neither a crash nor a lost answer hides it. Work that ends without it has
   * done nothing, and leaves no entry.
   */
  async noted<T>(note: Note, work: (begin: () => Promise<void>) => Promise<T>): Promise<T> {
    let begun: Entry[] | undefined;
    try {
      const done = await work(async () => {
        begun = await this.#add({ ...note, unfinished: true });
      });
      if (begun === undefined) return done;
      await this.#add(note);
      await this.#takeBack(begun);
      return done;
    } catch (error) {
      const isKnown = isRefusal(error);
      if (isKnown && begun !== undefined) await this.#takeBack(begun);
      if (isKnown && error.code === "forbidden") await this.note({ ...note, refused: true });
      throw error;
    }
  }

  /** Whether what this user is refused is to be noted. */
  #isNews(by: UserId): boolean {
    const now = performance.now();
    if (now - (this.#refusedAt.get(by) ?? -REFUSED_MS) < REFUSED_MS) return false;
    if (this.#refusedAt.size >= REFUSED_REMEMBERED) this.#refusedAt.clear();
    this.#refusedAt.set(by, now);
    return true;
  }

  /** What is done in rooms, where everybody moderates their own, pushes nothing else out of the server's log. */
  async #add(note: Note): Promise<Entry[]> {
    const entry = JSON.stringify(note);
    const { audit, roomsAudit, roomAudit } = this.#keys;
    const keys: [string, number][] =
      note.roomId === undefined
        ? [[audit, KEPT]]
        : [
            [roomsAudit, KEPT],
            [roomAudit(note.roomId), KEPT_IN_ROOM],
          ];
    const added: Entry[] = [];
    for (const [key, most] of keys) {
      // A log that somebody has damaged keeps no moderator from anything.
      const id = await unlessWrongType(this.#redis.xadd(key, "MAXLEN", "~", most, "*", "entry", entry), null);
      if (id === null) continue;
      added.push({ key, id });
      if (note.refused) await this.#thin(key);
    }
    return added;
  }

  /** Deletes the oldest of what was refused, if the newest entries have too much of it. */
  async #thin(key: string): Promise<void> {
    const newest = await this.#redis.xrevrange(key, "+", "-", "COUNT", REFUSED_AMONG);
    const refused = newest.filter(([, fields]) => noteIn(fields)?.refused);
    const over = refused.slice(REFUSED_MOST).map(([id]) => id);
    if (over.length > 0) await this.#redis.xdel(key, ...over);
  }

  /** Deletes entries of what turned out otherwise; what was done stands in others. */
  async #takeBack(entries: readonly Entry[]): Promise<void> {
    for (const { key, id } of entries) await this.#redis.xdel(key, id);
  }

  /** Newest first, those before this id; of one room, or of all. */
  async list(roomId: RoomId | null, before: string | undefined, size: number): Promise<AuditEntry[]> {
    const { audit, roomsAudit, roomAudit } = this.#keys;
    const keys = roomId === null ? [audit, roomsAudit] : [roomAudit(roomId)];
    const from = before === undefined ? "+" : `(${before}`;
    const read = await Promise.all(
      keys.map((key) => unlessWrongType(this.#redis.xrevrange(key, from, "-", "COUNT", size), [])),
    );
    const found = read.flat().toSorted(([one], [other]) => compareIds(other, one));
    // Two logs may have the same id: the next page begins below it.
    const last = found[size - 1]?.[0];
    const page = found.filter(([id], index) => index < size || id === last);
    return page.flatMap(([id, fields]) => {
      const note = noteIn(fields);
      return note ? [{ ...note, id, at: Number(id.split("-", 1)[0]) }] : [];
    });
  }
}

/** What a stream's entry says; null for what another program has put there. */
function noteIn([, text = ""]: string[]): Note | null {
  const note = parseJson(text);
  return isRecord(note) ? (note as Note) : null;
}

/** Ids of a stream: ms, a dash, and a number within it. */
function compareIds(one: string, other: string): number {
  const [ms = 0, number = 0] = one.split("-").map(Number);
  const [otherMs = 0, otherNumber = 0] = other.split("-").map(Number);
  return ms - otherMs || number - otherNumber;
}
