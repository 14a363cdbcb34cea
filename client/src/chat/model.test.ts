import type { Changes, Cursor, Message, Page, Revision, Room, SyncedRoom } from "@hubbub/server/protocol";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ChatError } from "./api.ts";
import { createReads } from "./reads.ts";
import { createSync } from "./sync.ts";
import { createThreads } from "./threads.ts";
import { createVisits } from "./visits.ts";
import { firstDoubt, mentionsOf, needsSync, unreadOf } from "./state/room.ts";
import { apply, initialState, type ChatEvent } from "./state/state.ts";

/**
 * The state, as `sync` drives it, against a server in memory. Whatever takes time is under way until a step lets it go
 * on, in any order; only what one connection carries keeps its order.
 */
const RUNS = 4_000;
/** Short, so that a few messages fill several. */
const [PAGE_ROWS, SYNC_ROWS, SYNC_CHANGES] = [5, 6, 5];
const ME = { id: "1", username: "ann" };
const roomId = "0";

/** What Redis holds of the room; `revHashes` by rev. */
type Stored = { rows: readonly Message[]; revHashes: readonly string[] };
const EMPTY: Stored = { rows: [], revHashes: [""] };

function revisionOf({ revHashes }: Stored): Revision {
  return { rev: revHashes.length - 1, revHash: revHashes.at(-1) ?? "" };
}

function cursorOf(stored: Stored): Cursor & Revision {
  const { seq = 0, date = 0, hash = "" } = stored.rows.at(-1) ?? {};
  return { roomId, seq, date, hash, ...revisionOf(stored) };
}

function holds({ rows }: Stored, { seq, hash }: Cursor): boolean {
  return seq === 0 || rows[seq - 1]?.hash === hash;
}

/** null if nobody knows them any more. */
function changesSince(stored: Stored, { rev, revHash }: Revision): Changes | null {
  const messages = stored.rows.filter((row) => (row.rev ?? 0) > rev);
  if (stored.revHashes[rev] !== revHash || messages.length > SYNC_CHANGES) return null;
  return { after: rev, ...revisionOf(stored), messages };
}

type Query = { before?: number; after?: number; around?: number; thread?: number; size?: number };

function pageOf({ rows }: Stored, query: Query): Page {
  const { before = Infinity, after = -Infinity, around, thread } = query;
  const size = Math.min(query.size ?? 0, PAGE_ROWS);
  const asked = rows[(around ?? thread ?? 0) - 1];
  if ((around ?? thread) !== undefined && asked === undefined)
    throw new ChatError("not_found", "There is no such message.");
  if (around !== undefined && asked !== undefined) {
    const start = Math.max(0, around - (size - Math.floor(size / 2)));
    const end = around + Math.floor(size / 2);
    return { messages: rows.slice(start, end), more: start > 0, newer: end < rows.length };
  }
  const isBetween = ({ date }: Message) => date > after && date < before;
  if (asked !== undefined) {
    const root = asked.thread ?? asked.seq;
    const found = rows.filter((row) => row.thread === root && isBetween(row));
    const answers = found.slice(-size);
    const more = answers.length < found.length;
    return { messages: more ? answers : [...rows.slice(root - 1, root), ...answers], more };
  }
  const found = rows.filter(isBetween);
  const messages = query.after === undefined ? found.slice(-size) : found.slice(0, size);
  return { messages, more: messages.length < found.length };
}

/** The answer to `sync`. */
function follow(stored: Stored, cursor: Cursor): SyncedRoom {
  const { seq, rev, revHash = "" } = cursor;
  const now = revisionOf(stored);
  const unknown = { after: now.rev, ...now, messages: [], reset: true as const };
  if (!holds(stored, cursor)) {
    const reset = seq > stored.rows.length ? "ahead" : "rewound";
    return { roomId, messages: stored.rows.slice(-PAGE_ROWS), more: false, reset, changes: unknown };
  }
  const messages = stored.rows.slice(seq, seq + SYNC_ROWS);
  const answer = { roomId, messages, more: seq + messages.length < stored.rows.length };
  if (rev === undefined) return answer;
  const whole = { after: rev, ...now, messages: [] };
  return { ...answer, changes: seq === 0 ? whole : (changesSince(stored, { rev, revHash }) ?? unknown) };
}

/** What this user has not read, without deleted messages. */
function unreadIn({ rows }: Stored, read: number): Message[] {
  return rows.slice(read).filter((row) => row.deleted === undefined);
}

function mentionsIn(stored: Stored, read: number): number {
  return unreadIn(stored, read).filter((row) => row.from !== ME.id && row.mentions?.includes(ME.id)).length;
}

