import type { Message, Page, Presence, Room, SyncedRoom } from "@hubbub/server/protocol";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Outgoing } from "./outgoing.ts";
import { compareMessages, isHidden, mentionsOf, needsSync, unreadOf, type RoomState } from "./room.ts";
import { nameIn } from "./people.ts";
import { apply, initialState, type ChatEvent, type ChatState } from "./state.ts";

const ME = { id: "1", username: "ann" };

function stored(seq: number, rest: Partial<Message> = {}): Message {
  return {
    roomId: "0",
    seq,
    date: 1_000 + seq * 10,
    hash: `h${seq}`,
    from: "2",
    message: `m${seq}`,
    ...rest,
  };
}

function between(first: number, last: number): Message[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => stored(first + index));
}

/** The server's description of a room whose log has `seq` messages. */
function listed(seq: number, read = 0): Room {
  const last = seq === 0 ? null : stored(seq);
  return {
    id: "0",
    kind: "everyone",
    names: ["General"],
    private: false,
    last,
    seq,
    read,
    unread: seq - read,
  };
}

function after(events: readonly ChatEvent[], from = signedIn()): ChatState {
  return events.reduce(apply, from);
}

function signedIn(): ChatState {
  return apply(initialState, { type: "signed in", user: ME, drafts: new Map() });
}

/** The answer to `sync` when nothing follows the loaded log. */
const PROVED: ChatEvent = { type: "synced", room: { roomId: "0", messages: [], more: false } };

function opened(seq: number, first = 1): ChatState {
  return after([
    { type: "rooms", rooms: [listed(seq)] },
    { type: "newest page", roomId: "0", page: { messages: between(first, seq), more: first > 1 } },
    PROVED,
  ]);
}

function general(state: ChatState): RoomState {
  const room = state.rooms?.get("0");
  if (room === undefined) throw new Error("General is not there");
  return room;
}

const live = (message: Message): ChatEvent => ({ type: "message", message });
const told = (message: Message): ChatEvent => ({ type: "told", message });
const texts = (state: ChatState) => general(state).log?.messages.map((message) => message.message);

