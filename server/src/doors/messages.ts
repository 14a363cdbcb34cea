import { pipeline } from "node:stream/promises";
import { Router, type Response } from "express";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import { BOUNDS } from "../limits.ts";
import type { Load } from "../load.ts";
import { LIMITS, type Hits, type RoomId, type User } from "../protocol.ts";
import { listJson } from "../store/json.ts";
import { inTurns, kbOf, listed, paidFor, sendJson, turnOf } from "./answers.ts";
import { anyRoomId, demandRoomId, pageSize, userId } from "./fields.ts";
import { demandUser, type Identity } from "./identity.ts";
import type { Throttle } from "./throttle.ts";

const date = z
  .string()
  .regex(/^\d{1,16}$/, "a date in milliseconds")
  .transform(Number);
const seq = z
  .string()
  .regex(/^[1-9]\d{0,14}$/, "the number of a message")
  .transform(Number);
const pageQuery = z
  .object({
    before: date.optional(),
    after: date.optional(),
    around: seq.optional(),
    at: date.optional(),
    thread: seq.optional(),
    pinned: z
      .literal("true")
      .transform(() => true as const)
      .optional(),
    cursor: z
      .string()
      .regex(/^\d{1,15}$/, "a cursor")
      .transform(Number)
      .optional(),
    threads: z
      .literal("true")
      .transform(() => true as const)
      .optional(),
    size: pageSize(LIMITS.page, LIMITS.pageDefault),
  })
  .refine(({ before, after, around, at, thread, pinned, cursor }) => {
    const kinds = [around, at, pinned, thread].filter((one) => one !== undefined).length;
    const isBetween = before !== undefined || after !== undefined;
    if (cursor !== undefined && pinned === undefined) return false;
    return kinds === 0 || (kinds === 1 && (thread !== undefined || !isBetween));
  }, "one kind of page at a time");
const findQuery = z.object({
  q: z.string().max(LIMITS.search),
  room: anyRoomId.optional(),
  from: userId.optional(),
  before: date.optional(),
  after: date.optional(),
  cursor: z.string().max(64).optional(),
});
const mentionsQuery = z.object({ before: date.optional(), size: pageSize(LIMITS.page, LIMITS.pageDefault) });

export type PageParts = { chat: Chat; throttle: Throttle; load: Load };

/** The route of a page of messages, under `/api`. */
export const PAGE_ROUTE = "/rooms/:id/messages";

/** The longest page: one around a message is two. */
const PAGE_KB = 2 * (BOUNDS.pageBytes.value / 1_024 + BOUNDS.messageKb.value);

/**
 * Sends a page of messages, as JSON: refused under load, and charged for its maximum length until it is read. See
 * `Throttle.queue` for why it is not the result.
 */
export async function readPage(
  { chat, throttle, load }: PageParts,
  user: User,
  roomId: RoomId,
  query: object,
  send: (page: Buffer) => void | Promise<void>,
): Promise<void> {
  const asked = pageQuery.parse(query);
  load.demand("history");
  const most = Math.min(asked.size * BOUNDS.messageKb.value, PAGE_KB);
  const read = () => chat.messages.list(user, roomId, asked);
  await throttle.queue("page", user.id, async () =>
    send(await throttle.pay(user.id, most, read, (page) => page.length / 1_024)),
  );
}

/**
 * A page of messages with this text: refused under load, limited to one of a user and two of a replica at once, and
 * charged by how many messages are read. Ends early if the client has left. Answered as `listed` answers.
 */
