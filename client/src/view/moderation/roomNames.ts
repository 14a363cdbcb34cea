import type { RoomId } from "@hubbub/server/protocol";
import type { ChatClient } from "../../chat/chat.ts";
import { titleOf } from "../rooms/titles.ts";
import { useChat, useMe } from "../useChat.ts";

/** The names of those rooms that are not this user's, where everybody may know them. */
export async function readRoomNames(
  chat: ChatClient,
  roomIds: readonly RoomId[],
): Promise<ReadonlyMap<RoomId, string>> {
  const mine = chat.snapshot().rooms;
  const names = new Map<RoomId, string>();
  const unknown = [...new Set(roomIds)].filter((id) => mine?.has(id) !== true);
  // A name that cannot be read now is not worth an error.
  const read = (id: RoomId) => chat.roomName(id).catch(() => undefined);
  await Promise.all(
    unknown.map(async (id) => {
      const name = await read(id);
      if (name !== undefined) names.set(id, name);
    }),
  );
  return names;
}

/** Tells what a room is called, this user's or one of those names. */
export function useRoomTitles(names: ReadonlyMap<RoomId, string> | undefined): (roomId: RoomId) => string {
  const me = useMe();
  const rooms = useChat((state) => state.rooms);
  const users = useChat((state) => state.users);
  return (roomId) => {
    const room = rooms?.get(roomId);
    if (room !== undefined) return titleOf(room, me.id, users);
    return names?.get(roomId) ?? "a room that you are not in";
  };
}
