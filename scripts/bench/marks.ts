/**
 * Each message has a marker of fixed width in its text, so that counting every message of every member costs less than
 * sending it. `reconcile` compares what each member received with what was sent.
 */

/** `~<id, 7 digits>:<intended time in µs, 13 digits>~`: the end of every message's text. */
export const MARK_LENGTH = 23;
const TILDE = 0x7e;
const ID_DIGITS = 7;
const TIME_DIGITS = 13;
const FILLER = "x".repeat(200 - MARK_LENGTH);
export const MAX_ID = 10 ** ID_DIGITS - 1;

function mark(id: number, intendedUs: number): string {
  return `~${String(id).padStart(ID_DIGITS, "0")}:${String(Math.round(intendedUs)).padStart(TIME_DIGITS, "0")}~`;
}

/** A text of 200 ASCII characters that ends with the marker. */
export function markedText(id: number, intendedUs: number): string {
  return FILLER + mark(id, intendedUs);
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

/** Which messages of a load a member received, how often, and in which order. */
export class Ledger {
  readonly #seen: Uint32Array;
  received = 0;
  duplicated = 0;
  unknown = 0;
  /** Running hash over the ids in order of arrival: equal for all who received the same messages in the same order. */
  order = 0;

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
  }

  has(id: number): boolean {
    return ((this.#seen[id >>> 5] ?? 0) & (1 << (id & 31))) !== 0;
  }
}

/** The account of a load over all its members. A run fails unless everything after `received` is 0. */
export type Reconciliation = {
  expected: number;
  received: number;
  lost: number;
  duplicated: number;
  /** Received messages that were never sent, or sent into a room that the member is not in. */
  unknown: number;
  /** Sets of rooms whose members did not all see the same order. */
  disordered: number;
};

/**
 * Compares what each member received with what was sent into their rooms. `sent[id]` is the room of message `id`.
 * Order is compared among members of exactly the same rooms.
 */
export function reconcile(
  members: readonly { rooms: readonly number[]; ledger: Ledger }[],
  sent: ArrayLike<number>,
): Reconciliation {
  const result = { expected: 0, received: 0, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };
  const orders = new Map<string, Set<number>>();
  for (const { rooms, ledger } of members) {
    let expected = 0;
    let due = 0;
    for (let id = 0; id < sent.length; id += 1) {
      if (!rooms.includes(sent[id] ?? -1)) continue;
      expected += 1;
      if (ledger.has(id)) due += 1;
    }
    result.expected += expected;
    result.received += ledger.received;
    result.lost += expected - due;
    result.duplicated += ledger.duplicated;
    result.unknown += ledger.unknown + ledger.received - due;
    const group = rooms.join(",");
    orders.set(group, (orders.get(group) ?? new Set()).add(ledger.order));
  }
  // A loss changes the order too; report it only as a loss.
  if (result.lost === 0) for (const seen of orders.values()) if (seen.size > 1) result.disordered += 1;
  return result;
}
