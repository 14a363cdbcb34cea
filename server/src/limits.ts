/**
 * Everything that others can make a replica do, in one table: each bound with its unit and its reason. docs/limits.md
 * is generated from it. Limits that clients need to know (the length of a message and so on) are in protocol.ts.
 */

type Rate = {
  points: number;
  seconds: number;
  /** Who owns the points. */
  of: string;
  /** Shared by all replicas, or counted by each replica alone, which costs no command. */
  counted: "in Redis" | "here";
  why: string;
};

export type Queue = { running: number; waiting: number; turn?: "read"; why: string };

/** Points that may be spent in a window of time; `why` says what a point is. */
export const RATES = {
  signUp: {
    points: 100,
    seconds: 600,
    of: "an address",
    counted: "in Redis",
    why: "sign-ups: an office behind one address starts together",
  },
  logInAddress: {
    points: 30,
    seconds: 900,
    of: "an address",
    counted: "in Redis",
    why: "wrong passwords, for any name: a success returns the point",
  },
  logInName: {
    points: 10,
    seconds: 900,
    of: "a name",
    counted: "in Redis",
    why: "wrong passwords from everywhere but its owner's known addresses",
  },
  logInHome: {
    points: 10,
    seconds: 900,
    of: "a name and such an address",
    counted: "in Redis",
    why: "wrong passwords there: strangers elsewhere cannot lock the owner out",
  },
  logIn: {
    points: 30,
    seconds: 300,
    of: "a name",
    counted: "in Redis",
    why: "right passwords: each costs a hash and a session",
  },
  password: {
    points: 10,
    seconds: 900,
    of: "a user",
    counted: "in Redis",
    why: "their own password asked for again: a stolen session must not guess it",
  },
  reset: {
    points: 30,
    seconds: 900,
    of: "an address",
    counted: "in Redis",
    why: "tries of links for a new password: each costs a hash if it works",
  },
  account: {
    points: 100,
    seconds: 60,
    of: "a user",
    counted: "here",
    why: "changes of their own account, and what admins change",
  },
  room: {
    points: 200,
    seconds: 86_400,
    of: "a user",
    counted: "in Redis",
    why: "named rooms made or renamed",
  },
  moderation: {
    points: 300,
    seconds: 60,
    of: "a user",
    counted: "here",
    why: "changes of members, bans, settings and reports: all people of the room hear most of them",
  },
  upload: {
    points: 600,
    seconds: 600,
    of: "a user",
    counted: "here",
    why: "uploads begun: a camera's whole card, a few at a time",
  },
  report: { points: 50, seconds: 3_600, of: "a user", counted: "in Redis", why: "reported messages" },
  privateRoom: {
    points: 500,
    seconds: 3_600,
    of: "a user",
    counted: "in Redis",
    why: "calls that may start a private room",
  },
  rest: {
    points: 1_000,
    seconds: 10,
    of: "a user, or without a session an address",
    counted: "here",
    why: "requests; beyond that they are refused before anything is looked up",
  },
  message: { points: 100, seconds: 10, of: "a user", counted: "here", why: "messages and edits" },
  mentionRoom: {
    points: 10,
    seconds: 60,
    of: "a user",
    counted: "here",
    why: "messages and edits with `@room`: each may ring at everybody's",
  },
  event: {
    points: 200,
    seconds: 10,
    of: "a user",
    counted: "here",
    why: "all other events, and choices for a room: all windows of the user hear of each",
  },
  refused: {
    points: 100,
    seconds: 10,
    of: "a user",
    counted: "here",
    why: "events after refusals; beyond that their connections are closed with code 1013",
  },
  work: {
    points: 20_000,
    seconds: 10,
    of: "a user",
    counted: "here",
    why: "KB of pages, lists, transcripts, joined rooms and `sync`, charged before they are read; fast scrolling takes a tenth",
  },
  handshake: {
    points: 60,
    seconds: 60,
    of: "a user",
    counted: "here",
    why: "connections started: a page that reloads every second",
  },
  stranger: {
    points: 60,
    seconds: 60,
    of: "an address",
    counted: "here",
    why: "connections started without a session",
  },
} as const satisfies Record<string, Rate>;

/**
 * Costly requests of one user: how many run at once on a replica, and how many wait for them. With `turn`, each also
 * waits for its turn as it leaves the queue: what a burst of requests reads is no less work for having waited.
 */
