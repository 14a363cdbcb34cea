import { expect, it } from "vitest";
import { afterAgain, countReport, roundsOf } from "./test.ts";

it("counts a file that could not be loaded and an unexplained exit as failures, and names what failed", () => {
  const passed = { status: "passed", fullName: "is fine", failureMessages: [] };
  const failed = { status: "failed", fullName: "is not", failureMessages: ["Error: 1 is 2\n    at line 1"] };
  const file = { status: "passed", name: "a.test.ts", message: "", assertionResults: [passed, passed] };
  const unloaded = { status: "failed", name: "b.test.ts", message: "no such module", assertionResults: [] };
  const report = { numPassedTests: 2, testResults: [file] };
  const outside = ["an error outside of any test"];
  expect(countReport(report, 0)).toEqual({ passed: 2, failed: 0, names: [], flaky: [] });
  expect(countReport({ ...report, testResults: [file, unloaded] }, 1)).toEqual({
    passed: 2,
    failed: 1,
    names: ["b.test.ts: no such module"],
    flaky: [],
  });
  const mixed = { ...file, status: "failed", assertionResults: [passed, failed, failed] };
  const twice = ["is not: Error: 1 is 2", "is not: Error: 1 is 2"];
  expect(countReport({ ...report, testResults: [mixed] }, 1)).toEqual({
    passed: 2,
    failed: 2,
    names: twice,
    flaky: [],
  });
  expect(countReport(report, 1)).toEqual({ passed: 2, failed: 1, names: outside, flaky: [] });
  expect(countReport(undefined, 1)).toEqual({ passed: 0, failed: 1, names: outside, flaky: [] });
});

it("reports a test that failed once and then passed as flaky, and one that failed twice as failed", () => {
  const first = { passed: 8, failed: 2, names: ["one: Error: late", "two: Error: wrong"], flaky: [] };
  const second = { passed: 3, failed: 1, names: ["two: Error: wrong again"], flaky: [] };
  expect(afterAgain(first, second)).toEqual({
    passed: 9,
    failed: 1,
    names: ["two: Error: wrong again"],
    flaky: ["one: Error: late"],
  });
});

it("runs a stage that may run beside others with those before it, and any other once they have ended", () => {
  const alone = {};
  const host = {};
  const guest = { beside: true } as const;
  expect(roundsOf([alone, host, guest, guest, alone])).toEqual([[alone], [host, guest, guest], [alone]]);
  expect(roundsOf([guest, alone])).toEqual([[guest], [alone]]);
  expect(roundsOf([])).toEqual([]);
});
