import type { RoomId, UserId } from "@hubbub/server/protocol";
import { useEffect, useRef } from "react";
import { directRoomWith } from "../../chat/state/rooms.ts";
import { goTo } from "../address.ts";
import { useOverlays } from "../overlays.ts";
import { useClient, useMe } from "../useChat.ts";

/**
 * The ways to open a room. Each closes the overlay. A room that comes after the user has gone on to something else is not
 * opened.
 */
export function useWays() {
  const chat = useClient();
  const me = useMe();
  const { open, close } = useOverlays();
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

  function wait(room: Promise<RoomId>) {
    open({ is: "opening", room, from: location.hash });
  }

  function join(roomId: RoomId) {
    wait(chat.joinRoom(roomId).then(() => roomId));
  }

  /** Opens the private room with somebody, which it creates if necessary. */
  function talkTo(userId: UserId) {
    const roomId = directRoomWith(chat.snapshot(), userId, me.id);
    if (roomId === undefined && userId !== me.id) {
      wait(chat.startPrivateRoom(userId));
      return;
    }
    close();
    if (roomId !== undefined) goTo(roomId);
  }

  return { enter, join, talkTo };
}
