import type { ErrorCode, Message } from "./protocol.ts";

/**
 * An outcome that the caller is told about, by its code. Anything else that is thrown is a bug: it is logged
 * and told as `internal`. Only doors/failure.ts translates either into an answer.
 */
export class ChatError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;
  /** With `conflict`, the message as it is now. */
  readonly current: Message | undefined;

  constructor(code: ErrorCode, message: string, retryAfterMs?: number, current?: Message) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.current = current;
  }
}

/** Texts of ioredis and Redis that are the same whatever was sent. */
const FIXED =
  /^(?:Command timed out|Stream isn't writeable|Connection is closed|Reached the max retries per request limit|Socket timeout|None of startup nodes is available|Failed to refresh slots cache|All sentinels are unreachable|Too many Cluster redirections|Cluster is disconnect(?:ed|ing)|Cluster isn't ready|Node is disconnected|no answer within \d+ ms|Unknown RESP type|ERR (?:unknown command|max number of clients reached|AUTH <password> called without any password))/;

/**
 * Why something failed, for a log. Redis quotes a command's arguments in its errors, JSON.parse the text, V8 a value: what
 * people wrote, passwords and session ids. Of an error's message therefore only what is known to quote nothing is
 * passed on: a system call's outcome, Redis's error code, a fixed text; of any other error the name.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "a thrown value that is no Error";
  if ("syscall" in error) return error.message;
  const fixed = FIXED.exec(error.message)?.[0];
  if (fixed !== undefined) return fixed;
  return redisCode(error) || error.name;
}

/** The code that Redis begins a refusal with, such as `READONLY`; undefined of anything but Redis' own answer. */
export function redisCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.name !== "ReplyError") return undefined;
  return /^[A-Z]+(?= |$)/.exec(error.message)?.[0];
}

/** Where it failed: the frames of the stack, without the message that they begin with. */
export function framesOf(error: unknown): string {
  if (!(error instanceof Error) || !error.stack?.includes(error.message)) return "";
  return error.stack.slice(error.stack.indexOf(error.message) + error.message.length).trim();
}

/** With these Redis refuses what it would do at another time: loading, full, failing over, read-only, resharding. */
const LATER = new Set(
  "LOADING OOM MISCONF READONLY CLUSTERDOWN TRYAGAIN MASTERDOWN NOREPLICAS NOAUTH BUSY MOVED ASK".split(" "),
);
const unanswered = new WeakSet<Error>();

/** Notes what a command to Redis failed with: ioredis' own errors differ from anybody's by their words alone. */
export function noteUnanswered(error: unknown): void {
  if (error instanceof Error && error.name !== "ReplyError") unanswered.add(error);
}

/** Whether a command to Redis was not answered, or refused for now: the same may be done at another time. */
export function isRedisAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name !== "ReplyError") return unanswered.has(error);
  // A transaction is refused for what was refused in it.
  const { previousErrors = [] } = error as { previousErrors?: unknown[] };
  return LATER.has(redisCode(error) ?? "") || previousErrors.some(isRedisAway);
}
