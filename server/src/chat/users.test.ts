import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { readConfig } from "../config.ts";
import {
  Browser,
  both,
  newServer,
  person,
  replicas,
  startWire,
  testRedisUrl,
  until,
  type House,
} from "../testing.ts";
import { hashes, HASHES_AT_ONCE } from "./hashThreads.ts";
import type { Failure, User } from "../protocol.ts";
import { Users } from "./users.ts";

const PASSWORD = "correct horse";

let house: House;
beforeAll(async () => {
  house = await replicas(2);
});
afterAll(() => house.close());
afterEach(() => {
  vi.restoreAllMocks();
});

function fresh(): [Browser, Browser] {
  const [left, right] = both(house);
  return [new Browser(left), new Browser(right)];
}

function signUp(browser: Browser, username: string, password = PASSWORD) {
  return browser.post<User & Failure>("/api/users", { username, password });
}

function logIn(browser: Browser, username: string, password = PASSWORD) {
  return browser.post<User & Failure>("/api/login", { username, password });
}

it("a name that changed while a replica was cut off from Redis is told anew there", async () => {
  const wire = await startWire(testRedisUrl());
  onTestFinished(() => wire.close());
  const replica = await house.addReplica({ REDIS_URL: wire.url });
  onTestFinished(() => replica.close());
  const [mary, joe] = [await person(replica), await person(both(house)[0])];
  onTestFinished(() => [mary, joe].forEach((one) => one.close()));
  const named = async () =>
    (await mary.browser.get<User[]>(`/api/users?ids=${joe.user.id}`)).body[0]?.displayName;
  expect(await named()).toBeUndefined();
  await house.redis.hset(house.keys.user(joe.user.id), "displayName", "Somebody new");
  wire.cut();
  await until(async () => (await named()) === "Somebody new");
});

describe("sign-up", () => {
  it("accepts one of 50 people with the same name at once on two replicas, and answers `taken` to 49", async () => {
    const attempts = Array.from({ length: 50 }, (_, index) => {
      const replica = both(house)[index % 2 === 0 ? 0 : 1];
      // Upper and lower case are one name.
      return signUp(new Browser(replica), index % 3 ? "highlander" : "Highlander", `password of ${index}`);
    });
    const answers = await Promise.all(attempts);
    const won = answers.findIndex(({ status }) => status === 201);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      201,
      ...Array<number>(49).fill(409),
    ]);
    const lost = answers.find(({ status }) => status === 409);
    expect(lost?.body.code).toBe("taken");

    const id = answers[won]?.body.id ?? "";
    expect(await house.redis.get(house.keys.username("highlander"))).toBe(`user:${id}`);
    const [, right] = fresh();
    expect((await logIn(right, "highlander", `password of ${won}`)).body).toEqual(answers[won]?.body);
    expect((await logIn(right, "highlander", `password of ${won === 0 ? 1 : 0}`)).status).toBe(401);
    // The others left nothing behind: no account without a name, no room list without an account.
    const prefix = house.env["KEY_PREFIX"] ?? "";
    const accounts = await house.redis.keys(`${prefix}user:*`);
    const named = await Promise.all(
      (await house.redis.keys(`${prefix}username:*`)).map((key) => house.redis.get(key)),
    );
    const expected = named.flatMap((user) => [`${prefix}${user}`, `${prefix}${user}:rooms`]);
    expect(accounts.toSorted()).toEqual(expected.toSorted());
  });

  it("gives nobody the name of an account whose key Redis has lost, and its owner logs in with it", async () => {
    const { redis, keys } = house;
    const [left, right] = fresh();
    const { body: owner } = await signUp(left, "Keyless");
    await redis.del(keys.username("keyless"));
    expect((await signUp(right, "keyless", "another password")).status).toBe(409);
    expect(await redis.get(keys.username("keyless"))).toBe(`user:${owner.id}`);
    await redis.del(keys.username("keyless"));
    expect((await logIn(right, "keyLess", "another password")).status).toBe(401);
    expect((await logIn(right, "keyLess")).body).toMatchObject({ id: owner.id });
    await redis.del(keys.username("keyless"));
    await redis.del(keys.userLooks);
    await redis.rpush(keys.userLooks, "of a wrong type");
    // Whoever signs up or takes another name now makes all looks anew.
    expect((await signUp(fresh()[0], "somebody-else")).status).toBe(201);
    expect((await left.fetch("PATCH", "/api/me", { displayName: "Key Less" })).status).toBe(200);
    expect((await signUp(fresh()[0], "keyless", "another password")).status).toBe(409);
  });

  it("logs the user in at once, on every replica", async () => {
    const [left, right] = fresh();
    const { status, body } = await signUp(left, "both.sides");
    expect(status).toBe(201);
    right.cookie = left.cookie;
    expect((await right.get("/api/me")).body).toEqual(body);
    expect(body).toEqual({ id: body.id, username: "both.sides" });
  });

  it("keeps the name as typed and compares it without case", async () => {
    const [left, right] = fresh();
    await signUp(left, "CamelCase");
    expect((await logIn(right, "camelcase")).body.username).toBe("CamelCase");
    expect((await signUp(right, "CAMELCASE")).status).toBe(409);
  });

  it.each(["_under", ".dot", "...", "__proto__"])("accepts the name %j like any other", async (name) => {
    const [left, right] = both(house);
    expect((await signUp(new Browser(left), name)).status).toBe(201);
    expect((await logIn(new Browser(right), name)).body.username).toBe(name);
    expect((await signUp(new Browser(right), name.toUpperCase())).status).toBe(409);
  });

  it.each([
    "ab",
    "a".repeat(33),
    "with space",
    "trailing ",
    "Ｐａｂｌｏ",
    "раblo",
    "pablo\u202e",
    "pab\u200blo",
    "pablo\n",
    "<img src=x>",
    "a:rooms",
    "",
    "x".repeat(10_000),
  ])("refuses the name %j", async (name) => {
    const [left] = fresh();
    const { status, body } = await signUp(left, name);
    expect(status).toBe(400);
    expect(body.code).toBe("invalid");
    expect(left.cookie).toBe("");
  });

  it.each(["constructor", "toString", "hasOwnProperty", "a.b-c_d", "0user", "x".repeat(32)])(
    "accepts the name %j, which is no special case",
    async (name) => {
      const [left, right] = fresh();
      expect((await signUp(left, name)).status).toBe(201);
      expect((await logIn(right, name)).body.username).toBe(name);
    },
  );
});

