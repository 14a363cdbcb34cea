import type { Message, Page, Room, SyncedRoom } from "@hubbub/server/protocol";
import { describe, expect, test } from "vitest";
import { folded, unfolded } from "./folding.ts";
import { apply, initialState, type ChatEvent, type ChatState } from "./state.ts";

const me = { id: "1", username: "ann" };

/** A message of General; `thread` begins the chain that it answers. */
function said(seq: number, thread?: number, rest: Partial<Message> = {}): Message {
  return {
    roomId: "0",
    seq,
    date: seq * 10,
    hash: `h${seq}`,
    from: "2",
    message: `m${seq}`,
    ...(thread !== undefined && { replyTo: thread, thread }),
    ...rest,
  };
}

const page = (messages: Message[], more = false): Page => ({ messages, more, rev: 0, revHash: "" });
const room = { id: "0", kind: "everyone", names: ["General"], private: false, last: null } as const;

function open(log: Message[], more = false, folds = false): ChatState {
  const seq = log.at(-1)?.seq ?? 0;
  const listed: Room = {
    ...room,
    names: ["General"],
    seq,
    read: seq,
    unread: 0,
    ...(folds && { folded: true }),
  };
  return after(initialState, [
    { type: "signed in", user: me, drafts: new Map() },
    { type: "opened", roomId: "0" },
    { type: "rooms", rooms: [listed] },
    { type: "newest page", roomId: "0", page: page(log, more) },
    { type: "synced", room: { roomId: "0", messages: [], more: false } },
  ]);
}

function after(state: ChatState, events: ChatEvent[]): ChatState {
  return events.reduce(apply, state);
}

const reads = (root: Message, answers: Message[], more = false): ChatEvent[] => [
  { type: "thread", id: 1, roomId: "0", seq: root.seq },
  { type: "thread read", id: 1, root, page: page(more ? answers : [root, ...answers], more) },
];

function shown(state: ChatState) {
  const { thread } = state;
  if (thread?.is !== "shown") throw new Error(`The thread is ${thread?.is ?? "closed"}`);
  return thread;
}
const seqs = (state: ChatState) => shown(state).answers.map(({ seq }) => seq);

describe("a thread beside the room", () => {
  const log = [said(1), said(2, 1), said(3), said(4, 1)];

  test("has loaded and new answers, once and in order, and no other messages", () => {
    const state = after(open(log), [
      ...reads(said(1), [said(2, 1), said(4, 1)]),
      { type: "message", message: said(6, 3) },
      { type: "message", message: said(5, 1) },
      { type: "message", message: said(5, 1) },
    ]);
    expect(seqs(state)).toEqual([2, 4, 5]);
  });

  test("shows changes of its messages, also of those outside the log", () => {
    const old = [said(2, 1), said(50, 1)];
    const gone = said(2, 1, { message: "", deleted: 5, rev: 1 });
    const edited = said(1, undefined, { message: "other", edited: 6, rev: 2 });
    const state = after(open([said(50, 1)], true), [
      ...reads(said(1), old),
      {
        type: "changes",
        roomId: "0",
        changes: { after: 0, rev: 2, revHash: "r", messages: [gone, edited] },
      },
    ]);
    expect(shown(state).root.message).toBe("other");
    expect(shown(state).answers.map(({ message }) => message)).toEqual(["", "m50"]);
  });

  test("keeps its answers when its first message is deleted", () => {
    const gone = said(1, undefined, { message: "", deleted: 5, rev: 1 });
    const changes = { after: 0, rev: 1, revHash: "r", messages: [gone] };
    const state = after(open(log), [
      ...reads(said(1), [said(2, 1), said(4, 1)]),
      { type: "changes", roomId: "0", changes },
    ]);
    expect(shown(state).root.deleted).toBe(5);
    expect(seqs(state)).toEqual([2, 4]);
  });

  test("adds older answers above its own", () => {
    const newest = after(open([said(50, 1)], true), reads(said(1), [said(49, 1), said(50, 1)], true));
    expect([seqs(newest), shown(newest).older]).toEqual([[49, 50], true]);
    const all = after(newest, [
      { type: "thread page", id: 1, page: page([said(1), said(7, 1), said(9, 1), said(49, 1)]) },
    ]);
    expect([seqs(all), shown(all).older]).toEqual([[7, 9, 49, 50], false]);
  });

  test("loads older answers again if its user goes to another answer before they have come", () => {
    const state = after(open([said(60), said(61, 1)]), [
      ...reads(said(1), [said(50, 1), said(61, 1)], true),
      { type: "thread loading", id: 1 },
      { type: "thread", id: 2, roomId: "0", seq: 61 },
      { type: "thread page", id: 1, page: page([said(2, 1), said(3, 1)], true) },
    ]);
    expect(shown(state).load).toBe("idle");
    const older = page([said(1), said(2, 1), said(3, 1)]);
    expect(seqs(apply(state, { type: "thread page", id: 2, page: older }))).toEqual([2, 3, 50, 61]);
  });

  test("is read again once it may differ from what is stored, and stays until then", () => {
    const state = after(open(log), reads(said(1), [said(2, 1), said(4, 1)]));
    const reset: SyncedRoom = { roomId: "0", messages: [said(1)], more: false, reset: "rewound" };
    const doubted = apply(state, { type: "synced", room: reset });
    expect([shown(doubted).again, seqs(doubted)]).toEqual([true, [2, 4]]);
    const again = after(doubted, [{ type: "thread read", id: 1, root: said(1), page: page([said(1)]) }]);
    expect([shown(again).again, seqs(again)]).toEqual([false, []]);
  });

  test("is read again if its room's log is doubted or heard anew, and it has an answer of which that log knows nothing", () => {
    const ahead = after(open(log), reads(said(1), [said(2, 1), said(4, 1), said(5, 1)]));
    const heard = apply(ahead, { type: "message", message: said(5, 1) });
    for (const event of [{ type: "stale", roomId: "0" }, { type: "connected" }] as const)
      expect([ahead, heard].map((state) => shown(apply(state, event)).again)).toEqual([true, false]);
  });

  test("moves to another of its messages without being read again, and ends with the room", () => {
    const state = after(open(log), reads(said(1), [said(2, 1), said(4, 1)]));
    const gone = apply(state, { type: "thread", id: 2, roomId: "0", seq: 4 });
    expect([shown(gone).seq, seqs(gone)]).toEqual([4, [2, 4]]);
    expect(apply(gone, { type: "thread", id: 3, roomId: "0", seq: 3 }).thread?.is).toBe("wanted");
    expect(apply(gone, { type: "opened", roomId: null }).thread).toBeNull();
    expect(apply(gone, { type: "thread over" }).thread).toBeNull();
  });
});

