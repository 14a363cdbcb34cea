import { ChatError, createApi } from "../../client/src/chat/api.ts";
import { createChatClient } from "../../client/src/chat/chat.ts";
import { createProfile, headlessWorld } from "../../client/src/chat/headless.ts";
import { isUnderWay } from "../../client/src/chat/state/outgoing.ts";
import { firstDoubt, headOf, needsSync } from "../../client/src/chat/state/room.ts";
import type { Message, RoomId, User } from "../../server/src/protocol.ts";
import type { History, Place } from "./history.ts";
import type { Random } from "./random.ts";
import { createWitness } from "./witness.ts";

/** People change one of this many newest messages. Below: the shares of changes to their own messages, and of deletions. */
const CHANGED_AMONG = 30;
const OWN_CHANGED = 0.5;
const DELETED = 0.15;
const EMOJI = ["👍", "🎉", "😀", "👀"];
const ANSWER_WITHIN_MS = 5_000;
/** How long people wait before they try again to load something. */
const ASKED_AGAIN_MS = 500;

export type PersonOptions = {
  address: string;
  name: string;
  history: History;
  random: Random;
  /** The username of a user id. */
  nameOf: (id: string) => string;
  /** The cookie of an existing session, which this browser shares. */
  cookie?: string;
};

export type Person = ReturnType<typeof createPerson>;

/**
 * A person with the app's client, without its user interface. Every room is shown, as if each had a window. The history
 * records everything that is sent, answered, heard and shown.
 */
