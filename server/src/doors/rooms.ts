import { Router, type Request, type Response } from "express";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Load } from "../load.ts";
import {
  LIMITS,
  NOTIFY_LEVELS,
  ROOM_ROLES,
  isRoomId,
  type Audience,
  type Invite,
  type MemberPatch,
  type NewInvite,
  type NewPrivateRoom,
  type NewReport,
  type NewRoom,
  type Notifications,
  type RoomPatch,
  type RoomView,
} from "../protocol.ts";
import type { StoredInvite } from "../store/invites.ts";
import { listJson } from "../store/json.ts";
import { REPORT_CURSOR } from "../store/reports.ts";
import { inTurns, kbOf, listQuery, listed, search, sendJson, turnOf } from "./answers.ts";
import {
  anyRoomId,
  demandRoomId,
  demandUserId,
  lineOfText,
  pageSize,
  roomName,
  userId,
  whole,
  writtenText,
} from "./fields.ts";
import { demandUser } from "./identity.ts";
import { pageAddress } from "./origin.ts";
import type { Throttle } from "./throttle.ts";

const topic = lineOfText(LIMITS.topic).refine(
  (text) => !/[\p{Cc}\p{Co}\p{Cn}]/u.test(text),
  "no control characters",
);
const kind = z.enum(["open", "invite"]);
const newRoom: z.ZodType<NewRoom> = z.object({
  name: roomName,
  kind: kind.optional(),
  topic: topic.optional(),
});
const roomPatch: z.ZodType<RoomPatch> = z
  .object({
    name: roomName,
    kind,
    topic,
    slow: whole.max(LIMITS.slow),
    archived: z.boolean(),
  })
  .partial();
/** Milliseconds since 1970, no later than a Date can tell. */
const moment = whole.max(8.64e15);
const memberPatch: z.ZodType<MemberPatch> = z
  .object({ role: z.enum(ROOM_ROLES), mutedUntil: moment })
  .partial();
const inviteCode = z.string().regex(/^[\w-]{1,64}$/, "no invite");
const newInvite: z.ZodType<NewInvite> = z.object({
  expires: moment.optional(),
  uses: whole.min(1).max(LIMITS.inviteUses).optional(),
});
const newReport: z.ZodType<NewReport> = z.object({
  roomId: anyRoomId,
  seq: whole.min(1),
  reason: writtenText(LIMITS.reason).optional(),
});
const reportState = z.object({ state: z.literal("done") });
const reportQuery = z.object({
  cursor: z.string().regex(REPORT_CURSOR, "the cursor of a report").optional(),
  size: pageSize(LIMITS.page),
});
const newBan: z.ZodType<{ until?: number | undefined }> = z.object({ until: moment.optional() });
const newPrivateRoom: z.ZodType<NewPrivateRoom> = z.object({ userId });
const notifications: z.ZodType<Notifications> = z.object({ level: z.enum(NOTIFY_LEVELS) });
const roomView: z.ZodType<RoomView> = z
  .object({
    folded: z.boolean(),
    favourite: z.boolean(),
    hidden: z.boolean(),
    seq: whole,
  })
  .partial()
  .refine(
    ({ folded, favourite, hidden }) => [folded, favourite, hidden].some((one) => one !== undefined),
    "folded, favourite or hidden",
  );
const auditQuery = z.object({
  before: z
    .string()
    .regex(/^(?!0+-0+$)\d{1,16}-\d{1,19}$/, "the id of an entry")
    .optional(),
  size: pageSize(LIMITS.page, LIMITS.pageDefault),
});

type Parts = { config: Config; chat: Chat; throttle: Throttle; load: Load };

