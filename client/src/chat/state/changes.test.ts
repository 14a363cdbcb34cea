import type { Changes, Message, Room, SyncedRoom } from "@hubbub/server/protocol";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { revOf } from "./revisions.ts";
import { firstDoubt, mentionsOf, needsSync, unreadOf, type RoomState } from "./room.ts";
import { apply, initialState, type ChatEvent, type ChatState } from "./state.ts";

/** A room of the server: its messages, and the message of each change, from rev 1 on. */
type Story = { total: number; changes: readonly number[] };

const roomId = "0";

/** The message as stored, or as changed up to `rev`. */
function at(story: Story, seq: number, rev: number): Message {
  const last = story.changes.slice(0, rev).lastIndexOf(seq) + 1;
  const message = { roomId, seq, date: 1_000 + seq, hash: `h${seq}`, from: "2", message: `m${seq}` };
  return last === 0 ? message : { ...message, message: `m${seq} at ${last}`, rev: last };
}

function rows(story: Story, from: number, to: number, rev: number): Message[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => at(story, from + index, rev));
}

function span(story: Story, after: number, rev: number): Changes {
  const seqs = [...new Set(story.changes.slice(after, rev))];
  return { after, rev, revHash: `r${rev}`, messages: seqs.map((seq) => at(story, seq, rev)) };
}

function page(story: Story, from: number, to: number, rev: number) {
  return { messages: rows(story, from, to, rev), more: from > 1, rev, revHash: rev === 0 ? "" : `r${rev}` };
}

function listed(story: Story, rev: number): ChatEvent {
  const room: Room = {
    id: roomId,
    kind: "everyone",
    names: ["General"],
    private: false,
    last: at(story, story.total, rev),
    seq: story.total,
    read: 0,
    unread: story.total,
  };
  return { type: "rooms", rooms: [room] };
}

/** The server's answer to this room's cursor. */
function synced(story: Story, room: RoomState): ChatEvent {
  const messages = rows(story, (room.log?.head ?? 0) + 1, story.total, story.changes.length);
  const changes = span(story, room.rev, story.changes.length);
  return { type: "synced", room: { roomId, messages, more: false, changes } };
}

function general(state: ChatState): RoomState {
  const room = state.rooms?.get(roomId);
  if (room === undefined) throw new Error("General is not there");
  return room;
}

/** The answer to `sync` when nothing follows the loaded log. */
const PROVED: ChatEvent = { type: "synced", room: { roomId, messages: [], more: false } };

const after = (events: readonly ChatEvent[], from = initialState) => events.reduce(apply, from);

const stories = fc.integer({ min: 1, max: 12 }).chain((total) =>
  fc.record({
    total: fc.constant(total),
    changes: fc.array(fc.integer({ min: 1, max: total }), { maxLength: 15 }),
  }),
);

/** A story and the ways it reaches a client: changes in spans of any length, pages and messages of any rev. */
const tellings = stories.chain((story) => {
  const { total, changes } = story;
  const rev = fc.integer({ min: 0, max: changes.length });
  const told = (from: number, to: number): ChatEvent => ({
    type: "changes",
    roomId,
    changes: span(story, from, to),
  });
  const spans = fc.tuple(rev, rev).map(([one, other]) => [told(Math.min(one, other), Math.max(one, other))]);
  const pages = fc
    .tuple(fc.integer({ min: 1, max: total }), rev)
    .map(([from, at_]): ChatEvent[] => [
      { type: "newest page", roomId, page: page(story, from, total, at_) },
    ]);
  // Before such a page is used, the changes since its reading are asked for.
  const older = fc
    .tuple(fc.integer({ min: 1, max: total }), rev)
    .map(([to, at_]): ChatEvent[] => [
      told(at_, changes.length),
      { type: "older page", roomId, page: page(story, 1, to, at_), before: to + 1 },
    ]);
  const live = fc
    .tuple(fc.integer({ min: 1, max: total }), rev)
    .map(([seq, at_]): ChatEvent[] => [{ type: "message", message: at(story, seq, at_) }]);
  const lists = rev.map((at_) => [listed(story, at_)]);
  const each = changes.map((_, index) => [told(index, index + 1)]);
  return fc.array(fc.oneof(spans, pages, older, live, lists), { maxLength: 25 }).chain((some) =>
    fc.record({
      story: fc.constant(story),
      some: fc.constant(some.flat()),
      all: fc
        .shuffledSubarray([...some, ...each, ...each], { minLength: some.length + 2 * each.length })
        .map((events) => events.flat()),
      first: rev.map((at_) => listed(story, at_)),
    }),
  );
});

