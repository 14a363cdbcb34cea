import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LIMITS, type Message, type Reply, type Room, type RoomId } from "../protocol.ts";
import { both, person, replicas, unwrap, type House, type Person } from "../testing.ts";

const SECRET = "the-words-of-this-room";
/** As many kinds of reactions as a message takes, and one more. */
const KINDS = Array.from({ length: LIMITS.reactionKinds + 1 }, (_, index) =>
  String.fromCodePoint(0x1f34e + index),
);

/** What somebody asks for that is not to be done, over the socket, and the code of the answer. */
type Case = [what: string, code: string, asked: (stage: Stage) => Promise<Reply<unknown>>];
type Stage = {
  ann: Person;
  ben: Person;
  stranger: Person;
  /** Was a member, and said something then. */
  gone: Person;
  roomId: RoomId;
  other: RoomId;
  mine: Message;
  theirs: Message;
  deleted: Message;
  full: Message;
  left: Message;
  far: Message;
};

let house: House;
let stage: Stage;

beforeAll(async () => {
  house = await replicas(2);
  const [one, two] = both(house);
  const [ann, ben, stranger, gone] = await Promise.all([
    person(one, "ann"),
    person(two, "ben"),
    person(two, "stranger"),
    person(one, "gone"),
  ]);
  const roomId = (await ann.browser.post<Room>("/api/rooms", { name: "refusals" })).body.id;
  const other = (await ann.browser.post<Room>("/api/rooms", { name: "other" })).body.id;
  for (const who of [ben, gone]) unwrap(await who.socket.emitWithAck("room.join", { roomId }));
  const mine = await ann.say(roomId, `${SECRET} mine`);
  const theirs = await ben.say(roomId, `${SECRET} theirs`);
  const left = await gone.say(roomId, `${SECRET} before they left`);
  const deleted = unwrap(
    await ann.socket.emitWithAck("message.delete", {
      roomId,
      seq: (await ann.say(roomId, `${SECRET} regretted`)).seq,
    }),
  );
  const full = await ann.say(roomId, `${SECRET} much liked`);
  for (const emoji of KINDS.slice(1))
    unwrap(await ann.socket.emitWithAck("message.react", { roomId, seq: full.seq, emoji, on: true }));
  let far = mine;
  for (let number = 0; number < 9; number += 1) far = await ann.say(other, `${SECRET} ${number}`);
  unwrap(await gone.socket.emitWithAck("room.leave", { roomId }));
  // The replicas would note within 5 s up to which room every one has its kind.
  await house.redis.hset(house.keys.settings, "kinds", other);
  stage = { ann, ben, stranger, gone, roomId, other, mine, theirs, deleted, full, left, far };
});

afterAll(async () => {
  for (const one of [stage.ann, stage.ben, stage.stranger, stage.gone]) one.close();
  await house.close();
});

/** Every key that holds what is said and who is where, byte by byte. Sessions and leases are renewed by anybody's presence. */
async function everything(): Promise<Map<string, string>> {
  // Other tests have prefixes of their own.
  const prefix = house.keys.totalUsers.replace("total_users", "");
  const all = await house.redis.keys(`*${prefix}*`);
  // The audit log tells who tried.
  const names = all.filter((key) => !/sess|online_users|limit:|audit/.test(key)).toSorted();
  const dumps = await Promise.all(names.map((key) => house.redis.dumpBuffer(key)));
  return new Map(names.map((name, index) => [name, dumps[index]?.toString("base64") ?? ""]));
}

let nonces = 0;
const nonce = () => `refused-${(nonces += 1)}`;
const say = (who: Person, roomId: unknown, message: unknown, more = {}) =>
  who.socket.emitWithAck("message", { roomId, message, nonce: nonce(), ...more } as never) as Promise<
    Reply<unknown>
  >;
const edit = (who: Person, { roomId, seq }: Message, message: unknown, rev: unknown = 0) =>
  who.socket.emitWithAck("message.edit", { roomId, seq, message, rev, nonce: nonce() } as never) as Promise<
    Reply<unknown>
  >;
const remove = (who: Person, { roomId, seq }: Pick<Message, "roomId" | "seq">): Promise<Reply<unknown>> =>
  who.socket.emitWithAck("message.delete", { roomId, seq });
const react = (who: Person, { roomId, seq }: Message, emoji: unknown) =>
  who.socket.emitWithAck("message.react", { roomId, seq, emoji, on: true } as never) as Promise<
    Reply<unknown>
  >;
const pin = (who: Person, { roomId, seq }: Message): Promise<Reply<unknown>> =>
  who.socket.emitWithAck("message.pin", { roomId, seq, on: true });

