import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import supertest from "supertest";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BOUNDS, RATES } from "../limits.ts";
import {
  LIMITS,
  type ErrorCode,
  type Failure,
  type Page,
  type Presence,
  type Room,
  type User,
} from "../protocol.ts";
import type { Replica } from "../server.ts";
import {
  PATIENCE_MS,
  Browser,
  METRICS_TOKEN,
  both,
  commandsDuring,
  figuresOf,
  ownRedis,
  person,
  replicas,
  startWire,
  testRedisUrl,
  until,
  type House,
  type Person,
  unwrap,
  windowOf,
} from "../testing.ts";
import { STATUS } from "./failure.ts";

let house: House;
let left: Replica;
let right: Replica;
let mary: Person;
let joe: Person;
let sue: Person;
beforeAll(async () => {
  house = await replicas(2);
  [left, right] = both(house);
  mary = await person(left, "Mary");
  joe = await person(right, "joe");
  sue = await person(right, "sue");
});
afterAll(() => house.close());

function anonymous(replica = left) {
  return supertest(replica.address);
}

/** Sends a request as a logged-in person. */
function as(who: Person, method: string, path: string, body?: unknown) {
  return who.browser.fetch<Failure>(method, path, body);
}

type Answer = { status: number; headers: string[]; text: string };

/** Sends path and headers exactly as given; answers the raw headers. */
function raw(
  replica: Replica,
  path: string,
  headers: Record<string, string>,
  { agent, method = "GET" }: { agent?: Agent; method?: string } = {},
) {
  return new Promise<Answer>((resolve, reject) => {
    const { hostname, port } = new URL(replica.address);
    const asked = request({ hostname, port, path, headers, agent, method }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.rawHeaders, text }),
      );
    });
    asked.on("error", reject);
    asked.end();
  });
}

describe("PUT /api/rooms/:id/notifications", () => {
  it("keeps the user's own level until they leave, and tells their other windows", async () => {
    const { body: made } = await mary.browser.post<Room>("/api/rooms", { name: "Notified" });
    const own = async () =>
      (await mary.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === made.id)?.notify;
    const put = (level: unknown, id = made.id, who = mary) =>
      who.browser.fetch<Room>("PUT", `/api/rooms/${id}/notifications`, { level });
    expect(await own()).toBeUndefined();
    const told: (string | undefined)[] = [];
    mary.socket.on("show.room", ({ notify }) => void told.push(notify));
    const { status, body } = await put("nothing");
    expect([status, body.id, body.notify]).toEqual([200, made.id, "nothing"]);
    await until(() => told.includes("nothing"));
    expect((await put("all")).body.notify).toBe("all");
    for (const level of ["loud", "", null, 1, ["all"]]) expect((await put(level)).status).toBe(400);
    for (const id of ["4711", "998:999"]) expect((await put("all", id)).status).toBe(404);
    expect((await put("all", "x")).status).toBe(400);
    expect((await put("all", made.id, joe)).status).toBe(404);
    expect(await own()).toBe("all");
    unwrap(await mary.socket.emitWithAck("room.leave", { roomId: made.id }));
    unwrap(await mary.socket.emitWithAck("room.join", { roomId: made.id }));
    expect(await own()).toBeUndefined();
  });
});

describe("PUT /api/rooms/:id/view", () => {
  it("keeps whether the user has answers folded there, for them alone, until they leave, and tells their windows", async () => {
    const { body: made } = await mary.browser.post<Room>("/api/rooms", { name: "Folded" });
    const own = async () =>
      (await mary.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === made.id)?.folded;
    const put = (folded: unknown, id = made.id, who = mary) =>
      who.browser.fetch<Room>("PUT", `/api/rooms/${id}/view`, { folded });
    expect(await own()).toBeUndefined();
    const told: (true | undefined)[] = [];
    mary.socket.on("show.room", ({ folded }) => void told.push(folded));
    const { status, body } = await put(true);
    expect([status, body.id, body.folded]).toEqual([200, made.id, true]);
    await until(() => told.includes(true));
    unwrap(await joe.socket.emitWithAck("room.join", { roomId: made.id }));
    expect(
      (await joe.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === made.id),
    ).not.toHaveProperty("folded");
    unwrap(await joe.socket.emitWithAck("room.leave", { roomId: made.id }));
    for (const folded of ["true", "", null, 1, undefined]) expect((await put(folded)).status).toBe(400);
    for (const id of ["4711", "998:999"]) expect((await put(true, id)).status).toBe(404);
    expect((await put(true, "x")).status).toBe(400);
    expect((await put(true, made.id, joe)).status).toBe(404);
    expect((await put(false)).body).not.toHaveProperty("folded");
    expect((await put(true)).body.folded).toBe(true);
    unwrap(await mary.socket.emitWithAck("room.leave", { roomId: made.id }));
    unwrap(await mary.socket.emitWithAck("room.join", { roomId: made.id }));
    expect(await own()).toBeUndefined();
  });
});

describe("accounts", () => {
  it("can be created, read, logged in and logged out", async () => {
    const browser = new Browser(left);
    expect((await browser.get("/api/me")).status).toBe(401);
    const made = await browser.post<User>("/api/users", { username: "Ann", password: "correct horse" });
    expect([made.status, made.body]).toEqual([201, { id: made.body.id, username: "Ann" }]);
    expect((await browser.get("/api/me")).body).toEqual(made.body);
    const { cookie } = browser;
    const out = await browser.post("/api/logout");
    expect([out.status, out.body]).toEqual([204, ""]);
    // The browser drops the cookie, by the attributes that it came with, and its cached pages.
    const [taken = ""] = out.headers.getSetCookie();
    expect(taken).toMatch(
      /^hubbub=; Path=\/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax$/,
    );
    expect(out.headers.get("clear-site-data")).toBe('"cache"');
    browser.cookie = cookie;
    expect((await browser.get("/api/me")).status).toBe(401);
    expect((await browser.post("/api/logout")).status).toBe(401);
    const back = await browser.post<User>("/api/login", { username: "ann", password: "correct horse" });
    expect([back.status, back.body]).toEqual([200, made.body]);
    expect(browser.cookie).not.toBe(cookie);
  });

  it("get a new session id at log-in, so a planted one is worthless", async () => {
    const planted = new Browser(left);
    await planted.post("/api/users", { username: "attacker", password: "correct horse" });
    const victim = new Browser(left);
    victim.cookie = planted.cookie;
    await victim.post("/api/users", { username: "victim", password: "correct horse" });
    expect(victim.cookie).not.toBe(planted.cookie);
    expect((await planted.get("/api/me")).status).toBe(401);
    expect((await victim.get<User>("/api/me")).body.username).toBe("victim");
  });

  it("leave no session behind for visitors who never log in", async () => {
    const sessions = () => house.redis.keys(`${house.keys.sessionPrefix}*`);
    const before = await sessions();
    for (const path of ["/api/me", "/api/rooms", "/", "/healthz"]) {
      const { headers } = await anonymous().get(path);
      expect(headers["set-cookie"], path).toBeUndefined();
    }
    await anonymous().post("/api/login").send({ username: "mary", password: "wrong password" });
    expect((await sessions()).length).toBe(before.length);
  });

  it("are protected by a cookie that scripts and other sites cannot use", async () => {
    const { headers } = await anonymous()
      .post("/api/users")
      .send({ username: "cookie", password: "correct horse" })
      .expect(201);
    const [cookie] = headers["set-cookie"] as unknown as string[];
    expect(cookie).toMatch(/^hubbub=s%3A/);
    expect(cookie).toMatch(/; Path=\/;/);
    expect(cookie).toMatch(/; HttpOnly/);
    expect(cookie).toMatch(/; SameSite=Lax/);
    expect(cookie).not.toMatch(/Domain=|Secure/);
  });

  it("are protected by the __Host- prefix and Secure if the site has HTTPS", async () => {
    const replica = await house.addReplica({ COOKIE_SECURE: "on", TRUST_PROXY: "1" });
    const { headers } = await anonymous(replica)
      .post("/api/users")
      .set("x-forwarded-proto", "https")
      .send({ username: "secured", password: "correct horse" })
      .expect(201);
    const [cookie] = headers["set-cookie"] as unknown as string[];
    expect(cookie).toMatch(/^__Host-hubbub=/);
    expect(cookie).toMatch(/; Secure/);
    expect(headers["strict-transport-security"]).toMatch(/max-age=\d+/);
  });
});

