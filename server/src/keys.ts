import type { RoomId, UserId } from "./protocol.ts";

/** The names of keys, after the prefix, or what their braces hold. */
const NAMES = [
  "total_users",
  "total_rooms",
  "room_looks",
  "audit",
  "reports",
  "online_users",
  "session_secret",
  "schema",
  "settings",
  "staff",
  "user_looks",
  "farewells",
  "files",
];
/** The beginnings of others, up to a colon. */
const WORDS = [
  "username",
  "user",
  "room",
  "roomname",
  "invite",
  "audit",
  "sess",
  "sessions",
  "seed",
  "limit",
  "reset",
  "file",
];

/** Whether keys of this prefix look like those of an installation without it, as `room:` would. */
export function looksLikeKey(prefix: string): boolean {
  return [...NAMES, ...WORDS].some((word) => prefix.startsWith(`${word}:`));
}

/**
 * Every Redis key and channel: the schema that Redis does not have. Nothing else builds a key. Keys that a script
 * touches together with `room:<id>` or `online_users` carry that whole name in literal braces, so that both share a
 * slot on Redis Cluster while the first keeps its plain name.
 *
 * docs/data.md is generated from this table; `r` is redis-cli.
 *
 * | key | type | holds | look |
 * |---|---|---|---|
 * | `total_users` | string | the last user id | `r get total_users` |
 * | `total_rooms` | string | the last id of a named room | `r get total_rooms` |
 * | `username:<name>` | string | `user:<id>`; name in lower case; claimed last, with NX | `r get username:pablo` |
 * | `user:<id>` | hash | `username` as typed, `password` (bcrypt), `created` (ms), `displayName` if chosen, `role` of the server's owners and admins, `disabled` (ms) of whom nobody lets in, `avatar`: the file that shows the user, `deleted` (ms) of a deleted account, `reset`: the code of the newest link for a new password, `seeded` for demo people, `making` until it is made: since when (ms), and by which invite | `r hgetall user:1` |
 * | `user_looks` | hash | what a username or display name looks like -> user id; an empty look -> the last id stored; a line break and a look -> who doubts that its id still needs it | `r hget user_looks pablo` |
 * | `user:<id>:rooms` | set | ids of the rooms the user is in | `r smembers user:1:rooms` |
 * | `user:<id>:notify` | hash | room id -> `all`, `mentions` or `nothing`: what notifies the user there, if they have chosen | `r hgetall user:1:notify` |
 * | `user:<id>:folded` | set | ids of the rooms whose answers the user has folded into threads | `r smembers user:1:folded` |
 * | `user:<id>:favourites` | set | ids of the rooms that the user sees on top of their list | `r smembers user:1:favourites` |
 * | `user:<id>:hidden` | hash | direct room id -> `hash` of its newest message when the user hid it: it is hidden while that is the newest | `r hgetall user:1:hidden` |
 * | `room:<id>:name` | string | name of General and of named rooms | `r get room:0:name` |
 * | `roomname:<name>` | string | `room:<id>`; name in lower case; claimed with NX | `r get roomname:design` |
 * | `room_looks` | hash | what a room's name looks like -> room id; an empty look -> the last id stored; a line break and a look -> who doubts that its id still needs it | `r hget room_looks design` |
 * | `room:<id>` | sorted set | messages as JSON, score = `date` in ms | `r zrange room:0 -3 -1 withscores` |
 * | `{room:<id>}:meta` | hash | `seq`, `date`, `hash` of the newest message; `first` kept `seq`, once trimmed; `theirs` while another program's log is taken over; `rev`, `revHash` of the newest change; `kind` of a named room, `open` or `invite`; `topic`, `slow` (s) and `archived` (ms), if set; `facts`, a new value at each change of those and of the name; `unowned` while nobody is left who could own a named room; `making` (ms) until a named room has its owner | `r hgetall {room:0}:meta` |
 * | `{room:<id>}:records` | hash | user id -> what a room knows of this member, JSON: `role`, and if so `mutedUntil` (ms) and `disabled`; General and private rooms have exceptions alone | `r hgetall {room:1}:records` |
 * | `{room:<id>}:bans` | hash | user id -> who may not come back, JSON: `by`, `at`, and `until` (ms) if not for ever | `r hgetall {room:1}:bans` |
 * | `{room:<id>}:invites` | set | codes of a room's invites | `r smembers {room:1}:invites` |
 * | `{room:<id>}:reports` | hash | `seq` of a reported message -> JSON: `by`, `at`, `reason`, `state` | `r hgetall {room:1}:reports` |
 * | `{room:<id>}:audit` | stream | the newest 1,000 entries of the audit log that concern the room; about a quarter of what was refused at most | `r xrevrange {room:1}:audit + - count 5` |
 * | `{room:<id>}:spoke:<user>` | string | when (ms) this user last spoke in slow mode; expires when they may speak again | `r get {room:1}:spoke:2` |
 * | `{room:<id>}:joined` | hash | user id -> `seq` of the newest message when they joined a named room: earlier ones to everybody do not mention them; `muted:<user>` -> until when (ms) somebody who left was muted | `r hgetall {room:1}:joined` |
 * | `{room:<id>}:changed` | sorted set | what the last 1,000 changes changed: `@<user id>`, or a message's `date`; score = `rev` of its last change | `r zrange {room:1}:changed 0 -1 withscores` |
 * | `{room:<id>}:revs` | hash | `rev` modulo 1,000 -> `<rev>:<its running hash>`, of the last 1,000 | `r hgetall {room:1}:revs` |
 * | `{room:<id>}:members` | set | user ids of a named room, while servers of schema 1 may run | `r smembers {room:1}:members` |
 * | `{room:<id>}:read` | hash | user id -> the `seq` up to which they have read | `r hgetall {room:0}:read` |
 * | `{room:<id>}:nonce:<user>:<nonce>` | string | `date` of the message sent with it; expires after 48 h | `r --scan --pattern '{room:0}:nonce:*'` |
 * | `{room:<id>}:edit:<user>:<nonce>` | string | `date` of the message edited with it; expires after 48 h | `r --scan --pattern '{room:0}:edit:*'` |
 * | `{room:<id>}:deleted` | sorted set | `seq` of each deleted message, also as the score | `r zrange {room:0}:deleted 0 -1` |
 * | `{room:<id>}:pins` | sorted set | `seq` of each pinned message; score = `rev` of the pinning | `r zrange {room:0}:pins 0 -1` |
 * | `{room:<id>}:thread:<seq>` | sorted set | `seq` of each answer in the thread that this message begins; score = its `date` | `r zrange {room:0}:thread:1 0 -1` |
 * | `{room:<id>}:mentions:<user>` | sorted set | `seq` of each message that mentions this user, also as the score | `r zrange {room:0}:mentions:1 0 -1` |
 * | `{room:<id>}:files` | hash | file id -> who has it: its uploader's id, or `#<seq>` of the message it was sent with; deleted messages have none | `r hgetall {room:0}:files` |
 * | `{room:<id>}:mentions:room` | sorted set | the same of each message that mentions everybody in the room | `r zrange {room:0}:mentions:room 0 -1` |
 * | `file:<id>` | hash | an uploaded file: `room` (an avatar has none), `by`, `name`, `type`, `size` in bytes, `created` (ms); `width`, `height`, `animated` of an image | `r hgetall file:<id>` |
 * | `{files}:due` | sorted set | ids of files of which somebody must look whether they are in use; score = when (ms) | `r zrange {files}:due 0 -1 withscores` |
 * | `{files}:sizes` | hash | file id -> `<user>:<bytes>` | `r hgetall {files}:sizes` |
 * | `{files}:used` | hash | user id, or `all` -> bytes of their files | `r hgetall {files}:used` |
 * | `invite:<code>` | hash | `roomId`, `by`, `created`, `expires` (ms), `uses` if limited, `used`, `u:<user>` of each who is about to come in by it | `r hgetall invite:<code>` |
 * | `audit` | stream | the newest 10,000 of what admins and operators did to the server or tried, about a quarter of that refused at most, JSON | `r xrevrange audit + - count 5` |
 * | `audit:rooms` | stream | the newest 10,000 of what was done in rooms or tried there, about a quarter of that refused at most, JSON | `r xrevrange audit:rooms + - count 5` |
 * | `reports` | sorted set | `<room>/<seq>` of reported messages that nobody has looked at; score = when (ms) | `r zrange reports 0 -1` |
 * | `online_users` | set | ids of users with a live connection | `r smembers online_users` |
 * | `{online_users}:leases` | sorted set | `<user>|<serverId>`, score = when the lease ends (ms) | `r zrange {online_users}:leases 0 -1 withscores` |
 * | `{online_users}:count` | hash | user id -> leases | `r hgetall {online_users}:count` |
 * | `{online_users}:edges` | sorted set | user ids, score = when (ms) they last came or went; for 10 minutes | `r zrange {online_users}:edges 0 -1 withscores` |
 * | `sessions:<id>` | sorted set | ids of a user's sessions, score = when they logged in (ms) | `r zrange sessions:1 0 -1` |
 * | `sess:<sid>` | string | the session, by connect-redis | `r --scan --pattern 'sess:*'` |
 * | `session_secret` | string | signs session cookies if `SESSION_SECRET` is not set | `r exists session_secret` |
 * | `reset:<code>` | string | the user who may choose a new password with this link; used once, expires after 24 h | `r --scan --pattern 'reset:*'` |
 * | `farewells` | sorted set | ids of accounts that are being deleted, with their messages, or with `:keep` without, or with `:follow` disabled or enabled; score = when (ms) another replica goes on with it | `r zrange farewells 0 -1 withscores` |
 * | `settings` | hash | what admins have set: `signup`, `words`; `owner`, the id of the first account, and `first`, its name until it owns the server; `kinds`, the last room up to which every one has its kind stored | `r hgetall settings` |
 * | `staff` | hash | user id -> `owner` or `admin` of the server | `r hgetall staff` |
 * | `schema` | string | version of the stored data; `restoring ...` during a restore | `r get schema` |
 * | `seed:lock` | string | held while demo data is written | `r pttl seed:lock` |
 * | `seed:people` | string | JSON of the demo log-ins, if there is demo data | `r get seed:people` |
 * | `limit:homes:<name>` | sorted set | addresses from which the user logged in, score = when (ms); for 30 days | `r zrange limit:homes:pablo 0 -1` |
 * | `limit:<what>:<who>` | string | attempts in the running window | `r --scan --pattern 'limit:*'` |
 * | `MESSAGES:<roomId>` | channel | announcements of one room | `r subscribe MESSAGES:0` |
 * | `MESSAGES` | channel | announcements for everybody; with `RELAY_CHANNEL=single` all announcements | `r subscribe MESSAGES` |
 * | `socket.io#...` | channel | `@socket.io/redis-adapter`: orders that concern connections on other replicas | `r pubsub shardchannels` |
 */
