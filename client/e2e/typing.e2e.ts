import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person, type Person } from "../../server/src/testing.ts";
import { eventually, message, messageTo, PASSWORD, say, setStage, shownTexts, type Stage } from "./stage.ts";

let stage: Stage;
let talker: Person;

beforeAll(async () => {
  stage = await setStage(2);
  talker = await person(both(stage.house)[1], "talker");
  for (let number = 0; number < 60; number++) await talker.say("0", `old ${number}`);
});

afterAll(async () => {
  talker.close();
  await stage.close();
});

const composer = (page: Page) => page.getByRole("textbox", { name: /^Message to / });
const focused = (page: Page) =>
  page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.tagName);
const stored = (page: Page) => page.evaluate(() => Object.values(localStorage).join("\n"));

test("a failed message is edited in its place if the composer has a draft, and neither is lost", async () => {
  const { page, link } = await stage.enter("ann", { link: true });
  link.garble("went wrong");
  await say(page, "went wrong");
  const failed = page.locator("[data-state=failed]");
  await failed.waitFor();
  await composer(page).fill("a new thought");
  await failed.getByRole("button", { name: "Edit" }).click();
  const edit = page.getByRole("textbox", { name: "Message that was not sent" });
  await eventually(() => focused(page), "Message that was not sent");
  expect([await composer(page).inputValue(), await edit.inputValue()]).toEqual([
    "a new thought",
    "went wrong",
  ]);
  await edit.fill("went better");
  await page.reload();
  await eventually(() => edit.inputValue(), "went better");
  await eventually(() => composer(page).inputValue(), "a new thought");
  await edit.press("Enter");
  await eventually(() => message(page, "went better").locator("[data-state=sent]").count(), 1);
  await eventually(() => focused(page), "Message to General");
  expect(await composer(page).inputValue()).toBe("a new thought");
  const texts = await shownTexts(page);
  expect(texts.filter((text) => text.startsWith("went"))).toEqual(["went better"]);
  expect(await stored(page)).not.toContain("went");
});

test("two windows of a room share the draft: it is sent once, and emptied in both", async () => {
  const { page, context } = await stage.enter("ben");
  const other = await context.newPage();
  await other.goto(page.url());
  await messageTo(other, "General").waitFor();
  await composer(page).fill("said once");
  await eventually(() => composer(other).inputValue(), "said once");
  await composer(other).press("Enter");
  await message(page, "said once").waitFor();
  await eventually(() => composer(page).inputValue(), "");
  await composer(page).press("Enter");

  await composer(page).fill("the other");
  await eventually(() => composer(other).inputValue(), "the other");
  await composer(other).fill("the other goes on");
  await eventually(() => composer(page).inputValue(), "the other goes on");
  await page.reload();
  await eventually(() => composer(page).inputValue(), "the other goes on");
  // Press Enter in both at the same time.
  await Promise.all([composer(page).press("Enter"), composer(other).press("Enter")]);
  await message(other, "the other goes on").first().waitFor();
  await say(other, "and done");
  await message(page, "and done").waitFor();
  await eventually(
    async () => (await shownTexts(page)).slice(-3),
    ["said once", "the other goes on", "and done"],
  );
});

test("log-out removes all drafts in every window; the end of a session keeps them for the same user", async () => {
  const { page, context } = await stage.enter("cat");
  const other = await context.newPage();
  await other.goto(page.url());
  await messageTo(other, "General").waitFor();
  for (let round = 0; round < 4; round++) {
    await composer(page).fill(`not for others ${round}`);
    await eventually(() => composer(other).inputValue(), `not for others ${round}`);
    await page.getByRole("button", { name: "Log out" }).click();
    for (const one of [page, other]) await one.getByRole("heading", { name: "Welcome back" }).waitFor();
    expect(await stored(page)).not.toContain("not for others");
    await page.getByLabel("Username").fill("cat");
    await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await messageTo(page, "General").waitFor();
    expect(await composer(page).inputValue()).toBe("");
    await other.reload();
    await messageTo(other, "General").waitFor();
  }
  await other.close();
  await composer(page).fill("to be gone on with");
  // The session is ended elsewhere.
  const { redis, keys } = stage.house;
  const id = await page.evaluate(async () => ((await (await fetch("/api/me")).json()) as { id: string }).id);
  expect(id).toMatch(/^\d+$/);
  const sessions = await redis.keys(`${keys.sessionPrefix}*`);
  for (const key of sessions) if ((await redis.get(key))?.includes(`"${id}"`)) await redis.del(key);
  await page.reload();
  await page.getByRole("heading", { name: "Welcome back" }).waitFor();
  await page.getByLabel("Username").fill("cat");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await messageTo(page, "General").waitFor();
  await eventually(() => composer(page).inputValue(), "to be gone on with");
});

test("the end of a session is announced where the focus is, with the name filled in", async () => {
  const { page, context } = await stage.enter("dan");
  const other = await context.newPage();
  await other.goto(page.url());
  await messageTo(other, "General").waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await other.getByRole("alert").getByText("Your session has ended.").waitFor();
  await eventually(() => other.getByLabel("Username").inputValue(), "dan");
  await eventually(() => other.evaluate(() => document.activeElement?.getAttribute("name")), "password");
});

