import type { RoomId } from "@hubbub/server/protocol";
import { useOverlays } from "../overlays.ts";
import { useClient } from "../useChat.ts";

/** In a room with more people than this, a message to everybody needs a confirmation. */
const ASKED_ABOVE = 20;

/**
 * Sends a text to a room: at once, or, if it calls many people, once the user confirms it. Answers nothing if it was at
 * once, else what resolves when the text is sent or the user is asked. `isMeant`: whether it is still to be sent then.
 */
export function useRoomCall(roomId: RoomId) {
  const chat = useClient();
  const { open } = useOverlays();

  async function ask(text: string, go: () => void, isMeant: () => boolean) {
    const people = (await callsRoom(text)) ? await chat.audience(roomId).catch(() => null) : 0;
    if (!isMeant()) return;
    if (people !== null && people <= ASKED_ABOVE) go();
    // A user who has left the room meanwhile finds the text there, as its draft.
    else if (chat.snapshot().openRoom === roomId)
      open({
        is: "question",
        title: people === null ? "Notify everybody in this room?" : `Notify ${people - 1} people?`,
        text: "@room calls everybody who is in this room.",
        yes: "Notify them",
        no: "Go back",
        onYes: go,
      });
  }

  return (text: string, go: () => void, isMeant = () => true): Promise<void> | undefined => {
    if (/@room/i.test(text)) return ask(text, go, isMeant);
    go();
    return undefined;
  };
}

/** Whether a text calls everybody; `@room` in code does not. If the parser does not load, it may. */
async function callsRoom(text: string): Promise<boolean> {
  try {
    return (await import("@hubbub/server/markdown")).namesRoom(text);
  } catch {
    return true;
  }
}
