import type { Message, Presence, RoomId, UserId } from "@hubbub/server/protocol";
import {
  Fragment,
  useCallback,
  useEffect,
  useImperativeHandle,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  type Ref,
} from "react";
import { cut } from "../../chat/cut.ts";
import { folded, unfolded, type Folded } from "../../chat/state/folding.ts";
import type { Outgoing } from "../../chat/state/outgoing.ts";
import { compareMessages, placeOf, unreadOf, type Log, type RoomState } from "../../chat/state/room.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import type { Visit } from "../../chat/state/visit.ts";
import { nameIn } from "../../chat/state/people.ts";
import { mayTakeFocus, moveTo } from "../address.ts";
import { announce } from "../announce.tsx";
import { GROUP_MS, OutgoingMessages, StoredMessage } from "./Message.tsx";
import { createPlace, type Place } from "./place.ts";
import { rove, rowOf, rowWithFocus } from "./roving.ts";
import { ThreadStub } from "./ThreadButton.tsx";
import { useOverlays } from "../overlays.ts";
import { dayOf, showDay, useClock } from "../time.ts";
import { countOf } from "../ui/Badge.tsx";
import { Button } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { Icon } from "../ui/Icon.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useFailed } from "../ui/useFailed.ts";
import { toSaid } from "../useBlocks.ts";
import { useAsChanged, useChat, useClient, useMe } from "../useChat.ts";
import { useAttention } from "../useMedia.ts";
import css from "./MessageLog.module.css";

/** How many rows are shown at first; how many are added at a time; how many there may be. */
const ROWS_FIRST = 50;
const ROWS_STEP = 80;
const ROWS_MOST = 360;
/** At this many pixels from an end of the shown part it grows there. */
const NEAR_END = 900;
/** More messages at once are counted instead of read out. */
const ANNOUNCED_MOST = 10;
const NAME_WAITED_MS = 1_000;

export type MessageLogFace = {
  jump: () => void;
  page: (views: number) => void;
  /** Shows a message that is not among the shown ones. */
  show: (seq: number) => void;
};

type Props = {
  face: Ref<MessageLogFace>;
  room: RoomState;
  log: Log;
  waiting: readonly Outgoing[];
  title: string;
  /** The message that the user has jumped to. */
  visit: Visit | null;
  /** Whether the user has jumped to a message that is still to come: what is shown until then is nobody's choice. */
  awaited: boolean;
  /** Whether a thread covers it. */
  covered: boolean;
  onLatest: () => void;
  onEdit: (entry: Outgoing) => void;
  onReply: (message: Message) => void;
  /** Called when the element with the focus disappears. */
  onDone: () => void;
};

/**
 * The shown part of the log, by its first and last message. `bottom` null follows the newest message; `top` null shows
 * as many as at first.
 */
type Shown = { top: Message | null; bottom: Message | null };

/**
 * A room's messages. Only a bounded part of them is in the page: it grows at the end towards which the user scrolls,
 * and shrinks at the other one.
 */
