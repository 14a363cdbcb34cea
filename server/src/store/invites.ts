import { randomBytes } from "node:crypto";
import { unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import { isRoomId, type Invite, type RoomId, type UserId } from "../protocol.ts";
import { defineScript, type RedisClient } from "./redis.ts";

export type StoredInvite = Omit<Invite, "url"> & { roomId: RoomId };

/** Random bytes of a code: nobody guesses one. */
const CODE_BYTES = 16;

/** Invite links to rooms. One to General lets somebody into the server alone. */
export class Invites {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #use: ReturnType<typeof defineScript>;
  readonly #add: ReturnType<typeof defineScript>;

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
    this.#use = defineScript(redis, "invite.lua");
    this.#add = defineScript(redis, "limited.lua");
  }

  /**
   * `expires` in ms; `uses`: how many people it lets in, undefined for no limit. Null if the room has `most` already; ended
   * ones count until `list` is called.
   */
  async create(
    roomId: RoomId,
    by: UserId,
    { expires, uses, most }: { expires: number; uses: number | undefined; most: number },
  ): Promise<StoredInvite | null> {
    const code = randomBytes(CODE_BYTES).toString("base64url");
    const key = this.#keys.invite(code);
    const invite = { roomId, by, created: Date.now(), expires, ...(uses !== undefined && { uses }), used: 0 };
    await this.#redis.hset(key, invite);
    await this.#redis.pexpireat(key, expires);
    if ((await this.#add([this.#keys.invites(roomId)], [code, most])) === -1) {
      await this.#redis.del(key);
      return null;
    }
    return { code, ...invite };
  }

  /** Also one that is used up; null for an unknown one and one that has expired. */
  async find(code: string): Promise<StoredInvite | null> {
    const names = ["roomId", "by", "created", "expires", "uses", "used"] as const;
    const [roomId, by, created, expires, uses, used] = await this.#redis.hmget(
      this.#keys.invite(code),
      ...names,
    );
    // What is no number lets nobody in.
    if (!isRoomId(roomId) || !by || !(Number(expires) > Date.now())) return null;
    if (uses && Number.isNaN(Number(uses))) return null;
    return {
      code,
      roomId,
      by,
      created: Number(created),
      expires: Number(expires),
      ...(uses && { uses: Number(uses) }),
      used: Number(used) || 0,
    };
  }

  /** A room's invites, newest first. */
  async list(roomId: RoomId): Promise<StoredInvite[]> {
    const codes = await this.#redis.smembers(this.#keys.invites(roomId));
    const found = await Promise.all(codes.map((code) => unlessWrongType(this.find(code), null)));
    const gone = codes.filter((_, index) => found[index] === null);
    if (gone.length > 0) await this.#redis.srem(this.#keys.invites(roomId), ...gone);
    return found.flatMap((one) => one ?? []).toSorted((one, other) => other.created - one.created);
  }

  /** Uses it for a user, and counts that once until `settle`; null if it lets nobody in any more. */
  async use(code: string, userId: UserId): Promise<"counted" | "repeated" | null> {
    const reply = await this.#use([this.#keys.invite(code)], [userId, "use"]);
    return reply === 1 ? "counted" : reply === 2 ? "repeated" : null;
  }

  /** The user has come in by it: another use counts anew. */
  async settle(code: string, userId: UserId): Promise<void> {
    await this.#use([this.#keys.invite(code)], [userId, "settle"]);
  }

  async giveBack(code: string, userId: UserId): Promise<void> {
    await this.#use([this.#keys.invite(code)], [userId, "give back"]);
  }

  async revoke({ code, roomId }: StoredInvite): Promise<void> {
    await this.#redis.del(this.#keys.invite(code));
    await this.#redis.srem(this.#keys.invites(roomId), code);
  }
}
