import { ChatError } from "../errors.ts";
import type { Me, NewUser, ServerRole, User } from "../protocol.ts";
import type { Settings } from "../store/settings.ts";
import type { Staff } from "../store/staff.ts";
import type { Users } from "./users.ts";

type Parts = { users: Users; settings: Settings; staff: Staff };

/** Who gets an account, and what becomes of it. */
export class Accounts {
  readonly #users: Users;
  readonly #settings: Settings;
  readonly #staff: Staff;

  constructor({ users, settings, staff }: Parts) {
    this.#users = users;
    this.#settings = settings;
    this.#staff = staff;
  }

  /**
   * Creates an account. The first one of an empty server needs no permission and owns it. Throws `forbidden` if sign-up
   * is not open and nobody has invited them, and as `Users.signUp` does.
   */
  async signUp({ invite, ...credentials }: NewUser, address: string): Promise<Me> {
    const isFirst = await this.#users.isEmpty();
    if (!isFirst) await this.#demandEntry(invite);
    const user = await this.#users.signUp(credentials, address);
    if (!isFirst) return user;
    if (await this.#settings.claimFirst(user.id)) {
      await this.#staff.set(user.id, "owner");
      return { ...user, role: "owner" };
    }
    // Several signed up at once as the first.
    try {
      await this.#demandEntry(invite);
    } catch (error) {
      await this.#users.takeBack(user);
      throw error;
    }
    return user;
  }

  /** Throws `forbidden` to whom neither the settings nor an invitation let in. */
  async #demandEntry(invite: string | undefined): Promise<void> {
    if ((await this.#settings.signUp()) === "open") return;
    if (await isInvited(invite)) return;
    throw new ChatError("forbidden", "Nobody can sign up here without a valid invitation.");
  }
}

/** Whether a code is a valid invitation. There are none yet. */
function isInvited(_code: string | undefined): Promise<boolean> {
  return Promise.resolve(false);
}

/** One's own account, as it is told. */
export function asMe({ id, username }: User, role: ServerRole): Me {
  return { id, username, ...(role !== "user" && { role }) };
}
