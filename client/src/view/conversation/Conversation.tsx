import type { Message, RoomId } from "@hubbub/server/protocol";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { ChatError, wordsOf } from "../../chat/api.ts";
import { draftsIn } from "../../chat/state/drafts.ts";
import type { Outgoing } from "../../chat/state/outgoing.ts";
import { isOnline } from "../../chat/state/people.ts";
import type { RoomState } from "../../chat/state/room.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { isAnswerIn } from "../../chat/state/thread.ts";
import type { Visit } from "../../chat/state/visit.ts";
import { follow, moveTo, unfoldThread } from "../address.ts";
import { announce } from "../announce.tsx";
import { ConnectionBar } from "../connection/ConnectionBar.tsx";
import { useOverlays } from "../overlays.ts";
import { goOn } from "../regions.ts";
import { foldedInWords, titleOf } from "../rooms/titles.ts";
import { Button, IconButton, IconLink } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Icon } from "../ui/Icon.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { Pane } from "../ui/Pane.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { SkeletonLog } from "../ui/Skeleton.tsx";
import { useCopy } from "../ui/useCopy.ts";
import { useFailed } from "../ui/useFailed.ts";
import { useChat, useClient, useMe } from "../useChat.ts";
import { NO_KEYBOARD } from "../useMedia.ts";
import { useEditLast } from "./EditMessage.tsx";
import { Composer, type ComposerFace } from "./Composer.tsx";
import css from "./Conversation.module.css";
import { OutgoingMessages } from "./Message.tsx";
import { MessageLog, type MessageLogFace } from "./MessageLog.tsx";
import { enterThread } from "./threadWays.ts";

type Props = {
  roomId: RoomId;
  /** Whether a thread covers it. */
  covered: boolean;
  peopleShown: boolean;
  onPeople: () => void;
};

/** The open room: its head, its messages, and the composer. */
export function Conversation(props: Props) {
  const room = useChat((state) => state.rooms?.get(props.roomId));
  const known = useChat((state) => state.rooms !== null);
  useLoss(room);
  if (room !== undefined) return <OpenRoom {...props} room={room} />;
  if (known) return <NoRoom roomId={props.roomId} />;
  return (
    <Pane id="conversation" tabIndex={-1} aria-busy="true" aria-label="Conversation">
      <header className={css.head} />
      <SkeletonLog />
      <ConnectionBar />
    </Pane>
  );
}

