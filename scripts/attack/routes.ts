import type { Random } from "../prove/random.ts";
import { PASSWORD } from "./stage.ts";
import {
  STRINGS,
  idOf,
  json,
  messageOf,
  objectOf,
  roomId as anyRoom,
  spoilt,
  times,
  weighted,
  type Context,
} from "./values.ts";

/** The fuzzer's requests: every route of the API, with what it takes or nearly. */

/** `body` is JSON text, or bytes to be sent as they are. */
type Call = { method: string; path: string; body?: string | Buffer; headers?: string[] };
type Make = (random: Random, context: Context) => Call;

const PIXEL = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

const text = (value: unknown) => JSON.stringify(value);

/** Half a character cannot be encoded. */
function part(value: string): string {
  return encodeURIComponent(value.replaceAll(/\p{Cs}/gu, "")).slice(0, 600);
}

const room: (random: Random, context: Context) => string = (random, context) =>
  `/api/rooms/${part(anyRoom(random, context))}`;
const user = (random: Random, { users }: Context) => part(idOf(random, users, "999999"));
const invite = (random: Random, { seen }: Context) => part(idOf(random, seen.invites, "x".repeat(22)));
const file = (random: Random, { seen }: Context) => part(idOf(random, seen.files, "x".repeat(22)));
const moment = (random: Random) =>
  String(random.pick([0, 1, Date.now() + 60_000, Date.now() + 1e9, 8.64e15, -1]));
const named = (random: Random, nonce: string) =>
  text(random.next() < 0.8 ? `fuzz ${nonce}`.slice(0, 40) : random.pick(STRINGS));

function query(random: Random, choices: Record<string, readonly string[]>): string {
  const given = Object.entries(choices).filter(() => random.next() < 0.5);
  const fields = given.map(([name, values]) => `${name}=${part(random.pick(values))}`);
  if (random.next() < 0.05) fields.push(`${random.pick(["size", "q", "a[]"])}=${part(random.pick(STRINGS))}`);
  return fields.length > 0 ? `?${fields.join("&")}` : "";
}

const SIZES = ["1", "2", "100", "0", "101", "x", "1e2"];
const AFTER = ["0", "1", "5", "99999999999", "-1"];
const QUERIES = ["a", "person", "hello", "", "(.*)+", "𝒳", "é", "hello 0", "x".repeat(101)];
const DATES = ["0", "1", "1800000000000", "9999999999999999", "x"];

const get = (path: string, choices: Record<string, readonly string[]> = {}): Make => {
  return (random) => ({ method: "GET", path: path + query(random, choices) });
};
const ofRoom = (what: string, choices: Record<string, readonly string[]> = {}): Make => {
  return (random, context) => ({
    method: "GET",
    path: room(random, context) + what + query(random, choices),
  });
};

/** Uploads, mostly small texts: a picture costs a decoding. */
function upload(random: Random): Pick<Call, "body"> & { headers: string[] } {
  const body = weighted<() => Buffer>(random, [
    [() => Buffer.from(`hello ${random.whole(1e6)}`), 60],
    [() => PIXEL, 6],
    [() => PIXEL.subarray(0, random.whole(PIXEL.length)), 10],
    [() => Buffer.from("<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>"), 8],
    [() => Buffer.from(times(random, 400, () => random.whole(256))), 10],
    [() => Buffer.alloc(40_000, 7), 6],
  ])();
  return { body, headers: [] };
}

