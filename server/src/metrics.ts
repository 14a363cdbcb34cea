import cluster from "node:cluster";
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import { addressOf, listenFault, type Config } from "./config.ts";
import { ChatError } from "./errors.ts";
import { QUEUES, RATES, SHED } from "./limits.ts";
import { ERROR_CODES } from "./protocol.ts";

/** Metrics of one process, or merged ones of several, in the form in which processes exchange them. */
export type Figures = Awaited<ReturnType<Registry["getMetricsAsJSON"]>>;
/** To a worker: a request for its metrics; or the merged text that it asked for. */
export type ToWorker = { metrics: "ask" } | { metrics: "text"; text: string };
/** To the primary: a worker's own metrics; or its request for the merged text. */
export type ToPrimary = { metrics: "figures"; figures: Figures } | { metrics: "want" };

/** Longer than the primary waits for a worker. */
const TEXT_MS = 3_000;
/** A reader of metrics asks every few seconds, over one connection. */
const READERS = 32;
export const LOGIN_OUTCOMES = ["done", "failed", "limited", "refused", "unavailable", "cut"] as const;
export const METRICS_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * A replica's metrics. One set per replica, never global. `text` is the answer of `/metrics`, in Prometheus' format:
 * in a worker it merges all workers (sums; for delays the maximum), and throws `unavailable` if the primary does not
 * answer.
 */
