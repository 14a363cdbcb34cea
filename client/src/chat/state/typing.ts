import type { Message, RoomId, UserId } from "@hubbub/server/protocol";

export type TypingState = {
  /** Other users writing in a room, in order of arrival. */
  typing: ReadonlyMap<RoomId, readonly UserId[]>;
};

export const initialTyping: TypingState = { typing: new Map() };

export type TypingEvent = { type: "typing"; roomId: RoomId; userId: UserId; on: boolean };

export function applyTyping<S extends TypingState>(
  state: S,
  event: TypingEvent | { type: "connected" } | { type: "message"; message: Message },
): S {
  switch (event.type) {
    case "connected":
      return state.typing.size === 0 ? state : { ...state, ...initialTyping };
    case "message":
      return set(state, event.message.roomId, event.message.from, false);
    case "typing":
      return set(state, event.roomId, event.userId, event.on);
    default:
      return event satisfies never;
  }
}

function set<S extends TypingState>(state: S, roomId: RoomId, userId: UserId, on: boolean): S {
  const before = state.typing.get(roomId) ?? [];
  if (before.includes(userId) === on) return state;
  const users = on ? [...before, userId] : before.filter((id) => id !== userId);
  const typing = new Map(state.typing);
  if (users.length === 0) typing.delete(roomId);
  else typing.set(roomId, users);
  return { ...state, typing };
}
