import type { Clock } from "./world.ts";

/** A lifetime: `close` ends everything that was begun in it, and nothing begins in it afterwards. */
export type Scope = {
  readonly open: boolean;
  /** Aborted by `close`. */
  readonly signal: AbortSignal;
  /** Calls `undo` at the close, the last one first; at once if it is closed already. */
  add: (undo: () => void) => void;
  /** Calls once, later, if this is still open. The returned function cancels it. */
  after: (ms: number, go: () => void) => () => void;
  /** True after this time, false at the close. */
  sleep: (ms: number) => Promise<boolean>;
  close: () => void;
};

export function createScope(clock: Clock): Scope {
  const over = new AbortController();
  const undos = new Set<() => void>();
  const isOpen = () => !over.signal.aborted;

  function add(undo: () => void) {
    if (isOpen()) undos.add(undo);
    else undo();
  }

  function after(ms: number, go: () => void) {
    if (!isOpen()) return () => {};
    const cancel = clock.after(ms, () => {
      undos.delete(cancel);
      go();
    });
    undos.add(cancel);
    return () => {
      undos.delete(cancel);
      cancel();
    };
  }

  return {
    get open() {
      return isOpen();
    },
    signal: over.signal,
    add,
    after,
    sleep: (ms) =>
      new Promise((resolve) => {
        const closed = () => resolve(false);
        add(closed);
        after(ms, () => {
          undos.delete(closed);
          resolve(true);
        });
      }),
    close() {
      if (!isOpen()) return;
      over.abort();
      const all = [...undos].toReversed();
      undos.clear();
      for (const undo of all) undo();
    },
  };
}
