import { noteAct } from "./address.ts";
import { NO_KEYBOARD } from "./useMedia.ts";

/** The regions that F6 visits, in this order, and the elements that may get the focus: the first that exists does. */
const REGIONS = [
  ['nav[aria-label="Rooms"]', '[aria-current="page"]', "a, button"],
  ["#conversation:not([inert]) [role=log]", '[tabindex="0"]'],
  ["#conversation:not([inert]) #composer"],
  ["[data-part=thread-pane] [role=log]", '[tabindex="0"]'],
  ["#thread-composer"],
  ['aside[aria-label="People"]', "input, button, a"],
  ["[data-part=notices]:has(button)", "button"],
] as const;

const ACTS = ["keydown", "pointerdown", "hashchange"];

/** Moves the focus to the next region in the page, or with -1 to the one before. */
export function goToRegion(step: 1 | -1): void {
  const there = REGIONS.flatMap(([region, ...inside]) => {
    const element = document.querySelector<HTMLElement>(region);
    return element === null ? [] : [{ element, inside }];
  });
  const at = there.findIndex(({ element }) => element.contains(document.activeElement));
  const from = at < 0 && step < 0 ? 0 : at;
  const next = there[(from + step + there.length) % there.length];
  if (next === undefined) return;
  const places = next.inside.map((place) => next.element.querySelector<HTMLElement>(place));
  (places.find((place) => place !== null) ?? next.element).focus();
}

let isKept = false;

/**
 * Moves the focus to a useful place when its element disappears: browsers give it to the body, where a screen reader
 * and the keys start at the top of the page. Notes what the user does, for `mayTakeFocus`. Goes on for good: the page that
 * comes next must not lose it either.
 */
export function keepFocus(): void {
  if (isKept) return;
  isKept = true;
  let last: Element | null = null;
  let around: readonly EventTarget[] = [];
  const note = (event: FocusEvent) => {
    last = event.target instanceof Element ? event.target : null;
    around = event.composedPath();
  };
  const look = () => {
    if (document.activeElement !== document.body || last === null) return;
    const inDialog = document.querySelector("dialog[open]") !== null;
    if (last.isConnected && (inDialog || !last.matches("[hidden] *"))) return;
    if (inDialog) {
      last = null;
      goNear(around);
    }
    // On a page that is still loading it finds nothing, and is called again.
    else goOn();
  };
  const changed = new MutationObserver(look);
  changed.observe(document.body, { subtree: true, childList: true });
  document.addEventListener("focusin", note);
  for (const type of ACTS) addEventListener(type, noteAct, true);
}

/** Focuses the first button that is left near an element that went away, or else the part of the dialog around it. */
function goNear(around: readonly EventTarget[]) {
  for (const one of around) {
    if (!(one instanceof HTMLElement) || !one.isConnected) continue;
    const place = one.matches("[role=tabpanel]") ? one : one.querySelector<HTMLElement>("button:enabled");
    if (place === null) continue;
    place.focus();
    return;
  }
}

/**
 * Gives the focus to where the user goes on: the composer, unless that would open a keyboard over what they read. Who
 * asks to write gets the composer in any case, without this.
 */
export function goOn(): void {
  const isCovered = document.querySelector("main[inert]") !== null;
  const composer = document.getElementById(isCovered ? "thread-composer" : "composer");
  const place = composer !== null && matchMedia(NO_KEYBOARD).matches ? composer : null;
  (
    place ??
    document.querySelector<HTMLElement>("[data-part=thread-pane] h2, #conversation:not([inert])") ??
    document.querySelector<HTMLElement>('nav[aria-label="Rooms"] a, nav[aria-label="Rooms"] button') ??
    document.querySelector<HTMLElement>("main h1[tabindex]")
  )?.focus();
}
