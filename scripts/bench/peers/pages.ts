import { createServer } from "node:http";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { Redis } from "ioredis";
import { listen } from "./people.ts";

/**
 * A page of messages as chat demos on Express and Redis read it: five commands one after the other (session, room,
 * member, page by rank, session's expiry), a parse and a stringify for each message.
 */
const redis = new Redis(process.env["REDIS_PATH"] ?? "");
const app = express();
app.use(
  session({
    store: new RedisStore({ client: redis, disableTouch: true }),
    name: "hubbub",
    secret: process.env["SESSION_SECRET"] ?? "",
    resave: false,
    saveUninitialized: false,
  }),
);
app.get("/api/rooms/:id/messages", async (request, response) => {
  const { user } = request.session as { user?: { id: string } };
  if (!user) return response.sendStatus(403);
  const { id } = request.params;
  const size = Number(request.query["size"] ?? 50);
  if (!(await redis.exists(`room:${id}:name`))) return response.json([]);
  if (!(await redis.sismember(`user:${user.id}:rooms`, id))) return response.sendStatus(404);
  const rows = await redis.zrevrange(`room:${id}`, 0, size - 1);
  await redis.expire(`sess:${request.sessionID}`, 604_800);
  return response.json(rows.map((row) => JSON.parse(row) as object));
});

listen(createServer(app));
