import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, relative } from "node:path";
import { which } from "./child.ts";
import { faultsOf, readLock } from "./lock.ts";
import { root, stop } from "./prepare.mjs";
import { ATTACK_RESULT, type Report as AttackReport } from "./attack/report.ts";
import { PROVE_RESULT, type Report } from "./prove/report.ts";

/** `names` are the failed tests, if a stage has tests of its own; `flaky` those that failed once and then passed. */
type Counts = { passed: number; failed: number; names?: string[]; flaky?: string[] };
type Stage = {
  name: string;
  title: string;
  /** Runs beside the stage before it, and is shown after that one. */
  beside?: true;
  run: (out: Output) => Counts | Promise<Counts>;
};

/** Where a stage writes: to this terminal, or into a list, to be shown later. */
type Output = "terminal" | Buffer[];

/** If more files fail, it is not an accident. */
const AGAIN_MOST = 3;

/**
 * `npm test [-- stage or file ...]`. Every stage runs, whatever happened before it, and the last line counts over all
 * of them: a stage without tests of its own counts as one. Names of stages select stages; anything else is passed on
 * to vitest, which takes parts of file names.
 */
export async function main(args: string[]): Promise<number> {
  const files = args.filter((arg) => !stages([]).some(({ name }) => name === arg));
  const chosen = stages(files).filter(
    ({ name }) =>
      args.length === 0 || args.includes(name) || (files.length === args.length && name === "unit"),
  );
  const total: Counts = { passed: 0, failed: 0 };
  const failed: string[] = [];
  const flaky: string[] = [];
  const began = performance.now();
  let number = 0;
  for (const round of roundsOf(chosen)) {
    const running = round.map((stage, place) => attempt(stage, place === 0 ? "terminal" : []));
    for (const [place, { title }] of round.entries()) {
      console.log(`\n[${(number += 1)}/${chosen.length}] ${title}`);
      const { counts, text, took } = await (running[place] as Promise<Done>);
      process.stdout.write(text);
      total.passed += counts.passed;
      total.failed += counts.failed;
      if (counts.failed > 0) failed.push(title, ...(counts.names ?? []).map((test) => `  ${test}`));
      flaky.push(...(counts.flaky ?? []).map((test) => `  ${test}`));
      console.log(`${counts.failed > 0 ? "FAILED" : "passed"} in ${took}`);
    }
  }
  if (flaky.length > 0) console.log(`\nFlaky, failed at first and passed alone:\n${flaky.join("\n")}`);
  if (failed.length > 0) console.log(`\nFailed:\n${failed.join("\n")}`);
  console.log(`\nAll of it took ${seconds(began)}.`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed > 0 ? 1 : 0;
}

function stages(files: string[]): Stage[] {
  return [
    {
      name: "format",
      title: "Format (prettier)",
      run: (out) => check(out, "prettier", "--check", "--cache", "."),
    },
    { name: "lint", title: "Lint, type-aware (oxlint)", beside: true, run: (out) => check(out, "oxlint") },
    { name: "types", title: "Types (tsc)", beside: true, run: checkTypes },
    {
      name: "unused",
      title: "Unused code and packages (knip)",
      beside: true,
      run: (out) => check(out, "knip", "--no-progress", "--cache"),
    },
    { name: "lock", title: "Lock file", beside: true, run: checkLock },
    {
      name: "unit",
      title: "Unit and integration tests (vitest, real Redis)",
      run: (out) => vitest(out, "unit", files),
    },
    {
      name: "build",
      title: "Build",
      run: (out) => program(out, process.execPath, "scripts/run.mjs", "build", "--force"),
    },
    {
      name: "prove",
      title: "Short proof: faults while people talk (npm run prove -- --short)",
      run: shortProof,
    },
    {
      name: "attack",
      title: "Attacks that take seconds, and the fuzzer (npm run attack -- --short)",
      run: shortAttack,
    },
    { name: "browser", title: "Browsers for the tests", beside: true, run: fetchBrowsers },
    {
      name: "browser",
      title: "Browser tests (Chromium; some journeys in Firefox and WebKit too)",
      run: (out) => browserTests(out, files),
    },
  ];
}

/** Stages that run at the same time, the first of them on the terminal. */
export function roundsOf<T extends { beside?: true }>(chosen: T[]): T[][] {
  const rounds: T[][] = [];
  for (const stage of chosen) {
    const last = rounds.at(-1);
    if (stage.beside && last) last.push(stage);
    else rounds.push([stage]);
  }
  return rounds;
}

type Done = { counts: Counts; text: Buffer; took: string };

/** Runs a stage; never rejects. */
async function attempt({ run }: Stage, out: Output): Promise<Done> {
  const began = performance.now();
  let counts: Counts;
  try {
    counts = await run(out);
  } catch (error) {
    tell(out, error instanceof Error ? error.message : String(error));
    counts = { passed: 0, failed: 1 };
  }
  return { counts, text: Buffer.concat(out === "terminal" ? [] : out), took: seconds(began) };
}

function tell(out: Output, line: string): void {
  if (out === "terminal") console.log(line);
  else out.push(Buffer.from(`${line}\n`));
}

function seconds(began: number): string {
  return `${((performance.now() - began) / 1000).toFixed(1)} s`;
}

/** The programs that run now. When we are told to end, they end first. */
const programs = new Set<ChildProcess>();
let ending = false;

function endPrograms(): void {
  ending = true;
  for (const child of programs) child.kill("SIGTERM");
}

/** Runs a program; resolves with its exit code, or 1 after a signal. */
function runProgram(out: Output, command: string, args: string[], env = process.env): Promise<number> {
  return new Promise((resolve, reject) => {
    const stdio = out === "terminal" ? "inherit" : "pipe";
    const child = spawn(command, args, { cwd: root, stdio: ["inherit", stdio, stdio], env });
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => void (out === "terminal" || out.push(chunk)));
    if (programs.size === 0) process.on("SIGTERM", endPrograms);
    programs.add(child);
    const over = () => {
      programs.delete(child);
      if (programs.size > 0) return;
      process.off("SIGTERM", endPrograms);
      if (ending) process.exit(143);
    };
    child.once("error", (error) => {
      over();
      reject(error);
    });
    // What it started may hold its output open for longer.
    child.once("exit", () => void (ending && over()));
    child.once("close", (code) => {
      over();
      if (!ending) resolve(code ?? 1);
    });
  });
}

