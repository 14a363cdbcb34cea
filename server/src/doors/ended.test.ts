import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { Server, type IncomingMessage } from "node:http";
import bcrypt from "bcrypt";
import { sign } from "cookie-signature";
import { Redis } from "ioredis";
import sharp from "sharp";
import { Namespace, Socket } from "socket.io";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Users } from "../chat/users.ts";
import { readConfig } from "../config.ts";
import { Delivery } from "../live/delivery.ts";
import type { Invite, Message, OwnSession, Reply, Room, UploadedFile, User } from "../protocol.ts";
import {
  Browser,
  connect,
  newServer,
  PATIENCE_MS,
  person,
  unwrap,
  until,
  type House,
  type Person,
  type TestSocket,
} from "../testing.ts";

/**
 * Stops a request before each of its commands to Redis in turn, ends its account there, and lets it go on. Whatever it
 * was about to do, nothing of it may work afterwards or stay behind.
 */

/** One request under watch: which of its commands waits, and what happens meanwhile. */
type Watch = {
  at: number;
  seen: number;
  held: string;
  reached: () => void;
  go: Promise<void>;
  /** An event's answer, also if its connection is gone. */
  answered: Promise<string>;
  answer: (reply: string) => void;
};

const watched = new AsyncLocalStorage<Watch>();
/** What the next request with this header, or packet of a socket, is watched by. */
let next: Watch | undefined;
const WATCHED = "x-watched";
const restore: (() => void)[] = [];

/** Replaces a method of a class for these tests. */
function wrap<A extends unknown[], R>(
  prototype: object,
  name: string,
  around: (self: object, run: (...args: A) => R, args: A) => R,
): void {
  const method = Reflect.get(prototype, name) as (...args: A) => R;
  Reflect.set(prototype, name, function wrapped(this: object, ...args: A): R {
    return around(this, (...given) => method.apply(this, given), args);
  });
  restore.push(() => Reflect.set(prototype, name, method));
}

type Command = { name: string; args: unknown[]; promise: Promise<unknown> };

let house: House;
let owner: Browser;
let peer: Person;
let open: Room;
let invite: string;
let image: Buffer<ArrayBuffer>;
let users: Users;
let hash: string;
let secret: string;
let count = 0;

const PASSWORD = "correct horse";

beforeAll(async () => {
  wrap<[Command, unknown], unknown>(Redis.prototype, "sendCommand", (_self, send, [command, stream]) => {
    const watch = watched.getStore();
    if (!watch || (watch.seen += 1) !== watch.at) return send(command, stream);
    watch.held = `${command.name} ${command.args.map(String).join(" ").slice(0, 200)}`;
    watch.reached();
    void watch.go.then(() => watched.exit(() => send(command, stream)));
    return command.promise;
  });
  const take = () => {
    const watch = next;
    next = undefined;
    return watch;
  };
  wrap<[string, { headers: Record<string, string> }], boolean>(
    Server.prototype,
    "emit",
    (_self, emit, [event, request, ...rest]) => {
      const isAsked = (event === "request" || event === "upgrade") && request.headers[WATCHED] === "1";
      const watch = isAsked ? take() : undefined;
      return watch ? watched.run(watch, () => emit(event, request, ...rest)) : emit(event, request, ...rest);
    },
  );
  wrap<[{ request: IncomingMessage }, ...unknown[]], Promise<void>>(
    Namespace.prototype,
    "_add",
    (_self, add, args) => {
      const watch = args[0].request.headers[WATCHED] === "admission" ? take() : undefined;
      return watch ? watched.run(watch, () => add(...args)) : add(...args);
    },
  );
  wrap<[{ data?: unknown }], void>(Socket.prototype, "_onpacket", (_self, receive, [packet]) => {
    const watch = JSON.stringify(packet.data ?? "").includes(WATCHED) ? take() : undefined;
    if (watch) watched.run(watch, () => receive(packet));
    else receive(packet);
  });
  wrap<[unknown, number, readonly (string | Buffer)[]], void>(
    Delivery.prototype,
    "answer",
    (_self, answer, args) => {
      watched.getStore()?.answer(args[2].join(""));
      answer(...args);
    },
  );

  house = await newServer(2);
  users = new Users(house.redis, house.keys, readConfig(house.env));
  hash = await bcrypt.hash(PASSWORD, 4);
  secret = (await house.redis.get(house.keys.sessionSecret)) ?? "";
  const replica = house.replicas[0]!;
  owner = (await person(replica, "olga").then((one) => (one.close(), one))).browser;
  peer = await person(replica, "peer");
  open = (await peer.browser.post<Room>("/api/rooms", { name: "open" })).body;
  await peer.browser.fetch("PUT", `/api/rooms/${open.id}/notifications`, { level: "all" });
  await peer.say("0", "hello");
  const path = `/api/rooms/${open.id}/invites`;
  invite = (await peer.browser.post<Invite>(path)).body.code;
  const channels = { width: 8, height: 8, channels: 3, background: "red" } as const;
  image = Buffer.from(await sharp({ create: channels }).png().toBuffer());
});

