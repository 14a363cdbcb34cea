import { isUtf8 } from "node:buffer";
import { IncomingMessage, ServerResponse, type RequestListener } from "node:http";
import { Socket } from "node:net";
import { parse } from "node:querystring";
import { pipeline } from "node:stream/promises";
import { setImmediate } from "node:timers/promises";
import express, { Router, type ErrorRequestHandler, type Request, type Response } from "express";
import expressStaticGzip from "express-static-gzip";
import helmet from "helmet";
import type { Logger } from "pino";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import type { Config } from "../config.ts";
import { ChatError, systemCode } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Load } from "../load.ts";
import { METRICS_TYPE, hasToken, type LOGIN_OUTCOMES, type Metrics } from "../metrics.ts";
import {
  LIMITS,
  NOTIFY_LEVELS,
  ROOM_ROLES,
  USERNAME,
  isRoomId,
  type Audience,
  type Credentials,
  type ErrorCode,
  type Hits,
  type Invite,
  type MemberPatch,
  type NewInvite,
  type NewPrivateRoom,
  type NewReport,
  type NewRoom,
  type NewUser,
  type Notifications,
  type RoomId,
  type RoomPatch,
  type RoomView,
  type User,
  type UserId,
} from "../protocol.ts";
import { clientAddress, type Security, type SecurityEvent } from "../security.ts";
import type { StoredInvite } from "../store/invites.ts";
import { listJson, type Json } from "../store/json.ts";
import { accountRoutes } from "./accounts.ts";
import { refusalOf, toFailure } from "./failure.ts";
import {
  demandUserId,
  freshPassword,
  isWhole,
  pageSize,
  password,
  roomName,
  userId,
  writtenText,
} from "./fields.ts";
import { fileRoutes } from "./files.ts";
import { actorOf, demandActor, isRead, type Identity } from "./identity.ts";
import { pageAddress } from "./origin.ts";
import { createProxies, type Proxies } from "./proxies.ts";
import type { Sessions } from "./session.ts";
import { listed, paidFor, type Throttle } from "./throttle.ts";
import { hasBody } from "./transport.ts";

const username = z.string().regex(USERNAME, "3 to 32 letters, digits, dots, underscores or hyphens");
const credentials: z.ZodType<Credentials> = z.object({ username, password });
const newUser: z.ZodType<NewUser> = z.object({
  username,
  password: freshPassword,
  invite: z.string().max(64).optional(),
});
const topic = writtenText(LIMITS.topic)
  .transform((text) => text.normalize("NFC").trim())
  .refine((text) => !/[\p{Cc}\p{Co}\p{Cn}]/u.test(text), "no control characters");
const kind = z.enum(["open", "invite"]);
const newRoom: z.ZodType<NewRoom> = z.object({
  name: roomName,
  kind: kind.optional(),
  topic: topic.optional(),
});
const roomPatch: z.ZodType<RoomPatch> = z
  .object({
    name: roomName,
    kind,
    topic,
    slow: z.number().int().min(0).max(LIMITS.slow),
    archived: z.boolean(),
  })
  .partial();
/** Milliseconds since 1970, no later than a Date can tell. */
const moment = z.number().int().min(0).max(8.64e15);
const memberPatch: z.ZodType<MemberPatch> = z
  .object({ role: z.enum(ROOM_ROLES), mutedUntil: moment })
  .partial();
const inviteCode = z.string().regex(/^[\w-]{1,64}$/, "no invite");
const newInvite: z.ZodType<NewInvite> = z.object({
  expires: moment.optional(),
  uses: z.number().int().min(1).max(LIMITS.inviteUses).optional(),
});
const newReport: z.ZodType<NewReport> = z.object({
  roomId: z.string().refine(isRoomId, "no room id"),
  seq: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  reason: writtenText(LIMITS.reason).optional(),
});
const reportState = z.object({ state: z.literal("done") });
const newBan: z.ZodType<{ until?: number | undefined }> = z.object({ until: moment.optional() });
const newPrivateRoom: z.ZodType<NewPrivateRoom> = z.object({ userId });
const notifications: z.ZodType<Notifications> = z.object({ level: z.enum(NOTIFY_LEVELS) });
const roomView: z.ZodType<RoomView> = z
  .object({
    folded: z.boolean(),
    favourite: z.boolean(),
    hidden: z.boolean(),
    seq: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  })
  .partial()
  .refine(
    ({ folded, favourite, hidden }) => [folded, favourite, hidden].some((one) => one !== undefined),
    "folded, favourite or hidden",
  );
const date = z
  .string()
  .regex(/^\d{1,16}$/, "a date in milliseconds")
  .transform(Number);
const seq = z
  .string()
  .regex(/^[1-9]\d{0,14}$/, "the number of a message")
  .transform(Number);
const pageQuery = z
  .object({
    before: date.optional(),
    after: date.optional(),
    around: seq.optional(),
    at: date.optional(),
    thread: seq.optional(),
    pinned: z
      .literal("true")
      .transform(() => true as const)
      .optional(),
    cursor: z
      .string()
      .regex(/^\d{1,15}$/, "a cursor")
      .transform(Number)
      .optional(),
    threads: z
      .literal("true")
      .transform(() => true as const)
      .optional(),
    size: pageSize(LIMITS.page, LIMITS.pageDefault),
  })
  .refine(({ before, after, around, at, thread, pinned, cursor }) => {
    const kinds = [around, at, pinned, thread].filter((one) => one !== undefined).length;
    const isBetween = before !== undefined || after !== undefined;
    if (cursor !== undefined && pinned === undefined) return false;
    return kinds === 0 || (kinds === 1 && (thread !== undefined || !isBetween));
  }, "one kind of page at a time");
