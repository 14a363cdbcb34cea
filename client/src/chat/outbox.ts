import type { Failure, Message, RoomId } from "@hubbub/server/protocol";
import { ChatError } from "./api.ts";
import type { OutgoingFile } from "./state/files.ts";
import {
  answering,
  isMeant,
  nextUpload,
  withoutState,
  type Answering,
  type Changing,
  type MessageChange,
  type Outgoing,
} from "./state/outgoing.ts";
import type { Clock, OutboxStore } from "./world.ts";

/** How long a message is tried: well below the time for which the server remembers a nonce (48 h). */
export const TRIED_FOR_MS = 24 * 3600 * 1000;
export const MOST_WAITING = 200;
/** How long a deletion can be undone. */
export const UNDO_MS = 7_000;
/** Longer than the offer, so that an undo at the last moment is in time. */
const HELD_MS = UNDO_MS + 1_000;
const FIRST_RETRY_MS = 1_000;
const SLOWEST_RETRY_MS = 30_000;
/** How long this tab takes it that no other one has sent, or undone, an entry. */
const KNOWN_FOR_MS = 1_000;
/** Some browsers never answer what their store was asked. */
const LOOKED_WITHIN_MS = 2_000;
/** How long, and how many, acknowledged messages are kept to be offered again if a log loses them. */
export const KEPT_FOR_MS = 10 * 60 * 1000;
export const MOST_KEPT = 100;

/** What a room has one of under way at a time. */
type Lane = "upload" | "send";

type Needs = {
  store: OutboxStore;
  /** Sends once; throws a ChatError. */
  send(entry: Outgoing): Promise<Message>;
  /** Uploads a file to a room, and answers its id; throws a ChatError. */
  upload(file: OutgoingFile, roomId: RoomId, signal: AbortSignal): Promise<string>;
  /** Whether a file was added in this tab. */
  isOurs(file: OutgoingFile): boolean;
  /** An entry has these files no more. They may have gone to another one, or to a draft. */
  release(files: readonly OutgoingFile[], end: "stored" | "dropped"): void;
  /** Whether sending now makes sense. `wake` tells when that changes. */
  ready(): boolean;
  /** The entries in the order in which they were written, after each change. */
  changed(entries: readonly Outgoing[]): void;
  sent(message: Message): void;
  /** A change was refused for good. */
  refused(entry: Changing, error: ChatError): void;
  /** The store holds an entry that other tabs do not know yet; only `load` shows it to them. */
  shared: () => void;
  clock: Clock;
  /** A number in [0, 1) for the jitter. */
  random: () => number;
};

/**
 * The messages on their way. Those of a room are sent in the order of writing, each after the answer to the one
 * before; a failing room does not delay another. Without an answer, or while the server says "not now", a message is
 * retried with the same nonce, after a random wait that doubles up to 30 s; only a final refusal, or a day, makes it
 * `failed`. `sent` messages are kept for 10 more minutes, in case a log loses acknowledged messages: `compare` finds
 * them and offers them again.
 *
 * The files of a message are uploaded before it is sent, one after the other, and what was written after it in its room
 * waits for that. An upload that is cut off begins anew; uploaded files are not uploaded again.
 *
 * An entry that can be undone is held and lets others pass. It is in the store like all entries, so when its time is
 * over, the page that is open then sends it.
 *
 * One of a user's tabs leads and sends; `lead` makes this one start. A tab that does not lead may hold entries too:
 * the leader gets them from the store. Files are uploaded by the tab in which they were added, as long as it is open,
 * whoever leads: looking at another tab breaks nothing off, and a file may be nowhere else.
 */
