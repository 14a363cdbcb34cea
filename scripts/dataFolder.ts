import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { systemCode } from "../server/src/errors.ts";
import { givenIn, readConfig, type Config } from "../server/src/config.ts";
import { root, stop } from "./prepare.mjs";

/**
 * The folder where a private Redis keeps everything. With an append-only file Redis silently reads nothing else: it
 * starts empty beside a snapshot, and overwrites an append-only file whose manifest is missing.
 */

/** Redis' own names, which the scripts never change. */
const LOG_DIR = "appendonlydir";
const MANIFEST = "appendonly.aof.manifest";
const BASE = "appendonly.aof.1.base.rdb";
const SNAPSHOT = "dump.rdb";
const OLD_LOG = "appendonly.aof";

/** The folder of DATA_DIR, in the root of the checkout unless it is absolute. Throws with exit code 78 if it has a ~. */
export function dataDirOf(env: NodeJS.ProcessEnv): string {
  const { DATA_DIR = "data" } = givenIn(env);
  if (DATA_DIR.startsWith("~"))
    throw stop("DATA_DIR takes a path without ~, which only a shell knows: /home/me/hubbub", 78);
  return resolve(root, DATA_DIR);
}

/** FILES_URL of a data folder. */
export function filesUrlIn(dataDir: string): string {
  return `file:${encodeURI(join(dataDir, "files"))}`;
}

/** The configuration of a command that works beside the servers on `redisUrl`. Throws as `readConfig` does. */
export function readCommandConfig(
  env: NodeJS.ProcessEnv,
  redisUrl: string,
  keyPrefix = env["KEY_PREFIX"],
): Config {
  const filesUrl = givenIn(env)["FILES_URL"] ?? filesUrlIn(dataDirOf(env));
  return readConfig({ ...env, REDIS_URL: redisUrl, FILES_URL: filesUrl, KEY_PREFIX: keyPrefix });
}

export type DataFolder = {
  /** Data files that Redis will not read, each described for people. */
  unread: string[];
  /** A snapshot that was alone in the folder and was copied to where Redis reads it. */
  adopted?: { what: string; undo: () => void };
};

/**
 * Makes the folder if necessary, checks its files, and adopts a snapshot that is alone in it. Throws, with a line for a
 * person, exit code 73 if the folder cannot be used, and 65 if Redis would lose data in it. For a Redis that keeps
 * nothing, the folder only has to be usable.
 */
export function openDataFolder(dir: string, persistent: boolean): DataFolder {
  makeUsable(dir);
  if (!persistent) return { unread: [] };
  const log = join(dir, LOG_DIR);
  const logFiles = filesIn(log).filter(({ name }) => !name.startsWith("temp-"));
  refuseLoss(log, logFiles);
  const here = filesIn(dir).filter(({ name, size }) => size > 0 && isData(name));
  const old = here.find(({ name }) => name === OLD_LOG);
  const snapshot = here.find(({ name }) => name === SNAPSHOT);
  // Redis 7 moves the single file of older versions into the folder, if there is no folder yet.
  const read = logFiles.length > 0 ? undefined : (old ?? snapshot);
  const unread = here.filter((file) => file !== read).map((file) => describe(dir, file));
  if (read !== snapshot || !snapshot) return { unread };
  return { unread, adopted: { what: describe(dir, snapshot), undo: adopt(dir) } };
}

/** Redis' files in other folders, where somebody may have put them by mistake. */
export function dataFilesIn(dir: string): string[] {
  return filesIn(dir)
    .filter(({ name, size }) => size > 0 && isData(name))
    .map((file) => describe(dir, file));
}

type File = { name: string; size: number; modified: Date };

