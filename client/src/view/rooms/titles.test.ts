import type { Room, RoomKind } from "@hubbub/server/protocol";
import { describe, expect, it } from "vitest";
import { orderRooms, titleOf } from "./titles.ts";
import { apply, initialState, type ChatState } from "../../chat/state/state.ts";
import { directRoomWith, firstRoom, partnerOf } from "../../chat/state/rooms.ts";

const ME = "7";

function room(id: string, kind: RoomKind, names: string[], userIds?: [string, string]): Room {
  const told = { id, kind, names, private: kind === "direct", last: null, seq: 0, read: 0, unread: 0 };
  return userIds ? { ...told, userIds } : told;
}

/** Ids that say nothing of a room's kind. */
const ROOMS = [
  room("a", "direct", ["me", "Zoe"], [ME, "9"]),
  room("b", "open", ["Workshop"]),
  room("c", "direct", ["Ann", "me"], ["3", ME]),
  room("d", "everyone", ["General"]),
  room("e", "invite", ["Back room"]),
];

function listed(rooms: Room[]): ChatState {
  return apply(initialState, { type: "rooms", rooms });
}

describe("rooms with opaque ids", () => {
  const state = listed(ROOMS);
  const known = (id: string) => {
    const one = state.rooms?.get(id);
    if (one === undefined) throw new Error(`no room ${id}`);
    return one;
  };

  it("get their partners and titles from the given users", () => {
    expect(["a", "b", "c", "d"].map((id) => partnerOf(known(id), ME))).toEqual(["9", null, "3", null]);
    expect(["a", "b", "c", "d"].map((id) => titleOf(known(id), ME, state.users))).toEqual([
      "Zoe",
      "Workshop",
      "Ann",
      "General",
    ]);
    const zoe = { id: "9", username: "Zoe", displayName: "Zoe Z.", online: true };
    const { users } = apply(state, { type: "users", users: [zoe] });
    expect(titleOf(known("a"), ME, users)).toBe("Zoe Z.");
    expect([directRoomWith(state, "3", ME), directRoomWith(state, "4", ME)]).toEqual(["c", undefined]);
  });

  it("are in the order of their kinds, and the one for everybody opens first", () => {
    expect(orderRooms(state.rooms).map(({ id }) => id)).toEqual(["d", "e", "b", "a", "c"]);
    expect(firstRoom(state)).toBe("d");
    expect(firstRoom(initialState)).toBeNull();
  });

  it("count in their names as people do", () => {
    const names = ["Team 10", "Team 2", "team 1"];
    const { rooms } = listed(names.map((name, at) => room(`${at}`, "open", [name])));
    expect(orderRooms(rooms).map(({ names: [name] }) => name)).toEqual(["team 1", "Team 2", "Team 10"]);
  });

  it("change their kind if the server says so", () => {
    const changed = apply(state, { type: "room", room: room("b", "invite", ["Workshop"]) });
    expect(changed.rooms?.get("b")?.kind).toBe("invite");
  });
});

it("rooms without a kind, from a server of the previous version, are shown by their other fields", () => {
  const old = ROOMS.map((told) => ({ ...told, kind: undefined, userIds: undefined }) as unknown as Room);
  const state = listed([old[3] as Room, ...old]);
  const kinds = [...(state.rooms?.values() ?? [])].map(({ id, kind }) => `${id} ${kind}`);
  expect(kinds.toSorted()).toEqual(["a direct", "b open", "c direct", "d open", "e open"]);
  expect(firstRoom(state)).toBe("d");
  expect(titleOf(state.rooms?.get("a") as never, ME, state.users)).toBe("me, Zoe");
});
