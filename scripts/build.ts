import { build as bundle, type Plugin } from "esbuild";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { alone, digest, partIsBuilt, parts, putInPlace, root, stop } from "./prepare.mjs";

/** Shorter files fit into one packet uncompressed. */
const WORTH_BYTES = 1_024;

/** `npm run build [-- --force]`: server/dist and client/dist. Skips a part whose sources have not changed since. */
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

function makeServer(folder: string): Promise<void> {
  return bundleServer(join(root, "server/src"), folder);
}

/**
 * Bundles a server: main.js, which loads the rest, the process that decodes images, and beside them the thread for
 * password hashes and the Lua scripts.
 */
export async function bundleServer(source: string, folder: string, plugins: Plugin[] = []): Promise<void> {
  // Servers of earlier versions have no images.
  const imageWorker = join(source, "chat/imageWorker.ts");
  await bundle({
    plugins,
    entryPoints: {
      main: join(source, "main.ts"),
      ...(existsSync(imageWorker) && { imageWorker }),
    },
    outdir: folder,
    bundle: true,
    splitting: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20.19",
    // esbuild would write those as `new RegExp(…)`, which is compiled each time that it is reached.
    supported: { "regexp-unicode-property-escapes": true },
    logLevel: "warning",
  });
  // Node loads it as it is, from the folder of hashThreads.ts, which is this one for the bundle.
  const hashThread = join(source, "chat/hashThread.mjs");
  if (existsSync(hashThread)) cpSync(hashThread, join(folder, "hashThread.mjs"));
  // server/src/store/redis.ts reads scripts from its own folder, which is this one for the bundle.
  const store = join(source, "store");
  for (const file of readdirSync(store).filter((name) => name.endsWith(".lua")))
    cpSync(join(store, file), join(folder, file));
}

/** Puts Brotli and gzip versions, which the server sends, beside each file that is long enough. */
function compress(folder: string): void {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !/\.(?:js|css|html|svg|json)$/.test(entry.name)) continue;
    const content = readFileSync(path);
    if (content.length < WORTH_BYTES) continue;
    writeFileSync(`${path}.br`, brotliCompressSync(content));
    writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
  }
}

async function makeClient(folder: string): Promise<void> {
  const { build } = await import("vite");
  await build({
    configFile: join(root, "client/vite.config.ts"),
    logLevel: "warn",
    build: { outDir: folder, emptyOutDir: true },
  });
  compress(folder);
}
