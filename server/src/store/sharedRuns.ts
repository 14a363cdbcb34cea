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
