import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { pino } from "pino";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { readConfig } from "../config.ts";
import type { Message, MessageFile, UploadedFile } from "../protocol.ts";
import { createBlobs } from "../store/blobs.ts";
import { Files } from "../store/files.ts";
import { both, person, replicas, unwrap, until, type House, type Person } from "../testing.ts";
import { Collector } from "./collector.ts";
import { nameOf } from "./files.ts";
import { Images } from "./images.ts";
import { Users } from "./users.ts";

let house: House;
let ann: Person;
let bob: Person;
let eve: Person;

beforeAll(async () => {
  house = await replicas(2, { FILES_MAX: "300000", FILES_USER_MAX: "2000000", FILES_PIXELS: "4000000" });
  const [left, right] = both(house);
  ann = await person(left, "ann");
  bob = await person(right, "bob");
  eve = await person(right, "eve");
});

afterAll(async () => {
  for (const one of [ann, bob, eve]) one.close();
  await house.close();
});

type Sender = { browser: Pick<Person["browser"], "address" | "cookie"> };
type Answer<T> = { status: number; body: T; headers: Headers };

async function upload(
  { browser }: Sender,
  bytes: Uint8Array<ArrayBuffer> | string,
  { name = "a.txt", roomId = "0", type = "text/plain" } = {},
): Promise<Answer<UploadedFile & { code?: string; message?: string }>> {
  const response = await fetch(`${browser.address}/api/files`, {
    method: "POST",
    headers: {
      origin: browser.address,
      cookie: browser.cookie,
      "content-type": type,
      "x-file-name": encodeURIComponent(name),
      "x-room-id": roomId,
    },
    body: bytes,
  });
  return {
    status: response.status,
    body: (await response.json()) as UploadedFile,
    headers: response.headers,
  };
}

