import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { readConfig, type Config } from "../server/src/config.ts";
import { createKeys } from "../server/src/keys.ts";
import type { Message, Page, Room } from "../server/src/protocol.ts";
import { connectRedis } from "../server/src/store/redis.ts";
import { chain } from "../server/src/store/codec.ts";
import { Files } from "../server/src/store/files.ts";
import { Log } from "../server/src/store/log.ts";
import { Members } from "../server/src/store/members.ts";
import { Rooms } from "../server/src/store/rooms.ts";
import { RESTORING } from "../server/src/store/schema.ts";
import { startServer } from "../server/src/server.ts";
import {
  Browser,
  both,
  commandsDuring,
  connect,
  ownRedis,
  person,
  replicas,
  startWire,
  testRedisUrl,
  unwrap,
  until,
  type House,
} from "../server/src/testing.ts";
import { writeArchive, type Item } from "./archive.ts";
import { backup } from "./backup.ts";
import { kindOf, readContents } from "./contents.ts";
import { startCluster } from "./prove/scenarios/backends.ts";
import { findRedis, startRedis } from "./redis.ts";
import { main as restoreMain, restore } from "./restore.ts";

const folder = mkdtempSync(join(tmpdir(), "hubbub backup "));
const houses: House[] = [];
const redis = new Redis(testRedisUrl());
const prefixes: string[] = [];

function configOf(more: Record<string, string> = {}): Config {
  const prefix = `test-${randomBytes(6).toString("hex")}:`;
  prefixes.push(prefix);
  return readConfig({ REDIS_URL: testRedisUrl(), KEY_PREFIX: prefix, PORT: "0", CLIENT_DIR: "off", ...more });
}

/** Restores, under another prefix, what a backup read; answers where it is now. */
async function restoreOf(from: Config, items: AsyncIterable<Item>): Promise<Config> {
  const file = fileName();
  const header = { schema: 2, date: new Date().toISOString(), prefix: from.keyPrefix, sessions: false };
  await writeArchive(file, header, items);
  const target = configOf();
  await restore(target, file, { again: false });
  return target;
}

async function house(count: number, env: Record<string, string> = {}): Promise<House> {
  const one = await replicas(count, env);
  houses.push(one);
  return one;
}

function fileName(): string {
  return join(folder, `${randomBytes(4).toString("hex")}.gz`);
}

const whole = { sessions: false };

afterEach(async () => {
  await Promise.all(houses.splice(0).map((one) => one.close()));
  for (const prefix of prefixes.splice(0)) {
    const left = await redis.keys(`*${prefix}*`);
    if (left.length > 0) await redis.del(left);
  }
});

afterAll(() => {
  redis.disconnect();
  rmSync(folder, { recursive: true, force: true });
});

/** Two replicas with conversations, their backup, and what people saw before it. */
async function livedIn() {
  const first = await house(2);
  const [left, right] = both(first);
  const [mary, joe] = [await person(left, "Mary"), await person(right, "Joe")];
  const { body: room } = await mary.browser.post<Room>("/api/rooms", { name: "Tea & <biscuits> ☕" });
  unwrap(await joe.socket.emitWithAck("room.join", { roomId: room.id }));
  for (const text of ["one", "two", "two", "👋 \u0000 \u202e"]) await joe.say(room.id, text);
  await mary.say("0", "to all");
  await joe.say("1:2", "just us");
  await mary.hears("just us");
  unwrap(await mary.socket.emitWithAck("room.read", { roomId: room.id, seq: 2 }));
  const config = readConfig(first.env);
  return { first, config, mary, joe, room };
}

async function seen(browser: Browser) {
  const { body: listed } = await browser.get<Room[]>("/api/rooms");
  // Redis lists the members of a set in any order.
  const rooms = listed.toSorted((one, other) => (one.id < other.id ? -1 : 1));
  const pages = await Promise.all(
    rooms.map(({ id }) => browser.get<Page>(`/api/rooms/${id}/messages`).then(({ body }) => body)),
  );
  return { rooms, pages };
}

