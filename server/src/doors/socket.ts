import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import { createShardedAdapter } from "@socket.io/redis-adapter";
import type { RequestHandler } from "express";
import type { SessionData } from "express-session";
import type { Logger } from "pino";
import { Server } from "socket.io";
import { z } from "zod";
import type { Announcer, Chat } from "../chat/chat.ts";
import type { Config } from "../config.ts";
import type { Connection, ConnectionData, Delivery } from "../delivery.ts";
import { ChatError } from "../errors.ts";
import type { Keys } from "../keys.ts";
import {
  LIMITS,
  NONCE,
  isRoomId,
  pairOf,
  type ClientEvents,
  type Cursor,
  type Reply,
  type RoomId,
  type SendMessage,
  type ServerEvents,
  type User,
  type UserId,
} from "../protocol.ts";
import type { RedisClient } from "../redis.ts";
import type { Relay } from "../relay.ts";
import { toFailure } from "./failure.ts";
import { isOwnOrigin } from "./session.ts";
import type { Throttle } from "./throttle.ts";

/** Between replicas, over @socket.io/redis-adapter: what must touch connections elsewhere. */
type ReplicaEvents = {
  "room.shown": (userIds: UserId[], roomId: RoomId) => void;
  "room.hidden": (userId: UserId, roomId: RoomId) => void;
  "room.read": (userId: UserId, roomId: RoomId, read: number) => void;
  "session.ended": (sid: string) => void;
};

const roomId = z.custom<RoomId>(isRoomId, "no room id");
const whole = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const room: z.ZodType<{ roomId: RoomId }> = z.object({ roomId });
const send: z.ZodType<SendMessage> = z.object({
  roomId,
  message: z
    .string()
    .max(LIMITS.message)
    .refine((text) => text.trim().length > 0, "a message needs text"),
  nonce: z.string().regex(NONCE, "1 to 64 letters, digits, _ . : -"),
});
const read: z.ZodType<{ roomId: RoomId; seq: number }> = z.object({ roomId, seq: whole });
const cursor: z.ZodType<Cursor> = z.object({
  roomId,
  seq: whole,
  date: whole,
  hash: z
    .string()
    .regex(/^[0-9a-f]{0,40}$/)
    .optional(),
});
const sync: z.ZodType<{ rooms: Cursor[] }> = z.object({ rooms: z.array(cursor).max(LIMITS.syncRooms) });

/** A handshake that says nothing more is not kept waiting for. */
const CONNECT_MS = 5_000;
/** How soon a session that ended, or a room that was shown, is noticed where its announcement got lost. */
const REVALIDATE_MS = 25_000;
const REVALIDATE_AT_ONCE = 200;
/** Connections that are closed in one tick of a hand-over. */
const HANDOVER_TICK_MS = 50;

export type SocketParts = {
  config: Config;
  keys: Keys;
  commands: RedisClient;
  publisher: RedisClient;
  subscriber: RedisClient;
  http: HttpServer;
  session: RequestHandler;
  delivery: Delivery;
  relay: Relay;
  throttle: Throttle;
  log: Logger;
};

export type SocketDoor = {
  announce: Announcer & { endSession: (sid: string) => void };
  /** Starts to take connections. */
  open: (chat: Chat) => void;
  /** Refuses new connections, hands the open ones over within `drainMs`, and lets running requests finish. */
  close: (drainMs: number) => Promise<void>;
};