/** The routes of rooms, their members and invites, and of what is reported there. */
export function roomRoutes(parts: Parts): Router {
  const { config, chat, throttle } = parts;
  const sendReports = (response: Response, find: () => ReturnType<Chat["reports"]["all"]>) =>
    listed(parts, demandUser(response), {
      read: async () => {
        const { found, ...cost } = await find();
        return { json: listJson("[", found, "]"), ...cost };
      },
      kb: ({ json, looked, sorted }) => BOUNDS.messageKb.value + looked + sorted / 20 + kbOf(json),
      answer: ({ json }) => sendJson(response, json),
    });
  const router = Router();

  // -> mine: `[{id,kind,names,userIds?,private,last,seq,read,unread}]`, General first, then by newest message
  router.get("/rooms", async (_request, response) => {
    const user = demandUser(response);
    await listed(parts, user, {
      most: BOUNDS.messageKb.value * (await chat.rooms.count(user.id)),
      read: async () => {
        const rooms = await chat.rooms.list(user, turnOf(throttle, user));
        return { json: listJson("[", rooms, "]"), rooms: rooms.length };
      },
      // A room takes some commands, and brings its last message.
      kb: ({ json, rooms }) => 2 * rooms + kbOf(json),
      answer: ({ json }) => sendJson(response, json),
    });
  });
  // ?after=&size= -> all open rooms, and my invite rooms: `[{id,kind,name,members,joined}]`
  // ?q=&after=&size= -> the same rooms by any part of their name, in the form of `GET /api/users?q=`
  router.get("/rooms/directory", async (request, response) => {
    const user = demandUser(response);
    if (request.query["q"] !== undefined) {
      response.json(await search(parts, user, "rooms", request.query));
    } else {
      const { after, size } = listQuery.parse(request.query);
      await listed(parts, user, {
        read: () => chat.rooms.directory(user, after, size),
        // A room takes four commands.
        kb: ({ looked }) => 2 * looked,
        answer: ({ found }) => response.json(found),
      });
    }
  });
  // {name,kind?,topic?} -> 201 the new room, joined and mine; 409 taken. `kind` is `open` or `invite`; an invite room
  // does not exist for others
  router.post("/rooms", async (request, response) => {
    const user = demandUser(response);
    const asked = newRoom.parse(request.body);
    await throttle.take("room", user.id);
    response.status(201).json(await chat.rooms.create(user, asked));
  });
  // {userId} -> 201 (200 if I had it) the 1:1 room, the same for both
  router.post("/rooms/private", async (request, response) => {
    const user = demandUser(response);
    await throttle.take("privateRoom", user.id);
    const { room, created } = await chat.rooms.startPrivate(user, newPrivateRoom.parse(request.body).userId);
    response.status(created ? 201 : 200).json(room);
  });
  // {name?,kind?,topic?,slow?,archived?} -> the room, changed: see docs/rights.md; `slow` is in seconds
  router.patch("/rooms/:id", async (request, response) => {
    const user = demandUser(response);
    const patch = roomPatch.parse(request.body);
    await throttle.take(patch.name === undefined ? "moderation" : "room", user.id);
    response.json(await chat.rooms.change(user, demandRoomId(request.params.id), patch));
  });
  // ?after=&size= -> its members, by id: `[{id,username,role,mutedUntil?}]`
  router.get("/rooms/:id/members", async (request, response) => {
    const user = demandUser(response);
    const { after, size } = listQuery.parse(request.query);
    await listed(parts, user, {
      most: size,
      read: () => chat.moderation.list(user, demandRoomId(request.params.id), after, size),
      kb: ({ looked }) => size + looked / 100,
      answer: ({ found }) => response.json(found),
    });
  });
  // {role?,mutedUntil?} -> the member, added or changed; `mutedUntil` is in ms, 0 ends a mute, and alone it adds nobody
  router.put("/rooms/:id/members/:userId", async (request, response) => {
    const user = demandUser(response);
    const patch = memberPatch.parse(request.body);
    await throttle.take("moderation", user.id);
    response.json(
      await chat.moderation.change(
        user,
        demandRoomId(request.params.id),
        demandUserId(request.params.userId),
        patch,
      ),
    );
  });
  // -> 204, removed; of myself the same as leaving
  router.delete("/rooms/:id/members/:userId", async (request, response) => {
    const user = demandUser(response);
    await throttle.take("moderation", user.id);
    await chat.moderation.remove(user, demandRoomId(request.params.id), demandUserId(request.params.userId));
    response.status(204).end();
  });
  // -> who may not come back: `[{id,username,by,at,until?}]`
  router.get("/rooms/:id/bans", async (request, response) => {
    const user = demandUser(response);
    const roomId = demandRoomId(request.params.id);
    // Each takes a command, for a name.
    const most = 1 + Math.ceil((await chat.moderation.countBans(user, roomId)) / 2);
    await listed(parts, user, {
      most,
      read: async () => listJson("[", await inTurns(await chat.moderation.bans(user, roomId)), "]"),
      kb: () => most,
      answer: (json) => sendJson(response, json),
    });
  });
  // {until?} -> 204, removed and kept out, for ever or until a moment in ms
  router.put("/rooms/:id/bans/:userId", async (request, response) => {
    const user = demandUser(response);
    const { until } = newBan.parse(request.body);
    await throttle.take("moderation", user.id);
    await chat.moderation.ban(
      user,
      demandRoomId(request.params.id),
      demandUserId(request.params.userId),
      until,
    );
    response.status(204).end();
  });
  // -> 204, may come back
  router.delete("/rooms/:id/bans/:userId", async (request, response) => {
    const user = demandUser(response);
    await throttle.take("moderation", user.id);
    await chat.moderation.liftBan(user, demandRoomId(request.params.id), demandUserId(request.params.userId));
    response.status(204).end();
  });
  // {expires?,uses?} -> 201 `{code,url,by,created,expires,uses?,used}`, an invite link, for a week unless `expires`, in ms,
  // says otherwise, and for so many people; one to General is to the server
  router.post("/rooms/:id/invites", async (request, response) => {
    const user = demandUser(response);
    const asked = newInvite.parse(request.body);
    await throttle.take("moderation", user.id);
    const invite = await chat.invites.create(user, demandRoomId(request.params.id), asked);
    response.status(201).json(linked(request, config, invite));
  });
  // -> `[{code,url,by,created,expires,uses?,used}]`, newest first
  router.get("/rooms/:id/invites", async (request, response) => {
    const user = demandUser(response);
    await listed(parts, user, {
      read: () => chat.invites.list(user, demandRoomId(request.params.id)),
      kb: ({ length }) => 1 + length,
      answer: (invites) => response.json(invites.map((invite) => linked(request, config, invite))),
    });
  });
  // -> what it leads to, without a session too: `{roomId,kind,name,by:{id,username},expires}`; 404 once it lets nobody in
  router.get("/invites/:code", async (request, response) => {
    response.json(await chat.invites.look(codeOf(request)));
  });
  // -> the room, joined; who left it since, or was removed, takes one more of its places
  router.post("/invites/:code", async (request, response) => {
    const user = demandUser(response);
    response.json(await chat.invites.use(user, codeOf(request)));
  });
  // -> 204, ended
  router.delete("/invites/:code", async (request, response) => {
    await chat.invites.revoke(demandUser(response), codeOf(request));
    response.status(204).end();
  });
  // {roomId,seq,reason?} -> 204, told to the room's moderators and the server's admins
  router.post("/reports", async (request, response) => {
    const user = demandUser(response);
    const asked = newReport.parse(request.body);
    await throttle.take("report", user.id);
    await chat.reports.add(user, asked);
    response.status(204).end();
  });
  // ?cursor=&size= -> `[{id,roomId,seq,by,at,reason?,state,cursor,message}]`, open ones first, then newest first; the
  // `cursor` of a report asks for those after it
  router.get("/rooms/:id/reports", async (request, response) => {
    const { cursor, size } = reportQuery.parse(request.query);
    const user = demandUser(response);
    const read = () => chat.reports.ofRoom(user, demandRoomId(request.params.id), cursor, size);
    await sendReports(response, read);
  });
  // {state:"done"} -> 204, looked at
  router.post("/reports/:roomId/:seq", async (request, response) => {
    const user = demandUser(response);
    reportState.parse(request.body);
    await throttle.take("moderation", user.id);
    const { roomId, seq: asked } = request.params;
    if (!isRoomId(roomId) || !/^[1-9]\d{0,15}$/.test(asked))
      throw new ChatError("not_found", "There is no such report.");
    await chat.reports.close(user, roomId, Number(asked));
    response.status(204).end();
  });
  // ?cursor=&size= -> the open reports of all rooms, for admins
  router.get("/admin/reports", async (request, response) => {
    const { cursor, size } = reportQuery.parse(request.query);
    const user = demandUser(response);
    await sendReports(response, () => chat.reports.all(user, cursor, size));
  });
  // ?before=&size= -> `[{id,at,by,what,roomId?,userId?,seq?,detail?,refused?}]`, newest first; `before` is the id of an entry
  router.get("/rooms/:id/audit", async (request, response) => {
    const { before, size } = auditQuery.parse(request.query);
    const user = demandUser(response);
    const read = () => chat.reports.auditOfRoom(user, demandRoomId(request.params.id), before, size);
    await listed(parts, user, { read, kb: () => size, answer: (entries) => response.json(entries) });
  });
  // ?before=&size= -> the same of the whole server, for admins; those of one id come on one page, if need be beyond `size`
  router.get("/admin/audit", async (request, response) => {
    const { before, size } = auditQuery.parse(request.query);
    const user = demandUser(response);
    const read = () => chat.reports.auditOfAll(user, before, size);
    await listed(parts, user, { read, kb: () => size, answer: (entries) => response.json(entries) });
  });
  // {level} -> the room; `level` says what notifies me there: `all`, `mentions` or `nothing`
  router.put("/rooms/:id/notifications", async (request, response) => {
    const user = demandUser(response);
    const { level } = notifications.parse(request.body);
    await throttle.take("event", user.id);
    response.json(await chat.rooms.setNotify(user, demandRoomId(request.params.id), level));
  });
  // -> `{people}`: how many a message with `@room` reaches, myself too
  router.get("/rooms/:id/audience", async (request, response) => {
    const user = demandUser(response);
    await listed(parts, user, {
      read: () => chat.rooms.countPeople(user, demandRoomId(request.params.id)),
      kb: (people) => 1 + people / 100,
      answer: (people) => response.json({ people } satisfies Audience),
    });
  });
  // {folded?,favourite?,hidden?,seq?} -> the room; each `true` or `false`: whether I see answers in their threads alone,
  // the room on top of my list, and a direct room not before its next message; `seq` is the newest message that I knew
  router.put("/rooms/:id/view", async (request, response) => {
    const user = demandUser(response);
    const view = roomView.parse(request.body);
    await throttle.take("event", user.id);
    response.json(await chat.rooms.setView(user, demandRoomId(request.params.id), view));
  });
  return router;
}

function codeOf(request: Request<{ code: string }>): string {
  return inviteCode.parse(request.params.code);
}

/** An invite with its link. */
function linked(
  request: Request,
  config: Config,
  { code, by, created, expires, uses, used }: StoredInvite,
): Invite {
  const url = `${pageAddress(request, config)}/#/invite/${code}`;
  return { code, url, by, created, expires, ...(uses !== undefined && { uses }), used };
}
