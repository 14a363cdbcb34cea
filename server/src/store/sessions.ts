import type { Config } from "../config.ts";
import type { Keys } from "../keys.ts";
import { BOUNDS } from "../limits.ts";
import type { UserId } from "../protocol.ts";
import { isRecord, parseJson } from "./json.ts";
import { overWrongType, type RedisClient } from "./redis.ts";

/** What is kept of a log-in, in ms; `seen` is exact to a minute. Older sessions have no address and no device. */
export type StoredSession = { sid: string; created: number; seen: number; address?: string; device?: string };

/**
 * The sessions of each user: a list of ids by log-in. A session's own key decides whether it lives; the list may hold
 * ended ones. Whoever ends a session must close its connections.
 */
export class SessionList {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #ttlMs: number;

  constructor(redis: RedisClient, keys: Keys, config: Pick<Config, "sessionTtlSeconds">) {
    this.#redis = redis;
    this.#keys = keys;
    this.#ttlMs = config.sessionTtlSeconds * 1_000;
  }

  /**
   * Adds a session, removes ended ones, and ends the oldest if there are too many: answers their ids. Runs after the
   * session is stored, so that concurrent log-ins leave no unlisted session.
   */
  async add(userId: UserId, sid: string): Promise<string[]> {
    const key = this.#keys.userSessions(userId);
    const [seconds, micros] = await this.#redis.time();
    const now = String(Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000));
    // The others are listed again as they are used.
    await overWrongType(this.#redis, key, "ZCARD", () => this.#redis.zadd(key, now, sid));
    const others = (await this.#redis.zrange(key, "0", "-1")).filter((other) => other !== sid);
    const alive = await Promise.all(others.map((other) => this.#redis.exists(this.#keys.session(other))));
    const gone = others.filter((_, place) => alive[place] === 0);
    const open = others.filter((_, place) => alive[place] === 1);
    const ended = open.slice(0, Math.max(0, open.length + 1 - BOUNDS.sessionsOfUser.value));
    await Promise.all(ended.map((other) => this.#redis.del(this.#keys.session(other))));
    if (gone.length + ended.length > 0) await this.#redis.zrem(key, ...gone, ...ended);
    return ended;
  }

  /** Lists a session that a crash, or an older replica, left unlisted, unless it has ended. */
  async mend(userId: UserId, sid: string): Promise<void> {
    const list = this.#keys.userSessions(userId);
    const added = await this.#redis.zadd(list, "NX", String(Date.now()), sid);
    if (added === 1 && (await this.#redis.exists(this.#keys.session(sid))) === 0)
      await this.#redis.zrem(list, sid);
  }

  /** The user's living sessions, the newest log-in first. */
  async of(userId: UserId): Promise<StoredSession[]> {
    const listed = await this.#redis.zrevrange(this.#keys.userSessions(userId), 0, -1, "WITHSCORES");
    const sids = listed.filter((_, index) => index % 2 === 0);
    const found = await Promise.all(
      sids.map(async (sid, index) => {
        const key = this.#keys.session(sid);
        const [json, leftMs] = await Promise.all([this.#redis.get(key), this.#redis.pttl(key)]);
        return json === null ? [] : [this.#read(sid, json, Number(listed[2 * index + 1]), leftMs)];
      }),
    );
    return found.flat();
  }

  async end(userId: UserId, sids: readonly string[]): Promise<void> {
    await Promise.all(sids.map((sid) => this.#redis.del(this.#keys.session(sid))));
    if (sids.length > 0) await this.#redis.zrem(this.#keys.userSessions(userId), ...sids);
  }

  /** Ends all of a user's sessions, but for `except`; answers how many lived. */
  async endAll(userId: UserId, except?: string): Promise<number> {
    const listed = await this.#redis.zrange(this.#keys.userSessions(userId), "0", "-1");
    const sids = listed.filter((sid) => sid !== except);
    const alive = await Promise.all(sids.map((sid) => this.#redis.exists(this.#keys.session(sid))));
    await this.end(userId, sids);
    return alive.filter((one) => one === 1).length;
  }

  /** Each use sets the same time to live: what is left of it tells when that was. */
  #read(sid: string, json: string, created: number, leftMs: number): StoredSession {
    const stored = parseJson(json);
    const { address, device } = isRecord(stored) ? stored : {};
    const now = Date.now();
    const seen = leftMs < 0 ? created : now - (this.#ttlMs - leftMs);
    return {
      sid,
      created,
      seen: Math.min(now, Math.max(created, seen)),
      ...(typeof address === "string" && { address }),
      ...(typeof device === "string" && { device }),
    };
  }
}
