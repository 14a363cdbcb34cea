import type { ClientEvents, RoomId, ServerEvents, UserId } from "@hubbub/server/protocol";
import type { ManagerOptions, Socket, SocketOptions } from "socket.io-client";
import type { Outgoing } from "./state/outgoing.ts";

/** What a ChatClient is given by the place where it runs: browser.ts has a browser's, headless.ts a program's. */
export type World = {
  clock: Clock;
  /** In [0, 1), for waits that are not to be everybody's. */
  random: () => number;
  /** As `fetch`, with the session's cookie; `path` begins with `/api`. */
  fetch: (path: string, init: RequestInit) => Promise<Response>;
  /** A connection of the same session that has not been opened yet. */
  connect: (options: Partial<ManagerOptions & SocketOptions>) => Wire;
  drafts: DraftStore;
  outbox: (userId: UserId) => OutboxStore;
  /** Who leads among tabs. Without locks every tab leads. */
  locks: Pick<LockManager, "request"> | undefined;
  /** Joins what the tabs of a browser say to each other under a name. */
  openChannel: (name: string, heard: (word: unknown) => void) => Channel;
  /**
   * `back`: somebody looks at the page again, or there is a network again. `focused`: somebody may go on typing here.
   * `leaving`: the page is left, for good perhaps. Ends when its answer is called.
   */
  attend: (listeners: { back: () => void; focused: () => void; leaving: () => void }) => () => void;
  /** Whether somebody looks at the page now. */
  attended: () => boolean;
  /** undefined where nothing can be shown beside the page. */
  desktop: Desktop | undefined;
};

export type Desktop = {
  allowed: () => "granted" | "denied" | "default";
  /** Asks the user, who must have asked for it. */
  ask: () => Promise<void>;
  /** Shows a notification, which opens the room, and answers what takes it back. */
  show: (notification: { roomId: RoomId; title: string; text: string }) => () => void;
};

export type Clock = {
  /** ms, from any point, that rise. */
  now: () => number;
  /** ms since 1970. */
  date: () => number;
  /** Calls once, so many ms later. Ends when its answer is called. */
  after: (ms: number, go: () => void) => () => void;
};

export type Wire = Socket<ServerEvents, ClientEvents>;

export type Channel = { tell: (word: unknown) => void; close: () => void };

/** Where a user's entries outlive the page. Writes take effect in the order of the calls; none of them throws. */
export type OutboxStore = {
  /** null where nothing can be kept. */
  all: () => Promise<Outgoing[] | null>;
  put: (entry: Outgoing) => Promise<void>;
  remove: (nonce: string) => Promise<void>;
  clear: () => Promise<void>;
};

/** What all tabs of a browser share. `watch` tells of what other tabs change, and stops when its answer is called. */
export type DraftStore = {
  keys: () => string[];
  get: (key: string) => string | null;
  set: (key: string, value: string) => void;
  remove: (key: string) => void;
  watch: (changed: (key: string) => void) => () => void;
};

export const systemClock: Clock = {
  now: () => performance.now(),
  date: () => Date.now(),
  after(ms, go) {
    const timer = setTimeout(go, ms);
    return () => clearTimeout(timer);
  },
};
