import type { RoomId } from "../../server/src/protocol.ts";
import type { Line, Of, Place } from "./history.ts";

/** The promises, by the numbers that violations name. */
export const INVARIANTS = {
  I1: "no acknowledged message is missing",
  I2: "no message appears twice",
  I3: "everybody sees the stored order",
  I4: "seq has no gap and date rises strictly",
  I5: "a message that was acknowledged before another was sent comes before it",
  I6: "one sender's messages are in the order of sending",
  I7: "nobody hears what is not stored",
  I8: "everybody has everything in time",
  I9: "nobody hears or writes to a room that is not theirs",
  I10: "unread is the number of messages after the read mark",
  I11: "people are shown online if they are connected",
  I12: "nothing works in an ended session",
  I13: "no message that was refused or shown as failed is stored",
  I14: "a retry is answered with the first message",
  I15: "everybody sees each message as it is stored",
  I16: "no acknowledged change is missing",
  I17: "a deleted text is nowhere",
} as const;

export type Invariant = keyof typeof INVARIANTS;
export type Violation = { invariant: Invariant; what: string };

export type Rules = {
  /**
   * Which messages at its log's end Redis may lose here: none, only unacknowledged ones, or any. Clients get a `reset`,
   * and offer their own messages again.
   */
  mayRewind: "no" | "unacknowledged" | "acknowledged";
  /** The share of acknowledged messages that may stay lost although their senders are connected. */
  mayLose: number;
  /** Milliseconds after calm in which every view must be complete. */
  convergeMs: number;
};

export type Verdict = {
  sent: number;
  acknowledged: number;
  /** Messages in people's final views. */
  delivered: number;
  lost: number;
  duplicated: number;
  reordered: number;
  leaked: number;
  /** Violations other than these four. */
  other: number;
  resets: number;
  offeredAgain: number;
  violations: Violation[];
};

const COLUMN: Record<Invariant, "lost" | "duplicated" | "reordered" | "leaked" | "other"> = {
  I1: "lost",
  I2: "duplicated",
  I3: "reordered",
  I4: "reordered",
  I5: "reordered",
  I6: "reordered",
  I7: "reordered",
  I8: "lost",
  I9: "leaked",
  I10: "other",
  I11: "other",
  I12: "other",
  I13: "other",
  I14: "duplicated",
  I15: "other",
  I16: "lost",
  I17: "leaked",
};

type Sending = {
  person: string;
  room: RoomId;
  nonce: string;
  /** The place in the order of submissions; -1 if it did not go through an outbox. */
  order: number;
  sentAt: number;
  acknowledgedAt: number;
  answers: { seq: number; hash: string }[];
  refused: boolean;
  shownFailed: string | null;
  offeredAgain: boolean;
};

/** Judges a history. Counts every violation, and describes the first of each kind. */
export function check(lines: readonly Line[], rules: Rules): Verdict {
  const violations: Violation[] = [];
  const verdict: Verdict = {
    sent: 0,
    acknowledged: 0,
    delivered: 0,
    lost: 0,
    duplicated: 0,
    reordered: 0,
    leaked: 0,
    other: 0,
    resets: 0,
    offeredAgain: 0,
    violations,
  };
  function blame(invariant: Invariant, what: string): void {
    verdict[COLUMN[invariant]] += 1;
    if (violations.filter((known) => known.invariant === invariant).length < 5)
      violations.push({ invariant, what });
  }

  const sendings = collectSendings(lines);
  const stored = new Map<RoomId, Place[]>();
  const resets = new Set<string>();
  for (const line of lines) {
    if (line.kind === "stored") stored.set(line.room, line.places);
    if (line.kind === "reset") {
      verdict.resets += 1;
      resets.add(`${line.person} ${line.room}`);
      if (rules.mayRewind === "no") blame("I3", `${line.person} was reset in ${line.room} (${line.reason})`);
    }
  }
  verdict.sent = sendings.size;
  for (const sending of sendings.values()) {
    if (sending.answers.length > 0) verdict.acknowledged += 1;
    if (sending.offeredAgain) verdict.offeredAgain += 1;
  }

  checkStore(stored, blame);
  checkSendings(lines, sendings, stored, rules, verdict, blame);
  checkOrder(sendings, stored, blame);
  checkViews(lines, stored, resets, rules, verdict, blame);
  checkChanges(lines, stored, rules, blame);
  checkHeard(lines, sendings, stored, rules, blame);
  checkLiveOrder(lines, rules, blame);
  checkWriters(lines, sendings, blame);
  checkCounts(lines, stored, rules, blame);
  checkSessions(lines, blame);
  return verdict;
}

