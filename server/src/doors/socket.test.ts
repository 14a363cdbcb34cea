import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import {
  ERROR_CODES,
  LIMITS,
  isRoomId,
  type Failure,
  type Message,
  type Page,
  type Reply,
  type Room,
  type User,
} from "../protocol.ts";
import { readConfig } from "../config.ts";
import type { Replica } from "../server.ts";
import { ChatMessages } from "../chat/messages.ts";
import { ChatRooms } from "../chat/rooms.ts";
import { Log } from "../store/log.ts";
import {
  PATIENCE_MS,
  Browser,
  both,
  commandsDuring,
  connect,
  person,
  replicas,
  startWire,
  testRedisUrl,
  until,
  unwrap,
  type House,
  type Person,
  type TestSocket,
  windowOf,
} from "../testing.ts";

const BAD_ROOM_IDS: unknown[] = [
  "1:name",
  "0:name",
  "2:1",
  "1:1",
  "0:5",
  "5:0",
  "1:2:3",
  "{x}",
  "__proto__",
  "constructor",
  "../1",
  "..",
  "01",
  "1e3",
  " 1",
  "1\n",
  "-1",
  "1.5",
  "٣",
  "*",
  "0:",
  ":0",
  "12345678901",
  "",
  "7".repeat(10_240),
  "0\u0000",
  17,
  0,
  -1,
  null,
  true,
  {},
  [],
  ["0"],
  { toString: "0" },
];

let house: House;
let left: Replica;
let right: Replica;
let mary: Person;
let joe: Person;
let sue: Person;
/** Two people whose session, or account, was deleted in Redis silently when the tests began. */
let forgotten: { disconnectedAt: Promise<number>[]; deletedAt: number };

beforeAll(async () => {
  house = await replicas(2);
  [left, right] = both(house);
  const victims = [await person(left), await person(left)] as const;
  const disconnectedAt = victims.map(
    ({ socket }) => new Promise<number>((resolve) => socket.once("disconnect", () => resolve(Date.now()))),
  );
  expect(await house.redis.del(house.keys.session(sidOf(victims[0].browser)))).toBe(1);
  expect(await house.redis.del(house.keys.user(victims[1].user.id))).toBe(1);
  forgotten = { disconnectedAt, deletedAt: Date.now() };
  mary = await person(left, "mary");
  joe = await person(right, "joe");
  sue = await person(right, "sue");
});
afterAll(() => house.close());

function sidOf(browser: Browser): string {
  const value = decodeURIComponent(browser.cookie.split("=")[1] ?? "");
  return value.slice(2, value.lastIndexOf("."));
}

/** Records everything that a socket hears from now on. */
function record({ socket }: { socket: TestSocket }): [string, unknown][] {
  const heard: [string, unknown][] = [];
  socket.onAny((event: string, body: unknown) => {
    if (!event.startsWith("user.")) heard.push([event, body]);
  });
  return heard;
}

/** Sends any event with any arguments. */
function emit(socket: TestSocket, event: string, ...args: unknown[]): Promise<Reply<unknown>> {
  const untyped = socket.timeout(PATIENCE_MS) as unknown as {
    emitWithAck: (event: string, ...args: unknown[]) => Promise<Reply<unknown>>;
  };
  return untyped.emitWithAck(event, ...args);
}

function codeOf(reply: Reply<unknown>): string {
  return reply.ok ? "ok" : reply.error.code;
}

/** Everybody still hears everybody. */
async function expectAllWell(): Promise<void> {
  const text = `all well ${Math.random()}`;
  await mary.say("0", text, text.replace(/\W/g, ""));
  for (const who of [mary, joe, sue]) await who.hears(text);
}

function refusalOf(socket: TestSocket): Promise<Error & { data?: unknown }> {
  return new Promise((resolve, reject) => {
    socket.once("connect_error", resolve);
    socket.once("connect", () => reject(new Error("it was let in")));
    socket.connect();
  });
}

/** Whether a WebSocket handshake is upgraded, or refused with a status. */
function handshake(replica: Replica, headers: Record<string, string>): Promise<"open" | "refused"> {
  return new Promise((resolve, reject) => {
    const asked = request(`${replica.address}/socket.io/?EIO=4&transport=websocket`, {
      headers: {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": Buffer.alloc(16).toString("base64"),
        ...headers,
      },
    });
    asked.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve(response.statusCode === 101 ? "open" : "refused");
    });
    asked.on("response", (response) => {
      response.resume();
      if (response.statusCode === 400 || response.statusCode === 403) resolve("refused");
      else reject(new Error(`the handshake was answered with ${response.statusCode}`));
    });
    asked.on("error", reject);
    asked.end();
  });
}

