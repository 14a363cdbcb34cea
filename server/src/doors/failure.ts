import type { Logger } from "pino";
import { ZodError } from "zod";
import { ChatError, isRedisAway, reasonOf, systemCode } from "../errors.ts";
import type { ErrorCode, Failure } from "../protocol.ts";
import type { Place, Security } from "../security.ts";
import { StoreFault } from "../store/blobs.ts";

export const STATUS: Record<ErrorCode, number> = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  muted: 403,
  archived: 403,
  not_found: 404,
  taken: 409,
  conflict: 409,
  too_large: 413,
  rate_limited: 429,
  unavailable: 503,
  internal: 500,
};

/** The system's limits of open files. */
const NO_FILES = new Set(["EMFILE", "ENFILE"]);
const RETRY_MS = 1_000;

/**
 * The only translator of errors: turns any thrown value into a code with words that may be shown. An error that is our
 * own fault is contained at `place`: counted, and logged with its reason and its place.
 */
export function toFailure(
  error: unknown,
  { log, security }: { log: Logger; security: Security },
  place: Place,
): Failure {
  if (error instanceof StoreFault) tellAway(log, error.reason, "the store of files did not do it");
  if (error instanceof ChatError) {
    const { code, message, retryAfterMs, current } = error;
    return {
      code,
      message,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
      ...(current && { current }),
    };
  }
  if (error instanceof ZodError) {
    const issue = error.issues[0];
    const tooLarge = issue?.code === "too_big" && issue.origin === "string";
    return { code: tooLarge ? "too_large" : "invalid", message: describe(issue) };
  }
  if (isHttpError(error)) {
    return error.status === 413
      ? { code: "too_large", message: "The request is too large." }
      : { code: "invalid", message: "The request cannot be read." };
  }
  const away = isRedisAway(error);
  if (away || NO_FILES.has(systemCode(error))) {
    tellAway(log, reasonOf(error), away ? "redis did not do it" : "no more files may be open");
    return { code: "unavailable", message: "Not available right now. Try again.", retryAfterMs: RETRY_MS };
  }
  security.contain(place, error);
  return { code: "internal", message: "Something went wrong." };
}

const WINDOW_MS = 1_000;
const LINES = 5;
let window = { since: -WINDOW_MS, lines: 0, leftOut: 0 };

/** A few lines a second, whoever asks: the next ones say how many were left out. */
export function tellAway(log: Logger, reason: string, words: string): void {
  const now = performance.now();
  const { leftOut } = window;
  if (now - window.since >= WINDOW_MS) window = { since: now, lines: 0, leftOut: 0 };
  else if (window.lines >= LINES) {
    window.leftOut += 1;
    return;
  }
  const isFirst = window.lines === 0;
  window.lines += 1;
  log.warn({ reason, ...(isFirst && leftOut > 0 && { leftOut }) }, words);
}

/** What HTTP has a status of its own for, of what is `invalid`: `If-Match` and `Range` that do not fit a file. */
const UNMET = new Set([412, 416]);

/**
 * The HTTP answer to a failure, which `error` was. `rate_limited` closes the connection: a client that does not wait must
 * reconnect.
 */
export function refusalOf(
  failure: Failure,
  error?: unknown,
): {
  status: number;
  headers: Record<string, string>;
  body: string;
} {
  const { code, retryAfterMs } = failure;
  const unmet = isHttpError(error) && UNMET.has(error.status) ? error : undefined;
  const size = unmet?.headers?.["Content-Range"];
  return {
    status: unmet?.status ?? STATUS[code],
    headers: {
      "Content-Type": "application/json; charset=utf-8",
      "Cache-Control": "no-store",
      ...(size !== undefined && { "Content-Range": size }),
      ...(retryAfterMs !== undefined && { "Retry-After": String(Math.ceil(retryAfterMs / 1_000)) }),
      ...(code === "rate_limited" && { Connection: "close" }),
    },
    body: JSON.stringify(failure),
  };
}

function describe(issue: ZodError["issues"][number] | undefined): string {
  const where = issue?.path.join(".");
  return where ? `${where}: ${issue?.message}` : (issue?.message ?? "Invalid request.");
}

/** Errors of Express, body-parser and send carry their status, and headers for the answer. */
function isHttpError(error: unknown): error is { status: number; headers?: Record<string, string> } {
  if (typeof error !== "object" || error === null || !("status" in error)) return false;
  return typeof error.status === "number" && error.status >= 400 && error.status < 500;
}
