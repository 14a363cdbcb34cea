import { setTimeout as sleep } from "node:timers/promises";
import { createApi } from "../../../client/src/chat/api.ts";
import { createProfile, headlessWorld } from "../../../client/src/chat/headless.ts";
import { until } from "../crowd.ts";
import { createPerson, type Person } from "../person.ts";
import { linesOf, type Scenario, type Stage } from "../stage.ts";

/**
 * How long a session's sockets may outlive it on a slow machine: if its announcement arrives, and (below) if it is lost.
 */
const SESSION_ENDS_MS = 5_000;
const SESSION_ENDS_UNTOLD_MS = 35_000;
/** How long a window may show a room's old state if the announcement was lost. */
const UNTOLD_MS = 35_000;

/** Replicas' orders to each other use sharded channels; messages use others. */
const isAnnouncement = (chunk: Buffer) => chunk.includes("\r\nsmessage\r\n");
const isOfRoom = (chunk: Buffer) => chunk.includes("MESSAGES:") && chunk.includes('"type":"');

export const logoutStorm: Scenario = {
  name: "logout-storm",
  title: "log-outs under load, told and untold; expired and deleted sessions",
  short: true,
  rig: { proxied: true },
  async run(stage) {
    const { rig, crowd, history, happened, must, fault, pause, tell } = stage;
    // People 22 to 29 and 32 to 39 are in no private room.
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

    // 1. The announcements between replicas are lost; only the routine check of sessions can notice.
    for (const { proxy } of rig.replicas) proxy?.lose(isAnnouncement);
    fault("announcements between replicas are lost");
    await Promise.all(untold.map((person) => logOut(stage, person, SESSION_ENDS_UNTOLD_MS)));
    for (const { one, cookie } of deleted) {
      await rig.admin.del(`sess:${sidOf(cookie)}`);
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
    for (const { proxy } of rig.replicas) proxy?.heal();
    fault("announcements arrive again");
    await pause(1_500);

    // 2. The announcements arrive, while slow requests of the same session are under way.
    const toldAt = history.now();
    await Promise.all(told.map((person) => logOut(stage, person, SESSION_ENDS_MS)));
    await until(
      () => told.every(({ all }) => all.every((window) => !window.connected)),
      SESSION_ENDS_MS,
      "the told windows to be closed",
    ).catch(() => {});
    const closed = linesOf(history, "socket closed").filter(
      (line) => line.at >= toldAt && told.some(({ one }) => one.session === line.session),
    );
    const overOf = (session: string) =>
      linesOf(history, "session over").find((line) => line.session === session)?.at ?? 0;
    const slowest = Math.max(0, ...closed.map((line) => line.at - overOf(line.session)));
    tell(`told: ${closed.length} windows closed within ${Math.round(slowest)} ms`);
    for (const { one, cookie, all } of windows) {
      must(
        all.every((window) => !window.connected),
        `${one.name} still has an open window`,
      );
      const stored = await rig.admin.exists(`sess:${sidOf(cookie)}`);
      if (stored)
        history.add({
          kind: "session used",
          session: one.session,
          how: "a request that brought it back",
          beganAt: history.now(),
        });
      await one.probe("/me", cookie);
    }
  },
};
type Windows = { one: Person; cookie: string; all: Person[] };

/** Opens two more windows for each person, in the same session, where the load balancer puts them. */
async function openWindows({ rig, history, random, crowd }: Stage, people: Person[]): Promise<Windows[]> {
  return people.map((one) => {
    const more = [1, 2].map(() => {
      const { name, cookie } = one;
      const window = createPerson({
        address: rig.address,
        name,
        history,
        random,
        nameOf: crowd.nameOf,
        cookie,
      });
      void window.chat.start();
      return window;
    });
    return { one, cookie: one.cookie, all: [one, ...more] };
  });
}

async function logOut({ history, pause }: Stage, { one, cookie }: Windows, withinMs: number): Promise<void> {
  // Requests of this session, under way when it ends and later.
  const { session } = one;
  const others = Array.from({ length: 30 }, async (_, index) => {
    await pause(index * 40);
    await one.probe(index % 2 === 0 ? "/rooms" : "/me", cookie);
  });
  await pause(300);
  await endSession(one);
  history.add({ kind: "session over", session, withinMs });
  await Promise.all(others);
}

/** Logs out until there is an answer; that the session does not exist is one too. */
async function endSession(one: Person): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await one.api().logOut();
      return;
    } catch (error) {
      if (codeOf(error) === "unauthorized") return;
      if (tries > 3) throw error;
    }
  }
}

