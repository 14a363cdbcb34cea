import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createDrafts, type Drafts, type Slot } from "./drafts.ts";
import type { DraftStore } from "./world.ts";

/** One browser's storage. Other tabs hear of a change when `deliver` is called, because events are late. */
function createBrowser() {
  const kept = new Map<string, string>();
  const room = { full: false };
  const tabs = new Set<(key: string) => void>();
  let late: (() => void)[] = [];
  return {
    kept,
    room,
    deliver() {
      for (const tell of late) tell();
      late = [];
    },
    open(): DraftStore {
      let own: ((key: string) => void) | undefined;
      const told = (key: string) => {
        for (const tab of tabs) if (tab !== own) late.push(() => tabs.has(tab) && tab(key));
      };
      return {
        keys: () => [...kept.keys()],
        get: (key) => kept.get(key) ?? null,
        set(key, value) {
          if (room.full) throw new Error("full");
          kept.set(key, value);
          told(key);
        },
        remove(key) {
          if (kept.delete(key)) told(key);
        },
        watch(changed) {
          own = changed;
          tabs.add(changed);
          return () => tabs.delete(changed);
        },
      };
    },
  };
}

function createTab(browser: ReturnType<typeof createBrowser>, userId = "1") {
  const shown = new Map<Slot, string>();
  const drafts: Drafts = createDrafts(userId, browser.open(), (slot, text) => shown.set(slot, text));
  for (const [slot, text] of drafts.texts()) shown.set(slot, text);
  return { drafts, shown };
}

describe("drafts", () => {
  test("all tabs of a browser show the same text, also a new one", () => {
    const browser = createBrowser();
    const [one, other] = [createTab(browser), createTab(browser)];
    one.drafts.write("0", "half a thought");
    browser.deliver();
    expect(other.shown.get("0")).toBe("half a thought");
    other.drafts.write("0", "");
    browser.deliver();
    expect(one.shown.get("0")).toBe("");
    expect(createTab(browser).shown.get("0")).toBeUndefined();
  });

  test("a tab does not remove another tab's text that it has not heard of", () => {
    const browser = createBrowser();
    const [one, other] = [createTab(browser), createTab(browser)];
    other.drafts.write("0", "mine");
    browser.deliver();
    one.drafts.write("0", "mine and more");
    other.drafts.write("0", "");
    expect(other.shown.get("0")).toBe("mine and more");
    browser.deliver();
    expect(createTab(browser).shown.get("0")).toBe("mine and more");
  });

  test("two tabs send the same version under one nonce, and each version has its own", () => {
    const browser = createBrowser();
    const [one, other] = [createTab(browser), createTab(browser)];
    one.drafts.write("0", "send me");
    browser.deliver();
    const first = one.drafts.read("0");
    one.drafts.take("0");
    expect(other.drafts.read("0")).toEqual(first);
    other.drafts.write("0", "send me too");
    expect(other.drafts.read("0")?.nonce).not.toBe(first?.nonce);
  });

  test("a page that slept finds the changes of other tabs", () => {
    const browser = createBrowser();
    const [one, other] = [createTab(browser), createTab(browser)];
    one.drafts.write("0", "before");
    browser.deliver();
    other.drafts.take("0");
    other.drafts.write("17", "after");
    one.drafts.refresh();
    expect([one.shown.get("0"), one.shown.get("17")]).toEqual(["", "after"]);
  });

  test("drafts of an earlier version of the client are found, sent and removed", () => {
    const browser = createBrowser();
    browser.kept.set("hubbub draft 1 0", "bare text");
    const { drafts, shown } = createTab(browser);
    expect(shown.get("0")).toBe("bare text");
    drafts.take("0");
    expect([...browser.kept]).toEqual([]);
  });

  test("without storage a draft lives as long as its page", () => {
    const browser = createBrowser();
    browser.room.full = true;
    const { drafts } = createTab(browser);
    drafts.write("0", "kept here");
    drafts.refresh();
    expect(drafts.texts().get("0")).toBe("kept here");
  });

  test("an older version never comes back for a text that did not fit into storage", () => {
    const browser = createBrowser();
    const { drafts, shown } = createTab(browser);
    drafts.write("0", "half a thought");
    browser.room.full = true;
    drafts.write("0", "half a thought and more");
    drafts.refresh();
    expect(shown.get("0")).toBe("half a thought and more");
    drafts.take("0");
    expect([shown.get("0"), ...browser.kept]).toEqual([""]);
  });

  test("late news of another tab does not take away a text that did not fit into storage", () => {
    const browser = createBrowser();
    const [one, other] = [createTab(browser), createTab(browser)];
    other.drafts.write("0", "heard late");
    browser.room.full = true;
    one.drafts.write("0", "typed last");
    browser.deliver();
    expect(one.shown.get("0")).toBe("typed last");
  });

  test("a log-out removes the user's drafts in all tabs, and nobody else's", () => {
    const browser = createBrowser();
    const [one, other, somebody] = [createTab(browser), createTab(browser), createTab(browser, "2")];
    somebody.drafts.write("0", "theirs");
    one.drafts.write("0", "a");
    other.drafts.write("edit 0a", "b");
    one.drafts.clear();
    one.drafts.write("0", "late");
    browser.deliver();
    expect([...browser.kept.keys()]).toEqual(["hubbub draft 2 0"]);
    expect([...other.drafts.texts()]).toEqual([]);
  });
});

