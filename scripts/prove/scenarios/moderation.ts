import { setTimeout as sleep } from "node:timers/promises";
import { io, type Socket } from "socket.io-client";
import type {
  ClientEvents,
  Message,
  Room,
  RoomId,
  ServerEvents,
  User,
} from "../../../server/src/protocol.ts";
import { Browser } from "../../../server/src/testing.ts";
import { until } from "../crowd.ts";
import type { Scenario, Stage } from "../stage.ts";

const SPEAKERS = 10;
const PASSWORD = "correct horse";
/** How long somebody stays silenced, at most, and between two words of a speaker; in ms. */
const SILENT_MS = 1_200;
const PAUSE_MS = 60;
const ANSWER_MS = 5_000;
/** How soon a disabled account has no connection left, if its announcement is lost. */
const OUT_MS = 35_000;

/** Times on the clock of this machine, which is Redis' too: rows carry it. */
type Silence = { userId: string; from: number; to: number; hears: boolean; how: string };

type Speaker = {
  user: User;
  browser: Browser;
  socket: Socket<ServerEvents, ClientEvents>;
  /** When each of the room's messages first came live, by seq. */
  heard: Map<number, number>;
  /** Texts that were acknowledged. */
  acknowledged: string[];
  stop: () => void;
};

export const moderation: Scenario = {
  name: "moderation",
  title:
    "people are muted, removed, banned and disabled while they talk, while orders and announcements are lost, a replica and Redis stand still, and a replica is killed",
  rig: { proxied: true },
  rate: 40,
  async run(stage) {
    const { rig, crowd, random, happened, must, fault, pause, tell } = stage;
    const [first] = crowd.people;
    if (!first) throw new Error("there is nobody");
    // The first account of the server owns it, and may disable others.
    const owner = new Browser({ address: rig.address });
    owner.cookie = first.cookie;
    const chair = new Browser({ address: rig.address });
    await chair.post("/api/users", { username: "chair", password: PASSWORD });
    const { id: room } = (await chair.post<Room>("/api/rooms", { name: "Tribune" })).body;
    const speakers: Speaker[] = [];
    for (let index = 0; index < SPEAKERS; index += 1) speakers.push(await createSpeaker(stage, index, room));
    for (const one of speakers) await moderate(chair, "PUT", `/api/rooms/${room}/members/${one.user.id}`, {});
    await until(() => speakers.every(({ acknowledged }) => acknowledged.length > 0), 15_000, "all to speak");

    const silences: Silence[] = [];
    let over = false;
    const moderators = speakers.map(async (one) => {
      while (!over) {
        await pause(random.whole(600));
        silences.push(await silence(stage, { owner, chair }, room, one));
      }
    });
    await pause(2_000);
    for (const { proxy } of rig.replicas)
      proxy?.lose((chunk) => chunk.includes("\r\nsmessage\r\n") || (isOfRoom(chunk) && random.next() < 0.3));
    fault("orders between replicas are lost, and three announcements in ten");
    await pause(4_000);
    const [still, killed] = rig.replicas;
    still?.signal("SIGSTOP");
    fault(`replica ${still?.name} stands still`);
    await pause(2_500);
    still?.signal("SIGCONT");
    process.kill(rig.redis.pid(), "SIGSTOP");
    fault("Redis stands still");
    await pause(1_500);
    process.kill(rig.redis.pid(), "SIGCONT");
    await pause(1_000);
    await killed?.kill();
    fault(`replica ${killed?.name} is killed`);
    await pause(1_500);
    await killed?.start();
    for (const { proxy } of rig.replicas) proxy?.heal();
    fault("everything arrives again");
    await pause(2_000);
    over = true;
    await Promise.all(moderators);
    for (const one of speakers) one.stop();
    await pause(500);

    const rows = (await rig.admin.zrange(`room:${room}`, "0", "-1")).map((row) => JSON.parse(row) as Message);
    const texts = new Set(rows.map(({ message }) => message));
    const lost = speakers.flatMap(({ acknowledged }) => acknowledged.filter((text) => !texts.has(text)));
    must(
      lost.length === 0,
      `${lost.length} acknowledged messages are not stored: ${lost.slice(0, 3).join(", ")}`,
    );
    let spoken = 0;
    for (const { userId, from, to, how } of silences) {
      const stored = rows.filter((row) => row.from === userId && row.date > from && row.date < to);
      spoken += stored.length;
      for (const { seq, date } of stored.slice(0, 1))
        must(false, `user ${userId}, ${how} since ${from}, stored seq ${seq} ${date - from} ms later`);
    }
    let overheard = 0;
    for (const { userId, from, to, how } of silences.filter(({ hears }) => !hears)) {
      const one = speakers.find(({ user }) => user.id === userId);
      // Once they are back they may hear all of it.
      const heard = rows.filter(({ seq, date }) => date > from && (one?.heard.get(seq) ?? Infinity) < to);
      overheard += heard.length;
      for (const { seq, date } of heard.slice(0, 1))
        must(false, `user ${userId}, ${how} since ${from}, heard seq ${seq}, said ${date - from} ms later`);
    }
    const kinds = ["muted", "removed", "banned", "disabled"].map(
      (how) => [how, silences.filter((one) => one.how === how).length] as const,
    );
    for (const [how, count] of kinds) happened(count >= 5, `only ${count} were ${how}`);
    tell(
      `${kinds.map(([how, count]) => `${count} ${how}`).join(", ")}; ${rows.length} messages, ${spoken} of silenced people, ${overheard} overheard`,
    );
    for (const one of speakers) one.socket.disconnect();
  },
};