describe("sign-up on any replica", () => {
  it.each(["admin", "Administrator", "SYSTEM", "r00t", "adm1n", "_support_", "hubbub", "here", "Everyone"])(
    "refuses the reserved name %j",
    async (name) => {
      for (const browser of fresh()) {
        const { status, body } = await signUp(browser, name);
        expect([status, body.code]).toEqual([409, "taken"]);
        expect(browser.cookie).toBe("");
      }
      expect(await house.redis.exists(house.keys.username(name))).toBe(0);
    },
  );

  it.each([
    "password",
    "password123",
    "12345678",
    "P@ssw0rd!",
    "        ",
    "aaaaaaaa",
    "own-name",
    "eman-nwo1",
  ])("refuses the password %j with a reason", async (password) => {
    const [left] = fresh();
    const { status, body } = await signUp(left, "own-name", password);
    expect([status, body.code]).toEqual([400, "invalid"]);
    expect(body.message).toMatch(/password/);
    expect(await house.redis.exists(house.keys.username("own-name"))).toBe(0);
  });
});

describe("a password", () => {
  it("is compared to its last byte if it has 72 bytes", async () => {
    const [left, right] = fresh();
    const longest = "p".repeat(72);
    expect((await signUp(left, "longest", longest)).status).toBe(201);
    expect((await logIn(right, "longest", longest)).status).toBe(200);
    expect((await logIn(right, "longest", `${"p".repeat(71)}q`)).status).toBe(401);
    expect((await logIn(right, "longest", "p".repeat(71))).status).toBe(401);
  });

  it.each([
    ["73 bytes", "p".repeat(73)],
    ["18 emoji and a letter: 73 bytes in 37 units", `${"🐢".repeat(18)}x`],
    ["a zero byte, where bcrypt would stop reading", "correct\0horse"],
    ["7 characters", "1234567"],
    ["nothing", ""],
  ])("is refused with %s", async (_what, password) => {
    const [left] = fresh();
    const { status, body } = await signUp(left, "nobodys.password", password);
    expect([status, body.code]).toEqual([400, "invalid"]);
    expect(await house.redis.exists(house.keys.username("nobodys.password"))).toBe(0);
  });

  it("is refused at log-in too if it exceeds the limit, however it begins", async () => {
    const [left, right] = fresh();
    const turtles = "🐢".repeat(18);
    expect((await signUp(left, "turtles", turtles)).status).toBe(201);
    expect((await logIn(right, "turtles", turtles)).status).toBe(200);
    expect((await logIn(right, "turtles", `${turtles}x`)).status).toBe(400);
  });

  it("is stored only as a bcrypt hash of the configured cost", async () => {
    const [left] = fresh();
    const { body } = await signUp(left, "hashed");
    const stored = await house.redis.hgetall(house.keys.user(body.id));
    expect(stored["password"]).toMatch(/^\$2b\$04\$/);
    expect(JSON.stringify(stored)).not.toContain(PASSWORD);
  });
});

