import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PATIENCE_MS, unwrap } from "../../server/src/testing.ts";
import {
  addressOf,
  eventually,
  message,
  messageTo,
  room,
  say,
  setStageWithTalker,
  shownTexts,
  talkTo,
} from "./stage.ts";

/** As many as a message may have. */
const KINDS = "😀 😁 😂 😃 😄 😅 😆 😇 😈 😉 😊 😋 😌 😍 😎 😏 😐 😑 😒 😓".split(" ");

let stage: Awaited<ReturnType<typeof setStageWithTalker>>;

beforeAll(async () => {
  stage = await setStageWithTalker();
});

afterAll(() => stage.close());

/** Records what live regions read out from now on. */
async function listen(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const heard: string[] = [];
    Object.assign(window, { heard });
    new MutationObserver((changes) => {
      for (const { target, addedNodes } of changes) {
        const region = (target as Element).closest?.("[aria-live=polite], [role=alert], [role=status]");
        for (const node of addedNodes) if (region && node.textContent) heard.push(node.textContent);
      }
    }).observe(document.body, { childList: true, subtree: true });
  });
  return () => page.evaluate(() => (window as unknown as { heard: string[] }).heard);
}

test("others' messages and connection trouble are read out once and in order", async () => {
  const { page, link } = await stage.enter("ann", { link: true });
  const heard = await listen(page);
  const said = ["before", "yes", "yes", "one", "two", "three", "four", "five", "six"];
  for (const text of said.slice(0, 2)) {
    await stage.talker.say("0", text);
    await message(page, text).waitFor();
  }
  for (const text of said.slice(2)) await stage.talker.say("0", text);
  await eventually(
    heard,
    said.map((text) => `talker: ${text}`),
  );
  await say(page, "my own");
  await message(page, "my own").waitFor();
  link.garble("goes wrong");
  await say(page, "goes wrong");
  // Without news about the connection, which a slow machine may lose for a moment.
  const told = async () => (await heard()).filter((text) => /^(?:talker: |Not sent: )/.test(text));
  await eventually(async () => (await told()).length, said.length + 1);
  expect((await told()).at(-1)).toMatch(/^Not sent: goes wrong\. /);
  link.cut();
  await eventually(async () => (await heard()).at(-1), "You are offline. Reconnecting…");
});

test("one's own message, edit, reaction and pin are read out once they are stored, and that one waits", async () => {
  const { page, link } = await stage.enter("own", { link: true });
  const heard = await listen(page);
  const last = async () => (await heard()).at(-1);
  await say(page, "to be heard");
  await eventually(last, "Sent.");
  await page.locator("[data-seq]").filter({ hasText: "to be heard" }).waitFor();
  await page.keyboard.press("ArrowUp");
  await page.keyboard.type(" twice");
  await page.keyboard.press("Enter");
  await eventually(last, "Edit saved.");
  const row = message(page, "to be heard twice");
  await row.hover();
  await page.getByRole("button", { name: "Pin to room" }).click();
  await eventually(last, "Pinned to the room.");
  await page.getByRole("button", { name: "Add reaction" }).click();
  await page.getByRole("button", { name: "React with 👍" }).click();
  await eventually(last, "👍 added.");
  await row.getByRole("button", { name: "👍 1: you" }).click();
  await eventually(last, "👍 removed.");
  link.cut();
  await eventually(last, "You are offline. Reconnecting…");
  await say(page, "said offline");
  // The state of the connection, with the number of those that wait, may be told after it.
  await eventually(async () => (await heard()).slice(-2).includes("Waits for the connection."), true);
  const before = (await heard()).length;
  await link.mend();
  await eventually(async () => (await heard()).slice(before).filter((text) => text === "Sent."), ["Sent."]);
});