describe("changes", () => {
  test("lead to the same messages in any order, repeated, with pages read before and after", () => {
    fc.assert(
      fc.property(tellings, ({ story, all, first }) => {
        const now = story.changes.length;
        const told = after([first, ...all]);
        const { log, last } = general(told);
        for (const message of log?.messages ?? []) expect(message).toEqual(at(story, message.seq, now));
        expect(last).toEqual(at(story, story.total, now));
        // A later page is as old as its reading, and shown in its present state.
        const opened = general(
          after(
            [
              { type: "newest page", roomId, page: page(story, 3, story.total, 0) },
              { type: "older page", roomId, page: page(story, 1, 2, 0), before: 3 },
            ],
            told,
          ),
        );
        for (const message of opened.log?.messages ?? [])
          expect(message).toEqual(at(story, message.seq, now));
      }),
      { numRuns: 1_000 },
    );
  });

  test("are complete after `sync`, even if some were lost", () => {
    fc.assert(
      fc.property(tellings, fc.boolean(), ({ story, some, first }, reconnects) => {
        const opened: ChatEvent = { type: "newest page", roomId, page: page(story, 1, story.total, 0) };
        const begun = after([
          first,
          opened,
          ...some,
          ...(reconnects ? [{ type: "connected" } as const] : []),
        ]);
        const room = general(apply(begun, synced(story, general(begun))));
        const now = story.changes.length;
        expect(room.log?.messages).toEqual(rows(story, 1, story.total, now));
        expect(room).toMatchObject({ rev: now, heardRev: now });
        expect(needsSync(room)).toBe(false);
      }),
      { numRuns: 1_000 },
    );
  });

  const story: Story = { total: 5, changes: [2, 4, 2, 5, 1] };
  const opened = after([
    listed(story, 0),
    { type: "newest page", roomId, page: page(story, 1, 5, 1) },
    PROVED,
  ]);

  test("are applied if they follow, and missing ones are noticed", () => {
    const joined = general(apply(opened, { type: "changes", roomId, changes: span(story, 0, 3) }));
    expect(joined).toMatchObject({ rev: 3, revHash: "r3" });
    expect(needsSync(joined)).toBe(false);
    const gap = general(apply(opened, { type: "changes", roomId, changes: span(story, 2, 3) }));
    expect(gap).toMatchObject({ rev: 1, revHash: "r1", heardRev: 3 });
    expect(gap.log?.messages[1]).toEqual(at(story, 2, 3));
    expect(needsSync(gap)).toBe(true);
  });

  test("that are no longer known cause everything to be read again, and the read state wins", () => {
    // Changes 3 to 5, as this client heard them, were lost, and others took their numbers.
    const other: Story = { total: 5, changes: [2, 4, 3] };
    const misled = apply(opened, { type: "changes", roomId, changes: span(story, 1, 5) });
    const { after: from, rev, revHash } = { after: 3, rev: 3, revHash: "other" };
    const answer: ChatEvent = {
      type: "synced",
      room: {
        roomId,
        messages: [],
        more: false,
        changes: { after: from, rev, revHash, messages: [], reset: true },
      },
    };
    const reset = apply(misled, answer);
    expect(apply(reset, answer)).toEqual(reset);
    expect(general(reset)).toMatchObject({ rev: 3, revHash: "other", heardRev: 3 });
    expect(general(reset).log?.messages.map((message) => message.message)).toEqual(
      rows(story, 1, 5, 5).map((message) => message.message),
    );
    expect(firstDoubt(general(reset))).toEqual({ seq: 5, next: undefined });
    // Somebody makes another change during the reading.
    const on: Story = { ...other, changes: [...other.changes, 4] };
    const half = after(
      [
        { type: "changes", roomId, changes: span(on, 3, 4) },
        { type: "page again", roomId, page: page(other, 4, 5, 3), doubted: 5 },
      ],
      reset,
    );
    expect(firstDoubt(general(half))?.next).toEqual(at(on, 4, 4));
    const whole = apply(half, { type: "page again", roomId, page: page(other, 1, 3, 3), doubted: 3 });
    expect(firstDoubt(general(whole))).toBe(null);
    expect(general(whole).log?.messages).toEqual(rows(on, 1, 5, 4));
  });

  test("of a lost history, recognised by an unknown old rev, are doubted", () => {
    // This client knows all five changes; the third one was of message 2.
    const five = after([{ type: "changes", roomId, changes: span(story, 1, 5) }], opened);
    const lost: Message = { ...at(story, 3, 0), message: "of a log that is gone", rev: 4 };
    const ways: ChatEvent[] = [
      { type: "message", message: lost },
      { type: "changes", roomId, changes: { after: 3, rev: 4, revHash: "lost", messages: [lost] } },
    ];
    for (const way of ways) {
      const told = apply(five, way);
      expect(firstDoubt(general(told))?.next?.seq).toBe(4);
      const read = apply(told, {
        type: "page again",
        roomId,
        page: page(story, 1, 5, 5),
        doubted: 3,
      });
      expect(general(read).log?.messages).toEqual(rows(story, 1, 5, 5));
    }
  });

  test("of a lost history with the rev of a stored one, of the same message, give way to it and to doubt", () => {
    const lost: Message = { ...at(story, 3, 0), message: "", deleted: 7, rev: 2 };
    const kept: Message = { ...at(story, 3, 0), message: "edited", edited: 8, editRev: 2, rev: 2 };
    const told = (message: Message): Changes => ({
      after: 1,
      rev: 2,
      revHash: message.message,
      messages: [message],
    });
    const state = after(
      [
        { type: "changes", roomId, changes: told(lost) },
        { type: "stale", roomId },
        { type: "synced", room: { roomId, messages: [], more: false, changes: told(kept) } },
      ],
      opened,
    );
    expect(general(state).log?.messages[2]).toEqual({ ...kept, rev: -3 });
    expect(firstDoubt(general(state))?.next?.seq).toBe(4);
  });

  test("that were heard during a `sync` are not doubted", () => {
    const answer: ChatEvent = {
      type: "synced",
      room: { roomId, messages: [], more: false, changes: span(story, 1, 3) },
    };
    const told = after([{ type: "changes", roomId, changes: span(story, 1, 5) }, answer], opened);
    expect(firstDoubt(general(told))).toBe(null);
    expect(general(told).log?.messages).toEqual(rows(story, 1, 5, 5));
    expect(needsSync(general(told))).toBe(false);
  });

  test("that were heard before a page was read do not override it, if it includes them", () => {
    const lost: Message = { ...at(story, 3, 0), message: "of a log that is gone", rev: 4 };
    const state = after([
      listed(story, 0),
      { type: "changes", roomId, changes: { after: 3, rev: 4, revHash: "lost", messages: [lost] } },
      { type: "newest page", roomId, page: page(story, 4, 5, 5) },
      { type: "older page", roomId, page: page(story, 1, 3, 5), before: 4 },
    ]);
    expect(general(state).log?.messages).toEqual(rows(story, 1, 5, 5));
    const all = after([
      listed(story, 0),
      { type: "changes", roomId, changes: { after: 3, rev: 4, revHash: "lost", messages: [lost] } },
      { type: "newest page", roomId, page: page(story, 1, 5, 5) },
    ]);
    expect(general(all).log?.messages).toEqual(rows(story, 1, 5, 5));
  });

  test("that were heard during an earlier answer are not undone by an older page", () => {
    const short: Story = { total: 5, changes: [1, 2, 3] };
    const answer: SyncedRoom = { roomId, messages: [], more: false, changes: span(short, 1, 2) };
    const state = after([
      listed(short, 2),
      { type: "newest page", roomId, page: page(short, 1, 5, 2) },
      PROVED,
      { type: "changes", roomId, changes: span(short, 2, 3) },
      { type: "synced", room: answer },
      { type: "page again", roomId, page: page(short, 1, 5, 2), doubted: 3 },
    ]);
    expect(general(state).log?.messages).toEqual(rows(short, 1, 5, 3));
    expect(firstDoubt(general(state))).toBeNull();
  });

  test("that were heard after a page was read keep their doubt, if the page ends before their message", () => {
    const long: Story = { total: 6, changes: [1, 6] };
    // The answer was made before the second change, which is heard before it.
    const anew = { after: 1, rev: 1, revHash: "r1", messages: [], reset: true as const };
    const state = after([
      listed(long, 1),
      { type: "newest page", roomId, page: page(long, 1, 5, 1) },
      PROVED,
      { type: "message", message: at(long, 6, 2) },
      { type: "changes", roomId, changes: span(long, 1, 2) },
      { type: "synced", room: { roomId, messages: [], more: false, changes: anew } },
      { type: "page again", roomId, page: page(long, 1, 5, 1), doubted: 5 },
    ]);
    expect(firstDoubt(general(state))).toEqual({ seq: 6, next: undefined });
    const whole = apply(state, { type: "page again", roomId, page: page(long, 1, 6, 2), doubted: 6 });
    expect(general(whole).log?.messages).toEqual(rows(long, 1, 6, 2));
  });

  test("that delete a message remove its text from every kept state", () => {
    const long: Story = { total: 6, changes: [6] };
    const edited = { ...at(long, 6, 1), message: "a secret" };
    const gone = { ...at(long, 6, 1), message: "", deleted: 7, rev: 2 };
    const edit: ChatEvent = {
      type: "changes",
      roomId,
      changes: { after: 0, rev: 1, revHash: "r1", messages: [edited] },
    };
    const deletion: ChatEvent = {
      type: "changes",
      roomId,
      changes: { after: 1, rev: 2, revHash: "r2", messages: [gone] },
    };
    const first: ChatEvent = { type: "newest page", roomId, page: page(long, 1, 5, 0) };
    const joins: ChatEvent = { type: "message", message: at(long, 6, 0) };
    const all: ChatEvent = {
      type: "newest page",
      roomId,
      page: { messages: [...rows(long, 1, 5, 0), gone], more: false, rev: 2, revHash: "r2" },
    };
    for (const way of [
      [first, PROVED, edit, joins, deletion],
      [first, PROVED, joins, edit, deletion],
      [first, edit, deletion, PROVED, joins],
      [first, edit, joins, deletion, PROVED],
      [edit, first, PROVED, joins, deletion],
      [edit, all],
    ]) {
      const state = after([listed(long, 0), ...way]);
      expect(JSON.stringify(general(state))).not.toContain("a secret");
      expect(general(state).log?.messages.at(-1)).toEqual(gone);
    }
  });

  test("that delete unread messages reduce the unread count, whatever the source", () => {
    const gone = { ...at(story, 4, 1), message: "", deleted: 7, rev: 2 };
    const telling: ChatEvent = {
      type: "changes",
      roomId,
      changes: { after: 1, rev: 2, revHash: "r2", messages: [gone] },
    };
    const read = apply(opened, { type: "read", roomId, read: 2 });
    const told = apply(read, telling);
    expect([read, told, apply(told, telling)].map((state) => unreadOf(general(state)))).toEqual([3, 2, 2]);
    const list: ChatEvent = {
      type: "rooms",
      rooms: [
        {
          id: roomId,
          names: ["General"],
          kind: "everyone",
          private: false,
          last: at(story, 5, 0),
          seq: 5,
          read: 2,
          unread: 1,
          deleted: [4, 5],
        },
      ],
    };
    expect(unreadOf(general(apply(told, list)))).toBe(1);
    expect(unreadOf(general(apply(told, { type: "read", roomId, read: 5 })))).toBe(0);
  });

  test("that take a mention away, or bring one, count also for messages from before the list of rooms", () => {
    const me = { id: "1", username: "ann" };
    const mention: Message = { ...at(story, 4, 0), mentions: ["1"] };
    const other = at(story, 5, 0);
    const told = (rev: number, message: Message): ChatEvent => ({
      type: "changes",
      roomId,
      changes: { after: rev - 1, rev, revHash: `r${rev}`, messages: [{ ...message, rev }] },
    });
    const list = listed(story, 0);
    const known = list.type === "rooms" ? list.rooms : [];
    const rooms = known.map((room) => ({ ...room, mentions: 1 }));
    const state = after([
      { type: "signed in", user: me, drafts: new Map() },
      { type: "rooms", rooms },
      {
        type: "newest page",
        roomId,
        page: { messages: [...rows(story, 2, 3, 0), mention, other], more: true, rev: 0, revHash: "" },
      },
      PROVED,
    ]);
    const gone = told(1, { ...mention, message: "", mentions: [], deleted: 7 });
    const edited = told(2, { ...other, message: "@ann", mentions: ["1"] });
    const counts = [[], [gone], [gone, gone], [gone, edited], [gone, edited, gone, edited]].map((events) =>
      mentionsOf(general(after(events, state))),
    );
    expect(counts).toEqual([1, 0, 0, 1, 1]);
    // What the list has counted already, `sync` tells again.
    const synced_ = {
      after: 0,
      rev: 1,
      revHash: "r1",
      messages: [{ ...mention, mentions: [], deleted: 7, rev: 1 }],
    };
    const caught = apply(state, {
      type: "synced",
      room: { roomId, messages: [], more: false, changes: synced_ },
    });
    expect(mentionsOf(general(caught))).toBe(1);
  });

  test("of messages of another log replace nothing", () => {
    const alien = { ...at(story, 5, 4), hash: "other" };
    const state = apply(opened, {
      type: "changes",
      roomId,
      changes: { after: 1, rev: 4, revHash: "r4", messages: [alien] },
    });
    expect(general(state).log?.messages).toEqual(rows(story, 1, 5, 1));
    expect(needsSync(general(state))).toBe(true);
  });
});

