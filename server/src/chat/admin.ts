import { ChatError, unlessWrongType } from "../errors.ts";
import {
  SERVER_ROLES,
  type Account,
  type AccountPatch,
  type Farewell,
  type Found,
  type ManagedRoom,
  type RoomId,
  type RoomKind,
  type RoomPatch,
  type RoomSettings,
  type ServerRole,
  type ServerSettings,
  type ServerStats,
  type User,
  type UserId,
} from "../protocol.ts";
import type { Audit } from "../store/audit.ts";
import type { Members } from "../store/members.ts";
import type { SessionList } from "../store/sessions.ts";
import type { Settings } from "../store/settings.ts";
import { unknownRoom, type Log } from "../store/log.ts";
import { lostRole, type Accounts } from "./accounts.ts";
import { demand, mayActOn, roleIn, type Action } from "./access.ts";
import type { ChatRooms } from "./rooms.ts";
import type { People } from "./people.ts";
import { unknownUser, type Users } from "./users.ts";

/** Whoever acts: an admin or an owner of the server; the caller has checked that. */
export type Administrator = { user: User; role: ServerRole };

/** A room as the operator sees it. */
export type RoomFacts = {
  id: RoomId;
  kind: RoomKind;
  name: string;
  members: number;
  messages: number;
  owners: User[];
} & Partial<RoomSettings>;

type Parts = {
  accounts: Accounts;
  users: Users;
  people: People;
  rooms: ChatRooms;
  members: Members;
  messages: Log;
  sessions: SessionList;
  settings: Settings;
  audit: Audit;
};

/** Named rooms whose messages are counted at once. */
const COUNTED_AT_ONCE = 500;

/** What the server's admins see and do. Owners act on everybody, admins on users. */
export class Admin {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async list(after: number, size: number): Promise<Account[]> {
    return this.#accounts((await this.#parts.users.list(after, size)).found.map(({ id }) => id));
  }

