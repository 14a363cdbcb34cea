import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, message, messageTo, say, setStage, promote, type Actor, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(1);
});

afterAll(() => stage.close());

const tab = (page: Page, name: string) => page.getByRole("tab", { name, exact: true }).click();
const save = (page: Page) => page.getByRole("dialog").getByRole("button", { name: "Save" }).click();

/** Holds the page's requests of these addresses, those that write, until they are let go, the newest first. */
async function hold(page: Page, address: RegExp, reads = false) {
  const held: (() => void)[] = [];
  const bodies: unknown[] = [];
  await page.route(address, async (route) => {
    const request = route.request();
    if ((request.method() === "GET") === reads) {
      bodies.push(request.postDataJSON());
      await new Promise<void>((go) => held.push(go));
    }
    await route.continue();
  });
  return {
    bodies,
    begun: (count: number) => eventually(() => held.length, count),
    next: () => held.pop()?.(),
  };
}

async function openRoom(page: Page, name: string): Promise<void> {
  await page.getByRole("button", { name: "New room" }).click();
  await page.getByLabel("Name").fill(name);
  await page.keyboard.press("Enter");
  await messageTo(page, name).waitFor();
}

/** Another page of the same browser. */
async function another({ page, context }: Actor): Promise<Page> {
  const other = await context.newPage();
  await other.goto(page.url());
  await messageTo(other, "General").waitFor();
  return other;
}

test("what is typed while Save waits for its answer stays, in every form that is saved", async () => {
  const ann = await stage.enter("ann-forms");
  await promote(stage.house, ann);
  const { page } = ann;
  const dialog = page.getByRole("dialog");
  const held = await hold(page, /\/api\/(me|admin\/settings|rooms\/\d+)$/);
  const answered = async (words: string) => {
    held.next();
    await dialog.getByText(words).waitFor();
    await dialog.getByRole("button", { name: "Save" }).and(page.locator(":not([aria-busy])")).waitFor();
  };

  await page.getByRole("button", { name: /^Your account/ }).click();
  const name = dialog.getByLabel("Display name");
  await name.fill("Ann Lee ");
  await save(page);
  await held.begun(1);
  await name.fill("Ann Lee Better");
  await answered("You are shown as Ann Lee.");
  expect(await name.inputValue()).toBe("Ann Lee Better");
  await name.fill(" Ann Lea ");
  await save(page);
  await held.begun(1);
  await answered("You are shown as Ann Lea.");
  expect(await name.inputValue()).toBe("Ann Lea");
  await page.keyboard.press("Escape");

  await openRoom(page, "Forms");
  await page.getByRole("button", { name: "Room details" }).click();
  await tab(page, "Settings");
  await dialog.getByLabel("Name").fill("Forms two");
  await save(page);
  await held.begun(1);
  await dialog.getByLabel("Topic").fill("A topic that took a while");
  await answered("The settings are saved.");
  expect(await dialog.getByLabel("Topic").inputValue()).toBe("A topic that took a while");
  expect(await dialog.getByLabel("Name").inputValue()).toBe("Forms two");
  await page.keyboard.press("Escape");

  await page.getByRole("button", { name: "Administration" }).click();
  await tab(page, "Settings");
  const words = dialog.getByLabel("Filtered words, one on each line");
  await words.fill("rhubarb");
  await save(page);
  await held.begun(1);
  await words.fill("rhubarb\ncelery");
  await answered("The settings are saved.");
  expect(await words.inputValue()).toBe("rhubarb\ncelery");
  await dialog.getByText("The settings are saved.").waitFor({ state: "detached" });
  await save(page);
  await held.begun(1);
  await answered("The settings are saved.");
  const kept = await page.request.get(new URL("/api/admin/settings", page.url()).href);
  expect(((await kept.json()) as { words: string[] }).words).toEqual(["rhubarb", "celery"]);
}, 120_000);

