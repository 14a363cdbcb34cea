import type { Message } from "@hubbub/server/protocol";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ChatError } from "./api.ts";
import { createOutbox, KEPT_FOR_MS, MOST_KEPT, MOST_WAITING, TRIED_FOR_MS, UNDO_MS } from "./outbox.ts";
import type { OutgoingFile } from "./state/files.ts";
import type { Outgoing } from "./state/outgoing.ts";
import { systemClock, type OutboxStore } from "./world.ts";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** A store like the browser's: asynchronous, in the order of the calls; it takes nothing while it is full. */
function createStore() {
  const kept = new Map<string, Outgoing>();
  const store: OutboxStore & { kept: typeof kept; full: boolean } = {
    kept,
    full: false,
    all: async () => [...kept.values()],
    async put(entry) {
      if (!store.full) kept.set(entry.nonce, entry);
      return !store.full;
    },
    remove: async (nonce) => void kept.delete(nonce),
    clear: async () => kept.clear(),
  };
  return store;
}

type Behaviour = "store" | "lose the answer" | "lose the request" | ChatError;

/** A room's log that knows nonces, behind a connection with these behaviours in turn; then it just works. */
function createServer(behaviours: Behaviour[] = []) {
  const log: Message[] = [];
  const attempts: string[] = [];
  return {
    log,
    attempts,
    async send({ roomId, message, nonce }: Outgoing): Promise<Message> {
      attempts.push(message);
      const behaviour = behaviours.shift() ?? "store";
      await new Promise((resolve) => setTimeout(resolve, 10));
      if (behaviour instanceof ChatError) throw behaviour;
      if (behaviour === "lose the request") throw new ChatError("unreachable", "no answer");
      let stored = log.find((other) => other.nonce === nonce);
      if (stored === undefined) {
        const seq = log.length + 1;
        stored = { roomId, seq, date: Date.now() + seq, hash: `h${seq}`, from: "1", message, nonce };
        log.push(stored);
      }
      if (behaviour === "lose the answer") throw new ChatError("unreachable", "no answer");
      return stored;
    },
  };
}

/** Uploads that end when the test says so, one after the other, by the file's key. */
function createUploads() {
  const begun: string[] = [];
  const released: string[] = [];
  const open = new Map<string, { resolve: (id: string) => void; reject: (error: Error) => void }>();
  return {
    begun,
    released,
    ours: new Set<string>(),
    upload({ key }: OutgoingFile, _room: string, signal: AbortSignal): Promise<string> {
      begun.push(key);
      return new Promise((resolve, reject) => {
        open.set(key, { resolve, reject });
        signal.addEventListener("abort", () => reject(new ChatError("unreachable", "aborted")));
      });
    },
    async end(key: string, error?: ChatError) {
      const { resolve, reject } = open.get(key) ?? {};
      if (error === undefined) resolve?.(`id of ${key}`);
      else reject?.(error);
      await vi.advanceTimersByTimeAsync(11);
    },
  };
}

const file = (key: string): OutgoingFile => ({ key, name: `${key}.txt`, type: "text/plain", size: 3 });

function setUp(behaviours: Behaviour[] = [], store = createStore(), server = createServer(behaviours)) {
  const seen: (readonly Outgoing[])[] = [];
  const sent: Message[] = [];
  const refused: { text: string; current: string | undefined }[] = [];
  const link = { up: true, shared: () => {} };
  const uploads = createUploads();
  const outbox = createOutbox({
    store,
    send: (entry) => server.send(entry),
    upload: (one, room, signal) => uploads.upload(one, room, signal),
    isOurs: ({ key }) => uploads.ours.has(key),
    release: (files, end) =>
      void uploads.released.push(
        [
          end,
          ...files.map(({ key, id = `id of ${key}` }) => (id === `id of ${key}` ? key : `${key} as ${id}`)),
        ].join(" "),
      ),
    ready: () => link.up,
    changed: (entries) => void seen.push(entries),
    sent: (message) => void sent.push(message),
    refused: (entry, { current }) => void refused.push({ text: entry.message, current: current?.message }),
    shared: () => link.shared(),
    clock: systemClock,
    random: () => 0.5,
  });
  const states = () => seen.at(-1)?.map((entry) => entry.state);
  return { outbox, store, server, seen, sent, refused, link, uploads, states };
}

const unsent = ({ kept }: ReturnType<typeof createStore>) =>
  [...kept.values()].filter((entry) => entry.state !== "sent").map((entry) => entry.message);

const said = (messages: readonly Message[]) => messages.map((message) => message.message);

const DELETED: Message = {
  roomId: "0",
  seq: 3,
  date: 1,
  hash: "h",
  from: "1",
  message: "",
  deleted: 5,
  rev: 2,
};

