import { afterEach, beforeEach, expect, it } from "vitest";
import type { Me } from "../protocol.ts";
import { Browser, both, newServer, ownRedis, person, until, type House, type OwnRedis } from "../testing.ts";

let own: OwnRedis;
let house: House;
beforeEach(async () => {
  own = await ownRedis({ persistent: false });
});
afterEach(async () => {
  await house.close();
  await own.close();
});

/** Resolves once these servers have noticed that their Redis was emptied. */
async function noticed(): Promise<void> {
  for (const replica of house.replicas)
    await until(async () => {
      const { status, body } = await new Browser(replica).get<{ warnings?: string[] }>("/readyz");
      return status === 200 && body.warnings?.some((words) => words.startsWith("Redis has lost its data"));
    });
}

it("servers whose Redis was emptied put their version and secret back, and agree with one that starts then", async () => {
  house = await newServer(2, { REDIS_URL: own.url });
  const [left, right] = both(house);
  await person(left, "ann").then((ann) => ann.close());
  // This replica hears of the owner.
  await person(right, "bob").then((bob) => bob.close());
  const { redis, keys } = house;
  const secret = await redis.get(keys.sessionSecret);
  await redis.flushall();
  await noticed();
  expect(await redis.get(keys.schema)).toBe("2");
  expect(await redis.get(keys.sessionSecret)).toBe(secret);
  const third = await house.addReplica();
  const again = new Browser(left);
  await again.post("/api/users", { username: "cleo", password: "correct horse" });
  const elsewhere = new Browser(third);
  elsewhere.cookie = again.cookie;
  expect((await elsewhere.get<Me>("/api/me")).body).toMatchObject({ username: "cleo" });
});

it("whoever signs up after Redis was emptied owns nothing and needs an invite, until a server is started anew", async () => {
  house = await newServer(2, { REDIS_URL: own.url, SIGNUP: "invite" });
  const signUp = (at: Browser, username: string) =>
    at.post<Me & { code?: string }>("/api/users", { username, password: "correct horse" });
  const [left, right] = both(house).map((replica) => new Browser(replica)) as [Browser, Browser];
  expect((await signUp(left, "ann")).body.role).toBe("owner");
  for (const at of [new Browser(left), new Browser(right)])
    expect((await signUp(at, "eve")).status).toBe(403);
  await house.redis.flushall();
  for (const at of [new Browser(left), new Browser(right)])
    expect((await signUp(at, "eve")).status).toBe(403);
  await noticed();
  for (const at of [new Browser(left), new Browser(right)])
    expect((await signUp(at, "eve")).status).toBe(403);
  const anew = new Browser(await house.addReplica());
  expect((await signUp(anew, "ann")).body.role).toBe("owner");
});

it("a server that never had an owner gives the first account its own, whether Redis was emptied or not", async () => {
  house = await newServer(1, { REDIS_URL: own.url });
  await house.redis.flushall();
  const ann = await person(house.replicas[0] ?? { address: "" }, "ann");
  expect((await ann.browser.get<Me>("/api/me")).body.role).toBe("owner");
  ann.close();
});

it("settings that Redis has lost count as before, and are put back", async () => {
  house = await newServer(2, { REDIS_URL: own.url });
  const { redis, keys } = house;
  const [left] = both(house);
  const ann = await person(left, "ann");
  const set = { signup: "closed", words: ["darn"] };
  expect((await ann.browser.fetch("PATCH", "/api/admin/settings", set)).status).toBe(200);
  const stored = await redis.hgetall(keys.settings);
  const later = await house.addReplica();
  await redis.del(keys.settings);
  for (const at of [left, later]) {
    const eve = { username: "eve", password: "correct horse" };
    expect((await new Browser(at).post("/api/users", eve)).status).toBe(403);
  }
  await until(
    async () => Object.keys(await redis.hgetall(keys.settings)).length === Object.keys(stored).length,
  );
  expect(await redis.hgetall(keys.settings)).toEqual(stored);
  ann.close();
});

it("a version that is newer than the running servers is a warning", async () => {
  house = await newServer(1, { REDIS_URL: own.url });
  const { redis, keys } = house;
  await redis.set(keys.schema, "3");
  await until(async () => {
    const { body } = await new Browser(house.replicas[0] ?? { address: "" }).get<{ warnings?: string[] }>(
      "/readyz",
    );
    return body.warnings?.some((words) => words.includes("newer Hubbub"));
  });
  expect(await redis.get(keys.schema)).toBe("3");
});
