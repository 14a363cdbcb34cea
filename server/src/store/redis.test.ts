import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Cluster } from "ioredis";
import { pino } from "pino";
import { expect, it } from "vitest";
import { connectRedis, defineScript, overWrongType } from "./redis.ts";
import { garbage, ownRedis } from "../testing.ts";

const silent = pino({ level: "silent" });

it("a lone command leaves at once, and later ones of the same turn of the event loop leave in one write, in order", async () => {
  const own = await ownRedis({ persistent: false });
  const client = await connectRedis(own.url, "commands", silent);
  if (client instanceof Cluster) throw new Error("one Redis is no Cluster");
  const { stream } = client;
  let writes = 0;
  for (const method of ["_write", "_writev"] as const) {
    const write = Reflect.get(stream, method) as (...args: unknown[]) => void;
    Reflect.set(stream, method, (...args: unknown[]) => {
      writes += 1;
      write.apply(stream, args);
    });
  }
  try {
    const answers = await Promise.all([
      client.set("a", "1"),
      Promise.resolve().then(() => client.incr("a")),
      ...Array.from({ length: 20 }, () => client.incr("a")),
      client.get("a"),
    ]);
    expect(answers.at(-1)).toBe("21");
    expect(writes).toBe(2);
    expect(await client.get("a")).toBe("22");
    expect(writes).toBe(3);
  } finally {
    client.disconnect();
    await own.close();
  }
});

it("a connection takes commands again after it was lost and restored", async () => {
  const own = await ownRedis({ persistent: false });
  const client = await connectRedis(own.url, "commands", silent);
  try {
    await own.kill();
    await expect(client.get("a")).rejects.toThrow();
    await own.start();
    await expect.poll(() => client.set("a", "2").catch(() => null), { timeout: 10_000 }).toBe("OK");
  } finally {
    client.disconnect();
    await own.close();
  }
});

it("a channel that was left while its subscription was under way is not subscribed to by the next connection", async () => {
  const own = await ownRedis({ persistent: false });
  const client = await connectRedis(own.url, "subscriptions", silent);
  if (client instanceof Cluster) throw new Error("one Redis is no Cluster");
  const admin = await connectRedis(own.url, "commands", silent);
  try {
    await Promise.all([
      client.subscribe("kept", "left"),
      client.unsubscribe("left", "back"),
      client.subscribe("back"),
    ]);
    await admin.call("CLIENT", "KILL", "TYPE", "pubsub");
    const numbers = () => admin.pubsub("NUMSUB", "kept", "left", "back");
    await expect.poll(numbers, { timeout: 10_000 }).toEqual(["kept", 1, "left", 0, "back", 1]);
  } finally {
    client.disconnect();
    admin.disconnect();
    await own.close();
  }
});

it("replies of commands and scripts are freed before the whole heap is collected", async () => {
  const own = await ownRedis({ persistent: false });
  const client = await connectRedis(own.url, "commands", silent);
  const folder = await mkdtemp(join(tmpdir(), "hubbub-script-"));
  const file = join(folder, "get.lua");
  await writeFile(file, "return redis.call('GET', KEYS[1])");
  const get = defineScript(client, pathToFileURL(file).href, true);
  const BYTES = 200_000;
  const TIMES = 50;
  const { collectYoung } = garbage();
  /** How many bytes more are in use after long replies, although the young generation was collected after each. */
  async function leftBy(read: () => Promise<unknown>): Promise<number> {
    const before = process.memoryUsage().arrayBuffers;
    for (let time = 0; time < TIMES; time += 1) {
      const { length } = (await read()) as Buffer;
      expect(length).toBe(BYTES);
      await setImmediate();
      collectYoung();
    }
    return process.memoryUsage().arrayBuffers - before;
  }
  try {
    await client.set("long", Buffer.alloc(BYTES));
    expect(await leftBy(() => client.getBuffer("long"))).toBeLessThan((BYTES * TIMES) / 5);
    expect(await leftBy(() => get(["long"], []))).toBeLessThan((BYTES * TIMES) / 5);
  } finally {
    client.disconnect();
    await own.close();
    await rm(folder, { recursive: true });
  }
});

it("nobody's write goes with a key of a wrong type that others replace too", async () => {
  const own = await ownRedis({ persistent: false });
  const clients = await Promise.all(
    Array.from({ length: 4 }, () => connectRedis(own.url, "commands", silent)),
  );
  const [first] = clients;
  try {
    for (let round = 0; round < 100; round += 1) {
      const key = `key${round}`;
      await first?.set(key, "text");
      const writes = clients.map((client, place) =>
        overWrongType(client, key, "ZCARD", () => client.zadd(key, 1, String(place))),
      );
      await Promise.all(writes);
      expect(await first?.zrange(key, "0", "-1")).toEqual(["0", "1", "2", "3"]);
    }
  } finally {
    for (const client of clients) client.disconnect();
    await own.close();
  }
});

it("a script is sent again after Redis has forgotten it, and commands take objects, fail and time out as before", async () => {
  const own = await ownRedis({ persistent: false });
  const client = await connectRedis(own.url, "commands", silent);
  const script = defineScript(client, "look.lua");
  const look = (keys: string[]) => script(keys, ["a", 2, 1, "doubt", "mine"]);
  try {
    await client.hset("hash", { a: 1, b: "two", doubt: "mine" });
    expect(await look(["looks"])).toBe(0);
    await client.script("FLUSH");
    expect(await look(["hash"])).toBe(1);
    expect(await client.hgetall("hash")).toEqual({ a: "2", b: "two" });
    await expect(client.incr("hash")).rejects.toThrow("WRONGTYPE");
    await client.set("text", "");
    await expect(look(["text"])).rejects.toThrow("WRONGTYPE");
    const called = new Promise((resolve) => {
      void client.get("none", (error, value) => resolve([error, value]));
    });
    expect(await called).toEqual([null, null]);
    await client.call("client", "pause", "10000");
    await expect(client.get("text")).rejects.toThrow("Command timed out");
  } finally {
    client.disconnect();
    await own.close();
  }
});
