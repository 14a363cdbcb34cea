import { expect, test } from "vitest";
import { MUTATIONS, mutate } from "./mutations.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";

test.each(MUTATIONS)("$remedy: can be switched off in the sources as they are", ({ edits, scenario }) => {
  for (const edit of edits) expect(mutate(edit)).toContain(edit.to);
  expect(SCENARIOS.map(({ name }) => name)).toContain(scenario);
});
