import type { Me, NewPassword, OwnSession, Profile } from "@hubbub/server/protocol";
import type { Call } from "./api.ts";

/** Where everything that the server keeps of this user is downloaded. */
export const EXPORT_ADDRESS = "/api/me/export";

/** The calls of one's own account. They change no state, but for what `ChatClient.showMe` is told. */
export function account(call: Call) {
  return {
    me: () => call<Me>("GET", "/me"),
    rename: (profile: Profile) => call<Me>("PATCH", "/me", profile),
    setPicture: (image: Blob) => call<Me>("PUT", "/me/avatar", image),
    removePicture: () => call<Me>("DELETE", "/me/avatar"),
    /** Ends all other sessions. Throws `forbidden` for a wrong password, `invalid` for a weak one. */
    changePassword: (change: NewPassword) => call<null>("POST", "/me/password", change),
    sessions: () => call<OwnSession[]>("GET", "/me/sessions"),
    endSession: (id: string) => call<null>("DELETE", `/me/sessions/${encodeURIComponent(id)}`),
    endOtherSessions: () => call<null>("DELETE", "/me/sessions"),
  };
}
