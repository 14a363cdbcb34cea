import type { Message } from "@hubbub/server/protocol";

/** How many changed messages that are not loaded are remembered. */
const REMEMBERED = 500;

/** The known changes of a room's messages. */
export type Revisions = {
  /** The change up to which the loaded log misses nothing. */
  rev: number;
  revHash: string;
  /** The newest change heard. */
  heardRev: number;
  /** By seq, the present state of messages that are not loaded: a page may have been read before they changed. */
  changed: readonly Message[];
};

export const NO_REVISIONS: Revisions = { rev: 0, revHash: "", heardRev: 0, changed: [] };

/** What a message's `rev` counts as while it may belong to lost changes: any read state is newer. */
const DOUBTFUL = -1;

/** Whether both are states of one message, and the first is newer. */
export function isNewer(one: Message, other: Message): boolean {
  return isSame(one, other) && revOf(one) > revOf(other);
}

/** Whether both are states of one message. */
export function isSame(one: Message, other: Message): boolean {
  return one.seq === other.seq && one.hash === other.hash;
}

/** The last change of the message; 0 for none. */
export function revOf({ rev = 0 }: Message): number {
  return Math.max(DOUBTFUL, rev);
}

/** The last change of the message as it is shown, be it in doubt or not. */
export function shownRevOf({ rev = 0 }: Message): number {
  return rev < 0 ? DOUBTFUL - rev : rev;
}

/** The newest known state of a message. */
export function newest(message: Message, known: readonly Message[]): Message {
  return known.find((other) => isNewer(other, message)) ?? message;
}

/** Each message in its newest known state; the same array if nothing is newer. */
export function allNewest(messages: readonly Message[], known: readonly Message[]): readonly Message[] {
  if (known.length === 0) return messages;
  let same = true;
  const next = messages.map((message) => {
    const now = newest(message, known);
    same &&= now === message;
    return now;
  });
  return same ? messages : next;
}

/** Adds changed messages: the newest ones, each in its newest state. */
export function remember(changed: readonly Message[], rows: readonly Message[]): readonly Message[] {
  const kept = new Map(changed.map((message) => [message.seq, message]));
  let same = true;
  for (const row of rows) {
    const known = kept.get(row.seq);
    if (revOf(row) <= 0 || (known !== undefined && isSame(row, known) && !isNewer(row, known))) continue;
    kept.set(row.seq, row);
    same = false;
  }
  if (same) return changed;
  return [...kept.values()].toSorted((one, other) => one.seq - other.seq).slice(-REMEMBERED);
}

/** Makes any read or heard state of the message replace it. Its `rev` is negative then, and not forgotten. */
export function doubt(message: Message): Message {
  return isDoubtful(message) ? message : { ...message, rev: DOUBTFUL - revOf(message) };
}

export function isDoubtful({ rev = 0 }: Message): boolean {
  return rev < 0;
}

/** Ends the doubt about a message. */
export function trust(message: Message): Message {
  const { rev: _, ...rest } = message;
  return isDoubtful(message) ? rest : message;
}
