import { execFileSync } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { pino } from "pino";
import { createKeys } from "../../server/src/keys.ts";
import { connectRedis, type RedisClient } from "../../server/src/redis.ts";
import { bundleServer } from "../build.ts";
import { startChild, which, type Child } from "../child.ts";
import { fetchPackage, unpacked, type Unpacked } from "../debian.ts";
import { root, stop } from "../prepare.mjs";
import { buildMutant, type Mutation } from "../prove/mutations.ts";
import { freePort, startRedis } from "../redis.ts";
import type { DialectName, MemberPlan } from "./dialects.ts";
import { CORE, pin, type Part } from "./system.ts";
import { TECHNIQUES, type TechniqueName } from "./techniques.ts";

/** Servers under test, each with its own empty Redis, all on one core. */

/** How many users there are, and which rooms each of them is in besides General. */
export type Town = { roomIds: string[]; members: { rooms: number[] }[] };

export type SystemUnderTest = {
  name: string;
  parts: Part[];
  host: string;
  /** One for each replica. */
  ports: number[];
  dialect: DialectName;
  /** Whether its clients offer to have messages compressed. */
  deflate: boolean;
  members: MemberPlan[];
  redis: RedisClient | null;
  /** Of its Redis. */
  url: string;
  stop: () => Promise<void>;
};

export type StartOptions = {
  town: Town;
  replicas?: number;
  env?: Record<string, string>;
  /** Arguments for Node. */
  nodeArgs?: string[];
  /** Hubbub with one of its techniques taken out. */
  without?: TechniqueName;
};

/**
 * What a system does with a message. 1: hands it out. 2: also stores it first. 3: also knows the sender by a session,
 * lets members alone write, acknowledges with the stored message, and tells everybody who came and went. Null: no chat.
 */
export type Tier = 1 | 2 | 3 | null;

export const SYSTEMS = {
  hubbub: (options: StartOptions) => startHubbub(options),
  "socket.io classic": (options: StartOptions) => startSocketIo("classic", 3, options),
  "socket.io classic tier 1": (options: StartOptions) => startSocketIo("classic", 1, options),
  "socket.io sharded": (options: StartOptions) => startSocketIo("sharded", 3, options),
  ws: (options: StartOptions) => startHub(1, options),
  "ws tier 2": (options: StartOptions) => startHub(2, options),
  "ws tier 3": (options: StartOptions) => startHub(3, options),
  bun: (options: StartOptions) => startBun(options),
  nchan: (options: StartOptions) => startNchan(options),
  prosody: (options: StartOptions) => startProsody(options),
  /** No chat: the least that the machine takes, in C. */
  "C send": (options: StartOptions) => startSend(options),
  /** No chat: the least that Node takes for the same writes. */
  "socket.write": (options: StartOptions) => startPeer("socket.write", "peers/sockets.ts", "plain", options),
  /** The same with many messages in a write: what the generator is calibrated against. */
  null: (options: StartOptions) => startPeer("null", "peers/sockets.ts", "plain", options),
  /** No chat: a page of messages by five commands in a row. */
  pages: (options: StartOptions) => startPeer("pages", "peers/pages.ts", "plain", options),
};
export type SystemName = keyof typeof SYSTEMS;

export const TIERS: Record<SystemName, Tier> = {
  hubbub: 3,
  "socket.io classic": 3,
  "socket.io classic tier 1": 1,
  "socket.io sharded": 3,
  ws: 1,
  "ws tier 2": 2,
  "ws tier 3": 3,
  bun: 1,
  nchan: 1,
  prosody: 1,
  "C send": null,
  "socket.write": null,
  null: null,
  pages: null,
};

const SECRET = "benchmark-benchmark-benchmark-benchmark";
export const METRICS_TOKEN = "benchmark-benchmark";
const cache = join(root, ".cache/bench");

async function startHubbub(options: StartOptions): Promise<SystemUnderTest> {
  const { without } = options;
  const { edits = null, env: changed = {} } = without ? TECHNIQUES[without] : {};
  const file =
    without && edits
      ? await bundleWithout(without, edits)
      : (process.env["BENCH_BUNDLE"] ?? (await buildHubbub()));
  return startWithRedis("hubbub", [process.execPath, file], options, ({ url }) => ({
    NODE_ENV: "production",
    PORT: "0",
    REDIS_URL: url,
    SESSION_SECRET: SECRET,
    RATE_LIMITS: "off",
    METRICS_TOKEN,
    // Without a technique it may break down, and would say so for each message.
    LOG_LEVEL: edits ? "error" : "warn",
    CLIENT_DIR: "",
    DRAIN: "0",
    BCRYPT_COST: "4",
    ...changed,
  }));
}

