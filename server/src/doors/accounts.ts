import { pipeline } from "node:stream/promises";
import { Router, type Request } from "express";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import { noReset } from "../chat/users.ts";
import { isWord } from "../chat/words.ts";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Load } from "../load.ts";
import {
  FAREWELLS,
  LIMITS,
  SERVER_ROLES,
  SIGN_UP_MODES,
  type AccountPatch,
  type Leave,
  type NewPassword,
  type Profile,
  type ServerSettings,
  type UserId,
} from "../protocol.ts";
import { clientAddress, type Security } from "../security.ts";
import { listed, paidFor } from "./answers.ts";
import {
  demandUserId,
  displayName as displayed,
  freshPassword,
  pageSize,
  password,
  writtenText,
} from "./fields.ts";
import { demandActor, demandUser, type Identity } from "./identity.ts";
import { pageAddress } from "./origin.ts";
import type { Sessions } from "./session.ts";
import type { Throttle } from "./throttle.ts";

const profile: z.ZodType<Profile> = z.object({ displayName: displayed.nullable() });
const newPassword: z.ZodType<NewPassword> = z.object({ current: password, next: freshPassword });
const reset = z.object({ password: freshPassword });
const leave: z.ZodType<Leave> = z.object({ password, messages: z.enum(FAREWELLS) });
const accountPatch: z.ZodType<AccountPatch> = z.object({
  role: z.enum(SERVER_ROLES).optional(),
  disabled: z.boolean().optional(),
});
const settingsPatch: z.ZodType<Partial<ServerSettings>> = z
  .object({
    signup: z.enum(SIGN_UP_MODES),
    words: z.array(writtenText(LIMITS.word).refine(isWord, "a word has letters or digits")).max(LIMITS.words),
  })
  .partial();
const listQuery = z.object({
  q: z.string().max(LIMITS.search).optional(),
  after: z
    .string()
    .regex(/^\d{1,10}$/, "an id")
    .optional(),
  size: pageSize(LIMITS.page),
});
const RESET_CODE = /^[\w-]{32}$/;

type Parts = {
  config: Config;
  chat: Chat;
  identity: Identity;
  sessions: Sessions;
  throttle: Throttle;
  load: Load;
  security: Security;
};