function sidOf(cookie: string): string {
  return (
    decodeURIComponent(cookie.split("=")[1] ?? "")
      .replace(/^s:/, "")
      .split(".")[0] ?? ""
  );
}

export const leaving: Scenario = {
  name: "leaving",
  title:
    "people leave a room and come back, in windows on all replicas, while orders and announcements are lost and a replica is stopped",
  rig: { proxied: true },
  rules: { convergeMs: 40_000 },
  async run(stage) {
    const { rig, crowd, history, random, happened, must, fault, pause, tell } = stage;
    const [room = ""] = crowd.named;
    const inside = crowd.members.get(room) ?? [];
    // People who are otherwise only in General.
    const restless = inside.slice(5, 13);
    const windows = await openWindows(stage, restless);
    const all = windows.flatMap((one) => one.all);
    await until(() => all.every((window) => window.head(room).seq > 0), 10_000, "the windows");
    // They send nothing meanwhile, because refused messages would count as lost.
    crowd.members.set(
      room,
      inside.filter((one) => !restless.includes(one)),
    );
    await until(() => restless.every((one) => one.pending === 0), 5_000, "the last words");

    for (const { proxy } of rig.replicas)
      proxy?.lose((chunk) => isAnnouncement(chunk) || (isOfRoom(chunk) && random.next() < 0.3));
    fault("orders between replicas are lost, and three announcements in ten");
    const moves = comeAndGo(stage, restless, room, 0);
    await pause(5_000);
    const [stopped] = rig.replicas;
    stopped?.signal("SIGSTOP");
    fault(`replica ${stopped?.name} stands still`);
    await pause(3_000);
    stopped?.signal("SIGCONT");
    fault(`replica ${stopped?.name} goes on`);
    await pause(5_000);
    const changes = await moves.stop();
    const lost = rig.replicas.reduce((sum, { proxy }) => sum + (proxy?.lostChunks() ?? 0), 0);
    // Nobody hears of the last change of half of them.
    for (const { proxy } of rig.replicas) proxy?.lose((chunk) => isAnnouncement(chunk) || isOfRoom(chunk));
    const gone = restless.slice(0, 4);
    await Promise.all(gone.map((one) => ask(one, "leaveRoom", room)));
    for (const one of gone) history.add({ kind: "left", person: one.name, room, withinMs: 0 });
    for (const { proxy } of rig.replicas) proxy?.heal();
    fault("everything arrives again");
    crowd.members.set(
      room,
      inside.filter((one) => !gone.includes(one)),
    );
    happened(changes >= 100, `only ${changes} changes`);
    happened(lost >= 100, `only ${lost} announcements were lost`);
    const shows = (one: Person) => one.roomIds().includes(room);
    const areRight = () =>
      windows.every((who) => who.all.every((one) => shows(one) !== gone.includes(who.one)));
    await until(areRight, UNTOLD_MS, "the windows to show the room as it is").catch(() => {});
    must(areRight(), "a window shows a room that its person left, or does not show theirs");
    tell(`${changes} changes, ${lost} announcements lost`);
    for (const { one, all: theirs } of windows)
      for (const window of theirs) if (window !== one) window.close();
    await pause(1_000);
  },
};