afterAll(async () => {
  peer.close();
  await house.close();
  for (const back of restore) back();
});

/** An account whose end comes in the middle of something. */
type Victim = {
  user: User;
  browser: Browser;
  /** Those that the browser has had. */
  cookies: string[];
  /** A session of another browser. */
  spare: string;
  connection?: Person;
};

async function newVictim(): Promise<Victim> {
  const { redis, keys } = house;
  const username = `victim${(count += 1)}`;
  const user = await users.add(username, hash);
  const logIn = async (): Promise<string> => {
    const sid = randomBytes(18).toString("base64url");
    const session = { cookie: { httpOnly: true, path: "/" }, user };
    await redis.set(keys.session(sid), JSON.stringify(session), "EX", 60_000);
    await redis.zadd(keys.userSessions(user.id), Date.now(), sid);
    return `hubbub=${encodeURIComponent(`s:${sign(sid, secret)}`)}`;
  };
  await users.feelAtHome(username, "127.0.0.1");
  const browser = new Browser(house.replicas[0]!);
  browser.cookie = await logIn();
  return { user, browser, cookies: [browser.cookie], spare: await logIn() };
}

const ENDS = {
  deleted: ({ user }) => admin("DELETE", user),
  disabled: ({ user }) => admin("PATCH", user, { disabled: true }),
  "logged out": async ({ cookies }) => {
    await windowWith(cookies[0]).post("/api/logout");
  },
  "given another password": async ({ spare }) => {
    // On another replica: here a log-in that waits keeps the others of its name waiting.
    const other = windowWith(spare, 1);
    const { status } = await other.post("/api/me/password", { current: PASSWORD, next: "battery staple" });
    expect(status).toBe(204);
  },
} satisfies Record<string, (victim: Victim) => Promise<void>>;
type End = keyof typeof ENDS;
type Played = Record<End, Case[]>;
const nothingPlayed = (): Played => ({
  deleted: [],
  disabled: [],
  "logged out": [],
  "given another password": [],
});

function windowWith(cookie = "", replica = 0): Browser {
  const window = new Browser(house.replicas[replica]!);
  window.cookie = cookie;
  return window;
}

async function admin(method: string, { id }: User, body?: object): Promise<void> {
  const { status } = await owner.fetch(method, `/api/admin/users/${id}`, body);
  // Whoever has gone already has ended too.
  expect([200, 204, 404]).toContain(status);
}

/** Does something under watch, and ends the account before its command number `at`; false if it has fewer. */
async function interrupt(
  act: () => Promise<unknown>,
  at: number,
  end: () => Promise<void>,
): Promise<string | null> {
  let go = (): void => undefined;
  let reached = (): void => undefined;
  const paused = new Promise<"paused">((resolve) => (reached = () => resolve("paused")));
  let answer: Watch["answer"] = () => undefined;
  const watch: Watch = {
    at,
    seen: 0,
    held: "",
    reached,
    go: new Promise((resolve) => (go = resolve)),
    answered: new Promise((resolve) => (answer = resolve)),
    answer: (reply) => answer(reply),
  };
  next = watch;
  const done = act();
  try {
    if ((await Promise.race([paused, done.then(() => "done" as const)])) === "done") return null;
    await end();
  } finally {
    go();
    await done;
  }
  return watch.held;
}

