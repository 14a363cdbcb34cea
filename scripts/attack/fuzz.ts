import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ERROR_CODES } from "../../server/src/protocol.ts";
import { readFrames, type Stream } from "../frames.ts";
import { orHelp } from "../prepare.mjs";
import { createRandom } from "../prove/random.ts";
import { gatherBystanders, type Bystanders } from "./bystanders.ts";
import { makeSequence, type Sequence } from "./grammar.ts";
import { openStage, type Person, type Replica, type Stage } from "./stage.ts";
import { see, seeNothing, type Context } from "./values.ts";

/**
 * `npm run attack -- fuzz`: sequences of a grammar against two replicas, many at once, while bystanders talk. No sequence
 * may end a replica, cause an unexpected error (a log line at level error), reach a bystander, stay in memory, or get an
 * answer that the wire does not define.
 */
export type FuzzResult = {
  seed: number;
  sequences: number;
  seconds: number;
  /** One line for each broken promise. */
  faults: string[];
  /** Figures to report. */
  notes: string[];
};

export type FuzzOptions = { seed: number; sequences: number; from?: number; verbose?: boolean };

const PARALLEL = 48;
const PEOPLE = 160;
/** Those who use the whole API, and so lose their sessions and accounts; the first few administer the server. */
const VISITORS = 24;
const STAFF = ["owner", "owner", "admin", "admin", "admin"] as const;
/** How often the replicas' memory is measured, while nothing is played. */
const WEIGHTS = 4;
/** How many MB a replica may grow from the first measurement to the end. */
const GROWTH = 25;
/**
 * How many KB a replica may grow in 1,000 sequences, from the middle of a run to its end: by then, in a long run, tables
 * are full and code is compiled. Visitors leave some 30 new accounts and rooms, whose names are remembered.
 */
const FLAT_KB = 120;
const LONG = 40_000;
/** How long a replica may take to end TCP connections whose client has gone or polls. */
const LEAVE_MS = 5_000;
const REST_MS = 45_000;
/** The highest p99 in ms with which bystanders may hear each other; the attackers share their cores. */
const BOUND_MS = 1_500;
const LISTEN_MS = 40;
const GONE_MS = 1_000;
const STATUSES = new Set([
  100, 101, 200, 201, 204, 206, 301, 304, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 414, 415, 416,
  417, 426, 429, 431, 503,
]);

const HELP = `npm run attack -- fuzz [--sequences NUMBER] [--seed NUMBER] [--from NUMBER] [--verbose]

  --sequences  how many; 100,000 unless told otherwise
  --seed       repeats an earlier run's chance
  --from       begins at this sequence: with --sequences 1 it plays it alone
  --verbose    prints what each sequence does`;

