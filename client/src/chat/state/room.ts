import type { Message, Page, Room, RoomId, SyncedRoom } from "@hubbub/server/protocol";

/** Messages of an unopened room that are kept until its first page comes. */
const HELD_UNOPENED = 100;
/** Messages beyond a gap that are kept until `sync` has filled it. */
const HELD_BEYOND_GAP = 500;
/** Messages that a room keeps when another one is opened. */
const KEPT_IN_BACKGROUND = 200;

/** What is loaded of a room's log: without a hole up to `head`, which is 0 for an empty log. */
export type Log = {
  messages: readonly Message[];
  head: number;
  /** Whether the server holds older ones. */
  older: boolean;
};

export type RoomState = {
  id: RoomId;
  names: readonly string[];
  private: boolean;
  last: Message | null;
  /** seq of the newest message heard of. */
  seq: number;
  /** seq up to which this user has read. */
  read: number;
  log: Log | null;
  load: "idle" | "loading" | "failed";
  /** Messages that do not join the log yet, by seq: beyond a gap, or heard while the log is stale. */
  held: readonly Message[];
  /** Set when the replica, or a message that contradicts the log, says that the log is not to be trusted. */
  stale: boolean;
};

/** Messages that this user has not read. */
export function unreadOf(room: RoomState): number {
  return Math.max(0, room.seq - room.read);
}

/** Whether what is loaded of the room is known to be incomplete or wrong: `sync` it. */
export function needsSync(room: RoomState): boolean {
  return room.log !== null && (room.stale || room.seq > room.log.head);
}

/** The newest message of the log: what a cursor says. */
export function headOf(room: RoomState): Message | undefined {
  return room.log?.messages.at(-1);
}

/** The order in which messages are shown: total, so that it never depends on the order of arrival. */
export function compareMessages(one: Message, other: Message): number {
  return one.date - other.date || one.seq - other.seq;
}

/** A room of the server's joined with what is known of it here. */
export function meet(known: RoomState | undefined, room: Room): RoomState {
  if (known === undefined) {
    const { id, names, last, seq, read } = room;
    return {
      id,
      names,
      private: room.private,
      last,
      seq,
      read,
      log: null,
      load: "idle",
      held: [],
      stale: false,
    };
  }
  // A room whose log is loaded never goes back here: only `sync` can tell that the server's log did.
  const heard = known.held.at(-1);
  const seq = Math.max(room.seq, known.log?.head ?? 0, heard?.seq ?? 0);
  const last = known.log === null ? newer(room.last, heard ?? null) : newer(room.last, known.last);
  return { ...known, names: room.names, last, seq, read: Math.min(Math.max(known.read, room.read), seq) };
}

/** What is held is of a log that may be gone, and nothing joins the one that is loaded before `sync` has compared it. */
export function distrust(room: RoomState): RoomState {
  return { ...room, held: [], stale: room.log !== null };
}

/** The room with one more message heard of, wherever it belongs. */
export function hear(room: RoomState, message: Message): RoomState {
  const { seq } = message;
  const last = newer(room.last, message);
  const top = Math.max(room.seq, seq);
  if (room.log !== null && seq <= room.log.head) {
    const known = room.log.messages.find((other) => other.seq === seq);
    const contradicts = known === undefined ? room.stale : known.hash !== message.hash;
    if (!contradicts) return room;
    room = room.stale ? room : { ...room, stale: true };
  }
  if (room.held.some((other) => other.seq === seq)) return room;
  const held = [...room.held, message].toSorted((one, other) => one.seq - other.seq);
  return join({ ...room, last, seq: top, held });
}

/**
 * Moves what follows the head from `held` into the log. Dates rise with seq: a message that is not later than the one
 * before it was heard of a log that is gone, whose numbers have been given again, and so was all that is held.
 */
