import type { RoomId } from "@hubbub/server/protocol";
import { isFree, threadSlot } from "../../chat/drafts.ts";
import type { Stub, ThreadLine } from "../../chat/state/folding.ts";
import { nameIn } from "../../chat/state/people.ts";
import { showAtWhen, showWhen, useClock } from "../time.ts";
import { Cut, CutLine } from "../ui/Cut.tsx";
import { Icon } from "../ui/Icon.tsx";
import { useChat } from "../useChat.ts";
import { useLine, useQuoted } from "./Quote.tsx";
import css from "./ThreadButton.module.css";
import { enterThread } from "./threadWays.ts";

type Props = { roomId: RoomId; root: number; thread: ThreadLine | undefined };

/**
 * Shows how many answers a message has and who wrote the last one, or that this user has begun the first one, and opens
 * them: also once the message is deleted.
 */
export function ThreadButton({ roomId, root, thread }: Props) {
  useClock();
  const isBegun = useChat(({ drafts }) => !isFree(drafts, threadSlot(roomId, root)));
  const name = useNameOf(thread?.last.from ?? "");
  if (thread === undefined && !isBegun) return null;
  return (
    <button type="button" data-part="thread" className={css.thread} onClick={() => enterThread(roomId, root)}>
      <Icon name="thread" />
      <span>
        {thread === undefined ? (
          <b>Draft of a reply</b>
        ) : (
          <>
            <b>{thread.count === 1 ? "1 reply" : `${thread.count} replies`}</b>, last by <Cut>{name}</Cut>{" "}
            {showAtWhen(thread.last.date)}
          </>
        )}
      </span>
    </button>
  );
}

/** Opens answers that are folded into a thread that begins further up. */
export function ThreadStub({ roomId, stub }: { roomId: RoomId; stub: Stub }) {
  useClock();
  const { root, isNew, count, last } = stub;
  const name = useNameOf(last.from);
  const begun = useQuoted(roomId, { replyTo: root });
  const line = useLine(begun);
  const author = useChat((state) => nameIn(state.users, begun?.from, ""));
  const what = `${count} ${isNew ? "new " : ""}${count === 1 ? "reply" : "replies"}`;
  const when = showWhen(last.date);
  const where = begun === undefined ? "an earlier message" : `${author}: ${line}`;
  return (
    <button
      type="button"
      data-part="stub"
      className={css.stub}
      aria-label={`${what} to ${where}, last by ${name} ${when}`}
      onClick={() => enterThread(roomId, last.seq)}
    >
      <Icon name="thread" />
      <CutLine>
        <b>{what}</b>
        {begun === undefined ? (
          ` to ${where}`
        ) : (
          <>
            {" to "}
            <Cut half>{author}</Cut>
            {": "}
            <Cut>{line}</Cut>
          </>
        )}
      </CutLine>
      <span className={css.last}>
        <CutLine>
          <Cut>{name}</Cut>
          {` ${when}`}
        </CutLine>
      </span>
    </button>
  );
}

function useNameOf(userId: string): string {
  return useChat((state) => nameIn(state.users, userId, "somebody"));
}
