import type {
  Changes,
  Message,
  Page,
  Room,
  RoomId,
  ServerEvents,
  Standing,
  SyncedRoom,
  UserId,
} from "@hubbub/server/protocol";
import {
  catchUp,
  countMentions,
  takeChanges,
  distrust,
  hear,
  meet,
  noteMentions,
  prepend,
  readAgain,
  readUpTo,
  restart,
  settingsOf,
  shorten,
  takeNewest,
  tell,
  unreadAfter,
  type RoomState,
} from "./room.ts";
import type { SessionState } from "./session.ts";

export type RoomsState = {
  /** null until the first list has come. */
  rooms: ReadonlyMap<RoomId, RoomState> | null;
  openRoom: RoomId | null;
  /** Rooms shown beside the open one, on a page with space for several. */
  beside: readonly RoomId[];
};

export const initialRooms: RoomsState = { rooms: null, openRoom: null, beside: [] };

type RoomChanged = Parameters<ServerEvents["room.changed"]>[0];

export type RoomsEvent =
  | { type: "rooms"; rooms: readonly Room[] }
  | { type: "room"; room: Room }
  | { type: "room gone"; roomId: RoomId }
  | { type: "room changed"; room: RoomChanged }
  | { type: "standing"; roomId: RoomId; standing: Standing }
  | { type: "opened"; roomId: RoomId | null }
  | { type: "opened beside"; roomIds: readonly RoomId[] }
  | { type: "loading"; roomId: RoomId }
  | { type: "load failed"; roomId: RoomId }
  | { type: "newest page"; roomId: RoomId; page: Page }
  /** `before`: the seq of the message before which it was asked for. */
  | { type: "older page"; roomId: RoomId; page: Page; before: number }
  /** The newest page for a loaded log that is far behind. */
  | { type: "restarted"; roomId: RoomId; page: Page }
  /** `doubted`: the seq of the message because of which the page was read. */
  | { type: "page again"; roomId: RoomId; page: Page; doubted: number }
  /** A message that the connection heard. */
  | { type: "message"; message: Message }
  /** A message that an answer told of, as it is now. */
  | { type: "told"; message: Message }
  | { type: "changes"; roomId: RoomId; changes: Changes }
  /** The answer to a `sync` that was sent after the last doubt. */
  | { type: "synced"; room: SyncedRoom }
  | { type: "stale"; roomId: RoomId }
  | { type: "read"; roomId: RoomId; read: number }
  | { type: "unread"; roomId: RoomId; read: number };

export function applyRooms<S extends RoomsState & SessionState>(
  state: S,
  event: RoomsEvent | { type: "connected" },
): S {
  switch (event.type) {
    case "connected":
      // Held messages came over another connection, perhaps of a log that was lost since; new ones may be of another
      // log than the loaded one. Nothing joins it before `sync` has compared the two.
      return mapRooms(state, distrust);
    case "rooms":
      return { ...state, rooms: new Map(event.rooms.map((room) => [room.id, met(state, room)])) };
    case "room":
      return withRoom(state, met(state, event.room));
    case "room gone":
      return without(state, event.roomId);
    case "room changed": {
      const { roomId, kind, name, ...settings } = event.room;
      return mapRoom(state, roomId, (room) => ({
        ...room,
        kind,
        names: kind === "direct" ? room.names : [name],
        settings: settingsOf(settings),
      }));
    }
    case "standing":
      return mapRoom(state, event.roomId, (room) => ({ ...room, standing: event.standing }));
    case "opened":
      if (state.openRoom === event.roomId) return state;
      return show(state, { openRoom: event.roomId });
    case "opened beside":
      return show(state, { beside: event.roomIds });
    case "loading":
      return mapRoom(state, event.roomId, (room) => ({ ...room, load: "loading" }));
    case "load failed":
      return mapRoom(state, event.roomId, (room) => ({ ...room, load: "failed" }));
    case "newest page":
      return mapRoom(state, event.roomId, (room) => counted(state, takeNewest(room, event.page)));
    case "older page":
      return mapRoom(state, event.roomId, (room) => counted(state, prepend(room, event.page, event.before)));
    case "restarted":
      return mapRoom(state, event.roomId, (room) =>
        noted(state, restart(room, event.page), event.page.messages),
      );
    case "page again":
      return mapRoom(state, event.roomId, (room) =>
        counted(state, readAgain(room, event.page, event.doubted)),
      );
    case "changes":
      return mapRoom(state, event.roomId, (room) =>
        noted(state, takeChanges(room, event.changes), event.changes.messages, room),
      );
    case "message":
    case "told":
      return mapRoom(state, event.message.roomId, (room) => {
        const added = event.type === "message" ? hear(room, event.message) : tell(room, event.message);
        const heard = noted(state, added, [event.message]);
        const mine = state.session.is === "signed in" && event.message.from === state.session.user.id;
        // A sender has seen the messages above; whoever edits an earlier message may have marked it as unread.
        const isNew = event.type === "message" || event.message.seq > room.seq;
        return mine && isNew ? readUpTo(heard, event.message.seq) : heard;
      });
    case "synced":
      if (event.room.notFound) return without(state, event.room.roomId);
      return mapRoom(state, event.room.roomId, (room) =>
        // In another log it is another message that is newest.
        counted(
          state,
          noted(state, catchUp(event.room.reset ? { ...room, hiddenAt: null } : room, event.room), [
            ...event.room.messages,
            ...(event.room.changes?.messages ?? []),
          ]),
        ),
      );
    case "stale":
      // Messages before this event belong to the lost log, those after it to the present one.
      return mapRoom(state, event.roomId, distrust);
    case "read":
      return mapRoom(state, event.roomId, (room) => {
        // No mark is beyond the newest message: another window has read what this one has not heard yet.
        const known = event.read > room.seq ? { ...room, seq: event.read } : room;
        return counted(state, readUpTo(known, event.read));
      });
    case "unread":
      return mapRoom(state, event.roomId, (room) => counted(state, unreadAfter(room, event.read)));
    default:
      return event satisfies never;
  }
}

