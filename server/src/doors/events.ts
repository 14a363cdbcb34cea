import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Delivery } from "../live/delivery.ts";
import { AnswerNumber, dismiss, type Connection } from "../live/frames.ts";
import type { Relay } from "../live/relay.ts";
import type { Load } from "../load.ts";
import type { Logger } from "pino";
import { namesRoom } from "../markdown.ts";
import type { Metrics } from "../metrics.ts";
import {
  FILE_ID,
  LIMITS,
  NONCE,
  isBlank,
  isEmoji,
  type ClientEvents,
  type Cursor,
  type EditMessage,
  type MarkRead,
  type React,
  type RoomId,
  type SendMessage,
  type SyncedRoom,
  type UserId,
} from "../protocol.ts";
import type { Security } from "../security.ts";
import { joinedJson, syncedJson } from "../store/codec.ts";
import { listJson, type Json } from "../store/json.ts";
import { unknownRoom } from "../store/log.ts";
import type { Attendance } from "./attendance.ts";
import { toFailure } from "./failure.ts";
import { anyRoomId, whole, writtenText } from "./fields.ts";
import type { Identity } from "./identity.ts";
import type { Throttle } from "./throttle.ts";

// Compiles what recognises an emoji: at the first two reactions it would keep everybody waiting.
isEmoji("👍");
isEmoji("👍");
const room: z.ZodType<{ roomId: RoomId }> = z.object({ roomId: anyRoomId });
const nonce = z.string().regex(NONCE, "1 to 64 letters, digits, _ . : -");
const hash = z.string().regex(/^[0-9a-f]{0,40}$/);
const fileId = z.string().regex(FILE_ID, "the id of a file");
const sentFile = z.union([fileId, z.object({ id: fileId, alt: writtenText(LIMITS.alt).optional() })]);
/** Blank only beside files: whoever edits it is asked the same where the message is known. */
const textOrNone = writtenText(LIMITS.message);
const send: z.ZodType<SendMessage> = z
  .object({
    roomId: anyRoomId,
    message: textOrNone,
    nonce,
    replyTo: whole.optional(),
    replyToHash: hash.optional(),
    files: z
      .array(sentFile)
      .min(1)
      .max(LIMITS.messageFiles)
      .refine(
        (files) =>
          new Set(files.map((one) => (typeof one === "string" ? one : one.id))).size === files.length,
        "each file once",
      )
      .optional(),
  })
  .refine(({ message, files }) => files !== undefined || !isBlank(message), "a message needs text");
const target = z.object({ roomId: anyRoomId, seq: whole, hash: hash.optional() });
const markRead: z.ZodType<MarkRead> = z.object({
  roomId: anyRoomId,
  seq: whole,
  unread: z.literal(true).optional(),
});
const edit: z.ZodType<EditMessage> = target.extend({ message: textOrNone, rev: whole, nonce });
const react: z.ZodType<React> = target.extend({
  emoji: z.string().max(64).refine(isEmoji, "one emoji"),
  on: z.boolean(),
});
const pin = target.extend({ on: z.boolean() });
const cursor: z.ZodType<Cursor> = z.object({
  roomId: anyRoomId,
  seq: whole,
  date: whole,
  hash: hash.optional(),
  rev: whole.optional(),
  revHash: hash.optional(),
});
const sync: z.ZodType<{ rooms: Cursor[] }> = z.object({
  rooms: z
    .array(cursor)
    .max(LIMITS.syncRooms)
    .refine((rooms) => new Set(rooms.map((one) => one.roomId)).size === rooms.length, "each room once"),
});

/** The largest answer to `sync`, in KB: its limit, and the rooms under way when it was reached. */
const SYNC_KB = (BOUNDS.syncLength.value + BOUNDS.syncAtOnce.value * BOUNDS.pageBytes.value) / 1_024;

export type EventParts = {
  identity: Identity;
  delivery: Delivery;
  relay: Relay;
  throttle: Throttle;
  metrics: Metrics;
  load: Load;
  security: Security;
  log: Logger;
};

type Listener = (this: Connection, ...args: unknown[]) => void;
type Answer = (value: Json) => void;

/** What clients ask over Socket.IO: one listener for each event, which all connections share; `this` is the connection. */
export class Events {
  readonly #parts: EventParts;
  readonly #chat: Chat;
  readonly #attendance: Attendance;
  #running = 0;

  constructor(parts: EventParts, chat: Chat, attendance: Attendance) {
    this.#parts = parts;
    this.#chat = chat;
    this.#attendance = attendance;
  }

