import type { Message, Page, RoomId } from "@hubbub/server/protocol";
import { isAnsweredBy, type Answering } from "./outgoing.ts";
import { allNewest } from "./revisions.ts";
import type { RoomState } from "./room.ts";
import type { RoomsState } from "./rooms.ts";

/**
 * The thread beside the open room, in which the message `seq` is: `wanted` until its first page is here. `id` is another
 * one each time that it is gone to.
 */
export type OpenThread = { id: number; roomId: RoomId; seq: number } & (
  { is: "wanted" } | { is: "missing" } | Shown
);

/** Without a hole up to the newest answer: the page that was read, and what the room's log has. */
type Shown = {
  is: "shown";
  root: Message;
  answers: readonly Message[];
  /** Whether the server holds older ones. */
  older: boolean;
  load: RoomState["load"];
  /** Set when nobody can tell any more whether these are the rows that are stored. */
  again: boolean;
  /** What of the room is in these rows already. */
  joined: { messages: readonly Message[] | null; changed: readonly Message[] };
};

export type ThreadState = { thread: OpenThread | null };

export const initialThread: ThreadState = { thread: null };

export type ThreadEvent =
  | { type: "thread"; id: number; roomId: RoomId; seq: number }
  | { type: "thread over" }
  | { type: "thread read"; id: number; root: Message; page: Page }
  | { type: "thread missing"; id: number }
  | { type: "thread loading"; id: number }
  | { type: "thread load failed"; id: number }
  | { type: "thread page"; id: number; page: Page };

export function applyThread<S extends ThreadState>(state: S, event: ThreadEvent): S {
  switch (event.type) {
    case "thread": {
      const { id, roomId, seq } = event;
      const { thread } = state;
      if (thread?.id === id) return state;
      if (thread?.is === "shown" && thread.roomId === roomId && isIn(thread, seq))
        // A page that was asked for under the old id is not taken any more.
        return { ...state, thread: { ...thread, id, seq, load: "idle" } };
      return { ...state, thread: { id, roomId, seq, is: "wanted" } };
    }
    case "thread over":
      return state.thread === null ? state : { ...state, thread: null };
    case "thread read":
    case "thread missing":
    case "thread loading":
    case "thread load failed":
    case "thread page":
      return state.thread?.id === event.id ? { ...state, thread: take(state.thread, event) } : state;
    default:
      return event satisfies never;
  }
}

function take(
  thread: OpenThread,
  event: Exclude<ThreadEvent, { type: "thread" | "thread over" }>,
): OpenThread {
  const { id, roomId, seq } = thread;
  switch (event.type) {
    case "thread read": {
      const { root, page } = event;
      const answers = page.messages.filter((message) => message.thread === root.seq);
      const joined = { messages: null, changed: [] };
      const rows = { root, answers, older: page.more, load: "idle", again: false, joined } as const;
      return { id, roomId, seq, is: "shown", ...rows };
    }
    case "thread missing":
      return { id, roomId, seq, is: "missing" };
    case "thread loading":
      return thread.is === "shown" ? { ...thread, load: "loading" } : thread;
    case "thread load failed":
      return thread.is === "shown" ? { ...thread, load: "failed" } : thread;
    case "thread page": {
      if (thread.is !== "shown") return thread;
      const { messages, more } = event.page;
      const [first] = thread.answers;
      const above = messages.filter(
        (message) => message.thread === thread.root.seq && (first === undefined || message.seq < first.seq),
      );
      return { ...thread, answers: [...above, ...thread.answers], older: more, load: "idle" };
    }
    default:
      return event satisfies never;
  }
}

/** Whether this is a message of the thread, as far as it is here. */
export function isIn(thread: OpenThread, seq: number): boolean {
  return (
    thread.is === "shown" && (thread.root.seq === seq || thread.answers.some((answer) => answer.seq === seq))
  );
}

/** Whether a message on its way answers one of the thread, as far as it is here. */
export function isAnswerIn(thread: OpenThread, entry: Answering): boolean {
  if (thread.is !== "shown" || entry.replyTo === undefined) return false;
  return [thread.root, ...thread.answers].some((message) => isAnsweredBy(entry, message));
}

/** What becomes of the thread after anything else has changed: it ends with its room, and has what the room has. */
export function followThread<S extends ThreadState & RoomsState>(state: S): S {
  const { thread } = state;
  if (thread === null) return state;
  if (state.openRoom !== thread.roomId) return { ...state, thread: null };
  const room = state.rooms?.get(thread.roomId);
  if (thread.is !== "shown" || room === undefined) return state;
  const { changed } = room;
  const messages = room.log?.messages ?? null;
  if (thread.joined.messages === messages && thread.joined.changed === changed) return state;
  return { ...state, thread: join(thread, messages ?? [], { messages, changed }) };
}

/**
 * A log has no hole either: what it has of the thread follows on what is here, or goes before it without one. And it
 * knows best how a message is now.
 */
function join(
  thread: OpenThread & Shown,
  log: readonly Message[],
  joined: Shown["joined"],
): OpenThread & Shown {
  const seq = thread.root.seq;
  const rows = new Map(allNewest(thread.answers, joined.changed).map((row) => [row.seq, row]));
  let [root = thread.root] = allNewest([thread.root], joined.changed);
  for (const row of log) {
    if (row.seq === seq) root = row;
    if (row.thread === seq) rows.set(row.seq, row);
  }
  const answers = [...rows.values()].toSorted((one, other) => one.seq - other.seq);
  const same =
    answers.length === thread.answers.length && answers.every((row, at) => row === thread.answers[at]);
  const older = thread.older && (log[0]?.seq ?? Infinity) > seq;
  return { ...thread, root, answers: same ? thread.answers : answers, older, joined };
}

/** Has the thread read again if it has an answer that its room's log, which may be another one now, does not have yet. */
export function doubtAhead<S extends ThreadState & RoomsState>(state: S): S {
  const { thread, rooms } = state;
  if (thread?.is !== "shown") return state;
  const { head = 0 } = rooms?.get(thread.roomId)?.log ?? {};
  return (thread.answers.at(-1)?.seq ?? 0) > head ? doubtThread(state, thread.roomId) : state;
}

/** Has a thread of this room read again. */
export function doubtThread<S extends ThreadState>(state: S, roomId: RoomId): S {
  const { thread } = state;
  if (thread?.is !== "shown" || thread.roomId !== roomId) return state;
  return { ...state, thread: { ...thread, again: true } };
}
