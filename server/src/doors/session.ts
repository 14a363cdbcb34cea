import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { RedisStore } from "connect-redis";
import { parse } from "cookie";
import { unsign } from "cookie-signature";
import type { Request, Response } from "express";
import session, { type SessionData } from "express-session";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { reasonOf } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import type { User, UserId } from "../protocol.ts";
import type { RedisClient } from "../store/redis.ts";

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

export type Session = { sid: string; user: User };

export type Sessions = {
  /**
   * The session of this id; its end is put off. Redis is asked each time. Whether the account still exists is for the
   * caller to ask. Throws what Redis throws.
   */
  find: (sid: string) => Promise<Session | undefined>;
  /** The id that a request shows, if it was given out here. Whether that session still exists only Redis knows. */
  sidOf: (request: IncomingMessage) => string | undefined;
  /**
   * Starts a session under a new id and resolves once it is stored: an answer before that would be a lie. `before` is
   * the one that the request came with. Answers the ids of those that ended by it: that one, and the oldest where there
   * are too many.
   */
  start: (request: Request, response: Response, user: User, before?: Session) => Promise<string[]>;
  /** Ends a session. Its connections are for the caller to close. */
  end: (session: Session) => Promise<void>;
  /** Takes the cookie back from the browser. */
  clearCookie: (response: Response) => void;
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
  const cookie = { httpOnly: true, sameSite: "lax", secure: config.cookieSecure, path: "/" } as const;
  const middleware = session({
    name,
    secret: secrets,
    store,
    resave: false,
    saveUninitialized: false,
    proxy: config.trustProxy > 0,
    cookie: { ...cookie, maxAge: COOKIE_MS },
  });
  const sidOf = ({ headers }: IncomingMessage) => sidIn(headers.cookie ?? "", name, secrets);
  return {
    sidOf,
    async find(sid) {
      const found = (await store.get(sid)) as Partial<SessionData> | null;
      if (!found?.user) return undefined;
      await store.touch(sid, found as SessionData, (error?: unknown) => {
        if (error) log.warn({ reason: reasonOf(error) }, "session not prolonged");
      });
      return { sid, user: found.user };
    },
    async start(request, response, user, before) {
      // It says once more after the answer what it could not do, when nobody is left to handle it.
      await new Promise<void>((resolve, reject) => {
        void middleware(request, response, (error?: unknown) => (error ? reject(error) : resolve()));
      });
      // Not the session's own method: it may just have ended, with an account that is gone.
      await new Promise<void>((resolve, reject) => {
        request.sessionStore.regenerate(request, (error: unknown) => (error ? reject(error) : resolve()));
      });
      request.session.user = user;
      await new Promise<void>((resolve, reject) => {
        request.session.save((error: unknown) => (error ? reject(error) : resolve()));
      });
      if (before) await redis.zrem(keys.userSessions(before.user.id), before.sid);
      return [...(before ? [before.sid] : []), ...(await index(redis, keys, user.id, request.sessionID))];
    },
    async end({ sid, user }) {
      await redis.del(keys.session(sid));
      await redis.zrem(keys.userSessions(user.id), sid);
    },
    clearCookie(response) {
      response.clearCookie(name, cookie);
    },
  };
}

/**
 * Writes a session down among those of its user, forgets those that have ended meanwhile, and ends the oldest where
 * there are too many: answers their ids. A session is written down after it is stored, so that many log-ins at once
 * leave none that is not counted.
 */
async function index(redis: RedisClient, keys: Keys, userId: UserId, sid: string): Promise<string[]> {
  const sessions = keys.userSessions(userId);
  const [seconds, micros] = await redis.time();
  await redis.zadd(sessions, String(Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000)), sid);
  const others = (await redis.zrange(sessions, "0", "-1")).filter((other) => other !== sid);
  const alive = await Promise.all(others.map((other) => redis.exists(keys.session(other))));
  const gone = others.filter((_, place) => alive[place] === 0);
  const open = others.filter((_, place) => alive[place] === 1);
  const ended = open.slice(0, Math.max(0, open.length + 1 - BOUNDS.sessionsOfUser.value));
  await Promise.all(ended.map((other) => redis.del(keys.session(other))));
  if (gone.length + ended.length > 0) await redis.zrem(sessions, ...gone, ...ended);
  return ended;
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
    // One that an older replica started, or that was not written down before a crash, is counted from now on.
    const user = data.user as User | undefined;
    if (user)
      await redis.zadd(keys.userSessions(user.id), "NX", String(Date.now()), sid).catch(() => undefined);
  };
  return store;
}

/** Kept in Redis, which holds the sessions themselves too: who can read it needs no forged cookie. */
async function sharedSecret(redis: RedisClient, keys: Keys): Promise<string> {
  await redis.set(keys.sessionSecret, randomBytes(32).toString("base64url"), "NX");
  const secret = await redis.get(keys.sessionSecret);
  if (secret === null) throw new Error("Redis kept no session secret");
  return secret;
}
