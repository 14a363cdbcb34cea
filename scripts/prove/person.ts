import { setTimeout as sleep } from "node:timers/promises";
import { io, type Socket } from "socket.io-client";
import { ChatError, toChatError } from "../../client/src/chat/api.ts";
import { createNonce, createOutbox } from "../../client/src/chat/outbox.ts";
import { firstDoubt, headOf, needsSync } from "../../client/src/chat/state/room.ts";
import { apply, initialState, type ChatEvent, type ChatState } from "../../client/src/chat/state/state.ts";
import { systemClock, type OutboxStore } from "../../client/src/chat/world.ts";
import type {
  ClientEvents,
  Message,
  Page,
  Presence,
  Reply,
  Room,
  RoomId,
  ServerEvents,
  SyncedRoom,
  User,
} from "../../server/src/protocol.ts";
import type { Change, History, Place } from "./history.ts";
import type { Random } from "./random.ts";

const CONNECTED_WITHIN_MS = 8_000;
const ANSWER_WITHIN_MS = 5_000;
const FIRST_RETRY_MS = 1_000;
const SLOWEST_RETRY_MS = 20_000;
const DEAD_AFTER = 2;
const SYNC_FIRST_MS = 50;
const SYNC_SLOWEST_MS = 10_000;
const PAGE = 100;
/** Changed is one of so many of the newest; the share of changes that are of one's own messages, and of deletions. */
const CHANGED_AMONG = 30;
const OWN_CHANGED = 0.5;
const DELETED = 0.15;
const EMOJI = ["👍", "🎉", "😀", "👀"];
const FINAL = ["invalid", "unauthorized", "forbidden", "not_found", "taken", "too_large"];

export type PersonOptions = {
  address: string;
  name: string;
  password: string;
  history: History;
  random: Random;
  /** The username of a user id. */
  nameOf: (id: string) => string;
};

export type Person = ReturnType<typeof createPerson>;

/**
 * Somebody in front of the web client: its own state (`apply`) and outbox, on a connection that follows the same
 * rules as the client's (client/src/chat/socket.ts and chat.ts), which need a browser. Every room is open, as if
 * there were a window for each. Everything that is sent, answered, heard and shown goes into the history.
 */
