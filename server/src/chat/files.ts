import { randomBytes } from "node:crypto";
import { open, stat } from "node:fs/promises";
import { extname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileTypeFromBuffer } from "file-type";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { ChatError, isRefusal } from "../errors.ts";
import { isVisible } from "../names.ts";
import type { Metrics } from "../metrics.ts";
import {
  LIMITS,
  type FileLimits,
  type MessageFile,
  type RoomId,
  type SentFile,
  type UploadedFile,
  type User,
  type UserId,
} from "../protocol.ts";
import { discard, spoolIn, StoreFault, type Blobs, type Range } from "../store/blobs.ts";
import type { Files, MostBytes, StoredFile } from "../store/files.ts";
import { AGAIN_MS, whyOf, type Collector } from "./collector.ts";
import { IMAGE_TYPES, type Images } from "./images.ts";
import type { ChatRooms } from "./rooms.ts";
import type { Users } from "./users.ts";

/** What file-type reads of a file. */
const SAMPLE_BYTES = 4_100;
const THUMBNAIL_SIDE = 640;
const AVATAR_SIDE = 256;
/** A file that no message got within this time is removed. */
const PENDING_MS = 24 * 3_600_000;
/** One that arrives is looked at after this, unless its replica puts that off: longer than clocks differ. */
const ARRIVING_MS = 3_600_000;
/** How long a deletion waits for the store. */
const REMOVED_WITHIN_MS = 2_000;

// Compiled before a replica listens: its first two uses take 10 ms.
for (const sample of [Buffer.alloc(SAMPLE_BYTES), Buffer.alloc(SAMPLE_BYTES, 7)])
  await fileTypeFromBuffer(sample);

type Parts = {
  config: Config["files"];
  files: Files;
  blobs: Blobs;
  images: Images;
  collector: Pick<Collector, "remove" | "noteUsed">;
  rooms: ChatRooms;
  users: Users;
  metrics: Pick<Metrics, "uploads" | "fileBytes">;
  log: Logger;
};

/** What arrives: as many bytes as were announced. */
export type Arriving = { bytes: number; source: AsyncIterable<Buffer> };
/** A file to send to a client; `read` answers null if its bytes are gone. */
export type Opened = {
  file: Pick<StoredFile, "id" | "name" | "type"> & { size?: number };
  read: (range?: Range) => ReturnType<Blobs["read"]>;
};

/**
 * Images and files: they arrive, belong to one message, and go with it. A file's bytes lie in Blobs under its id, its
 * thumbnail's beside it.
 */
export class ChatFiles {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async limits(user: User): Promise<FileLimits> {
    const { fileBytes, userBytes, types } = this.#parts.config;
    return {
      fileBytes,
      messageFiles: LIMITS.messageFiles,
      types,
      userBytes,
      used: await this.#parts.files.used(user.id),
    };
  }

