import { setTimeout as sleep } from "node:timers/promises";
import sanitizeHtml from "sanitize-html";
import { findLinks } from "../links.ts";
import { LIMITS, type Message, type Page, type UserId } from "../protocol.ts";

type Source = {
  title: string;
  /** The messages after a date, oldest first. */
  page: (after: number) => Promise<Page>;
  nameOf: (userId: UserId) => Promise<string>;
};

/**
 * A room's whole history as one HTML page that needs nothing else, in chunks, oldest first. This is the only place
 * where HTML is made from what people wrote: it is escaped, links are marked, and sanitize-html lets nothing but
 * those links through.
 */
export async function* transcript({ title, page, nameOf }: Source): AsyncGenerator<string> {
  yield (
    `<!doctype html><html lang="en"><meta charset="utf-8"><title>${textToHtml(title)}</title>` +
    `<h1>${textToHtml(title)}</h1>\n`
  );
  let after: number | undefined = 0;
  while (after !== undefined) {
    const { messages, more }: Page = await page(after);
    const began = performance.now();
    let lines = "";
    for (const message of messages) lines += await line(message, nameOf);
    // Others get as much of the process as this does.
    await sleep(performance.now() - began);
    yield lines;
    after = more ? messages.at(-1)?.date : undefined;
  }
  yield "</html>\n";
}

async function line(
  { date, from, message, edited, deleted }: Message,
  nameOf: Source["nameOf"],
): Promise<string> {
  const time = Number.isFinite(date) ? new Date(date).toISOString() : "";
  const author = textToHtml(await nameOf(from));
  const text = textToHtml(message).replaceAll("\n", "<br>");
  const what = deleted === undefined ? text : "<i>deleted</i>";
  const note = edited === undefined ? "" : " <i>(edited)</i>";
  return `<p><time>${time}</time> <b>${author}</b><br>${what}${note}</p>\n`;
}

/** Text of any origin as HTML that shows it character by character, with its links marked. */
export function textToHtml(text: string): string {
  // A longer one can only come from another program, and sanitize-html is quadratic in nested tags.
  const html = findLinks(text.slice(0, LIMITS.message)).map((part) => {
    const escaped = escape(part.text);
    if (part.href === null) return escaped;
    return `<a href="${escape(part.href)}" rel="noopener noreferrer nofollow">${escaped}</a>`;
  });
  return sanitizeHtml(html.join(""), {
    allowedTags: ["a"],
    allowedAttributes: { a: ["href", "rel"] },
    allowedSchemes: ["http", "https", "mailto"],
  });
}

function escape(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
