import type { Presence, User, UserId } from "@hubbub/server/protocol";
import { isConnected, type ConnectionState } from "./connection.ts";

export type PeopleState = {
  users: ReadonlyMap<UserId, Presence>;
  presence: {
    /** Changes heard after the connection came up and before its snapshot; null once the snapshot is in. */
    unsettled: ReadonlyMap<UserId, Presence> | null;
  };
};

export const initialPeople: PeopleState = { users: new Map(), presence: { unsettled: new Map() } };

/** `users`: adds or changes people. The other two say who is online. */
export type PeopleEvent =
  | { type: "users"; users: readonly Presence[] }
  | { type: "presence snapshot"; online: readonly Presence[] }
  | { type: "presence diff"; users: readonly Presence[] };

export function applyPeople<S extends PeopleState>(state: S, event: PeopleEvent | { type: "connected" }): S {
  switch (event.type) {
    case "connected":
      // Later changes follow a snapshot that is still to be requested.
      return { ...state, presence: { unsettled: new Map() } };
    case "users":
      return { ...state, users: know(state, event.users) };
    case "presence snapshot":
      return presenceSnapshot(state, event.online);
    case "presence diff": {
      const unsettled = state.presence.unsettled;
      return {
        ...state,
        users: assign(state.users, event.users),
        presence: unsettled === null ? state.presence : { unsettled: assign(unsettled, event.users) },
      };
    }
    default:
      return event satisfies never;
  }
}

/** What a user is called wherever they are shown: their display name, if they chose one. */
export function nameOf({ displayName, username }: User): string {
  return displayName ?? username;
}

/** The same for a user who may be unknown. */
export function nameIn(users: PeopleState["users"], id: UserId | undefined, unknown = "Somebody"): string {
  const user = users.get(id ?? "");
  return user === undefined ? unknown : nameOf(user);
}

/** The text by which a user is found: both names, as the server searches them. */
export function searchedOf({ displayName, username }: User): string {
  return displayName === undefined ? username : `${username} ${displayName}`;
}

/** Whether somebody is online; undefined if this client cannot know. */
export function isOnline(state: PeopleState & ConnectionState, userId: UserId | null): boolean | undefined {
  if (userId === null || !isConnected(state)) return undefined;
  return state.users.get(userId)?.online ?? false;
}

/** Adds or changes users; never overwrites known presence. */
function know(state: PeopleState, users: readonly Presence[]): ReadonlyMap<UserId, Presence> {
  const fresh = users.flatMap((user) => {
    const known = state.users.get(user.id);
    if (known === undefined) return [user];
    return isShownAlike(known, user) ? [] : [{ ...user, online: known.online }];
  });
  return fresh.length === 0 ? state.users : assign(state.users, fresh);
}

function isShownAlike(one: User, other: User): boolean {
  return (
    one.username === other.username && one.displayName === other.displayName && one.avatar === other.avatar
  );
}

function presenceSnapshot<S extends PeopleState>(state: S, online: readonly Presence[]): S {
  const users = new Map<UserId, Presence>();
  for (const user of state.users.values())
    users.set(user.id, user.online ? { ...user, online: false } : user);
  for (const user of online) users.set(user.id, { ...user, online: true });
  const unsettled = state.presence.unsettled ?? new Map<UserId, Presence>();
  return { ...state, users: assign(users, [...unsettled.values()]), presence: { unsettled: null } };
}

function assign(
  users: ReadonlyMap<UserId, Presence>,
  changed: readonly Presence[],
): ReadonlyMap<UserId, Presence> {
  const fresh = changed.filter((user) => {
    const known = users.get(user.id);
    return known?.online !== user.online || !isShownAlike(known, user);
  });
  if (fresh.length === 0) return users;
  const next = new Map(users);
  // A person's last entry counts, even if an earlier one of the same list changed nothing.
  for (const user of changed) next.set(user.id, user);
  return next;
}