export async function fuzzCommand(args: string[]): Promise<number> {
  const known = {
    sequences: { type: "string" },
    seed: { type: "string" },
    from: { type: "string" },
    verbose: { type: "boolean" },
  } as const;
  const options = orHelp(HELP, (): FuzzOptions => {
    const { values } = parseArgs({ args, options: known });
    const whole = (name: "sequences" | "seed" | "from", fallback: number) => {
      const value = Number(values[name] ?? fallback);
      if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} takes a whole number.`);
      return value;
    };
    return {
      sequences: whole("sequences", 100_000),
      seed: whole("seed", Math.floor(Math.random() * 2 ** 31)),
      from: whole("from", 0),
      verbose: values.verbose ?? false,
    };
  });
  const result = await fuzz(options);
  tellFuzz(result);
  return result.faults.length > 0 ? 1 : 0;
}

export function tellFuzz({ seed, sequences, seconds, faults, notes }: FuzzResult): void {
  console.log(
    `Seed ${seed}: ${sequences.toLocaleString("en")} sequences in ${seconds.toFixed(1)} s, ${Math.round(sequences / seconds)} a second; ${notes.join("; ")}.`,
  );
  for (const fault of faults) console.log(`    ${fault}`);
}

export async function fuzz({ seed, sequences, from = 0, verbose = false }: FuzzOptions): Promise<FuzzResult> {
  const faults = new Map<string, number>();
  const fault = (what: string) => void faults.set(what, (faults.get(what) ?? 0) + 1);
  const notes: string[] = [];
  const stage = await openStage({ POLLING: "on", LOG_LEVEL: "warn" });
  const began = performance.now();
  try {
    const people = await Promise.all(Array.from({ length: PEOPLE }, () => stage.person()));
    const bystanders = await gatherBystanders(stage);
    const room = bystanders.roomId;
    const visitors = await Visitors.gather(stage);
    const seen = seeNothing();
    const running = new Map<number, string[]>();
    const pids = stage.replicas.map((replica) => replica.pid());
    const scales = await Promise.all(stage.replicas.map((replica) => Scale.under(replica)));
    let nonces = 0;
    let next = from;
    let end = from;
    const start = performance.now();
    const lane = async () => {
      while (next < end) {
        const index = next;
        next += 1;
        await playOne(index);
        for (const replica of stage.replicas) {
          if (!replica.hasEnded()) continue;
          const why =
            replica.log.findLast((line) => /"level":60|Error/.test(line)) ?? replica.log.at(-1) ?? "";
          fault(`the ${replica.name} replica ended: ${reasonIn(why)}`);
          if (verbose || faults.size < 10) {
            for (const [each, steps] of running)
              console.log(`  running: --from ${each} --sequences 1: ${steps.join(", ")}`);
          }
          await reviveOnce(replica);
        }
      }
    };
    const reviving = new Map<string, Promise<void>>();
    const reviveOnce = async (replica: Stage["left"]) => {
      const already = reviving.get(replica.name);
      if (already) return already;
      const again = replica.revive().finally(() => reviving.delete(replica.name));
      reviving.set(replica.name, again);
      return again;
    };
    const playOne = async (index: number) => {
      const random = createRandom(seed, `sequence ${index}`);
      const replica = random.next() < 0.5 ? stage.left : stage.right;
      const sequence = makeSequence(random);
      const visits = sequence.kind === "visits";
      const visitor = visits ? await visitors.come(random.whole(VISITORS)) : undefined;
      const { cookie } = visitor ?? random.pick(people);
      const context: Context = {
        host: `127.0.0.1:${replica.port}`,
        cookie: sequence.session ? cookie : "",
        sid: "nobody",
        nonce: () => `fuzz-${index}-${(nonces += 1)}`,
        // Administrators, and whom they make one, have rights in the bystanders' room.
        rooms: visits ? ["0", ...seen.rooms] : [room, "1", "2"],
        users: visits ? visitors.ids() : people.map(({ id }) => id),
        seen,
        spend(id = visitor?.id) {
          visitors.spend(id);
        },
      };
      const said: string[] = [];
      running.set(index, said);
      const answered = (what: string) => {
        if (!faults.has(what) || verbose)
          console.log(`  ${what}: --from ${index} --sequences 1: ${said.join(", ")}`);
        fault(what);
      };
      const heard = (text: string) => visits && see(seen, text, room);
      await play({
        sequence,
        port: replica.port,
        address: stage.address(),
        context,
        fault: answered,
        said,
        heard,
      });
      if (verbose) console.log(`${index} ${sequence.kind}: ${said.join(", ")}`);
      running.delete(index);
    };
    for (let part = 1; part <= WEIGHTS; part += 1) {
      end = from + Math.round((part * sequences) / WEIGHTS);
      await Promise.all(Array.from({ length: PARALLEL }, lane));
      const atRest = sequences >= LONG && part >= WEIGHTS / 2;
      await Promise.all(scales.map((scale) => scale.weigh(end - from, atRest)));
    }
    const took = (performance.now() - start) / 1_000;
    await judge({ stage, bystanders, pids, scales, fault, notes });
    return {
      seed,
      sequences,
      seconds: took,
      faults: [...faults].map(([what, count]) => (count > 1 ? `${what} (${count} times)` : what)),
      notes: [...notes, `all of it ${((performance.now() - began) / 1_000).toFixed(1)} s`],
    };
  } finally {
    await stage.close();
  }
}

/** People who may lose their session or account at any time: somebody new then comes in their place. */
class Visitors {
  readonly #stage: Stage;
  readonly #places: (Person & { isSpent: boolean })[] = [];
  readonly #coming = new Map<number, Promise<void>>();

  static async gather(stage: Stage): Promise<Visitors> {
    const visitors = new Visitors(stage);
    await Promise.all(Array.from({ length: VISITORS }, (_, place) => visitors.#invite(place)));
    return visitors;
  }

  private constructor(stage: Stage) {
    this.#stage = stage;
  }

  ids(): string[] {
    return this.#places.map(({ id }) => id);
  }

  async come(place: number): Promise<Person> {
    if (this.#places[place]?.isSpent) {
      const coming = this.#coming.get(place) ?? this.#invite(place);
      this.#coming.set(place, coming);
      await coming.finally(() => this.#coming.delete(place));
    }
    const person = this.#places[place];
    if (!person) throw new Error("a visitor for each place");
    return person;
  }

  spend(id: string | undefined): void {
    const person = this.#places.find((one) => one.id === id);
    if (person) person.isSpent = true;
  }

  async #invite(place: number): Promise<void> {
    const { admin, keys } = this.#stage;
    const person = await this.#stage.person();
    const role = STAFF[place];
    if (role) {
      await admin.hset(keys.staff, person.id, role);
      await admin.hset(keys.user(person.id), "role", role);
    }
    this.#places[place] = { ...person, isSpent: false };
  }
}

type Judged = {
  stage: Stage;
  bystanders: Bystanders;
  pids: number[];
  scales: Scale[];
  fault: (what: string) => void;
  notes: string[];
};

/** Checks what must hold once everything was sent. */
async function judge({ stage, bystanders, pids, scales, fault, notes }: Judged): Promise<void> {
  for (const [index, replica] of stage.replicas.entries()) {
    if (replica.pid() !== pids[index]) fault(`the ${replica.name} replica is another process`);
    const status = await replica.ready();
    if (status !== 200) fault(`/readyz of the ${replica.name} replica answers ${status}`);
    for (const line of replica.errors()) fault(`the ${replica.name} replica logged: ${reasonIn(line)}`);
    const contained = await replica.metric("hubbub_contained_total");
    if (contained > 0) fault(`the ${replica.name} replica contained ${contained} throws`);
  }
  // Let messages that are still under way be answered first.
  for (const what of new Set(await bystanders.settle())) fault(`a bystander: ${what}`);
  const figures = bystanders.figures();
  await bystanders.stop();
  if (figures.refused > 0) fault(`${figures.refused} messages of bystanders were refused`);
  if (figures.unanswered > 0) fault(`${figures.unanswered} messages of bystanders were not answered`);
  for (const side of ["left", "right"] as const) {
    const { p50, p99 } = figures[side];
    notes.push(`${side}: bystanders heard each other in ${p50.toFixed(1)} ms, p99 ${p99.toFixed(0)} ms`);
    if (p99 > BOUND_MS)
      fault(`bystanders on the ${side} replica heard each other in ${p99.toFixed(0)} ms (p99)`);
  }
  for (const scale of scales) {
    notes.push(scale.note());
    scale.faults().forEach(fault);
  }
}

type Weight = { sequences: number; bytes: number; atRest: boolean };

/** Measures how much a replica keeps of what was played on it. */
class Scale {
  readonly #replica: Replica;
  /** TCP connections and counted connections before anything was played: those of bystanders and Redis. */
  readonly #sockets: number;
  readonly #connections: number;
  readonly #weights: Weight[] = [];
  readonly #faults = new Set<string>();

  static async under(replica: Replica): Promise<Scale> {
    const { sockets } = await replica.weigh();
    return new Scale(replica, sockets, await connectionsOf(replica));
  }

  private constructor(replica: Replica, sockets: number, connections: number) {
    this.#replica = replica;
    this.#sockets = sockets;
    this.#connections = connections;
  }

  /** Measures while nothing is played and once all TCP connections are gone; with `atRest`, once pollers have timed out too. */
  async weigh(sequences: number, atRest: boolean): Promise<void> {
    if (this.#replica.hasEnded()) return;
    const { name } = this.#replica;
    const since = performance.now();
    const waits = async (ms: number) => {
      const goesOn = performance.now() - since < ms;
      if (goesOn) await sleep(250);
      return goesOn;
    };
    let connections = atRest ? await connectionsOf(this.#replica) : 0;
    while (connections > this.#connections && (await waits(REST_MS)))
      connections = await connectionsOf(this.#replica);
    if (connections > this.#connections) this.#faults.add(`the ${name} replica misses nobody who polled`);
    let weight = await this.#replica.weigh();
    while (weight.sockets > this.#sockets && (await waits(LEAVE_MS))) weight = await this.#replica.weigh();
    if (weight.sockets > this.#sockets)
      this.#faults.add(`the ${name} replica has kept TCP connections of those who have gone`);
    this.#weights.push({ sequences, bytes: weight.bytes, atRest });
  }

  note(): string {
    const mb = this.#weights.map(({ bytes }) => (bytes / 1e6).toFixed(1)).join(", ");
    const kept = this.#keptKb();
    return `${this.#replica.name} keeps ${mb} MB${kept === undefined ? "" : `, at last ${kept.toFixed(0)} KB of 1,000 sequences`}`;
  }

  faults(): string[] {
    const { name } = this.#replica;
    const growth = ((this.#weights.at(-1)?.bytes ?? 0) - (this.#weights[0]?.bytes ?? 0)) / 1e6;
    const kept = this.#keptKb() ?? 0;
    return [
      ...this.#faults,
      ...(growth > GROWTH ? [`the ${name} replica keeps ${growth.toFixed(0)} MB more than at first`] : []),
      ...(kept > FLAT_KB ? [`the ${name} replica keeps ${kept.toFixed(0)} KB of 1,000 sequences`] : []),
    ];
  }

  #keptKb(): number | undefined {
    const resting = this.#weights.filter(({ atRest }) => atRest);
    const [half, end] = [resting[0], resting.at(-1)];
    if (!half || !end || half === end) return undefined;
    return ((end.bytes - half.bytes) / 1_024 / (end.sequences - half.sequences)) * 1_000;
  }
}

/** The number of Socket.IO connections, with and without a session. */
async function connectionsOf(replica: Replica): Promise<number> {
  const [known, strange] = [
    await replica.metric("hubbub_connections"),
    await replica.metric("hubbub_unauthenticated_connections"),
  ];
  return known + strange;
}

/** The reason and the place of a logged error, without the parts that vary. */
function reasonIn(line: string): string {
  try {
    const { reason, msg, stack } = JSON.parse(line) as { reason?: string; msg?: string; stack?: string };
    return `${msg}: ${reason} ${(stack ?? "").split("\n").slice(0, 3).join(" ")}`;
  } catch {
    return line.slice(0, 200);
  }
}

type Opened = {
  socket: Socket;
  stream: Stream;
  text: string;
  upgraded: boolean;
  closed: boolean;
  heard: number;
  wake: () => void;
};

type Playing = {
  sequence: Sequence;
  port: number;
  address: string;
  context: Context;
  fault: (what: string) => void;
  said: string[];
  /** Everything that came back, in parts. */
  heard: (text: string) => void;
};

async function play({ sequence, port, address, context, fault, said, heard }: Playing): Promise<void> {
  const { steps, session } = sequence;
  const lines = new Map<number, Opened>();
  const open = (line: number): Opened => {
    const known = lines.get(line);
    if (known) return known;
    const socket = connect({ host: "127.0.0.1", port, localAddress: address });
    const opened: Opened = {
      socket,
      stream: { rest: null },
      text: "",
      upgraded: false,
      closed: false,
      heard: 0,
      wake: () => {},
    };
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      opened.closed = true;
      opened.wake();
    });
    socket.on("data", (chunk: Buffer) => {
      opened.heard += 1;
      heard(chunk.toString("latin1"));
      read(opened, chunk, context, fault);
      opened.wake();
    });
    lines.set(line, opened);
    return opened;
  };
  if (session) said.push("with a session");
  for (const step of steps) {
    if (step.do === "wait") {
      await sleep(step.ms);
      continue;
    }
    const line = open(step.line);
    if (line.closed) {
      if (step.line === 0) break;
      continue;
    }
    if (step.do === "write") {
      const bytes = step.bytes(context);
      said.push(["text", "request", "bytes"].includes(step.what) ? show(bytes) : step.what);
      line.socket.write(bytes);
    } else {
      said.push(step.do);
      if (step.do === "listen") await listen(line);
      else if (step.do === "end") line.socket.end();
      else if (step.do === "deafen") line.socket.pause();
      else line.socket.resetAndDestroy();
    }
  }
  // A half-closed connection gets all its answers before it is closed, so every request was heard.
  await Promise.all(
    [...lines.values()].map(async (line) => {
      if (!line.closed) line.socket.resume().end();
      await gone(line);
      check(line, fault);
      line.socket.destroy();
    }),
  );
}

/** Waits until the other side closes, at most a second. */
async function gone(line: Opened): Promise<void> {
  if (line.closed) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, GONE_MS);
    line.wake = () => {
      if (!line.closed) return;
      clearTimeout(timer);
      resolve();
    };
  });
}

