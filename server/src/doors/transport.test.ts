import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { BOUNDS } from "../limits.ts";
import { Log } from "../store/log.ts";
import type { Reply, Room } from "../protocol.ts";
import {
  PATIENCE_MS,
  both,
  figuresOf,
  person,
  replicas,
  until,
  type House,
  type Person,
} from "../testing.ts";

/** A hand-written WebSocket client, with what it received. */
type Raw = {
  socket: WebSocket;
  heard: string[];
  closed: Promise<{ code: number; reason: string }>;
};

let house: House;
let mary: Person;
let joe: Person;
beforeAll(async () => {
  house = await replicas(2, { RATE_LIMITS: "on" });
  const [left, right] = both(house);
  mary = await person(left, "mary");
  joe = await person(right, "joe");
});
afterAll(() => house.close());

async function dial(cookie: string): Promise<Raw> {
  const [left] = both(house);
  const url = `${left.address.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`;
  const socket = new WebSocket(url, { headers: { cookie, origin: left.address } });
  const heard: string[] = [];
  socket.on("message", (data: Buffer) => heard.push(data.toString()));
  socket.on("error", () => undefined);
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.once("close", (code, reason) => resolve({ code, reason: reason.toString() }));
  });
  await until(() => heard[0]?.startsWith("0{"), PATIENCE_MS, "the open packet");
  return { socket, heard, closed };
}

async function enter(cookie: string): Promise<Raw> {
  const raw = await dial(cookie);
  raw.socket.send("40");
  await until(() => raw.heard.some((packet) => packet.startsWith("40{")), PATIENCE_MS, "the connection");
  return raw;
}

/** The status and Retry-After of a refused handshake. */
async function refusalOf(cookie: string): Promise<{ status: number; retryAfter: number }> {
  const [left] = both(house);
  const url = `${left.address.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`;
  const socket = new WebSocket(url, { headers: { cookie, origin: left.address } });
  socket.on("error", () => undefined);
  const [, { statusCode = 0, headers }] = (await once(socket, "unexpected-response")) as [
    unknown,
    IncomingMessage,
  ];
  socket.terminate();
  return { status: statusCode, retryAfter: Number(headers["retry-after"]) };
}

/** The other people of this replica, and of the other one, are still served. */
async function othersAreServed(): Promise<void> {
  const text = randomBytes(6).toString("hex");
  await mary.say("0", text);
  await joe.hears(text);
  await mary.hears(text);
}

describe("only that connection ends", () => {
  const cases: [string, (raw: Raw) => void][] = [
    ["with two CONNECTs at once", ({ socket }) => ["40", "40"].forEach((packet) => socket.send(packet))],
    [
      "with ten CONNECTs at once",
      ({ socket }) =>
        Array<string>(10)
          .fill("40")
          .forEach((one) => socket.send(one)),
    ],
    [
      "with a CONNECT to two namespaces",
      ({ socket }) => ["40", "40/other,"].forEach((one) => socket.send(one)),
    ],
    ["with an event before its CONNECT", ({ socket }) => socket.send('42["sync",{"rooms":[]}]')],
    [
      "with an acknowledgement of nothing",
      ({ socket }) => ["40", '430["x"]'].forEach((one) => socket.send(one)),
    ],
    [
      "with a binary frame that no packet announced",
      ({ socket }) => ["40", Buffer.from([4, 0, 1])].forEach((one) => socket.send(one)),
    ],
    [
      "with an acknowledgement that has attachments",
      ({ socket }) => ["40", '461-3[{"_placeholder":true,"num":0}]'].forEach((one) => socket.send(one)),
    ],
    [
      "with more attachments than anybody needs",
      ({ socket }) => ["40", '4520-["a"]'].forEach((one) => socket.send(one)),
    ],
    [
      "with an error of its own",
      ({ socket }) => ["40", '44{"message":"x"}'].forEach((one) => socket.send(one)),
    ],
    [
      "with more pieces of a message than anybody needs",
      ({ socket }) => {
        for (let piece = 0; piece < 200; piece += 1) socket.send("4", { fin: false });
      },
    ],
  ];
  it.each(cases)("%s", async (_what, send) => {
    const raw = await dial(mary.browser.cookie);
    send(raw);
    await raw.closed;
    await othersAreServed();
  });

  it("after a refusal for lack of a session", async () => {
    const raw = await dial("");
    for (let count = 0; count < 20; count += 1) raw.socket.send("40");
    await raw.closed;
    expect(raw.heard.filter((packet) => packet.startsWith("44")).length).toBeLessThan(2);
    await othersAreServed();
  });
});

