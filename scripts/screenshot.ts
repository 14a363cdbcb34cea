import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { chromium, type Browser } from "playwright-core";
import { readConfig } from "../server/src/config.ts";
import { startServer } from "../server/src/server.ts";
import { DEMO_PASSWORD } from "./demo.ts";
import { build, root } from "./prepare.mjs";
import { findRedis, startRedis } from "./redis.ts";
import { seed } from "./seed.ts";

const SHOWN = "Mary";
const ONLINE = ["Joe", "Alex", "Ines"];

/** `npm run screenshot`: docs/screenshot.png, taken of the running app with its demo data. */
export async function main(): Promise<void> {
  await build();
  const dir = mkdtempSync(join(tmpdir(), "hubbub-"));
  const redis = await startRedis({ dir, persistent: false, program: await findRedis(console.log) });
  const config = readConfig({
    REDIS_URL: redis.url,
    PORT: "0",
    BCRYPT_COST: "4",
    DRAIN: "0",
    LOG_LEVEL: "error",
    CLIENT_DIR: join(root, "client/dist"),
  });
  await seed(config);
  const replica = await startServer(config, pino({ level: config.logLevel }));
  const browser = await chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-sync",
    ],
  });
  try {
    for (const name of ONLINE) await enter(browser, replica.address, name);
    const page = await enter(browser, replica.address, SHOWN);
    await page.getByText("See you all at 12:30").last().waitFor();
    // The mouse is where the log-in button was: over a message.
    await page.mouse.move(0, 0);
    // Wait for everybody's dot, and for animations to end.
    await page.waitForTimeout(2_500);
    const path = join(root, "docs/screenshot.png");
    await page.screenshot({ path });
    console.log("Took docs/screenshot.png.");
  } finally {
    await browser.close();
    await replica.close();
    await redis.stop(1_000);
    rmSync(dir, { recursive: true, force: true });
  }
}

async function enter(browser: Browser, address: string, name: string) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB" });
  const page = await context.newPage();
  await page.goto(address);
  await page.getByLabel("Username").fill(name);
  await page.getByLabel("Password", { exact: true }).fill(DEMO_PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("textbox", { name: "Message to General" }).waitFor();
  return page;
}
