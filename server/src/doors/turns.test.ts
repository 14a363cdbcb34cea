import { performance } from "node:perf_hooks";
import { describe, expect, it } from "vitest";
import { BOUNDS } from "../limits.ts";
import { Turns } from "./turns.ts";

const turnOfTheLoop = () => new Promise((resolve) => setImmediate(resolve));

/** Keeps the event loop busy until `over`: each turn has work and is followed by another. */
async function keepBusy(over: () => boolean): Promise<void> {
  while (!over()) {
    const end = performance.now() + 1;
    while (performance.now() < end);
    await turnOfTheLoop();
  }
}

/** Takes `times` turns for `who`; each adds its name to the list when it begins. */
function ask(turns: Turns, who: string, times: number, list: string[]): void {
  for (let count = 0; count < times; count += 1) {
    const turn = turns.take("event", who);
    if (turn) void turn.then(() => list.push(`${who}${count}`));
    else list.push(`${who}${count}`);
  }
}

const FREELY = BOUNDS.freely.value;

describe("a client's request", () => {
  it("begins at once if nothing else is running", () => {
    expect(new Turns().take("event", "a")).toBeUndefined();
    expect(new Turns().take("request", "a")).toBeUndefined();
  });

  it("begins with only a few others in one turn of the event loop, however many one client sends", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    ask(turns, "a", FREELY, begun);
    for (let seen = begun.length; begun.length < FREELY; seen = begun.length) {
      expect(begun.length - seen).toBeLessThanOrEqual(BOUNDS.turn.value);
      await turnOfTheLoop();
    }
  });

  it("begins in its client's order, also if it had to wait for an idle event loop", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    const times = FREELY * 4;
    ask(turns, "a", times, begun);
    while (begun.length < times) await turnOfTheLoop();
    expect(begun).toEqual(Array.from({ length: times }, (_, count) => `a${count}`));
    expect(turns.waiting("a")).toBe(0);
  });

  it("waits for one turn of each other client, not for all of their requests", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    for (const who of ["a", "b", "c"]) ask(turns, who, FREELY, begun);
    ask(turns, "d", 1, begun);
    const before = begun.length;
    while (!begun.includes("d0")) await turnOfTheLoop();
    expect(begun.length - before).toBeLessThanOrEqual(4 * BOUNDS.turn.value);
  });

  it("still begins while the loop is busy: slowly for clients over their share, at once for others", async () => {
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
    expect(late).toBeLessThanOrEqual(1 + (performance.now() - since) / BOUNDS.overWait.value);
    await keepBusy(() => begun.length === FREELY + 21);
  });

  it.each([
    ["is a handshake", "handshake", BOUNDS.handshakeWait],
    ["brings a long body", "body", BOUNDS.overWait],
  ] as const)("begins, if it %s, only while the loop has time", async (_it, kind, wait) => {
    const turns = new Turns();
    let begun = 0;
    await keepBusy(() => performance.eventLoopUtilization().active > 20);
    const since = performance.now();
    for (let count = 0; count < 5; count += 1)
      void (turns.take(kind, `a${count}`) ?? Promise.resolve()).then(() => (begun += 1));
    await keepBusy(() => begun === 5);
    expect(performance.now() - since).toBeGreaterThan(3 * wait.value);
  });

  it("begins, if it is a handshake, before requests of those over their share", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    ask(turns, "a", FREELY, begun);
    while (begun.length < FREELY) await turnOfTheLoop();
    await keepBusy(() => performance.eventLoopUtilization().active > 20);
    const since = performance.now();
    ask(turns, "a", 20, begun);
    for (let count = 0; count < 10; count += 1)
      void (turns.take("handshake", `h${count}`) ?? Promise.resolve()).then(() => begun.push("handshake"));
    await keepBusy(() => begun.filter((one) => one === "handshake").length === 10);
    const late = begun.length - FREELY - 10;
    expect(late).toBeLessThanOrEqual(1 + (performance.now() - since) / BOUNDS.overWait.value);
    await keepBusy(() => begun.length === FREELY + 30);
  });

  it("begins after one of each other kind, however many of these wait and however long each turn is", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    ask(turns, "a", FREELY, begun);
    while (begun.length < FREELY) await turnOfTheLoop();
    const end = begun.length + 90;
    const long = async (kind: "event" | "handshake", who: string) => {
      await turns.take(kind, who);
      const over = performance.now() + BOUNDS.overWait.value + 1;
      while (performance.now() < over);
      begun.push(kind);
    };
    for (let count = 0; count < 40; count += 1) void long("event", `e${count}`);
    for (let count = 0; count < 40; count += 1) void long("handshake", `h${count}`);
    ask(turns, "a", 10, begun);
    while (begun.length < end) await turnOfTheLoop();
    const first = begun.slice(FREELY, FREELY + 45);
    for (const one of ["event", "handshake"])
      expect(first.filter((two) => two === one).length).toBeGreaterThan(9);
    expect(first).toContain("a9");
  });

  it("begins in its client's order, also if only the later ones are over the share", async () => {
    const turns = new Turns();
    const begun: string[] = [];
    for (let count = 0; count < 100; count += 1) ask(turns, `b${count}`, 1, []);
    ask(turns, "a", FREELY + 5, begun);
    await keepBusy(() => begun.length === FREELY + 5);
    expect(begun).toEqual(Array.from({ length: FREELY + 5 }, (_, count) => `a${count}`));
  });
});
