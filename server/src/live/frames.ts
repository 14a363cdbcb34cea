import type { EventEmitter } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import type { Socket } from "socket.io";
import type { WebSocket } from "ws";
import type { ClientEvents, RoomId, ServerEvents, User } from "../protocol.ts";

/**
 * Everything that goes past the public surface of Socket.IO, Engine.IO and ws: how frames are written straight to a TCP
 * socket, and what an open connection lets go of. Their versions are pinned exactly. Where a field is missing after an
 * update the server goes on without what it was good for, slower or in more memory; frames.test.ts turns red.
 */

/** What a connection carries: who it is, by which session, and the rooms it hears. */
export type ConnectionData = {
  user: User;
  sid: string;
  rooms: Set<RoomId>;
  /** The rooms that it is to hear from its first moment on. */
  admitted: RoomId[];
  /** The relay's epoch in which it was known that they are its user's. */
  admittedIn: number;
};
// oxlint-disable-next-line typescript/no-explicit-any -- what replicas tell each other is the door's business
export type Connection = Socket<ClientEvents, ServerEvents, any, ConnectionData>;

/** The request of a handshake, with the listener by which Engine.IO's answer to it waits for its end. */
export type Handshake = IncomingMessage & { answerClosed?: unknown };

/** Private fields, as far as they are there. */
type Internals = {
  _anyListeners?: unknown[];
  acks?: unknown;
  handshake: unknown;
  client: {
    decoder?: { _callbacks?: Record<string, unknown[]> };
    sockets?: Map<string, unknown>;
    nsps?: Map<string, unknown>;
  };
  conn: EventEmitter & {
    request: unknown;
    upgrading?: boolean;
    writeBuffer?: unknown[];
    cleanupFn?: unknown[];
    sentCallbackFn?: unknown;
    transport: EventEmitter & {
      name: string;
      socket?: EventEmitter & { _socket?: TcpSocket | null };
    };
  };
};
type Received = { _receiver?: { _buffers?: unknown[]; _mask?: unknown } };

/** IANA's "try again later": the client comes back, but not at once. */
const TRY_AGAIN_LATER = 1013;
/** How long a client that was dismissed may take to answer the close frame. */
const DISMISS_MS = 1_000;
/** What is left of every connection's handshake: whoever reads of it is told so, instead of finding nothing. */
const HANDSHAKE = new Proxy(
  {},
  {
    get(_, name) {
      throw new Error(`the handshake is gone, and its ${String(name)} with it`);
    },
  },
);
/** No client is asked for an acknowledgement here: whoever did would wait for the answer of any. */
const ACKS = Object.freeze({
  get: () => undefined,
  set() {
    throw new Error("no client is asked for an acknowledgement");
  },
});
/** Nobody asks Engine.IO to be called back when a packet is sent; it would note that for each packet. */
const NO_CALLBACKS = Object.freeze({ length: 0, push: ignore, shift: ignore });
const NOTHING = Object.freeze(Object.create(null) as object);

/** Sends packets as the frames that they are in, or Socket.IO's own way. */
export function put(connection: Connection, frames: Buffer, packets: string[]): void {
  const tcp = openTcpSocket(connection);
  if (tcp) tcp.write(frames);
  else for (const packet of packets) connection.conn.write(packet);
}

/** One Socket.IO event packet of the default namespace. */
export function encode(event: string, args: unknown[]): string {
  return `2${JSON.stringify([event, ...args])}`;
}

/** One unmasked WebSocket text frame that holds an Engine.IO message ("4") with the packet. */
export function frame(packet: string): Buffer {
  const length = 1 + Buffer.byteLength(packet);
  const start = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const buffer = Buffer.allocUnsafe(start + length);
  buffer[0] = 0x81;
  if (start === 2) {
    buffer[1] = length;
  } else if (start === 4) {
    buffer[1] = 126;
    buffer.writeUInt16BE(length, 2);
  } else {
    buffer[1] = 127;
    buffer.writeBigUInt64BE(BigInt(length), 2);
  }
  buffer.write("4", start);
  buffer.write(packet, start + 1);
  return buffer;
}

function internals(connection: Connection): Internals {
  return connection as unknown as Internals;
}

/** Whether an open WebSocket has the private fields by which it can be written to directly. */
export function canBeWrittenTo(connection: Connection): boolean {
  const { writeBuffer, upgrading, transport } = internals(connection).conn;
  return Array.isArray(writeBuffer) && typeof upgrading === "boolean" && Boolean(transport.socket?._socket);
}

/**
 * The TCP socket of a connection that may be written to directly: an open WebSocket, not upgrading, with nothing
 * waiting inside Engine.IO. Null sends the caller Socket.IO's own way: where a private field is missing, as after
 * an incompatible update, everything still works, only slower.
 */
function openTcpSocket(connection: Connection): TcpSocket | null {
  const { conn } = connection;
  const { writeBuffer, upgrading, transport } = internals(connection).conn;
  if (conn.readyState !== "open" || upgrading !== false || writeBuffer?.length !== 0) return null;
  if (conn.transport.name !== "websocket" || !conn.transport.writable) return null;
  return transport.socket?._socket ?? null;
}

