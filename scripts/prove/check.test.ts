import { expect, test } from "vitest";
import { check, type Invariant, type Rules } from "./check.ts";
import type { Happening, Line, Of, Place } from "./history.ts";

const RULES: Rules = { mayRewind: "no", mayLose: 0, convergeMs: 10_000 };

/** The parts of a message that may change. */
const sayNow = (message: string, more: object = {}) => JSON.stringify({ message, ...more });

/** The history of a faultless server: three people, General, and a private room without cem. */
function faultless() {
  const lines: Line[] = [];
  let at = 0;
  const say = (happening: Happening) => lines.push({ at: (at += 10), ...happening });
  const members: Record<string, string[]> = { "0": ["ada", "bob", "cem"], "1:2": ["ada", "bob"] };
  const logs: Record<string, Place[]> = { "0": [], "1:2": [] };
  for (const [room, people] of Object.entries(members))
    for (const person of people) say({ kind: "joined", person, room });
  say({ kind: "socket opened", session: "s1", socket: "k1" });
  for (let turn = 0; turn < 12; turn += 1) {
    for (const [room, people] of Object.entries(members)) {
      const person = people[turn % people.length] ?? "";
      const nonce = `n${turn}`;
      const log = logs[room] ?? [];
      const seq = log.length + 1;
      const place = {
        seq,
        date: 1_000 + at,
        hash: `h${room}-${seq}`,
        from: person,
        nonce,
        now: sayNow("hi"),
      };
      say({ kind: "submitted", person, room, nonce });
      say({ kind: "sent", person, room, nonce });
      if (turn === 5) {
        say({ kind: "unknown", person, room, nonce });
        say({ kind: "sent", person, room, nonce });
      }
      say({ kind: "acknowledged", person, room, nonce, seq, hash: place.hash });
      if (turn === 5) say({ kind: "acknowledged", person, room, nonce, seq, hash: place.hash });
      for (const one of people)
        say({ kind: "heard", person: one, socket: `${one} 1`, room, seq, hash: place.hash, nonce });
      log.push(place);
    }
  }
  say({ kind: "sent", person: "cem", room: "1:2", nonce: "intruder" });
  say({ kind: "refused", person: "cem", room: "1:2", nonce: "intruder", code: "not_found", final: true });
  say({ kind: "session over", session: "s1", withinMs: 1_000 });
  say({ kind: "socket closed", session: "s1", socket: "k1" });
  say({ kind: "left", person: "cem", room: "0", withinMs: 1_000 });
  say({ kind: "calm" });
  for (const [room, people] of Object.entries(members))
    for (const person of people) {
      if (person !== "cem") say({ kind: "view", person, room, places: structuredClone(logs[room] ?? []) });
    }
  for (const [room, places] of Object.entries(logs)) say({ kind: "stored", room, places });
  say({ kind: "unread", person: "ada", room: "0", seq: 12, read: 10, unread: 2, least: 10, most: 12 });
  say({ kind: "presence", by: "redis", online: ["bob", "ada"], connected: ["ada", "bob"] });
  return { lines, say, later: (ms: number) => (at += ms) };
}

type Faultless = ReturnType<typeof faultless>;

/** The `index`th line of a kind (and room, and person). */
function pick<K extends Line["kind"]>(
  { lines }: Faultless,
  kind: K,
  where: { room?: string; person?: string; nonce?: string } = {},
  index = 0,
): Of<K> {
  const found = lines.filter(
    (line) =>
      line.kind === kind && Object.entries(where).every(([name, value]) => Reflect.get(line, name) === value),
  )[index];
  if (!found) throw new Error(`no ${kind}`);
  return found as Of<K>;
}

const at = (places: Place[], index: number): Place => {
  const place = places[index];
  if (!place) throw new Error(`no place ${index}`);
  return place;
};

/** The author changes General's first message, and the change is acknowledged. */
function changed({ say, lines }: Faultless, change: Of<"change sent">["change"]): void {
  const place = at(pick({ lines } as Faultless, "stored", { room: "0" }).places, 0);
  say({
    kind: "change sent",
    person: place.from,
    room: "0",
    seq: place.seq,
    hash: place.hash,
    id: 7,
    change,
  });
  say({ kind: "change acknowledged", id: 7, rev: 1 });
}

