import type { Keys } from "../keys.ts";
import type { UserId } from "../protocol.ts";
import { defineScript, type RedisClient } from "./redis.ts";

/**
 * Sets fields of an account, or with `""` deletes them; false if it is deleted, or gone, and with `open` if it is
 * disabled. Whatever sets a field after the account was made uses this, because the account may end at any moment.
 */
export type SetAccount = (
  id: UserId,
  fields: Record<string, string | number>,
  open?: "open",
) => Promise<boolean>;

export function createSetAccount(redis: RedisClient, keys: Keys): SetAccount {
  const set = defineScript(redis, "account.lua", 1);
  return async (id, fields, open) =>
    (await set([keys.user(id)], [open === undefined ? "0" : "1", ...Object.entries(fields).flat()])) === 1;
}
