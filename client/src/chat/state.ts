import {
  pairOf,
  type Failure,
  type Message,
  type Page,
  type Presence,
  type Room,
  type RoomId,
  type SyncedRoom,
  type User,
  type UserId,
} from "@hubbub/server/protocol";

/** Messages of an unopened room that are kept until its first page comes. */
const HELD_UNOPENED = 100;
/** Messages beyond a gap that are kept until `sync` has filled it. */
const HELD_BEYOND_GAP = 500;
/** Messages that a room keeps when another one is opened. */
const KEPT_IN_BACKGROUND = 200;

/**
 * A message on its way. `waiting`: not tried yet. `sending`: tried, the answer is due. `unconfirmed`: tried
 * without an answer, so it may be stored; it is tried again with the same nonce. `failed`: refused for good.
 * `sent`: stored with this `seq`, which the log that is shown has not reached.
 */
export type Outgoing = {
  nonce: string;
  roomId: RoomId;
  message: string;
  /** ms since 1970 on this machine's clock. */
  created: number;
} & (
  | { state: "waiting" | "sending" | "unconfirmed" }
  | { state: "failed"; failure: Failure }
  | { state: "sent"; seq: number }
);

/** What is loaded of a room's log: without a hole up to `head`, which is 0 for an empty log. */
export type Log = {
  messages: readonly Message[];
  head: number;
  /** Whether the server holds older ones. */
  older: boolean;
};

export type RoomState = {
  id: RoomId;
  names: readonly string[];
  private: boolean;
  last: Message | null;
  /** seq of the newest message heard of. */
  seq: number;
  /** seq up to which this user has read. */
  read: number;
  log: Log | null;
  load: "idle" | "loading" | "failed";
  /** Messages that do not join the log yet, by seq: beyond a gap, or heard while the log is stale. */
  held: readonly Message[];
  /** Set when the replica, or a message that contradicts the log, says that the log is not to be trusted. */
  stale: boolean;
};

type Session =
  | { is: "checking"; trouble: boolean }
  /** `username` is whose session has ended without their doing. */
  | { is: "signed out"; reason: string | null; username: string | null }
  | { is: "signed in"; user: User };

/**
 * `connecting`: not there yet, for so long that it is told. `interrupted`: gone for so short a time that nobody needs
 * to be told.
 */
type Connection = "starting" | "connecting" | "online" | "interrupted" | "offline";

export type ChatState = {
  session: Session;
  connection: Connection;
  /** How many messages were missed, once, after having been offline. */
  returned: number | null;
  /** null until the first list has come. */
  rooms: ReadonlyMap<RoomId, RoomState> | null;
  openRoom: RoomId | null;
  users: ReadonlyMap<UserId, Presence>;
  presence: {
    /** Changes heard since the connection came up and before its snapshot; null once that is in. */
    unsettled: ReadonlyMap<UserId, Presence> | null;
  };
  outgoing: readonly Outgoing[];
  /** What is typed and not sent, by room, or by the failed message that it is to replace: `edit <nonce>`. */
  drafts: ReadonlyMap<string, string>;
};

export const initialState: ChatState = {
  session: { is: "checking", trouble: false },
  connection: "starting",
  returned: null,
  rooms: null,
  openRoom: null,
  users: new Map(),
  presence: { unsettled: new Map() },
  outgoing: [],
  drafts: new Map(),
};

export type ChatEvent =
  | { type: "session unreachable" }
  | { type: "signed in"; user: User; drafts: ReadonlyMap<string, string> }
  | { type: "signed out"; reason: string | null }
  | { type: "connected" }
  | { type: "interrupted" }
  | { type: "offline" }
  | { type: "online"; missed: number | null }
  | { type: "return noted" }
  | { type: "rooms"; rooms: readonly Room[] }
  | { type: "room"; room: Room }
  | { type: "room gone"; roomId: RoomId }
  | { type: "opened"; roomId: RoomId | null }
  | { type: "loading"; roomId: RoomId }
  | { type: "load failed"; roomId: RoomId }
  | { type: "newest page"; roomId: RoomId; page: Page }
  | { type: "older page"; roomId: RoomId; page: Page }
  | { type: "message"; message: Message }
  | { type: "synced"; room: SyncedRoom }
  | { type: "stale"; roomId: RoomId }
  | { type: "read"; roomId: RoomId; read: number }
  | { type: "users"; users: readonly Presence[] }
  | { type: "presence snapshot"; online: readonly Presence[] }
  | { type: "presence diff"; users: readonly Presence[] }
  | { type: "outgoing"; entries: readonly Outgoing[] }
  | { type: "draft"; slot: string; text: string };

