import { hash as digest } from "node:crypto";
import type { Config } from "../config.ts";
import type { Keys } from "../keys.ts";
import {
  LIMITS,
  ROOM_ROLES,
  USER_ID,
  isRoomId,
  type Message,
  type MessageFile,
  type Revision,
  type Room,
  type RoomId,
  type Standing,
  type UserId,
} from "../protocol.ts";
import { isRecord, listJson, parseJson, type Json } from "./json.ts";

/**
 * How a message's row, a change and a member's record are spelt, in Redis and in announcements. Only this file and the
 * scripts know it.
 */

/** The end of a room's log: its newest message, as kept in `{room:<id>}:meta`. */
export type Head = { seq: number; date: number; hash: string };

export type Row = Head & { json: string };

/** A row as it was announced. */
export type Heard = Row & {
  roomId: RoomId;
  tail: string;
  /** The room's last change when it was stored; undefined from a server of the previous version. */
  revHash: string | undefined;
};

/**
 * The present state of what changed. For a member (`what` is `@<user id>`): the record as JSON, or `""` for somebody
 * who is no member. For a message (`what` is its date): its row, or `""` if it is gone.
 */
export type Change = { what: string; now: string };

/** A change as it was announced. */
export type HeardChange = Change & { roomId: RoomId; rev: number; hash: string };

/** What a room knows of a member, as JSON in `{room:<id>}:records`. In General and in private rooms, of few. */
export type MemberRecord = Standing & { disabled?: true };

const NUMBER = String.raw`(?:0|[1-9]\d{0,15})`;
const STRING = String.raw`"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\x00-\x1f]*)*"`;
const IDS = String.raw`\[(?:"\d+"(?:,"\d+")*)?\]`;
const REACTION = String.raw`\[${STRING},${IDS}\]`;
const FILE_ID = String.raw`"[\w-]{22}"`;
/** As `fileIn` spells it. */
const FILE = String.raw`\{"id":${FILE_ID},"name":${STRING},"type":${STRING},"size":${NUMBER}(?:,"width":${NUMBER},"height":${NUMBER})?(?:,"animated":true)?(?:,"alt":${STRING})?\}`;
type Optional = Exclude<keyof Message, keyof Head | "roomId" | "from" | "message">;
/**
 * How each optional field of a message is spelt, in the order of a row. A change adds `editRev` and `rev`, which come
 * last.
 */
const OPTIONAL = {
  nonce: STRING,
  replyTo: NUMBER,
  thread: NUMBER,
  mentions: IDS,
  mentionsRoom: "true",
  edited: NUMBER,
  deleted: NUMBER,
  pinned: NUMBER,
  files: String.raw`\[${FILE}(?:,${FILE})*\]`,
  reactions: String.raw`\[(?:${REACTION}(?:,${REACTION})*)?\]`,
  editRev: NUMBER,
  rev: NUMBER,
} as const satisfies Record<Optional, string>;
const TAIL = ["from", "message", ...(Object.keys(OPTIONAL) as Optional[])] as const;
const CHANGED = (["roomId", "seq", "date", "hash", ...TAIL] as const).filter((name) => name !== "rev");
const EDITED = CHANGED.filter((name) => name !== "editRev");
const REST = Object.entries(OPTIONAL)
  .map(([name, value]) => `(?:,"${name}":${value})?`)
  .join("");
/**
 * A row that a script wrote: a match is valid JSON of the right shape, so its bytes can be passed on as they are.
 * Groups: room id, seq, date, hash, tail.
 */
const MESSAGE = String.raw`\{"roomId":"([\d:]+)","seq":(${NUMBER}),"date":(${NUMBER}),"hash":"([0-9a-f]+)",("from":"\d+","message":${STRING}${REST}\})`;
const STORED = new RegExp(`^${MESSAGE}$`);
const ANNOUNCED = new RegExp(
  String.raw`^\{"serverId":"[^"\\]*","type":"message",(?:"rev":${NUMBER},"revHash":"([0-9a-f]*)",)?"data":(${MESSAGE})\}$`,
);
const ANNOUNCED_CHANGE = new RegExp(
  String.raw`^\{"serverId":"[^"\\]*","type":"change","data":\{"roomId":"([\d:]+)","what":"(@?\d+)","rev":(${NUMBER}),"hash":"([0-9a-f]+)"(?:,"now":(?:(${MESSAGE})|(${STRING})))?\}\}$`,
);

/** In signs or bytes: ten times the longest row, of a message with files and reactions. */
const LONGEST = 1e6;
/** The last moment of a Date, in the year 275760: formatting a later one throws, here and in browsers. */
const LAST_DATE = 8.64e15;
/** Lower dates are in seconds, as the Redis chat demos store them; as ms they would be in 1973 at the latest. */
const SECONDS_BELOW = 1e11;

