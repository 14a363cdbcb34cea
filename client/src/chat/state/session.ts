import type { Me } from "@hubbub/server/protocol";

export type Session =
  | { is: "checking"; trouble: boolean }
  /** `username` is set if the session ended without the user's doing. */
  | { is: "signed out"; reason: string | null; username: string | null }
  /** `isNew`: the account was made a moment ago, by this page. */
  | { is: "signed in"; user: Me; isNew: boolean };

export type SessionState = { session: Session };

export const initialSession: SessionState = { session: { is: "checking", trouble: false } };

export type SessionEvent =
  | { type: "session unreachable" }
  | { type: "signed in"; user: Me; isNew?: boolean; drafts: ReadonlyMap<string, string> }
  /** The own account has another name or role. */
  | { type: "me"; user: Me }
  | { type: "signed out"; reason: string | null };

export function applySession<S extends SessionState>(state: S, event: SessionEvent): S {
  switch (event.type) {
    case "session unreachable":
      return state.session.is === "checking"
        ? { ...state, session: { is: "checking", trouble: true } }
        : state;
    case "signed in":
      return { ...state, session: { is: "signed in", user: event.user, isNew: event.isNew ?? false } };
    case "me": {
      const { session } = state;
      if (session.is !== "signed in" || session.user.id !== event.user.id) return state;
      return { ...state, session: { ...session, user: event.user } };
    }
    case "signed out": {
      const { session } = state;
      const username = event.reason !== null && session.is === "signed in" ? session.user.username : null;
      return { ...state, session: { is: "signed out", reason: event.reason, username } };
    }
    default:
      return event satisfies never;
  }
}