type Blame = (invariant: Invariant, what: string) => void;

const keyOf = (room: RoomId, person: string, nonce: string) => `${room} ${person} ${nonce}`;

function collectSendings(lines: readonly Line[]): Map<string, Sending> {
  const sendings = new Map<string, Sending>();
  let order = 0;
  for (const line of lines) {
    if (!("nonce" in line) || line.kind === "heard") continue;
    const { person, room, nonce } = line;
    const key = keyOf(room, person, nonce);
    const sending = sendings.get(key) ?? {
      person,
      room,
      nonce,
      order: -1,
      sentAt: Infinity,
      acknowledgedAt: Infinity,
      answers: [],
      refused: false,
      shownFailed: null,
      offeredAgain: false,
    };
    sendings.set(key, sending);
    if (line.kind === "submitted") sending.order = order++;
    else if (line.kind === "sent") sending.sentAt = Math.min(sending.sentAt, line.at);
    else if (line.kind === "acknowledged") {
      sending.acknowledgedAt = Math.min(sending.acknowledgedAt, line.at);
      sending.answers.push({ seq: line.seq, hash: line.hash });
    } else if (line.kind === "refused") {
      // Whoever has left a room learns nothing of it, nor that a message which they send again is stored.
      const isRepeat = line.code === "not_found" && sending.answers.length > 0;
      sending.refused ||= line.final && !isRepeat;
    } else if (line.kind === "shown failed") sending.shownFailed = line.code;
    else if (line.kind === "offered again") sending.offeredAgain = true;
  }
  return sendings;
}

function checkStore(stored: Map<RoomId, Place[]>, blame: Blame): void {
  for (const [room, places] of stored) {
    const seen = new Set<string>();
    let last: Place | undefined;
    for (const place of places) {
      const key = `${place.from} ${place.nonce}`;
      if (seen.has(key)) blame("I2", `${room}: the log holds ${key} twice, again at seq ${place.seq}`);
      seen.add(key);
      if (last && place.seq !== last.seq + 1)
        blame("I4", `${room}: seq ${place.seq} follows seq ${last.seq} in the log`);
      if (last && place.date <= last.date)
        blame("I4", `${room}: seq ${place.seq} is not dated after seq ${last.seq}`);
      last = place;
    }
  }
}

function checkSendings(
  lines: readonly Line[],
  sendings: Map<string, Sending>,
  stored: Map<RoomId, Place[]>,
  rules: Rules,
  verdict: Verdict,
  blame: Blame,
): void {
  const places = new Map<string, Place>();
  for (const [room, log] of stored)
    for (const place of log) places.set(keyOf(room, place.from, place.nonce), place);
  const missing: Sending[] = [];
  const deleted = new Set<string>();
  for (const line of lines)
    if (line.kind === "change sent" && line.change.is === "delete")
      deleted.add(`${line.room} ${line.person} ${line.hash}`);
  for (const [key, sending] of sendings) {
    const { person, room, nonce, answers, refused, shownFailed } = sending;
    const place = places.get(key);
    const [first] = answers;
    // Of a message that its author deleted no window keeps the text, to offer it again when its row is lost.
    const mayBeGone =
      rules.mayRewind === "acknowledged" &&
      answers.some(({ hash }) => deleted.has(`${room} ${person} ${hash}`));
    if (first && !place && !mayBeGone) missing.push(sending);
    if (place && refused) blame("I13", `${room}: ${person}'s ${nonce} was refused, and is stored`);
    if (shownFailed !== null && !refused)
      blame("I13", `${room}: ${person}'s ${nonce} was shown as failed (${shownFailed}) without a refusal`);
    else if (shownFailed !== null && place)
      blame("I13", `${room}: ${person}'s ${nonce} was shown as failed, and is stored`);
    if (!first || (sending.offeredAgain && rules.mayRewind === "acknowledged")) continue;
    for (const answer of answers) {
      if (answer.seq !== first.seq || answer.hash !== first.hash)
        blame("I14", `${room}: ${person}'s ${nonce} was answered with seq ${first.seq} and ${answer.seq}`);
    }
    if (place && rules.mayRewind !== "acknowledged" && (place.seq !== first.seq || place.hash !== first.hash))
      blame(
        "I3",
        `${room}: ${person}'s ${nonce} was acknowledged as seq ${first.seq}, stored as ${place.seq}`,
      );
  }
  if (missing.length <= rules.mayLose * verdict.acknowledged) verdict.lost += missing.length;
  else
    for (const { person, room, nonce, answers } of missing)
      blame(
        "I1",
        `${room}: ${person}'s ${nonce} was acknowledged as seq ${answers[0]?.seq} and is not stored`,
      );
}

