import type { RoomId, User, UserId } from "@hubbub/server/protocol";
import { fold, matchOf, searchFor } from "@hubbub/server/search";
import { useMemo, useState, type KeyboardEvent, type RefObject } from "react";
import { nameOf, searchedOf } from "../../chat/state/people.ts";
import { complete, wantedAt, type Wanted } from "../../text/completion.ts";
import { useChoice } from "../finding/useChoice.ts";
import { useFound } from "../finding/useFound.ts";
import { typeInto } from "../ui/TextArea.tsx";
import { Avatar } from "../ui/Avatar.tsx";
import { PersonName } from "../ui/PersonName.tsx";
import { noteEmoji, useEmoji } from "../ui/useEmoji.ts";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./Completion.module.css";

const MOST = 8;
const LIST = "completion";

type Option = { key: string; word: string; label: string; user?: User; sign?: string };

type Asked = {
  roomId: RoomId;
  area: RefObject<HTMLTextAreaElement | null>;
  text: string;
};

/**
 * Completions of the word at the caret: people after an @, this room's speakers first, and emoji after a colon. Arrow
 * keys choose, Enter and Tab accept, Escape cancels.
 */
export function useCompletion({ roomId, area, text }: Asked) {
  const chat = useClient();
  const [wanted, setWanted] = useState<Wanted | null>(null);
  const [left, setLeft] = useState<number | null>(null);
  const open = wanted !== null && wanted.from !== left ? wanted : null;
  const name = open?.kind === "person" ? open.text : null;
  const { answer } = useFound(chat.findUsers, name === "" ? null : name);
  const people = usePeople(roomId, name, answer.found);
  const known = useEmoji(open?.kind === "emoji");
  const emoji = useMemo(
    () =>
      open?.kind === "emoji" && known !== null
        ? known.find(open.text, MOST).map((one): Option => ({
            key: one.emoji,
            word: one.emoji,
            label: `:${one.names[0] ?? one.label}:`,
            sign: one.emoji,
          }))
        : [],
    [open, known],
  );
  const options = open?.kind === "person" ? people : emoji;
  const { at, choose } = useChoice(options.map(({ key }) => key));

  function look(given: string) {
    const next = wantedAt(given, area.current?.selectionStart ?? given.length);
    const isSame = next?.from === wanted?.from && next?.text === wanted?.text;
    if (isSame) return;
    setWanted(next);
    choose(null);
    if (next?.from !== left) setLeft(null);
  }

  function take(option: Option) {
    if (open === null || area.current === null) return;
    if (open.kind === "emoji") noteEmoji(option.word);
    const end = open.from + open.text.length + 1;
    const { typed, caret } = complete(text, end, open, option.word);
    typeInto(area.current, open.from, end, typed);
    area.current.setSelectionRange(caret, caret);
    setWanted(null);
  }

  function onKeyDown(event: KeyboardEvent): boolean {
    if (open === null || options.length === 0) return false;
    const plain = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    const option = options[at];
    if (!plain) return false;
    if (step !== 0) choose(options.at((at + step) % options.length)?.key ?? null);
    else if (event.key === "Escape") setLeft(open.from);
    else if ((event.key === "Enter" || event.key === "Tab") && option) take(option);
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  const shown = options.length > 0;
  return {
    look,
    onKeyDown,
    close: () => setWanted(null),
    aria: {
      "aria-autocomplete": "list" as const,
      "aria-controls": shown ? LIST : undefined,
      "aria-activedescendant": shown ? `${LIST}-${at}` : undefined,
    },
    list: shown ? <List options={options} at={at} onChoose={choose} onTake={take} /> : null,
  };
}

type ListProps = {
  options: readonly Option[];
  at: number;
  onChoose: (key: string) => void;
  onTake: (option: Option) => void;
};

function List({ options, at, onChoose, onTake }: ListProps) {
  return (
    <div className={css.place}>
      {/* The keys are the composer's. */}
      {/* oxlint-disable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
      <ul id={LIST} className={css.list} role="listbox" aria-label="Suggestions">
        {options.map((option, index) => (
          <li
            key={option.key}
            id={`${LIST}-${index}`}
            className={css.option}
            role="option"
            aria-selected={index === at}
            ref={index === at ? (element) => element?.scrollIntoView({ block: "nearest" }) : undefined}
            onPointerMove={() => onChoose(option.key)}
            // The focus stays in the field.
            onPointerDown={(event) => event.preventDefault()}
            onClick={() => onTake(option)}
          >
            {option.user === undefined ? (
              <>
                <span className={css.sign}>{option.sign}</span>
                {option.label}
              </>
            ) : (
              <>
                <Avatar userId={option.user.id} name={option.label} />
                <PersonName user={option.user} line />
              </>
            )}
          </li>
        ))}
      </ul>
      {/* oxlint-enable jsx-a11y/no-noninteractive-element-to-interactive-role, jsx-a11y/prefer-tag-over-role, jsx-a11y/click-events-have-key-events */}
    </div>
  );
}

function usePeople(roomId: RoomId, name: string | null, found: readonly User[]): Option[] {
  const me = useMe();
  const users = useChat((state) => state.users);
  const room = useChat((state) => state.rooms?.get(roomId));
  return useMemo(() => {
    if (name === null) return [];
    const search = searchFor(name);
    const here = new Set(room?.userIds);
    for (const { from } of room?.log?.messages.toReversed() ?? []) here.add(from);
    const order = [...here];
    const near = (id: UserId) => (here.has(id) ? order.length - order.indexOf(id) : 0);
    const all = new Map([...found, ...users.values()].map((user) => [user.id, user]));
    const people = [...all.values()]
      .filter((user) => user.id !== me.id && !user.deleted)
      .map((user) => ({ user, points: name === "" ? 1 : matchOf(fold(searchedOf(user)), search) }))
      .filter(({ points }) => points > 0)
      .toSorted(
        (one, other) =>
          Number(here.has(other.user.id)) - Number(here.has(one.user.id)) ||
          other.points - one.points ||
          near(other.user.id) - near(one.user.id) ||
          (one.user.username < other.user.username ? -1 : 1),
      )
      .slice(0, MOST)
      .map(({ user }): Option => ({ key: user.id, word: `@${user.username}`, label: nameOf(user), user }));
    const everybody: Option = { key: "room", word: "@room", label: "room: everybody here", sign: "@" };
    if (name === "") return [...people.slice(0, MOST - 1), everybody];
    return "room".startsWith(name.toLowerCase()) ? [everybody, ...people.slice(0, MOST - 1)] : people;
  }, [name, users, room, found, me.id]);
}