describe("messages", () => {
  test("live messages and sync answers lead to the same log in any order, and repeated", () => {
    const scenario = fc
      .record({ loaded: fc.integer({ min: 0, max: 20 }), total: fc.integer({ min: 0, max: 60 }) })
      .filter(({ loaded, total }) => total >= loaded)
      .chain(({ loaded, total }) => {
        const events = between(loaded + 1, total).map(live);
        const answer = fc.integer({ min: loaded, max: total }).map((to): ChatEvent => ({
          type: "synced",
          room: { roomId: "0", messages: between(loaded + 1, to), more: to < total },
        }));
        return fc.record({
          loaded: fc.constant(loaded),
          total: fc.constant(total),
          order: fc.tuple(
            fc.shuffledSubarray(events, { minLength: events.length }),
            fc.shuffledSubarray(events),
            fc.array(answer, { maxLength: 3 }),
          ),
        });
      })
      .chain(({ loaded, total, order }) =>
        fc.record({
          loaded: fc.constant(loaded),
          total: fc.constant(total),
          events: fc.shuffledSubarray(order.flat(), { minLength: order.flat().length }),
        }),
      );
    fc.assert(
      fc.property(scenario, ({ loaded, total, events }) => {
        const room = general(after(events, opened(loaded)));
        expect(room.log?.messages).toEqual(between(1, total));
        expect(room.log?.head).toBe(total);
        expect(room.held).toEqual([]);
        expect(room.seq).toBe(total);
        expect(needsSync(room)).toBe(false);
      }),
    );
  });

  test("live messages over a stale snapshot give what a fresh snapshot gives, whichever comes first", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 0, max: 30 }),
        fc.nat(),
        (stale, more, place) => {
          const fresh = opened(stale + more);
          const events = between(stale + 1, stale + more).map(live);
          const page: ChatEvent = {
            type: "newest page",
            roomId: "0",
            page: { messages: between(1, stale), more: false },
          };
          events.splice(place % (events.length + 1), 0, page);
          const answer: ChatEvent = {
            type: "synced",
            room: { roomId: "0", messages: between(stale + 1, stale + more), more: false },
          };
          const state = after([...events, answer], after([{ type: "rooms", rooms: [listed(stale)] }]));
          expect(general(state)).toEqual(general(fresh));
        },
      ),
    );
  });

  test("applying an event twice has the effect of applying it once", () => {
    const events: ChatEvent[] = [
      live(stored(6)),
      live(stored(9)),
      { type: "synced", room: { roomId: "0", messages: between(6, 8), more: false } },
      told(stored(6)),
      { type: "synced", room: { roomId: "0", messages: between(3, 4), more: true, reset: "rewound" } },
      { type: "read", roomId: "0", read: 4 },
      { type: "rooms", rooms: [listed(7, 2)] },
      { type: "room gone", roomId: "0" },
      { type: "presence diff", users: [{ id: "4", username: "dan", online: true }] },
      { type: "presence snapshot", online: [{ id: "5", username: "eve", online: true }] },
      { type: "draft", slot: "0", text: "so" },
    ];
    // No answer that was asked for before a reset counts after it.
    const effectOf = ({ rooms, ...state }: ChatState) => ({
      ...state,
      rooms: [...(rooms?.values() ?? [])].map((room) => ({ ...room, doubts: 0 })),
    });
    for (const event of events) {
      const once = apply(opened(5), event);
      const twice = apply(once, event);
      if (event.type === "synced") expect(effectOf(twice)).toEqual(effectOf(once));
      else expect(twice).toEqual(once);
    }
  });

  test("a message beyond a gap is held until sync has filled the gap", () => {
    const gapped = after([live(stored(8))], opened(5));
    expect(texts(gapped)).toEqual(["m1", "m2", "m3", "m4", "m5"]);
    expect(needsSync(general(gapped))).toBe(true);
    const filled = apply(gapped, {
      type: "synced",
      room: { roomId: "0", messages: between(6, 7), more: false },
    });
    expect(texts(filled)?.slice(5)).toEqual(["m6", "m7", "m8"]);
    expect(needsSync(general(filled))).toBe(false);
  });

  test("messages of a lost log never join the one that replaced it", () => {
    const lost = between(9, 10).map((message) => ({ ...message, hash: `old ${message.seq}` }));
    // The last of the lost log, heard by a connection that had missed what came before.
    const gapped = after(lost.map(live), opened(5));
    const anew = between(6, 12).map((message) => ({ ...message, date: message.date + 1_000 }));
    const answer: ChatEvent = { type: "synced", room: { roomId: "0", messages: anew, more: false } };
    const filled = apply(gapped, answer);
    expect(general(filled).log?.messages).toEqual([...between(1, 5), ...anew]);
    expect(needsSync(general(filled))).toBe(false);
    const half: ChatEvent = { type: "synced", room: { ...answer.room, messages: anew.slice(0, 3) } };
    expect(general(apply(gapped, half))).toMatchObject({ seq: 8, held: [], log: { head: 8 } });
    // Told in time, it is dropped at once.
    const warned = apply(gapped, { type: "stale", roomId: "0" });
    expect(general(warned)).toMatchObject({ stale: true, held: [] });
    expect(general(apply(warned, answer)).log?.messages).toEqual([...between(1, 5), ...anew]);
  });

  test("messages of the present log never join a page that was read from a lost one", () => {
    const lost = between(4, 6).map((message) => ({ ...message, hash: `old ${message.seq}` }));
    const present = between(4, 8).map((message) => ({ ...message, date: message.date + 1_000 }));
    const page: ChatEvent = {
      type: "newest page",
      roomId: "0",
      page: { messages: [...between(1, 3), ...lost], more: false },
    };
    const [, , , seventh, eighth] = present.map(live) as [
      ChatEvent,
      ChatEvent,
      ChatEvent,
      ChatEvent,
      ChatEvent,
    ];
    const far: ChatEvent = { ...page, type: "restarted" };
    const begun = after([{ type: "rooms", rooms: [listed(3)] }]);
    for (const before of [
      [page, seventh],
      [seventh, page],
      [{ type: "stale", roomId: "0" }, seventh, page],
    ] as ChatEvent[][]) {
      const state = after([...before, eighth], begun);
      expect(general(state).log?.messages).toEqual([...between(1, 3), ...lost]);
      expect(needsSync(general(state))).toBe(true);
      const answer: SyncedRoom = {
        roomId: "0",
        messages: [...between(1, 3), ...present],
        more: false,
        reset: "rewound",
      };
      const synced = general(apply(state, { type: "synced", room: answer }));
      expect(synced.log?.messages).toEqual(answer.messages);
      expect(needsSync(synced)).toBe(false);
    }
    const restarted = general(after([far, seventh], opened(3)));
    expect(restarted.log?.messages).toEqual([...between(1, 3), ...lost]);
    expect(needsSync(restarted)).toBe(true);
  });

  test("what an answer or a page tells joins the log once it is heard, because a lost log may still be shown", () => {
    const [sixth, seventh] = [stored(6), stored(7)];
    const page: ChatEvent = {
      type: "newest page",
      roomId: "0",
      page: { messages: between(1, 6), more: false },
    };
    for (const way of [told(sixth), page]) {
      const ahead = after([way, live(seventh)], opened(5));
      expect(texts(ahead)).toHaveLength(5);
      expect(general(ahead)).toMatchObject({ seq: 7, last: seventh });
      expect(needsSync(general(ahead))).toBe(true);
      expect(texts(apply(ahead, live(sixth)))).toEqual(["m1", "m2", "m3", "m4", "m5", "m6", "m7"]);
      const synced = apply(ahead, {
        type: "synced",
        room: { roomId: "0", messages: between(6, 7), more: false },
      });
      expect(general(synced)).toMatchObject({ held: [], told: [] });
      expect(needsSync(general(synced))).toBe(false);
      // The connection may have been the first to tell.
      expect(texts(after([live(sixth), way], opened(5)))).toHaveLength(6);
    }
  });

  test("the log becomes the stored one after a failover, in whatever order events and answers come", () => {
    const steps = [
      ...(["speak", "speak", "hear", "hear", "ask", "ask", "answer", "answer"] as const),
      ...(["send", "send in vain", "lose", "find the loss", "reconnect"] as const),
    ];
    const step = fc.constantFrom(...steps);
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), (chosen) => {
        let state = opened(3);
        let log = between(1, 3);
        let date = 2_000;
        let lost = 0;
        // What is on its way: events of the replica in their order, and answers.
        let events: ChatEvent[] = [];
        let answers: (() => void)[] = [];
        /** Whether the replica knows that the log lost its end; until then it passes nothing on. */
        let isFound = true;
        const store = (from: string) => {
          const message = stored(log.length + 1, { from, date: (date += 10), hash: `h${lost}.${date}` });
          log = [...log, message];
          if (isFound) events.push(live(message));
          return message;
        };
        const find = () => {
          // An answer that was made before is not sent after this.
          for (const answer of answers.splice(0)) answer();
          if (!isFound) events.push({ type: "stale", roomId: "0" });
          isFound = true;
        };
        const ask = () => {
          const { log: shown, doubts, told: before } = general(state);
          const head = shown?.messages.at(-1);
          const at = log.findIndex((message) => message.seq === head?.seq && message.hash === head.hash);
          const isKnown = head === undefined || at >= 0;
          const reset = (head?.seq ?? 0) > log.length ? "ahead" : "rewound";
          const room: SyncedRoom = isKnown
            ? { roomId: "0", messages: log.slice(at + 1), more: false }
            : { roomId: "0", messages: log.slice(-10), more: false, reset };
          answers.push(() => {
            if (general(state).doubts !== doubts) return;
            state = apply(state, { type: "synced", room });
            // As the client does: an answer told of it before, and the log does not have it.
            const isMissing = general(state).told.some((seq) => before.includes(seq));
            if (room.reset === undefined && isMissing) state = apply(state, { type: "stale", roomId: "0" });
          });
        };
        const go = {
          speak: () => void store("2"),
          send() {
            const mine = store(ME.id);
            answers.push(() => (state = apply(state, told(mine))));
          },
          // The log loses it before anybody hears of it, so that no replica notices.
          "send in vain"() {
            const mine = stored(log.length + 1, { from: ME.id, date: (date += 10), hash: `lost ${date}` });
            answers.push(() => (state = apply(state, told(mine))));
          },
          lose() {
            log = log.slice(0, -2);
            lost += 1;
            isFound = false;
          },
          "find the loss": find,
          hear() {
            const event = events.shift();
            if (event !== undefined) state = apply(state, event);
          },
          answer: () => answers.shift()?.(),
          ask,
          reconnect() {
            [events, answers, isFound] = [[], [], true];
            state = apply(state, { type: "connected" });
          },
        };
        for (const what of chosen) go[what]();
        find();
        while (events.length > 0) go.hear();
        for (let asked = 0; needsSync(general(state)) && asked < 10; asked += 1) {
          ask();
          go.answer();
        }
        expect(needsSync(general(state))).toBe(false);
        const shown = general(state).log?.messages ?? [];
        expect(shown).toEqual(log.slice(log.length - shown.length));
      }),
      { numRuns: 5_000 },
    );
  });

  test("a known seq with another hash means that the log was replaced", () => {
    const state = apply(opened(5), live(stored(5, { hash: "other", message: "another past" })));
    expect(texts(state)?.at(-1)).toBe("m5");
    expect(needsSync(general(state))).toBe(true);
  });

  test("what is told twice, in two ways, is a doubt, and stays as it was last heard", () => {
    const [ours, theirs] = [
      stored(6, { hash: "ours", from: ME.id, nonce: "n1" }),
      stored(6, { hash: "theirs" }),
    ];
    for (const events of [
      [told(ours), live(theirs)],
      [told(ours), told(theirs)],
    ]) {
      const state = after(events, opened(5));
      expect(general(state)).toMatchObject({ stale: true, held: [theirs] });
    }
    // Heard beyond a gap, so that it is held.
    const [heard, other] = [stored(8, { hash: "heard" }), stored(8, { hash: "other" })];
    expect(general(after([live(heard), told(other)], opened(5)))).toMatchObject({
      stale: true,
      held: [heard],
    });
    const present = stored(6, { rev: 3, message: "", deleted: 9 });
    expect(texts(after([told(present), live(stored(6))], opened(5)))?.at(-1)).toBe("");
  });

  test("the newest message is that of the log once it is complete, whatever was told before", () => {
    const phantom = stored(9, { hash: "lost", date: 9_000 });
    const state = after([told(phantom), { type: "stale", roomId: "0" }, PROVED], opened(5));
    expect(general(state)).toMatchObject({ last: stored(5), seq: 5 });
    expect(needsSync(general(state))).toBe(false);
  });

  test("what is told before a reset waits no longer once the new log has it", () => {
    const messages = [stored(5, { hash: "n5" }), stored(6, { hash: "n6" })];
    const state = after(
      [
        told(stored(6, { hash: "n6" })),
        { type: "synced", room: { roomId: "0", messages, more: false, reset: "rewound" } },
      ],
      opened(5),
    );
    expect(general(state)).toMatchObject({ told: [], held: [], log: { head: 6 } });
  });

  test("an answer that was asked for before a log began anew says nothing of it", () => {
    const page = { messages: between(21, 30), more: true };
    const begun = apply(opened(5), { type: "restarted", roomId: "0", page });
    expect(general(begun).doubts).toBeGreaterThan(general(opened(5)).doubts);
  });

  test("a page that is read again drops a log whose messages are others, which `sync` would not find", () => {
    const page = { messages: [stored(4), stored(5, { hash: "other" })], more: true };
    const state = apply(opened(8), { type: "page again", roomId: "0", page, doubted: 5 });
    expect(general(state)).toMatchObject({ log: null, held: [] });
    const same = apply(opened(8), {
      type: "page again",
      roomId: "0",
      page: { ...page, messages: between(4, 5) },
      doubted: 5,
    });
    expect(texts(same)).toHaveLength(8);
  });

  test("a reset drops the log and all its messages", () => {
    const fresh = [stored(1, { hash: "n1", message: "new 1" }), stored(2, { hash: "n2", message: "new 2" })];
    const state = after(
      [
        { type: "read", roomId: "0", read: 5 },
        { type: "synced", room: { roomId: "0", messages: fresh, more: false, reset: "ahead" } },
      ],
      opened(5),
    );
    expect(texts(state)).toEqual(["new 1", "new 2"]);
    expect(general(state)).toMatchObject({ seq: 2, read: 2, last: fresh[1], stale: false });
    // Another answer that was asked for earlier would take away what has been heard since.
    expect(general(state).doubts).toBeGreaterThan(general(opened(5)).doubts);
    expect(needsSync(general(state))).toBe(false);
  });

  test("after a reset, messages that were heard meanwhile are of the log, and unread", () => {
    const later = [9, 10].map((seq) => stored(seq, { hash: `n${seq}`, date: 2_000 + seq }));
    const state = after(
      [
        { type: "stale", roomId: "0" },
        // The present log has eight messages; two more are said while the answer to `sync` is on its way.
        ...later.map(live),
        { type: "synced", room: { roomId: "0", messages: between(1, 8), more: false, reset: "rewound" } },
        { type: "read", roomId: "0", read: 8 },
      ],
      opened(10),
    );
    expect(general(state)).toMatchObject({ seq: 10, log: { head: 10 }, held: [] });
    expect(unreadOf(general(state))).toBe(2);
  });

  test("a page of a lost history, whose rev was greater, leaves nothing to ask for once the log is in step", () => {
    const messages = between(1, 4);
    const revision = { after: 1, rev: 1, revHash: "new", messages: [] };
    const inStep = { roomId: "0", more: false, changes: revision };
    const state = after([
      { type: "rooms", rooms: [listed(6)] },
      {
        type: "newest page",
        roomId: "0",
        page: { messages: between(1, 6), more: false, rev: 3, revHash: "lost" },
      },
      {
        type: "synced",
        room: { ...inStep, messages, reset: "ahead", changes: { ...revision, reset: true } },
      },
      { type: "synced", room: { ...inStep, messages: [] } },
    ]);
    expect(needsSync(general(state))).toBe(false);
  });

  test("an older page goes before the log, and is ignored if it does not join it", () => {
    const state = opened(30, 21);
    const older: ChatEvent = {
      type: "older page",
      roomId: "0",
      page: { messages: between(11, 20), more: true },
      before: 21,
    };
    const grown = apply(state, older);
    expect(general(grown).log?.messages).toEqual(between(11, 30));
    expect(general(apply(grown, older)).log?.messages).toEqual(between(11, 30));
    const late: ChatEvent = {
      type: "older page",
      roomId: "0",
      page: { messages: between(1, 5), more: false },
      before: 6,
    };
    expect(general(apply(grown, late)).log?.messages).toEqual(between(11, 30));
  });

  test("an older page joins the log also where messages between them are gone, so that it is not asked for again", () => {
    const state = opened(30, 21);
    const page = { messages: between(5, 12), more: false };
    const grown = apply(state, { type: "older page", roomId: "0", page, before: 21 });
    expect(general(grown).log).toMatchObject({
      messages: [...between(5, 12), ...between(21, 30)],
      older: false,
      head: 30,
    });
  });

  test("the order of two messages is antisymmetric", () => {
    const message = fc.record({
      roomId: fc.constant("0"),
      date: fc.integer({ min: 1, max: 3 }),
      seq: fc.integer({ min: 1, max: 3 }),
      hash: fc.constant("a"),
      from: fc.constantFrom("1", "2"),
      message: fc.constantFrom("a", "b"),
    });
    fc.assert(
      fc.property(message, message, message, (one, two, three) => {
        expect(Math.sign(compareMessages(one, two))).toBe(-Math.sign(compareMessages(two, one)) + 0);
        if (compareMessages(one, two) <= 0 && compareMessages(two, three) <= 0) {
          expect(compareMessages(one, three)).toBeLessThanOrEqual(0);
        }
      }),
    );
  });
});

