import type { Locator } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, person, unwrap } from "../../server/src/testing.ts";
import {
  addressOf,
  eventually,
  messageTo,
  openPage,
  promote,
  room,
  say,
  setStage,
  signUp,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

const HEBREW = "אברהם בן־דוד הכהן מירושלים עיר הקודש תל";

/** Somebody on the second replica, with this display name. */
async function called(username: string, displayName: string) {
  const one = await person(both(stage.house)[1], username);
  expect((await one.browser.fetch("PATCH", "/api/me", { displayName })).status).toBe(200);
  return one;
}

/** Whether the first letters of a text within an element are within everything that cuts them. */
function beginIsShown(place: Locator, text: string): Promise<boolean> {
  return place.first().evaluate((element, begin) => {
    const nodes = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode()) {
      const node = nodes.currentNode;
      const at = node.nodeValue?.indexOf(begin) ?? -1;
      if (at < 0) continue;
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + begin.length);
      const { left, right, width } = range.getBoundingClientRect();
      for (let box = node.parentElement; box !== null; box = box.parentElement) {
        const { overflowX, display } = getComputedStyle(box);
        const cut = box.getBoundingClientRect();
        const cuts = overflowX !== "visible" && display !== "inline";
        if (cuts && (left < cut.left - 1 || right > cut.right + 1)) return false;
      }
      return width > 0;
    }
    return false;
  }, text);
}

test("what is cut off of a long name is its end, also where it is written from right to left", async () => {
  const abraham = await called("abraham-cut", HEBREW);
  const { page } = await stage.enter("ann-cut");
  await abraham.say("0", "hi there, this is a text that one wants to read");
  const begin = HEBREW.slice(0, 3);
  const people = page.getByRole("complementary", { name: "People" });
  await eventually(() => beginIsShown(people.getByRole("button", { name: /אברהם/ }), begin), true);
  expect(await beginIsShown(people.getByRole("button", { name: /אברהם/ }), "abraham")).toBe(true);
  await eventually(() => beginIsShown(room(page, "General"), begin), true);
  expect(await beginIsShown(room(page, "General"), "hi")).toBe(true);
  await page.setViewportSize({ width: 320, height: 640 });
  await page.keyboard.press("Control+k");
  await page.keyboard.type("abraham-cut");
  const option = page.getByRole("option", { name: /אברהם/ });
  await eventually(() => beginIsShown(option, begin), true);
  await page.keyboard.press("Escape");
  await messageTo(page, "General").pressSequentially("@abraham");
  await eventually(() => beginIsShown(option, begin), true);
  expect(await beginIsShown(option, "abraham-cut")).toBe(true);
  await messageTo(page, "General").press("Escape");
  abraham.close();
});

test("a long name leaves room on a phone for what is said in a thread's line, and is never wider than the page", async () => {
  const wide = await called("wide-cut", "W".repeat(40));
  const long = await called("long-cut", "Maximiliane von Hohenstein-Wackernagel");
  const { page } = await stage.enter("ben-cut");
  const { seq } = await wide.say("0", "a question that begins a thread");
  const answer = async (one: typeof wide, message: string) =>
    unwrap(
      await one.socket.emitWithAck("message", {
        roomId: "0",
        message,
        nonce: message.replaceAll(" ", "-"),
        replyTo: seq,
      }),
    );
  await answer(wide, "an answer");
  await page.setViewportSize({ width: 320, height: 640 });
  const button = page.locator("[data-part=thread]").last();
  await button.waitFor();
  expect(await beginIsShown(button, "WWW")).toBe(true);
  expect(await page.getByRole("log").evaluate((log) => log.scrollWidth - log.clientWidth)).toBe(0);
  await page.getByRole("button", { name: "Room options" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Fold replies into threads" }).click();
  for (let at = 0; at < 60; at++) await wide.say("0", `something else ${at}`);
  await answer(long, "another answer");
  const stub = page.locator("[data-part=stub]").last();
  await stub.waitFor();
  expect(await beginIsShown(stub, "WW")).toBe(true);
  expect(await beginIsShown(stub, "Max")).toBe(true);
  const inside = (element: HTMLElement) => element.scrollWidth - element.clientWidth;
  expect(await stub.evaluate(inside)).toBe(0);
  for (const one of [wide, long]) one.close();
});

test("whoever signs up with letters of another alphabet hears which letters a username may have", async () => {
  const { page } = await openPage(stage.browser, addressOf(stage.house, 0), "david");
  await signUp(page, "\u05d3\u05d5\u05d9\u05d3");
  await page.getByRole("alert").getByText("letters from a to z").waitFor();
});

test("a report has its time after the name of who made it, whichever way that is written", async () => {
  const boss = await stage.enter("boss-names");
  const { page } = boss;
  await promote(stage.house, boss);
  const miriam = await called("miriam-names", "מרים");
  await say(page, "to be reported");
  const { seq } = await miriam.hears("to be reported");
  expect((await miriam.browser.post("/api/reports", { roomId: "0", seq, reason: "why" })).status).toBe(204);
  await page.getByRole("button", { name: "Administration" }).click();
  await page.getByRole("tab", { name: "Reports" }).click();
  const about = page.getByRole("dialog").getByText(/Reported by/);
  // The name may still be on its way.
  await about.filter({ hasText: "מרים" }).waitFor();
  const inOrder = await about.evaluate((line) => {
    const boxOf = (what: RegExp) => {
      const texts = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        const [found] = [...(texts.currentNode.textContent ?? "").matchAll(what)];
        if (found === undefined) continue;
        const range = new Range();
        range.setStart(texts.currentNode, found.index);
        range.setEnd(texts.currentNode, found.index + found[0].length);
        return range.getBoundingClientRect();
      }
      throw new Error(`no ${what.source}`);
    };
    return boxOf(/\d\d:\d\d/g).left > boxOf(/מרים/g).left;
  });
  expect(inOrder).toBe(true);
  miriam.close();
});
