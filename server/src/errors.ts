import type { ErrorCode, Message } from "./protocol.ts";

/**
 * An outcome that the caller learns by its code. Any other thrown value is a bug: it is logged, and answered as
 * `internal`. Only doors/failure.ts translates either into an answer.
 */
export class ChatError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;
  /** With `conflict`, the present message. */
  readonly current: Message | undefined;

  constructor(code: ErrorCode, message: string, retryAfterMs?: number, current?: Message) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.current = current;
  }
}

/** Whether it is known that nothing was done. After `unavailable`, or a fault, it may have been. */
export function isRefusal(error: unknown): error is ChatError {
  return error instanceof ChatError && error.code !== "unavailable";
}

/** Messages of ioredis and Redis that never quote what was sent. */
const FIXED =
  /^(?:Command timed out|Stream isn't writeable|Connection is closed|Reached the max retries per request limit|Socket timeout|None of startup nodes is available|Failed to refresh slots cache|All sentinels are unreachable|Too many Cluster redirections|Cluster is disconnect(?:ed|ing)|Cluster isn't ready|Node is disconnected|no answer within \d+ ms|Unknown RESP type|ERR (?:unknown command|max number of clients reached|AUTH <password> called without any password))/;

/**
 * Why something failed, for a log. Redis quotes a command's arguments in its errors, JSON.parse the text, V8 a value:
 * texts of people, passwords and session ids. So this passes on only what is known to quote nothing: the outcome of a
 * system call, Redis' error code, a fixed message, the code of an error of Node's; of any other error only the name.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "a thrown value that is no Error";
  if ("syscall" in error) return error.message;
  const fixed = FIXED.exec(error.message)?.[0];
  if (fixed !== undefined) return fixed;
  return redisCode(error) || systemCode(error) || error.name;
}

/** The code of a failed system call, such as `ENOENT`, or of another error of Node's; "" for any other error. */
export function systemCode(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** What Redis says, without the code of its own, of a script that met NOPERM: 7.0, and 7.2 and later. */
const REFUSED_IN_SCRIPT = /^ERR (?:The user executing the script |ACL failure in script)/;

/** The code at the beginning of Redis' refusal, such as `READONLY`; undefined for any other error. */
export function redisCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.name !== "ReplyError") return undefined;
  if (REFUSED_IN_SCRIPT.test(error.message)) return "NOPERM";
  return /^[A-Z]+(?= |$)/.exec(error.message)?.[0];
}

/**
 * One sentence for an operator, if it was Redis that failed or refused; undefined for any other error.
 *
 * @public scripts/prepare.mjs loads it by its path
 */
export function redisWords(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "ReplyError") return `Redis refuses: ${reasonOf(error)}`;
  return unanswered.has(error) ? `Redis does not answer: ${reasonOf(error)}` : undefined;
}

/** What an operator is told of an error that ends a command. */
export function wordsOf(error: unknown): string {
  return redisWords(error) ?? (error instanceof Error ? error.message : String(error));
}

/** Where it failed: the frames of the stack, without the message before them. */
export function framesOf(error: unknown): string {
  if (!(error instanceof Error) || !error.stack?.includes(error.message)) return "";
  return error.stack.slice(error.stack.indexOf(error.message) + error.message.length).trim();
}

/**
 * What a command answers, or `otherwise` if its key is of another type. For reads that many make of what is one person's
 * or one room's, so that a damaged key keeps nobody else from anything.
 */
export async function unlessWrongType<T, U>(answer: Promise<T>, otherwise: U): Promise<T | U> {
  return answer.catch((error: unknown) => {
    if (redisCode(error) === "WRONGTYPE") return otherwise;
    throw error;
  });
}

/** Codes of temporary refusals by Redis: loading, full, failing over, read-only, resharding, an ACL that lacks something. */
const LATER = new Set(
  "LOADING OOM MISCONF READONLY CLUSTERDOWN TRYAGAIN MASTERDOWN NOREPLICAS NOAUTH NOPERM BUSY MOVED ASK".split(
    " ",
  ),
);
const unanswered = new WeakSet<Error>();

/** Remembers the error of a command to Redis: only its words tell an error of ioredis from others. */
export function noteUnanswered(error: unknown): void {
  if (error instanceof Error && error.name !== "ReplyError") unanswered.add(error);
}

/** Whether Redis did not answer a command, or refused it for now: a retry may succeed. */
export function isRedisAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name !== "ReplyError") return unanswered.has(error);
  // A transaction is refused because of a command in it.
  const { previousErrors = [] } = error as { previousErrors?: unknown[] };
  return LATER.has(redisCode(error) ?? "") || previousErrors.some(isRedisAway);
}
