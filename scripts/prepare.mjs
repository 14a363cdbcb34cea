// What must be there before anything can run: the packages and the build. Plain JavaScript on Node's own modules,
// because it runs before there are packages.

import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The checkout: every command runs in it. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * The two parts of the build: the sources of each, and a file that exists once it is built. Tests are not sources: a
 * changed test rebuilds nothing.
 *
 * @type {Record<"server" | "client", { sources: string[]; output: string; made: string }>}
 */
export const parts = {
  server: {
    sources: ["server/src", "server/package.json", "scripts/build.ts"],
    output: "server/dist",
    made: "server/dist/main.js",
  },
  client: {
    sources: [
      "client/src",
      "client/public",
      "client/index.html",
      "client/vite.config.ts",
      "client/package.json",
      "server/src/protocol.ts",
      "server/src/links.ts",
      "server/src/markdown.ts",
      "server/src/search.ts",
      "server/package.json",
      "scripts/build.ts",
    ],
    output: "client/dist",
    made: "client/dist/index.html",
  },
};

/** The file in which a finished build names its sources. */
const STAMP = ".sources";

/**
 * Runs one command: packages first, then the build where the command serves it, then scripts/<name>.ts and its
 * `main(arguments)`, whose number is the exit code, and the answer. `serve` loads no TypeScript into its process, and
 * answers nothing: it runs on.
 *
 * @param {string | undefined} name
 * @param {string[]} args
 * @returns {Promise<number | undefined>}
 */
export async function run(name, args) {
  process.chdir(root);
  if (name === "serve") {
    if (!packagesFit({ dev: false }) || !isBuilt()) {
      await install();
      await build();
    }
    await import(pathToFileURL(join(root, parts.server.made)).href);
    return undefined;
  }
  const script =
    name && [`${name}.ts`, `${name}/${name}.ts`].find((file) => existsSync(join(root, "scripts", file)));
  if (!script || !/^[\w-]+$/.test(name)) {
    throw stop(`There is no command "${name ?? ""}". package.json lists them.`, 64);
  }
  await install();
  if (name === "start") await build();
  const { main } = await load(join(root, "scripts", script), name === "start");
  try {
    return (await main(args)) ?? 0;
  } catch (error) {
    // Node would print it with the command that was sent: texts of people, passwords.
    /** @type {Pick<typeof import("../server/src/errors.ts"), "redisWords">} */
    const { redisWords } = await load(join(root, "server", "src", "errors.ts"), false);
    const words = redisWords(error);
    throw words === undefined ? error : stop(words, 69);
  }
}

/**
 * Loads a script's TypeScript. A script that `stays` for days is bundled first, because tsx would keep its loader's
 * thread and an esbuild running as long as the process.
 *
 * @template [Exports={ main: (args: string[]) => Promise<number | void> }]
 * @param {string} file
 * @param {boolean} stays
 * @returns {Promise<Exports>}
 */
async function load(file, stays) {
  // Put it as deep in the checkout as the scripts are: there it finds the packages, and `root` is the same.
  const bundle = join(root, ".cache", `${randomUUID()}.mjs`);
  if (stays) {
    try {
      const esbuild = await import("esbuild");
      await esbuild.build({
        entryPoints: [file],
        outfile: bundle,
        bundle: true,
        packages: "external",
        platform: "node",
        format: "esm",
        logLevel: "silent",
      });
      await esbuild.stop();
      return await import(pathToFileURL(bundle).href);
    } catch (error) {
      // A read-only checkout has no place for it.
      if (existsSync(bundle)) throw error;
    } finally {
      rmSync(bundle, { force: true });
    }
  }
  const { register } = await import("tsx/esm/api");
  register();
  return import(pathToFileURL(file).href);
}

/**
 * Installs exactly what package-lock.json says, always with development packages, unless it is installed already. If
 * several processes need it at once, one installs and the others wait.
 */
