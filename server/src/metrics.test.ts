import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { parse } from "yaml";
import { Log } from "./store/log.ts";
import { readConfig } from "./config.ts";
import { createMetrics } from "./metrics.ts";
import type { Replica } from "./server.ts";
import { Browser, both, figuresOf, ownRedis, person, replicas, until } from "./testing.ts";

it("the dashboard shows exactly the metrics of our own that exist", async () => {
  const dashboard = readFileSync(new URL("../../docs/grafana.json", import.meta.url), "utf8");
  const shown = new Set(dashboard.match(/hubbub_\w+/g)?.map((name) => name.replace(/_(bucket|count)$/, "")));
  const metrics = createMetrics();
  const counted = (await metrics.registry.getMetricsAsJSON()).map(({ name }) => name);
  expect([...shown].filter((name) => !counted.includes(name))).toEqual([]);
  const own = counted.filter((name) => !/^hubbub_(nodejs|process)_/.test(name));
  expect(own.filter((name) => !shown.has(name))).toEqual([]);
});

it("every metric of our own has a help text, and a name that says its unit", async () => {
  const all = await createMetrics().registry.getMetricsAsJSON();
  const own = all.filter(({ name }) => !/^hubbub_(nodejs|process)_/.test(name));
  expect(own.length).toBeGreaterThan(10);
  for (const { name, help, type } of own) {
    expect(help).toMatch(/^[A-Z][^]{10,}[^.]$/);
    expect(name).toMatch(/^hubbub_[a-z]+(_[a-z]+)*$/);
    // Counts, times in seconds, and present values.
    const kind: string = String(type);
    if (kind === "counter") expect(name).toMatch(/_total$/);
    else if (kind === "histogram") expect(name).toMatch(/_seconds$/);
    else expect(name).toMatch(/_(seconds|bytes|connections|rooms|ratio|evicts|writable)$/);
  }
});

it("a replica's work appears in its /metrics", async () => {
  const house = await replicas(1);
  try {
    const [replica] = house.replicas as [Replica];
    const [ann, bob] = [await person(replica), await person(replica)];
    await ann.say("0", "one", "n1");
    await ann.say("0", "one", "n1");
    // This row is stored silently, so the next message leaves a gap.
    const { redis, keys } = house;
    const config = readConfig(house.env);
    await new Log(redis, keys, config).load("0", [{ from: ann.user.id, message: "untold", date: 0 }]);
    await ann.say("0", "three", "n2");
    await bob.hears("three");
    expect(bob.messages.map(({ message }) => message)).toEqual(["one", "untold", "three"]);
    // The lease of a dead replica, for a user who has no other.
    await redis.sadd(keys.online, "999");
    await redis.hset(keys.leaseCount, "999", 1);
    await redis.zadd(keys.leases, 1, "999|dead");
    const figures = await until(async () => {
      const now = await figuresOf(replica);
      return now["hubbub_presence_swept_total"] && now["hubbub_relay_heartbeat_lag_seconds"] ? now : false;
    }, 10_000);
    expect(figures).toMatchObject({
      hubbub_connections: 2,
      hubbub_messages_stored_total: 2,
      hubbub_messages_repeated_total: 1,
      hubbub_append_seconds_count: 3,
      hubbub_relay_messages_total: 2,
      hubbub_relay_gaps_total: 1,
      hubbub_relay_healed_messages_total: 2,
      hubbub_relay_resets_total: 0,
      hubbub_relay_malformed_total: 0,
      hubbub_relay_rooms: 1,
      hubbub_deliveries_total: 6,
      hubbub_presence_swept_total: 1,
      hubbub_slow_consumers_cut_total: 0,
    });
    expect(figures["hubbub_append_seconds_sum"]).toBeLessThan(1);
    expect(figures["hubbub_relay_heartbeat_lag_seconds"]).toBeLessThan(4);
    expect(figures["hubbub_nodejs_eventloop_lag_p99_seconds"]).toBeLessThan(1);
  } finally {
    await house.close();
  }
});

