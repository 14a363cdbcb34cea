import unhomoglyph from "unhomoglyph";
import { foldCase, visible } from "./search.ts";

/**
 * Usernames that would pass for the house itself: its staff, its own voice, or a word that means everybody. Names of
 * mail accounts that speak for a site (RFC 2142) are among them.
 */
const RESERVED_USERNAMES = [
  "admin",
  "admins",
  "administrator",
  "sysadmin",
  "superuser",
  "root",
  "staff",
  "system",
  "server",
  "hubbub",
  "hubbubbot",
  "daemon",
  "noreply",
  "moderator",
  "moderators",
  "mod",
  "mods",
  "support",
  "helpdesk",
  "security",
  "abuse",
  "webmaster",
  "postmaster",
  "hostmaster",
  "everyone",
  "everybody",
  "room",
  "here",
  "channel",
  "deleted",
  "deleteduser",
];
/** The room that everybody is in. */
const RESERVED_ROOM = "General";
/** Digits that are read as letters in a name that is only seen for a moment; the table of look-alikes has 0 and 1. */
const READ_AS: Readonly<Record<string, string>> = { 3: "e", 4: "a", 5: "s", 7: "t", 8: "b" };

/**
 * What a name looks like, without case: two names that share a look can be taken for each other. One look, or two where
 * upper-case letters resemble other letters than their lower case does (`I` is seen as `l`, and is an `i`). Names of
 * one look may be written in other scripts, widths and fonts, and with signs that are not seen: Unicode's UTS 39,
 * after NFKC.
 */
export function looksOf(name: string): string[] {
  const seen = visible(name);
  return [...new Set([skeleton(foldCase(skeleton(seen))), skeleton(foldCase(seen))])];
}

/** Whether there is anything to see. */
export function isVisible(name: string): boolean {
  return visible(name) !== "";
}

/** Whether a username looks like one of the house's own, whatever stands between its letters. */
export function isReservedUsername(name: string): boolean {
  return bareLooksOf(name).some((look) => reservedUsernames.has(look));
}

/** Whether a room's name looks like General's, with whatever marks and signs around it. */
export function looksLikeGeneral(name: string): boolean {
  return bareLooksOf(name).some((look) => reservedRoom.has(look));
}

/** Unicode's skeleton: every character as the one that stands for all that look like it. */
function skeleton(text: string): string {
  return unhomoglyph(text.normalize("NFD")).normalize("NFD");
}

/** Looks by letters alone: no accents, no punctuation, and i, l and 1 as one. */
function bareLooksOf(name: string): string[] {
  return looksOf(name).map((look) =>
    look
      .normalize("NFKD")
      .replaceAll(/[34578]/g, (digit) => READ_AS[digit] ?? digit)
      .replaceAll(/[^\p{L}\p{N}]/gu, "")
      .replaceAll("l", "i")
      .toLowerCase(),
  );
}

const reservedUsernames = new Set(RESERVED_USERNAMES.flatMap(bareLooksOf));
const reservedRoom = new Set(bareLooksOf(RESERVED_ROOM));
