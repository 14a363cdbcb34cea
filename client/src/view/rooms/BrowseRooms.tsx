import type { ListedRoom, RoomId } from "@hubbub/server/protocol";
import { fold, matchOf, searchFor } from "@hubbub/server/search";
import { useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Icon } from "../ui/Icon.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { useClient } from "../useChat.ts";
import { countWords, useFound } from "../finding/useFound.ts";

type Props = { onClose: () => void; onEnter: (roomId: RoomId) => void; onNew: () => void };

/** The named rooms of the server, to join or to open. */
export function BrowseRooms({ onClose, onEnter, onNew }: Props) {
  const chat = useClient();
  const [wanted, setWanted] = useState("");
  const text = wanted.trim();
  const { answer, current, busy, fault: listFault, more } = useFound(chat.findRooms, text);
  const [joinFault, setFault] = useState<string | null>(null);
  const fault = joinFault ?? listFault;
  const [all, setAll] = useState<number | null>(null);
  if (current && text === "" && all !== answer.total) setAll(answer.total);

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

  const search = searchFor(text);
  const found = current ? answer.found : answer.found.filter((room) => matchOf(fold(room.name), search) > 0);
  return (
    <Dialog title="Browse rooms" className="dialog-tall" onClose={onClose}>
      <SearchField label="Find a room" busy={busy} value={wanted} onText={setWanted} />
      <p className="found-count" aria-live="polite">
        {current && answer.total > 0 && countWords(answer.total, text === "" ? null : all, "rooms")}
      </p>
      {fault !== null && (
        <p className="fault" role="alert">
          {fault}
        </p>
      )}
      <div className="listed" aria-busy={busy && fault === null}>
        {answer.text === null && fault === null && (
          <div className="skeleton-rooms" aria-hidden="true">
            <span />
            <span />
            <span />
          </div>
        )}
        <ul>
          {found.map((room) => (
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
          {found.length > 0 || fault !== null || answer.text === null
            ? ""
            : !current
              ? "Looking…"
              : text === ""
                ? "There are no rooms besides General yet."
                : "No room by that name."}
        </p>
        {current && found.length < answer.total && (
          <button type="button" className="button button-wide" onClick={more}>
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
