import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createRequire } from "node:module";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { parseFilesUrl } from "../filesUrl.ts";
import { createBlobs, spoolIn, sweepSpool, tryStore, type Blobs } from "./blobs.ts";

/** It has no types. */
type Store = { run: () => Promise<AddressInfo>; close: () => Promise<void> };
const require = createRequire(import.meta.url);
const S3rver = require("@20minutes/s3rver") as new (options: object) => Store;
const folder = mkdtempSync(join(tmpdir(), "hubbub blobs "));
const s3 = new S3rver({
  address: "127.0.0.1",
  port: 0,
  silent: true,
  directory: join(folder, "s3"),
  configureBuckets: [{ name: "files", configs: [] }],
});
let port = 0;

beforeAll(async () => {
  ({ port } = await s3.run());
});

afterAll(async () => {
  await s3.close();
  rmSync(folder, { recursive: true, force: true });
});

const bucket = (secret = "S3RVER", of = port) =>
  `s3://S3RVER:${secret}@127.0.0.1:${of}/files/some/folder?tls=off`;

function open(url: string): Blobs {
  return createBlobs(parseFilesUrl(url), join(folder, "spool"));
}

async function* bytesOf(...parts: (Buffer | Error)[]): AsyncGenerator<Buffer> {
  for (const part of parts) {
    if (part instanceof Error) throw part;
    yield part;
  }
}

const newName = () => randomBytes(16).toString("base64url");

describe.each<[string, () => string]>([
  ["a folder", () => `file:${join(folder, "with space")}`],
  ["a bucket", () => bucket()],
])("%s", (_what, url) => {
  it("gives back the bytes that were put in, whole and in parts, until they are removed", async () => {
    const blobs = open(url());
    const bytes = randomBytes(3_000_000);
    const name = newName();
    expect(await blobs.read(name)).toBeNull();
    await blobs.put(name, await spoolIn(blobs, name, bytesOf(bytes.subarray(0, 10), bytes.subarray(10))));
    // `toEqual` compares one element after the other, for seconds.
    expect((await buffer((await blobs.read(name))!)).equals(bytes)).toBe(true);
    expect(await buffer((await blobs.read(name, { start: 5, end: 9 }))!)).toEqual(bytes.subarray(5, 10));
    const last = { start: bytes.length - 1, end: bytes.length - 1 };
    expect(await buffer((await blobs.read(name, last))!)).toEqual(bytes.subarray(-1));
    await blobs.put(name, await spoolIn(blobs, newName(), bytesOf(Buffer.from("other"))));
    expect(await buffer((await blobs.read(name))!)).toEqual(Buffer.from("other"));
    await blobs.remove(name);
    await blobs.remove(name);
    expect(await blobs.read(name)).toBeNull();
  });

  it("takes no name that is a path", async () => {
    const blobs = open(url());
    for (const name of ["../x", "a/b", "", "..", "/etc/passwd-and-more", "a".repeat(65), "abcdefghij.txt"])
      await expect(blobs.read(name)).rejects.toThrow("no name of a file");
  });
});

it("finds in a bucket, by their names, files that were moved there from a folder as docs/backup.md says", async () => {
  const [from, all] = [join(folder, "data/files"), join(folder, "all")];
  const before = open(`file:${from}`);
  const names = [newName(), `${newName()}.thumbnail`, `--${newName().slice(2)}`];
  for (const name of names) await before.put(name, await spoolIn(before, name, bytesOf(Buffer.from(name))));
  const docs = readFileSync(new URL("../../../docs/backup.md", import.meta.url), "utf8");
  const [, command = ""] = /`(mkdir all && .*?)`/.exec(docs) ?? [];
  execFileSync("sh", ["-c", command], { cwd: folder });
  const after = open(bucket());
  for (const name of readdirSync(all)) await after.put(name, join(all, name));
  for (const name of names) expect(await buffer((await after.read(name))!)).toEqual(Buffer.from(name));
});

