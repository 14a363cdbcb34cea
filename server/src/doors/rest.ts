import { isUtf8 } from "node:buffer";
import { IncomingMessage, ServerResponse, type RequestListener } from "node:http";
import { Socket } from "node:net";
import { parse } from "node:querystring";
import express, { Router, type ErrorRequestHandler, type Response } from "express";
import expressStaticGzip from "express-static-gzip";
import helmet from "helmet";
import type { Logger } from "pino";
import type { Chat } from "../chat/chat.ts";
import type { Config } from "../config.ts";
import { ChatError, systemCode } from "../errors.ts";
import type { Load } from "../load.ts";
import { METRICS_TYPE, hasToken, type LOGIN_OUTCOMES, type Metrics } from "../metrics.ts";
import { LIMITS, isRoomId, type Credentials, type ErrorCode, type RoomId, type UserId } from "../protocol.ts";
import { clientAddress, type Security, type SecurityEvent } from "../security.ts";
import { accountRoutes } from "./accounts.ts";
import { JSON_TYPE } from "./answers.ts";
import { refusalOf, toFailure } from "./failure.ts";
import { isWhole } from "./fields.ts";
import { fileRoutes } from "./files.ts";
import { isRead, type Identity } from "./identity.ts";
import { PAGE_ROUTE, messageRoutes, readPage } from "./messages.ts";
import { peopleRoutes } from "./people.ts";
import { createProxies, type Proxies } from "./proxies.ts";
import { roomRoutes } from "./rooms.ts";
import type { Sessions } from "./session.ts";
import { signInRoutes } from "./signIn.ts";
import type { Throttle } from "./throttle.ts";
import { hasBody } from "./transport.ts";

const NEVER_KEPT = ["Cache-Control", "no-store"] as const;

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

/** With the headers of every answer. */
type Door = RestParts & { headers: Map<string, string> };

/** The HTTP door: the API, the health routes and the built client. */
export function createRest(given: RestParts): RequestListener {
  const { config } = given;
  const headers = securityHeaders(config.cookieSecure);
  const parts: Door = { ...given, headers };
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
  // Else each router answers OPTIONS by itself: with its own methods of a path alone, and for what is switched off.
  app.use((request, _response, next) => {
    if (request.method === "OPTIONS") throw new ChatError("not_found", "There is nothing here.");
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
  return comeIn(parts, proxies, app);
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

/** What a refusal keeps of what was set before, beside the headers of every answer: all others were for another answer. */
const OF_REFUSALS = new Set(["set-cookie", "www-authenticate"]);

/** Answers with a failure, with or without Express. Nothing comes after it: it must not throw. */
function refuse(error: unknown, request: Asked, response: ServerResponse, parts: Door): void {
  try {
    answerRefusal(error, request, response, parts);
  } catch (fault) {
    parts.security.contain("request", fault);
    response.destroy();
  }
}

function answerRefusal(error: unknown, request: Asked, response: ServerResponse, parts: Door): void {
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
  const { status, headers, body } = refusalOf(failure, error);
  for (const name of response.getHeaderNames()) if (!OF_REFUSALS.has(name)) response.removeHeader(name);
  response.setHeaders(parts.headers);
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

/**
 * The path of a page as clients write it: the room's id, and the query. Any other spelling is left to Express, which
 * may read it differently.
 */
const PAGE = /^\/api\/rooms\/(\d+(?:(?::|%3A)\d+)?)\/messages(?:\?([!"$-~]*))?$/;

/** Express' application; it calls `next` for what it does not answer. */
type App = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void;

/**
 * Runs before Express. Requests of the API are let in here, before Express costs anything. Pages of messages are the
 * read that comes by the thousand, and Express costs several times as much as the page: plain `GET`s with a session
 * bypass it. `app` gets all others; its own route for pages gives the same answer, byte by byte.
 */
function comeIn(parts: Door, proxies: Proxies, app: App): RequestListener {
  const { identity, metrics, security, headers } = parts;
  const apiHeaders = new Map([...headers, NEVER_KEPT]);
  const pageHeaders = [...apiHeaders, ["Content-Type", JSON_TYPE]].flat();
  const fail = (error: unknown, request: Asked, response: ServerResponse) =>
    refuse(error, request, response, parts);
  // Express answers by itself, in its own words, what has no path that it can read.
  const pass = (request: Asked, response: ServerResponse): void =>
    app(request, response, (error?: unknown) =>
      fail(error ?? new ChatError("invalid", "The request cannot be read."), request, response),
    );
  const answer = async (
    request: Asked,
    response: ServerResponse,
    roomId: RoomId,
    query: string,
  ): Promise<void> => {
    const shown = await identity.shown(request, "request");
    if (!shown) return pass(request, response);
    request.route = { path: PAGE_ROUTE };
    try {
      // Both run at once; a page read for an account that is gone is discarded.
      const asking = identity.identify(request, "request");
      const reading = readPage(parts, shown.user, roomId, parse(query), async (page) => {
        if (!(await asking)) return;
        response.writeHead(200, [...pageHeaders, "Content-Length", String(page.length)]).end(page);
      });
      const [who] = await Promise.allSettled([asking, reading]);
      if (who.status === "fulfilled" && !who.value) return pass(request, response);
      await asking;
      await reading;
    } catch (error) {
      fail(error, request, response);
    }
  };
  const serve = async (request: Asked, response: ServerResponse): Promise<void> => {
    if (!isApi(request)) return pass(request, response);
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
    if (request.method !== "GET" || hasBody(request) || !isRoomId(roomId)) pass(request, response);
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

/** All routes under `/api`: those of files read their body themselves. */
function api(parts: Door, proxies: Proxies): Router {
  const { chat, identity } = parts;
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
  router.use((request, _response, next) => {
    // Only where a route reads it: most need none, and must not fail for it.
    if (request.body === undefined && hasBody(request) && Number(request.headers["content-length"]) !== 0)
      Object.defineProperty(request, "body", { get: noJson });
    else request.body ??= {};
    next();
  });

  router.use(signInRoutes(parts, proxies));
  router.use(accountRoutes(parts));
  router.use(peopleRoutes(parts));
  router.use(roomRoutes(parts));
  router.use(messageRoutes(parts));
  return router;
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

/** Throws for a body that would count as none. */
function noJson(): never {
  throw new ChatError("invalid", "The body must be JSON, with Content-Type: application/json.");
}

/** Throws for half a character, also in a field's name and in what no schema knows. */
function demandWhole(name: string, value: unknown): unknown {
  if (!isWhole(name) || (typeof value === "string" && !isWhole(value))) throw new Error("half a character");
  return value;
}
