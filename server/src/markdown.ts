import MarkdownIt from "markdown-it";
import { findBareLinks, findLinks, readsAsOther } from "./links.ts";

/** A part of a line. Everything outside the other kinds is text, character by character. */
export type Inline =
  | { kind: "text"; text: string }
  | { kind: "strong" | "em" | "strike"; inside: Inline[] }
  | { kind: "code"; text: string }
  | { kind: "link"; href: string; title?: string; inside: Inline[] }
  /** `name` is in lower case; `text` is as typed, with the @. */
  | { kind: "mention"; name: string; text: string };

export type Block =
  /** Lines, with their line breaks. */
  | { kind: "text"; inside: Inline[] }
  | { kind: "code"; language: string; text: string }
  | { kind: "quote"; inside: Block[] }
  | { kind: "list"; items: Item[] };

/** `number` as typed; undefined for a bullet. */
export type Item = { number: number | undefined; inside: Block[] };

/** Levels of quotes and lists. Anything deeper is text. */
const DEEPEST_BLOCK = 5;
/** Levels of bold, italic, struck out and links. Anything deeper is text. */
const DEEPEST_INLINE = 8;

const FENCE = /^ {0,3}(`{3,})([^`]*)$/;
// The faces >_< and >:( are no quotes.
const QUOTE = /^ {0,3}>(?=[\s>\p{L}]|$) ?/u;
const ITEM = /^ {0,3}(?:[-*+\u2022]|(\d{1,9})[.)])[ \t]+(?=\S)/u;

/** How far before an address its markup may begin. */
const MARKED_WITHIN = 200;

/** Behind its right hand. */
const SHRUG = /\\_(?:\([^\s()]{1,4}\)_\/(?=¯))?/uy;

const NAME = /@([a-z0-9._-]+)/iy;
const LONGEST_NAME = 32;

type Known = (name: string) => boolean;
type Address = { start: number; end: number; href: string };
type Place = {
  addresses: Map<number, Address>;
  known: Known;
  /** Those that are being looked at. */
  backslashes: { start: number; end: number };
};

const inlines = new MarkdownIt("zero").enable(["backticks", "emphasis", "strikethrough", "link", "escape"]);
inlines.normalizeLink = (href) => href;
inlines.validateLink = isAddress;
// Entities stay as typed: the table of all HTML names would be 16 KB to load.
const { parseLinkDestination, parseLinkTitle } = inlines.helpers;
inlines.helpers.parseLinkDestination = (text, start, max) => {
  const found = parseLinkDestination(text, start, max);
  return { ...found, str: found.ok ? text.slice(start, found.pos).replaceAll(/^<|>$/g, "") : "" };
};
inlines.helpers.parseLinkTitle = (text, start, max) => {
  const found = parseLinkTitle(text, start, max);
  return { ...found, str: found.ok ? text.slice(start + 1, found.pos - 1) : "" };
};

/**
 * A message's text as blocks: a part of Markdown (bold, italic, struck out, code, quotes, lists, links), with
 * addresses as links, and with `@name` as a mention if `known` accepts the name, in lower case. Every visible
 * character is in the blocks, or is markup. Takes time linear in the text's length.
 */
export function parseText(text: string, known: Known = () => false): Block[] {
  return blocksOf(text.split("\n"), known, 0);
}

/** Possible usernames after an @, in lower case; for `@ann.` both `ann.` and `ann`. Ignores code and links. */
export function namesIn(text: string): string[] {
  if (!text.includes("@")) return [];
  const names = new Set<string>();
  parseText(text, (name) => {
    names.add(name);
    return false;
  });
  return [...names];
}

/** Behind an @ it is everybody in the room, whoever else may be called so. */
export const ROOM_NAME = "room";

/** Whether a text mentions everybody in the room. */
export function namesRoom(text: string): boolean {
  return /@room/i.test(text) && mentionsIn(parseText(text, (name) => name === ROOM_NAME)).length > 0;
}

/** Who is mentioned in a text, in lower case, each once. */
export function mentionsIn(blocks: readonly Block[]): string[] {
  const names = new Set<string>();
  const look = (parts: readonly (Block | Inline)[]): void => {
    for (const part of parts) {
      if (part.kind === "mention") names.add(part.name);
      else if (part.kind === "list") for (const item of part.items) look(item.inside);
      else if ("inside" in part) look(part.inside);
    }
  };
  look(blocks);
  return [...names];
}

/** The text of blocks as one reads it, without marks: a line for each of theirs. */
export function plainOf(blocks: readonly Block[]): string {
  return blocks.map(plainBlock).join("\n");
}

