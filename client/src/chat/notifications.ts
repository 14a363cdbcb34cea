import type { Message, RoomId, UserId } from "@hubbub/server/protocol";
import type { People } from "./people.ts";
import type { Scope } from "./scope.ts";
import { nameIn } from "./state/people.ts";
import { isSame } from "./state/revisions.ts";
import { isMentioned, mentionsOf, unreadOf, type RoomState } from "./state/room.ts";
import { isShown } from "./state/rooms.ts";
import type { Chat } from "./store.ts";
import type { World } from "./world.ts";

/** Time for another tab to show the message, and for another device of this user to read it. */
const TOLD_AFTER_MS = 700;

type Needs = Pick<World, "desktop" | "attended" | "openChannel"> & {
  chat: Chat;
  scope: Scope;
  userId: UserId;
  people: People;
};

type Seen = { roomId: RoomId; seq: number };
/** How far a room was searched for messages to tell. */
type Base = { seq: number; mentions: number };

/**
 * Desktop notifications of new messages. One of a user's tabs shows them for all tabs, but none for messages that are
 * on the screen of any tab, or read or deleted by then. Messages missed while offline are told at the return, once for
 * each room; those that were there at the start are not. Closes a notification when its message is read or deleted.
 */
export function createNotifications(needs: Needs) {
  const { chat, scope, userId, desktop, attended, people } = needs;
  let leads = false;
  /** Set once all rooms have been complete here. */
  let begun = false;
  let wasOnline = false;
  /** For each room, the seq up to which messages are on a screen, or told already. */
  const done = new Map<RoomId, number>();
  const bases = new Map<RoomId, Base>();
  /** Live messages that call for this user. */
  const live = new Map<RoomId, Message[]>();
  const waiting = new Set<RoomId>();
  /** `seq`: the newest message that it tells of; `said`: the one whose text it shows. */
  const shown = new Map<RoomId, { seq: number; said: Message | undefined; close: () => void }>();
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

  /** How many unread messages since then call for this user. */
  function countFresh(room: RoomState, base: Base | undefined): number {
    if (base === undefined || room.notify === "nothing") return 0;
    if (room.notify === "mentions") return Math.max(0, mentionsOf(room) - base.mentions);
    const since = Math.max(base.seq, done.get(room.id) ?? 0);
    return Math.min(unreadOf(room), Math.max(0, room.seq - since));
  }

  function newestCalling(room: RoomState): Message | undefined {
    const known = [...(room.log?.messages ?? []), ...room.held, ...(room.last === null ? [] : [room.last])];
    return known.findLast((one) => one.from !== userId && isCalledFor(room, one, userId));
  }

  function tellOne(room: RoomState, message: Message) {
    const name = nameOf(message);
    const title = room.kind === "direct" ? name : `${name} in ${room.names[0] ?? "a room"}`;
    show(room, message.seq, title, newest(room, message));
  }

  /** The messages of a room that is not loaded are unknown: tells only their number. */
  function tellMany(room: RoomState, count: number) {
    const { last } = room;
    const what = room.notify === "mentions" ? "mention" : "new message";
    const where =
      room.kind === "direct" && last !== null ? `from ${nameOf(last)}` : `in ${room.names[0] ?? "a room"}`;
    const message = newestCalling(room);
    const told = message?.deleted === undefined ? message : undefined;
    show(room, room.seq, `${count} ${what}${count === 1 ? "" : "s"} ${where}`, told);
  }

  function show({ id: roomId }: RoomState, seq: number, title: string, message?: Message) {
    note(roomId, seq);
    if (desktop === undefined) return;
    if (desktop.allowed() === "default") {
      chat.dispatch({ type: "notifications wanted", on: true });
      return;
    }
    const { message: text, files } = message ?? { message: "" };
    // A room's next notification replaces the previous one, and still makes its sound.
    shown.get(roomId)?.close();
    shown.set(roomId, {
      seq,
      said: message,
      close: desktop.show({ roomId, title, text, ...(files && { files }) }),
    });
  }

  function nameOf({ from }: Message): string {
    return nameIn(chat.state.users, from);
  }

  function isNews(room: RoomState, message: Message): boolean {
    const { seq, deleted } = newest(room, message);
    return deleted === undefined && seq > room.read && seq > (done.get(room.id) ?? 0) && !onScreen(room.id);
  }

  /** Finds messages that came without being heard live. */
  function lookForMissed() {
    const { rooms, connection } = chat.state;
    const isBack = connection === "online" && !wasOnline;
    wasOnline = connection === "online";
    if (rooms === null || !wasOnline) return;
    for (const room of rooms.values()) {
      const base = bases.get(room.id);
      if (base === undefined) {
        // Somebody has started a private room meanwhile.
        const isNew = begun && isBack && room.kind === "direct";
        bases.set(room.id, isNew ? { seq: 0, mentions: 0 } : baseOf(room));
        if (isNew) wait(room.id);
      } else if (room.seq > base.seq) wait(room.id);
      // It was read meanwhile, marked unread, or belongs to another log: nothing to tell.
      else if (room.seq < base.seq || mentionsOf(room) !== base.mentions) bases.set(room.id, baseOf(room));
    }
    begun = true;
  }

  return {
    lead(leader: boolean): void {
      leads = leader;
    },

    /** A live message. */
    heard(message: Message): void {
      const { roomId, seq } = message;
      const room = chat.state.rooms?.get(roomId);
      if (room === undefined || message.from === userId || !isCalledFor(room, message, userId)) return;
      if (onScreen(roomId)) {
        note(roomId, seq);
        others.tell({ roomId, seq } satisfies Seen);
      }
      if (!leads || !isNews(room, message)) return;
      people.learn([message.from]);
      live.set(roomId, [...(live.get(roomId) ?? []), message]);
      wait(roomId);
    },

    /** After any change: finds missed messages, and closes outdated notifications. */
    look(): void {
      lookForMissed();
      for (const [roomId, { seq, said, close }] of shown) {
        const room = chat.state.rooms?.get(roomId);
        const isGone = said !== undefined && room !== undefined && newest(room, said).deleted !== undefined;
        if (room !== undefined && room.read < seq && !isGone) continue;
        shown.delete(roomId);
        close();
      }
    },
  };
}

function baseOf(room: RoomState): Base {
  return { seq: room.seq, mentions: mentionsOf(room) };
}

function isCalledFor(room: RoomState, message: Message, userId: UserId): boolean {
  return room.notify === "all" || (room.notify === "mentions" && isMentioned(room, message, userId));
}

/** The message in its present state. */
function newest({ log, held, changed, last }: RoomState, message: Message): Message {
  const isIt = (one: Message) => isSame(one, message);
  const known = log?.messages.findLast(isIt) ?? held.find(isIt) ?? changed.find(isIt);
  return known ?? (last !== null && isIt(last) ? last : message);
}