const plants: [name: string, invariant: Invariant, plant: (history: Faultless) => void][] = [
  [
    "a message that somebody sees as it was before a change",
    "I15",
    (history) => {
      at(pick(history, "view", { room: "0" }).places, 3).now = sayNow("hi, edited");
    },
  ],
  [
    "an acknowledged edit that was not made",
    "I16",
    (history) => changed(history, { is: "edit", text: "new" }),
  ],
  ["an acknowledged deletion that was not made", "I16", (history) => changed(history, { is: "delete" })],
  [
    "an acknowledged reaction that is missing",
    "I16",
    (history) => changed(history, { is: "react", emoji: "👍", on: true }),
  ],
  [
    "a deleted text in a key",
    "I17",
    (history) => history.say({ kind: "deleted text found", where: "a key", text: "ada says 1:" }),
  ],
  [
    "an acknowledged message that the log lost",
    "I1",
    (history) => {
      pick(history, "stored", { room: "1:2" }).places.pop();
    },
  ],
  [
    "a message that is stored twice",
    "I2",
    (history) => {
      const { places } = pick(history, "stored", { room: "0" });
      places.push({ ...at(places, 11), seq: 13, date: 9_999_999, hash: "other" });
    },
  ],
  [
    "a message that one person sees twice",
    "I2",
    (history) => {
      const { places } = pick(history, "view", { person: "ada", room: "0" });
      places.push(at(places, 11));
    },
  ],
  [
    "two messages that one person sees in another order",
    "I3",
    (history) => {
      const { places } = pick(history, "view", { person: "bob", room: "0" });
      places.splice(3, 2, at(places, 4), at(places, 3));
    },
  ],
  [
    "a shown message that is not the one stored at its seq",
    "I3",
    (history) => {
      const { places } = pick(history, "view", { person: "bob", room: "1:2" });
      places[2] = { ...at(places, 2), nonce: "other", hash: "other" };
    },
  ],
  [
    "a message that is stored at another seq than was acknowledged",
    "I3",
    (history) => {
      const { places } = pick(history, "stored", { room: "0" });
      places[2] = { ...at(places, 2), hash: "other" };
    },
  ],
  [
    "a reset although Redis lost nothing",
    "I3",
    (history) => void history.say({ kind: "reset", person: "ada", room: "0", reason: "rewound" }),
  ],
  [
    "a gap in the log",
    "I4",
    (history) => {
      for (const place of pick(history, "stored", { room: "0" }).places.slice(6)) place.seq += 1;
    },
  ],
  [
    "two messages with the same date",
    "I4",
    (history) => {
      const { places } = pick(history, "stored", { room: "0" });
      at(places, 7).date = at(places, 6).date;
    },
  ],
  [
    "a message stored before one that had been acknowledged when it was sent",
    "I5",
    (history) => {
      pick(history, "acknowledged", { room: "0", nonce: "n7" }).at =
        pick(history, "sent", { room: "0", nonce: "n6" }).at - 5;
      pick(history, "sent", { room: "0", nonce: "n7" }).at = 0;
    },
  ],
  [
    "one sender's messages out of order",
    "I6",
    (history) => {
      const one = pick(history, "submitted", { room: "0", nonce: "n0" });
      const other = pick(history, "submitted", { room: "0", nonce: "n3" });
      [one.nonce, other.nonce] = [other.nonce, one.nonce];
    },
  ],
  [
    "a message that was heard but is not stored",
    "I7",
    (history) =>
      void history.say({
        kind: "heard",
        person: "bob",
        socket: "bob 1",
        room: "0",
        seq: 13,
        hash: "x",
        nonce: "ghost",
      }),
  ],
  [
    "a message that one person sees but that is not stored",
    "I7",
    (history) => {
      const { places } = pick(history, "view", { person: "bob", room: "0" });
      places.push({ ...at(places, 11), seq: 13, nonce: "ghost" });
    },
  ],
  [
    "a message that one person never got",
    "I8",
    (history) => {
      pick(history, "view", { person: "bob", room: "0" }).places.splice(4, 1);
    },
  ],
  [
    "the newest message that one person never got",
    "I8",
    (history) => {
      pick(history, "view", { person: "bob", room: "0" }).places.pop();
    },
  ],
  [
    "the oldest message that one person never got",
    "I8",
    (history) => {
      pick(history, "view", { person: "bob", room: "0" }).places.shift();
    },
  ],
  [
    "a person who had everything too late",
    "I8",
    (history) => {
      pick(history, "view", { person: "bob", room: "0" }).at += 10_001;
    },
  ],
  [
    "a message that a connection heard before its predecessor",
    "I3",
    (history) => {
      const one = pick(history, "heard", { person: "bob", room: "0", nonce: "n3" });
      const other = pick(history, "heard", { person: "bob", room: "0", nonce: "n4" });
      [one.seq, other.seq] = [other.seq, one.seq];
      [one.hash, other.hash] = [other.hash, one.hash];
    },
  ],
  [
    "a message that a connection heard twice",
    "I3",
    (history) => {
      const heard = pick(history, "heard", { person: "bob", room: "0", nonce: "n11" });
      history.say(heard);
    },
  ],
  [
    "a message by somebody who was never a member",
    "I9",
    (history) =>
      void history.say({
        kind: "acknowledged",
        person: "cem",
        room: "1:2",
        nonce: "intruder",
        seq: 9,
        hash: "x",
      }),
  ],
  [
    "a message heard by somebody who was never a member",
    "I9",
    (history) =>
      void history.say({
        kind: "heard",
        person: "cem",
        socket: "cem 1",
        room: "1:2",
        seq: 3,
        hash: "h1:2-3",
        nonce: "n2",
      }),
  ],
  [
    "a message heard by somebody who had left before it was sent",
    "I9",
    (history) => {
      Object.assign(pick(history, "left", { person: "cem" }), { at: 100, withinMs: 10 });
      history.lines.sort((one, other) => one.at - other.at);
      history.say({
        kind: "heard",
        person: "cem",
        socket: "cem 1",
        room: "0",
        seq: 12,
        hash: "h0-12",
        nonce: "n11",
      });
    },
  ],
  [
    "an unread count that differs from the messages after the mark",
    "I10",
    (history) => {
      pick(history, "unread").unread = 3;
    },
  ],
  [
    "a read mark that moved back",
    "I10",
    (history) => {
      Object.assign(pick(history, "unread"), { read: 9, unread: 3 });
    },
  ],
  [
    "somebody shown online who is gone",
    "I11",
    (history) => {
      pick(history, "presence").online.push("dan");
    },
  ],
  [
    "somebody connected who is not shown online",
    "I11",
    (history) => {
      pick(history, "presence").connected.push("dan");
    },
  ],
  [
    "a socket that outlives its session",
    "I12",
    (history) => {
      history.lines.splice(history.lines.indexOf(pick(history, "socket closed")), 1);
    },
  ],
  [
    "a socket that is closed too late",
    "I12",
    (history) => {
      pick(history, "socket closed").at += 2_000;
    },
  ],
  [
    "a request in an ended session",
    "I12",
    (history) => {
      history.later(2_000);
      history.say({ kind: "session used", session: "s1", how: "GET /api/me", beganAt: history.later(0) });
    },
  ],
  [
    "a socket opened in an ended session",
    "I12",
    (history) => {
      history.later(2_000);
      history.say({ kind: "socket opened", session: "s1", socket: "k2" });
      history.say({ kind: "socket closed", session: "s1", socket: "k2" });
    },
  ],
  [
    "a refused message that is stored",
    "I13",
    (history) => {
      const { places } = pick(history, "stored", { room: "1:2" });
      places.push({ seq: 13, date: 9_999_999, hash: "x", from: "cem", nonce: "intruder", now: sayNow("hi") });
    },
  ],
  [
    "a message shown as failed because nobody answered",
    "I13",
    (history) =>
      void history.say({ kind: "shown failed", person: "ada", room: "0", nonce: "n99", code: "unreachable" }),
  ],
  [
    "a message shown as failed that is stored",
    "I13",
    (history) => {
      history.say({ kind: "refused", person: "ada", room: "0", nonce: "n0", code: "invalid", final: true });
      history.say({ kind: "shown failed", person: "ada", room: "0", nonce: "n0", code: "invalid" });
    },
  ],
  [
    "a retry that was answered with another message",
    "I14",
    (history) => {
      pick(history, "acknowledged", { room: "0", nonce: "n5" }, 1).seq = 12;
    },
  ],
];

