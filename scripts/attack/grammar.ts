import { clientFrame } from "../frames.ts";
import type { Random } from "../prove/random.ts";
import { callOf, plainCall, uploadTo } from "./routes.ts";
import { STRINGS, idOf, json, messageOf, roomId, spoilt, times, weighted, type Context } from "./values.ts";

/**
 * What the fuzzer sends: sequences of writes on up to three TCP connections, from valid to nonsense, at every layer.
 * Steps are made first and then run in order, with the sequence's own random numbers, so that its number and the seed
 * repeat it.
 */
export type Sequence = { kind: Kind; session: boolean; steps: Step[] };

export type Step =
  /** Writes to one of the sequence's connections; the first step that names it opens it. */
  | { do: "write"; line: number; bytes: (context: Context) => string | Buffer; what: string }
  /** Waits until more has come back, at most 40 ms. */
  | { do: "listen"; line: number }
  | { do: "wait"; ms: number }
  /** Half-closes, resets, or stops reading. */
  | { do: "end" | "reset" | "deafen"; line: number };

export type Kind = "tcp" | "http" | "frames" | "packets" | "polling" | "events" | "visits";

type Make = (random: Random) => Step[];

const KINDS: [Kind, number, Make][] = [
  ["tcp", 12, bytes],
  ["http", 16, requests],
  ["frames", 20, frames],
  ["packets", 22, packets],
  ["polling", 15, polling],
  ["events", 15, events],
  ["visits", 15, visits],
];

export function makeSequence(random: Random): Sequence {
  const [kind, , make] = weighted(
    random,
    KINDS.map((entry) => [entry, entry[1]] as const),
  );
  const session = random.next() < (kind === "events" || kind === "visits" ? 0.95 : 0.7);
  const steps = make(random);
  const ending = random.next();
  if (ending < 0.1) steps.push({ do: "end", line: 0 }, { do: "wait", ms: random.whole(30) });
  else if (ending < 0.2) steps.push({ do: "reset", line: 0 });
  return { kind, session, steps };
}

function write(what: string, made: Extract<Step, { do: "write" }>["bytes"], line = 0): Step {
  return { do: "write", line, bytes: made, what };
}

/** The steps between two writes: mostly none, so that the replica gets both in one read. */
function pause(random: Random, line = 0): Step[] {
  const chance = random.next();
  if (chance < 0.6) return [];
  if (chance < 0.8) return [{ do: "listen", line }];
  return [{ do: "wait", ms: random.whole(10) }];
}

// ---- events ----

/** A valid body for each event, as fields of JSON text. */
const BODIES: Record<string, (random: Random, context: Context) => Record<string, string>> = {
  message: (random, context) => {
    const [room, seq] = messageOf(random, context);
    const isAnswer = random.next() < 0.1;
    return {
      roomId: JSON.stringify(isAnswer ? room : roomId(random, context)),
      message: JSON.stringify(
        random.pick(["hello", "a < b && c", "🙂", "@room @person1", random.pick(STRINGS) || "x"]),
      ),
      nonce: JSON.stringify(random.next() < 0.8 ? context.nonce() : "again"),
      ...(isAnswer && { replyTo: seq }),
      ...(isAnswer &&
        random.next() < 0.2 && { replyToHash: JSON.stringify(random.pick(["", "abcdef012345", "zz"])) }),
      ...(random.next() < 0.15 && { files: filesOf(random, context) }),
    };
  },
  "message.edit": (random, context) => ({
    ...target(random, context),
    message: JSON.stringify(random.pick(["edited", "", "@room", random.pick(STRINGS)])),
    rev: String(random.pick([0, 1, 2, 1_000_000])),
    nonce: JSON.stringify(random.next() < 0.8 ? context.nonce() : "again"),
  }),
  "message.delete": (random, context) => target(random, context),
  "message.react": (random, context) => ({
    ...target(random, context),
    emoji: JSON.stringify(random.pick(["👍", "🏳️‍🌈", "🇦🇶", "1️⃣", "👍👍", "a", "\ufe0f", "\ud83d"])),
    on: String(random.next() < 0.7),
  }),
  "message.pin": (random, context) => ({ ...target(random, context), on: String(random.next() < 0.7) }),
  typing: (random, context) => ({ roomId: JSON.stringify(roomId(random, context)) }),
  "room.join": (random, context) => ({ roomId: JSON.stringify(roomId(random, context)) }),
  "room.leave": (random, context) => ({ roomId: JSON.stringify(roomId(random, context)) }),
  "room.read": (random, context) => ({
    roomId: JSON.stringify(roomId(random, context)),
    seq: String(random.pick([0, 1, 2, 1_000_000])),
    ...(random.next() < 0.2 && { unread: random.pick(["true", "false"]) }),
  }),
  sync: (random, context) => ({
    rooms: `[${times(random, random.next() < 0.1 ? 120 : 3, () => {
      const hash = random.next() < 0.3 ? `,"hash":"${random.pick(["", "0", "abcdef012345", "zz"])}"` : "";
      const rev = random.next() < 0.3 ? `,"rev":${random.whole(5)},"revHash":"abcdef012345"` : "";
      return `{"roomId":${JSON.stringify(roomId(random, context))},"seq":${random.whole(5)},"date":${random.pick([0, 1, 1.8e12])}${hash}${rev}}`;
    }).join(",")}]`,
  }),
};