function show(bytes: string | Buffer): string {
  const text = typeof bytes === "string" ? bytes : bytes.subarray(bytes.length > 131 ? 8 : 6).toString();
  return JSON.stringify(text.length > 160 ? `${text.slice(0, 160)}...` : text);
}

async function listen(line: Opened): Promise<void> {
  const { heard } = line;
  if (line.closed) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, LISTEN_MS);
    line.wake = () => {
      if (line.heard === heard && !line.closed) return;
      clearTimeout(timer);
      resolve();
    };
  });
  line.wake = () => {};
}

/** Reads what came back: an answer's head, or a WebSocket's frames. */
function read(line: Opened, chunk: Buffer, context: Context, fault: (what: string) => void): void {
  let rest = chunk;
  if (!line.upgraded) {
    line.text = (line.text + chunk.toString("latin1")).slice(-262_144);
    context.sid = /"sid":"([\w-]+)"/.exec(line.text)?.[1] ?? context.sid;
    const upgrade = /HTTP\/1\.1 101 [^]*?\r\n\r\n/.exec(line.text);
    if (!upgrade) return;
    line.upgraded = true;
    rest = Buffer.from(line.text.slice(upgrade.index + upgrade[0].length), "latin1");
  }
  try {
    readFrames(line.stream, rest, rest.length, (_stream, opcode, buffer, start, end) => {
      if (opcode === 1) checkPacket(buffer.toString("utf8", start, end), fault);
    });
  } catch (error) {
    // Engine.IO refuses some handshakes only after the upgrade, with a plain HTTP answer.
    if (rest.toString("latin1", 0, 12) === "HTTP/1.1 400") return;
    const beginning = JSON.stringify(rest.subarray(0, 60).toString("latin1"));
    fault(`${error instanceof Error ? error.message : String(error)}: ${beginning}`);
  }
}