describe("a backup of damaged data", () => {
  /** Backs up, restores elsewhere, and tells what stderr said of it. */
  const moved = async (config: Config) => {
    const said = vi.spyOn(console, "error").mockImplementation(() => undefined);
    onTestFinished(() => said.mockRestore());
    const file = fileName();
    await backup(config, file, whole);
    const words = said.mock.calls.map(([line]) => String(line));
    const target = configOf();
    await restore(target, file, { again: false });
    return { words, target: createKeys(target.keyPrefix) };
  };

  it.each([
    ["room", "room"],
    ["meta", "meta"],
    ["records", "records"],
    ["read", "read"],
    ["changed", "changed"],
    ["deleted", "deleted"],
  ] as const)(
    "keeps a room's %s of the wrong type as it is, names it, and can be restored",
    async (_, key) => {
      const { config, room, first } = await livedIn();
      await redis.del(first.keys[key](room.id));
      await redis.set(first.keys[key](room.id), "no such thing");
      const { words, target } = await moved(config);
      expect(words.join("\n")).toContain(`The key ${first.keys[key](room.id)} is a string, and not a `);
      expect(await redis.get(target[key](room.id))).toBe("no such thing");
      if (key !== "room") expect(await redis.zcard(target.room(room.id))).toBe(4);
      expect(await redis.zcard(target.room("0"))).toBe(1);
    },
  );

  it.each([
    ["date", "xx"],
    ["date", "5"],
    ["hash", "000000000000"],
    ["seq", "99"],
    ["seq", "1"],
  ])("keeps all of a room whose head has the %s %s, and names the room", async (field, value) => {
    const { config, room, first } = await livedIn();
    await redis.zadd(first.keys.pins(room.id), 4, "4");
    await redis.hset(first.keys.meta(room.id), field, value);
    const { words, target } = await moved(config);
    expect(words).toEqual([expect.stringContaining(`The head of room ${room.id} is not in its log`)]);
    expect(await redis.zrange(target.room(room.id), 0, "-1")).toEqual(
      await redis.zrange(first.keys.room(room.id), 0, "-1"),
    );
    expect(await redis.hget(target.meta(room.id), field)).toBe(value);
    expect(await redis.zrange(target.pins(room.id), 0, "-1")).toEqual(["4"]);
  });

  it.each([
    ["no number", "many"],
    ["of another type", undefined],
  ])("has every account if a counter is %s", async (_, counted) => {
    const { config, first } = await livedIn();
    await redis.del(first.keys.totalUsers);
    if (counted === undefined) await redis.rpush(first.keys.totalUsers, "1");
    else await redis.set(first.keys.totalUsers, counted);
    const { target } = await moved(config);
    expect(await redis.hget(target.user("2"), "username")).toBe("Joe");
    if (counted === undefined) expect(await redis.lrange(target.totalUsers, 0, "-1")).toEqual(["1"]);
    else expect(await redis.get(target.totalUsers)).toBe("2");
  });
});

describe("two backups under one name at once", () => {
  it("leave one that is whole, and the other says why there is none", async () => {
    const { config, first } = await livedIn();
    const file = fileName();
    const run = join(import.meta.dirname, "run.mjs");
    const env = { PATH: process.env["PATH"], ...first.env };
    const codes = await Promise.all(
      [1, 2].map(
        () =>
          new Promise((ended) => {
            spawn(process.execPath, [run, "backup", file], { env, stdio: "ignore" }).once("exit", ended);
          }),
      ),
    );
    expect(new Set(codes)).toEqual(new Set([0, 73]));
    expect(readdirSync(folder).filter((name) => name.includes("part"))).toEqual([]);
    const own = await ownRedis({ persistent: false });
    onTestFinished(() => own.close());
    const elsewhere = readConfig({ ...first.env, REDIS_URL: own.url, KEY_PREFIX: config.keyPrefix });
    expect(await restore(elsewhere, file, { again: false })).toMatchObject({ messages: 6 });
  });
});

