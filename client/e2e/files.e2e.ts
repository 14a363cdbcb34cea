import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";
import type { Locator, Page, Route } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { both, PATIENCE_MS, person, until } from "../../server/src/testing.ts";
import {
  eventually,
  faultsInBoth,
  message,
  messageTo,
  room,
  say,
  setStage,
  shownTexts,
  talkTo,
  type Actor,
  type Stage,
} from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await setStage(2, { FILES_MAX: "200000", FILES_TYPES: "image/*,text/*,application/pdf" });
  await startDecoder();
});

afterAll(() => stage.close());

type Given = { name: string; mimeType: string; buffer: Buffer };

/** A picture of one colour. */
function png(name: string, width = 120, height = 80, [red, green, blue] = [30, 120, 90]): Given {
  const row = Buffer.alloc(1 + width * 3);
  for (let at = 0; at < width; at += 1) row.set([red ?? 0, green ?? 0, blue ?? 0], 1 + at * 3);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const buffer = Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(Buffer.concat(Array.from({ length: height }, () => row)))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
  return { name, mimeType: "image/png", buffer };
}

/** Two frames, red and blue. */
const GIF = {
  mimeType: "image/gif",
  buffer: Buffer.from(
    "R0lGODlhCAAIAIAAAExpcf8AACH/C05FVFNDQVBFMi4wAwEAAAAh+QQFFAAAACwAAAAACAAIAAACB4yPqcvtXQAAIfkEBRQAAAAsAAAAAAgACACATGlxAAD/AgeMj6nL7V0AADs=",
    "base64",
  ),
};

/** The process that decodes images begins with the first one, which on a busy machine may be too late for that one. */
async function startDecoder(): Promise<void> {
  const first = await person(both(stage.house)[0], "first");
  const { address, cookie } = first.browser;
  const headers = { cookie, origin: address, "x-file-name": "first.png", "x-room-id": "0" };
  const body = new Uint8Array(png("first.png").buffer);
  const send = () => fetch(`${address}/api/files`, { method: "POST", headers, body });
  await until(async () => (await send()).status === 201, 4 * PATIENCE_MS, "the first image");
  first.close();
}

const text = (name: string, bytes = 5): Given => ({
  name,
  mimeType: "text/plain",
  buffer: Buffer.alloc(bytes, "a"),
});

const tray = (page: Page) => page.getByRole("list", { name: "Files to send" });

async function pick(page: Page, ...files: Given[]): Promise<void> {
  await page.locator("main input[type=file]").setInputFiles(files);
  for (const { name } of files) await tray(page).getByText(name).waitFor();
}

/** Does what the browser does when files are pasted or dropped at an element, with the text that a system adds. */
async function bring(
  page: Page,
  types: string[],
  selector: string,
  files: Given[],
  beside = "",
): Promise<void> {
  await page.locator(selector).first().waitFor();
  await page.evaluate(
    ([kinds, at, given, words]) => {
      const data = new DataTransfer();
      if (words !== "") data.setData("text/plain", words);
      for (const { name, mimeType, base64 } of given) {
        const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
        data.items.add(new File([bytes], name, { type: mimeType }));
      }
      const init = { bubbles: true, cancelable: true };
      const target = document.querySelector(at);
      for (const kind of kinds)
        target?.dispatchEvent(
          kind === "paste"
            ? new ClipboardEvent(kind, { ...init, clipboardData: data })
            : new DragEvent(kind, { ...init, dataTransfer: data }),
        );
    },
    [
      types,
      selector,
      files.map(({ buffer, ...file }) => ({ ...file, base64: buffer.toString("base64") })),
      beside,
    ] as const,
  );
}

/** Holds the page's uploads until `let` or the end of the page; `cut` ends the held ones without an answer. */
async function holdUploads({ context }: Actor) {
  let held: Route[] = [];
  const take = (route: Route) => {
    if (route.request().method() === "POST") held.push(route);
    else void route.continue();
  };
  await context.route("**/api/files", take);
  const release = async (how: (route: Route) => Promise<void>) => {
    const routes = held;
    held = [];
    // A page that was closed has ended its own.
    await Promise.all(routes.map((route) => how(route).catch(() => {})));
  };
  return {
    begun: (count: number) => eventually(() => held.length, count),
    cut: () => release((route) => route.abort()),
    async let() {
      await context.unroute("**/api/files", take);
      await release((route) => route.continue());
    },
  };
}

