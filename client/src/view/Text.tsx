import { memo } from "react";

/** A link runs to the next space, quote or angle bracket. Linear: no two parts can match the same character. */
const LINK = /https?:\/\/[^\s<>"'`]+/gi;
const TRAILING = /[.,;:!?]+$/;
const EMOJI_ONLY =
  /^(?:\p{Extended_Pictographic}(?:[\u{1F3FB}-\u{1F3FF}]|\uFE0F)*(?:\u200D\p{Extended_Pictographic}\uFE0F?)*\s?){1,3}$/u;

/** What somebody wrote, character by character, as text; only http and https addresses become links. */
export const Text = memo(function Text({ text }: { text: string }) {
  return (
    <span className={text.length < 24 && EMOJI_ONLY.test(text) ? "text text-emoji" : "text"} dir="auto">
      {split(text).map((part, index) =>
        part.link === null ? (
          part.text
        ) : (
          <a key={index} href={part.link} target="_blank" rel="noopener noreferrer nofollow">
            {part.text}
          </a>
        ),
      )}
    </span>
  );
});

type Part = { text: string; link: string | null };

function split(text: string): Part[] {
  const parts: Part[] = [];
  let from = 0;
  for (const match of text.matchAll(LINK)) {
    const shown = trim(match[0]);
    if (!URL.canParse(shown)) continue;
    if (match.index > from) parts.push({ text: text.slice(from, match.index), link: null });
    parts.push({ text: shown, link: shown });
    from = match.index + shown.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from), link: null });
  return parts;
}

/** Without the punctuation of the sentence around it, nor a bracket that it did not open. */
function trim(link: string): string {
  const bare = link.replace(TRAILING, "");
  if (bare.endsWith(")") && !bare.includes("(")) return trim(bare.slice(0, -1));
  return bare;
}