test("whoever presses the button of a form goes on in the field that it refuses", async () => {
  const { page } = await stage.enter("corrects");
  await page.getByRole("button", { name: "New room" }).click();
  await page.getByRole("button", { name: "Create room" }).press("Enter");
  await page.getByText("Give the room a name.").waitFor();
  await page.keyboard.type("Attic");
  await page.keyboard.press("Enter");
  await messageTo(page, "Attic").waitFor();
});

test("a display name that was changed in another window is shown in a form that is open, whose Save leaves it alone", async () => {
  const ben = await stage.enter("ben-forms");
  const { page } = ben;
  const other = await another(ben);
  for (const one of [page, other]) await one.getByRole("button", { name: /^Your account/ }).click();
  await other.getByLabel("Display name").fill("Ben Lee");
  await save(other);
  await eventually(() => page.getByLabel("Display name").inputValue(), "Ben Lee");
  await save(page);
  await page.getByText("You are shown as Ben Lee.").waitFor();
  await page.reload();
  await page.getByRole("button", { name: "Your account: Ben Lee" }).waitFor();
}, 60_000);

test("two windows show one description of an image that is to be sent, the one that was typed last", async () => {
  const cleo = await stage.enter("cleo-forms");
  const { page } = cleo;
  const other = await another(cleo);
  const buffer = Buffer.from("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", "base64");
  await page
    .locator("main input[type=file]")
    .setInputFiles([{ name: "dot.gif", mimeType: "image/gif", buffer }]);
  const fields = [page, other].map((one) => one.getByLabel("Description of dot.gif"));
  const [here, there] = [fields[0], fields[1]];
  await here?.pressSequentially("a dark");
  await eventually(() => there?.inputValue(), "a dark");
  await there?.press("End");
  await there?.pressSequentially(" dot");
  await eventually(() => here?.inputValue(), "a dark dot");
  await here?.fill("");
  await eventually(() => there?.inputValue(), "");
}, 60_000);

test("back closes a dialog also after the page was loaded anew with another one open", async () => {
  const dan = await stage.enter("dan-forms");
  const { page } = dan;
  const dialog = page.getByRole("dialog");
  await page.getByRole("button", { name: "New room" }).click();
  await dialog.waitFor();
  await page.reload();
  await page.getByRole("button", { name: /^Your account/ }).click();
  await dialog.waitFor();
  await page.goBack();
  await dialog.waitFor({ state: "detached" });
  await messageTo(page, "General").waitFor();
}, 60_000);

test("each part of a dialog that could not be read offers to try again, and the focus stays in the dialog", async () => {
  const eve = await stage.enter("eve-forms");
  await promote(stage.house, eve);
  const { page } = eve;
  const dialog = page.getByRole("dialog");
  await openRoom(page, "Failing");
  const again = dialog.getByRole("button", { name: "Try again" });
  const reads = /\/api\/(rooms\/\d+\/(members|audit|invites|reports)|me\/sessions|admin\/(settings|stats))/;

  async function fails(name: string, shown: string) {
    await page.route(reads, (route) => route.abort());
    await tab(page, name);
    await again.waitFor();
    await again.press("Enter");
    await dialog.getByRole("button", { name: "Try again" }).and(page.locator(":not([aria-busy])")).waitFor();
    expect(await again.evaluate((button) => button === document.activeElement)).toBe(true);
    await page.unroute(reads);
    await again.press("Enter");
    await dialog.getByText(shown).first().waitFor();
    await again.waitFor({ state: "detached" });
    expect(await page.evaluate(() => document.activeElement?.closest("dialog") !== null)).toBe(true);
  }

  await page.getByRole("button", { name: "Room details" }).click();
  await tab(page, "Settings");
  await fails("Members", "eve-forms");
  await fails("Invites", "There are no invite links.");
  await fails("Reports", "Nobody has reported a message here.");
  await fails("Log", "Nothing has been done here yet.");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: /^Your account/ }).click();
  await fails("Sessions", "this one");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Administration" }).click();
  await fails("Settings", "Who can sign up");
  await fails("Numbers", "Online now");
}, 120_000);