const SLOTS = ["0", "17", "edit 0a"] as const;
const step = fc.record({
  tab: fc.nat(1),
  slot: fc.constantFrom(...SLOTS),
  does: fc.constantFrom("write", "more", "empty", "send", "reload", "sleep", "deliver", "deliver", "log out"),
});

test("whatever two tabs do, the last typed text is kept or sent once, and all tabs end up showing the same", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const browser = createBrowser();
      const tabs = [createTab(browser), createTab(browser)];
      const sent = new Map<string, string>();
      let typed = 0;
      for (const { tab: at, slot, does } of steps) {
        const tab = tabs[at] as ReturnType<typeof createTab>;
        const before = browser.kept.get(`hubbub draft 1 ${slot}`);
        const own = tab.drafts.read(slot);
        switch (does) {
          case "write":
          case "more":
            tab.drafts.write(slot, `${does === "more" ? (own?.text ?? "") : ""}${typed++};`);
            expect(browser.kept.get(`hubbub draft 1 ${slot}`)).toContain(tab.shown.get(slot));
            break;
          case "empty":
          case "send":
            if (own !== null && does === "send") {
              // The same text under two nonces would be stored twice.
              expect([...sent].filter(([nonce, text]) => text === own.text && nonce !== own.nonce)).toEqual(
                [],
              );
              sent.set(own.nonce, own.text);
            }
            if (does === "send") tab.drafts.take(slot);
            else tab.drafts.write(slot, "");
            // Only a text that this tab has shown may disappear.
            if (before !== undefined && !before.endsWith(` ${own?.text}`)) {
              expect(browser.kept.get(`hubbub draft 1 ${slot}`)).toBe(before);
            }
            break;
          case "reload":
            tab.drafts.close();
            tabs[at] = createTab(browser);
            break;
          case "sleep":
            tab.drafts.refresh();
            break;
          case "deliver":
            browser.deliver();
            break;
          case "log out":
            for (const one of tabs) one.drafts.clear();
            expect([...browser.kept]).toEqual([]);
            browser.deliver();
            tabs.splice(0, 2, createTab(browser), createTab(browser));
            break;
          default:
            does satisfies never;
        }
      }
      browser.deliver();
      browser.deliver();
      for (const slot of SLOTS) {
        const stored = browser.kept.get(`hubbub draft 1 ${slot}`)?.slice(33) ?? "";
        for (const { drafts, shown } of tabs) {
          expect(drafts.texts().get(slot) ?? "").toBe(stored);
          expect(shown.get(slot) ?? "").toBe(stored);
        }
      }
    }),
    { numRuns: 500 },
  );
});
