import { setFlagsFromString } from "node:v8";

/** Keeps V8's young generation at its size: it would grow with the garbage of loading and connecting, and stay so. */
function keepYoungGeneration(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

keepYoungGeneration();
// Until Node 24 each new thread sets this flag back, for the whole process.
process.on("worker", (worker) => worker.once("online", keepYoungGeneration));
// The old generation would be collected only after growing by half or more.
setFlagsFromString("--heap-growing-percent=20");
// Both are set before anything else is loaded.
await import("./run.ts");
