import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { readConfig } from "../config.ts";
import { createKeys, type Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import type { Cursor, Failure, Message, Page, Room, RoomId, SyncedRoom } from "../protocol.ts";
import {
  Browser,
  both,
  commandsDuring,
  connect,
  newServer,
  person,
  replicas,
  startFuse,
  testRedisUrl,
  until,
  unwrap,
  windowOf,
  type House,
  type Person,
} from "../testing.ts";
import { Log } from "./log.ts";
import { looksOf } from "../names.ts";
import { Looks } from "./looks.ts";
import { Members } from "./members.ts";
import { Rooms } from "./rooms.ts";

let house: House;
let mary: Person;
let joe: Person;
beforeAll(async () => {
  house = await replicas(2);
  const [left, right] = both(house);
  mary = await person(left, "mary");
  joe = await person(right, "joe");
});
afterAll(() => house.close());

/** A new room of Mary and Joe. */
async function freshRoom(): Promise<RoomId> {
  const name = `room ${randomBytes(4).toString("hex")}`;
  const { id } = await mary.makes({ name });
  unwrap(await joe.socket.emitWithAck("room.join", { roomId: id }));
  return id;
}

function page(who: Person, roomId: RoomId, query = ""): Promise<Page> {
  return who.browser.get<Page>(`/api/rooms/${roomId}/messages${query}`).then(({ body }) => body);
}

async function sync(who: Person, cursor: Cursor): Promise<SyncedRoom> {
  const { rooms } = unwrap(await who.socket.emitWithAck("sync", { rooms: [cursor] }));
  const [answer] = rooms;
  if (!answer) throw new Error("a cursor without an answer");
  return answer;
}

async function stored(roomId: RoomId): Promise<Message[]> {
  const rows = await house.redis.zrange(house.keys.room(roomId), 0, "-1");
  return rows.map((row) => JSON.parse(row) as Message);
}

function texts(messages: Message[]): string[] {
  return messages.map(({ message }) => message);
}

function cursorOf(roomId: RoomId, { seq, date, hash }: Message): Cursor {
  return { roomId, seq, date, hash };
}

describe("append", () => {
  it("answers the first message for a repeated nonce, on any replica", async () => {
    const roomId = await freshRoom();
    const first = await mary.say(roomId, "once", "the-nonce");
    const { cookie } = mary.browser;
    const elsewhere = joe.browser.address;
    const again = await mary.say(roomId, "once", "the-nonce");
    const browser = new Browser({ address: elsewhere });
    browser.cookie = cookie;
    const otherWindow = await connect(browser, mary.user);
    const retried = await otherWindow.say(roomId, "once", "the-nonce");
    expect([again, retried]).toEqual([first, first]);
    expect(await stored(roomId)).toEqual([first]);
    await mary.say(roomId, "barrier");
    await joe.hears("barrier");
    expect(texts(joe.messages.filter((message) => message.roomId === roomId))).toEqual(["once", "barrier"]);
    otherWindow.close();
  });

  it("keeps the nonces of each person and room apart", async () => {
    const [one, other] = [await freshRoom(), await freshRoom()];
    await mary.say(one, "mary here", "same");
    await joe.say(one, "joe here", "same");
    await mary.say(other, "mary there", "same");
    expect(texts(await stored(one))).toEqual(["mary here", "joe here"]);
    expect(texts(await stored(other))).toEqual(["mary there"]);
  });

  it("answers a retry during the first send with the same message", async () => {
    const roomId = await freshRoom();
    const answers = await Promise.all(Array.from({ length: 20 }, () => mary.say(roomId, "twenty", "n")));
    expect(new Set(answers.map(({ seq }) => seq))).toEqual(new Set([1]));
    expect(await stored(roomId)).toHaveLength(1);
  });

  it("stores five equal texts of one millisecond as five messages", async () => {
    const roomId = await freshRoom();
    await Promise.all(Array.from({ length: 5 }, (_, index) => mary.say(roomId, "ok", `ok-${index}`)));
    expect(texts(await stored(roomId))).toEqual(["ok", "ok", "ok", "ok", "ok"]);
    expect(texts((await page(joe, roomId)).messages)).toHaveLength(5);
  });

  it("leaves no gap in seq and no equal dates when 500 messages are sent at once on two replicas", async () => {
    const roomId = await freshRoom();
    const sent = await Promise.all(
      Array.from({ length: 500 }, (_, index) =>
        (index % 2 ? mary : joe).say(roomId, `m${index}`, `m${index}`),
      ),
    );
    const log = await stored(roomId);
    expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: 500 }, (_, index) => index + 1));
    for (const [index, message] of log.entries()) {
      expect(message.date).toBeGreaterThan(log[index - 1]?.date ?? 0);
    }
    // The acknowledged messages are the stored ones.
    expect(sent.toSorted((a, b) => a.seq - b.seq)).toEqual(log);
    const scores = await house.redis.zrange(house.keys.room(roomId), 0, "-1", "WITHSCORES");
    expect(scores.filter((_, index) => index % 2).map(Number)).toEqual(log.map(({ date }) => date));
  });

  it("takes dates from Redis' clock, and never below a message with a date in the future", async () => {
    const roomId = await freshRoom();
    const before = Date.now();
    const now = await mary.say(roomId, "now");
    expect(Math.abs(now.date - before)).toBeLessThan(5_000);
    const future = now.date + 3_600_000;
    await house.redis.hset(house.keys.meta(roomId), "date", future);
    const next = await joe.say(roomId, "after the future");
    expect(next.date).toBe(future + 1);
    expect(texts((await page(mary, roomId)).messages)).toEqual(["now", "after the future"]);
  });

  it("works again after Redis forgot its scripts", async () => {
    const roomId = await freshRoom();
    await mary.say(roomId, "before");
    await house.redis.script("FLUSH");
    expect((await mary.say(roomId, "after")).seq).toBe(2);
  });

  it("stores and sends exactly the characters that were typed", async () => {
    const roomId = await freshRoom();
    const typed = [
      "a<b && c>d",
      "&lt;b&gt; &amp;amp;",
      "\"quotes\" \\back\\slash\\ 'single'",
      "line\nbreak\ttab\r\nend",
      "👩‍👩‍👧‍👦 é e\u0301 \u202eRTL\u202c \u2028 \u2029 \u0000 \u001b[31m",
      '}}]}\',"seq":99,"hash":"000000000000"',
      '","from":"999',
      "x".repeat(4_000),
      "  leading and trailing  ",
    ];
    for (const text of typed) await mary.say(roomId, text);
    for (const text of typed) await joe.hears(text);
    const heard = joe.messages.filter((message) => message.roomId === roomId);
    expect(texts(heard)).toEqual(typed);
    expect((await page(joe, roomId)).messages).toEqual(heard);
    expect(heard.every(({ from }) => from === mary.user.id)).toBe(true);
  });

  it("marks the room as read up to the message for its author alone", async () => {
    const roomId = await freshRoom();
    for (const text of ["1", "2", "3"]) await mary.say(roomId, text);
    const find = async (who: Person) =>
      (await who.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === roomId);
    expect(await find(mary)).toMatchObject({ seq: 3, read: 3, unread: 0 });
    expect(await find(joe)).toMatchObject({ seq: 3, read: 0, unread: 3, last: { message: "3" } });
  });
});

