import { noteUnanswered, redisCode } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import { primariesOf, type RedisClient } from "./redis.ts";
import { infoField } from "./redisReach.ts";

/** How often Redis' memory is sampled: often enough for an alert, rarely enough to cost nothing. */
const SAMPLE_MS = 15_000;
/** Redis' codes that are counted by name; a closed list bounds the number of metrics. */
const CODES = new Set(
  (
    "ERR OOM READONLY LOADING BUSY MISCONF NOREPLICAS MASTERDOWN CLUSTERDOWN TRYAGAIN MOVED ASK CROSSSLOT NOSCRIPT " +
    "NOPERM NOAUTH WRONGPASS WRONGTYPE EXECABORT"
  ).split(" "),
);

/**
 * Times every command of these connections to one Redis, counts failures by kind and samples Redis' memory, until the
 * returned function is called. The time of a command begins when ioredis gets it.
 */
export function watchRedis(clients: readonly RedisClient[], metrics: Metrics): () => void {
  for (const code of [...CODES, "timeout", "closed", "connection", "other"])
    metrics.redisErrors.inc({ code }, 0);
  const fail = (error: unknown) => metrics.redisErrors.inc({ code: kindOf(error) });
  type Command = { promise: Promise<unknown> };
  for (const client of clients) {
    const send = client.sendCommand.bind(client) as (command: Command, ...rest: unknown[]) => unknown;
    Reflect.set(client, "sendCommand", (command: Command, ...rest: unknown[]) => {
      const began = performance.now();
      const answer = send(command, ...rest);
      const time = () => metrics.redisCommands.observe((performance.now() - began) / 1_000);
      command.promise.then(time, (error: unknown) => {
        time();
        noteUnanswered(error);
        fail(error);
      });
      return answer;
    });
    client.on("error", () => metrics.redisErrors.inc({ code: "connection" }));
  }

  const sample = async (): Promise<void> => {
    const nodes = clients.slice(0, 1).flatMap(primariesOf);
    const told = await Promise.all(nodes.map(async (node) => memoryOf(await node.info("memory"))));
    const fullest = told.toSorted((a, b) => share(b) - share(a))[0];
    if (!fullest) return;
    metrics.redisMemory.set(fullest.used);
    metrics.redisMemoryLimit.set(fullest.limit);
  };
  // While Redis is away, the last sample stays; the error counters show that it is away.
  const look = () => void sample().catch(() => undefined);
  look();
  const timer = setInterval(look, SAMPLE_MS);
  return () => clearInterval(timer);
}

type Memory = { used: number; limit: number };

function memoryOf(info: string): Memory {
  const figure = (name: string) => Number(infoField(info, name)) || 0;
  return { used: figure("used_memory"), limit: figure("maxmemory") };
}

function share({ used, limit }: Memory): number {
  return limit > 0 ? used / limit : used / Number.MAX_SAFE_INTEGER;
}

function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return "other";
  if (error.name === "ReplyError") {
    const code = redisCode(error) ?? "";
    return CODES.has(code) ? code : "other";
  }
  if (/timed out|timeout/i.test(error.message)) return "timeout";
  return /closed|writeable|ECONN|EPIPE|max retries/i.test(error.message) ? "closed" : "other";
}