describe("a backup", () => {
  it("brings everything back into an empty Redis: two replicas there know people, rooms, history and unread counts", async () => {
    const { config, mary, joe } = await livedIn();
    const before = [await seen(mary.browser), await seen(joe.browser)];
    const file = fileName();
    const counts = await backup(config, file, whole);
    expect(counts).toMatchObject({ messages: 6, rooms: 3 });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder).filter((name) => name.endsWith(".part"))).toEqual([]);

    const own = await ownRedis({ persistent: false });
    try {
      const elsewhere = readConfig({ REDIS_URL: own.url, KEY_PREFIX: "moved:" });
      expect(await restore(elsewhere, file, { again: false })).toEqual({ ...counts, mended: 0 });
      const second = await house(2, { REDIS_URL: own.url, KEY_PREFIX: "moved:" });
      const [left, right] = both(second);
      for (const [index, replica, name] of [
        [0, left, "Mary"],
        [1, right, "Joe"],
      ] as const) {
        const browser = new Browser(replica);
        // The backup has no sessions, unless they are asked for.
        expect((await new Browser(replica).get("/api/me")).status).toBe(401);
        const { status } = await browser.post("/api/login", { username: name, password: "correct horse" });
        expect(status).toBe(200);
        expect(await seen(browser)).toEqual(before[index]);
      }
      // The numbers of people, rooms and messages continue.
      const ann = await person(left, "Ann");
      expect(ann.user.id).toBe("3");
      expect((await ann.say("0", "I am new")).seq).toBe(2);
      await Promise.all(second.replicas.map((replica) => replica.close()));
    } finally {
      houses.pop()?.redis.disconnect();
      await own.close();
    }
  }, 120_000);

  it("holds sessions, and the secret that signs their cookies, only with --sessions", async () => {
    const { config, mary } = await livedIn();
    const file = fileName();
    await backup(config, file, { sessions: true });
    const target = configOf();
    await restore(target, file, { again: false });
    const second = await house(1, { KEY_PREFIX: target.keyPrefix });
    const browser = new Browser(second.replicas[0] ?? both(second)[0]);
    browser.cookie = mary.browser.cookie;
    expect((await browser.get("/api/me")).status).toBe(200);
    const without = fileName();
    await backup(config, without, whole);
    const text = gunzipSync(readFileSync(without)).toString();
    expect(text).not.toMatch(/"sess:|session_secret|online_users|limit:|"string","schema"/);
  });

  it("holds each room's log complete up to its head, though people talk, join and sign up meanwhile", async () => {
    const { first, config, mary, room } = await livedIn();
    let stop = false;
    const members = new Members(first.redis, first.keys, config);
    const rooms = new Rooms(first.redis, first.keys, members);
    const log = new Log(first.redis, first.keys, config);
    const talk = async (roomId: string) => {
      for (let count = 0; !stop; count += 1)
        await log.append("1", { roomId, message: `message ${count}`, nonce: `w${roomId}${count}` });
    };
    const others = (async () => {
      for (let count = 0; !stop && count < 50; count += 1) {
        const id = `${10 + count}`;
        await redis.hset(first.keys.user(id), { username: `late${count}`, password: "x" });
        await redis.sadd(first.keys.userRooms(id), "0");
        await redis.incr(first.keys.totalUsers);
        await redis.set(first.keys.username(`late${count}`), `user:${id}`);
        await members.join(room.id, id);
        await rooms.read("0", id, 1_000_000);
      }
    })();
    const talking = [talk("0"), talk(room.id), talk("1:2")];
    const files = [fileName(), fileName(), fileName()];
    for (const file of files) await backup(config, file, whole);
    stop = true;
    await Promise.all([...talking, others]);
    mary.close();

    for (const file of files) {
      const target = configOf();
      const keys = createKeys(target.keyPrefix);
      const { messages } = await restore(target, file, { again: false });
      let found = 0;
      for (const id of ["0", room.id, "1:2"]) {
        const rows = await redis.zrange(keys.room(id), "0", "-1");
        found += rows.length;
        let last = "";
        for (const [index, row] of rows.entries()) {
          const { seq, date, hash } = JSON.parse(row) as Message;
          expect(seq).toBe(index + 1);
          const tail = row.slice(row.indexOf('"from":'));
          expect(hash).toBe(chain(last, date ?? 0, tail));
          last = hash ?? "";
        }
        expect(await redis.hget(keys.meta(id), "hash")).toBe(last);
        for (const mark of await redis.hvals(keys.read(id)))
          expect(Number(mark)).toBeLessThanOrEqual(rows.length);
      }
      expect(found).toBe(messages);
      // Every name leads to an account, and no counter is below an id.
      for (const claim of await redis.keys(`${keys.username("")}*`)) {
        const id = (await redis.get(claim))?.replace("user:", "") ?? "";
        expect(await redis.hexists(keys.user(id), "password")).toBe(1);
        expect(Number(await redis.get(keys.totalUsers))).toBeGreaterThanOrEqual(Number(id));
      }
    }
  }, 120_000);

  it("names no message and no change beyond a room's head, though people answer, mention, pin, edit and delete meanwhile", async () => {
    const { config, mary, joe, room } = await livedIn();
    const roomId = room.id;
    let isOver = false;
    const ask = async (replyTo: number, count: number) => {
      const said = unwrap(
        await joe.socket.emitWithAck("message", {
          roomId,
          message: `@Mary ${count}`,
          nonce: `b${count}`,
          replyTo,
        }),
      );
      const { seq } = said;
      if (count % 3 === 0) await mary.socket.emitWithAck("message.pin", { roomId, seq, on: true });
      if (count % 3 === 1) await joe.socket.emitWithAck("message.delete", { roomId, seq });
      await mary.socket.emitWithAck("message.react", {
        roomId,
        seq: 1 + (count % 4),
        emoji: "👍",
        on: count % 2 === 0,
      });
    };
    const talking = Array.from({ length: 4 }, async (_, place) => {
      for (let count = place; !isOver; count += 4) await ask(1, count);
    });
    const files = [fileName(), fileName(), fileName(), fileName()];
    for (const file of files) await backup(config, file, whole);
    isOver = true;
    await Promise.all(talking);
    for (const one of [mary, joe]) one.close();

    for (const file of files) {
      const target = configOf();
      const keys = createKeys(target.keyPrefix);
      await restore(target, file, { again: false });
      const head = Number(await redis.hget(keys.meta(roomId), "seq"));
      const rev = Number(await redis.hget(keys.meta(roomId), "rev"));
      for (const key of [
        keys.thread(roomId, 1),
        keys.mentions(roomId, mary.user.id),
        keys.deleted(roomId),
        keys.pins(roomId),
      ])
        expect(Math.max(0, ...(await redis.zrange(key, "0", "-1")).map(Number))).toBeLessThanOrEqual(head);
      const rows = (await redis.zrange(keys.room(roomId), "0", "-1")).map(
        (row) => JSON.parse(row) as Message,
      );
      expect(rows.length).toBe(head);
      expect(Math.max(...rows.map((row) => row.rev ?? 0))).toBeLessThanOrEqual(rev);
      const [, last = "0"] = await redis.zrevrange(keys.changed(roomId), 0, 0, "WITHSCORES");
      expect(Number(last)).toBeLessThanOrEqual(rev);
    }
  }, 120_000);

  it("holds that a room is an invite room, and what was said there, if it was made meanwhile", async () => {
    const { first, config, mary } = await livedIn();
    let made: Room | undefined;
    const meanwhile = async function* () {
      for await (const item of readContents(redis, first.keys, whole)) {
        yield item;
        const isLog = "room" in item || kindOf(item.name) === "log";
        if (isLog || made) continue;
        made = await mary.makes({ name: "The secret", kind: "invite" });
        await mary.say(made.id, "between us");
      }
    };
    const target = await restoreOf(config, meanwhile());
    mary.close();
    const second = await house(1, { KEY_PREFIX: target.keyPrefix });
    const [replica] = second.replicas;
    if (!replica || !made) throw new Error("nothing was made");
    const [stranger, again] = [await person(replica, "Stranger"), new Browser(replica)];
    const open = await stranger.browser.get<{ name: string }[]>("/api/rooms/directory");
    expect(open.body.map(({ name }) => name)).not.toContain("The secret");
    await again.post("/api/login", { username: "Mary", password: "correct horse" });
    const { body } = await again.get<Page>(`/api/rooms/${made.id}/messages`);
    expect(body.messages.map(({ message }) => message)).toEqual(["between us"]);
    stranger.close();
  });

  it("counts the bytes of each file once, and each that nobody has is looked at, though files come and go meanwhile", async () => {
    const { first, config, mary, room } = await livedIn();
    const { address, cookie } = mary.browser;
    const upload = async (bytes: number) => {
      const headers = { origin: address, cookie, "x-file-name": "a.bin", "x-room-id": room.id };
      const body = Buffer.alloc(bytes, 7);
      const answer = await fetch(`${address}/api/files`, { method: "POST", headers, body });
      return ((await answer.json()) as { id: string }).id;
    };
    const send = async (nonce: string, id: string) =>
      unwrap(await mary.socket.emitWithAck("message", { roomId: room.id, message: "", nonce, files: [id] }));
    await send("before", await upload(1));
    const [removed, sent] = [await upload(20), await upload(300)];
    const { filesDue, filesSizes, filesUsed } = createKeys("");
    const read: Item[] = [];
    for await (const item of readContents(redis, first.keys, whole)) read.push(item);
    // In the order that loses most.
    const isOf = (key: string) => (item: Item) => "name" in item && item.name === key;
    const meanwhile = async function* () {
      yield* read.filter((item) => ![filesDue, filesSizes, filesUsed].some((key) => isOf(key)(item)));
      yield* read.filter(isOf(filesSizes));
      await mary.browser.fetch("DELETE", `/api/files/${removed}`);
      await send("meanwhile", sent);
      await until(async () => (await redis.zcard(first.keys.filesDue)) === 0);
      await upload(4_000);
      for await (const item of readContents(redis, first.keys, whole))
        if (isOf(filesUsed)(item) || isOf(filesDue)(item)) yield item;
    };
    const target = await restoreOf(config, meanwhile());
    mary.close();
    const keys = createKeys(target.keyPrefix);
    const client = await connectRedis(target.redisUrl, "commands", pino({ level: "silent" }));
    onTestFinished(() => client.disconnect());
    const files = new Files(client, keys);
    const due = await files.due(Date.now(), 10);
    expect(due).toEqual(expect.arrayContaining([removed, sent]));
    for (const id of due) await files.forget(id);
    expect(await files.used(mary.user.id)).toBe(1);
  });

  it("is restored whole, and then mended, in whatever order Redis names the keys that are mended", async () => {
    const config = await small();
    const from = createKeys(config.keyPrefix);
    await redis.hset(from.roomFiles("1:2"), { before: "#1", beyond: "#2" });
    await redis.hset(from.filesSizes, { before: "1:10", beyond: "1:20", arriving: "1:30" });
    await redis.zadd(from.filesDue, 1, "arriving");
    await redis.zadd(from.changed("1:2"), 7, "@1");
    await redis.zadd(from.pins("1:2"), 7, "2");
    await redis.sadd(from.userRooms("2"), "99");
    // Few keys would all be read at once.
    for (let count = 0; count < 300; count += 1) await redis.zadd(from.thread("1:2", count), 1, "1");
    const file = fileName();
    await backup(config, file, whole);
    // It differs from prefix to prefix.
    for (let count = 0; count < 12; count += 1) {
      const target = configOf();
      const keys = createKeys(target.keyPrefix);
      expect(await restore(target, file, { again: false })).toMatchObject({ mended: 1 });
      expect(await redis.hgetall(keys.roomFiles("1:2"))).toEqual({ before: "#1" });
      expect((await redis.zrange(keys.filesDue, 0, "-1")).toSorted()).toEqual(["arriving", "beyond"]);
      expect(await redis.hget(keys.meta("1:2"), "rev")).toBe("7");
      expect(await redis.zcard(keys.pins("1:2"))).toBe(0);
      expect((await redis.smembers(keys.userRooms("2"))).toSorted()).toEqual(["0", "1:2"]);
    }
  });

  it("has all of a deletion or nothing, though messages with files, mentions and pins are deleted meanwhile", async () => {
    const { first, config, mary, joe, room } = await livedIn();
    const roomId = room.id;
    const { address, cookie } = joe.browser;
    const said: { seq: number; file: string }[] = [];
    for (let count = 0; count < 3; count += 1) {
      const headers = { origin: address, cookie, "x-file-name": "a.bin", "x-room-id": roomId };
      const answer = await fetch(`${address}/api/files`, { method: "POST", headers, body: "secret bytes" });
      const { id } = (await answer.json()) as { id: string };
      const sent = { roomId, message: `@Mary secret ${count}`, nonce: `d${count}`, files: [id] };
      const { seq } = unwrap(await joe.socket.emitWithAck("message", sent));
      unwrap(await mary.socket.emitWithAck("message.pin", { roomId, seq, on: true }));
      said.push({ seq, file: id });
    }
    const [early, late, kept] = said as [{ seq: number; file: string }, (typeof said)[0], (typeof said)[0]];
    const remove = async ({ seq }: { seq: number }) =>
      unwrap(await joe.socket.emitWithAck("message.delete", { roomId, seq }));
    const kinds = new Set<string>();
    const names: string[] = [];
    const meanwhile = async function* () {
      for await (const item of readContents(redis, first.keys, whole)) {
        const kind = "room" in item ? "log" : kindOf(item.name);
        // Once its row was read; and once all was read that names it.
        if (kind === "plain" && !kinds.has(kind)) await remove(early);
        if (kind === "late" && !kinds.has(kind)) await remove(late);
        kinds.add(kind);
        if ("name" in item && item.name.startsWith(`{room:${roomId}}:`)) names.push(item.name);
        yield item;
      }
    };
    const target = await restoreOf(config, meanwhile());
    for (const one of [mary, joe]) one.close();
    expect(names.at(-1)).toMatch(/:nonce:/);
    expect(names.findLast((name) => kindOf(name) !== "nonce")).toBe(`{room:${roomId}}:deleted`);

    const keys = createKeys(target.keyPrefix);
    const rows = (await redis.zrange(keys.room(roomId), "0", "-1")).map((row) => JSON.parse(row) as Message);
    const deleted = (await redis.zrange(keys.deleted(roomId), 0, "-1")).map(Number);
    expect(deleted).toEqual([early.seq, late.seq]);
    expect(rows.flatMap((row) => (row.deleted === undefined ? [] : row.seq))).toEqual(deleted);
    expect(JSON.stringify(rows)).not.toMatch(/secret [01]/);
    const left = [String(kept.seq)];
    expect(await redis.zrange(keys.pins(roomId), 0, "-1")).toEqual(left);
    expect(await redis.zrange(keys.mentions(roomId, mary.user.id), 0, "-1")).toEqual(left);
    expect(await redis.hgetall(keys.roomFiles(roomId))).toEqual({ [kept.file]: `#${kept.seq}` });
    // Whose file is not due, is wholly gone by then.
    const due = await redis.zrange(keys.filesDue, 0, "-1");
    for (const { file: id } of [early, late])
      expect(due.includes(id) || (await redis.exists(keys.file(id))) === 0).toBe(true);
    // A client that knows a row as it was believes the deletion.
    const [rev, newest] = [
      await redis.hget(keys.meta(roomId), "rev"),
      Math.max(...rows.map((row) => row.rev ?? 0)),
    ];
    expect(newest).toBe(Number(rev));
  });

  it.each([
    ["answers, mentions or pins", ["thread:1", "mentions:1", "pins"]],
    ["deletions", ["deleted"]],
  ])(
    "holds of a room's long list of %s what its head covers, and the restore compares all of it",
    async (_, lists) => {
      const { first, config, room } = await livedIn();
      const listed = lists.map(
        (list) => (keys: typeof first.keys) => `${keys.meta(room.id).replace(/meta$/, "")}${list}`,
      );
      const seqs = Array.from({ length: 650 }, (__, index) => index + 1);
      for (const list of listed) await redis.zadd(list(first.keys), ...seqs.flatMap((seq) => [seq, seq]));
      const file = fileName();
      await backup(config, file, whole);
      const target = configOf();
      await restore(target, file, { again: false });
      for (const list of listed)
        expect(await redis.zrange(list(createKeys(target.keyPrefix)), "0", "-1")).toEqual([
          "1",
          "2",
          "3",
          "4",
        ]);
    },
  );

  it("raises lost counters, and does not count a user who was just leaving a room as a member", async () => {
    const { first, config, room } = await livedIn();
    await redis.del(first.keys.totalUsers, first.keys.totalRooms);
    await redis.hdel(first.keys.records(room.id), "2");
    const file = fileName();
    await backup(config, file, whole);
    const target = configOf();
    const keys = createKeys(target.keyPrefix);
    expect(await restore(target, file, { again: false })).toMatchObject({ mended: 1 });
    expect(await redis.get(keys.totalUsers)).toBe("2");
    expect(await redis.get(keys.totalRooms)).toBe(room.id);
    expect(await redis.smembers(keys.userRooms("2"))).not.toContain(room.id);
    expect(await redis.smembers(keys.userRooms("1"))).toContain(room.id);
  });

  it("holds every byte of every type that Redis has, its expiry, and nothing of another prefix", async () => {
    const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array));
    const some = fc.uniqueArray(bytes, {
      minLength: 1,
      maxLength: 400,
      selector: (one) => one.toString("latin1"),
    });
    await fc.assert(
      fc.asyncProperty(
        bytes,
        some,
        fc.array(fc.double({ noNaN: true }), { minLength: 1, maxLength: 400 }),
        async (name, values, scores) => {
          const from = configOf();
          const key = (kind: string) => Buffer.concat([Buffer.from(`${from.keyPrefix}room:${kind}`), name]);
          await Promise.all([
            redis.set(createKeys(from.keyPrefix).totalUsers, "1"),
            redis.set(key("string"), values[0] ?? ""),
            redis.set(key("brief"), "gone soon", "PX", 600_000),
            redis.hset(key("hash"), ...values.flatMap((value) => [value, value])),
            redis.sadd(key("set"), ...values),
            redis.zadd(
              key("zset"),
              ...values.flatMap((value, index) => [String(scores[index % scores.length]), value]),
            ),
            redis.rpush(key("list"), ...values),
            redis.xadd(key("stream"), "*", ...values.flatMap((value) => [value, value])),
            redis.set(`x${from.keyPrefix}room:0`, "another's"),
          ]);
          const file = fileName();
          await backup(from, file, whole);
          const to = configOf();
          await restore(to, file, { again: false });
          for (const kind of ["string", "hash", "set", "zset", "list", "stream"]) {
            const [before, after] = [
              key(kind),
              Buffer.concat([Buffer.from(`${to.keyPrefix}room:${kind}`), name]),
            ];
            expect(await contentOf(after, kind)).toEqual(await contentOf(before, kind));
          }
          const brief = Buffer.concat([Buffer.from(`${to.keyPrefix}room:brief`), name]);
          expect(await redis.pexpiretime(brief)).toBe(await redis.pexpiretime(key("brief")));
          expect(await redis.keys(`x${to.keyPrefix}*`)).toEqual([]);
        },
      ),
      { numRuns: 15 },
    );
  }, 120_000);
});

