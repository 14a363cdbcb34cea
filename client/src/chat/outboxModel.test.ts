import type { Message } from "@hubbub/server/protocol";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ChatError } from "./api.ts";
import { createLocks } from "./headless.ts";
import { createOutbox, KEPT_FOR_MS, UNDO_MS } from "./outbox.ts";
import type { Outgoing } from "./state/outgoing.ts";
import { joinTabs } from "./tabs.ts";
import type { Clock, World } from "./world.ts";

/**
 * The outboxes of a user's tabs against a server in memory. Whatever takes time is under way until a step lets it go
 * on; only what one connection carries, and what the browser's store does, keeps its order.
 */
const RUNS = 2_000;
const ME = "1";
const roomId = "0";

type Step = () => void;

/** Undefined if there is none. */
function pick<T>(list: readonly T[], place: number): T | undefined {
  return list[place % Math.max(1, list.length)];
}

/** A message, and what the server knows of its edits. */
type Row = Message & { nonce: string; editRev?: number; editNonce?: string };

/** A room that knows nonces. */
function createServer() {
  let rows: readonly Row[] = [];
  let made = 0;
  const server = {
    get rows() {
      return rows;
    },
    /** Whether new messages and changes are refused. */
    closed: false,
    /** What the next requests get. */
    trouble: [] as ("unavailable" | "internal" | "rate_limited")[],
    uploaded: new Set<string>(),
    told: (_row: Row) => {},

    lose(saved: readonly Row[]) {
      rows = saved;
    },

    upload(): string | ChatError {
      const code = server.trouble.pop();
      if (code !== undefined) return new ChatError(code, "");
      const id = `file ${(made += 1)}`;
      server.uploaded.add(id);
      return id;
    },

    answer({ message, nonce, change, files = [] }: Outgoing): Row | ChatError {
      const code = server.trouble.pop();
      if (code !== undefined) return new ChatError(code, "");
      if (change === undefined) {
        const known = rows.find((row) => row.nonce === nonce);
        if (known !== undefined) return known;
        if (server.closed) return new ChatError("archived", "");
        if (files.some(({ id = "" }) => !server.uploaded.has(id))) return new ChatError("not_found", "");
        made += 1;
        return put({ roomId, seq: rows.length + 1, date: made, hash: `h${made}`, from: ME, message, nonce });
      }
      const now = rows[change.seq - 1];
      if (now === undefined || now.hash !== change.hash) return new ChatError("not_found", "");
      if (now.deleted !== undefined) return change.do === "delete" ? now : new ChatError("conflict", "");
      if (server.closed) return new ChatError("archived", "");
      const rev = (now.rev ?? 0) + 1;
      switch (change.do) {
        case "delete":
          return put({ ...now, message: "", deleted: made, reactions: [], rev });
        case "react":
          if ((now.reactions ?? []).length > 0 === change.on) return now;
          return put({ ...now, reactions: change.on ? [[change.emoji, [ME]]] : [], rev });
        case "edit":
          if (now.editNonce === nonce) return now;
          if (change.rev < (now.editRev ?? 0)) return new ChatError("conflict", "");
          return put({ ...now, message, rev, editRev: rev, editNonce: nonce });
        case "pin":
          return now;
        default:
          return change satisfies never;
      }
    },
  };

  function put(row: Row): Row {
    rows = [...rows.slice(0, row.seq - 1), row, ...rows.slice(row.seq)];
    server.told(row);
    return row;
  }

  return server;
}

