import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../config.ts";
import type { Changes, Message, Page, Reply, RoomId, Room, SyncedRoom } from "../protocol.ts";
import type { Replica } from "../server.ts";
import {
  both,
  commandsDuring,
  person,
  replicas,
  until,
  unwrap,
  type House,
  type Person,
} from "../testing.ts";
import { Log } from "./log.ts";

/** A person, and the messages their client would show after everything it heard. */
type Reader = Person & { shown: Map<number, Message>; heard: (Changes & { roomId: RoomId })[] };

async function reader(replica: Pick<Replica, "address">): Promise<Reader> {
  const shown = new Map<number, Message>();
  const heard: Reader["heard"] = [];
  const one = Object.assign(await person(replica), { shown, heard });
  const take = (message: Message) => {
    const known = shown.get(message.seq);
    if (!known || (message.rev ?? 0) > (known.rev ?? 0)) shown.set(message.seq, message);
  };
  one.socket.on("message", take);
  one.socket.on("changes", (changes) => {
    heard.push(changes);
    changes.messages.forEach(take);
  });
  return one;
}

const edit = (who: Person, { roomId, seq, rev = 0 }: Message, message: string, nonce = `e${Math.random()}`) =>
  who.socket.emitWithAck("message.edit", { roomId, seq, message, rev, nonce });
const remove = (who: Person, { roomId, seq }: Pick<Message, "roomId" | "seq">) =>
  who.socket.emitWithAck("message.delete", { roomId, seq });
const react = (who: Person, { roomId, seq }: Message, emoji: string, on = true) =>
  who.socket.emitWithAck("message.react", { roomId, seq, emoji, on });
const pin = (who: Person, { roomId, seq }: Message, on = true) =>
  who.socket.emitWithAck("message.pin", { roomId, seq, on });
const codeOf = (reply: Reply<unknown>) => (reply.ok ? "done" : reply.error.code);

