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
  signUp: { points: 100, duration: 600 },
  /** Wrong passwords only. */
  logInAddress: { points: 100, duration: 900 },
  logInName: { points: 10, duration: 900 },
  rest: { points: 1_000, duration: 10, here: true },
  message: { points: 100, duration: 10, here: true },
  event: { points: 200, duration: 10, here: true },
} satisfies Record<string, { points: number; duration: number; here?: true }>;

export type Throttle = {
  /** Counts one attempt; throws `rate_limited` when there were too many. */
  take: (what: keyof typeof LIMITS, who: string) => Promise<void>;
  /** Throws `rate_limited` when earlier attempts were too many; counts none. */
  check: (what: keyof typeof LIMITS, who: string) => Promise<void>;
};

export function createThrottle(
  config: Pick<Config, "rateLimits">,
  redis: RedisClient,
  keys: Keys,
  metrics: Pick<Metrics, "limitsHit">,
): Throttle {
  if (!config.rateLimits) return { take: () => Promise.resolve(), check: () => Promise.resolve() };
  const limiters = new Map<string, RateLimiterAbstract>();
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
    async take(what, who) {
      try {
        await limiters.get(what)?.consume(who);
      } catch (refused) {
        throw refused instanceof RateLimiterRes ? refuse(what, refused.msBeforeNext) : refused;
      }
    },
    async check(what, who) {
      const counted = await limiters.get(what)?.get(who);
      if (counted && counted.remainingPoints <= 0 && counted.msBeforeNext > 0)
        throw refuse(what, counted.msBeforeNext);
    },
  };
}

/** One key for an IPv4 address and for an IPv6 network of /64, which one person may own whole. */
export function addressKey(address: string | undefined): string {
  if (!address?.includes(":") || address.startsWith("::ffff:")) return address ?? "unknown";
  const [head = "", tail] = address.split("::");
  const groups = head.split(":").filter(Boolean);
  const missing = tail === undefined ? 0 : 8 - groups.length - tail.split(":").filter(Boolean).length;
  return [...groups, ...Array<string>(missing).fill("0"), ...(tail ?? "").split(":")].slice(0, 4).join(":");
}
