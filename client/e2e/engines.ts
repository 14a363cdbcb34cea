import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { WebSocket } from "ws";
import { startChild, which, type Child } from "../../scripts/child.ts";
import { freePort } from "../../scripts/redis.ts";
import { FLAGS } from "./stage.ts";

/** Engines behind one small interface: Chromium by Playwright, Firefox by WebDriver BiDi, WebKit by WebDriver. */

export type EngineName = "Chromium" | "Firefox" | "WebKit";

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

/** The programs of each engine, where Debian installs them. The journeys run in a whole Chromium, if there is one. */
const PROGRAMS = {
  Chromium: ["/usr/bin/chromium", process.env["CHROMIUM"] ?? "chromium"],
  Firefox: ["/usr/bin/firefox-esr", "/usr/bin/firefox"],
  WebKit: ["/usr/bin/WebKitWebDriver"],
} satisfies Record<EngineName, string[]>;

/** The path of an engine's program, or undefined where it, or the screen that it needs, is not installed. */
export function programOf(engine: EngineName): string | undefined {
  if (engine === "WebKit" && (which("/usr/bin/Xvfb") === undefined || miniBrowser() === undefined))
    return undefined;
  return PROGRAMS[engine].map((place) => which(place)).find(Boolean);
}

export function startEngine(name: EngineName): Promise<Engine> {
  const program = programOf(name);
  if (program === undefined) throw new Error(`${name} is not installed`);
  switch (name) {
    case "Chromium":
      return startChromium(program);
    case "Firefox":
      return startFirefox(program);
    case "WebKit":
      return startWebKit(program);
    default:
      return name satisfies never;
  }
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

/* ---------- WebKit ---------- */

/** WebKitGTK's own small browser, which no PATH has. */
function miniBrowser(): string | undefined {
  return ["x86_64", "aarch64"]
    .map((machine) => `/usr/lib/${machine}-linux-gnu/webkit2gtk-4.1/MiniBrowser`)
    .find((place) => existsSync(place));
}

/**
 * A driver serves one session, so each person has a driver and a browser of their own; and a screen, because without a
 * window manager only one window of a screen has the focus.
 */
async function startWebKit(program: string): Promise<Engine> {
  const open = new Set<Profile>();
  const person = async (): Promise<Profile> => {
    const folder = mkdtempSync(join(tmpdir(), "hubbub-webkit-"));
    const screen = await startScreen();
    const session = await startSession(program, {
      ...process.env,
      DISPLAY: screen.display,
      HOME: folder,
      XDG_RUNTIME_DIR: folder,
      NO_AT_BRIDGE: "1",
      // Where there are no namespaces for its sandbox, and no graphics card.
      WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1",
      WEBKIT_DISABLE_COMPOSITING_MODE: "1",
    });
    const one: Profile = {
      tab: session.tab,
      async close() {
        open.delete(one);
        await session.close();
        await screen.stop();
        rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      },
    };
    open.add(one);
    return one;
  };
  // One that does not start here is told before any journey.
  await (await person()).close();
  return { person, close: async () => void (await Promise.all([...open].map((one) => one.close()))) };
}

/** An X server without a screen that anybody sees. */
async function startScreen(): Promise<{ display: string; stop: () => Promise<void> }> {
  let tell: (number: string) => void;
  const shown = new Promise<string>((resolve) => (tell = resolve));
  const screen = startChild({
    command: "/usr/bin/Xvfb",
    args: ["-displayfd", "1", "-screen", "0", "1600x1200x24", "-nolisten", "tcp"],
    onLine: (line) => {
      if (/^\d+$/.test(line)) tell(line);
    },
  });
  const number = await soon(shown, screen, "Xvfb");
  return { display: `:${number}`, stop: () => screen.stop(5_000) };
}

type Session = { tab: (url: string) => Promise<Tab>; close: () => Promise<void> };

async function startSession(program: string, env: NodeJS.ProcessEnv): Promise<Session> {
  const port = await freePort();
  const driver = startChild({ command: program, args: ["--host=127.0.0.1", `--port=${port}`], env });
  const gone = driver.ended.then((code): never => {
    throw new Error(`WebKitWebDriver ended with ${code}: ${driver.lastLines.join("\n")}`);
  });
  gone.catch(() => {});
  const ask = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const answer = await Promise.race([
      fetch(`http://127.0.0.1:${port}${path}`, { method, ...(body && { body: JSON.stringify(body) }) }),
      gone,
    ]);
    const { value } = (await answer.json()) as { value: unknown };
    if (!answer.ok) throw new Error(`${method} ${path}: ${JSON.stringify(value)}`);
    return value as T;
  };
  const listens = async () => {
    for (;;) {
      if (
        await fetch(`http://127.0.0.1:${port}/status`).then(
          ({ ok }) => ok,
          () => false,
        )
      )
        return;
      await sleep(50);
    }
  };
  await soon(listens(), driver, "WebKitWebDriver");
  const options = { binary: miniBrowser(), args: ["--automation"] };
  const alwaysMatch = { browserName: "MiniBrowser", "webkitgtk:browserOptions": options };
  const { sessionId } = await ask<{ sessionId: string }>("POST", "/session", {
    capabilities: { alwaysMatch },
  });
  const within = `/session/${sessionId}`;
  await ask("POST", `${within}/timeouts`, { script: 120_000, pageLoad: 120_000 });
  let first: string | undefined = await ask<string>("GET", `${within}/window`);
  let current = first;
  // What one tab is asked must not be done in another one that was turned to meanwhile.
  let turn: Promise<unknown> = Promise.resolve();
  const inTab = <T>(handle: string, act: () => Promise<T>): Promise<T> => {
    const done = turn.then(async () => {
      if (current !== handle) await ask("POST", `${within}/window`, { handle });
      current = handle;
      return act();
    });
    turn = done.catch(() => {});
    return done;
  };
  return {
    tab: async (url) => {
      const made =
        first ?? (await ask<{ handle: string }>("POST", `${within}/window/new`, { type: "window" })).handle;
      first = undefined;
      const actions = (all: Source[]) =>
        inTab(made, () => ask<void>("POST", `${within}/actions`, { actions: all }));
      const tab: Tab = {
        goto: (to) => inTab(made, () => ask("POST", `${within}/url`, { url: to })),
        run: <T, A extends unknown[]>(called: (...args: A) => T | Promise<T>, ...given: A) =>
          inTab(made, async () => {
            const script = `const tell = arguments[0];
              (async () => JSON.stringify(await ${callOf(called, given)}))()
                .then((value) => tell({ value }), (error) => tell({ error: String(error) }));`;
            const { value, error } = await ask<{ value?: string; error?: string }>(
              "POST",
              `${within}/execute/async`,
              { script, args: [] },
            );
            if (error !== undefined) throw new Error(error);
            return (value == null ? undefined : JSON.parse(value)) as T;
          }),
        press: (chord) => actions(pressing(chord)),
        type: (text) => actions(typing(text)),
        click: (x, y) => actions(clicking(x, y)),
        resize: async (width, height) => {
          const inner = await tab.run(() => [outerWidth - innerWidth, outerHeight - innerHeight]);
          const [beside = 0, above = 0] = inner;
          await inTab(made, () =>
            ask("POST", `${within}/window/rect`, { width: width + beside, height: height + above }),
          );
        },
        show: () => inTab(made, async () => {}),
        close: () =>
          inTab(made, async () => {
            const left = await ask<string[]>("GET", `${within}/window/handles`);
            // Without a window its browser would end.
            if (left.length > 1) await ask("DELETE", `${within}/window`);
            else first = made;
            current = "";
          }),
      };
      await tab.goto(url);
      await tab.resize(SIZE.width, SIZE.height);
      return tab;
    },
    close: async () => {
      await ask("DELETE", within).catch(() => {});
      await driver.stop(5_000);
    },
  };
}

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
