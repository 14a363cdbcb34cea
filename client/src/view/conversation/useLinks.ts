import type { findLinks, Part } from "@hubbub/server/links";
import { useSyncExternalStore } from "react";
import { loadOnce } from "../later.ts";

/** What finds links is no part of the first load: most texts have nothing that it could find. */
const MAYBE = /https?:|mailto:/i;

let find: typeof findLinks | null = null;
const listeners = new Set<() => void>();

const load = loadOnce(async () => {
  find = (await import("@hubbub/server/links")).findLinks;
  for (const listener of listeners) listener();
});

function subscribe(changed: () => void): () => void {
  listeners.add(changed);
  return () => listeners.delete(changed);
}

const finder = () => find;

/** A text in parts, its links among them; at the first link of all a moment later. */
export function useLinks(text: string): readonly Part[] {
  const found = useSyncExternalStore(subscribe, finder, finder);
  const maybe = MAYBE.test(text);
  if (maybe && found === null) load();
  return maybe && found !== null ? found(text) : [{ text, href: null }];
}
