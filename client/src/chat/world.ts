import type { ClientEvents, MessageFile, RoomId, ServerEvents, UserId } from "@hubbub/server/protocol";
import type { ManagerOptions, Socket, SocketOptions } from "socket.io-client";
import type { Outgoing } from "./state/outgoing.ts";

/** The environment of a ChatClient: browser.ts has a browser's, headless.ts a program's. */
export type World = {
  clock: Clock;
  /** In [0, 1), to spread waits. */
  random: () => number;
  /** As `fetch`, with the session's cookie; `path` begins with `/api`. */
  fetch: (path: string, init: RequestInit) => Promise<Response>;
  /** A connection of the same session, not yet opened. */
  connect: (options: Partial<ManagerOptions & SocketOptions>) => Wire;
  drafts: DraftStore;
  outbox: (userId: UserId) => OutboxStore;
  files: (userId: UserId) => FileStore;
  /**
   * Posts one file with the session's cookie, and tells how many of its bytes are on their way. Rejects if no answer
   * comes.
   */
  upload: (path: string, upload: Upload) => Promise<{ ok: boolean; status: number; text: string }>;
  /** Elect the leading tab, if the browser has them. */
  locks: Pick<LockManager, "request"> | undefined;
  /** Joins the channel of this name between the tabs of a browser. */
  openChannel: (name: string, heard: (word: unknown) => void) => Channel;
  /**
   * `back`: somebody looks at the page again, or the network is back. `focused`: somebody may go on typing here.
   * `leaving`: the page is left, perhaps for good. The returned function stops it.
   */
  attend: (listeners: { back: () => void; focused: () => void; leaving: () => void }) => () => void;
  /** Whether somebody is looking at the page. */
  attended: () => boolean;
  /** undefined if the page cannot show notifications. */
  desktop: Desktop | undefined;
};

export type Desktop = {
  allowed: () => "granted" | "denied" | "default";
  /** Asks the user for permission, which needs a click of theirs. */
  ask: () => Promise<void>;
  /** Shows a notification, which opens the room; the returned function closes it. */
  show: (notification: Notification) => () => void;
};

type Notification = {
  roomId: RoomId;
  title: string;
  /** What the message says, with its marks, and what was sent with it. */
  text: string;
  files?: readonly MessageFile[];
};

export type Clock = {
  /** ms from any origin, only rising. */
  now: () => number;
  /** ms since 1970. */
  date: () => number;
  /** Calls once after so many ms. The returned function cancels it. */
  after: (ms: number, go: () => void) => () => void;
};

export type Wire = Socket<ServerEvents, ClientEvents>;

export type Channel = { tell: (word: unknown) => void; close: () => void };

/**
 * Keeps a user's entries beyond the page's life. Calls take effect, and are answered, in their order; none of them
 * throws.
 */
export type OutboxStore = {
  /** null if nothing can be kept. */
  all: () => Promise<Outgoing[] | null>;
  /** False if it could not be kept; what was kept under this nonce stays then. */
  put: (entry: Outgoing) => Promise<boolean>;
  remove: (nonce: string) => Promise<void>;
  clear: () => Promise<void>;
};

/**
 * Keeps the bytes of a user's files beyond the page's life, or, where that is impossible, as long as the page. None of
 * these throws.
 */
export type FileStore = {
  put: (key: string, file: Blob) => Promise<void>;
  get: (key: string) => Promise<Blob | null>;
  keys: () => Promise<string[]>;
  remove: (keys: readonly string[]) => Promise<void>;
  clear: () => Promise<void>;
};

export type Upload = {
  headers: Record<string, string>;
  body: Blob;
  signal: AbortSignal;
  progress: (bytes: number) => void;
};

/** Storage that all tabs of a browser share. `watch` reports other tabs' changes; the returned function stops it. */
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
