import {
  IncomingMessage,
  Server as HttpServer,
  type ServerResponse,
  type ServerOptions as HttpOptions,
} from "node:http";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { Decoder, Encoder, PacketType } from "socket.io-parser";
import { WebSocket, WebSocketServer, type ServerOptions } from "ws";
import { BOUNDS } from "../limits.ts";
import { dismissSocket } from "../live/frames.ts";

/**
 * What a client may put on its connection, below the events: requests, WebSocket frames and Socket.IO packets. What
 * nobody needs ends the connection before any library has to cope with it, and what is thrown ends nothing else.
 */

const FRAMES_MS = 10_000;

/** What a server tells of one client. */
const OF_A_CLIENT = new Set([
  "connection",
  "request",
  "upgrade",
  "connect",
  "checkContinue",
  "checkExpectation",
  "clientError",
]);

/**
 * How many connections there may be at once, and who is told of the address that was refused. (Node's own
 * `maxConnections` makes workers pass a connection to each other for ever once all of them are full.)
 */
export type Room = { most: number; refused: (address: string | undefined) => void };

/**
 * An HTTP server whose listeners may throw: that ends the client's connection alone. `threw` is told. From its first
 * moment each connection has a listener for errors: between Node's own, which an upgrade removes, and that of ws a
 * client may reset it.
 *
 * The requests of a connection are served one after the other, and not at all once it has ended. Node would have them
 * served at once, and never close the answers that wait for the first one when the client leaves: what waits for an
 * answer's end, memory and a place in a queue, would be kept for ever.
 */
export function createHttpServer(
  options: HttpOptions,
  threw: (error: unknown) => void,
  room: Room = { most: Infinity, refused: ignore },
): HttpServer {
  class GuardedServer extends HttpServer {
    /** How many requests wait on a connection. */
    readonly #waiting = new WeakMap<Socket, number>();
    #open = 0;
    readonly #left = () => (this.#open -= 1);

    override emit(event: string, ...args: unknown[]): boolean {
      if (!OF_A_CLIENT.has(event)) return super.emit(event, ...args);
      try {
        if (event === "connection" && !this.#takes(args[0] as Socket)) return true;
        if (event === "request" && this.#waits(...(args as [IncomingMessage, ServerResponse]))) return true;
        return super.emit(event, ...args);
      } catch (error) {
        threw(error);
        for (const one of args) if (one instanceof Duplex || one instanceof IncomingMessage) one.destroy();
        return true;
      }
    }

    #takes(socket: Socket): boolean {
      socket.on("error", ignore);
      if (this.#open >= room.most) {
        room.refused(socket.remoteAddress);
        socket.destroy();
        return false;
      }
      this.#open += 1;
      socket.once("close", this.#left);
      return true;
    }

    /** Whether a request has to wait for its turn; then it comes again. */
    #waits(request: IncomingMessage, response: ServerResponse): boolean {
      // An answer has its connection once it is the one to be written.
      if (response.socket) return false;
      const { socket } = request;
      const waiting = this.#waiting.get(socket) ?? 0;
      if (waiting >= BOUNDS.requestsWaiting.value) {
        socket.destroy();
        return true;
      }
      this.#waiting.set(socket, waiting + 1);
      response.once("socket", () => {
        this.#waiting.set(socket, (this.#waiting.get(socket) ?? 1) - 1);
        this.emit("request", request, response);
      });
      return true;
    }
  }
  return new GuardedServer(options);
}

function ignore(): void {}

export type FrameWatch = {
  /** A client sends more frames than it may. It has been dismissed. */
  flooded: (socket: WebSocket) => void;
  /** Serving this client threw. It has been cut. */
  threw: (error: unknown, socket: WebSocket) => void;
};

/**
 * The `wsEngine` of Engine.IO. Its sockets count frames, and all that happens to one of them is caught here: a throw
 * in a library's listener or in ours would otherwise end the process for everybody. Pings are answered here too,
 * because ws answers them whether or not the client reads: one that has not read the last bytes gets no pong, as RFC
 * 6455 (5.5.3) allows.
 */
export function createFrameServer(
  limits: boolean,
  watch: FrameWatch,
): new (options?: ServerOptions) => WebSocketServer {
  class GuardedSocket extends WebSocket {
    #frames = 0;
    #since = 0;

    override emit(event: string | symbol, ...args: unknown[]): boolean {
      try {
        const isFrame = event === "message" || event === "ping" || event === "pong";
        if (isFrame && limits && !this.#counts()) return false;
        if (event === "ping" && this.bufferedAmount === 0) this.pong(args[0]);
        return super.emit(event, ...args);
      } catch (error) {
        this.terminate();
        watch.threw(error, this);
        return false;
      }
    }

    #counts(): boolean {
      // What was in the same read as the frame that was one too many.
      if (this.readyState !== WebSocket.OPEN) return false;
      const now = performance.now();
      if (now - this.#since > FRAMES_MS) {
        this.#since = now;
        this.#frames = 0;
      }
      this.#frames += 1;
      if (this.#frames <= BOUNDS.frames.value) return true;
      dismissSocket(this, this.#since + FRAMES_MS - now);
      watch.flooded(this);
      return false;
    }
  }

  return class extends WebSocketServer {
    constructor(options?: ServerOptions) {
      super({
        ...options,
        autoPong: false,
        // One frame of a connection in a turn of the loop, however many came in one read.
        allowSynchronousEvents: false,
        maxFragments: BOUNDS.fragments.value,
        maxBufferedChunks: BOUNDS.chunks.value,
        WebSocket: GuardedSocket,
      });
    }
  };
}

/**
 * Socket.IO's parser for what clients send: one CONNECT, then events and the end. It takes no acknowledgements, for
 * nobody asks for one, and no second CONNECT: while a first one is being let in, Socket.IO would start a second socket
 * on the same connection. Socket.IO closes a connection whose decoder throws.
 */
class ClientDecoder extends Decoder {
  #connects = 0;

  override add(packet: unknown): void {
    if (typeof packet === "string") {
      const type: PacketType = packet.charCodeAt(0) - 48;
      if (type === PacketType.CONNECT) this.#connects += 1;
      else if (!FROM_CLIENTS.has(type)) throw new Error("a packet that no client sends");
    }
    if (this.#connects !== 1) throw new Error("not one CONNECT");
    super.add(packet);
  }
}

const FROM_CLIENTS = new Set([PacketType.DISCONNECT, PacketType.EVENT, PacketType.BINARY_EVENT]);

/** The `parser` of Socket.IO. */
export const parser = { Encoder, Decoder: ClientDecoder };
