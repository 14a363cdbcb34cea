import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  addressOf,
  eventually,
  faultsIn,
  message,
  messageTo,
  openPage,
  room,
  say,
  setStage,
  talkTo,
  type Actor,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

/** Another window of somebody, on the second replica. */
async function windowOf({ name, context }: Actor): Promise<Page> {
  const [cookie] = await context.cookies();
  const given = `${cookie?.name}=${cookie?.value}`;
  const { page } = await openPage(stage.browser, addressOf(stage.house, 1), name, { bypassCSP: true }, given);
  await messageTo(page, "General").waitFor();
  return page;
}

const favourites = (page: Page) =>
  page
    .getByRole("navigation", { name: "Rooms" })
    .locator("section")
    .filter({ has: page.getByRole("heading", { name: "Favourites" }) })
    .getByRole("link");

async function choose(page: Page, option: string): Promise<void> {
  await page.getByRole("button", { name: "Room options" }).press("Enter");
  await page.getByRole("dialog").getByRole("button", { name: option }).press("Enter");
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

test("a favourite room is on top of the list in all windows, also after a reload", async () => {
  const ann = await stage.enter("ann-likes", { bypassCSP: true });
  const other = await windowOf(ann);
  await choose(ann.page, "Add to favourites");
  for (const page of [ann.page, other]) await eventually(() => favourites(page).count(), 1);
  expect(await faultsIn(other)).toEqual([]);
  await other.reload();
  await eventually(() => favourites(other).count(), 1);
  expect(await room(other, "General").count()).toBe(1);
  await choose(other, "Remove from favourites");
  for (const page of [ann.page, other]) await eventually(() => favourites(page).count(), 0);
  await room(ann.page, "General").waitFor();
});

test("a hidden direct room is gone from all windows until its next message, or until it is opened", async () => {
  const ann = await stage.enter("ann-hides", { bypassCSP: true });
  const ben = await stage.enter("ben-hides", { replica: 1 });
  await talkTo(ann.page, "ben-hides");
  await say(ann.page, "first");
  await ann.page.locator("[data-seq]").filter({ hasText: "first" }).waitFor();
  const other = await windowOf(ann);
  const windows = [ann.page, other];
  const isListed = async (count: number) => {
    for (const page of windows) await eventually(() => room(page, "ben-hides").count(), count);
  };
  await isListed(1);
  await ann.page.getByRole("button", { name: "Room options" }).click();
  expect(await faultsIn(ann.page)).toEqual([]);
  await ann.page.keyboard.press("Escape");
  await choose(ann.page, "Hide until the next message");
  await messageTo(ann.page, "General").waitFor();
  await isListed(0);
  await other.reload();
  await messageTo(other, "General").waitFor();
  await isListed(0);

  await room(ben.page, "ann-hides").click();
  await say(ben.page, "second");
  await isListed(1);

  await room(ann.page, "ben-hides").click();
  await message(ann.page, "second").waitFor();
  await choose(ann.page, "Hide until the next message");
  await isListed(0);
  await other.keyboard.press("Control+K");
  await other.getByRole("combobox", { name: "Room or person" }).fill("ben-hides");
  await other.getByRole("option", { name: /^ben-hides/ }).waitFor();
  await other.keyboard.press("Enter");
  await messageTo(other, "ben-hides").waitFor();
  await isListed(1);
});