/**
 * The next state; the only place where state changes. Pure, and idempotent: an event applied twice leaves what
 * it left the first time. Messages and sync answers may come in any order, and presence diffs before the
 * snapshot that they follow.
 */
export function apply(state: ChatState, event: ChatEvent): ChatState {
  switch (event.type) {
    case "session unreachable":
      return state.session.is === "checking"
        ? { ...state, session: { is: "checking", trouble: true } }
        : state;
    case "signed in":
      return {
        ...initialState,
        openRoom: state.openRoom,
        session: { is: "signed in", user: event.user },
        drafts: event.drafts,
      };
    case "signed out":
      return {
        ...initialState,
        openRoom: state.openRoom,
        session: {
          is: "signed out",
          reason: event.reason,
          username:
            event.reason !== null && state.session.is === "signed in" ? state.session.user.username : null,
        },
      };
    case "connected":
      // What was held was heard over another connection, perhaps of a log that has been lost since. And what is heard
      // now may be of another log than the one that is loaded: nothing joins it before `sync` has compared the two.
      return {
        ...mapRooms(state, distrust),
        presence: { unsettled: new Map() },
      };
    case "interrupted":
      return state.connection === "online" ? { ...state, connection: "interrupted" } : state;
    case "offline": {
      if (state.connection === "online") return state;
      const never = state.connection === "starting" || state.connection === "connecting";
      return { ...state, connection: never ? "connecting" : "offline", returned: null };
    }
    case "online":
      return { ...state, connection: "online", returned: event.missed };
    case "return noted":
      return state.returned === null ? state : { ...state, returned: null };
    case "rooms":
      return withRooms(state, new Map(event.rooms.map((room) => [room.id, meet(state, room)])));
    case "room":
      return withRoom(state, meet(state, event.room));
    case "room gone": {
      if (!state.rooms?.has(event.roomId)) return state;
      const rooms = new Map(state.rooms);
      rooms.delete(event.roomId);
      return { ...state, rooms };
    }
    case "opened":
      if (state.openRoom === event.roomId) return state;
      return {
        ...mapRooms(state, (room) => (room.id === state.openRoom ? shorten(room) : room)),
        openRoom: event.roomId,
      };
    case "loading":
      return mapRoom(state, event.roomId, (room) => ({ ...room, load: "loading" }));
    case "load failed":
      return mapRoom(state, event.roomId, (room) => ({ ...room, load: "failed" }));
    case "newest page":
      return settle(state, event.roomId, (room) =>
        room.log === null
          ? startLog(room, event.page.messages)
          : { ...event.page.messages.reduce(hear, room), load: "idle" },
      );
    case "older page":
      return mapRoom(state, event.roomId, (room) => prepend(room, event.page));
    case "message":
      return settle(state, event.message.roomId, (room) => {
        const heard = hear(room, event.message);
        const mine = state.session.is === "signed in" && event.message.from === state.session.user.id;
        // Whoever says something in a room has seen what stands above it.
        return mine ? readUpTo(heard, event.message.seq) : heard;
      });
    case "synced":
      return sync(state, event.room);
    case "stale":
      // What was heard before the replica said so was of the log that is gone, what follows is of the one there is.
      return mapRoom(state, event.roomId, distrust);
    case "read":
      return mapRoom(state, event.roomId, (room) => readUpTo(room, event.read));
    case "users":
      return { ...state, users: know(state, event.users) };
    case "presence snapshot":
      return presenceSnapshot(state, event.online);
    case "presence diff": {
      const unsettled = state.presence.unsettled;
      return {
        ...state,
        users: assign(state.users, event.users),
        presence: unsettled === null ? state.presence : { unsettled: assign(unsettled, event.users) },
      };
    }
    case "outgoing": {
      // The outbox is done with what is sent; it stays here until the log has it.
      const told = new Set(event.entries.map((entry) => entry.nonce));
      const sent = state.outgoing.filter((entry) => entry.state === "sent" && !told.has(entry.nonce));
      return { ...state, outgoing: [...sent, ...event.entries].flatMap((entry) => follow(state, entry)) };
    }
    case "draft": {
      if ((state.drafts.get(event.slot) ?? "") === event.text) return state;
      const drafts = new Map(state.drafts);
      if (event.text === "") drafts.delete(event.slot);
      else drafts.set(event.slot, event.text);
      return { ...state, drafts };
    }
    default:
      return event satisfies never;
  }
}

