import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { connectRedis } from "./redis.ts";
import { wordsInUse } from "./redisReach.ts";
import {
  PATIENCE_MS,
  ownRedis,
  replicas,
  startWire,
  testRedisUrl,
  until,
  type OwnRedis,
} from "../testing.ts";

// Imported at run time: the scripts are a separate TypeScript program.
const { findRedis, freePort } = (await import(
  fileURLToPath(new URL("../../../scripts/redis.ts", import.meta.url))
)) as {
  findRedis: (say: (line: string) => void) => Promise<{ command: string; env: NodeJS.ProcessEnv }>;
  freePort: () => Promise<number>;
};

const silent = pino({ level: "silent" });

/** Connects for commands and for subscriptions, and passes one message over both; throws what a start would report. */
async function use(url: string): Promise<string> {
  const commands = await connectRedis(url, "commands", silent);
  onTestFinished(() => commands.disconnect());
  const subscriber = await connectRedis(url, "subscriptions", silent);
  onTestFinished(() => subscriber.disconnect());
  const heard = new Promise<string>((resolve) => subscriber.on("message", (_channel, text) => resolve(text)));
  await subscriber.subscribe("c");
  await commands.set("k", "v");
  await commands.publish("c", (await commands.get("k")) ?? "");
  return heard;
}

/** The error of a start with this address. */
async function fault(url: string): Promise<string> {
  const outcome = await use(url).catch((error: unknown) => error);
  return outcome instanceof Error ? outcome.message : `no fault: ${String(outcome)}`;
}

async function start(args: string[], options: { persistent?: boolean } = {}): Promise<OwnRedis> {
  return ownRedis({ persistent: false, args, ...options });
}

const portOf = (own: OwnRedis) => new URL(own.url).port;

