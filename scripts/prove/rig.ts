import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis, type Cluster } from "ioredis";
import { REPLICA_OPTIONS, startChild, type Child } from "../child.ts";
import { startHaproxy } from "../haproxy.ts";
import { findRedis, freePort, startRedis, type PrivateRedis, type RedisProgram } from "../redis.ts";
import { startFaultProxy, type FaultProxy } from "./proxy.ts";

export type LogLine = { at: number; text: string };

/** One server process, and its own path to Redis. */
export type Replica = {
  name: string;
  port: number;
  /** Its SERVER_ID, new at each start. */
  serverId: () => string;
  pid: () => number;
  /** The proxy between it and Redis. Passes everything on unless told otherwise. */
  proxy: FaultProxy | undefined;
  /** Its log lines, with their performance.now(). */
  log: LogLine[];
  /** Resolves when it listens. `bundle` is the folder of another main.js, for this start and later ones. */
  start: (env?: Record<string, string>, bundle?: string) => Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill: () => Promise<void>;
  /** SIGTERM; resolves with the exit code, or null if a signal ended it. */
  terminate: () => Promise<number | null>;
  signal: (signal: "SIGSTOP" | "SIGCONT") => void;
  /** Whether it ended by itself. */
  crashed: () => boolean;
  /** One figure of /metrics; 0 if the replica does not answer. */
  metric: (name: string) => Promise<number>;
};

/** One Redis, always on the same port. */
export type RedisNode = {
  port: number;
  dir: string;
  start: (args?: string[]) => Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill: () => Promise<void>;
  pid: () => number;
};

export type Rig = {
  /** Where clients connect: the load balancer. */
  address: string;
  replicas: Replica[];
  redis: RedisNode;
  /** A direct connection to Redis, for final reads and for faults. */
  admin: Redis | Cluster;
  /** HAProxy. */
  loadBalancer: { kill: () => Promise<void>; start: () => Promise<void> };
  /** A folder that is removed with the rig. */
  dir: string;
  program: Extract<RedisProgram, { kind: "file" }>;
  close: () => Promise<void>;
};

export type RigOptions = {
  /** The folder of the server's main.js. */
  bundle: string;
  replicas: number;
  /** Whether there is a fault proxy between each replica and Redis. */
  proxied: boolean;
  env: Record<string, string>;
  redisArgs: string[];
  /** Further variables for single replicas, by index, given the rig's folder. */
  replicaEnv: (dir: string) => Record<string, string>[];
  /** Starts another Redis instead of the rig's single one. Answers its REDIS_URL, and where to read at the end. */
  backend?: (dir: string, program: Rig["program"]) => Promise<Backend>;
};

export type Backend = { url: string; redis: RedisNode; admin: Redis | Cluster; close: () => Promise<void> };

const METRICS_TOKEN = "the-metrics-of-the-proof";

/** What an early end would leave behind: folders, and replicas that are stopped (SIGSTOP) and so would not end. */
const left = { dirs: new Set<string>(), replicas: new Set<number>() };

/** Cleans up for an immediate end. The kernel signals all other programs when this process ends. */
export function abandonRigs(): void {
  for (const pid of left.replicas) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It is gone.
    }
  }
  for (const dir of left.dirs) rmSync(dir, { recursive: true, force: true });
}