function createModel(locks: World["locks"]) {
  let date = 1_000_000;
  let random = 0;
  const server = createServer();
  let saved = [server.rows];
  /** What the browser's store holds, and what it was asked for. */
  const kept = new Map<string, Outgoing>();
  let storing: Step[] = [];
  const tabs = new Set<Tab>();
  let named = 0;
  /** Whether a tab was left for this one which does not show yet what was done there. */
  let isNew = false;
  let [lost, refused] = [false, false];
  /** What the person wants, by nonce: whether a text is sent, how its edit ends, its reaction, whether it is deleted. */
  const wanted = new Map<string, boolean>();
  const [edits, reactions] = [new Map<string, string>(), new Map<string, boolean>()];
  /** What the person did while the tabs did not know it all yet, and what a crash has left in doubt. */
  const [recent, unsure] = [new Set<string>(), new Set<string>()];
  const [deleted, deletions] = [new Set<string>(), new Map<string, string>()];

  type Tab = ReturnType<typeof openTab>;

  function openTab() {
    let [open, connected, frozen] = [true, false, false];
    /** What the connection carries to the server, and what it brings. */
    let [asked, brought]: [Step[], Step[]] = [[], []];
    let unanswered: Step[] = [];
    /** What the page does next: the store's answers and others' words in their order, all else in any. */
    const [answers, words, events]: [Step[], Step[], Step[]] = [[], [], []];
    let timers: { at: number; go: Step }[] = [];
    const ours = new Set<string>();
    let shown: readonly Outgoing[] = [];
    let hearing = (_word: unknown) => {};

    /** A closed page asks for nothing more. */
    function store<T>(run: () => T): Promise<T> {
      return new Promise((resolve) => {
        const act = () => {
          const result = run();
          answers.push(() => resolve(result));
        };
        if (open) storing.push(act);
      });
    }

    /** The ends of a request that the connection may lose. */
    function request<T>(go: (end: (result: T | ChatError) => void) => void): Promise<T> {
      return new Promise((resolve, reject) => {
        unanswered.push(() => reject(new ChatError("unreachable", "")));
        go((result) => (result instanceof ChatError ? reject(result) : resolve(result)));
      });
    }

    const clock: Clock = {
      now: () => date,
      date: () => date,
      after(ms, go) {
        const timer = { at: date + ms, go };
        timers.push(timer);
        return () => (timers = timers.filter((other) => other !== timer));
      },
    };

    /** The others hear a word when they run. */
    function openChannel(_name: string, heard: (word: unknown) => void) {
      hearing = (word) => void words.push(() => void (open && heard(word)));
      const tell = (word: unknown) => {
        for (const other of tabs) if (other.outbox !== outbox) other.hear(word);
      };
      return { tell, close: () => {} };
    }

    const outbox = createOutbox({
      store: {
        all: () => store(() => [...kept.values()]),
        put: (entry) => store(() => kept.set(entry.nonce, entry) === kept),
        remove: (nonce) => store(() => void kept.delete(nonce)),
        clear: () => store(() => kept.clear()),
      },
      clock,
      random: () => random,
      ready: () => connected,
      send: (entry) =>
        request<Row>((end) => {
          const own = brought;
          asked.push(() => {
            const answer = server.answer(entry);
            own.push(() => end(answer));
          });
        }),
      upload: (_file, _roomId, signal) =>
        request<string>((end) => {
          const answer = server.upload();
          signal.addEventListener("abort", () => end(new ChatError("unreachable", "")));
          events.push(() => end(answer));
        }),
      isOurs: ({ key }) => ours.has(key),
      release: () => {},
      sent: (row) => outbox.heard(row),
      refused: () => {},
      shared() {
        for (const other of tabs) if (open && other !== tab) other.changed();
      },
      changed: (entries) => (shown = entries),
    });
    /** A page hears of its locks when it runs. */
    const own =
      locks &&
      ({
        request: (name: string, options: LockOptions, taken: () => Promise<void> | undefined) =>
          new Promise((resolve, reject) => {
            const granted = () => new Promise((done) => events.push(() => done(open ? taken() : undefined)));
            locks
              .request(name, options, granted)
              .then(resolve, (error: Error) => events.push(() => reject(error)));
          }),
      } as unknown as World["locks"]);
    const election = joinTabs(
      ME,
      { locks: own, openChannel, clock, random: () => (named += 1) / 1_000_000 },
      (leads) => {
        outbox.lead(leads, compare);
      },
    );
    void outbox.load();

    /** The whole log, as a `sync` brings it. */
    function compare() {
      if (!connected) return;
      brought.push(() => {
        const { rows } = server;
        for (const row of rows) outbox.heard(row);
        outbox.compare(roomId, rows, 0);
      });
    }

    function cut(place: number) {
      if (!connected || frozen) return;
      connected = false;
      // What has left this browser may still arrive.
      for (const arrive of asked.slice(0, place % (asked.length + 1))) arrive();
      [asked, brought] = [[], []];
      for (const lose of unanswered) lose();
      unanswered = [];
    }

    const tab = {
      outbox,
      ours,
      compare,
      cut,
      get shown() {
        return shown;
      },
      get isQuiet() {
        return frozen || answers.length + words.length + events.length === 0;
      },
      get isBusy() {
        return asked.length + brought.length > 0;
      },
      get nextTimer() {
        return frozen ? Infinity : Math.min(...timers.map(({ at }) => at));
      },
      changed: () => void words.push(() => void (open && outbox.load())),
      hear: (word: unknown) => hearing(word),
      tell: (row: Row) => void (connected && brought.push(() => outbox.heard(row))),
      connect() {
        if (connected || frozen) return;
        connected = true;
        outbox.wake();
        compare();
        void outbox.load().then(compare);
      },
      freeze: () => (frozen = true),
      thaw: () => (frozen = false),
      use() {
        frozen = false;
        election.claim();
      },
      goOn(place: number) {
        const [which, event] = [place % 5, Math.floor(place / 5)];
        if (which === 0) asked.shift()?.();
        if (frozen) return;
        if (which === 1) brought.shift()?.();
        if (which === 2) answers.shift()?.();
        if (which === 3) words.shift()?.();
        if (which === 4) events.splice(event % Math.max(1, events.length), 1)[0]?.();
      },
      ring() {
        const [next] = timers.toSorted((one, other) => one.at - other.at);
        timers = timers.filter((timer) => timer !== next);
        next?.go();
      },
      close() {
        // One that has just heard of an undo may let go what was undone.
        if (isStill() && !frozen) outbox.letGo();
        frozen = open = false;
        cut(1);
        election.leave();
        outbox.close();
        tabs.delete(tab);
      },
    };
    return tab;
  }

  let current = openTab();
  tabs.add(current);
  current.connect();
  server.told = (row) => {
    for (const tab of tabs) tab.tell(row);
  };

  const isStill = () => storing.length === 0 && [...tabs].every((tab) => tab.isQuiet);

  /** Whether the person sees what they did last, in whichever tab. */
  function isShown() {
    isNew &&= !isStill();
    return !isNew;
  }

  /** One of the stored texts, which the person changes. */
  function stored(place: number): Row | undefined {
    const texts = server.rows.filter((row) => row.deleted === undefined && !deleted.has(row.nonce));
    const row = isShown() ? pick(texts, place) : undefined;
    if (row !== undefined) did(row.nonce);
    return row;
  }

  function did(nonce: string) {
    if (isStill()) recent.clear();
    recent.add(nonce);
  }

  function rowOf({ seq, hash }: { seq: number; hash?: string }): Row | undefined {
    return server.rows.find((row) => row.seq === seq && row.hash === hash);
  }

  /** One of the entries that the person sees. */
  function seen(place: number, isIt: (entry: Outgoing) => boolean): Outgoing | undefined {
    const entry = isShown() ? pick(current.shown.filter(isIt), place) : undefined;
    if (entry !== undefined)
      did(entry.change === undefined ? entry.nonce : (rowOf(entry.change)?.nonce ?? ""));
    return entry;
  }

  function say(keys: string[] = []) {
    const nonce = `n${(named += 1)}`;
    did(nonce);
    wanted.set(nonce, true);
    for (const key of keys) current.ours.add(key);
    const files = keys.map((key) => ({ key, name: key, type: "text/plain", size: 1 }));
    current.outbox.add(roomId, `text ${named}`, nonce, {}, files);
  }

  const deeds = {
    say: () => say(),
    "say with files": (place: number) => say(["a", "b"].slice(place % 2).map((key) => `${key}${named}`)),
    edit(place: number) {
      const row = stored(place);
      if (row === undefined) return;
      const [text, { seq, hash, rev = 0 }] = [`edit ${(named += 1)}`, row];
      edits.set(row.nonce, text);
      current.outbox.change(roomId, { do: "edit", seq, hash, rev }, text);
    },
    react(place: number) {
      const row = stored(place);
      if (row === undefined) return;
      const on = place % 2 === 0;
      reactions.set(row.nonce, on);
      current.outbox.change(roomId, { do: "react", seq: row.seq, hash: row.hash, emoji: "👍", on });
    },
    delete(place: number) {
      const row = stored(place);
      if (row === undefined) return;
      const nonce = current.outbox.change(roomId, { do: "delete", seq: row.seq, hash: row.hash });
      deleted.add(row.nonce);
      deletions.set(nonce, row.nonce);
    },
    undo(place: number) {
      const entry = seen(place, ({ nonce, heldUntil = 0, created }) => {
        return deletions.has(nonce) && heldUntil > date && date < created + UNDO_MS;
      });
      if (entry !== undefined && current.outbox.takeBack(entry.nonce))
        deleted.delete(deletions.get(entry.nonce) ?? "");
    },
    "take back"(place: number) {
      const entry = seen(place, ({ change }) => change === undefined);
      if (entry !== undefined && current.outbox.takeBack(entry.nonce)) wanted.set(entry.nonce, false);
    },
    "stop upload"(place: number) {
      const entry = seen(place, ({ files }) => files !== undefined);
      if (entry !== undefined) current.outbox.stop(entry.nonce);
    },
    "send again"(place: number) {
      const entry = seen(place, ({ state, change }) => state === "failed" && change === undefined);
      if (entry !== undefined) current.outbox.retry(entry.nonce);
    },
    "give up"(place: number) {
      const entry = seen(place, ({ state }) => state === "failed");
      if (entry === undefined) return;
      current.outbox.remove(entry.nonce);
      if (entry.change === undefined) wanted.set(entry.nonce, false);
      else if (entry.change.do === "delete") deleted.delete(deletions.get(entry.nonce) ?? "");
    },
    "open tab"() {
      if (tabs.size > 2) return;
      const tab = openTab();
      tabs.add(tab);
      tab.connect();
    },
    "switch tab"(place: number) {
      if (!isStill()) return;
      current = pick([...tabs], place) ?? current;
      isNew = true;
      current.use();
    },
    "close tab"(place: number) {
      if (tabs.size < 2) return;
      const tab = pick([...tabs], place);
      if (!isStill()) for (const nonce of recent) unsure.add(nonce);
      tab?.close();
      // The browser ends what it was told to store.
      while (storing.length > 0) storing.shift()?.();
      if (tab !== current) return;
      current = pick([...tabs], 0) ?? current;
      isNew = true;
      current.use();
    },
    "freeze tab"(place: number) {
      const tab = pick([...tabs], place);
      if (tab !== current) tab?.freeze();
    },
    cut: (place: number) => pick([...tabs], place)?.cut(place >> 2),
    connect: (place: number) => pick([...tabs], place)?.connect(),
    refuse() {
      server.closed = !server.closed;
      refused = true;
    },
    trouble: (place: number) =>
      server.trouble.push(pick(["unavailable", "internal", "rate_limited"] as const, place) ?? "internal"),
    "forget files": () => server.uploaded.clear(),
    save: () => (saved = [...saved, server.rows].slice(-3)),
    "fail over"(place: number) {
      server.lose(pick(saved, place) ?? []);
      saved = [server.rows];
      lost = true;
      for (const tab of tabs) tab.compare();
    },
    "the store goes on": () => storing.shift()?.(),
    "a tab goes on": (place: number) => pick([...tabs], place)?.goOn(Math.floor(place / 3)),
    "time passes"(place: number) {
      random = (place % 8) / 32;
      // The browser's store answers within some ms.
      pass(date + (isStill() ? 8_000 : 20));
    },
  };

  /** Lets the next timer ring, unless it is later than this. */
  function pass(until: number): boolean {
    const [next] = [...tabs].toSorted((one, other) => one.nextTimer - other.nextTimer);
    if (next === undefined || next.nextTimer > until) return false;
    date = Math.max(date, next.nextTimer);
    next.ring();
    return true;
  }

  const tick = () => {
    date += 1;
    return new Promise<void>((resolve) => setImmediate(resolve));
  };

  /** Everything works, and time passes until nothing is left to do. */
  async function settle(ms: number): Promise<void> {
    const until = date + ms;
    server.closed = false;
    server.trouble = [];
    for (const tab of tabs) tab.thaw();
    for (const tab of tabs) tab.connect();
    for (let idle = 0; idle < 4;) {
      const before = [storing.length, isStill(), ...[...tabs].map((tab) => tab.isBusy)];
      storing.shift()?.();
      for (const tab of tabs) for (const place of [0, 1, 2, 3, 4]) tab.goOn(place);
      await tick();
      if (before[0] !== 0 || before.slice(2).includes(true) || !before[1]) idle = 0;
      else idle = pass(until) ? 0 : idle + 1;
    }
  }

  return {
    deeds,
    tick,
    settle,
    kept: () => [...kept.values()],
    server,
    tabs,
    wanted,
    edits,
    reactions,
    deleted,
    unsure,
    /** Whether a log was lost, or something refused. */
    get lost() {
      return lost;
    },
    get refused() {
      return refused;
    },
  };
}

