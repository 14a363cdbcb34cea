import type { RoomId } from "@hubbub/server/protocol";
import { openThread } from "../address.ts";
import { NO_KEYBOARD } from "../useMedia.ts";
import { rowOf } from "./roving.ts";

/** Where the focus was when the thread was opened: an element, or else its row. */
let left: { element: Element | null; seq: number } | null = null;

/** Opens a message's thread beside the conversation; the focus returns there when it is closed. */
export function enterThread(roomId: RoomId, seq: number): void {
  const element = document.activeElement;
  const row = element?.closest<HTMLElement>("#conversation [data-seq]")?.dataset["seq"];
  const isBeside = element?.closest("[data-part=thread-pane]") != null;
  // After several threads it returns to where the first one was opened.
  if (!isBeside) left = { element, seq: row === undefined ? seq : Number(row) };
  openThread(roomId, seq);
}

/** Gives the focus back, if it is in the pane that closes. */
export function returnFocus(pane: HTMLElement | null): void {
  const { activeElement: active } = document;
  const from = left;
  left = null;
  if (active !== document.body && pane?.contains(active) === false) return;
  // The pane may cover the conversation until then.
  setTimeout(() => {
    const log = document.querySelector<HTMLElement>("#conversation [role=log]");
    const isThere = from?.element?.isConnected === true && log?.contains(from.element) === true;
    const back = isThere ? from.element : from && rowOf(log, from.seq);
    if (back instanceof HTMLElement) back.focus();
    else if (matchMedia(NO_KEYBOARD).matches) document.getElementById("composer")?.focus();
  });
}