describe("a folded log", () => {
  const logOf = (messages: Message[]) => ({ messages, head: messages.at(-1)?.seq ?? 0, older: false });
  const shownSeqs = (messages: readonly Message[]) => messages.map(({ seq }) => seq);

  test("has no answers, but each first message has their number and the newest one, without deleted ones", () => {
    const gone = said(5, 1, { message: "", deleted: 9 });
    const log = logOf([said(1), said(2, 1), said(3), said(4, 1, { from: "3" }), gone]);
    const fold = folded(log, 5);
    expect(shownSeqs(fold.messages)).toEqual([1, 3]);
    expect([...fold.threads]).toEqual([[1, { count: 2, last: { seq: 4, date: 40, from: "3" } }]]);
    expect(fold.stubs.size).toBe(0);
    expect(unfolded(log).messages).toBe(log.messages);
    expect(unfolded(log).threads).toEqual(fold.threads);
  });

  test("has one sign for all new answers to a message out of sight, in the place of the newest", () => {
    const others = Array.from({ length: 8 }, (_, index) => said(2 + index));
    const log = logOf([said(1), ...others, said(10, 1), said(11), said(12, 1), said(13)]);
    const fold = folded(log, 9);
    expect(shownSeqs(fold.messages)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]);
    expect([...fold.stubs]).toEqual([
      [12, { root: 1, isNew: true, count: 2, last: { seq: 12, date: 120, from: "2" } }],
    ]);
    // What was read before, and what stands just below, needs none.
    expect(folded(log, 12).stubs.size).toBe(0);
    expect(folded(logOf([said(1), said(2), said(3, 1)]), 0).stubs.size).toBe(0);
  });

  test("has a sign for answers to a message that is not loaded, so that none goes unseen", () => {
    const fold = folded(logOf([said(40, 7), said(41), said(42, 7)]), 99);
    expect(shownSeqs(fold.messages)).toEqual([41, 42]);
    expect([...fold.stubs.values()]).toMatchObject([{ root: 7, isNew: false, count: 2 }]);
  });

  test("around a message has the server's counts if more answers exist than are loaded", () => {
    const told = [{ seq: 1, count: 9, last: { seq: 70, date: 700, from: "4" } }];
    expect(folded(logOf([said(1), said(2, 1)]), Infinity, told).threads.get(1)).toEqual({
      count: 9,
      last: { seq: 70, date: 700, from: "4" },
    });
  });
});
