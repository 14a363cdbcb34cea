import type { Block } from "@hubbub/server/markdown";
import { useMemo } from "react";
import { laterValue } from "../later.ts";

/** What reads Markdown is no part of the first load: most texts have nothing that it would find. */
const MAYBE = /[*_~`\\[@]|https?:|mailto:|^ {0,3}(?:>|[-+•]\s|\d+[.)]\s)/im;

const useMarkdown = laterValue(() => import("@hubbub/server/markdown"), "soon");

/**
 * A text as blocks; at the first formatted one of all a moment later. `names`: those of who is mentioned, in lower case,
 * with spaces between them.
 */
export function useBlocks(text: string, names: string): readonly Block[] {
  const maybe = MAYBE.test(text);
  const markdown = useMarkdown(maybe);
  return useMemo(
    () =>
      maybe && markdown !== null
        ? markdown.parseText(text, (name) => names.split(" ").includes(name))
        : [{ kind: "text", inside: [{ kind: "text", text }] }],
    [text, names, maybe, markdown],
  );
}
