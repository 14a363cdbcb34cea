import { fold } from "@hubbub/server/search";
import { placeBetween } from "../../chat/cut.ts";

/** Parts of a text, in order; matches are `found`. */
export type Part = { text: string; found: boolean };

const BEFORE = 40;
const MOST = 240;

/** The part of a text that shows its matches: it starts a little before the first one. */
export function excerptOf(text: string, q: string): Part[] {
  const words = [...new Set(fold(q).split(" ").filter(Boolean))];
  const { folded, places } = foldEach(text);
  const found: [from: number, to: number][] = [];
  for (const word of words) {
    for (let at = folded.indexOf(word); at >= 0; at = folded.indexOf(word, at + word.length))
      found.push([places[at] ?? 0, places[at + word.length] ?? text.length]);
  }
  found.sort(([one], [other]) => one - other);
  const start = placeBetween(text, Math.max(0, (found[0]?.[0] ?? 0) - BEFORE));
  const end = placeBetween(text, Math.min(text.length, start + MOST));
  const parts: Part[] = start > 0 ? [{ text: "…", found: false }] : [];
  let at = start;
  for (const [from, to] of found) {
    if (to <= at || from >= end) continue;
    if (from > at) parts.push({ text: text.slice(at, from), found: false });
    const until = Math.min(to, end);
    parts.push({ text: text.slice(Math.max(at, from), until), found: true });
    at = until;
  }
  if (at < end) parts.push({ text: text.slice(at, end), found: false });
  if (end < text.length) parts.push({ text: "…", found: false });
  return parts;
}

/** The folded text, and the position in the text of each of its units. */
function foldEach(text: string): { folded: string; places: number[] } {
  let folded = "";
  const places: number[] = [];
  let place = 0;
  for (const letter of text) {
    const one = /\s/.test(letter) ? " " : fold(letter);
    if (!(one === " " && folded.endsWith(" "))) {
      folded += one;
      for (let unit = 0; unit < one.length; unit += 1) places.push(place);
    }
    place += letter.length;
  }
  return { folded, places: [...places, text.length] };
}
