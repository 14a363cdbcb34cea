import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { both, person } from "../../server/src/testing.ts";
import { addressOf, eventually, message, messageTo, say, setStage, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

test("a person sees that another one is typing, until the message is sent", async () => {
  const ann = await stage.enter("ann-typing");
  const ben = await stage.enter("ben-typing", { replica: 1 });
  await messageTo(ann.page, "General").pressSequentially("I am");
  await ben.page.getByText("ann-typing is typing…").waitFor();
  expect(await ann.page.getByText("is typing…").count()).toBe(0);
  await say(ann.page, "I am here");
  await message(ben.page, "I am here").waitFor();
  await ben.page.getByText("ann-typing is typing…").waitFor({ state: "detached" });
});

/** Hovers over a message, and clicks one of its actions. */
async function act(page: Page, text: string, name: string): Promise<void> {
  // Only the message itself once it is stored, not a quote of it.
  const row = message(page, text).filter({
    has: page.locator("[data-seq] [data-part=text]").getByText(text, { exact: true }),
  });
  await row.hover();
  await page.getByRole("toolbar", { name: "Message actions" }).getByRole("button", { name }).click();
}

test("a message can be edited, also with Arrow Up, and Escape cancels the edit", async () => {
  const ann = await stage.enter("ann-edits");
  const ben = await stage.enter("ben-edits", { replica: 1 });
  await say(ann.page, "teh first");
  await message(ben.page, "teh first").waitFor();
  await act(ann.page, "teh first", "Edit message");
  const field = ann.page.getByRole("textbox", { name: "Edit message" });
  await field.fill("the first");
  await field.press("Enter");
  await message(ben.page, "the first").getByText("(edited)").waitFor();
  expect(await message(ben.page, "teh first").count()).toBe(0);
  await messageTo(ann.page, "General").press("ArrowUp");
  await eventually(() => field.inputValue(), "the first");
  await field.fill("something else");
  await field.press("Escape");
  await message(ann.page, "the first").waitFor();
  expect(await messageTo(ann.page, "General").evaluate((one) => one === document.activeElement)).toBe(true);
  // Nobody can edit another person's message.
  await message(ben.page, "the first").hover();
  await ben.page.getByRole("toolbar", { name: "Message actions" }).waitFor();
  expect(await ben.page.getByRole("button", { name: "Edit message" }).count()).toBe(0);
  // Arrow Up edits the last own one also if it is too far up to be in the page.
  const talker = await person(both(stage.house)[1], "talker-edits");
  await Promise.all(Array.from({ length: 140 }, (_, at) => talker.say("0", `later ${at}`)));
  await eventually(() => ann.page.getByRole("log").getByText("the first").count(), 0);
  await messageTo(ann.page, "General").press("ArrowUp");
  await eventually(() => field.evaluate((one) => one === document.activeElement), true);
  await field.press("Escape");
  talker.close();
});

test("what is typed right after Arrow Up goes into the edit, and none of it into the composer", async () => {
  const { page } = await stage.enter("quick-editor");
  await say(page, "stored");
  await page.locator("[data-part=body]").filter({ hasText: "storedSent" }).waitFor();
  // The state is shown at intervals: this change begins one.
  await messageTo(page, "General").press("x");
  const label = await messageTo(page, "General").evaluate(async (field) => {
    document.execCommand("delete");
    field.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true, cancelable: true }));
    await new Promise((done) => setTimeout(done));
    return document.activeElement?.getAttribute("aria-label");
  });
  expect(label).toBe("Edit message");
  await page.keyboard.type(" twice");
  await page.keyboard.press("Enter");
  await message(page, "stored twice").waitFor();
  expect(await messageTo(page, "General").inputValue()).toBe("");
});