describe("the handshake", () => {
  it("is refused with a code if it has no session", async () => {
    const refused = await refusalOf(new Browser(left).socket());
    expect(refused.data).toEqual({ code: "unauthorized", message: "Log in first." });
  });

  it.each([
    ["a forged signature", (cookie: string) => `${cookie.slice(0, -3)}xyz`],
    [
      "somebody's session id without a signature",
      (cookie: string) => cookie.replace(/s%3A/, "").replace(/\..*/, ""),
    ],
    ["an unknown session id", () => "hubbub=s%3Anonsense.nonsense"],
    ["rubbish", () => "hubbub=%%%; ;=;"],
  ])("is refused with %s", async (_what, forge) => {
    const browser = new Browser(left);
    browser.cookie = forge(mary.browser.cookie);
    expect((await refusalOf(browser.socket())).data).toMatchObject({ code: "unauthorized" });
  });

  it("is refused before the upgrade if it comes from another site, even with a valid cookie", async () => {
    const { cookie } = mary.browser;
    const { host, port } = new URL(left.address);
    const foreign = [
      "http://evil.example",
      "null",
      `http://${host}.evil.example`,
      `http://evil.example/${host}`,
      `http://evil.example@127.0.0.1:${Number(port) + 1}`,
      `http://127.0.0.1:${Number(port) + 1}`,
      `http://localhost:${port}`,
      "http://127.0.0.1",
      "file://",
      "",
    ];
    for (const origin of foreign) expect(await handshake(left, { cookie, origin }), origin).toBe("refused");
    expect(await handshake(left, { cookie, "sec-fetch-site": "cross-site" })).toBe("refused");
    expect(await handshake(left, { cookie, "sec-fetch-site": "same-site" })).toBe("refused");
    // The controls: the server's own page, and a program that is no browser.
    expect(await handshake(left, { cookie, origin: left.address })).toBe("open");
    expect(await handshake(left, { cookie })).toBe("open");
  });

  it("is accepted from a configured origin", async () => {
    const replica = await house.addReplica({ ORIGINS: "https://chat.example" });
    const { cookie } = mary.browser;
    expect(await handshake(replica, { cookie, origin: "https://chat.example" })).toBe("open");
    expect(await handshake(replica, { cookie, origin: "http://chat.example" })).toBe("refused");
    expect(await handshake(replica, { cookie, origin: "https://chat.example.evil" })).toBe("refused");
  });

  it("is all that a page of a configured origin can read: it may send changes, and sees no answer of the API", async () => {
    const { address } = await house.addReplica({ ORIGINS: "https://chat.example" });
    const ask = (method: string, path: string, more: Record<string, string> = {}) =>
      fetch(`${address}${path}`, {
        method,
        headers: { cookie: mary.browser.cookie, origin: "https://chat.example", ...more },
      });
    const answers = [
      await ask("OPTIONS", "/api/me", { "access-control-request-method": "PATCH" }),
      await ask("GET", "/api/me"),
      await ask("DELETE", "/api/me/sessions"),
    ];
    expect(answers.map(({ status }) => status)).toEqual([404, 200, 204]);
    for (const { headers } of answers) {
      expect([...headers.keys()].filter((name) => name.startsWith("access-control-"))).toEqual([]);
      expect(headers.get("cross-origin-resource-policy")).toBe("same-origin");
    }
  });

  it("is refused by long-polling if that is switched off", async () => {
    const answer = await mary.browser.fetch("GET", "/socket.io/?EIO=4&transport=polling");
    expect(answer).toMatchObject({
      status: 400,
      body: { code: "invalid", message: 'Only WebSocket: set `transports: ["websocket"]`.' },
    });
  });
});

