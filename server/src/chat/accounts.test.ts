import { afterEach, describe, expect, it } from "vitest";
import type { Failure, Invite, Me, User } from "../protocol.ts";
import { Browser, both, newServer, person, startFuse, until, type House } from "../testing.ts";

const PASSWORD = "correct horse";

let house: House;
afterEach(() => house.close());

function signUp(browser: Browser, username: string, more: object = {}) {
  return browser.post<Me & Failure>("/api/users", { username, password: PASSWORD, ...more });
}

describe("the first account of an empty server", () => {
  it.each(["open", "invite", "closed"])("owns it with SIGNUP=%s, and says so", async (SIGNUP) => {
    house = await newServer(2, { SIGNUP });
    const [left, right] = both(house);
    const browser = new Browser(left);
    const { status, body } = await signUp(browser, "ann");
    expect(status).toBe(201);
    expect(body).toEqual({ id: body.id, username: "ann", role: "owner" });
    expect((await browser.get("/api/me")).body).toEqual(body);
    const elsewhere = new Browser(right);
    expect((await elsewhere.post("/api/login", { username: "ANN", password: PASSWORD })).body).toEqual(body);
    expect(await house.redis.hgetall(house.keys.staff)).toEqual({ [body.id]: "owner" });
    expect(await house.redis.hget(house.keys.settings, "owner")).toBe(body.id);
  });

  it("is one of many who sign up at once on two replicas; of the others a closed server keeps none", async () => {
    house = await newServer(2, { SIGNUP: "closed" });
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        signUp(new Browser(both(house)[index % 2 === 0 ? 0 : 1]), `person-${index}`),
      ),
    );
    const [owner, ...others] = answers.toSorted((a, b) => a.status - b.status);
    expect(owner?.body.role).toBe("owner");
    expect(others.map(({ body }) => body.code)).toEqual(Array<string>(9).fill("forbidden"));
    const { keys, redis, env } = house;
    const named = await redis.keys(`${env["KEY_PREFIX"]}username:*`);
    expect(named).toEqual([keys.username(owner?.body.username ?? "")]);
    expect(await redis.keys(`${env["KEY_PREFIX"]}user:*`)).toHaveLength(2);
  });

  it.each([
    ["before it has an id", { owner: "", account: false }],
    ["before it is known as the first", { owner: "", account: true }],
    ["before it has its role", { owner: "1", account: true }],
  ])("owns it also if the server crashed %s", async (_when, { owner, account }) => {
    house = await newServer(2, { SIGNUP: "closed" });
    const { redis, keys } = house;
    const [left, right] = both(house);
    const made = await signUp(new Browser(left), "ann");
    await redis.del(keys.staff, keys.settings);
    await redis.hdel(keys.user(made.body.id), "role");
    await redis.hset(keys.settings, { first: "Ann", ...(owner && { owner }) });
    if (!account) await redis.del(keys.user(made.body.id), keys.username("ann"), keys.userLooks);
    const back = account
      ? await new Browser(right).post<Me>("/api/login", { username: "ann", password: PASSWORD })
      : await signUp(new Browser(right), "bea");
    expect(back.body.role).toBe("owner");
    expect(await redis.hgetall(keys.staff)).toEqual({ [back.body.id]: "owner" });
    expect(await redis.hget(keys.settings, "first")).toBeNull();
    expect((await signUp(new Browser(left), "cid")).status).toBe(403);
  });

  it("is nobody's after demo people, who were there first", async () => {
    house = await newServer(1);
    await house.redis.set(house.keys.totalUsers, 6);
    const { body } = await signUp(new Browser(house.replicas[0]!), "ann");
    expect(body).toEqual({ id: "7", username: "ann" });
  });
});

describe("an account that Redis has lost", () => {
  it("does not act for who gets its id: its open connections end on every replica when that one signs up", async () => {
    house = await newServer(2);
    const { redis, keys } = house;
    const [left, right] = both(house);
    await person(left, "ann");
    const bert = await person(right, "bert");
    expect(bert.user.id).toBe("2");
    await redis.del(keys.user("2"), keys.username("bert"), keys.userRooms("2"));
    await redis.set(keys.totalUsers, 1);
    const { body } = await signUp(new Browser(left), "finn");
    expect(body).toEqual({ id: "2", username: "finn" });
    await until(() => !bert.socket.connected, 5_000, "the lost account's connection to end");
    expect(
      (await new Browser(left).post<Me>("/api/login", { username: "finn", password: PASSWORD })).body,
    ).toEqual(body);
  });
});

