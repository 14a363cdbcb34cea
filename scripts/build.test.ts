import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

const folder = process.env["TEST_SERVER"] ?? "";
const files = readdirSync(folder).filter((name) => name.endsWith(".js"));
const bundle = files.map((name) => readFileSync(join(folder, name), "utf8")).join("\n");

it("the server's bundle has no character above U+00FF: V8 would keep each of its characters in two bytes", () => {
  expect(files).toContain("main.js");
  // In strings esbuild escapes them, in regular expressions it does not.
  // oxlint-disable-next-line no-control-regex -- all characters of one byte
  expect(bundle.match(/[^\u0000-\u00FF]/gu) ?? []).toEqual([]);
});

it("the server's bundle has regular expressions as they were written: `new RegExp` would compile them at each use", () => {
  expect(files).toContain("main.js");
  expect(bundle.match(/new RegExp\("/g) ?? []).toEqual([]);
});