describe("garbage", () => {
  const events = ["message", "room.join", "room.leave", "room.read", "sync"];

  it.each(events)("in %s is answered with a code, and the server works on", async (event) => {
    const attacker = await person(left);
    const payloads: unknown[] = [
      ...fc.sample(fc.jsonValue(), { numRuns: 60, seed: 11 }),
      ...fc.sample(
        fc.record(
          {
            roomId: fc.oneof(fc.constant("0"), fc.jsonValue()),
            message: fc.jsonValue(),
            nonce: fc.jsonValue(),
            seq: fc.jsonValue(),
            rooms: fc.array(fc.jsonValue(), { maxLength: 3 }),
          },
          { requiredKeys: [] },
        ),
        { numRuns: 60, seed: 12 },
      ),
      JSON.parse('{"__proto__":{"roomId":"0"},"constructor":1}'),
      Buffer.from([1, 2, 3]),
      { roomId: Buffer.from("0"), message: Buffer.from("binary"), nonce: Buffer.from("n") },
      { rooms: [Buffer.from("x")] },
      { roomId: "0", seq: Number.MAX_VALUE },
      { roomId: "0", seq: -1 },
      { roomId: "0", seq: 1.5 },
      { roomId: "0", seq: "1" },
      { roomId: "0", message: "", nonce: "n" },
      { roomId: "0", message: " \n\t\u00a0", nonce: "n" },
      { roomId: "0", message: "\u200b\u2060\u2800\u3164\ufe0f", nonce: "n" },
      { roomId: "0", message: "no nonce" },
      { roomId: "0", message: "bad nonce", nonce: "" },
      { roomId: "0", message: "bad nonce", nonce: "a b" },
      { roomId: "0", message: "bad nonce", nonce: "n".repeat(65) },
      { roomId: "0", message: "bad nonce", nonce: "}:members" },
      { rooms: Array.from({ length: LIMITS.syncRooms + 1 }, () => ({ roomId: "0", seq: 0, date: 0 })) },
      { rooms: [{ roomId: "0", seq: 1, date: 1, hash: "not hex" }] },
    ];
    const before = await house.redis.zcard(house.keys.room("0"));
    const replies = await Promise.all(payloads.map((payload) => emit(attacker.socket, event, payload)));
    for (const [index, reply] of replies.entries()) {
      const code = codeOf(reply);
      const what = JSON.stringify(payloads[index]);
      expect([...ERROR_CODES, "ok"], what).toContain(code);
      expect(code, what).not.toBe("internal");
      expect(code, what).not.toBe("unavailable");
      expect(JSON.stringify(reply), what).not.toMatch(/ at .*\.[jt]s|node_modules|WRONGTYPE|ERR /);
    }
    expect(await house.redis.zcard(house.keys.room("0"))).toBe(before);
    expect(codeOf(await emit(attacker.socket, event))).toBe("invalid");
    attacker.close();
    await expectAllWell();
  });

  it.each(events)("in %s without a callback does no harm", async (event) => {
    const attacker = await person(left);
    const { socket } = attacker as unknown as {
      socket: { emit: (event: string, ...args: unknown[]) => void };
    };
    for (const payload of [undefined, null, 5, "text", {}, [], Buffer.from("x"), { roomId: "1:name" }]) {
      socket.emit(event, payload);
    }
    socket.emit(event);
    socket.emit(event, {}, "not a callback");
    expect(codeOf(await emit(attacker.socket, "sync", { rooms: [] }))).toBe("ok");
    attacker.close();
    await expectAllWell();
  });

  it("a message without a callback is still stored", async () => {
    mary.socket.emit(
      "message",
      { roomId: "0", message: "no callback", nonce: "no-callback" },
      undefined as never,
    );
    await joe.hears("no callback");
  });

  it("in further arguments does not prevent the answer", async () => {
    const body = { roomId: "0", message: "with more arguments", nonce: "more" };
    expect(codeOf(await emit(mary.socket, "message", body, "more", { and: "more" }))).toBe("ok");
  });

  it("as an unknown event, or as one that Node reserves, does no harm", async () => {
    const attacker = await person(left);
    const { socket } = attacker as unknown as {
      socket: { emit: (event: string, ...args: unknown[]) => void };
    };
    for (const event of [
      "error",
      "nonsense",
      "constructor",
      "__proto__",
      "join",
      "user.connected",
      "show.room",
      "",
    ])
      socket.emit(event, { roomId: "0" });
    expect(codeOf(await emit(attacker.socket, "sync", { rooms: [] }))).toBe("ok");
    attacker.close();
    await expectAllWell();
  });

  it("as a malformed packet closes only that connection", async () => {
    const packets = [
      "2",
      "2[",
      '2["message"',
      "2{}",
      "2[1,2]",
      "2[null]",
      '2[{"a":1}]',
      '2["message",{"roomId":"0"}]]',
      '51-["message"]',
      '5999999-["message",{"_placeholder":true,"num":99}]',
      '52-["message",{"_placeholder":true,"num":-1}]',
      "3[]",
      "399999[]",
      "9",
      "",
      "0",
      "0{}",
      '0/other,{"a":1}',
      "1",
      "4{}",
      '2/admin,["message",{}]',
      '2999999999999999999999["message",{}]',
      `2${"[".repeat(20_000)}`,
    ];
    await Promise.all(
      packets.map(async (packet) => {
        const attacker = await person(left);
        attacker.socket.io.engine.write(packet);
        attacker.socket.io.engine.write(Buffer.from(packet));
        await emit(attacker.socket, "sync", { rooms: [] }).catch(() => undefined);
        attacker.close();
      }),
    );
    await expectAllWell();
  });

  it("over the size limit closes only that connection", async () => {
    const attacker = await person(left);
    const closed = new Promise((resolve) => attacker.socket.once("disconnect", resolve));
    attacker.socket.emit("message", { roomId: "0", message: "x".repeat(1_000_000), nonce: "n" }, () => {});
    await closed;
    await expectAllWell();
    expect(mary.socket.connected).toBe(true);
  });

  it("just over the length limit is refused with a code and not stored", async () => {
    const longest = await mary.say("0", "y".repeat(LIMITS.message), "longest");
    expect(longest.message).toHaveLength(LIMITS.message);
    const body = { roomId: "0", message: "z".repeat(LIMITS.message + 1), nonce: "n" };
    expect(codeOf(await emit(mary.socket, "message", body))).toBe("too_large");
  });

  it.each([
    ["message", { roomId: "0", message: "a\ud83d", nonce: "half" }],
    ["message", { roomId: "0", message: "\ude00\ud83d", nonce: "half" }],
    ["message", { roomId: "0", message: "", nonce: "half", files: [{ id: "x".repeat(22), alt: "\udfff" }] }],
    ["message.edit", { roomId: "0", seq: 1, message: "\ud800", rev: 0, nonce: "half" }],
  ])("with half a character is refused by %s, and not stored", async (event, body) => {
    const whole = await mary.say("0", "a whole one: 😀");
    expect(codeOf(await emit(mary.socket, event, body))).toBe("invalid");
    const stored = await house.redis.zrevrange(house.keys.room("0"), 0, 0);
    expect(stored).toEqual([expect.stringContaining(`"seq":${whole.seq},`)]);
  });

  it("as a room id reaches no Redis command by any route", async () => {
    const attacker = await person(left);
    const commands = await commandsDuring(async () => {
      const { address, cookie } = attacker.browser;
      for (const roomId of BAD_ROOM_IDS) {
        const replies = await Promise.all([
          emit(attacker.socket, "message", { roomId, message: "m", nonce: "n" }),
          emit(attacker.socket, "room.join", { roomId }),
          emit(attacker.socket, "room.leave", { roomId }),
          emit(attacker.socket, "room.read", { roomId, seq: 1 }),
          emit(attacker.socket, "sync", { rooms: [{ roomId, seq: 0, date: 0 }] }),
        ]);
        expect(replies.map(codeOf), JSON.stringify(roomId)).toEqual(Array<string>(5).fill("invalid"));
        const path = `/api/rooms/${encodeURIComponent(typeof roomId === "string" ? roomId : JSON.stringify(roomId))}/messages`;
        const { status } = await fetch(`${address}${path}`, { headers: { cookie } });
        // In a path, the number 0 is General.
        if (roomId !== 0) expect([400, 404], path.slice(0, 80)).toContain(status);
        const { status: direct } = await attacker.browser.post("/api/rooms/private", { userId: roomId });
        expect([400, 404]).toContain(direct);
      }
    });
    attacker.close();
    const prefix = house.env["KEY_PREFIX"] ?? "";
    const named = commands.flat().flatMap((word) => {
      // Every room that a command names, in a key, in a channel or alone.
      const key = new RegExp(`^\\{?${prefix}(?:room:|MESSAGES:)(.*)$`, "s").exec(word)?.[1];
      return key === undefined ? [] : key.replace(/\}.*$/s, "").replace(/^(0|\d+):name$/, "$1");
    });
    const own = commands.filter((words) => words.some((word) => word.includes(prefix))).flat();
    const bad = BAD_ROOM_IDS.filter((id) => typeof id === "string" && id.length > 3 && !/^[\d:]+$/.test(id));
    expect(named.length).toBeGreaterThan(0);
    expect([...new Set(named)].filter((id) => !isRoomId(id))).toEqual([]);
    expect(bad.filter((id) => own.includes(id as string))).toEqual([]);
  });

  it("claims about author, date and room are ignored", async () => {
    const spoofed = {
      roomId: "0",
      message: "I am joe",
      nonce: "spoof",
      from: joe.user.id,
      date: 99_999_999_999_999,
      seq: 1,
      hash: "0",
      username: "joe",
      id: 5,
    };
    const said = unwrap(await mary.socket.emitWithAck("message", spoofed));
    expect(said.from).toBe(mary.user.id);
    expect(Math.abs(said.date - Date.now())).toBeLessThan(5_000);
    expect(said.seq).toBe((await house.redis.hget(house.keys.meta("0"), "seq").then(Number)) || 0);
    expect(Object.keys(said).toSorted()).toEqual(
      ["date", "from", "hash", "message", "nonce", "roomId", "seq"].toSorted(),
    );
    expect(await joe.hears("I am joe")).toEqual(said);
  });
});

