import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Ban, Failure, Member, Message, Reply, Room, RoomPatch, ServerEvents } from "../protocol.ts";
import { readConfig } from "../config.ts";
import { Members } from "../store/members.ts";
import { both, person, replicas, until, unwrap, type House, type Person } from "../testing.ts";

type Change = Parameters<ServerEvents["room.changed"]>[0];

let house: House;
let owner: Person;
let moderator: Person;
let member: Person;
let stranger: Person;
let room: Room;
let rooms = 0;

beforeAll(async () => {
  house = await replicas(2);
  const [left, right] = both(house);
  owner = await person(left, "owen");
  moderator = await person(right, "mora");
  member = await person(right, "mel");
  stranger = await person(left, "stan");
});
afterAll(() => house.close());

beforeEach(async () => {
  room = await makeRoom("open");
  for (const one of [moderator, member])
    unwrap(await one.socket.emitWithAck("room.join", { roomId: room.id }));
  await put(owner, moderator, { role: "moderator" });
});

async function makeRoom(kind: "open" | "invite"): Promise<Room> {
  const { body, status } = await owner.browser.post<Room>("/api/rooms", {
    name: `room ${(rooms += 1)}`,
    kind,
  });
  expect(status).toBe(201);
  return body;
}

async function put(by: Person, target: Person, body: object, id = room.id): Promise<Member> {
  const answer = await by.browser.fetch<Member>("PUT", `/api/rooms/${id}/members/${target.user.id}`, body);
  if (answer.status !== 200) throw new Error((answer.body as unknown as Failure).code);
  return answer.body;
}

async function patch(by: Person, change: RoomPatch, id = room.id): Promise<Room> {
  const { body, status } = await by.browser.fetch<Room>("PATCH", `/api/rooms/${id}`, change);
  if (status !== 200) throw new Error((body as unknown as Failure).code);
  return body;
}

async function call(by: Person, method: string, path: string, body?: object): Promise<string> {
  const answer = await by.browser.fetch<Failure>(method, `/api/rooms/${room.id}/${path}`, body);
  return answer.status < 300 ? "done" : answer.body.code;
}

const remove = (by: Person, target: Person) => call(by, "DELETE", `members/${target.user.id}`);
const ban = (by: Person, target: Person, body: object = {}) =>
  call(by, "PUT", `bans/${target.user.id}`, body);
const lift = (by: Person, target: Person) => call(by, "DELETE", `bans/${target.user.id}`);
const members = async (by: Person) =>
  (await by.browser.get<Member[]>(`/api/rooms/${room.id}/members`)).body.map(
    ({ username, role }) => `${username} ${role}`,
  );
const join = (one: Person): Promise<Reply<unknown>> =>
  one.socket.emitWithAck("room.join", { roomId: room.id });
const act = (by: Person, event: "message.delete", body: { roomId: string; seq: number }) =>
  by.socket.emitWithAck(event, body);

describe("roles in a room", () => {
  it("make its maker the owner, and everybody who joins a member", async () => {
    expect(room.role).toBe("owner");
    expect(await members(member)).toEqual(["owen owner", "mora moderator", "mel member"]);
  });

  it("are told to whom they are given, on every replica", async () => {
    const told: unknown[] = [];
    member.socket.on("room.member", (standing) => told.push(standing));
    await put(owner, member, { role: "moderator" });
    await until(() => told.length > 0);
    expect(told).toEqual([{ roomId: room.id, role: "moderator" }]);
    const { body } = await member.browser.get<Room[]>("/api/rooms");
    expect(body.find(({ id }) => id === room.id)?.role).toBe("moderator");
    member.socket.off("room.member");
  });

  it("are given by owners alone", async () => {
    await expect(put(moderator, member, { role: "moderator" })).rejects.toThrow("forbidden");
    await expect(put(member, member, { role: "owner" })).rejects.toThrow("forbidden");
    await expect(put(stranger, member, { role: "member" })).rejects.toThrow("not_found");
    expect(await members(owner)).toEqual(["owen owner", "mora moderator", "mel member"]);
  });

  it("leave a room its last owner, who can make another and step back", async () => {
    await expect(put(owner, owner, { role: "member" })).rejects.toThrow("forbidden");
    await put(owner, moderator, { role: "owner" });
    await put(owner, owner, { role: "member" });
    expect(await members(owner)).toEqual(["owen member", "mora owner", "mel member"]);
  });

  it("pass to a moderator when the last owner leaves, and to a member where there is none", async () => {
    unwrap(await owner.socket.emitWithAck("room.leave", { roomId: room.id }));
    expect(await members(member)).toEqual(["mora owner", "mel member"]);
    unwrap(await moderator.socket.emitWithAck("room.leave", { roomId: room.id }));
    expect(await members(member)).toEqual(["mel owner"]);
  });

  it("begin anew with whoever joins a room that everybody had left", async () => {
    for (const one of [owner, moderator, member])
      unwrap(await one.socket.emitWithAck("room.leave", { roomId: room.id }));
    unwrap(await join(member));
    expect(await members(member)).toEqual(["mel owner"]);
  });
});

