import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { symlinkSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { User } from "../server/src/protocol.ts";
import {
  PATIENCE_MS,
  Browser,
  METRICS_TOKEN,
  connect,
  figuresOf,
  isAlive,
  until,
  type Person,
} from "../server/src/testing.ts";
import { REPLICA_OPTIONS, which } from "./child.ts";
import { build, root } from "./prepare.mjs";
import { findOwnRedis, startRedis } from "./redis.ts";

const folder = mkdtempSync(join(tmpdir(), "hubbub start "));
const commands: Command[] = [];
const PASSWORD = "correct horse";

/** Runs a command as a person would, in a process group of its own, as a terminal would. */
class Command {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  output = "";

  constructor(command: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv }) {
    this.child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: { ...process.env, REDIS_URL: "", PORT: "0", BCRYPT_COST: "4", ...options.env },
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (data: Buffer) => (this.output += data.toString()));
    }
    this.ended = once(this.child, "close").then(([code]) => code as number | null);
    commands.push(this);
  }

  /** Resolves with the address; fails at once if the command ends instead. The first start of a checkout builds. */
  async listens(): Promise<string> {
    const ended = () =>
      this.child.exitCode !== null && new Error(`ended with ${this.child.exitCode}: ${this.output}`);
    const found = await until(
      () => /listens on (http\S+)/.exec(this.output)?.[1] ?? ended(),
      60_000,
      "the address",
    );
    if (found instanceof Error) throw found;
    return found;
  }

  redisPid(): number {
    return Number(/private Redis .*process (\d+)/.exec(this.output)?.[1]);
  }

  lines(): string[] {
    return this.output.trim().split("\n");
  }
}

function start(env: NodeJS.ProcessEnv, args: string[] = [], cwd = root): Command {
  return new Command(process.execPath, ["scripts/run.mjs", "start", ...args], { cwd, env });
}

/** Separate data folders, so that tests do not collide. */
function dataDir(): string {
  return mkdtempSync(join(folder, "data "));
}

/** Makes another checkout, without a build, that uses this one's packages. */
function checkout(): string {
  const copy = mkdtempSync(join(folder, "a check out "));
  for (const name of [
    "package.json",
    "package-lock.json",
    "tsconfig.base.json",
    "server",
    "client",
    "scripts",
  ]) {
    cpSync(join(root, name), join(copy, name), {
      recursive: true,
      filter: (path) => !/\/(dist|node_modules|dist\.\w+)$/.test(path),
    });
  }
  for (const modules of ["node_modules", "server/node_modules", "client/node_modules"]) {
    if (existsSync(join(root, modules))) symlinkSync(join(root, modules), join(copy, modules));
  }
  return copy;
}

beforeAll(build, 120_000);

