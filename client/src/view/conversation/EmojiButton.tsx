import { Suspense, useRef, useState } from "react";
import { isComposing } from "../keys.ts";
import { later } from "../later.ts";
import { IconButton } from "../ui/Button.tsx";
import css from "./EmojiButton.module.css";

const EmojiPicker = later(async () => (await import("../ui/EmojiPicker.tsx")).EmojiPicker);

/** Opens the emoji picker above it. Escape, a choice, and losing the focus close it. */
export function EmojiButton({ onPick }: { onPick: (emoji: string) => void }) {
  const [open, setOpen] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  return (
    // oxlint-disable-next-line jsx-a11y/no-static-element-interactions -- Escape and the focus of what is in it
    <div
      ref={place}
      className={css.place}
      onBlur={({ relatedTarget }) => {
        if (relatedTarget !== null && !place.current?.contains(relatedTarget)) setOpen(false);
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !open || isComposing(event.nativeEvent)) return;
        event.preventDefault();
        event.stopPropagation();
        setOpen(false);
        place.current?.querySelector("button")?.focus();
      }}
    >
      <IconButton icon="smile" label="Emoji" aria-expanded={open} onClick={() => setOpen(!open)} />
      {open && (
        // oxlint-disable-next-line jsx-a11y/prefer-tag-over-role -- it is placed by what it stands in
        <div className={css.panel} role="dialog" aria-label="Emoji">
          <Suspense fallback={null}>
            <EmojiPicker
              onPick={(emoji) => {
                setOpen(false);
                onPick(emoji);
              }}
            />
          </Suspense>
        </div>
      )}
    </div>
  );
}
