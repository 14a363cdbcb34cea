import type { Logger } from "pino";
import { reasonOf, unlessWrongType } from "../errors.ts";
import type { Keys } from "../keys.ts";
import type { Metrics } from "../metrics.ts";
import { DELETED_NAME } from "../names.ts";
import {
  FILE_ID,
  LIMITS,
  USERNAME,
  USER_ID,
  type Presence as PresentUser,
  type User,
  type UserId,
} from "../protocol.ts";
import { defineScript, type RedisClient } from "../store/redis.ts";

/** Users whose presence changed, with who is online now. */
export type Edges = { online: UserId[]; offline: UserId[] };

const LEASE_MS = 20_000;
const RENEW_MS = 7_000;
const SWEEP_MS = 4_000;
const SWEEP_LEASES = 200;
/** How often the told state is compared with who is online. */
const LOOK_MS = 8_000;
/** How often the keys are compared with each other. Between two comparisons every lease that lives is renewed. */
const COMPARE_MS = 20_000;
/** A user who is back within this time, as after a reload, is not announced. */
const GRACE_MS = 1_500;
/** Leases that one script call touches. */
const CHUNK = 500;
/** presence.lua answers so many edges at once. */
const EDGES_AT_ONCE = 1_000;

type Parts = {
  redis: RedisClient;
  keys: Keys;
  serverId: string;
  metrics: Metrics;
  log: Logger;
  /** Gets the edges that this replica made. */
  changed: (edges: Edges) => Promise<void>;
  /** Regularly gets everybody who is online, and when (`performance.now()`) others last came or went. */
  looked: (online: UserId[], edges: ReadonlyMap<UserId, number>) => Promise<void>;
};

/**
 * Who is online, across tabs, replicas and crashes. A replica holds one lease for each user with a connection here and
 * renews it; a user is online while any lease lives. The set changes only with the first and the last lease, decided
 * in one script. The leases of a replica that died silently expire, and the others sweep them.
 */
export class Presence {
  readonly #keys: Keys;
  readonly #redis: RedisClient;
  readonly #serverId: string;
  readonly #metrics: Metrics;
  readonly #log: Logger;
  readonly #changed: Parts["changed"];
  readonly #looked: Parts["looked"];
  readonly #run: ReturnType<typeof defineScript>;
  readonly #here = new Set<UserId>();
  readonly #leaving = new Map<UserId, NodeJS.Timeout>();
  readonly #arrive = inOneTurn((ids) => void this.#attempt(() => this.#renew(ids)));
  readonly #depart = inOneTurn((ids) => void this.#attempt(() => this.#drop(ids)));
  #timers: NodeJS.Timeout[] = [];
  #lookedAt: number | undefined;
  /** Whether the keys contradicted each other when they were last compared. */
  #contradict = false;

  constructor({ redis, keys, serverId, metrics, log, changed, looked }: Parts) {
    this.#redis = redis;
    this.#keys = keys;
    this.#serverId = serverId;
    this.#metrics = metrics;
    this.#log = log;
    this.#changed = changed;
    this.#looked = looked;
    this.#run = defineScript(redis, "presence.lua");
  }

