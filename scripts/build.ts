import { build as bundle } from "esbuild";
import { cpSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build as buildClient } from "vite";
import { alone, digest, partIsBuilt, parts, putInPlace, root, stop } from "./prepare.mjs";

/**
 * `npm run build [-- --force]`: server/dist (one file, and the Lua scripts beside it as beside the source) and
 * client/dist. A part whose sources have not changed since it was built is left alone.
 */
export async function main(args: string[]): Promise<void> {
  if (args.some((arg) => arg !== "--force")) throw stop("build knows one option: --force", 64);
  await alone("build", "the build", async () => {
    for (const [name, make] of [
      ["server", makeServer],
      ["client", makeClient],
    ] as const) {
      if (partIsBuilt(name) && !args.includes("--force")) continue;
      const began = performance.now();
      const sources = digest(name);
      const fresh = `${join(root, parts[name].output)}.new`;
      rmSync(fresh, { recursive: true, force: true });
      try {
        await make(fresh);
        putInPlace(name, fresh, sources);
      } finally {
        rmSync(fresh, { recursive: true, force: true });
      }
      console.log(`Built ${parts[name].output} in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
    }
  });
}

async function makeServer(folder: string): Promise<void> {
  const source = join(root, "server/src");
  await bundle({
    entryPoints: [join(source, "main.ts")],
    outfile: join(folder, "main.js"),
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20.19",
    logLevel: "warning",
  });
  // server/src/redis.ts reads a script relative to itself, and in the bundle that is relative to main.js.
  const files = readdirSync(source, { recursive: true, encoding: "utf8" });
  for (const file of files.filter((name) => name.endsWith(".lua")))
    cpSync(join(source, file), join(folder, file));
}

async function makeClient(folder: string): Promise<void> {
  await buildClient({
    configFile: join(root, "client/vite.config.ts"),
    logLevel: "warn",
    build: { outDir: folder, emptyOutDir: true },
  });
}
