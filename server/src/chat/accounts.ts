import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { ChatError, isRedisAway, isRefusal, reasonOf, redisCode, unlessWrongType } from "../errors.ts";
import {
  LIMITS,
  type Farewell,
  type Leave,
  type Me,
  type NewPassword,
  type NewUser,
  type OwnSession,
  type Page,
  type RoomId,
  type ServerRole,
  type User,
  type UserId,
} from "../protocol.ts";
import type { Log } from "../store/log.ts";
import type { Members } from "../store/members.ts";
import type { Rooms } from "../store/rooms.ts";
import type { SessionList } from "../store/sessions.ts";
import type { Settings } from "../store/settings.ts";
import type { ByRole, Kept, Staff } from "../store/staff.ts";
import type { Audit } from "../store/audit.ts";
import { asChanged } from "./changes.ts";
import type { ChatFiles } from "./files.ts";
import type { ChatInvites } from "./invites.ts";
import { unknownUser, type Users } from "./users.ts";

export type AccountParts = {
  users: Users;
  settings: Settings;
  staff: Staff;
  sessions: SessionList;
  rooms: Rooms;
  members: Members;
  messages: Log;
  invites: ChatInvites;
  files: ChatFiles;
  audit: Audit;
  /** Tells every replica to look at this account again, and at its connections. May get lost. */
  changed: (userId: UserId) => Promise<void>;
  log: Pick<Logger, "warn">;
};

/** What becomes of an account is gone on with by another replica if nothing was heard of it for so long. */
const FAREWELL_MS = 300_000;
const LATER = "some messages of a deleted account are deleted later";

/**
 * Who gets an account, and what becomes of it. Who may do what to whom is the caller's to check; that the server keeps
 * an owner is checked here.
 */
export class Accounts {
  readonly #parts: AccountParts;

  constructor(parts: AccountParts) {
    this.#parts = parts;
  }

  /**
   * Creates an account. The first one of an empty server needs no permission and owns it, unless Redis has lost an
   * earlier one while this server ran. Throws `forbidden` if sign-up is not open and nobody has invited them, and as
   * `Users.signUp` does.
   */
  async signUp({ invite, ...credentials }: NewUser, address: string): Promise<Me> {
    const { users, settings, staff, invites } = this.#parts;
    const left = await users.unfinished(credentials.username);
    if (left) await this.#takeBack(left.user, left.invite);
    const isFirst =
      (await this.finishFirst()) || ((await users.isEmpty()) && !(await settings.hasLostOwner()));
    if (isFirst) await settings.beginFirst(credentials.username);
    else await this.#demandEntry(invite);
    const user = await users.signUp(credentials, address, invite);
    // Redis may have lost an account that had this id: its connections must not act for this one.
    await this.#parts.changed(user.id);
    if (isFirst) await users.finish(user.id);
    if (isFirst && (await settings.claimFirst(user.id))) {
      await staff.set(user.id, "owner");
      await settings.endFirst();
      return { ...user, role: "owner" };
    }
    if (isFirst) await this.finishFirst();
    try {
      // Others may have used the invite up meanwhile, or signed up as the first.
      const isWelcome = invite !== undefined && (await invites.welcome(user, invite));
      if (!isWelcome && (await settings.signUp()) !== "open") throw uninvited();
      await users.finish(user.id);
    } catch (error) {
      await this.#takeBack(user, invite);
      throw error;
    }
    // If this fails, they may come in by it once more.
    if (invite !== undefined) await invites.settle(user, invite).catch(() => undefined);
    return user;
  }