function plainBlock(block: Block): string {
  switch (block.kind) {
    case "text":
      return shownOf(block.inside);
    case "code":
      return block.text;
    case "quote":
      return plainOf(block.inside);
    case "list":
      return block.items
        .map(({ number, inside }) => `${number === undefined ? "•" : `${number}.`} ${plainOf(inside)}`)
        .join("\n");
    default:
      return block satisfies never;
  }
}

function blocksOf(lines: readonly string[], known: Known, depth: number): Block[] {
  const blocks: Block[] = [];
  let plain: string[] = [];
  const flush = () => {
    if (plain.length > 0) blocks.push({ kind: "text", inside: paragraphs(plain, known) });
    plain = [];
  };
  const deep = depth >= DEEPEST_BLOCK;
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? "";
    const [, ticks, language = ""] = FENCE.exec(line) ?? [];
    if (ticks !== undefined) {
      flush();
      const end = endOfFence(lines, at + 1, ticks.length);
      blocks.push({ kind: "code", language: language.trim(), text: lines.slice(at + 1, end).join("\n") });
      at = end + 1;
    } else if (!deep && QUOTE.test(line)) {
      flush();
      const end = endOf(lines, at, (one) => QUOTE.test(one));
      const quoted = lines.slice(at, end).map((one) => one.replace(QUOTE, ""));
      blocks.push({ kind: "quote", inside: blocksOf(quoted, known, depth + 1) });
      at = end;
    } else if (!deep && beginsList(line, plain.at(-1))) {
      flush();
      const { items, end } = listAt(lines, at, known, depth);
      blocks.push({ kind: "list", items });
      at = end;
    } else {
      plain.push(line);
      at += 1;
    }
  }
  flush();
  return blocks.length === 1 ? blocks : blocks.flatMap(withoutBlankEdges);
}

/** A sentence that continues with a year and a dot is no list. */
function beginsList(line: string, before: string | undefined): boolean {
  const item = ITEM.exec(line);
  return item !== null && (item[1] === undefined || item[1] === "1" || isBlankLine(before ?? ""));
}

function listAt(lines: readonly string[], start: number, known: Known, depth: number) {
  const items: Item[] = [];
  const numbered = ITEM.exec(lines[start] ?? "")?.[1] !== undefined;
  let at = start;
  for (;;) {
    const [mark = "", number] = ITEM.exec(lines[at] ?? "") ?? [];
    if (mark === "" || (number !== undefined) !== numbered) break;
    const end = endOf(
      lines,
      at + 1,
      (one, next) => isIndented(one) || (isBlankLine(one) && isIndented(next)),
    );
    const own = [(lines[at] ?? "").slice(mark.length)];
    for (const one of lines.slice(at + 1, end)) own.push(indentedLess(one, mark.length));
    items.push({
      number: number === undefined ? undefined : Number(number),
      inside: blocksOf(own, known, depth + 1),
    });
    at = end;
    // A blank line between two items does not end a list.
    if (isBlankLine(lines[at] ?? "x") && ITEM.test(lines[at + 1] ?? "")) at += 1;
  }
  return { items, end: at };
}

/** The first line from `start` on for which the condition fails. */
function endOf(
  lines: readonly string[],
  start: number,
  holds: (line: string, next: string) => boolean,
): number {
  let end = start;
  while (end < lines.length && holds(lines[end] ?? "", lines[end + 1] ?? "")) end += 1;
  return end;
}

/** The line that closes a block of code, or the end of the text. */
function endOfFence(lines: readonly string[], start: number, ticks: number): number {
  return endOf(lines, start, (line) => {
    const [, closing = "", rest = "x"] = FENCE.exec(line) ?? [];
    return closing.length < ticks || !isBlankLine(rest);
  });
}

function isIndented(line: string): boolean {
  return /^(?: {2}|\t)/.test(line) && !isBlankLine(line);
}

function indentedLess(line: string, by: number): string {
  if (line.startsWith("\t")) return line.slice(1);
  let spaces = 0;
  while (spaces < by && line[spaces] === " ") spaces += 1;
  return line.slice(spaces);
}

function isBlankLine(line: string): boolean {
  return line.trim() === "";
}

