import type { MarkRead, Room, RoomId } from "@hubbub/server/protocol";
import { isPassing, waitAfter } from "./api.ts";
import type { Scope } from "./scope.ts";
import type { ChatSocket } from "./socket.ts";
import type { Chat } from "./store.ts";

const READ_AFTER_MS = 300;

/**
 * Each room's read mark: shown at once, sent to the server a moment later, and again after a lost connection or a
 * passing refusal.
 */
export function createReads({ chat, scope, socket }: { chat: Chat; scope: Scope; socket: ChatSocket }) {
  let watched: RoomId | null = null;
  /** Marks that the server has not confirmed. */
  const marks = new Map<RoomId, Omit<MarkRead, "roomId">>();
  const timers = new Map<RoomId, () => void>();
  /** Rooms of which the server wants no mark yet. */
  const waits = new Map<RoomId, () => void>();
  /** Rooms that were marked as unread while open: looking on does not read them, coming back does. */
  const kept = new Set<RoomId>();
  let lowered = 0;

  function mark(roomId: RoomId) {
    const room = chat.state.rooms?.get(roomId);
    if (room === undefined) return;
    if (room.read >= room.seq) kept.delete(roomId);
    if (room.read >= room.seq || kept.has(roomId)) return;
    chat.dispatch({ type: "read", roomId, read: room.seq });
    marks.set(roomId, { seq: room.seq });
    sendAfter(READ_AFTER_MS, roomId, timers);
  }

  /** Sends a room's mark later, instead of when it was to be sent until now. */
  function sendAfter(ms: number, roomId: RoomId, pending: Map<RoomId, () => void>) {
    pending.get(roomId)?.();
    pending.set(
      roomId,
      scope.after(ms, () => {
        pending.delete(roomId);
        void send(roomId);
      }),
    );
  }

  async function send(roomId: RoomId): Promise<void> {
    const asked = marks.get(roomId);
    if (asked === undefined || !socket.connected || waits.has(roomId)) return;
    try {
      // An earlier, higher mark may not have been sent yet: raise it first, so that it can fall.
      const raised = asked.unread && socket.request("room.read", { roomId, seq: asked.seq });
      await Promise.all([raised, socket.request("room.read", { roomId, ...asked })]);
    } catch (error) {
      if (isPassing(error)) {
        sendAfter(waitAfter(error), roomId, waits);
        return;
      }
    }
    if (marks.get(roomId) === asked) marks.delete(roomId);
  }

  function lower(roomId: RoomId, read: number) {
    if (chat.state.openRoom === roomId) kept.add(roomId);
    timers.get(roomId)?.();
    timers.delete(roomId);
    marks.delete(roomId);
    lowered += 1;
    chat.dispatch({ type: "unread", roomId, read });
  }

  return {
    /** How often a mark fell: a list of rooms that was asked for before the last time may tell of the higher one. */
    get lowered() {
      return lowered;
    },
    /** Marks new messages of this room as read on arrival. null: nobody is looking. */
    watch(roomId: RoomId | null): void {
      watched = roomId;
      if (roomId !== null) mark(roomId);
    },
    /** A new message is in the room. */
    came(roomId: RoomId): void {
      if (roomId === watched) mark(roomId);
    },
    /** This room, and no other, is shown. */
    opened(roomId: RoomId | null): void {
      if (watched !== roomId) watched = null;
      for (const one of kept) if (one !== roomId) kept.delete(one);
    },
    /** Marks everything from this message on as unread, in all windows of this user. */
    markUnread(roomId: RoomId, from: number): void {
      const seq = Math.max(0, from - 1);
      lower(roomId, seq);
      marks.set(roomId, { seq, unread: true });
      void send(roomId);
    },
    /** Another window of this user moved the mark. */
    moved({ roomId, read, unread }: { roomId: RoomId; read: number; unread?: true }): void {
      if (unread) {
        lower(roomId, read);
        return;
      }
      chat.dispatch({ type: "read", roomId, read });
      const room = chat.state.rooms?.get(roomId);
      if (room !== undefined && room.read >= room.seq) kept.delete(roomId);
    },
    /**
     * Call it before the rooms are requested, and its result with the answer: a mark that another window lowered
     * meanwhile is followed, unless this window has a newer one.
     */
    compare(): (rooms: readonly Room[]) => void {
      const before = chat.state.rooms;
      const own = new Set(marks.keys());
      return (rooms) => {
        for (const { id, seq, read } of rooms) {
          const was = before?.get(id);
          if (was === undefined || read >= was.read || own.has(id) || marks.has(id)) continue;
          // In a log that lost its end the mark fell with it.
          if (chat.state.rooms?.get(id)?.read === was.read && seq >= was.seq) lower(id, read);
        }
      };
    },
    /** After a connect. */
    sendAll(): void {
      for (const roomId of marks.keys()) void send(roomId);
    },
  };
}

export type Reads = ReturnType<typeof createReads>;