test("a faultless history passes and is counted correctly", () => {
  const verdict = check(faultless().lines, RULES);
  expect(verdict.violations).toEqual([]);
  expect(verdict).toMatchObject({ sent: 25, acknowledged: 24, delivered: 48 });
  expect(verdict).toMatchObject({ lost: 0, duplicated: 0, reordered: 0, leaked: 0, other: 0 });
});

test("a message that is sent again after its author has left the room, and refused, is stored all the same", () => {
  const history = faultless();
  const { nonce } = pick(history, "acknowledged", { room: "0", person: "cem" });
  history.say({ kind: "sent", person: "cem", room: "0", nonce });
  history.say({ kind: "refused", person: "cem", room: "0", nonce, code: "not_found", final: true });
  expect(check(history.lines, RULES).violations).toEqual([]);
});

test.each(plants)("catches %s (%s)", (_name, invariant, plant) => {
  const history = faultless();
  plant(history);
  const { violations } = check(history.lines, RULES);
  expect(violations.map((violation) => violation.invariant)).toContain(invariant);
});

test("every invariant has a planted violation", () => {
  const planted = new Set(plants.map(([, invariant]) => invariant));
  expect(planted).toEqual(new Set(Array.from({ length: 17 }, (_, index) => `I${index + 1}`)));
});

