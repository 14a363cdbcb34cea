import type { Message } from "@hubbub/server/protocol";
import { useCallback, useEffect, useRef, useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import { cut } from "../../chat/cut.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { useOverlays } from "../overlays.ts";
import { titleOf } from "../rooms/titles.ts";
import { nameIn } from "../../chat/state/people.ts";
import { useWays } from "../rooms/useWays.ts";
import { showFull, showWhen, useClock } from "../time.ts";
import { Button } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useSaid } from "../useBlocks.ts";
import { useAsChanged, useChat, useClient, useMe } from "../useChat.ts";
import { useAtReturn, useKnown } from "../useKnown.ts";
import css from "./Mentions.module.css";

const TEXT_MOST = 300;

/** The messages that mention this user in all their rooms, newest first, each with a link to it. */
export function Mentions() {
  const { close } = useOverlays();
  const rooms = useChat((now) => now.rooms);
  const { messages: all, more, state, fault, load } = useMentions();
  const messages = useKnown(all).filter((message) => rooms?.has(message.roomId));
  return (
    <Dialog title="Mentions" onClose={close}>
      {messages.length > 0 && (
        <ul className={css.mentions}>
          {messages.map((message) => (
            <li key={`${message.roomId} ${message.seq}`}>
              <Mention message={message} />
            </li>
          ))}
        </ul>
      )}
      {state === "loading" && <Spinner label="Loading mentions" />}
      {state === "idle" && messages.length === 0 && (
        <p>Nobody has named you yet. What is said with your name after an @ is found here.</p>
      )}
      {fault !== null && <Fault>{fault}</Fault>}
      {state === "failed" && <Button onClick={() => void load()}>Try again</Button>}
      {state === "idle" && more && <Button onClick={() => void load()}>Show older ones</Button>}
    </Dialog>
  );
}

function Mention({ message: found }: { message: Message }) {
  useClock();
  const me = useMe();
  const { enter } = useWays();
  const message = useAsChanged()(found);
  const { roomId, seq, date, deleted } = message;
  const text = useSaid(message);
  const room = useChat((state) => state.rooms?.get(roomId));
  const name = useChat((state) => nameIn(state.users, message.from));
  const title = useChat(({ users }) => (room === undefined ? "Room" : titleOf(room, me.id, users)));
  const partnerId = room === undefined ? null : partnerOf(room, me.id);
  const isUnread = room !== undefined && seq > room.read;
  return (
    <button
      type="button"
      className={classes(css.mention, isUnread && css.unread)}
      onClick={() => enter(roomId, seq)}
    >
      <RoomSign title={title} partnerId={partnerId} general={room?.kind === "everyone"} />
      <span className={css.what}>
        <span className={css.where}>
          <span>
            <b>
              <bdi>{name}</bdi>
            </b>{" "}
            in <bdi>{title}</bdi>
          </span>
          {isUnread && <span className="hidden">, unread</span>}
          <time dateTime={new Date(date).toISOString()} title={showFull(date)}>
            {showWhen(date)}
          </time>
        </span>
        <span data-part="text" className={css.text} dir="auto">
          {deleted === undefined ? cut(text, TEXT_MOST) : "Message deleted"}
        </span>
      </span>
    </button>
  );
}

type State = "loading" | "idle" | "failed";

/** The list, loaded in pages from the newest one on. */
function useMentions() {
  const chat = useClient();
  const [messages, setMessages] = useState<readonly Message[]>([]);
  const [more, setMore] = useState(true);
  const [state, setState] = useState<State>("loading");
  const [fault, setFault] = useState<string | null>(null);
  const shown = useRef(true);
  /** How often the list was begun: an older page follows only the list for which it was asked. */
  const begun = useRef(0);
  const before = messages.at(-1)?.date;

  const load = useCallback(async () => {
    const asked = begun.current;
    const isOver = () => !shown.current || begun.current !== asked;
    setState("loading");
    setFault(null);
    try {
      const page = await chat.mentions(before);
      if (isOver()) return;
      setMessages((known) => [...known, ...page.messages]);
      setMore(page.more);
      setState("idle");
    } catch (error) {
      if (isOver()) return;
      setFault(wordsOf(error));
      setState("failed");
    }
  }, [chat, before]);

  const first = useRef(load);
  useEffect(() => {
    shown.current = true;
    void first.current();
    return () => {
      shown.current = false;
    };
  }, []);
  useAtReturn(
    useCallback(() => {
      async function begin() {
        const page = await chat.mentions(undefined);
        if (!shown.current) return;
        begun.current += 1;
        setMessages(page.messages);
        setMore(page.more);
        setState("idle");
        setFault(null);
      }
      // The next return asks once more.
      begin().catch(() => {});
    }, [chat]),
  );
  return { messages, more, state, fault, load };
}
