import { findLinks } from "@hubbub/server/links";
import { memo } from "react";

const EMOJI_ONLY =
  /^(?:\p{Extended_Pictographic}(?:[\u{1F3FB}-\u{1F3FF}]|\uFE0F)*(?:\u200D\p{Extended_Pictographic}\uFE0F?)*\s?){1,3}$/u;

/** What somebody wrote, character by character, as text; only http, https and mailto addresses become links. */
export const Text = memo(function Text({ text }: { text: string }) {
  return (
    <span className={text.length < 24 && EMOJI_ONLY.test(text) ? "text text-emoji" : "text"} dir="auto">
      {findLinks(text).map((part, index) =>
        part.href === null ? (
          part.text
        ) : (
          <a key={index} href={part.href} target="_blank" rel="noopener noreferrer nofollow">
            {part.text}
          </a>
        ),
      )}
    </span>
  );
});
