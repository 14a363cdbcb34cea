import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { readConfig } from "../config.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import type { Message, Room } from "../protocol.ts";
import {
  both,
  connect,
  person,
  replicas,
  until,
  unwrap,
  type House,
  type Person,
  windowOf,
} from "../testing.ts";
import { Members } from "./members.ts";
import { finishMove } from "./move.ts";

const texts = (one: Person) => one.messages.map(({ message }) => message);

/** Changes records and announces it on a channel that nobody subscribes to. */
function unheard(house: House): Members {
  const keys: Keys = { ...house.keys, roomChannel: () => `${house.keys.channel}:nowhere` };
  return new Members(house.redis, keys, readConfig(house.env));
}

async function makeRoom(owner: Person, ...others: Person[]): Promise<Room> {
  const name = `room ${Math.random()}`;
  const room = await owner.makes({ name });
  for (const one of others) unwrap(await one.socket.emitWithAck("room.join", { roomId: room.id }));
  return room;
}

it("somebody who is disabled is shut out of a few of their rooms at once", async () => {
  const house = await replicas(1);
  const [replica] = house.replicas;
  if (!replica) throw new Error("no replica");
  const ann = await person(replica);
  for (let count = 0; count < 9; count += 1) await makeRoom(ann);
  const members = unheard(house);
  const barFrom = members.barFrom.bind(members);
  let running = 0;
  let most = 0;
  vi.spyOn(members, "barFrom").mockImplementation(async (...args) => {
    most = Math.max(most, (running += 1));
    await barFrom(...args);
    running -= 1;
  });
  await members.bar(ann.user.id, true);
  expect(most).toBe(BOUNDS.roomsAtOnce.value);
  expect(await members.present("1")).toBe(0);
  ann.close();
  await house.close();
});

describe("a member who was removed", () => {
  let house: House;
  let mary: Person;
  let joe: Person;
  let sue: Person;
  beforeAll(async () => {
    house = await replicas(2);
    const [left, right] = both(house);
    [mary, joe, sue] = await Promise.all([person(left), person(right), person(right)]);
  });
  afterAll(() => house.close());

  it("hears nothing that was stored after the removal, though its announcement was lost", async () => {
    const { id } = await makeRoom(mary, joe, sue);
    await mary.say(id, "before");
    await joe.hears("before");
    let hidden = 0;
    joe.socket.on("hide.room", () => (hidden += 1));
    await unheard(house).leave(id, joe.user.id);
    await mary.say(id, "behind his back");
    await sue.hears("behind his back");
    await until(() => hidden === 1);
    await mary.say("0", "to all");
    await joe.hears("to all");
    expect(texts(joe)).not.toContain("behind his back");
    const reply = await joe.socket.emitWithAck("message", { roomId: id, message: "let me", nonce: "n" });
    expect(reply).toMatchObject({ ok: false, error: { code: "not_found" } });
  });

  it("hears everything after being added again, though both announcements were lost", async () => {
    const { id } = await makeRoom(mary, joe);
    await mary.say(id, "one");
    await joe.hears("one");
    const members = unheard(house);
    await members.leave(id, joe.user.id);
    await members.join(id, joe.user.id);
    await mary.say(id, "two");
    await joe.hears("two");
  });

  it("hears nothing after the removal if the changes are no longer known", async () => {
    const { id } = await makeRoom(mary, joe, sue);
    const { redis, keys } = house;
    await unheard(house).leave(id, joe.user.id);
    // As after a failover that kept only the last change.
    await redis.hset(keys.meta(id), { rev: 900, revHash: "0123456789ab" });
    await redis.del(keys.changed(id), keys.revs(id));
    await mary.say(id, "after the failover");
    await sue.hears("after the failover");
    await mary.say("0", "still to all");
    await joe.hears("still to all");
    expect(texts(joe)).not.toContain("after the failover");
  });

  it("hears nothing after the removal in windows that connect at the same moment", async () => {
    const { id } = await makeRoom(mary, sue);
    const members = new Members(house.redis, house.keys, readConfig(house.env));
    for (let round = 0; round < 15; round += 1) {
      await members.join(id, joe.user.id);
      const coming = Array.from({ length: 4 }, () => connect(joe.browser, joe.user));
      const removed = members.leave(id, joe.user.id).then(() => mary.say(id, `secret ${round}`));
      const windows = await Promise.all(coming);
      await removed;
      await sue.hears(`secret ${round}`);
      await mary.say("0", `barrier ${round}`);
      for (const one of [joe, ...windows]) {
        await one.hears(`barrier ${round}`);
        expect(texts(one)).not.toContain(`secret ${round}`);
      }
      for (const one of windows) one.close();
    }
  });
});

