import { readFileSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { Redis, ReplyError, type RedisOptions } from "ioredis";
import type { Logger } from "pino";
import { reasonOf, redisCode, systemCode, wordsOf } from "../errors.ts";
import { show, type Node, type RedisAddress, type Tls } from "../redisUrl.ts";

/**
 * Checks what stands at REDIS_URL over short connections of its own, before anything relies on it: the client library
 * retries endlessly, and hides the answers of a Sentinel or of a Cluster's node.
 */

/** The timeout of one connection or answer. */
const ANSWER_MS = 5_000;
/** How long Redis may load its data, how often it is asked meanwhile, and how often the log says so. */
const LOADING = { waitMs: 15 * 60_000, askMs: 250, tellMs: 10_000 };
/** The timeout of a second attempt. */
const AGAIN_MS = 1_000;

/** Why Redis cannot be used, and the cure, for people. Never holds credentials. */
class RedisFault extends Error {}

type Place = Node | { path: string };
type DataAddress = RedisAddress & { kind: "one" | "socket" | "sentinel" };
type SentinelAddress = RedisAddress & { kind: "sentinel" };
type ClusterAddress = RedisAddress & { kind: "cluster" };

/** Resolves once the address can be used; throws a RedisFault. Waits while Redis is loading, and logs that. */
export async function reach(address: RedisAddress, log: Logger): Promise<void> {
  switch (address.kind) {
    case "socket":
      return lookAtData(address, { path: address.path }, log);
    case "one":
      return lookAtData(address, address.nodes[0], log);
    case "sentinel": {
      const primary = await firstAnswer(address.nodes, (node) => askSentinel(address, node));
      return throughNat(address, primary, `its Sentinel says that ${address.name} is`, (found) =>
        lookAtData(address, found, log),
      );
    }
    case "cluster": {
      const primaries = await firstAnswer(address.nodes, (node) => askCluster(address, node, log));
      for (const primary of primaries) {
        await throughNat(address, primary, "the Cluster says that a node is", (found) =>
          ask(found, dataOptions(address), async (redis) => void (await redis.ping())),
        );
      }
    }
  }
}

/** ioredis' options for the data nodes: credentials, TLS, address family. */
export function dataOptions(address: RedisAddress): RedisOptions {
  return {
    ...(address.username && { username: address.username }),
    ...(address.password && { password: address.password }),
    ...(address.tls && { tls: tlsOptions(address.tls) }),
    ...("family" in address && { family: address.family }),
  };
}

/** Reads the files; throws a RedisFault that names the option. */
export function tlsOptions({ servername, ...files }: Tls): ConnectionOptions {
  const read = Object.entries(files).map(([option, file]) => {
    try {
      return [option, readFileSync(file)];
    } catch (error) {
      throw new RedisFault(
        `the file of the option ${option} in REDIS_URL cannot be read: ${reasonOf(error)}`,
      );
    }
  });
  return { ...Object.fromEntries(read), ...(servername && { servername }) };
}

/** Why Redis cannot be used, in words that may be shown. */
export function faultOf(error: unknown): string {
  if (error instanceof RedisFault) return error.message;
  if (redisCode(error) === undefined) return knownFault(error) ?? describe(error, REFUSALS);
  return knownFault(error) ?? `Redis refuses: ${reasonOf(error)}`;
}

/** As `wordsOf`, where Redis may have failed while it was used: with the cure, and without the words of the library. */
export function wordsInUse(error: unknown): string {
  const fault = knownFault(error);
  return fault === undefined ? wordsOf(error) : `Redis cannot be used any more: ${fault}`;
}

/** What the library says of commands once their connection is gone. */
const LOST =
  /^(?:Stream isn't writeable|Connection is closed|Socket timeout|Reached the max retries|Cluster isn't ready|Cluster is disconnect|Node is disconnected)/;

/** Undefined for what may be no fault of Redis'. */
function knownFault(error: unknown): string | undefined {
  if (LOST.test(reasonOf(error))) return "the connection to Redis was lost, and its own log says why";
  const code = redisCode(error);
  return code !== undefined && (code in REFUSALS || code === "NOPERM")
    ? describe(error, REFUSALS)
    : undefined;
}

/** The first answer of several nodes; if none answers, throws the first one's fault. */
async function firstAnswer<T>(nodes: Node[], question: (node: Node) => Promise<T>): Promise<T> {
  let fault: unknown;
  for (const node of nodes) {
    try {
      return await question(node);
    } catch (error) {
      fault ??= nodes.length > 1 ? new RedisFault(`at ${show(node)} ${faultOf(error)}`) : error;
    }
  }
  throw fault;
}

async function throughNat(
  address: SentinelAddress | ClusterAddress,
  named: Node,
  says: string,
  look: (found: Node) => Promise<void>,
): Promise<void> {
  const mapped = address.nat[`${named.host}:${named.port}`];
  await look(mapped ?? named).catch((error: unknown) => {
    const cure = mapped
      ? `; nat in REDIS_URL says that it is found at ${show(mapped)}`
      : `; if that is an address of another network, say where it is found from here: REDIS_URL=...?nat=${show(named)}=host:port`;
    throw new RedisFault(`${says} at ${show(named)}, and there ${faultOf(error)}${cure}`);
  });
}

function askSentinel(address: SentinelAddress, node: Node): Promise<Node> {
  const { username, password, tls } = address.sentinel;
  const options = {
    ...(username && { username }),
    ...(password && { password }),
    ...(tls && { tls: tlsOptions(tls) }),
    family: address.family,
  };
  return ask(
    node,
    options,
    async (redis) => {
      const { mode } = await inform(redis);
      if (mode !== undefined && mode !== "sentinel")
        throw new RedisFault(
          `is a Redis and no Sentinel: begin REDIS_URL with ${mode === "cluster" ? "redis+cluster" : "redis"}://, ` +
            "or name the Sentinels, whose port is mostly 26379",
        );
      const found = await redis.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.name);
      if (!Array.isArray(found))
        throw new RedisFault(
          `the Sentinel knows no group called ${address.name}: ` +
            "end REDIS_URL with the name of `sentinel monitor`, as in redis+sentinel://host:26379/mymaster",
        );
      return { host: String(found[0]), port: Number(found[1]) };
    },
    SENTINEL_REFUSALS,
  );
}