function checkOrder(sendings: Map<string, Sending>, stored: Map<RoomId, Place[]>, blame: Blame): void {
  for (const [room, log] of stored) {
    const lastOrder = new Map<string, { order: number; seq: number }>();
    const row = log.flatMap((place) => {
      const sending = sendings.get(keyOf(room, place.from, place.nonce));
      // A message that was lost and offered again has a second place.
      return sending && !sending.offeredAgain ? [{ place, sending }] : [];
    });
    for (const { place, sending } of row) {
      if (sending.order < 0) continue;
      const before = lastOrder.get(sending.person);
      if (before && before.order > sending.order)
        blame("I6", `${room}: ${sending.person}'s seq ${before.seq} was sent after seq ${place.seq}`);
      lastOrder.set(sending.person, { order: sending.order, seq: place.seq });
    }
    let earliest = { at: Infinity, seq: 0 };
    for (const { place, sending } of row.toReversed()) {
      if (earliest.at < sending.sentAt)
        blame("I5", `${room}: seq ${earliest.seq} was acknowledged before seq ${place.seq} was sent`);
      if (sending.acknowledgedAt < earliest.at) earliest = { at: sending.acknowledgedAt, seq: place.seq };
    }
  }
}

function checkViews(
  lines: readonly Line[],
  stored: Map<RoomId, Place[]>,
  resets: Set<string>,
  rules: Rules,
  verdict: Verdict,
  blame: Blame,
): void {
  const calmAt = lines.find((line) => line.kind === "calm")?.at ?? Infinity;
  const joinedAt = new Map<string, number>();
  const firstSentAt = lines.find((line) => line.kind === "sent")?.at ?? Infinity;
  for (const line of lines) {
    if (line.kind === "joined") joinedAt.set(`${line.person} ${line.room}`, line.at);
    if (line.kind !== "view") continue;
    const { person, room, places } = line;
    verdict.delivered += places.length;
    const log = stored.get(room) ?? [];
    const shown = new Map<number, Place>();
    const nonces = new Set<string>();
    let last: Place | undefined;
    for (const place of places) {
      const key = `${place.from} ${place.nonce}`;
      if (nonces.has(key) || shown.has(place.seq)) blame("I2", `${room}: ${person} sees ${key} twice`);
      nonces.add(key);
      shown.set(place.seq, place);
      if (last && place.seq <= last.seq)
        blame("I3", `${room}: ${person} sees seq ${place.seq} after seq ${last.seq}`);
      last = place;
    }
    const member = `${person} ${room}`;
    const fromTheStart = !resets.has(member) && (joinedAt.get(member) ?? Infinity) < firstSentAt;
    const from = fromTheStart ? (log[0]?.seq ?? 0) : (places[0]?.seq ?? 0);
    for (const place of log) {
      const mine = shown.get(place.seq);
      shown.delete(place.seq);
      if (!mine && place.seq >= from) blame("I8", `${room}: ${person} does not see seq ${place.seq}`);
      else if (mine && (mine.hash !== place.hash || mine.nonce !== place.nonce || mine.from !== place.from))
        blame("I3", `${room}: ${person} sees another message at seq ${place.seq} than is stored`);
      else if (mine && mine.now !== place.now)
        blame("I15", `${room}: ${person} sees seq ${place.seq} as ${mine.now}, stored as ${place.now}`);
    }
    for (const seq of shown.keys()) blame("I7", `${room}: ${person} sees seq ${seq}, which is not stored`);
    if (line.at > calmAt + rules.convergeMs)
      blame("I8", `${room}: ${person} had everything only ${Math.round(line.at - calmAt)} ms after calm`);
  }
}

