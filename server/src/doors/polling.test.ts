import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { readConfig } from "../config.ts";
import { Log } from "../store/log.ts";
import { PATIENCE_MS, figuresOf, person, replicas, until, type House, type Person } from "../testing.ts";

/** A WebSocket at this address, with what it hears. */
function webSocket({ browser }: Person, query: string): { socket: WebSocket; heard: string[] } {
  const { address, cookie } = browser;
  const url = `${address.replace("http", "ws")}/socket.io/?${query}`;
  const socket = new WebSocket(url, { headers: { cookie, origin: address } });
  const heard: string[] = [];
  socket.on("error", () => undefined);
  socket.on("message", (data: Buffer) => heard.push(data.toString()));
  return { socket, heard };
}

/** The status that answers an upgrade. */
async function statusOf({ socket }: { socket: WebSocket }): Promise<number | undefined> {
  const refused = once(socket, "unexpected-response") as Promise<[unknown, IncomingMessage]>;
  const status = await Promise.race([
    refused.then(([, { statusCode }]) => statusCode),
    once(socket, "open").then(() => 101),
  ]);
  socket.terminate();
  return status;
}

/** A client by long-polling, request by request. */
class Poller {
  readonly #headers: Record<string, string>;
  url: string;

  constructor({ browser }: Person) {
    this.#headers = { cookie: browser.cookie, origin: browser.address };
    this.url = `${browser.address}/socket.io/?EIO=4&transport=polling`;
  }

