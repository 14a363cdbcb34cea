import { randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { text as readText } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { AwsV4Signer } from "aws4fetch";
import { ChatError, reasonOf, systemCode } from "../errors.ts";
import type { FilesAddress } from "../filesUrl.ts";

/** First and last byte, both inclusive. */
export type Range = { start: number; end: number };

/** Where the bytes of files lie, by name. Each method throws `unavailable` if the store does not do it. */
export type Blobs = {
  /** Where it is, without credentials. */
  shown: string;
  /** A folder for files on their way in, on this machine. */
  spool: string;
  /** Stores a spooled file; the file in the spool may be gone then. A repeat replaces it. */
  put: (name: string, path: string) => Promise<void>;
  /** All bytes or some of them; null if there are none of that name. What breaks off throws `unavailable` as well. */
  read: (name: string, range?: Range) => Promise<AsyncIterable<Buffer> | null>;
  /** Removes what there is of that name, also if there is nothing. */
  remove: (name: string) => Promise<void>;
};

/** Our own folder in the one that the operator names, which may have other things in it. */
const SPOOL = "hubbub-incoming";
/** How long an S3 store may be silent, in ms: whoever waits for a file is told before their own connection is cut. */
const SILENT_MS = 10_000;
/** As much of an S3 store's error is read. */
const ERROR_BYTES = 10_000;
/** What S3 calls it, as `RequestTimeTooSkewed`; its other words may quote who asked for what. */
const ERROR_CODE = /<Code>(\w{1,64})<\/Code>/;
/** Spooled files that a replica has left behind are removed after this, in ms. */
const LEFT_MS = 24 * 3_600_000;
/** What is in a spool: files under their ids, and images that are made of them. */
const SPOOLED = /^[\w-]{22}(?:\.(?:image|thumbnail))?$/;
/** What people send is for nobody else on this machine. */
const PRIVATE = { folder: 0o700, file: 0o600 };
/** Names of files, thumbnails and avatars. */
const NAME = /^[\w-]{10,64}(?:\.thumbnail)?$/;

/** The store at FILES_URL; `spool` is a folder, or "" for the store's own choice. Nothing is opened yet. */
export function createBlobs(address: FilesAddress, spool: string): Blobs {
  return address.kind === "folder" ? inFolder(address, spool) : inBucket(address, spool);
}

/**
 * Writes a stream into a new file of the spool, and to the disk; answers its path. Throws `unavailable` if the disk does
 * not take it, and what the stream throws.
 */
export async function spoolIn(
  { spool }: Blobs,
  name: string,
  source: AsyncIterable<Buffer>,
): Promise<string> {
  const path = join(spool, name);
  let fault: unknown;
  async function* watched() {
    try {
      yield* source;
    } catch (error) {
      fault = error;
      throw error;
    }
  }
  try {
    await makeFolder(spool);
    await pipeline(watched, createWriteStream(path, { flags: "wx", flush: true, mode: PRIVATE.file }));
    return path;
  } catch (error) {
    await discard(path);
    throw fault ?? storeFault(error);
  }
}

/** Removes a file of a spool. What cannot be removed now is swept later, and hides no other fault. */
export async function discard(path: string): Promise<void> {
  await rm(path, { force: true }).catch(() => undefined);
}

/**
 * Makes a folder, and those that it is in. Node's own `recursive` says ENOENT for a read-only disk, and never ends where a
 * folder that is there takes no other, as in /proc.
 */
async function makeFolder(path: string): Promise<void> {
  const make = () =>
    mkdir(path, { mode: PRIVATE.folder }).catch((error: unknown) => {
      if (systemCode(error) !== "EEXIST") throw error;
    });
  try {
    await make();
  } catch (error) {
    if (systemCode(error) !== "ENOENT" || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    await make();
  }
}

/**
 * Stores a small file, reads it and removes it. Throws an Error for an operator, without credentials, if the store or its
 * spool does not do that.
 */
export async function tryStore(blobs: Blobs): Promise<void> {
  const name = `trial-${randomUUID()}`;
  try {
    const path = await spoolIn(blobs, name, Readable.from([Buffer.from(name)]));
    try {
      await blobs.put(name, path);
    } finally {
      await discard(path);
    }
    let isSame: boolean;
    try {
      const stored = await blobs.read(name);
      isSame = stored !== null && (await readText(stored)) === name;
    } catch (error) {
      await blobs.remove(name).catch(() => undefined);
      throw error;
    }
    await blobs.remove(name);
    if (!isSame) throw new Error("it does not give back what it took");
  } catch (error) {
    const why = error instanceof StoreFault ? error.reason : error instanceof Error ? error.message : "";
    throw new Error(`${blobs.shown}: ${why}`, { cause: error });
  }
}

/** The cure for what `tryStore` throws. */
export const STORE_CURE =
  "uploads are answered `unavailable`: set FILES_URL and FILES_SPOOL, or make them writable";

/**
 * Removes from a spool what a replica left behind in it. Others may be using it, and it may be anybody's folder: nothing
 * goes that we cannot have made.
 */
export async function sweepSpool({ spool }: Blobs): Promise<void> {
  const entries = await readdir(spool, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile() || !SPOOLED.test(entry.name)) continue;
    const path = join(spool, entry.name);
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > LEFT_MS) await discard(path);
  }
}