describe("a moderator", () => {
  it("adds people to an invite room, who then hear it", async () => {
    const hidden = await makeRoom("invite");
    const shown = new Promise<Room>((resolve) => stranger.socket.once("show.room", resolve));
    await put(owner, stranger, {}, hidden.id);
    expect((await shown).id).toBe(hidden.id);
    await until(async () => (await stranger.browser.get<Room[]>("/api/rooms")).body.length > 1);
    await owner.say(hidden.id, "welcome");
    await stranger.hears("welcome");
    await expect(put(stranger, member, {}, hidden.id)).rejects.toThrow("forbidden");
    await expect(put(member, stranger, {}, hidden.id)).rejects.toThrow("not_found");
  });

  it("removes a member, who hears nothing that is said afterwards and is told of it", async () => {
    const gone = new Promise((resolve) => member.socket.once("hide.room", resolve));
    expect(await remove(moderator, member)).toBe("done");
    await owner.say(room.id, "behind her back");
    expect(await gone).toEqual({ roomId: room.id });
    await expect(member.say(room.id, "still here?")).rejects.toThrow("not_found");
    await owner.say("0", `after ${room.id}`);
    await member.hears(`after ${room.id}`);
    expect(member.messages.some(({ message }) => message === "behind her back")).toBe(false);
    expect(await remove(moderator, member)).toBe("not_found");
  });

  it("acts on nobody who stands as high", async () => {
    expect(await remove(moderator, owner)).toBe("forbidden");
    expect(await ban(moderator, owner)).toBe("forbidden");
    await expect(put(moderator, owner, { mutedUntil: Date.now() + 60_000 })).rejects.toThrow("forbidden");
    await put(owner, member, { role: "moderator" });
    expect(await remove(moderator, member)).toBe("forbidden");
    expect(await members(owner)).toEqual(["owen owner", "mora moderator", "mel moderator"]);
  });

  it("bans somebody, who cannot come back before the ban is lifted, however they try", async () => {
    expect(await ban(moderator, member)).toBe("done");
    expect(await join(member)).toMatchObject({ ok: false, error: { code: "forbidden" } });
    await expect(put(owner, member, {})).rejects.toThrow("forbidden");
    const { body } = await moderator.browser.get<Ban[]>(`/api/rooms/${room.id}/bans`);
    expect(body).toMatchObject([{ id: member.user.id, username: "mel", by: moderator.user.id }]);
    expect(await members(owner)).toEqual(["owen owner", "mora moderator"]);
    expect(await lift(moderator, member)).toBe("done");
    expect(await lift(moderator, member)).toBe("not_found");
    unwrap(await join(member));
  });

  it("bans somebody until a moment", async () => {
    expect(await ban(moderator, member, { until: Date.now() - 1 })).toBe("done");
    unwrap(await join(member));
    expect(await ban(moderator, member, { until: Date.now() + 3_600_000 })).toBe("done");
    expect(await join(member)).toMatchObject({ ok: false, error: { code: "forbidden" } });
  });

  it("bans somebody who was never there", async () => {
    expect(await ban(moderator, stranger)).toBe("done");
    expect(await join(stranger)).toMatchObject({ ok: false, error: { code: "forbidden" } });
    expect(await call(moderator, "PUT", "bans/999999")).toBe("not_found");
    expect(await ban(moderator, moderator)).toBe("invalid");
  });

  it("mutes somebody, who reads on and can neither send, edit, react nor be shown as typing", async () => {
    const { seq } = await member.say(room.id, "before");
    await put(moderator, member, { mutedUntil: Date.now() + 60_000 });
    const refusals = await Promise.all([
      member.socket.emitWithAck("message", { roomId: room.id, message: "no", nonce: "muted" }),
      member.socket.emitWithAck("message.edit", { roomId: room.id, seq, message: "no", rev: 0, nonce: "e" }),
      member.socket.emitWithAck("message.react", { roomId: room.id, seq, emoji: "👍", on: true }),
      member.socket.emitWithAck("message.pin", { roomId: room.id, seq, on: true }),
      member.socket.emitWithAck("typing", { roomId: room.id }),
    ]);
    for (const reply of refusals) expect(reply).toMatchObject({ ok: false, error: { code: "muted" } });
    await owner.say(room.id, `read on ${room.id}`);
    await member.hears(`read on ${room.id}`);
    unwrap(await act(member, "message.delete", { roomId: room.id, seq }));
    await put(moderator, member, { mutedUntil: 0 });
    await member.say(room.id, "again");
  });

  it("mutes until a moment and no longer", async () => {
    await put(moderator, member, { mutedUntil: Date.now() + 300 });
    await expect(member.say(room.id, "too soon")).rejects.toThrow("muted");
    await until(() => member.say(room.id, "in time").catch(() => null));
  });

  it("deletes others' messages, which a member cannot", async () => {
    const { seq } = await owner.say(room.id, "regrettable");
    expect(await act(member, "message.delete", { roomId: room.id, seq })).toMatchObject({
      error: { code: "forbidden" },
    });
    const deleted = unwrap(await act(moderator, "message.delete", { roomId: room.id, seq }));
    expect(deleted).toMatchObject({ message: "", from: owner.user.id });
    expect(deleted.deleted).toBeGreaterThan(0);
  });

  it("makes members wait between two messages in slow mode, and nobody else", async () => {
    await patch(moderator, { slow: 3_600 });
    await member.say(room.id, "first");
    const reply = await member.socket.emitWithAck("message", {
      roomId: room.id,
      message: "second",
      nonce: "slow",
    });
    expect(reply).toMatchObject({ ok: false, error: { code: "rate_limited" } });
    if (!reply.ok) expect(reply.error.retryAfterMs).toBeGreaterThan(3_500_000);
    await moderator.say(room.id, "one");
    await moderator.say(room.id, "two");
    await patch(moderator, { slow: 0 });
    await member.say(room.id, "second");
  });

  it("has lost the right with the role, whatever was under way", async () => {
    const { seq } = await owner.say(room.id, "stays");
    await put(owner, moderator, { role: "member" });
    expect(await act(moderator, "message.delete", { roomId: room.id, seq })).toMatchObject({
      error: { code: "forbidden" },
    });
    expect(await remove(moderator, member)).toBe("forbidden");
  });
});

