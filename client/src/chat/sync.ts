import {
  LIMITS,
  type Changes,
  type Cursor,
  type Me,
  type Message,
  type Page,
  type Revision,
  type Room,
  type RoomId,
  type UserId,
} from "@hubbub/server/protocol";
import { ChatError, type Api } from "./api.ts";
import { changeSlot, revSlot, type Drafts } from "./drafts.ts";
import type { Outbox } from "./outbox.ts";
import { whoIsIn, type People } from "./people.ts";
import type { Reads } from "./reads.ts";
import type { Scope } from "./scope.ts";
import type { ChatSocket } from "./socket.ts";
import { firstDoubt, headOf, needsSync, unreadOf, type RoomState } from "./state/room.ts";
import { allNewest } from "./state/revisions.ts";
import { isShown, shownRooms, type RoomsEvent } from "./state/rooms.ts";
import type { Chat } from "./store.ts";

/** Shorter interruptions are not shown. */
const TROUBLE_SHOWN_AFTER_MS = 2_000;
/** The first connection comes after the rooms are shown, over the same line. */
const CONNECTING_SHOWN_AFTER_MS = 4_000;
const RETURN_SHOWN_FOR_MS = 5_000;
const SYNC_FIRST_MS = 50;
const SYNC_SLOWEST_MS = 10_000;
/** A busy room that moves on and has another gap counts as having made this many attempts. */
const MOVING_ATTEMPTS = 2;
const READ_AGAIN_MS = 2_000;
/** With a larger gap, a room restarts from its newest page instead of catching up. */
const CATCH_UP_MOST = 1_000;
/** The same on a line on which an answer did not come in time, and the size of that page. */
const CATCH_UP_MOST_SLOWLY = 10;

type Needs = {
  chat: Chat;
  scope: Scope;
  random: () => number;
  api: Api;
  socket: ChatSocket;
  outbox: Outbox;
  drafts: Drafts;
  people: People;
  reads: Reads;
};

export type Sync = ReturnType<typeof createSync>;