/** Checks that acknowledged changes hold, unless the message was changed again, or may have been. */
function checkChanges(
  lines: readonly Line[],
  stored: Map<RoomId, Place[]>,
  rules: Rules,
  blame: Blame,
): void {
  for (const line of lines) {
    if (line.kind === "deleted text found") blame("I17", `"${line.text}" stands in ${line.where}`);
  }
  if (rules.mayRewind === "acknowledged") return;
  const acknowledged = new Map<number, number>();
  const refused = new Set<number>();
  for (const line of lines) {
    if (line.kind === "change acknowledged") acknowledged.set(line.id, line.rev);
    if (line.kind === "change refused") refused.add(line.id);
  }
  /** The last acknowledged change of each property; null if one without an answer may have come later. */
  const last = new Map<string, { line: Of<"change sent">; rev: number } | null>();
  for (const line of lines) {
    if (line.kind !== "change sent" || refused.has(line.id)) continue;
    const { room, seq, hash, person, change } = line;
    const about = change.is === "react" ? `${person} ${change.emoji}` : change.is;
    const key = `${room} ${seq} ${hash} ${about}`;
    const before = last.get(key);
    const rev = acknowledged.get(line.id);
    if (rev === undefined && change.is !== "delete") last.set(key, null);
    else if (rev !== undefined && before !== null && rev >= (before?.rev ?? 0)) last.set(key, { line, rev });
  }
  for (const one of last.values()) {
    if (one === null) continue;
    const { room, seq, hash, person, change } = one.line;
    const place = stored.get(room)?.find((other) => other.seq === seq && other.hash === hash);
    if (!place) continue;
    const now = JSON.parse(place.now) as {
      message: string;
      deleted?: number;
      reactions?: [string, string[]][];
    };
    if (now.deleted !== undefined) continue;
    const isThere =
      change.is === "delete"
        ? false
        : change.is === "edit"
          ? now.message === change.text
          : (now.reactions ?? []).some(([emoji, who]) => emoji === change.emoji && who.includes(person)) ===
            change.on;
    if (!isThere) blame("I16", `${room}: ${person}'s ${JSON.stringify(change)} of seq ${seq} is not there`);
  }
}

function checkHeard(
  lines: readonly Line[],
  sendings: Map<string, Sending>,
  stored: Map<RoomId, Place[]>,
  rules: Rules,
  blame: Blame,
): void {
  const hashes = new Map<RoomId, Map<number, string>>();
  const authors = new Map<string, number>();
  for (const [room, log] of stored) {
    hashes.set(room, new Map(log.map((place) => [place.seq, place.hash])));
    for (const place of log) {
      const sentAt = sendings.get(keyOf(room, place.from, place.nonce))?.sentAt ?? -Infinity;
      authors.set(`${room} ${place.seq}`, sentAt);
    }
  }
  const members = new Map<string, { since: number; until: number }>();
  const phantoms = new Set<string>();
  for (const line of lines) {
    if (line.kind === "joined")
      members.set(`${line.person} ${line.room}`, { since: line.at, until: Infinity });
    if (line.kind === "left") {
      const membership = members.get(`${line.person} ${line.room}`);
      if (membership) membership.until = line.at + line.withinMs;
    }
    if (line.kind !== "heard") continue;
    const { person, room, seq, hash } = line;
    const membership = members.get(`${person} ${room}`);
    if (!membership) blame("I9", `${room}: ${person}, who is no member, heard seq ${seq}`);
    else if ((authors.get(`${room} ${seq}`) ?? -Infinity) > membership.until)
      blame("I9", `${room}: ${person}, who had left, heard seq ${seq}`);
    if (
      rules.mayRewind !== "no" ||
      hashes.get(room)?.get(seq) === hash ||
      phantoms.has(`${room} ${seq} ${hash}`)
    )
      continue;
    phantoms.add(`${room} ${seq} ${hash}`);
    blame("I7", `${room}: ${person} heard seq ${seq} (${hash}), which is not stored so`);
  }
}

