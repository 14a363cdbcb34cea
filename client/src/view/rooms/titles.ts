import { isBlank, type RoomId, type UserId } from "@hubbub/server/protocol";
import { nameIn, type PeopleState } from "../../chat/state/people.ts";
import { isHidden, type RoomState } from "../../chat/state/room.ts";

type Named = Pick<RoomState, "kind" | "names" | "userIds">;

/** A room's name for this user; for a private room, what the other user is called. */
export function titleOf(room: Named, me: UserId, users: PeopleState["users"]): string {
  if (room.kind !== "direct") return isBlank(room.names[0] ?? "") ? "Room" : (room.names[0] ?? "");
  const partner = room.userIds.findIndex((id) => id !== me);
  return partner < 0 ? room.names.join(", ") : nameIn(users, room.userIds[partner], room.names[partner]);
}

/** What has changed once a room's replies are folded, or stand in the log again. */
export function foldedInWords(folded: boolean): string {
  return folded
    ? "Replies are folded into threads, on all your devices."
    : "Replies stand where they were said.";
}

/** As people count: Room 2 is before Room 10. */
const byName = new Intl.Collator(undefined, { numeric: true });

/** General, then named rooms by name, then private rooms by their newest message. */
export function orderRooms(rooms: ReadonlyMap<RoomId, RoomState> | null): RoomState[] {
  return [...(rooms?.values() ?? [])].toSorted((one, other) => {
    const isDirect = one.kind === "direct";
    if (isDirect !== (other.kind === "direct")) return isDirect ? 1 : -1;
    if (isDirect) return (other.last?.date ?? Infinity) - (one.last?.date ?? Infinity) || byId(one, other);
    if (one.kind === "everyone") return -1;
    if (other.kind === "everyone") return 1;
    return byName.compare(one.names[0] ?? "", other.names[0] ?? "") || byId(one, other);
  });
}

/** A user's list of rooms. A room that they have hidden is not in it, unless it is open. */
export function listRooms(rooms: ReadonlyMap<RoomId, RoomState> | null, openRoom: RoomId | null) {
  const shown = orderRooms(rooms).filter((room) => !isHidden(room) || room.id === openRoom);
  const others = shown.filter(({ favourite }) => !favourite);
  return {
    favourites: shown.filter(({ favourite }) => favourite),
    named: others.filter(({ kind }) => kind !== "direct"),
    direct: others.filter(({ kind }) => kind === "direct"),
  };
}

function byId(one: RoomState, other: RoomState): number {
  return one.id < other.id ? -1 : 1;
}
