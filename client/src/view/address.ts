import { isRoomId, type RoomId } from "@hubbub/server/protocol";
import type { MouseEvent } from "react";

/**
 * The open room is in the page's address, so that reload, back and links work: `#/room/<id>`, or with a message that it
 * is shown around `#/room/<id>/<seq>`.
 */
export function addressOf(roomId: RoomId, seq?: number): string {
  return seq === undefined ? `#/room/${roomId}` : `#/room/${roomId}/${seq}`;
}

export function placeInAddress(): { roomId: RoomId | null; seq: number | null } {
  const [, id, number] = /^#\/room\/([\d:]+)(?:\/([1-9]\d{0,14}))?$/.exec(location.hash) ?? [];
  if (!isRoomId(id)) return { roomId: null, seq: null };
  return { roomId: id, seq: number === undefined ? null : Number(number) };
}

export function goTo(roomId: RoomId, seq?: number): void {
  go(addressOf(roomId, seq), isOverlay());
}

/** As `goTo`, without a step that "back" would return to. */
export function redirectTo(roomId: RoomId): void {
  go(addressOf(roomId), true);
}

/** What a click on a link to an address of ours does; one that asks for another tab or window is the browser's. */
export function follow(event: MouseEvent<HTMLAnchorElement>): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(event.currentTarget.hash, isOverlay());
}

function go(hash: string, replace: boolean) {
  // The step back that a closed overlay takes ends a moment later, and would undo this one.
  if (returning) {
    addEventListener("popstate", () => go(hash, false), { once: true });
    return;
  }
  if (location.hash !== hash) {
    if (replace) location.replace(hash);
    else location.hash = hash;
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
  if (leaving !== undefined && isOverlay()) history.replaceState(state, "");
  else history.pushState(state, "");
  clearTimeout(leaving);
  leaving = undefined;
  const onBack = () => {
    if (overlayOf(history.state) !== state.overlay) close();
  };
  addEventListener("popstate", onBack);
  return () => {
    removeEventListener("popstate", onBack);
    leaving = setTimeout(() => {
      leaving = undefined;
      if (overlayOf(history.state) !== state.overlay) return;
      returning = true;
      addEventListener("popstate", () => (returning = false), { once: true });
      history.back();
    });
  };
}

function isOverlay(): boolean {
  return overlayOf(history.state) !== null;
}

function overlayOf(state: unknown): number | null {
  return (state as { overlay?: number } | null)?.overlay ?? null;
}
