import { mentionsOf, unreadOf, type RoomState } from "./room.ts";
import type { RoomsState } from "./rooms.ts";

/** Unread messages of all rooms that are not muted: all of them, and those that call for this user. */
type Unread = { all: number; calls: number };

/** How many unread messages of a room call for this user: all in a private room, mentions elsewhere. */
function callsIn(room: RoomState): number {
  if (room.notify === "nothing") return 0;
  return room.kind === "direct" ? unreadOf(room) : mentionsOf(room);
}

export function countUnread(state: RoomsState): Unread {
  const unread = { all: 0, calls: 0 };
  for (const room of state.rooms?.values() ?? []) {
    if (room.notify !== "nothing") unread.all += unreadOf(room);
    unread.calls += callsIn(room);
  }
  return unread;
}
