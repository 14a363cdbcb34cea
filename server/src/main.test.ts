import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { expect, it } from "vitest";
import {
  PATIENCE_MS,
  Browser,
  connect,
  isAlive,
  ownRedis,
  replicas,
  serverProcess,
  startWire,
  until,
  type Person,
} from "./testing.ts";
import type { User } from "./protocol.ts";

/** Letters that occur only in messages and passwords, so that any piece of either is found. */
const TEXT = "Ʃ".repeat(40);
const PASSWORD = "Ж".repeat(20);

type Pass = (chunk: string, from: "replica" | "redis") => string | null;

const unknown = (names: string) => new RegExp(`(\\*\\d+\\r\\n\\$\\d+\\r\\n(?:${names}))(?=\\r\\n)`, "gi");
/** Faults of a wire to Redis, in Latin-1. */
const FAULTS: Record<string, Pass> = {
  // Redis then quotes the arguments in its answer.
  "no command is known": (chunk, from) =>
    from === "redis" ? chunk : chunk.replaceAll(unknown("\\w+"), (name) => `${name.slice(0, -1)}X`),
  "no command that writes is known": (chunk, from) =>
    from === "redis"
      ? chunk
      : chunk.replaceAll(unknown("evalsha|hset|set"), (name) => `${name.slice(0, -1)}X`),
  "values are no JSON": (chunk, from) =>
    from === "redis"
      ? chunk.replaceAll('"message":"', '"message":x').replaceAll('"user":{', '"user":x')
      : chunk,
  "values are sent back as errors": (chunk, from) =>
    from === "redis" ? chunk.replaceAll(/^\$\d+\r\n(.*)\r\n/gm, "-ERR $1\r\n") : chunk,
  "answers begin in the middle": (chunk, from) => (from === "redis" ? chunk.slice(7) : chunk),
  "answers are noise": (chunk, from) => (from === "redis" ? chunk.replaceAll(/[$*:+]/g, "Æ") : chunk),
  "the wire is cut": () => null,
};

