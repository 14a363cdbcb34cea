import type { Mutation } from "../prove/mutations.ts";

/**
 * What a technique is measured on: a figure of which less is better, among those that are kept of an ablation's runs,
 * and the options that tell its run from others of the same turn. The name is the page's.
 */
export type Measure = {
  ablation: Ablation;
  options?: Record<string, number>;
  figure: string;
  unit: string;
  /** How many of the figure's own units are one of these. */
  per?: number;
};

/** The parts of the ablation, by the names that they run by. */
export type Ablation =
  | "ablation"
  | "reading"
  | "joining"
  | "handshake"
  | "returning"
  | "private"
  | "memory"
  | "channels"
  | "deflate";

const perDelivery = { figure: "cpuUs", unit: "µs per delivery" };
const perRequest = { figure: "cpuUs", unit: "µs each" };
const measures = {
  "hot room, 20 messages a second": { ablation: "ablation", options: { rate: 20 }, ...perDelivery },
  "hot room, 400 messages a second": { ablation: "ablation", options: { rate: 400 }, ...perDelivery },
  "`GET messages`, 32 at once, the same page": { ablation: "reading", options: { pages: 1 }, ...perRequest },
  "`GET messages`, 32 at once, each another page": {
    ablation: "reading",
    options: { pages: 32 },
    ...perRequest,
  },
  "`room.join` of a room with 100 members": { ablation: "joining", figure: "joinUs", unit: "µs each" },
  "`sync` of 40 messages in such a room": { ablation: "joining", figure: "syncUs", unit: "µs each" },
  "500 people come to 500 others": { ablation: "handshake", figure: "cpuUs", unit: "µs each" },
  "5,000 people come back to a busy room": { ablation: "returning", figure: "cpuUs", unit: "µs each" },
  "private rooms, 800 messages a second": {
    ablation: "private",
    figure: "messageUs",
    unit: "µs per message",
  },
  "2,000 idle connections": { ablation: "memory", figure: "server", unit: "MB", per: 1e6 },
  "the same, less the server without them": {
    ablation: "memory",
    figure: "connectionBytes",
    unit: "KB each",
    per: 1e3,
  },
  "2,000 idle connections, garbage collected": {
    ablation: "memory",
    figure: "heap",
    unit: "MB of heap",
    per: 1e6,
  },
  "a replica with 100 members, at rest": { ablation: "joining", figure: "idleMs", unit: "CPU ms a second" },
  "4 replicas, rooms of two": { ablation: "channels", figure: "cpuUsPerMessage", unit: "µs per message" },
  "hot room, 20 messages a second, median latency": {
    ablation: "ablation",
    options: { rate: 20 },
    figure: "p50Ms",
    unit: "ms",
  },
  "hot room, 400 messages a second, median latency": {
    ablation: "ablation",
    options: { rate: 400 },
    figure: "p50Ms",
    unit: "ms",
  },
  "Socket.IO, 200 members, 5 messages a second": {
    ablation: "deflate",
    options: { rate: 5 },
    ...perDelivery,
  },
  "Socket.IO, 200 members, 20 messages a second": {
    ablation: "deflate",
    options: { rate: 20 },
    ...perDelivery,
  },
  "Socket.IO's connections, once they were used": {
    ablation: "deflate",
    options: { rate: 20 },
    figure: "connectionBytes",
    unit: "KB of memory each",
    per: 1e3,
  },
  "Socket.IO's frames": {
    ablation: "deflate",
    options: { rate: 20 },
    figure: "wireBytes",
    unit: "bytes on the wire per delivery",
  },
} as const satisfies Record<string, Measure>;
export type MeasureName = keyof typeof measures;
export const MEASURES: Record<MeasureName, Measure> = measures;

const HOT = ["hot room, 20 messages a second", "hot room, 400 messages a second"] as const;
const PAGES = [
  "`GET messages`, 32 at once, the same page",
  "`GET messages`, 32 at once, each another page",
] as const;
const JOINING = ["`room.join` of a room with 100 members", "`sync` of 40 messages in such a room"] as const;
const COMING = ["500 people come to 500 others"] as const;
const BACK = ["5,000 people come back to a busy room"] as const;
const PRIVATE = ["private rooms, 800 messages a second"] as const;
const MEMORY = [
  "2,000 idle connections",
  "the same, less the server without them",
  "2,000 idle connections, garbage collected",
] as const;

