import { setFlagsFromString } from "node:v8";

// Before anything else is loaded: V8's young generation would grow with what loading and connecting leave behind, and
// keep its size. The old one would be collected only when it has grown by half or more.
setFlagsFromString("--semi-space-growth-factor=1");
setFlagsFromString("--heap-growing-percent=20");
await import("./run.ts");
