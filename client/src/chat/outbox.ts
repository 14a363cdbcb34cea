import type { Failure, Message, RoomId, UserId } from "@hubbub/server/protocol";
import { ChatError } from "./api.ts";
import type { Outgoing } from "./state.ts";

/** How long a message is tried: well below the time for which the server remembers a nonce (48 h). */
export const TRIED_FOR_MS = 24 * 3600 * 1000;
export const MOST_WAITING = 200;
const FIRST_RETRY_MS = 1_000;
const SLOWEST_RETRY_MS = 30_000;
/** For how long an acknowledged message is offered again, should the log lose it. */
const REOFFERED_FOR_MS = 10 * 60 * 1000;

/** Where a user's entries outlive the page. Writes take effect in the order of the calls. */
export type OutboxStore = {
  /** null where nothing can be kept. */
  all(): Promise<Outgoing[] | null>;
  put(entry: Outgoing): Promise<void>;
  remove(nonce: string): Promise<void>;
};

type Needs = {
  store: OutboxStore;
  /** Sends once; throws a ChatError. */
  send(entry: Outgoing): Promise<Message>;
  /** Whether there is any point in sending now. `wake` tells when that changes. */
  ready(): boolean;
  /** The entries in the order in which they were written, after each change. */
  changed(entries: readonly Outgoing[]): void;
  sent(message: Message): void;
  /** A place in [0, 1) for the jitter. */
  random?: () => number;
};

/**
 * The messages on their way. Per room they are sent in the order in which they were written, the next one only
 * after the answer to the one before; a room in trouble does not hold up another. Without an answer, and for as
 * long as the server says "not now", a message is tried again with the same nonce, after a random wait that
 * doubles up to 30 s; only a refusal that is final, or a day, makes it `failed`.
 *
 * Of a user's tabs one leads and sends; `lead` makes this one start. A tab that does not lead may hold entries
 * too: the leader has them from the store.
 */