/** Lets people leave a room and join it again; they end as members. `stop` answers how often they did. */
export function comeAndGo(
  { history, pause, random }: Stage,
  people: Person[],
  room: string,
  withinMs: number,
): { stop: () => Promise<number> } {
  let changes = 0;
  let over = false;
  const moves = people.map(async (one) => {
    while (!over) {
      await ask(one, "leaveRoom", room);
      history.add({ kind: "left", person: one.name, room, withinMs });
      await pause(random.whole(600));
      history.add({ kind: "joined", person: one.name, room });
      await ask(one, "joinRoom", room);
      changes += 2;
      await pause(random.whole(600));
    }
  });
  return {
    async stop() {
      over = true;
      await Promise.all(moves);
      return changes;
    },
  };
}

/** Asks until there is an answer; that nothing needs to change is one too. */
async function ask({ chat }: Person, what: "leaveRoom" | "joinRoom", roomId: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await chat[what](roomId);
      return;
    } catch (error) {
      if (codeOf(error) === "not_found" && what === "leaveRoom") return;
      if (tries > 40) throw error;
      await sleep(250);
    }
  }
}

export const races: Scenario = {
  name: "races",
  title: "50 sign-ups of one name, 50 starts of one private room, 20 rooms of one name, over all replicas",
  rate: 20,
  async run({ rig, crowd, happened, must, fault, tell }) {
    const direct = rig.replicas.map(({ port }) => `http://127.0.0.1:${port}`);
    const contenders = Array.from({ length: 50 }, (_, index) =>
      createApi(
        headlessWorld(direct[index % direct.length] ?? "", createProfile()).fetch,
        AbortSignal.timeout(60_000),
      ),
    );
    fault("50 sign-ups of one name");
    const signUps = await Promise.allSettled(
      contenders.map((api) => api.signUp({ username: "contender", password: "correct horse" })),
    );
    const winners = signUps.filter((outcome) => outcome.status === "fulfilled").length;
    const taken = signUps.filter(
      (outcome) => outcome.status === "rejected" && codeOf(outcome.reason) === "taken",
    ).length;
    must(winners === 1 && taken === 49, `${winners} sign-ups won, ${taken} were told that the name is taken`);
    const owner = (await rig.admin.get("username:contender")) ?? "";
    must(
      (await rig.admin.hget(owner, "username")) === "contender",
      `the name points to ${owner}, which is nobody`,
    );
    const accounts = (await rig.admin.keys("user:*")).filter((key) => /^user:\d+$/.test(key));
    const named = await Promise.all(accounts.map((key) => rig.admin.hget(key, "username")));
    must(named.filter((name) => name === "contender").length === 1, "a loser's account was left behind");

    const [one, other] = [crowd.people[10], crowd.people[11]];
    if (!one || !other) throw new Error("there are not enough people");
    const starts = await Promise.all(
      Array.from({ length: 50 }, (_, index) => {
        const [asker, asked] = index % 2 === 0 ? [one, other] : [other, one];
        return asker.api(direct[index % direct.length]).privateRoom({ userId: asked.user.id });
      }),
    );
    const ids = new Set(starts.map(({ id }) => id));
    must(ids.size === 1, `one private room got the ids ${[...ids].join(", ")}`);
    const [id = ""] = ids;
    for (const person of [one, other]) {
      const rooms = await rig.admin.smembers(`user:${person.user.id}:rooms`);
      must(rooms.includes(id), `${person.name} does not see the private room`);
    }
    const rooms = await Promise.allSettled(
      crowd.people
        .slice(12, 32)
        .map((person, index) => person.api(direct[index % direct.length]).createRoom({ name: "Pier" })),
    );
    const made = rooms.filter((outcome) => outcome.status === "fulfilled").length;
    must(made === 1, `${made} rooms of one name were made`);
    happened(winners + taken === 50, "some sign-ups were not answered");
    tell(`${winners} of 50 sign-ups won, ${ids.size} private room, ${made} of 20 named rooms made`);
  },
};

function codeOf(reason: unknown): unknown {
  return typeof reason === "object" && reason !== null && "code" in reason ? reason.code : undefined;
}