describe("log-in", () => {
  it("answers an unknown name and a wrong password alike", async () => {
    const [left, right] = fresh();
    await signUp(left, "known");
    const wrong = await logIn(right, "known", "wrong password");
    const unknown = await logIn(right, "unknown", "wrong password");
    const comparable = ({ status, body, headers }: typeof wrong) => {
      const kept = Object.fromEntries(headers);
      delete kept["date"];
      return { status, body, kept };
    };
    expect(wrong.status).toBe(401);
    expect(comparable(unknown)).toEqual(comparable(wrong));
    expect(right.cookie).toBe("");
  });

  it("takes as long for an unknown name as for a wrong password", async () => {
    const replica = await house.addReplica({ BCRYPT_COST: "10" });
    const browser = new Browser(replica);
    await signUp(browser, "timed");
    const shortest = { timed: Infinity, nobody: Infinity };
    const isSame = () => Math.abs(Math.log2(shortest.nobody / shortest.timed)) < 1;
    // Interleaved, and the shortest of each: other work of this machine only adds time, now and then to several rounds.
    for (let round = 0; round < 9 || (round < 50 && !isSame()); round += 1) {
      for (const name of ["timed", "nobody"] as const) {
        const start = performance.now();
        expect((await logIn(browser, name, "wrong password")).status).toBe(401);
        shortest[name] = Math.min(shortest[name], performance.now() - start);
      }
    }
    expect(isSame(), JSON.stringify(shortest)).toBe(true);
    // A hash of this cost takes at least this long, so both really computed one.
    expect(shortest.nobody).toBeGreaterThan(10);
  });

  it("computes only as many hashes at once as leave the event loop a core", async () => {
    const compare = hashes.compare.bind(hashes);
    let running = 0;
    let most = 0;
    vi.spyOn(hashes, "compare").mockImplementation(async (password, hash) => {
      running += 1;
      most = Math.max(most, running);
      try {
        return await compare(password, hash);
      } finally {
        running -= 1;
      }
    });
    const [left] = both(house);
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => logIn(new Browser(left), "nobody", "wrong password")),
    );
    expect(answers.every(({ status }) => status === 401)).toBe(true);
    expect(most).toBe(HASHES_AT_ONCE);
  });

  it("answers `unavailable` while too many wait for a hash, and works again after", async () => {
    const [left] = both(house);
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    vi.spyOn(hashes, "compare").mockImplementation(() => released.then(() => false));
    const browser = new Browser(left);
    const waiting = Array.from({ length: 201 + HASHES_AT_ONCE }, () => logIn(new Browser(left), "nobody"));
    const refused = await Promise.race(waiting);
    expect([refused.status, refused.body.code]).toEqual([503, "unavailable"]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    release();
    const statuses = (await Promise.all(waiting)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 401)).toHaveLength(200 + HASHES_AT_ONCE);
    vi.restoreAllMocks();
    expect((await logIn(browser, "nobody")).status).toBe(401);
  });

  it("is refused for a name after ten wrong passwords, in any case and on any replica, with the time to wait", async () => {
    const limited = await replicas(2, { RATE_LIMITS: "on" });
    try {
      const [left, right] = both(limited).map((replica) => new Browser(replica)) as [Browser, Browser];
      await signUp(left, "guessed");
      for (let guess = 0; guess < 10; guess += 1) {
        const name = guess % 2 ? "guessed" : "GUESSED";
        expect((await logIn(guess % 2 ? left : right, name, `guess ${guess}`)).status).toBe(401);
      }
      for (const browser of [left, right]) {
        const { status, body, headers } = await logIn(browser, "guessed");
        expect([status, body.code]).toEqual([429, "rate_limited"]);
        expect(Number(headers.get("retry-after"))).toBeGreaterThan(60);
        expect(body.retryAfterMs).toBeGreaterThan(60_000);
      }
      // Others are not delayed.
      expect((await signUp(left, "bystander")).status).toBe(201);
      expect((await logIn(right, "bystander")).status).toBe(200);
    } finally {
      await limited.close();
    }
  });
});

