import { deepStrictEqual, equal, ok, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeAll, it } from "vitest";
import { createKeys } from "../keys.ts";
import type { Message } from "../protocol.ts";
import { connectRedis, defineScript, type RedisClient } from "./redis.ts";
import { chain, chainChange, headOf, memberIn, type Head } from "./codec.ts";
import { Log, type Position } from "./log.ts";
import { Members } from "./members.ts";
import { testRedisUrl, until } from "../testing.ts";
import { Rooms } from "./rooms.ts";

/**
 * The scripts against a model: thousands of rooms, each with a random history, beside plain lists that say what each
 * answer must be. A failure names its seed, which MODEL_SEED repeats, and the steps that led to it.
 */
const HISTORIES = 10_000;
const AT_ONCE = 500;
const USERS = ["1", "2", "3"];
const NONCES = ["a", "b", "c", "d"];
const TEXTS = ["ok", 'é😀 "\\\n\u2028', "a longer one ".repeat(20), '","nonce":"a"}', "\u0007"];
const NOTHING: Head = { seq: 0, date: 0, hash: "" };

type Row = { score: number; json: string; head: Head | null };

/** What Redis holds of a room; `rows` in the order of the sorted set. */
type Stored = {
  rows: Row[];
  head: Head | null;
  first: number;
  members: Set<string>;
  rev: number;
  revHash: string;
  marks: Map<string, number>;
  /** The date remembered for a user's nonce. */
  nonces: Map<string, number>;
};

type Room = {
  id: string;
  stored: Stored;
  saved: Stored;
  /** Every head that any log of the room has had. */
  heads: Head[];
  announced: string[];
  /** A replica that follows the room by the announcements that reach it. */
  replica: { position: Position; rows: string[]; members: Set<string>; behind: boolean };
};

const prefix = `test-${randomBytes(6).toString("hex")}:`;
const keys = createKeys(prefix);
const channelPrefix = keys.roomChannel("");
const heard = new Map<string, string[]>();
let redis: RedisClient;
let subscriber: Redis;
let rooms: Rooms;
let members: Members;
let log: Log;
let sync: ReturnType<typeof defineScript>;
let leases: ReturnType<typeof defineScript>;

beforeAll(async () => {
  redis = await connectRedis(testRedisUrl(), "commands", pino({ level: "silent" }));
  members = new Members(redis, keys, { serverId: "model", relayChannel: "rooms" });
  rooms = new Rooms(redis, keys, members);
  log = new Log(redis, keys, { serverId: "model", relayChannel: "rooms", waitReplicas: 0, waitMs: 0 });
  sync = defineScript(redis, ["head.lua", "rows.lua", "sync.lua"]);
  leases = defineScript(redis, "presence.lua");
  subscriber = new Redis(testRedisUrl());
  subscriber.on("pmessage", (_pattern: string, channel: string, text: string) => {
    const roomId = channel.slice(channelPrefix.length);
    const texts = heard.get(roomId);
    if (texts) texts.push(text);
    else heard.set(roomId, [text]);
  });
  await subscriber.psubscribe(`${channelPrefix}*`);
});

afterAll(async () => {
  const left = await redis.keys(`*${prefix}*`);
  for (let start = 0; start < left.length; start += 5_000)
    await redis.unlink(left.slice(start, start + 5_000));
  redis.disconnect();
  subscriber.disconnect();
});

function logKeysOf(id: string): string[] {
  return [keys.room, keys.meta, keys.records, keys.changed, keys.revs].map((key) => key(id));
}

function keysOf(id: string): string[] {
  const nonces = USERS.flatMap((user) => NONCES.map((nonce) => keys.nonce(id, user, nonce)));
  return [...logKeysOf(id), keys.read(id), ...nonces];
}

/** Makes one set of a room's keys a copy of the other, as a failover does. */
async function copyKeys(from: string[], to: string[]): Promise<void> {
  const copied = from.flatMap((key, index) => {
    const target = to[index] ?? "";
    return [redis.del(target), redis.copy(key, target)];
  });
  await Promise.all(copied);
}

