import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { createKeys, type Keys } from "../keys.ts";
import { createMetrics } from "../metrics.ts";
import type { Presence as PresentUser } from "../protocol.ts";
import { defineScript } from "../store/redis.ts";
import {
  PATIENCE_MS,
  Browser,
  both,
  commandsDuring,
  connect,
  person,
  replicas,
  until,
  type House,
  type Person,
} from "../testing.ts";
import { Presence, PresenceDiff, readUsers } from "./presence.ts";

let house: House;
type Replica = House["replicas"][number];

let left: Replica;
let right: Replica;
let watcher: Person;
beforeAll(async () => {
  house = await replicas(2);
  [left, right] = both(house);
  watcher = await person(left, "watcher");
});
afterAll(() => house.close());

/** What a person is told of one user from now on: true for online, false for offline. */
function told(who: Person, userId: string): boolean[] {
  const heard: boolean[] = [];
  const note = (users: PresentUser[]) => {
    for (const user of users) if (user.id === userId) heard.push(user.online);
  };
  who.socket.on("user.connected", note);
  who.socket.on("user.disconnected", note);
  return heard;
}

function windowOf(who: Person, replica: Replica): Promise<Person> {
  const browser = new Browser(replica);
  browser.cookie = who.browser.cookie;
  return connect(browser, who.user);
}

function isOnline(who: Person): Promise<boolean> {
  return house.redis.sismember(house.keys.online, who.user.id).then(Boolean);
}

/** Waits until everybody was told that a new person came online: then everything earlier was told too. */
async function barrier(): Promise<void> {
  const marker = await person(right);
  const heard = told(watcher, marker.user.id);
  await until(() => heard.length > 0, PATIENCE_MS, "the marker to be told");
  marker.close();
}

// Concurrently, because each test mostly waits.
describe.concurrent("somebody with two tabs", () => {
  it.each([
    ["on one replica", () => [left, left] as const],
    ["on two replicas", () => [left, right] as const],
  ])("%s stays online until the second is closed, and is announced once each way", async (_where, place) => {
    const [one, other] = place();
    const first = await person(one);
    const heard = told(watcher, first.user.id);
    const second = await windowOf(first, other);
    await until(() => heard.length > 0, PATIENCE_MS, "the coming to be told");
    first.close();
    // Waits longer than a reload takes: a new person comes and goes.
    const visitor = await person(one);
    visitor.close();
    await until(async () => !(await isOnline(visitor)), PATIENCE_MS, "the visitor to be gone");
    expect(await isOnline(first)).toBe(true);
    second.close();
    await until(() => heard.length > 1, PATIENCE_MS, "the going to be told");
    expect(heard).toEqual([true, false]);
    expect(await isOnline(first)).toBe(false);
    expect(await house.redis.hexists(house.keys.leaseCount, first.user.id)).toBe(0);
  });

  it("is not announced at all when the page reloads", async () => {
    const one = await person(left);
    const heard = told(watcher, one.user.id);
    await until(() => heard.length > 0);
    one.close();
    const again = await windowOf(one, left);
    await barrier();
    expect(heard).toEqual([true]);
    expect(await isOnline(one)).toBe(true);
    again.close();
  });
});

