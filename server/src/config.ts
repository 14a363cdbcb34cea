import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { supportedMimeTypes } from "file-type";
import { z } from "zod";
import { parseFilesUrl } from "./filesUrl.ts";
import { looksLikeKey } from "./keys.ts";
import { SIGN_UP_MODES } from "./protocol.ts";
import { parseRedisUrl } from "./redisUrl.ts";

/*
 * The only reader of the environment. Declares every variable with its default, its unit and its reason;
 * `.env.example` repeats them, docs/configuration.md is generated from them, and a test fails when either is stale.
 * Reports all faults at once.
 */

const flag = (fallback: "on" | "off") =>
  z
    .enum(["on", "off"])
    .default(fallback)
    .transform((value) => value === "on");
/** Digits alone: Number() also reads 0x10, 1e3 and a blank. */
const digits = (min: number, max: number) =>
  z
    .string()
    .refine(
      (text) => /^\d{1,16}$/.test(text) && Number(text) >= min && Number(text) <= max,
      `takes a whole number from ${min} to ${max}, in digits`,
    )
    .transform(Number);
const whole = (fallback: number, min: number, max: number) => digits(min, max).default(fallback);
const httpUrl = z
  .url({ protocol: /^https?$/, error: "takes addresses with http:// or https://, by comma" })
  .refine(
    (value) => !URL.canParse(value) || /^(?:[\w.-]+|\[[\da-f:.]+\])$/i.test(new URL(value).hostname),
    "takes whole names, without a star: https://chat.example.org",
  );
/** A folder's path as the system reads it: it knows neither ~ nor addresses, and would make folders of these names. */
const folder = z
  .string()
  .refine((path) => !path.startsWith("~"), "takes a path without ~, which only a shell knows: /home/me/files")
  .refine((path) => !/^[a-z][a-z\d+.-]+:/i.test(path), "takes a path, not an address: /srv/hubbub");
/** What the bytes of a file can be read as, with each kind as a whole. */
const FILE_TYPES = new Set(
  [...supportedMimeTypes, "text/plain", "application/octet-stream", "*/*"].flatMap((type) => {
    const [name = ""] = type.split(";", 1);
    return [name, name.replace(/\/.*/, "/*")];
  }),
);

/** Values by comma, without the blanks around them. Commas alone are a fault: whoever wrote them meant something. */
const list = z
  .string()
  .transform((text) => text.split(",").flatMap((one) => one.trim() || []))
  .refine((values) => values.length > 0, "has commas, and nothing between them: leave it empty, or name one");
const originsOf = (each: z.ZodType<string, string>) =>
  list.pipe(z.array(each.transform((value) => new URL(value).origin))).default([]);

export const SERVER_ID_MOST = 64;

