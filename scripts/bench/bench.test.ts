import { describe, expect, it } from "vitest";
import { findMark, idAt, Ledger, markedText, reconcile, timeAt } from "./marks.ts";
import type { LoadResult } from "./generator.ts";
import { judge, load, stage, type Run } from "./run.ts";
import { figuresOf, LOAD, tablesOf } from "./tables.ts";
import { order } from "./workloads.ts";

describe("a system's job", () => {
  const town = { roomIds: ["1", "2"], members: [0, 0, 0, 1, 1].map((room) => ({ rooms: [room] })) };
  it.each(["hubbub", "ws", "socket.io"] as const)(
    "is done by %s, to the last message",
    { timeout: 120_000 },
    async (name) => {
      const at = await stage({ system: name, name }, { town });
      try {
        const loaded = await load(at, order(50, { warmSeconds: 1, warmRate: 50, measureSeconds: 1 }));
        // 50 messages into a room of three and 50 into one of two.
        const account = { expected: 250, received: 250, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };
        expect(loaded).toMatchObject({ sent: 100, refused: 0, unanswered: 0, reconciliation: account });
        expect(loaded.answered).toBe(100);
        const { redis } = at.system;
        expect([await redis?.zcard("room:1"), await redis?.zcard("room:2")]).toEqual([50, 50]);
        expect(await redis?.scard("online_users")).toBe(5);
      } finally {
        await at.stop();
      }
    },
  );
});

it("a message's number and time are found in whatever a server made of it", () => {
  const told = Buffer.from(`42["message",{"message":"${markedText(1234567, 9876543210123)}","seq":1}]`);
  const at = findMark(told, 0, told.length);
  expect([idAt(told, at), timeAt(told, at)]).toEqual([1234567, 9876543210123]);
  expect(findMark(Buffer.from('42["user.connected",[]]'), 0, 23)).toBe(-1);
});

describe("the account", () => {
  const sent = [0, 1, 0, 1, 0, 0];
  /** Two members of room 0 and one of both, who heard everything, but for `change`. */
  function account(change: (heard: number[][]) => void) {
    const rooms = [[0], [0], [0, 1]];
    const heard = [
      [0, 2, 4, 5],
      [0, 2, 4, 5],
      [0, 1, 2, 3, 4, 5],
    ];
    change(heard);
    const members = rooms.map((theirs, index) => {
      const ledger = new Ledger(sent.length);
      for (const id of heard[index] ?? []) ledger.add(id);
      return { rooms: theirs, ledger };
    });
    return reconcile(members, sent);
  }
  const clean = { expected: 14, received: 14, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };

  it("balances where everybody heard everything once and in one order", () => {
    expect(account(() => undefined)).toEqual(clean);
  });
  it("shows a loss", () => {
    expect(account((heard) => heard[1]?.splice(1, 1))).toEqual({ ...clean, received: 13, lost: 1 });
  });
  it("shows a duplicate", () => {
    expect(account((heard) => heard[0]?.push(2))).toEqual({ ...clean, duplicated: 1 });
  });
  it("shows two orders of one room", () => {
    expect(account((heard) => (heard[0] = [5, 4, 2, 0]))).toEqual({ ...clean, disordered: 1 });
  });
  it("shows a message that was not theirs, and one that nobody sent", () => {
    expect(account((heard) => heard[0]?.push(1))).toMatchObject({ lost: 0, unknown: 1 });
    expect(account((heard) => heard[0]?.push(99))).toMatchObject({ lost: 0, unknown: 1 });
  });
});

describe("a load", () => {
  const clean = { expected: 100, received: 100, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };
  const loaded = (more: object) =>
    ({
      deliveries: 100,
      offered: 100,
      refused: 0,
      unanswered: 0,
      busy: 0.8,
      latenessMs: { p99: 50 },
      reconciliation: clean,
      ...more,
    }) as LoadResult;

  it.each([
    ["is ok up to the generator's limits", {}, "ok", []],
    [
      "is refused where hardly anything arrived in time",
      { offered: 10_000 },
      "refused",
      ["only 1.0 % arrived in the measured time, the rest later"],
    ],
    [
      "is refused where the generator was above its limit",
      { busy: 0.9 },
      "refused",
      ["the generator used 90 % of its core"],
    ],
    [
      "is refused where the generator was late",
      { latenessMs: { p99: 51 } },
      "refused",
      ["the generator was 51 ms late (p99)"],
    ],
    [
      "is failed where messages were lost or not answered, whatever else it was",
      { busy: 0.9, unanswered: 2, reconciliation: { ...clean, lost: 1 } },
      "failed",
      ["1 lost", "2 unanswered"],
    ],
  ])("%s", (_claim, more, verdict, reasons) => {
    expect(judge(loaded(more))).toEqual({ verdict, reasons });
  });
});

describe("the tables", () => {
  const host = { cpu: "any", cores: 2, memory: 2 ** 33, kernel: "6", node: "20" };
  function run(system: string, cpuUs: number, more: Partial<Run> = {}): Run {
    const figures = {
      "CPU µs a delivery": { value: cpuUs },
      "% in time": { value: 100, more: true as const },
    };
    const told = { verdict: "ok" as const, reasons: [], at: "", commit: "abc", host, result: null };
    return { workload: "hot", system, options: { rate: 400 }, figures, ...told, ...more };
  }

  it("tell least, median and most of the runs that count, and why one was refused", () => {
    const reasons = ["the generator used 97 % of its core"];
    const told = tablesOf([
      run("hubbub", 2),
      run("hubbub", 3),
      run("hubbub", 2.5),
      run("nchan", 1, { verdict: "refused", reasons }),
      run("ws", 9, { verdict: "failed", reasons: ["3 lost"] }),
    ]).split("\n");
    expect(told).toContain("| rate | system | CPU µs a delivery | % in time | runs |");
    expect(told).toContain("| 400 | hubbub | 2.00 / **2.50** / 3.00 | 100 / **100** / 100 | 3 of 3 ok |");
    expect(told).toContain(`| 400 | nchan | — | — | 0 of 1 ok; refused: ${reasons[0]} |`);
    expect(told).toContain("| 400 | ws | 9.00 | 100 | 0 of 1 ok; failed: 3 lost |");
    expect(told.join()).not.toContain("beside");
  });
  it("compare two builds by their medians, and say which figures are worse by more than 5 %", () => {
    const pair = (old: number, now: number, share: number) => [
      run("old", old),
      run("hubbub", now, {
        beside: "old",
        figures: { "CPU µs a delivery": { value: now }, "% in time": { value: share, more: true } },
      }),
    ];
    const rows = (runs: Run[]) => tablesOf(runs).split("\n").slice(-2);
    expect(rows(pair(2, 2.08, 98))).toEqual([
      "| 400 | CPU µs a delivery | 2.00 | 2.08 | 1.04 |",
      "| 400 | % in time | 100 | 98.0 | 0.98 |",
    ]);
    expect(rows(pair(2, 2.2, 50))).toEqual([
      "| 400 | CPU µs a delivery | 2.00 | 2.20 | 1.10 **worse** |",
      "| 400 | % in time | 100 | 50.0 | 0.50 **worse** |",
    ]);
  });
  it("have a dash where nothing was measured", () => {
    const nothing = { cpuUsAll: Number.NaN, cpuUs: {}, latencyMs: null, deliveries: 0, offered: 0 };
    const figures = figuresOf(LOAD, nothing as unknown as LoadResult);
    expect(tablesOf([run("hubbub", 0, { figures })])).toContain(
      "| 400 | hubbub | — | — | — | — | — | 1 of 1 ok |",
    );
  });
});
