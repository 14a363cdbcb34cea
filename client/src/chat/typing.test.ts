import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { People } from "./people.ts";
import { createScope } from "./scope.ts";
import type { ChatSocket } from "./socket.ts";
import { createStore } from "./store.ts";
import { createTyping } from "./typing.ts";
import { systemClock } from "./world.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setUp() {
  const scope = createScope(systemClock);
  const store = createStore(systemClock);
  const said: unknown[] = [];
  const request = async (event: string, body: unknown) => void said.push([event, body]);
  const socket = { connected: true, request } as unknown as ChatSocket;
  const people = { learn: () => {} } as unknown as People;
  const typing = createTyping({ chat: store.within(scope), scope, clock: systemClock, socket, people });
  return { typing, said, seen: () => store.snapshot().typing.get("0") ?? [] };
}

test("somebody is no longer shown as typing 5 s after the last sign of it", async () => {
  const { typing, seen } = setUp();
  typing.heard({ roomId: "0", userId: "7" });
  await vi.advanceTimersByTimeAsync(3_000);
  typing.heard({ roomId: "0", userId: "7" });
  typing.heard({ roomId: "0", userId: "8" });
  await vi.advanceTimersByTimeAsync(3_000);
  typing.heard({ roomId: "0", userId: "8" });
  await vi.advanceTimersByTimeAsync(1_900);
  expect(seen()).toEqual(["7", "8"]);
  await vi.advanceTimersByTimeAsync(200);
  expect(seen()).toEqual(["8"]);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(seen()).toEqual([]);
});

test("this user's typing is told once in 3 s, and at once after a message was sent", async () => {
  const { typing, said } = setUp();
  for (let strokes = 0; strokes < 5; strokes += 1) {
    typing.say("0");
    await vi.advanceTimersByTimeAsync(700);
  }
  expect(said).toEqual([["typing", { roomId: "0" }]]);
  typing.say("0");
  expect(said).toHaveLength(2);
  typing.say("0");
  expect(said).toHaveLength(2);
  typing.sent("0");
  typing.say("0");
  expect(said).toHaveLength(3);
});
