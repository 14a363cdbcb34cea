import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server, type Socket } from "socket.io";
import { listen, readUser, roomsOf, store, tier, type Sent, type User } from "./people.ts";

/**
 * What the Socket.IO guides build: rooms by `socket.join`, `io.to(room).emit`, replicas by @socket.io/redis-adapter
 * (ADAPTER=classic or sharded), and the TIER's job as people.ts has it. DEFLATE=on is `perMessageDeflate: true`.
 */
const path = process.env["REDIS_PATH"] ?? "";

const redis = new Redis(path);
const publisher = new Redis(path);
const subscriber = new Redis(path);
const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  perMessageDeflate: process.env["DEFLATE"] === "on",
  adapter:
    process.env["ADAPTER"] === "sharded"
      ? createShardedAdapter(publisher, subscriber, { subscriptionMode: "dynamic" })
      : createAdapter(publisher, subscriber),
});

if (tier >= 3) {
  io.use((socket, next) => void admit(socket, next));
}

async function admit(socket: Socket, next: (error?: Error) => void): Promise<void> {
  try {
    socket.data = await readUser(redis, socket.handshake.headers.cookie);
    next(socket.data ? undefined : new Error("unauthorized"));
  } catch (error) {
    next(error instanceof Error ? error : new Error(String(error)));
  }
}

io.on("connection", (socket) => {
  const { id = "0", username = "" } = (socket.data ?? {}) as Partial<User>;
  const user: User = { id, username };
  const entered = enter();
  async function enter() {
    const rooms = tier >= 3 ? await roomsOf(redis, user) : String(socket.handshake.query["rooms"]).split(",");
    await socket.join(rooms);
    if (tier < 3) return;
    await redis.sadd("online_users", user.id);
    socket.broadcast.emit("user.connected", user);
  }
  socket.on("message", async (sent: Sent, answer: unknown) => {
    const stored = await store(redis, user.id, sent);
    if (stored) io.to(sent.roomId).emit("message", stored);
    if (typeof answer === "function")
      (answer as (reply: object) => void)({ ok: stored !== null, value: stored });
  });
  socket.on("sync", async (_asked: unknown, answer: (reply: object) => void) => {
    await entered;
    answer({ ok: true });
  });
  socket.on("disconnect", async () => {
    if (tier < 3) return;
    await redis.srem("online_users", user.id);
    io.emit("user.disconnected", user);
  });
});

listen(http);
