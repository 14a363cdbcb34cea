import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, messageTo, room, setStageWithTalker, type Actor } from "./stage.ts";

let stage: Awaited<ReturnType<typeof setStageWithTalker>>;

beforeAll(async () => {
  stage = await setStageWithTalker();
});

afterAll(() => stage.close());

type Shown = { title: string; body: string; tag: string };
type Desk = { shown: (Shown & { click: () => void })[]; asked: number; attended: boolean };

/** Replaces the desktop, which a headless browser lacks, and the user who looks at the page. */
async function withDesk({ context, page }: Actor): Promise<void> {
  await context.addInitScript(() => {
    const desk = { shown: [] as unknown[], asked: 0, attended: true };
    Object.assign(globalThis, { desk });
    document.hasFocus = () => desk.attended;
    class Notification extends EventTarget {
      static permission = localStorage.getItem("permission") ?? "default";
      static async requestPermission() {
        desk.asked++;
        localStorage.setItem("permission", (Notification.permission = "granted"));
        return "granted";
      }
      constructor(title: string, options: { body: string; tag: string }) {
        super();
        desk.shown.push({
          title,
          body: options.body,
          tag: options.tag,
          click: () => this.dispatchEvent(new Event("click")),
          own: this,
        });
      }
      close() {
        desk.shown = desk.shown.filter((one) => (one as { own: unknown }).own !== this);
      }
    }
    Object.assign(globalThis, { Notification });
  });
  await page.reload();
  await messageTo(page, "General").waitFor();
}

function lookAway(page: Page, away = true): Promise<void> {
  return page.evaluate((isAway) => {
    (globalThis as unknown as { desk: Desk }).desk.attended = !isAway;
    dispatchEvent(new Event(isAway ? "blur" : "focus"));
  }, away);
}

function onDesk(page: Page): Promise<Shown[]> {
  return page.evaluate(() =>
    (globalThis as unknown as { desk: Desk }).desk.shown.map(({ title, body, tag }) => ({
      title,
      body,
      tag,
    })),
  );
}

async function directRoom({ page }: Actor): Promise<string> {
  const userId = await page.evaluate(
    async () => ((await (await fetch("/api/me")).json()) as { id: string }).id,
  );
  return (await stage.talker.browser.post<{ id: string }>("/api/rooms/private", { userId })).body.id;
}

test("notifications are offered after the first reason for one, then announce the next message, and open it", async () => {
  const ann = await stage.enter("ann");
  await withDesk(ann);
  const { page } = ann;
  const id = await directRoom(ann);
  await lookAway(page);
  await stage.talker.say(id, "are you there?");
  const ask = page.getByRole("region", { name: "Notifications" });
  await ask.getByText("Something was said while you were away.").waitFor();
  expect(await page.evaluate(() => (globalThis as unknown as { desk: Desk }).desk.asked)).toBe(0);
  await ask.getByRole("button", { name: "Turn on" }).click();
  await eventually(() => ask.count(), 0);
  await stage.talker.say("0", "for everybody");
  await stage.talker.say(id, "hello?");
  await eventually(() => onDesk(page), [{ title: "talker", body: "hello?", tag: id }]);
  await page.evaluate(() => (globalThis as unknown as { desk: Desk }).desk.shown[0]?.click());
  await messageTo(page, "talker").waitFor();
  await lookAway(page, false);
  await eventually(() => onDesk(page), []);
  await stage.talker.say(id, "on the screen");
  await page.getByRole("log").getByText("on the screen").waitFor();
  await lookAway(page);
  await stage.talker.say(id, "behind");
  await eventually(() => onDesk(page), [{ title: "talker", body: "behind", tag: id }]);
});

test("only one of a person's tabs shows a notification", async () => {
  const ben = await stage.enter("ben");
  await withDesk(ben);
  const { page, context } = ben;
  await page.evaluate(() => localStorage.setItem("permission", "granted"));
  await page.reload();
  await messageTo(page, "General").waitFor();
  const id = await directRoom(ben);
  const other = await context.newPage();
  await other.goto(page.url());
  await messageTo(other, "General").waitFor();
  for (const one of [page, other]) await lookAway(one);
  await stage.talker.say(id, "once");
  await room(other, "talker").getByText("once").waitFor();
  await expect.poll(async () => (await onDesk(page)).length + (await onDesk(other)).length).toBe(1);
  await stage.talker.say(id, "twice");
  const texts = async () => [...(await onDesk(page)), ...(await onDesk(other))].map(({ body }) => body);
  await eventually(texts, ["twice"]);
});

test("notifications are chosen for each room, and a muted room counts nowhere", async () => {
  const cat = await stage.enter("cat", { replica: 1 });
  await withDesk(cat);
  const { page } = cat;
  const id = await directRoom(cat);
  await stage.talker.say(id, "first");
  await room(page, "talker").click();
  await page.getByRole("button", { name: "Notifications" }).click();
  const dialog = page.getByRole("dialog", { name: "Notifications" });
  await eventually(() => dialog.getByRole("radio", { name: /^All messages/ }).isChecked(), true);
  await dialog.getByRole("radio", { name: /^Nothing/ }).check();
  await dialog.getByRole("button", { name: "Show them" }).click();
  await eventually(() => dialog.getByRole("button", { name: "Show them" }).count(), 0);
  await page.keyboard.press("Escape");
  await room(page, "General").click();
  await stage.talker.say(id, "unheard");
  await room(page, "talker").getByText("unheard").waitFor();
  await eventually(() => page.title(), "General - Hubbub");
  expect(await page.locator("link[rel=icon]").getAttribute("href")).toBe("/favicon.svg");
  await page.reload();
  await room(page, "talker").getByText("unheard").waitFor();
  await eventually(() => page.title(), "General - Hubbub");
});

test.each([
  ["light", 1_440],
  ["dark", 1_440],
  ["light", 360],
  ["dark", 360],
] as const)("what asks and what is chosen fit the page, %s at %i px", async (colorScheme, width) => {
  const who = await stage.enter(`e${colorScheme}${width}`, { colorScheme });
  await withDesk(who);
  const { page, complaints } = who;
  await page.setViewportSize({ width, height: 780 });
  const id = await directRoom(who);
  await lookAway(page);
  await stage.talker.say(id, "are you there?");
  await page.getByRole("button", { name: "Turn on" }).waitFor();
  const pictures = process.env["PICTURES"];
  const shoot = async (what: string) => {
    if (pictures !== undefined)
      await page.screenshot({ path: `${pictures}/${what}-${colorScheme}-${width}.png` });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
  };
  await shoot("ask");
  await page.getByRole("button", { name: "Not now" }).click();
  // A phone has it among the room's options.
  if (width < 720) await page.getByRole("button", { name: "Room options" }).click();
  await page.getByRole("button", { name: "Notifications" }).click();
  await page.getByRole("dialog", { name: "Notifications" }).waitFor();
  await shoot("levels");
  await page.keyboard.press("Escape");
  await eventually(() => page.getByRole("dialog").count(), 0);
  await page.keyboard.press("Control+/");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await shoot("keys");
  expect(complaints).toEqual([]);
});
