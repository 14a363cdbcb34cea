import { describe, expect, it } from "vitest";
import { weaknessOf } from "./passwords.ts";

describe("a password", () => {
  it.each([
    "password",
    "Password",
    "PASSWORD1",
    "password123",
    "p@ssw0rd",
    "P@$$w0rd",
    "passw0rd!",
    "(password)",
    "qwertyui",
    "qwertyuiop",
    "1q2w3e4r",
    "iloveyou",
    "Sunshine!",
    "football",
    "letmein1",
    "trustno1",
    "abcd1234",
    "ｐａｓｓｗｏｒｄ",
  ])("%j is refused as one of the first guesses", async (password) => {
    expect(await weaknessOf(password, "ann")).toMatch(/guessed first/);
  });

  it.each([
    "        ",
    "\u00a0\u3000  \u2003   ",
    "aaaaaaaa",
    "111111111111",
    "abababab",
    "AaAaAaAa",
    "🐢🐢🐢🐢",
    "abcdefgh",
    "12345678",
    "87654321",
    "!!!!!!!!",
  ])("%j is refused as blank or monotone", async (password) => {
    expect(await weaknessOf(password, "ann")).not.toBeNull();
  });

  it.each([
    ["pablo-neruda", "pablo-neruda"],
    ["Pablo-Neruda", "pablo-neruda"],
    ["pabloneruda1", "pablo.neruda"],
    ["aduren.olbap", "pablo.neruda"],
    ["margarita", "Margarita"],
    ["margarita2026!", "Margarita"],
    ["!!margarita!!", "margarita"],
    ["annann2026", "ann"],
    ["m4rgar1t4", "margarita"],
    ["hubbub12", "ann"],
    ["Hubbub2026!", "ann"],
    ["hubbubhubbub", "ann"],
    ["admin1234", "ann"],
    ["ann@hubbub", "ann"],
    ["20202021", "20202021"],
  ])("%j is refused for %s as little more than a known name", async (password, username) => {
    expect(await weaknessOf(password, username)).not.toBeNull();
  });

  it.each([
    ["correct horse", "ann"],
    ["correct horse battery staple", "horse"],
    ["annual banana", "ann"],
    ["hubbub in the harbour", "ann"],
    ["Ж".repeat(20), "ann"],
    ["p".repeat(72), "ann"],
    ["🐢".repeat(18), "ann"],
    ["xkqzjvwy", "ann"],
    ["pass word of mine", "ann"],
    ["user1-password", "user1"],
  ])("%j is accepted for %s", async (password, username) => {
    expect(await weaknessOf(password, username)).toBeNull();
  });
});
