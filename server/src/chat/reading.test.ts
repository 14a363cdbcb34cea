import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Failure, Message, Reply, Room, Thread } from "../protocol.ts";
import {
  both,
  newServer,
  person,
  startWire,
  testRedisUrl,
  until,
  unwrap,
  windowOf,
  type House,
  type Person,
} from "../testing.ts";

let house: House;
let owner: Person;
let ann: Person;
let bob: Person;
beforeAll(async () => {
  house = await newServer(2);
  const [left, right] = both(house);
  owner = await person(left, "olga");
  ann = await person(right, "ann");
  bob = await person(left, "bob");
});
afterAll(() => house.close());

const pathOf = (id: string) => `/api/rooms/${id}`;
/** Adds somebody to a room, and waits until their connection hears it. */
const add = async (id: string, one: Person) => {
  const shown = new Promise<void>((resolve) =>
    one.socket.on("show.room", function look(room) {
      if (room.id !== id) return;
      one.socket.off("show.room", look);
      resolve();
    }),
  );
  await ann.browser.fetch("PUT", `${pathOf(id)}/members/${one.user.id}`, {});
  await shown;
};
const remove = (id: string, one: Person) =>
  ann.browser.fetch("DELETE", `${pathOf(id)}/members/${one.user.id}`);
let answers = 0;
const answer = async (one: Person, replyTo: number, message: string, roomId = "0"): Promise<Message> => {
  const nonce = `answer${(answers += 1)}`;
  return unwrap(await one.socket.emitWithAck("message", { roomId, message, nonce, replyTo }));
};
const send = (one: Person, roomId: string, message: string, nonce: string): Promise<Reply<Message>> =>
  one.socket.emitWithAck("message", { roomId, message, nonce });

describe("somebody who is removed while they read a room", () => {
  it("reads nothing that was said, changed or done to their own messages after that", async () => {
    const { keys } = house;
    let hold: (() => Promise<void>) | undefined;
    let isRead: (chunk: string) => boolean = () => false;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      const held = hold;
      if (held && from === "replica" && isRead(chunk.toString("latin1"))) {
        hold = undefined;
        await held();
      }
      return chunk;
    });
    const window = await windowOf(bob, await house.addReplica({ REDIS_URL: wire.url }));
    const ways: Record<string, (id: string, seq: number) => Promise<unknown>> = {
      sync: (roomId) => window.socket.emitWithAck("sync", { rooms: [{ roomId, seq: 0, date: 0 }] }),
      around: (id, seq) => window.browser.get(`${pathOf(id)}/messages?around=${seq}`),
      thread: (id, seq) => window.browser.get(`${pathOf(id)}/messages?thread=${seq}`),
      pinned: (id) => window.browser.get(`${pathOf(id)}/messages?pinned=true`),
      mentions: () => window.browser.get("/api/mentions"),
      transcript: (id) => window.browser.get(`${pathOf(id)}/transcript`).catch(() => "cut"),
      export: () => window.browser.get("/api/me/export"),
    };
    for (const [way, read] of Object.entries(ways)) {
      const { id } = await ann.makes({ name: `Read by ${way}`, kind: "invite" });
      await add(id, bob);
      const own = await bob.say(id, `mine ${way}`);
      const first = await ann.say(id, `before @bob ${way}`);
      unwrap(await ann.socket.emitWithAck("message.pin", { roomId: id, seq: first.seq, on: true }));
      const key = keys.room(id);
      const reads = (command: string) => (chunk: string) =>
        chunk.includes(`${command}\r\n$${key.length}\r\n${key}\r\n`);
      const runs = (chunk: string) => chunk.includes("eval") && chunk.includes(key);
      isRead =
        {
          sync: runs,
          thread: (chunk: string) => chunk.includes(":thread:"),
          pinned: runs,
          mentions: (chunk: string) => chunk.includes(keys.mentions(id, bob.user.id)),
        }[way] ?? reads("byscore");
      hold = async () => {
        await remove(id, bob);
        unwrap(
          await ann.socket.emitWithAck("message.react", { roomId: id, seq: own.seq, emoji: "🫥", on: true }),
        );
        await answer(ann, first.seq, `secret @bob ${way}`, id);
      };
      const told = JSON.stringify(await read(id, first.seq));
      expect(hold, way).toBeUndefined();
      expect(told, way).not.toContain("secret");
      expect(told, way).not.toContain("🫥");
    }
    window.close();
    await house.replicas.pop()?.close();
    await wire.close();
  });

  it("does not learn by a repeated nonce what became of their message", async () => {
    const { id } = await ann.makes({ name: "Left behind", kind: "invite" });
    await add(id, bob);
    await bob.hears((await ann.say(id, "for both")).message);
    const { seq } = await bob.say(id, "mine", "again");
    await remove(id, bob);
    unwrap(await ann.socket.emitWithAck("message.react", { roomId: id, seq, emoji: "🫥", on: true }));
    expect(await send(bob, id, "mine", "again")).toMatchObject({ error: { code: "not_found" } });
  });
});

