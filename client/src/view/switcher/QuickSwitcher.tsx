import type { RoomId, User, UserId } from "@hubbub/server/protocol";
import { fold, matchOf, searchFor } from "@hubbub/server/search";
import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import { isConnected } from "../../chat/state/connection.ts";
import { nameOf, searchedOf } from "../../chat/state/people.ts";
import { unreadOf } from "../../chat/state/room.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { FoundNothing } from "../finding/Found.tsx";
import { useChoice } from "../finding/useChoice.ts";
import { useFound } from "../finding/useFound.ts";
import { isComposing } from "../keys.ts";
import { useOverlays } from "../overlays.ts";
import { orderRooms, titleOf } from "../rooms/titles.ts";
import { useWays } from "../rooms/useWays.ts";
import { Badge, Tag } from "../ui/Badge.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { PersonName } from "../ui/PersonName.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./QuickSwitcher.module.css";

const MOST_SHOWN = 30;

type Target = {
  key: string;
  /** It is not one of this user's rooms. */
  isNew?: boolean;
  title: string;
  /** The text by which it is found. */
  searched: string;
  /** The person, or the other one of a private room. */
  user: User | undefined;
  userId: UserId | null;
  roomId: RoomId | null;
  unread: number;
  online: boolean | undefined;
  general?: boolean;
};

