import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Failure, Found, ListedRoom, Room, RoomId, SyncedRoom } from "../protocol.ts";
import type { Replica } from "../server.ts";
import {
  PATIENCE_MS,
  both,
  commandsDuring,
  person,
  replicas,
  until,
  windowOf,
  type House,
  type Person,
} from "../testing.ts";

let house: House;
let left: Replica;
let right: Replica;
let mary: Person;
let joe: Person;
beforeAll(async () => {
  house = await replicas(2);
  [left, right] = both(house);
  mary = await person(left, "mary");
  joe = await person(right, "joe");
});
afterAll(() => house.close());

/** Sends any event; answers the reply without the fields that differ by the id alone. */
async function ask({ socket }: Person, event: string, body: object): Promise<unknown> {
  const untyped = socket.timeout(PATIENCE_MS) as unknown as {
    emitWithAck: (event: string, body: object) => Promise<object>;
  };
  return untyped.emitWithAck(event, body);
}

/** A person's directory, and what a search in it finds. */
async function directoryOf({ browser }: Person, q: string) {
  const { body: listed } = await browser.get<ListedRoom[]>("/api/rooms/directory");
  const { body: found } = await browser.get<Found<ListedRoom>>(`/api/rooms/directory?q=${q}`);
  return { listed, found };
}

describe("the kind of a room", () => {
  it("is told wherever a room is described, with the two users of a direct room", async () => {
    const open = await mary.makes({ name: "A workshop" });
    const named = await mary.makes({ name: "Another workshop", kind: "open" });
    const invite = await mary.makes({ name: "A back room", kind: "invite" });
    const shown = new Promise<Room>((resolve) => joe.socket.once("show.room", resolve));
    const { body: direct } = await mary.browser.post<Room>("/api/rooms/private", { userId: joe.user.id });
    await mary.say(direct.id, "hello");
    const userIds = [mary.user.id, joe.user.id];
    expect(await shown).toMatchObject({ kind: "direct", private: true, userIds });
    expect(direct).toMatchObject({ kind: "direct", private: true, userIds });
    expect([open.kind, named.kind, invite.kind]).toEqual(["open", "open", "invite"]);
    expect(open).toMatchObject({ private: false });
    expect(open).not.toHaveProperty("userIds");

    const { body: rooms } = await mary.browser.get<Room[]>("/api/rooms");
    const kinds = Object.fromEntries(rooms.map(({ id, kind }) => [id, kind]));
    expect(kinds).toMatchObject({
      "0": "everyone",
      [open.id]: "open",
      [named.id]: "open",
      [invite.id]: "invite",
      [direct.id]: "direct",
    });
    expect(await ask(joe, "room.join", { roomId: open.id })).toMatchObject({
      value: { room: { kind: "open", private: false } },
    });
    const { listed } = await directoryOf(mary, "");
    expect(listed.find(({ id }) => id === open.id)).toMatchObject({ kind: "open", name: "A workshop" });
    expect(listed.find(({ id }) => id === invite.id)).toMatchObject({ kind: "invite", joined: true });
  });

  it("is open if a server of before stored none, and a kind that this version does not know hides the room from strangers", async () => {
    const { redis, keys } = house;
    const { id } = await mary.makes({ name: "From before" });
    await redis.hdel(keys.meta(id), "kind");
    await redis.hset(keys.settings, "kinds", Number(id) - 1);
    const later = await mary.makes({ name: "Of a later version" });
    await redis.hset(keys.meta(later.id), "kind", "moderated");
    const next = await house.addReplica();
    expect(await redis.hget(keys.meta(id), "kind")).toBe("open");
    const visitor = await windowOf(joe, next);
    expect(await ask(visitor, "room.join", { roomId: id })).toMatchObject({ ok: true });
    expect(await ask(visitor, "room.join", { roomId: later.id })).toMatchObject({
      error: { code: "not_found" },
    });
    visitor.close();
  });

  it("hides a room that has lost it from strangers, and its owner opens it again", async () => {
    const { redis, keys } = house;
    const secret = await mary.makes({ name: "Behind a door", kind: "invite" });
    await mary.say(secret.id, "behind it");
    const open = await mary.makes({ name: "In the market" });
    await until(async () => (await redis.hget(keys.settings, "kinds")) === open.id);
    // Redis has lost the one's whole key, and the kind of the other.
    await redis.del(keys.meta(secret.id));
    await redis.hdel(keys.meta(open.id), "kind");
    const next = await house.addReplica();
    const visitor = await windowOf(joe, next);
    for (const { id } of [secret, open]) {
      expect(await ask(visitor, "room.join", { roomId: id })).toMatchObject({ error: { code: "not_found" } });
      expect((await directoryOf(visitor, "")).listed.map((room) => room.id)).not.toContain(id);
    }
    const owner = await windowOf(mary, next);
    await owner.say(secret.id, "still behind it");
    expect(await ask(visitor, "room.join", { roomId: secret.id })).toMatchObject({
      error: { code: "not_found" },
    });
    const { status } = await owner.browser.fetch("PATCH", `/api/rooms/${open.id}`, { kind: "open" });
    expect(status).toBe(200);
    expect(await ask(visitor, "room.join", { roomId: open.id })).toMatchObject({ ok: true });
    // Servers keep what they know if that is lost too.
    await redis.hdel(keys.settings, "kinds");
    await redis.hdel(keys.meta(open.id), "kind");
    await ask(visitor, "room.leave", { roomId: open.id });
    expect(await ask(visitor, "room.join", { roomId: open.id })).toMatchObject({
      error: { code: "not_found" },
    });
    await until(async () => (await redis.hget(keys.settings, "kinds")) === open.id);
    visitor.close();
    owner.close();
  });

  it.each(["everyone", "direct", "", "Invite", null, 1, ["invite"]])("cannot be set to %j", async (kind) => {
    const { status, body } = await mary.browser.post<Failure>("/api/rooms", { name: "No such", kind });
    expect([status, body.code]).toEqual([400, "invalid"]);
  });
});

