import { createHmac, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve as absolute } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build as bundle } from "esbuild";
import { pino } from "pino";
import { createKeys } from "../../server/src/keys.ts";
import { connectRedis, type RedisClient } from "../../server/src/store/redis.ts";
import { FIRST_SCHEMA, raiseSchema } from "../../server/src/store/schema.ts";
import { REPLICA_OPTIONS, startChild, type Child } from "../child.ts";
import { fetchPackage, unpacked, type Unpacked } from "../debian.ts";
import { build, root, stop } from "../prepare.mjs";
import { freePort, startRedis } from "../redis.ts";
import type { DialectName, MemberPlan } from "./dialects.ts";
import { CORE, pin, type Part } from "../machine.ts";

/** The servers under test, all on one core. Each has its own empty Redis; nchan has none. */

/** The rooms, and for each user the indices of the rooms that they are in besides General. */
export type Town = { roomIds: string[]; members: { rooms: number[] }[] };

export type SystemUnderTest = {
  parts: Part[];
  host: string;
  /** One a replica. */
  ports: number[];
  dialect: DialectName;
  members: MemberPlan[];
  /** A client of the system's Redis. */
  redis: RedisClient | null;
  stop: () => Promise<void>;
};

export type StartOptions = {
  town: Town;
  replicas?: number;
  env?: Record<string, string> | undefined;
  /** Another checkout's folder: measure its built server. */
  checkout?: string | undefined;
};

/** What a run measures: a system of this checkout or of another, and the name that the tables use. */
export type Target = {
  system: SystemName;
  name: string;
  checkout?: string;
  /** The name of the target to compare it with. */
  beside?: string;
};

/**
 * All but nchan do the same job: they store a message, identify its sender by a session, let only members write,
 * acknowledge with the stored message, and tell everybody who came and went. nchan only passes messages on.
 */
export const SYSTEMS = {
  hubbub: startHubbub,
  "socket.io": (options: StartOptions) => startPeer("peers/socketio.ts", "socketio", options),
  ws: (options: StartOptions) => startPeer("peers/hub.ts", "hub", options),
  nchan: startNchan,
};
export type SystemName = keyof typeof SYSTEMS;

/** Two targets: another checkout's build as it stands, and this one's, compared with it. */
export function besideCheckout(checkout: string): Target[] {
  const folder = absolute(checkout);
  if (!existsSync(builtIn(folder)))
    throw stop(`There is no ${builtIn(folder)}: run \`npm run build\` there.`, 64);
  const name = `hubbub in ${checkout}`;
  return [
    { system: "hubbub", name, checkout: folder },
    { system: "hubbub", name: "hubbub", beside: name },
  ];
}

function builtIn(checkout: string): string {
  return join(checkout, "server/dist/main.js");
}

const SECRET = "benchmark-benchmark-benchmark-benchmark";
const cache = join(root, ".cache/bench");

let building: Promise<void> | undefined;

async function startHubbub(options: StartOptions): Promise<SystemUnderTest> {
  // Once for all runs: a server that was built before each of them looked a tenth slower.
  if (options.checkout === undefined) await (building ??= build());
  const environment = ({ url }: { url: string }) => ({
    REDIS_URL: url,
    SIGNUP: "open",
    RATE_LIMITS: "off",
    LOG_LEVEL: "warn",
    CLIENT_DIR: "",
    DRAIN: "0",
    BCRYPT_COST: "4",
  });
  return startWithRedis(builtIn(options.checkout ?? root), options, "socketio", environment, convert);
}

/**
 * Has a build convert the data to its schema, and ends the move there: it would go on for a minute, beside what is
 * measured. An older build refuses the newest schema, and keeps its own.
 */
async function convert(file: string, redis: RedisClient, env: Record<string, string>): Promise<void> {
  const startOnce = async () => (await startReplica(file, env)).child.stop(2_000);
  await startOnce();
  await raiseSchema(redis, createKeys(""));
  await startOnce().catch(() => redis.set(createKeys("").schema, FIRST_SCHEMA));
}