describe("changing", () => {
  /** An edited message of a server: the requests, and an answer once `answer` is called. */
  function createMessage() {
    const asked: Outgoing[] = [];
    let answers: (() => void)[] = [];
    let rev = 0;
    return {
      asked,
      async send(entry: Outgoing): Promise<Message> {
        asked.push(entry);
        await new Promise<void>((resolve) => answers.push(resolve));
        rev += 10;
        return {
          roomId: "0",
          seq: 3,
          date: 1,
          hash: "h",
          from: "1",
          nonce: "n",
          message: entry.message,
          rev,
        };
      },
      async answer() {
        for (const one of answers) one();
        answers = [];
        await vi.advanceTimersByTimeAsync(1);
      },
    };
  }

  test("a second change before the first one's answer is based on the first", async () => {
    const message = createMessage();
    const { outbox, states } = setUp([], createStore(), { ...createServer(), ...message });
    outbox.lead(true);
    outbox.change("0", { do: "edit", seq: 3, rev: 4 }, "one");
    await vi.advanceTimersByTimeAsync(1);
    outbox.change("0", { do: "edit", seq: 3, rev: 4 }, "two");
    await message.answer();
    await message.answer();
    expect(message.asked.map((entry) => entry.change)).toEqual([
      { do: "edit", seq: 3, rev: 4 },
      { do: "edit", seq: 3, rev: 10 },
    ]);
    expect(states()).toEqual([]);
  });

  test("a newer request replaces one that was not tried yet", async () => {
    const { outbox, seen } = setUp();
    outbox.change("0", { do: "react", seq: 3, emoji: "a", on: true });
    outbox.change("0", { do: "react", seq: 3, emoji: "b", on: true });
    outbox.change("0", { do: "react", seq: 3, emoji: "a", on: false });
    outbox.change("0", { do: "pin", seq: 3, on: true });
    expect(seen.at(-1)?.map((entry) => entry.change)).toEqual([
      { do: "react", seq: 3, emoji: "b", on: true },
      { do: "react", seq: 3, emoji: "a", on: false },
      { do: "pin", seq: 3, on: true },
    ]);
  });

  test("a refusal is final, carries the present message, and stays visible", async () => {
    const current = { roomId: "0", seq: 3, date: 1, hash: "h", from: "1", message: "theirs", rev: 9 };
    const conflict = new ChatError("conflict", "It was edited meanwhile.", undefined, current);
    const { outbox, refused, server, states } = setUp([conflict]);
    outbox.lead(true);
    outbox.change("0", { do: "edit", seq: 3, rev: 4 }, "mine");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(refused).toEqual([{ text: "mine", current: "theirs" }]);
    expect(server.attempts).toEqual(["mine"]);
    expect(states()).toEqual(["failed"]);
  });

  test("a deleted message is not offered again to a log that lost it", async () => {
    const { outbox, server, states } = setUp();
    outbox.lead(true);
    outbox.add("0", "regretted");
    await vi.advanceTimersByTimeAsync(20);
    const [stored] = server.log;
    if (stored !== undefined) outbox.heard({ ...stored, message: "", deleted: 5, rev: 1 });
    outbox.compare("0", [], 0);
    expect(states()).toEqual([]);
  });

  test("a deleted message leaves the store in every tab, also in one that did not send it", async () => {
    const store = createStore();
    const [sender, other] = [setUp([], store), setUp([], store)];
    sender.outbox.lead(true);
    sender.outbox.add("0", "regretted");
    await vi.advanceTimersByTimeAsync(20);
    await other.outbox.load();
    sender.outbox.close();
    const late = setUp([], store);
    expect([...store.kept.values()].map(({ message }) => message)).toEqual(["regretted"]);
    const [stored] = sender.server.log;
    if (stored !== undefined) late.outbox.heard({ ...stored, message: "", deleted: 5, rev: 1 });
    await vi.advanceTimersByTimeAsync(1);
    expect([...store.kept]).toEqual([]);
    // It did not hear of that.
    expect(other.outbox.keptTexts()).toEqual([{ roomId: "0", seq: 1 }]);
    await other.outbox.load();
    expect(other.outbox.keptTexts()).toEqual([]);
  });

  test("an edit of a message that is deleted meanwhile is given up, and its text kept nowhere", async () => {
    const { outbox, server, store, link, states } = setUp();
    link.up = false;
    outbox.lead(true);
    outbox.change("0", { do: "edit", seq: 3, rev: 1 }, "regretted, in other words");
    outbox.change("0", { do: "edit", seq: 4, rev: 1 }, "another one");
    await vi.advanceTimersByTimeAsync(1);
    outbox.heard(DELETED);
    await vi.advanceTimersByTimeAsync(1);
    expect([...store.kept.values()].map(({ message }) => message)).toEqual(["another one"]);
    expect([states(), server.attempts]).toEqual([["waiting"], []]);
  });

  test("a message that was deleted before its answer came is kept nowhere", async () => {
    const { outbox, server, store, states } = setUp(["lose the answer"]);
    outbox.lead(true);
    outbox.add("0", "regretted at once");
    await vi.advanceTimersByTimeAsync(11);
    const [stored] = server.log;
    if (stored !== undefined) outbox.heard({ ...stored, message: "", deleted: 5, rev: 1 });
    await vi.advanceTimersByTimeAsync(60_000);
    outbox.compare("0", [], 0);
    expect([states(), store.kept.size, server.attempts.length]).toEqual([[], 0, 1]);
  });
});

