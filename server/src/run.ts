import cluster from "node:cluster";
import { pino } from "pino";
import { readConfig } from "./config.ts";
import { framesOf, reasonOf } from "./errors.ts";
import { startServer } from "./server.ts";
import { startWorkers } from "./workers.ts";

try {
  const config = readConfig(process.env);
  // Logs go to stderr; stdout says one line: where it listens.
  const log = pino({ level: config.logLevel, base: { serverId: config.serverId } }, pino.destination(2));
  // Left to Node, the error would be printed with all that it carries: a command's arguments, what people wrote.
  process.on("uncaughtException", (error) => {
    log.fatal({ reason: reasonOf(error), stack: framesOf(error) }, "ended by an error that nobody handled");
    process.exit(1);
  });
  const alone = config.workers === 1 || cluster.isWorker;
  const running = await (alone ? startServer(config, log) : startWorkers(config, log));
  if (cluster.isPrimary) process.stdout.write(`Hubbub listens on ${running.address}\n`);
  const stop = () => void running.close().then(() => process.exit(0));
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, stop);
} catch (error) {
  const refused = error instanceof Error && error.name === "ReplyError";
  const line = error instanceof Error ? error.message : String(error);
  process.stderr.write(`${refused ? `Redis refuses: ${reasonOf(error)}` : line}\n`);
  process.exit(69);
}