describe("reading", () => {
  test("unread messages are those after the mark, and the mark only rises", () => {
    const state = after(
      [{ type: "read", roomId: "0", read: 3 }, { type: "read", roomId: "0", read: 2 }, live(stored(6))],
      opened(5),
    );
    expect(unreadOf(general(state))).toBe(3);
  });

  test("a sender has read the messages above their own", () => {
    const state = after([live(stored(6)), live(stored(7, { from: ME.id }))], opened(5));
    expect(unreadOf(general(state))).toBe(0);
  });

  test("the answer to a change of an own message reads nothing that was marked as unread", () => {
    const said = after([live(stored(6, { from: ME.id }))], opened(5));
    const unread = apply(said, { type: "unread", roomId: "0", read: 3 });
    const changed = apply(unread, told(stored(6, { from: ME.id, message: "another", rev: 1 })));
    expect(unreadOf(general(changed))).toBe(3);
  });

  test("a message that another window has read before it is heard here is read when it comes", () => {
    const state = after([{ type: "read", roomId: "0", read: 6 }, live(stored(6))], opened(5));
    expect([general(state).read, unreadOf(general(state))]).toEqual([6, 0]);
  });

  test("a mark that falls brings back the mentions and takes out the deletions that are loaded", () => {
    const called = stored(3, { mentions: [ME.id] });
    const gone = stored(4, { message: "", deleted: 9, rev: 1 });
    const messages = [stored(1), stored(2), called, gone, stored(5)];
    const state = after([
      { type: "rooms", rooms: [listed(5, 5)] },
      { type: "newest page", roomId: "0", page: { messages, more: false, rev: 1, revHash: "r1" } },
      PROVED,
      { type: "unread", roomId: "0", read: 1 },
    ]);
    expect([unreadOf(general(state)), mentionsOf(general(state))]).toEqual([3, 1]);
    const half = apply(state, { type: "read", roomId: "0", read: 3 });
    expect([unreadOf(general(half)), mentionsOf(general(half))]).toEqual([1, 0]);
  });
});

