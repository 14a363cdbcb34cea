import { looksOf } from "../names.ts";

/** What the words of a list look like, as a tree: by its next single word, where a filtered word goes on or ends. */
type Filter = { next: Map<string, Filter>; ends: boolean };

const filters = new WeakMap<readonly string[], Filter>();

/** Signs that Unicode spells out as a sentence: a short text of them would be as long as a book. */
const SENTENCES = /[\uFDFA\uFDFB]/g;

/**
 * Whether a text has one of these words, as people read it: without case, width and accents, letters of other scripts as
 * the ones that they look like, and letters with gaps between them as one word. Whole words alone: no name or place is
 * refused for what stands inside it. Takes time linear in the text, however many words there are.
 */
export function hasOneOf(words: readonly string[], text: string): boolean {
  if (words.length === 0) return false;
  let filter = filters.get(words);
  if (!filter) filters.set(words, (filter = filterOf(words)));
  const all = filter;
  return spelt(text).some((parts) => parts.some((_, start) => beginsAt(all, parts, start)));
}

/** Whether a filtered word begins at this place. */
function beginsAt(filter: Filter, parts: readonly string[], start: number): boolean {
  let at: Filter | undefined = filter;
  for (let index = start; at && !at.ends; index += 1) at = at.next.get(parts[index] ?? "");
  return at !== undefined;
}

/** Whether anything of a word is left to compare. */
export function isWord(word: string): boolean {
  return spelt(word).every((parts) => parts.length > 0);
}

function filterOf(words: readonly string[]): Filter {
  const root: Filter = { next: new Map(), ends: false };
  for (const parts of words.flatMap(spelt)) {
    let at = root;
    for (const part of parts) {
      const next = at.next.get(part) ?? { next: new Map(), ends: false };
      at.next.set(part, next);
      at = next;
    }
    if (at !== root) at.ends = true;
  }
  return root;
}

/** The words that a text looks like it has; single letters in a row are one word. */
function spelt(text: string): string[][] {
  return looksOf(text.replaceAll(SENTENCES, " ")).map((look) =>
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