export function createMetrics() {
  const registry = new Registry();
  // A timer measures the delay of the event loop; at the default of every 10 ms it takes 1 % of a core.
  collectDefaultMetrics({ register: registry, prefix: "hubbub_", eventLoopMonitoringPrecision: 100 });
  for (const metric of registry.getMetricsAsArray()) {
    if (/_eventloop_lag_(?!min)|_start_time_/.test(metric.name)) metric.aggregator = "max";
  }
  const registers = [registry];
  const metrics = {
    registry,
    text: cluster.isWorker ? speakForAll(registry) : () => registry.metrics(),
    connections: new Gauge({ name: "hubbub_connections", help: "Open Socket.IO connections", registers }),
    stored: new Counter({
      name: "hubbub_messages_stored_total",
      help: "Messages stored by this replica",
      registers,
    }),
    repeated: new Counter({
      name: "hubbub_messages_repeated_total",
      help: "Sends whose nonce was already stored: retries that did no harm",
      registers,
    }),
    append: new Histogram({
      name: "hubbub_append_seconds",
      help: "Time to store one message, as the replica sees it",
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2],
      registers,
    }),
    relayed: new Counter({
      name: "hubbub_relay_messages_total",
      help: "Messages heard on the relay",
      registers,
    }),
    malformed: new Counter({
      name: "hubbub_relay_malformed_total",
      help: "Announcements that were no well-formed envelope and were dropped",
      registers,
    }),
    gaps: new Counter({
      name: "hubbub_relay_gaps_total",
      help: "Holes noticed in a room's sequence",
      registers,
    }),
    healed: new Counter({
      name: "hubbub_relay_healed_messages_total",
      help: "Messages read from the sorted set because the relay had lost them",
      registers,
    }),
    resets: new Counter({
      name: "hubbub_relay_resets_total",
      help: "Rooms whose stored log was not the one this replica knew",
      registers,
    }),
    heartbeatLag: new Gauge({
      name: "hubbub_relay_heartbeat_lag_seconds",
      help: "Age of the last own heartbeat that came back over the relay",
      aggregator: "max",
      registers,
    }),
    rooms: new Gauge({ name: "hubbub_relay_rooms", help: "Rooms with a local member", registers }),
    deliveries: new Counter({
      name: "hubbub_deliveries_total",
      help: "Messages written to connections: messages times their local members",
      registers,
    }),
    flushes: new Counter({
      name: "hubbub_delivery_flushes_total",
      help: "Batches written to rooms",
      registers,
    }),
    slowConsumers: new Counter({
      name: "hubbub_slow_consumers_cut_total",
      help: "Connections cut because they did not read",
      registers,
    }),
    swept: new Counter({
      name: "hubbub_presence_swept_total",
      help: "Users who went offline because this replica ended the leases of a dead one",
      registers,
    }),
    unauthenticated: new Gauge({
      name: "hubbub_unauthenticated_connections",
      help: "WebSockets that are open and have not shown a session yet",
      registers,
    }),
    handshakes: new Counter({
      name: "hubbub_handshakes_total",
      help: "Socket.IO handshakes, by outcome",
      labelNames: ["outcome"],
      registers,
    }),
    httpRequests: new Counter({
      name: "hubbub_http_requests_total",
      help: "HTTP requests answered, by the route's pattern and the status",
      labelNames: ["route", "status"],
      registers,
    }),
    httpDuration: new Histogram({
      name: "hubbub_http_request_seconds",
      help: "Time from an HTTP request's head to the end of its answer, by the route's pattern",
      labelNames: ["route"],
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5, 10],
      registers,
    }),
    logins: new Counter({
      name: "hubbub_logins_total",
      help: "Attempts to log in, by outcome",
      labelNames: ["outcome"],
      registers,
    }),
    refusals: new Counter({
      name: "hubbub_refusals_total",
      help: "Requests answered with an error, by door and code",
      labelNames: ["door", "code"],
      registers,
    }),
    limitsHit: new Counter({
      name: "hubbub_limits_hit_total",
      help: "Requests refused because somebody had used up a limit, by the limit's name",
      labelNames: ["limit"],
      registers,
    }),
    sheds: new Counter({
      name: "hubbub_sheds_total",
      help: "Work turned away because the replica had too much of it, by kind",
      labelNames: ["kind"],
      registers,
    }),
    loopDelay: new Gauge({
      name: "hubbub_loop_delay_seconds",
      help: "How late the event loop is, on average over a second; work is shed by it",
      aggregator: "max",
      registers,
    }),
    memoryShare: new Gauge({
      name: "hubbub_memory_used_ratio",
      help: "Share of the memory that the process may use; work is shed by it",
      aggregator: "max",
      registers,
    }),
    uploads: new Counter({
      name: "hubbub_uploads_total",
      help: "Files that began to arrive, by outcome: stored, refused, or failed by the store or the line",
      labelNames: ["outcome"],
      registers,
    }),
    fileBytes: new Counter({
      name: "hubbub_file_bytes_total",
      help: "Bytes of files that were stored",
      registers,
    }),
    contained: new Counter({
      name: "hubbub_contained_total",
      help: "Unexpected errors that ended one request or connection and nothing else, by place",
      labelNames: ["place"],
      registers,
    }),
    redisErrors: new Counter({
      name: "hubbub_redis_errors_total",
      help: "Redis commands and connections that failed, by Redis' code or the kind of failure",
      labelNames: ["code"],
      registers,
    }),
    redisCommands: new Histogram({
      name: "hubbub_redis_command_seconds",
      help: "Time from sending a command to Redis until its answer, failed ones too",
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2],
      registers,
    }),
    redisWritable: new Gauge({
      name: "hubbub_redis_writable",
      help: "Whether Redis takes writes: 1, or 0 while it is read-only, full, without its replicas or away",
      aggregator: "min",
      registers,
    }),
    redisMemory: new Gauge({
      name: "hubbub_redis_memory_bytes",
      help: "Memory that Redis uses; on a Cluster that of the fullest primary",
      aggregator: "max",
      registers,
    }),
    redisMemoryLimit: new Gauge({
      name: "hubbub_redis_memory_limit_bytes",
      help: "Redis' maxmemory; 0 where there is none",
      aggregator: "max",
      registers,
    }),
    redisEvicts: new Gauge({
      name: "hubbub_redis_evicts",
      help: "Whether Redis deletes keys by itself when its memory is full (maxmemory-policy): 1 or 0",
      aggregator: "max",
      registers,
    }),
    securityEvents: new Counter({
      name: "hubbub_security_events_total",
      help: "Lines of the security log, those that were left out too, by event",
      labelNames: ["event"],
      registers,
    }),
  };
  // A counter that appears only with its first event would hide that event from an alert.
  for (const door of ["rest", "socket"]) {
    for (const code of ERROR_CODES) metrics.refusals.inc({ door, code }, 0);
  }
  for (const outcome of LOGIN_OUTCOMES) metrics.logins.inc({ outcome }, 0);
  for (const outcome of ["stored", "refused", "failed"]) metrics.uploads.inc({ outcome }, 0);
  for (const limit of [...Object.keys(RATES), ...Object.keys(QUEUES), "turn"])
    metrics.limitsHit.inc({ limit }, 0);
  for (const status of ["500", "503"]) metrics.httpRequests.inc({ route: "none", status }, 0);
  for (const kind of Object.keys(SHED)) metrics.sheds.inc({ kind }, 0);
  return metrics;
}

