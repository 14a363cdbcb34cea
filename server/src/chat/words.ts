import { looksOf } from "../names.ts";

/**
 * The words of a list that a text has, as people read it: without case, width and accents, letters of other scripts as
 * the ones that they look like, and a word that is spelt with gaps between its letters as that word. Whole words alone:
 * nobody's name or place is refused for what stands inside it. Takes linear time.
 */
export function wordsIn(text: string, words: readonly string[]): string[] {
  if (words.length === 0) return [];
  const texts = spelt(text);
  return words.filter((word) =>
    spelt(word).some((look) => look !== "" && texts.some((one) => has(one, look))),
  );
}

function has(text: string, word: string): boolean {
  return ` ${text} `.includes(` ${word} `);
}

/** What a text looks like: its words with one space between them, single letters in a row as one word. */
function spelt(text: string): string[] {
  return looksOf(text).map((look) =>
    look
      .normalize("NFKD")
      .replaceAll(/\p{M}/gu, "")
      .replaceAll(/[^\p{L}\p{N}]+/gu, " ")
      .trim()
      .replaceAll(/(?<=^| )(?:[\p{L}\p{N}] )+[\p{L}\p{N}](?= |$)/gu, (letters) =>
        letters.replaceAll(" ", ""),
      ),
  );
}