function get({ browser }: Sender, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${browser.address}${path}`, {
    headers: { origin: browser.address, cookie: browser.cookie, ...headers },
  });
}

async function send(
  who: Person,
  files: (string | { id: string; alt?: string })[],
  message = "",
  roomId = "0",
) {
  const nonce = randomBytes(6).toString("hex");
  return who.socket.emitWithAck("message", { roomId, message, nonce, files });
}

/** Every file in the store. */
function stored(): string[] {
  const folder = (house.env["FILES_URL"] ?? "").slice("file:".length);
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)
    .toSorted();
}

async function picture(width: number, height: number): Promise<Buffer<ArrayBuffer>> {
  const bytes = await sharp({ create: { width, height, channels: 3, background: "#369" } })
    .jpeg()
    .withExif({
      IFD0: { Copyright: "nobody else" },
      IFD3: { GPSLatitudeRef: "N", GPSLatitude: "51/1 30/1 0/1" },
    })
    .toBuffer();
  return Buffer.from(bytes);
}

describe("a file", () => {
  it("keeps its message's place among those that its sender sends without waiting", async () => {
    for (let round = 0; round < 20; round += 1) {
      const { body } = await upload(ann, `file ${round}`);
      const sent = [send(ann, [body.id], "with a file").then(unwrap), ann.say("0", "without")];
      const seqs = (await Promise.all(sent)).map(({ seq }) => seq);
      expect(seqs, `round ${round}`).toEqual(seqs.toSorted((one, other) => one - other));
    }
  });

  it("is heard with its message by everybody in the room, and fetched byte by byte", async () => {
    const bytes = randomBytes(100_000);
    const { status, body: file } = await upload(ann, bytes, { name: "report.bin" });
    expect(status).toBe(201);
    expect(file).toEqual({
      id: file.id,
      name: "report.bin",
      type: "application/octet-stream",
      size: 100_000,
    });
    const said = unwrap(await send(ann, [{ id: file.id, alt: "the report" }], "here"));
    const expected: MessageFile[] = [{ ...file, alt: "the report" }];
    expect(said.files).toEqual(expected);
    await until(() => bob.messages.some(({ seq }) => seq === said.seq));
    expect(bob.messages.find(({ seq }) => seq === said.seq)?.files).toEqual(expected);
    const answer = await get(bob, `/api/files/${file.id}`);
    expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
    expect(answer.headers.get("content-disposition")).toBe("attachment; filename=report.bin");
    expect(answer.headers.get("content-type")).toBe("application/octet-stream");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(answer.headers.get("content-security-policy")).toContain("sandbox");
    expect(answer.headers.get("cache-control")).toBe("private, no-cache");
    const page = await bob.browser.get<{ messages: Message[] }>("/api/rooms/0/messages");
    expect(page.body.messages.find(({ seq }) => seq === said.seq)?.files).toEqual(expected);
  });

  it("comes in parts, or not again if it is known", async () => {
    const { body: file } = await upload(ann, "0123456789");
    unwrap(await send(ann, [file.id]));
    const path = `/api/files/${file.id}`;
    const whole = await get(bob, path);
    const tag = whole.headers.get("etag") ?? "";
    expect(await whole.text()).toBe("0123456789");
    for (const [asked, status, text, range] of [
      ["bytes=2-4", 206, "234", "bytes 2-4/10"],
      ["bytes=7-", 206, "789", "bytes 7-9/10"],
      ["bytes=-2", 206, "89", "bytes 8-9/10"],
      ["bytes=0-999", 206, "0123456789", "bytes 0-9/10"],
      ["bytes=10-", 416, "", "bytes */10"],
      ["bytes=0-1,4-5", 200, "0123456789", null],
      ["lines=1-2", 200, "0123456789", null],
      ["bytes=x", 200, "0123456789", null],
    ] as const) {
      const part = await get(bob, path, { range: asked });
      expect([asked, part.status, await part.text(), part.headers.get("content-range")]).toEqual([
        asked,
        status,
        text,
        range,
      ]);
    }
    for (const known of [tag, `"other", W/${tag}`, "*"])
      expect((await get(bob, path, { "if-none-match": known })).status, known).toBe(304);
    for (const known of ['"other"', tag.slice(1, -1), `"*"`])
      expect((await get(bob, path, { "if-none-match": known })).status, known).toBe(200);
    const other = await get(bob, path, { range: "bytes=2-4", "if-range": '"another"' });
    expect([other.status, await other.text()]).toEqual([200, "0123456789"]);
    const head = await fetch(`${bob.browser.address}${path}`, {
      method: "HEAD",
      headers: { cookie: bob.browser.cookie },
    });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "10"]);
  });

  it("belongs to one message, and to nobody but its uploader until then", async () => {
    const { body: file } = await upload(ann, "mine");
    expect((await get(ann, `/api/files/${file.id}`)).status).toBe(200);
    expect((await get(bob, `/api/files/${file.id}`)).status).toBe(404);
    expect(await send(bob, [file.id])).toMatchObject({ ok: false, error: { code: "not_found" } });
    const [one, other] = await Promise.all([send(ann, [file.id]), send(ann, [file.id])]);
    expect([one, other].filter(({ ok }) => ok)).toHaveLength(1);
    expect(await send(ann, [file.id, file.id])).toMatchObject({ ok: false, error: { code: "invalid" } });
    expect(await send(ann, [randomBytes(16).toString("base64url")])).toMatchObject({
      ok: false,
      error: { code: "not_found" },
    });
  });

  it("is sent once, whatever is repeated, also after its message is gone", async () => {
    const { body: file } = await upload(ann, "once");
    const again = { roomId: "0", message: "", nonce: "once-only", files: [file.id] };
    const first = unwrap(await ann.socket.emitWithAck("message", again));
    expect(unwrap(await ann.socket.emitWithAck("message", again))).toEqual(first);
    unwrap(await ann.socket.emitWithAck("message.delete", { roomId: "0", seq: first.seq }));
    const third = unwrap(await ann.socket.emitWithAck("message", again));
    expect(third).toMatchObject({ seq: first.seq, message: "" });
    expect(third.files).toBeUndefined();
  });

  it("goes with its message, at once", async () => {
    const image = await picture(20, 10);
    const { body: file } = await upload(ann, image, { name: "p.jpg" });
    const said = unwrap(await send(ann, [file.id]));
    expect(stored()).toEqual(expect.arrayContaining([file.id, `${file.id}.thumbnail`]));
    const edited = unwrap(
      await ann.socket.emitWithAck("message.edit", {
        roomId: "0",
        seq: said.seq,
        message: "a text",
        rev: 0,
        nonce: "add-text",
      }),
    );
    expect(edited.files).toEqual(said.files);
    unwrap(await ann.socket.emitWithAck("message.delete", { roomId: "0", seq: said.seq }));
    for (const path of [`/api/files/${file.id}`, `/api/files/${file.id}/thumbnail`])
      expect((await get(bob, path)).status).toBe(404);
    expect(stored().filter((name) => name.startsWith(file.id))).toEqual([]);
    expect(await house.redis.exists(house.keys.file(file.id))).toBe(0);
    expect(await house.redis.hexists(house.keys.filesSizes, file.id)).toBe(0);
  });

  it("is nobody's who was removed from the room", async () => {
    const { body: room } = await ann.browser.post<{ id: string }>("/api/rooms", {
      name: "Files",
      kind: "invite",
    });
    await ann.browser.fetch("PUT", `/api/rooms/${room.id}/members/${bob.user.id}`, {});
    const { body: file } = await upload(ann, "secret", { roomId: room.id });
    unwrap(await send(ann, [file.id], "", room.id));
    expect((await get(bob, `/api/files/${file.id}`)).status).toBe(200);
    expect((await get(eve, `/api/files/${file.id}`)).status).toBe(404);
    await ann.browser.fetch("DELETE", `/api/rooms/${room.id}/members/${bob.user.id}`);
    expect((await get(bob, `/api/files/${file.id}`)).status).toBe(404);
    expect((await upload(bob, "x", { roomId: room.id })).status).toBe(404);
    const { body: elsewhere } = await upload(ann, "x", { roomId: room.id });
    expect(await send(ann, [elsewhere.id])).toMatchObject({ ok: false, error: { code: "not_found" } });
  });

  it("is found by its name and its words, and named in the transcript and in the export", async () => {
    const { body: file } = await upload(ann, "x", { name: "Quarterly <plan>.txt" });
    const said = unwrap(await send(ann, [{ id: file.id, alt: "what we meant to do" }]));
    for (const q of ["quarterly", "plan.txt meant"]) {
      const found = await bob.browser.get<{ hits: { message: Message }[] }>(
        `/api/search?q=${encodeURIComponent(q)}`,
      );
      expect(found.body.hits.map(({ message }) => message.seq)).toEqual([said.seq]);
    }
    const { body: page } = await bob.browser.get<string>("/api/rooms/0/transcript");
    expect(page).toContain("<i>File</i> Quarterly plan.txt (text/plain, 1 bytes): what we meant to do");
    const { body: own } = await ann.browser.get<{ messages: Message[] }>("/api/me/export");
    expect(own.messages.find(({ seq }) => seq === said.seq)?.files?.[0]?.name).toBe("Quarterly plan.txt");
  });

  it("can be taken back until it is sent", async () => {
    const { body: file } = await upload(ann, "no");
    expect((await bob.browser.fetch("DELETE", `/api/files/${file.id}`)).status).toBe(404);
    expect((await ann.browser.fetch("DELETE", `/api/files/${file.id}`)).status).toBe(204);
    expect(stored()).not.toContain(file.id);
    expect(await send(ann, [file.id])).toMatchObject({ ok: false, error: { code: "not_found" } });
    const { body: sent } = await upload(ann, "yes");
    unwrap(await send(ann, [sent.id]));
    expect((await ann.browser.fetch("DELETE", `/api/files/${sent.id}`)).status).toBe(404);
    expect((await get(bob, `/api/files/${sent.id}`)).status).toBe(200);
  });
});

describe("an image", () => {
  it("is turned upright, loses what the camera wrote, and has a thumbnail", async () => {
    const bytes = await sharp(await picture(1_200, 800))
      .withMetadata({ orientation: 6 })
      .toBuffer();
    const { body: file } = await upload(ann, bytes, { name: "photo.jpg" });
    expect(file).toMatchObject({ type: "image/jpeg", width: 800, height: 1_200, name: "photo.jpg" });
    const whole = Buffer.from(await (await get(ann, `/api/files/${file.id}`)).arrayBuffer());
    expect(whole.length).toBe(file.size);
    const { exif, orientation, width, height } = await sharp(whole).metadata();
    expect([exif, orientation, width, height]).toEqual([undefined, undefined, 800, 1_200]);
    expect(whole.includes("nobody else")).toBe(false);
    const small = await get(ann, `/api/files/${file.id}/thumbnail`);
    expect(small.headers.get("content-type")).toBe("image/webp");
    const thumbnail = await sharp(Buffer.from(await small.arrayBuffer())).metadata();
    expect([thumbnail.width, thumbnail.height]).toEqual([427, 640]);
    unwrap(await send(ann, [{ id: file.id, alt: "a blue field" }]));
  });

  it("that moves says so, and its thumbnail does not", async () => {
    const frames = Array.from({ length: 3 }, (_, index) => ({
      create: { width: 30, height: 20, channels: 3 as const, background: `#${index}${index}f` },
    }));
    const still = await Promise.all(frames.map((frame) => sharp(frame).png().toBuffer()));
    const gif = await sharp(still, { join: { animated: true } })
      .gif()
      .toBuffer();
    const { body: file } = await upload(ann, gif, { name: "moves.gif" });
    expect(file).toMatchObject({ type: "image/gif", width: 30, height: 20, animated: true });
    const small = await get(ann, `/api/files/${file.id}/thumbnail`);
    expect((await sharp(Buffer.from(await small.arrayBuffer())).metadata()).pages).toBeUndefined();
    const whole = Buffer.from(await (await get(ann, `/api/files/${file.id}`)).arrayBuffer());
    expect((await sharp(whole, { animated: true }).metadata()).pages).toBe(3);
  });

  it("with more pixels than memory is refused before it is decoded, and a broken one is too", async () => {
    const before = stored();
    const bomb = await sharp({ create: { width: 5_000, height: 5_000, channels: 3, background: "#000" } })
      .png({ compressionLevel: 9 })
      .toBuffer();
    expect(await upload(ann, bomb, { name: "bomb.png" })).toMatchObject({
      status: 413,
      body: { code: "too_large" },
    });
    const whole = await picture(300, 300);
    for (const bytes of [
      whole.subarray(0, whole.length / 2),
      Buffer.concat([Buffer.from("GIF89a"), randomBytes(2_000)]),
    ])
      expect(await upload(ann, bytes, { name: "x.png" })).toMatchObject({
        status: 400,
        body: { code: "invalid" },
      });
    expect(stored()).toEqual(before);
    expect((await upload(ann, whole)).status).toBe(201);
  });
});

