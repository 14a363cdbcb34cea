/**
 * The wire. Declares everything that a client and a replica say to each other. Imports nothing, so that it can be read
 * as a document and compiled on both sides.
 *
 * Ids are strings of decimal digits. `date` is milliseconds since 1970 on Redis' clock. `seq` counts the
 * messages of one room: 1, 2, 3, ... without a gap.
 */

export type UserId = string;

/**
 * `"0"` is General, `"17"` a named room, `"3:12"` the private 1:1 room of users 3 and 12 (ascending): see `RoomKind`.
 */
export type RoomId = string;

/**
 * Who is in a room: `everyone` in General; anybody who joins in an `open` room; the creator and whom they let in in an
 * `invite` room, which does not exist for others; two users, `userIds`, in a `direct` room.
 */
export type RoomKind = "everyone" | "open" | "invite" | "direct";

/**
 * Names of deleted accounts stay taken, and are shown as `deleted user`. `avatar` names the user's picture, and is another
 * one with each new picture.
 */
export type User = {
  id: UserId;
  username: string;
  displayName?: string;
  avatar?: string;
  deleted?: true;
};

/** One's own account. Without `role`, a user. */
export type Me = User & { role?: Exclude<ServerRole, "user"> };

/** One of one's own sessions; times are in ms, and `seen`, the last use, is exact to a minute. */
export type OwnSession = {
  id: string;
  current: boolean;
  created: number;
  seen: number;
  address?: string;
  device?: string;
};

/** What becomes of a deleted account's messages. */
export const FAREWELLS = ["keep", "delete"] as const;
export type Farewell = (typeof FAREWELLS)[number];

/** An account as the server's admins see it. Times are in ms. `demo`: everybody knows its password. */
export type Account = Presence & {
  role: ServerRole;
  created: number;
  disabled?: number;
  demo?: true;
  /** How many sessions it has; only when one account is asked for. */
  sessions?: number;
};

/** What the server's admins set. No message may have one of `words`. */
export type ServerSettings = { signup: SignUpMode; words: string[] };

export type ServerStats = { people: number; online: number; rooms: number; messages: number };

/** Who may sign up: anybody, or only people with an invitation; `closed` says nothing of invitations. */
export const SIGN_UP_MODES = ["open", "invite", "closed"] as const;
export type SignUpMode = (typeof SIGN_UP_MODES)[number];

/** What somebody may do in a room: see docs/rights.md. The owner is its maker, and a room that has people keeps one. */
export const ROOM_ROLES = ["member", "moderator", "owner"] as const;
export type RoomRole = (typeof ROOM_ROLES)[number];

/** What somebody may do on the server. */
export const SERVER_ROLES = ["user", "admin", "owner"] as const;
export type ServerRole = (typeof SERVER_ROLES)[number];

export type Presence = User & { online: boolean };

/**
 * A stored message. `date` rises strictly within a room and is therefore also the cursor for paging. `hash` is a
 * running hash over the room's log as it was sent: equal hashes at equal `seq` mean equal logs up to here. Both stay,
 * and so do `roomId`, `seq`, `from` and `nonce`; the rest may change. The greater `rev` is the newer state of a
 * message; one that never changed has none.
 */
export type Message = {
  roomId: RoomId;
  seq: number;
  date: number;
  hash: string;
  from: UserId;
  /** `""` for a deleted message. */
  message: string;
  nonce?: string;
  /** seq of the message that this one answers. */
  replyTo?: number;
  /** seq of the first message of this one's thread. */
  thread?: number;
  /** The users whom the text mentions. */
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
  /** What was sent with it, in the sender's order. With files `message` may be `""`. */
  files?: MessageFile[];
  /** Each emoji, in the order of first use, with the users who reacted with it. */
  reactions?: Reaction[];
  /** The number of this message's last change among the room's changes. */
  rev?: number;
};

export type Reaction = [emoji: string, users: UserId[]];

/**
 * An uploaded file. `type` was read from its bytes; `size` is in bytes. Images (JPEG, PNG, WebP, GIF, AVIF) have a size
 * in pixels and a thumbnail; `animated` ones have several frames, and their thumbnail shows the first.
 */
export type UploadedFile = {
  id: string;
  name: string;
  type: string;
  size: number;
  width?: number;
  height?: number;
  animated?: true;
};
/** A file of a message, with its sender's words for those who cannot see it. */
export type MessageFile = UploadedFile & { alt?: string };
/**
 * What a user may upload: bytes of one file, files of one message, media types (`image/*`, or with a star for both parts
 * any), and bytes of all their files, of which so many are in use.
 */
