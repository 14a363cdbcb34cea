import bcrypt from "bcrypt";
import pLimit from "p-limit";
import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { GENERAL, type Credentials, type User, type UserId } from "../protocol.ts";
import type { RedisClient } from "../redis.ts";
import { Ids } from "./ids.ts";
import { isReservedUsername } from "./names.ts";
import { weaknessOf } from "./passwords.ts";

/** Hashes that may run at once: libuv has four threads, and the loop needs a core. */
const HASHES_AT_ONCE = 2;
const HASHES_WAITING = 200;
const NAMES_REMEMBERED = 20_000;

/** Accounts, in hashes. Usernames never change, so they are remembered once read. */
export class Users {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #cost: number;
  readonly #ids: Ids;
  readonly #hashing = pLimit(HASHES_AT_ONCE);
  readonly #names = new Map<UserId, string>();
  /** Compared against for unknown names, so that they take as long as wrong passwords. */
  readonly #nobody: Promise<string>;

  constructor(redis: RedisClient, keys: Keys, cost: number) {
    this.#redis = redis;
    this.#keys = keys;
    this.#cost = cost;
    this.#ids = new Ids(redis, keys, "user");
    this.#nobody = bcrypt.hash("nobody has this password", cost);
  }

  /**
   * Makes an account. The name is claimed last, so that a crash leaves an unused id at worst, and with NX, so that
   * of many at once one wins. Throws `taken`, `invalid` for a password that is guessed first, `unavailable`.
   */
  async signUp({ username, password }: Credentials): Promise<User> {
    if (isReservedUsername(username))
      throw new ChatError("taken", "This name is reserved. Take another one.");
    const weakness = await weaknessOf(password, username);
    if (weakness !== null) throw new ChatError("invalid", weakness);
    const claim = this.#keys.username(username);
    const hash = await this.#hash(async () => {
      if (await this.#redis.exists(claim)) throw taken();
      return bcrypt.hash(password, this.#cost);
    });
    return this.add(username, hash);
  }

  /** Makes an account with a bcrypt hash, and with further fields of its own. Throws `taken`. */
  async add(username: string, hash: string, more: Record<string, number> = {}): Promise<User> {
    const id = await this.#ids.claim((free) => this.#claimId(free, username));
    await Promise.all([
      this.#redis.hset(this.#keys.user(id), { password: hash, created: Date.now(), ...more }),
      this.#redis.sadd(this.#keys.userRooms(id), GENERAL),
    ]);
    const claimed = await this.#redis.set(this.#keys.username(username), `user:${id}`, "NX");
    if (claimed !== "OK") {
      await Promise.all([this.#redis.del(this.#keys.user(id)), this.#redis.del(this.#keys.userRooms(id))]);
      throw taken();
    }
    return { id, username };
  }

  /** Takes an id for a name; false where an account, or the rooms of a lost one, has it. */
  async #claimId(id: UserId, username: string): Promise<boolean> {
    const user = this.#keys.user(id);
    if ((await this.#redis.hsetnx(user, "username", username)) === 0) return false;
    if ((await this.#redis.exists(this.#keys.userRooms(id))) === 0) return true;
    await this.#redis.del(user);
    return false;
  }

  /** Throws `unauthorized`, in the same words and the same time for an unknown name and for a wrong password. */
  async logIn({ username, password }: Credentials): Promise<User> {
    const claim = await this.#redis.get(this.#keys.username(username));
    const id = claim?.replace(/^user:/, "") ?? "";
    const [name, stored] = id ? await this.#redis.hmget(this.#keys.user(id), "username", "password") : [];
    // A name that outlived its account must not lead to whoever has the id now.
    const isTheirs = name?.toLowerCase() === username.toLowerCase();
    const hash = (isTheirs ? stored : undefined) ?? (await this.#nobody);
    const right = await this.#hash(() => bcrypt.compare(password, hash));
    if (!right || !stored || !name || !isTheirs)
      throw new ChatError("unauthorized", "Wrong username or password.");
    return { id, username: name };
  }

  /** The users that exist among the ids, in their order. */
  async find(ids: readonly UserId[]): Promise<User[]> {
    const names = await Promise.all(ids.map((id) => this.#name(id)));
    return ids.flatMap((id, index) => {
      const username = names[index];
      return username === undefined ? [] : [{ id, username }];
    });
  }

  /** The next `size` users with an id above `after`, ascending. Ids that nobody got are passed over. */
  async list(after: number, size: number): Promise<User[]> {
    const total = Number((await this.#redis.get(this.#keys.totalUsers)) ?? 0);
    const users: User[] = [];
    for (let last = after; last < total && users.length < size;) {
      const count = Math.min(size - users.length, total - last);
      const first = last + 1;
      users.push(...(await this.find(Array.from({ length: count }, (_, index) => String(first + index)))));
      last += count;
    }
    return users;
  }

  async #name(id: UserId): Promise<string | undefined> {
    const known = this.#names.get(id);
    if (known !== undefined) return known;
    const username = await this.#redis.hget(this.#keys.user(id), "username");
    if (username === null) return undefined;
    if (this.#names.size >= NAMES_REMEMBERED) this.#names.clear();
    this.#names.set(id, username);
    return username;
  }

  #hash<T>(task: () => Promise<T>): Promise<T> {
    if (this.#hashing.pendingCount >= HASHES_WAITING) {
      throw new ChatError("unavailable", "Too many people are logging in right now.", 2_000);
    }
    return this.#hashing(task);
  }
}

function taken(): ChatError {
  return new ChatError("taken", "This username is taken.");
}
