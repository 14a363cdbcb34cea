import type { Config } from "../config.ts";
import type { Keys } from "../keys.ts";
import { SIGN_UP_MODES, type SignUpMode, type UserId } from "../protocol.ts";
import { parseJson } from "./log.ts";
import type { RedisClient } from "./redis.ts";

/** How soon a change of the filtered words counts if its announcement was lost. */
const WORDS_MS = 25_000;

/** What the server's admins have set. A change counts at once on every replica. */
export class Settings {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #signUp: SignUpMode;
  readonly #serverId: string;
  /** Kept, because every message is compared with them. */
  #words: { readAt: number; reading: Promise<string[]> } | undefined;

  constructor(redis: RedisClient, keys: Keys, config: Pick<Config, "signUp" | "serverId">) {
    this.#redis = redis;
    this.#keys = keys;
    this.#signUp = config.signUp;
    this.#serverId = config.serverId;
  }

  /** Who may sign up: what was set, or else what the environment says. */
  async signUp(): Promise<SignUpMode> {
    const set = await this.#redis.hget(this.#keys.settings, "signup");
    return SIGN_UP_MODES.find((mode) => mode === set) ?? this.#signUp;
  }

  async setSignUp(mode: SignUpMode): Promise<void> {
    await this.#redis.hset(this.#keys.settings, "signup", mode);
  }

  /** Words that no message may have. */
  words(): Promise<string[]> {
    const now = performance.now();
    if (this.#words && now - this.#words.readAt < WORDS_MS) return this.#words.reading;
    const reading = this.#readWords();
    this.#words = { readAt: now, reading };
    reading.catch(() => this.forget());
    return reading;
  }

  async #readWords(): Promise<string[]> {
    const stored = await this.#redis.hget(this.#keys.settings, "words");
    const words = stored === null ? [] : parseJson(stored);
    return Array.isArray(words) ? words.filter((word) => typeof word === "string") : [];
  }

  /** Sets the filtered words, and tells every replica. */
  async setWords(words: readonly string[]): Promise<void> {
    await this.#redis.hset(this.#keys.settings, "words", JSON.stringify(words));
    const told = { serverId: this.#serverId, type: "settings", data: null };
    await this.#redis.publish(this.#keys.channel, JSON.stringify(told));
  }

  /** Reads the words again when they are next asked for. */
  forget(): void {
    this.#words = undefined;
  }

  /** Makes this account the server's first; false if it has had one. */
  async claimFirst(userId: UserId): Promise<boolean> {
    return (await this.#redis.hsetnx(this.#keys.settings, "owner", userId)) === 1;
  }
}
