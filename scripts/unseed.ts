import { demandDone, type Accounts } from "../server/src/chat/accounts.ts";
import { asChanged } from "../server/src/chat/changes.ts";
import type { Users } from "../server/src/chat/users.ts";
import type { Keys } from "../server/src/keys.ts";
import { looksOf } from "../server/src/names.ts";
import { LIMITS, type Message, type Page, type RoomId, type UserId } from "../server/src/protocol.ts";
import { GENERAL, pairOf } from "../server/src/store/kinds.ts";
import type { Files } from "../server/src/store/files.ts";
import type { Log } from "../server/src/store/log.ts";
import type { Members } from "../server/src/store/members.ts";
import type { RedisClient } from "../server/src/store/redis.ts";
import { scanNames } from "./contents.ts";

type Store = {
  redis: RedisClient;
  keys: Keys;
  users: Users;
  accounts: Accounts;
  members: Members;
  files: Files;
  log: Log;
};

export type Removed = { people: number; rooms: number; messages: number };

/** The servers look at files after this, when their messages are gone. */
const SOON_MS = 600_000;
/** Fields of a room's `meta` that belong to its log and its changes. */
const HEAD = ["seq", "date", "hash", "first", "theirs", "rev", "revHash"];

/**
 * Takes all demo data away while servers run: the seeded accounts, the rooms that nobody else is in or has spoken in, and
 * what demo people said elsewhere. What real people made stays. Without real people the Redis is as new, and the first
 * to sign up owns the server. A repeat completes what was cut short. Throws `forbidden` and removes nothing if there are
 * real people and only demo people own the server.
 */
export async function removeDemo(store: Store): Promise<Removed> {
  const { redis, keys, users, accounts, members, files, log } = store;
  const { seeded, fresh, others } = await listPeople(store);
  const roles = Object.entries(await redis.hgetall(keys.staff));
  const owners = roles.filter(([, role]) => role === "owner");
  if (others === 0) {
    // The accounts' copies too: what is lost there is made again of them.
    for (const id of seeded) await redis.hdel(keys.user(id), "role");
    await redis.del(keys.staff);
  } else if (owners.length > 0 && owners.every(([id]) => seeded.has(id))) demandDone("last owner");
  const rooms = new Set<RoomId>([GENERAL]);
  for (const id of seeded) {
    for (const roomId of await members.of(id)) rooms.add(roomId);
    // First of all, so that nobody goes on talking as one of them.
    await accounts.delete(id, "keep");
  }
  if (seeded.size > 0) for await (const id of members.named()) rooms.add(id);
  const dropped = new Set<RoomId>();
  const gone = new Set<RoomId>();
  let messages = 0;
  for (const roomId of rooms) {
    const said = await countMessages(log, roomId, seeded);
    const inside = pairOf(roomId) ?? (await redis.hkeys(keys.records(roomId)));
    const isDemo = said.others === 0 && (roomId === GENERAL || inside.every((id) => seeded.has(id)));
    messages += said.theirs;
    // Also what an earlier removal, which was cut short, has dropped.
    if (isDemo && roomId !== GENERAL) gone.add(roomId);
    if (isDemo && said.theirs + said.deleted + inside.length > 0) dropped.add(roomId);
    else if (said.theirs > 0) await eraseMessages(log, files, roomId, seeded);
  }
  await drop(store, dropped);
  // What stands in a list and has no record there looks to a restore like somebody who was just leaving.
  if (gone.size > 0) for (const id of seeded) await redis.srem(keys.userRooms(id), ...gone);
  await redis.del(keys.demo);
  if (others === 0) await beginAnew(store, seeded);
  else for (const id of seeded) await users.giveNameUp(id);
  return {
    people: fresh,
    rooms: [...dropped].filter((id) => id !== GENERAL && !pairOf(id)).length,
    messages,
  };
}

