import bcrypt from "bcrypt";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { hashes } from "../chat/hashThreads.ts";
import type { Failure, User } from "../protocol.ts";
import { Browser, both, replicas, type House } from "../testing.ts";

const PASSWORD = "correct horse";

/** Two replicas behind one proxy, so that a test can use any address. */
let house: House;
beforeAll(async () => {
  house = await replicas(2, { RATE_LIMITS: "on", TRUST_PROXY: "1" });
});
afterAll(() => house.close());
afterEach(() => {
  vi.restoreAllMocks();
});

let requests = 0;

/** Sends requests from an address, to each replica in turn. */
function from(address: string, path: string, body: object) {
  const replica = both(house)[(requests += 1) % 2 === 0 ? 0 : 1];
  return new Browser(replica).fetch<User & Failure>("POST", path, body, { "x-forwarded-for": address });
}

function signUp(address: string, username: string) {
  return from(address, "/api/users", { username, password: PASSWORD });
}

function logIn(address: string, username: string, password = PASSWORD) {
  return from(address, "/api/login", { username, password });
}

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

function countHashes() {
  return vi.spyOn(hashes, "compare");
}

describe("wrong passwords", { timeout: 120_000 }, () => {
  it("for one name, 200 at once, cost ten hashes at most, and the right one among them fails", async () => {
    await signUp("192.0.2.1", "guessed-at-once");
    const hashed = countHashes();
    const answers = await Promise.all(
      times(200, (index) =>
        logIn("192.0.2.2", "guessed-at-once", index === 150 ? PASSWORD : `guess ${index}`),
      ),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401, 429]));
    expect(hashed.mock.calls.length).toBeLessThanOrEqual(10);
    expect(hashed.mock.calls.length).toBeGreaterThan(0);
    const refused = answers.filter(({ status }) => status === 429);
    for (const { headers, body } of refused) {
      expect(body.code).toBe("rate_limited");
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
    }
  });

  it("for one name from 100 addresses are refused after ten, and the owner still gets in from a known address", async () => {
    await signUp("192.0.2.10", "guessed-from-everywhere");
    const statuses: number[] = [];
    for (let guess = 0; guess < 100; guess += 1) {
      const name = guess % 2 ? "guessed-from-everywhere" : "GUESSED-from-everywhere";
      statuses.push((await logIn(`198.51.100.${guess}`, name, `guess ${guess}`)).status);
    }
    expect(statuses).toEqual([...times(10, () => 401), ...times(90, () => 429)]);
    // Even the right password fails from an address where the account was never used.
    const stranger = await logIn("198.51.100.200", "guessed-from-everywhere");
    expect(stranger.status).toBe(429);
    expect(stranger.body.retryAfterMs).toBeGreaterThan(60_000);
    expect((await logIn("192.0.2.10", "guessed-from-everywhere")).status).toBe(200);
  });

  it("for 100 names from one address are refused after 30, and other addresses still get in", async () => {
    await signUp("192.0.2.20", "sprayed");
    const statuses: number[] = [];
    for (let guess = 0; guess < 40; guess += 1)
      statuses.push((await logIn("203.0.113.1", `sprayed${guess}`, "Summer of 2026")).status);
    expect(statuses).toEqual([...times(30, () => 401), ...times(10, () => 429)]);
    expect((await logIn("203.0.113.2", "sprayed")).status).toBe(200);
    expect((await logIn("203.0.113.1", "sprayed")).status).toBe(429);
  });

  it("from a known address have a count of their own: after ten, the owner has to wait there too", async () => {
    await signUp("192.0.2.30", "forgetful");
    for (let guess = 0; guess < 10; guess += 1)
      expect((await logIn("192.0.2.30", "forgetful", `guess ${guess}`)).status).toBe(401);
    expect((await logIn("192.0.2.30", "forgetful")).status).toBe(429);
    expect((await logIn("192.0.2.31", "forgetful")).status).toBe(200);
  });

  it("from one IPv6 network are counted together, whatever the address", async () => {
    const statuses: number[] = [];
    for (let guess = 0; guess < 32; guess += 1)
      statuses.push((await logIn(`2001:db8:1:2:${guess}::1`, `rotated${guess}`, "guess")).status);
    expect(statuses.slice(30)).toEqual([429, 429]);
    expect((await logIn("2001:db8:1:3::1", "rotated-elsewhere", "guess")).status).toBe(401);
  });

  it("stay counted, whatever headers the client invents", async () => {
    const replica = await house.addReplica({ TRUST_PROXY: "0" });
    const statuses: number[] = [];
    for (let guess = 0; guess < 12; guess += 1) {
      const spoofed = `198.51.100.${guess}`;
      const headers = { "x-forwarded-for": spoofed, "x-real-ip": spoofed, forwarded: `for=${spoofed}` };
      const body = { username: "spoofed", password: `guess ${guess}` };
      statuses.push((await new Browser(replica).fetch("POST", "/api/login", body, headers)).status);
    }
    expect(statuses).toEqual([...times(10, () => 401), 429, 429]);
  });

  it("stay uncounted if the password was right", async () => {
    await signUp("192.0.2.40", "regular");
    for (let time = 0; time < 25; time += 1) expect((await logIn("192.0.2.41", "regular")).status).toBe(200);
    for (let guess = 0; guess < 10; guess += 1)
      expect((await logIn("192.0.2.42", "regular", `guess ${guess}`)).status).toBe(401);
  });
});

