import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server, type Socket } from "socket.io";

/**
 * What the Socket.IO guides build: rooms by `socket.join`, `io.to(room).emit`, replicas by @socket.io/redis-adapter
 * (ADAPTER=classic or sharded). TIER 1 fans out; 2 also stores each message before it is sent out; 3 also takes the
 * user and the rooms from the session, and tells everybody who came and went.
 */
const tier = Number(process.env["TIER"] ?? 3);
const path = process.env["REDIS_PATH"] ?? "";
const secret = process.env["SESSION_SECRET"] ?? "";

const redis = new Redis(path);
const publisher = new Redis(path);
const subscriber = new Redis(path);
const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  adapter:
    process.env["ADAPTER"] === "sharded"
      ? createShardedAdapter(publisher, subscriber, { subscriptionMode: "dynamic" })
      : createAdapter(publisher, subscriber),
});

type User = { id: string; username: string };

if (tier >= 3) {
  io.use((socket, next) => void admit(socket, next));
}

async function admit(socket: Socket, next: (error?: Error) => void): Promise<void> {
  try {
    socket.data = await readUser(socket.handshake.headers.cookie ?? "");
    next(socket.data ? undefined : new Error("unauthorized"));
  } catch (error) {
    next(error instanceof Error ? error : new Error(String(error)));
  }
}

async function readUser(cookies: string): Promise<User | undefined> {
  const sid = readSid(cookies);
  const stored = sid && (await redis.get(`sess:${sid}`));
  return stored ? (JSON.parse(stored) as { user?: User }).user : undefined;
}

io.on("connection", (socket) => {
  const { id: userId = "0", username = "" } = (socket.data ?? {}) as Partial<User>;
  const entered = enter();
  async function enter() {
    const rooms =
      tier >= 3
        ? await redis.smembers(`user:${userId}:rooms`)
        : String(socket.handshake.query["rooms"]).split(",");
    await socket.join(rooms);
    if (tier < 3) return;
    await redis.sadd("online_users", userId);
    socket.broadcast.emit("user.connected", { id: userId, username });
  }
  socket.on("message", async (sent: { roomId: string; message: string; nonce: string }, answer: unknown) => {
    const { roomId, message, nonce } = sent;
    const stored = { roomId, date: Date.now(), from: userId, nonce, message };
    if (tier >= 3 && (await redis.sismember(`user:${userId}:rooms`, roomId)) === 0) return;
    if (tier >= 2) await redis.zadd(`room:${roomId}`, stored.date, JSON.stringify(stored));
    io.to(roomId).emit("message", stored);
    if (typeof answer === "function") (answer as (reply: object) => void)({ ok: true, value: stored });
  });
  socket.on("sync", async (_asked: unknown, answer: (reply: object) => void) => {
    await entered;
    answer({ ok: true });
  });
  socket.on("disconnect", async () => {
    if (tier < 3) return;
    await redis.srem("online_users", userId);
    io.emit("user.disconnected", { id: userId, username });
  });
});

function readSid(cookies: string): string | null {
  const value = /(?:^|; )hubbub=([^;]+)/.exec(cookies)?.[1];
  const [sid, signature] = decodeURIComponent(value ?? "")
    .replace(/^s:/, "")
    .split(/\.(.*)/s);
  if (!sid || !signature) return null;
  const right = Buffer.from(createHmac("sha256", secret).update(sid).digest("base64").replace(/=+$/, ""));
  const given = Buffer.from(signature);
  return right.length === given.length && timingSafeEqual(right, given) ? sid : null;
}

http.listen(0, "127.0.0.1", () => {
  const address = http.address();
  process.stdout.write(`listens on ${typeof address === "object" && address ? address.port : 0}\n`);
});
process.on("SIGTERM", () => process.exit(0));