  start(): void {
    this.#timers = [
      setInterval(() => void this.#attempt(() => this.#renew([...this.#here])), RENEW_MS),
      setInterval(() => void this.#attempt(() => this.#sweep()), SWEEP_MS * (0.8 + Math.random() * 0.4)),
      setInterval(() => void this.#attempt(() => this.#look()), LOOK_MS),
      setInterval(() => void this.#attempt(() => this.#compare()), COMPARE_MS * (0.8 + Math.random() * 0.4)),
    ];
    void this.#attempt(() => this.#look());
  }

  /** The user's first connection to this replica opened. */
  enter(userId: UserId): void {
    clearTimeout(this.#leaving.get(userId));
    this.#leaving.delete(userId);
    if (this.#here.has(userId)) return;
    this.#here.add(userId);
    this.#arrive(userId);
  }

  /** The user's last connection to this replica closed. */
  leave(userId: UserId): void {
    const timer = setTimeout(() => {
      this.#leaving.delete(userId);
      this.#here.delete(userId);
      this.#depart(userId);
    }, GRACE_MS);
    timer.unref();
    this.#leaving.set(userId, timer);
  }

  /** Ends all leases of this replica. */
  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    for (const timer of this.#leaving.values()) clearTimeout(timer);
    const here = [...this.#here];
    this.#here.clear();
    await this.#attempt(() => this.#drop(here));
  }

  online(): Promise<UserId[]> {
    return unlessWrongType(this.#redis.smembers(this.#keys.online), []);
  }

  async areOnline(ids: readonly UserId[]): Promise<Set<UserId>> {
    if (ids.length === 0) return new Set();
    const flags = await unlessWrongType(this.#redis.smismember(this.#keys.online, ...ids), []);
    return new Set(ids.filter((_, index) => flags[index] === 1));
  }

  async #renew(ids: UserId[]): Promise<void> {
    for (let start = 0; start < ids.length; start += CHUNK) {
      // A user who left while an earlier chunk was under way must not come back.
      const present = ids.slice(start, start + CHUNK).filter((id) => this.#here.has(id));
      if (present.length > 0)
        await this.#tell({ online: await this.#call("renew", this.#serverId, present), offline: [] });
    }
  }

  async #drop(ids: UserId[]): Promise<void> {
    for (let start = 0; start < ids.length; start += CHUNK) {
      const gone = ids.slice(start, start + CHUNK).filter((id) => !this.#here.has(id));
      if (gone.length > 0)
        await this.#tell({ online: [], offline: await this.#call("drop", this.#serverId, gone) });
    }
  }

  async #sweep(): Promise<void> {
    const offline = await this.#call("sweep", String(SWEEP_LEASES), []);
    this.#metrics.swept.inc(offline.length);
    await this.#tell({ online: [], offline });
  }

  /** What was missed shows in two looks, so each one sees the edges since before the last. */
  async #look(): Promise<void> {
    const now = performance.now();
    const within = this.#lookedAt === undefined ? 0 : Math.ceil(now - this.#lookedAt) + 2 * LOOK_MS;
    const [online, edges] = await Promise.all([this.online(), this.#edges(within)]);
    this.#lookedAt = now;
    await this.#looked(online, edges);
  }

  async #edges(withinMs: number): Promise<Map<UserId, number>> {
    const edges = new Map<UserId, number>();
    for (let since = -withinMs, isMore = true; isMore;) {
      const asked = performance.now();
      const [now, ...found] = await unlessWrongType(this.#call("edges", String(since), []), []);
      for (let at = 0; at < found.length; at += 2)
        edges.set(found[at] ?? "", asked - Number(now) + Number(found[at + 1]));
      isMore = found.length === 2 * EDGES_AT_ONCE;
      const last = Number(found.at(-1));
      // Others may have come or gone in the same ms.
      since = last > since ? last : last + 1;
    }
    return edges;
  }

  /**
   * One of the keys may have been lost, or changed by another program. Live replicas renew their leases by themselves;
   * what nobody holds is found here.
   */
  async #compare(): Promise<void> {
    const { online, leases, leaseCount } = this.#keys;
    const all = this.#redis.multi().scard(online).zcard(leases).hvals(leaseCount);
    const [people, held, counts] = ((await all.exec()) ?? []).map(([error, answer]) => {
      if (error) throw error;
      return answer;
    }) as [number, number, string[]];
    const before = this.#contradict;
    this.#contradict =
      people !== counts.length || held !== counts.reduce((sum, count) => sum + Number(count), 0);
    if (before && this.#contradict) await this.#mend();
  }

  /** Counts all leases anew. Whoever has none goes offline. */
  async #mend(): Promise<void> {
    const { online, leases, leaseCount } = this.#keys;
    const [people, held, counted] = await Promise.all([
      this.#redis.smembers(online),
      this.#redis.zrange(leases, 0, "-1"),
      this.#redis.hkeys(leaseCount),
    ]);
    const split = held.map((lease) => /^([^|]+)\|(.*)$/s.exec(lease) ?? []);
    const servers = [...new Set(split.flatMap(([, , server]) => server ?? []))];
    const users = [...new Set([...people, ...counted, ...split.flatMap(([, user]) => user ?? [])])];
    const size = Math.max(1, Math.floor(CHUNK / Math.max(1, servers.length)));
    let offline = 0;
    for (let start = 0; start < users.length; start += size) {
      const gone = await this.#call("mend", String(servers.length), [
        ...servers,
        ...users.slice(start, start + size),
      ]);
      offline += gone.length;
      await this.#tell({ online: [], offline: gone });
    }
    this.#log.warn({ offline }, "presence did not agree with its leases, which were counted anew");
  }

  async #call(
    op: "renew" | "drop" | "sweep" | "mend" | "edges",
    who: string,
    ids: string[],
  ): Promise<UserId[]> {
    const { online, leases, leaseCount, edges } = this.#keys;
    const keys = [online, leases, leaseCount, edges];
    return (await this.#run(keys, [op, who, LEASE_MS, ...ids])) as UserId[];
  }

  async #tell(edges: Edges): Promise<void> {
    if (edges.online.length + edges.offline.length > 0) await this.#changed(edges);
  }

  /** Logs a failure: Redis may be away, and the next renewal repairs everything. */
  async #attempt(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.#log.warn({ reason: reasonOf(error) }, "presence not told");
    }
  }
}

/** Calls `run` once for all ids of one turn of the event loop. */
function inOneTurn(run: (ids: UserId[]) => void): (id: UserId) => void {
  let ids: UserId[] = [];
  return (id) => {
    if (ids.push(id) > 1) return;
    setImmediate(() => {
      const some = ids;
      ids = [];
      run(some);
    });
  };
}

/** presence.lua keeps edges for this long. */
const EDGES_KEPT_MS = 600_000;
/** Clients get at most one diff in this time. */
const DIFF_MS = 1_000;
/** Users of one diff: about 300 KB. One that is longer than a connection may leave unread would cut everybody. */
const DIFF_MOST = 2_000;

/**
 * Collects who came and went, and tells one list at a time. A user who came and went within one window is told with
 * the final state, though nothing changed: a client may have read the list of online users in between. If both lists
 * wait, they alternate.
 */
export class PresenceDiff {
  readonly #tell: (online: boolean, users: PresentUser[]) => void;
  readonly #busy: () => boolean;
  readonly #changed = new Map<UserId, PresentUser>();
  /** The users that local clients take to be online; null until the first look. */
  #told: Set<UserId> | null = null;
  /** When each user was last told, of those of the last minutes. */
  readonly #toldAt = new Map<UserId, number>();
  #firstLookAt = 0;
  /** What differed at the last look. */
  #doubted = new Map<UserId, boolean>();
  #turn = true;
  #lastAt = 0;
  #timer: NodeJS.Timeout | undefined;

  /** While `busy` answers true, nothing is told, and everything is kept for later. */
  constructor(tell: (online: boolean, users: PresentUser[]) => void, busy: () => boolean = () => false) {
    this.#tell = tell;
    this.#busy = busy;
  }

  add(online: boolean, users: User[]): void {
    for (const user of users) this.#changed.set(user.id, { ...user, online });
    if (!this.#timer && this.#changed.size > 0) {
      this.#timer = setTimeout(() => this.#flush(), Math.max(0, this.#lastAt + DIFF_MS - performance.now()));
    }
  }

  /**
   * Compares who is online with what was told, and answers what was missed. Announcements get lost with a script's
   * answer or with a subscription. A difference that is seen for the first time may only be under way.
   *
   * A user who went and came again unheard is told as well: a client may have read in between, from any replica, that
   * they were away.
   */
  missed(online: readonly UserId[], edges: ReadonlyMap<UserId, number>): Edges {
    if (this.#told === null) this.#firstLookAt = performance.now();
    const told = (this.#told ??= new Set(online));
    const now = new Set(online);
    const wrong = new Map<UserId, boolean>();
    for (const id of now) if (!told.has(id)) wrong.set(id, true);
    for (const id of told) if (!now.has(id)) wrong.set(id, false);
    for (const [id, at] of edges)
      if ((this.#toldAt.get(id) ?? this.#firstLookAt) < at) wrong.set(id, now.has(id));
    const sure = [...wrong].filter(
      ([id, isOnline]) => this.#doubted.get(id) === isOnline && !this.#changed.has(id),
    );
    this.#doubted = wrong;
    const old = performance.now() - EDGES_KEPT_MS;
    for (const [id, at] of this.#toldAt) if (at < old) this.#toldAt.delete(id);
    return {
      online: sure.flatMap(([id, isOnline]) => (isOnline ? [id] : [])),
      offline: sure.flatMap(([id, isOnline]) => (isOnline ? [] : [id])),
    };
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#changed.clear();
  }

  #flush(): void {
    this.#timer = this.#busy() ? setTimeout(() => this.#flush(), DIFF_MS) : undefined;
    if (this.#timer) return;
    const waiting = [...this.#changed.values()];
    const turn = waiting.filter((user) => user.online === this.#turn);
    const told = (turn.length > 0 ? turn : waiting).slice(0, DIFF_MOST);
    const now = performance.now();
    for (const { id, online } of told) {
      this.#changed.delete(id);
      this.#toldAt.set(id, now);
      if (online) this.#told?.add(id);
      else this.#told?.delete(id);
    }
    if (told[0]) {
      this.#lastAt = now;
      this.#tell(told[0].online, told);
      this.#turn = !told[0].online;
    }
    if (this.#changed.size > 0) this.#timer = setTimeout(() => this.#flush(), DIFF_MS);
  }
}

/** The users of an announcement, which anybody with access to Redis may have made; null if it is malformed. */
export function readUsers(data: unknown): User[] | null {
  const list: unknown[] = Array.isArray(data) ? data : [data];
  const users: User[] = [];
  for (const one of list) {
    const {
      id: given,
      username,
      displayName,
      avatar,
      deleted,
    } = (one ?? {}) as Partial<Record<string, unknown>>;
    const id = typeof given === "number" ? String(given) : given;
    if (typeof id !== "string" || !USER_ID.test(id)) return null;
    if (deleted === true && username === DELETED_NAME) {
      users.push({ id, username, deleted });
      continue;
    }
    if (typeof username !== "string" || !USERNAME.test(username)) return null;
    const isShown = typeof displayName === "string" && displayName.length <= LIMITS.displayName;
    const isPictured = typeof avatar === "string" && FILE_ID.test(avatar);
    users.push({ id, username, ...(isShown && { displayName }), ...(isPictured && { avatar }) });
  }
  return users;
}
