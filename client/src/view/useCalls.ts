import { useCallback, useEffect, useRef, useState } from "react";
import { wordsOf } from "../chat/api.ts";

/** Calls of a dialog: whether one is under way, and why the last one failed. */
export function useCalls() {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<string | null>(null);
  const button = useRef<Element | null>(null);
  const run = useCallback((call: () => Promise<unknown>) => {
    button.current = document.activeElement;
    setBusy(true);
    setFault(null);
    call()
      .catch((error: unknown) => setFault(wordsOf(error)))
      .finally(() => setBusy(false));
  }, []);
  // A button that was disabled meanwhile has lost the focus.
  useEffect(() => {
    const before = button.current;
    if (busy || !(before instanceof HTMLElement) || !before.isConnected) return;
    button.current = null;
    if (document.activeElement?.contains(before)) before.focus();
  }, [busy]);
  return { busy, fault, run };
}

/** What a call answers, null until it does, and a way to ask again. `ask` must be the same function at each call. */
export function useAnswer<T>(ask: () => Promise<T>) {
  const [answer, setAnswer] = useState<T | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  const asked = useRef(0);
  const again = useCallback((): Promise<void> => {
    const number = (asked.current += 1);
    return ask().then(
      (got) => {
        if (asked.current !== number) return undefined;
        setAnswer(() => got);
        setFault(null);
        return undefined;
      },
      (error: unknown) => {
        if (asked.current === number) setFault(wordsOf(error));
      },
    );
  }, [ask]);
  useEffect(() => {
    void again();
    return () => {
      asked.current += 1;
    };
  }, [again]);
  return { answer, fault, again };
}
