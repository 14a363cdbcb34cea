import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { eventually, message, messageTo, say, setStage, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

test("who writes is seen to write by the other one, until it is said", async () => {
  const ann = await stage.enter("ann-typing");
  const ben = await stage.enter("ben-typing", { replica: 1 });
  await messageTo(ann.page, "General").pressSequentially("I am");
  await ben.page.getByText("ann-typing is typing…").waitFor();
  expect(await ann.page.getByText("is typing…").count()).toBe(0);
  await say(ann.page, "I am here");
  await message(ben.page, "I am here").waitFor();
  await ben.page.getByText("ann-typing is typing…").waitFor({ state: "detached" });
  await ann.context.close();
  await ben.context.close();
});

/** Lets the pointer rest on a message, and presses what can be done with it. */
async function act(page: Page, text: string, name: string): Promise<void> {
  // Not where it is quoted, nor while it is on its way.
  const row = message(page, text).filter({
    has: page.locator("[data-seq] [data-part=text]").getByText(text, { exact: true }),
  });
  await row.hover();
  await page.getByRole("toolbar", { name: "Message actions" }).getByRole("button", { name }).click();
}

test("a message is edited, by the arrow up too, and given up with Escape", async () => {
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
  // Nobody edits what somebody else has said.
  await message(ben.page, "the first").hover();
  await ben.page.getByRole("toolbar", { name: "Message actions" }).waitFor();
  expect(await ben.page.getByRole("button", { name: "Edit message" }).count()).toBe(0);
  for (const { context } of [ann, ben]) await context.close();
});

test("a message that is deleted leaves a sign and no text", async () => {
  const ann = await stage.enter("ann-deletes");
  const ben = await stage.enter("ben-deletes", { replica: 1 });
  await say(ann.page, "never mind this");
  await message(ben.page, "never mind this").waitFor();
  await act(ann.page, "never mind this", "Delete message");
  await ann.page.getByRole("dialog").getByRole("button", { name: "Delete message" }).click();
  for (const { page } of [ann, ben]) {
    await page.getByRole("log").getByText("Message deleted").last().waitFor();
    await eventually(async () => (await page.content()).includes("never mind this"), false);
  }
  for (const { context } of [ann, ben]) await context.close();
});

test("people react to a message, see who did, and take it back", async () => {
  const ann = await stage.enter("ann-reacts");
  const ben = await stage.enter("ben-reacts", { replica: 1 });
  await say(ann.page, "cake at four");
  await act(ben.page, "cake at four", "Add reaction");
  await ben.page.getByRole("button", { name: "React with 🎉" }).click();
  const seen = message(ann.page, "cake at four").getByRole("button", { name: "🎉 1: ben-reacts" });
  await seen.click();
  await message(ben.page, "cake at four").getByRole("button", { name: "🎉 2: you, ann-reacts" }).click();
  await message(ann.page, "cake at four").getByRole("button", { name: "🎉 1: you", exact: true }).waitFor();
  for (const { context } of [ann, ben]) await context.close();
});

test("an answer shows what it answers, as that is now, and leads to it", async () => {
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
  for (const { context } of [ann, ben]) await context.close();
});

test("everything that can be done with a message is done with keys, and by a long press", async () => {
  const ann = await stage.enter("ann-keys");
  await say(ann.page, "for the keys");
  // One that is still on its way cannot be acted on yet.
  await ann.page.locator("[data-seq]").filter({ hasText: "for the keys" }).waitFor();
  await ann.page.getByRole("log").focus();
  await ann.page.keyboard.press("Enter");
  await eventually(
    () => ann.page.evaluate(() => document.activeElement?.textContent?.includes("for the keys")),
    true,
  );
  await ann.page.keyboard.press("Enter");
  await ann.page.getByRole("dialog").getByRole("button", { name: "React with 👍" }).press("Enter");
  await message(ann.page, "for the keys").getByRole("button", { name: "👍 1: you" }).waitFor();
  await ann.context.close();
});
