import { connect, type Socket } from "node:net";
import { clientFrame, readFrames, type Stream } from "../frames.ts";
import { CORE, cpuNs, nowUs, softirqNs, used, type Part } from "../machine.ts";
import { createRandom } from "../prove/random.ts";
import { summarise, type Summary } from "../statistics.ts";
import { dialects, KIND, type Dialect, type DialectName, type MemberPlan } from "./dialects.ts";
import { findMark, idAt, isMark, Ledger, MARK_LENGTH, markedText, MAX_ID, timeAt } from "./marks.ts";
import { reconcile, type Reconciliation } from "./marks.ts";

/**
 * The load generator: a process of its own on a core of its own, which its parent gives orders. Clients are bare TCP
 * sockets that share one read buffer. Every message has an intended time, from which its latency counts, so that a
 * generator or a server that falls behind shows as latency and not as fewer messages.
 */

export type ConnectOrder = {
  host: string;
  port: number;
  dialect: DialectName;
  members: MemberPlan[];
  roomIds: string[];
  /** Handshakes at once. */
  concurrency: number;
  /** The members come back: each asks from a cursor (JSON) as it connects, and counts these marked messages. */
  returning?: { cursor: string; messages: number };
};

export type Connected = { failed: string[]; ms: number; handshakeMs: Summary | null };

export type LoadOrder = {
  /** Messages a second, over all rooms. */
  rate: number;
  /** `even`: one room after the other at equal intervals. `poisson`: random rooms and times from a fixed seed. */
  arrivals: "even" | "poisson";
  warmSeconds: number;
  /** Messages a second before the measured time: enough that the server's code is compiled, as after an hour of work. */
  warmRate: number;
  measureSeconds: number;
  /** During the measured time members react in turn, `rate` times a second, each to one of these messages of the first room. */
  reactions?: { rate: number; seqs: number[] };
  /** Processes of the system under test. */
  parts: Part[];
};

export type LoadResult = {
  sent: number;
  /** Deliveries that arrived in the measured time, and those of the messages that were sent in it. */
  deliveries: number;
  offered: number;
  latencyMs: Summary | null;
  /** Messages that the server answered, refused, or never answered; the last is 0 for a server that answers none. */
  answered: number;
  refused: number;
  unanswered: number;
  reconciliation: Reconciliation;
  /** Answered reactions, and frames with changes that a member received in a second. */
  reacted: number;
  changeFrames: number;
  /** CPU in µs a delivery, by part and in all, with the kernel's deferred network work. */
  cpuUs: Record<string, number>;
  cpuUsAll: number;
  /** The share of its core that the generator used, and how late it sent. */
  busy: number;
  latenessMs: Summary | null;
};

/** One request after the other on each of several open connections. */
export type PagesOrder = {
  host: string;
  port: number;
  /** What each connection requests, again and again. */
  paths: string[];
  cookies: string[];
  seconds: number;
  parts: Part[];
};
export type PagesResult = {
  failed: number;
  perSecond: number;
  latencyMs: Summary | null;
  cpuUs: number;
};

export type Orders = {
  pages: (order: PagesOrder) => Promise<PagesResult>;
  /** How many of the first `sent` messages the members still miss, in all. */
  missing: (sent: number) => Promise<number>;
  connect: (order: ConnectOrder) => Promise<Connected>;
  load: (order: LoadOrder) => Promise<LoadResult>;
  /** The number of frames other than messages since the last call. */
  quiet: () => Promise<number>;
  close: () => Promise<void>;
};

type Member = Stream & {
  plan: MemberPlan;
  socket: Socket;
  state: "upgrading" | "greeting" | "ready" | "closed";
  sampled: boolean;
  ledger: Ledger;
  asked: boolean;
  fail: ((reason: string) => void) | null;
  done: (() => void) | null;
};

/** All sockets read into it: each callback is done with it before the next one starts. */
const shared = Buffer.allocUnsafe(262_144);
const SAMPLED_DELIVERIES_PER_SECOND = 20_000;
/** The longest wait for all late deliveries, and for the next one. */
const DRAIN_US = 60e6;
const STALLED_US = 5e6;
const EMOJI = ["👍", "🎉", "😀", "👀", "🚀"];

let members: Member[] = [];
let roomIds: string[] = [];
let dialect: Dialect = dialects.socketio;
/** The marker's distance from the end of a delivery's frame: all frames of one server have the same. */
let markOffset = MARK_LENGTH;
let closing = false;
let returning: ConnectOrder["returning"];

let load: Running | null = null;
type Running = {
  fromUs: number;
  toUs: number;
  latencies: number[];
  answered: number;
  refused: number;
  reacted: number;
  lastDeliveryUs: number;
};
let deliveries = 0;
let changeFrames = 0;
let otherFrames = 0;
let readAtUs = 0;

