import { pino } from "pino";
import supertest from "supertest";
import { expect, it, onTestFinished } from "vitest";
import { readConfig } from "../config.ts";
import { startServer } from "../server.ts";
import { replicas } from "../testing.ts";

type Line = { msg: string; peer?: string; hops?: number; trustProxy?: number; forwardedProto?: boolean };

/** A replica, and its log. */
async function watched(env: Record<string, string>) {
  const house = await replicas(0, env);
  const written: string[] = [];
  const log = pino({}, { write: (line: string) => written.push(line) });
  const replica = await startServer(readConfig(house.env), log);
  house.replicas.push(replica);
  onTestFinished(() => house.close());
  const lines = () => written.map((line) => JSON.parse(line) as Line);
  return {
    house,
    app: supertest(replica.address),
    about: (words: RegExp) => lines().filter(({ msg }) => words.test(msg)),
  };
}

const ann = { username: "ann", password: "correct horse battery" };

it("more proxies than TRUST_PROXY are logged once, with both numbers and the cure", async () => {
  const { app, about } = await watched({ TRUST_PROXY: "0" });
  for (let times = 0; times < 3; times += 1)
    await app.get("/api/me").set("x-forwarded-for", "192.0.2.1, 192.0.2.2");
  expect(about(/more proxies than TRUST_PROXY/)).toMatchObject([
    { peer: "127.0.0.1", hops: 2, trustProxy: 0 },
  ]);
  expect(about(/fewer proxies/)).toEqual([]);
});

it("fewer proxies than TRUST_PROXY are logged once, but not for a health check from the local network", async () => {
  const { app, about } = await watched({ TRUST_PROXY: "1" });
  await app.get("/readyz");
  await app.get("/healthz");
  await app.get("/api/me").set("x-forwarded-for", "192.0.2.1");
  expect(about(/proxies than TRUST_PROXY/)).toEqual([]);
  for (let times = 0; times < 3; times += 1) await app.get("/api/me");
  expect(about(/fewer proxies than TRUST_PROXY/)).toMatchObject([{ hops: 0, trustProxy: 1 }]);
});

it.each([
  ["without HTTPS", { TRUST_PROXY: "0" }, {}],
  ["behind a proxy that is not trusted", { TRUST_PROXY: "0" }, { "x-forwarded-proto": "https" }],
  [
    "behind a proxy that does not say that it was HTTPS",
    { TRUST_PROXY: "1" },
    { "x-forwarded-for": "192.0.2.1" },
  ],
  ["behind a proxy that says that it was not", { TRUST_PROXY: "1" }, { "x-forwarded-proto": "http" }],
])(
  "COOKIE_SECURE=on %s is an error, answered and logged once, and creates no account",
  async (_where, env, headers) => {
    const { house, app, about } = await watched({ COOKIE_SECURE: "on", ...env });
    for (const path of ["/api/users", "/api/login"]) {
      const answer = await app
        .post(path)
        .set(headers as Record<string, string>)
        .send(ann);
      expect([answer.status, answer.headers["set-cookie"]]).toEqual([500, undefined]);
      expect(answer.body).toMatchObject({ code: "internal" });
      expect((answer.body as { message: string }).message).toMatch(/HTTPS/);
    }
    expect(await house.redis.exists(house.keys.username("ann"))).toBe(0);
    expect(about(/COOKIE_SECURE/)).toMatchObject([{ forwardedProto: "x-forwarded-proto" in headers }]);
  },
);

it("COOKIE_SECURE=on behind a trusted proxy with HTTPS signs in with a cookie", async () => {
  const { app } = await watched({ COOKIE_SECURE: "on", TRUST_PROXY: "1" });
  const answer = await app.post("/api/users").set("x-forwarded-proto", "https").send(ann);
  expect(answer.status).toBe(201);
  expect(answer.headers["set-cookie"]).toHaveLength(1);
});
