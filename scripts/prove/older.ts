import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { bundleServer } from "../build.ts";
import { root } from "../prepare.mjs";

/** Builds the server of an earlier commit with that commit's packages. Answers the folder of its main.js. */
export async function buildOlder(commit: string): Promise<string> {
  const sha = git("rev-parse", "--verify", `${commit}^{commit}`).toString().trim();
  const tree = join(root, ".cache/prove/older", sha.slice(0, 12));
  const folder = join(tree, "server/dist");
  if (existsSync(join(folder, "main.js"))) return folder;
  console.log(`Building the server of ${sha.slice(0, 12)} in ${tree}.`);
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(tree, { recursive: true });
  execFileSync("tar", ["-x", "-C", tree], { input: git("archive", sha) });
  execFileSync("npm", ["ci", "--prefer-offline", "--no-audit", "--no-fund"], { cwd: tree, stdio: "inherit" });
  await bundleServer(join(tree, "server/src"), folder);
  return folder;
}

function git(...args: string[]): Buffer {
  return execFileSync("git", args, { cwd: root, maxBuffer: 1_073_741_824 });
}