export const QUEUES = {
  page: {
    running: 8,
    waiting: 1_000,
    turn: "read",
    why: "as many as a browser requests at once; memory for the longest pages",
  },
  sync: { running: 2, waiting: 200, turn: "read", why: "tabs that come back together" },
  lists: {
    running: 1,
    waiting: 100,
    turn: "read",
    why: "each may read all rooms of the user, or all people of one",
  },
  search: { running: 2, waiting: 20, turn: "read", why: "one for each pause in typing" },
  find: { running: 1, waiting: 5, why: "searches among messages: typing on abandons the previous one" },
  finds: { running: 2, waiting: 20, why: "the same for all users of a replica: each takes about 300 ms" },
  transcript: { running: 1, waiting: 3, why: "each reads a whole room, and an export all of them" },
  download: {
    running: 20,
    waiting: 1_000,
    why: "what some windows load at once; one that nobody reads takes 140 KB until it is cut off",
  },
  upload: {
    running: 2,
    waiting: 200,
    why: "as many as the app sends at once; the others wait unread, which costs a connection each",
  },
} as const satisfies Record<string, Queue>;

/**
 * One event of a connection and one other piece of work begin in each turn of the event loop. Handshakes, and what a
 * client asks for beyond `freely` units in a second, wait until the loop has time: see `turns.ts`. They are delayed, never
 * refused.
 */
export const TURNS = {
  event: { units: 1, why: "about half a millisecond" },
  request: { units: 2, why: "Express, a session, a few commands" },
  body: {
    units: 100,
    why: "64 KB of a file are here with its headers, and many may come at once: only when there is time",
  },
  file: { units: 2, why: "a part of a file that comes or goes, about a millisecond" },
  read: {
    units: 12,
    why: "a page, a list, a joined room, a search for names or a `sync`, some milliseconds; has its own count",
  },
  find: { units: 2, why: "one read of a search among messages, about a millisecond; has its own count" },
  rooms: { units: 1, why: "some more rooms of a list, half a millisecond; has its own count" },
  handshake: {
    units: 100,
    why: "some milliseconds, and thousands may come at once: only when there is time",
  },
} as const satisfies Record<string, { units: number; why: string }>;

