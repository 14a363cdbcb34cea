import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  addressOf,
  createRoom,
  eventually,
  message,
  messageTo,
  openPage,
  PASSWORD,
  room,
  say,
  setStage,
  shownTexts,
  signUp,
  talkTo,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

test("two people on two replicas sign up and talk in General", async () => {
  const [ann, ben] = await Promise.all(
    ["ann", "ben"].map(async (name, replica) => {
      const actor = await openPage(stage.browser, addressOf(stage.house, replica), name);
      await signUp(actor.page, name);
      await messageTo(actor.page, "General").waitFor();
      return actor;
    }),
  );
  if (!ann || !ben) throw new Error("nobody came");
  await say(ann.page, "Is anybody here?");
  await message(ben.page, "Is anybody here?").waitFor();
  await say(ben.page, "I am.");
  await message(ann.page, "I am.").waitFor();
  for (const { page } of [ann, ben]) {
    await eventually(() => shownTexts(page), ["Is anybody here?", "I am."]);
    const people = page.getByRole("complementary", { name: "People" });
    await people.getByText("ann", { exact: true }).waitFor();
    await people.getByText("ben", { exact: true }).waitFor();
  }
  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
});

/** Milliseconds of a small request by this page: the delay that the machine causes at present. */
function requestTime(page: Page): Promise<number> {
  return page.evaluate(async () => {
    const began = performance.now();
    await fetch("/favicon.svg", { cache: "no-store" });
    return performance.now() - began;
  });
}

test("a message reaches the other window within 100 ms, plus the time that a busy machine needs for small requests", async () => {
  const run = Math.random().toString(36).slice(2, 8);
  const speaker = await stage.enter(`speaker-${run}`);
  const hearer = await stage.enter(`hearer-${run}`, { replica: 1 });
  const delays: number[] = [];
  const requests: number[] = [];
  for (let count = 0; count < 9; count++) {
    const text = `${run} ${count}`;
    const seen = hearer.page.evaluate(
      (wanted) =>
        new Promise<number>((resolve) => {
          const observer = new MutationObserver(() => {
            const last = [...document.querySelectorAll("[role=log] [data-part=text]")].at(-1);
            if (last?.textContent !== wanted) return;
            observer.disconnect();
            resolve(Date.now());
          });
          observer.observe(document.body, { childList: true, subtree: true });
        }),
      text,
    );
    await messageTo(speaker.page, "General").fill(text);
    const sent = await speaker.page.evaluate(() => {
      const now = Date.now();
      document.querySelector<HTMLButtonElement>("button[aria-label='Send message']")?.click();
      return now;
    });
    delays.push((await seen) - sent);
    requests.push(await requestTime(speaker.page), await requestTime(hearer.page));
  }
  const [shortest = Infinity] = delays.toSorted((one, other) => one - other);
  const request = requests.toSorted((one, other) => one - other)[9] ?? 0;
  expect(shortest, `milliseconds: ${delays.join(", ")}; requests: ${requests.join(", ")}`).toBeLessThan(
    100 + 4 * request,
  );
});

test("a private room appears for the other person at the first message, and a third neither sees, hears nor reads it", async () => {
  const cat = await stage.enter("cat");
  const dan = await stage.enter("dan", { replica: 1 });
  const eve = await stage.enter("eve", { replica: 1 });

  await talkTo(cat.page, "dan");
  expect(await room(dan.page, "cat").count()).toBe(0);
  await say(cat.page, "Between the two of us");
  await room(dan.page, "cat").click();
  await message(dan.page, "Between the two of us").waitFor();
  await say(dan.page, "Of course");
  await message(cat.page, "Of course").waitFor();

  // Once this arrives, everything that was sent before it would have arrived.
  await room(cat.page, "General").click();
  await messageTo(cat.page, "General").waitFor();
  await say(cat.page, "To everybody");
  await message(eve.page, "To everybody").waitFor();
  expect(eve.frames.filter((frame) => /Between the two of us|Of course/.test(frame))).toEqual([]);
  expect(await room(eve.page, "cat").count()).toBe(0);
  expect(await room(eve.page, "dan").count()).toBe(0);

  const roomId = dan.page.url().split("/").at(-1) ?? "";
  expect(roomId).toMatch(/^\d+:\d+$/);
  const status = await eve.page.evaluate(
    async (id) => (await fetch(`/api/rooms/${encodeURIComponent(id)}/messages`)).status,
    roomId,
  );
  expect(status).toBe(404);
  await eve.page.evaluate((id) => (location.hash = `#/room/${id}`), roomId);
  await eve.page.getByRole("heading", { name: "Not one of your rooms" }).waitFor();
  expect(await eve.page.getByText("Between the two of us").count()).toBe(0);
});