describe("a page", () => {
  let roomId: RoomId;
  beforeAll(async () => {
    roomId = await freshRoom();
    for (let index = 1; index <= 230; index += 1) await mary.say(roomId, `p${index}`);
  });
  const span = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => `p${from + index}`);

  it.each([
    ["", 50],
    ["?size=1", 1],
    ["?size=49", 49],
    ["?size=100", 100],
  ])("with %j holds exactly the newest messages, oldest first", async (query, size) => {
    const { messages, more } = await page(joe, roomId, query);
    expect(texts(messages)).toEqual(span(231 - size, 230));
    expect(more).toBe(true);
  });

  it("reads the whole log once backwards, page by page, while others write", async () => {
    const seen: string[] = [];
    let query = "?size=100";
    for (;;) {
      const { messages, more } = await page(joe, roomId, query);
      seen.unshift(...texts(messages));
      await mary.say(roomId, "written meanwhile");
      if (!more) break;
      expect(messages).toHaveLength(100);
      query = `?size=100&before=${messages[0]?.date}`;
    }
    expect(seen).toEqual(span(1, 230));
  });

  it("reads the whole log once forwards, page by page", async () => {
    const seen: string[] = [];
    let after = 0;
    for (;;) {
      const { messages, more } = await page(joe, roomId, `?size=70&after=${after}`);
      seen.push(...texts(messages));
      after = messages.at(-1)?.date ?? after;
      if (!more) break;
      expect(messages).toHaveLength(70);
    }
    expect(seen.filter((text) => text !== "written meanwhile")).toEqual(span(1, 230));
    expect(await page(joe, roomId, `?after=${after}`)).toMatchObject({ messages: [], more: false });
  });

  it("says that there is no more if it holds exactly the rest", async () => {
    const small = await freshRoom();
    for (const text of ["1", "2", "3"]) await mary.say(small, text);
    expect(await page(joe, small, "?size=3")).toMatchObject({ more: false });
    expect(await page(joe, small, "?size=2")).toMatchObject({ more: true });
    expect(await page(joe, small, "?after=0&size=3")).toMatchObject({ more: false });
    expect(await page(joe, small, "?after=0&size=2")).toMatchObject({ more: true });
  });

  it("is read once for concurrent requests, and a later request gets what was said meanwhile", async () => {
    const redis = new Redis(testRedisUrl());
    const log = new Log(redis, house.keys, { serverId: "reader", relayChannel: "rooms" } as never);
    const busy = await freshRoom();
    await mary.say(busy, "earlier");
    const read = async (cursor = { size: 50 }) =>
      texts((JSON.parse((await log.pages.pageJson(busy, cursor)).toString()) as Page).messages);
    const commands = await commandsDuring(async () => {
      const [one, ...others] = await Promise.all([
        ...Array.from({ length: 20 }, () => read()),
        read({ size: 1 }),
      ]);
      expect(one).toEqual(["earlier"]);
      for (const other of others) expect(other).toEqual(one);
      await mary.say(busy, "later");
      expect(await read()).toEqual(["earlier", "later"]);
    });
    redis.disconnect();
    const reads = commands.filter(
      ([name, key]) => name === "zrevrangebyscore" && key === house.keys.room(busy),
    );
    expect(reads).toHaveLength(3);
  });

  it("holds every message acknowledged before the request, on any replica, however many read at once", async () => {
    const busy = await freshRoom();
    let over = false;
    const readers = [mary, joe, mary, joe, mary, joe].map(async (who) => {
      while (!over) await page(who, busy, "?size=1");
    });
    for (let index = 0; index < 100; index += 1) {
      await mary.say(busy, `said ${index}`);
      const newest = await Promise.all([page(mary, busy, "?size=1"), page(joe, busy, "?size=1")]);
      expect(newest.map(({ messages }) => texts(messages))).toEqual([[`said ${index}`], [`said ${index}`]]);
    }
    over = true;
    await Promise.all(readers);
  });

  it("between two dates excludes both", async () => {
    const log = await stored(roomId);
    const [from, to] = [log[9], log[13]];
    const { messages } = await page(joe, roomId, `?after=${from?.date}&before=${to?.date}`);
    expect(texts(messages)).toEqual(span(11, 13));
  });
});

describe("sync", () => {
  it("answers exactly the rows after the cursor", async () => {
    const roomId = await freshRoom();
    const sent = [];
    for (const text of ["a", "b", "c"]) sent.push(await mary.say(roomId, text));
    const [a, , c] = sent as [Message, Message, Message];
    expect(await sync(joe, cursorOf(roomId, a))).toEqual({ roomId, messages: sent.slice(1), more: false });
    expect(await sync(joe, cursorOf(roomId, c))).toEqual({ roomId, messages: [], more: false });
    expect(await sync(joe, { roomId, seq: 0, date: 0 })).toEqual({ roomId, messages: sent, more: false });
  });

  it("answers in steps after a long absence", async () => {
    const roomId = await freshRoom();
    const first = await mary.say(roomId, "first");
    await Promise.all(Array.from({ length: 450 }, (_, index) => mary.say(roomId, `s${index}`, `s${index}`)));
    const seen: Message[] = [];
    let cursor = cursorOf(roomId, first);
    let steps = 0;
    for (;;) {
      const { messages, more, reset } = await sync(joe, cursor);
      expect(reset).toBeUndefined();
      seen.push(...messages);
      steps += 1;
      const last = messages.at(-1);
      if (last) cursor = cursorOf(roomId, last);
      if (!more) break;
    }
    expect(seen).toEqual((await stored(roomId)).slice(1));
    expect(steps).toBe(3);
  });

  it("resets a cursor that is ahead of the log", async () => {
    const roomId = await freshRoom();
    const only = await mary.say(roomId, "only");
    const answer = await sync(joe, { ...cursorOf(roomId, only), seq: 2, date: only.date + 1 });
    expect(answer).toMatchObject({ reset: "ahead", messages: [only], more: false });
  });

  it("resets a cursor whose log was rewound and grew another tail, even at equal seq and date", async () => {
    const roomId = await freshRoom();
    await mary.say(roomId, "kept");
    const lost = await mary.say(roomId, "lost");
    // Redis goes back to before the second message, and another one takes its place, with the same date.
    const { room, meta } = { room: house.keys.room(roomId), meta: house.keys.meta(roomId) };
    const kept = (await stored(roomId))[0] as Required<Message>;
    await house.redis.zremrangebyrank(room, 1, 1);
    await house.redis.hset(meta, { seq: 1, date: lost.date - 1, hash: kept.hash });
    const grown = await joe.say(roomId, "grown");
    await house.redis.zremrangebyrank(room, 1, 1);
    await house.redis.zadd(room, lost.date, JSON.stringify({ ...grown, date: lost.date }));
    await joe.say(roomId, "and on");
    const answer = await sync(joe, cursorOf(roomId, lost));
    expect(answer.reset).toBe("rewound");
    expect(texts(answer.messages)).toEqual(["kept", "grown", "and on"]);
  });

  it("resets a cursor from before the oldest kept message, but not one that just fits", async () => {
    const roomId = await freshRoom();
    const log: Message[] = [];
    for (let index = 0; index < 10; index += 1) log.push(await mary.say(roomId, `t${index}`));
    await house.redis.zremrangebyrank(house.keys.room(roomId), 0, 4);
    await house.redis.hset(house.keys.meta(roomId), "first", 6);
    const answer = await sync(joe, cursorOf(roomId, log[3] as Message));
    expect(answer.reset).toBe("trimmed");
    expect(texts(answer.messages)).toEqual(["t5", "t6", "t7", "t8", "t9"]);
    const fits = await sync(joe, cursorOf(roomId, log[6] as Message));
    expect(fits).toEqual({ roomId, messages: log.slice(7), more: false });
    // The message before the oldest kept one is gone, but none after it is missing.
    expect(texts((await sync(joe, cursorOf(roomId, log[4] as Message))).messages)).toEqual([
      "t5",
      "t6",
      "t7",
      "t8",
      "t9",
    ]);
  });

  it("tells nothing about a room of others, and answers the asker's own rooms", async () => {
    const roomId = await freshRoom();
    await mary.say(roomId, "inside");
    const [left] = both(house);
    const stranger = await person(left);
    const asked = [
      { roomId, seq: 0, date: 0 },
      { roomId: "1:2", seq: 0, date: 0 },
      { roomId: "4242", seq: 0, date: 0 },
      { roomId: "0", seq: 0, date: 0 },
    ];
    const { rooms } = unwrap(await stranger.socket.emitWithAck("sync", { rooms: asked }));
    expect(rooms.map((room) => [room.roomId, room.notFound ?? false])).toEqual([
      [roomId, true],
      ["1:2", true],
      ["4242", true],
      ["0", false],
    ]);
    expect(rooms.slice(0, 3).flatMap(({ messages }) => messages)).toEqual([]);
    stranger.close();
  });
});

