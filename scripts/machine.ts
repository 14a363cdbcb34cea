import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, getPriority, release, setPriority, totalmem } from "node:os";

/** Reads from /proc what processes and the machine use. Linux only. */

/** The system under test runs on one core, the load on the other. */
export const CORE = { system: 0, load: 1 } as const;

const clockOffsetUs = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000;

/** One clock for all processes of the machine: CLOCK_MONOTONIC in µs. */
export function nowUs(): number {
  return performance.now() * 1000 + clockOffsetUs;
}

/** A process of the system under test. */
export type Part = { name: string; pid: number };

/** CPU time in ns of all threads of a process, with the softirq work that the kernel did in their name. */
export function cpuNs(pid: number): number {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      sum += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ", 1)[0]);
    } catch {
      // The thread ended between the two calls.
    }
  }
  return sum;
}

/** CPU time in ns of the processes with this name, or of all. */
export function used(parts: readonly Part[], wanted?: string): number {
  return parts.reduce((ns, { name, pid }) => ns + (name === (wanted ?? name) ? cpuNs(pid) : 0), 0);
}

/** Resident bytes of a process. */
export function rss(pid: number): number {
  return (
    1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN)
  );
}

/** Resident bytes of several processes together. Shared pages, such as the program's own text, count once. */
export function memoryOf(pids: number[]): number {
  let together = 0;
  let mostShared = 0;
  for (const pid of pids) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    const bytes = (field: string) => 1024 * Number(new RegExp(`^${field}: +(\\d+)`, "m").exec(rollup)?.[1]);
    const own = bytes("Private_Clean") + bytes("Private_Dirty");
    together += own;
    mostShared = Math.max(mostShared, bytes("Rss") - own);
  }
  return together + mostShared;
}

/** Bytes that the kernel uses for sockets and its own objects, for the whole machine. */
export function kernelMemory(): number {
  return 1024 * Number(/^Slab:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]);
}

/** CPU time in ns of the kernel thread that does deferred network work; 0 where /proc does not show it. */
export function softirqNs(core: number): number {
  const pid = softirqThread(core);
  return pid === 0 ? 0 : cpuNs(pid);
}

const softirqThreads = new Map<number, number>();

function softirqThread(core: number): number {
  const known = softirqThreads.get(core);
  if (known !== undefined) return known;
  const found = readdirSync("/proc").find((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/comm`, "utf8") === `ksoftirqd/${core}\n`;
    } catch {
      return false;
    }
  });
  softirqThreads.set(core, Number(found ?? 0));
  return Number(found ?? 0);
}

/**
 * Moves all threads of a running process, and those that they start, to one core, and gives them priority over other
 * programs. Only root may set the priority; the answer says whether it was set.
 */
export function pin(pid: number, core: number): boolean {
  confine(pid, core);
  return prefer(pid);
}

/** Moves all threads of a running process, and those that they start, to one core. */
export function confine(pid: number, core: number): void {
  execFileSync("taskset", ["-a", "-p", "-c", String(core), String(pid)], { stdio: "ignore" });
}

/** Gives all threads of a running process priority over other programs. Only root may; answers whether it worked. */
export function prefer(pid: number): boolean {
  return setNice(pid, PREFERRED);
}

/** Takes the priority over others from all threads of a running process, which inherited it; answers as above. */
export function giveWay(pid: number): boolean {
  return setNice(pid, 0);
}

function setNice(pid: number, nice: number): boolean {
  try {
    const own = getPriority(pid);
    for (const task of readdirSync(`/proc/${pid}/task`).map(Number)) {
      // One that has chosen its priority keeps it, as the thread for password hashes.
      if (getPriority(task) === own) setPriority(task, nice);
    }
    // A nice value counts only within its session's group; this one counts between groups.
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
    return true;
  } catch {
    return false;
  }
}

const PREFERRED = -15;

export type HostFacts = { cpu: string; cores: number; memory: number; kernel: string; node: string };

/** The machine's facts that every figure depends on. */
export function hostFacts(): HostFacts {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memory: totalmem(),
    kernel: release(),
    node: process.versions.node,
  };
}