/** Tries what Redis will do, because permissions alone reveal neither a read-only disk nor the acting user. */
function makeUsable(dir: string): void {
  let path = dir;
  const attempt = (next: string, what: () => void) => {
    path = next;
    what();
  };
  const log = join(dir, LOG_DIR);
  try {
    attempt(dir, () => makeFolder(dir));
    for (const folder of existsSync(log) ? [dir, log] : [dir]) {
      attempt(folder, () => rmSync(mkdtempSync(join(folder, "temp-")), { recursive: true }));
      attempt(folder, () => readdirSync(folder));
    }
    for (const { name } of filesIn(log)) attempt(join(log, name), () => closeSync(openSync(path, "r+")));
    for (const name of [SNAPSHOT, OLD_LOG])
      if (existsSync(join(dir, name))) attempt(join(dir, name), () => closeSync(openSync(path, "r")));
  } catch (error) {
    const code = systemCode(error) || String(error);
    const who = process.geteuid ? ` by user ${process.geteuid()}` : "";
    throw stop(
      `The data folder cannot be used${who}: ${path} (${code}). Give it to this user with chown -R, or choose another ` +
        "with DATA_DIR.",
      73,
    );
  }
}

/** Node's own `recursive` says ENOENT for a read-only disk, and never ends under /proc. */
function makeFolder(dir: string): void {
  if (existsSync(dir)) return;
  makeFolder(dirname(dir));
  mkdirSync(dir, { mode: 0o700 });
}

/**
 * Redis treats a folder without a manifest as new and overwrites its files; with an incomplete manifest it reads as far
 * as that goes.
 */
function refuseLoss(log: string, files: File[]): void {
  const manifest = files.find(({ name }) => name === MANIFEST);
  const listed = manifest ? readFileSync(join(log, MANIFEST), "utf8") : "";
  const names = new Set([...listed.matchAll(/^file (\S+) seq \d+ type [bhi]\b/gm)].map(([, name]) => name));
  // An unlisted base may be left over from an interrupted rewrite: the files that it was made from are listed.
  const lost = files.filter(
    ({ name, size }) =>
      size > 0 && !names.has(name) && (name.endsWith(".incr.aof") || (names.size === 0 && isData(name))),
  );
  if (lost.length === 0) return;
  const what = manifest ? `${MANIFEST} does not list` : `there is no ${MANIFEST} for`;
  throw stop(
    `Redis would not read, and might overwrite, a part of what is kept in ${log}: ${what} ` +
      `${lost.map(({ name }) => name).join(", ")}. Copy the folder away, then put the manifest back from a copy, or ` +
      `write it: one line "file NAME seq N type b" for the *.base.rdb file, then one "file NAME seq N type i" for ` +
      "each *.incr.aof file, by their numbers.",
    65,
  );
}

/** Makes the snapshot the base of an append-only file, as a rewrite by Redis would. All or nothing. */
function adopt(dir: string): () => void {
  const log = join(dir, LOG_DIR);
  const fresh = mkdtempSync(`${log}.part-`);
  copyFileSync(join(dir, SNAPSHOT), join(fresh, BASE));
  writeFileSync(join(fresh, MANIFEST), `file ${BASE} seq 1 type b\n`);
  try {
    // This fails if another process was faster, so it never replaces what a Redis may be writing.
    renameSync(fresh, log);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    throw stop(`${log} appeared meanwhile: ${error instanceof Error ? error.message : String(error)}`, 75);
  }
  return () => rmSync(log, { recursive: true, force: true });
}

function isData(name: string): boolean {
  return /\.(rdb|aof)$/.test(name);
}

function filesIn(dir: string): File[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    if (!entry.isFile()) return [];
    const { size, mtime } = statSync(join(dir, entry.name));
    return [{ name: entry.name, size, modified: mtime }];
  });
}

function describe(dir: string, { name, size, modified }: File): string {
  const kilobytes = Math.max(1, Math.round(size / 1_000)).toLocaleString("en");
  return `${join(dir, name)} (${kilobytes} kB, ${modified.toISOString().slice(0, 10)})`;
}
