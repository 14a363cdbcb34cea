import type { UserId } from "@hubbub/server/protocol";
import { io } from "socket.io-client";
import type { Outgoing } from "./state/outgoing.ts";
import {
  systemClock,
  type DraftStore,
  type FileStore,
  type OutboxStore,
  type Wire,
  type World,
} from "./world.ts";

/** What the tabs of one browser share, and what is kept while it is closed. */
export type Profile = ReturnType<typeof createProfile>;

export function createProfile() {
  const cookies = new Map<string, string>();
  const drafts = new Map<string, string>();
  const watchers = new Set<(key: string) => void>();
  const outboxes = new Map<UserId, Map<string, Outgoing>>();
  const files = new Map<UserId, Map<string, Blob>>();
  const channels = new Map<string, Set<(word: unknown) => void>>();

  return {
    drafts,
    outboxes,
    files,
    locks: createLocks(),

    cookie: () => [...cookies].map(([name, value]) => `${name}=${value}`).join("; "),

    takeCookies(headers: Headers): void {
      for (const line of headers.getSetCookie()) {
        const [pair = ""] = line.split(";");
        const at = pair.indexOf("=");
        cookies.set(pair.slice(0, at), pair.slice(at + 1));
      }
    },

    openDrafts(): DraftStore {
      let own: ((key: string) => void) | undefined;
      const tell = (key: string) => {
        for (const other of watchers) if (other !== own) other(key);
      };
      return {
        keys: () => [...drafts.keys()],
        get: (key) => drafts.get(key) ?? null,
        set(key, value) {
          drafts.set(key, value);
          tell(key);
        },
        remove(key) {
          if (drafts.delete(key)) tell(key);
        },
        watch(changed) {
          own = changed;
          watchers.add(changed);
          return () => watchers.delete(changed);
        },
      };
    },

    openOutbox(userId: UserId): OutboxStore {
      const kept = outboxes.get(userId) ?? new Map<string, Outgoing>();
      outboxes.set(userId, kept);
      return {
        all: async () => [...kept.values()],
        async put(entry) {
          kept.set(entry.nonce, entry);
          return true;
        },
        remove: async (nonce) => void kept.delete(nonce),
        clear: async () => kept.clear(),
      };
    },

    openFiles(userId: UserId): FileStore {
      const kept = files.get(userId) ?? new Map<string, Blob>();
      files.set(userId, kept);
      return {
        put: async (key, file) => void kept.set(key, file),
        get: async (key) => kept.get(key) ?? null,
        keys: async () => [...kept.keys()],
        async remove(keys) {
          for (const key of keys) kept.delete(key);
        },
        clear: async () => kept.clear(),
      };
    },

    openChannel(name: string, heard: (word: unknown) => void) {
      const all = channels.get(name) ?? new Set();
      channels.set(name, all.add(heard));
      return {
        tell(word: unknown) {
          for (const other of all) if (other !== heard) queueMicrotask(() => all.has(other) && other(word));
        },
        close: () => void all.delete(heard),
      };
    },
  };
}

/** One lock, as the Web Locks API grants it. */
export function createLocks(): NonNullable<World["locks"]> {
  type Place = { take: () => void; lose: () => void };
  let holder: Place | null = null;
  let line: Place[] = [];

  function grant() {
    if (holder !== null) return;
    [holder = null, ...line] = line;
    holder?.take();
  }

  function request(_name: string, { steal, signal }: LockOptions, taken: () => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const place: Place = {
        lose: () => reject(new DOMException("Somebody else has it.", "AbortError")),
        take: () => void hold(),
      };
      async function hold() {
        resolve(await Promise.resolve().then(taken));
        if (holder !== place) return;
        holder = null;
        grant();
      }
      signal?.addEventListener("abort", () => {
        if (!line.includes(place)) return;
        line = line.filter((other) => other !== place);
        place.lose();
      });
      if (steal === true) holder?.lose();
      line = steal === true ? [place, ...line] : [...line, place];
      if (steal === true) holder = null;
      grant();
    });
  }

  return { request } as NonNullable<World["locks"]>;
}

/** The World of a ChatClient without a browser: at a replica's address, as a tab of this profile that is always looked at. */
export function headlessWorld(
  address: string,
  profile: Profile,
): World & { wire: () => Wire | undefined; back: () => void; leave: () => void } {
  let wire: Wire | undefined;
  const attending = new Set<{ back: () => void; leaving: () => void }>();
  return {
    clock: systemClock,
    random: Math.random,
    async fetch(path, init) {
      const headers = {
        ...(init.headers as Record<string, string>),
        origin: address,
        cookie: profile.cookie(),
      };
      const response = await fetch(`${address}${path}`, { ...init, headers });
      profile.takeCookies(response.headers);
      return response;
    },
    connect(options) {
      // As a browser, it sends the cookie of the moment with each attempt.
      const extraHeaders = {
        get cookie() {
          return profile.cookie();
        },
        origin: address,
      };
      wire = io(address, { ...options, forceNew: true, extraHeaders });
      return wire;
    },
    drafts: profile.openDrafts(),
    outbox: (userId) => profile.openOutbox(userId),
    files: (userId) => profile.openFiles(userId),
    async upload(path, { headers, body, signal, progress }) {
      const own = { ...headers, origin: address, cookie: profile.cookie() };
      const response = await fetch(`${address}${path}`, { method: "POST", body, signal, headers: own });
      progress(body.size);
      return { ok: response.ok, status: response.status, text: await response.text() };
    },
    locks: profile.locks,
    openChannel: (channel, heard) => profile.openChannel(channel, heard),
    attended: () => true,
    desktop: undefined,
    attend(listeners) {
      attending.add(listeners);
      return () => attending.delete(listeners);
    },
    /** The connection of the last sign-in, for tests to break. */
    wire: () => wire,
    /** Somebody looks at the tab again. */
    back() {
      for (const { back } of attending) back();
    },
    /** The page is left. */
    leave() {
      for (const { leaving } of attending) leaving();
    },
  };
}
