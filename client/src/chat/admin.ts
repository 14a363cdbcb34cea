import {
  LIMITS,
  type Account,
  type AccountPatch,
  type AuditEntry,
  type Found,
  type ManagedRoom,
  type Report,
  type RoomId,
  type ServerSettings,
  type ServerStats,
  type UserId,
} from "@hubbub/server/protocol";
import { queryOf, type Call } from "./api.ts";

/** The calls of the server's admins. They change no state. */
export function admin(call: Call) {
  return {
    /** A page of the accounts with this text in their names; `after` is the last id of the previous page. */
    findAccounts: (q: string, after: UserId | undefined, signal: AbortSignal) =>
      call<Found<Account>>(
        "GET",
        `/admin/users${queryOf({ q, after, size: LIMITS.pageDefault })}`,
        undefined,
        signal,
      ),
    /** One account, with the number of its sessions. */
    show: (id: UserId) => call<Account>("GET", `/admin/users/${id}`),
    change: (id: UserId, patch: AccountPatch) => call<Account>("PATCH", `/admin/users/${id}`, patch),
    remove: (id: UserId) => call<null>("DELETE", `/admin/users/${id}`),
    endSessions: (id: UserId) => call<null>("DELETE", `/admin/users/${id}/sessions`),
    /** A link with which its owner chooses a new password, once. */
    newReset: (id: UserId) => call<{ url: string }>("POST", `/admin/users/${id}/reset`),
    /** The same as `findAccounts` for the named rooms that this admin manages. */
    findRooms: (q: string, after: RoomId | undefined, signal: AbortSignal) =>
      call<Found<ManagedRoom>>(
        "GET",
        `/admin/rooms${queryOf({ q, after, size: LIMITS.pageDefault })}`,
        undefined,
        signal,
      ),
    /** A page of the open reports of all rooms, newest first, after this cursor. */
    reports: (cursor: string | undefined) =>
      call<Report[]>("GET", `/admin/reports${queryOf({ cursor, size: LIMITS.pageDefault })}`),
    /** A page of what was done on the server, newest first, before this entry. */
    audit: (before: string | undefined) =>
      call<AuditEntry[]>("GET", `/admin/audit${queryOf({ before, size: LIMITS.pageDefault })}`),
    settings: () => call<ServerSettings>("GET", "/admin/settings"),
    changeSettings: (patch: Partial<ServerSettings>) =>
      call<ServerSettings>("PATCH", "/admin/settings", patch),
    stats: () => call<ServerStats>("GET", "/admin/stats"),
  };
}