test("a named room is created, found, joined and left", async () => {
  const fay = await stage.enter("fay");
  const gus = await stage.enter("gus", { replica: 1 });
  await createRoom(fay.page, "Garden");
  await say(fay.page, "First seeds");

  await fay.page.getByRole("button", { name: "New room" }).click();
  await fay.page.getByLabel("Name").fill("garden");
  await fay.page.getByRole("button", { name: "Create room" }).click();
  await fay.page.getByText("There is a room of that name already.").waitFor();
  await fay.page.keyboard.press("Escape");

  await gus.page.getByRole("button", { name: "Browse rooms" }).click();
  await gus.page.getByRole("button", { name: "Join Garden" }).click();
  await message(gus.page, "First seeds").waitFor();
  await say(gus.page, "Rain today");
  await message(fay.page, "Rain today").waitFor();

  await gus.page.getByRole("button", { name: "Room options" }).click();
  await gus.page.getByRole("dialog").getByRole("button", { name: "Leave room" }).click();
  await gus.page.getByRole("dialog").getByRole("button", { name: "Leave room" }).click();
  await messageTo(gus.page, "General").waitFor();
  await eventually(() => room(gus.page, "Garden").count(), 0);
  await say(fay.page, "Only for gardeners");
  await room(fay.page, "General").click();
  await messageTo(fay.page, "General").waitFor();
  await say(fay.page, "For all");
  await message(gus.page, "For all").waitFor();
  expect(gus.frames.filter((frame) => frame.includes("Only for gardeners"))).toEqual([]);
});

test("a button that joins a room is busy until the answer comes, keeps the focus, and joins once however often it is pressed", async () => {
  const host = await stage.enter("host");
  const { page, link } = await stage.enter("hal", { replica: 1, link: true });
  for (const name of ["By address", "By list"]) {
    const id = await host.page.evaluate(async (named) => {
      const body = JSON.stringify({ name: named });
      const headers = { "content-type": "application/json" };
      const made = await fetch("/api/rooms", { method: "POST", headers, body });
      return ((await made.json()) as { id: string }).id;
    }, name);
    if (name === "By list") await page.getByRole("button", { name: "Browse rooms" }).click();
    else await page.evaluate((roomId) => (location.hash = `#/room/${roomId}`), id);
    const button = page.getByRole("button", { name: name === "By list" ? `Join ${name}` : "Join this room" });
    await button.focus();
    link.hold("room.join");
    for (const key of ["Enter", "Space", "Enter"]) await page.keyboard.press(key);
    const state = () => button.evaluate((one) => [one.ariaBusy, one === document.activeElement]);
    await eventually(state, ["true", true]);
    expect(link.letGo()).toBe(1);
    await messageTo(page, name).waitFor();
    await eventually(() => messageTo(page, name).evaluate((one) => one === document.activeElement), true);
  }
});