test("a deletion is undone with a button, and with keys, before anybody has seen it", async () => {
  const ann = await stage.enter("ann-undoes");
  const ben = await stage.enter("ben-undoes", { replica: 1 });
  await say(ann.page, "think again");
  await message(ben.page, "think again").waitFor();
  const offer = ann.page.getByRole("alert").getByText("Message deleted.");
  for (const undo of [
    () => ann.page.getByRole("button", { name: "Undo", exact: true }).click(),
    () => ann.page.keyboard.press("ControlOrMeta+z"),
    async () => {
      const button = ann.page.getByRole("button", { name: "Undo", exact: true });
      for (let steps = 0; steps < 6; steps++) {
        await ann.page.keyboard.press("F6");
        if (await button.evaluate((one) => one === document.activeElement)) break;
      }
      await ann.page.keyboard.press("Enter");
    },
  ]) {
    await act(ann.page, "think again", "Delete message");
    await offer.waitFor();
    await ann.page.getByRole("log").getByText("Message deleted").waitFor();
    expect(await message(ann.page, "think again").count()).toBe(0);
    await undo();
    await message(ann.page, "think again").waitFor();
    await offer.waitFor({ state: "detached" });
  }
  await say(ann.page, "it stays");
  await message(ben.page, "it stays").waitFor();
  await message(ben.page, "think again").waitFor();
  expect(ben.frames.filter((frame) => frame.includes('"deleted"'))).toEqual([]);
});

test("a deleted message leaves a mark and no text, even if its page is left at once", async () => {
  const ann = await stage.enter("ann-deletes");
  const ben = await stage.enter("ben-deletes", { replica: 1 });
  await say(ann.page, "never mind this");
  await message(ben.page, "never mind this").waitFor();
  await act(ann.page, "never mind this", "Delete message");
  await ann.page.getByRole("alert").getByText("Message deleted.").waitFor();
  expect(await message(ben.page, "never mind this").count()).toBe(1);
  await ann.page.reload();
  for (const { page } of [ann, ben]) {
    await page.getByRole("log").getByText("Message deleted").last().waitFor();
    await eventually(async () => (await page.content()).includes("never mind this"), false);
  }
});

test("a deletion that could still be undone is carried out if its tab is closed or left, at the latest by the next page", async () => {
  const ann = await stage.enter("ann-closes");
  const ben = await stage.enter("ben-stays", { replica: 1 });
  // Routing would keep alive what a closing page sends, so these pages have connections of their own.
  const context = await stage.browser.newContext({ storageState: await ann.context.storageState() });
  await ann.context.close();
  const open = async () => {
    const page = await context.newPage();
    await page.goto(addressOf(stage.house, 0));
    await messageTo(page, "General").waitFor();
    return page;
  };
  const ways: Record<string, (page: Page) => Promise<unknown>> = {
    "closed too early": (page) => page.close(),
    "left too early": (page) => page.goto("about:blank"),
  };
  for (const [text, leave] of Object.entries(ways)) {
    const page = await open();
    await say(page, text);
    await message(ben.page, text).waitFor();
    await act(page, text, "Delete message");
    await page.getByRole("alert").getByText("Message deleted.").waitFor();
    expect(await message(ben.page, text).count()).toBe(1);
    await leave(page);
    // Browsers wait for a page that is closed, but not for long.
    const next = await open();
    await eventually(() => message(ben.page, text).count(), 0);
    await eventually(() => keptIn(next).then((kept) => kept.includes(text)), false);
    await next.close();
  }
});

/** All that the outbox has in this browser. */
function keptIn(page: Page): Promise<string> {
  return page.evaluate(
    () =>
      new Promise<string>((resolve, reject) => {
        const opening = indexedDB.open("hubbub");
        opening.addEventListener("error", () => reject(new Error("There is no outbox")));
        opening.addEventListener("success", () => {
          const rows = opening.result.transaction("outgoing").objectStore("outgoing").getAll();
          rows.addEventListener("success", () => {
            opening.result.close();
            resolve(JSON.stringify(rows.result));
          });
        });
      }),
  );
}