export function createOutbox(needs: Needs) {
  const { store, random = Math.random } = needs;
  const entries = new Map<string, Outgoing>();
  let settled: Message[] = [];
  /** Nonces that are done with: a read of the store that began earlier must not bring them back. */
  const gone = new Set<string>();
  const working = new Set<RoomId>();
  const waits = new Map<RoomId, { timer: ReturnType<typeof setTimeout>; go: () => void }>();
  let leading = false;
  let closed = false;

  function changed() {
    if (!closed) needs.changed([...entries.values()].toSorted((one, other) => one.created - other.created));
  }

  function put(entry: Outgoing) {
    entries.set(entry.nonce, entry);
    changed();
    return store.put(entry);
  }

  function remove(nonce: string) {
    gone.add(nonce);
    if (!entries.delete(nonce)) return;
    void store.remove(nonce);
    changed();
  }

  /** Takes over what other tabs, or an earlier life of this one, have left in the store. */
  async function load() {
    const before = [...entries.keys()];
    const stored = await store.all();
    if (closed || stored === null) return;
    const kept = new Set(stored.map((entry) => entry.nonce));
    for (const nonce of before) if (!kept.has(nonce)) entries.delete(nonce);
    for (const entry of stored) {
      if (gone.has(entry.nonce)) continue;
      const mine = entries.get(entry.nonce);
      if (mine !== undefined && (mine.state === "sending" || mine.state === entry.state)) continue;
      // An attempt that its page did not outlive may have arrived.
      entries.set(entry.nonce, entry.state === "sending" ? { ...entry, state: "unconfirmed" } : entry);
    }
    changed();
    work();
  }

  function work() {
    if (!leading || closed) return;
    for (const { roomId, state } of entries.values()) if (state !== "failed") void workOn(roomId);
  }

  async function workOn(roomId: RoomId) {
    if (working.has(roomId)) return;
    working.add(roomId);
    let attempts = 0;
    while (leading && !closed && needs.ready()) {
      const entry = next(roomId);
      if (entry === undefined) break;
      const waitMs = await attempt(entry, attempts);
      attempts = waitMs === null ? 0 : attempts + 1;
      if (waitMs !== null) await pause(roomId, waitMs);
    }
    working.delete(roomId);
    if (leading && !closed && needs.ready() && next(roomId) !== undefined) void workOn(roomId);
  }

  function next(roomId: RoomId): Outgoing | undefined {
    let first: Outgoing | undefined;
    for (const entry of entries.values()) {
      if (entry.roomId !== roomId || entry.state === "failed") continue;
      if (first === undefined || entry.created < first.created) first = entry;
    }
    return first;
  }

  /** Sends once. null: on to the next one; else how long to wait before this one is tried again, in ms. */
  async function attempt(entry: Outgoing, attempts: number): Promise<number | null> {
    if (Date.now() - entry.created > TRIED_FOR_MS) {
      fail(entry, { code: "unavailable", message: "This could not be confirmed for a day. Send it again?" });
      return null;
    }
    if (entry.state === "waiting") void put({ ...entry, state: "sending" });
    try {
      const message = await needs.send(entry);
      remember(message);
      needs.sent(message);
      remove(entry.nonce);
      return null;
    } catch (error) {
      // Heard back by another way, or taken back, in the meantime.
      const current = entries.get(entry.nonce);
      if (current === undefined) return null;
      const { code, message, retryAfterMs } =
        error instanceof ChatError ? error : new ChatError("unreachable", "Something went wrong here.");
      switch (code) {
        case "invalid":
        case "unauthorized":
        case "forbidden":
        case "not_found":
        case "taken":
        case "too_large":
          fail(current, { code, message });
          return null;
        case "rate_limited":
        case "unavailable":
          if (current.state === "sending") void put({ ...current, state: "waiting" });
          return backoff(attempts) + (retryAfterMs ?? 0);
        case "internal":
        case "unreachable":
          if (current.state !== "unconfirmed") void put({ ...current, state: "unconfirmed" });
          return backoff(attempts);
        default:
          return code satisfies never;
      }
    }
  }

  function fail(entry: Outgoing, failure: Failure) {
    const { nonce, roomId, message, created } = entry;
    void put({ nonce, roomId, message, created, state: "failed", failure });
  }

  function backoff(attempts: number): number {
    return random() * Math.min(SLOWEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempts);
  }

  function pause(roomId: RoomId, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        clearTimeout(timer);
        waits.delete(roomId);
        resolve();
      };
      const timer = setTimeout(go, ms);
      waits.set(roomId, { timer, go });
    });
  }

  function remember(message: Message) {
    settled.push(message);
    const since = message.date - REOFFERED_FOR_MS;
    while (settled[0] !== undefined && settled[0].date < since) settled.shift();
  }

  return {
    load,

    /** Resolves once the entry outlives the page. Throws a ChatError if too many are waiting already. */
    add(roomId: RoomId, message: string): Promise<void> {
      if (entries.size >= MOST_WAITING) {
        throw new ChatError("rate_limited", `${MOST_WAITING} messages are waiting already.`);
      }
      const stored = put({
        nonce: createNonce(),
        roomId,
        message,
        created: laterThanAll(),
        state: "waiting",
      });
      work();
      return stored;
    },

    /** Puts a failed message back in the row; one that waited for a day, or nearly, as a new send. */
    retry(nonce: string): void {
      const entry = entries.get(nonce);
      if (entry?.state !== "failed") return;
      const { roomId, message } = entry;
      const expired = Date.now() - entry.created > TRIED_FOR_MS / 2;
      if (expired) remove(nonce);
      void put({
        nonce: expired ? createNonce() : nonce,
        roomId,
        message,
        created: laterThanAll(),
        state: "waiting",
      });
      work();
    },

    remove,

    /** The message with this nonce was seen in the room: it is stored, whatever became of the answer. */
    heard(message: Message): void {
      if (message.nonce === undefined || !entries.has(message.nonce)) return;
      remember(message);
      remove(message.nonce);
    },

    /**
     * Offers again, with their nonces, this user's messages of the last minutes that the room's log has lost:
     * acknowledged, of the time that `kept` covers, and not in it.
     */
    reoffer(roomId: RoomId, kept: readonly Message[]): void {
      const nonces = new Set(kept.map((message) => message.nonce));
      // Also what is older than `kept`: the page may be full of what others have offered again before us, and a
      // message that is still stored is not stored twice.
      const lost = settled.filter((message) => message.roomId === roomId && !nonces.has(message.nonce));
      settled = settled.filter((message) => !lost.includes(message));
      for (const { nonce, message } of lost) {
        if (nonce === undefined) continue;
        void put({ nonce, roomId, message, created: laterThanAll(), state: "unconfirmed" });
      }
      work();
    },

    /** Tries at once what waits, instead of after its wait. */
    wake(): void {
      for (const { go } of waits.values()) go();
      work();
    },

    /** Starts (or stops) sending from this tab. */
    lead(leads: boolean): void {
      leading = leads;
      work();
      if (leads) void load();
    },

    /** Forgets everything, in the store as well. */
    clear(): Promise<unknown> {
      const nonces = [...entries.keys()];
      for (const nonce of nonces) gone.add(nonce);
      entries.clear();
      settled = [];
      changed();
      return Promise.all(nonces.map((nonce) => store.remove(nonce)));
    },

    close(): void {
      closed = true;
      for (const { go } of waits.values()) go();
    },
  };

  /** Two entries of one millisecond, or of a clock set back, keep their order. */
  function laterThanAll(): number {
    return Math.max(Date.now(), ...[...entries.values()].map((entry) => entry.created + 1));
  }
}

