import { resolve } from "node:path";
import axe from "axe-core";
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Page,
} from "playwright-core";
import { expect, onTestFinished } from "vitest";
import {
  both,
  Browser as Visitor,
  type House,
  PATIENCE_MS,
  type Person,
  person,
  replicas,
} from "../../server/src/testing.ts";

/** What browser tests begin with: replicas that serve the built client, and people with their own browsers. */

/**
 * Chromium uses only the last list of features, so this one repeats Playwright's and adds the address bar's popups:
 * they show nothing, but cost each context its own processes, a fifth of a page's cost.
 */
const FEATURES_OFF = [
  "AvoidUnnecessaryBeforeUnloadCheckSync",
  "DestroyProfileOnBrowserClose",
  "HttpsFirstBalancedModeAutoEnable",
  "HttpsUpgrades",
  "LensOverlay",
  "MediaRouter",
  "NetworkTimeServiceQuerying",
  "OptimizationHints",
  "PaintHolding",
  "PreconnectToSearch",
  "ThirdPartyStoragePartitioning",
  "SpareRendererForSitePerProcess",
  "WebUIOmniboxAimPopup",
  "WebUIOmniboxFullPopup",
  "WebUIOmniboxPopup",
];

export const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  `--disable-features=${FEATURES_OFF.join(",")}`,
];

/** Browsers take the longest on a busy machine. */
const WAIT_MS = 2 * PATIENCE_MS;

export const PASSWORD = "correct horse battery";

export type Stage = {
  house: House;
  browser: Browser;
  /** Signs somebody up on one of the replicas, and opens the app in their own browser context until the test ends. */
  enter: (name: string, options?: EnterOptions) => Promise<Actor>;
  close: () => Promise<void>;
};

/** `link`: whether the page's connection can be interfered with. It is then Playwright's WebSocket, not the browser's. */
type PageOptions = BrowserContextOptions & { link?: true };
type EnterOptions = PageOptions & { replica?: number };

/** The connection between a page and its replica, which can be cut or lose answers. */
type Link = {
  cut: () => void;
  mute: () => void;
  hang: () => Promise<void>;
  mend: () => Promise<void>;
  garble: (text: string) => void;
  spare: (text: string) => void;
  hold: (event: "sync" | "room.join") => void;
  letGo: () => number;
};

export type Actor = {
  name: string;
  context: BrowserContext;
  page: Page;
  /** Throws unless the page was opened with `link`. */
  readonly link: Link;
  /** Everything that came over the socket, and the page's errors. */
  frames: string[];
  complaints: string[];
};

/** `env`: variables of the replicas. */
export async function setStage(count = 2, env: Record<string, string> = {}): Promise<Stage> {
  const house = await replicas(count, { CLIENT_DIR: resolve("client/dist"), ...env });
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  return {
    house,
    browser,
    enter: async (name, { replica = 0, ...options } = {}) => {
      // Uses the API: the form, which some tests use with `signUp`, would cost each of them a second.
      const address = addressOf(house, replica);
      const visitor = new Visitor({ address });
      const { status } = await visitor.post("/api/users", { username: name, password: PASSWORD });
      if (status !== 201) throw new Error(`sign-up answered ${status}`);
      const actor = await openPage(browser, address, name, options, visitor.cookie);
      await messageTo(actor.page, "General").waitFor();
      return actor;
    },
    close: async () => {
      await browser.close();
      await house.close();
    },
  };
}

/** Two replicas, and a person on the second one who talks without a browser. */
export async function setStageWithTalker(): Promise<Stage & { talker: Person }> {
  const stage = await setStage(2);
  const talker = await person(both(stage.house)[1], "talker");
  return {
    ...stage,
    talker,
    async close() {
      talker.close();
      await stage.close();
    },
  };
}

export function addressOf(house: House, replica: number): string {
  const address = house.replicas[replica]?.address;
  if (address === undefined) throw new Error(`There is no replica ${replica}`);
  return address;
}

/** A page with this cookie, or without one at the log-in; it and its context close when the test has ended. */
export async function openPage(
  browser: Browser,
  address: string,
  name: string,
  { link: wanted, ...options }: PageOptions = {},
  cookie = "",
): Promise<Actor> {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    locale: "en-GB",
    ...options,
  });
  onTestFinished(() => context.close());
  context.setDefaultTimeout(WAIT_MS);
  const [cookieName = "", value = ""] = cookie.split("=", 2);
  if (value !== "") await context.addCookies([{ name: cookieName, value, url: address }]);
  const link = wanted && (await createLink(context));
  const page = await context.newPage();
  const frames: string[] = [];
  const complaints: string[] = [];
  page.on("websocket", (socket) => {
    socket.on("framereceived", ({ payload }) => void frames.push(String(payload)));
  });
  page.on("pageerror", (error) => void complaints.push(error.message));
  page.on("console", (entry) => {
    // The page asks for a session before anybody has logged in, and outages are meant to fail.
    const expected = /401 \(Unauthorized\)|WebSocket connection to/.test(entry.text());
    if (entry.type() === "error" && !expected) complaints.push(entry.text());
  });
  await page.goto(address);
  if (value === "") await page.getByRole("heading", { level: 1 }).waitFor();
  return {
    name,
    context,
    page,
    get link() {
      if (!link) throw new Error("This page was opened without `link`");
      return link;
    },
    frames,
    complaints,
  };
}

