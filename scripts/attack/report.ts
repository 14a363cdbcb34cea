import { join } from "node:path";
import { root } from "../prepare.mjs";

/** The result of one attack; `broken` has its findings. Number 0 stands for the fuzzer and the bystanders. */
export type Result = { number: number; title: string; seconds: number; broken: string[] };

export type Report = { date: string; seed: number; seconds: number; results: Result[] };

/** The file of the last run's report. */
export const ATTACK_RESULT = join(root, ".cache/attack/result.json");
