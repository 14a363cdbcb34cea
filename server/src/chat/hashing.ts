import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import { HASHES_AT_ONCE } from "./hashThreads.ts";

const RETRY_MS = 2_000;

/** The asker of a hash: an address, and the name that is tried there; null for a sign-up. */
export type Asker = { address: string; name: string | null };

type Waiter = { start: () => void; refuse: (error: ChatError) => void };
type Address = { waiting: number; lines: Map<string | null, Waiter[]> };

/**
 * The queue for password hashes, the most expensive work that somebody without an account can request. Addresses take
 * turns, and so do the names at one address: many requests of one asker delay only each other. When the queue is full,
 * the longest line gives way.
 */
export class Hashing {
  readonly #fair: boolean;
  readonly #atOnce: number;
  /** In the order of their turns. */
  readonly #addresses = new Map<string, Address>();
  #running = 0;
  #waiting = 0;

  /** `fair` bounds each address and name; without it, for benchmarks and tests, only the whole queue is bounded. */
  constructor(fair: boolean, atOnce = HASHES_AT_ONCE) {
    this.#fair = fair;
    this.#atOnce = atOnce;
  }

  /**
   * Runs it when it is the asker's turn. Throws `rate_limited` if they ask for too many, `unavailable` if everybody
   * does.
   */
  async run<T>(asker: Asker, task: () => Promise<T>): Promise<T> {
    await this.#turn(asker);
    try {
      return await task();
    } finally {
      this.#running -= 1;
      this.#advance();
    }
  }

  #turn({ address, name }: Asker): Promise<void> {
    const there = this.#addresses.get(address) ?? { waiting: 0, lines: new Map<string | null, Waiter[]>() };
    const line = there.lines.get(name) ?? [];
    if (this.#fair) {
      if (
        there.waiting >= BOUNDS.hashesOfAddress.value ||
        (name !== null && line.length >= BOUNDS.hashesOfName.value)
      )
        throw new ChatError("rate_limited", "Too many attempts at once. Slow down.", RETRY_MS);
      if (this.#waiting >= BOUNDS.hashesWaiting.value) this.#giveWay(there.waiting);
    }
    if (this.#waiting >= BOUNDS.hashesWaiting.value) throw crowded();
    return new Promise((resolve, reject) => {
      line.push({ start: resolve, refuse: reject });
      there.lines.set(name, line);
      there.waiting += 1;
      this.#addresses.set(address, there);
      this.#waiting += 1;
      this.#advance();
    });
  }

  /** Starts the next ones, as long as there is room. */
  #advance(): void {
    while (this.#running < this.#atOnce) {
      const [next] = this.#addresses;
      if (!next) return;
      const [address, there] = next;
      const [name = null] = there.lines.keys();
      const waiter = this.#take(address, there, name, "first");
      // A line that had a turn goes to the end.
      const line = there.lines.get(name);
      if (line) {
        there.lines.delete(name);
        there.lines.set(name, line);
      }
      if (this.#addresses.delete(address) && there.waiting > 0) this.#addresses.set(address, there);
      this.#running += 1;
      waiter?.start();
    }
  }

  /** Refuses the newest of the address with the most waiting, if those are clearly more than the newcomer's. */
  #giveWay(newcomers: number): void {
    let longest: [string, Address] | undefined;
    for (const entry of this.#addresses) if (entry[1].waiting > (longest?.[1].waiting ?? 0)) longest = entry;
    if (!longest || longest[1].waiting <= newcomers + 1) return;
    const [address, there] = longest;
    const name = [...there.lines.keys()].at(-1) ?? null;
    this.#take(address, there, name, "last")?.refuse(crowded());
  }

  #take(address: string, there: Address, name: string | null, end: "first" | "last"): Waiter | undefined {
    const line = there.lines.get(name);
    const waiter = end === "first" ? line?.shift() : line?.pop();
    if (line?.length === 0) there.lines.delete(name);
    there.waiting -= 1;
    this.#waiting -= 1;
    if (there.waiting === 0) this.#addresses.delete(address);
    return waiter;
  }
}

function crowded(): ChatError {
  return new ChatError("unavailable", "Too many people are logging in right now.", RETRY_MS);
}
