import type { Message, RoomId } from "@hubbub/server/protocol";
import { cut } from "../../chat/cut.ts";
import { isAnsweredBy, type Answering } from "../../chat/state/outgoing.ts";
import { nameIn } from "../../chat/state/people.ts";
import { Cut, CutLine } from "../ui/Cut.tsx";
import { Icon } from "../ui/Icon.tsx";
import { useSaid } from "../useBlocks.ts";
import { useAsChanged, useChat } from "../useChat.ts";
import css from "./Quote.module.css";

const LINE_MOST = 160;
const NOTHING = { message: "" };

type Props = {
  roomId: RoomId;
  seq: number;
  onJump: (seq: number) => void;
  /** Opens the answer's thread; undefined if that is open. */
  onThread: (() => void) | undefined;
};

/** The message that this one answers: its first line as it is now, with links to it and to their thread. */
export function Quote({ roomId, seq, onJump, onThread }: Props) {
  const quoted = useQuoted(roomId, { replyTo: seq });
  const line = useLine(quoted);
  const name = useChat((state) => nameIn(state.users, quoted?.from, "…"));
  return (
    <div className={css.line}>
      <button type="button" className={css.quote} title="Go to the message" onClick={() => onJump(seq)}>
        <Icon name="reply" />
        {quoted === undefined ? (
          <span>An earlier message</span>
        ) : (
          <CutLine>
            <Cut half>
              <b>{name}</b>
            </Cut>{" "}
            <Cut>{line}</Cut>
          </CutLine>
        )}
      </button>
      {onThread && (
        <button type="button" className={css.thread} aria-label="Open thread" onClick={onThread}>
          Thread
        </button>
      )}
    </div>
  );
}

/** The message of the room that a text answers, if the log or the open thread has it. */
export function useQuoted(roomId: RoomId, answers: Answering | undefined): Message | undefined {
  const asChanged = useAsChanged();
  const quoted = useChat(({ rooms, thread, visit }) => {
    if (answers === undefined) return undefined;
    const isIt = (message: Message) => isAnsweredBy(answers, message);
    const apart = visit?.is === "apart" && visit.roomId === roomId ? visit.log.messages : [];
    const inLog = rooms?.get(roomId)?.log?.messages.find(isIt) ?? apart.find(isIt);
    if (inLog !== undefined || thread?.is !== "shown" || thread.roomId !== roomId) return inLog;
    return isIt(thread.root) ? thread.root : thread.answers.find(isIt);
  });
  return quoted === undefined ? undefined : asChanged(quoted);
}

/** The first line of a message, without marks; nothing of one that is not here. */
export function useLine(message: Message | undefined): string {
  const text = useSaid(message ?? NOTHING);
  if (message?.deleted !== undefined) return "Message deleted";
  return cut(text.trim().split("\n")[0] ?? "", LINE_MOST);
}
