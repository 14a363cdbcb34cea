import { z } from "zod";
import { formsOf, passwordFits, preparedPassword } from "../chat/passwords.ts";
import { ChatError } from "../errors.ts";
import { isVisible } from "../names.ts";
import { LIMITS, USER_ID, isRoomId, type RoomId, type UserId } from "../protocol.ts";

/** Fields of several requests. */

/**
 * Whether a text has no half of a character, which JSON can escape and UTF-8 cannot tell: stored as another one, two
 * passwords would be the same.
 */
export function isWhole(text: string): boolean {
  return !/\p{Cs}/u.test(text);
}

/** A text that people write, of so many UTF-16 units. */
export function writtenText(most: number) {
  return z.string().max(most).refine(isWhole, "no half characters");
}

/** Units in which some write a letter that others write in one: a syllable of Hangul, or a letter with two marks. */
const UNITS = 3;

/** A text of one line, in the form in which it is stored: `most` is of that, however its sender spells its letters. */
export function lineOfText(most: number) {
  return writtenText(UNITS * most)
    .transform((text) => text.normalize("NFC").trim())
    .pipe(z.string().max(most));
}

const wholePassword = z.string().refine(isWhole, "no half characters");
const TOO_MANY_BYTES = `at most ${LIMITS.passwordBytes} bytes`;

export const password = wholePassword.refine((text) => formsOf(text).length > 0, TOO_MANY_BYTES);

/** One that somebody chooses, as it is hashed. */
export const freshPassword = wholePassword
  .transform(preparedPassword)
  .refine(passwordFits, TOO_MANY_BYTES)
  .refine((text) => text.length >= LIMITS.passwordMin, `at least ${LIMITS.passwordMin} characters`);

/** A whole number, from 0 on, that JavaScript tells exactly. */
export const whole = z.int().min(0);

export const anyRoomId = z.custom<RoomId>(isRoomId, "no room id");

export const userId = z.string().regex(USER_ID, "no user id");

/** The user id in a route's path. Throws `invalid`. */
export function demandUserId(text: string): UserId {
  if (!USER_ID.test(text)) throw new ChatError("invalid", "This is no user id.");
  return text;
}

/** The room id in a route's path. Throws `invalid`. */
export function demandRoomId(text: string): RoomId {
  if (!isRoomId(text)) throw new ChatError("invalid", "This is no room id.");
  return text;
}

/** How many entries of a list are asked for. */
export function pageSize(max: number, fallback = max) {
  return z
    .string()
    .regex(/^\d{1,6}$/, `1 to ${max}`)
    .transform(Number)
    .pipe(z.number().min(1).max(max))
    .default(fallback);
}

export const displayName = shownName(LIMITS.displayName, "a name, or null");
export const roomName = shownName(LIMITS.roomName, "a room needs a name");

/** A name that people see, of any script. */
function shownName(most: number, missing: string) {
  return (
    lineOfText(most)
      .refine((name) => name.length > 0, missing)
      // Control, format (also invisible and direction marks), private and unassigned characters, and half ones.
      .refine((name) => !/\p{C}/u.test(name) && isVisible(name), "no invisible characters")
      // Else a name covers the lines above and below it. No language puts more on one letter.
      .refine((name) => !/\p{M}{5}/u.test(name), "at most four marks on a letter")
  );
}
