export type DraftsState = {
  /** Unsent texts, by room, or by the failed message that they replace: `edit <nonce>`. */
  drafts: ReadonlyMap<string, string>;
};

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
