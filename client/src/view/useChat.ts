import type { Message } from "@hubbub/server/protocol";
import { createContext, useCallback, useContext, useReducer, useSyncExternalStore } from "react";
import type { ChatClient } from "../chat/chat.ts";
import type { Slot } from "../chat/drafts.ts";
import { asChanged } from "../chat/state/outgoing.ts";
import type { ChatState } from "../chat/state/state.ts";

export const ChatContext = createContext<ChatClient | null>(null);

export function useClient(): ChatClient {
  const chat = useContext(ChatContext);
  if (chat === null) throw new Error("There is no ChatContext above this component");
  return chat;
}

/** A part of the state. `select` must answer the same value for the same state: no new arrays or objects. */
export function useChat<T>(select: (state: ChatState) => T): T {
  const chat = useClient();
  return useSyncExternalStore(chat.subscribe, () => select(chat.snapshot()));
}

export function useMe() {
  const me = useChat((state) => (state.session.is === "signed in" ? state.session.user : null));
  if (me === null) throw new Error("Nobody is signed in");
  return me;
}

/** Answers a message as it will be once this user's pending changes are done; it is shown like this everywhere. */
export function useAsChanged(): (message: Message) => Message {
  const me = useMe();
  const changing = useChat((state) => state.changing);
  return useCallback((message) => asChanged(message, changing, me.id), [changing, me.id]);
}

/**
 * A draft for a field that it controls. `show` renders it at once after a change by other means than `write`, instead
 * of with the chat's next update: a field must not lag behind the keys.
 */
export function useDraft(slot: Slot) {
  const chat = useClient();
  const text = useChat((state) => state.drafts.get(slot) ?? "");
  const [, show] = useReducer((count: number) => count + 1, 0);
  function write(given: string) {
    chat.setDraft(slot, given);
    show();
  }
  return { text, write, show };
}
