/** Random numbers from a seed: the same seed gives the same sequence. */
export type Random = {
  /** In [0, 1). */
  next: () => number;
  /** A whole number in [0, below). */
  whole: (below: number) => number;
  pick: <T>(list: readonly T[]) => T;
  /** `count` different ones. */
  sample: <T>(list: readonly T[], count: number) => T[];
};

/** `name` gives each scenario its own sequence, whichever others run. */
export function createRandom(seed: number, name: string): Random {
  let state = seed >>> 0;
  for (const letter of name) state = Math.imul(state ^ (letter.codePointAt(0) ?? 0), 2654435761) >>> 0;
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const whole = (below: number) => Math.floor(next() * below);
  const sample = <T>(list: readonly T[], count: number): T[] => {
    const left = [...list];
    const taken: T[] = [];
    while (taken.length < count && left.length > 0) taken.push(...left.splice(whole(left.length), 1));
    return taken;
  };
  return {
    next,
    whole,
    sample,
    pick: (list) => {
      const [one] = sample(list, 1);
      if (one === undefined) throw new Error("nothing to pick from");
      return one;
    },
  };
}
