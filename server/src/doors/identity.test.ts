import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { RATES } from "../limits.ts";
import type { Room, User } from "../protocol.ts";
import type { Replica } from "../server.ts";
import {
  PATIENCE_MS,
  Browser,
  connect,
  figuresOf,
  ownRedis,
  replicas,
  until,
  type House,
  type Person,
} from "../testing.ts";

/** Each case comes from an address of its own, which a proxy names. */
const ENV = { RATE_LIMITS: "on", TRUST_PROXY: "1" };
const POINTS = 6;

let house: House;
let replica: Replica;
let mary: Person;
let foreign: string;
beforeAll(async () => {
  house = await frugal();
  [replica] = house.replicas as [Replica];
  mary = await someone();
  foreign = (await mary.browser.post<Room>("/api/rooms", { name: "Mary's own" })).body.id;
});
afterAll(() => house.close());

/** A replica with low limits for a user and for an address. */
async function frugal(env: Record<string, string> = {}): Promise<House> {
  const changed: [{ points: number; seconds: number }, object][] = [
    RATES.rest,
    RATES.handshake,
    RATES.stranger,
  ].map((rate) => [rate, { ...rate }]);
  for (const [rate] of changed) Object.assign(rate, { points: POINTS, seconds: 60 });
  try {
    return await replicas(1, { ...ENV, ...env });
  } finally {
    for (const [rate, before] of changed) Object.assign(rate, before);
  }
}

let addresses = 0;
const newAddress = () => {
  addresses += 1;
  return `198.18.${addresses >> 8}.${addresses & 255}`;
};

/** A new user, from an address of their own. */
async function someone(at = replica): Promise<Person> {
  const browser = new Browser(at);
  const body = { username: `knocker${(addresses += 1)}`, password: "correct horse" };
  const from = { "x-forwarded-for": newAddress() };
  const { body: user } = await browser.fetch<User>("POST", "/api/users", body, from);
  return connect(browser, user);
}

type Answer = { status: number; code: string; headers: Record<string, string | string[] | undefined> };

/** Sends a request exactly as given; resolves with the answer. */
function ask(
  path: string,
  headers: Record<string, string>,
  { at = replica, method = "GET", body = "" }: { at?: Replica; method?: string; body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(at.address);
    const asked = request({ hostname, port, path, headers, method, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => {
        const { code = "" } = (text.startsWith("{") ? JSON.parse(text) : {}) as { code?: string };
        const { date: _, "content-length": __, ...told } = response.headers;
        resolve({ status: response.statusCode ?? 0, code, headers: told });
      });
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/** A WebSocket handshake up to the answer to its CONNECT; status 101 if it was refused over the connection. */
function shake(headers: Record<string, string>, at = replica, query = ""): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const address = `${at.address.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket${query}`;
    const socket = new WebSocket(address, { headers });
    const done = (answer: Answer) => {
      socket.terminate();
      resolve(answer);
    };
    socket.on("open", () => socket.send("40"));
    socket.on("message", (data: Buffer) => {
      const [, type, json = "{}"] = /^4([04])(\{.*\})?/.exec(data.toString()) ?? [];
      if (type === "0") done({ status: 101, code: "", headers: {} });
      if (type === "4")
        done({
          status: 101,
          code: (JSON.parse(json) as { data: { code: string } }).data.code,
          headers: {},
        });
    });
    socket.on("unexpected-response", (_request, response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () =>
        done({
          status: response.statusCode ?? 0,
          code: (JSON.parse(text) as { code: string }).code,
          headers: response.headers,
        }),
      );
    });
    socket.on("error", reject);
  });
}

const COUNTED = /^hubbub_(http_requests|refusals|limits_hit|security_events|contained)_total/;

/** The metrics that a request changes. */
async function counting(at: Replica, work: () => Promise<Answer>) {
  const counted = async () =>
    Object.entries(await figuresOf(at)).filter(([name]) => COUNTED.test(name) && !name.includes("/metrics"));
  const before = new Map(await counted());
  const answer = await work();
  const risen = await until(async () => {
    const now = (await counted()).map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const);
    const more = now.filter(([, value]) => value !== 0);
    return more.some(([name]) => name.startsWith("hubbub_http_requests")) && more;
  });
  return { answer, risen: Object.fromEntries(risen) };
}

