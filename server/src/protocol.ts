/**
 * The wire. Everything that a client and a replica say to each other is declared here, once, and this file
 * imports nothing, so that it can be read as a document and compiled on both sides.
 *
 * Ids are strings of decimal digits. `date` is milliseconds since 1970 on Redis' clock. `seq` counts the
 * messages of one room: 1, 2, 3, ... without a hole.
 */

export type UserId = string;

/** `"0"` is General, `"17"` a named room, `"3:12"` the private 1:1 room of users 3 and 12 (ascending): see `RoomKind`. */
export type RoomId = string;

/**
 * Who is in a room: `everyone` in General; in an `open` room whoever joins; in an `invite` room whoever made it, and
 * whoever else was let in, and to all others it is no room; in a `direct` room two users, who are told by `userIds`.
 */
export type RoomKind = "everyone" | "open" | "invite" | "direct";

export type User = { id: UserId; username: string };

export type Presence = User & { online: boolean };

/**
 * A stored message. `date` rises strictly within a room and is therefore also the cursor for paging.
 * `hash` is a running hash over the room's log as it was said: equal hashes at equal `seq` mean equal logs up to here.
 * Both stay, and so do `roomId`, `seq`, `from` and `nonce`; the rest may change. Of two states of a message the one
 * with the greater `rev` is the newer; one that never changed has none.
 */
export type Message = {
  roomId: RoomId;
  seq: number;
  date: number;
  hash: string;
  from: UserId;
  /** `""` once it is deleted. */
  message: string;
  nonce?: string;
  /** seq of the message that this one answers. */
  replyTo?: number;
  /** seq of the first message of the chain of answers that this one is in. */
  thread?: number;
  /** Who is named in the text. */
  mentions?: UserId[];
  /** Everybody in the room is, as `@room`. */
  mentionsRoom?: true;
  /** When the text was last changed, in ms, and the `rev` of that change. */
  edited?: number;
  editRev?: number;
  /** When it was deleted, in ms. */
  deleted?: number;
  /** When it was pinned to the room, in ms. */
  pinned?: number;
  /** Each emoji, in the order in which they came, with the users who reacted with it. */
  reactions?: Reaction[];
  /** Which of the room's changes was this message's last one. */
  rev?: number;
};

export type Reaction = [emoji: string, users: UserId[]];

/** Of which messages of a room somebody is notified. */
export const NOTIFY_LEVELS = ["all", "mentions", "nothing"] as const;
export type NotifyLevel = (typeof NOTIFY_LEVELS)[number];

/**
 * A room as one of its members sees it. `names` holds the name of a named room, or both usernames of a
 * private room in the order of the ids. `unread` is `seq - read` without
 * those that are deleted, never a counter.
 */
export type Room = {
  id: RoomId;
  kind: RoomKind;
  names: string[];
  /** Of a direct room, ascending. */
  userIds?: [UserId, UserId];
  /** Whether it is a direct room. */
  private: boolean;
  last: Message | null;
  /** seq of the newest message, 0 for an empty room. */
  seq: number;
  /** seq up to which this user has read. */
  read: number;
  unread: number;
  /** seq of each deleted message beyond `read`, where there are any; the newest 500. */
  deleted?: number[];
  /** How many messages beyond `read` mention this user, where there are any. */
  mentions?: number;
  /** Of what this user is notified, where they have said. Else it is all in a direct room, and elsewhere mentions. */
  notify?: NotifyLevel;
};

/** How many people a message to everybody in a room reaches. */
export type Audience = { people: number };

/** A named room as the directory tells of it: an open one to everybody, an invite one to its members. */
export type ListedRoom = {
  id: RoomId;
  kind: "open" | "invite";
  name: string;
  members: number;
  joined: boolean;
};

/**
 * A page of what a search has found, best matches first, of `total` in all. Without `complete` not every name has been
 * looked at yet: the same search, asked again, may find more.
 */
export type Found<T> = { found: T[]; total: number; complete: boolean };

/**
 * What a search among messages has found, newest first. With a `cursor` there may be more, of messages dated before
 * `until`: everything from then on has been looked at. There may be no hits and a cursor all the same.
 */
export type Hits = { hits: Hit[]; cursor?: string; until?: number };
export type Hit = { message: Message };

