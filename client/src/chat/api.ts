import {
  LIMITS,
  type Audience,
  type Credentials,
  type ErrorCode,
  type Failure,
  type Found,
  type Hits,
  type ListedRoom,
  type Me,
  type Message,
  type NewPrivateRoom,
  type NewRoom,
  type NewUser,
  type Notifications,
  type NotifyLevel,
  type Page,
  type Presence,
  type Room,
  type RoomId,
  type RoomPatch,
  type RoomView,
  type UserId,
} from "@hubbub/server/protocol";
import type { World } from "./world.ts";

/**
 * Why a call failed: one of the server's codes, or `unreachable` if no answer came, so that its outcome is unknown.
 */
export class ChatError extends Error {
  readonly code: ErrorCode | "unreachable";
  readonly retryAfterMs: number | undefined;
  /** With `conflict`: the present message. */
  readonly current: Message | undefined;

  constructor(code: ErrorCode | "unreachable", message: string, retryAfterMs?: number, current?: Message) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.current = current;
  }
}

/** How long nothing may come of an answer: a slow line takes longer for the whole of a long one. */
const SILENT_AT_MOST_MS = 15_000;
/** The same for a picture, which a slow line takes a while to carry. */
const SENT_WITHIN_MS = 90_000;

type Query = Record<string, string | number | true | undefined>;

/** A search among messages; `after` and `before` are dates. */
export type Finding = {
  q: string;
  room?: RoomId | undefined;
  from?: UserId | undefined;
  after?: number | undefined;
  before?: number | undefined;
};

export type Call = Api["call"];
export type Api = ReturnType<typeof createApi>;

/**
 * The REST calls. Each resolves with the answer's body or throws a ChatError; none is answered once `over` is aborted.
 * With a user they are refused as `unauthorized` once the browser's cookie is somebody else's.
 */
export function createApi(fetch: World["fetch"], over?: AbortSignal, userId?: UserId) {
  return {
    signUp: (credentials: NewUser) => call<Me>("POST", "/users", credentials),
    logIn: (credentials: Credentials) => call<Me>("POST", "/login", credentials),
    logOut: () => call<null>("POST", "/logout"),
    me: () => call<Me>("GET", "/me"),
    demo: () => call<{ people: Credentials[] }>("GET", "/demo"),
    /** At most LIMITS.userIds ids; the answer leaves out unknown ones. */
    users: (ids: readonly UserId[]) => call<Presence[]>("GET", `/users${queryOf({ ids: ids.join(",") })}`),
    /** A page of users with this text in their name; `after` is the last id of the previous page. */
    findUsers: (q: string, after: UserId | undefined, signal: AbortSignal) =>
      call<Found<Presence>>("GET", `/users${queryOf({ q, after })}`, undefined, signal),
    online: () => call<Presence[]>("GET", "/users/online"),
    rooms: () => call<Room[]>("GET", "/rooms"),
    /** As `findUsers`, for named rooms. */
    findRooms: (q: string, after: RoomId | undefined, signal: AbortSignal) =>
      call<Found<ListedRoom>>("GET", `/rooms/directory${queryOf({ q, after })}`, undefined, signal),
    /** A named room, if it exists. */
    listedRoom: (roomId: RoomId) =>
      call<ListedRoom[]>("GET", `/rooms/directory${queryOf({ after: Number(roomId) - 1, size: 1 })}`),
    createRoom: (room: NewRoom) => call<Room>("POST", "/rooms", room),
    privateRoom: (room: NewPrivateRoom) => call<Room>("POST", "/rooms/private", room),
    notify: (roomId: RoomId, level: NotifyLevel) =>
      call<Room>("PUT", `${roomPath(roomId)}/notifications`, {
        level,
      } satisfies Notifications),
    audience: (roomId: RoomId) => call<Audience>("GET", `${roomPath(roomId)}/audience`),
    /** Sets how this user sees the room. */
    view: (roomId: RoomId, view: RoomView) => call<Room>("PUT", `${roomPath(roomId)}/view`, view),
    /** What mentions this user in their rooms, newest first, before a date. */
    mentions: (before: number | undefined) =>
      call<Page>("GET", `/mentions${queryOf({ before, size: LIMITS.pageDefault })}`),
    /** A page of what was said with a text in it; the cursor of the page before asks for the next. */
    findMessages: (asked: Finding, cursor: string | undefined, signal: AbortSignal) =>
      call<Hits>("GET", `/search${queryOf({ ...asked, cursor })}`, undefined, signal),
    /** The newest page, or one before or after a date, around a message, from a moment on, or of a thread. */
    messages: (
      roomId: RoomId,
      query: {
        before?: number;
        after?: number;
        around?: number;
        at?: number;
        thread?: number;
        threads?: true;
        size?: number;
      },
    ) => call<Page>("GET", `${roomPath(roomId)}/messages${queryOf(query)}`),
    changeRoom: (roomId: RoomId, patch: RoomPatch) => call<Room>("PATCH", roomPath(roomId), patch),
    call,
    /** The messages pinned last, in the order of pinning; the cursor of the page before asks for earlier ones. */
    pins: (roomId: RoomId, cursor: number | undefined) =>
      call<Page>(
        "GET",
        `${roomPath(roomId)}/messages${queryOf({ pinned: "true", cursor, size: LIMITS.pageDefault })}`,
      ),
  };

  /** A Blob is the body itself. */
  async function call<T>(
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    body?: object,
    signal?: AbortSignal,
  ): Promise<T> {
    const patience = startPatience(body instanceof Blob ? SENT_WITHIN_MS : SILENT_AT_MOST_MS);
    let response: Response;
    let answer: unknown;
    try {
      response = await fetch(`/api${path}`, {
        method,
        signal: AbortSignal.any([patience.signal, signal, over].filter((one) => one !== undefined)),
        headers: {
          ...(userId !== undefined && { "X-User-Id": userId }),
          ...(method !== "GET" && !(body instanceof Blob) && { "Content-Type": "application/json" }),
        },
        ...(method !== "GET" && { body: body instanceof Blob ? body : JSON.stringify(body ?? {}) }),
      });
      const text = await textOf(response, () => patience.renew());
      answer = text === "" ? null : response.ok ? JSON.parse(text) : jsonIn(text);
    } catch {
      throw new ChatError("unreachable", "The server does not answer. Check your connection and try again.");
    } finally {
      patience.end();
    }
    if (response.ok) return answer as T;
    throw toChatError(answer, response.status);
  }
}

