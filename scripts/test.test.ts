import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { root } from "./prepare.mjs";
import { countReport, missingOptionals } from "./test.ts";

it("finds a platform's package that the lock names and lacks", () => {
  const packages = {
    "": {},
    "node_modules/fast": { optionalDependencies: { "@fast/linux": "1.0.0", "@fast/mac": "1.0.0" } },
    "node_modules/@fast/linux": {},
  };
  expect(missingOptionals({ packages })).toEqual(["@fast/mac, which node_modules/fast names"]);
  const nested = { ...packages, "node_modules/fast/node_modules/@fast/mac": {} };
  expect(missingOptionals({ packages: nested })).toEqual([]);
  expect(missingOptionals(JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")))).toEqual([]);
});

it("counts a file that could not be loaded, and an end that no test explains", () => {
  const test = { status: "passed" };
  const loaded = { status: "passed", assertionResults: [test, test] };
  const unloaded = { status: "failed", assertionResults: [] };
  const report = { numPassedTests: 2, numFailedTests: 0, testResults: [loaded] };
  expect(countReport(report, 0)).toEqual({ passed: 2, failed: 0 });
  expect(countReport({ ...report, testResults: [loaded, unloaded] }, 1)).toEqual({ passed: 2, failed: 1 });
  expect(countReport({ ...report, numFailedTests: 3 }, 1)).toEqual({ passed: 2, failed: 3 });
  expect(countReport(report, 1)).toEqual({ passed: 2, failed: 1 });
  expect(countReport(undefined, 1)).toEqual({ passed: 0, failed: 1 });
});
