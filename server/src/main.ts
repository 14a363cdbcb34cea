import { setFlagsFromString } from "node:v8";

// Set before anything else is loaded: otherwise V8's young generation would grow with the garbage of loading and
// connecting, and keep its size, and the old one would be collected only after growing by half or more.
setFlagsFromString("--semi-space-growth-factor=1");
setFlagsFromString("--heap-growing-percent=20");
await import("./run.ts");
