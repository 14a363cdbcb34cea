import type { RoomId, UserId } from "@hubbub/server/protocol";
import { wordsOf } from "../../chat/api.ts";
import { directRoomWith } from "../../chat/state/rooms.ts";
import { goTo } from "../address.ts";
import { useOverlays } from "../overlays.ts";
import { useNotice } from "../ui/Notices.tsx";
import { useClient, useMe } from "../useChat.ts";

/** The ways into a room. Each closes what lies over the page, and tells why it cannot be gone. */
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

  /** To the private room with somebody, which is made where there is none. */
  function talkTo(userId: UserId) {
    close();
    if (userId === me.id) return;
    const roomId = directRoomWith(chat.snapshot(), userId, me.id);
    if (roomId !== undefined) goTo(roomId);
    else chat.startPrivateRoom(userId).then((made) => goTo(made), fail);
  }

  return { enter, join, talkTo };
}