const environment = z.object({
  /** `production` refuses a Redis without an append-only file, or one that evicts keys. */
  NODE_ENV: z.enum(["development", "production", "test"]).default("development"),
  /** TCP port; 0 takes a free one. */
  PORT: whole(3000, 0, 65_535),
  /** Address to listen on. Only this machine reaches the default. */
  HOST: z.string().default("127.0.0.1"),
  /**
   * One Redis (`redis://`, `rediss://`, `unix:///path`), a Sentinel group
   * (`redis+sentinel://host:26379,host:26379/name`) or a Cluster (`redis+cluster://host:6379,host:6379`);
   * docs/redis.md has the options.
   */
  REDIS_URL: z.string().default("redis://127.0.0.1:6379"),
  /**
   * Where uploaded files lie: a folder that all replicas share (`file:./data/files`, `file:///srv/hubbub`), or a bucket
   * of any store that speaks S3 (`s3://KEY:SECRET@host/bucket?region=us-east-1`; `tls=off` for plain HTTP).
   */
  FILES_URL: z
    .string()
    .default("file:./data/files")
    .transform((url, context) => {
      try {
        return parseFilesUrl(url);
      } catch (error) {
        context.addIssue({ code: "custom", message: error instanceof Error ? error.message : String(error) });
        return z.NEVER;
      }
    }),
  /**
   * Folder in which `hubbub-incoming` holds files on their way in. Empty: inside the folder of `FILES_URL`, or with S3 the
   * system's temporary folder.
   */
  FILES_SPOOL: folder.default(""),
  /** Bytes of one file, at most. */
  FILES_MAX: whole(100_000_000, 1, 1e12),
  /** Bytes of all files of a user, at most; 0 for any number. */
  FILES_USER_MAX: whole(10_000_000_000, 0, 1e15),
  /** Bytes of all files of the server, at most; 0 for any number. */
  FILES_TOTAL_MAX: whole(0, 0, 1e15),
  /** Media types of files, by comma, as read from their bytes: `image/*,application/pdf`; with a star alone any. */
  FILES_TYPES: list
    .pipe(
      z.array(
        z
          .string()
          .toLowerCase()
          .regex(/^(?:\*\/\*|[\w.+-]+\/(?:\*|[\w.+-]+))$/, "media types, by comma")
          .refine((type) => FILE_TYPES.has(type), {
            error: ({ input }) =>
              `no file is ever read as ${String(input)}: write image/jpeg for image/jpg, or a whole kind, image/*`,
          }),
      ),
    )
    .default(["*/*"]),
  /** Pixels of an image, at most, all frames together: a JPEG takes 7 bytes of memory each, an AVIF 22. */
  FILES_PIXELS: whole(50_000_000, 1, 1_000_000_000),
  /**
   * `on` keeps images as they were uploaded, with the place and time in them. Otherwise they are written anew, without
   * both.
   */
  FILES_ORIGINALS: flag("off"),
  /**
   * Goes before every key and channel, so that several installations can share one Redis. It may not begin as a key does
   * (`user:`, `staff:`).
   */
  KEY_PREFIX: z
    .string()
    .regex(/^[\w.:-]{0,64}$/, "letters, digits and _ . : - only")
    .refine(
      (prefix) => !looksLikeKey(prefix),
      "Hubbub's own keys begin like this: another word before the colon",
    )
    .default(""),
  /**
   * Names this process in announcements and leases; must be unique among the replicas. Empty: a new name at each
   * start.
   */
  SERVER_ID: z
    .string()
    .regex(/^[\w.:-]*$/, "letters, digits and _ . : - only")
    .max(SERVER_ID_MOST, `at most ${SERVER_ID_MOST} characters`)
    .default(""),
  /**
   * Signs the session cookie, at least 32 characters; several, by comma, rotate it. Empty: generated once, kept in
   * Redis.
   */
  SESSION_SECRET: list
    .refine((secrets) => secrets.every((one) => one.length >= 32), "at least 32 characters each")
    .default([]),
  /** Seconds without a request or an event after which a session ends. */
  SESSION_TTL: whole(7 * 24 * 3600, 60, 365 * 24 * 3600),
  /** `on` behind HTTPS: the cookie gets `Secure` and the `__Host-` name, and nobody can log in without HTTPS. */
  COOKIE_SECURE: flag("off"),
  /**
   * Who may sign up: with `open` anybody, with `invite` or `closed` only people with an invitation (with `closed` the
   * page does not mention that there are any). Admins may change it while the server runs. Empty: `open` if only this
   * machine reaches `HOST` and `NODE_ENV` is not `production`, else `invite`. The first person of an empty server may
   * always sign up, and owns it.
   */
  SIGNUP: z.enum(SIGN_UP_MODES).optional(),
  /**
   * Demo people, whose password everybody knows: `on` or `off`. Empty: only if just this machine reaches `HOST` and
   * `NODE_ENV` is not `production`.
   */
  DEMO: z.enum(["on", "off"]).optional(),
  /** How many proxies in front to trust with `X-Forwarded-*`. With Compose the default is 1: its HAProxy. */
  TRUST_PROXY: whole(0, 0, 8),
  /**
   * Where people reach the server, by comma: `https://chat.example.org`. The request's own Host is not trusted,
   * because a foreign name can be made to lead here. Empty: loopback names, IP addresses and the name in `HOST`.
   */
  PUBLIC_URL: originsOf(
    httpUrl.refine(
      (value) => /^https?:\/\/[^/?#]+\/?$/i.test(value),
      "takes no path: Hubbub needs a host name of its own, as https://chat.example.org",
    ),
  ),
  /**
   * Further origins, by comma, of pages at other names of the same site, `https://wiki.example.org`, which may open
   * Socket.IO connections and send changes as the server's own may. No page elsewhere can read the API's answers.
   */
  ORIGINS: originsOf(httpUrl),
  /** Redis replicas that must hold a message before it is acknowledged: 1 or more if Redis can fail over. */
  WAIT_REPLICAS: whole(0, 0, 10),
  /** Milliseconds to wait for them; then the answer is `unavailable`, and a retry finds out. */
  WAIT_MS: whole(500, 10, 1_500),
  /** `rooms`: one channel a room. `single`: everything on `MESSAGES`, as the Redis chat demos in other languages do. */
  RELAY_CHANNEL: z.enum(["rooms", "single"]).default("rooms"),
  /** `on` also allows long-polling, which needs a load balancer with sticky sessions by cookie, and `WORKERS=1`. */
  POLLING: flag("off"),
  /**
   * Milliseconds for which a busy room collects messages before writing them; a quiet room never waits, and one with
   * thousands of members waits longer.
   */
  BATCH_WINDOW: whole(42, 0, 1_000),
  /** Bytes a connection may leave unread before it is cut; it returns with its cursor. */
  SLOW_CONSUMER_BYTES: whole(1_048_576, 16_384, 1_073_741_824),
  /** bcrypt cost: 10 takes about 55 ms of one core, each step doubles it. */
  BCRYPT_COST: whole(10, 4, 16),
  /** `off` for benchmarks and tests only. */
  RATE_LIMITS: flag("on"),
  /** Milliseconds over which a stopping replica hands its connections over. */
  DRAIN: whole(2_000, 0, 40_000),
  /** Processes that share the port: `auto` starts one per core. */
  WORKERS: z
    .union([z.literal("auto"), digits(1, 128)], { error: "takes auto, or a whole number from 1 to 128" })
    .default(1)
    .transform((workers) => (workers === "auto" ? availableParallelism() : workers)),
  /** A port of its own for `/metrics`; 0 takes a free one. Empty: on `PORT`, and only with `METRICS_TOKEN`. */
  METRICS_PORT: digits(0, 65_535).optional(),
  /** Address for `METRICS_PORT`. */
  METRICS_HOST: z.string().default("127.0.0.1"),
  /** A reader of `/metrics` must send it as `Authorization: Bearer`; at least 16 characters. */
  METRICS_TOKEN: z
    .string()
    .regex(/^([\x21-\x7e]{16,})?$/, "at least 16 characters, no spaces")
    .default(""),
  /** pino's levels; logs go to stderr. They never hold message text, passwords, cookies or session ids. */
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
  /** Folder of the built client; `off` serves only the API. */
  CLIENT_DIR: folder.default("client/dist"),
});

export type Config = ReturnType<typeof readConfig>;

/**
 * What the environment says: without the blanks and line ends around a value, and without a variable that is blank, as in
 * a compose file that passes `${NAME:-}`, or that Kubernetes has set.
 */
export function givenIn(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value = ""]) => {
      const text = value.trim();
      return text === "" || (name === "METRICS_PORT" && isOfKubernetes(name, text)) ? [] : [[name, text]];
    }),
  );
}

