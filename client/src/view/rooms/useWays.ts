import type { RoomId, UserId } from "@hubbub/server/protocol";
import { wordsOf } from "../../chat/api.ts";
import { directRoomWith } from "../../chat/state/rooms.ts";
import { goTo } from "../address.ts";
import { useOverlays } from "../overlays.ts";
import { useNotice } from "../ui/Notices.tsx";
import { useClient, useMe } from "../useChat.ts";

/** The ways to open a room. Each closes the overlay, and says why if it fails. */
export function useWays() {
  const chat = useClient();
  const me = useMe();
  const { close } = useOverlays();
  const tell = useNotice();
  const fail = (error: unknown) => tell(wordsOf(error));

  function enter(roomId: RoomId, seq?: number) {
    close();
    goTo(roomId, seq);
  }

  function join(roomId: RoomId) {
    close();
    chat.joinRoom(roomId).then(() => goTo(roomId), fail);
  }

  /** Opens the private room with somebody, which it creates if necessary. */
  function talkTo(userId: UserId) {
    close();
    if (userId === me.id) return;
    const roomId = directRoomWith(chat.snapshot(), userId, me.id);
    if (roomId !== undefined) goTo(roomId);
    else chat.startPrivateRoom(userId).then((made) => goTo(made), fail);
  }

  return { enter, join, talkTo };
}