/** The routes of one's own account, and those of the server's admins. The caller has identified the actor. */
export function accountRoutes({ config, chat, identity, sessions, throttle, load, security }: Parts): Router {
  const { accounts, admin } = chat;
  const router = Router();
  const noteEnd = (request: Request, userId: UserId, what: string) =>
    security.note("session.ended", { address: clientAddress(request, config.trustProxy), userId, what });

  // {displayName} -> `{id,username,displayName?,role?}`; `null` takes the display name away; 409 if it looks like
  // somebody else's name
  router.patch("/me", async (request, response) => {
    const { user, role } = demandActor(response);
    const { displayName } = profile.parse(request.body);
    await throttle.take("account", user.id);
    await accounts.rename(user, displayName);
    response.json(await accounts.me(user, role));
  });
  // {current,next} -> 204; ends all other sessions; 403 for a wrong password
  router.post("/me/password", async (request, response) => {
    const { user, sid } = demandActor(response);
    const asked = newPassword.parse(request.body);
    await throttle.take("password", user.id);
    await accounts.changePassword(user, asked, identity.senderOf(request), sid);
    noteEnd(request, user.id, "password");
    response.status(204).end();
  });
  // -> my sessions: `[{id,current,created,seen,address?,device?}]`, the newest log-in first
  router.get("/me/sessions", async (_request, response) => {
    const { user, sid } = demandActor(response);
    await listed({ throttle, load }, user, {
      read: () => accounts.sessionsOf(user.id, sid),
      // A session takes two commands.
      kb: ({ length }) => 1 + length,
      most: BOUNDS.sessionsOfUser.value,
      answer: (own) => response.json(own),
    });
  });
  // -> 204; ends all my other sessions
  router.delete("/me/sessions", async (request, response) => {
    const { user, sid } = demandActor(response);
    await throttle.take("account", user.id);
    await accounts.endSessions(user.id, sid);
    noteEnd(request, user.id, "revoked");
    response.status(204).end();
  });
  // -> 204; ends one of my sessions
  router.delete("/me/sessions/:id", async (request, response) => {
    const user = demandUser(response);
    await throttle.take("account", user.id);
    await accounts.endSession(user.id, request.params.id);
    noteEnd(request, user.id, "revoked");
    response.status(204).end();
  });
  // {password,messages} -> 204; deletes my account, and with `messages` `delete`, not `keep`, what I said; 403 for a
  // wrong password, and for the last owner
  router.delete("/me", async (request, response) => {
    const user = demandUser(response);
    const asked = leave.parse(request.body);
    await throttle.take("password", user.id);
    await accounts.leave(user, asked, identity.senderOf(request));
    noteEnd(request, user.id, "account");
    sessions.clearCookie(response);
    response.status(204).end();
  });
  // -> all that is kept of me, as one JSON file: `{account,sessions,rooms,messages}`
  router.get("/me/export", async (request, response) => {
    const { user, sid, role } = demandActor(response);
    load.demand("history");
    await throttle.queue("transcript", user.id, async () => {
      response.type("json").attachment("hubbub.json");
      identity.watch(request, response, () => Promise.resolve());
      await pipeline(await paidFor(accounts.export(user, sid, role), throttle, user.id), response);
    });
  });
  // {password} -> 204; the password of the account whose one-time code this is; ends its sessions; 404 once it was
  // used, or after a day
  router.post("/reset/:code", async (request, response) => {
    const address = identity.senderOf(request);
    await throttle.take("reset", address);
    const { password: chosen } = reset.parse(request.body);
    const { code } = request.params;
    if (!RESET_CODE.test(code)) throw noReset();
    await accounts.useReset(code, chosen, address);
    response.status(204).end();
  });

  // For others than admins there is nothing here.
  router.use("/admin", async (request, response, next) => {
    const { user, role } = demandActor(response);
    if (role === "user") throw new ChatError("not_found", "There is nothing here.");
    if (request.method !== "GET") await throttle.take("account", user.id);
    next();
  });
  // ?after=&size= -> for admins, as all that follow: the accounts, by id:
  // `[{id,username,displayName?,online,role,created,disabled?,demo?}]`
  // ?q=&after=&size= -> `{found,total,complete}`: the same, in the form of `GET /api/users?q=`
  router.get("/admin/users", async (request, response) => {
    const user = demandUser(response);
    const { q, after, size } = listQuery.parse(request.query);
    load.demand("history");
    const read = (): Promise<object> =>
      q === undefined ? admin.list(Number(after ?? 0), size) : admin.search(q, after, size);
    response.json(
      await throttle.queue("search", user.id, () => throttle.pay(user.id, size, read, () => size)),
    );
  });
  // -> the account, with the number of its `sessions`
  router.get("/admin/users/:id", async (request, response) => {
    response.json(await admin.show(demandUserId(request.params.id)));
  });
  // {role?,disabled?} -> the account, changed; 403 for one that stands as high, and for the last owner; only owners give
  // roles
  router.patch("/admin/users/:id", async (request, response) => {
    const patch = accountPatch.parse(request.body);
    response.json(await admin.change(demandActor(response), demandUserId(request.params.id), patch));
  });
  // -> 204; deletes the account, and keeps its messages
  router.delete("/admin/users/:id", async (request, response) => {
    await admin.delete(demandActor(response), demandUserId(request.params.id));
    response.status(204).end();
  });
  // -> `{url}`: a link with which its owner chooses a new password, once, within 24 h
  router.post("/admin/users/:id/reset", async (request, response) => {
    const code = await admin.newReset(demandActor(response), demandUserId(request.params.id));
    response.json({ url: `${pageAddress(request, config)}/#/reset/${code}` });
  });
  // -> 204; ends all its sessions
  router.delete("/admin/users/:id/sessions", async (request, response) => {
    await admin.endSessions(demandActor(response), demandUserId(request.params.id));
    response.status(204).end();
  });
  // ?after=&size= -> the rooms that I manage, by id, from General on: open rooms, and the invite rooms that I am in:
  // `[{id,kind,name,members,joined,topic?,slow?,archived?}]`
  // ?q=&after=&size= -> `{found,total,complete}`: the same for named rooms, in the form of `GET /api/users?q=`
  router.get("/admin/rooms", async (request, response) => {
    const by = demandActor(response);
    const { q, after, size } = listQuery.parse(request.query);
    const read = (): Promise<object> =>
      q === undefined ? admin.managed(by, after, size) : admin.findManaged(by, q, after, size);
    const answer = (found: object) => response.json(found);
    await listed({ throttle, load }, by.user, { read, kb: () => size, most: size, answer });
  });
  // -> `{signup,words}`: who may sign up, `open`, `invite` or `closed`; words that no message may have
  router.get("/admin/settings", async (_request, response) => {
    response.json(await admin.settings());
  });
  // {signup?,words?} -> the settings, changed
  router.patch("/admin/settings", async (request, response) => {
    response.json(await admin.changeSettings(demandActor(response), settingsPatch.parse(request.body)));
  });
  // -> `{people,online,rooms,messages}`; messages of General and of named rooms
  router.get("/admin/stats", async (_request, response) => {
    const user = demandUser(response);
    load.demand("history");
    response.json(await throttle.queue("lists", user.id, () => admin.stats()));
  });
  return router;
}
