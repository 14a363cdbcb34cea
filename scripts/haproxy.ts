import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { addressOf } from "../server/src/config.ts";
import { startChild, which, type Child } from "./child.ts";
import { fetchPackage, unpacked } from "./debian.ts";
import { root, stop } from "./prepare.mjs";

/** The configuration that docker-compose mounts. */
export const HAPROXY_CFG = join(root, "scripts/haproxy.cfg");

/**
 * Starts HAProxy on `host`:`port` in front of replicas on these ports of 127.0.0.1, with haproxy.cfg and a second file
 * in `dir` that names them. Resolves when one of them answers through it. HAProxy is the system's, or Debian's package
 * fetched without root. If there is none, throws with exit code 69 and a line that says what to do.
 */
export async function startHaproxy(options: {
  host: string;
  port: number;
  replicas: number[];
  dir: string;
  signal?: AbortSignal;
  say: (line: string) => void;
}): Promise<Child> {
  const program = await findHaproxy(options.say);
  const backend = join(options.dir, "haproxy-replicas.cfg");
  const servers = options.replicas.map((port, index) => `  server replica-${index + 1} 127.0.0.1:${port}\n`);
  writeFileSync(backend, `backend local from chat\n${servers.join("")}`);
  const child = startChild({
    command: program.command,
    args: ["-db", "-f", HAPROXY_CFG, "-f", backend],
    env: { ...program.env, HOST: options.host, PORT: String(options.port), BACKEND: "local" },
  });
  const host = ["0.0.0.0", "::"].includes(options.host) ? "localhost" : options.host;
  const url = `${addressOf(host, options.port)}/healthz`;
  while (!child.hasEnded() && !options.signal?.aborted) {
    const ok = await fetch(url, { signal: AbortSignal.timeout(1_000) }).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return child;
    await sleep(50);
  }
  await child.stop(0);
  throw stop(
    `HAProxy ended at once: ${child.lastLines.find((line) => line.includes("ALERT")) ?? "it said nothing"}`,
    69,
  );
}

/** The system's HAProxy, or Debian's package fetched without root. Throws with exit code 69 if there is none. */
export async function findHaproxy(
  say: (line: string) => void,
): Promise<{ command: string; env: NodeJS.ProcessEnv }> {
  const installed = which("haproxy") ?? which("/usr/sbin/haproxy");
  if (installed) return { command: installed, env: process.env };
  const file = "usr/sbin/haproxy";
  const fetched = unpacked("haproxy", file) ?? (await fetchPackage("haproxy", file, say));
  if (fetched) return fetched;
  throw stop(
    "Several replicas need HAProxy, and there is none. `sudo apt-get install haproxy` or `brew install haproxy` " +
      "brings it; one replica (`npm start`) needs none.",
    69,
  );
}
