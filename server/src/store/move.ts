import type { Keys } from "../keys.ts";
import type { Members } from "./members.ts";
import type { RedisClient } from "./redis.ts";
import { checkSchema, raiseSchema, type Schema } from "./schema.ts";

/** How often servers that do not know the newest schema are looked for, and how long one is thought to be there. */
const CHECK_MS = 10_000;
const OLDER_GONE_MS = 60_000;

type Parts = { redis: RedisClient; keys: Keys; schema: Schema; members: Members };

/**
 * Moves what servers of the version before keep, which read and write the sets of members, for the length of a rolling
 * deploy. `olderSilentMs` answers how long none of them has been heard. Ends when its answer is called.
 */
export function keepMoving(
  parts: Parts,
  olderSilentMs: () => number,
  failed: (error: unknown) => void,
): () => void {
  if (!parts.schema.mixed) return () => {};
  const timer = setInterval(() => void finishMove(parts, olderSilentMs()).catch(failed), CHECK_MS);
  return () => clearInterval(timer);
}

/** Ends the move to the newest schema once no older server has been heard for a while, or another one has ended it. */
export async function finishMove(
  { redis, keys, schema, members }: Parts,
  olderSilentMs: number,
): Promise<void> {
  if (!schema.mixed) return;
  if ((await checkSchema(redis, keys)).mixed) {
    if (olderSilentMs < OLDER_GONE_MS) return await members.copySets();
    await raiseSchema(redis, keys);
    schema.mixed = false;
    await members.forgetSets();
  }
  schema.mixed = false;
}
