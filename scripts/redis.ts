import { execFile, spawnSync } from "node:child_process";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { givenIn } from "../server/src/config.ts";
import { systemCode } from "../server/src/errors.ts";
import { startChild, which, type Child } from "./child.ts";
import { dataDirOf, openDataFolder, type DataFolder } from "./dataFolder.ts";
import { fetchPackage, unpacked } from "./debian.ts";
import { root, stop } from "./prepare.mjs";

const NEEDED = "7.0";

/** A program that can be a Redis, and its origin: a file of this machine, or Docker's image. */
export type RedisProgram =
  { kind: "file"; command: string; env: NodeJS.ProcessEnv; version: string } | { kind: "docker" };

/**
 * A private Redis. `url` is its REDIS_URL, the same for the same options; `unread` are files in its folder that it did
 * not read.
 */
export type PrivateRedis = Child & { url: string; version: string; where: string; unread: string[] };

/** In the folder of a persistent Redis: how to connect. Holds a password, so only this user may read it. */
const ADDRESS = "address.json";

/**
 * The Redis that commands of this checkout work on: REDIS_URL, or else the one that `npm start` runs on DATA_DIR. If
 * there is neither, throws with exit code 69 and what to do, because any other Redis is somebody else's.
 */
export async function findOwnRedis(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const { REDIS_URL } = givenIn(env);
  if (REDIS_URL !== undefined) return REDIS_URL;
  const dataDir = dataDirOf(env);
  const found = readAddress(join(dataDir, "redis", ADDRESS));
  // After a kill another Redis may have the port.
  if (found && (await askServer(addressOf(found.url)))?.runId === found.runId) return found.url;
  const why = found
    ? `The Redis of \`npm start\` on ${dataDir} does not answer`
    : `REDIS_URL is not set, and \`npm start\` does not run on ${dataDir}`;
  throw stop(`${why}. Start it, or say which Redis: REDIS_URL=redis://127.0.0.1:6379`, 69);
}

/**
 * The same for a command that may run without `npm start`: then it starts a Redis on DATA_DIR until `close`, with
 * `mayBeNew` also in a folder without data.
 */
export async function useOwnRedis({ mayBeNew }: { mayBeNew: boolean }): Promise<{
  url: string;
  close: () => Promise<void>;
}> {
  const dir = join(dataDirOf(process.env), "redis");
  try {
    return { url: await findOwnRedis(), close: async () => {} };
  } catch (error) {
    if (!mayBeNew && !existsSync(dir)) throw error;
    const redis = await startRedis({ dir, persistent: true });
    return { url: redis.url, close: () => redis.stop(5_000) };
  }
}

function readAddress(file: string): { url: string; runId: string } | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as { url: string; runId: string };
  } catch {
    return undefined;
  }
}

/** Written completely or not at all, and removed with the Redis. */
function publishAddress(dir: string, { url, ended }: Omit<PrivateRedis, "unread">, runId: string): void {
  const file = join(dir, ADDRESS);
  rmSync(`${file}.part`, { force: true });
  writeFileSync(`${file}.part`, JSON.stringify({ url, runId }), { mode: 0o600 });
  renameSync(`${file}.part`, file);
  void withdraw();
  async function withdraw(): Promise<void> {
    await ended;
    if (readAddress(file)?.runId === runId) rmSync(file, { force: true });
  }
}

function addressOf(url: string): Address {
  if (url.startsWith("unix://")) return { path: decodeURIComponent(url.slice("unix://".length)) };
  const { hostname, port, password } = new URL(url);
  return { host: hostname, port: Number(port), password };
}

/**
 * The first usable Redis or Valkey, at least 7.0: $REDIS_SERVER_BIN (then no other), PATH, .cache, Debian's package
 * fetched without root, Docker. `say` gets one line before anything is fetched. If there is none, throws with exit
 * code 69 and a line that says what to do.
 */