describe.concurrent("a lease", () => {
  it(
    "expires if its replica died silently, and another replica sweeps it",
    { timeout: 120_000 },
    async () => {
      const one = await person(left);
      const ghost = "4000000001";
      const { online, leases, leaseCount } = house.keys;
      // What a dead replica leaves behind: the lease of a ghost, and that of somebody who is still online elsewhere.
      await house.redis
        .multi()
        .sadd(online, ghost)
        .zadd(leases, 1, `${ghost}|dead`, Date.now() + 3_600_000, `${ghost}|ahead`, 1, `${one.user.id}|dead`)
        .hset(leaseCount, ghost, 2)
        .hincrby(leaseCount, one.user.id, 1)
        .exec();
      await until(
        async () => (await house.redis.zscore(leases, `${ghost}|dead`)) === null,
        15_000,
        "the sweep",
      );
      await until(
        async () => (await house.redis.zscore(leases, `${one.user.id}|dead`)) === null,
        PATIENCE_MS,
      );
      // One that Redis' clock gave while it was an hour ahead, too.
      await until(
        async () => (await house.redis.zscore(leases, `${ghost}|ahead`)) === null,
        60_000,
        "the end of the lease from the future",
      );
      expect(await house.redis.sismember(online, ghost)).toBe(0);
      expect(await isOnline(one)).toBe(true);
      expect(await house.redis.hget(leaseCount, one.user.id)).toBe("1");
      one.close();
    },
  );

  it(
    "that expired while its replica slept is announced as gone, and as back when the replica wakes",
    { timeout: 120_000 },
    async () => {
      const one = await person(right);
      const heard = told(watcher, one.user.id);
      await until(() => heard.length > 0);
      const { leases } = house.keys;
      const lease = (await house.redis.zrange(leases, 0, "-1")).find((name) =>
        name.startsWith(`${one.user.id}|`),
      );
      if (!lease) throw new Error("a lease");
      await house.redis.zadd(leases, "XX", 1, lease);
      const renewed = async () => Number(await house.redis.zscore(leases, lease)) > 1;
      await until(async () => heard.length > 1 || (await renewed()), PATIENCE_MS, "the sweep or the renewal");
      await until(() => isOnline(one), PATIENCE_MS, "the renewal");
      await barrier();
      // If it was renewed before anybody swept it, it was never gone.
      expect([[true], [true, false, true]]).toContainEqual(heard);
      one.close();
    },
  );

  it("puts back a user whom another program removed from the set", { timeout: 120_000 }, async () => {
    const one = await person(left);
    await until(() => isOnline(one));
    await house.redis.srem(house.keys.online, one.user.id);
    await until(() => isOnline(one), PATIENCE_MS, "the renewal");
    one.close();
    await until(async () => !(await isOnline(one)), PATIENCE_MS, "the end");
  });

  it(
    "that ended and began anew unheard is told again, because a client may have read in between that its user is away",
    { timeout: 120_000 },
    async () => {
      const one = await person(right);
      const { online, leases, leaseCount, edges } = house.keys;
      const lease = (op: string) =>
        defineScript(house.redis, "presence.lua")(
          [online, leases, leaseCount, edges],
          [op, "unheard", 20_000, one.user.id],
        );
      await lease("renew");
      one.close();
      const heard = told(watcher, one.user.id);
      await until(async () => Number(await house.redis.hget(leaseCount, one.user.id)) === 1);
      await barrier();
      const known = heard.length;
      await lease("drop");
      await lease("renew");
      await until(
        async () => {
          await lease("renew");
          return heard.length > known;
        },
        60_000,
        "the coming to be told",
      );
      expect(heard.slice(known)).toEqual([true]);
      await lease("drop");
    },
  );

  it("lives whatever another program has put in place of the edges", { timeout: 120_000 }, async () => {
    const keys = createKeys("edges-lost:");
    await house.redis.set(keys.edges, "nothing");
    const call = (...args: (string | number)[]) =>
      defineScript(house.redis, "presence.lua")(
        [keys.online, keys.leases, keys.leaseCount, keys.edges],
        args,
      );
    expect(await call("renew", "one", 20_000, "1")).toEqual(["1"]);
    expect(await call("sweep", 10, 20_000)).toEqual([]);
    expect(await call("drop", "one", 20_000, "1")).toEqual(["1"]);
    await house.redis.del(keys.edges);
    await house.redis.zadd(keys.edges, Date.now() + 3_600_000, "ahead", 1, "old");
    await call("renew", "one", 20_000, "2");
    const [now, id, at] = (await call("edges", -60_000, "")) as string[];
    const age = Number(now) - Number(at);
    expect(id).toBe("2");
    expect(age).toBeLessThan(60_000);
    await call("sweep", 10, 20_000);
    expect(await house.redis.zrange(keys.edges, 0, "-1")).toEqual(["2"]);
    expect(await house.redis.pttl(keys.edges)).toBeGreaterThan(0);
  });

  it("is neither made nor renewed by a message from a user without a connection", async () => {
    const one = await person(left);
    await one.say("0", "before I go");
    one.close();
    await until(async () => !(await isOnline(one)), PATIENCE_MS, "the end");
    expect((await one.browser.get("/api/rooms/0/messages")).status).toBe(200);
    expect(await isOnline(one)).toBe(false);
  });
});

