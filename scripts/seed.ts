import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import bcrypt from "bcrypt";
import pLimit from "p-limit";
import { pino } from "pino";
import { Log } from "../server/src/store/log.ts";
import { Members } from "../server/src/store/members.ts";
import { Rooms } from "../server/src/store/rooms.ts";
import { Users } from "../server/src/chat/users.ts";
import type { Config } from "../server/src/config.ts";
import { ChatError, wordsOf } from "../server/src/errors.ts";
import { createKeys, type Keys } from "../server/src/keys.ts";
import { mentionsIn, namesRoom, parseText } from "../server/src/markdown.ts";
import type { Credentials, Message, Reaction, RoomId, User, UserId } from "../server/src/protocol.ts";
import { GENERAL } from "../server/src/store/kinds.ts";
import { connectRedis, type RedisClient } from "../server/src/store/redis.ts";
import { checkSchema, type Schema } from "../server/src/store/schema.ts";
import { readCommandConfig } from "./dataFolder.ts";
import {
  DEMO_DAYS,
  DEMO_GENERAL,
  DEMO_PASSWORD,
  DEMO_PEOPLE,
  DEMO_PRIVATE,
  DEMO_ROOMS,
  type DemoLine,
} from "./demo.ts";
import { orHelp, stop } from "./prepare.mjs";
import { findOwnRedis } from "./redis.ts";

/** The sizes afterwards, not what to add: another run adds nothing. */
export type SeedSize = {
  /** People named person1, person2, ... beside the demo people, all with the demo password. */
  users?: number;
  /** Rooms named Room 1, Room 2, ... beside the demo rooms. */
  rooms?: number;
  /** Messages in all those rooms together, spread over the last 30 days. */
  messages?: number;
};

type Store = { rooms: Rooms; members: Members; log: Log };
type Progress = (what: string, done: number, total: number) => void;

/** The field of `user:<id>` that only seeded people have. */
const SEEDED = "seeded";
const LOCK_MS = 30_000;
const CHUNK = 500;
const SPREAD_MS = 30 * 24 * 3600 * 1_000;
const WORDS = (
  "the deploy went well we can ship it after lunch please look at that graph again I think the cache was cold " +
  "nobody noticed thanks for the review let us meet at three who has the keys to the small room see you tomorrow"
).split(" ");

/**
 * Puts demo people, rooms and conversations into Redis, and as many more as `sizes` says. A second run, simultaneous or
 * later, waits for the first and then finds everything done. Answers the demo log-ins.
 */
export async function seed(
  config: Config,
  size: SeedSize = {},
  progress: Progress = () => undefined,
): Promise<Credentials[]> {
  const redis = await connectRedis(config.redisUrl, "commands", pino({ level: "silent" }));
  const keys = createKeys(config.keyPrefix);
  let unlock = async () => {};
  try {
    const schema = await checkSchema(redis, keys);
    unlock = await lock(redis, keys);
    // Nobody yet: what is cut short from here on, the next start completes.
    await redis.set(keys.demo, "[]", "NX");
    const members = new Members(redis, keys, config, schema);
    if (schema.mixed) await members.move();
    const rooms = new Rooms(redis, keys, members);
    const log = new Log(redis, keys, config, schema);
    const users = new Users(redis, keys, config);
    await rooms.nameGeneral();
    const hash = await bcrypt.hash(DEMO_PASSWORD, config.bcryptCost);
    const people = await createPeople(redis, keys, users, [...DEMO_PEOPLE], hash);
    await createConversations(redis, keys, { rooms, members, log }, people, schema);
    const logIns = [...people.values()].map(({ username }) => ({ username, password: DEMO_PASSWORD }));
    await redis.set(keys.demo, JSON.stringify(logIns));
    await createSize(redis, keys, users, { rooms, members, log }, hash, size, progress);
    return logIns;
  } finally {
    await unlock();
    redis.disconnect();
  }
}

