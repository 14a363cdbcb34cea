import type { IncomingMessage, ServerResponse } from "node:http";
import type { Response } from "express";
import type { Users } from "../chat/users.ts";
import type { Config } from "../config.ts";
import { ChatError, isRefusal } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import { clientAddress, type Security } from "../security.ts";
import { LIMITS, type ServerRole, type User } from "../protocol.ts";
import { NOT_OWN, type Origins } from "./origin.ts";
import type { Session, Sessions } from "./session.ts";
import { addressKey, type Throttle } from "./throttle.ts";

/** The user who asks, their session, and what they may do on the server. */
export type Actor = Session & { role: ServerRole };

/**
 * The ways in. Each has its turn, its limit, and its prefix for bans, so that a ban from one way leaves the others
 * open. A poll continues what its handshake began.
 */
const WAYS = {
  request: { turn: "request", bars: "", known: "rest", stranger: "rest" },
  handshake: { turn: "handshake", bars: "handshake ", known: "handshake", stranger: "stranger" },
  poll: { turn: "request", bars: "handshake ", known: undefined, stranger: undefined },
} as const;
export type Way = keyof typeof WAYS;

/** How a page says whose it is: a header of a request, and a parameter of a connection's address. */
const CLAIM = { header: "x-user-id", parameter: /[?&]userId=([^&]*)/ };

/** Logging out is always possible. */
const LOG_OUT = "/api/logout";

export type Identity = {
  /**
   * The steps before any look-up: a request waits for its turn, a banned sender is refused again, and so is what
   * another site's page would do with the user's cookie. Throws `rate_limited`, `forbidden`.
   */
  begin: (request: IncomingMessage, way: Way) => Promise<void>;
  /**
   * The session of a request, counted by its user, or without one by the address. Does not check whether the account
   * still exists. Throws `rate_limited`, and Redis' errors.
   */
  shown: (request: IncomingMessage, way: Way) => Promise<Session | undefined>;
  /**
   * The user who asks: session and account both exist. A session whose account is gone ends here, with its
   * connections, before somebody else gets that id. Throws as `shown` does.
   */
  identify: (request: IncomingMessage, way: Way) => Promise<Actor | undefined>;
  /** The address of a request's sender, or the network that counts as one: see `addressKey`. */
  senderOf: (request: IncomingMessage) => string;
  /** Whether a request's cookies name a session; does not ask whether it has ended. */
  names: (request: IncomingMessage, sid: string) => boolean;
  /** The session found so far. */
  known: (request: IncomingMessage) => Session | undefined;
  /**
   * Cuts an answer that is still on its way when its reader's session or account has ended, or when `demand` throws a
   * refusal. Call it when the answer begins.
   */
  watch: (request: IncomingMessage, response: ServerResponse, demand: () => Promise<unknown>) => void;
  /** Makes a request's sender, or a session id, wait: until then nothing is looked up for them. */
  bar: (from: IncomingMessage | string, way: Way, ms: number) => void;
};

type Asked = {
  sids: string[];
  begun?: Promise<void>;
  shown?: Promise<Session | undefined>;
  identified?: Promise<Actor | undefined>;
  known?: Session | undefined;
};

/**
 * Identifies the sender on every way in: REST through Express and past it, and the handshake. Each step is taken once
 * for a request, however often it is asked for.
 */
