import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import type { Logger } from "pino";
import { framesOf, reasonOf } from "./errors.ts";
import type { Metrics } from "./metrics.ts";

/**
 * The security log: one line for each event, for people who look back and for programs that ban addresses
 * (docs/fail2ban.conf). The names are stable, and docs/operations.md explains them. A line holds the event, an
 * address, a user's id and a word of ours, and never typed text: no name, no password, no session id, no message.
 */
const EVENTS = {
  "login.done": ["info", "logged in"],
  "login.failed": ["warn", "wrong name or password"],
  "login.limited": ["warn", "too many attempts to log in"],
  "signup.done": ["info", "signed up"],
  "signup.limited": ["warn", "too many attempts to sign up"],
  "origin.refused": ["warn", "a browser came from another site's page"],
  "session.ended": ["info", "a session was ended"],
  "request.limited": ["warn", "too many requests"],
  "metrics.refused": ["warn", "asked for the metrics without their token"],
  "connection.limited": ["warn", "too many connections"],
  "connection.cut": ["warn", "a connection was cut for what it did"],
  "overload.shed": ["warn", "work was turned away because there is too much of it"],
  contained: ["warn", "an unexpected error ended one request or connection"],
} as const satisfies Record<string, readonly ["info" | "warn", string]>;

export type SecurityEvent = keyof typeof EVENTS;
export const SECURITY_EVENTS = Object.keys(EVENTS) as SecurityEvent[];

/** The places that catch unexpected errors. */
const PLACES = [
  "announcement",
  "answer",
  "connection",
  "delivery",
  "disconnection",
  "event",
  "frame",
  "handshake",
  "look",
  "order",
  "request",
] as const;
export type Place = (typeof PLACES)[number];

/** `what` is a constant of ours: the name of a limit, a kind of load, a place in the code. */
export type Who = { address?: string | undefined; userId?: string | undefined; what?: string | undefined };

export type Security = {
  /** Counts an event and writes its line, unless there are too many: then the number left out is written later. */
  note: (event: SecurityEvent, who: Who) => void;
  /**
   * Counts an unexpected error of the service to one client, and logs where it happened. The caller ends only that
   * client's request or connection.
   */
  contain: (place: Place, error: unknown, who?: Omit<Who, "what">) => void;
  /** Writes the numbers of lines that were left out. */
  close: () => void;
};

const WINDOW_MS = 1_000;
/** Lines of one event and one address in a window. */
const LINES_EACH = 5;
/** Lines of one event in a window, for all addresses: an attacker may have many. */
const LINES_ALL = 50;

export function createSecurity(metrics: Metrics, log: Logger): Security {
  for (const event of SECURITY_EVENTS) metrics.securityEvents.inc({ event }, 0);
  for (const place of PLACES) metrics.contained.inc({ place }, 0);
  /** By event, and by event and address; LINES_ALL bounds the entries of each event. */
  const windows = new Map<
    string,
    { event: SecurityEvent; address?: string; lines: number; leftOut: number }
  >();
  let timer: NodeJS.Timeout | undefined;

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    for (const { event, address, leftOut } of windows.values()) {
      if (leftOut === 0) continue;
      const [level] = EVENTS[event];
      log[level]({ event, ...(address !== undefined && { address }), leftOut }, "lines left out");
    }
    windows.clear();
  }

  /** Whether one more line is allowed; counts it in any case. */
  function allow(key: string, event: SecurityEvent, address: string | undefined, max: number): boolean {
    let window = windows.get(key);
    if (!window) {
      window = { event, ...(address !== undefined && { address }), lines: 0, leftOut: 0 };
      windows.set(key, window);
    }
    if (window.lines >= max) {
      window.leftOut += 1;
      return false;
    }
    window.lines += 1;
    return true;
  }

  /** Answers whether the line was written. */
  function note(event: SecurityEvent, { address, userId, what }: Who): boolean {
    metrics.securityEvents.inc({ event });
    timer ??= setTimeout(flush, WINDOW_MS).unref();
    const whole = windows.get(event);
    const full = whole !== undefined && whole.lines >= LINES_ALL;
    if (!full && address !== undefined && !allow(`${event} ${address}`, event, address, LINES_EACH))
      return false;
    if (!allow(event, event, undefined, LINES_ALL)) return false;
    const [level, words] = EVENTS[event];
    // The address follows the event: filters rely on that order.
    const line = {
      event,
      ...(address !== undefined && { address }),
      ...(userId !== undefined && { userId }),
      ...(what !== undefined && { what }),
    };
    log[level](line, words);
    return true;
  }

  return {
    note: (event, who) => void note(event, who),
    contain(place, error, who = {}) {
      metrics.contained.inc({ place });
      if (note("contained", { ...who, what: place }))
        log.error({ place, reason: reasonOf(error), stack: framesOf(error) }, "an unexpected error");
    },
    close: flush,
  };
}

/**
 * The address of a request's sender, equal to Express' `request.ip` for the same number of trusted proxies, for
 * requests that bypass Express. A forwarded value that is no address (with or without a port) is not trusted: then it
 * is the peer's own address.
 */
export function clientAddress(request: IncomingMessage, trustProxy: number): string {
  // Node takes the socket from a request whose body is broken off.
  const { socket } = request as { socket: IncomingMessage["socket"] | null };
  const peer = socket?.remoteAddress ?? "unknown";
  if (trustProxy === 0) return plain(peer);
  const header = String(request.headers["x-forwarded-for"] ?? "");
  const hops = [
    peer,
    ...header
      .split(",")
      .map((hop) => hop.trim())
      .filter(Boolean)
      .toReversed(),
  ];
  const hop = hops[Math.min(trustProxy, hops.length - 1)] ?? peer;
  const bare = /^\[(.*)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
  return plain(isIP(bare) ? bare : peer);
}

function plain(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice("::ffff:".length) : address;
}