type Case = {
  victim: Victim;
  what: string;
  /** When the end was complete, in ms. */
  endedAt: number;
  codes: string[];
};
type Doing<T> = {
  /** What must be there before. */
  before?: (victim: Victim) => Promise<T>;
  act: (victim: Victim, before: T) => Promise<unknown>;
  ends?: End[];
};

/** Plays one action to its end for each of its commands and each end; answers the accounts that have ended. */
async function play<T>(
  { before, act, ends = ["deleted", "disabled"] }: Doing<T>,
  { from = 1, connected = false } = {},
): Promise<Played> {
  const played = nothingPlayed();
  for (const how of ends)
    for (let at = from; ; at += 1) {
      const victim = await newVictim();
      if (connected) victim.connection = await connect(victim.browser, victim.user);
      const ready = (await before?.(victim)) as T;
      const codes: string[] = [];
      let endedAt = 0;
      const held = await interrupt(
        async () => {
          const answer = await act(victim, ready);
          const { body } = (answer ?? {}) as { body?: { code?: string; uses?: unknown } };
          if (typeof body?.code === "string") codes.push(body.code);
          victim.cookies.push(victim.browser.cookie);
        },
        at,
        async () => {
          await ENDS[how](victim);
          endedAt = Date.now();
        },
      );
      victim.connection?.close();
      if (held === null) break;
      played[how].push({ victim, what: `${how} before command ${at}: ${held}`, endedAt, codes });
    }
  return played;
}

/** What is wrong with accounts that have ended, each with what was done when. */
async function faultsOf(played: Played): Promise<string[]> {
  const { redis, keys } = house;
  const all = (await redis.keys("*")).flatMap((key) => keys.scan.nameOf(key) ?? []);
  const of = (kind: string) => all.filter((name) => name.startsWith(kind));
  const read = <T>(kind: string, how: (key: string) => Promise<T>): Promise<T[]> =>
    Promise.all(of(kind).map((name) => how(keys.scan.keyOf(name))));
  const sessions = await read("sess:", async (key) => (await redis.get(key)) ?? "");
  const resets = await read("reset:", (key) => redis.get(key));
  const files = await read("file:", async (key) => {
    const [by, room] = await redis.hmget(key, "by", "room");
    const id = key.slice(keys.file("").length);
    const holder = room ? await redis.hget(keys.roomFiles(room), id) : null;
    return { id, by, isSent: holder?.startsWith("#") ?? false };
  });
  const [sizes = {}, staff = {}, looks = {}] = await Promise.all(
    [keys.filesSizes, keys.staff, keys.userLooks].map((key) => redis.hgetall(key)),
  );

  /** What is wrong with a disabled or a deleted account. */
  const wrongWith = async ({ victim, endedAt, codes }: Case, isDeleted: boolean): Promise<string[]> => {
    const { id, username } = victim.user;
    const faults: string[] = [];
    const check = (isRight: boolean, fault: string) => isRight || faults.push(fault);
    check(
      !sessions.some((one) => one.includes(`"id":"${id}"`)) && !all.includes(`sessions:${id}`),
      "a session",
    );
    check(!(id in staff), "a role on the server");
    for (const cookie of new Set([...victim.cookies, victim.spare]))
      check((await windowWith(cookie).get("/api/me")).status === 401, "a door is open");
    for (const code of codes)
      check((await owner.get(`/api/invites/${code}`)).status !== 200, "an invite works");
    const avatar = isDeleted ? null : await redis.hget(keys.user(id), "avatar");
    const kept = files.filter(({ by, isSent, id: file }) => by === id && (isSent || file === avatar));
    const counted = Object.entries(sizes).filter(([, size]) => size.startsWith(`${id}:`));
    check(files.filter(({ by }) => by === id).length === kept.length, "a file");
    check(counted.length === kept.length, "counted bytes");

    for (const room of await redis.smembers(keys.userRooms(id))) {
      const since = await redis.zrange(keys.room(room), `(${endedAt}`, "+inf", "BYSCORE");
      check(!since.some((row) => (JSON.parse(row) as Message).from === id), `wrote in room ${room}`);
      const records = await redis.hgetall(keys.records(room));
      check(records[id]?.includes('"disabled":true') ?? false, `may write in room ${room}`);
      if (room === "0" || room.includes(":")) continue;
      const isOwned = Object.values(records).some((one) => /"owner"/.test(one) && !/"disabled"/.test(one));
      const isNoted = (await redis.hexists(keys.meta(room), "unowned")) === 1;
      check(isOwned || isNoted, `nobody owns room ${room}`);
    }
    if (!isDeleted) return faults;
    const fields = await redis.hkeys(keys.user(id));
    const left = [
      ...of(`user:${id}:`).filter((name) => name !== `user:${id}:rooms`),
      ...of(`limit:homes:`).filter((name) => name === `limit:homes:${username}`),
      ...fields.filter((field) => !["username", "created", "disabled", "deleted"].includes(field)),
      ...Object.keys(looks).filter((look) => looks[look] === id && look.startsWith("shown")),
    ];
    check(left.length === 0, left.join(", "));
    check(fields.includes("deleted"), "half an account");
    check(!resets.includes(id), "a link for a new password");
    return faults;
  };
  /** What is wrong with an account of which some sessions were ended. */
  const wrongSessions = async ({ victim: { user, cookies } }: Case, ended: string[]): Promise<string[]> => {
    const listed = await redis.zrange(keys.userSessions(user.id), "0", "-1");
    const alive = await Promise.all(listed.map((sid) => redis.exists(keys.session(sid))));
    const doors = await Promise.all(ended.map((one) => windowWith(one).get("/api/me")));
    return [
      ...(alive.includes(0) ? ["an ended session is listed"] : []),
      ...(doors.some(({ status }) => status !== 401)
        ? [`one of ${cookies.length} ended sessions works`]
        : []),
    ];
  };
  const faults = Object.entries(played).flatMap(([how, cases]) =>
    cases.map(async (one) => {
      const wrong =
        how === "deleted" || how === "disabled"
          ? await wrongWith(one, how === "deleted")
          : await wrongSessions(one, one.victim.cookies.slice(0, how === "logged out" ? 1 : undefined));
      return wrong.map((fault) => `${one.what}: ${fault}`);
    }),
  );
  return (await Promise.all(faults)).flat();
}

