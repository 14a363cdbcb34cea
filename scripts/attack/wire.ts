import { randomBytes } from "node:crypto";
import { request, type Agent, type IncomingHttpHeaders } from "node:http";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { ErrorCode, Reply } from "../../server/src/protocol.ts";
import { clientFrame, readFrames, type Stream } from "../frames.ts";

/**
 * How attackers and bystanders reach a replica. Each has an address of their own in 127.0.0.0/8, because limits count
 * addresses; Linux answers on all of these.
 */
export type Caller = { from: string; cookie?: string };

export type Answer = { status: number; headers: IncomingHttpHeaders; body: string; ms: number };

export type Ask = {
  method?: string;
  headers?: Record<string, string | string[]>;
  /** A string or a Buffer is sent as it is, anything else as JSON. */
  body?: unknown;
  /** An agent that keeps connections open; without one each request opens a connection. */
  agent?: Agent;
  timeoutMs?: number;
};

/** Sends one HTTP request with the Origin of this replica's page. Status 0 means that the connection was cut. */
export function ask(port: number, path: string, caller: Caller, asked: Ask = {}): Promise<Answer> {
  const { method = "GET", headers = {}, body, agent, timeoutMs = 30_000 } = asked;
  const text =
    body === undefined || typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const began = performance.now();
  return new Promise((resolve) => {
    let answer = { status: 0, headers: {} as IncomingHttpHeaders, body: "" };
    const done = () => resolve({ ...answer, ms: performance.now() - began });
    const sent = request({
      host: "127.0.0.1",
      port,
      path,
      method,
      localAddress: caller.from,
      agent: agent ?? false,
      headers: {
        origin: `http://127.0.0.1:${port}`,
        ...(caller.cookie && { cookie: caller.cookie }),
        ...(text !== undefined && {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(text),
        }),
        ...headers,
      },
    });
    sent.setTimeout(timeoutMs, () => sent.destroy());
    sent.once("error", done);
    sent.once("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("error", () => undefined);
      response.once("close", () => {
        answer = {
          status: response.complete ? (response.statusCode ?? 0) : 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
        };
        done();
      });
    });
    sent.end(text);
  });
}

/** The code in an error's body, or its status if the body has none. */
export function codeOf({ status, body }: Pick<Answer, "status" | "body">): ErrorCode | number {
  try {
    return (JSON.parse(body) as { code?: ErrorCode }).code ?? status;
  } catch {
    return status;
  }
}

/** The session cookie that an answer sets. */
export function cookieOf({ headers }: Pick<Answer, "headers">): string | undefined {
  return headers["set-cookie"]?.[0]?.split(";")[0];
}

/** A TCP connection that sends any bytes. */
export class Line {
  readonly tcp: Socket;
  readonly closed: Promise<void>;
  isClosed = false;
  /** What came back, up to a limit. */
  received = "";
  readonly #most: number;

  constructor(port: number, from: string, most = 65_536) {
    this.#most = most;
    this.tcp = connect({ host: "127.0.0.1", port, localAddress: from });
    this.tcp.setNoDelay(true);
    this.tcp.on("error", () => undefined);
    this.closed = new Promise((resolve) => {
      this.tcp.once("close", () => {
        this.isClosed = true;
        resolve();
      });
    });
  }

  /** Resolves once it is connected or refused. */
  static async open(port: number, from: string): Promise<Line> {
    const line = new Line(port, from);
    line.tcp.on("data", (chunk: Buffer) => {
      if (line.received.length < line.#most) line.received += chunk.toString("latin1");
    });
    await Promise.race([new Promise((resolve) => line.tcp.once("connect", resolve)), line.closed]);
    return line;
  }

  write(bytes: string | Buffer): void {
    if (!this.isClosed) this.tcp.write(bytes);
  }

  /** Writes; resolves once the socket takes more, is closed, or after a tenth of a second. */
  async press(bytes: Buffer): Promise<void> {
    if (this.isClosed || this.tcp.write(bytes)) return;
    let go = () => {};
    const drain = new Promise<void>((resolve) => (go = resolve));
    this.tcp.once("drain", go);
    await Promise.race([drain, this.closed, sleep(100)]);
    this.tcp.off("drain", go);
  }

  destroy(): void {
    this.tcp.destroy();
  }

  /** Whether the other side closes within `ms`. */
  async endsWithin(ms: number): Promise<boolean> {
    await Promise.race([this.closed, sleep(ms)]);
    return this.isClosed;
  }
}

export type Handshake = {
  origin?: string | null;
  host?: string;
  headers?: Record<string, string>;
  query?: string;
};

/** An Engine.IO WebSocket, frame by frame. */
export class Wire extends Line {
  /** The status of the upgrade's answer; 0 if there was none. */
  status = 0;
  /** The code of a close frame. */
  closeCode: number | undefined;
  /** Engine.IO packets, as text; the newest 1,000. */
  readonly packets: string[] = [];
  onPacket: ((packet: string) => void) | undefined;
  onPong: (() => void) | undefined;
  readonly #stream: Stream = { rest: null };
  #head: Buffer | null = Buffer.alloc(0);