const image = (page: Page, alt: string) => page.getByRole("log").getByRole("img", { name: alt });

async function isDrawn(page: Page, alt: string): Promise<void> {
  await eventually(() => image(page, alt).evaluate((img: HTMLImageElement) => img.naturalWidth > 0), true);
}

const send = (page: Page) => page.getByRole("button", { name: "Send message" }).click();

test("a pasted image and a picked file reach somebody on another replica, and go when they are deleted", async () => {
  const ann = await stage.enter("ann");
  const ben = await stage.enter("ben", { replica: 1 });
  await bring(ann.page, ["paste"], "#composer", [png("garden.png", 1200, 600)]);
  await ann.page.getByLabel("Description of garden.png").fill("A green garden");
  await pick(ann.page, text("report.txt"));
  await send(ann.page);
  await image(ann.page, "A green garden").waitFor();
  await isDrawn(ben.page, "A green garden");
  const { width, height } = (await image(ben.page, "A green garden").boundingBox()) ?? {};
  expect([width, height]).toEqual([400, 200]);
  const link = ben.page.getByRole("log").getByRole("link", { name: /report\.txt.*Download/ });
  const [download] = await Promise.all([ben.page.waitForEvent("download"), link.click()]);
  expect(download.suggestedFilename()).toBe("report.txt");
  await room(ben.page, "General").getByText("ann: Image: A green garden and 1 more").waitFor();

  // Text and files together, and the words of a reply.
  await pick(ann.page, text("notes.txt"));
  await say(ann.page, "My notes");
  await message(ben.page, "My notes")
    .getByRole("link", { name: /notes\.txt/ })
    .waitFor();

  const row = ann.page
    .locator("[data-seq]")
    .filter({ has: ann.page.getByRole("img", { name: "A green garden" }) });
  await row.focus();
  await row.getByRole("button", { name: "Delete message" }).click();
  await ann.page.getByRole("button", { name: "Undo" }).waitFor();
  await eventually(() => image(ann.page, "A green garden").count(), 0);
  await eventually(() => image(ben.page, "A green garden").count(), 0);
  expect([...ann.complaints, ...ben.complaints]).toEqual([]);
});

test("files are dropped on the conversation, and nowhere else; what is refused is told before anything is sent", async () => {
  const cat = await stage.enter("cat");
  const { page } = cat;
  const address = page.url();
  await bring(page, ["dragenter", "dragover"], "[role=log]", [png("a.png")]);
  await page.getByText("Drop to add to your message").waitFor();
  await bring(page, ["dragenter", "dragover", "drop"], "nav", [png("a.png")]);
  await page.getByText("Drop files on the conversation that they are for.").waitFor();
  expect([page.url(), await tray(page).count()]).toEqual([address, 0]);
  expect(await page.getByText("Drop to add to your message").count()).toBe(0);

  const zip = { name: "all.zip", mimeType: "application/zip", buffer: Buffer.from("PK") };
  await bring(page, ["dragover", "drop"], "[role=log]", [
    text("empty.txt", 0),
    text("large.txt", 300_000),
    zip,
    png("good.png"),
  ]);
  const refused = page.getByRole("alert").filter({ hasText: "empty.txt" });
  await refused.waitFor();
  expect(await refused.locator("p").allTextContents()).toEqual([
    "“empty.txt” is empty.",
    "“large.txt” is too large: it has 300 kB, and a file may have 200 kB.",
    "“all.zip” cannot be sent here, only images, texts, PDF.",
  ]);
  await eventually(() => tray(page).getByRole("listitem").count(), 1);
  await bring(
    page,
    ["paste"],
    "#composer",
    Array.from({ length: 10 }, (_, at) => text(`${at}.txt`)),
  );
  await page.getByText("“9.txt” is one too many: a message takes 10 files.").waitFor();
  await eventually(() => tray(page).getByRole("listitem").count(), 10);
});

