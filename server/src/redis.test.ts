import { pino } from "pino";
import { expect, it } from "vitest";
import { connectRedis } from "./redis.ts";
import { ownRedis, startWire } from "./testing.ts";

const silent = pino({ level: "silent" });

it("commands of one turn of the event loop leave in one write, in their order", async () => {
  const own = await ownRedis({ persistent: false });
  let writes = 0;
  const wire = await startWire(own.url, (chunk, from) => {
    if (from === "replica") writes += 1;
    return chunk;
  });
  const client = await connectRedis(wire.url, "commands", silent);
  try {
    const before = writes;
    const answers = await Promise.all([
      client.set("a", "1"),
      // A reply that comes between two commands of the same turn would make them two writes.
      Promise.resolve().then(() => client.incr("a")),
      ...Array.from({ length: 20 }, () => client.incr("a")),
      client.get("a"),
    ]);
    expect(answers.at(-1)).toBe("21");
    expect(await client.get("a")).toBe("22");
    expect(writes - before).toBe(2);
  } finally {
    client.disconnect();
    await wire.close();
    await own.close();
  }
});

it("a connection that was lost and is back takes commands again", async () => {
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
