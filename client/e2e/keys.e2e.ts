import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person, type Person } from "../../server/src/testing.ts";
import { eventually, message, messageTo, room, setStageWithTalker } from "./stage.ts";

let stage: Awaited<ReturnType<typeof setStageWithTalker>>;

beforeAll(async () => {
  stage = await setStageWithTalker();
});

afterAll(() => stage.close());

/** The name or text of the element with the focus. */
function focused(page: Page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    if (element === document.body) return "BODY";
    return element?.ariaLabel ?? element?.querySelector("[data-part=name]")?.textContent ?? element?.tagName;
  });
}

test("? shows all shortcuts; in a field it is a character, and Ctrl / shows them", async () => {
  const { page } = await stage.enter("ann");
  await page.keyboard.type("what?");
  await eventually(() => messageTo(page, "General").inputValue(), "what?");
  const dialog = page.getByRole("dialog", { name: "Keys" });
  await page.keyboard.press("Control+/");
  await dialog.getByText("Jump to a room or a person").waitFor();
  await page.keyboard.press("Control+/");
  await eventually(() => dialog.count(), 0);
  await eventually(() => focused(page), "Message to General");
  await page.getByRole("log").focus();
  await page.keyboard.press("?");
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await eventually(() => dialog.count(), 0);
  expect(await messageTo(page, "General").inputValue()).toBe("what?");
});

test("an overlay that is opened while history steps back from a closed one stays open", async () => {
  const { page } = await stage.enter("bet");
  const dialog = page.getByRole("dialog", { name: "Keys" });
  await page.keyboard.press("Control+/");
  await dialog.waitFor();
  await page.evaluate(async () => {
    const press = (key: string, ctrlKey: boolean) =>
      document.activeElement?.dispatchEvent(
        new KeyboardEvent("keydown", { key, ctrlKey, bubbles: true, cancelable: true }),
      );
    const back = history.back.bind(history);
    const steppedBack = new Promise((resolve) => addEventListener("popstate", resolve, { once: true }));
    // Before the browser handles it.
    history.back = () => {
      back();
      press("/", true);
    };
    press("/", true);
    await steppedBack;
    history.back = back;
  });
  await dialog.waitFor();
  await page.evaluate(
    () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))),
  );
  expect(await dialog.count()).toBe(1);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await messageTo(page, "General").waitFor();
});

test("F6 moves between rooms, messages, composer and people, and Shift F6 moves back", async () => {
  const { page } = await stage.enter("ben");
  await eventually(() => focused(page), "Message to General");
  // A region comes with its first page.
  await page.getByRole("log", { name: "Messages in General" }).waitFor();
  const round = ["Search people", "General", "Messages in General", "Message to General"];
  const gone = async (key: string) => {
    const seen: unknown[] = [];
    for (let step = 0; step < 4; step++) {
      await page.keyboard.press(key);
      seen.push(await focused(page));
    }
    return seen;
  };
  const forth = await gone("F6");
  expect(forth.slice(1)).toEqual(round.slice(1));
  expect(await gone("Shift+F6")).toEqual([...forth.slice(0, 3).toReversed(), forth[3]]);
  await page.setViewportSize({ width: 900, height: 700 });
  await page.getByRole("complementary", { name: "People" }).waitFor({ state: "detached" });
  expect((await gone("F6")).slice(0, 3)).toEqual(round.slice(1));
});

test("the focus is not lost when its element disappears", async () => {
  const { page } = await stage.enter("cat");
  for (let count = 0; count < 40; count++) await stage.talker.say("0", `line ${count}`);
  await message(page, "line 39").waitFor();
  await page.getByRole("log").evaluate((log) => (log.scrollTop -= 600));
  const latest = page.getByRole("button", { name: "Jump to latest" });
  await latest.focus();
  await page.getByRole("log").evaluate((log) => (log.scrollTop = log.scrollHeight));
  await eventually(() => latest.count(), 0);
  await eventually(() => focused(page), "Message to General");
  // A click beside everything leaves it.
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await stage.talker.say("0", "and on");
  await message(page, "and on").waitFor();
  expect(await focused(page)).toBe("BODY");
});

