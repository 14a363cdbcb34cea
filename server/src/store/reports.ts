import type { Keys } from "../keys.ts";
import { isRoomId, type RoomId, type StoredReport, type UserId } from "../protocol.ts";
import { isRecord, parseJson } from "./json.ts";
import type { RedisClient } from "./redis.ts";

/** Reported messages, by room: one report for a message, however many users report it. */
export class Reports {
  readonly #redis: RedisClient;
  readonly #keys: Keys;

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Adds a report; one of a message that was looked at before is open again. The first reason stays. */
  async add(roomId: RoomId, seq: number, by: UserId, reason: string): Promise<void> {
    const key = this.#keys.reports(roomId);
    const before = reportOf(await this.#redis.hget(key, String(seq)));
    const report =
      before?.state === "open" ? before : { by, at: Date.now(), state: "open", ...(reason && { reason }) };
    await this.#redis.hset(key, String(seq), JSON.stringify(report));
    await this.#redis.zadd(this.#keys.openReports, String(report.at), `${roomId}/${seq}`);
  }

  /** The reports of a room, or the open ones of all, newest first. */
  async list(roomId: RoomId | null, size: number): Promise<StoredReport[]> {
    if (roomId === null) {
      const ids = await this.#redis.zrevrange(this.#keys.openReports, 0, size - 1);
      const found = await Promise.all(ids.map((id) => this.#findBy(id)));
      return found.flatMap((one) => (one?.state === "open" ? [one] : []));
    }
    const stored = await this.#redis.hgetall(this.#keys.reports(roomId));
    return Object.entries(stored)
      .flatMap(([seq, text]) => {
        const report = reportOf(text);
        return report ? [{ id: `${roomId}/${seq}`, roomId, seq: Number(seq), ...report }] : [];
      })
      .toSorted((one, other) => other.at - one.at)
      .slice(0, size);
  }

  /** The report of a message; null if there is none. */
  async find(roomId: RoomId, seq: number): Promise<StoredReport | null> {
    const report = reportOf(await this.#redis.hget(this.#keys.reports(roomId), String(seq)));
    return report && { id: `${roomId}/${seq}`, roomId, seq, ...report };
  }

  async #findBy(id: string): Promise<StoredReport | null> {
    const [roomId = "", seq = ""] = id.split("/", 2);
    return isRoomId(roomId) ? this.find(roomId, Number(seq)) : null;
  }

  async close({ id, roomId, seq, ...report }: StoredReport): Promise<void> {
    const done = JSON.stringify({ ...report, state: "done" });
    await this.#redis.hset(this.#keys.reports(roomId), String(seq), done);
    await this.#redis.zrem(this.#keys.openReports, id);
    // Somebody may have reported it again meanwhile.
    const again = await this.find(roomId, seq);
    if (again?.state === "open") await this.#redis.zadd(this.#keys.openReports, String(again.at), id);
  }
}

function reportOf(text: string | null): Omit<StoredReport, "id" | "roomId" | "seq"> | null {
  const value = text === null ? null : parseJson(text);
  if (!isRecord(value)) return null;
  const { by, at, reason, state } = value;
  return {
    by: typeof by === "string" ? by : "",
    at: Number(at),
    state: state === "done" ? "done" : "open",
    ...(typeof reason === "string" && { reason }),
  };
}