function add(stored: Stored, row: Row): void {
  const others = stored.rows.filter(({ json }) => json !== row.json);
  const follows = (one: Row) =>
    one.score > row.score ||
    (one.score === row.score && Buffer.compare(Buffer.from(one.json), Buffer.from(row.json)) > 0);
  const at = others.findIndex(follows);
  stored.rows = others.toSpliced(at < 0 ? others.length : at, 0, row);
}

const ownRows = (stored: Stored) => stored.rows.filter(({ head }) => head !== null);
const bytesOf = (rows: string[]) => rows.reduce((sum, row) => sum + Buffer.byteLength(row), 0);
const isSame = (one: Head, other: Head | null) =>
  one.seq === other?.seq && one.date === other.date && one.hash === other.hash;

/** Sends one message; it must be the next of the log, whatever another program has added. */
async function send(room: Room, step: { user: string; nonce: string; text: string; lost: boolean }) {
  const { id, stored } = room;
  const { user, nonce, text } = step;
  const sent = log.append(user, { roomId: id, message: text, nonce });
  const name = `${user} ${nonce}`;
  const known = ownRows(stored).find(({ score }) => score === stored.nonces.get(name));
  if (!id.includes(":") && !stored.members.has(user)) {
    await rejects(sent, { code: "not_found" });
    return;
  }
  if (known) {
    deepStrictEqual(await sent, { row: known.json, repeated: true });
    return;
  }
  const before = stored.head ?? NOTHING;
  const { row, repeated } = await sent;
  const head = headOf(row);
  if (!head) throw new Error(`not a row of ours: ${row}`);
  const tail = JSON.stringify({ from: user, message: text, nonce }).slice(1);
  equal(repeated, false);
  equal(row, `{"roomId":"${id}","seq":${before.seq + 1},"date":${head.date},"hash":"${head.hash}",${tail}`);
  equal(head.hash, chain(before.hash, head.date, tail));
  // Redis' clock, or one more than the last date.
  ok(head.date > before.date);
  ok(head.date === before.date + 1 || Math.abs(head.date - Date.now()) < 60_000);
  add(stored, { score: head.date, json: row, head });
  stored.head = head;
  stored.nonces.set(name, head.date);
  stored.marks.set(user, head.seq);
  room.heads.push(head);
  room.announced.push(
    `{"serverId":"model","type":"message","rev":${stored.rev},"revHash":"${stored.revHash}","data":${row}}`,
  );
  if (!step.lost) hear(room, row, head, tail);
}

/** Somebody joins or leaves: a change with the next rev, unless nothing changes. */
async function change(room: Room, user: string, isIn: boolean, lost: boolean): Promise<void> {
  const { id, stored, replica } = room;
  // A private room keeps no record of somebody ordinary.
  const record = { role: id.includes(":") ? "moderator" : "member" } as const;
  await (isIn ? members.join(id, user, { record }) : members.leave(id, user));
  if (stored.members.has(user) === isIn) return;
  if (isIn) stored.members.add(user);
  else stored.members.delete(user);
  const rev = stored.rev + 1;
  const what = `@${user}`;
  const now = isIn ? JSON.stringify(record) : "";
  const hash = chainChange(stored.revHash, { roomId: id, what, rev, hash: "", now });
  const follows = replica.position.rev === stored.rev && replica.position.revHash === stored.revHash;
  Object.assign(stored, { rev, revHash: hash });
  room.announced.push(
    `{"serverId":"model","type":"change","data":{"roomId":"${id}","what":"${what}","rev":${rev},"hash":"${hash}"${isIn ? `,"now":${JSON.stringify(now)}` : ""}}}`,
  );
  if (lost || replica.behind) return;
  if (!follows) {
    replica.behind = true;
    return;
  }
  replica.position = { ...replica.position, rev, revHash: hash };
  replica.members = new Set(stored.members);
}