it("files of the app are sent compressed and, if their names contain a hash, cached for good; answers of the API are not", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hubbub-test-"));
  mkdirSync(join(folder, "assets"));
  const script = "const hubbub = 1;\n".repeat(1_000);
  writeFileSync(join(folder, "assets/app-1.js"), script);
  writeFileSync(join(folder, "assets/app-1.js.gz"), gzipSync(script));
  writeFileSync(join(folder, "assets/app-1.js.br"), brotliCompressSync(script));
  writeFileSync(join(folder, "index.html"), "<!doctype html>");
  try {
    const replica = await house.addReplica({ CLIENT_DIR: folder });
    const get = async (path: string, encoding = "gzip") => {
      const headers = { "accept-encoding": encoding, cookie: mary.browser.cookie };
      const response = await fetch(`${replica.address}${path}`, { headers });
      return { headers: response.headers, body: await response.text() };
    };
    const file = await get("/assets/app-1.js");
    expect(file.body).toBe(script);
    expect(file.headers.get("content-encoding")).toBe("gzip");
    expect(file.headers.get("content-type")).toMatch(/^text\/javascript/);
    expect(file.headers.get("vary")).toMatch(/accept-encoding/i);
    expect((await get("/assets/app-1.js", "gzip, br")).headers.get("content-encoding")).toBe("br");
    const plain = await get("/assets/app-1.js", "identity");
    expect(plain).toMatchObject({ body: script });
    expect(plain.headers.get("content-encoding")).toBeNull();
    for (const path of ["/%", "/assets/%c0%ae", "/assets/%ff.js"]) {
      const odd = await get(path);
      expect(JSON.parse(odd.body)).toMatchObject({ code: "invalid" });
    }
    expect(file.headers.get("cache-control")).toMatch(/immutable/);
    expect((await get("/")).headers.get("cache-control")).toBe("no-cache");
    await mary.say("0", "long ".repeat(500));
    expect((await get("/api/rooms/0/messages")).headers.get("content-encoding")).toBeNull();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

it("a refusal has the headers of every refusal, whatever the answer would have had", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hubbub-test-"));
  mkdirSync(join(folder, "assets"));
  for (const name of ["index.html", "assets/app-1.js"]) {
    writeFileSync(join(folder, name), "something ".repeat(100));
    writeFileSync(join(folder, `${name}.br`), brotliCompressSync("something ".repeat(100)));
  }
  try {
    const { address } = await house.addReplica({ CLIENT_DIR: folder });
    const ask = (path: string, method: string, headers: Record<string, string> = {}) =>
      fetch(`${address}${path}`, { method, headers: { "accept-encoding": "br", ...headers } });
    const usual = await ask("/nowhere", "GET");
    const names = [...usual.headers.keys()];
    expect(names).toContain("content-security-policy");
    for (const path of ["/", "/assets/app-1.js"]) {
      const whole = await ask(path, "GET");
      expect(whole.headers.get("content-encoding")).toBe("br");
      const size = whole.headers.get("content-length");
      for (const [method, headers, status, code, range] of [
        ["POST", {}, 404, "not_found", null],
        ["PUT", {}, 404, "not_found", null],
        ["OPTIONS", {}, 404, "not_found", null],
        ["GET", { "if-match": '"another"' }, 412, "invalid", null],
        ["GET", { range: "bytes=99999999-" }, 416, "invalid", `bytes */${size}`],
      ] as const) {
        const refused = await ask(path, method, headers);
        const what = `${method} ${path} ${JSON.stringify(headers)}`;
        expect([refused.status, refused.headers.get("content-range")], what).toEqual([status, range]);
        const told = [...refused.headers.keys()].filter((name) => name !== "content-range");
        expect(told, what).toEqual(names);
        expect((await refused.json()) as Failure, what).toMatchObject({ code });
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

it("a session is prolonged by requests, but not by every one", async () => {
  const { headers } = await anonymous()
    .post("/api/users")
    .send({ username: "idler", password: "correct horse" });
  const [cookie = ""] = headers["set-cookie"] as unknown as string[];
  const sid = /^hubbub=s%3A([^.]+)\./.exec(cookie)?.[1] ?? "";
  // A replica that does not know this session yet.
  const { address } = await house.addReplica();
  const ttlAfterRequest = async () => {
    await house.redis.expire(`${house.keys.sessionPrefix}${sid}`, 1_000);
    const { status } = await fetch(`${address}/api/me`, { headers: { cookie: cookie.split(";")[0] ?? "" } });
    expect(status).toBe(200);
    return house.redis.ttl(`${house.keys.sessionPrefix}${sid}`);
  };
  expect(await ttlAfterRequest()).toBeGreaterThan(600_000);
  expect(await ttlAfterRequest()).toBeLessThanOrEqual(1_000);
});

it(
  "a session is prolonged by events too, once its connections are looked at",
  { timeout: 60_000 },
  async () => {
    const own = await replicas(1, { SESSION_TTL: "60" });
    const { redis, keys } = own;
    const [replica] = own.replicas as [Replica];
    try {
      const talker = await person(replica);
      const idler = new Browser(replica);
      await idler.post("/api/users", { username: "listener", password: "correct horse" });
      const idle = idler.socket().connect();
      await until(() => idle.connected);
      const keyOf = ({ cookie }: Browser) =>
        `${keys.sessionPrefix}${/^hubbub=s%3A([^.]+)\./.exec(cookie)?.[1]}`;
      for (const who of [idler, talker.browser]) await redis.expire(keyOf(who), 50);
      await talker.say("0", "still here");
      await until(async () => (await redis.ttl(keyOf(talker.browser))) > 50, 40_000, "the next look");
      expect(await redis.ttl(keyOf(idler))).toBeLessThanOrEqual(50);
      expect(await redis.exists(keyOf(idler))).toBe(1);
      idle.close();
      talker.close();
    } finally {
      await own.close();
    }
  },
);

describe("users", () => {
  it("are answered by ids, in that order, with presence, without unknown ones", async () => {
    const ids = [joe.user.id, "4242424242", mary.user.id].join(",");
    await until(async () => (await house.redis.scard(house.keys.online)) >= 3);
    const { status, body } = await mary.browser.get<Presence[]>(`/api/users?ids=${ids}`);
    expect(status).toBe(200);
    expect(body).toEqual([
      { id: joe.user.id, username: "joe", online: true },
      { id: mary.user.id, username: "Mary", online: true },
    ]);
  });

  it("who are online are listed, whatever else is in the set", async () => {
    await house.redis.sadd(house.keys.online, "777", "nonsense", "__proto__");
    const { status, body } = await mary.browser.get<Presence[]>("/api/users/online");
    expect(status).toBe(200);
    expect(body).toContainEqual({ id: joe.user.id, username: "joe", online: true });
    expect(body.every(({ username }) => ["Mary", "joe", "sue"].includes(username))).toBe(true);
    await house.redis.srem(house.keys.online, "777", "nonsense", "__proto__");
  });

  it.each([
    "ids=",
    "ids=1,,2",
    "ids=1:rooms",
    "ids=0",
    "ids=01",
    "ids=-1",
    "ids[]=1",
    "ids=1&ids=2",
    "ids=__proto__",
  ])("are not answered for %s", async (query) => {
    const { status, body } = await as(mary, "GET", `/api/users?${query}`);
    // A parameter other than `ids` asks for the whole list.
    if (query.startsWith("ids[]")) expect(status).toBe(200);
    else expect([status, body.code]).toEqual([400, "invalid"]);
  });

  it("are answered for 100 ids but not for 101", async () => {
    const ids = (count: number) => Array.from({ length: count }, (_, index) => index + 1).join(",");
    expect((await as(mary, "GET", `/api/users?ids=${ids(LIMITS.userIds)}`)).status).toBe(200);
    expect((await as(mary, "GET", `/api/users?ids=${ids(LIMITS.userIds + 1)}`)).status).toBe(400);
  });
});

describe("rooms", () => {
  it("of a new user contain only General", async () => {
    const { body } = await sue.browser.get<Room[]>("/api/rooms");
    expect(body).toMatchObject([{ id: "0", names: ["General"], private: false }]);
  });

  it("are listed with General first, then by their newest message", async () => {
    const make = async (name: string) => (await mary.browser.post<Room>("/api/rooms", { name })).body.id;
    const [one, two, three] = [await make("One"), await make("Two"), await make("Three")];
    await mary.say(two, "older");
    await mary.say(one, "newer");
    const { body } = await mary.browser.get<Room[]>("/api/rooms");
    const asked = ["0", one, two, three];
    expect(body.map(({ id }) => id).filter((id) => asked.includes(id))).toEqual(asked);
  });

  it("between two people are the same, whoever asks", async () => {
    const hers = await mary.browser.post<Room>("/api/rooms/private", { userId: joe.user.id });
    expect(hers.status).toBe(201);
    const id = `${mary.user.id}:${joe.user.id}`;
    expect(hers.body).toMatchObject({ id, names: ["Mary", "joe"], private: true, last: null });
    expect((await mary.browser.post("/api/rooms/private", { userId: joe.user.id })).status).toBe(200);
    const his = await joe.browser.post<Room>("/api/rooms/private", { userId: mary.user.id });
    expect([his.status, his.body.id]).toEqual([201, id]);
  });

  it("with oneself, an unknown user or an invalid id are refused", async () => {
    const status = async (userId: unknown) =>
      (await mary.browser.post("/api/rooms/private", { userId })).status;
    expect(await status(mary.user.id)).toBe(400);
    expect(await status("4242424242")).toBe(404);
    for (const userId of ["1:rooms", "", 1, null, ["1"], { id: "1" }, "0"])
      expect(await status(userId)).toBe(400);
  });

  it.each([
    ["", 400],
    ["   ", 400],
    ["in\u200bvisible", 400],
    ["\u202eesrever", 400],
    ["\u3164", 400],
    ["\u2800\u034f", 400],
    ["Generаl", 409],
    ["Ｇｅｎｅｒａｌ", 409],
    ["GENERA1", 409],
    ["new\nline", 400],
    ["x".repeat(65), 413],
    ["x".repeat(10_000), 413],
    [5, 400],
    [null, 400],
    ["x".repeat(64), 201],
    ["Café & <tea> ☕", 201],
  ])("named %j answer %i", async (name, expected) => {
    const { status, body } = await as(mary, "POST", "/api/rooms", { name });
    expect(status).toBe(expected);
    if (expected === 201) expect(body).toMatchObject({ names: [name] });
  });

  it("are listed even if another program put rubbish into a user's list", async () => {
    const key = house.keys.userRooms(sue.user.id);
    await house.redis.sadd(key, "0:name", "__proto__", "424242", "9:8");
    const { status, body } = await sue.browser.get<Room[]>("/api/rooms");
    await house.redis.srem(key, "0:name", "__proto__", "424242", "9:8");
    expect(status).toBe(200);
    expect(body.find(({ id }) => id === "0")).toBeDefined();
    expect(body.map(({ id }) => id)).not.toContain("0:name");
  });
});

describe("messages", () => {
  it("of other people's rooms and of unknown rooms are refused in the same words", async () => {
    await mary.say(`${mary.user.id}:${joe.user.id}`, "secret");
    const { body: made } = await mary.browser.post<Room>("/api/rooms", { name: "Closed to Sue" });
    await mary.say(made.id, "secret too");
    const unknown = await as(sue, "GET", "/api/rooms/424242/messages");
    expect([unknown.status, unknown.body.code]).toEqual([404, "not_found"]);
    for (const id of [`${mary.user.id}:${joe.user.id}`, made.id]) {
      const foreign = await as(sue, "GET", `/api/rooms/${id}/messages`);
      expect([foreign.status, foreign.body]).toEqual([unknown.status, unknown.body]);
      // The control: a member can read it.
      const own = await mary.browser.get<Page>(`/api/rooms/${id}/messages`);
      expect(own.body.messages.at(-1)?.message).toMatch(/^secret/);
    }
  });

  it.each([
    "1:name",
    "0:name",
    "2:1",
    "0:5",
    "1:1",
    "__proto__",
    "..%2F1",
    "%2e%2e%2f1",
    "0%00",
    "%E0%A4%A",
    "*",
    "{0}",
    "01",
    "0%0A",
    "7".repeat(10_000),
  ])("of the room id %s are refused without internal details", async (id) => {
    const { status, text } = await raw(left, `/api/rooms/${id}/messages`, { cookie: mary.browser.cookie });
    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({ code: "invalid" });
    expect(text).not.toMatch(/node_modules|\.[jt]s:|WRONGTYPE|URIError/);
  });

  it.each([
    "size=0",
    "size=101",
    "size=-1",
    "size=1e9",
    "size=ten",
    "size=5&size=6",
    "before=soon",
    "before=-1",
    "before=1.5",
    "before=+inf",
    "after=(1",
    "after=",
    "before=12345678901234567",
    "around=0",
    "around=-1",
    "around=1.5",
    "around=last",
    "around=1234567890123456",
    "around=1&around=2",
    "around=1&at=1",
    "around=1&before=1",
    "at=now",
    "at=1&after=1",
    "thread=0",
    "thread=1&pinned=true",
    "pinned=yes",
    "pinned=true&before=1",
    "pinned=true&cursor=x",
    "pinned=true&cursor=-1",
    "cursor=1",
    "thread=1&cursor=1",
  ])("asked for with %s are refused", async (query) => {
    const { status, body } = await as(mary, "GET", `/api/rooms/0/messages?${query}`);
    expect([status, body.code]).toEqual([400, "invalid"]);
  });
});

describe("a page of messages, which bypasses Express,", () => {
  /** Sends it to the direct route and to Express; answers the status once both answers are equal. */
  async function same(replica: Replica, path: string, headers: Record<string, string>, method = "GET") {
    const [plain, byExpress] = [path, path.replace("/messages", "/messages/")].map((one) =>
      raw(replica, one, headers, { method }),
    );
    const [fast, slow] = (await Promise.all([plain, byExpress])) as [Answer, Answer];
    for (const { headers: told } of [fast, slow]) told.splice(told.indexOf("Date"), 2);
    // The time to wait differs by the milliseconds between both requests.
    const comparable = (answer: Answer) =>
      answer.status === 429 ? JSON.stringify(answer).replaceAll(/\d+/g, "0") : answer;
    expect(comparable(fast)).toEqual(comparable(slow));
    return fast.status;
  }

  it("has the status, headers and body of Express' answer", async () => {
    const pair = `${mary.user.id}:${sue.user.id}`;
    await mary.browser.post("/api/rooms/private", { userId: sue.user.id });
    for (const text of ["one", "two", "three <&> \u{1f600}"]) await mary.say(pair, text);
    const { body } = await mary.browser.get<Page>(`/api/rooms/${pair}/messages`);
    const date = body.messages[1]?.date;
    const { cookie } = mary.browser;
    const room = `/api/rooms/${pair.replace(":", "%3A")}/messages`;
    for (const [path, status] of [
      [`/api/rooms/${pair}/messages`, 200],
      [room, 200],
      [`${room}?`, 200],
      [`${room}?size=1`, 200],
      [`${room}?size=2&before=${date}`, 200],
      [`${room}?%73ize=2&after=${date}&more=x`, 200],
      ["/api/rooms/0/messages?size=100", 200],
      [`${room}?around=2&size=2`, 200],
      [`${room}?around=4`, 404],
      [`${room}?at=${date}`, 200],
      [`${room}?thread=1`, 200],
      [`${room}?thread=4`, 404],
      [`${room}?pinned=true`, 200],
      [`${room}?pinned=true&at=1`, 400],
      [`${room}?size=0`, 400],
      [`${room}?size=1&size=2`, 400],
      [`${room}?before=%E0%A4%A`, 400],
      [`${room}?after=soon`, 400],
      ["/api/rooms/01/messages", 400],
      ["/api/rooms/2:1/messages", 400],
      ["/api/rooms/424242/messages", 404],
      [`/api/rooms/${sue.user.id}:999999/messages`, 404],
      [`/api/rooms/${mary.user.id}:${joe.user.id}/messages/no`, 404],
    ] as const)
      expect(await same(left, path, { cookie }), path).toBe(status);
    expect(await same(left, room, { cookie }, "HEAD")).toBe(200);
    expect(await same(left, room, { cookie }, "POST")).toBe(404);
    expect(await same(left, room, { cookie: joe.browser.cookie })).toBe(404);
    expect(await same(left, room, {})).toBe(401);
    const secured = await house.addReplica({ COOKIE_SECURE: "on" });
    const { cookie: name } = mary.browser;
    expect(await same(secured, room, { cookie: name.replace(/^hubbub/, "__Host-hubbub") })).toBe(200);
  });

  it("is refused as by Express after too many requests, and while Redis is away", async () => {
    const own = await ownRedis({ persistent: false });
    const apart = await frugal({ REDIS_URL: own.url });
    apart.redis.on("error", () => undefined);
    try {
      const [replica] = apart.replicas as [Replica];
      const { cookie } = (await person(replica)).browser;
      const patient = (await person(replica)).browser;
      const agent = new Agent({ keepAlive: true, maxSockets: 4 });
      const room = "/api/rooms/0/messages?size=1";
      await Promise.all(Array.from({ length: 100 }, () => raw(replica, room, { cookie }, { agent })));
      agent.destroy();
      expect(await same(replica, room, { cookie })).toBe(429);
      await own.kill();
      await until(async () => (await anonymous(replica).get("/readyz")).status === 503);
      expect(await same(replica, room, { cookie: patient.cookie })).toBe(503);
      await own.start();
      await until(async () => (await anonymous(replica).get("/readyz")).status === 200, PATIENCE_MS);
    } finally {
      await apart.close().catch(() => undefined);
      await own.close();
    }
  });
});

/** A replica that allows a user 100 requests a minute: 1,000 would take a busy machine longer than the window. */
async function frugal(env: Record<string, string> = {}): Promise<House> {
  const rate: { points: number; seconds: number } = RATES.rest;
  const before = { ...rate };
  Object.assign(rate, { points: 100, seconds: 60 });
  try {
    return await replicas(1, { RATE_LIMITS: "on", ...env });
  } finally {
    Object.assign(rate, before);
  }
}

describe("a client over its limit", () => {
  const SPELLINGS = [
    "/api/me",
    "/API/me",
    "/Api/Me/",
    "/api/me?x=1",
    "http://elsewhere/api/me",
    "HTTP://elsewhere/API/ME",
    "/API/rooms/0/messages?size=1",
    "http://elsewhere/api/rooms/0/messages?size=1",
    "http://elsewhere/api\\me",
    "/api\\me#",
    "/api/nothing",
    "/api",
  ];

  it("is refused without a Redis command, however the path is spelt, and counted", async () => {
    const apart = await frugal();
    try {
      const [replica] = apart.replicas as [Replica];
      const { cookie } = (await person(replica)).browser;
      const other = (await person(replica)).browser;
      const before = await figuresOf(replica);
      for (const path of Array.from({ length: 10 }, () => SPELLINGS)
        .flat()
        .slice(0, 100))
        expect((await raw(replica, path, { cookie })).status, path).not.toBe(429);
      const refused = async () => {
        for (const path of SPELLINGS) {
          expect((await raw(replica, path, { cookie })).status, path).toBe(429);
          expect((await raw(replica, path, { cookie: `a=b; ${cookie}; c=d` })).status, path).toBe(429);
        }
      };
      await refused();
      const sid = decodeURIComponent(cookie).slice("hubbub=s:".length).split(".")[0] ?? "no session";
      const commands = await commandsDuring(refused);
      expect(commands.filter((words) => words.some((word) => word.includes(sid)))).toEqual([]);
      const after = await figuresOf(replica);
      const risen = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
      expect(risen(`hubbub_http_requests_total{route="none",status="429"}`)).toBeGreaterThanOrEqual(
        4 * SPELLINGS.length - 1,
      );
      expect((await other.get("/api/me")).status).toBe(200);
      expect((await raw(replica, "/api/logout", { cookie }, { method: "POST" })).status).toBe(204);
    } finally {
      await apart.close();
    }
  });
});

it("a user can create a limited number of rooms a day over all replicas, and a refused name does not count", async () => {
  const rate: { points: number } = RATES.room;
  const { points } = rate;
  rate.points = 5;
  const apart = await replicas(2, { RATE_LIMITS: "on" }).finally(() => (rate.points = points));
  try {
    const [one, other] = both(apart);
    const { browser } = await person(one);
    const elsewhere = new Browser(other);
    elsewhere.cookie = browser.cookie;
    const make = (from: Browser, name: string) => from.post<Failure>("/api/rooms", { name });
    for (let count = 0; count < 10; count += 1) expect((await make(browser, "")).status).toBe(400);
    for (let count = 0; count < 5; count += 1)
      expect((await make(count % 2 === 0 ? browser : elsewhere, `room ${count}`)).status).toBe(201);
    for (const from of [browser, elsewhere]) {
      const { status, body, headers } = await make(from, "one too many");
      expect([status, body.code]).toEqual([429, "rate_limited"]);
      const seconds = Number(headers.get("retry-after"));
      expect(seconds).toBeGreaterThan(86_000);
      expect(seconds).toBeLessThanOrEqual(86_400);
    }
    expect((await make((await person(other)).browser, "another one's")).status).toBe(201);
    expect((await browser.get("/api/rooms")).status).toBe(200);
  } finally {
    await apart.close();
  }
});

it("a user's choices for their rooms are counted with their events, by each replica", async () => {
  const rate: { points: number } = RATES.event;
  const { points } = rate;
  rate.points = 10;
  const apart = await replicas(1, { RATE_LIMITS: "on" }).finally(() => (rate.points = points));
  try {
    const [replica] = apart.replicas as [Replica];
    const [ann, bob] = [await person(replica), await person(replica)];
    const choose = async ({ browser }: Person, what: string, choice: object) =>
      (await browser.fetch("PUT", `/api/rooms/0/${what}`, choice)).status;
    for (const who of [ann, bob])
      for (let count = 0; count < 10; count += 1)
        expect([200, 429]).toContain(await choose(who, "view", { favourite: count % 2 === 0 }));
    expect(await choose(ann, "view", { folded: true })).toBe(429);
    expect(await choose(bob, "notifications", { level: "all" })).toBe(429);
    expect((await ann.browser.get("/api/rooms")).status).toBe(200);
  } finally {
    await apart.close();
  }
});

describe("readers and writers", () => {
  const statuses = async (replica: Replica, cookie: string) => {
    const [page, me, write] = await Promise.all([
      raw(replica, "/api/rooms/0/messages", { cookie }),
      raw(replica, "/api/me", { cookie }),
      // Refused, but only once the sender is identified.
      raw(replica, "/api/rooms/private", { cookie }, { method: "POST" }),
    ]);
    return [page.status, me.status, write.status];
  };
  const signedIn = [200, 200, 400];
  const unknown = [401, 401, 401];

  it("are identified by the same cookies", async () => {
    const { cookie } = mary.browser;
    const value = cookie.slice("hubbub=".length);
    const [sid = "", signature = ""] = decodeURIComponent(value).slice(2).split(".");
    for (const known of [
      cookie,
      `other=1; ${cookie}`,
      `hubbub2=x; a;${cookie} ; b=c`,
      `hubbub=${decodeURIComponent(value)}`,
      `hubbub="${value}"`,
      `${cookie}; hubbub=planted`,
      `hubbub=planted; ${cookie}`,
    ])
      expect(await statuses(left, known), known).toEqual(signedIn);
    for (const nobody of [
      "",
      "hubbub",
      "hubbub=",
      `Hubbub=${value}`,
      `xhubbub=${value}`,
      `hubbub=${sid}`,
      `hubbub=s:${sid}`,
      `hubbub=s:${sid}.`,
      `hubbub=s:.${signature}`,
      `hubbub=s:${sid}.${signature}=`,
      `hubbub=s:${sid}.${signature.slice(1)}`,
      `hubbub=s:${sid}.${signature.toUpperCase()}`,
      `hubbub=s:${sid.toUpperCase()}.${signature}`,
      `hubbub=s:${sid}%00.${signature}`,
      `hubbub=%E0%A4%A`,
      `__Host-hubbub=${value}`,
    ])
      expect(await statuses(left, nobody), nobody).toEqual(unknown);
  });

  it("are identified by cookies of an older secret too, but not by those of an unknown one", async () => {
    const before = await house.addReplica({ SESSION_SECRET: "old".repeat(12) });
    const ann = await person(before, "ann-of-old");
    const { cookie } = ann.browser;
    const after = await house.addReplica({ SESSION_SECRET: `${"new".repeat(12)},${"old".repeat(12)}` });
    expect(await statuses(after, cookie)).toEqual(signedIn);
    expect(await statuses(left, cookie)).toEqual(unknown);
  });

  it("are refused at once on every replica after their session ended or was deleted", async () => {
    for (const end of [
      (browser: Browser) => browser.post("/api/logout"),
      ({ cookie }: Browser) => house.redis.del(house.keys.session(decodeURIComponent(cookie).slice(9, 41))),
    ]) {
      const { browser } = await person(left);
      const { cookie } = browser;
      for (const replica of [left, right]) expect(await statuses(replica, cookie)).toEqual(signedIn);
      await end(browser);
      for (const replica of [left, right]) expect(await statuses(replica, cookie)).toEqual(unknown);
    }
  });

  it("are let in while Redis is read-only, though their session cannot be prolonged", async () => {
    const own = await ownRedis({ persistent: false });
    const apart = await replicas(1, { REDIS_URL: own.url });
    try {
      const [replica] = apart.replicas as [Replica];
      const browser = new Browser(replica);
      await browser.post("/api/users", { username: "reader", password: "correct horse" });
      await apart.redis.config("SET", "min-replicas-to-write", "1");
      expect(await statuses(replica, browser.cookie)).toEqual(signedIn);
      await apart.redis.config("SET", "min-replicas-to-write", "0");
    } finally {
      await apart.close();
      await own.close();
    }
  });
});

describe("a request that cannot be understood", () => {
  const paths = ["/api/users", "/api/login", "/api/rooms", "/api/rooms/private"];

  it.each(paths)("to POST %s is answered 400 with broken JSON or JSON of another shape", async (path) => {
    for (const body of [
      "{",
      "not json",
      '{"username":',
      "[]",
      "null",
      "5",
      '"text"',
      "{}",
      '{"__proto__":{"a":1}}',
    ]) {
      const { status, body: answer } = await as(mary, "POST", path, body);
      expect([status, answer.code], body).toEqual([400, "invalid"]);
      expect(JSON.stringify(answer)).not.toMatch(/node_modules|SyntaxError| at /);
    }
    const form = await mary.browser.fetch<Failure>("POST", path, "username=a&password=b", {
      "content-type": "application/x-www-form-urlencoded",
    });
    expect([form.status, form.body.code]).toEqual([400, "invalid"]);
  });

  it.each([
    [{ username: 5, password: "correct horse" }],
    [{ username: "typed", password: 12_345_678 }],
    [{ username: ["typed"], password: ["correct horse"] }],
    [{ username: { toString: "x" }, password: {} }],
    [{ username: "typed" }],
    [{ password: "correct horse" }],
    [{ username: null, password: null }],
  ])("to log in or sign up is answered 400 with %j", async (body) => {
    for (const path of ["/api/users", "/api/login"])
      expect((await as(mary, "POST", path, body)).status, path).toBe(400);
  });

  it("is answered 413 if its body has 1 MB, whatever Content-Encoding it claims", async () => {
    const body = JSON.stringify({ username: "big", password: "x".repeat(1_000_000) });
    const { status, body: answer } = await as(mary, "POST", "/api/users", body);
    expect([status, answer.code]).toEqual([413, "too_large"]);
    const deep = await as(mary, "POST", "/api/users", "[".repeat(30_000));
    expect(deep.status).toBe(400);
  });

  it("is answered 400 if its body may be left out and is no JSON: a ban would be for ever, and an invite for all", async () => {
    const { body: room } = await mary.browser.post<Room>("/api/rooms", { name: "Bodies" });
    for (const [method, path, done] of [
      ["PUT", `/api/rooms/${room.id}/bans/${joe.user.id}`, 204],
      ["POST", `/api/rooms/${room.id}/invites`, 201],
    ] as const) {
      for (const type of ["text/plain", "application/x-www-form-urlencoded", ""]) {
        const { status, body } = await mary.browser.fetch<Failure>(
          method,
          path,
          `{"until":${Date.now() + 60_000},"uses":1}`,
          { "content-type": type },
        );
        expect([status, body.code], `${path} ${type}`).toEqual([400, "invalid"]);
      }
      expect((await mary.browser.fetch(method, path)).status, path).toBe(done);
    }
  });

  it("is told to send JSON if its body is none, and needs no body to send no field", async () => {
    const { body: room } = await mary.browser.post<Room>("/api/rooms", { name: "No fields" });
    const member = `/api/rooms/${room.id}/members/${joe.user.id}`;
    const text = { "content-type": "text/plain" };
    for (const [method, path] of [
      ["POST", "/api/login"],
      ["PUT", member],
    ] as const) {
      const { status, body } = await mary.browser.fetch<Failure>(method, path, "{}", text);
      expect([status, body.code, body.message]).toEqual([400, "invalid", expect.stringContaining("JSON")]);
    }
    const unread = await mary.browser.fetch("POST", "/api/nonsense", "{}", text);
    expect(unread.status).toBe(404);
    const { status, body } = await mary.browser.fetch("PUT", member);
    expect([status, body]).toEqual([200, expect.objectContaining({ id: joe.user.id, role: "member" })]);
    const { body: missing } = await mary.browser.fetch<Failure>("POST", "/api/login");
    expect(missing.message).toContain("username");
  });

  it("is answered 404 as JSON if its route or method is unknown", async () => {
    for (const [method, path] of [
      ["GET", "/api/nonsense"],
      ["GET", "/nonsense"],
      ["DELETE", "/api/rooms"],
      ["PUT", "/api/users"],
      ["GET", "/api/login"],
      ["POST", "/api/me"],
      ["GET", "/.git/config"],
      ["GET", "/api/rooms/0"],
      ["OPTIONS", "/api/me"],
      ["OPTIONS", "/api/rooms/0/messages"],
      ["OPTIONS", "/metrics"],
      ["OPTIONS", "/"],
    ] as const) {
      const { status, body, headers } = await as(mary, method, path);
      expect([status, body.code], path).toEqual([404, "not_found"]);
      expect(headers.get("content-type")).toMatch(/application\/json/);
    }
  });

  it("is answered 400 as JSON if its address has no path that can be read", async () => {
    for (const path of ["http://[/api/me", "http://[/", "http://[/api/rooms/0/messages"])
      for (const method of ["GET", "POST"]) {
        const { status, headers, text } = await raw(left, path, {}, { method });
        expect([status, JSON.parse(text)], path).toEqual([400, expect.objectContaining({ code: "invalid" })]);
        expect(headers, path).toContain("referrer-policy");
      }
  });

  it("is answered 401 without a session on every route that needs one", async () => {
    for (const path of [
      "/me",
      "/users?ids=1",
      "/users",
      "/users/online",
      "/rooms",
      "/rooms/directory",
      "/rooms/0/messages",
    ]) {
      const { body } = await anonymous().get(`/api${path}`).expect(401);
      expect(body).toEqual({ code: "unauthorized", message: "Log in first." });
    }
    for (const path of ["/rooms", "/rooms/private", "/logout"])
      await anonymous().post(`/api${path}`).send({ name: "x", userId: "1" }).expect(401);
  });
});

describe("another site", () => {
  it.each([
    [{ origin: "http://evil.example" }],
    [{ origin: "null" }],
    [{ origin: "http://127.0.0.1.evil.example" }],
    [{ origin: "" }],
    [{ "sec-fetch-site": "cross-site" }],
    [{ "sec-fetch-site": "same-site" }],
  ])("changes nothing with %j", async (headers) => {
    for (const [path, body] of [
      ["/api/rooms", { name: "Planted" }],
      ["/api/logout", {}],
      ["/api/login", { username: "joe", password: "correct horse" }],
      ["/api/users", { username: "planted", password: "correct horse" }],
    ] as const) {
      const { text } = await anonymous()
        .post(path)
        .set("cookie", mary.browser.cookie)
        .set(headers as Record<string, string>)
        .send(body)
        .expect(403);
      expect(JSON.parse(text)).toMatchObject({ code: "forbidden" });
    }
    expect((await mary.browser.get("/api/me")).status).toBe(200);
    expect(await house.redis.exists(house.keys.roomByName("Planted"))).toBe(0);
  });

  it("is distinguished from the page that PUBLIC_URL names, whatever it claims", async () => {
    const named = await house.addReplica({ PUBLIC_URL: "https://chat.example:8443" });
    const rebound = await anonymous()
      .post("/api/users")
      .set({ host: "evil.example", origin: "http://evil.example" })
      .send({ username: "rebound", password: "correct horse" });
    expect(rebound.status).toBe(403);
    expect(JSON.parse(rebound.text)).toMatchObject({ code: "forbidden" });
    expect(rebound.text).toContain("PUBLIC_URL");
    expect(await house.redis.exists(house.keys.username("rebound"))).toBe(0);
    const made = await anonymous(named)
      .post("/api/rooms")
      .set({ cookie: mary.browser.cookie, host: "chat.example:8443", origin: "https://chat.example:8443" })
      .send({ name: "Own page" });
    expect(made.status).toBe(201);
    const program = await anonymous()
      .post("/api/rooms")
      .set({ cookie: mary.browser.cookie })
      .send({ name: "A program" });
    expect(program.status).toBe(201);
  });
});

describe("every answer", () => {
  it.each(["/api/me", "/api/nonsense", "/nonsense", "/healthz"])(
    "to %s carries the security headers",
    async (path) => {
      const { headers } = await mary.browser.get(path);
      const policy = headers.get("content-security-policy");
      for (const directive of [
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
      ])
        expect(policy).toContain(directive);
      expect(policy).not.toMatch(/unsafe|\*/);
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("x-powered-by")).toBeNull();
      expect(headers.get("access-control-allow-origin")).toBeNull();
    },
  );

  it("of the API forbids caching", async () => {
    for (const path of [
      "/api/me",
      "/api/rooms",
      "/api/rooms/0/messages",
      "/api/rooms/1:name/messages",
      "/api/nonsense",
    ])
      expect((await mary.browser.get(path)).headers.get("cache-control"), path).toBe("no-store");
  });
});

describe("/metrics", () => {
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

  it("answers only requests with the token", async () => {
    const { text, headers } = await anonymous().get("/metrics").set(bearer(METRICS_TOKEN)).expect(200);
    expect(headers["content-type"]).toMatch(/^text\/plain; version=0.0.4/);
    for (const name of ["hubbub_connections", "hubbub_messages_stored_total", "hubbub_append_seconds_bucket"])
      expect(text).toMatch(new RegExp(`^${name}(\\{|\\s)`, "m"));
    await anonymous()
      .get("/metrics")
      .set({ authorization: `bEARER ${METRICS_TOKEN}` })
      .expect(200);
    for (const wrong of [
      {},
      bearer(""),
      bearer(METRICS_TOKEN.slice(0, -1)),
      bearer(`${METRICS_TOKEN}x`),
      { authorization: METRICS_TOKEN },
      { cookie: mary.browser.cookie, "x-forwarded-for": "127.0.0.1" },
    ]) {
      const refused = await anonymous()
        .get("/metrics")
        .set(wrong as Record<string, string>)
        .expect(401);
      expect(refused.headers["www-authenticate"]).toBe("Bearer");
      expect(refused.text).not.toContain("hubbub_");
    }
  });

  it("answers 404 if no token is configured, even from this machine", async () => {
    const replica = await house.addReplica({ METRICS_TOKEN: "" });
    await anonymous(replica).get("/metrics").expect(404);
    await anonymous(replica).get("/metrics").set(bearer("")).expect(404);
    await anonymous(replica).get("/metrics").set(bearer("undefined")).expect(404);
  });

  it("answers on METRICS_PORT, which serves nothing else, and then not on the main port", async () => {
    const replica = await house.addReplica({ METRICS_PORT: "0", METRICS_TOKEN: "" });
    const own = supertest(replica.metricsAddress ?? "");
    const { headers, text } = await own.get("/metrics").expect(200);
    expect(headers["content-type"]).toMatch(/^text\/plain; version=0.0.4/);
    expect(text).toContain("\nhubbub_connections 0\n");
    for (const path of ["/", "/readyz", "/api/me", "/metrics/", "/metrics/x", "/Metrics"])
      await own.get(path).expect(404);
    await own.post("/metrics").expect(404);
    await anonymous(replica).get("/metrics").expect(404);
  });

  it("needs the token on METRICS_PORT too, if one is configured", async () => {
    const replica = await house.addReplica({ METRICS_PORT: "0" });
    const own = supertest(replica.metricsAddress ?? "");
    await own.get("/metrics").expect(401);
    await own.get("/metrics").set(bearer(METRICS_TOKEN)).expect(200);
    await anonymous(replica).get("/metrics").set(bearer(METRICS_TOKEN)).expect(404);
  });

  it("stops the start if METRICS_PORT is taken, and leaves nothing behind", async () => {
    const replica = await house.addReplica({ METRICS_PORT: "0" });
    const { port } = new URL(replica.metricsAddress ?? "");
    await expect(house.addReplica({ METRICS_PORT: port })).rejects.toThrow(
      `METRICS_PORT ${port} on 127.0.0.1 is taken`,
    );
  });

  it("stops the start if METRICS_HOST is no address of this machine, and names it", async () => {
    await expect(house.addReplica({ METRICS_PORT: "0", METRICS_HOST: "192.0.2.1" })).rejects.toThrow(
      "METRICS_HOST=192.0.2.1 is no address of this machine",
    );
  });
});

it.each([
  "/metrics/",
  "/Metrics",
  "//metrics",
  "/%6detrics",
  "/%2e/metrics",
  "/./metrics",
  "/x/../metrics",
  "/metrics;x",
  "/metrics%00",
  "/readyz/",
  "/READYZ",
  "//readyz",
  "/%72eadyz",
  "/./readyz",
  "/readyz%2f",
])("%s, another spelling of a health route, is not found", async (path) => {
  const { status } = await raw(left, path, { authorization: `Bearer ${METRICS_TOKEN}` });
  expect(status).toBe(404);
});

describe("too many requests", () => {
  it(
    "do not include 300 long pages at once, which are read a few at a time",
    { timeout: 120_000 },
    async () => {
      const limited = await replicas(1, { RATE_LIMITS: "on" });
      try {
        const [replica] = limited.replicas as [Replica];
        const { cookie } = (await person(replica)).browser;
        const agent = new Agent({ keepAlive: true });
        const pages = Array.from({ length: 300 }, () =>
          raw(replica, "/api/rooms/0/messages?size=100", { cookie }, { agent }),
        );
        expect(new Set((await Promise.all(pages)).map(({ status }) => status))).toEqual(new Set([200]));
        agent.destroy();
      } finally {
        await limited.close();
      }
    },
  );

  it("are answered 429 with the time to wait, and do not delay others", { timeout: 120_000 }, async () => {
    const limited = await frugal();
    try {
      const [replica] = limited.replicas as [Replica];
      const greedy = await person(replica);
      const modest = await person(replica);
      const agent = new Agent({ keepAlive: true, maxSockets: 4 });
      const { cookie } = greedy.browser;
      const answers = await Promise.all(
        Array.from({ length: 150 }, () => raw(replica, "/api/me", { cookie }, { agent })),
      );
      agent.destroy();
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 429]));
      const { status, body, headers } = await greedy.browser.get<Failure>("/api/me");
      expect([status, body.code]).toEqual([429, "rate_limited"]);
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
      expect((await modest.browser.get("/api/me")).status).toBe(200);
      // Until the wait is over, nothing is looked up for them.
      const keys = await commandsDuring(async () => {
        for (const path of ["/api/me", "/api/rooms", "/api/rooms/0/messages"])
          expect((await greedy.browser.get(path)).status).toBe(429);
      });
      const sessions = limited.keys.session("");
      expect(keys.flat().filter((word) => word.startsWith(sessions))).toEqual([]);
      const flood = await Promise.all(
        Array.from({ length: 120 }, (_, index) =>
          greedy.socket.emitWithAck("message", { roomId: "0", message: "flood", nonce: `f${index}` }),
        ),
      );
      const refused = flood.filter((reply) => !reply.ok);
      expect(refused.length).toBeGreaterThanOrEqual(15);
      expect(refused[0]).toMatchObject({ ok: false, error: { code: "rate_limited" } });
      expect((await modest.say("0", "not held up")).seq).toBeGreaterThan(0);
      expect((await greedy.browser.post("/api/logout")).status).toBe(204);
    } finally {
      await limited.close();
    }
  });
});

describe("while Redis is away", () => {
  it("the replica answers 503 with the time to wait, and is ready again once Redis is back", async () => {
    const own = await ownRedis({ persistent: true });
    const apart = await replicas(1, { REDIS_URL: own.url });
    apart.redis.on("error", () => undefined);
    try {
      const [replica] = apart.replicas as [Replica];
      const ann = await person(replica);
      await anonymous(replica).get("/readyz").expect(200, { status: "ok" });
      await own.kill();
      await until(async () => (await anonymous(replica).get("/readyz")).status === 503);
      await anonymous(replica).get("/healthz").expect(200, { status: "ok" });
      for (const path of ["/api/me", "/api/rooms", "/api/rooms/0/messages"]) {
        const { status, body, headers } = await ann.browser.get<Failure>(path);
        expect([status, body.code], path).toEqual([503, "unavailable"]);
        expect(Number(headers.get("retry-after")), path).toBeGreaterThan(0);
        expect(JSON.stringify(body)).not.toMatch(/redis|ECONN|Stream/i);
      }
      const login = await new Browser(replica).post<Failure>("/api/login", {
        username: ann.user.username,
        password: "correct horse",
      });
      expect([login.status, login.body.code]).toEqual([503, "unavailable"]);
      await own.start();
      await until(async () => (await anonymous(replica).get("/readyz")).status === 200, PATIENCE_MS);
      expect((await ann.browser.get<User>("/api/me")).body).toMatchObject(ann.user);
    } finally {
      await apart.close().catch(() => undefined);
      await own.close();
    }
  });
});

describe("marks on letters", () => {
  it("are as many as any language has, so that no name covers the lines around it", async () => {
    for (const [count, statuses] of [
      [4, [200, 201]],
      [5, [400, 400]],
    ] as const) {
      const name = `q${"\u0323\u0300".repeat(3).slice(0, count)}${count}`;
      const shown = await as(joe, "PATCH", "/api/me", { displayName: name });
      const made = await as(joe, "POST", "/api/rooms", { name });
      expect([shown.status, made.status]).toEqual(statuses);
    }
    await as(joe, "PATCH", "/api/me", { displayName: null });
  });
});

describe("a limit of characters", () => {
  it.each([
    ["PATCH", "/api/me", "displayName", LIMITS.displayName, 200],
    ["POST", "/api/rooms", "name", LIMITS.roomName, 201],
    ["POST", "/api/rooms", "topic", LIMITS.topic, 201],
  ])("at %s %s, of %s, is of the text as it is stored", async (method, path, field, most, done) => {
    const ask = (text: string) =>
      as(joe, method, path, { ...(field === "topic" && { name: `About ${text.length}` }), [field]: text });
    // One stored character each, however it is sent; and one that is stored as three.
    const [composed, apart, longer] = ["\u00e9", "e\u0301", "\ufb2c"].map((letter) => letter.repeat(most));
    const sent = await ask(` ${apart} `);
    expect([sent.status, JSON.stringify(sent.body).includes(`"${composed}"`)]).toEqual([done, true]);
    const refused = await ask(longer ?? "");
    expect([refused.status, refused.body.code]).toEqual([413, "too_large"]);
    await as(joe, "PATCH", "/api/me", { displayName: null });
  });
});

describe("half a character", () => {
  it.each([
    ["POST", "/api/users", { username: "halved", password: "long enough \ud800" }],
    ["POST", "/api/me/password", { current: "correct horse", next: "long enough \udc00" }],
    ["PATCH", "/api/me", { displayName: "\ud83d" }],
    ["POST", "/api/rooms", { name: "In halves", topic: "\ud83d" }],
    ["POST", "/api/reports", { roomId: "0", seq: 1, reason: "\ud83d" }],
    ["PUT", "/api/rooms/0/view", { folded: true, "\ud83d": 1 }],
  ])("of %s %s is refused, and nothing is stored", async (method, path, body) => {
    const { status, body: told } = await as(joe, method, path, JSON.stringify(body));
    expect([status, told.code]).toEqual([400, "invalid"]);
  });

  it("is another matter than a whole one, and than an escaped character", async () => {
    const topic = String.raw`"\ud83d\ude00 😀"`;
    const { status, body } = await mary.browser.fetch<Room>(
      "POST",
      "/api/rooms",
      `{"name":"Whole","topic":${topic}}`,
    );
    expect([status, body.topic]).toEqual([201, "😀 😀"]);
  });
});

describe("JSON that is no UTF-8", () => {
  const post = (path: string, body: Buffer, charset = "utf-8") =>
    fetch(`${left.address}/api${path}`, {
      method: "POST",
      headers: {
        origin: left.address,
        // A log-in would end its own session.
        ...(path === "/rooms" && { cookie: mary.browser.cookie }),
        "content-type": `application/json; charset=${charset}`,
      },
      body: Uint8Array.from(body),
    });

  it.each([
    ["half a sequence", Buffer.from('{"name":"Half \xc3"}', "latin1")],
    ["Latin-1", Buffer.from('{"name":"Caf\xe9"}', "latin1")],
    ["an overlong slash", Buffer.from('{"name":"Over \xc0\xaf"}', "latin1")],
    ["half a pair", Buffer.from('{"name":"Pair \xed\xa0\x80"}', "latin1")],
  ])("is refused, and not read as another text: %s", async (_what, body) => {
    const answer = await post("/rooms", body);
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: "invalid" }]);
  });

  it.each(["utf-7", "utf-16", "utf-16le", "utf-32", "latin1"])(
    "is refused if it says that it is %s",
    async (charset) => {
      const body = Buffer.from(
        `{"name":"In ${charset}"}`,
        charset.startsWith("utf-16") ? "utf16le" : "latin1",
      );
      const answer = await post("/rooms", body, charset);
      expect([answer.status, await answer.json()]).toMatchObject([400, { code: "invalid" }]);
    },
  );

  it("makes no two passwords the same", async () => {
    const account = (byte: number) =>
      Buffer.concat([
        Buffer.from('{"username":"bytes","password":"long enough '),
        Buffer.from([byte]),
        Buffer.from('"}'),
      ]);
    expect((await post("/users", account(0xe9))).status).toBe(400);
    expect(
      (await post("/users", Buffer.from('{"username":"bytes","password":"long enough é"}'))).status,
    ).toBe(201);
    for (const byte of [0xe9, 0xff]) expect((await post("/login", account(byte))).status).toBe(400);
  });

  it("may begin with a byte order mark", async () => {
    expect((await post("/rooms", Buffer.from('\ufeff{"name":"Marked"}'))).status).toBe(201);
  });
});

