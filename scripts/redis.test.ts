import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, describe, expect, it, vi } from "vitest";
import { connectRedis, type RedisClient } from "../server/src/store/redis.ts";
import { until } from "../server/src/testing.ts";
import { findOwnRedis, findRedis, freePort, startRedis, type PrivateRedis } from "./redis.ts";

const folder = mkdtempSync(join(tmpdir(), "hubbub redis "));
const running: PrivateRedis[] = [];

async function start(options: Parameters<typeof startRedis>[0]): Promise<PrivateRedis> {
  const redis = await startRedis(options);
  running.push(redis);
  return redis;
}

async function settled(client: RedisClient): Promise<void> {
  await until(async () => (await client.info("persistence")).includes("aof_rewrite_in_progress:0"));
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((redis) => redis.stop(2_000)));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  vi.unstubAllEnvs();
});

describe("startRedis", () => {
  it("listens only on a socket, and keeps data only if it is persistent", async () => {
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

  it("refuses a folder that another Redis uses, and leaves that one alone", async () => {
    const first = await start({ dir: folder, persistent: true });
    await expect(start({ dir: folder, persistent: true })).rejects.toMatchObject({ exitCode: 75 });
    const client = await connectRedis(first.url, "commands", pino({ level: "silent" }));
    expect(await client.ping()).toBe("PONG");
    client.disconnect();
  });

  it("uses a port of this machine and a password if the path is too long for a socket", async () => {
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

  it("uses a given port and further lines of a redis.conf", async () => {
    const port = await freePort();
    const redis = await start({ dir: folder, persistent: false, port, args: ["databases 3"] });
    const client = await connectRedis(redis.url, "commands", pino({ level: "silent" }));
    expect(await client.config("GET", "databases")).toEqual(["databases", "3"]);
    client.disconnect();
  });

  it("says why Redis did not start", async () => {
    const wrong = startRedis({ dir: folder, persistent: false, args: ["nonsense yes"] });
    await expect(wrong).rejects.toThrow(/Redis ended at once: .*nonsense/s);
  });

  it("stops a Redis that is starting when it is told to", async () => {
    const stopping = new AbortController();
    const starting = startRedis({ dir: folder, persistent: true, signal: stopping.signal });
    stopping.abort();
    await expect(starting).rejects.toMatchObject({ exitCode: 130 });
    // The folder is free again.
    await start({ dir: folder, persistent: true });
  });
});

describe("the folder of a Redis that keeps everything", () => {
  const log = join(folder, "appendonlydir");
  const manifest = join(log, "appendonly.aof.manifest");
  const base = join(log, "appendonly.aof.1.base.rdb");
  const snapshot = join(folder, "dump.rdb");

  /** Starts a Redis, stores `key`, and stops it again. */
  async function keep(key: string, then?: (client: RedisClient) => Promise<unknown>): Promise<void> {
    const redis = await start({ dir: folder, persistent: true });
    const client = await connectRedis(redis.url, "commands", pino({ level: "silent" }));
    await client.set(key, "kept");
    await then?.(client);
    client.disconnect();
    await redis.stop(2_000);
  }

  async function kept(redis: PrivateRedis): Promise<string[]> {
    const client = await connectRedis(redis.url, "commands", pino({ level: "silent" }));
    const found = await client.keys("*");
    client.disconnect();
    return found.toSorted();
  }

  /** Leaves only a snapshot with `key` in the folder. */
  async function leaveSnapshot(key: string): Promise<void> {
    await keep(key, (client) => client.save());
    rmSync(log, { recursive: true });
  }

  it("gives Redis a snapshot that is alone there, and leaves the file unchanged", async () => {
    await leaveSnapshot("of the snapshot");
    const before = readFileSync(snapshot);
    const said: string[] = [];
    const redis = await start({ dir: folder, persistent: true, say: (line) => said.push(line) });
    expect(await kept(redis)).toEqual(["of the snapshot"]);
    expect(said).toEqual([
      expect.stringMatching(/^Redis takes over .*dump\.rdb \(1 kB, \d{4}-.*stays as it is\.$/),
    ]);
    expect(readFileSync(snapshot)).toEqual(before);
    expect(redis.unread).toEqual([]);
    await redis.stop(2_000);
    // From now on it is beside an append-only file.
    expect((await start({ dir: folder, persistent: true })).unread).toEqual([
      expect.stringContaining(snapshot),
    ]);
  });

  it("gives Redis an append-only file from before version 7, and names the unread snapshot", async () => {
    await keep("of the old file", (client) => client.call("BGREWRITEAOF").then(() => settled(client)));
    const newest = readdirSync(log).find((name) => name.endsWith(".base.rdb")) ?? "";
    copyFileSync(join(log, newest), join(folder, "appendonly.aof"));
    rmSync(log, { recursive: true });
    writeFileSync(snapshot, "older");
    const redis = await start({ dir: folder, persistent: true });
    expect(await kept(redis)).toEqual(["of the old file"]);
    expect(redis.unread).toEqual([expect.stringContaining(snapshot)]);
  });

  it("names unread files beside an append-only file", async () => {
    await keep("a");
    for (const name of ["dump.rdb", "backup.rdb", "appendonly.aof"])
      writeFileSync(join(folder, name), "data");
    writeFileSync(join(folder, "empty.rdb"), "");
    const { unread } = await start({ dir: folder, persistent: true });
    expect(unread.map((line) => line.replace(/^.*\/(\S+) .*$/, "$1")).toSorted()).toEqual([
      "appendonly.aof",
      "backup.rdb",
      "dump.rdb",
    ]);
  });

  it.each([
    ["without its manifest", () => rmSync(manifest), "there is no appendonly.aof.manifest for"],
    [
      "with a manifest that was cut short",
      () => writeFileSync(manifest, readFileSync(manifest, "utf8").split("\n")[0] ?? ""),
      "appendonly.aof.manifest does not list appendonly.aof.1.incr.aof",
    ],
    ["with an empty manifest", () => truncateSync(manifest), "does not list"],
  ])("is refused %s, and not touched: Redis would write over it", async (_what, spoil, words) => {
    await keep("a");
    const whole = readFileSync(manifest);
    spoil();
    const before = readdirSync(log).map((name) => readFileSync(join(log, name), "latin1"));
    await expect(start({ dir: folder, persistent: true })).rejects.toMatchObject({
      exitCode: 65,
      message: expect.stringContaining(words) as string,
    });
    expect(readdirSync(log).map((name) => readFileSync(join(log, name), "latin1"))).toEqual(before);
    writeFileSync(manifest, whole);
    expect(await kept(await start({ dir: folder, persistent: true }))).toEqual(["a"]);
  });

  it("reports that the append-only file's end is missing", async () => {
    await keep("a", (client) => client.set("b", "x"));
    const incr = join(log, "appendonly.aof.1.incr.aof");
    truncateSync(incr, statSync(incr).size - 3);
    const said: string[] = [];
    const redis = await start({ dir: folder, persistent: true, say: (line) => said.push(line) });
    expect(await kept(redis)).toEqual(["a"]);
    expect(said).toEqual([expect.stringContaining("was cut off")]);
  });

  it("says why Redis cannot read the file: damaged in the middle, or from a newer Redis, whose snapshot stays unused", async () => {
    await keep("a");
    appendFileSync(join(log, "appendonly.aof.1.incr.aof"), "nonsense\r\nmore\r\n");
    await expect(start({ dir: folder, persistent: true })).rejects.toThrow(/Bad file format/);
    rmSync(log, { recursive: true });

    await leaveSnapshot("b");
    const bytes = readFileSync(snapshot);
    bytes.write("9999", 5);
    writeFileSync(snapshot, bytes);
    for (let tries = 0; tries < 2; tries += 1) {
      await expect(start({ dir: folder, persistent: true })).rejects.toThrow(/written by a newer Redis/);
      expect(existsSync(log)).toBe(false);
    }
  });

  it.skipIf(process.getuid?.() !== 0)("is refused in one line if it belongs to another user", async () => {
    await keep("a");
    // Found before: a program that we have unpacked does not find its libraries while we act for somebody else.
    const program = await findRedis(() => {});
    process.seteuid?.(65_534);
    try {
      await expect(start({ dir: folder, persistent: true, program })).rejects.toMatchObject({ exitCode: 73 });
    } finally {
      process.seteuid?.(0);
    }
    renameSync(base, `${base}.away`);
    writeFileSync(join(folder, "a file"), "");
    await expect(start({ dir: join(folder, "a file"), persistent: true })).rejects.toMatchObject({
      exitCode: 73,
    });
  });

  it("is refused in one line where no folder can be made", async () => {
    await expect(start({ dir: "/proc/hubbub/redis", persistent: true })).rejects.toMatchObject({
      exitCode: 73,
    });
  });
});

describe("findOwnRedis", () => {
  const redisDir = (dataDir: string) => join(dataDir, "redis");

  it.each([
    ["on a socket", "data"],
    ["on a port, where the path is too long for a socket", "x".repeat(110)],
  ])("finds the Redis of DATA_DIR %s, by a file that nobody else may read", async (_where, name) => {
    const dataDir = join(folder, name);
    const redis = await start({ dir: redisDir(dataDir), persistent: true });
    expect(await findOwnRedis({ DATA_DIR: dataDir, REDIS_URL: "" })).toBe(redis.url);
    // As a file with the line ends of Windows gives them.
    expect(await findOwnRedis({ DATA_DIR: `${dataDir}\r`, REDIS_URL: " \r" })).toBe(redis.url);
    expect(statSync(join(redisDir(dataDir), "address.json")).mode & 0o777).toBe(0o600);
    expect(await findOwnRedis({ DATA_DIR: dataDir, REDIS_URL: "redis://elsewhere" })).toBe(
      "redis://elsewhere",
    );
    await redis.stop(2_000);
    expect(existsSync(join(redisDir(dataDir), "address.json"))).toBe(false);
  });

  it("uses no other Redis: neither one that got its port nor the one on 6379", async () => {
    const dataDir = join(folder, "x".repeat(110));
    const redis = await start({ dir: redisDir(dataDir), persistent: true });
    const file = join(redisDir(dataDir), "address.json");
    const left = readFileSync(file);
    const { port, password } = new URL(redis.url);
    await redis.stop(2_000);
    await start({ dir: join(folder, "another"), persistent: false, port: Number(port), password });
    writeFileSync(file, left);
    await expect(findOwnRedis({ DATA_DIR: dataDir })).rejects.toMatchObject({
      exitCode: 69,
      message: expect.stringContaining("does not answer") as string,
    });
    await expect(findOwnRedis({ DATA_DIR: join(folder, "none") })).rejects.toMatchObject({
      exitCode: 69,
      message: expect.stringContaining("REDIS_URL is not set") as string,
    });
  });

  it("takes no ~ for a folder", async () => {
    await expect(findOwnRedis({ DATA_DIR: "~/hubbub" })).rejects.toMatchObject({
      exitCode: 78,
      message: expect.stringMatching(/^DATA_DIR takes a path without ~/) as string,
    });
  });
});

describe("findRedis", () => {
  it("uses only REDIS_SERVER_BIN if it is set", async () => {
    vi.stubEnv("REDIS_SERVER_BIN", "/bin/true");
    await expect(findRedis(() => {})).rejects.toThrow("REDIS_SERVER_BIN=/bin/true does not run as a Redis.");
    const old = join(folder, "redis-server");
    writeFileSync(old, "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0'\n", { mode: 0o755 });
    vi.stubEnv("REDIS_SERVER_BIN", old);
    await expect(findRedis(() => {})).rejects.toMatchObject({ exitCode: 69 });
  });

  it("skips a Redis on PATH that is too old", async () => {
    writeFileSync(join(folder, "redis-server"), "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0'\n", {
      mode: 0o755,
    });
    vi.stubEnv("PATH", `${folder}:${process.env["PATH"]}`);
    vi.stubEnv("REDIS_SERVER_BIN", " \r");
    const found = await findRedis(() => {});
    expect(found.kind === "file" && Number(found.version.split(".")[0])).toBeGreaterThanOrEqual(7);
  });
});