describe("a stored message", () => {
  let house: House;
  let mary: Reader;
  let joe: Reader;
  let roomId: RoomId;
  beforeAll(async () => {
    house = await replicas(2);
    const [left, right] = both(house);
    [mary, joe] = await Promise.all([reader(left), reader(right)]);
    roomId = (await mary.makes({ name: "changes" })).id;
    unwrap(await joe.socket.emitWithAck("room.join", { roomId }));
  });
  afterAll(() => house.close());

  const stored = async (): Promise<Message[]> =>
    (await mary.browser.get<{ messages: Message[] }>(`/api/rooms/${roomId}/messages`)).body.messages;
  const bothShow = (test: (message: Message) => boolean, { seq }: Message) =>
    until(() => [mary, joe].every(({ shown }) => test(shown.get(seq) as Message)));
  const sync = async (who: Person, cursor: object): Promise<SyncedRoom> => {
    const answer = await who.socket.emitWithAck("sync", { rooms: [{ roomId, ...cursor } as never] });
    return unwrap(answer).rooms[0] as SyncedRoom;
  };

  it("keeps its place when edited, and every replica shows the new text", async () => {
    const said = await mary.say(roomId, "teh text");
    await joe.hears("teh text");
    const now = unwrap(await edit(mary, said, "the text"));
    const { date, hash, seq, from, nonce } = said;
    expect(now).toMatchObject({ date, hash, seq, from, nonce, message: "the text", editRev: now.rev });
    await bothShow((message) => message.message === "the text", said);
    expect(joe.shown.get(seq)).toEqual(now);
    expect((await stored()).find((one) => one.seq === seq)).toEqual(now);
  });

  it("is edited once by a repeated edit, and only by its author", async () => {
    const said = await mary.say(roomId, "first");
    const once = unwrap(await edit(mary, said, "second", "same"));
    const again = unwrap(await edit(mary, said, "second", "same"));
    expect(again).toEqual(once);
    expect(codeOf(await edit(joe, said, "mine"))).toBe("forbidden");
  });

  it("answers a conflict with its present state if another window edited it, but not if somebody reacted", async () => {
    const said = await mary.say(roomId, "draft");
    unwrap(await react(joe, said, "👍"));
    const now = unwrap(await edit(mary, said, "version 1"));
    const reply = await edit(mary, said, "version 2");
    expect(reply).toEqual({
      ok: false,
      error: { code: "conflict", message: expect.any(String) as string, current: now },
    });
    expect(unwrap(await edit(mary, now, "version 2")).message).toBe("version 2");
  });

  it("is gone from every key once deleted, even if it is edited at the same moment", async () => {
    const said = await mary.say(roomId, "a secret nobody shall keep");
    unwrap(await react(joe, said, "🎉"));
    unwrap(await pin(joe, said));
    const [, gone] = await Promise.all([edit(mary, said, "a secret nobody may keep"), remove(mary, said)]);
    expect(unwrap(gone)).toMatchObject({ message: "", seq: said.seq, hash: said.hash, from: mary.user.id });
    expect(unwrap(await remove(mary, said))).toEqual(unwrap(gone));
    expect(codeOf(await edit(mary, unwrap(gone), "back"))).toBe("conflict");
    expect(codeOf(await react(joe, said, "🎉"))).toBe("conflict");
    expect(codeOf(await pin(joe, said))).toBe("conflict");
    await bothShow((message) => message.deleted !== undefined, said);
    const { redis, keys } = house;
    const prefix = keys.channel.replace("MESSAGES", "");
    for (const key of await redis.keys(`*${prefix}*`)) {
      const type = await redis.type(key);
      const held =
        type === "zset"
          ? await redis.zrange(key, "0", "-1")
          : type === "hash"
            ? Object.values(await redis.hgetall(key))
            : type === "set"
              ? await redis.smembers(key)
              : [await redis.get(key)];
      expect(held.join("\n"), key).not.toContain("a secret nobody");
    }
    // A retry does not bring it back.
    expect(await mary.say(roomId, "a secret nobody shall keep", said.nonce)).toEqual(unwrap(gone));
  });

  it("is left alone by a change that means another message, which had its number before the log lost it", async () => {
    const said = await mary.say(roomId, "what is stored now");
    const lost = { ...said, hash: "0123456789ab" };
    const target = ({ seq, hash }: Message) => ({ roomId, seq, hash });
    const ask = (message: Message) => [
      mary.socket.emitWithAck("message.edit", { ...target(message), message: "x", rev: 0, nonce: "meant" }),
      mary.socket.emitWithAck("message.react", { ...target(message), emoji: "👍", on: true }),
      mary.socket.emitWithAck("message.pin", { ...target(message), on: true }),
      mary.socket.emitWithAck("message.delete", target(message)),
    ];
    for (const answer of ask(lost)) expect(codeOf(await answer)).toBe("not_found");
    expect((await stored()).at(-1)).toEqual(said);
    for (const answer of ask(said)) expect(codeOf(await answer)).toBe("done");
    expect((await stored()).at(-1)).toMatchObject({ message: "", deleted: expect.any(Number) as number });
  });

  it("gets no answer that means another message, which had its number before the log lost it", async () => {
    const said = await mary.say(roomId, "what is there now");
    const answer = (replyToHash: string) =>
      joe.socket.emitWithAck("message", {
        roomId,
        message: "to that",
        nonce: `to ${replyToHash}`.replace(" ", "-"),
        replyTo: said.seq,
        replyToHash,
      });
    expect(codeOf(await answer("0123456789ab"))).toBe("not_found");
    expect(codeOf(await answer("no hash"))).toBe("invalid");
    expect((await stored()).at(-1)).toEqual(said);
    unwrap(await edit(mary, said, "what is there, in other words"));
    const first = unwrap(await answer(said.hash));
    expect(first).toMatchObject({ replyTo: said.seq, thread: said.seq });
    expect(first).not.toHaveProperty("replyToHash");
    unwrap(await remove(mary, said));
    expect(unwrap(await answer(said.hash))).toEqual(first);
  });

  it("gets no answer if the log loses it between the look-up and the storing", async () => {
    const said = await mary.say(roomId, "here one moment");
    const log = new Log(house.redis, house.keys, readConfig(house.env));
    const send = { roomId, message: "to that", nonce: "late", replyTo: said.seq, thread: said.seq };
    const lost = log.append(joe.user.id, { ...send, answered: { ...said, hash: "0123456789ab" } });
    await expect(lost).rejects.toMatchObject({ code: "not_found" });
    expect((await stored()).at(-1)).toEqual(said);
    const { row } = await log.append(joe.user.id, { ...send, answered: said });
    expect(JSON.parse(row)).toMatchObject({ replyTo: said.seq, thread: said.seq });
  });

  it("is edited by a nonce that was used for a message that the log has lost", async () => {
    const said = await mary.say(roomId, "first");
    await house.redis.set(house.keys.edit(roomId, mary.user.id, "used"), String(said.date - 1));
    expect(unwrap(await edit(mary, said, "second", "used")).message).toBe("second");
    expect(unwrap(await edit(mary, said, "third", "used")).message).toBe("second");
  });

  it("is no longer unread once deleted", async () => {
    const room = async () => {
      const { body } = await joe.browser.get<Room[]>("/api/rooms");
      return body.find(({ id }) => id === roomId) as Room;
    };
    await joe.say(roomId, "all read");
    const said = [await mary.say(roomId, "one"), await mary.say(roomId, "two")];
    expect((await room()).unread).toBe(2);
    unwrap(await remove(mary, said[0] as Message));
    expect(await room()).toMatchObject({ unread: 1, deleted: [said[0]?.seq] });
    unwrap(await joe.socket.emitWithAck("room.read", { roomId, seq: said[1]?.seq ?? 0 }));
    expect(await room()).toMatchObject({ unread: 0 });
    expect((await room()).deleted).toBeUndefined();
  });

  it("keeps one reaction of a kind per user, however often it is switched on or off", async () => {
    const said = await mary.say(roomId, "react!");
    for (const on of [true, true, false, false, true]) unwrap(await react(joe, said, "👩🏽‍🚀", on));
    const now = unwrap(await react(mary, said, "👩🏽‍🚀"));
    expect(now.reactions).toEqual([["👩🏽‍🚀", [joe.user.id, mary.user.id]]]);
    unwrap(await react(mary, said, "👩🏽‍🚀", false));
    expect(unwrap(await react(joe, said, "👩🏽‍🚀", false)).reactions).toBeUndefined();
  });

  it("takes 20 kinds of reactions, and only emoji", async () => {
    const said = await mary.say(roomId, "all of them");
    const kinds = Array.from({ length: 21 }, (_, index) => String.fromCodePoint(0x1f600 + index));
    for (const emoji of kinds.slice(0, 20)) unwrap(await react(joe, said, emoji));
    expect(codeOf(await react(joe, said, kinds[20] as string))).toBe("forbidden");
    expect(codeOf(await react(mary, said, kinds[0] as string))).toBe("done");
    for (const emoji of ["", "a", "1", "😀😀", ":)", "<b>", "😀 ", "\u200d"])
      expect(codeOf(await react(joe, said, emoji)), emoji).toBe("invalid");
  });

  it("can be pinned and unpinned", async () => {
    const said = await mary.say(roomId, "read this");
    expect(unwrap(await pin(joe, said)).pinned).toBeGreaterThan(0);
    expect(await house.redis.zrange(house.keys.pins(roomId), "0", "-1")).toContain(String(said.seq));
    expect(unwrap(await pin(mary, said, false)).pinned).toBeUndefined();
    expect(await house.redis.zrange(house.keys.pins(roomId), "0", "-1")).not.toContain(String(said.seq));
  });

  it("is listed among the pins again by pinning it again, if Redis has lost their list", async () => {
    const said = await mary.say(roomId, "pin me twice");
    unwrap(await pin(mary, said));
    await house.redis.del(house.keys.pins(roomId));
    unwrap(await pin(joe, said));
    const { body } = await joe.browser.get<Page>(`/api/rooms/${roomId}/messages?pinned=true`);
    expect(body.messages.map(({ seq }) => seq)).toEqual([said.seq]);
    unwrap(await pin(joe, said, false));
  });

  it("is answered by its number, and its thread lists the answers", async () => {
    const said = await mary.say(roomId, "who is coming?");
    const answer = async (who: Person, replyTo: number) =>
      unwrap(
        await who.socket.emitWithAck("message", {
          roomId,
          message: "me",
          nonce: `r${Math.random()}`,
          replyTo,
        }),
      );
    const first = await answer(joe, said.seq);
    expect(first).toMatchObject({ replyTo: said.seq, thread: said.seq });
    expect(await answer(mary, first.seq)).toMatchObject({ replyTo: first.seq, thread: said.seq });
    const reply = await joe.socket.emitWithAck("message", {
      roomId,
      message: "to nobody",
      nonce: "r",
      replyTo: 10_000,
    });
    expect(codeOf(reply)).toBe("not_found");
  });

  it("is not lost by a change of it, whichever key of its room somebody has damaged", async () => {
    const { redis, keys } = house;
    const lists = [keys.changed, keys.revs, keys.deleted, keys.pins, keys.roomFiles].map((key) =>
      key(roomId),
    );
    for (const damaged of [...lists, keys.mentions(roomId, joe.user.id)]) {
      const said = await mary.say(roomId, "still here");
      const kept = await redis.dumpBuffer(damaged);
      await redis.del(damaged);
      await redis.rpush(damaged, "of a wrong type");
      await react(mary, said, "👍");
      await edit(mary, said, `@${joe.user.username} still here`);
      await pin(joe, said);
      const [, number] = damaged.split("}");
      expect((await stored()).at(-1), number).toMatchObject({ seq: said.seq, hash: said.hash });
      await remove(mary, said);
      await redis.del(damaged);
      if (kept) await redis.restore(damaged, 0, kept);
      const now = (await stored()).at(-1);
      expect(now, number).toMatchObject({ seq: said.seq, hash: said.hash });
      // What is stored was told, whatever failed afterwards.
      await bothShow((shown) => (shown.rev ?? 0) >= (now?.rev ?? 0), said);
    }
    await redis.del(keys.pins(roomId));
  });

  it("cannot be changed by a stranger to its room, nor if it does not exist", async () => {
    const said = await mary.say(roomId, "among us");
    const { id } = await mary.makes({ name: "only mary" });
    const alone = await mary.say(id, "only mine");
    for (const change of [
      edit(joe, alone, "x"),
      remove(joe, alone),
      react(joe, alone, "👍"),
      pin(joe, alone),
    ])
      expect(codeOf(await change)).toBe("not_found");
    for (const seq of [0, said.seq + 1_000, Number.MAX_SAFE_INTEGER])
      expect(codeOf(await remove(mary, { roomId, seq }))).toBe("not_found");
    expect(codeOf(await edit(mary, said, " \u200b "))).toBe("invalid");
    expect(codeOf(await edit(mary, said, "x".repeat(4_001)))).toBe("too_large");
  });

  it("is caught up on after an absence, or makes a client read again if the changes are forgotten", async () => {
    const said = await mary.say(roomId, "while joe is away");
    const { rev, revHash } = await joe.browser
      .get<{ rev: number; revHash: string }>(`/api/rooms/${roomId}/messages`)
      .then(({ body }) => body);
    const { seq, date, hash } = said;
    const cursor = { seq, date, hash };
    const current = await sync(joe, { ...cursor, rev, revHash });
    expect(current).toEqual({
      roomId,
      messages: [],
      more: false,
      changes: { after: rev, rev, revHash, messages: [] },
    });
    const now = unwrap(await edit(mary, said, "joe was away"));
    unwrap(await react(mary, now, "👍"));
    const { changes } = await sync(joe, { ...cursor, rev, revHash });
    expect(changes).toMatchObject({ after: rev, rev: rev + 2 });
    expect(changes?.messages.map(({ message }) => message)).toEqual(["joe was away"]);
    // A rev of another history, or one that is no longer remembered.
    for (const place of [
      { rev, revHash: "ffffffffffff" },
      { rev: rev + 500, revHash },
      { rev: 1, revHash: "" },
    ])
      expect((await sync(joe, { ...cursor, ...place })).changes).toMatchObject({ rev: rev + 2, reset: true });
    // A client that does not follow changes gets none.
    expect(await sync(joe, cursor)).toEqual({ roomId, messages: [], more: false });
  });

  it("is read directly by its number among 5,000", async () => {
    const { id } = await mary.makes({ name: "long" });
    const log = new Log(house.redis, house.keys, readConfig(house.env));
    for (let start = 0; start < 5_000; start += 500)
      await log.load(
        id,
        Array.from({ length: 500 }, (_, index) => ({
          from: mary.user.id,
          message: `${start + index + 1}`,
          date: 0,
        })),
      );
    // Something that is no message stands before it.
    await house.redis.zadd(house.keys.room(id), 1, "rubbish", 2, "more rubbish");
    const commands = await commandsDuring(async () => {
      unwrap(await react(mary, { roomId: id, seq: 2_345 } as Message, "👍"));
    });
    const reads = commands.filter(
      ([word, key]) => word?.toLowerCase() === "zrange" && key === house.keys.room(id),
    );
    expect(reads.length).toBeLessThanOrEqual(3);
    expect(await log.pages.at(id, 2_345)).toMatchObject({
      message: "2345",
      reactions: [["👍", [mary.user.id]]],
    });
    expect(await log.pages.at(id, 5_001)).toBeNull();
  });
});