async function contentOf(key: Buffer, kind: string): Promise<unknown> {
  const sorted = (all: Buffer[]) => all.map((one) => one.toString("latin1")).toSorted();
  if (kind === "string") return redis.getBuffer(key);
  if (kind === "hash") return sorted((await redis.hscanBuffer(key, 0, "COUNT", 10_000))[1]);
  if (kind === "set") return sorted(await redis.smembersBuffer(key));
  if (kind === "zset") return redis.zrangeBuffer(key, "0", "-1", "WITHSCORES");
  if (kind === "list") return redis.lrangeBuffer(key, 0, -1);
  return redis.xrangeBuffer(key, "-", "+");
}

describe("a backup of nothing", () => {
  it("is refused with exit code 66 and leaves no file: it was asked of the wrong Redis", async () => {
    const file = fileName();
    const empty = configOf();
    await expect(backup(empty, file, whole)).rejects.toMatchObject({
      exitCode: 66,
      message: expect.stringContaining(`KEY_PREFIX=${empty.keyPrefix} in this Redis`) as string,
    });
    expect(readdirSync(folder).filter((name) => join(folder, name).startsWith(file))).toEqual([]);
  });

  it("is refused as well where a server runs on it: Redis has lost everything", async () => {
    const file = fileName();
    const { env } = await house(1);
    await expect(backup(readConfig(env), file, whole)).rejects.toMatchObject({ exitCode: 66 });
    expect(existsSync(file)).toBe(false);
  });
});

