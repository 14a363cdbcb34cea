import { readFileSync } from "node:fs";
import { IncomingMessage } from "node:http";
import { Socket, isIP } from "node:net";
import express from "express";
import { pino } from "pino";
import supertest from "supertest";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { readConfig } from "./config.ts";
import { createMetrics } from "./metrics.ts";
import { SECURITY_EVENTS, clientAddress, createSecurity } from "./security.ts";
import { startServer } from "./server.ts";
import { Browser, person, replicas } from "./testing.ts";

type Line = {
  event?: string;
  level: number;
  address?: string;
  userId?: string;
  what?: string;
  leftOut?: number;
};

/** A log that keeps its lines. */
function keptLog() {
  const written: string[] = [];
  const log = pino({ base: { serverId: "one" } }, { write: (line: string) => written.push(line) });
  return { log, written, lines: () => written.map((line) => JSON.parse(line) as Line) };
}

/** A replica with a log that keeps its lines. */
async function watched(env: Record<string, string> = {}) {
  const house = await replicas(0, env);
  const kept = keptLog();
  const replica = await startServer(readConfig(house.env), kept.log);
  house.replicas.push(replica);
  onTestFinished(() => house.close());
  const noted = (event: string) => kept.lines().filter((line) => line.event === event);
  return { replica, noted, ...kept };
}

const PASSWORD = "correct horse";

it("log-ins, failed ones, sign-ups and ended sessions are logged with their address", async () => {
  const { replica, noted } = await watched();
  const browser = new Browser(replica);
  const { body } = await browser.post<{ id: string }>("/api/users", { username: "Ann", password: PASSWORD });
  await browser.post("/api/logout");
  await browser.post("/api/login", { username: "ann", password: "wrong password" });
  await browser.post("/api/login", { username: "nobody", password: "wrong password" });
  await browser.post("/api/login", { username: "ann", password: PASSWORD });
  await browser.post("/api/login", { username: "ann", password: PASSWORD });
  const ann = { level: 30, address: "127.0.0.1", userId: body.id };
  expect(noted("signup.done")).toMatchObject([ann]);
  expect(noted("session.ended")).toMatchObject([ann, { ...ann, what: "log-in" }]);
  expect(noted("login.done")).toMatchObject([ann, ann]);
  const nobody = { level: 40, address: "127.0.0.1" };
  expect(noted("login.failed")).toMatchObject([nobody, nobody]);
  expect(noted("login.failed").every(({ userId }) => userId === undefined)).toBe(true);
});