it(
  "logs at the finest level never hold a message, password, cookie or session id, whatever Redis answers",
  { timeout: 120_000 },
  async () => {
    const own = await ownRedis({ persistent: true });
    const admin = new Redis(own.url).on("error", () => undefined);
    let pass: Pass = (chunk) => chunk;
    let changed = 0;
    const wire = await startWire(own.url, (chunk, from) => {
      const read = chunk.toString("latin1");
      const written = pass(read, from);
      if (written !== read) changed += 1;
      return written === null ? null : Buffer.from(written, "latin1");
    });
    const house = await replicas(0, { REDIS_URL: own.url });
    house.redis.on("error", () => undefined);
    const server = await serverProcess({
      ...house.env,
      KEY_PREFIX: "",
      REDIS_URL: wire.url,
      LOG_LEVEL: "trace",
      RATE_LIMITS: "on",
    });
    const cookies = new Set<string>();
    let count = 0;
    const name = () => `n${(count += 1)}`;

    async function open(
      path: "users" | "login",
      username: string,
    ): Promise<{ browser: Browser; user: User }> {
      const browser = new Browser(server);
      const { body } = await browser.post<User>(`/api/${path}`, { username, password: PASSWORD });
      if (browser.cookie) cookies.add(browser.cookie);
      return { browser, user: body };
    }

    /** Runs everything that carries a secret to Redis or back, concurrently. */
    async function useAll(one: Person, other: Person, leaver: Browser): Promise<void> {
      const { user, browser, socket } = one;
      await Promise.allSettled([
        one.say("0", TEXT, name()),
        // Answered with the stored row.
        one.say("0", TEXT, "first"),
        one.say(`${user.id}:${other.user.id}`, TEXT, name()),
        socket.timeout(PATIENCE_MS).emitWithAck("sync", { rooms: [{ roomId: "0", seq: 0, date: 0 }] }),
        open("login", user.username),
        open("users", name()),
        browser.get("/api/me"),
        browser.get("/api/rooms"),
        browser.get("/api/rooms/0/messages"),
        browser.get("/api/rooms/0/transcript"),
        leaver.post("/api/logout"),
        connect(browser, user).then((window) => window.close()),
      ]);
    }

    try {
      const [left, right] = [await open("users", "one"), await open("users", "other")];
      /** Uses everything while `fault` is on, and again until all is well. */
      async function meet(fault: () => unknown, mend: () => unknown): Promise<void> {
        const { browser: leaver } = await open("login", "other");
        const [one, other] = [
          await connect(left.browser, left.user),
          await connect(right.browser, right.user),
        ];
        await one.say("0", TEXT, "first");
        const using = useAll(one, other, leaver);
        await fault();
        await Promise.all([using, useAll(one, other, leaver)]);
        await mend();
        await until(
          async () => {
            if ((await left.browser.get("/readyz")).status !== 200) return false;
            return (await left.browser.get("/api/me")).status === 200;
          },
          20_000,
          "all to be well",
        );
        one.close();
        other.close();
      }
      for (const fault of Object.values(FAULTS)) {
        const before = changed;
        await meet(
          () => (pass = fault),
          () => {
            pass = (chunk) => chunk;
            // Drops half-read answers.
            wire.cut();
          },
        );
        expect(changed).toBeGreaterThan(before);
      }
      for (const type of ["normal", "pubsub"]) {
        await meet(
          () => admin.call("CLIENT", "KILL", "TYPE", type),
          () => undefined,
        );
      }
      await meet(own.kill, own.start);
    } finally {
      await server.stop();
      admin.disconnect();
      house.redis.disconnect();
      await wire.close();
      await own.close();
    }
    const output = server.output();
    for (const evidence of ["redis did not do it", "unexpected error", "redis connection"])
      expect(output).toContain(evidence);
    // Of a cookie: the session id and the signature.
    expect(cookies.size).toBeGreaterThan(10);
    const words = [...cookies].flatMap((cookie) => cookie.replace("hubbub=s%3A", "").split("."));
    // A match of 10 letters is no coincidence.
    const pieces = words.flatMap((word) => [word.slice(0, 10), word.slice(-10)]);
    const secrets = ["Ʃ", "Æ©", "\\u01a9", "Ж", "Ð", "\\u0416", "$2b$", "sess:", ...pieces];
    const leaks = output.split("\n").filter((line) => secrets.some((secret) => line.includes(secret)));
    expect(leaks).toEqual([]);
    expect(await server.ended).toBe(0);
  },
);

it("an unhandled error ends the process with code 1 and is logged without the values that it carries", async () => {
  const house = await replicas(0);
  const failing = `const error = Object.assign(new Error("ERR ${TEXT}"), { command: { args: ["${TEXT}"] } });
    process.on("SIGUSR2", () => void Promise.reject(error));`;
  try {
    const server = await serverProcess({
      ...house.env,
      LOG_LEVEL: "info",
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(failing)}`,
    });
    process.kill(server.pid, "SIGUSR2");
    expect(await server.ended).toBe(1);
    expect(server.output()).toContain("ended by an error that nobody handled");
    expect(server.output()).not.toContain("Ʃ");
  } finally {
    await house.close();
  }
});

it("two replicas with one SERVER_ID say so, once, and a replica that has started anew under its own does not", async () => {
  const house = await replicas(0);
  const said = "another replica has this one's SERVER_ID";
  const start = () => serverProcess({ ...house.env, SERVER_ID: "one", LOG_LEVEL: "info" });
  try {
    const first = await start();
    expect(await first.stop()).toBe(0);
    const two = await Promise.all([start(), start()]);
    await until(() => two.every((one) => one.output().includes(said)), PATIENCE_MS, "both to say it");
    const [left, right] = two;
    expect(await left.stop()).toBe(0);
    // The other one stays alone for some heartbeats.
    await sleep(5_000);
    expect(await right.stop()).toBe(0);
    expect([first, left, right].map((one) => one.output().split(said).length - 1)).toEqual([0, 1, 1]);
  } finally {
    await house.close();
  }
});

it.each(["1", "2"])(
  "a signal at the very moment when it says that it listens drains it, with WORKERS=%s",
  async (workers) => {
    const house = await replicas(0);
    const hasty = `const write = process.stdout.write;
    process.stdout.write = function (text, ...rest) {
      const written = write.call(this, text, ...rest);
      if (String(text).startsWith("Hubbub listens")) process.kill(process.pid, "SIGTERM");
      return written;
    };`;
    try {
      const server = await serverProcess({
        ...house.env,
        WORKERS: workers,
        NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(hasty)}`,
      });
      expect(await server.ended).toBe(0);
    } finally {
      await house.close();
    }
  },
);