/** Whether the outbox is still at it. */
export function isUnderWay(entry: Outgoing): boolean {
  return entry.state !== "failed" && entry.state !== "sent";
}

/** Whether this client hears of changes, or can be taken to. */
export function isConnected(state: ChatState): boolean {
  return state.connection === "online" || state.connection === "interrupted";
}

/** Whether somebody is online; undefined where this client cannot know. */
export function isOnline(state: ChatState, userId: UserId | null): boolean | undefined {
  if (userId === null || !isConnected(state)) return undefined;
  return state.users.get(userId)?.online ?? false;
}

/** Messages that this user has not read. */
export function unreadOf(room: RoomState): number {
  return Math.max(0, room.seq - room.read);
}

/** Whether what is loaded of the room is known to be incomplete or wrong: `sync` it. */
export function needsSync(room: RoomState): boolean {
  return room.log !== null && (room.stale || room.seq > room.log.head);
}

/** The newest message of the log: what a cursor says. */
export function headOf(room: RoomState): Message | undefined {
  return room.log?.messages.at(-1);
}

/** The other person of a private room, or null for any other room. */
export function partnerOf(roomId: RoomId, me: UserId): UserId | null {
  const pair = pairOf(roomId);
  if (pair === null) return null;
  return pair[0] === me ? pair[1] : pair[0];
}

/** The order in which messages are shown: total, so that it never depends on the order of arrival. */
export function compareMessages(one: Message, other: Message): number {
  return one.date - other.date || one.seq - other.seq;
}

/** A room of the server's joined with what is held of it here. */
function meet(state: ChatState, room: Room): RoomState {
  const known = state.rooms?.get(room.id);
  if (known === undefined) {
    const { id, names, last, seq, read } = room;
    return {
      id,
      names,
      private: room.private,
      last,
      seq,
      read,
      log: null,
      load: "idle",
      held: [],
      stale: false,
    };
  }
  // A room whose log is loaded never goes back here: only `sync` can tell that the server's log did.
  const heard = known.held.at(-1);
  const seq = Math.max(room.seq, known.log?.head ?? 0, heard?.seq ?? 0);
  const last = known.log === null ? newer(room.last, heard ?? null) : newer(room.last, known.last);
  return { ...known, names: room.names, last, seq, read: Math.min(Math.max(known.read, room.read), seq) };
}

/** What is held is of a log that may be gone, and nothing joins the one that is loaded before `sync` has compared it. */
function distrust(room: RoomState): RoomState {
  return { ...room, held: [], stale: room.log !== null };
}

/** The room with one more message heard of, wherever it belongs. */
function hear(room: RoomState, message: Message): RoomState {
  const { seq } = message;
  const last = newer(room.last, message);
  const top = Math.max(room.seq, seq);
  if (room.log !== null && seq <= room.log.head) {
    const known = room.log.messages.find((other) => other.seq === seq);
    const contradicts = known === undefined ? room.stale : known.hash !== message.hash;
    if (!contradicts) return room;
    room = room.stale ? room : { ...room, stale: true };
  }
  if (room.held.some((other) => other.seq === seq)) return room;
  const held = [...room.held, message].toSorted((one, other) => one.seq - other.seq);
  return join({ ...room, last, seq: top, held });
}

/**
 * Moves what follows the head from `held` into the log. Dates rise with seq: a message that is not later than the one
 * before it was heard of a log that is gone, whose numbers have been given again, and so was all that is held.
 */
