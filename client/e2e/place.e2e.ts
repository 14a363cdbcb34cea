import * as fc from "fast-check";
import type { CDPSession, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person, type Person } from "../../server/src/testing.ts";
import { eventually, message, messageTo, setStage, type Actor, type Stage } from "./stage.ts";

let stage: Stage;
let talker: Person;

beforeAll(async () => {
  stage = await setStage(2);
  talker = await person(both(stage.house)[1], "talker");
  for (let from = 0; from < 60; from += 20) {
    const some = Array.from({ length: 20 }, (_, index) => from + index);
    await Promise.all(
      some.map((number) => talker.say("0", `old ${number} ${"word ".repeat((number * 7) % 50)}`.trim())),
    );
  }
});

afterAll(async () => {
  talker.close();
  await stage.close();
});

/** Pixels between the log's end and the visible part's end, after layout. */
function below(page: Page): Promise<number> {
  return page.evaluate(async () => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    await frame();
    await frame();
    const log = document.querySelector("[role=log]");
    if (log === null) throw new Error("There is no log");
    return log.scrollHeight - log.scrollTop - log.clientHeight;
  });
}

test("a draft of any length leaves the newest message visible, and new messages are followed and read", async () => {
  const { page } = await stage.enter("ann");
  await eventually(() => below(page), 0);
  const composer = messageTo(page, "General");
  const heights: number[] = [];
  for (const line of ["l0", "l1", "l2", "l3", "l4", "l5"]) {
    await composer.pressSequentially(line);
    await page.keyboard.press("Shift+Enter");
    expect(await below(page), line).toBeLessThan(2);
    heights.push(await composer.evaluate((area) => area.clientHeight));
  }
  expect(heights).toEqual([...new Set(heights)].toSorted((one, other) => one - other));
  await talker.say("0", "while you write");
  await message(page, "while you write").waitFor();
  expect(await below(page)).toBeLessThan(2);
  await eventually(() => page.title(), "General - Hubbub");
  await composer.fill("paragraph ".repeat(26));
  expect(await below(page)).toBeLessThan(2);
  // All of it is visible: the field does not scroll.
  expect(await composer.evaluate((area) => area.scrollHeight - area.clientHeight)).toBeLessThanOrEqual(1);
  await page.reload();
  await message(page, "while you write").waitFor();
  await eventually(() => composer.inputValue(), "paragraph ".repeat(26));
  await eventually(() => below(page), 0);
  await talker.say("0", "and on");
  await message(page, "and on").waitFor();
  expect(await below(page)).toBeLessThan(2);
  await composer.fill("");
  expect(await below(page)).toBeLessThan(2);
  await eventually(() => page.title(), "General - Hubbub");
});

