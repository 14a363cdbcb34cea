import { resolve } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  both,
  person,
  replicas,
  startWire,
  type House,
  type Person,
  type Wire,
} from "../../server/src/testing.ts";
import { programOf, startEngine, type Engine, type EngineName, type Profile, type Tab } from "./engines.ts";
import { eventually, PASSWORD } from "./stage.ts";

/** The main journeys, in each installed engine that starts. */

const ENGINES: EngineName[] = ["Chromium", "Firefox", "WebKit"];

for (const name of ENGINES) {
  if (programOf(name) === undefined) console.log(`${name} is not installed here: its journeys are skipped.`);
}

describe.each(ENGINES.filter((name) => programOf(name) !== undefined))("in %s", (name) => {
  let house: House;
  let engine: Engine;
  let starts = true;
  /** Ann's link to the first replica, and her browser. */
  let wire: Wire;
  let reached = true;
  let address: string;
  let ann: Profile;
  let talker: Person;

  beforeAll(async () => {
    house = await replicas(2, { CLIENT_DIR: resolve("client/dist") });
    const [first, second] = both(house);
    wire = await startWire(first.address, (chunk) => (reached ? chunk : null));
    address = wire.url.replace("redis:", "http:");
    talker = await person(second, "talker");
    for (let number = 0; number < 60; number += 1) {
      await talker.say("0", `old ${number} ${"word ".repeat((number * 7) % 50)}`.trim());
    }
    try {
      engine = await startEngine(name);
      ann = await engine.person();
    } catch (error) {
      if (name === "Chromium") throw error;
      starts = false;
      console.log(`${name} does not start here: its journeys are skipped. ${String(error)}`);
    }
  }, 120_000);

  beforeEach((context) => {
    reached = true;
    context.skip(!starts);
  });

  afterAll(async () => {
    talker?.close();
    await engine?.close();
    await wire?.close();
    await house?.close();
  });

  async function open(): Promise<Tab> {
    const tab = await ann.tab(address);
    await sees(tab, "textbox", "Message to General");
    await eventually(() => below(tab), 0);
    return tab;
  }

  test("a person signs up, and two people talk over two replicas", async () => {
    const one = await ann.tab(address);
    await signUp(one, "ann");
    const ben = await engine.person();
    const other = await ben.tab(both(house)[1].address);
    await signUp(other, "ben");
    await say(other, "Grüße, ann");
    await one.show();
    await eventually(() => last(one), ["Grüße, ann"]);
    await say(one, "Hello ben,");
    await say(one, "how are you?");
    await other.show();
    await eventually(() => last(other, 3), ["Grüße, ann", "Hello ben,", "how are you?"]);
    await click(other, "person", "ann");
    await sees(other, "textbox", "Message to ann");
    await say(other, "for you alone");
    await one.show();
    await eventually(() => one.run(() => document.title), "(1) General - Hubbub");
    await click(one, "room", "ben");
    await eventually(() => last(one), ["for you alone"]);
    await eventually(() => one.run(() => document.title), "ben - Hubbub");
    await ben.close();
    await one.close();
  });

  test("a draft grows line by line, the log stays at its end, and the draft survives a reload", async () => {
    const tab = await open();
    await click(tab, "textbox", "Message to General");
    const heights: number[] = [];
    for (let line = 0; line < 6; line += 1) {
      if (line > 0) await tab.press("Shift+Enter");
      await tab.type(`line ${line}`);
      expect(await below(tab), `line ${line}`).toBeLessThan(2);
      heights.push((await field(tab)).height);
    }
    expect(heights).toEqual([...new Set(heights)].toSorted((one, other) => one - other));
    expect((await field(tab)).hidden).toBeLessThanOrEqual(1);
    await tab.type(`and ${"many words ".repeat(9)}end`);
    expect(await below(tab)).toBeLessThan(2);
    expect((await field(tab)).hidden).toBeLessThanOrEqual(1);
    const { text } = await field(tab);
    await talker.say("0", "while you write");
    await eventually(() => last(tab), ["while you write"]);
    expect(await below(tab)).toBeLessThan(2);
    await tab.goto(address);
    await sees(tab, "textbox", "Message to General");
    await eventually(async () => (await field(tab)).text, text);
    await eventually(() => below(tab), 0);
    await click(tab, "textbox", "Message to General");
    await tab.press("Enter");
    await eventually(() => last(tab), [text]);
    expect((await field(tab)).height).toBe(heights[0]);
    await tab.close();
  });

  test("a reader further up keeps the place while others write, and can return to the end", async () => {
    const tab = await open();
    await tab.run(() => document.querySelector("[role=log]")?.scrollBy({ top: -700, behavior: "instant" }));
    await sees(tab, "button", "Jump to latest");
    const before = await firstInSight(tab);
    for (const text of ["further down", "and further"]) await talker.say("0", text);
    await sees(tab, "button", "Jump to latest (2)");
    const after = await firstInSight(tab);
    expect(after.text).toBe(before.text);
    expect(Math.abs(after.top - before.top)).toBeLessThan(1);
    await click(tab, "textbox", "Message to General");
    await tab.press("Shift+Enter");
    await tab.press("Shift+Enter");
    const grown = await firstInSight(tab);
    expect(grown.text).toBe(before.text);
    expect(Math.abs(grown.top - before.top)).toBeLessThan(1);
    await tab.press("Backspace");
    await tab.press("Backspace");
    await click(tab, "button", "Jump to latest");
    await eventually(() => last(tab, 2), ["further down", "and further"]);
    await eventually(() => below(tab), 0);
    await eventually(() => focused(tab), "Message to General");
    await tab.close();
  });

  test("messages from both sides of an outage appear once and in order when it ends", async () => {
    const tab = await open();
    reached = false;
    wire.cut();
    await eventually(
      async () => (await words(tab, "[data-part=trouble]")).startsWith("You are offline."),
      true,
    );
    await say(tab, "said without a network");
    await eventually(
      () => words(tab, "[data-part=trouble]"),
      "You are offline. Reconnecting… One message waits to be sent.",
    );
    await talker.say("0", "missed");
    reached = true;
    await tab.run(() => void dispatchEvent(new Event("online")));
    await eventually(() => last(tab, 2), ["missed", "said without a network"]);
    await eventually(() => words(tab, "[data-part=back]"), "Back. 1 new message.");
    await talker.hears("said without a network");
    await say(tab, "and after it");
    await eventually(() => last(tab, 3), ["missed", "said without a network", "and after it"]);
    await eventually(() => tab.run(() => document.querySelectorAll("[data-state=waiting]").length), 0);
    await tab.close();
  });

  test("two windows of one person share the draft, sent messages and read marks", async () => {
    const one = await open();
    await one.type("half a thought");
    const other = await open();
    await eventually(async () => (await field(other)).text, "half a thought");
    await say(other, " and the rest");
    for (const tab of [one, other]) {
      await eventually(() => last(tab), ["half a thought and the rest"]);
      await eventually(async () => (await field(tab)).text, "");
    }
    await other.close();
    await one.close();
  });

  test("everything can be reached with the keyboard, and the focus is visible", async () => {
    const tab = await open();
    expect(await focused(tab)).toBe("Message to General");
    await eventually(
      () => tab.run((selector) => document.querySelector(`aside ${selector}`) !== null, SELECTORS.person),
      true,
    );
    for (const next of ["Add files", "Emoji", "Send message", "Find people"]) {
      await tab.press("Tab");
      expect(await focused(tab)).toBe(next);
      expect(await hasRing(tab), next).toBe(true);
    }
    await tab.press("Tab");
    expect(await tab.run(() => document.activeElement?.closest("aside") !== null)).toBe(true);
    expect(await hasRing(tab), "a person").toBe(true);
    for (let back = 0; back < 6; back += 1) await tab.press("Shift+Tab");
    expect(await tab.run(() => document.activeElement?.closest("[role=log]") !== null)).toBe(true);
    expect(await hasRing(tab), "within the log").toBe(true);
    await tab.type("kept");
    expect(await focused(tab)).toBe("Message to General");
    await tab.press("Control+k");
    await eventually(() => tab.run(() => document.activeElement?.closest("dialog")?.open ?? false), true);
    await tab.press("Escape");
    await eventually(() => focused(tab), "Message to General");
    expect((await field(tab)).text).toBe("kept");
    await tab.press("Control+k");
    await eventually(() => tab.run(() => document.activeElement?.closest("dialog")?.open ?? false), true);
    await tab.type("talker");
    await tab.press("Enter");
    await eventually(() => focused(tab), "Message to talker");
    await say(tab, "by keyboard alone");
    await talker.hears("by keyboard alone");
    await tab.press("Alt+ArrowUp");
    await eventually(() => focused(tab), "Message to General");
    expect((await field(tab)).text).toBe("kept");
    await tab.close();
  });
});

