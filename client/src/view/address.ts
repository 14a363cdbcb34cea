import { isRoomId, type RoomId } from "@hubbub/server/protocol";
import { useSyncExternalStore, type MouseEvent } from "react";
import { createNonce } from "../chat/outbox.ts";

/**
 * What is shown: a room at its end or around a message, and beside it, perhaps, the thread of a message.
 */
export type Place = { roomId: RoomId | null; seq: number | null; thread: number | null };

const ADDRESS = /^#\/room\/([\d:]+)(?:\/([1-9]\d{0,14}))?(?:\/thread\/([1-9]\d{0,14}))?$/;

/**
 * The page's address names the open room, so that reload, back and links work: `#/room/<id>`, or `#/room/<id>/<seq>`
 * for the room around a message, and either with `/thread/<seq>` for a thread beside it.
 */
export function addressOf(roomId: RoomId, seq?: number | null, thread?: number | null): string {
  return [`#/room/${roomId}`, ...(seq ? [seq] : []), ...(thread ? ["thread", thread] : [])].join("/");
}

export function placeInAddress(): Place {
  const [, id, seq, thread] = ADDRESS.exec(location.hash) ?? [];
  if (!isRoomId(id)) return { roomId: null, seq: null, thread: null };
  return { roomId: id, seq: numberIn(seq), thread: numberIn(thread) };
}

/** What a link gives, apart from a place: `#/invite/<code>` lets into a room, `#/reset/<code>` sets a new password. */
export type Link = { is: "invite" | "reset"; code: string };

let link: Link | null = null;
const linkWatchers = new Set<() => void>();

function setLink(given: Link | null) {
  link = given;
  for (const look of linkWatchers) look();
}

/** Keeps a link of which this is the address, whatever the page shows next: whoever can use it may come later. */
export function noteLink(): void {
  const [, is, code] = /^#\/(invite|reset)\/([\w-]+)$/.exec(location.hash) ?? [];
  if (code !== undefined && code !== link?.code) setLink({ is: is === "reset" ? "reset" : "invite", code });
}

/** The link that was opened last, in this tab, until it is used. */
export function useLink(): Link | null {
  return useSyncExternalStore(watchLink, () => link);
}

function watchLink(look: () => void) {
  linkWatchers.add(look);
  return () => linkWatchers.delete(look);
}

/** Forgets a link that is used, without a step that "back" would return to. */
export function forgetLink(used: Link): void {
  if (link === used) setLink(null);
  if (location.hash === `#/${used.is}/${used.code}`) go("#/", true);
}

let goneOn = false;

/** Notes what the user does: a key, a press, or another address. */
export function noteAct({ type }: Event): void {
  goneOn = type !== "hashchange";
}

/**
 * Whether a shown place may take the focus when it arrives. Not once its user has gone on to something else: what they
 * are typing would land elsewhere.
 */
export function mayTakeFocus(): boolean {
  return !goneOn || document.activeElement === document.body;
}

function numberIn(digits: string | undefined): number | null {
  return digits === undefined ? null : Number(digits);
}

export function goTo(roomId: RoomId, seq?: number): void {
  go(addressOf(roomId, seq), isOverlay());
}

/** Like `goTo`, but "back" does not return to where this began. */
export function redirectTo(roomId: RoomId): void {
  go(addressOf(roomId), true);
}

/** Shows another place of the open room, by default its end, and keeps the thread beside it. */
export function moveTo(roomId: RoomId, seq?: number): void {
  const { thread } = placeInAddress();
  const replace = seq === undefined || isOverlay();
  go(addressOf(roomId, seq, thread), replace, replace && isThread());
}

/** Opens a message's thread beside the room; "back" closes it. */
export function openThread(roomId: RoomId, seq: number): void {
  const place = placeInAddress();
  const at = place.roomId === roomId ? place.seq : null;
  // Another thread replaces the open one.
  go(addressOf(roomId, at, seq), isOverlay() || place.thread !== null, place.thread === null || isThread());
}

/** Opens the thread of the message around which the room is shown, without a history step. It is not asked for anew. */
export function unfoldThread(roomId: RoomId, seq: number): void {
  const before = goneOn;
  go(addressOf(roomId, seq, seq), true);
  goneOn = before;
}

export function closeThread(): void {
  if (isThread() && !returning) {
    stepBack();
    return;
  }
  const { roomId, seq } = placeInAddress();
  if (roomId !== null) go(addressOf(roomId, seq), true);
}

/** Handles a click on a link to our own address; the browser handles clicks that open another tab or window. */
export function follow(event: MouseEvent<HTMLAnchorElement>): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(event.currentTarget.hash, isOverlay());
}

/** `thread`: this step opened a thread, so closing it goes back. */
function go(hash: string, replace: boolean, thread = false) {
  // A closed overlay's step back ends a moment later, and would undo this one.
  if (returning) {
    addEventListener("popstate", () => go(hash, false, thread), { once: true });
    return;
  }
  if (location.hash !== hash) {
    if (replace) {
      // Safari carries out location.replace a moment later: an overlay that ends by it would step back first.
      history.replaceState(null, "", hash);
      dispatchEvent(new PopStateEvent("popstate"));
    } else location.hash = hash;
    if (thread) history.replaceState({ thread }, "");
  }
  // The browser reports a new address a moment later; until then typed text would reach the room before.
  dispatchEvent(new HashChangeEvent("hashchange"));
}

let leaving: ReturnType<typeof setTimeout> | undefined;
let returning = false;

/**
 * Makes an overlay a step of the history, so that "back" only closes it. Answers what to call when it is closed in any
 * other way. An overlay that replaces another one, and a room that is chosen in it, take over its step.
 */
export function enterOverlay(close: () => void): () => void {
  // The history outlives the page: no later one may take this step for its own.
  const state = { overlay: createNonce() };
  const onBack = () => {
    if (overlayOf(history.state) !== state.overlay) close();
  };
  const begin = () => {
    if (leaving !== undefined && isOverlay()) history.replaceState(state, "");
    else history.pushState(state, "");
    clearTimeout(leaving);
    leaving = undefined;
    addEventListener("popstate", onBack);
  };
  // The step back of the overlay before would close this one.
  if (returning) addEventListener("popstate", begin, { once: true });
  else begin();
  return () => {
    removeEventListener("popstate", begin);
    removeEventListener("popstate", onBack);
    leaving = setTimeout(() => {
      leaving = undefined;
      if (overlayOf(history.state) === state.overlay) stepBack();
    });
  };
}

function stepBack() {
  returning = true;
  addEventListener("popstate", () => (returning = false), { once: true });
  history.back();
}

function isThread(): boolean {
  return (history.state as { thread?: boolean } | null)?.thread === true;
}

function isOverlay(): boolean {
  return overlayOf(history.state) !== null;
}

function overlayOf(state: unknown): string | null {
  return (state as { overlay?: string } | null)?.overlay ?? null;
}
