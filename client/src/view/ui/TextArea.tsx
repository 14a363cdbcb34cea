import type { AriaAttributes, KeyboardEvent, Ref } from "react";
import { announce } from "../announce.tsx";
import { isComposing } from "../keys.ts";
import css from "./TextArea.module.css";

type Props = {
  ref: Ref<HTMLTextAreaElement>;
  id?: string;
  label: string;
  placeholder?: string;
  text: string;
  invalid: boolean;
  /** The text can be read and copied, but not changed. */
  readOnly?: boolean;
  /** The id of an element that describes the text. */
  note: string;
  onText: (text: string) => void;
  onSend: () => void;
  onKeyDown?: (event: KeyboardEvent<HTMLTextAreaElement>) => void;
  /** Called when the caret or the selection changes. */
  onCaret?: () => void;
  onBlur?: () => void;
  /** The ARIA attributes for a list of completions. */
  list?: Pick<AriaAttributes, "aria-autocomplete" | "aria-controls" | "aria-activedescendant">;
};

/** So many characters are higher than the field can be; to draw more of a pasted book twice would delay each key. */
const MEASURED = 20_000;

/** Puts a text in place of a part of a field's, which gets the focus, as typing it would: it can be undone. */
export function typeInto(field: HTMLTextAreaElement, from: number, to: number, text: string): void {
  field.focus();
  field.setSelectionRange(from, to);
  // A value that is set instead forgets all that could be undone.
  document.execCommand("insertText", false, text);
}

/**
 * A field as high as its text. Enter sends, unless it is held; Enter with a modifier begins a new line. An invisible copy of the text
 * gives the height, so that measuring never changes the layout.
 */
export function TextArea({
  ref,
  id,
  label,
  placeholder,
  text,
  invalid,
  readOnly = false,
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
    if (readOnly) return;
    const { selectionStart, selectionEnd } = event.currentTarget;
    // Browsers do this only with Shift.
    if (event.altKey || event.ctrlKey || event.metaKey)
      typeInto(event.currentTarget, selectionStart, selectionEnd, "\n");
    else if (!event.repeat) {
      // The note says why nothing is sent.
      if (invalid) announce(document.getElementById(note)?.textContent ?? "");
      onSend();
    }
  }

  return (
    <div className={css.area} data-text={text.slice(0, MEASURED)}>
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
        readOnly={readOnly}
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
