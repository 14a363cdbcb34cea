import { useEffect, useRef, useSyncExternalStore } from "react";

/** Where files go: to the message that is written there. */
type Goal = "composer" | "thread-composer";
type Take = (files: readonly File[]) => void;

const takers = new Map<Goal, Take>();
const listeners = new Set<() => void>();
let draggedOver: Goal | null = null;

/** Hears of files that are pasted or dropped for a composer. True while some are dragged over its place. */
export function useIncoming(goal: Goal, take: Take): boolean {
  const now = useRef(take);
  useEffect(() => {
    now.current = take;
  });
  useEffect(() => {
    takers.set(goal, (files) => now.current(files));
    return () => {
      takers.delete(goal);
    };
  }, [goal]);
  return useSyncExternalStore(subscribe, () => draggedOver === goal);
}

/**
 * Takes the files that are pasted or dropped anywhere in the page, which no drop ever leaves. `tell` shows a text. The
 * returned function stops it.
 */
export function listenForFiles(tell: (text: string) => void): () => void {
  const over = new AbortController();
  const { signal } = over;

  function onPaste(event: ClipboardEvent) {
    const { clipboardData, target } = event;
    const files = [...(clipboardData?.files ?? [])];
    const text = clipboardData?.getData("text/plain") ?? "";
    // Programs offer a picture of a text beside the text; systems the names of files beside the files.
    if (files.length === 0 || !namesOnly(text, files)) return;
    const goal = target instanceof Element && target.closest("dialog") !== null ? null : goalOfFocus();
    const take = goal === null ? undefined : takers.get(goal);
    if (take === undefined) return;
    // The names are no part of the message.
    event.preventDefault();
    take(files);
  }

  function onDrag(event: DragEvent) {
    const { dataTransfer, target, type } = event;
    if (!dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    const goal = target instanceof Element ? goalOf(target) : null;
    dataTransfer.dropEffect = goal === null ? "none" : "copy";
    drag(type === "drop" ? null : goal);
    if (type !== "drop") return;
    if (goal === null) {
      tell("Drop files on the conversation that they are for.");
      return;
    }
    // A system may offer a text beside them, which is an item too.
    const items = [...dataTransfer.items].filter(({ kind }) => kind === "file");
    const folders = items.map((item) => item.webkitGetAsEntry()?.isDirectory === true);
    const files = [...dataTransfer.files].filter((_, at) => folders[at] !== true);
    if (folders.includes(true)) tell("Folders cannot be sent: pack them into one file, or send their files.");
    if (files.length > 0) takers.get(goal)?.(files);
  }

  addEventListener("paste", onPaste, { signal });
  for (const type of ["dragenter", "dragover", "drop"] as const) addEventListener(type, onDrag, { signal });
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget === null && drag(null), { signal });
  return () => over.abort();
}

/** Whether a text says nothing but what the files are called: a name, a path or an address in each line. */
function namesOnly(text: string, files: readonly File[]): boolean {
  const names = files.map(({ name }) => name.normalize());
  const said = text.replace(/^file:.*/gim, decoded).replace(/^(?:\/|[a-z]:\\|file:).*[/\\]/gim, "");
  return said.split(/[\r\n]+/).every((line) => line === "" || names.includes(line.normalize()));
}

function decoded(address: string): string {
  try {
    return decodeURIComponent(address);
  } catch {
    return address;
  }
}

function drag(goal: Goal | null) {
  if (goal === draggedOver) return;
  draggedOver = goal;
  for (const listener of listeners) listener();
}

function subscribe(changed: () => void): () => void {
  listeners.add(changed);
  return () => listeners.delete(changed);
}

function goalOf(element: Element): Goal | null {
  const goal = element.closest("[data-part=thread-pane]")
    ? "thread-composer"
    : element.closest("#conversation")
      ? "composer"
      : null;
  return goal !== null && takers.has(goal) ? goal : null;
}

function goalOfFocus(): Goal | null {
  const { activeElement } = document;
  const here = activeElement === null ? null : goalOf(activeElement);
  if (here !== null) return here;
  const isCovered = document.querySelector("main[inert]") !== null;
  return isCovered && takers.has("thread-composer") ? "thread-composer" : "composer";
}