describe("a private room of two others", () => {
  let roomId: string;
  beforeAll(async () => {
    roomId = `${mary.user.id}:${joe.user.id}`;
    await mary.say(roomId, "for joe alone");
    await joe.hears("for joe alone");
  });

  it("refuses joins, reads, messages, marks, leaves and syncs, as if it did not exist", async () => {
    const unknown = `${mary.user.id}:4242424242`;
    const attempts = (id: string) =>
      Promise.all([
        emit(sue.socket, "message", { roomId: id, message: "let me in", nonce: `sue-${id}` }),
        emit(sue.socket, "room.join", { roomId: id }),
        emit(sue.socket, "room.leave", { roomId: id }),
        emit(sue.socket, "room.read", { roomId: id, seq: 1 }),
      ]);
    const replies = await attempts(roomId);
    expect(replies.map(codeOf)).toEqual(Array<string>(4).fill("not_found"));
    expect(replies).toEqual(await attempts(unknown));
    const synced = await emit(sue.socket, "sync", { rooms: [{ roomId, seq: 0, date: 0 }] });
    expect(synced).toEqual({
      ok: true,
      value: { rooms: [{ roomId, messages: [], more: false, notFound: true }] },
    });
    expect(await house.redis.zcard(house.keys.room(roomId))).toBe(1);
    expect(await house.redis.smembers(house.keys.userRooms(sue.user.id))).toEqual(["0"]);
  });

  it("is still not heard after these attempts", async () => {
    const heard = record(sue);
    await joe.say(roomId, "still just us");
    await mary.hears("still just us");
    await joe.say("0", "barrier for sue");
    await sue.hears("barrier for sue");
    expect(heard.map(([event, body]) => [event, (body as Message).message])).toEqual([
      ["message", "barrier for sue"],
    ]);
  });

  it("is open to the two, in every way", async () => {
    expect(codeOf(await emit(joe.socket, "room.join", { roomId }))).toBe("ok");
    expect(codeOf(await emit(joe.socket, "room.read", { roomId, seq: 2 }))).toBe("ok");
    expect(codeOf(await emit(joe.socket, "room.leave", { roomId }))).toBe("invalid");
    const synced = unwrap(await joe.socket.emitWithAck("sync", { rooms: [{ roomId, seq: 0, date: 0 }] }));
    expect(synced.rooms[0]?.messages).toHaveLength(2);
  });

  it("leaves no key behind if it is with an unknown user or with oneself", async () => {
    for (const id of [`${mary.user.id}:4242424242`, `${mary.user.id}:${mary.user.id}`])
      expect(["not_found", "invalid"]).toContain(
        codeOf(await emit(mary.socket, "message", { roomId: id, message: "echo?", nonce: "n" })),
      );
    const prefix = house.env["KEY_PREFIX"] ?? "";
    expect(await house.redis.keys(`*${prefix}*4242424242*`)).toEqual([]);
  });
});

describe("a private room", () => {
  it("appears with its first message in all windows of the other person, once and in order, and nowhere else", async () => {
    const [ann, bob] = [await person(left), await person(right)];
    const bobsOther = await windowOf(bob, left);
    const annsOther = await windowOf(ann, right);
    const { status, body: room } = await ann.browser.post<Room>("/api/rooms/private", {
      userId: bob.user.id,
    });
    expect(status).toBe(201);
    const heard = [bob, bobsOther, sue, mary].map(record);
    await ann.say("0", "barrier one");
    for (const who of [bob, bobsOther, sue, mary]) await who.hears("barrier one");
    // Nothing may arrive before the first message.
    expect(heard.flat().filter(([event]) => event !== "message")).toEqual([]);
    const texts = ["one", "two", "three", "four", "five"];
    await Promise.all(texts.map((text) => ann.say(room.id, text, text)));
    for (const who of [bob, bobsOther, annsOther, ann]) await who.hears("five");
    await ann.say("0", "barrier two");
    for (const who of [bob, bobsOther, annsOther, ann, sue, mary]) await who.hears("barrier two");
    for (const events of heard.slice(0, 2)) {
      const ofRoom = events.filter(
        ([event, body]) => event === "show.room" || (body as Message).roomId === room.id,
      );
      expect(ofRoom.map(([event]) => event)).toEqual(["show.room", ...texts.map(() => "message")]);
      expect(ofRoom[0]?.[1]).toMatchObject({
        id: room.id,
        private: true,
        names: [ann, bob].map((one) => one.user.username),
      });
      expect(ofRoom.slice(1).map(([, body]) => (body as Message).seq)).toEqual([1, 2, 3, 4, 5]);
    }
    for (const events of heard.slice(2)) {
      expect(events.map(([, body]) => (body as Message).message)).toEqual(["barrier one", "barrier two"]);
    }
    expect(annsOther.messages.filter(({ roomId }) => roomId === room.id).map(({ seq }) => seq)).toEqual([
      1, 2, 3, 4, 5,
    ]);
    for (const one of [ann, bob, annsOther, bobsOther]) one.close();
  });

  it("appears once for both people, with both messages, if their first messages cross on two replicas", async () => {
    const [ann, bob] = [await person(left), await person(right)];
    const roomId = `${ann.user.id}:${bob.user.id}`;
    const heard = [record(ann), record(bob)];
    await Promise.all([ann.say(roomId, "hello bob"), bob.say(roomId, "hello ann")]);
    for (const who of [ann, bob]) {
      await who.hears("hello bob");
      await who.hears("hello ann");
    }
    for (const events of heard) {
      const messages = events
        .filter(([event]) => event === "message")
        .map(([, body]) => (body as Message).seq);
      expect(messages).toEqual([1, 2]);
      expect(events.filter(([event]) => event === "show.room")).toHaveLength(1);
    }
    for (const one of [ann, bob]) one.close();
  });

  it("appears with its first message also if one was refused before", async () => {
    const [ann, bob] = [await person(left), await person(right)];
    const { body: room } = await ann.browser.post<Room>("/api/rooms/private", { userId: bob.user.id });
    const roomId = room.id;
    const heard = record(bob);
    const refused = [
      { roomId, message: "with a file", nonce: "one", files: ["x".repeat(22)] },
      { roomId, message: "an answer", nonce: "two", replyTo: 7 },
    ];
    for (const message of refused)
      expect(codeOf(await emit(ann.socket, "message", message))).toBe("not_found");
    const listed = (await bob.browser.get<Room[]>("/api/rooms")).body.map(({ id }) => id);
    expect(listed).toEqual(["0"]);
    await ann.say(roomId, "without", "three");
    await ann.say("0", "barrier");
    await bob.hears("barrier", 5_000);
    await until(() => heard.some(([event]) => event === "show.room"), 5_000);
    await bob.hears("without", 5_000);
    for (const one of [ann, bob]) one.close();
  });

  it("appears even if the newest row of its log is another program's", async () => {
    const [ann, bob] = [await person(left), await person(right)];
    const roomId = `${ann.user.id}:${bob.user.id}`;
    await ann.say(roomId, "first");
    await bob.hears("first");
    const future = Date.now() + 3_600_000;
    const row = JSON.stringify({ roomId, from: ann.user.id, date: future, message: "dated in the future" });
    await house.redis.zadd(house.keys.room(roomId), future, row);
    await house.redis.srem(house.keys.userRooms(bob.user.id), roomId);
    const window = await windowOf(bob, right);
    const shown = new Promise<Room>((resolve) => window.socket.once("show.room", resolve));
    // A replica on which this room was never open checks again whether both have it.
    const other = await windowOf(ann, await house.addReplica());
    await other.say(roomId, "second");
    const outcome = await Promise.race([shown, until(() => false, 3_000).catch(() => "never shown")]);
    expect(outcome).toMatchObject({ id: roomId });
    for (const one of [ann, bob, window, other]) one.close();
  });
});

