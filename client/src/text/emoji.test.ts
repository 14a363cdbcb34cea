import { expect, test } from "vitest";
import { arrange, findEmoji } from "./emoji.ts";

const all = arrange(
  [
    {
      hexcode: "1F44D",
      label: "thumbs up",
      unicode: "👍️",
      group: 1,
      order: 3,
      tags: ["yes"],
      skins: ["👍🏻", "👍🏼", "👍🏽", "👍🏾", "👍🏿"].map((unicode) => ({ unicode })),
    },
    { hexcode: "1F600", label: "grinning face", unicode: "😀", group: 0, order: 1, tags: ["smile"] },
    {
      hexcode: "1F604",
      label: "grinning face with smiling eyes",
      unicode: "😄",
      group: 0,
      order: 2,
      tags: ["happy"],
    },
    { hexcode: "1F1E6", label: "regional indicator A", unicode: "🇦" },
  ],
  { "1F44D": ["+1", "thumbsup"], "1F604": "smile" },
);

test("emoji come in Unicode's order, with their skin tones, and without components", () => {
  expect(all.map(({ emoji }) => emoji)).toEqual(["😀", "😄", "👍️"]);
  expect(all.map(({ tones }) => tones.length)).toEqual([0, 0, 5]);
});

test.each([
  ["smile", ["😄", "😀"]],
  ["thumbs up", ["👍️"]],
  ["THUMBS", ["👍️"]],
  ["rinn", ["😀", "😄"]],
  ["yes", ["👍️", "😄"]],
  ["nothing", []],
])("%s finds %j, names first", (text, found) => {
  expect(findEmoji(all, text).map(({ emoji }) => emoji)).toEqual(found);
});