test("files are pasted although the system adds their names or paths as a text, but a picture of a text is not", async () => {
  const { page } = await stage.enter("pat");
  const pair = [text("one.txt"), text("zwei ü.txt")];
  const written = await page.evaluateHandle(() => {
    const pastes: boolean[] = [];
    addEventListener("paste", ({ defaultPrevented }) => pastes.push(!defaultPrevented));
    return pastes;
  });
  for (const names of [
    "one.txt\rzwei u\u0308.txt",
    "/home/pat/one.txt\n/home/pat/zwei ü.txt",
    "file:///home/pat/one.txt\r\nfile:///home/pat/zwei%20%C3%BC.txt\r\n",
    String.raw`C:\pat\one.txt`,
  ]) {
    await bring(page, ["paste"], "#composer", [text("cells.txt")], "1\t2");
    await bring(page, ["paste"], "#composer", pair, names);
    await eventually(() => tray(page).getByRole("listitem").count(), 2);
    expect(await tray(page).getByText("cells.txt").count()).toBe(0);
    for (const { name } of pair) await page.getByRole("button", { name: `Remove ${name}` }).click();
    await eventually(() => tray(page).count(), 0);
    // The browser writes what nobody takes.
    expect(await written.evaluate((pastes) => pastes.splice(0))).toEqual([true, false]);
  }
});

test("a folder is left out of a drop, and no file in its place, also beside a text", async () => {
  const { page } = await stage.enter("fox");
  // No script can make a folder.
  await page.evaluate(() => {
    DataTransferItem.prototype.webkitGetAsEntry = function entry() {
      return { isDirectory: this.getAsFile()?.name === "folder" } as FileSystemEntry;
    };
  });
  const given = [text("folder"), text("file.txt")];
  await bring(page, ["dragover", "drop"], "[role=log]", given, "/home/fox/folder");
  await page.getByText("Folders cannot be sent").waitFor();
  await tray(page).getByText("file.txt").waitFor();
  expect(await tray(page).getByRole("listitem").count()).toBe(1);
});

test("a file that has changed since it was picked is refused by its name", async () => {
  const { page } = await stage.enter("rae");
  const folder = await mkdtemp(join(tmpdir(), "hubbub-picked-"));
  const path = join(folder, "day.log");
  await writeFile(path, "first line");
  let answer = () => {};
  await page.route("**/api/files", async (route) => {
    if (route.request().method() === "GET") await new Promise<void>((resolve) => (answer = resolve));
    await route.continue();
  });
  const asked = page.waitForRequest("**/api/files");
  await page.locator("main input[type=file]").setInputFiles(path);
  await asked;
  await appendFile(path, "second line");
  answer();
  await page
    .getByRole("alert")
    .getByText("“day.log” cannot be read. Is it a folder, or has it changed?")
    .waitFor();
  expect(await tray(page).count()).toBe(0);
  await rm(folder, { recursive: true });
});

test("a message takes along what was pasted before Enter, though it is listed later, but not what was typed after", async () => {
  const { page } = await stage.enter("swift");
  let answer = () => {};
  await page.route("**/api/files", async (route) => {
    if (route.request().method() === "GET") await new Promise<void>((resolve) => (answer = resolve));
    await route.continue();
  });
  const composer = messageTo(page, "General");
  const asked = page.waitForRequest("**/api/files");
  await bring(page, ["paste"], "#composer", [text("late.txt")]);
  await asked;
  await page.getByText("Adding late.txt").waitFor();
  await composer.fill("look at this");
  await composer.press("Enter");
  await composer.pressSequentially(" and now");
  answer();
  await message(page, "look at this")
    .getByRole("link", { name: /late\.txt/ })
    .waitFor();
  expect(await composer.inputValue()).toBe("and now");
});

/** Holds the page's question what may be uploaded, so that files are not listed before `answer`. */
async function holdLimits(page: Page) {
  let held: (() => void)[] | null = [];
  await page.route("**/api/files", async (route) => {
    if (route.request().method() === "GET" && held !== null)
      await new Promise<void>((resolve) => held?.push(resolve));
    await route.continue();
  });
  return {
    answer() {
      for (const go of held ?? []) go();
      held = null;
    },
  };
}

/** Picks a file that is not listed yet. */
async function beginToAdd(page: Page, file: Given): Promise<void> {
  await page.locator("main input[type=file]").setInputFiles([file]);
  await page.locator("#composer-note").getByText(file.name).waitFor();
}

