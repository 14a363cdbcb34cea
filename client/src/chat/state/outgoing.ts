import type { Failure, Message, Reaction, RoomId, SyncedRoom, UserId } from "@hubbub/server/protocol";
import type { OutgoingFile } from "./files.ts";
import type { RoomsState } from "./rooms.ts";
import type { SessionState } from "./session.ts";

/**
 * A requested change. `seq` and `hash` are those of the message that the user saw (what an older page left has no
 * `hash`); `rev` says in which state.
 */
export type MessageChange = { seq: number; hash?: string } & Wish;
export type Wish =
  | { do: "edit"; rev: number }
  | { do: "delete" }
  | { do: "react"; emoji: string; on: boolean }
  | { do: "pin"; on: boolean };

/** The message that a text answers; what an older page left tells its number alone. */
export type Answering = { replyTo?: number; answered?: Answered };
/** What tells an answered message from another one that has its number since a log lost its end. */
type Answered = { hash: string; from?: UserId; nonce?: string };

/** A change on its way; a failed one stays until the user has seen why. */
export type Changing = Outgoing & { change: MessageChange };

/**
 * A message on its way. `waiting`: not tried yet. `sending`: tried, awaiting the answer. `unconfirmed`: tried without
 * an answer, so it may be stored; it is retried with the same nonce. `failed`: refused for good. `sent`: stored with
 * this `seq`, which the shown log has not reached.
 */
export type Outgoing = {
  nonce: string;
  roomId: RoomId;
  message: string;
  /** What goes with the text, in this order. They are uploaded before the message is sent. */
  files?: readonly OutgoingFile[];
  /** The server did not know the uploaded files any more, and they were uploaded once more. */
  renewed?: true;
  /** This browser could not store it: the page that is open alone has it. */
  unkept?: true;
  /** Present if this is a change of a stored message. `message` is an edit's new text. */
  change?: MessageChange;
  /** Until then it can be undone, and is not sent. Same clock as `created`. */
  heldUntil?: number;
  /** ms since 1970 on this machine's clock. */
  created: number;
} & Answering &
  (
    | { state: "waiting" | "sending" | "unconfirmed" }
    | { state: "failed"; failure: Failure }
    | { state: "sent"; seq: number }
  );

export type OutgoingState = { outgoing: readonly Outgoing[]; changing: readonly Changing[] };

export const initialOutgoing: OutgoingState = { outgoing: [], changing: [] };

export type OutgoingEvent = { type: "outgoing"; entries: readonly Outgoing[] };

type Around = OutgoingState & RoomsState & SessionState;

/** The outbox is done with a sent message; it stays here until the log has it. */
export function applyOutgoing<S extends Around>(state: S, { entries }: OutgoingEvent): S {
  const changing = entries.filter((entry): entry is Changing => entry.change !== undefined);
  const messages = entries.filter((entry) => entry.change === undefined);
  const told = new Set(messages.map((entry) => entry.nonce));
  const sent = state.outgoing.filter((entry) => entry.state === "sent" && !told.has(entry.nonce));
  const known = new Set(state.outgoing.map((entry) => entry.nonce));
  const news = ({ nonce, roomId }: Outgoing) => (known.has(nonce) ? [] : logOf(state, roomId));
  return { ...state, outgoing: follow(state, [...sent, ...messages], news), changing };
}

/** The first file that must be uploaded before the message can be sent. */
export function nextUpload({ files = [] }: Outgoing): OutgoingFile | undefined {
  return files.find(({ id }) => id === undefined);
}

/** Whether the outbox is still working on it. */
export function isUnderWay(entry: Outgoing): boolean {
  return entry.state !== "failed" && entry.state !== "sent";
}

/** The fields that every state of an entry keeps. */
export function withoutState({ nonce, roomId, message, files, change, created, ...rest }: Outgoing) {
  return {
    nonce,
    roomId,
    message,
    created,
    ...answering(rest),
    ...(files !== undefined && { files }),
    ...(change !== undefined && { change }),
  };
}

/** What an entry says of the message that it answers. */
export function answering({ replyTo, answered }: Answering): Answering {
  return {
    ...(replyTo !== undefined && { replyTo }),
    ...(answered !== undefined && { answered }),
  };
}

/** Whether a text answers this message, which its author may have brought back under another number. */
export function isAnsweredBy({ replyTo, answered }: Answering, message: Message): boolean {
  if (answered === undefined) return message.seq === replyTo;
  const { hash, from, nonce } = answered;
  return message.hash === hash || (nonce !== undefined && message.nonce === nonce && message.from === from);
}

/** A message as it will be after the changes that `by` requested; the same object if nothing changes. */
export function asChanged(message: Message, changing: readonly Changing[], by: UserId): Message {
  return changing.reduce(
    (now, entry) =>
      entry.state !== "failed" && entry.roomId === message.roomId && isMeant(entry.change, message)
        ? changed(now, entry, by)
        : now,
    message,
  );
}