/** The Socket.IO door: the handshake, one listener for each client event, and the orders of other replicas. */
export function createSocketDoor(parts: SocketParts): SocketDoor {
  const { config, delivery, relay, throttle, log, http, keys } = parts;
  const io = new Server<ClientEvents, ServerEvents, ReplicaEvents, ConnectionData>(http, {
    transports: config.polling ? ["polling", "websocket"] : ["websocket"],
    serveClient: false,
    perMessageDeflate: false,
    httpCompression: false,
    maxHttpBufferSize: LIMITS.bodyBytes,
    connectTimeout: CONNECT_MS,
    pingInterval: 10_000,
    pingTimeout: 8_000,
    // Cross-origin rules for browsers do not stop a WebSocket: the Origin is checked before the upgrade.
    allowRequest: (request, decide) => decide(null, !closing && isOwnOrigin(request, config)),
    adapter: createShardedAdapter(parts.publisher, parts.subscriber, {
      channelPrefix: keys.adapterChannels,
      subscriptionMode: "dynamic",
    }),
  });
  let perform: (order: keyof ReplicaEvents, ...args: unknown[]) => void = () => undefined;
  let closing = false;
  let running = 0;
  let revalidation: NodeJS.Timeout | undefined;

  const announce: SocketDoor["announce"] = {
    showRoom: (userIds, id) => everywhere("room.shown", userIds, id),
    hideRoom: (userId, id) => everywhere("room.hidden", userId, id),
    readRoom: (userId, id, mark) => everywhere("room.read", userId, id, mark),
    endSession: (sid) => everywhere("session.ended", sid),
  };

  return { announce, open, close };

  function open(chat: Chat): void {
    const orders: ReplicaEvents = {
      "room.shown": (userIds, id) => void attempt(showRoom(userIds, id)),
      "room.hidden": hideRoom,
      "room.read": (userId, id, mark) => delivery.toUser(userId, "room.read", { roomId: id, read: mark }),
      "session.ended": (sid) => disconnect((data) => data.sid === sid),
    };
    perform = (order, ...args) => (orders[order] as (...given: unknown[]) => void)(...args);
    for (const order of Object.keys(orders) as (keyof ReplicaEvents)[]) {
      io.on(order, (...args: unknown[]) => perform(order, ...args));
    }

    io.engine.use((request: IncomingMessage, response: ServerResponse, next: (error?: Error) => void) => {
      void parts.session(request as never, response as never, next as never);
    });
    io.use((socket, next) => {
      const { session, sessionID } = socket.request as unknown as {
        session?: SessionData;
        sessionID: string;
      };
      if (!session?.user) return next(refusal("unauthorized", "Log in first."));
      socket.data = { user: session.user, sid: sessionID, rooms: new Set() };
      next();
    });
    io.on("connection", (connection) => {
      const entered = enter(connection);
      const { user } = connection.data;
      const attached = (id: RoomId) => attach(connection, [id]);

      listen("message", "message", send, (sent) => chat.sendMessage(user, sent));
      listen("room.join", "event", room, async (asked) => {
        await entered;
        await chat.joinRoom(user, asked.roomId);
        await attached(asked.roomId);
        return chat.openRoom(user, asked.roomId, LIMITS.pageDefault);
      });
      listen("room.leave", "event", room, async (asked) => {
        await chat.leaveRoom(user, asked.roomId);
        return null;
      });
      listen("room.read", "event", read, async (asked) => ({
        read: await chat.readRoom(user, asked.roomId, asked.seq),
      }));
      listen("sync", "event", sync, async (asked) => {
        // What is stored before this connection hears its rooms is read here; what comes after, it hears.
        await entered;
        return { rooms: await chat.sync(user, asked.rooms) };
      });
      connection.on("error", () => undefined);
      connection.on("disconnect", () => {
        if (delivery.remove(connection)) chat.presence.leave(user.id);
      });

      function listen<T, V>(
        event: keyof ClientEvents,
        limit: "message" | "event",
        schema: z.ZodType<T>,
        handle: (asked: T) => Promise<V>,
      ): void {
        connection.on(event, ((body: unknown, answer: unknown) => {
          void reply(user, limit, schema, handle, body, answer);
        }) as never);
      }
    });
    revalidation = setInterval(() => void attempt(revalidate()), REVALIDATE_MS * (0.8 + Math.random() * 0.4));

    /** Counts a connection in and makes it hear its rooms. One that cannot is cut, and comes again. */
    async function enter(connection: Connection): Promise<void> {
      const { user } = connection.data;
      if (delivery.add(connection)) chat.presence.enter(user.id);
      try {
        await attach(connection, await chat.roomsOf(user.id));
      } catch (error) {
        log.warn({ reason: toFailure(error, log).message }, "a connection could not enter its rooms");
        connection.disconnect(true);
      }
    }

    async function showRoom(userIds: UserId[], id: RoomId): Promise<void> {
      for (const userId of userIds) {
        const here = [...delivery.connections(userId)];
        if (here.length === 0) continue;
        if (pairOf(id)) {
          await showPrivateRoom(here, id);
        } else {
          await Promise.all(here.map((connection) => attach(connection, [id])));
          delivery.toUser(userId, "show.room", await chat.describeRoom(id, userId));
        }
      }
    }

    /**
     * A private room appears by its first message, which was stored before anybody here could hear it. What the
     * relay has already passed on is told first; a connection joins in the same turn of the loop, so that nothing
     * comes twice, out of order or not at all.
     */
    async function showPrivateRoom(here: Connection[], id: RoomId): Promise<void> {
      const [first] = here;
      if (!first) return;
      await relay.open(id);
      let shown = await chat.openRoom(first.data.user, id, LIMITS.page);
      while ((shown.messages.at(-1)?.seq ?? 0) < relay.seq(id)) {
        shown = await chat.openRoom(first.data.user, id, LIMITS.page);
      }
      const heard = shown.messages.filter(({ seq = 0 }) => seq <= relay.seq(id));
      for (const connection of here) {
        if (!connection.connected) continue;
        connection.emit("show.room", shown.room);
        if (connection.data.rooms.has(id)) continue;
        for (const message of heard) connection.emit("message", message);
        delivery.join(id, connection);
      }
      if (!delivery.hears(id)) relay.release(id);
    }

    /** Closes connections whose session ended, and finds rooms that were shown, without their announcement. */
    async function revalidate(): Promise<void> {
      const users = delivery.users();
      for (let start = 0; start < users.length; start += REVALIDATE_AT_ONCE) {
        await Promise.all(
          users.slice(start, start + REVALIDATE_AT_ONCE).map((userId) => revalidateUser(userId)),
        );
      }
    }

    async function revalidateUser(userId: UserId): Promise<void> {
      const here = [...delivery.connections(userId)];
      const sids = [...new Set(here.map((connection) => connection.data.sid))];
      const alive = await Promise.all(sids.map((sid) => parts.commands.exists(keys.session(sid))));
      const ended = new Set(sids.filter((_, index) => alive[index] === 0));
      for (const connection of here) if (ended.has(connection.data.sid)) connection.disconnect(true);
      const known = Math.min(...here.map((connection) => connection.data.rooms.size));
      if ((await chat.countRoomsOf(userId)) === known) return;
      const rooms = await chat.roomsOf(userId);
      const missing = rooms.filter((id) => here.some((connection) => !connection.data.rooms.has(id)));
      for (const id of missing) await showRoom([userId], id);
      const left = new Set(here.flatMap((connection) => [...connection.data.rooms]));
      for (const id of rooms) left.delete(id);
      for (const id of left) hideRoom(userId, id);
    }
  }

  async function close(drainMs: number): Promise<void> {
    closing = true;
    clearInterval(revalidation);
    const open = [...delivery.connections()];
    const ticks = Math.max(1, Math.floor(drainMs / HANDOVER_TICK_MS));
    const perTick = Math.max(1, Math.ceil(open.length / ticks));
    for (let start = 0; start < open.length; start += perTick) {
      for (const connection of open.slice(start, start + perTick)) connection.conn.close();
      if (start + perTick < open.length) await pause(HANDOVER_TICK_MS);
    }
    for (let waited = 0; running > 0 && waited < drainMs; waited += HANDOVER_TICK_MS)
      await pause(HANDOVER_TICK_MS);
    await io.close();
  }

  function everywhere<E extends keyof ReplicaEvents>(order: E, ...args: Parameters<ReplicaEvents[E]>): void {
    perform(order, ...args);
    io.serverSideEmit(order, ...(args as never));
  }

  async function attach(connection: Connection, ids: RoomId[]): Promise<void> {
    await Promise.all(ids.map((id) => relay.open(id)));
    for (const id of ids) {
      if (connection.connected) delivery.join(id, connection);
      else if (!delivery.hears(id)) relay.release(id);
    }
  }

  function hideRoom(userId: UserId, id: RoomId): void {
    for (const connection of delivery.connections(userId)) delivery.leave(id, connection);
    delivery.toUser(userId, "hide.room", { roomId: id });
  }

  function disconnect(chosen: (data: ConnectionData) => boolean): void {
    for (const connection of [...delivery.connections()])
      if (chosen(connection.data)) connection.disconnect(true);
  }

  /** Answers a request exactly once, with a value or a code. Without a callback it is done all the same. */
  async function reply<T, V>(
    user: User,
    limit: "message" | "event",
    schema: z.ZodType<T>,
    handle: (asked: T) => Promise<V>,
    body: unknown,
    answer: unknown,
  ): Promise<void> {
    let result: Reply<V>;
    running += 1;
    try {
      await throttle.take(limit, user.id);
      result = { ok: true, value: await handle(schema.parse(body)) };
    } catch (error) {
      result = { ok: false, error: toFailure(error, log) };
    } finally {
      running -= 1;
    }
    const callback = typeof body === "function" ? body : answer;
    if (typeof callback === "function") (callback as (reply: Reply<V>) => void)(result);
  }

  async function attempt(task: Promise<void>): Promise<void> {
    try {
      await task;
    } catch (error) {
      log.warn({ reason: toFailure(error, log).message }, "an order could not be carried out");
    }
  }
}

function refusal(code: ChatError["code"], message: string): Error {
  return Object.assign(new Error(code), { data: { code, message } });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
