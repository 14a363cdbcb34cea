import cluster from "node:cluster";
import { pino } from "pino";
import { checkClient, checkEnvironment, checkProcess, heed, sentenceOf } from "./store/checks.ts";
import { readConfig, type Config } from "./config.ts";
import { framesOf, reasonOf } from "./errors.ts";
import { wordsInUse } from "./store/redisReach.ts";
import { startServer } from "./server.ts";
import { startWorkers } from "./workers.ts";

/** Reports a wrong configuration together with misspelt variables, because one may cause the other. */
function readEnvironment(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    const slips = checkEnvironment(process.env, undefined).map(sentenceOf);
    throw new Error([error instanceof Error ? error.message : String(error), ...slips].join("\n"), {
      cause: error,
    });
  }
}

let running: { address: string; close: () => Promise<void> } | undefined;
let isStopping = false;

/** Drains what runs. A start, which may wait for Redis for minutes, ends at once: its workers first, if it has some. */
function stop(): void {
  isStopping = true;
  if (running) {
    void running.close().then(() => process.exit(0));
    return;
  }
  const workers = Object.values(cluster.workers ?? {});
  if (workers.length === 0) process.exit(0);
  for (const worker of workers) worker?.process.kill("SIGTERM");
}

try {
  const config = readEnvironment();
  // Logs go to stderr; stdout gets one line: where the server listens.
  const log = pino({ level: config.logLevel, base: { serverId: config.serverId } }, pino.destination(2));
  // Node itself would print the error with everything that it carries: a command's arguments, texts of people.
  process.on("uncaughtException", (error) => {
    log.fatal({ reason: reasonOf(error), stack: framesOf(error) }, "ended by an error that nobody handled");
    process.exit(1);
  });
  // Before anything runs that a signal could leave half done, and before anybody hears that it listens.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, stop);
  // The workers share the primary's environment.
  if (cluster.isPrimary)
    heed([...checkEnvironment(process.env, config), ...checkClient(config), ...checkProcess()], log);
  const alone = config.workers === 1 || cluster.isWorker;
  running = await (alone ? startServer(config, log) : startWorkers(config, log));
  if (isStopping) stop();
  else if (cluster.isPrimary) {
    // It may be closed, or on a full disk.
    process.stdout.on("error", () => undefined);
    process.stdout.write(`Hubbub listens on ${running.address}\n`);
  }
} catch (error) {
  // The start failed because its workers were ended.
  if (isStopping) process.exit(0);
  process.stderr.write(`${wordsInUse(error)}\n`);
  process.exit(69);
}
