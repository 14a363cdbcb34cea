import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { root } from "../prepare.mjs";
import { FAULTS, withFaults } from "./faults.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";

const source = join(root, "server/src");

describe("a fault of the server", () => {
  it("has a unique name and an existing scenario", () => {
    expect(new Set(FAULTS.map(({ name }) => name)).size).toBe(FAULTS.length);
    const scenarios = SCENARIOS.map(({ name }) => name);
    expect(FAULTS.filter(({ scenario }) => !scenarios.includes(scenario))).toEqual([]);
  });

  it("fits the types of its place in the server", { timeout: 120_000 }, () => {
    mkdirSync(join(root, "server/.cache"), { recursive: true });
    // Near the server's packages.
    const folder = mkdtempSync(join(root, "server/.cache/faults-"));
    try {
      cpSync(source, join(folder, "src"), {
        recursive: true,
        filter: (file) => !/\.test\.ts$|testing\.ts$/.test(file),
      });
      for (const [file, text] of withFaults(source))
        writeFileSync(join(folder, "src", relative(source, file)), text);
      const config = { extends: "../../tsconfig.json", include: ["src"] };
      writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
      const tsc = join(root, "node_modules/.bin/tsc");
      const { stdout } = spawnSync(tsc, ["-p", folder, "--noEmit"], { encoding: "utf8" });
      expect(stdout).toBe("");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("is inserted by name only, before a body or in place of a value, and is off by default", () => {
    const folder = mkdtempSync(join(tmpdir(), "hubbub-faults-"));
    try {
      const lines = [
        "export class Room { #open(door: number) { const wide = door > 1; return wide; } }",
        "const LIMIT = 5;",
        "export const rules = () => ({ most: () => LIMIT });",
        "class Shed { #open() {} }",
      ];
      writeFileSync(join(folder, "room.ts"), lines.join("\n"));
      const put = (instead: Record<string, string>) => {
        const fault = { name: "x", remedy: "", scenario: "", instead };
        return withFaults(folder, [fault]).get(join(folder, "room.ts"))?.split("\n");
      };
      const on = 'process.env["HUBBUB_PROVE_FAULT"] === "x"';
      expect(put({ "Room.#open": "return true;" })?.[0]).toContain(
        `(door: number) { if (${on}) { return true; } const`,
      );
      expect(put({ "Room.#open.wide": "true" })?.[0]).toContain(`const wide = (${on} ? true : (door > 1));`);
      expect(put({ LIMIT: "6" })?.[1]).toBe(`const LIMIT = (${on} ? 6 : (5));`);
      expect(put({ "rules.most": "7" })?.[2]).toContain(`most: () => (${on} ? 7 : (LIMIT)) })`);
      expect(() => put({ "Room.#close": "" })).toThrow("0 times Room.#close");
      expect(() => put({ "#open": "" })).toThrow("2 times #open");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
