import { useState, useSyncExternalStore } from "react";

type Word = { id: number; text: string };

/** How many stay in the page: screen readers read out what is added. */
const KEPT = 50;
const KEPT_MS = 5_000;

let words: readonly Word[] = [];
let told = 0;
const listeners = new Set<() => void>();

/** Lets screen readers read out a text after earlier ones, none of which is lost. */
export function announce(text: string): void {
  const word = { id: ++told, text };
  keep([...words.slice(1 - KEPT), word]);
  // A deleted text must not stay here.
  setTimeout(() => keep(words.filter((other) => other !== word)), KEPT_MS);
}

function keep(next: readonly Word[]) {
  words = next;
  for (const listener of listeners) listener();
}

function subscribe(changed: () => void): () => void {
  listeners.add(changed);
  return () => listeners.delete(changed);
}

/**
 * The live region, of what is said while it is there. It must be in the page all the time, and in each dialog: what is
 * outside an open one cannot be heard.
 */
export function Announcer() {
  const [before] = useState(told);
  const shown = useSyncExternalStore(subscribe, () => words);
  return (
    <div className="hidden" aria-live="polite" aria-relevant="additions">
      {shown.map(({ id, text }) => id > before && <p key={id}>{text}</p>)}
    </div>
  );
}
