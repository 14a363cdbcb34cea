import { setTimeout as sleep } from "node:timers/promises";
import { ChatError, isPassing } from "../../client/src/chat/api.ts";
import type { Message, RoomId } from "../../server/src/protocol.ts";
import type { History, Place } from "./history.ts";
import { createPerson, toPlace, type Person } from "./person.ts";
import type { Random } from "./random.ts";
import type { Rig } from "./rig.ts";

export type Load = {
  /** Messages a second, over all rooms. */
  rate: number;
  /** Whether some acknowledged messages are sent again, as if their answer had been lost. */
  repeats: boolean;
  /** Whether people edit, delete and react. */
  changes: boolean;
};

export type Crowd = {
  people: Person[];
  /** The members of each room. General is room 0. */
  members: Map<RoomId, Person[]>;
  /** Named rooms, then private ones. */
  named: RoomId[];
  private: RoomId[];
  nameOf: (id: string) => string;
  /** Sends until `stopLoad`, marks rooms as read, repeats sends, tries what is not allowed. */
  startLoad: (load: Load) => void;
  stopLoad: () => void;
  /** Waits until nothing is on its way and everybody has everything; then records views, store, counts and presence. */
  settle: (limits: { convergeMs: number; presenceMs: number }) => Promise<void>;
  close: () => void;
};

/** The members of each named room, by index: all 40 are in General, 20 and 15 in the named rooms; there are 3 pairs. */
const NAMED = [
  { name: "Harbour", from: 0, to: 20 },
  { name: "Lighthouse", from: 15, to: 30 },
];
const PAIRS = [
  [0, 1],
  [2, 21],
  [30, 31],
] as const;
/** How the load is spread over General, the named rooms and the private ones. */
const WEIGHTS = [
  { room: "0", weight: 0.25 },
  { room: "named", weight: 0.5 },
  { room: "private", weight: 0.25 },
] as const;
const PASSWORD = "correct horse";
/** How a message begins. */
const FIRST_WORDS = /p\d+ says \d+:/g;
const TICK_MS = 20;
/** Probabilities for each message sent. */
const REPEATED = 0.1;
const FORBIDDEN = 0.02;
const TOO_LONG = 0.01;
const READ = 0.2;
const CHANGED = 0.3;
/** People with this many messages on their way wait, so that a slow machine leaves little for the end. */
const WAITING = 10;
/** How long people may take to connect, and to send what waits: a slow machine is not a fault. */
const DRAIN_MS = 30_000;
/** How long windows may take to read a room from its end to its beginning. */
const READ_UP_MS = 60_000;
/** Seconds between two connections that clients drop by themselves, as laptops do. */
const CHURN_S = 2;