afterEach(() => {
  for (const { child } of commands.splice(0)) if (child.exitCode === null) child.kill("SIGKILL");
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("npm start", () => {
  it("builds, serves, ends with SIGTERM to npm, and still has the messages when it starts again, in a path with spaces", async () => {
    const cwd = checkout();
    const first = new Command("npm", ["start"], { cwd });
    const address = await first.listens();
    await until(() => first.output.includes("Log in as"), PATIENCE_MS, "the demo log-ins");
    expect(first.output.match(/listens on/g)).toHaveLength(1);
    expect(first.output.match(/^Log in as Pablo, .*; password .*$/gm)).toHaveLength(1);
    expect(first.output).not.toContain("Seeded");
    expect(await (await fetch(address)).text()).toContain("<!doctype html>");
    const ann = await signUp(address, "ann-of-the-test");
    await ann.say("0", "said yesterday");
    ann.close();

    const second = new Command("npm", ["start"], { cwd });
    expect(await second.ended).toBe(75);
    expect(second.output).toContain(`Hubbub already runs on this data folder: ${join(cwd, "data")}.`);

    const redis = first.redisPid();
    expect(isAlive(redis)).toBe(true);
    const began = Date.now();
    first.child.kill("SIGTERM");
    expect(await first.ended).toBe(0);
    expect(Date.now() - began).toBeLessThan(5_000);
    expect(isAlive(redis)).toBe(false);

    const third = new Command("npm", ["start"], { cwd });
    const again = await third.listens();
    expect(third.output).not.toContain("Built");
    const browser = new Browser({ address: again });
    await browser.post("/api/login", { username: "ann-of-the-test", password: PASSWORD });
    const returned = await connect(browser, ann.user);
    const { body } = await browser.get<{ messages: { message: string }[] }>("/api/rooms/0/messages");
    returned.close();
    expect(body.messages.map(({ message }) => message)).toContain("said yesterday");
    third.child.kill("SIGTERM");
    expect(await third.ended).toBe(0);
  }, 120_000);

  it("ends everything with one Ctrl-C, Redis last, even while somebody is connected", async () => {
    const dir = dataDir();
    const npm = new Command("npm", ["start"], { env: { DATA_DIR: dir, DEMO: "off" } });
    const ann = await signUp(await npm.listens(), "ann");
    const redis = npm.redisPid();
    const began = Date.now();
    process.kill(-(npm.child.pid ?? 0), "SIGINT");
    expect(await npm.ended).toBe(0);
    expect(Date.now() - began).toBeLessThan(5_000);
    expect(isAlive(redis)).toBe(false);
    expect(existsSync(join(dir, "redis/redis.sock"))).toBe(false);
    expect(npm.output).not.toMatch(/ECONNREFUSED|ENOENT|redis connection/);
    ann.close();
  });

  it("waits 3 s for a replica that does not react, and a second Ctrl-C cuts that short", async () => {
    for (const [signals, atMost] of [
      [1, 5_000],
      [2, 2_500],
    ] as const) {
      const npm = start({ DATA_DIR: dataDir(), DEMO: "off" });
      await npm.listens();
      const redis = npm.redisPid();
      process.kill(replicaOf(npm).pid, "SIGSTOP");
      const began = Date.now();
      npm.child.kill("SIGINT");
      if (signals === 2) {
        await sleep(700);
        npm.child.kill("SIGINT");
      }
      expect(await npm.ended).toBe(0);
      expect(Date.now() - began).toBeLessThan(atMost);
      expect(isAlive(redis)).toBe(false);
    }
  });

  it("leaves no Redis and no replica behind when it is killed", async () => {
    const npm = start({ DATA_DIR: dataDir(), DEMO: "off" });
    const address = await npm.listens();
    const redis = npm.redisPid();
    npm.child.kill("SIGKILL");
    await until(() => !isAlive(redis), PATIENCE_MS, "Redis to end");
    await until(() => fetch(address).then(Boolean, () => true), PATIENCE_MS, "the replica to end");
  });

  it("restarts a replica and a Redis that were killed", async () => {
    const npm = start({ DATA_DIR: dataDir(), DEMO: "off" });
    const address = await npm.listens();
    const { pid } = replicaOf(npm);
    process.kill(pid, "SIGKILL");
    await until(() => npm.output.includes("The replica was killed. It is started again."));
    await until(() => answers(`${address}/readyz`), PATIENCE_MS, "the new replica");
    process.kill(npm.redisPid(), "SIGKILL");
    await until(() => npm.output.includes("Redis was killed. It is started again."));
    await until(() => answers(`${address}/readyz`), PATIENCE_MS, "the new Redis");
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
  });

  it("says in one line that the port is taken", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    const dir = dataDir();
    const npm = start({ DATA_DIR: dir, PORT: String(port) });
    expect(await npm.ended).toBe(69);
    expect(npm.lines()).toEqual([
      `Port ${port} on 127.0.0.1 is taken. Stop what uses it, or choose another: PORT=${port + 1} npm start`,
    ]);
    expect(existsSync(join(dir, "redis/redis.sock"))).toBe(false);
    taken.close();
  });

  it("reads each variable without blanks and line ends, takes a blank one for none, and Kubernetes' for none of ours", async () => {
    const dir = dataDir();
    const npm = start({
      DATA_DIR: `${dir}\r`,
      DEMO: "off\r",
      REDIS_URL: " \r",
      REDIS_SERVER_BIN: "\r",
      METRICS_PORT: "tcp://10.0.0.1:80",
    });
    expect(await answers(`${await npm.listens()}/readyz`)).toBe(true);
    expect(existsSync(join(dir, "redis/redis.sock"))).toBe(true);
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
  });

  it("says in one line that DATA_DIR takes no ~, and makes no folder of that name", async () => {
    const npm = start({ DATA_DIR: "~/hubbub" });
    expect(await npm.ended).toBe(78);
    expect(npm.lines()).toEqual([expect.stringMatching(/^DATA_DIR takes a path without ~/)]);
    expect(existsSync("~")).toBe(false);
  });

  it("says in one line that HOST is no address of this machine", async () => {
    const npm = start({ DATA_DIR: dataDir(), HOST: "192.0.2.1" });
    expect(await npm.ended).toBe(69);
    expect(npm.lines()).toEqual([
      expect.stringMatching(/^HOST=192\.0\.2\.1 is no address of this machine: /),
    ]);
  });

  it("completes demo data that was cut short, and says who can log in", async () => {
    const redis = await startRedis({ dir: dataDir(), persistent: true });
    const client = new Redis(decodeURI(redis.url.replace("unix://", "")));
    // As a seed leaves it that was killed after its first person.
    await client.mset("seed:people", "[]", "total_users", "1");
    const npm = start({ REDIS_URL: redis.url });
    await npm.listens();
    await until(() => npm.output.includes("Log in as Pablo"), PATIENCE_MS, "the log-ins");
    client.disconnect();
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
    await redis.stop(2_000);
  }, 120_000);

  it("says in one line that nothing answers at REDIS_URL, without the password, and starts no Redis", async () => {
    const dir = dataDir();
    const npm = start({ DATA_DIR: dir, REDIS_URL: "redis://user:secret@127.0.0.1:1" });
    expect(await npm.ended).toBe(69);
    expect(npm.lines()).toHaveLength(1);
    expect(npm.output).toMatch(/^Redis at redis:\/\/127\.0\.0\.1:1 .*REDIS_URL is set/);
    expect(npm.output).not.toContain("secret");
    expect(existsSync(join(dir, "redis"))).toBe(false);
  });

  it("uses the Redis at REDIS_URL and leaves it running", async () => {
    const redis = await startRedis({ dir: dataDir(), persistent: true });
    const npm = start({ REDIS_URL: redis.url });
    expect(await answers(`${await npm.listens()}/readyz`)).toBe(true);
    expect(npm.output).not.toContain("private Redis");
    // Nothing remains that only the start needed: no esbuild, no second Node.
    const pid = npm.child.pid ?? 0;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    const started = children.map((child) => readFileSync(`/proc/${child}/cmdline`, "utf8").split("\0"));
    expect(started).toEqual([
      [process.execPath, ...REPLICA_OPTIONS, expect.stringContaining("server/dist/main.js"), ""],
    ]);
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
    expect(redis.hasEnded()).toBe(false);
    await redis.stop(2_000);
  });

  it("puts no demo data in for production without DEMO=on, nor does seed, and shows none that are there", async () => {
    const redis = await startRedis({ dir: dataDir(), persistent: true });
    const env = { REDIS_URL: redis.url, NODE_ENV: "production" };
    const npm = start(env);
    const address = await npm.listens();
    await until(() => npm.output.includes("first to sign up owns the server"), PATIENCE_MS, "the hint");
    const seed = (more: NodeJS.ProcessEnv) =>
      new Command(process.execPath, ["scripts/run.mjs", "seed"], { env: { ...env, ...more } });
    const refused = seed({});
    expect(await refused.ended).toBe(69);
    expect(refused.output).toContain("DEMO=on");
    expect(await seed({ DEMO: "on" }).ended).toBe(0);
    expect(await (await fetch(`${address}/api/demo`)).json()).toEqual({ people: [] });
    expect(npm.output).not.toContain("Log in as");
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
    await redis.stop(2_000);
  }, 120_000);

  it("does not seed a Redis whose folder has unread data, and says what to do", async () => {
    const dir = dataDir();
    const empty = await startRedis({ dir: join(dir, "redis"), persistent: true });
    await empty.stop(2_000);
    writeFileSync(join(dir, "redis/dump.rdb"), "somebody's data");
    const second = start({ DATA_DIR: dir });
    await second.listens();
    await until(() => second.output.includes("no demo data is put in"), PATIENCE_MS, "the hint");
    expect(second.output).toContain(`Nothing reads ${join(dir, "redis/dump.rdb")} (1 kB, `);
    expect(second.output).not.toContain("Log in as");
    second.child.kill("SIGTERM");
    expect(await second.ended).toBe(0);
  }, 120_000);

  it("runs in a data folder whose path is too long for a socket, and seed finds that Redis and no other", async () => {
    const dir = join(dataDir(), "d".repeat(100));
    const npm = start({ DATA_DIR: dir });
    await npm.listens();
    const seed = new Command(process.execPath, ["scripts/run.mjs", "seed", "--users", "1"], {
      env: { DATA_DIR: dir },
    });
    expect(await seed.ended).toBe(0);
    const url = await findOwnRedis({ DATA_DIR: dir });
    expect(url).toMatch(/^redis:\/\/:[0-9a-f]+@127/);
    const client = new Redis(url);
    expect(await client.get("username:person1")).toMatch(/^user:\d+$/);
    client.disconnect();
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
    const late = new Command(process.execPath, ["scripts/run.mjs", "seed"], { env: { DATA_DIR: dir } });
    expect(await late.ended).toBe(69);
    expect(late.lines()).toHaveLength(1);
  }, 120_000);

  it("says in one line that a Redis is too old", async () => {
    const old = join(dataDir(), "redis-server");
    writeFileSync(old, "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0 malloc=libc bits=64 build=0'\n", {
      mode: 0o755,
    });
    const npm = start({ DATA_DIR: dataDir(), REDIS_SERVER_BIN: old });
    expect(await npm.ended).toBe(69);
    expect(npm.lines()).toEqual([
      `REDIS_SERVER_BIN=${old} is Redis 6.2.14, and that is too old: Hubbub needs 7.0 or newer.`,
    ]);
  });

  it("lists the choices if there is no Redis, and starts none in memory", async () => {
    const cwd = checkout();
    for (const part of ["server/dist", "client/dist"])
      cpSync(join(root, part), join(cwd, part), { recursive: true });
    const bin = join(cwd, "bin");
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, "node"));
    const npm = start({ PATH: bin }, [], cwd);
    expect(await npm.ended).toBe(69);
    expect(npm.lines()).toHaveLength(1);
    expect(npm.output).toMatch(
      /^Hubbub needs a Redis 7\.0 or newer and found none\. .*apt-get.*brew.*docker.*REDIS_URL/,
    );
  });

  it("refuses arguments that it does not know", async () => {
    expect(await start({}, ["--replicas", "0"]).ended).toBe(64);
    expect(await start({}, ["--nonsense"]).ended).toBe(64);
    const wrong = start({ PORT: "http" });
    expect(await wrong.ended).toBe(78);
    expect(wrong.output).toMatch(/^The environment is wrong\. PORT/);
  });
});

