import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { reasonOf } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { Metrics } from "../metrics.ts";
import { LIMITS, type Cursor, type RoomId } from "../protocol.ts";
import {
  chain,
  headOf,
  isRecord,
  parseForeign,
  parseJson,
  readAnnouncement,
  type Head,
  type Heard,
  type Log,
  type Row,
} from "../store/log.ts";
import type { RedisClient } from "../store/redis.ts";

export type RelayParts = {
  config: Pick<Config, "serverId" | "relayChannel">;
  keys: Keys;
  commands: RedisClient;
  subscriber: RedisClient;
  metrics: Metrics;
  log: Logger;
  messages: Log;
  /** Gives one message, as JSON, to the room's local members. Called in the order of the room's log. */
  deliver: (roomId: RoomId, message: string) => void;
  /** How many local connections hear a room. */
  members: (roomId: RoomId) => number;
  /** The log that local members know is gone. */
  stale: (roomId: RoomId) => void;
  /** An announcement for everybody, or of a room, that is not a message. `data` is unchecked. */
  heard: (type: string, data: unknown) => void;
};

const HEARTBEAT_MS = 2_000;
const DEAF_MS = 5_000;
const CHECK_MS = 25_000;
const RETRY_MS = 1_000;
const LINGER_MS = 30_000;
const LOG_MS = 1_000;
/** For so long after a look at the stored log, or a message that followed, nobody looks again. */
const SURE_MS = 250;
/** From so many local members on, a room's newest messages are kept in memory: many will ask for the same ones. */
const KEPT_FROM_MEMBERS = 50;
/** A page of them, and UTF-16 units in all, so that a member accounts for little more than 1 KB. */
const KEPT_ROWS = LIMITS.pageDefault;
const KEPT_LENGTH = 65_536;

type LiveRoom = {
  /** The last message that was delivered here; null until the log's head has been read. */
  head: Head | null;
  /** The newest rows up to the head, without a hole, and their length. Empty in a room with few members. */
  kept: Row[];
  keptLength: number;
  /** When the head was last known to be the stored log's own, by performance.now(). */
  sureAt: number;
  checking: Promise<void> | undefined;
  opened: Promise<void>;
  /** True while the sorted set is being read; what arrives meanwhile makes it be read again. */
  healing: boolean;
  again: boolean;
  leave: NodeJS.Timeout | undefined;
};

/**
 * Announcements between replicas. A replica listens to the rooms that have a local member and to one channel for
 * everybody. Redis pub/sub delivers at most once, so the relay is a hint and the sorted set is the truth: a room's
 * messages are passed on in the order of `seq`; a message that does not follow the last one, by seq and running
 * hash, makes the relay read the sorted set from there. (The gap rule is Centrifugo's; the hash is our own.)
 *
 * What was said on this replica takes the same way as what was said elsewhere: its own echo.
 */
export class Relay {
  readonly #parts: RelayParts;
  readonly #rooms = new Map<RoomId, LiveRoom>();
  #timers: NodeJS.Timeout[] = [];
  #heartbeat = 0;
  #droppedAt = -LOG_MS;
  #heartbeatHeard = { number: 0, at: performance.now() };
  /** Whether a room could not be looked at. */
  #unchecked = false;
  #closed = false;

