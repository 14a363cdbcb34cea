import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { Metrics } from "../metrics.ts";
import type { Revision, RoomId, ServerEvents, Standing, UserId } from "../protocol.ts";
import type { Security } from "../security.ts";
import { changesJson, headOf } from "../store/codec.ts";
import type { Json } from "../store/json.ts";
import { canBeWrittenTo, cut, encode, frame, isBehind, put, type Connection } from "./frames.ts";

/** A write to many connections, in several turns of the event loop. */
type Writing = {
  /** How long the last write took, as far as it has got. */
  flushMs: number;
  /** The connections that it has not reached yet. */
  rest: Connection[];
  write: (connection: Connection) => void;
  turn: NodeJS.Immediate | undefined;
};

type LocalRoom = Writing & {
  id: RoomId;
  members: Connection[];
  /** Socket.IO packets of messages that wait for the next flush. */
  packets: string[];
  /** For each connection that joined meanwhile, how many of these packets came before it and must skip it. */
  missed: Map<Connection, number> | undefined;
  flushedAt: number;
  timer: NodeJS.Timeout | NodeJS.Immediate | undefined;
  /** Whether the last flush was a batch. */
  busy: boolean;
  /** Releases messages from this replica that wait to be stored. */
  held: (() => void)[];
  /** The messages that were released last: since when they are being stored, and how many have not come back. */
  storing: { since: number; left: number };
  /** How long it took until all of those before had come back. */
  storedMs: number;
  changed: Changed | undefined;
  /** When changes were last sent. */
  changedAt: number;
  /** When typing was last told, each time. */
  typing: number[];
};

/** Changes of a room that are not sent yet: the newest row of each message, by its head. */
type Changed = {
  span: Revision & { after: number };
  rows: Map<string, string>;
  dueAt: number;
  /** Undefined once they are due. */
  timer: NodeJS.Timeout | NodeJS.Immediate | undefined;
};

/** How long a room collects messages for each local member, up to the configured window: small rooms hardly wait. */
const WINDOW_MS_PER_MEMBER = 0.1;
/**
 * A room's flushes take at most this share of the process: after a slow flush the next one waits longer than the
 * configured window, and holds more. Otherwise thousands of listeners of a busy room would keep new ones from
 * connecting.
 */
const FLUSH_SHARE = 1 / 2;
/** A write to many connections, some of which must be cut, lets others have their turn after this long. */
const TURN_MS = 4;
/** A batch of this many packets means that a room is busy. */
const BUSY_PACKETS = 5;
/**
 * A busy room's messages are stored this long before its flush, or longer if the last ones took longer to return from
 * Redis: those that come late wait for the next flush.
 */
const STORE_MS = { least: 8, most: 16 };
const STORE_SAFETY = 1.25;
/** A connection with more packets waiting inside Socket.IO is a slow consumer. */
const SLOW_CONSUMER_PACKETS = 1_000;

/** A room's changes are sent at most this often; the last of many changes of a message stands for all. */
const CHANGES_MS = 250;
/** The same for changes that show a client nothing, such as a join. */
const UNSEEN_MS = 1_000;
/** At most so many people are told as typing in a room within this time. */
const TYPING_MS = 1_000;
const TYPING_MOST = 4;

type Parts = {
  config: Pick<Config, "batchWindowMs" | "slowConsumerBytes">;
  metrics: Metrics;
  security: Security;
  log: Logger;
  /** Called when a room has lost its last local member. */
  emptied: (roomId: RoomId) => void;
};

/**
 * The hot path: one announcement, many local connections. A packet is encoded once per replica. A quiet room's message
 * is written at once. In a busy room messages collect for a bounded window; the batch, ready WebSocket frames in one
 * buffer, is then written once per connection, straight to its TCP socket. Frames are self-delimiting, so a stock
 * Socket.IO client reads a batch as it reads single messages. A connection that is not a plain open WebSocket with
 * nothing waiting gets the packets through Socket.IO, one by one, in the same order.
 */
export class Delivery {
  readonly #config: Parts["config"];
  readonly #metrics: Metrics;
  readonly #security: Security;
  readonly #log: Logger;
  readonly #rooms = new Map<RoomId, LocalRoom>();
  readonly #users = new Map<UserId, Connection[]>();
  readonly #everybody = idle();
  readonly #emptied: Parts["emptied"];
  /** Whether the libraries' private fields were checked. */
  #asserted = false;

  constructor({ config, metrics, security, log, emptied }: Parts) {
    this.#config = config;
    this.#metrics = metrics;
    this.#security = security;
    this.#log = log;
    this.#emptied = emptied;
  }

  /** Registers a connection; true if it is the user's first here. */
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