const outsiders = (["stranger", "gone"] as const).flatMap((who): Case[] => [
  [`${who} says something`, "not_found", (s) => say(s[who], s.roomId, "hello")],
  [`${who} answers`, "not_found", (s) => say(s[who], s.roomId, "hello", { replyTo: s.mine.seq })],
  [`${who} calls everybody`, "not_found", (s) => say(s[who], s.roomId, "@room @ann hello")],
  [`${who} edits`, "not_found", (s) => edit(s[who], s.left, "hello")],
  [`${who} deletes`, "not_found", (s) => remove(s[who], s.left)],
  [`${who} reacts`, "not_found", (s) => react(s[who], s.mine, "👍")],
  [`${who} pins`, "not_found", (s) => pin(s[who], s.mine)],
  [`${who} is seen to write`, "not_found", (s) => s[who].socket.emitWithAck("typing", { roomId: s.roomId })],
  [
    `${who} has read`,
    "not_found",
    (s) => s[who].socket.emitWithAck("room.read", { roomId: s.roomId, seq: 2 }),
  ],
]);

const forged = [-1, 1.5, Number.NaN, Infinity, 2 ** 53, 1e300, "1", null, [], { valueOf: 1 }].map(
  (rev): Case => [
    `an edit of rev ${JSON.stringify(rev)}`,
    "invalid",
    (s) => edit(s.ann, s.mine, "forged", rev),
  ],
);

const emoji = ["", "x", ":+1:", "👍👍", "👍 ", "\u200d", "<b>", "🇩", 1, null].map((one): Case => [
  `the emoji ${JSON.stringify(one).slice(0, 20)}`,
  "invalid",
  (s) => react(s.ann, s.mine, one),
]);

const answers: Case[] = [
  ...[-1, 1.5, Number.NaN, 1e300, "1", null].map((replyTo): Case => [
    `an answer to ${JSON.stringify(replyTo)}`,
    "invalid",
    (s) => say(s.ann, s.roomId, "to what?", { replyTo }),
  ]),
  ["an answer to nothing", "not_found", (s) => say(s.ann, s.roomId, "ha", { replyTo: 0 })],
  ["an answer to what is still to come", "not_found", (s) => say(s.ann, s.roomId, "ha", { replyTo: 4_711 })],
  ["an answer to another room's", "not_found", (s) => say(s.ann, s.roomId, "ha", { replyTo: s.far.seq })],
];

const others: Case[] = [
  ["an edit by somebody else", "forbidden", (s) => edit(s.ben, s.mine, "mine now")],
  ["a deletion by somebody else", "forbidden", (s) => remove(s.ben, s.mine)],
  ["an edit of what is deleted", "conflict", (s) => edit(s.ann, s.deleted, "back", s.deleted.rev)],
  ["a reaction to what is deleted", "conflict", (s) => react(s.ben, s.deleted, "👍")],
  ["a pin on what is deleted", "conflict", (s) => pin(s.ben, s.deleted)],
  ["an edit of a state that never was", "conflict", (s) => edit(s.ann, s.mine, "from another log", 4_711)],
  ["an edit of what is not there", "not_found", (s) => edit(s.ann, { ...s.mine, seq: 4_711 }, "x")],
  ["a message that is too long", "too_large", (s) => say(s.ann, s.roomId, "x".repeat(LIMITS.message + 1))],
  ["an edit that is too long", "too_large", (s) => edit(s.ann, s.mine, "x".repeat(LIMITS.message + 1))],
  ["an edit to nothing", "invalid", (s) => edit(s.ann, s.mine, " \u200b")],
  ["an emoji of 99", "too_large", (s) => react(s.ann, s.mine, "👍".repeat(99))],
  ["one kind of reactions too many", "forbidden", (s) => react(s.ben, s.full, KINDS[0])],
];

describe("what is not to be done is refused with its code, stores nothing and tells nothing", () => {
  it.each([...outsiders, ...others, ...answers, ...forged, ...emoji])("%s", async (_, code, asked) => {
    const before = await everything();
    const reply = await asked(stage);
    expect(reply.ok ? "done" : reply.error.code).toBe(code);
    if (code !== "conflict") expect(JSON.stringify(reply)).not.toContain(SECRET);
    expect(JSON.stringify(reply)).not.toContain("regretted");
    expect(await everything()).toEqual(before);
  });
});

