import { ChatError } from "../errors.ts";
import { ROOM_ROLES, type RoomKind, type RoomRole, type ServerRole, type Standing } from "../protocol.ts";
import { REFUSED, unknownRoom } from "../store/log.ts";

/** Who may do what in a room. A table and what reads it: nothing here asks Redis. docs/rights.md is made from it. */

/** What an action in a room takes. */
type Right = {
  /** The least role in the room; an admin or owner of the server has every right in a room that they can see. */
  role: RoomRole;
  /** The kinds of rooms in which it can be done at all. */
  kinds: readonly RoomKind[];
  /** Whether it is possible in an archived room, and for a muted member. */
  archived: boolean;
  muted: boolean;
  /** What it is, for docs/rights.md. */
  what: string;
};

const EVERYWHERE = ["everyone", "open", "invite", "direct"] as const satisfies RoomKind[];
const SHARED = ["everyone", "open", "invite"] as const satisfies RoomKind[];
const NAMED = ["open", "invite"] as const satisfies RoomKind[];

const always = { archived: true, muted: true };
const writing = { archived: false, muted: false };

export const RIGHTS = {
  read: { role: "member", kinds: EVERYWHERE, ...always, what: "Read messages, search, export, follow" },
  send: { role: "member", kinds: EVERYWHERE, ...writing, what: "Send, answer, mention" },
  edit: { role: "member", kinds: EVERYWHERE, ...writing, what: "Edit one's own message" },
  react: { role: "member", kinds: EVERYWHERE, ...writing, what: "React with an emoji, take it back" },
  pin: { role: "member", kinds: EVERYWHERE, ...writing, what: "Pin a message, unpin it" },
  type: { role: "member", kinds: EVERYWHERE, ...writing, what: "Be shown as typing" },
  delete: { role: "member", kinds: EVERYWHERE, ...always, what: "Delete one's own message" },
  "delete.others": { role: "moderator", kinds: SHARED, ...always, what: "Delete somebody else's message" },
  leave: { role: "member", kinds: NAMED, ...always, what: "Leave" },
  report: { role: "member", kinds: EVERYWHERE, ...always, what: "Report a message" },
  members: { role: "member", kinds: EVERYWHERE, ...always, what: "List the members" },
  settings: { role: "moderator", kinds: SHARED, ...always, what: "Set topic and slow mode" },
  name: { role: "moderator", kinds: NAMED, ...always, what: "Rename" },
  kind: { role: "owner", kinds: NAMED, ...always, what: "Open it to everybody, or close it" },
  archive: { role: "owner", kinds: NAMED, ...always, what: "Archive, and open again" },
  add: { role: "moderator", kinds: NAMED, archived: false, muted: true, what: "Add a person" },
  remove: { role: "moderator", kinds: NAMED, ...always, what: "Remove a person" },
  ban: { role: "moderator", kinds: NAMED, ...always, what: "Ban a person, lift a ban, list bans" },
  mute: { role: "moderator", kinds: SHARED, ...always, what: "Mute a person until a moment" },
  role: { role: "owner", kinds: NAMED, ...always, what: "Make somebody owner, moderator or member" },
  invite: {
    role: "moderator",
    kinds: SHARED,
    archived: false,
    muted: true,
    what: "Make, list, revoke invites",
  },
  review: { role: "moderator", kinds: SHARED, ...always, what: "See reports and the audit log" },
} as const satisfies Record<string, Right>;
export type Action = keyof typeof RIGHTS;

/** The facts that decide: those of the room and of the actor. */
export type Situation = {
  kind: RoomKind;
  archived?: boolean;
  /** The actor's standing in the room; null if they are not in it. */
  standing: Standing | null;
  server: ServerRole;
  /** Milliseconds since 1970. */
  now: number;
};

/** Why an action is refused: the code that the actor gets. */
export type Refusal = "not_found" | "forbidden" | "muted" | "archived";

/**
 * Answers null if the actor may do this in a room, or else why not. A room that they are not in does not exist for
 * them, except for what admins do in rooms that everybody can see.
 */
export function may(
  action: Action,
  { kind, archived = false, standing, server, now }: Situation,
): Refusal | null {
  const right: Right = RIGHTS[action];
  const role = roleIn(kind, standing, server);
  if (role === null) return "not_found";
  if (standing === null && PERSONAL.has(action)) return "not_found";
  if (!right.kinds.includes(kind) || rank(role) < rank(right.role)) return "forbidden";
  if (archived && !right.archived) return "archived";
  if (!right.muted && (standing?.mutedUntil ?? 0) > now) return "muted";
  return null;
}

/** Throws why these actions are refused, if one is. */
export function demand(situation: Situation, ...actions: Action[]): void {
  for (const action of actions) {
    const refusal = may(action, situation);
    if (refusal !== null) throw refused(refusal);
  }
}

/** Actions for members of the room only, whatever their role on the server. */
const PERSONAL = new Set<Action>([
  "read",
  "send",
  "edit",
  "react",
  "pin",
  "type",
  "delete",
  "leave",
  "report",
]);

/**
 * The role that counts in a room: admins of the server own what they can see. Null: the room does not exist for them.
 */
export function roleIn(kind: RoomKind, standing: Standing | null, server: ServerRole): RoomRole | null {
  const isAdmin = server !== "user" && kind !== "direct";
  if (standing === null) return isAdmin && kind !== "invite" ? "owner" : null;
  return isAdmin ? "owner" : standing.role;
}

/**
 * Whether somebody with this role in a room may act on somebody with that one: on those below, and owners on owners.
 */
export function mayActOn<Role extends RoomRole | ServerRole>(
  roles: readonly Role[],
  role: Role,
  target: Role,
): boolean {
  return roles.indexOf(role) > roles.indexOf(target) || role === "owner";
}

const WORDS: Record<Exclude<Refusal, "not_found">, string> = {
  forbidden: "You have no right to do this here.",
  ...REFUSED,
};

export function refused(refusal: Refusal): ChatError {
  return refusal === "not_found" ? unknownRoom() : new ChatError(refusal, WORDS[refusal]);
}

function rank(role: RoomRole): number {
  return ROOM_ROLES.indexOf(role);
}
