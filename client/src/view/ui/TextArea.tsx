import type { AriaAttributes, KeyboardEvent, Ref } from "react";
import { isComposing } from "../keys.ts";
import css from "./TextArea.module.css";

type Props = {
  ref: Ref<HTMLTextAreaElement>;
  id?: string;
  label: string;
  placeholder?: string;
  text: string;
  invalid: boolean;
  /** The id of what says more about the text. */
  note: string;
  onText: (text: string) => void;
  onSend: () => void;
  onKeyDown?: (event: KeyboardEvent<HTMLTextAreaElement>) => void;
  /** The caret was moved, or a part of the text chosen. */
  onCaret?: () => void;
  onBlur?: () => void;
  /** Of a list that completes what is typed. */
  list?: Pick<AriaAttributes, "aria-autocomplete" | "aria-controls" | "aria-activedescendant">;
};

/**
 * A field that is as high as its text. Enter sends; with any other key held, it begins a new line. An unseen copy of
 * the text gives the height, so that the layout is never changed to measure it.
 */
export function TextArea({
  ref,
  id,
  label,
  placeholder,
  text,
  invalid,
  note,
  onText,
  onSend,
  onKeyDown,
  onCaret,
  onBlur,
  list,
}: Props) {
  function onKey(event: KeyboardEvent<HTMLTextAreaElement>) {
    if (isComposing(event.nativeEvent)) return;
    onKeyDown?.(event);
    if (event.key !== "Enter" || event.shiftKey || event.defaultPrevented) return;
    event.preventDefault();
    // With Shift browsers do this themselves; like this, it can be undone as well.
    if (event.altKey || event.ctrlKey || event.metaKey) document.execCommand("insertText", false, "\n");
    else onSend();
  }

  return (
    <div className={css.area} data-text={text}>
      <textarea
        id={id}
        ref={ref}
        rows={1}
        value={text}
        dir="auto"
        aria-label={label}
        placeholder={placeholder}
        aria-describedby={note}
        aria-invalid={invalid}
        enterKeyHint="send"
        onChange={(event) => onText(event.target.value)}
        onKeyDown={onKey}
        onSelect={onCaret}
        onBlur={onBlur}
        {...list}
      />
    </div>
  );
}