test("line ends after the text are not part of it, and only Enter without modifiers sends", async () => {
  const { page } = await stage.enter("eve");
  await composer(page).pressSequentially("  one");
  for (const keys of ["Alt+Enter", "Control+Enter", "Shift+Enter"]) {
    await page.keyboard.press(keys);
    await page.keyboard.type("x");
  }
  expect(await composer(page).inputValue()).toBe("  one\nx\nx\nx");
  for (let count = 0; count < 6; count++) await page.keyboard.press("Shift+Enter");
  await page.keyboard.type(" ");
  await page.keyboard.press("Enter");
  await eventually(async () => (await shownTexts(page)).at(-1), "  one\nx\nx\nx");
  for (const blank of ["\u200B", "\u2800", "\u0007", " \n\u00AD"]) {
    await composer(page).fill(blank);
    await page.keyboard.press("Enter");
    expect(await composer(page).inputValue()).toBe(blank);
  }
  // In Safari the key that ends a composition comes after it.
  await composer(page).fill("変換");
  await composer(page).evaluate((area) => {
    area.dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true }),
    );
  });
  expect(await composer(page).inputValue()).toBe("変換");
  await page.keyboard.press("Control+k");
  await page.keyboard.type("talker");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("option", { name: /^talker/ }).waitFor();
  await dialog.getByRole("combobox").evaluate(async (field) => {
    field.dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true }),
    );
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  });
  expect(await dialog.count()).toBe(1);
  await page.keyboard.press("Enter");
  await messageTo(page, "talker").waitFor();
});

test("the focus is always where the user continues, and typed text reaches the composer", async () => {
  const { page } = await stage.enter("fay");
  await message(page, "old 59").waitFor();
  await page.getByRole("log").evaluate((log) => (log.scrollTop -= 900));
  await page.getByRole("button", { name: "Jump to latest" }).click();
  await eventually(() => focused(page), "Message to General");
  await composer(page).fill("twice clicked");
  await page.getByRole("button", { name: "Send message" }).dblclick();
  await message(page, "twice clicked").waitFor();
  expect(await focused(page)).toBe("Message to General");
  await message(page, "twice clicked").click();
  await page.keyboard.type("typed");
  expect(await composer(page).inputValue()).toBe("typed");
  await page.getByRole("button", { name: /^Theme/ }).click();
  await page.keyboard.type(" anywhere");
  expect(await composer(page).inputValue()).toBe("typedanywhere");
  const below = () =>
    page.getByRole("log").evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  await page.keyboard.press("PageUp");
  await expect.poll(below).toBeGreaterThan(100);
  await page.keyboard.press("PageDown");
  await expect.poll(below).toBeLessThan(2);

  await page.getByRole("button", { name: "New direct message" }).click();
  const dialog = page.getByRole("dialog", { name: "People" });
  await dialog.waitFor();
  await page.keyboard.type("talk");
  await eventually(() => dialog.getByRole("searchbox").inputValue(), "talk");
  // The first Escape empties the search.
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await eventually(() => focused(page), "New direct message");
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(["x"], "x.png", { type: "image/png" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  });
  // A file that is pasted anywhere goes to the message.
  await page.getByRole("list", { name: "Files to send" }).getByText("x.png").waitFor();
  const dropped = await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["x"], "x.png", { type: "image/png" }));
    const told = (type: string) =>
      document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
    return [told("dragover"), told("drop")];
  });
  expect(dropped).toEqual([false, false]);
});

test("of a text that is far too long only what can be seen is drawn twice, and the field is as high as it can be", async () => {
  const { page } = await stage.enter("long");
  const heightOf = () => composer(page).evaluate((one) => one.clientHeight);
  await composer(page).fill("lorem ipsum dolor ".repeat(1_000));
  const height = await heightOf();
  await composer(page).fill("lorem ipsum dolor ".repeat(20_000));
  expect(await heightOf()).toBe(height);
  const drawn = await composer(page).evaluate((one) => one.parentElement?.dataset["text"]?.length);
  expect(drawn).toBe(20_000);
});

test("an overlay closes on back, and no key reaches the page below", async () => {
  const options = { viewport: { width: 360, height: 740 } };
  const { page } = await stage.enter("gus");
  await page.setViewportSize(options.viewport);
  const inRoom = page.url();
  await page.getByRole("button", { name: "People" }).click();
  await page.getByRole("dialog", { name: "People" }).waitFor();
  await page.goBack();
  await eventually(() => page.getByRole("dialog").count(), 0);
  expect(page.url()).toBe(inRoom);
  await messageTo(page, "General").waitFor();

  await page.getByRole("button", { name: "People" }).click();
  const talk = page.getByRole("dialog").getByRole("button", { name: "talker" });
  await talk.click();
  await messageTo(page, "talker").waitFor();
  await page.goBack();
  await messageTo(page, "General").waitFor();
  expect(page.url()).toBe(inRoom);

  await page.setViewportSize({ width: 1200, height: 740 });
  await page.getByRole("button", { name: "New room" }).click();
  await page.keyboard.type("Plans");
  await page.keyboard.press("Alt+ArrowDown");
  await page.keyboard.press("Control+k");
  await eventually(() => page.getByRole("dialog").count(), 1);
  expect(await page.getByLabel("Name").inputValue()).toBe("Plans");
  expect(page.url()).toBe(inRoom);
  await page.keyboard.press("Escape");
  await eventually(() => page.getByRole("dialog").count(), 0);
  // If the user closes it, it leaves no history step.
  await page.getByRole("button", { name: "Browse rooms" }).click();
  await page.getByRole("dialog", { name: "Browse rooms" }).getByRole("button", { name: "New room" }).click();
  await page.getByRole("dialog", { name: "New room" }).waitFor();
  await page.goBack();
  await eventually(() => page.getByRole("dialog").count(), 0);
  expect(page.url()).toBe(inRoom);
});