it("requests are counted by the route's pattern and status, whatever their path", async () => {
  const house = await replicas(1, { RATE_LIMITS: "on" });
  try {
    const [replica] = house.replicas as [Replica];
    const ann = await person(replica, "ann");
    const { browser } = ann;
    const before = await figuresOf(replica);
    await browser.get("/api/rooms/0/messages");
    await browser.get("/api/rooms/0/messages?size=0");
    await browser.get("/api/rooms/7/messages");
    await new Browser(replica).get("/api/rooms/0/messages");
    await fetch(`${replica.address}/api/me`, { method: "HEAD", headers: { cookie: browser.cookie } });
    await browser.get("/api/rooms/0/transcript");
    for (let count = 0; count < 20; count += 1) await browser.get(`/nothing/${count}`);
    await browser.fetch("POST", "/api/rooms", {}, { origin: "http://other.example" });
    await ann.socket.emitWithAck("room.join", { roomId: "none" });
    await browser.post("/api/login", { username: "ann", password: "correct horse" });
    for (let tries = 0; tries < 12; tries += 1)
      await new Browser(replica).post("/api/login", { username: "ann", password: "wrong password" });
    const page = (status: number) =>
      `hubbub_http_requests_total{route="GET /api/rooms/:id/messages",status="${status}"}`;
    const after = await until(async () => {
      const now = await figuresOf(replica);
      return now[`hubbub_http_requests_total{route="POST /api/login",status="429"}`] ? now : false;
    });
    const risen = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
    expect([200, 400, 401, 404].map((status) => risen(page(status)))).toEqual([1, 1, 1, 1]);
    expect(risen(`hubbub_http_request_seconds_count{route="GET /api/rooms/:id/messages"}`)).toBe(4);
    expect(risen(`hubbub_http_requests_total{route="GET /api/me",status="200"}`)).toBe(1);
    expect(risen(`hubbub_http_requests_total{route="GET /api/rooms/:id/transcript",status="200"}`)).toBe(1);
    expect(risen(`hubbub_http_requests_total{route="none",status="404"}`)).toBe(20);
    expect(risen(`hubbub_http_requests_total{route="none",status="403"}`)).toBe(1);
    expect(risen(`hubbub_logins_total{outcome="done"}`)).toBe(1);
    expect(risen(`hubbub_logins_total{outcome="failed"}`)).toBeGreaterThan(8);
    expect(risen(`hubbub_logins_total{outcome="limited"}`)).toBeGreaterThan(0);
    expect(risen(`hubbub_refusals_total{door="rest",code="forbidden"}`)).toBe(1);
    expect(risen(`hubbub_refusals_total{door="rest",code="not_found"}`)).toBe(21);
    expect(risen(`hubbub_refusals_total{door="socket",code="invalid"}`)).toBe(1);
    const limits = Object.keys(after).filter((name) => name.startsWith("hubbub_limits_hit_total{limit="));
    expect(Math.max(...limits.map(risen))).toBeGreaterThan(0);
    expect(Object.keys(after).join("\n")).not.toMatch(/nothing|none\/|\/7|other\.example/);
  } finally {
    await house.close();
  }
});

it("Redis commands are timed, errors counted by kind, and memory and eviction reported", async () => {
  const own = await ownRedis({
    persistent: false,
    args: ["maxmemory 64mb", "maxmemory-policy allkeys-lru"],
  });
  const house = await replicas(1, { REDIS_URL: own.url });
  house.redis.on("error", () => undefined);
  try {
    const [replica] = house.replicas as [Replica];
    const ann = await person(replica);
    const before = await until(async () => {
      const now = await figuresOf(replica);
      return now["hubbub_redis_memory_bytes"] ? now : false;
    });
    expect(before).toMatchObject({ hubbub_redis_memory_limit_bytes: 64 * 2 ** 20, hubbub_redis_evicts: 1 });
    expect(before["hubbub_redis_command_seconds_count"]).toBeGreaterThan(5);
    expect(before[`hubbub_redis_errors_total{code="OOM"}`]).toBe(0);
    await house.redis.config("SET", "maxmemory-policy", "noeviction");
    await house.redis.config("SET", "maxmemory", "1mb");
    await ann.browser.post("/api/rooms", { name: "No room for it" });
    expect((await figuresOf(replica))[`hubbub_redis_errors_total{code="OOM"}`]).toBeGreaterThan(0);
    await own.kill();
    expect((await ann.browser.get("/api/rooms")).status).toBe(503);
    const away = await figuresOf(replica);
    const lost = ["closed", "connection"].map(
      (code) => away[`hubbub_redis_errors_total{code="${code}"}`] ?? 0,
    );
    expect(Math.max(...lost)).toBeGreaterThan(0);
  } finally {
    await Promise.all(house.replicas.map((replica) => replica.close()));
    house.redis.disconnect();
    await own.close();
  }
});