/** As the relay does: passes on what follows, else reads. Only the members of that moment hear it. */
function hear({ stored, replica }: Room, row: string, head: Head, tail: string): void {
  const { seq, hash, revHash } = replica.position;
  const isNext = head.seq === seq + 1 && head.hash === chain(hash, head.date, tail);
  const follows = isNext && revHash === stored.revHash;
  if (!follows) replica.behind = true;
  if (replica.behind) return;
  deepStrictEqual(replica.members, stored.members);
  replica.position = { ...replica.position, ...head };
  replica.rows.push(row);
}

/** The replica reads what it missed; then it has passed on the whole log, or knows that it is another log. */
async function heal(room: Room): Promise<void> {
  await adopt(room);
  const { id, stored, replica } = room;
  for (let more = true; more;) {
    const found = await log.after(id, replica.position);
    if (found.changes === null) replica.members = new Set(await redis.hkeys(keys.records(id)));
    for (const one of found.changes ?? [])
      replica.members[one.now === "" ? "delete" : "add"](memberIn(one) ?? "");
    // Before any row is passed on.
    deepStrictEqual([...replica.members].toSorted(), [...stored.members].toSorted());
    if (found.reset) replica.rows = [];
    replica.rows.push(...found.rows);
    replica.position = found.position;
    more = found.more;
  }
  replica.behind = false;
  const own = ownRows(stored).map(({ json }) => json);
  const passedOn = replica.rows.filter((row) => own.includes(row));
  deepStrictEqual(passedOn, own.slice(own.length - passedOn.length));
  const { rev, revHash, head } = stored;
  if (own.length > 0) deepStrictEqual(replica.position, { ...head, rev, revHash });
}

/** The answer to one cursor: exactly what follows it, up to the limits, or a reset with the right reason. */
async function follow({ id, stored }: Room, cursor: Head, most: number, size: number): Promise<void> {
  const reply = await sync(logKeysOf(id), [cursor.seq, cursor.date, cursor.hash, most, size, "1"]);
  const [status, seq, date, hash, more, rev, revHash, changes, ...rows] = reply as string[];
  deepStrictEqual([Number(rev), revHash, Number(changes)], [stored.rev, stored.revHash, 0]);
  const own = ownRows(stored);
  const head = stored.head ?? NOTHING;
  deepStrictEqual({ seq: Number(seq), date: Number(date), hash }, head);
  const after = own.filter(({ score }) => score > cursor.date);
  const gap = after.findIndex((row, index) => row.head?.seq !== cursor.seq + 1 + index);
  const run = after.slice(0, gap < 0 ? after.length : gap);
  const isWhole = cursor.seq + run.length >= head.seq;
  const reason = reasonOf(stored, cursor) ?? (run.length > 0 || isWhole ? "ok" : "trimmed");
  equal(status, reason);
  const all = own.map(({ json }) => json);
  if (reason !== "ok") {
    deepStrictEqual(rows, all.slice(all.length - rows.length));
    equal(more, "0");
    ok(rows.length === Math.min(50, all.length) || bytesOf(rows) > size);
    ok(bytesOf(rows.slice(1)) <= size);
    return;
  }
  const following = run.map(({ json }) => json);
  deepStrictEqual(rows, following.slice(0, rows.length));
  equal(more, rows.length < following.length || !isWhole ? "1" : "0");
  ok(rows.length <= most && (rows.length === 1 || bytesOf(rows.slice(0, -1)) <= size));
  if (rows.length < following.length) ok(rows.length === most || bytesOf(rows) > size);
}

/** Why the copy that ends with this cursor is to be dropped; undefined if the log still has its end. */
function reasonOf(stored: Stored, cursor: Head): string | undefined {
  const head = stored.head ?? NOTHING;
  if (cursor.seq === 0 || isSame(cursor, head)) return undefined;
  if (cursor.seq > head.seq) return "ahead";
  if (cursor.seq < stored.first) return "trimmed";
  if (stored.rows.some((row) => isSame(cursor, row.head))) return undefined;
  return stored.rows.some((row) => row.head?.seq === cursor.seq) ? "rewound" : "trimmed";
}