describe("a restore", () => {
  it.each([
    ["cut short", (bytes: Buffer) => bytes.subarray(0, bytes.length - 40), /is cut short|is damaged/],
    ["cut after a line", (bytes: Buffer) => repack(bytes, (lines) => lines.slice(0, -2)), /is cut short/],
    ["without one line", (bytes: Buffer) => repack(bytes, (lines) => lines.toSpliced(3, 1)), /was altered/],
    [
      "with another text",
      (bytes: Buffer) => repack(bytes, (lines) => lines.map((line) => line.replace("just us", "just me"))),
      /was altered/,
    ],
    ["with a flipped bit", (bytes: Buffer) => flip(bytes), /is damaged|is altered|is no whole backup/],
    [
      "with more after its end",
      (bytes: Buffer) => repack(bytes, (lines) => [...lines, "{}", ""]),
      /follows its end/,
    ],
    ["that is no gzip", () => Buffer.from("total_users 6"), /is not packed with gzip/],
    ["that is another program's", () => gzipSync('{"a":1}\n'), /is of another program/],
    ["that is empty", () => Buffer.alloc(0), /is cut short/],
    [
      "of a newer format",
      (bytes: Buffer) =>
        repack(bytes, (lines) => lines.map((line) => line.replace('"format":1', '"format":2'))),
      /newer Hubbub, in format 2/,
    ],
    [
      "of a newer schema",
      () => archiveOf({ hubbub: "backup", format: 1, schema: 3, date: "", prefix: "", sessions: false }),
      /newer Hubbub \(schema 3/,
    ],
  ])("refuses a file %s, with one line, and writes nothing", async (_what, spoil, words) => {
    const file = fileName();
    await backup(await small(), file, whole);
    writeFileSync(file, spoil(readFileSync(file)));
    const target = configOf();
    const error = await restore(target, file, { again: false }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ exitCode: 65, message: expect.stringMatching(words) as string });
    expect((error as Error).message).not.toContain("\n");
    expect(await redis.keys(`*${target.keyPrefix}*`)).toEqual([]);
  });

  it("refuses a Redis that is not empty, or that a server runs on, and leaves it as it is", async () => {
    const file = fileName();
    const from = await small();
    await backup(from, file, whole);
    await expect(restore(from, file, { again: false })).rejects.toMatchObject({
      exitCode: 69,
      message: expect.stringContaining("is not empty") as string,
    });
    await expect(restore(from, file, { again: true })).rejects.toThrow("nothing is removed");
    const running = await house(1);
    await expect(restore(readConfig(running.env), file, { again: true })).rejects.toThrow("A server runs");
  });

  it("leaves a mark if it is interrupted: no server starts, no other restore writes, and --again finishes it", async () => {
    const { config } = await livedIn();
    const file = fileName();
    await backup(config, file, whole);
    const own = await ownRedis({ persistent: false });
    const client = new Redis(own.url);
    try {
      await client.call("ACL", "SETUSER", "weak", "on", ">word", "~*", "&*", "+@all", "-zadd");
      const weak = readConfig({ REDIS_URL: own.url.replace("//", "//weak:word@") });
      await expect(restore(weak, file, { again: false })).rejects.toThrow("may not run ZADD");
      const target = readConfig({ REDIS_URL: own.url, PORT: "0", CLIENT_DIR: "off" });
      expect(await client.get("schema")).toMatch(/^restoring the backup of \d{4}-/);
      const started = startServer(target, pino({ level: "silent" }));
      await expect(started).rejects.toThrow(/holds half a backup.*npm run restore -- --again/);
      await expect(backup(target, fileName(), whole)).rejects.toThrow("holds half a backup");
      await expect(restore(target, file, { again: false })).rejects.toThrow(/half a backup.*--again/);
      await client.set("room:0:name", "left over");
      await restore(target, file, { again: true });
      expect(await client.get("schema")).toBe("2");
      expect(await client.get("room:0:name")).toBe("General");
      const server = await startServer({ ...target, drainMs: 0 }, pino({ level: "silent" }));
      await server.close();
    } finally {
      client.disconnect();
      await own.close();
    }
  }, 40_000);

  it("that still runs ends once another one with --again has taken over, and at no moment a server may start", async () => {
    const { config } = await livedIn();
    const file = fileName();
    await backup(config, file, whole);
    const target = configOf();
    const mark = createKeys(target.keyPrefix).schema;
    let isHeld = false;
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      // All that follows the mark waits.
      if (from === "replica" && isHeld) await held;
      isHeld ||= chunk.includes(RESTORING);
      return chunk;
    });
    onTestFinished(wire.close);
    const slow = restore({ ...target, redisUrl: wire.url }, file, { again: false }).catch(
      (error: unknown) => error,
    );
    await until(async () => (await redis.get(mark)) !== null);
    const commands = await commandsDuring(async () => {
      await restore(target, file, { again: true });
    });
    const onMark = commands.filter((words) => words.includes(mark)).map(([name = ""]) => name.toLowerCase());
    expect(onMark).toContain("get");
    expect(onMark).not.toContain("del");
    expect(onMark).not.toContain("unlink");
    expect(await redis.get(mark)).toBe("2");
    release();
    expect(await slow).toMatchObject({
      exitCode: 69,
      message: expect.stringContaining("Another restore has begun here anew") as string,
    });
    expect(await redis.get(mark)).toBe("2");
  });

  it("says that it is to be run again with --again only if it has begun", async () => {
    const file = fileName();
    await backup(await small(), file, whole);
    const said = async (env: Record<string, string>) => {
      for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
      try {
        return await restoreMain([file]).catch((error: unknown) => error);
      } finally {
        vi.unstubAllEnvs();
      }
    };
    expect(await said({ REDIS_URL: "redis://127.0.0.1:1", KEY_PREFIX: "" })).toMatchObject({
      exitCode: 69,
      message: expect.stringMatching(/^Nothing was restored\. (?!.*--again)/) as string,
    });
    const own = await ownRedis({ persistent: false, args: ["user weak on >word ~* &* +@all -hset"] });
    onTestFinished(() => own.close());
    expect(await said({ REDIS_URL: own.url.replace("//", "//weak:word@"), KEY_PREFIX: "" })).toMatchObject({
      exitCode: 69,
      message: expect.stringMatching(
        /^The restore did not finish: .* Run it again with --again\.$/,
      ) as string,
    });
  });

  it("says that a trial's servers would remove the files of others at the same FILES_URL", async () => {
    const file = fileName();
    await backup(await small(), file, whole);
    const { redisUrl, keyPrefix } = configOf();
    for (const [name, value] of Object.entries({ REDIS_URL: redisUrl, KEY_PREFIX: keyPrefix }))
      vi.stubEnv(name, value);
    const said = vi.spyOn(console, "log").mockReturnValue();
    try {
      expect(await restoreMain([file])).toBe(0);
      expect(said.mock.calls.flat()).toContainEqual(expect.stringContaining("a FILES_URL of its own"));
    } finally {
      said.mockRestore();
      vi.unstubAllEnvs();
    }
  });

  it("starts the Redis of DATA_DIR itself if `npm start` does not run", async () => {
    const file = fileName();
    await backup(await small(), file, whole);
    const dataDir = join(folder, "data");
    for (const [name, value] of Object.entries({ DATA_DIR: dataDir, REDIS_URL: "", KEY_PREFIX: "" }))
      vi.stubEnv(name, value);
    try {
      expect(await restoreMain([file])).toBe(0);
    } finally {
      vi.unstubAllEnvs();
    }
    const started = await startRedis({ dir: join(dataDir, "redis"), persistent: true });
    const client = new Redis(started.url.replace("unix://", "").replaceAll("%20", " "));
    expect(await client.get("username:mary")).toBe("user:1");
    client.disconnect();
    await started.stop(2_000);
    expect(existsSync(join(dataDir, "redis/address.json"))).toBe(false);
  });

  it("moves data from one Redis into a Cluster, and from there into one Redis", async () => {
    const program = await findRedis(() => undefined);
    if (program.kind !== "file") return;
    const { config, mary } = await livedIn();
    const before = await seen(mary.browser);
    const file = fileName();
    const counts = await backup(config, file, whole);
    const cluster = await startCluster(mkdtempSync(join(folder, "cluster ")), program);
    try {
      await restore(readConfig({ REDIS_URL: cluster.url, KEY_PREFIX: "c:" }), file, { again: false });
      const back = fileName();
      const again = await backup(readConfig({ REDIS_URL: cluster.url, KEY_PREFIX: "c:" }), back, whole);
      expect(again).toEqual(counts);
      const target = configOf();
      await restore(target, back, { again: false });
      const second = await house(2, { KEY_PREFIX: target.keyPrefix });
      const browser = new Browser(both(second)[1]);
      const { body } = await browser.post<{ id: string; username: string }>("/api/login", {
        username: "Mary",
        password: "correct horse",
      });
      expect(await seen(browser)).toEqual(before);
      (await connect(browser, body)).close();
    } finally {
      await cluster.close();
    }
  }, 120_000);
});

