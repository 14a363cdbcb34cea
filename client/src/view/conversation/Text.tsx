import type { Block, Inline } from "@hubbub/server/markdown";
import { isBlank, isEmojiOnly } from "@hubbub/server/protocol";
import { createContext, memo, useContext } from "react";
import { classes } from "../ui/classes.ts";
import { Code } from "./Code.tsx";
import css from "./Text.module.css";
import { useBlocks } from "../useBlocks.ts";

const MyName = createContext("");

type TextProps = {
  text: string;
  /** The mentioned names, in lower case, separated by spaces. */
  names?: string;
  /** This user's own name, whose mentions are highlighted. */
  me?: string;
};

/** A message's text: formatted if it is Markdown, otherwise as typed. No HTML is ever made of it. */
export const Text = memo(function Text({ text, names = "", me = "" }: TextProps) {
  const blocks = useBlocks(text, names);
  const [only] = blocks;
  const mine = me.toLowerCase();
  if (blocks.length > 1 || (only !== undefined && only.kind !== "text"))
    return (
      <div data-part="text" className={css.blocks}>
        <MyName value={mine}>
          <Blocks blocks={blocks} />
        </MyName>
      </div>
    );
  return (
    <span
      data-part="text"
      className={classes(css.text, isEmojiOnly(text) && css.emoji, isBlank(text) && css.blank)}
    >
      <MyName value={mine}>{only && <Inlines parts={only.inside} />}</MyName>
    </span>
  );
});

function Blocks({ blocks }: { blocks: readonly Block[] }) {
  return blocks.map((block, index) => <BlockOf key={index} block={block} />);
}

function BlockOf({ block }: { block: Block }) {
  switch (block.kind) {
    case "text":
      return (
        <div className={css.lines}>
          <Inlines parts={block.inside} />
        </div>
      );
    case "code":
      return <Code code={block.text} language={block.language} />;
    case "quote":
      return (
        <blockquote className={css.quote} dir="auto">
          <Blocks blocks={block.inside} />
        </blockquote>
      );
    case "list":
      break;
  }
  const List = block.items[0]?.number === undefined ? "ul" : "ol";
  return (
    <List className={css.list} dir="auto">
      {block.items.map(({ number, inside }, index) => (
        <li key={index} value={number}>
          <Blocks blocks={inside} />
        </li>
      ))}
    </List>
  );
}

function Mention({ name, text }: { name: string; text: string }) {
  const mine = name === useContext(MyName) || name === "room";
  return (
    <span data-part="mention" data-mine={mine || undefined} className={css.mention}>
      {text}
    </span>
  );
}

function Inlines({ parts }: { parts: readonly Inline[] }) {
  return parts.map((part, index) =>
    part.kind === "text" ? part.text : <InlineOf key={index} part={part} />,
  );
}

function InlineOf({ part }: { part: Exclude<Inline, { kind: "text" }> }) {
  switch (part.kind) {
    case "strong":
      return (
        <strong>
          <Inlines parts={part.inside} />
        </strong>
      );
    case "em":
      return (
        <em>
          <Inlines parts={part.inside} />
        </em>
      );
    case "strike":
      return (
        <s>
          <Inlines parts={part.inside} />
        </s>
      );
    case "code":
      return <code className={css.code}>{part.text}</code>;
    case "mention":
      return <Mention name={part.name} text={part.text} />;
    case "link":
      break;
  }
  return (
    <a href={part.href} title={part.title} target="_blank" rel="noopener noreferrer nofollow">
      <Inlines parts={part.inside} />
    </a>
  );
}
