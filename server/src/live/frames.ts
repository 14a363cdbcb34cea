import type { EventEmitter } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import type { Socket } from "socket.io";
import type { WebSocket } from "ws";
import type { ClientEvents, RoomId, ServerEvents, User } from "../protocol.ts";

/**
 * Everything that bypasses the public interface of Socket.IO, Engine.IO and ws: writing frames straight to a TCP
 * socket, and releasing memory of an open connection. Their versions are pinned exactly. If an update drops a field,
 * the server works on without it, slower or in more memory, and frames.test.ts fails.
 */

/** What a connection knows: its user, its session, and its rooms. */
export type ConnectionData = {
  user: User;
  sid: string;
  rooms: Set<RoomId>;
  /** The rooms that it must hear from its first moment on. */
  admitted: RoomId[];
  /** The relay's epoch at which its membership of them was read. */
  admittedIn: number;
  /** Whether it has asked for anything since its session was prolonged. */
  asked?: boolean;
};
// oxlint-disable-next-line typescript/no-explicit-any -- only the door knows the events between replicas
export type Connection = Socket<ClientEvents, ServerEvents, any, ConnectionData>;

/** The request of a handshake, with the listener by which Engine.IO waits for the end of its response. */
export type Handshake = IncomingMessage & { answerClosed?: unknown };

/** Private fields; any of them may be missing. */
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
    writeBuffer?: { data?: string | Buffer }[];
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
/** How long a dismissed client may take to answer the close frame. */
const DISMISS_MS = 1_000;
/** Replaces every connection's handshake: reading it throws, instead of finding nothing. */
const HANDSHAKE = new Proxy(
  {},
  {
    get(_, name) {
      throw new Error(`the handshake is gone, and its ${String(name)} with it`);
    },
  },
);
/** Replaces the table of acknowledgements: no client is asked for one, and a shared table would mix up the answers. */
const ACKS = Object.freeze({
  get: () => undefined,
  set() {
    throw new Error("no client is asked for an acknowledgement");
  },
});
/** Replaces Engine.IO's list of send callbacks, which would grow with each packet though nobody uses them. */
const NO_CALLBACKS = Object.freeze({ length: 0, push: ignore, shift: ignore });
const NOTHING = Object.freeze(Object.create(null) as object);

/** Writes the frames directly if possible, else sends the packets through Socket.IO. */
export function put(connection: Connection, frames: Buffer, packets: () => readonly string[]): void {
  const tcp = openTcpSocket(connection);
  if (tcp) tcp.write(frames);
  else for (const packet of packets()) connection.conn.write(packet);
}

/** One Socket.IO event packet of the default namespace. */
export function encode(event: string, args: unknown[]): string {
  return `2${JSON.stringify([event, ...args])}`;
}

/** One unmasked WebSocket text frame that holds an Engine.IO message ("4") with the packet, given in parts. */
export function frame(...packet: readonly (string | Buffer)[]): Buffer {
  let length = 1;
  for (const part of packet) length += Buffer.byteLength(part);
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
  let at = start + buffer.write("4", start);
  for (const part of packet) at += typeof part === "string" ? buffer.write(part, at) : part.copy(buffer, at);
  return buffer;
}

function internals(connection: Connection): Internals {
  return connection as unknown as Internals;
}

/** Whether an open WebSocket has the private fields for direct writing. */
export function canBeWrittenTo(connection: Connection): boolean {
  const { writeBuffer, upgrading, transport } = internals(connection).conn;
  return Array.isArray(writeBuffer) && typeof upgrading === "boolean" && Boolean(transport.socket?._socket);
}

/**
 * The TCP socket of a connection that may be written to directly: an open WebSocket, not upgrading, with nothing
 * waiting inside Engine.IO. Null if the caller must use Socket.IO, also if a private field is missing: then everything
 * works, only slower.
 */
function openTcpSocket(connection: Connection): TcpSocket | null {
  const { conn } = connection;
  const { writeBuffer, upgrading, transport } = internals(connection).conn;
  if (conn.readyState !== "open" || upgrading !== false || writeBuffer?.length !== 0) return null;
  if (conn.transport.name !== "websocket" || !conn.transport.writable) return null;
  return transport.socket?._socket ?? null;
}

/**
 * Whether a connection has more unread bytes or packets than these, as far as that is visible: also packets that wait
 * for a poll or an upgrade. Nothing is owed to one that was cut. Asked for each delivery, so it allocates nothing.
 */
