import { afterEach, expect, it } from "vitest";
import { both, person, replicas, type House } from "../testing.ts";

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

it("a start leaves a Redis as new that nobody has used", async () => {
  house = await replicas(2);
  expect(await house.redis.exists(house.keys.totalUsers, house.keys.totalRooms)).toBe(0);
  const ann = await person(both(house)[0], "Ann");
  expect(ann.user.id).toBe("1");
});