describe("a named room", () => {
  it("is no longer heard after it was left for another one, though both orders were lost", async () => {
    const zoe = await person(left, "zoe");
    const [from, to] = await Promise.all(
      ["Lounge", "Library"].map(async (name) => (await mary.browser.post<Room>("/api/rooms", { name })).body),
    );
    if (!from || !to) throw new Error("no rooms");
    await emit(zoe.socket, "room.join", { roomId: from.id });
    const heard = record(zoe);
    const { redis, keys } = house;
    await redis.hdel(keys.records(from.id), zoe.user.id);
    await redis.srem(keys.userRooms(zoe.user.id), from.id);
    await redis.hset(keys.records(to.id), zoe.user.id, '{"role":"member"}');
    await redis.sadd(keys.userRooms(zoe.user.id), to.id);
    // A new connection makes the replica check all windows of its user.
    const other = await windowOf(zoe, left);
    const isShown = () =>
      heard.some(([event, shown]) => event === "show.room" && (shown as Room | undefined)?.id === to.id);
    await until(isShown);
    expect(heard).toContainEqual(["hide.room", { roomId: from.id }]);
    await mary.say(from.id, "secret of the lounge");
    await mary.say(to.id, "open in the library");
    await zoe.hears("open in the library");
    expect(zoe.messages.map(({ message }) => message)).not.toContain("secret of the lounge");
    for (const one of [zoe, other]) one.close();
  });

  it("from which a user is removed while it is shown to them does not keep the next one from being shown", async () => {
    const zoe = await person(left);
    const { id: userId } = zoe.user;
    const [first, second] = [await mary.makes({ name: "Shed" }), await mary.makes({ name: "Barn" })];
    const { redis, keys } = house;
    for (const { id } of [first, second]) {
      await redis.hset(keys.records(id), userId, '{"role":"member"}');
      await redis.sadd(keys.userRooms(userId), id);
    }
    // oxlint-disable-next-line typescript/unbound-method -- called with `this`
    const described = ChatRooms.prototype.describe;
    const describing = vi.spyOn(ChatRooms.prototype, "describe").mockImplementation(async function (
      this: ChatRooms,
      ...asked
    ) {
      if (asked[0] === first.id) await redis.hdel(keys.records(first.id), userId);
      return described.apply(this, asked);
    });
    try {
      const heard = record(zoe);
      // A changed account makes the replica check all windows of its user; the last thing that it tells is "me".
      await zoe.browser.fetch("PATCH", "/api/me", { displayName: "Zoe of the Barn" });
      await until(() => heard.some(([event]) => event === "me"));
      const shown = heard.filter(([event]) => event === "show.room").map(([, room]) => (room as Room).id);
      expect(shown).toEqual([second.id]);
    } finally {
      describing.mockRestore();
    }
    zoe.close();
  });

  it("that is shown while a sync is answered is not told as unknown by that answer, however early it was asked of", async () => {
    const [zoe, hut] = [await person(left), await mary.makes({ name: "Hut" })];
    const change = (method: string, body?: unknown) =>
      mary.browser.fetch(method, `/api/rooms/${hut.id}/members/${zoe.user.id}`, body);
    let isAsked = false;
    let release = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    // oxlint-disable-next-line typescript/unbound-method -- called with `this`
    const { sync } = ChatMessages.prototype;
    const syncing = vi.spyOn(ChatMessages.prototype, "sync").mockImplementation(async function (
      this: ChatMessages,
      ...asked
    ) {
      const found = await sync.apply(this, asked);
      isAsked ||= asked[1].roomId === hut.id;
      // The other room's answer takes its time.
      if (asked[1].roomId !== hut.id) await released;
      return found;
    });
    try {
      const heard = record(zoe);
      const cursors = [hut.id, "4242424242"].map((roomId) => ({ roomId, seq: 0, date: 0 }));
      const answer = emit(zoe.socket, "sync", { rooms: cursors });
      await until(() => isAsked);
      expect((await change("PUT", { role: "member" })).status).toBe(200);
      await until(() => heard.some(([event]) => event === "show.room"));
      release();
      const told = await answer;
      expect(told).toMatchObject({ ok: true, value: { rooms: [{ messages: [] }, { notFound: true }] } });
      expect(told).not.toHaveProperty("value.rooms.0.notFound");
    } finally {
      release();
      syncing.mockRestore();
    }
    zoe.close();
  });

  it("is not shown to a window anew because another one of its user was ended", async () => {
    const ann = await person(left);
    await ann.makes({ name: "Attic" });
    const other = new Browser(left);
    await other.post("/api/login", { username: ann.user.username, password: "correct horse" });
    const ending = await connect(other, ann.user);
    const heard = record(ann);
    const [sid = ""] = /(?<=s%3A)[^.]+/.exec(other.cookie) ?? [];
    await house.redis.del(house.keys.session(sid));
    const ended = new Promise((resolve) => ending.socket.once("disconnect", resolve));
    // A changed account makes the replica check all windows of its user; the last thing that it tells is "me".
    await ann.browser.fetch("PATCH", "/api/me", { displayName: "Ann of the Attic" });
    await ended;
    await until(() => heard.some(([event]) => event === "me"));
    expect(heard.filter(([event]) => event === "show.room")).toEqual([]);
    ann.close();
  });

  it("appears in its creator's other windows on every replica, and is heard there", async () => {
    const other = await windowOf(mary, right);
    const shown = new Promise<Room>((resolve) => other.socket.once("show.room", resolve));
    const { body: room } = await mary.browser.post<Room>("/api/rooms", { name: "Workshop" });
    expect(await shown).toEqual(room);
    expect(room).toMatchObject({ names: ["Workshop"], private: false, last: null, seq: 0, unread: 0 });
    await mary.say(room.id, "first in the workshop");
    await other.hears("first in the workshop");
    other.close();
  });

  it("is joined and left in all windows at once, and reaches only members", async () => {
    const { body: made } = await mary.browser.post<Room>("/api/rooms", { name: "Kitchen" });
    const other = await windowOf(joe, left);
    const heard = [record(joe), record(other)];
    await mary.say(made.id, "before joe");
    expect(codeOf(await emit(joe.socket, "message", { roomId: made.id, message: "x", nonce: "x" }))).toBe(
      "not_found",
    );

    const shown = new Promise((resolve) => other.socket.once("show.room", resolve));
    const { room, messages } = unwrap(await joe.socket.emitWithAck("room.join", { roomId: made.id }));
    expect(room).toMatchObject({ id: made.id, names: ["Kitchen"], seq: 1, unread: 1 });
    expect(messages.map(({ message }) => message)).toEqual(["before joe"]);
    await shown;
    // A second join changes nothing.
    expect(codeOf(await emit(joe.socket, "room.join", { roomId: made.id }))).toBe("ok");
    await mary.say(made.id, "hello joe, here");
    for (const who of [joe, other]) await who.hears("hello joe, here");

    const hidden = new Promise((resolve) => other.socket.once("hide.room", resolve));
    expect(codeOf(await emit(joe.socket, "room.leave", { roomId: made.id }))).toBe("ok");
    expect(await hidden).toEqual({ roomId: made.id });
    await mary.say(made.id, "after joe");
    await mary.say("0", "barrier after joe");
    for (const who of [joe, other]) await who.hears("barrier after joe");
    for (const events of heard) {
      const texts = events
        .filter(([event]) => event === "message")
        .map(([, body]) => (body as Message).message);
      expect(texts).toEqual(["hello joe, here", "barrier after joe"]);
    }
    for (const [event, body] of [
      ["message", { roomId: made.id, message: "x", nonce: "x2" }],
      ["room.leave", { roomId: made.id }],
      ["room.read", { roomId: made.id, seq: 1 }],
    ] as const)
      expect(codeOf(await emit(joe.socket, event, body)), event).toBe("not_found");
    other.close();
  });

  it("is listed for everybody in the directory, with its members", async () => {
    const { body: made } = await mary.browser.post<Room>("/api/rooms", { name: "Listed" });
    const { body } = await sue.browser.get<object[]>(`/api/rooms/directory?after=${Number(made.id) - 1}`);
    expect(body).toContainEqual({ id: made.id, kind: "open", name: "Listed", members: 1, joined: false });
  });

  it("cannot be joined if it does not exist", async () => {
    expect(codeOf(await emit(joe.socket, "room.join", { roomId: "424242" }))).toBe("not_found");
    expect(await house.redis.exists(house.keys.records("424242"))).toBe(0);
  });
});