export async function findRedis(say: (line: string) => void): Promise<RedisProgram> {
  const { REDIS_SERVER_BIN: chosen } = givenIn(process.env);
  if (chosen !== undefined) {
    const found = examine(chosen);
    if (!found) throw stop(`REDIS_SERVER_BIN=${chosen} does not run as a Redis.`, 69);
    if (!isNewEnough(found.version))
      throw stop(`REDIS_SERVER_BIN=${chosen} is ${tooOld(found.version)}.`, 69);
    return found;
  }
  const old: string[] = [];
  const usable = (found: FoundFile | undefined) => {
    if (found && !isNewEnough(found.version)) old.push(`${found.command} is ${tooOld(found.version)}. `);
    return found && isNewEnough(found.version) ? found : undefined;
  };
  // Debian's redis-tools has the whole server under another name, without the service of redis-server.
  for (const name of ["redis-server", "valkey-server", "redis-check-rdb"]) {
    const found = usable(examine(name));
    if (found) return found;
  }
  const cached = unpacked("redis-tools", "usr/bin/redis-check-rdb");
  const fromCache = cached && usable(examine(cached.command, cached.env));
  if (fromCache) return fromCache;
  const fetched = cached ? undefined : await fetchPackage("redis-tools", "usr/bin/redis-check-rdb", say);
  const fromDebian = fetched && usable(examine(fetched.command, fetched.env));
  if (fromDebian) return fromDebian;
  if (await dockerAnswers()) return { kind: "docker" };
  throw stop(
    `${old.join("")}Hubbub needs a Redis ${NEEDED} or newer and found none. Choose one: ` +
      "`sudo apt-get install redis-tools` (Debian, Ubuntu), `brew install valkey` (macOS), `docker compose up`, " +
      "or REDIS_URL=redis://host:6379 for one that runs elsewhere.",
    69,
  );
}

type StartOptions = {
  dir: string;
  persistent: boolean;
  program?: RedisProgram;
  port?: number;
  password?: string;
  args?: string[];
  /** Ends the attempt and its Redis. */
  signal?: AbortSignal;
  say?: (line: string) => void;
};

/**
 * Starts a private Redis in `dir` and resolves when it answers, however long it loads. It listens on a unix socket
 * there, which only this user can open; with `port`, or if the path is too long for a socket, on 127.0.0.1.
 * `persistent` keeps everything in an append-only file, and adopts a snapshot that is alone in the folder; otherwise
 * nothing is kept. `args` are further lines of a redis.conf. Throws with exit code 75 if another one uses the folder,
 * and also if the folder cannot be used or Redis would lose data in it.
 */
export async function startRedis(options: StartOptions): Promise<PrivateRedis> {
  const say = options.say ?? console.log;
  const dir = resolve(options.dir);
  const program = options.program ?? (await findRedis(say));
  const folder: DataFolder = openDataFolder(dir, options.persistent);
  if (folder.adopted) say(`Redis takes over ${folder.adopted.what}. The file stays as it is.`);
  try {
    const started =
      program.kind === "docker"
        ? await startInDocker(dir, options, say)
        : await startProgram(dir, program, options, say);
    const { runId, ...redis } = started;
    if (options.persistent && runId) publishAddress(dir, redis, runId);
    return { ...redis, unread: folder.unread };
  } catch (error) {
    folder.adopted?.undo();
    throw error;
  }
}

/** `runId` is Redis' own name for this process; unknown if `args` demand credentials that we lack. */
type Started = Omit<PrivateRedis, "unread"> & { runId: string | undefined };

