import { isBlank } from "@hubbub/server/protocol";
import { memo } from "react";
import { classes } from "../ui/classes.ts";
import css from "./Text.module.css";
import { useLinks } from "./useLinks.ts";

/** One to three emoji as Unicode recommends them for interchange. The flag is newer than the language we build for. */
const EMOJI_ONLY = new RegExp("^\\p{RGI_Emoji}(?:\\s?\\p{RGI_Emoji}){0,2}\\s?$", "v");
const EMOJI_LONGEST = 100;

/** What somebody wrote, character by character, as text; only http, https and mailto addresses become links. */
export const Text = memo(function Text({ text }: { text: string }) {
  const parts = useLinks(text);
  const emoji = text.length <= EMOJI_LONGEST && EMOJI_ONLY.test(text);
  return (
    <span data-part="text" className={classes(css.text, emoji && css.emoji, isBlank(text) && css.blank)}>
      {parts.map((part, index) =>
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
