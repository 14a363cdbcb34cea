import { Cluster } from "ioredis";
import { pino } from "pino";
import { expect, it } from "vitest";
import { connectRedis } from "./redis.ts";
import { ownRedis } from "../testing.ts";

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
