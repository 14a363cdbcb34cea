import { getHeapStatistics } from "node:v8";
import type { Config } from "./config.ts";
import { ChatError } from "./errors.ts";
import { SHED } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import type { Security } from "./security.ts";

export type Shed = keyof typeof SHED;

/** How often the loop's lateness is measured, and over how many measurements: it recovers within a second. */
const TICK_MS = 100;
const TICKS = 10;

/**
 * Measures a replica's load, and decides which work it refuses: see SHED. (After overload-protection, and the orders
 * of Discord and Signal.)
 */
export class Load {
  readonly #enabled: boolean;
  readonly #metrics: Metrics;
  readonly #security: Security;
  readonly #late: number[] = [];
  readonly #memoryLimit: number;
  #timer: NodeJS.Timeout | undefined;
  #dueAt = 0;
  #ticks = 0;
  #delayMs = 0;
  #memory = 0;

  /** Without limits nothing is shed either: benchmarks find out how much a replica can do. */
  constructor({ rateLimits }: Pick<Config, "rateLimits">, metrics: Metrics, security: Security) {
    this.#enabled = rateLimits;
    this.#metrics = metrics;
    this.#security = security;
    // V8's own limit does not count buffers, and a container's limit is smaller than the machine.
    const heap = getHeapStatistics().heap_size_limit;
    this.#memoryLimit = Math.min(heap, process.constrainedMemory() || heap);
  }

  start(): void {
    this.#dueAt = performance.now() + TICK_MS;
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Whether to refuse this kind of work now; counts a refusal. */
  sheds(kind: Shed): boolean {
    if (!this.#isOver(kind)) return false;
    this.#metrics.sheds.inc({ kind });
    this.#security.note("overload.shed", { what: kind });
    return true;
  }

  /** Throws `unavailable` if this kind of work is refused now, with a random time to wait. */
  demand(kind: Shed): void {
    if (this.sheds(kind))
      throw new ChatError("unavailable", "Too much is going on right now.", 1_000 + Math.random() * 2_000);
  }

  /** Whether even messages are refused: then a load balancer must send people elsewhere. */
  get isOverloaded(): boolean {
    return this.#isOver("sends");
  }

  #isOver(kind: Shed): boolean {
    const { delayMs, memory } = SHED[kind];
    return this.#enabled && (this.#delayMs > delayMs || this.#memory > memory);
  }

  #tick(): void {
    const now = performance.now();
    this.#late.push(Math.max(0, now - this.#dueAt));
    this.#dueAt = now + TICK_MS;
    if (this.#late.length > TICKS) this.#late.shift();
    this.#delayMs = this.#late.reduce((sum, late) => sum + late, 0) / TICKS;
    this.#metrics.loopDelay.set(this.#delayMs / 1_000);
    this.#ticks += 1;
    if (this.#ticks % TICKS > 0) return;
    const { heapUsed, external } = process.memoryUsage();
    this.#memory = (heapUsed + external) / this.#memoryLimit;
    this.#metrics.memoryShare.set(this.#memory);
  }
}