it.each(["file:/data/100%", "s3://key:se%cret@host/bucket", "file:./a%zz"])(
  "an address with a %% that escapes nothing is refused in words: %s",
  (url) => {
    expect(() => parseFilesUrl(url)).toThrow("FILES_URL has a % that escapes nothing: write it as %25");
  },
);

describe("a store that does not do it", () => {
  it("is told apart from one without the file: a wrong secret, a closed port, no bucket", async () => {
    const closed = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => closed.once("listening", resolve));
    const free = (closed.address() as AddressInfo).port;
    await new Promise((resolve) => closed.close(resolve));
    const name = newName();
    for (const url of [bucket("wrong"), bucket("S3RVER", free), bucket().replace("/files/", "/nothing/")]) {
      const blobs = open(url);
      const path = await spoolIn(blobs, newName(), bytesOf(randomBytes(500_000)));
      await expect(blobs.put(name, path)).rejects.toMatchObject({ code: "unavailable" });
      rmSync(path);
    }
    for (const url of [bucket("wrong"), bucket().replace("/files/", "/nothing/")]) {
      // Whoever takes this for "no such file" forgets files that lie elsewhere.
      await expect(open(url).read(name)).rejects.toMatchObject({ code: "unavailable" });
      await expect(open(url).remove(name)).rejects.toMatchObject({ code: "unavailable" });
    }
    expect(await open(bucket()).read(name)).toBeNull();
  });

  it("is one that says it has a file before all of it was sent, and ends the connection", async () => {
    const blobs = open(
      await answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (socket) => socket.resetAndDestroy()),
    );
    const name = newName();
    const path = await spoolIn(blobs, name, bytesOf(randomBytes(20_000_000)));
    await expect(blobs.put(name, path)).rejects.toMatchObject({ code: "unavailable" });
  });

  it("is one that answers with another protocol", async () => {
    const blobs = open(
      await answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    );
    await expect(blobs.read(newName())).rejects.toMatchObject({ code: "unavailable" });
    await expect(blobs.remove(newName())).rejects.toMatchObject({ code: "unavailable" });
  });

  it.each([
    [403, "RequestTimeTooSkewed"],
    [400, "AuthorizationHeaderMalformed"],
    [503, "SlowDown"],
    [301, "PermanentRedirect"],
  ])("says why in S3's own word: %s %s", async (status, code) => {
    const error = `<?xml version="1.0"?>\n<Error><Code>${code}</Code><Message>of key S3RVER</Message></Error>`;
    const blobs = open(
      await answering(
        `HTTP/1.1 ${status} X\r\nConnection: close\r\nContent-Length: ${error.length}\r\n\r\n${error}`,
      ),
    );
    const refused = { code: "unavailable", reason: `the store answered ${status} ${code}` };
    await expect(blobs.read(newName())).rejects.toMatchObject(refused);
    await expect(blobs.remove(newName())).rejects.toMatchObject(refused);
    const path = await spoolIn(blobs, newName(), bytesOf(randomBytes(5_000_000)));
    await expect(blobs.put(newName(), path)).rejects.toMatchObject(refused);
  });

  it("says why its certificate, or its HTTP, is not accepted", async () => {
    const blobs = open(await answering("SSH-2.0-x\r\n\r\n", (socket) => socket.end()));
    await expect(blobs.read(newName())).rejects.toMatchObject({ reason: "HPE_INVALID_CONSTANT" });
  });

  it("is what answers 404 in its place: that page says nothing of an object", async () => {
    const page = "<html>Nothing here</html>";
    const blobs = open(
      await answering(
        `HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: ${page.length}\r\n\r\n${page}`,
      ),
    );
    await expect(blobs.read(newName())).rejects.toMatchObject({ code: "unavailable" });
    // Whoever takes this for done forgets a file that lies there for ever.
    await expect(blobs.remove(newName())).rejects.toMatchObject({ code: "unavailable" });
  });

  it("has no such object if its 404 says nothing", async () => {
    const blobs = open(
      await answering("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    );
    expect(await blobs.read(newName())).toBeNull();
    await blobs.remove(newName());
  });

  it("is one that breaks off, and is told apart from a reader who leaves", async () => {
    const blobs = open(
      await answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", (socket) => socket.end()),
    );
    await expect(buffer((await blobs.read(newName()))!)).rejects.toMatchObject({ code: "unavailable" });
    for await (const part of (await blobs.read(newName()))!) {
      expect(part).toEqual(Buffer.from("half"));
      break;
    }
  });

  it("keeps nothing of a trial, whatever it does not do", async () => {
    const methods: string[] = [];
    const server = createHttpServer((asked, response) => {
      methods.push(asked.method!);
      asked.resume().on("end", () => response.writeHead(asked.method === "GET" ? 403 : 200).end());
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    onTestFinished(() => void server.close());
    const blobs = open(bucket("S3RVER", (server.address() as AddressInfo).port));
    await expect(tryStore(blobs)).rejects.toThrow("the store answered 403");
    expect(methods).toEqual(["PUT", "GET", "DELETE"]);
  });

  /** The address of a store that answers so, once on each connection, as soon as it hears anything, and reads no more. */
  async function answering(head: string, then: (socket: Socket) => void = () => {}): Promise<string> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.pause();
        socket.write(head, () => setTimeout(then, 100, socket));
      });
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    onTestFinished(() => void server.close());
    return bucket("S3RVER", (server.address() as AddressInfo).port);
  }

  /** A disk of its own, until the test is over; skips it where one cannot be mounted. */
  function mount(options: string, skip: () => void): string {
    const place = mkdtempSync(join(folder, "disk"));
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", place], { stdio: "ignore" });
    } catch {
      // Only root may mount.
      skip();
    }
    onTestFinished(() => void execFileSync("umount", [place]));
    return place;
  }

  it("is a full disk, and keeps nothing of what did not fit", async ({ skip }) => {
    const place = mount("size=1m", skip);
    const blobs = createBlobs(parseFilesUrl(`file:${place}`), "");
    const name = newName();
    const parts = Array.from({ length: 40 }, () => randomBytes(50_000));
    await expect(spoolIn(blobs, name, bytesOf(...parts))).rejects.toMatchObject({ code: "unavailable" });
    expect(readdirSync(blobs.spool)).toEqual([]);
    // What fits is still taken.
    await blobs.put(name, await spoolIn(blobs, name, bytesOf(Buffer.from("small"))));
    expect(await buffer((await blobs.read(name))!)).toEqual(Buffer.from("small"));
  });

  it("is a disk that was copied to when all ended: the half copy goes with its file", async () => {
    const place = join(folder, "copied");
    const blobs = open(`file:${place}`);
    const name = newName();
    await blobs.put(name, await spoolIn(blobs, name, bytesOf(Buffer.from("whole"))));
    const cut = `${join(place, name.slice(0, 2), name)}.new`;
    writeFileSync(cut, "ha");
    await blobs.remove(name);
    expect(existsSync(cut)).toBe(false);
  });

  it.each([
    ["a file", "afile", "ENOTDIR"],
    ["in a file", "afile/in/it", "ENOTDIR"],
    ["a link that leads nowhere", "link", "ENOENT"],
    ["in a folder that takes no others", "/proc/hubbub", "ENOENT"],
  ])("is one whose folder is %s: the fault is the store's, and says so", async (_, path, code) => {
    const place = mkdtempSync(join(folder, "wrong"));
    writeFileSync(join(place, "afile"), "of the operator");
    symlinkSync(join(place, "gone"), join(place, "link"));
    const blobs = createBlobs(parseFilesUrl(`file:${isAbsolute(path) ? path : join(place, path)}`), "");
    const fault = { code: "unavailable", reason: expect.stringContaining(code) as string };
    const written = spoolIn(blobs, newName(), bytesOf(Buffer.from("x")));
    await expect(written).rejects.toMatchObject(fault);
    await expect(tryStore(blobs)).rejects.toThrow(code);
  });

  it("is a disk that is read-only, and says so", async ({ skip }) => {
    const place = mount("ro", skip);
    await expect(tryStore(createBlobs(parseFilesUrl(`file:${place}/files`), ""))).rejects.toThrow("EROFS");
  });

  it("is a folder that nobody may write into", async () => {
    if (process.getuid?.() === 0) return;
    const place = mkdtempSync(join(folder, "closed"));
    chmodSync(place, 0o500);
    onTestFinished(() => chmodSync(place, 0o700));
    const blobs = open(`file:${place}`);
    const path = await spoolIn(blobs, newName(), bytesOf(Buffer.from("x")));
    await expect(blobs.put(newName(), path)).rejects.toMatchObject({ code: "unavailable" });
  });
});