export type Metrics = ReturnType<typeof createMetrics>;

/** Whether a request's Authorization header carries METRICS_TOKEN, compared in constant time. */
export function hasToken(authorization: string | undefined, token: string): boolean {
  // RFC 9110, 11.1: the name of a scheme has no case.
  const [given, wanted] = [/^bearer +(.+)$/i.exec(authorization ?? "")?.[1] ?? "", token].map((text) =>
    createHash("sha256").update(text).digest(),
  );
  return token !== "" && timingSafeEqual(given as Buffer, wanted as Buffer);
}

export type MetricsServer = {
  /** For people: http://127.0.0.1:9464 */
  address: string;
  close: () => void;
};

/** Serves only `/metrics`, on METRICS_PORT. Throws one Error for people if it cannot. */
export async function serveMetrics(
  { metricsHost: host, metricsPort: port, metricsToken: token }: Config,
  text: () => Promise<string>,
  log: Logger,
): Promise<MetricsServer> {
  const server = createServer(
    { headersTimeout: 5_000, requestTimeout: 5_000, connectionsCheckingInterval: 2_000 },
    (request, response) => {
      const answer = (status: number, body: string, headers = {}) =>
        response.writeHead(status, { "Content-Type": "text/plain", ...headers }).end(body);
      if (request.method !== "GET" || request.url?.split("?")[0] !== "/metrics") {
        answer(404, "There is nothing here but /metrics.\n");
      } else if (token && !hasToken(request.headers.authorization, token)) {
        answer(401, "Send METRICS_TOKEN.\n", { "WWW-Authenticate": "Bearer" });
      } else {
        text().then(
          (figures) => answer(200, figures, { "Content-Type": METRICS_TYPE }),
          () => answer(503, "The figures cannot be told now.\n"),
        );
      }
    },
  );
  server.maxConnections = READERS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenFault(error, host, port ?? 0, "METRICS_")));
    server.listen(port, host, resolve);
  });
  const address = addressOf(host, (server.address() as AddressInfo).port);
  log.info({ address: `${address}/metrics` }, "metrics have a port of their own");
  return {
    address,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Merges metrics: sums, or the maximum for gauges that say so. */
export function addUp(figures: Figures[]): Registry {
  return AggregatorRegistry.aggregate(figures);
}

/** A worker's half of `/metrics`; workers.ts has the primary's. A worker has one replica. */
function speakForAll(registry: Registry): () => Promise<string> {
  const waiting = new Set<(text: string | null) => void>();
  const send = (message: ToPrimary) => {
    // If the primary is gone, the callback takes the error, which would otherwise be thrown.
    process.send?.(message, undefined, undefined, () => undefined);
  };
  process.on("message", (message: ToWorker) => {
    if (message.metrics === "ask")
      void registry.getMetricsAsJSON().then((figures) => send({ metrics: "figures", figures }));
    else if (message.metrics === "text") for (const resolve of waiting) resolve(message.text);
  });
  return async () => {
    const text = await new Promise<string | null>((resolve) => {
      const timer = setTimeout(() => answer(null), TEXT_MS);
      const answer = (given: string | null) => {
        clearTimeout(timer);
        waiting.delete(answer);
        resolve(given);
      };
      waiting.add(answer);
      send({ metrics: "want" });
    });
    // One worker's metrics in place of the merged ones would look like a restart.
    if (text === null) throw new ChatError("unavailable", "The other workers cannot be asked.", 1_000);
    return text;
  };
}