describe("thousands who come or go at once", () => {
  it("are announced, and looked at, in a few scripts that are short", async () => {
    const keys = createKeys("thousands:");
    const ids = Array.from({ length: 2_200 }, (_, index) => String(index + 1));
    const counts: number[] = [];
    let seen: string[] = [];
    const presence = new Presence({
      redis: house.redis,
      keys,
      serverId: "one",
      metrics: createMetrics(),
      log: pino({ level: "silent" }),
      changed: async ({ online, offline }) => void counts.push(online.length, -offline.length),
      looked: async (_online, edges) => void (seen = [...edges.keys()]),
    });
    const sum = () => counts.reduce((all, one) => all + one, 0);
    const scripts = await commandsDuring(async () => {
      presence.start();
      for (const id of ids) presence.enter(id);
      await until(() => sum() === ids.length, PATIENCE_MS, "all to have come");
      for (const id of ids) presence.leave(id);
      await until(() => sum() === 0, PATIENCE_MS, "all to be gone");
      await until(() => seen.length > 0, PATIENCE_MS, "the look");
    });
    await presence.close();
    await house.redis.del(keys.edges);
    expect(new Set(seen)).toEqual(new Set(ids));
    const drops = scripts.filter((words) => words.includes(keys.edges) && words.includes("drop"));
    expect(drops.length).toBeLessThan(100);
    expect(counts.filter((count) => count < 0).length).toBeLessThan(100);
    const looks = scripts.filter((words) => words.includes(keys.edges) && words.includes("edges"));
    expect(looks.length).toBeGreaterThan(2);
  });
});

describe("a presence whose keys were lost", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval"] }));
  afterEach(() => void vi.useRealTimers());

  /** A replica's part, with keys of its own. */
  function presenceOf(serverId: string, keys: Keys, offline: string[]): Presence {
    const presence = new Presence({
      redis: house.redis,
      keys,
      serverId,
      metrics: createMetrics(),
      log: pino({ level: "silent" }),
      changed: async (edges) => void offline.push(...edges.offline),
      looked: async () => {},
    });
    presence.start();
    return presence;
  }

  it.each(["leases", "leaseCount", "online"] as const)("(%s) keeps nobody online for good", async (lost) => {
    const keys = createKeys(`lost-${lost}:`);
    const offline: string[] = [];
    const [one, other] = [presenceOf("one", keys, offline), presenceOf("with|bar", keys, offline)];
    const leases = () => house.redis.zcard(keys.leases);
    for (const userId of ["1", "2"]) one.enter(userId);
    for (const userId of ["2", "3"]) other.enter(userId);
    await until(async () => (await leases()) === 4);
    await house.redis.del(keys[lost]);
    await vi.advanceTimersByTimeAsync(7_000);
    await until(async () => (await one.online()).length === 3 && (await leases()) === 4);
    for (const userId of ["1", "2"]) one.leave(userId);
    await until(async () => (await leases()) === 2);
    for (let seconds = 0; seconds < 60; seconds += 1) {
      await vi.advanceTimersByTimeAsync(1_000);
      await one.online();
    }
    await until(async () => (await one.online()).length === 2, PATIENCE_MS, "the end of the first");
    expect(await one.online()).toEqual(["2", "3"]);
    other.leave("3");
    await until(async () => (await one.online()).length === 1, PATIENCE_MS, "the end of the third");
    expect([...new Set(offline)].toSorted()).toContain("1");
    expect(await house.redis.hgetall(keys.leaseCount)).toEqual({ 2: "1" });
    await Promise.all([one.close(), other.close()]);
    expect(await house.redis.exists(keys.online, keys.leases, keys.leaseCount)).toBe(0);
  });
});

