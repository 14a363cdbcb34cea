import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, describe, expect, it, vi } from "vitest";
import { connectRedis } from "../server/src/redis.ts";
import { findRedis, freePort, startRedis, type PrivateRedis } from "./redis.ts";

const folder = mkdtempSync(join(tmpdir(), "hubbub redis "));
const running: PrivateRedis[] = [];

async function start(options: Parameters<typeof startRedis>[0]): Promise<PrivateRedis> {
  const redis = await startRedis(options);
  running.push(redis);
  return redis;
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((redis) => redis.stop(2_000)));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  vi.unstubAllEnvs();
});

describe("startRedis", () => {
  it("listens on a socket alone and keeps what it is given, if it is to", async () => {
    const dir = join(folder, "with a space");
    const first = await start({ dir, persistent: true });
    expect(first.url).toMatch(/^unix:\/\/.*with%20a%20space\/redis\.sock$/);
    let client = await connectRedis(first.url, "commands", pino({ level: "silent" }));
    await client.set("kept", "yes");
    expect(await client.config("GET", "port")).toEqual(["port", "0"]);
    expect(await client.config("GET", "maxmemory-policy")).toEqual(["maxmemory-policy", "noeviction"]);
    client.disconnect();
    await first.stop(2_000);

    const second = await start({ dir, persistent: true });
    expect(second.url).toBe(first.url);
    client = await connectRedis(second.url, "commands", pino({ level: "silent" }));
    expect(await client.get("kept")).toBe("yes");
    client.disconnect();
  });

  it("refuses a folder that another one holds, and leaves that one alone", async () => {
    const first = await start({ dir: folder, persistent: true });
    await expect(start({ dir: folder, persistent: true })).rejects.toMatchObject({ exitCode: 75 });
    const client = await connectRedis(first.url, "commands", pino({ level: "silent" }));
    expect(await client.ping()).toBe("PONG");
    client.disconnect();
  });

  it("takes a port of this machine and a password where the path is too long for a socket", async () => {
    const redis = await start({ dir: join(folder, "x".repeat(100)), persistent: true });
    const { hostname, port, password } = new URL(redis.url);
    expect(hostname).toBe("127.0.0.1");
    expect(password).toMatch(/^[0-9a-f]{48}$/);
    const client = await connectRedis(redis.url, "commands", pino({ level: "silent" }));
    expect(await client.ping()).toBe("PONG");
    client.disconnect();
    const stranger = connectRedis(`redis://127.0.0.1:${port}`, "commands", pino({ level: "silent" }));
    await expect(stranger).rejects.toThrow("NOAUTH");
  });

  it("takes a port that it is given, and further lines of a redis.conf", async () => {
    const port = await freePort();
    const redis = await start({ dir: folder, persistent: false, port, args: ["cluster-enabled yes"] });
    const client = await connectRedis(redis.url, "commands", pino({ level: "silent" }));
    expect(await client.info("cluster")).toContain("cluster_enabled:1");
    client.disconnect();
  });

  it("says why Redis did not start", async () => {
    const wrong = startRedis({ dir: folder, persistent: false, args: ["nonsense yes"] });
    await expect(wrong).rejects.toThrow(/Redis ended at once: .*nonsense/s);
  });

  it("ends the Redis that it was starting when it is told to", async () => {
    const stopping = new AbortController();
    const starting = startRedis({ dir: folder, persistent: true, signal: stopping.signal });
    stopping.abort();
    await expect(starting).rejects.toMatchObject({ exitCode: 130 });
    // The folder is free again.
    await start({ dir: folder, persistent: true });
  });
});

describe("findRedis", () => {
  it("takes no other than REDIS_SERVER_BIN, if that is set", async () => {
    vi.stubEnv("REDIS_SERVER_BIN", "/bin/true");
    await expect(findRedis(() => {})).rejects.toThrow("REDIS_SERVER_BIN=/bin/true does not run as a Redis.");
    const old = join(folder, "redis-server");
    writeFileSync(old, "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0'\n", { mode: 0o755 });
    vi.stubEnv("REDIS_SERVER_BIN", old);
    await expect(findRedis(() => {})).rejects.toMatchObject({ exitCode: 69 });
  });

  it("passes by one on PATH that is too old", async () => {
    writeFileSync(join(folder, "redis-server"), "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0'\n", {
      mode: 0o755,
    });
    vi.stubEnv("PATH", `${folder}:${process.env["PATH"]}`);
    const found = await findRedis(() => {});
    expect(found.kind === "file" && Number(found.version.split(".")[0])).toBeGreaterThanOrEqual(7);
  });
});