test("people react to a message, see who else did, and take a reaction back", async () => {
  const ann = await stage.enter("ann-reacts");
  const ben = await stage.enter("ben-reacts", { replica: 1 });
  await say(ann.page, "cake at four");
  await act(ben.page, "cake at four", "Add reaction");
  await ben.page.getByRole("button", { name: "React with 🎉" }).click();
  const seen = message(ann.page, "cake at four").getByRole("button", { name: "🎉 1: ben-reacts" });
  await seen.click();
  await message(ben.page, "cake at four").getByRole("button", { name: "🎉 2: you, ann-reacts" }).click();
  await message(ann.page, "cake at four").getByRole("button", { name: "🎉 1: you", exact: true }).waitFor();
});

test("an answer shows the present state of the message that it answers, and leads to it", async () => {
  const ann = await stage.enter("ann-replies");
  const ben = await stage.enter("ben-replies", { replica: 1 });
  await say(ann.page, "who is coming");
  await act(ben.page, "who is coming", "Reply");
  await ben.page.getByText("Replying to ann-replies: who is coming").waitFor();
  await say(ben.page, "me of course");
  const answer = message(ann.page, "me of course");
  await answer.getByRole("button", { name: "ann-replies who is coming" }).waitFor();
  await act(ann.page, "who is coming", "Edit message");
  const field = ann.page.getByRole("textbox", { name: "Edit message" });
  await field.fill("who is coming at four");
  await field.press("Enter");
  const quote = message(ben.page, "me of course").getByRole("button", { name: "who is coming at four" });
  await quote.click();
  await eventually(
    () => ben.page.evaluate(() => document.activeElement?.textContent?.includes("who is coming at four")),
    true,
  );
});

test("every action of a message works with keys, and after a long press", async () => {
  const ann = await stage.enter("ann-keys");
  await say(ann.page, "for the keys");
  // A message that is still on its way has no actions yet.
  await ann.page.locator("[data-seq]").filter({ hasText: "for the keys" }).waitFor();
  await ann.page.getByRole("log").focus();
  await ann.page.keyboard.press("Enter");
  await eventually(
    () => ann.page.evaluate(() => document.activeElement?.textContent?.includes("for the keys")),
    true,
  );
  // What a screen reader says of it: who, when and what.
  const spoken = await ann.page.getByRole("article").evaluateAll((all) =>
    all
      .filter((one) => one === document.activeElement)
      .flatMap((one) => (one.getAttribute("aria-describedby") ?? "").split(" "))
      .map((id) => document.getElementById(id)?.textContent),
  );
  expect(spoken.join(" ")).toMatch(/^ann-keys \d\d?:\d\d( [AP]M)? for the keys/);
  await ann.page.keyboard.press("Enter");
  await ann.page.getByRole("dialog").getByRole("button", { name: "Reply" }).press("Enter");
  await ann.page.getByText("Replying to").waitFor();
  await eventually(
    () => messageTo(ann.page, "General").evaluate((one) => one === document.activeElement),
    true,
  );
  await messageTo(ann.page, "General").press("Escape");
  // The bar that the keys are in stays although the mouse is elsewhere.
  const row = message(ann.page, "for the keys").locator("[data-seq]");
  await row.hover();
  await row.focus();
  const reaction = ann.page.getByRole("button", { name: "Add reaction" });
  await reaction.focus();
  await ann.page.mouse.move(5, 5);
  await ann.page.keyboard.press("ArrowRight");
  await ann.page.keyboard.press("ArrowLeft");
  expect(await reaction.evaluate((one) => one === document.activeElement)).toBe(true);
  await row.focus();
  await ann.page.keyboard.press("Enter");
  await ann.page.getByRole("dialog").getByRole("button", { name: "React with 👍" }).press("Enter");
  await message(ann.page, "for the keys").getByRole("button", { name: "👍 1: you" }).waitFor();
});