/** Drops blank lines at the edges of a block, because blocks have a margin. */
function withoutBlankEdges(block: Block): Block[] {
  if (block.kind !== "text") return [block];
  const inside = [...block.inside];
  const trim = (index: number, by: (text: string) => string) => {
    const part = inside.at(index);
    if (part?.kind !== "text") return;
    const text = by(part.text);
    inside.splice(index, 1, ...(text === "" ? [] : [{ kind: "text" as const, text }]));
  };
  trim(0, (text) => text.replace(/^(?:[^\S\n]*\n)+/, ""));
  trim(-1, (text) => text.trimEnd());
  return inside.length === 0 ||
    (inside.length === 1 && inside[0]?.kind === "text" && isBlankLine(inside[0].text))
    ? []
    : [{ kind: "text", inside }];
}

/** Markup does not continue across a blank line. */
function paragraphs(lines: readonly string[], known: Known): Inline[] {
  const parts: Inline[] = [];
  for (let at = 0; at < lines.length;) {
    const end = endOf(lines, at, (line) => !isBlankLine(line));
    const next = endOf(lines, end, isBlankLine);
    if (end > at) for (const part of inlinesOf(lines.slice(at, end).join("\n"), known)) add(parts, part);
    const gap = `${end > at && end < lines.length ? "\n" : ""}${lines.slice(end, next).join("\n")}`;
    addText(parts, next < lines.length && next > end ? `${gap}\n` : gap);
    at = next;
  }
  return parts;
}

type Token = Parameters<typeof inlines.inline.parse>[3][number];
type State = InstanceType<typeof inlines.inline.State>;

function inlinesOf(text: string, known: Known): Inline[] {
  const place: Place = { addresses: addressesIn(text), known, backslashes: { start: 0, end: 0 } };
  const tokens: Token[] = [];
  inlines.inline.parse(text, inlines, { place }, tokens);
  const stack: Open[] = [];
  let parts: Inline[] = [];
  for (const token of tokens) {
    const make = OPENING[token.type];
    if (token.type === "mention") {
      parts.push({ kind: "mention", name: token.markup, text: token.content });
    } else if (token.type === "address") {
      parts.push({ kind: "link", href: token.content, inside: [{ kind: "text", text: token.content }] });
    } else if (token.type === "code_inline") {
      parts.push({ kind: "code", text: token.content });
    } else if (make) {
      stack.push({ outside: parts, token, make });
      parts = [];
    } else if (token.nesting === -1) {
      const open = stack.pop();
      if (!open) continue;
      const { markup } = open.token;
      const made =
        stack.length < DEEPEST_INLINE
          ? open.make(parts, open.token)
          : [textPart(markup), ...parts, textPart(token.markup)];
      parts = open.outside;
      for (const part of made) add(parts, part);
    } else {
      addText(parts, token.content);
    }
  }
  return withBareLinks(parts);
}

/** The parts with addresses without a scheme as links: only what is text once all marks are known can be one. */
function withBareLinks(parts: readonly Inline[]): Inline[] {
  return parts.flatMap((part): Inline[] => {
    switch (part.kind) {
      case "text":
        return findBareLinks(part.text).map(({ text, href }) =>
          href === null ? textPart(text) : { kind: "link", href, inside: [textPart(text)] },
        );
      case "strong":
      case "em":
      case "strike":
        return [{ ...part, inside: withBareLinks(part.inside) }];
      case "code":
      case "link":
      case "mention":
        return [part];
      default:
        return part satisfies never;
    }
  });
}

type Open = { outside: Inline[]; token: Token; make: Make };
type Make = (inside: Inline[], token: Token) => Inline[];

const OPENING: Record<string, Make> = {
  strong_open: (inside) => [{ kind: "strong", inside }],
  em_open: (inside) => [{ kind: "em", inside }],
  s_open: (inside) => [{ kind: "strike", inside }],
  link_open: (inside, token) => {
    const href = String(token.attrGet("href") ?? "");
    const given = token.attrGet("title");
    const title = given === null ? null : String(given);
    const shown = shownOf(inside);
    const link = isAddress(href);
    if (link && shown.trim() !== "" && !readsAsOther(shown, href))
      return [{ kind: "link", href, ...(title !== null && { title }), inside }];
    // Text that looks like one address and links to another is shown as typed.
    const target: Inline = link ? { kind: "link", href, inside: [textPart(href)] } : textPart(href);
    return [
      textPart("["),
      ...inside,
      textPart("]("),
      target,
      textPart(title === null ? ")" : ` "${title}")`),
    ];
  },
};

/** The visible text of these parts. */
export function shownOf(parts: readonly Inline[]): string {
  return parts.map((part) => ("inside" in part ? shownOf(part.inside) : part.text)).join("");
}

function textPart(text: string): Inline {
  return { kind: "text", text };
}

