import { setTimeout as sleep } from "node:timers/promises";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BOUNDS } from "../limits.ts";
import type { Failure, Hits, Message, Room, RoomId } from "../protocol.ts";
import { PATIENCE_MS, both, person, replicas, unwrap, until, type House, type Person } from "../testing.ts";
import { findMessages } from "./find.ts";

let house: House;
let left: House["replicas"][number];
let ann: Person;
let ben: Person;
let sue: Person;
let room: Room;

beforeAll(async () => {
  house = await replicas(2);
  const [one, other] = both(house);
  left = one;
  [ann, ben, sue] = [await person(left), await person(other), await person(other)];
  room = (await ann.browser.post<Room>("/api/rooms", { name: "Searched" })).body;
  unwrap(await ben.socket.timeout(PATIENCE_MS).emitWithAck("room.join", { roomId: room.id }));
  await until(async () => (await ben.browser.get<Room[]>("/api/rooms")).body.length === 2);
});
afterAll(() => house.close());

async function search(who: Person, query: Record<string, string>) {
  const { status, body } = await who.browser.get<Hits & Partial<Failure>>(
    `/api/search?${new URLSearchParams(query).toString()}`,
  );
  return { status, body, texts: body.hits?.map(({ message }) => message.message) };
}

describe("a search among messages", () => {
  it.each([
    ["conver", "Pseudo-conversations"],
    ["ERSATION", "Pseudo-conversations"],
    ["strasse", "Die Straße"],
    ["cafe", "le CAFÉ\u0301"],
    ["会議", "明日の会議室は"],
    ["한국", "대한국민"],
    ["МОСКВ", "в москве"],
    ["סלום", "x סלום"],
    ["abc", "ＡＢＣ wide"],
    ["ΣΟΦΟΣ", "σοφος"],
    ["two words", "words, and then some: two"],
    ["🎉", "well done 🎉!"],
    [".*(", "a .*( b"],
    ["[a-z]+$", "the [a-z]+$ of it"],
    ["\\d", "a \\d b"],
    ["#12", "see #12"],
  ])("for %s finds %s, on any replica", async (q, text) => {
    const { seq } = await ann.say(room.id, text);
    for (const who of [ann, ben]) {
      const { body } = await search(who, { q });
      expect(body.hits[0]?.message).toMatchObject({ roomId: room.id, seq, message: text });
    }
  });

  it("takes regular expressions' special characters literally", async () => {
    await ann.say(room.id, "plain and simple");
    for (const q of ["p.ain", "^plain", "plain|x", "[p]lain", "(plain", "\\", "plain*"])
      expect((await search(ann, { q })).texts, q).not.toContain("plain and simple");
  });

  /** Only within a room are no two messages of the same ms. */
  async function later(who: Person, roomId: string, text: string) {
    await sleep(2);
    return who.say(roomId, text);
  }

  it("answers newest first over the user's rooms, and no other room", async () => {
    const pair = `${ann.user.id}:${ben.user.id}`;
    await later(ann, "0", "walnut one");
    await later(ann, pair, "walnut two");
    await later(ann, room.id, "walnut three");
    await later(ann, "0", "walnut four");
    const all = ["walnut four", "walnut three", "walnut two", "walnut one"];
    for (const who of [ann, ben]) expect((await search(who, { q: "walnut" })).texts).toEqual(all);
    expect((await search(sue, { q: "walnut" })).texts).toEqual(["walnut four", "walnut one"]);
  });

  it("can be limited to a room, to a person and to the time between two dates", async () => {
    const first = await later(ann, room.id, "hazel 1");
    const second = await later(ben, room.id, "hazel 2");
    const third = await later(ann, "0", "hazel 3");
    const fourth = await later(ann, room.id, "hazel 4");
    const of = async (query: object) => (await search(ann, { q: "hazel", ...query })).texts;
    expect(await of({ room: room.id })).toEqual(["hazel 4", "hazel 2", "hazel 1"]);
    expect(await of({ from: ben.user.id })).toEqual(["hazel 2"]);
    expect(await of({ before: String(fourth.date) })).toEqual(["hazel 3", "hazel 2", "hazel 1"]);
    expect(await of({ after: String(first.date), before: String(third.date) })).toEqual(["hazel 2"]);
    expect(await of({ after: String(second.date), room: "0" })).toEqual(["hazel 3"]);
    expect(await of({ after: String(fourth.date) })).toEqual([]);
    expect(await of({ from: "999999999" })).toEqual([]);
  });

  it("finds an edited message only by its new text, and never a deleted one", async () => {
    const edited = await ann.say(room.id, "before acorn");
    const deleted = await ann.say(room.id, "deleted acorn");
    const roomId = room.id;
    expect((await search(ben, { q: "acorn" })).texts).toEqual(["deleted acorn", "before acorn"]);
    unwrap(
      await ann.socket.timeout(PATIENCE_MS).emitWithAck("message.edit", {
        roomId,
        seq: edited.seq,
        message: "after chestnut",
        rev: 0,
        nonce: "edit1",
      }),
    );
    unwrap(await ann.socket.timeout(PATIENCE_MS).emitWithAck("message.delete", { roomId, seq: deleted.seq }));
    for (const who of [ann, ben]) {
      expect((await search(who, { q: "acorn" })).texts).toEqual([]);
      expect((await search(who, { q: "chestnut" })).texts).toEqual(["after chestnut"]);
    }
  });

  it("checks the membership at each call, even if a list of rooms is behind", async () => {
    await ann.say(room.id, "secret pecan");
    expect((await search(ben, { q: "pecan" })).texts).toEqual(["secret pecan"]);
    unwrap(await ben.socket.timeout(PATIENCE_MS).emitWithAck("room.leave", { roomId: room.id }));
    expect((await search(ben, { q: "pecan" })).texts).toEqual([]);
    expect((await search(ben, { q: "pecan", room: room.id })).body.code).toBe("not_found");
    await house.redis.sadd(house.keys.userRooms(ben.user.id), room.id);
    expect((await search(ben, { q: "pecan" })).texts).toEqual([]);
    unwrap(await ben.socket.timeout(PATIENCE_MS).emitWithAck("room.join", { roomId: room.id }));
  });

  it("continues by its cursor until everything was searched, each message once", async () => {
    for (let index = 0; index < BOUNDS.findHits.value + 5; index += 1)
      await ann.say(index % 3 === 0 ? "0" : room.id, `cashew ${index}`);
    const seen: Message[] = [];
    let cursor: string | undefined;
    let calls = 0;
    do {
      const { body } = await search(ann, { q: "cashew", ...(cursor && { cursor }) });
      seen.push(...body.hits.map(({ message }) => message));
      ({ cursor } = body);
      calls += 1;
    } while (cursor !== undefined && calls < 5);
    const dates = seen.map(({ date }) => date);
    expect(dates).toEqual(dates.toSorted((a, b) => b - a));
    // Two rooms may have messages of the same millisecond, in any order.
    expect(seen.map(({ message }) => message).toSorted()).toEqual(
      Array.from({ length: BOUNDS.findHits.value + 5 }, (_, index) => `cashew ${index}`).toSorted(),
    );
    expect(calls).toBe(2);
  });

  it.each([
    [{ q: "" }, 400, "invalid"],
    [{}, 400, "invalid"],
    [{ q: " \t\u200b" }, 400, "invalid"],
    [{ q: "x".repeat(10_000) }, 413, "too_large"],
    [{ q: "x".repeat(101) }, 413, "too_large"],
    [{ q: "x", room: "2:1" }, 400, "invalid"],
    [{ q: "x", room: "424242" }, 404, "not_found"],
    [{ q: "x", room: "1:2:3" }, 400, "invalid"],
    [{ q: "x", from: "0" }, 400, "invalid"],
    [{ q: "x", before: "soon" }, 400, "invalid"],
    [{ q: "x", after: "-1" }, 400, "invalid"],
    [{ q: "x", cursor: "" }, 400, "invalid"],
    [{ q: "x", cursor: "0" }, 400, "invalid"],
    [{ q: "x", cursor: "zz-000000000000" }, 400, "invalid"],
    [{ q: "x", cursor: "z".repeat(10_000) }, 413, "too_large"],
  ])("for %j is answered %i %s", async (query, status, code) => {
    const answer = await search(ann, query);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
  });

  it("refuses a cursor of another search, and needs a session", async () => {
    const { body } = await search(ann, { q: "cashew" });
    const { cursor = "" } = body;
    expect((await search(ann, { q: "cashew", cursor })).status).toBe(200);
    for (const query of ["q=cashews", "q=cashew&room=0", "q=cashew&after=1"]) {
      const asked = Object.fromEntries(new URLSearchParams(query));
      expect((await search(ann, { ...asked, cursor })).body.code, query).toBe("invalid");
    }
    const answer = await fetch(`${left.address}/api/search?q=cashew`);
    expect(answer.status).toBe(401);
  });

  it("of one user runs one at a time, and the sixth waiting one is refused", async () => {
    const strict = await replicas(1, { RATE_LIMITS: "on" });
    try {
      const eager = await person(strict.replicas[0]!);
      await eager.say("0", "here");
      const answers = await Promise.all(Array.from({ length: 12 }, () => search(eager, { q: "here" })));
      const codes = answers.map(({ status }) => status);
      expect(codes.filter((status) => status === 200).length).toBeGreaterThanOrEqual(6);
      for (const { status, body } of answers.filter(({ status: told }) => told !== 200))
        expect([status, body.code, typeof body.retryAfterMs]).toEqual([429, "rate_limited", "number"]);
    } finally {
      await strict.close();
    }
  });
});

