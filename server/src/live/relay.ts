import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { reasonOf } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { Metrics } from "../metrics.ts";
import {
  LIMITS,
  USER_ID,
  isRoomId,
  type Cursor,
  type Revision,
  type RoomId,
  type UserId,
} from "../protocol.ts";
import {
  chain,
  chainChange,
  channelsOf,
  headOf,
  memberIn,
  parseForeign,
  parseRecord,
  readAnnouncement,
  readChange,
  rowIn,
  type Change,
  type Heard,
  type HeardChange,
  type Row,
} from "../store/codec.ts";
import { isRecord, parseJson } from "../store/json.ts";
import type { Log, Position } from "../store/log.ts";
import { keepsRecords } from "../store/kinds.ts";
import type { Members } from "../store/members.ts";
import { FIRST_SCHEMA, SCHEMA } from "../store/schema.ts";
import type { Delivery } from "./delivery.ts";
import type { RedisClient } from "../store/redis.ts";

export type RelayParts = {
  config: Pick<Config, "serverId" | "relayChannel">;
  keys: Keys;
  commands: RedisClient;
  subscriber: RedisClient;
  metrics: Metrics;
  log: Logger;
  messages: Log;
  members: Pick<Members, "among">;
  delivery: Pick<Delivery, "message" | "changes" | "typing" | "members" | "usersIn" | "expel" | "toRoom">;
  /** A room's name, kind or settings have changed since they were looked at. */
  changed: (roomId: RoomId) => void;
  /** A member's record has changed. */
  standing: (roomId: RoomId, userId: UserId) => void;
  /** A user whose removal from a room was heard late: they have come in again since, and are to hear it. */
  returned: (userId: UserId) => void;
  /** An announcement that is not a message, for everybody or for a room. `data` is unchecked. */
  heard: (type: string, data: unknown) => void;
};

const HEARTBEAT_MS = 2_000;
const DEAF_MS = 5_000;
const CHECK_MS = 25_000;
const RETRY_MS = 1_000;
const LINGER_MS = 30_000;
const LOG_MS = 1_000;
/** For this long after a look at the stored log, or after a message that followed, no further look is needed. */
const SURE_MS = 250;
/**
 * With so many local members, a room's newest messages are kept in memory: many clients will ask for the same ones.
 */
const KEPT_FROM_MEMBERS = 50;
/** One page of rows, with a limit of UTF-16 units, so that a member costs little more than 1 KB. */
const KEPT_ROWS = LIMITS.pageDefault;
const KEPT_LENGTH = 65_536;
/** How many members one read asks for. */
const MEMBERS_AT_ONCE = 200;

type LiveRoom = {
  /** The last delivered message and the last applied change; null until they are read. */
  position: Position | null;
  /** What `Log.look` told last: another one says that the room's name, kind or settings have changed. */
  facts: string;
  /** The newest rows up to the head, without a hole, and their length. Empty in a room with few members. */
  kept: Row[];
  keptLength: number;
  /** When the head last agreed with the stored log, by performance.now(). */
  sureAt: number;
  checking: Promise<void> | undefined;
  opened: Promise<void>;
  /** True during a read of the sorted set; what arrives meanwhile causes another read. */
  healing: boolean;
  again: boolean;
  /** When a read has failed: the next one, which also covers what arrives until then. */
  retry: NodeJS.Timeout | undefined;
  leave: NodeJS.Timeout | undefined;
  /** The relay's epoch when the room was opened, or when a removal was last seen. */
  changedIn: number;
};

/**
 * Announcements between replicas. A replica subscribes to the rooms with a local member and to one channel for
 * everybody. Redis pub/sub delivers at most once, so an announcement is a hint and the sorted set is the truth: a
 * room's messages are passed on in the order of `seq`; a message that does not follow the last one, by seq and running
 * hash, makes the relay read the sorted set from there. (The gap rule is Centrifugo's; the hash is our own.)
 *
 * Messages of this replica take the same way as those of others: the replica hears its own announcement.
 */
export class Relay {
  readonly #parts: RelayParts;
  readonly #rooms = new Map<RoomId, LiveRoom>();
  /** Tells this process from another one that was given the same SERVER_ID. */
  readonly #run = randomBytes(6).toString("base64url");
  #timers: NodeJS.Timeout[] = [];
  #heartbeat = 0;
  #droppedAt = -LOG_MS;
  #unhealedAt = -LOG_MS;
  #namesakeHeard = false;
  #heartbeatHeard = { number: 0, at: performance.now() };
  /** Rooms whose check failed. */
  readonly #unchecked = new Set<RoomId>();
  #closed = false;
  #epoch = 0;
  #olderHeardAt = performance.now();