/** Listens, and serves each connection this way. */
async function listen(serve: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => serve(socket.on("error", () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

describe("an address without a Redis", () => {
  it("is reported as one where nothing listens", async () => {
    expect(await fault("redis://ann:secret@127.0.0.1:1")).toMatch(
      /^Redis at redis:\/\/127\.0\.0\.1:1 cannot be used: nothing listens.*REDIS_URL \(ECONNREFUSED\)$/,
    );
  });

  it("is reported as one that no host has", async () => {
    expect(await fault("redis://:secret@nowhere.invalid")).toMatch(
      /host.*REDIS_URL.*\((ENOTFOUND|EAI_AGAIN)\)$/,
    );
  });

  it("is reported as a missing socket, or as a file that is no socket", async () => {
    expect(await fault("unix:///nowhere/redis.sock")).toMatch(/no such socket.*REDIS_URL.*\(ENOENT\)/);
    expect(await fault(`unix://${encodeURI(fileURLToPath(import.meta.url))}`)).toMatch(
      /nothing listens|no socket/,
    );
  });

  it("is reported as one where something else answers", async () => {
    const house = await replicas(1);
    onTestFinished(() => house.close());
    expect(await fault(`redis://127.0.0.1:${house.replicas[0]?.port}`)).toMatch(/is no Redis.*REDIS_URL/);
    expect(await fault(`redis://127.0.0.1:${await listen((socket) => socket.destroy())}`)).toMatch(
      /REDIS_URL/,
    );
  });
});

describe("a login at Redis", () => {
  let own: OwnRedis;
  beforeAll(async () => {
    own = await start([
      "requirepass s3cret@/#?%",
      "user ann on >p@ss ~* &* +@all -set -select",
      "maxclients 30",
    ]);
  });
  afterAll(() => own.close());
  const logIn = (as: string) => own.url.replace("//", `//${as}`);

  it("succeeds with an escaped password", async () => {
    expect(await use(logIn(`:${encodeURIComponent("s3cret@/#?%")}@`))).toBe("v");
  });

  it("fails without a password, and says that one is needed", async () => {
    expect(await fault(own.url)).toMatch(/wants a password: REDIS_URL=redis:\/\/:password@host.*\(NOAUTH\)$/);
  });

  it("fails with a wrong password, and does not repeat it", async () => {
    const said = await fault(logIn("ann:hunter2@"));
    expect(said).toMatch(/user or the password in REDIS_URL is wrong.*\(WRONGPASS\)$/);
    expect(said).not.toMatch(/\bann\b|hunter2/);
  });

  it("names the command that the user may not run", async () => {
    expect(await fault(`${logIn("ann:p%40ss@")}/1`)).toMatch(
      /user in REDIS_URL may not run SELECT.*ACL SETUSER/,
    );
  });

  it("says that Redis has its maximum of clients", async () => {
    const admin = new Redis(logIn(`:${encodeURIComponent("s3cret@/#?%")}@`));
    onTestFinished(async () => {
      await admin.config("SET", "maxclients", "30");
      admin.disconnect();
    });
    await admin.config("SET", "maxclients", "1");
    expect(await fault(logIn(`:${encodeURIComponent("s3cret@/#?%")}@`))).toMatch(
      /as many clients as it takes.*maxclients/,
    );
  });
});

describe("a database", () => {
  it("is refused if it does not exist, as number and as option, on a port and on a socket", async () => {
    const url = testRedisUrl();
    const database = (number: number) => `${url}?db=${number}`;
    expect(await fault(database(99))).toMatch(/no database 99: .*REDIS_URL.*databases/);
    const own = await start(["databases 4"]);
    onTestFinished(() => own.close());
    expect(await fault(`${own.url}/4`)).toMatch(/no database 4: .*REDIS_URL/);
    expect(await use(`${own.url}/3`)).toBe("v");
    const redis = new Redis(`${own.url}/3`);
    onTestFinished(() => redis.disconnect());
    expect(await redis.get("k")).toBe("v");
  });

  it("is never replaced by database 0 if it is gone when the connection returns", async () => {
    const [many, few] = [await start([]), await start(["databases 2"])];
    let target = many;
    const wire = await startWire(() => target.url);
    const client = await connectRedis(`${wire.url}/3`, "commands", silent);
    const there = new Redis(few.url);
    onTestFinished(async () => {
      there.disconnect();
      client.disconnect();
      await wire.close();
      await Promise.all([many.close(), few.close()]);
    });
    await client.set("k", "1");
    target = few;
    wire.cut();
    const selects = async () =>
      Number(/cmdstat_select:calls=(\d+)/.exec(await there.info("commandstats"))?.[1] ?? 0);
    await until(async () => {
      await client.set("k", "2").catch(() => undefined);
      return (await selects()) > 2;
    }, 10_000);
    expect(await there.dbsize()).toBe(0);
    target = many;
    wire.cut();
    await until(async () => (await client.set("k", "3").catch(() => "")) === "OK", PATIENCE_MS);
  });
});

describe("TLS", () => {
  const dir = mkdtempSync(join(tmpdir(), "hubbub-tls-"));
  const file = (name: string) => join(dir, name);
  let own: OwnRedis;
  let port: number;
  beforeAll(async () => {
    const subject = "/CN=cache.example -addext subjectAltName=DNS:cache.example,IP:127.0.0.1";
    const make = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj ${subject}`;
    execFileSync("openssl", [...make.split(" "), "-keyout", file("key.pem"), "-out", file("cert.pem")], {
      stdio: "ignore",
    });
    port = await freePort();
    own = await start([
      `tls-port ${port}`,
      `tls-cert-file ${file("cert.pem")}`,
      `tls-key-file ${file("key.pem")}`,
      `tls-ca-cert-file ${file("cert.pem")}`,
      "tls-auth-clients optional",
    ]);
  });
  afterAll(async () => {
    await own.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it("works with the certificate that the address names", async () => {
    expect(await use(`rediss://127.0.0.1:${port}?ca=${file("cert.pem")}`)).toBe("v");
    expect(
      await use(
        `redis://127.0.0.1:${port}?tls=on&ca=${file("cert.pem")}&cert=${file("cert.pem")}&key=${file("key.pem")}`,
      ),
    ).toBe("v");
  });

  it("names both cures for a certificate of an unknown authority", async () => {
    expect(await fault(`rediss://127.0.0.1:${port}`)).toMatch(
      /NODE_EXTRA_CA_CERTS.*ca=.*REDIS_URL.*SELF_SIGNED/,
    );
  });

  it("reports a certificate for another name, and the option servername cures it", async () => {
    const ca = `ca=${file("cert.pem")}`;
    expect(await fault(`rediss://localhost:${port}?${ca}`)).toMatch(/another name.*servername.*ALTNAME/);
    expect(await use(`rediss://localhost:${port}?${ca}&servername=cache.example`)).toBe("v");
  });

  it("names the right scheme if only one side speaks TLS", async () => {
    expect(await fault(`rediss://127.0.0.1:${portOf(own)}`)).toMatch(
      /speaks no TLS.*REDIS_URL with redis instead of rediss/,
    );
    expect(await fault(`redis://127.0.0.1:${port}`)).toMatch(
      /speaks TLS only.*REDIS_URL with rediss instead of redis/,
    );
  });

  it("names the option whose file cannot be read", async () => {
    expect(await fault(`rediss://127.0.0.1:${port}?ca=/nowhere.pem`)).toMatch(
      /file of the option ca in REDIS_URL.*ENOENT/,
    );
  });
});

describe("a Cluster", () => {
  let own: OwnRedis;
  let node: Redis;
  beforeAll(async () => {
    own = await start(["cluster-enabled yes", "cluster-announce-ip 127.0.0.1", "requirepass secret"]);
    node = new Redis(own.url.replace("//", "//:secret@"));
    await node.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    await until(async () => (await node.cluster("INFO")).includes("cluster_state:ok"));
  });
  afterAll(async () => {
    node.disconnect();
    await own.close();
  });
  const cluster = () => `redis+cluster://:secret@127.0.0.1:${portOf(own)}`;

  it("is used by its scheme", async () => {
    expect(await use(cluster())).toBe("v");
  });

  it("is reported, with the right scheme, if its node is addressed as one Redis", async () => {
    expect(await fault(own.url.replace("//", "//:secret@"))).toMatch(
      /Cluster's node: begin REDIS_URL with redis\+cluster:\/\//,
    );
  });

  it("is reported if it is only one Redis", async () => {
    const one = await start([]);
    onTestFinished(() => one.close());
    expect(await fault(`redis+cluster://127.0.0.1:${portOf(one)}`)).toMatch(
      /no Cluster: begin REDIS_URL with redis:\/\//,
    );
  });

  it("is reported if its node does not know its own address", async () => {
    await node.config("SET", "cluster-announce-ip", "");
    onTestFinished(async () => void (await node.config("SET", "cluster-announce-ip", "127.0.0.1")));
    expect(await fault(cluster())).toMatch(/does not know its own address: .*cluster-announce-ip/);
  });

  it("is used behind NAT with the option nat, which the error without it names", async () => {
    await node.config("SET", "cluster-announce-ip", "127.0.0.9");
    await node.config("SET", "cluster-announce-port", "1");
    await until(async () => JSON.stringify(await node.cluster("SLOTS")).includes("127.0.0.9"));
    onTestFinished(async () => {
      await node.config("SET", "cluster-announce-ip", "127.0.0.1");
      await node.config("SET", "cluster-announce-port", "0");
    });
    expect(await fault(cluster())).toMatch(
      /says that a node is at 127\.0\.0\.9:1,.*ECONNREFUSED.*nat=127\.0\.0\.9:1=host:port/,
    );
    expect(await use(`${cluster()}?nat=127.0.0.9:1=127.0.0.1:${portOf(own)}`)).toBe("v");
  });
});

describe("a Sentinel group", () => {
  let own: OwnRedis;
  let sentinel: string;
  let stop: () => void;
  const dir = mkdtempSync(join(tmpdir(), "hubbub-sentinel-"));
  beforeAll(async () => {
    own = await start(["requirepass secret"]);
    const port = await freePort();
    const config = join(dir, "sentinel.conf");
    writeFileSync(
      config,
      [
        `port ${port}`,
        "bind 127.0.0.1",
        "requirepass watcher",
        `sentinel monitor main 127.0.0.1 ${portOf(own)} 1`,
        "sentinel auth-pass main secret",
      ].join("\n"),
    );
    const { command, env } = await findRedis(() => undefined);
    const child = spawn(command, [config, "--sentinel"], { env, stdio: "ignore" });
    stop = () => child.kill("SIGKILL");
    sentinel = `127.0.0.1:${port}`;
    const redis = new Redis(`redis://:watcher@${sentinel}`, { enableReadyCheck: false });
    redis.on("error", () => undefined);
    await until(async () => (await redis.ping().catch(() => "")) === "PONG");
    redis.disconnect();
  });
  afterAll(async () => {
    stop();
    await own.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const group = (rest: string) => `redis+sentinel://:secret@${sentinel}${rest}`;

  it("is used with a password of its own, another for the data, and a database", async () => {
    expect(await use(group("/main/2?sentinelPassword=watcher"))).toBe("v");
    const redis = new Redis(own.url.replace("//", "//:secret@"), { db: 2 });
    onTestFinished(() => redis.disconnect());
    expect(await redis.get("k")).toBe("v");
  });

  it("is used where only a later one of its Sentinels answers", async () => {
    expect(await use(`redis+sentinel://:secret@127.0.0.1:1,${sentinel}/main?sentinelPassword=watcher`)).toBe(
      "v",
    );
  });

  it("is reported if the Sentinel's password is missing or wrong", async () => {
    expect(await fault(group("/main"))).toMatch(/sentinelPassword/);
    expect(await fault(group("/main?sentinelPassword=hunter2"))).toMatch(/sentinelPassword/);
  });

  it("is reported if it has no such name", async () => {
    expect(await fault(group("/other?sentinelPassword=watcher"))).toMatch(
      /no group called other: .*REDIS_URL/,
    );
  });

  it("is used behind NAT with the option nat", async () => {
    const far = await startWire(own.url);
    onTestFinished(() => far.close());
    const nat = `nat=127.0.0.1:${portOf(own)}=127.0.0.1:${new URL(far.url).port}`;
    expect(await use(group(`/main?sentinelPassword=watcher&${nat}`))).toBe("v");
    const nowhere = `nat=127.0.0.1:${portOf(own)}=127.0.0.1:1`;
    expect(await fault(group(`/main?sentinelPassword=watcher&${nowhere}`))).toMatch(
      /Sentinel says.*ECONNREFUSED.*nat/,
    );
  });

  it("is reported, with the right scheme, if addressed as one Redis, and one Redis if addressed as a Sentinel", async () => {
    expect(await fault(`redis://:watcher@${sentinel}`)).toMatch(/is a Sentinel: REDIS_URL=redis\+sentinel:/);
    const one = await start([]);
    onTestFinished(() => one.close());
    expect(await fault(`redis+sentinel://127.0.0.1:${portOf(one)}/main`)).toMatch(
      /no Sentinel: begin REDIS_URL with redis:/,
    );
  });
});

describe("a Redis that refuses, or is lost", () => {
  it("is reported as one that cannot save to its disk", async () => {
    const own = await start(["save 3600 1"]);
    onTestFinished(() => own.close());
    const admin = new Redis(own.url);
    onTestFinished(() => admin.disconnect());
    const [, dir = ""] = await admin.config("GET", "dir");
    rmSync(dir, { recursive: true });
    await admin.set("k", "v");
    await admin.bgsave();
    await until(async () => (await admin.info("persistence")).includes("rdb_last_bgsave_status:err"));
    expect(await fault(own.url)).toMatch(/cannot be used: Redis cannot save to its disk.*\(MISCONF\)$/);
  });

  it("is reported as a replica that has lost its primary", async () => {
    const own = await start(["replica-serve-stale-data no"]);
    onTestFinished(() => own.close());
    const admin = new Redis(own.url);
    onTestFinished(() => admin.disconnect());
    await admin.replicaof("127.0.0.1", 1);
    expect(await fault(own.url)).toMatch(/cannot be used: it is a replica.*name the primary \(MASTERDOWN\)$/);
  });

  it("is told from any other fault while it is used, in words that are not the library's", async () => {
    const own = await start([]);
    onTestFinished(() => own.close());
    const client = await connectRedis(own.url, "commands", silent);
    onTestFinished(() => client.disconnect());
    const waiting = client.blpop("nothing", 0).catch(wordsInUse);
    await own.kill();
    const later = client.get("k").catch(wordsInUse);
    const lost = "Redis cannot be used any more: the connection to Redis was lost, and its own log says why";
    expect([await waiting, await later]).toEqual([lost, lost]);
    const full = Object.assign(new Error("write ENOSPC"), { code: "ENOSPC", syscall: "write" });
    expect(wordsInUse(full)).toBe("write ENOSPC");
  });
});

describe("a Redis that is loading what it keeps", () => {
  it("is waited for, at the start and when the connection comes back, and the log says so", async () => {
    const own = await start(["key-load-delay 300"], { persistent: true });
    const lines: string[] = [];
    const log = pino({ level: "info" }, { write: (line) => void lines.push(line) });
    onTestFinished(() => own.close());
    const filler = await connectRedis(own.url, "commands", silent);
    await filler.eval("for key = 1, 6000 do redis.call('SET', 'key' .. key, 'x') end", 0);
    filler.disconnect();
    await own.kill();
    const started = own.start();
    await until(async () => {
      const probe = new Redis(own.url, { enableReadyCheck: false, retryStrategy: () => null });
      probe.on("error", () => undefined);
      const info = await probe.info().catch(() => "");
      probe.disconnect();
      return info.includes("loading:1");
    });
    const client = await connectRedis(own.url, "commands", log);
    onTestFinished(() => client.disconnect());
    expect(await client.get("key999")).toBe("x");
    expect(lines.join("")).toContain("loading what it keeps");
    await started;
    await own.kill();
    const again = own.start();
    await until(async () => (await client.get("key999").catch(() => "")) === "x", PATIENCE_MS);
    await again;
  });
});
