import { Cluster } from "ioredis";
import { pino } from "pino";
import { asChanged } from "../server/src/chat/changes.ts";
import { checkRedis, heed } from "../server/src/store/checks.ts";
import type { Config } from "../server/src/config.ts";
import { unlessWrongType } from "../server/src/errors.ts";
import { createKeys, type Keys } from "../server/src/keys.ts";
import { isRoomId, type Message } from "../server/src/protocol.ts";
import { keepsRecords } from "../server/src/store/kinds.ts";
import { Log } from "../server/src/store/log.ts";
import { newestChange } from "../server/src/store/adoption.ts";
import { connectRedis, defineScript, type RedisClient } from "../server/src/store/redis.ts";
import { wordsInUse } from "../server/src/store/redisReach.ts";
import { RESTORING } from "../server/src/store/schema.ts";
import {
  Tally,
  readArchive,
  verifyArchive,
  type Counts,
  type KeyType,
  type RoomEnd,
  type Values,
} from "./archive.ts";
import { describe, readArguments } from "./backup.ts";
import { hasHead, persist, readContents, scanNames } from "./contents.ts";
import { readCommandConfig } from "./dataFolder.ts";
import { stop } from "./prepare.mjs";
import { useOwnRedis } from "./redis.ts";

const HELP = `npm run restore -- FILE [--prefix PREFIX] [--again]

Puts what \`npm run backup\` wrote into an empty Redis: that of REDIS_URL, or else the one that \`npm start\` would run on
DATA_DIR (./data). No server may run on it. FILE is checked before anything is written, and Redis is compared with FILE
afterwards. Until it is done no server starts there.

  --prefix  instead of KEY_PREFIX; it may be another one than the backup's
  --again   removes what an earlier restore, which was cut short, has put in, and begins anew`;

/** Bytes and commands that may be on their way to Redis at once. */
const WINDOW = { bytes: 1_000_000, commands: 200 };

/** How many rooms were removed from people's own lists, because the room did not list them. */
export type Restored = Counts & { mended: number };

/**
 * Writes an archive under `config.keyPrefix`. Throws with exit code 65 if the file is not a whole backup, and 69 if
 * Redis is not empty or refuses a write; what was written until then stays, marked as unfinished.
 */
export async function restore(config: Config, file: string, options: { again: boolean }): Promise<Restored> {
  const { header, tally } = await verifyArchive(file);
  const log = pino({ level: "silent" });
  const redis = await connectRedis(config.redisUrl, "commands", log);
  const keys = createKeys(config.keyPrefix);
  let isMarked = false;
  try {
    heed(await checkRedis(redis, config, keys), log);
    await refuseRunning(redis, keys);
    const mark = `${RESTORING} the backup of ${header.date}, begun ${new Date().toISOString()}`;
    if (options.again) {
      await takeOver(redis, keys, mark);
      isMarked = true;
      await removeUnfinished(redis, keys);
    } else {
      await begin(redis, keys, mark);
      isMarked = true;
    }
    await write(redis, keys, file, mark);
    // WAIT_REPLICAS is for people, who want to hear of each message that it is safe.
    const messages = new Log(redis, keys, { ...config, waitReplicas: 0 });
    const mended = await compareAndMend(redis, keys, messages, tally, header.sessions);
    await remark(redis, keys, mark, String(header.schema));
    return { ...tally.counts, mended };
  } catch (error) {
    if (!isMarked || (error instanceof Error && "exitCode" in error)) throw error;
    throw stop(
      `The restore did not finish: ${wordsInUse(error)}. No server starts on what is ` +
        "there. Run it again with --again.",
      69,
    );
  } finally {
    redis.disconnect();
  }
}

/** Throws if a server runs: each listens to the channel for everybody, on any node of a Cluster. */
async function refuseRunning(redis: RedisClient, keys: Keys): Promise<void> {
  const nodes = redis instanceof Cluster ? redis.nodes("all") : [redis];
  for (const node of nodes) {
    const [, listeners] = await persist(() => node.pubsub("NUMSUB", keys.channel));
    if (Number(listeners) > 0) throw stop("A server runs on this Redis. Stop all of them first.", 69);
  }
}

/** Puts this restore's mark in the place of one that was cut short: at no moment there is none. */
async function takeOver(redis: RedisClient, keys: Keys, mark: string): Promise<void> {
  const stored = await redis.get(keys.schema);
  if (!stored?.startsWith(RESTORING)) throw stop("No restore was cut short here, so nothing is removed.", 69);
  await remark(redis, keys, stored, mark);
}

