import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, createServer, request, type ServerResponse } from "node:http";
import { connect as connectTcp, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { pino } from "pino";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { readConfig } from "../config.ts";
import type { Message, UploadedFile, User } from "../protocol.ts";
import { Collector } from "../chat/collector.ts";
import { Users } from "../chat/users.ts";
import { startServer, type Replica } from "../server.ts";
import { createBlobs } from "../store/blobs.ts";
import { Files } from "../store/files.ts";
import {
  both,
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

/** An S3 store of which a test decides how it fails. */
async function startStore() {
  const objects = new Map<string, Buffer>();
  const store = {
    objects,
    down: false,
    /** It removes nothing. */
    keeps: false,
    /** Answers a GET in its own way. */
    answer: undefined as ((response: ServerResponse, body: Buffer) => void) | undefined,
  };
  const server = createServer((asked, response) => {
    const name = new URL(asked.url ?? "", "http://store").pathname.split("/").at(-1) ?? "";
    const parts: Buffer[] = [];
    asked.on("data", (part: Buffer) => parts.push(part));
    asked.on("end", () => {
      const body = objects.get(name);
      if (store.down) response.writeHead(500).end();
      else if (asked.method === "PUT") {
        objects.set(name, Buffer.concat(parts));
        response.writeHead(200).end();
      } else if (asked.method === "DELETE" && store.keeps) response.writeHead(403).end();
      else if (asked.method === "DELETE") {
        objects.delete(name);
        response.writeHead(204).end();
      } else if (!body) response.writeHead(404).end("<Code>NoSuchKey</Code>");
      else if (store.answer) store.answer(response, body);
      else response.writeHead(200, { "content-length": body.length }).end(body);
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    ...store,
    store,
    url: `s3://key:secret@127.0.0.1:${(server.address() as AddressInfo).port}/bucket?tls=off`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

let away: Awaited<ReturnType<typeof startStore>>;
let house: House;
let owner: Person;
let bob: Person;
beforeAll(async () => {
  away = await startStore();
  house = await newServer(2, { FILES_URL: away.url, FILES_MAX: "300000", FILES_USER_MAX: "1000000" });
  owner = await person(both(house)[0], "olga");
  bob = await person(both(house)[1], "bob");
});
afterAll(async () => {
  await house.close();
  away.close();
});

async function upload({ browser }: Person, bytes: Uint8Array<ArrayBuffer>) {
  const response = await fetch(`${browser.address}/api/files`, {
    method: "POST",
    headers: {
      origin: browser.address,
      cookie: browser.cookie,
      "content-type": "text/plain",
      "x-file-name": "a.bin",
      "x-room-id": "0",
    },
    body: bytes,
  });
  return { status: response.status, body: (await response.json()) as UploadedFile & { code?: string } };
}

const send = (one: Person, nonce: string, id: string) =>
  one.socket.emitWithAck("message", { roomId: "0", message: "", nonce, files: [id] });

/** What becomes of a GET on one kept connection. */
function ask(agent: Agent, path: string, headers: Record<string, string> = {}): Promise<string> {
  return new Promise((done) => {
    const cookie = { cookie: bob.browser.cookie };
    const asked = request(`${bob.browser.address}${path}`, { agent, headers: { ...cookie, ...headers } });
    asked.on("response", (response) => {
      let text = "";
      response.on("data", (part: Buffer) => (text += part.toString("latin1")));
      response.on("end", () => done(`${response.statusCode} ${text.slice(0, 20)}`));
      response.on("error", () => done("cut"));
    });
    asked.on("error", () => done("cut"));
    asked.end();
  });
}

describe("a download that its store does not give", () => {
  it("is refused whole, or cut where it has begun, and leaves its connection usable", async () => {
    const { body: file } = await upload(bob, randomBytes(50_000));
    unwrap(await send(bob, "one", file.id));
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    const path = `/api/files/${file.id}`;
    away.store.down = true;
    expect(await ask(agent, path)).toMatch(/^503 {"code":"unavailable/);
    expect(await ask(agent, path, { range: "bytes=0-9" })).toMatch(/^503 {"code":"unavailable/);
    expect(await ask(agent, "/api/me")).toMatch(/^200 {"id":/);
    away.store.down = false;
    // Part of it, and then nothing more.
    away.store.answer = (response, bytes) => {
      response.writeHead(200);
      response.end(bytes.subarray(0, 20_000));
    };
    expect(await ask(agent, path)).toBe("cut");
    // The head alone, and then the end of the connection.
    away.store.answer = (response, { length }) => {
      response.writeHead(200, { "content-length": length });
      response.flushHeaders();
      setTimeout(() => response.destroy(), 50);
    };
    expect(await ask(agent, path)).toMatch(/^(?:cut|50\d)/);
    away.store.answer = undefined;
    expect(await ask(agent, path)).toMatch(/^200 /);
    expect(await ask(agent, "/api/me")).toMatch(/^200 {"id":/);
  });
});

it("what the store does not give a reader is in the log: why, that it broke off, or that it has nothing under the file's id", async () => {
  const lines: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
  const replica = await startServer(readConfig(house.env), log);
  onTestFinished(() => replica.close());
  const { body: file } = await upload(bob, randomBytes(1_000));
  unwrap(await send(bob, "told", file.id));
  const told = async () => {
    lines.length = 0;
    const response = await fetch(`${replica.address}/api/files/${file.id}`, {
      headers: { cookie: bob.browser.cookie },
    });
    const status = await response.arrayBuffer().then(
      () => response.status,
      () => "cut",
    );
    return { status, lines: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
  };
  expect(await told()).toEqual({ status: 200, lines: [] });
  away.store.down = true;
  const broken = { msg: "the store of files did not do it", reason: "the store answered 500" };
  // The log takes a few such lines a second, of all replicas of a process.
  await expect.poll(told).toMatchObject({ status: 503, lines: [broken] });
  away.store.down = false;
  onTestFinished(() => void (away.store.answer = undefined));
  away.store.answer = (response, bytes) => response.writeHead(200).end(bytes.subarray(0, 500));
  const short = { ...broken, reason: `what is there under ${file.id} has another length` };
  await expect.poll(told).toMatchObject({ status: "cut", lines: [short] });
  away.store.answer = (response, bytes) => {
    response.writeHead(200, { "content-length": bytes.length });
    response.write(bytes.subarray(0, 500), () => response.destroy());
  };
  await expect.poll(told).toMatchObject({ status: "cut", lines: [{ ...broken, reason: "ECONNRESET" }] });
  away.store.answer = undefined;
  away.objects.delete(file.id);
  const gone = { msg: "the store does not have a file", reason: `nothing is there under ${file.id}` };
  await expect.poll(told).toMatchObject({ status: 404, lines: [gone] });
});

describe("a download of which its store gives more than there is", () => {
  it("ends its connection, so that the rest is nobody's next answer", async () => {
    const { body: file } = await upload(bob, randomBytes(1_000));
    unwrap(await send(bob, "more", file.id));
    away.store.answer = (response, bytes) => {
      response.writeHead(206);
      response.end(Buffer.concat([bytes.subarray(0, 10), Buffer.from("HTTP/1.1 200 OK")]));
    };
    const { hostname, port } = new URL(bob.browser.address);
    const socket = connectTcp(Number(port), hostname);
    const head = [`GET /api/files/${file.id} HTTP/1.1`, `Host: ${hostname}:${port}`, "Range: bytes=0-9"];
    socket.write([...head, `Cookie: ${bob.browser.cookie}`, "Connection: close", "", ""].join("\r\n"));
    const text = await textOf(socket).catch(() => "");
    away.store.answer = undefined;
    expect(text).not.toContain("200 OK");
  });
});

describe("an upload that is under way", () => {
  /** Sends a part of a file through a replica; answers how to go on. */
  async function begin({ address }: Pick<Replica, "address">) {
    const asked = request(`${address}/api/files`, {
      method: "POST",
      agent: false,
      headers: {
        origin: address,
        cookie: bob.browser.cookie,
        "x-file-name": "a.bin",
        "x-room-id": "0",
        "content-length": 100_000,
      },
    });
    const status = new Promise<number | undefined>((done) => {
      asked.on("response", (response) => done(response.resume().statusCode));
      asked.on("error", () => done(undefined));
    });
    const before = await usedByBob();
    asked.write(Buffer.alloc(1_000, 1));
    await until(async () => (await usedByBob()) === before + 100_000);
    const [id = ""] = await house.redis.zrange(house.keys.filesDue, "-1", "-1");
    return { before, id, status, end: () => asked.end(Buffer.alloc(99_000, 1)) };
  }
  const usedByBob = async () => Number(await house.redis.hget(house.keys.filesUsed, bob.user.id));

  it("counts for two hours at most once its replica has ended", async () => {
    const third = await house.addReplica();
    const { before, status } = await begin(third);
    await third.close();
    expect(await status).toBeUndefined();
    expect(await usedByBob()).toBe(before + 100_000);
    const config = readConfig(house.env);
    const collector = new Collector({
      files: new Files(house.redis, house.keys),
      blobs: createBlobs(config.files.address, config.files.spool),
      users: new Users(house.redis, house.keys, config),
      log: pino({ level: "silent" }),
    });
    await collector.collect(Date.now() + 2 * 3_600_000);
    expect(await usedByBob()).toBe(before);
  });

  it("is looked at by nobody, however long it takes, and then after a day if it is not sent", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    onTestFinished(() => void vi.useRealTimers());
    const { id, status, end } = await begin(both(house)[1]);
    const due = async () => Number(await house.redis.zscore(house.keys.filesDue, id));
    await house.redis.zadd(house.keys.filesDue, 1, id);
    vi.advanceTimersByTime(600_000);
    await until(async () => (await due()) > Date.now() + 3_000_000);
    expect(await due()).toBeLessThan(Date.now() + 4_000_000);
    end();
    expect(await status).toBe(201);
    vi.advanceTimersByTime(600_000);
    expect(await due()).toBeGreaterThan(Date.now() + 23 * 3_600_000);
    expect((await bob.browser.fetch("DELETE", `/api/files/${id}`)).status).toBe(204);
  });
});

describe("an upload that its store does not take", () => {
  it("counts no longer, and is looked at soon", async () => {
    const before = Number(await house.redis.hget(house.keys.filesUsed, bob.user.id));
    away.store.down = true;
    for (let tries = 0; tries < 5; tries += 1)
      expect((await upload(bob, randomBytes(300_000))).status).toBe(503);
    away.store.down = false;
    expect(Number(await house.redis.hget(house.keys.filesUsed, bob.user.id))).toBe(before);
    const [, due] = await house.redis.zrange(house.keys.filesDue, "-1", "-1", "WITHSCORES");
    expect(Number(due)).toBeLessThan(Date.now() + 120_000);
    expect((await upload(bob, randomBytes(300_000))).status).toBe(201);
  });

  it("is refused for now where the disk is full, however large it is", async ({ skip }) => {
    const place = mkdtempSync(join(tmpdir(), "hubbub-full-"));
    onTestFinished(() => rmSync(place, { recursive: true, force: true }));
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=300k", "tmpfs", place], { stdio: "ignore" });
    } catch {
      // Only root may mount.
      skip();
    }
    onTestFinished(() => void execFileSync("umount", ["-l", place]));
    const small = await replicas(1, { FILES_URL: `file:${join(place, "files")}` });
    onTestFinished(() => small.close());
    const one = await person(small.replicas[0]!);
    for (const size of [350_000, 500_000, 5_000_000])
      expect(await upload(one, randomBytes(size)), String(size)).toMatchObject({
        status: 503,
        body: { code: "unavailable" },
      });
    expect((await upload(one, randomBytes(1_000))).status).toBe(201);
  });
});

describe("a store that removes nothing", () => {
  const setPicture = async (): Promise<{ status: number; body: User }> => {
    const { address, cookie } = bob.browser;
    const image = sharp({ create: { width: 50, height: 50, channels: 3, background: "#369" } });
    const response = await fetch(`${address}/api/me/avatar`, {
      method: "PUT",
      headers: { origin: address, cookie },
      body: Buffer.from(await image.png().toBuffer()),
    });
    return { status: response.status, body: (await response.json()) as User };
  };

  it("keeps nobody from another picture, from none, and from taking a file back", async () => {
    const { redis, keys } = house;
    const before = (await setPicture()).body.avatar!;
    const { body: file } = await upload(bob, randomBytes(1_000));
    away.store.keeps = true;
    onTestFinished(() => void (away.store.keeps = false));
    const { status, body } = await setPicture();
    expect(status).toBe(200);
    expect(body.avatar).not.toBe(before);
    expect(await redis.hget(keys.filesSizes, body.avatar!)).not.toMatch(/:0$/);
    const seen = async () =>
      (await owner.browser.get<User[]>(`/api/users?ids=${bob.user.id}`)).body[0]?.avatar ?? null;
    await until(async () => (await seen()) === body.avatar);
    expect((await bob.browser.fetch("DELETE", "/api/me/avatar")).status).toBe(200);
    await until(async () => (await seen()) === null);
    expect((await bob.browser.fetch("DELETE", `/api/files/${file.id}`)).status).toBe(204);
    for (const id of [before, body.avatar!, file.id]) {
      const due = await redis.zscore(keys.filesDue, id);
      expect(due).not.toBeNull();
      expect(Number(due)).toBeLessThan(Date.now() + 120_000);
    }
  });
});

describe("a file whose message is deleted before its sender has noted that it was sent", () => {
  it("stays due where the store does not remove it", async () => {
    let hold: (() => Promise<void>) | undefined;
    const wire = await startWire(testRedisUrl(), async (chunk, from) => {
      const held = hold;
      if (held && from === "replica" && chunk.includes("zrem\r\n") && chunk.includes(house.keys.filesDue)) {
        hold = undefined;
        await held();
      }
      return chunk;
    });
    const window = await windowOf(bob, await house.addReplica({ REDIS_URL: wire.url }));
    const { body: file } = await upload(bob, randomBytes(1_000));
    hold = async () => {
      const isIt = ({ files }: Message) => files?.[0]?.id === file.id;
      const { seq } = await until(() => owner.messages.find(isIt));
      away.store.down = true;
      unwrap(await owner.socket.emitWithAck("message.delete", { roomId: "0", seq }));
      away.store.down = false;
    };
    unwrap(await send(window, "late", file.id));
    expect(hold).toBeUndefined();
    expect(away.objects.has(file.id)).toBe(true);
    const { redis, keys } = house;
    await until(async () => (await redis.zscore(keys.filesDue, file.id)) !== null);
    window.close();
    await house.replicas.pop()?.close();
    await wire.close();
  });
});
