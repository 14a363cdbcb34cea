import cluster from "node:cluster";
import { pino } from "pino";
import { readConfig } from "./config.ts";
import { startServer } from "./server.ts";
import { startWorkers } from "./workers.ts";

try {
  const config = readConfig(process.env);
  // Logs go to stderr; stdout says one line: where it listens.
  const log = pino({ level: config.logLevel, base: { serverId: config.serverId } }, pino.destination(2));
  const alone = config.workers === 1 || cluster.isWorker;
  const running = await (alone ? startServer(config, log) : startWorkers(config, log));
  if (cluster.isPrimary) process.stdout.write(`Hubbub listens on ${running.address}\n`);
  const stop = () => void running.close().then(() => process.exit(0));
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, stop);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(69);
}
