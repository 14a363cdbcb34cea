import type { ManagedRoom } from "@hubbub/server/protocol";
import { settingsOf, type RoomState } from "../../chat/state/room.ts";

/** What is shown of a room, also of one that this user manages without being in it. */
export type DetailedRoom = Pick<RoomState, "id" | "kind" | "names" | "userIds" | "standing" | "settings">;

/** A room that this user manages as an admin of the server. */
export function detailsOf(room: Omit<ManagedRoom, "members" | "joined">): DetailedRoom {
  const { id, kind, name } = room;
  return { id, kind, names: [name], userIds: [], standing: { role: "owner" }, settings: settingsOf(room) };
}
