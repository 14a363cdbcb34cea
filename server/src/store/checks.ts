import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { VARIABLES, isLoopback, isOfKubernetes, type Config } from "../config.ts";
import { redisCode } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { parseRedisUrl } from "../redisUrl.ts";
import { primariesOf, type RedisClient } from "./redis.ts";
import { infoField, infoOf } from "./redisReach.ts";

/**
 * What a start checks, and `npm run doctor` too. `refuse` stops the start; `warn` is a problem that can wait; `note`
 * is information. `says` is a sentence without its full stop, `cure` is the remedy; neither may hold a value that
 * could be a secret.
 */
export type Finding = { level: "refuse" | "warn" | "note"; about: string; says: string; cure: string };

type Environment = Readonly<Record<string, string | undefined>>;

/** Throws one Error that lists every refusal; logs the rest. */
export function heed(findings: Finding[], log: Logger): void {
  for (const { level, about, says, cure } of findings) {
    if (level === "warn") log.warn({ about, cure }, says);
    else if (level === "note") log.debug({ about, cure }, says);
  }
  const refusals = findings.filter(({ level }) => level === "refuse");
  if (refusals.length > 0) throw new Error(refusals.map(sentenceOf).join("\n"));
}

/** One line for a person. */
export function sentenceOf({ says, cure }: Finding): string {
  return `${says}: ${cure}`;
}

/** Finds variables that nothing reads and variables that contradict each other. `config` was read from `env`. */
export function checkEnvironment(env: Environment, config: Config | undefined): Finding[] {
  const found = Object.keys(env).flatMap((name): Finding[] => {
    const value = env[name]?.trim() ?? "";
    const meant = value === "" || isOfKubernetes(name, value) ? undefined : nearMiss(name, env);
    if (meant === undefined) return [];
    return [
      {
        level: "warn",
        about: name,
        says: `nothing reads the variable ${name}`,
        cure:
          meant === ""
            ? "docs/configuration.md lists those that there are"
            : `did you mean ${meant}? docs/configuration.md lists them all`,
      },
    ];
  });
  return config ? [...found, ...checkConfig(config)] : found;
}

function checkConfig(config: Config): Finding[] {
  const found: Finding[] = [];
  const warn = (about: string, says: string, cure: string) =>
    found.push({ level: "warn", about, says, cure });
  const open = !isLoopback(config.host);
  if (open && !config.cookieSecure)
    warn(
      "HOST",
      `others than this machine reach HOST=${config.host}, and cookies go over plain HTTP`,
      "HTTPS in front and COOKIE_SECURE=on, unless only a proxy on a private network reaches it",
    );
  if (open && !config.production)
    warn(
      "NODE_ENV",
      `others than this machine reach HOST=${config.host}, and NODE_ENV is not production`,
      "NODE_ENV=production",
    );
  const plain = config.publicOrigins.find((origin) => origin.startsWith("http:"));
  if (plain !== undefined && config.cookieSecure)
    warn(
      "PUBLIC_URL",
      `PUBLIC_URL has ${plain}, and COOKIE_SECURE is on: nobody can log in there`,
      "https:// in PUBLIC_URL, or COOKIE_SECURE=off where there is no HTTPS",
    );
  const secure = config.publicOrigins.find((origin) => origin.startsWith("https:"));
  if (secure !== undefined && !config.cookieSecure)
    warn(
      "COOKIE_SECURE",
      `PUBLIC_URL has ${secure}, and COOKIE_SECURE is off: a browser may send the cookie over plain HTTP too`,
      "COOKIE_SECURE=on",
    );
  if (config.cookieSecure && config.trustProxy === 0)
    warn(
      "TRUST_PROXY",
      "COOKIE_SECURE is on and TRUST_PROXY is 0: nobody can log in, for HTTPS ends before this server and it may not believe so",
      "TRUST_PROXY=1, or as many proxies as there are",
    );
  if (config.polling && config.workers > 1)
    warn(
      "POLLING",
      `POLLING is on and WORKERS is ${config.workers}: nobody can connect by long-polling, for the workers share a port, and each request comes to another one`,
      "WORKERS=1, and as many replicas behind a load balancer with sticky sessions",
    );
  const { fileBytes, userBytes, totalBytes } = config.files;
  for (const [name, most] of [
    ["FILES_USER_MAX", userBytes],
    ["FILES_TOTAL_MAX", totalBytes],
  ] as const)
    if (most > 0 && most < fileBytes)
      warn(
        name,
        `${name}=${most} is less than FILES_MAX=${fileBytes}: nobody can upload a file as large as that`,
        `raise ${name}, or lower FILES_MAX`,
      );
  if (config.production && !config.rateLimits)
    warn(
      "RATE_LIMITS",
      "RATE_LIMITS is off in production: passwords can be guessed without end",
      "RATE_LIMITS=on",
    );
  if (config.production && config.bcryptCost < 10)
    warn(
      "BCRYPT_COST",
      `BCRYPT_COST=${config.bcryptCost} makes passwords quick to guess for whoever has a copy of Redis`,
      "BCRYPT_COST=10",
    );
  if (config.sessionSecrets.some((secret) => new Set(secret).size < 8))
    warn("SESSION_SECRET", "SESSION_SECRET is easily guessed", "openssl rand -base64 33");
  if (config.production && config.sessionSecrets.length === 0)
    found.push({
      level: "note",
      about: "SESSION_SECRET",
      says: "SESSION_SECRET is not set: the secret that signs cookies is kept in Redis, beside the sessions",
      cure: "set it from a secret store, 32 characters or more, if readers of Redis must not sign cookies",
    });
  const address = parsed(config.redisUrl);
  if (address !== undefined && address.kind !== "socket") {
    const away = address.nodes.some(({ host }) => !isLoopback(host));
    if (away && address.tls === undefined && address.nodes.some(({ host }) => isPublicName(host)))
      warn(
        "REDIS_URL",
        "Redis is on another network, and what goes there is not encrypted",
        "rediss:// in REDIS_URL, or a private network",
      );
    if (away && address.password === undefined)
      found.push({
        level: "note",
        about: "REDIS_URL",
        says: "REDIS_URL has no password: whoever reaches that Redis can do everything",
        cure: "a user of its own, as in SECURITY.md, unless nobody else is on that network",
      });
  }
  return found;
}