/** Whether fewer messages are there than their numbers say: the log lost some that nobody has noted. */
function lacks({ rows, head, first }: Stored): boolean {
  return head !== null && rows.length < head.seq - Math.max(first, 1) + 1;
}

/** What another program added becomes messages: once each, in its order, behind what the log holds. */
async function adopt({ id, stored, heads, announced }: Room): Promise<void> {
  const foreign = stored.rows.filter(({ head }) => head === null);
  const isOurs = stored.head !== null;
  equal(await log.adopt(id), foreign.length);
  for (const { score, json } of foreign) {
    const { from, message, date: wanted } = JSON.parse(json) as Message;
    const before = stored.head ?? NOTHING;
    const tail = JSON.stringify({ from, message }).slice(1);
    const [row = ""] = await redis.zrangebyscore(keys.room(id), `(${before.date}`, "+inf", "LIMIT", 0, 1);
    const head = headOf(row);
    ok(head);
    const inMs = Math.floor(wanted < 1e11 ? wanted * 1_000 : wanted);
    ok(head.date === Math.max(inMs, before.date + 1) || (head.date > before.date && inMs > head.date));
    equal(head.seq, before.seq + 1);
    equal(head.hash, chain(before.hash, head.date, tail));
    stored.rows = stored.rows.filter((one) => one.json !== json || one.score !== score);
    add(stored, { score: head.date, json: row, head });
    stored.head = head;
    heads.push(head);
    if (isOurs)
      announced.push(
        `{"serverId":"model","type":"message","rev":${stored.rev},"revHash":"${stored.revHash}","data":${row}}`,
      );
  }
  ok(stored.rows.every((one) => one.head !== null));
  if (lacks(stored)) stored.first = (stored.head?.seq ?? 0) - stored.rows.length + 1;
}

/** Appends demo data. */
async function load({ id, stored, heads }: Room, count: number): Promise<void> {
  const messages = Array.from({ length: count }, (_, index) => ({
    from: "1",
    message: `old ${index}`,
    date: 1_000 * index,
  }));
  await log.load(id, messages);
  for (const { from, message, date: wanted } of messages) {
    const before = stored.head ?? NOTHING;
    const tail = JSON.stringify({ from, message }).slice(1);
    const date = Math.max(wanted, before.date + 1);
    const head = { seq: before.seq + 1, date, hash: chain(before.hash, date, tail) };
    const json = `{"roomId":"${id}","seq":${head.seq},"date":${date},"hash":"${head.hash}",${tail}`;
    add(stored, { score: date, json, head });
    stored.head = head;
    heads.push(head);
  }
}

