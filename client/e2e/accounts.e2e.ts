import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  addressOf,
  eventually,
  faultsIn,
  message,
  messageTo,
  openPage,
  PASSWORD,
  say,
  setStage,
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
  for (const { context } of [ann, ben, other]) await context.close();
}, 120_000);