describe("a deletion", () => {
  const deletion = { do: "delete", seq: 3 } as const;
  /** A server that records its requests. */
  function createNotary() {
    const asked: string[] = [];
    const send = async (entry: Outgoing): Promise<Message> => {
      asked.push(entry.change?.do ?? entry.message);
      return { ...DELETED, nonce: entry.nonce };
    };
    return { ...createServer(), asked, send };
  }

  test("is shown at once and sent after the time to undo, and later messages overtake it", async () => {
    const server = createNotary();
    const { outbox, states } = setUp([], createStore(), server);
    outbox.lead(true);
    outbox.change("0", deletion);
    outbox.add("0", "by the way");
    expect(states()).toEqual(["waiting", "sending"]);
    await vi.advanceTimersByTimeAsync(UNDO_MS);
    expect(server.asked).toEqual(["by the way"]);
    await vi.advanceTimersByTimeAsync(UNDO_MS);
    expect(server.asked).toEqual(["by the way", "delete"]);
    expect(states()).toEqual([]);
  });

  test("is never sent if undone in time, and cannot be undone later", async () => {
    const server = createNotary();
    const { outbox, store, link, states } = setUp([], createStore(), server);
    outbox.lead(true);
    const nonce = outbox.change("0", deletion);
    await vi.advanceTimersByTimeAsync(UNDO_MS - 1);
    expect(outbox.takeBack(nonce)).toBe(true);
    expect(outbox.takeBack(nonce)).toBe(false);
    expect(states()).toEqual([]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect([server.asked, store.kept.size]).toEqual([[], 0]);
    // It was tried, and may have arrived.
    server.send = async (entry) => {
      server.asked.push(entry.change?.do ?? "");
      link.up = false;
      throw new ChatError("unreachable", "no answer");
    };
    const late = outbox.change("0", deletion);
    await vi.advanceTimersByTimeAsync(2 * UNDO_MS);
    expect([outbox.takeBack(late), states(), server.asked]).toEqual([false, ["unconfirmed"], ["delete"]]);
  });

  test("waits while the user is deciding, across tabs, and no longer", async () => {
    const server = createNotary();
    const { outbox } = setUp([], createStore(), server);
    outbox.lead(true);
    const nonce = outbox.change("0", deletion);
    for (const _ of [1, 2, 3, 4]) {
      await vi.advanceTimersByTimeAsync(UNDO_MS - 1);
      outbox.hold(nonce);
    }
    expect(server.asked).toEqual([]);
    await vi.advanceTimersByTimeAsync(2 * UNDO_MS);
    expect(server.asked).toEqual(["delete"]);
    outbox.hold(nonce);
    expect(server.asked).toEqual(["delete"]);
  });

  test("is sent once by the next page, when its time is over, if its own page was closed", async () => {
    const store = createStore();
    const server = createNotary();
    const first = setUp([], store, server);
    first.outbox.lead(true);
    first.outbox.change("0", deletion);
    await vi.advanceTimersByTimeAsync(1_000);
    first.outbox.close();
    const second = setUp([], store, server);
    await second.outbox.load();
    second.outbox.lead(true);
    await vi.advanceTimersByTimeAsync(UNDO_MS - 1_000);
    expect([second.states(), server.asked]).toEqual([["waiting"], []]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect([second.states(), server.asked, store.kept.size]).toEqual([[], ["delete"], 0]);
  });

  test("is sent at once by the leading tab when the page is left", async () => {
    const store = createStore();
    const server = createNotary();
    const [leader, other] = [setUp([], store, server), setUp([], store, server)];
    other.link.shared = () => void leader.outbox.load();
    leader.outbox.lead(true);
    other.outbox.change("0", deletion);
    await vi.advanceTimersByTimeAsync(1);
    expect(leader.states()).toEqual(["waiting"]);
    other.outbox.letGo();
    await vi.advanceTimersByTimeAsync(1);
    expect([server.asked, leader.states()]).toEqual([["delete"], []]);
  });

  test("is sent before its own page is gone, which waits for nothing then", async () => {
    const server = createNotary();
    const { outbox } = setUp([], createStore(), server);
    outbox.lead(true);
    outbox.change("0", deletion);
    await vi.advanceTimersByTimeAsync(UNDO_MS - 1_000);
    outbox.letGo();
    expect(server.asked).toEqual(["delete"]);
  });

  test("is not delayed by a clock that is set back", async () => {
    const server = createNotary();
    const { outbox } = setUp([], createStore(), server);
    outbox.lead(true);
    outbox.change("0", deletion);
    vi.setSystemTime(Date.now() - 3_600_000);
    await vi.advanceTimersByTimeAsync(2 * UNDO_MS);
    expect(server.asked).toEqual(["delete"]);
  });

  test("is awaited after `sendHeld`, until its answer or the timeout", async () => {
    const server = createNotary();
    const { outbox, link } = setUp([], createStore(), server);
    outbox.lead(true);
    expect(await outbox.sendHeld(1_000)).toBe(true);
    outbox.change("0", deletion);
    expect(await outbox.sendHeld(1_000)).toBe(true);
    expect(server.asked).toEqual(["delete"]);
    link.up = false;
    outbox.change("0", deletion);
    const sent = outbox.sendHeld(1_000);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await sent).toBe(false);
  });
});

describe("sending", () => {
  test("every message is stored once, in the order of writing, whatever is lost", async () => {
    const behaviour = fc.constantFrom<Behaviour>(
      "store",
      "lose the answer",
      "lose the request",
      new ChatError("unavailable", "not now", 50),
      new ChatError("rate_limited", "slow down", 100),
      new ChatError("internal", "oops"),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(behaviour, { maxLength: 15 }), async (behaviours) => {
        const { outbox, server, store, states } = setUp(behaviours);
        outbox.lead(true);
        for (const text of ["a", "b", "c", "d"]) outbox.add("0", text);
        await vi.advanceTimersByTimeAsync(15 * 31_000);
        expect(said(server.log)).toEqual(["a", "b", "c", "d"]);
        expect(states()).toEqual([]);
        expect(unsent(store)).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test("a message is shown before it is sent, and the next one waits for its answer", async () => {
    const { outbox, server, seen } = setUp();
    outbox.lead(true);
    outbox.add("0", "first");
    outbox.add("0", "second");
    expect(seen.at(-1)?.map((entry) => entry.message)).toEqual(["first", "second"]);
    await vi.advanceTimersByTimeAsync(5);
    expect(server.attempts).toEqual(["first"]);
    await vi.advanceTimersByTimeAsync(10);
    expect(server.attempts).toEqual(["first", "second"]);
  });

  test("a failing room does not delay another one", async () => {
    const { outbox, server } = setUp(["lose the request"]);
    outbox.lead(true);
    outbox.add("0", "stuck");
    outbox.add("7", "through");
    await vi.advanceTimersByTimeAsync(20);
    expect(said(server.log)).toEqual(["through"]);
  });

  test("nothing is tried while offline, and everything at once after the reconnection", async () => {
    const { outbox, server, link, states } = setUp();
    link.up = false;
    outbox.lead(true);
    outbox.add("0", "later");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.attempts).toEqual([]);
    expect(states()).toEqual(["waiting"]);
    link.up = true;
    outbox.wake();
    await vi.advanceTimersByTimeAsync(20);
    expect(said(server.log)).toEqual(["later"]);
  });

  test("the wait doubles up to 30 s and respects the server's retryAfterMs", async () => {
    const { outbox, server } = setUp([
      new ChatError("rate_limited", "slow down", 7_000),
      ...Array.from<Behaviour>({ length: 8 }).fill("lose the request"),
    ]);
    outbox.lead(true);
    outbox.add("0", "patient");
    const times: number[] = [];
    const began = Date.now();
    for (let tries = 1; tries <= 10; tries++) {
      while (server.attempts.length < tries) await vi.advanceTimersByTimeAsync(5);
      times.push(Date.now() - began);
    }
    const waits = times.slice(1).map((time, index) => Math.round((time - (times[index] ?? 0)) / 100) / 10);
    expect(waits).toEqual([7.5, 1, 2, 4, 8, 15, 15, 15, 15]);
  });
});

describe("outcomes", () => {
  test("an unknown outcome is shown as unconfirmed, never as failed", async () => {
    const { outbox, seen } = setUp(Array.from<Behaviour>({ length: 50 }).fill("lose the answer"));
    outbox.lead(true);
    outbox.add("0", "did it arrive?");
    await vi.advanceTimersByTimeAsync(5 * 60_000);
    expect(seen.at(-1)?.[0]?.state).toBe("unconfirmed");
    expect(seen.flat().some((entry) => entry.state === "failed")).toBe(false);
  });

  test.each(["invalid", "not_found", "too_large", "unauthorized", "forbidden"] as const)(
    "%s is final: the message has failed and the next one is sent",
    async (code) => {
      const { outbox, server, seen } = setUp([new ChatError(code, "no")]);
      outbox.lead(true);
      outbox.add("0", "refused");
      outbox.add("0", "fine");
      await vi.advanceTimersByTimeAsync(10_000);
      expect(said(server.log)).toEqual(["fine"]);
      expect(seen.at(-1)).toMatchObject([{ message: "refused", state: "failed", failure: { code } }]);
    },
  );

  test("a failed message can be sent again with the same nonce, or discarded", async () => {
    const { outbox, server, seen, store } = setUp([
      new ChatError("not_found", "no"),
      new ChatError("not_found", "no"),
    ]);
    outbox.lead(true);
    outbox.add("0", "one");
    outbox.add("0", "two");
    await vi.advanceTimersByTimeAsync(100);
    const [one, two] = seen.at(-1) ?? [];
    outbox.retry(one?.nonce ?? "");
    outbox.remove(two?.nonce ?? "");
    await vi.advanceTimersByTimeAsync(100);
    expect(server.log).toMatchObject([{ message: "one", nonce: one?.nonce }]);
    expect(unsent(store)).toEqual([]);
  });

  test("a message heard in the room is settled, even if its answer never comes", async () => {
    const { outbox, server, states } = setUp(Array.from<Behaviour>({ length: 9 }).fill("lose the answer"));
    outbox.lead(true);
    outbox.add("0", "echoed");
    await vi.advanceTimersByTimeAsync(15);
    expect(states()).toEqual(["unconfirmed"]);
    for (const message of server.log) outbox.heard(message);
    expect(states()).toEqual([]);
    const tries = server.attempts.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.attempts.length).toBe(tries);
  });

  test("a message is no longer tried after a day, and sending it again is a new send", async () => {
    const { outbox, server, seen, link } = setUp();
    link.up = false;
    outbox.lead(true);
    outbox.add("0", "yesterday");
    await vi.advanceTimersByTimeAsync(TRIED_FOR_MS + 1_000);
    link.up = true;
    outbox.wake();
    await vi.advanceTimersByTimeAsync(100);
    const old = seen.at(-1)?.[0];
    expect(old?.state).toBe("failed");
    expect(server.attempts).toEqual([]);
    outbox.retry(old?.nonce ?? "");
    await vi.advanceTimersByTimeAsync(100);
    expect(said(server.log)).toEqual(["yesterday"]);
    expect(server.log[0]?.nonce).not.toBe(old?.nonce);
  });

  test("the number of waiting messages is limited", () => {
    const { outbox } = setUp();
    for (let count = 0; count < MOST_WAITING; count++) outbox.add("0", "x");
    expect(() => outbox.add("0", "one too many")).toThrow(ChatError);
  });
});

describe("tabs and lives", () => {
  test("the next page sends a closed page's messages once, even if an answer was lost", async () => {
    const store = createStore();
    const server = createServer(["lose the answer"]);
    const first = setUp([], store, server);
    first.outbox.lead(true);
    first.outbox.add("0", "survivor");
    first.outbox.add("0", "follower");
    await vi.advanceTimersByTimeAsync(12);
    first.outbox.close();

    const second = setUp([], store, server);
    second.outbox.lead(true);
    await vi.advanceTimersByTimeAsync(100);
    expect(said(server.log)).toEqual(["survivor", "follower"]);
    expect(said(second.sent)).toEqual(["survivor", "follower"]);
    expect(unsent(store)).toEqual([]);
  });

  test("a tab that does not lead shows messages but does not send them", async () => {
    const store = createStore();
    const follower = setUp([], store);
    follower.outbox.add("0", "not mine to send");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(follower.server.attempts).toEqual([]);
    const leader = setUp([], store);
    leader.outbox.lead(true);
    await vi.advanceTimersByTimeAsync(100);
    expect(said(leader.server.log)).toEqual(["not mine to send"]);
    await follower.outbox.load();
    expect(follower.states()).toEqual([]);
  });

  test("a tab that was asleep sends nothing that another has sent, and taken back, since", async () => {
    const store = createStore();
    const asked: string[] = [];
    const send = async ({ change, roomId }: Outgoing): Promise<Message> => {
      if (change?.do === "react") asked.push(change.on ? "on" : "off");
      return { roomId, seq: 3, date: 1, hash: "h", from: "1", message: "", rev: asked.length };
    };
    const server = { ...createServer(), send };
    const [used, asleep] = [setUp([], store, server).outbox, setUp([], store, server).outbox];
    const react = (on: boolean) => used.change("0", { do: "react", seq: 3, hash: "h", emoji: "👍", on });
    react(true);
    await vi.advanceTimersByTimeAsync(1);
    await asleep.load();
    used.lead(true);
    await vi.advanceTimersByTimeAsync(50);
    react(false);
    await vi.advanceTimersByTimeAsync(50);
    used.lead(false);
    asleep.lead(true);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(asked).toEqual(["on", "off"]);
  });

  test("a tab that was asleep, and does not know yet who leads, sends nothing that another has taken back", async () => {
    const store = createStore();
    const server = createServer([new ChatError("rate_limited", "not now", 5_000)]);
    const [used, asleep] = [setUp([], store, server).outbox, setUp([], store, server)];
    asleep.outbox.lead(true);
    asleep.outbox.add("0", "taken back");
    await vi.advanceTimersByTimeAsync(50);
    expect(asleep.states()).toEqual(["waiting"]);
    await used.load();
    expect(used.takeBack([...store.kept.keys()][0] ?? "")).toBe(true);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(server.attempts).toEqual(["taken back"]);
    expect(asleep.states()).toEqual([]);
  });

  test("a store that does not answer delays what is sent again, and holds it up no longer than that", async () => {
    const store = createStore();
    const server = createServer([new ChatError("rate_limited", "not now", 5_000)]);
    const { outbox } = setUp([], store, server);
    outbox.lead(true);
    outbox.add("0", "late");
    await vi.advanceTimersByTimeAsync(50);
    store.all = () => new Promise(() => {});
    await vi.advanceTimersByTimeAsync(8_000);
    expect(said(server.log)).toEqual(["late"]);
  });

  test("two tabs that both lead store every message once", async () => {
    const store = createStore();
    const server = createServer();
    const one = setUp([], store, server);
    const two = setUp([], store, server);
    for (const text of ["a", "b", "c"]) one.outbox.add("0", text);
    one.outbox.lead(true);
    two.outbox.lead(true);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(said(server.log)).toEqual(["a", "b", "c"]);
  });

  test("every tab shows the state of a message, whichever tab sent it", async () => {
    const store = createStore();
    const server = createServer([new ChatError("not_found", "no")]);
    const one = setUp([], store, server);
    const two = setUp([], store, server);
    one.link.shared = () => void two.outbox.load();
    two.link.shared = () => void one.outbox.load();
    one.outbox.lead(true);
    one.outbox.add("7", "refused");
    await vi.advanceTimersByTimeAsync(5);
    expect(two.states()).toEqual(["sending"]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.attempts).toEqual(["refused"]);
    expect([one.states(), two.states()]).toEqual([["failed"], ["failed"]]);
    two.outbox.remove(two.seen.at(-1)?.[0]?.nonce ?? "");
    await vi.advanceTimersByTimeAsync(5);
    expect([one.states(), two.states()]).toEqual([[], []]);
    expect(store.kept.size).toBe(0);
  });

  test("a slow read of the store does not undo a retry", async () => {
    const store = createStore();
    const { outbox, server, states } = setUp([new ChatError("not_found", "no")], {
      ...store,
      all: () => read,
    });
    let answer: (entries: Outgoing[]) => void = () => {};
    const read = new Promise<Outgoing[]>((resolve) => (answer = resolve));
    outbox.lead(true);
    outbox.add("0", "again");
    await vi.advanceTimersByTimeAsync(50);
    void outbox.load();
    const stale = [...store.kept.values()];
    outbox.retry(stale[0]?.nonce ?? "");
    answer(stale);
    await vi.advanceTimersByTimeAsync(50);
    expect(said(server.log)).toEqual(["again"]);
    expect(states()).toEqual([]);
  });

  test("a slow read of the store does not bring back what was settled meanwhile", async () => {
    const store = createStore();
    const { outbox, server, states } = setUp([], { ...store, all: () => read });
    let answer: (entries: Outgoing[]) => void = () => {};
    const read = new Promise<Outgoing[]>((resolve) => (answer = resolve));
    outbox.add("0", "settled");
    const stale = [...store.kept.values()];
    outbox.lead(true);
    await vi.advanceTimersByTimeAsync(50);
    answer(stale);
    await vi.advanceTimersByTimeAsync(50);
    expect(said(server.log)).toEqual(["settled"]);
    expect(server.attempts).toEqual(["settled"]);
    expect(states()).toEqual([]);
  });

  test("what a full store does not take is shown and sent all the same, however often the store is read", async () => {
    const store = createStore();
    store.full = true;
    const { outbox, server, link, seen, states } = setUp([new ChatError("not_found", "no")], store);
    outbox.lead(true);
    outbox.add("7", "refused");
    await vi.advanceTimersByTimeAsync(50);
    link.up = false;
    outbox.add("0", "written offline");
    outbox.change("0", { do: "delete", seq: 3 });
    await outbox.load();
    expect(states()).toEqual(["failed", "waiting", "waiting"]);
    expect(seen.at(-1)?.map(({ unkept }) => unkept)).toEqual([true, true, true]);
    link.up = true;
    outbox.wake();
    await vi.advanceTimersByTimeAsync(UNDO_MS + 2_000);
    expect(server.attempts).toEqual(["refused", "written offline", ""]);
    expect(states()).toEqual(["failed"]);
  });

  test("a deletion's new time to undo counts even if a full store has only the old one", async () => {
    const { outbox, server, store } = setUp();
    outbox.lead(true);
    const nonce = outbox.change("0", { do: "delete", seq: 3 });
    await vi.advanceTimersByTimeAsync(UNDO_MS - 1_000);
    store.full = true;
    outbox.hold(nonce);
    await outbox.load();
    await vi.advanceTimersByTimeAsync(UNDO_MS - 1_000);
    expect(outbox.takeBack(nonce)).toBe(true);
    expect([server.attempts, store.kept.size]).toEqual([[], 0]);
  });

  test("clearing removes everything for good", async () => {
    const { outbox, store, link, states } = setUp();
    link.up = false;
    outbox.add("0", "secret");
    await outbox.clear();
    expect(store.kept.size).toBe(0);
    expect(states()).toEqual([]);
  });
});

describe("a log that has lost what was sent", () => {
  test("acknowledged messages that the log has lost are offered again with their nonces", async () => {
    const { outbox, server } = setUp();
    outbox.lead(true);
    for (const text of ["kept", "lost 1", "lost 2"]) outbox.add("0", text);
    await vi.advanceTimersByTimeAsync(200);
    const nonces = server.log.map((message) => message.nonce);
    server.log.splice(1);
    outbox.compare("0", server.log, 1);
    await vi.advanceTimersByTimeAsync(200);
    expect(said(server.log)).toEqual(["kept", "lost 1", "lost 2"]);
    expect(server.log.map((message) => message.nonce)).toEqual(nonces);
  });

  test("acknowledged messages are offered again even if a full store did not take them", async () => {
    const { outbox, store, states } = setUp();
    store.full = true;
    outbox.lead(true);
    outbox.add("0", "acknowledged");
    await vi.advanceTimersByTimeAsync(50);
    expect(states()).toEqual([]);
    await outbox.load();
    outbox.compare("0", [], 1);
    expect(states()).toEqual(["unconfirmed"]);
  });

  test("a message offered again survives a reload like any other", async () => {
    const { outbox, server, store, link, states } = setUp();
    outbox.lead(true);
    outbox.add("0", "lost");
    await vi.advanceTimersByTimeAsync(100);
    server.log.length = 0;
    link.up = false;
    outbox.compare("0", [], 1);
    await outbox.load();
    expect(states()).toEqual(["unconfirmed"]);
    expect(unsent(store)).toEqual(["lost"]);
    link.up = true;
    await outbox.clear();
  });

  test("messages of other rooms and from before the page are not offered again", async () => {
    const { outbox, server } = setUp();
    outbox.lead(true);
    outbox.add("0", "before the page");
    outbox.add("0", "lost");
    outbox.add("7", "elsewhere");
    await vi.advanceTimersByTimeAsync(200);
    const tries = server.attempts.length;
    outbox.compare("0", [], server.log.find((one) => one.message === "lost")?.seq ?? 0);
    await vi.advanceTimersByTimeAsync(200);
    expect(server.attempts.slice(tries)).toEqual(["lost"]);
  });

  test("the next page offers messages again that were sent before a reload, in order, for some minutes", async () => {
    const store = createStore();
    const server = createServer();
    const first = setUp([], store, server);
    first.outbox.lead(true);
    const texts = ["kept", ...Array.from({ length: 9 }, (_, index) => `lost ${index}`)];
    for (const text of texts) first.outbox.add("0", text);
    await vi.advanceTimersByTimeAsync(1_000);
    first.outbox.close();
    const [kept] = server.log.splice(0);
    server.log.push(...(kept === undefined ? [] : [kept]));

    const second = setUp([], store, server);
    second.outbox.lead(true);
    await second.outbox.load();
    expect(second.states()).toEqual([]);
    expect([...second.outbox.keptRooms()]).toEqual(["0"]);
    second.outbox.compare("0", server.log, 1);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(said(server.log)).toEqual(texts);

    server.log.length = 0;
    second.outbox.close();
    await vi.advanceTimersByTimeAsync(KEPT_FOR_MS);
    const third = setUp([], store, server);
    third.outbox.lead(true);
    await third.outbox.load();
    third.outbox.compare("0", server.log, 1);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(server.log).toEqual([]);
    expect(store.kept.size).toBe(0);
  });

  test("sent messages are forgotten after some minutes, whatever else happens", async () => {
    const { outbox, store } = setUp();
    outbox.lead(true);
    outbox.add("0", "the first");
    await vi.advanceTimersByTimeAsync(60_000);
    outbox.add("0", "the second");
    await vi.advanceTimersByTimeAsync(KEPT_FOR_MS - 60_000 + 100);
    expect([...store.kept.values()].map(({ message }) => message)).toEqual(["the second"]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect([...store.kept]).toEqual([]);
    outbox.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  test("only the last sent messages are kept", async () => {
    const { outbox, store } = setUp();
    outbox.lead(true);
    for (let count = 0; count < MOST_KEPT + 5; count++) outbox.add("0", `message ${count}`);
    await vi.advanceTimersByTimeAsync(5_000);
    const texts = [...store.kept.values()].map((entry) => entry.message);
    expect(texts).toHaveLength(MOST_KEPT);
    expect(texts[0]).toBe("message 5");
  });
});

describe("files", () => {
  const ids = ({ files }: Outgoing) => files?.map(({ id }) => id);

  test("are uploaded one after the other, and then the message is sent, once", async () => {
    const { outbox, server, uploads, sent, store } = setUp();
    outbox.lead(true);
    outbox.add("0", "two files", undefined, undefined, [file("a"), file("b")]);
    expect([uploads.begun, server.attempts]).toEqual([["a"], []]);
    await uploads.end("a");
    expect([uploads.begun, server.attempts]).toEqual([["a", "b"], []]);
    expect([...store.kept.values()].map(ids)).toEqual([["id of a", undefined]]);
    await uploads.end("b");
    expect([said(sent), server.attempts, unsent(store)]).toEqual([["two files"], ["two files"], []]);
    expect(uploads.released).toEqual(["stored a b"]);
  });

  test("hold up what is written after them in their room, but no change there, and no other room", async () => {
    const { outbox, server, uploads } = setUp();
    outbox.lead(true);
    outbox.add("0", "before");
    outbox.add("0", "with a file", undefined, undefined, [file("a")]);
    outbox.add("0", "after");
    outbox.change("0", { do: "edit", seq: 1, rev: 0 }, "an edit");
    outbox.add("7", "elsewhere");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(server.attempts).toEqual(["before", "elsewhere", "an edit"]);
    await uploads.end("a");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(server.attempts.slice(3)).toEqual(["with a file", "after"]);
  });

  test("that were uploaded are not uploaded again by the next page", async () => {
    const store = createStore();
    const server = createServer();
    const first = setUp([], store, server);
    first.outbox.lead(true);
    first.outbox.add("0", "long", undefined, undefined, [file("a"), file("b")]);
    await first.uploads.end("a");
    first.outbox.close();
    const second = setUp([], store, server);
    second.outbox.lead(true);
    await vi.advanceTimersByTimeAsync(1);
    expect([first.uploads.begun, second.uploads.begun]).toEqual([["a", "b"], ["b"]]);
    await second.uploads.end("b");
    expect(said(server.log)).toEqual(["long"]);
  });

  test("that were added here are uploaded here also while another tab leads, which sends the message", async () => {
    const first = setUp();
    first.uploads.ours.add("a");
    first.outbox.lead(true);
    first.outbox.add("0", "film", undefined, undefined, [file("a")]);
    const second = setUp([], first.store);
    second.uploads.upload = () => Promise.reject(new ChatError("unreachable", "Another tab uploads it."));
    first.link.shared = () => void second.outbox.load();
    first.outbox.lead(false);
    second.outbox.lead(true);
    await vi.advanceTimersByTimeAsync(100);
    await first.uploads.end("a");
    await vi.advanceTimersByTimeAsync(100);
    expect([first.uploads.begun, first.server.attempts]).toEqual([["a"], []]);
    expect(second.server.attempts).toEqual(["film"]);
  });

  test("that are cut off are uploaded again by themselves", async () => {
    const { outbox, uploads, server, states } = setUp();
    outbox.lead(true);
    outbox.add("0", "cut", undefined, undefined, [file("a")]);
    await uploads.end("a", new ChatError("unreachable", "cut off"));
    expect(states()).toEqual(["waiting"]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(uploads.begun).toEqual(["a", "a"]);
    await uploads.end("a");
    expect(said(server.log)).toEqual(["cut"]);
  });

  test("that are refused fail their message alone, and a retry goes on with those that are there", async () => {
    const { outbox, uploads, server, states } = setUp();
    outbox.lead(true);
    outbox.add("0", "refused", "n", undefined, [file("a"), file("b")]);
    outbox.add("0", "after it");
    await uploads.end("a");
    await uploads.end("b", new ChatError("too_large", "Too large."));
    expect([states(), server.attempts]).toEqual([["failed"], ["after it"]]);
    outbox.retry("n");
    expect(uploads.begun).toEqual(["a", "b", "b"]);
    await uploads.end("b");
    expect(said(server.log)).toEqual(["after it", "refused"]);
  });

  test("can be cancelled until the message is sent: the upload ends, and nothing is left", async () => {
    const { outbox, uploads, server, store } = setUp();
    outbox.lead(true);
    outbox.add("0", "cancelled", "n", undefined, [file("a"), file("b")]);
    outbox.add("0", "after it");
    await uploads.end("a");
    expect(outbox.takeBack("n")).toBe(true);
    await vi.advanceTimersByTimeAsync(11);
    expect(uploads.released).toEqual(["dropped a b"]);
    expect([server.attempts, unsent(store)]).toEqual([["after it"], []]);
    expect(outbox.takeBack("n")).toBe(false);
  });

  test("that arrive after their message was cancelled are dropped", async () => {
    const { outbox, uploads } = setUp();
    const late: ((id: string) => void)[] = [];
    uploads.upload = () => new Promise((resolve) => void late.push(resolve));
    outbox.lead(true);
    outbox.add("0", "cancelled", "n", undefined, [file("a")]);
    outbox.takeBack("n");
    late[0]?.("late id");
    await vi.advanceTimersByTimeAsync(1);
    expect(uploads.released).toEqual(["dropped a", "dropped a as late id"]);
  });

  test("that the server does not know any more are uploaded once more, and not again", async () => {
    const unknown = new ChatError("not_found", "No such file.");
    const { outbox, uploads, states } = setUp([unknown, unknown]);
    outbox.lead(true);
    outbox.add("0", "forgotten", undefined, undefined, [file("a")]);
    await uploads.end("a");
    expect([uploads.begun, states()]).toEqual([["a", "a"], ["waiting"]]);
    await uploads.end("a");
    expect([uploads.begun, states()]).toEqual([["a", "a"], ["failed"]]);
  });

  test("are uploaded by the tab that leads, also those of another tab", async () => {
    const store = createStore();
    const server = createServer();
    const [leader, other] = [setUp([], store, server), setUp([], store, server)];
    other.link.shared = () => void leader.outbox.load();
    leader.link.shared = () => void other.outbox.load();
    leader.outbox.lead(true);
    other.outbox.add("0", "from the other tab", "n", undefined, [file("a")]);
    await vi.advanceTimersByTimeAsync(1);
    expect([leader.uploads.begun, other.uploads.begun]).toEqual([["a"], []]);
    leader.outbox.lead(false);
    other.outbox.lead(true);
    await vi.advanceTimersByTimeAsync(1);
    expect([leader.states(), other.uploads.begun]).toEqual([["waiting"], ["a"]]);
    await other.uploads.end("a");
    expect(said(server.log)).toEqual(["from the other tab"]);
  });
});