describe("read marks", () => {
  it("only rise, stop at the newest message, and reach the user's other windows", async () => {
    const { body: room } = await mary.browser.post<Room>("/api/rooms", { name: "Reading" });
    unwrap(await joe.socket.emitWithAck("room.join", { roomId: room.id }));
    const other = await windowOf(joe, left);
    for (let index = 1; index <= 5; index += 1) await mary.say(room.id, `r${index}`);
    const unread = async () =>
      (await joe.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === room.id)?.unread;
    expect(await unread()).toBe(5);
    const told = new Promise((resolve) => other.socket.once("room.read", resolve));
    const mark = async (seq: number) =>
      unwrap(await joe.socket.emitWithAck("room.read", { roomId: room.id, seq })).read;
    expect(await mark(3)).toBe(3);
    expect(await told).toEqual({ roomId: room.id, read: 3 });
    expect(await unread()).toBe(2);
    expect(await mark(1)).toBe(3);
    expect(await mark(Number.MAX_SAFE_INTEGER)).toBe(5);
    expect(await unread()).toBe(0);
    other.close();
  });

  it("fall in every window if a user marks messages as unread, and rise again from there", async () => {
    const { body: room } = await mary.browser.post<Room>("/api/rooms", { name: "Reading again" });
    unwrap(await joe.socket.emitWithAck("room.join", { roomId: room.id }));
    for (let index = 1; index <= 5; index += 1) await mary.say(room.id, `u${index}`);
    const other = await windowOf(joe, left);
    const heard: unknown[] = [];
    other.socket.on("room.read", (read) => void heard.push(read));
    const roomId = room.id;
    const mark = async (seq: number, unread?: true) => {
      const asked = { roomId, seq, ...(unread && { unread }) };
      const { read } = unwrap(await joe.socket.emitWithAck("room.read", asked));
      await until(() => isDeepStrictEqual(heard.pop(), { roomId, read, ...(unread && { unread }) }));
      return read;
    };
    expect(await mark(5)).toBe(5);
    expect(await mark(2, true)).toBe(2);
    const listed = (await joe.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === roomId);
    expect(listed).toMatchObject({ read: 2, unread: 3 });
    expect(await mark(4, true), "what is unread already stays so").toBe(2);
    expect(await mark(3)).toBe(3);
    expect(await mark(Number.MAX_SAFE_INTEGER, true)).toBe(3);
    expect(await mark(0, true)).toBe(0);
    const wrong = { roomId, seq: 1, unread: "yes" } as never;
    expect(await joe.socket.emitWithAck("room.read", wrong)).toMatchObject({ error: { code: "invalid" } });
    other.close();
  });

  it("end in every window as they are stored, whatever a user's windows on two replicas mark at once", async () => {
    const { id: roomId } = await mary.makes({ name: "Reading at once" });
    unwrap(await joe.socket.emitWithAck("room.join", { roomId }));
    for (let index = 1; index <= 10; index += 1) await mary.say(roomId, `w${index}`);
    const windows = [await windowOf(joe, left), await windowOf(joe, right)] as const;
    const shown = windows.map(() => 0);
    for (const [index, { socket }] of windows.entries())
      socket.on("room.read", ({ read, unread }) => {
        shown[index] = unread ? Math.min(shown[index] ?? 0, read) : Math.max(shown[index] ?? 0, read);
      });
    const mark = (one: Person, seq: number, unread?: true) =>
      one.socket.emitWithAck("room.read", { roomId, seq, ...(unread && { unread }) }).then(unwrap);
    for (let round = 0; round < 60; round += 1) {
      await mark(windows[0], 5, true);
      await until(() => shown.every((read) => read <= 5));
      await Promise.all([mark(windows[0], 10), mark(windows[1], 5, true), mark(windows[0], 7)]);
      const stored = Number(await house.redis.hget(house.keys.read(roomId), joe.user.id));
      await until(() => shown.every((read) => read === stored), PATIENCE_MS, `both to show ${stored}`);
    }
    for (const one of windows) one.close();
  });

  it("are looked up by no replica without a connection of the user", async () => {
    const jim = await person(left, "jim");
    const here = await windowOf(joe, left);
    const there = await windowOf(joe, right);
    await jim.say("0", "to be read");
    const commands = await commandsDuring(async () => {
      const heard = new Promise((resolve) => there.socket.once("room.read", resolve));
      for (const one of [jim, here])
        unwrap(await one.socket.emitWithAck("room.read", { roomId: "0", seq: Number.MAX_SAFE_INTEGER }));
      // The right replica gets the orders in this order.
      await heard;
    });
    const looks = commands.filter(([command, key]) => command === "hget" && key === house.keys.read("0"));
    expect(looks.filter(([, , userId]) => userId === jim.user.id)).toHaveLength(1);
    expect(looks.filter(([, , userId]) => userId === joe.user.id)).toHaveLength(2);
    for (const one of [jim, here, there]) one.close();
  });
});