/** Starts Redis, replicas and HAProxy as separate processes, and resolves when the chat answers. */
export async function startRig(options: RigOptions): Promise<Rig> {
  const dir = mkdtempSync(join(tmpdir(), "hubbub-prove-"));
  const found = await findRedis(() => {});
  if (found.kind !== "file") throw new Error("the proof needs a redis-server on this machine, not in Docker");
  const program = found;
  left.dirs.add(dir);
  const undo: (() => Promise<void> | void)[] = [
    () => {
      rmSync(dir, { recursive: true, force: true });
      left.dirs.delete(dir);
    },
  ];
  async function close(): Promise<void> {
    for (const step of undo.toReversed()) await step();
    undo.length = 0;
  }
  try {
    const backend = await (options.backend ?? startSingle(options.redisArgs))(dir, program);
    undo.push(() => backend.close());

    const replicas: Replica[] = [];
    const replicaEnv = options.replicaEnv(dir);
    for (let index = 0; index < options.replicas; index += 1) {
      const proxy = options.proxied ? await startFaultProxy(backend.redis.port) : undefined;
      if (proxy) undo.push(() => proxy.close());
      const replica = createReplica({
        name: "ABCDEFGH"[index] ?? String(index),
        port: await freePort(),
        bundle: options.bundle,
        proxy,
        env: {
          REDIS_URL: proxy ? `redis://127.0.0.1:${proxy.port}` : backend.url,
          ...options.env,
          ...replicaEnv[index],
        },
      });
      replicas.push(replica);
      undo.push(() => replica.kill());
    }
    await Promise.all(replicas.map((replica) => replica.start()));

    const port = await freePort();
    let haproxy: Child | undefined;
    const loadBalancer = {
      kill: () => killChild(haproxy),
      async start() {
        const ports = replicas.map((replica) => replica.port);
        haproxy = await startHaproxy({ host: "127.0.0.1", port, replicas: ports, dir, say: () => {} });
      },
    };
    await loadBalancer.start();
    undo.push(() => loadBalancer.kill());
    const { redis, admin } = backend;
    return { address: `http://127.0.0.1:${port}`, replicas, redis, admin, loadBalancer, dir, program, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function startSingle(args: string[]): NonNullable<RigOptions["backend"]> {
  return async (dir, program) => {
    const redis = await createRedisNode(join(dir, "redis"), program, args);
    await redis.start();
    const admin = openAdmin(redis.port);
    const close = async () => {
      admin.disconnect();
      await redis.kill();
    };
    return { url: `redis://127.0.0.1:${redis.port}`, redis, admin, close };
  };
}

/** A connection for the proof's own commands, which wait while Redis is away. */
export function openAdmin(port: number): Redis {
  const admin = new Redis(port, "127.0.0.1", {
    maxRetriesPerRequest: null,
    retryStrategy: () => 100,
    connectionName: "prove",
  });
  admin.on("error", () => {});
  return admin;
}

export async function createRedisNode(
  dir: string,
  program: Rig["program"],
  args: string[] = [],
): Promise<RedisNode> {
  const port = await freePort();
  mkdirSync(dir, { recursive: true });
  let running: PrivateRedis | undefined;
  return {
    port,
    dir,
    async start(more = []) {
      running = await startRedis({
        dir,
        persistent: true,
        program,
        port,
        password: "",
        args: [...args, ...more],
        say: () => {},
      });
    },
    async kill() {
      const child = running;
      running = undefined;
      await killChild(child);
    },
    pid: () => running?.pid ?? 0,
  };
}

async function killChild(child: Child | undefined): Promise<void> {
  if (!child || child.hasEnded()) return;
  try {
    process.kill(child.pid, "SIGCONT");
    process.kill(child.pid, "SIGKILL");
  } catch {
    // It has just ended by itself.
  }
  await child.ended;
}

function createReplica(options: {
  name: string;
  port: number;
  bundle: string;
  proxy: FaultProxy | undefined;
  env: Record<string, string>;
}): Replica {
  const { name, port, proxy } = options;
  let { bundle } = options;
  let child: Child | undefined;
  let starts = 0;
  let told = false;
  const log: LogLine[] = [];
  const serverId = () => `${name}${starts}`;
  return {
    name,
    port,
    proxy,
    log,
    serverId,
    pid: () => child?.pid ?? 0,
    async start(env = {}, other = bundle) {
      bundle = other;
      starts += 1;
      told = false;
      let listens: (() => void) | undefined;
      const listening = new Promise<true>((resolve) => (listens = () => resolve(true)));
      const started = startChild({
        command: process.execPath,
        args: [...REPLICA_OPTIONS, join(bundle, "main.js")],
        env: {
          PATH: process.env["PATH"],
          NODE_ENV: "production",
          SIGNUP: "open",
          PORT: String(port),
          HOST: "127.0.0.1",
          TRUST_PROXY: "1",
          RATE_LIMITS: "off",
          METRICS_TOKEN,
          BCRYPT_COST: "4",
          LOG_LEVEL: "info",
          SERVER_ID: serverId(),
          ...options.env,
          ...env,
        },
        onLine(text) {
          log.push({ at: performance.now(), text });
          if (text.startsWith("Hubbub listens on")) listens?.();
        },
      });
      child = started;
      left.replicas.add(started.pid);
      void started.ended.then(() => left.replicas.delete(started.pid));
      const up = await Promise.race([listening, started.ended]);
      if (up !== true)
        throw new Error(`replica ${name} did not start: ${started.lastLines.at(-1) ?? "no word"}`);
    },
    crashed: () => !told && (child?.hasEnded() ?? false),
    async kill() {
      told = !(child?.hasEnded() ?? false) || told;
      await killChild(child);
    },
    async terminate() {
      if (!child || child.hasEnded()) return null;
      told = true;
      process.kill(child.pid, "SIGTERM");
      return child.ended;
    },
    signal(signal) {
      if (child && !child.hasEnded()) process.kill(child.pid, signal);
    },
    async metric(figure) {
      try {
        const response = await fetch(`http://127.0.0.1:${port}/metrics`, {
          headers: { authorization: `Bearer ${METRICS_TOKEN}` },
          signal: AbortSignal.timeout(2_000),
        });
        const line = (await response.text()).split("\n").find((text) => text.startsWith(`${figure} `));
        return Number(line?.split(" ")[1] ?? 0);
      } catch {
        return 0;
      }
    },
  };
}
