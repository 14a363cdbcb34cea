import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { bundleServer } from "./build.ts";
import { build, root } from "./prepare.mjs";
import { startRedis } from "./redis.ts";

/**
 * For each test run: a real Redis that keeps nothing, at TEST_REDIS_URL, and the server's bundle, with main.js in the
 * folder TEST_SERVER, because tsx would compile the sources at each start. For browser tests also the client.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (project.name === "browser") await build();
  // In the checkout it finds its packages.
  mkdirSync(join(root, ".cache"), { recursive: true });
  const server = mkdtempSync(join(root, ".cache/test-server-"));
  await bundleServer(join(root, "server/src"), server);
  process.env["TEST_SERVER"] = server;
  const dir = mkdtempSync(join(tmpdir(), "hubbub-test-"));
  const redis = await startRedis({ dir, persistent: false });
  process.env["TEST_REDIS_URL"] = redis.url;
  return async () => {
    await redis.stop(2_000);
    for (const folder of [dir, server]) rmSync(folder, { recursive: true, force: true });
  };
}