export const BOUNDS = {
  inviteLife: {
    value: 366 * 86_400_000,
    unit: "ms",
    why: "the longest life of an invite: forgotten links end",
  },
  inviteLifeDefault: {
    value: 7 * 86_400_000,
    unit: "ms",
    why: "the life of an invite of which nothing is said",
  },
  invitesOfRoom: { value: 100, unit: "invites", why: "a room's list of them is read at once" },
  fileTurn: { value: 65_536, unit: "bytes", why: "of a file that comes or goes in one turn of the loop" },
  uploadMs: { value: 60_000, unit: "ms", why: "for a file to arrive, beside the time that its size allows" },
  uploadRate: {
    value: 8_000,
    unit: "bytes a second",
    why: "slower uploads are cut off: the worst phone line",
  },
  uploadIdleMs: {
    value: 600_000,
    unit: "ms",
    why: "without a byte while a file waits, arrives or is stored",
  },
  imageMs: { value: 20_000, unit: "ms", why: "after which the process that decodes a picture is killed" },
  imageFrames: {
    value: 10_000,
    unit: "frames",
    why: "of a picture: each takes time, however small it is; five minutes of film",
  },
  imagesWaiting: { value: 500, unit: "pictures", why: "to be decoded on a replica: a minute of them" },
  turn: { value: 1, unit: "begun in a turn of the loop", why: "others wait for it" },
  freely: {
    value: 25,
    unit: "units in a second, of a user, a session or an address",
    why: "twice what the app requests when it starts",
  },
  handshakeBusy: {
    value: 0.5,
    unit: "of the time",
    why: "the loop may be when a handshake begins",
  },
  handshakeWait: {
    value: 5,
    unit: "ms",
    why: "after which the next of them begins regardless: thousands of connections come back within seconds",
  },
  overBusy: { value: 0.25, unit: "of the time", why: "the loop may be when a request over the share begins" },
  overWait: {
    value: 10,
    unit: "ms",
    why: "after which the next of them begins regardless",
  },
  turnsWaiting: {
    value: 1_000,
    unit: "requests of one client",
    why: "memory for waiting requests",
  },
  connections: { value: 20, unit: "of a user on a replica", why: "some windows on a few devices" },
  connectionsWait: {
    value: 30_000,
    unit: "ms",
    why: "a user with too many waits until a dead one is noticed",
  },
  strangers: { value: 20, unit: "of an address", why: "connections without a session are told so, and end" },
  strangersAll: { value: 500, unit: "addresses", why: "with such connections, on a replica" },
  connect: { value: 5_000, unit: "ms", why: "a handshake that stays silent this long is dropped" },
  frames: {
    value: 600,
    unit: "of a connection in 10 s",
    why: "or packets by long-polling: twice what the limits on events let through",
  },
  fragments: { value: 128, unit: "of a message", why: "browsers send one; each costs an object" },
  chunks: {
    value: 512,
    unit: "reads for a frame",
    why: "32 KB over the worst link arrive in a tenth of that",
  },
  requestsWaiting: {
    value: 16,
    unit: "of a connection",
    why: "requests before the first one's answer; browsers and proxies send none",
  },
  answerLook: {
    value: 5_000,
    unit: "ms",
    why: "after which it is asked again whether a long answer is still its reader's to have",
  },
  reads: {
    value: 2,
    unit: "at once",
    why: "pages, lists and `sync` of all users: what comes from Redis together is one long turn of the event loop",
  },
  readAhead: {
    value: 1_000,
    unit: "ms",
    why: "of a user's `work` budget, which may be read at once; further reads are spread over its window",
  },
  readMs: { value: 20, unit: "ms", why: "after which a read that waits for Redis lets the next one begin" },
  syncAtOnce: { value: 5, unit: "rooms", why: "of one sync that are read concurrently" },
  syncLength: { value: 262_144, unit: "bytes", why: "after which a sync answers no further room" },
  syncRows: { value: 200, unit: "messages of a room", why: "in one answer to a cursor" },
  healRows: {
    value: 10_000,
    unit: "messages of a room",
    why: "that a replica missed and passes on to everybody; of more, each client reads what it shows",
  },
  pageBytes: {
    value: 131_072,
    unit: "bytes of a room",
    why: "after which no further message is read for a page or a `sync`: about 2 ms",
  },
  messagesAtOnce: { value: 8, unit: "messages", why: "that are read concurrently, each by its number" },
  messageKb: { value: 12, unit: "KB", why: "the longest message as JSON: a page is charged by it" },
  listedKb: { value: 5_000, unit: "KB", why: "the most that a list of rooms is charged before it is read" },
  searchKb: {
    value: 10,
    unit: "KB",
    why: "the charge for a search, and again for each 3,000 names that it searches (1 ms at most)",
  },
  namesKnown: {
    value: 100_000,
    unit: "names",
    why: "of people, and as many of rooms, that searches cover; about 25 MB",
  },
  namesRead: { value: 20_000, unit: "names", why: "read from Redis for one search; the next one continues" },
  namesFresh: { value: 60_000, unit: "ms", why: "after which a name is read again, once for all searches" },
  findRows: { value: 20_000, unit: "messages", why: "that one call of a message search reads" },
  findBytes: { value: 8_388_608, unit: "bytes", why: "of rows that such a call reads" },
  findMs: { value: 300, unit: "ms", why: "after which such a call ends with a cursor" },
  findSlice: {
    value: 65_536,
    unit: "bytes",
    why: "that it reads from Redis in one command, roughly: 0.1 ms of Redis; 200 rows at most",
  },
  findAtOnce: { value: 40, unit: "rooms", why: "that it reads concurrently, a few rows each" },
  findHits: { value: 50, unit: "hits", why: "after which such a call ends; one page" },
  findKb: {
    value: 10,
    unit: "KB",
    why: "the charge for such a call, again for each 300 messages that it reads (1 ms at most), and a tenth for each room",
  },
  transcriptPage: { value: 20, unit: "messages", why: "a few ms; then others have their turn" },
  roomsAtOnce: {
    value: 4,
    unit: "rooms",
    why: "of a list that are read at once, in one turn of the loop: each may bring a long message",
  },
  lookupsAtOnce: {
    value: 50,
    unit: "rooms",
    why: "of a user that are looked up at once, each by a command or two",
  },
  listTurn: {
    value: 65_536,
    unit: "bytes",
    why: "of a list that become JSON in one turn: about a millisecond",
  },
  roomsOfUser: { value: 1_000, unit: "rooms", why: "that a user may be in by creating or joining them" },
  sessionCookies: {
    value: 32,
    unit: "cookies of a request",
    why: "with the name of ours that are looked at; a site beside this one may set some",
  },
  signedCookies: { value: 4, unit: "of them", why: "that we signed and Redis is asked about" },
  sessionsOfUser: { value: 50, unit: "sessions", why: "a few devices and browsers; the oldest end first" },
  hashes: { value: 2, unit: "at once", why: "threads of 10 MB; one on a machine with two cores" },
  hashesWaiting: { value: 200, unit: "in all", why: "half a minute of hashing" },
  hashesOfAddress: { value: 100, unit: "waiting of an address", why: "an office that starts together" },
  hashesOfName: { value: 20, unit: "waiting for a name", why: "nobody logs in that often" },
} as const satisfies Record<string, { value: number; unit: string; why: string }>;

/**
 * The work that an overloaded replica refuses, first things first. `delayMs`: the average lateness of its event loop
 * over a second; `memory`: the share in use of what it may use. Acknowledgements of stored messages, and log-outs, are
 * never shed.
 */
export const SHED = {
  presence: { delayMs: 100, memory: 0.8, why: "online and offline users are told later" },
  history: {
    delayMs: 250,
    memory: 0.85,
    why: "pages, lists, searches, transcripts, joined rooms, uploads and `sync` can wait",
  },
  handshakes: { delayMs: 500, memory: 0.9, why: "other replicas take them" },
  sends: { delayMs: 1_000, memory: 0.95, why: "they wait in the senders' outboxes; /readyz says 503" },
} as const satisfies Record<string, { delayMs: number; memory: number; why: string }>;