async function startPeer(
  name: string,
  source: string,
  dialect: DialectName,
  options: StartOptions,
  program = process.execPath,
): Promise<SystemUnderTest> {
  return startWithRedis(name, [program, await bundleScript(source)], options, peerEnvironment, dialect);
}

function peerEnvironment({ path }: { path: string }) {
  return { NODE_ENV: "production", REDIS_PATH: path, SESSION_SECRET: SECRET };
}

function startHub(tier: 1 | 2 | 3, options: StartOptions): Promise<SystemUnderTest> {
  const dialect = ({ 1: "plain", 2: "hubUnanswered", 3: "hub" } as const)[tier];
  const env = { TIER: String(tier), ...options.env };
  return startPeer("ws", "peers/hub.ts", dialect, { ...options, env });
}

/** The compiled program, or null where the machine has no C compiler; throws where it refuses the source. */
export function sendProgram(): string | null {
  const compiler = which("cc") ?? which("gcc");
  if (!compiler) return null;
  const file = join(cache, "peers/send");
  mkdirSync(join(cache, "peers"), { recursive: true });
  execFileSync(compiler, ["-O2", "-o", file, join(root, "scripts/bench/peers/send.c")]);
  return file;
}

async function startSend(options: StartOptions): Promise<SystemUnderTest> {
  const program = sendProgram();
  if (!program) throw stop("C send is absent: this machine has no C compiler (cc or gcc).", 69);
  return startWithRedis("C send", [program], options, peerEnvironment, "plain");
}

const NGINX = { package: "nginx-light", file: "usr/sbin/nginx" };
const NCHAN = { package: "libnginx-mod-nchan", file: "usr/lib/nginx/modules/ngx_nchan_module.so" };
const PROSODY = { package: "prosody", file: "usr/bin/prosody" };

const BUN_VERSION = "1.4.5";
const bunFolder = join(root, ".cache/bun");

/** Bun's program, or null where it was not fetched. */
function bunFile(): string | null {
  const file = join(bunFolder, "package/bin/bun");
  return existsSync(file) ? file : null;
}

/** The npm package with Bun's program for this machine: for a processor without AVX2 there is one of its own. */
function bunPackage(): string {
  if (process.arch !== "x64") return "@oven/bun-linux-aarch64";
  const hasAvx2 = /\bavx2\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
  return `@oven/bun-linux-x64${hasAvx2 ? "" : "-baseline"}`;
}

