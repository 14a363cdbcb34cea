import cluster, { type Worker } from "node:cluster";
import type { Logger } from "pino";
import { SERVER_ID_MOST, addressOf, type Config } from "./config.ts";
import { reasonOf } from "./errors.ts";
import { addUp, serveMetrics, type Figures, type ToPrimary, type ToWorker } from "./metrics.ts";

const RESTART_MS = 1_000;
/** How long a replica may take to stop, beyond `DRAIN`. */
const STOP_MS = 8_000;
/** How long to wait for a worker's metrics. */
const FIGURES_MS = 1_000;

/**
 * Runs several replicas in processes of their own that share one port: all cores of a machine without a load balancer.
 * WebSockets need no stickiness. Replaces a worker that dies. Throws if the first ones cannot start. `close` stops
 * them as a replica is stopped, and kills those that miss the deadline.
 */
export async function startWorkers(
  config: Config,
  log: Logger,
): Promise<{ address: string; close: () => Promise<void> }> {
  const names = config.serverId.length + `-${config.workers}`.length;
  if (names > SERVER_ID_MOST)
    throw new Error(
      `SERVER_ID is too long by ${names - SERVER_ID_MOST}: each worker adds its number, and has at most ${SERVER_ID_MOST} characters`,
    );
  let closing = false;
  const { follow, text } = countTogether(log);
  const figures = config.metricsPort === undefined ? undefined : await serveMetrics(config, text, log);
  const fork = (number: number): Worker => {
    const worker = cluster.fork({ SERVER_ID: `${config.serverId}-${number}` });
    follow(worker);
    worker.once("exit", (code, signal) => replace(number, { code, signal }));
    worker.on("error", ({ message }) => {
      // If the system could not start a process, there is no exit event.
      if (worker.process.pid === undefined) replace(number, { reason: message });
    });
    return worker;
  };
  const replace = (number: number, why: object): void => {
    if (closing) return;
    log.error({ number, ...why }, "a worker died");
    setTimeout(() => {
      if (!closing) fork(number);
    }, RESTART_MS);
  };

  async function close(): Promise<void> {
    closing = true;
    const open = Object.values(cluster.workers ?? {}).flatMap((worker) =>
      worker?.process.pid === undefined ? [] : [stop(worker, config.drainMs + STOP_MS, log)],
    );
    await Promise.all(open);
    figures?.close();
  }

  const workers = Array.from({ length: config.workers }, (_, index) => fork(index + 1));
  try {
    const ports = await Promise.all(workers.map(listening));
    return { address: addressOf(config.host, ports[0] ?? config.port), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function listening(worker: Worker): Promise<number> {
  return new Promise((resolve, reject) => {
    worker.once("listening", ({ port }) => resolve(port));
    worker.once("exit", () => reject(new Error("a worker could not start; its own words are above")));
    worker.once("error", reject);
  });
}

function stop(worker: Worker, withinMs: number, log: Logger): Promise<void> {
  return new Promise((resolve) => {
    // The exit may be known before the channel's end.
    if (worker.isDead()) return resolve();
    const late = setTimeout(() => {
      log.error({ pid: worker.process.pid }, "a worker did not stop and is killed");
      worker.process.kill("SIGKILL");
    }, withinMs);
    worker.once("exit", () => {
      clearTimeout(late);
      resolve();
    });
    worker.process.kill("SIGTERM");
  });
}

/**
 * The primary's half of `/metrics`: answers every followed worker that wants the merged text. Dead workers' counts
 * stay in the sums, and a worker that does not answer counts with its last values: a falling sum would look like a
 * restart of all workers.
 */
function countTogether(log: Logger): { follow: (worker: Worker) => void; text: () => Promise<string> } {
  const told = new Map<Worker, Figures>();
  let departed: Figures = [];
  let running: Promise<string> | undefined;

  /** Concurrent requests ask the workers once. */
  function text(): Promise<string> {
    running ??= gather()
      .catch((error: unknown) => {
        log.error({ reason: reasonOf(error) }, "the workers' figures cannot be added up");
        throw error;
      })
      .finally(() => (running = undefined));
    return running;
  }

  async function gather(): Promise<string> {
    await Promise.all([...told.keys()].map(ask));
    return addUp([departed, ...told.values()]).metrics();
  }

  function ask(worker: Worker): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        worker.off("message", hear);
        worker.off("exit", done);
        resolve();
      };
      const hear = (message: ToPrimary) => {
        if (message.metrics !== "figures") return;
        told.set(worker, message.figures);
        done();
      };
      const timer = setTimeout(done, FIGURES_MS);
      worker.on("message", hear);
      worker.once("exit", done);
      send(worker, { metrics: "ask" });
    });
  }

  function follow(worker: Worker): void {
    worker.once("listening", () => told.set(worker, []));
    worker.once("exit", () => {
      const counted = told.get(worker)?.filter(isCount) ?? [];
      told.delete(worker);
      departed = addUp([departed, counted]).getMetricsAsArray() as Figures;
    });
    worker.on("message", (message: ToPrimary) => {
      if (message.metrics !== "want") return;
      text().then(
        (all) => send(worker, { metrics: "text", text: all }),
        () => undefined,
      );
    });
  }

  return { follow, text };
}

/** Whether the metric only rises; prom-client's declarations call the type a number. */
function isCount({ type }: Figures[number]): boolean {
  return ["counter", "histogram"].includes(String(type));
}

/** Sends to a worker that may just have died: without the callback the error would end the primary. */
function send(worker: Worker, message: ToWorker): void {
  worker.send(message, () => undefined);
}
