import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import cssLanguage from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";

/** The kind of a piece of code that has a colour. */
export type Colour = "word" | "value" | "name" | "note" | "more" | "less";

export type Coloured = { text: string; colour?: Colour };

const COLOURS: Record<string, Colour> = {
  keyword: "word",
  built_in: "word",
  literal: "word",
  type: "word",
  tag: "word",
  "selector-tag": "word",
  string: "value",
  number: "value",
  regexp: "value",
  symbol: "value",
  title: "name",
  attr: "name",
  attribute: "name",
  property: "name",
  variable: "name",
  name: "name",
  comment: "note",
  doctag: "note",
  meta: "note",
  addition: "more",
  deletion: "less",
};

const languages = createLowlight({
  bash,
  cpp,
  css: cssLanguage,
  diff,
  go,
  java,
  javascript,
  json,
  python,
  rust,
  sql,
  typescript,
  xml,
  yaml,
});

type Node = ReturnType<typeof languages.highlight>["children"][number];

/** Splits code into coloured pieces; into one without a colour if the language is unknown. */
export function colourCode(code: string, language: string): Coloured[] {
  const name = language.toLowerCase();
  if (!languages.registered(name)) return [{ text: code }];
  const pieces: Coloured[] = [];
  const look = (nodes: readonly Node[], colour: Colour | undefined): void => {
    for (const node of nodes) {
      if (node.type === "text") pieces.push({ text: node.value, ...(colour && { colour }) });
      else if (node.type === "element") look(node.children, colourOf(node.properties["className"]) ?? colour);
    }
  };
  look(languages.highlight(name, code).children, undefined);
  return pieces;
}

function colourOf(classNames: unknown): Colour | undefined {
  const [name] = Array.isArray(classNames) ? classNames.map(String) : [];
  return name === undefined ? undefined : COLOURS[name.replace(/^hljs-/, "")];
}
