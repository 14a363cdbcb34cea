import type { Keys } from "../keys.ts";
import { isRoomId, type RoomId, type StoredReport, type UserId } from "../protocol.ts";
import { isRecord, parseJson } from "./json.ts";
import { defineScript, type RedisClient } from "./redis.ts";

/** Where a report stands in a list: open ones first, and of each state the newest first. */
type Place = Pick<StoredReport, "state" | "at" | "id">;

/** A report in a list, not yet read; `cursor` asks for what stands after it, also once its state is another. */
export type ReportPlace = { roomId: RoomId; seq: number; cursor: string };

/** `<state>/<at>/<id>` */
export const REPORT_CURSOR = /^(open|done)\/(\d{1,16})\/([\d:]{1,32}\/\d{1,16})$/;

/** Reported messages, by room: one report for a message, however many users report it. */
export class Reports {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #set: ReturnType<typeof defineScript>;

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
    this.#set = defineScript(redis, "fields.lua");
  }

  /** Adds a report; one of a message that was looked at before is open again. The first reason stays. */
  async add(roomId: RoomId, seq: number, by: UserId, reason: string): Promise<void> {
    await this.#change(roomId, seq, (report) =>
      report?.state === "open" ? report : { by, at: Date.now(), state: "open", ...(reason && { reason }) },
    );
  }

  /** How many reports a room has, or with null how many are open in all rooms. */
  count(roomId: RoomId | null): Promise<number> {
    const { reports, openReports } = this.#keys;
    return roomId === null ? this.#redis.zcard(openReports) : this.#redis.hlen(reports(roomId));
  }

  /** All reports of a room, or with null the open ones of all rooms: those after a cursor, which matches REPORT_CURSOR. */
  async list(roomId: RoomId | null, cursor?: string): Promise<ReportPlace[]> {
    const [, state, at, id = ""] = REPORT_CURSOR.exec(cursor ?? "") ?? [];
    const after: Place | null = state
      ? { state: state === "done" ? "done" : "open", at: Number(at), id }
      : null;
    const places = await (roomId === null ? this.#openPlaces() : this.#placesIn(roomId));
    return places
      .filter((one) => after === null || compare(after, one) < 0)
      .toSorted(compare)
      .flatMap((one) => {
        const [room = "", seq = ""] = one.id.split("/", 2);
        const found = `${one.state}/${one.at}/${one.id}`;
        return isRoomId(room) ? [{ roomId: room, seq: Number(seq), cursor: found }] : [];
      });
  }

  async #placesIn(roomId: RoomId): Promise<Place[]> {
    const stored = await this.#redis.hgetall(this.#keys.reports(roomId));
    return Object.entries(stored).flatMap(([seq, text]) => {
      const report = reportOf(text);
      return report ? [{ state: report.state, at: report.at, id: `${roomId}/${seq}` }] : [];
    });
  }

  async #openPlaces(): Promise<Place[]> {
    const stored = await this.#redis.zrange(this.#keys.openReports, 0, "-1", "WITHSCORES");
    const places: Place[] = [];
    for (let index = 0; index < stored.length; index += 2)
      places.push({ state: "open", at: momentOf(Number(stored[index + 1])), id: stored[index] ?? "" });
    return places;
  }

  /** The report of a message; null if there is none. */
  async find(roomId: RoomId, seq: number): Promise<StoredReport | null> {
    const report = reportOf(await this.#redis.hget(this.#keys.reports(roomId), String(seq)));
    return report && { id: `${roomId}/${seq}`, roomId, seq, ...report };
  }

  /** Forgets the report of a message that is gone: nobody can report that one again. */
  async drop(roomId: RoomId, seq: number): Promise<void> {
    await this.#redis.zrem(this.#keys.openReports, `${roomId}/${seq}`);
    await this.#redis.hdel(this.#keys.reports(roomId), String(seq));
  }

  /** Closes a report, unless it was made anew since it was read. */
  async close({ roomId, seq, at }: StoredReport): Promise<void> {
    await this.#change(
      roomId,
      seq,
      (report) => report && { ...report, ...(report.at === at && { state: "done" }) },
    );
  }

  /** Stores what is decided of a report, once more if another has changed it meanwhile, and lists it if it is open. */
  async #change(roomId: RoomId, seq: number, decide: (report: Told | null) => Told | null): Promise<void> {
    const key = this.#keys.reports(roomId);
    for (;;) {
      const stored = await this.#redis.hget(key, String(seq));
      const report = decide(reportOf(stored));
      if (report === null) break;
      const json = JSON.stringify(report);
      if (json === stored || (await this.#set([key, key], [seq, stored ?? "", 1, seq, json])) !== -1) break;
    }
    const { openReports } = this.#keys;
    const id = `${roomId}/${seq}`;
    // Another may write the list by what it read before.
    for (let listed: string | null | undefined; ;) {
      const stored = await this.#redis.hget(key, String(seq));
      if (stored === listed) return;
      const report = reportOf(stored);
      if (report?.state === "open") await this.#redis.zadd(openReports, report.at, id);
      else await this.#redis.zrem(openReports, id);
      listed = stored;
    }
  }
}

type Told = Omit<StoredReport, "id" | "roomId" | "seq">;

function reportOf(text: string | null): Told | null {
  const value = text === null ? null : parseJson(text);
  if (!isRecord(value)) return null;
  const { by, at, reason, state } = value;
  return {
    by: typeof by === "string" ? by : "",
    at: momentOf(at),
    state: state === "done" ? "done" : "open",
    ...(typeof reason === "string" && { reason }),
  };
}

/** Milliseconds since 1970; 0 for what is none. */
function momentOf(value: unknown): number {
  const at = Math.trunc(Number(value));
  return Number.isSafeInteger(at) && at > 0 ? at : 0;
}

function compare(one: Place, other: Place): number {
  if (one.state !== other.state) return one.state === "open" ? -1 : 1;
  if (one.at !== other.at) return other.at - one.at;
  return other.id.localeCompare(one.id, "en", { numeric: true });
}
