import { isIPv4, isIPv6 } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import pLimit, { type LimitFunction } from "p-limit";
import {
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
  type RateLimiterAbstract,
} from "rate-limiter-flexible";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS, QUEUES, RATES, type Queue, type TURNS } from "../limits.ts";
import type { Metrics } from "../metrics.ts";
import type { RedisClient } from "../store/redis.ts";
import { Turns } from "./turns.ts";

const QUEUE_RETRY_MS = 1_000;
/** How many are barred at once; beyond that all are released, and barred again by further attempts. */
const BARRED_MOST = 10_000;
/** Of how many users it is known what they have read: beyond that all are forgotten. */
const READERS_MOST = 10_000;

export type Throttle = {
  /** Counts an attempt as one point, or as more; throws `rate_limited` after too many. */
  take: (what: keyof typeof RATES, who: string, points?: number) => Promise<void>;
  /** Throws `rate_limited` after too many earlier attempts; counts none. */
  check: (what: keyof typeof RATES, who: string) => Promise<void>;
  /** Takes back one counted attempt, also a refused one. */
  giveBack: (what: keyof typeof RATES, who: string) => Promise<void>;
  /**
   * Takes the highest cost of a request from the user's `work` budget, runs it, and gives back what it did not cost,
   * or takes what it cost more, all in KB. Throws `rate_limited` before it runs anything. A user's later reads wait if
   * they were much at once.
   */
  pay: <T>(userId: string, most: number, work: () => Promise<T>, cost: (done: T) => number) => Promise<T>;
  /** Remembers that a client must wait: see `barredMs`. */
  bar: (who: string, ms: number) => void;
  /** How long a client must still wait; asked before anything is looked up. */
  barredMs: (who: string) => number;
  /**
   * Resolves when the request may begin; undefined if that is now. Throws `rate_limited` if too many of its sender's
   * wait.
   */
  turn: (kind: keyof typeof TURNS, who: string) => Promise<void> | undefined;
  /**
   * Runs it as soon as fewer of the user's are running than may. Throws `rate_limited` if too many wait. What is long it
   * should send by itself: the promises of a request that has waited are old objects to V8, and would keep it until the
   * whole heap is collected.
   */
  queue: <T>(what: keyof typeof QUEUES, userId: string, work: () => Promise<T>) => Promise<T>;
};

