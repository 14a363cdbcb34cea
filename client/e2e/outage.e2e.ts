import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { User } from "../../server/src/protocol.ts";
import { both, Browser, connect, person, unwrap } from "../../server/src/testing.ts";
import {
  createRoom,
  eventually,
  message,
  messageTo,
  PASSWORD,
  room,
  say,
  setStage,
  shownTexts,
  talkTo,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2);
});

afterAll(() => stage.close());

const times = (texts: readonly string[], wanted: string) => texts.filter((text) => text === wanted).length;

test("a message is shown at once, then sent; without an answer it stays unconfirmed, and it is stored once", async () => {
  const ann = await stage.enter("ann", { link: true });
  const ben = await stage.enter("ben", { replica: 1 });
  ann.link.mute();
  await say(ann.page, "Did this arrive?");
  const row = message(ann.page, "Did this arrive?").locator("[data-state]");
  expect(await row.getAttribute("data-state")).toMatch(/waiting|sending/);
  await message(ben.page, "Did this arrive?").waitFor();
  await eventually(() => row.getAttribute("data-state"), "unconfirmed");
  expect(await ann.page.getByText("Not sent").count()).toBe(0);
  await ann.link.mend();
  await eventually(() => row.getAttribute("data-state"), "sent");
  await say(ann.page, "And this?");
  await message(ben.page, "And this?").waitFor();
  for (const { page } of [ann, ben])
    await eventually(() => shownTexts(page), ["Did this arrive?", "And this?"]);
});

test("messages that are written offline survive a reload and are sent in order after it", async () => {
  const cat = await stage.enter("cat", { link: true });
  const dan = await stage.enter("dan", { replica: 1 });
  cat.link.cut();
  for (const text of ["one", "two", "three"]) await say(cat.page, text);
  await cat.page.getByText("3 messages wait to be sent.").waitFor();
  await cat.page.reload();
  await eventually(
    () => cat.page.locator("[data-state]:not([data-state=sent]) [data-part=text]").allTextContents(),
    ["one", "two", "three"],
  );
  await cat.link.mend();
  await message(dan.page, "three").waitFor();
  await eventually(() => cat.page.locator("[data-state]:not([data-state=sent])").count(), 0);
  for (const { page } of [cat, dan])
    expect((await shownTexts(page)).slice(-3)).toEqual(["one", "two", "three"]);
  await cat.page.reload();
  await message(cat.page, "three").waitFor();
  expect((await shownTexts(cat.page)).slice(-3)).toEqual(["one", "two", "three"]);
});

test("what is written after the browser has closed its database survives a reload too", async () => {
  const hal = await stage.enter("hal-reopens", { link: true });
  hal.link.cut();
  await say(hal.page, "went with the database");
  await message(hal.page, "went with the database").waitFor();
  const cdp = await hal.page.context().newCDPSession(hal.page);
  const { origin } = new URL(hal.page.url());
  await cdp.send("Storage.clearDataForOrigin", { origin, storageTypes: "indexeddb" });
  for (const text of ["kept one", "kept two"]) await say(hal.page, text);
  await hal.page.getByText("3 messages wait to be sent.").waitFor();
  await hal.page.reload();
  await eventually(
    () => hal.page.locator("[data-state]:not([data-state=sent]) [data-part=text]").allTextContents(),
    ["kept one", "kept two"],
  );
  await hal.link.mend();
  await eventually(() => hal.page.locator("[data-state]:not([data-state=sent])").count(), 0);
});

test("missed messages appear once after an outage, and are counted", async () => {
  const eve = await stage.enter("eve", { link: true });
  const fay = await stage.enter("fay", { replica: 1 });
  await say(fay.page, "before");
  await message(eve.page, "before").waitFor();
  eve.link.cut();
  await eve.page.getByText("You are offline.").waitFor();
  for (const text of ["missed 1", "missed 2", "missed 3"]) await say(fay.page, text);
  await message(fay.page, "missed 3").waitFor();
  await eventually(() => fay.page.locator("[data-state]:not([data-state=sent])").count(), 0);
  await eve.link.mend();
  await eve.page.getByText("Back. 3 new messages.").waitFor();
  await say(fay.page, "after");
  await message(eve.page, "after").waitFor();
  expect((await shownTexts(eve.page)).slice(-5)).toEqual([
    "before",
    "missed 1",
    "missed 2",
    "missed 3",
    "after",
  ]);
});