function parsed(url: string) {
  try {
    return parseRedisUrl(url);
  } catch {
    // The attempt to connect reports what is wrong with it.
    return undefined;
  }
}

/** A name with a dot, or an address outside the private networks. */
function isPublicName(host: string): boolean {
  if (
    /^(?:10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|f[cd]|fe80:)/i.test(host) ||
    isLoopback(host)
  )
    return false;
  return (
    host.includes(":") || (host.includes(".") && !/\.(?:internal|local|lan|svc|cluster\.local)$/.test(host))
  );
}

/** Variables of the start script, besides the server's own. */
const KNOWN = new Set([
  ...Object.keys(VARIABLES),
  "DATA_DIR",
  "REDIS_SERVER_BIN",
  "NODE_EXTRA_CA_CERTS",
  "NODE_OPTIONS",
]);
/** Prefixes that other programs' variables rarely have. */
const OURS = /^(?:HUBBUB|COOKIE|TRUST_PROX|RATE_LIMIT|BCRYPT|RELAY|BATCH|SLOW_CONSUMER|METRICS)_?/;
/** Parts of an address that other programs split into variables. */
const IN_ADDRESS = new Set([
  "REDIS_HOST",
  "REDIS_PORT",
  "REDIS_PASSWORD",
  "REDIS_USER",
  "REDIS_USERNAME",
  "REDIS_DB",
  "REDIS_TLS",
  "REDIS_SENTINELS",
  "REDIS_CLUSTER",
]);

/** The variable that was probably meant; "" if none is close; undefined if the name is not one of ours. */
function nearMiss(name: string, env: Environment): string | undefined {
  if (KNOWN.has(name)) return undefined;
  const upper = name.toUpperCase().trim();
  if (IN_ADDRESS.has(upper)) return env[name]?.includes("://") ? undefined : "REDIS_URL";
  const near = [...KNOWN]
    .map((known) => ({ known, steps: distance(upper, known) }))
    .filter(({ known, steps }) => steps <= (known.length > 6 ? 2 : 1))
    .toSorted((a, b) => a.steps - b.steps)[0];
  if (near) return env[near.known] === undefined || near.steps > 0 ? near.known : undefined;
  return OURS.test(upper) ? "" : undefined;
}

/** Damerau-Levenshtein distance: how many letters to add, drop, change or swap with their neighbour. */
function distance(left: string, right: string): number {
  const rows = [Array.from({ length: right.length + 1 }, (_, at) => at)];
  for (let row = 1; row <= left.length; row += 1) {
    const above = rows[row - 1] ?? [];
    const line = [row];
    for (let at = 1; at <= right.length; at += 1) {
      const same = left[row - 1] === right[at - 1];
      const ways = [(above[at] ?? 0) + 1, (line[at - 1] ?? 0) + 1, (above[at - 1] ?? 0) + (same ? 0 : 1)];
      if (left[row - 1] === right[at - 2] && left[row - 2] === right[at - 1])
        ways.push((rows[row - 2]?.[at - 2] ?? Infinity) + 1);
      line.push(Math.min(...ways));
    }
    rows.push(line);
  }
  return rows[left.length]?.[right.length] ?? Infinity;
}