/** Replaces the mark, which another restore with --again may have taken over, or ended. */
async function remark(redis: RedisClient, keys: Keys, from: string, to: string): Promise<void> {
  const replace = defineScript(redis, "replace.lua");
  const replaced = await persist(() => replace([keys.schema], [from, to]));
  // The answer to the first attempt may have been lost.
  if (replaced === 0) await demandMark(redis, keys, to);
}

async function demandMark(redis: RedisClient, keys: Keys, mark: string): Promise<void> {
  if ((await persist(() => redis.get(keys.schema))) === mark) return;
  throw stop("Another restore has begun here anew meanwhile, so this one has ended.", 69);
}

async function removeUnfinished(redis: RedisClient, keys: Keys): Promise<void> {
  for await (const names of scanNames(redis, keys)) {
    const doomed = names.map((name) => keyOf(keys, name)).filter((key) => key.toString() !== keys.schema);
    await Promise.all(doomed.map((key) => persist(() => redis.unlink(key))));
  }
}

/** Claims an empty Redis: the mark stops servers that start now, and other restores. */
async function begin(redis: RedisClient, keys: Keys, mark: string): Promise<void> {
  const found: string[] = [];
  for await (const names of scanNames(redis, keys)) found.push(...names.slice(0, 1_000));
  if (found.length === 0 && (await redis.set(keys.schema, mark, "NX")) === "OK") return;
  const stored = await redis.get(keys.schema);
  if (stored?.startsWith(RESTORING)) {
    throw stop(
      `This Redis holds half a backup (${stored}). If that restore does not run any more, add --again to remove what it ` +
        "put in and to begin anew.",
      69,
    );
  }
  const some = found.slice(0, 3).join(", ");
  throw stop(
    `This Redis is not empty: it holds ${found.length.toLocaleString("en")} keys of Hubbub (${some}). A backup goes into ` +
      "an empty one only: empty it, or choose another REDIS_URL, DATA_DIR or --prefix.",
    69,
  );
}

/** Ends soon after another restore has taken over: that one removes what this one has written. */
async function write(redis: RedisClient, keys: Keys, file: string, mark: string): Promise<void> {
  const pending = new Set<Promise<void>>();
  let bytes = 0;
  let failure: unknown;
  const drain = async (to: { bytes: number; commands: number }) => {
    while (pending.size > 0 && (pending.size > to.commands || bytes > to.bytes)) await Promise.race(pending);
    if (failure !== undefined) throw failure;
  };
  let sinceLook = 0;
  for await (const item of readArchive(file)) {
    if ("header" in item) continue;
    if ("room" in item) {
      await drain({ bytes: -1, commands: 0 });
      await compareRoom(redis, keys, item);
      continue;
    }
    if ((sinceLook += 1) > WINDOW.commands) {
      await demandMark(redis, keys, mark);
      sinceLook = 0;
    }
    const size = item.values.reduce((sum, parts) => parts.reduce((all, { length }) => all + length, sum), 0);
    bytes += size;
    const done: Promise<void> = put(redis, keys, item)
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => {
        pending.delete(done);
        bytes -= size;
      });
    pending.add(done);
    await drain(WINDOW);
  }
  await drain({ bytes: -1, commands: 0 });
  await demandMark(redis, keys, mark);
}

async function put(redis: RedisClient, keys: Keys, { type, name, values, expires }: Values): Promise<void> {
  const key = keyOf(keys, name);
  await persist(() => COMMANDS[type](redis, key, values));
  if (expires !== null) await persist(() => redis.pexpireat(key, expires));
}

/** These commands may run twice, except on lists and streams, where the comparison afterwards finds it. */
const COMMANDS: Record<KeyType, (redis: RedisClient, key: Buffer, values: Buffer[][]) => Promise<unknown>> = {
  string: (redis, key, values) => redis.set(key, values[0]?.[0] ?? ""),
  hash: (redis, key, values) => redis.hset(key, ...values.flat()),
  set: (redis, key, values) => redis.sadd(key, ...values.flat()),
  zset: (redis, key, values) =>
    redis.zadd(key, ...values.flatMap(([member, score]) => [String(score), member ?? ""])),
  list: (redis, key, values) => redis.rpush(key, ...values.flat()),
  stream: (redis, key, values) =>
    Promise.all(values.map(([id, ...fields]) => redis.xadd(key, String(id), ...fields))),
};

