import { performance } from "node:perf_hooks";
import { describe, expect, it } from "vitest";
import { BOUNDS } from "../limits.ts";
import { Turns } from "./turns.ts";

const turnOfTheLoop = () => new Promise((resolve) => setImmediate(resolve));

/** Keeps the loop busy until `over`: there is always a next turn, and work in each of them. */
async function keepBusy(over: () => boolean): Promise<void> {
  while (!over()) {
    const end = performance.now() + 1;
    while (performance.now() < end);
    await turnOfTheLoop();
  }
}

/** Asks `times` times for `who`; each beginning puts its name into the list. */
function ask(turns: Turns, who: string, times: number, list: string[]): void {
  for (let count = 0; count < times; count += 1) {
    const turn = turns.take("event", who);
    if (turn) void turn.then(() => list.push(`${who}${count}`));
    else list.push(`${who}${count}`);
  }
}

const FREELY = BOUNDS.freely.value;

describe("what clients ask for", () => {
  it("begins at once where nothing else does", () => {
    expect(new Turns().take("event", "a")).toBeUndefined();
    expect(new Turns().take("request", "a")).toBeUndefined();
  });

  it("begins a few at a time, however much one client sends in one turn of the loop", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    ask(turns, "a", FREELY, begun);
    for (let seen = begun.length; begun.length < FREELY; seen = begun.length) {
      expect(begun.length - seen).toBeLessThanOrEqual(BOUNDS.turn.value);
      await turnOfTheLoop();
    }
  });

  it("begins in its client's order, also where it came to wait for an idle loop", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    const times = FREELY * 4;
    ask(turns, "a", times, begun);
    while (begun.length < times) await turnOfTheLoop();
    expect(begun).toEqual(Array.from({ length: times }, (_, count) => `a${count}`));
    expect(turns.waiting("a")).toBe(0);
  });

  it("waits for a turn of each other client, not for all that these have asked for", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    for (const who of ["a", "b", "c"]) ask(turns, who, FREELY, begun);
    ask(turns, "d", 1, begun);
    const before = begun.length;
    while (!begun.includes("d0")) await turnOfTheLoop();
    expect(begun.length - before).toBeLessThanOrEqual(4 * BOUNDS.turn.value);
  });

  it("goes on while the loop is busy, slowly for who asks for too much, at once for all others", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    ask(turns, "a", FREELY, begun);
    while (begun.length < FREELY) await turnOfTheLoop();
    const since = performance.now();
    ask(turns, "a", 20, begun);
    await keepBusy(() => begun.length >= FREELY + 3);
    ask(turns, "b", 1, begun);
    await turnOfTheLoop();
    await turnOfTheLoop();
    expect(begun).toContain("b0");
    const late = begun.length - FREELY - 1;
    expect(late).toBeLessThanOrEqual(1 + (performance.now() - since) / BOUNDS.lateWait.value);
    await keepBusy(() => begun.length === FREELY + 21);
  });

  it("is a handshake only while the loop has time for it", async () => {
    const turns = new Turns();
    let begun = 0;
    await keepBusy(() => performance.eventLoopUtilization().active > 20);
    const since = performance.now();
    for (let count = 0; count < 5; count += 1)
      void (turns.take("handshake", `a${count}`) ?? Promise.resolve()).then(() => (begun += 1));
    await keepBusy(() => begun === 5);
    expect(performance.now() - since).toBeGreaterThan(3 * BOUNDS.lateWait.value);
  });
});