test("each Enter while files are being added sends what stood there then, once, in order", async () => {
  const { page, complaints } = await stage.enter("quick");
  const composer = messageTo(page, "General");
  const limits = await holdLimits(page);
  await beginToAdd(page, text("slow.txt"));
  await composer.fill("with the file");
  await composer.press("Enter");
  await page.getByText("What you have sent waits for slow.txt…", { exact: true }).last().waitFor();
  await composer.press("Enter");
  await composer.pressSequentially(" then this");
  await composer.press("Enter");
  await composer.fill("at last");
  await composer.press("Enter");
  await composer.pressSequentially(" more to come");
  limits.answer();
  await message(page, "at last").locator("[data-seq]").waitFor();
  expect((await shownTexts(page)).slice(-3)).toEqual(["with the file", "then this", "at last"]);
  const links = page.getByRole("log").getByRole("link", { name: /slow\.txt/ });
  const first = message(page, "with the file").getByRole("link", { name: /slow\.txt/ });
  expect([await links.count(), await first.count()]).toEqual([1, 1]);
  expect(await composer.inputValue()).toBe("more to come");
  expect(complaints).toEqual([]);
});

test("if a file is refused for which what was sent waits, none of that is sent, and all of it is there to be sent again", async () => {
  const { page } = await stage.enter("refused-line");
  const composer = messageTo(page, "General");
  const limits = await holdLimits(page);
  await beginToAdd(page, text("large.txt", 300_000));
  await say(page, "with the file");
  await say(page, "after it");
  limits.answer();
  await page.getByRole("alert").getByText("“large.txt” is too large").waitFor();
  await eventually(() => composer.inputValue(), "with the file\nafter it");
  await composer.press("Enter");
  await page.locator("[data-seq]").filter({ hasText: "after it" }).waitFor();
  expect((await shownTexts(page)).filter((one) => one.includes("after it"))).toHaveLength(1);
});

test("why a file was refused stays in sight while others are added after it", async () => {
  const { page } = await stage.enter("both-lots");
  const limits = await holdLimits(page);
  await beginToAdd(page, text("large.txt", 300_000));
  await beginToAdd(page, text("good.txt"));
  await say(page, "with both");
  limits.answer();
  await tray(page).getByText("good.txt").waitFor();
  await eventually(() => page.locator("#composer-note").getByText("good.txt").count(), 0);
  await page.getByRole("alert").getByText("“large.txt” is too large").waitFor({ timeout: 5_000 });
  expect(await messageTo(page, "General").inputValue()).toBe("with both");
});

test("what is sent while it is asked whether to call a room waits for the answer, and goes only if that is yes", async () => {
  const { page } = await stage.enter("asker");
  const composer = messageTo(page, "General");
  let answer = () => {};
  await page.route("**/audience", async (route) => {
    await new Promise<void>((resolve) => (answer = resolve));
    await route.fulfill({ json: { people: 50 } });
  });
  const question = page.getByRole("dialog", { name: "Notify 49 people?" });
  const sendBoth = async () => {
    const asked = page.waitForRequest("**/audience");
    await composer.press("Enter");
    await asked;
    await composer.fill("who pays?");
    await composer.press("Enter");
    answer();
    await question.waitFor();
  };
  await composer.fill("@room lunch");
  await sendBoth();
  await question.getByRole("button", { name: "Go back" }).click();
  await question.waitFor({ state: "detached" });
  expect(await composer.inputValue()).toBe("@room lunch\nwho pays?");
  expect(await page.getByRole("log").getByText("who pays?").count()).toBe(0);
  await composer.fill("@room lunch");
  await sendBoth();
  await question.getByRole("button", { name: "Notify them" }).click();
  await message(page, "who pays?").locator("[data-seq]").waitFor();
  expect((await shownTexts(page)).slice(-2)).toEqual([
    expect.stringContaining("lunch"),
    expect.stringContaining("who pays?"),
  ]);
  expect(await composer.inputValue()).toBe("");
});