describe("rooms", () => {
  test("a newer list of rooms removes missing rooms and keeps the logs of the others", () => {
    const other: Room = { ...listed(0), id: "7", names: ["Lunch"], last: null };
    const state = after(
      [
        { type: "room", room: other },
        { type: "rooms", rooms: [listed(5)] },
      ],
      opened(5),
    );
    expect([...(state.rooms?.keys() ?? [])]).toEqual(["0"]);
    expect(texts(state)).toHaveLength(5);
  });

  test("a room that sync does not find is removed", () => {
    const answer: SyncedRoom = { roomId: "0", messages: [], more: false, notFound: true };
    expect(apply(opened(3), { type: "synced", room: answer }).rooms?.has("0")).toBe(false);
  });

  test("a room keeps only its newest messages when another is opened, and knows that there are older ones", () => {
    const state = after(
      [{ type: "opened", roomId: null }],
      apply(opened(500), { type: "opened", roomId: "0" }),
    );
    const log = general(state).log;
    expect(log?.messages.at(-1)?.seq).toBe(500);
    expect(log?.messages.length).toBeLessThan(500);
    expect(log?.older).toBe(true);
  });

  test("a room shown beside another keeps all its messages until it is no longer shown", () => {
    const beside = after(
      [
        { type: "opened beside", roomIds: ["0"] },
        { type: "opened", roomId: null },
      ],
      apply(opened(500), { type: "opened", roomId: "0" }),
    );
    expect(general(beside).log?.messages).toHaveLength(500);
    const hidden = apply(beside, { type: "opened beside", roomIds: [] });
    expect(general(hidden).log?.messages.length).toBeLessThan(500);
  });
});

