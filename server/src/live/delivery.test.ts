import { once } from "node:events";
import { createServer } from "node:http";
import { createConnection, type AddressInfo, type Socket as TcpSocket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { Server } from "socket.io";
import { io as connectTo, type Socket as ClientSocket } from "socket.io-client";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Delivery } from "./delivery.ts";
import type { Connection } from "./frames.ts";
import { readConfig } from "../config.ts";
import { createMetrics } from "../metrics.ts";
import { createSecurity } from "../security.ts";
import type { Changes, Message, Presence } from "../protocol.ts";
import type { Replica } from "../server.ts";
import { Log } from "../store/log.ts";
import {
  PATIENCE_MS,
  Browser,
  both,
  figuresOf,
  ownRedis,
  person,
  replicas,
  until,
  unwrap,
  type House,
  type Person,
  type TestSocket,
} from "../testing.ts";

async function metric(replica: Replica, name: string): Promise<number> {
  const figure = (await figuresOf(replica))[name];
  if (figure === undefined) throw new Error(`no metric ${name}`);
  return figure;
}

/** Another window of a person, on the given transport. */
async function windowBy(
  who: Person,
  replica: Replica,
  transports: string[],
): Promise<{ socket: TestSocket; messages: Message[] }> {
  const socket: TestSocket = connectTo(replica.address, {
    transports,
    forceNew: true,
    reconnection: false,
    extraHeaders: { cookie: who.browser.cookie, origin: replica.address },
  });
  const messages: Message[] = [];
  socket.on("message", (message) => messages.push(message));
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  await socket.emitWithAck("sync", { rooms: [] });
  return { socket, messages };
}

/** A text frame whose mask is zeros. */
function maskedFrame(text: string): Buffer {
  const length =
    text.length < 126 ? [0x80 | text.length] : [0x80 | 126, text.length >> 8, text.length & 0xff];
  return Buffer.concat([Buffer.from([0x81, ...length, 0, 0, 0, 0]), Buffer.from(text)]);
}

