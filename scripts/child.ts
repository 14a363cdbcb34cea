import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Node's options for a replica. V8 collects garbage on the replica's thread alone, but for what it frees, which one
 * helper does: on a core that the replica does not have for itself, V8's four helpers run before it whenever it wakes
 * them. docs/decisions.md has the figures.
 */
export const REPLICA_OPTIONS = ["--no-parallel-scavenge", "--no-concurrent-marking", "--v8-pool-size=1"];

/** A program that runs beside us and never outlives us. */
export type Child = {
  pid: number;
  /** The newest lines of its output, to explain its end. */
  lastLines: readonly string[];
  /** Its exit code, or null after a signal. Never rejects: a program that cannot be run ends with 127. */
  ended: Promise<number | null>;
  hasEnded: () => boolean;
  /** Sends SIGTERM, and SIGKILL `graceMs` later; resolves when it is gone. A second call can only shorten the wait. */
  stop: (graceMs: number) => Promise<void>;
};

/**
 * Starts a program in a process group of its own, so that Ctrl-C in the terminal reaches us alone and we choose the
 * order in which things end. If we are killed, the kernel sends it SIGTERM.
 */
export function startChild(options: {
  command: string;
  args: string[];
  env?: NodeJS.ProcessEnv;
  /** Its whole standard input. */
  input?: string;
  onLine?: (line: string, from: "stdout" | "stderr") => void;
}): Child {
  const { command, args } = options;
  const guarded = hasPdeathsig() ? ["setpriv", "--pdeathsig", "TERM", command, ...args] : [command, ...args];
  const child = spawn(guarded[0] ?? command, guarded.slice(1), {
    env: options.env ?? process.env,
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  });
  const lastLines: string[] = [];
  let over = false;
  for (const from of ["stdout", "stderr"] as const) {
    createInterface({ input: child[from], crlfDelay: Infinity }).on("line", (line) => {
      lastLines.push(line);
      if (lastLines.length > 20) lastLines.shift();
      options.onLine?.(line, from);
    });
  }
  // If a child ends before it has read its input, its exit code reports that, not EPIPE.
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", (error) => {
      lastLines.push(error.message);
      over = true;
      resolve(127);
    });
    // "close" and not "exit": by then its last lines have been read.
    child.once("close", (code) => {
      over = true;
      resolve(code);
    });
  });
  return {
    pid: child.pid ?? 0,
    lastLines,
    ended,
    hasEnded: () => over,
    async stop(graceMs) {
      if (over) return;
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** A child that is restarted, with growing delays, whenever it ends by itself. */
export type Kept = { stop: (graceMs: number) => Promise<void> };

/**
 * Keeps `child` running until `stopping` aborts. `again` resolves with a new child that works, and gives up once
 * `stopping` aborts.
 */
export function keep(
  name: string,
  child: Child,
  again: () => Promise<Child>,
  stopping: AbortSignal,
  say: (line: string) => void,
): Kept {
  let current = child;
  const over = watch();
  async function watch(): Promise<void> {
    let pauseMs = 500;
    for (let code = await current.ended, began = Date.now(); !stopping.aborted; code = await current.ended) {
      if (Date.now() - began > 30_000) pauseMs = 500;
      const how =
        code === null ? "was killed" : `ended with exit code ${code}: ${current.lastLines.at(-1) ?? ""}`;
      say(`${name} ${how}. It is started again.`);
      began = Date.now();
      for (let up = false; !up; pauseMs = Math.min(2 * pauseMs, 10_000)) {
        await sleep(pauseMs, undefined, { signal: stopping }).catch(() => {});
        if (stopping.aborted) return;
        try {
          current = await again();
          up = true;
        } catch (error) {
          if (!stopping.aborted)
            say(`${name} did not start: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
    }
  }
  return {
    async stop(graceMs) {
      await current.stop(graceMs);
      await over;
    },
  };
}

/** The full path of a program on `path`, or undefined. */
export function which(name: string, path = process.env["PATH"] ?? ""): string | undefined {
  const places = name.includes("/")
    ? [name]
    : path.split(delimiter).map((folder) => join(folder || ".", name));
  return places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return statSync(place).isFile();
    } catch {
      return false;
    }
  });
}

let pdeathsig: boolean | undefined;

/** util-linux has it; busybox and macOS do not. */
function hasPdeathsig(): boolean {
  pdeathsig ??=
    spawnSync("setpriv", ["--help"], { encoding: "utf8" }).stdout?.includes("--pdeathsig") ?? false;
  return pdeathsig;
}
