import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Invitation, NewInvite, Room, RoomId, User } from "../protocol.ts";
import type { Audit } from "../store/audit.ts";
import { keepsRecords } from "../store/kinds.ts";
import type { Invites, StoredInvite } from "../store/invites.ts";
import { may } from "./access.ts";
import type { ChatRooms } from "./rooms.ts";
import type { Users } from "./users.ts";

type Parts = { rooms: ChatRooms; users: Users; invites: Invites; audit: Audit };

/** Links that let people into a room, and new ones into the server. */
export class ChatInvites {
  readonly #rooms: ChatRooms;
  readonly #users: Users;
  readonly #invites: Invites;
  readonly #audit: Audit;

  constructor({ rooms, users, invites, audit }: Parts) {
    this.#rooms = rooms;
    this.#users = users;
    this.#invites = invites;
    this.#audit = audit;
  }

  /**
   * Makes an invite to a room; one to General is to the server. Throws `invalid` for a moment that has passed, and as
   * `ChatRooms.demand` does.
   */
  async create(user: User, roomId: RoomId, { expires, uses }: NewInvite): Promise<StoredInvite> {
    await this.#rooms.demand(user, roomId, "invite");
    const latest = Date.now() + BOUNDS.inviteLife.value;
    const until = expires ?? Date.now() + BOUNDS.inviteLifeDefault.value;
    if (until <= Date.now() || until > latest)
      throw new ChatError("invalid", "An invite ends within a year, and not before now.");
    const most = BOUNDS.invitesOfRoom.value;
    if ((await this.#invites.list(roomId)).length >= most) throw tooMany();
    return this.#audit.noted({ by: user.id, what: "invite", roomId, detail: "made" }, async (begin) => {
      await begin();
      const invite = await this.#invites.create(roomId, user.id, { expires: until, uses, most });
      if (invite === null) throw tooMany();
      // The right may be lost by now.
      await this.#rooms.demand(user, roomId, "invite").catch(async (error: unknown) => {
        await this.#invites.revoke(invite);
        throw error;
      });
      return invite;
    });
  }

  async list(user: User, roomId: RoomId): Promise<StoredInvite[]> {
    await this.#rooms.demand(user, roomId, "invite");
    return this.#invites.list(roomId);
  }

  /** What an invite leads to, for anybody with its code. Throws `not_found` if it lets nobody in any more. */
  async look(code: string): Promise<Invitation> {
    const invite = await this.#demand(code);
    const { roomId, by, expires } = invite;
    const [facts, [maker]] = await Promise.all([this.#rooms.facts(roomId), this.#users.find([by])]);
    if (!facts || !maker || isUsedUp(invite)) throw unknownInvite();
    return { roomId, kind: facts.kind, name: facts.name, by: maker, expires };
  }

  /** Whether it still lets somebody in. */
  async isValid(code: string): Promise<boolean> {
    const invite = await this.#find(code);
    return invite !== null && !isUsedUp(invite);
  }

  /**
   * Lets a user into the invite's room; a repeat by the same user counts only once, until they are in: who has left, or
   * was removed, needs a place once more. Throws `not_found`, and `forbidden` for a user who is banned there.
   */
  async use(user: User, code: string): Promise<Room> {
    const { roomId } = await this.#demand(code);
    const isInside = async () => (await this.#rooms.areTheirs(user.id, [roomId])).length > 0;
    if (await isInside()) {
      // Into their list too, if that was cut short.
      await this.#rooms.join(user, roomId);
      return this.#rooms.describe(roomId, user.id);
    }
    // Whoever cannot come in takes no place, not even for a moment in which somebody else would be refused.
    await this.#rooms.demandEntry(user.id, roomId);
    const use = await this.#invites.use(code, user.id);
    // By another of their requests, which counts.
    const hasCome = await isInside();
    if (use === null && !hasCome) throw unknownInvite();
    try {
      if (!hasCome) await this.#rooms.enter(user.id, roomId);
      else if (use === "counted") await this.#invites.giveBack(code, user.id);
    } catch (error) {
      if (use === "counted" && !(await isInside())) await this.#invites.giveBack(code, user.id);
      throw error;
    }
    await this.#invites.settle(code, user.id);
    return this.#rooms.describe(roomId, user.id);
  }

  /** The same for a user who has just signed up, and is already in General. False if it lets nobody in any more. */
  async welcome(user: User, code: string): Promise<boolean> {
    const invite = await this.#find(code);
    if (invite === null || (await this.#invites.use(code, user.id)) === null) return false;
    const [already] = await this.#rooms.areTheirs(user.id, [invite.roomId]);
    if (already === undefined) await this.#rooms.enter(user.id, invite.roomId);
    return true;
  }

  /** Ends a welcome: whoever had it has an account. */
  async settle(user: User, code: string): Promise<void> {
    await this.#invites.settle(code, user.id);
  }

  /** Takes a welcome back: whoever had it does not get an account. */
  async unwelcome(user: User, code: string): Promise<void> {
    const invite = await this.#invites.find(code);
    if (invite === null) return;
    await this.#invites.giveBack(code, user.id);
    if (keepsRecords(invite.roomId) && (await this.#rooms.areTheirs(user.id, [invite.roomId])).length > 0)
      await this.#rooms.leave(user, invite.roomId);
  }

  /** Ends an invite: one's own, or as a moderator of its room. Throws `not_found`. */
  async revoke(user: User, code: string): Promise<void> {
    const invite = await this.#invites.find(code);
    if (invite === null) throw unknownInvite();
    const demandRight = async () => {
      if (invite.by === user.id) return;
      const { situation } = await this.#rooms.situation(user, invite.roomId);
      if (may("invite", situation) !== null) throw unknownInvite();
    };
    await demandRight();
    const note = { by: user.id, what: "invite", roomId: invite.roomId, detail: "revoked" };
    await this.#audit.noted(note, async (begin) => {
      await begin();
      // The right may be lost by now.
      await demandRight();
      await this.#invites.revoke(invite);
    });
  }

  async #demand(code: string): Promise<StoredInvite> {
    const invite = await this.#find(code);
    if (invite === null) throw unknownInvite();
    return invite;
  }

  /** An invite whose maker may still make one; null for any other. */
  async #find(code: string): Promise<StoredInvite | null> {
    const invite = await this.#invites.find(code);
    const [maker] = invite === null ? [] : await this.#users.find([invite.by]);
    if (invite === null || !maker) return null;
    const { disabled } = await this.#users.accountOf(maker.id);
    if (disabled) return null;
    const found = await this.#rooms.situation(maker, invite.roomId).catch((error: unknown) => {
      if (error instanceof ChatError && error.code === "not_found") return null;
      throw error;
    });
    return found !== null && may("invite", found.situation) === null ? invite : null;
  }
}

function isUsedUp({ uses, used }: StoredInvite): boolean {
  return uses !== undefined && used >= uses;
}

function tooMany(): ChatError {
  return new ChatError("forbidden", "This room has too many invites. Revoke one first.");
}

function unknownInvite(): ChatError {
  return new ChatError("not_found", "This invite is not valid, or not any more.");
}
