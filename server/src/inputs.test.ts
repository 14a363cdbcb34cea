import { EventEmitter } from "node:events";
import type { Writable } from "node:stream";
import * as fc from "fast-check";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as ws from "ws";
import { readUsers } from "./live/presence.ts";
import { VARIABLES, readConfig } from "./config.ts";
import { Delivery } from "./live/delivery.ts";
import type { Connection } from "./live/frames.ts";
import { createKeys } from "./keys.ts";
import { createMetrics } from "./metrics.ts";
import { createSecurity } from "./security.ts";
import {
  ERROR_CODES,
  FILE_ID,
  LIMITS,
  NONCE,
  USERNAME,
  USER_ID,
  isRoomId,
  type Failure,
  type Message,
  type Reply,
  type RoomId,
  type SyncedRoom,
} from "./protocol.ts";
import type { RedisClient } from "./store/redis.ts";
import { Relay } from "./live/relay.ts";
import { pairOf, privateRoomId } from "./store/kinds.ts";
import { headOf, isOwnRow, parseForeign } from "./store/codec.ts";
import type { Log, Position } from "./store/log.ts";
import { commandsDuring, person, replicas, type House, type Person } from "./testing.ts";

/** Input from outside: any JSON, nearly valid objects, and values that trip a careless reader. */
const tricky = fc.constantFrom<unknown>(
  { toString: 1, valueOf: 1 },
  { __proto__: null },
  JSON.parse('{"__proto__":{"roomId":"0"}}'),
  [],
  [[]],
  ["1"],
  "1:name",
  "}:members",
  "0\n",
  "__proto__",
  "\ud800",
  "x".repeat(5_000),
  -1,
  1e300,
  8.64e15 + 1,
  2 ** 53,
  "1e3",
  "0x1",
);
const anything = fc.oneof(fc.jsonValue(), tricky);

function near(fields: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<unknown> {
  return fc.oneof(
    { weight: 4, arbitrary: fc.record(fields) },
    { weight: 2, arbitrary: fc.record(fields, { requiredKeys: [] }) },
    { weight: 1, arbitrary: anything },
  );
}

/** Valid input in most cases. */
function likely(right: unknown[], other: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 2, arbitrary: fc.constantFrom(...right) }, { weight: 1, arbitrary: other });
}

const roomId = likely(
  ["0", "1", "1:2"],
  fc.oneof(
    fc.constantFrom("2:1", "01", "1:1"),
    fc.string({ unit: fc.constantFrom("0", "1", "9", ":"), maxLength: 8 }),
    anything,
  ),
);
const text = likely(
  ["ok", "é😀"],
  fc.oneof(fc.string({ unit: "binary", maxLength: 20 }), fc.constantFrom("", " "), anything),
);
const count = likely([0, 1, 1_000_000], fc.oneof(fc.nat(), fc.maxSafeInteger(), fc.double(), anything));
// The package's types omit it.
const { Receiver } = ws as unknown as { Receiver: new (options: { isServer: boolean }) => Writable };
const silent = pino({ level: "silent" });

