import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readConfig } from "../config.ts";
import { createKeys, type Keys } from "../keys.ts";
import { checkSchema } from "./schema.ts";
import { startServer } from "../server.ts";
import { person, replicas, testRedisUrl, unwrap, windowOf } from "../testing.ts";

let prefix: string;
let redis: Redis;
let keys: Keys;

beforeEach(() => {
  prefix = `test-${randomBytes(6).toString("hex")}:`;
  redis = new Redis(testRedisUrl());
  keys = createKeys(prefix);
});

afterEach(async () => {
  const left = await redis.keys(`*${prefix}*`);
  if (left.length > 0) await redis.del(left);
  redis.disconnect();
});

it("gives an unused Redis the present version, and one older than versions the first", async () => {
  await checkSchema(redis, keys);
  expect(await redis.get(keys.schema)).toBe("2");
  await redis.del(keys.schema);
  await redis.set(keys.totalUsers, 6);
  await checkSchema(redis, keys);
  expect(await redis.get(keys.schema)).toBe("1");
});

it("nobody loses a room, or its ownership, if the version is lost before a start", async () => {
  const house = await replicas(1);
  try {
    const [replica] = house.replicas;
    const owner = await person(replica!);
    const stranger = await person(replica!);
    const room = await owner.makes({ name: "Workshop" });
    await house.redis.del(house.keys.schema);
    const later = await house.addReplica();
    expect(await house.redis.get(house.keys.schema)).toBe("2");
    const visitor = await windowOf(stranger, later);
    unwrap(await visitor.socket.emitWithAck("room.join", { roomId: room.id }));
    const back = await windowOf(owner, later);
    expect((await back.browser.get(`/api/rooms/${room.id}/messages`)).status).toBe(200);
    expect(await house.redis.hgetall(house.keys.records(room.id))).toEqual({
      [owner.user.id]: '{"role":"owner"}',
      [stranger.user.id]: '{"role":"member"}',
    });
  } finally {
    await house.close();
  }
});

it("data of the first version without a version is the first version's, also if some of it was moved", async () => {
  await redis.set(keys.totalRooms, 2);
  await redis.hset(keys.records("1"), "1", '{"role":"member"}');
  await redis.sadd(keys.members("2"), "1");
  await checkSchema(redis, keys);
  expect(await redis.get(keys.schema)).toBe("1");
});

it.each([
  ["3", /newer Hubbub \(schema 3, and this one knows 2\)/],
  ["10", /newer Hubbub \(schema 10/],
  [
    "restoring a backup of 2026-11-26",
    /holds half a backup: restoring a backup of 2026-11-26.*npm run restore/,
  ],
  ["0", /is no version: "0"/],
  ["one", /is no version: "one"/],
])("a server refuses to start, and writes nothing, if the version is %j", async (version, words) => {
  await redis.set(keys.schema, version);
  const config = readConfig({ REDIS_URL: testRedisUrl(), KEY_PREFIX: prefix, PORT: "0", CLIENT_DIR: "off" });
  await expect(startServer(config, pino({ level: "silent" }))).rejects.toThrow(words);
  expect(await redis.keys(`*${prefix}*`)).toEqual([keys.schema]);
});

it("a started server stores a version", async () => {
  const house = await replicas(2);
  try {
    expect(await house.redis.get(house.keys.schema)).toBe("2");
  } finally {
    await house.close();
  }
});
