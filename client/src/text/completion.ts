/** A word that is being typed and may be completed: a name behind an @, or an emoji's behind a colon. */
export type Wanted = { kind: "person" | "emoji"; from: number; text: string };

const LONGEST = 40;

/** What is being typed at the caret, or null. */
export function wantedAt(text: string, caret: number): Wanted | null {
  const before = text.slice(Math.max(0, caret - LONGEST), caret);
  const person = /(?:^|[^\w.+@/-])@([\w.-]*)$/.exec(before)?.[1];
  if (person !== undefined) return { kind: "person", from: caret - person.length - 1, text: person };
  const emoji = /(?:^|[^\w:/]):([a-z][\w+-]+)$/i.exec(before)?.[1];
  if (emoji !== undefined) return { kind: "emoji", from: caret - emoji.length - 1, text: emoji };
  return null;
}

/** The text with what was wanted put in, and where the caret is then. */
export function complete(
  text: string,
  caret: number,
  { from }: Wanted,
  word: string,
): { text: string; caret: number } {
  const space = /^\s/.test(text.slice(caret)) ? "" : " ";
  return { text: `${text.slice(0, from)}${word}${space}${text.slice(caret)}`, caret: from + word.length + 1 };
}