describe("a session's end", () => {
  const login = async (name: string, replica: Replica) => {
    const browser = new Browser(replica);
    const { body } = await browser.post<User>("/api/login", { username: name, password: "correct horse" });
    return connect(browser, body);
  };

  it("by log-out closes its sockets on every replica within a second, but leaves other sessions alone", async () => {
    const here = await person(left, "leaver");
    const there = await windowOf(here, right);
    const elsewhere = await login("leaver", right);
    const gone = [here, there].map(
      ({ socket }) => new Promise<string>((resolve) => socket.once("disconnect", resolve)),
    );
    const start = performance.now();
    expect((await here.browser.post("/api/logout")).status).toBe(204);
    await Promise.all(gone);
    expect(performance.now() - start).toBeLessThan(1_000);
    expect((await elsewhere.say("0", "I am still here")).from).toBe(here.user.id);
    // The cookie is now worthless at either door.
    expect((await there.browser.get("/api/me")).status).toBe(401);
    expect((await refusalOf(there.browser.socket())).data).toMatchObject({ code: "unauthorized" });
    elsewhere.close();
  });

  it("comes to the oldest of more than 50, and closes its sockets on every replica", async () => {
    const first = await person(left, "hoarder");
    const second = await login("hoarder", right);
    const gone = new Promise((resolve) => first.socket.once("disconnect", resolve));
    const logIns = Array.from({ length: 48 }, (_, index) =>
      new Browser(index % 2 ? left : right).post("/api/login", {
        username: "hoarder",
        password: "correct horse",
      }),
    );
    expect((await Promise.all(logIns)).every(({ status }) => status === 200)).toBe(true);
    expect((await first.browser.get("/api/me")).status).toBe(200);
    const newest = await login("hoarder", left);
    await gone;
    expect((await first.browser.get("/api/me")).status).toBe(401);
    expect(await house.redis.zcard(house.keys.userSessions(first.user.id))).toBe(50);
    for (const one of [second, newest]) expect((await one.say("0", "still here")).from).toBe(first.user.id);
    // Ended sessions do not count.
    await second.browser.post("/api/logout");
    await house.redis.del(house.keys.session(sidOf(newest.browser)));
    await login("hoarder", left);
    expect(await house.redis.zcard(house.keys.userSessions(first.user.id))).toBe(49);
  });

  it("follows its account's end at either door, even if another account got the id", async () => {
    for (const replace of [
      (user: User) => house.redis.del(house.keys.user(user.id)),
      (user: User) => house.redis.hset(house.keys.user(user.id), "username", "somebody-else"),
    ]) {
      for (const path of ["/api/me", "/api/rooms/0/messages", "POST"]) {
        const here = await person(left);
        const there = await windowOf(here, right);
        const disconnected = [here, there].map(
          ({ socket }) => new Promise((resolve) => socket.once("disconnect", resolve)),
        );
        await replace(here.user);
        expect((await refusalOf(here.browser.socket())).data).toMatchObject({ code: "unauthorized" });
        const { status, body } =
          path === "POST"
            ? await here.browser.post<Failure>("/api/rooms/private", { userId: mary.user.id })
            : await here.browser.get<Failure>(path);
        expect([status, body.code], path).toEqual([401, "unauthorized"]);
        await Promise.all(disconnected);
        expect(await house.redis.exists(house.keys.session(sidOf(here.browser)))).toBe(0);
      }
    }
  });

  it("follows its account's end, and the same browser can sign up again", async () => {
    const { browser, user } = await person(left);
    await house.redis.del(house.keys.user(user.id));
    const { status } = await browser.post("/api/users", { username: "anew", password: "correct horse" });
    expect(status).toBe(201);
    expect((await browser.get<User>("/api/me")).body.username).toBe("anew");
  });

  it("by a new log-in in the same browser closes its sockets", async () => {
    const before = await person(left, "relogger");
    const { cookie } = before.browser;
    const gone = new Promise((resolve) => before.socket.once("disconnect", resolve));
    await before.browser.post("/api/login", { username: "relogger", password: "correct horse" });
    expect(before.browser.cookie).not.toBe(cookie);
    await gone;
    const replay = new Browser(left);
    replay.cookie = cookie;
    expect((await replay.get("/api/me")).status).toBe(401);
  });

  it.each(["of the session", "of its account"])(
    "by a loss in Redis, %s, is noticed once Redis is back",
    async (what) => {
      const wire = await startWire(testRedisUrl());
      onTestFinished(() => wire.close());
      const replica = await house.addReplica({ REDIS_URL: wire.url });
      onTestFinished(() => replica.close());
      const { browser, socket, user } = await person(replica);
      const gone = new Promise((resolve) => socket.once("disconnect", resolve));
      const { session, user: account } = house.keys;
      await house.redis.del(what === "of the session" ? session(sidOf(browser)) : account(user.id));
      wire.cut();
      const late = sleep(PATIENCE_MS, "late", { ref: false });
      expect(await Promise.race([gone, late])).not.toBe("late");
    },
  );

  it(
    "by deletion in Redis, of the session or its account, is noticed within 35 seconds",
    { timeout: 120_000 },
    async () => {
      const disconnectedAt = await Promise.all(forgotten.disconnectedAt);
      expect(Math.max(...disconnectedAt) - forgotten.deletedAt).toBeLessThan(35_000);
    },
  );
});