async function compareRoom(redis: RedisClient, keys: Keys, { room, messages, hash }: RoomEnd): Promise<void> {
  const [count, stored] = await Promise.all([
    unlessWrongType(
      persist(() => redis.zcard(keys.room(room))),
      0,
    ),
    unlessWrongType(
      persist(() => redis.hget(keys.meta(room), "hash")),
      null,
    ),
  ]);
  if (count === messages && (stored ?? "") === hash) return;
  throw stop(
    `Room ${room} has ${count} of ${messages} messages in Redis, the last one ${stored}, not ${hash}.`,
    70,
  );
}

/** The keys that are mended. */
const USER_ROOMS = /^user:(\d+):rooms$/;
const ROOM_LIST = /^\{room:([\d:]+)\}:(thread:\d+|mentions:\w+|deleted|pins|files|changed)$/;
const ROOM_DELETED = /^\{room:([\d:]+)\}:deleted$/;
const FILE = /^file:([\w-]+)$/;
const ROOM_FILES = /^\{room:[\d:]+\}:files$/;
/** Files that are noted in one command. */
const FILES_AT_ONCE = 500;

/** May run twice. */
type Mend = () => Promise<unknown>;

/**
 * Throws unless Redis has everything that does not expire as in the file. What is compared is then mended where people
 * were busy during the backup: see `deafIn`, `fitToHead` and `halfDeleted`. Where a key is of the wrong type, nothing is
 * mended.
 *
 * No mend may begin before all is read and compared: Redis names its keys in any order, so a mend would write to a key
 * that is still to be read, and that would not be what the file holds.
 */
async function compareAndMend(
  redis: RedisClient,
  keys: Keys,
  messages: Log,
  wanted: Tally,
  sessions: boolean,
): Promise<number> {
  const found = new Tally();
  const mends: Mend[] = [];
  let mended = 0;
  /** Files that have a record, and those that a message has. */
  const recorded: string[] = [];
  const held = new Set<string>();
  for await (const item of readContents(redis, keys, { sessions })) {
    found.add(item);
    if (!("name" in item)) continue;
    const [, file] = FILE.exec(item.name) ?? [];
    if (file !== undefined) recorded.push(file);
    if (ROOM_FILES.test(item.name))
      for (const [id, holder] of item.values) if (String(holder).startsWith("#")) held.add(String(id));
    const key = keyOf(keys, item.name);
    const deaf = await unlessWrongType(deafIn(redis, keys, item), []);
    mended += deaf.length;
    if (deaf.length > 0) mends.push(() => redis.srem(key, ...deaf));
    const fitted = await unlessWrongType(fitToHead(redis, keys, item), undefined);
    if (fitted) mends.push(fitted);
    for (const half of await unlessWrongType(halfDeleted(redis, keys, messages, item), [])) {
      for (const { id } of half.files ?? []) held.delete(id);
      mends.push(() =>
        messages.change(half.from, half, (message) =>
          asChanged(message, half.from, { do: "delete", ...half }, Date.now(), {}),
        ),
      );
    }
  }
  if (found.sum() !== wanted.sum())
    throw stop(
      `What is in Redis now is not what the backup holds: ${describe(found.counts)}, and not ${describe(wanted.counts)}. ` +
        "Was something else writing?",
      70,
    );
  for (const mend of mends) await unlessWrongType(persist(mend), undefined);
  await mendFiles(redis, keys, recorded, held);
  return mended;
}

/**
 * Files may have come and gone between the reads of their records, `due`, `sizes` and `used`. The collector looks at those
 * that no message has, and the next file that comes or goes counts the bytes of all anew.
 */
async function mendFiles(
  redis: RedisClient,
  keys: Keys,
  recorded: readonly string[],
  held: ReadonlySet<string>,
): Promise<void> {
  const counted = await unlessWrongType(
    persist(() => redis.hkeys(keys.filesSizes)),
    [],
  );
  const free = [...new Set([...recorded, ...counted])].filter((id) => !held.has(id));
  for (let start = 0; start < free.length; start += FILES_AT_ONCE) {
    const due = free.slice(start, start + FILES_AT_ONCE).flatMap((id) => [Date.now(), id]);
    await unlessWrongType(
      persist(() => redis.zadd(keys.filesDue, "NX", ...due)),
      0,
    );
  }
  await persist(() => redis.del(keys.filesUsed));
}