function target(random: Random, context: Context): Record<string, string> {
  const [room, seq] = messageOf(random, context);
  return { roomId: JSON.stringify(room), seq };
}

/** Ids of files, alone or with words for them. */
function filesOf(random: Random, { seen }: Context): string {
  const files = times(random, random.next() < 0.1 ? 12 : 2, () => {
    const id = JSON.stringify(idOf(random, seen.files, "x".repeat(22)));
    return random.next() < 0.6 ? id : `{"id":${id},"alt":${JSON.stringify(random.pick(STRINGS))}}`;
  });
  return `[${files.join(",")}]`;
}

const EVENTS = Object.keys(BODIES);
const RESERVED = [
  "connect",
  "connect_error",
  "disconnect",
  "disconnecting",
  "error",
  "newListener",
  "removeListener",
  "__proto__",
  "constructor",
  "user.connected",
  "",
];

/** The arguments of an event as JSON text, valid more often than not. */
function event(random: Random, context: Context): string {
  if (random.next() < 0.08) return json(random);
  const name = random.next() < 0.85 ? random.pick(EVENTS) : random.pick(RESERVED);
  const fields = (Object.hasOwn(BODIES, name) ? BODIES[name] : BODIES["message"])?.(random, context) ?? {};
  const body = spoilt(random, fields);
  const args = random.next() < 0.9 ? [body] : times(random, 3, () => json(random));
  const first = random.next() < 0.95 ? JSON.stringify(name) : json(random);
  return `[${[first, ...args].join(",")}]`;
}

/** One Socket.IO packet. */
function packet(random: Random, context: Context): string {
  const namespace =
    random.next() < 0.12
      ? random.pick(["/,", "/x,", "/admin,", "/admin?a=b,", "/", "/__proto__,", "/,,"])
      : "";
  const id =
    random.next() < 0.8
      ? String(random.whole(100))
      : random.pick(["", "-1", "1e9", "99999999999999999999", "9007199254740993", "007"]);
  return weighted(random, [
    [() => `2${namespace}${id}${event(random, context)}`, 50],
    [() => `0${namespace}${random.next() < 0.7 ? "" : json(random)}`, 12],
    [() => `1${namespace}`, 6],
    [() => `3${namespace}${id}${json(random)}`, 6],
    [() => `4${namespace}${json(random)}`, 3],
    [
      () =>
        `5${random.pick(["0", "1", "2", "10", "11", "1000", "-1", "1e3", "x"])}-${namespace}${id}${event(random, context)}`,
      6,
    ],
    [() => `6${random.pick(["0", "1", "9"])}-${namespace}${id}${json(random)}`, 3],
    [() => `${random.pick(["7", "9", "x", "", "-", "2", "20"])}${random.pick(STRINGS)}`, 5],
    [() => `2${namespace}${id}${event(random, context).slice(0, random.whole(60))}`, 5],
  ])();
}

