/**
 * The smallest chat on Bun: a room is a topic of its WebSocket server, which hands each message out in native code.
 * What a member says is published to Redis as it is, by Bun's own client, and every replica that hears it publishes it
 * to the room's local members. Nothing is stored, nobody is asked who they are, nothing is acknowledged.
 */

/** The part of Bun that this uses; it runs under Bun and is only checked under Node. */
declare const Bun: {
  RedisClient: new (url: string) => {
    publish: (channel: string, message: string) => Promise<number>;
    subscribe: (channel: string, heard: (message: string, channel: string) => void) => Promise<number>;
  };
  serve: (options: object) => Server;
};
type Server = {
  port: number;
  upgrade: (request: Request, options: { data: Connection }) => boolean;
  publish: (topic: string, message: string) => number;
};
type Connection = { room: string };
type BunSocket = { data: Connection; subscribe: (topic: string) => void };

const url = `redis+unix://${process.env["REDIS_PATH"] ?? ""}`;
const publisher = new Bun.RedisClient(url);
const subscriber = new Bun.RedisClient(url);
const rooms = new Set<string>();

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request: Request, own: Server) {
    const room = new URL(request.url).pathname;
    return own.upgrade(request, { data: { room } }) ? undefined : new Response(null, { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    // As it comes, Bun drops messages for a connection that is behind, without a word: then it closes instead.
    backpressureLimit: 64 * 1024 * 1024,
    closeOnBackpressureLimit: true,
    open(socket: BunSocket) {
      const { room } = socket.data;
      socket.subscribe(room);
      if (rooms.has(room)) return;
      rooms.add(room);
      void subscriber.subscribe(room, (message) => server.publish(room, message));
    },
    message({ data }: BunSocket, message: string) {
      void publisher.publish(data.room, message);
    },
  },
});

process.stdout.write(`listens on ${server.port}\n`);
process.on("SIGTERM", () => process.exit(0));