const PAGE = "/api/rooms/0/messages";
type Asked = {
  /** The part of the path before its last slash; such a path only Express serves. */
  path?: string;
  query?: string;
  method?: string;
  headers: Record<string, string>;
};
type Case = {
  name: string;
  make: () => Promise<Asked> | Asked;
  /** The status that REST answers. */
  status: number;
  code: string;
  /** The code of the same handshake, if there is one, or "" if it succeeds. */
  handshake?: string;
};

const asMary = (more: Record<string, string> = {}) => ({ cookie: mary.browser.cookie, ...more });
const sidOf = ({ browser }: Person) =>
  decodeURIComponent(browser.cookie).slice("hubbub=s:".length).split(".")[0] ?? "";
/** A new user of whom only the cookie is left once `end` is done. */
async function after(end: (who: Person) => Promise<unknown>): Promise<Asked> {
  const who = await someone();
  who.close();
  await end(who);
  return { headers: { cookie: who.browser.cookie } };
}

/** Cookies that we signed, of sessions that have ended. */
async function endedCookies(count: number): Promise<string> {
  const cookies: string[] = [];
  while (cookies.length < count)
    cookies.push(
      (await after((who) => house.redis.del(house.keys.session(sidOf(who))))).headers["cookie"] ?? "",
    );
  return cookies.join("; ");
}

const welcome = { status: 200, code: "", handshake: "" };
const unauthorized = { status: 401, code: "unauthorized", handshake: "unauthorized" };
const CASES: Case[] = [
  { name: "no cookie", make: () => ({ headers: {} }), ...unauthorized },
  { name: "a cookie of nothing", make: () => ({ headers: { cookie: "hubbub=" } }), ...unauthorized },
  {
    name: "garbage for a cookie",
    make: () => ({ headers: { cookie: "hubbub=%%%; ;=;\u00ff" } }),
    ...unauthorized,
  },
  {
    name: "a forged signature",
    make: () => ({ headers: { cookie: `${mary.browser.cookie.slice(0, -3)}xyz` } }),
    ...unauthorized,
  },
  {
    name: "a session id without a signature",
    make: () => ({ headers: { cookie: `hubbub=s:${sidOf(mary)}` } }),
    ...unauthorized,
  },
  {
    name: "planted cookies of the name before one's own",
    make: async () => {
      const mine = (await someone()).browser.cookie;
      const planted = `hubbub=planted; hubbub=s%3Ax.y; hubbub=%; hubbub="${mine.slice(7, -3)}"`;
      return { headers: { cookie: `${planted}; ${mine}; hubbub=after` } };
    },
    ...welcome,
  },
  {
    name: "cookies of three ended sessions before one's own",
    make: async () => ({
      headers: { cookie: `${await endedCookies(3)}; ${(await someone()).browser.cookie}` },
    }),
    ...welcome,
  },
  {
    name: "cookies of four ended sessions before one's own",
    make: async () => ({
      headers: { cookie: `${await endedCookies(4)}; ${(await someone()).browser.cookie}` },
    }),
    ...unauthorized,
  },
  {
    name: "32 planted cookies before one's own",
    make: async () => ({
      headers: { cookie: `${"hubbub=s%3Ax.y; ".repeat(32)}${(await someone()).browser.cookie}` },
    }),
    ...unauthorized,
  },
  {
    name: "a session that was deleted",
    make: () => after((who) => house.redis.del(house.keys.session(sidOf(who)))),
    ...unauthorized,
  },
  {
    name: "a session that has expired",
    make: () =>
      after(async (who) => {
        await house.redis.pexpire(house.keys.session(sidOf(who)), 1);
        await until(async () => (await house.redis.exists(house.keys.session(sidOf(who)))) === 0);
      }),
    ...unauthorized,
  },
  {
    name: "a session after log-out",
    make: () => after((who) => who.browser.post("/api/logout")),
    ...unauthorized,
  },
  {
    name: "a session of nobody",
    make: () => after((who) => house.redis.set(house.keys.session(sidOf(who)), '{"cookie":{}}')),
    ...unauthorized,
  },
  {
    name: "a session that is no JSON",
    make: () => after((who) => house.redis.set(house.keys.session(sidOf(who)), "{")),
    status: 500,
    code: "internal",
    handshake: "internal",
  },
  {
    name: "a session whose account is gone",
    make: () => after((who) => house.redis.del(house.keys.user(who.user.id))),
    ...unauthorized,
  },
  {
    name: "a session whose account's id is somebody else's",
    make: () => after((who) => house.redis.hset(house.keys.user(who.user.id), "username", "another")),
    ...unauthorized,
  },
  {
    name: "a room of others",
    make: async () => ({
      path: `/api/rooms/${foreign}/messages`,
      headers: { cookie: (await someone()).browser.cookie },
    }),
    status: 404,
    code: "not_found",
  },
  {
    name: "others' private room",
    make: async () => {
      const other = await someone();
      const ids = [other, await someone()].map(({ user }) => user.id);
      return { path: `/api/rooms/${ids.join(":")}/messages`, headers: asMary() };
    },
    status: 404,
    code: "not_found",
  },
  {
    name: "an unknown room",
    make: () => ({ path: "/api/rooms/424242/messages", headers: asMary() }),
    status: 404,
    code: "not_found",
  },
  ...["01", "2:1", "1:1", "0:5", "7".repeat(11), "__proto__", "0%3A", "%30%30", "*"].map((id) => ({
    name: `the room id ${id}`,
    make: () => ({ path: `/api/rooms/${id}/messages`, headers: asMary() }),
    status: 400,
    code: "invalid",
  })),
  ...["size=0", "size=101", "size=1&size=2", "before=soon", "after=", "before=-1", "before=%E0%A4%A"].map(
    (query) => ({
      name: `the query ${query}`,
      make: () => ({ query, headers: asMary() }),
      status: 400,
      code: "invalid",
    }),
  ),
  ...["POST", "PUT", "DELETE"].map((method) => ({
    name: `the method ${method}`,
    make: () => ({ method, headers: asMary() }),
    status: 404,
    code: "not_found",
  })),
  {
    name: "HEAD without a session",
    make: () => ({ method: "HEAD", headers: {} }),
    status: 401,
    code: "",
  },
  {
    name: "another site's page",
    make: () => ({ method: "POST", headers: asMary({ origin: "http://evil.example" }) }),
    status: 403,
    code: "forbidden",
    handshake: "forbidden",
  },
  {
    name: "a page of no origin, by its browser's word",
    make: () => ({ method: "POST", headers: asMary({ "sec-fetch-site": "cross-site" }) }),
    status: 403,
    code: "forbidden",
    handshake: "forbidden",
  },
];

