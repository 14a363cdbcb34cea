import type { Message, NotifyLevel, RoomId, UserId } from "@hubbub/server/protocol";
import type { People } from "./people.ts";
import type { Scope } from "./scope.ts";
import { isMentioned, mentionsOf, unreadOf, type RoomState } from "./state/room.ts";
import { isShown } from "./state/rooms.ts";
import type { Chat } from "./store.ts";
import type { World } from "./world.ts";

/** Another tab may show the message, and another device of this user may have read it, before they are told. */
const TOLD_AFTER_MS = 700;
const TEXT_MOST = 200;

type Needs = Pick<World, "desktop" | "attended" | "openChannel"> & {
  chat: Chat;
  scope: Scope;
  userId: UserId;
  people: People;
};

type Seen = { roomId: RoomId; seq: number };
/** How far a room has been looked through for what is to be told. */
type Base = { seq: number; mentions: number };

/**
 * Tells of new messages on the desktop: one of a user's tabs does it for all of them, of none that is on the screen of
 * any, and of none that is read or deleted by then. What came in while there was no connection is told at the return,
 * once for each room; what was there at the start is no news. What is told is taken back when the message is read or
 * deleted.
 */
export function createNotifications(needs: Needs) {
  const { chat, scope, userId, desktop, attended, people } = needs;
  let leads = false;
  /** Set once the rooms have been complete here. */
  let begun = false;
  let wasOnline = false;
  /** Up to where each room's messages are on the screen of a tab, or told already. */
  const done = new Map<RoomId, number>();
  const bases = new Map<RoomId, Base>();
  /** What was heard as it was said and calls for this user. */
  const live = new Map<RoomId, Message[]>();
  const waiting = new Set<RoomId>();
  const shown = new Map<RoomId, { seq: number; close: () => void }>();
  const others = needs.openChannel(`hubbub seen ${userId}`, (word) => {
    const { roomId, seq } = word as Seen;
    note(roomId, seq);
  });
  scope.add(others.close);
  scope.add(() => {
    for (const { close } of shown.values()) close();
  });

  function note(roomId: RoomId, seq: number) {
    done.set(roomId, Math.max(done.get(roomId) ?? 0, seq));
  }

  function onScreen(roomId: RoomId): boolean {
    return attended() && isShown(chat.state, roomId);
  }

  function wait(roomId: RoomId) {
    if (waiting.has(roomId)) return;
    waiting.add(roomId);
    scope.after(TOLD_AFTER_MS, () => tell(roomId));
  }

  function tell(roomId: RoomId) {
    waiting.delete(roomId);
    const heard = live.get(roomId) ?? [];
    live.delete(roomId);
    const room = chat.state.rooms?.get(roomId);
    if (room === undefined) return;
    const fresh = countFresh(room, bases.get(roomId));
    bases.set(roomId, baseOf(room));
    if (!leads || onScreen(roomId)) return;
    const last = heard.at(-1);
    if (fresh > Math.max(1, heard.length)) tellMany(room, fresh);
    else {
      const message = last ?? (fresh === 1 ? newestCalling(room) : undefined);
      if (message !== undefined && isNews(room, message)) tellOne(room, message);
      else if (last === undefined && fresh === 1) tellMany(room, fresh);
    }
  }

  /** How many unread messages call for this user that came since. */
  function countFresh(room: RoomState, base: Base | undefined): number {
    if (base === undefined || room.notify === "nothing") return 0;
    if (room.notify === "mentions") return Math.max(0, mentionsOf(room) - base.mentions);
    const since = Math.max(base.seq, done.get(room.id) ?? 0);
    return Math.min(unreadOf(room), Math.max(0, room.seq - since));
  }

  function newestCalling(room: RoomState): Message | undefined {
    const known = [...(room.log?.messages ?? []), ...room.held, ...(room.last === null ? [] : [room.last])];
    return known.findLast((one) => one.from !== userId && isCalledFor(room.notify, one, userId));
  }

  function tellOne(room: RoomState, message: Message) {
    const name = nameOf(message);
    const title = room.kind === "direct" ? name : `${name} in ${room.names[0] ?? "a room"}`;
    show(room, message.seq, title, newest(room, message).message);
  }

  /** What they are is not known of a room that is not loaded. */
  function tellMany(room: RoomState, count: number) {
    const { last } = room;
    const what = room.notify === "mentions" ? "mention" : "new message";
    const where =
      room.kind === "direct" && last !== null ? `from ${nameOf(last)}` : `in ${room.names[0] ?? "a room"}`;
    const message = newestCalling(room);
    const text = message === undefined || message.deleted !== undefined ? "" : message.message;
    show(room, room.seq, `${count} ${what}${count === 1 ? "" : "s"} ${where}`, text);
  }

  function show({ id: roomId }: RoomState, seq: number, title: string, text: string) {
    note(roomId, seq);
    if (desktop === undefined) return;
    if (desktop.allowed() === "default") {
      chat.dispatch({ type: "notifications wanted", on: true });
      return;
    }
    // A room's next notification takes the place of the one before, and is heard all the same.
    shown.get(roomId)?.close();
    shown.set(roomId, { seq, close: desktop.show({ roomId, title, text: text.slice(0, TEXT_MOST) }) });
  }

  function nameOf({ from }: Message): string {
    return chat.state.users.get(from)?.username ?? "Somebody";
  }

  function isNews(room: RoomState, message: Message): boolean {
    const { seq, deleted } = newest(room, message);
    return deleted === undefined && seq > room.read && seq > (done.get(room.id) ?? 0) && !onScreen(room.id);
  }

  /** Finds what has come without having been heard as it was said. */
  function lookForMissed() {
    const { rooms, connection } = chat.state;
    const isBack = connection === "online" && !wasOnline;
    wasOnline = connection === "online";
    if (rooms === null || !wasOnline) return;
    for (const room of rooms.values()) {
      const base = bases.get(room.id);
      if (base === undefined) {
        // Somebody has begun a private room meanwhile.
        const isNew = begun && isBack && room.kind === "direct";
        bases.set(room.id, isNew ? { seq: 0, mentions: 0 } : baseOf(room));
        if (isNew) wait(room.id);
      } else if (room.seq > base.seq) wait(room.id);
      // Read meanwhile, marked unread, or of another log: no news.
      else if (room.seq < base.seq || mentionsOf(room) !== base.mentions) bases.set(room.id, baseOf(room));
    }
    begun = true;
  }

  return {
    lead(leader: boolean): void {
      leads = leader;
    },

    /** A message that has just been said. */
    heard(message: Message): void {
      const { roomId, seq } = message;
      const room = chat.state.rooms?.get(roomId);
      if (room === undefined || message.from === userId || !isCalledFor(room.notify, message, userId)) return;
      if (onScreen(roomId)) {
        note(roomId, seq);
        others.tell({ roomId, seq } satisfies Seen);
      }
      if (!leads || !isNews(room, message)) return;
      people.learn([message.from]);
      live.set(roomId, [...(live.get(roomId) ?? []), message]);
      wait(roomId);
    },

    /** Something has changed: finds what was missed, and takes back what is not to be told any more. */
    look(): void {
      lookForMissed();
      for (const [roomId, { seq, close }] of shown) {
        const room = chat.state.rooms?.get(roomId);
        const message = room === undefined ? undefined : find(room, seq);
        if (room !== undefined && room.read < seq && message?.deleted === undefined) continue;
        shown.delete(roomId);
        close();
      }
    },
  };
}

function baseOf(room: RoomState): Base {
  return { seq: room.seq, mentions: mentionsOf(room) };
}

function isCalledFor(level: NotifyLevel, message: Message, userId: UserId): boolean {
  return level === "all" || (level === "mentions" && isMentioned(message, userId));
}

function find(room: RoomState, seq: number): Message | undefined {
  const known =
    room.log?.messages.findLast((one) => one.seq === seq) ?? room.held.find((one) => one.seq === seq);
  return known ?? (room.last?.seq === seq ? room.last : undefined);
}

/** The message as it is now. */
function newest(room: RoomState, message: Message): Message {
  return find(room, message.seq) ?? message;
}