export function createOutbox(needs: Needs) {
  const { store, clock, random } = needs;
  const entries = new Map<string, Outgoing>();
  /** By nonce, in send order; `created` is when the answer came. */
  const settled = new Map<string, Outgoing & { state: "sent" }>();
  /**
   * By nonce, how many reads of the store had begun at the last change here: what those reads say of it is outdated.
   */
  const touched = new Map<string, number>();
  let reads = 0;
  /** When the last read of the store was done. */
  let lookedAt = -Infinity;
  /** Entries that the store refused, because it is full, for example: only this page has them. */
  const unkept = new WeakSet<Outgoing>();
  const trying = new Set<string>();
  /** Ends the upload for an entry. */
  const uploading = new Map<string, AbortController>();
  /** The work under way, and that which waits for its next attempt, as `<lane> <room>`. */
  const working = new Set<string>();
  const waits = new Map<string, () => void>();
  const watchers = new Set<() => void>();
  let cancelHold = () => {};
  let cancelPrune = () => {};
  let leading = false;
  let closed = false;

  function changed() {
    for (const [nonce, over] of uploading) if (!entries.has(nonce)) over.abort();
    for (const look of watchers) look();
    const inOrder = [...entries.values()].toSorted((one, other) => one.created - other.created);
    if (!closed)
      needs.changed(inOrder.map((entry) => (unkept.has(entry) ? { ...entry, unkept: true } : entry)));
  }

  function touch(nonce: string) {
    touched.set(nonce, reads);
  }

  function put(entry: Outgoing): Promise<void> {
    touch(entry.nonce);
    entries.set(entry.nonce, entry);
    changed();
    return keep(entry);
  }

  async function keep(entry: Outgoing): Promise<void> {
    if (await store.put(entry)) return;
    unkept.add(entry);
    changed();
  }

  /** As `put`, and tells the other tabs. */
  function share(entry: Outgoing) {
    void put(entry).then(needs.shared);
  }

  function remove(nonce: string, end: "stored" | "dropped" = "dropped") {
    touch(nonce);
    const { files } = entries.get(nonce) ?? {};
    if (!entries.delete(nonce)) return;
    void store.remove(nonce).then(needs.shared);
    changed();
    if (files !== undefined) needs.release(files, end);
  }

  /** Takes over entries that other tabs, or an earlier page, left in the store. */
  async function load() {
    const began = ++reads;
    const stored = await store.all();
    lookedAt = clock.date();
    if (closed || stored === null) return;
    const isOld = (nonce: string) => {
      const known = entries.get(nonce) ?? settled.get(nonce);
      if (known !== undefined && unkept.has(known)) return true;
      return trying.has(nonce) || (touched.get(nonce) ?? 0) >= began;
    };
    const kept = new Set(stored.map((entry) => entry.nonce));
    for (const known of [entries, settled])
      for (const nonce of known.keys()) if (!kept.has(nonce) && !isOld(nonce)) known.delete(nonce);
    for (const entry of stored.toSorted((one, other) => one.created - other.created)) {
      const { nonce } = entry;
      if (isOld(nonce)) continue;
      if (entry.state === "sent") {
        entries.delete(nonce);
        settled.set(nonce, entry);
        continue;
      }
      settled.delete(nonce);
      // An attempt whose page was closed may have arrived.
      entries.set(nonce, leading && entry.state === "sending" ? { ...entry, state: "unconfirmed" } : entry);
    }
    prune();
    changed();
    work();
  }

  function work() {
    if (closed) return;
    for (const { roomId, state } of entries.values()) {
      if (state === "failed") continue;
      void workOn(roomId, "upload");
      void workOn(roomId, "send");
    }
    const holds = leading ? [...entries.values()].flatMap(heldFor) : [];
    cancelHold();
    if (holds.length > 0) cancelHold = clock.after(Math.min(...holds), work);
  }

  /** How long, in ms, it must not be sent yet; none if it may go. A clock that was set back delays nothing. */
  function heldFor({ heldUntil = 0 }: Outgoing): number[] {
    const ms = heldUntil - clock.date();
    return ms > 0 && ms <= HELD_MS ? [ms] : [];
  }

  /** Releases held entries. */
  function letGo() {
    const held = [...entries.values()].filter((entry) => heldFor(entry).length > 0);
    // A page that is left has no time to look at the store.
    lookedAt = clock.date();
    for (const { heldUntil: _, ...entry } of held) share(entry);
    if (held.length > 0) work();
  }

  async function workOn(roomId: RoomId, lane: Lane) {
    const name = `${lane} ${roomId}`;
    if (working.has(name)) return;
    working.add(name);
    let attempts = 0;
    while (!closed && needs.ready()) {
      if (!isKnown(next(roomId, lane))) await lookAgain();
      const entry = next(roomId, lane);
      if (closed || entry === undefined) break;
      const waitMs = await (lane === "send" ? attempt(entry, attempts) : upload(entry, attempts));
      attempts = waitMs === null ? 0 : attempts + 1;
      // The other lane may have waited for this.
      if (waitMs === null) work();
      else if (!closed) await pause(name, waitMs);
    }
    working.delete(name);
    if (!closed && needs.ready() && next(roomId, lane) !== undefined) void workOn(roomId, lane);
  }

  /** Whether no other tab can have done anything about it lately. One that slept wakes with what it knew before. */
  function isKnown(entry: Outgoing | undefined): boolean {
    return entry === undefined || clock.date() - Math.max(entry.created, lookedAt) <= KNOWN_FOR_MS;
  }

  async function lookAgain(): Promise<void> {
    let cancel = () => {};
    const slow = new Promise<void>((resolve) => (cancel = clock.after(LOOKED_WITHIN_MS, resolve)));
    await Promise.race([load(), slow]);
    cancel();
  }

  /**
   * What this tab sends, or uploads for, next. An upload holds up the messages that come after its own, but no changes.
   */
  function next(roomId: RoomId, lane: Lane): Outgoing | undefined {
    const all = [...entries.values()].filter(
      (entry) => entry.roomId === roomId && entry.state !== "failed" && heldFor(entry).length === 0,
    );
    const inOrder = all.toSorted((one, other) => one.created - other.created);
    const loaded = inOrder.find((entry) => nextUpload(entry) !== undefined);
    if (lane === "upload") return loaded !== undefined && isUploadedHere(loaded) ? loaded : undefined;
    if (!leading) return undefined;
    if (loaded === undefined) return inOrder[0];
    return inOrder.find((entry) => entry.created < loaded.created || entry.change !== undefined);
  }

  function isUploadedHere(entry: Outgoing): boolean {
    const file = nextUpload(entry);
    return leading || (file !== undefined && needs.isOurs(file));
  }

  /** Sends once. null: go on with the next one; else the ms to wait before the next attempt. */
  async function attempt(entry: Outgoing, attempts: number): Promise<number | null> {
    if (isTooOld(entry)) return null;
    if (entry.state === "waiting") void put({ ...entry, state: "sending" });
    trying.add(entry.nonce);
    try {
      const message = await needs.send(entry).finally(() => trying.delete(entry.nonce));
      needs.sent(message);
      if (entry.change === undefined) settle(message);
      else done(entry.nonce, message);
      return null;
    } catch (error) {
      // It was heard back in another way, or undone, meanwhile.
      const current = entries.get(entry.nonce);
      if (current === undefined) return null;
      return refuse(current, error, attempts);
    }
  }

  /** Uploads the next file of a message. Answers as `attempt` does. */
  async function upload(entry: Outgoing, attempts: number): Promise<number | null> {
    const file = nextUpload(entry);
    if (file === undefined) return null;
    if (isTooOld(entry)) return null;
    const over = new AbortController();
    uploading.set(entry.nonce, over);
    try {
      const id = await needs
        .upload(file, entry.roomId, over.signal)
        .finally(() => uploading.delete(entry.nonce));
      const current = entries.get(entry.nonce);
      if (current?.files === undefined) needs.release([{ ...file, id }], "dropped");
      else
        share({
          ...current,
          files: current.files.map((one) => (one.key === file.key ? { ...one, id } : one)),
        });
      return null;
    } catch (error) {
      const current = entries.get(entry.nonce);
      if (current === undefined || over.signal.aborted) return null;
      return refuse(current, error, attempts);
    }
  }

  /** Decides what becomes of an entry after an error. Answers as `attempt` does. */
  function refuse(current: Outgoing, error: unknown, attempts: number): number | null {
    const known =
      error instanceof ChatError ? error : new ChatError("unreachable", "Something went wrong here.");
    const { code, message, retryAfterMs } = known;
    if (code === "not_found" && isForgotten(current)) {
      const files = current.files.map(withoutId);
      share({ ...withoutState(current), files, renewed: true, state: "waiting" });
      return null;
    }
    switch (code) {
      case "invalid":
      case "unauthorized":
      case "forbidden":
      case "muted":
      case "archived":
      case "not_found":
      case "taken":
      case "conflict":
      case "too_large":
        fail(current, { code, message });
        if (isChange(current)) needs.refused(current, known);
        return null;
      case "rate_limited":
      case "unavailable":
        if (current.state === "sending") void put({ ...current, state: "waiting" });
        return backoff(attempts) + (retryAfterMs ?? 0);
      case "internal":
      case "unreachable":
        // What is still to be uploaded was not sent, and can be taken back.
        if (current.state !== "unconfirmed" && nextUpload(current) === undefined)
          void put({ ...current, state: "unconfirmed" });
        return backoff(attempts);
      default:
        return code satisfies never;
    }
  }

  /** Fails an entry that was tried for too long. */
  function isTooOld(entry: Outgoing): boolean {
    const isOld = clock.date() - entry.created > TRIED_FOR_MS;
    if (isOld)
      fail(entry, { code: "unavailable", message: "This could not be confirmed for a day. Send it again?" });
    return isOld;
  }

  function fail(entry: Outgoing, failure: Failure) {
    share({ ...withoutState(entry), state: "failed", failure });
  }

  function backoff(attempts: number): number {
    return random() * Math.min(SLOWEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempts);
  }

  function pause(name: string, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        cancel();
        waits.delete(name);
        resolve();
      };
      const cancel = clock.after(ms, go);
      waits.set(name, go);
    });
  }

  /** A change was made; this is the new message. */
  function done(nonce: string, { roomId, seq, hash, rev = 0 }: Message) {
    remove(nonce);
    // A user who changes a text again before the first answer has seen the first change.
    for (const entry of entries.values()) {
      if (entry.roomId !== roomId || entry.state === "failed" || entry.change?.do !== "edit") continue;
      if (isMeant(entry.change, { seq, hash }) && entry.change.rev < rev)
        share({ ...entry, change: { ...entry.change, rev } });
    }
  }

  /** The message is stored, whatever the source. */
  function settle(stored: Message) {
    const { nonce, roomId, message, seq, replyTo, deleted } = stored;
    if (deleted !== undefined) {
      forget(stored);
      return;
    }
    if (nonce === undefined) return;
    const { files, answered } = entries.get(nonce) ?? {};
    if (!entries.delete(nonce)) return;
    touch(nonce);
    const entry = {
      nonce,
      roomId,
      message,
      created: clock.date(),
      state: "sent",
      seq,
      ...answering({ replyTo, answered }),
      ...(files !== undefined && { files }),
    } as const;
    settled.set(nonce, entry);
    // After `clear` in another tab nothing may be left behind.
    void (closed ? store.remove(nonce) : keep(entry));
    prune();
    changed();
    if (files !== undefined) needs.release(files, "stored");
  }

  /**
   * Removes a deleted message's text: a log that loses it must not get it back. Another tab may have put it in the store,
   * so it is removed there even if this one does not know it. An edit of it came too late.
   */
  function forget({ nonce, roomId, seq, hash }: Message) {
    if (nonce !== undefined) {
      touch(nonce);
      settled.delete(nonce);
      void store.remove(nonce);
      remove(nonce, "stored");
    }
    for (const { nonce: edit, roomId: room, change } of entries.values())
      if (room === roomId && change?.do === "edit" && isMeant(change, { seq, hash })) remove(edit);
  }

  function prune() {
    cancelPrune();
    const since = clock.date() - KEPT_FOR_MS;
    for (const { nonce, created } of settled.values()) {
      if (created > since && settled.size <= MOST_KEPT) continue;
      touch(nonce);
      settled.delete(nonce);
      void store.remove(nonce);
    }
    const [oldest] = settled.values();
    if (oldest !== undefined && !closed)
      cancelPrune = clock.after(Math.min(KEPT_FOR_MS, oldest.created - since), prune);
  }

  return {
    load,

    /**
     * Queues a message, once for each nonce: another tab may have sent the same text. Throws a ChatError if too many
     * are waiting already.
     */
    add(
      roomId: RoomId,
      message: string,
      nonce = createNonce(),
      answers: Answering = {},
      files: readonly OutgoingFile[] = [],
    ): void {
      if (entries.has(nonce) || settled.has(nonce)) return;
      demandPlace();
      const rest = { ...answering(answers), ...(files.length > 0 && { files }) };
      share({ nonce, roomId, message, created: laterThanAll(), state: "waiting", ...rest });
      work();
    },

    /**
     * Queues a change of a stored message, and removes earlier requests of the same kind that were refused or not
     * tried. Holds a deletion while it can be undone. Answers its nonce. Throws as `add` does.
     */
    change(roomId: RoomId, change: MessageChange, message = ""): string {
      demandPlace();
      for (const { nonce, roomId: room, state, change: other } of entries.values()) {
        const untried = state === "failed" || state === "waiting";
        if (untried && room === roomId && other !== undefined && isSameWish(other, change)) remove(nonce);
      }
      const nonce = createNonce();
      const held = change.do === "delete" && { heldUntil: clock.date() + HELD_MS };
      share({ nonce, roomId, message, change, created: laterThanAll(), state: "waiting", ...held });
      work();
      return nonce;
    },

    /** Undoes an entry that was not sent yet, also during its upload. False: it is too late. */
    takeBack(nonce: string): boolean {
      const entry = entries.get(nonce);
      if (entry?.state !== "waiting") return false;
      remove(nonce);
      // What it held up goes on at once.
      waits.get(`upload ${entry.roomId}`)?.();
      work();
      return true;
    },

    /** Ends an entry's upload, and keeps it as one that has failed. False: it is too late. */
    stop(nonce: string): boolean {
      const entry = entries.get(nonce);
      if (entry?.state !== "waiting") return false;
      uploading.get(nonce)?.abort();
      fail(entry, { code: "unavailable", message: "The upload was cancelled." });
      waits.get(`upload ${entry.roomId}`)?.();
      work();
      return true;
    },

    /** Starts a held entry's time to undo anew. */
    hold(nonce: string): void {
      const entry = entries.get(nonce);
      if (entry === undefined || heldFor(entry).length === 0) return;
      share({ ...entry, heldUntil: clock.date() + HELD_MS });
      work();
    },

    letGo,

    /** Sends held entries. False: some had no answer within this time. */
    sendHeld(ms: number): Promise<boolean> {
      const held = [...entries.values()].filter((entry) => heldFor(entry).length > 0);
      const isDone = () => held.every(({ nonce }) => (entries.get(nonce)?.state ?? "failed") === "failed");
      letGo();
      return new Promise((resolve) => {
        const end = (sent: boolean) => {
          cancel();
          watchers.delete(look);
          resolve(sent);
        };
        const look = () => isDone() && end(true);
        const cancel = clock.after(ms, () => end(false));
        watchers.add(look);
        look();
      });
    },

    /**
     * Queues a failed message again; one that waited for about a day as a new send, and with `alone` as an answer to
     * nothing.
     */
    retry(nonce: string, alone = false): void {
      const entry = entries.get(nonce);
      if (entry?.state !== "failed") return;
      const expired = clock.date() - entry.created > TRIED_FOR_MS / 2;
      const { replyTo: _, answered: __, ...own } = withoutState(entry);
      share({
        ...(alone ? own : withoutState(entry)),
        nonce: expired ? createNonce() : nonce,
        created: laterThanAll(),
        state: "waiting",
      });
      if (expired) remove(nonce);
      work();
    },

    /** Gives an entry up, also one in whose place another one has come, with its files. */
    remove: (nonce: string) => remove(nonce),

    /** The message with this nonce was seen in the room: it is stored, whatever its answer. */
    heard: settle,

    /** The stored messages whose text is kept here: acknowledged ones, and those with an edit on its way. */
    keptTexts(): { roomId: RoomId; seq: number }[] {
      prune();
      const edits = [...entries.values()].flatMap(({ roomId, change }) =>
        change?.do === "edit" ? [{ roomId, seq: change.seq }] : [],
      );
      return [...edits, ...[...settled.values()].map(({ roomId, seq }) => ({ roomId, seq }))];
    },

    /** Rooms with acknowledged messages that a log could still lose. */
    keptRooms(): Set<RoomId> {
      prune();
      return new Set([...settled.values()].map((entry) => entry.roomId));
    },

    /**
     * Offers this user's recent messages again, with their nonces, if the room's log lost them: acknowledged, with a
     * seq from `from` on, and not in `log`, which holds everything that the server has from there.
     */
    compare(roomId: RoomId, log: readonly Message[], from: number): void {
      prune();
      for (const message of log)
        if (message.deleted !== undefined && settled.has(message.nonce ?? "")) forget(message);
      const nonces = new Set(log.map((message) => message.nonce));
      const lost = [...settled.values()].filter(
        (entry) => entry.roomId === roomId && entry.seq >= from && !nonces.has(entry.nonce),
      );
      for (const entry of lost.toSorted((one, other) => one.seq - other.seq)) {
        settled.delete(entry.nonce);
        share({ ...withoutState(entry), created: laterThanAll(), state: "unconfirmed" });
      }
      if (lost.length > 0) work();
    },

    /** Retries waiting entries at once. */
    wake(): void {
      for (const go of waits.values()) go();
      work();
    },

    /** Starts (or stops) sending from this tab. `caughtUp` is called once it knows what others have sent. */
    lead(leads: boolean, caughtUp = () => {}): void {
      leading = leads;
      endUploads(isUploadedHere);
      // What others have sent, and perhaps undone, meanwhile must not be sent again.
      if (leads) void load().then(work).then(caughtUp);
      else work();
    },

    /** Removes everything, also from the store. */
    clear(): Promise<void> {
      for (const nonce of [...entries.keys(), ...settled.keys()]) touch(nonce);
      entries.clear();
      settled.clear();
      cancelPrune();
      changed();
      return store.clear();
    },

    close(): void {
      closed = true;
      endUploads(() => false);
      cancelHold();
      cancelPrune();
      for (const go of waits.values()) go();
    },
  };

  function endUploads(isSpared: (entry: Outgoing) => boolean) {
    for (const [nonce, over] of uploading) {
      const entry = entries.get(nonce);
      if (entry === undefined || !isSpared(entry)) over.abort();
    }
  }

  function demandPlace() {
    if (entries.size >= MOST_WAITING)
      throw new ChatError("rate_limited", `${MOST_WAITING} messages are waiting already.`);
  }

  /** Entries of one millisecond, or of a clock that was set back, keep their order. */
  function laterThanAll(): number {
    return Math.max(clock.date(), ...[...entries.values()].map((entry) => entry.created + 1));
  }
}

function withoutId(file: OutgoingFile): OutgoingFile {
  const { id: _, ...rest } = file;
  return rest;
}

/** Whether the server may not know the files of a message that it refused any more. */
function isForgotten(entry: Outgoing): entry is Outgoing & { files: readonly OutgoingFile[] } {
  return entry.files !== undefined && nextUpload(entry) === undefined && entry.renewed === undefined;
}

function isChange(entry: Outgoing): entry is Changing {
  return entry.change !== undefined;
}

/** Whether the second change replaces the first. */
function isSameWish(one: MessageChange, other: MessageChange): boolean {
  if (one.seq !== other.seq || one.hash !== other.hash || one.do !== other.do) return false;
  return one.do !== "react" || other.do !== "react" || one.emoji === other.emoji;
}

export type Outbox = ReturnType<typeof createOutbox>;

/** A nonce that nobody else will choose. */
export function createNonce(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