  async search(text: string, after: UserId | undefined, size: number): Promise<Found<Account>> {
    const { ids, total, complete } = await this.#parts.users.search(text, after, size);
    return { found: await this.#accounts(ids), total, complete };
  }

  /** The rooms that this administrator manages, by id: General, open rooms, and the invite rooms that they are in. */
  async managed(by: Administrator, after: RoomId | undefined, size: number): Promise<ManagedRoom[]> {
    const ids: RoomId[] = [];
    for await (const id of this.#parts.members.shared())
      if (after === undefined || Number(id) > Number(after)) ids.push(id);
    const found: ManagedRoom[] = [];
    for (let start = 0; found.length < size && start < ids.length; start += size) {
      const some = ids.slice(start, start + size).map((id) => unlessWrongType(this.#managed(by, id), []));
      found.push(...(await Promise.all(some)).flat());
    }
    return found.slice(0, size);
  }

  /** The same of named rooms with this text in their name. */
  async findManaged(
    { user }: Administrator,
    text: string,
    after: RoomId | undefined,
    size: number,
  ): Promise<Found<ManagedRoom>> {
    const { rooms } = this.#parts;
    const { found, ...rest } = await rooms.search(user, text, after, size);
    const facts = await Promise.all(found.map(({ id }) => rooms.facts(id)));
    return { found: found.map((room, index) => ({ ...room, ...facts[index]?.settings })), ...rest };
  }

  /** Throws `not_found`. */
  async show(id: UserId): Promise<Account> {
    const [account] = await this.#accounts([id]);
    if (!account) throw unknownUser();
    return { ...account, sessions: (await this.#parts.sessions.of(id)).length };
  }

  /**
   * Gives a role, which only owners do, and disables or enables an account. Throws `not_found`, `forbidden` for somebody
   * who stands as high and for the last owner, `invalid` to disable oneself, and for a role of a disabled account.
   */
  change(by: Administrator, id: UserId, patch: AccountPatch): Promise<Account> {
    return this.#noted(by, "account", id, JSON.stringify(patch), async (begin) => {
      const { role, disabled } = patch;
      const { accounts } = this.#parts;
      const account = await this.#demandBelow(by, id);
      if (role !== undefined && by.role !== "owner")
        throw new ChatError("forbidden", "Only owners give roles.");
      if (disabled === true && id === by.user.id)
        throw new ChatError("invalid", "Nobody disables their own account.");
      if (role !== undefined && (disabled ?? account.disabled !== undefined))
        throw new ChatError("invalid", "A disabled account gets no role.");
      if (role === undefined && disabled === undefined) return this.show(id);
      await begin();
      if (disabled === true) await accounts.disable(id, by);
      if (disabled === false) await accounts.enable(id);
      if (role !== undefined) await accounts.setRole(id, role, by);
      return this.show(id);
    });
  }

  /** Deletes an account; `done` as in `Accounts.delete`. Throws as `change` does. */
  delete(by: Administrator, id: UserId, farewell: Farewell = "keep"): Promise<{ done: Promise<number> }> {
    return this.#noted(by, "account", id, "deleted", async (begin) => {
      await this.#demandBelow(by, id);
      if (id === by.user.id) throw new ChatError("invalid", "Your own account is deleted in its settings.");
      await begin();
      return this.#parts.accounts.delete(id, farewell, by);
    });
  }

  /** A code for a new password. Throws as `change` does. */
  newReset(by: Administrator, id: UserId): Promise<string> {
    return this.#noted(by, "account", id, "a link for a new password", async (begin) => {
      await this.#demandBelow(by, id);
      await begin();
      const code = await this.#parts.users.newReset(id);
      // They may have got a higher role meanwhile, which ends codes before and after.
      await this.#demandBelow(by, id).catch(async (error: unknown) => {
        await this.#parts.users.endReset(id);
        throw error;
      });
      return code;
    });
  }

  /** Answers how many there were. Throws as `change` does. */
  endSessions(by: Administrator, id: UserId): Promise<number> {
    return this.#noted(by, "account", id, "sessions ended", async (begin) => {
      await this.#demandBelow(by, id);
      await begin();
      return this.#parts.accounts.endSessions(id);
    });
  }

  #noted<T>(
    by: Administrator,
    what: string,
    userId: UserId,
    detail: string,
    work: (begin: () => Promise<void>) => Promise<T>,
  ): Promise<T> {
    const note = { by: by.user.id, what, userId, detail };
    return this.#parts.audit.noted(note, (begin) => work(() => this.#beginStill(by, begin)));
  }

  /** Begins what is noted, unless the administrator has lost the role by which they act: throws `forbidden`. */
  async #beginStill(by: Administrator, begin: () => Promise<void>): Promise<void> {
    await begin();
    // The operator's shell has no account.
    if (by.user.id === "") return;
    if ((await this.#parts.users.roleNow(by.user.id)) !== by.role) throw lostRole();
  }

  async settings(): Promise<ServerSettings> {
    const { settings } = this.#parts;
    const [signup, words] = await Promise.all([settings.signUp(), settings.words()]);
    return { signup, words };
  }

  async changeSettings(by: Administrator, patch: Partial<ServerSettings>): Promise<ServerSettings> {
    const { settings, audit } = this.#parts;
    const { signup, words } = patch;
    if (signup === undefined && words === undefined) return this.settings();
    const note = { by: by.user.id, what: "server settings", detail: Object.keys(patch).join(", ") };
    return audit.noted(note, async (begin) => {
      await this.#beginStill(by, begin);
      if (signup !== undefined) await settings.setSignUp(signup);
      if (words !== undefined) {
        await settings.setWords(words);
        settings.forget();
      }
      return this.settings();
    });
  }

  /** Of messages, those of General and of named rooms. */
  async stats(): Promise<ServerStats> {
    const { users, people, members, messages } = this.#parts;
    const rooms: RoomId[] = [];
    for await (const id of members.shared()) rooms.push(id);
    let said = 0;
    for (let start = 0; start < rooms.length; start += COUNTED_AT_ONCE) {
      const some = await Promise.all(
        rooms
          .slice(start, start + COUNTED_AT_ONCE)
          .map((id) => unlessWrongType(messages.position(id), { seq: 0 })),
      );
      for (const { seq } of some) said += seq;
    }
    return {
      people: await users.present(),
      online: (await people.online()).length,
      rooms: rooms.length,
      messages: said,
    };
  }

  /** Every room that is not direct, also those by invitation: for the operator, who can read all of Redis anyway. */
  async *allRooms(): AsyncGenerator<RoomFacts> {
    for await (const id of this.#parts.members.shared()) {
      // A room that somebody has damaged hides no other.
      const room = await unlessWrongType(this.#factsOf(id), null);
      if (room !== null) yield room;
    }
  }

  /** The room with this id, or else of this name. Throws `not_found`. */
  async showRoom(idOrName: string): Promise<RoomFacts> {
    const room = await this.#factsOf(await this.#demandRoom(idOrName));
    if (room === null) throw unknownRoom();
    return room;
  }

  /** Null if there is no such room. */
  async #factsOf(id: RoomId): Promise<RoomFacts | null> {
    const { rooms, members, messages, users } = this.#parts;
    const [facts, position, size, owners] = await Promise.all([
      rooms.facts(id),
      messages.position(id),
      members.size(id),
      members.owners(id),
    ]);
    if (facts === null) return null;
    const { kind, name, settings } = facts;
    const people = kind === "everyone" ? await users.present() : size;
    return {
      id,
      kind,
      name,
      members: people,
      messages: position.seq,
      owners: await users.find(owners),
      ...settings,
    };
  }

  /** Changes a room, as its owner could. Throws `not_found`, `taken`, and `forbidden` for what no room of its kind allows. */
  changeRoom(by: Administrator, idOrName: string, patch: RoomPatch): Promise<RoomFacts> {
    return this.#inRoom(by, idOrName, "settings", patch.name === undefined ? "archive" : "name", {
      detail: JSON.stringify(patch),
      work: (id) => this.#parts.rooms.set(id, patch),
    });
  }

  /** Makes somebody an owner of a room, and a member if they are none. Throws as above. */
  giveRoom(by: Administrator, idOrName: string, userId: UserId): Promise<RoomFacts> {
    const { rooms, members, users } = this.#parts;
    return this.#inRoom(by, idOrName, "role", "role", {
      userId,
      detail: JSON.stringify({ role: "owner" }),
      work: async (id) => {
        const facts = await users.facts(userId);
        if (facts === undefined) throw unknownUser();
        if (facts.disabled !== undefined) throw new ChatError("invalid", "A disabled account gets no role.");
        await rooms.enter(userId, id);
        await members.change(id, userId, null, (record) =>
          record === null ? undefined : { record: { ...record, role: "owner" } },
        );
      },
    });
  }

  async #inRoom(
    by: Administrator,
    idOrName: string,
    what: string,
    action: Action,
    { work, ...about }: { detail: string; userId?: UserId; work: (id: RoomId) => Promise<void> },
  ): Promise<RoomFacts> {
    const { rooms, audit } = this.#parts;
    const id = await this.#demandRoom(idOrName);
    const facts = await rooms.facts(id);
    if (facts === null) throw unknownRoom();
    await audit.noted({ by: by.user.id, what, roomId: id, ...about }, async (begin) => {
      const standing = { role: "owner" } as const;
      demand({ kind: facts.kind, standing, server: by.role, now: Date.now() }, action);
      await begin();
      await work(id);
    });
    return this.showRoom(id);
  }

  async #demandRoom(idOrName: string): Promise<RoomId> {
    const id = await this.#parts.rooms.find(idOrName);
    if (id === null) throw new ChatError("not_found", `There is no room ${idOrName}.`);
    return id;
  }

  async #managed({ user, role }: Administrator, id: RoomId): Promise<ManagedRoom[]> {
    const { rooms, members, users } = this.#parts;
    const [facts, size, joined] = await Promise.all([
      rooms.facts(id),
      members.size(id),
      members.has(id, user.id),
    ]);
    if (facts === null) return [];
    const { kind, name, settings } = facts;
    if (roleIn(kind, joined ? { role: "member" } : null, role) === null) return [];
    const people = kind === "everyone" ? await users.present() : size;
    return [{ id, kind, name, members: people, joined, ...settings }];
  }

  async #accounts(ids: readonly UserId[]): Promise<Account[]> {
    const { users, people } = this.#parts;
    const [found, facts] = await Promise.all([
      people.find([...ids]),
      Promise.all(ids.map((id) => users.facts(id))),
    ]);
    const factsOf = new Map(ids.map((id, index) => [id, facts[index]]));
    return found.flatMap((user) => {
      const known = factsOf.get(user.id);
      if (known === undefined) return [];
      const { isDemo, ...rest } = known;
      return [{ ...user, ...rest, ...(isDemo && { demo: true as const }) }];
    });
  }

  /** Throws `not_found` for an unknown account, and `forbidden` for one that this administrator may not act on. */
  async #demandBelow(by: Administrator, id: UserId): Promise<Account> {
    const [account] = await this.#accounts([id]);
    if (!account) throw unknownUser();
    if (!mayActOn(SERVER_ROLES, by.role, account.role))
      throw new ChatError("forbidden", "They stand as high as you.");
    return account;
  }
}