export function createPerson({ address, name, history, random, nameOf, cookie }: PersonOptions) {
  const profile = createProfile();
  if (cookie !== undefined) profile.takeCookies(new Headers({ "set-cookie": cookie }));
  const outside = headlessWorld(address, profile);
  const witness = createWitness(
    { ...outside, random: random.next },
    { person: name, session: name, history },
  );
  const chat = createChatClient(witness.world);
  const life = new AbortController();
  const askingAgain = new Set<RoomId>();
  let edits = 0;

  const roomOf = (roomId: RoomId) => chat.snapshot().rooms?.get(roomId);
  const logOf = (roomId: RoomId) => roomOf(roomId)?.log;
  const roomIds = () => [...(chat.snapshot().rooms?.keys() ?? [])];

  chat.subscribe(() => {
    const { rooms, beside, changing } = chat.snapshot();
    const ids = roomIds();
    if (ids.join() !== beside.join()) chat.openBeside(ids);
    for (const { id, load } of rooms?.values() ?? []) if (load === "failed") askAgain(id);
    for (const { nonce, state } of changing) if (state === "failed") chat.discard(nonce);
  });

  function askAgain(roomId: RoomId): void {
    if (askingAgain.has(roomId)) return;
    askingAgain.add(roomId);
    setTimeout(() => {
      askingAgain.delete(roomId);
      if (roomOf(roomId)?.load === "failed") void chat.reload(roomId);
    }, ASKED_AGAIN_MS).unref();
  }

  function user(): User {
    const { session } = chat.snapshot();
    if (session.is !== "signed in") throw new Error(`${name} is not signed in`);
    return session.user;
  }

  return {
    name,
    session: name,
    chat,
    get user() {
      return user();
    },
    get cookie() {
      return profile.cookie();
    },
    /** Signs up, or logs in if an earlier try had no answer but made the account. */
    async signUp(password: string): Promise<User> {
      await chat.signUp(name, password).catch(async (error: unknown) => {
        if (!(error instanceof ChatError && error.code === "taken")) throw error;
        await chat.logIn(name, password);
      });
      return user();
    },
    /** This browser's REST calls, optionally at another address. */
    api: (at = address) =>
      createApi(at === address ? witness.world.fetch : headlessWorld(at, profile).fetch, life.signal),
    /** Makes a request with a cookie, and notes whether it was served in the session's name. */
    async probe(path: string, used = profile.cookie()): Promise<void> {
      const beganAt = history.now();
      const headers = { origin: address, cookie: used };
      const response = await fetch(`${address}/api${path}`, { headers }).catch(() => undefined);
      await response?.arrayBuffer().catch(() => undefined);
      if (response?.ok) history.add({ kind: "session used", session: name, how: `GET /api${path}`, beganAt });
    },
    close(): void {
      life.abort();
      chat.close();
    },
    /** Cuts the connection; the client notices and reconnects by itself. */
    drop(): void {
      outside.wire()?.io.engine?.close();
    },
    /** The person looks at the window, so it connects at once if it waits for its next attempt. */
    back: outside.back,
    /** The connection, for worse faults. */
    wire: outside.wire,
    get connected() {
      return outside.wire()?.connected ?? false;
    },
    /** Whether the person is still there and their session has not ended. */
    get wanted() {
      return !life.signal.aborted && chat.snapshot().session.is === "signed in";
    },
    get connections() {
      return witness.connections;
    },
    /** The number of messages and changes that are neither done nor refused, as the client knows. */
    get pending() {
      const { outgoing, changing } = chat.snapshot();
      return [...outgoing, ...changing].filter(isUnderWay).length;
    },
    roomIds,
    markOf: witness.markOf,

    /** Sends a message and answers its nonce. Throws a ChatError if too many wait already. */
    say(roomId: RoomId, text: string): string | undefined {
      chat.setDraft(roomId, text);
      chat.send(roomId);
      return chat.snapshot().outgoing.findLast((entry) => entry.roomId === roomId && entry.message === text)
        ?.nonce;
    },
    /** Sends a text under the nonce of a stored message, like a client that lost the answer. */
    async sendAgain(roomId: RoomId, nonce: string): Promise<void> {
      const wire = outside.wire();
      if (!wire?.connected) return;
      await wire
        .timeout(ANSWER_WITHIN_MS)
        .emitWithAck("message", { roomId, message: "a retry", nonce })
        .catch(() => {});
    },
    /** Looks at a room for a moment. */
    look(roomId: RoomId): void {
      chat.watch(roomId);
      chat.watch(null);
    },
    /** Edits, deletes or reacts to one of the room's last messages. Throws as `say` does. */
    changeOne(roomId: RoomId): void {
      const shown = (logOf(roomId)?.messages ?? [])
        .filter(({ deleted }) => deleted === undefined)
        .slice(-CHANGED_AMONG);
      if (shown.length === 0) return;
      const chance = random.next();
      const own = chance < OWN_CHANGED ? shown.filter(({ from }) => from === user().id) : [];
      if (own.length === 0) chat.react(random.pick(shown), random.pick(EMOJI), random.next() < 0.7);
      else if (chance < DELETED) {
        chat.deleteMessage(random.pick(own));
        // Leaving the page ends the time for undo, so the deletion is sent.
        outside.leave();
      } else {
        const target = random.pick(own);
        chat.editMessage(target, `${target.message.split(" (v")[0]} (v${(edits += 1)})`);
      }
    },

    /** The newest message that is shown without a gap. */
    head(roomId: RoomId): { seq: number; hash: string; rev: number; settled: boolean } {
      const room = roomOf(roomId);
      if (!room?.log) return { seq: -1, hash: "", rev: -1, settled: false };
      const settled = !needsSync(room) && firstDoubt(room) === null && room.seq === room.log.head;
      return { seq: room.log.head, hash: headOf(room)?.hash ?? "", rev: room.rev, settled };
    },
    /** Whether the client says that older messages exist. */
    hasOlder: (roomId: RoomId) => logOf(roomId)?.older ?? false,
    readUp: (roomId: RoomId) => void chat.loadOlder(roomId),
    view: (roomId: RoomId): Place[] =>
      (logOf(roomId)?.messages ?? []).map((message) => toPlace(message, nameOf)),
    /** The usernames that this client shows as online. */
    online: () => [...chat.snapshot().users.values()].filter((one) => one.online).map((one) => one.username),
  };
}

export function toPlace(message: Message, nameOf: (id: string) => string): Place {
  const { seq, date, hash, from, nonce = "" } = message;
  const { edited, editRev, deleted, pinned, rev } = message;
  const reactions = message.reactions?.map(([emoji, ids]) => [emoji, ids.map(nameOf)]);
  const now = JSON.stringify({ message: message.message, edited, editRev, deleted, pinned, reactions, rev });
  return { seq, date, hash, from: nameOf(from), nonce, now };
}
