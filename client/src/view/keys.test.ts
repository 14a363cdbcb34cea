import { afterEach, expect, test, vi } from "vitest";

afterEach(() => vi.unstubAllGlobals());

/** The keys as they are on this system. */
async function keysOn(userAgent: string) {
  vi.stubGlobal("navigator", { userAgent });
  vi.resetModules();
  return import("./keys.ts");
}

function pressed(key: string, held = "", code = "") {
  return {
    key,
    code,
    keyCode: 0,
    isComposing: false,
    ctrlKey: held.includes("Ctrl"),
    metaKey: held.includes("Meta"),
    altKey: held.includes("Alt"),
  };
}

test("a command is Ctrl with a letter, on a Mac only ⌘, where Ctrl moves the caret", async () => {
  const { isCommand } = await keysOn("X11; Linux");
  expect(isCommand(pressed("k", "Ctrl"), "k")).toBe(true);
  expect(isCommand(pressed("K", "Ctrl"), "k")).toBe(true);
  expect(isCommand(pressed("k", "Ctrl Alt"), "k")).toBe(false);
  expect(isCommand(pressed("k"), "k")).toBe(false);
  const mac = await keysOn("Macintosh");
  expect(mac.isCommand(pressed("k", "Ctrl"), "k")).toBe(false);
  expect(mac.isCommand(pressed("k", "Meta"), "k")).toBe(true);
  expect(mac.isCommand(pressed("k", "Ctrl Meta"), "k")).toBe(false);
});

test("a letter of another alphabet is a command by its place, a Latin one only by what it types", async () => {
  const { isCommand } = await keysOn("X11; Linux");
  const at = (key: string, code: string) => pressed(key, "Ctrl", code);
  expect(isCommand(at("\u044f", "KeyZ"), "z")).toBe(true);
  expect(isCommand(at("\u044f", "KeyK"), "z")).toBe(false);
  // Dvorak.
  expect(isCommand(at("t", "KeyK"), "k")).toBe(false);
  expect(isCommand(at(";", "KeyZ"), "z")).toBe(false);
  expect(isCommand(at("k", "KeyV"), "k")).toBe(true);
});

test("every key that types a text begins one, and no key with a name", async () => {
  const { isTyping } = await keysOn("X11; Linux");
  for (const key of ["a", "A", "7", "?", "\u00e9", "\u0e01", "\u{1f600}", "\u0644\u0627", "Dead"])
    expect([key, isTyping(pressed(key))]).toEqual([key, true]);
  for (const key of ["Enter", "F1", "F12", "ArrowUp", "AltGraph", "Unidentified", " "])
    expect([key, isTyping(pressed(key))]).toEqual([key, false]);
  expect(isTyping(pressed("v", "Ctrl"))).toBe(true);
  expect(isTyping(pressed("c", "Ctrl"))).toBe(false);
  // Alt Graph.
  expect(isTyping(pressed("@", "Ctrl Alt"))).toBe(true);
});