/** Makes somebody an owner of the server, and lets their page know. */
export async function promote({ redis, keys }: House, { name, page }: Actor): Promise<void> {
  const id = (await redis.get(keys.username(name)))?.replace("user:", "") ?? "";
  await redis.hset(keys.user(id), "role", "owner");
  await redis.hset(keys.staff, id, "owner");
  await page.reload();
  await page.getByRole("button", { name: "Administration" }).waitFor();
}

export async function signUp(page: Page, name: string): Promise<void> {
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByLabel("Username").fill(name);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Create account" }).click();
}

/** Makes an open room by its form, and opens it. */
export async function createRoom(page: Page, name: string): Promise<void> {
  await page.getByRole("button", { name: "New room" }).click();
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Create room" }).click();
  await messageTo(page, name).waitFor();
}

async function createLink(context: BrowserContext): Promise<Link> {
  let state: "whole" | "mute" | "hang" | "cut" = "whole";
  let hung = () => {};
  const spoilt = new Set<string>();
  let holding: string | null = null;
  let held: (() => void)[] = [];
  const open = new Set<() => void>();
  await context.routeWebSocket(/\/socket\.io\//, (client) => {
    if (state === "cut") {
      void client.close();
      return;
    }
    if (state === "hang") {
      hung();
      return;
    }
    const server = client.connectToServer();
    const end = () => {
      open.delete(end);
      void client.close();
      void server.close();
    };
    open.add(end);
    client.onMessage((frame) => {
      const said = /^42\d+\["message".*?"message":"((?:[^"\\]|\\.)*)"/.exec(String(frame))?.[1];
      const sent =
        said !== undefined && spoilt.has(said)
          ? String(frame).replace(`"message":"${said}"`, '"message":""')
          : frame;
      // A `sync` of no rooms asks for nothing.
      const asked = /^42\d+\["([^"]+)",(?!\{"rooms":\[\])/.exec(String(frame))?.[1];
      if (asked !== undefined && asked === holding) held.push(() => server.send(sent));
      else server.send(sent);
    });
    server.onMessage((frame) => {
      if (state !== "mute") client.send(frame);
    });
  });
  return {
    /** Ends the connection, and refuses every further one. */
    cut() {
      state = "cut";
      for (const end of open) end();
    },
    /** What the page sends still arrives, but it gets no answers. */
    mute() {
      state = "mute";
    },
    /** Ends the connection, and lets further attempts hang. Resolves at the first of them. */
    hang() {
      state = "hang";
      for (const end of open) end();
      return new Promise<void>((done) => (hung = done));
    },
    /** Ends connections that lost something, lets new ones work, and reports the network as the system would. */
    async mend() {
      state = "whole";
      for (const end of open) end();
      for (const page of context.pages()) await page.evaluate(() => dispatchEvent(new Event("online")));
    },
    /** Changes messages with this text on their way so that the server must refuse them, at each attempt. */
    garble(text) {
      spoilt.add(text);
    },
    /** Stops that. */
    spare(text) {
      spoilt.delete(text);
    },
    /** Holds the page's requests of this kind until `letGo`, which answers how many there were. */
    hold(event) {
      holding = event;
    },
    letGo() {
      holding = null;
      const late = held;
      held = [];
      for (const send of late) send();
      return late.length;
    },
  };
}

type Axe = {
  run(options: object): Promise<{ violations: { id: string; nodes: { target: unknown[] }[] }[] }>;
};

/**
 * The faults that axe finds in the present page: rule and place; with `colours` only those of the colours. The context
 * must bypass the page's own policy.
 */
export async function faultsIn(page: Page, colours = false): Promise<string[]> {
  // Judge a dialog once its animation is over.
  await page.evaluate(() => Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {}))));
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
  return page.evaluate(async (only) => {
    const own = window as unknown as { axe: Axe };
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await own.axe.run({
      runOnly: only ? { type: "rule", values: ["color-contrast"] } : tags,
      resultTypes: ["violations"],
    });
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}`));
  }, colours);
}

/** The faults in the present page, light and dark. Its context must begin light, and reduce motion. */
export async function faultsInBoth(page: Page): Promise<string[]> {
  const faults = await faultsIn(page);
  await page.emulateMedia({ colorScheme: "dark" });
  // Nothing else differs.
  faults.push(...(await faultsIn(page, true)).map((fault) => `dark ${fault}`));
  await page.emulateMedia({ colorScheme: "light" });
  return faults;
}

export function messageTo(page: Page, title: string) {
  return page.getByRole("textbox", { name: `Message to ${title}` });
}

export async function say(page: Page, text: string): Promise<void> {
  await page.getByRole("textbox", { name: /^Message to / }).fill(text);
  await page.keyboard.press("Enter");
}

/** The messages of the open room with exactly this text. */
export function message(page: Page, text: string) {
  return page
    .getByRole("log")
    .locator("li")
    .filter({ has: page.getByText(text, { exact: true }) });
}

/** A room in the list, by the beginning of its name. */
export function room(page: Page, title: string) {
  return page.getByRole("navigation", { name: "Rooms" }).getByRole("link", { name: new RegExp(`^${title}`) });
}

export async function talkTo(page: Page, name: string): Promise<void> {
  await page.getByRole("complementary", { name: "People" }).getByRole("button", { name }).click();
  await messageTo(page, name).waitFor();
}

/** Waits until `read` answers the expected value. */
export async function eventually<T>(read: () => Promise<T> | T, expected: T): Promise<void> {
  await expect.poll(read, { timeout: WAIT_MS, interval: 50 }).toEqual(expected);
}

/** The texts of the open room, as they are shown. */
export function shownTexts(page: Page): Promise<string[]> {
  return page.getByRole("log").locator("[data-part=text]").allTextContents();
}
