import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isReservedUsername, isVisible, looksLikeGeneral, looksOf } from "./names.ts";

/** Whether one name can be mistaken for the other. */
function alike(one: string, other: string): boolean {
  const looks = looksOf(one);
  return looksOf(other).some((look) => looks.includes(look));
}

describe("two names look alike", () => {
  it.each([
    ["general", "GENERAL", "without case"],
    ["Generаl", "General", "with a Cyrillic a"],
    ["ВОЕ", "BOE", "in Cyrillic capitals, whose small letters look otherwise"],
    ["Οffice", "Office", "with a Greek Omicron"],
    ["οffice", "office", "with a Greek omicron"],
    ["Ｏｆｆｉｃｅ", "Office", "in full width"],
    ["𝐎𝐟𝐟𝐢𝐜𝐞", "Office", "in mathematical bold"],
    ["𝔒𝔣𝔣𝔦𝔠𝔢", "Office", "in mathematical Fraktur"],
    ["Ⓞffice", "Office", "with a circled letter"],
    ["oﬃce", "office", "with a ligature"],
    ["ⅼog", "log", "with a Roman numeral"],
    ["ΟΔΟΣ", "οδος", "in capitals, with a final sigma"],
    ["PAlNT", "PAINT", "with a small l for a capital I"],
    ["Phase 1", "Phase l", "with a digit for a letter"],
    ["r00m", "rOOm", "with zeros"],
    ["modern", "rnodern", "with two letters that run together"],
    ["off\u200bice", "office", "with a zero-width space"],
    ["off\u2060ice", "office", "with a word joiner"],
    ["off\u00adice", "office", "with a soft hyphen"],
    ["off\u034fice", "office", "with a grapheme joiner, which is a combining mark"],
    ["office\ufe0f", "office", "with a variation selector"],
    ["office\u3164", "office", "with a Hangul filler, which is a letter"],
    ["office\u{e0061}", "office", "with a tag character"],
    ["the\u00a0office", "the office", "with a space that does not break"],
    ["the  office", "the office", "with two spaces"],
    ["the\u2800office", "the office", "with a Braille blank"],
    ["  office ", "office", "with blanks around it"],
    ["Cafe\u0301", "Café", "composed and decomposed"],
    ["Caf\u0435\u0301", "Café", "with a mark on a Cyrillic letter"],
    ["straße", "STRASSE", "in capitals"],
  ])("%j and %j, %s", (one, other) => {
    expect(alike(one, other)).toBe(true);
    expect(alike(other, one)).toBe(true);
  });

  it.each([
    ["Mail", "Mall"],
    ["info", "lnfo"],
    ["Café", "Cafe"],
    ["Team 1", "Team 2"],
    ["Design", "Designs"],
    ["general", "generals"],
    ["обед", "ужин"],
    ["会議", "会计"],
    ["🐢", "🐇"],
    ["Room 10", "Room 100"],
  ])("but not %j and %j", (one, other) => {
    expect(alike(one, other)).toBe(false);
  });

  it("in another case, in another normal form, and with invisible characters", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 20 });
    const unseen = fc.constantFrom("\u200b", "\u200d", "\u034f", "\ufe0f", "\u3164", "\u{e0100}");
    fc.assert(
      fc.property(text, unseen, fc.nat(), (name, sign, place) => {
        expect(alike(name, name.normalize("NFD"))).toBe(true);
        expect(alike(name, name.normalize("NFKC"))).toBe(true);
        expect(alike(name, name.toUpperCase())).toBe(true);
        const at = Array.from(name)
          .slice(0, place % (name.length + 1))
          .join("").length;
        // An invisible character between a letter and its mark separates the two.
        fc.pre(!/^\p{M}/u.test(name.slice(at)));
        expect(alike(name, name.slice(0, at) + sign + name.slice(at))).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it("as fast for 64 characters of any kind as for letters", () => {
    for (const unit of ["a", "\u0301", "ﷺ", "𝐆", "1", " ", "\u200b", "ಹ"]) {
      const began = performance.now();
      for (let round = 0; round < 10; round += 1) looksOf(unit.repeat(64));
      expect(performance.now() - began, unit).toBeLessThan(500);
    }
  });
});

it.each(["\u3164", "\u2800", "\u034f\ufe0f", " \u00a0 ", "", "\u115f\u1160"])(
  "the name %j is invisible",
  (name) => {
    expect(isVisible(name)).toBe(false);
    expect(isVisible(`${name}x`)).toBe(true);
  },
);

describe("a username", () => {
  it.each([
    "admin",
    "Admin",
    "ADMIN",
    "administrator",
    "adm1n",
    "admln",
    "aDmIn",
    "4dmin",
    "_admin_",
    "ad.min",
    "system",
    "SYSTEM",
    "sy5tem",
    "-system-",
    "root",
    "r00t",
    "rO0t",
    "hubbub",
    "Hubbub.",
    "support",
    "moderator",
    "m0derator",
    "rnoderator",
    "everyone",
    "here",
    "channel",
    "channe1",
    "chaNNeI",
    "room",
    "deleted",
    "de1eted",
    "deleted_user",
  ])("%j is reserved", (name) => {
    expect(isReservedUsername(name)).toBe(true);
  });

  it.each([
    "Pablo",
    "ali",
    "Alina",
    "adminton",
    "badminton",
    "systematic",
    "rooter",
    "rosupport",
    "Ann",
    "...",
    "user",
    "bot",
    "person1",
    "he",
    "there",
    "roomy",
    "constructor",
    "__proto__",
    "1234",
    "info",
    "hereford",
  ])("%j is free", (name) => {
    expect(isReservedUsername(name)).toBe(false);
  });
});

describe("a room's name", () => {
  it.each([
    "General",
    "general",
    "Generаl",
    "Ｇｅｎｅｒａｌ",
    "𝐆eneral",
    "Genera1",
    "GeneraI",
    "Gеnеrаl",
    "Genéral",
    "G\u0335eneral",
    "General!",
    "#general",
    "Gen\u200beral",
    "- General -",
    "Ｇ.e.n.e.r.a.l",
  ])("%j looks like General", (name) => {
    expect(looksLikeGeneral(name)).toBe(true);
  });

  it.each(["Generals", "General chat", "Genera", "Gen", "Café", "Deneral", "通用"])(
    "%j does not look like General",
    (name) => {
      expect(looksLikeGeneral(name)).toBe(false);
    },
  );
});
