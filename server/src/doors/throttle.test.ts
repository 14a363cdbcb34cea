import * as fc from "fast-check";
import { Redis } from "ioredis";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { createKeys } from "../keys.ts";
import { BOUNDS, RATES } from "../limits.ts";
import { createMetrics } from "../metrics.ts";
import { testRedisUrl } from "../testing.ts";
import { addressKey, createThrottle } from "./throttle.ts";

const hex = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const groupsOf = (bytes: Uint8Array) => hex(bytes).match(/.{4}/g) ?? [];
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

/** Every spelling of an IPv6 address: leading zeros or none, either case, one run of zeros as `::`. */
function spellings(address: Uint8Array): string[] {
  const full = groupsOf(address);
  const short = full.map((group) => group.replace(/^0{1,3}/, ""));
  const whole = [full.join(":"), short.join(":")];
  const shortened = short.flatMap((_, from) =>
    short.flatMap((__, to) =>
      to > from && short.slice(from, to + 1).every((group) => group === "0")
        ? `${short.slice(0, from).join(":")}::${short.slice(to + 1).join(":")}`
        : [],
    ),
  );
  return [...whole, ...shortened].flatMap((text) => [text, text.toUpperCase(), `${text}%eth0`]);
}

describe("an event of a connection", () => {
  it.each([
    ["others' requests", "request", (count: number) => `somebody ${count % 10}`],
    ["the parts of its own user's files", "file", () => "a"],
  ] as const)("does not wait for %s", async (_what, kind, who) => {
    const redis = new Redis(testRedisUrl());
    onTestFinished(() => redis.disconnect());
    const throttle = createThrottle({ rateLimits: true }, redis, createKeys("test:"), createMetrics());
    const waiting = Array.from({ length: 100 }, async (_, count) => {
      await throttle.turn(kind, who(count));
    });
    expect(throttle.turn("event", "a")).toBeUndefined();
    await Promise.all(waiting);
  });
});

it("a limit lasts no longer than its window where the clock of Redis, or of the replica, went back", async () => {
  const redis = new Redis(testRedisUrl());
  const keys = createKeys("test-clock:");
  const clean = async () => redis.del(...(await redis.keys(`${keys.limitPrefix}*`)), "none");
  onTestFinished(async () => {
    await clean();
    redis.disconnect();
    vi.useRealTimers();
  });
  const throttle = createThrottle({ rateLimits: true }, redis, keys, createMetrics());
  const takeAll = async (what: "logInName" | "account") => {
    for (let count = 0; count < RATES[what].points; count += 1) await throttle.take(what, "ann");
    await expect(throttle.take(what, "ann")).rejects.toMatchObject({ code: "rate_limited" });
  };
  await takeAll("logInName");
  await expect(throttle.check("logInName", "ann")).rejects.toMatchObject({ code: "rate_limited" });
  // As Redis sees what it set when its clock was three hours ahead.
  for (const key of await redis.keys(`${keys.limitPrefix}*`)) await redis.pexpire(key, 3 * 3_600_000);
  await throttle.check("logInName", "ann");
  await takeAll("logInName");
  await takeAll("account");
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() - 3 * 3_600_000 });
  await takeAll("account");
});

it("a user who reads much at once waits for the next page, while others, and users of short pages, do not", async () => {
  const redis = new Redis(testRedisUrl());
  onTestFinished(() => redis.disconnect());
  const throttle = createThrottle({ rateLimits: true }, redis, createKeys("test:"), createMetrics());
  const done: string[] = [];
  const page = async (user: string, kb: number) => {
    const read = () => Promise.resolve(kb);
    await throttle.queue("page", user, () => throttle.pay(user, 1_200, read, () => kb));
    done.push(user);
  };
  const { points, seconds } = RATES.work;
  await page("greedy", points / 2);
  const since = performance.now();
  const late = page("greedy", 1);
  for (let count = 0; count < 50; count += 1) await page("modest", 30);
  await page("other", 600);
  expect(done.filter((user) => user === "greedy")).toHaveLength(1);
  await late;
  expect(performance.now() - since).toBeGreaterThan((seconds * 1_000) / 2 - BOUNDS.readAhead.value - 100);
});

