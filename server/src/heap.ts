import { getHeapStatistics, setFlagsFromString } from "node:v8";

/**
 * How V8 holds the memory of a replica: options that it reads again at each collection. docs/decisions.md has what
 * each was measured to bring.
 */

/** The old generation is collected when it has grown by so much, but by one of the two shares at least and at most. */
const GROWTH_BYTES = 16e6;
const LEAST_PERCENT = 20;
const MOST_PERCENT = 50;
const LOOK_MS = 1_000;

/** Call it before anything else is loaded. */
export function holdHeap(): void {
  keepYoungGeneration();
  // Until Node 24 each new thread sets this option back, for the whole process.
  process.on("worker", (worker) => worker.once("online", keepYoungGeneration));
  limitOldGeneration();
  setInterval(limitOldGeneration, LOOK_MS).unref();
}

/** Keeps the young generation at its size: it would grow with the garbage of loading and connecting, and stay so. */
function keepYoungGeneration(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

let percentNow = 0;

/**
 * V8 would let a large heap grow by half or more, and a share that holds a large one would have a small one collected
 * every few MB, each time for some ms in which nobody is served.
 */
function limitOldGeneration(): void {
  const tens = Math.round(((GROWTH_BYTES / getHeapStatistics().used_heap_size) * 100) / 10);
  const percent = Math.min(MOST_PERCENT, Math.max(LEAST_PERCENT, tens * 10));
  if (percent === percentNow) return;
  percentNow = percent;
  setFlagsFromString(`--heap-growing-percent=${percent}`);
}
