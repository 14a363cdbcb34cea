import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type {
  AuditEntry,
  Ban,
  Failure,
  Invitation,
  Invite,
  Member,
  Message,
  Reply,
  Report,
  Room,
  RoomPatch,
  ServerEvents,
} from "../protocol.ts";
import { readConfig } from "../config.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import { LIMITS } from "../protocol.ts";
import { Audit } from "../store/audit.ts";
import { Members } from "../store/members.ts";
import { Reports } from "../store/reports.ts";
import { Settings } from "../store/settings.ts";
import {
  both,
  Browser,
  commandsDuring,
  newServer,
  person,
  replicas,
  startWire,
  testRedisUrl,
  until,
  unwrap,
  windowOf,
  type House,
  type Person,
} from "../testing.ts";

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

function makeRoom(kind: "open" | "invite"): Promise<Room> {
  return owner.makes({ name: `room ${(rooms += 1)}`, kind });
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
const join = (one: Person, id = room.id): Promise<Reply<unknown>> =>
  one.socket.emitWithAck("room.join", { roomId: id });
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

  it("are told to admins of the server as their list of rooms tells them, whatever their record says", async () => {
    const boss = await person(both(house)[1]);
    await house.redis.hset(house.keys.user(boss.user.id), "role", "admin");
    unwrap(await join(boss));
    const told: unknown[] = [];
    boss.socket.on("room.member", (standing) => told.push(standing));
    await put(owner, boss, { role: "moderator" });
    await until(() => told.length === 1);
    const mutedUntil = Date.now() + 60_000;
    await put(boss, boss, { mutedUntil }, "0");
    await until(() => told.length === 2);
    expect(told).toEqual([
      { roomId: room.id, role: "owner" },
      { roomId: "0", role: "owner", mutedUntil },
    ]);
    const { body } = await boss.browser.get<Room[]>("/api/rooms");
    expect(body.find(({ id }) => id === room.id)).toMatchObject({ role: "owner" });
    expect(body.find(({ id }) => id === "0")).toMatchObject({ role: "owner", mutedUntil });
    boss.close();
  });

  it("are not given by a mute, which brings nobody in", async () => {
    unwrap(await member.socket.emitWithAck("room.leave", { roomId: room.id }));
    const mutedUntil = Date.now() + 60_000;
    await expect(put(moderator, member, { mutedUntil })).rejects.toThrow("not_found");
    await expect(put(moderator, stranger, { mutedUntil })).rejects.toThrow("not_found");
    // Nor by its end.
    await expect(put(moderator, member, { mutedUntil: 0 })).rejects.toThrow("not_found");
    expect(await members(owner)).toEqual(["owen owner", "mora moderator"]);
  });

  it("are given by owners alone", async () => {
    await expect(put(moderator, member, { role: "moderator" })).rejects.toThrow("forbidden");
    await expect(put(member, member, { role: "owner" })).rejects.toThrow("forbidden");
    await expect(put(stranger, member, { role: "member" })).rejects.toThrow("not_found");
    expect(await members(owner)).toEqual(["owen owner", "mora moderator", "mel member"]);
  });

  it("are refused, and given, without a look at all members, however many there are", async () => {
    const commands = await commandsDuring(async () => {
      await expect(put(member, moderator, { role: "member" })).rejects.toThrow("forbidden");
      await expect(put(moderator, owner, { role: "member" })).rejects.toThrow("forbidden");
      await put(owner, member, { role: "moderator" });
      await put(owner, member, { role: "member" });
    });
    const records = house.keys.records(room.id);
    expect(commands.filter(([command, key]) => command === "hgetall" && key === records)).toEqual([]);
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

  it("mutes somebody who leaves, or is removed, and comes back", async () => {
    const mutedUntil = Date.now() + 60_000;
    const { body: invite } = await owner.browser.post<Invite>(`/api/rooms/${room.id}/invites`);
    const ways: [string, () => Promise<unknown>, () => Promise<unknown>][] = [
      ["leaves", () => member.socket.emitWithAck("room.leave", { roomId: room.id }), () => join(member)],
      ["is removed", () => remove(moderator, member), () => put(moderator, member, {})],
      ["is banned", () => ban(moderator, member), () => lift(moderator, member).then(() => join(member))],
      [
        "has an invite",
        () => remove(moderator, member),
        () => member.browser.post(`/api/invites/${invite.code}`),
      ],
    ];
    for (const [name, goes, comes] of ways) {
      await put(moderator, member, { mutedUntil });
      await goes();
      await comes();
      await expect(member.say(room.id, "back"), name).rejects.toThrow("muted");
      const { body } = await member.browser.get<Room[]>("/api/rooms");
      expect(body.find(({ id }) => id === room.id)?.mutedUntil, name).toBe(mutedUntil);
    }
    await remove(moderator, member);
    const forgiven = await put(moderator, member, { role: "member", mutedUntil: 0 });
    expect(forgiven.mutedUntil).toBeUndefined();
    expect((await member.say(room.id, "forgiven")).message).toBe("forgiven");
    // A mute that was ended does not come back.
    await member.socket.emitWithAck("room.leave", { roomId: room.id });
    unwrap(await join(member));
    expect((await member.say(room.id, "still")).message).toBe("still");
  });

  it("mutes until a moment and no longer", async () => {
    // On a busy machine a short one is over before anybody can write.
    let ms = 300;
    await until(async () => {
      await put(moderator, member, { mutedUntil: Date.now() + (ms *= 2) });
      const isMuted = (error: Error) => error.message === "muted";
      return member.say(room.id, "too soon").then(() => false, isMuted);
    });
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

  it("makes wait in slow mode also who spoke on a server of an older version", async () => {
    const { redis, keys } = house;
    await patch(moderator, { slow: 60 });
    await redis.set(keys.spoke(room.id, member.user.id), "1", "PX", 60_000);
    const reply = await member.socket.emitWithAck("message", {
      roomId: room.id,
      message: "now",
      nonce: "older",
    });
    expect(reply).toMatchObject({ ok: false, error: { code: "rate_limited" } });
  });

  it("makes nobody wait in slow mode for as long as Redis' clock went back", async () => {
    await patch(moderator, { slow: 60 });
    await member.say(room.id, "first");
    await house.redis.set(house.keys.spoke(room.id, member.user.id), Date.now() + 3_600_000, "PX", 3_660_000);
    await member.say(room.id, "second");
    const third = { roomId: room.id, message: "third", nonce: "back" };
    const reply = await member.socket.emitWithAck("message", third);
    expect(reply).toMatchObject({ error: { code: "rate_limited" } });
  });

  it("shortens slow mode also for who has spoken", async () => {
    await patch(moderator, { slow: 3_600 });
    await member.say(room.id, "first");
    await patch(moderator, { slow: 1 });
    await sleep(1_100);
    await member.say(room.id, "second");
    expect(
      await member.socket.emitWithAck("message", { roomId: room.id, message: "third", nonce: "slower" }),
    ).toMatchObject({
      error: { code: "rate_limited" },
    });
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

describe("who loses the right between its check and the change", () => {
  /** `lose` is called once what they do is noted, and before that is sent on. */
  async function racing(
    who: Person,
    { gain, lose }: { gain: () => Promise<unknown>; lose: () => Promise<unknown> },
    code: string,
  ): Promise<void> {
    const { redis, keys } = house;
    const { meta, roomName, invites, bans, records } = keys;
    let isArmed = false;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      if (isArmed && from === "replica" && chunk.includes("unfinished")) {
        isArmed = false;
        await lose();
      }
      return chunk;
    });
    const slow = await windowOf(who, await house.addReplica({ REDIS_URL: wire.url }));
    try {
      expect(await ban(owner, stranger)).toBe("done");
      const { body: invite } = await owner.browser.post<Invite>(`/api/rooms/${room.id}/invites`);
      const { seq } = await member.say(room.id, "stays");
      const report = `/api/reports/${room.id}/${seq}`;
      await member.browser.post("/api/reports", { roomId: room.id, seq });
      const state = async () =>
        JSON.stringify([
          await redis.hmget(meta(room.id), "topic", "slow", "archived", "kind"),
          await redis.get(roomName(room.id)),
          await redis.smembers(invites(room.id)),
          await redis.hkeys(bans(room.id)),
          await redis.hget(records(room.id), member.user.id),
          await redis.zcard(keys.deleted(room.id)),
          await redis.hgetall(keys.reports(room.id)),
        ]);
      const before = await state();
      const changes: [string, () => Promise<string>][] = [
        ["topic", () => call(slow, "PATCH", "", { topic: "mine" })],
        ["slow mode", () => call(slow, "PATCH", "", { slow: 60 })],
        ["name", () => call(slow, "PATCH", "", { name: `mine ${room.id}` })],
        ["a ban lifted", () => lift(slow, stranger)],
        ["a mute", () => call(slow, "PUT", `members/${member.user.id}`, { mutedUntil: Date.now() + 60_000 })],
        ["a removal", () => remove(slow, member)],
        ["a ban", () => ban(slow, member)],
        ["an invite", () => call(slow, "POST", "invites", {})],
        [
          "a message deleted",
          async () => {
            const reply = await act(slow, "message.delete", { roomId: room.id, seq });
            return reply.ok ? "done" : reply.error.code;
          },
        ],
        [
          "a report looked at",
          async () => {
            const { status, body } = await slow.browser.post<Failure>(report, { state: "done" });
            return status === 204 ? "done" : body.code;
          },
        ],
        [
          "an invite revoked",
          async () =>
            (await slow.browser.fetch<Failure>("DELETE", `/api/invites/${invite.code}`)).status === 404
              ? code
              : "done",
        ],
      ];
      for (const [what, change] of changes) {
        await gain();
        isArmed = true;
        expect(await change(), what).toBe(code);
        expect(isArmed, what).toBe(false);
        expect(await state(), what).toBe(before);
      }
      expect(await redis.exists(keys.roomByName(`mine ${room.id}`))).toBe(0);
    } finally {
      slow.close();
      await house.replicas.pop()?.close();
      await wire.close();
    }
  }

  it("changes nothing as a moderator, on whichever key of the room", async () => {
    const gain = () => put(owner, moderator, { role: "moderator" });
    const lose = () => put(owner, moderator, { role: "member" });
    await racing(moderator, { gain, lose }, "forbidden");
  });

  it("changes nothing as an admin of the server", async () => {
    const { redis, keys } = house;
    const admin = await person(both(house)[0], `admin${room.id}`);
    const account = keys.user(admin.user.id);
    const gain = () => redis.hset(account, "role", "admin");
    await racing(admin, { gain, lose: () => redis.hdel(account, "role") }, "not_found");
    admin.close();
  });
});

it("nobody joins a room that is closed to them while they do", async () => {
  let isArmed = false;
  const wire = await startWire(testRedisUrl(), async (chunk, from) => {
    const text = chunk.toString("latin1");
    if (isArmed && from === "replica" && /hmget\r\n[^*]*:records\r\n/i.test(text)) {
      isArmed = false;
      await patch(owner, { kind: "invite" });
    }
    return chunk;
  });
  const slow = await windowOf(stranger, await house.addReplica({ REDIS_URL: wire.url }));
  try {
    isArmed = true;
    expect(await join(slow)).toMatchObject({ ok: false, error: { code: "not_found" } });
    expect(isArmed).toBe(false);
    expect(await members(owner)).toEqual(["owen owner", "mora moderator", "mel member"]);
    await patch(owner, { kind: "open" });
    expect(await join(slow)).toMatchObject({ ok: true });
  } finally {
    slow.close();
    await house.replicas.pop()?.close();
    await wire.close();
  }
});

it("nobody who is removed from an invite room comes back by joining it at that moment", async () => {
  await patch(owner, { kind: "invite" });
  let isArmed = false;
  const wire = await startWire(testRedisUrl(), async (chunk, from) => {
    if (
      isArmed &&
      from === "replica" &&
      /hm?get\r\n[^*]*:meta\r\n\$4\r\nkind/i.test(chunk.toString("latin1"))
    ) {
      isArmed = false;
      expect(await remove(owner, member)).toBe("done");
    }
    return chunk;
  });
  const slow = await windowOf(member, await house.addReplica({ REDIS_URL: wire.url }));
  try {
    // As the removal begins.
    await house.redis.srem(house.keys.userRooms(member.user.id), room.id);
    isArmed = true;
    expect(await join(slow)).toMatchObject({ ok: false, error: { code: "not_found" } });
    expect(isArmed).toBe(false);
    expect(await members(owner)).toEqual(["owen owner", "mora moderator"]);
  } finally {
    slow.close();
    await house.replicas.pop()?.close();
    await wire.close();
  }
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

  it("are told last as they are stored, whatever two moderators change at once on two replicas", async () => {
    const heard: Change[] = [];
    const hear = (changed: Change) => void (changed.roomId === room.id && heard.push(changed));
    member.socket.on("room.changed", hear);
    for (let round = 0; round < 30; round += 1) {
      heard.length = 0;
      const topics = Array.from({ length: 6 }, (_, index) => `${round} ${index}`);
      await Promise.all(topics.map((topic, index) => patch(index % 2 === 0 ? owner : moderator, { topic })));
      const stored = await house.redis.hget(house.keys.meta(room.id), "topic");
      // A replica's check of the room may tell them once more.
      await until(() => heard.length >= topics.length && heard.at(-1)?.topic === stored);
    }
    member.socket.off("room.changed", hear);
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
  it("is held by no moderator of an open room, and by no slow mode", async () => {
    const own = await newServer(1);
    try {
      const [replica] = own.replicas;
      const admin = await person(replica!, "olga");
      const maker = await person(replica!, "eve");
      const mod = await person(replica!, "bob");
      const { id } = await maker.makes({ name: "Open" });
      for (const one of [admin, mod]) unwrap(await one.socket.emitWithAck("room.join", { roomId: id }));
      await put(maker, mod, { role: "moderator" }, id);
      await patch(maker, { slow: 100 }, id);
      await admin.say(id, "one");
      await admin.say(id, "two");
      await expect(put(mod, admin, { mutedUntil: Date.now() + 60_000 }, id)).rejects.toThrow("forbidden");
      const path = `/api/rooms/${id}`;
      for (const [method, what] of [
        ["PUT", "bans"],
        ["DELETE", "members"],
      ] as const) {
        const { status } = await mod.browser.fetch(method, `${path}/${what}/${admin.user.id}`, {});
        expect(status, what).toBe(403);
      }
      // Nor is one who is not in the room kept out of it.
      unwrap(await admin.socket.emitWithAck("room.leave", { roomId: id }));
      expect((await mod.browser.fetch("PUT", `${path}/bans/${admin.user.id}`, {})).status).toBe(403);
    } finally {
      await own.close();
    }
  });

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

  it("keeps its list of rooms, also if a replica compares that with the rooms meanwhile", async () => {
    const store = new Members(house.redis, house.keys, readConfig(house.env));
    await store.bar(member.user.id, true);
    expect(await store.mendList(member.user.id, room.id)).toBe(false);
    expect(await store.sees(room.id, member.user.id)).toBe(true);
    await store.bar(member.user.id, false);
    expect(await store.has(room.id, member.user.id)).toBe(true);
  });
});

describe("an invite", () => {
  const make = async (by: Person, body: object = {}) =>
    by.browser.post<Invite>(`/api/rooms/${room.id}/invites`, body);
  const use = (one: Person, code: string) => one.browser.post<Room & Failure>(`/api/invites/${code}`);
  const signUp = (invite: string, name: string) =>
    new Browser(both(house)[0]).post<Failure>("/api/users", {
      username: name,
      password: "correct horse",
      invite,
    });

  beforeEach(async () => {
    await patch(owner, { kind: "invite" });
    await stranger.browser.fetch("DELETE", `/api/rooms/${room.id}/members/${stranger.user.id}`);
  });

  it("lets somebody into a room that they do not see, and counts them once", async () => {
    const { status, body } = await make(moderator, { uses: 1 });
    expect(status).toBe(201);
    expect(body.url).toMatch(new RegExp(`^http://[^/]+/#/invite/${body.code}$`));
    const look = await new Browser(both(house)[1]).get<Invitation>(`/api/invites/${body.code}`);
    expect(look.body).toMatchObject({ roomId: room.id, name: room.names[0], by: { username: "mora" } });
    for (let times = 0; times < 3; times += 1) expect((await use(stranger, body.code)).body.id).toBe(room.id);
    await stranger.say(room.id, "hello");
    const { body: listed } = await owner.browser.get<Invite[]>(`/api/rooms/${room.id}/invites`);
    expect(listed).toMatchObject([{ code: body.code, used: 1, uses: 1, by: moderator.user.id }]);
  });

  it("lets in as many as it says, however many come at once", async () => {
    const { body } = await make(owner, { uses: 2 });
    const { body: away } = await owner.browser.get<Member[]>(`/api/rooms/${room.id}/members`);
    expect(away).toHaveLength(3);
    const others = await Promise.all(
      ["eve1", "eve2", "eve3", "eve4"].map((name) => person(both(house)[0], name)),
    );
    const outcomes = await Promise.all(others.map(async (one) => (await use(one, body.code)).status));
    expect(outcomes.toSorted((one, other) => one - other)).toEqual([200, 200, 404, 404]);
    for (const one of others) one.close();
  });

  it("lets in one person, also if somebody with almost too many rooms uses it twice at once", async () => {
    const { redis, keys } = house;
    const [full, other] = await Promise.all([
      person(both(house)[0], "full-up"),
      person(both(house)[1], "late"),
    ]);
    const list = keys.userRooms(full.user.id);
    const most = BOUNDS.roomsOfUser.value;
    await redis.sadd(list, ...Array.from({ length: most - 2 }, (_, index) => String(1_000_000 + index)));
    for (let round = 0; round < 10; round += 1) {
      const { code } = (await make(owner, { uses: 1 })).body;
      const [one, two] = await Promise.all([use(full, code), use(full, code)]);
      expect([one.status, two.status]).toContain(200);
      expect((await use(other, code)).status).toBe(404);
      await remove(owner, full);
    }
    full.close();
    other.close();
  });

  it("lets who was removed in again only while it has a place", async () => {
    const { code } = (await make(owner, { uses: 2 })).body;
    for (let used = 1; used <= 2; used += 1) {
      expect((await use(stranger, code)).status).toBe(200);
      const { body } = await owner.browser.get<Invite[]>(`/api/rooms/${room.id}/invites`);
      expect(body).toMatchObject([{ code, used }]);
      expect(await remove(owner, stranger)).toBe("done");
    }
    expect((await use(stranger, code)).body.code).toBe("not_found");
  });

  it("lets nobody in, and hides no other, if somebody has damaged it", async () => {
    const { redis, keys } = house;
    for (const field of ["roomId", "by", "expires", "uses", "key"]) {
      const { code } = (await make(owner, { uses: 1 })).body;
      if (field !== "key") await redis.hset(keys.invite(code), field, "garbage");
      else {
        await redis.del(keys.invite(code));
        await redis.rpush(keys.invite(code), "garbage");
      }
      const other = (await make(owner, { uses: 1 })).body;
      const { status, body } = await owner.browser.get<Invite[]>(`/api/rooms/${room.id}/invites`);
      expect([status, body.map((one) => one.code)], field).toEqual([
        200,
        expect.arrayContaining([other.code]),
      ]);
      if (field !== "key")
        expect((await stranger.browser.post(`/api/invites/${code}`)).status, field).toBe(404);
      expect(await redis.hexists(keys.records(room.id), stranger.user.id), field).toBe(0);
    }
  });

  it("ends when it is revoked, has expired, or its maker may invite no more", async () => {
    const revoked = (await make(moderator)).body.code;
    expect((await moderator.browser.fetch("DELETE", `/api/invites/${revoked}`)).status).toBe(204);
    const short = (await make(owner, { expires: Date.now() + 200 })).body.code;
    const orphan = (await make(moderator)).body.code;
    await put(owner, moderator, { role: "member" });
    await until(() => use(stranger, short).then(({ status }) => status === 404));
    for (const code of [revoked, short, orphan, "nonsense"]) {
      expect((await use(stranger, code)).body.code).toBe("not_found");
      expect((await stranger.browser.get(`/api/invites/${code}`)).status).toBe(404);
    }
    expect((await make(owner, { expires: Date.now() - 1 })).status).toBe(400);
    expect((await make(owner, { uses: 0 })).status).toBe(400);
  });

  it("does not lift a ban, and is not used up by it", async () => {
    const { body } = await make(owner, { uses: 1 });
    expect(await ban(moderator, stranger)).toBe("done");
    expect((await use(stranger, body.code)).body.code).toBe("forbidden");
    expect(await lift(moderator, stranger)).toBe("done");
    expect((await use(stranger, body.code)).status).toBe(200);
  });

  it("keeps its last place for whoever can come in, while people who are banned try", async () => {
    const banned = await Promise.all([1, 2, 3].map((count) => person(both(house)[0], `out-${count}`)));
    for (const one of banned) expect(await ban(moderator, one)).toBe("done");
    const guest = await person(both(house)[0], "guest");
    for (let round = 0; round < 10; round += 1) {
      const { code } = (await make(owner, { uses: 1 })).body;
      const tries = banned.flatMap((one) => [use(one, code), use(one, code), use(one, code)]);
      expect((await use(guest, code)).status).toBe(200);
      for (const { body } of await Promise.all(tries)) expect(body.code).toBe("forbidden");
      await remove(owner, guest);
    }
    for (const one of [...banned, guest]) one.close();
  });

  it("is made by moderators alone", async () => {
    expect((await make(member)).body).toMatchObject({ code: "forbidden" });
    expect((await make(stranger)).body).toMatchObject({ code: "not_found" });
    const { code } = (await make(owner)).body;
    expect((await member.browser.fetch("DELETE", `/api/invites/${code}`)).status).toBe(404);
  });

  it("lets somebody new sign up where nobody else can, straight into its room", async () => {
    const { code } = (await make(owner, { uses: 1 })).body;
    await house.redis.hset(house.keys.settings, "signup", "closed");
    try {
      expect((await signUp("nonsense", "newcomer")).body.code).toBe("forbidden");
      expect((await signUp(code, "newcomer")).status).toBe(201);
      expect((await signUp(code, "another")).body.code).toBe("forbidden");
      expect(await house.redis.exists(house.keys.username("another"))).toBe(0);
      expect(await members(owner)).toContain("newcomer member");
    } finally {
      await house.redis.hdel(house.keys.settings, "signup");
    }
  });
});

describe("a report that is made again while it is closed", () => {
  it("is in the list of the admins if it is open", async () => {
    const reports = new Reports(house.redis, house.keys);
    const id = `${room.id}/1`;
    for (let round = 0; round < 50; round += 1) {
      await reports.add(room.id, 1, member.user.id, "");
      const report = await reports.find(room.id, 1);
      if (report) await Promise.all([reports.close(report), reports.add(room.id, 1, stranger.user.id, "")]);
      const isOpen = (await reports.find(room.id, 1))?.state === "open";
      expect((await reports.list(null)).some(({ cursor }) => cursor.endsWith(`/${id}`))).toBe(isOpen);
    }
  });
});

describe("a report that several make at once", () => {
  it.each(["for the first time", "after it was closed"])("keeps the first reason: %s", async (when) => {
    const { redis, keys } = house;
    const reports = new Reports(redis, keys);
    const seq = when.length;
    if (when !== "for the first time") {
      await reports.add(room.id, seq, owner.user.id, "before");
      const report = await reports.find(room.id, seq);
      if (report) await reports.close(report);
    }
    let overtaken = false;
    const slow = Object.assign(Object.create(redis) as typeof redis, {
      hget: async (key: string, field: string) => {
        const stored = await redis.hget(key, field);
        if (!overtaken) await reports.add(room.id, seq, member.user.id, "first");
        overtaken = true;
        return stored;
      },
    });
    await new Reports(slow, keys).add(room.id, seq, stranger.user.id, "second");
    expect(await reports.find(room.id, seq)).toMatchObject({ state: "open", reason: "first" });
    await reports.drop(room.id, seq);
  });

  it("is not closed by who has looked at an earlier one", async () => {
    const reports = new Reports(house.redis, house.keys);
    await reports.add(room.id, 999, member.user.id, "first");
    const seen = await reports.find(room.id, 999);
    if (seen) await reports.close(seen);
    await until(() => Date.now() > (seen?.at ?? 0));
    await reports.add(room.id, 999, stranger.user.id, "again");
    if (seen) await reports.close(seen);
    expect(await reports.find(room.id, 999)).toMatchObject({ state: "open", reason: "again" });
    await reports.drop(room.id, 999);
  });
});

describe("the lists of reports", () => {
  it("tell of every open one, page by page and open ones first, and drop those whose message is gone", async () => {
    const { redis, keys } = house;
    await redis.hset(keys.user(owner.user.id), "role", "admin");
    const said: number[] = [];
    for (let count = 0; count < 6; count += 1) said.push((await member.say(room.id, `bad ${count}`)).seq);
    const [first = 0, second = 0, ...rest] = said;
    for (const seq of said) await member.browser.post("/api/reports", { roomId: room.id, seq });
    for (const seq of rest) await owner.browser.post(`/api/reports/${room.id}/${seq}`, { state: "done" });
    // More than a page of messages that are gone, all of them newer.
    const gone = Array.from({ length: LIMITS.page + 1 }, (_, index) => 1_000_000 + index);
    for (const seq of gone) {
      await redis.hset(
        keys.reports(room.id),
        seq,
        JSON.stringify({ by: "1", at: Date.now(), state: "open" }),
      );
      await redis.zadd(keys.openReports, Date.now(), `${room.id}/${seq}`);
    }
    try {
      for (const [path, seqs] of [
        ["/api/admin/reports", [second, first]],
        [`/api/rooms/${room.id}/reports`, [second, first, ...rest.toReversed()]],
      ] as const) {
        const ask = async (cursor?: string) => {
          const more = cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`;
          return (await owner.browser.get<Report[]>(`${path}?size=1${more}`)).body;
        };
        const found: Report[] = [];
        let page = await ask();
        while (page.length > 0 && found.length < 20) {
          expect(page).toHaveLength(1);
          found.push(...page);
          page = await ask(page[0]?.cursor);
        }
        const here = found.filter(({ roomId }) => roomId === room.id);
        expect(here.map(({ seq }) => seq)).toEqual(seqs);
        const bad = await owner.browser.get<Failure>(`${path}?cursor=open`);
        expect([bad.status, bad.body.code]).toEqual([400, "invalid"]);
      }
      const left = [
        ...(await redis.hkeys(keys.reports(room.id))),
        ...(await redis.zrange(keys.openReports, 0, "-1")),
      ];
      expect(left.filter((one) => one.includes("10000"))).toEqual([]);
    } finally {
      await redis.hdel(keys.user(owner.user.id), "role");
    }
  });

  it("goes on where it was after the last report of a page is done", async () => {
    const seqs: number[] = [];
    for (let count = 0; count < 2; count += 1) {
      const { seq } = await member.say(room.id, `rude ${count}`);
      await member.browser.post("/api/reports", { roomId: room.id, seq });
      seqs.unshift(seq);
    }
    const path = `/api/rooms/${room.id}/reports?size=1`;
    const [last] = (await owner.browser.get<Report[]>(path)).body;
    expect(last?.seq).toBe(seqs[0]);
    await owner.browser.post(`/api/reports/${last?.id}`, { state: "done" });
    const next = `${path}&cursor=${encodeURIComponent(last?.cursor ?? "")}`;
    expect((await owner.browser.get<Report[]>(next)).body.map(({ seq }) => seq)).toEqual([seqs[1]]);
  });
});

describe("a report", () => {
  it("is closed under its own name alone", async () => {
    const { seq } = await member.say(room.id, "bad");
    await stranger.browser.post("/api/reports", { roomId: room.id, seq });
    await owner.browser.post("/api/reports", { roomId: room.id, seq });
    for (const name of [`${seq}%2Fx`, `0${seq}`, `+${seq}`, `${seq}.0`, "x", "constructor"]) {
      const path = `/api/reports/${room.id}/${name}`;
      const { status } = await owner.browser.post(path, { state: "done" });
      expect(status, name).toBe(404);
    }
    const { body } = await owner.browser.get<Report[]>(`/api/rooms/${room.id}/reports`);
    expect(body.map(({ state }) => state)).toEqual(["open"]);
    expect(await house.redis.zrange(house.keys.openReports, 0, "-1")).toContain(`${room.id}/${seq}`);
  });

  it("is closed once: who does it again leaves no further entry, and whoever may not is told the same of any message", async () => {
    const said = await member.say(room.id, "look at this");
    const close = async (one: Person, seq: number) =>
      (await one.browser.post<Failure>(`/api/reports/${room.id}/${seq}`, { state: "done" })).body?.code;
    const reviews = async () =>
      (await owner.browser.get<AuditEntry[]>(`/api/rooms/${room.id}/audit`)).body.filter(
        ({ what }) => what === "review",
      );
    expect((await member.browser.post("/api/reports", { roomId: room.id, seq: said.seq })).status).toBe(204);
    expect([await close(member, said.seq), await close(member, said.seq + 1)]).toEqual([
      "forbidden",
      "forbidden",
    ]);
    for (let time = 0; time < 3; time += 1) expect(await close(moderator, said.seq)).toBeUndefined();
    expect(await reviews()).toHaveLength(1);
    // A close that was cut short is finished by the next.
    const { redis, keys } = house;
    await redis.zadd(keys.openReports, 1, `${room.id}/${said.seq}`);
    expect(await close(moderator, said.seq)).toBeUndefined();
    expect(await redis.zscore(keys.openReports, `${room.id}/${said.seq}`)).toBeNull();
    expect(await close(moderator, said.seq + 1)).toBe("not_found");
  });

  it("reaches the moderators of the room and admins, until one of them has looked at it", async () => {
    const { seq } = await owner.say(room.id, "rude");
    const about = { roomId: room.id, seq, reason: "It is rude." };
    expect((await member.browser.post("/api/reports", about)).status).toBe(204);
    expect((await stranger.browser.post("/api/reports", about)).status).toBe(404);
    expect((await member.browser.post("/api/reports", { ...about, seq: 999 })).status).toBe(404);
    const path = `/api/rooms/${room.id}/reports`;
    expect((await member.browser.get(path)).status).toBe(403);
    const { body } = await moderator.browser.get<Report[]>(path);
    expect(body).toMatchObject([{ seq, by: member.user.id, reason: "It is rude.", state: "open" }]);
    expect(body[0]?.message.message).toBe("rude");
    expect((await stranger.browser.get("/api/admin/reports")).status).toBe(404);
    await house.redis.hset(house.keys.user(stranger.user.id), "role", "admin");
    const all = await stranger.browser.get<Report[]>("/api/admin/reports");
    await house.redis.hdel(house.keys.user(stranger.user.id), "role");
    expect(all.body.some((one) => one.id === body[0]?.id)).toBe(true);
    const close = (by: Person) => by.browser.post(`/api/reports/${body[0]?.id}`, { state: "done" });
    expect((await close(member)).status).toBe(403);
    expect((await close(moderator)).status).toBe(204);
    expect((await moderator.browser.get<Report[]>(path)).body[0]?.state).toBe("done");
  });
});

describe("the audit log", () => {
  it("has no entry of what changes nothing, which anybody may ask for", async () => {
    const told: Change[] = [];
    owner.socket.on("room.changed", (change) => told.push(change));
    for (const one of [member, moderator, owner]) {
      expect((await one.browser.fetch("PATCH", `/api/rooms/${room.id}`, {})).status).toBe(200);
      for (const target of [one, owner])
        expect(await put(one, target, {})).toMatchObject({ username: target.user.username });
    }
    expect(await call(stranger, "PATCH", "", {})).not.toBe("done");
    const { body } = await owner.browser.get<AuditEntry[]>(`/api/rooms/${room.id}/audit`);
    expect(body.map(({ what, by }) => [what, by])).toEqual([["role", owner.user.id]]);
    owner.socket.off("room.changed");
    expect(told).toEqual([]);
  });

  const entries = async (by: Person) => {
    const { body } = await by.browser.get<AuditEntry[]>(`/api/rooms/${room.id}/audit`);
    return body.map(({ by: who, what, refused }) => `${who} ${what}${refused ? " refused" : ""}`);
  };

  it("tells a room's moderators who did what, and who tried, and nobody else", async () => {
    const { seq } = await member.say(room.id, "gone soon");
    await act(moderator, "message.delete", { roomId: room.id, seq });
    await put(moderator, member, { mutedUntil: Date.now() + 60_000 });
    const newcomer = await person(both(house)[0], "nick");
    unwrap(await join(newcomer));
    for (const target of [owner, moderator]) expect(await ban(newcomer, target)).toBe("forbidden");
    newcomer.close();
    const [by, mod] = [owner.user.id, moderator.user.id];
    expect(await entries(moderator)).toEqual([
      `${newcomer.user.id} ban refused`,
      `${mod} mute`,
      `${mod} delete.others`,
      `${by} role`,
    ]);
    expect((await member.browser.get(`/api/rooms/${room.id}/audit`)).status).toBe(403);
    expect((await stranger.browser.get(`/api/rooms/${room.id}/audit`)).status).toBe(404);
    expect((await moderator.browser.get("/api/admin/audit")).status).toBe(404);
  });

  it("keeps what was done, however many accounts are refused something afterwards", async () => {
    const { redis, keys } = house;
    const roomId = "4711";
    const audit = new Audit(redis, keys);
    const done = { by: "1", what: "ban", roomId, userId: "2" };
    await audit.note(done);
    for (let first = 0; first < 1_600; first += 100)
      await Promise.all(
        Array.from({ length: 100 }, (_, index) =>
          audit.note({ by: String(10_000 + first + index), what: "settings", roomId, refused: true }),
        ),
      );
    const last = { by: "3", what: "settings", roomId, refused: true as const };
    await audit.note(last);
    const found = await audit.list(roomId, undefined, 1_000);
    expect(found.at(-1)).toMatchObject(done);
    expect(found[0]).toMatchObject(last);
    expect(found.length).toBeLessThanOrEqual(51);
    expect(await redis.xlen(keys.roomsAudit)).toBeLessThan(1_000);
  });
});

describe("the audit log of the server", () => {
  it("keeps what was done to the server, however much is done in rooms, and tells both in their order", async () => {
    const { redis, keys } = house;
    const audit = new Audit(redis, keys);
    await audit.note({ by: owner.user.id, what: "settings", detail: "the first of all" });
    const inRoom = { by: stranger.user.id, what: "mute", roomId: room.id };
    for (let round = 0; round < 104; round += 1)
      await Promise.all(Array.from({ length: 100 }, () => audit.note(inRoom)));
    // What is done in one ms, in a room and to the server, has no order.
    await sleep(2);
    await audit.note({ by: owner.user.id, what: "settings", detail: "the last of all" });
    const all: AuditEntry[] = [];
    for (let before: string | undefined; ;) {
      const page = await audit.list(null, before, 1_000);
      if (page.length === 0) break;
      all.push(...page);
      before = page.at(-1)?.id;
    }
    expect(all[0]).toMatchObject({ detail: "the last of all" });
    expect(all.filter(({ detail }) => detail === "the first of all")).toHaveLength(1);
    expect(all.length).toBeGreaterThan(10_000);
    const whens = all.map(({ at }) => at);
    expect(whens).toEqual(whens.toSorted((one, other) => other - one));
    expect(new Set(all.map(({ id, roomId }) => `${id} ${roomId}`)).size).toBe(all.length);
  });
});

describe("a page of the audit log", () => {
  it.each([
    ["0-1", 200],
    ["9999999999999999-9999999999999999999", 200],
    ["0-0", 400],
    ["00-000", 400],
    ["1-99999999999999999999", 400],
    ["18446744073709551616-0", 400],
    ["1", 400],
    ["+", 400],
    ["(1-1", 400],
  ])("before %s is answered with %i", async (before, expected) => {
    const { status } = await owner.browser.get(
      `/api/rooms/${room.id}/audit?before=${encodeURIComponent(before)}`,
    );
    expect(status).toBe(expected);
  });
});

describe("what was begun when a server crashed or Redis gave no answer", () => {
  it("stands in the audit log as unfinished; what was refused or could not be does not", async () => {
    const audit = new Audit(house.redis, house.keys);
    const note = { by: owner.user.id, what: "ban", roomId: room.id, userId: member.user.id };
    const list = async () => {
      const all = [await audit.list(room.id, undefined, 10), await audit.list(null, undefined, 10)];
      return all.map((some) =>
        some
          .filter(({ what, roomId }) => what === "ban" && roomId === room.id)
          .map(({ refused, unfinished }) => (refused ? "refused" : unfinished ? "unfinished" : "done")),
      );
    };
    const fails = async (error: Error) => {
      const work = async (begin: () => Promise<void>) => {
        await begin();
        expect(await list()).toEqual([["unfinished"], ["unfinished"]]);
        throw error;
      };
      await expect(audit.noted(note, work)).rejects.toBe(error);
    };
    await fails(new ChatError("taken", ""));
    expect(await list()).toEqual([[], []]);
    await fails(new Error("Redis is away"));
    expect(await list()).toEqual([["unfinished"], ["unfinished"]]);
    expect(await ban(owner, member)).toBe("done");
    const told = ["done", "unfinished"];
    expect(await list()).toEqual([told, told]);
    expect(await ban(stranger, owner)).toBe("not_found");
    expect(await list()).toEqual([told, told]);
    expect(await house.redis.exists(house.keys.roomAudit("424242"))).toBe(0);
  });
});

describe("somebody who is taken out of a room", () => {
  const listed = async (one: Person) =>
    (await one.browser.get<Room[]>("/api/rooms")).body.some(({ id }) => id === room.id);

  it("has lost it from their list before their record goes, so that a crash in between leaves nobody who hears it", async () => {
    const { keys } = house;
    const ways: (() => Promise<unknown>)[] = [
      () => remove(moderator, member),
      () => ban(moderator, member),
      () => member.socket.emitWithAck("room.leave", { roomId: room.id }),
    ];
    for (const way of ways) {
      const commands = await commandsDuring(async () => void (await way()));
      const at = (...words: string[]) =>
        commands.findIndex((command) => words.every((word, place) => command[place] === word));
      const unlisted = at("srem", keys.userRooms(member.user.id), room.id);
      expect(unlisted).toBeGreaterThanOrEqual(0);
      expect(at("HDEL", keys.records(room.id), member.user.id)).toBeGreaterThan(unlisted);
      await lift(moderator, member);
      unwrap(await join(member));
    }
  });

  it("keeps it, if disabled, for the day when they are enabled, where the removal is refused in the end", async () => {
    const { redis, keys } = house;
    const store = new Members(redis, keys, readConfig(house.env));
    await store.barFrom(room.id, member.user.id, true);
    const refuse = () => {
      throw new ChatError("forbidden", "no more");
    };
    await expect(store.takeOut(room.id, member.user.id, null, refuse)).rejects.toThrow("no more");
    expect(await redis.sismember(keys.userRooms(member.user.id), room.id)).toBe(1);
    // Where a crash has taken it from the list all the same, coming in again is enough.
    await redis.srem(keys.userRooms(member.user.id), room.id);
    unwrap(await join(member));
    await member.say(room.id, "here again");
    expect(await listed(member)).toBe(true);
  });

  it("keeps it if the removal is refused in the end", async () => {
    const { redis, keys } = house;
    const store = new Members(redis, keys, readConfig(house.env));
    const refuse = () => {
      throw new ChatError("forbidden", "no more");
    };
    await expect(store.takeOut(room.id, member.user.id, null, refuse)).rejects.toThrow("no more");
    expect(await redis.sismember(keys.userRooms(member.user.id), room.id)).toBe(1);
    expect(await listed(member)).toBe(true);
  });

  it("is not left with it in their list by a join that was under way", async () => {
    const { redis, keys } = house;
    const config = readConfig(house.env);
    const store = new Members(redis, keys, config);
    const fast = (change: () => Promise<unknown>) =>
      new (class extends Members {
        /** Another replica is faster between the record and the list. */
        override async showWithin(...to: Parameters<Members["showWithin"]>) {
          await change();
          return super.showWithin(...to);
        }
      })(redis, keys, config);
    const out = () => store.takeOut(room.id, stranger.user.id, null, () => ({ record: null }));
    await fast(out).join(room.id, stranger.user.id);
    expect(await redis.sismember(keys.userRooms(stranger.user.id), room.id)).toBe(0);
    const outAndIn = async () => {
      await out();
      await store.join(room.id, stranger.user.id);
    };
    await fast(outAndIn).join(room.id, stranger.user.id);
    expect(await redis.sismember(keys.userRooms(stranger.user.id), room.id)).toBe(1);
    for (let round = 0; round < 50; round += 1) {
      await Promise.all([store.join(room.id, stranger.user.id), out()]);
      const isIn = await store.has(room.id, stranger.user.id);
      expect(await redis.sismember(keys.userRooms(stranger.user.id), room.id)).toBe(Number(isIn));
    }
    await out();
  });

  it("is not shown it by a list that a crash has left behind, which is mended", async () => {
    const { redis, keys } = house;
    expect(await remove(moderator, member)).toBe("done");
    await redis.sadd(keys.userRooms(member.user.id), room.id);
    expect(await listed(member)).toBe(false);
    expect(await redis.sismember(keys.userRooms(member.user.id), room.id)).toBe(0);
  });
});

describe("a name", () => {
  it("that a rename has left behind, cut short, is free for another room", async () => {
    const { keys, redis } = house;
    const [old = ""] = room.names;
    await redis.set(keys.roomByName(`moved ${room.id}`), `room:${room.id}`);
    await redis.set(keys.roomName(room.id), `moved ${room.id}`);
    const made = await owner.makes({ name: old });
    expect(await redis.get(keys.roomByName(old))).toBe(`room:${made.id}`);
    await expect(patch(owner, { name: old })).rejects.toThrow("taken");
    expect((await patch(owner, { name: `${old} again` })).names).toEqual([`${old} again`]);
    expect(await redis.exists(keys.roomByName(`moved ${room.id}`))).toBe(0);
  });
});

describe("a room that is renamed twice at once", () => {
  it("has one of the names in the end, claimed, and leaves the others free", async () => {
    const { redis, keys } = house;
    const answers = new Set<string>();
    for (let round = 0; round < 40; round += 1) {
      const names = [`first ${room.id} ${round}`, `second ${room.id} ${round}`];
      const before = await redis.get(keys.roomName(room.id));
      const renamed = await Promise.all(
        names.map((name, index) =>
          patch(index === 0 ? owner : moderator, { name }).then(
            () => name,
            (error: Error) => error.message,
          ),
        ),
      );
      const name = await redis.get(keys.roomName(room.id));
      // Each who was told that it is done had it done, one after the other.
      expect([...names, before]).toContain(name);
      if (renamed.some((answer) => names.includes(answer))) expect(name).not.toBe(before);
      for (const answer of renamed) if (!names.includes(answer)) answers.add(answer);
      expect(await redis.get(keys.roomByName(name ?? ""))).toBe(`room:${room.id}`);
      for (const other of [...names, before ?? ""])
        if (other !== name) expect(await redis.get(keys.roomByName(other))).toBeNull();
    }
    for (const answer of answers) expect(["taken", "unavailable"]).toContain(answer);
  });

  it("keeps its claim also if it is renamed back at that moment", async () => {
    const { redis, keys } = house;
    for (let round = 0; round < 40; round += 1) {
      await patch(owner, { name: `here ${room.id}` });
      const back = async () => {
        await patch(moderator, { name: `here ${room.id}` }).catch(() => undefined);
      };
      await Promise.all([patch(owner, { name: `there ${room.id}` }).catch(() => undefined), back(), back()]);
      const name = (await redis.get(keys.roomName(room.id))) ?? "";
      expect(await redis.get(keys.roomByName(name))).toBe(`room:${room.id}`);
    }
  });
});

describe("an owner who leaves", () => {
  it("leaves an owner also if the heir leaves at the same moment", async () => {
    const { redis, keys } = house;
    const config = readConfig(house.env);
    const store = new Members(redis, keys, config);
    let isFirst = true;
    const slow = new (class extends Members {
      override async change(...what: Parameters<Members["change"]>) {
        if (isFirst) {
          isFirst = false;
          await store.takeOut(room.id, moderator.user.id, null, () => ({ record: null }));
        }
        return super.change(...what);
      }
    })(redis, keys, config);
    await store.takeOut(room.id, owner.user.id, null, () => ({ record: null }));
    await slow.keepOwner(room.id);
    expect(await redis.hgetall(keys.records(room.id))).toEqual({ [member.user.id]: '{"role":"owner"}' });
    expect(await redis.hget(keys.meta(room.id), "unowned")).toBeNull();
  });

  it("gets none of those who come in if its records are lost, but if it was empty on a server of before", async () => {
    const { redis, keys } = house;
    const { id } = await owner.makes({ name: `lost records ${Math.random()}` });
    await until(async () => Number(await redis.hget(keys.settings, "kinds")) >= Number(id));
    await redis.del(keys.records(id));
    unwrap(await join(stranger, id));
    expect(await redis.hgetall(keys.records(id))).toEqual({ [stranger.user.id]: '{"role":"member"}' });
    unwrap(await stranger.socket.emitWithAck("room.leave", { roomId: id }));

    await redis.hset(keys.settings, "kinds", Number(id) - 1);
    await redis.hdel(keys.meta(id), "unowned");
    const later = await house.addReplica();
    const visitor = await windowOf(member, later);
    unwrap(await join(visitor, id));
    expect(await redis.hgetall(keys.records(id))).toEqual({ [member.user.id]: '{"role":"owner"}' });
    visitor.close();
  });

  it("has made another one before they are gone, however they go", async () => {
    const { redis, keys } = house;
    const ways: ((one: Person, id: string) => Promise<unknown>)[] = [
      (one, id) => one.socket.emitWithAck("room.leave", { roomId: id }),
      (one, id) => one.browser.fetch("DELETE", `/api/rooms/${id}/members/${one.user.id}`),
    ];
    for (const way of ways) {
      const { id } = await owner.makes({ name: `heirs ${Math.random()}` });
      unwrap(await join(member, id));
      const commands = await commandsDuring(async () => void (await way(owner, id)));
      const at = (...words: string[]) =>
        commands.findIndex((command) => words.every((word, place) => command[place] === word));
      const records = keys.records(id);
      const given = at("HSET", records, member.user.id, '{"role":"owner"}');
      expect(given).toBeGreaterThanOrEqual(0);
      expect(at("HDEL", records, owner.user.id)).toBeGreaterThan(given);
      expect(await redis.hgetall(keys.records(id))).toEqual({ [member.user.id]: '{"role":"owner"}' });
    }
  });
});

describe("somebody who is muted and banned at once", () => {
  it("does not come back by the mute, on whichever replica each of the two arrives", async () => {
    const { redis, keys } = house;
    for (let round = 0; round < 40; round += 1) {
      unwrap(await join(member));
      const muted = put(owner, member, { mutedUntil: Date.now() + 1 }).catch((error: Error) => error.message);
      const [banned] = await Promise.all([ban(moderator, member), muted]);
      expect(banned).toBe("done");
      expect(await redis.hget(keys.records(room.id), member.user.id)).toBeNull();
      await expect(member.say(room.id, `round ${round}`)).rejects.toThrow("not_found");
      expect(await lift(moderator, member)).toBe("done");
    }
  });
});

describe("somebody deleted", () => {
  it("is neither added to a room nor given a private one", async () => {
    const gone = await person(both(house)[0], "gone-soon");
    const { id } = (await member.browser.post<Room>("/api/rooms/private", { userId: gone.user.id })).body;
    await gone.browser.fetch("DELETE", "/api/me", { password: "correct horse", messages: "keep" });
    await expect(put(owner, gone, {})).rejects.toThrow("not_found");
    const start = (by: Person) => by.browser.post("/api/rooms/private", { userId: gone.user.id });
    expect((await start(owner)).status).toBe(404);
    // What was said there can still be read.
    expect((await start(member)).body).toMatchObject({ id });
    gone.close();
  });
});

describe("filtered words", () => {
  it("are refused on every replica at once, as people read them", async () => {
    const settings = new Settings(house.redis, house.keys, readConfig(house.env));
    await member.say(room.id, "a darn good start");
    await settings.setWords(["darn", "two words"]);
    try {
      await until(() =>
        owner.say(room.id, "darn").then(
          () => false,
          () => true,
        ),
      );
      await until(() =>
        member.say(room.id, "darn").then(
          () => false,
          () => true,
        ),
      );
      for (const text of ["DARN it", "ｄａｒｎ", "dаrn", "d\u200barn", "d a r n!", "dárn", "two  Words"])
        await expect(member.say(room.id, text), text).rejects.toThrow("forbidden");
      const { seq } = await member.say(room.id, "darning a sock, twofold words");
      const edit = { roomId: room.id, seq, message: "darn", rev: 0, nonce: "words" };
      expect(await member.socket.emitWithAck("message.edit", edit)).toMatchObject({
        error: { code: "forbidden" },
      });
    } finally {
      await settings.setWords([]);
    }
  });
});
