import type { RoomId, RoomKind, UserId } from "../protocol.ts";

/**
 * What a room's id says of its kind. Nothing else decides by the shape of an id: `Rooms` knows the kind of each room,
 * and the wire tells it.
 */

export const GENERAL: RoomId = "0";

/** The rooms that are in the list of whoever signs up. */
export const FIRST_ROOMS: readonly RoomId[] = [GENERAL];

/** The two users of a private room, or null for any other room. */
export function pairOf(roomId: RoomId): [UserId, UserId] | null {
  const [one = "", other] = roomId.split(":");
  return other === undefined ? null : [one, other];
}

/** The one private room of two users, whoever asks. */
export function privateRoomId(one: UserId, other: UserId): RoomId {
  return Number(one) < Number(other) ? `${one}:${other}` : `${other}:${one}`;
}

/** Whether who is in a room stands in its records. Everybody is in General, and a private room's id says who. */
export function keepsRecords(roomId: RoomId): boolean {
  return roomId !== GENERAL && pairOf(roomId) === null;
}

/** A room's kind, by its id and by what is stored of it: nothing for an open room. What is unknown here is not open. */
export function kindOf(roomId: RoomId, stored: string | null): RoomKind {
  if (roomId === GENERAL) return "everyone";
  if (pairOf(roomId)) return "direct";
  return stored === null || stored === "open" ? "open" : "invite";
}