describe("a log that another program wrote", () => {
  const foreign = (roomId: RoomId, message: string, date: number, more: object = {}) =>
    JSON.stringify({ from: "1", date, message, roomId, ...more });

  it("is taken over: its messages stay readable and the numbering goes on", async () => {
    const roomId = await freshRoom();
    const rows = Array.from({ length: 12 }, (_, index) =>
      foreign(roomId, `f${index}`, 1_615_480_369 + index),
    );
    for (const [index, row] of rows.entries())
      await house.redis.zadd(house.keys.room(roomId), 1_615_480_369 + index, row);
    const first = await mary.say(roomId, "ours");
    expect(first.seq).toBe(13);
    expect((await joe.hears("ours")).seq).toBe(13);
    const { messages } = await page(joe, roomId);
    expect(texts(messages)).toEqual([...rows.keys()].map((index) => `f${index}`).concat("ours"));
  });

  it("is taken over if it has many messages too, and the next message is heard", async () => {
    const roomId = await freshRoom();
    const pairs = Array.from({ length: 300 }, (_, index) => [
      1_615_480_369 + index,
      foreign(roomId, `f${index}`, 1_615_480_369 + index),
    ]);
    await house.redis.zadd(house.keys.room(roomId), ...(pairs.flat() as [number, string]));
    const said = await mary.say(roomId, "after three hundred");
    expect(said.seq).toBe(301);
    expect((await joe.hears("after three hundred")).seq).toBe(301);
    await mary.say(roomId, "and once more");
    expect((await joe.hears("and once more")).seq).toBe(302);
  });

  it("is taken over once, by the first replica that needs it", async () => {
    const roomId = await freshRoom();
    const pairs = Array.from({ length: 2_000 }, (_, index) => [
      1_615_480_369_000 + index,
      foreign(roomId, `f${index}`, 1_615_480_369_000 + index),
    ]);
    await house.redis.zadd(house.keys.room(roomId), ...(pairs.flat() as [number, string]));
    const [said] = await Promise.all([
      mary.say(roomId, "meanwhile"),
      page(joe, roomId),
      page(mary, roomId),
      sync(joe, { roomId, seq: 0, date: 0, hash: "" }),
    ]);
    expect(said.seq).toBe(2_001);
    const rows = await house.redis.zrange(house.keys.room(roomId), "0", "-1");
    const log = rows.map((row) => JSON.parse(row) as Message);
    expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: 2_001 }, (_, index) => index + 1));
    expect(texts(log)).toEqual([...pairs.keys()].map((index) => `f${index}`).concat("meanwhile"));
  });

  it("stands, if dated in the future, before what is said after it", async () => {
    const roomId = await freshRoom();
    const future = Date.now() + 7 * 24 * 3_600_000 + 0.5;
    await house.redis.zadd(house.keys.room(roomId), future, foreign(roomId, "from the future", future));
    const said = await mary.say(roomId, "now");
    expect(said.date).toBeLessThan(future);
    expect(texts((await page(joe, roomId)).messages)).toEqual(["from the future", "now"]);
  });

  it("may spell ids as numbers", async () => {
    const roomId = await freshRoom();
    const row = JSON.stringify({ roomId: Number(roomId), from: 1, date: 1_000, message: "numbers" });
    await house.redis.zadd(house.keys.room(roomId), 1_000, row);
    expect((await page(joe, roomId)).messages).toMatchObject([
      { roomId, seq: 1, from: "1", date: 1_000_000, message: "numbers" },
    ]);
  });

  it("breaks no page, no list and no sync if it holds rubbish, and no rubbish is shown", async () => {
    const roomId = await freshRoom();
    const good = await mary.say(roomId, "good");
    const rubbish = [
      "not json",
      "",
      "null",
      "5",
      '"text"',
      "[]",
      "{}",
      '{"hash":"x"}',
      '{"roomId":"0","seq":1,"date":"soon","hash":7,"from":{},"message":[]}',
      '{"__proto__":{"polluted":true}}',
      '{"roomId":"0","from":"1","date":5}',
      "\ud800",
    ];
    for (const [index, row] of rubbish.entries())
      await house.redis.zadd(house.keys.room(roomId), good.date + 0.01 * (index + 1), row);
    const next = await mary.say(roomId, "next");
    const { status, body } = await joe.browser.get<Page>(`/api/rooms/${roomId}/messages`);
    expect(status).toBe(200);
    expect(body.messages).toEqual([good, next]);
    expect((await sync(joe, cursorOf(roomId, good))).messages).toEqual([next]);
    const rooms = await joe.browser.get<Room[]>("/api/rooms");
    expect(rooms.body.find(({ id }) => id === roomId)?.last).toEqual(next);
    await joe.hears("next");
  });

  it.each([1, BOUNDS.syncRows.value + 1])(
    "cuts nobody off by rubbish that begins as a message of ours does: %i rows of it",
    async (count) => {
      const roomId = await freshRoom();
      const good = await mary.say(roomId, "good");
      await joe.hears("good");
      const rubbish = Array.from({ length: count }, (_, index) => [
        good.date + 0.001 * (index + 1),
        `{"roomId":"${roomId}","seq":2,"date":${good.date},"hash":"abc","from":"1","message":"${index}" rubbish`,
      ]);
      await house.redis.zadd(house.keys.room(roomId), ...(rubbish.flat() as [number, string]));
      // Of a message that was not heard: whoever listens reads the log.
      const lost = { roomId, seq: 9, date: good.date, hash: "abc", from: "1", message: "lost" };
      const announced = JSON.stringify({ serverId: "test", type: "message", data: lost });
      const next = await mary.say(roomId, `next of ${count}`);
      await house.redis.publish(house.keys.roomChannel(roomId), announced);
      const answers = await Promise.all([sync(joe, cursorOf(roomId, good)), page(joe, roomId)]);
      for (const { messages } of answers) expect(messages.at(-1)).toEqual(next);
      const last = await mary.say(roomId, `last of ${count}`);
      expect(await joe.hears(last.message)).toEqual(last);
      expect([mary, joe].map(({ socket }) => socket.connected)).toEqual([true, true]);
    },
  );

  it("breaks no page and no sync by a row of 6 MB", async () => {
    const roomId = await freshRoom();
    const good = await mary.say(roomId, "good");
    const text = String.raw`\u0041`.repeat(1_000_000);
    const row = `{"roomId":"${roomId}","seq":2,"date":1,"hash":"ab","from":"1","message":"${text}"}`;
    await house.redis.zadd(house.keys.room(roomId), good.date + 0.5, row);
    const next = await mary.say(roomId, "behind 6 MB");
    expect((await page(joe, roomId)).messages).toEqual([good, next]);
    expect((await sync(joe, cursorOf(roomId, good))).messages.at(-1)).toEqual(next);
  });

  it("leaves the list of rooms readable if it ends in rubbish", async () => {
    const roomId = await freshRoom();
    await house.redis.zadd(house.keys.room(roomId), Date.now() + 60_000, "rubbish");
    const rooms = await joe.browser.get<Room[]>("/api/rooms");
    expect(rooms.status).toBe(200);
    expect(rooms.body.find(({ id }) => id === roomId)).toMatchObject({ last: null });
  });

  it("cannot put a message into another room", async () => {
    const roomId = await freshRoom();
    const row = foreign("0", "I say I am General's", 2_000);
    await house.redis.zadd(house.keys.room(roomId), 2_000, row);
    const { messages } = await page(joe, roomId);
    expect(messages.every((message) => message.roomId === roomId)).toBe(true);
  });

  it("does not stop a replica from reading on if it stands in the middle of ours", async () => {
    const redis = new Redis(testRedisUrl());
    const keys: Keys = createKeys(house.env["KEY_PREFIX"] ?? "");
    const log = new Log(redis, keys, { serverId: "reader", relayChannel: "rooms" } as never);
    const roomId = await freshRoom();
    const { seq, date, hash } = await mary.say(roomId, "before");
    const pairs = Array.from({ length: 450 }, (_, index) => [
      date + 0.001 * (index + 1),
      foreign(roomId, `f${index}`, date),
    ]);
    await house.redis.zadd(keys.room(roomId), ...(pairs.flat() as [number, string]));
    const after = await mary.say(roomId, "after");
    let position = { seq, date, hash, rev: 0, revHash: "" };
    const rows: string[] = [];
    for (let step = 0; step < 10; step += 1) {
      const found = await log.after(roomId, position);
      rows.push(...found.rows);
      position = found.position;
      if (!found.more) break;
    }
    redis.disconnect();
    expect(position.seq).toBe(after.seq + 450);
    expect(texts(rows.map((row) => JSON.parse(row) as Message))).toContain(after.message);
  });

  it("lets a client's sync read on past it", async () => {
    const roomId = await freshRoom();
    const before = await mary.say(roomId, "before");
    const pairs = Array.from({ length: 450 }, (_, index) => [
      before.date + 0.001 * (index + 1),
      foreign(roomId, `f${index}`, before.date),
    ]);
    await house.redis.zadd(house.keys.room(roomId), ...(pairs.flat() as [number, string]));
    const after = await mary.say(roomId, "after them all");
    // Until it is heard, it comes as an event, and no answer must contain it.
    await joe.hears("after them all");
    let cursor = cursorOf(roomId, before);
    const seen: Message[] = [];
    for (let step = 0; step < 10; step += 1) {
      const { messages, more } = await sync(joe, cursor);
      seen.push(...messages);
      const placed = messages.at(-1);
      if (placed) cursor = cursorOf(roomId, placed);
      if (!more) break;
    }
    expect(texts(seen)).toContain(after.message);
  });
});

