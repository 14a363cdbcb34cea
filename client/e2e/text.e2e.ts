import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, say, setStage, shownTexts, type Stage } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

test("what one person formats is formatted for the other, and its code coloured once there is any", async () => {
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
  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
  await ann.context.close();
  await ben.context.close();
});

test("each line of a text begins at the side of its own script, and emoji alone are big", async () => {
  const { page, context } = await stage.enter("cyd");
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
  await context.close();
});