describe("concurrent changes", () => {
  it("leave every client with the stored state, whatever announcements were lost", async () => {
    const house = await replicas(2);
    try {
      const [left, right] = both(house);
      const people = await Promise.all([reader(left), reader(left), reader(right), reader(right)]);
      const [mary] = people;
      const deaf = new Log(
        house.redis,
        { ...house.keys, roomChannel: () => `${house.keys.channel}:nowhere` },
        readConfig(house.env),
      );
      await fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              who: fc.nat(3),
              target: fc.nat(4),
              what: fc.constantFrom("edit", "delete", "on", "off", "pin", "unheard"),
              emoji: fc.constantFrom("👍", "🎉", "😀"),
            }),
            { minLength: 1, maxLength: 25 },
          ),
          async (steps) => {
            const { id } = await mary.makes({ name: `r${Math.random()}` });
            for (const one of people) {
              unwrap(await one.socket.emitWithAck("room.join", { roomId: id }));
              one.shown.clear();
            }
            const said: Message[] = [];
            for (let index = 0; index < 5; index += 1)
              said.push(await (people[index % 4] as Reader).say(id, `message ${index}`));
            await Promise.all(
              steps.map(async ({ who, target, what, emoji }) => {
                const one = people[who] as Reader;
                const message = said[target] as Message;
                if (what === "edit") return edit(one, message, `edited ${Math.random()}`);
                if (what === "delete") return remove(one, message);
                if (what === "pin") return pin(one, message, emoji === "👍");
                if (what !== "unheard") return react(one, message, emoji, what === "on");
                return deaf
                  .change("1", { roomId: id, seq: message.seq }, (now) =>
                    now.deleted === undefined ? { ...now, pinned: (now.pinned ?? 0) + 1 } : null,
                  )
                  .catch(() => undefined);
              }),
            );
            // One more message comes after everything that was lost.
            await mary.say(id, `end of ${id}`);
            for (const one of people) await one.hears(`end of ${id}`);
            const log = new Log(house.redis, house.keys, readConfig(house.env));
            const { messages } = await log.pages.page(id, { size: 100 });
            for (const one of people)
              await until(
                () =>
                  JSON.stringify([...one.shown.values()].toSorted((a, b) => a.seq - b.seq)) ===
                  JSON.stringify(messages),
                5_000,
                "the same messages",
              );
          },
        ),
        { numRuns: 25 },
      );
    } finally {
      await house.close();
    }
  });

  it("of one message by 500 people reach clients in few frames, and none is lost", async () => {
    const house = await replicas(2, { RATE_LIMITS: "off" });
    try {
      const [left, right] = both(house);
      const [mary, joe] = await Promise.all([reader(left), reader(right)]);
      const said = await mary.say("0", "react, all of you");
      await joe.hears("react, all of you");
      const log = new Log(house.redis, house.keys, readConfig(house.env));
      const began = performance.now();
      await Promise.all(
        Array.from({ length: 500 }, (_, index) =>
          log.change("1", { roomId: "0", seq: said.seq }, (now) => {
            const users = now.reactions?.[0]?.[1] ?? [];
            return { ...now, reactions: [["👍", [...users, String(1_000 + index)]]] };
          }),
        ),
      );
      const tookMs = performance.now() - began;
      await until(() => joe.shown.get(said.seq)?.reactions?.[0]?.[1].length === 500);
      expect(joe.heard.length).toBeLessThanOrEqual(3 + tookMs / 250);
      for (const [index, { after }] of joe.heard.entries())
        if (index > 0) expect(after).toBe(joe.heard[index - 1]?.rev);
    } finally {
      await house.close();
    }
  });
});
