import type { RoomId, UserId } from "@hubbub/server/protocol";
import type { People } from "./people.ts";
import type { Scope } from "./scope.ts";
import type { ChatSocket } from "./socket.ts";
import type { Chat } from "./store.ts";
import type { Clock } from "./world.ts";

/** As on the wire: sent again after the first, valid for the second. */
const SAID_EVERY_MS = 3_000;
const BELIEVED_MS = 5_000;

type Needs = { chat: Chat; scope: Scope; clock: Clock; socket: ChatSocket; people: People };

/** Typing: sends this user's, and keeps others' for a few seconds. */
export function createTyping({ chat, scope, clock, socket, people }: Needs) {
  const said = new Map<RoomId, number>();
  const ends = new Map<string, () => void>();

  return {
    /** This user is writing. */
    say(roomId: RoomId): void {
      const now = clock.now();
      if (!socket.connected || now - (said.get(roomId) ?? -Infinity) < SAID_EVERY_MS) return;
      said.set(roomId, now);
      // A lost event is repeated.
      socket.request("typing", { roomId }).catch(() => {});
    },
    /** The text was sent: the next keystroke is told at once. */
    sent(roomId: RoomId): void {
      said.delete(roomId);
    },
    heard({ roomId, userId }: { roomId: RoomId; userId: UserId }): void {
      const name = `${roomId} ${userId}`;
      ends.get(name)?.();
      people.learn([userId]);
      chat.dispatch({ type: "typing", roomId, userId, on: true });
      ends.set(
        name,
        scope.after(BELIEVED_MS, () => {
          ends.delete(name);
          chat.dispatch({ type: "typing", roomId, userId, on: false });
        }),
      );
    },
  };
}