  /**
   * Takes a file for a message to a room. Until it is sent, only its uploader sees it. Throws as for a message to the
   * room; `invalid` for an empty file, a kind that is not allowed and a broken image; `too_large` for the file, an image's
   * pixels, and all files of the user or the server. Then nothing is kept.
   */
  async upload(
    user: User,
    { roomId, name }: { roomId: RoomId; name: string },
    arriving: Arriving,
  ): Promise<UploadedFile> {
    await this.#parts.rooms.demand(user, roomId, "send");
    const shown = nameOf(name);
    return this.#take(user.id, arriving, async (id, path, type) => {
      this.#demandType(type);
      const about = await this.#store(id, path, type, arriving.bytes);
      const file = { id, name: withExtension(shown, type, about.type), ...about };
      // The right, or the account, may have been lost while it arrived.
      await this.#parts.rooms.demand(user, roomId, "send");
      const created = Date.now();
      await this.#add({ ...file, roomId, by: user.id, created });
      return file;
    });
  }

  /** Takes a picture for a user, and removes the one before. Throws as `upload`, and `invalid` for what is no image. */
  async setAvatar(user: User, arriving: Arriving): Promise<void> {
    const { images, blobs } = this.#parts;
    await this.#take(user.id, arriving, async (id, path, type) => {
      if (!IMAGE_TYPES.includes(type)) throw new ChatError("invalid", "This is no picture.");
      const thumbnail = `${path}.thumbnail`;
      let size: number;
      try {
        await images.make({ from: path, thumbnail, side: AVATAR_SIDE, cover: true });
        size = (await stat(thumbnail)).size;
        await blobs.put(id, thumbnail);
      } finally {
        await discard(thumbnail);
      }
      const file = { id, name: "avatar.webp", type: "image/webp", size };
      const created = Date.now();
      await this.#add({ ...file, by: user.id, created });
      // It stays due: of two that are set at once, only the collector knows which one is left.
      await this.#changeAvatar(user.id, id);
      return file;
    });
  }

  async removeAvatar(userId: UserId): Promise<void> {
    await this.#changeAvatar(userId, null);
  }

  async #changeAvatar(userId: UserId, id: string | null): Promise<void> {
    const { users, files } = this.#parts;
    const before = await users.avatarOf(userId);
    if (before !== null) await files.noteDue([before], Date.now() + AGAIN_MS);
    await users.setAvatar(userId, id);
    if (before !== null) await this.#remove([before]);
  }

  /** The picture of a user; throws `not_found`. */
  async avatar(userId: UserId): Promise<Opened> {
    const id = await this.#parts.users.avatarOf(userId);
    if (id === null) throw noFile();
    return this.#opened({ id, name: "avatar.webp", type: "image/webp" }, id);
  }

  /**
   * A file, or its thumbnail, for a member of the room of its message, or for its uploader until it is sent. Throws
   * `not_found` to everybody else.
   */
  async open(user: User, id: string, isThumbnail: boolean): Promise<Opened> {
    const { files, rooms } = this.#parts;
    const [file] = await files.find([id]);
    if (file?.roomId === undefined) throw noFile();
    const holder = await files.holder(file.roomId, id);
    if (holder === null) throw noFile();
    if ("userId" in holder) {
      if (holder.userId !== user.id) throw noFile();
    } else {
      await rooms.demand(user, file.roomId, "read").catch((error: unknown) => {
        throw error instanceof ChatError ? noFile() : error;
      });
    }
    if (!isThumbnail) return this.#opened(file, id);
    if (file.width === undefined) throw noFile();
    const { name } = file;
    return this.#opened({ id: `${id}.thumbnail`, name, type: "image/webp" }, `${id}.thumbnail`);
  }

  #opened(file: Opened["file"], name: string): Opened {
    return { file, read: (range) => this.#parts.blobs.read(name, range) };
  }

  /** Removes one's own file that no message has. Throws `not_found`. */
  async discard(user: User, id: string): Promise<void> {
    const { files } = this.#parts;
    const [file] = await files.find([id]);
    if (file?.roomId === undefined || file.by !== user.id) throw noFile();
    if (!(await files.detach(file.roomId, id))) throw noFile();
    await this.#remove([id]);
  }

  /** Removes the files of a user that have arrived and that no message has. */
  async discardPending(userId: UserId): Promise<void> {
    for (const id of await this.#parts.files.pending(userId)) await this.#remove([id]);
  }

  /**
   * What a message says of its files. Throws `not_found` for one that is unknown, somebody else's or of another room.
   * Whether another message has it is checked where the message is stored.
   */
  async describe(user: User, roomId: RoomId, asked: readonly (string | SentFile)[]): Promise<MessageFile[]> {
    const sent = asked.map((one) => (typeof one === "string" ? { id: one } : one));
    const found = await this.#parts.files.find(sent.map(({ id }) => id));
    return sent.map(({ alt = "" }, index) => {
      const file = found[index];
      if (file?.roomId !== roomId || file.by !== user.id) throw noFile();
      // The log stores the fields of a MessageFile alone.
      return { ...file, ...(alt !== "" && { alt }) };
    });
  }

  /** These files were sent. */
  async noteSent(sent: readonly MessageFile[]): Promise<void> {
    // If it fails, the collector finds out that they are in use.
    await this.#parts.collector.noteUsed(sent.map(({ id }) => id)).catch(() => undefined);
  }

  /** Does what takes files from their message, and removes them. What is cut short is finished later. */
  async withdraw<T>(lost: readonly MessageFile[], work: () => Promise<T>): Promise<T> {
    const ids = lost.map(({ id }) => id);
    await this.#parts.files.noteDue(ids, Date.now() + AGAIN_MS);
    const done = await work();
    await this.#remove(ids);
    return done;
  }

  /**
   * Removes files that nobody can fetch any more, so that nobody needs to wait for a slow store, or to be told of one
   * that does not do it: that is done later.
   */
  async #remove(ids: readonly string[]): Promise<void> {
    const { files, collector, log } = this.#parts;
    const removing = ids.map((id) =>
      collector.remove(id).catch(async (error: unknown) => {
        log.warn({ reason: whyOf(error) }, "a deleted file is removed later");
        // A sender who was slow to note that it was sent may have taken an earlier note away.
        await files.noteDue([id], Date.now() + AGAIN_MS).catch(() => undefined);
      }),
    );
    await Promise.race([Promise.all(removing), sleep(REMOVED_WITHIN_MS, undefined, { ref: false })]);
  }

  /**
   * Takes a file into the spool, counted, and does something with it. If that throws, nothing of it remains.
   */
  async #take<T>(
    userId: UserId,
    { bytes, source }: Arriving,
    work: (id: string, path: string, type: string) => Promise<T>,
  ): Promise<T> {
    const { config, files, blobs, metrics } = this.#parts;
    if (bytes === 0) throw new ChatError("invalid", "This file is empty.");
    if (bytes > config.fileBytes)
      throw new ChatError("too_large", `A file has at most ${config.fileBytes} bytes.`);
    const id = randomBytes(16).toString("base64url");
    this.#demandPlace(await files.reserve(id, userId, bytes, Date.now() + ARRIVING_MS, this.#most()));
    const arriving = setInterval(
      () => void files.putOff(id, Date.now() + ARRIVING_MS).catch(() => undefined),
      ARRIVING_MS / 12,
    ).unref();
    let path: string | undefined;
    try {
      path = await spoolIn(
        blobs,
        id,
        exactly(bytes, source, new ChatError("invalid", "The file has not arrived whole.")),
      );
      const done = await work(id, path, await typeOf(path));
      clearInterval(arriving);
      metrics.uploads.inc({ outcome: "stored" });
      metrics.fileBytes.inc(bytes);
      return done;
    } catch (error) {
      clearInterval(arriving);
      const isRefused = isRefusal(error);
      metrics.uploads.inc({ outcome: isRefused ? "refused" : "failed" });
      // If this fails too, the collector does it: what did not arrive counts no longer. A store that is away would
      // let the sender wait.
      await files.giveUp(id, userId, Date.now() + AGAIN_MS).catch(() => undefined);
      const removing = this.#parts.collector.remove(id).catch(() => undefined);
      if (!(error instanceof StoreFault)) await removing;
      throw error;
    } finally {
      if (path !== undefined) await discard(path);
    }
  }

  /** Notes a file that has arrived. */
  async #add(file: StoredFile): Promise<void> {
    this.#demandPlace(await this.#parts.files.add(file, file.created + PENDING_MS, this.#most()));
  }

  #most(): MostBytes {
    const { userBytes, totalBytes } = this.#parts.config;
    return { user: userBytes, server: totalBytes };
  }

  #demandPlace(over: "user" | "server" | null): void {
    if (over === null) return;
    throw new ChatError(
      "too_large",
      over === "user"
        ? `All your files have at most ${this.#parts.config.userBytes} bytes. Delete some first.`
        : "This server has no room for more files.",
    );
  }

  /** Stores the bytes, those of an image anew; answers what they are. */
  async #store(
    id: string,
    path: string,
    type: string,
    bytes: number,
  ): Promise<Omit<UploadedFile, "id" | "name">> {
    const { images, blobs, config } = this.#parts;
    if (!IMAGE_TYPES.includes(type)) {
      await blobs.put(id, path);
      return { type, size: bytes };
    }
    const image = config.originals ? undefined : `${path}.image`;
    const thumbnail = `${path}.thumbnail`;
    try {
      const order = { from: path, thumbnail, side: THUMBNAIL_SIDE, cover: false };
      const made = await images.make(image === undefined ? order : { ...order, image });
      await blobs.put(`${id}.thumbnail`, thumbnail);
      await blobs.put(id, image ?? path);
      const { width, height, animated, size } = made;
      return { type: made.type, size, width, height, ...(animated && { animated: true as const }) };
    } finally {
      await discard(thumbnail);
      if (image !== undefined) await discard(image);
    }
  }

  #demandType(type: string): void {
    const [kind = ""] = type.split("/", 1);
    const { types } = this.#parts.config;
    if (types.some((one) => one === "*/*" || one === type || one === `${kind}/*`)) return;
    throw new ChatError("invalid", `Files of this kind are not allowed here: ${type}`);
  }
}

