import type { EventEmitter } from "node:events";
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
 * What a client may send below the level of events: requests, WebSocket frames and Socket.IO packets. Anything
 * unneeded ends the connection before a library has to handle it, and an exception ends only that connection.
 */

const FRAMES_MS = 10_000;

/** Server events that concern one client. */
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
 * How many connections there may be, and a callback for each refused address. (Node's own `maxConnections` makes full
 * workers pass a connection to each other endlessly.)
 */
export type Capacity = { most: number; refused: (address: string | undefined) => void };

/**
 * An HTTP server that survives its listeners' exceptions: one ends its client's connection only, and calls `threw`.
 * Each connection has a listener for errors from its first moment: a client may reset it between the removal of Node's
 * own at an upgrade and the start of ws'.
 *
 * It serves the requests of a connection one after the other, and none once the connection has ended. Node would serve
 * them at once, and when the client leaves never close the responses that wait for the first one: whatever waits for a
 * response's end, as memory and a place in a queue, would leak.
 */
export function createHttpServer(
  options: HttpOptions,
  threw: (error: unknown) => void,
  capacity: Capacity = { most: Infinity, refused: ignore },
): HttpServer {
  const { requestTimeout: bodyMs = 0, ...others } = options;
  class GuardedServer extends HttpServer {
    /** How many requests wait on each connection. */
    readonly #waiting = new WeakMap<Socket, number>();
    #open = 0;
    readonly #left = () => (this.#open -= 1);

    override emit(event: string, ...args: unknown[]): boolean {
      if (!OF_A_CLIENT.has(event)) return super.emit(event, ...args);
      try {
        if (event === "connection" && !this.#takes(args[0] as Socket)) return true;
        if (event === "request") {
          const [request, response] = args as [Incoming, ServerResponse];
          // Node drops what came with it for the next request.
          if (request.asksUpgrade === true) response.shouldKeepAlive = false;
          if (bodyMs > 0 && hasBody(request) && !BODIES.has(request)) limitBody(request, bodyMs);
          if (this.#waits(request, response)) return true;
        }
        return super.emit(event, ...args);
      } catch (error) {
        threw(error);
        for (const one of args) if (one instanceof Duplex || one instanceof IncomingMessage) one.destroy();
        return true;
      }
    }

    #takes(socket: Socket): boolean {
      socket.on("error", ignore);
      if (this.#open >= capacity.most) {
        capacity.refused(socket.remoteAddress);
        socket.destroy();
        return false;
      }
      this.#open += 1;
      socket.on("close", this.#left);
      return true;
    }

    /** Whether a request must wait for its turn; it is emitted again then. */
    #waits(request: IncomingMessage, response: ServerResponse): boolean {
      // A response has its socket once it is the one to be written.
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
  // Node's own limit is the same for every request, and files may take long.
  return new GuardedServer({ ...others, requestTimeout: 0, IncomingMessage: Incoming });
}

/**
 * A request that asks for another protocol than WebSocket is answered as if it had not (RFC 9110, 7.8): Java's client and
 * curl ask for HTTP/2 wherever there is no TLS. Node takes `upgrade` for whether there is anything to upgrade to.
 */
class Incoming extends IncomingMessage {
  declare asksUpgrade: boolean | null;

  set upgrade(asks: boolean | null) {
    this.asksUpgrade = asks;
  }

  get upgrade(): boolean {
    const isTaken = this.method === "CONNECT" || this.headers.upgrade?.toLowerCase() === "websocket";
    return this.asksUpgrade === true && isTaken;
  }
}

/** When the connection of a request is cut off because its body has not ended. */
const BODIES = new WeakMap<IncomingMessage, NodeJS.Timeout>();

function limitBody(request: IncomingMessage, ms: number): void {
  clearTimeout(BODIES.get(request));
  if (request.destroyed || request.complete) return;
  const { socket } = request;
  const late = setTimeout(() => socket.destroy(), Math.min(ms, MOST_MS)).unref();
  if (!BODIES.has(request)) request.once("close", () => clearTimeout(BODIES.get(request)));
  BODIES.set(request, late);
}

/** Longer timers fire at once. */
const MOST_MS = 2 ** 31 - 1;

/**
 * Lets a body wait unread for as long as `idleMs`, without a byte in either direction. `begin`: it must have ended within
 * so many ms from now. `end`: what is left of it, and the next request, have as little time as others.
 */
export function allowBody(
  request: IncomingMessage,
  idleMs: number,
): { begin: (ms: number) => void; end: () => void } {
  const { socket } = request;
  const { timeout = 0 } = socket;
  socket.setTimeout(idleMs);
  limitBody(request, MOST_MS);
  return {
    begin: (ms) => limitBody(request, ms),
    end() {
      socket.setTimeout(timeout);
      limitBody(request, timeout);
    },
  };
}

/** Whether a request has a body, also an empty one. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined;
}

function ignore(): void {}

/** The frames of a connection, or its packets by long-polling. */
class FrameCount {
  #frames = 0;
  #since = 0;

  /** Counts one more; answers for how many ms the client must wait if that is one too many. */
  add(): number | undefined {
    const now = performance.now();
    if (now - this.#since > FRAMES_MS) {
      this.#since = now;
      this.#frames = 0;
    }
    this.#frames += 1;
    return this.#frames > BOUNDS.frames.value ? this.#since + FRAMES_MS - now : undefined;
  }
}

export type FrameWatch = {
  /** This client sent more frames than it may, and was dismissed. */
  flooded: (socket: WebSocket) => void;
  /** Serving this client threw, and it was cut. */
  threw: (error: unknown, socket: WebSocket) => void;
};

/**
 * The `wsEngine` of Engine.IO. Its sockets count frames, and catch what listeners throw, the libraries' or ours: it
 * would otherwise end the process for everybody. They also answer pings, because ws answers them whether or not the
 * client reads: a client with a backlog gets no pong, as RFC 6455 (5.5.3) allows.
 */
export function createFrameServer(
  limits: boolean,
  watch: FrameWatch,
): new (options?: ServerOptions) => WebSocketServer {
  class GuardedSocket extends WebSocket {
    readonly #frames = new FrameCount();

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
      // Frames after the one too many, in the same read.
      if (this.readyState !== WebSocket.OPEN) return false;
      const waitMs = this.#frames.add();
      if (waitMs === undefined) return true;
      dismissSocket(this, waitMs);
      watch.flooded(this);
      return false;
    }
  }

  return class extends WebSocketServer {
    constructor(options?: ServerOptions) {
      super({
        ...options,
        autoPong: false,
        // One frame of a connection in each turn of the event loop, however many came in one read.
        allowSynchronousEvents: false,
        maxFragments: BOUNDS.fragments.value,
        maxBufferedChunks: BOUNDS.chunks.value,
        WebSocket: GuardedSocket,
      });
    }
  };
}

/** A connection of Engine.IO. */
export type RawConnection = EventEmitter & {
  /** Which later requests by long-polling name. */
  id: string;
  request: IncomingMessage;
  transport: EventEmitter & { name: string };
};

/**
 * Counts the packets of a connection by long-polling as frames: one request may bring thousands in one turn of the event
 * loop. One too many ends the connection, and the rest of the request is dropped.
 */
export function limitPackets(conn: RawConnection, flooded: () => void): void {
  const packets = new FrameCount();
  conn.on("packet", () => {
    if (packets.add() === undefined) return;
    // A close would wait for the client's next poll.
    conn.transport.emit("error", new Error("too many packets"));
    flooded();
  });
}

/**
 * Socket.IO's parser for what clients send: one CONNECT, then events and the end. It refuses acknowledgements, because
 * nobody asks for one, and a second CONNECT: during the first admission Socket.IO would start a second socket on the
 * same connection. It refuses what follows the end: of one request by long-polling, Socket.IO decodes all packets
 * before it looks at the first. Socket.IO closes a connection whose decoder throws.
 */
class ClientDecoder extends Decoder {
  #state: "new" | "begun" | "ended" = "new";

  override add(packet: unknown): void {
    const type: PacketType | undefined = typeof packet === "string" ? packet.charCodeAt(0) - 48 : undefined;
    const begins = type === PacketType.CONNECT;
    if (begins !== (this.#state === "new")) throw new Error("not one CONNECT");
    if (this.#state === "ended") throw new Error("a packet after the end");
    if (begins) this.#state = "begun";
    else if (type === PacketType.DISCONNECT) this.#state = "ended";
    else if (type !== undefined && !FROM_CLIENTS.has(type)) throw new Error("a packet that no client sends");
    super.add(packet);
  }
}

const FROM_CLIENTS = new Set([PacketType.EVENT, PacketType.BINARY_EVENT]);

/** The `parser` of Socket.IO. */
export const parser = { Encoder, Decoder: ClientDecoder };
