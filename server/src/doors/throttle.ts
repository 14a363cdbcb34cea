import { isIPv4, isIPv6 } from "node:net";
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
import type { Metrics } from "../metrics.ts";
import type { RedisClient } from "../redis.ts";

/** points in seconds. Counted in Redis, for all replicas together, unless `here`: those cost no Redis command. */
const LIMITS = {
  /** An office that begins behind one address signs up together. */
  signUp: { points: 100, duration: 600 },
  /** Wrong passwords from an address, whatever the names: a point is given back to whoever is let in. */
  logInAddress: { points: 30, duration: 900 },
  /** Wrong passwords for a name from everywhere but the addresses where its owner is at home. */
  logInName: { points: 10, duration: 900 },
  /** Wrong passwords for a name from one such address: strangers elsewhere cannot lock the owner out. */
  logInHome: { points: 10, duration: 900 },
  /** Right ones for a name: each costs a hash and a session. */
  logIn: { points: 30, duration: 300 },
  rest: { points: 1_000, duration: 10, here: true },
  message: { points: 100, duration: 10, here: true },
  event: { points: 200, duration: 10, here: true },
  /** Refusals as above that somebody goes on after: then their connections are closed until the window ends. */
  refused: { points: 100, duration: 10, here: true },
  /** KB that answers to a user may have, costlier ones weighted: see `pay`. Scrolling fast takes a tenth of it. */
  work: { points: 20_000, duration: 10, here: true },
  /** Named rooms that a user makes, and calls that may start a private one. */
  room: { points: 200, duration: 86_400 },
  privateRoom: { points: 500, duration: 3_600 },
  /** Connections that a user starts: a page reloaded every second. */
  handshake: { points: 60, duration: 60, here: true },
  /** Connections without a session that an address starts. */
  stranger: { points: 60, duration: 60, here: true },
} satisfies Record<string, { points: number; duration: number; here?: true }>;

/** Costly requests of one user that may run at once, and those that may wait for them. */
const QUEUES = {
  /** A tab each that comes back. */
  sync: { running: 2, waiting: 20 },
  rooms: { running: 1, waiting: 20 },
  /** Each reads a whole room. */
  transcript: { running: 1, waiting: 1 },
} satisfies Record<string, { running: number; waiting: number }>;

const QUEUE_RETRY_MS = 1_000;

export type Throttle = {
  /** Counts one attempt, or so many points; throws `rate_limited` when there were too many. */
  take: (what: keyof typeof LIMITS, who: string, points?: number) => Promise<void>;
  /** Throws `rate_limited` when earlier attempts were too many; counts none. */
  check: (what: keyof typeof LIMITS, who: string) => Promise<void>;
  /** Takes back one attempt that was counted, also one that was refused. */
  giveBack: (what: keyof typeof LIMITS, who: string) => Promise<void>;
  /**
   * Takes from the user's `work` the most that a request can cost, does it, and gives back what it did not cost, or
   * takes what it cost more, all in KB. Throws `rate_limited` before anything is done.
   */
  pay: <T>(userId: string, most: number, work: () => Promise<T>, cost: (done: T) => number) => Promise<T>;
  /** Does it when fewer than so many of the user's run. Throws `rate_limited` when too many wait. */
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
  const refuse = (limit: string, msBeforeNext: number): ChatError => {
    metrics.limitsHit.inc({ limit });
    return new ChatError("rate_limited", "Too many attempts. Slow down.", Math.ceil(msBeforeNext));
  };
  for (const [what, limit] of Object.entries(LIMITS)) {
    const { points, duration } = limit;
    const memory = new RateLimiterMemory({ points, duration });
    const limiter =
      "here" in limit
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
  return {
    async take(what, who, points = 1) {
      try {
        await limiters.get(what)?.consume(who, points);
      } catch (refused) {
        throw refused instanceof RateLimiterRes ? refuse(what, refused.msBeforeNext) : refused;
      }
    },
    async check(what, who) {
      const counted = await limiters.get(what)?.get(who);
      if (counted && counted.remainingPoints <= 0 && counted.msBeforeNext > 0)
        throw refuse(what, counted.msBeforeNext);
    },
    async giveBack(what, who) {
      await limiters.get(what)?.reward(who);
    },
    async pay(userId, most, work, cost) {
      await this.take("work", userId, most);
      const began = performance.now();
      let used = 1;
      try {
        const done = await work();
        used = cost(done);
        return done;
      } finally {
        // What was taken in a window that is over came back with its end.
        if (used > most) await limiters.get("work")?.penalty(userId, Math.ceil(used - most));
        if (used < most && performance.now() - began < LIMITS.work.duration * 1_000)
          await limiters.get("work")?.reward(userId, most - Math.ceil(used));
      }
    },
    queue(what, userId, work) {
      const name = `${what} ${userId}`;
      const { running, waiting } = QUEUES[what];
      const queue = queues.get(name) ?? pLimit(running);
      if (queue.pendingCount >= waiting) throw refuse(what, QUEUE_RETRY_MS);
      queues.set(name, queue);
      return queue(work).finally(() => {
        if (queue.activeCount + queue.pendingCount === 0) queues.delete(name);
      });
    },
  };
}

const UNLIMITED: Throttle = {
  take: () => Promise.resolve(),
  check: () => Promise.resolve(),
  giveBack: () => Promise.resolve(),
  pay: (_userId, _most, work) => work(),
  queue: (_what, _userId, work) => work(),
};

/**
 * One key for an IPv4 address, however it is written, and for an IPv6 network of /64, which one person may own whole.
 * What is no address, as where a proxy passes on what a client made up, shares one key.
 */
export function addressKey(address = ""): string {
  const [bare = ""] = address.split("%", 1);
  if (isIPv4(bare)) return bare;
  if (!isIPv6(bare)) return "unknown";
  // A URL's host has one spelling of each address: lower case, no leading zeros, the zeros in the middle as ::.
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