/** Another window of a person, on a bare TCP socket. */
async function bareWindow(replica: Replica, who: Person): Promise<TcpSocket> {
  const { port } = new URL(replica.address);
  const tcp = createConnection({ port: Number(port), host: "127.0.0.1" });
  tcp.on("error", () => undefined);
  tcp.write(
    [
      "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
      `Host: 127.0.0.1:${port}`,
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${Buffer.alloc(16).toString("base64")}`,
      `Cookie: ${who.browser.cookie}`,
      "",
      "",
    ].join("\r\n"),
  );
  const received: Buffer[] = [];
  tcp.on("data", (chunk: Buffer) => received.push(chunk));
  await until(() => Buffer.concat(received).includes('0{"sid"'));
  tcp.write(maskedFrame("40"));
  await until(() => Buffer.concat(received).includes('40{"sid"'));
  tcp.removeAllListeners("data").resume();
  return tcp;
}

/** Another window of a person, their only open one, that has stopped reading. */
async function stuckWindow(replica: Replica, who: Person): Promise<TcpSocket> {
  const tcp = await bareWindow(replica, who);
  await until(async () => (await metric(replica, "hubbub_connections")) === 2);
  tcp.pause();
  return tcp;
}

/** A text that makes the whole WebSocket frame of its message `bytes` long, if `seq` has three digits. */
function textFor(bytes: number): string {
  const empty = {
    roomId: "0",
    seq: 100,
    date: Date.now(),
    hash: "0".repeat(12),
    from: "1",
    message: "",
    nonce: "n100",
  };
  return "x".repeat(bytes - `42["message",${JSON.stringify(empty)}]`.length);
}

/** An object that hides what this path leads to. */
function hiding(object: object, [first, ...rest]: string[]): object {
  return new Proxy(object, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (name !== first) return typeof value === "function" ? (value.bind(target) as unknown) : value;
      return rest.length > 0 ? hiding(value as object, rest) : undefined;
    },
  });
}

describe("messages", () => {
  let house: House;
  let left: Replica;
  let ann: Person;
  let bob: Person;
  beforeAll(async () => {
    house = await replicas(2, { POLLING: "on" });
    left = both(house)[0];
    ann = await person(left);
    bob = await person(left);
  });
  afterAll(() => house.close());

  it("arrive whole and in order in every size, by WebSocket, by long-polling and across an upgrade", async () => {
    const sizes = [124, 125, 126, 127, 128, 129, 1_000, 3_999, 4_000];
    const texts = [
      ...sizes.map(textFor),
      ...Array.from({ length: 200 }, (_, index) => textFor(124 + ((index * 7) % 60))),
      "x",
      "é".repeat(40),
      "🐢".repeat(2_000),
      "👩‍👩‍👧‍👦\u2028\u0000\ud83d",
    ];
    const log = new Log(house.redis, house.keys, readConfig(house.env));
    await log.load(
      "0",
      Array.from({ length: 99 }, () => ({ from: "1", message: "earlier", date: 0 })),
    );
    await ann.say("0", "barrier");
    await ann.hears("barrier");
    const windows = await Promise.all([
      windowBy(ann, left, ["websocket"]),
      windowBy(ann, left, ["polling"]),
      windowBy(ann, left, ["polling", "websocket"]),
    ]);
    const send = async (message: string, index: number) => {
      const { row } = await log.append("1", { roomId: "0", message, nonce: `n${100 + index}` });
      return JSON.parse(row) as Message;
    };
    const sent: Message[] = [];
    for (const [index, text] of texts.entries()) sent.push(await send(text, index));
    // Again, all at once: in batches.
    sent.push(...(await Promise.all(texts.map((text, index) => send(text, texts.length + index)))));
    for (const { messages } of windows) {
      await until(() => messages.length >= sent.length, PATIENCE_MS, "all to be heard");
      expect(messages.map(({ message }) => message.length)).toEqual(
        sent.map(({ message }) => message.length),
      );
      expect(messages).toEqual(sent);
    }
    await until(() => windows[2]?.socket.io.engine.transport.name === "websocket");
    expect(windows[1]?.socket.io.engine.transport.name).toBe("polling");
    for (const { socket } of windows) socket.disconnect();
  });

  it.each([1_000, 1_300, 2_000])(
    "a frame that holds %i people arrives whole on every transport",
    async (count) => {
      const windows = await Promise.all([
        windowBy(ann, left, ["websocket"]),
        windowBy(ann, left, ["polling"]),
        windowBy(ann, left, ["polling", "websocket"]),
      ]);
      // Other ids each time: a replica soon notices that nobody of the crowd before is in Redis, and tells that they left.
      const crowd = Array.from({ length: count }, (_, index) => ({
        id: String(count * 10_000 + index),
        username: `crowd${index}`,
      }));
      const told = windows.map(
        ({ socket }) =>
          new Promise<Presence[]>((resolve) =>
            socket.on("user.connected", (users) => users.length >= count && resolve(users)),
          ),
      );
      await house.redis.publish(
        house.keys.channel,
        JSON.stringify({ serverId: "elsewhere", type: "user.connected", data: crowd }),
      );
      const ids = new Set(crowd.map(({ id }) => id));
      for (const users of await Promise.all(told)) {
        // `arrayContaining` compares each with each, for seconds, in which the replica takes itself for deaf.
        const shown = users.filter(({ id }) => ids.has(id));
        expect(shown).toEqual(crowd.map((user) => ({ ...user, online: true })));
      }
      for (const { socket } of windows) socket.disconnect();
    },
  );

  it("are neither lost, doubled nor swapped while a window upgrades from long-polling to WebSocket", async () => {
    const before = ann.messages.length;
    const windows = await Promise.all(
      Array.from({ length: 5 }, () => windowBy(ann, left, ["polling", "websocket"])),
    );
    await Promise.all(Array.from({ length: 300 }, (_, index) => bob.say("0", `up ${index}`, `up-${index}`)));
    await ann.hears("up 299");
    await until(() => ann.messages.length >= before + 300);
    const log = ann.messages.slice(before);
    for (const { socket, messages } of windows) {
      await until(() => messages.length >= 300, PATIENCE_MS, "all to be heard");
      // Missing messages at the front were stored before this window heard the room.
      expect(messages).toEqual(log);
      socket.disconnect();
    }
  });

  it("keep their order with the answers and other events of a connection", async () => {
    const order: string[] = [];
    const { socket } = await windowBy(ann, left, ["websocket"]);
    socket.on("message", ({ message }) => order.push(`heard ${message}`));
    for (let index = 0; index < 50; index += 1) {
      await socket.emitWithAck("message", { roomId: "0", message: `o${index}`, nonce: `o-${index}` });
    }
    await until(() => order.length === 50);
    expect(order).toEqual(Array.from({ length: 50 }, (_, index) => `heard o${index}`));
    socket.disconnect();
  });

  it("are written in batches in a busy room, and each message is counted for each connection", async () => {
    const [flushes, deliveries] = [
      await metric(left, "hubbub_delivery_flushes_total"),
      await metric(left, "hubbub_deliveries_total"),
    ];
    const members = await metric(left, "hubbub_connections");
    const heard = bob.messages.length;
    await Promise.all(
      Array.from({ length: 400 }, (_, index) => ann.say("0", `batch ${index}`, `batch-${index}`)),
    );
    await until(() => bob.messages.length >= heard + 400);
    expect((await metric(left, "hubbub_deliveries_total")) - deliveries).toBe(400 * members);
    expect((await metric(left, "hubbub_delivery_flushes_total")) - flushes).toBeLessThan(400);
  });
});

/** Two real connections in General, on a Delivery of their own; `path` names a private field that they lack. */
async function withTwoWindows(
  path: string | null,
  run: (delivery: Delivery, heard: [string[], string[]], said: string[]) => Promise<void>,
): Promise<void> {
  const http = createServer().listen(0, "127.0.0.1");
  await once(http, "listening");
  const { port } = http.address() as AddressInfo;
  const io = new Server(http, { transports: ["websocket"] });
  const said: string[] = [];
  const log = pino({ level: "warn" }, { write: (line) => said.push(line) });
  const config = { batchWindowMs: 42, slowConsumerBytes: 1_000_000 };
  const metrics = createMetrics();
  const delivery = new Delivery({
    config,
    metrics,
    security: createSecurity(metrics, log),
    log,
    emptied: () => undefined,
  });
  const heard: [string[], string[]] = [[], []];
  const clients: ClientSocket[] = [];
  try {
    for (const texts of heard) {
      const joined = new Promise<void>((resolve) => {
        io.once("connection", (socket) => {
          const data = { user: { id: "1", username: "ann" }, sid: "s", rooms: new Set(), admitted: [] };
          const whole = Object.assign(socket, { data });
          const connection = path === null ? whole : hiding(whole, ["conn", ...path.split(".")]);
          delivery.add(connection as Connection);
          delivery.join("0", connection as Connection);
          resolve();
        });
      });
      const client = connectTo(`http://127.0.0.1:${port}`, { transports: ["websocket"], forceNew: true });
      client.on("message", (text: string) => texts.push(text));
      client.on("room.stale", () => texts.push("stale"));
      client.on("changes", ({ after, rev }: Changes) => texts.push(`changes ${after} to ${rev}`));
      clients.push(client);
      await joined;
    }
    await run(delivery, heard, said);
  } finally {
    for (const client of clients) client.disconnect();
    await io.close();
  }
}

