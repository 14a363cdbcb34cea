import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Message } from "../../server/src/protocol.ts";
import { Log } from "../../server/src/store/log.ts";
import { both, person, unwrap } from "../../server/src/testing.ts";
import { eventually, message, messageTo, room, say, setStage, talkTo, type Stage } from "./stage.ts";

const STORED = 600;
const DAY_MS = 24 * 3_600_000;

let stage: Stage;
const begin = new Date(2026, 0, 1, 12).getTime();

beforeAll(async () => {
  stage = await setStage(2);
  const how = { serverId: "old", relayChannel: "rooms", waitReplicas: 0, waitMs: 0 } as const;
  const log = new Log(stage.house.redis, stage.house.keys, how);
  const old = Array.from({ length: STORED }, (_, index) => ({
    from: "1",
    message: index % 100 === 7 ? `the Café number ${index}` : `old message ${index}`,
    date: begin + index * (DAY_MS / 10),
  }));
  await log.load("0", old);
});

afterAll(() => stage.close());

/** The texts of the messages in the page. */
async function texts(page: Page): Promise<string[]> {
  return page.getByRole("log").locator("[data-part=text]").allTextContents();
}

function isInSight(page: Page, text: string): Promise<boolean> {
  return message(page, text).evaluate((row) => {
    const log = row.closest("[role=log]")?.getBoundingClientRect();
    const { top, bottom } = row.getBoundingClientRect();
    return log !== undefined && top >= log.top && bottom <= log.bottom;
  });
}

test("a message is found by a part of a word and shown in its place, from where one can go to the newest", async () => {
  const ann = await stage.enter("ann-finds", { replica: 0 });
  const ben = await stage.enter("ben-finds", { replica: 1 });
  await say(ben.page, "A new CAFE has opened");
  await message(ann.page, "A new CAFE has opened").waitFor();

  await ann.page.keyboard.press("Control+f");
  const dialog = ann.page.getByRole("dialog", { name: "Search messages" });
  await dialog.getByRole("combobox", { name: "Any part of a word" }).fill("afé");
  const hits = dialog.getByRole("listbox", { name: "Messages" }).getByRole("option");
  await eventually(() => hits.count(), 7);
  const found = await hits.locator("[data-part=text]").allTextContents();
  expect(found[0]).toBe("A new CAFE has opened");
  expect(found.slice(1)).toEqual([507, 407, 307, 207, 107, 7].map((index) => `the Café number ${index}`));
  expect(await hits.first().locator("mark").textContent()).toBe("AFE");
  expect(await hits.first().textContent()).toContain("ben-finds in General");
  await dialog.getByText("7 messages", { exact: true }).waitFor();

  await dialog.getByLabel("From").selectOption({ label: "ben-finds" });
  await eventually(() => hits.count(), 1);
  expect((await dialog.getByLabel("From").locator("option").allTextContents()).slice(0, 2)).toEqual([
    "anybody",
    "me",
  ]);
  await dialog.getByLabel("From").selectOption({ label: "me" });
  await eventually(() => hits.count(), 6);
  await dialog.getByLabel("From").selectOption({ label: "anybody" });
  await eventually(() => hits.count(), 7);

  await dialog.getByRole("combobox", { name: "Any part of a word" }).focus();
  for (let step = 0; step < 5; step += 1) await ann.page.keyboard.press("ArrowDown");
  await eventually(
    () => hits.and(dialog.locator("[aria-selected=true]")).locator("[data-part=text]").textContent(),
    "the Café number 107",
  );
  await ann.page.keyboard.press("Enter");
  await message(ann.page, "the Café number 107").waitFor();
  await eventually(() => isInSight(ann.page, "the Café number 107"), true);
  expect(new URL(ann.page.url()).hash).toBe("#/room/0/108");
  await eventually(
    () => ann.page.evaluate(() => document.activeElement?.textContent?.includes("Café number 107")),
    true,
  );

  // New messages are announced, and do not appear among the old ones.
  await say(ben.page, "Said in the meantime");
  await ann.page.locator("p", { hasText: "ben-finds: Said in the meantime" }).waitFor({ state: "attached" });
  expect(await texts(ann.page)).not.toContain("Said in the meantime");
  await ann.page.getByRole("button", { name: /Jump to latest/ }).click();
  await message(ann.page, "Said in the meantime").waitFor();
  await eventually(() => isInSight(ann.page, "Said in the meantime"), true);
  expect(new URL(ann.page.url()).hash).toBe("#/room/0");
  expect([ann.complaints, ben.complaints]).toEqual([[], []]);
});

