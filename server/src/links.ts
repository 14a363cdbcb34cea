import { LinkifyIt } from "linkify-it";

/** A part of a text; `href` where it is a link. */
export type Part = { text: string; href: string | null };

// Without its scheme, a word with a dot or an @ in it may be anything.
const linkify = new LinkifyIt({ fuzzyEmail: false, urlAuth: true }).add("ftp:").add("//");

/**
 * A text in parts that together are the text again, with its http:, https: and mailto: addresses as links. The client
 * shows messages with it, and the transcript exports them with it. Its time grows with the text's length, no faster.
 */
export function findLinks(text: string): Part[] {
  const parts: Part[] = [];
  let from = 0;
  // These end an address: linkify-it would go on behind them within a pair of quotation marks.
  for (const { index, lastIndex, url } of linkify.match(text.replaceAll(/[<>"`]/g, " ")) ?? []) {
    // What stands before an @ passes for the host: https://bank.example@evil.example leads to evil.example.
    if (!URL.canParse(url) || new URL(url).username !== "") continue;
    if (index > from) parts.push({ text: text.slice(from, index), href: null });
    parts.push({ text: text.slice(index, lastIndex), href: url });
    from = lastIndex;
  }
  if (from < text.length) parts.push({ text: text.slice(from), href: null });
  return parts;
}

const guess = new LinkifyIt({ fuzzyLink: true, fuzzyIP: true, fuzzyEmail: true, urlAuth: true }).add("//");

/** Whether a text reads as another address than this one, so that one would be led where one did not want to go. */
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