it.each(["writeBuffer", "upgrading", "transport.socket._socket"])(
  "messages go through Socket.IO, and the log says so once, if a library has no %s",
  (path) =>
    withTwoWindows(path, async (delivery, heard, said) => {
      for (let index = 0; index < 100; index += 1) delivery.message("0", `"${index}"`);
      for (const texts of heard) await until(() => texts.length === 100);
      const all = Array.from({ length: 100 }, (_, index) => `${index}`);
      expect(heard).toEqual([all, all]);
      expect(said).toHaveLength(1);
    }),
);

it("messages that wait for a flush skip the connections that join before it", () =>
  withTwoWindows(null, async (delivery, [first, second], said) => {
    const [one, other] = [...delivery.connections()] as [Connection, Connection];
    delivery.leave("0", other);
    delivery.message("0", '"before"');
    delivery.join("0", other);
    delivery.message("0", '"after"');
    await until(() => first.length === 2 && second.length === 1);
    delivery.message("0", '"before it leaves"');
    delivery.leave("0", one);
    delivery.message("0", '"while it is away"');
    delivery.join("0", one);
    await until(() => second.length === 3);
    delivery.message("0", '"at last"');
    await until(() => first.length === 3 && second.length === 4);
    expect(first).toEqual(["before", "after", "at last"]);
    expect(second).toEqual(["after", "before it leaves", "while it is away", "at last"]);
    expect(said).toEqual([]);
  }));

