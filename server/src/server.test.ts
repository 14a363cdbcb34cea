import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createConnection, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { Log } from "./store/log.ts";
import { readConfig } from "./config.ts";
import type { ClientEvents, Message, Reply, Room, User } from "./protocol.ts";
import { HTTP_TIMES, createHttp, startServer, type Replica } from "./server.ts";
import {
  PATIENCE_MS,
  Browser,
  both,
  connect,
  ownRedis,
  person,
  replicas,
  startWire,
  testRedisUrl,
  until,
  unwrap,
  windowOf,
  type House,
  type OwnRedis,
  type Person,
} from "./testing.ts";

function start(env: Record<string, string>): Promise<Replica> {
  const config = readConfig({ NODE_ENV: "test", PORT: "0", LOG_LEVEL: "silent", CLIENT_DIR: "", ...env });
  return startServer(config, pino({ level: config.logLevel }));
}

/** Counts the intervals that are set from now on and not cleared yet. */
function watchIntervals(): () => number {
  const running = new Set<unknown>();
  const { setInterval: set, clearInterval: clear } = globalThis;
  vi.spyOn(globalThis, "setInterval").mockImplementation((...args) => {
    const interval = set(...args);
    running.add(interval);
    return interval;
  });
  vi.spyOn(globalThis, "clearInterval").mockImplementation((interval) => {
    running.delete(interval);
    clear(interval);
  });
  return () => running.size;
}

function refuses(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: "127.0.0.1" });
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", () => resolve(true));
  });
}

