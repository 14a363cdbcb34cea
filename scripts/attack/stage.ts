import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import bcrypt from "bcrypt";
import { Redis } from "ioredis";
import { createKeys, type Keys } from "../../server/src/keys.ts";
import { prefer, rss } from "../machine.ts";
import { bundleServer } from "../build.ts";
import { REPLICA_OPTIONS, startChild, type Child } from "../child.ts";
import { root } from "../prepare.mjs";
import { freePort, startRedis, type PrivateRedis } from "../redis.ts";
import { ask, cookieOf, type Caller } from "./wire.ts";

/** Two replicas, each a separate process configured as in production, on a Redis of their own. */
export type Stage = {
  left: Replica;
  right: Replica;
  redis: PrivateRedis;
  /** A direct connection to Redis. */
  admin: Redis;
  keys: Keys;
  /** Makes a person with an account, a session and an address of their own. */
  person: (name?: string) => Promise<Person>;
  /** An address that nobody else has. */
  address: () => string;
  /** Both replicas. */
  replicas: Replica[];
  close: () => Promise<void>;
};

export type Person = Caller & { id: string; username: string; cookie: string };

export type Replica = {
  name: string;
  port: number;
  pid: () => number;
  /** Its output, line by line. */
  log: string[];
  /** The unexpected errors that it logged since the last call. */
  errors: () => string[];
  hasEnded: () => boolean;
  /** Starts it again if it has ended. */
  revive: () => Promise<void>;
  /** Resident bytes. */
  memory: () => number;
  /** The bytes that it keeps after garbage collection, and the number of its TCP connections. */
  weigh: () => Promise<{ bytes: number; sockets: number }>;
  /** One figure of /metrics; 0 if it is missing. */
  metric: (name: string) => Promise<number>;
  /** The status of /readyz; 0 if it does not answer within 2 s. */
  ready: () => Promise<number>;
};

export const PASSWORD = "correct horse battery";
/** The cost of people's stored hashes: a log-in takes 1 ms. Sign-ups have production's cost. */
const HASH_COST = 4;
/** The folder of the server that the replicas run. */
export const BUNDLE = join(root, ".cache/attack/server");
const SCALE = pathToFileURL(join(root, "scripts/attack/scale.mjs")).href;
const METRICS_TOKEN = randomBytes(24).toString("hex");

let addresses = 0;

/** 127.1.0.1 and so on, so that no two callers share a limit. */
function nextAddress(): string {
  addresses += 1;
  return `127.${1 + Math.floor(addresses / 62_500)}.${Math.floor(addresses / 250) % 250}.${1 + (addresses % 250)}`;
}