/** A request of the account under watch. */
function asks(victim: Victim, method: string, path: string, body?: unknown, headers: object = {}) {
  return victim.browser.fetch<Record<string, unknown>>(method, path, body, { [WATCHED]: "1", ...headers });
}

/** A plain request of the account. */
async function has<T>(victim: Victim, method: string, path: string, body?: unknown): Promise<T> {
  const answer = await victim.browser.fetch<T>(method, path, body);
  if (answer.status >= 300) throw new Error(`${path} answered ${answer.status}`);
  return answer.body;
}

/** The same for an admin, or a moderator: somebody above who acts on the account. */
const asOther = (victim: Victim, browser: Browser): Victim => ({ ...victim, browser });
const makeAdmin = (victim: Victim) =>
  has(asOther(victim, owner), "PATCH", `/api/admin/users/${victim.user.id}`, { role: "admin" });

const ownRoom = (victim: Victim) => has<Room>(victim, "POST", "/api/rooms", { name: `room ${(count += 1)}` });

async function sends(
  victim: Victim,
  method: string,
  path: string,
  body: string | Buffer<ArrayBuffer>,
  watch: object,
) {
  const { address, cookie } = victim.browser;
  const response = await fetch(`${address}${path}`, {
    method,
    headers: { origin: address, cookie, "x-room-id": "0", "x-file-name": "a.txt", ...watch },
    body,
  });
  return { status: response.status, body: (await response.json()) as UploadedFile };
}

const doing = <T>(one: Doing<T>): Doing<T> => one;
/** Commands of a request until its account is identified, if its session was used before. */
const IDENTIFIED = 3;
const ALL: End[] = ["deleted", "disabled", "logged out"];

