import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { RedisStore } from "connect-redis";
import type { Request, RequestHandler } from "express";
import session from "express-session";
import type { Config } from "../config.ts";
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

/**
 * The session middleware that both doors share. A session is written once, at log-in, and never changed after:
 * a slow request can therefore not bring back a session that a log-out has ended.
 */
export async function createSession(config: Config, redis: RedisClient, keys: Keys): Promise<RequestHandler> {
  return session({
    name: config.cookieSecure ? "__Host-hubbub" : "hubbub",
    secret: config.sessionSecrets.length > 0 ? config.sessionSecrets : [await sharedSecret(redis, keys)],
    store: createStore(config.sessionTtlSeconds, redis, keys),
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