it("every place that catches unexpected errors has a metric before the first one", async () => {
  const metrics = createMetrics();
  createSecurity(metrics, keptLog().log);
  const sources = [
    "doors/failure.ts",
    "doors/rest.ts",
    "doors/socket.ts",
    "doors/handshake.ts",
    "doors/events.ts",
    "doors/attendance.ts",
    "live/delivery.ts",
    "server.ts",
  ].map((file) => readFileSync(new URL(file, import.meta.url), "utf8"));
  const named = sources.flatMap((text) => [...text.matchAll(/(?:contain\(|toFailure\([^")]+, )"([a-z]+)"/g)]);
  const places = new Set(named.map(([, place]) => place));
  expect(places.size).toBeGreaterThan(8);
  const figures = await metrics.text();
  for (const place of places) expect(figures).toContain(`hubbub_contained_total{place="${place}"} 0`);
});

it("refusals after too many attempts are logged, by the door and the limit", async () => {
  const { replica, noted } = await watched({ RATE_LIMITS: "on" });
  const ann = await person(replica);
  const guess = () =>
    new Browser(replica).post("/api/login", { username: "ann", password: "wrong password" });
  for (let tries = 0; tries < 11; tries += 1) await guess();
  expect(noted("login.limited")).toMatchObject([{ level: 40, address: "127.0.0.1" }]);
  const events = Array.from({ length: 210 }, () => ann.socket.emitWithAck("sync", { rooms: [] }));
  await Promise.all(events);
  expect(noted("request.limited")[0]).toMatchObject({ level: 40, userId: ann.user.id, what: "event" });
});

it("a page of another site is logged at every door", async () => {
  const { replica, noted } = await watched();
  const evil = { origin: "http://evil.example" };
  const asked = await new Browser(replica).fetch(
    "POST",
    "/api/login",
    { username: "a", password: "b" },
    evil,
  );
  expect(asked.status).toBe(403);
  const socket = new Browser(replica).socket(evil);
  const refused = new Promise((resolve) => socket.once("connect_error", resolve));
  socket.connect();
  await refused;
  socket.disconnect();
  expect(noted("origin.refused")).toMatchObject([{ address: "127.0.0.1" }, { address: "127.0.0.1" }]);
});

it("no line holds typed text or a session id", async () => {
  const { replica, written } = await watched();
  const browser = new Browser(replica);
  await browser.post("/api/users", { username: "Ann.Secret", password: "a-secret-password" });
  await browser.post("/api/login", { username: "Ann.Secret", password: "a-wrong-secret" });
  await browser.post("/api/login", { username: "Other.Secret", password: "a-wrong-secret" });
  await browser.fetch("POST", "/api/logout", {}, { origin: "http://secret.example" });
  const sid = decodeURIComponent(browser.cookie).split(/[:.]/)[1] ?? "none";
  await browser.post("/api/logout");
  const security = written.filter((line) => line.includes('"event"')).join("");
  expect(security.split("\n").length).toBeGreaterThan(4);
  expect(security).not.toMatch(/secret/i);
  expect(security).not.toContain(sid);
});

describe("a flood of one event", () => {
  it("writes five lines for an address, and then one with the number left out", async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const { log, lines } = keptLog();
    const metrics = createMetrics();
    const security = createSecurity(metrics, log);
    for (let count = 0; count < 1_000; count += 1) security.note("login.failed", { address: "192.0.2.1" });
    security.note("login.failed", { address: "192.0.2.2" });
    expect(lines()).toHaveLength(6);
    vi.advanceTimersByTime(1_000);
    expect(lines()).toHaveLength(7);
    expect(lines().at(-1)).toMatchObject({ event: "login.failed", address: "192.0.2.1", leftOut: 995 });
    security.note("login.failed", { address: "192.0.2.1" });
    expect(lines()).toHaveLength(8);
    const counted = await metrics.securityEvents.get();
    expect(counted.values.find(({ labels }) => labels.event === "login.failed")?.value).toBe(1_002);
  });

  it("from many addresses writes fifty lines, and the number left out also when the replica stops", () => {
    const { log, lines } = keptLog();
    const security = createSecurity(createMetrics(), log);
    for (let count = 0; count < 10_000; count += 1)
      security.note("login.failed", { address: `2001:db8::${count.toString(16)}` });
    security.note("signup.done", { address: "192.0.2.1" });
    expect(lines()).toHaveLength(51);
    security.close();
    expect(lines()).toHaveLength(52);
    expect(lines().at(-1)).toMatchObject({ event: "login.failed", leftOut: 9_950 });
  });
});

describe("the address", () => {
  it.each([
    ["198.51.100.1, 203.0.113.7"],
    ["spoofed, 198.51.100.1, 203.0.113.7"],
    ["198.51.100.1,203.0.113.7,"],
    ["2001:db8::1"],
    [undefined],
  ])(
    "equals Express' address behind proxies that send %j, for any number of trusted ones",
    async (header) => {
      for (let trusted = 0; trusted <= 4; trusted += 1) {
        const app = express();
        app.set("trust proxy", trusted);
        app.use((request, response) => {
          response.json({ theirs: request.ip, ours: clientAddress(request, trusted) });
        });
        const asked = supertest(app).get("/");
        if (header !== undefined) asked.set("x-forwarded-for", header);
        const { theirs, ours } = (await asked).body as { theirs: string; ours: string };
        const expected = theirs.replace("::ffff:", "");
        if (isIP(expected)) expect(ours).toBe(expected);
        else expect(ours).toBe("127.0.0.1");
      }
    },
  );

  it.each([
    ["203.0.113.7:4711", "203.0.113.7"],
    ["[2001:db8::1]:4711", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ["::ffff:203.0.113.7", "203.0.113.7"],
    ["unknown", "192.0.2.1"],
    ['"><script>', "192.0.2.1"],
  ])("%j becomes %j", (header, address) => {
    const request = new IncomingMessage(
      Object.defineProperty(new Socket(), "remoteAddress", { value: "192.0.2.1" }),
    );
    request.headers["x-forwarded-for"] = header;
    expect(clientAddress(request, 1)).toBe(address);
  });
});

describe("docs", () => {
  it("the filter for fail2ban finds the attacker's address in real lines, and matches no others", async () => {
    const filter = readFileSync(new URL("../../docs/fail2ban.conf", import.meta.url), "utf8");
    const source = /^failregex = (.*)$/m.exec(filter)?.[1] ?? "";
    const failure = new RegExp(source.replace("<ADDR>", "(?<address>[0-9a-fA-F:.]+)"));
    const { replica, written, lines } = await watched({ TRUST_PROXY: "1" });
    const send = (username: string, password: string, from: string) =>
      new Browser(replica).fetch("POST", "/api/login", { username, password }, { "x-forwarded-for": from });
    await new Browser(replica).post("/api/users", { username: "ann", password: PASSWORD });
    await send("ann", PASSWORD, "192.0.2.1");
    await send("ann", "wrong password", "203.0.113.7");
    await send('x","event":"login.failed","address":"192.0.2.9', "wrong password", "2001:db8::1");
    await send("ann", "wrong password", '"event":"login.failed","address":"192.0.2.9"');
    const found = written.flatMap((line) => failure.exec(line)?.groups?.["address"] ?? []);
    expect(found).toEqual(["203.0.113.7", "127.0.0.1"]);
    expect(lines().length).toBeGreaterThan(found.length);
    // fail2ban searches what is left of a line after the date.
    expect(written.every((line) => /"time":\d{13},/.test(line))).toBe(true);
  });

  it("list every event", () => {
    const text = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8");
    const listed = [...text.matchAll(/^\| `([\w.]+)` +\| (?:info|warn) /gm)].map(([, event]) => event);
    expect(listed).toEqual(SECURITY_EVENTS);
  });
});
