import listUrl from "emojibase-data/en/compact.json?url";
import namesUrl from "emojibase-data/en/shortcodes/github.json?url";

export type Emoji = {
  emoji: string;
  label: string;
  /** Its names between colons. */
  names: readonly string[];
  /** Search words, in lower case. */
  words: readonly string[];
  group: number;
  /** Its skin tones, from light to dark; empty if it has none. */
  tones: readonly string[];
};

type Compact = {
  hexcode: string;
  label: string;
  unicode: string;
  group?: number;
  order?: number;
  tags?: string[];
  skins?: { unicode: string }[];
};

/** The headings of the groups, by number; group 2 holds components. */
export const GROUPS: ReadonlyMap<number, string> = new Map([
  [0, "Smileys"],
  [1, "People"],
  [3, "Animals and nature"],
  [4, "Food and drink"],
  [5, "Travel and places"],
  [6, "Activities"],
  [7, "Objects"],
  [8, "Symbols"],
  [9, "Flags"],
]);

const TONES = 5;

/** All emoji in Unicode's order, from our own server. Rejects without a connection. */
export async function loadEmoji(): Promise<Emoji[]> {
  const [list, names] = await Promise.all([
    read<Compact[]>(listUrl),
    read<Record<string, string | string[]>>(namesUrl),
  ]);
  return arrange(list, names);
}

async function read<T>(url: string): Promise<T> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return (await response.json()) as T;
}

export function arrange(list: readonly Compact[], names: Record<string, string | string[]>): Emoji[] {
  return list
    .filter(({ group }) => group !== undefined && GROUPS.has(group))
    .toSorted((one, other) => (one.order ?? 0) - (other.order ?? 0))
    .map(({ hexcode, label, unicode, group = 0, tags = [], skins = [] }) => ({
      emoji: unicode,
      label,
      names: [names[hexcode] ?? label.toLowerCase().replaceAll(/[^a-z0-9]+/g, "_")].flat(),
      words: [
        label.toLowerCase(),
        ...label.toLowerCase().split(/[^\p{L}\p{N}]+/u),
        ...tags.map((tag) => tag.toLowerCase()),
      ],
      group,
      tones: skins.length === TONES ? skins.map((skin) => skin.unicode) : [],
    }));
}

/** The emoji that a text finds, best first: by the beginning of a name, by that of a word, by any part. */
export function findEmoji(all: readonly Emoji[], text: string, most = Infinity): Emoji[] {
  const wanted = text.trim().toLowerCase();
  const name = wanted.replaceAll(/\s+/g, "_");
  const points = ({ names, words }: Emoji): number => {
    if (names.includes(name)) return 4;
    if (names.some((one) => one.startsWith(name))) return 3;
    if (words.some((one) => one.startsWith(wanted))) return 2;
    return names.some((one) => one.includes(name)) || words.some((one) => one.includes(wanted)) ? 1 : 0;
  };
  return all
    .map((emoji) => ({ emoji, rank: points(emoji) }))
    .filter(({ rank }) => rank > 0)
    .toSorted((one, other) => other.rank - one.rank)
    .slice(0, most)
    .map(({ emoji }) => emoji);
}