/** Merges stored and heard messages into one gap-free state: at the start, after each connect, at a gap. */
export function createSync({ chat, scope, random, api, socket, outbox, drafts, people, reads }: Needs) {
  /** How many messages were unread when the connection was lost; kept until what was missed is here. */
  let unreadBefore: number | null = null;
  /** Whether the last answer with messages did not come in time. */
  let isSlow = false;
  /** How often a room of the list came, went or changed. */
  let changedRooms = 0;
  let rounds = 0;
  let firstList: Promise<unknown> = Promise.resolve();
  const syncing = new Set<RoomId>();
  const reading = new Set<RoomId>();
  let cancelTrouble = scope.after(CONNECTING_SHOWN_AFTER_MS, () => chat.dispatch({ type: "offline" }));

  // --- The connection ---

  function disconnected() {
    if (chat.state.connection === "online") unreadBefore ??= totalUnread();
    chat.dispatch({ type: "interrupted" });
    cancelTrouble();
    cancelTrouble = scope.after(TROUBLE_SHOWN_AFTER_MS, () => chat.dispatch({ type: "offline" }));
  }

  /** After each connect: asks for the stored state, while live events are heard already. */
  async function connected(attempts = 0): Promise<void> {
    chat.dispatch({ type: "connected" });
    // Messages read while offline must not be subtracted from the missed ones.
    if (unreadBefore !== null) unreadBefore = Math.min(unreadBefore, totalUnread());
    const round = (rounds += 1);
    // What was asked for over an earlier connection may be older than what has been heard since.
    const current = () => scope.open && socket.connected && round === rounds;
    try {
      // The answer comes once the connection hears its rooms: nothing can fall between the list and live events.
      await socket.request("sync", { rooms: [] });
      // What is heard before the first list of rooms is kept nowhere.
      await firstList;
      const follow = reads.compare();
      // The first connection comes a moment after the page has asked who it is.
      const asked = round > 1 ? api.me() : undefined;
      const [rooms, online, me] = await Promise.all([listRooms(), api.online(), asked]);
      if (!current()) return;
      if (me !== undefined) chat.dispatch({ type: "me", user: me });
      chat.dispatch({ type: "presence snapshot", online });
      const wasShown = chat.state.connection === "offline" && unreadBefore !== null;
      chat.dispatch({ type: "rooms", rooms });
      follow(rooms);
      people.learn(rooms.flatMap(whoNames));
      const missed = wasShown ? Math.max(0, totalUnread() - (unreadBefore ?? 0)) : null;
      cancelTrouble();
      chat.dispatch({ type: "online", missed });
      if (missed !== null) scope.after(RETURN_SHOWN_FOR_MS, () => chat.dispatch({ type: "return noted" }));
      outbox.wake();
      reads.sendAll();
      await ask(loaded());
      if (current()) unreadBefore = null;
      for (const roomId of shownRooms(chat.state)) await load(roomId);
      // What an earlier page sent may have been lost since.
      await outbox.load();
      await offerKept(current);
      await lookForDeleted(current);
    } catch {
      if (!current()) return;
      // The server is up, but cannot answer yet. The connection stays, because arriving and sent messages are still
      // good.
      outbox.wake();
      const ms = 1_000 + random() * 1_000 * 2 ** Math.min(attempts, 4);
      if ((await scope.sleep(ms)) && current()) await connected(attempts + 1);
    }
  }

  /** Offers again what the logs have lost of this user's recent messages. */
  async function offerKept(current = () => scope.open && socket.connected): Promise<void> {
    for (const roomId of outbox.keptRooms()) {
      if (!current()) return;
      await load(roomId);
      const room = chat.state.rooms?.get(roomId);
      if (current() && room !== undefined) offerLost(room);
    }
  }

  /** The own account has changed; a role on the server counts in every room. */
  function showMe(user: Me) {
    const { session } = chat.state;
    const isOther = session.is === "signed in" && session.user.role !== user.role;
    chat.dispatch({ type: "me", user });
    if (isOther && socket.connected) void connected();
  }

  function totalUnread(): number {
    let total = 0;
    for (const room of chat.state.rooms?.values() ?? []) total += unreadOf(room);
    return total;
  }

  // --- The list of rooms ---

  /** The list of rooms, requested again if it changed meanwhile. */
  async function listRooms(): Promise<Room[]> {
    for (;;) {
      const before = changedRooms + reads.lowered;
      const rooms = await api.rooms();
      if (before === changedRooms + reads.lowered) return rooms;
    }
  }

  /** At the start: shows the stored state before, or even without, a connection. */
  async function showRooms(): Promise<void> {
    try {
      const list = listRooms();
      firstList = list.catch(() => {});
      const rooms = await list;
      if (chat.state.rooms !== null) return;
      chat.dispatch({ type: "rooms", rooms });
      for (const roomId of shownRooms(chat.state)) await load(roomId);
    } catch {
      // After a connect, the rooms are requested again anyway.
    }
  }

  function showRoom(room: Room) {
    changedRooms++;
    chat.dispatch({ type: "room", room });
    people.learn(whoNames(room));
    // A user may have looked at the room before they were let in.
    if (isShown(chat.state, room.id)) void load(room.id);
  }

  function hideRoom(roomId: RoomId) {
    changedRooms++;
    chat.dispatch({ type: "room gone", roomId });
  }

  /** Something about a room was heard. */
  function heardOf(event: Extract<RoomsEvent, { type: "room changed" | "standing" }>) {
    changedRooms++;
    chat.dispatch(event);
  }

  // --- Messages ---

  function heard(message: Message) {
    chat.dispatch({ type: "message", message });
    learn(message);
  }

  /** Takes in a message, as it is now, that an answer told of. */
  function told(message: Message) {
    chat.dispatch({ type: "told", message });
    learn(message);
  }

  function learn(message: Message) {
    if (message.deleted !== undefined) forgetDeleted([message]);
    else if (isOwn(message)) outbox.heard(message);
    people.learnFrom([message]);
    reads.came(message.roomId);
    settle(message.roomId);
  }

  /** Keeps no text of deleted messages: neither to offer it to a log that loses them, nor as an edit that was begun. */
  function forgetDeleted(messages: readonly Message[]) {
    for (const message of messages) {
      if (message.deleted === undefined || !isOwn(message)) continue;
      outbox.heard(message);
      const slot = changeSlot(message.roomId, message.seq);
      drafts.take(slot);
      drafts.take(revSlot(slot));
    }
  }

  /** A nonce is its author's: somebody else may have used the same. */
  function isOwn({ from }: Message): boolean {
    const { session } = chat.state;
    return session.is === "signed in" && session.user.id === from;
  }

  /**
   * Finds out whether messages whose text this browser keeps were deleted while it was closed. What is loaded says so by
   * itself.
   */
  async function lookForDeleted(current: () => boolean): Promise<void> {
    const known = new Set<string>();
    for (const { roomId, seq } of [...outbox.keptTexts(), ...drafts.changes()]) {
      const { messages = [] } = chat.state.rooms?.get(roomId)?.log ?? {};
      if (known.has(`${roomId} ${seq}`) || messages.some((message) => message.seq === seq)) continue;
      // A room that this user has left tells nothing; anything else is tried again after the next connect.
      const page = await api.messages(roomId, { around: seq, size: LIMITS.page }).catch(() => null);
      if (!current()) return;
      for (const message of page?.messages ?? []) known.add(`${roomId} ${message.seq}`);
      forgetDeleted(page?.messages ?? []);
    }
  }

  function changed(roomId: RoomId, changes: Changes) {
    chat.dispatch({ type: "changes", roomId, changes });
    forgetDeleted(changes.messages);
    settle(roomId);
    if (isShown(chat.state, roomId)) void readAgain(roomId);
  }

  function stale(roomId: RoomId) {
    chat.dispatch({ type: "stale", roomId });
    soon(roomId);
  }

  function settle(roomId: RoomId) {
    const room = chat.state.rooms?.get(roomId);
    if (room !== undefined && needsSync(room)) soon(roomId);
  }

  /** Fills a room's gap after a moment; repeated attempts without progress become rarer. */
  function soon(roomId: RoomId) {
    if (syncing.has(roomId)) return;
    syncing.add(roomId);
    void (async () => {
      for (let attempts = 0; ; attempts++) {
        const slowest = Math.min(SYNC_SLOWEST_MS, SYNC_FIRST_MS * 2 ** attempts);
        if (!(await scope.sleep(slowest * (0.5 + random() / 2)))) return;
        const room = chat.state.rooms?.get(roomId);
        if (room === undefined || !needsSync(room) || !socket.connected) break;
        await ask([room]).catch(() => {});
        const now = chat.state.rooms?.get(roomId);
        const moved = now !== undefined && (now.rev !== room.rev || now.log?.head !== room.log?.head);
        if (moved) attempts = Math.min(attempts, MOVING_ATTEMPTS);
      }
      syncing.delete(roomId);
    })();
  }

  function loaded(): RoomState[] {
    return [...(chat.state.rooms?.values() ?? [])].filter((room) => room.log !== null);
  }

  async function ask(rooms: readonly RoomState[]): Promise<void> {
    let left = rooms.filter((room) => room.log !== null);
    const [most, size] = isSlow
      ? [CATCH_UP_MOST_SLOWLY, CATCH_UP_MOST_SLOWLY]
      : [CATCH_UP_MOST, LIMITS.pageDefault];
    const far = left.filter((room) => room.seq - (room.log?.head ?? 0) > most);
    for (const { id } of far)
      chat.dispatch({ type: "restarted", roomId: id, page: await api.messages(id, { size }) });
    left = left.map((room) => chat.state.rooms?.get(room.id) ?? room);
    while (left.length > 0) {
      const chunk = left.slice(0, LIMITS.syncRooms);
      const answer = await socket.request("sync", { rooms: chunk.map(cursorOf) }).catch((error: unknown) => {
        // Otherwise the connection was lost.
        isSlow ||= error instanceof ChatError && error.code === "unreachable" && socket.connected;
        throw error;
      });
      isSlow = false;
      const unfinished: RoomState[] = [];
      for (const [index, synced] of answer.rooms.entries()) {
        if (isDoubtedSince(chunk[index])) continue;
        // The server has not looked at this room yet: that proves nothing.
        if (synced.more && synced.messages.length === 0) {
          const unseen = chat.state.rooms?.get(synced.roomId);
          if (unseen !== undefined) unfinished.push(unseen);
          continue;
        }
        chat.dispatch({ type: "synced", room: synced });
        reads.came(synced.roomId);
        for (const message of synced.messages) if (isOwn(message)) outbox.heard(message);
        forgetDeleted([...synced.messages, ...(synced.changes?.messages ?? [])]);
        people.learnFrom(synced.messages);
        const room = chat.state.rooms?.get(synced.roomId);
        if (room === undefined) continue;
        if (synced.more && synced.reset === undefined) unfinished.push(room);
        else if (synced.reset === undefined && room.told.some((seq) => chunk[index]?.told.includes(seq))) {
          // An answer or a page told of it before, and the log does not have it.
          stale(room.id);
        } else {
          offerLost(room, synced.reset === "ahead" || synced.reset === "rewound");
          settle(room.id);
        }
        if (isShown(chat.state, room.id)) void readAgain(room.id);
      }
      left = [...left.slice(LIMITS.syncRooms), ...unfinished];
    }
  }

  /**
   * Whether the room's log was doubted since. The replica reads some rooms of one `sync` after others, so that an answer
   * may come from a log that is lost, and after the `room.stale` that tells of the loss. Each doubt asks for itself; a
   * reset has its answer.
   */
  function isDoubtedSince(room: RoomState | undefined): boolean {
    const now = room && chat.state.rooms?.get(room.id);
    return now !== undefined && now.doubts !== room?.doubts;
  }

  /**
   * Offers this user's recent messages again if the room's log lacks them. `anew`: the log is another one, and its
   * page may be full of what others offered before us; a message that is still stored is not stored twice.
   */
  function offerLost({ id, log, held, stale: isStale }: RoomState, anew = false) {
    if (log === null || isStale || !scope.open) return;
    const [first] = log.messages;
    outbox.compare(id, [...log.messages, ...held], anew ? 0 : (first?.seq ?? 1));
  }

  /**
   * Loads what the room needs to be shown: its newest page, if it is neither here nor on its way, and doubtful
   * messages.
   */
  async function load(roomId: RoomId): Promise<void> {
    const room = chat.state.rooms?.get(roomId);
    if (room?.log === null && room.load !== "loading") await loadNewest(roomId);
    else if (room !== undefined) await readAgain(roomId);
  }

  /** Reads messages again, page by page, whose changes are unknown. */
  async function readAgain(roomId: RoomId): Promise<void> {
    if (reading.has(roomId)) return;
    reading.add(roomId);
    try {
      for (;;) {
        const room = chat.state.rooms?.get(roomId);
        const doubt = room === undefined ? null : firstDoubt(room);
        // Each connection starts with this.
        if (doubt === null || !scope.open || !socket.connected) return;
        const { seq, next } = doubt;
        const page = await read(roomId, {
          size: LIMITS.page,
          ...(next !== undefined && { before: next.date }),
        });
        chat.dispatch({ type: "page again", roomId, page, doubted: seq });
        if (chat.state.rooms?.get(roomId)?.log === null && !(await loadNewest(roomId))) throw lostPage();
        settle(roomId);
      }
    } catch {
      // Until then the shown messages may be outdated.
      scope.after(READ_AGAIN_MS * (0.5 + random()), () => void load(roomId));
    } finally {
      reading.delete(roomId);
    }
  }

  /** Whether it came. */
  async function loadNewest(roomId: RoomId): Promise<boolean> {
    chat.dispatch({ type: "loading", roomId });
    try {
      const page = await api.messages(roomId, { size: LIMITS.pageDefault });
      chat.dispatch({ type: "newest page", roomId, page });
      forgetDeleted(page.messages);
      reads.came(roomId);
      people.learnFrom(page.messages);
      await prove(roomId);
      return true;
    } catch {
      chat.dispatch({ type: "load failed", roomId });
      return false;
    }
  }

  /** Compares a page that has just come with the connection's log. */
  async function prove(roomId: RoomId): Promise<void> {
    const room = chat.state.rooms?.get(roomId);
    if (room !== undefined && needsSync(room)) await ask([room]).catch(() => stale(roomId));
  }

  /**
   * A page of the connection's log, for a room whose log is loaded. Another replica, or this one a moment ago, may
   * still read from a Redis that is no longer the primary, and the `rev`s of a lost history look like those of the
   * present one. So the page's place among the changes is compared, unless it is known, and later changes are taken
   * with it. Throws `unavailable` for a page of another history.
   */
  async function read(roomId: RoomId, query: Parameters<Api["messages"]>[1]): Promise<Page> {
    const doubted = chat.state.rooms?.get(roomId);
    // The page's place among the changes says nothing about what the room has.
    if (doubted?.stale) await ask([doubted]);
    const asked = chat.state.rooms?.get(roomId);
    const page = await api.messages(roomId, query);
    forgetDeleted(page.messages);
    const room = chat.state.rooms?.get(roomId);
    const { rev, revHash } = page;
    if (isDoubtedSince(asked)) throw lostPage();
    if (rev === undefined || revHash === undefined || room === undefined || room.log === null) return page;
    if (room.stale) throw lostPage();
    const late = page.messages.filter((message) => (message.rev ?? 0) > rev);
    if (late.length === 0 && rev === room.rev && revHash === room.revHash) return page;
    const answer = await socket.request("sync", { rooms: [{ ...cursorOf(room), rev, revHash }] });
    const [synced] = answer.rooms;
    const since = new Map(synced?.changes?.messages.map((message) => [message.seq, message.rev ?? 0]));
    const isProved =
      synced?.changes !== undefined &&
      synced.changes.reset === undefined &&
      synced.reset === undefined &&
      late.every((message) => (since.get(message.seq) ?? 0) >= (message.rev ?? 0));
    if (!isProved || isDoubtedSince(room)) throw lostPage();
    chat.dispatch({ type: "synced", room: synced });
    settle(roomId);
    // The page ends doubts: it must not end them with what has changed since.
    return { ...page, messages: [...allNewest(page.messages, synced.changes?.messages ?? [])] };
  }

  /**
   * The page before or after a message that is shown. It is asked for together with that message, whose hash proves that
   * both are of one history. Throws `unavailable` if they are not.
   */
  async function readOn(
    { roomId, seq, date, hash }: Message,
    side: "older" | "newer",
    query: { thread?: number; threads?: true } = {},
  ): Promise<Page> {
    const asked = chat.state.rooms?.get(roomId);
    const from = side === "older" ? { before: date + 1 } : { after: date - 1 };
    const page = await read(roomId, { ...query, ...from, size: LIMITS.page });
    const shared = page.messages.find((message) => message.seq === seq);
    const messages = page.messages.filter((row) => (side === "older" ? row.seq < seq : row.seq > seq));
    const last = messages.at(-1);
    // The shown message may have been removed.
    const isOther =
      shared === undefined ? last !== undefined && (await isReplaced(last)) : shared.hash !== hash;
    if (isOther || isDoubtedSince(asked)) throw lostPage();
    return { ...page, messages };
  }

  /** Whether the connection's log has another message under this one's number. */
  async function isReplaced({ roomId, seq, date, hash }: Message): Promise<boolean> {
    const answer = await socket.request("sync", { rooms: [{ roomId, seq, date, hash }] });
    const reset = answer.rooms[0]?.reset;
    return reset === "ahead" || reset === "rewound";
  }

  async function loadOlder(roomId: RoomId): Promise<void> {
    const room = chat.state.rooms?.get(roomId);
    const first = room?.log?.messages[0];
    if (room === undefined || room.load === "loading" || first === undefined || !room.log?.older) return;
    chat.dispatch({ type: "loading", roomId });
    try {
      const page = await readOn(first, "older");
      chat.dispatch({ type: "older page", roomId, page, before: first.seq });
      people.learnFrom(page.messages);
    } catch {
      chat.dispatch({ type: "load failed", roomId });
      if (isDoubtedSince(room)) await loadOlder(roomId);
    }
  }

  /** A room that this user has just joined, with its newest page. */
  function joined(room: Room, page: { messages: Message[] } & Partial<Revision>) {
    const { messages } = page;
    showRoom(room);
    people.learnFrom(messages);
    const more = (messages[0]?.seq ?? 1) > 1;
    chat.dispatch({ type: "newest page", roomId: room.id, page: { ...page, more } });
    forgetDeleted(messages);
    void prove(room.id);
  }

  return {
    connected: () => void connected(),
    disconnected,
    heard,
    told,
    changed,
    stale,
    showRooms,
    offerKept,
    showRoom,
    hideRoom,
    heardOf,
    joined,
    read,
    readOn,
    showMe,
    load,
    loadNewest,
    loadOlder,
    /** A connection may have died while this machine slept: a request finds out, and fills gaps. */
    askAll(): void {
      const all = () => ask(loaded());
      void all()
        .catch(all)
        .catch(() => {});
    },
  };
}

function lostPage(): ChatError {
  return new ChatError("unavailable", "This page may be of a history that is lost.");
}

function cursorOf(room: RoomState): Cursor {
  const head = headOf(room);
  return {
    roomId: room.id,
    seq: head?.seq ?? 0,
    date: head?.date ?? 0,
    hash: head?.hash ?? "",
    rev: room.rev,
    revHash: room.revHash,
  };
}

/** The users whose names the list of rooms shows. */
function whoNames({ last, userIds }: Room): UserId[] {
  return [...(userIds ?? []), ...(last === null ? [] : whoIsIn(last))];
}