  constructor(parts: RelayParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    const { subscriber, keys } = this.#parts;
    subscriber.on("message", (_channel: string, text: string) => this.#receive(text));
    // Whatever was published while the connection was away is lost: look at every room.
    subscriber.on("ready", () => this.#checkAll());
    await subscriber.subscribe(keys.channel);
    this.#heartbeatHeard.at = performance.now();
    this.#timers = [
      setInterval(() => this.#beat(), HEARTBEAT_MS),
      // The last message before a silence leaves no gap to notice.
      setInterval(() => this.#checkAll(), CHECK_MS * (0.8 + Math.random() * 0.4)),
    ];
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    for (const room of this.#rooms.values()) clearTimeout(room.leave);
    this.#rooms.clear();
  }

  /** Starts to follow a room; resolves when nothing stored from now on can be missed. Repeated calls are cheap. */
  open(roomId: RoomId): Promise<void> {
    const known = this.#rooms.get(roomId);
    if (known) {
      clearTimeout(known.leave);
      known.leave = undefined;
      return known.opened;
    }
    const room: LiveRoom = {
      head: null,
      kept: [],
      keptLength: 0,
      sureAt: 0,
      checking: undefined,
      opened: Promise.resolve(),
      healing: false,
      again: false,
      leave: undefined,
    };
    this.#rooms.set(roomId, room);
    room.opened = this.#follow(roomId, room).catch((error: unknown) => {
      if (this.#rooms.get(roomId) === room) this.#rooms.delete(roomId);
      throw error;
    });
    return room.opened;
  }

  /** Up to where an open room's log has been passed on. */
  seq(roomId: RoomId): number {
    return this.#rooms.get(roomId)?.head?.seq ?? 0;
  }

  /**
   * The rows that follow a cursor up to the newest one, oldest first, from memory; null where only the sorted set can
   * tell. For a connection that hears the room: what comes after them, it will hear.
   */
  async since({ roomId, seq, date, hash }: Cursor): Promise<string[] | null> {
    const room = this.#rooms.get(roomId);
    const rows = () => {
      if (!room?.head) return null;
      const places = [...room.kept, room.head];
      const at = places.findIndex((row) => row.seq === seq && row.hash === hash && row.date === date);
      return at < 0 ? null : room.kept.slice(at + 1).map(({ json }) => json);
    };
    return room && rows() && (await this.#isSure(roomId, room)) ? rows() : null;
  }

  /** The newest `size` rows, oldest first, from memory; null as above. */
  async newest(roomId: RoomId, size: number): Promise<string[] | null> {
    const room = this.#rooms.get(roomId);
    const isThere = () => room && room.kept.length >= size;
    if (!room || !isThere() || !(await this.#isSure(roomId, room)) || !isThere()) return null;
    return room.kept.slice(-size).map(({ json }) => json);
  }

  /** Whether what is known here is what is stored. Busy rooms say so by themselves; of others the head is read. */
  async #isSure(roomId: RoomId, room: LiveRoom): Promise<boolean> {
    const sure = () => !room.healing && performance.now() - room.sureAt < SURE_MS;
    if (sure()) return true;
    await this.#check(roomId, room);
    return sure();
  }

  /** The last local member left. The subscription lingers, for people who reload or hop between replicas. */
  release(roomId: RoomId): void {
    const room = this.#rooms.get(roomId);
    if (!room || room.leave) return;
    room.leave = setTimeout(() => {
      room.leave = undefined;
      // Somebody may have been on the way in when the last one left.
      if (this.#parts.members(roomId) > 0) return;
      this.#rooms.delete(roomId);
      if (this.#parts.config.relayChannel === "rooms") {
        this.#parts.subscriber.unsubscribe(this.#parts.keys.roomChannel(roomId)).catch(() => undefined);
      }
    }, LINGER_MS);
    room.leave.unref();
  }

  /** Announces to every replica, this one included. Not stored: whoever does not listen misses it. */
  async publish(type: string, data: unknown): Promise<void> {
    const { commands, config, keys } = this.#parts;
    await commands.publish(keys.channel, JSON.stringify({ serverId: config.serverId, type, data }));
  }

  async #follow(roomId: RoomId, room: LiveRoom): Promise<void> {
    const { config, keys, subscriber, messages } = this.#parts;
    if (config.relayChannel === "rooms") await subscriber.subscribe(keys.roomChannel(roomId));
    const known = await messages.head(roomId);
    room.head = known;
    room.sureAt = performance.now();
    if (room.again) await this.#heal(roomId, room);
  }

  #receive(text: string): void {
    const heard = readAnnouncement(text);
    if (!heard) return this.#receiveOther(text);
    const room = this.#rooms.get(heard.roomId);
    if (room) this.#advance(heard.roomId, room, heard);
  }

  #advance(roomId: RoomId, room: LiveRoom, heard: Heard): void {
    this.#parts.metrics.relayed.inc();
    if (!room.head || room.healing) {
      room.again = true;
      return;
    }
    if (heard.seq === room.head.seq + 1 && heard.hash === chain(room.head.hash, heard.date, heard.tail)) {
      const { seq, date, hash, json } = heard;
      room.head = { seq, date, hash };
      room.sureAt = performance.now();
      this.#keep(roomId, room, json);
      this.#parts.deliver(roomId, json);
      return;
    }
    if (heard.seq > room.head.seq) this.#parts.metrics.gaps.inc();
    const newest = heard.seq === room.head.seq && heard.hash === room.head.hash;
    if (!newest) void this.#heal(roomId, room);
  }

  /** Keeps a row that has become the head. */
  #keep(roomId: RoomId, room: LiveRoom, json: string): void {
    if (!room.head || this.#parts.members(roomId) < KEPT_FROM_MEMBERS) return forget(room);
    room.kept.push({ ...room.head, json });
    room.keptLength += json.length;
    while (room.kept.length > KEPT_ROWS || room.keptLength > KEPT_LENGTH)
      room.keptLength -= room.kept.shift()?.json.length ?? 0;
  }

  /** Passes on what the sorted set holds beyond the head, and goes on until nothing has arrived meanwhile. */
  async #heal(roomId: RoomId, room: LiveRoom): Promise<void> {
    if (room.healing || !room.head) return;
    const { messages, deliver, stale, metrics, log } = this.#parts;
    room.healing = true;
    try {
      let more: boolean;
      do {
        room.again = false;
        const found = await messages.after(roomId, room.head);
        if (this.#rooms.get(roomId) !== room) return;
        more = found.more;
        if (found.reset) {
          room.head = found.head;
          forget(room);
          metrics.resets.inc();
          log.warn({ roomId }, "the stored log is not the one that was relayed");
          stale(roomId);
        } else {
          metrics.healed.inc(found.rows.length);
          for (const row of found.rows) {
            room.head = headOf(row) ?? room.head;
            this.#keep(roomId, room, row);
            deliver(roomId, row);
          }
        }
      } while (more || room.again);
      room.sureAt = performance.now();
    } catch (error) {
      log.warn({ roomId, reason: reasonOf(error) }, "a room could not be healed yet");
      setTimeout(() => void this.#heal(roomId, room), RETRY_MS).unref();
    } finally {
      room.healing = false;
    }
  }

  #receiveOther(text: string): void {
    const envelope = parseEnvelope(text);
    if (!envelope) return this.#drop(text);
    const { type, data, serverId } = envelope;
    if (type === "heartbeat") {
      if (serverId === this.#parts.config.serverId)
        this.#hearHeartbeat(typeof data === "number" ? data : Number.NaN);
      return;
    }
    if (type !== "message") return this.#parts.heard(type, data);
    const message = parseForeign(data);
    if (!message) return this.#drop(text);
    if (this.#rooms.has(message.roomId)) void this.#adopt(message.roomId, text);
  }

  /** Another program has said something: what it stored becomes a message, which is announced as any other is. */
  async #adopt(roomId: RoomId, text: string): Promise<void> {
    try {
      if ((await this.#parts.messages.adopt(roomId)) === 0) this.#drop(text);
    } catch {
      // Redis is away; the next look finds it.
      this.#unchecked = true;
    }
  }

  /** Counts every malformed announcement, and logs one a second: whoever sends them may send many. */
  #drop(text: string): void {
    this.#parts.metrics.malformed.inc();
    if (performance.now() - this.#droppedAt < LOG_MS) return;
    this.#droppedAt = performance.now();
    this.#parts.log.warn({ bytes: Buffer.byteLength(text) }, "dropped a malformed announcement");
  }

  #checkAll(): void {
    for (const [roomId, room] of this.#rooms) {
      if (room.head && !room.healing) void this.#checkStored(roomId, room);
    }
  }

  /** Also finds what another program has stored without a word. */
  async #checkStored(roomId: RoomId, room: LiveRoom): Promise<void> {
    await this.#parts.messages.adopt(roomId).catch(() => undefined);
    await this.#check(roomId, room);
  }

  /** Compares a room's head with the stored one. Calls while one look is under way share it. */
  #check(roomId: RoomId, room: LiveRoom): Promise<void> {
    room.checking ??= this.#look(roomId, room).finally(() => {
      room.checking = undefined;
    });
    return room.checking;
  }

  async #look(roomId: RoomId, room: LiveRoom): Promise<void> {
    const askedAt = performance.now();
    try {
      const stored = await this.#parts.messages.head(roomId);
      if (!room.head) return;
      if (stored.seq === room.head.seq && stored.hash === room.head.hash) room.sureAt = askedAt;
      else await this.#heal(roomId, room);
    } catch {
      // Redis is away.
      this.#unchecked = true;
    }
  }

