import cluster, { type Worker } from "node:cluster";
import type { Logger } from "pino";
import type { Config } from "./config.ts";

const RESTART_MS = 1_000;

/**
 * Several replicas in processes of their own that share one port: all cores of a machine without a load balancer.
 * WebSockets need no stickiness. A worker that dies is replaced. Throws if the first ones cannot start.
 */
export async function startWorkers(
  config: Config,
  log: Logger,
): Promise<{ address: string; close: () => Promise<void> }> {
  let closing = false;
  const fork = (number: number): Worker => {
    const worker = cluster.fork({ SERVER_ID: `${config.serverId}-${number}` });
    worker.once("exit", (code) => {
      if (closing) return;
      log.error({ number, code }, "a worker died");
      setTimeout(() => !closing && fork(number), RESTART_MS);
    });
    return worker;
  };
  const workers = Array.from({ length: config.workers }, (_, index) => fork(index + 1));
  const addresses = await Promise.all(workers.map(listening));
  const port = addresses[0] ?? config.port;

  async function close(): Promise<void> {
    closing = true;
    const open = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
    await Promise.all(
      open.map(
        (worker) =>
          new Promise<void>((resolve) => {
            worker.once("exit", () => resolve());
            worker.process.kill("SIGTERM");
          }),
      ),
    );
  }
  return { address: `http://${config.host}:${port}`, close };
}

function listening(worker: Worker): Promise<number> {
  return new Promise((resolve, reject) => {
    worker.once("listening", ({ port }) => resolve(port));
    worker.once("exit", () => reject(new Error("a worker could not start; its own words are above")));
  });
}
