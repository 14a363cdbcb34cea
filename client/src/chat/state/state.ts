import type { RoomId } from "@hubbub/server/protocol";
import {
  applyConnection,
  initialConnection,
  type ConnectionEvent,
  type ConnectionState,
} from "./connection.ts";
import { applyDrafts, initialDrafts, type DraftsEvent, type DraftsState } from "./drafts.ts";
import { applyUploads, initialUploads, type UploadsEvent, type UploadsState } from "./files.ts";
import {
  applyNotifications,
  initialNotifications,
  type NotificationsEvent,
  type NotificationsState,
} from "./notifications.ts";
import {
  applyOutgoing,
  initialOutgoing,
  settle,
  settleTold,
  settleSynced,
  type OutgoingEvent,
  type OutgoingState,
} from "./outgoing.ts";
import { applyPeople, initialPeople, type PeopleEvent, type PeopleState } from "./people.ts";
import { applyRooms, initialRooms, type RoomsEvent, type RoomsState } from "./rooms.ts";
import {
  applyThread,
  doubtAhead,
  doubtThread,
  followThread,
  initialThread,
  type ThreadEvent,
  type ThreadState,
} from "./thread.ts";
import { applyTyping, initialTyping, type TypingEvent, type TypingState } from "./typing.ts";
import {
  applyVisit,
  endVisit,
  followVisit,
  initialVisit,
  type VisitEvent,
  type VisitState,
} from "./visit.ts";
import { applySession, initialSession, type SessionEvent, type SessionState } from "./session.ts";

export type ChatState = SessionState &
  ConnectionState &
  PeopleState &
  RoomsState &
  OutgoingState &
  UploadsState &
  DraftsState &
  TypingState &
  VisitState &
  ThreadState &
  NotificationsState;

export const initialState: ChatState = {
  ...initialSession,
  ...initialConnection,
  ...initialPeople,
  ...initialRooms,
  ...initialOutgoing,
  ...initialUploads,
  ...initialDrafts,
  ...initialTyping,
  ...initialVisit,
  ...initialThread,
  ...initialNotifications,
};

export type ChatEvent =
  | SessionEvent
  | ConnectionEvent
  | PeopleEvent
  | RoomsEvent
  | OutgoingEvent
  | UploadsEvent
  | DraftsEvent
  | TypingEvent
  | VisitEvent
  | ThreadEvent
  | NotificationsEvent;

/**
 * The next state; the only place where state changes. Pure and idempotent: applying an event twice has the effect of
 * once. Messages and sync answers may come in any order, and presence diffs before the snapshot that they follow. Each
 * slice handles its own events; this function lists the events that concern several.
 */
export function apply(state: ChatState, event: ChatEvent): ChatState {
  return followThread(followVisit(applyEvent(state, event)));
}

function applyEvent(state: ChatState, event: ChatEvent): ChatState {
  switch (event.type) {
    case "session unreachable":
      return applySession(state, event);
    case "signed in":
      return applyDrafts(applySession(anew(state), event), event);
    case "signed out":
      return applySession(anew(state), event);
    case "me":
      return applyPeople(applySession(state, event), {
        type: "users",
        users: [{ ...event.user, online: true }],
      });

    case "connected":
      return applyTyping(
        applyPeople(applyRooms(applyConnection(doubtAhead(state), event), event), event),
        event,
      );
    case "interrupted":
    case "offline":
    case "online":
    case "return noted":
      return applyConnection(state, event);

    case "users":
    case "presence snapshot":
    case "presence diff":
      return applyPeople(state, event);

    case "page again": {
      const next = applyRooms(state, event);
      const { roomId } = event;
      const isDropped = state.rooms?.get(roomId)?.log !== null && next.rooms?.get(roomId)?.log === null;
      return isDropped ? doubtAround(next, roomId) : next;
    }
    case "newest page":
    case "older page":
      return settle(state, applyRooms(state, event), event.roomId);
    case "restarted":
      // What changed in between is told of the new page alone.
      return settle(state, applyRooms(doubtAround(state, event.roomId), event), event.roomId);
    case "told":
      return settle(state, settleTold(applyRooms(state, event), event.message), event.message.roomId);
    case "message":
      return applyTyping(settle(state, applyRooms(state, event), event.message.roomId), event);
    case "synced": {
      const { roomId, reset, changes } = event.room;
      const isDoubted = reset !== undefined || changes?.reset === true;
      const next = isDoubted ? doubtAround(state, roomId) : state;
      return settleSynced(state, applyRooms(next, event), event.room);
    }
    case "stale":
      return applyRooms(doubtAhead(state), event);
    case "rooms":
    case "room":
    case "room gone":
    case "room changed":
    case "standing":
    case "opened":
    case "opened beside":
    case "loading":
    case "load failed":
    case "changes":
    case "read":
    case "unread":
      return applyRooms(state, event);

    case "visit":
    case "visit over":
    case "visited":
    case "visit missing":
    case "visit loading":
    case "visit load failed":
    case "visit page":
      return applyVisit(state, event);

    case "thread":
    case "thread over":
    case "thread read":
    case "thread missing":
    case "thread loading":
    case "thread load failed":
    case "thread page":
      return applyThread(state, event);

    case "outgoing":
      return applyOutgoing(state, event);
    case "upload":
      return applyUploads(state, event);
    case "typing":
      return applyTyping(state, event);
    case "notifications wanted":
      return applyNotifications(state, event);
    case "draft":
      return applyDrafts(state, event);
    default:
      return event satisfies never;
  }
}

/** What is shown beside a log ends or is read again: the log is another one now, or has changed without a word. */
function doubtAround(state: ChatState, roomId: RoomId): ChatState {
  return doubtThread(endVisit(state, roomId), roomId);
}

/** Of a session that begins or ends nothing is left of what was, but the rooms that the page shows. */
function anew({ session, openRoom, beside, visit, thread }: ChatState): ChatState {
  return {
    ...initialState,
    session,
    openRoom,
    beside,
    visit: visit?.is === "wanted" ? visit : null,
    thread: thread?.is === "wanted" ? thread : null,
  };
}
