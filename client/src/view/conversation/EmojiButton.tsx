import { Suspense, useEffect, useRef, useState } from "react";
import { isComposing } from "../keys.ts";
import { later } from "../later.ts";
import { IconButton } from "../ui/Button.tsx";
import { NO_KEYBOARD } from "../useMedia.ts";
import css from "./EmojiButton.module.css";

const EmojiPicker = later(async () => (await import("../ui/EmojiPicker.tsx")).EmojiPicker);

/** Opens the emoji picker above it. Escape, a choice, a press beside it, and losing the focus close it. */
export function EmojiButton({ onPick }: { onPick: (emoji: string) => void }) {
  const [open, setOpen] = useState(false);
  const place = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (!open) return undefined;
    // The focus may be nowhere: a press on what cannot take it removes it.
    function onKeyDown(event: KeyboardEvent) {
      if (event.key !== "Escape" || isComposing(event)) return;
      event.preventDefault();
      event.stopPropagation();
      setOpen(false);
      place.current?.querySelector("button")?.focus();
    }
    function onPointerDown({ target }: Event) {
      if (target instanceof Node && !place.current?.contains(target)) setOpen(false);
    }
    addEventListener("keydown", onKeyDown, true);
    addEventListener("pointerdown", onPointerDown, true);
    return () => {
      removeEventListener("keydown", onKeyDown, true);
      removeEventListener("pointerdown", onPointerDown, true);
    };
  }, [open]);

  return (
    <div
      ref={place}
      className={css.place}
      onBlur={({ relatedTarget }) => {
        if (relatedTarget !== null && !place.current?.contains(relatedTarget)) setOpen(false);
      }}
    >
      <IconButton icon="smile" label="Emoji" aria-expanded={open} onClick={() => setOpen(!open)} />
      {open && (
        // oxlint-disable-next-line jsx-a11y/prefer-tag-over-role -- it is placed by what it stands in
        <div className={css.panel} role="dialog" aria-label="Emoji">
          <Suspense fallback={null}>
            <EmojiPicker
              focus={matchMedia(NO_KEYBOARD).matches}
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
