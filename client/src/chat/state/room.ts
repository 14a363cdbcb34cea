import type {
  Changes,
  Message,
  NotifyLevel,
  Page,
  Room,
  RoomId,
  RoomKind,
  RoomSettings,
  Standing,
  SyncedRoom,
  UserId,
} from "@hubbub/server/protocol";
import {
  allNewest,
  doubt,
  isDoubtful,
  isNewer,
  isSame,
  newest,
  NO_REVISIONS,
  remember,
  revOf,
  trust,
  type Revisions,
} from "./revisions.ts";

/** How many messages of an unopened room are kept until its first page comes. */
const HELD_UNOPENED = 100;
/** How many messages beyond a gap are kept until `sync` has filled it. */
const HELD_BEYOND_GAP = 500;
/** How many messages a room keeps when another one is opened. */
const KEPT_IN_BACKGROUND = 200;

/** The loaded part of a room's log: gap-free up to `head`, which is 0 for an empty log. */
export type Log = {
  messages: readonly Message[];
  head: number;
  /** Whether the server has older messages. */
  older: boolean;
};

/**
 * Mentions of this user: `listed` messages after the mark up to seq `upTo`, as the server said, and those heard since.
 */
export type Mentions = { listed: number; upTo: number; heard: readonly number[] };

export type RoomState = Revisions & {
  id: RoomId;
  kind: RoomKind;
  names: readonly string[];
  /** The users of a private room, in the order of the names. */
  userIds: readonly UserId[];
  last: Message | null;
  /** seq of the newest message heard. */
  seq: number;
  /** seq up to which this user has read. */
  read: number;
  mentions: Mentions;
  /** seq after which messages to everybody mention this user. */
  calledSince: number;
  log: Log | null;
  load: "idle" | "loading" | "failed";
  /** Messages that do not join the log yet, by seq: beyond a gap, or heard while the log is stale. */
  held: readonly Message[];
  /** seqs of held messages that an answer or a page told of: they join the log once they are heard or synced. */
  told: readonly number[];
  /** Set while the log may be another one than the connection's: a page, or doubted by the replica or a message. */
  stale: boolean;
  /**
   * How often the log was doubted or replaced. What was asked for before the last time says nothing about the present
   * log.
   */
  doubts: number;
  /** seqs of deleted messages after `read`, as far as they are known. */
  deleted: readonly number[];
  /** What notifies this user. */
  notify: NotifyLevel;
  /** Whether this user has answers folded into their threads. */
  folded: boolean;
  /** Whether this user sees it on top of their list. */
  favourite: boolean;
  /** seq of the newest message when this user hid the room; null if they have not. */
  hiddenAt: number | null;
  /** What this user is in the room. */
  standing: Standing;
  settings: Partial<RoomSettings>;
};

/** Why this user cannot write in a room: it is archived, or they are muted until a moment in ms. */
export type Closed = { why: "archived" } | { why: "muted"; until: number };

/** Whether this user can write in the room; null if so. `now` in ms. */
export function closedAt({ settings, standing }: RoomState, now: number): Closed | null {
  if ((settings.archived ?? 0) > 0) return { why: "archived" };
  const { mutedUntil: until = 0 } = standing;
  return until > now ? { why: "muted", until } : null;
}

/** For how many seconds this user waits between two messages. */
export function slowIn({ settings, standing }: RoomState): number {
  return standing.role === "member" ? (settings.slow ?? 0) : 0;
}

/** Whether this user has hidden the room, and nothing was said since. */
export function isHidden({ hiddenAt, seq }: RoomState): boolean {
  return hiddenAt !== null && seq <= hiddenAt;
}

/** Messages that this user has not read. */
export function unreadOf(room: RoomState): number {
  const deleted = room.deleted.filter((seq) => seq > room.read && seq <= room.seq);
  return Math.max(0, room.seq - room.read - deleted.length);
}

/** How many unread messages mention this user. */
export function mentionsOf(room: RoomState): number {
  const { listed, upTo, heard } = room.mentions;
  const before = room.read >= upTo ? 0 : listed;
  return Math.min(unreadOf(room), before + heard.filter((seq) => seq > room.read).length);
}

export function isMentioned(
  { calledSince }: Pick<RoomState, "calledSince">,
  { seq, from, mentions, mentionsRoom }: Message,
  me: UserId,
): boolean {
  if (from === me) return false;
  return mentionsRoom === true ? seq > calledSince : mentions?.includes(me) === true;
}

