import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  eventually,
  message,
  messageTo,
  room,
  say,
  setStageWithTalker,
  shownTexts,
  talkTo,
} from "./stage.ts";

let stage: Awaited<ReturnType<typeof setStageWithTalker>>;

beforeAll(async () => {
  stage = await setStageWithTalker();
});

afterAll(() => stage.close());

/** The position of the first visible row, in pixels below the log's top. */
function rowInSight(page: Page) {
  return page.evaluate(() => {
    const log = document.querySelector("[role=log]");
    if (log === null) throw new Error("There is no log");
    const top = log.getBoundingClientRect().top;
    const row = [...log.querySelectorAll<HTMLElement>("[data-key]")].find(
      (one) => one.getBoundingClientRect().bottom > top + 4,
    );
    return { key: row?.dataset["key"] ?? "", offset: (row?.getBoundingClientRect().top ?? 0) - top };
  });
}

test("scrolling up loads all older messages, nothing jumps, and the page stays small", async () => {
  const count = 700;
  for (let from = 0; from < count; from += 50) {
    const some = Array.from({ length: 50 }, (_, index) => from + index);
    await Promise.all(
      some.map((number) => stage.talker.say("0", `old ${number} ${"word ".repeat(number % 60)}`.trim())),
    );
  }
  const { page } = await stage.enter("ann");
  await message(page, "old 660").waitFor();
  const read = await page.evaluate(async () => {
    const log = document.querySelector("[role=log]");
    if (log === null) throw new Error("There is no log");
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const rows = () => [...log.querySelectorAll<HTMLElement>("[data-key]")];
    const seen = new Set<string>();
    let worst = 0;
    let most = 0;
    const deadline = Date.now() + 40_000;
    while (Date.now() < deadline) {
      for (const row of rows()) seen.add(row.querySelector("[data-part=text]")?.textContent ?? "");
      most = Math.max(most, rows().length);
      const top = log.getBoundingClientRect().top;
      const anchor = rows().find((row) => row.getBoundingClientRect().bottom > top + 4);
      const before = { bottom: anchor?.getBoundingClientRect().bottom ?? 0, scrollTop: log.scrollTop };
      log.scrollTop -= 240;
      const scrolled = before.scrollTop - log.scrollTop;
      await frame();
      await frame();
      const after = log.querySelector(`[data-key="${CSS.escape(anchor?.dataset["key"] ?? "")}"]`);
      const moved = (after?.getBoundingClientRect().bottom ?? Infinity) - before.bottom - scrolled;
      worst = Math.max(worst, Math.abs(moved));
      if (log.scrollTop === 0 && document.body.textContent?.includes("Welcome to General")) break;
    }
    return { seen: seen.size, worst, most };
  });
  expect(read.seen).toBe(count);
  expect(read.worst).toBeLessThan(1);
  expect(read.most).toBeLessThanOrEqual(400);
  await page.getByRole("heading", { name: "Welcome to General" }).waitFor();

  // From the very beginning back to the end in the same way.
  await page.evaluate(async () => {
    const log = document.querySelector("[role=log]");
    const latest = () => document.querySelector("[data-part=latest]");
    while (log !== null && latest() !== null) {
      log.scrollTop += 400;
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  });
  expect((await shownTexts(page)).at(-1)).toMatch(/^old 699/);
});

test("a reader further up keeps the place while others talk, and sees how many messages are new", async () => {
  const { page } = await stage.enter("ben");
  await message(page, "old 660").waitFor();
  await page.getByRole("log").evaluate((log) => (log.scrollTop -= 1_500));
  await page.getByRole("button", { name: "Jump to latest" }).waitFor();
  const before = await rowInSight(page);
  for (let number = 0; number < 5; number++) await stage.talker.say("0", `meanwhile ${number}`);
  await page.getByRole("button", { name: "Jump to latest (5)" }).waitFor();
  await eventually(() => page.title(), "(5) General - Hubbub");
  const after = await rowInSight(page);
  expect(after.key).toBe(before.key);
  expect(Math.abs(after.offset - before.offset)).toBeLessThan(1);
  await page.getByRole("button", { name: "Jump to latest (5)" }).click();
  await message(page, "meanwhile 4").waitFor();
  await page.getByText("New", { exact: true }).waitFor();
  await eventually(() => page.title(), "General - Hubbub");
  await stage.talker.say("0", "and on");
  await message(page, "and on").waitFor();
  const below = await page
    .getByRole("log")
    .evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  expect(below).toBeLessThan(2);
});

test("a room is printed as far as it is shown, without what is around it, and its reader stays in place", async () => {
  const { page } = await stage.enter("paula");
  await message(page, "old 660").waitFor();
  const log = page.getByRole("log");
  await log.evaluate((element) => (element.scrollTop -= 1_500));
  await page.getByRole("button", { name: "Jump to latest" }).waitFor();
  const before = await log.evaluate((element) => element.scrollTop);
  const printed = (await page.pdf({ format: "A4" })).toString("latin1");
  expect(printed.match(/\/Type\s*\/Page\b/g)?.length).toBeGreaterThan(2);
  expect(await log.evaluate((element) => element.scrollTop)).toBe(before);
  await page.emulateMedia({ media: "print" });
  const [all, seen] = await log.evaluate((element) => [element.scrollHeight, element.clientHeight]);
  expect(seen).toBe(all);
  await page.getByRole("heading", { name: "General", level: 1 }).waitFor();
  for (const around of ["navigation", "complementary", "textbox"] as const)
    expect(await page.getByRole(around).count()).toBe(0);
  await page.emulateMedia({ media: null });
  await eventually(() => log.evaluate((element) => element.scrollTop), before);
});

test("unread messages are counted in the list and in the title, also after a reload, until they are read", async () => {
  const cat = await stage.enter("cat");
  const dan = await stage.enter("dan", { replica: 1 });
  await talkTo(cat.page, "dan");
  await talkTo(dan.page, "talker");
  for (const text of ["one", "two", "three"]) await say(cat.page, text);
  const badge = room(dan.page, "cat").locator("[data-part=unread]");
  await eventually(() => badge.textContent(), "3 unread");
  await eventually(() => dan.page.title(), "(3) talker - Hubbub");
  const look = (title: string) =>
    room(dan.page, title)
      .locator("[data-part=name]")
      .evaluate((name) => [getComputedStyle(name).fontWeight, getComputedStyle(name).color]);
  const [read, unread] = [await look("General"), await look("cat")];
  expect(Number(unread[0])).toBeGreaterThan(Number(read[0]));
  expect(unread[1]).not.toBe(read[1]);
  await dan.page.reload();
  await eventually(() => badge.textContent(), "3 unread");
  await room(dan.page, "cat").click();
  await dan.page.getByText("New", { exact: true }).waitFor();
  await eventually(() => badge.count(), 0);
  await eventually(() => dan.page.title(), "cat - Hubbub");
  await say(dan.page, "thank you");
  await eventually(() => dan.page.getByText("New", { exact: true }).count(), 0);
  await dan.page.reload();
  await message(dan.page, "three").waitFor();
  // If the reload overtook a mark, showing the messages sets it again.
  await eventually(() => badge.count(), 0);
});

test("text that is typed right after a click on a room goes to that room", async () => {
  const { page } = await stage.enter("fay");
  await talkTo(page, "talker");
  const at = await page.evaluate(async () => {
    const links = [...document.querySelectorAll<HTMLElement>("[data-room]")];
    const typed: unknown[] = [];
    for (const [index, link] of [...links, ...links].entries()) {
      link.click();
      // A key that is pressed now is the next task, before the browser reports the new address.
      await Promise.resolve();
      document.execCommand("insertText", false, String(index));
      typed.push([location.hash === link.getAttribute("href"), document.activeElement?.ariaLabel]);
    }
    return typed;
  });
  const rooms = ["Message to General", "Message to talker"];
  expect(at).toEqual([...rooms, ...rooms].map((label) => [true, label]));
  await eventually(() => messageTo(page, "talker").inputValue(), "13");
  await room(page, "General").click();
  await eventually(() => messageTo(page, "General").inputValue(), "02");
});

test("each room keeps its draft, also over a reload, until it is sent", async () => {
  const { page } = await stage.enter("eve");
  await messageTo(page, "General").fill("half a thought");
  await talkTo(page, "talker");
  await eventually(() => messageTo(page, "talker").inputValue(), "");
  await messageTo(page, "talker").fill("another one");
  await room(page, "General").getByText("Draft").waitFor();
  await room(page, "General").click();
  await eventually(() => messageTo(page, "General").inputValue(), "half a thought");
  await page.reload();
  await messageTo(page, "General").waitFor();
  await eventually(() => messageTo(page, "General").inputValue(), "half a thought");
  await messageTo(page, "General").press("Enter");
  await message(page, "half a thought").waitFor();
  await room(page, "talker").click();
  await eventually(() => messageTo(page, "talker").inputValue(), "another one");
  await room(page, "General").click();
  await eventually(() => messageTo(page, "General").inputValue(), "");
});