describe("npm run serve", () => {
  it("runs one replica from the environment alone, says one line, and ends with SIGTERM to npm", async () => {
    const redis = await startRedis({ dir: dataDir(), persistent: true });
    const npm = new Command("npm", ["run", "--silent", "serve"], {
      env: { REDIS_URL: redis.url, NODE_ENV: "production", LOG_LEVEL: "error", DRAIN: "0" },
    });
    const address = await npm.listens();
    expect(await answers(`${address}/readyz`)).toBe(true);
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
    const own = npm.lines().filter((line) => !/^(npm warn|Built )/.test(line));
    expect(own).toEqual([`Hubbub listens on ${address}`]);
    await redis.stop(2_000);
  });

  it("runs WORKERS of the built server on one port, as one server, and ends them all", async () => {
    const redis = await startRedis({ dir: dataDir(), persistent: false });
    const npm = new Command("npm", ["run", "--silent", "serve"], {
      env: { REDIS_URL: redis.url, LOG_LEVEL: "error", DRAIN: "0", WORKERS: "2", METRICS_TOKEN },
    });
    const address = await npm.listens();
    const people: Person[] = [];
    // Each worker with a connection follows General.
    await until(async () => {
      people.push(await signUp(address, `person${people.length}`));
      const figures = await figuresOf({ address });
      // Workers take connections in turn: with an odd number a round, each gets some of those that stay.
      await fetch(`${address}/healthz`, { headers: { connection: "close" } });
      expect(figures["hubbub_connections"]).toBe(people.length);
      return figures["hubbub_relay_rooms"] === 2;
    });
    await people[0]?.say("0", "to all");
    for (const one of people) await one.hears("to all");
    npm.child.kill("SIGTERM");
    expect(await npm.ended).toBe(0);
    // "close" comes when nobody has its output open any more: no worker is left.
    expect(npm.output.match(/listens on/g)).toHaveLength(1);
    await redis.stop(2_000);
  });
});

