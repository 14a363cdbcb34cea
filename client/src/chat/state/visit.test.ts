import type { Message, Page, Room, SyncedRoom } from "@hubbub/server/protocol";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { apply, initialState, type ChatEvent, type ChatState } from "./state.ts";

const ROOM: Room = {
  id: "7",
  names: ["Long"],
  kind: "open",
  private: false,
  last: null,
  seq: 200,
  read: 0,
  unread: 200,
};

function said(seq: number, more: Partial<Message> = {}): Message {
  return { roomId: "7", seq, date: seq * 10, hash: `h${seq}`, from: "1", message: `text ${seq}`, ...more };
}

/** The messages between two numbers of a log that holds 1 to `end`. */
function pageOf(from: number, to: number, end = 200): Page {
  const messages = Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => said(from + index));
  return { messages, more: from > 1, newer: to < end };
}

function played(...events: ChatEvent[]): ChatState {
  return events.reduce(apply, initialState);
}

const BEGUN: ChatEvent[] = [
  { type: "rooms", rooms: [ROOM] },
  { type: "opened", roomId: "7" },
  { type: "newest page", roomId: "7", page: pageOf(151, 200) },
  { type: "synced", room: { roomId: "7", messages: [], more: false } },
];
const visit = (seq: number, id = 1): ChatEvent => ({ type: "visit", id, roomId: "7", seq });