const WEIGHTS: Record<keyof ReturnType<typeof createModel>["deeds"], number> = {
  say: 6,
  "say with files": 2,
  edit: 3,
  react: 3,
  delete: 2,
  undo: 1,
  "take back": 1,
  "stop upload": 1,
  "send again": 1,
  "give up": 1,
  "open tab": 2,
  "switch tab": 3,
  "close tab": 1,
  "freeze tab": 1,
  cut: 2,
  connect: 3,
  refuse: 1,
  trouble: 2,
  "forget files": 1,
  save: 1,
  "fail over": 1,
  "the store goes on": 14,
  "a tab goes on": 30,
  "time passes": 4,
};
type Deed = keyof typeof WEIGHTS;
const deed = fc.oneof(
  ...Object.entries(WEIGHTS).map(([name, weight]) => ({ weight, arbitrary: fc.constant(name as Deed) })),
);
const steps = fc.array(fc.tuple(deed, fc.nat({ max: 255 })), { maxLength: 80, size: "max" });

test("each text is stored once and as it was changed last, whatever is lost, and whichever tab sends", async () => {
  const history = fc.asyncProperty(fc.boolean(), steps, async (withLocks, all) => {
    const model = createModel(withLocks ? createLocks() : undefined);
    for (const [name, place] of all) {
      model.deeds[name](place);
      await model.tick();
    }
    await model.settle(5 * 60_000);
    const { server, wanted, edits, reactions, deleted, unsure, lost, refused } = model;
    const left = model.kept().filter(({ state }) => state !== "sent");
    expect(left.filter(({ state }) => state !== "failed")).toEqual([]);
    const isLeft = (seq: number, kind: string) =>
      left.some(({ change }) => change?.do === kind && change.seq === seq);
    for (const [nonce, isWanted] of wanted) {
      const found = server.rows.filter((row) => row.nonce === nonce).length;
      const isFailed = left.some((entry) => entry.nonce === nonce);
      const isSure = !lost && !refused && !unsure.has(nonce);
      if (isWanted && !isFailed && !deleted.has(nonce)) expect([nonce, found]).toEqual([nonce, 1]);
      else expect([nonce, found]).toEqual([nonce, isWanted || !isSure ? Math.min(found, 1) : 0]);
    }
    // A crash may leave the others without a word of its last act.
    for (const tab of unsure.size > 0 ? [] : model.tabs) {
      // What the log has is not shown as on its way.
      const shown = tab.shown.filter(({ nonce }) => !server.rows.some((row) => row.nonce === nonce));
      expect(new Set(shown.map(({ nonce }) => nonce))).toEqual(new Set(left.map(({ nonce }) => nonce)));
    }
    for (const { nonce, seq, ...row } of server.rows) {
      if (row.deleted !== undefined) expect(model.kept().map((entry) => entry.nonce)).not.toContain(nonce);
      if (lost || unsure.has(nonce)) continue;
      const isDeleted = deleted.has(nonce) && !isLeft(seq, "delete");
      expect([nonce, row.deleted !== undefined]).toEqual([nonce, isDeleted]);
      if (isDeleted || refused) continue;
      expect([nonce, row.message]).toEqual([nonce, edits.get(nonce) ?? row.message]);
      expect([nonce, (row.reactions ?? []).length > 0]).toEqual([nonce, reactions.get(nonce) ?? false]);
    }
    await model.settle(KEPT_FOR_MS + 1_000);
    expect(model.kept().filter(({ state }) => state === "sent")).toEqual([]);
  });
  await fc.assert(history, { numRuns: RUNS });
}, 600_000);