/** Checks that each connection hears a room in order without gaps: a replica fills gaps before it goes on. */
function checkLiveOrder(lines: readonly Line[], rules: Rules, blame: Blame): void {
  if (rules.mayRewind !== "no") return;
  const heard = new Map<string, number>();
  const left = new Set<string>();
  for (const line of lines) {
    if (line.kind === "left") left.add(`${line.person} ${line.room}`);
    if (line.kind !== "heard" || line.seq === 0 || left.has(`${line.person} ${line.room}`)) continue;
    const key = `${line.socket} ${line.room}`;
    const before = heard.get(key);
    heard.set(key, line.seq);
    if (before !== undefined && line.seq !== before + 1)
      blame("I3", `${line.room}: ${line.person} heard seq ${line.seq} right after seq ${before}`);
  }
}

function checkWriters(lines: readonly Line[], sendings: Map<string, Sending>, blame: Blame): void {
  const members = new Set<string>();
  for (const line of lines) if (line.kind === "joined") members.add(`${line.person} ${line.room}`);
  for (const { person, room, answers } of sendings.values()) {
    if (answers.length > 0 && !members.has(`${person} ${room}`))
      blame("I9", `${room}: ${person}, who is no member, wrote seq ${answers[0]?.seq}`);
  }
}

function checkCounts(lines: readonly Line[], stored: Map<RoomId, Place[]>, rules: Rules, blame: Blame): void {
  for (const line of lines) {
    if (line.kind === "unread") {
      const { person, room, seq, read, unread, least, most } = line;
      const head = stored.get(room)?.at(-1)?.seq ?? 0;
      // A mark in a lost log says nothing about the log that replaced it.
      const marked = rules.mayRewind !== "no" || (read >= least && read <= most);
      const right = seq === head && unread === seq - read && marked;
      if (!right)
        blame(
          "I10",
          `${room}: ${person} is told seq ${seq} of ${head}, read ${read} of ${least} to ${most}, unread ${unread}`,
        );
    }
    if (line.kind === "presence") {
      const ghosts = line.online.filter((one) => !line.connected.includes(one));
      const hidden = line.connected.filter((one) => !line.online.includes(one));
      if (ghosts.length + hidden.length > 0)
        blame(
          "I11",
          `${line.by}: online but gone: [${ghosts.join(" ")}]; connected but not online: [${hidden.join(" ")}]`,
        );
    }
  }
}

function checkSessions(lines: readonly Line[], blame: Blame): void {
  const over = new Map<string, { at: number; deadline: number }>();
  const open = new Map<string, string>();
  for (const line of lines) {
    if (line.kind === "session over")
      over.set(line.session, { at: line.at, deadline: line.at + line.withinMs });
    if (line.kind === "socket opened") {
      open.set(line.socket, line.session);
      if (line.at > (over.get(line.session)?.at ?? Infinity))
        blame("I12", `${line.session}: a socket was opened`);
    }
    if (line.kind === "socket closed") {
      open.delete(line.socket);
      const deadline = over.get(line.session)?.deadline;
      if (deadline !== undefined && line.at > deadline)
        blame("I12", `${line.session}: a socket was closed ${Math.round(line.at - deadline)} ms too late`);
    }
    if (line.kind === "session used") {
      const endedAt = over.get(line.session)?.at;
      if (endedAt !== undefined && line.beganAt > endedAt)
        blame("I12", `${line.session}: ${line.how} worked after its end`);
    }
  }
  for (const session of open.values())
    if (over.has(session)) blame("I12", `${session}: a socket was never closed`);
}
