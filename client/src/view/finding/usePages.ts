import type { Message } from "@hubbub/server/protocol";
import { useCallback, useEffect, useRef, useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import { useAtReturn } from "../useKnown.ts";

/** A page of messages, newest first, and what asks for the next one: undefined at the end. */
type Page<Cursor> = { messages: readonly Message[]; next: Cursor | undefined };
export type ReadPage<Cursor> = (cursor: Cursor | undefined) => Promise<Page<Cursor>>;

type State = "loading" | "idle" | "failed";

/**
 * A list of messages, loaded in pages from the newest one on, and begun anew each time that the connection has come
 * back. `read` must stay the same function.
 */
export function usePages<Cursor>(read: ReadPage<Cursor>) {
  const [{ messages, next }, setPages] = useState<Page<Cursor>>({ messages: [], next: undefined });
  const [state, setState] = useState<State>("loading");
  const [fault, setFault] = useState<string | null>(null);
  const shown = useRef(true);
  /** How often the list was begun: an older page follows only the list for which it was asked. */
  const begun = useRef(0);

  const load = useCallback(async () => {
    const asked = begun.current;
    const isOver = () => !shown.current || begun.current !== asked;
    setState("loading");
    setFault(null);
    try {
      const page = await read(next);
      if (isOver()) return;
      setPages((known) => ({ messages: [...known.messages, ...page.messages], next: page.next }));
      setState("idle");
    } catch (error) {
      if (isOver()) return;
      setFault(wordsOf(error));
      setState("failed");
    }
  }, [read, next]);

  const first = useRef(load);
  useEffect(() => {
    shown.current = true;
    void first.current();
    return () => {
      shown.current = false;
    };
  }, []);
  useAtReturn(
    useCallback(() => {
      async function begin() {
        const page = await read(undefined);
        if (!shown.current) return;
        begun.current += 1;
        setPages(page);
        setState("idle");
        setFault(null);
      }
      // The next return asks once more.
      begin().catch(() => {});
    }, [read]),
  );
  return { messages, more: next !== undefined, state, fault, load };
}