describe("a write to many connections that takes long", () => {
  /** Two windows whose connections take 10 ms to write to; resolves in `reached` once the first of two has a packet. */
  const withSlowWindows = (
    run: (given: {
      delivery: Delivery;
      connections: [Connection, Connection];
      heard: [string[], string[]];
      reached: (say: () => void) => Promise<number>;
    }) => Promise<void>,
  ) =>
    withTwoWindows("writeBuffer", async (delivery, heard) => {
      const connections = [...delivery.connections()] as [Connection, Connection];
      const written: number[] = [];
      for (const [index, { conn }] of connections.entries()) {
        const write = conn.write.bind(conn);
        conn.write = (packet) => {
          written.push(index);
          for (const from = performance.now(); performance.now() - from < 10;);
          return write(packet);
        };
      }
      const reached = async (say: () => void) => {
        const before = written.length;
        say();
        while (written.length === before) await new Promise(setImmediate);
        expect(written.length).toBe(before + 1);
        return written.at(-1) ?? -1;
      };
      await run({ delivery, connections, heard, reached });
    });

  it("lets another room be written to in between", () =>
    withSlowWindows(async ({ delivery, connections, heard, reached }) => {
      const had = await reached(() => delivery.message("0", '"first"'));
      await until(() => heard.every((texts) => texts.includes("first")));
      delivery.join("5", connections[1 - had] as Connection);
      delivery.message("0", '"to many"');
      delivery.message("5", '"to one of them"');
      await until(() => heard[1 - had]?.length === 3);
      expect(heard[1 - had]).toEqual(["first", "to one of them", "to many"]);
    }));

  it("comes before later messages and events, for all of them", () =>
    withSlowWindows(async ({ delivery, heard, reached }) => {
      await reached(() => delivery.message("0", '"1"'));
      delivery.toRoom("0", "room.stale", { roomId: "0" });
      await reached(() => delivery.message("0", '"2"'));
      delivery.message("0", '"3"');
      await until(() => heard.every((texts) => texts.length === 4));
      expect(heard).toEqual([
        ["1", "stale", "2", "3"],
        ["1", "stale", "2", "3"],
      ]);
    }));

  it("does not reach who has left meanwhile, nor who came back", () =>
    withSlowWindows(async ({ delivery, connections, heard, reached }) => {
      const had = await reached(() => delivery.message("0", '"1"'));
      const other = connections[1 - had] as Connection;
      delivery.leave("0", other);
      delivery.join("0", other);
      await reached(() => delivery.message("0", '"2"'));
      await until(() => heard.every((texts) => texts.includes("2")));
      expect(heard[had]).toEqual(["1", "2"]);
      expect(heard[1 - had]).toEqual(["2"]);
    }));
});

it("a room whose flushes are slow takes at most half of the process's time", () =>
  withTwoWindows("writeBuffer", async (delivery, heard) => {
    const flushMs = 100;
    const [slow] = [...delivery.connections()] as [Connection];
    const { conn } = slow;
    const write = conn.write.bind(conn);
    conn.write = (packet) => {
      conn.write = write;
      for (const from = performance.now(); performance.now() - from < flushMs;);
      return write(packet);
    };
    const beganAt = performance.now();
    delivery.message("0", '"1"');
    await until(() => heard[0].length === 1);
    delivery.message("0", '"2"');
    delivery.message("0", '"3"');
    await until(() => heard.every((texts) => texts.length === 3));
    expect(performance.now() - beganAt).toBeGreaterThan(2 * flushMs);
    expect(heard).toEqual([
      ["1", "2", "3"],
      ["1", "2", "3"],
    ]);
  }));

