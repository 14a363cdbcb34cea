/**
 * The generator's own WebSocket: frames are read as headers only, and messages are known by a marker of fixed width
 * in their text, so that counting every message of every member stays cheaper than sending it.
 */

/** `~<id, 7 digits>:<intended time in µs, 13 digits>~`: the end of every message's text. */
export const MARK_LENGTH = 23;
const TILDE = 0x7e;
const ID_DIGITS = 7;
const TIME_DIGITS = 13;
export const MAX_ID = 10 ** ID_DIGITS - 1;

function mark(id: number, intendedUs: number): string {
  return `~${String(id).padStart(ID_DIGITS, "0")}:${String(Math.round(intendedUs)).padStart(TIME_DIGITS, "0")}~`;
}

/** A text of `bytes` ASCII characters that ends with the marker; before it stands the filler's beginning. */
export function markedText(id: number, intendedUs: number, bytes: number, filler = ""): string {
  const length = Math.max(0, bytes - MARK_LENGTH);
  return filler.slice(0, length).padEnd(length, "x") + mark(id, intendedUs);
}

const WORDS = (
  "the be to of and a in that have it for not on with he as you do at this but his by from they we say her she or an " +
  "will my one all would there their what so up out if about who get which go me when make can like time no just him " +
  "know take people into year your good some could them see other than then now look only come its over think also " +
  "back after use two how our work first well way even new want because any these give day most us meeting deploy " +
  "server tomorrow thanks please review ticket lunch question maybe release branch coffee broken again client"
).split(" ");

/** At least `length` characters of everyday words by chance: what a compressor finds in a chat, and not one letter. */
export function wordy(length: number, random: () => number): string {
  let text = "";
  while (text.length < length) text += `${WORDS[Math.floor(random() * WORDS.length)]} `;
  return text;
}

/** Whether a marker starts at `at`. */
export function isMark(buffer: Uint8Array, at: number): boolean {
  return (
    buffer[at] === TILDE && buffer[at + MARK_LENGTH - 1] === TILDE && buffer[at + 1 + ID_DIGITS] === 0x3a
  );
}

export function idAt(buffer: Uint8Array, at: number): number {
  return digits(buffer, at + 1, ID_DIGITS);
}

/** Microseconds on the generator's clock. */
export function timeAt(buffer: Uint8Array, at: number): number {
  return digits(buffer, at + 2 + ID_DIGITS, TIME_DIGITS);
}

function digits(buffer: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let index = at; index < at + count; index += 1) value = value * 10 + (buffer[index] ?? 0) - 48;
  return value;
}

/** Where the last marker of a payload starts, or -1. */
export function findMark(buffer: Buffer, start: number, end: number): number {
  for (let at = end - MARK_LENGTH; at >= start; at -= 1) if (isMark(buffer, at)) return at;
  return -1;
}

/** What is left of a stream between two reads. */
export type Stream = { rest: Buffer | null };

export type FrameHandler<S extends Stream> = (
  stream: S,
  opcode: number,
  buffer: Buffer,
  start: number,
  end: number,
  compressed: boolean,
) => void;

/**
 * Calls `handle` with the place of each whole payload in what was read; a cut frame waits in the stream for its
 * rest. `chunk` may be used again after the call. Throws on a fragmented or masked frame: no server here sends one.
 */
export function readFrames<S extends Stream>(
  stream: S,
  chunk: Buffer,
  length: number,
  handle: FrameHandler<S>,
): void {
  let buffer = chunk;
  let size = length;
  if (stream.rest) {
    buffer = Buffer.concat([stream.rest, chunk.subarray(0, length)]);
    size = buffer.length;
    stream.rest = null;
  }
  let at = 0;
  while (at + 2 <= size) {
    const first = buffer[at] ?? 0;
    let payload = buffer[at + 1] ?? 0;
    let start = at + 2;
    if (payload === 126) {
      if (start + 2 > size) break;
      payload = buffer.readUInt16BE(start);
      start += 2;
    } else if (payload === 127) {
      if (start + 8 > size) break;
      payload = Number(buffer.readBigUInt64BE(start));
      start += 8;
    } else if (payload > 127) throw new Error("a server sent a masked frame");
    const end = start + payload;
    if (end > size) break;
    if ((first & 0x80) === 0) throw new Error("a server sent a fragmented message");
    handle(stream, first & 0x0f, buffer, start, end, (first & 0x40) !== 0);
    at = end;
  }
  if (at < size) stream.rest = Buffer.from(buffer.subarray(at, size));
}