  /** How many requests are being carried out. */
  get running(): number {
    return this.#running;
  }

  /** Hears any event, by its name: each connection would keep a table with a listener for each. */
  listener(): Listener {
    const listeners = new Map<string, Listener>(Object.entries(this.#listeners()));
    const refuse = this.#listener("event", z.never("no such event"), () => Promise.resolve("null"));
    return function heard(...args) {
      (listeners.get(args[0] as string) ?? refuse).apply(this, args);
    };
  }

  /** Nobody calls everybody again and again. */
  #demandRing({ data: { user } }: Connection, { message }: { message: string }): Promise<void> | undefined {
    return namesRoom(message) ? this.#parts.throttle.take("mentionRoom", user.id) : undefined;
  }

  #listeners(): Record<keyof ClientEvents, Listener> {
    return {
      message: this.#listener("message", send, async (connection, sent) => {
        this.#parts.load.demand("sends");
        await this.#demandRing(connection, sent);
        await this.#parts.delivery.hold(sent.roomId);
        return this.#chat.messages.send(connection.data.user, sent);
      }),
      "message.edit": this.#listener("message", edit, async (connection, asked) => {
        await this.#demandRing(connection, asked);
        return this.#chat.messages.change(connection.data.user, { do: "edit", ...asked });
      }),
      "message.delete": this.#listener("event", target, (connection, asked) =>
        this.#chat.messages.change(connection.data.user, { do: "delete", ...asked }),
      ),
      "message.react": this.#listener("event", react, (connection, asked) =>
        this.#chat.messages.change(connection.data.user, { do: "react", ...asked }),
      ),
      "message.pin": this.#listener("event", pin, (connection, asked) =>
        this.#chat.messages.change(connection.data.user, { do: "pin", ...asked }),
      ),
      typing: this.#listener("event", room, async ({ data }, { roomId: id }) => {
        if (!data.rooms.has(id)) throw unknownRoom();
        await this.#chat.rooms.demand(data.user, id, "type");
        await this.#parts.relay.typing(id, data.user.id);
        return "null";
      }),
      "room.join": this.#listener("event", room, (connection, { roomId: id }, answer) =>
        this.#join(connection, id, answer),
      ),
      "room.leave": this.#listener("event", room, async (connection, { roomId: id }) => {
        await this.#chat.rooms.leave(connection.data.user, id);
        return "null";
      }),
      "room.read": this.#listener("event", markRead, async (connection, asked) =>
        JSON.stringify({ read: await this.#chat.rooms.read(connection.data.user, asked) }),
      ),
      sync: this.#listener("event", sync, (connection, { rooms }, answer) =>
        this.#sync(connection, rooms, answer),
      ),
    };
  }

  /**
   * Answers a request exactly once, with a value or with a code. `handle` gives the value as JSON; one that may be long
   * and has waited in a queue it passes to `answer` instead, for the reason that `Throttle.queue` gives. Without a
   * callback the request is still carried out.
   */
  #listener<T>(
    limit: "message" | "event",
    schema: z.ZodType<T>,
    handle: (connection: Connection, asked: T, answer: Answer) => Promise<Json | void>,
  ): Listener {
    const { delivery, security } = this.#parts;
    const respond = async (connection: Connection, body: unknown, callback: unknown): Promise<void> => {
      const fail = (error: unknown) => {
        security.contain("answer", error, { userId: connection.data.user.id });
        connection.conn.close(true);
      };
      const say = (...reply: Json[]) => {
        try {
          if (callback instanceof AnswerNumber) delivery.answer(connection, callback.id, reply);
          else if (typeof callback === "function")
            (callback as (reply: unknown) => void)(JSON.parse(reply.join("")));
        } catch (error) {
          fail(error);
        }
      };
      const work = (answer: Answer) => handle(connection, schema.parse(body), answer);
      await this.#reply(limit, connection, say, work).catch(fail);
    };
    return function listener(...args) {
      // The event's name comes first, if there is one, and the callback last, whatever else was sent.
      void respond(this, args[1], args.at(-1));
    };
  }

  /** Says the Reply to one request, as parts of JSON. Dismisses a client that goes on after repeated refusals. */
  async #reply(
    limit: "message" | "event",
    { data }: Connection,
    say: (...reply: Json[]) => void,
    handle: (answer: Answer) => Promise<Json | void>,
  ): Promise<void> {
    const { throttle, metrics, security } = this.#parts;
    const { user } = data;
    data.asked = true;
    this.#running += 1;
    try {
      await throttle.take(limit, user.id);
      await throttle.turn("event", user.id);
      const answer = (value: Json) => say(`{"ok":true,"value":`, value, "}");
      const value = await handle(answer);
      if (value !== undefined) answer(value);
    } catch (error) {
      const failure = toFailure(error, this.#parts, "event");
      metrics.refusals.inc({ door: "socket", code: failure.code });
      if (failure.code === "rate_limited") {
        security.note("request.limited", { userId: user.id, what: limit });
        await throttle.take("refused", user.id).catch((barred: unknown) => {
          this.#dismissUser(user.id, toFailure(barred, this.#parts, "event").retryAfterMs);
        });
      }
      say(JSON.stringify({ ok: false, error: failure }));
    } finally {
      this.#running -= 1;
    }
  }

  #dismissUser(userId: UserId, retryAfterMs = 0): void {
    const { delivery, identity, security } = this.#parts;
    const open = [...delivery.connections(userId)];
    for (const connection of open) {
      security.note("connection.cut", { userId, what: "refused" });
      identity.bar(connection.data.sid, "handshake", retryAfterMs);
      dismiss(connection, retryAfterMs);
    }
  }

  /** Answers a joined room with its newest page, as JSON: charged as a page is, also for who was a member before. */
  async #join(connection: Connection, id: RoomId, answer: Answer): Promise<void> {
    const { throttle, relay, load } = this.#parts;
    const { user } = connection.data;
    load.demand("history");
    const join = async (): Promise<Json> => {
      // They may have logged out, or been cut off, while it waited.
      if (!connection.connected) throw new ChatError("unauthorized", "This connection has ended.");
      await this.#chat.rooms.join(user, id);
      await this.#attendance.attach(connection, [id]);
      const kept = await relay.newest(id, LIMITS.pageDefault);
      if (!kept || !connection.data.rooms.has(id)) return this.#chat.rooms.open(user, id);
      return joinedJson(await this.#chat.rooms.describe(id, user.id), kept.rows, kept.revision);
    };
    const most = BOUNDS.pageBytes.value / 1_024 + BOUNDS.messageKb.value;
    await throttle.queue("page", user.id, async () =>
      answer(await throttle.pay(user.id, most, join, (json) => Buffer.byteLength(json) / 1_024)),
    );
  }

  /**
   * Answers what follows each cursor, in order, as JSON; for rooms that the connection hears, from memory if possible.
   * Once the answer is long, the rest of the rooms are only marked as having more: the client asks for them next.
   */
  async #sync({ data }: Connection, cursors: Cursor[], answer: Answer): Promise<void> {
    const { relay, throttle, load } = this.#parts;
    const { user } = data;
    const one = async (from: Cursor): Promise<Json | null> => {
      const rows = data.rooms.has(from.roomId) ? await relay.since(from) : null;
      // The connection may have left the room meanwhile.
      if (!rows || !data.rooms.has(from.roomId)) return this.#chat.messages.sync(user, from);
      const { roomId: id, rev, revHash = "" } = from;
      return syncedJson({
        roomId: id,
        rows,
        more: false,
        after: rev,
        changed: [],
        revision: { rev: rev ?? 0, revHash },
      });
    };
    const all = async (): Promise<Json> => {
      const rooms: (Json | null)[] = [];
      let bytes = 0;
      for (let start = 0; start < cursors.length; start += BOUNDS.syncAtOnce.value) {
        const asked = cursors.slice(start, start + BOUNDS.syncAtOnce.value);
        const told =
          bytes > BOUNDS.syncLength.value
            ? asked.map(({ roomId: id }) => `{"roomId":"${id}","messages":[],"more":true}`)
            : await Promise.all(asked.map(one));
        for (const synced of told) bytes += Buffer.byteLength(synced ?? "");
        rooms.push(...told);
      }
      // A room may have been shown since it was not found: a client that drops it now would never hear of it again.
      for (const [index, from] of cursors.entries())
        if (rooms[index] === null && data.rooms.has(from.roomId)) rooms[index] = await one(from);
      const told = rooms.map((synced, index) => synced ?? notFound(cursors[index]!.roomId));
      return listJson(`{"rooms":[`, told, "]}");
    };
    if (cursors.length === 0) return answer(await all());
    load.demand("history");
    const most = cursors.length + SYNC_KB;
    const price = (json: Json) => cursors.length + Buffer.byteLength(json) / 1_024;
    await throttle.queue("sync", user.id, async () => answer(await throttle.pay(user.id, most, all, price)));
  }
}

function notFound(id: RoomId): Json {
  return JSON.stringify({ roomId: id, messages: [], more: false, notFound: true } satisfies SyncedRoom);
}