/**
 * Updates the mentions after new or changed messages. `before`: the room before they changed, if that was after its
 * mentions were listed.
 */
export function noteMentions(
  room: RoomState,
  me: UserId,
  messages: readonly Message[],
  before?: RoomState,
): RoomState {
  const { upTo, heard } = room.mentions;
  const callsIn = (one: RoomState | undefined, seq: number) => {
    const row = one?.log?.messages.find((message) => message.seq === seq);
    return row === undefined ? null : isMentioned(room, row, me);
  };
  const now = new Set(heard);
  let { listed } = room.mentions;
  for (const message of messages) {
    const { seq } = message;
    if (seq <= room.read) continue;
    if (seq <= upTo) {
      const [was, is] = [callsIn(before, seq), callsIn(room, seq)];
      if (was !== null && is !== null) listed += Number(is) - Number(was);
    } else if (isMentioned(room, message, me)) now.add(seq);
    else now.delete(seq);
  }
  return withMentions(room, { upTo, listed: Math.max(0, listed), heard: [...now] });
}

/** The same room if nothing has changed. */
function withMentions(room: RoomState, mentions: Mentions): RoomState {
  const { listed, upTo, heard } = room.mentions;
  const same = listed === mentions.listed && upTo === mentions.upTo && heard.length === mentions.heard.length;
  return same && mentions.heard.every((seq, at) => seq === heard[at]) ? room : { ...room, mentions };
}

/** Counts the mentions anew, after the mark has moved or more is loaded, if all unread messages are here. */
export function countMentions(room: RoomState, me: UserId): RoomState {
  const { log, read, seq } = room;
  const [first] = log?.messages ?? [];
  if (log === null || first === undefined || first.seq > read + 1 || log.head < seq) return room;
  const calling = log.messages.filter((row) => row.seq > read && isMentioned(room, row, me));
  return withMentions(room, { listed: 0, upTo: 0, heard: calling.map((row) => row.seq) });
}

/** Whether the loaded log is known to be incomplete or wrong: `sync` it. */
export function needsSync(room: RoomState): boolean {
  if (room.log === null) return false;
  return room.stale || room.seq > room.log.head || room.heardRev > room.rev;
}

/** seq of the newest doubtful message, and the message after it: the page before that one must be read again. */
export function firstDoubt(room: RoomState): { seq: number; next: Message | undefined } | null {
  const messages = room.log?.messages ?? [];
  const at = messages.findLastIndex(isDoubtful);
  const message = messages[at];
  return message === undefined ? null : { seq: message.seq, next: messages[at + 1] };
}

/** The log's newest message, for a cursor. */
export function headOf(room: RoomState): Message | undefined {
  return room.log?.messages.at(-1);
}

/** The order in which messages are shown: total, so it never depends on the order of arrival. */
export function compareMessages(one: Message, other: Message): number {
  return one.date - other.date || one.seq - other.seq;
}

/** Merges a room of the server's list with the known room. */
export function meet(known: RoomState | undefined, room: Room): RoomState {
  if (known === undefined) {
    const { id, names, last, seq, read } = room;
    return {
      id,
      kind: kindOf(room),
      names,
      userIds: room.userIds ?? [],
      last,
      seq,
      read,
      mentions: listedIn(room),
      calledSince: room.calledSince ?? 0,
      log: null,
      load: "idle",
      held: [],
      told: [],
      stale: false,
      doubts: 0,
      deleted: room.deleted ?? [],
      ...chosenIn(room),
      ...setIn(room),
      ...NO_REVISIONS,
    };
  }
  // A loaded log never goes back here: only `sync` can tell that the server's log did.
  const heard = known.held.at(-1);
  const seq = Math.max(room.seq, known.log?.head ?? 0, heard?.seq ?? 0);
  const listed = room.last === null ? null : newest(room.last, known.changed);
  const last = newer(listed, known.log === null ? (heard ?? null) : known.last);
  const read = Math.min(Math.max(known.read, room.read), seq);
  const deleted = withDeleted(known.deleted, room.deleted ?? [], read);
  const heardSince = known.mentions.heard.filter((heardOf) => heardOf > room.seq);
  const mentions = { ...listedIn(room), heard: heardSince };
  const own = { calledSince: room.calledSince ?? 0, ...chosenIn(room), ...setIn(room) };
  return { ...known, kind: kindOf(room), names: room.names, last, seq, read, deleted, mentions, ...own };
}

