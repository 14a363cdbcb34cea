import { connectionsOf, everyReplica, sumOf } from "./faults.ts";
import { until } from "./crowd.ts";
import { createPerson, type Person } from "./person.ts";
import { linesOf, type Scenario, type Stage } from "./stage.ts";

/** How long a session's sockets may live on after its end, where its announcement arrives and where it is lost. */
const SESSION_ENDS_MS = 1_000;
const SESSION_ENDS_UNTOLD_MS = 35_000;

const killedReplica: Scenario = {
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
      // Two people leave with it: nobody but the sweep of its leases can tell.
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

const lostReplies: Scenario = {
  name: "lost-replies",
  title: "Redis' replies are lost after the write, 20 times",
  short: true,
  repeats: false,
  rig: { proxied: true },
  async run({ rig, random, history, happened, fault, pause, tell }) {
    await pause(1_500);
    for (let round = 0; round < 20; round += 1) {
      const { proxy, name } = random.pick(rig.replicas);
      proxy?.dropReplies(({ purpose }) => purpose === "commands");
      fault(`replies to ${name} are lost`);
      await pause(300);
      proxy?.cut(({ purpose }) => purpose === "commands");
      fault(`cut ${name} off`);
      await pause(450);
    }
    await pause(2_500);
    const unknown =
      linesOf(history, "unknown").length + linesOf(history, "refused").filter((line) => !line.final).length;
    happened(unknown >= 20, `only ${unknown} sends were left without an answer`);
    const repeated = await sumOf(rig, "hubbub_messages_repeated_total");
    happened(repeated >= 20, `only ${repeated} of the retries were of a message that had been stored`);
    tell(`${unknown} unanswered, ${repeated} retries of what was already stored`);
  },
};

const pubsubKills: Scenario = {
  name: "pubsub-kills",
  title: "subscriptions are killed every 2 s, and the last message before a silence is lost",
  short: true,
  rig: { proxied: true },
  rules: { convergeMs: 30_000 },
  async run({ rig, happened, fault, pause, tell }) {
    let killed = 0;
    for (let round = 0; round < 7; round += 1) {
      await pause(2_000);
      killed += Number(await rig.admin.call("CLIENT", "KILL", "TYPE", "pubsub"));
      fault("killed all subscriptions");
    }
    await pause(1_000);
    const healed = await sumOf(rig, "hubbub_relay_healed_messages_total");
    happened(killed >= 7 * 3, `only ${killed} subscriptions were killed`);
    happened(healed >= 50, `only ${healed} messages were missed by a replica`);
    tell(`${killed} subscriptions killed, ${healed} messages healed`);
  },
  /** What comes over the subscriptions is lost, silently, while one message is said in each room. */
  async quiet({ rig, crowd, happened, fault, pause, tell }) {
    await until(
      () => crowd.people.every((one) => one.connected && one.pending === 0),
      10_000,
      "the load to end",
    );
    await pause(1_000);
    for (const replica of rig.replicas) {
      replica.proxy?.lose((chunk) => chunk.includes('"type":"message"') && chunk.includes("MESSAGES:"));
    }
    for (const inside of crowd.members.entries()) void inside[1][0]?.outbox.add(inside[0], "the last word");
    await until(() => crowd.people.every((one) => one.pending === 0), 5_000, "the last words to be stored");
    await pause(300);
    const lost = rig.replicas.reduce((sum, replica) => sum + (replica.proxy?.lostChunks() ?? 0), 0);
    for (const replica of rig.replicas) replica.proxy?.lose(undefined);
    fault("the last words were lost on their way to the replicas");
    happened(lost >= rig.replicas.length, `only ${lost} announcements of the last words were lost`);
    tell(`${lost} announcements of the last words lost`);
  },
};

const redisKilled: Scenario = {
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

const logoutStorm: Scenario = {
  name: "logout-storm",
  title: "log-outs under load, told and untold; expired and deleted sessions",
  short: true,
  rig: { proxied: true },
  async run(stage) {
    const { rig, crowd, history, happened, must, fault, pause, tell } = stage;
    // Indices 22 to 29 and 32 to 39 are in no private room.
    const untold = await openWindows(stage, crowd.people.slice(22, 25));
    const deleted = await openWindows(stage, crowd.people.slice(25, 26));
    const told = await openWindows(stage, crowd.people.slice(34, 40));
    const windows = [...untold, ...deleted, ...told];
    await pause(1_500);
    const spread = await Promise.all(rig.replicas.map((replica) => replica.metric("hubbub_connections")));
    happened(
      spread.every((count) => count >= 5),
      `the windows are not spread over the replicas: ${spread.join(", ")}`,
    );

    // 1. The announcements between replicas are lost; only the routine look at sessions can find out.
    for (const { proxy } of rig.replicas) {
      proxy?.blackhole(({ purpose, relay }) => purpose === "subscriptions" && !relay);
    }
    fault("announcements between replicas are lost");
    await Promise.all(untold.map((person) => logOut(stage, person, SESSION_ENDS_UNTOLD_MS)));
    for (const { one } of deleted) {
      await rig.admin.del(`sess:${sidOf(one.cookie)}`);
      history.add({ kind: "session over", session: one.session, withinMs: SESSION_ENDS_UNTOLD_MS });
    }
    const survivors = [...untold, ...deleted].flatMap(({ all }) =>
      all.filter((window) => window.connected),
    ).length;
    happened(survivors > 0, "every window was told although the announcements were lost");
    const open = () => [...untold, ...deleted].flatMap(({ all }) => all.filter((window) => window.connected));
    const overAt = performance.now();
    await until(
      () => open().length === 0,
      SESSION_ENDS_UNTOLD_MS + 1_000,
      "the untold windows to be closed",
    ).catch(() => {});
    tell(`untold: ${survivors} windows closed within ${((performance.now() - overAt) / 1_000).toFixed(1)} s`);
    for (const { proxy } of rig.replicas) {
      proxy?.heal();
      proxy?.cut(({ purpose, relay }) => purpose === "subscriptions" && !relay);
    }
    fault("announcements arrive again");
    await pause(1_500);

    // 2. With announcements, and with slow requests of the same session under way.
    const toldAt = history.now();
    await Promise.all(told.map((person) => logOut(stage, person, SESSION_ENDS_MS)));
    await pause(1_500);
    const closed = linesOf(history, "socket closed").filter(
      (line) => line.at >= toldAt && told.some(({ one }) => one.session === line.session),
    );
    const slowest = Math.max(0, ...closed.map((line) => line.at)) - toldAt;
    tell(`told: ${closed.length} windows closed within ${Math.round(slowest)} ms`);
    for (const { one, all } of windows) {
      must(
        all.every((window) => !window.connected),
        `${one.name} still has an open window`,
      );
      const stored = await rig.admin.exists(`sess:${sidOf(one.cookie)}`);
      if (stored)
        history.add({ kind: "session used", session: one.session, how: "a request that brought it back" });
      await one.call("GET", "/me").then(
        () => history.add({ kind: "session used", session: one.session, how: "GET /api/me" }),
        () => {},
      );
    }
  },
};

type Windows = { one: Person; all: Person[] };

/** Two further windows for each, in the same session, wherever the load balancer puts them. */
async function openWindows({ rig, history, random, crowd }: Stage, people: Person[]): Promise<Windows[]> {
  return people.map((one) => {
    const more = [1, 2].map(() => {
      const window = createPerson({
        address: rig.address,
        name: one.name,
        password: "",
        history,
        random,
        nameOf: crowd.nameOf,
      });
      window.adopt(one);
      window.open();
      return window;
    });
    return { one, all: [one, ...more] };
  });
}

async function logOut({ history, pause }: Stage, { one }: Windows, withinMs: number): Promise<void> {
  // Requests of this session that are under way, and that come after.
  const others = Array.from({ length: 20 }, async (_, index) => {
    await pause(index * 10);
    await one.call("GET", "/rooms").then(
      () => history.add({ kind: "session used", session: one.session, how: "GET /api/rooms" }),
      () => {},
    );
  });
  await pause(100);
  const cookie = one.cookie;
  await one.call("POST", "/logout");
  one.setCookie(cookie);
  history.add({ kind: "session over", session: one.session, withinMs });
  await Promise.all(others);
  one.setCookie(cookie);
}

function sidOf(cookie: string): string {
  return (
    decodeURIComponent(cookie.split("=")[1] ?? "")
      .replace(/^s:/, "")
      .split(".")[0] ?? ""
  );
}

export const SCENARIOS: Scenario[] = [killedReplica, lostReplies, pubsubKills, redisKilled, logoutStorm];

export { everyReplica };
