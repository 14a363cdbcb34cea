import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { RedisStore } from "connect-redis";
import { parse } from "cookie";
import { unsign } from "cookie-signature";
import type { Request, RequestHandler } from "express";
import session, { type SessionData } from "express-session";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { reasonOf } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { User } from "../protocol.ts";
import type { RedisClient } from "../redis.ts";

declare module "express-session" {
  // The only way to add a field to this library's type.
  // oxlint-disable-next-line typescript/consistent-type-definitions
  interface SessionData {
    user: User;
  }
}

/** As long as browsers keep a cookie: how long a session lives is for Redis to say. */
const COOKIE_MS = 400 * 24 * 3600 * 1_000;
const TOUCH_MS = 60_000;

export type Sessions = {
  /** express-session, for both doors: for requests that change something, and for handshakes. */
  middleware: RequestHandler;
  /**
   * Who asks, for requests that only read: the middleware's `session.user`, by the same cookie and store, the session
   * prolonged as there. Redis is asked each time. Throws what Redis throws.
   */
  userOf: (request: IncomingMessage) => Promise<User | undefined>;
};

/**
 * The sessions of both doors. A session is written once, at log-in, and never changed after: a slow request can
 * therefore not bring back a session that a log-out has ended.
 */
export async function createSessions(
  config: Config,
  redis: RedisClient,
  keys: Keys,
  log: Logger,
): Promise<Sessions> {
  const name = config.cookieSecure ? "__Host-hubbub" : "hubbub";
  const secrets =
    config.sessionSecrets.length > 0 ? config.sessionSecrets : [await sharedSecret(redis, keys)];
  const store = createStore(config.sessionTtlSeconds, redis, keys);
  const middleware = session({
    name,
    secret: secrets,
    store,
    resave: false,
    saveUninitialized: false,
    proxy: config.trustProxy > 0,
    cookie: {
      maxAge: COOKIE_MS,
      httpOnly: true,
      sameSite: "lax",
      secure: config.cookieSecure,
      path: "/",
    },
  });
  return {
    middleware,
    async userOf(request) {
      const sid = sidIn(request.headers.cookie ?? "", name, secrets);
      if (sid === undefined) return undefined;
      const found = (await store.get(sid)) as SessionData | null;
      if (!found) return undefined;
      await store.touch(sid, found, (error?: unknown) => {
        if (error) log.warn({ reason: reasonOf(error) }, "session not prolonged");
      });
      return found.user;
    },
  };
}

/** The session id in this cookie, if one of these secrets has signed it, as express-session reads it. */
function sidIn(header: string, name: string, secrets: string[]): string | undefined {
  const value = parse(header)[name];
  if (!value?.startsWith("s:")) return undefined;
  for (const secret of secrets) {
    const sid = unsign(value.slice(2), secret);
    if (sid !== false) return sid;
  }
  return undefined;
}

/**
 * Sessions in Redis. Requests prolong them, but not each one: a session's end is put off at most once a minute here
 * (or after a twentieth of its life, where that is shorter).
 */
function createStore(ttlSeconds: number, redis: RedisClient, keys: Keys): RedisStore {
  const store = new RedisStore({ client: redis, prefix: keys.sessionPrefix, ttl: () => ttlSeconds });
  const touch = store.touch.bind(store);
  const everyMs = Math.min(TOUCH_MS, (ttlSeconds * 1_000) / 20);
  const touched = new Set<string>();
  let clearedAt = performance.now();
  store.touch = async (sid, data, done) => {
    if (performance.now() - clearedAt > everyMs) {
      touched.clear();
      clearedAt = performance.now();
    }
    if (touched.has(sid)) {
      done?.();
      return;
    }
    await touch(sid, data, (error?: unknown) => {
      if (!error) touched.add(sid);
      done?.(error);
    });
  };
  return store;
}

/** Starts a session under a new id and resolves once it is stored: an answer before that would be a lie. */
export async function signIn(request: Request, user: User): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    request.session.regenerate((error: unknown) => (error ? reject(error) : resolve()));
  });
  request.session.user = user;
  await new Promise<void>((resolve, reject) => {
    request.session.save((error: unknown) => (error ? reject(error) : resolve()));
  });
}

export async function signOut(request: Request): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    request.session.destroy((error: unknown) => (error ? reject(error) : resolve()));
  });
}

/**
 * Whether a browser on this page may act with the user's cookie. Programs send no Origin and have no other
 * site's cookie to abuse.
 */
export function isOwnOrigin(
  request: IncomingMessage,
  config: Pick<Config, "origins" | "cookieSecure">,
): boolean {
  const { origin, host } = request.headers;
  const site = request.headers["sec-fetch-site"];
  if (origin === undefined) return site === undefined || site === "same-origin" || site === "none";
  if (config.origins.includes(origin)) return true;
  if (!URL.canParse(origin)) return false;
  const from = new URL(origin);
  return from.host === host && (from.protocol === "https:" || !config.cookieSecure);
}

/** Kept in Redis, which holds the sessions themselves too: who can read it needs no forged cookie. */
async function sharedSecret(redis: RedisClient, keys: Keys): Promise<string> {
  await redis.set(keys.sessionSecret, randomBytes(32).toString("base64url"), "NX");
  const secret = await redis.get(keys.sessionSecret);
  if (secret === null) throw new Error("Redis kept no session secret");
  return secret;
}
