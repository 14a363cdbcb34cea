import type { KeyboardEvent } from "react";

/** Arrow keys move between messages, from the one with the focus or else the newest visible one; Escape is `done`. */
export function rove(
  event: KeyboardEvent<HTMLElement>,
  scroller: HTMLElement | null,
  done?: () => void,
): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const row = event.target instanceof HTMLElement ? event.target.closest<HTMLElement>("[data-seq]") : null;
  if (scroller === null) return;
  if (event.target !== row || row === null) {
    if (event.target !== scroller || event.key !== "Enter") return;
    event.preventDefault();
    lastInSight(scroller)?.focus();
  } else if (event.key === "Escape" && done !== undefined) {
    event.preventDefault();
    done();
  } else if (step !== 0 && !event.altKey) {
    event.preventDefault();
    const all = [...scroller.querySelectorAll<HTMLElement>("[data-seq]")];
    all[all.indexOf(row) + step]?.focus();
  }
}

export function rowOf(scroller: HTMLElement | null, seq: number): HTMLElement | null {
  return scroller?.querySelector<HTMLElement>(`[data-seq="${seq}"]`) ?? null;
}

/** The place of the row with the focus among the log's rows, also those of messages on their way; -1 if none has it. */
export function rowWithFocus(scroller: HTMLElement | null): number {
  const row = document.activeElement?.closest("[data-key]") ?? null;
  if (scroller === null || row === null) return -1;
  return [...scroller.querySelectorAll("[data-key]")].indexOf(row);
}

function lastInSight(scroller: HTMLElement): HTMLElement | undefined {
  const end = scroller.getBoundingClientRect().bottom;
  const rows = [...scroller.querySelectorAll<HTMLElement>("[data-seq]")];
  return rows.findLast((row) => row.getBoundingClientRect().top < end);
}
