import { looksOf } from "../names.ts";

/** What the words of a list look like, and how many single words each has. */
type Filter = { looks: ReadonlySet<string>; lengths: readonly number[] };

const filters = new WeakMap<readonly string[], Filter>();

/**
 * Whether a text has one of these words, as people read it: without case, width and accents, letters of other scripts as
 * the ones that they look like, and letters with gaps between them as one word. Whole words alone: no name or place is
 * refused for what stands inside it. Takes time linear in the text, however many words there are.
 */
export function hasOneOf(words: readonly string[], text: string): boolean {
  if (words.length === 0) return false;
  let filter = filters.get(words);
  if (!filter) filters.set(words, (filter = filterOf(words)));
  const { looks, lengths } = filter;
  return spelt(text).some((parts) =>
    lengths.some((length) =>
      parts.some((_, start) => looks.has(parts.slice(start, start + length).join(" "))),
    ),
  );
}

/** Whether anything of a word is left to compare. */
export function isWord(word: string): boolean {
  return spelt(word).every((parts) => parts.length > 0);
}

function filterOf(words: readonly string[]): Filter {
  const all = words.flatMap(spelt).filter((parts) => parts.length > 0);
  return {
    looks: new Set(all.map((parts) => parts.join(" "))),
    lengths: [...new Set(all.map((parts) => parts.length))],
  };
}

/** The words that a text looks like it has; single letters in a row are one word. */
function spelt(text: string): string[][] {
  return looksOf(text).map((look) =>
    look
      .normalize("NFKD")
      .replaceAll(/\p{M}/gu, "")
      .replaceAll(/[^\p{L}\p{N}]+/gu, " ")
      .trim()
      .replaceAll(/(?<=^| )(?:[\p{L}\p{N}] )+[\p{L}\p{N}](?= |$)/gu, (letters) => letters.replaceAll(" ", ""))
      .split(" ")
      .filter((part) => part !== ""),
  );
}