describe("right passwords", { timeout: 120_000 }, () => {
  it("of one account, 210 at once, neither delay others nor open more than 30 sessions", async () => {
    const { body: greedy } = await signUp("192.0.2.50", "greedy");
    await signUp("192.0.2.51", "modest");
    const flood = times(210, async () => (await logIn("192.0.2.50", "greedy")).status);
    // From the flood's address, and from another one.
    const others = [logIn("192.0.2.50", "modest"), logIn("192.0.2.52", "modest")];
    expect((await Promise.all(others)).map(({ status }) => status)).toEqual([200, 200]);
    const statuses = await Promise.all(flood);
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(30);
    expect(await house.redis.zcard(house.keys.userSessions(greedy.id))).toBeLessThanOrEqual(1 + 30);
    expect((await logIn("192.0.2.52", "modest")).status).toBe(200);
  });

  it.each([
    ["accents", "caf\u00e9 cr\u00e8me", "cafe\u0301 cre\u0300me", "cafe creme"],
    [
      "syllables of Hangul",
      "비밀번호입니다 여덟",
      "비밀번호입니다 여덟".normalize("NFD"),
      "비밀번호입니다여덟",
    ],
    ["blanks", "correct horse staple", "correct\u00a0horse\u3000staple", "correcthorsestaple"],
    [
      "two marks in either order",
      "h\u1ecdc n\u1eefa \u0111\u1ed9i",
      "ho\u0323c nu\u031b\u0303a \u0111o\u0302\u0323i",
      "hoc nua doi",
    ],
    // As they are typed, more bytes than are hashed.
    ["as many letters as fit", "\u1ebf".repeat(24), "e\u0302\u0301".repeat(24), "\u1ebf".repeat(23)],
  ])("work however a keyboard spells their %s", async (what, one, other, wrong) => {
    const names = [`one ${what}`, `other ${what}`].map((name) => name.replaceAll(" ", "-"));
    const address = `203.0.113.${what.length}`;
    for (const [index, username] of names.entries()) {
      const asked = { username, password: index === 0 ? one : other };
      expect((await from(address, "/api/users", asked)).status).toBe(201);
      for (const password of [one, other])
        expect((await logIn(address, username, password)).status).toBe(200);
      expect((await logIn(address, username, wrong)).status).toBe(401);
    }
  });

  it("work as they were typed, also those that servers of before hashed so", async () => {
    const typed = "de\u0301ja\u0300 vu\u00a0encore";
    const { body } = await signUp("192.0.2.70", "long-here");
    await house.redis.hset(house.keys.user(body.id), "password", await bcrypt.hash(typed, 4));
    expect((await logIn("192.0.2.70", "long-here", typed)).status).toBe(200);
    const chosen = { current: typed, next: typed };
    const browser = new Browser(both(house)[0]);
    await browser.post("/api/login", { username: "long-here", password: typed });
    expect((await browser.post("/api/me/password", chosen)).status).toBe(204);
    expect((await logIn("192.0.2.70", "long-here", typed.normalize("NFC"))).status).toBe(200);
  });

  it.each(["\u1ebf".repeat(25), "e\u0302\u0301".repeat(25), "\ufb2c".repeat(13), "four é".normalize("NFD")])(
    "that are too long or too short once composed are refused: %j",
    async (password) => {
      const { status, body } = await from("192.0.2.80", "/api/users", { username: "no-length", password });
      expect([status, body.code]).toEqual([400, "invalid"]);
    },
  );
});
