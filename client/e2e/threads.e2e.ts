import type { Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, messageTo, say, setStage, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

const log = (page: Page) => page.locator("#conversation").getByRole("log");
const pane = (page: Page) =>
  page.getByRole("complementary", { name: "Thread" }).or(page.getByRole("main", { name: "Thread" }));

/** A stored message with exactly this text, in the room's log or in the thread. */
function stored(within: Locator, text: string): Locator {
  return within.locator("[data-seq]").filter({
    has: within.page().locator("[data-part=text]").getByText(text, { exact: true }),
  });
}

async function act(within: Locator, text: string, name: string): Promise<void> {
  await stored(within, text).hover();
  const actions = within.getByRole("toolbar", { name: "Message actions" });
  await actions.getByRole("button", { name, exact: true }).click();
}

async function answer(page: Page, text: string): Promise<void> {
  const field = page.getByRole("textbox", { name: "Reply in the thread" });
  await field.fill(text);
  await field.press("Enter");
  await stored(pane(page), text).waitFor();
}

const hasFocus = (element: Locator) => element.evaluate((one) => one === document.activeElement);

test("a thread opens beside the conversation, and shows what others do in it as it happens", async () => {
  const ann = await stage.enter("ann-threads");
  const ben = await stage.enter("ben-threads", { replica: 1 });
  await say(ann.page, "lunch anybody");
  await stored(log(ben.page), "lunch anybody").waitFor();
  await act(log(ben.page), "lunch anybody", "Start a thread");
  await answer(ben.page, "at the harbour");
  // It is also a row of the log: nothing is folded by default.
  await stored(log(ann.page), "at the harbour").waitFor();
  const line = log(ann.page).getByRole("button", { name: /^1 reply, last by ben-threads at / });
  await line.click();
  await stored(pane(ann.page), "at the harbour").waitFor();
  await eventually(() => hasFocus(ann.page.getByRole("textbox", { name: "Reply in the thread" })), true);
  await answer(ann.page, "fine wiht me");
  await stored(pane(ben.page), "fine wiht me").waitFor();
  await log(ben.page)
    .getByRole("button", { name: /^2 replies, last by ann-threads at / })
    .waitFor();

  await act(pane(ann.page), "fine wiht me", "Edit message");
  const field = ann.page.getByRole("textbox", { name: "Edit message" });
  expect(await field.count()).toBe(1);
  await field.fill("fine with me");
  await field.press("Enter");
  await stored(pane(ben.page), "fine with me").waitFor();
  await act(pane(ann.page), "at the harbour", "Add reaction");
  await ann.page.getByRole("button", { name: "React with 👍" }).click();
  await stored(pane(ben.page), "at the harbour").getByRole("button", { name: "👍 1: ann-threads" }).waitFor();

  // An answer to an answer quotes it, and leads to it.
  await act(pane(ben.page), "fine with me", "Reply");
  await pane(ben.page).getByText("Replying to ann-threads: fine with me").waitFor();
  await answer(ben.page, "at noon then");
  const quote = stored(pane(ann.page), "at noon then").getByRole("button", { name: /fine with me$/ });
  await quote.click();
  await eventually(() => hasFocus(stored(pane(ann.page), "fine with me").first()), true);

  // Escape closes it, and the focus returns.
  await ann.page.keyboard.press("Escape");
  await pane(ann.page).waitFor({ state: "detached" });
  await eventually(() => hasFocus(log(ann.page).locator("[data-part=thread]")), true);
  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
}, 120_000);

test("a thread that arrives late leaves the keys where somebody types, and has its own draft, also when it is opened again", async () => {
  const ann = await stage.enter("ann-drafts");
  await say(ann.page, "one of two drafts");
  await stored(log(ann.page), "one of two drafts").waitFor();
  let arrive = () => {};
  const typed = new Promise<void>((done) => (arrive = done));
  await ann.page.route(/thread=/, (route) => void typed.then(() => route.continue()));
  await act(log(ann.page), "one of two drafts", "Start a thread");
  await messageTo(ann.page, "General").click();
  await ann.page.keyboard.type("to the ");
  arrive();
  const field = ann.page.getByRole("textbox", { name: "Reply in the thread" });
  await field.waitFor();
  await ann.page.keyboard.type("room");
  await field.fill("to the thread");
  // This Escape is the input method's.
  const init = { key: "Escape", isComposing: true, bubbles: true, cancelable: true };
  await field.evaluate((one, given) => one.dispatchEvent(new KeyboardEvent("keydown", given)), init);
  await field.press("a");
  await field.press("Backspace");
  expect(await pane(ann.page).count()).toBe(1);
  // Also in the search for an emoji.
  await pane(ann.page).getByRole("button", { name: "Emoji" }).click();
  const search = pane(ann.page).getByRole("searchbox", { name: "Find an emoji" });
  await search.evaluate((one, given) => one.dispatchEvent(new KeyboardEvent("keydown", given)), init);
  await search.fill("still here");
  await search.press("Escape");
  await search.waitFor({ state: "detached" });
  await field.press("Escape");
  await pane(ann.page).waitFor({ state: "detached" });
  await eventually(() => messageTo(ann.page, "General").inputValue(), "to the room");
  await act(log(ann.page), "one of two drafts", "Start a thread");
  await eventually(() => field.inputValue(), "to the thread");
  // "Back" closes it too.
  await ann.page.goBack();
  await pane(ann.page).waitFor({ state: "detached" });
  await ann.page.goForward();
  await pane(ann.page).waitFor();
  // It is also there once the message is deleted.
  await field.press("Escape");
  await pane(ann.page).waitFor({ state: "detached" });
  await ann.page.mouse.move(0, 0);
  await act(log(ann.page), "one of two drafts", "Delete message");
  await log(ann.page).locator("[data-part=deleted]").waitFor();
  await log(ann.page).getByRole("button", { name: "Draft of a reply" }).click();
  await eventually(() => field.inputValue(), "to the thread");
}, 120_000);

test("a person who folds a room's answers sees them only in their threads, on all devices; others see no difference", async () => {
  const ann = await stage.enter("ann-folds");
  const ben = await stage.enter("ben-folds", { replica: 1 });
  await say(ann.page, "who brings cake");
  await stored(log(ben.page), "who brings cake").waitFor();
  await act(log(ben.page), "who brings cake", "Start a thread");
  await answer(ben.page, "I do");
  await stored(log(ann.page), "I do").waitFor();
  const other = await ann.context.newPage();
  await other.goto(ann.page.url());
  await stored(log(other), "I do").waitFor();
  await ann.page.getByRole("button", { name: "Fold replies into threads" }).click();
  for (const page of [ann.page, other]) {
    await stored(log(page), "I do").waitFor({ state: "detached" });
    await log(page)
      .getByRole("button", { name: /^1 reply, last by ben-folds at / })
      .waitFor();
  }
  await answer(ben.page, "and candles");
  await log(ann.page)
    .getByRole("button", { name: /^2 replies, last by ben-folds at / })
    .waitFor();
  expect(await stored(log(ann.page), "and candles").count()).toBe(0);
  expect(await stored(log(ben.page), "and candles").count()).toBe(1);

  // A new answer far below its message leaves a sign in its place.
  for (let number = 0; number < 7; number += 1) await say(ben.page, `said later ${number}`);
  await stored(log(ann.page), "said later 6").waitFor();
  await answer(ben.page, "and tea");
  const sign = log(ann.page).getByRole("button", { name: "1 new reply to ann-folds: who brings cake" });
  await sign.click();
  await eventually(() => hasFocus(stored(pane(ann.page), "and tea")), true);
  await ann.page.keyboard.press("Escape");
  await pane(ann.page).waitFor({ state: "detached" });

  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
}, 120_000);

test("if answers are folded, a link to one opens its thread, even if the first message is deleted", async () => {
  const ann = await stage.enter("ann-links");
  const ben = await stage.enter("ben-links", { replica: 1 });
  await say(ann.page, "who brings the music");
  await stored(log(ben.page), "who brings the music").waitFor();
  await act(log(ben.page), "who brings the music", "Start a thread");
  await answer(ben.page, "me again");
  await answer(ben.page, "and a friend");
  await stored(log(ann.page), "and a friend").waitFor();
  await ann.page.getByRole("button", { name: "Fold replies into threads" }).click();
  await stored(log(ann.page), "and a friend").waitFor({ state: "detached" });
  const seq = await stored(log(ben.page), "me again").getAttribute("data-seq");
  await ann.page.evaluate((to) => (location.hash = `#/room/0/${to}`), seq);
  await eventually(() => hasFocus(stored(pane(ann.page), "me again")), true);
  await pane(ann.page).getByRole("button", { name: "Close thread" }).click();
  await pane(ann.page).waitFor({ state: "detached" });
  await messageTo(ann.page, "General").waitFor();

  // The message that they answer is deleted; they stay.
  await act(log(ann.page), "who brings the music", "Delete message");
  await log(ann.page)
    .locator("[data-seq]")
    .filter({ hasText: "Message deleted" })
    .getByRole("button", { name: /^2 replies, last by ben-links at / })
    .click();
  await eventually(
    () => pane(ann.page).locator("ol").last().locator("[data-part=text]").allTextContents(),
    ["me again", "and a friend"],
  );
  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
}, 120_000);

test("on a phone a thread covers the conversation, and back closes it", async () => {
  const ann = await stage.enter("ann-phone", { hasTouch: true });
  await ann.page.setViewportSize({ width: 360, height: 740 });
  const ben = await stage.enter("ben-phone", { replica: 1 });
  await say(ann.page, "on my phone");
  await stored(log(ben.page), "on my phone").waitFor();
  await act(log(ben.page), "on my phone", "Start a thread");
  await answer(ben.page, "heard you");
  await log(ann.page)
    .getByRole("button", { name: /^1 reply, last by ben-phone at / })
    .tap();
  await stored(pane(ann.page), "heard you").waitFor();
  const box = await pane(ann.page).boundingBox();
  expect([box?.width, box?.height]).toEqual([360, 740]);
  expect(await ann.page.locator("main[inert]").count()).toBe(1);
  await answer(ann.page, "good");
  await stored(pane(ben.page), "good").waitFor();
  await pane(ann.page).getByRole("button", { name: "Back to the conversation" }).tap();
  await pane(ann.page).waitFor({ state: "detached" });
  await stored(log(ann.page), "good").waitFor();
  await eventually(() => ann.page.evaluate(() => document.activeElement === document.body), false);
}, 120_000);
