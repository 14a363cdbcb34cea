import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { build } from "./prepare.mjs";
import { startRedis } from "./redis.ts";

/** Starts a real Redis that keeps nothing, at TEST_REDIS_URL, for each test run; for browser tests, builds the client. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (project.name === "browser") await build();
  const dir = mkdtempSync(join(tmpdir(), "hubbub-test-"));
  const redis = await startRedis({ dir, persistent: false });
  process.env["TEST_REDIS_URL"] = redis.url;
  return async () => {
    await redis.stop(2_000);
    rmSync(dir, { recursive: true, force: true });
  };
}