  constructor(parts: RelayParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    const { subscriber, keys } = this.#parts;
    subscriber.on("message", (_channel: string, text: string) => this.#receive(text));
    // Everything published while the connection was away is lost: check every room.
    subscriber.on("ready", () => this.#checkRooms());
    await subscriber.subscribe(keys.channel);
    this.#heartbeatHeard.at = performance.now();
    this.#timers = [
      setInterval(() => this.#beat(), HEARTBEAT_MS),
      // The last message before a silence leaves no gap to notice.
      setInterval(() => this.#checkRooms(), CHECK_MS * (0.8 + Math.random() * 0.4)),
    ];
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    for (const room of this.#rooms.values()) clearTimeout(room.leave);
    this.#rooms.clear();
  }

  /** Subscribes to a room; resolves when nothing stored from now on can be missed. Repeated calls are cheap. */
  open(roomId: RoomId): Promise<void> {
    const known = this.#rooms.get(roomId);
    if (known) {
      clearTimeout(known.leave);
      known.leave = undefined;
      return known.opened;
    }
    const room: LiveRoom = {
      position: null,
      facts: "",
      kept: [],
      keptLength: 0,
      sureAt: 0,
      checking: undefined,
      opened: Promise.resolve(),
      healing: false,
      again: false,
      retry: undefined,
      leave: undefined,
      changedIn: (this.#epoch += 1),
    };
    this.#rooms.set(roomId, room);
    room.opened = this.#follow(roomId, room).catch((error: unknown) => {
      if (this.#rooms.get(roomId) === room) this.#letGo(roomId, room);
      throw error;
    });
    return room.opened;
  }

  /** The last message of an open room that was passed on. */
  seq(roomId: RoomId): number {
    return this.#rooms.get(roomId)?.position?.seq ?? 0;
  }

  /** Rises when a room is opened and when somebody is removed from one. */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * Whether the room was opened, or somebody removed from it, since that epoch: then a membership that was read
   * earlier may be outdated, and the relay will not tell.
   */
  hasChangedSince(roomId: RoomId, epoch: number): boolean {
    return (this.#rooms.get(roomId)?.changedIn ?? Infinity) > epoch;
  }

  /** How long ago a server of the previous version was last heard, in ms. */
  get olderSilentMs(): number {
    return performance.now() - this.#olderHeardAt;
  }

  /**
   * The rows after a cursor up to the newest one, oldest first, from memory; null if only the sorted set can tell, or
   * if something changed since. For a connection that hears the room: it will hear what comes after them.
   */
  async since({ roomId, seq, date, hash, rev, revHash }: Cursor): Promise<string[] | null> {
    const room = this.#rooms.get(roomId);
    const rows = () => {
      if (!room?.position) return null;
      const isCurrent = rev === room.position.rev && revHash === room.position.revHash;
      if (!isCurrent && rev !== undefined) return null;
      const places = [...room.kept, room.position];
      const at = places.findIndex((row) => row.seq === seq && row.hash === hash && row.date === date);
      return at < 0 ? null : room.kept.slice(at + 1).map(({ json }) => json);
    };
    return room && rows() && (await this.#isSure(roomId, room)) ? rows() : null;
  }

  /** The newest `size` rows, oldest first, from memory, and the last change that they include; null as above. */
  async newest(roomId: RoomId, size: number): Promise<{ rows: string[]; revision: Revision } | null> {
    const room = this.#rooms.get(roomId);
    const isThere = () => room && room.kept.length >= size;
    if (!room || !isThere() || !(await this.#isSure(roomId, room)) || !isThere() || !room.position)
      return null;
    const { rev, revHash } = room.position;
    return { rows: room.kept.slice(-size).map(({ json }) => json), revision: { rev, revHash } };
  }

  /** Whether the known head is the stored one. In a busy room the traffic proves it; in others the head is read. */
  async #isSure(roomId: RoomId, room: LiveRoom): Promise<boolean> {
    const sure = () => !room.healing && performance.now() - room.sureAt < SURE_MS;
    if (sure()) return true;
    await this.#check(roomId, room);
    return sure();
  }

  /** The last local member left. The subscription lingers for people who reload or switch replicas. */
  release(roomId: RoomId): void {
    const room = this.#rooms.get(roomId);
    if (!room || room.leave) return;
    room.leave = setTimeout(() => {
      room.leave = undefined;
      // Somebody may have been entering when the last one left.
      if (this.#parts.delivery.members(roomId) === 0) this.#letGo(roomId, room);
    }, LINGER_MS);
    room.leave.unref();
  }

  #letGo(roomId: RoomId, room: LiveRoom): void {
    const { config, keys, subscriber } = this.#parts;
    clearTimeout(room.leave);
    this.#rooms.delete(roomId);
    if (config.relayChannel === "rooms")
      subscriber.unsubscribe(keys.roomChannel(roomId)).catch(() => undefined);
  }

  /** Tells a room's listeners on every replica that somebody is writing there. */
  async typing(roomId: RoomId, userId: UserId): Promise<void> {
    const { commands, config, keys } = this.#parts;
    const channel = channelsOf(keys, config)(roomId);
    await commands.publish(
      channel,
      JSON.stringify({ serverId: config.serverId, type: "typing", data: { roomId, userId } }),
    );
  }

  /** Announces to every replica, including this one. Not stored: a replica that does not listen misses it. */
  async publish(type: string, data: unknown): Promise<void> {
    const { commands, config, keys } = this.#parts;
    await commands.publish(keys.channel, JSON.stringify({ serverId: config.serverId, type, data }));
  }

  async #follow(roomId: RoomId, room: LiveRoom): Promise<void> {
    const { config, keys, subscriber, messages } = this.#parts;
    if (config.relayChannel === "rooms") await subscriber.subscribe(keys.roomChannel(roomId));
    const { position, facts } = await messages.look(roomId);
    room.position = position;
    room.facts = facts;
    room.sureAt = performance.now();
    if (room.again) await this.#heal(roomId, room);
  }

  #receive(text: string): void {
    const heard = readAnnouncement(text);
    if (!heard) {
      const change = readChange(text);
      return change ? this.#change(change) : this.#receiveOther(text);
    }
    const room = this.#rooms.get(heard.roomId);
    if (room) this.#advance(heard.roomId, room, heard);
  }

  #advance(roomId: RoomId, room: LiveRoom, heard: Heard): void {
    const { metrics, delivery } = this.#parts;
    metrics.relayed.inc();
    if (!room.position || room.healing) {
      room.again = true;
      return;
    }
    const { seq, date, hash, json, revHash, tail } = heard;
    const { position } = room;
    const follows = seq === position.seq + 1 && hash === chain(position.hash, date, tail);
    // Nobody may hear what was said after their removal: a missed change is read first.
    if (follows && (revHash === undefined || revHash === position.revHash)) {
      room.position = { seq, date, hash, rev: position.rev, revHash: position.revHash };
      room.sureAt = performance.now();
      this.#keep(roomId, room, json);
      delivery.message(roomId, json);
      return;
    }
    if (seq > position.seq) metrics.gaps.inc();
    if ((seq !== position.seq || hash !== position.hash) && !room.retry) void this.#heal(roomId, room);
  }

  /** Applies a change of a message or of a membership in the room's order, or reads if one was missed. */
  #change(change: HeardChange): void {
    const room = this.#rooms.get(change.roomId);
    if (!room) return;
    if (!room.position || room.healing) {
      room.again = true;
      return;
    }
    const { rev, revHash } = room.position;
    if (change.rev === rev + 1 && change.hash === chainChange(revHash, change)) {
      const now = { rev: change.rev, revHash: change.hash };
      room.position = { ...room.position, ...now };
      this.#apply(change.roomId, room, [change], { after: rev, ...now });
    } else if ((change.rev !== rev || change.hash !== revHash) && !room.retry) {
      void this.#heal(change.roomId, room);
    }
  }

  /** Carries out changes of membership, and passes on changed messages. */
  #apply(
    roomId: RoomId,
    room: LiveRoom,
    changes: readonly Change[],
    span: Revision & { after: number },
  ): void {
    for (const change of changes) {
      const userId = memberIn(change);
      if (userId === null) continue;
      const record = change.now === "" ? null : parseRecord(change.now);
      if (record === null ? keepsRecords(roomId) : record.disabled) this.#remove(roomId, room, userId);
      else this.#parts.standing(roomId, userId);
    }
    const rows = changes.flatMap(rowIn);
    for (const row of rows) replace(room, row);
    this.#parts.delivery.changes(roomId, span, rows);
  }

  #remove(roomId: RoomId, room: LiveRoom, userId: UserId): void {
    room.changedIn = this.#epoch += 1;
    if (this.#parts.delivery.expel(roomId, userId)) void this.#lookFor(roomId, userId);
  }

  /** Whoever came in again before their removal was heard took no new place: they still heard the room. */
  async #lookFor(roomId: RoomId, userId: UserId): Promise<void> {
    const { members, returned } = this.#parts;
    // If Redis is away, the next look at all connections finds them.
    const inside = await members.among(roomId, [userId]).catch(() => new Set());
    if (inside.has(userId)) returned(userId);
  }

  /**
   * The changes are no longer known: asks who of the local listeners is still in the room, and makes their clients ask
   * for changed messages.
   */
  async #applyAll(roomId: RoomId, room: LiveRoom): Promise<void> {
    const { members, delivery } = this.#parts;
    const here = delivery.usersIn(roomId);
    for (let start = 0; start < here.length; start += MEMBERS_AT_ONCE) {
      const some = here.slice(start, start + MEMBERS_AT_ONCE);
      const inside = await members.among(roomId, some);
      for (const userId of some) if (!inside.has(userId)) this.#remove(roomId, room, userId);
    }
    room.changedIn = this.#epoch += 1;
    forget(room);
    delivery.toRoom(roomId, "room.stale", { roomId });
  }