/** Logs in memory with the reading methods of Log. */
function logOf(rooms: Map<RoomId, Message[]>) {
  const reads: number[] = [];
  const log = {
    reads,
    position: (roomId: RoomId) => {
      const last = rooms.get(roomId)?.at(-1);
      return Promise.resolve({ seq: last?.seq ?? 0, date: last?.date ?? 0, hash: "", rev: 0, revHash: "" });
    },
    pages: {
      slice: (roomId: RoomId, { before, after, size }: { before: number; after: number; size: number }) => {
        const between = (rooms.get(roomId) ?? []).filter(({ date }) => date < before && date > after);
        const messages = between.toReversed().slice(0, size);
        reads.push(messages.length);
        const bytes = messages.reduce((total, { message }) => total + message.length + 150, 0);
        return Promise.resolve({
          messages,
          bytes,
          reached: messages.length < size ? undefined : messages.at(-1)?.date,
        });
      },
    },
  };
  return log;
}

describe("the reading of a search", () => {
  const go = () => Promise.resolve(true);

  it("finds, over its cursors, what reading every message finds", async () => {
    const said = fc.array(fc.record({ gap: fc.integer({ min: 1, max: 3 }), hit: fc.boolean() }), {
      maxLength: 150,
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(said, { minLength: 1, maxLength: 60 }),
        fc.option(fc.nat(200), { nil: undefined }),
        fc.option(fc.nat(200), { nil: undefined }),
        async (logs, before, after) => {
          const rooms = new Map<RoomId, Message[]>();
          for (const [place, rows] of logs.entries()) {
            const roomId = String(place + 1);
            let date = 0;
            const messages = rows.map(({ gap, hit }, index): Message => {
              date += gap;
              const message = hit ? "yes" : "no";
              return { roomId, seq: index + 1, date, hash: "a", from: "1", message };
            });
            rooms.set(roomId, messages);
          }
          const found: Message[] = [];
          let cursor: string | undefined;
          do {
            const asked = { q: "yes", before, after, cursor };
            const page = await findMessages(logOf(rooms), [...rooms.keys()], asked, go);
            found.push(...page.hits.map(({ message }) => message));
            if (page.cursor !== undefined) expect(page.cursor).not.toBe(cursor);
            ({ cursor } = page);
          } while (cursor !== undefined);
          const name = ({ roomId, seq }: Message) => `${roomId} ${seq}`;
          const wanted = [...rooms.values()]
            .flat()
            .filter(({ message }) => message === "yes")
            .filter(({ date }) => date < (before ?? Infinity) && date > (after ?? -1));
          expect(found.map(({ date }) => date)).toEqual(
            wanted.map(({ date }) => date).toSorted((a, b) => b - a),
          );
          expect(new Set(found.map(name))).toEqual(new Set(wanted.map(name)));
        },
      ),
      { numRuns: 200 },
    );
  });

  it("ends a call within its budget, a few rows at a time, even without a hit in 1,000 rooms", async () => {
    const rooms = new Map<RoomId, Message[]>();
    for (let place = 1; place <= 1_000; place += 1) {
      const roomId = String(place);
      const messages = Array.from({ length: 60 }, (_, index): Message => ({
        roomId,
        seq: index + 1,
        date: index * 1_000 + place,
        hash: "a",
        from: "1",
        message: "no",
      }));
      rooms.set(roomId, messages);
    }
    let last = Infinity;
    let cursor: string | undefined;
    let calls = 0;
    do {
      const log = logOf(rooms);
      const page = await findMessages(log, [...rooms.keys()], { q: "yes", cursor }, go);
      expect(page.rows).toBeLessThan(BOUNDS.findRows.value + 40 * BOUNDS.syncRows.value);
      expect(Math.max(...log.reads)).toBeLessThanOrEqual(BOUNDS.syncRows.value);
      expect(page.until ?? 0).toBeLessThan(last);
      last = page.until ?? 0;
      ({ cursor } = page);
      calls += 1;
    } while (cursor !== undefined);
    expect(calls).toBeLessThan(20);
  });

  it("stops if its client has left", async () => {
    const message: Message = { roomId: "1", seq: 1, date: 1, hash: "a", from: "1", message: "yes" };
    const log = logOf(new Map([["1", [message]]]));
    const page = await findMessages(log, ["1"], { q: "yes" }, () => Promise.resolve(false));
    expect([page.hits, log.reads]).toEqual([[], []]);
  });
});