function received(member: Member, length: number): void {
  readAtUs = 0;
  if (member.state === "upgrading") {
    const at = upgraded(member, length);
    if (at < 0) return;
    const left = Buffer.from(shared.subarray(at, length));
    if (left.length > 0) readFrames(member, left, left.length, frame);
    return;
  }
  readFrames(member, shared, length, frame);
}

/** The start of the first frame, or -1 if the upgrade failed. */
function upgraded(member: Member, length: number): number {
  const text = shared.toString("latin1", 0, length);
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) {
    member.fail?.("the upgrade's answer came in pieces");
    return -1;
  }
  if (!text.startsWith("HTTP/1.1 101")) {
    member.fail?.(text.slice(0, 200));
    return -1;
  }
  member.state = "greeting";
  if (dialect === dialects.plain) ready(member);
  return end + 4;
}

function ready(member: Member): void {
  member.state = "ready";
  member.done?.();
}

function frame(member: Member, opcode: number, buffer: Buffer, start: number, end: number): void {
  if (opcode === 1 && load) {
    const kind = dialect.kind(buffer, start);
    if (kind === KIND.delivery) {
      let at = end - markOffset;
      if (at < start || !isMark(buffer, at)) {
        at = findMark(buffer, start, end);
        if (at >= 0) markOffset = end - at;
      }
      if (at >= 0) {
        deliveries += 1;
        member.ledger.add(idAt(buffer, at));
        if (readAtUs === 0) readAtUs = nowUs();
        load.lastDeliveryUs = readAtUs;
        if (member.sampled) {
          const intended = timeAt(buffer, at);
          if (intended >= load.fromUs && intended < load.toUs) load.latencies.push(readAtUs - intended);
        }
        return;
      }
      changeFrames += 1;
    } else if (kind === KIND.answer && dialect.answer) {
      const answer = dialect.answer(buffer.toString("latin1", start, Math.min(end, start + 40)));
      if (answer && answer.id >= 0) {
        if (answer.id > MAX_ID) load.reacted += 1;
        else load.answered += 1;
        if (!answer.ok) load.refused += 1;
        return;
      }
    }
  }
  if (opcode === 1 && returning) {
    for (let at = start; at <= end - MARK_LENGTH; at += 1) {
      if (!isMark(buffer, at)) continue;
      member.ledger.add(idAt(buffer, at));
      at += MARK_LENGTH - 1;
    }
  }
  if (opcode === 9) member.socket.write(clientFrame(buffer.subarray(start, end), 10));
  else if (opcode === 8) member.socket.destroy();
  else if (opcode === 1) {
    const text = buffer.toString("utf8", start, Math.min(end, start + 200));
    const { send, ready: heard, refused } = dialect.react(text);
    if (heard && returning && !member.asked) {
      // The first answer means that the rooms are heard; the second brings what was said meanwhile.
      member.asked = true;
      member.socket.write(clientFrame(`420["sync",{"rooms":[${returning.cursor}]}]`));
      return;
    }
    if (send) member.socket.write(send);
    else otherFrames += 1;
    if (refused) member.fail?.(refused);
    if (heard && member.state === "greeting") ready(member);
  }
}

async function connectAll(order: ConnectOrder): Promise<Connected> {
  const began = performance.now();
  ({ roomIds, returning } = order);
  dialect = dialects[order.dialect];
  closing = false;
  const waiting = order.members.values();
  const failed: string[] = [];
  const handshakes: number[] = [];
  const worker = async () => {
    for (const plan of waiting) {
      const from = performance.now();
      try {
        members.push(await open(order, plan));
        handshakes.push(performance.now() - from);
      } catch (error) {
        if (failed.length < 5) failed.push(error instanceof Error ? error.message : String(error));
      }
    }
  };
  await Promise.all(Array.from({ length: order.concurrency }, worker));
  return { failed, ms: performance.now() - began, handshakeMs: summarise(handshakes) };
}

function open({ host, port }: ConnectOrder, plan: MemberPlan): Promise<Member> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({
      host,
      port,
      noDelay: true,
      onread: {
        buffer: shared,
        callback: (length: number) => {
          received(member, length);
          return true;
        },
      },
    });
    const member: Member = {
      plan,
      socket,
      rest: null,
      state: "upgrading",
      sampled: true,
      ledger: new Ledger(returning?.messages ?? 0),
      asked: false,
      fail: (reason) => {
        socket.destroy();
        reject(new Error(reason));
      },
      done: () => {
        member.fail = null;
        member.done = null;
        resolve(member);
      },
    };
    socket.once("connect", () => {
      socket.write(
        `GET ${dialect.path(plan, roomIds)} HTTP/1.1\r\nHost: ${host}:${port}\r\nConnection: Upgrade\r\n` +
          "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
          (plan.cookie ? `Cookie: ${plan.cookie}\r\n` : "") +
          "\r\n",
      );
    });
    socket.once("error", (error) => member.fail?.(error.message));
    socket.once("close", () => {
      member.fail?.("closed");
      if (member.state === "ready" && !closing)
        process.stderr.write("a connection was closed by the server\n");
      member.state = "closed";
    });
  });
}

