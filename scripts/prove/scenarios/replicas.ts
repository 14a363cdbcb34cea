import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { io, type Socket } from "socket.io-client";
import type { RoomId } from "../../../server/src/protocol.ts";
import { until } from "../crowd.ts";
import { linesOf, type Scenario } from "../stage.ts";
import { connectionsOf, everyReplica } from "./faults.ts";

/** Engine.IO's ping interval and timeout together: after this silence a client gives up its connection. */
const DEAD_AFTER_MS = 18_000;
/** How long a replica may take to stop. */
const STOPPED_WITHIN_MS = 45_000;

export const killedReplica: Scenario = {
  name: "killed-replica",
  title: "a replica is killed (kill -9) and started again, three times",
  short: true,
  async run({ rig, crowd, history, happened, fault, pause, tell }) {
    await pause(2_000);
    let moved = 0;
    for (const [turn, replica] of rig.replicas.entries()) {
      const here = await connectionsOf(rig, crowd, replica);
      happened(here.length > 0, `nobody was connected to replica ${replica.name}`);
      const before = new Map(here.map((one) => [one, one.connections]));
      await replica.kill();
      fault(`killed ${replica.name}`);
      // Two people leave with it: only the sweep of its leases can notice.
      const gone = turn === 0 ? here.slice(0, 2) : [];
      for (const one of gone) one.close();
      await pause(2_000);
      await replica.start();
      fault(`started ${replica.name}`);
      await pause(3_000);
      moved += here.filter((one) => one.connections > (before.get(one) ?? 0)).length;
    }
    happened(moved > 0, "nobody had to move to another replica");
    const unknown = linesOf(history, "unknown").length;
    tell(`${moved} connections moved, ${unknown} unknown outcomes`);
  },
};

export const stoppedReplica: Scenario = {
  name: "stopped-replica",
  title: "replicas are stopped (SIGSTOP) for 6 s and 25 s, and wake up",
  rules: { convergeMs: 15_000 },
  async run({ rig, crowd, happened, must, fault, pause, tell }) {
    const [, long, short] = rig.replicas;
    if (!long || !short) throw new Error("there are not enough replicas");
    await pause(2_000);
    const here = await connectionsOf(rig, crowd, long);
    happened(here.length > 0, `nobody was connected to replica ${long.name}`);
    const before = new Map(here.map((one) => [one, one.connections]));
    const moved = () => here.filter((one) => one.connections > (before.get(one) ?? 0));
    long.signal("SIGSTOP");
    short.signal("SIGSTOP");
    const stoppedAt = performance.now();
    fault(`stopped ${long.name} and ${short.name}`);
    await pause(6_000);
    short.signal("SIGCONT");
    fault(`${short.name} goes on`);
    await until(() => moved().length === here.length, DEAD_AFTER_MS, "everybody to move").catch(() => {});
    const tookMs = performance.now() - stoppedAt;
    must(
      moved().length === here.length,
      `${here.length - moved().length} people stayed with a stopped replica`,
    );
    tell(`${here.length} people moved within ${(tookMs / 1_000).toFixed(1)} s`);
    await pause(25_000 - (performance.now() - stoppedAt));
    long.signal("SIGCONT");
    fault(`${long.name} goes on`);
    await pause(3_000);
  },
};

export const rollingDeploy: Scenario = {
  name: "rolling-deploy",
  title: "a rolling deploy: SIGTERM and a new start, one replica after another",
  async run({ rig, crowd, history, happened, must, fault, pause, tell }) {
    await pause(2_000);
    const slowest = { exit: 0 };
    for (const replica of rig.replicas) {
      const connections = await replica.metric("hubbub_connections");
      happened(connections > 0, `nobody was connected to replica ${replica.name}`);
      const began = performance.now();
      fault(`SIGTERM to ${replica.name}`);
      let over = false;
      const ready = watchReadiness(replica.port, () => over);
      const code = await replica.terminate();
      over = true;
      slowest.exit = Math.max(slowest.exit, performance.now() - began);
      must(code === 0, `replica ${replica.name} ended with exit code ${code}`);
      must(await ready, `replica ${replica.name} stayed ready while it was stopping`);
      await replica.start();
      fault(`started ${replica.name}`);
      await pause(2_500);
    }
    must(slowest.exit <= STOPPED_WITHIN_MS, `a replica took ${Math.round(slowest.exit)} ms to stop`);
    const isDue = ({ room, person, code }: { room: RoomId; person: string; code: string }) =>
      code === "too_large" || !crowd.members.get(room)?.some(({ name }) => name === person);
    const refused = linesOf(history, "refused").filter((line) => line.final && !isDue(line));
    const shown = linesOf(history, "shown failed").filter((line) => !isDue(line));
    must(shown.length === 0, `${shown.length} errors were shown`);
    must(refused.length === 0, `${refused.length} sends were refused for good`);
    const opened = linesOf(history, "socket opened").filter((line) => line.at > 5_000);
    const busiest = Math.max(
      0,
      ...opened.map(({ at }) => opened.filter((one) => one.at >= at && one.at < at + 1_000).length),
    );
    must(busiest <= 50, `${busiest} handshakes in one second`);
    tell(`stopped within ${(slowest.exit / 1_000).toFixed(1)} s, at most ${busiest} handshakes in a second`);
  },
};