/** The primaries that a node knows. */
function askCluster(address: ClusterAddress, node: Node, log: Logger): Promise<Node[]> {
  return ask(node, dataOptions(address), async (redis) => {
    const { mode } = await loaded(redis, node, log);
    if (mode === "sentinel") throw new RedisFault(NO_DATA);
    if (mode === "standalone")
      throw new RedisFault(
        "is one Redis and no Cluster: begin REDIS_URL with redis:// instead of redis+cluster://",
      );
    if (/^cluster_state:fail/m.test(await redis.cluster("INFO")))
      throw new RedisFault(
        "the Cluster is down: `redis-cli cluster info` and `cluster nodes` there say what is missing",
      );
    const slots = await redis.cluster("SLOTS");
    const primaries = slots.flatMap(([, , primary]) =>
      primary ? [{ host: primary[0], port: primary[1] }] : [],
    );
    if (primaries.some(({ host }) => !host))
      throw new RedisFault(
        "the Cluster's node does not know its own address: set `cluster-announce-ip` in redis.conf, or let another node meet it",
      );
    return [...new Map(primaries.map((primary) => [show(primary), primary])).values()];
  });
}

/** Checks one data node: is it a Redis, has it loaded, does it have the database? */
async function lookAtData(address: DataAddress, place: Place, log: Logger): Promise<void> {
  await ask(place, dataOptions(address), async (redis) => {
    const { mode } = await loaded(redis, place, log);
    if (mode === "sentinel") throw new RedisFault(NO_DATA);
    if (mode === "cluster") throw new RedisFault(REFUSALS["MOVED"]);
    if (address.db === 0) return;
    await redis.select(address.db).catch((error: unknown) => {
      if (redisCode(error) !== "ERR") throw error;
      throw new RedisFault(
        `there is no database ${address.db}: correct the number in REDIS_URL, or raise \`databases\` in redis.conf`,
      );
    });
  });
}

type Info = { mode?: string; loading: boolean; percent?: string };

/** The answer to INFO, or "" if the user may not ask. */
export async function infoOf(redis: Redis): Promise<string> {
  return redis.info().catch((error: unknown) => {
    if (redisCode(error) === "NOPERM") return "";
    throw error;
  });
}