function listed(stored: Stored, read: number): Room {
  const { rows } = stored;
  const [seq, last] = [rows.length, rows.at(-1) ?? null];
  return {
    id: roomId,
    kind: "everyone",
    names: ["General"],
    private: false,
    last,
    seq,
    read,
    unread: unreadIn(stored, read).length,
    mentions: mentionsIn(stored, read),
    deleted: rows.slice(read).flatMap((row) => (row.deleted === undefined ? [] : [row.seq])),
  };
}

function createModel() {
  let stored = EMPTY;
  let saved = [EMPTY];
  let made = 0;
  /** This user's mark. */
  let read = 0;
  let failed = false;
  /** Whether the mark has fallen to messages that are not loaded: what of them is deleted, or calls, is told later. */
  let blind = false;
  let looked = false;
  let listsAsked = 0;
  /** What the replica has passed on. */
  let relayed = cursorOf(EMPTY);
  let connected = false;
  /** Whether the next answer to `sync` has no place for the room. */
  let isCut = false;
  /** What the connection carries, in its order, and the ends of its requests. */
  let line: (() => void)[] = [];
  let unanswered: (() => void)[] = [];
  let answering = Promise.resolve();
  let marking = Promise.resolve();
  /** How many marks the server has not moved yet. */
  let marksAsked = 0;
  /** What goes on in any order: reading, answers on their way, waits. */
  let underWay: (() => void)[] = [];
  let state = apply(initialState, { type: "signed in", user: ME, drafts: new Map() });
  /** What was gone to. */
  let gone = 0;

  const nothing = () => {};
  const none = () => [];
  const moment = () => new Promise<void>((resolve) => underWay.push(resolve));

  function later(_ms: number, end: () => void) {
    underWay.push(end);
    return () => (underWay = underWay.filter((other) => other !== end));
  }

  /** Nobody marks as unread in the moment in which a message or a mark of theirs is on its way. */
  function isStill(): boolean {
    const room = state.rooms?.get(roomId);
    return line.length === 0 && room?.seq === stored.rows.length && room.read === read;
  }

  function hasUnread(): boolean {
    const room = state.rooms?.get(roomId);
    // A place that was gone to may have brought some of it, and is not counted.
    return room?.log != null && (room.log.messages[0]?.seq ?? 1) <= room.read + 1 && state.visit === null;
  }

  function rooms(): Promise<Room[]> {
    const found = listed(stored, read);
    listsAsked += 1;
    return moment().then(() => {
      listsAsked -= 1;
      return [found];
    });
  }

  async function messages(_roomId: string, query: Query): Promise<Page> {
    // Later changes may be in the rows already.
    const revision = revisionOf(stored);
    await moment();
    const page = pageOf(stored, query);
    await moment();
    return { ...page, ...revision };
  }

  function request(
    _event: "sync" | "room.read",
    asked: { rooms: Cursor[] } | { seq: number; unread?: true },
  ) {
    return "rooms" in asked ? askSync(asked) : askMark(asked);
  }

  function askMark({ seq, unread }: { seq: number; unread?: true }) {
    return new Promise<void>((resolve, reject) => {
      const own = line;
      unanswered.push(() => reject(new ChatError("unreachable", "There is no connection.")));
      if (!connected) return endRequests();
      const before = marking;
      marksAsked += 1;
      marking = (async () => {
        await before;
        await moment();
        mark(seq, unread);
        marksAsked -= 1;
        await moment();
        own.push(resolve);
      })();
    });
  }

  /** Moves this user's mark, and tells all their windows. */
  function mark(seq: number, unread?: true) {
    read = unread ? Math.min(read, seq) : Math.max(read, Math.min(seq, stored.rows.length));
    const moved = { roomId, read, ...(unread && { unread }) };
    if (connected) line.push(() => reads.moved(moved));
  }

  function askSync(asked: { rooms: Cursor[] }) {
    return new Promise<{ rooms: SyncedRoom[] }>((resolve, reject) => {
      const own = line;
      unanswered.push(() => reject(new ChatError("unreachable", "There is no connection.")));
      if (!connected) return endRequests();
      // The server may answer two at once: what that can do is not claimed here.
      const before = answering;
      answering = (async () => {
        await before;
        await moment();
        const one = (cursor: Cursor) =>
          isCut ? { roomId, messages: [], more: true } : follow(stored, cursor);
        const answer = { rooms: asked.rooms.map(one) };
        if (asked.rooms.length > 0) isCut = false;
        await moment();
        own.push(() => resolve(answer));
      })();
    });
  }

  function endRequests() {
    for (const end of unanswered) end();
    unanswered = [];
  }

  const needs = {
    chat: {
      get state() {
        return state;
      },
      dispatch,
    },
    scope: { open: true, after: later, sleep: () => moment().then(() => true) },
    api: { me: () => Promise.resolve(ME), online: () => Promise.resolve([]), rooms, messages },
    people: { learn: nothing, learnFrom: nothing },
  };
  const socket = {
    get connected() {
      return connected;
    },
    request,
  };
  const reads = createReads({ ...needs, socket } as unknown as Parameters<typeof createReads>[0]);
  const sync = createSync({
    ...needs,
    random: () => 0,
    socket,
    reads,
    outbox: {
      wake: nothing,
      load: nothing,
      keptRooms: none,
      keptTexts: none,
      heard: nothing,
      compare: nothing,
    },
    drafts: { changes: none, take: nothing },
  } as unknown as Parameters<typeof createSync>[0]);
  const beside = { ...needs, read: sync.read, readOn: sync.readOn } as unknown as Parameters<
    typeof createVisits
  >[0];
  const [threads, visits] = [createThreads(beside), createVisits(beside)];

  function dispatch(event: ChatEvent) {
    state = apply(state, event);
    if (event.type === "unread") blind ||= !hasUnread();
    queueMicrotask(() => {
      visits.look();
      threads.look();
    });
  }

  /** Its author is told by an answer. Every fifth announcement gets lost, and the next one makes up for it. */
  function store(row: Message, revHashes = stored.revHashes) {
    stored = { rows: [...stored.rows.slice(0, row.seq - 1), row, ...stored.rows.slice(row.seq)], revHashes };
    const own = line;
    if (row.from === ME.id && connected) underWay.push(() => own.push(() => sync.told(row)));
    if (made % 5 > 0) relay();
  }

  function say(from: string, answered?: number, more: Partial<Message> = {}) {
    made += 1;
    const seq = stored.rows.length + 1;
    const { thread = answered } = stored.rows[(answered ?? 0) - 1] ?? {};
    const rest = thread === undefined ? {} : { thread };
    store({ roomId, seq, date: made, hash: `hash ${made}`, from, message: `text ${made}`, ...rest, ...more });
    if (from === ME.id) read = seq;
  }

  /** One of the stored messages, or the one that comes next. */
  function some(place: number): number {
    return 1 + (place % (stored.rows.length + 1));
  }

  function change(place: number, now: (date: number) => Partial<Message>) {
    const before = stored.rows[place % stored.rows.length];
    if (before === undefined || before.deleted !== undefined) return;
    made += 1;
    const revHashes = [...stored.revHashes, `change ${made}`];
    store({ ...before, ...now(made), rev: stored.revHashes.length }, revHashes);
  }

  /** Passes on what the replica has not passed on yet. */
  function relay() {
    const from = relayed;
    const changes = changesSince(stored, from);
    relayed = cursorOf(stored);
    if (!connected) return;
    if (changes === null) line.push(() => sync.stale(roomId));
    else if (changes.rev !== from.rev) line.push(() => sync.changed(roomId, changes));
    if (!holds(stored, from)) line.push(() => sync.stale(roomId));
    else for (const row of stored.rows.slice(from.seq)) line.push(() => sync.heard(row));
  }

  function connect() {
    if (connected) return;
    connected = true;
    line = [];
    sync.connected();
  }

  const deeds = {
    "another says": () => say("2"),
    "I say": () => {
      if (marksAsked === 0) say(ME.id);
    },
    mention: () => say("2", undefined, { mentions: [ME.id] }),
    "edit mentions": (place: number) =>
      change(place, (date) => ({ message: `text ${date}`, mentions: place % 2 ? [ME.id] : [] })),
    look: () => {
      looked = true;
      reads.watch(roomId);
    },
    "look away": () => reads.watch(null),
    "mark unread": (place: number) => {
      if (isStill()) reads.markUnread(roomId, 1 + (place % 10));
    },
    "read elsewhere": (place: number) => {
      // A list of rooms that was asked for before does not know the message: then this window must.
      const { seq: known = 0 } = state.rooms?.get(roomId) ?? {};
      mark(Math.min(place % 10, listsAsked > 0 ? known : Infinity));
    },
    "mark unread elsewhere": (place: number) => {
      if (isStill() && !looked) mark(place % 10, true);
    },
    answer: (place: number) => {
      if (stored.rows.length > 0) say("2", 1 + (place % stored.rows.length));
    },
    "open thread": (place: number) => dispatch({ type: "thread", id: (gone += 1), roomId, seq: some(place) }),
    "close thread": () => dispatch({ type: "thread over" }),
    "older answers": () => void threads.loadOlder(),
    "go to": (place: number) => {
      dispatch({ type: "visit", id: (gone += 1), roomId, seq: some(place) });
    },
    "go back": () => dispatch({ type: "visit over" }),
    "scroll up there": () => void visits.loadMore("older"),
    "scroll down there": () => void visits.loadMore("newer"),
    edit: (place: number) => change(place, (date) => ({ message: `text ${date}` })),
    delete: (place: number) => change(place, (date) => ({ message: "", deleted: date, mentions: [] })),
    relay,
    save: () => (saved = [...saved, stored].slice(-4)),
    "fail over": (place: number) => {
      // Until its room's log is proved, a page is compared by its changes alone.
      const { visit } = state;
      if (visit !== null && !state.rooms?.get(roomId)?.log) return;
      if (visit?.is === "apart" && visit.unproved !== null) return;
      // What nobody has heard of is lost for nobody.
      relay();
      failed = true;
      stored = saved[place % saved.length] ?? EMPTY;
      read = Math.min(read, stored.rows.length);
      saved = [stored];
    },
    cut: () => (isCut = true),
    interrupt: () => {
      if (!connected) return;
      connected = false;
      line = [];
      endRequests();
      sync.disconnected();
    },
    connect,
    /** To another replica, which knows all that is stored. */
    move: () => {
      if (!connected) relayed = cursorOf(stored);
      connect();
    },
    "scroll up": () => void sync.loadOlder(roomId),
    hear: () => line.shift()?.(),
    "go on": (place: number) => underWay.splice(place % Math.max(1, underWay.length), 1)[0]?.(),
  };

  return {
    async take({ act, place }: { act: keyof typeof deeds; place: number }) {
      deeds[act](place);
      await new Promise(setImmediate);
    },
    begin(count: number) {
      for (let index = 0; index < count; index += 1) say("2");
      saved = [stored];
      relayed = cursorOf(stored);
      state = apply(state, { type: "opened", roomId });
      void sync.showRooms();
      connect();
    },
    isBusy: () => line.length + underWay.length > 0,
    isHearing: () => line.length > 0,
    rows: () => stored.rows,
    room: () => state.rooms?.get(roomId),
    /** What is known for sure. */
    marks: () => [
      ...(failed ? [] : [read]),
      ...(failed || blind ? [] : [unreadIn(stored, read).length]),
      ...(failed || blind || !hasUnread() ? [] : [mentionsIn(stored, read)]),
    ],
    thread: () => state.thread,
    visit: () => state.visit,
  };
}

