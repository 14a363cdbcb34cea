import { performance } from "node:perf_hooks";
import { BOUNDS, TURNS } from "../limits.ts";

type Lines = Map<string, (() => void)[]>;

const SECOND_MS = 1_000;
/** How often the loop is checked for time to serve clients over their share. */
const LOOK_MS = 1;

/**
 * Decides when requests begin: a few in each turn of the event loop, so that one client's burst is not one long turn
 * for everybody else. A client over its share of a second, as the table says, is still served, but only while the loop
 * is idle for half of the time. Clients take turns, and one client's requests begin in their order.
 */
export class Turns {
  readonly #prompt: Lines = new Map();
  readonly #late: Lines = new Map();
  /** Units that each client has asked for within this second. */
  readonly #asked = new Map<string, number>();
  #since = 0;
  /** How many requests have begun in this turn of the loop. */
  #begun = 0;
  #next: "nothing" | "immediate" | "timer" = "nothing";
  #lateAt = 0;
  #loop = performance.eventLoopUtilization();

  /** Resolves when the request may begin; undefined if that is now. */
  take(kind: keyof typeof TURNS, who: string): Promise<void> | undefined {
    // Earlier requests of this client are waiting there.
    const isLate = this.#late.has(who) || this.#count(who, TURNS[kind].units) > BOUNDS.freely.value;
    const lines = isLate ? this.#late : this.#prompt;
    if (lines.size === 0 && this.#begun < BOUNDS.turn.value && (!isLate || this.#isIdle())) {
      this.#begun += 1;
      this.#look("immediate");
      return undefined;
    }
    return new Promise((begin) => {
      const line = lines.get(who);
      if (line) line.push(begin);
      else lines.set(who, [begin]);
      this.#look(isLate ? "timer" : "immediate");
    });
  }

  /** How many requests of a client wait. */
  waiting(who: string): number {
    return (this.#prompt.get(who)?.length ?? 0) + (this.#late.get(who)?.length ?? 0);
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
    while (this.#prompt.size > 0 && this.#begun < BOUNDS.turn.value) this.#begin(this.#prompt);
    if (this.#begun === 0 && this.#late.size > 0 && this.#isIdle()) this.#begin(this.#late);
    if (this.#begun > 0) this.#look("immediate");
    else if (this.#late.size > 0) this.#look("timer");
  }

  #begin(lines: Lines): void {
    const [first] = lines;
    if (!first) return;
    const [who, line] = first;
    const begin = line.shift();
    // A client that had its turn goes to the end.
    lines.delete(who);
    if (line.length > 0) lines.set(who, line);
    this.#begun += 1;
    begin?.();
  }

  /** Whether the loop was idle for half of the time since this was last true. Every few ms a turn comes regardless. */
  #isIdle(): boolean {
    const now = performance.now();
    const { idle, active } = performance.eventLoopUtilization(this.#loop);
    if (idle < active && now - this.#lateAt < BOUNDS.lateWait.value) return false;
    this.#lateAt = now;
    this.#loop = performance.eventLoopUtilization();
    return true;
  }
}
