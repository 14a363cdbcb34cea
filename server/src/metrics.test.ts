import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { createMetrics } from "./metrics.ts";

it("counts everything that the dashboard shows, and shows everything that it counts of its own", async () => {
  const dashboard = readFileSync(new URL("../../docs/grafana.json", import.meta.url), "utf8");
  const shown = new Set(dashboard.match(/hubbub_\w+/g)?.map((name) => name.replace(/_bucket$/, "")));
  const metrics = createMetrics();
  const counted = (await metrics.registry.getMetricsAsJSON()).map(({ name }) => name);
  expect([...shown].filter((name) => !counted.includes(name))).toEqual([]);
  const own = counted.filter((name) => !/^hubbub_(nodejs|process)_/.test(name));
  expect(own.filter((name) => !shown.has(name))).toEqual([]);
});
