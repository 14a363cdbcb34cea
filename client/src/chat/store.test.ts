import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createStore } from "./store.ts";
import { systemClock } from "./world.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("who asks for each change hears also of a state that is over before the next update", async () => {
  const store = createStore(systemClock);
  const updates: boolean[] = [];
  const changes: boolean[] = [];
  store.subscribe(() => updates.push(store.snapshot().notificationsWanted));
  const stop = store.onChange((before, now) => {
    changes.push(before.notificationsWanted, now.notificationsWanted);
  });
  for (const on of [true, false, true, true]) store.dispatch({ type: "notifications wanted", on });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(updates).toEqual([true, true]);
  expect(changes).toEqual([false, true, true, false, false, true]);
  stop();
  store.dispatch({ type: "notifications wanted", on: false });
  expect(changes).toHaveLength(6);
});