it("room.stale follows the messages that came before it", () =>
  withTwoWindows(null, async (delivery, heard, said) => {
    delivery.message("0", '"of the old log"');
    delivery.toRoom("0", "room.stale", { roomId: "0" });
    delivery.message("0", '"of the new one"');
    for (const texts of heard) await until(() => texts.length === 3);
    const all = ["of the old log", "stale", "of the new one"];
    expect(heard).toEqual([all, all]);
    expect(said).toEqual([]);
  }));

it("room.stale follows the pending changes, and later changes are not merged with them", () =>
  withTwoWindows(null, async (delivery, heard, said) => {
    const span = (after: number) => ({ after, rev: after + 1, revHash: "" });
    // The first change goes out at once; those that follow closely wait.
    delivery.changes("0", span(0), [`"a"`]);
    for (const texts of heard) await until(() => texts.length === 1);
    delivery.changes("0", span(1), [`"of the old log"`]);
    delivery.toRoom("0", "room.stale", { roomId: "0" });
    delivery.changes("0", span(7), [`"of the new one"`]);
    for (const texts of heard) await until(() => texts.length === 4);
    const all = ["changes 0 to 1", "changes 1 to 2", "stale", "changes 7 to 8"];
    expect(heard).toEqual([all, all]);
    expect(said).toEqual([]);
  }));

it("changes that are due while messages wait follow them in the same write", () =>
  withTwoWindows(null, async (delivery, heard, said) => {
    const tcp = [...delivery.connections()].map(({ conn }) => Reflect.get(conn.transport, "socket")._socket);
    const writes = tcp.map((socket) => vi.spyOn(socket, "write"));
    delivery.changes("0", { after: 0, rev: 1, revHash: "" }, [`"a"`]);
    delivery.message("0", '"1"');
    delivery.message("0", '"2"');
    for (const texts of heard) await until(() => texts.length === 3);
    expect(heard).toEqual([
      ["1", "2", "changes 0 to 1"],
      ["1", "2", "changes 0 to 1"],
    ]);
    for (const write of writes) expect(write).toHaveBeenCalledTimes(1);
    expect(said).toEqual([]);
  }));

it("messages to a busy room are stored together, in send order", async () => {
  const redis = await ownRedis({ persistent: false });
  const house = await replicas(1, { REDIS_URL: redis.url });
  const crowd: TcpSocket[] = [];
  const reads = async () => Number(/total_reads_processed:(\d+)/.exec(await house.redis.info("stats"))?.[1]);
  try {
    const [left] = house.replicas as [Replica];
    const ann = await person(left);
    crowd.push(...(await Promise.all(Array.from({ length: 400 }, () => bareWindow(left, ann)))));
    const before = await reads();
    const answers: Promise<Message>[] = [];
    // 500 a second, even if a timer is late.
    for (const beganAt = performance.now(); answers.length < 300; await sleep(1)) {
      while (answers.length < 300 && performance.now() - beganAt > answers.length * 2)
        answers.push(ann.say("0", `said ${answers.length}`));
    }
    const stored = await Promise.all(answers);
    expect((await reads()) - before).toBeLessThan(225);
    expect(stored.map(({ seq }) => seq)).toEqual(stored.map((_, index) => index + 1));
    await ann.hears("said 299");
    expect(ann.messages).toEqual(stored);
  } finally {
    for (const tcp of crowd) tcp.destroy();
    await house.close();
    await redis.close();
  }
});

