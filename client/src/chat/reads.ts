import type { RoomId } from "@hubbub/server/protocol";
import { ChatError } from "./api.ts";
import type { Scope } from "./scope.ts";
import type { ChatSocket } from "./socket.ts";
import type { Chat } from "./store.ts";

const READ_AFTER_MS = 300;

/** How far each room is read: shown at once, told to the server a moment later, and again after a lost connection. */
export function createReads({ chat, scope, socket }: { chat: Chat; scope: Scope; socket: ChatSocket }) {
  let watched: RoomId | null = null;
  /** What the server has not confirmed. */
  const marks = new Map<RoomId, number>();
  const timers = new Map<RoomId, () => void>();

  function mark(roomId: RoomId) {
    const room = chat.state.rooms?.get(roomId);
    if (room === undefined || room.read >= room.seq) return;
    chat.dispatch({ type: "read", roomId, read: room.seq });
    marks.set(roomId, room.seq);
    timers.get(roomId)?.();
    timers.set(
      roomId,
      scope.after(READ_AFTER_MS, () => {
        timers.delete(roomId);
        const seq = marks.get(roomId);
        if (seq !== undefined) void send(roomId, seq);
      }),
    );
  }

  async function send(roomId: RoomId, seq: number): Promise<void> {
    if (!socket.connected) return;
    try {
      await socket.request("room.read", { roomId, seq });
    } catch (error) {
      if (error instanceof ChatError && error.code === "unreachable") return;
    }
    if (marks.get(roomId) === seq) marks.delete(roomId);
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
    /** After a connect. */
    sendAll(): void {
      for (const [roomId, seq] of marks) void send(roomId, seq);
    },
  };
}

export type Reads = ReturnType<typeof createReads>;