async function lock(redis: RedisClient, keys: Keys): Promise<() => Promise<void>> {
  const token = randomBytes(8).toString("hex");
  for (let told = false; (await redis.set(keys.seedLock, token, "PX", LOCK_MS, "NX")) !== "OK"; told = true) {
    if (!told) console.error(`Waiting for another process that puts demo data in: the key ${keys.seedLock}.`);
    // Whoever holds it renews it: without an end it is nobody's.
    await redis.pexpire(keys.seedLock, LOCK_MS, "NX");
    await new Promise((done) => setTimeout(done, 100));
  }
  const renewal = setInterval(
    () => void redis.pexpire(keys.seedLock, LOCK_MS).catch(() => undefined),
    LOCK_MS / 3,
  );
  return async () => {
    clearInterval(renewal);
    if ((await redis.get(keys.seedLock)) === token) await redis.del(keys.seedLock);
  };
}

/**
 * Makes the missing accounts; claims each name last, as sign-up does. If a real person has a name, the demo person is
 * called `<name>.demo`.
 */
async function createPeople(
  redis: RedisClient,
  keys: Keys,
  users: Users,
  names: string[],
  password: string,
): Promise<Map<string, User>> {
  const people = new Map<string, User>();
  const missing: { name: string; username: string }[] = [];
  await Promise.all(
    names.map(async (name) => {
      for (const username of [name, `${name}.demo`]) {
        const claim = await redis.get(keys.username(username));
        if (claim === null) return void missing.push({ name, username });
        const id = claim.replace(/^user:/, "");
        if (await redis.hexists(keys.user(id), SEEDED)) return void people.set(name, { id, username });
      }
      throw stop(`${name} and ${name}.demo are real people here: this is no place for demo data.`, 69);
    }),
  );
  if (missing.length === 0) return people;
  missing.sort((one, other) => names.indexOf(one.name) - names.indexOf(other.name));
  const parallel = pLimit(32);
  // They were there when it was said.
  const created = Date.now() - DEMO_DAYS * 24 * 60 * 60_000;
  await Promise.all(
    missing.map(({ name, username }) =>
      parallel(async () => {
        try {
          people.set(name, await users.add(username, password, { [SEEDED]: 1, created }));
        } catch (error) {
          if (!(error instanceof ChatError)) throw error;
          throw stop(`Somebody signed up as ${username} just now. Run it again.`, 69);
        }
      }),
    ),
  );
  return new Map([...people].toSorted(([one], [other]) => names.indexOf(one) - names.indexOf(other)));
}