const idsQuery = z
  .string()
  .transform((list) => list.split(","))
  .pipe(z.array(userId).min(1).max(LIMITS.userIds));
const listQuery = z.object({
  after: z
    .string()
    .regex(/^\d{1,10}$/, "an id")
    .transform(Number)
    .default(0),
  size: pageSize(LIMITS.page),
});
const searchQuery = z.object({
  q: z.string().max(LIMITS.search),
  after: userId.optional(),
  size: pageSize(LIMITS.page),
});

const auditQuery = z.object({
  before: z
    .string()
    .regex(/^(?!0+-0+$)\d{1,16}-\d{1,19}$/, "the id of an entry")
    .optional(),
  size: pageSize(LIMITS.page, LIMITS.pageDefault),
});
const findQuery = z.object({
  q: z.string().max(LIMITS.search),
  room: z.string().refine(isRoomId, "no room id").optional(),
  from: userId.optional(),
  before: date.optional(),
  after: date.optional(),
  cursor: z.string().max(64).optional(),
});

const mentionsQuery = z.object({ before: date.optional(), size: pageSize(LIMITS.page, LIMITS.pageDefault) });

const NEVER_KEPT = ["Cache-Control", "no-store"] as const;
const JSON_TYPE = "application/json; charset=utf-8";

export type RestParts = {
  config: Config;
  chat: Chat;
  identity: Identity;
  sessions: Sessions;
  throttle: Throttle;
  metrics: Metrics;
  load: Load;
  security: Security;
  log: Logger;
  /** Resolves, with warnings, while Redis takes writes and the replica takes connections. */
  ready: () => Promise<string[]>;
  /** The session was ended: close its connections on every replica. */
  ended: (sid: string) => void;
  /** The demo people's log-ins, if the database holds demo data. */
  demo: () => Promise<Credentials[]>;
};

/** The HTTP door: the API, the health routes and the built client. */
export function createRest(parts: RestParts): RequestListener {
  const { config } = parts;
  const headers = securityHeaders(config.cookieSecure);
  const proxies = createProxies(config, parts.log);
  const app = express();
  app.disable("x-powered-by");
  // Computing ETags costs more than it saves, because answers rarely repeat; files have theirs nevertheless.
  app.disable("etag");
  app.set("trust proxy", config.trustProxy);
  app.set("query parser", "simple");
  app.use((_request, response, next) => {
    response.setHeaders(headers);
    next();
  });
  app.use(health(parts));
  app.use("/api", api(parts, proxies));
  if (config.clientDir) {
    app.use(
      (request, _response, next) => {
        if (!isReadable(request.path)) throw new ChatError("invalid", "The request cannot be read.");
        next();
      },
      // The build has compressed them, better than there is time for here.
      expressStaticGzip(config.clientDir, {
        enableBrotli: true,
        orderPreference: ["br"],
        serveStatic: {
          setHeaders: (response, path) => {
            const immutable = /[/\\]assets[/\\]/.test(path);
            response.setHeader(
              "Cache-Control",
              immutable ? "public, max-age=31536000, immutable" : "no-cache",
            );
          },
        },
      }),
    );
  }
  app.use(() => {
    throw new ChatError("not_found", "There is nothing here.");
  });
  const failed: ErrorRequestHandler = (error: unknown, request, response, _next) => {
    refuse(error, request, response, parts);
  };
  app.use(failed);
  return comeIn(parts, proxies, headers, app);
}

function isReadable(path: string): boolean {
  try {
    decodeURIComponent(path);
    return true;
  } catch {
    return false;
  }
}

/** What a failure of these two routes says about the sender; of all others, only too many requests count. */
const NOTED: Record<string, Partial<Record<ErrorCode, SecurityEvent>>> = {
  "/login": { unauthorized: "login.failed", rate_limited: "login.limited" },
  "/users": { rate_limited: "signup.limited" },
};

/** Codes of answers whose reader has left. */
const GONE = new Set(["ERR_STREAM_PREMATURE_CLOSE", "ERR_STREAM_DESTROYED", "ECONNRESET", "EPIPE"]);

/** Headers of an answer that did not come: a refusal has none of them, or its own. */
const OF_ANSWER = [
  "Accept-Ranges",
  "Content-Disposition",
  "Content-Length",
  "Content-Range",
  "Content-Type",
  "ETag",
];

/** Answers with a failure, with or without Express. Nothing comes after it: it must not throw. */
function refuse(error: unknown, request: Asked, response: ServerResponse, parts: RestParts): void {
  try {
    answerRefusal(error, request, response, parts);
  } catch (fault) {
    parts.security.contain("request", fault);
    response.destroy();
  }
}

function answerRefusal(error: unknown, request: Asked, response: ServerResponse, parts: RestParts): void {
  const { config, identity, metrics, security } = parts;
  // The sender has left: there is nobody to answer, and nothing is wrong. Node takes the socket from a request whose
  // body is broken off, and does not tell a response that waits for an earlier one of its connection.
  const { socket } = request as { socket: Socket | null };
  const hasLeft = response.destroyed || (socket ?? response.socket)?.destroyed === true;
  if (hasLeft && GONE.has(systemCode(error))) return;
  const failure = toFailure(error, parts, "request");
  const { code } = failure;
  metrics.refusals.inc({ door: "rest", code });
  const noted =
    (request.method === "POST" && NOTED[request.route?.path ?? ""]?.[code]) ||
    (code === "rate_limited" ? "request.limited" : undefined);
  if (noted) {
    const address = clientAddress(request, config.trustProxy);
    security.note(noted, { address, userId: identity.known(request)?.user.id });
  }
  // A half-sent answer cannot become an error; its missing end tells the reader.
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { status, headers, body } = refusalOf(failure);
  for (const name of OF_ANSWER) response.removeHeader(name);
  response.statusCode = status;
  response.setHeaders(new Map(Object.entries(headers)));
  response.end(body);
}