test("an answer that comes after its dialog was closed takes nobody away from what they do", async () => {
  const host = await stage.enter("host-again");
  const { page, link } = await stage.enter("hana", { replica: 1, link: true });
  await host.page.evaluate(async () => {
    const headers = { "content-type": "application/json" };
    await fetch("/api/rooms", { method: "POST", headers, body: JSON.stringify({ name: "Too late" }) });
  });
  await page.getByRole("button", { name: "Browse rooms" }).click();
  const join = page.getByRole("button", { name: "Join Too late" });
  await join.waitFor();
  link.hold("room.join");
  await join.press("Enter");
  await eventually(() => join.getAttribute("aria-busy"), "true");
  await page.keyboard.press("Escape");
  await join.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "New room" }).click();
  const name = page.getByRole("dialog", { name: "New room" }).getByLabel("Name");
  await name.fill("In the middle of");
  expect(link.letGo()).toBe(1);
  await room(page, "Too late").waitFor();
  expect(await name.inputValue()).toBe("In the middle of");
  await page.keyboard.press("Escape");
  await messageTo(page, "General").waitFor();

  let answer = () => {};
  const asked = new Promise<void>((resolve) => {
    void page.route("**/api/rooms/private", async (route) => {
      resolve();
      await new Promise<void>((go) => (answer = go));
      await route.continue();
    });
  });
  await page
    .getByRole("complementary", { name: "People" })
    .getByRole("button", { name: "host-again" })
    .click();
  await asked;
  await room(page, "Too late").click();
  await messageTo(page, "Too late").waitFor();
  const made = page.waitForResponse("**/api/rooms/private");
  answer();
  await made;
  await page.evaluate(() => new Promise((done) => setTimeout(done, 300)));
  expect(await messageTo(page, "Too late").count()).toBe(1);
});

test("what is typed for a private room that is still being made goes there, unless its user goes back to a field", async () => {
  const others = await Promise.all(["slow-one", "slow-two"].map((name) => stage.enter(name, { replica: 1 })));
  const { page, context } = await stage.enter("types-ahead");
  const general = messageTo(page, "General");
  let answer = () => {};
  await page.route("**/api/rooms/private", async (route) => {
    await new Promise<void>((go) => (answer = go));
    await route.continue();
  });
  await general.fill("said to all");
  for (const name of ["slow-one", "slow-two"]) {
    const asked = page.waitForRequest("**/api/rooms/private");
    await page.keyboard.press("Control+k");
    const field = page.getByRole("combobox", { name: "Room or person" });
    await field.fill(name);
    await page.getByRole("option").filter({ hasText: name }).waitFor();
    await field.press("Enter");
    await asked;
    await field.waitFor({ state: "detached" });
    if (name === "slow-two") {
      await page.keyboard.type("later");
      await general.click();
      await page.keyboard.type(" of you");
    } else {
      await page.keyboard.type("for you alonn");
      await page.keyboard.press("Backspace");
      await page.keyboard.type("e");
      await page.keyboard.press("Enter");
    }
    const made = page.waitForResponse("**/api/rooms/private");
    answer();
    await made;
    if (name === "slow-two") continue;
    await eventually(() => messageTo(page, name).inputValue(), "for you alone");
    await eventually(() => messageTo(page, name).evaluate((one) => one === document.activeElement), true);
    await room(page, "General").click();
    await eventually(() => general.inputValue(), "said to all");
  }
  // The second room is there, and its user still writes in the first.
  await room(page, "slow-two").waitFor();
  expect(await general.inputValue()).toBe("said to all of you");
  expect(await page.getByRole("log").getByText("said to all").count()).toBe(0);
  await room(page, "slow-two").click();
  await eventually(() => messageTo(page, "slow-two").inputValue(), "later");
  for (const one of [...others.map((other) => other.context), context]) await one.close();
});

