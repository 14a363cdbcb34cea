import type { Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { House } from "../../server/src/testing.ts";
import { createRoom, eventually, messageTo, setStage, type Stage } from "./stage.ts";

const PEOPLE = 10_000;
const ROOMS = 1_000;

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
  await fill(stage.house);
});

afterAll(() => stage.close());

/** Stores people and rooms as the server does, but without passwords. */
async function fill({ redis, keys }: House): Promise<void> {
  const writes = redis.pipeline();
  for (let id = 1; id <= PEOPLE; id += 1) {
    const name = `person-${id}.${id % 2 ? "odd" : "even"}`;
    writes.hset(keys.user(String(id)), { username: name }).set(keys.username(name), `user:${id}`);
  }
  writes.set(keys.totalUsers, PEOPLE);
  for (let id = 1; id <= ROOMS; id += 1)
    writes.set(keys.roomName(String(id)), id === 700 ? "Café Größe" : `Plan ${String(id).padStart(4, "0")}`);
  writes.set(keys.totalRooms, ROOMS);
  await writes.exec();
}

/** Every request for names, as its path and query. */
function searches(page: Page): string[] {
  const asked: string[] = [];
  page.on("request", (request) => {
    const { pathname, search } = new URL(request.url());
    if (/^\/api\/(?:users|rooms\/directory)$/.test(pathname) && /[?&]q=/.test(search))
      asked.push(pathname + search);
  });
  return asked;
}

test("among 10,000 people and 1,000 rooms any part of a name finds it, with correct totals and few requests", async () => {
  const { page, complaints } = await stage.enter("fay");
  const asked = searches(page);
  const people = page.getByRole("complementary", { name: "People" });
  const field = people.getByRole("searchbox");
  const offline = people.getByRole("heading", { name: /^Offline/ });
  await eventually(() => offline.textContent(), "Offline 10,000");
  await eventually(() => people.getByRole("heading", { name: /^Online/ }).textContent(), "Online 1");

  await field.pressSequentially("777.ODD");
  await people.getByText("10 of 10,001 people").waitFor();
  expect(await people.locator("[data-part=name]").allTextContents()).toEqual([
    "person-777.odd",
    ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((digit) => `person-${digit}777.odd`),
  ]);
  await field.fill("ＰＥＲＳＯＮ");
  await people.getByText("10,000 of 10,001 people").waitFor();
  await people.getByRole("button", { name: "Show more" }).click();
  await eventually(() => people.locator("[data-part=name]").count(), 200);
  await field.fill("nobody-at-all");
  await people.getByText("Nobody by that name.").waitFor();
  await field.fill("");
  await eventually(() => offline.textContent(), "Offline 10,000");
  // One for each pause in typing, and one for the page.
  expect(asked.length).toBeLessThan(8);

  await page.keyboard.press("Control+k");
  await page.keyboard.type("9999.odd");
  await page.getByRole("option", { name: /person-9999.odd/ }).waitFor();
  await page.getByRole("combobox").fill("GROSSE cafe");
  await page.getByRole("option", { name: /Café Größe.*join/ }).waitFor();
  await page.getByRole("combobox").fill("no such thing");
  await page.getByText("Nothing by that name.").waitFor();
  await page.keyboard.press("Escape");

  await page.getByRole("button", { name: "Browse rooms" }).click();
  const dialog = page.getByRole("dialog", { name: "Browse rooms" });
  await dialog.getByText("1,000 rooms").waitFor();
  const names = () => dialog.locator("[data-part=name]").allTextContents();
  expect((await names()).slice(0, 3)).toEqual(["Café Größe", "Plan 0001", "Plan 0002"]);
  await dialog.getByRole("button", { name: "Show more" }).click();
  await eventually(async () => (await names()).length, 200);
  await dialog.getByRole("searchbox").fill("0999");
  await dialog.getByText("1 of 1,000 rooms").waitFor();
  await dialog.getByRole("button", { name: "Join Plan 0999" }).click();
  await messageTo(page, "Plan 0999").waitFor();
  expect(complaints).toEqual([]);
});