/** The same bytes; throws `otherwise` if they are fewer, or more. */
export async function* exactly(
  bytes: number,
  source: AsyncIterable<Buffer>,
  otherwise: ChatError,
): AsyncGenerator<Buffer> {
  let seen = 0;
  for await (const chunk of source) {
    seen += chunk.length;
    if (seen > bytes) break;
    yield chunk;
  }
  if (seen !== bytes) throw otherwise;
}

/** The media type by what the bytes are, never by a name or by what the sender says. */
async function typeOf(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SAMPLE_BYTES), 0, SAMPLE_BYTES, 0);
    const sample = buffer.subarray(0, bytesRead);
    const found = await fileTypeFromBuffer(sample).catch(() => undefined);
    // Without parameters, as `codecs`: kinds are compared by their names.
    if (found) return found.mime.split(";", 1)[0] ?? "";
    return isText(sample) ? "text/plain" : "application/octet-stream";
  } finally {
    await file.close();
  }
}

function isText(sample: Buffer): boolean {
  // Of the control characters, texts have tabs, line ends, form feeds and the like.
  if (sample.some((byte) => byte < 8 || (byte > 13 && byte < 32))) return false;
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(sample, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/** Characters with which a joiner (U+200C, U+200D) spells another word or emoji than without it. */
const JOINING = String.raw`[\p{M}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Mongolian}\p{Extended_Pictographic}\p{Emoji_Modifier}]`;
const UNWANTED = new RegExp(
  String.raw`(?<!${JOINING})[\u200c\u200d]|(?![\u200c\u200d])\p{C}|[<>:"|?*]`,
  "gu",
);

/**
 * A file's name as it is shown and saved: without a path, and without characters that are invisible or change the
 * direction of a text; long ones are shortened before their extension.
 */
export function nameOf(given: string): string {
  const last = given.normalize("NFC").split(/[/\\]/).at(-1) ?? "";
  const clean = last.replaceAll(UNWANTED, "").replaceAll(/\s+/gu, " ").trim().replace(/^\.+/, "");
  if (clean === "" || !isVisible(clean)) return "file";
  if (clean.length <= LIMITS.fileName) return clean;
  const extension = cut(extname(clean), 16);
  return cut(clean, LIMITS.fileName - extension.length) + extension;
}

/** Cuts between characters. */
function cut(text: string, length: number): string {
  return text.slice(0, length).replace(/[\ud800-\udbff]$/, "");
}

/** An image that became one of another type has that type's extension. */
function withExtension(name: string, before: string, type: string): string {
  if (before === type || type !== "image/webp") return name;
  return `${cut(name.slice(0, name.length - extname(name).length), LIMITS.fileName - 5)}.webp`;
}

/** The answer to whoever may not have a file, and for one that is not there: the same. */
export function noFile(): ChatError {
  return new ChatError("not_found", "There is no such file for you.");
}
