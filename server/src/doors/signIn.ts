import { Router, type Request, type Response } from "express";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import { USERNAME, USERNAME_WORDS, type Credentials, type NewUser, type User } from "../protocol.ts";
import { clientAddress, type Security } from "../security.ts";
import { freshPassword, password } from "./fields.ts";
import { actorOf, demandActor, type Identity } from "./identity.ts";
import type { Proxies } from "./proxies.ts";
import type { Sessions } from "./session.ts";
import type { Throttle } from "./throttle.ts";

const username = z.string().regex(USERNAME, USERNAME_WORDS);
const credentials: z.ZodType<Credentials> = z.object({ username, password });
const newUser: z.ZodType<NewUser> = z.object({
  username,
  password: freshPassword,
  invite: z.string().max(64).optional(),
});

export type SignInParts = {
  config: Config;
  chat: Chat;
  identity: Identity;
  sessions: Sessions;
  throttle: Throttle;
  security: Security;
  /** The session was ended: close its connections on every replica. */
  ended: (sid: string) => void;
  /** The demo people's log-ins, if the database holds demo data. */
  demo: () => Promise<Credentials[]>;
};

/** The routes by which people come in and leave. */
export function signInRoutes(parts: SignInParts, proxies: Proxies): Router {
  const { config, chat, identity, sessions, throttle, security, ended } = parts;
  const router = Router();
  const enter = async (request: Request, response: Response, user: User): Promise<void> => {
    response.locals["entered"] = user.id;
    for (const sid of await sessions.start(request, response, user, actorOf(response))) {
      security.note("session.ended", {
        address: clientAddress(request, config.trustProxy),
        userId: user.id,
        what: "log-in",
      });
      ended(sid);
    }
  };

  // -> `{people:[{username,password}]}`: the demo log-ins, without a session; none where demo data do not belong
  router.get("/demo", async (_request, response) => {
    response.json({ people: await parts.demo() });
  });
  // {username,password,invite?} -> 201 `{id,username,role?}`, signed in; 409 taken; 403 without a valid `invite` if
  // sign-up is not open. The first person of an empty server is its `owner`
  router.post("/users", async (request, response) => {
    proxies.demandCookie(request);
    const asked = newUser.parse(request.body);
    const address = identity.senderOf(request);
    await throttle.take("signUp", address);
    const me = await chat.accounts.signUp(asked, address);
    const user = { id: me.id, username: me.username };
    await chat.users.feelAtHome(user.username, address);
    await enter(request, response, user);
    security.note("signup.done", { address: clientAddress(request, config.trustProxy), userId: user.id });
    response.status(201).json(me);
  });
  // {username,password} -> 200 `{id,username,displayName?,role?}` with a new session; 401, the same for an unknown name, a
  // wrong password and a disabled account
  router.post("/login", async (request, response) => {
    proxies.demandCookie(request);
    const { user, hash } = await logIn(parts, credentials.parse(request.body), identity.senderOf(request));
    await enter(request, response, user);
    // Whoever has changed the password since, or disabled the account, has ended the sessions that there were then.
    if (!(await chat.users.holds(user.id, hash))) {
      await sessions.end({ sid: request.sessionID, user });
      throw new ChatError("unauthorized", "Wrong username or password.");
    }
    await chat.accounts.finishFirst();
    security.note("login.done", { address: clientAddress(request, config.trustProxy), userId: user.id });
    response.json(await chat.accounts.me(user, (await chat.users.roleOf(user)) ?? "user"));
  });
  // -> 204; closes the session's connections on every replica
  router.post("/logout", async (request, response) => {
    const actor = demandActor(response);
    const address = clientAddress(request, config.trustProxy);
    // Also of a cookie that somebody has put beside ours: it would let its session in next.
    for (const sid of new Set([actor.sid, ...sessions.sidsOf(request)])) {
      const session = sid === actor.sid ? actor : await sessions.find(sid);
      if (session === undefined) continue;
      await sessions.end(session);
      security.note("session.ended", { address, userId: session.user.id });
      ended(sid);
    }
    sessions.clearCookie(response);
    // The cache holds pages that the browser keeps for its Back button. "cookies" would delete those of every service
    // on this domain, and "storage" the drafts of every user of this browser: the app clears its own.
    response.setHeader("Clear-Site-Data", '"cache"');
    response.status(204).end();
  });
  // -> 200 `{id,username,displayName?,role?}`; 401. `role` is `owner` or `admin` of the server
  router.get("/me", async (_request, response) => {
    const { user, role } = demandActor(response);
    response.json(await chat.accounts.me(user, role));
  });
  return router;
}

/**
 * Logs a user in. An attempt is paid for before its hash is computed, so that concurrent attempts cannot exceed the
 * budget; a success gives the points of wrong passwords back.
 */
async function logIn(
  { chat, throttle }: SignInParts,
  asked: Credentials,
  address: string,
): Promise<{ user: User; hash: string }> {
  const { users } = chat;
  const name = asked.username.toLowerCase();
  const wrong = (await users.isAtHome(name, address))
    ? (["logInHome", `${name}@${address}`] as const)
    : (["logInName", name] as const);
  const costs = [["logInAddress", address] as const, wrong, ["logIn", name] as const];
  // Refuses most of those over the limit without waiting for a hash.
  for (const [what, who] of costs) await throttle.check(what, who);
  const paid: typeof costs = [];
  const giveBack = (...kept: (typeof costs)[number][0][]) => {
    const back = paid.filter(([what]) => !kept.includes(what));
    return Promise.all(back.map(([what, who]) => throttle.giveBack(what, who)));
  };
  const pay = async (): Promise<void> => {
    for (const [what, who] of costs) {
      paid.push([what, who] as (typeof costs)[number]);
      await throttle.take(what, who);
    }
  };
  const found = await users.logIn(asked, address, pay).catch(async (error: unknown) => {
    const isWrong = error instanceof ChatError && error.code === "unauthorized";
    await (isWrong ? giveBack("logInAddress", wrong[0]) : giveBack());
    throw error;
  });
  await giveBack("logIn");
  await users.feelAtHome(name, address);
  return found;
}