describe("a room's settings", () => {
  it("are told to all of its people on every replica, and kept", async () => {
    const told: Change[] = [];
    member.socket.on("room.changed", (change) => told.push(change));
    await patch(moderator, { topic: "Tea", slow: 5 });
    await until(() => told.length > 0);
    expect(told).toEqual([{ roomId: room.id, kind: "open", name: room.names[0], topic: "Tea", slow: 5 }]);
    member.socket.off("room.changed");
    const { body } = await member.browser.get<Room[]>("/api/rooms");
    expect(body.find(({ id }) => id === room.id)).toMatchObject({ topic: "Tea", slow: 5, role: "member" });
    expect(await patch(moderator, { topic: "", slow: 0 })).not.toHaveProperty("topic");
  });

  it("give it another name, and the old one back", async () => {
    const [before = ""] = room.names;
    const name = `renamed ${room.id}`;
    expect((await patch(moderator, { name })).names).toEqual([name]);
    expect((await owner.browser.post("/api/rooms", { name: before })).status).toBe(201);
    await expect(patch(moderator, { name: before })).rejects.toThrow("taken");
    await expect(patch(moderator, { name: "Genera1" })).rejects.toThrow("taken");
    expect((await patch(moderator, { name: name.toUpperCase() })).names).toEqual([name.toUpperCase()]);
  });

  it("close it for writing, for everybody and at once, until it is opened again", async () => {
    const { seq } = await member.say(room.id, "before");
    await expect(patch(moderator, { archived: true })).rejects.toThrow("forbidden");
    await patch(owner, { archived: true });
    for (const one of [owner, moderator, member])
      await expect(one.say(room.id, "too late")).rejects.toThrow("archived");
    expect(
      await member.socket.emitWithAck("message.react", { roomId: room.id, seq, emoji: "👍", on: true }),
    ).toMatchObject({ error: { code: "archived" } });
    const { body } = await member.browser.get<{ messages: Message[] }>(`/api/rooms/${room.id}/messages`);
    expect(body.messages.map(({ message }) => message)).toContain("before");
    await patch(owner, { archived: false });
    await member.say(room.id, "after");
  });

  it("make it an invite room, which is then hidden from others", async () => {
    await expect(patch(moderator, { kind: "invite" })).rejects.toThrow("forbidden");
    await patch(owner, { kind: "invite" });
    expect(await join(stranger)).toMatchObject({ error: { code: "not_found" } });
    await patch(owner, { kind: "open" });
    unwrap(await join(stranger));
  });

  it("are refused to members, and hidden from strangers", async () => {
    await expect(patch(member, { topic: "mine" })).rejects.toThrow("forbidden");
    await expect(patch(stranger, { topic: "mine" })).rejects.toThrow("not_found");
    await expect(patch(owner, { slow: -1 })).rejects.toThrow("invalid");
    await expect(patch(owner, { slow: 1e9 })).rejects.toThrow("invalid");
    await expect(patch(owner, { topic: "x".repeat(251) })).rejects.toThrow("too_large");
    await expect(patch(owner, { topic: "a\u0000b" })).rejects.toThrow("invalid");
    await expect(patch(owner, { topic: "everybody's" }, "0")).rejects.toThrow("forbidden");
  });
});

