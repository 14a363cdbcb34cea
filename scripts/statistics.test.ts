import { describe, expect, it } from "vitest";
import { percentile, spread, summarise } from "./statistics.ts";

describe("the statistics", () => {
  it("take a percentile from the measured values, by nearest rank", () => {
    const values = Array.from({ length: 100 }, (_, index) => index + 1);
    expect([0, 0.5, 0.99, 1].map((p) => percentile(values, p))).toEqual([1, 50, 99, 100]);
    expect(percentile([7], 0.99)).toBe(7);
    expect(percentile([], 0.5)).toBeNaN();
    expect(summarise([3, 1, 2])).toMatchObject({ count: 3, min: 1, p50: 2, max: 3, mean: 2 });
    expect(summarise([])).toBeNull();
  });

  it("put the median of runs between two middle values, and ignore missing values", () => {
    expect(spread([4, 1, Number.NaN, 3, 2])).toEqual({ runs: 4, min: 1, median: 2.5, max: 4 });
    expect(spread([])).toBeNull();
  });
});