test("whoever looks further back with the keys goes on in the search with the first new hit, or the last one if none came", async () => {
  const { page, context } = await stage.enter("digs");
  await page.keyboard.press("Control+f");
  const dialog = page.getByRole("dialog", { name: "Search messages" });
  const field = dialog.getByRole("combobox", { name: "Any part of a word" });
  const hits = dialog.getByRole("listbox", { name: "Messages" }).getByRole("option");
  const more = dialog.getByRole("button", { name: "Look further back" });
  const goesOn = async (chosen: number) => {
    await eventually(() => field.evaluate((one) => one === document.activeElement), true);
    expect(await field.getAttribute("aria-activedescendant")).toBe(`hit-${chosen}`);
  };
  /** Says how far back it has looked, and does not look on by itself. */
  const rests = () => dialog.getByText(/^\d+ messages, back to [^…]*$/).waitFor();
  await field.fill("old message");
  await rests();
  const before = await hits.count();
  await more.press("Enter");
  await eventually(async () => (await hits.count()) > before, true);
  await goesOn(before);
  await rests();
  await context.route("**/api/search?**", (route) => route.fulfill({ json: { hits: [] } }));
  const all = await hits.count();
  await more.press("Enter");
  await more.waitFor({ state: "detached" });
  await goesOn(all - 1);
});

test("a link shows a message also after a reload, reads nothing that is new, and on the way down each message appears once", async () => {
  const ann = await stage.enter("ann-link", { replica: 0 });
  const ben = await stage.enter("ben-link", { replica: 1 });
  await talkTo(ann.page, "ben-link");
  await say(ben.page, "Not read yet");
  await room(ann.page, "General").getByText("1 unread").waitFor();
  await ann.page.goto(`${ann.page.url().split("#")[0]}#/room/0/301`);
  await message(ann.page, "old message 300").waitFor();
  await ann.page.reload();
  await message(ann.page, "old message 300").waitFor();
  await eventually(() => isInSight(ann.page, "old message 300"), true);
  await room(ann.page, "General").getByText("1 unread").waitFor();

  const seen = new Set<string>();
  const log = ann.page.getByRole("log");
  let spoken = 0;
  for (let steps = 0; steps < 200; steps += 1) {
    const now = await texts(ann.page);
    expect(new Set(now).size).toBe(now.length);
    for (const text of now) seen.add(text);
    if (now.at(-1) === "The last word") break;
    if (steps % 5 === 0 && spoken < 5) await say(ben.page, `Meanwhile ${(spoken += 1)}`);
    if (spoken === 5) await say(ben.page, "The last word").then(() => (spoken += 1));
    await log.evaluate((element) => element.scrollBy(0, element.clientHeight * 0.8));
    await ann.page.waitForTimeout(30);
  }
  const old = [...seen].flatMap((text) => /^(?:old message|the Café number) (\d+)$/.exec(text)?.[1] ?? []);
  const numbers = old.map(Number).toSorted((one, other) => one - other);
  expect(numbers).toEqual(
    Array.from({ length: STORED - (numbers[0] ?? 0) }, (_, index) => (numbers[0] ?? 0) + index),
  );
  for (let index = 1; index <= 5; index += 1) expect([...seen]).toContain(`Meanwhile ${index}`);
  expect([...seen]).toContain("The last word");

  await ann.page.goto(`${ann.page.url().split("#")[0]}#/room/0/999999`);
  await ann.page.getByText("That message is not here.").waitFor();
  await eventually(() => Promise.resolve(new URL(ann.page.url()).hash), "#/room/0");
  await message(ann.page, "The last word").waitFor();
});

test("a person jumps to a day, and writes from there, even before it has arrived", async () => {
  const { page } = await stage.enter("ann-day");
  await page.locator("[data-part=day] button").last().click();
  const dialog = page.getByRole("dialog", { name: "Jump to a day" });
  await dialog.getByLabel("Day").fill("2026-01-11");
  let arrive = () => {};
  const typed = new Promise<void>((done) => (arrive = done));
  await page.route(/around=/, (route) => void typed.then(() => route.continue()));
  await dialog.getByRole("button", { name: "Jump" }).click();
  await dialog.waitFor({ state: "detached" });
  await messageTo(page, "General").click();
  await page.keyboard.type("Written from the past");
  arrive();
  // The first message of that day: the log's begins at noon, ten a day.
  await message(page, "old message 95").waitFor();
  await eventually(() => isInSight(page, "old message 95"), true);
  await page.keyboard.press("Enter");
  await eventually(() => isInSight(page, "Written from the past"), true);
});