test("reading offline does not lower the count of missed messages", async () => {
  const wes = await stage.enter("wes", { link: true });
  const xia = await stage.enter("xia", { replica: 1 });
  await talkTo(wes.page, "xia");
  for (const text of ["unread 1", "unread 2"]) await say(xia.page, text);
  await eventually(() => room(wes.page, "General").locator("[data-part=unread]").textContent(), "2 unread");
  wes.link.cut();
  await wes.page.getByText("You are offline.").waitFor();
  await room(wes.page, "General").click();
  await message(wes.page, "unread 2").waitFor();
  await eventually(() => room(wes.page, "General").locator("[data-part=unread]").count(), 0);
  for (const text of ["missed 4", "missed 5"]) await say(xia.page, text);
  await eventually(() => xia.page.locator("[data-state]:not([data-state=sent])").count(), 0);
  await wes.link.mend();
  await wes.page.getByText("Back. 2 new messages.").waitFor();
});

test("a hanging attempt to connect is abandoned once the network is back", async () => {
  const { page, link } = await stage.enter("viv", { link: true });
  await link.hang();
  // "You are offline", or "Connecting" if the page was not connected yet.
  const trouble = page.locator("[data-part=trouble]");
  await trouble.waitFor();
  await link.mend();
  // The attempt itself would take longer.
  await trouble.waitFor({ state: "hidden", timeout: 4_000 });
});

test("a message that is sent while the log is being compared is always shown, and once", async () => {
  const pat = await stage.enter("pat", { link: true });
  const quin = await stage.enter("quin", { replica: 1 });
  await say(quin.page, "before the break");
  await message(pat.page, "before the break").waitFor();
  pat.link.cut();
  await say(quin.page, "during the break");
  await message(quin.page, "during the break").waitFor();
  await eventually(() => quin.page.locator("[data-state]:not([data-state=sent])").count(), 0);
  pat.link.hold("sync");
  await pat.page.evaluate(() => {
    const seen = new Set<number>();
    Object.assign(window, { seen });
    const count = () => {
      const texts = [...document.querySelectorAll("[role=log] [data-part=text]")].map(
        (text) => text.textContent,
      );
      const found = texts.filter((text) => text === "into the gap").length;
      if (found > 0 || seen.size > 0) seen.add(found);
    };
    new MutationObserver(count).observe(document.body, { childList: true, subtree: true });
  });
  await say(pat.page, "into the gap");
  await pat.link.mend();
  const row = message(pat.page, "into the gap").locator("[data-state]");
  await message(quin.page, "into the gap").waitFor();
  await eventually(() => row.getAttribute("data-state"), "sent");
  expect(await message(pat.page, "during the break").count()).toBe(0);
  pat.link.letGo();
  await eventually(
    async () => (await shownTexts(pat.page)).slice(-3),
    ["before the break", "during the break", "into the gap"],
  );
  expect(await pat.page.evaluate(() => [...(window as unknown as { seen: Set<number> }).seen])).toEqual([1]);
});

test("a replica that stops during a conversation neither loses nor repeats a message", async () => {
  const gus = await stage.enter("gus");
  const replica = await stage.house.addReplica();
  const port = new URL(replica.address).port;
  const hal = await stage.enter("hal", { replica: stage.house.replicas.length - 1 });
  const said: string[] = [];
  for (let count = 0; count < 12; count++) {
    if (count === 4) {
      await replica.close();
      stage.house.replicas.splice(stage.house.replicas.indexOf(replica), 1);
    }
    if (count === 8) await stage.house.addReplica({ PORT: port });
    for (const { page, name } of [gus, hal]) {
      said.push(`${name} ${count}`);
      await say(page, `${name} ${count}`);
    }
  }
  for (const { page } of [gus, hal]) {
    await eventually(async () => {
      const texts = await shownTexts(page);
      return said.filter((text) => times(texts, text) !== 1);
    }, []);
    const own = (await shownTexts(page)).filter((text) => text.startsWith("hal "));
    expect(own).toEqual(said.filter((text) => text.startsWith("hal ")));
  }
  await eventually(() => shownTexts(hal.page), await shownTexts(gus.page));
});