it("a signal during the start of several workers ends them all, and the primary after them", async () => {
  const house = await replicas(0);
  const hasty = `import cluster from "node:cluster";
    cluster.on("fork", (worker) => console.log("worker " + worker.process.pid));
    let count = 0;
    cluster.on("online", () => (count += 1) === 3 && process.kill(process.pid, "SIGTERM"));`;
  const server = serverProcess({
    ...house.env,
    WORKERS: "3",
    NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(hasty)}`,
  });
  try {
    const said = await server.then(() => "it listens", String);
    expect(said).toMatch(/ended with 0: /);
    expect(said).not.toMatch(/^ +at /m);
    const workers = [...said.matchAll(/worker (\d+)$/gm)].map(([, pid]) => Number(pid));
    expect(workers.length).toBe(3);
    expect(workers.filter(isAlive)).toEqual([]);
  } finally {
    await house.close();
  }
});

it("the young generation of the heap stays small, also once a password was hashed in a thread", async () => {
  const house = await replicas(0);
  const weighing = `import { getHeapSpaceStatistics } from "node:v8";
    process.on("SIGUSR2", () => {
      const kept = new Set();
      for (let made = 0; made < 3e6; made += 1) {
        kept.add({ made });
        if (kept.size > 1e5) kept.clear();
      }
      const { space_size } = getHeapSpaceStatistics().find((space) => space.space_name === "new_space");
      console.log("young " + space_size);
    });`;
  const server = await serverProcess({
    ...house.env,
    NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(weighing)}`,
  });
  const sizes = () => [...server.output().matchAll(/^young (\d+)$/gm)].map(([, size]) => Number(size));
  try {
    process.kill(server.pid, "SIGUSR2");
    await until(() => sizes().length === 1);
    await new Browser(server).post("/api/users", { username: "ann", password: PASSWORD });
    process.kill(server.pid, "SIGUSR2");
    await until(() => sizes().length === 2);
    // Grown, it has 32 MB.
    expect(Math.max(...sizes())).toBeLessThan(8e6);
  } finally {
    await server.stop();
    await house.close();
  }
});

