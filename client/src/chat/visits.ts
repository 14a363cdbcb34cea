import type { RoomId } from "@hubbub/server/protocol";
import { isPassing, waitAfter, type Api } from "./api.ts";
import type { People } from "./people.ts";
import type { Scope } from "./scope.ts";
import type { Chat } from "./store.ts";
import type { Sync } from "./sync.ts";

const AROUND = 50;

type Needs = { chat: Chat; scope: Scope; api: Api; people: People } & Pick<Sync, "read" | "readOn">;

/** Loads the messages around one that somebody jumped to. */
export function createVisits({ chat, scope, api, people, read, readOn }: Needs) {
  /** The visit of a room that was refused because this user was not in it. */
  let refused: number | undefined;
  let loading: number | undefined;
  const isIn = (roomId: RoomId) => chat.state.rooms?.has(roomId) === true;

  /** The visit to load now. Outside the room nobody can tell what is missing there: it may be joined. */
  function asked() {
    const { visit } = chat.state;
    if (visit?.is !== "wanted" || (visit.id === refused && !isIn(visit.roomId))) return null;
    return visit;
  }

  /** Loads the page around the message, with retries until there is an answer. */
  async function load(id: number): Promise<void> {
    loading = id;
    for (let visit = asked(); visit?.id === id; visit = asked()) {
      const { roomId, seq } = visit;
      const wasIn = isIn(roomId);
      try {
        const page = await read(roomId, { around: seq, size: AROUND, threads: true });
        people.learnFrom(page.messages);
        chat.dispatch({ type: "visited", id, page });
      } catch (error) {
        if (isPassing(error)) {
          if (!(await scope.sleep(waitAfter(error)))) return;
        } else if (wasIn) chat.dispatch({ type: "visit missing", id });
        else refused = id;
      }
    }
    if (loading === id) loading = undefined;
  }

  /** Something has changed: loads what is wanted. */
  function look() {
    const visit = asked();
    if (visit !== null && visit.id !== loading) void load(visit.id);
  }

  async function loadMore(side: "older" | "newer"): Promise<void> {
    const { visit } = chat.state;
    if (visit?.is !== "apart" || visit.load === "loading") return;
    const { id, log } = visit;
    const end = side === "older" ? log.messages[0] : log.messages.at(-1);
    if (end === undefined || !(side === "older" ? log.older : visit.newer)) return;
    chat.dispatch({ type: "visit loading", id });
    try {
      const page = await readOn(end, side, { threads: true });
      people.learnFrom(page.messages);
      chat.dispatch({ type: "visit page", id, side, page });
    } catch {
      chat.dispatch({ type: "visit load failed", id });
    }
  }

  return {
    look,
    loadMore,

    /** seq of the first message since a moment, or of the newest one; null in an empty room. */
    async seqAt(roomId: RoomId, at: number): Promise<number | null> {
      const { messages } = await api.messages(roomId, { at, size: 1 });
      return messages[0]?.seq ?? null;
    },
  };
}
