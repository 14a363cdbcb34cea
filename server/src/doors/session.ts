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

/**
 * The session middleware that both doors share. A session is written once, at log-in, and never changed after:
 * a slow request can therefore not bring back a session that a log-out has ended.
 */
export async function createSession(config: Config, redis: RedisClient, keys: Keys): Promise<RequestHandler> {
  return session({
    name: config.cookieSecure ? "__Host-hubbub" : "hubbub",
    secret: config.sessionSecrets.length > 0 ? config.sessionSecrets : [await sharedSecret(redis, keys)],
    store: new RedisStore({ client: redis, prefix: keys.sessionPrefix, ttl: config.sessionTtlSeconds }),
    resave: false,
    saveUninitialized: false,
    rolling: true,
    proxy: config.trustProxy > 0,
    cookie: {
      maxAge: config.sessionTtlSeconds * 1_000,
      httpOnly: true,
      sameSite: "lax",
      secure: config.cookieSecure,
      path: "/",
    },
  });
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
