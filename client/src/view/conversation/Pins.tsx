import type { Message, RoomId } from "@hubbub/server/protocol";
import { useCallback } from "react";
import { nameIn } from "../../chat/state/people.ts";
import { MessagesDialog } from "../finding/MessagesDialog.tsx";
import { useWays } from "../rooms/useWays.ts";
import { showWhen, useClock } from "../time.ts";
import { useAsChanged, useChat, useClient } from "../useChat.ts";
import css from "./Pins.module.css";
import { useLine } from "./Quote.tsx";

/** A room's pinned messages, the last one pinned first, each with a link to it. */
export function Pins({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const read = useCallback(
    async (cursor: number | undefined) => {
      const page = await chat.pins(roomId, cursor);
      return { messages: page.messages.toReversed(), next: page.cursor };
    },
    [chat, roomId],
  );
  return (
    <MessagesDialog
      key={roomId}
      title="Pinned messages"
      className={css.pins}
      read={read}
      belongs={({ pinned }) => pinned !== undefined}
      empty="Nothing is pinned here yet. Pin what everybody should find again."
    >
      {(message) => <Pin message={message} />}
    </MessagesDialog>
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