/** Throws one Error that names every fault. */
export function readConfig(env: Readonly<Record<string, string | undefined>>) {
  const given = givenIn(env);
  const parsed = environment.safeParse(given);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    faults.push(...redisFault(given["REDIS_URL"]));
    throw new Error(`The environment is wrong. ${faults.join("; ")}`);
  }
  const read = parsed.data;
  if (read.METRICS_PORT !== undefined && read.METRICS_PORT > 0 && read.METRICS_PORT === read.PORT) {
    const hosts = [read.HOST, read.METRICS_HOST];
    if (read.HOST === read.METRICS_HOST || hosts.some((host) => host === "0.0.0.0" || host === "::"))
      throw new Error(
        `The environment is wrong. METRICS_PORT: ${read.PORT} is PORT already; give metrics another port, or leave it empty and set METRICS_TOKEN`,
      );
  }
  const isPrivate = read.NODE_ENV !== "production" && isLoopback(read.HOST);
  return {
    production: read.NODE_ENV === "production",
    port: read.PORT,
    host: read.HOST,
    redisUrl: read.REDIS_URL,
    files: {
      address: read.FILES_URL,
      spool: read.FILES_SPOOL,
      fileBytes: read.FILES_MAX,
      userBytes: read.FILES_USER_MAX,
      totalBytes: read.FILES_TOTAL_MAX,
      types: read.FILES_TYPES,
      pixels: read.FILES_PIXELS,
      originals: read.FILES_ORIGINALS,
    },
    keyPrefix: read.KEY_PREFIX,
    serverId: read.SERVER_ID || randomBytes(6).toString("base64url"),
    sessionSecrets: read.SESSION_SECRET,
    sessionTtlSeconds: read.SESSION_TTL,
    cookieSecure: read.COOKIE_SECURE,
    signUp: read.SIGNUP ?? (isPrivate ? ("open" as const) : ("invite" as const)),
    demo: read.DEMO === undefined ? isPrivate : read.DEMO === "on",
    trustProxy: read.TRUST_PROXY,
    publicOrigins: read.PUBLIC_URL,
    origins: read.ORIGINS,
    waitReplicas: read.WAIT_REPLICAS,
    waitMs: read.WAIT_MS,
    relayChannel: read.RELAY_CHANNEL,
    polling: read.POLLING,
    batchWindowMs: read.BATCH_WINDOW,
    slowConsumerBytes: read.SLOW_CONSUMER_BYTES,
    bcryptCost: read.BCRYPT_COST,
    rateLimits: read.RATE_LIMITS,
    drainMs: read.DRAIN,
    workers: read.WORKERS,
    metricsPort: read.METRICS_PORT,
    metricsHost: read.METRICS_HOST,
    metricsToken: read.METRICS_TOKEN,
    logLevel: read.LOG_LEVEL,
    clientDir: read.CLIENT_DIR === "off" ? undefined : read.CLIENT_DIR,
  };
}