/** One Engine.IO packet. */
function enginePacket(random: Random, context: Context): string {
  return weighted(random, [
    [() => `4${packet(random, context)}`, 75],
    [() => "3", 4],
    [() => "2", 4],
    [
      () =>
        random.pick([
          "2probe",
          "3probe",
          "5",
          "6",
          "1",
          "0",
          '0{"sid":"x"}',
          "7",
          "9",
          "",
          "b",
          "bAAAA",
          "4",
        ]),
      14,
    ],
    [() => random.pick(STRINGS), 3],
  ])();
}

// ---- WebSocket ----

type FrameOptions = {
  fin?: boolean;
  opcode?: number;
  rsv?: number;
  masked?: boolean;
  length?: number | bigint;
};

/** A frame that may break the rules: its mask, reserved bits or length may be wrong. */
function anyFrame(payload: string | Buffer, options: FrameOptions = {}): Buffer {
  const { fin = true, opcode = 1, rsv = 0, masked = true, length } = options;
  const body = Buffer.from(payload);
  const frame = clientFrame(body, opcode);
  frame[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  if (length !== undefined) {
    const lie = Buffer.alloc(14);
    lie[0] = frame[0];
    lie[1] = 0x80 | 127;
    lie.writeBigUInt64BE(BigInt.asUintN(64, BigInt(length)), 2);
    return Buffer.concat([lie, body]);
  }
  if (!masked) {
    frame[1] = (frame[1] ?? 0) & 0x7f;
    const start = frame.length - body.length;
    return Buffer.concat([frame.subarray(0, start - 4), body]);
  }
  return frame;
}

function upgrade(random: Random, line = 0, query = "EIO=4&transport=websocket"): Step {
  const chance = random.next();
  const asked =
    query.includes("sid") || chance < 0.96
      ? query
      : random.pick([
          "EIO=3&transport=websocket",
          "EIO=4",
          "transport=websocket",
          "EIO=4&transport=__proto__",
          "EIO=4&transport=websocket&sid=nobody",
          "EIO=4&EIO=4&transport=websocket",
        ]);
  const protocol = random.next() < 0.96 ? "websocket" : random.pick(["h2c", "", "WebSocket, h2c"]);
  const key = random.next() < 0.97 ? "dGhlIHNhbXBsZSBub25jZQ==" : random.pick(["", "x", "dGhl"]);
  const version = random.next() < 0.97 ? "13" : random.pick(["8", "0", "x", "13, 8"]);
  const extra =
    random.next() < 0.06 ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99\r\n" : "";
  return write(
    `upgrade ${asked}`,
    ({ host, cookie, sid }) =>
      `GET /socket.io/?${asked.replace("SID", sid)} HTTP/1.1\r\nHost: ${host}\r\nOrigin: http://${host}\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\nSec-WebSocket-Version: ${version}\r\nSec-WebSocket-Key: ${key}\r\n${extra}${cookie ? `Cookie: ${cookie}\r\n` : ""}\r\n`,
    line,
  );
}

function text(random: Random, line: number, make: (random: Random, context: Context) => string): Step {
  return write("text", (context) => clientFrame(make(random, context)), line);
}

function opened(random: Random, line = 0): Step[] {
  const steps: Step[] = [upgrade(random, line)];
  // The client goes before the answer comes.
  if (random.next() < 0.04) return [...steps, { do: "reset", line }];
  if (random.next() < 0.8) steps.push({ do: "listen", line });
  const chance = random.next();
  if (chance < 0.92) {
    const once = clientFrame("40");
    const twice = Buffer.concat([once, once]);
    steps.push(
      chance < 0.06 ? write("connect twice", () => twice, line) : write("connect", () => once, line),
    );
    if (random.next() < 0.7) steps.push({ do: "listen", line });
  }
  return steps;
}

/** Well-formed frames with all kinds of packets. */
function packets(random: Random): Step[] {
  const steps = opened(random);
  if (random.next() < 0.1) steps.push(...opened(random, 1));
  for (const step of times(random, 10, () => text(random, 0, enginePacket)))
    steps.push(step, ...pause(random));
  if (random.next() < 0.05) steps.push({ do: "deafen", line: 0 });
  return steps;
}

/** A client with mistakes: it connects, disconnects and connects again, in two namespaces. */
function events(random: Random): Step[] {
  const steps: Step[] = [
    upgrade(random),
    { do: "listen", line: 0 },
    write("connect", () => clientFrame("40")),
    { do: "listen", line: 0 },
  ];
  for (let count = 1 + random.whole(8); count > 0; count -= 1) {
    const chance = random.next();
    if (chance < 0.75)
      steps.push(text(random, 0, (_, context) => `42${random.whole(1_000)}${event(random, context)}`));
    else if (chance < 0.8) steps.push(write("disconnect", () => clientFrame("41")));
    else if (chance < 0.87) steps.push(write("connect again", () => clientFrame("40")));
    else if (chance < 0.92)
      steps.push(write("other namespace", () => clientFrame(`40${random.pick(["/x,", "/,", "/admin,{}"])}`)));
    else steps.push(write("unasked ack", () => clientFrame(`43${random.whole(5)}[{"ok":true}]`)));
    steps.push(...pause(random));
  }
  return steps;
}

/** Frames that break the protocol, among valid ones. */
function frames(random: Random): Step[] {
  const steps = opened(random);
  for (let count = 1 + random.whole(8); count > 0; count -= 1) {
    const step = weighted<() => Step | Step[]>(random, [
      [() => text(random, 0, enginePacket), 25],
      [
        () => {
          return write("fragments", (context) => {
            const whole = Buffer.from(enginePacket(random, context));
            const parts = times(random, 6, () => random.whole(whole.length + 1)).toSorted((a, b) => a - b);
            const cuts = [0, ...parts, whole.length];
            return Buffer.concat(
              cuts.slice(1).flatMap((end, index) => [
                anyFrame(whole.subarray(cuts[index] ?? 0, end), {
                  opcode: index === 0 ? 1 : 0,
                  fin: index === cuts.length - 2 && random.next() < 0.9,
                }),
                ...(random.next() < 0.3 ? [anyFrame("p", { opcode: random.pick([9, 10]) })] : []),
              ]),
            );
          });
        },
        14,
      ],
      [
        () =>
          write("control", () =>
            anyFrame("x".repeat(random.pick([0, 1, 125])), { opcode: random.pick([9, 10]) }),
          ),
        10,
      ],
      [() => write("long control", () => anyFrame("x".repeat(126), { opcode: random.pick([8, 9, 10]) })), 4],
      [
        () =>
          write("fragmented control", () => anyFrame("x", { opcode: random.pick([8, 9, 10]), fin: false })),
        4,
      ],
      [
        () =>
          write("close", () =>
            anyFrame(
              random.pick([
                Buffer.alloc(0),
                Buffer.from([3]),
                Buffer.from([3, 232]),
                Buffer.from([0, 0]),
                Buffer.from([3, 238, 0xff]),
                Buffer.from([0xff, 0xff]),
              ]),
              {
                opcode: 8,
              },
            ),
          ),
        6,
      ],
      [
        () =>
          write("bad UTF-8", () => anyFrame(Buffer.from([0x34, 0x32, 0xc3, 0x28, 0xf0, 0x28, 0x8c, 0xbc]))),
        5,
      ],
      [
        () =>
          write("binary", () => anyFrame(Buffer.alloc(random.pick([0, 1, 100, 40_000]), 4), { opcode: 2 })),
        6,
      ],
      [() => write("reserved bits", () => anyFrame("40", { rsv: 1 + random.whole(7) })), 4],
      [() => write("unknown opcode", () => anyFrame("x", { opcode: random.pick([3, 4, 7, 11, 15]) })), 4],
      [() => write("unmasked", () => anyFrame("42[]", { masked: false })), 4],
      [
        () =>
          write("length lies", () =>
            anyFrame("4", { length: random.pick([5n, 40_000n, 2n ** 31n, 2n ** 53n, -1n]) }),
          ),
        4,
      ],
      [() => write("continuation", () => anyFrame("x", { opcode: 0, fin: random.next() < 0.5 })), 5],
      [
        () =>
          write("too long", () => anyFrame(`42["message",{"roomId":"0","message":"${"x".repeat(33_000)}"}]`)),
        2,
      ],
      [
        () => {
          const share = random.next();
          const cut = (context: Context) => {
            const frame = clientFrame(enginePacket(random, context));
            return frame.subarray(0, Math.floor(frame.length * share));
          };
          return [write("half a frame", cut), { do: "wait", ms: random.whole(10) } as const];
        },
        6,
      ],
      [
        () =>
          write("attachments", () =>
            Buffer.concat([
              clientFrame('4512-["message",{"_placeholder":true,"num":0}]'),
              ...times(random, 3, () => anyFrame(Buffer.alloc(10), { opcode: 2 })),
              clientFrame('42["message",{}]'),
            ]),
          ),
        4,
      ],
      [() => write("noise", () => Buffer.from(times(random, 60, () => random.whole(256)))), 5],
      [() => ({ do: random.pick(["end", "reset", "deafen"] as const), line: 0 }), 3],
    ])();
    steps.push(...[step].flat(), ...pause(random));
  }
  return steps;
}

/** A file is uploaded, sent, fetched and deleted, each step perhaps without the one before. */
function fileLife(random: Random): Step[] {
  const newest = ({ seen }: Context) => seen.files.at(-1) ?? "x";
  const ask = (method: string, path: string) =>
    write("request", (context) => plainCall(method, path.replace("ID", newest(context)), context));
  const steps: Step[] = [
    write("request", (context) => uploadTo("0", random, context)),
    { do: "listen", line: 0 },
    text(random, 1, (_, context) => {
      const sent = { roomId: "0", message: "", nonce: context.nonce(), files: [newest(context)] };
      return `421${JSON.stringify(["message", sent])}`;
    }),
    { do: "listen", line: 1 },
    ask("GET", "/api/files/ID"),
    ask("GET", "/api/files/ID/thumbnail"),
    { do: "listen", line: 0 },
    text(random, 1, (_, context) => {
      const [roomIdOf, seq] = messageOf(random, context);
      return `422${JSON.stringify(["message.delete", { roomId: roomIdOf, seq: Number(seq) }])}`;
    }),
    ask("DELETE", "/api/files/ID"),
  ];
  return steps.filter(() => random.next() < 0.9);
}

/** Somebody who uses the whole API by HTTP and a WebSocket at once. */
function visits(random: Random): Step[] {
  const steps: Step[] = [
    upgrade(random, 1),
    { do: "listen", line: 1 },
    write("connect", () => clientFrame("40"), 1),
    { do: "listen", line: 1 },
  ];
  for (let count = 2 + random.whole(8); count > 0; count -= 1) {
    if (random.next() < 0.12) steps.push(...fileLife(random));
    else if (random.next() < 0.65) steps.push(write("request", (context) => callOf(random, context)));
    else steps.push(text(random, 1, (_, context) => `42${random.whole(1_000)}${event(random, context)}`));
    if (random.next() < 0.5) steps.push({ do: "listen", line: random.whole(2) });
  }
  return [...steps, { do: "listen", line: 0 }];
}

// ---- HTTP ----

const METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X"];
const PATHS = [
  "/",
  "/healthz",
  "/readyz",
  "/metrics",
  "/api/me",
  "/api/demo",
  "/api/users",
  "/api/users?ids=1,2,3",
  "/api/users?ids=",
  "/api/users?q=a&size=2",
  "/api/users?q=%ED%A0%80&after=0",
  "/api/users/online",
  "/api/rooms",
  "/api/rooms/directory?size=2",
  "/api/rooms/directory?q=(.*)%2B",
  "/api/rooms/0/messages",
  "/api/rooms/0/messages?size=1&size=2",
  "/api/rooms/0/messages?before=9999999999999999",
  "/api/rooms/0/transcript",
  "/api/rooms/1%3A2/messages",
  "/api/rooms/%00/messages",
  "/api/rooms/%ff/messages",
  "/api/rooms/__proto__/messages",
  "/api//rooms",
  "/api/rooms/0/messages/..",
  "/%2e%2e/%2e%2e/etc/passwd",
  "/assets/../../package.json",
  "/socket.io/",
  "/socket.io/?EIO=4",
  "/socket.io/?EIO=4&transport=polling",
  "/socket.io/?EIO=4&transport=websocket",
  "*",
  "http://elsewhere/",
  "//elsewhere/",
  "/?[a]=1&__proto__[x]=1",
];

function request(random: Random, context: Context): string | Buffer {
  const { host, cookie, nonce } = context;
  const valid = random.next() < 0.35;
  const posts: [string, string][] = [
    ["/api/rooms", `{"name":"fuzz ${nonce().slice(0, 20)}"}`],
    ["/api/rooms/private", `{"userId":"${random.pick(context.users)}"}`],
    [
      "/api/login",
      `{"username":"nobody","password":"${random.pick(STRINGS).slice(0, 60).replaceAll(/\W/g, "")}"}`,
    ],
    ["/api/users", `{"username":"f","password":"short"}`],
  ];
  const [path, good] = valid
    ? random.pick(posts)
    : ([random.pick([...PATHS, ...posts.map(([each]) => each)]), ""] as const);
  const method = valid ? "POST" : random.next() < 0.6 ? random.pick(["GET", "POST"]) : random.pick(METHODS);
  const body = valid ? good : random.next() < 0.6 ? json(random) : "";
  const type =
    random.next() < 0.8
      ? "application/json"
      : random.pick([
          "text/plain",
          "application/x-www-form-urlencoded",
          "application/json; charset=utf-7",
          "multipart/form-data",
          "",
        ]);
  const length =
    random.next() < 0.9
      ? String(Buffer.byteLength(body))
      : random.pick(["0", "-1", "99999999", "1e3", "5, 6", "x"]);
  const chunked = random.next() < 0.08;
  const headers = [
    `Host: ${random.next() < 0.95 ? host : random.pick(["", "evil.example", "a\tb", "x".repeat(300)])}`,
    ...(random.next() < 0.9
      ? [`Origin: http://${host}`]
      : [`Origin: ${random.pick(["null", "http://evil.example", "://", "http://[", "file:///"])}`]),
    ...(cookie && random.next() < 0.85
      ? [`Cookie: ${cookie}`]
      : [`Cookie: hubbub=${random.pick(["s%3Ax.y", "s%3A", "%", "", "a=b; hubbub=s%3A.", "__proto__"])}`]),
    ...(body || method === "POST"
      ? [`Content-Type: ${type}`, chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${length}`]
      : []),
    ...(random.next() < 0.06 ? [`Expect: ${random.pick(["100-continue", "x"])}`] : []),
    ...(random.next() < 0.06 ? [`Content-Encoding: ${random.pick(["gzip", "deflate", "br", "x"])}`] : []),
    ...(random.next() < 0.06
      ? [`X-Forwarded-For: ${random.pick(["1.2.3.4", "x", "::1, ::ffff:127.0.0.1", "\u0080"])}`]
      : []),
    ...(random.next() < 0.04 ? [`Range: bytes=${random.pick(["0-", "-1", "9-1", "0-0,1-1,2-2"])}`] : []),
    ...(random.next() < 0.04 ? ["Upgrade: h2c", "Connection: Upgrade"] : []),
    ...(random.next() < 0.04
      ? [`Accept-Encoding: ${random.pick(["gzip", "br;q=9", "identity;q=0, *;q=0"])}`]
      : []),
    ...(random.next() < 0.04 ? [`Sec-Fetch-Site: ${random.pick(["cross-site", "none", "x"])}`] : []),
  ];
  const content = chunked
    ? `${random.pick([Buffer.byteLength(body).toString(16), "ffffffffffffffff", "-1", "g"])}\r\n${body}\r\n${random.pick(["0\r\n\r\n", "", "0\r\nX: y\r\n\r\n"])}`
    : body;
  return `${method} ${path} HTTP/1.${random.next() < 0.95 ? 1 : random.pick([0, 2, 9])}\r\n${headers.join("\r\n")}\r\n\r\n${content}`;
}

/** Requests on one connection, in a row or all at once; the last one may be incomplete. */
function requests(random: Random): Step[] {
  const steps = times(random, 5, () => {
    const cut = random.next() < 0.07 ? random.next() : 1;
    return write("request", (context) => {
      const whole = request(random, context);
      return whole.slice(0, Math.ceil(whole.length * cut));
    });
  }).flatMap((step): Step[] => [step, ...pause(random)]);
  return [...steps, { do: "listen", line: 0 }];
}

const JUNK = [
  "",
  "\r\n\r\n",
  "\0\0\0\0",
  "GET\r\n",
  "GET / HTTP/9.9\r\n\r\n",
  "GET / HTTP/1.1\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  `GET /${"x".repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
  `GET / HTTP/1.1\r\nHost: a\r\n${Array.from({ length: 3_000 }, (_, index) => `X${index}: y\r\n`).join("")}\r\n`,
  "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: a\r\nX\0Y: z\r\n\r\n",
  "GET / HTTP/1.1\nHost: a\n\n",
  "CONNECT 127.0.0.1:6379 HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /socket.io/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
  "GET /elsewhere HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
  "*1\r\n$8\r\nFLUSHALL\r\n",
  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/** Bytes that are not HTTP, or almost. */
function bytes(random: Random): Step[] {
  return times(random, 4, () => {
    const chance = random.next();
    const junk = random.pick(JUNK);
    const noise = Buffer.from(times(random, 80, () => random.whole(256)));
    const at = random.next();
    return write("bytes", () => {
      if (chance < 0.55) return junk;
      if (chance < 0.75) return noise;
      const flipped = Buffer.from(junk || "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "latin1");
      flipped[Math.floor(at * flipped.length)] = 1 + Math.floor(at * 254);
      return flipped;
    });
  }).flatMap((step): Step[] => [step, ...pause(random)]);
}

/** Long-polling: sessions, two polls at once, packets in one body, an upgrade in the middle. */
function polling(random: Random): Step[] {
  const url = "/socket.io/?EIO=4&transport=polling";
  const http = (method: string, query: string, body: string | Buffer, line: number, byChance = false): Step =>
    write(
      `${method} ${query}`,
      (context) => {
        const content = byChance ? times(random, 5, () => enginePacket(random, context)).join("\x1e") : body;
        const { host, cookie, sid } = context;
        const head = `${method} ${url}${query.replace("SID", sid)} HTTP/1.1\r\nHost: ${host}\r\nOrigin: http://${host}\r\n${cookie ? `Cookie: ${cookie}\r\n` : ""}`;
        return method === "POST"
          ? Buffer.concat([
              Buffer.from(
                `${head}Content-Type: text/plain;charset=UTF-8\r\nContent-Length: ${Buffer.byteLength(content)}\r\n\r\n`,
              ),
              Buffer.from(content),
            ])
          : `${head}\r\n`;
      },
      line,
    );
  const steps: Step[] = [http("GET", "", "", 0), { do: "listen", line: 0 }];
  if (random.next() < 0.85)
    steps.push(http("POST", "&sid=SID", random.next() < 0.9 ? "40" : "40\x1e40", 0), {
      do: "listen",
      line: 0,
    });
  for (let count = 1 + random.whole(7); count > 0; count -= 1) {
    const line = random.next() < 0.75 ? 0 : 1;
    const step = weighted<() => Step | Step[]>(random, [
      [() => http("POST", "&sid=SID", "", line, true), 30],
      [() => http("GET", "&sid=SID", "", line), 22],
      [() => http("POST", "&sid=SID", "40\x1e40", line), 6],
      [
        () =>
          http(
            "POST",
            "&sid=SID",
            random.pick(["", "\x1e", "x".repeat(40_000), Buffer.from([0xff, 0xfe]), "b", "1", "6"]),
            line,
          ),
        8,
      ],
      [() => http(random.pick(["PUT", "DELETE", "OPTIONS"]), "&sid=SID", "", line), 4],
      [
        () =>
          http(
            "GET",
            random.pick([
              "&sid=nobody",
              "&sid=",
              "&sid=SID&sid=SID",
              "&sid=__proto__",
              "&b64=1&sid=SID",
              "&j=0&sid=SID",
            ]),
            "",
            line,
          ),
        6,
      ],
      [
        () => [
          upgrade(random, 2, "EIO=4&transport=websocket&sid=SID"),
          { do: "listen", line: 2 },
          write("probe", () => clientFrame("2probe"), 2),
          ...pause(random, 2),
          ...(random.next() < 0.7
            ? [write("upgraded", () => clientFrame(random.pick(["5", "5", "5", "2", "1", "40"])), 2)]
            : []),
          ...(random.next() < 0.6 ? times(random, 3, () => text(random, 2, enginePacket)) : []),
        ],
        16,
      ],
      [() => ({ do: random.pick(["reset", "deafen", "end"] as const), line }), 3],
    ])();
    steps.push(...[step].flat(), ...pause(random, line));
  }
  if (random.next() < 0.8) steps.push(http("POST", "&sid=SID", "1", 0));
  return steps;
}