it("classifies every key by whether a backup holds it", () => {
  const built = Object.values(createKeys("")).flatMap((key) =>
    typeof key === "string"
      ? key
      : typeof key === "function"
        ? String(Reflect.apply(key, undefined, ["1", "2", "n"]))
        : [],
  );
  const kinds = new Map(built.map((name) => [name, kindOf(name)]));
  expect(Object.fromEntries(kinds)).toMatchInlineSnapshot(`
    {
      "MESSAGES": "plain",
      "MESSAGES:1": "plain",
      "audit": "plain",
      "audit:rooms": "plain",
      "farewells": "plain",
      "file:1": "plain",
      "invite:1": "plain",
      "limit": "moment",
      "limit:homes:1": "moment",
      "online_users": "moment",
      "reports": "plain",
      "reset:1": "session",
      "room:1": "log",
      "room:1:name": "plain",
      "room_looks": "plain",
      "roomname:1": "claim",
      "schema": "moment",
      "seed:lock": "moment",
      "seed:people": "plain",
      "sess:": "session",
      "sess:1": "session",
      "session_secret": "session",
      "sessions:1": "session",
      "settings": "plain",
      "socket.io": "plain",
      "staff": "plain",
      "total_rooms": "counter",
      "total_users": "counter",
      "user:1": "plain",
      "user:1:favourites": "plain",
      "user:1:folded": "plain",
      "user:1:hidden": "plain",
      "user:1:notify": "plain",
      "user:1:rooms": "plain",
      "user_looks": "plain",
      "username:1": "claim",
      "{files}:due": "late",
      "{files}:sizes": "late",
      "{files}:used": "late",
      "{online_users}:count": "moment",
      "{online_users}:edges": "moment",
      "{online_users}:leases": "moment",
      "{room:1}:audit": "late",
      "{room:1}:bans": "late",
      "{room:1}:changed": "late",
      "{room:1}:deleted": "deletion",
      "{room:1}:edit:2:n": "moment",
      "{room:1}:files": "late",
      "{room:1}:invites": "late",
      "{room:1}:joined": "late",
      "{room:1}:members": "late",
      "{room:1}:mentions:2": "late",
      "{room:1}:mentions:room": "late",
      "{room:1}:meta": "log",
      "{room:1}:nonce:2:n": "nonce",
      "{room:1}:pins": "late",
      "{room:1}:read": "log",
      "{room:1}:records": "late",
      "{room:1}:reports": "late",
      "{room:1}:revs": "late",
      "{room:1}:spoke:2": "moment",
      "{room:1}:thread:2": "late",
    }
  `);
});