/** What decodes images, and a folder for them, until the test ends. */
function decoder(pixels: number, ms?: number): { images: Images; folder: string } {
  const images = new Images({ pixels, ...(ms !== undefined && { ms }) });
  onTestFinished(() => images.close());
  const folder = mkdtempSync(join(tmpdir(), "hubbub-images-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return { images, folder };
}

describe("a picture of very many frames", () => {
  const FRAMES = 10_001;

  it("is refused before they are decoded, however small they are: one picture at a time is decoded", async () => {
    const frame = "21f90400010000002c0000000001000100000202440100";
    const gif = Buffer.from(`47494638396101000100800000000000ffffff${frame.repeat(FRAMES)}3b`, "hex");
    const still = await sharp({ create: { width: 1, height: 1, channels: 3, background: "#123" } })
      .webp({ lossless: true })
      .toBuffer();
    const webp = animated(still.subarray(12), FRAMES);
    const { images, folder } = decoder(1e9);
    const from = join(folder, "from");
    const order = {
      from,
      image: join(folder, "image"),
      thumbnail: join(folder, "small"),
      side: 9,
      cover: false,
    };
    for (const bytes of [gif, webp]) {
      writeFileSync(from, bytes);
      await expect(images.make(order)).rejects.toMatchObject({
        code: "too_large",
        message: "The picture has more than 10000 frames.",
      });
    }
    writeFileSync(from, animated(still.subarray(12), 10));
    expect(await images.make(order)).toMatchObject({ type: "image/webp", animated: true });
  });

  /** A WebP with so many times this frame. */
  function animated(frame: Buffer, times: number): Buffer<ArrayBuffer> {
    const chunk = (name: string, data: Buffer) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(data.length);
      return Buffer.concat([Buffer.from(name), length, data]);
    };
    const frames = Array.from({ length: times }, (_, index) => {
      const head = Buffer.alloc(16);
      head.writeUInt16LE(10 + (index % 2), 12);
      return chunk("ANMF", Buffer.concat([head, frame]));
    });
    const head = [
      chunk("VP8X", Buffer.from([2, ...Array<number>(9).fill(0)])),
      chunk("ANIM", Buffer.alloc(6)),
    ];
    return chunk("RIFF", Buffer.concat([Buffer.from("WEBP"), ...head, ...frames]));
  }
});

describe("the process that decodes", () => {
  it("that is killed by a picture refuses that picture alone", async () => {
    const { images, folder } = decoder(1e9);
    const from = join(folder, "from");
    // Hundreds of megapixels take longer than its killer.
    const big = sharp({ create: { width: 16_000, height: 16_000, channels: 3, background: "#123" } });
    await big.png({ compressionLevel: 1 }).toFile(from);
    const order = (name: string) => ({ from, thumbnail: join(folder, name), side: 100, cover: false });
    const small = join(folder, "small");
    await sharp(await picture(50, 50)).toFile(`${small}.jpg`);
    await images.make({ ...order("first"), from: `${small}.jpg` });
    const killed = images.make({ ...order("a"), image: join(folder, "b") });
    const after = images.make({ ...order("c"), from: `${small}.jpg` });
    const pid = await until(() => childrenOf(process.pid).at(-1));
    process.kill(pid, "SIGKILL");
    await expect(killed).rejects.toMatchObject({ code: "invalid" });
    expect(await after).toMatchObject({ width: 50, height: 50 });
  });

  it("names a picture that stays as it is by what its bytes are", async () => {
    const { images, folder } = decoder(1e9);
    const [from, image] = [join(folder, "from"), join(folder, "image")];
    await sharp(await picture(60, 40))
      .avif()
      .toFile(from);
    const order = { from, thumbnail: join(folder, "thumbnail"), side: 30, cover: false };
    expect(await images.make(order)).toMatchObject({ type: "image/avif", width: 60 });
    expect(await images.make({ ...order, image })).toMatchObject({ type: "image/webp", width: 60 });
  });

  it("that gets no time from the machine does not refuse the picture for good", async () => {
    const { images, folder } = decoder(1e9, 2_000);
    const from = join(folder, "from");
    writeFileSync(from, await picture(50, 50));
    const order = { from, thumbnail: join(folder, "thumbnail"), side: 100, cover: false };
    await images.make(order);
    const [pid = 0] = childrenOf(process.pid).slice(-1);
    process.kill(pid, "SIGSTOP");
    await expect(images.make(order)).rejects.toMatchObject({ code: "unavailable" });
    expect(await images.make(order)).toMatchObject({ width: 50 });
  });

  it("outlives a signal to all processes of its service: it is the replica's to end", async () => {
    const { images, folder } = decoder(1e9);
    const from = join(folder, "from");
    writeFileSync(from, await picture(3_000, 3_000));
    const order = (name: string) => ({ from, thumbnail: join(folder, name), side: 100, cover: false });
    await images.make(order("first"));
    const [pid = 0] = childrenOf(process.pid).slice(-1);
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      const made = images.make(order(signal));
      process.kill(pid, signal);
      expect(await made).toMatchObject({ width: 3_000 });
    }
    expect(childrenOf(process.pid)).toContain(pid);
    images.close();
    await until(() => !childrenOf(process.pid).includes(pid));
  });

  /** Processes that this one started and that run images. */
  function childrenOf(pid: number): number[] {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
      .split(" ")
      .filter((id) => id !== "" && readFileSync(`/proc/${id}/cmdline`, "utf8").includes("imageWorker"))
      .map(Number);
  }
});

