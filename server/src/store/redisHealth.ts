import { Cluster } from "ioredis";
import type { Logger } from "pino";
import { MAY_WRITE, evictionOf, evictionWords } from "./checks.ts";
import { ChatError, redisCode } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import { primariesOf, withDeadline, type RedisClient } from "./redis.ts";

/** How often Redis is checked if nobody asks. */
const LOOK_MS = 2_000;
/** A load balancer that waits 2 s for /readyz must hear "not ready", and not take the replica for dead. */
const READY_MS = 1_000;
/** What /readyz says, by Redis' code. */
const REASONS: Record<string, string> = {
  READONLY: "readonly",
  OOM: "out of memory",
  NOREPLICAS: "no replicas",
  MISCONF: "misconf",
  MASTERDOWN: "no primary",
  CLUSTERDOWN: "cluster down",
  LOADING: "loading",
  BUSY: "busy",
  NOPERM: "no right to run scripts",
};
const SILENT = "no answer";
/** How long a renewed connection may take before we say that Redis does not answer. */
const RENEWAL_MS = 3_000;

/** Asks whether Redis takes writes, at each /readyz and every 2 s, and whether it deletes keys by itself. */
export class RedisHealth {
  readonly #commands: RedisClient;
  readonly #subscriber: RedisClient;
  readonly #metrics: Metrics;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<string | undefined> | undefined;
  /** Why it took no writes at the last check. */
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

  /** Why Redis takes no writes, or undefined. Concurrent callers share one check. */
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
      await Promise.all(primariesOf(this.#commands).map((node) => node.eval(MAY_WRITE, 0)));
      return undefined;
    } catch (error) {
      const code = redisCode(error);
      if (code === "READONLY") this.#readonlyAt = performance.now();
      if (code !== undefined && code !== "ERR") return REASONS[code] ?? code;
      if (code !== undefined) {
        // Another product, which does not know such scripts: all we can know is that it answers.
        await Promise.all(primariesOf(this.#commands).map((node) => node.ping()));
        return undefined;
      }
      // That answer is why the connection is being renewed right now.
      if (performance.now() - this.#readonlyAt < RENEWAL_MS) return REASONS["READONLY"];
      // While Redis is loading, ioredis sends only this.
      const info = await primariesOf(this.#commands)[0]?.info("persistence");
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
    // A refused command renews the connection for commands. The other connection sends none that could be refused.
    const readonly = [before, reason].includes(REASONS["READONLY"]);
    if (readonly && !(this.#subscriber instanceof Cluster) && this.#subscriber.status === "ready")
      this.#subscriber.disconnect(true);
  }

  async #lookAtEviction(): Promise<void> {
    const infos = await Promise.all(primariesOf(this.#commands).map((node) => node.info("memory")));
    const policy = infos.map(evictionOf).find((each) => each !== undefined);
    if (policy === this.#evicts) return;
    if (policy === undefined) this.#log.info("redis deletes no keys by itself any more");
    else this.#log.error({ policy }, evictionWords(policy));
    this.#evicts = policy;
    this.#metrics.redisEvicts.set(policy === undefined ? 0 : 1);
  }
}