describe("the diffs that clients get", () => {
  it(
    "come at most once a second and lose nobody, however many people come and go",
    { timeout: 120_000 },
    async () => {
      const at: number[] = [];
      const known = new Map<string, boolean>();
      const note = (users: PresentUser[]) => {
        at.push(performance.now());
        for (const user of users) known.set(user.id, user.online);
      };
      watcher.socket.on("user.connected", note);
      watcher.socket.on("user.disconnected", note);
      const people: Person[] = [];
      for (let round = 0; round < 10; round += 1) {
        people.push(...(await Promise.all([person(left), person(right), person(right)])));
        if (round % 2) people[round]?.close();
      }
      const staying = people.filter(({ socket }) => socket.connected);
      await until(() => staying.every(({ user }) => known.get(user.id)), PATIENCE_MS, "all to be told");
      for (const one of people) one.close();
      await until(() => people.every(({ user }) => !known.get(user.id)), PATIENCE_MS, "all to be told gone");
      const gaps = at.slice(1).map((time, index) => time - (at[index] ?? 0));
      // The replica leaves a second between two; on the way they may move closer.
      expect(Math.min(...gaps)).toBeGreaterThan(800);
      watcher.socket.off("user.connected", note);
      watcher.socket.off("user.disconnected", note);
    },
  );

  describe("PresenceDiff", () => {
    afterEach(() => {
      vi.useRealTimers();
    });
    const user = (id: number) => ({ id: String(id), username: `user${id}` });

    it("tells the first user at once, the rest together, and of those who came and went the final state", () => {
      vi.useFakeTimers();
      vi.advanceTimersByTime(5_000);
      const tell = vi.fn();
      const diff = new PresenceDiff(tell);
      diff.add(true, [user(1)]);
      vi.advanceTimersByTime(0);
      expect(tell.mock.calls).toEqual([[true, [{ ...user(1), online: true }]]]);
      diff.add(true, [user(2), user(3)]);
      diff.add(false, [user(1)]);
      diff.add(false, [user(2)]);
      vi.advanceTimersByTime(999);
      expect(tell).toHaveBeenCalledTimes(1);
      vi.advanceTimersByTime(1);
      expect(tell).toHaveBeenCalledTimes(2);
      vi.advanceTimersByTime(10_000);
      const later = tell.mock.calls
        .slice(1)
        .flatMap(([online, users]) => users.map((one: PresentUser) => [one.id, online]));
      expect(Object.fromEntries(later)).toEqual({
        1: false,
        2: false,
        3: true,
      });
      diff.close();
    });

    it("makes up for lost announcements, but not for those that may be under way", () => {
      vi.useFakeTimers();
      const tell = vi.fn();
      const diff = new PresenceDiff(tell);
      const none = new Map<string, number>();
      expect(diff.missed(["1", "2"], none)).toEqual({ online: [], offline: [] });
      diff.add(true, [user(3)]);
      vi.advanceTimersByTime(0);
      // User 3 came and was told, 4 came and was not told, 2 went and was not told.
      expect(diff.missed(["1", "3", "4"], none)).toEqual({ online: [], offline: [] });
      expect(diff.missed(["1", "3", "4"], none)).toEqual({ online: ["4"], offline: ["2"] });
      diff.add(true, [user(4)]);
      diff.add(false, [user(2)]);
      vi.advanceTimersByTime(10_000);
      expect(diff.missed(["1", "3", "4"], none)).toEqual({ online: [], offline: [] });
      expect(diff.missed(["1", "3", "4"], none)).toEqual({ online: [], offline: [] });
      diff.close();
    });

    it("tells again of whom it heard neither going nor coming, unless that was told since", () => {
      vi.useFakeTimers();
      const tell = vi.fn();
      const diff = new PresenceDiff(tell);
      const before = performance.now() - 1;
      expect(diff.missed(["1", "2"], new Map([["1", before]]))).toEqual({ online: [], offline: [] });
      vi.advanceTimersByTime(5_000);
      // 1 went and came, 4 came and went, unheard; 2 went and came, and was told; 3 as all know, before the first look.
      const edges = new Map([
        ["1", performance.now()],
        ["2", performance.now()],
        ["3", before],
        ["4", performance.now()],
      ]);
      vi.advanceTimersByTime(1_000);
      diff.add(true, [user(2)]);
      vi.advanceTimersByTime(2_000);
      expect(diff.missed(["1", "2"], edges)).toEqual({ online: [], offline: [] });
      expect(diff.missed(["1", "2"], edges)).toEqual({ online: ["1"], offline: ["4"] });
      diff.add(true, [user(1)]);
      diff.add(false, [user(4)]);
      vi.advanceTimersByTime(10_000);
      expect(diff.missed(["1", "2"], edges)).toEqual({ online: [], offline: [] });
      expect(diff.missed(["1", "2"], edges)).toEqual({ online: [], offline: [] });
      // 1 went and came once more.
      edges.set("1", performance.now() - 1_000);
      diff.missed(["1", "2"], edges);
      expect(diff.missed(["1", "2"], edges)).toEqual({ online: ["1"], offline: [] });
      diff.close();
    });

    it("tells thousands in several lists, the first first: one long list would cut slow clients", () => {
      vi.useFakeTimers();
      const lists: string[][] = [];
      const diff = new PresenceDiff((_online, users) => lists.push(users.map(({ id }) => id)));
      const users = Array.from({ length: 4_500 }, (_, index) => user(index + 1));
      diff.add(true, users);
      vi.advanceTimersByTime(10_000);
      expect(lists.map(({ length }) => length)).toEqual([2_000, 2_000, 500]);
      expect(lists.flat()).toEqual(users.map(({ id }) => id));
      diff.close();
    });

    it("alternates between both lists, so that neither waits for ever", () => {
      vi.useFakeTimers();
      const turns: boolean[] = [];
      const diff = new PresenceDiff((online) => turns.push(online));
      for (let second = 0; second < 6; second += 1) {
        diff.add(true, [user(10 + second)]);
        diff.add(false, [user(100 + second)]);
        vi.advanceTimersByTime(1_000);
      }
      expect(turns).toEqual([true, false, true, false, true, false]);
      diff.close();
    });
  });
});

describe("an announcement of another program", () => {
  it("is told to clients in the form that the demos in other languages use", async () => {
    const heard = told(watcher, "4000000002");
    const data = { id: 4_000_000_002, username: "elsewhere", online: true };
    await house.redis.publish(
      house.keys.channel,
      JSON.stringify({ serverId: "java", type: "user.connected", data }),
    );
    await until(() => heard.length > 0);
    expect(heard).toEqual([true]);
  });

  it.each([
    [null],
    ["mary"],
    [[null]],
    [{ id: "1" }],
    [{ id: "0", username: "zero" }],
    [{ id: "1:rooms", username: "mary" }],
    [{ id: 1.5, username: "mary" }],
    [{ id: 1, username: "<img>" }],
    [{ id: 1, username: 5 }],
    [[{ id: 1, username: "mary" }, {}]],
    [{ id: 1, username: "deleted user" }],
    [{ id: 1, username: "mary user", deleted: true }],
  ])("is ignored if it is %j", (data) => {
    expect(readUsers(data)).toBeNull();
  });

  it("may name those whose account is deleted", () => {
    const users = [
      { id: "1", username: "mary" },
      { id: "2", username: "deleted user", deleted: true },
    ];
    expect(readUsers(users)).toEqual(users);
  });
});
