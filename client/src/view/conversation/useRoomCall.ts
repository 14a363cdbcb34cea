import type { RoomId } from "@hubbub/server/protocol";
import { useOverlays } from "../overlays.ts";
import { useClient } from "../useChat.ts";

/** In a room of more people whoever calls all of them is asked before. */
const ASKED_ABOVE = 20;

/** Goes on with a text for a room, at once, or where it calls many people once this user has said that it shall. */
export function useRoomCall(roomId: RoomId): (text: string, go: () => void) => void {
  const chat = useClient();
  const { open } = useOverlays();

  async function ask(text: string, go: () => void) {
    const people = (await callsRoom(text)) ? await chat.audience(roomId).catch(() => null) : 0;
    if (people !== null && people <= ASKED_ABOVE) go();
    // Who has gone elsewhere meanwhile finds the text as a draft.
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

  return (text, go) => {
    if (/@room/i.test(text)) void ask(text, go);
    else go();
  };
}

/** By the parser that formats the text: not in code. Where that does not come, it may. */
async function callsRoom(text: string): Promise<boolean> {
  try {
    return (await import("@hubbub/server/markdown")).namesRoom(text);
  } catch {
    return true;
  }
}