test("what is to be sent stays with its room, also after a reload, and can be removed with the keys", async () => {
  const dan = await stage.enter("dan");
  const eve = await stage.enter("eve");
  const { page } = dan;
  await pick(page, png("one.png"), text("two.txt"));
  await page.getByLabel("Description of one.png").fill("The first");
  await talkTo(page, "eve");
  await eventually(() => tray(page).count(), 0);
  await room(page, "General").getByText("Draft").waitFor();
  await page.reload();
  await room(page, "General").click();
  await messageTo(page, "General").waitFor();
  await eventually(() => page.getByLabel("Description of one.png").inputValue(), "The first");
  await page.getByRole("button", { name: "Remove two.txt" }).focus();
  await page.keyboard.press("Enter");
  await page.getByText("two.txt removed").waitFor({ state: "attached" });
  await eventually(() => page.evaluate(() => document.activeElement?.ariaLabel), "Remove one.png");
  await page.keyboard.press("Enter");
  await eventually(() => tray(page).count(), 0);
  await eventually(() => page.evaluate(() => document.activeElement?.id), "composer");
  // The picture was kept until it was removed, and not longer.
  await pick(page, png("three.png"));
  await page.getByLabel("Description of three.png").fill("The third");
  await page.keyboard.press("Enter");
  await room(eve.page, "General").click();
  await isDrawn(eve.page, "The third");
});

test("a message waits for its files, and what is said after it waits too; a cancelled one is the draft again", async () => {
  const fay = await stage.enter("fay");
  const gus = await stage.enter("gus", { replica: 1 });
  const { page } = fay;
  await room(page, "General").click();
  const uploads = await holdUploads(fay);
  await pick(page, text("slow.txt"));
  await say(page, "with a file");
  await say(page, "after it");
  await uploads.begun(1);
  await page.getByRole("progressbar", { name: "Uploading slow.txt" }).waitFor();
  // Another room does not wait.
  await talkTo(page, "gus");
  await say(page, "elsewhere");
  await eventually(() => page.locator("[data-seq]").filter({ hasText: "elsewhere" }).count(), 1);
  await room(page, "General").click();
  await message(page, "after it").getByText("Waits for the files before it").waitFor();
  expect(await message(page, "after it").locator("[data-seq]").count()).toBe(0);
  await uploads.let();
  for (const one of [fay, gus]) {
    await message(one.page, "after it").locator("[data-seq]").waitFor();
    expect((await shownTexts(one.page)).slice(-2)).toEqual(["with a file", "after it"]);
  }

  const again = await holdUploads(fay);
  await pick(page, text("never.txt"));
  await say(page, "never");
  await say(page, "instead");
  await again.begun(1);
  await page.getByRole("button", { name: "Cancel" }).click();
  await message(gus.page, "instead").waitFor();
  await again.let();
  for (const one of [fay, gus]) expect(await message(one.page, "never").count()).toBe(0);
  expect(await messageTo(page, "General").inputValue()).toBe("never");
  await page.getByRole("list", { name: "Files to send" }).getByText("never.txt").waitFor();
});

test("a file that a proxy does not let through fails its message, which says so", async () => {
  const { page, context } = await stage.enter("proxied");
  await context.route("**/api/files", (route) =>
    route.request().method() === "POST"
      ? route.fulfill({
          status: 413,
          contentType: "text/html",
          body: "<h1>413 Request Entity Too Large</h1>",
        })
      : route.continue(),
  );
  await pick(page, text("big.txt"));
  await say(page, "too big");
  await message(page, "too big").getByText("Not sent. Too large: a proxy in front of the server").waitFor();
});

test("an upload goes on by itself after a cut and after a reload, and its message is sent once", async () => {
  const hal = await stage.enter("hal");
  const ida = await stage.enter("ida", { replica: 1 });
  const uploads = await holdUploads(hal);
  await pick(hal.page, png("kept.png"), text("kept.txt"));
  await say(hal.page, "kept");
  await uploads.begun(1);
  await uploads.cut();
  // It is tried again.
  await uploads.begun(1);
  await hal.page.reload();
  await hal.page.getByRole("progressbar").waitFor();
  await isDrawn(hal.page, "kept.png");
  await uploads.let();
  await message(ida.page, "kept")
    .getByRole("link", { name: /kept\.txt/ })
    .waitFor();
  await isDrawn(ida.page, "kept.png");
  await message(hal.page, "kept").locator("[data-seq]").waitFor();
  await hal.page.reload();
  await message(hal.page, "kept").locator("[data-seq]").waitFor();
  for (const { page } of [hal, ida]) expect(await message(page, "kept").count()).toBe(1);
});