export function createIdentity(parts: {
  config: Config;
  users: Pick<Users, "roleOf">;
  sessions: Sessions;
  origins: Origins;
  throttle: Throttle;
  security: Security;
  /** The session was ended: close its connections on every replica. */
  ended: (sid: string) => void;
}): Identity {
  const { config, users, sessions, origins, throttle, security, ended } = parts;
  const requests = new WeakMap<IncomingMessage, Asked>();

  function askedBy(request: IncomingMessage): Asked {
    let asked = requests.get(request);
    if (!asked) requests.set(request, (asked = { sids: sessions.sidsOf(request) }));
    return asked;
  }

  /** Identifies the sender without Redis: by the session's id, which nobody can forge, or by the address. */
  function nameOf(from: IncomingMessage | string, way: Way): string {
    const who = typeof from === "string" ? from : (askedBy(from).sids[0] ?? senderOf(from));
    return WAYS[way].bars + who;
  }

  function senderOf(request: IncomingMessage): string {
    return addressKey(clientAddress(request, config.trustProxy));
  }

  async function begin(request: IncomingMessage, way: Way): Promise<void> {
    if (config.rateLimits && !isLogOut(request)) {
      const who = nameOf(request, way);
      await throttle.turn(hasLongBody(request) ? "body" : WAYS[way].turn, who);
      const waitMs = throttle.barredMs(who);
      if (waitMs > 0) throw new ChatError("rate_limited", "Too many attempts. Slow down.", Math.ceil(waitMs));
    }
    if ((way !== "request" || !isRead(request)) && !origins.isOwn(request))
      throw new ChatError("forbidden", NOT_OWN);
  }

  async function show(request: IncomingMessage, way: Way, asked: Asked): Promise<Session | undefined> {
    let session: Session | undefined;
    for (const sid of asked.sids) if ((session = await sessions.find(sid))) break;
    // A page may be older than the cookie that the browser sends along: what it wants is not for this user to do.
    const claimed = claimedBy(request, way);
    if (session && claimed !== undefined && claimed !== session.user.id) session = undefined;
    asked.known = session;
    const limit = session ? WAYS[way].known : WAYS[way].stranger;
    if (limit === undefined || (session && isLogOut(request))) return session;
    try {
      await throttle.take(limit, session?.user.id ?? senderOf(request));
    } catch (error) {
      if (error instanceof ChatError) bar(request, way, error.retryAfterMs ?? 0);
      throw error;
    }
    return session;
  }

  async function identify(request: IncomingMessage, way: Way, asked: Asked): Promise<Actor | undefined> {
    const session = await self.shown(request, way);
    if (!session) return undefined;
    const role = await users.roleOf(session.user);
    if (role !== undefined) return { ...session, role };
    asked.known = undefined;
    await sessions.end(session);
    const address = clientAddress(request, config.trustProxy);
    security.note("session.ended", { address, userId: session.user.id, what: "account" });
    ended(session.sid);
    return undefined;
  }

  function bar(from: IncomingMessage | string, way: Way, ms: number): void {
    throttle.bar(nameOf(from, way), ms);
  }

  /** Throws a ChatError if a request's sender may not have its answer any more. */
  async function demandStill(request: IncomingMessage, demand: () => Promise<unknown>): Promise<void> {
    const sid = self.known(request)?.sid;
    const session = sid === undefined ? undefined : await sessions.find(sid);
    if (!session || (await users.roleOf(session.user)) === undefined)
      throw new ChatError("unauthorized", "Log in first.");
    await demand();
  }

  const self: Identity = {
    senderOf,
    begin: (request, way) => (askedBy(request).begun ??= begin(request, way)),
    shown(request, way) {
      const asked = askedBy(request);
      return (asked.shown ??= show(request, way, asked));
    },
    identify(request, way) {
      const asked = askedBy(request);
      return (asked.identified ??= identify(request, way, asked));
    },
    watch(request, response, demand) {
      if (response.destroyed) return;
      const look = setInterval(() => {
        demandStill(request, demand).catch((error: unknown) => {
          // Anything else says that Redis is away, and nothing of the reader.
          if (isRefusal(error)) response.destroy();
        });
      }, BOUNDS.answerLook.value);
      response.once("close", () => clearInterval(look));
    },
    names: (request, sid) => askedBy(request).sids.includes(sid),
    known: (request) => requests.get(request)?.known,
    bar,
  };
  return self;
}

/** The user to whom a page belongs that sends a request, if it says so. */
function claimedBy({ headers, url = "" }: IncomingMessage, way: Way): string | undefined {
  return way === "request" ? headers[CLAIM.header]?.toString() : CLAIM.parameter.exec(url)?.[1];
}

/** Whether a request changes nothing. */
export function isRead({ method }: IncomingMessage): boolean {
  return method === "GET" || method === "HEAD";
}

/** Whether more comes than JSON: a file. */
function hasLongBody({ headers }: IncomingMessage): boolean {
  return Number(headers["content-length"] ?? 0) > LIMITS.bodyBytes;
}

/** Matches only this spelling: any other is counted like all requests. Express takes a mount's path off `url`. */
function isLogOut(request: IncomingMessage & { originalUrl?: string }): boolean {
  return request.method === "POST" && (request.originalUrl ?? request.url) === LOG_OUT;
}

/** Who asks, once Express' first handler has identified them. */
export function actorOf(response: Response): Actor | undefined {
  return response.locals["actor"] as Actor | undefined;
}

/** Throws `unauthorized` to a stranger. */
export function demandActor(response: Response): Actor {
  const actor = actorOf(response);
  if (!actor) throw new ChatError("unauthorized", "Log in first.");
  return actor;
}

/** Throws `unauthorized` to a stranger. */
export function demandUser(response: Response): User {
  return demandActor(response).user;
}
