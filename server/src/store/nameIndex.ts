import { BOUNDS } from "../limits.ts";
import { fold, matchOf, searchFor, type Match, type Search } from "../search.ts";

/** Where numbered names are stored. */
type Source = {
  /** The highest number given so far, or 0. */
  last: () => Promise<number>;
  /** The names of these numbers; null for a number without one. */
  read: (ids: string[]) => Promise<(string | null)[]>;
  /** Which of these numbers only people with access may find; without it, none. */
  hidden?: (ids: string[]) => Promise<boolean[]>;
};

/** A page of matches, best first. If not `complete`, some names were not read yet, and more may match. */
export type NamesFound = { ids: string[]; total: number; complete: boolean };

type Entry = { id: number; folded: string; hidden: boolean };
/** Names that were read together: those up to this number. */
type Slice = { readAt: number; upTo: number };

/** Names that are read in one go: about 3 ms for Redis and as much here; then others get their turn. */
const SLICE = 1_000;
/** A new number gets its name a moment later, so gaps among the newest numbers are read again. */
const UNSETTLED = 50;

/**
 * Searches names by any part, in this replica's memory: `BOUNDS.namesKnown` at most, the oldest ones. Redis has the
 * truth: before each search the index asks for the highest number and reads what is new, and it reads each name again
 * after `BOUNDS.namesFresh`. So a search costs Redis one command.
 */
export class NameIndex {
  readonly #source: Source;
  readonly #entries = new Map<number, Entry>();
  readonly #slices: Slice[] = [];
  #sorted: Entry[] = [];
  #isSorted = true;
  #reading: Promise<boolean> = Promise.resolve(false);
  #next: Promise<boolean> | undefined;

  constructor(source: Source) {
    this.#source = source;
  }

  /** How many names a search looks at. */
  get size(): number {
    return this.#entries.size;
  }

  /** How many numbers have a name, as far as names are known; those that were not read yet count as having one. */
  async count(): Promise<number> {
    await this.#refresh();
    const read = this.#slices.reduce((total, { upTo }, at) => total + upTo - at * SLICE, 0);
    return (await this.#source.last()) - read + this.#entries.size;
  }

  /**
   * Best matches first, equal ones by name; hidden ones only if the asker may see them. `after` is the last id of the
   * previous page.
   */
  async find(
    text: string,
    after: string | undefined,
    size: number,
    maySee: (id: string) => boolean = () => false,
  ): Promise<NamesFound> {
    const complete = await this.#refresh();
    if (!this.#isSorted) this.#sorted.sort(byName);
    this.#isSorted = true;
    const matching = this.#matching(searchFor(text));
    const found = matching.filter(({ id, hidden }) => !hidden || maySee(String(id)));
    const from = after === undefined ? 0 : found.findIndex(({ id }) => id === Number(after)) + 1;
    // A page after a deleted name is empty, instead of the first page again.
    const page = after !== undefined && from === 0 ? [] : found.slice(from, from + size);
    return { ids: page.map(({ id }) => String(id)), total: found.length, complete };
  }

  #matching(search: Search): Entry[] {
    if (search.text === "") return this.#sorted;
    const byMatch: Record<Match, Entry[]> = { 0: [], 1: [], 2: [], 3: [], 4: [] };
    for (const entry of this.#sorted) {
      const match = matchOf(entry.folded, search);
      if (match > 0) byMatch[match].push(entry);
    }
    return byMatch[4].concat(byMatch[3], byMatch[2], byMatch[1]);
  }

  /** Concurrent calls share one refresh, which begins after all of them. */
  #refresh(): Promise<boolean> {
    this.#next ??= this.#reading
      .catch(() => false)
      .then(() => {
        this.#next = undefined;
        return (this.#reading = this.#read());
      });
    return this.#next;
  }

  /** Reads missing and old names, `BOUNDS.namesRead` at most. Answers whether all names are known then. */
  async #read(): Promise<boolean> {
    const last = await this.#source.last();
    const reachable = Math.min(last, BOUNDS.namesKnown.value);
    this.#dropAbove(reachable);
    const old = performance.now() - BOUNDS.namesFresh.value;
    let left = BOUNDS.namesRead.value / SLICE;
    let complete = last <= reachable;
    for (let first = 1; first <= reachable; first += SLICE) {
      const upTo = Math.min(first + SLICE - 1, reachable);
      const slice = this.#slices[(first - 1) / SLICE];
      if ((slice === undefined || slice.readAt < old) && left > 0) {
        left -= 1;
        await this.#readNames(span(first, upTo));
        this.#slices[(first - 1) / SLICE] = { readAt: performance.now(), upTo };
      } else if (slice === undefined) {
        complete = false;
      } else {
        const isHole = (id: number) => !this.#entries.has(id);
        const unsettled = span(Math.max(first, last - UNSETTLED + 1), slice.upTo).filter(isHole);
        await this.#readNames([...unsettled, ...span(slice.upTo + 1, upTo)]);
        slice.upTo = upTo;
      }
    }
    return complete;
  }

  async #readNames(ids: number[]): Promise<void> {
    if (ids.length === 0) return;
    const wanted = ids.map(String);
    const [names, hidden = []] = await Promise.all([
      this.#source.read(wanted),
      this.#source.hidden?.(wanted),
    ]);
    const changed = new Map<number, Entry | undefined>();
    for (const [at, id] of ids.entries()) {
      const name = names[at] ?? null;
      const entry = name === null ? undefined : { id, folded: fold(name), hidden: hidden[at] ?? false };
      const known = this.#entries.get(id);
      if (entry?.folded !== known?.folded || entry?.hidden !== known?.hidden) changed.set(id, entry);
    }
    if (changed.size === 0) return;
    if ([...changed.keys()].some((id) => this.#entries.has(id)))
      this.#sorted = this.#sorted.filter(({ id }) => !changed.has(id));
    for (const [id, entry] of changed) {
      this.#entries.delete(id);
      if (entry === undefined) continue;
      this.#entries.set(id, entry);
      this.#sorted.push(entry);
    }
    this.#isSorted = false;
  }

  /** The counter goes back when the data was replaced. */
  #dropAbove(last: number): void {
    const newest = this.#slices.at(-1);
    if (newest === undefined || newest.upTo <= last) return;
    this.#slices.length = 0;
    this.#entries.clear();
    this.#sorted = [];
  }
}

function span(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => first + at);
}

function byName(one: Entry, other: Entry): number {
  if (one.folded === other.folded) return one.id - other.id;
  return one.folded < other.folded ? -1 : 1;
}