export function isBehind(connection: Connection, bytes: number, packets: number): boolean {
  const { writeBuffer, transport } = internals(connection).conn;
  const tcp = transport.socket?._socket;
  const waiting = writeBuffer?.length ?? 0;
  let unread = tcp?.writableLength ?? 0;
  for (let at = 0; at < waiting; at += 1) unread += writeBuffer?.[at]?.data?.length ?? 0;
  // The rare question last.
  return (unread > bytes || waiting > packets) && !tcp?.destroyed;
}

/** Ends a connection at once. A polite close would wait behind its backlog. */
export function cut(connection: Connection): void {
  openTcpSocket(connection)?.destroy();
  connection.conn.close(true);
}

/** Closes a connection and tells the client how long to wait, even if it has a backlog. */
export function dismiss({ conn }: Connection, retryAfterMs: number): void {
  const { socket } = conn.transport as { socket?: WebSocket };
  if (socket && conn.transport.name === "websocket") dismissSocket(socket, retryAfterMs);
  conn.close(true);
}

/** Closes a WebSocket with a code that tells the client how long to wait, and stops reading from it. */
export function dismissSocket(socket: WebSocket, retryAfterMs: number): void {
  socket.close(TRY_AGAIN_LATER, `rate_limited ${Math.ceil(retryAfterMs)}`);
  socket.pause();
  setTimeout(() => socket.terminate(), DISMISS_MS).unref();
}

/** Takes the place of the client's callback among an event's arguments: the id of the awaited answer. */
export class AnswerNumber {
  readonly id: number;
  constructor(id: number) {
    this.id = id;
  }
}

/**
 * Makes this connection's events carry the id of their answer instead of Socket.IO's callback, which would encode JSON
 * a second time. If the private field gets another name, the callback stays in use.
 */
export function answerByNumber(connection: Connection): void {
  Object.assign(connection, { ack: numbered });
}

function numbered(id: number): AnswerNumber {
  return new AnswerNumber(id);
}

/** Remembers the newest listener, by which Engine.IO waits for the end of the response to an upgrade. See `slim`. */
export function noteAnswer(request: Handshake): void {
  request.answerClosed = request.socket.rawListeners("close").at(-1);
}

/**
 * Releases what a connection needs only for its handshake (the upgrade request, the response and its headers), and
 * stores the rest in fewer bytes: 6.7 KB of heap instead of 9.6. Call it once the listeners are registered; listeners
 * can still be added and removed afterwards.
 */
export function slim(connection: Connection): void {
  const { answerClosed, socket: tcp } = connection.request as Handshake;
  if (answerClosed) tcp.off("close", answerClosed as () => void);
  // A list that has shrunk keeps its room for 20.
  const heard = (tcp as { _events?: Record<string, unknown> })._events;
  if (Array.isArray(heard?.["close"])) heard["close"] = heard["close"].slice();
  const inside = internals(connection);
  const { conn, client } = inside;
  const { transport } = conn;
  const webSocket = transport.socket;
  for (const listener of webSocket?.listeners("error") ?? []) {
    // Engine.IO's listener for the handshake holds the request, and is useless once there is a transport.
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
  // One table serves both: names of namespaces begin with a slash, and ids never do.
  for (const [name, socket] of client.nsps ?? []) client.sockets?.set(name, socket);
  if (client.sockets) client.nsps = client.sockets;
  repack(connection);
  if (!webSocket || transport.name !== "websocket" || conn.upgrading) return;
  // This listener sets headers of later responses, and ours have none.
  transport.removeAllListeners("headers");
  webSocket.on("message", forget);
  for (const emitter of [conn, transport, webSocket]) repack(emitter);
}

/**
 * Stores an emitter's listeners in an object of a fixed shape instead of a hash table, and without the wrappers of
 * `once`: the only event that is heard with it, the end of a connection, happens once.
 */
function repack(emitter: EventEmitter): void {
  const own = emitter as unknown as { _events?: Record<string, Listening | Listening[]> };
  if (!own._events) return;
  // Inherits nothing, because clients choose event names.
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

/** Releases the chunk of the last frame, which a WebSocket's receiver would keep, and its list of chunks. */
function forget(this: EventEmitter): void {
  const { _receiver: receiver } = this as Received;
  if (!receiver?._buffers) return;
  receiver._mask = undefined;
  if (receiver._buffers.length === 0) receiver._buffers.length = 0;
}

function ignore(): void {}