function OpenRoom({ room, covered, peopleShown, onPeople }: Props & { room: RoomState }) {
  const chat = useClient();
  const me = useMe();
  const title = useChat(({ users }) => titleOf(room, me.id, users));
  const partnerId = partnerOf(room, me.id);
  const online = useChat((state) => isOnline(state, partnerId));
  const { open } = useOverlays();
  const tell = useNotice();
  const face = useRef<MessageLogFace>(null);
  const composer = useRef<ComposerFace>(null);
  const [folding, setFolding] = useState(false);
  const editLast = useEditLast("log");
  const { failed, again } = useFailed(room.load);
  const waiting = useWaiting(room);
  const visit = useVisit(room);
  const isAwaited = useChat((state) => state.visit?.is === "wanted" && state.visit.roomId === room.id);
  const latest = useCallback(() => moveTo(room.id), [room.id]);
  const log = visit?.is === "apart" ? visit.log : room.log;

  function fold() {
    setFolding(true);
    chat
      .setView(room.id, { folded: !room.folded })
      .then(
        () => tell(foldedInWords(!room.folded)),
        (error: unknown) => tell(wordsOf(error)),
      )
      .finally(() => setFolding(false));
  }

  function reply(message: Message) {
    // If answers are folded, one that is written in the log would disappear when it is sent.
    if (room.folded) {
      enterThread(room.id, message.seq);
      return;
    }
    chat.answer(room.id, message);
    composer.current?.focus();
  }

  function edit(entry: Outgoing) {
    if (chat.edit(entry)) composer.current?.focus();
  }

  return (
    <Pane id="conversation" tabIndex={-1} aria-labelledby="room-title" inert={covered}>
      <header className={css.head}>
        <BackToRooms />
        <RoomSign title={title} partnerId={partnerId} general={room.kind === "everyone"} online={online} />
        <div className={css.title}>
          <h1 id="room-title">{title}</h1>
          <p>{describe(room, online)}</p>
          {room.kind !== "direct" && (
            <button
              type="button"
              className={css.details}
              aria-label="Room details"
              title={room.settings.topic ?? "Room details"}
              onClick={() => open({ is: "room", roomId: room.id })}
            />
          )}
        </div>
        <span className={css.rest}>
          <IconButton
            icon="thread"
            label="Fold replies into threads"
            aria-pressed={room.folded}
            busy={folding}
            onClick={fold}
          />
          <IconButton
            icon="pin"
            label="Pinned messages"
            onClick={() => open({ is: "pins", roomId: room.id })}
          />
          <IconButton
            icon={room.notify === "nothing" ? "mute" : "bell"}
            label="Notifications"
            onClick={() => open({ is: "notifications", roomId: room.id })}
          />
        </span>
        <IconButton icon="people" label="People" aria-pressed={peopleShown} onClick={onPeople} />
        <IconButton
          icon="more"
          label="Room options"
          onClick={() => open({ is: "room options", roomId: room.id })}
        />
      </header>
      {log === null ? (
        <>
          {failed ? (
            <div className={css.empty}>
              <p>These messages could not be loaded.</p>
              <Button busy={room.load === "loading"} onClick={() => again(() => chat.reload(room.id))}>
                Try again
              </Button>
            </div>
          ) : (
            <SkeletonLog />
          )}
          <ol className={css.unsent}>
            <OutgoingMessages entries={waiting} onEdit={edit} onDone={goOn} />
          </ol>
        </>
      ) : (
        <MessageLog
          key={visit?.id ?? "end"}
          face={face}
          room={room}
          log={log}
          visit={visit}
          awaited={isAwaited}
          covered={covered}
          onLatest={latest}
          waiting={waiting}
          title={title}
          onEdit={edit}
          onReply={reply}
          onDone={goOn}
        />
      )}
      <ConnectionBar />
      <Composer
        id="composer"
        roomId={room.id}
        label={`Message to ${title}`}
        placeholder={`Message ${title}`}
        face={composer}
        onSent={() => face.current?.jump()}
        onEditLast={() => {
          const messages = room.log?.messages ?? [];
          const last = editLast(
            room.folded ? messages.filter(({ thread }) => thread === undefined) : messages,
            waiting,
          );
          if (last !== null) face.current?.show(last.seq);
          return last !== null;
        }}
        onPage={(views) => face.current?.page(views)}
      />
    </Pane>
  );
}

/** Tells that the open room is not the user's any more: they were removed from it, or left it in another window. */
function useLoss(room: RoomState | undefined) {
  const me = useMe();
  const title = useChat(({ users }) => (room === undefined ? null : titleOf(room, me.id, users)));
  const shown = useRef(title);
  useEffect(() => {
    if (title === null && shown.current !== null) announce(`You are not in ${shown.current} any more.`);
    shown.current = title;
  }, [title]);
}

/** The message to show, once it has loaded. Says so if it does not exist, and opens its thread if it is folded. */
function useVisit(room: RoomState): Visit | null {
  const visit = useChat((state) => state.visit);
  const tell = useNotice();
  const isMissing = visit?.is === "missing" && visit.roomId === room.id;
  useEffect(() => {
    if (!isMissing) return;
    tell("That message is not here.");
    moveTo(room.id);
    const isNowhere = document.activeElement === document.body;
    if (isNowhere && matchMedia(NO_KEYBOARD).matches) document.getElementById("composer")?.focus();
  }, [isMissing, room.id, tell]);
  const shown = visit?.roomId === room.id && (visit.is === "apart" || visit.is === "joined") ? visit : null;
  const log = shown?.is === "apart" ? shown.log : room.log;
  const target = shown === null ? undefined : log?.messages.find(({ seq }) => seq === shown.seq);
  const hidden = room.folded && target?.thread !== undefined ? target.seq : null;
  const visitId = shown?.id;
  const unfolded = useRef<number>(undefined);
  useEffect(() => {
    // Only once a jump: a closed thread stays closed.
    if (hidden === null || unfolded.current === visitId) return;
    unfolded.current = visitId;
    unfoldThread(room.id, hidden);
  }, [hidden, visitId, room.id]);
  return shown;
}

