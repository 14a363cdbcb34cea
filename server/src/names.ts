import unhomoglyph from "unhomoglyph";
import { foldCase, visible } from "./search.ts";

/** What a deleted account is called: nobody's username. */
export const DELETED_NAME = "deleted user";

/**
 * Reserved usernames, which would pass for the server itself: its staff, its own voice, or a word for everybody. They
 * include mail accounts that speak for a site (RFC 2142).
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
/** Digits that read as letters at a glance; the table of look-alikes has 0 and 1. */
const READ_AS: Readonly<Record<string, string>> = { 3: "e", 4: "a", 5: "s", 7: "t", 8: "b" };

/**
 * What a name looks like, without case: names that share a look can be mistaken for each other. There are two looks if
 * upper-case letters resemble other letters than their lower case does (`I` is seen as `l`, and is an `i`). Names in
 * other scripts, widths and fonts, or with invisible characters, may share a look: Unicode's UTS 39, after NFKC.
 */
export function looksOf(name: string): string[] {
  const seen = visible(name);
  return [...new Set([skeleton(foldCase(skeleton(seen))), skeleton(foldCase(seen))])];
}

/** Whether a name has visible characters. */
export function isVisible(name: string): boolean {
  return visible(name) !== "";
}

/** Whether a username looks like a reserved one, whatever stands between its letters. */
export function isReservedUsername(name: string): boolean {
  return bareLooksOf(name).some((look) => reservedUsernames.has(look));
}

/** Whether a room's name looks like General, with any marks and signs around it. */
export function looksLikeGeneral(name: string): boolean {
  return bareLooksOf(name).some((look) => reservedRoom.has(look));
}

/** Unicode's skeleton: replaces each character by the prototype of its look-alikes. */
function skeleton(text: string): string {
  return unhomoglyph(text.normalize("NFD")).normalize("NFD");
}

/** Looks of the letters alone: no accents, no punctuation, and i, l and 1 as one. */
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