test("Enter opens what was typed before it, and answers to earlier input are never shown", async () => {
  const { page } = await stage.enter("gus");
  let release = () => {};
  const held = new Promise<void>((done) => (release = done));
  await page.route(/\/api\/users\?q=person-12$/, async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await page.keyboard.press("Control+k");
  const asked = page.waitForRequest(/q=person-12$/);
  await page.keyboard.type("person-12");
  await asked;
  await page.keyboard.type("34.even");
  // There is nothing to open yet.
  await page.keyboard.press("Enter");
  await messageTo(page, "person-1234.even").waitFor();
  release();

  await page.keyboard.press("Control+k");
  await page.keyboard.type("person-56");
  await page.getByRole("option", { name: "person-56.even" }).waitFor();
  await page.keyboard.press("ArrowDown");
  const chosen = () => page.locator("[role=option][aria-selected=true] [data-part=name]").textContent();
  const before = await chosen();
  expect(before).not.toBe("person-56.even");
  await page.keyboard.press("Enter");
  await messageTo(page, before ?? "").waitFor();
});

test("Enter waits for the server's answer where nothing here has what was typed in its name", async () => {
  const { page } = await stage.enter("gil");
  await createRoom(page, "Cats for fences greyer or ossified");
  let release = () => {};
  const held = new Promise<void>((done) => (release = done));
  await page.route(/directory\?q=Caf/, async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox").waitFor();
  await page.keyboard.type("Café Größe");
  // Its letters are there, in this order.
  await page.getByRole("option", { name: /^Cats for fences/ }).waitFor();
  await page.keyboard.press("Enter");
  release();
  await messageTo(page, "Café Größe").waitFor();
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox").waitFor();
  // The beginning of a word is enough.
  await page.route(/q=fenc/, () => {});
  await page.keyboard.type("fenc");
  await page.keyboard.press("Enter");
  await messageTo(page, "Cats for fences greyer or ossified").waitFor();
});

test("whoever asks for more of a list goes on with the first new row, also where that was all", async () => {
  const { page } = await stage.enter("ida");
  const focused = () => page.evaluate(() => document.activeElement?.closest("li")?.textContent ?? "");
  const names = (list: Locator) => list.getByRole("listitem").allTextContents();
  await page.getByRole("button", { name: "Browse rooms" }).click();
  const dialog = page.getByRole("dialog", { name: "Browse rooms" });
  // 108 rooms have this in their names.
  await page.keyboard.type("00");
  await dialog.getByText(/^108 /).waitFor();
  const before = await names(dialog);
  await dialog.getByRole("button", { name: "Show more" }).press("Enter");
  await eventually(async () => (await names(dialog)).length, 108);
  expect(await focused()).toBe((await names(dialog))[before.length]);
  expect(await dialog.getByRole("button", { name: "Show more" }).count()).toBe(0);
  await page.keyboard.press("Escape");
  const people = page.getByRole("complementary", { name: "People" });
  await people.getByRole("button", { name: "Show more" }).press("Enter");
  await eventually(async () => (await names(people)).length, 200);
  await eventually(focused, (await names(people))[100] ?? "");
});

test("a search takes any characters as text", async () => {
  const { page, complaints } = await stage.enter("hal");
  const people = page.getByRole("complementary", { name: "People" });
  const field = people.getByRole("searchbox");
  for (const text of ["(.*)+$", "[", "\\", "\u0007x", "שלום", "\uD800x", "x".repeat(200)]) {
    await field.fill(text);
    await people.getByText("Nobody by that name.").waitFor();
    await field.fill("@hal");
    await eventually(() => people.locator("[data-part=name]").allTextContents(), ["hal"]);
  }
  expect(complaints).toEqual([]);
});
