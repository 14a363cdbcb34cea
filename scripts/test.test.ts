import { expect, it } from "vitest";
import { countReport } from "./test.ts";

it("counts a file that could not be loaded, and an end that no test explains, and names what failed", () => {
  const passed = { status: "passed", fullName: "is fine", failureMessages: [] };
  const failed = { status: "failed", fullName: "is not", failureMessages: ["Error: 1 is 2\n    at line 1"] };
  const file = { status: "passed", name: "a.test.ts", message: "", assertionResults: [passed, passed] };
  const unloaded = { status: "failed", name: "b.test.ts", message: "no such module", assertionResults: [] };
  const report = { numPassedTests: 2, testResults: [file] };
  const outside = ["an error outside of any test"];
  expect(countReport(report, 0)).toEqual({ passed: 2, failed: 0, names: [] });
  expect(countReport({ ...report, testResults: [file, unloaded] }, 1)).toEqual({
    passed: 2,
    failed: 1,
    names: ["b.test.ts: no such module"],
  });
  const mixed = { ...file, status: "failed", assertionResults: [passed, failed, failed] };
  const twice = ["is not: Error: 1 is 2", "is not: Error: 1 is 2"];
  expect(countReport({ ...report, testResults: [mixed] }, 1)).toEqual({ passed: 2, failed: 2, names: twice });
  expect(countReport(report, 1)).toEqual({ passed: 2, failed: 1, names: outside });
  expect(countReport(undefined, 1)).toEqual({ passed: 0, failed: 1, names: outside });
});
