import { rmSync } from "node:fs";
import { Redis } from "ioredis";
import { pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import { readConfig } from "../config.ts";
import { startServer } from "../server.ts";
import {
  PATIENCE_MS,
  both,
  ownRedis,
  person,
  replicas,
  startWire,
  until,
  type OwnRedis,
} from "../testing.ts";

/** A replica on a Redis of its own, and that Redis' operator. */
async function apart(args: string[] = [], env: Record<string, string> = {}) {
  const own = await ownRedis({ persistent: false, args });
  const house = await replicas(1, { REDIS_URL: own.url, ...env });
  const admin = new Redis(own.url);
  admin.on("error", () => undefined);
  house.redis.on("error", () => undefined);
  onTestFinished(async () => {
    await house.close().catch(() => undefined);
    admin.disconnect();
    await own.close();
  });
  return { own, house, admin, ready: () => readyOf(house.replicas[0]?.address) };
}

/** The status and body of /readyz. */
async function readyOf(address = ""): Promise<string> {
  const response = await fetch(`${address}/readyz`);
  const { message = "", warnings = [] } = (await response.json()) as {
    message?: string;
    warnings?: string[];
  };
  return [response.status, message, ...warnings].filter(Boolean).join(" ");
}

describe("/readyz while Redis answers, but takes no writes", () => {
  it.each([
    [
      "readonly",
      "503 Redis takes no writes: readonly.",
      ["REPLICAOF", "127.0.0.1", "1"],
      ["REPLICAOF", "NO", "ONE"],
    ],
    [
      "full",
      "503 Redis takes no writes: out of memory.",
      ["CONFIG", "SET", "maxmemory", "100kb"],
      ["CONFIG", "SET", "maxmemory", "0"],
    ],
    [
      "without its replicas",
      "503 Redis takes no writes: no replicas.",
      ["CONFIG", "SET", "min-replicas-to-write", "1"],
      ["CONFIG", "SET", "min-replicas-to-write", "0"],
    ],
  ])("reports that it is %s, and recovers by itself soon after", async (_, words, break_, mend) => {
    const {
      house: {
        replicas: [replica],
        keys,
      },
      admin,
      ready,
    } = await apart();
    if (!replica) throw new Error("no replica");
    const ann = await person(replica);
    await ann.say("0", "before");
    expect(await ready()).toBe("200");
    const [command = "", ...args] = break_;
    await admin.call(command, ...args);
    await until(async () => (await ready()) === words, PATIENCE_MS, words);
    await expect(ann.say("0", "meanwhile")).rejects.toThrow("unavailable");
    const rows = await admin.zcard(keys.room("0"));
    expect(await ready()).toBe(words);
    expect(await admin.zcard(keys.room("0"))).toBe(rows);
    const [again = "", ...more] = mend;
    await admin.call(again, ...more);
    await until(async () => (await ready()) === "200", PATIENCE_MS, "readiness");
    await until(() => ann.say("0", "after", "once").catch(() => null), PATIENCE_MS, "a message to be stored");
    await ann.hears("after");
    ann.close();
  });

  it("reports that it cannot save", async () => {
    const { own, admin, ready } = await apart(["save 1 1", "stop-writes-on-bgsave-error yes"]);
    rmSync(String((await admin.config("GET", "dir"))[1]), { recursive: true });
    await admin.set("k", "v");
    await admin.bgsave().catch(() => undefined);
    await until(async () => (await ready()) === "503 Redis takes no writes: misconf.", PATIENCE_MS);
    await admin.config("SET", "stop-writes-on-bgsave-error", "no");
    // By now a check may have found that it could not save, which is a warning.
    await until(async () => (await ready()).startsWith("200"), PATIENCE_MS);
    expect(own.url).toBeTruthy();
  });

  it("reports that it wants another password", async () => {
    const { admin, ready } = await apart();
    await admin.config("SET", "requirepass", "another");
    for (const type of ["normal", "pubsub"]) await admin.call("CLIENT", "KILL", "TYPE", type);
    await until(async () => (await ready()) === "503 Redis takes no writes: user or password is wrong.");
    await admin.config("SET", "requirepass", "");
    await until(async () => (await ready()) === "200");
  });

  it("reports that its user may run no scripts any more, and a start is refused that may run none", async () => {
    const { own, admin, ready } = await apart();
    await admin.call("ACL", "SETUSER", "default", "-eval", "-evalsha");
    await until(async () => (await ready()) === "503 Redis takes no writes: no right to run scripts.");
    const config = readConfig({ REDIS_URL: own.url, PORT: "0", CLIENT_DIR: "off" });
    await expect(startServer(config, pino({ level: "silent" }))).rejects.toThrow(
      /not use \+eval: .*ACL SETUSER/,
    );
    await admin.call("ACL", "SETUSER", "default", "+eval", "+evalsha");
    await until(async () => (await ready()) === "200", PATIENCE_MS);
  });

  it("reports that it is away, and that it is loading", async () => {
    const own = await ownRedis({ persistent: true, args: ["key-load-delay 500"] });
    const house = await replicas(1, { REDIS_URL: own.url });
    house.redis.on("error", () => undefined);
    onTestFinished(async () => {
      await house.close().catch(() => undefined);
      await own.close();
    });
    const ready = () => readyOf(house.replicas[0]?.address);
    await house.redis.eval("for key = 1, 6000 do redis.call('SET', 'key' .. key, 'x') end", 0);
    await own.kill();
    await until(async () => (await ready()) === "503 Redis does not answer.");
    const started = own.start();
    await until(async () => (await ready()) === "503 Redis takes no writes: loading.", PATIENCE_MS);
    await started;
    await until(async () => (await ready()) === "200", PATIENCE_MS);
  });
});

/** Two Redises with the same data behind one address, the first as primary, and a function that swaps their roles. */
async function pair(): Promise<{ url: string; failOver: () => Promise<void>; close: () => Promise<void> }> {
  const redises = [await ownRedis({ persistent: false }), await ownRedis({ persistent: false })] as const;
  const [left, right] = redises.map(({ url }) => new Redis(url)) as [Redis, Redis];
  const port = (own: OwnRedis) => new URL(own.url).port;
  await right.replicaof("127.0.0.1", port(redises[0]));
  await until(async () => (await right.info("replication")).includes("master_link_status:up"), PATIENCE_MS);
  let target = redises[0].url;
  const wire = await startWire(() => target);
  return {
    url: wire.url,
    failOver: async () => {
      await left.wait(1, 5_000);
      await right.replicaof("NO", "ONE");
      await left.replicaof("127.0.0.1", port(redises[1]));
      // Open connections stay open, and now lead to a replica.
      target = redises[1].url;
    },
    close: async () => {
      left.disconnect();
      right.disconnect();
      await wire.close();
      await Promise.all(redises.map((own) => own.close()));
    },
  };
}

describe("a primary behind one address that becomes a replica while connections to it stay open", () => {
  it("is left by all replicas for the new primary, automatically, and nothing is lost or doubled", async () => {
    const redis = await pair();
    const house = await replicas(2, { REDIS_URL: redis.url });
    house.redis.on("error", () => undefined);
    onTestFinished(async () => {
      await Promise.all(house.replicas.map((replica) => replica.close()));
      house.redis.disconnect();
      await redis.close();
    });
    const [left, right] = both(house);
    const [ann, bob] = [await person(left), await person(right)];
    await ann.say("0", "before");
    await bob.hears("before");
    await redis.failOver();
    const stored = await until(
      () => ann.say("0", "after", "once").catch(() => null),
      10_000,
      "a message to be stored",
    );
    expect(stored.seq).toBe(2);
    await bob.hears("after", PATIENCE_MS);
    // His replica may not have noticed yet.
    await until(
      () => bob.say("0", "and back", "twice").catch(() => null),
      10_000,
      "another one to be stored",
    );
    await ann.hears("and back", PATIENCE_MS);
    await until(
      async () => (await readyOf(left.address)) === "200" && (await readyOf(right.address)) === "200",
    );
    expect(bob.messages.map(({ seq, message }) => `${seq} ${message}`)).toEqual([
      "1 before",
      "2 after",
      "3 and back",
    ]);
    ann.close();
    bob.close();
  });

  it("is left even if nobody writes: readiness returns by itself", async () => {
    const redis = await pair();
    const house = await replicas(1, { REDIS_URL: redis.url });
    house.redis.on("error", () => undefined);
    onTestFinished(async () => {
      await Promise.all(house.replicas.map((replica) => replica.close()));
      house.redis.disconnect();
      await redis.close();
    });
    const ready = () => readyOf(house.replicas[0]?.address);
    expect(await ready()).toBe("200");
    await redis.failOver();
    // A request of that moment may have been answered "readonly".
    await until(async () => (await ready()) === "200", PATIENCE_MS);
  });
});

describe("a Redis that deletes keys by itself", () => {
  const start = (env: Record<string, string>) =>
    startServer(
      readConfig({ PORT: "0", CLIENT_DIR: "off", LOG_LEVEL: "silent", DRAIN: "0", ...env }),
      pino({ level: "silent" }),
    );

  it("is refused in production, and only there, if the keys may be accounts and messages", async () => {
    const own = await ownRedis({ persistent: true, args: ["maxmemory-policy allkeys-lru"] });
    onTestFinished(() => own.close());
    await expect(start({ REDIS_URL: own.url, NODE_ENV: "production" })).rejects.toThrow(
      /deletes accounts.*maxmemory-policy allkeys-lru.*noeviction/,
    );
    const replica = await start({ REDIS_URL: own.url });
    onTestFinished(() => replica.close());
    await until(async () => (await readyOf(replica.address)).includes("allkeys-lru"));
  });

  it("is accepted in production with a warning if the keys are sessions only", async () => {
    const own = await ownRedis({ persistent: true, args: ["maxmemory-policy volatile-ttl"] });
    onTestFinished(() => own.close());
    const replica = await start({ REDIS_URL: own.url, NODE_ENV: "production" });
    onTestFinished(() => replica.close());
    await until(async () => /^200 Redis ends sessions.*volatile-ttl/.test(await readyOf(replica.address)));
  });

  it("is reported on /readyz, which stays 200, from when it begins until it stops", async () => {
    const { admin, ready } = await apart();
    expect(await ready()).toBe("200");
    await admin.config("SET", "maxmemory-policy", "allkeys-random");
    await until(async () => /^200 Redis deletes accounts.*allkeys-random/.test(await ready()), PATIENCE_MS);
    await admin.config("SET", "maxmemory-policy", "noeviction");
    await until(async () => (await ready()) === "200", PATIENCE_MS);
  });
});

describe("what a start checks is checked again while a server runs:", () => {
  /** A replica in production on a Redis of its own, with the lines of its log, and an operator with a user of their own. */
  async function inProduction() {
    const own = await ownRedis({ persistent: true, args: ["user root on >root ~* &* +@all"] });
    const lines: { level: number; about?: string; msg: string }[] = [];
    const replica = await startServer(
      readConfig({ REDIS_URL: own.url, PORT: "0", CLIENT_DIR: "off", DRAIN: "0", NODE_ENV: "production" }),
      pino(
        { level: "info" },
        { write: (line: string) => void lines.push(JSON.parse(line) as (typeof lines)[number]) },
      ),
    );
    const admin = new Redis(own.url, { username: "root", password: "root" });
    onTestFinished(async () => {
      admin.disconnect();
      await replica.close();
      await own.close();
    });
    const told = (about: string) => lines.filter((line) => line.about === about);
    return { admin, told, ready: () => readyOf(replica.address) };
  }

  it("an append-only file that is switched off is a warning on /readyz and one line in the log, until it is back", async () => {
    const { admin, told, ready } = await inProduction();
    expect(await ready()).toBe("200");
    await admin.config("SET", "appendonly", "no");
    await until(async () => /^200 This Redis keeps nothing safely: set .appendonly yes/.test(await ready()));
    // Another fault is found by a later check, which finds this one once more.
    await admin.config("SET", "maxmemory-policy", "allkeys-lru");
    await until(async () => /Redis deletes accounts.* keeps nothing safely/.test(await ready()));
    expect(told("append-only file")).toMatchObject([{ level: 50, msg: "This Redis keeps nothing safely" }]);
    await admin.config("SET", "maxmemory-policy", "noeviction");
    await admin.config("SET", "appendonly", "yes");
    await until(async () => (await ready()) === "200");
    expect(told("append-only file")).toHaveLength(2);
  });

  it.each([
    ["everything", "resetchannels"],
    ["what Socket.IO's adapter says", "resetchannels &*MESSAGES*"],
  ])("a user who may hear %s no more hears it again once it may", async (_, rules) => {
    const { house, admin, ready } = await apart();
    const heard = async () => {
      const [, listeners] = (await admin.pubsub("NUMSUB", house.keys.channel)) as [string, number];
      return [listeners, (await admin.call("PUBSUB", "SHARDCHANNELS")) as string[]] as const;
    };
    const [, before] = await heard();
    expect(before).not.toHaveLength(0);
    await admin.call("ACL", "SETUSER", "default", ...rules.split(" "));
    await until(async () => (await heard())[1].length === 0);
    await until(async () => (await ready()).startsWith("503 the user in REDIS_URL may not use &"));
    await admin.call("ACL", "SETUSER", "default", "&*");
    await until(async () => (await ready()) === "200");
    await until(async () => {
      const [listeners, channels] = await heard();
      return listeners === 1 && channels.length === before.length;
    });
  });

  it("a right that its user has lost makes it not ready, and is named", async () => {
    const { admin, told, ready } = await inProduction();
    expect(await ready()).toBe("200");
    await admin.call("ACL", "SETUSER", "default", "-@write");
    await until(async () =>
      /^503 the user in REDIS_URL may not use \+set, .*ACL SETUSER/.test(await ready()),
    );
    expect(told("rights")).toHaveLength(1);
    await admin.call("ACL", "SETUSER", "default", "+@write", "resetkeys", "%R~*");
    await until(async () =>
      (await ready()).startsWith("503 the user in REDIS_URL may not use ~total_users, "),
    );
    await admin.call("ACL", "SETUSER", "default", "~*");
    await until(async () => (await ready()) === "200");
  });
});
