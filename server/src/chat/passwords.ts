import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { LIMITS } from "../protocol.ts";

/** How many of the commonest passwords NIST and OWASP ask to refuse, counted among those of sufficient length. */
const COMMONEST = 3_000;
/** Words that guessers decorate with digits and signs: the product and its first account. The own name too. */
const GUESSED_WORDS = ["hubbub", "admin"];
/** With fewer letters besides such a word, the rest is decoration. */
const LETTERS_OF_ITS_OWN = 4;
/** Passwords of one, two or three different characters, or of neighbours in a row, must have this length. */
const MONOTONE_LENGTH = 16;
const DIFFERENT_SIGNS = 4;
/** Signs that stand for letters: p@ssw0rd. */
const WRITTEN_FOR: Readonly<Record<string, string>> = {
  "@": "a",
  0: "o",
  1: "i",
  3: "e",
  4: "a",
  5: "s",
  $: "s",
};

let common: Promise<Set<string>> | undefined;

/** bcrypt would silently ignore the rest, so that a wrong ending would let anyone in. */
export function passwordFits(password: string): boolean {
  return Buffer.byteLength(password) <= LIMITS.passwordBytes && !password.includes("\0");
}

/** What is hashed of a password: the same however a keyboard spells its letters and blanks (OpaqueString, RFC 8265). */
export function preparedPassword(password: string): string {
  return password.replaceAll(/\p{Zs}/gu, " ").normalize("NFC");
}

/** What may have been hashed of a password: of servers before also the text as it was typed. */
export function formsOf(password: string): string[] {
  return [...new Set([preparedPassword(password), password])].filter(passwordFits);
}

/**
 * Why a user of this name must not take this password, in words for them, or null. Refuses only the first guesses;
 * does not demand digits and signs.
 */
export async function weaknessOf(password: string, username: string): Promise<string | null> {
  const lower = password.normalize("NFKC").toLowerCase();
  if (lower.trim() === "") return "Blanks alone are no password.";
  const signs = Array.from(lower);
  if (signs.length < MONOTONE_LENGTH && (new Set(signs).size < DIFFERENT_SIGNS || isRow(signs)))
    return "This password is the same again and again. Take a longer one, of several words.";
  common ??= readCommon();
  const list = await common.catch((error: unknown) => {
    common = undefined;
    throw error;
  });
  // From the first letter or digit to the last.
  const bare = /[\p{L}\p{N}](?:.*[\p{L}\p{N}])?/su.exec(lower)?.[0] ?? "";
  const forms = [lower, bare, lettersOf(lower), lettersOf(bare)];
  if (forms.some((form) => list.has(form)))
    return "This is one of the passwords that are guessed first. Take another one, of several words.";
  if (isDecorated(lower, username.toLowerCase()))
    return "This password is little more than a name that others know. Take another one, of several words.";
  return null;
}

function lettersOf(text: string): string {
  return text.replaceAll(/[@01345$]/g, (sign) => WRITTEN_FOR[sign] ?? sign);
}

/** Matches abcdefgh, 98765432. */
function isRow(signs: string[]): boolean {
  const codes = signs.map((sign) => sign.codePointAt(0) ?? 0);
  const step = (codes[1] ?? 0) - (codes[0] ?? 0);
  return (
    Math.abs(step) === 1 &&
    codes.every((code, index) => index === 0 || code - (codes[index - 1] ?? 0) === step)
  );
}

/** Whether hardly a letter is left without the guessed words, forwards and backwards. */
function isDecorated(password: string, username: string): boolean {
  const name = username.replaceAll(/[^\p{L}]/gu, "");
  const words = [username, name, ...GUESSED_WORDS].filter((word) => word.length >= 3);
  return [password, lettersOf(password)].some((text) => {
    let rest = text;
    for (const word of words)
      rest = rest.replaceAll(word, " ").replaceAll(Array.from(word).toReversed().join(""), " ");
    return rest !== text && rest.replaceAll(/[^\p{L}]/gu, "").length < LETTERS_OF_ITS_OWN;
  });
}

/** Read at the first sign-up, and not as a module, which would keep the whole list in memory. */
async function readCommon(): Promise<Set<string>> {
  const require = createRequire(import.meta.url);
  const file = require.resolve("@zxcvbn-ts/language-common/src/passwords.json");
  const ranked = JSON.parse(await readFile(file, "utf8")) as string[];
  return new Set(ranked.filter((word) => word.length >= LIMITS.passwordMin).slice(0, COMMONEST));
}
