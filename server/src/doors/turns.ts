import { performance } from "node:perf_hooks";
import { BOUNDS, TURNS } from "../limits.ts";

type Lines = Map<string, (() => void)[]>;

const SECOND_MS = 1_000;
/** How often the loop is checked for time to serve clients over their share. */
const LOOK_MS = 1;

/** When the next of those begins that must leave the loop time for others. */
class Pace {
  readonly #busyMost: number;
  readonly #waitMs: number;
  #lastAt = 0;
  #loop = performance.eventLoopUtilization();

  /** `waitMs`: after this long one begins regardless. */
  constructor(busyMost: number, waitMs: number) {
    this.#busyMost = busyMost;
    this.#waitMs = waitMs;
  }

  /** Whether the loop was busy for less than this share of the time since this was last true. */
  isDue(): boolean {
    const now = performance.now();
    const { utilization } = performance.eventLoopUtilization(this.#loop);
    if (utilization > this.#busyMost && now - this.#lastAt < this.#waitMs) return false;
    this.#lastAt = now;
    this.#loop = performance.eventLoopUtilization();
    return true;
  }
}

/**
 * Decides when requests begin: a few in each turn of the event loop, so that one client's burst is not one long turn
 * for everybody else. Handshakes, and a client over its share of a second, as the table says, are still served, but only
 * while the loop has time: handshakes sooner, because thousands may come back together. Clients take turns, and one
 * client's requests begin in their order. Of the lines that are due, the one goes first that has waited longest: none keeps
 * another waiting for ever.
 */
export class Turns {
  readonly #prompt: Lines = new Map();
  readonly #handshakes: Lines = new Map();
  readonly #over: Lines = new Map();
  /** What paces each line; the line that began a request last is last. */
  readonly #paces = new Map<Lines, Pace | null>([
    [this.#prompt, null],
    [this.#handshakes, new Pace(BOUNDS.handshakeBusy.value, BOUNDS.handshakeWait.value)],
    [this.#over, new Pace(BOUNDS.overBusy.value, BOUNDS.overWait.value)],
  ]);
  /** Units that each client has asked for within this second. */
  readonly #asked = new Map<string, number>();
  #since = 0;
  /** How many requests have begun in this turn of the loop. */
  #begun = 0;
  #next: "nothing" | "immediate" | "timer" = "nothing";

  /** Resolves when the request may begin; undefined if that is now. */
  take(kind: keyof typeof TURNS, who: string): Promise<void> | undefined {
    const lines = this.#linesFor(kind, who);
    const pace = this.#paces.get(lines);
    if (lines.size === 0 && this.#begun < BOUNDS.turn.value && (pace?.isDue() ?? true)) {
      this.#note(lines);
      this.#look("immediate");
      return undefined;
    }
    return new Promise((begin) => {
      const line = lines.get(who);
      if (line) line.push(begin);
      else lines.set(who, [begin]);
      this.#look(pace ? "timer" : "immediate");
    });
  }

  #linesFor(kind: keyof typeof TURNS, who: string): Lines {
    const { units } = TURNS[kind];
    const asked = this.#count(who, units);
    // Where earlier requests of this client wait.
    for (const lines of [this.#handshakes, this.#over]) if (lines.has(who)) return lines;
    if (kind === "handshake") return this.#handshakes;
    return asked > BOUNDS.freely.value ? this.#over : this.#prompt;
  }

  /** How many requests of a client wait. */
  waiting(who: string): number {
    return [...this.#paces.keys()].reduce((sum, lines) => sum + (lines.get(who)?.length ?? 0), 0);
  }

  #count(who: string, units: number): number {
    const now = performance.now();
    if (now - this.#since >= SECOND_MS) {
      this.#asked.clear();
      this.#since = now;
    }
    const asked = (this.#asked.get(who) ?? 0) + units;
    this.#asked.set(who, asked);
    return asked;
  }

  #note(lines: Lines): void {
    this.#begun += 1;
    const pace = this.#paces.get(lines) ?? null;
    this.#paces.delete(lines);
    this.#paces.set(lines, pace);
  }

  #look(when: "immediate" | "timer"): void {
    if (this.#next === "immediate" || this.#next === when) return;
    // A timer that is set fires too; that does no harm.
    this.#next = when;
    if (when === "immediate") setImmediate(() => this.#advance("immediate"));
    else setTimeout(() => this.#advance("timer"), LOOK_MS);
  }

  #advance(by: "immediate" | "timer"): void {
    if (this.#next !== by) return;
    this.#next = "nothing";
    this.#begun = 0;
    // A line that has begun one comes again at the end.
    for (const [lines, pace] of this.#paces) {
      if (this.#begun >= BOUNDS.turn.value) break;
      const who = this.#nextOf(lines);
      if (who !== undefined && (pace?.isDue() ?? true)) this.#begin(lines, who);
    }
    if (this.#begun > 0) this.#look("immediate");
    else if (this.#handshakes.size + this.#over.size > 0) this.#look("timer");
  }

  /** Whose request is the next of a line. Somebody's earlier ones may still wait among the prompt. */
  #nextOf(lines: Lines): string | undefined {
    for (const who of lines.keys()) if (lines === this.#prompt || !this.#prompt.has(who)) return who;
    return undefined;
  }

  #begin(lines: Lines, who: string): void {
    const line = lines.get(who) ?? [];
    const begin = line.shift();
    // A client that had its turn goes to the end.
    lines.delete(who);
    if (line.length > 0) lines.set(who, line);
    this.#note(lines);
    begin?.();
  }
}