describe("a replica with any input", { timeout: 120_000 }, () => {
  let house: House;
  let ann: Person;
  /** An admin of the server. */
  let boss: Person;
  beforeAll(async () => {
    house = await replicas(1);
    ann = await person(house.replicas[0]!);
    boss = await person(house.replicas[0]!);
    await house.redis.hset(house.keys.user(boss.user.id), "role", "admin");
  });
  afterAll(() => house.close());

  /** Keys and channels consist of our own names and valid ids, whatever the input was. */
  function expectGoodKeys(commands: string[][]): void {
    const prefix = house.env["KEY_PREFIX"] ?? "";
    const words = commands.flat().filter((word) => word.startsWith(prefix) || word.startsWith(`{${prefix}`));
    expect(words.length).toBeGreaterThan(0);
    for (const word of words) {
      const name = word.replace(prefix, "").replaceAll(/[{}]/g, "");
      const [kind = "", ...rest] = name.split(":");
      expect(kind).toMatch(/^[\w./#-]+$/);
      // A name is valid, and has no invisible characters.
      if (kind === "roomname") expect(rest.join(":")).not.toMatch(/\p{C}/u);
      if (kind === "username") expect(rest.join(":")).toMatch(USERNAME);
      if (kind === "user") expect(rest[0]).toMatch(USER_ID);
      if (kind === "file") expect(rest[0]).toMatch(FILE_ID);
      if (!["room", "MESSAGES"].includes(kind) || rest.length === 0) continue;
      const fields = [
        "name",
        "meta",
        "records",
        "changed",
        "revs",
        "joined",
        "members",
        "read",
        "nonce",
        "edit",
        "deleted",
        "thread",
        "pins",
        "mentions",
        "bans",
        "spoke",
        "invites",
        "reports",
        "audit",
        "files",
      ];
      const at = rest.findIndex((part) => fields.includes(part));
      const id = rest.slice(0, at < 0 ? undefined : at).join(":");
      expect(isRoomId(id), word).toBe(true);
      if (at >= 0 && ["nonce", "edit"].includes(rest[at] ?? ""))
        expect(rest.slice(at + 2).join(":")).toMatch(NONCE);
    }
  }

  it("answers any body or query with a listed code, and touches no other key of Redis", async () => {
    const bodies = {
      "/api/users": near({ username: text, password: text }),
      "/api/login": near({ username: text, password: text }),
      "/api/rooms": near({ name: text }),
      "/api/rooms/private": near({ userId: fc.oneof(fc.constantFrom("1", "2", "99"), anything) }),
    };
    const query = fc
      .record(
        {
          before: count,
          after: count,
          size: count,
          ids: text,
          q: text,
          around: count,
          at: count,
          thread: count,
          pinned: text,
          room: roomId,
          from: count,
          cursor: text,
        },
        { requiredKeys: [] },
      )
      .map((fields) =>
        Object.entries(fields)
          .map(([name, value]) => {
            const told = typeof value === "string" ? value : JSON.stringify(value);
            return `${name}=${encodeURIComponent(Buffer.from(told).toString())}`;
          })
          .join("&"),
      );
    const paths = fc.oneof(
      fc.constantFrom(
        "/api/users",
        "/api/rooms/directory",
        "/api/rooms",
        "/api/rooms/0/messages",
        "/api/search",
        "/api/admin/users",
        "/api/admin/rooms",
        "/api/admin/reports",
        "/api/admin/audit",
      ),
      roomId.map((id) => `/api/rooms/${encodeURIComponent(JSON.stringify(id)).slice(0, 200)}/messages`),
    );
    const expectCode = (status: number, body: unknown, what: string) => {
      if (status < 400) return;
      const { code } = body as Failure;
      expect(ERROR_CODES, what).toContain(code);
      expect(["internal", "unavailable"], what).not.toContain(code);
    };
    const commands = await commandsDuring(async () => {
      for (const [path, body] of Object.entries(bodies)) {
        const answers = fc.sample(body, 60).map(async (one) => {
          const what = JSON.stringify(one) ?? "null";
          const { status, body: answer } = await ann.browser.fetch("POST", path, what, {
            cookie: path === "/api/login" || path === "/api/users" ? "" : ann.browser.cookie,
          });
          expectCode(status, answer, what);
        });
        await Promise.all(answers);
      }
      const reads = fc.sample(fc.tuple(paths, query), 200).map(async ([path, asked]) => {
        const by = path.startsWith("/api/admin") ? boss : ann;
        const { status, body } = await by.browser.get(`${path}?${asked}`);
        expectCode(status, body, `${path}?${asked}`);
      });
      await Promise.all(reads);
    });
    expectGoodKeys(commands);
  });

  it("answers any event with a listed code or the declared type, and touches no other key of Redis", async () => {
    const cursor = near({
      roomId,
      seq: count,
      date: count,
      hash: fc.oneof(fc.constantFrom("", "00ff"), anything),
    });
    const fileId = fc.oneof(
      fc.constantFrom("a".repeat(22), "a".repeat(21), "../etc/passwd-and-more"),
      anything,
    );
    const files = fc.array(fc.oneof(fileId, near({ id: fileId, alt: text })), { maxLength: 12 });
    const nonce = fc.oneof(fc.string({ maxLength: 66 }), anything);
    const events = {
      message: fc.oneof(
        near({ roomId, message: text, nonce }),
        near({ roomId, message: text, nonce, files: fc.oneof(files, anything) }),
      ),
      "room.join": near({ roomId }),
      "room.leave": near({ roomId }),
      "room.read": near({ roomId, seq: count }),
      sync: near({ rooms: fc.oneof(fc.array(cursor, { maxLength: 4 }), anything) }),
    };
    const emit = (event: string, payload: unknown) =>
      (
        ann.socket as unknown as {
          timeout: (ms: number) => { emitWithAck: (...of: unknown[]) => Promise<unknown> };
        }
      )
        .timeout(20_000)
        .emitWithAck(event, payload) as Promise<Reply<unknown>>;
    /** Texts by room and nonce: a repeated nonce is answered with the first message. */
    const sent = new Map<string, unknown[]>();
    const commands = await commandsDuring(async () => {
      for (const [event, payload] of Object.entries(events)) {
        const answers = fc.sample(payload, 100).map(async (one) => {
          const given = (one ?? {}) as Record<string, unknown>;
          const same = JSON.stringify([given["roomId"], given["nonce"]]);
          sent.set(same, [...(sent.get(same) ?? []), given["message"]]);
          const reply = await emit(event, one);
          const what = `${event} ${JSON.stringify(one)}`;
          if (!reply.ok) {
            expect(ERROR_CODES, what).toContain(reply.error.code);
            expect(["internal", "unavailable"], what).not.toContain(reply.error.code);
            return;
          }
          const asked = one as Record<string, unknown>;
          if (event === "message") {
            const stored = reply.value as Message;
            expect(sent.get(same)).toContain(stored.message);
            expect(stored).toEqual({
              roomId: asked["roomId"],
              message: expect.any(String) as unknown,
              nonce: asked["nonce"],
              from: ann.user.id,
              seq: expect.any(Number) as unknown,
              date: expect.any(Number) as unknown,
              hash: expect.stringMatching(/^[0-9a-f]{12}$/) as unknown,
            });
          }
          if (event === "sync") {
            const rooms = (reply.value as { rooms: SyncedRoom[] }).rooms.map((room) => room.roomId);
            expect(rooms).toEqual((asked["rooms"] as { roomId: RoomId }[]).map((room) => room.roomId));
          }
          if (event === "room.read") expect(reply.value).toEqual({ read: expect.any(Number) as unknown });
        });
        await Promise.all(answers);
      }
    });
    expectGoodKeys(commands);
    expect((await ann.say("0", "and it goes on")).message).toBe("and it goes on");
  });
});

describe("a row", () => {
  const place = fc.record({
    seq: fc.nat(),
    date: fc.maxSafeInteger().map(Math.abs),
    hash: fc.constantFrom("0", "0af"),
  });
  const tail = fc.record({
    from: fc.constantFrom("1", "22"),
    message: fc.string({ unit: "binary" }),
    nonce: fc.constantFrom("n", undefined),
  });
  const row = fc
    .tuple(fc.constantFrom("0", "1:2"), place, tail)
    .map(
      ([id, { seq, date, hash }, said]) =>
        `{"roomId":"${id}","seq":${seq},"date":${date},"hash":"${hash}",${JSON.stringify(said).slice(1)}`,
    );
  const sign = fc.constantFrom(
    ...Array.from('{}[]",:\\/0159-+.eEuntf \u0000\n\u2028é'),
    '"nonce":"x"',
    "\\u00e",
    "\ud800",
  );
  const edits = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 2 }), sign), { minLength: 1, maxLength: 3 });

  it("of the scripts is recognised, with its place in the log", () => {
    fc.assert(
      fc.property(row, (one) => {
        const { seq, date, hash } = JSON.parse(one) as Message;
        expect(isOwnRow(one)).toBe(true);
        expect(headOf(one)).toEqual({ seq, date, hash });
      }),
    );
  });

  it("that is recognised is valid JSON of a message, and nothing else", () => {
    let known = 0;
    fc.assert(
      fc.property(row, edits, (one, changes) => {
        const changed = changes.reduce((now, [at, gone, put]) => {
          const from = at % now.length;
          return now.slice(0, from) + put + now.slice(from + gone);
        }, one);
        const head = headOf(changed);
        expect(isOwnRow(changed)).toBe(head !== null);
        if (!head) return;
        known += 1;
        const {
          roomId: id,
          seq,
          date,
          hash,
          from,
          message,
          nonce = "",
          ...rest
        } = JSON.parse(changed) as Message;
        expect({ seq, date, hash }).toEqual(head);
        expect([id, hash, from, message, nonce].every((value) => typeof value === "string")).toBe(true);
        expect(rest).toEqual({});
      }),
      { numRuns: 3_000 },
    );
    expect(known).toBeGreaterThan(50);
  });
});