/** The rooms in somebody's list that they were leaving: they would hear nothing there. */
async function deafIn(redis: RedisClient, keys: Keys, { name, values }: Values): Promise<string[]> {
  const user = USER_ROOMS.exec(name)?.[1];
  if (user === undefined) return [];
  const rooms = values.map(([id]) => String(id)).filter(keepsRecords);
  const listed = await Promise.all(
    rooms.map((room) => {
      const inside = persist(async () => {
        // A backup of the first schema has a set instead.
        const isRecorded = await redis.hexists(keys.records(room), user);
        return isRecorded || redis.sismember(keys.members(room), user);
      });
      return unlessWrongType(inside, 1);
    }),
  );
  return rooms.filter((_, index) => listed[index] === 0);
}

/**
 * Takes from a room's lists what was said after its head was read: the next messages get those numbers. Raises its last
 * `rev` to that of rows that were changed after it, or nobody would believe the next changes. Writes nothing, and
 * answers what is to be done, if anything.
 */
async function fitToHead(
  redis: RedisClient,
  keys: Keys,
  { name, values }: Values,
): Promise<Mend | undefined> {
  const [, room, list] = ROOM_LIST.exec(name) ?? [];
  if (room === undefined) return undefined;
  const [seq = null, rev, date, hash] = await persist(() =>
    redis.hmget(keys.meta(room), "seq", "rev", "date", "hash"),
  );
  if (list === "changed") {
    const newest = await persist(() => newestChange(redis, keys, room));
    return newest.rev > Number(rev) ? () => redis.hset(keys.meta(room), newest) : undefined;
  }
  const seqOf = ([member, holder]: Buffer[]) =>
    list === "files" ? /^#(\d+)$/.exec(String(holder))?.[1] : String(member);
  const beyond = values.flatMap((value) => (Number(seqOf(value)) > Number(seq) ? [String(value[0])] : []));
  // Of a log whose head is damaged everything was kept.
  if (beyond.length === 0 || (seq !== null && !(await hasHead(redis, keys, room, { seq, date, hash }))))
    return undefined;
  const key = keyOf(keys, name);
  if (list !== "files") return () => redis.zrem(key, ...beyond);
  return async () => {
    await redis.hdel(key, ...beyond);
    // Nobody has them: the collector finds that out.
    await redis.zadd(keys.filesDue, ...beyond.flatMap((id) => [Date.now(), id]));
  };
}

/**
 * Messages that were deleted after they had been read: the list of what is deleted, which is read last, has them, and
 * their rows still have their text. What they were in may have been read before or after.
 */
async function halfDeleted(
  redis: RedisClient,
  keys: Keys,
  messages: Log,
  { name, values }: Values,
): Promise<Message[]> {
  const room = ROOM_DELETED.exec(name)?.[1];
  if (room === undefined || !isRoomId(room)) return [];
  const [seq, date, hash] = await persist(() => redis.hmget(keys.meta(room), "seq", "date", "hash"));
  if (!(await hasHead(redis, keys, room, { seq, date, hash }))) return [];
  const listed = values.map(([member]) => Number(member)).filter(Number.isSafeInteger);
  const found = await Promise.all(listed.map((one) => persist(() => messages.pages.at(room, one))));
  return found.filter((message) => message !== null && message.deleted === undefined) as Message[];
}

function keyOf(keys: Keys, name: string): Buffer {
  return Buffer.from(keys.scan.keyOf(name), "latin1");
}

/** `npm run restore -- FILE` */
export async function main(args: string[]): Promise<number> {
  const read = readArguments(args, "again", HELP);
  if (read === "help") {
    console.log(HELP);
    return 0;
  }
  const { file, prefix, flagged: again } = read;
  const began = performance.now();
  // Check the file before asking or starting any Redis.
  await verifyArchive(file);
  const own = await useOwnRedis({ mayBeNew: true });
  try {
    const config = readCommandConfig(process.env, own.url, prefix);
    const { mended, ...counts } = await restore(config, file, { again });
    const seconds = ((performance.now() - began) / 1_000).toFixed(1);
    console.log(`Restored ${describe(counts)} from ${file} in ${seconds} s, and compared them.`);
    console.log("A trial needs a FILES_URL of its own: its servers remove files that nobody there has.");
    if (mended > 0) console.log(`${mended} times somebody was just leaving a room: they have left it.`);
    return 0;
  } catch (error) {
    if (error instanceof Error && "exitCode" in error) throw error;
    throw stop(`Nothing was restored. ${wordsInUse(error)}`, 69);
  } finally {
    await own.close();
  }
}