export function MessageLog({
  face,
  room,
  log,
  waiting,
  title,
  visit,
  awaited,
  covered,
  onLatest,
  onEdit,
  onReply,
  onDone,
}: Props) {
  const chat = useClient();
  const me = useMe();
  const users = useChat((state) => state.users);
  const asChanged = useAsChanged();
  const attention = useAttention();
  // The log goes on, but its end is not loaded.
  const apart = visit?.is === "apart";
  const load = apart ? visit.load : room.load;
  const { failed, again } = useFailed(load);
  // Newer messages that are folded are shown as a sign in their place.
  const [since] = useState(room.read);
  const told = apart ? visit.threads : undefined;
  const fold = useMemo(
    () => (room.folded ? folded(log, apart ? Infinity : since, told) : unfolded(log, told)),
    [room.folded, log, apart, since, told],
  );
  const target = visit === null ? null : placeIn(fold, log, visit.seq);
  const [shown, setShown] = useState<Shown>(() => around(fold.messages, target, apart));
  const [atBottom, setAtBottom] = useState(visit === null);
  const scroller = useRef<HTMLDivElement>(null);
  const place = useRef<Place>(null);

  const { messages, threads, stubs } = fold;
  const to = shown.bottom === null ? messages.length : placeOf(messages, shown.bottom.seq) + 1;
  const from = shown.top === null ? Math.max(0, to - ROWS_FIRST) : placeOf(messages, shown.top.seq);
  const unread = unreadOf(room);
  const following = atBottom && shown.bottom === null;
  const watched = following && attention && !covered && !awaited;
  const divider = useDivider(room, me.id, watched);

  useLayoutEffect(() => {
    if (scroller.current === null) return undefined;
    const own = (place.current = createPlace(scroller.current));
    return own.end;
  }, []);
  useLayoutEffect(() => place.current?.hold());

  /** Notes where the user has scrolled to, and shows more of the log near its ends. */
  const look = useCallback(() => {
    const own = place.current;
    if (own === null || own.printed) return;
    const last = shown.bottom === null;
    own.moved(last);
    setAtBottom(own.atBottom);
    // The row with the focus stays in the page, however far its user scrolls: they may be writing in it.
    const kept = rowWithFocus(scroller.current);
    // Back at it, the rows above it can go.
    const spare = to - from - ROWS_MOST;
    const keep = (start: number, end: number) =>
      setShown(
        kept < 0
          ? part(messages, start, end, apart)
          : part(messages, Math.min(start, from + kept), Math.max(end, from + kept + 1), apart),
      );
    if (own.above < NEAR_END && from > 0) {
      const start = Math.max(0, from - ROWS_STEP);
      keep(start, Math.min(to, start + ROWS_MOST));
    } else if (own.above < NEAR_END && log.older && load === "idle") {
      void chat.loadOlder(room.id);
    } else if (own.below < NEAR_END && apart && to === messages.length) {
      if (load === "idle") void chat.loadNewer();
    } else if (own.below < NEAR_END && !last) {
      const end = Math.min(messages.length, to + ROWS_STEP);
      keep(Math.max(from, end - ROWS_MOST), end);
    } else if (own.below < NEAR_END && spare > 0 && kept >= spare) {
      keep(from + spare, to);
    } else if (own.atBottom && kept < 0 && shown.top !== null && to - from > ROWS_FIRST + ROWS_STEP) {
      setShown({ top: null, bottom: null });
    } else if ((!own.atBottom || kept >= 0) && shown.top === null && messages[from] !== undefined) {
      // Away from the bottom, new messages must not push the shown ones out.
      const isFull = !own.atBottom && kept < 0 && to - from >= ROWS_MOST;
      setShown({ top: messages[from], bottom: isFull ? (messages[to - 1] ?? null) : null });
    }
  }, [chat, room.id, load, apart, log.older, messages, from, to, shown]);

  // A loaded page may not fill the view, and then the user cannot scroll to request the next one.
  useEffect(look, [look]);

  useEffect(() => {
    if (!watched) return undefined;
    chat.watch(room.id);
    return () => chat.watch(null);
  }, [chat, room.id, watched]);

  const isVisit = visit !== null || awaited;
  const jump = useCallback(() => {
    if (isVisit) onLatest();
    place.current?.jump();
    setShown({ top: null, bottom: null });
    setAtBottom(true);
  }, [isVisit, onLatest]);
  /** Where to go once it is in the page. */
  const wanted = useRef<number | null>(null);
  const jumpTo = useCallback(
    (seq: number) => {
      const at = messages.findIndex((message) => message.seq === seq);
      if (at < 0 || stubs.has(seq)) {
        moveTo(room.id, seq);
        return;
      }
      wanted.current = seq;
      setShown(part(messages, at - ROWS_FIRST, at + ROWS_FIRST, apart));
    },
    [messages, stubs, room.id, apart],
  );
  useImperativeHandle(face, () => ({
    jump,
    page(views) {
      place.current?.page(views);
    },
    show(seq) {
      if (rowOf(scroller.current, seq) === null) jumpTo(seq);
    },
  }));
  useLayoutEffect(() => {
    const row = wanted.current === null ? null : rowOf(scroller.current, wanted.current);
    if (row === null) return;
    wanted.current = null;
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  });

  // New messages are read out, even while the user reads old ones.
  useAnnouncements(room.log?.messages, title, me.id, users);
  useEffect(() => {
    if (target !== null && mayTakeFocus()) rowOf(scroller.current, target)?.focus({ preventScroll: true });
  }, [target]);
  useClock();

  const lastMine = waiting.length > 0 ? undefined : messages.findLast((message) => message.from === me.id);
  const begins = from === 0 && !log.older;
  const rows = arrange(fold, log.older, from, to, divider).map(({ message: stored, day, isNew, first }) => {
    const stub = stubs.get(stored.seq);
    const message = asChanged(stored);
    const mine = message.from === me.id;
    const key = stub === undefined ? keyOf(message, mine) : `thread ${stub.root}`;
    return (
      <Fragment key={key}>
        {day && <DayLine roomId={room.id} date={message.date} />}
        {isNew && (
          <li className={classes(css.line, css.new)} aria-label="New messages">
            <span>New</span>
          </li>
        )}
        <li
          data-key={key}
          {...(message.seq === target && {
            "data-target": true,
            className: css.target,
          })}
        >
          {stub === undefined ? (
            <StoredMessage
              message={message}
              name={nameIn(users, message.from, `user ${message.from}`)}
              mine={mine}
              first={first}
              sent={stored === lastMine && stored === messages.at(-1)}
              onReply={onReply}
              onJump={jumpTo}
              onDone={onDone}
              thread={threads.get(message.seq)}
            />
          ) : (
            <ThreadStub roomId={room.id} stub={stub} />
          )}
        </li>
      </Fragment>
    );
  });

  return (
    <div className={css.frame}>
      {/* oxlint-disable jsx-a11y/no-noninteractive-tabindex, jsx-a11y/no-noninteractive-element-interactions -- what scrolls must be scrollable with the keys, which also go from message to message */}
      <div
        ref={scroller}
        className={css.log}
        role="log"
        aria-live="off"
        aria-label={`Messages in ${title}`}
        tabIndex={0}
        onScroll={look}
        onFocus={look}
        onKeyDown={(event) =>
          rove(event, scroller.current, () => document.getElementById("composer")?.focus())
        }
      >
        {/* oxlint-enable jsx-a11y/no-noninteractive-tabindex, jsx-a11y/no-noninteractive-element-interactions */}
        <div className={css.inside}>
          {begins ? (
            <Beginning room={room} title={title} empty={messages.length + waiting.length === 0} />
          ) : (
            <div className={css.older}>
              {failed ? (
                <Button busy={load === "loading"} onClick={() => again(() => chat.loadOlder(room.id))}>
                  Older messages could not be loaded. Try again
                </Button>
              ) : (
                <Spinner label="Loading older messages" />
              )}
            </div>
          )}
          <ol>
            {rows}
            {shown.bottom === null && !apart && (
              <OutgoingMessages
                entries={waiting}
                before={messages.at(-1)?.from === me.id ? messages.at(-1)?.date : undefined}
                onEdit={onEdit}
                onDone={onDone}
              />
            )}
          </ol>
          {apart && (
            <div className={css.older}>
              {failed ? (
                <Button busy={load === "loading"} onClick={() => again(() => chat.loadNewer())}>
                  Newer messages could not be loaded. Try again
                </Button>
              ) : (
                <Spinner label="Loading newer messages" />
              )}
            </div>
          )}
        </div>
      </div>
      {!following && (
        <button
          type="button"
          data-part="latest"
          className={css.latest}
          onClick={() => {
            jump();
            onDone();
          }}
        >
          <Icon name="down" />
          {unread > 0 ? `Jump to latest (${countOf(unread)})` : "Jump to latest"}
        </button>
      )}
    </div>
  );
}

