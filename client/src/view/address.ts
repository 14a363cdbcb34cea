import { isRoomId, type RoomId } from "@hubbub/server/protocol";
import type { MouseEvent } from "react";

/** The open room is in the page's address, so that reload, back and links work: `#/room/<id>`. */
export function addressOf(roomId: RoomId): string {
  return `#/room/${roomId}`;
}

export function roomInAddress(): RoomId | null {
  const id = location.hash.replace(/^#\/room\//, "");
  return isRoomId(id) ? id : null;
}

export function goTo(roomId: RoomId): void {
  change(() => (location.hash = addressOf(roomId)));
}

/** As `goTo`, without a step that "back" would return to. */
export function redirectTo(roomId: RoomId): void {
  change(() => location.replace(addressOf(roomId)));
}

/** What a click on a link to an address of ours does; one that asks for another tab or window is the browser's. */
export function follow(event: MouseEvent<HTMLAnchorElement>): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const { hash } = event.currentTarget;
  change(() => (location.hash = hash));
}

/** The browser tells of a new address a moment later, and what is typed in that moment would reach the room before. */
function change(address: () => void) {
  address();
  dispatchEvent(new HashChangeEvent("hashchange"));
}
