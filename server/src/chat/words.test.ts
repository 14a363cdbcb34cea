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

it("takes no words as words without a letter or a digit", () => {
  expect(["a", "1", "¿que?", "字"].map(isWord)).toEqual([true, true, true, true]);
  expect(["", " ", "!?", "\u200b"].map(isWord)).toEqual([false, false, false, false]);
});
