import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Small files that take long. Vitest begins with the largest, and one of these would be alone at the end. */
const LONG = /\/(?:longAnswers|redisHealth|workers|main|prepare|faults)\.test\.ts$/;

class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // oxlint-disable-next-line unicorn/no-array-sort -- Vitest's own, which sorts no array
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification) => LONG.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongFirst },
    // The tests wait for sockets, Redis and browsers more than they compute: two cores hold three of them.
    maxWorkers: Math.max(3, availableParallelism() - 1),
    // The limits below say when a test has failed, not how long it may take: a busy machine is slow.
    projects: [
      {
        test: {
          name: "unit",
          include: ["server/src/**/*.test.ts", "client/src/**/*.test.{ts,tsx}", "scripts/**/*.test.ts"],
          globalSetup: "scripts/testRedis.ts",
          // Files share what is loaded, which takes two seconds for each otherwise, and keep their state to themselves.
          isolate: false,
          expect: { poll: { timeout: 15_000 } },
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "browser",
          include: ["client/e2e/**/*.e2e.ts"],
          globalSetup: "scripts/testRedis.ts",
          // Each file has replicas and a browser of its own; loading the server anew for each takes seconds.
          isolate: false,
          expect: { poll: { timeout: 30_000 } },
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
