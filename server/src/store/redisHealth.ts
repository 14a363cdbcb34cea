import { Cluster, type Redis } from "ioredis";
import type { Logger } from "pino";
import { evictionOf, evictionWords } from "./checks.ts";
import { ChatError, redisCode } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import { withDeadline, type RedisClient } from "./redis.ts";

/** How often Redis is looked at where nobody asks. */
const LOOK_MS = 2_000;
/** A load balancer that waits 2 s for /readyz is to hear "not ready", not to take the replica for dead. */
const READY_MS = 1_000;
/**
 * A script that says of itself that it may write, and does not: Redis refuses it with the code with which it would
 * refuse a write, and stores nothing.
 */
const MAY_WRITE = "#!lua\nreturn 1";

/** By Redis' code, as /readyz says it. */
const REASONS: Record<string, string> = {
  READONLY: "readonly",
  OOM: "out of memory",
  NOREPLICAS: "no replicas",
  MISCONF: "misconf",
  MASTERDOWN: "no primary",
  CLUSTERDOWN: "cluster down",
  LOADING: "loading",
  BUSY: "busy",
};
const SILENT = "no answer";
/** What a connection takes to be renewed, at most, before we say that Redis does not answer. */
const RENEWAL_MS = 3_000;

/** Whether Redis takes writes, asked whenever /readyz is and every 2 s; and whether it deletes by itself. */
export class RedisHealth {
  readonly #commands: RedisClient;
  readonly #subscriber: RedisClient;
  readonly #metrics: Metrics;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<string | undefined> | undefined;
  /** Why it took no writes when it was asked last. */
  #reason: string | undefined;
  #readonlyAt = -Infinity;
  #evicts: string | undefined;

  constructor(commands: RedisClient, subscriber: RedisClient, metrics: Metrics, log: Logger) {
    this.#commands = commands;
    this.#subscriber = subscriber;
    this.#metrics = metrics;
    this.#log = log;
  }

  start(): void {
    this.#metrics.redisWritable.set(1);
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
    void this.#look();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Resolves with warnings while Redis takes writes; else throws `unavailable` with the reason. */
  async ready(): Promise<string[]> {
    const reason = await this.#ask();
    if (reason !== undefined)
      throw new ChatError(
        "unavailable",
        reason === SILENT ? "Redis does not answer." : `Redis takes no writes: ${reason}.`,
        1_000,
      );
    return this.#evicts === undefined ? [] : [`${evictionWords(this.#evicts)}.`];
  }

  async #look(): Promise<void> {
    await this.#ask();
    await this.#lookAtEviction().catch(() => undefined);
  }

  /** Why Redis takes no writes, if so. Those who ask at once share the question. */
  #ask(): Promise<string | undefined> {
    this.#asking ??= withDeadline(this.#question(), READY_MS)
      .catch(() => SILENT)
      .then((reason) => {
        this.#note(reason);
        return reason;
      })
      .finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  async #question(): Promise<string | undefined> {
    try {
      await Promise.all(this.#primaries().map((node) => node.eval(MAY_WRITE, 0)));
      return undefined;
    } catch (error) {
      const code = redisCode(error);
      if (code === "READONLY") this.#readonlyAt = performance.now();
      if (code !== undefined && code in REASONS) return REASONS[code];
      if (code !== undefined) {
        // A user who may not run this, or a Redis of another make: that it answers is all that can be known.
        await Promise.all(this.#primaries().map((node) => node.ping()));
        return undefined;
      }
      // It is because of that answer that the connection is just being renewed.
      if (performance.now() - this.#readonlyAt < RENEWAL_MS) return REASONS["READONLY"];
      // Before it has loaded what it keeps, ioredis sends nothing but this.
      const info = await this.#primaries()[0]?.info("persistence");
      return info?.includes("\nloading:1") ? REASONS["LOADING"] : SILENT;
    }
  }

  #note(reason: string | undefined): void {
    const before = this.#reason;
    if (reason === before) return;
    this.#reason = reason;
    this.#metrics.redisWritable.set(reason === undefined ? 1 : 0);
    if (reason === undefined) this.#log.info({ was: before }, "redis takes writes again");
    else this.#log.warn({ reason }, "redis takes no writes");
    // The connection for commands is renewed where a command was refused. The other one sends none that could be.
    const readonly = [before, reason].includes(REASONS["READONLY"]);
    if (readonly && !(this.#subscriber instanceof Cluster) && this.#subscriber.status === "ready")
      this.#subscriber.disconnect(true);
  }

  async #lookAtEviction(): Promise<void> {
    const infos = await Promise.all(this.#primaries().map((node) => node.info("memory")));
    const policy = infos.map(evictionOf).find((each) => each !== undefined);
    if (policy === this.#evicts) return;
    if (policy === undefined) this.#log.info("redis deletes no keys by itself any more");
    else this.#log.error({ policy }, evictionWords(policy));
    this.#evicts = policy;
    this.#metrics.redisEvicts.set(policy === undefined ? 0 : 1);
  }

  #primaries(): Redis[] {
    return this.#commands instanceof Cluster ? this.#commands.nodes("master") : [this.#commands];
  }
}