test("a text that is deleted leaves every view while it is open, and one that is edited changes there", async () => {
  const { page, link, complaints } = await stage.enter("ann-sees", { link: true });
  const ben = await person(both(stage.house)[1], "ben-says");
  const says = async (text: string, more: object = {}) =>
    unwrap(
      await ben.socket.emitWithAck("message", {
        roomId: "0",
        message: text,
        nonce: text.replaceAll(/\W/g, "-"),
        ...more,
      }),
    );
  const edit = async ({ roomId, seq, rev = 0 }: Message, text: string) =>
    unwrap(
      await ben.socket.emitWithAck("message.edit", {
        roomId,
        seq,
        message: text,
        rev,
        nonce: `e${seq}${rev}`,
      }),
    );
  const remove = async ({ roomId, seq }: Message) =>
    unwrap(await ben.socket.emitWithAck("message.delete", { roomId, seq }));
  const pin = async ({ roomId, seq }: Message, on: boolean) =>
    unwrap(await ben.socket.emitWithAck("message.pin", { roomId, seq, on }));
  const dialog = (name: string) => page.getByRole("dialog", { name });
  const isGone = (text: string) => eventually(() => page.getByText(text).count(), 0);
  const closes = async (name: string) => {
    await page.keyboard.press("Escape");
    await dialog(name).waitFor({ state: "detached" });
  };

  // First from another room: nothing of General is loaded.
  await talkTo(page, "ben-says");
  await page.reload();
  await messageTo(page, "ben-says").waitFor();
  const one = await says("a zebra at noon");
  const other = await says("a zebra at night");
  await room(page, "General").getByText("a zebra at night").waitFor();
  await page.keyboard.press("Control+f");
  const hits = dialog("Search messages").getByRole("option").locator("[data-part=text]");
  await dialog("Search messages").getByRole("combobox", { name: "Any part of a word" }).fill("zebra");
  await eventually(() => hits.allTextContents(), ["a zebra at night", "a zebra at noon"]);
  await edit(one, "a zebra at one");
  await remove(other);
  await eventually(() => hits.allTextContents(), ["Message deleted", "a zebra at one"]);
  await isGone("a zebra at night");
  // What is deleted during an outage was never said here.
  link.cut();
  await page.getByText("You are offline.").waitFor();
  await remove(one);
  await link.mend();
  await dialog("Search messages").getByText("Nobody has said that in your rooms.").waitFor();
  await isGone("a zebra at one");
  await closes("Search messages");

  const named = await says("the zebra saw @ann-sees");
  await page.keyboard.press("Control+Shift+M");
  await dialog("Mentions").getByText("the zebra saw @ann-sees").waitFor();
  await remove(named);
  await isGone("the zebra saw");
  await closes("Mentions");

  await room(page, "General").click();
  await messageTo(page, "General").waitFor();
  const pins: Message[] = [];
  for (const text of ["a pinned zebra", "a nailed zebra", "a glued zebra"])
    pins.push(await pin(await says(text), true));
  await message(page, "a glued zebra").waitFor();
  await page.route(/pinned=true/, (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("size", "2");
    return route.continue({ url: url.href });
  });
  await page.getByRole("button", { name: "Pinned messages" }).click();
  const lines = dialog("Pinned messages").getByRole("listitem").locator("[dir=auto]");
  await eventually(() => lines.allTextContents(), ["a glued zebra", "a nailed zebra"]);
  const older = dialog("Pinned messages").getByRole("button", { name: "Show older ones" });
  await older.press("Enter");
  await eventually(() => lines.allTextContents(), ["a glued zebra", "a nailed zebra", "a pinned zebra"]);
  await older.waitFor({ state: "detached" });
  await eventually(
    () => page.evaluate(() => document.activeElement?.textContent?.includes("a pinned zebra")),
    true,
  );
  const [first, second, third] = pins as [Message, Message, Message];
  await pin(first, false);
  await edit(second, "a nailed horse");
  await remove(third);
  await eventually(() => lines.allTextContents(), ["a nailed horse"]);
  await closes("Pinned messages");
  await isGone("a glued zebra");

  const root = await says("who feeds the zebra");
  const answer = await says("I feed the zebra", { replyTo: root.seq });
  const asked = page.locator(`[data-seq="${root.seq}"]`);
  await asked.focus();
  await asked.getByRole("button", { name: "Reply", exact: true }).click();
  await page.getByText("Replying to ben-says: who feeds the zebra").waitFor();
  await page.getByRole("button", { name: /^1 reply, last by ben-says/ }).click();
  const pane = page.getByRole("complementary", { name: "Thread" });
  await pane.getByText("I feed the zebra").waitFor();
  await remove(answer);
  await isGone("I feed the zebra");
  await edit(root, "who feeds it");
  await page.getByText("Replying to ben-says: who feeds it").waitFor();
  await remove(root);
  await page.getByText("Replying to ben-says: Message deleted").waitFor();
  await isGone("who feeds");
  expect(complaints).toEqual([]);
  ben.close();
}, 120_000);
