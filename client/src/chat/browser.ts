import type { Message, RoomId, UserId } from "@hubbub/server/protocol";
import { io } from "socket.io-client";
import { cut } from "./cut.ts";
import type { Outgoing } from "./state/outgoing.ts";
import {
  systemClock,
  type Desktop,
  type DraftStore,
  type FileStore,
  type OutboxStore,
  type Upload,
  type World,
} from "./world.ts";

const TOLD_MOST = 200;
/** Some browsers never say whether a database can be opened: then it counts as impossible. */
const OPENED_WITHIN_MS = 5_000;

type Said = (message: Pick<Message, "message" | "files">) => string;

/** The World of this browser. `open` shows a room, `said` tells what a message says, without marks. */
export function browserWorld(open: (roomId: RoomId) => void, said: Said): World {
  return {
    clock: systemClock,
    random: Math.random,
    fetch: (path, init) => fetch(path, { ...init, credentials: "same-origin", cache: "no-store" }),
    connect: (options) => io({ ...options, withCredentials: true }),
    drafts: openDraftStore(),
    outbox: openOutboxStore,
    files: openFileStore,
    upload,
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
    desktop: "Notification" in globalThis ? openDesktop(open, said) : undefined,
  };
}

function openDesktop(open: (roomId: RoomId) => void, said: Said): Desktop {
  return {
    allowed: () => Notification.permission,
    async ask() {
      await Notification.requestPermission();
    },
    show({ roomId, title, text, files }) {
      // Browsers of phones have the constructor, but it throws.
      const body = cut(said({ message: text, ...(files && { files: [...files] }) }), TOLD_MOST);
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

/** `fetch` does not tell how far it is. */
function upload(path: string, { headers, body, signal, progress }: Upload) {
  return new Promise<{ ok: boolean; status: number; text: string }>((resolve, reject) => {
    const request = new XMLHttpRequest();
    const fail = () => reject(new Error("No answer came"));
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", ({ loaded }) => progress(loaded));
    request.addEventListener("load", () => {
      const { status, responseText } = request;
      resolve({ ok: status >= 200 && status < 300, status, text: responseText });
    });
    request.addEventListener("error", fail);
    request.addEventListener("abort", fail);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    if (signal.aborted) fail();
    else request.send(body);
  });
}

/**
 * A user's entries in IndexedDB. Without it (private windows of some browsers) they live as long as the page.
 */
function openOutboxStore(userId: UserId): OutboxStore {
  type Row = { user: UserId; nonce: string; entry: Outgoing };
  const { request, mine } = openTable<Row>("hubbub", "outgoing", "nonce", userId);
  return {
    async all() {
      const rows = await request<Row[]>("readonly", (store) => store.getAll(mine));
      return rows?.map((row) => row.entry) ?? null;
    },
    async put(entry) {
      const row = { user: userId, nonce: entry.nonce, entry } satisfies Row;
      return (await request("readwrite", (store) => store.put(row))) !== null;
    },
    async remove(nonce) {
      await request("readwrite", (store) => store.delete([userId, nonce]));
    },
    async clear() {
      await request("readwrite", (store) => store.delete(mine));
    },
  };
}

/** The same for files, in a database of their own: a version of the page that does not know them need not close it. */
function openFileStore(userId: UserId): FileStore {
  type Row = { user: UserId; key: string; file: Blob };
  const { request, mine } = openTable<Row>("hubbub files", "files", "key", userId);
  /** What is not in the database, or not yet: it may be too large for it. */
  const held = new Map<string, Blob>();
  return {
    async put(key, file) {
      held.set(key, file);
      const row = { user: userId, key, file } satisfies Row;
      if ((await request("readwrite", (store) => store.put(row))) !== null) held.delete(key);
    },
    async get(key) {
      const row = await request<Row | undefined>("readonly", (store) => store.get([userId, key]));
      return row?.file ?? held.get(key) ?? null;
    },
    async keys() {
      const found = (await request("readonly", (store) => store.getAllKeys(mine))) ?? [];
      return [...held.keys(), ...found.map((key) => (key as [UserId, string])[1])];
    },
    async remove(keys) {
      for (const key of keys) held.delete(key);
      await Promise.all(keys.map((key) => request("readwrite", (store) => store.delete([userId, key]))));
    },
    async clear() {
      held.clear();
      await request("readwrite", (store) => store.delete(mine));
    },
  };
}

/** A user's rows in a store of their own. Requests take effect in order, and answer null where they are impossible. */
function openTable<Row>(database: string, name: string, key: keyof Row & string, userId: UserId) {
  let opening = openDatabase(database, name, key);

  async function begin(mode: IDBTransactionMode): Promise<IDBTransaction | null> {
    const last = opening;
    const opened = await last;
    try {
      return opened && opened.transaction(name, mode);
    } catch {
      // The browser has closed it, as phones do behind a page in the background. Others may have opened it anew by now.
      if (opening === last) opening = openDatabase(database, name, key);
      return (await opening)?.transaction(name, mode) ?? null;
    }
  }

  async function request<T>(
    mode: IDBTransactionMode,
    make: (store: IDBObjectStore) => IDBRequest<T>,
  ): Promise<T | null> {
    const transaction = await begin(mode).catch(() => null);
    if (transaction === null) return null;
    return new Promise<T | null>((resolve) => {
      const made = make(transaction.objectStore(name));
      // A page that is left right after this would take an open transaction with it.
      transaction.commit();
      // Too large a row is refused only at the end.
      transaction.addEventListener("complete", () => resolve(made.result));
      transaction.addEventListener("abort", () => resolve(null));
      made.addEventListener("error", () => resolve(null));
    }).catch(() => null);
  }
  return { request, mine: IDBKeyRange.bound([userId], [userId, []]) };
}

/** Null where it is impossible. */
function openDatabase(database: string, name: string, key: string): Promise<IDBDatabase | null> {
  return new Promise<IDBDatabase>((resolve, reject) => {
    const opening = indexedDB.open(database, 1);
    opening.addEventListener("upgradeneeded", () =>
      opening.result.createObjectStore(name, { keyPath: ["user", key] }),
    );
    opening.addEventListener("success", () => {
      // Another tab wants to change or delete it, and waits for this.
      opening.result.addEventListener("versionchange", () => opening.result.close());
      resolve(opening.result);
    });
    opening.addEventListener("error", () => reject(opening.error ?? new Error("IndexedDB cannot be opened")));
    setTimeout(() => reject(new Error("IndexedDB does not answer")), OPENED_WITHIN_MS);
  }).catch(() => null);
}
