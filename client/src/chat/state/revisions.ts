import type { Message } from "@hubbub/server/protocol";

/** Changed messages that are not loaded, as many as are remembered. */
const REMEMBERED = 500;

/** How far the changes of a room's messages are known here. */
export type Revisions = {
  /** The change up to which nothing is missing in the log that is loaded. */
  rev: number;
  revHash: string;
  /** The newest change heard of. */
  heardRev: number;
  /** By seq, how messages are now that are not loaded: a page may have been read before they changed. */
  changed: readonly Message[];
};

export const NO_REVISIONS: Revisions = { rev: 0, revHash: "", heardRev: 0, changed: [] };

/** What a message has instead of its `rev` while it may be of changes that were lost: whatever is read is newer. */
const DOUBTFUL = -1;

/** Whether both are states of one message, and the first one is the newer. */
export function isNewer(one: Message, other: Message): boolean {
  return isSame(one, other) && revOf(one) > revOf(other);
}

/** Whether both are states of one message. */
export function isSame(one: Message, other: Message): boolean {
  return one.seq === other.seq && one.hash === other.hash;
}

/** The change that made the message what it is; 0 for none. */
export function revOf(message: Message): number {
  return message.rev ?? 0;
}

/** The newest known state of a message. */
export function newest(message: Message, known: readonly Message[]): Message {
  return known.find((other) => isNewer(other, message)) ?? message;
}

/** The messages, each in its newest known state; the same array where none has another one. */
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

/** With what has changed elsewhere: the newest messages, each in its newest state. */
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

/** The message, to be replaced by whatever is read or heard of it. */
export function doubt(message: Message): Message {
  return { ...message, rev: DOUBTFUL };
}

export function isDoubtful(message: Message): boolean {
  return message.rev === DOUBTFUL;
}

/** The message as it is, where nobody knows better. */
export function trust(message: Message): Message {
  const { rev, ...rest } = message;
  return rev === DOUBTFUL ? rest : message;
}
