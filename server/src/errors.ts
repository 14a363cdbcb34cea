import type { ErrorCode } from "./protocol.ts";

/**
 * An outcome that the caller is told about, by its code. Anything else that is thrown is a bug: it is logged
 * and told as `internal`. Only doors/failure.ts translates either into an answer.
 */
export class ChatError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, retryAfterMs?: number) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}
