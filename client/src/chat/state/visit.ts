import type { Message, Page, Revision, RoomId, Thread } from "@hubbub/server/protocol";
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
  /** The change up to which these rows were read, while no log of the room could prove them; null once it has. */
  unproved: Revision | null;
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
      return state.visit?.id === event.id ? { ...state, visit: take(state, state.visit, event) } : state;
    default:
      return event satisfies never;
  }
}

function take(
  { rooms }: RoomsState,
  visit: Visit,
  event: Exclude<VisitEvent, { type: "visit" | "visit over" }>,
): Visit {
  const { id, roomId, seq } = visit;
  switch (event.type) {
    case "visited": {
      if (visit.is !== "wanted") return visit;
      const { page } = event;
      if (!page.messages.some((message) => message.seq === seq)) return { id, roomId, seq, is: "missing" };
      const unproved = rooms?.get(roomId)?.log ? null : revisionOf(page);
      return { id, roomId, seq, is: "apart", ...begin(page), load: "idle", unproved };
    }
    case "visit missing":
      return visit.is === "wanted" ? { id, roomId, seq, is: "missing" } : visit;
    case "visit loading":
      return visit.is === "apart" ? { ...visit, load: "loading" } : visit;
    case "visit load failed":
      return visit.is === "apart" ? { ...visit, load: "failed" } : visit;
    case "visit page":
      if (visit.is !== "apart") return visit;
      if (visit.unproved !== null && !isAt(visit.unproved, revisionOf(event.page)))
        return { id, roomId, seq, is: "wanted" };
      return { ...visit, ...extend(visit, event), load: "idle" };
    default:
      return event satisfies never;
  }
}

function begin({
  messages,
  more,
  newer = false,
  threads = [],
}: Page): Omit<Apart, "is" | "load" | "unproved"> {
  return { log: { messages, head: messages.at(-1)?.seq ?? 0, older: more }, newer, threads };
}

function revisionOf({ rev = 0, revHash = "" }: Page): Revision {
  return { rev, revHash };
}

function isAt({ rev, revHash }: Revision, other: Revision): boolean {
  return rev === other.rev && revHash === other.revHash;
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
  if (visit.unproved !== null) {
    if (room.stale) return state;
    if (!isAt(visit.unproved, room)) return { ...state, visit: { id, roomId, seq, is: "wanted" } };
    return followVisit({ ...state, visit: { ...visit, unproved: null } });
  }
  const messages = allNewest(visit.log.messages, room.changed);
  if (first !== undefined && visit.log.head >= first.seq && !room.stale)
    // One message in common proves that all before it are of one history.
    return messages.some(isOtherThan(log.messages))
      ? { ...state, visit: null }
      : join(state, room, log, visit, messages);
  // The page may have been read before what follows it was stored.
  const newer = visit.newer || visit.log.head < log.head;
  if (messages === visit.log.messages && newer === visit.newer) return state;
  return { ...state, visit: { ...visit, log: { ...visit.log, messages }, newer } };
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
