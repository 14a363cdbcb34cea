import type { Message, RoomId } from "@hubbub/server/protocol";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef } from "react";
import { threadSlot } from "../../chat/drafts.ts";
import { nameIn } from "../../chat/state/people.ts";
import { isAnswerIn, isIn, type OpenThread } from "../../chat/state/thread.ts";
import { closeThread, mayTakeFocus, moveTo, openThread } from "../address.ts";
import { titleOf } from "../rooms/titles.ts";
import { dayOf, showDay, useClock } from "../time.ts";
import { Button, IconButton } from "../ui/Button.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { SkeletonLog } from "../ui/Skeleton.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useFailed } from "../ui/useFailed.ts";
import { useAsChanged, useChat, useClient, useMe } from "../useChat.ts";
import { NO_KEYBOARD } from "../useMedia.ts";
import { Composer, type ComposerFace } from "./Composer.tsx";
import { useEditLast } from "./EditMessage.tsx";
import { GROUP_MS, OutgoingMessages, StoredMessage } from "./Message.tsx";
import { createPlace, type Place } from "./place.ts";
import { rove, rowOf } from "./roving.ts";
import css from "./ThreadPane.module.css";
import { returnFocus } from "./threadWays.ts";

/** At this many pixels from the top older answers are loaded. */
const NEAR_TOP = 400;

type Props = { roomId: RoomId; covering: boolean };

/** A thread beside the conversation, or over it: its first message, its answers, and a composer. */
export function ThreadPane({ roomId, covering }: Props) {
  const me = useMe();
  const thread = useChat((state) => state.thread);
  const room = useChat((state) => state.rooms?.get(roomId));
  const title = useChat(({ users }) => (room === undefined ? "" : titleOf(room, me.id, users)));
  const pane = useRef<HTMLDivElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const tell = useNotice();
  useLayoutEffect(() => {
    const element = pane.current;
    return () => returnFocus(element);
  }, []);

  const isMissing = thread?.is === "missing";
  useEffect(() => {
    if (!isMissing) return;
    tell("That thread is not here.");
    closeThread();
  }, [isMissing, tell]);

  // An answer may have the focus already.
  useEffect(() => {
    if (pane.current?.contains(document.activeElement) === false && mayTakeFocus()) heading.current?.focus();
  }, []);

  if (thread === null || room === undefined) return null;
  // If it covers the conversation, which is then inert, it is the page's main part.
  const Heading = covering ? "h1" : "h2";
  return (
    // oxlint-disable-next-line jsx-a11y/prefer-tag-over-role -- it becomes the other without being drawn anew
    <div
      ref={pane}
      role={covering ? "main" : "complementary"}
      className={css.pane}
      data-part="thread-pane"
      aria-label="Thread"
    >
      <div className={css.head}>
        {covering && <IconButton icon="back" label="Back to the conversation" onClick={closeThread} />}
        <div className={css.title}>
          <Heading ref={heading} tabIndex={-1}>
            Thread
          </Heading>
          <p>in {title}</p>
        </div>
        {!covering && <IconButton icon="close" label="Close thread" onClick={closeThread} />}
      </div>
      {thread.is === "shown" ? (
        <Answers key={`${roomId} ${thread.root.seq}`} thread={thread} />
      ) : (
        <SkeletonLog />
      )}
    </div>
  );
}