describe("a picture for which the disk has no place", () => {
  it("is refused for now, and a broken one for good", async () => {
    const { images, folder } = decoder(4_000_000);
    const whole = join(folder, "whole");
    const broken = join(folder, "broken");
    const bytes = await picture(300, 200);
    writeFileSync(whole, bytes);
    writeFileSync(broken, bytes.subarray(0, bytes.length / 2));
    const order = { image: join(folder, "image"), thumbnail: join(folder, "small"), side: 100, cover: false };
    for (const place of ["/dev/full", join(folder, "no folder", "image")]) {
      for (const where of [{ image: place }, { thumbnail: place }])
        await expect(images.make({ from: whole, ...order, ...where })).rejects.toMatchObject({
          code: "unavailable",
        });
    }
    await expect(images.make({ from: broken, ...order })).rejects.toMatchObject({ code: "invalid" });
    expect(await images.make({ from: whole, ...order })).toMatchObject({ width: 300, height: 200 });
  });
});

describe("what a file is", () => {
  it.each<[string, string | Buffer<ArrayBuffer>, string, string]>([
    [
      "an SVG",
      '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
      "x.png",
      "attachment",
    ],
    ["a page", "<!doctype html><script>alert(1)</script>", "x.png", "attachment"],
    ["a ZIP", Buffer.from("504b0304140000000000", "hex"), "x.jpg", "attachment"],
    ["a PDF", "%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "x.jpg", "attachment"],
    [
      "a sound",
      Buffer.concat([Buffer.from("RIFF\x24\x08\x00\x00WAVEfmt "), Buffer.alloc(50)]),
      "x.html",
      "inline",
    ],
    [
      "a sound whose kind has parameters",
      Buffer.concat([Buffer.from("OggS"), Buffer.alloc(24), Buffer.from("OpusHead"), Buffer.alloc(50)]),
      "x.opus",
      "inline",
    ],
  ])("is told by its bytes: %s under another name is an %s", async (_what, bytes, name, disposition) => {
    const { status, body: file } = await upload(ann, bytes, { name, type: "image/png" });
    expect(status).toBe(201);
    const answer = await get(ann, `/api/files/${file.id}`);
    expect(answer.headers.get("content-disposition")).toMatch(new RegExp(`^${disposition};`));
    const type = answer.headers.get("content-type") ?? "";
    expect(type).toMatch(disposition === "inline" ? /^audio\// : /^application\/octet-stream$/);
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
  });

  it("is refused where its kind is not allowed", async () => {
    const strict = await house.addReplica({ FILES_TYPES: "image/*,application/pdf" });
    const there = { browser: { address: strict.address, cookie: ann.browser.cookie } };
    expect(await upload(there, "text", { type: "image/png" })).toMatchObject({ status: 400 });
    expect((await upload(there, "%PDF-1.7\n")).status).toBe(201);
    expect((await upload(there, await picture(5, 5))).status).toBe(201);
    const limits = await get(there, "/api/files");
    expect(await limits.json()).toMatchObject({ fileBytes: 300_000, types: ["image/*", "application/pdf"] });
  });
});

describe("an upload", () => {
  it.each(["is removed from the room", "deletes their account"])(
    "is refused where its sender %s while it arrives, and leaves nothing behind",
    async (what) => {
      const [left, right] = both(house);
      const gil = await person(left);
      onTestFinished(() => gil.close());
      const isGone = what.includes("account");
      const room = isGone ? { id: "0" } : await ann.makes({ name: "brief", kind: "invite" });
      const member = `/api/rooms/${room.id}/members/${gil.user.id}`;
      if (!isGone) expect((await ann.browser.fetch("PUT", member, {})).status).toBe(200);
      const before = stored();
      const { browser } = gil;
      const asked = httpRequest(`${right.address}/api/files`, {
        method: "POST",
        headers: {
          origin: right.address,
          cookie: browser.cookie,
          "x-file-name": "a.txt",
          "x-room-id": room.id,
          "content-length": 10,
        },
      });
      const answered = new Promise<number | undefined>((done, failed) => {
        asked.on("response", (response) => done(response.resume().statusCode));
        asked.on("error", failed);
      });
      asked.write("first");
      const used = async () => Number(await house.redis.hget(house.keys.filesUsed, gil.user.id));
      await until(async () => (await used()) === 10);
      const over = isGone
        ? browser.fetch("DELETE", "/api/me", { password: "correct horse", messages: "keep" })
        : ann.browser.fetch("DELETE", member);
      expect((await over).status).toBe(204);
      asked.end("after");
      expect(await answered).toBe(404);
      expect([await used(), stored()]).toEqual([0, before]);
    },
  );

  it("that is empty, too long, cut, without a length or without a room leaves nothing behind", async () => {
    const before = [stored(), await house.redis.hgetall(house.keys.filesSizes)];
    expect(await upload(ann, "")).toMatchObject({ status: 400, body: { code: "invalid" } });
    expect(await upload(ann, Buffer.alloc(300_001))).toMatchObject({
      status: 413,
      body: { code: "too_large" },
    });
    for (const roomId of ["", "x", "17", `${bob.user.id}:${eve.user.id}`])
      expect((await upload(ann, "x", { roomId })).status).toBeGreaterThanOrEqual(400);
    await cut({ "content-length": "1000" }, "half of it");
    await cut({ "transfer-encoding": "chunked" }, "4\r\nhalf\r\n");
    await until(async () => {
      const after = [stored(), await house.redis.hgetall(house.keys.filesSizes)];
      return JSON.stringify(after) === JSON.stringify(before);
    });
  });

  /** Sends a part of a body, and leaves. */
  async function cut(headers: Record<string, string>, part: string): Promise<void> {
    const { address, cookie } = ann.browser;
    const request = httpRequest(`${address}/api/files`, {
      method: "POST",
      headers: { origin: address, cookie, "x-room-id": "0", "x-file-name": "x", ...headers },
    });
    request.on("error", () => undefined);
    request.write(part);
    await new Promise((resolve) => setTimeout(resolve, 50));
    request.destroy();
  }

  it("is refused when all files of its user are too large, until some are deleted", async () => {
    const zoe = await person(both(house)[0], "zoe");
    const ids: string[] = [];
    for (let count = 0; count < 8; count += 1)
      ids.push((await upload(zoe, Buffer.alloc(250_000, 7))).body.id);
    expect(ids.every((id) => id !== undefined)).toBe(true);
    expect(await upload(zoe, "x")).toMatchObject({ status: 413 });
    await zoe.browser.fetch("DELETE", `/api/files/${ids[0]}`);
    expect((await upload(zoe, "x")).status).toBe(201);
    zoe.close();
  });

  it("counts as before, where Redis has lost how many bytes everybody has", async () => {
    const lee = await person(both(house)[0], "lee");
    const { body: file } = await upload(lee, Buffer.alloc(1_000, 7));
    const before = await house.redis.hgetall(house.keys.filesUsed);
    await house.redis.del(house.keys.filesUsed);
    const { body: other } = await upload(lee, Buffer.alloc(500, 7));
    await lee.browser.fetch("DELETE", `/api/files/${other.id}`);
    await until(async () => (await house.redis.hexists(house.keys.filesSizes, other.id)) === 0);
    const after = await house.redis.hgetall(house.keys.filesUsed);
    const counted = Object.entries(before).filter(([, bytes]) => bytes !== "0");
    expect(after).toMatchObject(Object.fromEntries(counted));
    await lee.browser.fetch("DELETE", `/api/files/${file.id}`);
    lee.close();
  });

  it("is refused if it grows beyond that by being written anew, and leaves nothing behind", async () => {
    const max = await person(both(house)[0], "max");
    const noise = { type: "gaussian", mean: 120, sigma: 60 } as const;
    const create = { width: 900, height: 900, channels: 3, background: "#369", noise } as const;
    const small = Buffer.from(await sharp({ create }).avif({ quality: 1, effort: 0 }).toBuffer());
    const fill = (bytes: number) => upload(max, Buffer.alloc(bytes, 7));
    for (let left = 2_000_000 - small.length - 1_000; left > 0; left -= 300_000)
      expect((await fill(Math.min(left, 300_000))).status).toBe(201);
    const before = stored();
    expect(await upload(max, small)).toMatchObject({ status: 413, body: { code: "too_large" } });
    expect(stored()).toEqual(before);
    const used = Number(await house.redis.hget(house.keys.filesUsed, max.user.id));
    expect(used).toBe(2_000_000 - small.length - 1_000);
    expect((await fill(small.length)).status).toBe(201);
    max.close();
  });

  it.each([
    ["../../etc/passwd", "passwd"],
    ["C:\\secret\\photo.jpg", "photo.jpg"],
    ["evil\u202Egnp.exe", "evilgnp.exe"],
    ["a\u0000b\nc.txt", "abc.txt"],
    ["...", "file"],
    ["\u200B", "file"],
    [".htaccess", "htaccess"],
    ["  two   words .txt ", "two words .txt"],
    ["日本語 📎.pdf", "日本語 📎.pdf"],
    ["e\u0301.txt", "é.txt"],
    [
      "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.pdf",
      "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.pdf",
    ],
    ["\u0915\u094d\u200d\u0937.pdf", "\u0915\u094d\u200d\u0937.pdf"],
    [
      "\u{1f469}\u200d\u{1f467} \u2764\ufe0f\u200d\u{1f525}.png",
      "\u{1f469}\u200d\u{1f467} \u2764\ufe0f\u200d\u{1f525}.png",
    ],
    ["in\u200dvoice\u200c.pdf", "invoice.pdf"],
  ])("named %j is shown as %j", (given, shown) => {
    expect(nameOf(given)).toBe(shown);
  });

  it("with a long name keeps its extension", () => {
    const name = nameOf(`${"📎".repeat(300)}.tar.gz`);
    expect(name.length).toBeLessThanOrEqual(200);
    expect(name.endsWith(".gz")).toBe(true);
    expect(encodeURIComponent(name)).toMatch(/\.gz$/);
  });
});

/** Another replica's collector. */
function collector(): Collector {
  const config = readConfig(house.env);
  return new Collector({
    files: new Files(house.redis, house.keys),
    blobs: createBlobs(config.files.address, config.files.spool),
    users: new Users(house.redis, house.keys, config),
    log: pino({ level: "silent" }),
  });
}

/** Collects as two days later, all that other tests have left too. */
async function collectAll(): Promise<void> {
  const due = () => house.redis.zcard(house.keys.filesDue);
  while ((await due()) > 0) await collector().collect(Date.now() + 172_800_000);
}

describe("the collector", () => {
  it("forgets an upload that was given up at its first look, also if nothing of it had arrived", async () => {
    const files = new Files(house.redis, house.keys);
    const id = "given-up-given-up-give";
    await files.reserve(id, ann.user.id, 1_000, Date.now(), { user: 0, server: 0 });
    await files.giveUp(id, ann.user.id, Date.now());
    await collector().collect(Date.now() + 1);
    expect(await house.redis.zscore(house.keys.filesDue, id)).toBeNull();
    expect(await house.redis.hget(house.keys.filesSizes, id)).toBeNull();
  });

  it("removes what never got a message, and nothing that is in use, however often it runs", async () => {
    const [left, right] = [collector(), collector()];
    const kept: string[] = [];
    const lost: string[] = [];
    for (let count = 0; count < 6; count += 1) {
      const { body: file } = await upload(eve, `file ${count}`);
      if (count % 2 === 0) {
        unwrap(await send(eve, [file.id]));
        // As if the sender's replica had ended before it noted this.
        await house.redis.zadd(house.keys.filesDue, Date.now(), file.id);
        kept.push(file.id);
      } else lost.push(file.id);
    }
    expect(await left.collect(Date.now())).toBe(0);
    const later = Date.now() + 25 * 3_600_000;
    for (let times = 0; times < 3; times += 1)
      await Promise.all([left.collect(later), right.collect(later), right.collect(later)]);
    for (const id of kept) expect((await get(bob, `/api/files/${id}`)).status).toBe(200);
    for (const id of lost) expect((await get(eve, `/api/files/${id}`)).status).toBe(404);
    expect(stored()).toEqual(expect.arrayContaining(kept));
    expect(stored().filter((name) => lost.includes(name))).toEqual([]);
    expect(await house.redis.zcard(house.keys.filesDue)).toBe(0);
  });

  it("goes on past one that it cannot remove", async () => {
    const { body: file } = await upload(eve, "behind it");
    await house.redis.zadd(house.keys.filesDue, 0, "no name of a file");
    const later = Date.now() + 25 * 3_600_000;
    for (let times = 0; times < 2; times += 1) await collector().collect(later);
    expect(stored()).not.toContain(file.id);
    // It is not forgotten.
    expect(await house.redis.zrange(house.keys.filesDue, "0", "-1")).toEqual(["no name of a file"]);
    await house.redis.zrem(house.keys.filesDue, "no name of a file");
  });

  it("sweeps the spool as long as its replica runs", async () => {
    const { files } = readConfig(house.env);
    const { spool } = createBlobs(files.address, files.spool);
    const left = join(spool, randomBytes(16).toString("base64url"));
    const one = collector();
    onTestFinished(() => one.close());
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    one.start(() => Promise.resolve());
    mkdirSync(spool, { recursive: true });
    writeFileSync(left, "of a replica that was killed");
    utimesSync(left, new Date(0), new Date(0));
    vi.advanceTimersByTime(3_600_000);
    vi.useRealTimers();
    await until(() => !existsSync(left));
  });

  const action = fc.oneof(
    { weight: 4, arbitrary: fc.constant("upload" as const) },
    { weight: 3, arbitrary: fc.constant("send" as const) },
    { weight: 2, arbitrary: fc.constant("delete" as const) },
    { weight: 1, arbitrary: fc.constant("discard" as const) },
    { weight: 1, arbitrary: fc.constant("forget that it was sent" as const) },
    { weight: 2, arbitrary: fc.constant("collect now" as const) },
    { weight: 1, arbitrary: fc.constant("collect tomorrow" as const) },
  );

  it("keeps exactly what messages have, after any actions in any order, also at once", async () => {
    const dan = await person(both(house)[0], "dan");
    const own = collector();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(action, { minLength: 1, maxLength: 3 }), { maxLength: 12 }),
        async (steps) => {
          const before = new Set(stored());
          const pending: string[] = [];
          const sent: { seq: number; id: string }[] = [];
          const kept = new Set<string>();
          const acts = {
            async upload() {
              pending.push((await upload(dan, randomBytes(9))).body.id);
            },
            async send() {
              const id = pending.pop();
              if (id === undefined) return;
              const reply = await send(dan, [id]);
              // Tomorrow's collector may have been faster.
              if (!reply.ok) return expect(reply.error.code).toBe("not_found");
              sent.push({ seq: reply.value.seq, id });
              kept.add(id);
            },
            async delete() {
              const one = sent.pop();
              if (one === undefined) return;
              unwrap(await dan.socket.emitWithAck("message.delete", { roomId: "0", seq: one.seq }));
              kept.delete(one.id);
            },
            async discard() {
              const id = pending.pop();
              if (id !== undefined) await dan.browser.fetch("DELETE", `/api/files/${id}`);
            },
            async "forget that it was sent"() {
              for (const { id } of sent) await house.redis.zadd(house.keys.filesDue, 0, id);
            },
            "collect now": () => own.collect(),
            "collect tomorrow": () => own.collect(Date.now() + 25 * 3_600_000),
          };
          for (const together of steps) await Promise.all(together.map((one) => acts[one]()));
          await Promise.all([1, 2].map(() => own.collect(Date.now() + 25 * 3_600_000)));
          expect(stored().filter((name) => !before.has(name))).toEqual([...kept].toSorted());
          for (const id of kept) expect((await get(bob, `/api/files/${id}`)).status).toBe(200);
          while (sent.length > 0) await acts.delete();
        },
      ),
      { numRuns: 25 },
    );
    const sizes = Object.values(await house.redis.hgetall(house.keys.filesSizes)).map((one) =>
      one.split(":").map(Number),
    );
    const total = sizes.reduce((sum, [, bytes = 0]) => sum + bytes, 0);
    expect(await house.redis.hget(house.keys.filesUsed, "all")).toBe(String(total));
    dan.close();
  });
});