/* ---------- Hands and eyes ---------- */

const SELECTORS = {
  button: "button",
  textbox: "textarea, input",
  heading: "h1, h2",
  room: "nav a",
  person: "button:has(> [data-part=name])",
};
type Role = keyof typeof SELECTORS;

/** The middle of the first visible, uncovered element of this kind whose name begins like this. */
function spot(tab: Tab, role: Role, name: string): Promise<[number, number] | null> {
  return tab.run(
    (selector, wanted) => {
      const open = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document;
      for (const element of open.querySelectorAll<HTMLInputElement>(selector)) {
        const named =
          element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent ?? "";
        // Initials on a picture are not part of a name.
        const own = element.querySelector("[data-part=name]")?.textContent ?? named;
        if (!own.trim().startsWith(wanted) || !element.checkVisibility()) continue;
        element.scrollIntoView({ block: "nearest" });
        const { left, top, width, height } = element.getBoundingClientRect();
        const x = left + width / 2;
        const y = top + height / 2;
        if (element.contains(document.elementFromPoint(x, y))) return [x, y] as [number, number];
      }
      return null;
    },
    SELECTORS[role],
    name,
  );
}

async function sees(tab: Tab, role: Role, name: string): Promise<void> {
  await eventually(async () => (await spot(tab, role, name)) !== null, true);
}

