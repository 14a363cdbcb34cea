import {
  LIMITS,
  type AuditEntry,
  type Ban,
  type Invite,
  type Member,
  type MemberPatch,
  type NewInvite,
  type NewReport,
  type Report,
  type RoomId,
  type UserId,
} from "@hubbub/server/protocol";
import { queryOf, roomPath, type Call } from "./api.ts";

/** The calls of a room's moderators, and a report to them. They change no state: the server tells what they did. */
export function moderation(call: Call) {
  return {
    /** A page of a room's members, by id, after this one. */
    members: (roomId: RoomId, after: UserId | undefined) =>
      call<Member[]>("GET", `${roomPath(roomId)}/members${queryOf({ after, size: LIMITS.pageDefault })}`),
    changeMember: (roomId: RoomId, userId: UserId, patch: MemberPatch) =>
      call<Member>("PUT", `${roomPath(roomId)}/members/${userId}`, patch),
    removeMember: (roomId: RoomId, userId: UserId) =>
      call<null>("DELETE", `${roomPath(roomId)}/members/${userId}`),
    bans: (roomId: RoomId) => call<Ban[]>("GET", `${roomPath(roomId)}/bans`),
    ban: (roomId: RoomId, userId: UserId) => call<null>("PUT", `${roomPath(roomId)}/bans/${userId}`),
    liftBan: (roomId: RoomId, userId: UserId) => call<null>("DELETE", `${roomPath(roomId)}/bans/${userId}`),
    invites: (roomId: RoomId) => call<Invite[]>("GET", `${roomPath(roomId)}/invites`),
    invite: (roomId: RoomId, invite: NewInvite) =>
      call<Invite>("POST", `${roomPath(roomId)}/invites`, invite),
    revokeInvite: (code: string) => call<null>("DELETE", `/invites/${encodeURIComponent(code)}`),
    report: (report: NewReport) => call<null>("POST", "/reports", report),
    /** A page of the reports, open ones first, after this cursor. */
    reports: (roomId: RoomId, cursor: string | undefined) =>
      call<Report[]>("GET", `${roomPath(roomId)}/reports${queryOf({ cursor, size: LIMITS.pageDefault })}`),
    closeReport: ({ roomId, seq }: Report) =>
      call<null>("POST", `/reports/${encodeURIComponent(roomId)}/${seq}`, { state: "done" }),
    /** A page of what moderators did, newest first, before this entry. */
    audit: (roomId: RoomId, before: string | undefined) =>
      call<AuditEntry[]>("GET", `${roomPath(roomId)}/audit${queryOf({ before, size: LIMITS.pageDefault })}`),
  };
}
