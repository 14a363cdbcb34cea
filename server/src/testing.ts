import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type AddressInfo, type Socket as TcpSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Redis } from "ioredis";
import { pino } from "pino";
import { io, type Socket } from "socket.io-client";
import { readConfig } from "./config.ts";
import { createKeys, type Keys } from "./keys.ts";
import type { ClientEvents, Message, NewRoom, Reply, Room, RoomId, ServerEvents, User } from "./protocol.ts";
import { startServer, type Replica } from "./server.ts";

/** What tests start with: replicas on a real Redis under a prefix of their own, and people who use them. */

export type TestSocket = Socket<ServerEvents, ClientEvents>;

export type House = {
  replicas: Replica[];
  redis: Redis;
  keys: Keys;
  /** The variables that the replicas were started with. */
  env: Record<string, string>;
  /** Starts another replica of this house. */
  addReplica: (env?: Record<string, string>) => Promise<Replica>;
  close: () => Promise<void>;
};

/**
 * How long a test waits for what must come, in ms: long for a busy machine, and shorter than the checks by which a
 * replica finds what its quicker ways have missed.
 */
export const PATIENCE_MS = 15_000;

/** The token for /metrics of a house's replicas. */
export const METRICS_TOKEN = "the-metrics-of-the-tests";

/** A replica's metrics, by name and labels: `hubbub_sheds_total{kind="sends"}`. */
export async function figuresOf({ address }: Pick<Replica, "address">): Promise<Record<string, number>> {
  const response = await fetch(`${address}/metrics`, {
    headers: { authorization: `Bearer ${METRICS_TOKEN}`, connection: "close" },
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`/metrics answered ${response.status}: ${text}`);
  return Object.fromEntries(
    [...text.matchAll(/^(\w+(?:\{.*\})?) (\S+)$/gm)].map(([, name = "", value]) => [name, Number(value)]),
  );
}

/** The Redis that the test run started. */
export function testRedisUrl(): string {
  return given("TEST_REDIS_URL");
}

/** What scripts/testRedis.ts has set. */
function given(name: "TEST_REDIS_URL" | "TEST_SERVER"): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with \`npm test\``);
  return value;
}

/**
 * A Cluster refuses a script whose keys are in several slots, and a single Redis runs it: the tests refuse it too. Keys
 * with the same text in braces, or without braces that text itself, share a slot.
 */
// oxlint-disable-next-line typescript/unbound-method -- called with the client below
const sendCommand = Redis.prototype.sendCommand;
Redis.prototype.sendCommand = function sendInOneSlot(command, stream) {
  if (command.name === "eval" || command.name === "evalsha") {
    const [, count, ...rest] = command.args.map(String);
    const keys = rest.slice(0, Number(count));
    const slots = new Set(keys.map((key) => /\{([^}]+)\}/.exec(key)?.[1] ?? key));
    if (slots.size > 1) throw new Error(`A script has keys in several slots: ${keys.join(" ")}`);
  }
  return Reflect.apply(sendCommand, this, [command, stream]);
};

/**
 * `count` replicas in this process. Hashes are cheap and limits are off unless `env` says otherwise. Whoever signs up
 * first owns nothing: see `newServer`.
 */
export async function replicas(count: number, env: Record<string, string> = {}): Promise<House> {
  const house = await newServer(count, env);
  await house.redis.hsetnx(house.keys.settings, "owner", "0");
  return house;
}