describe("a room of which Redis has lost a key", () => {
  it("goes on with its numbers if its head is gone: no two messages share one, and a deletion hits the right one", async () => {
    const { redis, keys } = house;
    const roomId = await freshRoom();
    const old: Message[] = [];
    for (let count = 0; count < 5; count += 1) old.push(await mary.say(roomId, `old ${count}`));
    const edit = { roomId, seq: 2, message: "old, edited", rev: 0, nonce: `edit-${roomId}` };
    const edited = unwrap(await mary.socket.emitWithAck("message.edit", edit));
    await redis.del(keys.meta(roomId));
    const next = await joe.say(roomId, "new");
    expect(next.seq).toBe(6);
    const target = { roomId, seq: 3, hash: old[2]?.hash ?? "" };
    const gone = unwrap(await mary.socket.emitWithAck("message.delete", target));
    expect(gone.rev ?? 0).toBeGreaterThan(edited.rev ?? 0);
    const { messages } = await page(joe, roomId);
    expect(messages.map(({ seq, message }) => [seq, message])).toEqual([
      [1, "old 0"],
      [2, "old, edited"],
      [3, ""],
      [4, "old 3"],
      [5, "old 4"],
      [6, "new"],
    ]);
  });

  it("is looked through once if a part of its head is gone", async () => {
    const { redis, keys } = house;
    const roomId = await freshRoom();
    await mary.say(roomId, "one");
    await redis.hdel(keys.meta(roomId), "seq");
    const log = new Log(redis, keys, { serverId: "reader", relayChannel: "rooms" } as never);
    expect(await log.adopt(roomId)).toBe(0);
  });

  it("goes on, and keeps marks and pins, if a part of its head or of its last change is lost or damaged", async () => {
    const { redis, keys } = house;
    for (const field of ["seq", "date", "hash", "rev", "revHash", "first", "slow"])
      for (const damage of ["", "none", 'nan"', "-1", "9".repeat(20)]) {
        const where = `${field} ${damage}`;
        const roomId = await freshRoom();
        const pinned = await mary.say(roomId, "pinned");
        const said = await mary.say(roomId, "said");
        const pin = { roomId, seq: pinned.seq, on: true };
        unwrap(await mary.socket.emitWithAck("message.pin", pin));
        unwrap(await joe.socket.emitWithAck("room.read", { roomId, seq: 1 }));
        if (damage === "none") await redis.hdel(keys.meta(roomId), field);
        else await redis.hset(keys.meta(roomId), field, damage);
        expect(
          (await page(joe, roomId)).messages.map(({ seq }) => seq),
          where,
        ).toEqual([1, 2]);
        expect((await sync(joe, cursorOf(roomId, pinned))).messages, where).toMatchObject([{ seq: 2 }]);
        const next = await joe.say(roomId, `next in ${roomId}`);
        expect(next, where).toMatchObject({ seq: 3 });
        expect((await mary.hears(next.message)).seq, where).toBe(3);
        const target = { roomId, seq: said.seq, hash: said.hash };
        unwrap(await mary.socket.emitWithAck("message.delete", target));
        const listed = await joe.browser.get<Page>(`/api/rooms/${roomId}/messages?pinned=true`);
        expect(
          listed.body.messages.map(({ seq }) => seq),
          where,
        ).toEqual([1]);
        expect(unwrap(await joe.socket.emitWithAck("room.read", { roomId, seq: 3 })), where).toEqual({
          read: 3,
        });
      }
  });

  it("is General also for somebody whose list is gone, and has its name if that is gone", async () => {
    const { redis, keys } = house;
    await redis.del(keys.userRooms(joe.user.id), keys.roomName("0"));
    try {
      const general = (await joe.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === "0");
      expect(general?.names).toEqual(["General"]);
      const said = await joe.say("0", "still here");
      expect((await page(joe, "0")).messages.at(-1)).toEqual(said);
      expect(await joe.socket.emitWithAck("typing", { roomId: "0" })).toMatchObject({ ok: true });
      const again = await connect(joe.browser, joe.user);
      const heard = new Promise<Message>((done) => again.socket.on("message", done));
      await mary.say("0", "to all");
      expect((await heard).message).toBe("to all");
      again.close();
    } finally {
      await redis.set(keys.roomName("0"), "General");
    }
  });

  it("stores a message once, however often it is tried, while one of its lists is of a wrong type", async () => {
    const { redis, keys } = house;
    const send = { message: `@mary look ${Math.random()}`, nonce: `wrong-${Math.random()}` };
    for (const key of ["mentions", "read"] as const) {
      const roomId = await freshRoom();
      const wrong = key === "mentions" ? keys.mentions(roomId, mary.user.id) : keys.read(roomId);
      await redis.set(wrong, "no such thing");
      for (let tries = 0; tries < 3; tries += 1) await joe.socket.emitWithAck("message", { roomId, ...send });
      await redis.del(wrong);
      const retried = unwrap(await joe.socket.emitWithAck("message", { roomId, ...send }));
      expect((await page(joe, roomId)).messages).toEqual([retried]);
    }
  });
});

