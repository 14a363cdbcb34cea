import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createKeys, looksLikeKey } from "./keys.ts";
import { ownRedis, person, replicas, unwrap, type House } from "./testing.ts";

/** The schema in keys.ts' table: name to type. */
const TABLE = new Map(
  readFileSync(new URL("keys.ts", import.meta.url), "utf8")
    .split("\n")
    .flatMap((line) => {
      const row = /^ \* \| `([^`]+)` \| ([a-z ]+) \|/.exec(line);
      return row ? [[row[1] ?? "", row[2] ?? ""] as const] : [];
    }),
);

const ARGUMENTS: Record<string, string[]> = {
  username: ["<name>"],
  roomByName: ["<name>"],
  homes: ["<name>"],
  spoke: ["<id>", "<user>"],
  nonce: ["<id>", "<user>", "<nonce>"],
  edit: ["<id>", "<user>", "<nonce>"],
  mentions: ["<id>", "<user>"],
  thread: ["<id>", "<seq>"],
  invite: ["<code>"],
  session: ["<sid>"],
  reset: ["<code>"],
  roomChannel: ["<roomId>"],
};
const ENDINGS: Record<string, string> = {
  sessionPrefix: "<sid>",
  limitPrefix: ":<what>:<who>",
  adapterChannels: "#...",
};

function built(prefix: string): string[] {
  const { scan: _, ...keys } = createKeys(prefix);
  return Object.entries(keys).map(([name, key]) => {
    if (typeof key === "string") return key + (ENDINGS[name] ?? "");
    return Reflect.apply(key, undefined, ARGUMENTS[name] ?? ["<id>"]) as string;
  });
}

describe("the table of keys", () => {
  it("names exactly the keys and channels that are built", () => {
    expect([...new Set(built(""))].toSorted()).toEqual([...TABLE.keys()].toSorted());
  });

  it("keeps the names that the Redis chat demos in other languages use", () => {
    const keys = createKeys("");
    expect(keys.totalUsers).toBe("total_users");
    expect(keys.username("Pablo")).toBe("username:pablo");
    expect(keys.user("1")).toBe("user:1");
    expect(keys.userRooms("1")).toBe("user:1:rooms");
    expect(keys.room("1:2")).toBe("room:1:2");
    expect(keys.roomName("0")).toBe("room:0:name");
    expect(keys.online).toBe("online_users");
    expect(keys.channel).toBe("MESSAGES");
  });

  it("has all that a user chooses for their rooms, which goes with the account", () => {
    const choices = createKeys("").scan.choicesOf("<id>");
    const others = ["user:<id>", "user:<id>:rooms"];
    const ofUser = [...TABLE.keys()].filter((name) => name.startsWith("user:"));
    expect([...others, ...choices].toSorted()).toEqual(ofUser.toSorted());
  });

  it("puts the prefix into every key and channel", () => {
    for (const key of built("p:")) expect(key).toMatch(/^\{?p:/);
  });
});

describe("the ids in a key's name", () => {
  it.each([
    ["user:7", { user: [7], room: [] }],
    ["user:7:rooms", { user: [7], room: [] }],
    ["room:17", { user: [], room: [17] }],
    ["room:17:name", { user: [], room: [17] }],
    ["{room:17}:nonce:3:a:b", { user: [], room: [17] }],
    ["room:3:12", { user: [3, 12], room: [] }],
    ["{room:3:12}:meta", { user: [3, 12], room: [] }],
    ["room:0", { user: [], room: [] }],
    ["username:7", { user: [], room: [] }],
    ["user:99999999999", { user: [], room: [] }],
    ["user:x", { user: [], room: [] }],
  ])("of %j are %j, with and without a prefix", (key, ids) => {
    expect(createKeys("").scan.idsIn(key)).toEqual(ids);
    const prefixed = key.startsWith("{") ? key.replace("{", "{a.b:") : `a.b:${key}`;
    expect(createKeys("a.b:").scan.idsIn(prefixed)).toEqual(ids);
    expect(createKeys("a.b:").scan.idsIn(prefixed.replace("a.b", "axb"))).toEqual({ user: [], room: [] });
  });
});

describe("the name of a key", () => {
  it.each(["", "p:", "a.b:"])("is split from the prefix %j, and joined again", (prefix) => {
    const names = [...TABLE].flatMap(([name, type]) => (type === "channel" ? [] : name));
    const { scan } = createKeys(prefix);
    expect(names.map((name) => scan.nameOf(scan.keyOf(name)))).toEqual(names);
    const { limitPrefix: _, ...keys } = createKeys(prefix);
    const plain = Object.values(keys).filter((key) => typeof key === "string");
    expect(
      plain.filter((key) => !key.includes("MESSAGES") && !key.includes("socket.io") && !scan.nameOf(key)),
    ).toEqual([]);
  });

  it("does not match keys of another prefix or another program", () => {
    const { scan } = createKeys("p:");
    for (const key of [
      "total_users",
      "q:total_users",
      "{room:0}:meta",
      "p:p:total_users",
      "{p:q:room:0}:meta",
    ])
      expect(scan.nameOf(key), key).toBeUndefined();
    expect(createKeys("").scan.nameOf("p:room:0")).toBeUndefined();
    expect(createKeys("").scan.nameOf("rooms")).toBeUndefined();
    expect(createKeys("a.b:").scan.nameOf("aXb:room:0")).toBeUndefined();
  });
});

describe("two installations in one Redis", () => {
  const words = new Set([...TABLE.keys()].map((name) => /^\{?([\w.]+)/.exec(name)?.[1] ?? ""));
  const stored = [...TABLE].flatMap(([name, type]) => (type === "channel" ? [] : name));

  it.each([...words].filter((word) => !/^(?:MESSAGES|socket)/.test(word)))(
    "have no key in common: no prefix begins with %j and a colon",
    (word) => {
      expect(looksLikeKey(`${word}:`)).toBe(true);
      expect(looksLikeKey(`${word}:second:`)).toBe(true);
    },
  );

  it.each(["staff", "settings", "total_users", "schema", "s", "room", "my-room:", "team:", "audits:"])(
    "have no key in common if one has the prefix %j and the other none",
    (prefix) => {
      expect(looksLikeKey(prefix)).toBe(false);
      const { scan } = createKeys("");
      expect(
        stored.map((name) => createKeys(prefix).scan.keyOf(name)).filter((key) => scan.nameOf(key)),
      ).toEqual([]);
    },
  );

  it("have no key in common where one word is the whole of a key's name", () => {
    const { scan } = createKeys("");
    for (const prefix of ["staff:", "settings:", "total_users:"])
      expect(
        stored.map((name) => createKeys(prefix).scan.keyOf(name)).filter((key) => scan.nameOf(key)),
      ).toEqual([]);
  });
});

describe("on Redis Cluster", () => {
  it.each(["", "chat:"])("the keys of one script share a slot, with prefix %j", async (prefix) => {
    const own = await ownRedis({ persistent: false, args: ["cluster-enabled yes"] });
    const redis = new Redis(own.url);
    try {
      const keys = createKeys(prefix);
      const slots = async (names: string[]) =>
        new Set(await Promise.all(names.map((name) => redis.cluster("KEYSLOT", name))));
      for (const id of ["0", "17", "1:2", "4294967295:9999999999"]) {
        const together = [
          keys.room(id),
          keys.meta(id),
          keys.members(id),
          keys.records(id),
          keys.changed(id),
          keys.revs(id),
          keys.read(id),
          keys.nonce(id, "1", "n:1"),
        ];
        expect(await slots(together), id).toHaveProperty("size", 1);
      }
      expect(await slots([keys.online, keys.leases, keys.leaseCount])).toHaveProperty("size", 1);
      // Rooms are spread over slots: the slot is the room's and not the prefix's.
      expect(await slots([keys.room("1:2"), keys.room("17")])).toHaveProperty("size", 2);
    } finally {
      redis.disconnect();
      await own.close();
    }
  });
});

describe("after use", () => {
  let house: House;
  beforeAll(async () => {
    house = await replicas(2, { RATE_LIMITS: "on" });
  });
  afterAll(() => house.close());

  it("every key in Redis is in the table, with its type", async () => {
    const [left, right] = house.replicas as [House["replicas"][0], House["replicas"][0]];
    const mary = await person(left, "Mary");
    const joe = await person(right, "Joe");
    const { body: room } = await mary.browser.post<{ id: string }>("/api/rooms", {
      name: "Tea & <biscuits>",
    });
    unwrap(await joe.socket.emitWithAck("room.join", { roomId: room.id }));
    await joe.say(room.id, "hello");
    await joe.say("1:2", "just us");
    unwrap(await mary.socket.emitWithAck("room.read", { roomId: room.id, seq: 1 }));
    await joe.browser.post("/api/login", { username: "Joe", password: "not mine" });
    await mary.hears("just us");
    const patterns = [...TABLE]
      .filter(([, type]) => type !== "channel")
      .map(([name, type]) => {
        const pattern = name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/<\w+>/g, "[^{}]+?");
        return { pattern: new RegExp(`^${pattern}$`), type, name };
      })
      // The longest first, because `room:<id>:name` also matches `room:<id>`.
      .toSorted((a, b) => b.name.length - a.name.length);
    const prefix = house.env["KEY_PREFIX"] ?? "";
    const found = await house.redis.keys(`*${prefix}*`);
    const seen = new Set<string>();
    for (const key of found) {
      const fit = patterns.find(({ pattern }) => pattern.test(key.replace(prefix, "")));
      expect(fit, key).toBeDefined();
      const type = await house.redis.type(key);
      expect(type === "zset" ? "sorted set" : type, key).toBe(fit?.type);
      seen.add(fit?.name ?? "");
    }
    expect(seen.size).toBeGreaterThanOrEqual(15);
  });
});
