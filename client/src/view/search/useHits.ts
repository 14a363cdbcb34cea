import type { Message } from "@hubbub/server/protocol";
import { useEffect, useState } from "react";
import { isPassing, waitAfter, wordsOf, type Finding } from "../../chat/api.ts";
import { useClient } from "../useChat.ts";
import { useKnown, useReturns } from "../useKnown.ts";

const TYPED_MS = 250;

type Hits = {
  found: readonly Message[];
  /** Everything since this moment has been searched; null: everything. */
  until: number | null;
  fault: string | null;
  state: "searching" | "enough" | "over";
};

const NONE: Hits = { found: [], until: null, fault: null, state: "searching" };

/** `round`: how often the connection had come back when the search began. */
type Search = { of: Finding | null; round: number; cursor: string | undefined };

/**
 * Found messages, as they arrive: each call searches further back, until there are as many as requested. `asked` must
 * be the same object during one search; null searches nothing.
 */
export function useHits(asked: Finding | null, wanted: number): Hits {
  const chat = useClient();
  // After an outage the search begins anew: nobody has said here what was deleted meanwhile.
  const round = useReturns();
  const [hits, setHits] = useState<Search & Hits>({ of: null, round, cursor: undefined, ...NONE });
  const isIt = hits.of === asked && hits.round === round;
  const current = isIt ? hits : { ...NONE, of: asked, round, cursor: undefined };
  const { cursor, found } = current;
  const goesOn = asked !== null && current.state !== "over" && found.length < wanted;

  useEffect(() => {
    if (!goesOn) return undefined;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    async function ask(finding: Finding) {
      try {
        const page = await chat.findMessages(finding, cursor, stop.signal);
        if (stop.signal.aborted) return;
        setHits((before) => ({
          of: finding,
          round,
          cursor: page.cursor,
          found: [...foundFor(finding, round, before), ...page.hits.map(({ message }) => message)],
          until: page.until ?? null,
          fault: null,
          state: page.cursor === undefined ? "over" : "enough",
        }));
      } catch (error) {
        if (stop.signal.aborted) return;
        const passing = isPassing(error) ? error : null;
        // A user who searches a lot waits a little.
        if (passing?.code !== "rate_limited")
          setHits((before) => ({
            of: finding,
            round,
            cursor,
            found: foundFor(finding, round, before),
            until: null,
            fault: wordsOf(error),
            state: passing === null ? "over" : "enough",
          }));
        if (passing !== null) timer = setTimeout(() => void ask(finding), waitAfter(passing));
      }
    }
    timer = setTimeout(() => void ask(asked), cursor === undefined ? TYPED_MS : 0);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [chat, asked, round, cursor, goesOn]);

  return { ...current, found: useKnown(found), state: goesOn ? "searching" : current.state };
}

function foundFor(asked: Finding, round: number, hits: Search & Hits): readonly Message[] {
  return hits.of === asked && hits.round === round ? hits.found : [];
}
