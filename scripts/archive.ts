import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, rmSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { systemCode } from "../server/src/errors.ts";
import { SCHEMA } from "../server/src/store/schema.ts";
import { stop } from "./prepare.mjs";

/**
 * A backup file: gzip with one JSON value a line. docs/backup.md explains the format.
 *
 *   {"hubbub":"backup","format":1,"schema":2,"date":"2026-...","prefix":"","sessions":false}
 *   ["hash","user:1",[["username","Mary"],...]]             type, key without prefix, its values or some of them,
 *   ["string","{room:0}:nonce:1:x",[["179..."]],1795...]    ms since 1970 at which it expires, if it does
 *   {"room":"0","messages":37,"hash":"80e30a90df98"}        after all of a room's log
 *   {"end":true,"keys":{"string":9,...},"values":120,"messages":37,"rooms":4,"sha256":"..."}
 *
 * Bytes that are not UTF-8 are {"base64":"..."}. The checksum covers all lines before the last.
 */
export type Header = {
  hubbub: "backup";
  format: number;
  schema: number;
  date: string;
  prefix: string;
  sessions: boolean;
};

export type KeyType = "string" | "hash" | "set" | "zset" | "list" | "stream";
const TYPES: readonly string[] = ["string", "hash", "set", "zset", "list", "stream"] satisfies KeyType[];

/**
 * Values of one key. Its name is without prefix, in latin1, because it may be any bytes. A value is a list of parts: a
 * hash's field and value, a sorted set's member and score, a stream's id, fields and values.
 */
export type Values = { type: KeyType; name: string; values: Buffer[][]; expires: number | null };
export type RoomEnd = { room: string; messages: number; hash: string };
export type Item = Values | RoomEnd;

export type Counts = {
  keys: Partial<Record<KeyType, number>>;
  values: number;
  messages: number;
  rooms: number;
};

const FORMAT = 1;
/** Lines are written in pieces of about this many bytes. */
const PIECE = 65_536;

/**
 * Counts and hashes items in any order. The hash omits keys that expire, because they may be gone by then.
 */
export class Tally {
  readonly counts: Counts = { keys: {}, values: 0, messages: 0, rooms: 0 };
  readonly #sum = new Uint32Array(8);
  #last = "";

