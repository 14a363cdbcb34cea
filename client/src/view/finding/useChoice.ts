import { useState } from "react";

/**
 * Which of the listed things is chosen, at first the first: once it is shown it stays chosen, wherever the list moves
 * it. `keys` are of the listed things, in their order; while `isSettled` is false better ones may come before the first.
 * `choose(null)` begins anew.
 */
export function useChoice(keys: readonly string[], isSettled = true) {
  const [chosen, choose] = useState<string | null>(null);
  const at = Math.max(0, keys.indexOf(chosen ?? ""));
  const key = keys[at];
  if (isSettled && key !== undefined && key !== chosen) choose(key);
  return { at, chosen, choose };
}