describe("messages on their way", () => {
  const entry: Outgoing = { nonce: "n1", roomId: "0", message: "hello", created: 5, state: "sending" };

  test("the stored message replaces the one on its way, from whatever source", () => {
    const mine = stored(6, { from: ME.id, nonce: "n1", message: "hello" });
    const waiting = apply(opened(5), { type: "outgoing", entries: [entry] });
    const ways: ChatEvent[] = [
      live(mine),
      { type: "synced", room: { roomId: "0", messages: [mine], more: false } },
    ];
    for (const way of ways) {
      const state = apply(waiting, way);
      expect(state.outgoing).toEqual([]);
      // An earlier list of the outbox must not bring it back.
      expect(apply(state, { type: "outgoing", entries: [entry] }).outgoing).toEqual([]);
    }
  });

  test("one that an older page or a new start of the log shows is on its way no more", () => {
    const mine = (seq: number) => stored(seq, { from: ME.id, nonce: "n1", message: "hello" });
    const page = (...messages: Message[]): Page => ({ messages, more: false });
    const waiting = after([
      { type: "rooms", rooms: [listed(9)] },
      { type: "newest page", roomId: "0", page: { messages: between(5, 9), more: true } },
      PROVED,
      { type: "outgoing", entries: [entry] },
    ]);
    const ways: ChatEvent[] = [
      { type: "older page", roomId: "0", page: page(...between(1, 3), mine(4)), before: 5 },
      { type: "restarted", roomId: "0", page: page(...between(1, 8), mine(9)) },
    ];
    expect(waiting.outgoing).toHaveLength(1);
    for (const way of ways) expect(apply(waiting, way).outgoing).toEqual([]);
  });

  /** How often each of these messages is shown: as stored, or as on its way. */
  function timesShown(state: ChatState, nonces: readonly string[]): number[] {
    const shown = [...(general(state).log?.messages ?? []), ...state.outgoing];
    return nonces.map((nonce) => shown.filter((one) => one.nonce === nonce).length);
  }

  test("a message stays as sent between its answer and `sync`, and goes when the log has it", () => {
    const mine = stored(7, { from: ME.id, nonce: "n1", message: "hello" });
    const waits = after(
      [
        { type: "outgoing", entries: [entry] },
        { type: "connected" },
        told(mine),
        { type: "outgoing", entries: [] },
      ],
      opened(5),
    );
    expect(texts(waits)).toHaveLength(5);
    expect(waits.outgoing).toMatchObject([{ nonce: "n1", state: "sent", seq: 7 }]);
    // The connection may be lost again before the log was compared.
    const again = after([{ type: "connected" }, { type: "outgoing", entries: [] }], waits);
    expect(timesShown(again, ["n1"])).toEqual([1]);
    const synced = apply(again, {
      type: "synced",
      room: { roomId: "0", messages: [stored(6), mine], more: false },
    });
    expect(texts(synced)?.slice(5)).toEqual(["m6", "hello"]);
    expect(synced.outgoing).toEqual([]);
  });

  test("a sent message whose seq the shown log has used stays until that log is replaced", () => {
    const mine = stored(3, { from: ME.id, nonce: "n1", hash: "other", message: "hello" });
    const waits = after(
      [
        { type: "connected" },
        { type: "outgoing", entries: [entry] },
        told(mine),
        { type: "outgoing", entries: [] },
      ],
      opened(5),
    );
    expect(timesShown(waits, ["n1"])).toEqual([1]);
    const messages = [...between(1, 2), mine];
    const reset = apply(waits, {
      type: "synced",
      room: { roomId: "0", messages, more: false, reset: "ahead" },
    });
    expect(general(reset).log?.messages).toEqual(messages);
    expect(reset.outgoing).toEqual([]);
  });

  test("a sent message that no log has any more goes back to the outbox", () => {
    const mine = stored(6, { from: ME.id, nonce: "n1", message: "hello" });
    const waits = after(
      [
        { type: "outgoing", entries: [entry] },
        { type: "connected" },
        told(mine),
        { type: "connected" },
        { type: "synced", room: { roomId: "0", messages: [], more: false } },
      ],
      opened(5),
    );
    expect(timesShown(waits, ["n1"])).toEqual([0]);
    const offered = apply(waits, { type: "outgoing", entries: [{ ...entry, state: "unconfirmed" }] });
    expect(timesShown(offered, ["n1"])).toEqual([1]);
  });

  test("an own message is shown exactly once, whatever comes in between", () => {
    const step = fc.constantFrom(
      "write",
      "store",
      "others speak",
      "hear",
      "answer",
      "reconnect",
      "ask",
      "synced",
      "list",
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 80 }), (steps) => {
        let state = opened(3);
        const log = between(1, 3);
        const written: Outgoing[] = [];
        let waiting: Outgoing[] = [];
        let heard = log.length;
        let answers: Message[] = [];
        let asked: SyncedRoom[] = [];
        const settle = (message: Message, how = live) => {
          state = apply(state, how(message));
          waiting = waiting.filter((one) => one.nonce !== message.nonce);
          state = apply(state, { type: "outgoing", entries: waiting });
        };
        for (const what of steps) {
          const unstored = waiting.find((one) => !log.some((message) => message.nonce === one.nonce));
          const next = log[heard];
          switch (what) {
            case "write": {
              const nonce = `own ${written.length}`;
              const fresh: Outgoing = { ...entry, nonce, state: "waiting" };
              written.push(fresh);
              waiting = [...waiting, fresh];
              state = apply(state, { type: "outgoing", entries: waiting });
              break;
            }
            case "store": {
              if (unstored === undefined) break;
              const { nonce, message } = unstored;
              const mine = stored(log.length + 1, { from: ME.id, nonce, message });
              log.push(mine);
              answers.push(mine);
              break;
            }
            case "others speak":
              log.push(stored(log.length + 1));
              break;
            case "hear":
              if (next !== undefined) settle(next);
              heard = Math.min(log.length, heard + 1);
              break;
            case "answer": {
              const answer = answers.shift();
              if (answer !== undefined) settle(answer, told);
              break;
            }
            case "reconnect":
              // Requests under way are lost, and messages of that time are not heard.
              heard = log.length;
              answers = [];
              asked = [];
              state = apply(state, { type: "connected" });
              break;
            case "ask": {
              const head = general(state).log?.head ?? 0;
              asked.push({ roomId: "0", messages: log.slice(head, head + 3), more: head + 3 < log.length });
              break;
            }
            case "synced": {
              const room = asked.shift();
              if (room === undefined) break;
              state = apply(state, { type: "synced", room });
              for (const message of room.messages) settle(message);
              break;
            }
            case "list":
              state = apply(state, { type: "rooms", rooms: [listed(log.length)] });
              break;
            default:
              what satisfies never;
          }
          expect(
            timesShown(
              state,
              written.map((one) => one.nonce),
            ),
          ).toEqual(written.map(() => 1));
        }
      }),
      { numRuns: 500 },
    );
  });

  test("a message that comes does not make the log be searched again for each of them", () => {
    let reads = 0;
    const counted = (message: Message): Message =>
      Object.defineProperty(message, "nonce", { enumerable: true, get: () => void (reads += 1) });
    const waiting = after([
      { type: "rooms", rooms: [listed(50)] },
      { type: "newest page", roomId: "0", page: { messages: between(1, 50).map(counted), more: false } },
      PROVED,
      {
        type: "outgoing",
        entries: Array.from({ length: 100 }, (_, index) => ({ ...entry, nonce: `n${index}` })),
      },
    ]);
    reads = 0;
    expect(apply(waiting, live(stored(51))).outgoing).toHaveLength(100);
    expect(reads).toBe(0);
  });

  test("somebody else's message with the same nonce removes nothing", () => {
    const waiting = apply(opened(5), { type: "outgoing", entries: [entry] });
    expect(apply(waiting, live(stored(6, { nonce: "n1" }))).outgoing).toEqual([entry]);
  });
});

