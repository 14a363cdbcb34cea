import {
  isBlank,
  type FileLimits,
  type Invitation,
  type Leave,
  type Me,
  type Message,
  type NewRoom,
  type NotifyLevel,
  type Page,
  type Room,
  type RoomId,
  type RoomPatch,
  type RoomView,
  type UserId,
} from "@hubbub/server/protocol";
import { ChatError, createApi, type Finding } from "./api.ts";
import { createChoices } from "./choices.ts";
import {
  answeringIn,
  changeSlot,
  editSlot,
  EMPTY,
  filesSlot,
  isFree,
  replySlot,
  revSlot,
  threadSlot,
  toAnswering,
  type Slot,
  type Written,
} from "./drafts.ts";
import type { GivenFile } from "./files.ts";
import { createScope } from "./scope.ts";
import { signIn, type SignedIn } from "./signedIn.ts";
import {
  answering,
  asChanged,
  withoutHalves,
  type Answering,
  type Outgoing,
  type Wish,
} from "./state/outgoing.ts";
import { filesIn, toText, type OutgoingFile } from "./state/files.ts";
import { newest, shownRevOf } from "./state/revisions.ts";
import { isAnswerIn } from "./state/thread.ts";
import { createStore } from "./store.ts";
import type { World } from "./world.ts";

export type ChatClient = ReturnType<typeof createChatClient>;

/** A deletion that can be undone for `UNDO_MS`. */
export type Deletion = {
  /** False if it is too late. */
  undo: () => boolean;
  /** Starts the time anew, while the user is deciding. */
  wait: () => void;
};

const ENDED = "Your session has ended. Please log in again.";
/** If the server does not know a session right after the log-in, the browser did not keep its cookie. */
const NO_COOKIE = "Your browser does not keep this site's cookies. Allow them, and log in again.";

/**
 * The whole chat without a user interface: `snapshot` is its state, `subscribe` announces changes, `onChange` each of
 * them, the rest are a user's intents. Intents that can be refused throw a ChatError. Nothing happens before `start`.
 */