test("a step up from the bottom counts once, also if the layout changes before the browser tells of the step", async () => {
  const { page } = await stage.enter("amy");
  await eventually(() => below(page), 0);
  const moved = await page.evaluate(async () => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const log = document.querySelector<HTMLElement>("[role=log]");
    const list = log?.querySelector("ol");
    const row = log?.querySelector("[data-key]:last-of-type");
    if (!log || !list || !row) throw new Error("There is no log");
    // Sizes are observed in the same frame, the scroll event comes in the next one.
    await frame();
    const before = row.getBoundingClientRect().top;
    log.scrollTop -= 240;
    list.style.paddingBottom = "60px";
    await frame();
    await frame();
    return row.getBoundingClientRect().top - before;
  });
  expect(moved).toBeCloseTo(240, 0);
});

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ does: fc.constant("write"), lines: fc.nat(14), words: fc.nat(60) }) },
  { weight: 4, arbitrary: fc.record({ does: fc.constant("hear"), words: fc.nat(80) }) },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constant("resize"), width: fc.nat(500), height: fc.nat(300) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constant("scroll"), by: fc.integer({ min: -900, max: 500 }) }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("font"), size: fc.integer({ min: 12, max: 24 }) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("people") }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("banner") }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("back") }) },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constant("keyboard"), height: fc.integer({ min: 200, max: 380 }) }),
  },
  { weight: 2, arbitrary: fc.record({ does: fc.constant("zoom"), by: fc.constantFrom(0.8, 1.1, 1.5, 2) }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant("row"), at: fc.nat(59), height: fc.nat(300) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("bottom") }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

test.each([1, 2, 3])(
  "a reader at the bottom stays there, and further up no text moves, whatever grows or shrinks (sequence %i)",
  async (seed) => {
    const ben = await stage.enter(`ben-${seed}`, { link: true });
    const { page, context } = ben;
    const zoom = await context.newCDPSession(page);
    await eventually(() => below(page), 0);
    const [steps = []] = fc.sample(fc.array(step, { minLength: 24, maxLength: 24 }), { seed, numRuns: 1 });
    for (const [index, one] of steps.entries()) {
      const before = await sight(page);
      await take(ben, zoom, one, index);
      await page.evaluate(
        () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
      );
      const after = await sight(page);
      const told = `${index} ${JSON.stringify(one)}`;
      if (one.does === "scroll") continue;
      if (one.does === "bottom") expect(after.below, told).toBeLessThan(2);
      // Somebody may have scrolled up a little before.
      else if (before.below <= 48) expect(after.below, told).toBeLessThan(Math.max(2, before.below + 1));
      // If nothing more is below, the reader is at the log's end.
      else if (after.below > 2) {
        const moved = (after.tops[before.first] ?? Infinity) - (before.tops[before.first] ?? 0);
        expect(Math.abs(moved), told).toBeLessThan(1);
      }
    }
  },
);

/** The distance from the end, the first text that begins in sight, and the position of each text. */
function sight(page: Page) {
  return page.evaluate(() => {
    const log = document.querySelector("[role=log]");
    if (log === null) throw new Error("There is no log");
    const { top } = log.getBoundingClientRect();
    const tops: Record<string, number> = {};
    let first = "";
    for (const row of log.querySelectorAll<HTMLElement>("[data-key]")) {
      const key = row.dataset["key"] ?? "";
      tops[key] = (row.querySelector("[data-part=body]")?.getBoundingClientRect().top ?? 0) - top;
      if (first === "" && tops[key] >= 0) first = key;
    }
    return { below: log.scrollHeight - log.scrollTop - log.clientHeight, first, tops };
  });
}

async function take(actor: Actor, zoom: CDPSession, one: Step, index: number): Promise<void> {
  const { page, frames, link } = actor;
  const trouble = page.locator("[data-part=trouble]");
  switch (one.does) {
    case "write":
      await messageTo(page, "General").fill(
        Array.from({ length: one.lines }, (_, line) => `${line} ${"word ".repeat(one.words)}`).join("\n"),
      );
      return;
    case "banner":
      link.cut();
      await trouble.waitFor();
      return;
    case "back":
      if ((await trouble.count()) === 0) return;
      await link.mend();
      await trouble.waitFor({ state: "hidden" });
      return;
    case "keyboard": {
      // What it leaves of a phone's screen; the page is told to make room for it.
      const { width } = page.viewportSize() ?? { width: 800 };
      await page.setViewportSize({ width, height: one.height });
      return;
    }
    case "zoom": {
      const { width, height } = page.viewportSize() ?? { width: 800, height: 600 };
      await zoom.send("Emulation.setDeviceMetricsOverride", {
        width: Math.round(width / one.by),
        height: Math.round(height / one.by),
        deviceScaleFactor: one.by,
        mobile: false,
      });
      return;
    }
    case "hear":
      // Nothing is heard without a connection.
      if ((await trouble.count()) > 0) return;
      await talker.say("0", `heard ${index} ${"word ".repeat(one.words)}`.trim());
      await eventually(() => frames.some((frame) => frame.includes(`"heard ${index}`)), true);
      // The client updates its components at most every 50 ms.
      await page.waitForTimeout(60);
      return;
    case "resize":
      await page.setViewportSize({ width: 800 + one.width, height: 560 + one.height });
      return;
    case "scroll":
      await page.getByRole("log").evaluate((log, by) => (log.scrollTop += by), one.by);
      return;
    case "font":
      await page.evaluate((size) => (document.documentElement.style.fontSize = `${size}px`), one.size);
      return;
    case "people": {
      const button = page.getByRole("main").getByRole("button", { name: "People" });
      await button.click();
      const dialog = page.getByRole("dialog", { name: "People" });
      if ((await dialog.count()) > 0) await page.keyboard.press("Escape");
      return;
    }
    case "row":
      // As if a picture in it were loaded or removed.
      await page.evaluate(({ at, height }) => {
        const rows = document.querySelectorAll<HTMLElement>("[role=log] [data-key] [data-state]");
        const row = rows[at % rows.length];
        if (row) row.style.paddingBottom = `${height}px`;
      }, one);
      return;
    case "bottom": {
      const jump = page.getByRole("button", { name: "Jump to latest" });
      if ((await jump.count()) > 0) await jump.click();
      return;
    }
  }
}