function Answers({ thread }: { thread: OpenThread & { is: "shown" } }) {
  const { id, roomId, seq, root, answers, older, load } = thread;
  const chat = useClient();
  const me = useMe();
  const { failed, again } = useFailed(load);
  const users = useChat((state) => state.users);
  const asChanged = useAsChanged();
  const editLast = useEditLast("thread");
  const outgoing = useChat((state) => state.outgoing);
  const waiting = useMemo(
    () => outgoing.filter((entry) => entry.roomId === roomId && isAnswerIn(thread, entry)),
    [outgoing, roomId, thread],
  );
  const scroller = useRef<HTMLDivElement>(null);
  const composer = useRef<ComposerFace>(null);
  const place = useRef<Place>(null);
  useClock();

  useLayoutEffect(() => {
    if (scroller.current === null) return undefined;
    const own = (place.current = createPlace(scroller.current));
    return own.end;
  }, []);
  useLayoutEffect(() => place.current?.hold());

  const look = useCallback(() => {
    const own = place.current;
    if (own === null || own.printed) return;
    own.moved(true);
    if (own.above < NEAR_TOP && older && load === "idle") void chat.loadOlderAnswers();
  }, [chat, older, load]);
  useEffect(look, [look]);

  const isHere = isIn(thread, seq);
  const target = seq === root.seq ? null : seq;
  const gone = useRef<number>(undefined);
  useLayoutEffect(() => {
    if (!isHere || gone.current === id) return;
    gone.current = id;
    const row = target === null ? null : rowOf(scroller.current, target);
    if (row !== null) {
      place.current?.show(row);
      if (mayTakeFocus()) row.focus({ preventScroll: true });
    } else if (mayTakeFocus() && matchMedia(NO_KEYBOARD).matches) composer.current?.focus();
  }, [id, isHere, target]);

  const goTo = useCallback(
    (to: number) => {
      const row = rowOf(scroller.current, to);
      if (row === null) openThread(roomId, to);
      else {
        place.current?.show(row);
        row.focus({ preventScroll: true });
      }
    },
    [roomId],
  );
  const done = useCallback(() => composer.current?.focus(), []);
  const reply = useCallback(
    (message: Message) => {
      chat.answer(threadSlot(roomId, root.seq), message.seq === root.seq ? null : message);
      composer.current?.focus();
    },
    [chat, roomId, root.seq],
  );
  const nameOf = (userId: string) => nameIn(users, userId, `user ${userId}`);

  function draw(stored: Message, previous: Message | undefined) {
    const message = asChanged(stored);
    const mine = message.from === me.id;
    const day = previous !== undefined && dayOf(previous.date) !== dayOf(message.date);
    const pause = previous === undefined || message.date - previous.date > GROUP_MS;
    return (
      <li key={(mine ? message.nonce : undefined) ?? message.seq} data-key={message.seq}>
        {day && <p className={css.day}>{showDay(message.date)}</p>}
        <StoredMessage
          message={message}
          name={nameOf(message.from)}
          mine={mine}
          first={day || pause || previous?.from !== message.from || previous?.seq === root.seq}
          sent={false}
          place="thread"
          onReply={reply}
          onJump={goTo}
          onDone={done}
        />
      </li>
    );
  }

  const last = answers.at(-1);
  return (
    <>
      {/* oxlint-disable jsx-a11y/no-noninteractive-tabindex, jsx-a11y/no-noninteractive-element-interactions -- what scrolls must be scrollable with the keys, which also go from message to message */}
      <div
        ref={scroller}
        className={css.answers}
        role="log"
        aria-live="off"
        aria-label="Messages in the thread"
        tabIndex={0}
        onScroll={look}
        onKeyDown={(event) => rove(event, scroller.current)}
      >
        {/* oxlint-enable jsx-a11y/no-noninteractive-tabindex, jsx-a11y/no-noninteractive-element-interactions */}
        <div className={css.inside}>
          <ol>{draw(root, undefined)}</ol>
          <div className={css.count}>
            <span>{countOf(answers.length + waiting.length, older)}</span>
            <Button
              look="link"
              onClick={() => {
                if (document.querySelector("main[inert]") !== null) closeThread();
                moveTo(roomId, root.seq);
              }}
            >
              Show in the conversation
            </Button>
          </div>
          {older && (
            <div className={css.older}>
              {failed ? (
                <Button busy={load === "loading"} onClick={() => again(() => chat.loadOlderAnswers())}>
                  Older replies could not be loaded. Try again
                </Button>
              ) : (
                <Spinner label="Loading older replies" />
              )}
            </div>
          )}
          <ol>
            {answers.map((answer, at) => draw(answer, answers[at - 1] ?? root))}
            <OutgoingMessages
              entries={waiting}
              before={last?.from === me.id ? last.date : undefined}
              onEdit={(entry) => void chat.edit(entry)}
              onDone={done}
            />
          </ol>
        </div>
      </div>
      <Composer
        id="thread-composer"
        roomId={roomId}
        root={root}
        label="Reply in the thread"
        placeholder="Reply…"
        face={composer}
        onSent={() => place.current?.jump()}
        onEditLast={() => editLast([root, ...answers], waiting) !== null}
        onPage={(views) => place.current?.page(views)}
      />
    </>
  );
}

function countOf(count: number, older: boolean): string {
  if (count === 0) return "No replies yet";
  if (older) return `The last ${count} replies`;
  return count === 1 ? "1 reply" : `${count} replies`;
}
