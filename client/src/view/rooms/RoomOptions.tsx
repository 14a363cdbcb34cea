import { isNamed, type RoomId, type RoomView } from "@hubbub/server/protocol";
import { wordsOf } from "../../chat/api.ts";
import { firstRoom } from "../../chat/state/rooms.ts";
import { goTo } from "../address.ts";
import { useOverlays } from "../overlays.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog, Gone } from "../ui/Dialog.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import { PHONE, useMedia } from "../useMedia.ts";
import css from "./RoomOptions.module.css";
import { foldedInWords, titleOf } from "./titles.ts";

/** What this user can do with a room in their list. */
export function RoomOptions({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const me = useMe();
  const { open, close, ask } = useOverlays();
  const tell = useNotice();
  const room = useChat((state) => state.rooms?.get(roomId));
  const users = useChat((state) => state.users);
  // Elsewhere the room's head has them.
  const phone = useMedia(PHONE);
  if (room === undefined) return <Gone />;
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

  async function askToLeave() {
    const isSure = await ask({
      title: `Leave ${title}?`,
      text: "You will not hear from the room any more. You can join it again whenever you like.",
      yes: "Leave room",
      no: "Stay",
    });
    if (isSure) chat.leaveRoom(roomId).then(goOn, fail);
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
        {phone && (
          <>
            <Button
              wide
              icon="thread"
              aria-pressed={room.folded}
              onClick={() => void set({ folded: !room.folded }, foldedInWords(!room.folded))}
            >
              Fold replies into threads
            </Button>
            <Button wide icon="pin" onClick={() => open({ is: "pins", roomId })}>
              Pinned messages
            </Button>
            <Button
              wide
              icon={room.notify === "nothing" ? "mute" : "bell"}
              onClick={() => open({ is: "notifications", roomId })}
            >
              Notifications
            </Button>
          </>
        )}
        {room.kind === "direct" && (
          <Button
            wide
            icon="hide"
            onClick={() => void set({ hidden: true }, `${title} comes back with the next message.`)}
          >
            Hide until the next message
          </Button>
        )}
        {isNamed(room.kind) && (
          <Button wide icon="exit" onClick={() => void askToLeave()}>
            Leave room
          </Button>
        )}
      </div>
    </Dialog>
  );
}