describe("sign-up", () => {
  it.each(["invite", "closed"])(
    "with SIGNUP=%s is refused to a stranger, whatever code they bring",
    async (SIGNUP) => {
      house = await newServer(1, { SIGNUP });
      const replica = house.replicas[0]!;
      await signUp(new Browser(replica), "ann");
      const stored = async () => (await house.redis.keys(`${house.env["KEY_PREFIX"]}*`)).length;
      const before = await stored();
      for (const more of [{}, { invite: "" }, { invite: "x" }, { invite: "../user:1" }]) {
        const { status, body } = await signUp(new Browser(replica), "ben", more);
        expect([status, body.code]).toEqual([403, "forbidden"]);
      }
      const { status } = await signUp(new Browser(replica), "ben", { invite: 7 });
      expect(status).toBe(400);
      expect(await stored()).toBe(before);
    },
  );

  it("by an invite can be made again under its name, and counts once, after whichever command it was cut", async () => {
    house = await newServer(1, { SIGNUP: "invite" });
    const { redis, keys } = house;
    const replica = house.replicas[0]!;
    const owner = await person(replica, "owner");
    const room = await owner.makes({ name: "Guests", kind: "invite" });
    const wire = await startFuse();
    const cut = await house.addReplica({ REDIS_URL: wire.url });
    try {
      let orphans = 0;
      for (let commands = 17, isMade = false; !isMade; commands += 5) {
        const name = `cut${commands}`;
        const asked = { expires: Date.now() + 60_000, uses: 1 };
        const { body: made } = await owner.browser.post<Invite>(`/api/rooms/${room.id}/invites`, asked);
        const { code: invite } = made;
        await until(async () => (await new Browser(cut).get("/readyz")).status === 200);
        wire.allow(commands);
        isMade = (await signUp(new Browser(cut), name, { invite })).status === 201;
        wire.allow(Infinity);
        const logIn = () =>
          new Browser(replica).post<Me>("/api/login", { username: name, password: PASSWORD });
        if ((await logIn()).status !== 200) {
          const listed = async () =>
            (await owner.browser.get<User[]>("/api/users")).body.filter(({ username }) => username === name);
          expect(await listed(), name).toEqual([]);
          const id = (await redis.get(keys.username(name)))?.replace("user:", "");
          if (id !== undefined) {
            orphans += 1;
            expect(isMade, name).toBe(false);
            expect((await signUp(new Browser(replica), name, { invite })).status, name).not.toBe(201);
            await redis.hset(keys.user(id), "making", `1 ${invite}`);
          }
          const again = await signUp(new Browser(replica), name, { invite });
          expect([name, again.status]).toEqual([name, 201]);
          expect(await listed()).toHaveLength(1);
        }
        expect([name, await redis.hget(keys.invite(invite), "used")]).toEqual([name, "1"]);
        const { id } = (await logIn()).body;
        expect(new Set(await redis.hkeys(keys.records(room.id)))).toEqual(new Set([owner.user.id, id]));
        await redis.hdel(keys.records(room.id), id);
      }
      expect(orphans).toBeGreaterThan(0);
    } finally {
      owner.close();
      await house.replicas.pop()?.close();
      await wire.close();
    }
  });

  it("follows what an admin has set, on every replica at once", async () => {
    house = await newServer(2, { SIGNUP: "open" });
    const [left, right] = both(house);
    await signUp(new Browser(left), "ann");
    await house.redis.hset(house.keys.settings, "signup", "closed");
    expect((await signUp(new Browser(left), "ben")).status).toBe(403);
    expect((await signUp(new Browser(right), "ben")).status).toBe(403);
    await house.redis.hset(house.keys.settings, "signup", "nonsense");
    expect((await signUp(new Browser(right), "ben")).status).toBe(201);
  });
});
