import type { RoomId } from "@hubbub/server/protocol";
import { useOverlays } from "../overlays.ts";
import { useClient } from "../useChat.ts";

/** In a room with more people than this, a message to everybody needs a confirmation. */
const ASKED_ABOVE = 20;

/**
 * Answers whether to send a text to a room: at once, or, if it calls many people, when its user has answered. `isMeant`:
 * whether it is still to be sent then.
 */
export function useRoomCall(roomId: RoomId) {
  const chat = useClient();
  const overlays = useOverlays();

  async function ask(text: string, isMeant: () => boolean): Promise<boolean> {
    const people = (await callsRoom(text)) ? await chat.audience(roomId).catch(() => null) : 0;
    if (!isMeant()) return false;
    if (people !== null && people <= ASKED_ABOVE) return true;
    // A user who has left the room meanwhile finds the text there, as its draft.
    if (chat.snapshot().openRoom !== roomId) return false;
    return overlays.ask({
      title: people === null ? "Notify everybody in this room?" : `Notify ${people - 1} people?`,
      text: "@room calls everybody who is in this room.",
      yes: "Notify them",
      no: "Go back",
    });
  }

  return (text: string, isMeant = () => true): true | Promise<boolean> =>
    !/@room/i.test(text) || ask(text, isMeant);
}

/** Whether a text calls everybody; `@room` in code does not. If the parser does not load, it may. */
async function callsRoom(text: string): Promise<boolean> {
  try {
    return (await import("@hubbub/server/markdown")).namesRoom(text);
  } catch {
    return true;
  }
}