async function startPeer(
  source: string,
  dialect: DialectName,
  options: StartOptions,
): Promise<SystemUnderTest> {
  return startWithRedis(await bundleScript(source), options, dialect, ({ path }) => ({ REDIS_PATH: path }));
}

const NGINX = { package: "nginx-light", file: "usr/sbin/nginx" };
const NCHAN = { package: "libnginx-mod-nchan", file: "usr/lib/nginx/modules/ngx_nchan_module.so" };

/** Whether a system can run here; nchan needs `--peers` first. */
export function isHere(system: SystemName): boolean {
  return system !== "nchan" || nchanFiles() !== null;
}

/** Fetches nchan into .cache; reports what it fetches, and what fails, to `say`. */
export async function fetchPeers(say: (line: string) => void): Promise<void> {
  await fetchPackage(NGINX.package, NGINX.file, say);
  await fetchPackage(NCHAN.package, NCHAN.file, say);
  try {
    // nchan needs this folder, whatever the configuration says.
    mkdirSync("/var/lib/nginx", { recursive: true });
  } catch {
    say("nchan needs a folder /var/lib/nginx, which this user cannot make.");
  }
}

/** nginx and its module, or null if they were not fetched. */
function nchanFiles(): { nginx: Unpacked; module: string } | null {
  const nginx = unpacked(NGINX.package, NGINX.file);
  const module = unpacked(NCHAN.package, NCHAN.file);
  return nginx && module ? { nginx, module: module.command } : null;
}

