import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person } from "../../server/src/testing.ts";
import { createRoom, eventually, message, messageTo, room, say, setStage, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

test("a name is completed after an @, and the mentioned person sees a mention beside the unread count", async () => {
  const ann = await stage.enter("ann");
  const ben = await stage.enter("ben.b", { replica: 1 });
  await say(ben.page, "here I am");
  await createRoom(ben.page, "elsewhere");
  const composer = messageTo(ann.page, "General");
  await composer.pressSequentially("Hi @be");
  const list = ann.page.getByRole("listbox", { name: "Suggestions" });
  await eventually(() => list.getByRole("option").allTextContents(), [expect.stringContaining("ben.b")]);
  expect(await composer.getAttribute("aria-activedescendant")).toBe(
    await list.getByRole("option", { selected: true }).getAttribute("id"),
  );
  await composer.press("Escape");
  await list.waitFor({ state: "hidden" });
  await composer.pressSequentially("n");
  await composer.press("Backspace");
  await composer.press("Control+A");
  await composer.pressSequentially("Hi @be");
  await list.waitFor();
  await composer.press("Enter");
  await eventually(() => composer.inputValue(), "Hi @ben.b ");
  await composer.pressSequentially("and `@ben.b`");
  await composer.press("Enter");
  await say(ann.page, "not named here");
  const badge = room(ben.page, "General").locator("[data-part=mentions]");
  await eventually(() => badge.textContent(), "@1 mention, ");
  await eventually(() => room(ben.page, "General").locator("[data-part=unread]").textContent(), "2 unread");
  await room(ben.page, "General").click();
  const mention = ben.page.getByRole("log").locator("[data-part=mention]");
  await eventually(() => mention.allTextContents(), ["@ben.b"]);
  await eventually(() => badge.count(), 0);
  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
});

test("a chosen name stays chosen while its list moves, and is the one that is written", async () => {
  const { page } = await stage.enter("ann-chooses");
  const [one, two] = await Promise.all(
    ["pat.one", "pat.two"].map((name) => person(both(stage.house)[1], name)),
  );
  if (one === undefined || two === undefined) throw new Error("Nobody came");
  const composer = messageTo(page, "General");
  const options = page.getByRole("listbox", { name: "Suggestions" }).getByRole("option");
  const names = async () =>
    (await options.allTextContents()).map((text) => /pat\.(?:one|two)/.exec(text)?.[0]);
  await one.say("0", "first of all");
  await two.say("0", "one moment");
  await message(page, "one moment").waitFor();
  await composer.pressSequentially("@pat");
  await eventually(names, ["pat.two", "pat.one"]);
  // What is chosen by itself stays, and so does what the keys chose.
  for (const [speaker, key, order, written] of [
    [one, "Shift", ["pat.one", "pat.two"], "@pat.two "],
    [two, "ArrowDown", ["pat.two", "pat.one"], "@pat.two "],
  ] as const) {
    await composer.fill("@pa");
    await composer.pressSequentially("t");
    await options.first().waitFor();
    await composer.press(key);
    await speaker.say("0", `${speaker.user.username} speaks`);
    await eventually(names, [...order]);
    await composer.press("Enter");
    await eventually(() => composer.inputValue(), written);
  }
  for (const speaker of [one, two]) speaker.close();
});

test("on a page of little height the chosen completion stays in sight", async () => {
  const { page } = await stage.enter("low", { viewport: { width: 740, height: 360 } });
  const composer = messageTo(page, "General");
  await composer.pressSequentially(":heart");
  const list = page.getByRole("listbox", { name: "Suggestions" });
  await list.waitFor();
  // The last one, which is the furthest from the first.
  await composer.press("ArrowUp");
  const last = list.getByRole("option").last();
  await eventually(() => last.getAttribute("aria-selected"), "true");
  const isInSight = (one: Element) => {
    const { left, top, bottom } = one.getBoundingClientRect();
    return one.contains(document.elementFromPoint(left + 10, (top + bottom) / 2));
  };
  await eventually(() => last.evaluate(isInSight), true);
});

test("a person's mentions are listed over all their rooms, newest first, with a link to each", async () => {
  const dan = await stage.enter("dan-named");
  const eve = await stage.enter("eve-names", { replica: 1 });
  await createRoom(dan.page, "named there");
  await dan.page.keyboard.press("Control+Shift+M");
  const list = dan.page.getByRole("dialog", { name: "Mentions" });
  await list.getByText("Nobody has named you yet.").waitFor();
  await dan.page.keyboard.press("Escape");
  await list.waitFor({ state: "detached" });

  await say(eve.page, "hello @dan-named, first");
  await eve.page.locator("[data-seq]").filter({ hasText: "@dan-named, first" }).waitFor();
  await eve.page.getByRole("button", { name: "Browse rooms" }).click();
  await eve.page.getByRole("dialog").getByLabel("Find a room").fill("named there");
  await eve.page.getByRole("dialog").getByRole("button", { name: "Join named there" }).click();
  await messageTo(eve.page, "named there").waitFor();
  await say(eve.page, "and @dan-named, second");
  await room(dan.page, "General").locator("[data-part=mentions]").waitFor();
  // One of them is sent to the room that is on the screen.
  const button = dan.page.getByRole("button", { name: "Mentions 1 unread" });
  await button.click();
  const texts = list.locator("[data-part=text]");
  await eventually(() => texts.allTextContents(), ["and @dan-named, second", "hello @dan-named, first"]);
  await list.getByRole("button", { name: /eve-names in General.*unread/ }).click();
  await messageTo(dan.page, "General").waitFor();
  await dan.page.locator("[data-target]").filter({ hasText: "hello @dan-named, first" }).waitFor();
  await dan.page.getByRole("button", { name: "Mentions", exact: true }).waitFor();
  // The focus is on the message, also after a reload with its address.
  const isOnIt = () => dan.page.evaluate(() => document.activeElement?.closest("[data-target]") !== null);
  await eventually(isOnIt, true);
  await dan.page.reload();
  await dan.page.locator("[data-target]").waitFor();
  await eventually(isOnIt, true);
  expect([...dan.complaints, ...eve.complaints]).toEqual([]);
});

test("older mentions that come after the list was read anew leave no gap in it", async () => {
  const gus = await stage.enter("gus-named");
  const hua = await stage.enter("hua-names");
  for (const text of ["first", "second", "third"]) await say(hua.page, `@gus-named, ${text}`);
  await gus.page.locator("[data-seq]").filter({ hasText: "third" }).waitFor();
  // Pages of one, and the older one only when the line is back.
  let answer = () => {};
  const back = new Promise<void>((resolve) => (answer = resolve));
  await gus.page.route(/\/api\/mentions/, async (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("size", "1");
    if (url.searchParams.has("before")) await back;
    await route.continue({ url: url.href });
  });
  await gus.page.keyboard.press("Control+Shift+M");
  const list = gus.page.getByRole("dialog", { name: "Mentions" });
  const texts = list.locator("[data-part=text]");
  await eventually(() => texts.allTextContents(), ["@gus-named, third"]);
  const older = list.getByRole("button", { name: "Show older ones" });
  await older.click();
  await gus.context.setOffline(true);
  await say(hua.page, "@gus-named, fourth");
  await hua.page.locator("[data-seq]").filter({ hasText: "fourth" }).waitFor();
  await gus.context.setOffline(false);
  await eventually(() => texts.allTextContents(), ["@gus-named, fourth"]);
  const answered = gus.page.waitForResponse(/\/api\/mentions/);
  answer();
  await answered;
  await older.click();
  await eventually(() => texts.allTextContents(), ["@gus-named, fourth", "@gus-named, third"]);
});

test("an emoji is found by its name in the composer and in the picker, and comes from our own server when it is needed", async () => {
  const { page, complaints } = await stage.enter("cyd");
  const loaded: string[] = [];
  page.on("request", (request) => loaded.push(request.url()));
  const composer = messageTo(page, "General");
  await composer.pressSequentially("so :thumbs");
  const list = page.getByRole("listbox", { name: "Suggestions" });
  await list.getByRole("option", { name: "👍" }).first().waitFor();
  // In a low window the list shows only some of them, and always the chosen one.
  await page.setViewportSize({ width: 800, height: 300 });
  await composer.press("ArrowUp");
  const chosen = list.getByRole("option", { selected: true });
  await eventually(async () => {
    const [inner, outer] = await Promise.all([chosen.boundingBox(), list.boundingBox()]);
    return inner && outer && inner.y >= outer.y && inner.y + inner.height <= outer.y + outer.height;
  }, true);
  await composer.press("ArrowDown");
  await composer.press("Tab");
  await eventually(() => composer.inputValue(), expect.stringMatching(/^so 👍\uFE0F? $/) as string);
  await page.setViewportSize({ width: 360, height: 740 });
  await page.getByRole("button", { name: "Emoji" }).click();
  const picker = page.getByRole("dialog", { name: "Emoji" });
  await picker.getByRole("button", { name: "Medium dark" }).click();
  await picker.getByLabel("Find an emoji").fill("wave");
  await picker.getByRole("button", { name: "waving hand" }).click();
  await eventually(() => composer.inputValue(), expect.stringMatching(/^so 👍\uFE0F? 👋🏾$/) as string);
  await page.getByRole("button", { name: "Emoji" }).click();
  const used = picker.getByRole("region", { name: "Used last" });
  expect(await used.getByRole("button").count()).toBe(2);
  await page.keyboard.press("Escape");
  await picker.waitFor({ state: "hidden" });
  expect(loaded.filter((url) => !url.startsWith(new URL(page.url()).origin))).toEqual([]);
  expect(complaints).toEqual([]);
});

test("@room calls everybody in a room, in a large room only after a confirmation", async () => {
  const ann = await stage.enter("ann-calls");
  const ben = await stage.enter("ben-called", { replica: 1 });
  await createRoom(ben.page, "far away");
  const composer = messageTo(ann.page, "General");
  await composer.pressSequentially("@ro");
  await ann.page.getByRole("option", { name: "room: everybody here" }).waitFor();
  await composer.press("Enter");
  await eventually(() => composer.inputValue(), "@room ");
  await composer.pressSequentially("lunch");
  await composer.press("Enter");
  const badge = room(ben.page, "General").locator("[data-part=mentions]");
  await eventually(() => badge.textContent(), "@1 mention, ");
  await eventually(() => composer.inputValue(), "");
  // What is typed while the server is asked is the next message.
  let answer = () => {};
  await ann.page.route("**/audience", async (route) => {
    await new Promise<void>((resolve) => (answer = resolve));
    await route.continue();
  });
  const asked = ann.page.waitForRequest("**/audience");
  await composer.fill("@room it is ready");
  await composer.press("Enter");
  await asked;
  await composer.pressSequentially(" and mine");
  answer();
  await eventually(() => composer.inputValue(), "and mine");
  await message(ann.page, "@room it is ready").waitFor();
  await ann.page.unroute("**/audience");
  await composer.fill("");
  // `@room` in code calls nobody, and a small room needs no confirmation.
  await say(ann.page, "`@room` does it");
  await ann.page.getByRole("log").locator("[data-seq]").filter({ hasText: "does it" }).waitFor();
  await say(ben.page, "@room here");
  await ben.page.getByRole("log").locator("[data-seq]").filter({ hasText: "@room here" }).waitFor();
  expect(await ben.page.getByRole("dialog").count()).toBe(0);
  await room(ben.page, "General").click();
  await ben.page
    .getByRole("log")
    .locator("[data-part=mention]")
    .getByText("@room", { exact: true })
    .last()
    .waitFor();
  await eventually(() => badge.count(), 0);
  // More people than are called without a question.
  const { redis, keys } = stage.house;
  const total = Number(await redis.get(keys.totalUsers));
  for (let id = total + 1; id <= total + 140; id += 1)
    await redis.hset(keys.user(String(id)), "username", `filler${id}`);
  await redis.set(keys.totalUsers, total + 140);
  await composer.fill("@room lunch");
  await composer.press("Enter");
  const question = ann.page.getByRole("dialog", { name: /^Notify 1\d\d people\?$/ });
  await question.getByRole("button", { name: "Go back" }).click();
  await question.waitFor({ state: "detached" });
  expect(await composer.inputValue()).toBe("@room lunch");
  await composer.press("Enter");
  await question.getByRole("button", { name: "Notify them" }).click();
  await eventually(() => composer.inputValue(), "");
});

test("an edit that calls everybody is not made if it was given up, or written on, before the answer to how many", async () => {
  const { page } = await stage.enter("calls-later");
  let answer = () => {};
  await page.route("**/audience", async (route) => {
    await new Promise<void>((resolve) => (answer = resolve));
    await route.continue();
  });
  await say(page, "nobody called");
  await page.getByRole("log").locator("[data-seq]").filter({ hasText: "nobody called" }).waitFor();
  const field = page.getByRole("textbox", { name: "Edit message" });
  const edit = async () => {
    await messageTo(page, "General").press("ArrowUp");
    await field.fill("@room called");
    const asked = page.waitForRequest("**/audience");
    await field.press("Enter");
    await asked;
  };
  const answered = async () => {
    const response = page.waitForResponse("**/audience");
    answer();
    await response;
  };
  await edit();
  await field.press("Escape");
  await answered();
  await edit();
  await field.pressSequentially(" twice");
  await answered();
  // A later message comes after all that the answers could have sent or asked.
  await messageTo(page, "General").click();
  await say(page, "nobody yet");
  await page.getByRole("log").locator("[data-seq]").filter({ hasText: "nobody yet" }).waitFor();
  expect(await page.getByRole("dialog").count()).toBe(0);
  expect(await field.inputValue()).toBe("@room called twice");
  await field.press("Escape");
  await message(page, "nobody called").waitFor();
  expect(await page.getByRole("log").getByText("(edited)").count()).toBe(0);
});

test("a completion and an emoji that was picked can be undone and done again, like what is typed", async () => {
  const { page } = await stage.enter("undoes");
  const composer = messageTo(page, "General");
  const text = (expected: string) => eventually(() => composer.inputValue(), expected);
  await composer.pressSequentially("to @roo");
  await page.getByRole("option", { name: "room: everybody here" }).waitFor();
  await composer.press("Tab");
  await text("to @room ");
  await composer.pressSequentially("now");
  await page.getByRole("button", { name: "Emoji" }).click();
  await page
    .getByRole("dialog", { name: "Emoji" })
    .getByRole("button", { name: "grinning face", exact: true })
    .click();
  await text("to @room now\u{1F600}");
  expect(await composer.evaluate((one) => one === document.activeElement)).toBe(true);
  /** Whether typed letters are undone one by one is the browser's own way. */
  const undo = async (expected: string) => {
    for (let step = 0; step < 5 && (await composer.inputValue()) !== expected; step += 1)
      await composer.press("Control+z");
    await text(expected);
  };
  await undo("to @room now");
  await undo("to @room ");
  await undo("to @roo");
  await composer.press("Control+Shift+z");
  await text("to @room ");
});
