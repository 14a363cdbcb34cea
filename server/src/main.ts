import { setFlagsFromString } from "node:v8";

// Before anything else is loaded: V8's young generation would grow with what loading leaves behind, and keep its size.
setFlagsFromString("--semi-space-growth-factor=1");
await import("./run.ts");
