import bcrypt from "bcrypt";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { Credentials, ServerRole, User, UserId } from "../protocol.ts";
import type { RedisClient } from "../store/redis.ts";
import { Hashing, type Asker } from "./hashing.ts";
import { Ids, isUnused } from "../store/ids.ts";
import { FIRST_ROOMS } from "../store/kinds.ts";
import { NameIndex, type NamesFound } from "../store/nameIndex.ts";
import { roleOf } from "../store/staff.ts";
import { isReservedUsername } from "../names.ts";
import { weaknessOf } from "./passwords.ts";

/** A user's own addresses: those of log-ins within this time, up to a maximum. */
const HOME_MS = 30 * 24 * 3600 * 1_000;
const HOMES = 50;
const NAMES_REMEMBERED = 20_000;

/** Accounts, in hashes. Usernames never change, so they are remembered once read. */
export class Users {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #cost: number;
  readonly #ids: Ids;
  readonly #hashing: Hashing;
  readonly #names = new Map<UserId, string>();
  readonly #index: NameIndex;
  /** Compared with for unknown names, so that they take as long as wrong passwords. */
  readonly #nobody: Promise<string>;

  constructor(redis: RedisClient, keys: Keys, config: Pick<Config, "bcryptCost" | "rateLimits">) {
    const cost = config.bcryptCost;
    this.#redis = redis;
    this.#keys = keys;
    this.#cost = cost;
    this.#hashing = new Hashing(config.rateLimits);
    this.#ids = new Ids(redis, keys, "user");
    this.#index = new NameIndex({
      last: async () => Number((await redis.get(keys.totalUsers)) ?? 0),
      read: (ids) => Promise.all(ids.map((id) => redis.hget(keys.user(id), "username"))),
    });
    this.#nobody = bcrypt.hash("nobody has this password", cost);
  }

  /**
   * Creates an account. Claims the name last, so that a crash leaves only an unused id, and with NX, so that one of
   * many simultaneous sign-ups wins. Throws `taken`, `invalid` for a password that is guessed first, `unavailable`.
   */
  async signUp({ username, password }: Credentials, address: string): Promise<User> {
    if (isReservedUsername(username))
      throw new ChatError("taken", "This name is reserved. Take another one.");
    const weakness = await weaknessOf(password, username);
    if (weakness !== null) throw new ChatError("invalid", weakness);
    const claim = this.#keys.username(username);
    const hash = await this.#hashing.run({ address, name: null }, async () => {
      if (await this.#redis.exists(claim)) throw taken();
      return bcrypt.hash(password, this.#cost);
    });
    return this.add(username, hash);
  }

  /** Creates an account with a bcrypt hash and additional fields. Throws `taken`. */
  async add(username: string, hash: string, more: Record<string, number> = {}): Promise<User> {
    const id = await this.#ids.claim((free) => this.#claimId(free, username));
    await Promise.all([
      this.#redis.hset(this.#keys.user(id), { password: hash, created: Date.now(), ...more }),
      this.#redis.sadd(this.#keys.userRooms(id), ...FIRST_ROOMS),
    ]);
    const claimed = await this.#redis.set(this.#keys.username(username), `user:${id}`, "NX");
    if (claimed !== "OK") {
      await Promise.all([this.#redis.del(this.#keys.user(id)), this.#redis.del(this.#keys.userRooms(id))]);
      throw taken();
    }
    return { id, username };
  }

  /** Claims an id for a name; false if an account, or the rooms of a lost one, has it. */
  async #claimId(id: UserId, username: string): Promise<boolean> {
    const user = this.#keys.user(id);
    if ((await this.#redis.hsetnx(user, "username", username)) === 0) return false;
    if ((await this.#redis.exists(this.#keys.userRooms(id))) === 0) return true;
    await this.#redis.del(user);
    return false;
  }

  /**
   * Checks a password. Calls `pay` directly before the hash is computed; it may refuse, so that simultaneous attempts
   * cannot exceed the limit. Throws `unauthorized`, in the same words and after the same time for an unknown name and
   * for a wrong password.
   */
  async logIn(
    { username, password }: Credentials,
    address: string,
    pay: () => Promise<void> = () => Promise.resolve(),
  ): Promise<User> {
    const asker: Asker = { address, name: username.toLowerCase() };
    return this.#hashing.run(asker, async () => {
      await pay();
      const claim = await this.#redis.get(this.#keys.username(username));
      const id = claim?.replace(/^user:/, "") ?? "";
      const [name, stored] = id ? await this.#redis.hmget(this.#keys.user(id), "username", "password") : [];
      // A name that outlived its account must not lead to the new owner of the id.
      const isTheirs = name?.toLowerCase() === username.toLowerCase();
      const hash = (isTheirs ? stored : undefined) ?? (await this.#nobody);
      const right = await bcrypt.compare(password, hash);
      if (!right || !stored || !name || !isTheirs)
        throw new ChatError("unauthorized", "Wrong username or password.");
      return { id, username: name };
    });
  }

  /**
   * What the account may do on the server; undefined if it is gone: a session may outlive it, and must not become
   * another user's.
   */
  async roleOf({ id, username }: User): Promise<ServerRole | undefined> {
    const [name, role] = await this.#redis.hmget(this.#keys.user(id), "username", "role");
    return name === username ? roleOf(role) : undefined;
  }

  /** Whether there is no account, and never was: the next one is the first. */
  isEmpty(): Promise<boolean> {
    return isUnused(this.#redis, this.#keys);
  }

  /** Takes back an account that was just made. */
  async takeBack({ id, username }: User): Promise<void> {
    await this.#redis.del(this.#keys.username(username));
    await Promise.all([this.#redis.del(this.#keys.user(id)), this.#redis.del(this.#keys.userRooms(id))]);
  }

  /** What an account is on the server, and whether it is disabled. */
  async accountOf(id: UserId): Promise<{ role: ServerRole; disabled: boolean }> {
    const [role, disabled] = await this.#redis.hmget(this.#keys.user(id), "role", "disabled");
    return { role: roleOf(role), disabled: disabled !== null };
  }

  /** Whether this address is one of the account's own. */
  async isAtHome(username: string, address: string): Promise<boolean> {
    const seenAt = await this.#redis.zscore(this.#keys.homes(username), address);
    return seenAt !== null && Number(seenAt) > Date.now() - HOME_MS;
  }

  /** Makes an address one of the account's own. */
  async feelAtHome(username: string, address: string): Promise<void> {
    const homes = this.#keys.homes(username);
    await this.#redis.zadd(homes, Date.now(), address);
    await this.#redis.zremrangebyrank(homes, 0, -HOMES - 1);
    await this.#redis.pexpire(homes, HOME_MS);
  }

  /** The users that exist among the ids, in their order. */
  async find(ids: readonly UserId[]): Promise<User[]> {
    const names = await Promise.all(ids.map((id) => this.#name(id)));
    return ids.flatMap((id, index) => {
      const username = names[index];
      return username === undefined ? [] : [{ id, username }];
    });
  }

  /** The ids of existing users, by their names in lower case. */
  async byNames(names: readonly string[]): Promise<Map<string, UserId>> {
    const claims = await Promise.all(names.map((name) => this.#redis.get(this.#keys.username(name))));
    const ids = claims.flatMap((claim) => (claim === null ? [] : [claim.replace(/^user:/, "")]));
    // A name that outlived its account must not lead to the new owner of the id.
    const users = await this.find([...new Set(ids)]);
    const asked = new Set(names);
    return new Map(
      users.flatMap(({ id, username }) => {
        const name = username.toLowerCase();
        return asked.has(name) ? [[name, id]] : [];
      }),
    );
  }

  async count(): Promise<number> {
    return Number((await this.#redis.get(this.#keys.totalUsers)) ?? 0);
  }

  /** The next `size` users with an id above `after`, ascending. Ids that nobody got are passed over. */
  async list(after: number, size: number): Promise<User[]> {
    const total = await this.count();
    const users: User[] = [];
    for (let last = after; last < total && users.length < size;) {
      const count = Math.min(size - users.length, total - last);
      const first = last + 1;
      users.push(...(await this.find(Array.from({ length: count }, (_, index) => String(first + index)))));
      last += count;
    }
    return users;
  }

  /** Users with this text in their name; for `after` see NameIndex. */
  search(text: string, after: UserId | undefined, size: number): Promise<NamesFound> {
    return this.#index.find(text, after, size);
  }

  /** How many names a search covers. */
  get searched(): number {
    return this.#index.size;
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
}

function taken(): ChatError {
  return new ChatError("taken", "This username is taken.");
}
