import type { MarkRead, Room, RoomId } from "@hubbub/server/protocol";
import { ChatError } from "./api.ts";
import type { Scope } from "./scope.ts";
import type { ChatSocket } from "./socket.ts";
import type { Chat } from "./store.ts";

const READ_AFTER_MS = 300;

/** How far each room is read: shown at once, told to the server a moment later, and again after a lost connection. */
export function createReads({ chat, scope, socket }: { chat: Chat; scope: Scope; socket: ChatSocket }) {
  let watched: RoomId | null = null;
  /** What the server has not confirmed. */
  const marks = new Map<RoomId, Omit<MarkRead, "roomId">>();
  const timers = new Map<RoomId, () => void>();
  /** Rooms that were marked as unread while they were open: who looks at them has not read them before they come back. */
  const kept = new Set<RoomId>();

  function mark(roomId: RoomId) {
    const room = chat.state.rooms?.get(roomId);
    if (room === undefined) return;
    if (room.read >= room.seq) kept.delete(roomId);
    if (room.read >= room.seq || kept.has(roomId)) return;
    chat.dispatch({ type: "read", roomId, read: room.seq });
    marks.set(roomId, { seq: room.seq });
    timers.get(roomId)?.();
    timers.set(
      roomId,
      scope.after(READ_AFTER_MS, () => {
        timers.delete(roomId);
        void send(roomId);
      }),
    );
  }

  async function send(roomId: RoomId): Promise<void> {
    const asked = marks.get(roomId);
    if (asked === undefined || !socket.connected) return;
    try {
      // What was read before it was marked as unread may not have been told yet: the mark comes from below as well.
      if (asked.unread) socket.request("room.read", { roomId, seq: asked.seq }).catch(() => {});
      await socket.request("room.read", { roomId, ...asked });
    } catch (error) {
      if (error instanceof ChatError && error.code === "unreachable") return;
    }
    if (marks.get(roomId) === asked) marks.delete(roomId);
  }

  function lower(roomId: RoomId, read: number) {
    if (chat.state.openRoom === roomId) kept.add(roomId);
    timers.get(roomId)?.();
    timers.delete(roomId);
    marks.delete(roomId);
    chat.dispatch({ type: "unread", roomId, read });
  }

  return {
    /** What comes into this room is being read as it comes. null: nobody is looking. */
    watch(roomId: RoomId | null): void {
      watched = roomId;
      if (roomId !== null) mark(roomId);
    },
    /** Something new is in the room. */
    came(roomId: RoomId): void {
      if (roomId === watched) mark(roomId);
    },
    /** This room is shown, and no other one. */
    opened(roomId: RoomId | null): void {
      if (watched !== roomId) watched = null;
      for (const one of kept) if (one !== roomId) kept.delete(one);
    },
    /** Everything from this message on is unread, in all windows of this user. */
    markUnread(roomId: RoomId, from: number): void {
      const seq = Math.max(0, from - 1);
      lower(roomId, seq);
      marks.set(roomId, { seq, unread: true });
      void send(roomId);
    },
    /** A window of this user has moved the mark. */
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
     * To be called before the rooms are asked for, and what it gives with the answer: a mark that was moved down
     * meanwhile by another window is followed, unless this one knows better.
     */
    compare(): (rooms: readonly Room[]) => void {
      const before = chat.state.rooms;
      return (rooms) => {
        for (const { id, seq, read } of rooms) {
          const was = before?.get(id)?.read;
          const now = chat.state.rooms?.get(id);
          const known = was !== undefined && now?.read === was && now.seq === seq && !marks.has(id);
          if (known && read < was) lower(id, read);
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
