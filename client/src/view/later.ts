import { lazy, useSyncExternalStore, type ComponentType } from "react";

const TRY_AGAIN_MS = 2_000;
/** A page that was loaded anew is not loaded anew again within this time: what is missing may be missing for good. */
const RELOAD_MS = 60_000;

const loads: (() => Promise<unknown>)[] = [];

/** A component outside the first load. It loads when it is rendered, or before by `loadLater`. */
export function later<P>(load: () => Promise<ComponentType<P>>) {
  addEventListener("error", noteMissed, true);
  loads.push(load);
  return lazy(async () => ({ default: await untilLoaded(load, true) }));
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

/**
 * Tries until it has loaded. Many browsers request a module that failed only once in a page's life: if the user waits for
 * it (`shown`), only a new page brings it there.
 */
async function untilLoaded<T>(load: () => Promise<T>, shown = false): Promise<T> {
  for (let failed = 0; ; failed += 1) {
    try {
      const loaded = await load();
      failed = 0;
      await Promise.all([...missed].map(askAgain));
      return loaded;
    } catch {
      if (shown && failed > 0 && mayReload() && (await answers())) location.reload();
      await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN_MS));
    }
  }
}

/** Not while somebody writes. Address, drafts and what is to be sent outlive the page. */
function mayReload(): boolean {
  const [{ type } = { type: "navigate" }] = performance.getEntriesByType(
    "navigation",
  ) as PerformanceNavigationTiming[];
  const isWriting = [
    ...document.querySelectorAll<HTMLInputElement>("textarea, input:not([type=radio], [type=checkbox])"),
  ].some(({ value }) => value !== "");
  return !isWriting && (type !== "reload" || performance.now() > RELOAD_MS);
}

/** Whether the server would answer a new page. */
function answers(): Promise<boolean> {
  return fetch("/", { method: "HEAD", cache: "no-store" }).then(
    ({ ok }) => ok,
    () => false,
  );
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
