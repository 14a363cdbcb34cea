import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type {
  Account,
  AuditEntry,
  Failure,
  Found,
  ListedRoom,
  ManagedRoom,
  Me,
  Member,
  OwnSession,
  Room,
  User,
} from "../protocol.ts";
import { readConfig } from "../config.ts";
import { Users } from "../chat/users.ts";
import { Staff } from "../store/staff.ts";
import {
  Browser,
  both,
  commandsDuring,
  connect,
  figuresOf,
  person,
  newServer,
  startFuse,
  startWire,
  testRedisUrl,
  until,
  windowOf,
  type House,
  type Person,
} from "../testing.ts";

const PASSWORD = "correct horse";
const OTHER = "battery staple";

let house: House;
let owner: Person;
beforeAll(async () => {
  house = await newServer(2);
  owner = await person(both(house)[0], "olga");
});
afterAll(() => house.close());

const left = () => both(house)[0];
const right = () => both(house)[1];

/** The same user in another browser. */
async function again(one: Person, password = PASSWORD, replica = right()): Promise<Browser> {
  const browser = new Browser(replica);
  const { status } = await browser.post("/api/login", { username: one.user.username, password });
  if (status !== 200) throw new Error(`log-in answered ${status}`);
  return browser;
}

function ended({ socket }: Person): Promise<true> {
  return until(() => !socket.connected || false, undefined, "the connection to end");
}

async function isIn(browser: Browser): Promise<boolean> {
  return (await browser.get("/api/me")).status === 200;
}

/** Where the first command with these first words is; -1 if there is none. */
function placeOf(commands: string[][], ...words: string[]): number {
  return commands.findIndex((command) => words.every((word, place) => command[place] === word));
}

describe("a display name", () => {
  it("is told to everybody, on every replica, as soon as it changes", async () => {
    const ann = await person(left(), "ann");
    const ben = await person(right(), "ben");
    const told: User[] = [];
    ben.socket.on("user.connected", (users) => told.push(...users));
    const { status, body } = await ann.browser.fetch<Me>("PATCH", "/api/me", { displayName: "  Ann Lee " });
    expect([status, body]).toEqual([200, { ...ann.user, displayName: "Ann Lee" }]);
    await until(() => told.some(({ id, displayName }) => id === ann.user.id && displayName === "Ann Lee"));
    const { body: seen } = await ben.browser.get<User[]>(`/api/users?ids=${ann.user.id}`);
    expect(seen).toEqual([{ ...ann.user, displayName: "Ann Lee", online: true }]);
    const { body: found } = await ben.browser.get<Found<User>>("/api/users?q=lee");
    expect(found.found.map(({ id }) => id)).toEqual([ann.user.id]);
    await ann.browser.fetch("PATCH", "/api/me", { displayName: null });
    expect((await ann.browser.get<Me>("/api/me")).body).toEqual(ann.user);
    ann.close();
    ben.close();
  });

  it("that is another's username is taken, also by somebody whose own username looks the same", async () => {
    const modem = await person(left(), "modem");
    const modern = await person(right(), "modern");
    const show = async ({ browser }: Person, displayName: string) =>
      (await browser.fetch("PATCH", "/api/me", { displayName })).status;
    for (const name of ["modern", "MODERN", "ｍｏｄｅｒｎ"])
      expect([name, await show(modem, name)]).toEqual([name, 409]);
    expect(await show(modern, "Modem")).toBe(409);
    for (const [one, name] of [
      [modem, "Modem"],
      [modern, "Modern"],
    ] as const)
      expect(await show(one, name)).toBe(200);
    modem.close();
    modern.close();
  });

  it.each([
    ["another's username", "cleo"],
    ["another's username in other letters", "Сleо"],
    ["another's display name", "Dr. Dee"],
    ["another's display name in wide letters", "Ｄｒ. Ｄｅｅ"],
    ["a word of the house", "Admin"],
    ["a deleted user", "Deleted user"],
  ])("that looks like %s is taken", async (_what, displayName) => {
    const names = ["cleo", "dora", "eve"];
    const people = await Promise.all(
      names.map(async (name) => {
        const browser = new Browser(left());
        const asked = { username: name, password: PASSWORD };
        if ((await browser.post("/api/users", asked)).status !== 201) await browser.post("/api/login", asked);
        return browser;
      }),
    );
    await people[1]?.fetch("PATCH", "/api/me", { displayName: "Dr. Dee" });
    const { status, body } = await people[2]!.fetch<Failure>("PATCH", "/api/me", { displayName });
    expect([status, body.code]).toEqual([409, "taken"]);
    expect((await people[2]!.get<Me>("/api/me")).body).not.toHaveProperty("displayName");
  });

  it("keeps others from signing up with its look, until it is given back", async () => {
    const one = await person(left(), "frank");
    await one.browser.fetch("PATCH", "/api/me", { displayName: "The Boss" });
    await one.browser.fetch("PATCH", "/api/me", { displayName: "theboss" });
    const asked = { username: "TheB0ss", password: PASSWORD };
    expect((await new Browser(right()).post("/api/users", asked)).status).toBe(409);
    expect(await house.redis.exists(house.keys.username("theb0ss"))).toBe(0);
    await one.browser.fetch("PATCH", "/api/me", { displayName: "Frank" });
    expect((await new Browser(right()).post("/api/users", asked)).status).toBe(201);
    expect((await one.browser.fetch("PATCH", "/api/me", { displayName: "theboss" })).status).toBe(409);
    one.close();
  });

  it.each([[""], ["  "], ["a\u200bb"], ["\u2800"], ["x".repeat(41)], ["a\u0000"], [7], [undefined]])(
    "of %j is refused",
    async (displayName) => {
      const { status } = await owner.browser.fetch("PATCH", "/api/me", { displayName });
      expect([400, 413]).toContain(status);
    },
  );

  it("is one of two people's who ask for it at once on two replicas", async () => {
    const people = await Promise.all([person(left(), "gus"), person(right(), "hal")]);
    const answers = await Promise.all(
      people.map(({ browser }) => browser.fetch<Me>("PATCH", "/api/me", { displayName: "Number One" })),
    );
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409]);
    for (const one of people) one.close();
  });

  it("keeps its look if it is taken away and chosen again at once on two replicas", async () => {
    const zoe = await person(left(), "zelda");
    const there = await windowOf(zoe, right());
    const stranger = await person(left(), "zeno");
    const choose = (one: Person, displayName: string | null) =>
      one.browser.fetch<Me>("PATCH", "/api/me", { displayName });
    for (let round = 0; round < 60; round += 1) {
      expect((await choose(zoe, "Zoe Zed")).status).toBe(200);
      await Promise.all([choose(zoe, null), choose(there, "Zoe Zed")]);
      const { body } = await zoe.browser.get<Me>("/api/me");
      const alike = await choose(stranger, "Zоe Zed");
      expect(alike.status, `round ${round}`).toBe(body.displayName === undefined ? 200 : 409);
      await choose(stranger, null);
    }
    for (const one of [zoe, there, stranger]) one.close();
  });
});

