import { createServer } from "node:http";
import { Redis } from "ioredis";
import { WebSocketServer, type WebSocket } from "ws";

/**
 * The smallest chat on `ws`: a room is the path, what a member says is published to Redis as it is, and every replica
 * that hears it sends it to the room's local members. Nothing is stored, nobody is asked who they are, nothing is
 * acknowledged: less work than Hubbub does.
 */
const path = process.env["REDIS_PATH"] ?? "";
const publisher = new Redis(path);
const subscriber = new Redis(path);
const rooms = new Map<string, Set<WebSocket>>();
const server = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const http = createServer();

subscriber.on("messageBuffer", (channel: Buffer, text: Buffer) => {
  for (const socket of rooms.get(channel.toString()) ?? []) socket.send(text, { binary: false });
});

http.on("upgrade", (request, tcp, head) => {
  const room = request.url ?? "";
  server.handleUpgrade(request, tcp, head, (socket) => {
    const members = rooms.get(room);
    if (members) {
      members.add(socket);
    } else {
      rooms.set(room, new Set([socket]));
      void subscriber.subscribe(room);
    }
    socket.on("message", (text: Buffer) => void publisher.publish(room, text));
    socket.on("close", () => rooms.get(room)?.delete(socket));
  });
});

http.listen(0, "127.0.0.1", () => {
  const address = http.address();
  process.stdout.write(`listens on ${typeof address === "object" && address ? address.port : 0}\n`);
});
process.on("SIGTERM", () => process.exit(0));