test("what Tab goes to is not hidden below what stays in sight, on a small screen", async () => {
  const { page } = await stage.enter("keys-on-a-small-screen");
  const talker = await person(both(stage.house)[0]);
  const links = (index: number) =>
    ["x", "y", "z"].map((name) => `[${name}${index}](https://example.org/${name}${index})`).join(" and ");
  for (let index = 0; index < 30; index += 1) await talker.say("0", `see ${links(index)} too`);
  for (let index = 0; index < 12; index += 1)
    await page.evaluate(async (name) => {
      const headers = { "content-type": "application/json" };
      await fetch("/api/rooms", { method: "POST", headers, body: JSON.stringify({ name }) });
    }, `Small ${index}`);
  await page.setViewportSize({ width: 320, height: 256 });
  await page.mouse.move(2, 2);
  /** The name of what has the focus, if none of its points can be seen. */
  const hidden = () =>
    page.evaluate(() => {
      const element = document.activeElement as HTMLElement;
      const { left, top, width, height } = element.getBoundingClientRect();
      const parts = [0.1, 0.3, 0.5, 0.7, 0.9];
      const isSeen = parts.some((across) =>
        parts.some((down) => {
          const hit = document.elementFromPoint(left + across * width, top + down * height);
          return hit !== null && (element.contains(hit) || hit.contains(element));
        }),
      );
      return isSeen ? [] : [element.ariaLabel ?? element.textContent];
    });
  const found: unknown[] = [];
  await page.evaluate(() => (location.hash = "#/"));
  await page.getByRole("navigation", { name: "Rooms" }).waitFor();
  for (let press = 0; press < 30; press += 1) {
    await page.keyboard.press("Tab");
    found.push(...(await hidden()));
  }
  await room(page, "General").click();
  const log = page.getByRole("log");
  await log.evaluate((element) => (element.scrollTop = element.scrollHeight / 3));
  await page.getByRole("button", { name: /Jump to latest/ }).waitFor();
  await log.focus();
  for (let press = 0; press < 30; press += 1) {
    await page.keyboard.press("Tab");
    found.push(...(await hidden()));
  }
  talker.close();
  expect(found).toEqual([]);
});

test("Tab goes on from the last action of a message, which has gone by then, and back again", async () => {
  const { page } = await stage.enter("cleo");
  await stage.talker.say("0", "two pages");
  await stage.talker.say("0", "see https://example.org/one");
  await stage.talker.say("0", "see https://example.org/two");
  const row = page.getByRole("log").locator("[data-seq]", { hasText: "/one" });
  await row.focus();
  await row.getByRole("toolbar").waitFor();
  const seen: unknown[] = [];
  for (const key of ["Tab", "Tab", "Tab", "Tab", "Shift+Tab", "Shift+Tab"]) {
    await page.keyboard.press(key);
    seen.push(
      await page.evaluate(() => document.activeElement?.ariaLabel ?? document.activeElement?.textContent),
    );
  }
  const [one, two] = ["https://example.org/one", "https://example.org/two"];
  expect(seen).toEqual([one, "Add reaction", two, "Message to General", two, one]);
});

test("a button whose name says what its press will do has no state that says the opposite", async () => {
  const { page } = await stage.enter("pia");
  await stage.talker.say("0", "keep this");
  const row = message(page, "keep this");
  await row.locator("[data-seq]").focus();
  await row.getByRole("button", { name: "Pin to room" }).click();
  await page.getByRole("button", { name: /^Your account/ }).click();
  await page.getByRole("tab", { name: "Password" }).click();
  await page.getByRole("button", { name: "Show new password" }).click();
  const hide = page.getByRole("button", { name: "Hide new password" });
  expect(await hide.getAttribute("aria-pressed")).toBeNull();
  await page.keyboard.press("Escape");
  await row.locator("[data-seq]").focus();
  const unpin = row.getByRole("button", { name: "Unpin" });
  expect(await unpin.getAttribute("aria-pressed")).toBeNull();
});

test("a button that ends by its own press leaves the focus where it was", async () => {
  for (let from = 0; from < 120; from += 40)
    await Promise.all(Array.from({ length: 40 }, (_, at) => stage.talker.say("0", `word ${from + at}`)));
  const { page } = await stage.enter("dee");
  await stage.talker.say("0", "react to this");
  const row = message(page, "react to this").locator("[data-seq]");
  await row.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("button", { name: "React with 👍" }).press("Enter");
  const own = row.getByRole("button", { name: "👍 1: you" });
  await own.press("Enter");
  await own.waitFor({ state: "detached" });
  expect(await row.evaluate((one) => one === document.activeElement)).toBe(true);

  let held = 0;
  let fail = () => {};
  await page.route(/messages\?.*before=/, async (route) => {
    held += 1;
    await new Promise<void>((done) => (fail = done));
    await route.abort();
  });
  await page.getByRole("log").evaluate((log) => (log.scrollTop = 0));
  await eventually(() => held, 1);
  fail();
  const again = page.getByRole("button", { name: "Older messages could not be loaded. Try again" });
  await again.press("Enter");
  await eventually(() => held, 2);
  await eventually(() => again.getAttribute("aria-busy"), "true");
  expect(await again.evaluate((one) => one === document.activeElement)).toBe(true);
  fail();
  await eventually(() => again.getAttribute("aria-busy"), null);
  expect(await again.evaluate((one) => one === document.activeElement)).toBe(true);
  await page.unrouteAll();
  await again.press("Enter");
  await eventually(() => focused(page), "Messages in General");
});

