import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { Metrics } from "../metrics.ts";
import type { Revision, RoomId, ServerEvents, UserId } from "../protocol.ts";
import type { Security } from "../security.ts";
import { changesJson, headOf } from "../store/log.ts";
import { backlogOf, canBeWrittenTo, cut, encode, frame, put, type Connection } from "./frames.ts";

type LocalRoom = {
  members: Connection[];
  /** Socket.IO packets of messages that wait for the next flush. */
  packets: string[];
  /** How many of them had been said before a connection joined: they are for those who were here before. */
  missed: Map<Connection, number> | undefined;
  flushedAt: number;
  /** How long the last flush took. */
  flushMs: number;
  timer: NodeJS.Timeout | NodeJS.Immediate | undefined;
  /** Whether its last flush was a batch. */
  busy: boolean;
  /** Messages from here that wait to be stored, by their releases. */
  held: (() => void)[];
  changed: Changed | undefined;
  /** When changes were last passed on. */
  changedAt: number;
  /** When it was last told that somebody is writing. */
  typing: number[];
};

/** What has changed in a room and is not passed on yet: the newest row of each message, by its head. */
type Changed = {
  span: Revision & { after: number };
  rows: Map<string, string>;
  dueAt: number;
  timer: NodeJS.Timeout | NodeJS.Immediate | undefined;
};

/** Milliseconds of collecting that each local member is worth, up to the configured window: small rooms hardly wait. */
const WINDOW_MS_PER_MEMBER = 0.1;
/**
 * A room's flushes take at most half of the process: where one takes long, the next one waits for longer than the
 * configured window, and holds more. Otherwise thousands who hear a busy room would keep the others from coming in.
 */
const FLUSH_SHARE = 1 / 2;
/** A batch of so many packets means that a room is busy. */
const BUSY_PACKETS = 5;
/** So long before its flush a busy room's messages are stored: enough for fifty of them to come back from Redis. */
const STORE_MS = 8;
/** Packets a connection may have waiting inside Socket.IO before it counts as a slow consumer. */
const SLOW_CONSUMER_PACKETS = 1_000;

/** A room's changes are passed on so often at most; of many changes of one message the last one stands for all. */
const CHANGES_MS = 250;
/** In this time at most so many are said to be writing in a room. */
const TYPING_MS = 1_000;
const TYPING_MOST = 4;
/** Those that show a client nothing, as somebody joined. */
const UNSEEN_MS = 1_000;

/**
 * The hot path: one announcement, many local connections. A packet is encoded once per replica. A quiet room's
 * message is written at once; in a busy room messages collect for a bounded window, and the batch, a row of ready
 * WebSocket frames in one buffer, is written once per connection straight to its TCP socket. Frames end by
 * themselves, so a stock Socket.IO client reads a batch as it reads single messages. Whatever is not a plain open
 * WebSocket with nothing waiting takes Socket.IO's own way, packet by packet, in the same order.
 */
export class Delivery {
  readonly #config: Pick<Config, "batchWindowMs" | "slowConsumerBytes">;
  readonly #metrics: Metrics;
  readonly #security: Security;
  readonly #log: Logger;
  readonly #rooms = new Map<RoomId, LocalRoom>();
  readonly #users = new Map<UserId, Connection[]>();
  readonly #emptied: (roomId: RoomId) => void;
  /** Whether the private fields of the libraries were looked for. */
  #asserted = false;

  /** `emptied` is called when a room has lost its last local member. */
  constructor(
    config: Pick<Config, "batchWindowMs" | "slowConsumerBytes">,
    metrics: Metrics,
    security: Security,
    log: Logger,
    emptied: (roomId: RoomId) => void,
  ) {
    this.#config = config;
    this.#metrics = metrics;
    this.#security = security;
    this.#log = log;
    this.#emptied = emptied;
  }

  /** Counts a connection in; true if it is the user's first here. */
  add(connection: Connection): boolean {
    const { id } = connection.data.user;
    const { readyState, transport } = connection.conn;
    if (!this.#asserted && readyState === "open" && transport.name === "websocket") {
      this.#asserted = true;
      if (!canBeWrittenTo(connection))
        this.#log.warn("this Socket.IO or ws is not known well enough to write to its connections directly");
    }
    const connections = this.#users.get(id);
    if (connections) connections.push(connection);
    else this.#users.set(id, [connection]);
    this.#metrics.connections.inc();
    return !connections;
  }

  /** Counts a connection out, of all its rooms too; true if it was the user's last here. */
  remove(connection: Connection): boolean {
    for (const roomId of connection.data.rooms) this.leave(roomId, connection);
    const { id } = connection.data.user;
    const connections = this.#users.get(id);
    const index = connections?.indexOf(connection) ?? -1;
    if (!connections || index < 0) return false;
    connections.splice(index, 1);
    this.#metrics.connections.dec();
    if (connections.length > 0) return false;
    this.#users.delete(id);
    return true;
  }

