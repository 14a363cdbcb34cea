import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import bcrypt from "bcrypt";
import { BOUNDS } from "../limits.ts";

/** A hash to compare with, or the bcrypt cost of a new one. */
export type HashOrder = { number: number; password: string; hash?: string; cost?: number };
type HashReply = { number: number } & ({ result: string | boolean } | { fault: string });

type Waiter = { resolve: (result: string | boolean) => void; reject: (error: Error) => void };
type Thread = { worker: Worker; waiting: Map<number, Waiter>; idle?: NodeJS.Timeout };

/** The event loop keeps a core of its own, if there are two. */
export const HASHES_AT_ONCE = Math.max(1, Math.min(BOUNDS.hashes.value, availableParallelism() - 1));

/** A thread ends when it has had nothing to do for this long, and gives most of its 10 MB back. */
const IDLE_MS = 300_000;
/** It holds a password and a hash. */
const MEMORY = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16, stackSizeMb: 1 };

const threads = new Set<Thread>();
let last = 0;

/**
 * Hashes of passwords, computed in threads of a lower priority. bcrypt's own threads have that of the event loop, which
 * on a shared core then waits 4 ms for them whenever it wakes. Those compute what a thread of ours cannot: where no more
 * may start, or one ended.
 */
export const hashes = {
  async make(password: string, cost: number): Promise<string> {
    return String(await ask({ password, cost }).catch(() => bcrypt.hash(password, cost)));
  },
  async compare(password: string, hash: string): Promise<boolean> {
    return (await ask({ password, hash }).catch(() => bcrypt.compare(password, hash))) === true;
  },
};

async function ask(order: Omit<HashOrder, "number">): Promise<string | boolean> {
  const thread = freest();
  clearTimeout(thread.idle);
  const number = (last += 1);
  return new Promise((resolve, reject) => {
    thread.worker.postMessage({ ...order, number } satisfies HashOrder);
    thread.waiting.set(number, { resolve, reject });
  });
}

function freest(): Thread {
  const [first] = [...threads].toSorted((a, b) => a.waiting.size - b.waiting.size);
  return first && (first.waiting.size === 0 || threads.size >= HASHES_AT_ONCE) ? first : start();
}

function start(): Thread {
  const worker = new Worker(fileURLToPath(new URL("hashThread.mjs", import.meta.url)), {
    resourceLimits: MEMORY,
  });
  const thread: Thread = { worker, waiting: new Map() };
  const over = (error: Error) => {
    threads.delete(thread);
    clearTimeout(thread.idle);
    for (const { reject } of thread.waiting.values()) reject(error);
    thread.waiting.clear();
  };
  worker.on("message", (reply: HashReply) => {
    const waiter = thread.waiting.get(reply.number);
    if ("result" in reply) waiter?.resolve(reply.result);
    else waiter?.reject(new Error(reply.fault));
    thread.waiting.delete(reply.number);
    if (thread.waiting.size > 0) return;
    thread.idle = setTimeout(() => {
      threads.delete(thread);
      void worker.terminate();
    }, IDLE_MS).unref();
  });
  worker.once("error", (error: Error) => over(error));
  worker.once("exit", () => over(new Error("a thread for hashes has ended")));
  worker.unref();
  threads.add(thread);
  return thread;
}
