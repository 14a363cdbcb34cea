import type { MarkRead, Room } from "@hubbub/server/protocol";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ChatError } from "./api.ts";
import { createReads } from "./reads.ts";
import { createScope } from "./scope.ts";
import type { ChatSocket } from "./socket.ts";
import { createStore } from "./store.ts";
import { systemClock } from "./world.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A room of five messages, read up to the second, and a server that refuses the first mark. */
function setUp(...refusal: ConstructorParameters<typeof ChatError>) {
  const scope = createScope(systemClock);
  const chat = createStore(systemClock).within(scope);
  const room = { id: "0", kind: "everyone", names: ["General"], last: null, seq: 5, read: 2, unread: 3 };
  chat.dispatch({ type: "signed in", user: { id: "1", username: "ann" }, drafts: new Map() });
  chat.dispatch({ type: "rooms", rooms: [room as Room] });
  const asked: Omit<MarkRead, "roomId">[] = [];
  async function request(_event: string, { seq, unread }: MarkRead) {
    if (asked.push({ seq, ...(unread && { unread }) }) === 1) throw new ChatError(...refusal);
  }
  const socket = { connected: true, request } as unknown as ChatSocket;
  const reads = createReads({ chat, scope, socket });
  const read = () => chat.state.rooms?.get("0")?.read;
  return { chat, reads, room: room as Room, asked, read };
}

test.each(["rate_limited", "unavailable", "unreachable"] as const)(
  "a mark that is answered `%s` is sent again over the same connection, once",
  async (code) => {
    const { reads, asked } = setUp(code, "not now");
    reads.watch("0");
    await vi.advanceTimersByTimeAsync(1_000);
    expect(asked).toEqual([{ seq: 5 }]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toEqual([{ seq: 5 }, { seq: 5 }]);
  },
);

test("a mark is not sent again sooner than the server asked, not even over another connection", async () => {
  const { reads, asked } = setUp("rate_limited", "not now", 7_000);
  reads.watch("0");
  await vi.advanceTimersByTimeAsync(1_000);
  reads.sendAll();
  await vi.advanceTimersByTimeAsync(6_000);
  expect(asked).toEqual([{ seq: 5 }]);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toEqual([{ seq: 5 }, { seq: 5 }]);
});

test("of several marks of a room that the server did not want yet, the last is sent", async () => {
  const { reads, asked } = setUp("unavailable", "not now");
  reads.watch("0");
  await vi.advanceTimersByTimeAsync(1_000);
  reads.markUnread("0", 4);
  await vi.advanceTimersByTimeAsync(500);
  expect(asked).toEqual([{ seq: 5 }]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).toEqual([{ seq: 5 }, { seq: 3 }, { seq: 3, unread: true }]);
});

test("a mark that falls is raised first, also if that alone is refused for now", async () => {
  const { reads, asked } = setUp("unavailable", "not now");
  reads.markUnread("0", 4);
  await vi.advanceTimersByTimeAsync(60_000);
  const both = [{ seq: 3 }, { seq: 3, unread: true }];
  expect(asked).toEqual([...both, ...both]);
});

test("a list of rooms lowers a mark that fell elsewhere, but none that it was asked too early to know", async () => {
  const { chat, reads, room, read } = setUp("rate_limited", "not now");
  chat.dispatch({ type: "read", roomId: "0", read: 5 });
  const early = reads.compare();
  early([{ ...room, read: 2 }]);
  expect(read()).toBe(2);
  reads.watch("0");
  const crossing = reads.compare();
  await vi.advanceTimersByTimeAsync(60_000);
  crossing([{ ...room, read: 2 }]);
  expect(read()).toBe(5);
  const shorter = reads.compare();
  shorter([{ ...room, seq: 2, read: 2 }]);
  expect(read()).toBe(5);
});

test("a mark that falls makes an earlier list of rooms out of date", () => {
  const { reads } = setUp("rate_limited", "not now");
  const before = reads.lowered;
  reads.markUnread("0", 1);
  reads.moved({ roomId: "0", read: 0, unread: true });
  reads.moved({ roomId: "0", read: 4 });
  expect(reads.lowered - before).toBe(2);
});

test("a mark that is refused for good is not sent again", async () => {
  const { reads, asked } = setUp("not_found", "no such room");
  reads.watch("0");
  await vi.advanceTimersByTimeAsync(60_000);
  reads.sendAll();
  expect(asked).toEqual([{ seq: 5 }]);
});