export async function install() {
  if (packagesFit({ dev: true })) return;
  await alone("install", "the packages to be installed", async () => {
    if (packagesFit({ dev: true })) return;
    const npm = process.env["npm_execpath"];
    const ci = ["ci", "--include=dev", "--no-audit", "--no-fund"];
    const began = Date.now();
    console.log(
      "Installing the packages of package-lock.json (npm ci). The first time this takes about half a minute.",
    );
    const code = npm ? await runChild(process.execPath, [npm, ...ci]) : await runChild("npm", ci);
    if (code !== 0) throw stop(`npm ci failed with exit code ${code}; its own words are above.`, 1);
    console.log(`Installed in ${Math.round((Date.now() - began) / 1000)} s.`);
  });
}

/** Builds what is not built from the present sources, in a process of its own, whose memory ends with it. */
export async function build() {
  if (isBuilt()) return;
  const code = await runChild(process.execPath, [join(root, "scripts/run.mjs"), "build"]);
  if (code !== 0) throw stop(`The build failed with exit code ${code}; its own words are above.`, 1);
}

/**
 * Whether every package that this platform needs is installed in the locked version, and none of another platform, by
 * npm's own record. npm writes that record last, so an interrupted installation does not count.
 *
 * @param {{ dev: boolean }} which without `dev`, what a running replica needs is enough
 */
export function packagesFit({ dev }) {
  const locked = readPackages("package-lock.json");
  const installed = readPackages("node_modules/.package-lock.json");
  if (!locked || !installed) return false;
  return Object.entries(locked).every(([path, entry]) => {
    if (!path.includes("node_modules/") || (entry.dev && !dev)) return true;
    const found = installed[path];
    // Optional packages are mostly for other platforms; installed ones must fit.
    if (!found) return entry.optional === true || entry.devOptional === true;
    return found.version === entry.version && found.integrity === entry.integrity && isForHere(entry);
  });
}

/**
 * Whether a package is for this platform: a checkout that was copied, or mounted into a container, may have another's.
 *
 * @param {{ os?: string[]; cpu?: string[]; libc?: string[] }} entry
 */
function isForHere({ os, cpu, libc }) {
  if (os?.includes(process.platform) === false || cpu?.includes(process.arch) === false) return false;
  if (!libc) return true;
  const { header } = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (process.report.getReport());
  return libc.includes(header.glibcVersionRuntime ? "glibc" : "musl");
}

/**
 * @param {string} file
 * @returns {Record<string, { version?: string; integrity?: string; dev?: true; optional?: true; devOptional?: true; os?: string[]; cpu?: string[]; libc?: string[] }> | undefined}
 */
function readPackages(file) {
  try {
    return JSON.parse(readFileSync(join(root, file), "utf8")).packages;
  } catch {
    return undefined;
  }
}

/** Whether both parts are built from the present sources. In an image without sources, whether they are built. */
export function isBuilt() {
  return partIsBuilt("server") && partIsBuilt("client");
}

/** @param {keyof typeof parts} name */
export function partIsBuilt(name) {
  const { output, made, sources } = parts[name];
  if (!existsSync(join(root, made))) return false;
  if (!existsSync(join(root, sources[0] ?? ""))) return true;
  try {
    return readFileSync(join(root, output, STAMP), "utf8") === digest(name);
  } catch {
    return false;
  }
}

/**
 * Puts a finished build in its place. Somebody who reads meanwhile finds the old or the new one or, for an instant,
 * none: call it inside `alone`.
 *
 * @param {keyof typeof parts} name
 * @param {string} fresh folder with the finished build, beside its place
 * @param {string} sources `digest` from before the build began, so that a change meanwhile counts as not built
 */
export function putInPlace(name, fresh, sources) {
  const place = join(root, parts[name].output);
  const old = `${place}.old-${randomUUID()}`;
  writeFileSync(join(fresh, STAMP), sources);
  if (existsSync(place)) renameSync(place, old);
  renameSync(fresh, place);
  rmSync(old, { recursive: true, force: true });
}

/**
 * One hash over the names and contents of a part's sources; times are wrong after a checkout or a copy.
 *
 * @param {keyof typeof parts} name
 */