describe("somebody who is typing", () => {
  it("is shown as typing to the room's other members on every replica, but not to strangers", async () => {
    const { id } = await mary.makes({ name: `typing ${Math.random()}` });
    unwrap(await joe.socket.emitWithAck("room.join", { roomId: id }));
    const heard: string[] = [];
    for (const one of [mary, joe, sue])
      one.socket.on("typing", ({ roomId, userId }) => {
        if (roomId === id) heard.push(`${one.user.id} of ${userId}`);
      });
    unwrap(await mary.socket.emitWithAck("typing", { roomId: id }));
    await until(() => heard.length > 0);
    expect(heard).toEqual([`${joe.user.id} of ${mary.user.id}`]);
    const reply = await sue.socket.emitWithAck("typing", { roomId: id });
    expect(reply).toMatchObject({ ok: false, error: { code: "not_found" } });
  });

  it("in a typing crowd costs each other member a few frames a second", async () => {
    let frames = 0;
    joe.socket.on("typing", () => (frames += 1));
    await Promise.all(Array.from({ length: 100 }, () => mary.socket.emitWithAck("typing", { roomId: "0" })));
    await mary.say("0", "behind it all");
    await joe.hears("behind it all");
    expect(frames).toBeGreaterThan(0);
    expect(frames).toBeLessThanOrEqual(8);
  });
});

it("a message that another program spoilt with bytes that are no UTF-8 is told with a sign in their place, in each way", async () => {
  const ann = await person(left);
  const { body: spoilt } = await ann.browser.post<Room>("/api/rooms", { name: "Spoilt" });
  const { seq, date } = await ann.say(spoilt.id, "gr\u00fc\u00df dich X, \u4f60\u597d");
  await ann.say(spoilt.id, "and whole");
  const key = house.keys.room(spoilt.id);
  const [row] = await house.redis.zrangeBuffer(key, "0", "0");
  if (row === undefined) throw new Error("nothing is stored");
  await house.redis.zremrangebyrank(key, 0, 0);
  row[row.indexOf(" X,") + 1] = 0xff;
  await house.redis.zadd(key, date, row);
  const wanted = ["gr\u00fc\u00df dich \ufffd, \u4f60\u597d", "and whole"];
  const texts = ({ messages }: { messages: Message[] }) => messages.map(({ message }) => message);
  const path = `/api/rooms/${spoilt.id}/messages`;
  for (const query of ["", "?after=0", `?around=${seq}`])
    expect(texts((await ann.browser.get<Page>(`${path}${query}`)).body)).toEqual(wanted);
  expect(texts(unwrap(await ann.socket.emitWithAck("room.join", { roomId: spoilt.id })))).toEqual(wanted);
  const synced = await ann.socket.emitWithAck("sync", { rooms: [{ roomId: spoilt.id, seq: 0, date: 0 }] });
  expect(unwrap(synced).rooms.map(texts)).toEqual([wanted]);
  expect(ann.socket.connected).toBe(true);
});

it("a joined room's page is charged as pages are, before the room is joined", async () => {
  const strict = await replicas(1, { RATE_LIMITS: "on" });
  try {
    const [replica] = strict.replicas as [Replica];
    const [ann, ben] = [await person(replica), await person(replica)];
    const { body: long } = await ann.browser.post<Room>("/api/rooms", { name: "Long messages" });
    const { body: other } = await ann.browser.post<Room>("/api/rooms", { name: "Another room" });
    const rows = Array.from({ length: 60 }, (_, date) => ({
      from: ann.user.id,
      message: "\u20ac".repeat(LIMITS.message),
      date,
    }));
    await new Log(strict.redis, strict.keys, readConfig(strict.env)).load(long.id, rows);
    const join = async (who: Person, roomId: string) =>
      (await who.socket.timeout(PATIENCE_MS).emitWithAck("room.join", { roomId })) as Reply<unknown>;
    const codes: string[] = [];
    while (codes.at(-1) !== "rate_limited" && codes.length < 190) {
      const told = await join(ben, long.id);
      codes.push(told.ok ? "ok" : told.error.code);
    }
    // 50 messages of 4,000 signs are 200 KB, of the 20,000 that a user may read in 10 s.
    expect(codes.at(-1)).toBe("rate_limited");
    expect(await join(ben, other.id)).toMatchObject({ ok: false, error: { code: "rate_limited" } });
    expect(await strict.redis.sismember(strict.keys.userRooms(ben.user.id), other.id)).toBe(0);
    expect(await join(ann, long.id)).toMatchObject({ ok: true });
  } finally {
    await strict.close();
  }
});

it("a join that still waits when its user logs out is not carried out", async () => {
  const strict = await replicas(1, { RATE_LIMITS: "on" });
  try {
    const [replica] = strict.replicas as [Replica];
    const [ann, ben] = [await person(replica), await person(replica)];
    const rooms: string[] = [];
    while (rooms.length < 60)
      rooms.push((await ann.browser.post<Room>("/api/rooms", { name: `Room ${rooms.length}` })).body.id);
    const listed = () => strict.redis.scard(strict.keys.userRooms(ben.user.id));
    const before = await listed();
    for (const roomId of rooms) ben.socket.emit("room.join", { roomId }, () => undefined);
    await until(async () => (await listed()) > before);
    await ben.browser.post("/api/logout");
    // Until nothing more is carried out.
    for (let known = -1; known !== (await listed()); await sleep(300)) known = await listed();
    expect(await listed()).toBeLessThan(rooms.length);
  } finally {
    await strict.close();
  }
});
