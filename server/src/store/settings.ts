import type { Config } from "../config.ts";
import type { Keys } from "../keys.ts";
import { SIGN_UP_MODES, type SignUpMode, type UserId } from "../protocol.ts";
import type { RedisClient } from "./redis.ts";

/** What the server's admins have set. Read anew each time, so that a change counts at once on every replica. */
export class Settings {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #signUp: SignUpMode;

  constructor(redis: RedisClient, keys: Keys, config: Pick<Config, "signUp">) {
    this.#redis = redis;
    this.#keys = keys;
    this.#signUp = config.signUp;
  }

  /** Who may sign up: what was set, or else what the environment says. */
  async signUp(): Promise<SignUpMode> {
    const set = await this.#redis.hget(this.#keys.settings, "signup");
    return SIGN_UP_MODES.find((mode) => mode === set) ?? this.#signUp;
  }

  async setSignUp(mode: SignUpMode): Promise<void> {
    await this.#redis.hset(this.#keys.settings, "signup", mode);
  }

  /** Makes this account the server's first; false if it has had one. */
  async claimFirst(userId: UserId): Promise<boolean> {
    return (await this.#redis.hsetnx(this.#keys.settings, "owner", userId)) === 1;
  }
}
