import type { Message, RoomId } from "@hubbub/server/protocol";
import { useAsChanged, useChat } from "../useChat.ts";
import { Icon } from "../ui/Icon.tsx";
import css from "./Quote.module.css";

type Props = { roomId: RoomId; seq: number; onJump: (seq: number) => void };

/** What a message answers: a line of it as it is now, and the way to it. */
export function Quote({ roomId, seq, onJump }: Props) {
  const quoted = useQuoted(roomId, seq);
  const name = useChat((state) =>
    quoted === undefined ? "" : (state.users.get(quoted.from)?.username ?? "…"),
  );
  return (
    <button type="button" className={css.quote} onClick={() => onJump(seq)}>
      <Icon name="reply" />
      {quoted === undefined ? (
        <span>An earlier message</span>
      ) : (
        <>
          <b>{name}</b> <span>{lineOf(quoted)}</span>
        </>
      )}
    </button>
  );
}

export function useQuoted(roomId: RoomId, seq: number | undefined): Message | undefined {
  const asChanged = useAsChanged();
  const quoted = useChat((state) =>
    state.rooms?.get(roomId)?.log?.messages.find((message) => message.seq === seq),
  );
  return quoted === undefined ? undefined : asChanged(quoted);
}

/** The first line of a message. */
export function lineOf({ message, deleted }: Message): string {
  return deleted === undefined ? (message.trim().split("\n")[0] ?? "").slice(0, 160) : "Message deleted";
}