describe("another password", () => {
  it("ends all other sessions and their connections on every replica, and keeps this one", async () => {
    const ivy = await person(left(), "ivy");
    const elsewhere = await again(ivy);
    const other = await connect(elsewhere, ivy.user);
    const { status } = await ivy.browser.post("/api/me/password", { current: PASSWORD, next: OTHER });
    expect(status).toBe(204);
    await ended(other);
    expect(await isIn(elsewhere)).toBe(false);
    expect(await isIn(ivy.browser)).toBe(true);
    expect((await ivy.say("0", "still here")).message).toBe("still here");
    await expect(again(ivy, PASSWORD)).rejects.toThrow("401");
    await expect(again(ivy, OTHER)).resolves.toBeInstanceOf(Browser);
    ivy.close();
  });

  it("is refused with a wrong one, a weak one, and to a stranger", async () => {
    const jan = await person(left(), "janet");
    const set = (body: object, browser = jan.browser) => browser.post<Failure>("/api/me/password", body);
    expect((await set({ current: "wrong", next: OTHER })).status).toBe(403);
    expect((await set({ current: PASSWORD, next: "short" })).status).toBe(400);
    expect((await set({ current: PASSWORD, next: "password123" })).status).toBe(400);
    expect((await set({ current: PASSWORD, next: "x".repeat(100) })).status).toBe(400);
    expect((await set({ current: PASSWORD, next: OTHER }, new Browser(left()))).status).toBe(401);
    await expect(again(jan)).resolves.toBeInstanceOf(Browser);
    jan.close();
  });

  it("stays, of several that are set at once on two replicas, if it was the first", async () => {
    const one = await person(left(), "kit");
    const change = (current: string, next: string, browser: Browser) =>
      browser.post<Failure>("/api/me/password", { current, next });
    let current = PASSWORD;
    for (let round = 0; round < 10; round += 1) {
      const mine = await again(one, current, left());
      const stolen = await again(one, current, right());
      const asked = [`the owner's ${round}`, `the thief's ${round}`] as const;
      const answers = await Promise.all([change(current, asked[0], mine), change(current, asked[1], stolen)]);
      const won = answers.findIndex(({ status }) => status === 204);
      const lost = answers[1 - won];
      expect(["forbidden", "unauthorized"]).toContain(lost?.body?.code);
      current = asked[won] ?? "";
      await expect(again(one, current)).resolves.toBeInstanceOf(Browser);
    }
    one.close();
  });

  it("cannot be guessed at with a stolen session", async () => {
    const strict = await newServer(1, { RATE_LIMITS: "on" });
    try {
      const one = await person(strict.replicas[0]!, "kim");
      const answers: number[] = [];
      for (let tries = 0; tries < 12; tries += 1)
        answers.push(
          (await one.browser.post("/api/me/password", { current: "wrong one", next: OTHER })).status,
        );
      expect(answers).toEqual([...Array<number>(10).fill(403), 429, 429]);
      one.close();
    } finally {
      await strict.close();
    }
  });
});

describe("the list of one's sessions", () => {
  it("tells device, address, log-in and last use of each, and nothing that opens one", async () => {
    const lea = await person(left(), "lea");
    const browser = new Browser(right());
    await browser.fetch(
      "POST",
      "/api/login",
      { username: "lea", password: PASSWORD },
      { "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0" },
    );
    const { body } = await browser.get<OwnSession[]>("/api/me/sessions");
    expect(body).toHaveLength(2);
    expect(body[0]).toMatchObject({ current: true, address: "127.0.0.1", device: "Firefox on Linux" });
    expect(body[1]).toMatchObject({ current: false, address: "127.0.0.1" });
    for (const { created, seen } of body) {
      expect(Math.abs(Date.now() - created)).toBeLessThan(60_000);
      expect(seen).toBeGreaterThanOrEqual(created);
    }
    const sids = await house.redis.zrange(house.keys.userSessions(lea.user.id), "0", "-1");
    for (const sid of sids) expect(JSON.stringify(body)).not.toContain(sid);
    lea.close();
  });

  it("ends one of them, or all others, with their connections", async () => {
    const max = await person(left(), "maxim");
    const second = await connect(await again(max), max.user);
    const third = await connect(await again(max, PASSWORD, left()), max.user);
    const { body } = await second.browser.get<OwnSession[]>("/api/me/sessions");
    const own = body.find(({ current }) => current)?.id ?? "";
    const end = (path: string) => max.browser.fetch<Failure>("DELETE", path);
    expect((await end(`/api/me/sessions/${own}`)).status).toBe(204);
    await ended(second);
    expect((await end(`/api/me/sessions/${own}`)).body.code).toBe("not_found");
    expect(await isIn(third.browser)).toBe(true);
    expect((await end("/api/me/sessions")).status).toBe(204);
    await ended(third);
    expect(await isIn(third.browser)).toBe(false);
    expect(await isIn(max.browser)).toBe(true);
    expect((await max.say("0", "me again")).from).toBe(max.user.id);
    max.close();
  });

  it("has none of somebody else's", async () => {
    const nina = await person(left(), "nina");
    const { body } = await owner.browser.get<OwnSession[]>("/api/me/sessions");
    const { status } = await nina.browser.fetch("DELETE", `/api/me/sessions/${body[0]?.id}`);
    expect(status).toBe(404);
    expect(await isIn(owner.browser)).toBe(true);
    nina.close();
  });
});

