import type { ServerResponse, Server as HttpServer, IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createShardedAdapter } from "@socket.io/redis-adapter";
import { Server } from "socket.io";
import type { Chat } from "../chat/chat.ts";
import type { Announcer } from "../chat/rooms.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import {
  answerByNumber,
  dismiss,
  noteAnswer,
  slim,
  type Connection,
  type ConnectionData,
  type Handshake,
} from "../live/frames.ts";
import {
  LIMITS,
  type ClientEvents,
  type Failure,
  type RoomId,
  type ServerEvents,
  type UserId,
} from "../protocol.ts";
import type { RedisClient } from "../store/redis.ts";
import { Attendance, type AttendanceParts } from "./attendance.ts";
import { Events, type EventParts } from "./events.ts";
import { toFailure } from "./failure.ts";
import { Handshakes, type HandshakeParts, isUpgrade, refuseUpgrade } from "./handshake.ts";
import { createFrameServer, parser, type RawConnection } from "./transport.ts";

/** Orders between replicas, over @socket.io/redis-adapter, that concern connections elsewhere. */
type ReplicaEvents = {
  "room.shown": (userIds: UserId[], roomId: RoomId, unheard?: true) => void;
  /** Sent by servers of the first schema, which announce no changes. */
  "room.hidden": (userId: UserId, roomId: RoomId) => void;
  /** Only servers of the previous version take the mark from here; they neither send nor read `unread`. */
  "room.read": (userId: UserId, roomId: RoomId, read: number, unread?: boolean) => void;
  "room.changed": (room: Parameters<ServerEvents["room.changed"]>[0]) => void;
  "session.ended": (sid: string) => void;
};

/** How soon the end of a session, or a shown room, is noticed if its announcement was lost. */
const REVALIDATE_MS = 25_000;
/** How long a stopping replica waits for running requests. */
const FINISH_MS = 2_500;
const HANDOVER_TICK_MS = 50;
/** Shared, so that an idle connection holds no empty array of its own. */
const NONE: RoomId[] = [];

export type SocketParts = HandshakeParts &
  AttendanceParts &
  EventParts & { subscriber: RedisClient; http: HttpServer };

/** The Socket.IO door: how a connection begins and ends, and the orders of other replicas. */
export class SocketDoor {
  readonly announce: Announcer & { endSession: (sid: string) => void };
  readonly #parts: SocketParts;
  readonly #io: Server<ClientEvents, ServerEvents, ReplicaEvents, ConnectionData>;
  #orders: ReplicaEvents | undefined;
  readonly #handshakes: Handshakes;
  /** These from `open` on. */
  #chat!: Chat;
  #attendance!: Attendance;
  #events!: Events;
  #revalidation: NodeJS.Timeout | undefined;

