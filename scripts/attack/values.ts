import type { Random } from "../prove/random.ts";

/** What the fuzzer's requests and events are made of: ids, texts and JSON, from valid to nonsense. */

/** What is known only while a sequence runs. */
export type Context = {
  host: string;
  cookie: string;
  sid: string;
  nonce: () => string;
  rooms: string[];
  users: string[];
  seen: Seen;
  /** A request may end all sessions of this user, or of whoever sends it. */
  spend: (userId?: string) => void;
};

const NAMED = {
  files: /"id":"([\w-]{22})"/g,
  invites: /"code":"([\w-]{22})"/g,
  resets: /#\/reset\/([\w-]{32})/g,
  sessions: /"id":"([0-9a-f]{16})"/g,
  rooms: /"id":"(\d+)","kind":"(?:open|invite)"/g,
  messages: /"roomId":"([\d:]+)","seq":(\d+)/g,
  entries: /"id":"(\d+-\d+)"/g,
} as const;
const REMEMBERED = 40;

/** The newest ids of each kind in what replicas answered; a message's is `<room id>/<seq>`. */
type Seen = Record<keyof typeof NAMED, string[]>;

export function seeNothing(): Seen {
  return { files: [], invites: [], resets: [], sessions: [], rooms: [], messages: [], entries: [] };
}

/** Notes the ids in an answer, but for those of one room. */
export function see(seen: Seen, text: string, hidden: string): void {
  for (const kind of Object.keys(NAMED) as (keyof typeof NAMED)[]) {
    for (const [, ...ids] of text.matchAll(NAMED[kind])) {
      if (ids[0] === hidden) continue;
      seen[kind].push(ids.filter((id) => id !== undefined).join("/"));
      if (seen[kind].length > REMEMBERED) seen[kind].shift();
    }
  }
}

/** One of these ids, often the newest, or a string that is none. */
export function idOf(random: Random, ids: readonly string[], other: string): string {
  const chance = random.next();
  if (chance < 0.85 && ids.length > 0) return chance < 0.4 ? (ids.at(-1) ?? other) : random.pick(ids);
  return chance < 0.93 ? other : random.pick(STRINGS);
}

/** A message's room and number. */
export function messageOf(random: Random, context: Context): [roomId: string, seq: string] {
  const [room = "0", seq = "1"] = idOf(random, context.seen.messages, "0/1").split("/");
  return random.next() < 0.9 ? [room, seq] : [roomId(random, context), random.pick(["0", "-1", "1e9", "x"])];
}

/** Fields of JSON text as an object, of which some are missing, wrong, or too many. */
export function spoilt(random: Random, fields: Record<string, string>): string {
  for (const field of Object.keys(fields)) {
    if (random.next() < 0.06) delete fields[field];
    else if (random.next() < 0.08) fields[field] = json(random);
  }
  if (random.next() < 0.05) fields[random.pick(["from", "date", "seq", "__proto__"])] = json(random);
  return objectOf(fields);
}

export function objectOf(fields: Record<string, string>): string {
  return `{${Object.entries(fields)
    .map(([key, value]) => `${JSON.stringify(key)}:${value}`)
    .join(",")}}`;
}

export function weighted<T>(random: Random, choices: (readonly [T, number])[]): T {
  let left = random.next() * choices.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [choice, weight] of choices) {
    left -= weight;
    if (left <= 0) return choice;
  }
  throw new Error("nothing to choose from");
}

export function times<T>(random: Random, most: number, make: () => T): T[] {
  return Array.from({ length: 1 + random.whole(most) }, make);
}

export const STRINGS = [
  "",
  "0",
  "a",
  "__proto__",
  "constructor",
  "toString",
  "\0",
  "\u202e\u200b",
  "\ud800",
  "𝒳",
  "é",
  "../1",
  "1:2:3",
  "2:1",
  "1:1",
  "0:1",
  "{x}",
  "%s%n",
  "<img src=x onerror=alert(1)>",
  "'; DROP TABLE",
  "\r\nSET a b\r\n",
  "x".repeat(4_000),
  "€".repeat(4_001),
  "x".repeat(20_000),
];
const NUMBERS = [0, -0, 1, -1, 1.5, 1e12, 2 ** 53, 2 ** 53 + 2, -1e300, 1e308, 4_294_967_296];
const LITERALS = [
  "null",
  "true",
  "false",
  "NaN",
  "1e999",
  "-",
  "[]",
  "{}",
  "[[]]",
  '{"a":1,"a":2}',
  "undefined",
];

/** JSON text, valid or nearly. */
export function json(random: Random, depth = 0): string {
  const chance = random.next();
  if (chance < 0.25) return JSON.stringify(random.pick(STRINGS));
  if (chance < 0.45) return String(random.pick(NUMBERS));
  if (chance < 0.6) return random.pick(LITERALS);
  if (chance < 0.63) return `${"[".repeat(500)}${"]".repeat(random.whole(2) * 500)}`;
  if (chance < 0.65) return `{"_placeholder":true,"num":${random.pick([0, 1, 9, -1, 1e9])}}`;
  if (depth > 2) return "{}";
  if (chance < 0.8) return `[${times(random, 4, () => json(random, depth + 1)).join(",")}]`;
  const fields = times(random, 4, () => {
    const name = random.pick([
      "roomId",
      "message",
      "nonce",
      "seq",
      "date",
      "rooms",
      "from",
      "files",
      "alt",
      ...STRINGS.slice(0, 8),
    ]);
    return `${JSON.stringify(name)}:${json(random, depth + 1)}`;
  });
  return `{${fields.join(",")}}`;
}

export function roomId(random: Random, { rooms, users }: Context): string {
  const chance = random.next();
  if (chance < 0.5) return "0";
  if (chance < 0.75) return random.pick(rooms);
  if (chance < 0.9)
    return random
      .sample(users, 2)
      .toSorted((a, b) => Number(a) - Number(b))
      .join(":");
  return random.pick(STRINGS);
}