it("a file that a repeated message names is not taken for sent: it is collected like any other", async () => {
  const [one, two] = [(await upload(ann, "sent")).body, (await upload(ann, "never sent")).body];
  const sendOne = (id: string) =>
    ann.socket.emitWithAck("message", { roomId: "0", message: "", nonce: "of-the-first-file", files: [id] });
  const first = unwrap(await sendOne(one.id));
  expect(unwrap(await sendOne(two.id))).toEqual(first);
  expect(await house.redis.zscore(house.keys.filesDue, two.id)).not.toBeNull();
  await collectAll();
  expect(stored()).toContain(one.id);
  expect(stored()).not.toContain(two.id);
});

it("the end of a file that is shorter than what is asked for is all of it", async () => {
  const { id } = (await upload(ann, "nine byte")).body;
  const ask = async (range: string) => {
    const answer = await fetch(`${ann.browser.address}/api/files/${id}`, {
      headers: { cookie: ann.browser.cookie, range },
    });
    return [answer.status, answer.headers.get("content-range"), await answer.text()];
  };
  expect(await ask("bytes=-500")).toEqual([206, "bytes 0-8/9", "nine byte"]);
  expect(await ask("bytes=-4")).toEqual([206, "bytes 5-8/9", "byte"]);
  for (const range of ["bytes=-0", "bytes=9-", "bytes=500-"])
    expect(await ask(range)).toEqual([416, "bytes */9", ""]);
});

