/** Runs one task at a time under each name. Callers during a run share the next one. */
export class SharedRuns<T> {
  readonly #turns = new Map<string, { running: Promise<unknown>; next: Promise<T> | undefined }>();

  run(name: string, work: () => Promise<T>): Promise<T> {
    const turn = this.#turns.get(name) ?? { running: Promise.resolve(), next: undefined };
    this.#turns.set(name, turn);
    turn.next ??= turn.running.then(() => {
      turn.next = undefined;
      const done = work();
      const over = () => {
        if (!turn.next) this.#turns.delete(name);
      };
      turn.running = done.then(over, over);
      return done;
    });
    return turn.next;
  }
}

/**
 * Equal questions in one turn of the event loop share one answer, as when thousands come back at once. The answer is
 * never too old: what completes in a turn was asked for before it.
 */
export class SharedReads {
  #reads = new Map<string, Promise<unknown>>();

  once<T>(name: string, read: () => Promise<T>): Promise<T> {
    const asked = this.#reads.get(name) as Promise<T> | undefined;
    if (asked) return asked;
    const answer = read();
    // A Map that is cleared keeps what it held alive as long as its next contents: see docs/decisions.md.
    if (this.#reads.size === 0) setImmediate(() => (this.#reads = new Map()));
    this.#reads.set(name, answer);
    return answer;
  }
}
