import type { ListedRoom, RoomId } from "@hubbub/server/protocol";
import { useMemo, useState } from "react";
import { wordsOf } from "../chat/api.ts";
import { Dialog } from "./Dialog.tsx";
import { Icon } from "./Icon.tsx";
import { useClient } from "./useChat.ts";
import { useListed } from "./useListed.ts";

const SHOWN_AT_ONCE = 100;
const collator = new Intl.Collator();

type Props = { onClose: () => void; onEnter: (roomId: RoomId) => void; onNew: () => void };

/** The named rooms of the server, to join or to open. */
export function BrowseRooms({ onClose, onEnter, onNew }: Props) {
  const chat = useClient();
  const { rooms, complete, fault: listFault } = useListed(true);
  const [wanted, setWanted] = useState("");
  const [shown, setShown] = useState(SHOWN_AT_ONCE);
  const [joinFault, setFault] = useState<string | null>(null);
  const fault = joinFault ?? listFault;

  function join(room: ListedRoom) {
    if (room.joined) {
      onEnter(room.id);
      return;
    }
    chat.joinRoom(room.id).then(
      () => onEnter(room.id),
      (error: unknown) => setFault(wordsOf(error)),
    );
  }

  const text = wanted.trim().toLowerCase();
  const found = useMemo(
    () =>
      rooms
        .filter((room) => room.name.toLowerCase().includes(text))
        .toSorted((one, other) => collator.compare(one.name, other.name)),
    [rooms, text],
  );
  return (
    <Dialog title="Browse rooms" className="dialog-tall" onClose={onClose}>
      <label className="search">
        <Icon name="search" />
        <span className="hidden">Find a room</span>
        <input
          type="search"
          placeholder="Find a room"
          value={wanted}
          data-first
          onChange={(event) => setWanted(event.target.value)}
        />
      </label>
      {fault !== null && (
        <p className="fault" role="alert">
          {fault}
        </p>
      )}
      <div className="listed" aria-busy={!complete && fault === null}>
        {rooms.length === 0 && !complete && fault === null && (
          <div className="skeleton-rooms" aria-hidden="true">
            <span />
            <span />
            <span />
          </div>
        )}
        <ul>
          {found.slice(0, shown).map((room) => (
            <li key={room.id} className="listed-room">
              <span className="sign" aria-hidden="true">
                <Icon name="hash" />
              </span>
              <span className="listed-what">
                <span className="listed-name">{room.name}</span>
                <span className="listed-members">
                  {room.members === 1 ? "1 member" : `${room.members} members`}
                </span>
              </span>
              <button
                type="button"
                className={room.joined ? "button" : "button button-main"}
                aria-label={`${room.joined ? "Open" : "Join"} ${room.name}`}
                onClick={() => join(room)}
              >
                {room.joined ? "Open" : "Join"}
              </button>
            </li>
          ))}
        </ul>
        <p className="listed-none" aria-live="polite">
          {found.length > 0 || fault !== null || (!complete && text === "")
            ? ""
            : !complete
              ? "Looking…"
              : text === ""
                ? "There are no rooms besides General yet."
                : "No room by that name."}
        </p>
        {found.length > shown && (
          <button
            type="button"
            className="button button-wide"
            onClick={() => setShown(shown + SHOWN_AT_ONCE)}
          >
            Show more
          </button>
        )}
      </div>
      <div className="dialog-actions">
        <button type="button" className="button" onClick={onNew}>
          <Icon name="plus" /> New room
        </button>
      </div>
    </Dialog>
  );
}