function add(parts: Inline[], part: Inline): void {
  if (part.kind === "text") addText(parts, part.text);
  else parts.push(part);
}

function addText(parts: Inline[], text: string): void {
  const last = parts.at(-1);
  if (text === "") return;
  if (last?.kind === "text") last.text += text;
  else parts.push(textPart(text));
}

/** The addresses in a text, by the place of the colon after their scheme, where the parser stops. */
function addressesIn(text: string): Map<number, Address> {
  const addresses = new Map<number, Address>();
  if (!text.includes(":")) return addresses;
  let start = 0;
  for (const { text: shown, href } of findLinks(text)) {
    if (href !== null) {
      // Markup around an address is no part of it.
      const before = text.slice(Math.max(0, start - MARKED_WITHIN), start);
      const marks = shown.slice(withoutEnd(shown, "*_~").length);
      const end = start + shown.length - (marks !== "" && before.includes(marks) ? marks.length : 0);
      addresses.set(text.indexOf(":", start), { start, end, href: text.slice(start, end) });
    }
    start += shown.length;
  }
  return addresses;
}

/** A text without these characters at its end. */
function withoutEnd(text: string, signs: string): string {
  let end = text.length;
  while (end > 0 && signs.includes(text[end - 1] ?? "")) end -= 1;
  return text.slice(0, end);
}

function isAddress(href: string): boolean {
  const [first, ...others] = findLinks(href);
  return first?.href === href && others.length === 0;
}

inlines.inline.ruler.before("text", "address", (state, silent) => {
  const address = placeOf(state).addresses.get(state.pos);
  if (!address || state.linkLevel > 0 || address.end > state.posMax) return false;
  if (!silent) {
    state.pending = state.pending.slice(0, state.pending.length - (state.pos - address.start));
    state.push("address", "", 0).content = address.href;
  }
  state.pos = address.end;
  return true;
});

// It takes the meaning of a sign that has one here. In front of any other it is what it looks like: a path, a face, a
// letter that may begin an address.
inlines.inline.ruler.before("text", "backslash", (state, silent) => {
  const { src, pos } = state;
  if (src[pos] !== "\\") return false;
  const place = placeOf(state);
  const { backslashes } = place;
  if (pos < backslashes.start || pos >= backslashes.end) {
    let to = pos + 1;
    while (src[to] === "\\") to += 1;
    place.backslashes = { start: pos, end: to };
  }
  const { end } = place.backslashes;
  let kept = 0;
  SHRUG.lastIndex = pos;
  if (src[pos - 1] === "¯") kept = SHRUG.exec(src)?.[0].length ?? 0;
  if (kept === 0 && /^[\p{L}\p{N}]/u.test(src.slice(end, end + 2))) kept = end - pos;
  else if (kept === 0 && end === pos + 1 && src[end] !== "\n" && !hasMeaning(src, end)) kept = 1;
  if (kept === 0) return false;
  if (!silent) state.pending += src.slice(pos, pos + kept);
  state.pos += kept;
  return true;
});

/** Whether what stands here may be markup, were there no backslashes in front of it. */
function hasMeaning(text: string, at: number): boolean {
  const sign = text[at] ?? "";
  if (sign === "(") return text[at - 2] === "]";
  if (sign === "." || sign === ")") return /\d/.test(text[at - 2] ?? "");
  return /[`*_~[\]@>+-]/.test(sign);
}

inlines.inline.ruler.before("text", "mention", (state, silent) => {
  if (state.src[state.pos] !== "@" || state.linkLevel > 0) return false;
  NAME.lastIndex = state.pos;
  const name = NAME.exec(state.src)?.[1] ?? "";
  if (name.length > LONGEST_NAME || /[\w.+@/-]/.test(state.src[state.pos - 1] ?? "")) return false;
  const { known } = placeOf(state);
  const found = [name, withoutEnd(name, "._-")].find(
    (one) => one.length > 1 && !continues(state.src, state.pos + 1 + one.length) && known(one.toLowerCase()),
  );
  if (found === undefined) return false;
  if (!silent) {
    const token = state.push("mention", "", 0);
    token.content = `@${found}`;
    token.markup = found.toLowerCase();
  }
  state.pos += 1 + found.length;
  return true;
});

/** Whether the name continues here, and is another one. A Japanese word may follow a name without a space. */
function continues(text: string, at: number): boolean {
  return /^[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}\p{N}\p{M}@]/u.test(text.slice(at, at + 2));
}

function placeOf(state: State): Place {
  return (state.env as { place: Place }).place;
}
