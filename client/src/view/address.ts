import { isRoomId, type RoomId } from "@hubbub/server/protocol";

/** The open room is in the page's address, so that reload, back and links work: `#/room/<id>`. */
export function addressOf(roomId: RoomId): string {
  return `#/room/${roomId}`;
}

export function roomInAddress(): RoomId | null {
  const id = location.hash.replace(/^#\/room\//, "");
  return isRoomId(id) ? id : null;
}

export function goTo(roomId: RoomId | null): void {
  location.hash = roomId === null ? "#/" : addressOf(roomId);
}

/** As `goTo`, without a step that "back" would return to. */
export function redirectTo(roomId: RoomId): void {
  location.replace(addressOf(roomId));
}
