import { lazy, useSyncExternalStore, type ComponentType } from "react";

const TRY_AGAIN_MS = 2_000;

const loads: (() => Promise<unknown>)[] = [];

/** A component outside the first load. It loads when it is rendered, or before by `loadLater`. */
export function later<P>(load: () => Promise<ComponentType<P>>) {
  addEventListener("error", noteMissed, true);
  loads.push(load);
  return lazy(async () => ({ default: await untilLoaded(load) }));
}

/**
 * The same for other values: a hook that answers the value, or null until it has loaded. It loads when it is first
 * needed; with `soon` also by `loadLater`.
 */
export function laterValue<T>(load: () => Promise<T>, when: "soon" | "used"): (wanted: boolean) => T | null {
  let value: T | null = null;
  let loading: Promise<void> | undefined;
  const listeners = new Set<() => void>();
  const take = async () => {
    value = await untilLoaded(load);
    for (const listener of listeners) listener();
  };
  const once = () => (loading ??= take());
  if (when === "soon") loads.push(once);
  const subscribe = (changed: () => void) => {
    listeners.add(changed);
    return () => listeners.delete(changed);
  };
  const read = () => value;
  return function useValue(wanted) {
    if (wanted && value === null) void once();
    return useSyncExternalStore(subscribe, read, read);
  };
}

/** The same for what is done once: answers the value when it has loaded, and loads it by `loadLater`. */
export function laterOnce<T>(load: () => Promise<T>): () => Promise<T> {
  loads.push(load);
  return () => untilLoaded(load);
}

async function untilLoaded<T>(load: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      const loaded = await load();
      await Promise.all([...missed].map(askAgain));
      return loaded;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN_MS));
    }
  }
}

/** Style sheets that failed to load. A module requests its own only once: another attempt would go on without them. */
const missed = new Set<HTMLLinkElement>();

function noteMissed({ target }: Event) {
  if (target instanceof HTMLLinkElement && target.rel === "stylesheet") missed.add(target);
}

function askAgain(link: HTMLLinkElement): Promise<void> {
  missed.delete(link);
  const again = link.cloneNode() as HTMLLinkElement;
  return new Promise((done, fail) => {
    again.addEventListener("load", () => done());
    again.addEventListener("error", () => fail(new Error("The style sheet did not come")));
    link.replaceWith(again);
  });
}

/** Loads everything that `later` left out, so that it is available later, even offline. */
export function loadLater(): void {
  for (const load of loads) load().catch(() => {});
}
