import type { RoomId, UserId } from "@hubbub/server/protocol";
import { useEffect, useMemo, useState, type KeyboardEvent } from "react";
import { wordsOf } from "../chat/api.ts";
import { isConnected, partnerOf, unreadOf } from "../chat/state.ts";
import { Avatar } from "./Avatar.tsx";
import { Dialog } from "./Dialog.tsx";
import { Icon } from "./Icon.tsx";
import { isComposing } from "./keys.ts";
import { orderRooms, titleOf } from "./rooms.ts";
import { useChat, useClient, useMe } from "./useChat.ts";
import { useListed } from "./useListed.ts";

const MOST_SHOWN = 30;

type Props = {
  onClose: () => void;
  onRoom: (roomId: RoomId) => void;
  onJoin: (roomId: RoomId) => void;
  onPerson: (userId: UserId) => void;
};

type Target = {
  /** Not one of this user's rooms. */
  isNew?: boolean;
  title: string;
  userId: UserId | null;
  roomId: RoomId | null;
  unread: number;
  online: boolean | undefined;
};

/** Goes to any room or person by a few letters of the name. */
export function QuickSwitcher({ onClose, onRoom, onJoin, onPerson }: Props) {
  const me = useMe();
  const rooms = useChat((state) => state.rooms);
  const users = useChat((state) => state.users);
  const connected = useChat(isConnected);
  const [wanted, setWanted] = useState("");
  const [at, setAt] = useState(0);
  const chat = useClient();
  const everybody = useChat((state) => state.everybody);
  const searching = wanted.trim() !== "";
  const listed = useListed(searching);
  const complete = everybody && listed.complete;
  const [fault, setFault] = useState<string | null>(null);

  useEffect(() => {
    if (searching && !everybody) {
      chat.loadEverybody().catch((error: unknown) => setFault(wordsOf(error)));
    }
  }, [chat, searching, everybody]);

  const targets = useMemo(() => {
    const all: Target[] = orderRooms(rooms).map((room) => {
      const userId = partnerOf(room.id, me.id);
      const online = connected && userId !== null ? (users.get(userId)?.online ?? false) : undefined;
      return { title: titleOf(room, me.id), userId, roomId: room.id, unread: unreadOf(room), online };
    });
    for (const { id, name } of listed.rooms) {
      if (rooms?.has(id)) continue;
      all.push({ isNew: true, title: name, userId: null, roomId: id, unread: 0, online: undefined });
    }
    const met = new Set(all.map((target) => target.userId));
    for (const user of users.values()) {
      if (met.has(user.id) || user.id === me.id) continue;
      all.push({
        title: user.username,
        userId: user.id,
        roomId: null,
        unread: 0,
        online: connected ? user.online : undefined,
      });
    }
    return rank(all, wanted);
  }, [rooms, users, listed.rooms, connected, me.id, wanted]);
  const chosen = Math.min(at, targets.length - 1);

  function go(target: Target | undefined) {
    if (target?.isNew && target.roomId) onJoin(target.roomId);
    else if (target?.roomId) onRoom(target.roomId);
    else if (target?.userId) onPerson(target.userId);
  }

  function onKeyDown(event: KeyboardEvent) {
    if (isComposing(event.nativeEvent) || targets.length === 0) return;
    if (event.key === "Enter") go(targets[chosen]);
    else if (event.key === "ArrowDown") setAt((chosen + 1) % targets.length);
    else if (event.key === "ArrowUp") setAt((chosen - 1 + targets.length) % targets.length);
    else return;
    event.preventDefault();
  }

  return (
    <Dialog title="Jump to a room or a person" className="switcher" onClose={onClose}>
      <label className="search">
        <Icon name="search" />
        <span className="hidden">Room or person</span>
        <input
          role="combobox"
          placeholder="Room or person"
          value={wanted}
          data-first
          autoComplete="off"
          aria-expanded="true"
          aria-controls="switcher-list"
          aria-activedescendant={targets.length > 0 ? `switcher-${chosen}` : undefined}
          onChange={(event) => {
            setWanted(event.target.value);
            setAt(0);
          }}
          onKeyDown={onKeyDown}
        />
      </label>
      {/* The keys are the combobox's above, as the ARIA pattern has it; no HTML element can hold such rows. */}
      {/* oxlint-disable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
      <ul id="switcher-list" className="switcher-list" role="listbox" aria-label="Rooms and people">
        {targets.map((target, index) => (
          <li
            key={target.roomId ?? `user ${target.userId}`}
            id={`switcher-${index}`}
            role="option"
            aria-selected={index === chosen}
            ref={index === chosen ? (element) => element?.scrollIntoView({ block: "nearest" }) : undefined}
            onPointerMove={() => setAt(index)}
            onClick={() => go(target)}
          >
            {target.userId === null ? (
              <span className="sign" aria-hidden="true">
                <Icon name="hash" />
              </span>
            ) : (
              <Avatar userId={target.userId} name={target.title} online={target.online} />
            )}
            <span className="switcher-name">{target.title}</span>
            {target.roomId === null && <span className="tag">new private room</span>}
            {target.isNew && <span className="tag">join</span>}
            {target.unread > 0 && <span className="badge">{target.unread > 99 ? "99+" : target.unread}</span>}
          </li>
        ))}
      </ul>
      {/* oxlint-enable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
      <p className="listed-none" aria-live="polite">
        {targets.length > 0 ? "" : complete ? "Nothing by that name." : (fault ?? listed.fault ?? "Looking…")}
      </p>
      <p className="switcher-keys" aria-hidden="true">
        <kbd>↑</kbd>
        <kbd>↓</kbd> choose <kbd>Enter</kbd> open <kbd>Esc</kbd> close <kbd>Alt ↑↓</kbd> next room
      </p>
    </Dialog>
  );
}

/** Those that begin with the text, then those that contain it, then those that have its letters in order. */
function rank(targets: readonly Target[], wanted: string): Target[] {
  const text = wanted.trim().toLowerCase();
  if (text === "")
    return targets
      .toSorted((one, other) => Number(other.unread > 0) - Number(one.unread > 0))
      .slice(0, MOST_SHOWN);
  return targets
    .map((target) => ({ target, points: score(target.title.toLowerCase(), text) }))
    .filter(({ points }) => points > 0)
    .toSorted((one, other) => other.points - one.points)
    .slice(0, MOST_SHOWN)
    .map(({ target }) => target);
}

function score(title: string, text: string): number {
  if (title.startsWith(text)) return 3;
  if (title.includes(text)) return 2;
  let from = 0;
  for (const letter of text) {
    from = title.indexOf(letter, from) + 1;
    if (from === 0) return 0;
  }
  return 1;
}
