import type { Metrics } from "../metrics.ts";
import type { Presence } from "../live/presence.ts";
import type { Log } from "../store/log.ts";
import type { Members } from "../store/members.ts";
import type { Rooms } from "../store/rooms.ts";
import type { Accounts } from "./accounts.ts";
import { ChatMessages } from "./messages.ts";
import { Moderation } from "./moderation.ts";
import { People } from "./people.ts";
import { ChatRooms, type Announcer } from "./rooms.ts";
import type { Users } from "./users.ts";

/** What a user may do, by what they do it with. Checks, stores, announces; knows no door. */
export class Chat {
  readonly users: Users;
  readonly accounts: Accounts;
  readonly presence: Presence;
  readonly people: People;
  readonly rooms: ChatRooms;
  readonly messages: ChatMessages;
  readonly moderation: Moderation;

  constructor(parts: {
    users: Users;
    accounts: Accounts;
    rooms: Rooms;
    members: Members;
    messages: Log;
    presence: Presence;
    announce: Announcer;
    metrics: Metrics;
  }) {
    const { users, members, messages: log, presence, announce, metrics } = parts;
    this.users = users;
    this.accounts = parts.accounts;
    this.presence = presence;
    this.people = new People(users, presence);
    this.rooms = new ChatRooms({ rooms: parts.rooms, members, log, users, announce });
    this.moderation = new Moderation({ rooms: this.rooms, members, users, announce });
    this.messages = new ChatMessages({ rooms: this.rooms, members, log, users, announce, metrics });
  }
}