function join(room: RoomState): RoomState {
  if (room.log === null) return limitHeld(room, HELD_UNOPENED);
  if (room.stale) return limitHeld(room, HELD_BEYOND_GAP);
  let { head, messages } = room.log;
  let date = headOf(room)?.date ?? -Infinity;
  let joined = 0;
  for (const message of room.held) {
    if (message.seq === head + 1) {
      if (message.date <= date) return { ...room, log: { ...room.log, head, messages }, held: [] };
      messages = insert(messages, message);
      head++;
      date = message.date;
    } else if (message.seq > head) break;
    joined++;
  }
  if (joined === 0) return limitHeld(room, HELD_BEYOND_GAP);
  return { ...room, log: { ...room.log, head, messages }, held: room.held.slice(joined) };
}

function limitHeld(room: RoomState, limit: number): RoomState {
  return room.held.length <= limit ? room : { ...room, held: room.held.slice(-limit) };
}

function insert(messages: readonly Message[], message: Message): readonly Message[] {
  let at = messages.length;
  while (at > 0) {
    const order = compareMessages(messages[at - 1] as Message, message);
    if (order === 0) return messages;
    if (order < 0) break;
    at--;
  }
  return at === messages.length ? [...messages, message] : messages.toSpliced(at, 0, message);
}

/** The room with its newest page, whether or not it had one. */
export function takeNewest(room: RoomState, messages: readonly Message[]): RoomState {
  if (room.log === null) return startLog(room, messages);
  return { ...messages.reduce(hear, room), load: "idle" };
}

function startLog(room: RoomState, messages: readonly Message[]): RoomState {
  const [first] = messages;
  const head = messages.at(-1);
  const log: Log = { messages, head: head?.seq ?? 0, older: (first?.seq ?? 1) > 1 };
  return join({
    ...room,
    log,
    load: "idle",
    seq: Math.max(room.seq, log.head),
    last: newer(room.last, messages.at(-1) ?? null),
  });
}

/** The room with the page before the first message of its log. */
export function prepend(room: RoomState, page: Page): RoomState {
  if (room.log === null) return { ...room, load: "idle" };
  const first = room.log.messages[0]?.seq;
  const end = page.messages.at(-1)?.seq;
  // Not the page before the first message: the log was started anew since it was asked for.
  if (first !== undefined && end !== undefined && end !== first - 1) return { ...room, load: "idle" };
  const messages = page.messages.concat(room.log.messages);
  return { ...room, load: "idle", log: { ...room.log, messages, older: page.more } };
}

/** The room with what `sync` says of it. */
export function catchUp(room: RoomState, answer: SyncedRoom): RoomState {
  if (answer.reset !== undefined) {
    const last = answer.messages.at(-1) ?? null;
    const since = room.held.filter((message) => message.date > (last?.date ?? 0));
    const begun = { ...room, held: since, stale: false, last, seq: last?.seq ?? 0 };
    const started = startLog(begun, answer.messages);
    const seq = Math.max(started.seq, started.held.at(-1)?.seq ?? 0);
    return {
      ...started,
      seq,
      read: Math.min(started.read, seq),
      last: newer(started.last, since.at(-1) ?? null),
    };
  }
  const heard = answer.messages.reduce(hear, join({ ...room, stale: false }));
  if (answer.more || heard.log === null) return heard;
  // The server has nothing more: a higher seq that was only heard of was of a log that is gone.
  const seq = Math.max(heard.log.head, heard.held.at(-1)?.seq ?? 0);
  return heard.seq === seq ? heard : { ...heard, seq, read: Math.min(heard.read, seq) };
}
/** A mark only rises, and never above what was heard of. */
export function readUpTo(room: RoomState, seq: number): RoomState {
  const read = Math.min(Math.max(room.read, seq), room.seq);
  return read === room.read ? room : { ...room, read };
}

/** What a room keeps when another one is opened. */
export function shorten(room: RoomState): RoomState {
  if (room.log === null || room.log.messages.length <= KEPT_IN_BACKGROUND) return room;
  return {
    ...room,
    log: { ...room.log, messages: room.log.messages.slice(-KEPT_IN_BACKGROUND), older: true },
  };
}

function newer(one: Message | null, other: Message | null): Message | null {
  if (one === null || other === null) return one ?? other;
  return compareMessages(one, other) < 0 ? other : one;
}