  /** Resolves once the client is connected. */
  static async enter(who: Person): Promise<Poller> {
    const poller = new Poller(who);
    const [, sid] = /"sid":"([^"]+)"/.exec((await poller.poll()).text) ?? [];
    poller.url += `&sid=${sid}`;
    expect(await poller.post("40")).toBe(200);
    await until(async () => (await poller.poll()).text.includes("40{"), PATIENCE_MS, "the connection");
    return poller;
  }

  async poll(): Promise<{ status: number; text: string }> {
    const response = await fetch(this.url, { headers: this.#headers });
    return { status: response.status, text: await response.text() };
  }

  /** Sends packets in one request; answers its status, or 0 if it was cut. */
  post(...packets: string[]): Promise<number> {
    const body = packets.join("\u001e");
    return fetch(this.url, { method: "POST", headers: this.#headers, body }).then(
      async (response) => (await response.text(), response.status),
      () => 0,
    );
  }
}

let house: House;
let mary: Person;
beforeAll(async () => {
  house = await replicas(1, { POLLING: "on", SLOW_CONSUMER_BYTES: "65536" });
  mary = await person(house.replicas[0]!, "mary");
});
afterAll(async () => {
  mary.close();
  await house.close();
});

const message = (text: string) =>
  `42["message",${JSON.stringify({ roomId: "0", message: text, nonce: text })}]`;

describe("of packets in one request", () => {
  it("those before the end of the connection are carried out, and those after it are not", async () => {
    const poller = await Poller.enter(mary);
    await poller.post(message("before"), "41", message("after"));
    await mary.hears("before");
    await mary.say("0", "at last");
    await mary.hears("at last");
    expect(mary.messages.map((one) => one.message)).toEqual(["before", "at last"]);
  });
});

it("somebody else's cookie, or none, continues no connection, whoever knows its id", async () => {
  const poller = await Poller.enter(mary);
  const joe = await person(house.replicas[0]!);
  for (const cookie of [joe.browser.cookie, ""]) {
    const headers = { cookie, origin: mary.browser.address };
    for (const ask of [{ headers }, { headers, method: "POST", body: message("forged") }])
      expect((await fetch(poller.url, { ...ask, signal: AbortSignal.timeout(PATIENCE_MS) })).status).toBe(
        400,
      );
  }
  const query = new URL(poller.url).search.slice(1).replace("polling", "websocket");
  expect(await statusOf(webSocket(joe, query))).toBe(400);
  expect(await poller.post(message("mine"), "41")).toBe(200);
  await mary.hears("mine");
  expect(mary.messages.map((one) => one.message)).not.toContain("forged");
  joe.close();
});

describe("a WebSocket", () => {
  let socket: WebSocket;
  let heard: string[];
  let later: string;
  beforeEach(async () => {
    ({ socket, heard } = webSocket(mary, "EIO=4&transport=websocket"));
    const opened = await until(() => heard[0]);
    later = `EIO=4&transport=websocket&sid=${/"sid":"([^"]+)"/.exec(opened)?.[1]}`;
    socket.send("40");
    await until(() => heard.some((packet) => packet.startsWith("40{")));
  });
  afterEach(() => socket.terminate());
  const works = async () => {
    socket.send('427["sync",{"rooms":[]}]');
    await until(() => heard.includes('437[{"ok":true,"value":{"rooms":[]}}]'));
  };

  it.each(["GET", "POST"])("that is polled with %s refuses that at once, and works on", async (method) => {
    const { address, cookie } = mary.browser;
    for (const transport of ["websocket", "polling"]) {
      const response = await fetch(`${address}/socket.io/?${later.replace("websocket", transport)}`, {
        method,
        headers: { cookie, origin: address },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ code: "invalid" });
    }
    await works();
  });

  it("cannot be exchanged for another, whose frames and unread bytes would be counted anew", async () => {
    expect(await statusOf(webSocket(mary, later))).toBe(400);
    await works();
  });
});

describe("a client that asks again for a long answer", () => {
  const join = '421["room.join",{"roomId":"0"}]';
  const LONG = 65_536;
  beforeAll(async () => {
    for (let said = 0; said < 20; said += 1) await mary.say("0", "long".repeat(1_000));
  });

  it("before it has polled for the first one is cut", async () => {
    const poller = await Poller.enter(mary);
    const most = 10;
    let answered = 0;
    while (answered < most && (await poller.post(join)) === 200) {
      answered += 1;
      await sleep(20);
    }
    expect(answered).toBeLessThan(most);
    expect((await figuresOf(house.replicas[0]!))["hubbub_slow_consumers_cut_total"]).toBe(1);
  });

  it("after it has polled for the first one is served", async () => {
    const poller = await Poller.enter(mary);
    for (let count = 0; count < 5; count += 1) {
      expect(await poller.post(join)).toBe(200);
      let heard = "";
      await until(async () => (heard += (await poller.poll()).text).length > LONG);
      expect(heard).toContain('431[{"ok":true');
    }
  });
});

it("a handshake that only speaks of an upgrade leaves the answers of its TCP connection alone", async () => {
  const log = new Log(house.redis, house.keys, { ...readConfig(house.env), serverId: "loads" });
  const rows = Array.from({ length: 500 }, (_, date) => ({
    from: mary.user.id,
    message: "long".repeat(2_000),
    date,
  }));
  // More than fits into the buffers between a server and a client that does not read.
  for (let loads = 0; loads < 5; loads += 1) await log.load("0", rows);
  const limited = await house.addReplica({ RATE_LIMITS: "on" });
  const { address } = limited;
  const { cookie } = mary.browser;
  const line = connect(limited.port, "127.0.0.1");
  let heard = "";
  line.on("error", () => undefined).on("data", (chunk: Buffer) => (heard += chunk.toString("latin1")));
  const ask = (path: string, header = "") =>
    line.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\n${header}\r\n`);
  const handshake = "/socket.io/?EIO=4&transport=polling";
  ask(handshake, "Upgrade: anything\r\n");
  const sid = await until(() => /"sid":"([^"]+)"/.exec(heard)?.[1]);
  ask("/api/rooms/0/transcript");
  await until(() => heard.includes("<html"));
  line.pause();
  const headers = { cookie, origin: address };
  await fetch(`${address}${handshake}&sid=${sid}`, { method: "POST", headers, body: "40" });
  const polled = await fetch(`${address}${handshake}&sid=${sid}`, { headers });
  expect(await polled.text()).toContain("40{");
  line.resetAndDestroy();
  const next = await fetch(`${address}/api/rooms/0/transcript`, {
    headers,
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  expect(next.status).toBe(200);
  await next.body?.cancel();
});
