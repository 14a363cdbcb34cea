import { ChatError, unlessWrongType } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import { type AuditEntry, type NewReport, type Report, type RoomId, type User } from "../protocol.ts";
import type { Audit } from "../store/audit.ts";
import { withField, type Json } from "../store/json.ts";
import type { Log } from "../store/log.ts";
import type { ReportPlace, Reports } from "../store/reports.ts";
import type { ChatRooms } from "./rooms.ts";
import type { Users } from "./users.ts";

/** A page of reports, each as JSON; how many were looked at for it; and how many were read to put them in order. */
type ReportPage = { found: Json[]; looked: number; sorted: number };

type Parts = { rooms: ChatRooms; users: Users; log: Log; reports: Reports; audit: Audit };

/** What people report to moderators, and what moderators have done. */
export class ChatReports {
  readonly #rooms: ChatRooms;
  readonly #users: Users;
  readonly #log: Log;
  readonly #reports: Reports;
  readonly #audit: Audit;

  constructor({ rooms, users, log, reports, audit }: Parts) {
    this.#rooms = rooms;
    this.#users = users;
    this.#log = log;
    this.#reports = reports;
    this.#audit = audit;
  }

  /** Reports a message to the moderators of its room. Throws `not_found`. */
  async add(user: User, { roomId, seq, reason = "" }: NewReport): Promise<void> {
    await this.#rooms.demand(user, roomId, "report");
    if ((await this.#log.pages.at(roomId, seq)) === null)
      throw new ChatError("not_found", "There is no such message.");
    await this.#reports.add(roomId, seq, user.id, reason);
  }

  /** The reports of a room after a cursor, for its moderators: open ones first, then newest first. */
  async ofRoom(user: User, roomId: RoomId, cursor: string | undefined, size: number): Promise<ReportPage> {
    await this.#rooms.demand(user, roomId, "review");
    return this.#page(roomId, cursor, size);
  }

  /**
   * The open reports of all rooms after a cursor, newest first, for admins, who can read what is reported in private
   * rooms no other way.
   */
  async all(user: User, cursor: string | undefined, size: number): Promise<ReportPage> {
    await this.demandAdmin(user);
    return this.#page(null, cursor, size);
  }

  /** Says that a report was looked at, or does nothing if somebody has. Throws `not_found`, `forbidden`. */
  async close(user: User, roomId: RoomId, seq: number): Promise<void> {
    const demandRight = async () => {
      if ((await this.#users.roleNow(user.id)) === "user") await this.#rooms.demand(user, roomId, "review");
    };
    // Before the report is read: who has no right must not learn which messages were reported.
    await demandRight();
    const report = await this.#reports.find(roomId, seq);
    if (report === null) throw new ChatError("not_found", "There is no such report.");
    // Whoever closed it may not have come to the end.
    if (report.state === "done") return this.#reports.close(report);
    const note = { by: user.id, what: "review", roomId: report.roomId, seq: report.seq };
    await this.#audit.noted(note, async (begin) => {
      await begin();
      // The right may be lost by now.
      await demandRight();
      await this.#reports.close(report);
    });
  }

  /** What happened in a room, for its moderators; newest first. */
  async auditOfRoom(
    user: User,
    roomId: RoomId,
    before: string | undefined,
    size: number,
  ): Promise<AuditEntry[]> {
    await this.#rooms.demand(user, roomId, "review");
    return this.#audit.list(roomId, before, size);
  }

  /** What happened on the server, for admins. */
  async auditOfAll(user: User, before: string | undefined, size: number): Promise<AuditEntry[]> {
    await this.demandAdmin(user);
    return this.#audit.list(null, before, size);
  }

  /** Throws `not_found`, as for anything that does not exist, to whom the server is not to administer. */
  async demandAdmin(user: User): Promise<void> {
    if ((await this.#users.roleNow(user.id)) === "user")
      throw new ChatError("not_found", "There is nothing here.");
  }

  /** Fills a page with what can be shown. A report whose message is gone takes no place on it, and is dropped. */
  async #page(roomId: RoomId | null, cursor: string | undefined, size: number): Promise<ReportPage> {
    const [places, sorted] = await Promise.all([
      this.#reports.list(roomId, cursor),
      this.#reports.count(roomId),
    ]);
    const found: Json[] = [];
    let looked = 0;
    while (found.length < size && looked < places.length) {
      const most = Math.min(BOUNDS.messagesAtOnce.value, size - found.length);
      const some = places.slice(looked, looked + most);
      looked += some.length;
      // A room that somebody has damaged keeps nobody from the reports of all others.
      const described = some.map((place) => unlessWrongType(this.#described(place), []));
      found.push(...(await Promise.all(described)).flat());
    }
    return { found, looked, sorted };
  }

  async #described({ roomId, seq, cursor }: ReportPlace): Promise<Json[]> {
    const [report, row] = await Promise.all([
      this.#reports.find(roomId, seq),
      this.#log.pages.rowAt(roomId, seq),
    ]);
    if (row === null) await this.#reports.drop(roomId, seq);
    if (row === null || report === null) return [];
    return [withField({ ...report, cursor }, "message" satisfies keyof Report, row)];
  }
}