/** Unpacks the package, which npm has checked, aside and renames: a folder that is there is whole. */
function fetchBun(say: (line: string) => void): void {
  if (bunFile()) return;
  const name = `${bunPackage()}@${BUN_VERSION}`;
  say(`Fetching ${name} of the npm registry into .cache/bun (nothing is installed).`);
  mkdirSync(join(root, ".cache"), { recursive: true });
  const aside = mkdtempSync(`${bunFolder}.`);
  try {
    const packed = execFileSync("npm", ["pack", "--silent", name], {
      cwd: aside,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    execFileSync("tar", ["-xzf", packed.trim()], { cwd: aside });
    rmSync(join(aside, packed.trim()));
    renameSync(aside, bunFolder);
  } catch (error) {
    say(`It could not be fetched: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}

async function startBun(options: StartOptions): Promise<SystemUnderTest> {
  const program = bunFile();
  if (!program) throw stop("bun is absent: `npm run bench -- --peers` fetches it.", 69);
  return startPeer("bun", "peers/bun.ts", "plain", options, program);
}

/** What `npm run bench` compares with and does not bring. */
export const PEERS: readonly SystemName[] = ["bun", "nchan", "prosody"];

/** Those of them that were fetched. */
export function peersThere(): SystemName[] {
  const found: Partial<Record<SystemName, unknown>> = {
    bun: bunFile(),
    nchan: nchanFiles(),
    prosody: prosodyFile(),
  };
  return PEERS.filter((name) => found[name]);
}

/** Fetches them into .cache; `say` is told before each, and why one could not be fetched. */
export async function fetchPeers(say: (line: string) => void): Promise<void> {
  fetchBun(say);
  await fetchPackage(NGINX.package, NGINX.file, say);
  await fetchPackage(NCHAN.package, NCHAN.file, say);
  await fetchPackage(PROSODY.package, PROSODY.file, say);
  try {
    // nchan insists on it, whatever the configuration says.
    mkdirSync("/var/lib/nginx", { recursive: true });
  } catch {
    say("nchan needs a folder /var/lib/nginx, which this user cannot make.");
  }
}

/** nginx and its module, or null where they were not fetched. */
function nchanFiles(): { nginx: Unpacked; module: string } | null {
  const nginx = unpacked(NGINX.package, NGINX.file);
  const module = unpacked(NCHAN.package, NCHAN.file);
  return nginx && module ? { nginx, module: module.command } : null;
}

/** nginx with nchan, one worker, no Redis and nothing kept: a pure fan-out in C. */
async function startNchan({ town }: StartOptions): Promise<SystemUnderTest> {
  const found = nchanFiles();
  if (!found) throw stop("nchan is absent: `npm run bench -- --peers` fetches it.", 69);
  return startUnpacked("nchan", "plain", town, (dir, port) => {
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
    return { ...found.nginx, args: ["-p", dir, "-c", join(dir, "nginx.conf")] };
  });
}

/** prosody, or null where it was not fetched. */
function prosodyFile(): Unpacked | null {
  return unpacked(PROSODY.package, PROSODY.file) ?? null;
}

/**
 * prosody, an XMPP server in Lua, one process: people without a name in rooms without a history and without
 * announcements of who came. No Redis: one process is all there is of it.
 */
async function startProsody({ town }: StartOptions): Promise<SystemUnderTest> {
  const found = prosodyFile();
  if (!found) throw stop("prosody is absent: `npm run bench -- --peers` fetches it.", 69);
  return startUnpacked("prosody", "xmpp", town, (dir, port) => {
    const folder = join(found.command, "../../..");
    const lib = join(folder, "usr/lib");
    const triplet = readdirSync(lib).find((entry) => entry.includes("-linux-")) ?? "";
    // The program has Debian's places written into it.
    const program = readFileSync(found.command, "utf8")
      .replaceAll("/usr/lib/prosody", join(lib, "prosody"))
      .replace(/^CFG_CONFIGDIR=.*$/m, `CFG_CONFIGDIR='${dir}';`)
      .replace(/^CFG_DATADIR=.*$/m, `CFG_DATADIR='${dir}';`);
    writeFileSync(join(dir, "prosody"), program);
    mkdirSync(join(dir, "certs"));
    const configuration = `
      run_as_root = true; pidfile = "${dir}/pid"; data_path = "${dir}"
      modules_enabled = { "websocket", "c2s", "saslauth" }; modules_disabled = { "s2s", "offline" }
      interfaces = { "127.0.0.1" }; c2s_ports = {}; https_ports = {}
      http_interfaces = { "127.0.0.1" }; http_ports = { ${port} }; http_host = "localhost"
      consider_websocket_secure = true; c2s_require_encryption = false
      authentication = "anonymous"; storage = "memory"; log = { error = "*console" }
      network_backend = "epoll"; network_settings = { nodelay = true }; gc = { mode = "generational" }
      VirtualHost "localhost"
      Component "rooms.localhost" "muc"
        muc_room_locking = false; muc_room_default_history_length = 0
        muc_room_default_presence_broadcast = { visitor = false, participant = false, moderator = false }`;
    writeFileSync(join(dir, "prosody.cfg.lua"), configuration);
    const env = {
      ...found.env,
      LUA_PATH: `${folder}/usr/share/lua/5.4/?.lua;;`,
      LUA_CPATH: `${lib}/${triplet}/lua/5.4/?.so;;`,
    };
    const args = [join(dir, "prosody"), "-F", "--config", join(dir, "prosody.cfg.lua")];
    return { command: join(folder, "usr/bin/lua5.4"), args, env };
  });
}

/** A program of Debian's in a folder of its own, whose configuration `prepare` writes, and without a Redis. */
async function startUnpacked(
  name: string,
  dialect: DialectName,
  town: Town,
  prepare: (dir: string, port: number) => Unpacked & { args: string[] },
): Promise<SystemUnderTest> {
  const dir = mkdtempSync(join(tmpdir(), "hubbub-bench-"));
  const port = await freePort();
  const { command, args, env } = prepare(dir, port);
  const child = startChild({
    command: "taskset",
    args: ["-c", String(CORE.system), command, ...args],
    env,
    onLine: (line) => /\b(warn|error|alert|emerg)\b/.test(line) && process.stderr.write(`${line}\n`),
  });
  const end = async () => {
    await child.stop(2_000);
    rmSync(dir, { recursive: true, force: true });
  };
  for (let tries = 0; tries < 100 && !child.hasEnded() && !(await accepts(port)); tries += 1)
    await sleep(100);
  if (child.hasEnded() || !(await accepts(port))) {
    await end();
    throw stop(`${name} did not start: ${child.lastLines.join(" / ")}`, 1);
  }
  pin(child.pid, CORE.system);
  const members = town.members.map(({ rooms }) => ({ cookie: "", rooms }));
  const parts = [{ name: "replica", pid: child.pid }];
  return {
    name,
    parts,
    host: "127.0.0.1",
    ports: [port],
    dialect,
    deflate: false,
    members,
    redis: null,
    url: "",
    stop: end,
  };
}

/** Whether somebody listens on a port of this machine. */
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

async function startSocketIo(
  adapter: "classic" | "sharded",
  tier: 1 | 3,
  options: StartOptions,
): Promise<SystemUnderTest> {
  const env: Record<string, string> = { TIER: String(tier), ADAPTER: adapter, ...options.env };
  const dialect = tier === 3 ? "socketio" : "socketioUnanswered";
  const system = await startPeer(`socket.io ${adapter}`, "peers/socketio.ts", dialect, { ...options, env });
  return { ...system, deflate: env["DEFLATE"] === "on" };
}

async function startWithRedis(
  name: string,
  [program = "", ...programArgs]: string[],
  { town, replicas = 1, env = {}, nodeArgs = [] }: StartOptions,
  environment: (redis: { url: string; path: string }) => Record<string, string>,
  dialect: DialectName = "socketio",
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
    const variables = { ...environment({ url: server.url, path: server.where }), ...env };
    const parts: Part[] = [{ name: "redis", pid: server.pid }];
    const ports: number[] = [];
    for (let index = 0; index < replicas; index += 1) {
      const { child, port } = await startProgram(program, [...nodeArgs, ...programArgs], variables);
      running.push(child);
      ports.push(port);
      pin(child.pid, CORE.system);
      parts.push({ name: "replica", pid: child.pid });
    }
    return {
      name,
      parts,
      host: "127.0.0.1",
      ports,
      dialect,
      deflate: false,
      members,
      redis,
      url: server.url,
      stop: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** A process on the system's core; resolves with the port that it says it listens on. */
async function startProgram(
  program: string,
  given: string[],
  env: Record<string, string>,
): Promise<{ child: Child; port: number }> {
  let listens: (port: number) => void;
  const listening = new Promise<number>((resolve) => (listens = resolve));
  const { PATH = "", HOME = "" } = process.env;
  const child = startChild({
    command: "taskset",
    args: ["-c", String(CORE.system), program, ...given],
    env: { PATH, HOME, ...env },
    onLine(line, from) {
      const port = /listens on (?:http:\/\/[\d.]+:)?(\d+)/.exec(line)?.[1];
      if (from === "stdout" && port) listens(Number(port));
      else process.stderr.write(`${line}\n`);
    },
  });
  const port = await Promise.race([listening, child.ended.then(() => 0)]);
  if (port === 0)
    throw stop(`${[program, ...given].join(" ")} did not start: ${child.lastLines.join(" / ")}`, 1);
  return { child, port };
}

/** Users with sessions as the server itself writes them, and rooms with their members, straight into Redis. */
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
      const cookie = {
        originalMaxAge: 604_800_000,
        expires,
        secure: false,
        httpOnly: true,
        path: "/",
        sameSite: "lax",
      };
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

/** The replica as `npm run build` makes it, from the present sources, in a place of its own. */
async function buildHubbub(): Promise<string> {
  const folder = join(cache, "hubbub");
  rmSync(folder, { recursive: true, force: true });
  await bundleServer(join(root, "server/src"), folder);
  return join(folder, "main.js");
}

/** The replica with one technique taken out of its sources. */
async function bundleWithout(name: TechniqueName, edits: Mutation["edits"]): Promise<string> {
  const folder = join(cache, "without", name.replaceAll(/\W+/g, "-"));
  await buildMutant({ edits }, folder);
  return join(folder, "main.js");
}

export function bundleScript(name: string): Promise<string> {
  return bundle(join(root, "scripts/bench", name), join(cache, name.replace(/\.ts$/, ".js")));
}

async function bundle(entry: string, outfile: string): Promise<string> {
  mkdirSync(cache, { recursive: true });
  await build({
    entryPoints: [entry],
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