/** A text without half characters, which the server refuses. */
export function withoutHalves(text: string): string {
  return text.replaceAll(/\p{Cs}/gu, "\ufffd");
}

/** Whether a change is of this message, and not of one that had its number before the log lost it. */
export function isMeant({ seq, hash }: MessageChange, message: Pick<Message, "seq" | "hash">): boolean {
  return seq === message.seq && (hash === undefined || hash === message.hash);
}

function changed(message: Message, { change, message: text, created }: Changing, by: UserId): Message {
  if (message.deleted !== undefined) return message;
  const { pinned, ...unpinned } = message;
  switch (change.do) {
    case "edit":
      return { ...message, message: text, edited: created };
    case "delete": {
      const { reactions: _, files: __, ...rest } = unpinned;
      return { ...rest, message: "", deleted: created };
    }
    case "pin":
      return change.on ? { ...unpinned, pinned: pinned ?? created } : unpinned;
    case "react": {
      const { emoji, on } = change;
      const { reactions = [] } = message;
      const known = reactions.some(([kind]) => kind === emoji);
      const next = known ? reactions : [...reactions, [emoji, []] satisfies Reaction];
      const reacted = next.map(([kind, users]): Reaction => {
        const others = users.filter((id) => id !== by);
        if (kind !== emoji || users.includes(by) === on) return [kind, users];
        return [kind, on ? [...users, by] : others];
      });
      return { ...message, reactions: reacted.filter(([, users]) => users.length > 0) };
    }
    default:
      return change satisfies never;
  }
}

/**
 * What is still shown of messages on their way: nothing of one once the log has it, or has passed it. `news`: the part of
 * an entry's log that was not searched for it before, or null if the entry stays as it is. Each message that comes asks
 * for this, and logs are long.
 */
function follow(
  state: Around,
  entries: readonly Outgoing[],
  news: (entry: Outgoing) => readonly Message[] | null,
): readonly Outgoing[] {
  const { session, rooms } = state;
  if (session.is !== "signed in") return entries;
  return entries.flatMap((entry) => {
    const room = rooms?.get(entry.roomId);
    const fresh = news(entry);
    if (room === undefined || fresh === null) return [entry];
    const isIt = ({ nonce, from }: Message) => nonce === entry.nonce && from === session.user.id;
    if (fresh.some(isIt)) return [];
    if (entry.state === "sent") {
      const passed = room.log !== null && !room.stale && entry.seq <= room.log.head;
      return passed ? [] : [entry];
    }
    const held = room.held.find(isIt);
    return held === undefined ? [entry] : [{ ...withoutState(entry), state: "sent" as const, seq: held.seq }];
  });
}

function logOf({ rooms }: RoomsState, roomId: RoomId): readonly Message[] {
  return rooms?.get(roomId)?.log?.messages ?? [];
}

/** What a log has beyond what it had: all of it, unless it is the same one, and went on. Its hashes are a chain. */
function since(before: readonly Message[], now: readonly Message[]): readonly Message[] {
  const end = before.length - 1;
  const goesOn = end >= 0 && now[0] === before[0] && now[end] === before[end];
  return goesOn ? now.slice(end + 1) : now;
}

/** Notes that a message is stored, as its answer says. */
export function settleTold<S extends Around>(state: S, { nonce, from, seq }: Message): S {
  const mine = state.session.is === "signed in" && state.session.user.id === from;
  return withOutgoing(
    state,
    state.outgoing.map((entry) =>
      mine && entry.nonce === nonce && entry.state !== "sent"
        ? { ...withoutState(entry), state: "sent", seq }
        : entry,
    ),
  );
}

/** Removes from `outgoing` what the room shows as stored, now that its log is another one than before. */
export function settle<S extends Around>(before: RoomsState, state: S, roomId: RoomId): S {
  const news = since(logOf(before, roomId), logOf(state, roomId));
  const outgoing = follow(state, state.outgoing, (entry) => (entry.roomId === roomId ? news : null));
  return withOutgoing(state, outgoing);
}

/** As `settle`, after a complete `sync` of the room. */
export function settleSynced<S extends Around>(before: RoomsState, state: S, answer: SyncedRoom): S {
  const { roomId, more, reset } = answer;
  const settled = settle(before, state, roomId);
  const room = settled.rooms?.get(roomId);
  if (room === undefined || (more && reset === undefined)) return settled;
  // A sent message that is neither loaded nor held was of a lost log: it goes back to the outbox.
  const held = new Set(room.held.map((message) => message.nonce));
  return withOutgoing(
    settled,
    settled.outgoing.filter(
      (entry) => entry.roomId !== roomId || entry.state !== "sent" || held.has(entry.nonce),
    ),
  );
}

function withOutgoing<S extends OutgoingState>(state: S, outgoing: readonly Outgoing[]): S {
  const { outgoing: before } = state;
  const same = outgoing.length === before.length && outgoing.every((one, at) => one === before[at]);
  return same ? state : { ...state, outgoing };
}
