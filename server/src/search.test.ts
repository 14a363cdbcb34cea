import { expect, it } from "vitest";
import { fold, matchOf, searchFor, visible } from "./search.ts";

it("a name matches the better, the more it begins as the text and its words do", () => {
  const points = (text: string, name: string) => matchOf(fold(name), searchFor(text));
  expect(
    [
      ["team 49", "Team 49"],
      ["team", "Team 49"],
      ["49", "Team-49"],
      ["team 49", "Team beta 49"],
      ["be 4", "Team beta 49"],
      ["10", "A10 and 10"],
      ["team 49", "Team alpha 249"],
      ["eam", "Team 49"],
      ["team 50", "Team 49"],
      ["łodz", "In Łódź"],
    ].map(([text = "", name = ""]) => points(text, name)),
  ).toEqual([4, 3, 2, 2, 2, 2, 1, 1, 0, 2]);
});

it("a text is compared without the marks that somebody heaps on a letter, also with invisible characters between them", () => {
  const marks = "\u0323\u0300".repeat(1_000);
  for (const between of ["", "\u200d", "\u034f"]) {
    const heap = marks.split("").join(between);
    expect(visible(`q${heap} and q\u0323\u0300`)).toBe("q\u0323\u0323\u0300\u0300 and q\u0323\u0300");
    expect(fold(`Q${heap}uiet`)).toBe("quiet");
  }
});

it.each([
  ["كتاب", "کتاب"],
  ["فارسي", "فارسی"],
  ["مصطفى", "مصطفی"],
  ["مي‌خواهم", "می‌خواهم"],
  ["رئيس", "رییس"],
  ["12 مارس", "١٢ مارس"],
  ["12:30", "۱۲:۳۰"],
  ["2026", "२०२६"],
  ["42", "๔๒"],
])("%j is found as %j and the reverse, as keyboards of neighbours type it", (one, other) => {
  expect(fold(one)).toBe(fold(other));
});

it("letters and numbers that are others stay others", () => {
  expect(new Set(["ک", "گ", "ی", "ب", "1", "2", "²x", "½"].map(fold)).size).toBe(8);
});