const user = fc.constantFrom(...USERS);
const any = fc.nat({ max: 999 });
const step = fc.oneof(
  {
    weight: 40,
    arbitrary: fc.record({
      do: fc.constant("send" as const),
      user,
      nonce: fc.constantFrom(...NONCES),
      text: fc.constantFrom(...TEXTS),
      lost: fc.boolean(),
    }),
  },
  {
    weight: 15,
    arbitrary: fc.record({
      do: fc.constant("follow" as const),
      cursor: any,
      most: fc.integer({ min: 1, max: 6 }),
      size: fc.constantFrom(0, 200, 700, 100_000),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("heal" as const) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("read" as const), user, seq: any }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("join" as const), user, lost: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("leave" as const), user, lost: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("trim" as const), count: any }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("remove" as const), place: any, count: any, cursor: any }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("add" as const), place: any, name: any }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("save" as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("fail over" as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("forget" as const), user }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("load" as const), count: fc.integer({ min: 1, max: 3 }) }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function take(room: Room, now: Step): Promise<void> {
  const { id, stored } = room;
  switch (now.do) {
    case "send":
      if (!stored.head) await adopt(room);
      return send(room, now);
    case "follow":
      return follow(room, room.heads[now.cursor % room.heads.length] ?? NOTHING, now.most, now.size);
    case "heal":
      return heal(room);
    case "load":
      await adopt(room);
      return load(room, now.count);
    case "read": {
      const newest = stored.head?.seq ?? 0;
      const wanted = now.seq % (newest + 3);
      const mark = Math.max(stored.marks.get(now.user) ?? 0, Math.min(wanted, newest));
      stored.marks.set(now.user, mark);
      equal(await rooms.read(id, now.user, wanted), mark);
      return;
    }
    case "join":
      return change(room, now.user, true, now.lost);
    case "leave":
      return change(room, now.user, false, now.lost);
    case "trim": {
      // As an operator does: deletes the oldest rows and sets where the log begins. Where rows are missing further on, too,
      // rows of another program are looked for first: they would hide that from the check.
      const numbers = [...ownRows(stored).map(({ head }) => head?.seq ?? 0), (stored.head?.seq ?? 0) + 1];
      if (numbers.some((seq, index) => index > 0 && seq !== (numbers[index - 1] ?? 0) + 1)) await adopt(room);
      const count = now.count % (stored.rows.length + 1);
      if (count === 0 || !stored.head) return;
      stored.rows = stored.rows.slice(count);
      stored.first = ownRows(stored)[0]?.head?.seq ?? stored.head.seq + 1;
      await redis.zremrangebyrank(keys.room(id), 0, count - 1);
      await redis.hset(keys.meta(id), "first", stored.first);
      if (lacks(stored)) await adopt(room);
      return;
    }
    case "remove": {
      // Another program removes some rows, or all, and says nothing.
      await adopt(room);
      if (stored.rows.length === 0) return;
      const from = now.place % stored.rows.length;
      const gone = stored.rows.slice(from, from + 1 + (now.count % (stored.rows.length - from)));
      stored.rows = stored.rows.filter((row) => !gone.includes(row));
      await redis.zrem(keys.room(id), ...gone.map(({ json }) => json));
      await follow(room, room.heads[now.cursor % room.heads.length] ?? NOTHING, 6, 700);
      for (const { head } of stored.rows)
        deepStrictEqual((await log.pages.at(id, head?.seq ?? 0))?.hash, head?.hash);
      // As the next check does.
      return adopt(room);
    }
    case "add": {
      // Another program's message: old, or beside one of ours.
      const beside = stored.rows[now.place % (stored.rows.length + 1)]?.score ?? 1_000_000 + now.place;
      const score = now.place % 2 === 0 ? beside : beside + 0.5;
      const json = JSON.stringify({ from: "1", date: score, message: `foreign ${now.name}`, roomId: id });
      add(stored, { score, json, head: null });
      await redis.zadd(keys.room(id), score, json);
      return;
    }
    case "save":
      room.saved = structuredClone(stored);
      await copyKeys(keysOf(id), keysOf(`${id}:saved`));
      return;
    case "fail over":
      // The Redis that takes over lacks what came since.
      room.stored = structuredClone(room.saved);
      await copyKeys(keysOf(`${id}:saved`), keysOf(id));
      return;
    case "forget":
      for (const nonce of NONCES) stored.nonces.delete(`${now.user} ${nonce}`);
      await redis.del(NONCES.map((nonce) => keys.nonce(id, now.user, nonce)));
      return;
  }
}

async function enter(index: number): Promise<Room> {
  const id = index % 3 === 0 ? `${index + 1}:100000` : String(index + 1);
  // Nothing was saved at first: a Redis that takes over begins with an empty room.
  const saved: Stored = {
    rows: [],
    head: null,
    first: 0,
    members: new Set(),
    rev: 0,
    revHash: "",
    marks: new Map(),
    nonces: new Map(),
  };
  const room: Room = {
    id,
    stored: structuredClone(saved),
    saved,
    heads: [NOTHING],
    announced: [],
    replica: { position: { ...NOTHING, rev: 0, revHash: "" }, rows: [], members: new Set(), behind: false },
  };
  for (const first of ["1", "2"]) await change(room, first, true, false);
  return room;
}