test("the reactions that are open stay when new messages move their row away from the mouse", async () => {
  const { page } = await stage.enter("ann-still");
  const writer = await person(both(stage.house)[1], "writer-below");
  await writer.say("0", "react to me");
  await message(page, "react to me").hover();
  const bar = page.getByRole("button", { name: "Add reaction" });
  await bar.click();
  const first = page.getByRole("group", { name: "Reactions" }).getByRole("button").first();
  await eventually(() => first.evaluate((one) => one === document.activeElement), true);
  for (const text of ["below it", "further below it", "far below it"]) await writer.say("0", text);
  const row = message(page, "react to me");
  await message(page, "far below it").waitFor();
  await eventually(() => row.evaluate((one) => one.matches(":hover")), false);
  await page.keyboard.press("Enter");
  await row.getByRole("button", { name: /1: you$/ }).waitFor();
  // With the choice made, only the focus of its row keeps the bar there.
  await eventually(() => row.locator("[data-seq]").evaluate((one) => one === document.activeElement), true);
  await page.keyboard.press("Escape");
  await eventually(() => row.locator("[role=toolbar]").count(), 0);
  writer.close();
});

test("a finger that rests on a message opens its actions, though it trembles, but not one that scrolls", async () => {
  const { page, context } = await stage.enter("ann-touch", { hasTouch: true });
  await say(page, "touch me");
  const row = page.locator("[data-seq]").filter({ hasText: "touch me" });
  await row.waitFor();
  const devtools = await context.newCDPSession(page);
  const box = await message(page, "touch me").getByText("touch me", { exact: true }).boundingBox();
  const press = async (steps: readonly number[]) => {
    const at = (moved: number) => [{ x: (box?.x ?? 0) + 9, y: (box?.y ?? 0) + 9 - moved }];
    await devtools.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: at(0) });
    for (const moved of steps)
      await devtools.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: at(moved) });
    await page.waitForTimeout(700);
    await devtools.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  };
  await press([8, 30]);
  expect(await page.getByRole("dialog").count()).toBe(0);
  await press([1, 3, 2]);
  await page.getByRole("dialog").getByRole("button", { name: "Reply" }).waitFor();
});

test("Arrow Up edits no earlier message while the last one is on its way", async () => {
  const { page, link } = await stage.enter("ann-hasty", { link: true });
  await say(page, "the earlier one");
  await message(page, "the earlier one").locator("[data-seq]").waitFor();
  link.cut();
  await say(page, "the last one");
  await message(page, "the last one").waitFor();
  await messageTo(page, "General").press("ArrowUp");
  await page.keyboard.type("goes on");
  expect(await messageTo(page, "General").inputValue()).toBe("goes on");
  expect(await page.getByRole("textbox", { name: "Edit message" }).count()).toBe(0);
  await link.mend();
  await message(page, "the last one").locator("[data-seq]").waitFor();
  await messageTo(page, "General").fill("");
  await page.keyboard.press("ArrowUp");
  await eventually(() => page.getByRole("textbox", { name: "Edit message" }).inputValue(), "the last one");
});

test("a finger that rests in the field of an edit places the caret, and opens no actions", async () => {
  const { page, context } = await stage.enter("ann-caret", { hasTouch: true });
  await say(page, "paste into me");
  await message(page, "paste into me").locator("[data-seq]").waitFor();
  await messageTo(page, "General").press("ArrowUp");
  const field = page.getByRole("textbox", { name: "Edit message" });
  const { x = 0, y = 0 } = (await field.boundingBox()) ?? {};
  const devtools = await context.newCDPSession(page);
  const press = async (...touchPoints: { x: number; y: number }[]) => {
    await devtools.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints });
    await page.waitForTimeout(700);
    await devtools.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  };
  await press({ x: x + 9, y: y + 9 });
  expect(await page.getByRole("dialog").count()).toBe(0);
  await field.press("Escape");
  await press({ x: x + 9, y: y + 9 });
  await page.getByRole("dialog").getByRole("button", { name: "Reply" }).waitFor();
});