export type FileLimits = {
  fileBytes: number;
  messageFiles: number;
  types: string[];
  userBytes: number;
  used: number;
};

/** Which messages of a room notify a user. */
export const NOTIFY_LEVELS = ["all", "mentions", "nothing"] as const;
export type NotifyLevel = (typeof NOTIFY_LEVELS)[number];

/**
 * A room as one of its members sees it. `names` holds the name of a named room, or both usernames of a private room in
 * the order of the ids. `unread` is `seq - read` without deleted messages, never a counter.
 */
export type Room = {
  id: RoomId;
  kind: RoomKind;
  names: string[];
  /** The users of a direct room, ascending. */
  userIds?: [UserId, UserId];
  /** Whether it is a direct room. */
  private: boolean;
  last: Message | null;
  /** seq of the newest message, 0 for an empty room. */
  seq: number;
  /** seq up to which this user has read. Their own message raises it to its seq, and no event says so. */
  read: number;
  unread: number;
  /** seq of each deleted message after `read`, if there are any; the newest 500. */
  deleted?: number[];
  /** How many messages after `read` mention this user, if any do. */
  mentions?: number;
  /** seq after which messages to everybody in the room mention this user: what was said before they came does not. */
  calledSince?: number;
  /** What notifies this user, if they chose; the default is all in a direct room, and mentions elsewhere. */
  notify?: NotifyLevel;
  /** Whether this user has answers folded into their threads. Else they stand in the log, where they were said. */
  folded?: true;
  /** Whether this user sees it on top of their list. */
  favourite?: true;
  /** Whether this user has hidden it, a direct room, until its next message. */
  hidden?: true;
} & Partial<Standing> &
  Partial<RoomSettings>;

/** What this user is in a room, and until when they may not write there, in ms. */
export type Standing = { role: RoomRole; mutedUntil?: number };

/** What a room's moderators set. */
export type RoomSettings = {
  topic: string;
  /** Seconds that a member waits between two messages. */
  slow: number;
  /** When the room was closed for writing, in ms. */
  archived: number;
};

/** A member as the others see them. */
export type Member = User & Standing;

/**
 * An invite link to a room, by whom and since when. `expires` in ms; `uses`: how many people it lets in, without it any
 * number; `used`: how many it has let in.
 */
export type Invite = {
  code: string;
  url: string;
  by: UserId;
  created: number;
  expires: number;
  uses?: number;
  used: number;
};
/** What an invite leads to, as anybody with the link sees it. */
export type Invitation = { roomId: RoomId; kind: RoomKind; name: string; by: User; expires: number };

/** A reported message: by whom first, since when, and whether a moderator has looked at it. */
export type StoredReport = {
  /** `<room id>/<seq>` */
  id: string;
  roomId: RoomId;
  seq: number;
  by: UserId;
  at: number;
  reason?: string;
  state: "open" | "done";
};
/** The same in a list, with the message as it is now; `cursor` asks for the reports after it. */
export type Report = StoredReport & { cursor: string; message: Message };

/**
 * What a moderator, an admin or the operator did, or tried to. `by` is `""` for the operator's shell; `what` is an
 * action of docs/rights.md or one on an account.
 */
export type AuditEntry = {
  id: string;
  at: number;
  by: UserId;
  what: string;
  roomId?: RoomId;
  userId?: UserId;
  seq?: number;
  detail?: string;
  /** It was refused. */
  refused?: true;
  /** It was begun; whether it was done is unknown, because the server stopped or Redis gave no answer. */
  unfinished?: true;
};

/** A user who may not come back to a room: by whom, since when, and until when unless for ever; in ms. */
export type Ban = User & { by: UserId; at: number; until?: number };

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

/** A room as the server's admins manage it: General, an open room, or an invite room that they are in. */
export type ManagedRoom = Omit<ListedRoom, "kind"> & { kind: RoomKind } & Partial<RoomSettings>;

/**
 * A page of matches, best first, of `total` in all. If not `complete`, some names were not searched yet: the same
 * search, asked again, may find more.
 */
export type Found<T> = { found: T[]; total: number; complete: boolean };

/**
 * Matches of a message search, newest first. With a `cursor` there may be more, in messages dated before `until`:
 * everything since then was searched. A page may have no hits and still a cursor.
 */
export type Hits = { hits: Hit[]; cursor?: string; until?: number };
export type Hit = { message: Message };

/**
 * The last known change of a room: `rev` counts changes (1, 2, 3, ... without a gap), and `revHash` is a running hash
 * over them.
 */
export type Revision = { rev: number; revHash: string };

