import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Cluster, Command, Redis, type RedisOptions } from "ioredis";
import type { Logger } from "pino";
import { noteUnanswered, reasonOf, redisCode, unlessWrongType } from "../errors.ts";
import { commandOf, dataOptions, faultOf, reach, tlsOptions } from "./redisReach.ts";
import { parseRedisUrl, type RedisAddress } from "../redisUrl.ts";

/** Connections to Redis: one, the primary of a Sentinel group, or a Cluster, as REDIS_URL says. */
export type RedisClient = Redis | Cluster;

type Purpose = "commands" | "subscriptions";

/** How long a new connection is kept if it is read-only. */
const READONLY_MS = 1_000;
/** When a connection that may not subscribe is renewed. */
const RENEW_MS = 5_000;

/**
 * A command answers soon or fails: nothing waits in a queue while Redis is away, and the library sends nothing twice.
 * Callers that retry have a nonce that makes the retry harmless. Subscriptions wait, and are restored.
 * Commands are not grouped: ioredis' own grouping (6.0) throws where no handler can catch it when a group's results
 * come back short, and never follows a Cluster's failover.
 */
const OPTIONS: Record<Purpose, RedisOptions> = {
  commands: {
    commandTimeout: 2_000,
    // Drops a connection whose other end vanished silently, not only its commands.
    socketTimeout: 4_000,
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
  },
  subscriptions: { maxRetriesPerRequest: null },
};

/**
 * Resolves with a connected client, or throws one Error with a line for people, without the password.
 */
export async function connectRedis(url: string, purpose: Purpose, log: Logger): Promise<RedisClient> {
  const address = parseRedisUrl(url);
  const cannot = (why: unknown) => new Error(`Redis at ${address.shown} cannot be used: ${faultOf(why)}`);
  try {
    await reach(address, log);
  } catch (error) {
    throw cannot(error);
  }
  let reconnectedAt = -Infinity;
  const client = open(address, purpose, {
    ...OPTIONS[purpose],
    lazyConnect: true,
    connectTimeout: 5_000,
    maxLoadingRetryTime: 500,
    connectionName: `hubbub-${purpose}`,
    retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 1_000) * (0.5 + Math.random() / 2),
    reconnectOnError: (error) => {
      // A primary has become a replica; the address, or a Sentinel, may know the new primary. The refused command is
      // not sent again: its caller decides.
      if (redisCode(error) !== "READONLY" || performance.now() - reconnectedAt < READONLY_MS) return false;
      reconnectedAt = performance.now();
      return true;
    },
  });
  if (purpose === "subscriptions") {
    if (client instanceof Redis) keepSubscribed(client);
    excuseRefusals(client);
  } else if (client instanceof Cluster) client.on("+node", gatherWrites);
  else gatherWrites(client);
  let lastError: unknown;
  client.on("error", (error: Error) => {
    lastError = error;
    log.warn({ purpose, reason: reasonOf(error) }, "redis connection");
    // Without this, ioredis would continue with database 0.
    if (commandOf(error) === "SELECT") client.disconnect(true);
  });
  try {
    await withDeadline(client.connect(), 5_000);
    await withDeadline(client.ping(), 5_000);
  } catch (error) {
    client.disconnect();
    throw cannot(lastError ?? error);
  }
  return client;
}

/**
 * Catches what listeners throw at a message. Anybody who can reach Redis may publish anything, also on the channels of
 * Socket.IO's adapter, which trusts what it reads. Uncaught, the error would end the process from inside ioredis'
 * parser.
 */
export function guardMessages(client: RedisClient, threw: (error: unknown) => void): void {
  const emit = client.emit.bind(client);
  Reflect.set(client, "emit", (event: string, ...args: unknown[]) => {
    if (!MESSAGES.has(event)) return emit(event, ...args);
    try {
      return emit(event, ...args);
    } catch (error) {
      threw(error);
      return true;
    }
  });
}

const MESSAGES = new Set(["message", "messageBuffer", "smessage", "smessageBuffer"]);

/**
 * Neither ioredis, when it renews subscriptions, nor Socket.IO's adapter handles the refusal of a subscription: a
 * closing connection would end the process by an unhandled rejection. Callers that await the promise still see it.
 */
