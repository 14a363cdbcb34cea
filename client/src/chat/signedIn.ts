import type { Leave, Me, Message, SendMessage, SentFile } from "@hubbub/server/protocol";
import { ChatError, createApi } from "./api.ts";
import { changeSlot, createDrafts, isFilesSlot, revSlot } from "./drafts.ts";
import type { createFiles } from "./files.ts";
import { createHiding } from "./hiding.ts";
import { createNotifications } from "./notifications.ts";
import { createOutbox } from "./outbox.ts";
import { createPeople } from "./people.ts";
import { createReads } from "./reads.ts";
import { createScope } from "./scope.ts";
import { createSocket } from "./socket.ts";
import type { OutgoingFile } from "./state/files.ts";
import { isAnsweredBy, isUnderWay, withoutHalves, type Changing, type Outgoing } from "./state/outgoing.ts";
import type { Store } from "./store.ts";
import { createSync } from "./sync.ts";
import { joinTabs } from "./tabs.ts";
import { createThreads } from "./threads.ts";
import { createTyping } from "./typing.ts";
import { createVisits } from "./visits.ts";
import type { World } from "./world.ts";

type Files = ReturnType<typeof createFiles>;

/** How long a log-out waits for held entries to be sent. */
const HELD_SENT_WITHIN_MS = 5_000;

type TabWord = "changed" | "leaving" | "staying" | "left";

export type SignedIn = ReturnType<typeof signIn>;

/**
 * Everything that lives for one sign-in. `close` ends it without forgetting anything, as closing the tab does. Calls
 * `ended` if the session ended elsewhere: it is over for all tabs. It says whether the session had ever been let in.
 */
