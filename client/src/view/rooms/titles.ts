import { GENERAL, isBlank, pairOf, type RoomId, type UserId } from "@hubbub/server/protocol";
import type { RoomState } from "../../chat/state/room.ts";

/** A room's name for this user: of a private room, who else is in it. */
export function titleOf(room: RoomState, me: UserId): string {
  const pair = pairOf(room.id);
  if (pair === null) return isBlank(room.names[0] ?? "") ? "Room" : (room.names[0] ?? "");
  return room.names[pair[0] === me ? 1 : 0] ?? "Somebody";
}

/** General, the named rooms by name, then the private ones, the one last spoken in first. */
export function orderRooms(rooms: ReadonlyMap<RoomId, RoomState> | null): RoomState[] {
  return [...(rooms?.values() ?? [])].toSorted((one, other) => {
    if (one.private !== other.private) return one.private ? 1 : -1;
    if (one.private) return (other.last?.date ?? Infinity) - (one.last?.date ?? Infinity) || byId(one, other);
    if (one.id === GENERAL) return -1;
    if (other.id === GENERAL) return 1;
    return (one.names[0] ?? "").localeCompare(other.names[0] ?? "") || byId(one, other);
  });
}

function byId(one: RoomState, other: RoomState): number {
  return one.id < other.id ? -1 : 1;
}