/** Two accounts and a few messages, stored without a server. */
async function small(): Promise<Config> {
  const config = configOf();
  const keys = createKeys(config.keyPrefix);
  const client = await connectRedis(config.redisUrl, "commands", pino({ level: "silent" }));
  const rooms = new Rooms(client, keys, new Members(client, keys, config));
  const log = new Log(client, keys, config);
  await rooms.nameGeneral();
  await redis.set(keys.totalUsers, 2);
  for (const [id, username] of [
    ["1", "Mary"],
    ["2", "Joe"],
  ] as const) {
    await redis.hset(keys.user(id), { username, password: "hash", created: 1 });
    await redis.set(keys.username(username), `user:${id}`);
    await redis.sadd(keys.userRooms(id), "0", "1:2");
  }
  await log.append("1", { roomId: "0", message: "to all", nonce: "a" });
  await log.append("1", { roomId: "1:2", message: "just us", nonce: "a" });
  client.disconnect();
  return config;
}

function repack(bytes: Buffer, change: (lines: string[]) => string[]): Buffer {
  return gzipSync(change(gunzipSync(bytes).toString().split("\n")).join("\n"));
}

function archiveOf(header: object): Buffer {
  return gzipSync(`${JSON.stringify(header)}\n`);
}

function flip(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const middle = Math.floor(copy.length / 2);
  copy[middle] = (copy[middle] ?? 0) ^ 16;
  return copy;
}
