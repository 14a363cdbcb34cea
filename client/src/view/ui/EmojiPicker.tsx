import { useMemo, useState, type KeyboardEvent } from "react";
import { findEmoji, GROUPS, type Emoji } from "../../text/emoji.ts";
import { isComposing } from "../keys.ts";
import css from "./EmojiPicker.module.css";
import { SearchField } from "./SearchField.tsx";
import { noteEmoji, noteTone, recentEmoji, recentTone, useEmoji } from "./useEmoji.ts";

const TONES = ["✋", "✋🏻", "✋🏼", "✋🏽", "✋🏾", "✋🏿"];
const TONE_NAMES = ["No tone", "Light", "Medium light", "Medium", "Medium dark", "Dark"];
const MOST_FOUND = 90;

type Props = {
  onPick: (emoji: string) => void;
  /** Whether the search takes the focus: in a dialog it has it anyway. */
  focus?: boolean;
};

/** Offers the emoji that were chosen last, all by groups, or search results, in the skin tone that was chosen last. */
export function EmojiPicker({ onPick, focus = false }: Props) {
  const all = useEmoji(true)?.all ?? null;
  const [text, setText] = useState("");
  const [tone, setTone] = useState(recentTone);
  const [recent] = useState(recentEmoji);
  const groups = useMemo(() => groupsOf(all ?? [], text, recent), [all, text, recent]);

  function pick(emoji: string) {
    noteEmoji(emoji);
    onPick(emoji);
  }

  return (
    // oxlint-disable-next-line jsx-a11y/no-static-element-interactions -- the keys move between its buttons
    <div data-part="emoji" className={css.picker} onKeyDown={move}>
      <SearchField
        label="Find an emoji"
        busy={all === null}
        value={text}
        // oxlint-disable-next-line jsx-a11y/no-autofocus -- it was opened by a press
        autoFocus={focus}
        onText={setText}
      />
      <fieldset className={css.tones} aria-label="Tone of skin">
        {TONES.map((hand, index) => (
          <button
            key={hand}
            type="button"
            className={css.tone}
            aria-label={TONE_NAMES[index]}
            aria-pressed={index === tone}
            onClick={() => {
              setTone(index);
              noteTone(index);
            }}
          >
            {hand}
          </button>
        ))}
      </fieldset>
      <div className={css.groups}>
        {groups.map(({ title, emoji }) => (
          <section key={title} className={css.group} aria-label={title}>
            <h3 className={css.title}>{title}</h3>
            <div className={css.grid}>
              {emoji.map((one) => {
                const toned = one.tones[tone - 1] ?? one.emoji;
                return (
                  <button
                    key={one.emoji}
                    type="button"
                    className={css.emoji}
                    aria-label={one.label}
                    title={`:${one.names[0] ?? one.label}:`}
                    onClick={() => pick(toned)}
                  >
                    {toned}
                  </button>
                );
              })}
            </div>
          </section>
        ))}
        <output>{all !== null && groups.length === 0 ? "No emoji by that name." : ""}</output>
      </div>
    </div>
  );
}

function groupsOf(all: readonly Emoji[], text: string, recent: readonly string[]) {
  if (text.trim() !== "") {
    const found = findEmoji(all, text, MOST_FOUND);
    return found.length === 0 ? [] : [{ title: "Found", emoji: found }];
  }
  const used = recent.flatMap((emoji): Emoji[] => {
    const one = all.find((other) => other.emoji === emoji || other.tones.includes(emoji));
    return one === undefined ? [] : [{ ...one, emoji, tones: [] }];
  });
  const groups = [...GROUPS].map(([number, title]) => ({
    title,
    emoji: all.filter(({ group }) => group === number),
  }));
  return [{ title: "Used last", emoji: used }, ...groups].filter(({ emoji }) => emoji.length > 0);
}

/** Arrow keys move between emoji, up and down by the rows on the screen. */
function move(event: KeyboardEvent<HTMLElement>) {
  if (isComposing(event.nativeEvent)) return;
  const buttons = [...event.currentTarget.querySelectorAll<HTMLElement>(`.${css.emoji}`)];
  const at = buttons.indexOf(document.activeElement as HTMLElement);
  let next: HTMLElement | undefined;
  if (event.key === "ArrowDown" && at < 0) next = buttons[0];
  else if (at < 0) return;
  else if (event.key === "ArrowRight") next = buttons[at + 1];
  else if (event.key === "ArrowLeft") next = buttons[at - 1];
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const down = event.key === "ArrowDown";
    const { left, top } = (buttons[at] as HTMLElement).getBoundingClientRect();
    const others = down ? buttons.slice(at + 1) : buttons.slice(0, at).toReversed();
    const isBeyond = (rect: DOMRect) => (down ? rect.top > top + 1 : rect.top < top - 1);
    next = others.find((other) => {
      const rect = other.getBoundingClientRect();
      return isBeyond(rect) && Math.abs(rect.left - left) < rect.width;
    });
  } else return;
  event.preventDefault();
  next?.focus();
}
