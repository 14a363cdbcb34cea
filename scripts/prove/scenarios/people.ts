import { until } from "../crowd.ts";
import { createPerson, type Person } from "../person.ts";
import { linesOf, type Scenario, type Stage } from "../stage.ts";

/** How long a session's sockets may live on after its end, where its announcement arrives and where it is lost. */
const SESSION_ENDS_MS = 1_000;
const SESSION_ENDS_UNTOLD_MS = 35_000;

/** What replicas tell each other comes on sharded channels, and messages on others. */
const isAnnouncement = (chunk: Buffer) => chunk.includes("\r\nsmessage\r\n");

export const logoutStorm: Scenario = {
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
    for (const { proxy } of rig.replicas) proxy?.lose(isAnnouncement);
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
    for (const { proxy } of rig.replicas) proxy?.heal();
    fault("announcements arrive again");
    await pause(1_500);

    // 2. With announcements, and with slow requests of the same session under way.
    const toldAt = history.now();
    await Promise.all(told.map((person) => logOut(stage, person, SESSION_ENDS_MS)));
    await pause(1_500);
    const closed = linesOf(history, "socket closed").filter(
      (line) => line.at >= toldAt && told.some(({ one }) => one.session === line.session),
    );
    const overOf = (session: string) =>
      linesOf(history, "session over").find((line) => line.session === session)?.at ?? 0;
    const slowest = Math.max(0, ...closed.map((line) => line.at - overOf(line.session)));
    tell(`told: ${closed.length} windows closed within ${Math.round(slowest)} ms`);
    for (const { one, all } of windows) {
      must(
        all.every((window) => !window.connected),
        `${one.name} still has an open window`,
      );
      const stored = await rig.admin.exists(`sess:${sidOf(one.cookie)}`);
      if (stored)
        history.add({
          kind: "session used",
          session: one.session,
          how: "a request that brought it back",
          beganAt: history.now(),
        });
      await one.probe("/me");
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
  // Requests of this session: under way when it ends, and after.
  const { cookie, session } = one;
  const others = Array.from({ length: 30 }, async (_, index) => {
    await pause(index * 40);
    await one.probe(index % 2 === 0 ? "/rooms" : "/me", cookie);
  });
  await pause(300);
  await one.call("POST", "/logout");
  history.add({ kind: "session over", session, withinMs });
  await Promise.all(others);
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
  title: "people leave a room in one window while their other windows' replicas hear no announcements",
  rig: { proxied: true },
  async run(stage) {
    const { rig, crowd, history, happened, must, fault, pause, tell } = stage;
    const [room] = crowd.named;
    if (room === undefined) throw new Error("there is no named room");
    const inside = crowd.members.get(room) ?? [];
    // Those in no other room but General, and in no private one.
    const [told, untold] = [inside.slice(5, 8), inside.slice(8, 11)];
    const windows = await openWindows(stage, [...told, ...untold]);
    await until(
      () => windows.every(({ all }) => all.every((one) => one.head(room).seq > 0)),
      10_000,
      "the windows",
    );
    crowd.members.set(
      room,
      inside.filter((one) => !told.includes(one) && !untold.includes(one)),
    );
    await pause(500);

    async function leave(one: Person, withinMs: number): Promise<void> {
      await until(() => one.pending === 0, 5_000, `${one.name} to have said everything`);
      await one.request("room.leave", { roomId: room });
      history.add({ kind: "left", person: one.name, room: room ?? "", withinMs });
    }
    await Promise.all(told.map((one) => leave(one, 1_000)));
    await pause(2_000);
    const still = windows
      .filter(({ one }) => told.includes(one))
      .flatMap(({ all }) => all.filter((window) => window.roomIds().includes(room)));
    must(still.length === 0, `${still.length} windows still show the room`);

    for (const { proxy } of rig.replicas) proxy?.lose(isAnnouncement);
    fault("announcements between replicas are lost");
    const leftAt = history.now();
    await Promise.all(untold.map((one) => leave(one, SESSION_ENDS_UNTOLD_MS)));
    await pause(1_500);
    const names = untold.map((one) => one.name);
    const late = linesOf(history, "heard").filter(
      (line) => line.at > leftAt + 1_000 && line.room === room && names.includes(line.person),
    );
    happened(late.length > 0, "every window was told although the announcements were lost");
    const shows = () => windows.some(({ all }) => all.some((window) => window.roomIds().includes(room)));
    await until(() => !shows(), SESSION_ENDS_UNTOLD_MS, "the untold windows to let the room go").catch(
      () => {},
    );
    must(!shows(), "a window still shows a room that its person left");
    tell(`untold windows let the room go after ${((history.now() - leftAt) / 1_000).toFixed(1)} s`);
    for (const { proxy } of rig.replicas) proxy?.heal();
    for (const { one, all } of windows) for (const window of all) if (window !== one) window.close();
    fault("announcements arrive again");
    // What was said later than the bound must not arrive.
    await pause(3_000);
  },
};

export const races: Scenario = {
  name: "races",
  title: "50 sign-ups of one name, 50 starts of one private room, 20 rooms of one name, over all replicas",
  rate: 20,
  async run({ rig, crowd, history, random, happened, must, fault, tell }) {
    const direct = rig.replicas.map(({ port }) => `http://127.0.0.1:${port}`);
    const contenders = Array.from({ length: 50 }, (_, index) =>
      createPerson({
        address: direct[index % direct.length] ?? "",
        name: "contender",
        password: "correct horse",
        history,
        random,
        nameOf: crowd.nameOf,
      }),
    );
    fault("50 sign-ups of one name");
    const signUps = await Promise.allSettled(contenders.map((one) => one.signUp()));
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
        return asker.call<{ id: string }>(
          "POST",
          "/rooms/private",
          { userId: asked.user.id },
          direct[index % direct.length],
        );
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
        .map((person, index) =>
          person.call("POST", "/rooms", { name: "Pier" }, direct[index % direct.length]),
        ),
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