export function signIn(
  world: World,
  store: Store,
  user: Me,
  isNew: boolean,
  ended: (wasIn: boolean) => void,
) {
  const { clock, random } = world;
  const scope = createScope(clock);
  const chat = store.within(scope);
  const api = createApi(world.fetch, scope.signal, user.id);
  /** Set while this tab, or another one, logs out, and after an attempt without an answer. */
  let leaving: "here" | "elsewhere" | "tried" | null = null;
  let loggingOut: Promise<void> | null = null;
  /** The end of the session was heard. */
  let isOver = false;
  let wasIn = false;

  const drafts = createDrafts(user.id, world.drafts, (slot, text) =>
    chat.dispatch({ type: "draft", slot, text }),
  );
  scope.add(drafts.close);
  chat.dispatch({ type: "signed in", user, isNew, drafts: drafts.texts() });
  chat.dispatch({ type: "users", users: [{ ...user, online: true }] });

  const socket = createSocket(
    world,
    user.id,
    {
      connected() {
        wasIn = true;
        sync.connected();
      },
      disconnected: () => sync.disconnected(),
      unauthorized: over,
      message(message) {
        sync.heard(message);
        notifications.heard(message);
      },
      "user.connected": (users) => chat.dispatch({ type: "presence diff", users }),
      "user.disconnected": (users) => chat.dispatch({ type: "presence diff", users }),
      typing: (heard) => typing.heard(heard),
      changes: ({ roomId, ...changes }) => sync.changed(roomId, changes),
      me: (me) => sync.showMe(me),
      "show.room": (room) => sync.showRoom(room),
      "hide.room": ({ roomId }) => sync.hideRoom(roomId),
      "room.changed": (room) => sync.heardOf({ type: "room changed", room }),
      "room.member": ({ roomId, ...standing }) => sync.heardOf({ type: "standing", roomId, standing }),
      "room.read": (moved) => reads.moved(moved),
      "room.stale": ({ roomId }) => sync.stale(roomId),
    },
    async () => {
      try {
        return (await api.me()).id === user.id;
      } catch (error) {
        return !(error instanceof ChatError && error.code === "unauthorized");
      }
    },
  );

  const otherTabs = world.openChannel(`hubbub outbox ${user.id}`, (word) => hear(word as TabWord));
  scope.add(otherTabs.close);
  const tell = (word: TabWord) => {
    if (scope.open) otherTabs.tell(word);
  };
  const bytes = world.files(user.id);
  /** The keys of the files that were added in this tab. */
  const ours = new Set<string>();
  let files: Promise<Files> | undefined;
  /** What handles files, which is loaded when somebody has some. Throws without a connection. */
  const withFiles = () =>
    (files ??= import("./files.ts").then(
      ({ createFiles }) =>
        createFiles({
          ...world,
          userId: user.id,
          store: bytes,
          ours,
          ready: () => socket.connected,
          scope,
          chat,
          api,
          drafts,
        }),
      (error: unknown) => {
        files = undefined;
        throw error;
      },
    ));
  const outbox = createOutbox({
    store: world.outbox(user.id),
    clock,
    random,
    ready: () => socket.connected,
    send,
    upload: async (file, roomId, signal) => (await withFiles()).upload(file, roomId, signal),
    isOurs: ({ key }) => ours.has(key),
    release,
    sent: (message) => sync.told(message),
    refused,
    shared: () => tell("changed"),
    changed: (entries) => chat.dispatch({ type: "outgoing", entries }),
  });
  const people = createPeople({ chat, scope, api });
  const notifications = createNotifications({ chat, scope, userId: user.id, people, ...world });
  scope.add(store.subscribe(() => notifications.look()));
  const tabs = joinTabs(user.id, world, (leads) => {
    // A log may have lost what only the tab knew that led before.
    outbox.lead(leads, () => void sync.offerKept());
    notifications.lead(leads);
  });
  const reads = createReads({ chat, scope, socket });
  const typing = createTyping({ chat, scope, clock, socket, people });
  const sync = createSync({ chat, scope, random, api, socket, outbox, drafts, people, reads });
  const visits = createVisits({ chat, scope, api, people, read: sync.read, readOn: sync.readOn });
  scope.add(store.subscribe(() => visits.look()));
  const hiding = createHiding({ chat, api, showRoom: sync.showRoom });
  scope.add(store.subscribe(() => hiding.look()));
  const threads = createThreads({ chat, scope, people, read: sync.read, readOn: sync.readOn });
  scope.add(store.subscribe(() => threads.look()));
  scope.add(tabs.leave);
  scope.add(() => outbox.close());
  scope.add(socket.close);
  scope.add(world.attend({ back, focused: drafts.refresh, leaving: away }));

  void outbox.load().then(tidy);
  socket.open();
  void sync.showRooms();
  visits.look();
  hiding.opened(chat.state.openRoom);
  threads.look();

  function send(entry: Outgoing): Promise<Message> {
    const { roomId, message, nonce, files: attached, change } = entry;
    if (change === undefined)
      return socket.request("message", {
        roomId,
        message,
        nonce,
        ...answeredBy(entry),
        ...(attached !== undefined && { files: attached.map(toSent) }),
      });
    const { seq, hash } = change;
    const target = { roomId, seq, ...(hash !== undefined && { hash }) };
    switch (change.do) {
      case "edit":
        return socket.request("message.edit", { ...target, message, rev: change.rev, nonce });
      case "delete":
        return socket.request("message.delete", target);
      case "react":
        return socket.request("message.react", { ...target, emoji: change.emoji, on: change.on });
      case "pin":
        return socket.request("message.pin", { ...target, on: change.on });
      default:
        return change satisfies never;
    }
  }

  /** Names the message that this one answers, by its present number if that is known. */
  function answeredBy(entry: Outgoing): Pick<SendMessage, "replyTo" | "replyToHash"> {
    const { roomId, replyTo, answered } = entry;
    if (replyTo === undefined) return {};
    if (answered === undefined) return { replyTo };
    const { messages = [] } = chat.state.rooms?.get(roomId)?.log ?? {};
    const { seq, hash } = messages.find((one) => isAnsweredBy(entry, one)) ?? { seq: replyTo, ...answered };
    return { replyTo: seq, replyToHash: hash };
  }

  /** See `createFiles`. */
  function release(gone: readonly OutgoingFile[], end: "stored" | "dropped") {
    withFiles().then(
      (own) => own.release(gone, end),
      // They are released at the next start.
      () => {},
    );
  }

  async function tidy(): Promise<void> {
    const hasAny = [...drafts.texts().keys()].some(isFilesSlot);
    if (!hasAny && (await bytes.keys()).length === 0) return;
    const own = await withFiles().catch(() => null);
    await own?.tidy((key) =>
      chat.state.outgoing.some((entry) => entry.files?.some((file) => file.key === key)),
    );
  }

  /** Keeps the text of a refused edit as a draft beside the message, or where that is lost as the room's. */
  function refused({ nonce, roomId, message, change }: Changing, { code, current }: ChatError) {
    if (current !== undefined) sync.told(current);
    if (change.do !== "edit" || current?.deleted !== undefined) return;
    const isLost = code === "not_found" && drafts.read(roomId) === null;
    if (isLost) outbox.remove(nonce);
    const slot = isLost ? roomId : changeSlot(roomId, change.seq);
    if (drafts.read(slot) !== null) return;
    drafts.write(slot, message);
    // The reason is shown beside the message's present state, so a second attempt may replace that.
    if (!isLost) drafts.write(revSlot(slot), `${current?.rev ?? change.rev}`);
  }

  function back() {
    drafts.refresh();
    // The leading tab may be asleep; this one is in use.
    if ([...chat.state.outgoing, ...chat.state.changing].some(isUnderWay)) tabs.claim();
    if (socket.connected) sync.askAll();
    else socket.hurry();
  }

  function away() {
    outbox.letGo();
    tabs.leaving();
  }

  /** The session is over, here or for all tabs. Without a log-out the user finds their texts when they return. */
  function over() {
    isOver = true;
    // `leave` continues when its answer comes, or is lost.
    if (!scope.open || leaving === "here") return;
    scope.close();
    ended(wasIn);
    if (leaving !== null) void forget();
  }

  async function forget(): Promise<void> {
    drafts.clear();
    await outbox.clear();
    await bytes.clear();
  }

  function hear(word: TabWord) {
    switch (word) {
      case "leaving":
        leaving ??= "elsewhere";
        return;
      case "staying":
        if (leaving === "elsewhere") leaving = null;
        return;
      case "left":
        leaving = "elsewhere";
        over();
        return;
      case "changed":
        void outbox.load();
        return;
      default:
        word satisfies never;
    }
  }

  return {
    api,
    socket,
    outbox,
    tabs,
    drafts,
    bytes,
    withFiles,
    release,
    people,
    reads,
    typing,
    sync,
    visits,
    hiding,
    threads,
    close: scope.close,

    /**
     * Ends the session for all tabs, which forget what they kept; sends deletions first that could still be undone.
     * Throws a ChatError if either outcome is unknown, or calls `ended` if the session is over all the same. Asked for
     * again meanwhile, it is the same log-out: another one would find the session ended.
     */
    logOut: () => (loggingOut ??= leave(() => api.logOut(), true).finally(() => (loggingOut = null))),
    /** The same, with the whole account. */
    deleteAccount: (asked: Leave) => leave(() => api.call<null>("DELETE", "/me", asked), false),

    /** The user keeps writing, so a log-out without an answer is obsolete; a tab whose log-out succeeds still says so. */
    stay(): void {
      if (leaving !== "here") leaving = null;
    },
  };

  /** `isSession`: whether the end of the session is all that is asked for. */
  async function leave(end: () => Promise<null>, isSession: boolean): Promise<void> {
    const wasTried = leaving === "tried";
    if (!(await outbox.sendHeld(HELD_SENT_WITHIN_MS)))
      throw new ChatError("unreachable", "What you have deleted has not reached the server yet.");
    leaving = "here";
    tell("leaving");
    try {
      await end();
    } catch (error) {
      const code = error instanceof ChatError ? error.code : null;
      // An answer that was lost, to this attempt or to one before, leaves the session over all the same.
      if (code === "unauthorized" ? isSession || wasTried : isOver) {
        tell("left");
        leaving = "tried";
        over();
        return;
      }
      // Without a refusal it is unknown whether the session is over.
      leaving = code === "forbidden" || code === "unauthorized" ? null : "tried";
      tell("staying");
      if (isOver) over();
      throw error;
    }
    tell("left");
    await forget();
    scope.close();
  }
}

function toSent({ id = "", alt = "" }: OutgoingFile): SentFile {
  return alt.trim() === "" ? { id } : { id, alt: withoutHalves(alt) };
}