describe("past Express and by Express", () => {
  beforeAll(async () => {
    // In this file Mary makes more requests than her limit.
    const generous = await replicas(1, { ...ENV, KEY_PREFIX: house.env["KEY_PREFIX"] ?? "" });
    replica = generous.replicas[0] as Replica;
    house.replicas.push(replica);
  });
  afterAll(() => {
    [replica] = house.replicas as [Replica];
  });

  it.each(CASES)(
    "$name is answered alike by both (status, code, headers and counts), and at the handshake",
    async (one) => {
      const answers = [];
      for (const slash of ["", "/"]) {
        const { path = PAGE, query, method = "GET", headers } = await one.make();
        const from = { ...headers, "x-forwarded-for": newAddress() };
        const asked = `${path}${slash}${query === undefined ? "" : `?${query}`}`;
        answers.push(await counting(replica, () => ask(asked, from, { method })));
      }
      const [past, express] = answers;
      expect(past).toEqual(express);
      expect([past?.answer.status, past?.answer.code]).toEqual([one.status, one.code]);
      expect(past?.answer.headers).toMatchObject({
        "content-type": "application/json; charset=utf-8",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
      });
      expect(past?.answer.headers["set-cookie"]).toBeUndefined();

      if (one.handshake === undefined) return;
      const { headers } = await one.make();
      const shaken = await shake({ ...headers, "x-forwarded-for": newAddress() });
      expect(shaken.code).toBe(one.handshake);
      // Without a session the refusal comes over the connection: browsers show pages no status of a handshake.
      if (one.status < 400 || one.code === "unauthorized") expect(shaken.status).toBe(101);
      else
        expect([shaken.status, shaken.headers["content-type"], shaken.headers["cache-control"]]).toEqual([
          one.status,
          past?.answer.headers["content-type"],
          past?.answer.headers["cache-control"],
        ]);
    },
  );

  it("several cookies, and the same one twice, are accepted alike by REST, Express and the handshake", async () => {
    const { cookie } = mary.browser;
    const many = Array.from({ length: 100 }, (_, index) => `other${index}=${index}`).join("; ");
    for (const shown of [cookie, `${many}; ${cookie}`, `${cookie}; ${cookie}`, `${cookie}; hubbub=planted`]) {
      const headers = { cookie: shown, "x-forwarded-for": newAddress() };
      const [past, express] = [await ask(PAGE, headers), await ask(`${PAGE}/`, headers)];
      expect(past).toEqual(express);
      expect(past.status).toBe(200);
      expect(await shake(headers)).toMatchObject({ status: 101, code: "" });
    }
  });

  it("a page of another user is a stranger, whatever cookie comes with it", async () => {
    for (const claimed of ["0", `${mary.user.id}0`, "", `${mary.user.id}, ${mary.user.id}`, "constructor"]) {
      const headers = asMary({ "x-user-id": claimed, "x-forwarded-for": newAddress() });
      const [past, express] = [await ask(PAGE, headers), await ask(`${PAGE}/`, headers)];
      expect(past).toEqual(express);
      expect(past).toMatchObject({ status: 401, code: "unauthorized" });
      const query = `&userId=${encodeURIComponent(claimed)}`;
      const shaken = await shake(asMary({ "x-forwarded-for": newAddress() }), replica, query);
      expect(shaken.code, claimed).toBe("unauthorized");
    }
    const own = asMary({ "x-user-id": mary.user.id, "x-forwarded-for": newAddress() });
    expect((await ask(PAGE, own)).status).toBe(200);
    expect((await ask(`${PAGE}/`, own)).status).toBe(200);
    expect(await shake(asMary(), replica, `&userId=${mary.user.id}`)).toMatchObject({ code: "" });
  });

  it.each([
    [`${PAGE}?size=1#more`, 200],
    ["/API/Rooms/0/Messages?size=1", 200],
    ["/api/rooms/%30/messages", 200],
    ["http://elsewhere/api/rooms/0/messages", 200],
    ["http://elsewhere/api\\rooms/0/messages", 200],
    [`${PAGE}?size=1?size=2`, 400],
    ["//api/rooms/0/messages", 404],
    ["/api//rooms/0/messages", 404],
    ["/api/./rooms/0/messages", 404],
    ["/api/rooms/0/%6dessages", 404],
    ["/api/rooms/0/messages;x", 404],
    ["/api/rooms/0/messages%3Fsize=1", 404],
  ])("the path %s is answered %i, and refused without a session", async (path, status) => {
    expect((await ask(path, asMary())).status).toBe(status);
    const without = await ask(path, {});
    expect(without.status).toBe(status === 404 ? 404 : 401);
  });

  it("a request with a body, and one for a cached answer, get the same answer from both", async () => {
    for (const [body, headers, status] of [
      ["{", { "content-type": "application/json" }, 400],
      ["{}", { "content-type": "application/json" }, 200],
      ["x", {}, 200],
      ["", { "if-none-match": "*" }, 200],
    ] as const) {
      const asked = asMary({ ...headers, ...(body && { "content-length": String(body.length) }) });
      const [past, express] = [await ask(PAGE, asked, { body }), await ask(`${PAGE}/`, asked, { body })];
      expect(past).toEqual(express);
      expect(past.status, body).toBe(status);
    }
  });
});