/** Connections to a Redis that only this house uses, without the asking one. */
async function connections(house: House): Promise<string[]> {
  const list = String(await house.redis.call("CLIENT", "LIST"))
    .trim()
    .split("\n");
  return list.filter((line) => line.includes("name=hubbub-"));
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("close", () => {
  let own: OwnRedis;
  let house: House;
  beforeAll(async () => {
    own = await ownRedis({ persistent: false });
    house = await replicas(2, { REDIS_URL: own.url });
  });
  afterAll(async () => {
    await house.close();
    await own.close();
  });

  it("frees the port, the leases, the connections to Redis and every timer, while people are connected", async () => {
    const before = (await connections(house)).length;
    const intervals = watchIntervals();
    const replica = await house.addReplica();
    expect(intervals()).toBeGreaterThan(0);
    const people = [await person(replica), await person(replica), await person(replica)];
    const closed = people.map(({ socket }) => new Promise((resolve) => socket.once("disconnect", resolve)));
    await until(async () => (await house.redis.scard(house.keys.online)) === 3);
    await replica.close();
    await Promise.all(closed);
    expect(await refuses(replica.port)).toBe(true);
    expect(await house.redis.scard(house.keys.online)).toBe(0);
    expect(await house.redis.zcard(house.keys.leases)).toBe(0);
    await until(async () => (await connections(house)).length === before);
    expect(intervals()).toBe(0);
  });

  it("tells people on other replicas who went offline", async () => {
    const [left] = both(house);
    const watcher = await person(left);
    const replica = await house.addReplica();
    const leaver = await person(replica);
    const told: string[] = [];
    watcher.socket.on("user.connected", (users) => told.push(...users.map(({ id }) => `+${id}`)));
    watcher.socket.on("user.disconnected", (users) => told.push(...users.map(({ id }) => `-${id}`)));
    await until(() => told.includes(`+${leaver.user.id}`));
    await replica.close();
    await until(() => told.includes(`-${leaver.user.id}`), PATIENCE_MS, "the leaver to be told");
    watcher.close();
  });

  it("does not wait for a client that only holds a connection open", async () => {
    const replica = await house.addReplica();
    // Like a browser that connects ahead of need, a stuck client, and one in the middle of a body.
    const idle = createConnection({ port: replica.port, host: "127.0.0.1" });
    const half = createConnection({ port: replica.port, host: "127.0.0.1" });
    const body = createConnection({ port: replica.port, host: "127.0.0.1" });
    for (const socket of [idle, half, body]) socket.on("error", () => undefined);
    half.write("GET / HTTP/1.1\r\nHost: x\r\n");
    body.write(
      'POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"',
    );
    await new Browser(replica).get("/healthz");
    const began = performance.now();
    const tooLong = setTimeout(() => [idle, half, body].forEach((socket) => socket.destroy()), 6_000);
    await replica.close();
    clearTimeout(tooLong);
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  it("writes nothing to the folder of files any more, however soon it is closed", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hubbub closed "));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const replica = await start({ ...house.env, FILES_URL: `file:${folder}` });
    await replica.close();
    // The trial of the store is over: it has made its folders, and removed its file.
    const left = readdirSync(folder, { recursive: true, withFileTypes: true });
    expect(left.map(({ name }) => name).toSorted()).toEqual(["incoming", "tr"]);
  });

  it("fails /readyz first and answers running requests", async () => {
    const replica = await house.addReplica({ DRAIN: "2000" });
    const ann = await person(replica);
    const sending = Array.from({ length: 50 }, (_, index) => ann.say("0", `under way ${index}`, `w${index}`));
    const closing = replica.close();
    const { status } = await new Browser(replica).get("/readyz");
    expect(status).toBe(503);
    const stored = await Promise.all(sending);
    expect(new Set(stored.map(({ seq }) => seq)).size).toBe(50);
    await closing;
  });

  it.each([
    ["lets an answer that is being read finish, for as long as DRAIN", 20_000, true],
    ["cuts an answer that is not read within DRAIN, so that its reader is told of an error", 100, false],
  ])("%s", { timeout: 120_000 }, async (_claim, drain, whole) => {
    const replica = await house.addReplica({ DRAIN: String(drain) });
    const ann = await person(replica);
    const room = (await ann.browser.post<{ id: string }>("/api/rooms", { name: `Long ${drain}` })).body.id;
    // More than the buffers between both ends of a connection hold.
    const text = "x".repeat(4_000);
    const long = Array.from({ length: 1_800 }, () => ({ from: ann.user.id, message: text, date: 0 }));
    await new Log(house.redis, house.keys, readConfig(house.env)).load(room, long);
    const reader = createConnection({ port: replica.port, host: "127.0.0.1" });
    reader.on("error", () => undefined);
    reader.write(
      `GET /api/rooms/${room}/transcript HTTP/1.1\r\nHost: here\r\nCookie: ${ann.browser.cookie}\r\n\r\n`,
    );
    let [heard] = (await once(reader, "data")).map(String) as [string];
    reader.pause();
    expect(heard).toMatch(/^HTTP\/1.1 200 /);
    ann.close();
    const closing = replica.close();
    reader.on("data", (chunk: Buffer) => (heard += chunk.toString("latin1")));
    // Longer than a client may hold an idle connection.
    if (whole) await new Promise((resolve) => setTimeout(resolve, 5_500));
    else await closing;
    reader.resume();
    await Promise.all([once(reader, "close"), closing]);
    expect(heard.endsWith("</html>\n\r\n0\r\n\r\n")).toBe(whole);
  });

  it("may be called twice", async () => {
    const replica = await house.addReplica();
    await Promise.all([replica.close(), replica.close()]);
    await replica.close();
  });
});

describe("two replicas on one Redis", () => {
  it("share sessions without a SESSION_SECRET, also with one that starts later", async () => {
    const house = await replicas(2);
    try {
      const [left, right] = both(house);
      const ann = await person(left);
      const later = await house.addReplica();
      for (const replica of [right, later]) {
        const browser = new Browser(replica);
        browser.cookie = ann.browser.cookie;
        expect((await browser.get<User>("/api/me")).body).toMatchObject(ann.user);
        (await connect(browser, ann.user)).close();
      }
    } finally {
      await house.close();
    }
  });

  it("agree on the secret if started at the same moment on an empty Redis", async () => {
    const house = await replicas(0);
    try {
      const started = await Promise.all(Array.from({ length: 4 }, () => house.addReplica()));
      const ann = await person(started[0] as Replica);
      for (const replica of started) {
        const browser = new Browser(replica);
        browser.cookie = ann.browser.cookie;
        expect((await browser.get("/api/me")).status).toBe(200);
      }
    } finally {
      await house.close();
    }
  });

  it("accept an older secret while it is being replaced", async () => {
    const [older, newer] = ["o".repeat(32), "n".repeat(32)];
    const house = await replicas(1, { SESSION_SECRET: older });
    try {
      const ann = await person(house.replicas[0] as Replica);
      const next = await house.addReplica({ SESSION_SECRET: `${newer},${older}` });
      const last = await house.addReplica({ SESSION_SECRET: newer });
      const browser = new Browser(next);
      browser.cookie = ann.browser.cookie;
      expect((await browser.get("/api/me")).status).toBe(200);
      const stale = new Browser(last);
      stale.cookie = ann.browser.cookie;
      expect((await stale.get("/api/me")).status).toBe(401);
    } finally {
      await house.close();
    }
  });

  it("share nothing under different prefixes", async () => {
    const [one, other] = [await replicas(1), await replicas(1)];
    try {
      const [here] = one.replicas as [Replica];
      const [there] = other.replicas as [Replica];
      const ann = await person(here, "samename");
      const bob = await person(there, "samename");
      await ann.say("0", "only here");
      await bob.say("0", "only there");
      await ann.hears("only here");
      await bob.hears("only there");
      expect(ann.messages.map(({ message }) => message)).toEqual(["only here"]);
      expect(bob.messages.map(({ message }) => message)).toEqual(["only there"]);
      const browser = new Browser(there);
      browser.cookie = ann.browser.cookie;
      expect((await browser.get("/api/me")).status).toBe(401);
    } finally {
      await one.close();
      await other.close();
    }
  });
});

describe("an impossible start", () => {
  it("throws one clear Error without the password, and leaves nothing running, if nothing listens at REDIS_URL", async () => {
    const intervals = watchIntervals();
    const error = await start({ REDIS_URL: "redis://user:hunter2@127.0.0.1:1" }).catch(
      (reason: unknown) => reason,
    );
    expect(String(error)).toMatch(/^Error: Redis at redis:\/\/127\.0\.0\.1:1 cannot be used: .*ECONNREFUSED/);
    expect(String(error)).not.toContain("hunter2");
    expect(intervals()).toBe(0);
  });

  it("throws one clear Error if something other than Redis is at REDIS_URL", async () => {
    const house = await replicas(1);
    try {
      const [replica] = house.replicas as [Replica];
      await expect(start({ REDIS_URL: `redis://127.0.0.1:${replica.port}` })).rejects.toThrow(
        /cannot be used/,
      );
    } finally {
      await house.close();
    }
  });

  it.each(["nonsense", "http://127.0.0.1:1", "redis+sentinel://", "unix:///nowhere/redis.sock"])(
    "throws one clear Error with REDIS_URL=%s",
    async (url) => {
      await expect(start({ REDIS_URL: url })).rejects.toThrow(/Redis at .* cannot be used|REDIS_URL/);
    },
  );

  it("reports a Redis of version 6.2, and leaves no connection", async () => {
    const own = await ownRedis({ persistent: false });
    const house = await replicas(0, { REDIS_URL: own.url });
    const wire = await startWire(own.url, (chunk) =>
      Buffer.from(chunk.toString("latin1").replace(/redis_version:\d+\.\d+/, "redis_version:6.2"), "latin1"),
    );
    try {
      const intervals = watchIntervals();
      await expect(start({ REDIS_URL: wire.url })).rejects.toThrow(
        /^Redis 6\.2 is too old: Hubbub needs 7\.0 or newer/,
      );
      await until(async () => (await connections(house)).length === 0);
      expect(intervals()).toBe(0);
    } finally {
      await house.close();
      await wire.close();
      await own.close();
    }
  });

  it("is refused in production if Redis keeps nothing", async () => {
    const url = testRedisUrl();
    await expect(start({ REDIS_URL: url, NODE_ENV: "production" })).rejects.toThrow(/appendonly/);
  });

  it("reports a taken port, and leaves no timer and no connection", async () => {
    const own = await ownRedis({ persistent: false });
    const house = await replicas(1, { REDIS_URL: own.url });
    try {
      const [{ port }] = house.replicas as [Replica];
      const before = (await connections(house)).length;
      const intervals = watchIntervals();
      const starting = start({ REDIS_URL: own.url, PORT: String(port) });
      await expect(starting).rejects.toThrow(`Port ${port} on 127.0.0.1 is taken`);
      await until(async () => (await connections(house)).length === before);
      expect(intervals()).toBe(0);
    } finally {
      await house.close();
      await own.close();
    }
  });
});

it("/readyz reports a hanging Redis before any other request gives up on it", async () => {
  const own = await ownRedis({ persistent: false });
  let hold = false;
  const wire = await startWire(own.url, (chunk, from) =>
    hold && from === "redis" ? new Promise(() => undefined) : chunk,
  );
  const replica = await start({ REDIS_URL: wire.url });
  try {
    const ann = await person(replica);
    hold = true;
    const order: string[] = [];
    const ask = async (path: string) => {
      const { status } = await fetch(`${replica.address}${path}`, {
        headers: { cookie: ann.browser.cookie },
      });
      order.push(`${path} ${status}`);
    };
    await Promise.all([ask("/api/me"), ask("/readyz")]);
    expect(order).toEqual(["/readyz 503", "/api/me 503"]);
  } finally {
    await replica.close();
    await wire.close();
    await own.close();
  }
});

it("while Redis lacks the replicas of WAIT_REPLICAS, only who stores a message waits: others read and log in", async () => {
  const house = await replicas(1, { WAIT_REPLICAS: "1", WAIT_MS: "1500" });
  try {
    const [replica] = house.replicas as [Replica];
    const [ann, bob] = [await person(replica), await person(replica)];
    let refused = false;
    const said = ann.say("0", "waits").catch((error: unknown) => {
      refused = true;
      return (error as Error).message;
    });
    await until(async () => (await house.redis.zcard(house.keys.room("0"))) === 1);
    const logIn = { username: bob.user.username, password: "correct horse" };
    expect((await bob.browser.get("/api/rooms")).status).toBe(200);
    expect((await new Browser(replica).post("/api/login", logIn)).status).toBe(200);
    expect(refused).toBe(false);
    expect(await said).toBe("unavailable");
  } finally {
    await house.close();
  }
});

it("while Redis lacks the replicas of WAIT_REPLICAS, what an earlier request has done is not acknowledged either", async () => {
  const house = await replicas(2, { WAIT_REPLICAS: "1", WAIT_MS: "200" });
  try {
    const [left, right] = both(house);
    const ann = await person(left);
    const windows = [ann, await windowOf(ann, right)];
    const { body: room } = await ann.browser.post<Room>("/api/rooms", { name: "Unsafe" });
    const codes: string[] = [];
    const ask = async ({ socket }: Pick<Person, "socket">, event: keyof ClientEvents, asked: object) => {
      const body = { roomId: room.id, ...asked } as never;
      const reply = (await socket.timeout(PATIENCE_MS).emitWithAck(event, body)) as Reply<unknown>;
      codes.push(reply.ok ? `${event} ok` : reply.error.code);
    };
    const twiceOnEach = async (event: keyof ClientEvents, asked: object) => {
      for (const window of [...windows, ...windows]) await ask(window, event, asked);
    };
    const stored = async () => {
      const [row = "{}"] = await house.redis.zrange(house.keys.room(room.id), "0", "0");
      return JSON.parse(row) as Message;
    };
    await twiceOnEach("message", { message: "waits", nonce: "of-the-message" });
    const { seq } = await stored();
    await twiceOnEach("message.react", { seq, emoji: "\u{1f44d}", on: true });
    await twiceOnEach("message.pin", { seq, on: true });
    const { rev, reactions, pinned } = await stored();
    await twiceOnEach("message.edit", { seq, message: "was changed", rev, nonce: "of-the-edit" });
    const { message } = await stored();
    await twiceOnEach("message.delete", { seq });
    const { deleted } = await stored();
    expect({ reactions, pinned, message, deleted }).toEqual({
      reactions: [["\u{1f44d}", [ann.user.id]]],
      pinned: expect.any(Number) as number,
      message: "was changed",
      deleted: expect.any(Number) as number,
    });
    expect(codes).toEqual(Array.from({ length: 20 }, () => "unavailable"));
  } finally {
    await house.close();
  }
});

describe("stopping", () => {
  it("during a renewal of subscriptions leaves no unhandled rejection", async () => {
    const own = await ownRedis({ persistent: false });
    let held = 0;
    let hold = false;
    const wire = await startWire(own.url, (chunk, from) => {
      if (!hold || from !== "redis" || !chunk.includes("subscribe")) return chunk;
      held += 1;
      return new Promise(() => undefined);
    });
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);
    process.on("unhandledRejection", note);
    try {
      const replica = await start({ REDIS_URL: wire.url });
      hold = true;
      wire.cut();
      await until(() => held > 0);
      await replica.close();
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(unhandled).toEqual([]);
    } finally {
      process.off("unhandledRejection", note);
      await wire.close();
      await own.close();
    }
  });
});

describe("Redis killed and started again", () => {
  it(
    "sends are answered `unavailable`, then work, and no acknowledged message is lost or doubled",
    { timeout: 120_000 },
    async () => {
      const own = await ownRedis({ persistent: true, args: ["appendfsync always"] });
      const house = await replicas(2, { REDIS_URL: own.url });
      house.redis.on("error", () => undefined);
      try {
        const [left, right] = both(house);
        const ann = await person(left);
        const bob = await person(right);
        const acknowledged: Message[] = [];
        const codes = new Set<string>();
        let killed = false;
        let next = 0;
        let wanted = Infinity;
        // Retries each message with the same nonce until it is acknowledged, as a client does.
        async function sendOn(who: typeof ann): Promise<void> {
          while (next < wanted) {
            const index = next++;
            const send = { roomId: "0", message: `m${index}`, nonce: `m${index}` };
            await until(async () => {
              const reply = await who.socket.timeout(PATIENCE_MS).emitWithAck("message", send);
              if (reply.ok) return acknowledged.push(reply.value);
              codes.add(reply.error.code);
              return false;
            }, 20_000);
            if (killed && wanted === Infinity) wanted = next + 100;
          }
        }
        const sending = [sendOn(ann), sendOn(bob)];
        await until(() => acknowledged.length > 100);
        await own.kill();
        const refused = await ann.socket.timeout(PATIENCE_MS).emitWithAck("message", {
          roomId: "0",
          message: "while away",
          nonce: "away",
        });
        expect(refused).toMatchObject({ ok: false, error: { code: "unavailable" } });
        await own.start();
        killed = true;
        await Promise.all(sending);
        expect([...codes]).toEqual(["unavailable"]);

        const rows = await house.redis.zrange(house.keys.room("0"), 0, "-1");
        const log = rows.map((row) => JSON.parse(row) as Message);
        const away = log.filter(({ message }) => message === "while away");
        expect(away.length).toBeLessThanOrEqual(1);
        const bySeq = (a: Message, b: Message) => a.seq - b.seq;
        expect(log.filter((message) => !away.includes(message))).toEqual(acknowledged.toSorted(bySeq));
        expect(log.map(({ seq }) => seq)).toEqual(log.map((_, index) => index + 1));
        for (const who of [ann, bob]) {
          await until(() => who.messages.length >= log.length, PATIENCE_MS, "all to be heard");
          expect(who.messages).toEqual(log);
        }
        // The accounts and sessions have survived, too.
        expect((await ann.browser.get("/api/me")).status).toBe(200);
        unwrap(await bob.socket.emitWithAck("sync", { rooms: [] }));
      } finally {
        await house.close().catch(() => undefined);
        await own.close();
      }
    },
  );
});

describe("a client that is slow", () => {
  // The promised times, divided by fifty.
  const short = {
    headersTimeout: 200,
    requestTimeout: 600,
    connectionsCheckingInterval: 20,
    keepAliveTimeout: 1_300,
    timeout: 700,
  };

  /** A server with these times whose answers exceed all buffers; resolves with its port. */
  async function listening(): Promise<number> {
    const http = createHttp(() => undefined, short);
    http.on("request", (request, response) => {
      request.resume().on("end", () => response.end(Buffer.alloc(64 * 2 ** 20)));
    });
    const webSockets = new WebSocketServer({ server: http, path: "/ws" });
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    onTestFinished(() => {
      webSockets.close();
      http.closeAllConnections();
      http.close();
    });
    return (http.address() as AddressInfo).port;
  }

  /** Opens a connection and resolves with how many ms it lived, and what it was answered. */
  async function lives(port: number, use: (socket: Socket) => void): Promise<{ ms: number; heard: string }> {
    const socket = createConnection({ port, host: "127.0.0.1" });
    let heard = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => (heard += chunk));
    socket.on("error", () => undefined);
    await once(socket, "connect");
    const began = performance.now();
    use(socket);
    // `once` would throw the error of whoever still writes.
    await new Promise((closed) => socket.once("close", closed));
    return { ms: performance.now() - began, heard };
  }

  function dribble(socket: Socket, text: string): void {
    let at = 0;
    const timer = setInterval(() => socket.write(text[at++ % text.length] ?? ""), 15);
    socket.on("close", () => clearInterval(timer));
  }

  const HEAD = "POST / HTTP/1.1\r\nHost: here\r\n";
  it.each<[string, number, (socket: Socket) => void]>([
    ["saying nothing", short.headersTimeout, () => undefined],
    [
      "with headers that dribble",
      short.headersTimeout,
      (socket) => dribble(socket, "GET / HTTP/1.1\r\nA: bcdefgh"),
    ],
    [
      "with headers without an end, a whole one at a time",
      short.headersTimeout,
      (socket) => {
        socket.write(HEAD);
        const timer = setInterval(() => socket.write("A: b\r\n"), 15);
        socket.on("close", () => clearInterval(timer));
      },
    ],
    [
      "with a body that dribbles",
      short.requestTimeout,
      (socket) => {
        socket.write(`${HEAD}Content-Length: 100000\r\n\r\n`);
        dribble(socket, "body");
      },
    ],
    [
      "with chunks that dribble",
      short.requestTimeout,
      (socket) => {
        socket.write(`${HEAD}Transfer-Encoding: chunked\r\n\r\n`);
        dribble(socket, "1\r\na\r\n");
      },
    ],
    [
      "with a body that stops",
      short.requestTimeout,
      (socket) => socket.write(`${HEAD}Content-Length: 9\r\n\r\nbody`),
    ],
    ["by a TLS hello", 0, (socket) => socket.write(Buffer.from("16030100a5010000a10303", "hex"))],
    ["by half of its headers and its own end", 0, (socket) => socket.end("GET / HTTP/1.1\r\nHost: h")],
    ["by its own end", 0, (socket) => socket.end()],
    [
      "without reading its answer",
      short.timeout,
      (socket) => {
        socket.write("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
        socket.pause();
        // Only a reading socket notices that it was closed.
        setTimeout(() => socket.resume(), short.timeout * 4);
      },
    ],
  ])("%s is cut off in time", async (_how, limit, use) => {
    const { ms, heard } = await lives(await listening(), use);
    expect(ms).toBeGreaterThanOrEqual(limit - 50);
    expect(heard.length).toBeLessThan(64 * 2 ** 20);
    expect(heard).not.toMatch(/^HTTP\/1.1 200[^]*\r\n\r\n$/);
  });

  it("is cut off unless it is a WebSocket: a silent one stays", async () => {
    const port = await listening();
    const quiet = new WebSocket(`ws://127.0.0.1:${port}/ws`);
    await once(quiet, "open");
    // Both are open from now on, and only the other one is cut off.
    const other = await lives(port, (socket) => socket.write("GET / HTTP/1.1\r\nHost: here\r\n\r\n"));
    expect(other.ms).toBeGreaterThan(0);
    expect(quiet.readyState).toBe(WebSocket.OPEN);
    const pong = once(quiet, "pong");
    quiet.ping();
    await pong;
    quiet.terminate();
  });

  it("gets the times that SECURITY.md promises", () => {
    const promised = readFileSync(new URL("../../SECURITY.md", import.meta.url), "utf8");
    const seconds = (of: RegExp) => Number(of.exec(promised)?.[1]) * 1_000;
    expect(HTTP_TIMES).toMatchObject({
      headersTimeout: seconds(/headers (\d+) s/),
      requestTimeout: seconds(/whole request (\d+) s/),
      timeout: seconds(/an answer that nobody reads for (\d+) s/) / 2,
    });
    // Checked often enough to keep the promise within a tenth.
    expect(HTTP_TIMES.connectionsCheckingInterval).toBeLessThanOrEqual(HTTP_TIMES.headersTimeout / 10);
  });
});