  /** Removes a connection from the registry and from its rooms; true if it was the user's last here. */
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
        id: roomId,
        members: [connection],
        packets: [],
        missed: undefined,
        flushedAt: 0,
        ...idle(),
        timer: undefined,
        busy: false,
        held: [],
        storing: { since: 0, left: 0 },
        storedMs: 0,
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
    if (room.rest.includes(connection)) room.rest = room.rest.filter((one) => one !== connection);
    if (room.members.length > 0) return;
    stop(room.changed?.timer);
    this.#rooms.delete(roomId);
    this.#metrics.rooms.dec();
    this.#emptied(roomId);
  }

  /** Takes a room from all connections of a removed member, and tells them; false if none heard it. */
  expel(roomId: RoomId, userId: UserId): boolean {
    const here = this.hearing(roomId, userId);
    if (here.length === 0) return false;
    for (const connection of here) this.leave(roomId, connection);
    this.#write(here, [encode("hide.room", [{ roomId }])]);
    return true;
  }

  /** Tells a member what they are in a room now. */
  standing(roomId: RoomId, userId: UserId, standing: Standing): void {
    const here = this.hearing(roomId, userId);
    if (here.length > 0) this.#write(here, [encode("room.member", [{ roomId, ...standing }])]);
  }

  /** A user's local connections that hear the room. */
  hearing(roomId: RoomId, userId: UserId): Connection[] {
    return [...this.connections(userId)].filter(({ data }) => data.rooms.has(roomId));
  }

  /** The users with a connection here that hears the room. */
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
   * When to store a message for this room: at once (undefined), or in a busy room shortly before the next flush,
   * together with all messages that came meanwhile, in order. Delivery is no later for it, and Redis and this process
   * wake once for all of them.
   */
  hold(roomId: RoomId): Promise<void> | undefined {
    const room = this.#rooms.get(roomId);
    if (!room) return undefined;
    const { held } = room;
    const windowMs = this.#windowMs(room);
    const storeMs = Math.min(STORE_MS.most, Math.max(STORE_MS.least, room.storedMs * STORE_SAFETY));
    const holdMs = room.flushedAt + windowMs - storeMs - performance.now();
    if (held.length === 0 && !(room.busy && room.timer && holdMs >= 1)) return undefined;
    return new Promise((release) => {
      if (held.push(release) > 1) return;
      setTimeout(() => {
        room.storing = { since: performance.now(), left: held.length };
        for (const next of held.splice(0)) next();
      }, holdMs);
    });
  }

  /** Sends a stored message, as JSON, to a room's local members. */
  message(roomId: RoomId, json: string): void {
    const room = this.#rooms.get(roomId);
    if (!room) return;
    room.packets.push(`2["message",${json}]`);
    if (room.storing.left > 0 && (room.storing.left -= 1) === 0)
      room.storedMs = performance.now() - room.storing.since;
    if (room.timer) return;
    const waitMs = room.flushedAt + this.#windowMs(room) - performance.now();
    // With setImmediate, messages of the same read from Redis join this flush.
    room.timer =
      waitMs < 1 ? setImmediate(() => this.#flush(room)) : setTimeout(() => this.#flush(room), waitMs);
  }

  /**
   * Sends the rows that changed within this span to a room's local members, after the messages that came before.
   * Changes in quick succession go out as one event.
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
    room.changed = changed;
    if (dueAt >= changed.dueAt) return;
    stop(changed.timer);
    const due = () => {
      changed.timer = undefined;
      // Messages that wait take them along: one write instead of two.
      if (room.packets.length === 0) this.#flush(room);
    };
    changed.timer = dueAt <= now ? setImmediate(due) : setTimeout(due, dueAt - now);
    changed.dueAt = dueAt;
  }

  /**
   * Tells the room's other local members that somebody is writing, except connections with a backlog. Of a crowd only
   * the first few are told: nobody could read more names.
   */
  typing(roomId: RoomId, userId: UserId): void {
    const room = this.#rooms.get(roomId);
    if (!room) return;
    const now = performance.now();
    room.typing = room.typing.filter((at) => at > now - TYPING_MS);
    if (room.typing.length >= TYPING_MOST) return;
    room.typing.push(now);
    const others = room.members.filter((one) => one.data.user.id !== userId && !isBehind(one, 0, 0));
    this.#write(others, [encode("typing", [{ roomId, userId }])]);
  }

  /** Sends any other event, encoded once, to a room's local members, after earlier messages and changes. */
  toRoom<E extends keyof ServerEvents>(roomId: RoomId, event: E, ...args: Parameters<ServerEvents[E]>): void {
    const room = this.#rooms.get(roomId);
    if (room) this.#flush(room, encode(event, args));
  }

  toUser<E extends keyof ServerEvents>(userId: UserId, event: E, ...args: Parameters<ServerEvents[E]>): void {
    this.#write(this.connections(userId), [encode(event, args)]);
  }

  toAll<E extends keyof ServerEvents>(event: E, ...args: Parameters<ServerEvents[E]>): void {
    this.#spread(this.#everybody, this.connections(), this.#writer([encode(event, args)]), TURN_MS);
  }

  /**
   * Sends the answer, as parts of JSON, to the request with this Socket.IO id. The length of an answer never counts as
   * slowness; only an unread backlog does.
   */
  answer(connection: Connection, id: number, json: readonly Json[]): void {
    const packet = [`3${id}[`, ...json, "]"];
    if (this.#isSlow(connection)) this.#cut(connection);
    else put(connection, frame(...packet), () => [packet.join("")]);
  }

  /** How long a room collects messages. */
  #windowMs({ members, flushMs }: LocalRoom): number {
    const { batchWindowMs } = this.#config;
    if (batchWindowMs === 0) return 0;
    return Math.max(Math.min(batchWindowMs, members.length * WINDOW_MS_PER_MEMBER), flushMs / FLUSH_SHARE);
  }

  /** Sends what a room has collected, and due changes; with an `event`, all changes and then this event. */
  #flush(room: LocalRoom, event?: string): void {
    const { members, packets, missed, changed } = room;
    const beganAt = performance.now();
    const all = [...packets];
    if (changed && (changed.timer === undefined || event !== undefined)) {
      stop(changed.timer);
      room.changed = undefined;
      room.changedAt = beganAt;
      all.push(
        `2["changes",{"roomId":"${room.id}",${changesJson(changed.span, [...changed.rows.values()])}}]`,
      );
    }
    if (event !== undefined) all.push(event);
    if (packets.length > 0) {
      room.busy = packets.length >= BUSY_PACKETS;
      room.packets = [];
      room.missed = undefined;
      stop(room.timer);
      room.timer = undefined;
      room.flushedAt = beganAt;
      this.#metrics.flushes.inc();
      let deliveries = packets.length * members.length;
      for (const count of missed?.values() ?? []) deliveries -= count;
      this.#metrics.deliveries.inc(deliveries);
    }
    // No answer may overtake an event, such as that the log is another one.
    this.#spread(room, members, this.#writer(all, missed), event === undefined ? TURN_MS : Infinity);
  }

  /** Writes to connections in turns of `ms`, once all of them have what was written before. */
  #spread(
    writing: Writing,
    connections: Iterable<Connection>,
    write: (connection: Connection) => void,
    ms: number,
  ): void {
    this.#goOn(writing, Infinity);
    writing.rest = [...connections];
    writing.write = write;
    writing.flushMs = 0;
    this.#goOn(writing, ms);
  }

  #goOn(writing: Writing, ms: number): void {
    clearImmediate(writing.turn);
    const beganAt = performance.now();
    let spentMs = 0;
    while (spentMs < ms) {
      const connection = writing.rest.pop();
      if (!connection) break;
      writing.write(connection);
      spentMs = performance.now() - beganAt;
    }
    writing.flushMs += spentMs;
    if (writing.rest.length > 0) writing.turn = setImmediate(() => this.#goOn(writing, ms));
    // A room that falls silent keeps no packets.
    else writing.write = ignore;
  }

  #write(connections: Iterable<Connection>, packets: string[]): void {
    this.#spread(idle(), connections, this.#writer(packets), Infinity);
  }

  /** Writes packets to a connection. `missed`: how many of the first ones to skip for it. */
  #writer(packets: string[], missed?: Map<Connection, number>): (connection: Connection) => void {
    const frames = packets.map((packet) => frame(packet));
    const all = Buffer.concat(frames);
    const allPackets = () => packets;
    return (connection) => {
      try {
        const count = missed?.get(connection) ?? 0;
        if (count === 0) put(connection, all, allPackets);
        else if (count < packets.length)
          put(connection, Buffer.concat(frames.slice(count)), () => packets.slice(count));
        if (this.#isSlow(connection)) this.#cut(connection);
      } catch (error) {
        // The room's other connections must still be written to.
        this.#security.contain("delivery", error, { userId: connection.data.user.id });
        connection.conn.close(true);
      }
    };
  }

  #isSlow(connection: Connection): boolean {
    return isBehind(connection, this.#config.slowConsumerBytes, SLOW_CONSUMER_PACKETS);
  }

  #cut(connection: Connection): void {
    this.#metrics.slowConsumers.inc();
    this.#log.info({ userId: connection.data.user.id }, "cut a slow consumer");
    cut(connection);
  }
}

function idle(): Writing {
  return { flushMs: 0, rest: [], write: ignore, turn: undefined };
}

function ignore(): void {}

function stop(timer: NodeJS.Timeout | NodeJS.Immediate | undefined): void {
  clearTimeout(timer as NodeJS.Timeout);
  clearImmediate(timer as NodeJS.Immediate);
}
