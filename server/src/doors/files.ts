import type { IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { Router, type Request, type Response } from "express";
import type { Logger } from "pino";
import type { Chat } from "../chat/chat.ts";
import { exactly, noFile, type Arriving, type Opened } from "../chat/files.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Load } from "../load.ts";
import { FILE_ID, isRoomId } from "../protocol.ts";
import { StoreFault } from "../store/blobs.ts";
import { tellAway } from "./failure.ts";
import { demandUserId } from "./fields.ts";
import { demandActor, demandUser, type Identity } from "./identity.ts";
import type { Throttle } from "./throttle.ts";
import { allowBody } from "./transport.ts";

/** What browsers may show; they save everything else, whatever it says it is. */
const INLINE = /^(?:image\/(?:jpeg|png|webp|gif|avif)|audio\/[\w.+-]+|video\/[\w.+-]+)$/;

type Parts = { chat: Chat; identity: Identity; throttle: Throttle; load: Load; log: Logger };

/**
 * The routes of images and files. Bodies are files, of any type: nothing may parse them before. The caller has
 * identified the actor.
 */
export function fileRoutes({ chat, identity, throttle, load, log }: Parts): Router {
  const { files, accounts } = chat;
  const router = Router();

  /** Waits for its turn, reads the body, and lets nothing keep the connection busy for longer than is fair. */
  async function receive<T>(
    request: Request,
    userId: string,
    work: (arriving: Arriving) => Promise<T>,
  ): Promise<T> {
    const bytes = lengthOf(request);
    load.demand("history");
    await throttle.take("upload", userId);
    const allowed = allowBody(request, BOUNDS.uploadIdleMs.value);
    try {
      return await throttle.queue("upload", userId, () => {
        allowed.begin(BOUNDS.uploadMs.value + (bytes / BOUNDS.uploadRate.value) * 1_000);
        // A body that is broken off must not take its connection along: the refusal still has to come through.
        const body = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
        return work({ bytes, source: incoming(body, userId) });
      });
    } finally {
      allowed.end();
      // Node drops what is left of a body only where nobody has begun to read it.
      request.resume();
    }
  }

  /** The same bytes; what is done with a file once it is here has a turn of its own. */
  async function* incoming(source: AsyncIterable<Buffer>, userId: string): AsyncGenerator<Buffer> {
    yield* inTurns(source, userId);
    await throttle.turn("file", userId);
  }

  /** The same bytes, between which others get their turn. */
  async function* inTurns(source: AsyncIterable<Buffer>, userId: string): AsyncGenerator<Buffer> {
    let bytes = 0;
    for await (const chunk of source) {
      yield chunk;
      bytes += chunk.length;
      if (bytes < BOUNDS.fileTurn.value) continue;
      bytes = 0;
      await throttle.turn("file", userId);
    }
  }

  /**
   * Sends a file so that nothing in it acts on our page: browsers believe its type, run nothing in it, and save what is
   * no picture, sound or film. They may keep it, but ask each time whether it is still theirs to see. A few at once for
   * each user: one that nobody reads keeps its buffers until the connection is cut.
   */
  async function send(
    request: Request,
    response: Response,
    userId: string,
    open: () => Promise<Opened>,
  ): Promise<void> {
    await throttle.queue("download", userId, async () => {
      if (response.destroyed) return;
      const opened = await open();
      identity.watch(request, response, open);
      await answer(request, response, userId, opened);
    });
  }

  async function answer(
    request: Request,
    response: Response,
    userId: string,
    { file, read }: Opened,
  ): Promise<void> {
    const { id, name, type, size } = file;
    const shown = INLINE.test(type);
    response.attachment(name);
    const disposition = String(response.get("Content-Disposition"));
    response.set({
      "Content-Type": shown ? type : "application/octet-stream",
      "Content-Disposition": shown ? disposition.replace(/^attachment/, "inline") : disposition,
      "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; sandbox",
      "Cache-Control": "private, no-cache",
      ETag: `"${id}"`,
      "Accept-Ranges": size === undefined ? "none" : "bytes",
    });
    // Not Express' `fresh`: whoever asks anew without a cache asks whether the file has changed, and it never does.
    const known = request.get("if-none-match");
    if (known === "*" || known?.includes(`"${id}"`)) {
      response.status(304).end();
      return;
    }
    const range = size === undefined ? undefined : rangeOf(request, response, size);
    if (range === null) {
      response.status(416).end();
      return;
    }
    const length = range ? range.end - range.start + 1 : size;
    if (length !== undefined) response.set("Content-Length", String(length));
    if (range) response.status(206);
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const bytes = await read(range);
    if (bytes === null) {
      tellAway(log, `nothing is there under ${id}`, "the store does not have a file");
      throw noFile();
    }
    // For fewer the reader would wait, and more it would take for the next answer.
    const broken = new StoreFault(`what is there under ${id} has another length`);
    const whole = length === undefined ? bytes : exactly(length, bytes, broken);
    await pipeline(inTurns(whole, userId), response);
  }

  // -> what I may upload: `{fileBytes,messageFiles,types,userBytes,used}`
  router.get("/files", async (_request, response) => {
    response.json(await files.limits(demandUser(response)));
  });
  // the file as the body, with `Content-Length`, `X-File-Name` (URL-encoded) and `X-Room-Id` -> 201
  // `{id,name,type,size,width?,height?,animated?}`, mine until I send it with a message to this room
  router.post("/files", async (request, response) => {
    const user = demandUser(response);
    const roomId = request.get("x-room-id") ?? "";
    if (!isRoomId(roomId)) throw new ChatError("invalid", "X-Room-Id: no room id");
    const name = decoded(request.get("x-file-name") ?? "");
    const file = await receive(request, user.id, (arriving) =>
      files.upload(user, { roomId, name }, arriving),
    );
    response.status(201).json(file);
  });
  // -> 204; removes a file of mine that no message has
  router.delete("/files/:id", async (request, response) => {
    await files.discard(demandUser(response), idOf(request));
    response.status(204).end();
  });
  // -> its bytes, or with `Range` some of them; 404 to all but the members of its message's room
  router.get("/files/:id", async (request, response) => {
    const user = demandUser(response);
    await send(request, response, user.id, () => files.open(user, idOf(request), false));
  });
  // -> an image of at most 640 x 640 pixels, WebP
  router.get("/files/:id/thumbnail", async (request, response) => {
    const user = demandUser(response);
    await send(request, response, user.id, () => files.open(user, idOf(request), true));
  });
  // the picture as the body -> me, with my new `avatar`
  router.put("/me/avatar", async (request, response) => {
    const { user, role } = demandActor(response);
    await receive(request, user.id, (arriving) => files.setAvatar(user, arriving));
    response.json(await accounts.changed(user, role));
  });
  // -> me, without a picture
  router.delete("/me/avatar", async (_request, response) => {
    const { user, role } = demandActor(response);
    await throttle.take("account", user.id);
    await files.removeAvatar(user.id);
    response.json(await accounts.changed(user, role));
  });
  // -> a user's picture, 256 x 256 pixels, WebP; 404 without one
  router.get("/users/:id/avatar", async (request, response) => {
    const user = demandUser(response);
    await send(request, response, user.id, () => files.avatar(demandUserId(request.params.id)));
  });
  return router;
}

/** The asked part; undefined for all of it, null for none that exists. Several parts get all of it. */
function rangeOf(
  request: Request,
  response: Response,
  size: number,
): { start: number; end: number } | undefined | null {
  // RFC 9110, 13.1.5: a range of another version gets this one whole.
  const validator = request.get("if-range");
  if (validator !== undefined && validator !== response.get("ETag")) return undefined;
  const ranges = request.range(size);
  if (ranges === -1 && !endsWithAll(request.get("range"), size)) {
    response.set("Content-Range", `bytes */${size}`);
    return null;
  }
  if (ranges === undefined || ranges === -2) return undefined;
  if (ranges !== -1 && (ranges.type !== "bytes" || ranges.length !== 1)) return undefined;
  const [range] = ranges === -1 ? [] : ranges;
  const { start, end } = range ?? { start: 0, end: size - 1 };
  response.set("Content-Range", `bytes ${start}-${end}/${size}`);
  return { start, end };
}

/** RFC 9110, 14.1.2: of a file that is shorter than the end that is asked for, that end is all of it. */
function endsWithAll(range = "", size: number): boolean {
  const [, end = "0"] = /^bytes=-(\d+)$/.exec(range) ?? [];
  return size > 0 && Number(end) >= size;
}

function lengthOf(request: IncomingMessage): number {
  const length = request.headers["content-length"] ?? "";
  if (!/^\d{1,15}$/.test(length)) throw new ChatError("invalid", "A file needs its Content-Length.");
  return Number(length);
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    throw new ChatError("invalid", "X-File-Name is URL-encoded.");
  }
}

/** Throws `not_found` for what is no id of a file. */
function idOf(request: Request<{ id: string }>): string {
  const { id } = request.params;
  if (!FILE_ID.test(id)) throw noFile();
  return id;
}