/** nginx with nchan, one worker, without Redis or history: a pure fan-out in C. */
async function startNchan({ town }: StartOptions): Promise<SystemUnderTest> {
  const found = nchanFiles();
  if (!found) throw stop("nchan is absent: `npm run bench -- --peers` fetches it.", 69);
  const dir = mkdtempSync(join(tmpdir(), "hubbub-bench-"));
  const port = await freePort();
  const configuration = `
    load_module ${found.module};
    daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 20000;
    pid ${dir}/pid; error_log ${dir}/error.log;
    events { worker_connections 19000; }
    http {
      access_log off; nchan_max_reserved_memory 256M;
      client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/fastcgi;
      uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
      server {
        listen 127.0.0.1:${port} backlog=4096;
        location ~ ^/room/(.+)$ {
          nchan_pubsub websocket; nchan_channel_id $1;
          nchan_message_buffer_length 100; nchan_message_timeout 30s; nchan_subscriber_first_message newest;
        }
      }
    }`;
  writeFileSync(join(dir, "nginx.conf"), configuration);
  const args = ["-p", dir, "-c", join(dir, "nginx.conf")];
  const child = await startProgram([found.nginx.command, ...args], found.nginx.env, port).catch(
    (error: unknown) => {
      rmSync(dir, { recursive: true, force: true });
      throw error;
    },
  );
  return {
    parts: [{ name: "replica", pid: child.pid }],
    host: "127.0.0.1",
    ports: [port],
    dialect: "plain",
    members: town.members.map(({ rooms }) => ({ cookie: "", rooms })),
    redis: null,
    async stop() {
      await child.stop(2_000);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Whether a port of this machine accepts connections. */
function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

async function startWithRedis(
  program: string,
  { town, replicas = 1, env = {} }: StartOptions,
  dialect: DialectName,
  environment: (redis: { url: string; path: string }) => Record<string, string>,
  ready?: typeof convert,
): Promise<SystemUnderTest> {
  const dir = mkdtempSync(join(tmpdir(), "hubbub-bench-"));
  const running: Child[] = [];
  let redis: RedisClient | null = null;
  const end = async () => {
    redis?.disconnect();
    for (const child of running.toReversed()) await child.stop(2_000);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const server = await startRedis({ dir, persistent: true });
    running.push(server);
    pin(server.pid, CORE.system);
    redis = await connectRedis(server.url, "commands", pino({ level: "silent" }));
    const members = await populate(redis, town);
    const shared = { NODE_ENV: "production", SESSION_SECRET: SECRET };
    const variables = { ...shared, ...environment({ url: server.url, path: server.where }), ...env };
    await ready?.(program, redis, variables);
    const parts: Part[] = [{ name: "redis", pid: server.pid }];
    const ports: number[] = [];
    for (let index = 0; index < replicas; index += 1) {
      const { port, child } = await startReplica(program, variables);
      running.push(child);
      ports.push(port);
      parts.push({ name: "replica", pid: child.pid });
    }
    return { parts, host: "127.0.0.1", ports, dialect, members, redis, stop: end };
  } catch (error) {
    await end();
    throw error;
  }
}

async function startReplica(program: string, env: Record<string, string>) {
  const port = await freePort();
  const command = [process.execPath, ...REPLICA_OPTIONS, program];
  return { port, child: await startProgram(command, { ...env, PORT: String(port) }, port) };
}

/** Starts a process on the system's core; resolves once it accepts connections on its port. */
async function startProgram(command: string[], env: NodeJS.ProcessEnv, port: number): Promise<Child> {
  const { PATH = "", HOME = "" } = process.env;
  const child = startChild({
    command: "taskset",
    args: ["-c", String(CORE.system), ...command],
    env: { PATH, HOME, ...env },
    onLine: (line, from) => from === "stderr" && process.stderr.write(`${line}\n`),
  });
  while (!child.hasEnded() && !(await accepts(port))) await sleep(50);
  if (child.hasEnded()) throw stop(`${command.join(" ")} ended: ${child.lastLines.join(" / ")}`, 1);
  pin(child.pid, CORE.system);
  return child;
}

/**
 * Writes users with sessions, and rooms with their members, into Redis, in the oldest version's form: newer versions
 * convert it as they start, so any checkout can be measured.
 */
async function populate(redis: RedisClient, { roomIds, members }: Town): Promise<MemberPlan[]> {
  const keys = createKeys("");
  const plans: MemberPlan[] = [];
  const expires = new Date(Date.now() + 7 * 24 * 3600_000).toISOString();
  for (let start = 0; start < members.length; start += 500) {
    const pipeline = redis.pipeline();
    for (let index = start; index < Math.min(start + 500, members.length); index += 1) {
      const rooms = members[index]?.rooms ?? [];
      const id = String(index + 1);
      const username = `member${id.padStart(6, "0")}`;
      const sid = randomBytes(24).toString("base64url");
      pipeline.hset(keys.user(id), { username, password: "-", created: Date.now() });
      pipeline.set(keys.username(username), `user:${id}`);
      pipeline.sadd(keys.userRooms(id), "0", ...rooms.map((room) => roomIds[room] ?? ""));
      for (const room of rooms) {
        const roomId = roomIds[room] ?? "";
        if (/^[1-9]\d*$/.test(roomId)) pipeline.sadd(keys.members(roomId), id);
      }
      const flags = { secure: false, httpOnly: true, path: "/", sameSite: "lax" };
      const cookie = { originalMaxAge: 604_800_000, expires, ...flags };
      pipeline.set(keys.session(sid), JSON.stringify({ cookie, user: { id, username } }), "EX", 604_800);
      const signature = createHmac("sha256", SECRET).update(sid).digest("base64").replace(/=+$/, "");
      plans.push({ cookie: `hubbub=${encodeURIComponent(`s:${sid}.${signature}`)}`, rooms });
    }
    await pipeline.exec();
  }
  await redis.set(keys.totalUsers, members.length);
  const named = roomIds.filter((id) => /^[1-9]\d*$/.test(id));
  for (const id of named) {
    await redis.set(keys.roomName(id), `Room ${id}`);
    await redis.set(keys.roomByName(`Room ${id}`), `room:${id}`);
  }
  await redis.set(keys.totalRooms, Math.max(0, ...named.map(Number)));
  return plans;
}

/** Bundles one of this folder's programs into a file that Node runs. */
export async function bundleScript(name: string): Promise<string> {
  const outfile = join(cache, name.replace(/\.ts$/, ".js"));
  await bundle({
    entryPoints: [join(root, "scripts/bench", name)],
    outfile,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20.19",
    logLevel: "warning",
  });
  return outfile;
}
