import type { ClientEvents, Reply, ServerEvents, UserId } from "@hubbub/server/protocol";
import { ChatError, toChatError } from "./api.ts";
import type { World } from "./world.ts";

const ANSWER_WITHIN_MS = 5_000;
/** The same for an answer that may be long: 256 KB on a slow line. Whatever comes after it waits for it. */
const LONG_ANSWER_WITHIN_MS = 15_000;
const CONNECTED_WITHIN_MS = 8_000;
/** An older attempt may have begun before there was a network, and is abandoned when there is one. */
const HANGS_AFTER_MS = 500;
const FIRST_RETRY_MS = 1_000;
const SLOWEST_RETRY_MS = 20_000;
/** This many unanswered requests in a row mean that the connection is dead without notice. */
const DEAD_AFTER = 2;

/** The longest delay of a browser's timers. */
const LONGEST_WAIT_MS = 2 ** 31 - 1 - SLOWEST_RETRY_MS;

type Body<E extends keyof ClientEvents> = Parameters<ClientEvents[E]>[0];
type Value<E extends keyof ClientEvents> =
  Parameters<Parameters<ClientEvents[E]>[1]>[0] extends Reply<infer T> ? T : never;

type Listeners = ServerEvents & {
  connected: () => void;
  disconnected: () => void;
  /** The server does not know this session. No further attempt is made. */
  unauthorized: () => void;
};

/**
 * How long, in ms, a server that closed the connection wants no attempt: it says so by the WebSocket's code 1013 with
 * the reason `rate_limited <ms>`. `details` is Socket.IO's description of the end.
 */
export function waitAskedFor(details: unknown): number {
  const { context } = (details ?? {}) as { context?: { code?: unknown; reason?: unknown } };
  if (context?.code !== 1013 || typeof context.reason !== "string") return 0;
  const ms = Number(/^rate_limited (\d+)$/.exec(context.reason)?.[1] ?? 0);
  return Math.min(ms, LONGEST_WAIT_MS);
}

/**
 * The connection. `open` keeps it up until `close`, with retries after a random wait that doubles from 1 to 20 s.
 * `request` resolves with the Reply's value or throws a ChatError; it emits only while connected, so that Socket.IO
 * never buffers a request and sends it behind the outbox's back.
 *
 * `checkSession` is called after an unexplained refusal and answers false if the session is over.
 */
export function createSocket(
  world: Pick<World, "clock" | "random" | "connect">,
  userId: UserId,
  listeners: Listeners,
  checkSession: () => Promise<boolean>,
) {
  const { clock, random } = world;
  const socket = world.connect({
    autoConnect: false,
    reconnection: false,
    timeout: CONNECTED_WITHIN_MS,
    transports: ["websocket"],
    // The cookie is read at each attempt, and may be somebody else's by then.
    query: { userId },
  });
  let wanted = false;
  let connecting = false;
  let began = 0;
  let attempts = 0;
  let unanswered = 0;
  /** How many answers are awaited that may be long. */
  let longAwaited = 0;
  /** The server wants no attempt before this time of the clock's `now`. */
  let notBefore = 0;
  let cancelRetry = () => {};

  const { connected, disconnected, unauthorized, ...events } = listeners;
  for (const [event, listener] of Object.entries(events)) socket.on(event as keyof ServerEvents, listener);

  socket.on("connect", () => {
    connecting = false;
    attempts = 0;
    unanswered = 0;
    connected();
  });
  socket.on("disconnect", (reason, details) => {
    connecting = false;
    if (!wanted) return;
    disconnected();
    retry(waitAskedFor(details));
    if (reason === "io server disconnect") void stopIfOver();
  });
  socket.on("connect_error", (error: Error & { data?: unknown }) => {
    connecting = false;
    if (!wanted) return;
    const failure = error.data === undefined ? null : toChatError(error.data);
    if (failure?.code === "unauthorized") stop();
    else {
      if (failure === null && attempts > 0) void stopIfOver();
      retry(failure?.retryAfterMs);
    }
  });

  async function stopIfOver() {
    if (!(await checkSession())) stop();
  }

  function stop() {
    if (!wanted) return;
    close();
    unauthorized();
  }

  function retry(atLeastMs = 0) {
    if (!wanted || socket.connected) return;
    cancelRetry();
    notBefore = Math.max(notBefore, clock.now() + atLeastMs);
    const slowest = Math.min(SLOWEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempts);
    attempts++;
    cancelRetry = clock.after(notBefore - clock.now() + random() * slowest, connect);
  }

  function connect() {
    if (!wanted || connecting || socket.connected || clock.now() < notBefore) return;
    cancelRetry();
    connecting = true;
    began = clock.now();
    socket.connect();
    // Without this, a connection that is accepted and closed silently costs the library's whole timeout.
    socket.io.engine.once("close", (_reason, details) => {
      if (!connecting) return;
      connecting = false;
      socket.disconnect();
      retry(waitAskedFor(details));
    });
  }

  function close() {
    wanted = false;
    connecting = false;
    cancelRetry();
    socket.disconnect();
  }

  return {
    open() {
      if (wanted) return;
      wanted = true;
      attempts = 0;
      notBefore = 0;
      connect();
    },
    close,
    /** Tries now instead of after the current wait, unless the server asked for it. */
    hurry() {
      if (connecting && clock.now() - began > HANGS_AFTER_MS) {
        connecting = false;
        socket.disconnect();
      }
      connect();
    },
    get connected() {
      return socket.connected;
    },
    async request<E extends keyof ClientEvents>(event: E, body: Body<E>): Promise<Value<E>> {
      if (!socket.connected) throw new ChatError("unreachable", "You are offline.");
      let reply: Reply<Value<E>>;
      const isLong = event === "room.join" || ("rooms" in body && body.rooms.length > 0);
      if (isLong) longAwaited += 1;
      try {
        // The generic event defeats the library's type inference; the types above say the same.
        const emitter = socket.timeout(isLong ? LONG_ANSWER_WITHIN_MS : ANSWER_WITHIN_MS) as unknown as {
          emitWithAck(event: E, body: Body<E>): Promise<Reply<Value<E>>>;
        };
        reply = await emitter.emitWithAck(event, body);
      } catch {
        // Behind a long answer, which may still be coming, others are late.
        if (socket.connected && longAwaited <= Number(isLong) && ++unanswered >= DEAD_AFTER) {
          unanswered = 0;
          socket.io.engine.close();
        }
        throw new ChatError("unreachable", "The server does not answer.");
      } finally {
        if (isLong) longAwaited -= 1;
      }
      unanswered = 0;
      if (reply.ok) return reply.value;
      throw toChatError(reply.error);
    },
  };
}

export type ChatSocket = ReturnType<typeof createSocket>;