describe("a changed message", () => {
  const told = (seq: number, message: string, rev?: number): Message => ({
    roomId,
    seq,
    date: seq,
    hash: `h${seq}`,
    from: "1",
    message,
    ...(rev !== undefined && { rev }),
  });
  const list = (seq: number): ChatEvent => {
    const last = told(seq, `m${seq}`);
    const room = { id: roomId, names: ["General"], private: false, last, seq, read: 0, unread: seq };
    return { type: "rooms", rooms: [{ ...room, kind: "everyone" }] };
  };
  const textsAfter = (events: ChatEvent[]) =>
    general(after(events)).log?.messages.map((row) => `${row.message} ${revOf(row)}`);

  test("of a lost log goes with it, also if it was told of and waits beyond a gap", () => {
    expect(
      textsAfter([
        list(3),
        {
          type: "newest page",
          roomId,
          page: { messages: [told(1, "m1")], more: false, rev: 0, revHash: "" },
        },
        { type: "told", message: told(3, "lost", 1) },
        {
          type: "synced",
          room: {
            roomId,
            messages: [told(2, "m2")],
            more: true,
            changes: { after: 0, rev: 1, revHash: "r", messages: [told(1, "now", 1)] },
          },
        },
        {
          type: "synced",
          room: {
            roomId,
            messages: [told(3, "m3")],
            more: false,
            changes: { after: 1, rev: 1, revHash: "r", messages: [] },
          },
        },
      ]),
    ).toEqual(["now 1", "m2 0", "m3 0"]);
  });
  test("is in doubt until a page is read, though an older state of it is told of", () => {
    expect(
      textsAfter([
        list(1),
        {
          type: "newest page",
          roomId,
          page: { messages: [told(1, "edited", 1)], more: false, rev: 1, revHash: "r" },
        },
        {
          type: "synced",
          room: {
            roomId,
            messages: [],
            more: false,
            changes: { after: 2, rev: 2, revHash: "s", messages: [], reset: true },
          },
        },
        { type: "told", message: told(1, "before the edit") },
      ]),
    ).toEqual(["edited -1"]);
  });
  test("is in doubt until a page is read, though a second lost change comes", () => {
    expect(
      textsAfter([
        list(1),
        {
          type: "newest page",
          roomId,
          page: { messages: [told(1, "m1"), told(2, "m2", 2)], more: false, rev: 2, revHash: "present" },
        },
        {
          type: "changes",
          roomId,
          changes: { after: 0, rev: 1, revHash: "lost 1", messages: [told(1, "lost", 1)] },
        },
        {
          type: "changes",
          roomId,
          changes: { after: 1, rev: 2, revHash: "lost 2", messages: [told(1, "lost too", 2)] },
        },
        { type: "stale", roomId },
        {
          type: "synced",
          room: {
            roomId,
            messages: [],
            more: false,
            changes: { after: 2, rev: 2, revHash: "present", messages: [] },
          },
        },
      ]),
    ).toEqual(["lost -1", "m2 2"]);
  });
  test("is in doubt until a page is read, though an older answer to sync comes", () => {
    expect(
      textsAfter([
        list(1),
        {
          type: "newest page",
          roomId,
          page: { messages: [told(1, "m1")], more: false, rev: 0, revHash: "" },
        },
        {
          type: "changes",
          roomId,
          changes: { after: 1, rev: 2, revHash: "second", messages: [told(1, "second", 2)] },
        },
        {
          type: "synced",
          room: {
            roomId,
            messages: [],
            more: false,
            changes: { after: 3, rev: 3, revHash: "third", messages: [], reset: true },
          },
        },
        {
          type: "synced",
          room: {
            roomId,
            messages: [],
            more: false,
            changes: { after: 0, rev: 1, revHash: "first", messages: [told(1, "first", 1)] },
          },
        },
      ]),
    ).toEqual(["second -1"]);
  });
});