async function findMessages(
  { chat, throttle, load }: PageParts,
  user: User,
  query: object,
  response: Response,
): Promise<void> {
  const asked = findQuery.parse(query);
  load.demand("history");
  // A room takes two commands, also without a hit.
  const rooms = asked.room === undefined ? await chat.rooms.count(user.id) : 1;
  const price = (rows: number) => rooms + BOUNDS.findKb.value * (1 + Math.ceil(rows / 300));
  const turn = async () => {
    await throttle.turn("find", `find ${user.id}`);
    return !response.destroyed;
  };
  const look = async () => {
    const { hits, rows, ...rest } = await chat.messages.search(user, asked, turn);
    const begin = JSON.stringify({ ...rest, hits: [] } satisfies Hits).slice(0, -2);
    return { rows, json: listJson(begin, await inTurns(hits), "]}") };
  };
  await throttle.queue("find", user.id, () =>
    throttle.queue("finds", "", async () => {
      const { json } = await throttle.pay(user.id, price(BOUNDS.findRows.value), look, ({ rows }) =>
        price(rows),
      );
      sendJson(response, json);
    }),
  );
}

/** The routes that read and find messages. */
export function messageRoutes(parts: PageParts & { identity: Identity }): Router {
  const { chat, identity, throttle, load } = parts;
  const router = Router();
  // ?q=&room=&from=&before=&after=&cursor= -> `{hits:[{message}],cursor?,until?}`: messages of my rooms with each word
  // of `q` somewhere in them, newest first; `from` is a user, `before` and `after` are dates; `cursor` continues the
  // search, also if there were no hits
  router.get("/search", async (request, response) => {
    await findMessages(parts, demandUser(response), request.query, response);
  });
  // ?before=&size= -> `{messages,more}`: messages that mention me in my rooms, newest first; `before` is a date, and those
  // of one date come on one page, if need be beyond `size`; it ends after 128 KB too
  router.get("/mentions", async (request, response) => {
    const user = demandUser(response);
    const asked = mentionsQuery.parse(request.query);
    // A room takes four commands, also without a mention.
    const rooms = 2 * (await chat.rooms.count(user.id));
    await listed(parts, user, {
      most: PAGE_KB + rooms,
      read: async () => {
        const { messages, more, looked } = await chat.messages.listMentions(
          user,
          asked,
          turnOf(throttle, user),
        );
        return { json: listJson(`{"more":${more},"messages":[`, messages, "]}"), looked };
      },
      kb: ({ json, looked }) => BOUNDS.messageKb.value + rooms + kbOf(json) + 2 * looked,
      answer: ({ json }) => sendJson(response, json),
    });
  });
  // ?before=&after=&size= -> `{messages,more,rev,revHash}`, oldest first; `before` and `after` are dates. A page ends
  // after 128 KB: `more` tells whether there are more, not the number of messages
  // ?around=SEQ&size= -> the same around this message, with `newer` beside `more`: whether there are newer ones, and
  // older ones; 404 if it is not in the log
  // ?at=MS&size= -> the same from this moment on; the newest page if nothing was said since
  // ?thread=SEQ&before=&after=&size= -> the thread of this message: its answers, and before the oldest one, but not with
  // `after`, the message that they answer; 404 if it is not in the log
  // ?pinned=true&cursor=&size= -> the messages pinned last, in the order of pinning; if there were others before, with
  // `cursor`, which asks for those
  // ?threads=true and any of these -> with `threads` beside: of each message on the page that begins a thread
  // `{seq,count,last:{seq,date,from}}`, without deleted answers
  router.get("/rooms/:id/messages", async (request, response) => {
    const user = demandUser(response);
    const roomId = demandRoomId(request.params.id);
    await readPage(parts, user, roomId, request.query, (page) => sendJson(response, page));
  });
  // -> the whole history as one HTML file
  router.get("/rooms/:id/transcript", async (request, response) => {
    const user = demandUser(response);
    const roomId = demandRoomId(request.params.id);
    load.demand("history");
    await throttle.queue("transcript", user.id, async () => {
      const chunks = await chat.messages.transcript(user, roomId);
      response.type("html").attachment("transcript.html");
      identity.watch(request, response, () => chat.rooms.demand(user, roomId, "read"));
      await pipeline(await paidFor(chunks, throttle, user.id), response);
    });
  });
  return router;
}
