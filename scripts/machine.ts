import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release, setPriority, totalmem } from "node:os";

/** What the kernel says about processes and the machine. Linux only: everything here reads /proc. */

/** The system under test is on one core and the load on the other. */
export const CORE = { system: 0, load: 1 } as const;

const clockOffsetUs = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000;

/** One clock for all processes of the machine: CLOCK_MONOTONIC in µs. */
export function nowUs(): number {
  return performance.now() * 1000 + clockOffsetUs;
}

/** A process of the system under test. */
export type Part = { name: string; pid: number };

/** Nanoseconds that all threads of a process have run on a core, softirq work done in their name included. */
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

/** Bytes of a process that are in memory. */
export function rss(pid: number): number {
  return (
    1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN)
  );
}

/** Bytes that processes have in memory together: what they share, such as the program's own text, counts once. */
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

/** Bytes that the kernel holds for sockets and its own objects, for the whole machine. */
export function kernelMemory(): number {
  return 1024 * Number(/^Slab:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]);
}

/** The kernel's own thread for network work that senders could not do at once; 0 where it is hidden. */
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
 * Puts all threads of a running process, and those that they start, on one core and before other programs of the
 * machine where the kernel lets us (as root); answers whether it did.
 */
export function pin(pid: number, core: number): boolean {
  confine(pid, core);
  return prefer(pid);
}

/** Puts all threads of a running process, and those that they start, on one core. */
export function confine(pid: number, core: number): void {
  execFileSync("taskset", ["-a", "-p", "-c", String(core), String(pid)], { stdio: "ignore" });
}

/** Puts all threads of a running process before other programs where the kernel lets us; answers whether it did. */
export function prefer(pid: number): boolean {
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) setPriority(Number(task), NICE);
    // Priorities count within a session's group only; between groups this one does.
    writeFileSync(`/proc/${pid}/autogroup`, String(NICE));
    return true;
  } catch {
    return false;
  }
}

const NICE = -15;

export type HostFacts = { cpu: string; cores: number; memory: number; kernel: string; node: string };

/** Facts of the machine that a figure means nothing without. */
export function hostFacts(): HostFacts {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memory: totalmem(),
    kernel: release(),
    node: process.versions.node,
  };
}
