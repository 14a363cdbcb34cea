import type { Message, Page, RoomId, Thread } from "@hubbub/server/protocol";
import { allNewest } from "./revisions.ts";
import { isOtherThan, type Log, type RoomState } from "./room.ts";
import type { RoomsState } from "./rooms.ts";

/**
 * The open room shown around a message that somebody jumped to: `apart`, in gap-free rows of its own, until these
 * overlap the room's log; `joined`, in the log. Each jump has another `id`.
 */
export type Visit = { id: number; roomId: RoomId; seq: number } & (
  { is: "wanted" } | { is: "missing" } | { is: "joined" } | Apart
);
type Apart = {
  is: "apart";
  log: Log;
  newer: boolean;
  load: RoomState["load"];
  /** What the server has told of the threads that begin in these rows. */
  threads: readonly Thread[];
};

export type VisitState = { visit: Visit | null };

export const initialVisit: VisitState = { visit: null };

export type VisitEvent =
  | { type: "visit"; id: number; roomId: RoomId; seq: number }
  | { type: "visit over" }
  | { type: "visited"; id: number; page: Page }
  | { type: "visit missing"; id: number }
  | { type: "visit loading"; id: number }
  | { type: "visit load failed"; id: number }
  | { type: "visit page"; id: number; side: "older" | "newer"; page: Page };

export function applyVisit<S extends VisitState & RoomsState>(state: S, event: VisitEvent): S {
  switch (event.type) {
    case "visit": {
      const { id, roomId, seq } = event;
      return state.visit?.id === id ? state : { ...state, visit: { id, roomId, seq, is: "wanted" } };
    }
    case "visit over":
      return state.visit === null ? state : { ...state, visit: null };
    case "visited":
    case "visit missing":
    case "visit loading":
    case "visit load failed":
    case "visit page":
      return state.visit?.id === event.id ? { ...state, visit: take(state.visit, event) } : state;
    default:
      return event satisfies never;
  }
}

function take(visit: Visit, event: Exclude<VisitEvent, { type: "visit" | "visit over" }>): Visit {
  const { id, roomId, seq } = visit;
  switch (event.type) {
    case "visited":
      if (visit.is !== "wanted") return visit;
      return event.page.messages.some((message) => message.seq === seq)
        ? { id, roomId, seq, is: "apart", ...begin(event.page), load: "idle" }
        : { id, roomId, seq, is: "missing" };
    case "visit missing":
      return visit.is === "wanted" ? { id, roomId, seq, is: "missing" } : visit;
    case "visit loading":
      return visit.is === "apart" ? { ...visit, load: "loading" } : visit;
    case "visit load failed":
      return visit.is === "apart" ? { ...visit, load: "failed" } : visit;
    case "visit page":
      return visit.is === "apart" ? { ...visit, ...extend(visit, event), load: "idle" } : visit;
    default:
      return event satisfies never;
  }
}

function begin({ messages, more, newer = false, threads = [] }: Page): Omit<Apart, "is" | "load"> {
  return { log: { messages, head: messages.at(-1)?.seq ?? 0, older: more }, newer, threads };
}

/** Ignores a page that is not beyond the rows: a repeat. Some between the two may be gone for good. */
function extend(visit: Apart, { side, page }: { side: "older" | "newer"; page: Page }): Partial<Apart> {
  const { log } = visit;
  const threads = [...visit.threads, ...(page.threads ?? [])];
  const [first, last] = [page.messages[0], page.messages.at(-1)];
  if (first === undefined || last === undefined)
    return side === "older" ? { log: { ...log, older: page.more } } : { newer: page.more };
  if (side === "older") {
    if (last.seq >= (log.messages[0]?.seq ?? 0)) return {};
    return { log: { ...log, messages: [...page.messages, ...log.messages], older: page.more }, threads };
  }
  if (first.seq <= log.head) return {};
  return {
    log: { ...log, messages: [...log.messages, ...page.messages], head: last.seq },
    newer: page.more,
    threads,
  };
}

/** Updates the visit after any other event: it ends with its room, follows changes, joins the log. */
export function followVisit<S extends VisitState & RoomsState>(state: S): S {
  const { visit } = state;
  if (visit === null) return state;
  if (state.openRoom !== visit.roomId) return { ...state, visit: null };
  const room = state.rooms?.get(visit.roomId);
  const log = room?.log;
  if (room === undefined || !log) return state;
  const [first] = log.messages;
  const { id, roomId, seq } = visit;
  if (visit.is === "wanted" && first !== undefined && seq >= first.seq && seq <= log.head)
    return { ...state, visit: { id, roomId, seq, is: "joined" } };
  if (visit.is !== "apart") return state;
  const messages = allNewest(visit.log.messages, room.changed);
  if (first !== undefined && visit.log.head >= first.seq && !room.stale)
    // One message in common proves that all before it are of one history.
    return messages.some(isOtherThan(log.messages))
      ? { ...state, visit: null }
      : join(state, room, log, visit, messages);
  if (messages === visit.log.messages) return state;
  return { ...state, visit: { ...visit, log: { ...visit.log, messages } } };
}

/** The log now begins where the visit's rows do. */
function join<S extends VisitState & RoomsState>(
  state: S,
  room: RoomState,
  log: Log,
  { id, roomId, seq, log: { older } }: Visit & Apart,
  rows: readonly Message[],
): S {
  const first = log.messages[0]?.seq ?? 0;
  const above = rows.filter((message) => message.seq < first);
  const joined = above.length === 0 ? log : { ...log, messages: [...above, ...log.messages], older };
  const rooms = new Map(state.rooms ?? []).set(roomId, { ...room, log: joined });
  return { ...state, rooms, visit: { id, roomId, seq, is: "joined" } };
}

/** Ends a visit of this room whose rows are apart from its log. */
export function endVisit<S extends VisitState>(state: S, roomId: RoomId): S {
  const { visit } = state;
  return visit?.roomId === roomId && visit.is === "apart" ? { ...state, visit: null } : state;
}