export type Outbox = ReturnType<typeof createOutbox>;

function createNonce(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

/**
 * A user's entries in IndexedDB. Where that is not to be had (private windows of some browsers) they live as
 * long as the page.
 */
export function openOutboxStore(userId: UserId): OutboxStore {
  const opening = openDatabase().catch(() => null);
  async function request<T>(
    mode: IDBTransactionMode,
    make: (store: IDBObjectStore) => IDBRequest<T>,
  ): Promise<T | null> {
    const database = await opening;
    if (database === null) return null;
    return new Promise<T | null>((resolve) => {
      const made = make(database.transaction("outgoing", mode).objectStore("outgoing"));
      made.addEventListener("success", () => resolve(made.result));
      made.addEventListener("error", () => resolve(null));
    });
  }
  type Row = { user: UserId; nonce: string; entry: Outgoing };
  return {
    async all() {
      const rows = await request<Row[]>("readonly", (store) =>
        store.getAll(IDBKeyRange.bound([userId], [userId, []])),
      );
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

/**
 * Leadership among a user's tabs: one at a time holds the lock, and it passes on when that tab goes. `lead` is
 * called with what this tab becomes. `claim` takes the lead away from another tab: the one a person writes in
 * should send, for the browser may have put the others to sleep. Without Web Locks (plain http beyond this
 * machine) every tab leads; equal nonces keep that harmless.
 */
export function joinTabs(userId: UserId, lead: (leads: boolean) => void) {
  const locks = (navigator as Partial<Navigator>).locks;
  const left = new AbortController();
  let leads = false;
  let letGo = () => {};

  function hold(steal: boolean) {
    if (locks === undefined || left.signal.aborted) return;
    const options: LockOptions = steal ? { steal } : { signal: left.signal };
    locks
      .request(`hubbub outbox ${userId}`, options, () => {
        if (left.signal.aborted) return undefined;
        become(true);
        return new Promise<void>((resolve) => (letGo = resolve));
      })
      .catch(() => {
        // Stolen by another tab: stand in line for when that one goes.
        become(false);
        hold(false);
      });
  }

  function become(leader: boolean) {
    if (leads === leader) return;
    leads = leader;
    lead(leader);
  }

  if (locks === undefined) become(true);
  else hold(false);

  return {
    claim() {
      if (!leads) hold(true);
    },
    leave() {
      left.abort();
      letGo();
    },
  };
}
