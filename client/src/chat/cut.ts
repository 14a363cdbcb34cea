/** What belongs to the character before it. */
const JOINED = /^[\p{M}\p{Emoji_Modifier}\u{200d}]/u;
/** The longest character that is not cut, in UTF-16 units. */
const LONGEST = 32;

/** The last place between two characters that is not after `at`, in UTF-16 units. */
export function placeBetween(text: string, at: number): number {
  for (let place = at; place > Math.max(0, at - LONGEST); place -= 1) {
    const isWithin = text[place - 1] === "\u{200d}" || JOINED.test(text.slice(place, place + 2));
    if (!isWithin && !isLow(text, place)) return place;
  }
  return isLow(text, at) ? at - 1 : at;
}

/** The beginning of a text, of so many UTF-16 units at most, without the half of a character at its end. */
export function cut(text: string, most: number): string {
  return text.length <= most ? text : text.slice(0, placeBetween(text, most));
}

function isLow(text: string, at: number): boolean {
  return /^[\u{dc00}-\u{dfff}]/u.test(text.slice(at, at + 1));
}
