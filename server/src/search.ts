/** What to search for: `text` as a whole, and its words. Without words every name matches. */
export type Search = { text: string; words: readonly string[] };

/** Letters without a removable accent that people type without one nevertheless. */
const TYPED_AS: Readonly<Record<string, string>> = {
  æ: "ae",
  œ: "oe",
  ø: "o",
  ł: "l",
  đ: "d",
  ð: "d",
  ħ: "h",
  ŧ: "t",
  þ: "th",
  // Keyboards for Arabic, for Persian and for Urdu have different ones of these.
  "\u0643": "\u06A9",
  "\u0649": "\u06CC",
  "\u064A": "\u06CC",
};
/** The zeros of the digits that people type in other scripts: nine more follow each. */
const ZEROS = Array.from("٠۰०০੦૦୦௦౦೦൦๐໐༠၀០", (zero) => zero.charCodeAt(0));
/** Accents of Latin, Greek and Cyrillic letters, points of Hebrew and Arabic ones. */
const MARKS = /[\u0300-\u036F\u0591-\u05C7\u064B-\u065F\u0670]/g;

/** More marks on one letter than any language has: to put them in order takes the square of their number. */
const HEAP = /(\p{M}{4})\p{M}+/gu;

/** The visible form: NFKC, without invisible characters, with every gap as one space, and four marks on a letter. */
export function visible(name: string): string {
  return name
    .replaceAll(/\p{Default_Ignorable_Code_Point}/gu, "")
    .replaceAll(HEAP, "$1")
    .normalize("NFKC")
    .replaceAll(/[\s\u2800]+/gu, " ")
    .trim();
}

/** Removes case, by way of upper case, as Unicode folds: the two small sigmas become one letter. */
export function foldCase(text: string): string {
  return text.toUpperCase().toLowerCase().replaceAll("ς", "σ");
}

/** A name in the form for comparisons: without case, accents and widths, and with the digits of ASCII. */
export function fold(name: string): string {
  if (/^[!-~]+(?: [!-~]+)*$/.test(name)) return name.toLowerCase();
  return foldCase(visible(name.replaceAll(/\p{Cc}/gu, " ")))
    .normalize("NFKD")
    .replaceAll(MARKS, "")
    .replaceAll(/[\u00E6-\u0167\u0643\u0649\u064A]/g, (letter) => TYPED_AS[letter] ?? letter)
    .replaceAll(/(?!\d)\p{Nd}/gu, digitOf)
    .normalize("NFC");
}

/** The digit of ASCII for one of another script; anything else stays. */
function digitOf(sign: string): string {
  const code = sign.charCodeAt(0);
  const zero = ZEROS.find((one) => code >= one && code < one + 10);
  return zero === undefined ? sign : String(code - zero);
}

/** Ignores the signs that chats write before names, as in @mary and #design. */
export function searchFor(text: string): Search {
  const folded = fold(text).replace(/^[@#](?=.)/, "");
  return { text: folded, words: folded === "" ? [] : folded.split(" ") };
}

/**
 * How well a folded name matches the text: 4 equal, 3 begins with it, 2 each word of the text begins one of its words, 1
 * contains all words of the text, 0 not at all.
 */
export type Match = 0 | 1 | 2 | 3 | 4;

export function matchOf(folded: string, { text, words }: Search): Match {
  if (folded.startsWith(text)) return folded.length === text.length ? 4 : 3;
  if (!words.every((word) => folded.includes(word))) return 0;
  return words.every((word) => beginsWord(folded, word)) ? 2 : 1;
}

function beginsWord(folded: string, word: string): boolean {
  let at = folded.indexOf(word);
  while (at > 0 && IN_WORD.test(folded.charAt(at - 1))) at = folded.indexOf(word, at + 1);
  return at >= 0;
}

const IN_WORD = /[\p{L}\p{N}]/u;