describe("presence", () => {
  const person = (id: string, online: boolean): Presence => ({ id, username: `u${id}`, online });

  test("changes heard before the snapshot are applied after it", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.constantFrom("2", "3", "4", "5")),
        fc.array(fc.record({ id: fc.constantFrom("2", "3", "4", "5"), online: fc.boolean() })),
        fc.nat(),
        (before, changes, place) => {
          const diffs = changes.map(({ id, online }): ChatEvent => ({
            type: "presence diff",
            users: [person(id, online)],
          }));
          const snapshot: ChatEvent = {
            type: "presence snapshot",
            online: before.map((id) => person(id, true)),
          };
          const early = after([...diffs.slice(0, place), snapshot, ...diffs.slice(place)]);
          const late = after([snapshot, ...diffs]);
          const online = (state: ChatState) =>
            [...state.users.values()]
              .filter((user) => user.online)
              .map((user) => user.id)
              .toSorted();
          expect(online(early)).toEqual(online(late));
        },
      ),
    );
  });

  test("a new connection's snapshot replaces the old one", () => {
    const state = after([
      { type: "presence snapshot", online: [person("2", true)] },
      { type: "connected" },
      { type: "presence snapshot", online: [person("3", true)] },
    ]);
    expect(state.users.get("2")?.online).toBe(false);
    expect(state.users.get("3")?.online).toBe(true);
  });

  test("display names that come, change and go are taken from every event, and presence stays", () => {
    const named = (displayName?: string): Presence => ({
      ...person("2", true),
      ...(displayName && { displayName }),
    });
    const shown = (events: readonly ChatEvent[]) => {
      const { users } = after([{ type: "presence snapshot", online: [named("Bea")] }, ...events]);
      return [nameIn(users, "2"), users.get("2")?.online];
    };
    for (const name of ["Bea B.", undefined]) {
      const one = { ...named(name), online: false };
      expect(shown([{ type: "users", users: [one] }])).toEqual([name ?? "u2", true]);
      expect(shown([{ type: "presence diff", users: [named(name)] }])).toEqual([name ?? "u2", true]);
      expect(shown([{ type: "presence diff", users: [one] }])).toEqual([name ?? "u2", false]);
    }
    const { users } = after([]);
    expect([nameIn(users, "9"), nameIn(users, "9", "…"), nameIn(users, undefined, "")]).toEqual([
      "Somebody",
      "…",
      "",
    ]);
  });
});