test("written text is shown character by character, and none of it runs", async () => {
  const ivy = await stage.enter("ivy");
  const jon = await stage.enter("jon", { replica: 1 });
  const texts = [
    '<img src=x onerror="window.__xss=1">',
    "<svg onload=window.__xss=1><script>window.__xss=1</script>",
    "</span></li><style>*{display:none}</style>",
    "[x](javascript:window.__xss=1) javascript:window.__xss=1",
    "a<b && c>d, Tom & Jerry, &lt;kept&gt;",
    "two  spaces\n\n\tand a tab",
    "\u202Eturned around\u202C \u200B zero width",
    "👩‍👩‍👧‍👦",
  ];
  for (const text of texts) {
    await say(ivy.page, text);
    await eventually(async () => (await shownTexts(jon.page)).at(-1), text);
  }
  const name = "<b onmouseover=window.__xss=1>Bold</b>";
  await ivy.page.getByRole("button", { name: "New room" }).click();
  await ivy.page.getByLabel("Name").fill(name);
  await ivy.page.getByRole("button", { name: "Create room" }).click();
  await ivy.page.getByRole("heading", { level: 1, name }).waitFor();
  await jon.page.getByRole("button", { name: "Browse rooms" }).click();
  await jon.page.getByText(name, { exact: true }).hover();
  for (const { page, complaints } of [ivy, jon]) {
    expect(await page.evaluate(() => "__xss" in window)).toBe(false);
    expect(complaints).toEqual([]);
  }
});

test("only web addresses become links, and they leak nothing", async () => {
  const kim = await stage.enter("kim");
  await say(
    kim.page,
    "See https://example.org/a_(b)?x=1&y=2. Or (http://example.net/) but not javascript:alert(1) nor ftp://example.org",
  );
  const links = kim.page.getByRole("log").getByRole("link");
  const found = () =>
    links.evaluateAll((elements) =>
      elements.map((element) => [
        element.textContent,
        element.getAttribute("href"),
        element.getAttribute("rel"),
        element.getAttribute("target"),
      ]),
    );
  const rel = "noopener noreferrer nofollow";
  await eventually(found, [
    ["https://example.org/a_(b)?x=1&y=2", "https://example.org/a_(b)?x=1&y=2", rel, "_blank"],
    ["http://example.net/", "http://example.net/", rel, "_blank"],
  ]);
  await say(kim.page, "Or www.example.org/a, not www.x");
  await say(kim.page, "“https://example.org/b”,https://example.org/c。谢谢 (joe@example.org)");
  await eventually(
    async () => (await found()).slice(2).map(([text, href]) => [text, href]),
    [
      ["www.example.org/a", "https://www.example.org/a"],
      ["https://example.org/b", "https://example.org/b"],
      ["https://example.org/c", "https://example.org/c"],
      ["joe@example.org", "mailto:joe@example.org"],
    ],
  );
});

test("a taken name, a refused password and a wrong one are explained at their fields", async () => {
  const { page } = await openPage(stage.browser, addressOf(stage.house, 0), "stranger");
  await signUp(page, "lou");
  await messageTo(page, "General").waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Welcome back" }).waitFor();

  await signUp(page, "LOU");
  await page.getByText("This name is taken.").waitFor();
  const name = page.getByLabel("Username");
  const password = page.getByLabel("Password", { exact: true });
  const blamed = (field: typeof name) =>
    field.evaluate((input) => ({
      invalid: input.getAttribute("aria-invalid"),
      says: document.getElementById(input.getAttribute("aria-describedby") ?? "")?.textContent,
      focused: document.activeElement === input,
    }));
  expect(await blamed(name)).toEqual({
    invalid: "true",
    says: "This name is taken. Try another one.",
    focused: true,
  });
  await name.fill("lou-two");
  await password.fill("password1");
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByText("guessed first").waitFor();
  expect(await blamed(password)).toEqual({
    invalid: "true",
    says: expect.stringMatching(/^This is one of the passwords that are guessed first\./),
    focused: true,
  });
  expect((await blamed(name)).invalid).toBe("false");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByLabel("Password", { exact: true }).fill("not the password");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("do not belong together").waitFor();
  await page.getByLabel("Username").fill("lou");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await messageTo(page, "General").waitFor();
});

test("logging out in one window logs out the other", async () => {
  const { page, context } = await stage.enter("mia");
  const other = await context.newPage();
  await other.goto(addressOf(stage.house, 0));
  await messageTo(other, "General").waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await other.getByText("Your session has ended.").waitFor();
});