function describe(room: RoomState, online: boolean | undefined): string {
  if (room.kind === "direct" && online === undefined) return "Only the two of you";
  if (room.kind === "direct") return `${online ? "Online" : "Offline"} · only the two of you`;
  const { archived, topic = "" } = room.settings;
  if (archived || topic !== "") return [archived ? "Archived" : "", topic].filter(Boolean).join(" · ");
  if (room.kind === "invite") return "A room for those who were let in";
  return room.kind === "everyone" ? "Everybody on this server" : "A room anyone can join";
}

/** The messages on their way to the room's log, without answers on their way that the open thread shows. */
function useWaiting({ id, folded }: RoomState): Outgoing[] {
  const waiting = useOutgoing(id);
  const thread = useChat((state) => state.thread);
  return useMemo(() => {
    if (!folded || thread === null) return waiting;
    return waiting.filter((entry) => !isAnswerIn(thread, entry));
  }, [waiting, folded, thread]);
}

function useOutgoing(roomId: RoomId): Outgoing[] {
  const outgoing = useChat((state) => state.outgoing);
  return useMemo(() => outgoing.filter((entry) => entry.roomId === roomId), [outgoing, roomId]);
}

function BackToRooms() {
  return (
    <span className={css.back}>
      <IconLink icon="back" label="Back to the rooms" href="#/" onClick={follow} />
    </span>
  );
}

function NoRoom({ roomId }: { roomId: RoomId }) {
  const { open } = useOverlays();
  const chat = useClient();
  const unsent = useOutgoing(roomId).filter((entry) => entry.state !== "sent");
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<string | null>(null);

  function join() {
    setBusy(true);
    setFault(null);
    chat.joinRoom(roomId).catch((error: unknown) => {
      setBusy(false);
      setFault(
        error instanceof ChatError && error.code === "not_found"
          ? "This room is not there, or not open to everyone."
          : wordsOf(error),
      );
    });
  }

  return (
    <Pane id="conversation" tabIndex={-1} aria-labelledby="room-title">
      <header className={css.head}>
        <BackToRooms />
        <div className={css.title}>
          <h1 id="room-title">Not one of your rooms</h1>
        </div>
      </header>
      <div className={css.empty}>
        <span className={css.sign} aria-hidden="true">
          <Icon name="lock" />
        </span>
        <h2>You are not in this room</h2>
        {fault === null ? <p>If it is open to everyone, you can join it.</p> : <Fault>{fault}</Fault>}
        <div className={css.actions}>
          <Button look="main" busy={busy} onClick={join}>
            Join this room
          </Button>
          <Button onClick={() => open({ is: "browse" })}>Browse rooms</Button>
        </div>
      </div>
      <div className={css.unsent}>
        <ol>
          <OutgoingMessages entries={unsent} />
        </ol>
        <Unfinished roomId={roomId} />
      </div>
      <ConnectionBar />
    </Pane>
  );
}

/** What this user was writing in a room that they are in no more. */
function Unfinished({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const copy = useCopy();
  const drafts = useChat((state) => state.drafts);
  return draftsIn(drafts, roomId).map(([slot, text]) => (
    <section key={slot} className={css.draft} aria-label="What you were writing">
      <h3>What you were writing</h3>
      <p dir="auto">{text}</p>
      <div className={css.actions}>
        <Button onClick={() => void copy(text)}>Copy</Button>
        <Button onClick={() => chat.setDraft(slot, "")}>Delete</Button>
      </div>
    </section>
  ));
}