export function createKeys(prefix: string) {
  // Of the characters of a prefix, only the dot means something in a regular expression, and none in a pattern of
  // SCAN.
  const escaped = prefix.replaceAll(".", String.raw`\.`);
  const named = new RegExp(
    String.raw`^\{?${escaped}(user|room):([1-9]\d{0,9})(?::([1-9]\d{0,9}))?(?:[:}]|$)`,
  );
  const own = new RegExp(
    String.raw`^(\{(?=[^{}]+\}:))?${escaped}((?:${NAMES.join("|")})(?:\}:.*)?|(?:${WORDS.join("|")}):.*)$`,
    "s",
  );
  return {
    scan: {
      /** A pattern of SCAN for every key, and few others. */
      pattern: `*${prefix}*`,
      /** The users and rooms in a key's name: `room:3:12` names users 3 and 12, `room:17:name` names room 17. */
      idsIn(key: string): { user: number[]; room: number[] } {
        const [, kind, id, other] = named.exec(key) ?? [];
        const ids = [id, other].flatMap((one) => (one === undefined ? [] : Number(one)));
        if (kind === "user") return { user: ids.slice(0, 1), room: [] };
        return ids.length === 2 ? { user: ids, room: [] } : { user: [], room: ids };
      },
      /** A key's name without the prefix; undefined for a key of another prefix, or of another program. */
      nameOf(key: string): string | undefined {
        const [, brace = "", name] = own.exec(key) ?? [];
        return name === undefined ? undefined : brace + name;
      },
      /** The reverse of `nameOf`. */
      keyOf: (name: string) => (name.startsWith("{") ? `{${prefix}${name.slice(1)}` : prefix + name),
      /** The keys of what a user has chosen for their rooms. */
      choicesOf: (id: UserId) =>
        ["notify", "folded", "favourites", "hidden"].map((what) => `${prefix}user:${id}:${what}`),
    },
    totalUsers: `${prefix}total_users`,
    totalRooms: `${prefix}total_rooms`,
    username: (name: string) => `${prefix}username:${name.toLowerCase()}`,
    user: (id: UserId) => `${prefix}user:${id}`,
    userRooms: (id: UserId) => `${prefix}user:${id}:rooms`,
    userNotify: (id: UserId) => `${prefix}user:${id}:notify`,
    userFolded: (id: UserId) => `${prefix}user:${id}:folded`,
    userFavourites: (id: UserId) => `${prefix}user:${id}:favourites`,
    userHidden: (id: UserId) => `${prefix}user:${id}:hidden`,
    room: (id: RoomId) => `${prefix}room:${id}`,
    roomName: (id: RoomId) => `${prefix}room:${id}:name`,
    roomByName: (name: string) => `${prefix}roomname:${name.toLowerCase()}`,
    roomLooks: `${prefix}room_looks`,
    meta: (id: RoomId) => `{${prefix}room:${id}}:meta`,
    records: (id: RoomId) => `{${prefix}room:${id}}:records`,
    joined: (id: RoomId) => `{${prefix}room:${id}}:joined`,
    changed: (id: RoomId) => `{${prefix}room:${id}}:changed`,
    revs: (id: RoomId) => `{${prefix}room:${id}}:revs`,
    members: (id: RoomId) => `{${prefix}room:${id}}:members`,
    bans: (id: RoomId) => `{${prefix}room:${id}}:bans`,
    invites: (id: RoomId) => `{${prefix}room:${id}}:invites`,
    reports: (id: RoomId) => `{${prefix}room:${id}}:reports`,
    roomAudit: (id: RoomId) => `{${prefix}room:${id}}:audit`,
    spoke: (id: RoomId, user: UserId) => `{${prefix}room:${id}}:spoke:${user}`,
    read: (id: RoomId) => `{${prefix}room:${id}}:read`,
    nonce: (id: RoomId, user: UserId, nonce: string) => `{${prefix}room:${id}}:nonce:${user}:${nonce}`,
    edit: (id: RoomId, user: UserId, nonce: string) => `{${prefix}room:${id}}:edit:${user}:${nonce}`,
    deleted: (id: RoomId) => `{${prefix}room:${id}}:deleted`,
    mentions: (id: RoomId, user: UserId) => `{${prefix}room:${id}}:mentions:${user}`,
    roomMentions: (id: RoomId) => `{${prefix}room:${id}}:mentions:room`,
    pins: (id: RoomId) => `{${prefix}room:${id}}:pins`,
    roomFiles: (id: RoomId) => `{${prefix}room:${id}}:files`,
    thread: (id: RoomId, seq: number) => `{${prefix}room:${id}}:thread:${seq}`,
    file: (id: string) => `${prefix}file:${id}`,
    filesDue: `{${prefix}files}:due`,
    filesSizes: `{${prefix}files}:sizes`,
    filesUsed: `{${prefix}files}:used`,
    invite: (code: string) => `${prefix}invite:${code}`,
    audit: `${prefix}audit`,
    roomsAudit: `${prefix}audit:rooms`,
    openReports: `${prefix}reports`,
    online: `${prefix}online_users`,
    leases: `{${prefix}online_users}:leases`,
    leaseCount: `{${prefix}online_users}:count`,
    edges: `{${prefix}online_users}:edges`,
    userSessions: (id: UserId) => `${prefix}sessions:${id}`,
    sessionPrefix: `${prefix}sess:`,
    session: (sid: string) => `${prefix}sess:${sid}`,
    sessionSecret: `${prefix}session_secret`,
    userLooks: `${prefix}user_looks`,
    reset: (code: string) => `${prefix}reset:${code}`,
    farewells: `${prefix}farewells`,
    settings: `${prefix}settings`,
    staff: `${prefix}staff`,
    schema: `${prefix}schema`,
    seedLock: `${prefix}seed:lock`,
    demo: `${prefix}seed:people`,
    homes: (name: string) => `${prefix}limit:homes:${name.toLowerCase()}`,
    limitPrefix: `${prefix}limit`,
    channel: `${prefix}MESSAGES`,
    roomChannel: (id: RoomId) => `${prefix}MESSAGES:${id}`,
    adapterChannels: `${prefix}socket.io`,
  };
}

export type Keys = ReturnType<typeof createKeys>;

/**
 * A key of each kind that keys have, with made-up ids, by the pattern that an ACL has for it, such as `{room:*`. What
 * `createKeys` builds is here by itself.
 */
export function patternsOf(keys: Keys): Map<string, string[]> {
  const patterns = new Map<string, string[]>();
  for (const made of Object.values(keys)) {
    if (typeof made === "object") continue;
    const key = typeof made === "string" ? made : (made as (...ids: string[]) => string)("1", "1", "1");
    const name = keys.scan.nameOf(key);
    // Channels, and beginnings of keys.
    if (name === undefined) continue;
    const pattern = keys.scan.keyOf(name.replace(/^(\{\w+\}:|\{?\w+:).*$/s, "$1*"));
    patterns.set(pattern, [...(patterns.get(pattern) ?? []), key]);
  }
  return patterns;
}
