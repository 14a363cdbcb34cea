import type { Message, RoomId, UserId } from "@hubbub/server/protocol";
import { createNonce } from "./outbox.ts";
import type { Answering } from "./state/outgoing.ts";
import type { DraftStore } from "./world.ts";

/**
 * Where a text is being written: a room's id; `thread <room> <seq>`, in the thread that this message begins;
 * `edit <nonce>`, in place of a message that has failed; `change <room> <seq>`, in place of one that is stored. What goes
 * with a slot has one of its own: `reply <slot>`, what `toAnswering` says of the message that it answers;
 * `files <slot>`, the list of its files; `rev <slot>`, the `rev` of the stored message when its edit was begun.
 */
export type Slot = string;

/** The slot of an edit of a stored message. */
export function changeSlot(roomId: RoomId, seq: number): Slot {
  return `change ${roomId} ${seq}`;
}

/** The slot of an edit of a message that has failed. */
export function editSlot(nonce: string): Slot {
  return `edit ${nonce}`;
}

/** The draft of an edit that has no text: without a draft nothing would be edited. */
export const EMPTY = " ";

/** Where it stands with which `rev` of its message an edit was begun. */
export function revSlot(slot: Slot): Slot {
  return `rev ${slot}`;
}

/** Where an answer is being written in a thread. */
export function threadSlot(roomId: RoomId, root: number): Slot {
  return `thread ${roomId} ${root}`;
}

/** Where it stands which message the draft of a room, or of a thread, answers. */
export function replySlot(slot: Slot): Slot {
  return `reply ${slot}`;
}

/** Where the files are listed that go with the draft of a room, or of a thread. */
export function filesSlot(slot: Slot): Slot {
  return `files ${slot}`;
}

export function isFilesSlot(slot: Slot): boolean {
  return slot.startsWith("files ");
}

/** What a `reply` slot holds of the answered message. Earlier versions put its seq there alone. */
export function toAnswering({ seq, hash, from = "", nonce = "" }: Answered): string {
  return hash === undefined ? `${seq}` : `${seq} ${hash} ${from} ${nonce}`;
}

type Answered = Pick<Message, "seq"> & Partial<Pick<Message, "hash" | "from" | "nonce">>;

/**
 * Whether nothing is being written there: a draft is a text, its files and what it answers, and none of them goes with
 * another's.
 */
export function isFree(drafts: ReadonlyMap<Slot, string>, slot: Slot): boolean {
  return !drafts.has(slot) && !drafts.has(filesSlot(slot)) && !drafts.has(replySlot(slot));
}

/** Reads what a `reply` slot holds; undefined if that is nothing. */
export function answeringIn(text = ""): Answering | undefined {
  const [seq = "", hash, from = "", nonce = ""] = text.split(" ");
  if (!(Number(seq) > 0)) return undefined;
  const replyTo = Number(seq);
  return { replyTo, ...(hash !== undefined && { answered: { hash, from, ...(nonce !== "" && { nonce }) } }) };
}

/** A version of a draft, with the nonce under which to send it. */
export type Version = { nonce: string; text: string };

/** What stands in a slot at one moment: its text, the message that it answers, and its files. */
export type Written = { said: Version | null; answered: Version | null; files: Version | null };

/** `stored` is the stored form, or null if it could not be stored. */
type Draft = Version & { stored: string | null };

export type Drafts = ReturnType<typeof createDrafts>;

/**
 * The owner of a user's unsent texts. All tabs show the same text, which survives a reload and the end of a session,
 * but not `clear`. Each version of a text has a nonce of its own, under which it is sent: two tabs that send the same
 * version send one message. A tab removes only the version that it shows.
 */
export function createDrafts(userId: UserId, store: DraftStore, changed: (slot: Slot, text: string) => void) {
  const drafts = new Map<Slot, Draft>();
  const prefix = draftKey(userId, "");
  let closed = false;

  // Events may be late: only what the store holds now counts.
  const unwatch = store.watch((key) => {
    if (key.startsWith(prefix)) adopt(key.slice(prefix.length), store.get(key));
  });
  refresh();

  function adopt(slot: Slot, value: string | null) {
    if (closed || value === (drafts.get(slot)?.stored ?? null)) return;
    const before = drafts.get(slot)?.text ?? "";
    const draft = value === null ? null : parse(value);
    if (draft === null) drafts.delete(slot);
    else drafts.set(slot, draft);
    if (before !== (draft?.text ?? "")) changed(slot, draft?.text ?? "");
  }

  /** Reads the store again, because a page that slept missed its events. */
  function refresh() {
    const slots = new Set<Slot>();
    for (const key of store.keys()) if (key.startsWith(prefix)) slots.add(key.slice(prefix.length));
    for (const slot of slots) adopt(slot, store.get(draftKey(userId, slot)));
    for (const slot of drafts.keys()) if (!slots.has(slot)) adopt(slot, null);
  }

  function empty(slot: Slot) {
    const key = draftKey(userId, slot);
    const stored = store.get(key);
    const own = drafts.get(slot);
    drafts.delete(slot);
    changed(slot, "");
    if (stored === null) return;
    if (stored === own?.stored) store.remove(key);
    else adopt(slot, stored);
  }

  /** Replaces the draft's text. */
  function write(slot: Slot, text: string) {
    if (closed || text === (drafts.get(slot)?.text ?? "")) return;
    if (text === "") {
      empty(slot);
      return;
    }
    const nonce = createNonce();
    let stored: string | null = `${nonce} ${text}`;
    try {
      store.set(draftKey(userId, slot), stored);
    } catch {
      // Storage is missing or full: the draft lives as long as the page. An older version must not take its place.
      store.remove(draftKey(userId, slot));
      stored = null;
    }
    drafts.set(slot, { nonce, text, stored });
    changed(slot, text);
  }

  function close() {
    closed = true;
    unwatch();
  }

  return {
    refresh,

    /** The stored messages that are being edited. */
    changes(): { roomId: RoomId; seq: number }[] {
      return [...drafts.keys()].flatMap((slot) => {
        const [kind, roomId, seq] = slot.split(" ");
        return kind === "change" && roomId !== undefined ? [{ roomId, seq: Number(seq) }] : [];
      });
    },

    texts(): Map<Slot, string> {
      return new Map([...drafts].map(([slot, { text }]) => [slot, text]));
    },

    write,

    read(slot: Slot): Version | null {
      return drafts.get(slot) ?? null;
    },

    /** Removes a draft that was discarded, or the version of it that was sent: what was typed after it stays. */
    take(slot: Slot, sent: Version | null = drafts.get(slot) ?? null): void {
      const now = drafts.get(slot);
      if (closed || now === undefined || sent === null) return;
      if (now.nonce === sent.nonce) empty(slot);
      else if (now.text.startsWith(sent.text)) write(slot, now.text.slice(sent.text.length).trimStart());
    },

    /** Removes all drafts of this user, from every tab, and keeps no more. */
    clear(): void {
      close();
      for (const key of store.keys()) if (key.startsWith(prefix)) store.remove(key);
    },

    close,
  };
}

function draftKey(userId: UserId, slot: string): string {
  return `hubbub draft ${userId} ${slot}`;
}

/** Earlier versions stored only the text. */
function parse(stored: string): Draft {
  const [, nonce, text] = /^([0-9a-f]{32}) ([^]*)$/.exec(stored) ?? [];
  return { nonce: nonce ?? createNonce(), text: text ?? stored, stored };
}