export function createChatClient(world: World) {
  const store = createStore(world.clock);
  const life = createScope(world.clock);
  const api = createApi(world.fetch, life.signal);
  const choices = createChoices();
  let signedIn: SignedIn | null = null;
  let jumps = 0;

  function enter(user: Me, how: "resumed" | "logged in" | "signed up") {
    signedIn?.close();
    if (!life.open) return;
    const begun = signIn(world, store, user, how === "signed up", (wasIn) => {
      if (signedIn === begun) signOut(wasIn || how === "resumed" ? ENDED : NO_COOKIE);
    });
    signedIn = begun;
  }

  function signOut(reason: string | null) {
    signedIn?.close();
    signedIn = null;
    store.dispatch({ type: "signed out", reason });
  }

  async function leave(end: (leaving: SignedIn) => Promise<void>) {
    const leaving = signedIn;
    if (leaving !== null) await end(leaving);
    if (leaving !== null && signedIn === leaving) signOut(null);
  }

  function here(): SignedIn {
    if (signedIn === null) throw new ChatError("unauthorized", "You are not logged in.");
    return signedIn;
  }

  /**
   * `answers`: the message that the draft answers, where its own `reply` slot says nothing else. `kept`: the files
   * that go with it, where its own `files` slot has none.
   */
  function sendDraft(
    slot: Slot,
    roomId: RoomId,
    answers?: Answering,
    kept: readonly OutgoingFile[] = [],
    { said, answered, files }: Written = written(slot),
  ) {
    if (signedIn === null) return;
    const { outbox, tabs, drafts, typing } = signedIn;
    const attached = [...kept, ...filesIn(files?.text)];
    const draft = said ?? files;
    if (draft === null) return;
    const text = asSent(said?.text ?? "");
    const sent = attached.length > 0 && isBlank(text) ? "" : text;
    outbox.add(roomId, sent, draft.nonce, answeringIn(answered?.text) ?? answers, attached);
    tabs.claim();
    drafts.take(slot, said);
    drafts.take(replySlot(slot), answered);
    const isSent = ({ key }: OutgoingFile) => attached.some((file) => file.key === key);
    const left = filesIn(drafts.read(filesSlot(slot))?.text).filter((file) => !isSent(file));
    drafts.write(filesSlot(slot), toText(left));
    typing.sent(roomId);
  }

  function written(slot: Slot): Written {
    const read = (place: Slot) => signedIn?.drafts.read(place) ?? null;
    return { said: read(slot), answered: read(replySlot(slot)), files: read(filesSlot(slot)) };
  }

  /** Requests a change of a stored message, as it is shown now. */
  function change({ roomId, seq, hash }: Message, what: Wish, text?: string) {
    const nonce = signedIn?.outbox.change(roomId, { ...what, seq, hash }, text);
    signedIn?.tabs.claim();
    return nonce;
  }

  function setDraft(slot: Slot, text: string) {
    signedIn?.stay();
    signedIn?.drafts.write(slot, text);
    if (text === "") signedIn?.drafts.take(revSlot(slot));
  }

  /** Makes a message that was not sent the draft in this slot, which must be free. */
  function bringBack({ message, files, replyTo, answered }: Outgoing, slot: Slot) {
    setDraft(slot, message);
    if (files !== undefined) setDraft(filesSlot(slot), toText(files));
    if (replyTo !== undefined) setDraft(replySlot(slot), toAnswering({ seq: replyTo, ...answered }));
  }

  return {
    snapshot: store.snapshot,
    subscribe: store.subscribe,
    onChange: store.onChange,

    // --- The session ---

    /** Resumes this browser's session, if there is one. */
    async start(): Promise<void> {
      for (let attempts = 0; life.open; attempts++) {
        try {
          enter(await api.me(), "resumed");
          return;
        } catch (error) {
          if (error instanceof ChatError && error.code === "unauthorized") {
            signOut(null);
            return;
          }
          if (life.open) store.dispatch({ type: "session unreachable" });
          await life.sleep(1_000 + world.random() * Math.min(10_000, 1_000 * 2 ** attempts));
        }
      }
    },
    /** `invite`: the code of an invite link. */
    async signUp(username: string, password: string, invite?: string): Promise<void> {
      enter(await api.signUp({ username, password, invite }), "signed up");
    },
    async logIn(username: string, password: string): Promise<void> {
      enter(await api.logIn({ username, password }), "logged in");
    },
    logOut: () => leave(({ logOut }) => logOut()),
    /** Deletes this user's account, and what they said if they so ask. */
    deleteAccount: (asked: Leave) => leave(({ deleteAccount }) => deleteAccount(asked)),
    /** This user's account, as the server told it just now. */
    showMe: (user: Me) => store.dispatch({ type: "me", user }),
    /** Ends everything here and forgets nothing, as closing a tab does. */
    close(): void {
      life.close();
      signedIn?.close();
    },
    demo: () => api.demo(),
    /** What an invite link leads to. Throws `not_found` once it lets nobody in. */
    invitation: (code: string) => api.call<Invitation>("GET", `/invites/${code}`),
    /** Sets the password of whoever was given this code. Throws `not_found` once it was used. */
    resetPassword: (code: string, password: string) => api.call<null>("POST", `/reset/${code}`, { password }),

    // --- Messages ---

    /** Shows a room (the user's or not) or none: at its end, or around the message with this number. */
    openRoom(roomId: RoomId | null, seq: number | null = null): void {
      store.dispatch({ type: "opened", roomId });
      signedIn?.reads.opened(roomId);
      signedIn?.hiding.opened(roomId);
      if (roomId === null || seq === null) store.dispatch({ type: "visit over" });
      else store.dispatch({ type: "visit", id: (jumps += 1), roomId, seq });
      signedIn?.visits.look();
      // The user is waiting for the room, and may be typing already.
      store.tell();
      if (roomId !== null) void signedIn?.sync.load(roomId);
    },
    /** Shows exactly these rooms beside the open one. */
    openBeside(roomIds: readonly RoomId[]): void {
      store.dispatch({ type: "opened beside", roomIds });
      for (const roomId of roomIds) void signedIn?.sync.load(roomId);
    },
    /** Shows the thread that a message of the open room is in beside it, at that message, or none. */
    openThread(roomId: RoomId, seq: number | null): void {
      if (seq === null) store.dispatch({ type: "thread over" });
      else store.dispatch({ type: "thread", id: (jumps += 1), roomId, seq });
      store.tell();
    },
    /** What comes before the answers that are shown of the thread. */
    async loadOlderAnswers(): Promise<void> {
      await signedIn?.threads.loadOlder();
    },
    /** The room's newest page, after it could not be loaded. */
    async reload(roomId: RoomId): Promise<void> {
      await signedIn?.sync.loadNewest(roomId);
    },
    /** Loads the page before the shown messages. */
    async loadOlder(roomId: RoomId): Promise<void> {
      if (store.snapshot().visit?.is === "apart") await signedIn?.visits.loadMore("older");
      else await signedIn?.sync.loadOlder(roomId);
    },
    /** Loads the page after the shown messages, if they do not reach the room's end. */
    async loadNewer(): Promise<void> {
      await signedIn?.visits.loadMore("newer");
    },
    /** seq of the first message since a moment, or of the newest one; null in an empty room. */
    seqAt: async (roomId: RoomId, at: number) => here().visits.seqAt(roomId, at),
    async findMessages(asked: Finding, cursor: string | undefined, signal: AbortSignal) {
      const { api: mine, people } = here();
      const page = await mine.findMessages(asked, cursor, signal);
      people.learnFrom(page.hits.map(({ message }) => message));
      return page;
    },
    /** Marks new messages of this room as read on arrival. null: nobody is looking. */
    watch(roomId: RoomId | null): void {
      signedIn?.reads.watch(roomId);
    },

    /**
     * Marks a message and all later ones as unread, in all windows of this user. They stay unread while the user keeps
     * looking at the room; leaving it and coming back reads them, and so does sending a message.
     */
    markUnread({ roomId, seq }: Message): void {
      signedIn?.reads.markUnread(roomId, seq);
      store.tell();
    },

    /** How many people a message to everybody in the room reaches. */
    audience: async (roomId: RoomId): Promise<number> => (await here().api.audience(roomId)).people,
    /** What is to be sent when the user says so: `send` takes it once that may happen. */
    written,
    /**
     * Puts the room's draft on its way, or that of an answer in the thread which the message `root` begins, as it is or
     * as it was. Throws a ChatError if too many wait already.
     */
    send(roomId: RoomId, root?: Message, was?: Written): void {
      if (root === undefined) sendDraft(roomId, roomId, undefined, [], was);
      else sendDraft(threadSlot(roomId, root.seq), roomId, answeringIn(toAnswering(root)), [], was);
    },
    /** Makes the draft in this slot answer a message, or nothing. */
    answer(slot: Slot, message: Message | null): void {
      setDraft(replySlot(slot), message === null ? "" : toAnswering(message));
    },
    /**
     * Ends the upload for a message, which becomes the draft again where it is shown: in the open thread, or the room. If
     * something is being written there, it stays in its place as one that has failed. False: it is too late.
     */
    cancel(nonce: string): boolean {
      const { outgoing, drafts, thread } = store.snapshot();
      const entry = outgoing.find((one) => one.nonce === nonce);
      if (signedIn === null || entry === undefined) return false;
      const { roomId } = entry;
      const root = thread?.is === "shown" && isAnswerIn(thread, entry) ? thread.root : undefined;
      const slot = root === undefined ? roomId : threadSlot(roomId, root.seq);
      if (!isFree(drafts, slot)) return signedIn.outbox.stop(nonce);
      if (!signedIn.outbox.takeBack(nonce)) return false;
      bringBack(entry, slot);
      return true;
    },
    /** `alone`: as an answer to nothing. */
    retry(nonce: string, alone = false): void {
      signedIn?.outbox.retry(nonce, alone);
      signedIn?.tabs.claim();
    },
    /** Discards a failed message, or a failed change. */
    discard(nonce: string): void {
      signedIn?.outbox.remove(nonce);
      signedIn?.drafts.take(editSlot(nonce));
    },
    /**
     * Lets a message that has failed be written anew: as the room's draft if nothing stands there (true), else, and where
     * it is an answer, in its own place, as the draft `edit <nonce>` (false).
     */
    edit(entry: Outgoing): boolean {
      const { nonce, roomId, message, replyTo } = entry;
      if (replyTo !== undefined || !isFree(store.snapshot().drafts, roomId)) {
        setDraft(editSlot(nonce), message || EMPTY);
        return false;
      }
      bringBack(entry, roomId);
      signedIn?.outbox.remove(nonce);
      return true;
    },
    /** Puts what a failed message has been changed to on its way, in its stead. Throws as `send` does. */
    sendEdited(entry: Outgoing): void {
      const { nonce, roomId, files } = entry;
      sendDraft(editSlot(nonce), roomId, answering(entry), files);
      signedIn?.outbox.remove(nonce);
    },
    setDraft,

    // --- Files. `slot` is that of a room's draft, or of an answer's in a thread: see `threadSlot`. ---

    /** What may be uploaded, and how much is. */
    fileLimits: async (): Promise<FileLimits> => here().api.call<FileLimits>("GET", "/files"),
    /** Adds files to a draft. */
    async addFiles(slot: Slot, given: readonly GivenFile[]): Promise<void> {
      signedIn?.stay();
      await (await here().withFiles()).add(slot, given);
    },
    removeFile(slot: Slot, key: string): void {
      const files = filesIn(store.snapshot().drafts.get(filesSlot(slot)));
      setDraft(filesSlot(slot), toText(files.filter((file) => file.key !== key)));
      signedIn?.release(
        files.filter((file) => file.key === key),
        "dropped",
      );
    },
    /** Says what an image of a draft shows. */
    describeFile(slot: Slot, key: string, alt: string): void {
      const files = filesIn(store.snapshot().drafts.get(filesSlot(slot)));
      setDraft(filesSlot(slot), toText(files.map((file) => (file.key === key ? { ...file, alt } : file))));
    },
    /** The bytes of a file that is not stored yet, or null. */
    fileBytes: async (key: string): Promise<Blob | null> => signedIn?.bytes.get(key) ?? null,

    /** This user is writing in a room: the others see it for a few seconds. */
    typing(roomId: RoomId): void {
      signedIn?.typing.say(roomId);
    },

    // --- Changes of stored messages. Each throws as `send` does, and is shown before it is answered. ---

    /** Begins the draft of an edit, unless there is one. It is of the message's present state, whatever comes after. */
    beginEdit(shown: Message): void {
      const { drafts, changing, rooms } = store.snapshot();
      const { roomId, seq, from } = shown;
      const slot = changeSlot(roomId, seq);
      if (drafts.has(slot)) return;
      // The page shows a state that may be some ms old.
      const { edited: _, ...stored } = newest(shown, rooms?.get(roomId)?.log?.messages ?? []);
      const { message, deleted, edited } = asChanged(stored, changing, from);
      if (deleted !== undefined) return;
      setDraft(slot, message || EMPTY);
      // The state that an edit on its way will make has no number yet.
      setDraft(revSlot(slot), edited === undefined ? `${shownRevOf(stored)}` : "");
      // The next key is meant for its field.
      store.tell();
    },
    /**
     * Edits one of this user's messages. If that is refused, as after an edit elsewhere, the text becomes the draft
     * `change <room> <seq>`, and `changing` has the reason until `discard`; the draft of the room, if the log has lost
     * the message.
     */
    editMessage(message: Message, text: string): void {
      const { roomId, seq } = message;
      const slot = changeSlot(roomId, seq);
      const begun = store.snapshot().drafts.get(revSlot(slot)) ?? shownRevOf(message);
      // Earlier versions left a -1 for a message in doubt.
      const rev = Math.max(0, Number(begun));
      const said = message.files !== undefined && isBlank(text) ? "" : asSent(text);
      change(message, { do: "edit", rev }, said);
      setDraft(slot, "");
    },
    /** Is sent once it cannot be undone any more, or when the page is left. */
    deleteMessage(message: Message): Deletion {
      const nonce = change(message, { do: "delete" }) ?? "";
      return {
        undo: () => signedIn?.outbox.takeBack(nonce) ?? false,
        wait: () => signedIn?.outbox.hold(nonce),
      };
    },
    react(message: Message, emoji: string, on: boolean): void {
      change(message, { do: "react", emoji, on });
    },
    pin(message: Message, on: boolean): void {
      change(message, { do: "pin", on });
    },

    /** What is pinned in a room, in the order of pinning: the last ones, or those before a page, by its cursor. */
    async pins(roomId: RoomId, cursor: number | undefined): Promise<Page> {
      const page = await here().api.pins(roomId, cursor);
      here().people.learnFrom(page.messages);
      return page;
    },

    // --- Rooms and people ---

    async createRoom(wanted: NewRoom): Promise<RoomId> {
      const { api: mine, sync } = here();
      const room = await mine.createRoom(wanted);
      sync.showRoom(room);
      return room.id;
    },
    async startPrivateRoom(userId: UserId): Promise<RoomId> {
      const { api: mine, sync } = here();
      const room = await mine.privateRoom({ userId });
      sync.showRoom(room);
      return room.id;
    },
    async joinRoom(roomId: RoomId): Promise<void> {
      const { socket, sync } = here();
      const { room, ...page } = await socket.request("room.join", { roomId });
      sync.joined(room, page);
    },
    /** Joins the room that an invite link leads to. */
    async acceptInvite(code: string): Promise<RoomId> {
      const { api: mine, sync } = here();
      const room = await mine.call<Room>("POST", `/invites/${code}`);
      sync.showRoom(room);
      return room.id;
    },
    async leaveRoom(roomId: RoomId): Promise<void> {
      const { socket, sync } = here();
      await socket.request("room.leave", { roomId });
      sync.hideRoom(roomId);
    },
    /** Changes a room, which need not be this user's if they are an admin. */
    async changeRoom(roomId: RoomId, patch: RoomPatch): Promise<Room> {
      const { api: mine, sync } = here();
      const room = await mine.changeRoom(roomId, patch);
      if (store.snapshot().rooms?.has(roomId)) sync.showRoom(room);
      return room;
    },
    /** One REST call, for what is no part of the first load. */
    call: () => here().api.call,
    /** Finds out who these people are. */
    learn: (ids: readonly UserId[]) => signedIn?.people.learn(ids),
    /** Sets what notifies this user in a room. */
    async setNotify(roomId: RoomId, level: NotifyLevel): Promise<void> {
      const { api: mine, sync } = here();
      await choices.choose(roomId, "notify", async () => sync.showRoom(await mine.notify(roomId, level)));
    },
    /** Sets how this user sees a room, in all their windows. One that they hide stays if it has a newer message. */
    async setView(roomId: RoomId, view: Omit<RoomView, "seq">): Promise<void> {
      const { api: mine, sync } = here();
      const seq = store.snapshot().rooms?.get(roomId)?.seq;
      await choices.choose(roomId, Object.keys(view).join(" "), async () =>
        sync.showRoom(await mine.view(roomId, { ...view, ...(view.hidden && { seq }) })),
      );
    },
    /** What mentions this user in all their rooms, newest first, before a date. */
    async mentions(before: number | undefined): Promise<Page> {
      const page = await here().api.mentions(before);
      here().people.learnFrom(page.messages);
      return page;
    },
    /** Whether notifications can be shown beside the page; undefined where there is no such thing. */
    notificationsAllowed: () => world.desktop?.allowed(),
    /** Asks the user for permission, which needs a click of theirs, and answers with the result. */
    async allowNotifications() {
      store.dispatch({ type: "notifications wanted", on: false });
      await world.desktop?.ask();
      return world.desktop?.allowed();
    },
    findUsers: async (text: string, after: UserId | undefined, signal: AbortSignal) =>
      here().people.find(text, after, signal),
    findRooms: async (text: string, after: RoomId | undefined, signal: AbortSignal) =>
      here().api.findRooms(text, after, signal),
    /** The name of a named room, even if it is not this user's. */
    async roomName(roomId: RoomId): Promise<string | undefined> {
      const [room] = await here().api.listedRoom(roomId);
      return room?.id === roomId ? room.name : undefined;
    },
  };
}

/** Drops line breaks that were typed after the text, and half characters. */
function asSent(typed: string): string {
  const text = withoutHalves(typed);
  const trimmed = text.trimEnd();
  return /[\n\u2028\u2029]/.test(text.slice(trimmed.length)) ? trimmed : text;
}