async function runLoad(order: LoadOrder): Promise<LoadResult> {
  const { rooms, intendedUs } = makeSchedule(order);
  const total = rooms.length;
  const startUs = nowUs() + 200_000;
  for (let id = 0; id < total; id += 1) intendedUs[id] = (intendedUs[id] ?? 0) + startUs;
  const fromUs = startUs + order.warmSeconds * 1e6;
  const toUs = fromUs + order.measureSeconds * 1e6;

  const byRoom = new Map<number, Member[]>();
  for (const member of members) {
    member.ledger = new Ledger(total);
    for (const room of member.plan.rooms) byRoom.set(room, [...(byRoom.get(room) ?? []), member]);
  }
  let expected = 0;
  let offered = 0;
  for (let id = 0; id < total; id += 1) {
    const here = byRoom.get(rooms[id] ?? 0)?.length ?? 0;
    expected += here;
    if ((intendedUs[id] ?? 0) >= fromUs) offered += here;
  }
  const every = Math.max(1, Math.round(offered / order.measureSeconds / SAMPLED_DELIVERIES_PER_SECOND));
  members.forEach((member, index) => (member.sampled = index % every === 0));

  const run: Running = {
    fromUs,
    toUs,
    latencies: [],
    answered: 0,
    refused: 0,
    reacted: 0,
    lastDeliveryUs: startUs,
  };
  load = run;
  deliveries = 0;
  changeFrames = 0;
  const lateness: number[] = [];
  const nonce = `b${Math.floor(startUs / 1e6).toString(36)}.`;

  const sending = new Promise<void>((resolve) => {
    let next = 0;
    const step = () => {
      const now = nowUs();
      for (; next < total && (intendedUs[next] ?? 0) <= now; next += 1) {
        const room = rooms[next] ?? 0;
        const there = byRoom.get(room) ?? [];
        const sender = there[next % there.length];
        const intended = intendedUs[next] ?? 0;
        const text = markedText(next, intended);
        sender?.socket.write(dialect.message(roomIds[room] ?? "", text, next, `${nonce}${next}`));
        if (intended >= fromUs) lateness.push((nowUs() - intended) / 1000);
      }
      if (next === total) return resolve();
      // Node's timers never fire early and may fire a millisecond late: rounding down keeps them on time.
      setTimeout(step, Math.max(0, Math.floor(((intendedUs[next] ?? 0) - nowUs()) / 1000)));
    };
    step();
  });

  await sleepUntil(fromUs);
  const before = snapshot(order.parts);
  const { rate = 0, seqs = [] } = order.reactions ?? {};
  for (let next = 0; next < rate * order.measureSeconds; next += 1) {
    await sleepUntil(fromUs + (1e6 * next) / rate);
    // Members take their reactions back in every second round.
    const seq = seqs[next % seqs.length] ?? 1;
    const on = Math.floor(next / members.length) % 2 === 0;
    members[next % members.length]?.socket.write(reaction(roomIds[0] ?? "", seq, next, on));
  }
  await sleepUntil(toUs);
  const after = snapshot(order.parts);
  await sending;

  const deadline = nowUs() + DRAIN_US;
  while (deliveries < expected && nowUs() < deadline && nowUs() - run.lastDeliveryUs < STALLED_US)
    await sleepUntil(nowUs() + 50_000);
  // Duplicates would arrive soon after.
  await sleepUntil(nowUs() + 300_000);
  load = null;

  const measured = after.deliveries - before.deliveries;
  const seconds = (after.atUs - before.atUs) / 1e6;
  const cpuUs: Record<string, number> = {};
  let systemNs = after.softirqNs - before.softirqNs;
  cpuUs["kernel"] = systemNs / 1000 / measured;
  order.parts.forEach(({ name }, index) => {
    const ns = (after.cpu[index] ?? 0) - (before.cpu[index] ?? 0);
    systemNs += ns;
    cpuUs[name] = (cpuUs[name] ?? 0) + ns / 1000 / measured;
  });
  return {
    sent: total,
    deliveries: measured,
    offered,
    latencyMs: summarise(run.latencies.map((us) => us / 1000)),
    answered: run.answered,
    refused: run.refused,
    unanswered: dialect.answer ? total - run.answered : 0,
    reacted: run.reacted,
    changeFrames: (after.changeFrames - before.changeFrames) / members.length / seconds,
    reconciliation: reconcile(
      members.map(({ plan: { rooms: theirs }, ledger }) => ({ rooms: theirs, ledger })),
      rooms,
    ),
    cpuUs,
    cpuUsAll: systemNs / 1000 / measured,
    busy: (after.ownNs - before.ownNs) / 1e9 / seconds,
    latenessMs: summarise(lateness),
  };
}