describe("a favourite room", () => {
  it("is one on every replica and in all windows, for the user alone, until they leave", async () => {
    const { id } = await mary.makes({ name: "Favoured" });
    const put = (view: object, who = mary) =>
      who.browser.fetch<Room>("PUT", `/api/rooms/${id}/view`, view).then(({ body }) => body.favourite);
    const other = await windowOf(mary, right);
    const told: (true | undefined)[] = [];
    other.socket.on("show.room", (room) => void (room.id === id && told.push(room.favourite)));
    expect(await put({ favourite: true })).toBe(true);
    await until(() => told.includes(true));
    const listed = async () =>
      (await other.browser.get<Room[]>("/api/rooms")).body.find((room) => room.id === id)?.favourite;
    expect(await listed()).toBe(true);
    // What is not named stays.
    expect(await put({ folded: true })).toBe(true);
    for (const favourite of ["true", 1, null]) expect(await put({ favourite })).toBeUndefined();
    expect(await listed()).toBe(true);
    unwrap(await joe.socket.emitWithAck("room.join", { roomId: id }));
    expect(await put({ folded: false }, joe)).toBeUndefined();
    unwrap(await mary.socket.emitWithAck("room.leave", { roomId: id }));
    unwrap(await mary.socket.emitWithAck("room.join", { roomId: id }));
    expect(await listed()).toBeUndefined();
    other.close();
  });
});