/**
 * How far the changes of a room are known: `rev` counts them (1, 2, 3, ... without a hole), and `revHash` is a running
 * hash over them.
 */
export type Revision = { rev: number; revHash: string };

/**
 * Messages oldest first; `more` tells whether the asked direction holds further ones. With `newer`, on pages that were
 * asked for by a message or a moment, `more` means older ones. No change up to `rev` is missing;
 * servers of the version before do not say it.
 */
export type Page = { messages: Message[]; more: boolean; newer?: boolean } & Partial<Revision>;

/** How far a client knows a room: its newest message, and its changes. `seq` 0 asks for everything. */
export type Cursor = { roomId: RoomId; seq: number; date: number; hash?: string } & Partial<Revision>;

/** From rev `after` to `rev` these messages have changed, and are now so. */
export type Changes = { after: number; messages: Message[] } & Revision;

/**
 * The answer to one cursor. Without `reset` the messages follow the cursor. With `reset` the client's copy of
 * the log is not a prefix of the stored log (Redis lost its tail, or the history was trimmed): it drops what
 * it has of the room and starts from `messages`, the newest page. `notFound`: not a room of this user's.
 * `changes` tells what else has changed since the cursor's `rev`. With its `reset` nobody can tell (any more): the
 * client reads what it shows again.
 */
export type SyncedRoom = {
  roomId: RoomId;
  messages: Message[];
  more: boolean;
  reset?: "ahead" | "rewound" | "trimmed";
  notFound?: true;
  changes?: Changes & { reset?: true };
};

