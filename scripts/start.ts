import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { pino } from "pino";
import { isUnused } from "../server/src/store/ids.ts";
import { checkRedis, heed } from "../server/src/store/checks.ts";
import { addressOf, givenIn, listenFault, readConfig, type Config } from "../server/src/config.ts";
import { createKeys } from "../server/src/keys.ts";
import { connectRedis, type RedisClient } from "../server/src/store/redis.ts";
import { systemCode } from "../server/src/errors.ts";
import { checkSchema } from "../server/src/store/schema.ts";
import { keep, REPLICA_OPTIONS, startChild, type Child, type Kept } from "./child.ts";
import { dataDirOf, dataFilesIn, filesUrlIn } from "./dataFolder.ts";
import { demoPeople } from "./demo.ts";
import { startHaproxy } from "./haproxy.ts";
import { orHelp, parts, root, stop } from "./prepare.mjs";
import { findRedis, freePort, startRedis } from "./redis.ts";

const HELP = `npm start [-- --replicas N]

Everything on one machine: a private Redis where REDIS_URL is not set, demo data in an empty database, one replica,
or N of them behind HAProxy. Ctrl-C ends all of it.

  PORT       3000         where it listens; 0 takes a free port
  HOST       127.0.0.1    nothing but this machine reaches the default
  DATA_DIR   ./data       what the private Redis keeps, and files
  REDIS_URL               use this Redis and start none

Every other variable goes to the replicas: see .env.example.`;

/** How long each program may take to end, 5 s in all: the replicas, then HAProxy, then Redis. */
const GRACE_MS = { replica: 3_000, haproxy: 300, redis: 1_200 };

/** npm repeats a signal that the terminal sent to the whole group: within this time it counts as the same one. */
const SAME_SIGNAL_MS = 500;

type Running = { redis?: Kept; haproxy?: Kept; replicas: Kept[] };

/** `npm start`. Resolves with the exit code once everything that it started has ended. */
export async function main(args: string[]): Promise<number> {
  const count = readArguments(args);
  if (count === "help") {
    console.log(HELP);
    return 0;
  }
  const config = readEnvironment();
  // Go on if the reader of our output leaves.
  process.stdout.on("error", () => {});

  const running: Running = { replicas: [] };
  const stopping = new AbortController();
  const stopped = new Promise<void>((done) => stopping.signal.addEventListener("abort", () => done()));
  let firstSignal = 0;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (firstSignal === 0) {
        firstSignal = Date.now();
        console.log("Stopping.");
        stopping.abort();
      } else if (Date.now() - firstSignal > SAME_SIGNAL_MS) {
        for (const part of [...running.replicas, ...(running.haproxy ? [running.haproxy] : [])])
          void part.stop(0);
      }
    });
  }
  try {
    await bringUp(config, count, running, stopping.signal);
    await stopped;
  } catch (error) {
    if (!stopping.signal.aborted) throw error;
  } finally {
    stopping.abort();
    await Promise.all(running.replicas.map((replica) => replica.stop(GRACE_MS.replica)));
    await running.haproxy?.stop(GRACE_MS.haproxy);
    await running.redis?.stop(GRACE_MS.redis);
  }
  return 0;
}