async function program(out: Output, command: string, ...args: string[]): Promise<Counts> {
  return (await runProgram(out, command, args)) === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/** A program from node_modules. */
function check(out: Output, name: string, ...args: string[]): Promise<Counts> {
  return program(out, join(root, "node_modules/.bin", name), ...args);
}

async function checkTypes(out: Output): Promise<Counts> {
  const total: Counts = { passed: 0, failed: 0 };
  for (const project of ["server", "client", "scripts"]) {
    const { passed, failed } = await check(out, "tsc", "-p", project);
    total.passed += passed;
    total.failed += failed;
  }
  return total;
}

function checkLock(out: Output): Counts {
  const faults = faultsOf(readLock());
  for (const line of faults) tell(out, line);
  return faults.length === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/**
 * Runs a project's tests. If a few of many files fail, runs them once more by themselves, as a person would: a test that
 * then passes is listed as flaky, with its error, and counts as passed.
 */
async function vitest(out: Output, project: string, files: string[], env = process.env): Promise<Counts> {
  const first = await runVitest(out, project, files, env);
  const counts = countReport(first.report, first.code);
  const again = failedFiles(first.report);
  const total = first.report?.testResults.length ?? 0;
  if (counts.failed === 0 || again.length === 0 || again.length > AGAIN_MOST || again.length === total)
    return counts;
  tell(out, `\nRunning ${again.join(" and ")} again.`);
  const second = await runVitest(out, project, again, env);
  return afterAgain(counts, countReport(second.report, second.code));
}

async function runVitest(
  out: Output,
  project: string,
  files: string[],
  env: NodeJS.ProcessEnv,
): Promise<{ report: VitestReport | undefined; code: number }> {
  const folder = mkdtempSync(join(tmpdir(), "hubbub-report-"));
  const file = join(folder, "report.json");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
  try {
    const entry = join(root, "node_modules/vitest/vitest.mjs");
    const code = await runProgram(
      out,
      process.execPath,
      [entry, "run", "--project", project, ...reporters, ...files],
      env,
    );
    const report = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as VitestReport) : undefined;
    return { report, code };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function failedFiles(report: VitestReport | undefined): string[] {
  const failed = (report?.testResults ?? []).filter(({ status }) => status === "failed");
  return failed.map(({ name }) => relative(root, name));
}

/** The result of both runs: only a test that also failed in the second has failed. */
export function afterAgain(first: Required<Counts>, second: Required<Counts>): Required<Counts> {
  const testOf = (line: string) => line.split(": ", 1)[0];
  const failed = new Set(second.names.map(testOf));
  const flaky = first.names.filter((line) => !failed.has(testOf(line)));
  return {
    passed: first.passed + first.failed - second.failed,
    failed: second.failed,
    names: second.names,
    flaky,
  };
}

type VitestReport = {
  numPassedTests: number;
  testResults: {
    status: string;
    name: string;
    message: string;
    assertionResults: { status: string; fullName: string; failureMessages: string[] }[];
  }[];
};

/** A file that could not be loaded or set up is a failure, and so is an exit code that no test explains. */
export function countReport(report: VitestReport | undefined, exitCode: number): Required<Counts> {
  const names = (report?.testResults ?? []).flatMap(({ status, name, message, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === "failed");
    if (status === "failed" && failed.length === 0) return [`${name}: ${firstLine(message)}`];
    return failed.map(({ fullName, failureMessages }) => `${fullName}: ${firstLine(failureMessages[0])}`);
  });
  if (names.length === 0 && exitCode !== 0) names.push("an error outside of any test");
  return { passed: report?.numPassedTests ?? 0, failed: names.length, names, flaky: [] };
}

function firstLine(text = ""): string {
  return text.split("\n", 1)[0] ?? "";
}

/** One check for each scenario. A scenario whose tool this machine lacks is reported and does not count. */
async function shortProof(out: Output): Promise<Counts> {
  rmSync(PROVE_RESULT, { force: true });
  const code = await runProgram(out, process.execPath, ["scripts/run.mjs", "prove", "--short"]);
  const report = existsSync(PROVE_RESULT) ? (JSON.parse(readFileSync(PROVE_RESULT, "utf8")) as Report) : null;
  const of = (outcome: string) => (report?.results ?? []).filter((result) => result.outcome === outcome);
  const names = of("failed").map(
    ({ name, verdict, failures }) =>
      `${name}: ${verdict?.violations[0]?.what ?? failures[0] ?? "broken"}`.split("\n", 1)[0] ?? name,
  );
  if (names.length === 0 && code !== 0) names.push("no result");
  return { passed: of("passed").length, failed: names.length, names };
}

/** One check for each attack, one for the effects on bystanders, and one for the fuzzer. */
async function shortAttack(out: Output): Promise<Counts> {
  rmSync(ATTACK_RESULT, { force: true });
  const code = await runProgram(out, process.execPath, ["scripts/run.mjs", "attack", "--short"]);
  const results = existsSync(ATTACK_RESULT)
    ? (JSON.parse(readFileSync(ATTACK_RESULT, "utf8")) as AttackReport).results
    : [];
  const names = results.flatMap(({ title, broken: [first] }) =>
    first === undefined ? [] : [`${title}: ${first}`],
  );
  if (names.length === 0 && code !== 0) names.push("no result");
  return { passed: results.length - names.length, failed: names.length, names };
}

/** Installs a Chromium if there is none, and with `CI` set the other browsers too. */
async function fetchBrowsers(out: Output): Promise<Counts> {
  for (const [engine, packages] of [
    [HEADLESS, [HEADLESS]],
    ["firefox-esr", ["firefox-esr"]],
    ["WebKitWebDriver", ["webkit2gtk-driver", "xvfb"]],
  ] as const)
    if (process.env["CI"] && !which(engine, PATH)) await installPackages(out, packages, 40).catch(() => {});
  if (findChromium() === undefined) await installPackages(out, ["chromium"]);
  const chromium = findChromium();
  tell(out, chromium ?? NO_CHROMIUM);
  return chromium === undefined ? { passed: 0, failed: 1 } : { passed: 1, failed: 0 };
}

async function browserTests(out: Output, files: string[]): Promise<Counts> {
  const chromium = findChromium();
  if (chromium === undefined) throw stop(NO_CHROMIUM, 69);
  return vitest(out, "browser", files, { ...process.env, CHROMIUM: chromium });
}

const PATH = [process.env["PATH"], "/usr/bin"].filter(Boolean).join(delimiter);
/** Chromium without its windows: a page costs it a quarter less CPU. */
const HEADLESS = "chromium-headless-shell";

const NO_CHROMIUM = "There is no Chromium. `sudo apt-get install chromium` brings it, or CHROMIUM names one.";

/** $CHROMIUM, or the one on PATH. */
function findChromium(): string | undefined {
  const names = [HEADLESS, "chromium", "google-chrome", "chrome"];
  return (
    process.env["CHROMIUM"] || names.map((name) => which(name, PATH)).find((found) => found !== undefined)
  );
}

/**
 * Installs Debian's packages if we are root and there is apt-get; does nothing otherwise, or if that fails. The time
 * limit covers only fetching: unpacking, which must not be interrupted, takes seconds.
 */
async function installPackages(out: Output, names: readonly string[], fetchSeconds = 600): Promise<void> {
  if (process.getuid?.() !== 0 || !which("apt-get")) return;
  tell(out, `Not here, so Debian's are installed: ${names.join(", ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", ...names];
  const limit = ["-k", "5", `${fetchSeconds}`];
  const fetched = () => runProgram(out, "timeout", [...limit, ...install, "--download-only"], env);
  if (
    (await fetched()) === 0 ||
    ((await runProgram(out, "timeout", [...limit, "apt-get", "-qq", "update"])) === 0 &&
      (await fetched()) === 0)
  ) {
    await runProgram(out, install[0] ?? "", install.slice(1), env);
  }
}
