import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person, unwrap } from "../../server/src/testing.ts";
import {
  addressOf,
  createRoom,
  eventually,
  faultsIn,
  messageTo,
  openPage,
  PASSWORD,
  room,
  say,
  setStage,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

/** The stored message with this text. */
const stored = (page: Page, text: string) =>
  page
    .locator("[data-seq]")
    .filter({ has: page.locator("[data-part=text]").getByText(text, { exact: true }) });

const tab = (page: Page, name: string) => page.getByRole("tab", { name, exact: true }).click();

test("an owner adds, mutes and bans people, sets the room up, and everybody sees what holds", async () => {
  const options = { bypassCSP: true, reducedMotion: "reduce" } as const;
  const ann = await stage.enter("ann-rooms", options);
  const ben = await stage.enter("ben-rooms", { ...options, replica: 1 });
  const { page } = ann;
  await page.getByRole("button", { name: "New room" }).click();
  await page.getByLabel("Name").fill("Kitchen");
  await page.getByLabel("Topic (optional)").fill("What we eat");
  await page.getByRole("radio", { name: /^By invitation/ }).check();
  await page.getByRole("button", { name: "Create room" }).click();
  await messageTo(page, "Kitchen").waitFor();
  await page.locator("#conversation header").getByText("What we eat").waitFor();

  await page.getByRole("button", { name: "Room details" }).click();
  const dialog = page.getByRole("dialog", { name: "Kitchen" });
  await dialog.getByRole("button", { name: "Add a person" }).click();
  await dialog.getByRole("searchbox", { name: "Find a person to add" }).fill("ben-rooms");
  await dialog.getByRole("button", { name: "Add ben-rooms" }).click();
  await room(ben.page, "Kitchen").click();
  await messageTo(ben.page, "Kitchen").fill("my draft");
  const manage = dialog.getByRole("button", { name: "Manage ben-rooms" });
  await manage.click();
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByRole("button", { name: "Mute for 1 hour" }).click();
  await ben.page.getByText(/^A moderator has muted you here until/).waitFor();
  expect(await messageTo(ben.page, "Kitchen").inputValue()).toBe("my draft");
  expect(await faultsIn(ben.page)).toEqual([]);
  await dialog.getByRole("button", { name: "Unmute" }).click();
  await ben.page.getByText(/^A moderator has muted you/).waitFor({ state: "detached" });
  await messageTo(ben.page, "Kitchen").press("Enter");
  await stored(page, "my draft").waitFor();

  await tab(page, "Settings");
  // What somebody else sets meanwhile stays.
  const roomId = /room\/(\d+)/.exec(page.url())?.[1] ?? "";
  await page.evaluate(async (path) => {
    const headers = { "content-type": "application/json" };
    await fetch(path, { method: "PATCH", headers, body: JSON.stringify({ topic: "What we drink" }) });
  }, `/api/rooms/${roomId}`);
  await page.locator("#conversation header").getByText("What we drink").waitFor({ state: "attached" });
  await dialog.getByLabel(/^Slow mode/).selectOption("1 hour");
  await dialog.getByRole("button", { name: "Save" }).click();
  await ben.page.getByText("Slow mode: one message every hour.").waitFor();
  await ben.page.locator("#conversation header").getByText("What we drink").waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByLabel(/^Slow mode/).selectOption("Off");
  await dialog.getByRole("button", { name: "Save" }).click();
  await ben.page.getByText("Slow mode: one message every hour.").waitFor({ state: "detached" });
  await dialog.getByRole("button", { name: "Archive…" }).click();
  await dialog.getByRole("button", { name: "Archive room" }).click();
  await ben.page.getByText(/^This room is archived\./).waitFor();
  await dialog.getByRole("button", { name: "Open it again" }).click();
  await ben.page.getByText(/^This room is archived\./).waitFor({ state: "detached" });

  await tab(page, "Invites");
  await dialog.getByRole("button", { name: "Make an invite link" }).click();
  await dialog.getByRole("button", { name: "Revoke" }).waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await dialog.getByRole("button", { name: "Revoke" }).click();
  await dialog.getByText("There are no invite links.").waitFor();
  await tab(page, "Log");
  await dialog.getByText("ann-rooms archived the room.").waitFor();
  expect(await faultsIn(page)).toEqual([]);

  await page.setViewportSize({ width: 360, height: 740 });
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBe(0);
  expect(await faultsIn(page)).toEqual([]);
  await tab(page, "Members");
  await dialog.getByRole("button", { name: "Manage ben-rooms" }).click();
  await dialog.getByRole("button", { name: "Ban…" }).click();
  await dialog.getByRole("button", { name: "Ban them" }).click();
  await dialog.getByRole("button", { name: "Lift the ban of ben-rooms" }).waitFor();
  await room(ben.page, "Kitchen").waitFor({ state: "detached" });
}, 120_000);

test("a choice about a member keeps the focus while it waits, and is made once however often it is pressed", async () => {
  const { page } = await stage.enter("ann-waits");
  const ben = await person(both(stage.house)[1], "ben-waits");
  await createRoom(page, "Hall");
  unwrap(await ben.socket.emitWithAck("room.join", { roomId: /room\/(\d+)/.exec(page.url())?.[1] ?? "" }));
  let asked = 0;
  let answer = () => {};
  const mayAnswer = new Promise<void>((done) => (answer = done));
  await page.route("**/members/*", async (route) => {
    asked += 1;
    await mayAnswer;
    await route.continue();
  });
  await page.getByRole("button", { name: "Room details" }).click();
  await tab(page, "Members");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Manage ben-waits" }).click();
  const button = dialog.getByRole("button", { name: "Mute for 1 hour" });
  await button.focus();
  for (const key of ["Enter", "Space", "Enter"]) await page.keyboard.press(key);
  await eventually(() => button.getAttribute("aria-disabled"), "true");
  expect(await button.evaluate((one) => one === document.activeElement)).toBe(true);
  answer();
  await dialog.getByRole("button", { name: "Unmute" }).waitFor();
  // The focus goes on beside the button that went away.
  const near = dialog.getByRole("group", { name: "What to do about ben-waits" });
  await eventually(() => near.evaluate((one) => one.contains(document.activeElement)), true);
  expect(asked).toBe(1);
  ben.close();
});

test("what a moderator has done is said, and a second Enter answers no question before it", async () => {
  const { page } = await stage.enter("ann-hears");
  const ben = await person(both(stage.house)[1], "ben-hears");
  await createRoom(page, "Cave");
  const roomId = /room\/(\d+)/.exec(page.url())?.[1] ?? "";
  unwrap(await ben.socket.emitWithAck("room.join", { roomId }));
  const { seq } = await ben.say(roomId, "something rude");
  await page.getByRole("button", { name: "Room details" }).click();
  const dialog = page.getByRole("dialog");
  const press = (name: string) => dialog.getByRole("button", { name, exact: true }).press("Enter");
  const said = (text: string) => dialog.getByRole("alert").getByText(text, { exact: true }).waitFor();

  await press("Manage ben-hears");
  await press("Mute for 1 hour");
  await said("ben-hears is muted for 1 hour.");
  await press("Unmute");
  await said("ben-hears is not muted any more.");
  await press("Make moderator");
  await said("ben-hears is moderator now.");
  await press("Remove…");
  const question = dialog.getByRole("group", { name: /^Remove ben-hears from the room\?/ });
  const cancel = question.getByRole("button", { name: "Cancel" });
  await eventually(() => cancel.evaluate((one) => one === document.activeElement), true);
  await page.keyboard.press("Enter");
  await press("Remove…");
  await press("Remove them");
  await said("ben-hears is not in the room any more.");
  await press("Add a person");
  await dialog.getByRole("searchbox", { name: "Find a person to add" }).fill("ben-hears");
  await press("Add ben-hears");
  await said("ben-hears is in the room now.");
  await press("Manage ben-hears");
  await press("Ban…");
  await press("Ban them");
  await said("ben-hears is banned.");
  await press("Lift the ban of ben-hears");
  await said("The ban of ben-hears is lifted.");

  await tab(page, "Invites");
  await press("Make an invite link");
  await said("The invite link is made.");
  await press("Revoke");
  await said("The invite link is revoked.");
  unwrap(await ben.socket.emitWithAck("room.join", { roomId }));
  expect((await ben.browser.post("/api/reports", { roomId, seq, reason: "by mistake" })).status).toBe(204);
  await tab(page, "Reports");
  await press("Done");
  await said("The report is closed.");
  await tab(page, "Settings");
  await press("Archive…");
  await dialog
    .getByRole("group", { name: "Nobody will be able to write in this room. Archive it?" })
    .waitFor();
  await press("Archive room");
  await said("The room is archived.");
  ben.close();
}, 60_000);

test("a message is reported, and a moderator goes to it, deletes it and closes the report", async () => {
  const owner = await stage.enter("owner-reports", { bypassCSP: true, reducedMotion: "reduce" });
  const ben = await stage.enter("ben-reports", { replica: 1 });
  await createRoom(owner.page, "Yard");
  const address = new URL(owner.page.url()).hash;
  await ben.page.evaluate((hash) => (location.hash = hash), address);
  await ben.page.getByRole("button", { name: "Join this room" }).click();
  await messageTo(ben.page, "Yard").waitFor();
  await say(ben.page, "buy my things");
  await stored(owner.page, "buy my things").waitFor();

  await stored(owner.page, "buy my things").hover();
  await owner.page.getByRole("button", { name: "Report message" }).click();
  await owner.page.getByLabel("Reason (optional)").fill("spam");
  expect(await faultsIn(owner.page)).toEqual([]);
  await owner.page.getByRole("button", { name: "Report", exact: true }).click();
  await owner.page.getByText("The message is reported.").waitFor();
  await owner.page.getByRole("button", { name: "Room details" }).click();
  await tab(owner.page, "Reports");
  const dialog = owner.page.getByRole("dialog");
  await dialog.getByText(/Reported by owner-reports.*spam/).waitFor();
  expect(await faultsIn(owner.page)).toEqual([]);
  await dialog.getByRole("button", { name: "Done" }).click();
  await dialog.getByRole("button", { name: "Done" }).waitFor({ state: "detached" });
  await dialog.getByRole("button", { name: "Go to the message" }).click();
  await dialog.waitFor({ state: "detached" });
  await stored(owner.page, "buy my things").hover();
  await owner.page.getByRole("button", { name: "Delete message" }).click();
  await owner.page.getByRole("dialog").getByRole("button", { name: "Delete message" }).click();
  await ben.page.locator("[data-part=deleted]").waitFor();
  // A member sees only who is there.
  await ben.page.getByRole("button", { name: "Room details" }).click();
  await ben.page
    .getByRole("dialog")
    .getByRole("list", { name: "Members" })
    .getByText("Owner", { exact: true })
    .waitFor();
  await eventually(() => ben.page.getByRole("tab").count(), 0);
}, 120_000);

test("a mute ends in all pages at its moment, for who is muted and in the list of members", async () => {
  const owner = await stage.enter("owner-nap");
  const muted = await stage.enter("muted-nap", { replica: 1 });
  await createRoom(owner.page, "Nap");
  await muted.page.getByRole("button", { name: "Browse rooms" }).click();
  await muted.page.getByRole("button", { name: "Join Nap" }).click();
  await messageTo(muted.page, "Nap").waitFor();
  for (const { page } of [owner, muted]) {
    await page.clock.install({ time: new Date() });
    await page.reload();
    await messageTo(page, "Nap").waitFor();
  }
  const mute = muted.page.getByText(/^A moderator has muted you here until/);
  await owner.page.getByRole("button", { name: "Room details" }).click();
  await owner.page.getByRole("button", { name: "Manage muted-nap" }).click();
  await owner.page.getByRole("button", { name: "Mute for 1 hour" }).click();
  const row = owner.page.getByRole("list", { name: "Members" }).getByText(/^Muted until/);
  for (const shown of [mute, row]) await shown.waitFor();

  for (const { page } of [owner, muted]) {
    await page.clock.setSystemTime(Date.now() + 2 * 3600 * 1000);
    await page.clock.runFor(16_000);
  }
  for (const shown of [mute, row]) await shown.waitFor({ state: "detached" });
  await owner.page.getByRole("button", { name: "Mute for 1 hour" }).waitFor();
}, 120_000);

test("an invite link brings somebody new, and somebody who has an account, into its room", async () => {
  const maker = await stage.enter("maker-links");
  const known = await stage.enter("known-links", { replica: 1 });
  /** A call of the API in a page's own session. */
  const call = (page: Page, path: string, body: object) =>
    page.evaluate(
      async ([to, sent]) => {
        const headers = { "content-type": "application/json" };
        const answer = await fetch(to, { method: "POST", headers, body: JSON.stringify(sent) });
        return (await answer.json()) as { id: string; code: string };
      },
      [path, body] as const,
    );
  const { id } = await call(maker.page, "/api/rooms", { name: "Cellar", kind: "invite" });
  const { code } = await call(maker.page, `/api/rooms/${id}/invites`, {});
  const address = addressOf(stage.house, 1);

  // An attempt that gets no answer is no end of it.
  let refusals = 1;
  await known.page.route(/\/api\/invites\//, (route) => (refusals-- > 0 ? route.abort() : route.continue()));
  await known.page.evaluate((hash) => (location.hash = hash), `#/invite/${code}`);
  await messageTo(known.page, "Cellar").waitFor();
  expect(refusals).toBe(-1);

  const fresh = await openPage(stage.browser, address, "fresh-links", { bypassCSP: true });
  let failures = 2;
  await fresh.page.route(/\/api\/invites\//, (route) => (failures-- > 0 ? route.abort() : route.continue()));
  await fresh.page.goto(`${address}/#/invite/${code}`);
  await fresh.page.getByText("maker-links invites you to Cellar.").waitFor();
  expect(await faultsIn(fresh.page)).toEqual([]);
  await fresh.page.getByLabel("Username").fill("fresh-links");
  await fresh.page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await fresh.page.getByRole("button", { name: "Create account" }).click();
  await messageTo(fresh.page, "Cellar").waitFor();
  await say(fresh.page, "thanks for having me");
  await maker.page.evaluate((hash) => (location.hash = hash), `#/room/${id}`);
  await stored(maker.page, "thanks for having me").waitFor();

  await fresh.page.evaluate(() => (location.hash = "#/invite/nonsense"));
  await fresh.page.getByText("This invite is not valid, or not any more.").waitFor();
  // Also a link that is pasted where the log-in is shown already.
  const stranger = await openPage(stage.browser, address, "stranger");
  await stranger.page.goto(`${address}/#/invite/nonsense`);
  await stranger.page.getByText("This invite link is not valid, or not any more.").waitFor();
}, 120_000);

test("an admin's link lets somebody choose a new password, once, also where they are logged in", async () => {
  const { page } = await stage.enter("lost-password", { bypassCSP: true });
  const { redis, keys } = stage.house;
  const id = (await redis.get(keys.username("lost-password")))?.replace("user:", "") ?? "";
  const admin = await stage.enter("admin-password");
  const adminId = (await redis.get(keys.username("admin-password")))?.replace("user:", "") ?? "";
  await redis.hset(keys.user(adminId), "role", "admin");
  const { url } = await admin.page.evaluate(async (path) => {
    const answer = await fetch(path, { method: "POST" });
    return (await answer.json()) as { url: string };
  }, `/api/admin/users/${id}/reset`);
  await page.goto(url);
  await page.getByRole("heading", { name: "Choose a new password" }).waitFor();
  expect(await faultsIn(page)).toEqual([]);
  await page.getByLabel("New password").fill("short");
  await page.getByRole("button", { name: "Change the password" }).click();
  await page.getByText("At least 8 characters.").waitFor();
  await page.getByLabel("New password").fill("a horse of another colour");
  await page.getByRole("button", { name: "Change the password" }).click();
  const changed = page.getByRole("heading", { name: "Your password is changed." });
  await changed.waitFor();
  await eventually(() => changed.evaluate((heading) => heading === document.activeElement), true);
  await page.getByRole("button", { name: "Go to the log-in" }).click();
  await page.getByLabel("Username").fill("lost-password");
  await page.getByLabel("Password", { exact: true }).fill("a horse of another colour");
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await messageTo(page, "General").waitFor();
}, 120_000);

test("a dialog of a room that its user is removed from closes, and keeps no key to itself", async () => {
  const owner = await person(both(stage.house)[1], "owner-of-rooms");
  const { page } = await stage.enter("gone-from-rooms");
  const id = await page.evaluate(async () => ((await (await fetch("/api/me")).json()) as { id: string }).id);
  for (const opens of ["Room details", "Room options", "Notifications", "Pinned messages"]) {
    const { body } = await owner.browser.post<{ id: string }>("/api/rooms", { name: `For ${opens}` });
    await page.evaluate((roomId) => (location.hash = `#/room/${roomId}`), body.id);
    await page.getByRole("button", { name: "Join this room" }).click();
    await messageTo(page, `For ${opens}`).waitFor();
    await page.getByRole("button", { name: opens }).click();
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    await owner.browser.fetch("DELETE", `/api/rooms/${body.id}/members/${id}`);
    await page.getByRole("heading", { name: "You are not in this room" }).waitFor();
    await dialog.waitFor({ state: "detached" });
    await room(page, "General").click();
    await messageTo(page, "General").waitFor();
    await page.keyboard.type(opens);
    await eventually(() => messageTo(page, "General").inputValue(), opens);
    await messageTo(page, "General").fill("");
  }
  owner.close();
});

test("whoever loses a room while they write in it can copy the text, or delete it", async () => {
  const boss = await stage.enter("takes-it-away");
  const { page } = await stage.enter("was-writing");
  await createRoom(boss.page, "Den");
  const den = /room\/(\d+)/.exec(boss.page.url())?.[1] ?? "";
  await page.evaluate((id) => (location.hash = `#/room/${id}`), den);
  await page.getByRole("button", { name: "Join this room" }).click();
  await messageTo(page, "Den").fill("took me half an hour");
  const me = await page.evaluate(async () => ((await (await fetch("/api/me")).json()) as { id: string }).id);
  const removed = await boss.page.evaluate(
    async (path) =>
      (await fetch(path, { method: "DELETE", headers: { "content-type": "application/json" } })).status,
    `/api/rooms/${den}/members/${me}`,
  );
  expect(removed).toBe(204);
  await page.getByRole("heading", { name: "You are not in this room" }).waitFor();
  const draft = page.getByRole("region", { name: "What you were writing" });
  await draft.getByText("took me half an hour").waitFor();
  await page.reload();
  await draft.getByRole("button", { name: "Copy" }).waitFor();
  await draft.getByRole("button", { name: "Delete" }).click();
  await draft.waitFor({ state: "hidden" });
  expect(await page.evaluate(() => Object.keys(localStorage).filter((key) => key.includes("draft")))).toEqual(
    [],
  );
});

test("whoever loses the room that they have just opened hears of it, and goes on from where it says so", async () => {
  const owner = await person(both(stage.house)[1], "owner-of-one");
  const { page } = await stage.enter("gone-at-once");
  const id = await page.evaluate(async () => ((await (await fetch("/api/me")).json()) as { id: string }).id);
  const { body } = await owner.browser.post<{ id: string }>("/api/rooms", { name: "For a moment" });
  await page.evaluate((roomId) => (location.hash = `#/room/${roomId}`), body.id);
  await page.getByRole("button", { name: "Join this room" }).click();
  await messageTo(page, "For a moment").waitFor();
  await page.reload();
  const composer = messageTo(page, "For a moment");
  await eventually(() => composer.evaluate((one) => one === document.activeElement), true);
  await owner.browser.fetch("DELETE", `/api/rooms/${body.id}/members/${id}`);
  await page.locator("[aria-live]").getByText("You are not in For a moment any more.").waitFor();
  const main = page.getByRole("main", { name: "Not one of your rooms" });
  await eventually(() => main.evaluate((one) => one === document.activeElement), true);
  owner.close();
});

test("whoever adds people to a room finds those who come after a page of its members, and is told of a search that failed", async () => {
  const hal = await stage.enter("hal-adds");
  await (await stage.enter("hal-other")).context.close();
  const { page } = hal;
  await createRoom(page, "Pages");
  const me = await page.request.get(new URL("/api/me", page.url()).href);
  const found = [{ ...((await me.json()) as object), online: true }];
  // The first page of a great many people.
  await page.route(/\/api\/users\?q=hal(?!.*after)/, (route) =>
    route.fulfill({ json: { found, total: 2, complete: true } }),
  );
  await page.getByRole("button", { name: "Room details" }).click();
  const dialog = page.getByRole("dialog", { name: "Pages" });
  await dialog.getByRole("button", { name: "Add a person" }).click();
  let failures = 1;
  await page.route(/\/api\/users\?q=nobody/, (route) => (failures-- > 0 ? route.abort() : route.continue()));
  await dialog.getByRole("searchbox", { name: "Find a person to add" }).fill("nobody");
  await dialog.getByText("The server does not answer.").waitFor();
  await dialog.getByText("Nobody else by that name.").waitFor();
  await dialog.getByText("The server does not answer.").waitFor({ state: "detached" });
  await dialog.getByRole("searchbox", { name: "Find a person to add" }).fill("hal");
  await dialog.getByRole("button", { name: "Show more" }).click();
  await dialog.getByRole("button", { name: "Add hal-other" }).click();
  await dialog.getByRole("list", { name: "Members" }).getByText("hal-other").waitFor();
  await dialog.getByText("Nobody else by that name.").waitFor();
});