describe("a message that is stored", () => {
  it("is answered to a repeated nonce, whatever would refuse it by now", async () => {
    const said = await bob.say("0", "a gosh thing", "stored");
    const edited = { roomId: "0", seq: said.seq, message: "a gosh, gosh thing", nonce: "edited" };
    const change = () => bob.socket.emitWithAck("message.edit", { ...edited, rev: 0 });
    unwrap(await change());
    await owner.browser.fetch("PATCH", "/api/admin/settings", { words: ["gosh"] });
    try {
      const now = unwrap(await send(bob, "0", "a gosh thing", "stored"));
      expect(now).toMatchObject({ seq: said.seq, message: "a gosh, gosh thing" });
      expect(unwrap(await change())).toMatchObject({ seq: said.seq, message: "a gosh, gosh thing" });
      expect(await send(bob, "0", "another gosh thing", "new")).toMatchObject({
        error: { code: "forbidden" },
      });
    } finally {
      await owner.browser.fetch("PATCH", "/api/admin/settings", { words: [] });
    }
  });
});

describe("a disabled account with an open connection that was not told", () => {
  it("reads, joins and hears nothing, in General and direct rooms too", async () => {
    const wire = await startWire(testRedisUrl(), (chunk, from) =>
      from === "redis"
        ? Buffer.from(chunk.toString("latin1").replaceAll('"type":"account"', '"type":"unheard"'), "latin1")
        : chunk,
    );
    const third = await house.addReplica({ REDIS_URL: wire.url });
    const zoe = await person(both(house)[0], "zoe");
    const window = await windowOf(zoe, third);
    const direct = (await ann.browser.post<Room>("/api/rooms/private", { userId: zoe.user.id })).body.id;
    await ann.say(direct, "before");
    await owner.browser.fetch("PATCH", `/api/admin/users/${zoe.user.id}`, { disabled: true });
    await ann.say(direct, "secret");
    const rooms = [{ roomId: direct, seq: 0, date: 0 }];
    expect(JSON.stringify(await window.socket.emitWithAck("sync", { rooms }))).not.toContain("secret");
    for (const roomId of ["0", direct])
      expect((await window.socket.emitWithAck("room.join", { roomId })).ok, roomId).toBe(false);
    await ann.say(direct, "later");
    const { message } = await bob.say("0", "later to all");
    await ann.hears(message);
    expect(window.messages.filter(({ message: text }) => text.startsWith("later"))).toEqual([]);
    for (const one of [zoe, window]) one.close();
    await house.replicas.pop()?.close();
    await wire.close();
  });
});

describe("somebody who is barred while a direct room is shown to them", () => {
  it("hears nothing that is said there after that", async () => {
    let direct = "";
    let bar: (() => Promise<unknown>) | undefined;
    let barred: Promise<unknown> | undefined;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      const text = chunk.toString("latin1");
      if (from === "redis")
        return Buffer.from(text.replaceAll('"type":"account"', '"type":"unheard"'), "latin1");
      // The page of a room that is shown.
      if (bar && text.includes(`byscore\r\n$${direct.length}\r\n${direct}\r\n`)) await (barred ??= bar());
      return chunk;
    });
    const third = await house.addReplica({ REDIS_URL: wire.url });
    const zoe = await person(both(house)[0], "zoe-shown");
    const [window, watcher] = [await windowOf(zoe, third), await windowOf(bob, third)];
    const { id } = (await ann.browser.post<Room>("/api/rooms/private", { userId: zoe.user.id })).body;
    direct = house.keys.room(id);
    const hidden = new Promise((resolve) => window.socket.once("hide.room", resolve));
    bar = async () => {
      await owner.browser.fetch("PATCH", `/api/admin/users/${zoe.user.id}`, { disabled: true });
      await hidden;
      // General is hidden. The same is heard of the direct room, which has nobody yet.
      await sleep(100);
    };
    await ann.say(id, "before");
    await until(() => barred !== undefined);
    await barred;
    // Time to be shown the room, as they must not be.
    await sleep(200);
    await ann.say(id, "later");
    const { message } = await bob.say("0", "later to all");
    await watcher.hears(message);
    expect(window.messages.map(({ message: text }) => text)).not.toContain("later");
    for (const one of [zoe, window, watcher]) one.close();
    await house.replicas.pop()?.close();
    await wire.close();
  });
});