/** Whether the page is where CLIENT_DIR says. */
export function checkClient({ clientDir }: Config): Finding[] {
  // The sources have an index.html too, and no assets.
  if (clientDir === undefined || ["index.html", "assets"].every((name) => existsSync(join(clientDir, name))))
    return [];
  return [
    {
      level: "warn",
      about: "CLIENT_DIR",
      says: `CLIENT_DIR=${clientDir} has no built page, an index.html beside assets: whoever opens it sees nothing`,
      cure: "the folder that `npm run build` makes, client/dist; or CLIENT_DIR=off, to serve only the API",
    },
  ];
}

/** Files that a replica should be able to open: one for each connection, and a fifth more for everything else. */
const FILES = { least: 4_096, each: 1.2 };
/** How many files are kept for Redis' connections, static files and everything else. */
const KEPT = { share: 1 / 6, least: 64, most: 1_024 };

/**
 * How many connections a replica may hold and still open files and reconnect to Redis. Beyond the system's own limit
 * the replica would not notice: libuv accepts such connections and closes them silently.
 */
export function connectionsMost(limits = readLimits()): number {
  const files = filesMost(limits);
  if (files === undefined) return Infinity;
  return Math.max(1, files - Math.min(Math.max(Math.floor(files * KEPT.share), KEPT.least), KEPT.most));
}

function filesMost(limits: string): number | undefined {
  const soft = /^Max open files +(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? undefined : Number(soft);
}

/** `limits` is the text of /proc/self/limits, if the system has it. */
export function checkProcess(limits = readLimits()): Finding[] {
  const files = filesMost(limits);
  if (files === undefined) return [];
  const people = Math.floor(files / FILES.each);
  const says = `${files} files may be open (ulimit -n), which is enough for about ${people} connections`;
  const cure = `ulimit -n 65536, LimitNOFILE= in systemd, ulimits in Compose: 1.2 for each connection, and no fewer than ${FILES.least}`;
  return [{ level: files < FILES.least ? "warn" : "note", about: "nofile", says, cure }];
}

function readLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    return "";
  }
}

/** Checks what Redis is, and whether it keeps its data and takes writes. Throws if Redis cannot be asked. */
export async function checkRedis(client: RedisClient, config: Config, keys: Keys): Promise<Finding[]> {
  const found = await checkState(client, config, keys);
  // Last of all: a refusal may renew the connection.
  found.push(...(await Promise.all(primariesOf(client).map(checkWrites))).flat());
  return unique(found);
}

/** The same without the writes. */
export async function checkState(client: RedisClient, config: Config, keys: Keys): Promise<Finding[]> {
  const nodes = primariesOf(client);
  const infos = await Promise.all(
    nodes.map(async (node) => ({ info: await infoOf(node), where: where(node.options) })),
  );
  const found = infos.flatMap(({ info, where: at }) =>
    checkInfo(info, nodes.length > 1 ? `Redis at ${at}` : "Redis", config),
  );
  const demo = await client.exists(keys.demo);
  if (demo > 0 && !config.demo)
    found.push({
      level: "warn",
      about: "demo data",
      says: "the demo people are in Redis, and everybody knows their password",
      cure: "npm run admin -- demo remove",
    });
  return unique(found);
}

/**
 * A script that declares that it may write, and does not: Redis refuses it with the code of a refused write, and
 * stores nothing.
 */
export const MAY_WRITE = "#!lua\nreturn 1";

const DISK_CURE = "its own log says why: a full disk, or rights";
/** Why Redis takes no writes, by its code, and what to do. */
const NO_WRITES: Record<string, [why: string, cure: string]> = {
  READONLY: ["it is a replica", "REDIS_URL must name the primary, or the group's Sentinels"],
  OOM: ["its memory is full", "raise `maxmemory`"],
  NOREPLICAS: ["too few of its replicas follow it", "start them, or lower `min-replicas-to-write`"],
  MISCONF: ["it cannot save to its disk", DISK_CURE],
};