  join(roomId: RoomId, connection: Connection): void {
    if (connection.data.rooms.has(roomId)) return;
    connection.data.rooms.add(roomId);
    const room = this.#rooms.get(roomId);
    if (room) {
      room.members.push(connection);
      if (room.packets.length > 0) (room.missed ??= new Map()).set(connection, room.packets.length);
    } else {
      this.#rooms.set(roomId, {
        members: [connection],
        packets: [],
        missed: undefined,
        flushedAt: 0,
        flushMs: 0,
        timer: undefined,
        busy: false,
        held: [],
        changed: undefined,
        changedAt: 0,
        typing: [],
      });
      this.#metrics.rooms.inc();
    }
  }

  leave(roomId: RoomId, connection: Connection): void {
    if (!connection.data.rooms.delete(roomId)) return;
    const room = this.#rooms.get(roomId);
    if (!room) return;
    const index = room.members.indexOf(connection);
    const last = room.members.pop();
    if (last && last !== connection) room.members[index] = last;
    room.missed?.delete(connection);
    if (room.members.length > 0) return;
    stop(room.changed?.timer);
    this.#rooms.delete(roomId);
    this.#metrics.rooms.dec();
    this.#emptied(roomId);
  }

  /** Takes a room from all connections of a user who is no member any more, and tells them. */
  expel(roomId: RoomId, userId: UserId): void {
    for (const connection of this.connections(userId)) {
      if (!connection.data.rooms.has(roomId)) continue;
      this.leave(roomId, connection);
      this.#write([connection], [encode("hide.room", [{ roomId }])]);
    }
  }

  /** The users whose connections hear a room here. */
  usersIn(roomId: RoomId): UserId[] {
    const connections = this.#rooms.get(roomId)?.members ?? [];
    return [...new Set(connections.map((connection) => connection.data.user.id))];
  }

  hears(roomId: RoomId): boolean {
    return this.#rooms.has(roomId);
  }

  /** How many local connections hear a room. */
  members(roomId: RoomId): number {
    return this.#rooms.get(roomId)?.members.length ?? 0;
  }

  /** All local connections, or those of one user. */
  *connections(userId?: UserId): Generator<Connection> {
    if (userId !== undefined) {
      yield* this.#users.get(userId) ?? [];
      return;
    }
    for (const connections of this.#users.values()) yield* connections;
  }

  /** How many local connections a user has. */
  countOf(userId: UserId): number {
    return this.#users.get(userId)?.length ?? 0;
  }

  users(): UserId[] {
    return [...this.#users.keys()];
  }

  /**
   * When a message for this room is to be stored: at once (undefined), or in a busy room a little before the next
   * flush, with all that came meanwhile and in their order. It is delivered no later for it, and Redis and this
   * process are woken once for all of them.
   */
  hold(roomId: RoomId): Promise<void> | undefined {
    const room = this.#rooms.get(roomId);
    if (!room) return undefined;
    const { held } = room;
    const holdMs = room.flushedAt + this.#windowMs(room) - STORE_MS - performance.now();
    if (held.length === 0 && !(room.busy && room.timer && holdMs >= 1)) return undefined;
    return new Promise((release) => {
      if (held.push(release) > 1) return;
      setTimeout(() => held.splice(0).forEach((next) => next()), holdMs);
    });
  }

  /** A stored message, as JSON, for a room's local members. */
  message(roomId: RoomId, json: string): void {
    const room = this.#rooms.get(roomId);
    if (!room) return;
    room.packets.push(`2["message",${json}]`);
    if (room.timer) return;
    const waitMs = room.flushedAt + this.#windowMs(room) - performance.now();
    // setImmediate still joins what came in the same read from Redis.
    room.timer =
      waitMs < 1 ? setImmediate(() => this.#flush(room)) : setTimeout(() => this.#flush(room), waitMs);
  }

  /**
   * Changes of a room, for its local members: the rows that changed within this span. They follow the messages that were
   * passed on before, and those that come close behind each other go out as one.
   */
  changes(roomId: RoomId, span: Revision & { after: number }, rows: readonly string[]): void {
    const room = this.#rooms.get(roomId);
    if (!room) return;
    const now = performance.now();
    const dueAt = rows.length > 0 ? Math.max(now, room.changedAt + CHANGES_MS) : now + UNSEEN_MS;
    const { after } = room.changed?.span ?? span;
    const changed = room.changed ?? {
      span,
      rows: new Map<string, string>(),
      dueAt: Infinity,
      timer: undefined,
    };
    changed.span = { ...span, after };
    for (const row of rows) changed.rows.set(headOf(row)?.hash ?? row, row);
    if (dueAt < changed.dueAt) {
      stop(changed.timer);
      const flush = () => this.#flushChanges(roomId, room);
      changed.timer = dueAt <= now ? setImmediate(flush) : setTimeout(flush, dueAt - now);
      changed.dueAt = dueAt;
    }
    room.changed = changed;
  }

  #flushChanges(roomId: RoomId, room: LocalRoom): void {
    const { changed } = room;
    if (!changed) return;
    stop(changed.timer);
    room.changed = undefined;
    room.changedAt = performance.now();
    if (room.packets.length > 0) this.#flush(room);
    const changes = changesJson(changed.span, [...changed.rows.values()]);
    this.#write(room.members, [`2["changes",{"roomId":"${roomId}",${changes}}]`]);
  }

  /**
   * Somebody is writing: for the room's other local members, but for those who have not read what was there before. Of a
   * crowd that writes at once the first few are told, for nobody could read more names.
   */
  typing(roomId: RoomId, userId: UserId): void {
    const room = this.#rooms.get(roomId);
    if (!room) return;
    const now = performance.now();
    room.typing = room.typing.filter((at) => at > now - TYPING_MS);
    if (room.typing.length >= TYPING_MOST) return;
    room.typing.push(now);
    const others = room.members.filter(
      (one) => one.data.user.id !== userId && backlogOf(one).packets === 0 && backlogOf(one).bytes === 0,
    );
    this.#write(others, [encode("typing", [{ roomId, userId }])]);
  }

  /** Any other event, encoded once, for a room's local members, after the messages and changes that came before it. */
  toRoom<E extends keyof ServerEvents>(roomId: RoomId, event: E, ...args: Parameters<ServerEvents[E]>): void {
    const room = this.#rooms.get(roomId);
    if (!room) return;
    if (room.packets.length > 0) this.#flush(room);
    this.#flushChanges(roomId, room);
    this.#write(room.members, [encode(event, args)]);
  }

  toUser<E extends keyof ServerEvents>(userId: UserId, event: E, ...args: Parameters<ServerEvents[E]>): void {
    this.#write(this.connections(userId), [encode(event, args)]);
  }

  toAll<E extends keyof ServerEvents>(event: E, ...args: Parameters<ServerEvents[E]>): void {
    this.#write(this.connections(), [encode(event, args)]);
  }

  /**
   * The answer, as JSON, to the request of one connection that Socket.IO gave this id. However long it is: a slow
   * consumer is who has not read what was there before.
   */
  answer(connection: Connection, id: number, json: string): void {
    const packet = `3${id}[${json}]`;
    if (this.#isSlow(connection)) this.#cut(connection);
    else put(connection, frame(packet), [packet]);
  }

  /** How long a room collects messages. */
  #windowMs({ members, flushMs }: LocalRoom): number {
    const { batchWindowMs } = this.#config;
    if (batchWindowMs === 0) return 0;
    return Math.max(Math.min(batchWindowMs, members.length * WINDOW_MS_PER_MEMBER), flushMs / FLUSH_SHARE);
  }

  #flush(room: LocalRoom): void {
    const { members, packets, missed } = room;
    room.busy = packets.length >= BUSY_PACKETS;
    room.packets = [];
    room.missed = undefined;
    stop(room.timer);
    room.timer = undefined;
    room.flushedAt = performance.now();
    this.#metrics.flushes.inc();
    let deliveries = packets.length * members.length;
    for (const count of missed?.values() ?? []) deliveries -= count;
    this.#metrics.deliveries.inc(deliveries);
    this.#write(members, packets, missed);
    room.flushMs = performance.now() - room.flushedAt;
  }

  /** `missed`: how many of the first packets are not for a connection. */
  #write(connections: Iterable<Connection>, packets: string[], missed?: Map<Connection, number>): void {
    const frames = packets.map(frame);
    const all = Buffer.concat(frames);
    const slow: Connection[] = [];
    const broken: Connection[] = [];
    for (const connection of connections) {
      try {
        const count = missed?.get(connection) ?? 0;
        if (count === 0) put(connection, all, packets);
        else if (count < packets.length)
          put(connection, Buffer.concat(frames.slice(count)), packets.slice(count));
        if (this.#isSlow(connection)) slow.push(connection);
      } catch (error) {
        // The others of the room are still to be written to.
        this.#security.contain("delivery", error, { userId: connection.data.user.id });
        broken.push(connection);
      }
    }
    for (const connection of slow) this.#cut(connection);
    for (const connection of broken) connection.conn.close(true);
  }

  #isSlow(connection: Connection): boolean {
    const { bytes, packets, isCut } = backlogOf(connection);
    // Once it has been cut nothing is owed to it.
    return !isCut && (bytes > this.#config.slowConsumerBytes || packets > SLOW_CONSUMER_PACKETS);
  }

  #cut(connection: Connection): void {
    this.#metrics.slowConsumers.inc();
    this.#log.info({ userId: connection.data.user.id }, "cut a slow consumer");
    cut(connection);
  }
}

function stop(timer: NodeJS.Timeout | NodeJS.Immediate | undefined): void {
  clearTimeout(timer as NodeJS.Timeout);
  clearImmediate(timer as NodeJS.Immediate);
}
