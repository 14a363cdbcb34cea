import type { Message, Thread } from "@hubbub/server/protocol";
import type { Log } from "./room.ts";

/** What the first message of a thread shows. */
export type ThreadLine = Omit<Thread, "seq">;

/** Shown in the place of answers: how many the thread of `root` has, and whether they are new. */
export type Stub = ThreadLine & { root: number; isNew: boolean };

export type Folded = {
  /** The shown rows in order: messages, and answers that have a stub in their place. */
  messages: readonly Message[];
  /** By the seq of the thread's first message. */
  threads: ReadonlyMap<number, ThreadLine>;
  /** By the seq of the newest answer, whose place the stub takes. */
  stubs: ReadonlyMap<number, Stub>;
};

/**
 * A log's threads, from its messages and from the server's counts. A log has no gap up to its end, so it has all
 * answers to each of its messages; messages apart from the log may have more.
 */
function threadsIn(messages: readonly Message[], told: readonly Thread[]): Map<number, ThreadLine> {
  const threads = new Map<number, ThreadLine>();
  for (const { thread, seq, date, from, deleted } of messages) {
    if (thread === undefined || deleted !== undefined) continue;
    threads.set(thread, { count: (threads.get(thread)?.count ?? 0) + 1, last: { seq, date, from } });
  }
  for (const { seq, count, last } of told) {
    const loaded = threads.get(seq);
    if (loaded === undefined || loaded.count < count)
      threads.set(seq, {
        count,
        last: loaded !== undefined && loaded.last.seq > last.seq ? loaded.last : last,
      });
  }
  return threads;
}

/** A log with its answers in their own places. */
export function unfolded({ messages }: Log, told: readonly Thread[] = []): Folded {
  return { messages, threads: threadsIn(messages, told), stubs: new Map() };
}

/** Messages that are likely to be in sight together. */
const NEAR = 5;

/**
 * A log without answers, which are only in their threads. So that none goes unseen, a stub takes the place of answers
 * that came after `since` (a seq) to a message further up, and of answers whose thread begins above the loaded part.
 */
export function folded({ messages }: Log, since: number, told: readonly Thread[] = []): Folded {
  const threads = threadsIn(messages, told);
  /** By seq, the places of the messages that are shown. */
  const places = new Map<number, number>();
  const stubs = new Map<number, Stub>();
  /** The stub of each thread so far, which moves to the newest answer. */
  const latest = new Map<number, Stub>();
  for (const { seq, thread: root, date, from, deleted } of messages) {
    if (root === undefined) places.set(seq, places.size);
    if (root === undefined || deleted !== undefined) continue;
    const place = places.get(root);
    const isNew = place !== undefined;
    // What begins it is seen, and how many answers it has.
    if (isNew && (seq <= since || places.size - place <= NEAR)) continue;
    const before = latest.get(root);
    if (before !== undefined) stubs.delete(before.last.seq);
    const stub = { root, isNew, count: (before?.count ?? 0) + 1, last: { seq, date, from } };
    latest.set(root, stub);
    stubs.set(seq, stub);
  }
  return {
    messages: messages.filter(({ seq, thread }) => thread === undefined || stubs.has(seq)),
    threads,
    stubs,
  };
}
