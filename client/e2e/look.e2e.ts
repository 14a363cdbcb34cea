import { chromium, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person, unwrap } from "../../server/src/testing.ts";
import {
  addressOf,
  createRoom,
  eventually,
  faultsIn,
  faultsInBoth,
  FLAGS,
  message,
  messageTo,
  openPage,
  PASSWORD,
  room,
  say,
  setStage,
  signUp,
  talkTo,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

/** Notes what axe finds wrong, light and dark, by the state of the page. */
function createJudge() {
  const found: Record<string, string[]> = {};
  const judge = async (state: string, page: Page) => {
    const wrong = await faultsInBoth(page);
    if (wrong.length > 0) found[state] = wrong;
  };
  return { found, judge };
}

test("axe finds no fault in any state of the app, light and dark", async () => {
  const options = { bypassCSP: true, reducedMotion: "reduce", link: true } as const;
  const { found, judge } = createJudge();
  const { page, link } = await openPage(stage.browser, addressOf(stage.house, 0), "ann", options);
  await page.reload();
  await page.getByRole("heading", { name: "Welcome back" }).waitFor();
  await judge("log in", page);
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByRole("button", { name: "Create account" }).click();
  await judge("sign up with faults", page);
  await page.getByLabel("Username").fill("ann");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Create account" }).click();
  await messageTo(page, "General").waitFor();
  await judge("the first room", page);

  const ben = await stage.enter("ben", { replica: 1 });
  await say(ben.page, "Hello, see https://example.org");
  await message(page, "Hello, see https://example.org")
    .or(page.getByRole("link", { name: "https://example.org" }))
    .first()
    .waitFor();
  await say(page, "Welcome");
  await talkTo(page, "ben");
  await judge("an empty private room", page);
  await say(ben.page, "Anybody?");
  await room(page, "General").locator("[data-part=unread]").waitFor();
  await judge("unread messages", page);
  for (const name of ["New room", "Browse rooms", "Jump to…"]) {
    await page.getByRole("button", { name }).click();
    await page.getByRole("dialog").waitFor();
    await judge(name, page);
    await page.keyboard.press("Escape");
  }
  await page.setViewportSize({ width: 820, height: 1100 });
  await page.getByRole("main").getByRole("button", { name: "People" }).click();
  await page.getByRole("dialog", { name: "People" }).waitFor();
  await judge("people over the conversation", page);
  await page.keyboard.press("Escape");
  await page.setViewportSize({ width: 360, height: 740 });
  await judge("a room on a phone", page);
  await page.getByRole("link", { name: "Back to the rooms" }).click();
  await judge("the rooms on a phone", page);
  await page.evaluate(() => (location.hash = "#/room/99999"));
  await page.getByRole("heading", { name: "Not one of your rooms" }).waitFor();
  await judge("a room of others", page);
  await room(page, "General")
    .or(page.getByRole("link", { name: "Back to the rooms" }))
    .first()
    .click();
  await createRoom(page, "Attic");
  link.garble("left behind");
  await say(page, "left behind");
  await page.getByText("Not sent.").waitFor();
  await page.getByRole("button", { name: "Room options" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Leave room" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Leave room" }).click();
  await messageTo(page, "General").waitFor();
  await page.getByRole("link", { name: "Back to the rooms" }).click();
  await judge("a room that was left with a message", page);
  await room(page, "A room you left").click();
  await page.getByRole("button", { name: "Delete" }).waitFor();
  await judge("the message of a room that was left", page);
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("link", { name: "Back to the rooms" }).click();
  await room(page, "General").click();
  link.garble("refused");
  await say(page, "refused");
  await page.getByText("Not sent.").waitFor();
  link.cut();
  await say(page, "waits");
  await page.getByText("You are offline.").waitFor();
  // Tall enough for all messages: a name that is half scrolled away is too small a target.
  await page.setViewportSize({ width: 360, height: 1_200 });
  await judge("offline, with a failed and a waiting message", page);
  await page.setViewportSize({ width: 360, height: 740 });
  await page.getByRole("link", { name: "Back to the rooms" }).click();
  await page.getByText("One message waits to be sent.").waitFor();
  await judge("offline, the rooms on a phone", page);
  expect(found).toEqual({});
});

test("axe finds nothing wrong in threads, in what can be done with a message, and in what finds one, light and dark", async () => {
  const { found, judge } = createJudge();
  const options = { bypassCSP: true, reducedMotion: "reduce" } as const;
  const { page } = await stage.enter("amy", options);
  const bob = await person(both(stage.house)[1], "bob");
  const roomId = "0";
  const root = await bob.say(roomId, "@amy, who brings **the cake**?");
  const answer = async (text: string, nonce: string) =>
    unwrap(await bob.socket.emitWithAck("message", { roomId, message: text, nonce, replyTo: root.seq }));
  await answer("cake, one", "first");
  await answer("cake, two", "second");
  const gone = await bob.say(roomId, "gone soon");
  const code = await bob.say(roomId, "```ts\nconst cakes = 2; // or three\n```\n> said `before`\n- a list");
  unwrap(await bob.socket.emitWithAck("message.react", { roomId, seq: root.seq, emoji: "🎂", on: true }));
  unwrap(await bob.socket.emitWithAck("message.pin", { roomId, seq: code.seq, on: true }));
  unwrap(await bob.socket.emitWithAck("message.delete", { roomId, seq: gone.seq }));
  // Who has been away is told by a badge.
  await page.reload();
  const row = (seq: number) => page.locator(`#conversation [data-seq="${seq}"]`);
  await say(page, "mine");
  const mine = page.locator("[data-seq]").filter({ hasText: "mine" });
  await mine.waitFor();
  await row(code.seq).locator("code span").first().waitFor();
  await row(root.seq).locator("strong").waitFor();
  await judge("messages of all kinds", page);

  await mine.hover();
  const bar = page.getByRole("toolbar", { name: "Message actions" });
  await bar.getByRole("button", { name: "Add reaction" }).click();
  await page.getByRole("button", { name: "More emoji" }).waitFor();
  await judge("a message's actions", page);
  await page.keyboard.press("Escape");
  await mine.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Message" }).waitFor();
  await judge("a message's actions over the page", page);
  await page.getByRole("dialog").getByRole("button", { name: "Edit message" }).click();
  const field = page.getByRole("textbox", { name: "Edit message" });
  await field.waitFor();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await judge("a message that is edited", page);
  await field.press("Escape");

  const composer = messageTo(page, "General");
  for (const begun of ["@", ":smil"]) {
    await composer.pressSequentially(begun);
    await page.getByRole("listbox", { name: "Suggestions" }).waitFor();
    await judge(`what ${begun} can become`, page);
    await composer.press("Escape");
    await composer.fill("");
  }
  const dialog = page.getByRole("dialog");
  const lists: [state: string, open: () => Promise<void>, shows: Locator][] = [
    [
      "the emoji",
      () => page.getByRole("button", { name: "Emoji", exact: true }).click(),
      dialog.getByRole("button", { name: "grinning face", exact: true }),
    ],
    [
      "pinned messages",
      () => page.getByRole("button", { name: "Pinned messages" }).click(),
      dialog.getByRole("button", { name: /^bob.*const cakes/ }),
    ],
    [
      "mentions",
      () => page.keyboard.press("Control+Shift+M"),
      dialog.getByText("who brings the cake?").first(),
    ],
    [
      "a search",
      async () => {
        await page.keyboard.press("Control+f");
        await page.getByRole("combobox", { name: "Any part of a word" }).fill("cake");
      },
      dialog.getByRole("option").filter({ hasText: "two" }).locator("mark").first(),
    ],
    [
      "what notifies",
      () => page.getByRole("main").getByRole("button", { name: "Notifications" }).click(),
      dialog.getByRole("radio").first(),
    ],
    ["the keys", () => page.keyboard.press("Control+/"), dialog.getByText("Search messages")],
  ];
  for (const [state, open, shows] of lists) {
    await open();
    await shows.waitFor();
    await judge(state, page);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  }

  const pane = page.locator("[data-part=thread-pane]");
  await row(root.seq)
    .getByRole("button", { name: /^2 replies/ })
    .click();
  await pane.getByText("cake, two").waitFor();
  await judge("a thread beside the conversation", page);
  await page.setViewportSize({ width: 360, height: 740 });
  await page.getByRole("main", { name: "Thread" }).waitFor();
  await judge("a thread on a phone", page);
  await page.getByRole("button", { name: "Back to the conversation" }).click();
  await pane.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Room options" }).click();
  await judge("what a phone has in the room's options", page);
  await dialog.getByRole("button", { name: "Fold replies into threads" }).click();
  await page.locator("#conversation").getByText("cake, two").waitFor({ state: "detached" });
  await judge("a folded room on a phone", page);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByRole("complementary", { name: "People" }).getByText("bob").first().waitFor();
  await judge("a folded room", page);
  expect(found).toEqual({});
  bob.close();
});

test("axe finds nothing wrong at any width, light and dark, in dialogs, threads and a folded room", async () => {
  const { page, name } = await stage.enter("zoe", { bypassCSP: true, reducedMotion: "reduce" });
  const bob = await person(both(stage.house)[1], "bob-wide");
  const { redis, keys } = stage.house;
  const id = (await redis.get(keys.username(name)))?.replace("user:", "") ?? "";
  await redis.hset(keys.user(id), "role", "owner");
  const root = await bob.say("0", "@zoe, a question at every width?");
  const answer = { roomId: "0", message: "An answer at every width", nonce: "wide", replyTo: root.seq };
  unwrap(await bob.socket.emitWithAck("message", answer));
  await page.reload();
  const row = page.locator(`#conversation [data-seq="${root.seq}"]`);
  await row.waitFor();

  const found: Record<string, string[]> = {};
  const judge = async (state: string) => {
    for (const width of [1440, 1024, 768, 360]) {
      await page.setViewportSize({ width, height: 800 });
      await page.evaluate(
        () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
      );
      // Between these widths no colour changes.
      const wrong = await (width === 1440 || width === 360 ? faultsInBoth : faultsIn)(page);
      if (wrong.length > 0) found[`${state}, ${width}`] = wrong;
    }
    await page.setViewportSize({ width: 1440, height: 800 });
  };
  const dialog = page.getByRole("dialog");
  const inMain = (label: string) => () => page.getByRole("main").getByRole("button", { name: label }).click();
  const dialogs: [state: string, open: () => Promise<void>, shows: Locator][] = [
    [
      "the emoji",
      async () => {
        await inMain("Emoji")();
        // All of them are judged above.
        await dialog.getByRole("searchbox").fill("grinning");
        await dialog.getByRole("button", { name: "dog face" }).waitFor({ state: "detached" });
      },
      dialog.getByRole("button", { name: "grinning face", exact: true }),
    ],
    ["a day", () => page.locator("[data-part=day] button").last().click(), dialog.getByLabel("Day")],
    [
      "mentions",
      () => page.keyboard.press("Control+Shift+M"),
      dialog.getByText("a question at every width?").first(),
    ],
    [
      "a search",
      async () => {
        await page.keyboard.press("Control+f");
        await page.getByRole("combobox", { name: "Any part of a word" }).fill("answer at every");
      },
      dialog.getByRole("option").locator("mark").first(),
    ],
    ["a room", inMain("Room details"), dialog.getByRole("tab").first()],
    [
      "the account",
      () => page.getByRole("button", { name: /^Your account/ }).click(),
      dialog.getByLabel("Display name"),
    ],
    [
      "administration",
      () => page.getByRole("button", { name: "Administration" }).click(),
      dialog.getByRole("button", { name: "Manage bob-wide" }),
    ],
  ];
  for (const [state, open, shows] of dialogs) {
    await open();
    await shows.waitFor();
    await judge(state);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  }
  await row.getByRole("button", { name: /^1 reply/ }).click();
  const pane = page.locator("[data-part=thread-pane]");
  await pane.getByText("An answer at every width").waitFor();
  await judge("a thread");
  await page.keyboard.press("Escape");
  await pane.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Fold replies into threads" }).click();
  await page.locator("#conversation").getByText("An answer at every width").waitFor({ state: "detached" });
  await judge("a folded room");
  expect(found).toEqual({});
  bob.close();
}, 400_000);

test("everything can be done with the keyboard alone", async () => {
  const cat = await stage.enter("cat");
  const { page } = await openPage(stage.browser, addressOf(stage.house, 1), "dan");
  const keys = page.keyboard;
  const focused = () =>
    page.evaluate(
      () => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "",
    );
  const tabTo = async (name: string) => {
    for (let steps = 0; steps < 100; steps++) {
      if ((await focused()) === name) return;
      await keys.press("Tab");
    }
    throw new Error(`Tab never came to ${name}`);
  };
  await tabTo("Create an account");
  await keys.press("Enter");
  await keys.type("dan");
  await keys.press("Tab");
  await keys.type(PASSWORD);
  await keys.press("Enter");
  await messageTo(page, "General").waitFor();
  await eventually(focused, "Message to General");
  await keys.type("No mouse");
  await keys.press("Shift+Enter");
  await keys.type("in sight");
  await keys.press("Enter");
  await message(cat.page, "No mouse\nin sight").waitFor();

  await keys.press("Control+k");
  await page.getByRole("dialog").waitFor();
  await keys.type("ca");
  await keys.press("Enter");
  await messageTo(page, "cat").waitFor();
  await eventually(focused, "Message to cat");
  await keys.type("Only you");
  await keys.press("Enter");
  await keys.press("Alt+ArrowUp");
  await messageTo(page, "General").waitFor();
  await keys.press("Alt+ArrowDown");
  await messageTo(page, "cat").waitFor();

  await tabTo("New room");
  await keys.press("Enter");
  await page.getByRole("dialog", { name: "New room" }).waitFor();
  await keys.press("Escape");
  await eventually(() => page.getByRole("dialog").count(), 0);
  await eventually(focused, "New room");
  await keys.press("Enter");
  await keys.type("By keys");
  await keys.press("Enter");
  await messageTo(page, "By keys").waitFor();
  await keys.press("Alt+ArrowUp");
  await messageTo(page, "General").waitFor();
  await tabTo("Messages in General");
  await eventually(() => page.evaluate(() => document.activeElement?.getAttribute("role")), "log");
  await tabTo("Log out");
  await keys.press("Enter");
  await page.getByRole("heading", { name: "Welcome back" }).waitFor();
});

test("a phone shows one pane at a time, with nothing cut off or too small to touch", async () => {
  const options = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
  const { page } = await openPage(stage.browser, addressOf(stage.house, 0), "eve", options);
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  const tooSmall = () =>
    page.evaluate(() =>
      [...document.querySelectorAll("button, a[href], input, textarea, [role=option]")]
        .filter(
          (element) =>
            element.checkVisibility() &&
            !element.matches("[href='#conversation'], [data-state] a, [data-state] button"),
        )
        .map((element) => ({
          element,
          box: (element.closest("[data-part=box]") ?? element).getBoundingClientRect(),
        }))
        .filter(({ box }) => box.height < 44 || box.width < 44)
        .map(({ element }) => element.getAttribute("aria-label") ?? element.textContent),
    );
  const settled = async () => [await overflow(), await tooSmall()];
  await eventually(settled, [0, []]);
  await page.getByRole("button", { name: "Create an account" }).tap();
  await page.getByLabel("Username").fill("eve-with-a-rather-long-name.1234");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Create account" }).tap();
  await room(page, "General").waitFor();
  await eventually(() => page.getByRole("log").count(), 0);
  await eventually(settled, [0, []]);

  await room(page, "General").tap();
  await messageTo(page, "General").waitFor();
  await eventually(() => page.getByRole("navigation", { name: "Rooms" }).count(), 0);
  await messageTo(page, "General").fill(
    `Longest${"word".repeat(40)} and https://example.org/${"path/".repeat(30)}`,
  );
  await page.getByRole("button", { name: "Send message" }).tap();
  await page.locator("[data-state=sent]").last().waitFor();
  await eventually(settled, [0, []]);
  // As wide as its word, and no higher than a line, though a finger hits it above and below.
  const day = await page.locator("[data-part=day] :not(:has(*))").boundingBox();
  expect((day?.width ?? 0) / (day?.height ?? 1)).toBeGreaterThan(2);
  await page.getByRole("button", { name: "People" }).tap();
  await page.getByRole("dialog", { name: "People" }).waitFor();
  // It grows while it opens.
  await eventually(settled, [0, []]);
  await page.getByRole("button", { name: "Close" }).tap();
  await page.getByRole("link", { name: "Back to the rooms" }).tap();
  await room(page, "General").waitFor();
  await page.goBack();
  await messageTo(page, "General").waitFor();
});

test("on a small page a room's name is readable, nothing is cut off, and lists have space", async () => {
  const { page } = await stage.enter("gil", { hasTouch: true, bypassCSP: true });
  await page.setViewportSize({ width: 320, height: 568 });
  const word = "Donaudampfschifffahrtselektrizitätengesellschaften";
  const origin = addressOf(stage.house, 0);
  const made = await page.request.post(`${origin}/api/rooms`, { data: { name: word }, headers: { origin } });
  expect(made.status()).toBe(201);
  await page.getByRole("link", { name: "Back to the rooms" }).click();
  await room(page, word).click();
  const composer = messageTo(page, word);
  await composer.waitFor();
  const widthOf = (selector: string) =>
    page.locator(selector).evaluate((one) => one.getBoundingClientRect().width);
  expect(await widthOf("#room-title")).toBeGreaterThan(160);
  // What is too long for its line is broken or ends with dots, and no second line shows its upper half.
  const welcome = page.getByRole("heading", { name: `Welcome to ${word}` });
  const inside = (one: Element) => {
    const { left, right } = one.getBoundingClientRect();
    return left >= 0 && right <= innerWidth;
  };
  expect(await welcome.evaluate(inside)).toBe(true);
  expect(await composer.evaluate((one) => getComputedStyle(one, "::placeholder").whiteSpace)).toBe("nowrap");
  await page.getByRole("button", { name: "Emoji", exact: true }).click();
  const tones = page.getByRole("group", { name: "Tone of skin" });
  const picker = page.getByRole("dialog", { name: "Emoji" });
  await tones.waitFor();
  const ends = await Promise.all([tones.getByRole("button").last(), picker].map((one) => one.boundingBox()));
  expect((ends[0]?.x ?? 0) + (ends[0]?.width ?? 0)).toBeLessThan((ends[1]?.x ?? 0) + (ends[1]?.width ?? 0));
  await page.keyboard.press("Escape");

  // As on a phone on its side, and on a page at 400 %.
  await page.setViewportSize({ width: 320, height: 256 });
  await page.getByRole("link", { name: "Back to the rooms" }).click();
  const list = page.getByRole("navigation", { name: "Rooms" });
  await list.hover();
  await page.mouse.wheel(0, 5_000);
  await eventually(() => room(page, word).isVisible(), true);
  const inView = (one: Element) => {
    const { top, bottom } = one.getBoundingClientRect();
    const hit = document.elementFromPoint(innerWidth / 2, (top + bottom) / 2);
    return hit !== null && one.contains(hit);
  };
  await eventually(() => room(page, word).evaluate(inView), true);
  expect(await room(page, "General").evaluate(inView)).toBe(true);
  await page.getByRole("button", { name: "Jump to…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("option").first().waitFor();
  expect(await dialog.evaluate((one) => one.scrollHeight > one.clientHeight)).toBe(true);
  await page.keyboard.press("Escape");

  // A browser that is told to show larger letters.
  await page.setViewportSize({ width: 1280, height: 800 });
  await room(page, "General").click();
  await page.addStyleTag({ content: "html { font-size: 200% !important }" });
  const cutOff = () => page.locator("main header h1").evaluate((one) => one.getBoundingClientRect().top < 0);
  expect(await cutOff()).toBe(false);
});

test("with letters of twice the size, emoji and initials stay in their places, and a small page's dialogs scroll", async () => {
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  const args = [...FLAGS, "--blink-settings=defaultFontSize=32"];
  const browser = await chromium.launch({ executablePath, args });
  const visitor = await person(both(stage.house)[1], "wendy-w");
  const { page } = await openPage(browser, addressOf(stage.house, 0), "wendy-w", {}, visitor.browser.cookie);
  await messageTo(page, "General").waitFor();
  await say(page, "large");
  await page.locator("[data-state=sent]").first().waitFor();
  await page.setViewportSize({ width: 320, height: 568 });
  /** The drawn texts that are wider than their elements. */
  const spilt = (places: Locator) =>
    places.evaluateAll((all) =>
      all
        .filter((one) => {
          const text = document.createRange();
          text.selectNodeContents(one);
          return text.getBoundingClientRect().width > one.getBoundingClientRect().width + 1;
        })
        .map((one) => one.textContent),
    );
  const row = page.locator("[data-seq]").filter({ hasText: "large" });
  expect(await spilt(row.locator("[aria-hidden][style]"))).toEqual([]);
  await row.focus();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  const quick = dialog.getByRole("button", { name: /^React with/ });
  await quick.first().waitFor();
  expect(await spilt(quick)).toEqual([]);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Emoji", exact: true }).click();
  const faces = dialog.getByRole("button", { name: /^grinning/ });
  await faces.first().waitFor();
  expect(await spilt(faces)).toEqual([]);
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+/");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  expect(await dialog.evaluate((one) => one.scrollHeight > one.clientHeight)).toBe(true);
  await browser.close();
  visitor.close();
});

test("the heads of a room and of a thread grow with the spacing that their reader needs", async () => {
  const { page } = await stage.enter("spaced", { bypassCSP: true });
  await say(page, "wide words");
  const said = page.locator("[data-seq]").filter({ hasText: "wide words" });
  await said.waitFor();
  await said.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("button", { name: "Start a thread" }).click();
  await page.getByRole("heading", { name: "Thread", exact: true }).waitFor();
  await page.addStyleTag({
    content:
      "* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important } p { margin-bottom: 2em !important }",
  });
  const outside = (name: string) =>
    page.getByRole("heading", { name, exact: true }).evaluate((title) => {
      const words = title.parentElement?.getBoundingClientRect();
      const head = title.parentElement?.parentElement?.getBoundingClientRect();
      if (words === undefined || head === undefined) throw new Error("The title is in no head");
      return Math.max(head.top - words.top, words.bottom - head.bottom);
    });
  expect(await outside("General")).toBeLessThanOrEqual(0);
  expect(await outside("Thread")).toBeLessThanOrEqual(0);
});

test("nothing moves while the app loads, nothing is fetched from other sites, and the page violates no policy of its own", async () => {
  const { page, complaints } = await stage.enter("fay");
  await say(page, "something to load");
  await message(page, "something to load").waitFor();
  const origins = new Set<string>();
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  await page.addInitScript(() => {
    const shifts: number[] = [];
    Object.assign(window, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries())
        shifts.push((entry as PerformanceEntry & { value: number }).value);
    }).observe({ type: "layout-shift", buffered: true });
  });
  await page.reload();
  await message(page, "something to load").waitFor();
  await page.getByRole("complementary", { name: "People" }).getByText("fay", { exact: true }).waitFor();
  const shifted = await page.evaluate(() =>
    (window as unknown as { shifts: number[] }).shifts.reduce((sum, value) => sum + value, 0),
  );
  expect(shifted).toBeLessThan(0.02);
  expect([...origins]).toEqual([addressOf(stage.house, 0)]);
  expect(complaints).toEqual([]);
});

test("the first load is not larger than measured, before and after log-in", async () => {
  const { page } = await openPage(stage.browser, addressOf(stage.house, 0), "hal");
  const loaded = () =>
    page.evaluate(() => {
      const entries = performance.getEntries() as PerformanceResourceTiming[];
      const files = entries.filter(({ entryType, name }) =>
        entryType === "navigation" ? true : /\.(?:js|css)$/.test(new URL(name, location.href).pathname),
      );
      // One that was aborted has no size.
      const sizes = files.map(({ encodedBodySize }) => encodedBodySize).filter((size) => size > 0);
      return { kb: sizes.reduce((sum, size) => sum + size, 0) / 1_000, files: sizes.length };
    });
  const before = await loaded();
  expect(before.kb).toBeLessThan(104);
  expect(before.files).toBeLessThanOrEqual(8);
  await signUp(page, "hal");
  await messageTo(page, "General").waitFor();
  // What the page loads for later, once the rooms are shown.
  await page.route(/\/(?:later|LogIn|NewPassword|Files|choose|files|markdown)-[^/]*$/, (route) =>
    route.abort(),
  );
  await page.reload();
  await messageTo(page, "General").waitFor();
  const after = await loaded();
  expect(after.kb).toBeLessThan(133);
  expect(after.files).toBeLessThanOrEqual(8);
});

test("text that is typed while a dialog loads goes into it, and the dialog appears only with its style sheet", async () => {
  const { page } = await stage.enter("ida");
  let refusals = 2;
  await page.route(/later-.*\.css$/, (route) => (refusals-- > 0 ? route.abort() : route.continue()));
  await page.reload();
  await messageTo(page, "General").waitFor();
  await page.getByRole("button", { name: "New room" }).click();
  await page.keyboard.type("Tea room");
  await page.getByRole("dialog", { name: "New room" }).waitFor();
  expect(refusals).toBeLessThan(0);
  expect(await page.getByLabel("Name").inputValue()).toBe("Tea room");
  expect(await messageTo(page, "General").inputValue()).toBe("");
  const { display, radius } = await page.getByRole("dialog").evaluate((dialog) => {
    const style = getComputedStyle(dialog);
    return { display: style.display, radius: style.borderTopLeftRadius };
  });
  expect([display, radius]).toEqual(["flex", "16px"]);
});

test("a dialog that is long in coming says so, and no longer once it is given up or there", async () => {
  const { page } = await stage.enter("ike");
  let come = () => {};
  const wait = new Promise<void>((resolve) => (come = resolve));
  await page.route(/\/later-[^/]*\.js$/, async (route) => {
    await wait;
    await route.continue();
  });
  await page.reload();
  await messageTo(page, "General").waitFor();
  const said = page.getByRole("alert").getByText("Loading…", { exact: true });
  await page.getByRole("button", { name: "New room" }).click();
  await said.waitFor();
  await page.keyboard.press("Escape");
  await said.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "New room" }).click();
  await said.waitFor();
  come();
  await page.getByRole("dialog", { name: "New room" }).waitFor();
  await said.waitFor({ state: "detached" });
});

