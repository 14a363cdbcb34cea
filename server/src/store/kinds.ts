import type { RoomId, RoomKind, UserId } from "../protocol.ts";

/**
 * What a room's id says about its kind. Nothing else decides by the shape of an id: `Rooms` knows the kind of each
 * room, and the wire carries it.
 */

export const GENERAL: RoomId = "0";

/** The rooms in a new user's list. */
export const FIRST_ROOMS: readonly RoomId[] = [GENERAL];

/** The two users of a private room, or null for any other room. */
export function pairOf(roomId: RoomId): [UserId, UserId] | null {
  const colon = roomId.indexOf(":");
  return colon < 0 ? null : [roomId.slice(0, colon), roomId.slice(colon + 1)];
}

/** The private room of two users, in either order. */
export function privateRoomId(one: UserId, other: UserId): RoomId {
  return Number(one) < Number(other) ? `${one}:${other}` : `${other}:${one}`;
}

/** Whether the room's records say who is in it. Everybody is in General, and a private room's id names its two. */
export function keepsRecords(roomId: RoomId): boolean {
  return roomId !== GENERAL && pairOf(roomId) === null;
}

/** A room's kind, by its id and its stored kind. One that is lost, or unknown to this version, is not open. */
export function kindOf(roomId: RoomId, stored: string | null): RoomKind {
  if (roomId === GENERAL) return "everyone";
  if (pairOf(roomId)) return "direct";
  return stored === "open" ? "open" : "invite";
}
