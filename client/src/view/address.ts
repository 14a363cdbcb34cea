import { isRoomId, type RoomId } from "@hubbub/server/protocol";
import type { MouseEvent } from "react";

/**
 * What is shown: a room at its end or around a message, and beside it the thread that a message is in, at that message.
 */
export type Place = { roomId: RoomId | null; seq: number | null; thread: number | null };

const ADDRESS = /^#\/room\/([\d:]+)(?:\/([1-9]\d{0,14}))?(?:\/thread\/([1-9]\d{0,14}))?$/;

/**
 * The open room is in the page's address, so that reload, back and links work: `#/room/<id>`, with a message that it is
 * shown around `#/room/<id>/<seq>`, and either with `/thread/<seq>` behind it for a thread beside it.
 */
export function addressOf(roomId: RoomId, seq?: number | null, thread?: number | null): string {
  return [`#/room/${roomId}`, ...(seq ? [seq] : []), ...(thread ? ["thread", thread] : [])].join("/");
}

export function placeInAddress(): Place {
  const [, id, seq, thread] = ADDRESS.exec(location.hash) ?? [];
  if (!isRoomId(id)) return { roomId: null, seq: null, thread: null };
  return { roomId: id, seq: numberIn(seq), thread: numberIn(thread) };
}

function numberIn(digits: string | undefined): number | null {
  return digits === undefined ? null : Number(digits);
}

export function goTo(roomId: RoomId, seq?: number): void {
  go(addressOf(roomId, seq), isOverlay());
}

/** As `goTo`, without a step that "back" would return to. */
export function redirectTo(roomId: RoomId): void {
  go(addressOf(roomId), true);
}

/** Shows the open room elsewhere, at its end where no message is named, and leaves the thread beside it. */
export function moveTo(roomId: RoomId, seq?: number): void {
  const { thread } = placeInAddress();
  const replace = seq === undefined || isOverlay();
  go(addressOf(roomId, seq, thread), replace, replace && isThread());
}

/** Opens the thread that a message is in, beside what is shown of the room: a step that "back" returns from. */
export function openThread(roomId: RoomId, seq: number): void {
  const place = placeInAddress();
  const at = place.roomId === roomId ? place.seq : null;
  // Another thread takes the place of the one that is open.
  go(addressOf(roomId, at, seq), isOverlay() || place.thread !== null, place.thread === null || isThread());
}

/** Opens the thread of the message that the room is shown around, without a step of its own. */
export function unfoldThread(roomId: RoomId, seq: number): void {
  go(addressOf(roomId, seq, seq), true);
}

export function closeThread(): void {
  if (isThread() && !returning) {
    stepBack();
    return;
  }
  const { roomId, seq } = placeInAddress();
  if (roomId !== null) go(addressOf(roomId, seq), true);
}

/** What a click on a link to an address of ours does; one that asks for another tab or window is the browser's. */
export function follow(event: MouseEvent<HTMLAnchorElement>): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(event.currentTarget.hash, isOverlay());
}

/** `thread`: a thread has been opened in this step, so that closing it is going back. */
function go(hash: string, replace: boolean, thread = false) {
  // The step back that a closed overlay takes ends a moment later, and would undo this one.
  if (returning) {
    addEventListener("popstate", () => go(hash, false, thread), { once: true });
    return;
  }
  if (location.hash !== hash) {
    if (replace) location.replace(hash);
    else location.hash = hash;
    if (thread) history.replaceState({ thread }, "");
  }
  // The browser tells of a new address a moment later, and what is typed in that moment would reach the room before.
  dispatchEvent(new HashChangeEvent("hashchange"));
}

let overlays = 0;
let leaving: ReturnType<typeof setTimeout> | undefined;
let returning = false;

/**
 * Makes what lies over the page a step of the history, so that "back" closes it and does nothing else. Answers with
 * what to call when it is closed in any other way. One that takes another one's place takes its step as well, and so
 * does the room that is chosen in it.
 */
export function enterOverlay(close: () => void): () => void {
  const state = { overlay: ++overlays };
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
  // The step back of the one before would close this one.
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

function overlayOf(state: unknown): number | null {
  return (state as { overlay?: number } | null)?.overlay ?? null;
}