test("a refused message says so, and can be edited, sent again or deleted", async () => {
  const ivy = await stage.enter("ivy", { link: true });
  const failed = ivy.page.locator("[data-state=failed]");
  ivy.link.garble("No good");
  await say(ivy.page, "No good");
  await failed.getByText("Not sent.").waitFor();
  await failed.getByRole("button", { name: "Edit" }).click();
  await eventually(() => messageTo(ivy.page, "General").inputValue(), "No good");
  await eventually(() => failed.count(), 0);
  ivy.link.garble("Better");
  await say(ivy.page, "Better");
  await failed.getByText("Not sent.").waitFor();
  ivy.link.spare("Better");
  await failed.getByRole("button", { name: "Retry" }).click();
  await eventually(() => message(ivy.page, "Better").locator("[data-state=sent]").count(), 1);
  ivy.link.garble("Worse");
  await say(ivy.page, "Worse");
  await failed.getByRole("button", { name: "Delete" }).click();
  await eventually(() => message(ivy.page, "Worse").count(), 0);
  await ivy.page.reload();
  await message(ivy.page, "Better").waitFor();
  const texts = await shownTexts(ivy.page);
  expect([times(texts, "No good"), times(texts, "Better"), times(texts, "Worse")]).toEqual([0, 1, 0]);
});

test("after the log lost its tail everybody shows the same log, with the lost messages in it again", async () => {
  const nan = await stage.enter("nan", { link: true });
  const oli = await stage.enter("oli", { link: true, replica: 1 });
  await say(nan.page, "kept");
  await message(oli.page, "kept").waitFor();
  const kept = await newestOf(stage);
  await say(nan.page, "lost 1");
  await say(nan.page, "lost 2");
  await message(oli.page, "lost 2").waitFor();
  await eventually(() => nan.page.locator("[data-state]:not([data-state=sent])").count(), 0);
  nan.link.cut();
  oli.link.cut();
  await rewind(stage, kept);
  await eventually(() => stored(stage), ["kept"]);
  await nan.link.mend();
  await oli.link.mend();
  await eventually(() => stored(stage), ["kept", "lost 1", "lost 2"]);
  await say(oli.page, "onwards");
  await message(nan.page, "onwards").waitFor();
  for (const { page } of [nan, oli]) {
    await eventually(async () => (await shownTexts(page)).slice(-4), ["kept", "lost 1", "lost 2", "onwards"]);
  }
});

test("an answer whose message the log has lost says so, and can be sent as no reply", async () => {
  const { page, link } = await stage.enter("sam", { link: true });
  const asker = await person(both(stage.house)[1], "asker");
  await asker.say("0", "kept");
  const kept = await newestOf(stage);
  const { seq } = await asker.say("0", "shall we delete it?");
  const question = page.locator(`[data-seq="${seq}"]`);
  await question.getByText("shall we delete it?").waitFor();
  await question.focus();
  await question.getByRole("button", { name: "Reply" }).click();
  await page.getByText("Replying to asker: shall we delete it?").waitFor();
  await messageTo(page, "General").fill("yes, at once");
  link.cut();
  await page.keyboard.press("Enter");
  await eventually(() => page.locator("[data-state]:not([data-state=sent])").count(), 1);
  await rewind(stage, kept);
  const instead = await asker.say("0", "shall we keep it?");
  expect(instead.seq).toBe(seq);
  await link.mend();
  await question.getByText("shall we keep it?").waitFor();
  const failed = page.locator("[data-state=failed]");
  await failed.getByText("The message that this replies to is not there.").waitFor();
  expect((await stored(stage)).slice(-2)).toEqual(["kept", "shall we keep it?"]);
  await failed.getByRole("button", { name: "Send as no reply" }).click();
  await eventually(async () => (await stored(stage)).slice(-1), ["yes, at once"]);
  const said = await newestOf(stage);
  expect(said).not.toHaveProperty("replyTo");
  await page.locator(`[data-seq="${said.seq}"]`).waitFor();
  await eventually(() => failed.count(), 0);
  asker.close();
});

