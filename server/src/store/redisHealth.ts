import { Cluster } from "ioredis";
import type { Logger } from "pino";
import { MAY_WRITE, sentenceOf, type Finding } from "./checks.ts";
import { ChatError, redisCode } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import { primariesOf, withDeadline, type RedisClient } from "./redis.ts";
import { infoField } from "./redisReach.ts";

/** How often Redis is checked if nobody asks. */
const LOOK_MS = 2_000;
/** How often what a start checks is checked again. */
const CHECK_MS = 5_000;
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
  NOAUTH: "user or password is wrong",
  WRONGPASS: "user or password is wrong",
};
const SILENT = "no answer";
/** How long a renewed connection may take before we say that Redis does not answer. */
const RENEWAL_MS = 3_000;

/**
 * Asks whether Redis takes writes, at each /readyz and every 2 s, and repeats what a start checks, every 5 s and after
 * each new connection: an operator may change Redis while servers run. What a start would refuse is a warning from then
 * on, as the server has data there and people in it; only without its rights it is not ready.
 */
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
  readonly #check: () => Promise<Finding[]>;
  #checkedAt = -Infinity;
  #checking = false;
  /** What was found at the last check, by `about`. */
  #found = new Map<string, Finding>();
  /** What the start itself has told, and went on with. */
  readonly #accepted: Set<string>;
  readonly #renewed = (): void => {
    this.#refusal = undefined;
    void this.#checkAgain();
  };
  /** Why Redis refused the last attempt to connect, if it did. */
  #refusal: string | undefined;
  readonly #failed = (error: unknown): void => void (this.#refusal = REASONS[redisCode(error) ?? ""]);

  /** `check` is what a start checks, and `found` what it found. */
  constructor(
    commands: RedisClient,
    subscriber: RedisClient,
    metrics: Metrics,
    log: Logger,
    check: () => Promise<Finding[]>,
    found: Finding[],
  ) {
    this.#check = check;
    this.#found = byAbout(found);
    this.#accepted = new Set([...this.#found.keys()].filter((about) => about !== EVICTION));
    this.#commands = commands;
    this.#subscriber = subscriber;
    this.#metrics = metrics;
    this.#log = log;
  }

  start(): void {
    this.#metrics.redisWritable.set(1);
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
    this.#noteEviction();
    this.#commands.on("ready", this.#renewed).on("error", this.#failed);
    void this.#look();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#commands.off("ready", this.#renewed).off("error", this.#failed);
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
    const lacks = this.#found.get("rights");
    if (lacks) throw new ChatError("unavailable", `${sentenceOf(lacks)}.`, 1_000);
    return [...this.#found.values()]
      .filter(({ about }) => !this.#accepted.has(about))
      .map((finding) => `${sentenceOf(finding)}.`);
  }

  async #look(): Promise<void> {
    await this.#ask();
    if (performance.now() - this.#checkedAt >= CHECK_MS) await this.#checkAgain();
  }

  /** Why Redis takes no writes, or undefined. Concurrent callers share one check. */
  #ask(): Promise<string | undefined> {
    this.#asking ??= withDeadline(this.#question(), READY_MS)
      .catch(() => this.#refusal ?? SILENT)
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
      return infoField(info ?? "", "loading") === "1" ? REASONS["LOADING"] : SILENT;
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

  /** While Redis is away, the last answer stays. */
  async #checkAgain(): Promise<void> {
    if (this.#checking) return;
    this.#checking = true;
    this.#checkedAt = performance.now();
    try {
      const found = byAbout(await this.#check());
      // Without its rights it cannot ask for the rest.
      this.#tell(found.has("rights") ? new Map([...this.#found, ...found]) : found);
    } catch {
      // Whether it answers, and takes writes, is asked elsewhere.
    } finally {
      this.#checking = false;
    }
  }

  /** Logs what is new, and what is over, once. */
  #tell(found: Map<string, Finding>): void {
    for (const [about, { level, says, cure }] of found) {
      if (this.#found.get(about)?.level === level) continue;
      this.#accepted.delete(about);
      this.#log[level === "refuse" ? "error" : "warn"]({ about, cure }, says);
    }
    for (const about of this.#found.keys()) {
      if (found.has(about)) continue;
      this.#accepted.delete(about);
      this.#log.info({ about }, "what was wrong with redis is over");
    }
    this.#found = found;
    this.#noteEviction();
  }

  #noteEviction(): void {
    this.#metrics.redisEvicts.set(this.#found.has(EVICTION) ? 1 : 0);
  }
}

const EVICTION = "maxmemory-policy";

function byAbout(findings: Finding[]): Map<string, Finding> {
  return new Map(findings.flatMap((each) => (each.level === "note" ? [] : [[each.about, each] as const])));
}