describe("a choice for a direct room that is made again and again", () => {
  it("is told by another replica once for all that came meanwhile, and no message is read for it", async () => {
    const [ann, bob] = [await person(left), await person(right)];
    const { id } = (await ann.browser.post<Room>("/api/rooms/private", { userId: bob.user.id })).body;
    await bob.say(id, "hello");
    await ann.hears("hello");
    const asked: string[] = [];
    let held: Promise<void> | undefined;
    let release = () => {};
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      if (held && from === "replica" && chunk.includes(`room:${id}`)) {
        asked.push(chunk.toString("latin1"));
        await held;
      }
      return chunk;
    });
    const slow = await house.addReplica({ REDIS_URL: wire.url });
    try {
      const [other, last] = [await windowOf(ann, slow), await windowOf(bob, slow)];
      const told: (true | undefined)[] = [];
      other.socket.on("show.room", ({ favourite }) => void told.push(favourite));
      held = new Promise((resolve) => (release = resolve));
      const put = (favourite: boolean) => ann.browser.fetch("PUT", `/api/rooms/${id}/view`, { favourite });
      await Promise.all(Array.from({ length: 10 }, () => put(true)));
      // The other replica gets the orders in this order.
      const ended = new Promise((resolve) => last.socket.once("disconnect", resolve));
      await bob.browser.post("/api/logout");
      await ended;
      release();
      await put(false);
      await until(() => told.length > 0 && told.at(-1) === undefined);
      expect(told.length).toBeLessThanOrEqual(3);
      expect(asked.filter((text) => text.includes("\r\nzrevrangebyscore\r\n"))).toEqual([]);
      for (const one of [ann, bob, other]) one.close();
    } finally {
      release();
      await house.replicas.pop()?.close();
      await wire.close();
    }
  });
});

