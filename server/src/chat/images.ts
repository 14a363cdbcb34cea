import { fork, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setPriority } from "node:os";
import { fileURLToPath } from "node:url";
import pLimit from "p-limit";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { ImageDone, ImageOrder, ImageReply } from "./imageWorker.ts";

/** How long the process may take to start, on a machine that has much else to do. */
const START_MS = 60_000;
/** How far the process stands back for others, from its first moment: loading the decoder takes a third of a second. */
const NICE = 10;
/** USER_HZ, which is 100 on every Linux that Node runs on. */
const TICK_MS = 10;
/** The process ends when it has had nothing to do for this long, and gives its memory back. */
const IDLE_MS = 30_000;

/** Types of files that are images: each is decoded and written anew. All other files stay as they are. */
export const IMAGE_TYPES: readonly string[] = [
  "image/jpeg",
  "image/png",
  "image/apng",
  "image/webp",
  "image/gif",
  "image/avif",
];

/** The process, and whether it has started. */
type Worker = { child: ChildProcess; ready: Promise<boolean> };

/**
 * Decodes images in a process of its own, one at a time, and kills it when a picture takes too long. `close` ends it.
 */
export class Images {
  readonly #pixels: number;
  readonly #ms: number;
  readonly #turn = pLimit(1);
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  /** `ms`: how long a picture may take. */
  constructor({ pixels, ms = BOUNDS.imageMs.value }: { pixels: number; ms?: number }) {
    this.#pixels = pixels;
    this.#ms = ms;
  }

  /**
   * Writes an image anew without what cameras add to it, and its thumbnail. Throws `too_large` for too many pixels or
   * frames, `invalid` for what cannot be decoded, also in time, and `unavailable` if too many wait, the disk is full, or
   * the machine had no time for it.
   */
  async make(order: Omit<ImageOrder, "pixels" | "frames">): Promise<ImageDone> {
    if (this.#turn.pendingCount >= BOUNDS.imagesWaiting.value)
      throw new ChatError("unavailable", "Too many pictures arrive right now. Try again.", 5_000);
    const reply = await this.#turn(() =>
      this.#ask({ ...order, pixels: this.#pixels, frames: BOUNDS.imageFrames.value }),
    );
    if ("done" in reply) return reply.done;
    if (reply.fault === "pixels")
      throw new ChatError("too_large", `The picture has more than ${this.#pixels} pixels.`);
    if (reply.fault === "frames")
      throw new ChatError("too_large", `The picture has more than ${BOUNDS.imageFrames.value} frames.`);
    if (reply.fault === "broken") throw new ChatError("invalid", "This picture cannot be read.");
    throw new ChatError("unavailable", "Pictures cannot be read right now. Try again.", 5_000);
  }

  async #ask(order: ImageOrder): Promise<ImageReply | { fault: "stopped" }> {
    if (this.#closed) return { fault: "stopped" };
    clearTimeout(this.#idle);
    const { child: worker, ready } = (this.#worker ??= this.#start());
    if (!(await ready)) return { fault: "stopped" };
    const before = cpuMsOf(worker.pid);
    return new Promise((resolve) => {
      const late = setTimeout(() => {
        // The process stands back for all others: where they are busy, it is not the picture's fault.
        if (cpuMsOf(worker.pid) - before < this.#ms / 4) over({ fault: "stopped" });
        this.#end();
      }, this.#ms);
      const over = (reply: ImageReply | { fault: "stopped" }) => {
        clearTimeout(late);
        worker.off("message", over).off("exit", died);
        this.#idle = setTimeout(() => this.#end(), IDLE_MS).unref();
        resolve(reply);
      };
      // A signal is a crash or our own, after too long: the picture's fault. An exit means that it could not start.
      const died = (_code: number | null, signal: string | null) =>
        over({ fault: signal === null || this.#closed ? "stopped" : "broken" });
      worker.once("message", over).once("exit", died);
      worker.send(order, (error) => {
        if (!error) return;
        // Not the picture's fault, as the end of the process by a signal would be.
        over({ fault: "stopped" });
        worker.kill("SIGKILL");
      });
    });
  }

  #start(): Worker {
    // The bundle has it beside its own file; from sources tsx loads it.
    const bundled = fileURLToPath(new URL("imageWorker.js", import.meta.url));
    const path = existsSync(bundled) ? bundled : fileURLToPath(new URL("imageWorker.ts", import.meta.url));
    const worker = fork(path, [], {
      execArgv: path === bundled ? [] : ["--import", "tsx"],
      serialization: "json",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      env: {},
    });
    try {
      if (worker.pid !== undefined) setPriority(worker.pid, NICE);
    } catch {
      // It has ended already, which `ready` tells.
    }
    const ready = new Promise<boolean>((resolve) => {
      const late = setTimeout(() => worker.kill("SIGKILL"), START_MS);
      const over = (isReady: boolean) => {
        clearTimeout(late);
        resolve(isReady);
      };
      const gone = () => {
        if (this.#worker?.child === worker) this.#worker = undefined;
        over(false);
      };
      // One that could not be started has no exit.
      worker.once("message", () => over(true)).once("exit", gone);
      worker.on("error", gone);
    });
    worker.unref();
    worker.channel?.unref();
    return { child: worker, ready };
  }

  #end(): void {
    this.#worker?.child.kill("SIGKILL");
    this.#worker = undefined;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#idle);
    this.#end();
  }
}

/** How much CPU time a process has used, as Linux tells it (proc_pid_stat(5)); elsewhere as much as can be. */
function cpuMsOf(pid: number | undefined): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch {
    return performance.now();
  }
}
