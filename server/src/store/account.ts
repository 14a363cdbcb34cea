import type { Keys } from "../keys.ts";
import type { UserId } from "../protocol.ts";
import { defineScript, type RedisClient } from "./redis.ts";

/**
 * Sets fields of an account, or deletes those that are to be `""`. False if the account is deleted, or gone; with
 * `open`, if it is disabled; with `still`, if one of its fields has another value. Whatever sets a field after the account
 * was made uses this, because the account may end at any moment.
 */
export type SetAccount = (
  id: UserId,
  fields: Record<string, string | number>,
  only?: { open?: true; still?: readonly [field: string, value: string] },
) => Promise<boolean>;

export function createSetAccount(redis: RedisClient, keys: Keys): SetAccount {
  const set = defineScript(redis, "account.lua");
  return async (id, fields, { open = false, still = ["", ""] } = {}) =>
    (await set([keys.user(id)], [open ? "1" : "0", ...still, ...Object.entries(fields).flat()])) === 1;
}