/** Whether /readyz was refused before the port was closed. */
async function watchReadiness(port: number, over: () => boolean): Promise<boolean> {
  while (!over()) {
    const status = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      (response) => response.status,
      () => 0,
    );
    if (status === 503) return true;
    await new Promise((done) => setTimeout(done, 10));
  }
  return false;
}

const HOURS_MS = 3_600_000;

export const clockSkew: Scenario = {
  name: "clock-skew",
  title: "clocks hours apart: a replica 2 h ahead, one 2 h behind, one that steps; Redis' clock set back",
  lacks: ({ faketime }) => (faketime ? undefined : "there is no libfaketime"),
  rig: {
    replicaEnv: (tools, dir) => {
      writeFileSync(join(dir, "clock"), "+0");
      const fake = { LD_PRELOAD: tools.faketime ?? "", FAKETIME_DONT_FAKE_MONOTONIC: "1" };
      return [
        { ...fake, FAKETIME: "+2h" },
        { ...fake, FAKETIME: "-2h" },
        { ...fake, FAKETIME_TIMESTAMP_FILE: join(dir, "clock"), FAKETIME_NO_CACHE: "1" },
      ];
    },
  },
  async run({ rig, crowd, happened, must, fault, pause, tell }) {
    const skews = await everyReplica(rig, async ({ port }) => {
      const response = await fetch(`http://127.0.0.1:${port}/healthz`);
      return (Date.parse(response.headers.get("date") ?? "") - Date.now()) / HOURS_MS;
    });
    happened((skews[0] ?? 0) > 1.9 && (skews[1] ?? 0) < -1.9, `the clocks are ${skews.join(", ")} h off`);
    await pause(4_000);
    // The next message gets a date one millisecond after one in the future.
    await rig.admin.hset("{room:0}:meta", "date", Date.now() + HOURS_MS);
    fault("Redis' clock was an hour ahead, and is right again");
    for (const offset of ["-10", "+20", "-3600", "+0"]) {
      writeFileSync(join(rig.dir, "clock"), offset);
      fault(`${rig.replicas[2]?.name} is ${offset} s off`);
      await pause(2_500);
    }
    happened(readFileSync(join(rig.dir, "clock"), "utf8") === "+0", "the steps");
    const me = await Promise.all(
      crowd.people.map((one) =>
        one
          .api()
          .me()
          .then(
            () => true,
            () => false,
          ),
      ),
    );
    must(me.every(Boolean), "a session did not survive");
    tell(`replicas' clocks off by ${skews.map((hours) => `${hours.toFixed(1)} h`).join(", ")}`);
  },
};

const LIGHT = 960;

export const thunderingHerd: Scenario = {
  name: "thundering-herd",
  title: "1,000 connections are cut at once and come back; people come and go by the hundred",
  rate: 10,
  rules: { convergeMs: 20_000 },
  async run({ rig, crowd, history, happened, must, fault, pause, tell }) {
    const light: Socket[] = [];
    const back = () => light.filter((socket) => socket.connected).length;
    let diffs = 0;
    try {
      for (let index = 0; index < LIGHT; index += 1) {
        const one = crowd.people[index % crowd.people.length];
        const socket = io(rig.address, {
          transports: ["websocket"],
          forceNew: true,
          reconnectionDelay: 2_000,
          reconnectionDelayMax: 20_000,
          extraHeaders: { cookie: one?.cookie ?? "", origin: rig.address },
        });
        light.push(socket);
        if (index % 60 === 59) await pause(200);
      }
      await until(() => back() === LIGHT, 30_000, "the herd to gather");
      const [witness] = light;
      for (const event of ["user.connected", "user.disconnected"]) witness?.on(event, () => (diffs += 1));
      await pause(1_000);
      await rig.loadBalancer.kill();
      const cutAt = performance.now();
      fault("cut everybody");
      const cut = () => linesOf(history, "socket closed").length;
      const all = () => back() === 0 && cut() >= crowd.people.length;
      await until(all, 5_000, "everybody to notice").catch(() => {});
      happened(all(), "not everybody was cut");
      await rig.loadBalancer.start();
      await until(
        () => back() === LIGHT && crowd.people.every((one) => one.connected),
        30_000,
        "the herd to come back",
      ).catch(() => {});
      const tookMs = performance.now() - cutAt;
      must(back() === LIGHT, `${LIGHT - back()} of ${LIGHT} are not back after 30 s`);
      const lag = Math.max(
        ...(await everyReplica(rig, (replica) => replica.metric("hubbub_nodejs_eventloop_lag_p99_seconds"))),
      );
      await pause(2_000);
      const seconds = (performance.now() - cutAt) / 1_000;
      must(diffs <= seconds + 1, `${diffs} presence diffs in ${seconds.toFixed(0)} s`);
      tell(
        `all back after ${(tookMs / 1_000).toFixed(1)} s, event-loop delay p99 ${Math.round(lag * 1_000)} ms, ${diffs} presence diffs`,
      );
    } finally {
      for (const socket of light) socket.disconnect();
    }
  },
};