/**
 * Messages oldest first; `more` tells whether the asked direction holds further ones. On pages that were asked for by
 * a message or a moment there is `newer`, and `more` means older ones. The page includes every change up to `rev`,
 * which servers of the previous version omit. `cursor`: of pinned messages, if there are `more`, what asks for them.
 * `threads`, if asked for: those that begin on the page.
 */
export type Page = {
  messages: Message[];
  more: boolean;
  newer?: boolean;
  cursor?: number;
  threads?: Thread[];
} & Partial<Revision>;

/** Of the message `seq`, which begins a thread: how many answers are in it, and the newest of them. None is deleted. */
export type Thread = { seq: number; count: number; last: Pick<Message, "seq" | "date" | "from"> };

/** What a client knows of a room: its newest message, and its last change. `seq` 0 asks for everything. */
export type Cursor = { roomId: RoomId; seq: number; date: number; hash?: string } & Partial<Revision>;

/** The present state of the messages that changed after rev `after`, up to `rev`. */
export type Changes = { after: number; messages: Message[] } & Revision;

/**
 * The answer to one cursor. Without `reset` the messages follow the cursor. With `reset` the client's copy of the log
 * is not a prefix of the stored log (Redis lost its tail, or the history was trimmed): the client drops its copy and
 * starts from `messages`, the newest page. `more` without messages: the answer was full, and says nothing of this room;
 * ask again. `notFound`: not a room of this user's, or one that is damaged. `changes` tells what else changed since the
 * cursor's `rev`; with a `reset` of its own the changes are no longer known, and the client reads again what it shows.
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
  /** The request is malformed. For `If-Match` and `Range` that do not fit a file of the page: 412 and 416. */
  "invalid",
  /** No session, or wrong username or password. */
  "unauthorized",
  /** From another site's page, one room too many, or without the right: see docs/rights.md. */
  "forbidden",
  /** A moderator has muted you in this room. */
  "muted",
  /** The room is archived: it can be read, and not be written to. */
  "archived",
  /** Unknown, or hidden from you: the same answer. */
  "not_found",
  /** Another room or user has the name. */
  "taken",
  /** The message has changed meanwhile, or is deleted: `current` is its present state. */
  "conflict",
  /** The body or the text is too long. */
  "too_large",
  /** Too many; wait `retryAfterMs` (`Retry-After`). */
  "rate_limited",
  /** Not now, outcome perhaps unknown; a retry with the same `nonce` is safe. */
  "unavailable",
  /** A bug, which is in the log. */
  "internal",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** `unavailable` and `rate_limited` may be retried (with the same nonce) after `retryAfterMs`; the rest are final. */
export type Failure = { code: ErrorCode; message: string; retryAfterMs?: number; current?: Message };

export type Reply<T> = { ok: true; value: T } | { ok: false; error: Failure };
export type Answer<T> = (reply: Reply<T>) => void;

/**
 * `nonce` is the sender's own name for this send: a retry with the same one never stores a second message. `replyTo` is
 * the seq of the answered message. Another may have got that number if Redis lost the end of a log: with the `hash` of
 * the message that was meant as `replyToHash`, such an answer is `not_found`, and not stored. `files` are ids of uploads to
 * this room that no message has yet, alone or with words for them.
 */
export type SendMessage = {
  roomId: RoomId;
  message: string;
  nonce: string;
  replyTo?: number;
  replyToHash?: string;
  files?: (string | SentFile)[];
};
export type SentFile = { id: string; alt?: string };

/**
 * A stored message. Another may have got its number if Redis lost the end of a log: with the `hash` of the message that
 * was meant, such a request is `not_found`.
 */
export type Target = { roomId: RoomId; seq: number; hash?: string };

/** `rev`: the last change that the author knew of, 0 for none. A retry with the same `nonce` changes nothing more. */
export type EditMessage = Target & { message: string; rev: number; nonce: string };

export type React = Target & { emoji: string; on: boolean };

export type MarkRead = { roomId: RoomId; seq: number; unread?: true };