  constructor(parts: SocketParts) {
    const { config, keys } = parts;
    const flooded = () => parts.security.note("connection.cut", { what: "frames" });
    this.#parts = parts;
    this.#handshakes = new Handshakes(parts, flooded);
    this.#io = new Server({
      transports: config.polling ? ["polling", "websocket"] : ["websocket"],
      serveClient: false,
      perMessageDeflate: false,
      httpCompression: false,
      maxHttpBufferSize: LIMITS.bodyBytes,
      wsEngine: createFrameServer(config.rateLimits, {
        flooded,
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
      showRoom: (...told) => this.#order("room.shown", ...told),
      readRoom: (userId, id, mark, unread) => this.#order("room.read", userId, id, mark, unread),
      changeRoom: (changed) => this.#order("room.changed", changed),
      endSession: (sid) => this.#order("session.ended", sid),
    };
  }

  /** Starts to accept connections. */
  open(chat: Chat): void {
    const { http, delivery, security } = this.#parts;
    this.#chat = chat;
    this.#attendance = new Attendance(this.#parts, chat);
    this.#events = new Events(this.#parts, chat, this.#attendance);
    // Attach last: Socket.IO wraps the request listeners that are registered.
    this.#io.attach(http, { destroyUpgrade: false });
    // Engine.IO would leave one open on a connection that served a request before, and no timeout of HTTP applies.
    http.on("upgrade", (request: IncomingMessage) => {
      if (!request.url?.startsWith(`${this.#io.path()}/`))
        refuseUpgrade(request, { code: "not_found", message: "There is nothing to upgrade to here." });
    });
    this.#orders = {
      "room.shown": (...told) => void this.#attempt(this.#attendance.showRoom(...told)),
      "room.hidden": (userId) => void this.#attempt(this.#attendance.revalidateUser(userId)),
      "room.read": (userId, id, _read, unread) =>
        void this.#attempt(this.#attendance.tellRead(userId, id, unread === true)),
      "room.changed": (changed) => this.tellRoom(changed.roomId),
      "session.ended": (sid) => this.#attendance.disconnect((data) => data.sid === sid),
    };
    for (const order of Object.keys(this.#orders) as (keyof ReplicaEvents)[]) {
      this.#io.on(order, (...args: unknown[]) => this.#perform(order, args));
    }

    // Runs before Engine.IO's own checks. CORS does not stop a WebSocket: Origin is checked here.
    this.#io.engine.use((request: Handshake, response: ServerResponse, next: () => void) => {
      if (isUpgrade(response)) noteAnswer(request);
      this.#handshakes.letIn(request, response, next).catch((error: unknown) => {
        security.contain("handshake", error);
        request.socket.destroy();
      });
    });
    this.#io.engine.on("connection", (conn: RawConnection) => this.#handshakes.opened(conn));
    this.#io.use((socket, next) => void this.#admit(socket, next));
    const heard = this.#events.listener();
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
    const revalidate = () => void this.#attempt(this.#attendance.revalidate());
    this.#revalidation = setInterval(revalidate, REVALIDATE_MS * (0.8 + Math.random() * 0.4));
    // Orders that came while a connection to Redis was away are lost, and a failover may have lost sessions and accounts:
    // the next account gets the id of a lost one.
    for (const connection of [this.#parts.subscriber, this.#parts.commands])
      connection.on("ready", revalidate);
  }

  /**
   * Accepts no more connections, hands the open ones over within `drainMs` at an even rate, and lets running requests
   * finish. A load balancer that is refused at once tries another replica.
   */
  async close(drainMs: number, answering: () => boolean): Promise<void> {
    this.#handshakes.close();
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
    for (let waited = 0; this.#events.running > 0 && waited < FINISH_MS; waited += HANDOVER_TICK_MS) {
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

  /** Looks at a user's connections here: their sessions, account or rooms have changed. */
  look(userId: UserId): void {
    if (this.#orders) void this.#attempt(this.#attendance.look(userId));
  }

  /** Tells the connections here what a room is by now. */
  tellRoom(id: RoomId): void {
    if (this.#orders) void this.#attempt(this.#attendance.tellRoom(id));
  }

  /** Tells a user's connections here what they are in a room by now. */
  tellStanding(id: RoomId, userId: UserId): void {
    if (this.#orders) void this.#attempt(this.#attendance.tellStanding(id, userId));
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
      const admitted = await this.#attendance.open(user.id, ids, before);
      socket.data = { user, sid, rooms: new Set(), admitted, admittedIn: relay.epoch };
      next();
      setImmediate(() => {
        // The client left during its admission.
        if (!socket.connected) this.#attendance.release(admitted);
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
      this.#attendance.release(admitted);
      return dismiss(connection, BOUNDS.connectionsWait.value);
    }
    if (delivery.add(connection)) this.#chat.presence.enter(user.id);
    const doubtful = admitted.filter((id) => this.#parts.relay.hasChangedSince(id, admittedIn));
    for (const id of admitted) if (!doubtful.includes(id)) delivery.join(id, connection);
    if (doubtful.length > 0) void this.#attempt(this.#attendance.attach(connection, doubtful));
    // An order that came meanwhile, as a log-out or a shown room, did not find this connection yet.
    void this.#attempt(this.#attendance.revalidateUser(user.id));
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

function refusal(failure: Failure): Error {
  return Object.assign(new Error(failure.code), { data: failure });
}
