import { unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { SERVER_ROLES, type ServerRole, type UserId } from "../protocol.ts";
import { createSetAccount, type SetAccount } from "./account.ts";
import { idsUpTo, lastId } from "./ids.ts";
import { defineScript, overWrongType, type RedisClient } from "./redis.ts";

/** Who changes something, and the role by which they may. */
export type ByRole = { user: { id: UserId }; role: ServerRole };

/**
 * The server would lose its last owner, the actor has lost the role by which they act, or there is no account any more
 * that could have a role. Nothing is changed.
 */
export type Kept = "last owner" | "lost role" | "no account";

/**
 * Who owns and administers the server. One hash is the authority, so that a script can keep the last owner; each
 * account's `role` is a copy of it, which is read with the account.
 */
export class Staff {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #set: ReturnType<typeof defineScript>;
  readonly #setAccount: SetAccount;

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
    this.#set = defineScript(redis, "staff.lua");
    this.#setAccount = createSetAccount(redis, keys);
  }

  /** Gives an account a role; `by` somebody who must still have theirs. */
  async set(userId: UserId, role: ServerRole, by?: ByRole): Promise<Kept | null> {
    const kept = await this.#reserve(userId, role, by);
    if (kept !== null) return kept;
    if (role === "user") {
      await this.#redis.hdel(this.#keys.user(userId), "role");
    } else if (!(await this.#setAccount(userId, { role }, { open: true }))) {
      // It has ended meanwhile, and would count as an owner for ever.
      await this.#redis.hdel(this.#keys.staff, userId);
      return "no account";
    }
    // Of several at once, the last to write the copy may not have been the last to change the authority.
    for (let copied = role; ;) {
      const now = roleOf(await this.#redis.hget(this.#keys.staff, userId));
      if (now === copied) return null;
      if (!(await this.#setAccount(userId, { role: now === "user" ? "" : now }, { open: true }))) return null;
      copied = now;
    }
  }

  /** Whether nobody owns or administers the server. */
  async isEmpty(): Promise<boolean> {
    const { staff } = this.#keys;
    await overWrongType(this.#redis, staff, "HLEN", () => this.#redis.hlen(staff));
    return (await this.#redis.hlen(staff)) === 0;
  }

  /** The roles by the accounts' copies: who has one, and which. */
  async #copies(): Promise<string[]> {
    const { user } = this.#keys;
    const found: string[] = [];
    for (const ids of idsUpTo(await lastId(this.#redis, this.#keys, "user"))) {
      const some = ids.map(async (id) => {
        const read = this.#redis.hmget(user(id), "role", "disabled");
        const [role, disabled] = await unlessWrongType(read, []);
        return roleOf(role) !== "user" && disabled === null ? [id, roleOf(role)] : [];
      });
      found.push(...(await Promise.all(some)).flat());
    }
    return found;
  }

  /** Takes a disabled or deleted account out; its `role` stays, for `restore`. */
  retire(userId: UserId, by?: ByRole): Promise<Kept | null> {
    return this.#reserve(userId, "user", by);
  }

  /** Puts an account back that is enabled again. */
  async restore(userId: UserId): Promise<void> {
    const role = roleOf(await this.#redis.hget(this.#keys.user(userId), "role"));
    if (role !== "user") await this.set(userId, role);
  }

  async #reserve(userId: UserId, role: ServerRole, by?: ByRole): Promise<Kept | null> {
    // If Redis has lost all roles, their owners would be so in name alone.
    const copies = (await this.isEmpty()) ? await this.#copies() : [];
    const actor = by === undefined ? ["", ""] : [by.user.id, by.role];
    const asked = [userId, role === "user" ? "" : role, ...actor, ...copies];
    const reply = await this.#set([this.#keys.staff], asked);
    return reply === 1 ? null : reply === 0 ? "last owner" : "lost role";
  }
}

/** The stored role; without one, or with one that this version does not know, a user. */
export function roleOf(stored: string | null | undefined): ServerRole {
  return SERVER_ROLES.find((role) => role === stored) ?? "user";
}