test("a message that the log lost while its sender's page was closed is offered again by the next page", async () => {
  await (await stage.enter("ros", { replica: 1 })).context.close();
  const { page } = await stage.enter("ron");
  await say(page, "kept");
  await eventually(async () => (await stored(stage)).slice(-1), ["kept"]);
  const kept = await newestOf(stage);
  await say(page, "lost 3");
  await say(page, "lost 4");
  await eventually(async () => (await stored(stage)).slice(-2), ["lost 3", "lost 4"]);
  await eventually(() => page.locator("[data-state]:not([data-state=sent])").count(), 0);
  // Leave General, so that the next page has no other reason to open it.
  await talkTo(page, "ros");
  const address = page.url();
  await page.goto("about:blank");
  await rewind(stage, kept);
  await eventually(async () => (await stored(stage)).slice(-1), ["kept"]);
  await page.goto(address);
  await messageTo(page, "ros").waitFor();
  await eventually(async () => (await stored(stage)).slice(-3), ["kept", "lost 3", "lost 4"]);
  await room(page, "General").click();
  await eventually(async () => (await shownTexts(page)).slice(-3), ["kept", "lost 3", "lost 4"]);
});

type Stored = { seq: number; date: number; hash: string; message: string };

/** General's rows in Redis, from the message "kept" on. */
async function stored({ house: { redis, keys } }: Stage): Promise<string[]> {
  const texts = (await redis.zrange(keys.room("0"), "0", "-1")).map(
    (json) => (JSON.parse(json) as Stored).message,
  );
  return texts.slice(texts.indexOf("kept"));
}

async function newestOf({ house: { redis, keys } }: Stage): Promise<Stored> {
  const [json] = await redis.zrange(keys.room("0"), "-1", "-1");
  return JSON.parse(json ?? "") as Stored;
}

/** Takes General back to this message and cuts connections, as a failover to a late replica does. */
async function rewind({ house: { redis, keys } }: Stage, { seq, date, hash }: Stored): Promise<void> {
  await redis.zremrangebyscore(keys.room("0"), `(${date}`, "+inf");
  await redis.hset(keys.meta("0"), { seq: String(seq), date: String(date), hash });
  const nonces = await redis.keys(`*${keys.room("0")}}:nonce:*`);
  for (const nonce of nonces) if (Number(await redis.get(nonce)) > date) await redis.del(nonce);
  await redis.call("CLIENT", "KILL", "TYPE", "pubsub");
}

test("another window sends the messages that a closed one left behind", async () => {
  const { page, context, link } = await stage.enter("jon", { link: true });
  const kim = await stage.enter("kim", { replica: 1 });
  link.cut();
  await say(page, "left behind");
  await page.getByText("One message waits to be sent.").waitFor();
  const other = await context.newPage();
  await other.goto(page.url());
  await message(other, "left behind").waitFor();
  await page.close();
  await link.mend();
  await message(kim.page, "left behind").waitFor();
  await eventually(() => other.locator("[data-state]:not([data-state=sent])").count(), 0);
  expect(times(await shownTexts(kim.page), "left behind")).toBe(1);
});

test("windows that take turns send every message, once and in order", async () => {
  const { page, context } = await stage.enter("sue");
  const tom = await stage.enter("tom", { replica: 1 });
  const other = await context.newPage();
  await other.goto(page.url());
  await messageTo(other, "General").waitFor();
  const said: string[] = [];
  for (let turn = 0; turn < 6; turn++) {
    const texts = [`turn ${turn} a`, `turn ${turn} b`];
    const writer = turn % 2 === 0 ? other : page;
    await writer.bringToFront();
    for (const text of texts) await say(writer, text);
    await message(tom.page, texts[1] ?? "").waitFor();
    said.push(...texts);
  }
  for (const one of [page, other, tom.page]) {
    await eventually(async () => (await shownTexts(one)).slice(-said.length), said);
    await eventually(() => one.locator("[data-state]:not([data-state=sent])").count(), 0);
  }
});