function excuseRefusals(client: RedisClient): void {
  for (const command of ["subscribe", "unsubscribe", "ssubscribe", "sunsubscribe"] as const) {
    const run = Reflect.get(client, command) as (...args: unknown[]) => Promise<unknown>;
    Reflect.set(client, command, (...args: unknown[]) => {
      const answer = run.apply(client, args);
      answer.catch(noteUnanswered);
      return answer;
    });
  }
}

/**
 * Subscribes anew over each new connection, until Redis takes it: ioredis forgets what is refused once, as when the user
 * loses a right for a while. After a refusal the connection is renewed, so that everybody who listens to `ready` looks at
 * what was missed.
 */
function keepSubscribed(client: Redis): void {
  client.options.autoResubscribe = false;
  const renewals: (() => Promise<unknown>)[] = [];
  for (const kind of ["subscribe", "ssubscribe"] as const) {
    const end = kind === "subscribe" ? "unsubscribe" : "sunsubscribe";
    const [subscribe, unsubscribe] = [client[kind].bind(client), client[end].bind(client)];
    const kept = new Set<string>();
    // Whoever is refused at first hears so, and wants it no more.
    Reflect.set(client, kind, async (...channels: (string | string[])[]) => {
      const answer = await subscribe(...channels.flat());
      for (const channel of channels.flat()) kept.add(channel);
      return answer;
    });
    Reflect.set(client, end, (...channels: (string | string[])[]) => {
      const release = () => channels.flat().forEach((channel) => kept.delete(channel));
      release();
      const answer = unsubscribe(...channels.flat());
      // Again after the answer: a subscription that was still under way has been kept meanwhile.
      answer.then(release, release);
      return answer;
    });
    renewals.push(async () => kept.size > 0 && (await subscribe(...kept)));
  }
  let timer: NodeJS.Timeout | undefined;
  const renew = async (): Promise<void> => {
    const answers = await Promise.allSettled(renewals.map((begin) => begin()));
    if (client.status === "ready" && answers.some(({ status }) => status === "rejected"))
      timer = setTimeout(() => client.disconnect(true), RENEW_MS).unref();
  };
  client.on("ready", () => void renew());
  client.on("close", () => clearTimeout(timer));
}

/**
 * While an answer is pending, the commands of one turn of the event loop leave in one write: under load Redis reads
 * and answers many together, and a lone command does not wait (Nagle's rule).
 */
function gatherWrites(client: Redis): void {
  client.on("connect", () => {
    const { stream } = client;
    const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
    Reflect.set(stream, "write", (...args: unknown[]) => {
      if (stream.writableCorked === 0 && client.commandQueue.length > 0) {
        stream.cork();
        setImmediate(() => stream.uncork());
      }
      return write(...args);
    });
  });
}

type Script = (keys: string[], args: (string | number | Buffer)[]) => Promise<unknown>;

/**
 * A Lua script from files beside this one, put one after the other, run by its digest, and sent whole over each new
 * connection and to a Redis that has forgotten it. `bytes`: whether what it answers comes as Buffers, which costs less
 * than texts if it is only passed on. ioredis' own scripts would keep each reply alive: see below.
 */
export function defineScript(client: RedisClient, files: string | string[], bytes = false): Script {
  const lua = [files]
    .flat()
    .map((file) => readFileSync(new URL(file, import.meta.url), "utf8"))
    .join("\n");
  const digest = createHash("sha1").update(lua).digest("hex");
  const call = bytes ? "callBuffer" : "call";
  return async (keys, args) => {
    const run = (command: "eval" | "evalsha", script: string) =>
      client[call](command, [script, keys.length, ...keys, ...args]);
    if (isFirst(client, digest)) return run("eval", lua);
    try {
      return await run("evalsha", digest);
    } catch (error) {
      if (redisCode(error) !== "NOSCRIPT") throw error;
      return run("eval", lua);
    }
  };
}

/** By connection, the scripts that were sent whole over it. */
const sentWhole = new WeakMap<object, Set<string>>();

/**
 * Whether a script has not been sent over this connection: sent whole from the start, none of several calls at once is
 * refused and run after the later ones.
 */