  /** Resolves once the upgrade is answered or the connection is closed. */
  static async dial(port: number, caller: Caller, handshake: Handshake = {}): Promise<Wire> {
    const wire = new Wire(port, caller.from);
    const { origin = `http://127.0.0.1:${port}`, host = `127.0.0.1:${port}`, headers = {} } = handshake;
    const head = [
      `GET /socket.io/?${handshake.query ?? "EIO=4&transport=websocket"} HTTP/1.1`,
      `Host: ${host}`,
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
      ...(origin === null ? [] : [`Origin: ${origin}`]),
      ...(caller.cookie ? [`Cookie: ${caller.cookie}`] : []),
      ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ];
    const answered = new Promise<void>((resolve) => {
      wire.tcp.on("data", (chunk: Buffer) => {
        wire.#read(chunk);
        if (!wire.#head) resolve();
      });
    });
    wire.write(`${head.join("\r\n")}\r\n\r\n`);
    await Promise.race([answered, wire.closed]);
    return wire;
  }

  /** Sends one whole text frame. */
  send(packet: string): void {
    if (!this.isClosed) this.tcp.write(clientFrame(packet));
  }

  /** Resolves with the first packet that fits, past or future; undefined if none comes within `ms`. */
  async packet(fits: (packet: string) => boolean, ms = 5_000): Promise<string | undefined> {
    const deadline = performance.now() + ms;
    for (;;) {
      const found = this.packets.find(fits);
      if (found !== undefined || this.isClosed || performance.now() > deadline) return found;
      await sleep(5);
    }
  }

  #read(chunk: Buffer): void {
    let rest = chunk;
    if (this.#head) {
      const head = Buffer.concat([this.#head, chunk]);
      const end = head.indexOf("\r\n\r\n");
      this.#head = end < 0 ? head : null;
      if (end < 0) return;
      this.status = Number(/^HTTP\/1\.1 (\d+)/.exec(head.subarray(0, end).toString("latin1"))?.[1] ?? 0);
      this.received = head.subarray(0, 65_536).toString("latin1");
      rest = head.subarray(end + 4);
    }
    if (this.status !== 101) return;
    readFrames(this.#stream, rest, rest.length, (_stream, opcode, buffer, start, end) => {
      if (opcode === 8) {
        this.closeCode = end - start >= 2 ? buffer.readUInt16BE(start) : 1005;
        // Browsers answer a close frame; ws cuts clients that do not.
        this.write(clientFrame(buffer.subarray(start, end), 8));
      } else if (opcode === 10) this.onPong?.();
      else if (opcode === 9) this.write(clientFrame(buffer.subarray(start, end), 10));
      else {
        const packet = buffer.toString("utf8", start, end);
        if (packet === "2") this.send("3");
        if (this.packets.length >= 1_000) this.packets.shift();
        this.packets.push(packet);
        this.onPacket?.(packet);
      }
    });
  }
}

/** A Socket.IO connection in the default namespace that sends what it is told and answers pings. */
export class Talker {
  readonly wire: Wire;
  onEvent: ((packet: string) => void) | undefined;
  readonly #acks = new Map<number, (reply: Reply<never>) => void>();
  #lastId = 0;

  private constructor(wire: Wire) {
    this.wire = wire;
  }

  /** Throws the code, or the status of the upgrade, if it is refused. */
  static async connect(port: number, caller: Caller, handshake?: Handshake): Promise<Talker> {
    const wire = await Wire.dial(port, caller, handshake);
    if (wire.status !== 101) throw new Error(String(wire.status));
    wire.send("40");
    const answer = await wire.packet((packet) => /^4[04]/.test(packet), 10_000);
    if (!answer?.startsWith("40")) {
      wire.destroy();
      throw new Error(/"message":"(\w+)"/.exec(answer ?? "")?.[1] ?? "closed");
    }
    const talker = new Talker(wire);
    wire.packets.length = 0;
    wire.onPacket = (packet) => talker.#take(packet);
    wire.tcp.once("close", () => {
      for (const resolve of talker.#acks.values()) resolve(CLOSED);
      talker.#acks.clear();
    });
    return talker;
  }

  /** Resolves with the reply, or with `unavailable` if the connection ends first. */
  emit<T>(event: string, body: unknown): Promise<Reply<T>> {
    if (this.wire.isClosed) return Promise.resolve(CLOSED);
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve) => {
      this.#acks.set(id, resolve);
      this.wire.send(`42${id}${JSON.stringify([event, body])}`);
    });
  }

  close(): void {
    this.wire.destroy();
  }

  #take(packet: string): void {
    this.wire.packets.length = 0;
    if (packet.startsWith("42")) this.onEvent?.(packet);
    if (!packet.startsWith("43")) return;
    const at = packet.indexOf("[");
    const id = Number(packet.slice(2, at));
    const resolve = this.#acks.get(id);
    this.#acks.delete(id);
    resolve?.((JSON.parse(packet.slice(at)) as [Reply<never>])[0]);
  }
}

const CLOSED = { ok: false, error: { code: "unavailable", message: "closed" } } as const;
