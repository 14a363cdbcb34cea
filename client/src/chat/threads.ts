import { LIMITS } from "@hubbub/server/protocol";
import { ChatError, isPassing, waitAfter } from "./api.ts";
import type { People } from "./people.ts";
import type { Scope } from "./scope.ts";
import { isIn } from "./state/thread.ts";
import type { Chat } from "./store.ts";
import type { Sync } from "./sync.ts";

/** Pages that are read at once to reach the answer that somebody has gone to. */
const PAGES_MOST = 20;

type Needs = { chat: Chat; scope: Scope; people: People } & Pick<Sync, "read" | "readOn">;

/** Loads the thread beside the open room. Later messages of the thread arrive with the room's. */
export function createThreads({ chat, scope, people, read, readOn }: Needs) {
  let reading = false;

  /** The thread to load now. Its page can be verified once the room's log is loaded. */
  function asked() {
    const { thread, rooms } = chat.state;
    if (thread === null || !rooms?.get(thread.roomId)?.log) return null;
    return thread.is === "wanted" || (thread.is === "shown" && thread.again) ? thread : null;
  }

  async function load(): Promise<void> {
    if (reading) return;
    reading = true;
    try {
      for (let thread = asked(); thread !== null; thread = asked()) {
        const { id, roomId, seq } = thread;
        try {
          const page = await read(roomId, { thread: seq, size: LIMITS.page });
          const begins = page.messages.find((message) => message.thread !== undefined)?.thread ?? seq;
          const root =
            page.messages.find((message) => message.seq === begins) ??
            (await read(roomId, { around: begins, size: 1 })).messages[0];
          if (root === undefined) throw new ChatError("not_found", "The thread has no beginning.");
          people.learnFrom([root, ...page.messages]);
          chat.dispatch({ type: "thread read", id, root, page });
          await reach(id, seq);
        } catch (error) {
          if (!isPassing(error)) chat.dispatch({ type: "thread missing", id });
          else if (!(await scope.sleep(waitAfter(error)))) return;
        }
      }
    } finally {
      reading = false;
    }
  }

  /** Reads on until the answer that was gone to is here. */
  async function reach(id: number, seq: number): Promise<void> {
    for (let pages = 0; pages < PAGES_MOST; pages++) {
      const { thread } = chat.state;
      if (thread?.id !== id || thread.is !== "shown" || !thread.older || isIn(thread, seq)) return;
      if (thread.load === "failed") return;
      await loadOlder();
    }
  }

  async function loadOlder(): Promise<void> {
    const { thread } = chat.state;
    const [first] = thread?.is === "shown" ? thread.answers : [];
    if (thread?.is !== "shown" || !thread.older || thread.load === "loading" || first === undefined) return;
    const { id, root } = thread;
    chat.dispatch({ type: "thread loading", id });
    try {
      const page = await readOn(first, "older", { thread: root.seq });
      people.learnFrom(page.messages);
      chat.dispatch({ type: "thread page", id, page });
    } catch {
      chat.dispatch({ type: "thread load failed", id });
    }
  }

  return {
    loadOlder,
    /** Something has changed: reads what is wanted. */
    look(): void {
      if (asked() !== null) void load();
    },
  };
}
