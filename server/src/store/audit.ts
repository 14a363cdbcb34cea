import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { AuditEntry, RoomId, UserId } from "../protocol.ts";
import { isRecord, parseJson } from "./log.ts";
import type { RedisClient } from "./redis.ts";

/** How many entries the server keeps, and a room. */
const KEPT = 10_000;
const KEPT_IN_ROOM = 1_000;
/** Of what somebody is refused, one entry in this time: nobody pushes the others out of the log. */
const REFUSED_MS = 10_000;
const REFUSED_REMEMBERED = 10_000;

/** What happened, to be noted. */
export type Note = Omit<AuditEntry, "id" | "at">;

/** Who did what as a moderator, an admin or an operator, and who tried to. Only appended to. */
export class Audit {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  /** When something that a user was refused was last noted. */
  readonly #refusedAt = new Map<UserId, number>();

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  async note(note: Note): Promise<void> {
    if (note.refused) {
      const now = performance.now();
      if (now - (this.#refusedAt.get(note.by) ?? -REFUSED_MS) < REFUSED_MS) return;
      if (this.#refusedAt.size >= REFUSED_REMEMBERED) this.#refusedAt.clear();
      this.#refusedAt.set(note.by, now);
    }
    const entry = JSON.stringify(note);
    const { audit, roomAudit } = this.#keys;
    await this.#redis.xadd(audit, "MAXLEN", "~", KEPT, "*", "entry", entry);
    if (note.roomId !== undefined)
      await this.#redis.xadd(roomAudit(note.roomId), "MAXLEN", "~", KEPT_IN_ROOM, "*", "entry", entry);
  }

  /**
   * Does what matters, and notes it; also that it was refused, but not what somebody asks of a room that they do not see.
   */
  async noted<T>(note: Note, work: () => Promise<T>): Promise<T> {
    try {
      const done = await work();
      await this.note(note);
      return done;
    } catch (error) {
      if (error instanceof ChatError && error.code === "forbidden")
        await this.note({ ...note, refused: true });
      throw error;
    }
  }

  /** Newest first, those before this id; of one room, or of all. */
  async list(roomId: RoomId | null, before: string | undefined, size: number): Promise<AuditEntry[]> {
    const key = roomId === null ? this.#keys.audit : this.#keys.roomAudit(roomId);
    const from = before === undefined ? "+" : `(${before}`;
    const found = await this.#redis.xrevrange(key, from, "-", "COUNT", size);
    return found.flatMap(([id, [, text = ""]]) => {
      const note = parseJson(text);
      return isRecord(note) ? [{ ...(note as Note), id, at: Number(id.split("-", 1)[0]) }] : [];
    });
  }
}
