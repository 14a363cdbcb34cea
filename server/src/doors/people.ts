import { Router } from "express";
import { z } from "zod";
import type { Chat } from "../chat/chat.ts";
import type { Load } from "../load.ts";
import { LIMITS } from "../protocol.ts";
import { listJson } from "../store/json.ts";
import { inTurns, listQuery, listed, search, sendJson } from "./answers.ts";
import { userId } from "./fields.ts";
import { demandUser } from "./identity.ts";
import type { Throttle } from "./throttle.ts";

const idsQuery = z
  .string()
  .transform((list) => list.split(","))
  .pipe(z.array(userId).min(1).max(LIMITS.userIds));

/** The routes that find people. */
export function peopleRoutes(parts: { chat: Chat; throttle: Throttle; load: Load }): Router {
  const { chat } = parts;
  const router = Router();
  // ?after=&size= -> `[{id,username,displayName?,online}]`, by id
  // ?ids=1,2 -> the same for these ids
  // ?q=&after=&size= -> `{found,total,complete}`: the same for users with this text in their name, best matches first;
  // `after` is the last id of the previous page
  router.get("/users", async (request, response) => {
    const user = demandUser(response);
    if (request.query["ids"] !== undefined) {
      const ids = idsQuery.parse(request.query["ids"]);
      // Neither refused under load nor one at a time: a page needs them for each message.
      await parts.throttle.take("work", user.id, Math.ceil(ids.length / 10));
      response.json(await chat.people.find(ids));
    } else if (request.query["q"] !== undefined) {
      response.json(await search(parts, user, "users", request.query));
    } else {
      const { after, size } = listQuery.parse(request.query);
      await listed(parts, user, {
        read: () => chat.people.list(after, size),
        kb: ({ looked }) => looked / 2,
        answer: ({ found }) => response.json(found),
      });
    }
  });
  // -> `[{id,username,online}]`: everybody online
  router.get("/users/online", async (_request, response) => {
    await listed(parts, demandUser(response), {
      read: async () => {
        const people = await chat.people.online();
        return { json: listJson("[", await inTurns(people), "]"), people: people.length };
      },
      kb: ({ people }) => people / 10,
      answer: ({ json }) => sendJson(response, json),
    });
  });
  return router;
}