function reaction(roomId: string, seq: number, number: number, on: boolean): Buffer {
  const asked = { roomId, seq, emoji: EMOJI[number % EMOJI.length], on };
  return clientFrame(`42${MAX_ID + 2 + number}["message.react",${JSON.stringify(asked)}]`);
}

/** The time (µs from 0) and the room of each message. */
function makeSchedule({ rate, arrivals, warmSeconds, warmRate, measureSeconds }: LoadOrder) {
  const warm = Math.floor(warmRate * warmSeconds);
  const total = warm + Math.floor(rate * measureSeconds);
  if (total > MAX_ID) throw new Error(`a load of ${total} messages is more than the marker can count`);
  const rooms = new Uint16Array(total);
  const intendedUs = new Float64Array(total);
  const inUse = [...new Set(members.flatMap((member) => member.plan.rooms))];
  const random = createRandom(1, "").next;
  let at = 0;
  for (let id = 0; id < total; id += 1) {
    rooms[id] = inUse[arrivals === "even" ? id % inUse.length : Math.floor(random() * inUse.length)] ?? 0;
    intendedUs[id] = at;
    const meanUs = 1e6 / (id < warm ? warmRate : rate);
    at += arrivals === "even" ? meanUs : -Math.log(1 - random()) * meanUs;
  }
  return { rooms, intendedUs };
}

function snapshot(parts: Part[]) {
  return {
    atUs: nowUs(),
    cpu: parts.map(({ pid }) => cpuNs(pid)),
    softirqNs: softirqNs(CORE.system),
    ownNs: cpuNs(process.pid),
    deliveries,
    changeFrames,
  };
}

async function sleepUntil(us: number): Promise<void> {
  for (let left = us - nowUs(); left > 0; left = us - nowUs())
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, left / 1000)));
}

/** Resets the connections, so that no port waits for late packets. */
function closeAll(): Promise<void> {
  closing = true;
  for (const { socket } of members) socket.resetAndDestroy();
  members = [];
  return Promise.resolve();
}

async function readPages(order: PagesOrder): Promise<PagesResult> {
  const [beforeNs, beganUs] = [used(order.parts), nowUs()];
  const untilUs = beganUs + order.seconds * 1e6;
  const latencies: number[] = [];
  let failed = 0;
  const read = (cookie: string, index: number) =>
    new Promise<void>((resolve) => {
      let from = nowUs();
      const socket = connect({ host: order.host, port: order.port, noDelay: true });
      const request = `GET ${order.paths[index]} HTTP/1.1\r\nHost: ${order.host}:${order.port}\r\nCookie: ${cookie}\r\n\r\n`;
      let got = "";
      const ask = () => socket.write(request);
      socket.setEncoding("latin1");
      socket.once("connect", ask);
      socket.once("error", () => (failed += 1));
      socket.once("close", () => resolve());
      socket.on("data", (chunk: string) => {
        got += chunk;
        const end = got.indexOf("\r\n\r\n");
        const length = Number(/content-length: (\d+)/i.exec(got)?.[1]);
        if (end < 0 || got.length < end + 4 + length) return;
        if (Number.isNaN(length)) throw new Error("an answer without a length");
        if (!got.startsWith("HTTP/1.1 200")) failed += 1;
        got = "";
        latencies.push((nowUs() - from) / 1000);
        from = nowUs();
        if (from < untilUs) ask();
        else socket.destroy();
      });
    });
  await Promise.all(order.cookies.map(read));
  const seconds = (nowUs() - beganUs) / 1e6;
  return {
    failed,
    perSecond: latencies.length / seconds,
    latencyMs: summarise(latencies),
    cpuUs: (used(order.parts) - beforeNs) / 1000 / latencies.length,
  };
}

const orders: Orders = {
  pages: readPages,
  missing: (sent) => {
    let missing = 0;
    for (const { ledger } of members) for (let id = 0; id < sent; id += 1) if (!ledger.has(id)) missing += 1;
    return Promise.resolve(missing);
  },
  connect: connectAll,
  load: runLoad,
  quiet: () => {
    const heard = otherFrames;
    otherFrames = 0;
    return Promise.resolve(heard);
  },
  close: closeAll,
};

process.on("message", ({ id, name, order }: { id: number; name: keyof Orders; order: never }) => {
  orders[name](order).then(
    (value) => process.send?.({ id, value }),
    (error: unknown) =>
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});
process.on("disconnect", () => process.exit(0));