describe("an export", () => {
  it("is one JSON file of the account, the sessions, the rooms and all that this user has said there", async () => {
    const pia = await person(left(), "pia");
    for (let count = 0; count < 120; count += 1) await pia.say("0", `"${count}"`);
    await owner.say("0", "not Pia's");
    await pia.browser.fetch("PUT", "/api/rooms/0/view", { favourite: true });
    const { status, body, headers } = await pia.browser.get<{
      account: Account;
      sessions: OwnSession[];
      rooms: { id: string }[];
      messages: { from: string; message: string }[];
    }>("/api/me/export");
    expect(status).toBe(200);
    expect(headers.get("content-disposition")).toContain("attachment");
    expect(body.account).toMatchObject(pia.user);
    expect(JSON.stringify(body)).not.toMatch(/\$2[aby]\$|not Pia's/);
    expect(body.sessions).toHaveLength(1);
    expect(body.rooms).toMatchObject([{ id: "0", favourite: true, folded: false }]);
    expect(body.messages.map(({ message }) => message)).toEqual(
      Array.from({ length: 120 }, (_, count) => `"${count}"`),
    );
    expect(new Set(body.messages.map(({ from }) => from))).toEqual(new Set([pia.user.id]));
    pia.close();
  });
});

describe("a link for a new password", () => {
  const linkFor = async (one: Person) => {
    const { body } = await owner.browser.post<{ url: string }>(`/api/admin/users/${one.user.id}/reset`);
    expect(body.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/#\/reset\/[\w-]{32}$/);
    return body.url.split("/").at(-1) ?? "";
  };
  const use = (code: string, password = OTHER) =>
    new Browser(right()).post<Failure>(`/api/reset/${code}`, { password });

  it("works once, also if it is used twice at once, and ends the sessions", async () => {
    const quin = await person(left(), "quin");
    const code = await linkFor(quin);
    const answers = await Promise.all([use(code), use(code)]);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([204, 404]);
    await ended(quin);
    expect(await isIn(quin.browser)).toBe(false);
    await expect(again(quin, OTHER)).resolves.toBeInstanceOf(Browser);
    expect((await use(code)).body.code).toBe("not_found");
  });

  it("survives a weak password, is ended by a newer link, and expires after a day", async () => {
    const rob = await person(left(), "robin");
    const first = await linkFor(rob);
    expect(await house.redis.pttl(house.keys.reset(first))).toBeGreaterThan(23.9 * 3_600_000);
    expect(await house.redis.pttl(house.keys.reset(first))).toBeLessThanOrEqual(24 * 3_600_000);
    expect((await use(first, "password123")).status).toBe(400);
    const second = await linkFor(rob);
    expect((await use(first)).status).toBe(404);
    expect((await use(second)).status).toBe(204);
    for (const code of ["x", "../1", "a".repeat(32)])
      expect((await use(encodeURIComponent(code))).body.code).toBe("not_found");
    rob.close();
  });
});

describe("what gives somebody a new password", () => {
  const linkTo = async (one: Person) => {
    const { body } = await owner.browser.post<{ url: string }>(`/api/admin/users/${one.user.id}/reset`);
    return body.url.split("/").at(-1) ?? "";
  };
  const use = async (code: string, password: string) =>
    (await new Browser(right()).post<Failure>(`/api/reset/${code}`, { password })).status;

  it.each([
    [
      "another role",
      (one: Person) => owner.browser.fetch("PATCH", `/api/admin/users/${one.user.id}`, { role: "owner" }),
    ],
    [
      "a password of their own choice",
      (one: Person) => one.browser.post("/api/me/password", { current: PASSWORD, next: OTHER }),
    ],
  ])("is not open any more after %s", async (what, change) => {
    const one = await person(left(), `linked-${what.length}`);
    const code = await linkTo(one);
    expect((await change(one)).status).toBeLessThan(300);
    expect(await use(code, "a third password")).toBe(404);
    one.close();
  });

  it.each([
    [
      "a role is given",
      (one: Person) => owner.browser.fetch("PATCH", `/api/admin/users/${one.user.id}`, { role: "owner" }),
    ],
    ["a newer link is made", (one: Person) => owner.browser.post(`/api/admin/users/${one.user.id}/reset`)],
  ])("is of no use any more where %s while it is being used", async (what, change) => {
    const users = new Users(house.redis, house.keys, readConfig(house.env));
    const one = await person(left(), `in-use-${what.length}`);
    const code = await linkTo(one);
    const using = users.setPassword(await users.resetOf(code), OTHER, "127.0.0.1", {
      reset: code,
      first: async () => void (await change(one)),
    });
    await expect(using).rejects.toMatchObject({ code: "not_found" });
    await again(one);
    one.close();
  });

  it("is not used up by what fails before the password is stored", async () => {
    const { redis, keys } = house;
    const one = await person(left(), "unlucky");
    const code = await linkTo(one);
    const sessions = keys.userSessions(one.user.id);
    const kept = await redis.dumpBuffer(sessions);
    await redis.set(sessions, "no sorted set");
    expect(await use(code, OTHER)).toBe(500);
    await redis.restore(sessions, 0, kept, "REPLACE");
    expect(await use(code, OTHER)).toBeLessThan(300);
    await again(one, OTHER);
    one.close();
  });

  it("has ended the other sessions before it is stored", async () => {
    const { keys } = house;
    const one = await person(left(), "careful");
    const other = await again(one);
    const commands = await commandsDuring(async () => {
      const { status } = await one.browser.post("/api/me/password", { current: PASSWORD, next: OTHER });
      expect(status).toBe(204);
    });
    const ends = commands.findIndex(([name, key]) => name === "del" && key?.includes("sess:"));
    expect(ends).toBeGreaterThanOrEqual(0);
    expect(placeOf(commands, "HSET", keys.user(one.user.id), "password")).toBeGreaterThan(ends);
    expect([await isIn(one.browser), await isIn(other)]).toEqual([true, false]);
    one.close();
  });
});

describe("deleting one's own account", () => {
  it("ends it everywhere, shows a deleted user, keeps the messages if asked, and gives the name to nobody", async () => {
    const sam = await person(left(), "samuel");
    await sam.browser.fetch("PATCH", "/api/me", { displayName: "Sam Smith" });
    const other = await connect(await again(sam), sam.user);
    const kept = await sam.say("0", "remember me");
    const leave = (body: object) => sam.browser.fetch<Failure>("DELETE", "/api/me", body);
    expect((await leave({ password: "wrong", messages: "keep" })).status).toBe(403);
    expect((await leave({ password: PASSWORD })).status).toBe(400);
    expect((await leave({ password: PASSWORD, messages: "keep" })).status).toBe(204);
    await Promise.all([ended(sam), ended(other)]);
    expect(await isIn(other.browser)).toBe(false);
    await expect(again(sam)).rejects.toThrow("401");
    const asked = { username: "Samuel", password: PASSWORD };
    expect((await new Browser(right()).post("/api/users", asked)).status).toBe(409);
    const { body } = await owner.browser.get<User[]>(`/api/users?ids=${sam.user.id}`);
    expect(body).toMatchObject([{ id: sam.user.id, username: "deleted user", deleted: true }]);
    const { body: found } = await owner.browser.get<Found<User>>("/api/users?q=sam");
    expect(found.found).toEqual([]);
    expect(JSON.stringify(await house.redis.hgetall(house.keys.user(sam.user.id)))).not.toMatch(/Smith|\$2/);
    const page = await owner.browser.get<{ messages: { seq: number; message: string }[] }>(
      "/api/rooms/0/messages",
    );
    expect(page.body.messages.find(({ seq }) => seq === kept.seq)?.message).toBe("remember me");
  });

  it("leaves the rooms, and an owner's room to the next", async () => {
    const own = await newServer(2);
    (await person(both(own)[0], "runs-the-server")).close();
    const [una, vic, wes] = [
      await person(both(own)[0], "una"),
      await person(both(own)[1], "vic"),
      await person(both(own)[0], "wes"),
    ];
    const { id } = await una.makes({ name: "Left behind", kind: "open" });
    for (const { socket } of [vic, wes]) await socket.emitWithAck("room.join", { roomId: id });
    const standings: unknown[] = [];
    wes.socket.on("room.member", (standing) => standings.push(standing));
    const wentOffline: User[] = [];
    wes.socket.on("user.disconnected", (users) => wentOffline.push(...users));
    const kept = await vic.say(id, "kept");
    await una.say(id, "not kept");
    await vic.browser.fetch("DELETE", "/api/me", { password: PASSWORD, messages: "keep" });
    const members = async () =>
      (await wes.browser.get<Member[]>(`/api/rooms/${id}/members`)).body.map(({ username, role }) => [
        username,
        role,
      ]);
    expect(await members()).toEqual([
      ["una", "owner"],
      ["wes", "member"],
    ]);
    await una.browser.fetch("DELETE", "/api/me", { password: PASSWORD, messages: "delete" });
    await until(
      async () => (await own.redis.zscore(own.keys.farewells, una.user.id)) === null,
      undefined,
      "the messages to be deleted",
    );
    expect(await members()).toEqual([["wes", "owner"]]);
    await until(() => standings.length > 0);
    expect(standings).toMatchObject([{ roomId: id, role: "owner" }]);
    const { body: found } = await wes.browser.get<Found<ListedRoom>>("/api/rooms/directory?q=left behind");
    expect(found.found).toMatchObject([{ id, members: 1 }]);
    const { body } = await wes.browser.get<{ messages: { seq: number; message: string }[] }>(
      `/api/rooms/${id}/messages`,
    );
    expect(body.messages.map(({ seq, message }) => [seq, message])).toEqual([
      [kept.seq, "kept"],
      [kept.seq + 1, ""],
    ]);
    await until(() => [una, vic].every(({ user }) => wentOffline.some(({ id: gone }) => gone === user.id)));
    const figures = await figuresOf(both(own)[0]);
    expect(figures["hubbub_relay_malformed_total"]).toBe(0);
    for (const one of [una, vic, wes]) one.close();
    await own.close();
  });

  it("leaves also a room that they were coming into", async () => {
    const { redis, keys } = house;
    const { id } = await owner.makes({ name: "Coming and going", kind: "open" });
    const gone = await person(left(), "comes-and-goes");
    const list = keys.userRooms(gone.user.id);
    let isDeleted = true;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      const text = chunk.toString("latin1");
      if (from === "replica" && !isDeleted && /\neval(sha)?\r/.test(text) && text.includes(list)) {
        isDeleted = true;
        const body = { password: PASSWORD, messages: "keep" };
        expect((await gone.browser.fetch("DELETE", "/api/me", body)).status).toBe(204);
      }
      return chunk;
    });
    const slow = await house.addReplica({ REDIS_URL: wire.url });
    const asker = new Browser(slow);
    asker.cookie = gone.browser.cookie;
    const window = await connect(asker, gone.user);
    isDeleted = false;
    // The end of their session cuts it off.
    await window.socket.emitWithAck("room.join", { roomId: id }).catch(() => undefined);
    expect(isDeleted).toBe(true);
    await until(async () => (await redis.hlen(keys.records(id))) === 1 && !(await redis.sismember(list, id)));
    expect(await redis.hkeys(keys.records(id))).toEqual([owner.user.id]);
    await house.replicas.pop()?.close();
    await wire.close();
    window.close();
    gone.close();
  });

  it("takes people out of rooms that have stayed there all the same, as soon as somebody looks", async () => {
    const { redis, keys } = house;
    const { id } = await owner.makes({ name: "Who is left", kind: "open" });
    const gone = await person(left(), "left-behind");
    await gone.browser.fetch("DELETE", "/api/me", { password: PASSWORD, messages: "keep" });
    // As a server that was killed while it let them in has left it.
    await redis.hset(keys.records(id), gone.user.id, '{"role":"member"}');
    await redis.sadd(keys.userRooms(gone.user.id), id);
    const { body } = await owner.browser.get<Member[]>(`/api/rooms/${id}/members`);
    expect(body.map(({ username }) => username)).toEqual(["olga"]);
    expect(await redis.hkeys(keys.records(id))).toEqual([owner.user.id]);
    expect(await redis.sismember(keys.userRooms(gone.user.id), id)).toBe(0);
    gone.close();
  });

  it("ends also what an admin has enabled again meanwhile", async () => {
    const one = await person(left(), "enabled-again");
    let isArmed = false;
    let meanwhile: Browser | undefined;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      if (isArmed && from === "replica" && chunk.includes("\r\ndeleted\r\n") && chunk.includes("evalsha")) {
        isArmed = false;
        await owner.browser.fetch("PATCH", `/api/admin/users/${one.user.id}`, { disabled: false });
        meanwhile = await again(one);
      }
      return chunk;
    });
    const third = await house.addReplica({ REDIS_URL: wire.url });
    const admin = new Browser(third);
    admin.cookie = owner.browser.cookie;
    await admin.get("/api/me");
    isArmed = true;
    expect((await admin.fetch("DELETE", `/api/admin/users/${one.user.id}`)).status).toBe(204);
    expect(meanwhile).toBeDefined();
    expect(await isIn(meanwhile!)).toBe(false);
    await house.replicas.pop()?.close();
    await wire.close();
  });

  it("takes the messages along if asked", async () => {
    const tom = await person(left(), "tomas");
    const said: number[] = [];
    for (let count = 0; count < 5; count += 1) said.push((await tom.say("0", `secret ${count}`)).seq);
    await owner.say("0", "between");
    said.push((await tom.say("0", "secret at the end")).seq);
    await tom.browser.fetch("DELETE", "/api/me", { password: PASSWORD, messages: "delete" });
    await until(async () => {
      const rows = await house.redis.zrange(house.keys.room("0"), "0", "-1");
      return !rows.some((row) => row.includes("secret"));
    });
    const deleted = await house.redis.zrange(house.keys.deleted("0"), "0", "-1");
    expect(deleted.map(Number)).toEqual(expect.arrayContaining(said));
    expect((await owner.say("0", "after it all")).from).toBe(owner.user.id);
  });

  it("goes on with the messages on another replica if it was cut short, and takes nobody's who is still there", async () => {
    const { redis, keys } = house;
    const gone = await person(left(), "half-gone");
    const here = await person(right(), "still-here");
    for (let count = 0; count < 3; count += 1) await gone.say("0", `left over ${count}`);
    await here.say("0", "still to be read");
    await gone.browser.fetch("DELETE", "/api/me", { password: PASSWORD, messages: "keep" });
    // As it is when the replica that deletes has died.
    await redis.zadd(keys.farewells, 1, gone.user.id, 1, here.user.id);
    await house.addReplica();
    const rows = () => redis.zrange(keys.room("0"), "0", "-1");
    await until(async () => !(await rows()).some((row) => row.includes("left over")));
    await until(async () => (await redis.zscore(keys.farewells, gone.user.id)) === null);
    expect((await rows()).some((row) => row.includes("still to be read"))).toBe(true);
    await redis.del(keys.farewells);
    gone.close();
    here.close();
  });

  it("is finished by another replica, whichever command it was cut short after", async () => {
    const { redis, keys } = house;
    const wire = await startFuse();
    const third = await house.addReplica({ REDIS_URL: wire.url });
    const { id: roomId } = await owner.makes({ name: "Cut short" });
    for (const messages of ["keep", "delete"] as const) {
      let isWhole = false;
      // One is cut between the commands of the other.
      for (let commands = messages === "keep" ? 3 : 7; !isWhole; commands += 8) {
        const one = await person(right(), `cut-${messages}-${commands}`);
        await one.say("0", `said by ${one.user.username}`);
        const { user, browser } = one;
        await one.socket.emitWithAck("room.join", { roomId });
        const asker = new Browser(third);
        asker.cookie = browser.cookie;
        await asker.get("/api/me");
        wire.allow(commands);
        const asked = asker.fetch("DELETE", "/api/me", { password: PASSWORD, messages });
        isWhole = (await asked.catch(() => undefined))?.status === 204;
        wire.allow(Infinity);
        // Until then commands may still be sent again.
        await until(async () => (await new Browser(third).get("/readyz")).status === 200);
        const disabled = await redis.hget(keys.user(user.id), "disabled");
        one.close();
        if (disabled === null) continue;
        const names = [user.id, `${user.id}:keep`];
        for (const name of names) await redis.zadd(keys.farewells, "XX", 1, name);
        const next = await house.addReplica();
        await until(async () => (await redis.zmscore(keys.farewells, names)).every((at) => at === null));
        house.replicas.pop();
        await next.close();
        expect(await redis.hmget(keys.user(user.id), "password", "role")).toEqual([null, null]);
        expect(await redis.hexists(keys.records(roomId), user.id)).toBe(0);
        const rows = await redis.zrange(keys.room("0"), "0", "-1");
        expect(rows.some((row) => row.includes(`said by ${user.username}`))).toBe(messages === "keep");
      }
    }
    await house.replicas.pop()?.close();
    await wire.close();
  });

  it("keeps the messages if so asked, also after an attempt to delete them that was cut short", async () => {
    const { redis, keys } = house;
    const one = await person(left(), "of-two-minds");
    await one.say("0", "kept after all");
    await redis.zadd(keys.farewells, 1, one.user.id);
    await one.browser.fetch("DELETE", "/api/me", { password: PASSWORD, messages: "keep" });
    expect(await redis.zscore(keys.farewells, one.user.id)).toBeNull();
    one.close();
  });

  it("notes that the messages go before it ends the account, and leaves nothing to go on with once they are gone", async () => {
    const { redis, keys } = house;
    const gone = await person(left(), "all-gone");
    await gone.say("0", "the last word");
    const commands = await commandsDuring(async () => {
      await gone.browser.fetch("DELETE", "/api/me", { password: PASSWORD, messages: "delete" });
      await until(async () => (await redis.zscore(keys.farewells, gone.user.id)) === null);
    });
    const noted = placeOf(commands, "zadd", keys.farewells);
    expect(noted).toBeGreaterThanOrEqual(0);
    expect(placeOf(commands, "HSET", keys.user(gone.user.id), "deleted")).toBeGreaterThan(noted);
    gone.close();
  });

  it("is refused to the last owner, and works once there is another", async () => {
    const own = await newServer(1);
    try {
      const first = await person(own.replicas[0]!, "una");
      const second = await person(own.replicas[0]!, "vic");
      const leave = () =>
        first.browser.fetch<Failure>("DELETE", "/api/me", { password: PASSWORD, messages: "keep" });
      expect((await leave()).body.code).toBe("forbidden");
      expect(await isIn(first.browser)).toBe(true);
      await first.browser.fetch("PATCH", `/api/admin/users/${second.user.id}`, { role: "owner" });
      expect((await leave()).status).toBe(204);
      expect(await own.redis.hgetall(own.keys.staff)).toEqual({ [second.user.id]: "owner" });
      second.close();
    } finally {
      await own.close();
    }
  });
});

