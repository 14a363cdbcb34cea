import type { Room, RoomId } from "@hubbub/server/protocol";
import type { Api } from "./api.ts";
import { isHidden } from "./state/room.ts";
import type { Chat } from "./store.ts";

type Needs = { chat: Chat; api: Api; showRoom: (room: Room) => void };

/** A hidden room that the user opens is in their list again, in all their windows. */
export function createHiding({ chat, api, showRoom }: Needs) {
  /** A room that was opened before it was known whether it is hidden. */
  let opened: RoomId | null = null;

  function look(): void {
    const room = opened === null ? undefined : chat.state.rooms?.get(opened);
    if (room === undefined) return;
    opened = null;
    // If this fails, the room is shown while it is open, and is tried again when it is opened again.
    if (isHidden(room)) api.view(room.id, { hidden: false }).then(showRoom, () => {});
  }

  return {
    /** The user has opened this room, and no other. */
    opened(roomId: RoomId | null): void {
      opened = roomId;
      look();
    },
    /** The state has changed. */
    look,
  };
}
