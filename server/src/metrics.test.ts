import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { Rooms } from "./chat/rooms.ts";
import { readConfig } from "./config.ts";
import { createMetrics } from "./metrics.ts";
import type { Replica } from "./server.ts";
import { figuresOf, person, replicas, until } from "./testing.ts";

it("counts everything that the dashboard shows, and shows everything that it counts of its own", async () => {
  const dashboard = readFileSync(new URL("../../docs/grafana.json", import.meta.url), "utf8");
  const shown = new Set(dashboard.match(/hubbub_\w+/g)?.map((name) => name.replace(/_(bucket|count)$/, "")));
  const metrics = createMetrics();
  const counted = (await metrics.registry.getMetricsAsJSON()).map(({ name }) => name);
  expect([...shown].filter((name) => !counted.includes(name))).toEqual([]);
  const own = counted.filter((name) => !/^hubbub_(nodejs|process)_/.test(name));
  expect(own.filter((name) => !shown.has(name))).toEqual([]);
});

it("every figure of its own has a help text, and a name that says its unit", async () => {
  const all = await createMetrics().registry.getMetricsAsJSON();
  const own = all.filter(({ name }) => !/^hubbub_(nodejs|process)_/.test(name));
  expect(own.length).toBeGreaterThan(10);
  for (const { name, help, type } of own) {
    expect(help).toMatch(/^[A-Z][^]{10,}[^.]$/);
    expect(name).toMatch(/^hubbub_[a-z]+(_[a-z]+)*$/);
    // Of what is counted, what is measured in seconds, and what there is now.
    const kind: string = String(type);
    if (kind === "counter") expect(name).toMatch(/_total$/);
    else if (kind === "histogram") expect(name).toMatch(/_seconds$/);
    else expect(name).toMatch(/_(seconds|bytes|connections|rooms|evicts)$/);
  }
});

it("what a replica does is in its /metrics", async () => {
  const house = await replicas(1);
  try {
    const [replica] = house.replicas as [Replica];
    const [ann, bob] = [await person(replica), await person(replica)];
    await ann.say("0", "one", "n1");
    await ann.say("0", "one", "n1");
    // Nobody is told of what is put in: the next message leaves a hole.
    const { redis, keys } = house;
    const config = readConfig(house.env);
    await new Rooms(redis, keys, config).load("0", [{ from: ann.user.id, message: "untold", date: 0 }]);
    await ann.say("0", "three", "n2");
    await bob.hears("three");
    expect(bob.messages.map(({ message }) => message)).toEqual(["one", "untold", "three"]);
    // A lease of a replica that is dead, of somebody who has no other.
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