/** At the end: the log and the marks equal the model's, and every message was announced once, as it is stored. */
async function compare(room: Room): Promise<void> {
  const { id, stored, announced } = room;
  await heal(room);
  await follow(room, NOTHING, 200, 100_000);
  const [rows, marks] = await Promise.all([
    redis.zrange(keys.room(id), 0, "-1", "WITHSCORES"),
    redis.hgetall(keys.read(id)),
  ]);
  deepStrictEqual(
    rows,
    stored.rows.flatMap(({ json, score }) => [json, String(score)]),
  );
  const own = ownRows(stored);
  own.forEach(({ head, score, json }, index) => {
    const { roomId, seq, date, hash } = JSON.parse(json) as Head & { roomId: string };
    deepStrictEqual({ roomId, seq, date, hash }, { roomId: id, ...head });
    equal(date, score);
    if (index > 0) ok(seq > (own[index - 1]?.head?.seq ?? 0));
  });
  deepStrictEqual(
    marks,
    Object.fromEntries(
      [...stored.marks].filter(([, mark]) => mark > 0).map(([who, mark]) => [who, String(mark)]),
    ),
  );
  await until(() => (heard.get(id) ?? []).length >= announced.length);
  deepStrictEqual(heard.get(id) ?? [], announced);
  heard.delete(id);
  // Nobody may be in more than 1,000 rooms.
  await Promise.all(USERS.map((one) => redis.srem(keys.userRooms(one), id)));
}

/** Plays histories in turns, one step of each at a time. Throws with the seed and the steps that fail. */
async function play<T, S>(
  count: number,
  steps: fc.Arbitrary<S>,
  begin: (index: number) => Promise<T>,
  carryOut: (world: T, now: S) => Promise<void>,
  end: (world: T) => Promise<void>,
): Promise<void> {
  const seed = Number(process.env["MODEL_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  const histories = fc.sample(fc.array(steps, { minLength: 12, maxLength: 24, size: "max" }), {
    numRuns: count,
    seed,
  });
  for (let first = 0; first < count; first += AT_ONCE) {
    const turn = histories.slice(first, first + AT_ONCE);
    const explain = (index: number, done: number) => (error: unknown) => {
      const told = JSON.stringify(turn[index]?.slice(0, done + 1));
      throw new Error(`seed ${seed}, history ${first + index}: ${told}`, { cause: error });
    };
    const worlds = await Promise.all(turn.map((_, index) => begin(first + index)));
    const length = Math.max(...turn.map((history) => history.length));
    for (let at = 0; at < length; at += 1) {
      await Promise.all(
        turn.map(async (history, index) => {
          const world = worlds[index];
          const now = history[at];
          if (world && now) await carryOut(world, now).catch(explain(index, at));
        }),
      );
    }
    await Promise.all(worlds.map((world, index) => end(world).catch(explain(index, length))));
  }
}

it(
  "a room's log, marks and answers equal a plain list's, whatever is repeated, lost, trimmed, removed, added or failed over",
  { timeout: 180_000 },
  () => play(HISTORIES, step, enter, take, compare),
);

type Presence = {
  keys: string[];
  /** `<user>|<server>`, and whether the lease has run out. */
  leases: Map<string, boolean>;
  online: Set<string>;
};

const SERVERS = ["left", "right", "third"];
const LEASE_MS = 600_000;
const some = fc.subarray(USERS, { minLength: 1 });
const presenceStep = fc.oneof(
  fc.record({
    do: fc.constant("renew" as const),
    server: fc.constantFrom(...SERVERS),
    users: some,
    ranOut: fc.boolean(),
  }),
  fc.record({ do: fc.constant("drop" as const), server: fc.constantFrom(...SERVERS), users: some }),
  fc.record({ do: fc.constant("sweep" as const), most: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ do: fc.constant("lose" as const) }),
  fc.record({ do: fc.constant("mend" as const), lost: fc.constantFrom("online", "leases", "count") }),
);
type PresenceStep = typeof presenceStep extends fc.Arbitrary<infer T> ? T : never;

