import { setTimeout as sleep } from "node:timers/promises";
import type { Chat } from "../chat/chat.ts";
import { ChatError, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import type { Delivery } from "../live/delivery.ts";
import type { Connection, ConnectionData } from "../live/frames.ts";
import type { Relay } from "../live/relay.ts";
import { LIMITS, type Message, type Room, type RoomId, type UserId } from "../protocol.ts";
import type { RedisClient } from "../store/redis.ts";
import { SharedRuns } from "../store/sharedRuns.ts";
import type { Sessions } from "./session.ts";

/** So few at once that messages wait for milliseconds: a look at one costs 0.2 ms of CPU time. */
const REVALIDATE_AT_ONCE = 20;
const REVALIDATE_PAUSE_MS = 10;
const SHOW_TRIES = 50;

export type AttendanceParts = {
  keys: Keys;
  commands: RedisClient;
  sessions: Pick<Sessions, "find">;
  delivery: Delivery;
  relay: Relay;
};

/** Which connections here hear which rooms: those that their user is in, by what is stored. */
export class Attendance {
  readonly #parts: AttendanceParts;
  readonly #chat: Chat;
  readonly #telling = new SharedRuns<void>();
  readonly #showing = new SharedRuns<void>();
  readonly #revalidating = new SharedRuns<void>();
  /** By user and room, which ways a read mark has moved that is not told yet. */
  readonly #moved = new Map<string, { up: boolean; down: boolean }>();

  constructor(parts: AttendanceParts, chat: Chat) {
    this.#parts = parts;
    this.#chat = chat;
  }

  /** Lets a connection hear those of these rooms that its user is still in. */
  async attach(connection: Connection, ids: RoomId[]): Promise<void> {
    const { delivery } = this.#parts;
    const theirs = await this.open(connection.data.user.id, ids);
    if (connection.connected) for (const id of theirs) delivery.join(id, connection);
    else this.release(theirs);
  }

  /**
   * Follows those of these rooms that a user is in, and resolves in a turn of the event loop in which they surely are:
   * the user may be removed during the check, and the relay, which tells the rooms' connections, does not know this
   * connection yet. `before`: the relay's epoch before the ids were read from the user's list; they need no second
   * check if nothing has changed since. Leaves out what cannot be read.
   */
  async open(userId: UserId, ids: RoomId[], before?: number): Promise<RoomId[]> {
    const { relay } = this.#parts;
    try {
      for (let known = before; ;) {
        ids = await this.#readable(ids);
        const isSure = (id: RoomId) => known !== undefined && !relay.hasChangedSince(id, known);
        const doubtful = ids.filter((id) => !isSure(id));
        if (doubtful.length === 0) return ids;
        known = relay.epoch;
        const theirs = new Set(await this.#chat.rooms.areTheirs(userId, doubtful));
        const gone = doubtful.filter((id) => !theirs.has(id));
        this.release(gone);
        ids = ids.filter((id) => !gone.includes(id));
      }
    } catch (error) {
      this.release(ids);
      throw error;
    }
  }

  /** Opens these rooms; answers those that can be read. A room that somebody has damaged keeps nobody from all others. */
  async #readable(ids: RoomId[]): Promise<RoomId[]> {
    const found: RoomId[] = [];
    const open = (id: RoomId) => this.#parts.relay.open(id).then(() => [id]);
    // Once one has failed, no more may be opened: they would come after their release.
    for (let at = 0; at < ids.length; at += BOUNDS.lookupsAtOnce.value) {
      const some = ids.slice(at, at + BOUNDS.lookupsAtOnce.value).map((id) => unlessWrongType(open(id), []));
      found.push(...(await Promise.all(some)).flat());
    }
    return found;
  }

  /** Releases rooms that were opened for nobody. */
  release(ids: RoomId[]): void {
    const { relay, delivery } = this.#parts;
    for (const id of ids) if (!delivery.hears(id)) relay.release(id);
  }

  /**
   * Tells a room as it is stored by now: what says that it changed may come in another order than the changes were
   * stored.
   */
  async tellRoom(id: RoomId): Promise<void> {
    const { delivery } = this.#parts;
    if (!delivery.hears(id)) return;
    const facts = await this.#chat.rooms.facts(id);
    if (facts === null) return;
    const { kind, name, settings } = facts;
    delivery.toRoom(id, "room.changed", { roomId: id, kind, name, ...settings });
  }

  /** Tells a user's connections what they are in a room by now. */
  async tellStanding(id: RoomId, userId: UserId): Promise<void> {
    const { delivery } = this.#parts;
    if (delivery.hearing(id, userId).length === 0) return;
    const standing = await this.#chat.rooms.standing(id, userId);
    if (standing !== null) delivery.standing(id, userId, standing);
  }

  /**
   * Tells a user's connections how far a room is read by now, in the order of the reads: marks that move at once on two
   * replicas are told in any order. A client lowers its mark only if told that this one fell.
   */
  async tellRead(userId: UserId, id: RoomId, fell: boolean): Promise<void> {
    const { delivery } = this.#parts;
    if (delivery.countOf(userId) === 0) return;
    const name = `${userId} ${id}`;
    const moved = this.#moved.get(name) ?? { up: false, down: false };
    this.#moved.set(name, moved);
    moved[fell ? "down" : "up"] = true;
    await this.#telling.run(name, async () => {
      this.#moved.delete(name);
      const read = await this.#chat.rooms.mark(userId, id);
      if (moved.up) delivery.toUser(userId, "room.read", { roomId: id, read });
      if (moved.down) delivery.toUser(userId, "room.read", { roomId: id, read, unread: true });
    });
  }

  /**
   * Lets the connections of users who came in hear a room, and shows it to them, as it is by now; `unheard`: unless all
   * of them hear it. One at a time, and those who ask meanwhile share the next: orders of other replicas come past every
   * limit of this one.
   */
  async showRoom(userIds: UserId[], id: RoomId, unheard?: true): Promise<void> {
    for (const userId of userIds) {
      if (this.#parts.delivery.countOf(userId) === 0) continue;
      try {
        await this.#showing.run(`${userId} ${id} ${unheard}`, () => this.#showRoomTo(userId, id, unheard));
      } catch (error) {
        // They were removed meanwhile, which keeps nothing else from being shown.
        if (!(error instanceof ChatError && error.code === "not_found")) throw error;
      }
    }
  }

  async #showRoomTo(userId: UserId, id: RoomId, unheard?: true): Promise<void> {
    const { delivery } = this.#parts;
    const here = [...delivery.connections(userId)];
    if (here.length === 0) return;
    const isNews = here.some((connection) => !connection.data.rooms.has(id));
    if (unheard && !isNews) return;
    if (isNews && (await this.#chat.rooms.kindOf(id)) === "direct") return this.#showPrivateRoom(here, id);
    await Promise.all(here.map((connection) => this.attach(connection, [id])));
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
      this.release([id]);
    }
  }

  /** Closes the connections that are chosen by what is known of them. */
  disconnect(chosen: (data: ConnectionData) => boolean): void {
    const connections = [...this.#parts.delivery.connections()];
    for (const connection of connections) if (chosen(connection.data)) connection.disconnect(true);
  }

  /**
   * Does for one user what `revalidate` does for all, and tells the connections that stay open what the account is by
   * now.
   */
  async look(userId: UserId): Promise<void> {
    const { delivery } = this.#parts;
    await this.revalidateUser(userId);
    const [connection] = delivery.connections(userId);
    if (!connection) return;
    const { user } = connection.data;
    const role = await this.#chat.users.roleOf(user);
    if (role !== undefined) delivery.toUser(userId, "me", await this.#chat.accounts.me(user, role));
  }

  /**
   * Makes up for lost orders: closes connections whose session or account is gone, and shows or hides rooms. An account,
   * or a room, that somebody has damaged is passed over.
   */
  async revalidate(): Promise<void> {
    await this.#revalidating.run("everybody", async () => {
      const users = this.#parts.delivery.users();
      for (let start = 0; start < users.length; start += REVALIDATE_AT_ONCE) {
        if (start > 0) await sleep(REVALIDATE_PAUSE_MS, undefined, { ref: false });
        const some = users.slice(start, start + REVALIDATE_AT_ONCE);
        await Promise.all(some.map((id) => unlessWrongType(this.revalidateUser(id), undefined)));
      }
    });
  }

  /** The same for one user. Prolongs the sessions whose connections have asked for anything. */
  async revalidateUser(userId: UserId): Promise<void> {
    const here = [...this.#parts.delivery.connections(userId)];
    if (here.length === 0) return;
    const [ended, rooms] = await Promise.all([this.#ended(here), this.#chat.rooms.of(userId)]);
    for (const connection of ended) connection.disconnect(true);
    await this.#mendRooms(userId, here, new Set(rooms));
  }

  /** Those of a user's connections whose session or account is gone. */
  async #ended(here: readonly Connection[]): Promise<Connection[]> {
    const { commands, keys, sessions } = this.#parts;
    const sids = [...new Set(here.map(({ data }) => data.sid))];
    const used = new Set(here.filter(({ data }) => data.asked).map(({ data }) => data.sid));
    for (const { data } of here) data.asked = false;
    const [alive, roles] = await Promise.all([
      Promise.all(
        sids.map((sid) => (used.has(sid) ? sessions.find(sid) : commands.exists(keys.session(sid)))),
      ),
      // One id has several names if it was given to another account.
      Promise.all(here.map(({ data }) => this.#chat.users.roleOf(data.user))),
    ]);
    const over = new Set(sids.filter((_, index) => !alive[index]));
    return here.filter(({ data }, index) => over.has(data.sid) || roles[index] === undefined);
  }

  /** Makes a user's connections hear the rooms of their list, and no others, as far as the rooms' records agree. */
  async #mendRooms(userId: UserId, here: readonly Connection[], rooms: ReadonlySet<RoomId>): Promise<void> {
    // Null: its records are damaged, and say nothing.
    const isTheirs = (id: RoomId) => unlessWrongType(this.#chat.rooms.mendList(userId, id), null);
    // One that has left hears nothing, which is no reason to show the others anything.
    const open = () => here.filter(({ connected }) => connected);
    for (const id of new Set(open().flatMap(({ data }) => [...data.rooms])))
      if (!rooms.has(id) && (await isTheirs(id)) === false) this.#parts.delivery.expel(id, userId);
    for (const id of rooms) {
      if (open().every(({ data }) => data.rooms.has(id))) continue;
      if (await isTheirs(id)) await unlessWrongType(this.showRoom([userId], id), undefined);
    }
  }
}

function newestSeq(messages: Message[]): number {
  return Math.max(0, ...messages.map(({ seq }) => seq));
}
