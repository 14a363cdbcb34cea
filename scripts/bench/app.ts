import { gzipSync } from "node:zlib";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium, type Page } from "playwright-core";
import { GENERAL } from "../../server/src/store/kinds.ts";
import { root } from "../prepare.mjs";
import type { LoadResult } from "./generator.ts";
import { judge, load, onStage, record, type Run } from "./run.ts";
import { summarise, type Summary } from "../statistics.ts";
import type { Target } from "./systems.ts";
import type { Column } from "./tables.ts";
import { fill, order, type Sizes } from "./workloads.ts";

/** The app in Chromium, which may use both cores; the replica uses one of them. */

type AppResult = {
  /** Compressed bytes of all scripts that the page fetched before the composer appeared. */
  gzip: number;
  /**
   * From the click on a room until its messages are laid out: rooms that this page opens for the first (`cold`) and
   * the second time.
   */
  switchMs: { cold: Summary | null; cached: Summary | null };
  /** While others talk in the open room and the user types. */
  busy: {
    framesPerSecond: number;
    /** 0: no task took 50 ms, from which on a browser reports it. */
    longestTaskMs: number;
    /** From a key press to the frame that shows it. */
    keyMs: Summary | null;
  };
};

const APP: Column<AppResult>[] = [
  { label: "first load, gzip KB", of: ({ gzip }) => gzip / 1_000 },
  { label: "to a room opened before, p50 ms", of: ({ switchMs }) => switchMs.cached?.p50 },
  { label: "to another, p50 ms", of: ({ switchMs }) => switchMs.cold?.p50 },
  { label: "frames a second", of: ({ busy }) => busy.framesPerSecond, more: true },
  { label: "longest task ms", of: ({ busy }) => busy.longestTaskMs },
  { label: "key to frame, p50 ms", of: ({ busy }) => busy.keyMs?.p50 },
];

const COLD_ROOMS = Array.from({ length: 20 }, (_, index) => String(index + 1));
const COLD_MESSAGES = 200;
const RATE = 100;
const TALKERS = 2;

/** Measures the first load, switching rooms, and a busy room, in a new browser on a new server. */
export async function app(target: Target, { env = {} }: Sizes): Promise<Run[]> {
  const roomIds = [GENERAL, ...COLD_ROOMS];
  const everywhere = { rooms: Array.from(roomIds.keys()) };
  const talkers = Array.from({ length: TALKERS }, () => ({ rooms: [0] }));
  // The last two are the browser's user and the one who fills the rooms.
  const town = { roomIds, members: [...talkers, everywhere, everywhere] };
  const CLIENT_DIR = join(target.checkout ?? root, "client/dist");
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  return onStage(target, { town, env: { CLIENT_DIR, ...env }, connected: TALKERS }, async (at) => {
    await fill(
      at,
      TALKERS + 1,
      COLD_ROOMS.map((room) => [room, COLD_MESSAGES]),
    );
    const browser = await chromium.launch({ executablePath, args: ["--disable-gpu"] });
    try {
      const address = `http://${at.system.host}:${at.system.ports[0]}`;
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB" });
      const [name = "", value = ""] = (at.system.members[TALKERS]?.cookie ?? "").split("=");
      await context.addCookies([{ name, value, url: address }]);
      const page = await context.newPage();
      // The compiler of this file may call a helper that names functions; the page lacks it.
      await page.addInitScript("globalThis.__name = (named) => named");
      const complaints: string[] = [];
      page.on("pageerror", ({ message }) => void complaints.push(message));
      const gzip = await firstLoad(page, address);
      const switchMs = { cold: await switching(page), cached: await switching(page) };
      const { loaded, ...busy } = await busyRoom(page, (asked) => load(at, asked));
      const judged = judge(loaded);
      if (complaints.length > 0)
        Object.assign(judged, { verdict: "failed", reasons: [...judged.reasons, ...complaints] });
      const result: AppResult = { gzip, switchMs, busy };
      return [record("app", target, { rate: RATE }, APP, result, judged)];
    } finally {
      await browser.close();
    }
  });
}

async function firstLoad(page: Page, address: string): Promise<number> {
  const scripts: Promise<Buffer>[] = [];
  page.on("response", (response) => {
    if (response.request().resourceType() === "script") scripts.push(response.body());
  });
  await page.goto(address);
  await page.getByRole("textbox", { name: "Message to General" }).waitFor();
  const bodies = await Promise.all(scripts);
  return bodies.reduce((bytes, body) => bytes + gzipSync(body).length, 0);
}

/** Opens each room once. */
async function switching(page: Page): Promise<Summary | null> {
  const taken: number[] = [];
  for (const room of COLD_ROOMS) {
    const ms = await page.evaluate(async (roomId) => {
      const link = document.querySelector<HTMLElement>(`[data-room="${roomId}"]`);
      if (link === null) throw new Error(`Room ${roomId} is not in the list`);
      const isThere = () =>
        document.querySelector("#room-title")?.textContent === `Room ${roomId}` &&
        document.querySelector("[role=log] [data-key]") !== null;
      const from = performance.now();
      link.click();
      await Promise.resolve();
      if (!isThere())
        await new Promise<void>((resolve) => {
          const observer = new MutationObserver(() => {
            if (!isThere()) return;
            observer.disconnect();
            resolve();
          });
          observer.observe(document.body, { subtree: true, childList: true, characterData: true });
        });
      // Reading a position forces the layout.
      document.querySelector("[role=log]")?.getBoundingClientRect();
      return performance.now() - from;
    }, room);
    taken.push(ms);
    await page.waitForTimeout(150);
  }
  return summarise(taken);
}

async function busyRoom(page: Page, talk: (asked: ReturnType<typeof order>) => Promise<LoadResult>) {
  await page.locator(`[data-room="${GENERAL}"]`).click();
  const composer = page.getByRole("textbox", { name: "Message to General" });
  await composer.waitFor();
  await composer.focus();
  const warmSeconds = 2;
  const measureSeconds = 5;
  const talking = talk(order(RATE, { warmSeconds, warmRate: RATE, measureSeconds }));
  await sleep(1_000 * warmSeconds);
  const measuring = page.evaluate(
    async (ms) => {
      const tasks: number[] = [];
      const keys: number[] = [];
      let frames = 0;
      const observer = new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) tasks.push(duration);
      });
      observer.observe({ type: "longtask" });
      const typed = ({ timeStamp }: KeyboardEvent) => {
        requestAnimationFrame(() => setTimeout(() => keys.push(performance.now() - timeStamp)));
      };
      addEventListener("keydown", typed, true);
      const from = performance.now();
      for (; performance.now() < from + ms; frames += 1) await new Promise(requestAnimationFrame);
      removeEventListener("keydown", typed, true);
      observer.disconnect();
      return { tasks, keys, frames, seconds: (performance.now() - from) / 1_000 };
    },
    1_000 * measureSeconds - 500,
  );
  await composer.pressSequentially("somebody types into it meanwhile ", { delay: 100 });
  const { tasks, keys, frames, seconds } = await measuring;
  const loaded = await talking;
  await sleep(500);
  const last = await page.locator("[role=log] [data-key] [data-part=text]").last().textContent();
  const lastId = Number(/~(\d{7}):\d+~$/.exec(last ?? "")?.[1]);
  if (lastId !== loaded.sent - 1) throw new Error(`the page ends with message ${lastId} of ${loaded.sent}`);
  return {
    loaded,
    framesPerSecond: frames / seconds,
    longestTaskMs: Math.max(0, ...tasks),
    keyMs: summarise(keys),
  };
}