/** The seeded accounts, how many of them are not deleted, and how many others any key names. */
async function listPeople({
  redis,
  keys,
}: Store): Promise<{ seeded: Set<UserId>; fresh: number; others: number }> {
  const ids = new Set<number>();
  for await (const names of scanNames(redis, keys))
    for (const name of names) keys.scan.idsIn(keys.scan.keyOf(name)).user.forEach((id) => ids.add(id));
  const seeded = new Set<UserId>();
  let fresh = 0;
  for (const id of [...ids].toSorted((one, other) => one - other)) {
    const [isSeeded, deleted] = await redis.hmget(keys.user(String(id)), "seeded", "deleted");
    if (!isSeeded) continue;
    seeded.add(String(id));
    if (!deleted) fresh += 1;
  }
  return { seeded, fresh, others: ids.size - seeded.size };
}

async function* allMessages(log: Log, roomId: RoomId): AsyncGenerator<Message> {
  for (let after: number | undefined = 0; after !== undefined;) {
    const { messages, more }: Page = await log.pages.page(roomId, { after, size: LIMITS.page });
    yield* messages;
    after = more ? messages.at(-1)?.date : undefined;
  }
}

async function countMessages(
  log: Log,
  roomId: RoomId,
  seeded: ReadonlySet<UserId>,
): Promise<{ theirs: number; others: number; deleted: number }> {
  const count = { theirs: 0, others: 0, deleted: 0 };
  for await (const { from, deleted } of allMessages(log, roomId)) {
    if (!seeded.has(from)) count.others += 1;
    else if (deleted === undefined) count.theirs += 1;
    else count.deleted += 1;
  }
  return count;
}

/** The servers remove the files. */
async function eraseMessages(
  log: Log,
  files: Files,
  roomId: RoomId,
  seeded: ReadonlySet<UserId>,
): Promise<void> {
  for await (const { seq, from, deleted, files: lost = [] } of allMessages(log, roomId)) {
    if (!seeded.has(from) || deleted !== undefined) continue;
    await files.noteDue(
      lost.map(({ id }) => id),
      Date.now(),
    );
    await log.change("", { roomId, seq }, (message) =>
      asChanged(message, from, { do: "delete", roomId, seq }, Date.now(), {}),
    );
  }
}

/** Deletes rooms; of General only what was said there. */
async function drop({ redis, keys, files }: Store, rooms: ReadonlySet<RoomId>): Promise<void> {
  for (const roomId of rooms) {
    await files.noteDue(await redis.hkeys(keys.roomFiles(roomId)), Date.now() + SOON_MS);
    const name = await redis.get(keys.roomName(roomId));
    if (roomId === GENERAL) await redis.hdel(keys.meta(roomId), ...HEAD);
    if (roomId === GENERAL || name === null) continue;
    // Without its name no new connection finds the room.
    await redis.del(keys.roomByName(name));
    for (const look of looksOf(name))
      if ((await redis.hget(keys.roomLooks, look)) === roomId) await redis.hdel(keys.roomLooks, look);
  }
  for await (const names of scanNames(redis, keys))
    for (const name of names) {
      const [, plain, braced] = /^(?:room:(\d+(?::\d+)?)(?::name)?|\{room:([\d:]+)\}:.*)$/.exec(name) ?? [];
      const roomId = plain ?? braced;
      const isKept = roomId === GENERAL && /:(?:name|meta|records|bans|invites|audit)$/.test(name);
      if (roomId !== undefined && rooms.has(roomId) && !isKept) await redis.unlink(keys.scan.keyOf(name));
    }
}

/** Nobody but demo people has ever been here: the next account is the first. */
async function beginAnew({ redis, keys }: Store, seeded: ReadonlySet<UserId>): Promise<void> {
  for (const id of seeded) {
    const username = await redis.hget(keys.user(id), "username");
    const { user, userRooms, userSessions } = keys;
    for (const key of [userRooms(id), ...keys.scan.choicesOf(id), userSessions(id)]) await redis.del(key);
    if (username !== null) {
      await redis.del(keys.username(username));
      await redis.del(keys.homes(username));
    }
    await redis.hdel(keys.records(GENERAL), id);
    await redis.del(user(id));
  }
  for (const key of [keys.staff, keys.userLooks, keys.roomLooks, keys.totalRooms, keys.totalUsers])
    await redis.del(key);
  await redis.hdel(keys.settings, "owner", "first", "kinds");
}
