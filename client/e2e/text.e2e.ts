import type { Locator } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Room } from "../../server/src/protocol.ts";
import { both, person } from "../../server/src/testing.ts";
import { eventually, messageTo, room, say, setStage, shownTexts, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

test("a formatted text is formatted for the other person too, with coloured code", async () => {
  const ann = await stage.enter("ann");
  const ben = await stage.enter("ben", { replica: 1 });
  await ben.page.setViewportSize({ width: 360, height: 740 });
  const loaded: string[] = [];
  ben.page.on("request", (request) => loaded.push(request.url()));
  await say(ann.page, "**bold** _italic_ ~~gone~~ `co*d*e` [docs](https://x.example/a_b) <b>no</b>");
  const log = ben.page.getByRole("log");
  await log.locator("strong", { hasText: "bold" }).waitFor();
  await eventually(() => shownTexts(ben.page), ["bold italic gone co*d*e docs <b>no</b>"]);
  expect(await log.locator("em, s, code").allTextContents()).toEqual(["italic", "gone", "co*d*e"]);
  expect(await log.getByRole("link", { name: "docs" }).getAttribute("href")).toBe("https://x.example/a_b");
  expect(await log.locator("b").count()).toBe(0);
  expect(loaded.filter((url) => url.includes("colours"))).toEqual([]);
  await ann.page
    .getByRole("textbox", { name: /^Message to / })
    .fill("> said\n- one\n  - two\n\n```ts\nlet a = 1;\n```");
  await ann.page.keyboard.press("Enter");
  await log.locator("pre span", { hasText: "let" }).waitFor();
  expect(await log.locator("blockquote").textContent()).toBe("said");
  expect(await log.locator("ul ul li").allTextContents()).toEqual(["two"]);
  expect(await log.locator("pre").textContent()).toBe("let a = 1;");
  await ben.context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await log.getByRole("button", { name: "Copy code" }).press("Enter");
  await ben.page.getByRole("alert").getByText("Copied.").waitFor();
  expect(await ben.page.evaluate(() => navigator.clipboard.readText())).toBe("let a = 1;");
  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
});

test("a text on its way is shown as it will be once it is stored, and so is an edit", async () => {
  const dan = await stage.enter("dan", { link: true });
  const eve = await stage.enter("eve.e", { replica: 1 });
  await say(eve.page, "here I am");
  const log = dan.page.getByRole("log");
  await log.locator("[data-seq]").filter({ hasText: "here I am" }).waitFor();
  dan.link.cut();
  await say(dan.page, "**Soon**, @eve.e and @nobody: `@eve.e` is code");
  const text = log.locator("[data-part=text]").filter({ hasText: "is code" });
  await text.locator("[data-part=mention]").waitFor();
  const html = await text.innerHTML();
  await dan.link.mend();
  await log.locator("[data-seq]").filter({ hasText: "is code" }).waitFor();
  expect(await text.innerHTML()).toBe(html);
  await dan.page.getByRole("textbox", { name: /^Message to / }).press("ArrowUp");
  const field = dan.page.getByRole("textbox", { name: "Edit message" });
  dan.link.cut();
  await field.fill("now _all_ of @room is code");
  await field.press("Enter");
  await text.locator("[data-part=mention]", { hasText: "@room" }).waitFor();
  const changed = await text.innerHTML();
  await dan.link.mend();
  await eve.page.getByRole("log").locator("[data-part=mention]", { hasText: "@room" }).waitFor();
  await eventually(() => text.innerHTML(), changed);
});

test("each line of a text begins at the side of its script, and a message of emoji only is large", async () => {
  const { page } = await stage.enter("cyd");
  await page.getByRole("textbox", { name: /^Message to / }).fill("> שלום\n> hello");
  await page.keyboard.press("Enter");
  const quote = page.getByRole("log").locator("blockquote", { hasText: "hello" });
  await quote.waitFor();
  const distance = () =>
    quote.evaluate((element) => {
      const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode() as Text;
      const [right = 0, left = 0] = [0, text.data.indexOf("hello")].map((at) => {
        const range = document.createRange();
        range.setStart(text, at);
        range.setEnd(text, at + 1);
        return range.getBoundingClientRect().left;
      });
      return right - left;
    });
  await eventually(async () => (await distance()) > 200, true);
  // A quote's line, and a list's dots, are at the side of the text.
  await page.getByRole("textbox", { name: /^Message to / }).fill("- שלום\n- לילה\n\n3. one\n4. two");
  await page.keyboard.press("Enter");
  const directions = () =>
    page
      .getByRole("log")
      .locator("blockquote, ul, [data-part=text] ol")
      .evaluateAll((all) => all.slice(-3).map((one) => getComputedStyle(one).direction));
  await eventually(directions, ["rtl", "rtl", "ltr"]);
  const size = (text: string) =>
    page
      .getByRole("log")
      .locator("[data-part=text]", { hasText: text })
      .last()
      .evaluate((element) => Number.parseFloat(getComputedStyle(element).fontSize));
  for (const text of ["👩‍👩‍👧", "🇩🇪 1️⃣", "👍🏽👍🏿❤️"]) {
    await say(page, text);
    await eventually(async () => (await size(text)) > 25, true);
  }
  await say(page, "👍 yes");
  await eventually(async () => (await size("👍 yes")) < 20, true);
});

test("the transcript shows each text as the app does: its words, links, sides, and large emoji", async () => {
  const ann = await stage.enter("kim");
  const talker = await person(both(stage.house)[1], "kate");
  const { body: made } = await talker.browser.post<Room>("/api/rooms", { name: "shown twice" });
  const large = ["🎉", "👍🏽👍🏿❤️", "🇩🇪 1️⃣", "👩‍👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏳️‍🌈 ", "👨🏿‍🦰"];
  const texts = [
    ...large,
    "🎉🎉🎉🎉",
    "1",
    "#",
    "👍 yes",
    "❤",
    "🇩",
    "🎉  🎉",
    "🎉\n\n🎉",
    "**🎉**",
    "שלום\nhello",
    "> مرحبا\n> hello",
    "- שלום\n- hello",
    "a  b\n\n\nc",
    "  in the middle",
    "**a _b_ ~~c~~**",
    '`<b>` & "quoted"',
    "```\n<x>\n  y\n```",
    "- a\n- b\n\n3. c",
    "\\*a\\*",

    "see https://example.org/ä(b)?c=1&d=2.",
    "https://münchen.example",
    "[a](https://b.example) javascript:x",
  ];
  for (const text of texts) await talker.say(made.id, text);
  const { body: html } = await talker.browser.get<string>(`/api/rooms/${made.id}/transcript`);
  await ann.page.getByRole("button", { name: "Browse rooms" }).click();
  await ann.page.getByRole("dialog").getByRole("button", { name: "Join shown twice" }).click();
  const inApp = ann.page.getByRole("log").locator("[data-seq] [data-part=text]");
  await eventually(() => inApp.count(), texts.length);
  await inApp.locator("strong").first().waitFor();
  const paper = await ann.context.newPage();
  await paper.setContent(html);
  const inPaper = paper.locator("section > :last-child");
  expect(await inPaper.evaluateAll(look)).toEqual(await inApp.evaluateAll(look));
  const shown = await inPaper.evaluateAll(look);
  expect(texts.filter((_, index) => shown[index]?.isLarge)).toEqual(large);
  expect(shown[texts.indexOf("שלום\nhello")]?.sides).toEqual(["right", "left"]);
  talker.close();
});

/** What one sees of texts: their words, where their links lead, at which side each line begins, and whether they are large. */
function look(all: Element[]) {
  return all.map((element) => {
    const sides: string[] = [];
    const size: number[] = [];
    const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
      const { data, parentElement } = node as Text;
      const box = parentElement?.closest("[dir], div, span")?.getBoundingClientRect();
      const begins = node.previousSibling === null || node.previousSibling.nodeName === "BR";
      for (const { index } of data.matchAll(/(?<=^|\n)\S/gu)) {
        if (index === 0 && !begins) continue;
        const range = document.createRange();
        range.setStart(node, index);
        range.setEnd(node, index + 1);
        const letter = range.getBoundingClientRect();
        if (box !== undefined && parentElement?.closest("a, strong, em, s, code, pre") === null)
          sides.push(letter.left - box.left <= box.right - letter.right ? "left" : "right");
      }
      if (parentElement !== null) size.push(Number.parseFloat(getComputedStyle(parentElement).fontSize));
    }
    return {
      text: (element as HTMLElement).innerText.trim(),
      links: [...element.querySelectorAll("a")].map(({ href }) => href),
      sides,
      isLarge: Math.max(...size) > 25,
    };
  });
}