const REQUESTS = {
  "GET /api/me": doing({ act: (victim) => asks(victim, "GET", "/api/me"), ends: ALL }),
  "GET /api/rooms/:id/messages": doing({
    act: (victim) => asks(victim, "GET", "/api/rooms/0/messages"),
    ends: ALL,
  }),
  "POST /api/login": doing({
    act: ({ browser, user: { username } }) =>
      browser.fetch("POST", "/api/login", { username, password: PASSWORD }, { [WATCHED]: "1" }),
    ends: [...ALL, "given another password"],
  }),
  "POST /api/logout": doing({ act: (victim) => asks(victim, "POST", "/api/logout"), ends: ALL }),
  "PATCH /api/me": doing({
    act: (victim) => asks(victim, "PATCH", "/api/me", { displayName: `shown${victim.user.id}` }),
  }),
  "PATCH /api/me, another name": doing({
    before: (victim) => has(victim, "PATCH", "/api/me", { displayName: `shown${victim.user.id}` }),
    act: (victim) => asks(victim, "PATCH", "/api/me", { displayName: `shown again${victim.user.id}` }),
  }),
  "POST /api/me/password": doing({
    act: (victim) => asks(victim, "POST", "/api/me/password", { current: PASSWORD, next: "battery staple" }),
    ends: ALL,
  }),
  "DELETE /api/me/sessions": doing({
    act: (victim) => asks(victim, "DELETE", "/api/me/sessions"),
    ends: ALL,
  }),
  "DELETE /api/me/sessions/:id": doing({
    before: (victim) => has<OwnSession[]>(victim, "GET", "/api/me/sessions"),
    act: (victim, [session]) => asks(victim, "DELETE", `/api/me/sessions/${session!.id}`),
  }),
  "DELETE /api/me": doing({
    act: (victim) => asks(victim, "DELETE", "/api/me", { password: PASSWORD, messages: "keep" }),
  }),
  "POST /api/rooms, an open one": doing({
    act: (victim) => asks(victim, "POST", "/api/rooms", { name: `room ${(count += 1)}` }),
  }),
  "POST /api/rooms, by invitation": doing({
    act: (victim) =>
      asks(victim, "POST", "/api/rooms", { name: `room ${(count += 1)}`, kind: "invite", topic: "t" }),
  }),
  "POST /api/rooms/private": doing({
    act: (victim) => asks(victim, "POST", "/api/rooms/private", { userId: peer.user.id }),
  }),
  "PATCH /api/rooms/:id": doing({
    before: ownRoom,
    act: (victim, { id }) =>
      asks(victim, "PATCH", `/api/rooms/${id}`, { name: `renamed ${(count += 1)}`, topic: "t" }),
  }),
  "PUT /api/rooms/:id/members/:userId": doing({
    before: ownRoom,
    act: (victim, { id }) =>
      asks(victim, "PUT", `/api/rooms/${id}/members/${peer.user.id}`, { role: "moderator" }),
  }),
  "PUT /api/rooms/:id/members/:userId, of the account": doing({
    act: (victim) =>
      asks(asOther(victim, peer.browser), "PUT", `/api/rooms/${open.id}/members/${victim.user.id}`, {
        role: "owner",
      }),
  }),
  "DELETE /api/rooms/:id/members/:userId": doing({
    before: ownRoom,
    act: (victim, { id }) => asks(victim, "DELETE", `/api/rooms/${id}/members/${victim.user.id}`),
  }),
  "PUT /api/rooms/:id/bans/:userId": doing({
    before: ownRoom,
    act: (victim, { id }) => asks(victim, "PUT", `/api/rooms/${id}/bans/${peer.user.id}`, {}),
  }),
  "DELETE /api/rooms/:id/bans/:userId": doing({
    before: async (victim) => {
      const { id } = await ownRoom(victim);
      await has(victim, "PUT", `/api/rooms/${id}/bans/${peer.user.id}`, {});
      return id;
    },
    act: (victim, id) => asks(victim, "DELETE", `/api/rooms/${id}/bans/${peer.user.id}`),
  }),
  "POST /api/rooms/:id/invites": doing({
    before: ownRoom,
    act: (victim, { id }) => asks(victim, "POST", `/api/rooms/${id}/invites`, {}),
  }),
  "POST /api/invites/:code": doing({ act: (victim) => asks(victim, "POST", `/api/invites/${invite}`) }),
  "DELETE /api/invites/:code": doing({
    before: async (victim) => {
      const { id } = await ownRoom(victim);
      return has<Invite>(victim, "POST", `/api/rooms/${id}/invites`, {});
    },
    act: (victim, { code }) => asks(victim, "DELETE", `/api/invites/${code}`),
  }),
  "POST /api/reports/:roomId/:seq": doing({
    before: async (victim) => {
      await makeAdmin(victim);
      await has(victim, "POST", "/api/reports", { roomId: "0", seq: 1 });
    },
    act: (victim) => asks(victim, "POST", "/api/reports/0/1", { state: "done" }),
  }),
  "POST /api/reports": doing({
    act: (victim) => asks(victim, "POST", "/api/reports", { roomId: "0", seq: 1, reason: "r" }),
  }),
  "PUT /api/rooms/:id/notifications": doing({
    act: (victim) => asks(victim, "PUT", "/api/rooms/0/notifications", { level: "nothing" }),
  }),
  "PUT /api/rooms/:id/view": doing({
    act: (victim) => asks(victim, "PUT", "/api/rooms/0/view", { folded: true, favourite: true }),
  }),
  "PUT /api/rooms/:id/view, hidden": doing({
    before: (victim) => has<Room>(victim, "POST", "/api/rooms/private", { userId: peer.user.id }),
    act: (victim, { id }) => asks(victim, "PUT", `/api/rooms/${id}/view`, { hidden: true }),
  }),
  "POST /api/files": doing({
    act: (victim) => sends(victim, "POST", "/api/files", "text", { [WATCHED]: "1" }),
  }),
  "DELETE /api/files/:id": doing({
    before: (victim) => sends(victim, "POST", "/api/files", "text", {}),
    act: (victim, { body: { id } }) => asks(victim, "DELETE", `/api/files/${id}`),
  }),
  "PUT /api/me/avatar": doing({
    act: (victim) => sends(victim, "PUT", "/api/me/avatar", image, { [WATCHED]: "1" }),
  }),
  "DELETE /api/me/avatar": doing({
    before: (victim) => sends(victim, "PUT", "/api/me/avatar", image, {}),
    act: (victim) => asks(victim, "DELETE", "/api/me/avatar"),
  }),
  "PATCH /api/admin/users/:id, a role": doing({
    act: (victim) =>
      asks(asOther(victim, owner), "PATCH", `/api/admin/users/${victim.user.id}`, { role: "owner" }),
  }),
  "PATCH /api/admin/users/:id, disabled": doing({
    act: (victim) =>
      asks(asOther(victim, owner), "PATCH", `/api/admin/users/${victim.user.id}`, { disabled: true }),
  }),
  "PATCH /api/admin/users/:id, enabled": doing({
    before: async (victim) => {
      await has(asOther(victim, owner), "PATCH", `/api/admin/users/${victim.user.id}`, {
        role: "admin",
      });
      await ENDS.disabled(victim);
    },
    act: (victim) =>
      asks(asOther(victim, owner), "PATCH", `/api/admin/users/${victim.user.id}`, { disabled: false }),
    ends: ["deleted"],
  }),
  "PATCH /api/admin/users/:id, by the account": doing({
    before: async (victim) => {
      await makeAdmin(victim);
      return newVictim();
    },
    act: (victim, other) => asks(victim, "PATCH", `/api/admin/users/${other.user.id}`, { disabled: true }),
  }),
  "DELETE /api/admin/users/:id": doing({
    act: (victim) => asks(asOther(victim, owner), "DELETE", `/api/admin/users/${victim.user.id}`),
  }),
  "DELETE /api/admin/users/:id/sessions": doing({
    act: (victim) => asks(asOther(victim, owner), "DELETE", `/api/admin/users/${victim.user.id}/sessions`),
  }),
  "PATCH /api/admin/settings": doing({
    before: makeAdmin,
    act: (victim) => asks(victim, "PATCH", "/api/admin/settings", { words: ["slop"] }),
  }),
  "POST /api/admin/users/:id/reset": doing({
    act: (victim) => asks(asOther(victim, owner), "POST", `/api/admin/users/${victim.user.id}/reset`),
  }),
  "POST /api/reset/:code": doing({
    before: (victim) =>
      has<{ url: string }>(asOther(victim, owner), "POST", `/api/admin/users/${victim.user.id}/reset`),
    act: (victim, { url }) =>
      asks(victim, "POST", `/api/reset/${url.slice(-32)}`, { password: "battery staple" }),
  }),
};

