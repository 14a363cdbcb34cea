import { createServer, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { Redis } from "ioredis";
import { WebSocketServer, type WebSocket } from "ws";
import { listen, readUser, roomsOf, store, type Sent, type User } from "./people.ts";

/**
 * The smallest chat on `ws` that does what people.ts says: it stores a message, answers it and publishes it to Redis;
 * every replica that hears it sends it to the room's local members.
 */
const path = process.env["REDIS_PATH"] ?? "";
const redis = new Redis(path);
const publisher = new Redis(path);
const subscriber = new Redis(path);
type Room = { members: Set<WebSocket>; heard: Promise<unknown> };
const rooms = new Map<string, Room>();
const server = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const http = createServer();
/** The channel of what concerns everybody. */
const ALL = "MESSAGES";

subscriber.on("messageBuffer", (channel: Buffer, text: Buffer) => {
  for (const socket of rooms.get(channel.toString())?.members ?? []) socket.send(text, { binary: false });
});

function enter(roomId: string, socket: WebSocket): Promise<unknown> {
  let room = rooms.get(roomId);
  if (!room) {
    room = { members: new Set(), heard: subscriber.subscribe(roomId) };
    rooms.set(roomId, room);
  }
  room.members.add(socket);
  return room.heard;
}

http.on("upgrade", (request, tcp, head) => void admit(request, tcp, head));

async function admit(request: IncomingMessage, tcp: Duplex, head: Buffer): Promise<void> {
  tcp.on("error", () => tcp.destroy());
  const user = await readUser(redis, request.headers.cookie);
  if (!user) {
    tcp.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
    return;
  }
  const known = [ALL, ...(await roomsOf(redis, user))];
  server.handleUpgrade(request, tcp, head, (socket) => void welcome(socket, known, user));
}

async function welcome(socket: WebSocket, roomIds: string[], user: User): Promise<void> {
  socket.on("message", (text: Buffer) => void say(text));
  async function say(text: Buffer): Promise<void> {
    const { id, ...sent } = JSON.parse(text.toString()) as Sent & { id: number };
    const message = await store(redis, user.id, sent);
    if (message) void publisher.publish(sent.roomId, JSON.stringify({ message }));
    socket.send(JSON.stringify({ answer: id, ok: message !== null, value: message }));
  }
  socket.on("close", () => {
    for (const id of roomIds) rooms.get(id)?.members.delete(socket);
    void redis.srem("online_users", user.id);
    void publisher.publish(ALL, JSON.stringify({ "user.disconnected": user }));
  });
  await Promise.all(roomIds.map((id) => enter(id, socket)));
  await redis.sadd("online_users", user.id);
  void publisher.publish(ALL, JSON.stringify({ "user.connected": user }));
  socket.send(JSON.stringify({ ready: true }));
}

listen(http);