export async function openStage(env: Record<string, string> = {}): Promise<Stage> {
  const dir = mkdtempSync(join(tmpdir(), "hubbub-attack-"));
  rmSync(BUNDLE, { recursive: true, force: true });
  mkdirSync(BUNDLE, { recursive: true });
  await bundleServer(join(root, "server/src"), BUNDLE);
  const redis = await startRedis({ dir, persistent: true, port: await freePort(), password: "" });
  const admin = new Redis(redis.url);
  admin.on("error", () => undefined);
  const client = join(root, "client/dist");
  const variables = {
    NODE_ENV: "production",
    SIGNUP: "open",
    HOST: "127.0.0.1",
    REDIS_URL: redis.url,
    RATE_LIMITS: "on",
    CLIENT_DIR: existsSync(client) ? client : "off",
    METRICS_TOKEN,
    FILES_URL: `file:${join(dir, "files")}`,
    FILES_MAX: "1000000000",
    ...env,
  };
  const replicas = await Promise.all(["left", "right"].map((name) => startReplica(name, variables)));
  // Neither other programs nor the generator, which stands for other machines, may slow the victims down.
  prefer(redis.pid);
  prefer(process.pid);
  const [left, right] = replicas;
  if (!left || !right) throw new Error("two replicas");
  const keys = createKeys(env["KEY_PREFIX"] ?? "");
  const hash = await bcrypt.hash(PASSWORD, HASH_COST);
  let people = 0;
  return {
    left,
    right,
    replicas,
    redis,
    admin,
    keys,
    address: nextAddress,
    async person(name = `person${(people += 1)}`) {
      const from = nextAddress();
      const id = String(await admin.incr(keys.totalUsers));
      await admin
        .multi()
        .hset(keys.user(id), { username: name, password: hash, created: Date.now() })
        .sadd(keys.userRooms(id), "0")
        .set(keys.username(name), `user:${id}`)
        .exec();
      const body = { username: name, password: PASSWORD };
      const answer = await ask(left.port, "/api/login", { from }, { method: "POST", body });
      const cookie = cookieOf(answer);
      if (!cookie) throw new Error(`log-in of ${name} answered ${answer.status}: ${answer.body}`);
      return { id, username: name, from, cookie };
    },
    async close() {
      await Promise.all(replicas.map((replica) => replica.stop()));
      admin.disconnect();
      await redis.stop(2_000);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

type Startable = Replica & { stop: () => Promise<void> };

async function startReplica(name: string, env: Record<string, string>): Promise<Startable> {
  const port = await freePort();
  const log: string[] = [];
  let child: Child;
  let asked = 0;
  async function start(): Promise<void> {
    let listens: (() => void) | undefined;
    const listening = new Promise<true>((resolve) => (listens = () => resolve(true)));
    child = startChild({
      command: process.execPath,
      args: [...REPLICA_OPTIONS, "--expose-gc", "--import", SCALE, join(BUNDLE, "main.js")],
      env: { PATH: process.env["PATH"], ...env, PORT: String(port) },
      onLine(line) {
        log.push(line);
        if (line.startsWith("Hubbub listens on")) listens?.();
      },
    });
    prefer(child.pid);
    const up = await Promise.race([listening, child.ended]);
    if (up !== true) throw new Error(`the ${name} replica did not start: ${child.lastLines.join("\n")}`);
  }
  await start();
  const here = { from: "127.0.0.1" };
  return {
    name,
    port,
    log,
    pid: () => child.pid,
    errors() {
      const lines = log
        .slice(asked)
        .filter((line) => /"level":[56]0\b|"event":"contained"/.test(line) || /^\s+at .*:\d+/.test(line));
      asked = log.length;
      return lines;
    },
    hasEnded: () => child.hasEnded(),
    async revive() {
      if (child.hasEnded()) await start();
    },
    memory: () => (child.hasEnded() ? 0 : rss(child.pid)),
    async weigh() {
      const from = log.length;
      const line = () => log.slice(from).find((one) => one.startsWith('{"scale":'));
      process.kill(child.pid, "SIGUSR2");
      await becomes(() => line() !== undefined, 10_000);
      const { scale } = JSON.parse(line() ?? "{}") as { scale?: { bytes: number; sockets: number } };
      if (!scale) throw new Error(`the ${name} replica was not weighed within 10 s`);
      return scale;
    },
    async metric(figure) {
      const headers = { authorization: `Bearer ${METRICS_TOKEN}` };
      const { body } = await ask(port, "/metrics", here, { headers, timeoutMs: 2_000 });
      const lines = body
        .split("\n")
        .filter((line) => line.startsWith(`${figure} `) || line.startsWith(`${figure}{`));
      return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
    },
    ready: async () => (await ask(port, "/readyz", here, { timeoutMs: 2_000 })).status,
    stop: () => child.stop(3_000),
  };
}

/** Waits until `look` answers true; false if it does not within `ms`. */
export async function becomes(look: () => boolean | Promise<boolean>, ms: number): Promise<boolean> {
  const deadline = performance.now() + ms;
  for (;;) {
    if (await look()) return true;
    if (performance.now() > deadline) return false;
    await sleep(20);
  }
}