export function digest(name) {
  const hash = createHash("sha256");
  for (const source of ["package-lock.json", ...parts[name].sources]) {
    for (const file of filesOf(source))
      hash
        .update(`${file}\0`)
        .update(readFileSync(join(root, file)))
        .update("\0");
  }
  return hash.digest("hex");
}

/**
 * @param {string} path
 * @returns {string[]}
 */
function filesOf(path) {
  const stat = statSync(join(root, path), { throwIfNoEntry: false });
  if (!stat) return [];
  if (!stat.isDirectory()) return path.endsWith(".test.ts") || path.endsWith(".test.tsx") ? [] : [path];
  const names = readdirSync(join(root, path)).toSorted();
  return names.flatMap((name) => filesOf(`${path}/${name}`));
}

/**
 * Runs `work` while no other process of this checkout does the same. The lock is a file with the holder's pid that
 * the holder keeps touching: it is free again when its process is gone or has not touched it for a minute.
 *
 * @param {string} name
 * @param {string} what for the line that tells what is being waited for
 * @param {() => Promise<void>} work
 */
export async function alone(name, what, work) {
  const folder = join(root, ".cache");
  mkdirSync(folder, { recursive: true });
  const lock = join(folder, `${name}.lock`);
  const mine = `${lock}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    for (let told = false; !take(mine, lock); told = true) {
      const holder = readLock(lock);
      if (holder && (!isAlive(holder.pid) || Date.now() - holder.touched > 60_000))
        breakLock(lock, holder.text);
      else if (!told)
        console.log(`Waiting for ${what} by another process${holder ? ` (${holder.pid})` : ""}.`);
      await sleep(200);
    }
    const beat = setInterval(() => utimesSync(lock, new Date(), new Date()), 5_000);
    try {
      await work();
    } finally {
      clearInterval(beat);
      rmSync(lock, { force: true });
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/**
 * A link appears whole, with its content, or not at all.
 *
 * @param {string} mine
 * @param {string} lock
 */
function take(mine, lock) {
  try {
    linkSync(mine, lock);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}

/** @param {string} lock */
function readLock(lock) {
  try {
    const text = readFileSync(lock, "utf8");
    return { text, pid: Number(text), touched: statSync(lock).mtimeMs };
  } catch {
    return undefined;
  }
}

/**
 * Two processes may find the same dead lock. If the slower one moves away the faster one's new lock, it puts that back.
 *
 * @param {string} lock
 * @param {string} dead
 */
function breakLock(lock, dead) {
  const aside = `${lock}.${randomUUID()}`;
  try {
    renameSync(lock, aside);
    if (readFileSync(aside, "utf8") !== dead) linkSync(aside, lock);
  } catch {
    return;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/**
 * Runs a program on this terminal, with its words on stderr: stdout is for what the command itself answers. Our SIGTERM
 * is passed on; Ctrl-C reaches it anyway.
 *
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<number>} its exit code
 */
function runChild(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ["inherit", 2, "inherit"] });
    /** @param {NodeJS.Signals} signal */
    const forward = (signal) => void child.kill(signal);
    process.on("SIGTERM", forward).on("SIGINT", wait);
    const over = () => process.off("SIGTERM", forward).off("SIGINT", wait);
    child.once("error", (error) => {
      over();
      reject(stop(`${command} could not be run: ${error.message}`, 69));
    });
    child.once("exit", (code, signal) => {
      over();
      if (signal) reject(stop(`${command} was ended by ${signal}.`, 130));
      else resolve(code ?? 1);
    });
  });
}

/** Ignores a signal that the child gets too: we end when it ends. */
function wait() {}

/**
 * An error with a message for the user: run.mjs prints it and exits with the code.
 *
 * @param {string} message
 * @param {number} exitCode
 */
export function stop(message, exitCode) {
  return Object.assign(new Error(message), { exitCode });
}

/**
 * Answers what `read` makes of a command's arguments; ends the command with its help and exit code 64 if that throws.
 *
 * @template T
 * @param {string} help
 * @param {() => T} read
 * @returns {T}
 */
export function orHelp(help, read) {
  try {
    return read();
  } catch (error) {
    throw stop(`${error instanceof Error ? error.message : String(error)}\n\n${help}`, 64);
  }
}
