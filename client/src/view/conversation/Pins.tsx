import type { Message, RoomId } from "@hubbub/server/protocol";
import { useCallback, useEffect, useRef, useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import { nameIn } from "../../chat/state/people.ts";
import { useOverlays } from "../overlays.ts";
import { useWays } from "../rooms/useWays.ts";
import { showWhen, useClock } from "../time.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useAsChanged, useChat, useClient } from "../useChat.ts";
import { useAtReturn, useKnown } from "../useKnown.ts";
import css from "./Pins.module.css";
import { useLine } from "./Quote.tsx";

const NONE: readonly Message[] = [];

/** A room's pinned messages, the last one pinned first, each with a link to it. */
export function Pins({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const { close } = useOverlays();
  const [pins, setPins] = useState<readonly Message[] | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  const known = useKnown(pins ?? NONE).filter(({ pinned }) => pinned !== undefined);
  const shown = useRef(true);
  const load = useCallback(() => {
    chat.pins(roomId).then(
      (found) => shown.current && setPins(found.toReversed()),
      (error: unknown) => shown.current && setFault(wordsOf(error)),
    );
  }, [chat, roomId]);
  useAtReturn(load);

  useEffect(() => {
    shown.current = true;
    load();
    return () => {
      shown.current = false;
    };
  }, [load]);

  return (
    <Dialog title="Pinned messages" onClose={close}>
      {fault !== null && <p role="alert">{fault}</p>}
      {pins === null && fault === null && <Spinner label="Loading pinned messages" />}
      {pins !== null && known.length === 0 && (
        <p>Nothing is pinned here yet. Pin what everybody should find again.</p>
      )}
      <ul className={css.pins}>
        {known.map((message) => (
          <li key={message.seq}>
            <Pin message={message} />
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function Pin({ message: found }: { message: Message }) {
  useClock();
  const { enter } = useWays();
  const message = useAsChanged()(found);
  const name = useChat((state) => nameIn(state.users, message.from));
  const line = useLine(message);
  return (
    <button type="button" className={css.pin} onClick={() => enter(message.roomId, message.seq)}>
      <span className={css.who}>
        <b>{name}</b> {showWhen(message.date)}
      </span>
      <span className={css.text} dir="auto">
        {line}
      </span>
    </button>
  );
}