it("an event without a name, or with a number for one, is answered as invalid", async () => {
  const { socket, heard } = await enter(mary.browser.cookie);
  const answers = () => heard.filter((packet) => packet.startsWith("43"));
  for (const packet of ["421", "422[3]", "423[4,{}]"]) socket.send(packet);
  await until(() => answers().length === 3, PATIENCE_MS, "the answers");
  expect(answers().map((packet) => /^43(\d)\[.*"code":"(\w+)"/.exec(packet)?.slice(1))).toEqual([
    ["1", "invalid"],
    ["2", "invalid"],
    ["3", "invalid"],
  ]);
  socket.terminate();
});

describe("a handshake", () => {
  it("with another method ends only its own connection, also as an upgrade with a session", async () => {
    const [left] = both(house);
    const { port } = new URL(left.address);
    for (const method of ["PUT", "DELETE", "OPTIONS", "PATCH"]) {
      const socket = createConnection(Number(port), "127.0.0.1");
      socket.on("error", () => undefined).resume();
      socket.write(
        `${method} /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n` +
          `Upgrade: websocket\r\nCookie: ${mary.browser.cookie}\r\n\r\n`,
      );
      await once(socket, "close");
    }
    await othersAreServed();
  });
});

describe("a handshake of another protocol", () => {
  it.each(["EIO=3&transport=websocket", "transport=websocket", "EIO=4", "EIO=4&transport=polling"])(
    "is refused with a code before the upgrade: %s",
    async (query) => {
      const [left] = both(house);
      const url = `${left.address.replace("http", "ws")}/socket.io/?${query}`;
      const socket = new WebSocket(url, { headers: { cookie: mary.browser.cookie } });
      const [, response] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
      expect(response.statusCode).toBe(400);
      expect(JSON.parse(String(await response.toArray()))).toMatchObject({ code: "invalid" });
    },
  );
});

describe("an upgrade to something else", () => {
  const asks = (path: string, protocol: string) =>
    `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;
  it.each([
    ["first", ""],
    ["behind a request that was answered", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"],
  ])("is refused and its connection ended if it comes %s", async (_where, before) => {
    const [left] = both(house);
    for (const [path, protocol] of [
      ["/elsewhere", "websocket"],
      ["/api/me", "h2c"],
      ["/socket.io", "websocket"],
      ["/socket.io/?EIO=4&transport=websocket", "h2c"],
    ] as const) {
      const socket = createConnection(Number(new URL(left.address).port), "127.0.0.1");
      let heard = "";
      socket.on("error", () => undefined).on("data", (chunk) => (heard += chunk.toString()));
      if (before) {
        socket.write(before);
        await until(() => heard.endsWith('{"status":"ok"}'), PATIENCE_MS, "the first answer");
      }
      socket.write(asks(path, protocol));
      await once(socket, "end", { signal: AbortSignal.timeout(PATIENCE_MS) });
      expect(heard).toMatch(/HTTP\/1\.1 4\d\d [^]*Connection: close/);
    }
  });
});

it("a request that offers another protocol than WebSocket is answered as if it did not, with its body", async () => {
  const [left] = both(house);
  const json = JSON.stringify({ username: "mary", password: "correct horse" });
  for (const [line, cookie, body] of [
    ["GET /api/me", mary.browser.cookie, ""],
    ["POST /api/login", "", json],
  ] as const) {
    const socket = createConnection(Number(new URL(left.address).port), "127.0.0.1");
    let heard = "";
    socket.on("data", (chunk) => (heard += chunk.toString()));
    socket.write(
      `${line} HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\nContent-Type: application/json\r\n` +
        `Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n` +
        `Content-Length: ${body.length}\r\n\r\n${body}`,
    );
    await once(socket, "end", { signal: AbortSignal.timeout(PATIENCE_MS) });
    expect(heard).toMatch(/^HTTP\/1\.1 200 [^]*Connection: close[^]*"username":"mary"/);
  }
});

describe("pings", () => {
  it("are answered", async () => {
    const { socket } = await enter(mary.browser.cookie);
    const pong = new Promise<string>((resolve) => socket.once("pong", (data) => resolve(data.toString())));
    socket.ping("there?");
    expect(await pong).toBe("there?");
    socket.close();
  });

  it("of a client that reads nothing build up no backlog", async () => {
    const raw = await dial("");
    raw.socket.pause();
    const before = process.memoryUsage.rss();
    const ping = Buffer.alloc(125, "p");
    for (let count = 0; count < 100_000 && raw.socket.readyState === WebSocket.OPEN; count += 1) {
      raw.socket.ping(ping);
      if (count % 1_000 === 0) await sleep(0);
    }
    await othersAreServed();
    // 100,000 pongs would be 13 MB and an object each; this process holds the pings themselves too.
    expect(process.memoryUsage.rss() - before).toBeLessThan(60_000_000);
    raw.socket.terminate();
  });

  it("by the hundred end a connection with code 1013, try again later", async () => {
    const raw = await enter(mary.browser.cookie);
    for (let count = 0; count < 700; count += 1) raw.socket.ping();
    const { code, reason } = await raw.closed;
    expect(code).toBe(1013);
    expect(Number(/^rate_limited (\d+)$/.exec(reason)?.[1])).toBeGreaterThan(0);
    await othersAreServed();
  });
});

describe("packets by long-polling", () => {
  it("of which one request brings thousands end their connection, and most are dropped", async () => {
    const polled = await replicas(1, { RATE_LIMITS: "on", POLLING: "on" });
    try {
      const [replica] = polled.replicas;
      const loud = await person(replica!);
      const headers = { cookie: loud.browser.cookie, origin: loud.browser.address };
      const url = `${loud.browser.address}/socket.io/?EIO=4&transport=polling`;
      const [, sid] = /"sid":"([^"]+)"/.exec(await (await fetch(url, { headers })).text()) ?? [];
      const post = (body: string) => fetch(`${url}&sid=${sid}`, { method: "POST", headers, body });
      expect((await post("40")).status).toBe(200);
      const connected = async () =>
        (await (await fetch(`${url}&sid=${sid}`, { headers })).text()).includes("40{");
      await until(connected, PATIENCE_MS, "the answer to CONNECT");
      const packets = Array<string>(4_000).fill('42["a"]').join("\u001e");
      await post(packets).catch(() => undefined);
      const countRefused = async () => {
        const figures = Object.entries(await figuresOf(replica!));
        const refused = figures.filter(([name]) => /^hubbub_refusals_total\{.*socket/.test(name));
        return refused.reduce((total, [, value]) => total + value, 0);
      };
      // The first may wait for its turn.
      const handled = await until(async () => (await countRefused()) || null, PATIENCE_MS, "a refusal");
      expect(handled).toBeGreaterThan(0);
      expect(handled).toBeLessThanOrEqual(BOUNDS.frames.value);
      expect((await post("3")).status).not.toBe(200);
      loud.close();
    } finally {
      await polled.close();
    }
  });
});

describe("a user", () => {
  it("who ignores refusals is dismissed and must wait, without an effect on others", async () => {
    const [left] = both(house);
    const loud = await person(left, "loud");
    const raw = await enter(loud.browser.cookie);
    for (let id = 0; id < 400; id += 1) raw.socket.send(`42${id}["room.read",{"roomId":"0","seq":0}]`);
    expect((await raw.closed).code).toBe(1013);
    await until(() => !loud.socket.connected, PATIENCE_MS, "the other window to be closed too");
    const again = await refusalOf(loud.browser.cookie);
    expect(again.status).toBe(429);
    expect(again.retryAfter).toBeGreaterThan(0);
    await othersAreServed();
  });

  it("who leaves while transcripts are queued on one connection still gets the next one", async () => {
    const { browser } = mary;
    const { hostname, port } = new URL(browser.address);
    const ask = `GET /api/rooms/0/transcript HTTP/1.1\r\nHost: x\r\nCookie: ${browser.cookie}\r\n\r\n`;
    const logIns = `GET /api/me HTTP/1.1\r\nHost: x\r\nCookie: ${browser.cookie}\r\n\r\n`.repeat(20);
    for (let round = 0; round < 5; round += 1) {
      const socket = createConnection(Number(port), hostname);
      await once(socket, "connect");
      await new Promise<void>((resolve) => socket.write(logIns + ask + ask, () => resolve()));
      socket.resetAndDestroy();
    }
    await until(async () => (await browser.get("/api/rooms/0/transcript")).status === 200);
  });

  it("has at most twenty connections on a replica, whatever the transport", async () => {
    const [left] = both(house);
    const many = await person(left, "many");
    const raws = await Promise.all(Array.from({ length: 29 }, () => dial(many.browser.cookie)));
    for (const { socket } of raws) socket.send("40");
    const letIn = () =>
      raws.filter(({ heard, socket }) => heard[1]?.startsWith("40") && socket.readyState === 1);
    const ended = () => raws.filter(({ socket }) => socket.readyState === WebSocket.CLOSED);
    await until(() => letIn().length + ended().length === 29, PATIENCE_MS, "each to be let in or refused");
    expect(letIn().length).toBe(19);
    for (const { socket } of raws) socket.terminate();
    many.close();
  });
});

/** Makes rooms of Mary's with this many messages of 12 KB each. */
async function longRooms(count: number, messages: number): Promise<string[]> {
  const store = new Log(house.redis, house.keys, {
    serverId: "test",
    relayChannel: "rooms",
    waitReplicas: 0,
    waitMs: 500,
  });
  const ids: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const name = randomBytes(6).toString("hex");
    const { body } = await mary.browser.post<Room>("/api/rooms", { name });
    ids.push(body.id);
    const long = { from: mary.user.id, message: "€".repeat(4_000), date: 1_000 };
    await store.load(
      body.id,
      Array.from({ length: messages }, () => long),
    );
  }
  return ids;
}

describe("one sync", () => {
  it("refuses a room that is named twice", async () => {
    const cursor = { roomId: "0", seq: 0, date: 0 };
    const reply: Reply<unknown> = await mary.socket.emitWithAck("sync", { rooms: [cursor, cursor] });
    expect(reply).toMatchObject({ ok: false, error: { code: "invalid" } });
  });

  it("of rooms full of long messages is answered in pieces, without loss", async () => {
    const rooms = await longRooms(6, 60);
    const cursors = new Map(rooms.map((roomId) => [roomId, { roomId, seq: 0, date: 1, hash: "" }]));
    const heard = new Map<string, number>(rooms.map((roomId) => [roomId, 0]));
    let longest = 0;
    for (let round = 0; cursors.size > 0; round += 1) {
      expect(round).toBeLessThan(60);
      const reply = await mary.socket.emitWithAck("sync", { rooms: [...cursors.values()] });
      if (!reply.ok) throw new Error(reply.error.code);
      longest = Math.max(longest, Buffer.byteLength(JSON.stringify(reply)));
      for (const { roomId, messages, more } of reply.value.rooms) {
        heard.set(roomId, (heard.get(roomId) ?? 0) + messages.length);
        const last = messages.at(-1);
        if (last) cursors.set(roomId, { roomId, seq: last.seq, date: last.date, hash: last.hash });
        if (!more) cursors.delete(roomId);
      }
    }
    expect([...heard.values()]).toEqual(rooms.map(() => 60));
    expect(longest).toBeLessThan(1_200_000);
  });
});
