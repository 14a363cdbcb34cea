import { setFlagsFromString } from "node:v8";

// Before anything else is loaded: V8's young generation would grow with what loading and connecting leave behind, and
// keep its size. delivery.ts lets it grow once there is a busy room.
setFlagsFromString("--semi-space-growth-factor=1");
await import("./run.ts");
