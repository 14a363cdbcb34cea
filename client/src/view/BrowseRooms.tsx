import { LIMITS, type ListedRoom, type RoomId } from "@hubbub/server/protocol";
import { useCallback, useEffect, useState } from "react";
import { wordsOf } from "../chat/api.ts";
import { Dialog } from "./Dialog.tsx";
import { Icon } from "./Icon.tsx";
import { useClient } from "./useChat.ts";

type Props = { onClose: () => void; onEnter: (roomId: RoomId) => void; onNew: () => void };

/** The named rooms of the server, to join or to open. */
export function BrowseRooms({ onClose, onEnter, onNew }: Props) {
  const chat = useClient();
  const [rooms, setRooms] = useState<ListedRoom[] | null>(null);
  const [hasMore, setHasMore] = useState(false);
  const [wanted, setWanted] = useState("");
  const [fault, setFault] = useState<string | null>(null);

  const show = useCallback((page: ListedRoom[], before: ListedRoom[]) => {
    setRooms([...before, ...page]);
    setHasMore(page.length === LIMITS.page);
  }, []);

  useEffect(() => {
    chat.listedRooms().then(
      (page) => show(page, []),
      (error: unknown) => setFault(wordsOf(error)),
    );
  }, [chat, show]);

  function showMore(before: ListedRoom[]) {
    chat.listedRooms(before.at(-1)?.id).then(
      (page) => show(page, before),
      (error: unknown) => setFault(wordsOf(error)),
    );
  }

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
  const found = rooms?.filter((room) => room.name.toLowerCase().includes(text));
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
      <div className="listed" aria-busy={rooms === null}>
        {rooms === null && fault === null && (
          <div className="skeleton-rooms" aria-hidden="true">
            <span />
            <span />
            <span />
          </div>
        )}
        <ul>
          {found?.map((room) => (
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
        {found?.length === 0 && (
          <p className="listed-none">
            {rooms?.length === 0 ? "There are no rooms besides General yet." : "No room by that name."}
          </p>
        )}
        {hasMore && text === "" && (
          <button type="button" className="button button-wide" onClick={() => showMore(rooms ?? [])}>
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