type Users = ReadonlyMap<UserId, Presence>;

type Row = { message: Message; day: boolean; isNew: boolean; first: boolean };

/**
 * The shown messages, each with what precedes it: a new day, the line that says "New", a new sender. While there are
 * older messages, what precedes the first loaded one is unknown, and nothing is shown: it may grow when they arrive,
 * but must not shrink, because at the very top there is nothing to scroll back by.
 */
function arrange(
  { messages, stubs }: Folded,
  older: boolean,
  from: number,
  to: number,
  divider: number | null,
): Row[] {
  const rows: Row[] = [];
  for (let at = from; at < to; at++) {
    const message = messages[at] as Message;
    const previous = messages[at - 1];
    if (previous === undefined) {
      const isNew = message.seq === (divider ?? -1) + 1;
      rows.push({ message, day: !older, isNew, first: !older || isNew });
      continue;
    }
    const isNew = divider !== null && message.seq > divider && previous.seq <= divider;
    const day = dayOf(previous.date) !== dayOf(message.date);
    const pause = message.date - previous.date > GROUP_MS;
    const follows = previous.from === message.from && !stubs.has(previous.seq);
    rows.push({ message, day, isNew, first: day || isNew || pause || !follows });
  }
  return rows;
}

/** The part to show first: the end of the log, or the messages around one. */
function around(messages: readonly Message[], target: number | null, apart: boolean): Shown {
  if (target === null) return { top: null, bottom: null };
  const at = messages.findIndex(({ seq }) => seq === target);
  return part(messages, at - ROWS_FIRST / 2, at + ROWS_FIRST / 2, apart);
}

