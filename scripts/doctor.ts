import { request as requestHttp, type IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { pino } from "pino";
import {
  checkClient,
  checkEnvironment,
  checkProcess,
  checkRedis,
  sentenceOf,
  type Finding,
} from "../server/src/store/checks.ts";
import { addressOf, type Config } from "../server/src/config.ts";
import { INVENTED } from "../server/src/doors/proxies.ts";
import { addressKey } from "../server/src/doors/throttle.ts";
import { systemCode, wordsOf } from "../server/src/errors.ts";
import { createKeys, type Keys } from "../server/src/keys.ts";
import type { Credentials } from "../server/src/protocol.ts";
import { createBlobs, STORE_CURE, tryStore } from "../server/src/store/blobs.ts";
import { isRecord, parseJson } from "../server/src/store/json.ts";
import { connectRedis, type RedisClient } from "../server/src/store/redis.ts";
import { infoField, wordsInUse } from "../server/src/store/redisReach.ts";
import { checkRights } from "../server/src/store/rights.ts";
import { readSchema } from "../server/src/store/schema.ts";
import { readCommandConfig } from "./dataFolder.ts";
import { demoPeople } from "./demo.ts";
import { orHelp } from "./prepare.mjs";
import { findOwnRedis } from "./redis.ts";

const HELP = `npm run doctor [-- --url https://chat.example.org] [--json]

Looks at what a start would look at (environment, open files, Redis), at the store of files, and at a replica that
runs: at the address that people use, where --url gives it, or else on this machine's PORT. It signs nobody up. It logs
in once as nobody, to see which address the server takes it for (login.failed in the server's log), and once as a demo
person, where there is one, to see the cookie.

Ends with 0 where nothing is wrong, 1 with warnings, 69 with what a start would refuse.`;

/** How long Redis' memory is watched, and how long a request may take until it is answered whole. */
const WATCH_MS = 3_000;
const ANSWER_MS = 5_000;
/** Clocks that differ more confuse logs and certificates; Hubbub itself does not depend on them. */
const CLOCK_MS = 2_000;

const REDIS_CURE = "docs/redis.md says more";

const silent = pino({ level: "silent" });

/** `npm run doctor` */
export async function main(args: string[]): Promise<number> {
  const asked = readArguments(args);
  if (asked === "help") {
    console.log(HELP);
    return 0;
  }
  const found = await examine(process.env, asked.url);
  if (asked.json) console.log(JSON.stringify(found, null, 2));
  else for (const finding of found) console.log(`${finding.level.padEnd(6)}  ${sentenceOf(finding)}`);
  if (found.some(({ level }) => level === "refuse")) return 69;
  return found.some(({ level }) => level === "warn") ? 1 : 0;
}

function readArguments(args: string[]): { url?: string; json: boolean } | "help" {
  return orHelp(HELP, () => {
    const options = {
      url: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    } as const;
    const { values } = parseArgs({ args, options });
    if (values.help) return "help";
    const { url } = values;
    if (url !== undefined && !(URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)))
      throw new Error("--url takes an address with http:// or https://.");
    if (url !== undefined && !/^\w+:\/\/[^/?#]+\/?$/.test(url))
      throw new Error(
        "--url takes no path: Hubbub needs a host name of its own, as https://chat.example.org.",
      );
    return { ...(url && { url: new URL(url).origin }), json: values.json ?? false };
  });
}

/** All findings, in the order of a start. */
export async function examine(env: NodeJS.ProcessEnv, url: string | undefined): Promise<Finding[]> {
  const found: Finding[] = [...checkProcess()];
  let config: Config | undefined;
  try {
    config = readCommandConfig(env, await findOwnRedis(env).catch(() => ""));
  } catch (error) {
    found.push(refusal("environment", error, "correct it: docs/configuration.md lists every variable"));
  }
  found.unshift(...checkEnvironment(env, config));
  if (!config) return found;
  found.push(...checkClient(config));
  const keys = createKeys(config.keyPrefix);
  let redis: RedisClient | undefined;
  try {
    redis = await connectRedis(config.redisUrl, "commands", silent);
    const rights = await checkRights(redis, config, keys);
    found.push(...rights);
    // Without them the others fail, and do not say why.
    if (rights.length === 0) {
      const asked = [...(await checkClockAndMemory(redis)), ...(await checkStored(redis, keys))];
      // Last of all, as it may renew the connection.
      found.push(...(await checkRedis(redis, config, keys)), ...asked);
    }
  } catch (error) {
    found.push(refusal("Redis", error, REDIS_CURE));
  }
  found.push(await checkFiles(config));
  const people = demoPeople(await redis?.get(keys.demo).catch(() => null));
  const points = async (address: string) =>
    Number(
      (await redis?.get(`${keys.limitPrefix}:logInAddress:${addressKey(address)}`).catch(() => null)) ?? 0,
    );
  const running = checkRunning(config, url, people, points, found).catch((error: unknown) => [
    refusal("replica", error, "it answered first and then no more: its log, or the proxy's, says why"),
  ]);
  found.push(...(await running));
  redis?.disconnect();
  return found;
}

/** Whether this version may use what is stored. Writes nothing. */
async function checkStored(redis: RedisClient, keys: Keys): Promise<Finding[]> {
  return readSchema(redis, keys).then(
    () => [],
    (error: unknown) => [refusal("Redis", error, REDIS_CURE)],
  );
}

function refusal(about: string, error: unknown, cure: string): Finding {
  return { level: "refuse", about, says: wordsInUse(error), cure };
}

/** Whether the store takes a file, and gives it back. */
async function checkFiles({ files }: Config): Promise<Finding> {
  const about = "files";
  const blobs = createBlobs(files.address, files.spool);
  const began = performance.now();
  try {
    await tryStore(blobs);
    const took = Math.round(performance.now() - began);
    const says = `${blobs.shown} takes a file and gives it back, in ${took} ms`;
    return { level: "note", about, says, cure: "" };
  } catch (error) {
    return { level: "warn", about, says: wordsOf(error), cure: STORE_CURE };
  }
}

async function checkClockAndMemory(redis: RedisClient): Promise<Finding[]> {
  const found: Finding[] = [];
  const before = Date.now();
  const [seconds, microseconds] = await redis.time();
  const off = Number(seconds) * 1_000 + Number(microseconds) / 1_000 - (before + Date.now()) / 2;
  found.push(clock("Redis", off));
  const info = async () => {
    const text = await redis.info("memory").catch(() => "");
    const figure = (name: string) => Number(infoField(text, name) ?? Number.NaN);
    return {
      used: figure("used_memory"),
      limit: figure("maxmemory"),
      spread: figure("mem_fragmentation_ratio"),
    };
  };
  const first = await info();
  await sleep(WATCH_MS);
  const last = await info();
  const perDay = ((last.used - first.used) / WATCH_MS) * 86_400_000;
  const days = perDay > 0 && last.limit > 0 ? (last.limit - last.used) / perDay : Infinity;
  if (Number.isFinite(last.used)) {
    const growth = `${mib(last.used)} MiB used${last.limit > 0 ? ` of ${mib(last.limit)}` : ", without a limit"}, ${growthWords(perDay)}`;
    found.push({
      level: days < 1 ? "warn" : "note",
      about: "memory",
      says: `Redis: ${growth}${Number.isFinite(days) ? `, full in ${days.toFixed(1)} days` : ""}`,
      cure: "raise `maxmemory` before it is full; look again when people talk as they mostly do",
    });
  }
  // With little memory the ratio means nothing.
  if (last.spread > 1.5 && last.used > 100 * 1024 ** 2)
    found.push({
      level: "warn",
      about: "fragmentation",
      says: `Redis' memory is fragmented: the system gave it ${last.spread} times what it uses`,
      cure: "`activedefrag yes`, or restart Redis at a quiet hour",
    });
  return found;
}

function growthWords(perDay: number): string {
  const seconds = `these ${WATCH_MS / 1_000} s`;
  return perDay > 0 ? `${mib(perDay)} MiB more a day as in ${seconds}` : `no more after ${seconds}`;
}

const mib = (bytes: number) => Math.round(bytes / 1024 ** 2);

function clock(whose: string, off: number): Finding {
  const wrong = Math.abs(off) > CLOCK_MS;
  return {
    level: wrong ? "warn" : "note",
    about: "clock",
    says: wrong
      ? `${whose}'s clock is ${Math.round(Math.abs(off) / 1_000)} s ${off > 0 ? "ahead of" : "behind"} this machine's`
      : `${whose}'s clock agrees with this machine's`,
    cure: "let NTP set both",
  };
}

type Answer = { status: number; headers: IncomingMessage["headers"]; body: string; from: string };

/** The code of our own error when the other side takes a connection and then hangs. */
const HANGS = "HANGS";

type Asked = {
  method?: string;
  headers?: Record<string, string>;
  body?: unknown;
  /** Asks for a WebSocket. */
  upgrade?: boolean;
  localAddress?: string;
};

/** Sends one request. Throws the system's error, or one with the code HANGS. */
function ask(url: string, options: Asked = {}): Promise<Answer> {
  const body = options.body === undefined ? "" : JSON.stringify(options.body);
  const upgrade = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": Buffer.from("hubbub doctor 16").toString("base64"),
  };
  return new Promise((resolve, reject) => {
    const request = (url.startsWith("https:") ? requestHttps : requestHttp)(url, {
      method: options.method ?? "GET",
      agent: false,
      ...(options.localAddress && { localAddress: options.localAddress }),
      headers: {
        "x-forwarded-for": INVENTED,
        ...(body && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
        ...(options.upgrade && upgrade),
        ...options.headers,
      },
    });
    let from = "";
    request.once("socket", (socket) => socket.once("connect", () => (from = socket.localAddress ?? "")));
    // A timeout of the request's own would begin anew with each byte.
    AbortSignal.timeout(ANSWER_MS).addEventListener("abort", () => {
      const late = new Error(`no whole answer within ${ANSWER_MS} ms`);
      reject(Object.assign(late, { code: from === "" ? "ETIMEDOUT" : HANGS }));
      request.destroy();
    });
    request.once("error", reject);
    request.once("upgrade", ({ statusCode, headers }, socket) => {
      socket.destroy();
      resolve({ status: statusCode ?? 0, headers, body: "", from });
    });
    request.once("response", (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.once("error", reject);
      response.once("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text, from }),
      );
    });
    request.end(body);
  });
}

/** A replica, and the address at which people reach it, as what is sent to it says. */
type Running = {
  url: string;
  page: string;
  /** Whether what stands between people and the replica is asked too. */
  isThroughProxy: boolean;
  /** On this machine. */
  isLocal: boolean;
  ask: (path: string, options?: Asked) => Promise<Answer>;
};

/** Without a given address it is asked directly, and hears what its proxy would tell it: it may refuse anybody else. */
function runningAt(config: Config, given: string | undefined): Running {
  const isEverywhere = config.host === "0.0.0.0" || config.host === "::";
  const url = given ?? addressOf(isEverywhere ? "127.0.0.1" : config.host, config.port);
  const page = given ?? config.publicOrigins[0] ?? url;
  const { host, origin, protocol } = new URL(page);
  const isForwarded = given === undefined && protocol === "https:" && config.trustProxy > 0;
  const told = { host, origin, ...(isForwarded && { "x-forwarded-proto": "https" }) };
  return {
    url,
    page,
    isThroughProxy: given !== undefined,
    isLocal: /^(?:127\.|\[?::1|localhost)/.test(new URL(url).hostname),
    ask: (path, options) => ask(`${url}${path}`, { ...options, headers: { ...told, ...options?.headers } }),
  };
}

/** What Hubbub's own refusal says; undefined if another program answered. */
function fieldOf({ body }: Answer, field: "code" | "message"): string | undefined {
  const answer = parseJson(body);
  const value = isRecord(answer) ? answer[field] : undefined;
  return typeof value === "string" ? value : undefined;
}

/** What a replica that is ready warns of. */
function warningsOf({ status, body }: Answer): string[] {
  const answer = parseJson(body);
  const warnings: unknown = status === 200 && isRecord(answer) ? answer["warnings"] : [];
  return Array.isArray(warnings) ? warnings.map(String) : [];
}

async function checkRunning(
  config: Config,
  given: string | undefined,
  people: Credentials[],
  points: (address: string) => Promise<number>,
  told: readonly Finding[],
): Promise<Finding[]> {
  const running = runningAt(config, given);
  const { url, isLocal } = running;
  const found: Finding[] = [];
  const say = (level: Finding["level"], about: string, says: string, cure: string) =>
    found.push({ level, about, says, cure });
  let alive: Answer;
  try {
    alive = await running.ask("/healthz");
  } catch (error) {
    const why = systemCode(error) || String(error);
    // Before a start nothing listens here yet.
    const isUnstarted = given === undefined && why === "ECONNREFUSED";
    say(isUnstarted ? "note" : "refuse", "replica", ...whyUnread(url, why));
    return found;
  }
  if (alive.status !== 200 || !alive.body.includes('"ok"')) {
    say(
      "refuse",
      "replica",
      `what answers at ${url}/healthz is no replica (status ${alive.status})`,
      "look at the proxy's own log: which address does it pass requests on to?",
    );
    return found;
  }
  say("note", "replica", `a replica runs at ${url}`, "docs/operations.md says what to watch");
  const sent = Date.parse(alive.headers.date ?? "");
  if (Number.isFinite(sent)) found.push(clock("the server", Math.trunc((sent - Date.now()) / 1_000) * 1_000));

  const ready = await running.ask("/readyz");
  if (ready.status === 503) {
    const why = fieldOf(ready, "message");
    if (why === undefined)
      say(
        "refuse",
        "readiness",
        "/readyz is answered 503, and not by the server",
        "look at the proxy's own log: which address does it pass requests on to?",
      );
    else say("refuse", "readiness", `it is not ready: ${why}`, "docs/redis.md lists the reasons");
  }
  // Some of it, as that Redis was emptied while it ran, a start does not see.
  for (const warning of warningsOf(ready))
    if (!told.some((finding) => warning === `${sentenceOf(finding)}.`))
      say("warn", "readiness", `it warns: ${warning}`, "docs/operations.md says more");
  if (!isLocal && ready.status === 200)
    say(
      "warn",
      "readiness",
      "/readyz answers to everybody",
      "let the proxy answer 404 for /readyz and /metrics",
    );
  if (!isLocal && url.startsWith("http:"))
    say(
      "warn",
      "HTTPS",
      `${url} is not HTTPS: passwords go in the clear`,
      "a certificate on the proxy, and COOKIE_SECURE=on",
    );
  if (url.startsWith("https:") && !config.cookieSecure)
    say("warn", "COOKIE_SECURE", "people come by HTTPS, and COOKIE_SECURE is off", "COOKIE_SECURE=on");

  const socket = await running.ask("/socket.io/?EIO=4&transport=websocket", { upgrade: true });
  const own = fieldOf(socket, "code");
  if (socket.status === 101 || own === "unauthorized" || own === "forbidden" || own === "rate_limited")
    say("note", "WebSocket", "WebSockets reach the server", "nothing to do");
  else
    say(
      "warn",
      "WebSocket",
      `no WebSocket reaches the server (status ${socket.status}): nobody can chat`,
      "let the proxy pass Upgrade and Connection on, with HTTP/1.1 (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade)",
    );

  found.push(...(await checkAddress(config, running, points)));
  found.push(...(await checkCookie(config, running, people)));
  return found;
}

/** What is wrong, and what to do, if there is no HTTP answer. */
function whyUnread(url: string, why: string): [says: string, cure: string] {
  if (why === "EPROTO" || why.startsWith("ERR_SSL_"))
    return [
      `what answers at ${url} does not speak HTTPS (${why})`,
      "give the proxy in front a certificate, or ask with http://",
    ];
  if (/CERT|SIGNATURE/.test(why))
    return [
      `what answers at ${url} has a certificate that this machine does not accept (${why})`,
      "a certificate for this name from a known authority, or NODE_EXTRA_CA_CERTS",
    ];
  if (why === HANGS)
    return [
      `something listens at ${url}, and does not answer within ${ANSWER_MS / 1_000} s: it hangs`,
      "look whether its process is stopped or busy, and at its log; then start it again",
    ];
  if (why.startsWith("HPE_"))
    return [`what answers at ${url} does not speak HTTP (${why})`, "ask with https://, or at another port"];
  return [
    `nothing answers at ${url} (${why})`,
    "start it, or say where it is: npm run doctor -- --url https://chat.example.org",
  ];
}

/**
 * Whether the server takes the address for its own; and, through the proxy, under which address it counts us, by the
 * attempts that it counts for each. Asked directly, it believes us as it would believe its proxy.
 */
async function checkAddress(
  config: Config,
  { url, page, isThroughProxy, isLocal, ask: askIt }: Running,
  points: (address: string) => Promise<number>,
): Promise<Finding[]> {
  const say = (level: Finding["level"], says: string, cure: string): Finding[] => [
    { level, about: "X-Forwarded-For", says, cure },
  ];
  // From this machine to itself, with a source address that no proxy would have.
  const localAddress =
    isLocal && process.platform === "linux" && !url.includes("[") ? "127.0.0.9" : undefined;
  const loopbacks = ["127.0.0.1", "::1"];
  const before = await Promise.all([...loopbacks, INVENTED].map(points));
  const ours = localAddress ?? "";
  const oursBefore = ours ? await points(ours) : 0;
  const answer = await askIt("/api/login", {
    method: "POST",
    body: { username: "nobody.doctor", password: "no such password" },
    ...(localAddress && { localAddress }),
  });
  if (fieldOf(answer, "code") === "forbidden")
    return [
      {
        level: "warn",
        about: "Host",
        says: `the server does not take ${page} for its own address: log-ins and WebSockets are refused`,
        cure: "let the proxy pass Host on (nginx: proxy_set_header Host $http_host, which keeps the port), or set PUBLIC_URL",
      },
    ];
  if (answer.status !== 401 || !config.rateLimits) return [];
  if (!isThroughProxy)
    return say(
      "note",
      "what the proxy says of people's addresses was not looked at",
      "ask through it: npm run doctor -- --url https://chat.example.org",
    );
  const after = await Promise.all([...loopbacks, INVENTED].map(points));
  const [four, six, invented] = after.map((count, index) => count > (before[index] ?? 0));
  if (invented)
    return say(
      "warn",
      "the server believes the address that anybody writes into X-Forwarded-For: limits can be passed by",
      "lower TRUST_PROXY to the number of proxies, and let the first of them replace the header",
    );
  if ((four || six) && !loopbacks.includes(answer.from.replace("::ffff:", "")))
    return say(
      "warn",
      "the server takes everybody for its proxy: all share one address' limits",
      "let the proxy set X-Forwarded-For, and TRUST_PROXY be the number of proxies",
    );
  const seen = ours !== "" && (await points(ours)) > oursBefore;
  return say(
    "note",
    seen
      ? "the server sees where people come from"
      : "the server counts us under an address that is not seen from here",
    "TRUST_PROXY is the number of proxies in front",
  );
}

async function checkCookie(
  config: Config,
  { ask: askIt }: Running,
  people: Credentials[],
): Promise<Finding[]> {
  const say = (level: Finding["level"], says: string, cure: string): Finding[] => [
    { level, about: "cookie", says, cure },
  ];
  const [person] = people;
  if (!person)
    return say(
      "note",
      "the cookie was not looked at, for there are no demo people",
      "log in with a browser and look at its attributes",
    );
  const answer = await askIt("/api/login", { method: "POST", body: person });
  if (answer.status !== 200 && fieldOf(answer, "code") === undefined)
    return say(
      "warn",
      `a log-in is answered ${answer.status}, and not by the server`,
      "look at the proxy's log",
    );
  if (answer.status !== 200)
    return say(
      answer.status === 500 ? "warn" : "note",
      `a demo person cannot log in (${fieldOf(answer, "code")})`,
      "the server's log says why; for HTTPS in front it needs X-Forwarded-Proto and TRUST_PROXY",
    );
  const [cookie = ""] = answer.headers["set-cookie"] ?? [];
  if (cookie === "")
    return say(
      "warn",
      "a log-in sets no cookie: nobody stays logged in",
      "let the proxy set X-Forwarded-Proto to https, and TRUST_PROXY be the number of proxies",
    );
  await askIt("/api/logout", { method: "POST", headers: { cookie: cookie.split(";")[0] ?? "" } });
  const wanted = ["HttpOnly", "SameSite=Lax", "Path=/", ...(config.cookieSecure ? ["Secure"] : [])];
  const missing = wanted.filter((attribute) => !cookie.toLowerCase().includes(attribute.toLowerCase()));
  return missing.length > 0
    ? say("warn", `the cookie lacks ${missing.join(", ")}`, "let the proxy leave Set-Cookie as it is")
    : say("note", `the cookie has ${wanted.join(", ")}`, "nothing to do");
}