/** What is done and how often, and who does it: an administrator's requests are 404 for all others. */
const ROUTES: (readonly [Make, number])[] = [
  [get("/api/me"), 2],
  [
    (random, { nonce }) => ({
      method: "PATCH",
      path: "/api/me",
      body: spoilt(random, { displayName: random.next() < 0.2 ? "null" : named(random, nonce()) }),
    }),
    3,
  ],
  [
    (random, { spend }) => {
      const isRight = random.next() < 0.1;
      if (isRight) spend();
      const current = isRight ? PASSWORD : random.pick(["wrong", "", PASSWORD.slice(1), "\ud800"]);
      const body = spoilt(random, { current: text(current), next: text("another horse battery") });
      return { method: "POST", path: "/api/me/password", body };
    },
    1,
  ],
  [get("/api/me/sessions"), 2],
  [
    (_random, { spend }) => {
      spend();
      return { method: "DELETE", path: "/api/me/sessions" };
    },
    0.5,
  ],
  [
    (random, { seen, spend }) => {
      spend();
      return {
        method: "DELETE",
        path: `/api/me/sessions/${part(idOf(random, seen.sessions, "0".repeat(16)))}`,
      };
    },
    1,
  ],
  [
    (random, { spend }) => {
      const isRight = random.next() < 0.5;
      if (isRight) spend();
      const messages = text(random.pick(["keep", "keep", "keep", "delete", "both"]));
      const body = spoilt(random, { password: text(isRight ? PASSWORD : "wrong"), messages });
      return { method: "DELETE", path: "/api/me", body };
    },
    0.3,
  ],
  [get("/api/me/export"), 0.3],
  [
    (random, { spend }) => {
      spend();
      return {
        method: "POST",
        path: random.pick(["/api/logout", "/api/logout", "/api/LOGOUT", "/api/logout/"]),
      };
    },
    1,
  ],
  [
    (random, { seen }) => ({
      method: "POST",
      path: `/api/reset/${part(idOf(random, seen.resets, "x".repeat(32)))}`,
      body: spoilt(random, {
        password: text(random.pick(["short", "another horse battery", "\udfff12345678"])),
      }),
    }),
    0.5,
  ],
  [get("/api/users", { after: AFTER, size: SIZES }), 1],
  [get("/api/users", { q: QUERIES, size: SIZES, after: AFTER }), 2],
  [(random, context) => ({ method: "GET", path: `/api/users?ids=${user(random, context)},1` }), 1],
  [get("/api/users/online"), 0.5],
  [
    get("/api/search", {
      q: QUERIES,
      room: ["0", "1:2", "x"],
      from: ["1", "0"],
      before: DATES,
      after: DATES,
      cursor: ["", "x", "1", "0-0", "x".repeat(65)],
    }),
    3,
  ],
  [get("/api/mentions", { before: DATES, size: SIZES }), 2],
  [get("/api/rooms"), 0.5],
  [get("/api/rooms/directory", { q: QUERIES, after: AFTER, size: SIZES }), 2],
  [
    (random, { nonce }) => ({
      method: "POST",
      path: "/api/rooms",
      body: spoilt(random, {
        name: named(random, nonce()),
        ...(random.next() < 0.5 && { kind: text(random.pick(["open", "invite", "direct", ""])) }),
        ...(random.next() < 0.3 && { topic: text(random.pick(STRINGS).slice(0, 300)) }),
      }),
    }),
    2,
  ],
  [
    (random, { users }) => ({
      method: "POST",
      path: "/api/rooms/private",
      body: spoilt(random, { userId: text(idOf(random, users, "999999")) }),
    }),
    2,
  ],
  [
    (random, context) => ({
      method: "PATCH",
      path: room(random, context),
      body: spoilt(random, {
        ...(random.next() < 0.4 && { name: named(random, context.nonce()) }),
        ...(random.next() < 0.3 && { kind: text(random.pick(["open", "invite", "everyone"])) }),
        ...(random.next() < 0.3 && { topic: text(random.pick(STRINGS).slice(0, 300)) }),
        ...(random.next() < 0.2 && { slow: String(random.pick([0, 1, 21_600, 21_601, 0.5])) }),
        ...(random.next() < 0.2 && { archived: String(random.next() < 0.4) }),
      }),
    }),
    4,
  ],
  [ofRoom("/members", { after: AFTER, size: SIZES }), 2],
  [
    (random, context) => ({
      method: "PUT",
      path: `${room(random, context)}/members/${user(random, context)}`,
      body: spoilt(random, {
        ...(random.next() < 0.5 && { role: text(random.pick(["member", "moderator", "owner", "admin"])) }),
        ...(random.next() < 0.5 && { mutedUntil: moment(random) }),
      }),
    }),
    5,
  ],
  [
    (random, context) => ({
      method: "DELETE",
      path: `${room(random, context)}/members/${user(random, context)}`,
    }),
    2,
  ],
  [ofRoom("/bans"), 1],
  [
    (random, context) => ({
      method: "PUT",
      path: `${room(random, context)}/bans/${user(random, context)}`,
      body: spoilt(random, { ...(random.next() < 0.5 && { until: moment(random) }) }),
    }),
    2,
  ],
  [
    (random, context) => ({
      method: "DELETE",
      path: `${room(random, context)}/bans/${user(random, context)}`,
    }),
    2,
  ],
  [
    (random, context) => ({
      method: "POST",
      path: `${room(random, context)}/invites`,
      body: spoilt(random, {
        ...(random.next() < 0.3 && { expires: moment(random) }),
        ...(random.next() < 0.5 && { uses: String(random.pick([1, 2, 0, 100_001])) }),
      }),
    }),
    3,
  ],
  [ofRoom("/invites"), 1],
  [(random, context) => ({ method: "GET", path: `/api/invites/${invite(random, context)}` }), 2],
  [(random, context) => ({ method: "POST", path: `/api/invites/${invite(random, context)}`, body: "{}" }), 3],
  [(random, context) => ({ method: "DELETE", path: `/api/invites/${invite(random, context)}` }), 1],
  [
    (random, context) => {
      const [roomIdOf, seq] = messageOf(random, context);
      const reason = text(random.pick(STRINGS).slice(0, 600));
      const body = spoilt(random, { roomId: text(roomIdOf), seq, ...(random.next() < 0.5 && { reason }) });
      return { method: "POST", path: "/api/reports", body };
    },
    3,
  ],
  [ofRoom("/reports"), 1],
  [
    (random, context) => ({
      method: "POST",
      path: `/api/reports/${messageOf(random, context).map(part).join("/")}`,
      body: spoilt(random, { state: text(random.pick(["done", "open"])) }),
    }),
    2,
  ],
  [
    (random, context) => ({
      method: "GET",
      path: `${room(random, context)}/audit?before=${part(idOf(random, context.seen.entries, "0-0"))}`,
    }),
    1,
  ],
  [ofRoom("/audit", { size: SIZES }), 1],
  [
    (random, context) => ({
      method: "PUT",
      path: `${room(random, context)}/notifications`,
      body: spoilt(random, { level: text(random.pick(["all", "mentions", "nothing", "loud"])) }),
    }),
    2,
  ],
  [ofRoom("/audience"), 1],
  [
    (random, context) => ({
      method: "PUT",
      path: `${room(random, context)}/view`,
      body: spoilt(random, {
        ...(random.next() < 0.5 && { folded: String(random.next() < 0.5) }),
        ...(random.next() < 0.5 && { favourite: String(random.next() < 0.5) }),
        ...(random.next() < 0.5 && { hidden: String(random.next() < 0.5) }),
        ...(random.next() < 0.3 && { seq: String(random.pick([0, 1, 1e9])) }),
      }),
    }),
    3,
  ],
  [
    ofRoom("/messages", {
      before: DATES,
      after: DATES,
      around: ["1", "0", "1000000"],
      at: DATES,
      thread: ["1", "2", "0"],
      pinned: ["true", "false"],
      threads: ["true", "x"],
      size: SIZES,
    }),
    5,
  ],
  [
    (random, context) => {
      const [roomIdOf, seq] = messageOf(random, context);
      const asked = `${random.pick(["around", "thread"])}=${part(seq)}&threads=true&size=5`;
      return { method: "GET", path: `/api/rooms/${part(roomIdOf)}/messages?${asked}` };
    },
    2,
  ],
  [ofRoom("/transcript"), 0.2],
  [get("/api/files"), 1],
  [
    (random, context) => {
      const { body, headers } = upload(random);
      const name = random.next() < 0.8 ? part(random.pick([...STRINGS, "a.png", "a.html"])) : "%ff";
      headers.push(`X-File-Name: ${name}`, `X-Room-Id: ${part(anyRoom(random, context))}`);
      return { method: "POST", path: "/api/files", ...(body && { body }), headers };
    },
    8,
  ],
  [(random, context) => ({ method: "DELETE", path: `/api/files/${file(random, context)}` }), 2],
  [
    (random, context) => ({
      method: random.pick(["GET", "GET", "HEAD"]),
      path: `/api/files/${file(random, context)}${random.pick(["", "", "/thumbnail", "/x"])}`,
      headers: [
        ...(random.next() < 0.4
          ? [
              `Range: ${random.pick(["bytes=0-0", "bytes=9-1", "bytes=-3", "bytes=0-1,2-3", "x=1", "bytes=1e9-"])}`,
            ]
          : []),
        ...(random.next() < 0.2
          ? [`If-None-Match: ${random.pick(["*", '"x"', `"${file(random, context)}"`])}`]
          : []),
        ...(random.next() < 0.1 ? [`If-Range: ${random.pick(['"x"', "yesterday"])}`] : []),
      ],
    }),
    5,
  ],
  [(random) => ({ method: "PUT", path: "/api/me/avatar", ...upload(random) }), 2],
  [() => ({ method: "DELETE", path: "/api/me/avatar" }), 1],
  [(random, context) => ({ method: "GET", path: `/api/users/${user(random, context)}/avatar` }), 1],
  [get("/api/admin/users", { q: QUERIES, after: AFTER, size: SIZES }), 1],
  [(random, context) => ({ method: "GET", path: `/api/admin/users/${user(random, context)}` }), 1],
  [
    (random, context) => {
      const id = idOf(random, context.users, "999999");
      context.spend(id);
      const body = spoilt(random, {
        ...(random.next() < 0.5 && { role: text(random.pick(["user", "admin", "owner", "root"])) }),
        ...(random.next() < 0.5 && { disabled: String(random.next() < 0.6) }),
      });
      return { method: "PATCH", path: `/api/admin/users/${part(id)}`, body };
    },
    1,
  ],
  [
    (random, context) => {
      const id = idOf(random, context.users, "999999");
      context.spend(id);
      return { method: "DELETE", path: `/api/admin/users/${part(id)}${random.pick(["", "/sessions"])}` };
    },
    0.5,
  ],
  [(random, context) => ({ method: "POST", path: `/api/admin/users/${user(random, context)}/reset` }), 1],
  [get("/api/admin/rooms", { q: QUERIES, after: AFTER, size: SIZES }), 1],
  [get("/api/admin/settings"), 0.5],
  [
    // No word here is one of those that bystanders say.
    (random) => ({
      method: "PATCH",
      path: "/api/admin/settings",
      body: objectOf({
        ...(random.next() < 0.5 && { signup: text(random.pick(["open", "invite", "closed", "x"])) }),
        ...(random.next() < 0.5 && {
          words: random.pick(['["zzqx"]', "[]", '["\u200b"]', "[5]", '"zzqx"', "null"]),
        }),
      }),
    }),
    1,
  ],
  [get("/api/admin/stats"), 0.5],
  [get("/api/admin/reports"), 1],
  [get("/api/admin/audit", { size: SIZES }), 1],
];

