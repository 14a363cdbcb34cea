import sanitizeHtml, { type IOptions } from "sanitize-html";
import { parseText, type Block, type Inline } from "../markdown.ts";
import {
  isBlank,
  isEmojiOnly,
  LIMITS,
  type Message,
  type MessageFile,
  type Page,
  type UserId,
} from "../protocol.ts";

/** As in the app: each line has the direction of its own first letter, spaces stay, and emoji alone are large. */
const STYLE =
  "[dir=auto],[dir=auto] div{text-align:start;unicode-bidi:plaintext;white-space:pre-wrap}.emoji{font-size:2rem}";

/** For how long messages of a chunk are formatted, and how much HTML is a chunk: its reader decides when the next is. */
const CHUNK_MS = 1;
const CHUNK_LENGTH = 8_192;

type Source = {
  title: string;
  /** The messages after a date, oldest first. */
  page: (after: number) => Promise<Page>;
  nameOf: (userId: UserId) => Promise<string>;
};

/**
 * A room's whole history as one self-contained HTML page, in chunks, oldest first. This is the only place that makes
 * HTML from people's texts: it escapes them, turns formatting into tags, and lets sanitize-html remove everything
 * else.
 */
export async function* transcript({ title, page, nameOf }: Source): AsyncGenerator<string> {
  yield (
    `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escape(title)}</title>` +
    `<style>${STYLE}</style><h1>${escape(title)}</h1>\n`
  );
  let after: number | undefined = 0;
  while (after !== undefined) {
    const { messages, more }: Page = await page(after);
    let lines = "";
    let began = performance.now();
    for (const message of messages) {
      lines += await line(message, nameOf);
      if (lines.length < CHUNK_LENGTH && performance.now() - began < CHUNK_MS) continue;
      yield sanitized(lines);
      lines = "";
      began = performance.now();
    }
    yield sanitized(lines);
    after = more ? messages.at(-1)?.date : undefined;
  }
  yield "</html>\n";
}

/**
 * Only formatting and links to web addresses. A call takes 20 µs before it reads anything, and its garbage lives for
 * long, so one serves many messages.
 */
export function sanitized(html: string): string {
  return sanitizeHtml(html, SANITIZED);
}

const SANITIZED: IOptions = {
  allowedTags: "a strong em s code pre blockquote ul ol li div br section time b i".split(" "),
  allowedAttributes: {
    a: ["href", "rel", "title"],
    ...Object.fromEntries(["div", "blockquote", "ul", "ol"].map((tag) => [tag, ["dir"]])),
    li: ["value"],
  },
  allowedClasses: { div: ["emoji"] },
  allowedSchemes: ["http", "https", "mailto"],
};

async function line(message: Message, nameOf: Source["nameOf"]): Promise<string> {
  const { date, from, edited } = message;
  const time = Number.isFinite(date) ? new Date(date).toISOString() : "";
  const author = escape(await nameOf(from));
  const note = edited === undefined ? "" : " <i>(edited)</i>";
  return `<section><time>${time}</time> <b>${author}</b>${note}<div>${bodyToHtml(message)}</div></section>\n`;
}

/** What stands below a message's author. Files are named, and not part of the page. */
export function bodyToHtml({
  message,
  deleted,
  files = [],
}: Pick<Message, "message" | "deleted" | "files">): string {
  if (deleted !== undefined) return "<i>deleted</i>";
  const named = files.map(fileToHtml).join("");
  if (isBlank(message)) return named || "<i>An empty message</i>";
  return messageToHtml(message) + named;
}

function fileToHtml({ name, type, size, alt }: MessageFile): string {
  const words = alt === undefined ? "" : `: ${escape(alt)}`;
  return `<div dir="auto"><i>File</i> ${escape(name)} (${escape(type)}, ${size} bytes)${words}</div>`;
}

function messageToHtml(message: string): string {
  const html = textToHtml(message);
  return isEmojiOnly(message) ? `<div class="emoji">${html}</div>` : html;
}

/** Formats text of any origin as HTML, with the client's own parser. */
export function textToHtml(text: string): string {
  // A longer text can only come from another program, and sanitize-html takes quadratic time in nested tags.
  return blocksToHtml(parseText(text.slice(0, LIMITS.message)));
}

/** `dir="auto"` goes by what has no `dir` of its own: within a quote or a list lines have none. */
function blocksToHtml(blocks: readonly Block[], dir = ' dir="auto"'): string {
  return blocks.map((block) => blockToHtml(block, dir)).join("");
}

function blockToHtml(block: Block, dir: string): string {
  switch (block.kind) {
    case "text":
      return `<div${dir}>${inlinesToHtml(block.inside).replaceAll("\n", "<br>")}</div>`;
    case "code":
      return `<pre><code>\n${escape(block.text)}</code></pre>`;
    case "quote":
      return `<blockquote${dir}>${blocksToHtml(block.inside, "")}</blockquote>`;
    case "list":
      break;
  }
  const tag = block.items[0]?.number === undefined ? "ul" : "ol";
  const items = block.items.map(({ number, inside }) => {
    const value = number === undefined ? "" : ` value="${number}"`;
    return `<li${value}>${blocksToHtml(inside, "")}</li>`;
  });
  return `<${tag}${dir}>${items.join("")}</${tag}>`;
}

function inlinesToHtml(parts: readonly Inline[]): string {
  return parts.map(inlineToHtml).join("");
}

function inlineToHtml(part: Inline): string {
  switch (part.kind) {
    case "text":
    case "mention":
      return escape(part.text);
    case "code":
      return `<code>${escape(part.text)}</code>`;
    case "strong":
    case "em":
      return `<${part.kind}>${inlinesToHtml(part.inside)}</${part.kind}>`;
    case "strike":
      return `<s>${inlinesToHtml(part.inside)}</s>`;
    case "link":
      break;
  }
  const title = part.title === undefined ? "" : ` title="${escape(part.title)}"`;
  return `<a href="${escape(part.href)}" rel="noopener noreferrer nofollow"${title}>${inlinesToHtml(part.inside)}</a>`;
}

function escape(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