/** Emits an event under watch; resolves with the server's answer, also if nobody can hear it any more. */
async function emits({ connection }: Victim, event: string, body: object): Promise<unknown> {
  const { answered } = next!;
  const asked = { roomId: "0", ...body, [WATCHED]: 1 };
  connection!.socket.emit(event as "typing", asked, () => undefined);
  return { body: JSON.parse(await answered) as unknown };
}

const inOpenRoom = (victim: Victim) => has(victim, "POST", `/api/invites/${invite}`);
const pairOf = ({ user }: Victim) =>
  [user.id, peer.user.id].toSorted((one, other) => Number(one) - Number(other)).join(":");
const text = (roomId: string) => ({ roomId, message: "m", nonce: "n" });

const EVENTS = {
  message: doing({ act: (victim) => emits(victim, "message", text("0")), ends: ALL }),
  "message, the first of a direct room": doing({
    act: (victim) => emits(victim, "message", text(pairOf(victim))),
  }),
  "message, in a named room, an answer that mentions somebody": doing({
    before: inOpenRoom,
    act: (victim) => emits(victim, "message", { ...text(open.id), message: "@peer" }),
  }),
  "message, with a file": doing({
    before: (victim) => sends(victim, "POST", "/api/files", "text", {}),
    act: (victim, { body: { id } }) => emits(victim, "message", { ...text("0"), files: [id] }),
  }),
  "message.edit": doing({
    before: (victim) => victim.connection!.say("0", "before"),
    act: (victim, { seq }: Message) =>
      emits(victim, "message.edit", { seq, message: "after", rev: 0, nonce: "e" }),
  }),
  "message.delete": doing({
    before: (victim) => victim.connection!.say("0", "before"),
    act: (victim, { seq }: Message) => emits(victim, "message.delete", { seq }),
  }),
  "message.react": doing({
    act: (victim) => emits(victim, "message.react", { seq: 1, emoji: "👍", on: true }),
  }),
  "message.pin": doing({ act: (victim) => emits(victim, "message.pin", { seq: 1, on: true }) }),
  typing: doing({ act: (victim) => emits(victim, "typing", {}) }),
  "room.join": doing({ act: (victim) => emits(victim, "room.join", { roomId: open.id }) }),
  "room.leave": doing({
    before: inOpenRoom,
    act: (victim) => emits(victim, "room.leave", { roomId: open.id }),
  }),
  "room.read": doing({ act: (victim) => emits(victim, "room.read", { seq: 1 }) }),
  sync: doing({ act: (victim) => emits(victim, "sync", { rooms: [{ roomId: "0", seq: 0, date: 0 }] }) }),
};

