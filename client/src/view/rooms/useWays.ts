import type { RoomId, UserId } from "@hubbub/server/protocol";
import { useEffect, useRef } from "react";
import { wordsOf } from "../../chat/api.ts";
import { directRoomWith } from "../../chat/state/rooms.ts";
import { goTo } from "../address.ts";
import { useOverlays } from "../overlays.ts";
import { useNotice } from "../ui/Notices.tsx";
import { useClient, useMe } from "../useChat.ts";

/**
 * The ways to open a room. Each closes the overlay, and says why if it fails. What comes after the user has gone on to
 * something else takes them nowhere.
 */
export function useWays() {
  const chat = useClient();
  const me = useMe();
  const { close } = useOverlays();
  const tell = useNotice();
  const fail = (error: unknown) => tell(wordsOf(error));
  const shown = useRef(true);
  useEffect(() => {
    shown.current = true;
    return () => {
      shown.current = false;
    };
  }, []);

  function enter(roomId: RoomId, seq?: number) {
    // What was waited for may come when its dialog is closed, and another one open.
    if (!shown.current) return;
    close();
    goTo(roomId, seq);
  }

  function join(roomId: RoomId) {
    close();
    void follow(chat.joinRoom(roomId).then(() => roomId));
  }

  /** Goes to a room once it is there, unless the user has gone elsewhere meanwhile. */
  async function follow(coming: Promise<RoomId>): Promise<void> {
    const from = location.hash;
    try {
      const roomId = await coming;
      if (location.hash === from) goTo(roomId);
    } catch (error) {
      fail(error);
    }
  }

  /** Opens the private room with somebody, which it creates if necessary. */
  function talkTo(userId: UserId) {
    close();
    if (userId === me.id) return;
    const roomId = directRoomWith(chat.snapshot(), userId, me.id);
    if (roomId !== undefined) goTo(roomId);
    else void follow(chat.startPrivateRoom(userId));
  }

  return { enter, join, talkTo };
}
