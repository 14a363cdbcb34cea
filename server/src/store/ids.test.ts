import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import { createCounterCheck } from "./ids.ts";
import { both, person, replicas, until, type House } from "../testing.ts";

let house: House;
afterEach(() => house.close());

it.each([
  ["lost", undefined],
  ["no number", "many"],
])("a start raises counters that are %s above every id in use", async (_how, counted) => {
  house = await replicas(2);
  const ann = await person(both(house)[0], "Ann");
  const { body: room } = await ann.browser.post<{ id: string }>("/api/rooms", { name: "Ours" });
  const counters = [house.keys.totalUsers, house.keys.totalRooms];
  for (const counter of counters)
    if (counted === undefined) await house.redis.del(counter);
    else await house.redis.set(counter, counted);
  const replica = await house.addReplica();
  expect(await house.redis.mget(counters)).toEqual([ann.user.id, room.id]);
  const ben = await person(replica, "Ben");
  expect(Number(ben.user.id)).toBe(Number(ann.user.id) + 1);
});

it.each(["many", "of a wrong type"])(
  "a counter that is %s keeps nobody from coming, and the lists are whole again soon",
  async (how) => {
    house = await replicas(2);
    const { redis, keys } = house;
    const [left, right] = both(house);
    const ann = await person(left, "Ann");
    const room = await ann.makes({ name: "Ours" });
    for (const counter of [keys.totalUsers, keys.totalRooms]) {
      await redis.del(counter);
      await (how === "many" ? redis.set(counter, how) : redis.rpush(counter, how));
    }
    const ben = await person(right, "Ben");
    expect(Number(ben.user.id)).toBeGreaterThan(Number(ann.user.id));
    const other = await ben.makes({ name: "Theirs" });
    expect(Number(other.id)).toBeGreaterThan(Number(room.id));
    await redis.del(keys.totalRooms);
    await redis.rpush(keys.totalRooms, how);
    await until(async () => {
      const { status, body } = await ann.browser.get<{ id: string }[]>("/api/rooms/directory");
      return status === 200 && body.map(({ id }) => id).join() === [room.id, other.id].join();
    });
  },
);

it("a start leaves a Redis as new that nobody has used", async () => {
  house = await replicas(2);
  expect(await house.redis.exists(house.keys.totalUsers, house.keys.totalRooms)).toBe(0);
  const ann = await person(both(house)[0], "Ann");
  expect(ann.user.id).toBe("1");
});

it("no number is given twice while a lost counter is looked for", async () => {
  house = await replicas(1);
  const { redis, keys } = house;
  for (let round = 0; round < 200; round += 1) {
    await redis.del(keys.totalUsers);
    const check = createCounterCheck(redis, keys)();
    await sleep(round % 3);
    const given: number[] = [];
    for (let count = 0; count < 20; count += 1) given.push(await redis.incr(keys.totalUsers));
    await check;
    given.push(await redis.incr(keys.totalUsers));
    expect(new Set(given).size).toBe(given.length);
  }
});

it("a counter that nobody has used is looked for among all keys once, and again after it was lost", async () => {
  house = await replicas(1);
  const { redis, keys } = house;
  const scans = async () =>
    Number(/cmdstat_scan:calls=(\d+)/.exec(await redis.info("commandstats"))?.[1] ?? 0);
  const check = createCounterCheck(redis, keys);
  await check();
  const before = await scans();
  await check();
  expect((await scans()) - before).toBeLessThan(2);
  await redis.set(keys.roomName("7"), "Seven");
  await redis.set(keys.totalRooms, "7");
  await check();
  await redis.del(keys.totalRooms);
  await check();
  expect(await redis.get(keys.totalRooms)).toBe("7");
});