test("images of a message are looked at with the keys, and the focus goes back to the one that was opened", async () => {
  const jan = await stage.enter("jan");
  const { page } = jan;
  await pick(page, png("first.png"), png("second.png", 90, 200), png("third.png"));
  await send(page);
  const second = page.locator("[data-seq]").getByRole("link", { name: "second.png" });
  await second.focus();
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  const shown = (alt: string) => dialog.getByRole("img", { name: alt }).waitFor();
  await page.getByRole("dialog", { name: "Image 2 of 3" }).waitFor();
  await shown("second.png");
  await page.keyboard.press("ArrowRight");
  await shown("third.png");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Home");
  await shown("first.png");
  await page.keyboard.press("End");
  await shown("third.png");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await eventually(() => second.evaluate((link) => link === document.activeElement), true);
  await page.keyboard.press("Enter");
  await shown("second.png");
  await page.goBack();
  await dialog.waitFor({ state: "detached" });
  await messageTo(page, "General").waitFor();
});

test("a sent image stays in sight until the stored one has come", async () => {
  const flo = await stage.enter("flo");
  const { page, context } = flo;
  let release = () => {};
  const released = new Promise<void>((done) => (release = done));
  await context.route("**/thumbnail", async (route) => {
    await released;
    await route.continue();
  });
  const uploads = await holdUploads(flo);
  await pick(page, png("lake.png", 1200, 600));
  await send(page);
  await isDrawn(page, "lake.png");
  await uploads.let();
  const row = page.locator("[data-seq]").filter({ has: page.getByRole("img", { name: "lake.png" }) });
  const sent = row.locator("[data-part=picture] > img");
  await sent.waitFor();
  expect(await sent.evaluate((img: HTMLImageElement) => [img.naturalWidth, img.src.slice(0, 5)])).toEqual([
    1200,
    "blob:",
  ]);
  release();
  await isDrawn(page, "lake.png");
  await eventually(() => sent.count(), 0);
});

test("black and white both show on what lies behind a transparent image, light and dark, before and after it is sent", async () => {
  const { page } = await stage.enter("gil");
  /** The weaker of the contrasts that black and white have on the ground of an image. */
  const contrast = (seen: Locator) =>
    seen.evaluate((one) => {
      const [red = 0, , , alpha = 1] = (getComputedStyle(one).backgroundColor.match(/[\d.]+/g) ?? []).map(
        Number,
      );
      const light = alpha * (red / 255) ** 2.2;
      return Math.min((light + 0.05) / 0.05, 1.05 / (light + 0.05));
    });
  const judge = async (seen: Locator) => {
    await seen.waitFor();
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await expect.poll(() => contrast(seen), { timeout: 15_000 }).toBeGreaterThan(3);
    }
  };
  await pick(page, png("drawing.png"));
  await judge(tray(page).locator("img"));
  await send(page);
  const sent = page.locator("[data-seq]").getByRole("img", { name: "drawing.png" });
  await judge(sent);
  await sent.click();
  await judge(page.getByRole("dialog").getByRole("img", { name: "drawing.png" }));
});

test("the names of files begin at one side, whatever their script", async () => {
  const { page } = await stage.enter("hava");
  await pick(page, text("plain.txt"), text("תמונה.txt"));
  await send(page);
  const names = page.locator("[data-seq] [data-part=files] bdi");
  await names.nth(1).waitFor();
  const lefts = await names.evaluateAll((all) =>
    all.map((one) => {
      const range = document.createRange();
      range.selectNodeContents(one);
      return Math.round(range.getBoundingClientRect().left);
    }),
  );
  expect(lefts[1]).toBe(lefts[0]);
});

test("an image that cannot be loaded shows its name, and can be tried again", async () => {
  const kim = await stage.enter("kim");
  const { page } = kim;
  const away = (route: Route) => route.abort();
  await page.route("**/thumbnail", away);
  await pick(page, png("lost.png"));
  await send(page);
  const row = page.locator("[data-seq]").filter({ hasText: "lost.png" });
  await row.getByRole("button", { name: "Try again" }).waitFor();
  await page.unroute("**/thumbnail", away);
  await row.getByRole("button", { name: "Try again" }).click();
  await isDrawn(page, "lost.png");
});

