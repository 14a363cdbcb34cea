import { LIMITS, type Message, type Room, type RoomId, type UserId } from "@hubbub/server/protocol";
import { api, ChatError } from "./api.ts";
import { createDrafts, openDraftStore, type Drafts, type Slot } from "./drafts.ts";
import { createOutbox, joinTabs, openOutboxStore, type Outbox } from "./outbox.ts";
import { createSocket, type ChatSocket } from "./socket.ts";
import { isUnderWay, type Outgoing } from "./state/outgoing.ts";
import { headOf, needsSync, unreadOf, type RoomState } from "./state/room.ts";
import { apply, initialState, type ChatEvent, type ChatState } from "./state/state.ts";

/** Trouble shorter than this is not shown. */
const TROUBLE_SHOWN_AFTER_MS = 2_000;
/** The first connection comes after the rooms are shown, over the same line. */
const CONNECTING_SHOWN_AFTER_MS = 4_000;
const RETURN_SHOWN_FOR_MS = 5_000;
/** Listeners hear of changes at most once in this time, and of the first one at once. */
const FRAME_MS = 50;
const READ_AFTER_MS = 300;
const LEARN_AFTER_MS = 30;
const SYNC_FIRST_MS = 50;
const SYNC_SLOWEST_MS = 10_000;
/** Missed by more than this, a room starts anew from its newest page instead of catching up. */
const CATCH_UP_MOST = 1_000;

type SignedIn = {
  outbox: Outbox;
  socket: ChatSocket;
  tabs: ReturnType<typeof joinTabs>;
  otherTabs: BroadcastChannel;
  drafts: Drafts;
  /** Set while this tab, or another one, logs out, and when that was tried without an answer. */
  leaving: "here" | "elsewhere" | "tried" | null;
  reads: Map<RoomId, number>;
};

export type ChatClient = ReturnType<typeof createChatClient>;

/**
 * The whole chat as one object without a face: `snapshot` is its state, `subscribe` tells of changes, the rest
 * are a person's intents. Intents that can be refused throw a ChatError. Nothing happens before `start`.
 */