describe("the routes of admins", () => {
  const calls = (id: string): [method: string, path: string, body?: object][] => [
    ["GET", "/api/admin/users"],
    ["GET", "/api/admin/users?q=a"],
    ["GET", `/api/admin/users/${id}`],
    ["PATCH", `/api/admin/users/${id}`, { disabled: true }],
    ["DELETE", `/api/admin/users/${id}`],
    ["POST", `/api/admin/users/${id}/reset`],
    ["DELETE", `/api/admin/users/${id}/sessions`],
    ["GET", "/api/admin/rooms"],
    ["GET", "/api/admin/rooms?q=a"],
    ["GET", "/api/admin/settings"],
    ["PATCH", "/api/admin/settings", { signup: "closed" }],
    ["GET", "/api/admin/stats"],
    ["GET", "/api/admin/nothing"],
  ];

  it("do not exist for a user, and ask a stranger to log in; nothing is done", async () => {
    const wil = await person(left(), "wilma");
    const before = await house.redis.hgetall(house.keys.user(owner.user.id));
    const nowhere = await wil.browser.get<Failure>("/api/nowhere");
    for (const [method, path, body] of calls(owner.user.id)) {
      const asked = await wil.browser.fetch<Failure>(method, path, body);
      expect([asked.status, asked.body], path).toEqual([404, nowhere.body]);
      expect((await new Browser(left()).fetch(method, path, body)).status, path).toBe(401);
    }
    expect(await house.redis.hgetall(house.keys.user(owner.user.id))).toEqual(before);
    wil.close();
  });

  it("let an admin act on users, and neither on admins nor on owners", async () => {
    const [one, other, user] = await Promise.all(["xena", "yara", "zoe"].map((name) => person(left(), name)));
    for (const { user: admin } of [one!, other!])
      await owner.browser.fetch("PATCH", `/api/admin/users/${admin.id}`, { role: "admin" });
    expect((await one!.browser.get<Me>("/api/me")).body.role).toBe("admin");
    for (const target of [owner.user.id, other!.user.id])
      for (const [method, path, body] of calls(target).slice(3, 7))
        expect((await one!.browser.fetch<Failure>(method, path, body)).body.code, path).toBe("forbidden");
    const act = (id: string, body: object) =>
      one!.browser.fetch<Account & Failure>("PATCH", `/api/admin/users/${id}`, body);
    expect((await act(user!.user.id, { role: "owner" })).body.code).toBe("forbidden");
    expect((await act(one!.user.id, { disabled: true })).body.code).toBe("forbidden");
    expect((await act("999999", { disabled: true })).body.code).toBe("not_found");
    expect((await act("x", { disabled: true })).body.code).toBe("invalid");
    expect((await act(user!.user.id, { disabled: 1 })).body.code).toBe("invalid");
    const { status, body } = await act(user!.user.id, { disabled: true });
    expect([status, typeof body.disabled]).toEqual([200, "number"]);
    expect((await one!.browser.fetch("DELETE", `/api/admin/users/${user!.user.id}`)).status).toBe(204);
    expect((await one!.browser.get(`/api/admin/users/${user!.user.id}`)).status).toBe(404);
    for (const admin of [one!, other!]) admin.close();
  });

  it("change nothing, and note nothing, where nothing is asked or one thing contradicts another", async () => {
    const uma = await person(left(), "uma-t");
    const act = (body: object) =>
      owner.browser.fetch<Account & Failure>("PATCH", `/api/admin/users/${uma.user.id}`, body);
    const audit = async () => (await owner.browser.get<object[]>("/api/admin/audit")).body;
    const before = await audit();
    expect((await act({})).body).toMatchObject({ id: uma.user.id, role: "user" });
    for (const role of ["admin", "user"])
      expect((await act({ disabled: true, role })).body.code).toBe("invalid");
    expect(await audit()).toEqual(before);
    expect(await isIn(uma.browser)).toBe(true);
    uma.close();
  });

  it("list and find accounts, and count", async () => {
    const { body: list } = await owner.browser.get<Account[]>("/api/admin/users?size=1");
    expect(list).toMatchObject([{ id: owner.user.id, username: "olga", role: "owner", online: true }]);
    const { body: found } = await owner.browser.get<Found<Account>>("/api/admin/users?q=olga");
    expect(found.found.map(({ id }) => id)).toEqual([owner.user.id]);
    const { body: one } = await owner.browser.get<Account>(`/api/admin/users/${owner.user.id}`);
    expect(one.sessions).toBe(1);
    const { body: stats } = await owner.browser.get<Record<string, number>>("/api/admin/stats");
    expect(stats["people"]).toBeGreaterThan(5);
    const { keys, redis } = house;
    expect(stats["rooms"]).toBe((await redis.keys(keys.roomName("*"))).length);
    expect(stats["messages"]).toBe(Number(await house.redis.hget(house.keys.meta("0"), "seq")));
  });

  it("list and find the rooms that an admin manages: General, open rooms, and invite rooms that they are in", async () => {
    const own = await newServer(1);
    try {
      const [boss, maker] = [await person(own.replicas[0]!, "boss"), await person(own.replicas[0]!, "maker")];
      const make = async ({ browser }: Person, name: string, kind: string) =>
        (await browser.post<Room>("/api/rooms", { name, kind })).body.id;
      await make(maker, "Hidden one", "invite");
      const open = await make(maker, "Open one", "open");
      await make(maker, "Hidden two", "invite");
      const mine = await make(boss, "My own", "invite");
      await maker.browser.fetch("PATCH", `/api/rooms/${open}`, { topic: "Tea", slow: 10, archived: true });
      const list = async (query: string) =>
        (await boss.browser.get<ManagedRoom[]>(`/api/admin/rooms?${query}`)).body;
      const all = await list("");
      expect(all).toEqual([
        { id: "0", kind: "everyone", name: "General", members: 2, joined: true },
        {
          id: open,
          kind: "open",
          name: "Open one",
          members: 1,
          joined: false,
          topic: "Tea",
          slow: 10,
          archived: expect.any(Number) as number,
        },
        { id: mine, kind: "invite", name: "My own", members: 1, joined: true },
      ]);
      // Page by page, from the last id on.
      expect(await list("size=1")).toEqual([all[0]]);
      expect(await list("size=1&after=0")).toEqual([all[1]]);
      expect(await list(`size=1&after=${open}`)).toEqual([all[2]]);
      expect(await list(`after=${mine}`)).toEqual([]);
      const find = async (q: string) =>
        (await boss.browser.get<Found<ManagedRoom>>(`/api/admin/rooms?q=${q}`)).body.found;
      expect(await find("one")).toEqual([all[1]]);
      expect(await find("my")).toEqual([all[2]]);
      for (const one of [boss, maker]) one.close();
    } finally {
      await own.close();
    }
  });

  it("set who may sign up", async () => {
    const set = (body: object) =>
      owner.browser.fetch<{ signup: string }>("PATCH", "/api/admin/settings", body);
    expect((await set({ signup: "nobody" })).status).toBe(400);
    expect((await set({ signup: "invite" })).body).toEqual({ signup: "invite", words: [] });
    const asked = { username: "late-comer", password: PASSWORD };
    expect((await new Browser(right()).post("/api/users", asked)).status).toBe(403);
    expect((await set({})).body).toEqual({ signup: "invite", words: [] });
    expect((await set({ signup: "open" })).body).toEqual({ signup: "open", words: [] });
    expect((await owner.browser.get("/api/admin/settings")).body).toEqual({ signup: "open", words: [] });
  });

  it("do nothing any more once they have lost the role, whatever they had begun", async () => {
    const { redis, keys } = house;
    const admin = await person(left(), "former-admin");
    const one = await person(left(), "acted-on");
    const setRole = (role: string) =>
      owner.browser.fetch("PATCH", `/api/admin/users/${admin.user.id}`, { role });
    let isArmed = false;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      if (isArmed && from === "replica" && chunk.includes("unfinished")) {
        isArmed = false;
        await setRole("user");
      }
      return chunk;
    });
    const browser = new Browser(await house.addReplica({ REDIS_URL: wire.url }));
    browser.cookie = admin.browser.cookie;
    const path = `/api/admin/users/${one.user.id}`;
    const state = async () => [
      await redis.hmget(keys.user(one.user.id), "reset", "disabled"),
      await redis.zcard(keys.userSessions(one.user.id)),
      await redis.hmget(keys.settings, "signup", "words"),
    ];
    const before = await state();
    for (const [method, where, body] of [
      ["POST", `${path}/reset`],
      ["DELETE", `${path}/sessions`],
      ["PATCH", path, { disabled: true }],
      ["DELETE", path],
      ["PATCH", "/api/admin/settings", { signup: "closed", words: ["tea"] }],
    ] as const) {
      await setRole("admin");
      isArmed = true;
      expect([where, (await browser.fetch(method, where, body)).status]).toEqual([where, 403]);
      expect([where, await state()]).toEqual([where, before]);
    }
    await redis.hset(keys.user(one.user.id), "disabled", 1);
    await setRole("admin");
    isArmed = true;
    expect((await browser.fetch("PATCH", path, { disabled: false })).status).toBe(403);
    expect(await redis.hget(keys.user(one.user.id), "disabled")).toBe("1");
    admin.close();
    await house.replicas.pop()?.close();
    await wire.close();
  });

  it("tell whose role they change at once, in each of their windows on every replica", async () => {
    const nell = await person(left(), "nell");
    const windows = [nell, await windowOf(nell, right())];
    const told = windows.map(({ socket }) => {
      const roles: (string | undefined)[] = [];
      socket.on("me", ({ id, role }) => void (id === nell.user.id && roles.push(role)));
      return roles;
    });
    for (const role of ["admin", "owner", "user"]) {
      const { status } = await owner.browser.fetch("PATCH", `/api/admin/users/${nell.user.id}`, { role });
      expect(status).toBe(200);
      const shown = role === "user" ? undefined : role;
      await until(() => told.every((roles) => roles.length > 0 && roles.at(-1) === shown));
    }
    for (const one of windows) one.close();
  });

  it.each(["lost", "of a wrong type"])(
    "are made again of the accounts' copies if the key of all of them is %s",
    async (how) => {
      const apart = await newServer(1);
      try {
        const { redis, keys } = apart;
        const first = await person(apart.replicas[0]!, "first-owner");
        const other = await person(apart.replicas[0]!, "other");
        const give = (id: string, role: string) =>
          first.browser.fetch("PATCH", `/api/admin/users/${id}`, { role });
        await redis.del(keys.staff);
        if (how !== "lost") await redis.rpush(keys.staff, how);
        const leave = { password: "correct horse", messages: "keep" };
        expect((await first.browser.fetch("DELETE", "/api/me", leave)).status).toBe(403);
        expect((await give(other.user.id, "owner")).status).toBe(200);
        expect(await redis.hgetall(keys.staff)).toEqual({
          [first.user.id]: "owner",
          [other.user.id]: "owner",
        });
        first.close();
        other.close();
      } finally {
        await apart.close();
      }
    },
  );

  it("are made again once: not of a copy that was read before somebody lost their role", async () => {
    const apart = await newServer(0);
    const { redis, keys } = apart;
    try {
      await redis.set(keys.totalUsers, 2);
      await redis.hset(keys.user("1"), { username: "one", role: "owner" });
      await redis.hset(keys.user("2"), { username: "two", role: "admin" });
      let overtaking: Promise<unknown> | undefined;
      const slow = Object.assign(Object.create(redis) as typeof redis, {
        hmget: async (...asked: [string, string, string]) => {
          const read = await redis.hmget(...asked);
          await (overtaking ??= new Staff(redis, keys).set("2", "user"));
          return read;
        },
      });
      await new Staff(slow, keys).set("1", "owner");
      expect(await redis.hgetall(keys.staff)).toEqual({ 1: "owner" });
    } finally {
      await apart.close();
    }
  });

  it("change nothing for somebody who has lost their own role meanwhile", async () => {
    const staff = new Staff(house.redis, house.keys);
    const lost = { user: { id: "901" }, role: "admin" } as const;
    for (const id of ["901", "902"]) await house.redis.hset(house.keys.user(id), "username", `staff ${id}`);
    await staff.set("902", "admin");
    expect(await staff.set("902", "user", lost)).toBe("lost role");
    expect(await staff.retire("902", lost)).toBe("lost role");
    await staff.set("901", "owner");
    expect(await staff.retire("902", lost)).toBe("lost role");
    expect(await house.redis.hget(house.keys.staff, "902")).toBe("admin");
    expect(await staff.retire("902", { ...lost, role: "owner" })).toBeNull();
    expect(await staff.set("901", "user")).toBeNull();
    await house.redis.del(["901", "902"].map((id) => house.keys.user(id)));
    expect(await staff.set("902", "owner")).toBe("no account");
    expect(await house.redis.hexists(house.keys.staff, "902")).toBe(0);
  });

  it.each([
    ["give", "take", "admin", "user"],
    ["take", "give", "user", "owner"],
  ] as const)(
    "are the same in the account and on the server when one owner's %s is overtaken by another's %s",
    async (_one, _other, first, second) => {
      const id = "903";
      const { redis, keys } = house;
      await redis.hset(keys.user(id), { username: "staff 903" });
      await new Staff(redis, keys).set(id, first === "user" ? "admin" : "user");
      let goOn = () => {};
      const waits = new Promise<void>((resolve) => (goOn = resolve));
      const wire = await startWire(testRedisUrl(), async (chunk, from) => {
        if (from === "replica" && chunk.includes(keys.user(id))) await waits;
        return chunk;
      });
      const slow = new Redis(wire.url);
      const overtaken = new Staff(slow, keys).set(id, first);
      const reserved = first === "user" ? null : first;
      await until(async () => (await redis.hget(keys.staff, id)) === reserved);
      await new Staff(redis, keys).set(id, second);
      goOn();
      expect(await overtaken).toBeNull();
      const wanted = second === "user" ? null : second;
      expect([await redis.hget(keys.staff, id), await redis.hget(keys.user(id), "role")]).toEqual([
        wanted,
        wanted,
      ]);
      await redis.hdel(keys.staff, id);
      await redis.del(keys.user(id));
      slow.disconnect();
      await wire.close();
    },
  );

  it("leave no owner behind who is deleted and enabled at the same time", async () => {
    const { redis, keys } = house;
    const gone = await person(left(), "enabled-at-the-end");
    const { id } = await gone.makes({ name: "Whose room" });
    const path = `/api/admin/users/${gone.user.id}`;
    await owner.browser.fetch("PATCH", path, { role: "owner" });
    let isEnabled = false;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      // The account is marked as deleted once it is disabled, and shut out.
      if (from === "replica" && !isEnabled && /\r\ndeleted\r\n\$13\r\n/.test(chunk.toString("latin1"))) {
        isEnabled = true;
        const { status } = await owner.browser.fetch("PATCH", path, { disabled: false });
        expect(status).toBe(200);
      }
      return chunk;
    });
    const slow = await house.addReplica({ REDIS_URL: wire.url });
    const asker = new Browser(slow);
    asker.cookie = owner.browser.cookie;
    const { status } = await asker.fetch("DELETE", path);
    expect([status, isEnabled]).toEqual([204, true]);
    expect(await redis.hexists(keys.staff, gone.user.id)).toBe(0);
    expect(await redis.exists(keys.records(id))).toBe(0);
    await house.replicas.pop()?.close();
    await wire.close();
    gone.close();
  });

  it("keep an owner, also when two owners take each other's role at once", async () => {
    const own = await newServer(2);
    try {
      const [first, second] = [await person(both(own)[0], "abe"), await person(both(own)[1], "bea")];
      const role = (by: Person, of: Person, to: string) =>
        by.browser.fetch<Failure>("PATCH", `/api/admin/users/${of.user.id}`, { role: to });
      expect((await role(first, first, "user")).body.code).toBe("forbidden");
      expect((await role(first, second, "owner")).status).toBe(200);
      await Promise.all([role(first, second, "user"), role(second, first, "user")]);
      expect(Object.values(await own.redis.hgetall(own.keys.staff))).toEqual(["owner"]);
      first.close();
      second.close();
    } finally {
      await own.close();
    }
  });
});

