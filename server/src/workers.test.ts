import { readFileSync, readdirSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import {
  PATIENCE_MS,
  connect,
  figuresOf,
  isAlive,
  person,
  replicas,
  serverProcess,
  until,
  type House,
  type Person,
  type ServerProcess,
} from "./testing.ts";

let house: House | undefined;
const started: ServerProcess[] = [];

afterEach(async () => {
  for (const { pid, ended } of started.splice(0)) {
    // Its process group, with its workers.
    if (isAlive(-pid)) process.kill(-pid, "SIGKILL");
    await ended;
  }
  await house?.close();
  house = undefined;
});

async function twoWorkers(
  env: Record<string, string> = {},
): Promise<{ server: ServerProcess; house: House }> {
  const opened = (house = await replicas(0, { WORKERS: "2", SERVER_ID: "box", LOG_LEVEL: "info", ...env }));
  const server = await serverProcess(opened.env);
  started.push(server);
  return { server, house: opened };
}

/** Process ids of the workers, by server id. */
function workersOf({ pid }: ServerProcess): Map<string, number> {
  const found = readdirSync("/proc").flatMap((name): [string, number][] => {
    try {
      const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${name}/status`, "utf8"))?.[1];
      const serverId = /(?:^|\0)SERVER_ID=([^\0]*)/.exec(readFileSync(`/proc/${name}/environ`, "utf8"))?.[1];
      return parent === String(pid) && serverId?.startsWith("box-") ? [[serverId, Number(name)]] : [];
    } catch {
      return [];
    }
  });
  return new Map(found);
}

/** The server id of the worker that has this person's only connection. */
function workerOf({ user }: Person, { redis, keys }: House): Promise<string> {
  return until(async () => {
    const leases = await redis.zrange(keys.leases, 0, "-1");
    return leases.find((lease) => lease.startsWith(`${user.id}|`))?.split("|")[1];
  });
}

/** People with a connection each, at least two on each worker. */
async function peopleOnBoth(
  server: ServerProcess,
  at: House,
): Promise<{ first: Person[]; second: Person[] }> {
  const [first, second]: [Person[], Person[]] = [[], []];
  for (let tries = 0; first.length < 2 || second.length < 2; tries += 1) {
    if (tries > 20) throw new Error("one worker gets all connections");
    const one = await person(server);
    ((await workerOf(one, at)) === "box-1" ? first : second).push(one);
  }
  return { first, second };
}

describe("two workers", () => {
  it("act as one server, and /metrics of either covers both", async () => {
    const { server, house: at } = await twoWorkers();
    const { first, second } = await peopleOnBoth(server, at);
    const people = [...first, ...second];
    for (const one of people) await one.say("0", `from ${one.user.username}`);
    for (const one of people) {
      for (const other of people) await one.hears(`from ${other.user.username}`);
      expect(one.messages).toHaveLength(people.length);
    }
    // Repeats the nonce of the first message.
    await people[0]?.say("0", "again", "n1");

    // Workers get connections in turn, so both are asked.
    for (let ask = 0; ask < 4; ask += 1) {
      const all = await figuresOf(server);
      expect(all).toMatchObject({
        hubbub_connections: people.length,
        hubbub_messages_stored_total: people.length,
        hubbub_messages_repeated_total: 1,
        hubbub_append_seconds_count: people.length + 1,
        hubbub_deliveries_total: people.length ** 2,
        // General, on both workers.
        hubbub_relay_rooms: 2,
        hubbub_relay_messages_total: 2 * people.length,
      });
      expect(all["hubbub_relay_heartbeat_lag_seconds"]).toBeLessThan(3);
      expect(all["hubbub_nodejs_eventloop_lag_p99_seconds"]).toBeGreaterThan(0);
      expect(all["hubbub_process_start_time_seconds"]).toBeLessThanOrEqual(Date.now() / 1_000);
    }
  });

  it("share the primary's port for /metrics", async () => {
    const { server } = await twoWorkers({ METRICS_PORT: "0", METRICS_TOKEN: "" });
    await person(server);
    const [, address = ""] = /"address":"(http[^"]+)"/.exec(server.output()) ?? [];
    const text = await (await fetch(address)).text();
    expect(text).toContain("\nhubbub_connections 1\n");
    expect(server.output().match(/"metrics have a port of their own"/g)).toHaveLength(1);
    expect((await fetch(`${server.address}/metrics`)).status).toBe(404);
  });

  it("survive a SIGKILL of one: it is replaced, people on the other notice nothing, and no sum falls", async () => {
    const { server, house: at } = await twoWorkers();
    const { first, second } = await peopleOnBoth(server, at);
    const gone: string[] = [];
    for (const { socket } of second) socket.on("disconnect", (reason) => gone.push(reason));
    for (const one of [...first, ...second]) await one.say("0", "before");
    const before = await figuresOf(server);
    const pid = workersOf(server).get("box-1") ?? 0;

    const cut = first.map(({ socket }) => new Promise((resolve) => socket.once("disconnect", resolve)));
    process.kill(pid, "SIGKILL");
    const during: Record<string, number>[] = [];
    const died = () => /"number":1,.*"signal":"SIGKILL".*a worker died/.test(server.output());
    // A connection that is being handed to the dying worker is lost with it; there can be only one.
    during.push(await figuresOf(server).catch(() => figuresOf(server)));
    while (!died() || during.length < 20) during.push(await figuresOf(server));
    await Promise.all(cut);
    for (const one of second) await one.say("0", `still here ${one.user.id}`);
    for (const one of second) for (const other of second) await one.hears(`still here ${other.user.id}`);

    // People who were cut come back on any worker, with the same session.
    const back = await Promise.all(first.map(({ browser, user }) => connect(browser, user)));
    await back[0]?.say("0", "back again", "back");
    for (const one of second) await one.hears("back again");
    const newcomer = await until(
      async () => {
        const one = await person(server);
        if ((await workerOf(one, at)) === "box-1") return one;
        one.close();
        return false;
      },
      10_000,
      "somebody on the new worker",
    );
    expect(workersOf(server).get("box-1")).not.toBe(pid);
    await newcomer.say("0", "from the new worker");
    for (const one of second) await one.hears("from the new worker");
    expect(gone).toEqual([]);

    const open = back.length + second.length + 1;
    const after = await until(async () => {
      const all = await figuresOf(server);
      return all["hubbub_connections"] === open && all;
    });
    const stored = first.length + second.length;
    expect(before["hubbub_messages_stored_total"]).toBe(stored);
    expect(after["hubbub_messages_stored_total"]).toBe(stored + second.length + 2);
    // prom-client gives some of its gauges the suffix of a counter.
    const rising = Object.keys(before).filter((name) => /^(?!.*_active_).*_(total|count|sum)$/.test(name));
    expect(rising.length).toBeGreaterThan(10);
    for (const name of rising) {
      const line = [before, ...during, after].map((all) => all[name] ?? 0);
      expect({ name, line }).toEqual({ name, line: line.toSorted((a, b) => a - b) });
    }
  });

  it("answer /metrics with a hanging worker's last values, and kill it when they stop", async () => {
    const { server, house: at } = await twoWorkers();
    const { first, second } = await peopleOnBoth(server, at);
    const count = first.length + second.length;
    expect((await figuresOf(server))["hubbub_connections"]).toBe(count);
    process.kill(workersOf(server).get("box-1") ?? 0, "SIGSTOP");
    // The hanging worker is handed a connection, too, but only one.
    const asked = await Promise.allSettled([figuresOf(server), figuresOf(server)]);
    const answers = asked.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    expect(answers.length).toBeGreaterThan(0);
    for (const all of answers) expect(all["hubbub_connections"]).toBe(count);
    const workers = [...workersOf(server).values()];
    expect(await server.stop()).toBe(0);
    expect(server.output()).toContain("a worker did not stop and is killed");
    expect(workers.filter(isAlive)).toEqual([]);
  });

  it("stop with SIGTERM to the primary: exit code 0 within the drain, no lease and no process left", async () => {
    const { server, house: at } = await twoWorkers({ DRAIN: "1000" });
    const { first, second } = await peopleOnBoth(server, at);
    const closed = [...first, ...second].map(
      ({ socket }) => new Promise((resolve) => socket.once("disconnect", resolve)),
    );
    const workers = [...workersOf(server).values()];
    expect(workers).toHaveLength(2);
    const began = performance.now();
    expect(await server.stop()).toBe(0);
    expect(performance.now() - began).toBeLessThan(4_000);
    await Promise.all(closed);
    expect(workers.filter(isAlive)).toEqual([]);
    expect(await at.redis.zcard(at.keys.leases)).toBe(0);
    expect(await at.redis.scard(at.keys.online)).toBe(0);
    expect(server.output()).not.toContain("a worker died");
  });

  it("end by themselves when the primary is killed", async () => {
    const { server } = await twoWorkers();
    const workers = [...workersOf(server).values()];
    expect(workers).toHaveLength(2);
    process.kill(server.pid, "SIGKILL");
    expect(await server.ended).toBe(null);
    await until(() => !workers.some(isAlive), PATIENCE_MS, "the workers to end");
  });

  it("report why they cannot start, and leave nothing behind", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = taken.address() as AddressInfo;
      await expect(twoWorkers({ PORT: String(port) })).rejects.toThrow(
        new RegExp(`^ended with 69: .*Port ${port} on 127.0.0.1 is taken`, "s"),
      );
    } finally {
      await new Promise((resolve) => taken.close(resolve));
    }
  });

  it("say that SERVER_ID is too long for their numbers", async () => {
    await expect(twoWorkers({ SERVER_ID: "x".repeat(63) })).rejects.toThrow(
      /^ended with 69: .*SERVER_ID is too long by 1: each worker adds its number/s,
    );
    await twoWorkers({ SERVER_ID: "x".repeat(62) });
  });
});
