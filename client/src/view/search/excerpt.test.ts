import { describe, expect, it } from "vitest";
import { excerptOf } from "./excerpt.ts";

/** With what was found in brackets. */
function shown(text: string, q: string): string {
  return excerptOf(text, q)
    .map((part) => (part.found ? `[${part.text}]` : part.text))
    .join("");
}

describe("an excerpt", () => {
  it.each([
    ["The coffee is cold", "COFF", "The [coff]ee is cold"],
    ["le cafe\u0301 noir", "café", "le [cafe\u0301] noir"],
    ["Die Straße", "strasse", "Die [Straße]"],
    ["明日の会議室は", "会議", "明日の[会議]室は"],
    ["ＡＢＣ", "b", "Ａ[Ｂ]Ｃ"],
    ["one\n\ntwo one", "one two", "[one]\n\n[two] [one]"],
    ["a .*( b", ".*(", "a [.*(] b"],
    ["🎉🎊", "🎊", "🎉[🎊]"],
    ["nothing", "else", "nothing"],
  ])("of %j for %j is %j", (text, q, told) => {
    expect(shown(text, q)).toBe(told);
  });

  it("of a long text begins a little before the first match, and is always short", () => {
    const told = shown(`${"x".repeat(500)} needle ${"🎉".repeat(300)}`, "needle");
    expect(told).toMatch(/^…x{39} \[needle\] 🎉+…$/u);
    expect(told.length).toBeLessThan(260);
  });
});
