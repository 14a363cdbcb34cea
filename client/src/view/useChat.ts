import type { Message } from "@hubbub/server/protocol";
import {
  createContext,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import type { ChatClient } from "../chat/chat.ts";
import type { Slot } from "../chat/drafts.ts";
import { asChanged } from "../chat/state/outgoing.ts";
import { isNewer } from "../chat/state/revisions.ts";
import { allKnown } from "../chat/state/rooms.ts";
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
 * Messages that are listed apart from their rooms, as they are now: a text that is deleted or edited while the list is
 * open leaves it. What is remembered of a room's changes is limited, so the list remembers what became of its own.
 */
export function useKnown(listed: readonly Message[]): readonly Message[] {
  const [before, setBefore] = useState({ listed, known: listed });
  const rooms = useChat((state) => state.rooms);
  const known = useMemo(() => {
    const kept = before.listed === listed ? before.known : keepNewest(listed, before.known);
    return allKnown({ rooms }, kept);
  }, [rooms, listed, before]);
  if (before.listed !== listed || before.known !== known) setBefore({ listed, known });
  return known;
}

function keepNewest(listed: readonly Message[], known: readonly Message[]): readonly Message[] {
  const rows = new Map(known.map((row) => [`${row.roomId} ${row.seq}`, row]));
  return listed.map((message) => {
    const row = rows.get(`${message.roomId} ${message.seq}`);
    return row !== undefined && isNewer(row, message) ? row : message;
  });
}

/** How often the connection has come back: what is not heard while it is away must be asked for again. */
export function useReturns(): number {
  const online = useChat((state) => state.connection === "online");
  const [seen, setSeen] = useState({ online, times: 0 });
  if (seen.online !== online) setSeen({ online, times: seen.times + (online ? 1 : 0) });
  return seen.times;
}

/** Calls `ask`, which must stay the same function, each time that the connection has come back. */
export function useAtReturn(ask: () => void): void {
  const times = useReturns();
  const asked = useRef(times);
  useEffect(() => {
    if (asked.current === times) return;
    asked.current = times;
    ask();
  }, [times, ask]);
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