async function takePresence(world: Presence, now: PresenceStep): Promise<void> {
  const { keys: four, leases: held, online } = world;
  const [onlineKey = "", leasesKey = "", countKey = ""] = four;
  const end = (gone: string[]) => {
    for (const lease of gone) held.delete(lease);
    const users = [...new Set(gone.map((lease) => lease.split("|")[0] ?? ""))];
    const offline = users.filter((one) => ![...held.keys()].some((lease) => lease.startsWith(`${one}|`)));
    for (const one of offline) online.delete(one);
    return offline;
  };
  switch (now.do) {
    case "renew": {
      const came = now.users.filter((one) => !online.has(one));
      for (const one of now.users) {
        online.add(one);
        held.set(`${one}|${now.server}`, now.ranOut);
      }
      // A lease of negative length has run out.
      deepStrictEqual(
        await leases(four, ["renew", now.server, now.ranOut ? -1 : LEASE_MS, ...now.users]),
        came,
      );
      return;
    }
    case "drop": {
      const gone = end(now.users.map((one) => `${one}|${now.server}`).filter((lease) => held.has(lease)));
      deepStrictEqual(await leases(four, ["drop", now.server, LEASE_MS, ...now.users]), gone);
      return;
    }
    case "sweep": {
      const ranOut = [...held].flatMap(([lease, isOver]) => (isOver ? [lease] : []));
      const offline = (await leases(four, ["sweep", now.most, LEASE_MS])) as string[];
      const left = new Set(await redis.zrange(leasesKey, 0, "-1"));
      const gone = [...held.keys()].filter((lease) => !left.has(lease));
      equal(gone.length, Math.min(now.most, ranOut.length));
      ok(gone.every((lease) => ranOut.includes(lease)));
      deepStrictEqual(offline.toSorted(), end(gone).toSorted());
      return;
    }
    case "lose":
      // Renewing announces a user again.
      online.clear();
      await redis.del(onlineKey);
      return;
    case "mend": {
      if (now.lost === "online") online.clear();
      if (now.lost === "leases") held.clear();
      await redis.del({ online: onlineKey, leases: leasesKey, count: countKey }[now.lost] ?? "");
      const isHeld = (one: string) => SERVERS.some((server) => held.has(`${one}|${server}`));
      const gone = USERS.filter((one) => online.has(one) && !isHeld(one));
      for (const one of gone) online.delete(one);
      deepStrictEqual(await leases(four, ["mend", SERVERS.length, LEASE_MS, ...SERVERS, ...USERS]), gone);
    }
  }
}

it("presence changes with a user's first and last lease, and at no other time", { timeout: 120_000 }, () =>
  play(
    HISTORIES / 5,
    presenceStep,
    (index) => {
      const { online, leases: held, leaseCount, edges } = createKeys(`${prefix}${index}:`);
      return Promise.resolve({
        keys: [online, held, leaseCount, edges],
        leases: new Map<string, boolean>(),
        online: new Set<string>(),
      });
    },
    takePresence,
    async ({ keys: [onlineKey = "", leasesKey = "", countKey = ""], leases: held, online }) => {
      const [users, lines, counts] = await Promise.all([
        redis.smembers(onlineKey),
        redis.zrange(leasesKey, 0, "-1"),
        redis.hgetall(countKey),
      ]);
      deepStrictEqual(users.toSorted(), [...online].toSorted());
      deepStrictEqual(lines.toSorted(), [...held.keys()].toSorted());
      const expected = Object.fromEntries(
        USERS.flatMap((one) => {
          const count = [...held.keys()].filter((lease) => lease.startsWith(`${one}|`)).length;
          return count > 0 ? [[one, String(count)]] : [];
        }),
      );
      deepStrictEqual({ ...counts }, expected);
    },
  ),
);