function isOfRoom(chunk: Buffer): boolean {
  return chunk.includes("MESSAGES:") && chunk.includes('"type":"');
}

/** Somebody who goes on saying something, whatever the answer is. */
async function createSpeaker({ rig }: Stage, index: number, room: RoomId): Promise<Speaker> {
  const browser = new Browser({ address: rig.address });
  const username = `speaker${index}`;
  const { body: user } = await browser.post<User>("/api/users", { username, password: PASSWORD });
  const socket: Speaker["socket"] = io(rig.address, {
    transports: ["websocket"],
    forceNew: true,
    reconnectionDelayMax: 500,
    extraHeaders: { cookie: browser.cookie, origin: rig.address },
  });
  const one: Speaker = { user, browser, socket, heard: new Map(), acknowledged: [], stop: () => {} };
  socket.on("message", ({ roomId, seq }) => {
    if (roomId === room && !one.heard.has(seq)) one.heard.set(seq, Date.now());
  });
  // A server that ends a connection means it; whoever is let in again comes back.
  const back = setInterval(() => void (socket.active || socket.connect()), 200);
  let speaking = true;
  one.stop = () => {
    speaking = false;
    clearInterval(back);
  };
  void (async () => {
    for (let count = 1; speaking; count += 1) {
      await sleep(PAUSE_MS);
      if (!socket.connected) continue;
      const text = `${username} says ${count}`;
      const sent = { roomId: room, message: text, nonce: `${username}-${count}` };
      const reply = await socket
        .timeout(ANSWER_MS)
        .emitWithAck("message", sent)
        .catch(() => undefined);
      if (reply?.ok) one.acknowledged.push(text);
    }
  })();
  return one;
}

/** Silences somebody for a while, in one of four ways. */
async function silence(
  { random, must }: Stage,
  { owner, chair }: { owner: Browser; chair: Browser },
  room: RoomId,
  one: Speaker,
): Promise<Silence> {
  const { id } = one.user;
  const how = random.pick(["muted", "removed", "banned", "disabled"]);
  const member = `/api/rooms/${room}/members/${id}`;
  const account = `/api/admin/users/${id}`;
  if (how === "muted") await moderate(chair, "PUT", member, { mutedUntil: Date.now() + 3_600_000 });
  if (how === "removed") await moderate(chair, "DELETE", member);
  if (how === "banned") await moderate(chair, "PUT", `/api/rooms/${room}/bans/${id}`, {});
  if (how === "disabled") await moderate(owner, "PATCH", account, { disabled: true });
  const from = Date.now();
  await sleep(200 + random.whole(SILENT_MS));
  if (how === "disabled") {
    const isOut = await until(() => !one.socket.connected, OUT_MS, "a disabled account to be out").then(
      () => true,
      () => false,
    );
    must(isOut, `${one.user.username} is disabled, and still connected`);
  }
  const to = Date.now();
  if (how === "muted") await moderate(chair, "PUT", member, { mutedUntil: 0 });
  if (how === "banned") await moderate(chair, "DELETE", `/api/rooms/${room}/bans/${id}`);
  if (how === "removed" || how === "banned") await moderate(chair, "PUT", member, {});
  if (how === "disabled") {
    await moderate(owner, "PATCH", account, { disabled: false });
    await moderate(one.browser, "POST", "/api/login", { username: one.user.username, password: PASSWORD });
    one.socket.io.opts.extraHeaders = { cookie: one.browser.cookie, origin: one.browser.address };
  }
  return { userId: id, from, to, hears: how === "muted", how };
}

/** Asks until there is an answer; that there is nothing left to change is one too. */
async function moderate(by: Browser, method: string, path: string, body?: object): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const status = await by.fetch(method, path, body).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status < 300 && status > 0) return;
    if (status === 404 && method === "DELETE" && tries > 1) return;
    if (tries > 60) throw new Error(`${method} ${path} answered ${status}`);
    await sleep(250);
  }
}