describe("a room from whose log somebody has removed messages", () => {
  /** What a client has in the end that has read up to a message: its rows, without a gap since its last reset. */
  async function catchesUp(who: Person, roomId: RoomId, from: Message | undefined): Promise<Message[]> {
    let cursor: Cursor = from ? cursorOf(roomId, from) : { roomId, seq: 0, date: 0 };
    let rows: Message[] = from ? [from] : [];
    for (let rounds = 0; rounds < 5; rounds += 1) {
      const { messages, more, reset } = await sync(who, cursor);
      if (reset) return messages;
      messages.forEach(({ seq }, index) => expect(seq).toBe(cursor.seq + 1 + index));
      rows = [...rows, ...messages];
      const last = rows.at(-1);
      if (!more) return rows;
      if (last) cursor = cursorOf(roomId, last);
    }
    throw new Error("it asks for ever");
  }

  it.each([
    ["the oldest", 0, 4],
    ["some in the middle", 3, 6],
    ["the newest", 6, 9],
    ["all but one", 1, 9],
    ["all", 0, 9],
  ])("goes on for everybody: %s", async (_, start, stop) => {
    const { redis, keys } = house;
    const roomId = await freshRoom();
    const said: Message[] = [];
    for (let count = 1; count <= 10; count += 1) said.push(await mary.say(roomId, `said ${count}`));
    await joe.hears("said 10");
    await redis.zremrangebyrank(keys.room(roomId), start, stop);
    const left = said.filter((_row, index) => index < start || index > stop);
    for (const { seq, hash } of left) {
      const reaction = { roomId, seq, hash, emoji: "👍", on: true };
      const changed = unwrap(await joe.socket.emitWithAck("message.react", reaction));
      expect(changed.reactions).toEqual([["👍", [joe.user.id]]]);
      const around = await page(joe, roomId, `?around=${seq}`);
      expect(around.messages.map((one) => one.seq)).toEqual(left.map((one) => one.seq));
    }
    for (const { seq } of said.slice(start, stop + 1)) {
      const gone = await joe.socket.emitWithAck("message.pin", { roomId, seq, on: true });
      expect(gone).toMatchObject({ ok: false, error: { code: "not_found" } });
    }
    // A copy with its end has nothing to catch up with.
    const known = [undefined, ...said.slice(0, -1)];
    for (const from of known)
      expect((await catchesUp(joe, roomId, from)).at(-1)?.seq).toEqual(left.at(-1)?.seq);
    const next = await mary.say(roomId, `after ${roomId}`);
    expect((await joe.hears(next.message)).seq).toBe(11);
    const last = await joe.say(roomId, `last after ${roomId}`);
    expect(await mary.hears(last.message)).toEqual(last);
    for (const from of [...known, said[9]])
      expect((await catchesUp(joe, roomId, from)).slice(-2)).toEqual([next, last]);
    expect((await page(joe, roomId)).messages.map(({ seq }) => seq)).toEqual([
      ...left.map(({ seq }) => seq),
      11,
      12,
    ]);
  });

  it("does not ask authors for what was removed: a copy whose end is gone was trimmed, not rewound", async () => {
    const roomId = await freshRoom();
    const said: Message[] = [];
    for (let count = 1; count <= 6; count += 1) said.push(await mary.say(roomId, `r${count}`));
    const middle = said[3] as Message;
    await house.redis.zremrangebyscore(house.keys.room(roomId), middle.date, middle.date);
    expect((await sync(joe, cursorOf(roomId, middle))).reset).toBe("trimmed");
    expect((await sync(joe, { ...cursorOf(roomId, said[4] as Message), hash: "0123456789ab" })).reset).toBe(
      "rewound",
    );
  });

  it("still takes in what another program adds afterwards", async () => {
    const { redis, keys } = house;
    const roomId = await freshRoom();
    for (let count = 1; count <= 6; count += 1) await mary.say(roomId, `kept ${count}`);
    await redis.zremrangebyrank(keys.room(roomId), 0, 2);
    const log = new Log(redis, keys, { serverId: "reader", relayChannel: "rooms" } as never);
    const foreign = (message: string) => JSON.stringify({ from: "1", date: 2_000, message, roomId });
    // Beside what was removed, and once that is noted.
    for (const text of ["theirs", "theirs too"]) {
      await redis.zadd(keys.room(roomId), 2_000, foreign(text));
      expect(await log.adopt(roomId)).toBe(1);
      expect((await joe.hears(text)).message).toBe(text);
    }
    expect(texts((await page(joe, roomId)).messages).slice(-2)).toEqual(["theirs", "theirs too"]);
  });

  describe.each(["announces", "only stores"])(
    "where the number of rows stays, and another program %s a row",
    (how) => {
      const place = async (roomId: RoomId, message: string, gone: string | undefined) => {
        const { redis, keys } = house;
        const data = { roomId, from: mary.user.id, date: Date.now(), message };
        const change = redis.multi().zadd(keys.room(roomId), data.date, JSON.stringify(data));
        await (
          gone === undefined
            ? change.zremrangebyrank(keys.room(roomId), 0, 0)
            : change.zrem(keys.room(roomId), gone)
        ).exec();
        if (how === "announces")
          await redis.publish(
            keys.roomChannel(roomId),
            JSON.stringify({ serverId: "x", type: "message", data }),
          );
        else await page(joe, roomId);
      };

      it("takes it in each time that the log is cut to its length", async () => {
        const roomId = await freshRoom();
        for (let count = 1; count <= 10; count += 1) await mary.say(roomId, `kept ${count}`);
        const news = [1, 2, 3].map((count) => `one in, one out, it ${how} ${count}`);
        for (const text of news) {
          await place(roomId, text, undefined);
          expect((await joe.hears(text)).roomId).toBe(roomId);
        }
        expect(texts((await page(joe, roomId)).messages).slice(-4)).toEqual(["kept 10", ...news]);
      });

      it("takes it in where it stands for one that was no message", async () => {
        const { redis, keys } = house;
        const roomId = await freshRoom();
        await mary.say(roomId, "before");
        await redis.zadd(keys.room(roomId), Date.now(), "no JSON");
        expect(texts((await page(joe, roomId)).messages)).toEqual(["before"]);
        await place(roomId, `corrected, it ${how}`, "no JSON");
        expect((await joe.hears(`corrected, it ${how}`)).roomId).toBe(roomId);
      });
    },
  );

  it("is looked at by two replicas while people write, and neither overlooks the next one", async () => {
    const { redis, keys } = house;
    const roomId = await freshRoom();
    const replica = () => new Log(redis, keys, { serverId: "reader", relayChannel: "rooms" } as never);
    const [one, other] = [replica(), replica()];
    const add = (message: string) =>
      redis.zadd(keys.room(roomId), 2_000, JSON.stringify({ from: "1", date: 2_000, message, roomId }));
    await one.append("1", { roomId, message: "first", nonce: "first" });
    for (let round = 1; round <= 30; round += 1) {
      await add(`both see ${round}`);
      const writing = Array.from({ length: 10 }, (_, count) =>
        one.append("1", { roomId, message: "meanwhile", nonce: `${round}-${count}` }),
      );
      const looking = Array.from({ length: 5 }, () => [one.adopt(roomId), other.adopt(roomId)]).flat();
      await Promise.all([...writing, ...looking]);
      for (const log of [one, other]) {
        await add(`next ${round}`);
        expect(await log.adopt(roomId)).toBe(1);
      }
    }
  });
});

it("a log that begins anew has no marks, pins, deletions and mentions of the numbers that it had before", async () => {
  const { redis, keys } = house;
  const roomId = await freshRoom();
  for (let count = 1; count <= 6; count += 1)
    await mary.say(roomId, count === 5 ? "@room look" : `old ${count}`);
  unwrap(await joe.socket.emitWithAck("room.read", { roomId, seq: 4 }));
  unwrap(await mary.socket.emitWithAck("message.pin", { roomId, seq: 2, on: true }));
  unwrap(await mary.socket.emitWithAck("message.delete", { roomId, seq: 1 }));
  await redis.del(keys.room(roomId), keys.meta(roomId));
  await mary.say(roomId, "new 1");
  await mary.say(roomId, "new 2, @room");
  const room = (await joe.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === roomId);
  expect(room).toMatchObject({ seq: 2, read: 0, unread: 2, mentions: 1 });
  expect(room).not.toHaveProperty("deleted");
  expect((await page(joe, roomId, "?pinned=true")).messages).toEqual([]);
  unwrap(await joe.socket.emitWithAck("room.read", { roomId, seq: 2 }));
  expect((await page(joe, roomId)).messages.map(({ seq }) => seq)).toEqual([1, 2]);
});

