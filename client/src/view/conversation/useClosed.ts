import type { RoomId } from "@hubbub/server/protocol";
import { closedAt, slowIn } from "../../chat/state/room.ts";
import { showUntil, useHasCome } from "../time.ts";
import { useChat } from "../useChat.ts";

/** Why this user cannot write in a room, as a sentence; null once they can. */
export function useClosed(roomId: RoomId): string | null {
  const room = useChat((state) => state.rooms?.get(roomId));
  const isAlone = useChat(({ rooms, users }) =>
    rooms?.get(roomId)?.userIds.some((id) => users.get(id)?.deleted === true),
  );
  const until = room?.standing.mutedUntil ?? 0;
  const isOver = useHasCome(until);
  const closed = room === undefined ? null : closedAt(room, isOver ? until : 0);
  if (isAlone === true) return "This account is deleted: nobody reads here any more.";
  if (closed === null) return null;
  if (closed.why === "archived") return "This room is archived. You can read it, but nobody can write here.";
  return `A moderator has muted you here until ${showUntil(closed.until)}.`;
}

/** How long this user waits between two messages, as a sentence; null if they need not. */
export function useSlow(roomId: RoomId): string | null {
  const seconds = useChat((state) => {
    const room = state.rooms?.get(roomId);
    return room === undefined ? 0 : slowIn(room);
  });
  return seconds === 0 ? null : `Slow mode: one message every ${showSeconds(seconds)}.`;
}

/** 10 seconds, minute, 2 minutes, hour */
function showSeconds(seconds: number): string {
  const per = seconds % 3_600 === 0 ? 3_600 : seconds % 60 === 0 ? 60 : 1;
  const unit = per === 3_600 ? "hour" : per === 60 ? "minute" : "second";
  const count = seconds / per;
  return count === 1 ? unit : `${count} ${unit}s`;
}