/** What this user has chosen for the room. */
function chosenIn(room: Room): Pick<RoomState, "notify" | "folded" | "favourite" | "hiddenAt"> {
  return {
    notify: notifyOf(room),
    folded: room.folded === true,
    favourite: room.favourite === true,
    hiddenAt: room.hidden === true ? room.seq : null,
  };
}

/** What is set for the room and this user. Servers of the previous version say nothing of it. */
function setIn({ role = "member", mutedUntil, ...room }: Room): Pick<RoomState, "standing" | "settings"> {
  return {
    standing: { role, ...(mutedUntil !== undefined && { mutedUntil }) },
    settings: settingsOf(room),
  };
}

export function settingsOf({ topic, slow, archived }: Partial<RoomSettings>): Partial<RoomSettings> {
  return {
    ...(topic !== undefined && { topic }),
    ...(slow !== undefined && { slow }),
    ...(archived !== undefined && { archived }),
  };
}

function listedIn({ mentions = 0, seq }: Room): Mentions {
  return { listed: mentions, upTo: mentions === 0 ? 0 : seq, heard: [] };
}

function notifyOf(room: Room): NotifyLevel {
  return room.notify ?? (kindOf(room) === "direct" ? "all" : "mentions");
}

/** A server of the previous version omits the kind: then General is `everyone`, and a private room is `direct`. */
function kindOf(room: Room): RoomKind {
  const { kind } = room as Partial<Room>;
  return kind ?? (room.private ? "direct" : "open");
}

function withDeleted(known: readonly number[], more: readonly number[], read: number): readonly number[] {
  const fresh = [...new Set(more)].filter((seq) => seq > read && !known.includes(seq));
  return fresh.length === 0 ? known : [...known, ...fresh].filter((seq) => seq > read);
}

function noteDeleted(room: RoomState, messages: readonly Message[]): RoomState {
  const gone = messages.flatMap((message) => (message.deleted === undefined ? [] : [message.seq]));
  const deleted = withDeleted(room.deleted, gone, room.read);
  return deleted === room.deleted ? room : { ...room, deleted };
}

/** Drops held messages, which may be of a lost log; nothing joins the loaded log before `sync` has compared it. */
export function distrust(room: RoomState): RoomState {
  return {
    ...room,
    held: [],
    told: [],
    stale: room.log !== null,
    doubts: room.doubts + 1,
    changed: [],
    heardRev: 0,
  };
}

/** Something contradicts the log: what was asked for until now says nothing of it. */
function suspect(room: RoomState): RoomState {
  return room.stale ? room : { ...room, stale: true, doubts: room.doubts + 1 };
}

/** Adds a message that came in the log's order, by the connection or from `sync`, wherever it belongs. */
export function hear(room: RoomState, message: Message): RoomState {
  return add(room, message, true);
}

/**
 * Adds a message that an answer or a page told of. It may be of another log than the messages that the connection
 * hears: those of a lost log may still be shown when an answer comes from the one that replaced it. So it does not join
 * the log before it is heard: from then on its hash would prove all that is shown above it.
 */
export function tell(room: RoomState, message: Message): RoomState {
  return add(room, message, false);
}

function add(before: RoomState, anyState: Message, inOrder: boolean): RoomState {
  let room = before;
  const { seq } = anyState;
  const other = room.held.find((held) => held.seq === seq);
  const message = newest(anyState, other === undefined ? room.changed : [...room.changed, other]);
  if (room.log !== null && seq <= room.log.head) {
    const row = room.log.messages[placeOf(room.log.messages, seq)];
    const known = row?.seq === seq ? row : undefined;
    const contradicts = known === undefined ? room.stale : known.hash !== message.hash;
    if (!contradicts)
      return message.rev === undefined && known?.rev === undefined ? room : take(room, [message], room.rev);
    room = suspect(room);
  }
  const isTold = room.told.includes(seq);
  if (other !== undefined && !isSame(other, message)) {
    room = suspect(room);
    if (!inOrder && !isTold) return room;
  } else if (other !== undefined && !(inOrder && isTold)) return take(room, [message], room.rev);
  const others = room.held.filter((held) => held.seq !== seq);
  const held = [...others, message].toSorted((one, next) => one.seq - next.seq);
  const toldOthers = room.told.filter((told) => told !== seq);
  const told = inOrder ? toldOthers : [...toldOthers, seq];
  const top = Math.max(room.seq, seq);
  return join(noteDeleted({ ...room, last: newer(room.last, message), seq: top, held, told }, [message]));
}