const LEAVES_NOTHING = "leaves nothing that works or stays, whichever command it waits for";

describe(`a request during which its account is deleted or disabled, or its session ends, ${LEAVES_NOTHING}`, () => {
  for (const [name, one] of Object.entries(REQUESTS))
    it(name, async () => {
      // What identifies the account is the same for all.
      const from = name.startsWith("GET") ? 1 : IDENTIFIED;
      expect(await faultsOf(await play(one as Doing<unknown>, { from }))).toEqual([]);
    });
});

describe(`an event during which its account is deleted or disabled, or its session ends, ${LEAVES_NOTHING}`, () => {
  for (const [name, one] of Object.entries(EVENTS))
    it(name, async () => {
      expect(await faultsOf(await play(one as Doing<unknown>, { connected: true }))).toEqual([]);
    });
});

describe("a sign-up during which its account is deleted or disabled", () => {
  it(LEAVES_NOTHING, async () => {
    const played = nothingPlayed();
    for (const how of ["deleted", "disabled"] as const)
      for (let at = 1; ; at += 1) {
        const username = `victim${(count += 1)}`;
        const browser = new Browser(house.replicas[0]!);
        const victim: Victim = { user: { id: "", username }, browser, cookies: [], spare: "" };
        let endedAt = 0;
        const signUp = async () => {
          await browser.fetch(
            "POST",
            "/api/users",
            { username, password: PASSWORD, invite },
            { [WATCHED]: "1" },
          );
          victim.cookies.push(browser.cookie);
        };
        const held = await interrupt(signUp, at, async () => {
          const id = (await house.redis.get(house.keys.totalUsers)) ?? "";
          const [name, making] = await house.redis.hmget(house.keys.user(id), "username", "making");
          // Until it is made it is nobody's, and there is nothing to end.
          if (name !== username || making !== null) return;
          victim.user.id = id;
          await ENDS[how](victim);
          endedAt = Date.now();
        });
        if (held === null) break;
        const what = `${how} before command ${at}: ${held}`;
        if (endedAt > 0) played[how].push({ victim, what, endedAt, codes: [] });
      }
    expect(played.deleted.length).toBeGreaterThan(8);
    expect(await faultsOf(played)).toEqual([]);
  });
});