/** What an answer says, or null: a proxy's own error page is no JSON. */
export function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Aborts what has been silent for so long. */
function startPatience(ms: number) {
  const over = new AbortController();
  const abort = () => over.abort();
  let timer = setTimeout(abort, ms);
  const end = () => clearTimeout(timer);
  return {
    signal: over.signal,
    end,
    renew() {
      end();
      timer = setTimeout(abort, SILENT_AT_MOST_MS);
    },
  };
}

/** The body of an answer; `came` is called for each part of it. */
async function textOf(response: Response, came: () => void): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (reader !== undefined) {
    const { done, value } = await reader.read();
    if (done) break;
    came();
    text += decoder.decode(value, { stream: true });
  }
  return text + decoder.decode();
}

export function roomPath(roomId: RoomId): string {
  return `/rooms/${encodeURIComponent(roomId)}`;
}

/** The query string of an address, without what is undefined; "" if nothing is left. */
export function queryOf(query: Query): string {
  const given = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)]],
  );
  return given.length === 0 ? "" : `?${new URLSearchParams(given).toString()}`;
}

/** A message for people, from any thrown value. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : "Something went wrong.";
}

/** Whether the same call may succeed later: not sooner than after the error's `retryAfterMs`, if it has one. */
export function isPassing(error: unknown): error is ChatError {
  return error instanceof ChatError && ["unreachable", "unavailable", "rate_limited"].includes(error.code);
}

const AGAIN_MS = 2_000;

/** How long to wait before the same call is tried again, in ms. */
export function waitAfter({ retryAfterMs }: ChatError): number {
  return retryAfterMs ?? AGAIN_MS;
}

/**
 * Turns a server's Failure into an error; anything else (a proxy's error page, say) counts as no answer, unless its HTTP
 * status tells that the same request is too large each time.
 */
export function toChatError(failure: unknown, status?: number): ChatError {
  const { code, message, retryAfterMs, current } = (failure ?? {}) as Partial<Failure>;
  if (typeof code !== "string" || typeof message !== "string") {
    if (status === 413)
      return new ChatError("too_large", "Too large: a proxy in front of the server does not let it through.");
    return new ChatError("unreachable", "The server does not answer as it should. Try again in a moment.");
  }
  return new ChatError(code, withoutField(message), retryAfterMs, current);
}

/** Removes the field from "name: too long": programs need it, people see it. */
function withoutField(message: string): string {
  return message.replace(/^\w+: (.)/, (_, first: string) => first.toUpperCase());
}