  #beat(): void {
    const { subscriber, metrics, log } = this.#parts;
    const silentMs = performance.now() - this.#heartbeatHeard.at;
    metrics.heartbeatLag.set(silentMs / 1_000);
    if (silentMs > DEAF_MS) {
      log.warn({ silentMs }, "the relay went deaf; subscribing anew");
      this.#heartbeatHeard.at = performance.now();
      subscriber.disconnect(true);
    }
    if (this.#unchecked) {
      this.#unchecked = false;
      this.#checkAll();
    }
    if (!this.#closed) this.publish("heartbeat", (this.#heartbeat += 1)).catch(() => undefined);
  }

  /** One that is missing means that others are: a connection, or a Cluster's node, was lost and is back. */
  #hearHeartbeat(number: number): void {
    const missed = number !== this.#heartbeatHeard.number + 1;
    this.#heartbeatHeard = { number, at: performance.now() };
    if (missed) this.#checkAll();
  }
}

function forget(room: LiveRoom): void {
  if (room.kept.length === 0) return;
  room.kept = [];
  room.keptLength = 0;
}

function parseEnvelope(text: string): { serverId: string; type: string; data: unknown } | null {
  const value = parseJson(text);
  if (!isRecord(value) || typeof value["type"] !== "string" || !("data" in value)) return null;
  const serverId = typeof value["serverId"] === "string" ? value["serverId"] : "";
  return { serverId, type: value["type"], data: value["data"] };
}
