import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RATES } from "../limits.ts";
import { LIMITS, type Audience, type Message, type Room, type RoomId } from "../protocol.ts";
import { both, person, replicas, unwrap, type House, type Person } from "../testing.ts";

type Mentions = { messages: Message[]; more: boolean };

describe("a mention", () => {
  let house: House;
  let ann: Person;
  let ben: Person;
  let roomId: RoomId;
  beforeAll(async () => {
    house = await replicas(2);
    const [left, right] = both(house);
    [ann, ben] = await Promise.all([person(left, "ann"), person(right, "ben.b")]);
    roomId = (await ann.browser.post<Room>("/api/rooms", { name: "mentions" })).body.id;
    unwrap(await ben.socket.emitWithAck("room.join", { roomId }));
  });
  afterAll(() => house.close());

  const countOf = async (who: Person) =>
    (await who.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === roomId)?.mentions ?? 0;
  const toldTo = async (who: Person, query = "") =>
    (await who.browser.get<Mentions>(`/api/mentions${query}`)).body.messages.map(({ message }) => message);
  const revs = new Map<string, number>();
  const edit = async ({ roomId: place, seq }: Message, message: string) => {
    const rev = revs.get(`${place} ${seq}`) ?? 0;
    const asked = { roomId: place, seq, message, rev, nonce: `e${Math.random()}` };
    const now = unwrap(await ann.socket.emitWithAck("message.edit", asked));
    revs.set(`${place} ${seq}`, now.rev ?? 0);
    return now;
  };
  const clear = async (who: Person) => {
    const seq = (await ann.say(roomId, "up to here")).seq;
    unwrap(await who.socket.emitWithAck("room.read", { roomId, seq }));
  };

  it("is on one of the pages, also if others were sent in other rooms in the same millisecond", async () => {
    const moment = Date.now() + 60_000;
    const said: string[] = [];
    const roomIds: RoomId[] = [];
    for (let count = 0; count < 4; count += 1) {
      const { body } = await ann.browser.post<Room>("/api/rooms", { name: `at once ${count}` });
      unwrap(await ben.socket.emitWithAck("room.join", { roomId: body.id }));
      await house.redis.hset(house.keys.meta(body.id), { date: moment });
      const { date } = await ann.say(body.id, `@ben.b ${count}`);
      expect(date).toBe(moment + 1);
      said.push(`@ben.b ${count}`);
      roomIds.push(body.id);
    }
    const paged: string[] = [];
    for (let before = ""; ;) {
      const { body } = await ben.browser.get<Mentions>(`/api/mentions?size=1${before}`);
      paged.push(...body.messages.map(({ message }) => message));
      if (!body.more) break;
      before = `&before=${body.messages.at(-1)?.date}`;
    }
    expect(paged.filter((text) => said.includes(text)).toSorted()).toEqual(said);
    expect(new Set(paged).size).toBe(paged.length);
    for (const id of roomIds) unwrap(await ben.socket.emitWithAck("room.leave", { roomId: id }));
  });

  it("is an id on the message, found by the formatting parser, and counts until it is read", async () => {
    const said = await ann.say(roomId, "Hi @Ben.B, and @ann; not `@ben.b`, @nobody or a@ben.b");
    expect(said.mentions).toEqual([ben.user.id, ann.user.id]);
    expect(await countOf(ben)).toBe(1);
    // An author is not told of their own mention.
    expect(await countOf(ann)).toBe(0);
    expect(await toldTo(ann)).toEqual([]);
    for (const text of ["`@ben.b`", "@nobody", "```\n@ben.b\n```", "@rooms"])
      expect(await ann.say(roomId, text)).not.toHaveProperty("mentions");
    expect(await countOf(ben)).toBe(1);
    unwrap(await ben.socket.emitWithAck("room.read", { roomId, seq: said.seq }));
    expect(await countOf(ben)).toBe(0);
    expect(await toldTo(ben)).toEqual([said.message]);
  });

  it("follows edits and deletions: new names are told, and dropped ones are not counted any more", async () => {
    await clear(ben);
    const said = await ann.say(roomId, "no one yet");
    expect((await edit(said, "now @ben.b")).mentions).toEqual([ben.user.id]);
    expect([await countOf(ben), (await toldTo(ben))[0]]).toEqual([1, "now @ben.b"]);
    expect(await edit(said, "no one again")).not.toHaveProperty("mentions");
    expect([await countOf(ben), (await toldTo(ben)).includes("now @ben.b")]).toEqual([0, false]);
    await edit(said, "@ben.b once more");
    const gone = unwrap(await ann.socket.emitWithAck("message.delete", { roomId, seq: said.seq }));
    expect(gone).not.toHaveProperty("mentions");
    expect([await countOf(ben), (await toldTo(ben)).includes("@ben.b once more")]).toEqual([0, false]);
  });

  it("counts once after a repeated send, and survives reactions and pins", async () => {
    await clear(ben);
    const send = { roomId, message: "@ben.b!", nonce: "once" };
    const said = unwrap(await ann.socket.emitWithAck("message", send));
    unwrap(await ann.socket.emitWithAck("message", send));
    unwrap(await ben.socket.emitWithAck("message.react", { roomId, seq: said.seq, emoji: "👍", on: true }));
    const pinned = unwrap(await ann.socket.emitWithAck("message.pin", { roomId, seq: said.seq, on: true }));
    expect(pinned.mentions).toEqual([ben.user.id]);
    expect(await countOf(ben)).toBe(1);
  });

  it("is listed newest first, page by page, over the user's own rooms", async () => {
    const other = (await ann.browser.post<Room>("/api/rooms", { name: "others" })).body.id;
    unwrap(await ben.socket.emitWithAck("room.join", { roomId: other }));
    const said: Message[] = [];
    for (let number = 0; number < 7; number += 1) {
      said.push(await ann.say(number % 2 === 0 ? roomId : other, `@ben.b ${number}`));
      // Only within a room are no two messages of the same ms.
      await sleep(2);
    }
    const newest = said.map(({ message }) => message).toReversed();
    expect((await toldTo(ben)).slice(0, 7)).toEqual(newest);
    const page = async (before: number) =>
      (await ben.browser.get<Mentions>(`/api/mentions?size=3&before=${before}`)).body;
    const { messages, more } = await page((said[6]?.date ?? 0) + 1);
    expect([messages.map(({ message }) => message), more]).toEqual([newest.slice(0, 3), true]);
    expect((await page(messages[2]?.date ?? 0)).messages.map(({ message }) => message)).toEqual(
      newest.slice(3, 6),
    );
    expect((await page(1)).messages).toEqual([]);
    unwrap(await ben.socket.emitWithAck("room.leave", { roomId: other }));
    expect((await toldTo(ben)).slice(0, 4)).toEqual(newest.filter((_, index) => index % 2 === 0));
    expect((await ben.browser.get("/api/mentions?before=x")).status).toBe(400);
  });

  it("with a long text makes its page end after 128 KiB, and the next ones hold the rest", async () => {
    const said: Message[] = [];
    for (let number = 0; number < 25; number += 1)
      said.push(await ann.say(roomId, `@ben.b ${"長".repeat(3_900)} ${number}`));
    const paged: number[] = [];
    const sizes: number[] = [];
    for (let before = ""; paged.length < said.length;) {
      const { body } = await ben.browser.get<Mentions>(`/api/mentions?size=100${before}`);
      const own = body.messages.filter(({ seq }) => seq >= said[0]!.seq);
      expect(body.more || own.length < body.messages.length).toBe(true);
      paged.push(...own.map(({ seq }) => seq));
      sizes.push(own.length);
      before = `&before=${body.messages.at(-1)?.date}`;
    }
    expect(paged).toEqual(said.map(({ seq }) => seq).toReversed());
    expect(sizes.slice(0, 2)).toEqual([12, 12]);
  });

  it("of the room is one entry for everybody, counts once beside their names, and is none in code", async () => {
    await clear(ben);
    const keysOfRoom = () => house.redis.keys(house.keys.meta(roomId).replace(/meta$/, "*"));
    const before = await keysOfRoom();
    const said = await ann.say(roomId, "@Room, and @ben.b: tea");
    expect(said).toMatchObject({ mentionsRoom: true, mentions: [ben.user.id] });
    const more = (await keysOfRoom()).filter((key) => !before.includes(key) && !key.includes(":nonce:"));
    expect(more).toEqual([house.keys.roomMentions(roomId)]);
    expect([await countOf(ben), (await toldTo(ben))[0]]).toEqual([1, "@Room, and @ben.b: tea"]);
    expect([await countOf(ann), await toldTo(ann)]).toEqual([0, []]);
    for (const text of ["`@room`", "```\n@room\n```", "a@room", "@room2", "[@room](https://a.example)"])
      expect(await ann.say(roomId, text)).not.toHaveProperty("mentionsRoom");
    expect(await countOf(ben)).toBe(1);
    unwrap(await ben.socket.emitWithAck("room.read", { roomId, seq: said.seq }));
    expect(await countOf(ben)).toBe(0);
    // Whoever is in another room alone is not called.
    const cyd = await person(both(house)[0], "cyd");
    expect(await toldTo(cyd)).toEqual([]);
    cyd.close();
  });

  it("of the room is told and taken back by edits, and gone with the message", async () => {
    await clear(ben);
    const said = await ann.say(roomId, "nobody");
    expect(await edit(said, "@room now")).toMatchObject({ mentionsRoom: true });
    expect([await countOf(ben), (await toldTo(ben))[0]]).toEqual([1, "@room now"]);
    expect(await edit(said, "@ben.b alone")).not.toHaveProperty("mentionsRoom");
    expect([await countOf(ben), (await toldTo(ben))[0]]).toEqual([1, "@ben.b alone"]);
    await edit(said, "nobody again");
    expect([await countOf(ben), (await toldTo(ben)).includes("@ben.b alone")]).toEqual([0, false]);
    await edit(said, "@room, last");
    unwrap(await ann.socket.emitWithAck("message.delete", { roomId, seq: said.seq }));
    expect([await countOf(ben), (await toldTo(ben)).includes("@room, last")]).toEqual([0, false]);
  });

  it("of the room tells its author before how many it reaches, and strangers nothing", async () => {
    const people = async (who: Person, room: RoomId) =>
      (await who.browser.get<Audience>(`/api/rooms/${room}/audience`)).body.people;
    const pair = await ann.browser.post<Room>("/api/rooms/private", { userId: ben.user.id });
    expect([await people(ann, roomId), await people(ann, pair.body.id)]).toEqual([2, 2]);
    const dan = await person(both(house)[1], "dan");
    expect(await people(ann, "0")).toBe(Number(await house.redis.get(house.keys.totalUsers)));
    for (const room of [roomId, "999", pair.body.id])
      expect((await dan.browser.get(`/api/rooms/${room}/audience`)).status).toBe(404);
    dan.close();
  });

  it("of General calls nobody whose account is newer, and everybody else", async () => {
    const general = async (who: Person) =>
      (await who.browser.get<Room[]>("/api/rooms")).body.find(({ id }) => id === "0");
    await ann.say("0", "@room, before eve");
    const eve = await person(both(house)[1], "eve");
    expect(await general(eve)).not.toHaveProperty("mentions");
    expect((await general(eve))?.unread).toBeGreaterThan(0);
    expect(await toldTo(eve)).toEqual([]);
    expect((await general(ben))?.mentions).toBeGreaterThan(0);
    const said = await ann.say("0", "@room, with eve");
    expect([(await general(eve))?.mentions, await toldTo(eve)]).toEqual([1, ["@room, with eve"]]);
    expect(await toldTo(eve, `?before=${said.date}`)).toEqual([]);
    unwrap(await eve.socket.emitWithAck("room.read", { roomId: "0", seq: said.seq - 1 }));
    expect((await general(eve))?.mentions).toBe(1);
    unwrap(await eve.socket.emitWithAck("room.read", { roomId: "0", seq: said.seq }));
    expect(await general(eve)).not.toHaveProperty("mentions");
    eve.close();
  });

  it("of a named room calls nobody who joined later, but those whom it names", async () => {
    const { id } = await ann.makes({ name: "early and late" });
    const fay = await person(both(house)[1], "fay");
    const seen = async () => {
      const own = (await fay.browser.get<Room[]>("/api/rooms")).body.find((one) => one.id === id);
      return [own?.mentions ?? 0, await toldTo(fay)];
    };
    await ann.say(id, "@room, before fay");
    await ann.say(id, "@fay, come and look");
    const { room } = unwrap(await fay.socket.emitWithAck("room.join", { roomId: id }));
    expect(room).toMatchObject({ unread: 2, mentions: 1, calledSince: 2 });
    expect(await seen()).toEqual([1, ["@fay, come and look"]]);
    const said = await ann.say(id, "@room, with fay");
    expect(await seen()).toEqual([2, ["@room, with fay", "@fay, come and look"]]);
    // Reading, marking as unread, an edit and another role change nothing of that.
    const read = (seq: number, more = {}) =>
      fay.socket.emitWithAck("room.read", { roomId: id, seq, ...more }).then(unwrap);
    await read(said.seq);
    await read(0, { unread: true });
    const [first] = (await ann.browser.get<Mentions>(`/api/rooms/${id}/messages`)).body.messages;
    if (first) await edit(first, "@room, edited");
    const role = await ann.browser.fetch("PUT", `/api/rooms/${id}/members/${fay.user.id}`, {
      role: "moderator",
    });
    expect(role.status).toBeLessThan(300);
    expect(await seen()).toEqual([2, ["@room, with fay", "@fay, come and look"]]);

    unwrap(await fay.socket.emitWithAck("room.leave", { roomId: id }));
    await ann.say(id, "@room, while fay is away");
    expect(await house.redis.hexists(house.keys.joined(id), fay.user.id)).toBe(0);
    expect(
      (await ann.browser.fetch("PUT", `/api/rooms/${id}/members/${fay.user.id}`, {})).status,
    ).toBeLessThan(300);
    expect((await toldTo(fay)).filter((text) => text.startsWith("@room"))).toEqual([]);
    await ann.say(id, "@room, again");
    expect((await toldTo(fay))[0]).toBe("@room, again");
    // Whoever made the room hears all of it.
    expect(await house.redis.hexists(house.keys.joined(id), ann.user.id)).toBe(0);
    fay.close();
  });

  it("is listed also behind hundreds of messages to everybody by the reader", async () => {
    const { id } = await ann.makes({ name: "one who calls a lot" });
    unwrap(await ben.socket.emitWithAck("room.join", { roomId: id }));
    const known = await toldTo(ben);
    const named = await ann.say(id, "@ben.b, at the bottom");
    for (let count = 0; count < 130; count += 1) await ben.say(id, `@room, number ${count}`);
    await ann.say(id, "@room, in between");
    for (let count = 130; count < 260; count += 1) await ben.say(id, `@room, number ${count}`);
    const page = async (query: string) => (await ben.browser.get<Mentions>(`/api/mentions?${query}`)).body;
    const first = await page("size=1");
    expect(first).toMatchObject({ messages: [{ message: "@room, in between" }], more: true });
    const [newest] = first.messages;
    const second = await page(`size=1&before=${newest?.date}`);
    expect(second).toMatchObject({
      messages: [{ message: "@ben.b, at the bottom" }],
      more: known.length > 0,
    });
    expect((await toldTo(ben)).slice(0, 2)).toEqual(["@room, in between", named.message]);
  });

  it("of the room is not made again and again", async () => {
    const strict = await replicas(1, { RATE_LIMITS: "on" });
    try {
      const [only] = strict.replicas;
      if (only === undefined) throw new Error("There is no replica");
      const loud = await person(only, "loud");
      const codes: string[] = [];
      for (let number = 0; number <= RATES.mentionRoom.points; number += 1) {
        const reply = await loud.socket.emitWithAck("message", {
          roomId: "0",
          message: `@room ${number}`,
          nonce: `loud${number}`,
        });
        codes.push(reply.ok ? "stored" : reply.error.code);
      }
      expect(codes).toEqual([...Array<string>(RATES.mentionRoom.points).fill("stored"), "rate_limited"]);
      expect(await loud.say("0", "`@room` is only code")).not.toHaveProperty("mentionsRoom");
      loud.close();
    } finally {
      await strict.close();
    }
  });

  it("of hundreds in one text is told to the first ones, and says nothing of names that nobody has", async () => {
    const text = `${Array.from({ length: 400 }, (_, index) => `@x${index}z`).join(" ")} @ben.b`;
    expect(await ann.say(roomId, text.slice(-LIMITS.message))).not.toHaveProperty("mentions");
    expect((await ann.say(roomId, "@ben.b ".repeat(400))).mentions).toEqual([ben.user.id]);
  });
});