describe("an invite room", () => {
  it("does not exist for strangers by any route, and exists for its creator", async () => {
    const { id } = await mary.makes({ name: "Quiet corner", kind: "invite" });
    await mary.say(id, "among ourselves");
    const unknown = "424242";
    const ways: ((who: Person, roomId: RoomId) => Promise<unknown>)[] = [
      (who, roomId) => ask(who, "room.join", { roomId }),
      (who, roomId) => ask(who, "room.leave", { roomId }),
      (who, roomId) => ask(who, "room.read", { roomId, seq: 1 }),
      (who, roomId) => ask(who, "message", { roomId, message: "let me in", nonce: "n" }),
      async (who, roomId) => {
        const reply = await ask(who, "sync", { rooms: [{ roomId, seq: 0, date: 0 }] });
        const { value } = reply as { value: { rooms: SyncedRoom[] } };
        return value.rooms.map((told) => ({ ...told, roomId: "" }));
      },
      ...["messages", "messages?size=1", "messages/", "transcript", "nothing"].map(
        (path) => async (who: Person, roomId: RoomId) => {
          const { status, body } = await who.browser.get(`/api/rooms/${roomId}/${path}`);
          return { status, body };
        },
      ),
    ];
    for (const way of ways) expect(await way(joe, id)).toEqual(await way(joe, unknown));

    const { listed, found } = await directoryOf(joe, "quiet");
    expect(listed.map((room) => room.id)).not.toContain(id);
    expect(found).toEqual({ found: [], total: 0, complete: true });
    expect((await directoryOf(mary, "quiet")).found).toMatchObject({
      found: [{ id, kind: "invite" }],
      total: 1,
    });
    const page = await joe.browser.get(`/api/rooms/directory?q=quiet&after=${id}`);
    expect(page.body).toEqual({ found: [], total: 0, complete: true });
    // A search for the empty text is the directory again.
    expect((await directoryOf(joe, "")).found.found.map((room) => room.id)).not.toContain(id);

    expect((await mary.browser.get<Room[]>("/api/rooms")).body.map((room) => room.id)).toContain(id);
    expect(await mary.hears("among ourselves")).toMatchObject({ roomId: id });
    expect(joe.messages.map(({ message }) => message)).not.toContain("among ourselves");
  });

  it("can be joined again by a member whose own list lost it, but not by somebody who left", async () => {
    const { id } = await mary.makes({ name: "Lost and found", kind: "invite" });
    await house.redis.srem(house.keys.userRooms(mary.user.id), id);
    expect(await ask(mary, "room.join", { roomId: id })).toMatchObject({ ok: true });
    expect(await ask(mary, "room.leave", { roomId: id })).toEqual({ ok: true, value: null });
    expect(await ask(mary, "room.join", { roomId: id })).toMatchObject({ error: { code: "not_found" } });
  });

  it("has its kind before it has its name, and leaves nothing that lasts where the name is taken", async () => {
    let id = "";
    const commands = await commandsDuring(async () => {
      ({ id } = await mary.makes({ name: "In this order", kind: "invite" }));
    });
    const at = (...words: string[]) =>
      commands.findIndex((command) => words.every((word, place) => command[place] === word));
    const kind = at("hset", house.keys.meta(id), "kind", "invite");
    const name = at("setnx", house.keys.roomName(id), "In this order");
    expect(kind).toBeGreaterThanOrEqual(0);
    expect(name).toBeGreaterThan(kind);

    const taken = await mary.browser.post<Failure>("/api/rooms", { name: "in this 0rder", kind: "invite" });
    expect([taken.status, taken.body.code]).toEqual([409, "taken"]);
    const last = (await house.redis.get(house.keys.totalRooms)) ?? "";
    expect(Number(last)).toBeGreaterThan(Number(id));
    expect(await house.redis.exists(house.keys.records(last), house.keys.roomName(last))).toBe(0);
    // For a while, that nobody comes in.
    expect(await house.redis.hkeys(house.keys.meta(last))).toEqual(["making"]);
    expect(await house.redis.pttl(house.keys.meta(last))).toBeGreaterThan(0);
  });

  it("is found by its members alone once the replica has read that it became one", async () => {
    const { id } = await mary.makes({ name: "Turncoat" });
    await until(async () => (await directoryOf(joe, "turncoat")).found.total === 1);
    await house.redis.hset(house.keys.meta(id), "kind", "invite");
    // Until then its name matches, but is not told.
    expect((await directoryOf(joe, "turncoat")).found.found).toEqual([]);
    expect((await directoryOf(mary, "turncoat")).found.found).toMatchObject([{ id, kind: "invite" }]);
  });
});

it("only store/kinds.ts and its users in store/ decide by the shape of a room's id", () => {
  const deciding = ["server/src", "client/src"].flatMap((folder) => {
    const path = fileURLToPath(new URL(`../../../${folder}`, import.meta.url));
    const files = readdirSync(path, { recursive: true, encoding: "utf8" });
    return files
      .filter((file) => /(?<!\.test)\.tsx?$/.test(file))
      .filter((file) => /\b(?:pairOf|GENERAL|privateRoomId)\b/.test(readFileSync(`${path}/${file}`, "utf8")))
      .map((file) => `${folder}/${file}`);
  });
  const store = ["kinds", "rooms", "schema"].map((name) => `server/src/store/${name}.ts`);
  expect(deciding.toSorted()).toEqual(store);
});