/**
 * Whether Kubernetes puts this variable into every container beside a service: METRICS_PORT=tcp://10.0.0.1:80 beside one
 * called metrics.
 */
export function isOfKubernetes(name: string, value: string): boolean {
  return (
    /_(?:SERVICE_HOST$|SERVICE_PORT(?:_|$)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_|$))/.test(name) ||
    (name.endsWith("_PORT") && /^(?:tcp|udp|sctp):\/\//.test(value))
  );
}

/** The URL of a server on `host` and `port`, for people: http://127.0.0.1:3000 */
export function addressOf(host: string, port: number): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Why nothing can listen there, in one line for an operator; `prefix` goes before the names HOST and PORT. */
export function listenFault(error: unknown, host: string, port: number, prefix: "" | "METRICS_" = ""): Error {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  if (code === "EADDRINUSE")
    return new Error(`${prefix === "" ? "Port" : "METRICS_PORT"} ${port} on ${host} is taken`);
  if (["EADDRNOTAVAIL", "ENOTFOUND", "EAI_AGAIN"].includes(code))
    return new Error(
      `${prefix}HOST=${host} is no address of this machine: take one of its own, 127.0.0.1 or 0.0.0.0`,
    );
  if (code === "EACCES") return new Error(`${prefix}PORT=${port} is not for this user: take one above 1023`);
  return new Error(`Nothing can listen on ${host} port ${port}: ${code}`);
}

/** Whether only this machine reaches an address to listen on. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^(?:::ffff:)?127\./.test(host);
}

/** Faults of the URL alone; the attempt to connect reports all others. */
function redisFault(url: string | undefined): string[] {
  try {
    if (url !== undefined) parseRedisUrl(url);
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

/** The variables and their defaults as text, for the test that compares `.env.example` with this file. */
export const VARIABLES: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(environment.shape).map(([name, schema]) => {
    return [name, defaultOf(schema)];
  }),
);

function defaultOf(schema: z.ZodType): string {
  const { def } = schema as unknown as { def: { defaultValue?: string | number; in?: z.ZodType } };
  return def.in ? defaultOf(def.in) : String(def.defaultValue ?? "");
}
