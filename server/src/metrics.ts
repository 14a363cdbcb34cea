import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

/** What a replica counts about itself, as Prometheus text at `/metrics`. One set per replica, never global. */
export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "hubbub_" });
  const registers = [registry];
  return {
    registry,
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
      help: "Leases of dead replicas that this replica ended",
      registers,
    }),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