/** What a connection has not read yet, as far as it can be seen. */
export function backlogOf(connection: Connection): { bytes: number; packets: number; isCut: boolean } {
  const { writeBuffer, transport } = internals(connection).conn;
  const tcp = transport.socket?._socket;
  return {
    bytes: tcp?.writableLength ?? 0,
    packets: writeBuffer?.length ?? 0,
    isCut: tcp?.destroyed ?? false,
  };
}

/** Ends a connection at once. A polite close would wait behind what it does not read. */
export function cut(connection: Connection): void {
  openTcpSocket(connection)?.destroy();
  connection.conn.close(true);
}

/** Ends a connection with the word to wait for so long, whatever it has read. */
export function dismiss({ conn }: Connection, retryAfterMs: number): void {
  const { socket } = conn.transport as { socket?: WebSocket };
  if (socket && conn.transport.name === "websocket") dismissSocket(socket, retryAfterMs);
  conn.close(true);
}

/** Closes a WebSocket with a code that tells the client to wait for so long, and reads no more of it. */
export function dismissSocket(socket: WebSocket, retryAfterMs: number): void {
  socket.close(TRY_AGAIN_LATER, `rate_limited ${Math.ceil(retryAfterMs)}`);
  socket.pause();
  setTimeout(() => socket.terminate(), DISMISS_MS).unref();
}

/** Stands among an event's arguments for the client's callback: the number under which it waits for the answer. */
export class AnswerNumber {
  readonly id: number;
  constructor(id: number) {
    this.id = id;
  }
}

/**
 * From now on this connection's events come with the number of their answer. Socket.IO's own callback, which stays in
 * use should the name of this field ever change, would encode what is JSON already.
 */
export function answerByNumber(connection: Connection): void {
  Object.assign(connection, { ack: (id: number) => new AnswerNumber(id) });
}

/** Notes the newest listener: the one by which Engine.IO's answer to an upgrade waits for its end. See `slim`. */
export function noteAnswer(request: Handshake): void {
  request.answerClosed = request.socket.rawListeners("close").at(-1);
}

/**
 * Lets go of what a connection needs for its handshake only (the upgrade request, its answer and its headers), and
 * keeps what is left in fewer bytes: 6.7 KB instead of 9.6, as the heap counts. Called once the listeners are
 * registered; more may be added and removed afterwards as ever.
 */
export function slim(connection: Connection): void {
  const { answerClosed, socket: tcp } = connection.request as Handshake;
  if (answerClosed) tcp.off("close", answerClosed as () => void);
  const inside = internals(connection);
  const { conn, client } = inside;
  const { transport } = conn;
  const webSocket = transport.socket;
  for (const listener of webSocket?.listeners("error") ?? []) {
    // Engine.IO's listener for the handshake holds the request, and is not needed once there is a transport.
    if (listener.name === "onUpgradeError") webSocket?.off("error", listener as () => void);
  }
  conn.request = null;
  inside.handshake = HANDSHAKE;
  if (inside.acks) inside.acks = ACKS;
  if (conn.sentCallbackFn) conn.sentCallbackFn = NO_CALLBACKS;
  if (inside._anyListeners) inside._anyListeners = inside._anyListeners.slice();
  if (conn.cleanupFn) conn.cleanupFn = conn.cleanupFn.slice();
  const callbacks = client.decoder?._callbacks ?? {};
  for (const [event, functions] of Object.entries(callbacks)) callbacks[event] = functions.slice();
  // One table does for both: names of namespaces begin with a slash, and ids never do.
  for (const [name, socket] of client.nsps ?? []) client.sockets?.set(name, socket);
  if (client.sockets) client.nsps = client.sockets;
  repack(connection);
  if (!webSocket || transport.name !== "websocket" || conn.upgrading) return;
  // Answers to later requests have headers; there are none.
  transport.removeAllListeners("headers");
  webSocket.on("message", forget);
  for (const emitter of [conn, transport, webSocket]) repack(emitter);
}

/**
 * An emitter's listeners in an object of a fixed shape instead of a hash table, and without the wrappers of `once`:
 * what is only heard once here, the end of a connection, only happens once.
 */
function repack(emitter: EventEmitter): void {
  const own = emitter as unknown as { _events?: Record<string, Listening | Listening[]> };
  if (!own._events) return;
  // Nothing is inherited: clients choose names of events.
  const events = Object.create(NOTHING) as Record<string, Listening | Listening[]>;
  for (const [event, listening] of Object.entries(own._events)) {
    events[event] = Array.isArray(listening) ? listening.map(unwrap) : unwrap(listening);
  }
  own._events = events;
}

type Listening = ((...args: unknown[]) => void) & { listener?: Listening };

function unwrap(listening: Listening): Listening {
  return listening.listener ?? listening;
}

/** A WebSocket's receiver keeps the piece of memory that its last frame came in, and a list to put the next one on. */
function forget(this: EventEmitter): void {
  const { _receiver: receiver } = this as Received;
  if (!receiver?._buffers) return;
  receiver._mask = undefined;
  if (receiver._buffers.length === 0) receiver._buffers.length = 0;
}

function ignore(): void {}
