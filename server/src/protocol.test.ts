import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isEmoji, isEmojiOnly } from "./protocol.ts";

const ONE = new RegExp(String.raw`^\p{RGI_Emoji}$`, "v");
const SOME = new RegExp(String.raw`^\p{RGI_Emoji}(?:\s?\p{RGI_Emoji}){0,2}\s?$`, "v");

test("a text of only emoji is told from any other as one expression would tell it", () => {
  const part = fc.oneof(
    fc.constantFrom("👍", "👍🏽", "❤️", "❤", "1️⃣", "#️⃣", "🇩🇪", "🇩", "👩‍❤️‍💋‍👨", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🏽", "🦰", "👨‍👩‍👧‍👦"),
    fc.constantFrom(" ", "\u200D", "\uFE0F", "\u20E3", "1", "a", "ж", "!", "\n"),
    fc.string({ unit: "binary", maxLength: 2 }),
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
      const text = parts.join("");
      expect(isEmoji(text)).toBe(ONE.test(text));
      expect(isEmojiOnly(text)).toBe(SOME.test(text));
    }),
    { numRuns: 5_000 },
  );
});

test("every emoji of Unicode's list for interchange is one, and no other symbol is", () => {
  const codes = Array.from({ length: 0x1faff - 0x22 }, (_, index) => String.fromCodePoint(0x23 + index));
  const symbols = codes.filter((text) => /[\p{Emoji}\p{S}\p{P}]/u.test(text));
  const texts = symbols.flatMap((text) => [text, `${text}\uFE0F`]);
  expect(texts.filter((text) => isEmoji(text) !== ONE.test(text))).toEqual([]);
  expect(texts.filter(isEmoji).length).toBeGreaterThan(1_000);
});
