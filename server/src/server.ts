import cluster from "node:cluster";
import type { Server as HttpServer, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { Chat } from "./chat/chat.ts";
import { Presence, PresenceDiff, readUsers, type Edges } from "./live/presence.ts";
import { isRecord } from "./store/json.ts";
import { Log } from "./store/log.ts";
import { Marks } from "./store/marks.ts";
import { Members } from "./store/members.ts";
import { keepMoving } from "./store/move.ts";
import { Rooms } from "./store/rooms.ts";
import { Audit } from "./store/audit.ts";
import { createBlobs, STORE_CURE, tryStore } from "./store/blobs.ts";
import { Files } from "./store/files.ts";
import { createCounterCheck } from "./store/ids.ts";
import { Invites } from "./store/invites.ts";
import { Reports } from "./store/reports.ts";
import { SessionList } from "./store/sessions.ts";
import { Settings } from "./store/settings.ts";
import { Staff } from "./store/staff.ts";
import { Collector } from "./chat/collector.ts";
import { Images } from "./chat/images.ts";
import { Users } from "./chat/users.ts";
import { checkRedis, checkState, connectionsMost, heed } from "./store/checks.ts";
import { addressOf, listenFault, type Config } from "./config.ts";
import { Delivery } from "./live/delivery.ts";
import { createIdentity } from "./doors/identity.ts";
import { createOrigins } from "./doors/origin.ts";
import { createRest } from "./doors/rest.ts";
import { createSessions } from "./doors/session.ts";
import { SocketDoor } from "./doors/socket.ts";
import { createThrottle } from "./doors/throttle.ts";
import { createHttpServer, type Capacity } from "./doors/transport.ts";
import { ChatError, reasonOf, wordsOf } from "./errors.ts";
import { createKeys } from "./keys.ts";
import { Load } from "./load.ts";
import { createMetrics, serveMetrics, type MetricsServer } from "./metrics.ts";
import { USER_ID, isRoomId, type Credentials, type UserId } from "./protocol.ts";
import { connectRedis, guardMessages, type RedisClient } from "./store/redis.ts";
import { watchRedis } from "./store/redisFigures.ts";
import { RedisHealth } from "./store/redisHealth.ts";
import { Relay } from "./live/relay.ts";
import { checkRights } from "./store/rights.ts";
import { checkSchema } from "./store/schema.ts";
import { createSecurity } from "./security.ts";

export type Replica = {
  port: number;
  /** For people: http://127.0.0.1:3000 */
  address: string;
  /** The address of METRICS_PORT; undefined without it. */
  metricsAddress: string | undefined;
  /** Hands connections over, ends leases, disconnects from Redis: the start in reverse. */
  close: () => Promise<void>;
};

const NOTICE_MS = 3_000;
/** How long the end of a replica waits for the trial of its store. */
const TRIAL_MS = 2_000;
/**
 * The accept backlog, as far as the system allows it. When thousands reconnect at once, a connection without a place
 * retries after 1, 3, 7 and more seconds.
 */
const BACKLOG = 4_096;
/** How often a stopping server closes idle keep-alive connections, any of which would hold it open. */
const IDLE_SWEEP_MS = 100;

/** Timeouts of connections, in ms. SECURITY.md promises them. */
export const HTTP_TIMES = {
  /** From the first byte, or from the connection if none comes, to the end of the headers. */
  headersTimeout: 10_000,
  /** To the end of the body. */
  requestTimeout: 30_000,
  /** How often the two are checked: Node's default of 30 s would turn 10 s into 40. */
  connectionsCheckingInterval: 1_000,
  /** Longer than a load balancer keeps an idle connection, so that it never sends into a closing one. */
  keepAliveTimeout: 65_000,
  /**
   * Without a byte in either direction, as for an unread answer; noticed after once to twice this time. Long-polling
   * has one every 25 s.
   */
  timeout: 30_000,
};

export function createHttp(
  threw: (error: unknown) => void,
  { timeout, ...times } = HTTP_TIMES,
  capacity?: Capacity,
): HttpServer {
  return createHttpServer(times, threw, capacity).setTimeout(timeout);
}

/** Starts one replica. Throws one Error with a line for people if it cannot, and leaves nothing behind. */
export async function startServer(config: Config, log: Logger): Promise<Replica> {
  const keys = createKeys(config.keyPrefix);
  const metrics = createMetrics();
  const security = createSecurity(metrics, log);
  const clients: RedisClient[] = [];
  let figures: MetricsServer | undefined;
  let unwatch: (() => void) | undefined;
  let stopMoving: (() => void) | undefined;
  const load = new Load(config, metrics, security);
  const http = createHttp((error) => security.contain("request", error), HTTP_TIMES, {
    most: connectionsMost(),
    refused: (address) => security.note("connection.limited", { address, what: "files" }),
  });
  try {
    const connect = async (purpose: Parameters<typeof connectRedis>[1]) => {
      const client = await connectRedis(config.redisUrl, purpose, log);
      clients.push(client);
      return client;
    };
    const commands = await connect("commands");
    // First of all: without them the others fail, and do not say why.
    heed(await checkRights(commands, config, keys), log);
    const found = await checkRedis(commands, config, keys);
    heed(found, log);
    const schema = await checkSchema(commands, keys);
    const checkCounters = createCounterCheck(commands, keys);
    await checkCounters();
    const storing = config.waitReplicas > 0 ? await connect("commands") : commands;
    unwatch = watchRedis([...new Set([commands, storing])], metrics);
    // The adapter shares it: the relay's heartbeat watches over both.
    const subscriber = await connect("subscriptions");
    guardMessages(subscriber, (error) => security.contain("announcement", error));
    const health = new RedisHealth(
      commands,
      subscriber,
      metrics,
      log,
      async () => {
        const rights = await checkRights(commands, config, keys);
        if (rights.length > 0) return rights;
        await checkCounters();
        await rooms.noteOlder();
        return [...(await checkState(commands, config, keys)), ...(await marks.check())];
      },
      found,
    );

    const users = new Users(commands, keys, config);
    subscriber.on("ready", () => users.forgetAll());
    const settings = new Settings(commands, keys, config);
    const members = new Members(commands, keys, config, schema);
    if (schema.mixed) await members.move();
    const rooms = new Rooms(commands, keys, members);
    const messages = new Log(commands, keys, config, schema, storing);
    await rooms.nameGeneral();
    await rooms.noteOlder();

    const delivery: Delivery = new Delivery({
      config,
      metrics,
      security,
      log,
      emptied: (roomId) => relay.release(roomId),
    });
    const diff = new PresenceDiff(
      (online, changed) => delivery.toAll(online ? "user.connected" : "user.disconnected", changed),
      () => load.sheds("presence"),
    );
    const relay = new Relay({
      config,
      keys,
      commands,
      subscriber,
      metrics,
      log,
      messages,
      members,
      delivery,
      changed: (roomId) => door.tellRoom(roomId),
      standing: (roomId, userId) => door.tellStanding(roomId, userId),
      returned: (userId) => door.look(userId),
      heard: (type, data) => {
        if (type === "account") return void lookAt(data);
        if (type === "room") return tellOfRoom(data);
        if (type === "settings") return settings.forget();
        const changed = readUsers(data);
        if (changed && type === "user.connected") diff.add(true, changed);
        else if (changed && type === "user.disconnected") diff.add(false, changed);
        else metrics.malformed.inc();
      },
    });
    const presence = new Presence({
      redis: commands,
      keys,
      serverId: config.serverId,
      metrics,
      log,
      changed: announceEdges,
      looked: async (online, edges) => {
        const missed = diff.missed(online, edges);
        diff.add(true, await users.find(missed.online));
        diff.add(false, await users.find(missed.offline));
      },
    });

    async function announceAccount(userId: UserId): Promise<void> {
      // What it says is stored, and found by the next check.
      await relay.publish("account", { userId }).catch((error: unknown) => {
        log.warn({ reason: reasonOf(error) }, "a changed account is not announced");
      });
    }

    /** An account has another name, or may do less than before: its names are read anew, its connections checked. */
    async function lookAt(data: unknown): Promise<void> {
      const userId = readUserId(data);
      if (userId === null) return metrics.malformed.inc();
      users.forget(userId);
      door.look(userId);
      try {
        const online = await presence.areOnline([userId]);
        const named = await users.find([...online]);
        diff.add(
          true,
          named.filter(({ deleted }) => deleted === undefined),
        );
      } catch (error) {
        log.warn({ reason: reasonOf(error) }, "a new name is not told");
      }
    }

    /** The operator has changed a room from a shell: each replica tells its own people. */
    function tellOfRoom(data: unknown): void {
      const roomId = isRecord(data) ? data["roomId"] : undefined;
      if (isRoomId(roomId)) door.tellRoom(roomId);
      else metrics.malformed.inc();
    }

    async function announceEdges(edges: Edges): Promise<void> {
      try {
        for (const online of [true, false]) {
          const changed = await users.find(online ? edges.online : edges.offline);
          if (changed.length === 0) continue;
          await relay.publish(
            online ? "user.connected" : "user.disconnected",
            changed.map((user) => ({ ...user, online })),
          );
        }
      } catch (error) {
        log.warn({ reason: reasonOf(error) }, "presence not announced");
      }
    }

    const sessions = await createSessions(config, commands, keys, log);
    const marks = new Marks({ redis: commands, keys, schema, settings, secret: sessions.secret });
    // From now on it knows whether there is an owner.
    await settings.keep();
    await settings.hasLostOwner();
    const origins = createOrigins(config, security, log);
    const throttle = createThrottle(config, commands, keys, metrics);
    const ended = (sid: string): void => door.announce.endSession(sid);
    const identity = createIdentity({ config, users, sessions, origins, throttle, security, ended });
    const door: SocketDoor = new SocketDoor({
      config,
      keys,
      commands,
      subscriber,
      http,
      identity,
      sessions,
      delivery,
      relay,
      throttle,
      metrics,
      load,
      security,
      log,
    });
    const files = new Files(commands, keys);
    const blobs = createBlobs(config.files.address, config.files.spool);
    const collector = new Collector({ files, blobs, users, log });
    const images = new Images(config.files);
    const chat = new Chat({
      config,
      users,
      staff: new Staff(commands, keys),
      settings,
      sessions: new SessionList(commands, keys, config),
      rooms,
      members,
      messages,
      files,
      blobs,
      images,
      collector,
      invites: new Invites(commands, keys),
      reports: new Reports(commands, keys),
      audit: new Audit(commands, keys),
      presence,
      announce: door.announce,
      changed: (userId) => announceAccount(userId),
      metrics,
      log,
    });

    stopMoving = keepMoving(
      { redis: commands, keys, schema, members },
      () => relay.olderSilentMs,
      (error) => log.warn({ reason: reasonOf(error) }, "what is stored is not moved yet"),
    );

    let draining = false;
    const answers = new Set<ServerResponse>();
    http.on("request", (_request, response) => {
      answers.add(response);
      response.once("close", () => answers.delete(response));
    });
    http.on(
      "request",
      createRest({
        config,
        chat,
        identity,
        sessions,
        throttle,
        metrics,
        load,
        security,
        log,
        ended,
        ready: async () => {
          if (draining) throw new ChatError("unavailable", "This replica is stopping.", 1_000);
          if (load.isOverloaded)
            throw new ChatError("unavailable", "This replica has too much to do.", 1_000);
          return health.ready();
        },
        demo: async () =>
          config.demo ? (JSON.parse((await commands.get(keys.demo)) ?? "[]") as Credentials[]) : [],
      }),
    );

    // Workers use their primary's.
    if (config.metricsPort !== undefined && cluster.isPrimary)
      figures = await serveMetrics(config, metrics.text, log);
    await relay.start();
    health.start();
    load.start();
    presence.start();
    collector.start(() => chat.accounts.resume());
    // The chat works without it, and it may come back.
    const trial = tryStore(blobs).catch((error: unknown) => {
      log.warn({ about: "files", cure: STORE_CURE }, wordsOf(error));
    });
    door.open(chat);
    const port = await listen(http, config, log).catch(async (error: unknown) => {
      await close();
      throw error;
    });

    let closed: Promise<void> | undefined;
    async function close(): Promise<void> {
      draining = true;
      // Load balancers must see it on /readyz before anything is refused.
      const noticeMs = Math.min(config.drainMs / 4, NOTICE_MS);
      await sleep(noticeMs);
      const idle = setInterval(() => http.closeIdleConnections(), IDLE_SWEEP_MS);
      await door.close(config.drainMs - noticeMs, () => [...answers].some(({ headersSent }) => headersSent));
      clearInterval(idle);
      http.closeAllConnections();
      stopMoving?.();
      collector.close();
      images.close();
      // Whoever waits for the end may remove the folder.
      await Promise.race([trial, sleep(TRIAL_MS, undefined, { ref: false })]);
      await presence.close();
      diff.close();
      relay.close();
      health.close();
      load.close();
      security.close();
      figures?.close();
      unwatch?.();
      for (const client of clients) client.disconnect();
    }
    return {
      port,
      address: addressOf(config.host, port),
      metricsAddress: figures?.address,
      close: () => (closed ??= close()),
    };
  } catch (error) {
    stopMoving?.();
    figures?.close();
    unwatch?.();
    for (const client of clients) client.disconnect();
    http.close();
    throw error;
  }
}

/** Whose account an announcement is about; null if it is malformed. */
function readUserId(data: unknown): UserId | null {
  const userId = isRecord(data) ? data["userId"] : undefined;
  return typeof userId === "string" && USER_ID.test(userId) ? userId : null;
}

function listen(http: HttpServer, { host, port }: Config, log: Logger): Promise<number> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => reject(listenFault(error, host, port));
    http.once("error", failed);
    http.listen({ port, host, backlog: BACKLOG }, () => {
      // From now on one is about a connection that the system could not give us, and those that are open work on.
      http.off("error", failed).on("error", (error) => {
        log.warn({ reason: reasonOf(error) }, "a connection could not be accepted");
      });
      resolve((http.address() as AddressInfo).port);
    });
  });
}
