import { expect, test } from "vitest";
import { complete, wantedAt } from "./completion.ts";

test.each([
  ["@", { kind: "person", from: 0, text: "" }],
  ["hi @an", { kind: "person", from: 3, text: "an" }],
  ["(@an", { kind: "person", from: 1, text: "an" }],
  ["hi @محم", { kind: "person", from: 3, text: "محم" }],
  ["日本@山", { kind: "person", from: 2, text: "山" }],
  ["a@b", null],
  ["https://x.example/@b", null],
  [":smi", { kind: "emoji", from: 0, text: "smi" }],
  ["so :+1", null],
  ["so :thumbs", { kind: "emoji", from: 3, text: "thumbs" }],
  ["at 10:30", null],
  ["a::b", null],
  [":)", null],
  ["https://x", null],
])("in %j the word at the caret is %j", (text, wanted) => {
  expect(wantedAt(text, text.length)).toEqual(wanted);
});

test("a completed word replaces what was typed, followed by one space", () => {
  const wanted = { kind: "person", from: 3, text: "an" } as const;
  expect(complete("hi @an", 6, wanted, "@ann")).toEqual({ typed: "@ann ", caret: 8 });
  expect(complete("hi @an there", 6, wanted, "@ann")).toEqual({ typed: "@ann", caret: 8 });
});