const HEALTH = ["/healthz", "/readyz", "/metrics"];

/** The pattern of the answering route: metrics need a bounded number of names. */
function routeOf(request: Asked, response: ServerResponse): string {
  const { route } = request;
  if (!route) return response.statusCode < 400 ? "files" : "none";
  return `${isRead(request) ? "GET" : request.method} ${HEALTH.includes(route.path) ? "" : "/api"}${route.path}`;
}

/** The status, unless the client left before the end. */
function outcomeOf(response: ServerResponse): string {
  return response.writableFinished ? String(response.statusCode) : "cut";
}

function tally(
  { httpRequests, httpDuration, logins }: Metrics,
  route: string,
  status: string,
  began: number,
) {
  httpRequests.inc({ route, status });
  httpDuration.observe({ route }, (performance.now() - began) / 1_000);
  if (route === "POST /api/login") logins.inc({ outcome: LOGINS[status] ?? "refused" });
}

const LOGINS: Record<string, (typeof LOGIN_OUTCOMES)[number]> = {
  "200": "done",
  "401": "failed",
  "429": "limited",
  "503": "unavailable",
  cut: "cut",
};

/** Express notes here which route answers. */
type Asked = IncomingMessage & { route?: { path: string } };

/** The route of a page of messages, under `/api`. */
const PAGE_ROUTE = "/rooms/:id/messages";
/**
 * The path of a page as clients write it: the room's id, and the query. Any other spelling is left to Express, which
 * may read it differently.
 */