/**
 * How a technique is taken out, by variables of the environment or by edits of the sources, and what shows it. An edit
 * whose text is not there exactly once, as after a change of the sources, throws.
 */
export type Technique = {
  env?: Record<string, string>;
  edits?: Mutation["edits"];
  on: readonly MeasureName[];
};

const techniques = {
  /** In a busy room messages collect; without it, each is written as it comes. */
  batches: { env: { BATCH_WINDOW: "0" }, on: HOT },
  /** A batch goes straight to the TCP socket; without it, each packet takes Socket.IO's own way. */
  "direct write": {
    edits: [
      {
        file: "delivery.ts",
        from: "function openTcpSocket(connection: Connection): TcpSocket | null {",
        to: "function openTcpSocket(connection: Connection): TcpSocket | null {\n  if (connection) return null;",
      },
    ],
    on: HOT,
  },
  /** Frames are made once for all connections; without it, once for each. */
  "encoded once": {
    edits: [
      {
        file: "delivery.ts",
        from: "if (tcp) tcp.write(frames);",
        to: "if (tcp) tcp.write(Buffer.concat(packets.map(frame)));",
      },
    ],
    on: HOT,
  },
  /** A busy room's messages are stored together; without it, each as it comes. */
  "stored together": {
    edits: [{ file: "doors/socket.ts", from: "await this.#parts.delivery.hold(sent.roomId);", to: "" }],
    on: HOT,
  },
  /** Commands of one turn of the loop leave in one write; without it, each in its own. */
  "gathered Redis writes": {
    edits: [{ file: "redis.ts", from: "  else gatherWrites(client);", to: "" }],
    on: [...HOT, ...PAGES],
  },
  /** A page goes past Express; without it, through its route. */
  "pages past Express": {
    edits: [{ file: "doors/rest.ts", from: "return pagesFirst(parts, headers, app);", to: "return app;" }],
    on: ["`GET messages`, 32 at once, the same page"],
  },
  /** Requests that read look their session up themselves; without it, express-session does. */
  "pages past express-session": {
    edits: [
      {
        file: "doors/rest.ts",
        from: "user = (await sessions.find(request))?.user;",
        to: `const asked = request as Request;
      user = await new Promise<User | undefined>((resolve, reject) => {
        const done = (error?: unknown) => (error ? reject(error) : resolve(asked.session.user));
        sessions.middleware(asked, response as Response, done);
      });`,
      },
    ],
    on: ["`GET messages`, 32 at once, the same page"],
  },
  /** Who asks for the same page, or for what follows the same message, in one turn of the loop shares it. */
  "one read for all who ask at once": {
    edits: [{ file: "chat/rooms.ts", from: "if (asked) return asked;", to: "" }],
    on: [...PAGES, ...BACK],
  },
  /** A session's end is put off once a minute; without it, with each request. */
  "sessions prolonged once a minute": {
    edits: [{ file: "doors/session.ts", from: "const TOUCH_MS = 60_000;", to: "const TOUCH_MS = 0;" }],
    on: ["`GET messages`, 32 at once, the same page"],
  },
  /** What was stored as JSON is passed on as it is; without it, it is parsed and written again. */
  "rows passed on unparsed": {
    edits: [
      {
        file: "chat/rooms.ts",
        from: "isOwnRow(row) ? row : parseRows",
        to: "parseRows",
      },
      {
        file: "relay.ts",
        from: "const announced = ANNOUNCED.exec(text);",
        to: `const { type, data } = JSON.parse(text) as { type: string; data: Message };
    const { roomId: id, seq: at, date: on, hash: mark, ...rest } = type === "message" ? data : ({} as Message);
    const announced = at === undefined ? null : ["", JSON.stringify(data), id, at, on, mark, JSON.stringify(rest).slice(1)];`,
      },
    ],
    on: [...PAGES, ...PRIVATE],
  },
  /** A busy room's newest rows are kept in memory; without it, Redis is asked for them. */
  "newest rows in memory": {
    edits: [
      {
        file: "relay.ts",
        from: "const KEPT_FROM_MEMBERS = 50;",
        to: "const KEPT_FROM_MEMBERS = Number.POSITIVE_INFINITY;",
      },
    ],
    on: JOINING,
  },
  /** One look at a room's head in Redis does for all within 250 ms; without it, each has its own. */
  "one look at Redis for all who come": {
    edits: [
      {
        file: "relay.ts",
        from: "if (sure()) return true;\n    await this.#check(roomId, room);",
        to: "await this.#look(roomId, room);",
      },
    ],
    on: JOINING,
  },
  /** A room's flushes take half of the process at most; without it, as much as they need. */
  "flushes of half the time at most": {
    edits: [
      {
        file: "delivery.ts",
        from: "const FLUSH_SHARE = 1 / 2;",
        to: "const FLUSH_SHARE = Number.POSITIVE_INFINITY;",
      },
    ],
    on: BACK,
  },
  /** Who joins a room waits for the end of its batch; without it, the batch ends there. */
  "joins that end no batch": {
    edits: [
      {
        file: "delivery.ts",
        from: "      room.members.push(connection);\n",
        to: "      if (room.packets.length > 0) this.#flush(room);\n      room.members.push(connection);\n",
      },
    ],
    on: BACK,
  },
  /** Leases of who comes in one turn of the loop are taken by one command; without it, each by its own. */
  "one lease command for all who come": {
    edits: [
      {
        file: "chat/presence.ts",
        from: "if (this.#arriving.push(userId) > 1) return;",
        to: "if (userId) return void this.#attempt(() => this.#renew([userId]));",
      },
    ],
    on: COMING,
  },
  /** Who came and went is told as a list, once a second; without it, at once. */
  "who came and went told once a second": {
    edits: [{ file: "chat/presence.ts", from: "const DIFF_MS = 1_000;", to: "const DIFF_MS = 0;" }],
    on: COMING,
  },
  /** An answer is written as the JSON that Redis gave; without it, Socket.IO makes it again from the parsed one. */
  "answers written directly": {
    edits: [{ file: "doors/socket.ts", from: "Object.assign(connection, { ack: callback });", to: "" }],
    on: [...PRIVATE, ...JOINING],
  },
  /** Whether both have a private room in their lists is looked up once a minute; without it, for each message. */
  "private rooms looked up once a minute": {
    edits: [{ file: "chat/chat.ts", from: "const OPENED_MS = 60_000;", to: "const OPENED_MS = 0;" }],
    on: PRIVATE,
  },
  /** A connection lets go of its handshake and is kept in fewer bytes; without it, it stays as the libraries made it. */
  "slim connections": {
    edits: [{ file: "doors/socket.ts", from: "      slim(connection);", to: "" }],
    on: MEMORY,
  },
  /** A connection has no Socket.IO room of its own; without it, it has. */
  "no Socket.IO room for each connection": {
    edits: [{ file: "doors/socket.ts", from: 'this.#io.of("/").adapter.addAll = ignore;', to: "" }],
    on: ["2,000 idle connections, garbage collected"],
  },
  /** V8's young generation stays as small as it begins; without it, it grows as V8 likes. */
  "a small young generation": {
    edits: [{ file: "main.ts", from: 'setFlagsFromString("--semi-space-growth-factor=1");', to: "" }],
    on: ["2,000 idle connections"],
  },
  /** V8's old generation is collected when it has grown by a fifth; without it, by as much as V8 likes. */
  "the old generation collected early": {
    edits: [{ file: "main.ts", from: 'setFlagsFromString("--heap-growing-percent=20");', to: "" }],
    on: ["2,000 idle connections", "the same, less the server without them"],
  },
  /** The loop's delay is looked at every 100 ms; without it, every 10, as the library would. */
  "the loop's delay measured seldom": {
    edits: [{ file: "metrics.ts", from: ", eventLoopMonitoringPrecision: 100", to: "" }],
    on: ["a replica with 100 members, at rest"],
  },
  /** A replica hears the rooms of its members; without it, all of them. */
  "a channel for each room": { env: { RELAY_CHANNEL: "single" }, on: ["4 replicas, rooms of two"] },
} satisfies Record<string, Technique>;
export type TechniqueName = keyof typeof techniques;
export const TECHNIQUES: Record<TechniqueName, Technique> = techniques;

/** What was measured in the same way, gained nothing and is no more there. */
export const LEFT_OUT: Record<string, readonly MeasureName[]> = {
  "a larger young generation once a room is busy": HOT,
  "one `SUBSCRIBE` for many rooms": COMING,
  "session id copied out of its cookie": ["2,000 idle connections, garbage collected"],
};
