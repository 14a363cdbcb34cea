import type * as reader from "@hubbub/server/markdown";
import type { Message } from "@hubbub/server/protocol";
import { useMemo } from "react";
import { filesInWords } from "../chat/state/files.ts";
import { laterValue } from "./later.ts";

type Markdown = typeof reader;

/** What reads Markdown is no part of the first load: most texts have nothing that it would find. */
const MAYBE = /[*_~`\\[@]|https?:|mailto:|www\.|^ {0,3}(?:>|[-+•]\s|\d+[.)]\s)/im;

let loaded: Markdown | null = null;
const useMarkdown = laterValue(async () => (loaded = await import("@hubbub/server/markdown")), "soon");

/**
 * A text as blocks; at the first formatted one of all a moment later. `names`: those of who is mentioned, in lower case,
 * with spaces between them.
 */
export function useBlocks(text: string, names: string): readonly reader.Block[] {
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

/** A text as one reads it, without its marks; at the first formatted one of all a moment later. */
function usePlain(text: string): string {
  const markdown = useMarkdown(MAYBE.test(text));
  return useMemo(() => withoutMarks(text, markdown), [text, markdown]);
}

/** The same for what is not drawn: the marks stay in it until what reads Markdown is here. */
function toPlain(text: string): string {
  return withoutMarks(text, loaded);
}

type Saying = Pick<Message, "message"> & { files?: Parameters<typeof filesInWords>[0] };

/** What a message says, in plain words: its text, or the files that it has instead. As `usePlain` and `toPlain`. */
export function useSaid({ message, files }: Saying): string {
  const text = usePlain(message);
  return message === "" ? filesInWords(files) : text;
}

export function toSaid({ message, files }: Saying): string {
  return message === "" ? filesInWords(files) : toPlain(message);
}

function withoutMarks(text: string, markdown: Markdown | null): string {
  return markdown !== null && MAYBE.test(text) ? markdown.plainOf(markdown.parseText(text)) : text;
}