/** If this throws, `running` has everything that was started. */
async function bringUp(config: Config, count: number, running: Running, signal: AbortSignal): Promise<void> {
  const dataDir = dataDirOf(process.env);
  // A second `npm start` fails at both; the error about the data folder says more than the one about the port.
  const claimed = await claimPort(config).catch((error: unknown) => ({ error }));
  const given = givenIn(process.env);
  const { redisUrl, line, unread } = given["REDIS_URL"]
    ? { redisUrl: given["REDIS_URL"], unread: [] }
    : await startPrivateRedis(dataDir, running, signal);
  if (typeof claimed === "object") throw claimed.error;
  const port = claimed;
  if (line) console.log(line);
  const redis = await openRedis(
    { ...config, redisUrl },
    given["REDIS_URL"] ? " REDIS_URL is set, so none was started." : "",
  );
  try {
    const keys = createKeys(config.keyPrefix);
    const unused = await isUnused(redis, keys);
    const isHalfSeeded = (await redis.get(keys.demo).catch(() => null)) === "[]";
    for (const file of unread) console.log(`Nothing reads ${file}.`);
    if (unread.length > 0 && unused) {
      console.log(
        "Redis is empty, and somebody's data lies beside it: no demo data is put in. To use a dump.rdb: stop, " +
          `move ${join(dataDir, "redis/appendonlydir")} away, put dump.rdb beside it, and start again.`,
      );
    }
    await checkSchema(redis, keys).catch((error: Error) => {
      throw stop(error.message, 69);
    });
    if (config.demo && (isHalfSeeded || (unused && unread.length === 0)))
      await putDemoDataIn(redisUrl, signal);
    else if (unused && !config.demo)
      console.log("Nobody has an account yet. The first to sign up owns the server.");

    const env = {
      DRAIN: "1500",
      LOG_LEVEL: "warn",
      FILES_URL: filesUrlIn(dataDir),
      ...given,
      REDIS_URL: redisUrl,
      // By where HAProxy listens, not the replicas behind it.
      SIGNUP: config.signUp,
      DEMO: config.demo ? "on" : "off",
    };
    if (count === 1) {
      const [address] = await startReplicas([port], env, running, signal);
      console.log(`Hubbub listens on ${address}`);
    } else {
      const ports = await Promise.all(Array.from({ length: count }, freePort));
      await startReplicas(
        ports,
        { ...env, HOST: "127.0.0.1", TRUST_PROXY: String(config.trustProxy + 1) },
        running,
        signal,
      );
      mkdirSync(dataDir, { recursive: true });
      const launch = () =>
        startHaproxy({ host: config.host, port, replicas: ports, dir: dataDir, signal, say: console.log });
      running.haproxy = keep("HAProxy", await launch(), launch, signal, console.error);
      console.log(`Hubbub listens on ${addressOf(config.host, port)} (${count} replicas behind HAProxy)`);
    }
    const people = config.demo ? demoPeople(await redis.get(keys.demo).catch(() => null)) : [];
    const passwords = [...new Set(people.map(({ password }) => password))].join(" or ");
    if (people.length > 0) {
      console.log(`Log in as ${people.map(({ username }) => username).join(", ")}; password ${passwords}`);
    }
    if (Number(process.versions.node.split(".")[0]) < 22) {
      console.log(
        `Node ${process.versions.node} works, but gets no security fixes any more: take Node 24 from https://nodejs.org/`,
      );
    }
  } finally {
    redis.disconnect();
  }
}

/** The number of replicas. */
function readArguments(args: string[]): number | "help" {
  const options = { replicas: { type: "string" }, help: { type: "boolean", short: "h" } } as const;
  const { values } = orHelp(HELP, () => parseArgs({ args, options }));
  if (values.help) return "help";
  const count = Number(values.replicas ?? 1);
  if (!Number.isInteger(count) || count < 1 || count > 20)
    throw stop("--replicas takes a number from 1 to 20.", 64);
  return count;
}

function readEnvironment(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    throw stop(error instanceof Error ? error.message : String(error), 78);
  }
}

/** A Redis' REDIS_URL, and a line about it for the terminal. */
async function startPrivateRedis(
  dataDir: string,
  running: Running,
  signal: AbortSignal,
): Promise<{ redisUrl: string; line: string; unread: string[] }> {
  const program = await findRedis(console.log);
  const options = { dir: join(dataDir, "redis"), persistent: true, program, signal };
  const redis = await startRedis(options).catch((error: unknown) => {
    if (!(error instanceof Error && "exitCode" in error && error.exitCode === 75)) throw error;
    throw stop(
      `Hubbub already runs on this data folder: ${dataDir}. Stop it, or choose another with DATA_DIR.`,
      75,
    );
  });
  const { port, password } = redis.url.startsWith("redis://") ? new URL(redis.url) : {};
  const samePlace = port ? { port: Number(port), password: password ?? "" } : {};
  running.redis = keep("Redis", redis, () => startRedis({ ...options, ...samePlace }), signal, console.error);
  return {
    redisUrl: redis.url,
    unread: [...redis.unread, ...dataFilesIn(dataDir)],
    line:
      `Started a private Redis ${redis.version} (process ${redis.pid}) on ${redis.where}. ` +
      `It keeps everything in ${options.dir}; a crash of this machine loses at most the last second.`,
  };
}