/** Applies `changes`. */
export function takeChanges(room: RoomState, { after, rev, revHash, messages }: Changes): RoomState {
  const taken = take(room, messages, room.rev);
  const heardRev = Math.max(room.heardRev, rev);
  // An untrusted log has unknown changes, and a log that is not loaded will be read with them.
  if (rev <= room.rev || after > room.rev || taken.log === null || taken.stale)
    return heardRev === room.heardRev ? taken : { ...taken, heardRev };
  return { ...taken, rev, revHash, heardRev };
}

/**
 * Applies newer states of messages: replaces held ones, remembers those that are not loaded. The loaded log has all
 * changes up to `complete`: an unknown change before that belongs to a lost log.
 */
function take(before: RoomState, rows: readonly Message[], complete = -1): RoomState {
  const room = noteDeleted(before, rows);
  const left = new Map<number, Message>();
  for (const row of rows) left.set(row.seq, newest(row, room.changed));
  const fresh = [...left.values()];
  let contradicts = false;
  const shown = room.log?.messages ?? [];
  let messages: Message[] | undefined;
  for (const row of fresh) {
    const at = placeOf(shown, row.seq);
    const message = shown[at];
    if (message?.seq !== row.seq) continue;
    left.delete(row.seq);
    if (!isSame(row, message)) contradicts = true;
    const isLate = revOf(row) <= complete;
    // A page that is read again ends the doubt, and nothing that came too late.
    if (!isNewer(row, message) || (isLate && isDoubtful(message))) continue;
    messages ??= [...shown];
    messages[at] = isLate ? doubt(row) : row;
  }
  const log = messages !== undefined && room.log !== null ? { ...room.log, messages } : room.log;
  const held = allNewest(room.held, fresh);
  const last = room.last === null ? null : newest(room.last, fresh);
  const changed = remember(allNewest(room.changed, fresh), [...left.values()]);
  const same = log === room.log && held === room.held && last === room.last && changed === room.changed;
  const taken = same ? room : { ...room, log, held, last, changed };
  return contradicts ? suspect(taken) : taken;
}

/**
 * Moves the held messages that follow the head into the log. Dates rise with seq, so a message that is not later than
 * the one before it belongs to a lost log whose numbers were reused, and so do all held ones.
 */
function join(room: RoomState): RoomState {
  if (room.log === null) return limitHeld(room, HELD_UNOPENED);
  if (room.stale) return limitHeld(room, HELD_BEYOND_GAP);
  let { head, messages } = room.log;
  let date = headOf(room)?.date ?? -Infinity;
  let joined = 0;
  for (const message of room.held) {
    if (message.seq === head + 1) {
      if (room.told.includes(message.seq)) break;
      if (message.date <= date) return { ...room, log: { ...room.log, head, messages }, held: [], told: [] };
      messages = insert(messages, message);
      head++;
      date = message.date;
    } else if (message.seq > head) break;
    joined++;
  }
  if (joined === 0) return limitHeld(room, HELD_BEYOND_GAP);
  const told = room.told.filter((seq) => seq > head);
  return { ...room, log: { ...room.log, head, messages }, held: room.held.slice(joined), told };
}

/** Where the message with this number is, or would be, by bisection: a log may be long. */
export function placeOf(messages: readonly Message[], seq: number): number {
  let [from, to] = [0, messages.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((messages[middle]?.seq ?? 0) < seq) from = middle + 1;
    else to = middle;
  }
  return from;
}

function limitHeld(room: RoomState, limit: number): RoomState {
  return room.held.length <= limit ? room : { ...room, held: room.held.slice(-limit) };
}

function insert(messages: readonly Message[], message: Message): readonly Message[] {
  let at = messages.length;
  while (at > 0) {
    const order = compareMessages(messages[at - 1] as Message, message);
    if (order === 0) return messages;
    if (order < 0) break;
    at--;
  }
  return at === messages.length ? [...messages, message] : messages.toSpliced(at, 0, message);
}

/**
 * Starts the log with its newest page, which may come from another replica, or from a Redis that is no longer the
 * primary: nothing joins it before `sync` has compared it with the connection's log.
 */
export function takeNewest(room: RoomState, { messages, rev = 0, revHash = "" }: Page): RoomState {
  if (room.log !== null) return { ...messages.reduce(tell, room), load: "idle" };
  return startLog({ ...room, rev, revHash, stale: true }, messages);
}

