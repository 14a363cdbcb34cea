import { useSyncExternalStore } from "react";

type Word = { id: number; text: string };

/** How many stay in the page: what is read aloud is what is added. */
const KEPT = 50;
const KEPT_MS = 5_000;

let words: readonly Word[] = [];
let told = 0;
const listeners = new Set<() => void>();

/** Reads a text out to those who cannot see the page, after what was announced before. Each one is heard. */
export function announce(text: string): void {
  const word = { id: ++told, text };
  keep([...words.slice(1 - KEPT), word]);
  // What somebody deletes must not stay behind here.
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

/** Where it is read from. Once in the page, all the time. */
export function Announcer() {
  const shown = useSyncExternalStore(subscribe, () => words);
  return (
    <div className="hidden" aria-live="polite" aria-relevant="additions">
      {shown.map(({ id, text }) => (
        <p key={id}>{text}</p>
      ))}
    </div>
  );
}