/** Signs up 40 people, makes 6 rooms, connects everybody and waits until all see all rooms. */
export async function gatherCrowd(rig: Rig, history: History, random: Random, size = 40): Promise<Crowd> {
  const names = new Map<string, string>();
  const nameOf = (id: string) => names.get(id) ?? `user ${id}`;
  const people = Array.from({ length: size }, (_, index) =>
    createPerson({
      address: rig.address,
      name: `p${String(index + 1).padStart(2, "0")}`,
      history,
      random,
      nameOf,
    }),
  );
  const person = (index: number): Person => {
    const one = people[index];
    if (!one) throw new Error(`there is no person ${index}`);
    return one;
  };
  // Sign up one after the other, so that ids are in the order of names.
  for (const one of people) names.set((await patiently(() => one.signUp(PASSWORD))).id, one.name);

  const members = new Map<RoomId, Person[]>([["0", people]]);
  const named: RoomId[] = [];
  const pairs: RoomId[] = [];
  for (const { name, from } of NAMED)
    named.push(await patiently(() => person(from).chat.createRoom({ name })));
  await until(
    () => people.every((one) => one.connected && one.chat.snapshot().connection === "online"),
    DRAIN_MS,
    "all to connect",
  );
  for (const [index, { from, to }] of NAMED.entries()) {
    const id = named[index] ?? "";
    const inside = people.slice(from, to);
    members.set(id, inside);
    await Promise.all(inside.map((one) => patiently(() => one.chat.joinRoom(id))));
  }
  for (const [one, other] of PAIRS) {
    const id = await patiently(() => person(one).chat.startPrivateRoom(person(other).user.id));
    pairs.push(id);
    members.set(id, [person(one), person(other)]);
  }
  for (const [room, inside] of members)
    for (const one of inside) history.add({ kind: "joined", person: one.name, room });
  for (const [room, [first]] of members) first?.say(room, "the first word");
  await until(
    () => [...members].every(([room, inside]) => inside.every((one) => one.head(room).seq === 1)),
    DRAIN_MS,
    "all to see the first word in all rooms",
  );

  let loading: NodeJS.Timeout | undefined;
  const later = new Set<NodeJS.Timeout>();

  function chooseRoom(): RoomId {
    let chance = random.next();
    for (const { room, weight } of WEIGHTS) {
      chance -= weight;
      if (chance < 0)
        return room === "named" ? random.pick(named) : room === "private" ? random.pick(pairs) : room;
    }
    return "0";
  }

  /** The first words of each message, by nonce. */
  const saidUnder = new Map<string, string>();
  let counter = 0;
  let repeating = true;
  let changing = true;
  function sendOne(): void {
    const room = chooseRoom();
    const sender = random.pick(members.get(room) ?? people);
    // People who logged out or left write nothing, and people whose messages do not get out stop.
    if (!sender.wanted || sender.pending >= WAITING) return;
    counter += 1;
    const needle = `${sender.name} says ${counter}:`;
    const text = `${needle} ${"la ".repeat(random.whole(12))}`;
    const isTooLong = random.next() < TOO_LONG;
    const isChange = random.next() < CHANGED && changing;
    unlessFull(() => {
      const nonce = sender.say(room, isTooLong ? "x".repeat(4_001) : text);
      if (nonce !== undefined) saidUnder.set(nonce, needle);
      if (isChange) sender.changeOne(room);
    });
    if (random.next() < REPEATED && repeating) repeatSoon(sender);
    if (random.next() < READ) random.pick(people).look(chooseRoomOf(sender));
    if (random.next() < FORBIDDEN) {
      const foreign = random.pick([...named, ...pairs]);
      const intruder = random.pick(people);
      if (members.get(foreign)?.includes(intruder) || !intruder.wanted) return;
      unlessFull(() => intruder.say(foreign, "let me in"));
    }
  }

  /** Acts, unless 200 of the person's messages are waiting. */
  function unlessFull(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof ChatError && error.code === "rate_limited")) throw error;
    }
  }

  function chooseRoomOf(one: Person): RoomId {
    return random.pick(one.roomIds());
  }

  /** Repeats this person's newest acknowledged message, like a client that lost the answer. */
  function repeatSoon(sender: Person): void {
    const timer = setTimeout(
      () => {
        later.delete(timer);
        const acknowledged = history.lines.findLast(
          (line) => line.kind === "acknowledged" && line.person === sender.name,
        );
        if (acknowledged?.kind === "acknowledged")
          void sender.sendAgain(acknowledged.room, acknowledged.nonce);
      },
      50 + random.whole(1_500),
    );
    later.add(timer);
  }

  return {
    people,
    members,
    named,
    private: pairs,
    nameOf,
    startLoad({ rate, repeats, changes }) {
      repeating = repeats;
      changing = changes;
      let due = 0;
      let last = performance.now();
      let churnAt = last + CHURN_S * 1_000;
      loading = setInterval(() => {
        const now = performance.now();
        due = Math.min(due + ((now - last) / 1_000) * rate, rate);
        last = now;
        for (; due >= 1; due -= 1) sendOne();
        if (now < churnAt) return;
        churnAt = now + CHURN_S * 1_000;
        random.pick(people).drop();
      }, TICK_MS);
    },
    stopLoad() {
      clearInterval(loading);
      for (const timer of later) clearTimeout(timer);
      later.clear();
    },
    async settle({ convergeMs, presenceMs }) {
      const present = people.filter((one) => one.wanted);
      const drained = performance.now() + DRAIN_MS;
      while (performance.now() < drained && present.some((one) => one.connected && one.pending > 0))
        await sleep(50);
      history.add({ kind: "calm" });
      const deadline = performance.now() + convergeMs;
      const late = () => performance.now() > deadline;
      // People who wait for their next attempt to connect look at the window, which connects at once.
      for (const one of present) if (!one.connected) one.back();
      while (!late() && !present.every((one) => one.connected && one.pending === 0)) await sleep(50);

      const rooms = [...members.keys()];
      const waiting = new Set(
        rooms.flatMap((room) =>
          (members.get(room) ?? []).filter((one) => one.wanted).map((one) => ({ room, one, at: NaN })),
        ),
      );
      while (waiting.size > 0) {
        const heads = new Map<RoomId, { seq: number; hash: string; rev: number }>();
        for (const room of rooms) {
          const [seq, hash, rev] = await rig.admin.hmget(`{room:${room}}:meta`, "seq", "hash", "rev");
          heads.set(room, { seq: Number(seq ?? 0), hash: hash ?? "", rev: Number(rev ?? 0) });
        }
        const over = late();
        for (const entry of waiting) {
          const { room, one } = entry;
          const head = heads.get(room);
          const shown = one.head(room);
          const has = shown.seq === head?.seq && shown.hash === head.hash && shown.rev === head.rev;
          if (over || (shown.settled && has)) entry.at ||= history.now();
          if (!entry.at) continue;
          // Older pages are read only on request: this is not a delay.
          if (one.hasOlder(room) && performance.now() < deadline + READ_UP_MS) {
            one.readUp(room);
            continue;
          }
          history.lines.push({ at: entry.at, kind: "view", person: one.name, room, places: one.view(room) });
          waiting.delete(entry);
        }
        if (waiting.size > 0) await sleep(50);
      }
      for (const room of rooms) {
        const rows = await rig.admin.zrange(`room:${room}`, "0", "-1");
        const places = rows.map((row) => toPlace(JSON.parse(row) as Message, nameOf));
        history.add({ kind: "stored", room, places });
      }
      await searchDeleted(present);
      await recordUnread(present);
      await recordPresence(presenceMs);
    },
    close() {
      clearInterval(loading);
      for (const timer of later) clearTimeout(timer);
      for (const one of people) one.close();
    },
  };

  /** Searches every key and every window for the first words of deleted texts, which no other text has. */
  async function searchDeleted(present: Person[]): Promise<void> {
    const gone = new Set<string>();
    for (const room of members.keys())
      for (const row of await rig.admin.zrange(`room:${room}`, "0", "-1")) {
        const { deleted, nonce } = JSON.parse(row) as Message;
        const text = deleted !== undefined && nonce !== undefined ? saidUnder.get(nonce) : undefined;
        if (text !== undefined) gone.add(text);
      }
    const search = (where: string, text: string) => {
      for (const [needle] of text.matchAll(FIRST_WORDS))
        if (gone.has(needle)) history.add({ kind: "deleted text found", where, text: needle });
    };
    for (const { where, text } of await contentsOf(rig.admin)) search(where, text);
    for (const one of present) {
      search(`${one.name}'s windows`, JSON.stringify([...(one.chat.snapshot().rooms ?? [])]));
      // Another scenario may be playing in this process.
      await sleep(0);
    }
  }

  async function recordUnread(present: Person[]): Promise<void> {
    const logs = new Map<RoomId, Place[]>();
    for (const line of history.lines) if (line.kind === "stored") logs.set(line.room, line.places);
    for (const one of random.sample(present, 12)) {
      // A mark may move while the room list is on its way.
      const before = new Map(one.roomIds().map((id) => [id, one.markOf(id).acknowledged]));
      const listed = await one
        .api()
        .rooms()
        .catch(() => []);
      for (const { id, seq, read, unread, deleted = [] } of listed) {
        if (!members.get(id)?.includes(one)) continue;
        const own = logs.get(id)?.findLast((place) => place.from === one.name)?.seq ?? 0;
        const least = Math.max(own, before.get(id) ?? 0);
        history.add({
          kind: "unread",
          person: one.name,
          room: id,
          seq,
          read,
          unread: unread + deleted.length,
          least,
          most: Math.max(own, one.markOf(id).tried),
        });
      }
    }
  }

  async function recordPresence(presenceMs: number): Promise<void> {
    const deadline = performance.now() + presenceMs;
    const witnesses = random.sample(
      people.filter((one) => one.connected),
      8,
    );
    const look = async () => {
      const connected = people.filter((one) => one.connected).map((one) => one.name);
      const inRedis = (await rig.admin.smembers("online_users")).map(nameOf);
      return {
        connected,
        seen: [
          { by: "Redis", online: inRedis },
          ...witnesses.map((one) => ({ by: one.name, online: one.online() })),
        ],
      };
    };
    for (;;) {
      const { connected, seen } = await look();
      const right = seen.every(({ online }) => sameNames(online, connected));
      if (!right && performance.now() < deadline) {
        await sleep(250);
        continue;
      }
      for (const { by, online } of seen) history.add({ kind: "presence", by, online, connected });
      return;
    }
  }
}

/** Asks again while a slow machine leaves no time for an answer: nothing is proved yet. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + DRAIN_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!isPassing(error) || performance.now() > deadline) throw error;
      await sleep(error.retryAfterMs ?? 500);
    }
  }
}

/** Everything in a Redis, key by key. */
async function contentsOf(redis: Rig["admin"]): Promise<{ where: string; text: string }[]> {
  const found: { where: string; text: string }[] = [];
  for (const key of await redis.keys("*")) {
    const type = await redis.type(key);
    const held =
      type === "zset"
        ? await redis.zrange(key, "0", "-1")
        : type === "hash"
          ? Object.values(await redis.hgetall(key))
          : type === "string"
            ? [(await redis.get(key)) ?? ""]
            : [];
    found.push({ where: key, text: held.join("\n") });
  }
  return found;
}

function sameNames(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((name) => others.includes(name));
}

/** Waits until `look` answers true; throws after `timeoutMs`. */
export async function until(
  look: () => boolean | Promise<boolean>,
  timeoutMs: number,
  what: string,
  everyMs = 25,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await look())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await sleep(everyMs);
  }
}
