import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

const folder = process.env["TEST_SERVER"] ?? "";
const files = readdirSync(folder).filter((name) => name.endsWith(".js"));

it("the server's bundle has no character above U+00FF: V8 would keep each of its characters in two bytes", () => {
  expect(files).toContain("main.js");
  // In strings esbuild escapes them, in regular expressions it does not.
  // oxlint-disable-next-line no-control-regex -- all characters of one byte
  const wide = /[^\u0000-\u00FF]/gu;
  const found = files.flatMap((name) => readFileSync(join(folder, name), "utf8").match(wide) ?? []);
  expect(found).toEqual([]);
});

it("the server's bundle has regular expressions as they were written: `new RegExp` would compile them at each use", () => {
  const made = files.flatMap(
    (name) => readFileSync(join(folder, name), "utf8").match(/new RegExp\("/g) ?? [],
  );
  expect(made).toEqual([]);
});
