import { afterEach, expect, test, vi } from "vitest";
import { keepSetting, readSetting } from "./settings.ts";

afterEach(() => vi.unstubAllGlobals());

function fail(): never {
  throw new Error("The storage is full");
}

test.each([
  ["there is no storage", null],
  ["the storage is full", { getItem: () => "an older one", setItem: fail }],
])("a setting is kept as long as the page if %s", (_, localStorage) => {
  vi.stubGlobal("localStorage", localStorage);
  keepSetting("theme", "dark");
  expect(readSetting("theme")).toBe("dark");
});

test("a setting is null if the storage cannot be used", () => {
  vi.stubGlobal("localStorage", { getItem: fail });
  expect(readSetting("notifications")).toBe(null);
});