describe("an admin of the server", () => {
  it("acts as an owner in every room that everybody sees, and mutes in General", async () => {
    const { redis, keys } = house;
    await redis.hset(keys.user(stranger.user.id), "role", "admin");
    const { seq } = await member.say("0", `in general ${room.id}`);
    unwrap(await act(stranger, "message.delete", { roomId: "0", seq }));
    await put(stranger, member, { mutedUntil: Date.now() + 60_000 }, "0");
    await expect(member.say("0", "hush")).rejects.toThrow("muted");
    await put(stranger, member, { mutedUntil: 0 }, "0");
    expect(await redis.hexists(keys.records("0"), member.user.id)).toBe(0);
    await member.say("0", "back");
    expect(await remove(stranger, member)).toBe("done");
    const hidden = await makeRoom("invite");
    await expect(patch(stranger, { topic: "peek" }, hidden.id)).rejects.toThrow("not_found");
    await redis.hdel(keys.user(stranger.user.id), "role");
    expect(await remove(stranger, moderator)).toBe("not_found");
  });
});

describe("a disabled account", () => {
  it("stores nothing in any room from then on, and everything again once it is enabled", async () => {
    const direct = await member.browser.post<Room>("/api/rooms/private", { userId: owner.user.id });
    const store = new Members(house.redis, house.keys, readConfig(house.env));
    await store.bar(member.user.id, true);
    for (const id of ["0", room.id, direct.body.id])
      await expect(member.say(id, "barred")).rejects.toThrow("unauthorized");
    expect(await members(owner)).toContain("mel member");
    await store.bar(member.user.id, false);
    for (const id of ["0", room.id, direct.body.id]) await member.say(id, "free");
    expect(await house.redis.hexists(house.keys.records("0"), member.user.id)).toBe(0);
  });
});
