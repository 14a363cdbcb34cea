import { STATUS_CODES, ServerResponse, type Server as HttpServer, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createShardedAdapter } from "@socket.io/redis-adapter";
import type { Logger } from "pino";
import { Server } from "socket.io";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import type { Announcer } from "../chat/rooms.ts";
import type { Config } from "../config.ts";
import type { Delivery } from "../live/delivery.ts";
import {
  AnswerNumber,
  answerByNumber,
  dismiss,
  noteAnswer,
  slim,
  type Connection,
  type ConnectionData,
  type Handshake,
} from "../live/frames.ts";
import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import { namesRoom } from "../markdown.ts";
import {
  FILE_ID,
  LIMITS,
  NONCE,
  isBlank,
  isEmoji,
  isRoomId,
  type ClientEvents,
  type Cursor,
  type EditMessage,
  type MarkRead,
  type Message,
  type Failure,
  type React,
  type Room,
  type RoomId,
  type SendMessage,
  type ServerEvents,
  type UserId,
} from "../protocol.ts";
import { joinedJson, syncedJson } from "../store/codec.ts";
import { listJson, type Json } from "../store/json.ts";
import { unknownRoom } from "../store/log.ts";
import type { RedisClient } from "../store/redis.ts";
import type { Load } from "../load.ts";
import type { Metrics } from "../metrics.ts";
import type { Relay } from "../live/relay.ts";
import { clientAddress, type Security } from "../security.ts";
import { refusalOf, toFailure } from "./failure.ts";
import { writtenText } from "./fields.ts";
import type { Identity } from "./identity.ts";
import type { Throttle } from "./throttle.ts";
import { createFrameServer, limitPackets, parser, type RawConnection } from "./transport.ts";

/** Orders between replicas, over @socket.io/redis-adapter, that concern connections elsewhere. */
type ReplicaEvents = {
  "room.shown": (userIds: UserId[], roomId: RoomId) => void;
  /** Sent by servers of the first schema, which announce no changes. */
  "room.hidden": (userId: UserId, roomId: RoomId) => void;
  /** Servers of the previous version neither send nor read `unread`. */
  "room.read": (userId: UserId, roomId: RoomId, read: number, unread?: boolean) => void;
  "room.changed": (room: Parameters<ServerEvents["room.changed"]>[0]) => void;
  "session.ended": (sid: string) => void;
};