export type ClientEvents = {
  /** Answers with the stored message; the same `nonce` again gives the same message. */
  message: (send: SendMessage, answer: Answer<Message>) => void;
  /** Changes the text of one's own message. Answers with the present message; `conflict` if it was edited since. */
  "message.edit": (edit: EditMessage, answer: Answer<Message>) => void;
  /** Deletes one's own message for good; a mark stays in its place. A repeat changes nothing. */
  "message.delete": (target: Target, answer: Answer<Message>) => void;
  /** Reacts with an emoji, or takes it back. */
  "message.react": (react: React, answer: Answer<Message>) => void;
  /** Pins a message to its room, or unpins it. */
  "message.pin": (pin: Target & { on: boolean }, answer: Answer<Message>) => void;
  /** This user is writing in a room. Repeat it every 3 s; when the user stops, just stop repeating. */
  typing: (typing: { roomId: RoomId }, answer: Answer<null>) => void;
  /** Joins a named room; answers with its newest messages: 50, or those of 128 KiB. */
  "room.join": (
    join: { roomId: RoomId },
    answer: Answer<{ room: Room; messages: Message[] } & Revision>,
  ) => void;
  /** Leaves a named room: General and private rooms cannot be left. */
  "room.leave": (leave: { roomId: RoomId }, answer: Answer<null>) => void;
  /**
   * Marks everything up to `seq` as read, and with `unread` everything after it as unread; a mark falls in no other
   * way. Answers with the mark.
   */
  "room.read": (read: MarkRead, answer: Answer<{ read: number }>) => void;
  /** What follows each cursor; with `reset` the newest page, for a client whose copy is not the stored log. */
  sync: (sync: { rooms: Cursor[] }, answer: Answer<{ rooms: SyncedRoom[] }>) => void;
};

export type ServerEvents = {
  /** A message in one of the user's rooms. */
  message: (message: Message) => void;
  /** Messages of a room that have changed. The last of many changes of a message may stand for all. */
  changes: (changes: Changes & { roomId: RoomId }) => void;
  /** Somebody is writing in a room: valid for 5 s. May get lost; of many at once only a few are told. */
  typing: (typing: { roomId: RoomId; userId: UserId }) => void;
  /** Who came online since the last diff; at most one diff a second. */
  "user.connected": (users: Presence[]) => void;
  /** Who went offline since the last diff; at most one diff a second. */
  "user.disconnected": (users: Presence[]) => void;
  /** This user's own account is shown otherwise now, or has another role. */
  me: (me: Me) => void;
  /** A room became visible to this user, and is heard from now on. What was said before, up to its `seq`, `sync` tells. */
  "show.room": (room: Room) => void;
  /** The user left this room in another window, or was removed from it. */
  "hide.room": (left: { roomId: RoomId }) => void;
  /** This user's standing in a room has changed. */
  "room.member": (standing: { roomId: RoomId } & Standing) => void;
  /** The settings of a room have changed, or its name. */
  "room.changed": (room: { roomId: RoomId; kind: RoomKind; name: string } & Partial<RoomSettings>) => void;
  /** The user read this room in another window, or with `unread` marked part of it as unread. */
  "room.read": (read: { roomId: RoomId; read: number; unread?: true }) => void;
  /**
   * The earlier messages may belong to another log, or something is missing: `sync` the room. The answer to a `sync`
   * that was sent before may be of the lost log.
   */
  "room.stale": (stale: { roomId: RoomId }) => void;
};

/** REST bodies and answers, all under `/api`. An error's body is a `Failure`. */
export type Credentials = { username: string; password: string };
export type NewUser = Credentials & { invite?: string | undefined };
/** `null` takes the display name away. */
export type Profile = { displayName: string | null };
export type NewPassword = { current: string; next: string };
export type Leave = { password: string; messages: Farewell };
export type AccountPatch = { role?: ServerRole | undefined; disabled?: boolean | undefined };
export type Notifications = { level: NotifyLevel };
/** What is to change in how this user sees a room. `seq`: the newest message that they knew when they hid it. */
export type RoomView = {
  folded?: boolean | undefined;
  favourite?: boolean | undefined;
  hidden?: boolean | undefined;
  seq?: number | undefined;
};
export type NewRoom = { name: string; kind?: ListedRoom["kind"] | undefined; topic?: string | undefined };
/** What is to change in a room: `""`, 0 and false take a setting away. */
export type RoomPatch = {
  name?: string | undefined;
  kind?: ListedRoom["kind"] | undefined;
  topic?: string | undefined;
  slow?: number | undefined;
  archived?: boolean | undefined;
};
export type NewInvite = { expires?: number | undefined; uses?: number | undefined };
export type NewReport = { roomId: RoomId; seq: number; reason?: string | undefined };
/** The changes of a member: `mutedUntil` 0 ends a mute. Adds a user who is not a member, unless it is a mute alone. */
export type MemberPatch = { role?: RoomRole | undefined; mutedUntil?: number | undefined };
export type NewPrivateRoom = { userId: UserId };

export const FILE_ID = /^[\w-]{22}$/;

