import { describe, expect, it } from "vitest";
import { findMark, idAt, Ledger, markedText, reconcile, timeAt } from "./marks.ts";
import type { LoadResult } from "./generator.ts";
import { judge, load, onStage, type Run } from "./run.ts";
import { figuresOf, LOAD, tablesOf } from "./tables.ts";
import { order } from "./workloads.ts";

describe("a run", () => {
  const town = { roomIds: ["1", "2"], members: [0, 0, 0, 1, 1].map((room) => ({ rooms: [room] })) };
  it.each(["hubbub", "ws", "socket.io"] as const)(
    "finds that %s stores, answers and delivers every message once",
    { timeout: 120_000 },
    async (name) => {
      await onStage({ system: name, name }, { town }, async (at) => {
        const loaded = await load(at, order(50, { warmSeconds: 1, warmRate: 50, measureSeconds: 1 }));
        // 50 messages to a room of three and 50 to a room of two.
        const account = { expected: 250, received: 250, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };
        expect(loaded).toMatchObject({ sent: 100, answered: 100, refused: 0, unanswered: 0 });
        expect(loaded.reconciliation).toEqual(account);
        const { redis } = at.system;
        expect([await redis?.zcard("room:1"), await redis?.zcard("room:2")]).toEqual([50, 50]);
        expect(await redis?.scard("online_users")).toBe(5);
      });
    },
  );
});

it("a message's number and time are found in any server's frame", () => {
  const told = Buffer.from(`42["message",{"message":"${markedText(1234567, 9876543210123)}","seq":1}]`);
  const at = findMark(told, 0, told.length);
  expect([idAt(told, at), timeAt(told, at)]).toEqual([1234567, 9876543210123]);
  expect(findMark(Buffer.from('42["user.connected",[]]'), 0, 23)).toBe(-1);
});

describe("the account of a load", () => {
  const sent = [0, 1, 0, 1, 0, 0];
  /** Two members of room 0 and one of both, who heard everything but for `change`. */
  function account(change: (heard: number[][]) => void) {
    const rooms = [[0], [0], [0, 1]];
    const heard = rooms.map((theirs) => [...sent.keys()].filter((id) => theirs.includes(sent[id] ?? -1)));
    change(heard);
    const members = rooms.map((theirs, index) => {
      const ledger = new Ledger(sent.length);
      for (const id of heard[index] ?? []) ledger.add(id);
      return { rooms: theirs, ledger };
    });
    return reconcile(members, sent);
  }
  const clean = { expected: 14, received: 14, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };

  it("has no fault if everybody heard everything once and in one order", () => {
    expect(account(() => undefined)).toEqual(clean);
  });
  it("counts a lost message", () => {
    expect(account((heard) => heard[1]?.splice(1, 1))).toEqual({ ...clean, received: 13, lost: 1 });
  });
  it("counts a duplicate", () => {
    expect(account((heard) => heard[0]?.push(2))).toEqual({ ...clean, duplicated: 1 });
  });
  it("counts a room that was heard in two orders", () => {
    expect(account((heard) => (heard[0] = [5, 4, 2, 0]))).toEqual({ ...clean, disordered: 1 });
  });
  it("counts a message of another room, and one that nobody sent, as unknown", () => {
    expect(account((heard) => heard[0]?.push(1))).toMatchObject({ lost: 0, unknown: 1 });
    expect(account((heard) => heard[0]?.push(99))).toMatchObject({ lost: 0, unknown: 1 });
  });
});

describe("the verdict on a load", () => {
  const reconciliation = { lost: 0, duplicated: 0, unknown: 0, disordered: 0 };
  const counts = { deliveries: 100, offered: 100, refused: 0, unanswered: 0 };
  const verdictOn = (more: object) =>
    judge({ ...counts, busy: 0.8, latenessMs: { p99: 50 }, reconciliation, ...more } as LoadResult);
  const refused = (...reasons: string[]) => ({ verdict: "refused", reasons });

  it("is ok up to the generator's limits", () => {
    expect(verdictOn({})).toEqual({ verdict: "ok", reasons: [] });
  });
  it("is refused if too little arrived in time, or if the generator was busy or late", () => {
    const few = "only 1.0 % arrived in the measured time, the rest later";
    expect(verdictOn({ offered: 10_000 })).toEqual(refused(few));
    expect(verdictOn({ busy: 0.9 })).toEqual(refused("the generator used 90 % of its core"));
    expect(verdictOn({ latenessMs: { p99: 51 } })).toEqual(refused("the generator was 51 ms late (p99)"));
  });
  it("is failed if messages were lost or not answered, even where it would be refused", () => {
    const lossy = { busy: 0.9, unanswered: 2, reconciliation: { ...reconciliation, lost: 1 } };
    expect(verdictOn(lossy)).toEqual({ verdict: "failed", reasons: ["1 lost", "2 unanswered"] });
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

  it("have least, median and most of the runs that count, and why one was refused or failed", () => {
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
  it("compare two builds by their medians, and mark figures that are worse by more than 5 %", () => {
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
  it("have a dash for a figure that was not measured", () => {
    const nothing = { cpuUsAll: Number.NaN, cpuUs: {}, latencyMs: null, deliveries: 0, offered: 0 };
    const figures = figuresOf(LOAD, nothing as unknown as LoadResult);
    expect(tablesOf([run("hubbub", 0, { figures })])).toContain(
      "| 400 | hubbub | — | — | — | — | — | 1 of 1 ok |",
    );
  });
});
