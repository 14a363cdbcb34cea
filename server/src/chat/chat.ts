import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { Metrics } from "../metrics.ts";
import type { RoomId, UserId } from "../protocol.ts";
import type { Presence } from "../live/presence.ts";
import type { Audit } from "../store/audit.ts";
import type { Invites } from "../store/invites.ts";
import type { Log } from "../store/log.ts";
import type { Members } from "../store/members.ts";
import type { Reports } from "../store/reports.ts";
import type { Rooms } from "../store/rooms.ts";
import type { SessionList } from "../store/sessions.ts";
import type { Settings } from "../store/settings.ts";
import type { Staff } from "../store/staff.ts";
import { Accounts } from "./accounts.ts";
import { Admin } from "./admin.ts";
import type { Blobs } from "../store/blobs.ts";
import type { Files } from "../store/files.ts";
import type { Collector } from "./collector.ts";
import { ChatFiles } from "./files.ts";
import type { Images } from "./images.ts";
import { ChatInvites } from "./invites.ts";
import { ChatMessages } from "./messages.ts";
import { Moderation } from "./moderation.ts";
import { People } from "./people.ts";
import { ChatReports } from "./reports.ts";
import { ChatRooms, type Announcer } from "./rooms.ts";
import type { Users } from "./users.ts";

/** What a user may do, by what they do it with. Checks, stores, announces; knows no door. */
export class Chat {
  readonly users: Users;
  readonly accounts: Accounts;
  readonly admin: Admin;
  readonly presence: Presence;
  readonly people: People;
  readonly rooms: ChatRooms;
  readonly files: ChatFiles;
  readonly messages: ChatMessages;
  readonly moderation: Moderation;
  readonly invites: ChatInvites;
  readonly reports: ChatReports;

  constructor(parts: {
    users: Users;
    staff: Staff;
    settings: Settings;
    sessions: SessionList;
    rooms: Rooms;
    members: Members;
    messages: Log;
    files: Files;
    blobs: Blobs;
    images: Images;
    collector: Pick<Collector, "remove" | "noteUsed">;
    invites: Invites;
    reports: Reports;
    audit: Audit;
    presence: Presence;
    announce: Announcer;
    /** Tells every replica to look at this account again. May get lost. */
    changed: (userId: UserId) => Promise<void>;
    config: Config;
    metrics: Metrics;
    log: Logger;
  }) {
    const { users, settings, members, messages: log, audit, presence, announce, metrics } = parts;
    this.users = users;
    this.presence = presence;
    this.people = new People(users, presence);
    const tellDamage = (roomId: RoomId) =>
      parts.log.error({ roomId }, "a room cannot be read: one of its keys has a wrong type");
    this.rooms = new ChatRooms({ rooms: parts.rooms, members, log, users, announce, audit, tellDamage });
    const rooms = this.rooms;
    const { files, blobs, images, collector, config } = parts;
    this.files = new ChatFiles({
      config: config.files,
      files,
      blobs,
      images,
      collector,
      rooms,
      users,
      metrics,
      log: parts.log,
    });
    this.messages = new ChatMessages({
      rooms,
      files: this.files,
      members,
      log,
      users,
      announce,
      metrics,
      audit,
      settings,
    });
    this.moderation = new Moderation({ rooms, members, users, announce, audit });
    this.invites = new ChatInvites({ rooms, users, invites: parts.invites, audit });
    this.reports = new ChatReports({ rooms, users, log, reports: parts.reports, audit });
    this.accounts = new Accounts({ ...parts, invites: this.invites, files: this.files });
    this.admin = new Admin({ ...parts, rooms, accounts: this.accounts, people: this.people });
  }
}