describe("a hidden direct room", () => {
  it("stays hidden on every replica until its next message, from anybody, and counts as read", async () => {
    const [ann, bob] = [await person(left), await person(right)];
    const { id } = (await ann.browser.post<Room>("/api/rooms/private", { userId: bob.user.id })).body;
    const other = await windowOf(ann, right);
    const put = async (view: object, who = ann) => {
      const { status, body } = await who.browser.fetch<Room>("PUT", `/api/rooms/${id}/view`, view);
      return status === 200 ? (body.hidden ?? false) : status;
    };
    const listed = async (who = other) =>
      (await who.browser.get<Room[]>("/api/rooms")).body.find((room) => room.id === id);
    const isHidden = async () => (await listed())?.hidden ?? false;
    const told: (true | undefined)[] = [];
    other.socket.on("show.room", ({ hidden }) => void told.push(hidden));

    // Also one in which nothing was said yet.
    expect(await put({ hidden: true })).toBe(true);
    await until(() => told.includes(true));
    const { seq } = await bob.say(id, "hello");
    expect(await isHidden()).toBe(false);
    // Who hides it before they know of a message sees that message.
    expect(await put({ hidden: true, seq: seq - 1 })).toBe(false);
    expect(await listed()).toMatchObject({ unread: 1 });
    expect(await put({ hidden: true, seq })).toBe(true);
    expect(await listed()).toMatchObject({ hidden: true, unread: 0 });
    expect(await listed(bob)).not.toHaveProperty("hidden");
    await ann.say(id, "mine");
    expect(await isHidden()).toBe(false);
    // A reaction is no message, nor is an edit.
    expect(await put({ hidden: true })).toBe(true);
    unwrap(await bob.socket.emitWithAck("message.react", { roomId: id, seq, emoji: "👍", on: true }));
    expect(await isHidden()).toBe(true);
    expect(await put({ hidden: false })).toBe(false);
    expect(await isHidden()).toBe(false);
    // Whoever opens it by the person sees it again.
    expect(await put({ hidden: true })).toBe(true);
    await ann.browser.post("/api/rooms/private", { userId: bob.user.id });
    expect(await isHidden()).toBe(false);
    // Redis lost the newest message: whatever is said next is another one.
    expect(await put({ hidden: true })).toBe(true);
    await house.redis.hset(house.keys.meta(id), { seq: seq - 1, hash: "0123456789ab" });
    expect(await isHidden()).toBe(false);
    for (const [hidden, known] of [
      ["yes", 0],
      [1, 0],
      [true, -1],
      [true, "1"],
      [true, 0.5],
    ] as const)
      expect(await put({ hidden, seq: known })).toBe(400);
    expect(await put({ hidden: true }, mary)).toBe(404);
    for (const one of [ann, bob, other]) one.close();
  });

  it("is the only kind of room that can be hidden", async () => {
    for (const id of ["0", (await mary.makes({ name: "In sight" })).id]) {
      const { status } = await mary.browser.fetch("PUT", `/api/rooms/${id}/view`, { hidden: true });
      expect(status).toBe(400);
    }
  });
});

