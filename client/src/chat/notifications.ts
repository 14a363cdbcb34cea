import type { Message, NotifyLevel, RoomId, UserId } from "@hubbub/server/protocol";
import type { People } from "./people.ts";
import type { Scope } from "./scope.ts";
import { isMentioned, type RoomState } from "./state/room.ts";
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

/**
 * Tells of new messages on the desktop: one of a user's tabs does it for all of them, of none that is on the screen of
 * any, and of none that is read or deleted by then. What is told is taken back when the message is read or deleted.
 */
export function createNotifications(needs: Needs) {
  const { chat, scope, userId, desktop, attended, people } = needs;
  let leads = false;
  /** Up to where each room's messages are on the screen of a tab, or told already. */
  const done = new Map<RoomId, number>();
  const waiting = new Map<RoomId, Message>();
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

  function tell(roomId: RoomId) {
    const message = waiting.get(roomId);
    waiting.delete(roomId);
    const room = chat.state.rooms?.get(roomId);
    if (message === undefined || room === undefined || !isNews(room, message)) return;
    note(roomId, message.seq);
    if (desktop === undefined) return;
    if (desktop.allowed() === "default") {
      chat.dispatch({ type: "notifications wanted", on: true });
      return;
    }
    // A room's next notification takes the place of the one before, and is heard all the same.
    shown.get(roomId)?.close();
    const name = chat.state.users.get(message.from)?.username ?? "Somebody";
    const title = room.kind === "direct" ? name : `${name} in ${room.names[0] ?? "a room"}`;
    const { message: text } = newest(room, message);
    const close = desktop.show({ roomId, title, text: text.slice(0, TEXT_MOST) });
    shown.set(roomId, { seq: message.seq, close });
  }

  function isNews(room: RoomState, message: Message): boolean {
    const { seq, deleted } = newest(room, message);
    return deleted === undefined && seq > room.read && seq > (done.get(room.id) ?? 0) && !onScreen(room.id);
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
      const first = !waiting.has(roomId);
      waiting.set(roomId, message);
      if (first) scope.after(TOLD_AFTER_MS, () => tell(roomId));
    },

    /** Something has changed: takes back what is not to be told any more. */
    look(): void {
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
