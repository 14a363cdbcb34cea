import { randomUUID } from "node:crypto";
import { looksOf } from "../names.ts";
import { idsUpTo } from "./ids.ts";
import { defineScript, overWrongType, type RedisClient } from "./redis.ts";

/** The field that holds the last number whose looks were stored: no name equals it. */
const LOOKS_DONE = "";
/** Before a look, the field in which somebody doubts that its number still needs it: no look has a line break. */
const DOUBT = "\n";

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
   * Claims the looks of a name for its number; false, and none is claimed, if another has one of them. Claim them once
   * more when the name is stored, if it was not: until then they may be taken, as of a name that nobody has.
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
        if (holder === null) continue;
        if (holder === id) {
          if (await this.#keep(id, look)) break;
          continue;
        }
        // Its owner was never completed, or is gone. Of several who find that out at once, one takes it.
        const outcome = await this.#takeFrom(holder, look, id);
        if (outcome === "taken") break;
        if (outcome === "changed") continue;
        for (const one of claimed) await this.#takeFrom(id, one);
        return false;
      }
    }
    return true;
  }

  /** Ends doubts of a look of this number, from before its name was stored; false if it is not this number's any more. */
  async #keep(id: string, look: string): Promise<boolean> {
    const { key } = this.#source;
    const [, holder] = await Promise.all([this.#redis.hdel(key, DOUBT + look), this.#redis.hget(key, look)]);
    return holder === id;
  }

  /**
   * Takes a look from a number that has no such name, for another number or for none. Its names are elsewhere: if it has
   * claimed the look again since they were read, or somebody else doubts it, nothing is taken.
   */
  async #takeFrom(holder: string, look: string, id = ""): Promise<"taken" | "needed" | "changed"> {
    const { key, namesOf } = this.#source;
    const field = DOUBT + look;
    const doubt = randomUUID();
    await this.#redis.hset(key, field, doubt);
    const isNeeded = (await namesOf(holder)).some((name) => looksOf(name).includes(look));
    if (isNeeded) await this.#redis.hdel(key, field);
    else if ((await this.#take([key], [look, id, holder, field, doubt])) === 1) return "taken";
    return isNeeded ? "needed" : "changed";
  }

  /** The numbers that have a look of this name. */
  async holders(name: string): Promise<string[]> {
    const looks = looksOf(name);
    await this.#demandHash();
    const found = looks.length === 0 ? [] : await this.#redis.hmget(this.#source.key, ...looks);
    return [...new Set(found.filter((holder) => holder !== null))];
  }

  /** Replaces what is no hash: every look can be stored anew. */
  async #demandHash(): Promise<void> {
    const { key } = this.#source;
    await overWrongType(this.#redis, key, "HLEN", () => this.#redis.hlen(key));
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

  /** Gives back those looks of a name that this number has and that no name of its has. */
  async release(id: string, name: string): Promise<void> {
    for (const look of looksOf(name))
      if ((await this.#redis.hget(this.#source.key, look)) === id) await this.#takeFrom(id, look);
  }

  /** Stores the looks of names without one: given before looks existed, by older replicas, or before a crash. */
  async writeDown(): Promise<void> {
    const { key, last, namesOf } = this.#source;
    await this.#demandHash();
    const [total, stored] = await Promise.all([last(), this.#redis.hget(key, LOOKS_DONE)]);
    const done = Number(stored ?? 0) || 0;
    for (const ids of idsUpTo(total, done)) {
      await Promise.all(
        ids.map(async (id) => {
          const written = (await namesOf(id)).flatMap(looksOf).filter(Boolean);
          await Promise.all(written.map((look) => this.#redis.hsetnx(key, look, id)));
        }),
      );
    }
    if (total > done) await this.#redis.hset(key, LOOKS_DONE, total);
  }
}