async function click(tab: Tab, role: Role, name: string): Promise<void> {
  await sees(tab, role, name);
  const [x = 0, y = 0] = (await spot(tab, role, name)) ?? [];
  await tab.click(x, y);
}

async function signUp(tab: Tab, name: string): Promise<void> {
  await click(tab, "button", "Create an account");
  await click(tab, "textbox", "Username");
  await tab.type(name);
  await tab.press("Tab");
  await tab.type(PASSWORD);
  await tab.press("Enter");
  await sees(tab, "textbox", "Message to General");
}

/** Types a message, wherever the focus is: typing reaches the composer. */
async function say(tab: Tab, text: string): Promise<void> {
  await tab.type(text);
  await tab.press("Enter");
}

/** The newest texts of the open room. */
function last(tab: Tab, count = 1): Promise<string[]> {
  return tab.run(
    (most) =>
      [...document.querySelectorAll("[role=log] [data-part=text]")]
        .slice(-most)
        .map((text) => text.textContent ?? ""),
    count,
  );
}

/** Pixels between the log's end and the visible part's end, after layout. */
function below(tab: Tab): Promise<number> {
  return tab.run(async () => {
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const log = document.querySelector("[role=log]");
    return log === null ? -1 : log.scrollHeight - log.scrollTop - log.clientHeight;
  });
}

/** The composer's text, its height, and how much of the text is out of sight. */
function field(tab: Tab): Promise<{ text: string; height: number; hidden: number }> {
  return tab.run(() => {
    const area = document.querySelector<HTMLTextAreaElement>("#composer");
    if (area === null) return { text: "", height: 0, hidden: 0 };
    return { text: area.value, height: area.clientHeight, hidden: area.scrollHeight - area.clientHeight };
  });
}

/** The first text that begins in sight, and its position, after layout. */
function firstInSight(tab: Tab): Promise<{ text: string; top: number }> {
  return tab.run(async () => {
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const log = document.querySelector("[role=log]");
    const start = log?.getBoundingClientRect().top ?? 0;
    for (const text of log?.querySelectorAll("[data-part=body]") ?? []) {
      const top = text.getBoundingClientRect().top - start;
      if (top >= 0) return { text: text.textContent ?? "", top };
    }
    return { text: "", top: -1 };
  });
}

/** The name of the element with the focus. */
function focused(tab: Tab): Promise<string> {
  return tab.run(() => {
    const element = document.activeElement as HTMLInputElement | null;
    const label = element?.labels?.[0]?.textContent ?? element?.textContent;
    return element?.getAttribute("aria-label") ?? label ?? "";
  });
}

/** Whether the element with the focus, or its box, has a visible outline. */
function hasRing(tab: Tab): Promise<boolean> {
  return tab.run(() => {
    const box = document.activeElement?.closest("[data-part=box]") ?? document.activeElement;
    if (!box) return false;
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(box);
    return (outlineStyle !== "none" && parseFloat(outlineWidth) >= 1) || boxShadow !== "none";
  });
}

function words(tab: Tab, selector: string): Promise<string> {
  return tab.run((where) => document.querySelector(where)?.textContent?.trim() ?? "", selector);
}
