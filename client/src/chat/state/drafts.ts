import type { RoomId } from "@hubbub/server/protocol";

export type DraftsState = {
  /** What is typed and not sent, by its place: see `Slot`. */
  drafts: ReadonlyMap<string, string>;
};

/** Whether something is being written in a room, or in one of its threads, or files wait there to be sent. */
export function hasDraft({ drafts }: DraftsState, roomId: RoomId): boolean {
  for (const slot of drafts.keys()) if (isIn(slot.replace(/^files /, ""), roomId)) return true;
  return false;
}

/** The texts that are being written in this room and its threads, by their slots. */
export function draftsIn(drafts: DraftsState["drafts"], roomId: RoomId): [slot: string, text: string][] {
  return [...drafts].filter(([slot, text]) => isIn(slot, roomId) && text.trim() !== "");
}

function isIn(slot: string, roomId: RoomId): boolean {
  return slot === roomId || slot.startsWith(`thread ${roomId} `);
}

export const initialDrafts: DraftsState = { drafts: new Map() };

export type DraftsEvent = { type: "draft"; slot: string; text: string };

export function applyDrafts<S extends DraftsState>(
  state: S,
  event: DraftsEvent | { type: "signed in"; drafts: ReadonlyMap<string, string> },
): S {
  switch (event.type) {
    case "signed in":
      return { ...state, drafts: event.drafts };
    case "draft": {
      if ((state.drafts.get(event.slot) ?? "") === event.text) return state;
      const drafts = new Map(state.drafts);
      if (event.text === "") drafts.delete(event.slot);
      else drafts.set(event.slot, event.text);
      return { ...state, drafts };
    }
    default:
      return event satisfies never;
  }
}