/** ada's last message was lost with the log's tail and offered again. */
function rewound(offered: boolean): Line[] {
  const history = faultless();
  const { places } = pick(history, "stored", { room: "1:2" });
  const last = at(places, 11);
  const sender = last.from;
  if (offered) {
    places[11] = { ...last, date: last.date + 5_000, hash: "again" };
    history.say({ kind: "offered again", person: sender, room: "1:2", nonce: last.nonce });
    history.say({ kind: "sent", person: sender, room: "1:2", nonce: last.nonce });
    history.say({
      kind: "acknowledged",
      person: sender,
      room: "1:2",
      nonce: last.nonce,
      seq: 12,
      hash: "again",
    });
  } else places.pop();
  for (const person of ["ada", "bob"]) {
    history.say({ kind: "reset", person, room: "1:2", reason: "ahead" });
    pick(history, "view", { person, room: "1:2" }).places = structuredClone(places);
  }
  return history.lines;
}

test("if Redis may lose its tail, a message that was offered again does not count as lost", () => {
  expect(check(rewound(true), { ...RULES, mayRewind: "acknowledged" }).violations).toEqual([]);
});

test("if Redis may lose its tail, a message that nobody offered again counts as lost", () => {
  const { violations, lost } = check(rewound(false), { ...RULES, mayRewind: "acknowledged" });
  expect(violations.map((violation) => violation.invariant)).toEqual(["I1"]);
  expect(lost).toBe(1);
});

test("if Redis may lose its tail, a message that its author had deleted may be gone", () => {
  const lines = rewound(false);
  const said = lines.findLast((line) => line.kind === "acknowledged" && line.room === "1:2");
  if (said?.kind !== "acknowledged") throw new Error("nobody said anything");
  const { person, room, seq, hash } = said;
  lines.push({ at: 1e6, kind: "change sent", person, room, seq, hash, id: 1, change: { is: "delete" } });
  expect(check(lines, { ...RULES, mayRewind: "acknowledged" }).violations).toEqual([]);
  const kept = check(lines, { ...RULES, mayRewind: "unacknowledged" }).violations;
  expect(kept.map(({ invariant }) => invariant)).toContain("I1");
});

test("if Redis may lose its tail, people must still agree", () => {
  const lines = rewound(true);
  const view = lines.find((line) => line.kind === "view" && line.person === "bob" && line.room === "1:2");
  if (view?.kind === "view") view.places[11] = { ...at(view.places, 11), hash: "h1:2-12" };
  expect(
    check(lines, { ...RULES, mayRewind: "acknowledged" }).violations.map(({ invariant }) => invariant),
  ).toEqual(["I3"]);
});

test("if Redis keeps acknowledged messages, one that was offered again is a violation", () => {
  const { violations } = check(rewound(true), { ...RULES, mayRewind: "unacknowledged" });
  expect(violations.map(({ invariant }) => invariant)).toEqual(["I14", "I3"]);
});