export const ERROR_CODES = [
  /** The request is not what it should be. */
  "invalid",
  /** No session, or wrong username or password. */
  "unauthorized",
  /** From another site's page, or one room too many. */
  "forbidden",
  /** Unknown, or not yours to see: the same answer. */
  "not_found",
  /** The name is somebody's. */
  "taken",
  /** The message has changed meanwhile, or is deleted: `current` is how it is now. */
  "conflict",
  /** The body or the text is too long. */
  "too_large",
  /** Too many; wait `retryAfterMs` (`Retry-After`). */
  "rate_limited",
  /** Not now, outcome perhaps unknown; the same `nonce` may be sent again. */
  "unavailable",
  /** A bug, in the log. */
  "internal",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** `unavailable` and `rate_limited` may be retried (with the same nonce) after `retryAfterMs`; the rest are final. */
export type Failure = { code: ErrorCode; message: string; retryAfterMs?: number; current?: Message };

export type Reply<T> = { ok: true; value: T } | { ok: false; error: Failure };
export type Answer<T> = (reply: Reply<T>) => void;

/** `nonce` is the sender's own name for this send: a retry with the same one never stores a second message. */
export type SendMessage = { roomId: RoomId; message: string; nonce: string; replyTo?: number };

/** `rev`: how far its author knew the room's changes, 0 for none. A retry with the same `nonce` changes nothing more. */
export type EditMessage = { roomId: RoomId; seq: number; message: string; rev: number; nonce: string };

export type React = { roomId: RoomId; seq: number; emoji: string; on: boolean };

export type MarkRead = { roomId: RoomId; seq: number; unread?: true };

export type ClientEvents = {
  /** Answers with the stored message; the same `nonce` again gives the same message. */
  message: (send: SendMessage, answer: Answer<Message>) => void;
  /** Changes the text of one's own message. Answers with the message as it is now; `conflict` where it was edited since. */
  "message.edit": (edit: EditMessage, answer: Answer<Message>) => void;
  /** Deletes one's own message for good: what is left says that it was there. Done twice, it is done. */
  "message.delete": (target: { roomId: RoomId; seq: number }, answer: Answer<Message>) => void;
  /** Reacts with an emoji, or takes it back. */
  "message.react": (react: React, answer: Answer<Message>) => void;
  /** Pins a message to its room, or takes it down. */
  "message.pin": (pin: { roomId: RoomId; seq: number; on: boolean }, answer: Answer<Message>) => void;
  /** This user is writing in a room. To be said every 3 s, and to nobody again where it stops. */
  typing: (typing: { roomId: RoomId }, answer: Answer<null>) => void;
  /** A named room, answered with its newest page. */
  "room.join": (
    join: { roomId: RoomId },
    answer: Answer<{ room: Room; messages: Message[] } & Revision>,
  ) => void;
  /** A named room: General and private rooms stay. */
  "room.leave": (leave: { roomId: RoomId }, answer: Answer<null>) => void;
  /**
   * Marks everything up to `seq` as read, and with `unread` everything after it as unread: a mark moves downwards in no
   * other way. Answers with where it stands.
   */
  "room.read": (read: MarkRead, answer: Answer<{ read: number }>) => void;
  /** What follows each cursor; with `reset` the newest page, for a client whose copy is not what is stored. */
  sync: (sync: { rooms: Cursor[] }, answer: Answer<{ rooms: SyncedRoom[] }>) => void;
};

export type ServerEvents = {
  /** A message in one of the user's rooms. */
  message: (message: Message) => void;
  /** Messages of a room that have changed. Of many changes of one message the last one may stand for all. */
  changes: (changes: Changes & { roomId: RoomId }) => void;
  /** Somebody is writing in a room: so for 5 s. May get lost, and of many at once a few are told. */
  typing: (typing: { roomId: RoomId; userId: UserId }) => void;
  /** Who came online since the last diff; at most one diff a second. */
  "user.connected": (users: Presence[]) => void;
  /** Who went offline since the last diff; at most one diff a second. */
  "user.disconnected": (users: Presence[]) => void;
  /** A room is now this user's to see: joined from another window, or a private room's first message. */
  "show.room": (room: Room) => void;
  /** The user left this room in another window. */
  "hide.room": (left: { roomId: RoomId }) => void;
  /** The user read this room in another window, or with `unread` marked a part of it as unread. */
  "room.read": (read: { roomId: RoomId; read: number; unread?: true }) => void;
  /** The room's log is another one than the messages before this told, or nobody can say what is missing: `sync` it. */
  "room.stale": (stale: { roomId: RoomId }) => void;
};

/** REST bodies and answers, all under `/api`. An error's body is a `Failure`. */
export type Credentials = { username: string; password: string };
export type Notifications = { level: NotifyLevel };
export type NewRoom = { name: string; kind?: ListedRoom["kind"] | undefined };
export type NewPrivateRoom = { userId: UserId };

/** A room's id, and nothing else ever reaches a key. A pair must also ascend: see `isRoomId`. */
export const ROOM_ID = /^(0|[1-9]\d{0,9})(:[1-9]\d{0,9})?$/;
/** A user's id. */
export const USER_ID = /^[1-9]\d{0,9}$/;
/** A username; compared without case, and none that looks like `admin`, `system` and the like. */
export const USERNAME = /^[a-z0-9._-]{3,32}$/i;
/** The sender's own name for one send. */
export const NONCE = /^[\w.:-]{1,64}$/;

export const LIMITS = {
  /** UTF-16 units of one message's text. */
  message: 4_000,
  /** Users whom one message mentions: the first ones are told. */
  mentions: 50,
  /** Kinds of emoji on one message. */
  reactionKinds: 20,
  /** Reactions to one message in all. */
  reactions: 1_000,
  /** UTF-8 bytes of a password: bcrypt reads no further. */
  passwordBytes: 72,
  /** Characters of a password, at least; the first guesses are refused. */
  passwordMin: 8,
  /** Characters of a room's name, which may not be taken for another room's. */
  roomName: 64,
  /** UTF-16 units of what is looked for, `q`. */
  search: 100,
  /** Messages, users or rooms of one page, at most; at least 1. */
  page: 100,
  /** The same where nobody says how many. */
  pageDefault: 50,
  /** Rooms of one `sync`. */
  syncRooms: 100,
  /** Ids of one `GET /api/users?ids=`. */
  userIds: 100,
  /** Bytes of a REST body and of one Socket.IO packet. */
  bodyBytes: 32_768,
} as const;

/**
 * Whether nothing of a text can be seen: spaces, control characters, and what Unicode has programs leave out of
 * sight (zero width, fillers, variation selectors), with the blank Braille pattern. Takes time in its length.
 */
export function isBlank(text: string): boolean {
  return /^[\s\p{Cc}\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(text);
}

/** Whether this is a room's id: that of two users names them in ascending order. */
export function isRoomId(value: unknown): value is RoomId {
  if (typeof value !== "string" || !ROOM_ID.test(value)) return false;
  const [one, other] = value.split(":");
  return other === undefined || (one !== "0" && Number(one) < Number(other));
}