test("of choices for a room that are made one after another the last one counts, whichever answer comes first", async () => {
  const fay = await stage.enter("fay-forms");
  const { page } = fay;
  const dialog = page.getByRole("dialog");
  const held = await hold(page, /\/notifications$/);
  const open = () => page.getByRole("main").getByRole("button", { name: "Notifications" }).click();
  const choice = (name: RegExp) => dialog.getByRole("radio", { name });
  await open();
  await choice(/^Nothing/).click();
  await choice(/^Mentions/).click();
  await choice(/^All/).click();
  await page.keyboard.press("Escape");
  await open();
  await choice(/^Nothing/).click();
  await held.begun(1);
  held.next();
  await held.begun(1);
  held.next();
  await eventually(
    () => page.locator("header [aria-label=Notifications]").getAttribute("aria-disabled"),
    null,
  );
  expect(held.bodies).toEqual([{ level: "nothing" }, { level: "nothing" }]);
  expect(await choice(/^Nothing/).isChecked()).toBe(true);
}, 60_000);

test("only of the last choice for a room its user is told that it failed", async () => {
  const { page } = await stage.enter("hob-forms");
  const dialog = page.getByRole("dialog");
  let failures = 1;
  const held: (() => void)[] = [];
  await page.route(/\/notifications$/, async (route) => {
    await new Promise<void>((go) => held.push(go));
    await (failures-- > 0 ? route.abort() : route.continue());
  });
  const next = async () => {
    await eventually(() => held.length, 1);
    held.pop()?.();
  };
  await page.getByRole("main").getByRole("button", { name: "Notifications" }).click();
  const choice = (name: RegExp) => dialog.getByRole("radio", { name });
  await choice(/^Nothing/).click();
  await choice(/^Mentions/).click();
  await next();
  await next();
  await page.getByRole("main").locator("[aria-label=Notifications]").waitFor();
  await eventually(
    () =>
      page.evaluate(() => fetch("/api/rooms").then(async (answer) => JSON.stringify(await answer.json()))),
    expect.stringContaining(`"notify":"mentions"`) as string,
  );
  expect(await choice(/^Mentions/).isChecked()).toBe(true);
  expect(await dialog.getByRole("alert").filter({ hasText: /\S/ }).count()).toBe(0);
  failures = 1;
  await choice(/^Nothing/).click();
  await next();
  await dialog.getByRole("alert").filter({ hasText: "The server does not answer." }).waitFor();
  expect(await choice(/^Mentions/).isChecked()).toBe(true);
}, 60_000);

test("whoever folds replies or jumps to a day sees that it is under way, and another press does nothing", async () => {
  const gil = await stage.enter("gil-forms");
  const { page } = gil;
  await say(page, "the first word");
  await message(page, "the first word").waitFor();
  const fold = page.getByRole("button", { name: "Fold replies into threads" });
  const view = await hold(page, /\/view$/);
  await fold.click();
  await view.begun(1);
  await eventually(() => fold.getAttribute("aria-busy"), "true");
  await fold.press("Enter");
  view.next();
  await eventually(() => fold.getAttribute("aria-busy"), null);
  expect(view.bodies).toEqual([{ folded: true }]);
  expect(await fold.getAttribute("aria-pressed")).toBe("true");

  await page.getByRole("log").getByRole("button", { name: /Today/ }).click();
  const dialog = page.getByRole("dialog", { name: "Jump to a day" });
  const pages = await hold(page, /messages\?.*at=/, true);
  const jump = dialog.getByRole("button", { name: "Jump" });
  await jump.click();
  await pages.begun(1);
  expect(await jump.getAttribute("aria-busy")).toBe("true");
  await dialog.getByLabel("Day").press("Enter");
  await dialog.getByRole("button", { name: "The beginning" }).click({ force: true });
  pages.next();
  await dialog.waitFor({ state: "detached" });
  expect(pages.bodies.length).toBe(1);
}, 60_000);
