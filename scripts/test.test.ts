import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { root } from "./prepare.mjs";
import { countReport, missingOptionals, unfitEngines, unhoisted } from "./test.ts";

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

it("finds a locked package that refuses a Node that we promise, and one that the image would lack", () => {
  const packages = {
    "": { engines: { node: "^20.19 || >=22.12" } },
    "node_modules/new": { engines: { node: ">=22.12.0" } },
    "node_modules/old": { engines: { node: ">=10" } },
    "node_modules/any": {},
    "node_modules/@some/wasm": { engines: { node: "^20.19.0 || ^22.13.0" }, optional: true },
    "server/node_modules/@types/node": { dev: true },
    "server/node_modules/nested": {},
  };
  expect(unfitEngines({ packages })).toEqual(["node_modules/new refuses Node 20.19.0: it wants >=22.12.0"]);
  expect(unhoisted({ packages })).toEqual(["server/node_modules/nested is not in the root's node_modules"]);
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  expect(unfitEngines(lock)).toEqual([]);
  expect(unhoisted(lock)).toEqual([]);
});

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