async function startProgram(
  dir: string,
  program: FoundFile,
  options: StartOptions,
  say: (line: string) => void,
): Promise<Started> {
  const socket = join(dir, "redis.sock");
  const socketFits = Buffer.byteLength(socket) <= 107;
  const port = options.port ?? (socketFits ? 0 : await freePort());
  // Any user of this machine can connect to a port, but only we can open the socket.
  const password = options.password ?? (port && !options.port ? randomBytes(24).toString("hex") : "");
  const login = password ? `:${password}@` : "";
  const url = port
    ? `redis://${login}127.0.0.1:${port}`
    : `unix://${socket.split("/").map(encodeURIComponent).join("/")}`;
  const configuration = [
    `dir ${quote(dir)}`,
    "daemonize no",
    "bind 127.0.0.1",
    `port ${port}`,
    ...(port ? [] : [`unixsocket ${quote(socket)}`, "unixsocketperm 700"]),
    ...(password ? [`requirepass ${password}`] : []),
    `appendonly ${options.persistent ? "yes" : "no"}`,
    "appendfsync everysec",
    'save ""',
    "maxmemory-policy noeviction",
    ...(options.args ?? []),
  ].join("\n");

  const [flock, ...lockArgs] = lockOf(dir);
  const [command, args] = flock ? [flock, [...lockArgs, program.command, "-"]] : [program.command, ["-"]];
  // The configuration goes to standard input, because arguments, and so the password, are public.
  const child = startChild({
    command,
    args,
    env: program.env,
    input: configuration,
    onLine(line) {
      if (line.includes("Truncating the AOF"))
        say("The last write to the append-only file was cut off, by a crash or a full disk, and is dropped.");
    },
  });
  const address = port ? { host: "127.0.0.1", port } : { path: socket };
  const runId = await untilReady(child, { ...address, password, pid: child.pid }, dir, options.signal, say);
  return { ...child, url, version: program.version, where: port ? `127.0.0.1:${port}` : socket, runId };
}

const given = new Set<number>();

/**
 * A free port of 127.0.0.1 that was not given here before. It is below the range for outgoing connections, whose ports
 * may be taken by the time they are needed.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(false));
    server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
  });
}

type Address = ({ path: string } | { host: string; port: number }) & { password?: string; pid?: number };

type FoundFile = Extract<RedisProgram, { kind: "file" }>;

function examine(name: string, env = process.env): FoundFile | undefined {
  const file = which(name);
  if (!file) return undefined;
  const command = named(file);
  const asked = spawnSync(command, ["--version"], { env, encoding: "utf8", timeout: 5_000 });
  const version = /\bv=(\d+\.\d+\.\d+)/.exec(asked.stdout ?? "")?.[1];
  return version ? { kind: "file", command, env, version } : undefined;
}

/** The program's name decides what it does, so redis-check-rdb gets a link called redis-server. */
function named(file: string): string {
  if (!file.endsWith("redis-check-rdb")) return file;
  const folder = join(root, ".cache", "redis", createHash("sha256").update(file).digest("hex").slice(0, 8));
  mkdirSync(folder, { recursive: true });
  const link = join(folder, "redis-server");
  try {
    symlinkSync(file, link);
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw error;
  }
  return link;
}

function isNewEnough(version: string): boolean {
  return Number(version.split(".")[0]) >= Number(NEEDED.split(".")[0]);
}

function tooOld(version: string): string {
  return `Redis ${version}, and that is too old: Hubbub needs ${NEEDED} or newer`;
}

