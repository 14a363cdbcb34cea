import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server, type Socket } from "socket.io";
import { listen, readUser, roomsOf, store, type Sent, type User } from "./people.ts";

/** A chat as Socket.IO's guides build it: `socket.join`, `io.to(room).emit`, @socket.io/redis-adapter, and people.ts. */
const path = process.env["REDIS_PATH"] ?? "";

const redis = new Redis(path);
const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  perMessageDeflate: false,
  adapter: createAdapter(new Redis(path), new Redis(path)),
});

io.use((socket, next) => void admit(socket, next));

async function admit(socket: Socket, next: (error?: Error) => void): Promise<void> {
  try {
    socket.data = await readUser(redis, socket.handshake.headers.cookie);
    next(socket.data ? undefined : new Error("unauthorized"));
  } catch (error) {
    next(error instanceof Error ? error : new Error(String(error)));
  }
}

io.on("connection", (socket) => {
  const { id, username } = socket.data as User;
  const user: User = { id, username };
  const entered = enter();
  async function enter() {
    await socket.join(await roomsOf(redis, user));
    await redis.sadd("online_users", user.id);
    socket.broadcast.emit("user.connected", user);
  }
  socket.on("message", async (sent: Sent, answer: (reply: object) => void) => {
    const stored = await store(redis, user.id, sent);
    if (stored) io.to(sent.roomId).emit("message", stored);
    answer({ ok: stored !== null, value: stored });
  });
  socket.on("sync", async (_asked: unknown, answer: (reply: object) => void) => {
    await entered;
    answer({ ok: true });
  });
  socket.on("disconnect", async () => {
    await redis.srem("online_users", user.id);
    io.emit("user.disconnected", user);
  });
});

listen(http);