/** The numbers of the room's shown messages. */
function shown({ visit: now, rooms }: ChatState): number[] {
  const log = now?.is === "apart" ? now.log : rooms?.get("7")?.log;
  return (log?.messages ?? []).map(({ seq }) => seq);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

describe("a visit", () => {
  it("is part of the log at once if the message is loaded", () => {
    const state = played(...BEGUN, visit(160));
    expect(state.visit).toEqual({ id: 1, roomId: "7", seq: 160, is: "joined" });
  });

  it("is apart from the log, and leaves it alone, if the message is not loaded", () => {
    const state = played(...BEGUN, visit(50), { type: "visited", id: 1, page: pageOf(41, 60) });
    expect(shown(state)).toEqual(range(41, 60));
    expect(state.rooms?.get("7")?.log).toMatchObject({ head: 200, older: true });
    const next = apply(state, { type: "message", message: said(201) });
    expect(shown(next)).toEqual(range(41, 60));
    expect(next.rooms?.get("7")?.log?.head).toBe(201);
  });

  it("that was read before its room's log is read again, unless nothing has changed until that was proved", () => {
    const at = (rev: number, page: Page): Page => ({ ...page, rev, revHash: `r${rev}` });
    const early = (rev: number): ChatEvent[] => [
      ...BEGUN.slice(0, 2),
      visit(50),
      { type: "visited", id: 1, page: at(rev, pageOf(41, 60)) },
      { type: "newest page", roomId: "7", page: at(4, pageOf(151, 200)) },
    ];
    const proved: ChatEvent = { type: "synced", room: { roomId: "7", messages: [], more: false } };
    expect(shown(played(...early(3)))).toEqual(range(41, 60));
    expect(played(...early(3), proved).visit?.is).toBe("wanted");
    expect(shown(played(...early(4), proved))).toEqual(range(41, 60));
    const more: ChatEvent = { type: "visit page", id: 1, side: "older", page: at(5, pageOf(31, 40)) };
    expect(played(...early(4), more).visit?.is).toBe("wanted");
  });

  it("can go on if something was stored between its page and the room's", () => {
    const early: Page = { ...pageOf(141, 150), newer: false };
    const state = played(...BEGUN.slice(0, 2), visit(150), { type: "visited", id: 1, page: early });
    const [, , ...loaded] = BEGUN;
    expect(loaded.reduce(apply, state).visit).toMatchObject({ is: "apart", newer: true });
  });

  it("goes on where messages between its rows and a page are gone, so that it is not asked for again", () => {
    const begun = [...BEGUN, visit(50), { type: "visited", id: 1, page: pageOf(41, 60) }] as ChatEvent[];
    const paged = (side: "older" | "newer", page: Page): ChatEvent => ({
      type: "visit page",
      id: 1,
      side,
      page,
    });
    const state = played(...begun, paged("older", pageOf(11, 20)), paged("newer", pageOf(81, 90)));
    expect(shown(state)).toEqual([...range(11, 20), ...range(41, 60), ...range(81, 90)]);
    const joined = apply(state, paged("newer", pageOf(151, 170)));
    expect(joined.visit?.is).toBe("joined");
    expect(shown(joined).slice(-50)).toEqual(range(151, 200));
  });

  it("joins the log once both overlap, without gap or double, with pages in any order and repeated", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 150 }),
        fc.array(
          fc.oneof(
            fc.record({
              side: fc.constantFrom("older" as const, "newer" as const),
              size: fc.integer({ min: 1, max: 40 }),
            }),
            fc.constant("message" as const),
            fc.constant("again" as const),
          ),
          { maxLength: 40 },
        ),
        (seq, steps) => {
          let state = played(...BEGUN, visit(seq), {
            type: "visited",
            id: 1,
            page: pageOf(Math.max(1, seq - 5), Math.min(200, seq + 5)),
          });
          let end = 200;
          let last: ChatEvent | undefined;
          for (const step of steps) {
            if (step === "again") {
              if (last) state = apply(state, last);
            } else if (step === "message") {
              state = apply(state, (last = { type: "message", message: said((end += 1)) }));
            } else {
              const all = shown(state);
              const [first = 1, final = end] = [all[0], all.at(-1)];
              const page =
                step.side === "older"
                  ? pageOf(Math.max(1, first - step.size), first - 1, end)
                  : { ...pageOf(final + 1, Math.min(end, final + step.size), end) };
              last = {
                type: "visit page",
                id: 1,
                side: step.side,
                page: step.side === "older" ? page : { ...page, more: final + step.size < end },
              };
              state = apply(state, last);
            }
            const all = shown(state);
            expect(all).toEqual(range(all[0] ?? 1, all.at(-1) ?? 0));
            expect(all).toContain(seq);
            const log = state.rooms?.get("7")?.log;
            expect(log?.messages.at(-1)?.seq).toBe(end);
            const rows = (log?.messages ?? []).map((message) => message.seq);
            expect(rows).toEqual(range(rows[0] ?? 1, end));
            if (state.visit?.is === "joined") expect(log?.older).toBe((rows[0] ?? 1) > 1);
          }
        },
      ),
    );
  });

  it("does not join a log that it only meets, because nothing proves that both are of one history", () => {
    const begun: ChatEvent[] = [...BEGUN, visit(140), { type: "visited", id: 1, page: pageOf(131, 150) }];
    expect(played(...begun).visit?.is).toBe("apart");
    const page = (...messages: Message[]): ChatEvent => ({
      type: "visit page",
      id: 1,
      side: "newer",
      page: { messages, more: true },
    });
    expect(played(...begun, page(said(151))).visit?.is).toBe("joined");
  });

  it("ends where the log has another message under a number of its own, and puts nothing into the log", () => {
    const lost = Array.from({ length: 21 }, (_, index) => said(131 + index, { hash: `lost${index}` }));
    const visited: ChatEvent = { type: "visited", id: 1, page: { messages: lost, more: true, newer: true } };
    const state = played(...BEGUN, visit(140), visited);
    expect(state.visit).toBeNull();
    expect(shown(state)).toEqual(range(151, 200));
  });

  it("shows changed messages, whether they changed before or after its page was read", () => {
    const changed = said(50, { message: "", deleted: 5, rev: 3 });
    const changes: ChatEvent = {
      type: "changes",
      roomId: "7",
      changes: { after: 2, rev: 3, revHash: "r", messages: [changed] },
    };
    const visited: ChatEvent = { type: "visited", id: 1, page: pageOf(45, 55) };
    for (const events of [
      [changes, visited],
      [visited, changes],
      [visited, changes, changes],
    ]) {
      const state = played(...BEGUN, visit(50), ...events);
      expect(state.visit).toMatchObject({ is: "apart" });
      const rows = state.visit?.is === "apart" ? state.visit.log.messages : [];
      expect(rows.find(({ seq }) => seq === 50)).toEqual(changed);
    }
  });

  it("ends with its room, its log, or the next visit", () => {
    const there = [...BEGUN, visit(50), { type: "visited", id: 1, page: pageOf(41, 60) } as const];
    expect(played(...there, { type: "opened", roomId: null }).visit).toBeNull();
    expect(played(...there, { type: "visit over" }).visit).toBeNull();
    const reset: SyncedRoom = { roomId: "7", messages: [said(3)], more: false, reset: "rewound" };
    expect(played(...there, { type: "synced", room: reset }).visit).toBeNull();
    const other = { messages: [said(199, { hash: "other" })], more: true };
    expect(played(...there, { type: "page again", roomId: "7", page: other, doubted: 199 }).visit).toBeNull();
    const late = played(...there, visit(20, 2), { type: "visited", id: 1, page: pageOf(41, 60) });
    expect(late.visit).toEqual({ id: 2, roomId: "7", seq: 20, is: "wanted" });
  });

  it("reports a missing message, and waits for a sign-in", () => {
    expect(played(...BEGUN, visit(50), { type: "visited", id: 1, page: pageOf(60, 70) }).visit?.is).toBe(
      "missing",
    );
    expect(played(...BEGUN, visit(50), { type: "visit missing", id: 1 }).visit?.is).toBe("missing");
    const state = played({ type: "opened", roomId: "7" }, visit(50), {
      type: "signed in",
      user: { id: "1", username: "ann" },
      drafts: new Map(),
    });
    expect(state.visit?.is).toBe("wanted");
  });
});
