import type { RoomId, RoomView } from "@hubbub/server/protocol";
import { wordsOf } from "../../chat/api.ts";
import { firstRoom } from "../../chat/state/rooms.ts";
import { goTo } from "../address.ts";
import { useOverlays } from "../overlays.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./RoomOptions.module.css";
import { titleOf } from "./titles.ts";

/** What this user can do with a room in their list. */
export function RoomOptions({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const me = useMe();
  const { open, close } = useOverlays();
  const tell = useNotice();
  const room = useChat((state) => state.rooms?.get(roomId));
  const users = useChat((state) => state.users);
  if (room === undefined) return null;
  const title = titleOf(room, me.id, users);
  const fail = (error: unknown) => tell(wordsOf(error));

  async function set(view: RoomView, done: string) {
    close();
    try {
      await chat.setView(roomId, view);
      if (view.hidden) goOn();
      tell(done);
    } catch (error) {
      fail(error);
    }
  }

  function goOn() {
    const first = firstRoom(chat.snapshot());
    if (first !== null && chat.snapshot().openRoom === roomId) goTo(first);
  }

  function askToLeave() {
    open({
      is: "question",
      title: `Leave ${title}?`,
      text: "You will not hear from the room any more. You can join it again whenever you like.",
      yes: "Leave room",
      no: "Stay",
      onYes: () => void chat.leaveRoom(roomId).then(goOn, fail),
    });
  }

  return (
    <Dialog title={title} onClose={close}>
      <div className={css.options}>
        <Button
          wide
          data-first
          icon="star"
          onClick={() =>
            void set(
              { favourite: !room.favourite },
              room.favourite ? `${title} is no favourite any more.` : `${title} is among your favourites.`,
            )
          }
        >
          {room.favourite ? "Remove from favourites" : "Add to favourites"}
        </Button>
        {room.kind === "direct" && (
          <Button
            wide
            icon="hide"
            onClick={() => void set({ hidden: true }, `${title} comes back with the next message.`)}
          >
            Hide until the next message
          </Button>
        )}
        {(room.kind === "open" || room.kind === "invite") && (
          <Button wide icon="exit" onClick={askToLeave}>
            Leave room
          </Button>
        )}
      </div>
    </Dialog>
  );
}
