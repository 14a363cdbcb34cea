import type { Keys } from "../keys.ts";
import type { UserId } from "../protocol.ts";
import { defineScript, type RedisClient } from "./redis.ts";

/**
 * Sets fields of an account, or deletes those that are to be `""`. False if the account is deleted, or gone; with
 * `open`, if it is disabled; with `reset`, if that is not its code for a new password. Whatever sets a field after the
 * account was made uses this, because the account may end at any moment.
 */
export type SetAccount = (
  id: UserId,
  fields: Record<string, string | number>,
  only?: "open" | { reset: string },
) => Promise<boolean>;

export function createSetAccount(redis: RedisClient, keys: Keys): SetAccount {
  const set = defineScript(redis, "account.lua");
  return async (id, fields, only) => {
    const condition = only === undefined ? "0" : only === "open" ? "1" : `=${only.reset}`;
    return (await set([keys.user(id)], [condition, ...Object.entries(fields).flat()])) === 1;
  };
}
