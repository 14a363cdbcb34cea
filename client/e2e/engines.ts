import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { WebSocket } from "ws";
import { startChild, which, type Child } from "../../scripts/child.ts";
import { FLAGS } from "./stage.ts";

/** Engines behind one small interface: Chromium by Playwright, Firefox by WebDriver BiDi. */

export type EngineName = "Chromium" | "Firefox";

export type Engine = {
  /** A browser with its own cookies and storage. */
  person: () => Promise<Profile>;
  close: () => Promise<void>;
};

export type Profile = {
  tab: (url: string) => Promise<Tab>;
  close: () => Promise<void>;
};

export type Tab = {
  goto: (url: string) => Promise<void>;
  /** Runs a function in the page. It gets its arguments as JSON, and has no other variables from here. */
  run: <T, A extends unknown[]>(act: (...args: A) => T | Promise<T>, ...args: A) => Promise<T>;
  /** One key with modifiers: "Enter", "Shift+Tab", "Control+k". */
  press: (chord: string) => Promise<void>;
  /** Types the first character by its key, and as much of the rest at once as the engine can. */
  type: (text: string) => Promise<void>;
  /** In pixels from the left and the top of the viewport. */
  click: (x: number, y: number) => Promise<void>;
  resize: (width: number, height: number) => Promise<void>;
  /** Brings the page to the front, like a click on its tab. */
  show: () => Promise<void>;
  close: () => Promise<void>;
};

const SIZE = { width: 1280, height: 800 };
const START_MS = 30_000;

/** The programs of each engine, where Debian installs them. */
const PROGRAMS = {
  Chromium: [process.env["CHROMIUM"] ?? "/usr/bin/chromium"],
  Firefox: ["/usr/bin/firefox-esr", "/usr/bin/firefox"],
} satisfies Record<EngineName, string[]>;

/** The path of an engine's program, or undefined if it is not installed. */
export function programOf(engine: EngineName): string | undefined {
  return PROGRAMS[engine].map((place) => which(place)).find(Boolean);
}

export function startEngine(name: EngineName): Promise<Engine> {
  const program = programOf(name);
  if (program === undefined) throw new Error(`${name} is not installed`);
  return name === "Chromium" ? startChromium(program) : startFirefox(program);
}

/* ---------- Chromium ---------- */

async function startChromium(executablePath: string): Promise<Engine> {
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  return {
    person: async () => {
      const context = await browser.newContext({ viewport: SIZE, locale: "en-GB" });
      return {
        tab: async (url) => {
          const page = await context.newPage();
          await page.goto(url);
          return {
            goto: async (to) => void (await page.goto(to)),
            run: (act, ...given) =>
              page.evaluate(callOf(act, given)) as ReturnType<typeof act> & Promise<never>,
            press: (chord) => page.keyboard.press(chord),
            type: async (text) => {
              const [first = "", ...rest] = text;
              await page.keyboard.type(first);
              await page.keyboard.insertText(rest.join(""));
            },
            click: (x, y) => page.mouse.click(x, y),
            resize: (width, height) => page.setViewportSize({ width, height }),
            show: () => page.bringToFront(),
            close: () => page.close(),
          };
        },
        close: () => context.close(),
      };
    },
    close: () => browser.close(),
  };
}

/* ---------- What a hand does, in WebDriver's form ---------- */

type Source = { type: "key" | "pointer"; id: string; parameters?: object; actions: object[] };

/** WebDriver's codes for keys that are not characters. */
const KEYS: Record<string, string> = {
  Enter: "\uE007",
  Tab: "\uE004",
  Escape: "\uE00C",
  Backspace: "\uE003",
  Shift: "\uE008",
  Control: "\uE009",
  Alt: "\uE00A",
  PageUp: "\uE00E",
  PageDown: "\uE00F",
  End: "\uE010",
  Home: "\uE011",
  ArrowLeft: "\uE012",
  ArrowUp: "\uE013",
  ArrowRight: "\uE014",
  ArrowDown: "\uE015",
};

function pressing(chord: string): Source[] {
  const keys = chord.split("+").map((key) => KEYS[key] ?? key);
  const down = keys.map((value) => ({ type: "keyDown", value }));
  const up = keys.toReversed().map((value) => ({ type: "keyUp", value }));
  return [{ type: "key", id: "keys", actions: [...down, ...up] }];
}

function typing(text: string): Source[] {
  const actions = Array.from(text).flatMap((value) => [
    { type: "keyDown", value },
    { type: "keyUp", value },
  ]);
  return [{ type: "key", id: "keys", actions }];
}