test("a reaction to a message that is deleted meanwhile is not dropped without a word", async () => {
  const { page } = await stage.enter("late-reaction");
  const { seq } = await stage.talker.say("0", "gone before you react");
  const row = message(page, "gone before you react");
  await row.hover();
  await page.getByRole("button", { name: "Add reaction" }).click();
  await page.getByRole("button", { name: "More emoji" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "grinning face", exact: true }).waitFor();
  unwrap(await stage.talker.socket.timeout(PATIENCE_MS).emitWithAck("message.delete", { roomId: "0", seq }));
  await row.waitFor({ state: "detached" });
  await page.getByRole("dialog").getByRole("button", { name: "grinning face", exact: true }).click();
  const gone = page.locator(`[data-seq="${seq}"]`);
  const why = gone.getByText("Not done. It has been deleted.");
  await why.waitFor();
  await gone.getByRole("button", { name: "Dismiss" }).click();
  await why.waitFor({ state: "detached" });
});

test("what a link leads past is not read out as new, but what happens while a dialog is open is", async () => {
  for (let from = 0; from < 80; from += 20)
    await Promise.all(Array.from({ length: 20 }, (_, at) => stage.talker.say("0", `earlier ${from + at}`)));
  const { page } = await stage.enter("lea");
  await page.goto("about:blank");
  await page.goto(`${addressOf(stage.house, 0)}/#/room/0/5`);
  const heard = await listen(page);
  await page.locator("[data-target]").waitFor();
  await eventually(() => page.getByRole("button", { name: /Jump to latest/ }).count(), 1);
  const said = await stage.talker.say("0", "the first news");
  await eventually(heard, ["talker: the first news"]);

  await room(page, "General").click();
  await messageTo(page, "General").fill("x".repeat(4_001));
  await messageTo(page, "General").press("Enter");
  await eventually(async () => (await heard()).at(-1), "1 character too many");
  await messageTo(page, "General").fill("");

  await page.keyboard.press("Control+k");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await stage.talker.say("0", "said to nobody who sees it");
  await dialog.locator("[aria-live=polite]").getByText("talker: said to nobody who sees it").waitFor();
  await page.keyboard.press("Escape");

  for (const emoji of KINDS) {
    const reaction = { roomId: "0", seq: said.seq, emoji, on: true };
    const reply = await stage.talker.socket.timeout(PATIENCE_MS).emitWithAck("message.react", reaction);
    expect(reply).toMatchObject({ ok: true });
  }
  // They arrive together, after the answers, and make the row higher: its buttons move.
  const reacted = message(page, "the first news").getByRole("list", { name: "Reactions" });
  await eventually(() => reacted.getByRole("button").count(), KINDS.length);
  await message(page, "the first news").hover();
  await page.getByRole("button", { name: "Add reaction" }).click();
  await page.getByRole("button", { name: "React with 👍" }).click();
  await eventually(async () => (await heard()).filter((text) => text.startsWith("Not done. ")).length, 1);

  // Where the user is after a log-out is heard too.
  await page.getByRole("button", { name: "Log out" }).press("Enter");
  const welcome = page.getByRole("heading", { name: "Welcome back" });
  await welcome.waitFor();
  await eventually(() => welcome.evaluate((heading) => heading === document.activeElement), true);
});

test("text copied from the log has what people said, and who said it", async () => {
  const { page } = await stage.enter("ben");
  await talkTo(page, "talker");
  await say(page, "copy this");
  const { roomId, seq } = await stage.talker.hears("copy this");
  const ask = stage.talker.socket.timeout(PATIENCE_MS);
  unwrap(await ask.emitWithAck("message.react", { roomId, seq, emoji: "👍", on: true }));
  await page.getByRole("button", { name: "👍 1: talker" }).waitFor();
  await say(page, "and that");
  await page.locator("[data-state=sent]").getByText("and that").waitFor();
  unwrap(await ask.emitWithAck("message", { roomId, message: "an answer", nonce: "answer", replyTo: seq }));
  await message(page, "an answer").waitFor();
  await page.locator("[aria-live=polite]", { hasText: "talker: an answer" }).waitFor({ state: "attached" });
  const copied = await page.evaluate(() => {
    const [first, last] = [...document.querySelectorAll("[role=log] li[data-key]")]
      .slice(-3)
      .filter((_, at) => at !== 1);
    if (first && last) getSelection()?.setBaseAndExtent(first, 0, last, last.childNodes.length);
    return getSelection()
      ?.toString()
      .split(/\s*\n\s*/)
      .filter(Boolean);
  });
  expect(copied).toEqual(["ben", "copy this", "and that", "talker", "an answer"]);
  // Nor what is only read out, by whoever copies all.
  const all = await page.evaluate(() => {
    getSelection()?.selectAllChildren(document.body);
    return getSelection()?.toString();
  });
  expect(all).not.toContain("talker: an answer");
});