/** One folder for 4,096 parts: some file systems are slow with a million entries. */
function inFolder({ path, shown }: { path: string; shown: string }, spool: string): Blobs {
  const root = resolve(path);
  const placeOf = (name: string) => join(root, checked(name).slice(0, 2), name);
  return {
    shown,
    spool: resolve(spool ? join(spool, SPOOL) : join(root, "incoming")),
    async put(name, from) {
      const place = placeOf(name);
      try {
        await makeFolder(dirname(place));
        await rename(from, place).catch(async (error: unknown) => {
          if (systemCode(error) !== "EXDEV") throw error;
          // The spool is on another disk: copied beside its place first, so that nobody reads half of it.
          try {
            const copy = createWriteStream(`${place}.new`, { flush: true, mode: PRIVATE.file });
            await pipeline(createReadStream(from), copy);
            await rename(`${place}.new`, place);
          } catch (fault) {
            await discard(`${place}.new`);
            throw fault;
          }
        });
      } catch (error) {
        throw storeFault(error);
      }
    },
    async read(name, range) {
      const place = placeOf(name);
      try {
        const file = await open(place);
        return whole(file.createReadStream({ ...range }));
      } catch (error) {
        if (systemCode(error) === "ENOENT") return null;
        throw storeFault(error);
      }
    },
    async remove(name) {
      const place = placeOf(name);
      try {
        await rm(place, { force: true });
        // Of a copy that was cut short.
        await rm(`${place}.new`, { force: true });
      } catch (error) {
        throw storeFault(error);
      }
    },
  };
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html */
function inBucket(address: FilesAddress & { kind: "s3" }, spool: string): Blobs {
  async function ask(
    method: "GET" | "PUT" | "DELETE",
    name: string,
    headers: Record<string, string> = {},
    body?: Readable,
  ): Promise<IncomingMessage> {
    const signer = new AwsV4Signer({
      method,
      url: `${address.url}/${checked(name)}`,
      headers,
      accessKeyId: address.key,
      secretAccessKey: address.secret,
      region: address.region,
      service: "s3",
    });
    const signed = await signer.sign();
    const start = signed.url.protocol === "https:" ? httpsRequest : httpRequest;
    const request = start(signed.url, { method, headers: Object.fromEntries(signed.headers) });
    let got: IncomingMessage | undefined;
    request.setTimeout(SILENT_MS);
    request.on("timeout", () => {
      // Bytes that lie here unread: it is the reader who pauses, not the store.
      if (got?.readableLength) return;
      (got ?? request).destroy(new Error("the store is silent"));
    });
    const answered = new Promise<IncomingMessage>((done, failed) => {
      request.once("response", done);
      request.once("error", failed);
      // An answer that changes the protocol is neither.
      request.once("close", () => failed(new Error("the store gave no answer")));
    });
    try {
      if (!body) {
        request.end();
        return (got = await answered);
      }
      const sent = pipeline(body, request);
      await Promise.race([sent, answered]);
      sent.catch(() => undefined);
      const answer = await answered;
      // An early refusal ends the sending. Nothing else does: what has not been sent is not stored.
      if (answer.statusCode === 200) await sent;
      return answer;
    } catch (error) {
      answered.catch(() => undefined);
      throw storeFault(error);
    }
  }
  /**
   * An answer with one of these statuses, or null for a 404 that says that there is no such object, or says nothing. Of any
   * other 404, as of a missing bucket or of a proxy, nothing follows. Nothing more is sent or read of another answer.
   */
  async function demand(answer: IncomingMessage, ...statuses: number[]): Promise<IncomingMessage | null> {
    const status = answer.statusCode ?? 0;
    if (statuses.includes(status)) return answer;
    let text = "";
    let code: string | undefined;
    try {
      for await (const part of answer) {
        text += String(part);
        code = ERROR_CODE.exec(text)?.[1];
        if (code !== undefined || text.length > ERROR_BYTES) break;
      }
    } catch {
      // Its status says enough.
    }
    if (status === 404 && (code === "NoSuchKey" || text === "")) return null;
    throw storeFault(new Error(`the store answered ${status}${code === undefined ? "" : ` ${code}`}`));
  }
  return {
    shown: address.shown,
    spool: resolve(join(spool || tmpdir(), SPOOL)),
    async put(name, path) {
      const { size } = await stat(path);
      const headers = { "content-length": String(size), "content-type": "application/octet-stream" };
      const source = createReadStream(path);
      try {
        const answer = await demand(await ask("PUT", name, headers, source), 200);
        if (answer === null) throw storeFault(new Error("the store has no such object"));
        answer.resume();
      } finally {
        source.destroy();
      }
    },
    async read(name, range) {
      const headers = range ? { range: `bytes=${range.start}-${range.end}` } : undefined;
      const answer = await demand(await ask("GET", name, headers), range ? 206 : 200);
      return answer && whole(answer);
    },
    async remove(name) {
      (await demand(await ask("DELETE", name), 200, 204))?.resume();
    },
  };
}

async function* whole(stream: Readable): AsyncGenerator<Buffer> {
  try {
    yield* stream as AsyncIterable<Buffer>;
  } catch (error) {
    throw storeFault(error);
  }
}

/** The last guard of the folder: a name is no path. */
function checked(name: string): string {
  if (!NAME.test(name)) throw new Error("no name of a file");
  return name;
}

/** A file store that does not do it, a full disk too: what was asked may succeed later. */
export class StoreFault extends ChatError {
  readonly reason: string;
  constructor(reason: string) {
    super("unavailable", "Files cannot be stored or read right now. Try again.", 5_000);
    this.reason = reason;
  }
}

function storeFault(error: unknown): unknown {
  if (error instanceof ChatError) return error;
  return new StoreFault(error instanceof Error && !("code" in error) ? error.message : reasonOf(error));
}
