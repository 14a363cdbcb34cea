import { join } from "node:path";
import { root } from "../prepare.mjs";

/** How one attack went; `broken` is what it found. Number 0 is the fuzzer's and the bystanders'. */
export type Result = { number: number; title: string; seconds: number; broken: string[] };

export type Report = { date: string; seed: number; seconds: number; results: Result[] };

/** Where the last run's report is. */
export const ATTACK_RESULT = join(root, ".cache/attack/result.json");