function isFirst(client: RedisClient, digest: string): boolean {
  const connection = (client instanceof Cluster ? undefined : client.stream) ?? client;
  const sent = sentWhole.get(connection) ?? new Set();
  if (sent.has(digest)) return false;
  sentWhole.set(connection, sent.add(digest));
  return true;
}

/** A command of ioredis, with its private fields. */
type PrivateCommand = {
  name: string;
  callback?: unknown;
  errorStack?: unknown;
  transformed: boolean;
  isResolved: boolean;
  isSettled: boolean;
  promise: Promise<unknown>;
  resolve: (reply: unknown) => void;
  reject: (error: Error) => void;
  initPromise: () => void;
  stringifyArguments: () => void;
  _convertValue: (resolve: (reply: unknown) => void) => (reply: unknown) => void;
  _clearTimers: () => void;
};

/** Commands that may be given an object, which ioredis takes apart. */
const TAKE_OBJECTS = new Set(["hset", "hmset", "mset", "msetnx"]);

/**
 * Lets V8 free each reply as soon as nobody needs it. ioredis gives a command its `reject` as `this.reject = (error) => …`,
 * and V8 takes a function that is written where it becomes a property for one that stays: it stands among the old
 * objects from the start, and all that it refers to, the command with its reply, lives until the whole heap is
 * collected. docs/decisions.md has what that costs.
 */
function releaseReplies(): void {
  const prototype = Command.prototype as unknown as PrivateCommand;
  const { initPromise } = prototype;
  prototype.initPromise = function begin(this: PrivateCommand) {
    if (this.callback !== undefined || this.errorStack !== undefined || TAKE_OBJECTS.has(this.name)) {
      initPromise.call(this);
      return;
    }
    this.isResolved = false;
    this.isSettled = false;
    if (!this.transformed) this.stringifyArguments();
    this.transformed = true;
    this.promise = new Promise((resolve, reject) => {
      const refuse = (error: Error) => {
        this._clearTimers();
        this.isSettled = true;
        reject(error);
      };
      this.resolve = this._convertValue(resolve);
      this.reject = refuse;
    });
  };
}

releaseReplies();

function open(address: RedisAddress, purpose: Purpose, options: RedisOptions): RedisClient {
  const data = { ...options, ...dataOptions(address), ...("db" in address && { db: address.db }) };
  if (address.kind === "one") return new Redis({ ...data, ...address.nodes[0] });
  if (address.kind === "socket") return new Redis({ ...data, path: address.path });
  if (address.kind === "sentinel") {
    const { username, password, tls } = address.sentinel;
    return new Redis({
      ...data,
      sentinels: address.nodes,
      name: address.name,
      natMap: address.nat,
      enableTLSForSentinelMode: address.tls !== undefined,
      sentinelCommandTimeout: 2_000,
      ...(username && { sentinelUsername: username }),
      ...(password && { sentinelPassword: password }),
      ...(tls && { sentinelTLS: tlsOptions(tls) }),
    });
  }
  return new Cluster(address.nodes, {
    lazyConnect: true,
    enableOfflineQueue: options.enableOfflineQueue ?? true,
    // Without this, a sharded subscription that is sent to the wrong node ends the process.
    shardedSubscribers: purpose === "subscriptions",
    natMap: address.nat,
    redisOptions: data,
    // Certificates name hosts: TLS must compare the name before it is resolved to an address.
    ...(address.tls && { dnsLookup: (host, found) => found(null, host) }),
  });
}

/** Rejects if the promise takes longer. */
export async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** The nodes that hold data and take writes: all primaries of a cluster, or the one Redis. */
export function primariesOf(client: RedisClient): Redis[] {
  return client instanceof Cluster ? client.nodes("master") : [client];
}

/** Writes to a key; if that is of another type than `look` reads, which somebody else gave it, in its place. */
export async function overWrongType(
  redis: RedisClient,
  key: string,
  look: "HLEN" | "ZCARD",
  write: () => Promise<unknown>,
): Promise<void> {
  if ((await unlessWrongType(write(), null)) !== null) return;
  await defineScript(redis, "untype.lua")([key], [look]);
  await write();
}