test("days and times are correct after midnight, after a sleep and in another zone", async () => {
  const { page, context, link } = await stage.enter("cat", { link: true });
  await page.clock.install({ time: new Date() });
  await page.reload();
  await messageTo(page, "General").waitFor();
  await say(page, "late");
  await message(page, "late").locator("[data-seq]").waitFor();
  const days = () => page.locator("[data-part=day]").allTextContents();
  const when = () => room(page, "General").locator("time").textContent();
  await eventually(async () => (await days()).at(-1), "Today");
  expect(await when()).toMatch(/\d:\d\d/);
  // Nothing else gives a reason to show the page anew.
  link.cut();
  await page.getByText("You are offline. Reconnecting…").waitFor();
  const now = await page.evaluate(() => Date.now());
  const midnight = await page.evaluate(() => new Date().setHours(24, 0, 0, 0));
  await page.clock.fastForward(midnight - now - 3_000);
  expect((await days()).at(-1)).toBe("Today");
  await page.clock.fastForward(4_000);
  await eventually(async () => (await days()).at(-1), "Yesterday");
  expect(await when()).not.toMatch(/\d:\d\d/);
  // The machine sleeps through a day; the only sign is that the user looks at the page again.
  await page.clock.setSystemTime(midnight + 36 * 3600 * 1000);
  await page.evaluate(() => dispatchEvent(new Event("focus")));
  await eventually(async () => /Today|Yesterday/.test((await days()).at(-1) ?? ""), false);

  const clock = () => page.locator("[data-key] time").last().textContent();
  const before = await clock();
  const cdp = await context.newCDPSession(page);
  await cdp.send("Emulation.setTimezoneOverride", { timezoneId: "Asia/Kathmandu" });
  await page.evaluate(() => dispatchEvent(new Event("focus")));
  await expect.poll(clock).not.toBe(before);
});

test("a time is written as its reader's language has it", async () => {
  // Where it is six now, or nearly seven.
  const ahead = ((6 - new Date().getUTCHours() + 36) % 24) - 12;
  const timezoneId = `Etc/GMT${ahead > 0 ? "-" : "+"}${Math.abs(ahead)}`;
  const shown = { "en-US": /^[67]:\d\d\sAM$/, "de-DE": /^0[67]:\d\d$/, "ja-JP": /^[67]:\d\d$/ };
  for (const [at, [locale, time]] of Object.entries(shown).entries()) {
    const { page } = await stage.enter(`reader${at}`, { locale, timezoneId });
    await stage.talker.say("0", `now for ${locale}`);
    await message(page, `now for ${locale}`).waitFor();
    expect(await room(page, "General").locator("time").textContent()).toMatch(time);
  }
});