/** One request of any route, as it goes over the wire; rarely with a wrong method, path, type or length. */
export function callOf(random: Random, context: Context): Buffer {
  const made = weighted(random, ROUTES)(random, context);
  const method =
    random.next() < 0.97 ? made.method : random.pick(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]);
  const path =
    random.next() < 0.97 ? made.path : made.path + random.pick(["/", "%00", "%ff", "?", "//", "/.."]);
  const isJson = typeof made.body === "string";
  const whole = random.next() < 0.96 ? (made.body ?? "") : isJson ? json(random) : "x";
  const body = Buffer.from(whole);
  const isLie = random.next() < 0.02;
  const length = isLie
    ? random.pick(["0", "-1", String(body.length + 3), "9999999999", "x"])
    : String(body.length);
  return httpOf(
    {
      method,
      path,
      body,
      headers: [
        ...(made.headers ?? []),
        ...(made.body === undefined && method === "GET"
          ? []
          : [
              `Content-Type: ${random.next() < 0.97 && isJson ? "application/json" : "application/octet-stream"}`,
              `Content-Length: ${length}`,
            ]),
      ],
    },
    { ...context, cookie: random.next() < 0.97 ? context.cookie : "" },
  );
}

/** A request without a body. */
export function plainCall(method: string, path: string, context: Context): Buffer {
  return httpOf({ method, path }, context);
}

/** A right upload, of anything. */
export function uploadTo(roomId: string, random: Random, context: Context): Buffer {
  const { body = "" } = upload(random);
  const headers = ["X-File-Name: a.png", `X-Room-Id: ${roomId}`, `Content-Length: ${body.length}`];
  return httpOf({ method: "POST", path: "/api/files", body, headers }, context);
}

function httpOf({ method, path, body = "", headers = [] }: Call, { host, cookie }: Context): Buffer {
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `Host: ${host}`,
    `Origin: http://${host}`,
    ...(cookie ? [`Cookie: ${cookie}`] : []),
    ...headers,
  ];
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), Buffer.from(body)]);
}