type Rule = { alert: string; expr: string; for: string; labels: object; annotations: Record<string, string> };

/** Each metric in a query, with the labels that the query selects or groups by. */
function asked(query: string): { names: string[]; labels: string[] } {
  const bare = query.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const matched = [...bare.matchAll(/\{([^}]*)\}/g)].flatMap(([, inside = ""]) =>
    [...inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = ""]) => label),
  );
  const grouped = [...bare.matchAll(/\b(?:by|without) \(([^)]*)\)/g)].flatMap(([, list = ""]) =>
    list.split(/, */),
  );
  return { names: bare.match(/hubbub_\w+/g) ?? [], labels: [...matched, ...grouped] };
}

describe("alerts and dashboard", () => {
  const read = (file: string) => readFileSync(new URL(`../../docs/${file}`, import.meta.url), "utf8");
  const rules = (parse(read("alerts.yml")) as { groups: { rules: Rule[] }[] }).groups.flatMap(
    (group) => group.rules,
  );
  const dashboard = JSON.parse(read("grafana.json")) as { panels: { targets: { expr: string }[] }[] };
  const queries = [
    ...rules.map(({ expr }) => expr),
    ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ];

  it.each(queries)("%s uses only metrics and labels that exist", async (query) => {
    const { registry } = createMetrics();
    const there = registry.getMetricsAsArray() as unknown as {
      name: string;
      labelNames: string[];
      type: string;
    }[];
    const { names, labels } = asked(query);
    const metrics = names.map((name) => {
      const plain = name.replace(/_(bucket|count|sum)$/, "");
      const metric = there.find(
        (one) => one.name === name || (one.name === plain && one.type === "histogram"),
      );
      expect(metric, name).toBeDefined();
      return metric;
    });
    if (metrics.length === 0) expect(query).toMatch(/^up\b/);
    // Prometheus adds `instance` and `job`; a histogram's buckets have `le`.
    const known = new Set([
      "instance",
      "job",
      "le",
      ...metrics.flatMap((metric) => metric?.labelNames ?? []),
    ]);
    expect(labels.filter((label) => !known.has(label))).toEqual([]);
  });

  it("every counter that an alert looks at is there from the start, with each label that the alert names", async () => {
    const house = await replicas(2);
    onTestFinished(() => house.close());
    const series = Object.keys(await figuresOf(both(house)[0]));
    const missing = rules.flatMap(({ alert, expr }) =>
      [...expr.matchAll(/(hubbub_\w+_total)(?:\{(\w+)=~?"([^"]*)"\})?/g)].flatMap(
        ([, name = "", label = "", values = ""]) =>
          values
            .split("|")
            .map((value) => new RegExp(`^${name}(?:$|\\{${label && `.*\\b${label}="${value}"`})`))
            .filter((wanted) => !series.some((one) => wanted.test(one)))
            .map((wanted) => `${alert}: ${wanted.source}`),
      ),
    );
    expect(missing).toEqual([]);
  });

  it("every alert says what is wrong and what to do, and has a row in the table of symptoms", () => {
    const table = read("operations.md");
    expect(rules.length).toBeGreaterThan(15);
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    for (const { alert, annotations, labels } of rules) {
      expect(annotations["summary"], alert).toMatch(/.{15}/);
      expect(annotations["description"], alert).toMatch(/.{20}\.$/);
      expect(annotations["runbook"], alert).toBe("docs/operations.md#symptom-cause-setting");
      expect(labels, alert).toMatchObject({ severity: expect.stringMatching(/^(page|ticket)$/) as string });
      expect(table, alert).toMatch(new RegExp(`\\| ${alert} +\\|`));
    }
  });

  it.skipIf(!existsSync("/usr/bin/promtool"))("promtool accepts the alerts", () => {
    const file = fileURLToPath(new URL("../../docs/alerts.yml", import.meta.url));
    expect(execFileSync("/usr/bin/promtool", ["check", "rules", file], { encoding: "utf8" })).toContain(
      "SUCCESS",
    );
  });
});
