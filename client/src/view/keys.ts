/** Node 20, where tests render components, has no navigator. */
export const isMac = typeof navigator !== "undefined" && /Mac|iP(hone|ad)/.test(navigator.userAgent);

type Key = Pick<KeyboardEvent, "key" | "code" | "keyCode" | "isComposing" | "ctrlKey" | "metaKey" | "altKey">;

/** Whether the key belongs to an input method. Safari sends the last key after the composition, with keyCode 229. */
export function isComposing(event: Key): boolean {
  // oxlint-disable-next-line typescript/no-deprecated -- nothing else tells in Safari
  return event.isComposing || event.keyCode === 229;
}

/**
 * Calls for each key that is pressed anywhere in the page, but not for those that an input method takes: with them the
 * user chooses among its words. Ends when its answer is called.
 */
export function listenForKeys(pressed: (event: KeyboardEvent) => void): () => void {
  const hear = (event: KeyboardEvent) => {
    if (!isComposing(event) || !isField(event.target)) pressed(event);
  };
  addEventListener("keydown", hear);
  return () => removeEventListener("keydown", hear);
}

/**
 * Whether the key is this Latin letter with Ctrl, on a Mac with ⌘: there Ctrl moves the caret. A key that types a letter
 * of another alphabet counts by its place.
 */
export function isCommand(event: Omit<Key, "keyCode" | "isComposing">, letter: string): boolean {
  const { key, code, ctrlKey, metaKey, altKey } = event;
  if (altKey || !(isMac ? metaKey && !ctrlKey : ctrlKey || metaKey)) return false;
  return key.toLowerCase() === letter || (key > "\x7f" && code === `Key${letter.toUpperCase()}`);
}

export function isField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

/** Whether the key begins or pastes a text: wherever the focus is, it is meant for the composer. */
export function isTyping(event: Key): boolean {
  if (isCommand(event, "v")) return true;
  // Alt Graph is reported as Ctrl and Alt together, and types characters.
  const command = event.metaKey || event.ctrlKey !== event.altKey;
  if (command || event.key === " ") return false;
  // A key of an Arabic keyboard types two letters.
  const isNamed = /^[A-Z][A-Za-z0-9]+$/.test(event.key);
  return isComposing(event) || !isNamed || event.key === "Dead";
}