/** The same, and the first account owns the server. */
export async function newServer(count: number, env: Record<string, string> = {}): Promise<House> {
  const prefix = `test-${randomBytes(6).toString("hex")}:`;
  const folder = join(given("TEST_SERVER"), `files-${randomBytes(6).toString("hex")}`);
  const variables: Record<string, string> = {
    NODE_ENV: "test",
    FILES_URL: `file:${folder}`,
    REDIS_URL: testRedisUrl(),
    KEY_PREFIX: prefix,
    PORT: "0",
    BCRYPT_COST: "4",
    RATE_LIMITS: "off",
    DRAIN: "0",
    LOG_LEVEL: "silent",
    CLIENT_DIR: "off",
    METRICS_TOKEN,
    ...env,
  };
  // A Cluster here has one node.
  const redis = new Redis((variables["REDIS_URL"] ?? "").replace("redis+cluster:", "redis:"));
  const house: House = {
    replicas: [],
    redis,
    keys: createKeys(variables["KEY_PREFIX"] ?? ""),
    env: variables,
    addReplica: async (more = {}) => {
      const config = readConfig({ ...variables, ...more });
      const replica = await startServer(config, pino({ level: config.logLevel }));
      house.replicas.push(replica);
      return replica;
    },
    close: async () => {
      await Promise.all(house.replicas.map((replica) => replica.close()));
      const left = await redis.keys(`*${prefix}*`);
      await Promise.all(left.map((key) => redis.del(key)));
      redis.disconnect();
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
  for (let index = 0; index < count; index += 1) await house.addReplica();
  return house;
}

/** The first two replicas of a house. */
export function both(house: House): [Replica, Replica] {
  const [left, right] = house.replicas;
  if (!left || !right) throw new Error("this house has fewer than two replicas");
  return [left, right];
}

/** A browser without a window: keeps cookies, and sends the Origin of its page. */
export class Browser {
  readonly address: string;
  cookie = "";

  constructor(replica: Pick<Replica, "address">) {
    this.address = replica.address;
  }

  /** Sends one request to the API; `body` is sent as JSON. */
  async fetch<T>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; body: T; headers: Headers }> {
    const response = await fetch(`${this.address}${path}`, {
      method,
      headers: {
        origin: this.address,
        ...(this.cookie && { cookie: this.cookie }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    for (const cookie of response.headers.getSetCookie()) this.cookie = cookie.split(";")[0] ?? "";
    const text = await response.text();
    const json = response.headers.get("content-type")?.includes("json") ?? false;
    return {
      status: response.status,
      body: (json ? JSON.parse(text) : text) as T,
      headers: response.headers,
    };
  }

  get<T>(path: string) {
    return this.fetch<T>("GET", path);
  }

  post<T>(path: string, body: unknown = {}) {
    return this.fetch<T>("POST", path, body);
  }

  /** A socket with this browser's cookie, not yet connected. */
  socket(headers: Record<string, string> = {}): TestSocket {
    return io(this.address, {
      transports: ["websocket"],
      forceNew: true,
      autoConnect: false,
      reconnection: false,
      extraHeaders: { cookie: this.cookie, origin: this.address, ...headers },
    });
  }
}

/** A user with a session and a connection to one replica. */
export class Person {
  readonly browser: Browser;
  readonly socket: TestSocket;
  readonly user: User;
  /** Every `message` event, in the order of arrival. */
  readonly messages: Message[] = [];
  #nonce = 0;

  constructor(browser: Browser, socket: TestSocket, user: User) {
    this.browser = browser;
    this.socket = socket;
    this.user = user;
    socket.on("message", (message) => this.messages.push(message));
  }

  /** Sends a message and resolves with the stored one; throws the failure's code. */
  async say(roomId: RoomId, message: string, nonce = `n${(this.#nonce += 1)}`): Promise<Message> {
    return unwrap(await this.socket.timeout(PATIENCE_MS).emitWithAck("message", { roomId, message, nonce }));
  }

  /**
   * Makes a room, and resolves once this connection hears it. Until then the answer to the request has come, and what is
   * said is told by the `seq` of `show.room` alone.
   */
  async makes(room: NewRoom): Promise<Room> {
    const { status, body } = await this.browser.post<Room>("/api/rooms", room);
    if (status !== 201) throw new Error(`a new room was answered with ${status}: ${JSON.stringify(body)}`);
    unwrap(await this.socket.timeout(PATIENCE_MS).emitWithAck("room.join", { roomId: body.id }));
    return body;
  }

  /** Resolves with the first message of this text, heard already or later. */
  async hears(text: string, timeoutMs = PATIENCE_MS): Promise<Message> {
    const heard = () => this.messages.find(({ message }) => message === text);
    return until(heard, timeoutMs, `${this.user.username} to hear "${text}"`);
  }

  close(): void {
    this.socket.disconnect();
  }
}

let people = 0;

/** Signs up a user at a replica and connects them; all their rooms are open then. */
export async function person(
  replica: Pick<Replica, "address">,
  name = `person${(people += 1)}`,
): Promise<Person> {
  const browser = new Browser(replica);
  const { status, body } = await browser.post<User>("/api/users", {
    username: name,
    password: "correct horse",
  });
  if (status !== 201) throw new Error(`sign-up answered ${status}: ${JSON.stringify(body)}`);
  return connect(browser, { id: body.id, username: body.username });
}

/** Opens another window of a logged-in user. */
export async function connect(browser: Browser, user: User): Promise<Person> {
  const socket = browser.socket();
  const connected = new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  const one = new Person(browser, socket, user);
  socket.connect();
  await connected;
  // The answer comes once the connection hears its rooms.
  unwrap(await socket.timeout(PATIENCE_MS).emitWithAck("sync", { rooms: [] }));
  return one;
}

/** Opens another window of somebody, at any replica. */
export function windowOf(who: Person, replica: Pick<Replica, "address">): Promise<Person> {
  const browser = new Browser(replica);
  browser.cookie = who.browser.cookie;
  return connect(browser, who.user);
}

export function unwrap<T>(reply: Reply<T>): T {
  if (!reply.ok) throw new Error(reply.error.code);
  return reply.value;
}

/** Asks repeatedly until the answer is truthy, for what another process or replica does in its own time. */
export async function until<T>(
  look: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  timeoutMs = PATIENCE_MS,
  what = "it",
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function dial(redisUrl: string): TcpSocket {
  return redisUrl.startsWith("unix://")
    ? createConnection({ path: decodeURIComponent(redisUrl.slice("unix://".length)) })
    : createConnection({ host: new URL(redisUrl).hostname, port: Number(new URL(redisUrl).port) });
}

/**
 * Every command, as words, that the Redis at TEST_REDIS_URL executes during `during`, from any client. Uses a
 * connection of its own: ioredis' `monitor` throws if a command is executed before it has read MONITOR's own answer.
 */
export async function commandsDuring(during: () => Promise<void>): Promise<string[][]> {
  const socket = dial(testRedisUrl()).setEncoding("latin1");
  let heard = "";
  socket.on("data", (chunk: string) => {
    heard += chunk;
  });
  try {
    socket.write("MONITOR\r\n");
    await until(() => heard.startsWith("+OK\r\n"), PATIENCE_MS, "MONITOR");
    await during();
    const mark = randomBytes(8).toString("hex");
    socket.write(`PING ${mark}\r\n`);
    await until(() => heard.includes(mark), PATIENCE_MS, "the end of MONITOR");
  } finally {
    socket.destroy();
  }
  return heard.split("\r\n").map((line) =>
    [...line.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, word = ""]) => {
      const json = word.replaceAll("\\a", "\\u0007").replaceAll(/\\x(..)/g, "\\u00$1");
      return Buffer.from(JSON.parse(`"${json}"`) as string, "latin1").toString();
    }),
  );
}

/** A TCP wire to Redis that a test can hold, garble or cut. `url` is for REDIS_URL. */
export type Wire = { url: string; cut: () => void; close: () => Promise<void> };

/**
 * Puts a wire between replicas and a Redis; if `redis` is a function, each connection asks it for the Redis. `pass`
 * gets what is read, in order and per direction, and answers what to write: later if it answers later; null cuts the
 * connection.
 */
export async function startWire(
  to: string | (() => string),
  pass: (chunk: Buffer, from: "replica" | "redis") => Buffer | null | Promise<Buffer | null> = (chunk) =>
    chunk,
): Promise<Wire> {
  const open = new Set<TcpSocket>();
  const server = createServer((near) => {
    const far = dial(typeof to === "string" ? to : to());
    for (const [from, source, target] of [
      ["replica", near, far],
      ["redis", far, near],
    ] as const) {
      open.add(source);
      const passOn = async (chunk: Buffer): Promise<void> => {
        const passed = await pass(chunk, from);
        if (passed) target.write(passed);
        else source.destroy();
      };
      let order = Promise.resolve();
      source.on("data", (chunk: Buffer) => {
        order = order.then(() => passOn(chunk));
      });
      source.on("error", () => undefined);
      source.on("close", () => {
        open.delete(source);
        target.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => open.forEach((socket) => socket.destroy());
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      cut();
      await closed;
    },
  };
}

/** A wire to the tests' Redis that is cut after so many writes of a replica: as if it had died between two commands. */
export async function startFuse(): Promise<Wire & { allow: (writes: number) => void }> {
  let left = Infinity;
  const wire = await startWire(testRedisUrl(), (chunk, from) =>
    from === "replica" && (left -= 1) < 0 ? null : chunk,
  );
  return { ...wire, allow: (writes) => (left = writes) };
}

/** A test's own Redis, to be killed and started again: same `url`, and the same data if `persistent`. */
export type OwnRedis = {
  url: string;
  kill: () => Promise<void>;
  start: () => Promise<void>;
  close: () => Promise<void>;
};

export async function ownRedis(options: { persistent: boolean; args?: string[] }): Promise<OwnRedis> {
  // Imported at run time: the scripts are a separate TypeScript program.
  const { startRedis, freePort } = (await import(fromScripts("redis.ts"))) as {
    startRedis: (how: object) => Promise<{ pid: number; url: string; ended: Promise<unknown> }>;
    freePort: () => Promise<number>;
  };
  const dir = mkdtempSync(join(tmpdir(), "hubbub-test-"));
  const how = { ...options, dir, port: await freePort(), say: () => undefined };
  let child = await startRedis(how);
  const kill = async () => {
    process.kill(child.pid, "SIGKILL");
    await child.ended;
  };
  return {
    url: child.url,
    kill,
    start: async () => {
      child = await startRedis(how);
    },
    close: async () => {
      await kill().catch(() => undefined);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Whether a process with this id exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The server in a process of its own. `output` is everything that it and its workers wrote. */
export type ServerProcess = {
  address: string;
  pid: number;
  output: () => string;
  /** The exit code, or null if a signal ended it. */
  ended: Promise<number | null>;
  /** Sends SIGTERM; resolves with the exit code. */
  stop: () => Promise<number | null>;
};

function fromScripts(file: string): string {
  return fileURLToPath(new URL(`../../scripts/${file}`, import.meta.url));
}

/** Starts the server with these variables; throws its output if it ends instead. `files` limits its open files. */
export async function serverProcess(env: Record<string, string>, files?: number): Promise<ServerProcess> {
  const { startChild } = (await import(fromScripts("child.ts"))) as {
    startChild: (options: object) => {
      pid: number;
      ended: Promise<number | null>;
      hasEnded: () => boolean;
      stop: (graceMs: number) => Promise<void>;
    };
  };
  let output = "";
  const command = [process.execPath, join(given("TEST_SERVER"), "main.js")];
  const limit = files === undefined ? "" : `ulimit -n ${files}; `;
  const child = startChild({
    command: "/bin/sh",
    args: ["-c", `${limit}exec "$@"`, "sh", ...command],
    env: { ...process.env, ...env },
    onLine: (line: string) => (output += `${line}\n`),
  });
  const listens = () => /^Hubbub listens on (\S+)$/m.exec(output)?.[1];
  await until(() => listens() ?? child.hasEnded(), PATIENCE_MS, "the server to listen");
  const address = listens();
  if (address === undefined) throw new Error(`ended with ${await child.ended}: ${output}`);
  return {
    address,
    pid: child.pid,
    output: () => output,
    ended: child.ended,
    stop: async () => {
      await child.stop(20_000);
      return child.ended;
    },
  };
}

/** V8's collections of garbage: of the whole heap, and of the young generation alone. */
export function garbage(): { collectAll: () => void; collectYoung: () => void } {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as (how?: { type: "minor" }) => void;
  return { collectAll: () => gc(), collectYoung: () => gc({ type: "minor" }) };
}