describe("a room that has lost what changed in it", () => {
  it.each(["changed", "revs", "changed, revs", "meta", "meta, changed, revs"])(
    "tells nobody that it knows, and goes on: %s",
    async (names) => {
      const lost = names.split(", ") as ("changed" | "revs" | "meta")[];
      const { redis, keys } = house;
      const roomId = await freshRoom();
      const said = await mary.say(roomId, "said");
      const other = await mary.say(roomId, "said too");
      const react = async (emoji: string, seq = said.seq) =>
        unwrap(await joe.socket.emitWithAck("message.react", { roomId, seq, emoji, on: true }));
      const began = await page(joe, roomId);
      const first = await react("👍");
      const before = await page(joe, roomId);
      const second = await react("🎉");
      await redis.del(...lost.map((key) => keys[key](roomId)));
      // Another message's: its state alone would hide the others.
      const third = await react("👀", other.seq);
      expect(second.rev ?? 0).toBeGreaterThan(first.rev ?? 0);
      for (const { rev = 0, revHash = "" } of [{}, began, before]) {
        const { changes } = await sync(joe, { ...cursorOf(roomId, other), rev, revHash });
        const known = changes?.messages.map(({ seq, rev: now }) => [seq, now]);
        if (!changes?.reset)
          expect(known).toEqual([
            [said.seq, second.rev],
            [other.seq, third.rev],
          ]);
      }
      const now = await page(joe, roomId);
      const { changes } = await sync(joe, {
        ...cursorOf(roomId, other),
        rev: now.rev ?? 0,
        revHash: now.revHash ?? "",
      });
      expect(changes).toMatchObject({ messages: [], rev: now.rev });
      const heard: Message[] = [];
      mary.socket.on("changes", ({ messages }) => heard.push(...messages));
      const fourth = await react("🚀");
      expect(fourth.rev ?? 0).toBeGreaterThan(second.rev ?? 0);
      await until(() => heard.some(({ hash, rev }) => hash === fourth.hash && rev === fourth.rev));
      expect((await mary.say(roomId, `after ${names}`)).seq).toBe(3);
      await joe.hears(`after ${names}`);
    },
  );
});

describe("a key that somebody has damaged", () => {
  it("keeps nobody from their other rooms, from a log-in, or from what they say", async () => {
    const { redis, keys } = house;
    const one = await person(both(house)[0], "unlucky");
    const room = await one.makes({ name: "Damaged" });
    const listed = async () =>
      (await one.browser.get<Room[]>("/api/rooms")).body.map(({ id, read }) => [id, read] as const);
    await redis.hset(keys.read("0"), one.user.id, "nan");
    expect(await listed()).toEqual([
      ["0", 0],
      [room.id, 0],
    ]);
    await redis.del(keys.meta(room.id));
    await redis.set(keys.meta(room.id), "no hash");
    expect((await listed()).map(([id]) => id)).toEqual(["0"]);
    await redis.set(keys.username("nobody-else"), "user:999");
    await redis.del(keys.username("nobody-else"));
    await redis.rpush(keys.username("nobody-else"), "no string");
    expect((await mary.say("0", "@nobody-else is only text")).mentions).toBeUndefined();
    await redis.del(keys.homes("unlucky"));
    await redis.set(keys.homes("unlucky"), "no sorted set");
    const credentials = { username: "unlucky", password: "correct horse" };
    expect((await new Browser(both(house)[1]).post("/api/login", credentials)).status).toBe(200);
    const { body: found } = await one.browser.get<{ found: unknown[] }>("/api/rooms/directory?q=Cave");
    expect(found).toMatchObject({ complete: true });
    await redis.del(keys.meta(room.id));
    one.close();
  });

  it("as a number of a room shows the room all the same", async () => {
    const { redis, keys } = house;
    const roomId = await freshRoom();
    unwrap(await mary.socket.emitWithAck("message", { roomId, message: "said", nonce: "said" }));
    for (const odd of ["", "x", "-1", "1.5", "1e3", " 2", "0x1", "nan", "inf", "9".repeat(20), "(1", "\0"])
      for (const [key, field, good] of [
        [keys.meta(roomId), "seq", "1"],
        [keys.read(roomId), joe.user.id, "0"],
        [keys.joined(roomId), joe.user.id, "0"],
      ] as const) {
        await redis.hset(key, field, odd);
        const { body } = await joe.browser.get<Room[]>("/api/rooms");
        const room = body.find(({ id }) => id === roomId);
        const where = `${key} ${odd}`;
        expect(room?.last?.message, where).toBe("said");
        for (const count of [room?.seq, room?.unread, room?.read, room?.calledSince ?? 0])
          expect(Number.isSafeInteger(count) && Number(count) >= 0, `${where} ${count}`).toBe(true);
        await redis.hset(key, field, good);
      }
  });

  it("of a room or an account leaves all others in lists, searches, mentions and reports", async () => {
    const apart = await newServer(2);
    try {
      const { redis, keys } = apart;
      const [left, right] = both(apart);
      const owner = await person(left, "first-owner");
      const guest = await person(right, "guest");
      const kept = await owner.makes({ name: "Kept" });
      unwrap(await guest.socket.emitWithAck("room.join", { roomId: kept.id }));
      const { seq } = await owner.say(kept.id, "@guest the needle");
      await guest.browser.post("/api/reports", { roomId: kept.id, seq });
      const damages = [keys.roomName, keys.meta, keys.records, keys.room, keys.roomMentions, keys.reports];
      for (const damaged of damages) {
        const { id } = await owner.makes({ name: `Damaged ${damages.indexOf(damaged)}` });
        unwrap(await guest.socket.emitWithAck("room.join", { roomId: id }));
        const said = await owner.say(id, "@guest the needle");
        await guest.browser.post("/api/reports", { roomId: id, seq: said.seq });
        await redis.del(damaged(id));
        await redis.rpush(damaged(id), "of a wrong type");
      }
      await redis.rpush(keys.user("9"), "of a wrong type");
      await redis.set(keys.totalUsers, 9);
      const numbers = async (who: Person, path: string): Promise<unknown> => {
        const { status, body } = await who.browser.get(`/api/${path}`);
        return status === 200 ? JSON.stringify(body) : `${path} ${status}`;
      };
      const room = expect.stringContaining(`"${kept.id}"`);
      const word = expect.stringContaining("the needle");
      expect(await numbers(guest, "rooms")).toEqual(room);
      expect(await numbers(guest, "rooms/directory")).toEqual(room);
      expect(await numbers(guest, "rooms/directory?q=kept")).toEqual(room);
      expect(await numbers(guest, "search?q=needle")).toEqual(word);
      expect(await numbers(guest, "mentions")).toEqual(word);
      expect(await numbers(guest, "users")).toEqual(expect.stringContaining("first-owner"));
      expect(await numbers(guest, "users?q=owner")).toEqual(expect.stringContaining("first-owner"));
      expect(await numbers(owner, "admin/rooms")).toEqual(room);
      expect(await numbers(owner, "admin/stats")).toEqual(expect.stringContaining("messages"));
      expect(await numbers(owner, "admin/reports")).toEqual(word);
      owner.close();
      guest.close();
    } finally {
      await apart.close();
    }
  });

  it("of a room or an account keeps nobody from connecting, from a sync, and from what is done for all in turn", async () => {
    // Twenty people are looked at together: these are more.
    const crowd = 25;
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const apart = await replicas(1);
    try {
      const { redis, keys } = apart;
      const replica = apart.replicas[0]!;
      const damage = async (key: string) => {
        await redis.del(key);
        await redis.rpush(key, "of a wrong type");
      };
      const people = [];
      for (let count = 0; count < crowd; count += 1) people.push(await person(replica));
      const [unlucky, owner, guest] = people as [Person, Person, Person];
      const last = people.at(-1)!;
      const kept = await owner.makes({ name: "Kept" });
      unwrap(await guest.socket.emitWithAck("room.join", { roomId: kept.id }));
      const rooms: RoomId[] = [];
      for (const key of [keys.meta, keys.records, keys.room]) {
        const { id } = await guest.makes({ name: `Damaged ${rooms.length}` });
        await guest.say(id, "lost");
        await damage(key(id));
        rooms.push(id);
      }

      const again = await windowOf(guest, replica);
      await owner.say(kept.id, "heard");
      await again.hears("heard");
      const cursors = [...rooms, kept.id].map((roomId) => ({ roomId, seq: 0, date: 0 }));
      const synced = unwrap(await again.socket.emitWithAck("sync", { rooms: cursors }));
      expect(synced.rooms.map(({ notFound }) => notFound === true)).toEqual([true, true, true, false]);
      expect(synced.rooms.at(-1)?.messages.map(({ message }) => message)).toEqual(["heard"]);

      // Nobody is told of these ends: the next look finds them.
      await damage(keys.user(unlucky.user.id));
      const [sid] = await redis.zrange(keys.userSessions(last.user.id), "0", "-1");
      await redis.del(keys.session(String(sid)));
      await redis.srem(keys.userRooms(guest.user.id), kept.id);
      await redis.hdel(keys.records(kept.id), guest.user.id);
      const hidden: RoomId[] = [];
      guest.socket.on("hide.room", ({ roomId }) => hidden.push(roomId));
      await until(async () => {
        vi.advanceTimersByTime(5_000);
        return !last.socket.connected && hidden.length > 0;
      });
      expect(hidden).toEqual([kept.id]);
      expect(unlucky.socket.connected).toBe(true);
      for (const one of [...people, again]) one.close();
    } finally {
      vi.useRealTimers();
      await apart.close();
    }
  });

  it("costs what it holds, and no more", async () => {
    const apart = await newServer(2);
    try {
      const { redis, keys } = apart;
      const [left, right] = both(apart);
      const owner = await person(left);
      const lost = await owner.makes({ name: "Lost" });
      const kept = await owner.makes({ name: "Kept" });
      const guest = await person(right);
      unwrap(await guest.socket.emitWithAck("room.join", { roomId: kept.id }));
      await owner.say(lost.id, "lost");
      await owner.say(kept.id, "kept");
      const { id, username } = owner.user;
      const damaged = [keys.settings, keys.audit, keys.roomsAudit, keys.roomAudit(kept.id), keys.online];
      for (const key of [...damaged, keys.userSessions(id), keys.room(lost.id)]) {
        await redis.del(key);
        await redis.rpush(key, "of a wrong type");
      }

      const { browser } = owner;
      for (const path of ["users", "users/online", "admin/users", "admin/audit", `rooms/${kept.id}/audit`])
        expect([path, (await browser.get(`/api/${path}`)).status]).toEqual([path, 200]);
      await guest.say("0", "words are not filtered");
      expect((await browser.fetch("PATCH", `/api/rooms/${kept.id}`, { topic: "tea" })).status).toBe(200);
      const removed = await browser.fetch("DELETE", `/api/rooms/${kept.id}/members/${guest.user.id}`);
      expect(removed.status).toBe(204);
      // Nobody knows whether it was closed.
      const stranger = { username: "stranger", password: "correct horse" };
      expect((await new Browser(left).post("/api/users", stranger)).status).toBe(403);
      const again = new Browser(right);
      expect((await again.post("/api/login", { username, password: "correct horse" })).status).toBe(200);
      expect((await again.get<unknown[]>("/api/me/sessions")).body.length).toBeGreaterThan(0);
      const { body } = await browser.get<{ rooms: { name: string }[]; messages: { message: string }[] }>(
        "/api/me/export",
      );
      expect(body.rooms.map(({ name }) => name)).toContain("Kept");
      expect(body.messages.map(({ message }) => message)).toEqual(["kept"]);
      owner.close();
      guest.close();
    } finally {
      await apart.close();
    }
  });
});

