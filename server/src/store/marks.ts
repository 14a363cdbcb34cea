import { redisWords, wordsOf } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { Finding } from "./checks.ts";
import type { RedisClient } from "./redis.ts";
import { SCHEMA, readSchema, type Schema } from "./schema.ts";
import type { Settings } from "./settings.ts";

type Parts = {
  redis: RedisClient;
  keys: Keys;
  schema: Schema;
  settings: Settings;
  /** The secret that signs cookies, if Redis keeps it. */
  secret: string | undefined;
};

/**
 * What a server has read at its start and keeps: if Redis is emptied while it runs, servers that start later would read
 * something else, and would not agree with it.
 */
export class Marks {
  readonly #parts: Parts;
  #isLost = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Puts back what Redis has lost, as long as nobody else has, and says so until this server ends. */
  async check(): Promise<Finding[]> {
    const { redis, keys, schema, settings, secret } = this.#parts;
    const found: Finding[] = [];
    const version = String(schema.mixed ? SCHEMA - 1 : SCHEMA);
    if ((await this.#keep(keys.schema, version)) !== version)
      await readSchema(redis, keys).catch((error: unknown) => {
        if (redisWords(error) !== undefined) throw error;
        found.push({
          level: "refuse",
          about: "schema",
          says: wordsOf(error),
          cure: "then start all servers anew",
        });
      });
    if (secret !== undefined && (await this.#keep(keys.sessionSecret, secret)) !== secret)
      found.push({
        level: "warn",
        about: "session_secret",
        says: "Redis keeps another secret than this server signs cookies with: some servers refuse the log-ins of others",
        cure: "start all servers anew",
      });
    await settings.keep();
    if (await settings.hasLostOwner()) this.#isLost = true;
    if (this.#isLost)
      found.push({
        level: "warn",
        about: "lost data",
        says: "Redis has lost its data while this server ran: nobody becomes its owner by signing up until it is started anew",
        cure: "stop all servers, empty Redis, restore a backup (docs/backup.md), and start them",
      });
    return found;
  }

  /** What Redis has there: from now on this, if it had nothing. */
  async #keep(key: string, value: string): Promise<string | null> {
    const { redis } = this.#parts;
    const stored = await redis.get(key);
    if (stored !== null) return stored;
    this.#isLost = true;
    await redis.set(key, value, "NX");
    return redis.get(key);
  }
}