describe("the spool", () => {
  it("keeps nothing of a file that was cut, and says why", async () => {
    const blobs = open(`file:${join(folder, "cut")}`);
    const name = newName();
    const cut = new Error("the line is gone");
    await expect(spoolIn(blobs, name, bytesOf(Buffer.from("half"), cut))).rejects.toBe(cut);
    expect(existsSync(join(blobs.spool, name))).toBe(false);
  });

  it("is swept of what was left behind a day ago, and of nothing else", async () => {
    const blobs = createBlobs(parseFilesUrl(`file:${join(folder, "swept")}`), "");
    await sweepSpool(blobs);
    await spoolIn(blobs, newName(), bytesOf(Buffer.from("fresh")));
    const old = await spoolIn(blobs, newName(), bytesOf(Buffer.from("old")));
    const theirs = ["notes.txt", "a-name-of-24-characters-", "folder"].map((name) => join(blobs.spool, name));
    for (const path of theirs.slice(0, 2)) writeFileSync(path, "of the operator");
    mkdirSync(join(theirs[2]!, newName()), { recursive: true });
    for (const path of [old, ...theirs]) utimesSync(path, new Date(0), new Date(0));
    await sweepSpool(blobs);
    expect(readdirSync(blobs.spool)).toHaveLength(4);
    expect(existsSync(old)).toBe(false);
    expect(theirs.every((path) => existsSync(path))).toBe(true);
  });

  it("is a folder of our own in the one that the operator names, and nobody else's to read", async () => {
    const place = join(folder, "shared");
    const blobs = createBlobs(parseFilesUrl(`file:${join(place, "store")}`), place);
    const name = newName();
    const path = await spoolIn(blobs, name, bytesOf(Buffer.from("x")));
    expect(dirname(path)).not.toBe(place);
    expect(statSync(dirname(path)).mode & 0o777).toBe(0o700);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await blobs.put(name, path);
    expect(statSync(join(place, "store", name.slice(0, 2))).mode & 0o777).toBe(0o700);
  });
});

