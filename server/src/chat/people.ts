import type { Presence } from "../live/presence.ts";
import type { Found, Presence as PresentUser, User, UserId } from "../protocol.ts";
import type { Picked } from "../store/ids.ts";
import type { Users } from "./users.ts";

/** Who there is, and who of them is online. */
export class People {
  readonly #users: Users;
  readonly #presence: Presence;

  constructor(users: Users, presence: Presence) {
    this.#users = users;
    this.#presence = presence;
  }

  /** How many names a search looks at. */
  get searched(): number {
    return this.#users.searched;
  }

  /** A page of the users with this text in their name. */
  async search(text: string, after: UserId | undefined, size: number): Promise<Found<PresentUser>> {
    const { ids, total, complete } = await this.#users.search(text, after, size);
    return { found: await this.find(ids), total, complete };
  }

  async list(after: number, size: number): Promise<Picked<PresentUser>> {
    const { found, looked } = await this.#users.list(after, size);
    return { found: await this.#withPresence(found), looked };
  }

  async find(ids: UserId[]): Promise<PresentUser[]> {
    return this.#withPresence(await this.#users.find(ids));
  }

  async online(): Promise<PresentUser[]> {
    const users = await this.#users.find(await this.#presence.online());
    return users.map((user) => ({ ...user, online: true }));
  }

  async #withPresence(users: User[]): Promise<PresentUser[]> {
    const online = await this.#presence.areOnline(users.map((user) => user.id));
    return users.map((user) => ({ ...user, online: online.has(user.id) }));
  }
}