// Compiles what recognises an emoji: at the first two reactions it would keep everybody waiting.
isEmoji("👍");
isEmoji("👍");
const roomId = z.custom<RoomId>(isRoomId, "no room id");
const whole = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const room: z.ZodType<{ roomId: RoomId }> = z.object({ roomId });
const nonce = z.string().regex(NONCE, "1 to 64 letters, digits, _ . : -");
const hash = z.string().regex(/^[0-9a-f]{0,40}$/);
const fileId = z.string().regex(FILE_ID, "the id of a file");
const sentFile = z.union([fileId, z.object({ id: fileId, alt: writtenText(LIMITS.alt).optional() })]);
/** Blank only beside files: whoever edits it is asked the same where the message is known. */
const textOrNone = writtenText(LIMITS.message);
const send: z.ZodType<SendMessage> = z
  .object({
    roomId,
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
const target = z.object({ roomId, seq: whole, hash: hash.optional() });
const markRead: z.ZodType<MarkRead> = z.object({ roomId, seq: whole, unread: z.literal(true).optional() });
const edit: z.ZodType<EditMessage> = target.extend({ message: textOrNone, rev: whole, nonce });
const react: z.ZodType<React> = target.extend({
  emoji: z.string().max(64).refine(isEmoji, "one emoji"),
  on: z.boolean(),
});
const pin = target.extend({ on: z.boolean() });
const cursor: z.ZodType<Cursor> = z.object({
  roomId,
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

/** How soon the end of a session, or a shown room, is noticed if its announcement was lost. */
const REVALIDATE_MS = 25_000;
const REVALIDATE_AT_ONCE = 200;
/** How long a stopping replica waits for running requests. */
const FINISH_MS = 2_500;
const HANDOVER_TICK_MS = 50;
const SHOW_TRIES = 50;
const RETRY_MS = 1_000;
/** The largest answer to `sync`, in KB: its limit, and the rooms under way when it was reached. */
const SYNC_KB = (BOUNDS.syncLength.value + BOUNDS.syncAtOnce.value * BOUNDS.pageBytes.value) / 1_024;
/** Shared, so that an idle connection holds no empty array of its own. */
const NONE: RoomId[] = [];

export type SocketParts = {
  config: Config;
  keys: Keys;
  commands: RedisClient;
  subscriber: RedisClient;
  http: HttpServer;
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

/**
 * The Socket.IO door: the handshake, one listener for each client event, and the orders of other replicas. All
 * connections share the listeners; `this` is the connection.
 */
export class SocketDoor {
  readonly announce: Announcer & { endSession: (sid: string) => void };
  readonly #parts: SocketParts;
  readonly #io: Server<ClientEvents, ServerEvents, ReplicaEvents, ConnectionData>;
  #orders: ReplicaEvents | undefined;
  /** From `open` on. */
  #chat!: Chat;
  #revalidation: NodeJS.Timeout | undefined;
  /** How many connections without a session each address has open. */
  readonly #strangers = new Map<string, number>();
  /** The connections that began by long-polling, by their ids in later requests. */
  readonly #polled = new Map<string, RawConnection>();
  #closing = false;
  #running = 0;
  readonly #flooded = () => this.#parts.security.note("connection.cut", { what: "frames" });

  constructor(parts: SocketParts) {
    const { config, keys } = parts;
    this.#parts = parts;
    this.#io = new Server({
      transports: config.polling ? ["polling", "websocket"] : ["websocket"],
      serveClient: false,
      perMessageDeflate: false,
      httpCompression: false,
      maxHttpBufferSize: LIMITS.bodyBytes,
      wsEngine: createFrameServer(config.rateLimits, {
        flooded: this.#flooded,
        threw: (error) => parts.security.contain("frame", error),
      }),
      parser,
      connectTimeout: BOUNDS.connect.value,
      // Each ping wakes the process, and most connections are idle.
      pingInterval: 25_000,
      pingTimeout: 8_000,
      adapter: createShardedAdapter(parts.commands, parts.subscriber, {
        channelPrefix: keys.adapterChannels,
        subscriptionMode: "dynamic",
      }),
    });
    this.announce = {
      showRoom: (userIds, id) => this.#order("room.shown", userIds, id),
      readRoom: (userId, id, mark, unread) => this.#order("room.read", userId, id, mark, unread),
      changeRoom: (changed) => this.#order("room.changed", changed),
      endSession: (sid) => this.#order("session.ended", sid),
    };
  }

  /** Starts to accept connections. */
  open(chat: Chat): void {
    const { http, delivery, security } = this.#parts;
    this.#chat = chat;
    // Attach last: Socket.IO wraps the request listeners that are registered.
    this.#io.attach(http, { destroyUpgrade: false });
    // Engine.IO would leave one open on a connection that served a request before, and no timeout of HTTP applies.
    http.on("upgrade", (request: IncomingMessage) => {
      if (!request.url?.startsWith(`${this.#io.path()}/`))
        refuseUpgrade(request, { code: "not_found", message: "There is nothing to upgrade to here." });
    });
    this.#orders = {
      "room.shown": (userIds, id) => void this.#attempt(this.#showRoom(userIds, id)),
      "room.hidden": (userId) => void this.#attempt(this.#revalidateUser(userId)),
      "room.read": (userId, id, mark, unread) =>
        delivery.toUser(userId, "room.read", { roomId: id, read: mark, ...(unread && { unread }) }),
      "room.changed": (changed) => this.tellRoom(changed.roomId),
      "session.ended": (sid) => this.#disconnect((data) => data.sid === sid),
    };
    for (const order of Object.keys(this.#orders) as (keyof ReplicaEvents)[]) {
      this.#io.on(order, (...args: unknown[]) => this.#perform(order, args));
    }

    // Runs before Engine.IO's own checks. CORS does not stop a WebSocket: Origin is checked here.
    this.#io.engine.use((request: Handshake, response: ServerResponse, next: () => void) => {
      if (isUpgrade(response)) noteAnswer(request);
      this.#letIn(request, response, next).catch((error: unknown) => {
        security.contain("handshake", error);
        request.socket.destroy();
      });
    });
    this.#io.engine.on("connection", (conn: RawConnection) => {
      this.#countStranger(conn);
      if (conn.transport.name === "polling") this.#expectPolls(conn);
    });
    this.#io.use((socket, next) => void this.#admit(socket, next));
    const listeners = new Map<string, Listener>(Object.entries(this.#listeners()));
    const refuse = this.#listener("event", z.never("no such event"), () => Promise.resolve("null"));
    // One for all events: each connection would keep a table with one for each.
    const heard: Listener = function heard(...args) {
      (listeners.get(args[0] as string) ?? refuse).apply(this, args);
    };
    const left = function left(this: Connection) {
      try {
        if (delivery.remove(this)) chat.presence.leave(this.data.user.id);
      } catch (error) {
        security.contain("disconnection", error, { userId: this.data.user.id });
      }
    };
    // Delivery keeps the rooms; Socket.IO's own room for each connection would only cost memory.
    this.#io.of("/").adapter.addAll = ignore;
    this.#io.on("connection", (connection) => {
      try {
        answerByNumber(connection);
        connection.on("error", ignore);
        connection.on("disconnect", left);
        connection.onAny(heard);
        slim(connection);
        this.#enter(connection);
      } catch (error) {
        security.contain("connection", error, { userId: connection.data.user.id });
        connection.conn.close(true);
      }
    });
    const everyMs = REVALIDATE_MS * (0.8 + Math.random() * 0.4);
    this.#revalidation = setInterval(() => void this.#attempt(this.#revalidate()), everyMs);
  }

  /**
   * Accepts no more connections, hands the open ones over within `drainMs` at an even rate, and lets running requests
   * finish. A load balancer that is refused at once tries another replica.
   */
  async close(drainMs: number, answering: () => boolean): Promise<void> {
    this.#closing = true;
    const deadline = performance.now() + drainMs;
    this.#parts.http.close();
    clearInterval(this.#revalidation);
    const open = [...this.#parts.delivery.connections()];
    const ticks = Math.max(1, Math.floor(drainMs / HANDOVER_TICK_MS));
    const perTick = Math.max(1, Math.ceil(open.length / ticks));
    for (let start = 0; start < open.length; start += perTick) {
      if (start > 0) await sleep(HANDOVER_TICK_MS);
      for (const connection of open.slice(start, start + perTick)) connection.conn.close();
    }
    for (let waited = 0; this.#running > 0 && waited < FINISH_MS; waited += HANDOVER_TICK_MS) {
      await sleep(HANDOVER_TICK_MS);
    }
    // A client that only holds a connection open, idle or in the middle of a request, gets no more time. An answer
    // that has begun may run until the deadline; if it is cut then, the missing end tells its reader.
    const since = performance.now();
    const cut = setInterval(() => {
      const now = performance.now();
      if (now - since < FINISH_MS || (now < deadline && answering())) return;
      if (answering()) this.#parts.log.warn("answers that were still being read are cut: DRAIN is over");
      clearInterval(cut);
      this.#parts.http.closeAllConnections();
    }, HANDOVER_TICK_MS);
    await this.#io.close();
    clearInterval(cut);
  }

  /**
   * Closes the connections of a user whose sessions or account are gone, shows or hides rooms, as now stored, and tells
   * the other connections what they are.
   */
  look(userId: UserId): void {
    if (this.#orders) void this.#attempt(this.#lookAt(userId));
  }

  /** Tells the connections here what a room is by now. */
  tellRoom(id: RoomId): void {
    if (this.#orders) void this.#attempt(this.#tellRoom(id));
  }

  async #lookAt(userId: UserId): Promise<void> {
    const { delivery } = this.#parts;
    await this.#revalidateUser(userId);
    const [connection] = delivery.connections(userId);
    if (!connection) return;
    const { user } = connection.data;
    const role = await this.#chat.users.roleOf(user);
    if (role !== undefined) delivery.toUser(userId, "me", await this.#chat.accounts.me(user, role));
  }

  /** Nobody calls everybody again and again. */
  async #demandRing({ data: { user } }: Connection, { message }: { message: string }): Promise<void> {
    if (namesRoom(message)) await this.#parts.throttle.take("mentionRoom", user.id);
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
    { data: { user } }: Connection,
    say: (...reply: Json[]) => void,
    handle: (answer: Answer) => Promise<Json | void>,
  ): Promise<void> {
    const { throttle, metrics, security } = this.#parts;
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
      await this.#attach(connection, [id]);
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
    const one = async (from: Cursor): Promise<Json> => {
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
      const rooms: Json[] = [];
      let bytes = 0;
      for (let start = 0; start < cursors.length; start += BOUNDS.syncAtOnce.value) {
        const asked = cursors.slice(start, start + BOUNDS.syncAtOnce.value);
        const told =
          bytes > BOUNDS.syncLength.value
            ? asked.map(({ roomId: id }) => `{"roomId":"${id}","messages":[],"more":true}`)
            : await Promise.all(asked.map(one));
        for (const synced of told) bytes += Buffer.byteLength(synced);
        rooms.push(...told);
      }
      return listJson(`{"rooms":[`, rooms, "]}");
    };
    if (cursors.length === 0) return answer(await all());
    load.demand("history");
    const most = cursors.length + SYNC_KB;
    const price = (json: Json) => cursors.length + Buffer.byteLength(json) / 1_024;
    await throttle.queue("sync", user.id, async () => answer(await throttle.pay(user.id, most, all, price)));
  }

  /**
   * Identifies the sender of a handshake, and refuses too many before the upgrade. A client without a session is
   * refused over its connection, and there may be only a few of those.
   */
  async #letIn(request: Handshake, response: ServerResponse, next: () => void): Promise<void> {
    const { identity, load } = this.#parts;
    try {
      if (this.#closing) throw new ChatError("unavailable", "This replica is stopping.", RETRY_MS);
      // Engine.IO answers an upgrade with any method.
      if (request.method !== "GET" && request.method !== "POST")
        throw new ChatError("invalid", "Only GET and POST.");
      const sid = sidOf(request);
      if (sid === "") {
        await identity.begin(request, "handshake");
        load.demand("handshakes");
        // Whether the account is still there is asked as the connection is admitted.
        if (!(await identity.shown(request, "handshake"))) this.#limitStrangers(request);
      } else {
        await identity.begin(request, "poll");
        // Engine.IO would never answer a poll of a WebSocket, and would exchange one WebSocket for another.
        if (this.#polled.get(sid)?.transport.name !== "polling")
          throw new ChatError("invalid", "There is no such connection by long-polling.");
      }
    } catch (error) {
      return this.#refuse(error, request, response);
    }
    // The client may have left meanwhile.
    if (!request.socket.destroyed) next();
  }

  /** Throws `rate_limited` if the address has too many connections without a session. */
  #limitStrangers(request: Handshake): void {
    const { config, identity } = this.#parts;
    if (!config.rateLimits) return;
    const here = this.#strangers.get(identity.senderOf(request)) ?? 0;
    if (here < BOUNDS.strangers.value && this.#strangers.size < BOUNDS.strangersAll.value) return;
    identity.bar(request, "handshake", BOUNDS.connect.value);
    throw new ChatError("rate_limited", "Too many connections.", BOUNDS.connect.value);
  }

  #refuse(error: unknown, request: Handshake, response: ServerResponse): void {
    const { config, identity, metrics, security } = this.#parts;
    const failure = toFailure(error, this.#parts, "handshake");
    metrics.handshakes.inc({ outcome: failure.code });
    if (failure.code === "rate_limited") {
      const address = clientAddress(request, config.trustProxy);
      const userId = identity.known(request)?.user.id;
      security.note("connection.limited", { address, userId, what: "handshake" });
    }
    refuseHandshake(request, response, failure);
  }

  #expectPolls(conn: RawConnection): void {
    if (this.#parts.config.rateLimits) limitPackets(conn, this.#flooded);
    this.#polled.set(conn.id, conn);
    conn.once("close", () => this.#polled.delete(conn.id));
  }

  /** Counts a connection without a session, from its handshake to its end. */
  #countStranger(conn: RawConnection): void {
    const { identity, metrics } = this.#parts;
    const { request } = conn;
    if (identity.known(request)) return;
    const address = identity.senderOf(request);
    this.#strangers.set(address, (this.#strangers.get(address) ?? 0) + 1);
    metrics.unauthenticated.inc();
    conn.once("close", () => {
      metrics.unauthenticated.dec();
      const left = (this.#strangers.get(address) ?? 1) - 1;
      if (left > 0) this.#strangers.set(address, left);
      else this.#strangers.delete(address);
    });
  }

  /**
   * Identifies the user and follows their rooms before the client hears that it is connected: from then on it hears
   * everything. A client that cannot be let in tries again, unless it has no session.
   */
  async #admit(socket: Connection, next: (error?: Error) => void): Promise<void> {
    const { config, identity, relay, delivery, throttle, metrics } = this.#parts;
    try {
      const session = identity.known(socket.request);
      if (!session) throw new ChatError("unauthorized", "Log in first.");
      const { user, sid } = session;
      await throttle.check("refused", user.id);
      if (config.rateLimits && delivery.countOf(user.id) >= BOUNDS.connections.value)
        throw new ChatError("rate_limited", "Too many connections.", BOUNDS.connectionsWait.value);
      const before = relay.epoch;
      const [ids, actor] = await Promise.all([
        this.#chat.rooms.of(user.id),
        identity.identify(socket.request, "handshake"),
      ]);
      if (!actor) throw new ChatError("unauthorized", "Log in first.");
      const admitted = await this.#open(user.id, ids, before);
      socket.data = { user, sid, rooms: new Set(), admitted, admittedIn: relay.epoch };
      next();
      setImmediate(() => {
        // The client left during its admission.
        if (!socket.connected) this.#release(admitted);
      });
      metrics.handshakes.inc({ outcome: "admitted" });
    } catch (error) {
      const failure = toFailure(error, this.#parts, "handshake");
      metrics.handshakes.inc({ outcome: failure.code });
      next(refusal(failure));
      // Socket.IO would keep the connection open. The refusal leaves in the next tick.
      setImmediate(() => socket.conn.close());
    }
  }

  /** Registers a connection in the same turn of the event loop in which the client hears that it is connected. */
  #enter(connection: Connection): void {
    const { delivery } = this.#parts;
    const { user, admitted, admittedIn } = connection.data;
    connection.data.admitted = NONE;
    // Concurrent connections were all admitted before the first one was counted.
    if (this.#parts.config.rateLimits && delivery.countOf(user.id) >= BOUNDS.connections.value) {
      this.#release(admitted);
      return dismiss(connection, BOUNDS.connectionsWait.value);
    }
    if (delivery.add(connection)) this.#chat.presence.enter(user.id);
    const doubtful = admitted.filter((id) => this.#parts.relay.hasChangedSince(id, admittedIn));
    for (const id of admitted) if (!doubtful.includes(id)) delivery.join(id, connection);
    if (doubtful.length > 0) void this.#attempt(this.#attach(connection, doubtful));
    // An order that came meanwhile, as a log-out or a shown room, did not find this connection yet.
    void this.#attempt(this.#revalidateUser(user.id));
  }

  /** Lets a connection hear those of these rooms that its user is still in. */
  async #attach(connection: Connection, ids: RoomId[]): Promise<void> {
    const { delivery } = this.#parts;
    const theirs = await this.#open(connection.data.user.id, ids);
    if (connection.connected) for (const id of theirs) delivery.join(id, connection);
    else this.#release(theirs);
  }

  /**
   * Follows those of these rooms that a user is in, and resolves in a turn of the event loop in which they surely are:
   * the user may be removed during the check, and the relay, which tells the rooms' connections, does not know this
   * connection yet. `before`: the relay's epoch before the ids were read from the user's list; they need no second
   * check if nothing has changed since.
   */
  async #open(userId: UserId, ids: RoomId[], before?: number): Promise<RoomId[]> {
    const { relay } = this.#parts;
    try {
      for (let known = before; ;) {
        // Once one has failed, no more may be opened: they would come after their release.
        for (let at = 0; at < ids.length; at += BOUNDS.lookupsAtOnce.value)
          await Promise.all(ids.slice(at, at + BOUNDS.lookupsAtOnce.value).map((id) => relay.open(id)));
        const isSure = (id: RoomId) => known !== undefined && !relay.hasChangedSince(id, known);
        const doubtful = ids.filter((id) => !isSure(id));
        if (doubtful.length === 0) return ids;
        known = relay.epoch;
        const theirs = new Set(await this.#chat.rooms.areTheirs(userId, doubtful));
        const gone = doubtful.filter((id) => !theirs.has(id));
        this.#release(gone);
        ids = ids.filter((id) => !gone.includes(id));
      }
    } catch (error) {
      this.#release(ids);
      throw error;
    }
  }

  /** Releases rooms that were opened for nobody. */
  #release(ids: RoomId[]): void {
    const { relay, delivery } = this.#parts;
    for (const id of ids) if (!delivery.hears(id)) relay.release(id);
  }

  /**
   * Tells a room as it is stored by now: what says that it changed may come in another order than the changes were
   * stored.
   */
  async #tellRoom(id: RoomId): Promise<void> {
    const { delivery } = this.#parts;
    if (!delivery.hears(id)) return;
    const facts = await this.#chat.rooms.facts(id);
    if (facts === null) return;
    const { kind, name, settings } = facts;
    delivery.toRoom(id, "room.changed", { roomId: id, kind, name, ...settings });
  }

  async #showRoom(userIds: UserId[], id: RoomId): Promise<void> {
    for (const userId of userIds) {
      try {
        await this.#showRoomTo(userId, id);
      } catch (error) {
        // They were removed meanwhile, which keeps nothing else from being shown.
        if (!(error instanceof ChatError && error.code === "not_found")) throw error;
      }
    }
  }

  async #showRoomTo(userId: UserId, id: RoomId): Promise<void> {
    const { delivery } = this.#parts;
    const here = [...delivery.connections(userId)];
    if (here.length === 0) return;
    if ((await this.#chat.rooms.kindOf(id)) === "direct") return this.#showPrivateRoom(here, id);
    await Promise.all(here.map((connection) => this.#attach(connection, [id])));
    const described = await this.#chat.rooms.describe(id, userId);
    // Whoever was removed meanwhile was told so already.
    if (here.some((connection) => connection.data.rooms.has(id)))
      delivery.toUser(userId, "show.room", described);
  }

  /**
   * A private room appears with its first message, which was stored before anybody here could hear it. Sends first what
   * the relay has already passed on, and joins each connection in the same turn of the event loop, so that nothing is
   * doubled, out of order or lost.
   */
  async #showPrivateRoom(here: Connection[], id: RoomId): Promise<void> {
    const { relay, delivery } = this.#parts;
    const [first] = here;
    if (!first) return;
    const newcomers = new Set(here.filter((connection) => !connection.data.rooms.has(id)));
    try {
      let described: Room;
      let messages: Message[];
      let isCurrent: boolean;
      let tries = 0;
      do {
        await relay.open(id);
        const known = relay.epoch;
        described = await this.#chat.rooms.describe(id, first.data.user.id);
        messages = await this.#chat.messages.newest(id, LIMITS.page);
        // They may have been removed meanwhile, and the relay does not know these connections yet.
        isCurrent = !relay.hasChangedSince(id, known);
        // Reads again if the relay has passed on more meanwhile; but not endlessly, because a log can lose its tail.
      } while (!isCurrent || (newestSeq(messages) < relay.seq(id) && (tries += 1) < SHOW_TRIES));
      const passedOn = messages.filter(({ seq }) => seq <= relay.seq(id));
      const isBehind = newestSeq(messages) < relay.seq(id);
      for (const connection of here) {
        const joined = connection.data.rooms.has(id);
        // Another order, or the check after a new connection, has shown the room meanwhile.
        if (!connection.connected || (joined && newcomers.has(connection))) continue;
        connection.emit("show.room", described);
        if (joined) continue;
        for (const message of passedOn) connection.emit("message", message);
        delivery.join(id, connection);
        // A client that did not get everything must ask.
        if (isBehind) connection.emit("room.stale", { roomId: id });
      }
    } finally {
      this.#release([id]);
    }
  }

  #disconnect(chosen: (data: ConnectionData) => boolean): void {
    const connections = [...this.#parts.delivery.connections()];
    for (const connection of connections) if (chosen(connection.data)) connection.disconnect(true);
  }

  /** Makes up for lost orders: closes connections whose session or account is gone, and shows or hides rooms. */
  async #revalidate(): Promise<void> {
    const users = this.#parts.delivery.users();
    for (let start = 0; start < users.length; start += REVALIDATE_AT_ONCE) {
      await Promise.all(users.slice(start, start + REVALIDATE_AT_ONCE).map((id) => this.#revalidateUser(id)));
    }
  }

  async #revalidateUser(userId: UserId): Promise<void> {
    const { commands, keys, delivery } = this.#parts;
    const here = [...delivery.connections(userId)];
    if (here.length === 0) return;
    const sids = [...new Set(here.map((connection) => connection.data.sid))];
    const [alive, accounts, listed] = await Promise.all([
      Promise.all(sids.map((sid) => commands.exists(keys.session(sid)))),
      // One id has several names if it was given to another account.
      Promise.all(here.map((connection) => this.#chat.users.roleOf(connection.data.user))),
      this.#chat.rooms.of(userId),
    ]);
    const ended = new Set(sids.filter((_, index) => alive[index] === 0));
    for (const [index, connection] of here.entries())
      if (ended.has(connection.data.sid) || accounts[index] === undefined) connection.disconnect(true);

    const rooms = new Set(listed);
    // One that has left hears nothing, which is no reason to show the others anything.
    const isOpen = ({ connected }: Connection) => connected;
    const heard = new Set(here.filter(isOpen).flatMap((connection) => [...connection.data.rooms]));
    for (const id of heard)
      if (!rooms.has(id) && !(await this.#chat.rooms.mendList(userId, id))) delivery.expel(id, userId);
    for (const id of rooms) {
      if (here.filter(isOpen).every((connection) => connection.data.rooms.has(id))) continue;
      if (await this.#chat.rooms.mendList(userId, id)) await this.#showRoom([userId], id);
    }
  }

  /** Carries out an order here and sends it to the other replicas. */
  #order<E extends keyof ReplicaEvents>(order: E, ...args: Parameters<ReplicaEvents[E]>): void {
    this.#perform(order, args);
    this.#io.serverSideEmit(order, ...(args as never));
  }

  #perform(order: keyof ReplicaEvents, args: unknown[]): void {
    const perform = this.#orders?.[order] as ((...given: unknown[]) => void) | undefined;
    try {
      perform?.(...args);
    } catch (error) {
      this.#parts.security.contain("order", error);
    }
  }

  async #attempt(task: Promise<void>): Promise<void> {
    try {
      await task;
    } catch (error) {
      this.#parts.log.warn(
        { reason: toFailure(error, this.#parts, "look").message },
        "left for the next round",
      );
    }
  }
}

function ignore(): void {}

/** The connection that a request continues, as Engine.IO reads it; "" if it starts one. */
function sidOf({ url = "" }: IncomingMessage): string {
  return new URL(url, "https://socket.io").searchParams.getAll("sid").at(-1) ?? "";
}

/** Whether Engine.IO made the response up: any request may have the header of an upgrade. */
function isUpgrade(response: ServerResponse): boolean {
  return !(response instanceof ServerResponse);
}

/** Answers a handshake without starting a connection. */
function refuseHandshake(request: IncomingMessage, response: ServerResponse, failure: Failure): void {
  if (isUpgrade(response)) return refuseUpgrade(request, failure);
  const { status, headers, body } = refusalOf(failure);
  response.writeHead(status, { ...headers, Connection: "close" }).end(body);
}

/** Answers an upgrade, which has no response object, and ends its connection. */
function refuseUpgrade({ socket }: IncomingMessage, failure: Failure): void {
  const { status, headers, body } = refusalOf(failure);
  const length = String(Buffer.byteLength(body));
  const told = Object.entries({ ...headers, Connection: "close", "Content-Length": length });
  const head = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...told.map((field) => field.join(": "))];
  socket.write(`${head.join("\r\n")}\r\n\r\n${body}`);
  socket.destroySoon();
}

function newestSeq(messages: Message[]): number {
  return Math.max(0, ...messages.map(({ seq }) => seq));
}

function refusal(failure: Failure): Error {
  return Object.assign(new Error(failure.code), { data: failure });
}