describe("50 requests at once", () => {
  const AT_ONCE = 50;
  const statuses = async (one: (index: number) => Promise<{ status: number }>) =>
    (await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => one(index)))).map(
      ({ status }) => status,
    );
  const count = (all: number[], status: number) => all.filter((one) => one === status).length;

  it("make no more invites to a room than it may have", async () => {
    const { id } = await mary.makes({ name: "Inviting" });
    const most = BOUNDS.invitesOfRoom.value;
    const make = () => mary.browser.post(`/api/rooms/${id}/invites`);
    await Promise.all(Array.from({ length: most - 10 }, make));
    const made = await statuses(make);
    expect([count(made, 201), count(made, 403)]).toEqual([10, AT_ONCE - 10]);
    expect((await mary.browser.get<unknown[]>(`/api/rooms/${id}/invites`)).body).toHaveLength(most);
  });

  it("bring nobody into more rooms than they may be in, by making, joining or starting them", async () => {
    // Without a connection: its checks would mend the list.
    const browser = new Browser(left);
    const { id } = (await browser.post<User>("/api/users", { username: "many", password: "correct horse" }))
      .body;
    const list = house.keys.userRooms(id);
    const others = Array.from({ length: BOUNDS.roomsOfUser.value - 11 }, (_, index) => `${800_000 + index}`);
    await house.redis.sadd(list, others);
    const open = await Promise.all(
      Array.from({ length: 20 }, async (_, index) => (await mary.makes({ name: `Many ${index}` })).id),
    );
    const joins = await Promise.all(
      open.map(async (roomId) => {
        const { body } = await mary.browser.post<{ code: string }>(`/api/rooms/${roomId}/invites`);
        return body.code;
      }),
    );
    const done = await statuses((index) => {
      if (index < 20) return browser.post(`/api/invites/${joins[index]}`);
      return browser.post("/api/rooms", { name: `Mine ${index}` });
    });
    const entered = count(done, 200) + count(done, 201);
    expect([entered, count(done, 403)]).toEqual([10, AT_ONCE - 10]);
    expect(await house.redis.scard(list)).toBe(BOUNDS.roomsOfUser.value);
    const records = await Promise.all(
      open.map((roomId) => house.redis.hexists(house.keys.records(roomId), id)),
    );
    expect(records.filter((is) => is === 1)).toHaveLength(count(done, 200));
    const { status } = await browser.post("/api/rooms/private", { userId: mary.user.id });
    expect(status).toBe(403);
  });

  it("bring nobody into more rooms than they may be in, by joining and being added to the same ones", async () => {
    const full = await person(right);
    const { user, socket } = full;
    const list = house.keys.userRooms(user.id);
    const open = await Promise.all(
      Array.from(
        { length: AT_ONCE / 2 },
        async (_, index) => (await mary.makes({ name: `Full ${index}` })).id,
      ),
    );
    const others = Array.from(
      { length: BOUNDS.roomsOfUser.value - 11 },
      (_, index) => `${user.id}:${800_000 + index}`,
    );
    await house.redis.sadd(list, others);
    const done = await statuses(async (index) => {
      const roomId = open[index >> 1] ?? "";
      if (index % 2 === 0)
        return mary.browser.fetch("PUT", `/api/rooms/${roomId}/members/${user.id}`, { role: "member" });
      const reply = await socket.timeout(PATIENCE_MS).emitWithAck("room.join", { roomId });
      return { status: reply.ok ? 200 : STATUS[reply.error.code as ErrorCode] };
    });
    // Who finds the other request's member for a moment, and then no more, may hear that there is none.
    expect(done.filter((status) => ![200, 403, 404].includes(status))).toEqual([]);
    expect(await house.redis.scard(list)).toBe(BOUNDS.roomsOfUser.value);
    const listed = await house.redis.smismember(list, ...open);
    const recorded = await Promise.all(
      open.map((roomId) => house.redis.hexists(house.keys.records(roomId), user.id)),
    );
    expect(recorded).toEqual(listed);
    const inside = open.flatMap((_, index) => (listed[index] === 1 ? [index] : []));
    expect(inside).toHaveLength(10);
    for (const index of inside) expect(done.slice(2 * index, 2 * index + 2)).toContain(200);
    full.close();
  });
});