describe("a limit", () => {
  const known = CASES.filter(({ name }) => /room|query|method/.test(name));
  const strangers = CASES.filter(
    ({ code, name }) => code === "unauthorized" || name.includes("after log-out"),
  );

  it.each([...known, ...strangers])(
    "counts $name once, past Express or through it, against the same limit",
    async (one) => {
      const who = await someone();
      const made = await one.make();
      const isStranger = one.code === "unauthorized";
      const from = newAddress();
      const headers: Record<string, string> = {
        ...made.headers,
        ...(!isStranger && { cookie: who.browser.cookie }),
        "x-forwarded-for": from,
      };
      const ways = ["", "/"].map((slash) => {
        const asked = `${made.path ?? PAGE}${slash}${made.query === undefined ? "" : `?${made.query}`}`;
        return () => ask(asked, headers, { method: made.method ?? "GET" });
      });
      // A session whose account is gone is counted by its user, and ends by that request.
      const free = one.name.includes("account") ? 1 : 0;
      for (let count = 0; count < POINTS + free; count += 1)
        expect((await ways[count % 2]?.())?.status, `${count}`).toBe(one.status);
      const refused = [await counting(replica, ways[0]!), await counting(replica, ways[1]!)];
      for (const { answer } of refused) {
        expect([answer.status, answer.code, answer.headers["connection"]]).toEqual([
          429,
          "rate_limited",
          "close",
        ]);
        expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
        delete answer.headers["retry-after"];
      }
      // The limit counted the first request; the ban that followed counted the second.
      for (const { risen } of refused) delete risen[`hubbub_limits_hit_total{limit="rest"}`];
      expect(refused[0]).toEqual(refused[1]);
    },
  );

  it("answers handshakes as it answers requests: status, code, time to wait, and counts", async () => {
    const who = await someone();
    const from = newAddress();
    const hers = { cookie: who.browser.cookie, "x-forwarded-for": newAddress() };
    // Each connected person has made one handshake.
    for (const [headers, times] of [
      [hers, POINTS - 1],
      [{ "x-forwarded-for": from }, POINTS],
    ] as const) {
      for (let count = 0; count < times; count += 1) expect((await shake(headers)).status).toBe(101);
      const before = await figuresOf(replica);
      for (let count = 0; count < 3; count += 1) {
        // Also with a query that claims to be no handshake.
        const query = ["", "&sid=", "&sid=x&sid="][count];
        const { status, code, headers: told } = await shake(headers, replica, query);
        expect([status, code, told["connection"]]).toEqual([429, "rate_limited", "close"]);
        expect(Number(told["retry-after"])).toBeGreaterThan(0);
      }
      const risen = await figuresOf(replica);
      for (const name of [
        `hubbub_handshakes_total{outcome="rate_limited"}`,
        `hubbub_security_events_total{event="connection.limited"}`,
      ])
        expect((risen[name] ?? 0) - (before[name] ?? 0)).toBe(3);
      // Requests have a count of their own.
      expect((await ask("/api/demo", headers)).status).toBe(200);
    }
  });

  it("never blocks log-out, but does block paths that only look like it", async () => {
    const who = await someone();
    const headers = { cookie: who.browser.cookie };
    for (let count = 0; count < POINTS; count += 1) await ask("/api/me", headers);
    expect((await ask("/api/me", headers)).status).toBe(429);
    for (const [path, method] of [
      ["/api/logout", "GET"],
      ["/api/logout/", "POST"],
      ["/api/logout?x", "POST"],
    ] as const)
      expect((await ask(path, headers, { method })).status, path).toBe(429);
    expect((await ask("/api/logout", headers, { method: "POST" })).status).toBe(204);
    // A log-out ends a session once; without a session it counts by the address.
    const from = { ...headers, "x-forwarded-for": newAddress() };
    for (let count = 0; count < POINTS; count += 1)
      expect((await ask("/api/logout", from, { method: "POST" })).status).toBe(401);
    expect((await ask("/api/logout", from, { method: "POST" })).status).toBe(429);
  });
});

it("REST, Express and the handshake answer 503 and the time to wait while Redis is away", async () => {
  const own = await ownRedis({ persistent: false });
  const apart = await replicas(1, { ...ENV, REDIS_URL: own.url });
  apart.redis.on("error", () => undefined);
  try {
    const [at] = apart.replicas as [Replica];
    const who = await someone(at);
    who.close();
    const headers = { cookie: who.browser.cookie };
    await own.kill();
    await until(async () => (await ask("/readyz", {}, { at })).status === 503);
    const past = await counting(at, () => ask(PAGE, headers, { at }));
    const express = await counting(at, () => ask(`${PAGE}/`, headers, { at }));
    expect(past).toEqual(express);
    const shaken = await shake(headers, at);
    for (const { status, code, headers: told } of [past.answer, express.answer, shaken])
      expect([status, code, told["retry-after"]]).toEqual([503, "unavailable", "1"]);
    await own.start();
    await until(async () => (await ask("/readyz", {}, { at })).status === 200, PATIENCE_MS);
  } finally {
    await apart.close().catch(() => undefined);
    await own.close();
  }
});
