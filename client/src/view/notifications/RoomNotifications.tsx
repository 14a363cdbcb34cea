import type { NotifyLevel, RoomId } from "@hubbub/server/protocol";
import { useRef, useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import { useOverlays } from "../overlays.ts";
import { titleOf } from "../rooms/titles.ts";
import { Button } from "../ui/Button.tsx";
import { Choices } from "../ui/Choices.tsx";
import { Dialog, Gone } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./RoomNotifications.module.css";

const LEVELS: readonly { value: NotifyLevel; words: string; note: string }[] = [
  { value: "all", words: "All messages", note: "Tell me of each of them." },
  { value: "mentions", words: "Mentions", note: "Tell me of those that name me." },
  { value: "nothing", words: "Nothing", note: "Muted: it does not count as unread in the tab either." },
];

/** Chooses which of a room's messages notify the user, and asks the browser for permission. */
export function RoomNotifications({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const me = useMe();
  const { close } = useOverlays();
  const room = useChat((state) => state.rooms?.get(roomId));
  const users = useChat((state) => state.users);
  const [allowed, setAllowed] = useState(chat.notificationsAllowed);
  const [fault, setFault] = useState<string>();
  /** Shown at once, before the answer comes. */
  const [chosen, setChosen] = useState<NotifyLevel | null>(null);
  const choices = useRef(0);
  if (room === undefined) return <Gone />;
  const current = chosen ?? room.notify;

  function choose(level: NotifyLevel) {
    setFault(undefined);
    setChosen(level);
    const number = (choices.current += 1);
    // The last choice counts.
    const isLast = () => choices.current === number;
    chat
      .setNotify(roomId, level)
      .catch((error: unknown) => isLast() && setFault(wordsOf(error)))
      .finally(() => isLast() && setChosen(null));
  }

  return (
    <Dialog title="Notifications" onClose={close}>
      <Choices
        legend={`When something is said in ${titleOf(room, me.id, users)}`}
        value={current}
        choices={LEVELS}
        onChoose={choose}
        first
      />
      {fault !== undefined && <Fault>{fault}</Fault>}
      {allowed === "default" && (
        <p className={css.desktop}>
          <span>This browser does not show notifications of Hubbub yet.</span>
          <Button onClick={() => void chat.allowNotifications().then(setAllowed)}>Show them</Button>
        </p>
      )}
      {allowed === "denied" && (
        <p className={css.desktop}>
          Your browser blocks notifications of Hubbub. You can allow them in its settings for this site.
        </p>
      )}
    </Dialog>
  );
}