test("emoji are large unless text is beside them, and each line begins at the side of its script", async () => {
  const { page } = await stage.enter("dan");
  const size = (text: string) =>
    page
      .getByRole("log")
      .locator("[data-part=text]")
      .filter({ hasText: text })
      .last()
      .evaluate((element) => parseFloat(getComputedStyle(element).fontSize));
  for (const text of ["🇩🇪", "👩🏽‍🤝‍👩🏻", "👍🏿 🎉", "1️⃣", "©", "a 👍"]) await say(page, text);
  await message(page, "a 👍").waitFor();
  const sizes = [];
  for (const text of ["🇩🇪", "👩🏽‍🤝‍👩🏻", "👍🏿 🎉", "1️⃣", "©", "a 👍"]) sizes.push((await size(text)) > 24);
  expect(sizes).toEqual([true, true, true, true, false, false]);

  const lines = ["שלום עולם", "plain", "مرحبا abc"].join("\n");
  await say(page, lines);
  await eventually(async () => (await shownTexts(page)).at(-1), lines);
  const sides = await page.evaluate(() => {
    const text = [...document.querySelectorAll("[role=log] [data-part=text]")].at(-1) as HTMLElement;
    const box = (text.closest("[data-part=body]") as HTMLElement).getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(text);
    const rows = new Map<number, { left: number; right: number }>();
    for (const { left, right, width, top } of range.getClientRects()) {
      if (width < 1) continue;
      const row = rows.get(Math.round(top / 10)) ?? { left: Infinity, right: -Infinity };
      rows.set(Math.round(top / 10), { left: Math.min(row.left, left), right: Math.max(row.right, right) });
    }
    return [...rows.values()].map(({ left, right }) =>
      Math.abs(left - box.left) < 2 ? "left" : box.right - right < 60 ? "right" : "between",
    );
  });
  expect(sides).toEqual(["right", "left", "right"]);

  // A name and a text in one line keep their order, whatever their scripts.
  await page.evaluate(async () => {
    const body = JSON.stringify({ displayName: "محمد" });
    await fetch("/api/me", { method: "PATCH", headers: { "content-type": "application/json" }, body });
  });
  await stage.talker.say("0", "between");
  const other = await stage.enter("dora", { replica: 1 });
  await say(page, "12 then?");
  const line = room(other.page, "General").getByText("12 then?");
  await line.waitFor();
  const [name, text] = await Promise.all(
    [room(other.page, "General").getByText("محمد"), line].map((one) => one.boundingBox()),
  );
  expect(name?.x).toBeLessThan(text?.x ?? 0);
});

test("the page tells a first connection from a lost one, and shows no presence that it does not know", async () => {
  const { page, link } = await stage.enter("eve", { link: true });
  await talkTo(page, "talker");
  const people = page.getByRole("complementary", { name: "People" });
  await people.getByRole("heading", { name: /^Online/ }).waitFor();
  await room(page, "General").click();
  await say(page, "the last message");
  await message(page, "the last message").waitFor();
  link.cut();
  await page.getByText("You are offline. Reconnecting…").waitFor();
  expect(await page.locator("[data-part=dot]").count()).toBe(1);
  await people.getByRole("heading", { name: /^People/ }).waitFor();
  const covers = await page.evaluate(() => {
    const bar = document.querySelector("[data-part=trouble], [data-part=back]")?.getBoundingClientRect();
    const text = [...document.querySelectorAll("[role=log] [data-part=text]")]
      .at(-1)
      ?.getBoundingClientRect();
    return bar === undefined || text === undefined || (text.bottom > bar.top && text.top < bar.bottom);
  });
  expect(covers).toBe(false);
  await page.reload();
  await page.getByText("Connecting…").first().waitFor();
  await page.locator("[data-part=trouble], [data-part=back]").waitFor();
  expect(await page.getByText("You are offline").count()).toBe(0);
  await link.mend();
  await people.getByRole("heading", { name: /^Online/ }).waitFor();
});

