import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // The tests wait for sockets and Redis more than they compute: two cores hold two of them.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        test: {
          name: "unit",
          include: ["server/src/**/*.test.ts", "client/src/**/*.test.{ts,tsx}", "scripts/**/*.test.ts"],
          globalSetup: "scripts/testRedis.ts",
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "browser",
          include: ["client/e2e/**/*.e2e.ts"],
          globalSetup: "scripts/testRedis.ts",
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