/** Opens any room or person by a few letters of the name. */
export function QuickSwitcher() {
  const { close } = useOverlays();
  const { enter, join, talkTo } = useWays();
  const me = useMe();
  const rooms = useChat((state) => state.rooms);
  const users = useChat((state) => state.users);
  const connected = useChat(isConnected);
  const [wanted, setWanted] = useState("");
  const chat = useClient();
  const text = wanted.trim();
  const people = useFound(chat.findUsers, connected ? text : null);
  const listed = useFound(chat.findRooms, text === "" ? null : text);
  const busy = people.busy || listed.busy;
  /** Whether better matches may still come; a line that is cut brings none. */
  const isOpen = (people.busy && people.fault === null) || (listed.busy && listed.fault === null);
  /** Enter was pressed before there was a good match to open. */
  const isDue = useRef(false);

  const targets = useMemo(() => {
    const all: Target[] = orderRooms(rooms).map((room) => {
      const userId = partnerOf(room, me.id);
      const partner = userId === null ? undefined : users.get(userId);
      const online = connected && userId !== null ? (partner?.online ?? false) : undefined;
      return {
        key: room.id,
        title: titleOf(room, me.id, users),
        searched: partner === undefined ? titleOf(room, me.id, users) : searchedOf(partner),
        user: partner,
        userId,
        roomId: room.id,
        unread: unreadOf(room),
        online,
        general: room.kind === "everyone",
      };
    });
    for (const { id, name } of text === "" ? [] : listed.answer.found) {
      if (rooms?.has(id)) continue;
      all.push({
        key: id,
        isNew: true,
        title: name,
        searched: name,
        user: undefined,
        userId: null,
        roomId: id,
        unread: 0,
        online: undefined,
      });
    }
    const met = new Set(all.map((target) => target.userId));
    for (const user of users.values()) {
      if (met.has(user.id) || user.id === me.id || user.deleted) continue;
      all.push({
        key: `user ${user.id}`,
        title: nameOf(user),
        searched: searchedOf(user),
        user,
        userId: user.id,
        roomId: null,
        unread: 0,
        online: connected ? user.online : undefined,
      });
    }
    return rank(all, text);
  }, [rooms, users, listed.answer.found, connected, me.id, text]);
  const choice = useChoice(
    targets.map(({ key }) => key),
    !isOpen,
  );

  function go(target: Target | undefined) {
    if (target?.isNew && target.roomId) join(target.roomId);
    else if (target?.roomId) enter(target.roomId);
    else if (target?.userId) talkTo(target.userId);
  }

  const first = targets[0];
  useEffect(() => {
    if (!isDue.current || isOpen) return;
    isDue.current = false;
    go(first);
  });

  function onKeyDown(event: KeyboardEvent) {
    if (isComposing(event.nativeEvent)) return;
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (event.key === "Enter") {
      const target = targets[choice.at];
      isDue.current = isOpen && choice.chosen === null && !isGood(target, text);
      if (!isDue.current) go(target);
    } else if (step !== 0) choice.choose(targets.at((choice.at + step) % targets.length)?.key ?? null);
    else return;
    event.preventDefault();
  }

  return (
    <Dialog title="Jump to a room or a person" look="upper" onClose={close}>
      <SearchField
        label="Room or person"
        busy={busy}
        type="text"
        // oxlint-disable-next-line jsx-a11y/prefer-tag-over-role -- SearchField is an input
        role="combobox"
        value={wanted}
        aria-expanded="true"
        aria-controls="switcher-list"
        aria-activedescendant={targets.length > 0 ? `switcher-${choice.at}` : undefined}
        onText={(given) => {
          isDue.current = false;
          setWanted(given);
          choice.choose(null);
        }}
        onKeyDown={onKeyDown}
      />
      {/* The keys are the combobox's above, as the ARIA pattern has it; no HTML element can hold such rows. */}
      {/* oxlint-disable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
      <ul id="switcher-list" className={css.list} role="listbox" aria-label="Rooms and people">
        {targets.map((target, index) => (
          <li
            key={target.key}
            id={`switcher-${index}`}
            role="option"
            aria-selected={index === choice.at}
            ref={index === choice.at ? (element) => element?.scrollIntoView({ block: "nearest" }) : undefined}
            onPointerMove={() => choice.choose(target.key)}
            onClick={() => go(target)}
          >
            <RoomSign
              title={target.title}
              partnerId={target.userId}
              general={target.general}
              online={target.online}
            />
            <span data-part="name" className={css.name}>
              {target.user === undefined ? target.title : <PersonName user={target.user} line />}
            </span>
            {target.roomId === null && <Tag>direct message</Tag>}
            {target.isNew && <Tag>join</Tag>}
            {target.unread > 0 && <Badge count={target.unread} />}
          </li>
        ))}
      </ul>
      {/* oxlint-enable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
      <FoundNothing>
        {targets.length > 0
          ? ""
          : (people.fault ?? listed.fault ?? (busy ? "Looking…" : "Nothing by that name."))}
      </FoundNothing>
      <p className={css.keys} aria-hidden="true">
        <kbd>↑</kbd>
        <kbd>↓</kbd> choose <kbd>Enter</kbd> open <kbd>Esc</kbd> close <kbd>Alt ↑↓</kbd> next room
      </p>
    </Dialog>
  );
}

/** Best matches first; among equals this user's rooms, then rooms to join, then people. */
function rank(targets: readonly Target[], text: string): Target[] {
  if (text === "")
    return targets
      .toSorted((one, other) => Number(other.unread > 0) - Number(one.unread > 0))
      .slice(0, MOST_SHOWN);
  const search = searchFor(text);
  return targets
    .map((target) => {
      const folded = fold(target.searched);
      return { target, points: matchOf(folded, search) || (hasLetters(folded, search.text) ? 0.5 : 0) };
    })
    .filter(({ points }) => points > 0)
    .toSorted((one, other) => other.points - one.points)
    .slice(0, MOST_SHOWN)
    .map(({ target }) => target);
}

/** Whether words of the name begin with those of the text: no answer can bring what is meant more clearly. */
function isGood(target: Target | undefined, text: string): boolean {
  return target !== undefined && matchOf(fold(target.searched), searchFor(text)) >= 2;
}

/** Whether a name has all letters of a text, in that order. */
function hasLetters(name: string, text: string): boolean {
  let from = 0;
  for (const letter of text) {
    from = name.indexOf(letter, from) + 1;
    if (from === 0) return false;
  }
  return true;
}