/** Restarts a log that is far behind with its newest page, as above. */
export function restart(room: RoomState, page: Page): RoomState {
  return takeNewest({ ...room, log: null, doubts: room.doubts + 1 }, page);
}

/** The page includes all changes up to the room's `rev`. */
function startLog(room: RoomState, page: readonly Message[]): RoomState {
  const messages = allNewest(page, changedSince(room, room.rev));
  const [first] = messages;
  const head = messages.at(-1);
  const log: Log = { messages, head: head?.seq ?? 0, older: (first?.seq ?? 1) > 1 };
  const started = {
    ...room,
    changed: allNewest(room.changed, messages),
    log,
    load: "idle" as const,
    seq: Math.max(room.seq, log.head),
    last: newer(room.last, messages.at(-1) ?? null),
  };
  return join(noteDeleted(started, messages));
}

/** Drops changes up to `rev`: a page that includes them is not older, or they are of another log. */
function changedSince({ held, changed }: RoomState, rev: number): Message[] {
  return [...held, ...changed].filter((message) => revOf(message) > rev);
}

/** Adds the page that was asked for before the message `before`, a seq; some between the two may be gone for good. */
export function prepend(room: RoomState, page: Page, before: number): RoomState {
  if (room.log === null) return { ...room, load: "idle" };
  const end = page.messages.at(-1)?.seq ?? 0;
  // The log was restarted since, or has this page already.
  if (room.log.messages[0]?.seq !== before || end >= before) return { ...room, load: "idle" };
  const older = allNewest(page.messages, changedSince(room, page.rev ?? 0));
  const messages = [...older, ...room.log.messages];
  const changed = allNewest(room.changed, older);
  return { ...room, changed, load: "idle", log: { ...room.log, messages, older: page.more } };
}

/**
 * Applies a page that was read again because of the doubtful message `doubted` (a seq). A doubtful message before that
 * one and not on the page is no longer stored, and stays as it was; a later one may have been stored since. A log that
 * the page contradicts is dropped, because `sync` compares no more than its end.
 */
export function readAgain(room: RoomState, page: Page, doubted: number): RoomState {
  if (room.log === null) return room;
  if (room.log.messages.some(isOtherThan(page.messages))) return distrust({ ...room, log: null });
  const from = page.more ? (page.messages[0]?.seq ?? 0) : 0;
  const taken = take(room, page.messages);
  if (taken.log === null) return taken;
  const messages = taken.log.messages.map((message) =>
    message.seq >= from && message.seq <= doubted ? trust(message) : message,
  );
  return { ...taken, log: { ...taken.log, messages } };
}

/** Tells of a message whether these rows have another one under its number. */
export function isOtherThan(rows: readonly Message[]): (message: Message) => boolean {
  const stored = new Map(rows.map((row) => [row.seq, row]));
  return (message) => !isSame(stored.get(message.seq) ?? message, message);
}

/** Applies the answer to `sync`. */
export function catchUp(known: RoomState, answer: SyncedRoom): RoomState {
  const { reset, messages, more, changes } = answer;
  // The changes are no longer known: any read state overrides the present one.
  const room = changes?.reset ? doubtAll(known) : known;
  if (reset !== undefined) {
    const last = messages.at(-1) ?? null;
    const since = room.held.filter((message) => message.date > (last?.date ?? 0));
    const { rev, revHash } = changes ?? NO_REVISIONS;
    const begun = {
      ...room,
      held: since,
      told: room.told.filter((seq) => since.some((message) => message.seq === seq)),
      stale: false,
      doubts: room.doubts + 1,
      last,
      seq: last?.seq ?? 0,
      rev,
      revHash,
      // What was heard while the log was untrusted belongs to the present log.
      heardRev: room.stale ? Math.max(rev, room.heardRev) : rev,
      // Another log has other deletions.
      deleted: reset === "trimmed" ? room.deleted : [],
    };
    const heardBefore = changes?.reset ? [] : [...(room.log?.messages ?? []), ...room.held];
    const started = startLog(begun, allNewest(messages, heardBefore));
    const seq = Math.max(started.seq, started.log?.head ?? 0, started.held.at(-1)?.seq ?? 0);
    const next = {
      ...started,
      seq,
      read: Math.min(started.read, seq),
      last: newer(started.last, since.at(-1) ?? null),
    };
    return changes === undefined ? next : take(next, changes.messages);
  }
  // What is stored counts, whatever was heard or told under the same number.
  const isOther = isOtherThan(messages);
  const held = room.held.filter((message) => !isOther(message));
  const heard = messages.reduce(hear, join({ ...room, held, stale: false }));
  const changed = changes === undefined ? heard : changeAsSynced(heard, changes);
  if (more || changed.log === null) return changed;
  // The server has nothing more: a message that only raised these belongs to a lost log.
  const last = changed.held.at(-1) ?? headOf(changed) ?? null;
  const seq = Math.max(changed.log.head, last?.seq ?? 0);
  const same = changed.seq === seq && changed.last === last;
  return same ? changed : { ...changed, seq, last, read: Math.min(changed.read, seq) };
}