describe("FILES_URL", () => {
  it.each([
    ["file:./data/files", { kind: "folder", path: "./data/files", shown: "file:./data/files" }],
    ["file:///srv/my%20files", { kind: "folder", path: "/srv/my files" }],
    ["file:/srv/files", { kind: "folder", path: "/srv/files" }],
    [
      "s3://k%2Fey:s%40cret@store.example:9000/bucket/a/b/?region=eu-1&tls=off",
      {
        kind: "s3",
        url: "http://store.example:9000/bucket/a/b",
        key: "k/ey",
        secret: "s@cret",
        region: "eu-1",
        shown: "s3://store.example:9000/bucket/a/b",
      },
    ],
    ["s3://k:s@store/b", { url: "https://store/b", region: "us-east-1" }],
  ])("reads %s", (url, address) => {
    expect(parseFilesUrl(url)).toMatchObject(address);
  });

  it.each([
    "",
    "data/files",
    "file:",
    "http://store/b",
    "s3://store/b",
    "s3://secret-key:@store/b",
    "s3://k:secret-key@store",
    "s3://k:secret-key@store/b?tls=maybe",
    "s3://k:secret-key@store/b?zone=1",
    "s3://[",
  ])("refuses %j without repeating its secrets", (url) => {
    expect(() => parseFilesUrl(url)).toThrow(/^FILES_URL/);
    expect(() => parseFilesUrl(url)).not.toThrow(/secret-key/);
  });
});
