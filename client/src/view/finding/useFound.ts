import type { Found } from "@hubbub/server/protocol";
import { useEffect, useRef, useState } from "react";
import { isPassing, waitAfter, wordsOf } from "../../chat/api.ts";

/** After a pause of this length in typing, the text is searched. */
const TYPED_MS = 150;
const ASK_AGAIN_MS = 300;
/** How often an incomplete search is repeated. */
const ASK_AGAIN_MOST = 10;

type Find<T> = (text: string, after: string | undefined, signal: AbortSignal) => Promise<Found<T>>;

type Answer<T> = { text: string | null; found: readonly T[]; total: number; complete: boolean };

/**
 * The server's results for a text, which may change with every key; null searches nothing. `answer` is the newest
 * answer and its text; older answers never replace newer ones. `find` must be the same function at each call.
 */
export function useFound<T extends { id: string }>(find: Find<T>, wanted: string | null) {
  const [answer, setAnswer] = useState<Answer<T>>({ text: null, found: [], total: 0, complete: false });
  const [fault, setFault] = useState<string | null>(null);
  /** The text whose next page is loading. */
  const [loading, setLoading] = useState<string | null>(null);
  const asking = useRef(new AbortController());

  useEffect(() => {
    if (wanted === null) return undefined;
    const stop = new AbortController();
    asking.current = stop;
    async function ask(text: string, asked: number) {
      try {
        const { found, total, complete } = await find(text, undefined, stop.signal);
        if (stop.signal.aborted) return;
        setFault(null);
        setAnswer({ text, found, total, complete: complete || asked >= ASK_AGAIN_MOST });
        if (!complete && asked < ASK_AGAIN_MOST)
          timer = setTimeout(() => void ask(text, asked + 1), ASK_AGAIN_MS);
      } catch (error) {
        if (stop.signal.aborted) return;
        setFault(wordsOf(error));
        if (isPassing(error)) timer = setTimeout(() => void ask(text, asked), waitAfter(error));
      }
    }
    let timer = setTimeout(() => void ask(wanted, 0), wanted === "" ? 0 : TYPED_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [find, wanted]);

  /** Adds the next page to the results. */
  function more() {
    const { signal } = asking.current;
    const { text, found } = answer;
    if (text === null || text !== wanted || loading === text) return;
    setLoading(text);
    const last = found.at(-1)?.id;
    find(text, last, signal)
      .then((page) => {
        if (signal.aborted) return undefined;
        setFault(null);
        return setAnswer({ ...page, text, found: [...found, ...page.found] });
      })
      .catch((error: unknown) => {
        if (!signal.aborted) setFault(wordsOf(error));
      })
      .finally(() => setLoading((now) => (now === text ? null : now)));
  }

  const current = answer.text === wanted && answer.complete;
  return { answer, current, busy: wanted !== null && (!current || loading === wanted), fault, more };
}
