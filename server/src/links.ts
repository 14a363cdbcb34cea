import { LinkifyIt } from "linkify-it";

/** A part of a text; `href` if it is a link. */
export type Part = { text: string; href: string | null };

// Without its scheme, a word with a dot or an @ may be anything.
const linkify = new LinkifyIt({ fuzzyEmail: false, urlAuth: true }).add("ftp:").add("//");

/**
 * Splits a text into parts, with its http:, https: and mailto: addresses as links; the parts join to the text. The
 * client and the transcript show messages with it. Takes time linear in the text's length.
 */
export function findLinks(text: string): Part[] {
  const parts: Part[] = [];
  let from = 0;
  // These end an address; linkify-it would go past them inside quotation marks.
  for (const { index, lastIndex, url } of linkify.match(text.replaceAll(/[<>"`]/g, " ")) ?? []) {
    // A user before an @ can look like the host: https://bank.example@evil.example leads to evil.example.
    if (!URL.canParse(url) || new URL(url).username !== "") continue;
    if (index > from) parts.push({ text: text.slice(from, index), href: null });
    parts.push({ text: text.slice(index, lastIndex), href: url });
    from = lastIndex;
  }
  if (from < text.length) parts.push({ text: text.slice(from), href: null });
  return parts;
}

const guess = new LinkifyIt({ fuzzyLink: true, fuzzyIP: true, fuzzyEmail: true, urlAuth: true }).add("//");

/** Whether a text looks like another address than this one, so that a reader would be misled. */
export function readsAsOther(text: string, href: string): boolean {
  const host = hostOf(href);
  return (guess.match(text.normalize("NFKC")) ?? []).some(({ url }) => hostOf(url) !== host);
}

function hostOf(url: string): string {
  const { protocol, host, pathname } = URL.canParse(url)
    ? new URL(url)
    : { protocol: "", host: url, pathname: "" };
  return protocol === "mailto:" ? pathname : host.replace(/^www\./, "");
}
