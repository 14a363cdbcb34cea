import { ChatError } from "../errors.ts";
import {
  ROOM_ROLES,
  isNamed,
  type Ban,
  type Member,
  type MemberPatch,
  type RoomId,
  type RoomRole,
  type ServerRole,
  type Standing,
  type User,
  type UserId,
} from "../protocol.ts";
import type { Audit } from "../store/audit.ts";
import type { Picked } from "../store/ids.ts";
import type { Decided, Members, Mute } from "../store/members.ts";
import type { MemberRecord } from "../store/codec.ts";
import { demand, mayActOn, roleIn, type Action, type Situation } from "./access.ts";
import type { Announcer, ChatRooms } from "./rooms.ts";
import { unknownUser, type Users } from "./users.ts";

type Parts = { rooms: ChatRooms; members: Members; users: Users; announce: Announcer; audit: Audit };

/** Who is in a room, and what its moderators do about them. */
export class Moderation {
  readonly #rooms: ChatRooms;
  readonly #members: Members;
  readonly #users: Users;
  readonly #announce: Announcer;
  readonly #audit: Audit;

  constructor({ rooms, members, users, announce, audit }: Parts) {
    this.#rooms = rooms;
    this.#members = members;
    this.#users = users;
    this.#announce = announce;
    this.#audit = audit;
  }

