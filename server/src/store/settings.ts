import type { Config } from "../config.ts";
import { unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { SIGN_UP_MODES, type SignUpMode, type UserId } from "../protocol.ts";
import { parseJson } from "./json.ts";
import type { RedisClient } from "./redis.ts";

/** How soon a change of the filtered words counts if its announcement was lost. */
const WORDS_MS = 25_000;

/** What the server's admins have set. A change counts at once on every replica. */
export class Settings {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #signUp: SignUpMode;
  readonly #serverId: string;
  #hadOwner = false;
  /** All of them, as they were last read. */
  #known: Record<string, string> = {};
  /** Kept, because every message is compared with them. */
  #words: { readAt: number; reading: Promise<string[]> } | undefined;

  constructor(redis: RedisClient, keys: Keys, config: Pick<Config, "signUp" | "serverId">) {
    this.#redis = redis;
    this.#keys = keys;
    this.#signUp = config.signUp;
    this.#serverId = config.serverId;
  }

  /** Who may sign up: what was set, or else what the environment says. Nobody, if nobody can tell what was set. */
  async signUp(): Promise<SignUpMode> {
    const read = this.#redis.hmget(this.#keys.settings, "signup", "owner");
    const [stored = null, owner = null] = await unlessWrongType(read, ["closed", null]);
    const set = stored ?? (owner === null ? this.#known["signup"] : undefined);
    return SIGN_UP_MODES.find((mode) => mode === set) ?? this.#signUp;
  }

  /**
   * Remembers the settings, or puts back those that this server knows, if Redis has lost them and not the accounts too.
   * Call it at the start, and now and then.
   */
  async keep(): Promise<void> {
    const { settings, user } = this.#keys;
    const stored = await unlessWrongType(this.#redis.hgetall(settings), null);
    if (stored === null || stored["owner"] !== undefined) {
      this.#known = stored ?? this.#known;
      return;
    }
    const { owner } = this.#known;
    if (owner === undefined || (await this.#redis.exists(user(owner))) === 0) return;
    await Promise.all(
      Object.entries(this.#known).map(([field, value]) => this.#redis.hsetnx(settings, field, value)),
    );
  }

  async setSignUp(mode: SignUpMode): Promise<void> {
    await this.#redis.hset(this.#keys.settings, "signup", mode);
    await this.keep();
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
    const stored = await unlessWrongType(this.#redis.hget(this.#keys.settings, "words"), null);
    const words = stored === null ? [] : parseJson(stored);
    return Array.isArray(words) ? words.filter((word) => typeof word === "string") : [];
  }

  /** Sets the filtered words, and tells every replica. */
  async setWords(words: readonly string[]): Promise<void> {
    await this.#redis.hset(this.#keys.settings, "words", JSON.stringify(words));
    await this.keep();
    const told = { serverId: this.#serverId, type: "settings", data: null };
    await this.#redis.publish(this.#keys.channel, JSON.stringify(told));
  }

  /** Reads the words again when they are next asked for. */
  forget(): void {
    this.#words = undefined;
  }

  /** Notes that an account of this name is about to become the first: `finishFirst` undoes a crash in between. */
  async beginFirst(username: string): Promise<void> {
    await this.#redis.hset(this.#keys.settings, "first", username);
  }

  /** The name of an account that was to become the first, and perhaps has not; and the first one, if there is one. */
  async first(): Promise<{ begun: string | null; owner: UserId | null }> {
    const first = this.#redis.hmget(this.#keys.settings, "first", "owner");
    const [begun = null, owner = null] = await unlessWrongType(first, []);
    this.#hadOwner ||= owner !== null;
    return { begun, owner };
  }

  async endFirst(): Promise<void> {
    await this.#redis.hdel(this.#keys.settings, "first");
  }

  /** Makes this account the server's first; false if another one is. */
  async claimFirst(userId: UserId): Promise<boolean> {
    const { settings } = this.#keys;
    const isNew = (await this.#redis.hsetnx(settings, "owner", userId)) === 1;
    this.#hadOwner = true;
    if (isNew) return true;
    return (await this.#redis.hget(settings, "owner")) === userId;
  }

  /**
   * Whether Redis has lost the first account since this server knew of one: whoever comes now is not the first, and must
   * not get what others had.
   */
  async hasLostOwner(): Promise<boolean> {
    const owner = await unlessWrongType(this.#redis.hget(this.#keys.settings, "owner"), undefined);
    this.#hadOwner ||= typeof owner === "string";
    return this.#hadOwner && owner === null;
  }
}
