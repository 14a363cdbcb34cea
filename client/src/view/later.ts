import { lazy, useSyncExternalStore, type ComponentType } from "react";

const TRY_AGAIN_MS = 2_000;

const loads: (() => Promise<unknown>)[] = [];

/** A component that is no part of the first load. It is fetched when it is drawn, or by `loadLater` before. */
export function later<P>(load: () => Promise<ComponentType<P>>) {
  addEventListener("error", noteMissed, true);
  loads.push(load);
  return lazy(async () => ({ default: await untilLoaded(load) }));
}

/**
 * The same for what is no component: a hook that answers it, and null until it is here. It is fetched when it is first
 * wanted; with `soon` also by `loadLater`.
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

/** Style sheets that did not come. A module asks for its own once: another attempt would go on without them. */
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

/** Fetches all that `later` left out, so that it is there when it is wanted, also without a connection. */
export function loadLater(): void {
  for (const load of loads) load().catch(() => {});
}
