import type { User } from "@hubbub/server/protocol";

export type Session =
  | { is: "checking"; trouble: boolean }
  /** `username` is set if the session ended without the user's doing. */
  | { is: "signed out"; reason: string | null; username: string | null }
  | { is: "signed in"; user: User };

export type SessionState = { session: Session };

export const initialSession: SessionState = { session: { is: "checking", trouble: false } };

export type SessionEvent =
  | { type: "session unreachable" }
  | { type: "signed in"; user: User; drafts: ReadonlyMap<string, string> }
  | { type: "signed out"; reason: string | null };

export function applySession<S extends SessionState>(state: S, event: SessionEvent): S {
  switch (event.type) {
    case "session unreachable":
      return state.session.is === "checking"
        ? { ...state, session: { is: "checking", trouble: true } }
        : state;
    case "signed in":
      return { ...state, session: { is: "signed in", user: event.user } };
    case "signed out": {
      const { session } = state;
      const username = event.reason !== null && session.is === "signed in" ? session.user.username : null;
      return { ...state, session: { is: "signed out", reason: event.reason, username } };
    }
    default:
      return event satisfies never;
  }
}