describe("a hidden room", () => {
  const hidden = (seq: number): Room => ({ ...listed(seq, seq), hidden: true });

  test("is shown again by the next message, however the room's description and the message cross", () => {
    const list: ChatEvent = { type: "rooms", rooms: [hidden(3)] };
    const described: ChatEvent = { type: "room", room: hidden(3) };
    const next: ChatEvent = { type: "message", message: stored(4) };
    expect(isHidden(general(after([list])))).toBe(true);
    for (const events of [
      [list, next],
      [list, next, described],
      [{ type: "rooms", rooms: [listed(3)] } as const, next, described],
    ])
      expect(isHidden(general(after(events)))).toBe(false);
    const change = { ...stored(3), rev: 1, edited: 5 };
    const changes = { after: 0, rev: 1, revHash: "a", messages: [change] };
    expect(isHidden(general(after([list, { type: "changes", roomId: "0", changes }])))).toBe(true);
  });

  test("is shown again if its log turns out to be another one", () => {
    const synced: SyncedRoom = { roomId: "0", messages: between(1, 2), more: false, reset: "ahead" };
    const state = after(
      [
        { type: "room", room: hidden(3) },
        { type: "synced", room: synced },
      ],
      opened(3),
    );
    expect(isHidden(general(state))).toBe(false);
  });
});