type Act = Parameters<ReturnType<typeof createModel>["take"]>[0]["act"];
const acts = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom<Act>("hear", "go on") },
  { weight: 3, arbitrary: fc.constantFrom<Act>("another says", "I say", "answer", "edit", "delete") },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Act>(
      "mention",
      "edit mentions",
      "look",
      "look away",
      "mark unread",
      "read elsewhere",
      "mark unread elsewhere",
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Act>(
      "open thread",
      "close thread",
      "older answers",
      "go to",
      "go back",
      "scroll up there",
      "scroll down there",
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Act>("save", "fail over", "cut", "interrupt", "connect", "move", "scroll up"),
  },
);
const steps = fc.array(fc.record({ act: acts, place: fc.nat({ max: 99 }) }), { maxLength: 100, size: "max" });

test("a log, marks, a thread and a place gone to end as they are stored, whatever is lost, late or in another order", async () => {
  const history = fc.asyncProperty(fc.nat({ max: 9 }), steps, async (count, taken) => {
    const model = createModel();
    model.begin(count);
    for (const step of taken) await model.take(step);
    const end = (act: Act) => model.take({ act, place: 0 });
    await end("connect");
    await end("relay");
    for (let turn = 0; model.isBusy() && turn < 1_000; turn += 1)
      await end(model.isHearing() ? "hear" : "go on");
    expect(model.isBusy()).toBe(false);
    const [room, rows] = [model.room(), model.rows()];
    expect(room?.log?.messages).toEqual(rows.slice((room?.log?.messages[0]?.seq ?? rows.length + 1) - 1));
    expect(room).toMatchObject({ seq: rows.length, last: rows.at(-1) ?? null, held: [] });
    expect(room && [needsSync(room), firstDoubt(room)]).toEqual([false, null]);
    const marks = model.marks();
    expect(room && [room.read, unreadOf(room), mentionsOf(room)].slice(0, marks.length)).toEqual(marks);
    const [thread, visit] = [model.thread(), model.visit()];
    if (thread?.is === "shown") {
      const all = rows.filter((row) => row.thread === thread.root.seq);
      const { root, answers, older, again } = thread;
      expect(root).toEqual(rows[root.seq - 1]);
      expect(answers).toEqual(all.slice(all.length - answers.length));
      expect([older || answers.length === all.length, again]).toEqual([true, false]);
    } else expect(thread?.is).not.toBe("wanted");
    expect(visit?.is).not.toBe("wanted");
    if (visit?.is === "apart") {
      const { messages, older, head } = visit.log;
      const from = messages[0]?.seq ?? 0;
      expect(messages).toEqual(rows.slice(from - 1, head));
      expect([older, visit.newer]).toEqual([from > 1, head < rows.length]);
    }
  });
  await fc.assert(history, { numRuns: RUNS });
});
