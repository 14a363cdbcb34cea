import type { Keys } from "../keys.ts";
import type { RoomId, UploadedFile, UserId } from "../protocol.ts";
import { defineScript, type RedisClient } from "./redis.ts";

/** What is known of a file. Without a room it is an avatar. */
export type StoredFile = UploadedFile & { roomId?: RoomId; by: UserId; created: number };

const LOOKED_AT_ONCE = 500;

/** Who has a file: its uploader, until it is sent; then a message, by its seq; nobody once that is deleted. */
export type Holder = { userId: UserId } | { seq: number } | null;

/** How many bytes all files may have; 0 for any number. */
export type MostBytes = { user: number; server: number };

/** Whose limit is exceeded, or null. */
type Over = "user" | "server" | null;

/**
 * The records of files; their bytes are in Blobs. A file's bytes go only after nobody can get at it any more, and its
 * place among those to look at goes last: whatever ends in between is finished by the collector.
 */
export class Files {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #count: ReturnType<typeof defineScript>;
  readonly #detach: ReturnType<typeof defineScript>;

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
    this.#count = defineScript(redis, "files.lua");
    this.#detach = defineScript(redis, "detach.lua");
  }

  /**
   * Counts the bytes of a file that begins to arrive, and notes when somebody must look whether it is in use. Answers
   * whose limit they exceed, or null. Limits of 0 are none.
   */
  async reserve(id: string, by: UserId, bytes: number, dueAt: number, most: MostBytes): Promise<Over> {
    return overIn(await this.#counted("reserve", id, by, bytes, dueAt, most.user, most.server));
  }

  /** Counts a file no longer that has not arrived, and says that somebody must look whether some of it is left. */
  async giveUp(id: string, by: UserId, dueAt: number): Promise<void> {
    await this.#counted("resize", id, by, 0);
    await this.noteDue([id], dueAt);
  }

  /** A file is still arriving: somebody looks at it no earlier than this. */
  async putOff(id: string, dueAt: number): Promise<void> {
    await this.#redis.zadd(this.#keys.filesDue, "XX", "GT", dueAt, id);
  }

  /**
   * Notes what has arrived, and when somebody must look whether it was sent; from now on its uploader can send it. If it has
   * grown, as a picture that is written anew may, and exceeds a limit by that, answers whose, and nothing is noted.
   */
  async add(file: StoredFile, dueAt: number, most: MostBytes): Promise<Over> {
    const { id, roomId, by, name, type, size, width, height, animated, created } = file;
    await this.noteDue([id], dueAt);
    const over = overIn(await this.#counted("resize", id, by, size, most.user, most.server));
    if (over !== null) return over;
    await this.#redis.hset(this.#keys.file(id), {
      ...(roomId !== undefined && { room: roomId }),
      by,
      name,
      type,
      size,
      created,
      ...(width !== undefined && { width }),
      ...(height !== undefined && { height }),
      ...(animated && { animated: 1 }),
    });
    if (roomId !== undefined) await this.#redis.hset(this.#keys.roomFiles(roomId), id, by);
    return null;
  }

  /** What is known of these files, in their order; null for an unknown one. */
  find(ids: readonly string[]): Promise<(StoredFile | null)[]> {
    return Promise.all(ids.map(async (id) => fileOf(id, await this.#redis.hgetall(this.#keys.file(id)))));
  }

  async holder(roomId: RoomId, id: string): Promise<Holder> {
    const held = await this.#redis.hget(this.#keys.roomFiles(roomId), id);
    if (held === null) return null;
    return held.startsWith("#") ? { seq: Number(held.slice(1)) } : { userId: held };
  }

  /** Says that somebody must look at these files, from a moment on. */
  async noteDue(ids: readonly string[], dueAt: number): Promise<void> {
    if (ids.length > 0)
      await this.#redis.zadd(this.#keys.filesDue, ...ids.flatMap((id) => [dueAt, id] as const));
  }

  /** These files are in use: nobody needs to look at them. */
  async noteUsed(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#redis.zrem(this.#keys.filesDue, ...ids);
  }

  /** Files that somebody must look at, the oldest first. */
  due(now: number, most: number): Promise<string[]> {
    return this.#redis.zrangebyscore(this.#keys.filesDue, "-inf", now, "LIMIT", 0, most);
  }

  /** Files of a user that have arrived and that nothing may have. */
  async pending(by: UserId): Promise<string[]> {
    const due = await this.#redis.zrange(this.#keys.filesDue, "0", "-1");
    const theirs: string[] = [];
    for (let start = 0; start < due.length; start += LOOKED_AT_ONCE) {
      const some = due.slice(start, start + LOOKED_AT_ONCE);
      const sizes = await this.#redis.hmget(this.#keys.filesSizes, ...some);
      theirs.push(...some.filter((_, index) => sizes[index]?.startsWith(`${by}:`)));
    }
    return (await this.find(theirs)).flatMap((file) => file?.id ?? []);
  }

  /** Whether nobody can send or fetch a file any more. If a message has it, nothing is changed. */
  async detach(roomId: RoomId, id: string): Promise<boolean> {
    return (await this.#detach([this.#keys.roomFiles(roomId)], [id])) === 1;
  }

  /** Forgets a file whose bytes are gone. */
  async forget(id: string): Promise<void> {
    await this.#redis.del(this.#keys.file(id));
    await this.#counted("release", id);
  }

  /** Bytes of this user's files. */
  async used(by: UserId): Promise<number> {
    return Number((await this.#redis.hget(this.#keys.filesUsed, by)) ?? 0);
  }

  async #counted(...args: (string | number)[]): Promise<string> {
    const { filesDue, filesSizes, filesUsed } = this.#keys;
    const [reply] = (await this.#count([filesDue, filesSizes, filesUsed], args)) as [string];
    return reply;
  }
}

function overIn(reply: string): Over {
  return reply === "user" || reply === "server" ? reply : null;
}

function fileOf(id: string, stored: Record<string, string>): StoredFile | null {
  const { room, by, name, type, size, created, width, height, animated } = stored;
  if (by === undefined || name === undefined || type === undefined) return null;
  return {
    id,
    ...(room !== undefined && { roomId: room }),
    by,
    name,
    type,
    size: Number(size),
    created: Number(created),
    ...(width !== undefined && { width: Number(width) }),
    ...(height !== undefined && { height: Number(height) }),
    ...(animated === "1" && { animated: true as const }),
  };
}
