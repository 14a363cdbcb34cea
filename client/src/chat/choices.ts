import type { RoomId } from "@hubbub/server/protocol";

/**
 * What a user chooses for a room: one request of a room is on its way at a time, in the order of the choices, and of
 * those of one setting that wait only the last is sent.
 */
export function createChoices() {
  const last = new Map<string, () => Promise<void>>();
  const before = new Map<RoomId, Promise<void>>();
  return {
    /** Resolves once it is sent, or a later one takes its place. Rejects as `send` does. */
    choose(roomId: RoomId, setting: string, send: () => Promise<void>): Promise<void> {
      const key = `${roomId} ${setting}`;
      last.set(key, send);
      const turn = before.get(roomId);
      const done = (async () => {
        await turn;
        if (last.get(key) !== send) return;
        last.delete(key);
        await send();
      })();
      const over = () => {
        if (before.get(roomId) === turned) before.delete(roomId);
      };
      const turned = done.then(over, over);
      before.set(roomId, turned);
      return done;
    },
  };
}