describe("what is asked of pages and searches in vain", () => {
  const around = (seq: string) => `/api/rooms/${stage.roomId}/messages?around=${seq}`;
  const search = (q: string, more = "") => `/api/search?q=${encodeURIComponent(q)}${more}`;

  it.each<[what: string, status: number, who: "ann" | "stranger" | "gone", path: () => string]>([
    ["around what is not there", 404, "ann", () => around("4711")],
    ["around no number", 400, "ann", () => around("x")],
    ["around less than the first", 400, "ann", () => around("-1")],
    ["around more than a number holds", 400, "ann", () => around("1e300")],
    ["around, by a stranger", 404, "stranger", () => around("1")],
    ["around, by who has left", 404, "gone", () => around("1")],
    ["a thread, by a stranger", 404, "stranger", () => `/api/rooms/${stage.roomId}/messages?thread=1`],
    ["pins, by who has left", 404, "gone", () => `/api/rooms/${stage.roomId}/messages?pinned=true`],
    ["how many there are, by a stranger", 404, "stranger", () => `/api/rooms/${stage.roomId}/audience`],
    ["a search of 10,000 characters", 413, "ann", () => search("x".repeat(10_000))],
    ["a search of nothing", 400, "ann", () => search("")],
    ["a search in a room, by a stranger", 404, "stranger", () => search(SECRET, `&room=${stage.roomId}`)],
    ["a search in a room, by who has left", 404, "gone", () => search(SECRET, `&room=${stage.roomId}`)],
    ["a search with a forged cursor", 400, "ann", () => search(SECRET, "&cursor=x")],
    ["a search, by a stranger", 200, "stranger", () => search(SECRET)],
    ["a search, by who has left", 200, "gone", () => search(SECRET)],
    ...[".*", "(", "[", "\\", "^the", "the$", "a{9999}", "(a+)+$", "%*?"].map(
      (q): [string, number, "ann", () => string] => [`a search for ${q}`, 200, "ann", () => search(q)],
    ),
  ])("%s: %i", async (_, status, who, path) => {
    const before = await everything();
    const answer = await stage[who].browser.get(path());
    expect(answer.status).toBe(status);
    expect(JSON.stringify(answer.body)).not.toContain(SECRET);
    expect(await everything()).toEqual(before);
  });
});

it("a stranger gets one answer, word for word, whether a message is there, is not, or the room is not", async () => {
  const { ann, stranger, roomId, mine } = stage;
  const invite = (await ann.browser.post<Room>("/api/rooms", { name: "by invite", kind: "invite" })).body.id;
  const { body: pair } = await ann.browser.post<Room>("/api/rooms/private", { userId: stage.ben.user.id });
  const there = [mine.seq, (await ann.say(invite, SECRET)).seq, (await ann.say(pair.id, SECRET)).seq];
  const asked: ((roomId: RoomId, seq: number) => Promise<unknown>)[] = [
    (id, seq) => react(stranger, { ...mine, roomId: id, seq }, "👍"),
    (id, seq) => pin(stranger, { ...mine, roomId: id, seq }),
    (id, seq) => edit(stranger, { ...mine, roomId: id, seq }, "hello"),
    (id, seq) => remove(stranger, { ...mine, roomId: id, seq }),
    (id, seq) => say(stranger, id, "hello", { replyTo: seq }),
    (id, seq) => stranger.socket.emitWithAck("room.read", { roomId: id, seq }),
    async (id, seq) => (await stranger.browser.post("/api/reports", { roomId: id, seq })).body,
    async (id, seq) => (await stranger.browser.post(`/api/reports/${id}/${seq}`, { state: "done" })).body,
    async (id, seq) => (await stranger.browser.get(`/api/rooms/${id}/messages?around=${seq}`)).body,
    async (id, seq) => (await stranger.browser.get(`/api/rooms/${id}/messages?thread=${seq}`)).body,
  ];
  await ann.browser.post("/api/reports", { roomId, seq: mine.seq });
  for (const ask of asked) {
    const nowhere = await ask("4711", 1);
    for (const [index, id] of [roomId, invite, pair.id].entries()) {
      const seq = there[index] ?? 0;
      expect([await ask(id, seq), await ask(id, seq + 4_711)]).toEqual([nowhere, nowhere]);
    }
  }
});

it("a mention of nobody is text", async () => {
  const said = await stage.ann.say(stage.roomId, "@nobody-of-this-name, @, @@ and @!");
  expect(said).not.toHaveProperty("mentions");
  expect(said).not.toHaveProperty("mentionsRoom");
});

it("who repeats a deletion is told that it is done, and nothing changes", async () => {
  const before = await everything();
  expect(unwrap((await remove(stage.ann, stage.deleted)) as Reply<Message>)).toEqual(stage.deleted);
  expect(await everything()).toEqual(before);
});