  /** Keeps a row that became the head. */
  #keep(roomId: RoomId, room: LiveRoom, json: string): void {
    if (!room.position || this.#parts.delivery.members(roomId) < KEPT_FROM_MEMBERS) return forget(room);
    const { seq, date, hash } = room.position;
    room.kept.push({ seq, date, hash, json });
    room.keptLength += json.length;
    while (room.kept.length > KEPT_ROWS || room.keptLength > KEPT_LENGTH)
      room.keptLength -= room.kept.shift()?.json.length ?? 0;
  }

  /** Passes on what the sorted set holds after the head, until nothing more has arrived meanwhile. */
  async #heal(roomId: RoomId, room: LiveRoom): Promise<void> {
    // The room may be released by now, or the relay closed.
    if (room.healing || !room.position || this.#rooms.get(roomId) !== room) return;
    const { messages, delivery, metrics, log } = this.#parts;
    room.healing = true;
    clearTimeout(room.retry);
    room.retry = undefined;
    try {
      let more: boolean;
      do {
        room.again = false;
        const found = await messages.after(roomId, room.position);
        if (this.#rooms.get(roomId) !== room) return;
        // Changes first: a removed member must hear none of the rows, whenever they were stored.
        const { rev, revHash } = found.position;
        if (found.changes === null) await this.#applyAll(roomId, room);
        else if (rev !== room.position.rev)
          this.#apply(roomId, room, found.changes, { after: room.position.rev, rev, revHash });
        more = found.more;
        if (found.reset) {
          room.position = found.position;
          forget(room);
          if (found.reset === "far") log.warn({ roomId }, "many messages were missed: clients read them");
          else {
            metrics.resets.inc();
            log.warn({ roomId }, "the stored log is not the one that was relayed");
          }
          delivery.toRoom(roomId, "room.stale", { roomId });
        } else {
          metrics.healed.inc(found.rows.length);
          for (const row of found.rows) {
            room.position = { ...found.position, ...headOf(row) };
            this.#keep(roomId, room, row);
            delivery.message(roomId, row);
          }
          room.position = found.position;
        }
      } while (more || room.again);
      room.sureAt = performance.now();
    } catch (error) {
      this.#tellUnhealed(roomId, error);
      room.retry = setTimeout(() => void this.#heal(roomId, room), RETRY_MS).unref();
    } finally {
      room.healing = false;
    }
  }

  /** Logs one a second: while Redis does not answer, there may be as many as rooms. */
  #tellUnhealed(roomId: RoomId, error: unknown): void {
    if (performance.now() - this.#unhealedAt < LOG_MS) return;
    this.#unhealedAt = performance.now();
    this.#parts.log.warn({ roomId, reason: reasonOf(error) }, "a room could not be healed yet");
  }

  #receiveOther(text: string): void {
    const envelope = parseEnvelope(text);
    if (!envelope) return this.#drop(text);
    const { type, data, serverId } = envelope;
    if (type === "heartbeat") {
      const { beat, schema, run } = readHeartbeat(data);
      if (schema < SCHEMA) this.#olderHeardAt = performance.now();
      if (run === this.#run) this.#hearHeartbeat(beat);
      else if (serverId === this.#parts.config.serverId) this.#hearNamesake();
      return;
    }
    if (type === "change") return this.#drop(text);
    if (type === "typing") {
      const typing = readTyping(data);
      if (typing) this.#parts.delivery.typing(typing.roomId, typing.userId);
      else this.#drop(text);
      return;
    }
    if (type !== "message") return this.#parts.heard(type, data);
    const message = parseForeign(data);
    if (!message) return this.#drop(text);
    if (this.#rooms.has(message.roomId)) void this.#adopt(message.roomId, text);
  }

  /** Another program has said something: adopts what it stored, which is then announced like any message. */
  async #adopt(roomId: RoomId, text: string): Promise<void> {
    try {
      if ((await this.#parts.messages.adopt(roomId, true)) === 0) this.#drop(text);
    } catch {
      // Redis is away; the next check finds it.
      this.#unchecked.add(roomId);
    }
  }

  /** Counts every malformed announcement, and logs one a second, because there may be many. */
  #drop(text: string): void {
    this.#parts.metrics.malformed.inc();
    if (performance.now() - this.#droppedAt < LOG_MS) return;
    this.#droppedAt = performance.now();
    this.#parts.log.warn({ bytes: Buffer.byteLength(text) }, "dropped a malformed announcement");
  }

  #checkRooms(roomIds: Iterable<RoomId> = this.#rooms.keys()): void {
    for (const roomId of roomIds) {
      const room = this.#rooms.get(roomId);
      if (room?.position && !room.healing) void this.#checkStored(roomId, room);
    }
  }

  /** Also finds what another program stored silently. */
  async #checkStored(roomId: RoomId, room: LiveRoom): Promise<void> {
    await this.#parts.messages.adopt(roomId).catch(() => undefined);
    await this.#check(roomId, room);
  }

  /** Compares a room's head and facts with the stored ones. Concurrent calls share one check. */
  #check(roomId: RoomId, room: LiveRoom): Promise<void> {
    room.checking ??= this.#look(roomId, room).finally(() => {
      room.checking = undefined;
    });
    return room.checking;
  }

