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
import type { User } from "../protocol.ts";
import { clientAddress } from "../security.ts";
import type { RedisClient } from "../store/redis.ts";
import { SessionList } from "../store/sessions.ts";

declare module "express-session" {
  // Declaration merging is the only way to add a field to this library's type.
  // oxlint-disable-next-line typescript/consistent-type-definitions
  interface SessionData {
    user: User;
    /** Where the log-in came from, for its user's list of sessions. */
    address?: string;
    device?: string;
  }
}

/** The browsers' maximum; Redis decides when the session expires. */
const COOKIE_MS = 400 * 24 * 3600 * 1_000;
const TOUCH_MS = 60_000;

export type Session = { sid: string; user: User };

export type Sessions = {
  /** The secret that signs cookies, if Redis keeps it. */
  secret: string | undefined;
  /**
   * The session with this id; prolongs it. Asks Redis each time. The caller must check whether the account still
   * exists. Throws Redis' errors.
   */
  find: (sid: string) => Promise<Session | undefined>;
  /**
   * The ids in a request's cookies that we signed, a few at most: a site beside this one may have put a cookie of the
   * same name before ours. Only Redis knows which of these sessions still exist.
   */
  sidsOf: (request: IncomingMessage) => string[];
  /**
   * Starts a session under a new id and resolves once it is stored: an earlier answer would be a lie. `before` is the
   * request's own session. Answers the ids of the sessions that ended by it: that one, and the oldest if there are too
   * many.
   */
  start: (request: Request, response: Response, user: User, before?: Session) => Promise<string[]>;
  /** Ends a session. The caller must close its connections. */
  end: (session: Session) => Promise<void>;
  /** Makes the browser drop the cookie. */
  clearCookie: (response: Response) => void;
};

/**
 * The sessions of both doors. A session is written once, at log-in, and never changed, so a slow request cannot bring
 * back a session that a log-out has ended.
 */
export async function createSessions(
  config: Config,
  redis: RedisClient,
  keys: Keys,
  log: Logger,
): Promise<Sessions> {
  const name = config.cookieSecure ? "__Host-hubbub" : "hubbub";
  const shared = config.sessionSecrets.length > 0 ? undefined : await sharedSecret(redis, keys);
  const secrets = shared === undefined ? config.sessionSecrets : [shared];
  const list = new SessionList(redis, keys, config);
  const store = createStore(config.sessionTtlSeconds, redis, keys, list);
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
  const sidsOf = ({ headers }: IncomingMessage) => sidsIn(headers.cookie ?? "", name, secrets);
  return {
    secret: shared,
    sidsOf,
    async find(sid) {
      const found = (await store.get(sid)) as Partial<SessionData> | null;
      if (!found?.user) return undefined;
      await store.touch(sid, found as SessionData, (error?: unknown) => {
        if (error) log.warn({ reason: reasonOf(error) }, "session not prolonged");
      });
      return { sid, user: found.user };
    },
    async start(request, response, user, before) {
      // It emits the error again after the answer, when nobody would handle it.
      await new Promise<void>((resolve, reject) => {
        void middleware(request, response, (error?: unknown) => (error ? reject(error) : resolve()));
      });
      // The session's own method would throw if the session has just ended with its account.
      await new Promise<void>((resolve, reject) => {
        request.sessionStore.regenerate(request, (error: unknown) => (error ? reject(error) : resolve()));
      });
      request.session.user = user;
      request.session.address = clientAddress(request, config.trustProxy);
      request.session.device = deviceOf(request.headers["user-agent"]);
      await new Promise<void>((resolve, reject) => {
        request.session.save((error: unknown) => (error ? reject(error) : resolve()));
      });
      // It would save the session once more with the answer, and bring it back if it has ended meanwhile.
      request.session.save = function saved(done) {
        done?.(undefined);
        return this;
      };
      if (before) await list.end(before.user.id, [before.sid]);
      return [...(before ? [before.sid] : []), ...(await list.add(user.id, request.sessionID))];
    },
    async end({ sid, user }) {
      await list.end(user.id, [sid]);
    },
    clearCookie(response) {
      response.clearCookie(name, cookie);
    },
  };
}

/** What a browser says of itself, shortened for its user: "Firefox on Linux". */
function deviceOf(userAgent = ""): string {
  const has = ([sign]: readonly [string, string]) => userAgent.includes(sign);
  const browser = BROWSERS.find(has)?.[1];
  const system = SYSTEMS.find(has)?.[1];
  if (browser !== undefined) return system === undefined ? browser : `${browser} on ${system}`;
  const [program = ""] = /^[\w .-]{1,40}/.exec(userAgent) ?? [];
  return program.trim() || "unknown";
}

/** In the order of search: most browsers also name those that they descend from. */
const BROWSERS = [
  ["Edg", "Edge"],
  ["OPR/", "Opera"],
  ["SamsungBrowser", "Samsung Internet"],
  ["Firefox", "Firefox"],
  ["FxiOS", "Firefox"],
  ["CriOS", "Chrome"],
  ["Chrome", "Chrome"],
  ["Safari", "Safari"],
] as const;
const SYSTEMS = [
  ["iPhone", "iPhone"],
  ["iPad", "iPad"],
  ["Android", "Android"],
  ["Windows", "Windows"],
  ["Mac OS X", "macOS"],
  ["CrOS", "ChromeOS"],
  ["Linux", "Linux"],
] as const;

/** The session ids in cookies of this name that one of these secrets signed, as express-session reads them. */
function sidsIn(header: string, name: string, secrets: string[]): string[] {
  const first = parse(header)[name];
  if (first === undefined) return [];
  // Nearly always it is the only one.
  const sid = signedIn(first, secrets);
  if (header.indexOf(`${name}=`) === header.lastIndexOf(`${name}=`)) return sid === undefined ? [] : [sid];
  const values = header.split(";").flatMap((pair) => parse(pair)[name] ?? []);
  const known = new Set<string>();
  for (const value of values.slice(0, BOUNDS.sessionCookies.value)) {
    const found = signedIn(value, secrets);
    if (found !== undefined) known.add(found);
    if (known.size >= BOUNDS.signedCookies.value) break;
  }
  return [...known];
}

function signedIn(value: string, secrets: string[]): string | undefined {
  if (!value.startsWith("s:")) return undefined;
  for (const secret of secrets) {
    const sid = unsign(value.slice(2), secret);
    // A copy: a part would keep the whole cookie in memory as long as its connection.
    if (sid !== false) return Buffer.from(sid).toString();
  }
  return undefined;
}

/**
 * Sessions in Redis. Requests prolong them, at most once a minute here (or once in a twentieth of its life, if that is
 * shorter).
 */
function createStore(ttlSeconds: number, redis: RedisClient, keys: Keys, list: SessionList): RedisStore {
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
    // A session of an older replica, or one that a crash left unlisted, is listed from now on.
    const user = data.user as User | undefined;
    if (user) await list.mend(user.id, sid).catch(() => undefined);
  };
  return store;
}

/** Kept in Redis, which holds the sessions too: a reader of Redis needs no forged cookie. */
async function sharedSecret(redis: RedisClient, keys: Keys): Promise<string> {
  await redis.set(keys.sessionSecret, randomBytes(32).toString("base64url"), "NX");
  const secret = await redis.get(keys.sessionSecret);
  if (secret === null) throw new Error("Redis kept no session secret");
  return secret;
}
