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

test("every emoji of Unicode's list for interchange is one", () => {
  let known = 0;
  for (let code = 0x23; code <= 0x1faff; code += 1) {
    for (const text of [String.fromCodePoint(code), `${String.fromCodePoint(code)}\uFE0F`]) {
      if (ONE.test(text)) known += 1;
      expect(isEmoji(text), text).toBe(ONE.test(text));
    }
  }
  expect(known).toBeGreaterThan(1_000);
});