test("a name that is too long for its place keeps its beginning, whatever its script", async () => {
  const { page } = await stage.enter("eli");
  const name = `חדר ${"ארוך ".repeat(11)}סוף`;
  await page.getByRole("button", { name: "New room" }).click();
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Topic (optional)").fill("נושא 12 abc");
  await page.getByRole("button", { name: "Create room" }).click();
  await messageTo(page, name).waitFor();
  await page.setViewportSize({ width: 800, height: 700 });
  /** Where a letter of the text is: the first one, or the last one with -1. */
  const letter = (place: Locator, at: number) =>
    place.evaluate((one, from) => {
      const text = document.createTreeWalker(one, NodeFilter.SHOW_TEXT).nextNode() as Text;
      const range = document.createRange();
      const begin = from < 0 ? text.length + from : from;
      range.setStart(text, begin);
      range.setEnd(text, begin + 1);
      const { left, right } = range.getBoundingClientRect();
      const box = one.getBoundingClientRect();
      return { left, right, isInside: left >= box.left && right <= box.right };
    }, at);
  const topic = page.getByText("נושא 12 abc");
  expect((await letter(topic, 0)).left).toBeGreaterThan((await letter(topic, -1)).right);
  expect(await letter(room(page, "חדר").locator("[data-part=name]"), 0)).toMatchObject({ isInside: true });
  await page.keyboard.press("Control+k");
  const option = page.getByRole("option", { name: /חדר/ });
  await option.waitFor();
  await page.setViewportSize({ width: 400, height: 700 });
  expect(await letter(option.locator("[data-part=name]"), 0)).toMatchObject({ isInside: true });
  await page.keyboard.press("Escape");
  expect(await letter(page.locator("#room-title"), 0)).toMatchObject({ isInside: true });
});