  add(item: Item): void {
    const { counts } = this;
    if ("room" in item) {
      counts.messages += item.messages;
      counts.rooms += 1;
      return;
    }
    const { type, name, values, expires } = item;
    // The parts of one key are consecutive.
    if (name !== this.#last) counts.keys[type] = (counts.keys[type] ?? 0) + 1;
    this.#last = name;
    counts.values += values.length;
    if (expires === null) for (const value of values) this.#addToSum(type, name, value);
  }

  /** Equal for the same values of the same keys. */
  sum(): string {
    return Buffer.from(this.#sum.buffer).toString("hex");
  }

  #addToSum(type: KeyType, name: string, value: readonly Buffer[]): void {
    const hash = createHash("sha256").update(`${type} ${name.length} ${name}`, "latin1");
    for (const part of value) hash.update(` ${part.length} `).update(part);
    const digest = hash.digest();
    for (let index = 0; index < 8; index += 1)
      this.#sum[index] = (this.#sum[index] ?? 0) + digest.readUInt32LE(4 * index);
  }
}

/** Writes a whole archive, readable only by this user, and reads it again: the answer is what the file has. */
export async function writeArchive(
  file: string,
  header: Omit<Header, "hubbub" | "format">,
  items: AsyncIterable<Item>,
): Promise<Counts> {
  const tally = new Tally();
  rmSync(file, { force: true });
  const lines = Readable.from(
    inPieces(toLines({ hubbub: "backup", format: FORMAT, ...header }, items, tally)),
  );
  await pipeline(lines, createGzip(), createWriteStream(file, { flags: "wx", mode: 0o600, flush: true }));
  const written = await verifyArchive(file);
  if (written.tally.sum() !== tally.sum())
    throw stop(`${file} does not hold what was written: is the disk sound?`, 74);
  return written.tally.counts;
}

/** Reads a whole archive. Throws with exit code 65 if it is not one, incomplete, altered, or of a newer format. */
export async function verifyArchive(file: string): Promise<{ header: Header; tally: Tally }> {
  const tally = new Tally();
  const archive = readArchive(file, tally);
  const { header } = await archive.next().then(({ value }) => value as { header: Header });
  // Reading to the end compares the checksums.
  for await (const item of archive) void item;
  return { header, tally };
}

/** The header, then every item. A faulty file may throw only at its very end. */
export async function* readArchive(
  file: string,
  tally = new Tally(),
): AsyncGenerator<{ header: Header } | Item> {
  const sha256 = createHash("sha256");
  let number = 0;
  let ended = false;
  try {
    for await (const line of linesOf(file)) {
      number += 1;
      if (ended) throw new Error("something follows its end");
      const value = JSON.parse(line.toString()) as unknown;
      if (number === 1) yield { header: readHeader(value) };
      else if (isEnd(value)) {
        compare(value, tally.counts, sha256.copy().digest("hex"));
        ended = true;
      } else {
        const item = readItem(value);
        tally.add(item);
        yield item;
      }
      sha256.update(line).update("\n");
    }
    if (!ended) throw new Error("it is cut short");
  } catch (error) {
    if (error instanceof Error && "exitCode" in error) throw error;
    throw stop(`${file} is no whole backup: ${faultIn(error, number)}. Nothing was read from it.`, 65);
  }
}

function faultIn(error: unknown, number: number): string {
  const code = systemCode(error);
  if (code === "ENOENT") return "there is no such file";
  if (code === "EISDIR") return "it is a folder";
  if (code === "Z_BUF_ERROR") return "it is cut short";
  if (code === "Z_DATA_ERROR") return number === 0 ? "it is not packed with gzip" : "it is damaged";
  if (error instanceof SyntaxError) return `line ${number} is damaged`;
  return error instanceof Error ? error.message : String(error);
}

function readHeader(value: unknown): Header {
  const header = value as Partial<Header> | null;
  if (typeof header !== "object" || header?.hubbub !== "backup") throw new Error("it is of another program");
  if (typeof header.format !== "number" || header.format > FORMAT)
    throw new Error(`it was written by a newer Hubbub, in format ${header.format}`);
  if (typeof header.schema !== "number" || header.schema > SCHEMA)
    throw new Error(
      `it was written by a newer Hubbub (schema ${header.schema}, and this one knows ${SCHEMA})`,
    );
  return header as Header;
}

type End = { end: true; sha256: string } & Counts;

function isEnd(value: unknown): value is End {
  return typeof value === "object" && value !== null && "end" in value;
}

function compare(end: End, found: Counts, sum: string): void {
  if (end.sha256 !== sum) throw new Error("it was altered: its sum is another one");
  if (JSON.stringify(sorted(end)) !== JSON.stringify(sorted(found)))
    throw new Error("it does not hold as much as its end says");
}

function sorted({ keys, values, messages, rooms }: Counts) {
  return [values, messages, rooms, ...TYPES.map((type) => keys[type as KeyType] ?? 0)];
}

function readItem(value: unknown): Item {
  if (!Array.isArray(value)) {
    const { room, messages, hash } = value as Partial<RoomEnd>;
    if (typeof room !== "string" || typeof messages !== "number" || typeof hash !== "string")
      throw new Error("a line is none of its format");
    return { room, messages, hash };
  }
  const [type, name, values, expires = null] = value as [KeyType, Packed, Packed[][], number?];
  if (!TYPES.includes(type) || !Array.isArray(values)) throw new Error("a line is none of its format");
  return {
    type,
    name: unpack(name).toString("latin1"),
    values: values.map((parts) => parts.map(unpack)),
    expires,
  };
}

type Packed = string | { base64: string };

function pack(bytes: Buffer): Packed {
  return isUtf8(bytes) ? bytes.toString() : { base64: bytes.toString("base64") };
}

function unpack(packed: Packed): Buffer {
  return typeof packed === "string" ? Buffer.from(packed) : Buffer.from(packed.base64, "base64");
}

async function* toLines(header: Header, items: AsyncIterable<Item>, tally: Tally): AsyncGenerator<string> {
  const sha256 = createHash("sha256");
  const line = (value: unknown) => {
    const text = `${JSON.stringify(value)}\n`;
    sha256.update(text);
    return text;
  };
  yield line(header);
  for await (const item of items) {
    tally.add(item);
    if ("room" in item) yield line(item);
    else {
      const { type, name, values, expires } = item;
      const packed = [type, pack(Buffer.from(name, "latin1")), values.map((parts) => parts.map(pack))];
      yield line(expires === null ? packed : [...packed, expires]);
    }
  }
  yield `${JSON.stringify({ end: true, ...tally.counts, sha256: sha256.digest("hex") })}\n`;
}

async function* inPieces(lines: AsyncIterable<string>): AsyncGenerator<Buffer> {
  let piece = "";
  for await (const line of lines) {
    piece += line;
    if (piece.length < PIECE) continue;
    yield Buffer.from(piece);
    piece = "";
  }
  yield Buffer.from(piece);
}

async function* linesOf(file: string): AsyncGenerator<Buffer> {
  const source = createReadStream(file);
  const unpacked = createGunzip();
  source.on("error", (error) => unpacked.destroy(error));
  let rest: Buffer[] = [];
  try {
    for await (const chunk of source.pipe(unpacked) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let to = chunk.indexOf(10); to !== -1; to = chunk.indexOf(10, from)) {
        const piece = chunk.subarray(from, to);
        yield rest.length === 0 ? piece : Buffer.concat([...rest, piece]);
        rest = [];
        from = to + 1;
      }
      if (from < chunk.length) rest.push(chunk.subarray(from));
    }
  } finally {
    source.destroy();
  }
  if (rest.length > 0) yield Buffer.concat(rest);
}