async function checkWrites(node: Redis): Promise<Finding[]> {
  try {
    await node.eval(MAY_WRITE, 0);
    return [];
  } catch (error) {
    const code = redisCode(error);
    // What else is refused says nothing of writes: the user may not run scripts.
    if (code === undefined) throw error;
    const [why, cure] = NO_WRITES[code] ?? [];
    if (why === undefined || cure === undefined) return [];
    return [
      {
        level: "refuse",
        about: "writes",
        says: `Redis at ${where(node.options)} takes no writes (${code}): ${why}`,
        cure,
      },
    ];
  }
}

function where(options: { host?: string; port?: number; path?: string }): string {
  return options.path ?? `${options.host}:${options.port}`;
}

/** Drops repeated findings, as the nodes of a Cluster give. */
function unique(findings: Finding[]): Finding[] {
  return [...new Map(findings.map((finding) => [`${finding.about} ${finding.says}`, finding])).values()];
}

const GIB = 1024 ** 3;

/** `info` is the answer to INFO; fields that a managed service leaves out are not judged. */
export function checkInfo(
  info: string,
  name: string,
  config: Pick<Config, "production" | "waitReplicas" | "redisUrl">,
): Finding[] {
  const found: Finding[] = [];
  const say = (level: Finding["level"], about: string, says: string, cure: string) =>
    found.push({ level, about, says, cure });
  const field = (key: string) => infoField(info, key);
  const figure = (key: string) => Number(field(key) ?? Number.NaN);
  const bad = config.production ? "refuse" : "warn";

  const [major, minor] = (field("redis_version") ?? "").split(".");
  if (major && Number(major) < 7)
    say("refuse", "version", `${name} ${major}.${minor} is too old`, "Hubbub needs 7.0 or newer");
  const address = parsed(config.redisUrl);
  const db = address && "db" in address ? `, database ${address.db}` : "";
  const version = field("valkey_version")
    ? `Valkey ${field("valkey_version")}`
    : `version ${field("redis_version")}`;
  say(
    "note",
    "Redis",
    `${name} is ${version}${db}, at ${address?.shown ?? "REDIS_URL"}`,
    "REDIS_URL in docs/redis.md",
  );

  const policy = evictionOf(info);
  if (policy !== undefined)
    say(
      policy.startsWith("allkeys-") ? bad : "warn",
      "maxmemory-policy",
      evictionWords(policy),
      "set `maxmemory-policy noeviction` in redis.conf",
    );
  const [used, limit] = [figure("used_memory"), figure("maxmemory")];
  if (limit > 0 && used / limit > 0.8)
    say(
      "warn",
      "maxmemory",
      `${name} uses ${Math.round((used / limit) * 100)} % of its maxmemory, and then takes no more messages`,
      "raise `maxmemory`",
    );
  else if (limit === 0 && used >= 0)
    say(
      "note",
      "maxmemory",
      `${name} has no maxmemory, and uses ${(used / GIB).toFixed(2)} GiB`,
      "set `maxmemory` below what the machine has, so that Redis refuses writes before the system ends it",
    );

  if (field("aof_enabled") === "0")
    say(
      bad,
      "append-only file",
      config.production
        ? `This ${name} keeps nothing safely`
        : `${name} runs without an append-only file: a crash of Redis loses messages`,
      config.production
        ? "set `appendonly yes`, or do not run it in production"
        : "set `appendonly yes` in redis.conf",
    );
  if (
    field("aof_last_write_status") === "err" ||
    field("rdb_last_bgsave_status") === "err" ||
    field("aof_last_bgrewrite_status") === "err"
  )
    say("warn", "disk", `${name} could not write to its disk`, DISK_CURE);

  const replicas = figure("connected_slaves");
  if (replicas < config.waitReplicas)
    say(
      "warn",
      "WAIT_REPLICAS",
      `WAIT_REPLICAS is ${config.waitReplicas}, and ${name} has ${replicas} replicas: no message can be acknowledged`,
      "start the replicas, or lower WAIT_REPLICAS",
    );
  const [clients, most] = [figure("connected_clients"), figure("maxclients")];
  if (clients / most > 0.8)
    say(
      "warn",
      "maxclients",
      `${name} has ${clients} of ${most} clients`,
      "raise `maxclients` in redis.conf",
    );
  return found;
}

/** The policy by which Redis deletes keys when memory is full; undefined if it deletes none or does not say. */
function evictionOf(info: string): string | undefined {
  const policy = infoField(info, "maxmemory_policy");
  return policy === undefined || policy === "noeviction" ? undefined : policy;
}

function evictionWords(policy: string): string {
  return policy.startsWith("allkeys-")
    ? `Redis deletes accounts, rooms and messages by itself when its memory is full (maxmemory-policy ${policy})`
    : `Redis ends sessions and forgets sends by itself when its memory is full (maxmemory-policy ${policy})`;
}
