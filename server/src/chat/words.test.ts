import { expect, it } from "vitest";
import { hasOneOf, isWord } from "./words.ts";

const WORDS = ["darn", "Two words", "l33t", "häßlich", "плохо"];

it.each([
  "darn",
  "DARN it!",
  "ｄａｒｎ",
  "d\u200ba\u00adrn",
  "dаrn",
  "dárn",
  "d a r n",
  "d.a-r_n",
  "(darn)",
  "two\n words",
  "so two words, then",
  "L33T",
  "HÄSSLICH",
  "ПЛОХО",
])("is found as people read it: %j", (text) => {
  expect(hasOneOf(WORDS, text)).toBe(true);
});

it.each(["darning", "undarn", "two", "words two", "twowords", "a b c", "", "🙂", "d a r"])(
  "is not found in %j",
  (text) => {
    expect(hasOneOf(WORDS, text)).toBe(false);
  },
);

it("is compared without the sentences that Unicode has in one sign: 4,000 of them would be a book", () => {
  expect(hasOneOf(["صلى", "darn"], "\ufdfa".repeat(4_000))).toBe(false);
  expect(hasOneOf(["صلى", "darn"], "صلى")).toBe(true);
  expect(hasOneOf(["darn"], "d\ufdfaa\ufdfbr\ufdfan")).toBe(true);
  expect(isWord("\ufdfa")).toBe(false);
});

it("is found among words that begin alike, and each only as a whole", () => {
  const words = ["so it goes", "so", "it was so then", "was it"];
  const isFiltered = (text: string) => hasOneOf(words, text);
  expect(
    ["so it", "it was so", "and so it goes on", "then it was it", "it was so then"].map(isFiltered),
  ).toEqual([true, true, true, true, true]);
  expect(["it was then", "it was", "goes it", "was"].map(isFiltered)).toEqual([false, false, false, false]);
});

it("takes no words as words without a letter or a digit", () => {
  expect(["a", "1", "¿que?", "字"].map(isWord)).toEqual([true, true, true, true]);
  expect(["", " ", "!?", "\u200b"].map(isWord)).toEqual([false, false, false, false]);
});
