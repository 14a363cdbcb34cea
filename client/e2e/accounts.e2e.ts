import { resolve } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newServer } from "../../server/src/testing.ts";
import {
  addressOf,
  createRoom,
  eventually,
  faultsIn,
  message,
  messageTo,
  openPage,
  PASSWORD,
  room,
  say,
  setStage,
  signUp,
  talkTo,
  promote,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

const OPTIONS = { bypassCSP: true, reducedMotion: "reduce" } as const;
const NEW_PASSWORD = "a horse of another colour";

const tab = (page: Page, name: string) => page.getByRole("tab", { name, exact: true }).click();

async function logIn(page: Page, name: string, password: string) {
  await page.getByLabel("Username").fill(name);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await messageTo(page, "General").waitFor();
}

test("somebody gets a display name and another password, ends their other sessions, and deletes their account", async () => {
  const ann = await stage.enter("ann-account", OPTIONS);
  const ben = await stage.enter("ben-account", { replica: 1 });
  const other = await openPage(stage.browser, addressOf(stage.house, 1), "ann-account", OPTIONS);
  await logIn(other.page, "ann-account", PASSWORD);
  const { page } = ann;
  await say(page, "said by ann");
  await message(ben.page, "said by ann").waitFor();

  await page.getByRole("button", { name: /^Your account/ }).click();
  const dialog = page.getByRole("dialog", { name: "Your account" });
  const name = dialog.getByLabel("Display name");
  await name.fill("Ben-Account");
  await name.press("Enter");
  await dialog.getByText("This name looks like somebody else's. Take another one.").waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await name.fill("Ann of Green Gables");
  await name.press("Enter");
  await dialog.getByText("You are shown as Ann of Green Gables.").waitFor();
  for (const one of [page, other.page, ben.page])
    await message(one, "said by ann").getByText("Ann of Green Gables", { exact: true }).first().waitFor();
  await ben.page
    .getByRole("complementary", { name: "People" })
    .getByText("Ann of Green Gables @ann-account")
    .waitFor();

  await tab(page, "Password");
  await dialog.getByLabel("Present password", { exact: true }).fill("not my password");
  await dialog.getByLabel("New password", { exact: true }).fill(NEW_PASSWORD);
  await dialog.getByRole("button", { name: "Change password" }).click();
  await dialog.getByText("This is not your password.").waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByLabel("Present password", { exact: true }).fill(PASSWORD);
  await dialog.getByRole("button", { name: "Change password" }).click();
  await dialog.getByText("Your password is changed, and your other sessions have ended.").waitFor();
  await other.page.getByText("Your session has ended. Please log in again.").waitFor();

  await logIn(other.page, "ann-account", NEW_PASSWORD);
  await tab(page, "Sessions");
  const sessions = dialog.getByRole("list", { name: "Sessions" }).getByRole("listitem");
  await dialog.getByText("this one").waitFor();
  expect(await sessions.count()).toBe(2);
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByRole("button", { name: /^End the session on Chrome/ }).click();
  await dialog.getByText("The session has ended.").waitFor();
  await other.page.getByText("Your session has ended. Please log in again.").waitFor();
  expect(await sessions.count()).toBe(1);
  // Nothing is left to end, and the focus is not lost.
  await eventually(() => page.evaluate(() => document.activeElement?.getAttribute("role")), "tabpanel");

  await talkTo(ben.page, "Ann of Green Gables");
  const direct = new URL(ben.page.url()).hash;
  await room(ben.page, "General").click();

  await tab(page, "Data");
  const download = page.waitForEvent("download");
  await dialog.getByRole("link", { name: "Download my data" }).click();
  expect((await download).suggestedFilename()).toBe("hubbub.json");
  await dialog.getByRole("button", { name: "Delete my account…" }).click();
  await dialog.getByRole("radio", { name: /^Delete my messages/ }).check();
  await page.setViewportSize({ width: 360, height: 740 });
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBe(0);
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByLabel("Your password", { exact: true }).fill(PASSWORD);
  await page.keyboard.press("Enter");
  await dialog.getByText("This is not your password.").waitFor();
  await dialog.getByLabel("Your password", { exact: true }).fill(NEW_PASSWORD);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Welcome back" }).waitFor();
  await ben.page.getByText("Message deleted").first().waitFor();
  await ben.page.evaluate((hash) => (location.hash = hash), direct);
  await ben.page.getByText("This account is deleted: nobody reads here any more.").first().waitFor();
}, 120_000);

test("a button that waits for its answer keeps the focus, and is pressed once however often", async () => {
  const { page } = await openPage(stage.browser, addressOf(stage.house, 0), "cleo-waits", OPTIONS);
  let asked = 0;
  let answer = () => {};
  const mayAnswer = new Promise<void>((done) => (answer = done));
  await page.route("**/api/login", async (route) => {
    asked += 1;
    await mayAnswer;
    await route.continue();
  });
  await page.getByLabel("Username").fill("nobody-here");
  await page.getByLabel("Password", { exact: true }).fill("not a password");
  const button = page.getByRole("button", { name: "Log in", exact: true });
  await button.focus();
  await page.keyboard.press("Enter");
  await eventually(() => asked, 1);
  const hasFocus = () => button.evaluate((element) => element === document.activeElement);
  for (const key of ["Enter", "Space", "Enter"]) await page.keyboard.press(key);
  expect(await hasFocus()).toBe(true);
  await page.getByLabel("Password", { exact: true }).press("Enter");
  await button.focus();
  answer();
  await page.getByRole("alert").filter({ hasText: /\S/ }).first().waitFor();
  expect([await hasFocus(), asked]).toEqual([true, 1]);
});

test("an owner disables and enables somebody whose app is open elsewhere, gives them a link and a role, and deletes another", async () => {
  const boss = await stage.enter("boss-people", OPTIONS);
  const dan = await stage.enter("dan-people", { replica: 1 });
  const eve = await stage.enter("eve-people", { replica: 1 });
  await promote(stage.house, boss);
  const { page } = boss;
  await page.getByRole("button", { name: "Administration" }).click();
  const dialog = page.getByRole("dialog", { name: "Administration" });
  await dialog.getByRole("searchbox", { name: "Find a person" }).fill("-people");
  await dialog.getByRole("button", { name: "Manage dan-people" }).click();
  await dialog.getByText("1 session.").waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByRole("button", { name: "Disable…" }).click();
  // The focus goes on beside the button that went away.
  await eventually(() => page.evaluate(() => document.activeElement?.textContent), "Cancel");
  await dialog.getByRole("button", { name: "Disable account" }).click();
  await dan.page.getByText("Your session has ended. Please log in again.").waitFor();
  await dialog.getByText("Logged in nowhere.").waitFor();
  await dialog.getByRole("button", { name: "Enable" }).click();
  await dialog.getByRole("button", { name: "Disable…" }).waitFor();

  await dialog.getByRole("button", { name: "Link for a new password" }).click();
  const link = await dialog.getByText(/#\/reset\//).textContent();
  const [url = ""] = /http\S+reset\/[\w-]{32}/.exec(link ?? "") ?? [];
  await dan.page.goto(url);
  await dan.page.getByLabel("New password", { exact: true }).fill(NEW_PASSWORD);
  await dan.page.getByRole("button", { name: "Change the password" }).click();
  await dan.page.getByRole("button", { name: "Go to the log-in" }).click();
  await dialog.getByRole("button", { name: "Make them admin" }).click();
  await dialog.getByRole("button", { name: "Make them an ordinary user" }).waitFor();
  await logIn(dan.page, "dan-people", NEW_PASSWORD);
  await dan.page.getByRole("button", { name: "Administration" }).waitFor();
  await dialog.getByRole("button", { name: "Manage dan-people" }).click();

  await dialog.getByRole("button", { name: "Manage eve-people" }).click();
  await dialog.getByRole("button", { name: "Delete…" }).click();
  await dialog.getByRole("button", { name: "Delete account" }).click();
  await eve.page.getByText("Your session has ended. Please log in again.").waitFor();
  await dialog.getByText("The account is deleted.").waitFor();
  await page.setViewportSize({ width: 360, height: 740 });
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBe(0);
  expect(await faultsIn(page)).toEqual([]);
  await tab(page, "Log");
  await dialog.getByText("boss-people made dan-people admin of the server.").waitFor();
  await dialog.getByText(/^boss-people deleted the account of (deleted user|eve-people)\./).waitFor();
  expect(await faultsIn(page)).toEqual([]);
}, 120_000);

test("an admin filters a word, closes the sign-up, looks at a report, and manages a room that they are not in", async () => {
  const boss = await stage.enter("boss-server", { ...OPTIONS, colorScheme: "dark" });
  const dan = await stage.enter("dan-server", { replica: 1 });
  await promote(stage.house, boss);
  const { page } = boss;
  await createRoom(dan.page, "Shed");
  await say(dan.page, "look at this");
  const said = dan.page.locator("[data-seq]").filter({ hasText: "look at this" });
  await said.waitFor();
  const roomId = /room\/(\d+)/.exec(dan.page.url())?.[1] ?? "";
  await dan.page.evaluate(
    async (body) => {
      const headers = { "content-type": "application/json" };
      await fetch("/api/reports", { method: "POST", headers, body: JSON.stringify(body) });
    },
    { roomId, seq: 1, reason: "too loud" },
  );

  await page.getByRole("button", { name: "Administration" }).click();
  const dialog = page.getByRole("dialog", { name: "Administration" });
  await tab(page, "Settings");
  const words = dialog.getByLabel("Filtered words, one on each line");
  await words.fill("rhubarb\n???");
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("“???” has neither letters nor digits.").waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await words.fill("rhubarb");
  await dialog.getByRole("radio", { name: /^Closed/ }).check();
  // Another admin adds a word while this one writes.
  await page.evaluate(
    async (body) => {
      const headers = { "content-type": "application/json" };
      await fetch("/api/admin/settings", { method: "PATCH", headers, body: JSON.stringify(body) });
    },
    { words: ["celery"] },
  );
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("The settings are saved.").waitFor();
  // The other replica hears of it a moment later.
  const known = async () => {
    const answer = await page.request.get(`${addressOf(stage.house, 1)}/api/admin/settings`);
    return ((await answer.json()) as { words: string[] }).words;
  };
  await eventually(known, ["celery", "rhubarb"]);
  await say(dan.page, "I like RHUBARB pie");
  await dan.page.getByText("Not sent.").waitFor();
  const refused = await dan.page.evaluate(
    async (body) => {
      const headers = { "content-type": "application/json" };
      return (await fetch("/api/users", { method: "POST", headers, body: JSON.stringify(body) })).status;
    },
    { username: "late-server", password: PASSWORD },
  );
  expect(refused).toBe(403);
  await words.fill("");
  await dialog.getByRole("radio", { name: /^Anybody/ }).check();
  await dialog.getByRole("button", { name: "Save" }).click();
  await eventually(known, []);
  await dan.page.getByRole("button", { name: "Retry" }).click();
  await dan.page.locator("[data-seq]").filter({ hasText: "RHUBARB" }).waitFor();

  await tab(page, "Reports");
  await dialog.getByText(/In Shed\. Reported by dan-server.*too loud/).waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByRole("button", { name: "Done" }).click();
  await dialog.getByText("There is no report to look at.").waitFor();
  await tab(page, "Numbers");
  await dialog.getByText("Online now").waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await tab(page, "Rooms");
  await page.setViewportSize({ width: 360, height: 740 });
  await dialog.getByRole("searchbox", { name: "Find a room" }).fill("shed");
  await dialog.getByRole("button", { name: "Details of Shed" }).waitFor();
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBe(0);
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByRole("button", { name: "Details of Shed" }).click();
  const details = page.getByRole("dialog", { name: "Shed" });
  await details.getByText("dan-server").waitFor();
  await tab(page, "Settings");
  await details.getByLabel("Topic").fill("Tools and seeds");
  await details.getByRole("button", { name: "Save" }).click();
  await dan.page.locator("#conversation header").getByText("Tools and seeds").waitFor();
  // The admin is still not in it.
  await page.keyboard.press("Escape");
  await eventually(() => page.locator(`[data-room="${roomId}"]`).count(), 0);
}, 120_000);

test("the first person of an empty server is told that it is theirs, cannot leave it without an owner, and nobody else is told", async () => {
  const house = await newServer(1, { CLIENT_DIR: resolve("client/dist") });
  const address = addressOf(house, 0);
  const first = await openPage(stage.browser, address, "first");
  await signUp(first.page, "first");
  await first.page.getByText(/^You own this server/).waitFor();
  await first.page.getByRole("button", { name: "Administration" }).waitFor();
  // An owner cannot leave a server without one.
  await first.page.getByRole("button", { name: /^Your account/ }).click();
  const dialog = first.page.getByRole("dialog", { name: "Your account" });
  await dialog.getByText("You own this server.").waitFor();
  await tab(first.page, "Data");
  await dialog.getByRole("button", { name: "Delete my account…" }).click();
  await dialog.getByLabel("Your password", { exact: true }).fill(PASSWORD);
  await first.page.keyboard.press("Enter");
  await dialog.getByText("The server keeps an owner. Make somebody else one first.").waitFor();
  await dialog.getByRole("button", { name: "Keep my account" }).click();

  const second = await openPage(stage.browser, address, "second");
  await signUp(second.page, "second");
  await messageTo(second.page, "General").waitFor();
  expect(await second.page.getByText(/^You own this server/).count()).toBe(0);
  expect(await second.page.getByRole("button", { name: "Administration" }).count()).toBe(0);
  await house.close();
}, 120_000);

test("a double click, a second Enter and one that is held end one session, and not the next ones too", async () => {
  const { page } = await stage.enter("fay-sessions");
  await page.getByRole("button", { name: /^Your account/ }).click();
  const dialog = page.getByRole("dialog", { name: "Your account" });
  const ends = dialog.getByRole("button", { name: /^End the session/ });
  const list = dialog.getByRole("list", { name: "Sessions" });
  async function endAfter(press: () => Promise<void>) {
    for (let count = 0; count < 3; count += 1)
      await page.evaluate(async (password) => {
        const body = JSON.stringify({ username: "fay-sessions", password });
        const headers = { "content-type": "application/json" };
        await fetch("/api/login", { method: "POST", headers, body, credentials: "omit" });
      }, PASSWORD);
    await tab(page, "Profile");
    await tab(page, "Sessions");
    await eventually(() => ends.count(), 3);
    await press();
    await eventually(() => ends.count(), 2);
    expect(await list.evaluate((one) => one.contains(document.activeElement))).toBe(true);
    // Ended meanwhile, more would be missing after the next answer.
    await tab(page, "Profile");
    await tab(page, "Sessions");
    await eventually(() => ends.count(), 2);
    await dialog.getByRole("button", { name: "Log out everywhere else" }).click();
    await eventually(() => ends.count(), 0);
  }

  await endAfter(async () => {
    const { x = 0, y = 0 } = (await ends.first().boundingBox()) ?? {};
    await page.mouse.click(x + 9, y + 9);
    await eventually(() => ends.count(), 2);
    await page.mouse.down({ clickCount: 2 });
    await page.mouse.up({ clickCount: 2 });
  });
  await endAfter(async () => {
    await ends.first().press("Enter");
    await eventually(() => ends.count(), 2);
    await page.keyboard.press("Enter");
  });
  await endAfter(async () => {
    await ends.first().focus();
    for (let count = 0; count < 20; count += 1) {
      await page.keyboard.down("Enter");
      await page.waitForTimeout(30);
    }
    await page.keyboard.up("Enter");
  });
}, 60_000);