/** The messages from `start` up to `end`, as far as there are any. The end of a log that is loaded is followed. */
function part(messages: readonly Message[], start: number, end: number, apart: boolean): Shown {
  const isEnd = end >= messages.length && !apart;
  return {
    top: messages[Math.max(0, start)] ?? null,
    bottom: isEnd ? null : (messages[Math.min(messages.length, end) - 1] ?? null),
  };
}

/** The seq of the row that shows a message: its own; if it is folded, its thread's first message, or the row before. */
function placeIn({ messages, stubs }: Folded, log: Log, seq: number): number {
  const isShown = (one: number) => messages.some((message) => message.seq === one && !stubs.has(one));
  const root = log.messages.find((message) => message.seq === seq)?.thread;
  if (isShown(seq) || root === undefined) return seq;
  if (isShown(root)) return root;
  return (messages.findLast((message) => message.seq <= seq) ?? messages[0])?.seq ?? seq;
}

/** The same key for a message on its way and once it is stored, so that it stays the same row. */
function keyOf(message: Message, mine: boolean): string {
  return (mine ? message.nonce : undefined) ?? String(message.seq);
}

/**
 * The seq of the last message above the line that says "New", or null for none. The line appears once there is an
 * unread message that the user was not looking at, or marked as unread. It stays until the user leaves the room or
 * writes below it, or until it appears elsewhere.
 */
function useDivider(room: RoomState, me: UserId, watched: boolean): number | null {
  const [divider, setDivider] = useState(() => (unreadOf(room) > 0 ? room.read : null));
  const [heard, setHeard] = useState(room.seq);
  const [read, setRead] = useState(room.read);
  if (room.read !== read) {
    setRead(room.read);
    if (room.read < read) setDivider(room.read);
  }
  if (room.seq !== heard) {
    setHeard(room.seq);
    const answered = room.last?.from === me && room.last.seq === room.seq;
    if (answered) setDivider(null);
    else if (!watched && room.seq > heard && (divider === null || room.read >= heard)) setDivider(room.read);
  }
  return divider;
}

function DayLine({ roomId, date }: { roomId: RoomId; date: number }) {
  useClock();
  const { open } = useOverlays();
  return (
    <li data-part="day" className={css.line}>
      <button type="button" title="Jump to another day" onClick={() => open({ is: "date", roomId, date })}>
        <span>{showDay(date)}</span>
      </button>
    </li>
  );
}

/**
 * Reads others' new messages out, each once and in order: those that arrive while the room is open, never loaded ones.
 * Waits for a name that is not known yet. `log`: undefined until it has loaded.
 */
function useAnnouncements(log: readonly Message[] | undefined, title: string, me: UserId, users: Users) {
  /** Up to where messages were read out, or were there before. */
  const told = useRef(log);
  useEffect(() => {
    const messages = log ?? [];
    const since = told.current?.at(-1);
    function tell() {
      const at =
        since === undefined ? 0 : messages.findLastIndex((one) => compareMessages(one, since) <= 0) + 1;
      told.current = messages;
      const fresh = messages.slice(at).filter(({ from, deleted }) => from !== me && deleted === undefined);
      if (fresh.length > ANNOUNCED_MOST) announce(`${fresh.length} new messages in ${title}`);
      else
        for (const message of fresh) announce(`${nameIn(users, message.from)}: ${cut(toSaid(message), 200)}`);
    }
    if (told.current === undefined) told.current = log;
    if (told.current === log || messages.at(-1) === since) return undefined;
    if (messages.slice(-ANNOUNCED_MOST).every(({ from }) => users.has(from))) {
      tell();
      return undefined;
    }
    const timer = setTimeout(tell, NAME_WAITED_MS);
    return () => clearTimeout(timer);
  }, [log, title, me, users]);
}

function Beginning({ room, title, empty }: { room: RoomState; title: string; empty: boolean }) {
  const me = useMe();
  const partnerId = partnerOf(room, me.id);
  return (
    <div className={classes(css.beginning, empty && css.empty)}>
      <RoomSign title={title} partnerId={partnerId} general={room.kind === "everyone"} large />
      <h2>{partnerId === null ? `Welcome to ${title}` : title}</h2>
      <p>
        {partnerId !== null
          ? `This is where your conversation with ${title} begins. Nobody else can read it.`
          : room.kind === "everyone"
            ? "Everybody on this server is here. Say hello."
            : "This is the very beginning of the room. Say what it is for."}
      </p>
    </div>
  );
}
