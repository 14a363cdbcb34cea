import { hash as digest } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import pLimit from "p-limit";
import { ChatError, unlessWrongType } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Hits, Message, MessageFile, RoomId, UserId } from "../protocol.ts";
import { fold } from "../search.ts";
import type { Log } from "../store/log.ts";

/** What to search for; dates in ms, both exclusive. */
export type Finding = {
  q: string;
  room?: RoomId | undefined;
  from?: UserId | undefined;
  before?: number | undefined;
  after?: number | undefined;
  cursor?: string | undefined;
};

type Written = Pick<Message, "message"> & {
  files?: readonly Pick<MessageFile, "name" | "alt">[] | undefined;
};

/** A room, the date below which its messages are still to be read, and how many to read next. */
type Place = { roomId: RoomId; below: number; size: number };

const NOTHING = { messages: [], bytes: 0, reached: undefined };
/** How long messages are compared before others get a turn. */
const COMPARE_MS = 1;

/**
 * Messages that contain each word of a text, newest first over all these rooms. There is no index: this reads a few
 * rows at a time, always from the room with the newest rows that it has not read yet, until there are enough hits or
 * one call's budget is spent; the cursor says where the next call continues. Awaits `turn` before each read; false
 * ends the search, because nobody waits for it. Throws `invalid` for a text without a word and for another search's
 * cursor.
 */
export async function findMessages(
  log: Pick<Log, "position"> & { pages: Pick<Log["pages"], "slice"> },
  roomIds: readonly RoomId[],
  asked: Finding,
  turn: () => Promise<boolean>,
): Promise<Hits & { rows: number }> {
  const words = searchWords(asked.q);
  const start = Math.min(asked.before ?? Infinity, readCursor(asked));
  const after = asked.after ?? -1;
  const until = performance.now() + BOUNDS.findMs.value;
  const left = { rows: BOUNDS.findRows.value, bytes: BOUNDS.findBytes.value };
  let places = await placesOf(log, roomIds, start);
  const first = frontierOf(places);
  const found: Message[] = [];
  for (;;) {
    places = places.filter(({ below }) => below - after > 1);
    const frontier = frontierOf(places);
    const ready = found.filter(({ date }) => date >= frontier).length;
    const isSpent = left.rows <= 0 || left.bytes <= 0 || performance.now() > until;
    // Each call gets further than the one before, whatever the cost.
    if (places.length === 0 || ready >= BOUNDS.findHits.value || (isSpent && frontier < first)) break;
    if (!(await turn())) break;
    const next = places.filter(({ below }) => below === frontier).slice(0, BOUNDS.findAtOnce.value);
    const slices = await Promise.all(
      // A room that somebody has damaged ends there, and keeps nobody from all others.
      next.map(({ roomId, size }) =>
        unlessWrongType(log.pages.slice(roomId, { before: frontier, after, size }), NOTHING),
      ),
    );
    for (const [index, place] of next.entries()) {
      const { messages, bytes, reached } = slices[index]!;
      left.rows -= messages.length;
      left.bytes -= bytes;
      place.below = reached ?? -Infinity;
      const fitting = Math.floor((BOUNDS.findSlice.value * messages.length) / Math.max(1, bytes));
      place.size = Math.max(1, Math.min(place.size * 2, BOUNDS.syncRows.value, fitting));
      await collect(messages, words, asked.from, found);
    }
  }
  const rows = BOUNDS.findRows.value - left.rows;
  return { ...pageOf(found, frontierOf(places), asked), rows };
}

/** Where each room's messages begin, going back from `start`. */
async function placesOf(
  log: Pick<Log, "position">,
  roomIds: readonly RoomId[],
  start: number,
): Promise<Place[]> {
  const size = Math.max(5, Math.min(50, Math.floor(2_000 / roomIds.length)));
  const some = pLimit(BOUNDS.lookupsAtOnce.value);
  const heads = await some.map(roomIds, (roomId) =>
    unlessWrongType(log.position(roomId), { seq: 0, date: 0 }),
  );
  return heads.map(({ seq, date }, index) => ({
    roomId: roomIds[index]!,
    // A log without a head may be another program's.
    below: Math.min(seq === 0 ? Infinity : date + 1, start),
    size,
  }));
}

/** The date down to which all rows were read. */
function frontierOf(places: readonly Place[]): number {
  return places.reduce((newest, { below }) => Math.max(newest, below), -Infinity);
}

async function collect(
  messages: readonly Message[],
  words: readonly string[],
  from: UserId | undefined,
  found: Message[],
): Promise<void> {
  let since = performance.now();
  for (const message of messages) {
    if (message.deleted !== undefined || (from !== undefined && message.from !== from)) continue;
    const text = fold(textWithFiles(message));
    if (words.every((word) => text.includes(word))) found.push(message);
    if (performance.now() - since < COMPARE_MS) continue;
    await nextTurn();
    since = performance.now();
  }
}

/** What people read in a message: its text, and of its files the names and the words for them. */
export function textWithFiles({ message, files }: Written): string {
  if (files === undefined) return message;
  return [message, ...files.flatMap(({ name, alt = "" }) => [name, alt])].join("\n");
}

function pageOf(found: readonly Message[], frontier: number, asked: Finding): Hits {
  const sorted = found.filter(({ date }) => date >= frontier).toSorted((a, b) => b.date - a.date);
  const last = sorted[BOUNDS.findHits.value - 1];
  const isCut = last !== undefined && sorted.length > BOUNDS.findHits.value;
  // Messages of one moment in several rooms share a page, because the cursor is a date.
  const page = isCut ? sorted.filter(({ date }) => date >= last.date) : sorted;
  const until = isCut ? last.date : frontier;
  const hits = page.map((message) => ({ message }));
  return until > 0 && Number.isFinite(until) ? { hits, until, cursor: cursorOf(asked, until) } : { hits };
}

function searchWords(q: string): string[] {
  const words = fold(q).split(" ").filter(Boolean);
  if (words.length === 0) throw new ChatError("invalid", "q: something to look for");
  return [...new Set(words)];
}

/** The cursor is a date, and valid only for its own search. */
function cursorOf({ q, room, from, before, after }: Finding, date: number): string {
  const search = JSON.stringify([date, q, room, from, before, after]);
  return `${date.toString(36)}-${digest("sha1", search).slice(0, 12)}`;
}

function readCursor(asked: Finding): number {
  if (asked.cursor === undefined) return Infinity;
  const date = Number.parseInt(asked.cursor, 36);
  if (!Number.isSafeInteger(date) || cursorOf(asked, date) !== asked.cursor)
    throw new ChatError("invalid", "cursor: not of this search");
  return date;
}
