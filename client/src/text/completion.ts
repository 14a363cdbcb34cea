/** A word being typed that may be completed: a name after an @, or an emoji's after a colon. */
export type Wanted = { kind: "person" | "emoji"; from: number; text: string };

const LONGEST = 40;

/** The word being typed at the caret, or null. */
export function wantedAt(text: string, caret: number): Wanted | null {
  const before = text.slice(Math.max(0, caret - LONGEST), caret);
  // Before the @ only the letters of addresses count: some scripts have no spaces.
  const person = /(?:^|[^\w.+@/-])@([\p{L}\p{M}\p{N}_.-]*)$/u.exec(before)?.[1];
  if (person !== undefined) return { kind: "person", from: caret - person.length - 1, text: person };
  const emoji = /(?:^|[^\w:/]):([a-z][\w+-]+)$/i.exec(before)?.[1];
  if (emoji !== undefined) return { kind: "emoji", from: caret - emoji.length - 1, text: emoji };
  return null;
}

/** What to type in place of the wanted word, and where the caret is then. */
export function complete(
  text: string,
  caret: number,
  { from }: Wanted,
  word: string,
): { typed: string; caret: number } {
  const space = /^\s/.test(text.slice(caret)) ? "" : " ";
  return { typed: `${word}${space}`, caret: from + word.length + 1 };
}