describe("an announcement", () => {
  it("of any text throws nothing, and what is not stored reaches nobody", async () => {
    const keys = createKeys("");
    const subscriber = Object.assign(new EventEmitter(), { subscribe: () => Promise.resolve(1) });
    const heard: string[] = [];
    const asked = new Set<RoomId>();
    const metrics = createMetrics();
    const relay = new Relay({
      config: { serverId: "me", relayChannel: "single" },
      keys,
      commands: { publish: () => Promise.resolve(1) } as unknown as RedisClient,
      subscriber: subscriber as unknown as RedisClient,
      metrics,
      log: silent,
      messages: {
        look: () =>
          Promise.resolve({ position: { seq: 0, date: 0, hash: "", rev: 0, revHash: "" }, facts: "" }),
        after: (_: string, position: Position) =>
          Promise.resolve({ reset: false, changes: [], rows: [], more: false, position }),
        adopt: (id: RoomId) => {
          asked.add(id);
          return Promise.resolve(0);
        },
      } as unknown as Log,
      members: { among: (_: string, ids: string[]) => Promise.resolve(new Set(ids)) },
      delivery: {
        message: (id: RoomId, json: string) => heard.push(`${id} ${json}`),
        members: () => 1,
        usersIn: () => [],
        changes: () => undefined,
        typing: () => undefined,
        expel: (id: RoomId, userId: string) => heard.push(`${id} ${userId}`) > 0,
        toRoom: () => undefined,
      },
      changed: () => undefined,
      standing: () => undefined,
      returned: () => undefined,
      heard: (_, data) => void readUsers(data),
    });
    const message = near({
      roomId,
      from: fc.oneof(fc.constantFrom("1", 1), anything),
      message: text,
      date: count,
      nonce: text,
    });
    const said = near({
      serverId: fc.oneof(fc.constantFrom("me", "other"), anything),
      type: fc.oneof(
        fc.constantFrom("message", "heartbeat", "change", "user.connected", "user.disconnected"),
        anything,
      ),
      data: fc.oneof(message, near({ id: count, username: text }), anything),
    });
    await relay.start();
    const rooms = ["0", "1", "1:2"];
    await Promise.all(rooms.map((id) => relay.open(id)));
    const data = { from: "1", message: "m", date: 1 };
    const foreign = rooms.map((id) => JSON.stringify({ type: "message", data: { ...data, roomId: id } }));
    const told = fc.oneof(
      said.map((value) => JSON.stringify(value)),
      fc.string(),
    );
    fc.assert(
      fc.property(told, (one) => void subscriber.emit("message", "MESSAGES", one)),
      { numRuns: 2_000, examples: foreign.map((one) => [one]) },
    );
    relay.close();
    expect(heard).toEqual([]);
    expect([...asked].toSorted()).toEqual(rooms);
  });

  it("of a message or of people is read as its declared type, or dropped", () => {
    const message = near({
      roomId,
      from: fc.oneof(fc.nat(), anything),
      message: text,
      date: count,
      nonce: text,
      seq: count,
    });
    fc.assert(
      fc.property(message, (data) => {
        const read = parseForeign(data);
        if (!read) return;
        const { roomId: id, from, message: words, date, nonce = "", ...rest } = read;
        expect(isRoomId(id) && USER_ID.test(from) && typeof nonce === "string").toBe(true);
        expect(words.length > 0 && words.length <= LIMITS.message).toBe(true);
        expect(new Date(date).getTime() === Math.trunc(date)).toBe(true);
        expect(rest).toEqual({});
      }),
      { numRuns: 1_000 },
    );
    const people = fc.oneof(fc.array(near({ id: count, username: text }), { maxLength: 3 }), anything);
    fc.assert(
      fc.property(people, (data) => {
        for (const { id, username, ...rest } of readUsers(data) ?? []) {
          expect(USER_ID.test(id) && USERNAME.test(username)).toBe(true);
          expect(rest).toEqual({});
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

it("a room's id consists of user ids in ascending order, and of nothing else", () => {
  fc.assert(
    fc.property(roomId, (value) => {
      if (!isRoomId(value)) return;
      expect(value).toMatch(/^\d{1,10}(?::\d{1,10})?$/);
      const pair = pairOf(value);
      if (pair) expect(privateRoomId(pair[1], pair[0])).toBe(value);
    }),
    { numRuns: 2_000 },
  );
});

describe("frames", () => {
  it("of packets of any text and length are read as those packets, singly and in a batch", async () => {
    const metrics = createMetrics();
    const delivery = new Delivery({
      config: { batchWindowMs: 0, slowConsumerBytes: 1_000_000_000 },
      metrics,
      security: createSecurity(metrics, silent),
      log: silent,
      emptied: () => undefined,
    });
    const written: Buffer[] = [];
    const tcp = { write: (chunk: Buffer) => written.push(chunk), writableLength: 0 };
    const conn = {
      readyState: "open",
      upgrading: false,
      writeBuffer: [],
      transport: { name: "websocket", writable: true, socket: { _socket: tcp } },
    };
    const data = { user: { id: "1", username: "ann" }, sid: "", rooms: new Set<RoomId>(), admitted: [] };
    const connection = { conn, data } as unknown as Connection;
    delivery.add(connection);
    delivery.join("0", connection);
    const read = () => {
      const packets: string[] = [];
      const receiver = new Receiver({ isServer: false });
      receiver.on("message", (packet: Buffer) => packets.push(packet.toString()));
      receiver.on("error", (error: Error) => packets.push(String(error)));
      return new Promise<string[]>((resolve) => {
        receiver.end(Buffer.concat(written.splice(0)), () => setImmediate(() => resolve(packets)));
      });
    };
    const words = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 300 }),
      fc
        .constantFrom(113, 114, 115, 116, 117, 65_520, 65_527, 65_528, 65_529, 65_530, 70_000)
        .map((length) => "x".repeat(length)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(words, { minLength: 1, maxLength: 6 }), async (texts) => {
        const jsons = texts.map((one) => JSON.stringify(Buffer.from(one).toString()));
        for (const [id, json] of jsons.entries()) {
          const bytes = Buffer.from(json);
          const middle = Math.floor(bytes.length / 2);
          const parts = [bytes.subarray(0, middle), "", bytes.subarray(middle)];
          delivery.answer(connection, id, id % 2 === 0 ? [json] : parts);
        }
        expect(await read()).toEqual(jsons.map((json, id) => `43${id}[${json}]`));
        for (const json of jsons) delivery.message("0", json);
        // It is written within this turn of the event loop.
        await new Promise((resolve) => setImmediate(resolve));
        expect(await read()).toEqual(jsons.map((json) => `42["message",${json}]`));
      }),
      { numRuns: 100 },
    );
  });
});

it("variables of any value are refused in one Error that names them, or read as their type", () => {
  const names = Object.keys(VARIABLES);
  const value = fc.oneof(
    fc.constantFrom(
      "",
      "on",
      "off",
      "auto",
      "0",
      "1",
      "-1",
      "10",
      "3000",
      "1e3",
      "0x10",
      " 5",
      "NaN",
      "Infinity",
      "99999999999",
    ),
    fc.constantFrom(
      "https://a.example",
      "http://a.example/path",
      "javascript:alert(1)",
      "redis://127.0.0.1",
      "unix:///x",
    ),
    fc.constantFrom(
      "a,b",
      ",",
      "x".repeat(40),
      `${"x".repeat(40)},${"y".repeat(40)}`,
      "production",
      "rooms",
      "silent",
      "{}",
      "a b",
    ),
    fc.string(),
  );
  const env = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 6 });
  let read = 0;
  fc.assert(
    fc.property(env, (variables) => {
      let config: ReturnType<typeof readConfig>;
      try {
        config = readConfig(variables);
      } catch (error) {
        expect((error as Error).constructor).toBe(Error);
        expect(Object.keys(variables).some((name) => (error as Error).message.includes(name))).toBe(true);
        return;
      }
      read += 1;
      for (const amount of [
        config.port,
        config.drainMs,
        config.batchWindowMs,
        config.workers,
        config.waitReplicas,
      ])
        expect(Number.isSafeInteger(amount) && amount >= 0).toBe(true);
      expect(config.port).toBeLessThan(65_536);
      expect(config.keyPrefix).toMatch(/^[\w.:-]{0,64}$/);
      for (const origin of config.origins) expect(new URL(origin).origin).toBe(origin);
      for (const secret of config.sessionSecrets) expect(secret.length).toBeGreaterThanOrEqual(32);
      for (const flag of [config.polling, config.rateLimits, config.cookieSecure, config.production])
        expect(typeof flag).toBe("boolean");
    }),
    { numRuns: 1_000 },
  );
  expect(read).toBeGreaterThan(20);
});