describe("a connection that does not read", () => {
  it("is cut, without an effect on others", { timeout: 120_000 }, async () => {
    const house = await replicas(2, { SLOW_CONSUMER_BYTES: "65536" });
    let stuck: TcpSocket | undefined;
    try {
      const [left, right] = both(house);
      const ann = await person(left);
      const bob = await person(right);
      stuck = await stuckWindow(left, ann);
      const tcp = stuck;
      let ended = false;
      tcp.on("close", () => (ended = true));

      const text = "s".repeat(4_000);
      let said = 0;
      while ((await metric(left, "hubbub_slow_consumers_cut_total")) === 0 && said < 20_000) {
        await Promise.all(
          Array.from({ length: 200 }, (_, index) => bob.say("0", text, `slow-${said + index}`)),
        );
        said += 200;
      }
      expect(await metric(left, "hubbub_slow_consumers_cut_total")).toBe(1);
      await until(async () => (await metric(left, "hubbub_connections")) === 1);
      tcp.resume();
      await until(() => ended, PATIENCE_MS, "the connection to end");

      const last = await bob.say("0", "and on");
      for (const who of [ann, bob]) {
        expect(await who.hears("and on")).toEqual(last);
        expect(who.messages.map(({ seq }) => seq)).toEqual(
          Array.from({ length: said + 1 }, (_, index) => index + 1),
        );
      }
      expect(ann.socket.connected).toBe(true);
    } finally {
      stuck?.destroy();
      await house.close();
    }
  });

  it(
    "is cut too if it keeps asking, but one that reads long answers is not",
    { timeout: 120_000 },
    async () => {
      const house = await replicas(1, { SLOW_CONSUMER_BYTES: "65536" });
      let stuck: TcpSocket | undefined;
      try {
        const [left] = house.replicas as [Replica];
        const ann = await person(left);
        const text = "s".repeat(4_000);
        const said = await Promise.all(
          Array.from({ length: 100 }, (_, index) => ann.say("0", text, `n${index}`)),
        );
        const all: Message[] = [];
        let [roomId, seq, date, hash] = ["0", 0, 0, ""];
        for (let more = true; more;) {
          const { rooms } = unwrap(
            await ann.socket.emitWithAck("sync", { rooms: [{ roomId, seq, date, hash }] }),
          );
          const [answer] = rooms;
          more = answer?.more ?? false;
          all.push(...(answer?.messages ?? []));
          ({ roomId = "0", seq = 0, date = 0, hash = "" } = all.at(-1) ?? {});
          expect(JSON.stringify(answer).length).toBeLessThan(200_000);
        }
        expect(all).toEqual(said.toSorted((one, other) => one.date - other.date));
        expect(await metric(left, "hubbub_slow_consumers_cut_total")).toBe(0);

        const tcp = await stuckWindow(left, ann);
        stuck = tcp;
        for (let asked = 0; asked < 2_000 && (await metric(left, "hubbub_connections")) === 2; asked += 10) {
          for (let one = 0; one < 10; one += 1)
            tcp.write(maskedFrame(`42${asked + one}["sync",{"rooms":[{"roomId":"0","seq":0,"date":0}]}]`));
        }
        await until(
          async () => (await metric(left, "hubbub_connections")) === 1,
          PATIENCE_MS,
          "it to be cut",
        );
        expect(await metric(left, "hubbub_slow_consumers_cut_total")).toBe(1);
        expect(ann.socket.connected).toBe(true);
      } finally {
        stuck?.destroy();
        await house.close();
      }
    },
  );

  it("is cut by long-polling too", { timeout: 120_000 }, async () => {
    const house = await replicas(1, { POLLING: "on" });
    try {
      const [left] = house.replicas as [Replica];
      const ann = await person(left);
      const browser = new Browser(left);
      browser.cookie = ann.browser.cookie;
      const base = "/socket.io/?EIO=4&transport=polling";
      const opened = await browser.get<string>(base);
      const { sid } = JSON.parse(opened.body.slice(1)) as { sid: string };
      await browser.fetch("POST", `${base}&sid=${sid}`, "40", { "content-type": "text/plain" });
      expect((await browser.get<string>(`${base}&sid=${sid}`)).body).toMatch(/^40/);
      await until(async () => (await metric(left, "hubbub_connections")) === 2);
      // The client never polls again.
      for (let said = 0; said < 1_200; said += 200) {
        await Promise.all(
          Array.from({ length: 200 }, (_, index) => ann.say("0", "x", `poll-${said + index}`)),
        );
      }
      await until(async () => (await metric(left, "hubbub_connections")) === 1, PATIENCE_MS, "it to be cut");
      expect(await metric(left, "hubbub_slow_consumers_cut_total")).toBe(1);
      expect((await ann.say("0", "and on")).seq).toBe(1_201);
    } finally {
      await house.close();
    }
  });
});