const PAGE = /^\/api\/rooms\/(\d+(?:(?::|%3A)\d+)?)\/messages(?:\?([!"$-~]*))?$/;

/**
 * Runs before Express. Requests of the API are let in here, before Express costs anything. Pages of messages are the
 * read that comes by the thousand, and Express costs several times as much as the page: plain `GET`s with a session
 * bypass it. `app` gets all others; its own route for pages gives the same answer, byte by byte.
 */
function comeIn(
  parts: RestParts,
  proxies: Proxies,
  headers: Map<string, string>,
  app: RequestListener,
): RequestListener {
  const { identity, metrics, security } = parts;
  const apiHeaders = new Map([...headers, NEVER_KEPT]);
  const pageHeaders = [...apiHeaders, ["Content-Type", JSON_TYPE]].flat();
  const fail = (error: unknown, request: Asked, response: ServerResponse): void => {
    if (!response.headersSent) response.setHeaders(apiHeaders);
    refuse(error, request, response, parts);
  };
  const answer = async (
    request: Asked,
    response: ServerResponse,
    roomId: RoomId,
    query: string,
  ): Promise<void> => {
    const shown = await identity.shown(request, "request");
    if (!shown) return app(request, response);
    request.route = { path: PAGE_ROUTE };
    try {
      // Both run at once; a page read for an account that is gone is discarded.
      const asking = identity.identify(request, "request");
      const reading = readPage(parts, shown.user, roomId, parse(query), async (page) => {
        if (!(await asking)) return;
        response.writeHead(200, [...pageHeaders, "Content-Length", String(page.length)]).end(page);
      });
      const [who] = await Promise.allSettled([asking, reading]);
      if (who.status === "fulfilled" && !who.value) return app(request, response);
      await asking;
      await reading;
    } catch (error) {
      fail(error, request, response);
    }
  };
  const serve = async (request: Asked, response: ServerResponse): Promise<void> => {
    if (!isApi(request)) return app(request, response);
    try {
      await identity.begin(request, "request");
      await identity.shown(request, "request");
    } catch (error) {
      return fail(error, request, response);
    }
    // The client may have left meanwhile.
    if (response.destroyed) return;
    const [, id = "", query = ""] = PAGE.exec(request.url ?? "") ?? [];
    const roomId = id.replace("%3A", ":");
    // Express parses a body, and refuses invalid JSON.
    if (request.method !== "GET" || hasBody(request) || !isRoomId(roomId)) app(request, response);
    else await answer(request, response, roomId, query);
  };
  return (request, response) => {
    proxies.watch(request);
    const began = performance.now();
    response.once("close", () => tally(metrics, routeOf(request, response), outcomeOf(response), began));
    serve(request, response).catch((error: unknown) => {
      security.contain("request", error);
      response.destroy();
    });
  };
}

/**
 * Whether Express may route it to the API, also in capitals or as a full URL. What this misses, the API identifies
 * itself.
 */
function isApi({ url = "" }: IncomingMessage): boolean {
  return /\/api(?:[/?]|$)/i.test(url);
}

/** The longest page: one around a message is two. */
const PAGE_KB = 2 * (BOUNDS.pageBytes.value / 1_024 + BOUNDS.messageKb.value);

/**
 * Sends a page of messages, as JSON: refused under load, and charged for its maximum length until it is read. See
 * `Throttle.queue` for why it is not the result.
 */
async function readPage(
  { chat, throttle, load }: RestParts,
  user: User,
  roomId: RoomId,
  query: object,
  send: (page: Buffer) => void | Promise<void>,
): Promise<void> {
  const asked = pageQuery.parse(query);
  load.demand("history");
  const most = Math.min(asked.size * BOUNDS.messageKb.value, PAGE_KB);
  const read = () => chat.messages.list(user, roomId, asked);
  await throttle.queue("page", user.id, async () =>
    send(await throttle.pay(user.id, most, read, (page) => page.length / 1_024)),
  );
}

/** Objects as JSON, made in several turns of the event loop: a long list at once would keep everybody else waiting. */
async function inTurns(list: readonly object[]): Promise<Json[]> {
  const parts: Json[] = [];
  let some: string[] = [];
  let length = 0;
  for (const one of list) {
    const text = JSON.stringify(one);
    some.push(text);
    length += text.length;
    if (length <= BOUNDS.listTurn.value) continue;
    parts.push(Buffer.from(some.join(",")));
    [some, length] = [[], 0];
    await setImmediate();
  }
  return some.length > 0 ? [...parts, some.join(",")] : parts;
}

const kbOf = (json: Json): number => Buffer.byteLength(json) / 1_024;

function sendJson(response: ServerResponse, json: Json): void {
  response.writeHead(200, { "Content-Type": JSON_TYPE, "Content-Length": Buffer.byteLength(json) }).end(json);
}

/** A page of names with this text: refused under load, and charged by how many names are searched. */
async function search(
  { chat, throttle, load }: RestParts,
  user: User,
  what: "users" | "rooms",
  query: object,
): Promise<object> {
  const { q, after, size } = searchQuery.parse(query);
  load.demand("history");
  const price = () =>
    BOUNDS.searchKb.value * (1 + Math.ceil(chat[what === "users" ? "people" : "rooms"].searched / 3_000));
  const find = () =>
    what === "users" ? chat.people.search(q, after, size) : chat.rooms.search(user, q, after, size);
  return throttle.queue("search", user.id, () => throttle.pay<object>(user.id, price(), find, price));
}

/**
 * A page of messages with this text: refused under load, limited to one of a user and two of a replica at once, and
 * charged by how many messages are read. Ends early if the client has left. Answered as `listed` answers.
 */
async function findMessages(
  { chat, throttle, load }: RestParts,
  user: User,
  query: object,
  response: Response,
): Promise<void> {
  const asked = findQuery.parse(query);
  load.demand("history");
  const price = (rows: number) => BOUNDS.findKb.value * (1 + Math.ceil(rows / 300));
  const turn = async () => {
    await throttle.turn("find", `find ${user.id}`);
    return !response.destroyed;
  };
  const look = async () => {
    const { hits, rows, ...rest } = await chat.messages.search(user, asked, turn);
    const begin = JSON.stringify({ ...rest, hits: [] } satisfies Hits).slice(0, -2);
    return { rows, json: listJson(begin, await inTurns(hits), "]}") };
  };
  await throttle.queue("find", user.id, () =>
    throttle.queue("finds", "", async () => {
      const { json } = await throttle.pay(user.id, price(BOUNDS.findRows.value), look, ({ rows }) =>
        price(rows),
      );
      sendJson(response, json);
    }),
  );
}

/** Does something once the answer stands, before it leaves. If that fails, a refusal stays what it is. */
function beforeAnswer(response: Response, work: () => Promise<void>, failed: (error: unknown) => void): void {
  const end = response.end.bind(response) as (...args: unknown[]) => Response;
  response.end = (...args: unknown[]) => {
    response.end = end;
    const leave = () => void end(...args);
    // express-session has sent the headers of a log-in's answer: another refusal could only cut it.
    work().then(leave, response.statusCode < 400 ? failed : leave);
    return response;
  };
}

/**
 * The comment above each route, its query or body and its answer, is its row in docs/api.md; a test fails when the
 * table is stale.
 */
function api(parts: RestParts, proxies: Proxies): Router {
  const { config, chat, identity, sessions, throttle, load, security, ended } = parts;
  const turnOf =
    ({ id }: User) =>
    () =>
      throttle.turn("rooms", `rooms ${id}`);
  const sendReports = (response: Response, find: () => Promise<Json[]>) =>
    listed(parts, demandUser(response), {
      read: async () => listJson("[", await find(), "]"),
      kb: (json) => BOUNDS.messageKb.value + kbOf(json),
      answer: (json) => sendJson(response, json),
    });
  const router = Router();
  router.use((_request, response, next) => {
    response.setHeader(...NEVER_KEPT);
    next();
  });
  router.use(async (request, response, next) => {
    await identity.begin(request, "request");
    const actor = await identity.identify(request, "request");
    response.locals["actor"] = actor;
    // The account may have ended while the request changed something.
    if (!isRead(request))
      beforeAnswer(
        response,
        async () => {
          const ids = new Set(
            [actor?.user.id ?? [], (response.locals["entered"] as UserId | undefined) ?? []].flat(),
          );
          for (const id of ids) await chat.accounts.settle(id);
        },
        (error) => refuse(error, request, response, parts),
      );
    next();
  });
  // Before anything reads the body.
  router.use(fileRoutes(parts));
  router.use(express.json({ limit: LIMITS.bodyBytes, verify: demandUtf8, reviver: demandWhole }));

  const enter = async (request: Request, response: Response, user: User): Promise<void> => {
    response.locals["entered"] = user.id;
    for (const sid of await sessions.start(request, response, user, actorOf(response))) {
      security.note("session.ended", {
        address: clientAddress(request, config.trustProxy),
        userId: user.id,
        what: "log-in",
      });
      ended(sid);
    }
  };

  // -> `{people:[{username,password}]}`: the demo log-ins, without a session; none where demo data do not belong
  router.get("/demo", async (_request, response) => {
    response.json({ people: await parts.demo() });
  });
  // {username,password,invite?} -> 201 `{id,username,role?}`, signed in; 409 taken; 403 without a valid `invite` if
  // sign-up is not open. The first person of an empty server is its `owner`
  router.post("/users", async (request, response) => {
    proxies.demandCookie(request);
    const asked = newUser.parse(request.body);
    const address = identity.senderOf(request);
    await throttle.take("signUp", address);
    const me = await chat.accounts.signUp(asked, address);
    const user = { id: me.id, username: me.username };
    await chat.users.feelAtHome(user.username, address);
    await enter(request, response, user);
    security.note("signup.done", { address: clientAddress(request, config.trustProxy), userId: user.id });
    response.status(201).json(me);
  });
  // {username,password} -> 200 `{id,username,displayName?,role?}` with a new session; 401, the same for an unknown name, a
  // wrong password and a disabled account
  router.post("/login", async (request, response) => {
    proxies.demandCookie(request);
    const { user, hash } = await logIn(parts, credentials.parse(request.body), identity.senderOf(request));
    await enter(request, response, user);
    // Whoever has changed the password since, or disabled the account, has ended the sessions that there were then.
    if (!(await chat.users.holds(user.id, hash))) {
      await sessions.end({ sid: request.sessionID, user });
      throw new ChatError("unauthorized", "Wrong username or password.");
    }
    await chat.accounts.finishFirst();
    security.note("login.done", { address: clientAddress(request, config.trustProxy), userId: user.id });
    response.json(await chat.accounts.me(user, (await chat.users.roleOf(user)) ?? "user"));
  });
  // -> 204; closes the session's connections on every replica
  router.post("/logout", async (request, response) => {
    const actor = demandActor(response);
    const address = clientAddress(request, config.trustProxy);
    // Also of a cookie that somebody has put beside ours: it would let its session in next.
    for (const sid of new Set([actor.sid, ...sessions.sidsOf(request)])) {
      const session = sid === actor.sid ? actor : await sessions.find(sid);
      if (session === undefined) continue;
      await sessions.end(session);
      security.note("session.ended", { address, userId: session.user.id });
      ended(sid);
    }
    sessions.clearCookie(response);
    // The cache holds pages that the browser keeps for its Back button. "cookies" would delete those of every service
    // on this domain, and "storage" the drafts of every user of this browser: the app clears its own.
    response.setHeader("Clear-Site-Data", '"cache"');
    response.status(204).end();
  });

  // -> 200 `{id,username,displayName?,role?}`; 401. `role` is `owner` or `admin` of the server
  router.get("/me", async (_request, response) => {
    const { user, role } = demandActor(response);
    response.json(await chat.accounts.me(user, role));
  });
  router.use(accountRoutes(parts));
  // ?after=&size= -> `[{id,username,displayName?,online}]`, by id
  // ?ids=1,2 -> the same for these ids
  // ?q=&after=&size= -> `{found,total,complete}`: the same for users with this text in their name, best matches first;
  // `after` is the last id of the previous page
  router.get("/users", async (request, response) => {
    const user = demandUser(response);
    if (request.query["ids"] !== undefined) {
      const ids = idsQuery.parse(request.query["ids"]);
      // Neither refused under load nor one at a time: a page needs them for each message.
      await parts.throttle.take("work", user.id, Math.ceil(ids.length / 10));
      response.json(await chat.people.find(ids));
    } else if (request.query["q"] !== undefined) {
      response.json(await search(parts, user, "users", request.query));
    } else {
      const { after, size } = listQuery.parse(request.query);
      await listed(parts, user, {
        read: () => chat.people.list(after, size),
        kb: ({ looked }) => looked / 2,
        answer: ({ found }) => response.json(found),
      });
    }
  });
  // -> `[{id,username,online}]`: everybody online
  router.get("/users/online", async (_request, response) => {
    await listed(parts, demandUser(response), {
      read: async () => {
        const people = await chat.people.online();
        return { json: listJson("[", await inTurns(people), "]"), people: people.length };
      },
      kb: ({ people }) => people / 10,
      answer: ({ json }) => sendJson(response, json),
    });
  });

  // ?q=&room=&from=&before=&after=&cursor= -> `{hits:[{message}],cursor?,until?}`: messages of my rooms with each word
  // of `q` somewhere in them, newest first; `from` is a user, `before` and `after` are dates; `cursor` continues the
  // search, also if there were no hits
  router.get("/search", async (request, response) => {
    await findMessages(parts, demandUser(response), request.query, response);
  });

  // ?before=&size= -> `{messages,more}`: messages that mention me in my rooms, newest first; `before` is a date, and those
  // of one date come on one page, if need be beyond `size`; it ends after 128 KB too
  router.get("/mentions", async (request, response) => {
    const user = demandUser(response);
    const asked = mentionsQuery.parse(request.query);
    await listed(parts, user, {
      most: PAGE_KB + 2 * (await chat.rooms.count(user.id)),
      read: async () => {
        const { messages, more, looked } = await chat.messages.listMentions(user, asked, turnOf(user));
        return { json: listJson(`{"more":${more},"messages":[`, messages, "]}"), looked };
      },
      kb: ({ json, looked }) => BOUNDS.messageKb.value + kbOf(json) + 2 * looked,
      answer: ({ json }) => sendJson(response, json),
    });
  });

  // -> mine: `[{id,kind,names,userIds?,private,last,seq,read,unread}]`, General first, then by newest message
  router.get("/rooms", async (_request, response) => {
    const user = demandUser(response);
    await listed(parts, user, {
      most: BOUNDS.messageKb.value * (await chat.rooms.count(user.id)),
      read: async () => {
        const rooms = await chat.rooms.list(user, turnOf(user));
        return { json: listJson("[", rooms, "]"), rooms: rooms.length };
      },
      // A room takes some commands, and brings its last message.
      kb: ({ json, rooms }) => 2 * rooms + kbOf(json),
      answer: ({ json }) => sendJson(response, json),
    });
  });
  // ?after=&size= -> all open rooms, and my invite rooms: `[{id,kind,name,members,joined}]`
  // ?q=&after=&size= -> the same rooms by any part of their name, in the form of `GET /api/users?q=`
  router.get("/rooms/directory", async (request, response) => {
    const user = demandUser(response);
    if (request.query["q"] !== undefined) {
      response.json(await search(parts, user, "rooms", request.query));
    } else {
      const { after, size } = listQuery.parse(request.query);
      await listed(parts, user, {
        read: () => chat.rooms.directory(user, after, size),
        // A room takes four commands.
        kb: ({ looked }) => 2 * looked,
        answer: ({ found }) => response.json(found),
      });
    }
  });
  // {name,kind?,topic?} -> 201 the new room, joined and mine; 409 taken. `kind` is `open` or `invite`; an invite room
  // does not exist for others
  router.post("/rooms", async (request, response) => {
    const user = demandUser(response);
    const asked = newRoom.parse(request.body);
    await throttle.take("room", user.id);
    response.status(201).json(await chat.rooms.create(user, asked));
  });
  // {userId} -> 201 (200 if I had it) the 1:1 room, the same for both
  router.post("/rooms/private", async (request, response) => {
    const user = demandUser(response);
    await throttle.take("privateRoom", user.id);
    const { room, created } = await chat.rooms.startPrivate(user, newPrivateRoom.parse(request.body).userId);
    response.status(created ? 201 : 200).json(room);
  });
  // {name?,kind?,topic?,slow?,archived?} -> the room, changed: see docs/rights.md; `slow` is in seconds
  router.patch("/rooms/:id", async (request, response) => {
    const user = demandUser(response);
    const patch = roomPatch.parse(request.body);
    await throttle.take(patch.name === undefined ? "moderation" : "room", user.id);
    response.json(await chat.rooms.change(user, roomIdOf(request), patch));
  });
  // ?after=&size= -> its members, by id: `[{id,username,role,mutedUntil?}]`
  router.get("/rooms/:id/members", async (request, response) => {
    const user = demandUser(response);
    const { after, size } = listQuery.parse(request.query);
    await listed(parts, user, {
      most: size,
      read: () => chat.moderation.list(user, roomIdOf(request), after, size),
      kb: ({ looked }) => size + looked / 100,
      answer: ({ found }) => response.json(found),
    });
  });
  // {role?,mutedUntil?} -> the member, added or changed; `mutedUntil` is in ms, and 0 ends it
  router.put("/rooms/:id/members/:userId", async (request, response) => {
    const user = demandUser(response);
    const patch = memberPatch.parse(request.body);
    await throttle.take("moderation", user.id);
    response.json(
      await chat.moderation.change(user, roomIdOf(request), demandUserId(request.params.userId), patch),
    );
  });
  // -> 204, removed; of myself the same as leaving
  router.delete("/rooms/:id/members/:userId", async (request, response) => {
    const user = demandUser(response);
    await throttle.take("moderation", user.id);
    await chat.moderation.remove(user, roomIdOf(request), demandUserId(request.params.userId));
    response.status(204).end();
  });
  // -> who may not come back: `[{id,username,by,at,until?}]`
  router.get("/rooms/:id/bans", async (request, response) => {
    const user = demandUser(response);
    await listed(parts, user, {
      read: () => chat.moderation.bans(user, roomIdOf(request)),
      kb: ({ length }) => 1 + length / 2,
      answer: (bans) => response.json(bans),
    });
  });
  // {until?} -> 204, removed and kept out, for ever or until a moment in ms
  router.put("/rooms/:id/bans/:userId", async (request, response) => {
    const user = demandUser(response);
    const { until } = newBan.parse(optionalBody(request));
    await throttle.take("moderation", user.id);
    await chat.moderation.ban(user, roomIdOf(request), demandUserId(request.params.userId), until);
    response.status(204).end();
  });
  // -> 204, may come back
  router.delete("/rooms/:id/bans/:userId", async (request, response) => {
    const user = demandUser(response);
    await throttle.take("moderation", user.id);
    await chat.moderation.liftBan(user, roomIdOf(request), demandUserId(request.params.userId));
    response.status(204).end();
  });
  // {expires?,uses?} -> 201 `{code,url,by,created,expires,uses?,used}`, an invite link, for a week unless `expires`, in ms,
  // says otherwise, and for so many people; one to General is to the server
  router.post("/rooms/:id/invites", async (request, response) => {
    const user = demandUser(response);
    const asked = newInvite.parse(optionalBody(request));
    await throttle.take("moderation", user.id);
    const invite = await chat.invites.create(user, roomIdOf(request), asked);
    response.status(201).json(linked(request, config, invite));
  });
  // -> `[{code,url,by,created,expires,uses?,used}]`, newest first
  router.get("/rooms/:id/invites", async (request, response) => {
    const user = demandUser(response);
    await listed(parts, user, {
      read: () => chat.invites.list(user, roomIdOf(request)),
      kb: ({ length }) => 1 + length,
      answer: (invites) => response.json(invites.map((invite) => linked(request, config, invite))),
    });
  });
  // -> what it leads to, without a session too: `{roomId,kind,name,by:{id,username},expires}`; 404 once it lets nobody in
  router.get("/invites/:code", async (request, response) => {
    response.json(await chat.invites.look(codeOf(request)));
  });
  // -> the room, joined; who left it since, or was removed, takes one more of its places
  router.post("/invites/:code", async (request, response) => {
    const user = demandUser(response);
    response.json(await chat.invites.use(user, codeOf(request)));
  });
  // -> 204, ended
  router.delete("/invites/:code", async (request, response) => {
    await chat.invites.revoke(demandUser(response), codeOf(request));
    response.status(204).end();
  });
  // {roomId,seq,reason?} -> 204, told to the room's moderators and the server's admins
  router.post("/reports", async (request, response) => {
    const user = demandUser(response);
    const asked = newReport.parse(request.body);
    await throttle.take("report", user.id);
    await chat.reports.add(user, asked);
    response.status(204).end();
  });
  // -> `[{id,roomId,seq,by,at,reason?,state,message}]`, newest first
  router.get("/rooms/:id/reports", async (request, response) => {
    const user = demandUser(response);
    await sendReports(response, () => chat.reports.ofRoom(user, roomIdOf(request), LIMITS.page));
  });
  // {state:"done"} -> 204, looked at
  router.post("/reports/:roomId/:seq", async (request, response) => {
    const user = demandUser(response);
    reportState.parse(request.body);
    await throttle.take("moderation", user.id);
    const { roomId, seq: asked } = request.params;
    if (!isRoomId(roomId) || !/^[1-9]\d{0,15}$/.test(asked))
      throw new ChatError("not_found", "There is no such report.");
    await chat.reports.close(user, roomId, Number(asked));
    response.status(204).end();
  });
  // -> the open reports of all rooms, for admins
  router.get("/admin/reports", async (_request, response) => {
    const user = demandUser(response);
    await sendReports(response, () => chat.reports.all(user, LIMITS.page));
  });
  // ?before=&size= -> `[{id,at,by,what,roomId?,userId?,seq?,detail?,refused?}]`, newest first; `before` is the id of an entry
  router.get("/rooms/:id/audit", async (request, response) => {
    const { before, size } = auditQuery.parse(request.query);
    const user = demandUser(response);
    const read = () => chat.reports.auditOfRoom(user, roomIdOf(request), before, size);
    await listed(parts, user, { read, kb: () => size, answer: (entries) => response.json(entries) });
  });
  // ?before=&size= -> the same of the whole server, for admins; those of one id come on one page, if need be beyond `size`
  router.get("/admin/audit", async (request, response) => {
    const { before, size } = auditQuery.parse(request.query);
    const user = demandUser(response);
    const read = () => chat.reports.auditOfAll(user, before, size);
    await listed(parts, user, { read, kb: () => size, answer: (entries) => response.json(entries) });
  });
  // {level} -> the room; `level` says what notifies me there: `all`, `mentions` or `nothing`
  router.put("/rooms/:id/notifications", async (request, response) => {
    const user = demandUser(response);
    const { level } = notifications.parse(request.body);
    response.json(await chat.rooms.setNotify(user, roomIdOf(request), level));
  });
  // -> `{people}`: how many a message with `@room` reaches, myself too
  router.get("/rooms/:id/audience", async (request, response) => {
    const user = demandUser(response);
    await listed(parts, user, {
      read: () => chat.rooms.countPeople(user, roomIdOf(request)),
      kb: (people) => 1 + people / 100,
      answer: (people) => response.json({ people } satisfies Audience),
    });
  });
  // {folded?,favourite?,hidden?,seq?} -> the room; each `true` or `false`: whether I see answers in their threads alone,
  // the room on top of my list, and a direct room not before its next message; `seq` is the newest message that I knew
  router.put("/rooms/:id/view", async (request, response) => {
    const user = demandUser(response);
    const view = roomView.parse(request.body);
    response.json(await chat.rooms.setView(user, roomIdOf(request), view));
  });
  // ?before=&after=&size= -> `{messages,more,rev,revHash}`, oldest first; `before` and `after` are dates. A page ends
  // after 128 KB: `more` tells whether there are more, not the number of messages
  // ?around=SEQ&size= -> the same around this message, with `newer` beside `more`: whether there are newer ones, and
  // older ones; 404 if it is not in the log
  // ?at=MS&size= -> the same from this moment on; the newest page if nothing was said since
  // ?thread=SEQ&before=&after=&size= -> the thread of this message: its answers, and before the oldest one the message
  // that they answer; 404 if it is not in the log
  // ?pinned=true&cursor=&size= -> the messages pinned last, in the order of pinning; if there were others before, with
  // `cursor`, which asks for those
  // ?threads=true and any of these -> with `threads` beside: of each message on the page that begins a thread
  // `{seq,count,last:{seq,date,from}}`, without deleted answers
  router.get("/rooms/:id/messages", async (request, response) => {
    const user = demandUser(response);
    const roomId = roomIdOf(request);
    await readPage(parts, user, roomId, request.query, (page) => sendJson(response, page));
  });
  // -> the whole history as one HTML file
  router.get("/rooms/:id/transcript", async (request, response) => {
    const user = demandUser(response);
    const roomId = roomIdOf(request);
    load.demand("history");
    await throttle.queue("transcript", user.id, async () => {
      const chunks = await chat.messages.transcript(user, roomId);
      response.type("html").attachment("transcript.html");
      identity.watch(request, response, () => chat.rooms.demand(user, roomId, "read"));
      await pipeline(await paidFor(chunks, throttle, user.id), response);
    });
  });
  return router;
}

/**
 * Logs a user in. An attempt is paid for before its hash is computed, so that concurrent attempts cannot exceed the
 * budget; a success gives the points of wrong passwords back.
 */
async function logIn(
  { chat, throttle }: RestParts,
  asked: Credentials,
  address: string,
): Promise<{ user: User; hash: string }> {
  const { users } = chat;
  const name = asked.username.toLowerCase();
  const wrong = (await users.isAtHome(name, address))
    ? (["logInHome", `${name}@${address}`] as const)
    : (["logInName", name] as const);
  const costs = [["logInAddress", address] as const, wrong, ["logIn", name] as const];
  // Refuses most of those over the limit without waiting for a hash.
  for (const [what, who] of costs) await throttle.check(what, who);
  const paid: typeof costs = [];
  const giveBack = (...kept: (typeof costs)[number][0][]) => {
    const back = paid.filter(([what]) => !kept.includes(what));
    return Promise.all(back.map(([what, who]) => throttle.giveBack(what, who)));
  };
  const pay = async (): Promise<void> => {
    for (const [what, who] of costs) {
      paid.push([what, who] as (typeof costs)[number]);
      await throttle.take(what, who);
    }
  };
  const found = await users.logIn(asked, address, pay).catch(async (error: unknown) => {
    const isWrong = error instanceof ChatError && error.code === "unauthorized";
    await (isWrong ? giveBack("logInAddress", wrong[0]) : giveBack());
    throw error;
  });
  await giveBack("logIn");
  await users.feelAtHome(name, address);
  return found;
}

function health({ config, ready, metrics, security }: RestParts): Router {
  // Exact paths only: another spelling must not get around a proxy that denies a path.
  const router = Router({ strict: true, caseSensitive: true });
  // -> 200 alive
  router.get("/healthz", (_request, response) => {
    response.json({ status: "ok" });
  });
  // -> 200 while Redis takes writes and the replica takes connections, with `warnings` if there are any; else 503
  router.get("/readyz", async (_request, response) => {
    const warnings = await ready();
    response.json({ status: "ok", ...(warnings.length > 0 && { warnings }) });
  });
  // -> Prometheus text of the replica, of all `WORKERS` together: on `METRICS_PORT` if set; else here with
  // `METRICS_TOKEN`; else 404; see `docs/grafana.json`
  router.get("/metrics", async (request, response, next) => {
    // With a port of their own, metrics are only there.
    if (!config.metricsToken || config.metricsPort !== undefined) return next();
    if (!hasToken(request.headers.authorization, config.metricsToken)) {
      security.note("metrics.refused", { address: clientAddress(request, config.trustProxy) });
      response.setHeader("WWW-Authenticate", "Bearer");
      throw new ChatError("unauthorized", "Send the token of the metrics.");
    }
    response.setHeader("Content-Type", METRICS_TYPE);
    response.end(await metrics.text());
  });
  return router;
}

/** helmet's headers are the same for every answer: computed once, on an answer that is not sent. */
function securityHeaders(https: boolean): Map<string, string> {
  const request = new IncomingMessage(new Socket());
  const response = new ServerResponse(request);
  const setHeaders = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:"],
        "media-src": ["'self'", "blob:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
      },
    },
    strictTransportSecurity: https,
  });
  setHeaders(request, response, () => undefined);
  return new Map(Object.entries(response.getHeaders()).map(([name, value]) => [name, String(value)]));
}

