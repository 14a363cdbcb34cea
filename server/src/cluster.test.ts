import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Invite, Room } from "./protocol.ts";
import {
  both,
  newServer,
  ownRedis,
  person,
  until,
  unwrap,
  type House,
  type OwnRedis,
  type Person,
} from "./testing.ts";

let own: OwnRedis;
let house: House;
let ann: Person;
let bob: Person;
let room: Room;

beforeAll(async () => {
  own = await ownRedis({
    persistent: false,
    args: ["cluster-enabled yes", "cluster-announce-ip 127.0.0.1"],
  });
  const redis = new Redis(own.url);
  await redis.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
  await until(async () => String(await redis.call("CLUSTER", "INFO")).includes("cluster_state:ok"));
  redis.disconnect();
  house = await newServer(2, { REDIS_URL: own.url.replace("redis:", "redis+cluster:") });
  [ann, bob] = [await person(both(house)[0], "ann"), await person(both(house)[1], "bob")];
  room = await ann.makes({ name: "Tea", topic: "Leaves" });
});
afterAll(async () => {
  await house.close();
  await own.close();
});

/** Throws for any answer but a success. */
async function ask<Body>(who: Person, method: string, path: string, body?: object): Promise<Body> {
  const answer = await who.browser.fetch<Body>(method, path, body);
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

describe("on a Cluster", () => {
  it("rooms are named, set, entered and left", async () => {
    const path = `/api/rooms/${room.id}`;
    await ask(ann, "PATCH", path, { topic: "Pots", slow: 1, kind: "invite" });
    expect(await ask(ann, "PATCH", path, { name: "Coffee", slow: 0 })).toMatchObject({ names: ["Coffee"] });
    const { code } = await ask<Invite>(ann, "POST", `${path}/invites`, { uses: 2 });
    await ask(bob, "POST", `/api/invites/${code}`);
    await ask(ann, "PUT", `${path}/members/${bob.user.id}`, { role: "moderator" });
    await ask(ann, "PUT", `${path}/bans/${bob.user.id}`, {});
    await ask(ann, "DELETE", `${path}/bans/${bob.user.id}`);
    await ask(ann, "PUT", `${path}/members/${bob.user.id}`, {});
    expect(await ask<Room[]>(bob, "GET", "/api/rooms")).toMatchObject([{ id: "0" }, { names: ["Coffee"] }]);
    await ask(ann, "PATCH", path, { kind: "open", archived: true });
    await ask(ann, "PATCH", path, { archived: false });
    unwrap(await bob.socket.emitWithAck("room.leave", { roomId: room.id }));
    unwrap(await bob.socket.emitWithAck("room.join", { roomId: room.id }));
    expect(await ask(bob, "GET", "/api/rooms/directory?q=coff")).toMatchObject({ total: 1 });
  });

  it("messages are said, answered, changed, pinned, found and reported", async () => {
    const { id: roomId } = room;
    const said = await bob.say(roomId, "hello @room @ann");
    await ann.hears("hello @room @ann");
    const { seq } = said;
    const answer = { roomId, message: "an answer", nonce: "a1", replyTo: seq };
    unwrap(await ann.socket.emitWithAck("message", answer));
    const edit = { roomId, seq, message: "good day @ann", rev: 0, nonce: "e1" };
    unwrap(await bob.socket.emitWithAck("message.edit", edit));
    unwrap(await ann.socket.emitWithAck("message.react", { roomId, seq, emoji: "👍", on: true }));
    unwrap(await ann.socket.emitWithAck("message.pin", { roomId, seq, on: true }));
    unwrap(await ann.socket.emitWithAck("room.read", { roomId, seq }));
    for (const query of ["threads=true", `thread=${seq}`, "pinned=true", `around=${seq}`, "at=0"])
      expect(await ask(ann, "GET", `/api/rooms/${roomId}/messages?${query}`)).toHaveProperty("messages.0");
    expect(await ask(ann, "GET", "/api/search?q=good")).toHaveProperty("hits.0.message.seq", seq);
    expect(await ask(ann, "GET", "/api/mentions")).toHaveProperty("messages.0.seq", seq);
    await ask(bob, "POST", "/api/reports", { roomId, seq, reason: "Tea is better." });
    unwrap(await bob.socket.emitWithAck("message.delete", { roomId, seq }));
    const { id: pair } = await ask<Room>(ann, "POST", "/api/rooms/private", { userId: bob.user.id });
    await ann.say(pair, "just us");
    await bob.hears("just us");
    unwrap(await bob.socket.emitWithAck("sync", { rooms: [{ roomId, seq: 0, date: 0 }] }));
  });

  it("accounts are named, disabled, enabled and deleted", async () => {
    const cid = await person(both(house)[1], "cid");
    unwrap(await cid.socket.emitWithAck("room.join", { roomId: room.id }));
    await ask(cid, "PATCH", "/api/me", { displayName: "Cid the Kid" });
    await ask(cid, "POST", "/api/me/password", { current: "correct horse", next: "battery staple" });
    const path = `/api/admin/users/${cid.user.id}`;
    await ask(ann, "PATCH", path, { role: "admin" });
    await ask(ann, "PATCH", path, { disabled: true });
    await ask(ann, "PATCH", path, { disabled: false });
    await ask(ann, "POST", `${path}/reset`);
    await ask(ann, "GET", "/api/admin/stats");
    await ask(ann, "DELETE", path);
    expect(await ask(ann, "GET", `/api/users?ids=${cid.user.id}`)).toMatchObject([{ deleted: true }]);
    cid.close();
  });
});

it("a script with keys in several slots, which one Redis runs, is refused in tests", async () => {
  const redis = new Redis(own.url, { lazyConnect: true });
  const run = async (keys: string[]) => redis.eval("return 1", keys.length, ...keys);
  await expect(run(["room:1:name", "{room:1}:meta"])).rejects.toThrow("several slots");
  expect(await run(["room:1", "{room:1}:meta"])).toBe(1);
  redis.disconnect();
});