function changeAsSynced(room: RoomState, changes: NonNullable<SyncedRoom["changes"]>): RoomState {
  const { rev, revHash } = changes;
  if (!changes.reset)
    return doubtUnlisted(takeChanges(doubtContradicted(room, changes.messages), changes), changes, room.rev);
  return { ...take(room, changes.messages), rev, revHash, heardRev: rev };
}

/**
 * Shows messages as the server lists them, and doubts them, if they were changed otherwise: a lost change may have had
 * the same `rev`.
 */
function doubtContradicted(room: RoomState, listed: readonly Message[]): RoomState {
  const stored = new Map(listed.map((row) => [row.seq, row]));
  const isContradicted = (message: Message) => {
    const row = stored.get(message.seq);
    return row?.rev === message.rev && row !== undefined && JSON.stringify(row) !== JSON.stringify(message);
  };
  return doubtWhere(room, isContradicted, (message) => stored.get(message.seq) ?? message);
}

/** Doubts changes that were heard beyond a gap and that the server does not list: they belong to a lost log. */
function doubtUnlisted(
  room: RoomState,
  { after, rev: upTo, messages: listed }: Changes,
  known: number,
): RoomState {
  const revs = new Map(listed.map(({ seq, rev }) => [seq, rev]));
  // Later ones may have been heard since the answer was made: those up to `known`, without a gap.
  return doubtWhere(
    room,
    ({ seq, rev = 0 }) => rev > after && (rev <= upTo || rev > known) && revs.get(seq) !== rev,
  );
}

/** Doubts these messages, as they are shown or as `shown` says, and forgets those that are not loaded. */
function doubtWhere(
  room: RoomState,
  isDoubted: (message: Message) => boolean,
  shown: (message: Message) => Message = (message) => message,
): RoomState {
  const { log, held, changed } = room;
  if (![log?.messages ?? [], held, changed].some((some) => some.some(isDoubted))) return room;
  const doubted = (messages: readonly Message[]) =>
    messages.map((message) => (isDoubted(message) ? doubt(shown(message)) : message));
  return {
    ...room,
    log: log === null ? null : { ...log, messages: doubted(log.messages) },
    held: doubted(held),
    changed: changed.filter((message) => !isDoubted(message)),
  };
}

function doubtAll(room: RoomState): RoomState {
  return {
    ...room,
    log: room.log === null ? null : { ...room.log, messages: room.log.messages.map(doubt) },
    held: room.held.map(doubt),
    last: room.last === null ? null : doubt(room.last),
    changed: [],
  };
}

/** Raises the mark, never above the newest heard message. */
export function readUpTo(room: RoomState, seq: number): RoomState {
  const read = Math.min(Math.max(room.read, seq), room.seq);
  if (read === room.read) return room;
  return { ...room, read, deleted: room.deleted.filter((gone) => gone > read) };
}

/** The only way to lower a mark. */
export function unreadAfter(room: RoomState, seq: number): RoomState {
  if (seq >= room.read) return room;
  return noteDeleted({ ...room, read: seq }, [...(room.log?.messages ?? []), ...room.held, ...room.changed]);
}

/** Drops what a room need not keep when another one is opened. */
export function shorten(room: RoomState): RoomState {
  if (room.log === null || room.log.messages.length <= KEPT_IN_BACKGROUND) return room;
  return {
    ...room,
    log: { ...room.log, messages: room.log.messages.slice(-KEPT_IN_BACKGROUND), older: true },
  };
}

function newer(one: Message | null, other: Message | null): Message | null {
  if (one === null || other === null) return one ?? other;
  const order = compareMessages(one, other);
  if (order === 0) return isNewer(other, one) ? other : one;
  return order < 0 ? other : one;
}