function join(room: RoomState): RoomState {
  if (room.log === null) return limitHeld(room, HELD_UNOPENED);
  if (room.stale) return limitHeld(room, HELD_BEYOND_GAP);
  let { head, messages } = room.log;
  let date = headOf(room)?.date ?? -Infinity;
  let joined = 0;
  for (const message of room.held) {
    if (message.seq === head + 1) {
      if (message.date <= date) return { ...room, log: { ...room.log, head, messages }, held: [] };
      messages = insert(messages, message);
      head++;
      date = message.date;
    } else if (message.seq > head) break;
    joined++;
  }
  if (joined === 0) return limitHeld(room, HELD_BEYOND_GAP);
  return { ...room, log: { ...room.log, head, messages }, held: room.held.slice(joined) };
}

function limitHeld(room: RoomState, limit: number): RoomState {
  return room.held.length <= limit ? room : { ...room, held: room.held.slice(-limit) };
}

function insert(messages: readonly Message[], message: Message): readonly Message[] {
  let at = messages.length;
  while (at > 0) {
    const order = compareMessages(messages[at - 1] as Message, message);
    if (order === 0) return messages;
    if (order < 0) break;
    at--;
  }
  return at === messages.length ? [...messages, message] : messages.toSpliced(at, 0, message);
}

function startLog(room: RoomState, messages: readonly Message[]): RoomState {
  const [first] = messages;
  const head = messages.at(-1);
  const log: Log = { messages, head: head?.seq ?? 0, older: (first?.seq ?? 1) > 1 };
  return join({
    ...room,
    log,
    load: "idle",
    seq: Math.max(room.seq, log.head),
    last: newer(room.last, messages.at(-1) ?? null),
  });
}

function prepend(room: RoomState, page: Page): RoomState {
  if (room.log === null) return { ...room, load: "idle" };
  const first = room.log.messages[0]?.seq;
  const end = page.messages.at(-1)?.seq;
  // Not the page before the first message: the log was started anew since it was asked for.
  if (first !== undefined && end !== undefined && end !== first - 1) return { ...room, load: "idle" };
  const messages = page.messages.concat(room.log.messages);
  return { ...room, load: "idle", log: { ...room.log, messages, older: page.more } };
}

function sync(state: ChatState, answer: SyncedRoom): ChatState {
  const { roomId } = answer;
  if (answer.notFound) return apply(state, { type: "room gone", roomId });
  const next = settle(state, roomId, (room) => {
    if (answer.reset !== undefined) {
      const last = answer.messages.at(-1) ?? null;
      const since = room.held.filter((message) => message.date > (last?.date ?? 0));
      const begun = { ...room, held: since, stale: false, last, seq: last?.seq ?? 0 };
      const started = startLog(begun, answer.messages);
      const seq = Math.max(started.seq, started.held.at(-1)?.seq ?? 0);
      return {
        ...started,
        seq,
        read: Math.min(started.read, seq),
        last: newer(started.last, since.at(-1) ?? null),
      };
    }
    const heard = answer.messages.reduce(hear, join({ ...room, stale: false }));
    if (answer.more || heard.log === null) return heard;
    // The server has nothing more: a higher seq that was only heard of was of a log that is gone.
    const seq = Math.max(heard.log.head, heard.held.at(-1)?.seq ?? 0);
    return heard.seq === seq ? heard : { ...heard, seq, read: Math.min(heard.read, seq) };
  });
  const room = next.rooms?.get(roomId);
  if (room === undefined || (answer.more && answer.reset === undefined)) return next;
  // What was sent and is neither here nor held was of a log that is gone: it is the outbox's again.
  const held = new Set(room.held.map((message) => message.nonce));
  const outgoing = next.outgoing.filter(
    (entry) => entry.roomId !== roomId || entry.state !== "sent" || held.has(entry.nonce),
  );
  return outgoing.length === next.outgoing.length ? next : { ...next, outgoing };
}

function readUpTo(room: RoomState, seq: number): RoomState {
  const read = Math.min(Math.max(room.read, seq), room.seq);
  return read === room.read ? room : { ...room, read };
}