describe("a database of the first schema", () => {
  let house: House;
  let ann: Person;
  let bob: Person;
  let roomId: string;

  /** What a server of the first schema does at a join or leave. */
  const older = {
    async join(userId: string) {
      await house.redis.sadd(house.keys.members(roomId), userId);
      await house.redis.sadd(house.keys.userRooms(userId), roomId);
    },
    async leave(userId: string) {
      await house.redis.srem(house.keys.userRooms(userId), roomId);
      await house.redis.srem(house.keys.members(roomId), userId);
    },
  };

  beforeEach(async () => {
    house = await replicas(1);
    const [replica] = house.replicas;
    if (!replica) throw new Error("no replica");
    ann = await person(replica, "ann");
    bob = await person(replica, "bob");
    ({ id: roomId } = await makeRoom(ann));
    const { redis, keys } = house;
    await ann.say(roomId, "of old");
    for (const key of [keys.records, keys.changed, keys.revs]) await redis.del(key(roomId));
    await redis.hdel(keys.meta(roomId), "rev", "revHash");
    await redis.sadd(keys.members(roomId), ann.user.id);
    await redis.set(keys.schema, "1");
  });
  afterEach(() => house.close());

  it("is moved at the first start, and members are members", async () => {
    const newer = await house.addReplica();
    const window = await windowOf(ann, newer);
    await window.say(roomId, "and of new");
    expect(await house.redis.hkeys(house.keys.records(roomId))).toEqual([ann.user.id]);
    const joined = await windowOf(bob, newer);
    unwrap(await joined.socket.emitWithAck("room.join", { roomId }));
    // Servers of the first schema read the set.
    expect(await house.redis.smembers(house.keys.members(roomId))).toContain(bob.user.id);
    for (const one of [window, joined]) one.close();
  });

  it("can be shared with servers of the first schema, through which people join and leave", async () => {
    const newer = await house.addReplica();
    const members = new Members(house.redis, house.keys, readConfig(house.env), { mixed: true });
    await older.join(bob.user.id);
    const window = await windowOf(bob, newer);
    await window.say(roomId, "I came by the old door");
    await members.copySet(roomId);
    expect((await house.redis.hkeys(house.keys.records(roomId))).toSorted()).toEqual(
      [ann.user.id, bob.user.id].toSorted(),
    );
    await older.leave(bob.user.id);
    expect(await members.has(roomId, bob.user.id)).toBe(false);
    window.close();
  });

  it("becomes the second schema once no server of the first is heard", async () => {
    const { redis, keys } = house;
    const schema = { mixed: true };
    const members = new Members(redis, keys, readConfig(house.env), schema);
    await members.move();
    await finishMove({ redis, keys, schema, members }, 1_000);
    expect(await redis.get(keys.schema)).toBe("1");
    await older.join(bob.user.id);
    await finishMove({ redis, keys, schema, members }, 100_000);
    expect(schema.mixed).toBe(false);
    expect(await redis.get(keys.schema)).toBe("2");
    expect(await redis.exists(keys.members(roomId))).toBe(0);
    expect(await members.has(roomId, bob.user.id)).toBe(true);
    expect((await ann.browser.get<{ messages: Message[] }>(`/api/rooms/${roomId}/messages`)).status).toBe(
      200,
    );
  });
});