describe.each(["open", "invite"] as const)("an %s room whose making is cut short", (kind) => {
  it("lets nobody in before its owner, and can be made again under its name, after whichever command it was cut", async () => {
    const { redis, keys, env } = house;
    const config = readConfig(env);
    const admin = await person(both(house)[1], `admin-${kind}`);
    await redis.hset(keys.staff, admin.user.id, "admin");
    await redis.hset(keys.user(admin.user.id), "role", "admin");
    const wire = await startFuse();
    const orphans = new Set<string>();
    try {
      for (let commands = 3; ; commands += 1) {
        wire.allow(commands);
        const client = new Redis(wire.url, { retryStrategy: () => null, enableReadyCheck: false });
        client.on("error", () => undefined);
        const cut = new Rooms(client, keys, new Members(client, keys, config));
        const name = `${kind} cut after ${commands}`;
        const made = await cut.create(name, mary.user.id, kind, "tea").catch(() => null);
        client.disconnect();
        if (made !== null) break;
        const id = String(await redis.get(keys.totalRooms));
        if ((await redis.hexists(keys.records(id), mary.user.id)) === 1) {
          // Also once she has left it.
          expect(await redis.hexists(keys.meta(id), "making"), name).toBe(0);
          continue;
        }
        const joined = await joe.socket.emitWithAck("room.join", { roomId: id });
        expect(joined, name).toMatchObject({ ok: false, error: { code: "not_found" } });
        const { body: found } = await joe.browser.get<{ id: string }[]>("/api/rooms/directory");
        expect(found.map((room) => room.id)).not.toContain(id);
        const managed = await admin.browser.get<unknown>(`/api/admin/rooms?after=${Number(id) - 1}`);
        expect(managed.body, name).toEqual([]);
        const search = await admin.browser.get<unknown>(`/api/rooms/directory?q=${encodeURIComponent(name)}`);
        expect(search.body, name).toMatchObject({ found: [], total: 0 });
        for (const asked of [
          admin.browser.post<Failure>(`/api/rooms/${id}/invites`, {}),
          admin.browser.fetch("PUT", `/api/rooms/${id}/members/${joe.user.id}`, {}),
          admin.browser.fetch("PATCH", `/api/rooms/${id}`, { topic: "no tea" }),
        ])
          expect((await asked).status, name).toBe(404);
        const again = () => mary.browser.post<Room & Failure>("/api/rooms", { name, kind });
        // For all we know it is still being made.
        if ((await redis.exists(keys.roomByName(name))) === 1) {
          orphans.add(id);
          expect((await again()).body.code, name).toBe("taken");
        }
        if ((await redis.hexists(keys.meta(id), "making")) === 1)
          await redis.hset(keys.meta(id), "making", Date.now() - 60_000);
        const { status, body } = await again();
        expect(status, name).toBe(201);
        expect(await redis.get(keys.roomByName(name))).toBe(`room:${body.id}`);
        expect(await redis.hexists(keys.meta(body.id), "making")).toBe(0);
      }
      expect(orphans.size).toBeGreaterThan(0);
    } finally {
      admin.close();
      await wire.close();
    }
  });
});

