import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { Duplex } from "node:stream";
import { listen } from "./people.ts";

/**
 * The floor of Node: each message is written to each TCP socket once, as one ready frame, and nothing else is done.
 * No Redis, no WebSocket library, no second replica. With WINDOW, in ms, the frames of that time are one write: next to
 * nothing, and what the generator is calibrated against.
 */
const windowMs = Number(process.env["WINDOW"] ?? 0);
type Room = { members: Set<Duplex>; waiting: Buffer[] };
const rooms = new Map<string, Room>();

function tell(room: Room, frame: Buffer): void {
  if (windowMs === 0) {
    for (const member of room.members) member.write(frame);
    return;
  }
  if (room.waiting.push(frame) > 1) return;
  setTimeout(() => {
    const frames = Buffer.concat(room.waiting);
    room.waiting = [];
    for (const member of room.members) member.write(frames);
  }, windowMs);
}

const http = createServer();

http.on("upgrade", (request, tcp) => {
  const path = request.url ?? "";
  const room = rooms.get(path) ?? { members: new Set(), waiting: [] };
  rooms.set(path, room);
  room.members.add(tcp);
  const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  tcp.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${createHash("sha1").update(key).digest("base64")}\r\n\r\n`,
  );
  let waiting = Buffer.alloc(0);
  tcp.on("data", (chunk: Buffer) => {
    // The generator's mask is zero: what is behind it can be sent on as it is.
    waiting = Buffer.concat([waiting, chunk]);
    for (let frame = take(); frame; frame = take()) tell(room, frame);
  });
  tcp.on("close", () => room.members.delete(tcp));
  tcp.on("error", () => tcp.destroy());

  /** The next whole frame, without its mask. */
  function take(): Buffer | null {
    if (waiting.length < 2) return null;
    const short = (waiting[1] ?? 0) & 0x7f;
    const start = short < 126 ? 2 : 4;
    if (waiting.length < start + 4) return null;
    const length = short < 126 ? short : waiting.readUInt16BE(2);
    if (waiting.length < start + 4 + length) return null;
    const head = Buffer.from(waiting.subarray(0, start));
    head[1] = short;
    const frame = Buffer.concat([head, waiting.subarray(start + 4, start + 4 + length)]);
    waiting = waiting.subarray(start + 4 + length);
    return frame;
  }
});

listen(http);