export function createChatClient() {
  let state: ChatState = initialState;
  let signedIn: SignedIn | null = null;
  const listeners = new Set<() => void>();

  // --- State and its listeners ---

  let lastTold = 0;
  let telling: ReturnType<typeof setTimeout> | undefined;

  function dispatch(event: ChatEvent) {
    const before = state;
    state = apply(state, event);
    if (state === before) return;
    // Whoever shows something of a session must not look at its state when it is over.
    if (state.session !== before.session) {
      clearTimeout(telling);
      tell();
      return;
    }
    if (telling !== undefined) return;
    const wait = lastTold + FRAME_MS - performance.now();
    if (wait <= 0) tell();
    else telling = setTimeout(tell, wait);
  }

  function tell() {
    telling = undefined;
    lastTold = performance.now();
    for (const listener of listeners) listener();
  }

  // --- The session ---

  async function start(): Promise<void> {
    for (let attempts = 0; ; attempts++) {
      try {
        enter(await api.me());
        return;
      } catch (error) {
        if (error instanceof ChatError && error.code === "unauthorized") {
          dispatch({ type: "signed out", reason: null });
          return;
        }
        dispatch({ type: "session unreachable" });
        await new Promise((resolve) =>
          setTimeout(resolve, 1_000 + Math.random() * Math.min(10_000, 1_000 * 2 ** attempts)),
        );
      }
    }
  }

  function enter(user: { id: UserId; username: string }) {
    leave();
    const drafts = createDrafts(user.id, openDraftStore(), (slot, text) => {
      if (signedIn !== null) dispatch({ type: "draft", slot, text });
    });
    dispatch({ type: "signed in", user, drafts: drafts.texts() });
    dispatch({ type: "users", users: [{ ...user, online: true }] });

    const socket = createSocket(
      {
        connected: () => void onConnected(),
        disconnected: onDisconnected,
        unauthorized: onSessionEnded,
        message: onMessage,
        "user.connected": (users) => dispatch({ type: "presence diff", users }),
        "user.disconnected": (users) => dispatch({ type: "presence diff", users }),
        "show.room": (room) => showRoom(room),
        "hide.room": ({ roomId }) => hideRoom(roomId),
        "room.read": ({ roomId, read }) => dispatch({ type: "read", roomId, read }),
        "room.stale": ({ roomId }) => {
          dispatch({ type: "stale", roomId });
          syncSoon(roomId);
        },
      },
      async () => {
        try {
          return (await api.me()).id === user.id;
        } catch (error) {
          return !(error instanceof ChatError && error.code === "unauthorized");
        }
      },
    );

    const otherTabs = new BroadcastChannel(`hubbub outbox ${user.id}`);
    const outbox = createOutbox({
      store: openOutboxStore(user.id),
      ready: () => socket.connected,
      send: ({ roomId, message, nonce }) => socket.request("message", { roomId, message, nonce }),
      sent: (message) => onMessage(message),
      shared: () => tellOtherTabs("changed"),
      changed: (entries) => dispatch({ type: "outgoing", entries }),
    });
    otherTabs.addEventListener("message", ({ data }) => onOtherTab(data));
    const tabs = joinTabs(user.id, (leads) => outbox.lead(leads));
    signedIn = { outbox, socket, tabs, otherTabs, drafts, leaving: null, reads: new Map() };
    void outbox.load();

    troubleTimer = setTimeout(() => dispatch({ type: "offline" }), CONNECTING_SHOWN_AFTER_MS);
    socket.open();
    void showRooms(signedIn);
    globalThis.addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
    globalThis.addEventListener("focus", drafts.refresh);
    globalThis.addEventListener("pageshow", drafts.refresh);
  }

  function leave() {
    if (signedIn === null) return;
    globalThis.removeEventListener("online", hurry);
    document.removeEventListener("visibilitychange", hurry);
    globalThis.removeEventListener("focus", signedIn.drafts.refresh);
    globalThis.removeEventListener("pageshow", signedIn.drafts.refresh);
    clearTimeout(troubleTimer);
    signedIn.socket.close();
    signedIn.outbox.close();
    signedIn.tabs.leave();
    signedIn.otherTabs.close();
    signedIn.drafts.close();
    signedIn = null;
    syncs.clear();
    asked.clear();
    toLearn.clear();
    unreadBefore = null;
  }

  function signOut(reason: string | null) {
    leave();
    dispatch({ type: "signed out", reason });
  }

  /** The session is over, here or for all tabs. Who has not logged out finds what they typed when they come back. */
  function onSessionEnded() {
    // `logOut` goes on when its answer comes.
    if (signedIn === null || signedIn.leaving === "here") return;
    const ended = signedIn;
    signOut("Your session has ended. Please log in again.");
    if (ended.leaving !== null) void forget(ended);
  }

  async function forget({ outbox, drafts }: SignedIn): Promise<void> {
    drafts.clear();
    await outbox.clear();
  }

  async function logOut(): Promise<void> {
    const here = signedIn;
    if (here === null) return;
    here.leaving = "here";
    tellOtherTabs("leaving");
    try {
      await api.logOut();
    } catch (error) {
      // Whether the session is over is not known.
      here.leaving = "tried";
      tellOtherTabs("staying");
      throw error;
    }
    tellOtherTabs("left");
    await forget(here);
    signOut(null);
  }

  type TabWord = "changed" | "leaving" | "staying" | "left";

  function tellOtherTabs(word: TabWord) {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel has no origin to aim at
    signedIn?.otherTabs.postMessage(word);
  }

  function onOtherTab(word: TabWord) {
    if (signedIn === null) return;
    switch (word) {
      case "leaving":
        signedIn.leaving ??= "elsewhere";
        return;
      case "staying":
        if (signedIn.leaving === "elsewhere") signedIn.leaving = null;
        return;
      case "left":
        signedIn.leaving = "elsewhere";
        onSessionEnded();
        return;
      case "changed":
        void signedIn.outbox.load();
        return;
      default:
        word satisfies never;
    }
  }

  // --- The connection ---

  let troubleTimer: ReturnType<typeof setTimeout> | undefined;
  let unreadBefore: number | null = null;
  let changedRooms = 0;

  function hurry() {
    if (document.visibilityState !== "visible" || signedIn === null) return;
    signedIn.drafts.refresh();
    // The tab that leads may be asleep; this one is looked at.
    if (state.outgoing.some(isUnderWay)) signedIn.tabs.claim();
    if (!signedIn.socket.connected) {
      signedIn.socket.hurry();
      return;
    }
    // A connection may have died while this machine slept; asking finds out, and fills what is missing.
    const ask = () => syncRooms(roomsWith((room) => room.log !== null));
    void ask()
      .catch(ask)
      .catch(() => {});
  }

  function onDisconnected() {
    if (state.connection === "online") unreadBefore = totalUnread();
    dispatch({ type: "interrupted" });
    clearTimeout(troubleTimer);
    troubleTimer = setTimeout(() => dispatch({ type: "offline" }), TROUBLE_SHOWN_AFTER_MS);
  }

  /** At the start: what is stored is shown before, or even without, a connection. */
  async function showRooms(here: SignedIn): Promise<void> {
    try {
      const rooms = await listRooms();
      if (signedIn !== here || state.rooms !== null) return;
      dispatch({ type: "rooms", rooms });
      if (state.openRoom !== null && state.rooms !== null) await loadIfNew(state.openRoom);
    } catch {
      // The connection's own round asks again.
    }
  }

  /** After each connect: what is stored is asked for anew, while live events are heard already. */
  async function onConnected(attempts = 0): Promise<void> {
    const here = signedIn;
    if (here === null) return;
    dispatch({ type: "connected" });
    // What was read without a connection is not to be taken off what came in meanwhile.
    if (unreadBefore !== null) unreadBefore = Math.min(unreadBefore, totalUnread());
    const current = () => signedIn === here && here.socket.connected;
    try {
      // Answered once the connection hears its rooms: nothing can fall between the list and what is heard.
      await here.socket.request("sync", { rooms: [] });
      const [rooms, online] = await Promise.all([listRooms(), api.online()]);
      if (!current()) return;
      dispatch({ type: "presence snapshot", online });
      const wasShown = state.connection === "offline" && unreadBefore !== null;
      dispatch({ type: "rooms", rooms });
      learn(rooms.flatMap((room) => (room.last === null ? [] : [room.last.from])));
      const missed = wasShown ? Math.max(0, totalUnread() - (unreadBefore ?? 0)) : null;
      unreadBefore = null;
      clearTimeout(troubleTimer);
      dispatch({ type: "online", missed });
      if (missed !== null) setTimeout(() => dispatch({ type: "return noted" }), RETURN_SHOWN_FOR_MS);
      here.outbox.wake();
      for (const [roomId, seq] of here.reads) void sendRead(roomId, seq);
      await syncRooms(roomsWith((room) => room.log !== null));
      if (state.openRoom !== null) await loadIfNew(state.openRoom);
      // What an earlier life of this page has sent may have been lost since.
      await here.outbox.load();
      for (const roomId of here.outbox.keptRooms()) {
        await loadIfNew(roomId);
        const room = state.rooms?.get(roomId);
        if (current() && room !== undefined) offerLost(room);
      }
    } catch {
      if (!current()) return;
      // Up, but not able to answer yet. The connection stays, for what arrives is still good, and so is what is sent.
      here.outbox.wake();
      await new Promise((resolve) =>
        setTimeout(resolve, 1_000 + Math.random() * 1_000 * 2 ** Math.min(attempts, 4)),
      );
      if (current()) await onConnected(attempts + 1);
    }
  }

  /** The list of rooms, asked for again if one came or went while it was on its way. */
  async function listRooms(): Promise<Room[]> {
    for (;;) {
      const before = changedRooms;
      const rooms = await api.rooms();
      if (before === changedRooms) return rooms;
    }
  }

  function totalUnread(): number {
    let total = 0;
    for (const room of state.rooms?.values() ?? []) total += unreadOf(room);
    return total;
  }

  // --- What is heard ---

  function onMessage(message: Message) {
    dispatch({ type: "message", message });
    signedIn?.outbox.heard(message);
    learn([message.from]);
    if (message.roomId === watched) markRead(message.roomId);
    const room = state.rooms?.get(message.roomId);
    if (room !== undefined && needsSync(room)) syncSoon(room.id);
  }

  function showRoom(room: Room) {
    changedRooms++;
    dispatch({ type: "room", room });
    if (room.last !== null) learn([room.last.from]);
  }

  function hideRoom(roomId: RoomId) {
    changedRooms++;
    dispatch({ type: "room gone", roomId });
  }

  const syncs = new Map<RoomId, number>();

  /** Fills a room's gap after a moment; a room that stays incomplete is asked for ever more seldom. */
  function syncSoon(roomId: RoomId) {
    if (syncs.has(roomId)) return;
    syncs.set(roomId, 0);
    void (async () => {
      for (let attempts = 0; syncs.has(roomId); attempts++) {
        const slowest = Math.min(SYNC_SLOWEST_MS, SYNC_FIRST_MS * 2 ** attempts);
        await new Promise((resolve) => setTimeout(resolve, slowest * (0.5 + Math.random() / 2)));
        const room = state.rooms?.get(roomId);
        if (room === undefined || !needsSync(room) || !signedIn?.socket.connected) break;
        await syncRooms([room]).catch(() => {});
      }
      syncs.delete(roomId);
    })();
  }

  function roomsWith(test: (room: RoomState) => boolean): RoomState[] {
    return [...(state.rooms?.values() ?? [])].filter(test);
  }

  async function syncRooms(rooms: readonly RoomState[]): Promise<void> {
    const here = signedIn;
    if (here === null) return;
    let left = rooms.filter((room) => room.log !== null);
    const far = left.filter((room) => room.seq - (room.log?.head ?? 0) > CATCH_UP_MOST);
    for (const room of far) {
      const page = await api.messages(room.id, { size: LIMITS.pageDefault });
      dispatch({ type: "synced", room: { ...page, roomId: room.id, reset: "trimmed" } });
    }
    left = left.filter((room) => !far.includes(room));
    while (left.length > 0) {
      const chunk = left.slice(0, LIMITS.syncRooms);
      const answer = await here.socket.request("sync", { rooms: chunk.map(cursorOf) });
      const unfinished: RoomState[] = [];
      for (const synced of answer.rooms) {
        dispatch({ type: "synced", room: synced });
        if (synced.roomId === watched) markRead(watched);
        for (const message of synced.messages) here.outbox.heard(message);
        learn(synced.messages.map((message) => message.from));
        const room = state.rooms?.get(synced.roomId);
        if (room === undefined) continue;
        if (synced.more && synced.reset === undefined) unfinished.push(room);
        else offerLost(room, synced.reset === "ahead" || synced.reset === "rewound");
      }
      left = [...left.slice(LIMITS.syncRooms), ...unfinished];
    }
  }

  /**
   * Offers again what this user has lately sent and the room's log does not have. `anew`: the log is another one,
   * and its page may be full of what others have offered before us; what is still stored is not stored twice.
   */
  function offerLost({ id, log, held, stale }: RoomState, anew = false) {
    if (log === null || stale) return;
    const [first] = log.messages;
    signedIn?.outbox.compare(id, [...log.messages, ...held], anew ? 0 : (first?.seq ?? 1));
  }

  // --- Messages ---

  async function loadIfNew(roomId: RoomId): Promise<void> {
    const room = state.rooms?.get(roomId);
    if (room !== undefined && room.log === null && room.load !== "loading") await loadNewest(roomId);
  }

  async function loadNewest(roomId: RoomId): Promise<void> {
    dispatch({ type: "loading", roomId });
    try {
      const page = await api.messages(roomId, { size: LIMITS.pageDefault });
      dispatch({ type: "newest page", roomId, page });
      if (roomId === watched) markRead(roomId);
      learn(page.messages.map((message) => message.from));
      const room = state.rooms?.get(roomId);
      if (room === undefined) return;
      offerLost(room);
      if (needsSync(room)) syncSoon(roomId);
    } catch {
      dispatch({ type: "load failed", roomId });
    }
  }

  async function loadOlder(roomId: RoomId): Promise<void> {
    const room = state.rooms?.get(roomId);
    const first = room?.log?.messages[0];
    if (room === undefined || room.load === "loading" || first === undefined || !room.log?.older) return;
    dispatch({ type: "loading", roomId });
    try {
      const page = await api.messages(roomId, { before: first.date, size: LIMITS.page });
      dispatch({ type: "older page", roomId, page });
      learn(page.messages.map((message) => message.from));
    } catch {
      dispatch({ type: "load failed", roomId });
    }
  }

  let watched: RoomId | null = null;

  /** What comes into this room is being read as it comes. null: nobody is looking. */
  function watch(roomId: RoomId | null) {
    watched = roomId;
    if (roomId !== null) markRead(roomId);
  }

  const readTimers = new Map<RoomId, ReturnType<typeof setTimeout>>();

  function markRead(roomId: RoomId) {
    const room = state.rooms?.get(roomId);
    if (room === undefined || signedIn === null || unreadOf(room) === 0) return;
    dispatch({ type: "read", roomId, read: room.seq });
    signedIn.reads.set(roomId, room.seq);
    clearTimeout(readTimers.get(roomId));
    readTimers.set(
      roomId,
      setTimeout(() => {
        readTimers.delete(roomId);
        const seq = signedIn?.reads.get(roomId);
        if (seq !== undefined) void sendRead(roomId, seq);
      }, READ_AFTER_MS),
    );
  }

  async function sendRead(roomId: RoomId, seq: number): Promise<void> {
    const here = signedIn;
    if (!here?.socket.connected) return;
    try {
      await here.socket.request("room.read", { roomId, seq });
    } catch (error) {
      if (error instanceof ChatError && error.code === "unreachable") return;
    }
    if (here.reads.get(roomId) === seq) here.reads.delete(roomId);
  }

  // --- People ---

  const asked = new Set<UserId>();
  const toLearn = new Set<UserId>();

  /** Finds out the names of people that are not known yet. */
  function learn(ids: readonly UserId[]) {
    const idle = toLearn.size === 0;
    for (const id of ids) if (!state.users.has(id) && !asked.has(id)) toLearn.add(id);
    if (!idle || toLearn.size === 0) return;
    setTimeout(() => {
      const ready = [...toLearn];
      toLearn.clear();
      for (let from = 0; from < ready.length; from += LIMITS.userIds) {
        const chunk = ready.slice(from, from + LIMITS.userIds);
        for (const id of chunk) asked.add(id);
        api.users(chunk).then(
          (users) => dispatch({ type: "users", users }),
          () => {
            for (const id of chunk) asked.delete(id);
          },
        );
      }
    }, LEARN_AFTER_MS);
  }

  /** As `api.findUsers`; whoever is found is known from now on. */
  async function findUsers(text: string, after: UserId | undefined, signal: AbortSignal) {
    const here = signedIn;
    const answer = await api.findUsers(text, after, signal);
    if (here !== null && signedIn === here) dispatch({ type: "users", users: answer.found });
    return answer;
  }

  // --- Rooms ---

  return {
    snapshot: () => state,
    subscribe: (listener: () => void): (() => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    start,
    async signUp(username: string, password: string): Promise<void> {
      enter(await api.signUp({ username, password }));
    },
    async logIn(username: string, password: string): Promise<void> {
      enter(await api.logIn({ username, password }));
    },
    logOut,

    /** Shows a room, which need not be one of this user's, or none. */
    openRoom(roomId: RoomId | null): void {
      dispatch({ type: "opened", roomId });
      // Somebody is waiting for it, and may type already.
      clearTimeout(telling);
      tell();
      if (roomId !== null) void loadIfNew(roomId);
    },
    /** The room's newest page, after it could not be loaded. */
    reload: loadNewest,
    loadOlder,
    watch,

    /** Puts the room's draft on its way. Throws a ChatError if too many wait already. */
    send(roomId: RoomId): void {
      sendDraft(roomId, roomId);
    },
    retry(nonce: string): void {
      signedIn?.outbox.retry(nonce);
      signedIn?.tabs.claim();
    },
    /** Takes back a message that has failed. */
    discard(nonce: string): void {
      signedIn?.outbox.remove(nonce);
      signedIn?.drafts.take(`edit ${nonce}`);
    },
    /**
     * Lets a message that has failed be written anew: as the room's draft if nothing stands there (true), else in its
     * own place, as the draft `edit <nonce>` (false).
     */
    edit({ nonce, roomId, message }: Outgoing): boolean {
      if (state.drafts.has(roomId)) {
        setDraft(`edit ${nonce}`, message);
        return false;
      }
      setDraft(roomId, message);
      signedIn?.outbox.remove(nonce);
      return true;
    },
    /** Puts what a failed message has been changed to on its way, in its stead. Throws as `send` does. */
    sendEdited({ nonce, roomId }: Outgoing): void {
      sendDraft(`edit ${nonce}`, roomId);
      signedIn?.outbox.remove(nonce);
    },
    setDraft,

    async createRoom(name: string): Promise<RoomId> {
      const room = await api.createRoom({ name });
      showRoom(room);
      return room.id;
    },
    async startPrivateRoom(userId: UserId): Promise<RoomId> {
      const room = await api.privateRoom({ userId });
      showRoom(room);
      return room.id;
    },
    async joinRoom(roomId: RoomId): Promise<void> {
      const { room, messages } = await request("room.join", { roomId });
      showRoom(room);
      learn(messages.map((message) => message.from));
      dispatch({ type: "newest page", roomId, page: { messages, more: (messages[0]?.seq ?? 1) > 1 } });
    },
    async leaveRoom(roomId: RoomId): Promise<void> {
      await request("room.leave", { roomId });
      hideRoom(roomId);
    },
    findUsers,
    findRooms: api.findRooms,
    /** What a named room is called, also one that is not this user's. */
    async roomName(roomId: RoomId): Promise<string | undefined> {
      const [room] = await api.listedRoom(roomId);
      return room?.id === roomId ? room.name : undefined;
    },
    demo: () => api.demo(),
  };

  function request<E extends "room.join" | "room.leave">(event: E, body: { roomId: RoomId }) {
    if (signedIn === null) throw new ChatError("unauthorized", "You are not logged in.");
    return signedIn.socket.request(event, body);
  }

  function sendDraft(slot: Slot, roomId: RoomId) {
    if (signedIn === null) return;
    const { outbox, tabs, drafts } = signedIn;
    const draft = drafts.read(slot);
    if (draft === null) return;
    outbox.add(roomId, withoutLastLines(draft.text), draft.nonce);
    tabs.claim();
    drafts.take(slot);
  }

  function setDraft(slot: Slot, text: string) {
    if (signedIn === null) return;
    if (signedIn.leaving === "tried") signedIn.leaving = null;
    signedIn.drafts.write(slot, text);
  }
}

/** Ends of lines that were typed after the text are no part of it. */
function withoutLastLines(text: string): string {
  const trimmed = text.trimEnd();
  return /[\n\u2028\u2029]/.test(text.slice(trimmed.length)) ? trimmed : text;
}

function cursorOf(room: RoomState) {
  const head = headOf(room);
  return {
    roomId: room.id,
    seq: head?.seq ?? 0,
    date: head?.date ?? 0,
    hash: head?.hash ?? "",
  };
}