  /** An account that is not made keeps neither its name nor its place in an invite. */
  async #takeBack(user: User, invite: string | undefined): Promise<void> {
    if (invite) await this.#parts.invites.unwelcome(user, invite);
    await this.#parts.users.takeBack(user);
  }

  /**
   * Makes the first account the server's owner, if a crash kept it from that. Answers whether the server still has no
   * account, although one was begun.
   */
  async finishFirst(): Promise<boolean> {
    const { users, settings, staff } = this.#parts;
    const { begun, owner: known } = await settings.first();
    if (begun === null) return false;
    const id = known ?? (await users.idOf(begun));
    if (id === undefined) return true;
    if (known === null && !(await settings.claimFirst(id))) return false;
    const isThere = (await users.facts(id)) !== undefined;
    if (isThere && (await staff.isEmpty())) await staff.set(id, "owner");
    await settings.endFirst();
    return false;
  }

  /** Throws `forbidden` to whom neither the settings nor an invite let in. */
  async #demandEntry(invite: string | undefined): Promise<void> {
    const { settings, invites } = this.#parts;
    if ((await settings.signUp()) === "open") return;
    if (invite === undefined || !(await invites.isValid(invite))) throw uninvited();
  }

  /** One's own account, as it is told. */
  async me(user: User, role: ServerRole): Promise<Me> {
    const [found] = await this.#parts.users.find([user.id]);
    return { ...user, ...found, ...(role !== "user" && { role }) };
  }

  /** An account is shown otherwise now: tells every replica. */
  async changed(user: User, role: ServerRole): Promise<Me> {
    await this.#parts.changed(user.id);
    return this.me(user, role);
  }

  /** Sets the name that is shown for a user, or takes it away. Throws `taken`. */
  async rename(user: User, name: string | null): Promise<User> {
    const renamed = await this.#parts.users.setDisplayName(user, name);
    await this.#parts.changed(user.id);
    return renamed;
  }

  /**
   * Sets another password, and ends all other sessions. Throws `forbidden` for a wrong password, `invalid` for a weak
   * one.
   */
  async changePassword(
    user: User,
    { current, next }: NewPassword,
    address: string,
    sid: string,
  ): Promise<void> {
    const { users } = this.#parts;
    const hash = await users.demandPassword(user, current, address);
    // Before it too: a crash after it must not leave open what the change is to close.
    await users.setPassword(user, next, address, {
      hash,
      first: async () => void (await this.endSessions(user.id, sid)),
    });
    await this.endSessions(user.id, sid);
  }

  async sessionsOf(userId: UserId, current?: string): Promise<OwnSession[]> {
    const sessions = await this.#parts.sessions.of(userId);
    return sessions.map(({ sid, ...rest }) => ({ id: nameOf(sid), current: sid === current, ...rest }));
  }

  /** Throws `not_found` for a session that is not this user's. */
  async endSession(userId: UserId, id: string): Promise<void> {
    const { sessions, changed } = this.#parts;
    const ended = (await sessions.of(userId)).find(({ sid }) => nameOf(sid) === id);
    if (!ended) throw new ChatError("not_found", "There is no such session.");
    await sessions.end(userId, [ended.sid]);
    await changed(userId);
  }

  /** Ends all sessions of a user, but for `except`, and closes their connections; answers how many there were. */
  async endSessions(userId: UserId, except?: string): Promise<number> {
    const ended = await this.#parts.sessions.endAll(userId, except);
    await this.#parts.changed(userId);
    return ended;
  }

  /** Sets the password of the code's user, and ends their sessions. Throws `not_found`, `invalid`. */
  async useReset(code: string, password: string, address: string): Promise<void> {
    const { users, audit } = this.#parts;
    const user = await users.resetOf(code);
    const note = { by: user.id, what: "account", userId: user.id, detail: "a new password by a link" };
    await audit.noted(note, async (begin) => {
      // The code goes with the password: what fails before must not use it up.
      const first = async () => {
        await begin();
        await this.endSessions(user.id);
      };
      await users.setPassword(user, password, address, { first, reset: code });
      await this.endSessions(user.id);
    });
  }

  /**
   * Gives an account a role on the server, and tells its connections. Throws `forbidden` if nobody would own the server
   * any more, or if whoever asks has lost their own role meanwhile.
   */
  async setRole(userId: UserId, role: ServerRole, by?: ByRole): Promise<void> {
    const { users, staff, changed } = this.#parts;
    // Who made a link for an ordinary account must not get into an owner's by it.
    await users.endReset(userId);
    demandDone(await staff.set(userId, role, by));
    await users.endReset(userId);
    await changed(userId);
  }

  /**
   * Keeps an account from everything: from the first step on no door lets it in, and in the end no room stores anything
   * of it. What is cut short is gone on with by `resume`. Throws as `setRole` does.
   */
  async disable(userId: UserId, by?: ByRole): Promise<void> {
    const { users, staff } = this.#parts;
    await this.#followed(userId, async () => {
      demandDone(await staff.retire(userId, by));
      await users.setDisabled(userId, true);
      await this.#shutOut(userId);
    });
  }

  /** Does what disables or enables an account; if it is cut short, others make the rest agree with the account. */
  async #followed(userId: UserId, work: () => Promise<void>): Promise<void> {
    const { users } = this.#parts;
    await users.noteFarewell(userId, "follow", Date.now() + FAREWELL_MS);
    let isOver = true;
    try {
      await work();
    } catch (error) {
      isOver = isRefusal(error);
      throw error;
    } finally {
      if (isOver) await users.endFollowing(userId);
    }
  }

  async #shutOut(userId: UserId): Promise<void> {
    const { users, staff } = this.#parts;
    // It may have got a role before it was marked.
    await staff.retire(userId);
    // Or it has been enabled meanwhile.
    if (!(await users.accountOf(userId)).disabled) await staff.restore(userId);
    await this.endSessions(userId);
    await this.#bar(userId, true);
    await this.#parts.files.discardPending(userId);
  }

  async enable(userId: UserId): Promise<void> {
    const { users, members } = this.#parts;
    await users.endFarewell(userId);
    await this.#followed(userId, async () => {
      await members.bar(userId, false);
      await users.setDisabled(userId, false);
      await this.#letIn(userId);
    });
  }

  async #letIn(userId: UserId): Promise<void> {
    await this.#bar(userId, false);
    await this.#parts.staff.restore(userId);
  }

  /** Bars an account from its rooms, or not; as the account says in the end, if others change it meanwhile. */
  async #bar(userId: UserId, on: boolean): Promise<void> {
    const { users, members } = this.#parts;
    for (let wanted = on; ;) {
      await members.bar(userId, wanted);
      const { disabled } = await users.accountOf(userId);
      if (disabled === wanted) return;
      wanted = disabled;
    }
  }

  /**
   * Does once more what ended this account, if it has ended: call it when something of the account was stored that began
   * before. Whatever that is then ends as if it had been there before.
   */
  async settle(userId: UserId): Promise<void> {
    const { disabled, deleted } = await this.#parts.users.accountOf(userId);
    if (deleted) await this.#erase(userId);
    else if (disabled) await this.#shutOut(userId);
  }

  /**
   * Deletes an account, and its messages if so asked: those one after another, also after this has resolved; `done`
   * resolves with their number. What is cut short is gone on with by `resume`: from the first step on the owner cannot
   * log in to ask for it again. Throws as `setRole` does.
   */
  async delete(userId: UserId, farewell: Farewell, by?: ByRole): Promise<{ done: Promise<number> }> {
    const { users } = this.#parts;
    await users.noteFarewell(userId, farewell, Date.now() + FAREWELL_MS);
    try {
      await this.disable(userId, by);
    } catch (error) {
      if (isRefusal(error)) await users.endFarewell(userId);
      // A room that cannot be read keeps nobody's account. It is barred there later.
      if (error instanceof ChatError || isRedisAway(error)) throw error;
      await this.#erase(userId);
      throw error;
    }
    await this.#erase(userId);
    if (farewell === "delete") return { done: this.deleteMessages(userId) };
    await users.endFarewell(userId);
    return { done: Promise.resolve(0) };
  }

  /** Goes on with what becomes of accounts where whoever began it has not been heard of for a while. */
  async resume(now = Date.now()): Promise<void> {
    const { users, log } = this.#parts;
    for (const { id, farewell } of await users.overdueFarewells(now)) {
      try {
        const account = await users.accountOf(id);
        if (farewell === "follow") await this.#follow(id, account);
        // It was refused, or never begun, or has been enabled since.
        else if (!account.deleted && !account.disabled) await users.endFarewell(id);
        else await (await this.delete(id, farewell)).done;
      } catch (error) {
        log.warn({ userId: id, reason: reasonOf(error) }, "an account is ended or enabled wholly later");
      }
    }
  }

  /** Makes rooms, sessions and roles agree with an account that was to be disabled or enabled. */
  async #follow(
    userId: UserId,
    { deleted, disabled }: { deleted: boolean; disabled: boolean },
  ): Promise<void> {
    const { users } = this.#parts;
    // The end of a deleted account is gone on with by itself.
    if (disabled && !deleted) await this.#shutOut(userId);
    else if (!disabled && (await users.facts(userId)) !== undefined) await this.#letIn(userId);
    await users.endFollowing(userId);
  }

  async #erase(userId: UserId): Promise<void> {
    await this.#parts.files.removeAvatar(userId);
    await this.#parts.users.erase(userId);
    // Somebody may have enabled it since it was shut out: from now on nobody can.
    await this.#shutOut(userId);
    await this.#parts.members.leaveAll(userId);
  }

  /** Deletes one's own account, as above. Throws `forbidden` also for a wrong password. */
  async leave(user: User, { password, messages }: Leave, address: string): Promise<void> {
    await this.#parts.users.demandPassword(user, password, address);
    const note = { by: user.id, what: "account", userId: user.id, detail: "deleted by its owner" };
    await this.#parts.audit.noted(note, async (begin) => {
      await begin();
      await this.delete(user.id, messages);
    });
  }

  /**
   * Deletes what a user has said, in every room; a repeat goes on, and so does `resume` if something fails. Never
   * rejects; answers how many messages were deleted.
   */
  async deleteMessages(userId: UserId): Promise<number> {
    const { users, log } = this.#parts;
    let deleted = 0;
    try {
      let isWhole = true;
      await users.noteFarewell(userId, "delete", Date.now() + FAREWELL_MS);
      for (const roomId of await this.#roomsEver(userId)) {
        try {
          for await (const count of this.#deleteIn(roomId, userId)) {
            deleted += count;
            await users.noteFarewell(userId, "delete", Date.now() + FAREWELL_MS);
          }
        } catch (error) {
          isWhole = false;
          log.warn({ roomId, userId, reason: reasonOf(error) }, LATER);
        }
      }
      if (isWhole) await users.endFarewell(userId);
    } catch (error) {
      log.warn({ userId, reason: reasonOf(error) }, LATER);
    }
    return deleted;
  }

  /** The rooms in which a user may have spoken: they may have left some. */
  async #roomsEver(userId: UserId): Promise<Set<RoomId>> {
    const { members } = this.#parts;
    const ever = new Set(await members.of(userId));
    for await (const id of members.named()) ever.add(id);
    return ever;
  }

  /**
   * Deletes what a user has said in a room; yields after each page how many messages that were. Others get as long in
   * between.
   */
  async *#deleteIn(roomId: RoomId, userId: UserId): AsyncGenerator<number> {
    const { messages, files } = this.#parts;
    let began = performance.now();
    for await (const page of this.#pages(roomId)) {
      const theirs = page.messages.filter(({ from, deleted }) => from === userId && deleted === undefined);
      for (const { seq, files: lost = [] } of theirs)
        await files.withdraw(lost, () =>
          messages.change("", { roomId, seq }, (message) =>
            asChanged(message, userId, { do: "delete", roomId, seq }, Date.now(), {}),
          ),
        );
      yield theirs.length;
      await sleep(performance.now() - began);
      began = performance.now();
    }
  }

  /**
   * Everything that is kept of a user, as one JSON text in chunks, each with the KB that it took to read: the account,
   * the sessions, their rooms, and what they said there.
   */
  async *export(user: User, sid: string, role: ServerRole): AsyncGenerator<{ text: string; kb: number }> {
    const { users, rooms, members } = this.#parts;
    const [me, facts, sessions, listed] = await Promise.all([
      this.me(user, role),
      users.facts(user.id),
      this.sessionsOf(user.id, sid),
      members.of(user.id),
    ]);
    const ids: RoomId[] = [];
    // A room that somebody has damaged does not keep anybody from all others.
    for (const id of listed) if (await unlessWrongType(members.has(id, user.id), false)) ids.push(id);
    const account = { ...me, created: facts?.created };
    yield {
      text: `{"account":${JSON.stringify(account)},"sessions":${JSON.stringify(sessions)},"rooms":[`,
      kb: 1,
    };
    let comma = "";
    const choices = await rooms.choices(user.id);
    for (const roomId of ids) {
      const state = await unlessWrongType(rooms.state(roomId, user.id, choices), null);
      if (state === null) continue;
      const { id, kind, name, userIds, read, notify, folded, favourite, hidden } = state;
      const chosen = { ...(notify && { notify }), folded, favourite, hidden };
      const told = { id, kind, ...(name !== null && { name }), ...(userIds && { userIds }), read, ...chosen };
      yield { text: `${comma}\n${JSON.stringify(told)}`, kb: 1 };
      comma = ",";
    }
    yield { text: `],"messages":[`, kb: 0 };
    comma = "";
    for (const roomId of ids)
      try {
        for await (const { messages } of this.#pages(roomId)) {
          // Others may have reacted since the user left, or was removed.
          if (!(await members.has(roomId, user.id))) break;
          let text = "";
          for (const message of messages) {
            if (message.from !== user.id) continue;
            text += `${comma}\n${JSON.stringify(message)}`;
            comma = ",";
          }
          yield { text, kb: Math.max(messages.length / 4, text.length / 1_024) };
        }
      } catch (error) {
        if (redisCode(error) !== "WRONGTYPE") throw error;
      }
    yield { text: "]}\n", kb: 0 };
  }

  /** A room's messages, oldest first, a page at a time. */
  async *#pages(roomId: RoomId): AsyncGenerator<Page> {
    for (let after: number | undefined = 0; after !== undefined;) {
      const page: Page = await this.#parts.messages.pages.page(roomId, { after, size: LIMITS.page });
      yield page;
      after = page.more ? page.messages.at(-1)?.date : undefined;
    }
  }
}

function uninvited(): ChatError {
  return new ChatError("forbidden", "Nobody can sign up here without a valid invite.");
}

/** A session's name on the wire: its id opens it. */
function nameOf(sid: string): string {
  return createHash("sha256").update(sid).digest("hex").slice(0, 16);
}

export function lostRole(): ChatError {
  return new ChatError("forbidden", "You have lost the right to do this.");
}

export function demandDone(kept: Kept | null): void {
  if (kept === "last owner")
    throw new ChatError("forbidden", "The server keeps an owner. Make somebody else one first.");
  if (kept === "lost role") throw lostRole();
  if (kept === "no account") throw unknownUser();
}