describe("a picture of a user", () => {
  it("is told to everybody, fetched by everybody, replaced and removed", async () => {
    const put = async (bytes: Buffer) => {
      const response = await fetch(`${ann.browser.address}/api/me/avatar`, {
        method: "PUT",
        headers: { origin: ann.browser.address, cookie: ann.browser.cookie },
        body: bytes,
      });
      return { status: response.status, me: (await response.json()) as { avatar?: string } };
    };
    const first = await put(await picture(400, 200));
    expect(first.status).toBe(200);
    await until(async () => {
      const found = await bob.browser.get<{ avatar?: string }[]>(`/api/users?ids=${ann.user.id}`);
      return found.body[0]?.avatar === first.me.avatar;
    });
    const shown = await get(bob, `/api/users/${ann.user.id}/avatar`);
    expect((await sharp(Buffer.from(await shown.arrayBuffer())).metadata()).width).toBe(256);
    const second = await put(await picture(50, 50));
    expect(second.me.avatar).not.toBe(first.me.avatar);
    expect(stored()).not.toContain(first.me.avatar);
    expect((await put(Buffer.from("no picture"))).status).toBe(400);
    expect((await get(bob, `/api/users/${ann.user.id}/avatar`)).status).toBe(200);
    const none = await ann.browser.fetch<{ avatar?: string }>("DELETE", "/api/me/avatar");
    expect(none.body.avatar).toBeUndefined();
    expect((await get(bob, `/api/users/${ann.user.id}/avatar`)).status).toBe(404);
    expect(stored()).not.toContain(second.me.avatar);
  });

  it("leaves nothing behind of two that are set at once, in the end", async () => {
    const one = await person(both(house)[0], "two-faced");
    const bytes = await picture(60, 60);
    const put = async () => {
      const response = await fetch(`${one.browser.address}/api/me/avatar`, {
        method: "PUT",
        headers: { origin: one.browser.address, cookie: one.browser.cookie },
        body: bytes,
      });
      return ((await response.json()) as { avatar: string }).avatar;
    };
    const before = stored().length;
    const all: string[] = [];
    for (let round = 0; round < 5; round += 1) all.push(...(await Promise.all([put(), put(), put()])));
    const { avatar } = (await one.browser.get<{ avatar: string }>("/api/me")).body;
    expect(all).toContain(avatar);
    await collectAll();
    expect(stored().filter((name) => all.includes(name))).toEqual([avatar]);
    expect(stored().length).toBeLessThanOrEqual(before + 1);
    // It counts with the bytes that are kept, not with those that came.
    const kept = await (await get(one, `/api/users/${one.user.id}/avatar`)).arrayBuffer();
    expect(await house.redis.hget(house.keys.filesUsed, one.user.id)).toBe(String(kept.byteLength));
    one.close();
  });
});