/** A room's id; nothing else ever reaches a key. A pair must also ascend: see `isRoomId`. */
export const ROOM_ID = /^(0|[1-9]\d{0,9})(:[1-9]\d{0,9})?$/;
/** A user's id. */
export const USER_ID = /^[1-9]\d{0,9}$/;
/** A username; compared without case. Names that look like `admin`, `system` and the like are reserved. */
export const USERNAME = /^[a-z0-9._-]{3,32}$/i;
/** The same for people, also those whose letters are others. */
export const USERNAME_WORDS = "3 to 32 letters from a to z, digits, dots, underscores or hyphens";
/** The sender's own name for one send. */
export const NONCE = /^[\w.:-]{1,64}$/;

export const LIMITS = {
  /** UTF-16 units of one message's text. */
  message: 4_000,
  /** Files of one message. */
  messageFiles: 10,
  /** UTF-16 units of a file's name: longer ones are shortened before the extension. */
  fileName: 200,
  /** UTF-16 units of the words for a file that some cannot see. */
  alt: 500,
  /** Users that one message mentions: only the first ones are told. */
  mentions: 50,
  /** Kinds of emoji on one message. */
  reactionKinds: 20,
  /** Reactions to one message in all. */
  reactions: 1_000,
  /** UTF-8 bytes of a password, composed (NFC): bcrypt reads no further. */
  passwordBytes: 72,
  /** Least characters of a password; the most common passwords are refused. */
  passwordMin: 8,
  /** Filtered words of the server. */
  words: 1_000,
  /** Characters of a filtered word. */
  word: 64,
  /** Characters of a display name, which must not look like somebody else's name. */
  displayName: 40,
  /** Characters of a room's name, which must not look like another room's. */
  roomName: 64,
  /** Characters of a room's topic. */
  topic: 250,
  /** Seconds of slow mode. */
  slow: 21_600,
  /** People that one invite lets in, at most. */
  inviteUses: 100_000,
  /** Characters of a report's reason. */
  reason: 500,
  /** UTF-16 units of the searched text, `q`. */
  search: 100,
  /** Messages, users or rooms of one page, at most; at least 1. */
  page: 100,
  /** The same if no size is given. */
  pageDefault: 50,
  /** Rooms of one `sync`. */
  syncRooms: 100,
  /** Ids of one `GET /api/users?ids=`. */
  userIds: 100,
  /** Bytes of a REST body and of one Socket.IO packet. */
  bodyBytes: 32_768,
} as const;

/**
 * Whether nothing of a text is visible: only spaces, control characters, Unicode's default-ignorable characters (zero
 * width, fillers, variation selectors), and the blank Braille pattern. Takes linear time.
 */
export function isBlank(text: string): boolean {
  return /^[\s\p{Cc}\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(text);
}

/**
 * An emoji as Unicode recommends it for general interchange: a flag, a keycap or a family is one. The flag `v` is newer
 * than the language we build for. Compiling it takes 15 ms, at its first use and again at its second one.
 */
const EMOJI = new RegExp(String.raw`\p{RGI_Emoji}`, "vy");
/** What every emoji has, and what none but ℹ️ has. */
const PICTORIAL = /[\p{Extended_Pictographic}\p{Regional_Indicator}\p{Emoji_Modifier}\u20E3]/u;
const LETTER = /(?!\u2139)\p{L}/u;
const EMOJI_LONGEST = 100;
const EMOJI_LARGE = 3;

/** How many emoji the text consists of, with at most one space after each; 0 if there is anything else in it. */
function countEmoji(text: string): number {
  if (text.length > EMOJI_LONGEST || LETTER.test(text) || !PICTORIAL.test(text)) return 0;
  let count = 0;
  for (let at = 0; at < text.length; count += 1) {
    EMOJI.lastIndex = at;
    if (!EMOJI.test(text)) return 0;
    at = EMOJI.lastIndex;
    if (/\s/.test(text.charAt(at))) at += 1;
  }
  return count;
}

/** Whether a text is one emoji and nothing else, as reactions are. */
export function isEmoji(text: string): boolean {
  return countEmoji(text) === 1 && !/\s/.test(text);
}

/** Whether a text is one to three emoji and nothing else: they are shown large. */
export function isEmojiOnly(text: string): boolean {
  const count = countEmoji(text);
  return count >= 1 && count <= EMOJI_LARGE;
}

/** Whether this is a room's id; one of two users names them in ascending order. */
export function isRoomId(value: unknown): value is RoomId {
  if (typeof value !== "string" || !ROOM_ID.test(value)) return false;
  const colon = value.indexOf(":");
  return colon < 0 || (value[0] !== "0" && Number(value.slice(0, colon)) < Number(value.slice(colon + 1)));
}

/** Whether people name, join and leave rooms of this kind. */
export function isNamed(kind: RoomKind): boolean {
  return kind === "open" || kind === "invite";
}