async function createConversations(
  redis: RedisClient,
  keys: Keys,
  { rooms, members, log }: Store,
  people: Map<string, User>,
  schema: Schema,
): Promise<void> {
  const idOf = (name: string) => people.get(name)?.id ?? "0";
  const now = Date.now();
  /** Gives messages their answers, mentions, edits, pins and reactions. */
  const becomeOf = async (roomId: RoomId, lines: readonly DemoLine[]) => {
    const threads = new Map<number, number>();
    for (const [index, [, from, text, change = {}]] of lines.entries()) {
      const seq = index + 1;
      const { answers, edited, pinned, reactions } = change;
      const replyTo =
        answers === undefined ? 0 : 1 + lines.findIndex(([, , other]) => other.startsWith(answers));
      const thread = threads.get(replyTo) ?? replyTo;
      const ids = new Map([...people].map(([name, { id }]) => [name.toLowerCase(), id]));
      const mentions = mentionsIn(parseText(text, (name) => ids.has(name))).flatMap(
        (name) => ids.get(name) ?? [],
      );
      const isPlain = Object.keys(change).length === 0 && mentions.length === 0 && !namesRoom(text);
      if (isPlain) continue;
      const row = await log.change(idOf(from), { roomId, seq }, (message) => ({
        ...message,
        ...(replyTo > 0 && { replyTo, thread }),
        ...(mentions.length > 0 && { mentions }),
        ...(namesRoom(text) && { mentionsRoom: true }),
        ...(edited && { edited: message.date + 60_000 }),
        ...(pinned && { pinned: message.date + 60_000 }),
        ...(reactions && {
          reactions: reactions.map(([emoji, by]): Reaction => [emoji, by.map(idOf)]),
        }),
      }));
      if (replyTo === 0) continue;
      threads.set(seq, thread);
      await redis.zadd(keys.thread(roomId, thread), (JSON.parse(row) as Message).date, seq);
    }
  };
  // Write a conversation whole or not at all: leave a room that has messages as it is.
  const tell = async (roomId: RoomId, lines: readonly DemoLine[]) => {
    if ((await log.position(roomId)).seq > 0) return;
    await log.load(
      roomId,
      lines.map(([minutesAgo, from, message]) => ({
        from: idOf(from),
        message,
        date: now - minutesAgo * 60_000,
      })),
    );
    if (!schema.mixed) await becomeOf(roomId, lines);
    // Everybody has read all but the last few messages.
    for (const { id } of people.values()) await rooms.read(roomId, id, Math.max(0, lines.length - 3));
    const last = lines.at(-1);
    if (last) await rooms.read(roomId, idOf(last[1]), lines.length);
  };
  await tell(GENERAL, DEMO_GENERAL);
  for (const { name, members: names, lines } of DEMO_ROOMS) {
    const roomId = await createRoom(rooms, name, idOf(names[0] ?? ""));
    for (const member of names) await members.join(roomId, idOf(member));
    await tell(roomId, lines);
  }
  for (const { between, lines } of DEMO_PRIVATE) {
    const [one, other] = [idOf(between[0]), idOf(between[1])];
    const roomId = rooms.between(one, other);
    await Promise.all([members.show(roomId, one), members.show(roomId, other)]);
    await tell(roomId, lines);
  }
}

/** The room with this name, which is made if it does not exist. */
async function createRoom(rooms: Rooms, name: string, creator: UserId): Promise<RoomId> {
  try {
    return await rooms.create(name, creator);
  } catch (error) {
    const roomId = await rooms.byName(name);
    if (error instanceof ChatError && roomId !== null) return roomId;
    throw error;
  }
}

async function createSize(
  redis: RedisClient,
  keys: Keys,
  users: Users,
  { rooms, members, log }: Store,
  hash: string,
  size: SeedSize,
  progress: Progress,
): Promise<void> {
  const { users: people = 0, messages = 0 } = size;
  const wantedRooms = size.rooms ?? (messages > 0 ? 10 : 0);
  const ids: UserId[] = [];
  for (let start = 1; start <= people; start += CHUNK) {
    const names = Array.from(
      { length: Math.min(CHUNK, people - start + 1) },
      (_, index) => `person${start + index}`,
    );
    for (const { id } of (await createPeople(redis, keys, users, names, hash)).values()) ids.push(id);
    progress("people", ids.length, people);
  }
  const authors =
    ids.length > 0
      ? ids
      : [...(await createPeople(redis, keys, users, [...DEMO_PEOPLE], hash)).values()].map(({ id }) => id);
  const roomIds: RoomId[] = [];
  for (let number = 1; number <= wantedRooms; number += 1) {
    const creator = authors[number % authors.length] ?? "1";
    const roomId = await createRoom(rooms, `Room ${number}`, creator);
    roomIds.push(roomId);
    progress("rooms", number, wantedRooms);
  }
  for (const [index, id] of ids.entries()) {
    const roomId = roomIds[index % roomIds.length];
    if (roomId !== undefined) await members.join(roomId, id);
  }
  let done = 0;
  const parallel = pLimit(4);
  await Promise.all(
    roomIds.map((roomId, index) =>
      parallel(async () => {
        const wanted = Math.floor(messages / roomIds.length) + (index < messages % roomIds.length ? 1 : 0);
        await fill(log, roomId, wanted, authors, (added) => {
          done += added;
          progress("messages", done, messages);
        });
      }),
    ),
  );
}