describe("a list", () => {
  it("of bans, or of one's sessions, is charged before it is read", async () => {
    const rate: { points: number; seconds: number } = RATES.work;
    const before = { ...rate };
    Object.assign(rate, { points: 200, seconds: 600 });
    const strict = await replicas(1, { RATE_LIMITS: "on" }).finally(() => Object.assign(rate, before));
    try {
      const [replica] = strict.replicas as [Replica];
      const { redis, keys } = strict;
      const ann = await person(replica);
      const { id } = (await ann.browser.post<Room>("/api/rooms", { name: "Bans" })).body;
      const bans = Array.from({ length: 600 }, (_, count) => [String(5_000 + count), "{}"]);
      await redis.hset(keys.bans(id), ...bans.flat());
      const commands = await commandsDuring(async () => {
        expect((await ann.browser.get(`/api/rooms/${id}/bans`)).status).toBe(429);
      });
      expect(commands.filter(([command, key]) => command === "hgetall" && key === keys.bans(id))).toEqual([]);

      const bob = await person(replica);
      const sids = Array.from({ length: 49 }, (_, count) => `session${count}`);
      await redis.zadd(keys.userSessions(bob.user.id), ...sids.flatMap((sid) => [1, sid]));
      for (const sid of sids) await redis.set(keys.session(sid), "{}");
      const sessions = async () => (await bob.browser.get("/api/me/sessions")).status;
      for (const status of [200, 200, 200, 429]) expect(await sessions()).toBe(status);
      for (const one of [ann, bob]) one.close();
    } finally {
      await strict.close();
    }
  });

  it("is charged for what was read for it, also for what it passes over", async () => {
    const rate: { points: number } = RATES.work;
    const { points } = rate;
    rate.points = 2_000;
    const strict = await replicas(1, { RATE_LIMITS: "on" }).finally(() => (rate.points = points));
    try {
      const [replica] = strict.replicas as [Replica];
      const { redis, keys } = strict;
      const owner = await person(replica);
      const room = await owner.makes({ name: "Everybody" });
      const most = 1_200;
      const stored = redis.pipeline();
      for (let id = 100; id <= most; id += 1) {
        const other = String(id);
        stored.hset(keys.user(other), "username", `user${id}`).sadd(keys.online, other);
        stored.hset(keys.records(room.id), other, '{"role":"member"}');
        stored.hset(keys.bans(room.id), other, JSON.stringify({ by: owner.user.id, at: 1 }));
        stored.hset(keys.reports(room.id), other, JSON.stringify({ by: other, at: 1, state: "open" }));
        stored.set(keys.roomName(other), `hidden ${id}`).hset(keys.meta(other), "kind", "invite");
      }
      stored.set(keys.totalUsers, most).set(keys.totalRooms, most);
      await stored.exec();

      const inside: string[] = [];
      const answered = async (path: string): Promise<number> => {
        // Others have budgets of their own.
        const one = await person(replica);
        if (inside.length > 0) await redis.sadd(keys.userRooms(one.user.id), ...inside);
        await redis.hset(keys.records(room.id), one.user.id, '{"role":"owner"}');
        for (let done = 0; ; done += 1) {
          const { status } = await one.browser.get(path);
          if (status !== 200 || done > 200) {
            expect([path, status]).toEqual([path, 429]);
            one.close();
            return done;
          }
        }
      };
      expect(await answered("/api/rooms/directory?after=99&size=1")).toBeLessThan(2);
      expect(await answered("/api/users/online")).toBeLessThan(20);
      const hundred = Array.from({ length: 100 }, (_, count) => 100 + count).join(",");
      expect(await answered(`/api/users?ids=${hundred}`)).toBeLessThanOrEqual(200);
      expect(await answered(`/api/rooms/${room.id}/bans`)).toBeLessThan(5);
      expect(await answered(`/api/rooms/${room.id}/members?size=1`)).toBeLessThan(200);
      expect(await answered(`/api/rooms/${room.id}/audience`)).toBeLessThan(200);
      expect(await answered(`/api/rooms/${room.id}/reports?cursor=open/1/0/1&size=1`)).toBeLessThan(50);
      inside.push(...Array.from({ length: 500 }, (_, count) => String(100 + count)));
      expect(await answered("/api/mentions")).toBeLessThan(5);
      expect(await answered("/api/search?q=nowhere")).toBeLessThan(10);
      owner.close();
    } finally {
      await strict.close();
    }
  });
});
