import { noteAct } from "./address.ts";
import { isComposing, isField, isTyping } from "./keys.ts";
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
/** Where the focus went from a field among the messages that disappeared under the keys, while it is there. */
let refuge: Element | null = null;

/**
 * Moves the focus to a useful place when its element disappears: browsers give it to the body, where a screen reader
 * and the keys start at the top of the page. What is typed on for a field that is gone goes nowhere: the composer would
 * send it to the room. Notes what the user does, for `mayTakeFocus`. Goes on for good: the page that comes next must not
 * lose the focus either.
 */
export function keepFocus(): void {
  if (isKept) return;
  isKept = true;
  let last: Element | null = null;
  /** Where the focus is going: until it is there, the body has it. */
  let coming: Element | null = null;
  let around: readonly Element[] = [];
  const note = (element: Element | null) => {
    last = element;
    coming = null;
    around = ancestorsOf(element);
    if (element !== refuge) refuge = null;
  };
  const look = () => {
    if (document.activeElement !== document.body || last === null || coming?.isConnected === true) return;
    const inDialog = document.querySelector("dialog[open]") !== null;
    if (last.isConnected && (inDialog || !last.matches("[hidden] *"))) return;
    const isWriting = isField(last) && around.some((one) => one.matches("[role=log]"));
    const isNear = around.some((one) => goNear(one, inDialog));
    if (inDialog && !isNear) last = null;
    // On a page that is still loading it finds nothing, and is called again.
    if (!inDialog && !isNear) goOn(isWriting);
    if (isWriting) refuge = document.activeElement;
  };
  const swallow = (event: KeyboardEvent) => {
    if (refuge === null || refuge !== document.activeElement) return;
    if (event.key === "Escape") refuge = null;
    if (!isTyping(event) && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  const changed = new MutationObserver(look);
  changed.observe(document.body, { subtree: true, childList: true });
  // The composer may have it already.
  note(document.activeElement);
  const leave = ({ relatedTarget }: FocusEvent) => {
    coming = relatedTarget instanceof Element ? relatedTarget : null;
  };
  document.addEventListener("focusout", leave, true);
  document.addEventListener("focusin", ({ target }) => note(target instanceof Element ? target : null));
  for (const type of ACTS) addEventListener(type, noteAct, true);
  addEventListener("keydown", swallow, true);
}

/** Half the width of a place at which two clicks can be one double click, in pixels. */
const SAME_PLACE = 8;

/**
 * Lets a press act once, and only on what it was meant for: what it did may have put something else under the pointer or
 * the focus. The second click of a double click does nothing on another button or link, Enter that is held nothing on a
 * button, nor where it was not pressed, and Escape closes one thing. Ends when its answer is called.
 */
export function actOnce(): () => void {
  let clicked: { what: EventTarget | null; x: number; y: number } | null = null;
  let entered: EventTarget | null = null;
  const stop = (event: Event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  const click = (event: MouseEvent) => {
    const { target, detail, clientX: x, clientY: y } = event;
    const acts = target instanceof Element ? target.closest("a, button") : null;
    const what = acts ?? target;
    const isSecond = detail > 1 && clicked !== null && Math.hypot(x - clicked.x, y - clicked.y) < SAME_PLACE;
    if (isSecond && acts !== null && what !== clicked?.what) stop(event);
    else clicked = { what, x, y };
  };
  const press = (event: KeyboardEvent) => {
    const { key, target, repeat } = event;
    if (isComposing(event)) return;
    if (key === "Escape" && repeat) stop(event);
    if (key !== "Enter") return;
    if (!repeat) entered = target;
    else if (target !== entered || (target instanceof Element && target.matches("button"))) stop(event);
  };
  addEventListener("click", click, true);
  addEventListener("keydown", press, true);
  return () => {
    removeEventListener("click", click, true);
    removeEventListener("keydown", press, true);
  };
}

function ancestorsOf(element: Element | null): Element[] {
  const { parentElement: parent = null } = element ?? {};
  return parent === null ? [] : [parent, ...ancestorsOf(parent)];
}

/**
 * Focuses what is left around an element that went away, and answers whether it could: a row, a list or a panel that
 * takes the focus, or in a dialog a row, a list or a named group that has buttons, or its first button. One of a list
 * would act on another row: whoever presses Enter twice meant one. A whole pane of the page is not near.
 */
function goNear(one: Element, inDialog: boolean): boolean {
  const takesFocus = one.matches("[tabindex]:not(main, [role=toolbar])");
  const button = inDialog ? one.querySelector<HTMLElement>("button:enabled") : null;
  const isGroup = button !== null && one.matches("li, ul, fieldset[aria-label]");
  const place = takesFocus || isGroup ? one : button;
  if (!(place instanceof HTMLElement) || !place.isConnected) return false;
  if (isGroup) place.tabIndex = -1;
  place.focus();
  return document.activeElement === place;
}

/**
 * Gives the focus to where the user goes on: the composer, unless that would open a keyboard over what they read, or
 * `isWriting` elsewhere. What a user presses in order to write focuses the composer itself, without asking this.
 */
export function goOn(isWriting = false): void {
  const isCovered = document.querySelector("main[inert]") !== null;
  const composer = document.getElementById(isCovered ? "thread-composer" : "composer");
  const mayWrite = !isWriting && matchMedia(NO_KEYBOARD).matches;
  (
    (mayWrite ? composer : null) ??
    document.querySelector<HTMLElement>("[data-part=thread-pane] h2, #conversation:not([inert])") ??
    document.querySelector<HTMLElement>('nav[aria-label="Rooms"] a, nav[aria-label="Rooms"] button') ??
    document.querySelector<HTMLElement>("main h1[tabindex]")
  )?.focus();
}
