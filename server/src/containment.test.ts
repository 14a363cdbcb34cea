import { randomBytes } from "node:crypto";
import { createConnection } from "node:net";
import type { Server as HttpServer, ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { RedisStore } from "connect-redis";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { WebSocket } from "ws";
import { ChatRooms } from "./chat/rooms.ts";
import { Delivery } from "./live/delivery.ts";
import { Attendance } from "./doors/attendance.ts";
import { createFrameServer, createHttpServer } from "./doors/transport.ts";
import {
  Browser,
  both,
  connect,
  figuresOf,
  person,
  replicas,
  until,
  type House,
  type Person,
} from "./testing.ts";

/** An exception while one client is served ends only that client's request or connection, and is counted by place. */

let house: House;
let mary: Person;
let joe: Person;
let victim: Person;
beforeAll(async () => {
  house = await replicas(1);
  await house.addReplica();
  const [left, right] = both(house);
  mary = await person(left, "mary");
  joe = await person(right, "joe");
  victim = await person(left, "victim");
});
afterAll(() => house.close());
afterEach(() => {
  vi.restoreAllMocks();
});

async function othersAreServed(): Promise<void> {
  const text = randomBytes(6).toString("hex");
  await joe.say("0", text);
  await mary.hears(text);
}

async function contained(place: string): Promise<number> {
  const [left] = both(house);
  return (await figuresOf(left))[`hubbub_contained_total{place="${place}"}`] ?? 0;
}

/** Makes a method throw for the victim alone. */
function breaks(prototype: object, method: string, isVictims: (args: unknown[]) => boolean): void {
  const methods = prototype as Record<string, (...args: unknown[]) => unknown>;
  const original = methods[method];
  vi.spyOn(methods, method).mockImplementation(function broken(this: unknown, ...args: unknown[]) {
    if (isVictims(args)) throw new TypeError("of the test's making");
    return original?.apply(this, args);
  });
}

const isVictim = ([user]: unknown[]) =>
  (user as { id?: string }).id === victim.user.id || user === victim.user.id;
const isVictimsConnection = ([one]: unknown[]) =>
  (one as { data: { user: { id: string } } }).data.user.id === victim.user.id;

describe("an unexpected error", () => {
  it("in an event's handler is answered `internal`", async () => {
    breaks(ChatRooms.prototype, "read", isVictim);
    const before = await contained("event");
    const reply = await victim.socket.emitWithAck("room.read", { roomId: "0", seq: 1 });
    expect(reply).toMatchObject({ ok: false, error: { code: "internal" } });
    expect(await contained("event")).toBe(before + 1);
    await othersAreServed();
  });

  it("while an answer is written ends the connection", async () => {
    const window = await connect(victim.browser, victim.user);
    breaks(Delivery.prototype, "answer", isVictimsConnection);
    window.socket.emit("room.read", { roomId: "0", seq: 1 }, () => undefined);
    await until(() => !window.socket.connected);
    expect(await contained("answer")).toBe(1);
    await othersAreServed();
  });

  it("during an admission refuses that client", async () => {
    breaks(ChatRooms.prototype, "of", isVictim);
    const socket = victim.browser.socket();
    const refused = new Promise<Error & { data?: unknown }>((resolve) =>
      socket.once("connect_error", resolve),
    );
    socket.connect();
    expect((await refused).data).toMatchObject({ code: "internal" });
    expect(await contained("handshake")).toBe(1);
    await othersAreServed();
  });

  it("while a connection is registered ends it", async () => {
    breaks(Delivery.prototype, "add", isVictimsConnection);
    const socket = victim.browser.socket();
    const ended = new Promise((resolve) => socket.once("disconnect", resolve));
    socket.connect();
    await ended;
    expect(await contained("connection")).toBe(1);
    await othersAreServed();
  });

  it("while a connection is removed ends nothing else", async () => {
    const window = await connect(victim.browser, victim.user);
    breaks(Delivery.prototype, "remove", isVictimsConnection);
    window.close();
    await until(async () => (await contained("disconnection")) === 1);
    await othersAreServed();
  });

  it("in an order of another replica, or of this one, is dropped", async () => {
    const elsewhere = new Browser(both(house)[0]);
    await elsewhere.post("/api/login", { username: "victim", password: "correct horse" });
    breaks(Attendance.prototype, "disconnect", () => true);
    expect((await elsewhere.post("/api/logout")).status).toBe(204);
    await until(async () => (await contained("order")) > 0);
    await othersAreServed();
  });

  it("in what an order makes a replica look at is left for the next order", async () => {
    breaks(Delivery.prototype, "toUser", ([id]) => id === victim.user.id);
    const reply = await victim.socket.emitWithAck("room.read", { roomId: "0", seq: 0 });
    expect(reply.ok).toBe(true);
    await until(async () => (await contained("look")) > 0);
    vi.restoreAllMocks();
    const told = once(victim.socket as never, "room.read");
    await victim.socket.emitWithAck("room.read", { roomId: "0", seq: 0 });
    await told;
    await othersAreServed();
  });

  it("in the handling of an announcement loses no later one", async () => {
    let broken = true;
    breaks(Delivery.prototype, "message", () => broken);
    await joe.say("0", "is not delivered on the first try");
    await until(async () => (await contained("announcement")) > 0);
    broken = false;
    await othersAreServed();
  });

  it("caused by a foreign publication on a channel of Socket.IO's adapter is dropped", async () => {
    const channels = (await house.redis.call("PUBSUB", "SHARDCHANNELS", "*")) as string[];
    const own = channels.filter((channel) => channel.startsWith(house.keys.adapterChannels));
    expect(own.length).toBeGreaterThan(0);
    const before = await contained("announcement");
    for (const channel of own) {
      for (const text of [
        "garbage",
        "{}",
        "null",
        '{"type":2}',
        '{"uid":"x","type":3,"data":{}}',
        "\u0083\u00a3",
      ])
        await house.redis.call("SPUBLISH", channel, text);
    }
    await until(async () => (await contained("announcement")) > before);
    await othersAreServed();
  });

  it("in the session store fails only that request", async () => {
    vi.spyOn(RedisStore.prototype, "get").mockImplementation(() => {
      throw new TypeError("of the test's making");
    });
    const before = await contained("request");
    expect((await victim.browser.get("/api/rooms/0/messages")).status).toBe(500);
    expect((await victim.browser.get("/api/me")).status).toBe(500);
    vi.restoreAllMocks();
    expect(await contained("request")).toBe(before + 2);
    await othersAreServed();
  });
});

describe("the HTTP server", () => {
  async function serving(
    listener: (http: HttpServer) => void,
  ): Promise<{ port: number; threw: unknown[]; close: () => void }> {
    const threw: unknown[] = [];
    const http = createHttpServer({}, (error) => threw.push(error));
    listener(http);
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    const close = () => {
      http.closeAllConnections();
      http.close();
    };
    return { port: (http.address() as AddressInfo).port, threw, close };
  }

  it.each(["request", "upgrade", "connect", "clientError", "checkContinue", "checkExpectation"])(
    "ends only the connection whose %s throws",
    async (event) => {
      const { port, threw, close } = await serving((http) => {
        http.on("request", (_request, response) => response.end("fine"));
        http.prependListener(event, ({ url }: { url?: string }) => {
          if (url !== "/fine") throw new TypeError("of the test's making");
        });
      });
      const lines: Record<string, string> = {
        upgrade: "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        connect: "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        clientError: "nonsense\r\n\r\n",
        checkContinue: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        checkExpectation: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: nonsense\r\n\r\n",
      };
      const socket = createConnection(port, "127.0.0.1");
      socket.on("error", () => undefined).resume();
      socket.write(lines[event] ?? "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      await once(socket, "close");
      expect(threw).toHaveLength(1);
      expect(await (await fetch(`http://127.0.0.1:${port}/fine`)).text()).toBe("fine");
      close();
    },
  );

  it("serves a connection's requests one after the other, and none after its end", async () => {
    const asked: string[] = [];
    const answers: ServerResponse[] = [];
    const { port, close } = await serving((http) => {
      http.on("request", ({ url = "" }, response) => {
        asked.push(url);
        answers.push(response);
      });
    });
    const socket = createConnection(port, "127.0.0.1");
    let heard = "";
    socket.on("data", (chunk) => (heard += chunk.toString()));
    socket.write(["/1", "/2", "/3"].map((path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`).join(""));
    await until(() => asked.length === 1);
    answers[0]?.end("first");
    await until(() => asked.length === 2);
    answers[1]?.write("half of the second");
    await until(() => heard.includes("half of the second"));
    const closed = once(answers[1] as ServerResponse, "close");
    socket.destroy();
    await closed;
    const other = createConnection(port, "127.0.0.1");
    other.write("GET /4 HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => asked.length > 2);
    expect(asked).toEqual(["/1", "/2", "/4"]);
    other.destroy();
    close();
  });

  it("ends a connection with too many waiting requests, and keeps none of them", async () => {
    const { port, close } = await serving((http) => {
      http.on("request", ({ url }, response) => url === "/fine" && response.end("fine"));
    });
    const socket = createConnection(port, "127.0.0.1");
    socket.on("error", () => undefined).resume();
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(18));
    await once(socket, "close");
    const many = createConnection(port, "127.0.0.1");
    let heard = "";
    many.on("data", (chunk) => (heard += chunk.toString()));
    many.write("GET /fine HTTP/1.1\r\nHost: x\r\n\r\n".repeat(17));
    await until(() => heard.match(/fine/g)?.length === 17);
    many.destroy();
    close();
  });

  it("survives connections that are reset while their upgrade waits", async () => {
    const { port, threw, close } = await serving((http) => {
      http.on("request", (_request, response) => response.end("fine"));
      http.on("upgrade", (_request, socket) => setTimeout(() => socket.write("late"), 20));
    });
    const resets = Array.from({ length: 30 }, async () => {
      const socket = createConnection(port, "127.0.0.1");
      await once(socket, "connect");
      socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
      await new Promise((resolve) => setTimeout(resolve, 10));
      socket.resetAndDestroy();
    });
    await Promise.all(resets);
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("fine");
    expect(threw).toEqual([]);
    close();
  });
});

describe("a WebSocket", () => {
  it("ends alone if a listener throws at its frame, ping or end", async () => {
    const threw: unknown[] = [];
    const FrameServer = createFrameServer(true, {
      flooded: () => undefined,
      threw: (error) => threw.push(error),
    });
    const server = new FrameServer({ port: 0, host: "127.0.0.1" });
    await once(server, "listening");
    server.on("connection", (socket) => {
      socket.on("message", (data) => {
        const text = (data as Buffer).toString();
        if (text === "throw") throw new TypeError("of the test's making");
        socket.send(text);
      });
      socket.on("ping", () => {
        throw new TypeError("of the test's making");
      });
    });
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const open = async () => {
      const socket = new WebSocket(url);
      socket.on("error", () => undefined);
      await once(socket, "open");
      return socket;
    };
    const [one, other, third] = [await open(), await open(), await open()];
    one.send("throw");
    await once(one, "close");
    third.ping();
    await once(third, "close");
    expect(threw).toHaveLength(2);
    other.send("still here");
    const [heard] = (await once(other, "message")) as [Buffer];
    expect(heard.toString()).toBe("still here");
    other.terminate();
    server.close();
  });
});