/** Throws for what is no UTF-8: each wrong byte would be read as U+FFFD, and two passwords could be the same. */
function demandUtf8(_request: unknown, _response: unknown, body: Buffer, charset: string): void {
  if (charset !== "utf-8" || !isUtf8(body)) throw new Error("no UTF-8");
}

/** Throws for half a character, also in a field's name and in what no schema knows. */
function demandWhole(name: string, value: unknown): unknown {
  if (!isWhole(name) || (typeof value === "string" && !isWhole(value))) throw new Error("half a character");
  return value;
}

/** The body of a request that may have none. Throws `invalid` for one that is no JSON: it would count as none. */
function optionalBody(request: Request<{ id: string }>): unknown {
  if (request.body === undefined && hasBody(request) && Number(request.get("content-length")) !== 0)
    throw new ChatError("invalid", "The body must be JSON, with its Content-Type.");
  return request.body ?? {};
}

function roomIdOf(request: Request<{ id: string }>): RoomId {
  const { id } = request.params;
  if (!isRoomId(id)) throw new ChatError("invalid", "This is no room id.");
  return id;
}

function codeOf(request: Request<{ code: string }>): string {
  return inviteCode.parse(request.params.code);
}

/** An invite with its link. */
function linked(
  request: Request,
  config: Config,
  { code, by, created, expires, uses, used }: StoredInvite,
): Invite {
  const url = `${pageAddress(request, config)}/#/invite/${code}`;
  return { code, url, by, created, expires, ...(uses !== undefined && { uses }), used };
}

function demandUser(response: Response): User {
  return demandActor(response).user;
}
