import { useCallback, useEffect, useRef, useState } from "react";
import { wordsOf } from "../chat/api.ts";

/**
 * Calls of a dialog: whether one is under way, and why the last one failed. Meanwhile disable each Button, which keeps
 * the focus, and no fieldset, which takes it.
 */
export function useCalls() {
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<string | null>(null);
  const run = useCallback((call: () => Promise<unknown>) => {
    setBusy(true);
    setFault(null);
    call()
      .catch((error: unknown) => setFault(wordsOf(error)))
      .finally(() => setBusy(false));
  }, []);
  return { busy, fault, run };
}

export type Reading = { answer: unknown; fault: string | null; again: () => Promise<void> };

/**
 * What a call answers, null until it does, why the last one failed, and a way to ask again: `Missing` offers that.
 * `ask` must be the same function at each call.
 */
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