/** A client's frame. Its mask is zero, which the protocol allows, so that the payload is not touched twice. */
export function clientFrame(payload: string | Buffer, opcode = 1): Buffer {
  const size = Buffer.byteLength(payload);
  const start = size < 126 ? 6 : size < 65_536 ? 8 : 14;
  const frame = Buffer.alloc(start + size);
  frame[0] = 0x80 | opcode;
  if (size < 126) frame[1] = 0x80 | size;
  else if (size < 65_536) {
    frame[1] = 0x80 | 126;
    frame.writeUInt16BE(size, 2);
  } else {
    frame[1] = 0x80 | 127;
    frame.writeBigUInt64BE(BigInt(size), 2);
  }
  if (typeof payload === "string") frame.write(payload, start);
  else payload.copy(frame, start);
  return frame;
}

/** What a member has received of a load: which messages, how often, and in which order. */
export class Ledger {
  readonly #seen: Uint32Array;
  received = 0;
  duplicated = 0;
  unknown = 0;
  /** Running hash over the ids in the order of their arrival: equal among all who received the same in one order. */
  order = 0;
  highest = -1;
  /** Messages that came after one that was sent later. */
  overtaken = 0;

  constructor(messages: number) {
    this.#seen = new Uint32Array(Math.ceil(messages / 32));
  }

  add(id: number): void {
    const word = id >>> 5;
    const bit = 1 << (id & 31);
    const seen = this.#seen[word];
    if (seen === undefined) {
      this.unknown += 1;
      return;
    }
    if (seen & bit) {
      this.duplicated += 1;
      return;
    }
    this.#seen[word] = seen | bit;
    this.received += 1;
    this.order = (Math.imul(this.order, 31) + id) | 0;
    if (id > this.highest) this.highest = id;
    else this.overtaken += 1;
  }

  has(id: number): boolean {
    return ((this.#seen[id >>> 5] ?? 0) & (1 << (id & 31))) !== 0;
  }
}

/** The account of a load over all its members. Anything but zeros after `expected` and `received` is a failed run. */
export type Reconciliation = {
  expected: number;
  received: number;
  lost: number;
  duplicated: number;
  /** Messages that a member received of a room that is not theirs, or that were never sent. */
  unknown: number;
  /** Rooms whose members did not all see the same order. */
  disordered: number;
};

/**
 * Compares what each member received with what was sent into their rooms. `sent[id]` is the room of message `id`.
 * Order is compared among the members that are in exactly the same rooms.
 */
export function reconcile(
  members: readonly { rooms: readonly number[]; ledger: Ledger }[],
  sent: ArrayLike<number>,
): Reconciliation {
  const perRoom = new Map<number, number>();
  for (let id = 0; id < sent.length; id += 1) {
    const room = sent[id] ?? -1;
    perRoom.set(room, (perRoom.get(room) ?? 0) + 1);
  }
  const result = { expected: 0, received: 0, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };
  const orders = new Map<string, Set<number>>();
  for (const { rooms, ledger } of members) {
    const expected = rooms.reduce((sum, room) => sum + (perRoom.get(room) ?? 0), 0);
    let due = 0;
    for (let id = 0; id < sent.length; id += 1)
      if (ledger.has(id) && rooms.includes(sent[id] ?? -1)) due += 1;
    result.expected += expected;
    result.received += ledger.received;
    result.lost += expected - due;
    result.duplicated += ledger.duplicated;
    result.unknown += ledger.unknown + ledger.received - due;
    const group = rooms.join(",");
    const seen = orders.get(group);
    if (seen) seen.add(ledger.order);
    else orders.set(group, new Set([ledger.order]));
  }
  // A loss is told as a loss and not as another order as well.
  if (result.lost === 0) for (const seen of orders.values()) if (seen.size > 1) result.disordered += 1;
  return result;
}