it("a small heap is collected only after 10 MB and more, and a large one when it has grown by a fifth", async () => {
  const house = await replicas(0);
  // Each object lives long enough to come into the old generation.
  const weighing = `import { PerformanceObserver, constants } from "node:perf_hooks";
    import { getHeapStatistics } from "node:v8";
    const live = [], ring = [];
    const used = () => getHeapStatistics().used_heap_size / 1e6;
    let collected = 0;
    new PerformanceObserver((list) => {
      const isMajor = ({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
      collected += list.getEntries().filter(isMajor).length;
    }).observe({ entryTypes: ["gc"] });
    process.on("SIGUSR2", async () => {
      let least = Infinity, most = 0, held = Infinity;
      setTimeout(() => (held = collected), 1_500);
      for (let made = 0; collected < held + 3; made += 1) {
        ring[made % 5e4] = { made };
        if (made % 1e4) continue;
        await new Promise((done) => setTimeout(done, 1));
        // The first collection comes at a limit that was set before.
        if (collected <= held) continue;
        least = Math.min(least, used());
        most = Math.max(most, used());
      }
      console.log("grown " + least + " " + most);
      for (let count = 0; count < 2e6; count += 1) live.push({ count, text: "" + count });
    });`;
  const server = await serverProcess({
    ...house.env,
    NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(weighing)}`,
  });
  const sizes = () =>
    [...server.output().matchAll(/^grown ([\d.]+) ([\d.]+)$/gm)].map(([, ...both]) => both.map(Number));
  try {
    for (const times of [1, 2]) {
      process.kill(server.pid, "SIGUSR2");
      await until(() => sizes().length === times, 60_000);
    }
    const [[small = 0, smallMost = 0] = [], [large = 0, largeMost = 0] = []] = sizes();
    expect(small).toBeLessThan(60);
    expect(smallMost - small).toBeGreaterThan(10);
    expect(large).toBeGreaterThan(150);
    expect(largeMost / large).toBeLessThan(1.35);
  } finally {
    await server.stop();
    await house.close();
  }
});

it("a start says that the store of files cannot be used, and what to set, and the chat works", async () => {
  const own = await ownRedis({ persistent: false });
  const house = await replicas(0, { REDIS_URL: own.url, LOG_LEVEL: "warn", CLIENT_DIR: "off" });
  const server = await serverProcess({ ...house.env, PORT: "0", FILES_URL: "file:/dev/null/files" });
  try {
    const told = await until(
      () =>
        server
          .output()
          .split("\n")
          .find((line) => line.includes('"about":"files"')),
      PATIENCE_MS,
      "a word about the store",
    );
    expect(JSON.parse(told)).toMatchObject({
      level: 40,
      msg: expect.stringContaining("/dev/null/files: ENOTDIR") as string,
      cure: expect.stringContaining("FILES_URL") as string,
    });
    const answer = await new Browser(server).post("/api/users", { username: "ann", password: PASSWORD });
    expect(answer.status).toBe(201);
  } finally {
    await server.stop();
    await house.close();
    await own.close();
  }
});

it("a refusal by Redis at the start is reported by its code, without what it quotes", async () => {
  // The first write is a room's name; the session secret would be among the next.
  const own = await ownRedis({ persistent: false, args: ['rename-command SET ""'] });
  const house = await replicas(0, { REDIS_URL: own.url });
  try {
    await expect(serverProcess(house.env)).rejects.toThrow(
      /^ended with 69: Redis refuses: ERR unknown command\n$/,
    );
  } finally {
    await house.close();
    await own.close();
  }
});

it(
  "connections beyond the limit of open files are refused and logged, and open ones work on",
  { timeout: 120_000 },
  async () => {
    const own = await ownRedis({ persistent: true });
    const house = await replicas(0, { REDIS_URL: own.url, LOG_LEVEL: "warn", CLIENT_DIR: "off" });
    house.redis.on("error", () => undefined);
    const server = await serverProcess({ ...house.env, PORT: "0" }, 200);
    const sockets: Socket[] = [];
    try {
      const browser = new Browser(server);
      const user = (await browser.post<User>("/api/users", { username: "ann", password: PASSWORD })).body;
      const ann = await connect(browser, user);
      const { hostname, port } = new URL(server.address);
      let closed = 0;
      const dial = async () => {
        const socket = createConnection(Number(port), hostname);
        sockets.push(socket);
        socket.on("error", () => undefined).on("close", () => (closed += 1));
        await once(socket, "connect");
      };
      for (let count = 0; count < 180; count += 1) await dial();
      await until(() => closed >= 180 - 136);
      expect(closed).toBeLessThan(180 - 130);
      expect(server.output()).toMatch(
        /"event":"connection\.limited","address":"127\.0\.0\.1","what":"files"/,
      );
      await ann.say("0", "still here");
      // Enough files are left to reconnect to Redis.
      await own.kill();
      await own.start();
      await until(
        () =>
          ann.say("0", "again").then(
            () => true,
            () => false,
          ),
        15_000,
      );
      for (const socket of sockets) socket.destroy();
      await until(
        () =>
          fetch(`${server.address}/readyz`).then(
            ({ status }) => status === 200,
            () => false,
          ),
        15_000,
      );
      ann.close();
    } finally {
      for (const socket of sockets) socket.destroy();
      await server.stop();
      await house.close().catch(() => undefined);
      await own.close();
    }
  },
);
