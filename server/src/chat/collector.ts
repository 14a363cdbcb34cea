import type { Logger } from "pino";
import { reasonOf } from "../errors.ts";
import { StoreFault, sweepSpool, type Blobs } from "../store/blobs.ts";
import type { Files } from "../store/files.ts";
import type { Users } from "./users.ts";

const COLLECT_MS = 600_000;
const COLLECTED_AT_ONCE = 100;
/** When somebody looks at a file again whose removal may have failed. */
export const AGAIN_MS = 60_000;

type Parts = {
  files: Files;
  blobs: Blobs;
  users: Pick<Users, "avatarOf">;
  log: Pick<Logger, "warn">;
};

/**
 * Removes files that nobody has: those of `files.due` that no message and no user has. May run on every replica at once,
 * be cut short anywhere, and be repeated.
 */
export class Collector {
  readonly #parts: Parts;
  #next: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Collects every few minutes until `close`; and calls `resume`, now and then, which goes on with other removals. */
  start(resume: () => Promise<void>): void {
    const attempt = (task: Promise<unknown>) =>
      task.catch((error: unknown) => {
        this.#parts.log.warn({ reason: whyOf(error) }, "what nobody has any more is removed later");
      });
    const later = (): void => {
      if (this.#closed) return;
      const round = () => [this.collect(), sweepSpool(this.#parts.blobs), resume()].map(attempt);
      const run = () => void Promise.all(round()).then(later);
      this.#next = setTimeout(run, COLLECT_MS * (0.5 + Math.random())).unref();
    };
    void attempt(sweepSpool(this.#parts.blobs));
    void attempt(resume());
    later();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#next);
  }

  /** Looks at the files that are due at a moment, in ms; answers how many were removed. */
  async collect(now = Date.now()): Promise<number> {
    const { files, log } = this.#parts;
    let removed = 0;
    for (const id of await files.due(now, COLLECTED_AT_ONCE)) {
      try {
        if (await this.remove(id)) removed += 1;
      } catch (error) {
        log.warn({ file: id, reason: whyOf(error) }, "a file that nobody has any more is removed later");
        // Behind the others, which must not wait for one that can never be removed.
        await files.noteDue([id], now + COLLECT_MS);
      }
    }
    return removed;
  }

  /**
   * Removes a file, unless a message or a user has it; answers whether it is gone. What fails is done later, if the file
   * is due some time.
   */
  async remove(id: string): Promise<boolean> {
    const { files, blobs } = this.#parts;
    if (await this.#isInUse(id)) {
      await this.noteUsed([id]);
      return false;
    }
    // In this order: the record goes once nothing is left to remove.
    await blobs.remove(id);
    await blobs.remove(`${id}.thumbnail`);
    await files.forget(id);
    return true;
  }

  /** Says that these files are in use; one whose message was deleted meanwhile is looked at after all. */
  async noteUsed(ids: readonly string[]): Promise<void> {
    const { files } = this.#parts;
    await files.noteUsed(ids);
    for (const id of ids) if (!(await this.#isInUse(id))) await files.noteDue([id], Date.now() + AGAIN_MS);
  }

  /** If it is not, nobody can send it any more. */
  async #isInUse(id: string): Promise<boolean> {
    const { files, users } = this.#parts;
    const [file] = await files.find([id]);
    if (!file) return false;
    if (file.roomId === undefined) return (await users.avatarOf(file.by)) === id;
    return !(await files.detach(file.roomId, id));
  }
}

/** Why something failed, for the log. */
export function whyOf(error: unknown): string {
  return error instanceof StoreFault ? error.reason : reasonOf(error);
}