function shorten(room: RoomState): RoomState {
  if (room.log === null || room.log.messages.length <= KEPT_IN_BACKGROUND) return room;
  return {
    ...room,
    log: { ...room.log, messages: room.log.messages.slice(-KEPT_IN_BACKGROUND), older: true },
  };
}

function newer(one: Message | null, other: Message | null): Message | null {
  if (one === null || other === null) return one ?? other;
  return compareMessages(one, other) < 0 ? other : one;
}

/** People learned of; whether they are online is the presence events' to say once known. */
function know(state: ChatState, users: readonly Presence[]): ReadonlyMap<UserId, Presence> {
  const fresh = users.flatMap((user) => {
    const known = state.users.get(user.id);
    if (known === undefined) return [user];
    return known.username === user.username ? [] : [{ ...known, username: user.username }];
  });
  return fresh.length === 0 ? state.users : assign(state.users, fresh);
}

function presenceSnapshot(state: ChatState, online: readonly Presence[]): ChatState {
  const users = new Map<UserId, Presence>();
  for (const user of state.users.values())
    users.set(user.id, user.online ? { ...user, online: false } : user);
  for (const user of online) users.set(user.id, { ...user, online: true });
  const unsettled = state.presence.unsettled ?? new Map<UserId, Presence>();
  return { ...state, users: assign(users, [...unsettled.values()]), presence: { unsettled: null } };
}

function assign(
  users: ReadonlyMap<UserId, Presence>,
  changed: readonly Presence[],
): ReadonlyMap<UserId, Presence> {
  const fresh = changed.filter((user) => {
    const known = users.get(user.id);
    return known?.online !== user.online || known.username !== user.username;
  });
  if (fresh.length === 0) return users;
  const next = new Map(users);
  // The last word on a person counts, also when an earlier one of the same list was no news.
  for (const user of changed) next.set(user.id, user);
  return next;
}

/** What is still to be shown of a message on its way: nothing once the log has it, or has gone past it. */
function follow(state: ChatState, entry: Outgoing): Outgoing[] {
  const room = state.rooms?.get(entry.roomId);
  if (room === undefined || state.session.is !== "signed in") return [entry];
  const { id } = state.session.user;
  const isIt = (message: Message) => message.nonce === entry.nonce && message.from === id;
  if (room.log?.messages.some(isIt)) return [];
  if (entry.state === "sent") {
    const passed = room.log !== null && !room.stale && entry.seq <= room.log.head;
    return passed ? [] : [entry];
  }
  const seq = room.held.find(isIt)?.seq;
  if (seq === undefined) return [entry];
  const { nonce, roomId, message, created } = entry;
  return [{ nonce, roomId, message, created, state: "sent", seq }];
}

/** Changes a room and takes what it now shows as stored out of `outgoing`. */
function settle(state: ChatState, roomId: RoomId, change: (room: RoomState) => RoomState): ChatState {
  const next = mapRoom(state, roomId, change);
  if (next === state || next.outgoing.length === 0) return next;
  const outgoing = next.outgoing.flatMap((entry) =>
    entry.roomId === roomId ? follow(next, entry) : [entry],
  );
  const same =
    outgoing.length === next.outgoing.length && outgoing.every((one, at) => one === next.outgoing[at]);
  return same ? next : { ...next, outgoing };
}

function mapRoom(state: ChatState, roomId: RoomId, change: (room: RoomState) => RoomState): ChatState {
  const room = state.rooms?.get(roomId);
  return room === undefined ? state : withRoom(state, change(room));
}

function mapRooms(state: ChatState, change: (room: RoomState) => RoomState): ChatState {
  if (state.rooms === null) return state;
  let changed = false;
  const rooms = new Map<RoomId, RoomState>();
  for (const room of state.rooms.values()) {
    const next = change(room);
    changed ||= next !== room;
    rooms.set(room.id, next);
  }
  return changed ? { ...state, rooms } : state;
}

function withRoom(state: ChatState, room: RoomState): ChatState {
  if (state.rooms?.get(room.id) === room) return state;
  return withRooms(state, new Map(state.rooms ?? []).set(room.id, room));
}

function withRooms(state: ChatState, rooms: ReadonlyMap<RoomId, RoomState>): ChatState {
  return { ...state, rooms };
}