export function createPerson(options: PersonOptions) {
  const { address, name, history, random, nameOf } = options;
  let state: ChatState = initialState;
  let user: User | undefined;
  let cookie = "";
  let session = name;
  let sessions = 0;

  function dispatch(event: ChatEvent): void {
    state = apply(state, event);
  }

  // --- REST ---

  async function call<T>(method: "GET" | "POST", path: string, body?: object, at = address): Promise<T> {
    let response: Response;
    let answer: unknown;
    try {
      response = await fetch(`${at}/api${path}`, {
        method,
        signal: AbortSignal.timeout(ANSWER_WITHIN_MS * 2),
        headers: {
          origin: at,
          ...(cookie && { cookie }),
          ...(method === "POST" && { "content-type": "application/json" }),
        },
        ...(method === "POST" && { body: JSON.stringify(body ?? {}) }),
      });
      const text = await response.text();
      answer = text === "" ? null : JSON.parse(text);
    } catch {
      throw new ChatError("unreachable", "The server does not answer.");
    }
    for (const set of response.headers.getSetCookie()) cookie = set.split(";")[0] ?? "";
    if (response.ok) return answer as T;
    throw toChatError(answer);
  }

  async function enter(path: "/users" | "/login"): Promise<User> {
    user = await call<User>("POST", path, { username: name, password: options.password });
    session = sessions === 0 ? name : `${name} again ${sessions}`;
    sessions += 1;
    dispatch({ type: "signed in", user, drafts: new Map() });
    return user;
  }

  // --- The connection ---

  type AnySocket = Socket<ServerEvents, ClientEvents>;
  let socket: AnySocket | undefined;
  let wanted = false;
  let connecting = false;
  let attempts = 0;
  let unanswered = 0;
  let retryTimer: NodeJS.Timeout | undefined;
  let socketName = "";
  let connections = 0;
  let diffs = 0;
  let refusedForGood = false;

  function open(at = address): void {
    close();
    const made: AnySocket = io(at, {
      transports: ["websocket"],
      forceNew: true,
      autoConnect: false,
      reconnection: false,
      timeout: CONNECTED_WITHIN_MS,
      extraHeaders: { cookie, origin: at },
    });
    socket = made;
    wanted = true;
    attempts = 0;
    made.on("connect", () => {
      connecting = false;
      attempts = 0;
      unanswered = 0;
      connections += 1;
      socketName = `${session} ${made.id}`;
      history.add({ kind: "socket opened", session, socket: socketName });
      void onConnected(made, connections);
    });
    made.on("disconnect", (reason) => {
      connecting = false;
      history.add({ kind: "socket closed", session, socket: socketName });
      if (!wanted || socket !== made) return;
      dispatch({ type: "interrupted" });
      if (reason === "io server disconnect") void retryIfSession();
      else retry();
    });
    made.on("connect_error", (error: Error & { data?: unknown }) => {
      connecting = false;
      if (!wanted || socket !== made) return;
      const failure = error.data === undefined ? null : toChatError(error.data);
      if (failure?.code === "unauthorized") stop();
      else if (failure === null && attempts > 0) void retryIfSession();
      else retry(failure?.retryAfterMs);
    });
    made.on("message", onMessage);
    made.on("changes", ({ roomId, ...changes }) => {
      dispatch({ type: "changes", roomId, changes });
      const room = state.rooms?.get(roomId);
      if (room && needsSync(room)) syncSoon(roomId);
    });
    for (const event of ["user.connected", "user.disconnected"] as const) {
      made.on(event, (users) => {
        diffs += 1;
        dispatch({ type: "presence diff", users });
      });
    }
    made.on("show.room", (room) => {
      dispatch({ type: "room", room });
      void load(room.id);
    });
    made.on("hide.room", ({ roomId }) => dispatch({ type: "room gone", roomId }));
    made.on("room.read", ({ roomId, read }) => dispatch({ type: "read", roomId, read }));
    made.on("room.stale", ({ roomId }) => {
      dispatch({ type: "stale", roomId });
      syncSoon(roomId);
    });
    connect();
  }

  function connect(): void {
    if (!wanted || connecting || !socket || socket.connected) return;
    clearTimeout(retryTimer);
    connecting = true;
    socket.connect();
    // As the app does: the library waits out its whole timeout if a connection is closed again without a word.
    socket.io.engine.once("close", () => {
      if (!connecting) return;
      connecting = false;
      socket?.disconnect();
      retry();
    });
  }

  function retry(atLeastMs = 0): void {
    if (!wanted || socket?.connected) return;
    clearTimeout(retryTimer);
    const slowest = Math.min(SLOWEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempts);
    attempts += 1;
    retryTimer = setTimeout(connect, atLeastMs + random.next() * slowest);
  }

  async function retryIfSession(): Promise<void> {
    const beganAt = history.now();
    try {
      const me = await call<User>("GET", "/me");
      history.add({ kind: "session used", session, how: "GET /api/me", beganAt });
      if (me.id !== user?.id) return stop();
    } catch (error) {
      if (error instanceof ChatError && error.code === "unauthorized") return stop();
    }
    retry();
  }

  /** The server said that there is no such session. */
  function stop(): void {
    refusedForGood = true;
    close();
  }

  function close(): void {
    wanted = false;
    connecting = false;
    clearTimeout(retryTimer);
    socket?.disconnect();
  }

  /** Sends a request; throws a ChatError. */
  async function request<T>(event: keyof ClientEvents, body: object): Promise<T> {
    const asked = socket;
    if (!asked?.connected) throw new ChatError("unreachable", "You are offline.");
    let reply: Reply<T>;
    try {
      const emitter = asked.timeout(ANSWER_WITHIN_MS) as unknown as {
        emitWithAck(event: string, body: object): Promise<Reply<T>>;
      };
      reply = await emitter.emitWithAck(event, body);
    } catch {
      if (asked.connected && ++unanswered >= DEAD_AFTER) {
        unanswered = 0;
        asked.io.engine.close();
      }
      throw new ChatError("unreachable", "The server does not answer.");
    }
    unanswered = 0;
    if (reply.ok) return reply.value;
    throw toChatError(reply.error);
  }

  async function onConnected(made: AnySocket, connection: number, tries = 0): Promise<void> {
    const current = () => socket === made && connections === connection && made.connected;
    dispatch({ type: "connected" });
    try {
      const [rooms, online] = await Promise.all([
        call<Room[]>("GET", "/rooms"),
        call<Presence[]>("GET", "/users/online"),
      ]);
      if (!current()) return;
      dispatch({ type: "presence snapshot", online });
      // A room that came while the list was on its way is not dropped again.
      for (const room of rooms) dispatch({ type: "room", room });
      dispatch({ type: "online", missed: null });
      outbox.wake();
      await syncRooms(roomIds().filter((id) => logOf(id) !== null));
      for (const id of roomIds()) if (logOf(id) === null) await load(id);
    } catch {
      if (!current()) return;
      await sleep(1_000 + random.next() * 1_000 * 2 ** Math.min(tries, 4));
      if (current()) await onConnected(made, connection, tries + 1);
    }
  }

  // --- Rooms ---

  const roomIds = () => [...(state.rooms?.keys() ?? [])];
  const logOf = (roomId: RoomId) => state.rooms?.get(roomId)?.log ?? null;

  function onMessage(message: Message): void {
    const { roomId, seq, hash, nonce } = message;
    history.add({
      kind: "heard",
      person: name,
      socket: socketName,
      room: roomId,
      seq,
      hash: hash ?? "",
      nonce: nonce ?? "",
    });
    take(message);
  }

  function take(message: Message): void {
    dispatch({ type: "message", message });
    outbox.heard(message);
    const room = state.rooms?.get(message.roomId);
    if (room && needsSync(room)) syncSoon(room.id);
  }

  const loading = new Set<RoomId>();

  async function load(roomId: RoomId): Promise<void> {
    if (logOf(roomId) !== null || loading.has(roomId)) return;
    loading.add(roomId);
    try {
      const page = await call<Page>("GET", `/rooms/${encodeURIComponent(roomId)}/messages?size=${PAGE}`);
      dispatch({ type: "newest page", roomId, page });
      const room = state.rooms?.get(roomId);
      if (room && needsSync(room)) syncSoon(roomId);
    } catch {
      setTimeout(() => void load(roomId), 500).unref();
    } finally {
      loading.delete(roomId);
    }
  }

  const syncing = new Set<RoomId>();

  function syncSoon(roomId: RoomId): void {
    if (syncing.has(roomId)) return;
    syncing.add(roomId);
    void (async () => {
      for (let tries = 0; syncing.has(roomId); tries += 1) {
        const slowest = Math.min(SYNC_SLOWEST_MS, SYNC_FIRST_MS * 2 ** tries);
        await sleep(slowest * (0.5 + random.next() / 2));
        const room = state.rooms?.get(roomId);
        if (!room || !needsSync(room) || !socket?.connected) break;
        await syncRooms([roomId]).catch(() => {});
      }
      syncing.delete(roomId);
    })();
  }

  async function syncRooms(ids: RoomId[]): Promise<void> {
    let left = ids;
    while (left.length > 0) {
      const rooms = left.flatMap((id) => {
        const room = state.rooms?.get(id);
        const head = room && headOf(room);
        return room
          ? [
              {
                roomId: id,
                seq: head?.seq ?? 0,
                date: head?.date ?? 0,
                ...(head?.hash !== undefined && { hash: head.hash }),
                rev: room.rev,
                revHash: room.revHash,
              },
            ]
          : [];
      });
      const answer = await request<{ rooms: SyncedRoom[] }>("sync", { rooms });
      left = [];
      for (const synced of answer.rooms) {
        const { roomId, reset, messages, more } = synced;
        if (reset) history.add({ kind: "reset", person: name, room: roomId, reason: reset });
        dispatch({ type: "synced", room: synced });
        for (const message of messages) outbox.heard(message);
        const room = state.rooms?.get(roomId);
        if (room && firstDoubt(room)) void readAgain(roomId);
        if (more && reset === undefined && room) left.push(roomId);
        else if (room?.log && !room.stale) {
          const anew = reset === "ahead" || reset === "rewound";
          const first = room.log.messages[0];
          outbox.compare(roomId, [...room.log.messages, ...room.held], anew ? 0 : (first?.seq ?? 1));
        }
      }
    }
  }

  const rereading = new Set<RoomId>();

  /** As the client does where nobody can tell any more what changed. */
  async function readAgain(roomId: RoomId): Promise<void> {
    if (rereading.has(roomId)) return;
    rereading.add(roomId);
    for (;;) {
      const room = state.rooms?.get(roomId);
      const doubt = room === undefined ? null : firstDoubt(room);
      if (doubt === null) break;
      const before = doubt.next === undefined ? "" : `&before=${doubt.next.date}`;
      const path = `/rooms/${encodeURIComponent(roomId)}/messages?size=${PAGE}${before}`;
      try {
        const known = room?.rev ?? 0;
        const page = await call<Page>("GET", path);
        // From a Redis that is not the master any more, say.
        if ((page.rev ?? 0) < known) throw new Error("an old page");
        dispatch({ type: "page again", roomId, page, before: doubt.next?.seq });
      } catch {
        await sleep(500 + random.next() * 500);
      }
    }
    rereading.delete(roomId);
  }

  // --- Sending ---

  const known = new Set<string>();
  const waiting = new Set<string>();
  const failed = new Set<string>();

  const outbox = createOutbox({
    store: NO_STORE,
    clock: systemClock,
    refused: () => {},
    shared: () => {},
    random: random.next,
    ready: () => socket?.connected ?? false,
    sent: take,
    changed(entries) {
      const now = new Set(entries.map(({ nonce }) => nonce));
      for (const entry of entries) {
        const { nonce, roomId: room } = entry;
        if (!known.has(nonce)) history.add({ kind: "submitted", person: name, room, nonce });
        else if (!waiting.has(nonce)) history.add({ kind: "offered again", person: name, room, nonce });
        known.add(nonce);
        if (entry.state !== "failed" || failed.has(nonce)) continue;
        failed.add(nonce);
        history.add({ kind: "shown failed", person: name, room, nonce, code: entry.failure.code });
      }
      waiting.clear();
      for (const nonce of now) waiting.add(nonce);
      dispatch({ type: "outgoing", entries });
    },
    send: ({ roomId, message, nonce }) => attempt(roomId, message, nonce),
  });
  outbox.lead(true);

  /** Sends once and writes down what came of it. */
  async function attempt(room: RoomId, message: string, nonce: string): Promise<Message> {
    history.add({ kind: "sent", person: name, room, nonce });
    try {
      const stored = await request<Message>("message", { roomId: room, message, nonce });
      const { seq, hash } = stored;
      history.add({ kind: "acknowledged", person: name, room, nonce, seq, hash });
      return stored;
    } catch (error) {
      const code = error instanceof ChatError ? error.code : "unreachable";
      if (code === "unreachable") history.add({ kind: "unknown", person: name, room, nonce });
      else history.add({ kind: "refused", person: name, room, nonce, code, final: FINAL.includes(code) });
      throw error;
    }
  }

  let changes = 0;

  /** Edits, deletes or reacts to one of the room's last messages, once, and writes down what came of it. */
  async function changeOne(room: RoomId): Promise<void> {
    const shown = (logOf(room)?.messages ?? [])
      .filter(({ deleted }) => deleted === undefined)
      .slice(-CHANGED_AMONG);
    const own = shown.filter(({ from }) => from === user?.id);
    const chance = random.next();
    const target = chance < OWN_CHANGED && own.length > 0 ? random.pick(own) : random.pick(shown);
    if (target === undefined) return;
    const { seq, hash, message } = target;
    const change: Change =
      target.from !== user?.id || chance >= OWN_CHANGED
        ? { is: "react", emoji: random.pick(EMOJI), on: random.next() < 0.7 }
        : chance < DELETED
          ? { is: "delete" }
          : { is: "edit", text: `${message.split(" (v")[0]} (v${changes})` };
    changes += 1;
    const id = history.lines.length;
    history.add({ kind: "change sent", person: name, room, seq, hash, id, change });
    try {
      const now = await request<Message>(...askFor(change, { ...target, roomId: room }));
      history.add({ kind: "change acknowledged", id, rev: now.rev ?? 0 });
    } catch (error) {
      const code = error instanceof ChatError ? error.code : "unreachable";
      if (code !== "unreachable") history.add({ kind: "change refused", id, code });
    }
  }

  const marks = new Map<RoomId, { tried: number; acknowledged: number }>();

  return {
    name,
    get user(): User {
      if (!user) throw new Error(`${name} is not signed in`);
      return user;
    },
    get session() {
      return session;
    },
    get cookie() {
      return cookie;
    },
    /** Takes another browser's session over: a further window of the same person. */
    adopt(other: { user: User; cookie: string; session: string }): void {
      ({ user, cookie, session } = other);
      dispatch({ type: "signed in", user, drafts: new Map() });
    },
    /** Makes a request with this cookie, and notes whether it was served in the session's name. */
    async probe(path: string, used = cookie): Promise<void> {
      const beganAt = history.now();
      const headers = { origin: address, cookie: used };
      const response = await fetch(`${address}/api${path}`, { headers }).catch(() => undefined);
      await response?.arrayBuffer().catch(() => undefined);
      if (response?.ok) history.add({ kind: "session used", session, how: `GET /api${path}`, beganAt });
    },
    signUp: () => enter("/users"),
    logIn: () => enter("/login"),
    call,
    request,
    open,
    close,
    connect,
    outbox,
    attempt,
    /** Cuts the connection without a word; the client notices and comes back by itself. */
    drop(): void {
      socket?.io.engine?.close();
    },
    /** The WebSocket below, for those that do worse to it. */
    socket: () => socket,
    load,
    syncRooms,
    get state() {
      return state;
    },
    get connected() {
      return socket?.connected ?? false;
    },
    /** The server ended the session, and the client has given up. */
    get refused() {
      return refusedForGood;
    },
    get wanted() {
      return wanted;
    },
    get connections() {
      return connections;
    },
    get diffs() {
      return diffs;
    },
    /** Messages that are neither stored nor refused yet, as the client sees it. */
    get pending() {
      return state.outgoing.filter((entry) => entry.state !== "failed").length;
    },
    roomIds,
    /** Marks a room as read up to what is shown. */
    async markRead(roomId: RoomId): Promise<void> {
      const seq = logOf(roomId)?.head ?? 0;
      if (seq === 0) return;
      const mark = marks.get(roomId) ?? { tried: 0, acknowledged: 0 };
      marks.set(roomId, mark);
      mark.tried = Math.max(mark.tried, seq);
      try {
        await request("room.read", { roomId, seq });
        mark.acknowledged = Math.max(mark.acknowledged, seq);
      } catch {
        // It may have moved.
      }
    },
    changeOne,
    markOf: (roomId: RoomId) => marks.get(roomId) ?? { tried: 0, acknowledged: 0 },
    /** seq and hash of the newest message shown without a hole. */
    head(roomId: RoomId): { seq: number; hash: string; rev: number; settled: boolean } {
      const room = state.rooms?.get(roomId);
      const head = room && headOf(room);
      return {
        seq: room?.log?.head ?? -1,
        hash: head?.hash ?? "",
        rev: room?.rev ?? -1,
        settled:
          room !== undefined && !needsSync(room) && firstDoubt(room) === null && room.seq === room.log?.head,
      };
    },
    view(roomId: RoomId): Place[] {
      return (logOf(roomId)?.messages ?? []).map((message) => toPlace(message, nameOf));
    },
    /** Usernames that this person is told are online. */
    online: () => [...state.users.values()].filter((one) => one.online).map((one) => one.username),
  };
}

export function toPlace(message: Message, nameOf: (id: string) => string): Place {
  const { seq, date, hash, from, nonce = "" } = message;
  const { edited, editRev, deleted, pinned, rev } = message;
  const reactions = message.reactions?.map(([emoji, ids]) => [emoji, ids.map(nameOf)]);
  const now = JSON.stringify({ message: message.message, edited, editRev, deleted, pinned, reactions, rev });
  return { seq, date, hash, from: nameOf(from), nonce, now };
}

function askFor(change: Change, { roomId, seq, rev = 0 }: Message): [keyof ClientEvents, object] {
  const target = { roomId, seq };
  if (change.is === "delete") return ["message.delete", target];
  if (change.is === "react") return ["message.react", { ...target, emoji: change.emoji, on: change.on }];
  return ["message.edit", { ...target, message: change.text, rev, nonce: createNonce() }];
}

/** The store of a page that is never left. */
const NO_STORE: OutboxStore = {
  all: () => Promise.resolve(null),
  put: () => Promise.resolve(),
  remove: () => Promise.resolve(),
  clear: () => Promise.resolve(),
};