test("a row keeps the focus however far its reader scrolls, and an edit that is out of sight keeps the keys", async () => {
  const talker = await person(both(stage.house)[1], "talker-far");
  const { page } = await stage.enter("ann-far");
  const { body } = await talker.browser.post<{ id: string }>("/api/rooms", { name: "Far" });
  for (let from = 0; from < 480; from += 80)
    await Promise.all(Array.from({ length: 80 }, (_, at) => talker.say(body.id, `line ${from + at}`)));
  await page.evaluate((roomId) => (location.hash = `#/room/${roomId}`), body.id);
  await page.getByRole("button", { name: "Join this room" }).click();
  await say(page, "my word");
  await message(page, "my word").locator("[data-seq]").waitFor();
  const composer = messageTo(page, "Far");
  const scrollUp = async () => {
    const top = page.getByRole("log").getByText("line 20", { exact: true });
    while ((await top.count()) === 0) await page.getByRole("log").evaluate((log) => (log.scrollTop -= 900));
  };
  await composer.press("ArrowUp");
  await page.getByRole("textbox", { name: "Edit message" }).waitFor();
  await page.keyboard.type(" and");
  await scrollUp();
  await page.keyboard.type(" more");
  expect(await composer.inputValue()).toBe("");
  await eventually(async () => (await page.locator("#conversation [data-seq]").count()) <= 360, true);
  await page.keyboard.press("Enter");
  await message(page, "my word and more").getByText("(edited)").waitFor();
  // Without an edit or a row with the focus the page stays small.
  await scrollUp();
  expect(await page.locator("#conversation [data-seq]").count()).toBeLessThan(400);
  const row = page.locator("#conversation [data-seq]").last();
  const seq = await row.getAttribute("data-seq");
  await row.focus();
  await page.getByRole("log").evaluate((log) => (log.scrollTop = log.scrollHeight));
  await message(page, "my word and more").waitFor();
  await page.getByRole("log").evaluate((log) => (log.scrollTop = log.scrollHeight));
  expect(await page.evaluate(() => document.activeElement?.getAttribute("data-seq"))).toBe(seq);
  talker.close();
});

test("what is typed into an edit that ends elsewhere is sent nowhere, and the end is told", async () => {
  const owner = await person(both(stage.house)[1], "owner-ends");
  const { body } = await owner.browser.post<{ id: string }>("/api/rooms", { name: "Ends" });
  const { page, context } = await stage.enter("ann-ends");
  await page.evaluate((roomId) => (location.hash = `#/room/${roomId}`), body.id);
  await page.getByRole("button", { name: "Join this room" }).click();
  await messageTo(page, "Ends").waitFor();
  const other = await context.newPage();
  await other.goto(page.url());
  const field = (on: Page) => on.getByRole("textbox", { name: "Edit message" });
  for (const [text, end] of [
    ["one", () => field(other).press("Escape")],
    ["two", () => owner.socket.emitWithAck("message.delete", { roomId: body.id, seq: 2 })],
  ] as const) {
    await say(page, text);
    await message(page, text).locator("[data-seq]").waitFor();
    await message(other, text).waitFor();
    await messageTo(page, "Ends").press("ArrowUp");
    await field(page).waitFor();
    await page.keyboard.type(" and mo");
    await eventually(() => field(other).inputValue(), `${text} and mo`);
    await end();
    await field(page).waitFor({ state: "detached" });
    await page.keyboard.type("re");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").getByText("Your edit has ended").waitFor();
    expect(await messageTo(page, "Ends").inputValue()).toBe("");
    expect(await page.getByRole("dialog").count()).toBe(0);
    // Whoever goes on by themselves writes to the room again.
    await page.keyboard.press("Escape");
    await page.keyboard.type("typed on");
    await eventually(() => messageTo(page, "Ends").inputValue(), "typed on");
    await messageTo(page, "Ends").fill("");
  }
  const left = () => page.evaluate(() => Object.keys(localStorage).filter((key) => key.includes("change")));
  await eventually(left, []);
  owner.close();
});