/** The rooms on the screen. */
export function shownRooms({ openRoom, beside }: RoomsState): RoomId[] {
  return [...new Set(openRoom === null ? beside : [openRoom, ...beside])];
}

/** Rooms that are not shown may stay in doubt until they are. */
export function isShown(state: RoomsState, roomId: RoomId): boolean {
  return state.openRoom === roomId || state.beside.includes(roomId);
}

/** The other user of a private room; null for any other room. */
export function partnerOf(room: RoomState, me: UserId): UserId | null {
  return room.userIds.find((id) => id !== me) ?? null;
}

/** The private room with somebody, if it is in the list. */
export function directRoomWith({ rooms }: RoomsState, userId: UserId, me: UserId): RoomId | undefined {
  return [...(rooms?.values() ?? [])].find((room) => partnerOf(room, me) === userId)?.id;
}

/** The room to start in: the one that everybody is in. */
export function firstRoom({ rooms }: RoomsState): RoomId | null {
  const all = [...(rooms?.values() ?? [])];
  return (all.find(({ kind }) => kind === "everyone") ?? all[0])?.id ?? null;
}

function show<S extends RoomsState>(state: S, rooms: Partial<Pick<S, "openRoom" | "beside">>): S {
  const next = { ...state, ...rooms };
  return mapRooms(next, (room) =>
    isShown(state, room.id) && !isShown(next, room.id) ? shorten(room) : room,
  );
}

function mapRoom<S extends RoomsState>(state: S, roomId: RoomId, change: (room: RoomState) => RoomState): S {
  const room = state.rooms?.get(roomId);
  return room === undefined ? state : withRoom(state, change(room));
}

function mapRooms<S extends RoomsState>(state: S, change: (room: RoomState) => RoomState): S {
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

function withRoom<S extends RoomsState>(state: S, room: RoomState): S {
  if (state.rooms?.get(room.id) === room) return state;
  return { ...state, rooms: new Map(state.rooms ?? []).set(room.id, room) };
}

function without<S extends RoomsState>(state: S, roomId: RoomId): S {
  if (!state.rooms?.has(roomId)) return state;
  const rooms = new Map(state.rooms);
  rooms.delete(roomId);
  return { ...state, rooms };
}

function noted(
  { session }: SessionState,
  room: RoomState,
  messages: readonly Message[],
  before?: RoomState,
): RoomState {
  return session.is === "signed in" ? noteMentions(room, session.user.id, messages, before) : room;
}

function counted({ session }: SessionState, room: RoomState): RoomState {
  return session.is === "signed in" ? countMentions(room, session.user.id) : room;
}

function met(state: RoomsState & SessionState, room: Room): RoomState {
  return counted(state, meet(state.rooms?.get(room.id), room));
}