/** In redis.conf a quoted string knows backslash escapes. */
function quote(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/**
 * Two Redises on unix sockets would silently share one folder and ruin its append-only file. The kernel's lock ends
 * with the process, however that ends.
 */
function lockOf(dir: string): string[] {
  const version = spawnSync("flock", ["--version"], { encoding: "utf8" }).stdout ?? "";
  if (!version.includes("util-linux")) return [];
  return ["flock", "--nonblock", "--no-fork", "--conflict-exit-code", "75", join(dir, ".lock")];
}

async function untilReady(
  child: Child,
  address: Address,
  dir: string,
  signal: AbortSignal | undefined,
  say: (line: string) => void,
): Promise<string | undefined> {
  const began = Date.now();
  for (let told = false; !child.hasEnded();) {
    if (signal?.aborted) break;
    const answer = await askServer(address);
    if (answer) return answer.runId;
    if (!told && Date.now() - began > 2_000) {
      say("Redis is loading what it keeps.");
      told = true;
    }
    await sleep(10);
  }
  if (signal?.aborted) {
    await child.stop(2_000);
    throw stop("Stopped while Redis was starting.", 130);
  }
  const code = await child.ended;
  const isHeld =
    code === 75 || child.lastLines.some((line) => line.includes("is already in use by container"));
  if (isHeld) throw stop(`A Redis already keeps its data in ${dir}.`, 75);
  if (child.lastLines.some((line) => line.includes("handle RDB format version")))
    throw stop(
      `What is kept in ${dir} was written by a newer Redis than this one. Install that, or name its program with REDIS_SERVER_BIN.`,
      69,
    );
  throw stop(`Redis ended at once: ${child.lastLines.slice(-2).join(" / ") || `exit code ${code}`}`, 69);
}

/**
 * Asks the Redis there about itself. Undefined until it has loaded, and if it is another process than this pid, which
 * has the folder already. One that requires a log-in we do not have (`args` may say so) has loaded, and reveals nothing.
 */
function askServer({ password, pid, ...place }: Address): Promise<{ runId?: string } | undefined> {
  return new Promise((done) => {
    let heard = "";
    const socket = connect(place);
    socket.setTimeout(1_000, () => socket.destroy());
    socket.once("connect", () =>
      socket.write(`${password ? `AUTH ${password}\r\n` : ""}INFO server\r\nPING\r\n`),
    );
    socket.on("data", (data) => {
      heard += data.toString("latin1");
      const of = (name: string) => new RegExp(`^${name}:(\\w+)`, "m").exec(heard)?.[1];
      const [process, runId] = [of("process_id"), of("run_id")];
      if (/^-(NOAUTH|WRONGPASS)/m.test(heard)) done({});
      else if (/^\+PONG/m.test(heard))
        done(pid === undefined || process === String(pid) ? { ...(runId && { runId }) } : undefined);
      else if (!/^-LOADING/m.test(heard)) return;
      socket.destroy();
    });
    socket.once("error", () => socket.destroy());
    socket.once("close", () => done(undefined));
  });
}

async function dockerAnswers(): Promise<boolean> {
  if (!which("docker")) return false;
  return promisify(execFile)("docker", ["info", "--format", "{{.ServerVersion}}"], { timeout: 5_000 }).then(
    ({ stdout }) => stdout.trim() !== "",
    () => false,
  );
}

/** The container's name is made from the folder, so that Docker refuses a second one on the same folder. */
async function startInDocker(
  dir: string,
  options: StartOptions,
  say: (line: string) => void,
): Promise<Started> {
  const name = `hubbub-redis-${createHash("sha256").update(dir).digest("hex").slice(0, 12)}`;
  const port = options.port || (await freePort());
  say("Starting Redis in Docker (redis:8-alpine).");
  const child = startChild({
    command: "docker",
    args: [
      "run",
      "--rm",
      `--name=${name}`,
      `--publish=127.0.0.1:${port}:6379`,
      `--volume=${dir}:/data`,
      // The files must be ours and not the container's user's.
      ...(process.getuid && process.getgid ? [`--user=${process.getuid()}:${process.getgid()}`] : []),
      "redis:8-alpine",
      "redis-server",
      `--appendonly ${options.persistent ? "yes" : "no"}`,
      "--save",
      "",
      "--maxmemory-policy noeviction",
    ],
  });
  const runId = await untilReady(child, { host: "127.0.0.1", port }, dir, options.signal, say);
  return {
    ...child,
    url: `redis://127.0.0.1:${port}`,
    version: "8",
    where: `127.0.0.1:${port}, container ${name}`,
    runId,
  };
}
