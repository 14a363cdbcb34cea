import type { Keys } from "../keys.ts";
import { idsUpTo } from "./ids.ts";
import { GENERAL } from "./kinds.ts";
import type { RedisClient } from "./redis.ts";

/**
 * The version of what is stored in Redis. Raise it when a server of the previous version would misread or spoil what a
 * new one stores; docs/upgrading.md says what each version changed.
 */
export const SCHEMA = 2;
/** The version of what was stored before versions existed. */
export const FIRST_SCHEMA = 1;

/** `mixed`: the data still has the previous version, which servers beside this one may be reading and writing. */
export type Schema = { mixed: boolean };
export const LATEST: Schema = { mixed: false };

/** Takes the version's place during a restore, and stays if the restore was interrupted. */
export const RESTORING = "restoring";

/**
 * Gives a Redis without a version one; throws one line for people if the data is newer than this server, or half
 * restored.
 */
export async function checkSchema(redis: RedisClient, keys: Keys): Promise<Schema> {
  const stored = (await readSchema(redis, keys)) ?? judge(await mark(redis, keys), keys);
  return { mixed: stored < SCHEMA };
}

/** Raises the version, once nothing of the previous one is left. */
export async function raiseSchema(redis: RedisClient, keys: Keys): Promise<void> {
  if ((await redis.get(keys.schema)) === String(SCHEMA - 1)) await redis.set(keys.schema, SCHEMA);
}

/** The version of the data, or undefined; throws as `checkSchema` does, and writes nothing. */
export async function readSchema(redis: RedisClient, keys: Keys): Promise<number | undefined> {
  const stored = await redis.get(keys.schema);
  return stored === null ? undefined : judge(stored, keys);
}

function judge(stored: string, keys: Keys): number {
  if (stored.startsWith(RESTORING)) {
    throw new Error(
      `This Redis holds half a backup: ${stored}, and not finished. Finish it: npm run restore -- --again FILE`,
    );
  }
  if (!/^[1-9]\d{0,5}$/.test(stored)) {
    throw new Error(`The key ${keys.schema} is no version: ${JSON.stringify(stored.slice(0, 40))}`);
  }
  if (Number(stored) > SCHEMA) {
    throw new Error(
      `What this Redis holds was stored by a newer Hubbub (schema ${stored}, and this one knows ${SCHEMA}). ` +
        "Run the newer one, or restore a backup from before the upgrade into an empty Redis: docs/upgrading.md",
    );
  }
  return Number(stored);
}

/** Another replica may be faster: then its answer counts. */
async function mark(redis: RedisClient, keys: Keys): Promise<string> {
  const traces = [keys.totalUsers, keys.totalRooms, keys.user("1"), keys.room(GENERAL), keys.meta(GENERAL)];
  const isFirst = (await isAny(redis, traces)) && !(await isMoved(redis, keys));
  const version = String(isFirst ? FIRST_SCHEMA : SCHEMA);
  return (await redis.set(keys.schema, version, "NX", "GET")) ?? version;
}

/**
 * Whether rooms are stored as this version does, and the key of the version alone was lost. Who took them for the first
 * version's would take the next set of members for everybody in its room, and put all others out.
 */
async function isMoved(redis: RedisClient, keys: Keys): Promise<boolean> {
  const total = Number((await redis.get(keys.totalRooms)) ?? 0);
  let moved = false;
  for (const ids of idsUpTo(total)) {
    if (await isAny(redis, ids.map(keys.members))) return false;
    moved ||= await isAny(redis, ids.map(keys.records));
  }
  return moved;
}

/** Asks one by one: on a Cluster they are in several slots. */
async function isAny(redis: RedisClient, names: string[]): Promise<boolean> {
  return (await Promise.all(names.map((key) => redis.exists(key)))).includes(1);
}