  async #look(roomId: RoomId, room: LiveRoom): Promise<void> {
    const askedAt = performance.now();
    try {
      const { position: stored, facts } = await this.#parts.messages.look(roomId);
      if (!room.position) return;
      // Whoever changed them announces it, which may be lost, or done twice.
      if (facts !== room.facts) this.#parts.changed(roomId);
      room.facts = facts;
      const { seq, hash, rev, revHash } = room.position;
      const isSame =
        stored.seq === seq && stored.hash === hash && stored.rev === rev && stored.revHash === revHash;
      if (isSame) room.sureAt = askedAt;
      else await this.#heal(roomId, room);
    } catch {
      // Redis is away, or the room is damaged.
      this.#unchecked.add(roomId);
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
    const unchecked = [...this.#unchecked];
    this.#unchecked.clear();
    this.#checkRooms(unchecked);
    if (!this.#closed)
      this.publish("heartbeat", { beat: (this.#heartbeat += 1), schema: SCHEMA, run: this.#run }).catch(
        () => undefined,
      );
  }

  /** Both hold one lease for each user: whoever leaves one of them is shown as offline, though they are at the other. */
  #hearNamesake(): void {
    if (this.#namesakeHeard) return;
    this.#namesakeHeard = true;
    const cure = "give each replica a SERVER_ID of its own, or none";
    this.#parts.log.warn({ about: "server id", cure }, "another replica has this one's SERVER_ID");
  }

  /** A missing heartbeat means that other announcements are missing: a connection, or a Cluster's node, was lost. */
  #hearHeartbeat(number: number): void {
    const missed = number !== this.#heartbeatHeard.number + 1;
    this.#heartbeatHeard = { number, at: performance.now() };
    if (missed) this.#checkRooms();
  }
}

/** Servers of the first schema send only a number. */
function readHeartbeat(data: unknown): { beat: number; schema: number; run: unknown } {
  if (!isRecord(data)) return { beat: Number.NaN, schema: FIRST_SCHEMA, run: undefined };
  const { beat, schema, run } = data;
  return { beat: Number(beat), schema: Number(schema), run };
}

function readTyping(data: unknown): { roomId: RoomId; userId: UserId } | null {
  if (!isRecord(data)) return null;
  const { roomId, userId } = data;
  return isRoomId(roomId) && typeof userId === "string" && USER_ID.test(userId) ? { roomId, userId } : null;
}

/** Replaces a kept row by its changed version. */
function replace(room: LiveRoom, row: string): void {
  const head = headOf(row);
  const at = room.kept.findIndex(({ seq, hash }) => seq === head?.seq && hash === head.hash);
  const old = room.kept[at];
  if (!old || !head) return;
  room.keptLength += row.length - old.json.length;
  room.kept[at] = { ...head, json: row };
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