test("a part of the app that was out of reach once opens when the network is back, and nothing typed is lost", async () => {
  const { page } = await stage.enter("jan");
  let refusals = 0;
  let isOut = true;
  await page.route(/\/later-[^/]*\.js$/, (route) => {
    if (isOut) refusals += 1;
    return isOut ? route.abort() : route.continue();
  });
  // Not a reload: such a page waits for a while.
  await page.goto("about:blank");
  await page.goto(addressOf(stage.house, 0));
  page.on("request", (request) => {
    if (request.isNavigationRequest()) isOut = false;
  });
  await messageTo(page, "General").fill("half a sentence");
  await page.getByRole("button", { name: "New room" }).click();
  await eventually(() => refusals > 0, true);
  // Only some browsers request it again, and a new page would disturb a writer.
  await page.waitForTimeout(5_000);
  expect(await messageTo(page, "General").inputValue()).toBe("half a sentence");
  await Promise.all([page.waitForEvent("load"), messageTo(page, "General").fill("")]);
  await messageTo(page, "General").waitFor();
  await page.getByRole("button", { name: "New room" }).click();
  await page.getByRole("dialog", { name: "New room" }).waitFor();
});

test("a line that is cut soon after the start takes no part of the app away", async () => {
  const { page, context } = await stage.enter("jon");
  await page.reload();
  await messageTo(page, "General").waitFor();
  await context.setOffline(true);
  // When the rest would have been loaded.
  await page.waitForTimeout(3_500);
  await context.setOffline(false);
  await page.getByText("Back.").or(page.getByText("You are offline")).first().waitFor();
  await page.getByText("You are offline").waitFor({ state: "detached" });
  await page.evaluate(() => Object.assign(window, { samePage: true }));
  await page.getByRole("button", { name: "New room" }).click();
  await page.getByRole("dialog", { name: "New room" }).waitFor();
  expect(await page.evaluate(() => "samePage" in window)).toBe(true);
});