test("the open room stays visible in the list while other rooms move it", async () => {
  const { page } = await stage.enter("dan", { viewport: { width: 1200, height: 480 } });
  const people = await Promise.all(
    Array.from({ length: 12 }, (_, index) => person(both(stage.house)[1], `pal${index}`)),
  );
  const id = await page.evaluate(async () => {
    const me = (await (await fetch("/api/me")).json()) as { id: string };
    return me.id;
  });
  const talk = async (one: Person, text: string) => {
    const { body } = await one.browser.post<{ id: string }>("/api/rooms/private", { userId: id });
    await one.say(body.id, text);
  };
  const [first, ...rest] = people;
  if (first === undefined) throw new Error("Nobody is there");
  await talk(first, "hello");
  await room(page, "pal0").click();
  await messageTo(page, "pal0").waitFor();
  for (const one of rest) await talk(one, "hello");
  await room(page, "pal11").waitFor();
  await expect
    .poll(() =>
      room(page, "pal0").evaluate((row) => {
        const list = row.closest("section")?.parentElement?.getBoundingClientRect();
        const own = row.getBoundingClientRect();
        return list !== undefined && own.top >= list.top && own.bottom <= list.bottom;
      }),
    )
    .toBe(true);
  for (const one of people) one.close();
});

test("the page's title and icon show unread messages, with a number for those that call this person", async () => {
  const { page } = await stage.enter("eve");
  const icon = async () =>
    decodeURIComponent((await page.locator("link[rel=icon]").getAttribute("href")) ?? "");
  await eventually(() => page.title(), "General - Hubbub");
  const named = await stage.talker.browser.post<{ id: string }>("/api/rooms", { name: "Elsewhere" });
  await page.evaluate((id) => (location.hash = `#/room/${id}`), named.body.id);
  await page.getByRole("button", { name: "Join this room" }).click();
  await messageTo(page, "Elsewhere").waitFor();
  await eventually(icon, "/favicon.svg");
  await stage.talker.say("0", "for everybody");
  await eventually(() => page.title(), "(1) Elsewhere - Hubbub");
  expect(await icon()).toContain("></text>");
  const id = await page.evaluate(async () => ((await (await fetch("/api/me")).json()) as { id: string }).id);
  const { body } = await stage.talker.browser.post<{ id: string }>("/api/rooms/private", { userId: id });
  await stage.talker.say(body.id, "for you");
  await stage.talker.say(body.id, "and again");
  await eventually(() => page.title(), "(3) Elsewhere - Hubbub");
  await expect.poll(icon).toContain(">2</text>");
  await room(page, "talker").click();
  await expect.poll(icon).toContain("></text>");
  await room(page, "General").click();
  await eventually(icon, "/favicon.svg");
  await eventually(() => page.title(), "General - Hubbub");
});

test("Enter that is held sends neither the draft of the room that it opened, nor the completion that it took", async () => {
  const { page } = await stage.enter("fay");
  await page.getByRole("complementary", { name: "People" }).getByRole("button", { name: "talker" }).click();
  await messageTo(page, "talker").fill("not yet");
  await room(page, "General").click();
  await messageTo(page, "General").waitFor();
  await page.keyboard.press("Control+k");
  const dialog = page.getByRole("dialog", { name: "Jump to" });
  await dialog.getByRole("combobox").fill("talker");
  await dialog.getByRole("option", { name: /^talker/ }).waitFor();
  await page.keyboard.down("Enter");
  await messageTo(page, "talker").waitFor();
  await eventually(() => focused(page), "Message to talker");
  await page.keyboard.down("Enter");
  await page.keyboard.up("Enter");
  expect(await messageTo(page, "talker").inputValue()).toBe("not yet");
  await page.keyboard.press("Enter");
  await message(page, "not yet").waitFor();
  // Nor the completion that it has just taken.
  await messageTo(page, "talker").pressSequentially("@tal");
  await page.getByRole("option", { name: /talker/ }).waitFor();
  await page.keyboard.down("Enter");
  await eventually(() => messageTo(page, "talker").inputValue(), "@talker ");
  await page.keyboard.down("Enter");
  await page.keyboard.up("Enter");
  expect(await messageTo(page, "talker").inputValue()).toBe("@talker ");
});