export function createThrottle(
  config: Pick<Config, "rateLimits">,
  redis: RedisClient,
  keys: Keys,
  metrics: Pick<Metrics, "limitsHit">,
): Throttle {
  if (!config.rateLimits) return UNLIMITED;
  const limiters = new Map<string, RateLimiterAbstract>();
  const queues = new Map<string, LimitFunction>();
  const barred = new Map<string, number>();
  /** By user, until when their reads so far would last if they were spread evenly. */
  const evenUntil = new Map<string, number>();
  const reads = pLimit(BOUNDS.reads.value);
  // Who talks waits for nobody's requests, least of all for their own.
  const turns = { events: new Turns(), others: new Turns() };
  const refuse = (limit: string, msBeforeNext: number): ChatError => {
    metrics.limitsHit.inc({ limit });
    return new ChatError("rate_limited", "Too many attempts. Slow down.", Math.ceil(msBeforeNext));
  };
  for (const [what, { points, seconds: duration, counted }] of Object.entries(RATES)) {
    const memory = new RateLimiterMemory({ points, duration });
    const limiter =
      counted === "here"
        ? memory
        : new RateLimiterRedis({
            storeClient: redis,
            keyPrefix: `${keys.limitPrefix}:${what}`,
            points,
            duration,
            insuranceLimiter: memory,
          });
    limiters.set(what, limiter);
  }
  /** Nobody waits for longer than a window: then the clock went back, and what was counted before is over. */
  const isOver = (limiter: RateLimiterAbstract, { msBeforeNext }: RateLimiterRes): boolean =>
    msBeforeNext > limiter.msDuration;
  /** Takes points; answers in how many ms their window is over. */
  const consume = async (what: keyof typeof RATES, who: string, points: number): Promise<number> => {
    const limiter = limiters.get(what);
    if (limiter === undefined) return 0;
    try {
      return (await limiter.consume(who, points)).msBeforeNext;
    } catch (refused) {
      if (!(refused instanceof RateLimiterRes)) throw refused;
      if (!isOver(limiter, refused)) throw refuse(what, refused.msBeforeNext);
      await limiter.delete(who);
      return consume(what, who, points);
    }
  };
  /** Waits while a user has read more than an evenly spread budget allows by now. */
  const spread = async (userId: string): Promise<void> => {
    const waitMs = (evenUntil.get(userId) ?? 0) - performance.now() - BOUNDS.readAhead.value;
    if (waitMs > 0) await sleep(waitMs);
  };
  const note = (userId: string, kb: number): void => {
    const { points, seconds } = RATES.work;
    const from = Math.max(evenUntil.get(userId) ?? 0, performance.now());
    if (evenUntil.size >= READERS_MOST) evenUntil.clear();
    evenUntil.set(userId, from + (kb / points) * seconds * 1_000);
  };
  return {
    async take(what, who, points = 1) {
      await consume(what, who, points);
    },
    async check(what, who) {
      const limiter = limiters.get(what);
      const counted = await limiter?.get(who);
      if (!limiter || !counted || counted.remainingPoints > 0 || counted.msBeforeNext <= 0) return;
      if (!isOver(limiter, counted)) throw refuse(what, counted.msBeforeNext);
    },
    async giveBack(what, who) {
      await limiters.get(what)?.reward(who);
    },
    async pay(userId, most, work, cost) {
      const over = (await consume("work", userId, most)) + performance.now();
      let used = 1;
      try {
        const done = await work();
        used = cost(done);
        return done;
      } finally {
        note(userId, used);
        // Points of a window that is over were returned at its end: the next one would have more than its own.
        if (used > most) await limiters.get("work")?.penalty(userId, Math.ceil(used - most));
        if (used < most && performance.now() < over)
          await limiters.get("work")?.reward(userId, most - Math.ceil(used));
      }
    },
    bar(who, ms) {
      // A client may invent cookies, long ones and many.
      if (who.length > 512) return;
      if (barred.size >= BARRED_MOST) barred.clear();
      barred.set(who, performance.now() + ms);
    },
    barredMs(who) {
      const until = barred.get(who);
      if (until === undefined) return 0;
      const left = until - performance.now();
      if (left <= 0) barred.delete(who);
      return Math.max(0, left);
    },
    turn(kind, who) {
      const line = kind === "event" ? turns.events : turns.others;
      if (line.waiting(who) >= BOUNDS.turnsWaiting.value) throw refuse("turn", QUEUE_RETRY_MS);
      return line.take(kind, who);
    },
    queue(what, userId, work) {
      const name = `${what} ${userId}`;
      const { running, waiting, turn }: Queue = QUEUES[what];
      const queue = queues.get(name) ?? pLimit(running);
      if (queue.pendingCount >= waiting) throw refuse(what, QUEUE_RETRY_MS);
      queues.set(name, queue);
      const begin = async () => {
        if (!turn) return work();
        await spread(userId);
        await this.turn(turn, `${turn} ${userId}`);
        return reading(reads, work);
      };
      return queue(begin).finally(() => {
        if (queue.activeCount + queue.pendingCount === 0) queues.delete(name);
      });
    },
  };
}

/** Runs it as soon as fewer reads are running than may. One that waits for Redis for long holds up no other. */
async function reading<T>(reads: LimitFunction, work: () => Promise<T>): Promise<T> {
  const { running } = await reads(async () => {
    const begun = work();
    await Promise.race([begun.catch(() => {}), sleep(BOUNDS.readMs.value)]);
    return { running: begun };
  });
  return running;
}

const UNLIMITED: Throttle = {
  take: () => Promise.resolve(),
  check: () => Promise.resolve(),
  giveBack: () => Promise.resolve(),
  bar: () => undefined,
  barredMs: () => 0,
  pay: (_userId, _most, work) => work(),
  turn: () => undefined,
  queue: (_what, _userId, work) => work(),
};

/**
 * One key for each IPv4 address, in any spelling, and for each IPv6 network of /64, which may belong to one person.
 * Anything else, as when a proxy forwards an invented address, shares one key.
 */
export function addressKey(address = ""): string {
  const [bare = ""] = address.split("%", 1);
  if (isIPv4(bare)) return bare;
  if (!isIPv6(bare)) return "unknown";
  // A URL's host spells each address in one way: lower case, no leading zeros, zeros in the middle as ::.
  const [head = "", tail] = new URL(`http://[${bare}]/`).hostname.slice(1, -1).split("::");
  const before = head.split(":").filter(Boolean);
  const after = tail?.split(":").filter(Boolean) ?? [];
  const groups = [...before, ...Array<string>(8 - before.length - after.length).fill("0"), ...after];
  if (groups.slice(0, 6).join(":") !== "0:0:0:0:0:ffff") return groups.slice(0, 4).join(":");
  return groups
    .slice(6)
    .map((group) => Number.parseInt(group, 16))
    .flatMap((group) => [group >> 8, group & 255])
    .join(".");
}
