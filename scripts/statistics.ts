/** The summary of a set of measured values. */
export type Summary = {
  count: number;
  min: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
  mean: number;
};

/**
 * The smallest value that at least the share `p` (0 to 1) of all values does not exceed: nearest rank without
 * interpolation, so that every figure was really measured. NaN for no values. `sorted` is in ascending order.
 */
export function percentile(sorted: ArrayLike<number>, p: number): number {
  if (sorted.length === 0) return Number.NaN;
  const rank = Math.max(1, Math.ceil(p * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/** Null for no values: nothing measured is not the same as zero. */
export function summarise(values: ArrayLike<number>): Summary | null {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).toSorted();
  let sum = 0;
  for (const value of sorted) sum += value;
  return {
    count: sorted.length,
    min: percentile(sorted, 0),
    p50: percentile(sorted, 0.5),
    p90: percentile(sorted, 0.9),
    p99: percentile(sorted, 0.99),
    max: percentile(sorted, 1),
    mean: sum / sorted.length,
  };
}

/** Minimum, median and maximum of repeated runs. For an even number the median is the mean of the middle two. */
export type Spread = { runs: number; min: number; median: number; max: number };

export function spread(values: readonly number[]): Spread | null {
  const sorted = values.filter((value) => Number.isFinite(value)).toSorted((a, b) => a - b);
  if (sorted.length === 0) return null;
  const upper = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
  return { runs: sorted.length, min: sorted[0] ?? 0, median: (lower + upper) / 2, max: sorted.at(-1) ?? 0 };
}
