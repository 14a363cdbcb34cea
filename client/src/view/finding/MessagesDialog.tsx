import type { Message } from "@hubbub/server/protocol";
import type { ReactNode } from "react";
import { useOverlays } from "../overlays.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
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
  return (
    <Dialog title={title} onClose={close}>
      {messages.length > 0 && (
        <ul className={className}>
          {messages.map((message) => (
            <li key={`${message.roomId} ${message.seq}`}>{children(message)}</li>
          ))}
        </ul>
      )}
      {state === "loading" && !more && <Spinner label={`Loading ${title.toLowerCase()}`} />}
      {state === "idle" && messages.length === 0 && !more && <p>{empty}</p>}
      {fault !== null && <Fault>{fault}</Fault>}
      <ShowMore
        more={state === "failed" || more}
        count={messages.length}
        busy={state === "loading"}
        onMore={() => void load()}
      >
        {state === "failed" || !more ? "Try again" : "Show older ones"}
      </ShowMore>
    </Dialog>
  );
}