describe("what is told of a thread", () => {
  it("has an answer that is not deleted as its last, however many after it are", async () => {
    const root = await bob.say("0", "root");
    const kept = await answer(bob, root.seq, "kept");
    for (let count = 0; count < 21; count += 1) {
      const { seq } = await answer(bob, root.seq, `taken back ${count}`);
      unwrap(await bob.socket.emitWithAck("message.delete", { roomId: "0", seq }));
    }
    type Threads = { threads: Thread[] };
    const { body } = await ann.browser.get<Threads>("/api/rooms/0/messages?threads=true");
    expect(body.threads.find(({ seq }) => seq === root.seq)).toMatchObject({
      count: 1,
      last: { seq: kept.seq },
    });
  });
});

describe("rows in a room that are no messages", () => {
  it("hide no message, however many stand together", async () => {
    const { redis, keys } = house;
    const zoe = await person(both(house)[0], "zoe-too");
    const { id } = await ann.makes({ name: "Strays" });
    unwrap(await zoe.socket.emitWithAck("room.join", { roomId: id }));
    const { date } = await zoe.say(id, "first");
    const strays = Array.from({ length: 240 }, (_, row) => [date + (1 + row) / 1_000, `stray ${row}`]);
    await redis.zadd(keys.room(id), ...strays.flat());
    // Beyond the strays, which are within one ms.
    await sleep(3);
    const second = await zoe.say(id, "second");
    const texts = async (query: string) =>
      (await ann.browser.get<{ messages: Message[] }>(`${pathOf(id)}/messages${query}`)).body.messages.map(
        ({ message }) => message,
      );
    expect(await texts("?size=2")).toEqual(["first", "second"]);
    expect(await texts(`?before=${second.date}`)).toEqual(["first"]);
    expect(await texts(`?after=${date}`)).toEqual(["second"]);
    expect((await ann.browser.get<string>(`${pathOf(id)}/transcript`)).body).toContain("second");
    expect(JSON.stringify((await zoe.browser.get("/api/me/export")).body)).toContain("second");
    await zoe.browser.fetch("DELETE", "/api/me", { password: "correct horse", messages: "delete" });
    await until(async () => (await redis.zcard(keys.farewells)) === 0);
    expect(await texts("")).toEqual(["", ""]);
    await redis.zadd(keys.room(id), Date.now() + 1e6, "later 1", Date.now() + 1e6, "later 2");
    const { body } = await ann.browser.get<Room[]>("/api/rooms");
    expect(body.find((one) => one.id === id)?.last).toMatchObject({ seq: second.seq });
    zoe.close();
  });
});

describe("the directory", () => {
  it("has every open room, page by page, whatever rooms of others stand between them", async () => {
    for (const name of ["one", "two", "three"]) await ann.makes({ name: `Hidden ${name}`, kind: "invite" });
    await ann.makes({ name: "Open at last" });
    const names: string[] = [];
    for (let after = "0"; ;) {
      const path = `/api/rooms/directory?after=${after}&size=2`;
      const { body } = await bob.browser.get<{ id: string; name: string }[]>(path);
      if (body.length === 0) break;
      names.push(...body.map(({ name }) => name));
      after = body.at(-1)!.id;
    }
    expect(names).toContain("Open at last");
    expect(names.filter((name) => name.startsWith("Hidden"))).toEqual([]);
  });
});

describe("a direct room with somebody who is gone", () => {
  it("cannot be begun, by whichever door", async () => {
    const gone = await person(both(house)[0], "goner");
    await gone.browser.fetch("DELETE", "/api/me", { password: "correct horse", messages: "keep" });
    gone.close();
    const { body } = await bob.browser.post<Failure>("/api/rooms/private", { userId: gone.user.id });
    expect(body.code).toBe("not_found");
    const roomId = `${bob.user.id}:${gone.user.id}`;
    expect(await send(bob, roomId, "hello?", "gone")).toMatchObject({ error: { code: "not_found" } });
  });
});
