import type { Message, UserId } from "@hubbub/server/protocol";
import { unreadOf, type RoomState } from "./room.ts";
import type { RoomsState } from "./rooms.ts";
import type { SessionState } from "./session.ts";

/** Unread messages of all rooms: how many there are, and how many of them call for this user. */
type Unread = { all: number; calls: number };

/** Whether an unread message calls for this user: it names them, or nobody else is there to read it. */
function callsFor(room: RoomState, message: Message, me: UserId): boolean {
  if (message.from === me || message.deleted !== undefined || message.seq <= room.read) return false;
  return room.kind === "direct" || (message.mentions?.includes(me) ?? false);
}

/** How many unread messages of a room call for this user, as far as they are known here. */
function callsIn(room: RoomState, me: UserId): number {
  if (unreadOf(room) === 0) return 0;
  if (room.kind === "direct") return unreadOf(room);
  const known = new Map<number, Message>();
  for (const message of [room.last, ...room.held, ...(room.log?.messages ?? [])])
    if (message !== null && message.seq > room.read) known.set(message.seq, message);
  let calls = 0;
  for (const message of known.values()) if (callsFor(room, message, me)) calls++;
  return calls;
}

export function countUnread(state: RoomsState & SessionState): Unread {
  const unread = { all: 0, calls: 0 };
  if (state.session.is !== "signed in") return unread;
  for (const room of state.rooms?.values() ?? []) {
    unread.all += unreadOf(room);
    unread.calls += callsIn(room, state.session.user.id);
  }
  return unread;
}
