import type { RoomId, UploadedFile, UserId } from "@hubbub/server/protocol";
import { ChatError, jsonIn, toChatError, type Api } from "./api.ts";
import { filesSlot, isFilesSlot, type Drafts, type Slot } from "./drafts.ts";
import { createNonce } from "./outbox.ts";
import type { Scope } from "./scope.ts";
import { filesIn, toText, type OutgoingFile } from "./state/files.ts";
import type { Chat } from "./store.ts";
import type { FileStore, World } from "./world.ts";

/** How many files are uploaded at once. */
const AT_ONCE = 2;
/** An upload of which nothing has moved, or been answered, for so long is cut off, and begun anew. */
const STALLED_MS = 60_000;
/**
 * What has moved is what the system has taken, which may be a whole file long before the line has carried it: nothing
 * tells how far that is, so the answer is waited for as long as a very slow line (2 kB/s) may take for what systems take.
 */
const SLOWEST_BYTES_PER_MS = 2;
const TAKEN_MOST = 8_000_000;
const FORGOTTEN_MS = 3_600_000;
/** How long other tabs have to say that a file is theirs. */
const ASKED_MS = 1_000;

/** Between tabs. `here`: whether the tab that asks could upload it. */
type Word = { is: "whose"; key: string; here: boolean } | { is: "mine"; key: string };

/** What somebody has chosen to send; an image with its size in pixels. */
export type GivenFile = Pick<OutgoingFile, "name" | "type" | "width" | "height"> & { bytes: Blob };

type Needs = Pick<World, "clock" | "upload" | "openChannel"> & {
  userId: UserId;
  store: FileStore;
  /** The keys of the files that were added in this tab. */
  ours: Set<string>;
  /** Whether uploading now makes sense. */
  ready: () => boolean;
  scope: Scope;
  chat: Chat;
  api: Api;
  drafts: Drafts;
};

/**
 * The bytes of files that are to be sent, which go with drafts first and with messages then, and their uploads. It is
 * no part of the first load.
 */