export function parseRow(row: Json): Message {
  return JSON.parse(String(row)) as Message;
}

/** Whether a script wrote this row: then it is valid JSON of a message. */
export function isOwnRow(row: Json): boolean {
  return row.length <= LONGEST && STORED.test(bytewise(row));
}

/** The place in the log of a row that a script wrote, or null for any other row. */
export function headOf(row: Json): Head | null {
  const [, , seq, date, hash = ""] = matched(STORED, bytewise(row)) ?? [];
  return seq === undefined ? null : { seq: Number(seq), date: Number(date), hash };
}

const WHOLE_NUMBER = /^\d{1,15}$/;
const WHOLE_HASH = /^[\da-f]+$/;

type Stored = string | null | undefined;

/** A head as its fields are stored; null if a part of it is lost or damaged, as head.lua decides too. */
export function storedHead(seq: Stored, date: Stored, hash: Stored): Head | null {
  const isWhole =
    WHOLE_NUMBER.test(seq ?? "") && WHOLE_NUMBER.test(date ?? "") && WHOLE_HASH.test(hash ?? "");
  return isWhole ? { seq: Number(seq), date: Number(date), hash: hash ?? "" } : null;
}

/** The last change as its fields are stored. */
export function revisionOf(rev: Stored, revHash: Stored): Revision {
  return {
    rev: WHOLE_NUMBER.test(rev ?? "") ? Number(rev) : 0,
    revHash: WHOLE_HASH.test(revHash ?? "") ? (revHash ?? "") : "",
  };
}

/** Nothing that a script writes is so long, and a pattern throws at a text of a few MB. */
function matched(pattern: RegExp, text: string): RegExpExecArray | null {
  return text.length > LONGEST ? null : pattern.exec(text);
}

/** A row to be matched, a byte a character: what is asked of it is all ASCII. */
function bytewise(row: Json): string {
  return typeof row === "string" ? row : row.toString("latin1");
}

/** The bytes with which a message's row begins, and which no change touches. */
export function beginningOf({ roomId, seq, date, hash }: Head & { roomId: RoomId }): string {
  return `{"roomId":"${roomId}","seq":${seq},"date":${date},"hash":"${hash}",`;
}

/** A row without its head: the input of the hash when the row is first stored. */
export function tailOf(message: Partial<Message>): string {
  return `${spell(message, TAIL)}}`;
}

/** What `change.lua` makes the new row of: it adds the revs. */
export function changedRow(message: Message, isEdit: boolean): string {
  return `{${spell(message, isEdit ? EDITED : CHANGED)}`;
}

/** A row without its braces. */
function spell(message: Partial<Message>, fields: readonly (keyof Message)[]): string {
  let row = "";
  for (const name of fields) {
    const value = message[name];
    if (value !== undefined) row += `,"${name}":${JSON.stringify(value)}`;
  }
  return row.slice(1);
}

/** A file in the one order of a row, and nothing else. */
export function fileIn({ id, name, type, size, width, height, animated, alt }: MessageFile): MessageFile {
  return {
    id,
    name,
    type,
    size,
    ...(width !== undefined && height !== undefined && { width, height }),
    ...(animated && { animated }),
    ...(alt !== undefined && { alt }),
  };
}

/** The hash that `append.lua` gives a message: equal hashes prove that the logs up to it are equal, byte by byte. */
export function chain(hash: string, date: number, tail: string): string {
  return digest("sha1", `${hash}|${date}|${tail}`).slice(0, 12);
}

/** The channel on which a room's messages and changes are announced. */
export function channelsOf(
  keys: Keys,
  { relayChannel }: Pick<Config, "relayChannel">,
): (roomId: RoomId) => string {
  return relayChannel === "rooms" ? keys.roomChannel : () => keys.channel;
}

/** The beginning of what `append.lua` and `adopt.lua` announce; the scripts add the last change and the row. */
export function envelopeOf(serverId: string): string {
  return `{"serverId":${JSON.stringify(serverId)},"type":"message",`;
}

/** A message that `append.lua` announced, or null for any other announcement. */
export function readAnnouncement(text: string): Heard | null {
  const announced = matched(ANNOUNCED, text);
  if (!announced) return null;
  const [, revHash, json = "", roomId = "", seq, date, hash = "", tail = ""] = announced;
  return { seq: Number(seq), date: Number(date), hash, roomId, json, tail, revHash };
}

/** The beginning of what `change.lua` announces; the script adds rev, hash and the new state. */
export function announcementOf(serverId: string, roomId: RoomId, what: string): string {
  return `{"serverId":${JSON.stringify(serverId)},"type":"change","data":{"roomId":"${roomId}","what":"${what}","rev":`;
}

