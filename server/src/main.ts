import { holdHeap } from "./heap.ts";

holdHeap();
await import("./run.ts");
