import { mkdirSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { check, type Rules, type Verdict } from "./check.ts";
import { gatherCrowd, type Crowd } from "./crowd.ts";
import { createHistory, type History, type Line, type Of } from "./history.ts";
import { createRandom, type Random } from "./random.ts";
import { startRig, type Replica, type Rig, type RigOptions } from "./rig.ts";

/** What a scenario works with. */
export type Stage = {
  rig: Rig;
  /** The folder of the main.js of the server under test. */
  bundle: string;
  crowd: Crowd;
  history: History;
  random: Random;
  /** Checks that the fault really happened: otherwise the scenario proves nothing and fails. */
  happened: (is: boolean, what: string) => void;
  /** Checks a promise besides those that are checked in the history. */
  must: (is: boolean, what: string) => void;
  /** Reports a figure outside the table. */
  tell: (what: string) => void;
  fault: (what: string) => void;
  pause: (ms: number) => Promise<void>;
};

export type Scenario = {
  name: string;
  /** Its row in the table. */
  title: string;
  /** Part of the short version. */
  short?: true;
  /** Answers why it cannot run on this machine, if so. */
  lacks?: (tools: Tools) => string | undefined;
  rig?: Partial<Pick<RigOptions, "replicas" | "proxied" | "env" | "redisArgs" | "backend">> & {
    /** Further variables for single replicas, by index; `dir` is the rig's folder. */
    replicaEnv?: (tools: Tools, dir: string) => Record<string, string>[];
  };
  rate?: number;
  repeats?: false;
  /** Nobody edits, deletes or reacts. */
  changes?: false;
  /** The replicas begin as the older server of `Tools`. */
  older?: true;
  /** The number of people; 40 by default. */
  people?: number;
  rules?: Partial<Rules>;
  presenceMs?: number;
  /** Runs during the load; it must have repaired what it broke when it resolves. */
  run: (stage: Stage) => Promise<void>;
  /** Runs after the load has stopped and before people settle. */
  quiet?: (stage: Stage) => Promise<void>;
};

export type Tools = {
  /** Inside a network namespace of our own. */
  netns: boolean;
  haproxy: boolean;
  nft: string | undefined;
  /** The folder of the main.js of an older server. */
  older: string | undefined;
  /** libfaketimeMT.so.1 */
  faketime: string | undefined;
};

export type Result = {
  name: string;
  title: string;
  outcome: "passed" | "failed" | "skipped";
  reason?: string;
  seconds: number;
  verdict?: Verdict;
  notes: string[];
  /** Broken promises and faults that did not happen, besides the verdict's violations. */
  failures: string[];
};

/** The beginning of a failure that says nothing about the server. */
export const NOT_HAPPENED = "the fault did not happen: ";

const RULES: Rules = { mayRewind: "no", mayLose: 0, convergeMs: 10_000 };
const RATE = 120;
const PRESENCE_MS = 30_000;

export type Run = {
  bundle: string;
  seed: number;
  tools: Tools;
  /** The folder of histories and the replicas' logs. */
  folder: string;
  /** Further variables for every replica. */
  env?: Record<string, string>;
};

/** Plays one scenario on a rig of its own and judges it. Never throws: errors are in the result. */
export async function play(scenario: Scenario, run: Run): Promise<Result> {
  const { name, title } = scenario;
  const began = performance.now();
  const notes: string[] = [];
  const failures: string[] = [];
  const seconds = () => Math.round((performance.now() - began) / 100) / 10;
  const reason = run.tools.haproxy ? scenario.lacks?.(run.tools) : "there is no HAProxy";
  if (reason !== undefined) return { name, title, outcome: "skipped", reason, seconds: 0, notes, failures };

  const random = createRandom(run.seed, name);
  const history = createHistory();
  const rules = { ...RULES, ...scenario.rules };
  let rig: Rig | undefined;
  let crowd: Crowd | undefined;
  let verdict: Verdict | undefined;
  try {
    rig = await startRig({
      bundle: (scenario.older && run.tools.older) || run.bundle,
      replicas: 3,
      proxied: false,
      env: {},
      redisArgs: [],
      ...scenario.rig,
      ...(run.env && { env: { ...scenario.rig?.env, ...run.env } }),
      replicaEnv: (dir) => scenario.rig?.replicaEnv?.(run.tools, dir) ?? [],
    });
    crowd = await gatherCrowd(rig, history, random, scenario.people);
    const stage: Stage = {
      rig,
      bundle: run.bundle,
      crowd,
      history,
      random,
      happened: (is, what) => void (is || failures.push(`${NOT_HAPPENED}${what}`)),
      must: (is, what) => void (is || failures.push(what)),
      tell: (what) => void notes.push(what),
      fault: (what) => history.add({ kind: "fault", what }),
      pause: (ms) => sleep(ms),
    };
    const { rate = RATE, repeats = true, changes = true } = scenario;
    crowd.startLoad({ rate, repeats, changes });
    await scenario.run(stage);
    crowd.stopLoad();
    await scenario.quiet?.(stage);
    await crowd.settle({ convergeMs: rules.convergeMs, presenceMs: scenario.presenceMs ?? PRESENCE_MS });
    tellConvergence(history, notes);
    for (const replica of rig.replicas) {
      if (replica.crashed())
        failures.push(`replica ${replica.name} ended by itself: ${replica.log.at(-1)?.text ?? ""}`);
      for (const text of errorsOf(replica).slice(0, 3))
        failures.push(`replica ${replica.name} logged: ${text}`);
    }
  } catch (error) {
    failures.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
    for (const replica of rig?.replicas ?? [])
      if (replica.crashed())
        failures.push(`replica ${replica.name} ended by itself: ${replica.log.at(-1)?.text ?? ""}`);
  } finally {
    crowd?.close();
    await rig?.close();
    for (const replica of rig?.replicas ?? []) {
      const file = `${run.folder}/${name}.${replica.name}.log`;
      mkdirSync(run.folder, { recursive: true });
      writeFileSync(file, replica.log.map(({ text }) => `${text}\n`).join(""));
    }
  }
  verdict = check(history.lines, rules);
  await history.write(`${run.folder}/${name}.jsonl`);
  const failed = failures.length > 0 || verdict.violations.length > 0;
  return { name, title, outcome: failed ? "failed" : "passed", seconds: seconds(), verdict, notes, failures };
}

/** Reports how long after calm the last person had everything. */
function tellConvergence(history: History, notes: string[]): void {
  const calmAt = history.lines.find((line) => line.kind === "calm")?.at;
  const last = Math.max(...linesOf(history, "view").map(({ at }) => at));
  if (calmAt !== undefined && Number.isFinite(last))
    notes.push(`all agreed ${((last - calmAt) / 1_000).toFixed(1)} s after calm`);
}

/** The unexpected errors that a replica logged. */
function errorsOf(replica: Replica): string[] {
  return replica.log.flatMap(({ text }) =>
    /"level":[56]0\b/.test(text) || /^\s+at .*:\d+/.test(text) ? [text] : [],
  );
}

/** The lines of one kind. */
export function linesOf<K extends Line["kind"]>(history: History, kind: K): Of<K>[] {
  return history.lines.filter((line) => line.kind === kind) as Of<K>[];
}