describe("a disabled account", () => {
  it("is out everywhere at once: sessions, connections, log-in, REST and its fast route; until it is enabled", async () => {
    const dan = await person(left(), "daniel");
    const other = await connect(await again(dan), dan.user);
    const change = (disabled: boolean) =>
      owner.browser.fetch<Account>("PATCH", `/api/admin/users/${dan.user.id}`, { disabled });
    expect((await change(true)).body.sessions).toBe(0);
    await Promise.all([ended(dan), ended(other)]);
    for (const path of ["/api/me", "/api/rooms/0/messages", "/api/rooms"])
      expect((await other.browser.get(path)).status, path).toBe(401);
    await expect(connect(other.browser, dan.user)).rejects.toThrow("unauthorized");
    const wrong = await new Browser(left()).post("/api/login", { username: "daniel", password: "wrong one" });
    const right_ = await new Browser(left()).post("/api/login", { username: "daniel", password: PASSWORD });
    expect([right_.status, right_.body]).toEqual([wrong.status, wrong.body]);
    expect(await house.redis.hget(house.keys.records("0"), dan.user.id)).toContain('"disabled":true');
    await change(false);
    expect(await house.redis.hexists(house.keys.records("0"), dan.user.id)).toBe(0);
    await expect(again(dan)).resolves.toBeInstanceOf(Browser);
    const { body: log } = await owner.browser.get<AuditEntry[]>("/api/admin/audit");
    expect(log.filter(({ userId }) => userId === dan.user.id)).toMatchObject([
      { by: owner.user.id, what: "account", detail: '{"disabled":false}' },
      { by: owner.user.id, what: "account", detail: '{"disabled":true}' },
    ]);
  });

  it("stays out if its session has outlived the end of all: at each door, and on an open connection", async () => {
    const eli = await person(left(), "elias");
    // A replica that crashed right after the first step.
    await house.redis.hset(house.keys.user(eli.user.id), "disabled", Date.now());
    expect((await eli.browser.get("/api/rooms/0/messages")).status).toBe(401);
    await ended(eli);
    expect(await house.redis.zcard(house.keys.userSessions(eli.user.id))).toBe(0);
  });

  it("is wholly out, or wholly back, after whichever command either was cut: another replica goes on with it", async () => {
    const { redis, keys } = house;
    const wire = await startFuse();
    const third = await house.addReplica({ REDIS_URL: wire.url });
    const asker = new Browser(third);
    asker.cookie = owner.browser.cookie;
    for (const disabled of [true, false]) {
      let followed = 0;
      for (let commands = 2, isDone = false; !isDone; commands += 6) {
        const one = await person(left(), `half-${disabled ? "out" : "in"}-${commands}`);
        const { id } = one.user;
        const path = `/api/admin/users/${id}`;
        const room = await one.makes({ name: `Of ${one.user.username}` });
        await owner.browser.fetch("PATCH", path, { role: "admin" });
        if (!disabled) await owner.browser.fetch("PATCH", path, { disabled: true });
        await asker.get("/api/me");
        wire.allow(commands);
        isDone = (await asker.fetch("PATCH", path, { disabled }).catch(() => null))?.status === 200;
        wire.allow(Infinity);
        // Until then commands may still be sent again.
        await until(async () => (await new Browser(third).get("/readyz")).status === 200);
        one.close();
        const note = `${id}:follow`;
        if (isDone) expect(await redis.zscore(keys.farewells, note)).toBeNull();
        if ((await redis.zadd(keys.farewells, "XX", "CH", 1, note)) === 1) {
          followed += 1;
          const next = await house.addReplica();
          await until(async () => (await redis.zscore(keys.farewells, note)) === null);
          house.replicas.pop();
          await next.close();
        }
        const isOut = (await redis.hexists(keys.user(id), "disabled")) === 1;
        const barred = ["0", room.id].map(async (at) =>
          (await redis.hget(keys.records(at), id))?.includes('"disabled":true'),
        );
        const found = [await redis.hget(keys.staff, id), ...(await Promise.all(barred)).map(Boolean)];
        expect(found, `${disabled} ${commands}`).toEqual(
          isOut ? [null, true, true] : ["admin", false, false],
        );
        if (isOut) expect(await redis.zcard(keys.userSessions(id))).toBe(0);
      }
      expect(followed).toBeGreaterThan(2);
    }
    await house.replicas.pop()?.close();
    await wire.close();
  });

  it("of an owner is no owner meanwhile, and owns again once it is enabled", async () => {
    const own = await newServer(1);
    try {
      const [first, second] = [await person(own.replicas[0]!, "fay"), await person(own.replicas[0]!, "gil")];
      const change = (of: Person, body: object) =>
        first.browser.fetch<Account & Failure>("PATCH", `/api/admin/users/${of.user.id}`, body);
      await change(second, { role: "owner" });
      await change(second, { disabled: true });
      expect((await change(first, { role: "user" })).body.code).toBe("forbidden");
      expect((await change(second, { role: "user" })).body.code).toBe("invalid");
      await change(second, { disabled: false });
      expect((await change(first, { role: "user" })).status).toBe(200);
      expect(await own.redis.hgetall(own.keys.staff)).toEqual({ [second.user.id]: "owner" });
      first.close();
    } finally {
      await own.close();
    }
  });
});