test("the first paint needs only the page and its style sheet, and comes within 1.5 s on a slow line", async () => {
  const context = await stage.browser.newContext();
  const page = await context.newPage();
  await page.route(/\.js$/, () => undefined);
  await page.goto(addressOf(stage.house, 0), { waitUntil: "commit" });
  await page.evaluate(
    () =>
      new Promise<void>((resolve) => {
        new PerformanceObserver((list) => {
          if (list.getEntriesByName("first-contentful-paint").length > 0) resolve();
        }).observe({ type: "paint", buffered: true });
      }),
  );
  expect(await page.locator("#app").textContent()).toContain("Loading…");
  const loaded = await page.evaluate(() =>
    (performance.getEntries() as PerformanceResourceTiming[])
      .filter(({ entryType, name }) => entryType === "navigation" || name.endsWith(".css"))
      .map(({ transferSize }) => transferSize),
  );
  expect(loaded).toHaveLength(2);
  // 400 kbit/s are 50 bytes a millisecond, shared with five other loads; each of the two also waits 150 ms once.
  const bytes = loaded.reduce((sum, size) => sum + size, 0);
  expect(bytes / (50 / 6) + 2 * 150).toBeLessThan(1_500);
});

test("a touch shows who a name belongs to, and a second one talks to them; names are large enough, times are visible", async () => {
  await stage.talker.say("0", "a long text\n".repeat(90));
  const { page } = await stage.enter("hue", { hasTouch: true, isMobile: true });
  // Nothing that only leads somewhere opens a keyboard.
  const opensKeyboard = () =>
    messageTo(page, "General").evaluate((composer) => composer === document.activeElement);
  await page.locator("[data-seq]").last().waitFor();
  expect(await opensKeyboard()).toBe(false);
  await page.getByRole("log").evaluate((log) => (log.scrollTop = 0));
  const latest = page.locator("[data-part=latest]");
  await latest.tap();
  await latest.waitFor({ state: "detached" });
  expect(await opensKeyboard()).toBe(false);
  for (const text of ["the first of two", "the second of two"]) await stage.talker.say("0", text);
  const time = message(page, "the second of two").locator("time");
  await time.waitFor({ state: "attached" });
  expect(await time.evaluate((element) => getComputedStyle(element).opacity)).toBe("1");
  const name = page.getByRole("log").getByRole("button", { name: "talker" }).last();
  const box = await name.boundingBox();
  expect(Math.min(box?.height ?? 0, box?.width ?? 0)).toBeGreaterThanOrEqual(44);
  const address = page.url();
  await name.tap();
  const card = page.getByRole("dialog", { name: "talker" });
  await card.waitFor();
  expect(page.url()).toBe(address);
  await card.getByRole("button", { name: "Send a direct message" }).tap();
  await messageTo(page, "talker").waitFor();
});

test("the open room is visible in a long list, which hints at unread rooms out of sight", async () => {
  const { page } = await stage.enter("gus");
  await talkTo(page, "talker");
  const direct = page.url();
  await page.route(/\/api\/rooms$/, async (route) => {
    const response = await route.fetch();
    const rooms = (await response.json()) as object[];
    const more = Array.from({ length: 134 }, (_, index) => ({
      id: String(9_000 + index),
      names: [`Filler ${index}`],
      private: false,
      last: null,
      seq: 0,
      read: 0,
      unread: 0,
    }));
    await route.fulfill({ json: [...rooms, ...more] });
  });
  const inView = (title: string) =>
    room(page, title).evaluate((row) => {
      const list = row.closest("nav > div")?.getBoundingClientRect();
      const box = row.getBoundingClientRect();
      return list !== undefined && box.top >= list.top - 1 && box.bottom <= list.bottom + 1;
    });
  await page.goto("about:blank");
  await page.goto(direct);
  await messageTo(page, "talker").waitFor();
  await eventually(() => inView("talker"), true);
  await room(page, "General").click();
  await messageTo(page, "General").waitFor();
  await eventually(() => inView("General"), true);
  await stage.talker.say(decodeURIComponent(direct.split("/").at(-1) ?? ""), "down here");
  await page.getByRole("button", { name: "1 unread room" }).click();
  await eventually(() => inView("talker"), true);
  await eventually(() => page.getByRole("button", { name: "1 unread room" }).count(), 0);
});