  /** A page of a room's members, with an id above `after`, ascending. Throws `not_found`. */
  async list(user: User, roomId: RoomId, after: number, size: number): Promise<Picked<Member>> {
    const { kind } = await this.#rooms.demand(user, roomId, "members");
    if (kind === "everyone") {
      const { found, looked } = await this.#users.list(after, size);
      return { found: await this.#described(roomId, found), looked };
    }
    const pair = this.#rooms.usersOf(roomId).filter((id) => Number(id) > after);
    const { found, looked } =
      kind === "direct"
        ? { found: pair.slice(0, size), looked: pair.length }
        : await this.#members.page(roomId, after, size);
    const people = await this.#users.find(found);
    const gone = kind === "direct" ? [] : people.filter(({ deleted }) => deleted);
    // Whoever let them in, or deleted them, was cut short. Nobody who only looks has to hear that this fails.
    for (const { id } of gone) await this.#members.drop(roomId, id).catch(() => undefined);
    const present = people.filter((one) => !gone.includes(one));
    return { found: await this.#described(roomId, present), looked };
  }

  /**
   * Changes what somebody is in a room, or adds them to it. Throws `not_found` for an unknown room or user, `forbidden`
   * without the right, on somebody who stands as high, on a room's last owner, and to add somebody who is banned.
   */
  async change(user: User, roomId: RoomId, targetId: UserId, patch: MemberPatch): Promise<Member> {
    const what = patch.role === undefined ? (patch.mutedUntil === undefined ? "add" : "mute") : "role";
    const detail = JSON.stringify(patch);
    return this.#audit.noted({ by: user.id, what, roomId, userId: targetId, detail }, (begin) =>
      this.#change(user, roomId, targetId, patch, begin),
    );
  }

  async #change(
    user: User,
    roomId: RoomId,
    targetId: UserId,
    patch: MemberPatch,
    begin: () => Promise<void>,
  ): Promise<Member> {
    const { role, mutedUntil } = patch;
    const { situation, withRecord } = await this.#rooms.situation(user, roomId);
    demand(situation, "members");
    const target = await this.#demandUser(targetId);
    const [standing, server] = await Promise.all([
      this.#standing(roomId, situation, targetId),
      this.#serverRole(targetId),
    ]);
    const isAdded = standing === null;
    if (standing !== null && role === undefined && mutedUntil === undefined)
      return memberOf(target, standing);
    if (isAdded) {
      // Whoever mutes somebody who has just left, or ends a mute, does not want them back.
      if (role === undefined && mutedUntil !== undefined) throw noMember();
      demand(situation, "add");
      if (target.deleted) throw unknownUser();
      await this.#rooms.demandPlace(targetId);
    }
    // The record may change until it is stored: then this is decided anew.
    const about = { isAdded, isOwn: user.id === targetId, server };
    const present = await this.#members.record(roomId, targetId);
    this.#decide(situation, about, patch, present);
    // Reads all members of the room, which nobody may ask for who has no right.
    if (present?.role === "owner" && role !== undefined && role !== "owner")
      await this.#demandOtherOwner(roomId, targetId);
    await begin();
    const { before, after } = await this.#members.change(
      roomId,
      targetId,
      user.id,
      async (record, actor, mute) => ({
        record: this.#decide(await withRecord(actor), about, patch, record, mute),
        ...(isAdded && { ban: "guarded" as const }),
      }),
    );
    if (isAdded) {
      await this.#members.list(roomId, targetId, before === null);
      await this.#rooms.keepOut(roomId, targetId);
      await this.#members.giveOwner(roomId);
      this.#announce.showRoom([targetId], roomId);
    }
    if (before?.role === "owner" && after?.role !== "owner") await this.#members.keepOwner(roomId);
    return memberOf(target, after ?? ordinary());
  }

  /** The changed record, if the actor may change it. */
  #decide(
    now: Situation,
    { isAdded, isOwn, server }: { isAdded: boolean; isOwn: boolean; server: ServerRole },
    patch: MemberPatch,
    record: MemberRecord | null,
    mute: Mute = {},
  ): MemberRecord {
    const { role, mutedUntil } = patch;
    // Who was in the room a moment ago, and is not any more, does not come back by what was meant for a member.
    if (record === null && !isAdded && isNamed(now.kind)) throw noMember();
    const standing = record ?? (isAdded ? null : ordinary());
    if (record === null && isAdded) demand(now, "add");
    if (role !== undefined && role !== standing?.role && (role !== "member" || standing !== null))
      demand(now, "role");
    if (mutedUntil !== undefined) demand(now, "mute");
    if (standing !== null && (!isOwn || mutedUntil !== undefined)) demandAbove(now, standing, server);
    return changed(standing ?? { ...ordinary(), ...mute }, patch);
  }

  /** Takes somebody out of a room. Throws as `change` does. */
  async remove(user: User, roomId: RoomId, targetId: UserId): Promise<void> {
    if (targetId === user.id) return this.#rooms.leave(user, roomId);
    await this.#audit.noted({ by: user.id, what: "remove", roomId, userId: targetId }, (begin) =>
      this.#takeOut(user, roomId, targetId, "remove", begin, (record) => {
        if (record === null) throw noMember();
        return { record: null };
      }),
    );
  }

  /** Keeps somebody out of a room, for ever or until a moment in ms, and takes them out of it. Throws as `change` does. */
  async ban(user: User, roomId: RoomId, targetId: UserId, until: number | undefined): Promise<void> {
    await this.#demandUser(targetId);
    if (targetId === user.id) throw new ChatError("invalid", "Nobody bans themselves.");
    const ban = { by: user.id, at: Date.now(), ...(until !== undefined && { until }) };
    const detail = until === undefined ? "for ever" : `until ${until}`;
    await this.#audit.noted({ by: user.id, what: "ban", roomId, userId: targetId, detail }, (begin) =>
      this.#takeOut(user, roomId, targetId, "ban", begin, () => ({ record: null, ban })),
    );
  }

  /** How many bans a room has, those that have ended too. Throws as `bans` does. */
  async countBans(user: User, roomId: RoomId): Promise<number> {
    await this.#rooms.demand(user, roomId, "ban");
    return this.#members.countBans(roomId);
  }

  async bans(user: User, roomId: RoomId): Promise<Ban[]> {
    await this.#rooms.demand(user, roomId, "ban");
    const bans = new Map((await this.#members.bans(roomId)).map((ban) => [ban.id, ban]));
    const names = await this.#users.find([...bans.keys()]);
    return names.flatMap((one) => {
      const ban = bans.get(one.id);
      return ban ? [{ ...one, ...ban }] : [];
    });
  }

  /** Throws `not_found` if there is no such ban. */
  async liftBan(user: User, roomId: RoomId, targetId: UserId): Promise<void> {
    await this.#audit.noted(
      { by: user.id, what: "ban", roomId, userId: targetId, detail: "lifted" },
      async (begin) => {
        const guard = await this.#rooms.guard(user, roomId, "ban");
        await begin();
        if (!(await this.#members.liftBan(roomId, targetId, guard)))
          throw new ChatError("not_found", "This person is not banned here.");
      },
    );
  }

  async #takeOut(
    user: User,
    roomId: RoomId,
    targetId: UserId,
    action: Action,
    begin: () => Promise<void>,
    decide: (record: MemberRecord | null) => Decided,
  ): Promise<void> {
    const { situation, withRecord } = await this.#rooms.situation(user, roomId);
    demand(situation, action);
    const [standing, server] = await Promise.all([
      this.#members.record(roomId, targetId),
      this.#serverRole(targetId),
    ]);
    demandAbove(situation, standing, server);
    decide(standing);
    await begin();
    if (standing?.role === "owner") await this.#members.keepOwner(roomId, targetId);
    const before = await this.#members.takeOut(roomId, targetId, user.id, async (record, actor) => {
      const now = await withRecord(actor);
      demand(now, action);
      demandAbove(now, record, server);
      return decide(record);
    });
    await this.#rooms.cleanUpAfter(roomId, targetId, before);
  }

  /** What somebody else is in the room; null for nobody. */
  async #standing(roomId: RoomId, { kind }: Situation, userId: UserId): Promise<Standing | null> {
    const record = await this.#members.record(roomId, userId);
    if (record !== null || isNamed(kind)) return record;
    return kind === "everyone" || this.#rooms.usersOf(roomId).includes(userId) ? ordinary() : null;
  }

  async #serverRole(id: UserId): Promise<ServerRole> {
    return (await this.#users.accountOf(id)).role;
  }

  async #demandUser(id: UserId): Promise<User> {
    const [user] = await this.#users.find([id]);
    if (!user) throw unknownUser();
    return user;
  }

  /** A room keeps an owner: the last one stays until they have made another. */
  async #demandOtherOwner(roomId: RoomId, targetId: UserId): Promise<void> {
    const owners = await this.#members.owners(roomId);
    if (owners.length === 1 && owners[0] === targetId)
      throw new ChatError("forbidden", "A room keeps an owner. Make somebody else one first.");
  }

  async #described(roomId: RoomId, users: User[]): Promise<Member[]> {
    const records = await this.#members.records(
      roomId,
      users.map(({ id }) => id),
    );
    return users.map((user, index) => memberOf(user, records[index] ?? ordinary()));
  }
}

function ordinary(): Standing {
  return { role: "member" };
}

function memberOf(user: User, { role, mutedUntil }: Standing): Member {
  return { ...user, role, ...(mutedUntil !== undefined && { mutedUntil }) };
}

function noMember(): ChatError {
  return new ChatError("not_found", "There is no such member.");
}

function changed(standing: MemberRecord, { role, mutedUntil }: MemberPatch): MemberRecord {
  const { mutedUntil: before, ...rest } = standing;
  const until = mutedUntil === undefined ? before : mutedUntil;
  return {
    ...rest,
    ...(role !== undefined && { role }),
    ...(until !== undefined && until > 0 && { mutedUntil: until }),
  };
}

/** `target`: what they are in the room, null for nothing, and on the server: its admins stand high in most rooms. */
function demandAbove(
  { kind, standing, server }: Situation,
  target: Standing | null,
  targetServer: ServerRole,
): void {
  const own: RoomRole = roleIn(kind, standing, server) ?? "member";
  const theirs = roleIn(kind, target, targetServer);
  if (theirs !== null && !mayActOn(ROOM_ROLES, own, theirs))
    throw new ChatError("forbidden", "They stand as high as you here.");
}
