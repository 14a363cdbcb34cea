import type { Message } from "@hubbub/server/protocol";
import { useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { Finding } from "../../chat/api.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { FoundNothing } from "../finding/Found.tsx";
import { useChoice } from "../finding/useChoice.ts";
import { isComposing } from "../keys.ts";
import { useOverlays } from "../overlays.ts";
import { orderRooms, titleOf } from "../rooms/titles.ts";
import { useWays } from "../rooms/useWays.ts";
import { showDay, showFull, showWhen } from "../time.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { useSaid } from "../useBlocks.ts";
import { NO_KEYBOARD } from "../useMedia.ts";
import { useAsChanged, useChat, useMe } from "../useChat.ts";
import { excerptOf } from "./excerpt.ts";
import css from "./Search.module.css";
import { nameIn, nameOf } from "../../chat/state/people.ts";
import { useHits } from "./useHits.ts";

const AT_ONCE = 50;
const PEOPLE_MOST = 500;

/** Finds messages in all rooms of this user by any part of their words, and opens them. */
export function Search() {
  const { close } = useOverlays();
  const { enter } = useWays();
  const me = useMe();
  const rooms = useChat((state) => state.rooms);
  const users = useChat((state) => state.users);
  const field = useRef<HTMLInputElement>(null);
  const [text, setText] = useState("");
  const [room, setRoom] = useState("");
  const [from, setFrom] = useState("");
  const [since, setSince] = useState("");
  const [to, setTo] = useState("");
  const [wanted, setWanted] = useState(AT_ONCE);
  const asked = useMemo((): Finding | null => {
    const q = text.trim();
    if (q === "") return null;
    return {
      q,
      room: room || undefined,
      from: from || undefined,
      // The search's dates are exclusive, but days count whole.
      after: since === "" ? undefined : Math.max(0, dayAfter(since, 0) - 1),
      before: to === "" ? undefined : Math.max(0, dayAfter(to, 1)),
    };
  }, [text, room, from, since, to]);
  const { found: all, until, fault, state } = useHits(asked, wanted);
  const found = useMemo(() => all.filter((message) => rooms?.has(message.roomId)), [all, rooms]);
  const busy = asked !== null && state === "searching";
  // The first hit is marked but not chosen: better ones may come before the user has looked.
  const choice = useChoice(found.map(keyOf), false);
  const people = useMemo(
    () =>
      [...users.values()]
        .filter(({ id }) => id !== me.id)
        .toSorted((one, other) => nameOf(one).localeCompare(nameOf(other)))
        .slice(0, PEOPLE_MOST),
    [users, me.id],
  );

  function set(change: () => void) {
    change();
    setWanted(AT_ONCE);
    choice.choose(null);
  }

  function go(message: Message | undefined) {
    if (message !== undefined) enter(message.roomId, message.seq);
  }

  /** After so many hits. */
  function goOn(shown: number) {
    const next = found[shown] ?? found.at(-1);
    if (next !== undefined) choice.choose(keyOf(next));
    field.current?.focus();
  }

  function onKeyDown(event: KeyboardEvent) {
    if (isComposing(event.nativeEvent)) return;
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (event.key === "Enter") go(found[choice.at]);
    else if (step !== 0) {
      const next = found.at((choice.at + step) % found.length);
      choice.choose(next === undefined ? null : keyOf(next));
    } else return;
    event.preventDefault();
  }

  const told = found.length === 1 ? "1 message" : `${found.length} messages`;
  return (
    <Dialog title="Search messages" look="upper" onClose={close}>
      <SearchField
        ref={field}
        label="Any part of a word"
        busy={busy}
        type="text"
        // oxlint-disable-next-line jsx-a11y/prefer-tag-over-role -- SearchField is an input
        role="combobox"
        value={text}
        aria-expanded="true"
        aria-controls="hits"
        aria-activedescendant={found.length > 0 ? `hit-${choice.at}` : undefined}
        onText={(given) => set(() => setText(given))}
        onKeyDown={onKeyDown}
      />
      <div className={css.filters}>
        <label>
          <span>In</span>
          <select value={room} onChange={({ target }) => set(() => setRoom(target.value))}>
            <option value="">all my rooms</option>
            {orderRooms(rooms).map((one) => (
              <option key={one.id} value={one.id}>
                {titleOf(one, me.id, users)}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>From</span>
          <select value={from} onChange={({ target }) => set(() => setFrom(target.value))}>
            <option value="">anybody</option>
            <option value={me.id}>me</option>
            {people.map((one) => (
              <option key={one.id} value={one.id}>
                {nameOf(one)}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>Since</span>
          <input
            type="date"
            value={since}
            max={to}
            onChange={({ target }) => set(() => setSince(target.value))}
          />
        </label>
        <label>
          <span>Until</span>
          <input
            type="date"
            value={to}
            min={since}
            onChange={({ target }) => set(() => setTo(target.value))}
          />
        </label>
      </div>
      {/* The keys are the combobox's above, as the ARIA pattern has it; no HTML element can hold such rows. */}
      {/* oxlint-disable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
      <ul id="hits" className={css.hits} role="listbox" aria-label="Messages">
        {found.map((message, index) => (
          <li
            key={keyOf(message)}
            id={`hit-${index}`}
            role="option"
            aria-selected={index === choice.at}
            ref={
              index === choice.at && choice.chosen !== null
                ? (element) => element?.scrollIntoView({ block: "nearest" })
                : undefined
            }
            onPointerMove={() => choice.choose(keyOf(message))}
            onClick={() => go(message)}
          >
            <Hit message={message} q={asked?.q ?? ""} />
          </li>
        ))}
      </ul>
      {/* oxlint-enable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
      <FoundNothing>
        {fault ??
          (asked !== null && state === "over" && found.length === 0
            ? "Nobody has said that in your rooms."
            : "")}
      </FoundNothing>
      <p className={css.state} aria-live="polite">
        {asked === null
          ? ""
          : busy
            ? until === null
              ? "Looking…"
              : `${told} so far, back to ${showDay(until)}…`
            : found.length > 0
              ? state === "over"
                ? told
                : `${told}, back to ${showDay(until ?? 0)}`
              : ""}
      </p>
      <ShowMore
        more={state === "enough" && all.length >= wanted}
        count={found.length}
        busy={busy}
        onMore={() => setWanted(all.length + AT_ONCE)}
        onNew={matchMedia(NO_KEYBOARD).matches ? goOn : undefined}
      >
        Look further back
      </ShowMore>
    </Dialog>
  );
}

function Hit({ message: found, q }: { message: Message; q: string }) {
  const me = useMe();
  const message = useAsChanged()(found);
  const room = useChat((state) => state.rooms?.get(message.roomId));
  const name = useChat((state) => nameIn(state.users, message.from));
  const title = useChat(({ users }) => (room === undefined ? "Room" : titleOf(room, me.id, users)));
  const partnerId = room === undefined ? null : partnerOf(room, me.id);
  const plain = useSaid(message);
  const parts = useMemo(() => {
    const shown = excerptOf(plain, q);
    if (shown.some(({ found: isFound }) => isFound)) return shown;
    // What was found may be the name of a file, or in the address behind a link.
    const names = (message.files ?? []).map(({ name: file }) => file).join(", ");
    const inNames = excerptOf(names, q);
    if (inNames.some(({ found: isFound }) => isFound)) return inNames;
    return message.message === "" ? shown : excerptOf(message.message, q);
  }, [plain, message.message, message.files, q]);
  return (
    <>
      <RoomSign title={title} partnerId={partnerId} general={room?.kind === "everyone"} />
      <span className={css.hit}>
        <span className={css.where}>
          <b data-part="name">
            <bdi>{message.from === me.id ? "You" : name}</bdi>
          </b>{" "}
          in <bdi>{title}</bdi>
          <time dateTime={new Date(message.date).toISOString()} title={showFull(message.date)}>
            {showWhen(message.date)}
          </time>
        </span>
        <span data-part="text" className={css.text} dir="auto">
          {message.deleted !== undefined && "Message deleted"}
          {parts.map((part, index) =>
            // oxlint-disable-next-line react/no-array-index-key -- parts of one text, which never move
            part.found ? <mark key={index}>{part.text}</mark> : <span key={index}>{part.text}</span>,
          )}
        </span>
      </span>
    </>
  );
}

function keyOf({ roomId, seq }: Message): string {
  return `${roomId} ${seq}`;
}

/** Local midnight, in ms, so many days after a day such as 2026-03-01. */
function dayAfter(day: string, days: number): number {
  const [year = 0, month = 1, date = 1] = day.split("-").map(Number);
  return new Date(year, month - 1, date + days).getTime();
}