describe("a room that turns out not to be, because its name was given away meanwhile", () => {
  it("is left by everybody who came in, and by whoever comes in while it ends", async () => {
    const { redis, keys, env } = house;
    const name = `late ${randomBytes(4).toString("hex")}`;
    let made: RoomId | undefined;
    /** Somebody else comes in right after the owner, and another room has got the name. */
    class Slow extends Members {
      override async join(...given: Parameters<Members["join"]>): Promise<void> {
        await super.join(...given);
        [made] = given;
        unwrap(await joe.socket.emitWithAck("room.join", { roomId: made }));
        await redis.set(keys.roomByName(name), `room:${other}`);
        await redis.set(keys.roomName(other), name);
      }
    }
    const other = await freshRoom();
    const rooms = new Rooms(redis, keys, new Slow(redis, keys, readConfig(env)));
    await expect(rooms.create(name, mary.user.id)).rejects.toMatchObject({ code: "taken" });
    const id = made ?? "";
    expect(await redis.hkeys(keys.records(id))).toEqual([]);
    expect(await redis.sismember(keys.userRooms(joe.user.id), id)).toBe(0);
    const joined = await joe.socket.emitWithAck("room.join", { roomId: id });
    expect(joined).toMatchObject({ ok: false, error: { code: "not_found" } });
  });
});

describe("a room's id", () => {
  it("is not reused after the counter was lost, or restored from an older copy", async () => {
    const old = await freshRoom();
    await mary.say(old, "an old secret");
    for (const counter of [null, "0", String(Number(old) - 1)]) {
      if (counter === null) await house.redis.del(house.keys.totalRooms);
      else await house.redis.set(house.keys.totalRooms, counter);
      const fresh = await freshRoom();
      expect(Number(fresh)).toBeGreaterThan(Number(old));
      expect((await page(mary, fresh)).messages).toEqual([]);
    }
  });

  it("is not reused while messages or members of a lost room carry it", async () => {
    const old = await freshRoom();
    const next = String(Number(old) + 1);
    await house.redis.hset(house.keys.records(next), joe.user.id, "{}");
    expect(Number(await freshRoom())).toBeGreaterThan(Number(next));
    expect(await house.redis.exists(house.keys.roomName(next))).toBe(0);
  });
});

describe("a name that can be taken for another room's", () => {
  const create = (who: Person, name: string) =>
    who.browser.post<Room & { code: string }>("/api/rooms", { name });

  it("is refused on every replica, in other scripts and widths and with invisible characters", async () => {
    expect((await create(mary, "Lighthouse Keepers")).status).toBe(201);
    for (const name of [
      "Lighthоuse Keepers",
      "Ｌｉｇｈｔｈｏｕｓｅ Ｋｅｅｐｅｒｓ",
      "Iighthouse Keepers",
      "LIGHTHOUSE  KEEPERS",
      "Lighthouse\u034f Keepers",
      "Lighthouse\u00a0Keepers",
    ]) {
      const { status, body } = await create(joe, name);
      expect([status, body.code], name).toEqual([409, "taken"]);
      expect(await house.redis.exists(house.keys.roomByName(name))).toBe(0);
    }
    expect((await create(joe, "Lighthouse Keeper")).status).toBe(201);
  });

  it("goes to one of eight simultaneous requests, each in another script", async () => {
    const letters = ["a", "\u0430"];
    const names = Array.from(
      { length: 8 },
      (_, index) => `B${[0, 1, 2].map((bit) => letters[(index >> bit) & 1] ?? "").join("n")}`,
    );
    const answers = await Promise.all(names.map((name, index) => create(index % 2 ? joe : mary, name)));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(7);
  });

  it("is refused even if the other room was made before looks were stored", async () => {
    const id = String(await house.redis.incr(house.keys.totalRooms));
    await house.redis.set(house.keys.roomName(id), "Old Harbour");
    await house.redis.set(house.keys.roomByName("Old Harbour"), `room:${id}`);
    expect((await create(mary, "Оld Harbour")).status).toBe(409);
  });

  it("is free again once the other room is gone", async () => {
    const { body } = await create(mary, "Short-lived");
    await house.redis.del(house.keys.roomName(body.id), house.keys.roomByName("Short-lived"));
    expect((await create(joe, "Shоrt-lived")).status).toBe(201);
    expect((await create(mary, "Short-lived")).status).toBe(409);
  });
});

describe("a user in as many rooms as there may be", () => {
  it("cannot make, join or start another one, but can still talk and leave", async () => {
    const [left] = both(house);
    const full = await person(left);
    const open = await freshRoom();
    const { body: own } = await full.browser.post<Room>("/api/rooms", {
      name: randomBytes(4).toString("hex"),
    });
    const others = Array.from({ length: BOUNDS.roomsOfUser.value }, (_, index) => String(1_000_000 + index));
    await house.redis.sadd(house.keys.userRooms(full.user.id), ...others);
    const made = await full.browser.post<Failure>("/api/rooms", { name: "one too many" });
    expect([made.status, made.body.code]).toEqual([403, "forbidden"]);
    const started = await full.browser.post<Failure>("/api/rooms/private", { userId: mary.user.id });
    expect([started.status, started.body.code]).toEqual([403, "forbidden"]);
    const joined = await full.socket.emitWithAck("room.join", { roomId: open });
    expect(joined).toMatchObject({ ok: false, error: { code: "forbidden" } });
    expect((await full.say(own.id, "still heard")).message).toBe("still heard");
    await house.redis.srem(house.keys.userRooms(full.user.id), ...others);
    unwrap(await full.socket.emitWithAck("room.join", { roomId: open }));
  });
});

describe("named rooms", () => {
  it("exist once per name, in any case, even if ten people create it at once", async () => {
    const name = "Race Course";
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        (index % 2 ? mary : joe).browser.post<Room & { code: string }>("/api/rooms", {
          name: index % 3 ? name : name.toUpperCase(),
        }),
      ),
    );
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      201,
      ...Array<number>(9).fill(409),
    ]);
    const { body } = await mary.browser.get<{ total: number }>("/api/rooms/directory?q=race%20course");
    expect(body.total).toBe(1);
  });

  it("exist once per look, even if many find out at once that the number which had it is gone", async () => {
    const redis = house.redis;
    const key = `${house.keys.roomLooks}:of a test`;
    const names = new Map(Array.from({ length: 20 }, (_, index) => [String(100 + index), "Once lost"]));
    const looks = new Looks(redis, {
      key,
      last: () => Promise.resolve(0),
      namesOf: (id) => Promise.resolve([names.get(id) ?? []].flat()),
    });
    for (let round = 0; round < 20; round += 1) {
      await redis.del(key);
      expect(await looks.claim("99", "Once lost")).toBe(true);
      const taken = await Promise.all([...names.keys()].map((id) => looks.claim(id, "Once lost")));
      expect(taken.filter(Boolean)).toHaveLength(1);
    }
    await redis.del(key);
  });

  it.each([
    ["given back", "Alpha One", (far: Looks) => far.release("1", "Alpha One")],
    ["taken as of a name that nobody has", "Alpha One", (far: Looks) => far.claim("2", "Alpha One")],
    ["given up with another that somebody has", "ivy", (far: Looks) => far.claim("1", "Ivy")],
  ])("keep a look that they claim again while it is %s", async (_way, name, takesIt) => {
    const key = `${house.keys.roomLooks}:of another test`;
    const names: Record<string, string[]> = { 3: ["lvy"] };
    const source = { key, last: () => Promise.resolve(0) };
    const near = new Looks(house.redis, { ...source, namesOf: (id) => Promise.resolve(names[id] ?? []) });
    let isBack = false;
    const comeBack = async () => {
      if (isBack) return;
      isBack = true;
      names["1"] = [name];
      expect(await near.claim("1", name)).toBe(true);
    };
    const far = new Looks(house.redis, {
      ...source,
      namesOf: async (id) => {
        const before = names[id] ?? [];
        if (id === "1") await comeBack();
        return before;
      },
    });
    await near.claim("3", "lvy");
    if (name !== "ivy") await near.claim("1", name);
    expect(await takesIt(far)).not.toBe(true);
    expect(isBack).toBe(true);
    const [look = ""] = looksOf(name);
    expect(await house.redis.hgetall(key)).toEqual({ lvy: "3", [look]: "1" });
    await house.redis.del(key);
  });
});