test("the keys with Ctrl, and the letters that begin a message, work on keyboards of other alphabets", async () => {
  const { page } = await stage.enter("gus");
  const press = (key: string, code: string, ctrlKey: boolean) =>
    page.evaluate(
      (init) => {
        const event = new KeyboardEvent("keydown", { ...init, bubbles: true, cancelable: true });
        document.activeElement?.dispatchEvent(event);
      },
      { key, code, ctrlKey },
    );
  const dialog = page.getByRole("dialog");
  for (const [key, code] of [
    ["\u043b", "KeyK"],
    ["\u05db", "KeyF"],
  ] as const) {
    await press(key, code, true);
    await dialog.waitFor();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  }
  await page.getByRole("log").focus();
  // One key of an Arabic keyboard.
  await press("\u0644\u0627", "KeyB", false);
  await eventually(() => focused(page), "Message to General");
});

test("the emoji picker takes the keys when it opens, and ends by Escape and by a press anywhere", async () => {
  const { page } = await stage.enter("hal");
  const picker = page.getByRole("dialog", { name: "Emoji" });
  const open = async () => {
    await page.getByRole("button", { name: "Emoji" }).click();
    await picker.getByRole("searchbox", { name: "Find an emoji" }).waitFor();
    await eventually(() => picker.evaluate((one) => one.contains(document.activeElement)), true);
  };
  await open();
  await page.keyboard.type("heart");
  await eventually(() => picker.getByRole("searchbox").inputValue(), "heart");
  // An arrow that chooses among the words of an input method leaves the field alone.
  await picker.getByRole("searchbox").evaluate((field) => {
    const init = { key: "ArrowDown", isComposing: true, bubbles: true, cancelable: true };
    field.dispatchEvent(new KeyboardEvent("keydown", init));
  });
  expect(await page.evaluate(() => document.activeElement?.getAttribute("type"))).toBe("search");
  expect(await messageTo(page, "General").inputValue()).toBe("");
  await page.keyboard.press("Escape");
  await picker.waitFor({ state: "detached" });
  await eventually(() => page.evaluate(() => document.activeElement?.ariaLabel), "Emoji");
  // Beside it, where nothing takes the focus.
  await open();
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await page.keyboard.press("Escape");
  await picker.waitFor({ state: "detached" });
  await open();
  await page.getByRole("heading", { name: "Direct messages" }).click();
  await picker.waitFor({ state: "detached" });
});

test("the arrows stay among the reactions that are open, and Escape closes them from the bar too", async () => {
  const { page } = await stage.enter("ina");
  await stage.talker.say("0", "choose among six");
  const row = message(page, "choose among six").locator("[data-seq]");
  await row.focus();
  await row.getByRole("button", { name: "Add reaction" }).press("Enter");
  const picker = row.getByRole("group", { name: "Reactions" });
  const at = () =>
    picker.evaluate((one) => [...one.children].indexOf(document.activeElement ?? document.body));
  await eventually(at, 0);
  await page.keyboard.press("ArrowRight");
  expect(await at()).toBe(1);
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  expect(await at()).toBe(6);
  await row.getByRole("button", { name: "Add reaction" }).focus();
  await page.keyboard.press("Escape");
  await picker.waitFor({ state: "detached" });
});

test("a press on a dialog's own edge or scrollbar does not close it, and one beside it does", async () => {
  const { page } = await stage.enter("jan");
  await page.setViewportSize({ width: 640, height: 300 });
  await page.keyboard.press("Control+k");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  // Where the scrollbar of a dialog in a low window is: it belongs to the dialog, as what is behind it does.
  const press = (inside: number) =>
    dialog.evaluate((one, by) => {
      const { right, top, height } = one.getBoundingClientRect();
      const place = { clientX: right - by, clientY: top + height / 2 };
      one.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, ...place }));
    }, inside);
  await press(4);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  expect(await dialog.count()).toBe(1);
  await press(-4);
  await dialog.waitFor({ state: "detached" });
});

test("Escape that is held closes what lies over the page, and not the thread below it too", async () => {
  const { page } = await stage.enter("kim");
  await stage.talker.say("0", "begins a thread");
  await message(page, "begins a thread").hover();
  await page.getByRole("button", { name: "Start a thread" }).click();
  const thread = page.getByRole("complementary", { name: "Thread" });
  await thread.getByRole("textbox", { name: "Reply in the thread" }).waitFor();
  await page.keyboard.press("Control+/");
  const dialog = page.getByRole("dialog", { name: "Keys" });
  await dialog.waitFor();
  await page.keyboard.down("Escape");
  await dialog.waitFor({ state: "detached" });
  await page.keyboard.down("Escape");
  await page.keyboard.up("Escape");
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  expect(await thread.count()).toBe(1);
  await page.keyboard.press("Escape");
  await thread.waitFor({ state: "detached" });
});