/** A field of the answer to INFO, which a managed service may leave out. */
export function infoField(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:([^\\r\\n]*)`, "m").exec(info)?.[1];
}

/** What INFO says of the server's kind and of its loading; nothing if the user may not ask. */
async function inform(redis: Redis): Promise<Info> {
  const info = await infoOf(redis);
  const [mode, percent] = [infoField(info, "redis_mode"), infoField(info, "loading_loaded_perc")];
  return { ...(mode && { mode }), ...(percent && { percent }), loading: infoField(info, "loading") === "1" };
}

async function loaded(redis: Redis, place: Place, log: Logger): Promise<Info> {
  const began = performance.now();
  for (let tellAt = began; ;) {
    const info = await inform(redis);
    if (!info.loading) return info;
    const now = performance.now();
    if (now - began > LOADING.waitMs)
      throw new RedisFault(
        `has been loading what it keeps for ${LOADING.waitMs / 60_000} minutes: its own log says why`,
      );
    if (now >= tellAt) {
      tellAt = now + LOADING.tellMs;
      const redisAt = "path" in place ? place.path : show(place);
      log.warn({ redis: redisAt, percent: info.percent }, "redis is loading what it keeps: waiting for it");
    }
    await sleep(LOADING.askMs);
  }
}

/**
 * Opens one connection without retries for as long as `look` takes. Throws a RedisFault for any fault of the network
 * or of the other side.
 */
async function ask<T>(
  place: Place,
  options: RedisOptions,
  look: (redis: Redis) => Promise<T>,
  refusals: Record<string, string> = REFUSALS,
): Promise<T> {
  const redis = new Redis({
    ...options,
    ...place,
    lazyConnect: true,
    enableReadyCheck: false,
    disableClientInfo: true,
    connectionName: "hubbub-look",
    connectTimeout: ANSWER_MS,
    commandTimeout: ANSWER_MS,
    retryStrategy: null,
  });
  let first: unknown;
  redis.on("error", (error: unknown) => (first ??= error));
  try {
    await redis.connect();
    return await look(redis);
  } catch (error) {
    if (error instanceof RedisFault) throw error;
    const cause = first ?? error;
    throw (
      (await lookAgain(place, cause, options.tls !== undefined)) ?? new RedisFault(describe(cause, refusals))
    );
  } finally {
    redis.disconnect();
  }
}

const NO_DATA =
  "is a Sentinel: REDIS_URL=redis+sentinel://host:26379/name, with the name of `sentinel monitor`";
const TLS_CERTIFICATE =
  "set NODE_EXTRA_CA_CERTS=/path/ca.pem, or the option ca=/path/ca.pem in REDIS_URL, to the certificate of who signed it";

/** By the code of the system or of OpenSSL. */
const FAILURES: Record<string, string> = {
  ECONNREFUSED: "nothing listens: start Redis, or correct host and port in REDIS_URL",
  ECONNRESET:
    "the connection was cut at once: look at host, port and scheme in REDIS_URL, and at what stands between",
  EPIPE:
    "the connection was cut at once: look at host, port and scheme in REDIS_URL, and at what stands between",
  ENOTFOUND: "no host has this name: correct it in REDIS_URL",
  EAI_AGAIN: "no name server answers for this host name: correct it in REDIS_URL, or look at the network",
  ETIMEDOUT: "nothing answers: a firewall, or a wrong host in REDIS_URL",
  EHOSTUNREACH: "no way leads there: the network, or a wrong host in REDIS_URL",
  ENETUNREACH: "no way leads there: the network, or a wrong host in REDIS_URL",
  ENOENT: "there is no such socket: start Redis with `unixsocket`, or correct the path in REDIS_URL",
  EACCES: "this user may not open the socket: `unixsocketperm` in redis.conf, or a group that may",
  ENOTSOCK: "the file is no socket: correct the path in REDIS_URL",
  DEPTH_ZERO_SELF_SIGNED_CERT: `its certificate is signed by itself: ${TLS_CERTIFICATE}`,
  SELF_SIGNED_CERT_IN_CHAIN: `its certificate is signed by somebody unknown here: ${TLS_CERTIFICATE}`,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: `its certificate is signed by somebody unknown here: ${TLS_CERTIFICATE}`,
  UNABLE_TO_GET_ISSUER_CERT: `its certificate is signed by somebody unknown here: ${TLS_CERTIFICATE}`,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: `its certificate is signed by somebody unknown here: ${TLS_CERTIFICATE}`,
  CERT_HAS_EXPIRED: "its certificate has expired: renew it",
  CERT_NOT_YET_VALID: "its certificate is not valid yet: look at the clocks",
  ERR_TLS_CERT_ALTNAME_INVALID:
    "its certificate is for another name: use that name in REDIS_URL, or the option servername=name",
};

/** By the code at the beginning of Redis' answer. */
const REFUSALS = {
  NOAUTH: "Redis wants a password: REDIS_URL=redis://:password@host, or user:password@ with an ACL",
  WRONGPASS:
    "the user or the password in REDIS_URL is wrong; in them @ is written %40, / %2F, # %23 and % %25",
  DENIED:
    "Redis takes connections of its own machine only (protected mode): give it a password, and REDIS_URL too",
  MOVED: "is a Cluster's node: begin REDIS_URL with redis+cluster:// instead of redis://",
  LOADING: "Redis is loading what it keeps",
  MASTERDOWN: "it is a replica that has lost its primary: REDIS_URL must name the primary",
  MISCONF: "Redis cannot save to its disk, which may be full: make room there, or see what its own log says",
  CLUSTERDOWN: "the Cluster is down: `redis-cli cluster info` there says what is missing",
} satisfies Record<string, string>;

const SENTINEL_REFUSALS: Record<string, string> = {
  ...REFUSALS,
  NOAUTH: "the Sentinel wants a password of its own: the option sentinelPassword in REDIS_URL",
  WRONGPASS:
    "the Sentinel's own user or password is wrong: sentinelUsername and sentinelPassword in REDIS_URL",
};

function describe(error: unknown, refusals: Record<string, string>): string {
  const refusal = redisCode(error);
  if (refusal === "NOPERM") {
    const command = commandOf(error);
    return `the user in REDIS_URL may not run ${command ?? "a command"}: allow it with ACL SETUSER (SECURITY.md has the whole user)`;
  }
  if (refusal !== undefined && refusal in refusals) return `${refusals[refusal]} (${refusal})`;
  // Redis sends it instead of an answer, without a code of its own.
  if (refusal === "ERR" && reasonOf(error) === "ERR max number of clients reached")
    return "Redis has as many clients as it takes: raise `maxclients` in redis.conf, or stop some";
  const code = systemCode(error);
  if (code !== "") {
    const says = FAILURES[code];
    return says
      ? `${says} (${code})`
      : `the connection failed (${code}): look at host, port and scheme in REDIS_URL`;
  }
  return `something answers that is no Redis, or Redis does not answer (${reasonOf(error)}): look at host, port and scheme in REDIS_URL`;
}

/** The command that failed: ioredis adds it to its errors. */
export function commandOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("command" in error)) return undefined;
  const { command } = error as { command?: { name?: unknown } };
  return typeof command?.name === "string" ? command.name.toUpperCase() : undefined;
}

const CUT = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT", ""]);

/**
 * After a cut or a timeout: reads what the other side says unasked, as a Redis in protected mode does, and finds out
 * whether only one side speaks TLS. `spoken`: we do.
 */
async function lookAgain(place: Place, cause: unknown, spoken: boolean): Promise<RedisFault | undefined> {
  const code = systemCode(cause);
  if (redisCode(cause) !== undefined || !(CUT.has(code) || /SSL|PROTO/.test(code))) return undefined;
  const unasked = await firstWords(connectTcp(place), "");
  if (/^-[A-Z]+ /.test(unasked))
    return new RedisFault(describe(new ReplyError(unasked.slice(1).trim()), REFUSALS));
  if ("path" in place) return undefined;
  if (spoken) {
    const plain = /^[+-]/.test(await firstWords(connectTcp(place), "PING\r\n"));
    return plain
      ? new RedisFault(
          "it speaks no TLS: begin REDIS_URL with redis instead of rediss, or give the port that speaks TLS",
        )
      : undefined;
  }
  const secure = await firstWords(connectTls({ ...place, rejectUnauthorized: false }), undefined);
  return secure === SECURE
    ? new RedisFault("it speaks TLS only: begin REDIS_URL with rediss instead of redis")
    : undefined;
}

const SECURE = "secure";

/** The first bytes in answer to `saying`; SECURE after a TLS handshake, "" if nothing comes. */
function firstWords(socket: Socket, saying: string | undefined): Promise<string> {
  return new Promise((resolve) => {
    const done = (words: string) => {
      socket.destroy();
      resolve(words);
    };
    socket.setTimeout(AGAIN_MS, () => done(""));
    for (const event of ["error", "end", "close"]) socket.once(event, () => done(""));
    socket.once("secureConnect", () => done(SECURE));
    socket.once("data", (words: Buffer) => done(words.toString("latin1")));
    if (saying) socket.once("connect", () => socket.write(saying));
  });
}
