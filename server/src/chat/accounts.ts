import { ChatError } from "../errors.ts";
import type { Me, NewUser, ServerRole, User } from "../protocol.ts";
import type { Settings } from "../store/settings.ts";
import type { Staff } from "../store/staff.ts";
import type { ChatInvites } from "./invites.ts";
import type { Users } from "./users.ts";

type Parts = { users: Users; settings: Settings; staff: Staff; invites: ChatInvites };

/** Who gets an account, and what becomes of it. */
export class Accounts {
  readonly #users: Users;
  readonly #settings: Settings;
  readonly #staff: Staff;
  readonly #invites: ChatInvites;

  constructor({ users, settings, staff, invites }: Parts) {
    this.#users = users;
    this.#settings = settings;
    this.#staff = staff;
    this.#invites = invites;
  }

  /**
   * Creates an account. The first one of an empty server needs no permission and owns it. Throws `forbidden` if sign-up
   * is not open and nobody has invited them, and as `Users.signUp` does.
   */
  async signUp({ invite, ...credentials }: NewUser, address: string): Promise<Me> {
    const isFirst = await this.#users.isEmpty();
    if (!isFirst) await this.#demandEntry(invite);
    const user = await this.#users.signUp(credentials, address);
    if (isFirst && (await this.#settings.claimFirst(user.id))) {
      await this.#staff.set(user.id, "owner");
      return { ...user, role: "owner" };
    }
    try {
      // Others may have used the invite up meanwhile, or signed up as the first.
      const isWelcome = invite !== undefined && (await this.#invites.welcome(user, invite));
      if (!isWelcome && (await this.#settings.signUp()) !== "open") throw uninvited();
    } catch (error) {
      await this.#users.takeBack(user);
      throw error;
    }
    return user;
  }

  /** Throws `forbidden` to whom neither the settings nor an invite let in. */
  async #demandEntry(invite: string | undefined): Promise<void> {
    if ((await this.#settings.signUp()) === "open") return;
    if (invite === undefined || !(await this.#invites.isValid(invite))) throw uninvited();
  }
}

function uninvited(): ChatError {
  return new ChatError("forbidden", "Nobody can sign up here without a valid invite.");
}

/** One's own account, as it is told. */
export function asMe({ id, username }: User, role: ServerRole): Me {
  return { id, username, ...(role !== "user" && { role }) };
}
