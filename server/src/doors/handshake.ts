import { STATUS_CODES, ServerResponse, type IncomingMessage } from "node:http";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";
import { BOUNDS } from "../limits.ts";
import type { Handshake } from "../live/frames.ts";
import type { Load } from "../load.ts";
import type { Metrics } from "../metrics.ts";
import type { Failure } from "../protocol.ts";
import { clientAddress, type Security } from "../security.ts";
import { refusalOf, toFailure } from "./failure.ts";
import type { Identity } from "./identity.ts";
import { limitPackets, type RawConnection } from "./transport.ts";

const RETRY_MS = 1_000;

export type HandshakeParts = {
  config: Config;
  identity: Identity;
  load: Load;
  metrics: Metrics;
  security: Security;
  log: Logger;
};

/** Who may open a connection, before Engine.IO starts one; and the polls of those that are open. */
export class Handshakes {
  readonly #parts: HandshakeParts;
  readonly #flooded: () => void;
  /** How many connections without a session each address has open. */
  readonly #strangers = new Map<string, number>();
  /** The connections that began by long-polling, by their ids in later requests, and their sessions. */
  readonly #polled = new Map<string, { conn: RawConnection; session: string | undefined }>();
  #closing = false;

  /** `flooded` is called when a connection that polls sends too many packets. */
  constructor(parts: HandshakeParts, flooded: () => void) {
    this.#parts = parts;
    this.#flooded = flooded;
  }

  /** Refuses all further ones. */
  close(): void {
    this.#closing = true;
  }

  /** A connection has begun. */
  opened(conn: RawConnection): void {
    this.#countStranger(conn);
    if (conn.transport.name === "polling") this.#expectPolls(conn);
  }

  /**
   * Identifies the sender of a handshake, and refuses too many before the upgrade. A client without a session is
   * refused over its connection, and there may be only a few of those.
   */
  async letIn(request: Handshake, response: ServerResponse, next: () => void): Promise<void> {
    const { identity, load } = this.#parts;
    try {
      if (this.#closing) throw new ChatError("unavailable", "This replica is stopping.", RETRY_MS);
      // Engine.IO answers an upgrade with any method.
      if (request.method !== "GET" && request.method !== "POST")
        throw new ChatError("invalid", "Only GET and POST.");
      const sid = queryOf(request, "sid");
      if (sid === "") {
        this.#demandProtocol(request, isUpgrade(response) ? "websocket" : "polling");
        await identity.begin(request, "handshake");
        load.demand("handshakes");
        // Whether the account is still there is asked as the connection is admitted.
        if (!(await identity.shown(request, "handshake"))) this.#limitStrangers(request);
      } else {
        await identity.begin(request, "poll");
        const { conn, session } = this.#polled.get(sid) ?? {};
        // Proxies log addresses with their ids: an id alone must not continue somebody's connection.
        const isTheirs = session === undefined || identity.names(request, session);
        // Engine.IO would never answer a poll of a WebSocket, and would exchange one WebSocket for another.
        if (conn?.transport.name !== "polling" || !isTheirs)
          throw new ChatError("invalid", "There is no such connection by long-polling.");
      }
    } catch (error) {
      return this.#refuse(error, request, response);
    }
    // The client may have left meanwhile.
    if (!request.socket.destroyed) next();
  }

  /**
   * Throws what Engine.IO would refuse with codes of its own, or, an older protocol over a WebSocket, with bytes that are
   * no frame.
   */
  #demandProtocol(request: IncomingMessage, transport: "websocket" | "polling"): void {
    if (queryOf(request, "EIO") !== "4")
      throw new ChatError("invalid", "EIO must be 4: Socket.IO's client 3 or newer.");
    if (transport === "polling" && !this.#parts.config.polling)
      throw new ChatError("invalid", 'Only WebSocket: set `transports: ["websocket"]`.');
    if (queryOf(request, "transport") !== transport || request.method !== "GET")
      throw new ChatError("invalid", "A connection begins with GET, and names its transport.");
  }

  /** Throws `rate_limited` if the address has too many connections without a session. */
  #limitStrangers(request: Handshake): void {
    const { config, identity } = this.#parts;
    if (!config.rateLimits) return;
    const here = this.#strangers.get(identity.senderOf(request)) ?? 0;
    if (here < BOUNDS.strangers.value && this.#strangers.size < BOUNDS.strangersAll.value) return;
    identity.bar(request, "handshake", BOUNDS.connect.value);
    throw new ChatError("rate_limited", "Too many connections.", BOUNDS.connect.value);
  }

  #refuse(error: unknown, request: Handshake, response: ServerResponse): void {
    const { config, identity, metrics, security } = this.#parts;
    const failure = toFailure(error, this.#parts, "handshake");
    metrics.handshakes.inc({ outcome: failure.code });
    if (failure.code === "rate_limited") {
      const address = clientAddress(request, config.trustProxy);
      const userId = identity.known(request)?.user.id;
      security.note("connection.limited", { address, userId, what: "handshake" });
    }
    refuseHandshake(request, response, failure);
  }

  #expectPolls(conn: RawConnection): void {
    const { config, identity } = this.#parts;
    if (config.rateLimits) limitPackets(conn, this.#flooded);
    this.#polled.set(conn.id, { conn, session: identity.known(conn.request)?.sid });
    conn.once("close", () => this.#polled.delete(conn.id));
  }

  /** Counts a connection without a session, from its handshake to its end. */
  #countStranger(conn: RawConnection): void {
    const { identity, metrics } = this.#parts;
    const { request } = conn;
    if (identity.known(request)) return;
    const address = identity.senderOf(request);
    this.#strangers.set(address, (this.#strangers.get(address) ?? 0) + 1);
    metrics.unauthenticated.inc();
    conn.once("close", () => {
      metrics.unauthenticated.dec();
      const left = (this.#strangers.get(address) ?? 1) - 1;
      if (left > 0) this.#strangers.set(address, left);
      else this.#strangers.delete(address);
    });
  }
}

/** A field of the query, as Engine.IO reads it; "" without it. */
function queryOf({ url = "" }: IncomingMessage, name: "sid" | "EIO" | "transport"): string {
  return new URL(url, "https://socket.io").searchParams.getAll(name).at(-1) ?? "";
}

/** Whether Engine.IO made the response up: any request may have the header of an upgrade. */
export function isUpgrade(response: ServerResponse): boolean {
  return !(response instanceof ServerResponse);
}

/** Answers a handshake without starting a connection. */
function refuseHandshake(request: IncomingMessage, response: ServerResponse, failure: Failure): void {
  if (isUpgrade(response)) return refuseUpgrade(request, failure);
  const { status, headers, body } = refusalOf(failure);
  response.writeHead(status, { ...headers, Connection: "close" }).end(body);
}

/** Answers an upgrade, which has no response object, and ends its connection. */
export function refuseUpgrade({ socket }: IncomingMessage, failure: Failure): void {
  const { status, headers, body } = refusalOf(failure);
  const length = String(Buffer.byteLength(body));
  const told = Object.entries({ ...headers, Connection: "close", "Content-Length": length });
  const head = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...told.map((field) => field.join(": "))];
  socket.write(`${head.join("\r\n")}\r\n\r\n${body}`);
  socket.destroySoon();
}