export function createFiles(needs: Needs) {
  const { clock, upload, userId, store, ours, ready, scope, chat, api, drafts } = needs;
  let uploading = 0;
  const inLine: (() => void)[] = [];
  const asking = new Map<string, () => void>();
  const otherTabs = needs.openChannel(`hubbub files ${userId}`, (word) => hear(word as Word));
  scope.add(otherTabs.close);

  function hear(word: Word) {
    const { is, key } = word;
    if (is === "mine") asking.get(key)?.();
    else if (ours.has(key) && (ready() || !word.here)) otherTabs.tell({ is: "mine", key } satisfies Word);
  }

  /** Whether another tab uploads it, or alone has its bytes. */
  function isOthers(key: string, here: boolean): Promise<boolean> {
    const answer = new Promise<boolean>((resolve) => asking.set(key, () => resolve(true)));
    if (scope.open) otherTabs.tell({ is: "whose", key, here } satisfies Word);
    const silence = scope.sleep(ASKED_MS).then(() => false);
    return Promise.race([answer, silence]).finally(() => asking.delete(key));
  }

  const listed = (slot: Slot) => filesIn(drafts.read(filesSlot(slot))?.text);
  const list = (slot: Slot, files: readonly OutgoingFile[]) => drafts.write(filesSlot(slot), toText(files));

  /** Resolves once it is this upload's turn. */
  async function turn(): Promise<void> {
    uploading += 1;
    if (uploading > AT_ONCE) await new Promise<void>((go) => inLine.push(go));
  }

  function leave() {
    uploading -= 1;
    inLine.shift()?.();
  }

  async function send(file: OutgoingFile, body: Blob, roomId: RoomId, signal: AbortSignal) {
    const { key, name } = file;
    const stalled = new AbortController();
    const headers = {
      "X-File-Name": encodeURIComponent(name.replace(/\p{Cs}/gu, "\ufffd")),
      "X-Room-Id": roomId,
      "X-User-Id": userId,
    };
    let giveUp = () => {};
    function progress(bytes: number) {
      giveUp();
      const carriedMs = bytes < body.size ? 0 : Math.min(body.size, TAKEN_MOST) / SLOWEST_BYTES_PER_MS;
      giveUp = clock.after(STALLED_MS + carriedMs, () => stalled.abort());
      chat.dispatch({ type: "upload", key, part: body.size === 0 ? 0 : Math.min(1, bytes / body.size) });
    }
    progress(0);
    try {
      return await upload("/api/files", {
        headers,
        body,
        signal: AbortSignal.any([signal, stalled.signal, scope.signal]),
        progress,
      });
    } catch {
      if (!(await isReadable(body)))
        throw new ChatError("invalid", `“${name}” cannot be read any more. Add it again.`);
      throw new ChatError("unreachable", "The server does not answer. Check your connection and try again.");
    } finally {
      giveUp();
      chat.dispatch({ type: "upload", key, part: null });
    }
  }

  /**
   * Forgets bytes that an earlier page has left behind, and takes files out of drafts whose bytes are gone. Another tab
   * may be about to keep, or to name, those of the last hour.
   */
  async function tidy(isUsed: (key: string) => boolean): Promise<void> {
    const kept = await store.keys();
    if (!scope.open) return;
    const isOld = (key: string) => Number.parseInt(key) < clock.date() - FORGOTTEN_MS;
    const inDrafts = new Set<string>();
    for (const slot of drafts.texts().keys()) {
      const [, of] = /^files (.+)$/.exec(slot) ?? [];
      if (of === undefined) continue;
      const files = listed(of);
      const here = files.filter(({ key, id }) => id !== undefined || kept.includes(key) || !isOld(key));
      for (const { key } of here) inDrafts.add(key);
      if (here.length < files.length) list(of, here);
    }
    await store.remove(kept.filter((key) => isOld(key) && !inDrafts.has(key) && !isUsed(key)));
  }

  /** Forgets bytes, and what was uploaded of them and belongs to no message. */
  function drop(files: readonly OutgoingFile[]) {
    void store.remove(files.map(({ key }) => key));
    for (const { id } of files) {
      // The server forgets it by itself after a day.
      if (id !== undefined) void api.call("DELETE", `/files/${id}`).catch(() => {});
    }
  }

  return {
    tidy,

    /** Adds files to a draft: at once to the list, and then to what is kept. */
    async add(slot: Slot, given: readonly GivenFile[]): Promise<void> {
      const added = given.map(({ bytes, ...file }) => {
        const key = `${clock.date()}-${createNonce()}`;
        ours.add(key);
        return { bytes, file: { ...file, key, size: bytes.size } };
      });
      const kept = added.map(({ bytes, file }) => store.put(file.key, bytes));
      list(slot, [...listed(slot), ...added.map(({ file }) => file)]);
      await Promise.all(kept);
    },

    /** Uploads a file to a room, when it is its turn, and answers its id. Throws a ChatError. */
    async upload(file: OutgoingFile, roomId: RoomId, signal: AbortSignal): Promise<string> {
      await turn();
      try {
        if (signal.aborted) throw new ChatError("unreachable", "The upload was ended.");
        const bytes = await store.get(file.key);
        if (!ours.has(file.key) && (await isOthers(file.key, bytes !== null)))
          throw new ChatError("unreachable", "Another tab uploads it.");
        if (bytes === null)
          throw new ChatError("invalid", `“${file.name}” is not on this device any more. Add it again.`);
        const { ok, status, text } = await send(file, bytes, roomId, signal);
        const answer = jsonIn(text);
        if (ok) return (answer as UploadedFile).id;
        const error = toChatError(answer, status);
        // A proxy that starts its servers anew answers 404 or 50x: these pass.
        if (error.code === "unreachable" && status === 403)
          throw new ChatError("forbidden", `A proxy in front of the server refuses “${file.name}”.`);
        throw error;
      } finally {
        leave();
      }
    },

    /**
     * What becomes of files that are stored with a message now, or will not be sent: nothing yet while a draft or another
     * message has them. That is asked here alone, at this moment: on their way here they may have gone from a message to
     * a draft and on to the next message.
     */
    release(files: readonly OutgoingFile[], end: "stored" | "dropped"): void {
      // A session that is over here leaves its messages to the next page, and shows none.
      if (!scope.open) return;
      const slots = [...drafts.texts().keys()].filter(isFilesSlot);
      const inDrafts = slots.flatMap((slot) => filesIn(drafts.read(slot)?.text));
      const inMessages = chat.state.outgoing.flatMap((entry) =>
        entry.state === "sent" ? [] : (entry.files ?? []),
      );
      const used = new Set([...inDrafts, ...inMessages].map(({ key }) => key));
      const unused = files.filter(({ key }) => !used.has(key));
      if (end === "dropped") drop(unused);
      else void store.remove(unused.map(({ key }) => key));
    },
  };
}

/** False for a folder, for an empty file, and for one that was moved, changed or locked since it was chosen. */
export async function isReadable(bytes: Blob): Promise<boolean> {
  const first = await bytes
    .slice(0, 1)
    .arrayBuffer()
    .catch(() => null);
  return first?.byteLength === 1;
}
