/** What belongs to the character before it. */
const JOINED = /^[\p{M}\p{Emoji_Modifier}\u{200d}]/u;
/** Two of these are a flag. */
const FLAG_PART = /^[\u{1f1e6}-\u{1f1ff}]/u;
/** The longest character that is not cut, in UTF-16 units. */
const LONGEST = 32;

/** The last place between two characters that is not after `at`, in UTF-16 units. */
export function placeBetween(text: string, at: number): number {
  for (let place = at; place > Math.max(0, at - LONGEST); place -= 1) {
    const next = text.slice(place, place + 2);
    const isWithin = text[place - 1] === "\u{200d}" || JOINED.test(next) || isHalfFlag(text, place, next);
    if (!isWithin && !isLow(text, place)) return place;
  }
  return isLow(text, at) ? at - 1 : at;
}

/** The beginning of a text, of so many UTF-16 units at most, without the half of a character at its end. */
export function cut(text: string, most: number): string {
  return text.length <= most ? text : text.slice(0, placeBetween(text, most));
}

/** Each part has two units, and what comes before the flag may be flags too. */
function isHalfFlag(text: string, place: number, next: string): boolean {
  if (!FLAG_PART.test(next)) return false;
  let parts = 0;
  for (let at = place - 2; at >= 0 && FLAG_PART.test(text.slice(at, at + 2)); at -= 2) parts += 1;
  return parts % 2 === 1;
}

function isLow(text: string, at: number): boolean {
  return /^[\u{dc00}-\u{dfff}]/u.test(text.slice(at, at + 1));
}