const CODES: ReadonlySet<string> = new Set(ERROR_CODES);

/** Reports a reply whose code is not in the closed list, or is `internal`. */
function checkPacket(packet: string, fault: (what: string) => void): void {
  if (packet.startsWith("43")) {
    const at = packet.indexOf("[");
    try {
      const [reply] = JSON.parse(packet.slice(at)) as [{ ok: boolean; error?: { code: string } }];
      if (!reply.ok && !CODES.has(reply.error?.code ?? "")) fault(`a reply: ${packet.slice(0, 200)}`);
      if (reply.error?.code === "internal")
        fault(`an event was answered "internal": ${packet.slice(0, 200)}`);
    } catch {
      fault(`a reply that is no JSON: ${packet.slice(0, 200)}`);
    }
  } else if (packet.startsWith("44") && packet.includes('"internal"'))
    fault(`a handshake was answered: ${packet.slice(0, 200)}`);
}

/** Checks the statuses of answers without an upgrade. */
function check({ text, upgraded }: Opened, fault: (what: string) => void): void {
  if (upgraded || !text.startsWith("HTTP/1.1 ")) return;
  for (const [, status = "", reason = ""] of text.matchAll(/^HTTP\/1\.1 (\d{3}) ([\w ]*)\r$/gm))
    if (!STATUSES.has(Number(status))) fault(`answered ${status} ${reason}`);
  // A poll's answer has several packets.
  for (const packet of text.split(/[\r\n]+|HTTP\/1\.1 /).flatMap((line) => line.split("\x1e")))
    if (/^43\d*\[/.test(packet)) checkPacket(Buffer.from(packet, "latin1").toString(), fault);
}
