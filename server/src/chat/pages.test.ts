import { setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../config.ts";
import { BOUNDS } from "../limits.ts";
import type { Failure, Message, Page, Room } from "../protocol.ts";
import { Log } from "../store/log.ts";
import { PATIENCE_MS, both, garbage, person, replicas, unwrap, type House, type Person } from "../testing.ts";

let house: House;
let ann: Person;
let ben: Person;
let room: Room;
const said: Message[] = [];

beforeAll(async () => {
  house = await replicas(2);
  const [left, right] = both(house);
  [ann, ben] = [await person(left), await person(right)];
  room = (await ann.browser.post<Room>("/api/rooms", { name: "Paged" })).body;
  for (let index = 1; index <= 20; index += 1) said.push(await ann.say(room.id, `message ${index}`));
});
afterAll(() => house.close());

async function page(query: string, who = ann, roomId = room.id) {
  const { status, body } = await who.browser.get<Page & Partial<Failure>>(
    `/api/rooms/${roomId}/messages?${query}`,
  );
  return { status, body, seqs: body.messages?.map(({ seq }) => seq) };
}

async function answer(seq: number, text: string, nonce: string): Promise<Message> {
  const send = { roomId: room.id, message: text, nonce, replyTo: seq };
  return unwrap(await ann.socket.timeout(PATIENCE_MS).emitWithAck("message", send));
}

describe("a page around a message", () => {
  it.each([
    [10, 4, [9, 10, 11, 12], true, true],
    [10, 1, [10], true, true],
    [1, 4, [1, 2, 3], false, true],
    [2, 4, [1, 2, 3, 4], false, true],
    [20, 4, [19, 20], true, false],
    [19, 4, [18, 19, 20], true, false],
    [10, 100, Array.from({ length: 20 }, (_, index) => index + 1), false, false],
  ])("with number %i and size %i holds %j", async (seq, size, seqs, more, newer) => {
    const { body, seqs: told } = await page(`around=${seq}&size=${size}`);
    expect([told, body.more, body.newer]).toEqual([seqs, more, newer]);
    expect(body.rev).toBe(1);
  });

  it("is not found if the message is not in the log, or in a room of others", async () => {
    for (const seq of [21, 999_999_999_999_999]) {
      const { status, body } = await page(`around=${seq}`);
      expect([status, body.code]).toEqual([404, "not_found"]);
    }
    const [none, some] = [await page("around=21", ben), await page("around=2", ben)];
    expect(none.status).toBe(404);
    expect(some.body).toEqual(none.body);
  });
});

describe("a page from a moment", () => {
  it("begins with the first message after it", async () => {
    const at = (index: number) => said[index]!.date;
    for (const [query, seqs, more, newer] of [
      [`at=${at(4)}&size=3`, [5, 6, 7], true, true],
      [`at=${at(4) + 1}&size=2`, [6, 7], true, true],
      ["at=0&size=2", [1, 2], false, true],
      [`at=${at(18)}&size=5`, [19, 20], true, false],
      [`at=${at(19) + 1}&size=3`, [18, 19, 20], true, false],
      ["at=9999999999999999&size=2", [19, 20], true, false],
    ] as const) {
      const { body, seqs: told } = await page(query);
      // Two messages may be a millisecond apart: then the second is the first one after it.
      expect([told, body.more, body.newer], query).toEqual([seqs, more, newer]);
    }
  });

  it("is empty in an empty room", async () => {
    const { body: empty } = await ann.browser.post<Room>("/api/rooms", { name: "Empty" });
    const { body } = await page("at=5", ann, empty.id);
    expect(body).toMatchObject({ messages: [], more: false, newer: false });
  });
});

describe("a thread", () => {
  it("says that there is more if its first message is what no longer fits", async () => {
    const [first] = said;
    for (let index = 0; index < 24; index += 1) await answer(first!.seq, "ä".repeat(4_000), `long-${index}`);
    const { seqs, body } = await page(`thread=${first!.seq}`);
    expect(seqs).not.toContain(first!.seq);
    expect(body.more).toBe(true);
    const rest = await page(`thread=${first!.seq}&before=${body.messages[0]!.date}`);
    expect([rest.seqs?.[0], rest.body.more]).toEqual([first!.seq, false]);
  });

  it("holds its first message and all answers, and is found by any of them", async () => {
    const first = await answer(3, "first answer", "a1");
    const second = await answer(first.seq, "answer to the answer", "a2");
    await answer(4, "of another thread", "a3");
    const third = await answer(3, "third answer", "a4");
    const all = [3, first.seq, second.seq, third.seq];
    for (const seq of all) expect((await page(`thread=${seq}`)).seqs).toEqual(all);
    expect((await page("thread=3")).body.more).toBe(false);
    expect((await page("thread=5")).seqs).toEqual([5]);
    const newest = await page("thread=3&size=2");
    expect([newest.seqs, newest.body.more]).toEqual([[second.seq, third.seq], true]);
    const older = await page(`thread=3&size=2&before=${second.date}`);
    expect([older.seqs, older.body.more]).toEqual([[3, first.seq], false]);
    expect((await page(`thread=3&after=${first.date}`)).seqs).toEqual([second.seq, third.seq]);
    expect((await page("thread=999")).body.code).toBe("not_found");
    const target = { roomId: room.id, seq: first.seq };
    unwrap(await ann.socket.timeout(PATIENCE_MS).emitWithAck("message.delete", target));
    const { body } = await page("thread=3");
    expect(body.messages.map(({ message }) => message)).toEqual([
      "message 3",
      "",
      "answer to the answer",
      "third answer",
    ]);
  });

  it("holds an answer once that was sent twice", async () => {
    const one = await answer(8, "once", "b1");
    await answer(8, "once", "b1");
    expect((await page("thread=8")).seqs).toEqual([8, one.seq]);
  });
});

describe("the threads that begin on a page", () => {
  const told = async (query: string) => (await page(query)).body.threads;
  const remove = async (seq: number) =>
    unwrap(await ann.socket.timeout(5_000).emitWithAck("message.delete", { roomId: room.id, seq }));

  it("are told with how many answers they have and the newest of them, where they are asked for", async () => {
    const first = await answer(14, "one", "c1");
    const second = await answer(first.seq, "two", "c2");
    const last = ({ seq, date, from }: Message) => ({ seq, date, from });
    expect(await told("around=14&size=1&threads=true")).toEqual([{ seq: 14, count: 2, last: last(second) }]);
    expect(await told("around=14&size=1")).toBeUndefined();
    // Those on the page, and those that begin there: an answer is no beginning, though others answer it.
    expect(await told(`around=${first.seq}&size=1&threads=true`)).toEqual([]);
    expect((await told("around=14&size=8&threads=true"))?.map(({ seq }) => seq)).toEqual([14]);
    expect((await told("thread=14&size=1&threads=true"))?.length).toBe(0);
    expect((await told("thread=14&threads=true"))?.map(({ count }) => count)).toEqual([2]);
    await remove(second.seq);
    expect(await told("around=14&size=1&threads=true")).toEqual([{ seq: 14, count: 1, last: last(first) }]);
    await remove(14);
    expect((await told("around=14&size=1&threads=true"))?.map(({ count }) => count)).toEqual([1]);
    await remove(first.seq);
    expect(await told("around=14&size=1&threads=true")).toEqual([]);
    expect((await page("threads=yes")).status).toBe(400);
    expect((await page("around=14&threads=true", ben)).status).toBe(404);
  });

  it("are all that a page of a hundred has, each of its own", async () => {
    const { body: full } = await ann.browser.post<Room>("/api/rooms", { name: "Many threads" });
    const roots: Message[] = [];
    for (let index = 0; index < 50; index += 1) roots.push(await ann.say(full.id, `root ${index}`));
    for (const { seq } of roots) {
      const send = { roomId: full.id, message: "yes", nonce: `m${seq}`, replyTo: seq };
      unwrap(await ann.socket.timeout(5_000).emitWithAck("message", send));
    }
    const { body } = await page("size=100&threads=true", ann, full.id);
    expect(body.threads?.map(({ seq, count, last }) => [seq, count, last.seq])).toEqual(
      roots.map(({ seq }) => [seq, 1, seq + 50]),
    );
  });
});

describe("the list of pinned messages", () => {
  it("is in the order of pinning, without unpinned and deleted ones", async () => {
    const pin = async (seq: number, on: boolean) =>
      unwrap(await ann.socket.timeout(PATIENCE_MS).emitWithAck("message.pin", { roomId: room.id, seq, on }));
    expect((await page("pinned=true")).seqs).toEqual([]);
    for (const seq of [12, 2, 7, 5]) await pin(seq, true);
    expect((await page("pinned=true")).seqs).toEqual([12, 2, 7, 5]);
    const last = await page("pinned=true&size=2");
    expect([last.seqs, last.body.more]).toEqual([[7, 5], true]);
    // What was pinned later than the page stands on none of the next ones, and what was unpinned leaves no gap.
    await pin(9, true);
    await pin(7, false);
    const older = await page(`pinned=true&size=2&cursor=${last.body.cursor}`);
    expect([older.seqs, older.body.more, older.body.cursor]).toEqual([[12, 2], false, undefined]);
    await pin(9, false);
    await pin(2, false);
    await pin(7, true);
    unwrap(await ann.socket.timeout(PATIENCE_MS).emitWithAck("message.delete", { roomId: room.id, seq: 7 }));
    expect((await page("pinned=true")).seqs).toEqual([12, 5]);
    expect((await page("pinned=true&cursor=0")).seqs).toEqual([]);
    expect((await page("pinned=true", ben)).body.code).toBe("not_found");
  });
});

describe("a page of long messages", () => {
  const COUNT = 40;
  const MOST = BOUNDS.pageBytes.value + BOUNDS.messageKb.value * 1_024;
  const bytesOf = ({ messages }: Page) => Buffer.byteLength(JSON.stringify(messages));
  let long: string;
  beforeAll(async () => {
    long = (await ann.browser.post<Room>("/api/rooms", { name: "Long" })).body.id;
    const log = new Log(house.redis, house.keys, { ...readConfig(house.env), serverId: "loads" });
    const message = "長".repeat(3_990);
    await log.load(
      long,
      Array.from({ length: COUNT }, (_, date) => ({ from: ann.user.id, message, date })),
    );
  });

  it.each([
    ["before", (seen: Message[]) => (seen[0] ? `before=${seen[0].date}` : "")],
    ["after", (seen: Message[]) => `after=${seen.at(-1)?.date ?? 0}`],
  ])("ends after 128 KiB, and those that go on %s it hold the rest", async (side, cursor) => {
    let seen: Message[] = [];
    const sizes: number[] = [];
    for (let more = true; more;) {
      const { body } = await page(`size=100&${cursor(seen)}`, ann, long);
      expect(bytesOf(body)).toBeLessThan(MOST);
      sizes.push(body.messages.length);
      seen = side === "before" ? [...body.messages, ...seen] : [...seen, ...body.messages];
      more = body.more;
    }
    expect(seen.map(({ seq }) => seq)).toEqual(Array.from({ length: COUNT }, (_, index) => index + 1));
    expect(sizes).toEqual([11, 11, 11, 7]);
  });

  it("around one of them, or from a moment, tells on which sides there are more", async () => {
    const around = await page("around=20&size=100", ann, long);
    expect(around.seqs).toEqual(Array.from({ length: 22 }, (_, index) => index + 10));
    expect([around.body.more, around.body.newer]).toEqual([true, true]);
    const last = (await page("around=31&size=100", ann, long)).body;
    expect([last.messages.at(-1)?.seq, last.more, last.newer]).toEqual([COUNT, true, false]);
    const since = await page("at=1&size=100", ann, long);
    expect([since.seqs, since.body.more, since.body.newer]).toEqual([
      Array.from({ length: 11 }, (_, index) => index + 1),
      false,
      true,
    ]);
  });

  it("holds those of a thread, or the pinned ones, that come last", async () => {
    const socket = ann.socket.timeout(PATIENCE_MS);
    const root = await ann.say(long, "root");
    const answers: Message[] = [];
    for (let count = 0; count < 30; count += 1) {
      const sent = { roomId: long, message: "長".repeat(3_900), nonce: `long-${count}`, replyTo: root.seq };
      const answered = unwrap<Message>(await socket.emitWithAck("message", sent));
      answers.push(answered);
      unwrap(await socket.emitWithAck("message.pin", { roomId: long, seq: answered.seq, on: true }));
    }
    const seqs = answers.map(({ seq }) => seq);
    const seen: number[] = [];
    for (let more = true, before = ""; more;) {
      const thread = await page(`thread=${root.seq}&size=100${before}`, ann, long);
      expect(bytesOf(thread.body)).toBeLessThan(MOST + 7 * BOUNDS.messageKb.value * 1_024);
      seen.unshift(...(thread.seqs ?? []));
      more = thread.body.more;
      before = `&before=${thread.body.messages[0]?.date}`;
    }
    expect(seen).toEqual([root.seq, ...seqs]);
    const pinned: number[] = [];
    for (let more = true, cursor = ""; more;) {
      const { body, seqs: some } = await page(`pinned=true&size=100${cursor}`, ann, long);
      expect(bytesOf(body)).toBeLessThan(MOST + 7 * BOUNDS.messageKb.value * 1_024);
      pinned.unshift(...some);
      more = body.more;
      cursor = `&cursor=${body.cursor}`;
    }
    expect(pinned).toEqual(seqs);
  });
});

describe("V8 frees what was read before it collects the whole heap:", () => {
  const COUNT = 40;
  let id: string;
  let log: Log;
  beforeAll(async () => {
    id = (await ann.browser.post<Room>("/api/rooms", { name: "Freed" })).body.id;
    log = new Log(house.redis, house.keys, { ...readConfig(house.env), serverId: "reads" });
    const message = "長".repeat(3_990);
    await log.load(
      id,
      Array.from({ length: 12 }, (_, date) => ({ from: ann.user.id, message, date })),
    );
  });

  it.each<[string, (count: number) => Promise<string | Buffer>]>([
    ["a page", (count) => log.pages.pageJson(id, { size: 100, before: Date.now() + count })],
    ["what follows a cursor", (count) => log.syncJson({ roomId: id, seq: 0, date: count })],
  ])("%s", async (_, read) => {
    const { collectAll, collectYoung } = garbage();
    const bytes = Buffer.byteLength(await read(0));
    expect(bytes).toBeGreaterThan(BOUNDS.pageBytes.value);
    // What is new while the whole heap is collected is old from then on.
    const reading = read(1);
    collectAll();
    await reading;
    const before = process.memoryUsage().arrayBuffers;
    for (let count = 2; count < COUNT; count += 1) {
      await read(count);
      collectYoung();
      await setImmediate();
    }
    collectYoung();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan((bytes * COUNT) / 2);
  });
});

describe("a joined room", () => {
  it.each([
    ["short", "said", 50],
    // The first one beyond 128 KiB is the last.
    ["long", "長".repeat(4_000), 12],
  ])(
    "begins with its newest messages, as many as one answer should hold: %s ones",
    async (name, message, most) => {
      const { id } = (await ann.browser.post<Room>("/api/rooms", { name: `Joined ${name}` })).body;
      const log = new Log(house.redis, house.keys, { ...readConfig(house.env), serverId: "loads" });
      await log.load(
        id,
        Array.from({ length: 60 }, (_, date) => ({ from: ann.user.id, message, date })),
      );
      // The newest one is another program's.
      const date = Date.now();
      const theirs = JSON.stringify({ from: ann.user.id, date, message: "last", roomId: id });
      await house.redis.zadd(house.keys.room(id), date, theirs);
      const { messages, rev } = unwrap<{ messages: Message[]; rev: number }>(
        await ben.socket.timeout(PATIENCE_MS).emitWithAck("room.join", { roomId: id }),
      );
      expect(messages.map(({ seq }) => seq)).toEqual(Array.from({ length: most }, (_, at) => 62 - most + at));
      expect(messages.at(-1)?.message).toBe("last");
      // Its owner's record, and the reader's.
      expect(rev).toBe(2);
      const bytes = Buffer.byteLength(JSON.stringify(messages));
      expect(bytes).toBeLessThan(BOUNDS.pageBytes.value + BOUNDS.messageKb.value * 1_024 + 1_024);
    },
  );
});
