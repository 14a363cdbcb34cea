import type { RoomId, UserId } from "@hubbub/server/protocol";
import { io } from "socket.io-client";
import type { Outgoing } from "./state/outgoing.ts";
import { systemClock, type Desktop, type DraftStore, type OutboxStore, type World } from "./world.ts";

const TOLD_MOST = 200;

/** The World of this browser. `open` shows a room, `plain` takes the marks from a text. */
export function browserWorld(open: (roomId: RoomId) => void, plain: (text: string) => string): World {
  return {
    clock: systemClock,
    random: Math.random,
    fetch: (path, init) => fetch(path, { ...init, credentials: "same-origin", cache: "no-store" }),
    connect: (options) => io({ ...options, withCredentials: true }),
    drafts: openDraftStore(),
    outbox: openOutboxStore,
    locks: (navigator as Partial<Navigator>).locks,
    openChannel(name, heard) {
      const channel = new BroadcastChannel(name);
      channel.addEventListener("message", ({ data }) => heard(data));
      return {
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel has no origin to aim at
        tell: (word) => channel.postMessage(word),
        close: () => channel.close(),
      };
    },
    attend({ back, focused, leaving }) {
      const over = new AbortController();
      const { signal } = over;
      const look = () => {
        if (document.visibilityState === "visible") back();
      };
      addEventListener("online", look, { signal });
      document.addEventListener("visibilitychange", look, { signal });
      addEventListener("focus", focused, { signal });
      addEventListener("pageshow", focused, { signal });
      addEventListener("pagehide", leaving, { signal });
      return () => over.abort();
    },
    attended: () => document.visibilityState === "visible" && document.hasFocus(),
    desktop: "Notification" in globalThis ? openDesktop(open, plain) : undefined,
  };
}

function openDesktop(open: (roomId: RoomId) => void, plain: (text: string) => string): Desktop {
  return {
    allowed: () => Notification.permission,
    async ask() {
      await Notification.requestPermission();
    },
    show({ roomId, title, text }) {
      // Browsers of phones have the constructor, but it throws.
      const body = plain(text).slice(0, TOLD_MOST);
      const shown = attempt(() => new Notification(title, { body, tag: roomId, icon: "/favicon.svg" }));
      shown?.addEventListener("click", () => {
        window.focus();
        open(roomId);
        shown.close();
      });
      return () => shown?.close();
    },
  };
}

/** This browser's storage; without any, drafts are not kept. */
function openDraftStore(): DraftStore {
  return {
    keys: () => attempt(() => Object.keys(localStorage)) ?? [],
    get: (key) => attempt(() => localStorage.getItem(key)) ?? null,
    set: (key, value) => localStorage.setItem(key, value),
    remove(key) {
      attempt(() => localStorage.removeItem(key));
    },
    watch(changed) {
      const listen = ({ key, storageArea }: StorageEvent) => {
        if (key !== null && storageArea === attempt(() => localStorage)) changed(key);
      };
      addEventListener("storage", listen);
      return () => removeEventListener("storage", listen);
    },
  };
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/**
 * A user's entries in IndexedDB. Without it (private windows of some browsers) they live as long as the page.
 */
function openOutboxStore(userId: UserId): OutboxStore {
  const opening = openDatabase().catch(() => null);
  async function request<T>(
    mode: IDBTransactionMode,
    make: (store: IDBObjectStore) => IDBRequest<T>,
  ): Promise<T | null> {
    const database = await opening;
    if (database === null) return null;
    // A browser may close a database by itself, and then a transaction throws.
    return new Promise<T | null>((resolve) => {
      const made = make(database.transaction("outgoing", mode).objectStore("outgoing"));
      made.addEventListener("success", () => resolve(made.result));
      made.addEventListener("error", () => resolve(null));
    }).catch(() => null);
  }
  const mine = IDBKeyRange.bound([userId], [userId, []]);
  type Row = { user: UserId; nonce: string; entry: Outgoing };
  return {
    async all() {
      const rows = await request<Row[]>("readonly", (store) => store.getAll(mine));
      return rows?.map((row) => row.entry) ?? null;
    },
    async put(entry) {
      await request("readwrite", (store) =>
        store.put({ user: userId, nonce: entry.nonce, entry } satisfies Row),
      );
    },
    async remove(nonce) {
      await request("readwrite", (store) => store.delete([userId, nonce]));
    },
    async clear() {
      await request("readwrite", (store) => store.delete(mine));
    },
  };
}

function openDatabase(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("hubbub", 1);
    opening.addEventListener("upgradeneeded", () =>
      opening.result.createObjectStore("outgoing", { keyPath: ["user", "nonce"] }),
    );
    opening.addEventListener("success", () => resolve(opening.result));
    opening.addEventListener("error", () => reject(opening.error ?? new Error("IndexedDB cannot be opened")));
  });
}