describe.skipIf(!which("haproxy") && !which("/usr/sbin/haproxy") && !which("apt-get"))(
  "npm start -- --replicas",
  () => {
    it("puts replicas behind HAProxy; when one is killed the others go on, and it comes back", async () => {
      const npm = start({ DATA_DIR: dataDir(), DEMO: "off" }, ["--replicas", "2"]);
      const address = await npm.listens();
      const [ann, bob] = await Promise.all([signUp(address, "ann"), signUp(address, "bob")]);
      await ann.say("0", "hello from one replica");
      await bob.hears("hello from one replica");
      expect((await fetch(`${address}/metrics`)).status).toBe(404);

      const { pid, port } = replicaOf(npm);
      process.kill(pid, "SIGKILL");
      await until(() => npm.output.includes("was killed. It is started again."));
      const others = Array.from({ length: 20 }, () => answers(`${address}/api/me`, 401));
      expect(await Promise.all(others)).not.toContain(false);
      await until(() => answers(`http://127.0.0.1:${port}/readyz`), PATIENCE_MS, "the new replica");

      ann.close();
      bob.close();
      const began = Date.now();
      npm.child.kill("SIGTERM");
      expect(await npm.ended).toBe(0);
      expect(Date.now() - began).toBeLessThan(5_000);
    }, 120_000);
  },
);

async function answers(url: string, status = 200): Promise<boolean> {
  return fetch(url).then(
    (response) => response.status === status,
    () => false,
  );
}

/** A replica, found as a child process of ours that runs server/dist/main.js. */
function replicaOf({ child }: Command): { pid: number; port: number } {
  const pid = readdirSync("/proc").find((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${name}/status`, "utf8"))?.[1];
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8");
      return parent === String(child.pid) && command.includes("server/dist/main.js");
    } catch {
      return false; // It has ended meanwhile.
    }
  });
  if (!pid) throw new Error("no replica is running");
  const port = /(?:^|\0)PORT=(\d+)/.exec(readFileSync(`/proc/${pid}/environ`, "utf8"))?.[1];
  return { pid: Number(pid), port: Number(port) };
}

/** Signs somebody up at this address and connects them. */
async function signUp(address: string, username: string): Promise<Person> {
  const browser = new Browser({ address });
  const { body } = await browser.post<User>("/api/users", { username, password: PASSWORD });
  return connect(browser, body);
}
