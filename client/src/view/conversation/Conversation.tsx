import { GENERAL, type RoomId, type UserId } from "@hubbub/server/protocol";
import { useMemo, useRef, useState } from "react";
import { ChatError, wordsOf } from "../../chat/api.ts";
import type { Outgoing } from "../../chat/state/outgoing.ts";
import { isOnline } from "../../chat/state/people.ts";
import type { RoomState } from "../../chat/state/room.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { follow, goTo } from "../address.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Composer, type ComposerFace } from "./Composer.tsx";
import { ConnectionBar } from "../connection/ConnectionBar.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { Icon } from "../ui/Icon.tsx";
import { OutgoingMessages } from "./Message.tsx";
import { MessageLog, type MessageLogFace } from "./MessageLog.tsx";
import { titleOf } from "../rooms/titles.ts";
import { useChat, useClient, useMe } from "../useChat.ts";

type Props = {
  roomId: RoomId;
  peopleShown: boolean;
  onPeople: () => void;
  onBrowse: () => void;
  onPerson: (userId: UserId) => void;
  onNotice: (notice: string) => void;
};

/** The open room: who it is with, what was said, and where to say more. */
export function Conversation(props: Props) {
  const room = useChat((state) => state.rooms?.get(props.roomId));
  const known = useChat((state) => state.rooms !== null);
  if (room !== undefined) return <OpenRoom {...props} room={room} />;
  if (known) return <NoRoom roomId={props.roomId} onBrowse={props.onBrowse} />;
  return (
    <main id="conversation" tabIndex={-1} className="pane" aria-busy="true" aria-label="Conversation">
      <header className="pane-head" />
      <SkeletonLog />
      <ConnectionBar />
    </main>
  );
}

function OpenRoom({ room, peopleShown, onPeople, onPerson, onNotice }: Props & { room: RoomState }) {
  const chat = useClient();
  const me = useMe();
  const title = titleOf(room, me.id);
  const partnerId = partnerOf(room.id, me.id);
  const online = useChat((state) => isOnline(state, partnerId));
  const [leaving, setLeaving] = useState(false);
  const log = useRef<MessageLogFace>(null);
  const composer = useRef<ComposerFace>(null);
  const waiting = useOutgoing(room.id);

  function leave() {
    setLeaving(false);
    chat.leaveRoom(room.id).then(
      () => goTo(GENERAL),
      (error: unknown) => onNotice(wordsOf(error)),
    );
  }

  function edit(entry: Outgoing) {
    if (chat.edit(entry)) composer.current?.focus();
  }

  return (
    <main id="conversation" tabIndex={-1} className="pane" aria-labelledby="room-title">
      <header className="pane-head">
        <a className="icon-button back" href="#/" onClick={follow} aria-label="Back to the rooms">
          <Icon name="back" />
        </a>
        {partnerId === null ? (
          <span className={room.id === GENERAL ? "sign sign-general" : "sign"} aria-hidden="true">
            <Icon name="hash" />
          </span>
        ) : (
          <Avatar userId={partnerId} name={title} online={online} />
        )}
        <div className="pane-title">
          <h1 id="room-title">{title}</h1>
          <p>{describe(room, online)}</p>
        </div>
        {!room.private && room.id !== GENERAL && (
          <button
            type="button"
            className="icon-button"
            aria-label="Leave room"
            title="Leave room"
            onClick={() => setLeaving(true)}
          >
            <Icon name="exit" />
          </button>
        )}
        <button
          type="button"
          className="icon-button"
          aria-label="People"
          title="People"
          aria-pressed={peopleShown}
          onClick={onPeople}
        >
          <Icon name="people" />
        </button>
      </header>
      {room.log === null ? (
        <>
          {room.load === "failed" ? (
            <div className="empty">
              <p>These messages could not be loaded.</p>
              <button type="button" className="button" onClick={() => void chat.reload(room.id)}>
                Try again
              </button>
            </div>
          ) : (
            <SkeletonLog />
          )}
          <ol className="unsent">
            <OutgoingMessages entries={waiting} onEdit={edit} onDone={() => composer.current?.focus()} />
          </ol>
        </>
      ) : (
        <MessageLog
          face={log}
          room={room}
          log={room.log}
          waiting={waiting}
          title={title}
          onPerson={onPerson}
          onEdit={edit}
          onDone={() => composer.current?.focus()}
        />
      )}
      <ConnectionBar />
      <Composer
        roomId={room.id}
        title={title}
        face={composer}
        onSent={() => log.current?.jump()}
        onPage={(views) => log.current?.page(views)}
      />
      {leaving && (
        <Dialog title={`Leave ${title}?`} onClose={() => setLeaving(false)}>
          <p>You will not hear from the room any more. You can join it again whenever you like.</p>
          <div className="dialog-actions">
            <button type="button" className="button" onClick={() => setLeaving(false)}>
              Stay
            </button>
            <button type="button" className="button button-danger" onClick={leave}>
              Leave room
            </button>
          </div>
        </Dialog>
      )}
    </main>
  );
}

function describe(room: RoomState, online: boolean | undefined): string {
  if (room.private && online === undefined) return "Only the two of you";
  if (room.private) return `${online ? "Online" : "Offline"} · only the two of you`;
  return room.id === GENERAL ? "Everybody on this server" : "A room anyone can join";
}

function useOutgoing(roomId: RoomId): Outgoing[] {
  const outgoing = useChat((state) => state.outgoing);
  return useMemo(() => outgoing.filter((entry) => entry.roomId === roomId), [outgoing, roomId]);
}

function NoRoom({ roomId, onBrowse }: { roomId: RoomId; onBrowse: () => void }) {
  const chat = useClient();
  const unsent = useOutgoing(roomId).filter((entry) => entry.state !== "sent");
  const [fault, setFault] = useState<string | null>(null);
  const named = !roomId.includes(":");
  return (
    <main id="conversation" tabIndex={-1} className="pane" aria-labelledby="room-title">
      <header className="pane-head">
        <a className="icon-button back" href="#/" onClick={follow} aria-label="Back to the rooms">
          <Icon name="back" />
        </a>
        <div className="pane-title">
          <h1 id="room-title">Not one of your rooms</h1>
        </div>
      </header>
      <div className="empty">
        <span className="empty-sign" aria-hidden="true">
          <Icon name="lock" />
        </span>
        <h2>You are not in this room</h2>
        <p>
          {fault ??
            (named ? "If it is open to everyone, you can join it." : "Private rooms belong to two people.")}
        </p>
        <div className="empty-actions">
          {named && (
            <button
              type="button"
              className="button button-main"
              onClick={() =>
                void chat
                  .joinRoom(roomId)
                  .catch((error: unknown) =>
                    setFault(
                      error instanceof ChatError && error.code === "not_found"
                        ? "This room is not there, or not open to everyone."
                        : wordsOf(error),
                    ),
                  )
              }
            >
              Join this room
            </button>
          )}
          <button type="button" className="button" onClick={onBrowse}>
            Browse rooms
          </button>
        </div>
      </div>
      <ol className="unsent">
        <OutgoingMessages entries={unsent} />
      </ol>
      <ConnectionBar />
    </main>
  );
}

function SkeletonLog() {
  return (
    <div className="skeleton-log" aria-hidden="true">
      {[62, 38, 80, 45, 70, 30].map((width) => (
        <div key={width} className="skeleton-message">
          <span className="skeleton-avatar" />
          <span className={`skeleton-lines skeleton-${width}`}>
            <span />
            <span />
          </span>
        </div>
      ))}
    </div>
  );
}