async function openRedis(config: Config, hint: string): Promise<RedisClient> {
  const log = pino({ level: "silent" });
  let client: RedisClient | undefined;
  try {
    client = await connectRedis(config.redisUrl, "commands", log);
    // The replicas warn about it.
    heed(await checkRedis(client, config, createKeys(config.keyPrefix)), log);
    return client;
  } catch (error) {
    client?.disconnect();
    throw stop(`${error instanceof Error ? error.message : String(error)}.${hint}`, 69);
  }
}

/** Checks that the port is free before anything uses it; 0 becomes a free one. */
async function claimPort({ host, port }: Config): Promise<number> {
  const server = createServer();
  try {
    await new Promise<void>((done, failed) => {
      server.once("error", failed);
      server.listen(port, host, done);
    });
    const address = server.address();
    return typeof address === "object" && address ? address.port : port;
  } catch (error) {
    const { message } = listenFault(error, host, port);
    const isTaken = systemCode(error) === "EADDRINUSE";
    const other = isTaken ? `. Stop what uses it, or choose another: PORT=${port + 1} npm start` : ".";
    throw stop(`${message}${other}`, 69);
  } finally {
    await new Promise((done) => server.close(done));
  }
}

/** Seeds in a process of its own, whose memory ends with it. The chat also works without demo data. */
async function putDemoDataIn(redisUrl: string, signal: AbortSignal): Promise<void> {
  const child = startChild({
    command: process.execPath,
    args: [join(root, "scripts/run.mjs"), "seed"],
    env: { ...process.env, REDIS_URL: redisUrl },
    // Its last line is printed elsewhere.
    onLine: (line, from) => void (from === "stderr" && console.error(line)),
  });
  const end = () => void child.stop(1_000);
  signal.addEventListener("abort", end);
  const code = await child.ended;
  signal.removeEventListener("abort", end);
  signal.throwIfAborted();
  if (code !== 0) console.error("The demo data is not complete. `npm run seed` puts it in.");
}

/** Starts one replica on each port; resolves with their addresses once all listen. */
async function startReplicas(
  ports: number[],
  env: NodeJS.ProcessEnv,
  running: Running,
  signal: AbortSignal,
): Promise<string[]> {
  const started = await Promise.allSettled(
    ports.map(async (port, index) => {
      // SERVER_ID names one replica, and must not name several.
      const SERVER_ID =
        env["SERVER_ID"] && ports.length > 1 ? `${env["SERVER_ID"]}-${index + 1}` : env["SERVER_ID"];
      const own = {
        SERVER_ID: SERVER_ID ?? "",
        PORT: String(port),
        ...metricsPort(env["METRICS_PORT"], index),
      };
      const launch = () => startReplica({ ...env, ...own }, signal);
      const { child, address } = await launch();
      const name = ports.length === 1 ? "The replica" : `Replica ${index + 1} on port ${port}`;
      const again = async () => (await launch()).child;
      running.replicas.push(keep(name, child, again, signal, console.error));
      return address;
    }),
  );
  return started.map((each) => {
    if (each.status === "rejected") throw each.reason;
    return each.value;
  });
}

/** One port after another. */
function metricsPort(first: string | undefined, index: number): { METRICS_PORT?: string } {
  return first === undefined || first === "0" ? {} : { METRICS_PORT: String(Number(first) + index) };
}

/** Resolves with the address once the replica says that it listens; passes on its other output. */
async function startReplica(
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<{ child: Child; address: string }> {
  signal.throwIfAborted();
  let listens: (address: string) => void;
  const listening = new Promise<string>((done) => (listens = done));
  const child = startChild({
    command: process.execPath,
    args: [...REPLICA_OPTIONS, join(root, parts.server.made)],
    env,
    onLine(line, from) {
      const address = /listens on (http\S+)/.exec(line)?.[1];
      if (address) listens(address);
      else if (from === "stdout") console.log(line);
      else console.error(line);
    },
  });
  const end = () => void child.stop(GRACE_MS.replica);
  signal.addEventListener("abort", end);
  const address = await Promise.race([listening, child.ended]);
  signal.removeEventListener("abort", end);
  if (typeof address === "string" && !signal.aborted) return { child, address };
  await child.stop(GRACE_MS.replica);
  signal.throwIfAborted();
  throw stop(`The replica ended before it listened: ${child.lastLines.at(-1) ?? `exit code ${address}`}`, 69);
}