describe("users", () => {
  it("are described by id, name and presence only", async () => {
    const [left] = fresh();
    const { body: me } = await signUp(left, "modest");
    const { body } = await left.get<object[]>(`/api/users?ids=${me.id}`);
    expect(body).toEqual([{ id: me.id, username: "modest", online: false }]);
  });

  it("are counted without ids that nobody has and without who is gone", async () => {
    const own = await newServer(1);
    try {
      const owner = await person(own.replicas[0]!);
      const left = await person(own.replicas[0]!);
      await left.browser.fetch("DELETE", "/api/me", { password: "correct horse", messages: "keep" });
      await own.redis.incr(own.keys.totalUsers);
      const reached = await owner.browser.get("/api/rooms/0/audience");
      expect(reached.body).toEqual({ people: 1 });
      expect((await owner.browser.get("/api/admin/stats")).body).toMatchObject({ people: 1 });
      const [general] = (await owner.browser.get<object[]>("/api/admin/rooms")).body;
      expect(general).toMatchObject({ id: "0", members: 1 });
      for (const one of [owner, left]) one.close();
    } finally {
      await own.close();
    }
  });

  it("are listed page by page, without unknown ids", async () => {
    const [left] = fresh();
    const { body: me } = await signUp(left, "pager");
    const after = Number(me.id) - 1;
    const { body } = await left.get<User[]>(`/api/users?after=${after}&size=100`);
    expect(body).toEqual([{ id: me.id, username: "pager", online: false }]);
    // A failed sign-up leaves behind an id without an account.
    await house.redis.incr(house.keys.totalUsers);
    const [right] = fresh();
    const { body: next } = await signUp(right, "pager2");
    const { body: listed } = await left.get<User[]>(`/api/users?after=${after}&size=100`);
    expect(listed.map(({ id }) => id)).toEqual([me.id, next.id]);
  });
});

describe("an account's id", () => {
  const own: House[] = [];
  afterAll(() => Promise.all(own.map((one) => one.close())));
  const houseWith = async (...names: string[]) => {
    const built = await replicas(2);
    own.push(built);
    const [left] = both(built);
    const users: User[] = [];
    for (const name of names) users.push((await signUp(new Browser(left), name)).body);
    return { built, users, newcomer: (name: string) => signUp(new Browser(both(built)[1]), name) };
  };

  it("is not reused after the counter was lost", async () => {
    const { built, users, newcomer } = await houseWith("ada", "bea", "cleo");
    const before = await built.redis.hgetall(built.keys.user("1"));
    await built.redis.del(built.keys.totalUsers);
    expect((await newcomer("dora")).body).toEqual({ id: "4", username: "dora" });
    expect(await built.redis.hgetall(built.keys.user("1"))).toEqual(before);
    expect((await logIn(new Browser(both(built)[0]), "ada")).body).toEqual(users[0]);
  });

  it("is not reused after the counter was restored from an older copy", async () => {
    const { built, newcomer } = await houseWith("ada", "bea", "cleo", "dora");
    await built.redis.set(built.keys.totalUsers, 1);
    expect((await newcomer("eve")).body.id).toBe("5");
  });

  it("is not reused while rooms of a lost account carry it", async () => {
    const { built, users, newcomer } = await houseWith("ada", "bea");
    const [, bea] = users;
    await built.redis.zadd(built.keys.room("2:7"), 1, "what 2 and 7 said");
    await built.redis.del(built.keys.totalUsers, built.keys.user("1"), built.keys.user(bea?.id ?? ""));
    expect((await newcomer("cleo")).body.id).toBe("8");
    await built.redis.set(built.keys.totalUsers, 1);
    expect((await newcomer("dora")).body.id).toBe("9");
  });

  it("is unique for each of 20 simultaneous sign-ups after the counter was lost", async () => {
    const { built, newcomer } = await houseWith("ada", "bea", "cleo");
    await built.redis.del(built.keys.totalUsers);
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => newcomer(`new${index}`)));
    const ids = answers.map(({ body }) => Number(body.id));
    expect(new Set(ids).size).toBe(20);
    expect(Math.min(...ids)).toBeGreaterThan(3);
  });

  it("is not reached by a name that outlived its account", async () => {
    const { built, users } = await houseWith("ada", "bea");
    await built.redis.set(built.keys.username("ghost"), `user:${users[1]?.id}`);
    expect((await logIn(new Browser(both(built)[0]), "ghost")).status).toBe(401);
  });

  it("has names that are not remembered if they changed while they were read", async () => {
    const { built, users: people } = await houseWith("ada");
    const id = people[0]?.id ?? "";
    const users = new Users(built.redis, built.keys, readConfig(built.env));
    const finding = users.find([id]);
    users.forget(id);
    await finding;
    await built.redis.hset(built.keys.user(id), "displayName", "Ada L.");
    expect(await users.find([id])).toEqual([{ id, username: "ada", displayName: "Ada L." }]);
  });

  it("has names that are remembered anew when its user asks for anything, though nobody announced their change", async () => {
    const { redis, keys, env } = house;
    const users = new Users(redis, keys, readConfig(env));
    const { id } = (await signUp(fresh()[0], "grace")).body;
    await users.find([id]);
    await redis.hset(keys.user(id), "displayName", "Grace H.");
    await users.roleOf({ id, username: "grace" });
    expect(await users.find([id])).toEqual([{ id, username: "grace", displayName: "Grace H." }]);
  });
});
