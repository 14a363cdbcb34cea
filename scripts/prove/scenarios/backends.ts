import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster as ClusterClient, Redis } from "ioredis";
import { startChild, type Child } from "../../child.ts";
import { freePort } from "../../redis.ts";
import { until } from "../crowd.ts";
import { startFaultProxy } from "../proxy.ts";
import { createRedisNode, openAdmin, type Backend, type RedisNode, type Rig } from "../rig.ts";

const MASTER = "prove";

export type Sentinels = Backend & {
  /** Cuts the master's replicas off for good. */
  cutReplication: () => void;
  killMaster: () => Promise<void>;
};

/**
 * Starts a master, two replicas and three Sentinels. Everybody reaches the first master through a fault proxy, so that it
 * can be cut off from its replicas while clients still reach it.
 */
export async function startSentinels(dir: string, program: Rig["program"]): Promise<Sentinels> {
  const started: RedisNode[] = [];
  const sentinels: Child[] = [];
  async function close(): Promise<void> {
    admin?.disconnect();
    proxy.close();
    await Promise.all(sentinels.map((sentinel) => sentinel.stop(500)));
    await Promise.all(started.map((node) => node.kill()));
  }
  const master = await createRedisNode(join(dir, "master"), program, ["repl-diskless-sync-delay 0"]);
  started.push(master);
  await master.start();
  const proxy = await startFaultProxy(master.port);
  let admin: Redis | undefined;
  try {
    for (const name of ["replica-1", "replica-2"]) {
      const replica = await createRedisNode(join(dir, name), program, [
        `replicaof 127.0.0.1 ${proxy.port}`,
        "repl-diskless-sync-delay 0",
      ]);
      started.push(replica);
      await replica.start();
    }
    const ports = await Promise.all([1, 2, 3].map(() => freePort()));
    for (const port of ports) {
      const folder = join(dir, `sentinel-${port}`);
      mkdirSync(folder);
      const file = join(folder, "sentinel.conf");
      const lines = [
        `port ${port}`,
        "bind 127.0.0.1",
        `dir ${folder}`,
        `sentinel monitor ${MASTER} 127.0.0.1 ${proxy.port} 2`,
        `sentinel down-after-milliseconds ${MASTER} 1500`,
        `sentinel failover-timeout ${MASTER} 5000`,
        `sentinel parallel-syncs ${MASTER} 2`,
      ];
      writeFileSync(file, `${lines.join("\n")}\n`);
      sentinels.push(startChild({ command: program.command, args: [file, "--sentinel"], env: program.env }));
    }
    await untilSentinelsAgree(ports);
    await untilReplicating(master, 2);
    const list = ports.map((port) => `127.0.0.1:${port}`).join(",");
    admin = new Redis({
      sentinels: ports.map((port) => ({ host: "127.0.0.1", port })),
      name: MASTER,
      maxRetriesPerRequest: null,
      retryStrategy: () => 200,
      sentinelRetryStrategy: () => 200,
    });
    admin.on("error", () => {});
    return {
      url: `redis+sentinel://${list}/${MASTER}`,
      redis: master,
      admin,
      close,
      cutReplication() {
        proxy.refuse(({ purpose }) => purpose === "replication");
        proxy.cut(({ purpose }) => purpose === "replication");
      },
      killMaster: () => master.kill(),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function untilSentinelsAgree(ports: number[]): Promise<void> {
  const clients = ports.map((port) => openAdmin(port));
  try {
    await until(
      async () => {
        const answers = await Promise.all(
          clients.map(async (client) => {
            const fields = (await client.call("SENTINEL", "MASTER", MASTER)) as string[];
            const field = (name: string) => Number(fields[fields.indexOf(name) + 1]);
            return field("num-slaves") === 2 && field("num-other-sentinels") === 2;
          }),
        );
        return answers.every(Boolean);
      },
      20_000,
      "the Sentinels to know each other",
      200,
    );
  } finally {
    for (const client of clients) client.disconnect();
  }
}

async function untilReplicating(master: RedisNode, count: number): Promise<void> {
  const client = openAdmin(master.port);
  try {
    const online = async () => [...(await client.info("replication")).matchAll(/state=online/g)].length;
    await until(async () => (await online()) >= count, 20_000, "the replicas to follow the master", 100);
  } finally {
    client.disconnect();
  }
}

export type Cluster = Backend & {
  /** Kills the primary of this key's slot; resolves once its replica took over, with a function that starts it again. */
  failOver: (key: string) => Promise<() => Promise<void>>;
};

const SLOTS = 16_384;

/** Starts three primaries with one replica each. */
export async function startCluster(dir: string, program: Rig["program"]): Promise<Cluster> {
  const nodes: RedisNode[] = [];
  const clients: Redis[] = [];
  let admin: ClusterClient | undefined;
  async function close(): Promise<void> {
    admin?.disconnect();
    for (const client of clients) client.disconnect();
    await Promise.all(nodes.map((node) => node.kill()));
  }
  try {
    for (let index = 0; index < 6; index += 1) {
      const busPort = await freePort();
      const node = await createRedisNode(join(dir, `node-${index}`), program, [
        "cluster-enabled yes",
        `cluster-port ${busPort}`,
        "cluster-node-timeout 2000",
        "cluster-require-full-coverage no",
        "repl-diskless-sync-delay 0",
      ]);
      nodes.push(node);
      await node.start();
      const client = openAdmin(node.port);
      clients.push(client);
      if (index > 0) {
        const [first] = nodes;
        const [one] = clients;
        const bus = await one?.config("GET", "cluster-port");
        await client.call("CLUSTER", "MEET", "127.0.0.1", String(first?.port), (bus as string[])[1] ?? "");
      }
    }
    for (const [index, client] of clients.slice(0, 3).entries()) {
      const [from, to] = [Math.floor((index * SLOTS) / 3), Math.floor(((index + 1) * SLOTS) / 3) - 1];
      await client.call("CLUSTER", "ADDSLOTSRANGE", String(from), String(to));
    }
    const [first] = clients;
    if (!first) throw new Error("there is no node");
    await until(
      async () =>
        String(await first.call("CLUSTER", "NODES"))
          .split("\n")
          .filter((line) => line.includes("connected")).length === 6,
      20_000,
      "the nodes to meet",
      200,
    );
    await sleep(1_000);
    for (const [index, client] of clients.slice(3).entries()) {
      const id = String(await clients[index]?.call("CLUSTER", "MYID"));
      for (let tries = 0; ; tries += 1) {
        const done = await client.call("CLUSTER", "REPLICATE", id).then(
          () => true,
          () => false,
        );
        if (done) break;
        if (tries > 50) throw new Error("a node did not become a replica");
        await sleep(200);
      }
    }
    for (const node of nodes.slice(0, 3)) await untilReplicating(node, 1);
    await until(
      async () => {
        const states = await Promise.all(clients.map((client) => client.call("CLUSTER", "INFO")));
        return states.every((state) => /cluster_state:ok/.test(String(state)));
      },
      20_000,
      "the Cluster to be whole",
      200,
    );
    const list = nodes.map((node) => `127.0.0.1:${node.port}`);
    admin = new ClusterClient(
      nodes.map((node) => ({ host: "127.0.0.1", port: node.port })),
      { clusterRetryStrategy: () => 200, redisOptions: { maxRetriesPerRequest: null } },
    );
    admin.on("error", () => {});
    return {
      url: `redis+cluster://${list.join(",")}`,
      redis: nodes[0] as RedisNode,
      admin,
      close,
      async failOver(key) {
        const slot = Number(await first.call("CLUSTER", "KEYSLOT", key));
        const index = [0, 1, 2].findIndex((one) => slot < Math.floor(((one + 1) * SLOTS) / 3));
        const node = nodes[index] as RedisNode;
        const heir = clients[index + 3] as Redis;
        await node.kill();
        await until(async () => (await heir.role())[0] === "master", 20_000, "the replica to take over", 100);
        return () => node.start();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}