/** A change that `change.lua` announced, or null for any other announcement. */
export function readChange(text: string): HeardChange | null {
  const heard = matched(ANNOUNCED_CHANGE, text);
  if (!heard) return null;
  const [, roomId = "", what = "", rev, hash = "", row] = heard;
  const record = heard.at(-1);
  const now = row ?? (record === undefined ? "" : (JSON.parse(record) as string));
  return { roomId, what, rev: Number(rev), hash, now };
}

/** The hash that `change.lua` gives a change. */
export function chainChange(revHash: string, { rev, what, now }: HeardChange): string {
  return digest("sha1", `${revHash}|${rev}|${what}|${now}`).slice(0, 12);
}

/** The user whose record changed; null for a message. */
export function memberIn({ what }: Change): UserId | null {
  return what.startsWith("@") ? what.slice(1) : null;
}

/** The new row of a changed message, if the change is one of a message that still exists. */
export function rowIn(change: Change): string[] {
  return memberIn(change) === null && isOwnRow(change.now) ? [change.now] : [];
}

/** A stored record. Other programs, and later versions, may have written anything: then a plain member's. */
export function parseRecord(text: string): MemberRecord {
  const value = parseJson(text);
  const { role, mutedUntil, disabled } = isRecord(value) ? value : {};
  return {
    role: ROOM_ROLES.find((known) => known === role) ?? "member",
    ...(typeof mutedUntil === "number" && { mutedUntil }),
    ...(disabled === true && { disabled }),
  };
}

/** The fields of Changes as JSON. */
export function changesJson(
  { after, rev, revHash }: Revision & { after: number },
  rows: readonly string[],
): string {
  return `"after":${after},"rev":${rev},"revHash":"${revHash}","messages":[${rows.join(",")}]`;
}

/**
 * A SyncedRoom as JSON. `changed`: the rows that changed after the rev `after`, which is undefined if the client does
 * not follow changes; null if the changes are no longer known.
 */
export function syncedJson(room: {
  roomId: RoomId;
  rows: readonly Json[];
  more: boolean;
  reset?: string | undefined;
  after: number | undefined;
  changed: readonly string[] | null;
  revision: Revision;
}): Json {
  const { roomId, rows, more, reset, changed, revision } = room;
  const begin = `{"roomId":"${roomId}","messages":[`;
  const end = `],"more":${more}${reset === undefined ? "" : `,"reset":"${reset}"`}`;
  if (room.after === undefined) return listJson(begin, rows, `${end}}`);
  const after = changed === null || reset !== undefined ? revision.rev : room.after;
  const changes = changesJson({ ...revision, after }, changed ?? []);
  return listJson(begin, rows, `${end},"changes":{${changes}${changed === null ? `,"reset":true` : ""}}}`);
}

/** A room that was joined, with its newest rows, as JSON. */
export function joinedJson(room: Room, rows: readonly Json[], { rev, revHash }: Revision): Json {
  return listJson(
    `{"room":${JSON.stringify(room)},"messages":[`,
    rows,
    `],"rev":${rev},"revHash":"${revHash}"}`,
  );
}

/** A row that another program added to a room's sorted set, and the message it becomes. */
export type Foreign = { row: string; date: number; tail: string };

/** The messages among another program's rows; ids may be numbers, and a date in seconds. */
export function readForeign(roomId: RoomId, rows: string[]): Foreign[] {
  return rows.flatMap((row) => {
    const said = parseForeign(parseJson(row));
    if (!said || said.roomId !== roomId) return [];
    const { date, from, message, nonce } = said;
    const tail = tailOf({ from, message, nonce });
    return [{ row, date: Math.floor(date < SECONDS_BELOW ? date * 1_000 : date), tail }];
  });
}

/** A message as another program spells it, in a sorted set or in an announcement; null for anything else. */
export function parseForeign(data: unknown): Omit<Message, "seq" | "hash"> | null {
  if (!isRecord(data)) return null;
  const { from, message, date, nonce } = data;
  const roomId = typeof data["roomId"] === "number" ? String(data["roomId"]) : data["roomId"];
  const author = typeof from === "number" ? String(from) : from;
  if (!isRoomId(roomId) || typeof author !== "string" || !USER_ID.test(author)) return null;
  if (typeof message !== "string" || message.length === 0 || message.length > LIMITS.message) return null;
  if (typeof date !== "number" || !(date >= 0 && date <= LAST_DATE)) return null;
  return { roomId, date, from: author, message, ...(typeof nonce === "string" && { nonce }) };
}
