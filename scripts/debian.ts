import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { which } from "./child.ts";
import { alone, root } from "./prepare.mjs";

const run = promisify(execFile);

/** A program from Debian's packages, unpacked without root. */
export type Unpacked = { command: string; env: NodeJS.ProcessEnv };

/** The program in .cache/<name>, if it was fetched before. */
export function unpacked(name: string, file: string): Unpacked | undefined {
  const folder = join(root, ".cache", name);
  const command = join(folder, file);
  if (!existsSync(command)) return undefined;
  const libraries = ["usr/lib", "lib"].flatMap((lib) => {
    const triplets = existsSync(join(folder, lib)) ? readdirSync(join(folder, lib)) : [];
    return triplets.filter((entry) => entry.includes("-linux-")).map((triplet) => join(folder, lib, triplet));
  });
  const inherited = process.env["LD_LIBRARY_PATH"];
  const path = [...libraries, ...(inherited ? [inherited] : [])].join(":");
  return { command, env: { ...process.env, LD_LIBRARY_PATH: path } };
}

/**
 * Fetches a package, and those that it needs and this machine lacks, into .cache/<package>. apt finds and verifies them.
 * Needs no root and changes nothing outside .cache. Undefined if there is no apt, no network or no such package; calls
 * `say` before it fetches anything.
 */
export async function fetchPackage(
  name: string,
  file: string,
  say: (line: string) => void,
): Promise<Unpacked | undefined> {
  if (!which("apt-get") || !which("dpkg")) return undefined;
  await alone(name, `Debian's ${name} to be fetched`, async () => {
    if (unpacked(name, file)) return;
    say(`Fetching Debian's package ${name} into .cache/${name} (nothing is installed on the system).`);
    const scratch = mkdtempSync(join(tmpdir(), "hubbub-apt-"));
    try {
      const folder = await download(name, scratch, []).catch(() => downloadWithOwnLists(name, scratch));
      await unpack(folder, join(root, ".cache", name));
    } catch (error) {
      const words = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error);
      say(`It could not be fetched: ${/^E: .*/m.exec(words)?.[0] ?? words.trim()}`);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });
  return unpacked(name, file);
}

/** Lets apt keep fresh package lists in our folder, for machines where they are missing or old. */
async function downloadWithOwnLists(name: string, scratch: string): Promise<string> {
  const options = [
    `Dir::State=${scratch}/state`,
    "Dir::State::status=/var/lib/dpkg/status",
    `Dir::Cache=${scratch}/cache`,
  ];
  mkdirSync(join(scratch, "state/lists/partial"), { recursive: true });
  mkdirSync(join(scratch, "cache/archives/partial"), { recursive: true });
  await apt(scratch, options, "update");
  return download(name, scratch, options);
}

/** The folder with the downloaded .deb files. */
async function download(name: string, scratch: string, options: string[]): Promise<string> {
  const plan = await apt(scratch, options, "install", "--simulate", "--no-install-recommends", name);
  const missing = [...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] ?? "");
  const folder = mkdtempSync(join(scratch, "debs-"));
  await apt(folder, options, "download", ...new Set([name, ...missing]));
  return folder;
}

async function apt(cwd: string, options: string[], ...command: string[]): Promise<string> {
  // As root, apt would fetch as the user _apt, who may not enter our folder.
  const own = ["Debug::NoLocking=1", "APT::Sandbox::User="];
  const set = [...own, ...options].flatMap((option) => ["-o", option]);
  const env = { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
  const { stdout } = await run("apt-get", ["-q", ...set, ...command], { cwd, env, timeout: 120_000 });
  return stdout;
}

/** Unpacks elsewhere and renames, so that an existing folder is always complete. */
async function unpack(debs: string, folder: string) {
  const aside = `${folder}.${process.pid}`;
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  for (const deb of readdirSync(debs)) await run("dpkg", ["-x", join(debs, deb), aside]);
  rmSync(folder, { recursive: true, force: true });
  renameSync(aside, folder);
}