it("what a burst of requests reads begins in many turns of the event loop, also for several users", async () => {
  const redis = new Redis(testRedisUrl());
  onTestFinished(() => redis.disconnect());
  const throttle = createThrottle({ rateLimits: true }, redis, createKeys("test:"), createMetrics());
  let begun = 0;
  let done = 0;
  let most = 0;
  const all = Array.from({ length: 60 }, async (_, count) => {
    await throttle.queue((["sync", "page", "lists"] as const)[count % 3]!, `user ${count % 10}`, async () => {
      begun += 1;
      await Promise.resolve();
    });
    done += 1;
  });
  for (let seen = 0; done < all.length; seen = begun) {
    await new Promise((resolve) => setImmediate(resolve));
    most = Math.max(most, begun - seen);
  }
  await Promise.all(all);
  // A turn may see the end of one round and the begin of the next.
  expect(most).toBeLessThan(5 * BOUNDS.turn.value);
});

it("a charge is given back within its own window only: the next one has no more than its points", async () => {
  const redis = new Redis(testRedisUrl());
  vi.useFakeTimers({ toFake: ["Date", "performance", "setTimeout", "clearTimeout"] });
  onTestFinished(() => {
    vi.useRealTimers();
    redis.disconnect();
  });
  const throttle = createThrottle({ rateLimits: true }, redis, createKeys("test:"), createMetrics());
  const { points, seconds } = RATES.work;
  await throttle.take("work", "a");
  await vi.advanceTimersByTimeAsync(seconds * 1_000 - 100);
  const slow = () => new Promise<void>((resolve) => setTimeout(resolve, 200));
  const paid = throttle.pay("a", points - 1, slow, () => 1);
  await vi.advanceTimersByTimeAsync(150);
  await throttle.take("work", "a", points);
  await vi.advanceTimersByTimeAsync(100);
  await paid;
  await expect(throttle.take("work", "a")).rejects.toMatchObject({ code: "rate_limited" });
});

it("a read that Redis does not answer holds up no other", async () => {
  const redis = new Redis(testRedisUrl());
  onTestFinished(() => redis.disconnect());
  const throttle = createThrottle({ rateLimits: true }, redis, createKeys("test:"), createMetrics());
  const never = Array.from({ length: 20 }, (_, count) =>
    throttle.queue("page", `stuck ${count}`, () => new Promise<string>(() => {})),
  );
  expect(await Promise.race([...never, throttle.queue("page", "b", () => Promise.resolve("read"))])).toBe(
    "read",
  );
  await expect(throttle.queue("page", "c", () => Promise.reject(new Error("broken")))).rejects.toThrow(
    "broken",
  );
});

describe("the key of an address", () => {
  it("is the same for a whole /64 network of IPv6, in every spelling, and differs for the next one", () => {
    const zeros = fc.array(fc.nat({ max: 7 }), { maxLength: 8 });
    fc.assert(
      fc.property(bytes(8), bytes(8), bytes(8), zeros, (network, one, other, empty) => {
        // Avoids the prefix of mapped IPv4 addresses.
        network[0] = 0x20;
        const [left, right] = [one, other].map((host) => {
          const address = Uint8Array.from([...network, ...host]);
          for (const group of empty.filter((at) => at > 3)) address.fill(0, group * 2, group * 2 + 2);
          return address;
        });
        const keys = [left!, right!].flatMap(spellings).map(addressKey);
        expect(new Set(keys).size).toBe(1);
        const next = Uint8Array.from([...network, ...one]);
        next[7]! ^= 1;
        expect(addressKey(groupsOf(next).join(":"))).not.toBe(keys[0]);
      }),
    );
  });

  it("is that of the IPv4 address for a mapped IPv6 address", () => {
    fc.assert(
      fc.property(bytes(4), (host) => {
        const dotted = [...host].join(".");
        const mapped = Uint8Array.from([...Array<number>(10).fill(0), 255, 255, ...host]);
        const forms = [dotted, `::ffff:${dotted}`, `::FFFF:${dotted}`, `0:0:0:0:0:ffff:${dotted}`];
        for (const form of [...forms, ...spellings(mapped)]) expect(addressKey(form)).toBe(dotted);
      }),
    );
  });

  it("is one short key for anything that is no address, and never throws", () => {
    const made = fc.oneof(
      fc.string(),
      fc.string({ unit: fc.constantFrom(...Array.from("0123456789abcdef:.%/[]")) }),
      fc.array(fc.constantFrom("::", ":", "ffff", "1", "1.2.3.4", "%", " ")).map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(made, (text) => {
        expect(addressKey(text)).toMatch(/^(?:unknown|[\da-f.:]{7,19})$/);
      }),
      { numRuns: 2_000 },
    );
    expect(addressKey(undefined)).toBe("unknown");
    expect(addressKey("1:2:3:4:5:6:7:8:9::")).toBe("unknown");
  });
});
