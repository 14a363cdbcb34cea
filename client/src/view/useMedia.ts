import { useCallback, useSyncExternalStore } from "react";

export const PHONE = "(max-width: 719px)";
/** From this width on a thread is beside the conversation; below, it covers it. */
export const BESIDE = "(min-width: 960px)";
/** The user wants as little motion as possible. */
export const CALM = "(prefers-reduced-motion: reduce)";
/** A field that gets the focus opens no keyboard over the page. */
export const NO_KEYBOARD = "not all and (pointer: coarse)";
export const DESKTOP = "(min-width: 1120px)";

/** Whether a media query matches. */
export function useMedia(query: string): boolean {
  const subscribe = useCallback(
    (changed: () => void) => {
      const media = matchMedia(query);
      media.addEventListener("change", changed);
      return () => media.removeEventListener("change", changed);
    },
    [query],
  );
  return useSyncExternalStore(subscribe, () => matchMedia(query).matches);
}

function subscribeAttention(changed: () => void): () => void {
  addEventListener("focus", changed);
  addEventListener("blur", changed);
  document.addEventListener("visibilitychange", changed);
  return () => {
    removeEventListener("focus", changed);
    removeEventListener("blur", changed);
    document.removeEventListener("visibilitychange", changed);
  };
}

/** Whether the user is probably looking at the page. */
export function useAttention(): boolean {
  return useSyncExternalStore(
    subscribeAttention,
    () => document.visibilityState === "visible" && document.hasFocus(),
  );
}

function subscribeNetwork(changed: () => void): () => void {
  addEventListener("online", changed);
  addEventListener("offline", changed);
  return () => {
    removeEventListener("online", changed);
    removeEventListener("offline", changed);
  };
}

/** False if the browser knows of no network. */
export function useNetwork(): boolean {
  return useSyncExternalStore(subscribeNetwork, () => navigator.onLine);
}