/** Brings a room to `wanted` messages, evenly spread from its last one, or from 30 days ago, until now. */
async function fill(
  log: Log,
  roomId: RoomId,
  wanted: number,
  authors: UserId[],
  added: (count: number) => void,
): Promise<void> {
  const head = await log.position(roomId);
  added(Math.min(head.seq, wanted));
  const now = Date.now();
  const from = Math.max(head.date, now - SPREAD_MS);
  const step = Math.max(1, (now - from) / (wanted - head.seq + 1));
  for (let seq = head.seq; seq < wanted; seq += CHUNK) {
    const count = Math.min(CHUNK, wanted - seq);
    const batch = Array.from({ length: count }, (_, index) => {
      const number = seq + index;
      return {
        from: authors[(number * 7) % authors.length] ?? "1",
        message: sentence(number),
        date: from + (number - head.seq + 1) * step,
      };
    });
    await log.load(roomId, batch);
    added(count);
  }
}

/** 3 to 26 words, the same for the same number. */
function sentence(number: number): string {
  const start = (number * 31) % WORDS.length;
  const length = 3 + ((number * 13) % 24);
  return Array.from({ length }, (_, index) => WORDS[(start + index) % WORDS.length]).join(" ");
}

const HELP = `npm run seed [-- --users N --rooms N --messages N]

Puts demo people, rooms and conversations into Redis, and as many more of each as are asked for. Running it again adds
nothing. Redis is that of REDIS_URL, or the one that \`npm start\` runs on DATA_DIR (./data).`;

/** `npm run seed -- --users 1000 --rooms 20 --messages 1000000` */
export async function main(args: string[]): Promise<void> {
  const size = readArguments(args);
  if (size === "help") return console.log(HELP);
  const started = performance.now();
  const logIns = await trySeed(size);
  const seconds = (performance.now() - started) / 1_000;
  const names = logIns.map(({ username }) => username).join(", ");
  console.log(`Seeded in ${seconds.toFixed(1)} s. Log in as ${names}; password ${DEMO_PASSWORD}.`);
}

function readArguments(args: string[]): SeedSize | "help" {
  return orHelp(HELP, () => {
    const text = { type: "string" } as const;
    const options = {
      users: text,
      rooms: text,
      messages: text,
      help: { type: "boolean", short: "h" },
    } as const;
    const { values } = parseArgs({ args, options });
    if (values.help) return "help";
    const size: SeedSize = {};
    for (const name of ["users", "rooms", "messages"] as const) {
      const value = values[name];
      if (value === undefined) continue;
      if (!/^\d{1,9}$/.test(value)) throw new Error(`--${name} takes a whole number.`);
      size[name] = Number(value);
    }
    return size;
  });
}

async function trySeed(size: SeedSize): Promise<Credentials[]> {
  const redisUrl = await findOwnRedis();
  try {
    const config = readCommandConfig(process.env, redisUrl);
    if (!config.demo)
      throw new Error(
        "Everybody knows the demo people's password: with NODE_ENV=production, or a HOST that others reach, they need DEMO=on.",
      );
    return await seed(config, size, progressBar());
  } catch (error) {
    throw stop(wordsOf(error), 69);
  }
}

/** Progress on one line in a terminal; in a log file a line for each tenth. */
function progressBar(): Progress {
  let drawn = "";
  return (what, done, total) => {
    const parts = process.stderr.isTTY ? 100 : 10;
    const share = total === 0 ? parts : Math.floor((done / total) * parts);
    const line = `${what.padEnd(9)} ${"█".repeat((share * 30) / parts).padEnd(30, "░")} ${done} of ${total}`;
    if (`${what}${share}` === drawn) return;
    drawn = `${what}${share}`;
    process.stderr.write(process.stderr.isTTY ? `\r${line}${done >= total ? "\n" : ""}` : `${line}\n`);
  };
}
