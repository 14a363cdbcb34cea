import { redisCode, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { defineScript, primariesOf, type RedisClient } from "./redis.ts";

const KINDS = ["user", "room"] as const;
type Kind = (typeof KINDS)[number];

/** Keys of one SCAN: a step blocks Redis for about a millisecond. */
const SCAN_COUNT = 1_000;
const LOOKED_AT_ONCE = 100;

/**
 * Numbers accounts or rooms by a counter, without trusting it: a counter that was lost, or restored from an older
 * copy, would hand out an id that is in use. So each id is claimed atomically, and a counter that turns out to be
 * behind is raised above every id that any key names.
 */
export class Ids {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #kind: Kind;
  #raising: Promise<boolean> | undefined;

  constructor(redis: RedisClient, keys: Keys, kind: Kind) {
    this.#redis = redis;
    this.#keys = keys;
    this.#kind = kind;
  }

  /** The next free id. `claim` takes one atomically, and answers false if anything with that id exists. */
  async claim(claim: (id: string) => Promise<boolean>): Promise<string> {
    for (;;) {
      const id = await this.#next();
      // The first id of all: either the database is new, or the counter was lost.
      const trusted = id > 1 || !(await this.#raise());
      if (trusted && (await claim(String(id)))) return String(id);
      if (trusted) await this.#raise();
    }
  }

  /** Counts on; a counter that is no number is made anew. */
  async #next(): Promise<number> {
    const counter = counterOf(this.#keys, this.#kind);
    try {
      return await this.#redis.incr(counter);
    } catch (error) {
      if (!["ERR", "WRONGTYPE"].includes(redisCode(error) ?? "")) throw error;
      await this.#raise();
      return this.#redis.incr(counter);
    }
  }

  /** Raises the counter to the highest id in use; true if it was behind. Concurrent calls share one scan. */
  #raise(): Promise<boolean> {
    this.#raising ??= raise(this.#redis, this.#keys, this.#kind).finally(() => {
      this.#raising = undefined;
    });
    return this.#raising;
  }
}

function counterOf(keys: Keys, kind: Kind): string {
  return kind === "user" ? keys.totalUsers : keys.totalRooms;
}

const COUNT = /^\d{1,15}$/;

/** Raises both counters to the highest ids in use, after a scan of all keys. */
export async function raiseCounters(redis: RedisClient, keys: Keys): Promise<void> {
  for (const kind of KINDS) await raise(redis, keys, kind);
}

/** What raises counters that were lost, or are no number, at each call. */
export function createCounterCheck(redis: RedisClient, keys: Keys): () => Promise<void> {
  // Nobody has used these: a scan of all keys has shown it once. Whoever is the first to count raises them.
  const unused = new Set<Kind>();
  return async () => {
    for (const kind of KINDS) {
      const counter = counterOf(keys, kind);
      if ((await countIn(redis, counter)) !== null) unused.delete(kind);
      else if (unused.has(kind) && (await redis.exists(counter)) === 0) continue;
      else if (!(await raise(redis, keys, kind))) unused.add(kind);
    }
  };
}

/** Raises a counter to the highest id in use; true if it was behind. */
async function raise(redis: RedisClient, keys: Keys, kind: Kind): Promise<boolean> {
  const highest = await highestId(redis, keys, kind);
  const run = defineScript(redis, ["head.lua", "raise.lua"]);
  return (await run([counterOf(keys, kind)], [highest])) === 1;
}

/** What a counter counts; null if it is lost, or no counter. */
async function countIn(redis: RedisClient, counter: string): Promise<number | null> {
  const stored = await unlessWrongType(redis.get(counter), null);
  return COUNT.test(stored ?? "") ? Number(stored) : null;
}

/** The last id that was given, or 0; also if the counter is lost or damaged, which is mended soon. */
export async function lastId(redis: RedisClient, keys: Keys, kind: Kind): Promise<number> {
  return (await countIn(redis, counterOf(keys, kind))) ?? 0;
}

const READ_AT_ONCE = 500;

/** The ids above `after` up to the last one, ascending, as many at a time as are read together. */
export function* idsUpTo(last: number, after = 0): Generator<string[]> {
  for (let below = after; below < last; below += READ_AT_ONCE) {
    const length = Math.min(READ_AT_ONCE, last - below);
    yield Array.from({ length }, (_, index) => String(below + 1 + index));
  }
}

/** A page, and how many ids were looked at for it. */
export type Picked<T> = { found: T[]; looked: number };

/** What `read` finds of the ids above `after`, ascending, until it is `size`, or up to the last id. */
export async function pageOfIds<T>(
  after: number,
  last: number,
  size: number,
  read: (ids: string[]) => Promise<T[]>,
): Promise<Picked<T>> {
  const found: T[] = [];
  let looked = 0;
  while (after + looked < last && found.length < size) {
    const first = after + looked + 1;
    // Where many ids are passed over, one after another would take long.
    const wanted = Math.max(size - found.length, looked === 0 ? 0 : LOOKED_AT_ONCE);
    const count = Math.min(wanted, last - first + 1);
    found.push(...(await read(Array.from({ length: count }, (_, index) => String(first + index)))));
    looked += count;
  }
  return { found: found.slice(0, size), looked };
}

/** Whether nobody has ever signed up. A counter that is missing does not prove it. */
export async function isUnused(redis: RedisClient, keys: Keys): Promise<boolean> {
  return (await redis.exists(keys.totalUsers)) === 0 && (await highestId(redis, keys, "user")) === 0;
}

/** The highest id in any key's name, or 0. Scans all keys. */
async function highestId(redis: RedisClient, keys: Keys, kind: Kind): Promise<number> {
  let highest = 0;
  for (const node of primariesOf(redis)) {
    for await (const found of node.scanStream({ match: keys.scan.pattern, count: SCAN_COUNT })) {
      for (const key of found as string[]) highest = Math.max(highest, ...keys.scan.idsIn(key)[kind]);
    }
  }
  return highest;
}