describe("a connection whose account is deleted or disabled, or its session ends, while it is let in", () => {
  it.each(["1", "admission"])("ends, and is online nowhere: %s", async (stage) => {
    const sockets = new Map<string, TestSocket>();
    const played = await play({
      act: async ({ browser, user }) => {
        const socket = browser.socket({ [WATCHED]: stage });
        sockets.set(user.id, socket);
        const answered = new Promise<void>((resolve) => {
          socket.once("connect", resolve);
          socket.once("connect_error", () => resolve());
        });
        socket.connect();
        await answered;
      },
      ends: ALL,
    });
    for (const { victim } of Object.values(played).flat())
      await until(() => sockets.get(victim.user.id)?.connected === false);
    for (const socket of sockets.values()) socket.disconnect();
    expect(await faultsOf(played)).toEqual([]);
    await until(async () => {
      const online = new Set(await house.redis.smembers(house.keys.online));
      return Object.values(played)
        .flat()
        .every(({ victim }) => !online.has(victim.user.id));
    });
  });
});

it("all requests that may change something, and all events, are stopped here", async () => {
  const docs = await readFile(new URL("../../../docs/api.md", import.meta.url), "utf8");
  const routes = [...docs.matchAll(/`((?:POST|PUT|PATCH|DELETE) \/api\/\S*?)`/g)].map(
    ([, route = ""]) => route,
  );
  const played = Object.keys(REQUESTS).map((name) => name.split(",")[0]);
  expect(routes.length).toBeGreaterThan(30);
  expect(routes.filter((route) => route !== "POST /api/users" && !played.includes(route))).toEqual([]);
  const [, table = ""] = docs.split("<!-- made:requests -->");
  const events = [...table.replace(/<!-- end -->.*/s, "").matchAll(/^\| `([a-z.]+)`/gm)].map(
    ([, one = ""]) => one,
  );
  expect(events.length).toBeGreaterThan(9);
  expect(events.filter((event) => !Object.keys(EVENTS).some((name) => name.split(",")[0] === event))).toEqual(
    [],
  );
});

describe("a room whose only owner's account has ended", () => {
  it.each(["deleted", "disabled"] as const)("is the next one's who joins it: %s", async (how) => {
    const victim = await newVictim();
    const { id } = await ownRoom(victim);
    await ENDS[how](victim);
    const answer = await peer.socket.timeout(PATIENCE_MS).emitWithAck("room.join", { roomId: id });
    expect(unwrap(answer as Reply<{ room: Room }>).room.role).toBe("owner");
    expect(await house.redis.hexists(house.keys.meta(id), "unowned")).toBe(0);
  });
});

describe("all of them together", () => {
  it("leave as many bytes counted as files have, and no bytes without a file", async () => {
    const { redis, keys, env } = house;
    const sizes = await redis.hgetall(keys.filesSizes);
    const sum = Object.values(sizes).reduce((all, size) => all + Number(size.split(":")[1]), 0);
    expect(Number((await redis.hget(keys.filesUsed, "all")) ?? 0)).toBe(sum);
    const folder = (env["FILES_URL"] ?? "").slice("file:".length);
    const names = existsSync(folder) ? readdirSync(folder, { recursive: true, withFileTypes: true }) : [];
    for (const { name } of names.filter((one) => one.isFile()))
      expect(await redis.exists(keys.file(name.replace(".thumbnail", ""))), name).toBe(1);
  });
});
