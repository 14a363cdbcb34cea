import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import bcrypt from "bcrypt";
import type { Config } from "../config.ts";
import { ChatError, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { Credentials, Farewell, ServerRole, User, UserId } from "../protocol.ts";
import { defineScript, overWrongType, type RedisClient } from "../store/redis.ts";
import { Hashing, type Asker } from "./hashing.ts";
import { hashes } from "./hashThreads.ts";
import { Ids, isUnused, lastId, pageOfIds, type Picked } from "../store/ids.ts";
import { FIRST_ROOMS } from "../store/kinds.ts";
import { Looks } from "../store/looks.ts";
import { NameIndex, type NamesFound } from "../store/nameIndex.ts";
import { createSetAccount, type SetAccount } from "../store/account.ts";
import { MAKING_MS } from "../store/rooms.ts";
import { roleOf } from "../store/staff.ts";
import { DELETED_NAME, isReservedUsername, looksOf } from "../names.ts";
import { formsOf, weaknessOf } from "./passwords.ts";

/** A user's own addresses: those of log-ins within this time, up to a maximum. */
const HOME_MS = 30 * 24 * 3600 * 1_000;
const HOMES = 50;
const NAMES_REMEMBERED = 20_000;
const FOUND_AT_ONCE = 500;
/** How long a link for a new password works. */
const RESET_MS = 24 * 3600 * 1_000;

/** How long a display name is believed if the announcement of another one was lost. */
const NAME_FRESH_MS = 300_000;
/** Follows an account's id, by what is to become of it. */
const FAREWELL_MARKS = { delete: "", keep: ":keep", follow: ":follow" } as const;

/** What an admin sees of an account, in ms. */
export type AccountFacts = { created: number; role: ServerRole; disabled?: number; isDemo: boolean };

/** Accounts, in hashes. Usernames never change; names are remembered once read. */
export class Users {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #set: SetAccount;
  readonly #replace: ReturnType<typeof defineScript>;
  readonly #cost: number;
  readonly #ids: Ids;
  readonly #hashing: Hashing;
  readonly #known = new Map<UserId, { user: User; at: number }>();
  #forgotten = 0;
  readonly #index: NameIndex;
  readonly #looks: Looks;
  /** Compared with for unknown names, so that they take as long as wrong passwords. */
  readonly #nobody: Promise<string>;

  constructor(redis: RedisClient, keys: Keys, config: Pick<Config, "bcryptCost" | "rateLimits">) {
    const cost = config.bcryptCost;
    this.#redis = redis;
    this.#keys = keys;
    this.#set = createSetAccount(redis, keys);
    this.#replace = defineScript(redis, "replace.lua");
    this.#cost = cost;
    this.#hashing = new Hashing(config.rateLimits);
    this.#ids = new Ids(redis, keys, "user");
    this.#index = new NameIndex({
      last: () => lastId(redis, keys, "user"),
      read: (ids) => Promise.all(ids.map((id) => this.#searchable(id))),
    });
    this.#looks = new Looks(redis, {
      key: keys.userLooks,
      last: () => this.count(),
      namesOf: async (id) => {
        const read = redis.hmget(keys.user(id), "username", "displayName");
        const names: (string | null)[] = await unlessWrongType(read, []);
        return names.filter((name) => name !== null);
      },
    });
    // Not in a thread for hashes: none need start before somebody logs in.
    this.#nobody = bcrypt.hash("nobody has this password", cost);
  }

  /**
   * Begins an account, which is nobody's until the caller calls `finish`, or else `takeBack`. Claims the name with NX, so
   * that one of many simultaneous sign-ups wins. `invite`: the code by which they come. Throws `taken`, `invalid` for a
   * password that is guessed first, `unavailable`.
   */
  async signUp({ username, password }: Credentials, address: string, invite = ""): Promise<User> {
    if (isReservedUsername(username))
      throw new ChatError("taken", "This name is reserved. Take another one.");
    await demandStrong(password, username);
    const claim = this.#keys.username(username);
    const hash = await this.#hashing.run({ address, name: null }, async () => {
      if (await this.#redis.exists(claim)) throw taken();
      return hashes.make(password, this.#cost);
    });
    return this.#begin(username, hash, {}, invite);
  }

  /** Creates an account with a bcrypt hash and additional fields. Throws `taken`. */
  async add(username: string, hash: string, more: Record<string, number> = {}): Promise<User> {
    const user = await this.#begin(username, hash, more);
    await this.finish(user.id);
    return user;
  }

  async #begin(username: string, hash: string, more: Record<string, number>, invite = ""): Promise<User> {
    const making = `${Date.now()} ${invite}`;
    const id = await this.#ids.claim((free) => this.#claimId(free, username, making));
    await Promise.all([
      this.#redis.hset(this.#keys.user(id), { password: hash, created: Date.now(), ...more }),
      this.#redis.sadd(this.#keys.userRooms(id), ...FIRST_ROOMS),
    ]);
    const user = { id, username };
    const claimed = await this.#redis.set(this.#keys.username(username), `user:${id}`, "NX");
    if (claimed !== "OK") {
      await this.#remove(id);
      throw taken();
    }
    // Redis may have lost the name's key alone: then it is still somebody's.
    const holder = await this.#holderOf(username, id);
    if (holder !== undefined) {
      await this.#replace([this.#keys.username(username)], [`user:${id}`, `user:${holder}`]);
      await this.#remove(id);
      throw taken();
    }
    // Usernames may resemble each other, but nobody may have the look of somebody's display name.
    const alike = await this.#looks.note(id, username);
    const shown = await Promise.all(
      alike.map((other) => this.#redis.hget(this.#keys.user(other), "displayName")),
    );
    if (shown.some((name) => name !== null && sharesLook(name, username))) {
      await this.takeBack(user);
      throw taken();
    }
    return user;
  }

  /** Another account that has this name, though its key may be lost. */
  async #holderOf(username: string, except?: UserId): Promise<UserId | undefined> {
    for (const id of await this.#looks.holders(username)) {
      if (id === except) continue;
      const named = this.#redis.hmget(this.#keys.user(id), "username", "making");
      const [name, making] = await unlessWrongType(named, []);
      if (name?.toLowerCase() === username.toLowerCase() && making === null) return id;
    }
    return undefined;
  }

  /** The account that has this name, and its key again, if that was lost. */
  async #claimed(username: string): Promise<UserId> {
    const key = this.#keys.username(username);
    const claim = await this.#redis.get(key);
    if (claim !== null) return claim.replace(/^user:/, "");
    const holder = await this.#holderOf(username);
    if (holder === undefined) return "";
    await this.#redis.set(key, `user:${holder}`, "NX");
    return holder;
  }

  /** Makes a begun account somebody's. */
  async finish(id: UserId): Promise<void> {
    await this.#redis.hdel(this.#keys.user(id), "making");
    this.forget(id);
  }

  /** The account that holds this name and was never finished, with the invite by which it was begun; or null. */
  async unfinished(username: string): Promise<{ user: User; invite: string } | null> {
    const id = (await this.#redis.get(this.#keys.username(username)))?.replace(/^user:/, "");
    const [name, making] = id ? await this.#redis.hmget(this.#keys.user(id), "username", "making") : [];
    if (!id || !name || !making || name.toLowerCase() !== username.toLowerCase()) return null;
    const [since, invite = ""] = making.split(" ");
    return Number(since) > Date.now() - MAKING_MS ? null : { user: { id, username: name }, invite };
  }

  /** Takes back an account that was just begun. */
  async takeBack({ id, username }: User): Promise<void> {
    await this.#replace([this.#keys.username(username)], [`user:${id}`, ""]);
    await this.#remove(id);
    await this.#looks.release(id, username);
  }

  /** Removes what is stored under an id that is nobody's yet. */
  async #remove(id: UserId): Promise<void> {
    await Promise.all([this.#redis.del(this.#keys.user(id)), this.#redis.del(this.#keys.userRooms(id))]);
  }

  /** Claims an id for a name; false if an account, or the rooms of a lost one, has it. From then on it is being made. */
  async #claimId(id: UserId, username: string, making: string): Promise<boolean> {
    const user = this.#keys.user(id);
    if ((await this.#redis.exists(user)) === 1) return false;
    if ((await this.#redis.hsetnx(user, "making", making)) === 0) return false;
    if ((await this.#redis.hsetnx(user, "username", username)) === 0) {
      await this.#redis.hdel(user, "making");
      return false;
    }
    if ((await this.#redis.exists(this.#keys.userRooms(id))) === 0) return true;
    await this.#redis.del(user);
    return false;
  }

  /**
   * Checks a password; answers its hash too, for `holds`. Calls `pay` directly before the hash is computed; `pay` may
   * refuse, so that attempts at once cannot exceed the limit. Throws `unauthorized`, in the same words and after the
   * same time for an unknown name, for a wrong password and for a disabled account.
   */
  async logIn(
    { username, password }: Credentials,
    address: string,
    pay: () => Promise<void> = () => Promise.resolve(),
  ): Promise<{ user: User; hash: string }> {
    const asker: Asker = { address, name: username.toLowerCase() };
    return this.#hashing.run(asker, async () => {
      await pay();
      const id = await this.#claimed(username);
      const fields = ["username", "password", "disabled", "making"] as const;
      const [name, stored, disabled, making] = id
        ? await this.#redis.hmget(this.#keys.user(id), ...fields)
        : [];
      // A name that outlived its account must not lead to the new owner of the id.
      const isTheirs = name?.toLowerCase() === username.toLowerCase();
      const hash = (isTheirs ? stored : undefined) ?? (await this.#nobody);
      const right = await isRight(password, hash);
      if (!right || !stored || !name || !isTheirs || disabled !== null || making !== null)
        throw new ChatError("unauthorized", "Wrong username or password.");
      return { user: { id, username: name }, hash: stored };
    });
  }

  /**
   * What the account is on the server; undefined if it is gone or disabled: a session may outlive it, and must not
   * become another user's.
   */
  async roleOf(user: User): Promise<ServerRole | undefined> {
    const forgotten = this.#forgotten;
    const { username, role, disabled, shown } = await this.#read(user.id);
    if (username !== user.username || disabled !== null) return undefined;
    // Whoever connects is told to others next. Connections share what they know of their user.
    if (shown && !isDeepStrictEqual(shown, this.#freshOf(user.id)))
      this.#remember(isDeepStrictEqual(shown, user) ? user : shown, forgotten);
    return roleOf(role);
  }

  /** The account that has this name, in any case. */
  async idOf(username: string): Promise<UserId | undefined> {
    return (await this.byNames([username.toLowerCase()])).get(username.toLowerCase());
  }

  /** Whether there is no account, and never was: the next one is the first. */
  isEmpty(): Promise<boolean> {
    return isUnused(this.#redis, this.#keys);
  }

  /** Whether the password is still the one with this hash, and the account may do something. */
  async holds(id: UserId, hash: string): Promise<boolean> {
    const [stored, disabled] = await this.#redis.hmget(this.#keys.user(id), "password", "disabled");
    return stored === hash && disabled === null;
  }

  /** Answers the hash of the user's password. Throws `forbidden` if this is another one. Computes a hash. */
  async demandPassword({ id, username }: User, password: string, address: string): Promise<string> {
    return this.#hashing.run({ address, name: username.toLowerCase() }, async () => {
      const stored = await this.#redis.hget(this.#keys.user(id), "password");
      if (!(await isRight(password, stored ?? (await this.#nobody))) || stored === null) throw notTheirs();
      return stored;
    });
  }

  /**
   * Sets the password of whoever has shown the present one, by its `hash`, or a code for a new one, `reset`; the code
   * ends. Calls `first` directly before the password is stored; it may refuse. Throws `invalid` for one that is guessed
   * first; `forbidden` if the present one is another by then, and `unauthorized` if the account has ended; `not_found` if
   * the code is, which a disabled account may use too.
   */
  async setPassword(
    { id, username }: User,
    password: string,
    address: string,
    { first, ...by }: { first: () => Promise<void> } & ({ hash: string } | { reset: string }),
  ): Promise<void> {
    await demandStrong(password, username);
    await this.#hashing.run({ address, name: username.toLowerCase() }, async () => {
      const hash = await hashes.make(password, this.#cost);
      await first();
      const to = { password: hash, reset: "" };
      if ("reset" in by) {
        if (!(await this.#set(id, to, { still: ["reset", by.reset] }))) throw noReset();
        await this.#redis.del(this.#keys.reset(by.reset));
      } else if (!(await this.#set(id, to, { open: true, still: ["password", by.hash] })))
        throw (await this.accountOf(id)).disabled ? ended() : notTheirs();
    });
  }

  /**
   * Sets the name that is shown for a user, or takes it away. Throws `taken` if it is reserved, or looks like the name of
   * somebody else.
   */
  async setDisplayName({ id, username }: User, name: string | null): Promise<User> {
    const key = this.#keys.user(id);
    const before = await this.#redis.hget(key, "displayName");
    if (name !== null) {
      if (isReservedUsername(name)) throw new ChatError("taken", "This name is reserved. Take another one.");
      await this.#looks.writeDown();
      const isOwn = name.toLowerCase() === username.toLowerCase();
      // Usernames may share a look, which one of them holds: then the look alone does not tell whose name it is.
      const plain = name.normalize("NFKC").toLowerCase();
      const holder = isOwn ? undefined : (await this.byNames([plain])).get(plain);
      if (holder !== undefined && holder !== id) throw tooAlike();
      if (!isOwn && !(await this.#looks.claim(id, name))) throw tooAlike();
      const giveBack = async () => {
        for (const one of [name, before]) if (one !== null) await this.#looks.release(id, one);
      };
      if (!(await this.#set(id, { displayName: name }, { open: true }))) {
        await giveBack();
        throw ended();
      }
      // Somebody may have signed up with such a name meanwhile.
      if (!isOwn && !(await this.#looks.claim(id, name))) {
        await this.#set(id, { displayName: before ?? "" }, { open: true });
        if (before !== null) await this.#looks.claim(id, before);
        await giveBack();
        throw tooAlike();
      }
      // The account may have ended while its look was claimed.
      if ((await this.#redis.hget(key, "displayName")) !== name) await giveBack();
    } else {
      await this.#redis.hdel(key, "displayName");
    }
    if (before !== null && before !== name) await this.#looks.release(id, before);
    this.forget(id);
    return { id, username, ...(name !== null && { displayName: name }) };
  }

  /** The id of the file that shows a user, or null. */
  avatarOf(id: UserId): Promise<string | null> {
    return this.#redis.hget(this.#keys.user(id), "avatar");
  }

  /** Throws `unauthorized` if the account has ended. */
  async setAvatar(id: UserId, avatar: string | null): Promise<void> {
    if (avatar === null) await this.#redis.hdel(this.#keys.user(id), "avatar");
    else if (!(await this.#set(id, { avatar }, { open: true }))) throw ended();
    this.forget(id);
  }

  /** Keeps an account from everything, or lets it in again. Sessions and rooms are the caller's. */
  async setDisabled(id: UserId, on: boolean): Promise<void> {
    await this.#set(id, { disabled: on ? Date.now() : "" });
  }

  /**
   * Deletes everything about a user but their username, which nobody else gets. The caller has disabled them. A repeat
   * deletes what was stored meanwhile.
   */
  async erase(id: UserId): Promise<void> {
    const key = this.#keys.user(id);
    const [username, shown, code] = await this.#redis.hmget(key, "username", "displayName", "reset");
    // Somebody may have enabled it since it was disabled.
    await this.#set(id, { disabled: Date.now(), deleted: Date.now() });
    await this.#redis.hdel(key, "password", "role", "displayName", "avatar", "reset");
    if (shown) await this.#looks.release(id, shown);
    if (code) await this.#redis.del(this.#keys.reset(code));
    if (username) await this.#redis.del(this.#keys.homes(username));
    for (const choice of this.#keys.scan.choicesOf(id)) await this.#redis.del(choice);
    this.forget(id);
  }

  /** Gives the name of a deleted account to whoever wants it. */
  async giveNameUp(id: UserId): Promise<void> {
    const username = await this.#redis.hget(this.#keys.user(id), "username");
    if (username === null) return;
    await this.#replace([this.#keys.username(username)], [`user:${id}`, ""]);
    // The field keeps the id from being given again; no username is as long.
    await this.#redis.hset(this.#keys.user(id), "username", `${DELETED_NAME} who had the id ${id}`);
    await this.#looks.release(id, username);
    this.forget(id);
  }

  /** A new code that lets its owner choose a password, once, within a day. Earlier ones end. Throws `not_found`. */
  async newReset(id: UserId): Promise<string> {
    const code = randomBytes(24).toString("base64url");
    await this.#redis.set(this.#keys.reset(code), id, "PX", RESET_MS);
    if (await this.#set(id, { reset: code })) return code;
    await this.#redis.del(this.#keys.reset(code));
    throw unknownUser();
  }

  /** Whose code it is. Throws `not_found`. */
  async resetOf(code: string): Promise<User> {
    const id = await this.#redis.get(this.#keys.reset(code));
    const [username, newest, deleted] =
      id === null ? [] : await this.#redis.hmget(this.#keys.user(id), "username", "reset", "deleted");
    if (id === null || !username || newest !== code || deleted !== null) throw noReset();
    return { id, username };
  }

  /** Ends the code for a new password, if there is one. */
  async endReset(id: UserId): Promise<void> {
    await this.#redis.hdel(this.#keys.user(id), "reset");
  }

  /**
   * Notes that an account is to end, with its messages or without, or is to be disabled or enabled, which its rooms,
   * sessions and roles are to `follow`; by then, in ms, others go on with it.
   */
  async noteFarewell(id: UserId, farewell: Farewell | "follow", until: number): Promise<void> {
    await this.#redis.zadd(this.#keys.farewells, until, id + FAREWELL_MARKS[farewell]);
    if (farewell === "follow") return;
    await this.#redis.zrem(
      this.#keys.farewells,
      id + FAREWELL_MARKS[farewell === "delete" ? "keep" : "delete"],
    );
  }

  /** Of which accounts that should be done by now. */
  async overdueFarewells(now: number): Promise<{ id: UserId; farewell: Farewell | "follow" }[]> {
    const overdue = await this.#redis.zrangebyscore(this.#keys.farewells, "-inf", now);
    return overdue.map((one) => {
      const [id = "", mark] = one.split(":", 2);
      return { id, farewell: mark === "keep" || mark === "follow" ? mark : "delete" };
    });
  }

  async endFarewell(id: UserId): Promise<void> {
    await this.#redis.zrem(this.#keys.farewells, id, id + FAREWELL_MARKS.keep);
  }

  async endFollowing(id: UserId): Promise<void> {
    await this.#redis.zrem(this.#keys.farewells, id + FAREWELL_MARKS.follow);
  }

  /** What there is to know of an account; undefined if there is none, or it is deleted. */
  async facts(id: UserId): Promise<AccountFacts | undefined> {
    const [username, created, role, disabled, deleted, seeded, making] = await this.#redis.hmget(
      this.#keys.user(id),
      "username",
      "created",
      "role",
      "disabled",
      "deleted",
      "seeded",
      "making",
    );
    if (!username || deleted || making) return undefined;
    return {
      created: Number(created ?? 0),
      role: roleOf(role),
      ...(disabled && { disabled: Number(disabled) }),
      isDemo: seeded !== null,
    };
  }

  /** What an account is on the server, and whether it is disabled, as every deleted one is. */
  async accountOf(id: UserId): Promise<{ role: ServerRole; disabled: boolean; deleted: boolean }> {
    const fields = ["role", "disabled", "deleted"] as const;
    const [role, disabled, deleted] = await this.#redis.hmget(this.#keys.user(id), ...fields);
    return { role: roleOf(role), disabled: disabled !== null, deleted: deleted !== null };
  }

  /** What an account is on the server: nothing while it is disabled. */
  async roleNow(id: UserId): Promise<ServerRole> {
    const { role, disabled } = await this.accountOf(id);
    return disabled ? "user" : role;
  }

  /** Whether this address is one of the account's own. */
  async isAtHome(username: string, address: string): Promise<boolean> {
    const seenAt = await unlessWrongType(this.#redis.zscore(this.#keys.homes(username), address), null);
    return seenAt !== null && Number(seenAt) > Date.now() - HOME_MS;
  }

  /** Makes an address one of the account's own. */
  async feelAtHome(username: string, address: string): Promise<void> {
    const homes = this.#keys.homes(username);
    await overWrongType(this.#redis, homes, "ZCARD", () => this.#redis.zadd(homes, Date.now(), address));
    await this.#redis.zremrangebyrank(homes, 0, -HOMES - 1);
    await this.#redis.pexpire(homes, HOME_MS);
  }

  /** The users that exist among the ids, in their order. Deleted ones are told as such. */
  async find(ids: readonly UserId[]): Promise<User[]> {
    const found: User[] = [];
    // A few at a time: Redis and this process must serve others in between.
    for (let start = 0; start < ids.length; start += FOUND_AT_ONCE) {
      const some = await Promise.all(ids.slice(start, start + FOUND_AT_ONCE).map((id) => this.#find(id)));
      found.push(...some.filter((user) => user !== undefined));
    }
    return found;
  }

  /** The ids of existing users, by their names in lower case. */
  async byNames(names: readonly string[]): Promise<Map<string, UserId>> {
    const claims = await Promise.all(
      names.map((name) => unlessWrongType(this.#redis.get(this.#keys.username(name)), null)),
    );
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

  /** How many there are who are not gone, a minute ago at most. */
  present(): Promise<number> {
    return this.#index.count();
  }

  /** How many ids were given. */
  async count(): Promise<number> {
    return lastId(this.#redis, this.#keys, "user");
  }

  /** The next `size` users with an id above `after`, ascending. Passes over ids that nobody got, and deleted users. */
  async list(after: number, size: number): Promise<Picked<User>> {
    return pageOfIds(after, await this.count(), size, async (ids) =>
      (await this.find(ids)).filter(({ deleted }) => deleted === undefined),
    );
  }

  /** Users with this text in their name; for `after` see NameIndex. */
  search(text: string, after: UserId | undefined, size: number): Promise<NamesFound> {
    return this.#index.find(text, after, size);
  }

  /** How many names a search covers. */
  get searched(): number {
    return this.#index.size;
  }

  /** Reads a user's names anew: they have changed. */
  forget(id: UserId): void {
    this.#forgotten += 1;
    this.#known.delete(id);
  }

  /** The same of all users: changes may have been lost, or were announced and not heard. */
  forgetAll(): void {
    this.#forgotten += 1;
    this.#known.clear();
  }

  async #find(id: UserId): Promise<User | undefined> {
    const fresh = this.#freshOf(id);
    if (fresh) return fresh;
    const forgotten = this.#forgotten;
    // An account that somebody has damaged keeps nobody from all others.
    const read = await unlessWrongType(this.#read(id), undefined);
    if (read?.shown) this.#remember(read.shown, forgotten);
    return read?.shown;
  }

  #freshOf(id: UserId): User | undefined {
    const known = this.#known.get(id);
    return known && performance.now() - known.at < NAME_FRESH_MS ? known.user : undefined;
  }

  /** Remembers what was read when so many had been forgotten: it may be older than a change of their names. */
  #remember(user: User, forgotten: number): void {
    if (forgotten !== this.#forgotten) return;
    if (this.#known.size >= NAMES_REMEMBERED) this.#known.clear();
    this.#known.set(user.id, { user, at: performance.now() });
  }

  /** `shown`: what others see of the account; undefined if it is not there, or not completely made. */
  async #read(id: UserId) {
    const [username, role, disabled, displayName, avatar, deleted, making] = await this.#redis.hmget(
      this.#keys.user(id),
      "username",
      "role",
      "disabled",
      "displayName",
      "avatar",
      "deleted",
      "making",
    );
    let shown: User | undefined;
    if (username && !making)
      shown = deleted
        ? { id, username: DELETED_NAME, deleted: true }
        : { id, username, ...(displayName && { displayName }), ...(avatar && { avatar }) };
    return { username, role, disabled, shown };
  }

  /** What a search looks at: both names. */
  async #searchable(id: UserId): Promise<string | null> {
    const shown = (await unlessWrongType(this.#read(id), undefined))?.shown;
    if (shown === undefined || shown.deleted) return null;
    return shown.displayName === undefined ? shown.username : `${shown.username} ${shown.displayName}`;
  }
}

async function isRight(password: string, hash: string): Promise<boolean> {
  for (const form of formsOf(password)) if (await hashes.compare(form, hash)) return true;
  return false;
}

async function demandStrong(password: string, username: string): Promise<void> {
  const weakness = await weaknessOf(password, username);
  if (weakness !== null) throw new ChatError("invalid", weakness);
}

function sharesLook(one: string, other: string): boolean {
  const looks = looksOf(other);
  return looksOf(one).some((look) => looks.includes(look));
}

function tooAlike(): ChatError {
  return new ChatError("taken", "This name looks like somebody else's. Take another one.");
}

function ended(): ChatError {
  return new ChatError("unauthorized", "This account has ended.");
}

function notTheirs(): ChatError {
  return new ChatError("forbidden", "This is not your password.");
}

/** What is said of a code for a new password that nobody can use. */
export function noReset(): ChatError {
  return new ChatError("not_found", "This link has expired, or it has been used.");
}

export function unknownUser(): ChatError {
  return new ChatError("not_found", "There is no such user.");
}

function taken(): ChatError {
  return new ChatError("taken", "This username is taken.");
}
