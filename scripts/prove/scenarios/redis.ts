import { readdirSync, rmSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { until } from "../crowd.ts";
import { linesOf, type Scenario } from "../stage.ts";
import { startCluster, startSentinels, type Cluster, type Sentinels } from "./backends.ts";
import { sumOf } from "./faults.ts";

/** How soon a replica must notice that its subscription is silent. */
const DEAF_NOTICED_MS = 8_000;

const ENOUGH_LOST = 30;

export const lostReplies: Scenario = {
  name: "lost-replies",
  title: "Redis' replies are lost after the write, again and again",
  short: true,
  repeats: false,
  rig: { proxied: true },
  async run({ rig, crowd, random, history, happened, fault, pause, tell }) {
    await pause(1_500);
    const open = () => [
      ...linesOf(history, "unknown"),
      ...linesOf(history, "refused").filter((line) => !line.final),
    ];
    const applied = () => {
      const stored = new Set(linesOf(history, "heard").map((line) => `${line.room} ${line.nonce}`));
      return open().filter((line) => stored.has(`${line.room} ${line.nonce}`));
    };
    let rounds = 0;
    for (; rounds < 20 || (applied().length < 25 && rounds < 50); rounds += 1) {
      const chosen = random.sample(rig.replicas, 2);
      for (const { proxy } of chosen) proxy?.dropReplies(({ purpose }) => purpose === "commands");
      fault(`replies to ${chosen.map(({ name }) => name).join(" and ")} are lost`);
      await pause(250);
      for (const { proxy } of chosen) proxy?.cut(({ purpose }) => purpose === "commands");
      fault("and their connections are cut");
      await pause(500);
    }
    await pause(1_500);
    const retried = applied();
    happened(open().length >= 20, `only ${open().length} sends were left without an answer`);
    happened(retried.length >= 20, `only ${retried.length} of those sends had been stored`);
    // Normally most senders hear their own message before they would retry; here everybody retries.
    const before = await sumOf(rig, "hubbub_messages_repeated_total");
    for (const { person, room, nonce } of retried) {
      const sender = crowd.people.find((one) => one.name === person);
      await sender?.sendAgain(room, nonce);
    }
    const repeated = (await sumOf(rig, "hubbub_messages_repeated_total")) - before;
    happened(repeated >= 20, `only ${repeated} retries of what had been stored`);
    tell(
      `${rounds} cuts, ${open().length} sends unanswered, ${retried.length} of them stored and sent again`,
    );
  },
};

const isRoomMessage = (chunk: Buffer) => chunk.includes('"type":"message"') && chunk.includes("MESSAGES:");

export const pubsubKills: Scenario = {
  name: "pubsub-kills",
  title:
    "subscriptions are killed every 2 s, one announcement in ten is lost, and the last one before a silence",
  short: true,
  rig: { proxied: true },
  rules: { convergeMs: 30_000 },
  async run({ rig, random, happened, fault, pause, tell }) {
    let killed = 0;
    for (let round = 0; round < 7; round += 1) {
      await pause(2_000);
      killed += Number(await rig.admin.call("CLIENT", "KILL", "TYPE", "pubsub"));
      fault("killed all subscriptions");
    }
    await pause(1_000);
    for (const { proxy } of rig.replicas) {
      proxy?.lose((chunk) => isRoomMessage(chunk) && random.next() < 0.1);
    }
    fault("one announcement in ten is lost");
    const lostOnTheWay = () => rig.replicas.reduce((sum, { proxy }) => sum + (proxy?.lostChunks() ?? 0), 0);
    await pause(4_000);
    // A slow machine needs longer to lose as many.
    await until(() => lostOnTheWay() >= ENOUGH_LOST, 30_000, "announcements to be lost").catch(() => {});
    const holes = lostOnTheWay();
    for (const { proxy } of rig.replicas) proxy?.lose(undefined);
    fault("no more announcements are lost");
    await pause(1_000);
    const healed = await sumOf(rig, "hubbub_relay_healed_messages_total");
    happened(killed >= 7 * 2, `only ${killed} subscriptions were killed`);
    happened(holes >= ENOUGH_LOST, `only ${holes} announcements were lost on their way`);
    happened(healed >= 50, `only ${healed} messages were missed by a replica`);
    tell(`${killed} subscriptions killed, ${holes} announcements lost, ${healed} messages healed`);
  },
  /** Silently drops what comes over the subscriptions while one message is sent to each room. */
  async quiet({ rig, crowd, happened, fault, pause, tell }) {
    await until(
      () => crowd.people.every((one) => one.connected && one.pending === 0),
      60_000,
      "the load to end",
    );
    await pause(1_000);
    const before = rig.replicas.reduce((sum, { proxy }) => sum + (proxy?.lostChunks() ?? 0), 0);
    for (const { proxy } of rig.replicas) proxy?.lose(isRoomMessage);
    for (const inside of crowd.members.entries()) inside[1][0]?.say(inside[0], "the last word");
    await until(() => crowd.people.every((one) => one.pending === 0), 5_000, "the last words to be stored");
    await pause(300);
    const lost = rig.replicas.reduce((sum, { proxy }) => sum + (proxy?.lostChunks() ?? 0), -before);
    for (const { proxy } of rig.replicas) proxy?.lose(undefined);
    fault("the last words were lost on their way to the replicas");
    happened(lost >= rig.replicas.length, `only ${lost} announcements of the last words were lost`);
    tell(`${lost} announcements of the last words lost`);
  },
};

export const blackholedSubscriber: Scenario = {
  name: "deaf-replica",
  title: "a replica's subscriptions go silent for 20 s without being closed",
  rig: { proxied: true },
  async run({ rig, history, happened, must, fault, pause, tell }) {
    const [, replica] = rig.replicas;
    if (!replica?.proxy) throw new Error("there is no replica with a proxy");
    await pause(3_000);
    const before = replica.log.length;
    const heard = linesOf(history, "heard").length;
    replica.proxy.blackhole(({ purpose }) => purpose === "subscriptions");
    const beganAt = performance.now();
    fault(`${replica.name} is deaf`);
    await pause(20_000);
    const noticed = replica.log.slice(before).find((line) => line.text.includes("deaf"));
    replica.proxy.heal();
    fault(`${replica.name} hears`);
    happened(linesOf(history, "heard").length > heard, "nobody said anything meanwhile");
    const afterMs = noticed ? noticed.at - beganAt : Infinity;
    must(afterMs <= DEAF_NOTICED_MS, `the silence was noticed after ${Math.round(afterMs)} ms`);
    tell(`noticed after ${(afterMs / 1_000).toFixed(1)} s`);
    await pause(4_000);
    const healed = await replica.metric("hubbub_relay_healed_messages_total");
    happened(healed > 0, "the deaf replica missed nothing");
    tell(`${healed} messages healed`);
  },
};

export const redisKilled: Scenario = {
  name: "redis-killed",
  title: "Redis is killed (kill -9) and started again from its append-only file, twice",
  short: true,
  rules: { convergeMs: 15_000 },
  async run({ rig, history, happened, must, fault, pause, tell }) {
    for (let round = 0; round < 2; round += 1) {
      await pause(3_000);
      await rig.redis.kill();
      const killedAt = history.now();
      fault("killed Redis");
      await pause(2_000);
      const down = linesOf(history, "acknowledged").filter((line) => line.at > killedAt + 100);
      must(down.length === 0, `${down.length} messages were acknowledged while there was no Redis`);
      await rig.redis.start();
      const startedAt = history.now();
      fault("started Redis");
      await until(
        () => linesOf(history, "acknowledged").some((line) => line.at > startedAt),
        20_000,
        "an acknowledgement",
      );
      const first = linesOf(history, "acknowledged").find((line) => line.at > startedAt)?.at ?? Infinity;
      must(
        first - startedAt <= 3_000,
        `the first acknowledgement came ${Math.round(first - startedAt)} ms after Redis`,
      );
      tell(`first acknowledgement ${Math.round(first - startedAt)} ms after Redis was back`);
    }
    await pause(3_000);
    const refused =
      linesOf(history, "refused").filter((line) => !line.final).length + linesOf(history, "unknown").length;
    happened(refused > 0, "no send met a Redis that was away");
  },
};

/** Keys of a room's log, or that go with it. */
const LOG_KEY = /^room:[\d:]+$|^\{room:[\d:]+\}:(meta|nonce|read)/;

export const redisEmptied: Scenario = {
  name: "redis-emptied",
  title: "Redis comes back without any message (accounts and rooms restored)",
  rig: { proxied: true },
  // A repeat of a lost message would restore it without the outbox.
  repeats: false,
  rules: { mayRewind: "acknowledged", convergeMs: 20_000 },
  async run({ rig, history, happened, fault, pause, tell }) {
    await pause(5_000);
    for (const { proxy } of rig.replicas) {
      proxy?.refuse(() => true);
      proxy?.cut();
    }
    const kept: { key: string; ttl: number; dump: Buffer }[] = [];
    for (const key of await rig.admin.keys("*")) {
      if (LOG_KEY.test(key)) continue;
      const dump = await rig.admin.dumpBuffer(key);
      if (dump) kept.push({ key, ttl: Math.max(0, await rig.admin.pttl(key)), dump });
    }
    await rig.redis.kill();
    rmSync(join(rig.redis.dir, "appendonlydir"), { recursive: true });
    await rig.redis.start();
    for (const { key, ttl, dump } of kept) await rig.admin.restore(key, ttl, dump);
    for (const { proxy } of rig.replicas) proxy?.heal();
    fault("Redis is back without messages");
    await pause(8_000);
    const resets = linesOf(history, "reset").length;
    happened(resets > 0, "nobody was told to start anew");
    tell(`${resets} resets, ${linesOf(history, "offered again").length} messages offered again`);
  },
};

/** Bytes to remove from the end of the append-only file, as a power cut would. */
const LOST_TAIL = 262_144;

export const aofTruncated: Scenario = {
  name: "aof-truncated",
  title: "Redis loses the last seconds of its append-only file",
  // A repeat of a lost message would restore it without the outbox.
  repeats: false,
  rules: { mayRewind: "acknowledged", convergeMs: 20_000 },
  async run({ rig, history, happened, fault, pause, tell }) {
    await pause(8_000);
    await rig.redis.kill();
    const folder = join(rig.redis.dir, "appendonlydir");
    const file = readdirSync(folder).find((name) => name.endsWith(".incr.aof")) ?? "";
    const { size } = statSync(join(folder, file));
    happened(size > 2 * LOST_TAIL, `the append-only file has only ${size} bytes`);
    truncateSync(join(folder, file), size - LOST_TAIL);
    fault(`the last ${LOST_TAIL} of ${size} bytes are gone`);
    await rig.redis.start();
    await pause(8_000);
    const resets = linesOf(history, "reset").length;
    happened(resets > 0, "nobody was told to start anew");
    tell(`${resets} resets, ${linesOf(history, "offered again").length} messages offered again`);
  },
};

function sentinelFailover(waits: boolean): Scenario {
  let group: Sentinels | undefined;
  return {
    name: waits ? "sentinel-wait" : "sentinel",
    title: `Sentinel failover after 2 s without replication, ${waits ? "with WAIT" : "without WAIT"}`,
    ...(waits && { short: true }),
    rig: {
      env: waits ? { WAIT_REPLICAS: "1" } : {},
      backend: async (dir, program) => {
        group = await startSentinels(dir, program);
        return group;
      },
    },
    ...(waits ? {} : { repeats: false as const }),
    rules: { mayRewind: waits ? "unacknowledged" : "acknowledged", convergeMs: 25_000 },
    async run({ history, happened, must, fault, pause, tell }) {
      if (!group) throw new Error("there are no Sentinels");
      await pause(4_000);
      group.cutReplication();
      fault("the master's replicas hear nothing more");
      await pause(2_000);
      const cut = linesOf(history, "acknowledged").filter((line) => line.at > history.now() - 1_500).length;
      must(!waits || cut === 0, `${cut} messages were acknowledged although no replica had them`);
      happened(waits || cut > 0, "nothing was acknowledged that only the master had");
      await group.killMaster();
      const killedAt = history.now();
      fault("killed the master");
      const since = () => linesOf(history, "acknowledged").find((line) => line.at > killedAt + 500);
      await until(() => since() !== undefined, 30_000, "an acknowledgement by the new master");
      tell(
        `first acknowledgement ${(((since()?.at ?? 0) - killedAt) / 1_000).toFixed(1)} s after the master's end`,
      );
      await pause(8_000);
      const resets = linesOf(history, "reset").length;
      happened(waits || resets > 0, "nobody was told to start anew");
      tell(`${resets} resets, ${linesOf(history, "offered again").length} messages offered again`);
    },
  };
}

export const sentinel = sentinelFailover(false);
export const sentinelWait = sentinelFailover(true);

/** The longest time in ms without an acknowledgement after `since`, in each room. */
function silencesAfter(since: number, acknowledged: readonly { room: string; at: number }[]): number[] {
  const rooms = [...new Set(acknowledged.map(({ room }) => room))];
  return rooms.map((id) => {
    const later = acknowledged.filter(({ room, at }) => room === id && at > since);
    const times = [since, ...later.map(({ at }) => at)];
    return Math.round(Math.max(...times.map((at, index) => at - (times[index - 1] ?? at))));
  });
}

let nodes: Cluster | undefined;

export const clusterPrimary: Scenario = {
  name: "cluster-primary",
  title: "Redis Cluster (6 nodes): the primary of General's slot is killed",
  short: true,
  rig: {
    env: { WAIT_REPLICAS: "1" },
    backend: async (dir, program) => {
      nodes = await startCluster(dir, program);
      return nodes;
    },
  },
  rules: { mayRewind: "unacknowledged", convergeMs: 25_000 },
  async run({ history, happened, must, fault, pause, tell }) {
    if (!nodes) throw new Error("there is no Cluster");
    await pause(4_000);
    const killedAt = history.now();
    fault("killed the primary of room:0");
    const restart = await nodes.failOver("room:0");
    tell(`its replica took over after ${((history.now() - killedAt) / 1_000).toFixed(1)} s`);
    // With WAIT no message is acknowledged until the new primary has a replica again.
    await restart();
    fault("the killed node is back, as a replica");
    const general = () => linesOf(history, "acknowledged").filter((line) => line.room === "0");
    const backAt = history.now();
    await until(() => general().some((line) => line.at > backAt), 30_000, "an acknowledgement in General");
    // An answer that was under way may come after the kill.
    const times = [
      killedAt,
      ...general()
        .map(({ at }) => at)
        .filter((at) => at > killedAt),
    ];
    const stallMs = Math.max(...times.map((at, index) => at - (times[index - 1] ?? at)));
    must(stallMs <= 10_000, `General stood still for ${Math.round(stallMs)} ms`);
    happened(stallMs > 1_000, "General did not notice");
    tell(`General stood still for ${(stallMs / 1_000).toFixed(1)} s`);
    const silences = silencesAfter(killedAt, linesOf(history, "acknowledged"));
    const untouched = silences.filter((silenceMs) => silenceMs < 1_500).length;
    must(untouched > 0, `no room on another primary went on: silent for ${silences.join(", ")} ms`);
    tell(`${untouched} of ${silences.length} rooms, on other primaries, went on`);
    await pause(5_000);
  },
};

export const redisRefuses: Scenario = {
  name: "redis-refuses",
  title: "Redis is out of memory, forgets its scripts, fails the busy",
  rules: { convergeMs: 15_000 },
  async run({ rig, history, happened, must, fault, pause, tell }) {
    await pause(2_000);
    await rig.admin.config("SET", "maxmemory", "1mb");
    await pause(100);
    const fullAt = history.now();
    fault("Redis is out of memory");
    await pause(3_000);
    const acknowledged = linesOf(history, "acknowledged").filter((line) => line.at > fullAt).length;
    const refused = linesOf(history, "refused").filter(
      (line) => line.at > fullAt && line.code === "unavailable",
    ).length;
    await rig.admin.config("SET", "maxmemory", "0");
    fault("Redis has memory again");
    happened(refused > 0, "no send was refused");
    const repeats = acknowledged;
    for (let round = 0; round < 10; round += 1) {
      await pause(500);
      await rig.admin.call("SCRIPT", "FLUSH");
    }
    fault("Redis forgot its scripts, ten times");
    for (let round = 0; round < 3; round += 1) {
      await rig.admin.call("CLIENT", "PAUSE", "700", "WRITE");
      await pause(1_500);
    }
    fault("Redis paused its writes, three times");
    await pause(3_000);
    const last = linesOf(history, "acknowledged").at(-1)?.at ?? 0;
    must(history.now() - last < 1_000, "nothing is acknowledged any more");
    tell(`${refused} sends refused while out of memory, ${repeats} retries answered`);
    happened((await sumOf(rig, "hubbub_messages_stored_total")) > 0, "nothing was stored");
  },
};
