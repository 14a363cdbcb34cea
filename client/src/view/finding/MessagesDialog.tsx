import type { Message } from "@hubbub/server/protocol";
import { useEffect, useRef, type ReactNode } from "react";
import { useOverlays } from "../overlays.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useKnown } from "../useKnown.ts";
import { usePages, type ReadPage } from "./usePages.ts";

type Props<Cursor> = {
  title: string;
  className: string | undefined;
  /** Must stay the same function. */
  read: ReadPage<Cursor>;
  /** Whether a message, as it is now, is still one of the list. */
  belongs: (message: Message) => boolean;
  /** Said where the list has nothing. */
  empty: string;
  children: (message: Message) => ReactNode;
};

/** A dialog that lists messages of any room, newest first, in pages. */
export function MessagesDialog<Cursor>({ title, className, read, belongs, empty, children }: Props<Cursor>) {
  const { close } = useOverlays();
  const { messages: all, more, state, fault, load } = usePages(read);
  const messages = useKnown(all).filter(belongs);
  const list = useRef<HTMLUListElement>(null);
  /** Whoever asks for older ones goes on with the first of them, at this place. */
  const goTo = useRef(Infinity);
  useEffect(() => {
    if (goTo.current >= messages.length) return;
    list.current?.children[goTo.current]?.querySelector("button")?.focus();
    goTo.current = Infinity;
  }, [messages]);
  function showOlder() {
    goTo.current = messages.length;
    void load();
  }
  return (
    <Dialog title={title} onClose={close}>
      {messages.length > 0 && (
        <ul ref={list} className={className}>
          {messages.map((message) => (
            <li key={`${message.roomId} ${message.seq}`}>{children(message)}</li>
          ))}
        </ul>
      )}
      {state === "loading" && !more && <Spinner label={`Loading ${title.toLowerCase()}`} />}
      {state === "idle" && messages.length === 0 && !more && <p>{empty}</p>}
      {fault !== null && <Fault>{fault}</Fault>}
      {(state === "failed" || more) && (
        <Button busy={state === "loading"} onClick={showOlder}>
          {state === "failed" ? "Try again" : "Show older ones"}
        </Button>
      )}
    </Dialog>
  );
}
