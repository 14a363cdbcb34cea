import type { Logger } from "pino";
import { ZodError } from "zod";
import { ChatError, reasonOf } from "../errors.ts";
import type { ErrorCode, Failure } from "../protocol.ts";
import type { Place, Security } from "../security.ts";

export const STATUS: Record<ErrorCode, number> = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  taken: 409,
  too_large: 413,
  rate_limited: 429,
  unavailable: 503,
  internal: 500,
};

/** What Redis and ioredis say while Redis is away, loading, full, failing over or read-only. */
const REDIS_AWAY =
  /^(LOADING|OOM|MISCONF|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|NOREPLICAS|NOAUTH|BUSY)\b|Command timed out|Stream isn't writeable|Connection is closed|max retries per request|ECONNRE|EPIPE|ENOENT|Cluster/;
const RETRY_MS = 1_000;

/**
 * The only translator of errors: any thrown thing becomes a code with words that may be shown. What is nobody's
 * mistake but ours is contained at `place`: counted, and logged by its reason and where it happened.
 */
export function toFailure(
  error: unknown,
  { log, security }: { log: Logger; security: Security },
  place: Place,
): Failure {
  if (error instanceof ChatError) {
    const { code, message, retryAfterMs } = error;
    return { code, message, ...(retryAfterMs !== undefined && { retryAfterMs }) };
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
  const reason = reasonOf(error);
  if (error instanceof Error && REDIS_AWAY.test(error.message)) {
    log.warn({ reason }, "redis did not do it");
    return { code: "unavailable", message: "Not available right now. Try again.", retryAfterMs: RETRY_MS };
  }
  security.contain(place, error);
  return { code: "internal", message: "Something went wrong." };
}

function describe(issue: ZodError["issues"][number] | undefined): string {
  const where = issue?.path.join(".");
  return where ? `${where}: ${issue?.message}` : (issue?.message ?? "Invalid request.");
}

/** Errors of Express and body-parser carry the status that they mean. */
function isHttpError(error: unknown): error is { status: number } {
  if (typeof error !== "object" || error === null || !("status" in error)) return false;
  return typeof error.status === "number" && error.status >= 400 && error.status < 500;
}