test("the theme follows the system until one is chosen, and the choice stays", async () => {
  const { page } = await stage.enter("gus", { colorScheme: "dark" });
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await paper();
  await page.emulateMedia({ colorScheme: "light" });
  const light = await paper();
  expect(dark).not.toBe(light);
  await page.getByRole("button", { name: "Theme: as the system" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  await eventually(paper, dark);
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).waitFor();
  await eventually(paper, dark);

  // Where the system forces its own colours, no state is told by a background alone.
  await page.emulateMedia({ forcedColors: "active" });
  (await person(both(stage.house)[1], "gone-by-now")).close();
  await messageTo(page, "General").fill("@");
  await page.getByRole("option").nth(1).waitFor();
  const look = (selector: string) =>
    page
      .locator(selector)
      .first()
      .evaluate((one) => {
        const { outline, borderColor, backgroundColor } = getComputedStyle(one);
        return [outline, borderColor, backgroundColor].join(" ");
      });
  for (const [on, off] of [
    ["[role=option][aria-selected=true]", "[role=option][aria-selected=false]"],
    ["main header [aria-pressed=true]", "main header [aria-pressed=false]"],
    ["aside [data-part=dot][data-online]", "aside [data-part=dot]:not([data-online])"],
  ] as const)
    expect(await look(on), on).not.toBe(await look(off));
});

test("where the system forces its own colours, a field with the focus, a button that does nothing yet, a mention of its reader and what lies over the page are told by their lines", async () => {
  const { page } = await stage.enter("una", { forcedColors: "active", reducedMotion: "reduce" });
  const bob = await person(both(stage.house)[1], "una-hears");
  /** What is seen of an element and of what it lies in. */
  const lines = (field: Locator) =>
    field.evaluate((one) => {
      const seen: string[] = [];
      for (let at: Element | null = one; at !== null && at !== document.body; at = at.parentElement) {
        // The system's are the colours that are seen.
        const { outlineStyle, outlineWidth, borderWidth } = getComputedStyle(at);
        seen.push(`${outlineStyle === "none" ? "none" : outlineWidth} ${borderWidth}`);
      }
      return seen.join("; ");
    });
  const composer = messageTo(page, "General");
  const send = page.getByRole("button", { name: "Send message" });
  const colour = () => send.evaluate((button) => getComputedStyle(button).color);
  const off = await colour();
  await composer.fill("first words");
  expect(await colour()).not.toBe(off);
  await composer.press("Enter");
  const sent = page.locator("[data-seq]").filter({ hasText: "first words" });
  await sent.waitFor();
  await sent.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("button", { name: "Edit message" }).click();
  const edited = page.getByRole("textbox", { name: "Edit message" });
  const judge = async (...fields: Locator[]) => {
    for (const field of fields) {
      await field.focus();
      const focused = await lines(field);
      await field.evaluate((one: HTMLElement) => one.blur());
      expect(focused).not.toBe(await lines(field));
    }
  };
  await judge(edited, composer, page.getByRole("searchbox", { name: "Find people" }));
  await edited.press("Escape");
  await page.getByRole("button", { name: "New room" }).click();
  await judge(page.getByLabel("Name", { exact: true }), page.getByLabel("Topic"));
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });

  const border = (one: Locator) =>
    one.evaluate((element) => {
      const { borderTopStyle, borderTopWidth } = getComputedStyle(element);
      return [borderTopStyle, borderTopWidth];
    });
  await bob.say("0", "@una not @una-hears");
  const mentions = page.locator("[data-seq]").filter({ hasText: "@una not" }).locator("[data-part=mention]");
  await mentions.nth(1).waitFor();
  const outlines = mentions.evaluateAll((all) => all.map((one) => getComputedStyle(one).outlineStyle));
  expect(await outlines).toEqual(["solid", "none"]);
  for (let each = 0; each < 60; each++) await bob.say("0", `line ${each}`);
  await message(page, "line 59").waitFor();
  await page.getByRole("log").evaluate((log) => (log.scrollTop = 0));
  const latest = page.getByRole("button", { name: "Jump to latest" });
  await latest.waitFor();
  expect(await border(latest)).toEqual(["solid", "1px"]);
  bob.close();
});

test("where more contrast is wanted, lines are seen and no text is pale, light and dark", async () => {
  const { page } = await stage.enter("hope", { contrast: "more" });
  /** The contrast between two colours of the page. */
  const ratio = (one: string, what: "color" | "borderBottomColor", behind: string) =>
    page.evaluate(
      ([selector, property, ground]) => {
        const styleOf = (place: string) => getComputedStyle(document.querySelector(place) ?? document.body);
        const light = (colour: string) => {
          const parts = (colour.match(/[\d.]+/g) ?? []).slice(0, 3).map((part) => Number(part) / 255);
          const [r = 0, g = 0, b = 0] = parts.map((c) =>
            c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4,
          );
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const [less = 0, more = 0] = [styleOf(selector)[property], styleOf(ground).backgroundColor]
          .map(light)
          .toSorted((a, b) => a - b);
        return (more + 0.05) / (less + 0.05);
      },
      [one, what, behind] as const,
    );
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    expect(await ratio("main header", "borderBottomColor", "main")).toBeGreaterThan(3);
    expect(await ratio("main header p", "color", "main")).toBeGreaterThan(7);
    expect(await ratio("nav h2", "color", "nav")).toBeGreaterThan(7);
  }
});