test("what one writes offline is kept if the page's process is killed right after it", async () => {
  const { page, context, link } = await stage.enter("val", { link: true });
  link.cut();
  await messageTo(page, "General").fill("last words");
  const crashed = page.waitForEvent("crash");
  const asked = page.waitForEvent("console", (entry) => entry.text() === "asked");
  const busy = page
    .getByRole("button", { name: "Send message" })
    .evaluate(async (button: HTMLElement) => {
      button.click();
      for (let turns = 0; turns < 20; turns++) await Promise.resolve();
      console.log("asked");
      // No answer of the database is heard any more.
      for (;;);
    })
    .catch(() => {});
  await asked;
  // The browser's own process writes it down.
  await sleep(1_000);
  const cdp = await stage.browser.newBrowserCDPSession();
  const { processInfo } = await cdp.send("SystemInfo.getProcessInfo");
  for (const { type, id } of processInfo) if (type === "renderer") process.kill(id, "SIGKILL");
  await Promise.all([crashed, busy]);
  const next = await context.newPage();
  await next.goto(page.url());
  await message(next, "last words").waitFor();
});

test("whoever has a browser that never opens its database can send and log out", async () => {
  const ula = await stage.enter("ula");
  await ula.page.addInitScript(() => {
    IDBFactory.prototype.open = () => new EventTarget() as IDBOpenDBRequest;
  });
  await ula.page.reload();
  await say(ula.page, "Without a database");
  const row = message(ula.page, "Without a database").locator("[data-state]");
  await eventually(() => row.getAttribute("data-state"), "sent");
  await ula.page.getByRole("button", { name: "Log out" }).click();
  await ula.page.getByRole("heading", { name: "Welcome back" }).waitFor();
});

test("a message that is refused because its room is gone is listed beside the rooms, and can be deleted", async () => {
  const { page, context, link } = await stage.enter("uma", { link: true });
  await createRoom(page, "Attic");
  const roomId = page.url().split("/").at(-1) ?? "";
  link.cut();
  await page.getByText("You are offline.").waitFor();
  await say(page, "too late");
  await message(page, "too late").waitFor();

  const browser = new Browser(both(stage.house)[1]);
  const { body } = await browser.post<User>("/api/login", { username: "uma", password: PASSWORD });
  const elsewhere = await connect(browser, body);
  unwrap(await elsewhere.socket.emitWithAck("room.leave", { roomId }));
  elsewhere.close();
  await link.mend();

  const failed = page.locator("[data-state=failed]");
  await page.getByRole("heading", { name: "Not one of your rooms" }).waitFor();
  await failed.getByText("too late").waitFor();
  await room(page, "General").click();
  await messageTo(page, "General").waitFor();
  await page.reload();
  await room(page, "A room you left: Attic").getByText("too late").waitFor();
  await room(page, "A room you left").click();
  await failed.getByText("Not sent. You are not in this room any more.").waitFor();
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  // Over plain http there is no clipboard.
  await page.evaluate(() =>
    Object.defineProperty(navigator, "clipboard", { value: undefined, configurable: true }),
  );
  await failed.getByRole("button", { name: "Copy" }).click();
  await page.getByRole("alert").getByText("This browser does not let the page copy.").waitFor();
  await page.evaluate(() => Reflect.deleteProperty(navigator, "clipboard"));
  await failed.getByRole("button", { name: "Copy" }).click();
  await page.getByRole("alert").getByText("Copied.").waitFor();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("too late");
  await failed.getByRole("button", { name: "Delete" }).click();
  await eventually(() => room(page, "A room you left").count(), 0);
  await page.reload();
  await room(page, "General").waitFor();
  await page.getByRole("heading", { name: "You are not in this room" }).waitFor();
  await eventually(() => room(page, "A room you left").count(), 0);
  expect(await page.getByText("too late").count()).toBe(0);
});

test("reading in one window clears the badge in another", async () => {
  const { page, context } = await stage.enter("lou");
  const mia = await stage.enter("mia", { replica: 1 });
  const other = await context.newPage();
  await other.goto(page.url());
  await messageTo(other, "General").waitFor();
  for (const one of [page, other]) {
    await one.getByRole("complementary", { name: "People" }).getByRole("button", { name: "jon" }).click();
    await messageTo(one, "jon").waitFor();
  }
  await say(mia.page, "for all of you");
  await room(page, "General").getByText("unread").waitFor({ state: "attached" });
  await room(other, "General").getByText("unread").waitFor({ state: "attached" });
  await room(page, "General").click();
  await eventually(() => room(other, "General").getByText("unread").count(), 0);
});
