import { LinkifyIt, type Match, type SchemaOpts } from "linkify-it";

/** A part of a text; `href` if it is a link. */
export type Part = { text: string; href: string | null };

const linkify = new LinkifyIt({ fuzzyEmail: false, urlAuth: true }).add("ftp:").add("//");

/**
 * What ends an address, though linkify-it would go on: these signs inside quotation marks, what is invisible but joins
 * no letters or emoji, and a sign between two addresses.
 */
const ENDS =
  /[<>"`\u00AD\u061C\u180E\u200B\u200E\u200F\u202A-\u202E\u2060-\u206F\uFEFF]|[,;|](?=(?:https?:\/\/|mailto:))/gi;

/**
 * Splits a text into parts, with its http:, https: and mailto: addresses as links; the parts join to the text. The
 * client and the transcript show messages with it. Takes time linear in the text's length.
 */
export function findLinks(text: string): Part[] {
  return partsOf(text, linkify, () => true);
}

const WWW: SchemaOpts = {
  validate(text, from, { re }) {
    // It is the end of another word.
    if (/[.:/@_-]/.test(text[from - "www.".length - 1] ?? "")) return 0;
    const host = re.get_relative_proto_validator();
    host.lastIndex = from;
    return host.exec(text)?.[0].length ?? 0;
  },
  normalize(match) {
    match.url = `https://${match.url}`;
  },
};

const bare = new LinkifyIt({ urlAuth: true }).add("www.", WWW);

/** Without a scheme. `react@18.2.0` is a version. */
const MAIL = /^(?!mailto:)[^:/]*@[^@]*\.\p{L}[^.]*$/iu;

/**
 * The same with addresses of mail, and those that begin with `www.`, as links, and those with a scheme as text. Any
 * other word with a dot may be a file's name or the end of a sentence.
 */
export function findBareLinks(text: string): Part[] {
  if (!/www\.|@/i.test(text)) return [{ text, href: null }];
  return partsOf(text, bare, ({ schema, raw }) => schema === "www." || MAIL.test(raw));
}

function partsOf(text: string, finder: LinkifyIt, wanted: (match: Match) => boolean): Part[] {
  const parts: Part[] = [];
  let from = 0;
  for (const match of finder.match(text.replaceAll(ENDS, " ")) ?? []) {
    const { index, lastIndex, url } = match;
    // A user before an @ can look like the host: https://bank.example@evil.example leads to evil.example.
    if (!wanted(match) || !URL.canParse(url) || new URL(url).username !== "") continue;
    if (index > from) parts.push({ text: text.slice(from, index), href: null });
    parts.push({ text: text.slice(index, lastIndex), href: url });
    from = lastIndex;
  }
  if (from < text.length) parts.push({ text: text.slice(from), href: null });
  return parts;
}

const guess = new LinkifyIt({ fuzzyLink: true, fuzzyIP: true, fuzzyEmail: true, urlAuth: true })
  .add("//")
  .add("www.", WWW);

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
