import { looksOf } from "../names.ts";
import { defineScript, type RedisClient } from "./redis.ts";

/** The field that holds the last number whose looks were stored: no name equals it. */
const LOOKS_DONE = "";
const LOOKS_AT_ONCE = 500;

/** A hash of looks, and where the names are that have them. */
type Source = {
  key: string;
  /** The highest number given so far, or 0. */
  last: () => Promise<number>;
  /** The names that this number has. */
  namesOf: (id: string) => Promise<string[]>;
};

/** Which numbered names look like which: a hash from each look to the number that has it. */
export class Looks {
  readonly #redis: RedisClient;
  readonly #source: Source;
  readonly #take: ReturnType<typeof defineScript>;

  constructor(redis: RedisClient, source: Source) {
    this.#redis = redis;
    this.#source = source;
    this.#take = defineScript(redis, "look.lua");
  }

  /**
   * Claims the looks of a name for its number; false, and none is claimed, if another has one of them. The name must be
   * stored before, or else `holds` be asked once it is: until then another may take the look over.
   */
  async claim(id: string, name: string): Promise<boolean> {
    const { key } = this.#source;
    const claimed: string[] = [];
    for (const look of looksOf(name).toSorted()) {
      for (;;) {
        if ((await this.#redis.hsetnx(key, look, id)) === 1) {
          claimed.push(look);
          break;
        }
        const holder = await this.#redis.hget(key, look);
        if (holder === id) break;
        if (holder === null) continue;
        if (await this.#has(holder, look)) {
          if (claimed.length > 0) await this.#redis.hdel(key, ...claimed);
          return false;
        }
        // Its owner was never completed, or is gone. Of several who find that out at once, one takes it.
        if ((await this.#take([key], [look, id, holder])) === 1) break;
      }
    }
    return true;
  }

  /** Claims the looks of a name that nobody has; answers the numbers that have the others. */
  async note(id: string, name: string): Promise<string[]> {
    const { key } = this.#source;
    const holders = await Promise.all(
      looksOf(name).map(async (look) =>
        (await this.#redis.hsetnx(key, look, id)) === 1 ? id : this.#redis.hget(key, look),
      ),
    );
    return holders.filter((holder): holder is string => holder !== null && holder !== id);
  }

  /** Whether all looks of a name are this number's. */
  async holds(id: string, name: string): Promise<boolean> {
    const holders = await this.#redis.hmget(this.#source.key, ...looksOf(name));
    return holders.every((holder) => holder === id);
  }

  /** Gives back those looks of a name that this number has and that no other name of its has. */
  async release(id: string, name: string): Promise<void> {
    const others = (await this.#source.namesOf(id)).flatMap(looksOf);
    const looks = looksOf(name).filter((look) => !others.includes(look));
    for (const look of looks)
      if ((await this.#redis.hget(this.#source.key, look)) === id)
        await this.#redis.hdel(this.#source.key, look);
  }

  /** Stores the looks of names without one: given before looks existed, by older replicas, or before a crash. */
  async writeDown(): Promise<void> {
    const { key, last, namesOf } = this.#source;
    const [total, done] = await Promise.all([last(), this.#redis.hget(key, LOOKS_DONE)]);
    for (let from = Number(done ?? 0); from < total; from += LOOKS_AT_ONCE) {
      const ids = Array.from({ length: Math.min(LOOKS_AT_ONCE, total - from) }, (_, index) =>
        String(from + 1 + index),
      );
      await Promise.all(
        ids.map(async (id) => {
          const written = (await namesOf(id)).flatMap(looksOf).filter(Boolean);
          await Promise.all(written.map((look) => this.#redis.hsetnx(key, look, id)));
        }),
      );
    }
    if (total > Number(done ?? 0)) await this.#redis.hset(key, LOOKS_DONE, total);
  }

  async #has(id: string, look: string): Promise<boolean> {
    return (await this.#source.namesOf(id)).some((name) => looksOf(name).includes(look));
  }
}