test("a chosen picture is shown to others instead of the initials, until it is removed", async () => {
  const mia = await stage.enter("mia");
  const noa = await stage.enter("noa", { replica: 1 });
  const people = (page: Page) => page.getByRole("complementary", { name: "People" });
  const picture = (page: Page) =>
    people(page).getByRole("button", { name: "mia" }).locator("img[src*='/avatar?v=']");
  await people(noa.page).getByRole("button", { name: "mia" }).waitFor();
  await mia.page.getByRole("button", { name: /^Your account/ }).click();
  const account = mia.page.getByRole("dialog", { name: "Your account" });
  await account.getByRole("button", { name: "Choose a picture" }).waitFor();
  await account.locator("input[type=file]").setInputFiles([png("me.png", 600, 400)]);
  await account.getByRole("button", { name: "Remove picture" }).waitFor();
  await eventually(() => picture(noa.page).evaluate((img: HTMLImageElement) => img.naturalWidth), 256);
  expect(await account.locator("img[src*='/avatar?v=']").count()).toBe(1);
  await account.getByRole("button", { name: "Remove picture" }).click();
  await account.getByRole("button", { name: "Choose a picture" }).waitFor();
  await eventually(() => picture(noa.page).count(), 0);
});

test("a phone picks, shows and leafs through images; with reduced motion none plays by itself; axe finds no fault, light and dark", async () => {
  const lee = await stage.enter("lee", {
    bypassCSP: true,
    reducedMotion: "reduce",
    hasTouch: true,
    isMobile: true,
  });
  const { page } = lee;
  const gif = { ...GIF, name: "blink.gif" };
  await page.setViewportSize({ width: 360, height: 740 });
  const [chooser] = await Promise.all([
    page.waitForEvent("filechooser"),
    page.getByRole("button", { name: "Add files" }).tap(),
  ]);
  expect(chooser.isMultiple()).toBe(true);
  await chooser.setFiles([gif, png("wide.png", 800, 200), text("words.txt")]);
  await tray(page).getByText("words.txt").waitFor();
  expect(await faultsInBoth(page)).toEqual([]);
  for (const button of await page.locator("form button:visible").all()) {
    const { width = 0, height = 0 } = (await button.boundingBox()) ?? {};
    expect(Math.min(width, height)).toBeGreaterThanOrEqual(44);
  }
  await send(page);
  const row = page.locator("[data-seq]").filter({ has: page.getByRole("img", { name: gif.name }) });
  await row.waitFor();
  await isDrawn(page, gif.name);
  const source = () => row.getByRole("img", { name: gif.name }).getAttribute("src");
  expect(await source()).toMatch(/thumbnail$/);
  await row.getByRole("button", { name: "Play the animation" }).tap();
  await eventually(source, (await source())?.replace("/thumbnail", ""));
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
  expect(await faultsInBoth(page)).toEqual([]);

  await row.getByRole("link", { name: gif.name }).tap();
  await page.getByRole("dialog", { name: "Image 1 of 2" }).waitFor();
  for (const width of [1440, 1024, 768, 360]) {
    await page.setViewportSize({ width, height: 740 });
    expect(await faultsInBoth(page), `${width}`).toEqual([]);
  }
  await page.locator("[data-part=stage]").evaluate((place) => {
    const point = (type: string, clientX: number) =>
      place.dispatchEvent(
        new PointerEvent(type, { bubbles: true, pointerType: "touch", clientX, clientY: 300 }),
      );
    point("pointerdown", 300);
    point("pointerup", 100);
  });
  await page.getByRole("dialog", { name: "Image 2 of 2" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  expect(lee.complaints).toEqual([]);
});

test("however many files are refused, the composer stays in the page, and each reason is said once", async () => {
  const { page } = await stage.enter("una-many");
  await page.setViewportSize({ width: 360, height: 640 });
  const many = Array.from({ length: 60 }, (_, at) =>
    text(`${"a long name ".repeat(8)}${at}.txt`, at < 40 ? 5 : 0),
  );
  await page.locator("main input[type=file]").setInputFiles(many);
  const refused = page.getByRole("alert").filter({ hasText: "is one too many: a message takes 10 files." });
  await refused.waitFor();
  expect(await refused.locator("p").allTextContents()).toEqual([
    expect.stringContaining("The same goes for 29 other files."),
    expect.stringContaining("is empty. The same goes for 19 other files."),
  ]);
  for (const height of [640, 420]) {
    await page.setViewportSize({ width: 360, height });
    for (const part of [messageTo(page, "General"), refused.getByRole("button", { name: "Dismiss" })]) {
      const { y, height: high } = (await part.boundingBox()) ?? { y: -1, height: 0 };
      expect(y).toBeGreaterThanOrEqual(0);
      expect(y + high).toBeLessThanOrEqual(height);
    }
  }
});