function clicking(x: number, y: number): Source[] {
  const actions = [
    { type: "pointerMove", x: Math.round(x), y: Math.round(y) },
    { type: "pointerDown", button: 0 },
    { type: "pointerUp", button: 0 },
  ];
  return [{ type: "pointer", id: "mouse", parameters: { pointerType: "mouse" }, actions }];
}

function callOf(act: (...args: never[]) => unknown, args: unknown[]): string {
  return `(${act.toString()})(${args.map((arg) => JSON.stringify(arg) ?? "undefined").join(", ")})`;
}

/* ---------- Firefox ---------- */

async function startFirefox(program: string): Promise<Engine> {
  const folder = mkdtempSync(join(tmpdir(), "hubbub-firefox-"));
  let found: (address: string) => void;
  const listens = new Promise<string>((resolve) => (found = resolve));
  const child = startChild({
    command: program,
    args: ["--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"],
    // As root it refuses to start in another user's home.
    env: { ...process.env, HOME: folder, MOZ_CRASHREPORTER_DISABLE: "1" },
    onLine: (line) => {
      const address = /WebDriver BiDi listening on (\S+)/.exec(line)?.[1];
      if (address !== undefined) found(address);
    },
  });
  const socket = new WebSocket(`${await soon(listens, child, "Firefox")}/session`);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  const asked = new Map<number, (answer: BidiAnswer) => void>();
  const gone = child.ended.then((code): never => {
    throw new Error(`Firefox ended with ${code}: ${child.lastLines.join("\n")}`);
  });
  gone.catch(() => {});
  let last = 0;
  socket.on("message", (data: Buffer) => {
    const answer = JSON.parse(data.toString()) as BidiAnswer;
    asked.get(answer.id)?.(answer);
    asked.delete(answer.id);
  });
  const ask = async <T>(method: string, params: object): Promise<T> => {
    const id = (last += 1);
    const answered = new Promise<BidiAnswer>((resolve) => asked.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params }));
    const answer = await Promise.race([answered, gone]);
    if (answer.type === "error") throw new Error(`${method}: ${answer.message}`);
    return answer.result as T;
  };
  await ask("session.new", { capabilities: {} });
  return {
    person: async () => {
      const { userContext } = await ask<{ userContext: string }>("browser.createUserContext", {});
      return {
        tab: async (url) => {
          const { context } = await ask<{ context: string }>("browsingContext.create", {
            type: "tab",
            userContext,
          });
          const act = (actions: Source[]) => ask<void>("input.performActions", { context, actions });
          const tab: Tab = {
            goto: (to) => ask("browsingContext.navigate", { context, url: to, wait: "complete" }),
            run: async <T, A extends unknown[]>(called: (...args: A) => T | Promise<T>, ...given: A) => {
              const { type, result, exceptionDetails } = await ask<BidiResult>("script.evaluate", {
                // WebDriver's own form of values would have to be parsed.
                expression: `(async () => JSON.stringify(await ${callOf(called, given)}))()`,
                target: { context },
                awaitPromise: true,
              });
              if (type === "exception") throw new Error(exceptionDetails?.text);
              return (result?.value === undefined ? undefined : JSON.parse(result.value)) as T;
            },
            press: (chord) => act(pressing(chord)),
            type: (text) => act(typing(text)),
            click: (x, y) => act(clicking(x, y)),
            resize: (width, height) =>
              ask("browsingContext.setViewport", { context, viewport: { width, height } }),
            show: () => ask("browsingContext.activate", { context }),
            close: () => ask("browsingContext.close", { context }),
          };
          await tab.resize(SIZE.width, SIZE.height);
          await tab.goto(url);
          return tab;
        },
        close: () => ask("browser.removeUserContext", { userContext }),
      };
    },
    close: async () => {
      socket.close();
      await child.stop(5_000);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

type BidiAnswer = { id: number; type: "success" | "error"; result: unknown; message: string };
type BidiResult = { type: string; result?: { value?: string }; exceptionDetails?: { text: string } };

/** The line that a program prints once it is ready; throws with its last lines if it ends or stays silent. */
async function soon<T>(said: Promise<T>, child: Child, name: string): Promise<T> {
  const ready = new AbortController();
  const late = sleep(START_MS, "late" as const, { signal: ready.signal }).catch(() => "ready" as const);
  const failed = Promise.race([child.ended, late]).then(async (how) => {
    if (how === "ready") return new Promise<never>(() => {});
    await child.stop(0);
    throw new Error(`${name} did not start: ${child.lastLines.join("\n")}`);
  });
  try {
    return await Promise.race([said, failed]);
  } finally {
    ready.abort();
    failed.catch(() => {});
  }
}
