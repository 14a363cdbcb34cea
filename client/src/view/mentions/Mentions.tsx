import type { Message } from "@hubbub/server/protocol";
import { useCallback } from "react";
import { cut } from "../../chat/cut.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { MessagesDialog } from "../finding/MessagesDialog.tsx";
import { titleOf } from "../rooms/titles.ts";
import { nameIn } from "../../chat/state/people.ts";
import { useWays } from "../rooms/useWays.ts";
import { showFull, showWhen, useClock } from "../time.ts";
import { classes } from "../ui/classes.ts";
import { Cut, CutLine } from "../ui/Cut.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { useSaid } from "../useBlocks.ts";
import { useAsChanged, useChat, useClient, useMe } from "../useChat.ts";
import css from "./Mentions.module.css";

const TEXT_MOST = 300;

/** The messages that mention this user in all their rooms, newest first, each with a link to it. */
export function Mentions() {
  const chat = useClient();
  const rooms = useChat((now) => now.rooms);
  const read = useCallback(
    async (before: number | undefined) => {
      const { messages, more } = await chat.mentions(before);
      return { messages, next: more ? messages.at(-1)?.date : undefined };
    },
    [chat],
  );
  return (
    <MessagesDialog
      title="Mentions"
      className={css.mentions}
      read={read}
      belongs={({ roomId }) => rooms?.has(roomId) === true}
      empty="Nobody has named you yet. What is said with your name after an @ is found here."
    >
      {(message) => <Mention message={message} />}
    </MessagesDialog>
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
          <CutLine>
            <Cut half>
              <b>{name}</b>
            </Cut>
            {" in "}
            <Cut>{title}</Cut>
          </CutLine>
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
