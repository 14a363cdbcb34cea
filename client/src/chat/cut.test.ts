import { expect, test } from "vitest";
import { cut } from "./cut.ts";

test.each([
  ["abcd", 3, "abc"],
  ["abc", 3, "abc"],
  ["ab😀", 3, "ab"],
  ["ab😀c", 4, "ab😀"],
  ["cafe\u0301s", 4, "caf"],
  ["a👍🏽b", 3, "a"],
  ["a👩‍👧b", 4, "a"],
  ["a🇩🇪b", 3, "a"],
  ["🇩🇪🇫🇷", 6, "🇩🇪"],
  ["🇩🇪🇫🇷", 4, "🇩🇪"],
  [`a${"\u0301".repeat(90)}`, 60, `a${"\u0301".repeat(59)}`],
])("%j is cut at %i to %j, and not within a character", (text, most, beginning) => {
  expect(cut(text, most)).toBe(beginning);
});
