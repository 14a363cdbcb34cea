import type { ServerResponse } from "node:http";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Load } from "../load.ts";
import { LIMITS, type User, type UserId } from "../protocol.ts";
import type { Json } from "../store/json.ts";
import { pageSize, userId } from "./fields.ts";
import type { Throttle } from "./throttle.ts";

/** Lists and long texts as answers: one at a time, in turns, charged by what they cost. */

export const JSON_TYPE = "application/json; charset=utf-8";

export const listQuery = z.object({
  after: z
    .string()
    .regex(/^\d{1,10}$/, "an id")
    .transform(Number)
    .default(0),
  size: pageSize(LIMITS.page),
});
const searchQuery = z.object({
  q: z.string().max(LIMITS.search),
  after: userId.optional(),
  size: pageSize(LIMITS.page),
});

type List<T> = {
  read: () => Promise<T>;
  /** What it cost, in KB; `most`, if that may be much, is taken before it is read. */
  kb: (done: T) => number;
  most?: number;
  answer: (done: T) => void;
};

/**
 * Answers a list: refused under load, one at a time for each user, and charged by what was read for it. It is answered
 * within the queue, for the reason that `Throttle.queue` gives.
 */
export async function listed<T>(
  { throttle, load }: { throttle: Throttle; load: Load },
  user: User,
  { read, kb, most = 1, answer }: List<T>,
): Promise<void> {
  load.demand("history");
  const before = Math.min(most, BOUNDS.listedKb.value);
  await throttle.queue("lists", user.id, async () => answer(await throttle.pay(user.id, before, read, kb)));
}

type Chunks = AsyncGenerator<string | { text: string; kb: number }>;

/**
 * Streams a long text, charged as it goes, by its length or by the KB that come with it: when its reader's budget is used
 * up, it waits for the next window. Resolves once the first chunk is there: what fails before can still be answered.
 */
export async function paidFor(
  chunks: Chunks,
  throttle: Throttle,
  reader: UserId,
): Promise<AsyncGenerator<string>> {
  const paid = charged(chunks, throttle, reader);
  const first = await paid.next();
  return (async function* () {
    if (first.done) return;
    yield first.value;
    yield* paid;
  })();
}

async function* charged(chunks: Chunks, throttle: Throttle, reader: UserId): AsyncGenerator<string> {
  try {
    for (;;) {
      // The turn comes first: what waits for one lives so long that V8 collects its whole heap the sooner.
      await throttle.turn("request", reader);
      const { value, done } = await chunks.next();
      if (done) return;
      const { text, kb } = typeof value === "string" ? { text: value, kb: value.length / 1_024 } : value;
      const waitMs = await throttle.take("work", reader, Math.ceil(kb)).then(() => 0, retryAfterMsOf);
      if (waitMs > 0) await sleep(waitMs);
      yield text;
    }
  } finally {
    await chunks.return(undefined);
  }
}

function retryAfterMsOf(error: unknown): number {
  if (error instanceof ChatError && error.retryAfterMs !== undefined) return error.retryAfterMs;
  throw error;
}

/** Waits until a user may have the next few rooms read. */
export function turnOf(throttle: Throttle, user: User): () => Promise<void> | undefined {
  return () => throttle.turn("rooms", `rooms ${user.id}`);
}

/** Objects as JSON, made in several turns of the event loop: a long list at once would keep everybody else waiting. */
export async function inTurns(list: readonly object[]): Promise<Json[]> {
  const parts: Json[] = [];
  let some: string[] = [];
  let length = 0;
  for (const one of list) {
    const text = JSON.stringify(one);
    some.push(text);
    length += text.length;
    if (length <= BOUNDS.listTurn.value) continue;
    parts.push(Buffer.from(some.join(",")));
    [some, length] = [[], 0];
    await setImmediate();
  }
  return some.length > 0 ? [...parts, some.join(",")] : parts;
}

export const kbOf = (json: Json): number => Buffer.byteLength(json) / 1_024;

export function sendJson(response: ServerResponse, json: Json): void {
  response.writeHead(200, { "Content-Type": JSON_TYPE, "Content-Length": Buffer.byteLength(json) }).end(json);
}

/** A page of names with this text: refused under load, and charged by how many names are searched. */
export async function search(
  { chat, throttle, load }: { chat: Chat; throttle: Throttle; load: Load },
  user: User,
  what: "users" | "rooms",
  query: object,
): Promise<object> {
  const { q, after, size } = searchQuery.parse(query);
  load.demand("history");
  const price = () =>
    BOUNDS.searchKb.value * (1 + Math.ceil(chat[what === "users" ? "people" : "rooms"].searched / 3_000));
  const find = () =>
    what === "users" ? chat.people.search(q, after, size) : chat.rooms.search(user, q, after, size);
  return throttle.queue("search", user.id, () => throttle.pay<object>(user.id, price(), find, price));
}
