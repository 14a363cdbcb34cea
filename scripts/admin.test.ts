import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Collector } from "../server/src/chat/collector.ts";
import { Users } from "../server/src/chat/users.ts";
import { readConfig } from "../server/src/config.ts";
import type { Account, AuditEntry, Me, User } from "../server/src/protocol.ts";
import { createBlobs } from "../server/src/store/blobs.ts";
import { Files } from "../server/src/store/files.ts";
import {
  Browser,
  both,
  newServer,
  person,
  unwrap,
  until,
  type House,
  type Person,
} from "../server/src/testing.ts";
import { main } from "./admin.ts";
import { seed } from "./seed.ts";

const PASSWORD = "correct horse";

let house: House;
let owner: Person;
beforeEach(async () => {
  house = await newServer(2);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await house.close();
});

/** What a command says and how it ends, as from a shell without a terminal. */
async function admin(...args: string[]): Promise<{ code: number; said: string }> {
  let said = "";
  vi.spyOn(console, "log").mockImplementation((line: string) => void (said += `${line}\n`));
  try {
    return { code: await main(args, house.env), said };
  } catch (error) {
    if (!(error instanceof Error && "exitCode" in error)) throw error;
    return { code: Number(error.exitCode), said: error.message };
  }
}

async function json<T>(...args: string[]): Promise<T> {
  const { code, said } = await admin(...args, "--json");
  expect(code, said).toBe(0);
  return JSON.parse(said) as T;
}

async function populate(): Promise<Person> {
  owner = await person(both(house)[0], "olga");
  return person(both(house)[1], "ben");
}

function logIn(username: string, password = PASSWORD) {
  return new Browser(both(house)[0]).post<Me>("/api/login", { username, password });
}

const ended = ({ socket }: Person) => until(() => !socket.connected, undefined, "the connection to end");

describe("a command that Redis refuses", () => {
  it("says so in one line, without what was sent", async () => {
    const { redis, keys, env } = house;
    await redis.del(keys.settings);
    await redis.rpush(keys.settings, "of another type");
    const run = join(import.meta.dirname, "run.mjs");
    const { status, stderr } = spawnSync(process.execPath, [run, "admin", "settings", "signup", "closed"], {
      env: { PATH: process.env["PATH"], ...env },
      encoding: "utf8",
    });
    expect(stderr).toBe("Redis refuses: WRONGTYPE\n");
    expect(status).toBe(69);
  });
});

describe("npm run admin, beside replicas", () => {
  it("lists accounts and shows one, by a name in any case", async () => {
    const ben = await populate();
    const { said } = await admin("users");
    expect(said).toMatch(/^ +1 {2}olga +owner, online, since \d{4}-\d\d-\d\d\n +2 {2}ben +online, since/);
    const all = await json<Account[]>("users");
    expect(all.map(({ username, role }) => [username, role])).toEqual([
      ["olga", "owner"],
      ["ben", "user"],
    ]);
    expect(await json("user", "BEN")).toMatchObject({ ...ben.user, role: "user", sessions: 1 });
  });

  it("disables an account and enables it again, while its connections are open", async () => {
    const ben = await populate();
    expect(await json("disable", "ben")).toMatchObject({ id: ben.user.id, sessions: 0 });
    await ended(ben);
    expect((await ben.browser.get("/api/me")).status).toBe(401);
    expect((await logIn("ben")).status).toBe(401);
    expect((await admin("enable", "ben")).code).toBe(0);
    expect((await logIn("ben")).status).toBe(200);
  });

  it("ends sessions, makes an owner, and makes a link for a new password", async () => {
    const ben = await populate();
    expect(await json("end-sessions", "ben")).toEqual({ id: ben.user.id, ended: 1 });
    await ended(ben);
    expect(await json("make-owner", "ben")).toMatchObject({ role: "owner" });
    expect((await logIn("ben")).body.role).toBe("owner");
    const { url } = await json<{ url: string }>("reset-password", "ben");
    const code = /\/#\/reset\/([\w-]{32})$/.exec(url)?.[1] ?? "";
    const used = await new Browser(both(house)[1]).post(`/api/reset/${code}`, { password: "battery staple" });
    expect(used.status).toBe(204);
    expect((await logIn("ben", "battery staple")).status).toBe(200);
    owner.close();
  });

  it("deletes an account and its messages only if somebody says so, and goes on where it was cut short", async () => {
    const ben = await populate();
    await ben.say("0", "a secret");
    const asked = await admin("delete", "ben", "--messages", "delete");
    expect([asked.code, asked.said]).toEqual([1, expect.stringContaining("--yes")]);
    expect((await logIn("ben")).status).toBe(200);
    expect((await admin("delete", "ben", "--yes")).code).toBe(0);
    await ended(ben);
    const rows = () => house.redis.zrange(house.keys.room("0"), "0", "-1");
    expect((await rows()).join("")).toContain("a secret");
    expect(await json("delete", "ben", "--yes", "--messages", "delete")).toMatchObject({ messages: 1 });
    expect((await rows()).join("")).not.toContain("a secret");
    expect((await admin("user", "ben")).code).toBe(1);
  });

  it("leaves the files of a deleted account to a server, which knows where they lie", async () => {
    const ben = await populate();
    const response = await fetch(`${ben.browser.address}/api/files`, {
      method: "POST",
      headers: {
        origin: ben.browser.address,
        cookie: ben.browser.cookie,
        "content-type": "text/plain",
        "x-file-name": "a.txt",
        "x-room-id": "0",
      },
      body: "a file",
    });
    const { id } = (await response.json()) as { id: string };
    unwrap(
      await ben.socket.emitWithAck("message", { roomId: "0", message: "look", nonce: "n1", files: [id] }),
    );
    const { redis, keys, env } = house;
    const folder = env["FILES_URL"]?.replace("file:", "") ?? "";
    const stored = () => readdirSync(folder, { recursive: true }).filter((name) => String(name).endsWith(id));
    expect(stored()).toHaveLength(1);
    house.env["FILES_URL"] = `file:${folder}-of-nobody`;
    expect((await admin("delete", "ben", "--messages", "delete", "--yes")).code).toBe(0);
    house.env["FILES_URL"] = `file:${folder}`;
    expect(stored()).toHaveLength(1);
    expect(Number(await redis.zscore(keys.filesDue, id))).toBeLessThanOrEqual(Date.now());
    const config = readConfig(env);
    const collector = new Collector({
      files: new Files(redis, keys),
      blobs: createBlobs(config.files.address, config.files.spool),
      users: new Users(redis, keys, config),
      log: pino({ level: "silent" }),
    });
    expect(await collector.collect()).toBe(1);
    expect(stored()).toEqual([]);
  });

  it("sets who may sign up, counts, and leaves all of it in the audit log as the shell", async () => {
    await populate();
    expect(await json("settings")).toEqual({ signup: "open", words: [] });
    expect((await admin("settings", "signup", "closed")).said).toContain("closed");
    const asked = { username: "late-comer", password: PASSWORD };
    expect((await new Browser(both(house)[1]).post("/api/users", asked)).status).toBe(403);
    expect(await json("stats")).toMatchObject({ people: 2, rooms: 1, messages: 0 });
    await admin("disable", "ben");
    const { body } = await owner.browser.get<AuditEntry[]>("/api/admin/audit");
    expect(body.map(({ by, what }) => [by, what])).toEqual([
      ["", "account"],
      ["", "server settings"],
    ]);
  });

  it("lists rooms, renames, archives and gives them away, which their people see at once", async () => {
    const ben = await populate();
    const room = await owner.makes({ name: "Back room", kind: "invite" });
    const changed: object[] = [];
    owner.socket.on("room.changed", (told) => void changed.push(told));
    type Told = { id: string; name: string; archived?: number; owners: User[] };
    const list = await json<Told[]>("room", "list");
    expect(list).toMatchObject([
      { id: "0", kind: "everyone", members: 2, messages: 0 },
      { id: room.id, kind: "invite", name: "Back room", members: 1, owners: [owner.user] },
    ]);
    expect((await admin("room", "list")).said).toMatch(
      /^ +0 {2}General .*\n +1 {2}Back room +invite, 1 members/,
    );
    expect(await json("room", "rename", "back ROOM", "  Front room ")).toMatchObject({ name: "Front room" });
    await until(() => changed.length === 1);
    expect(await json("room", "show", room.id)).toMatchObject({ name: "Front room" });
    expect((await admin("room", "archive", "Front room")).code).toBe(0);
    await until(() => changed.length === 2);
    expect(changed).toMatchObject([{ name: "Front room" }, { archived: expect.any(Number) as number }]);
    await expect(owner.say(room.id, "too late")).rejects.toThrow("archived");
    expect(await json("room", "unarchive", room.id)).not.toHaveProperty("archived");
    await owner.say(room.id, "in time");
    const shown = new Promise<{ id: string }>((resolve) => ben.socket.once("show.room", resolve));
    expect(await json("room", "owner", "Front room", "ben")).toMatchObject({
      members: 2,
      owners: [owner.user, ben.user],
    });
    expect((await shown).id).toBe(room.id);
    await ben.say(room.id, "mine");
    const { body } = await owner.browser.get<AuditEntry[]>(`/api/rooms/${room.id}/audit`);
    expect(body.map(({ by, what }) => [by, what])).toEqual([
      ["", "role"],
      ["", "settings"],
      ["", "settings"],
      ["", "settings"],
    ]);
    for (const one of [owner, ben]) one.close();
  });

  it.each([
    ["no command for a room", ["room"], 64],
    ["an unknown one", ["room", "burn", "General"], 64],
    ["half of one", ["room", "rename", "General"], 64],
    ["too much of one", ["room", "list", "all"], 64],
    ["an unknown room", ["room", "show", "Nowhere"], 1],
    ["a direct room", ["room", "show", "1:2"], 1],
    ["another name for General", ["room", "rename", "General", "Lobby"], 1],
    ["General's archiving", ["room", "archive", "0"], 1],
    ["an owner of General", ["room", "owner", "General", "olga"], 1],
    ["a name that another room has", ["room", "rename", "Ours", "0urs too"], 1],
    ["an invisible name", ["room", "rename", "Ours", "\u200b"], 1],
    ["an unknown owner", ["room", "owner", "Ours", "nobody"], 1],
    ["nothing", [], 64],
    ["an unknown command", ["frobnicate"], 64],
    ["a name of every object", ["constructor"], 64],
    ["no name", ["disable"], 64],
    ["a name too many", ["user", "olga", "ben"], 64],
    ["an unknown option", ["users", "--all"], 64],
    ["an unknown setting", ["settings", "colour"], 64],
    ["an unknown mode", ["settings", "signup", "maybe"], 64],
    ["half of a command", ["demo"], 64],
    ["another demo", ["demo", "add"], 64],
    ["an unknown farewell", ["delete", "olga", "--messages", "burn"], 64],
    ["somebody unknown", ["user", "nobody"], 1],
    ["the last owner", ["disable", "olga"], 1],
    ["the last owner's account", ["delete", "olga", "--yes"], 1],
  ])("ends with its code for %s, and changes nothing", async (_what, args, code) => {
    await populate();
    for (const name of ["Ours", "Ours too"]) await owner.makes({ name });
    const before = await json("room", "list");
    expect((await admin(...args)).code).toBe(code);
    expect(await json("room", "list")).toEqual(before);
    expect(await json("user", "olga")).toMatchObject({ role: "owner", sessions: 1 });
  });

  it("finds a room by its id, whatever others are called, and lists the rooms beside a damaged one", async () => {
    const ben = await populate();
    const real = await owner.makes({ name: "Real" });
    const decoy = await ben.makes({ name: real.id });
    const general = await ben.makes({ name: "0" });
    const names = async () =>
      (await json<{ id: string; name: string }[]>("room", "list")).map(({ id, name }) => `${id} ${name}`);
    const rest = [`${decoy.id} ${real.id}`, `${general.id} 0`];
    expect(await names()).toEqual(["0 General", `${real.id} Real`, ...rest]);
    expect(await json("room", "show", real.id)).toMatchObject({ id: real.id, name: "Real" });
    expect(await json("room", "archive", real.id)).toHaveProperty("archived");
    expect(await json("room", "show", decoy.id)).not.toHaveProperty("archived");
    expect(await json("room", "rename", decoy.id, "Decoy")).toMatchObject({ id: decoy.id, name: "Decoy" });
    await house.redis.del(house.keys.records(real.id));
    await house.redis.set(house.keys.records(real.id), "no hash");
    expect(await names()).toEqual(["0 General", `${decoy.id} Decoy`, `${general.id} 0`]);
    owner.close();
    ben.close();
  });

  it("ends with 69 without a Redis, and with 0 after its help", async () => {
    await expect(main(["users"], { REDIS_URL: "redis://127.0.0.1:1" })).rejects.toMatchObject({
      exitCode: 69,
    });
    expect(await admin("--help")).toEqual({ code: 0, said: expect.stringContaining("make-owner NAME") });
  });
});

describe("demo remove", () => {
  const config = () => readConfig(house.env);
  /** Everything in Redis but what is of the moment. */
  const names = async () => {
    const prefix = house.env["KEY_PREFIX"] ?? "";
    const all = (await house.redis.keys(`*${prefix}*`)).map((key) => key.replace(prefix, ""));
    return all
      .filter((key) => !/^(\{online_users|online_users|limit|schema|session_secret|audit)/.test(key))
      .toSorted();
  };

  it("leaves a Redis as new where nobody else has been: the next account is the first", async () => {
    const before = await names();
    await seed(config(), { users: 5, rooms: 2, messages: 60 });
    const joe = await logIn("Joe", "password123");
    expect(joe.status).toBe(200);
    await json("make-owner", "Mary");
    const { people, rooms } = await json<{ people: number; rooms: number }>("demo", "remove", "--yes");
    expect([people, rooms > 2]).toEqual([11, true]);
    expect((await logIn("Joe", "password123")).status).toBe(401);
    expect(await names()).toEqual(before);
    owner = await person(both(house)[0], "olga");
    expect((await owner.browser.get<Me>("/api/me")).body).toEqual({
      id: "1",
      username: "olga",
      role: "owner",
    });
    expect((await owner.say("0", "the first word")).seq).toBe(1);
    owner.close();
  });

  it("comes after demo data that waited, with a word, for a lock that nobody holds", async () => {
    const { redis, keys } = house;
    const said = vi.spyOn(console, "error").mockImplementation(() => undefined);
    await redis.set(keys.seedLock, "nobody's");
    const seeding = seed(config());
    await until(async () => (await redis.pttl(keys.seedLock)) > 0, undefined, "the lock to get an end");
    expect(said.mock.calls).toEqual([[expect.stringContaining(keys.seedLock)]]);
    await redis.del(keys.seedLock);
    expect(await seeding).toHaveLength(6);
  });

  it("leaves what real people made, and none of what demo people said", async () => {
    owner = await person(both(house)[0], "olga");
    await seed(config());
    const { body: made } = await owner.browser.post<{ id: string }>("/api/rooms", { name: "Ours" });
    await owner.say(made.id, "ours alone");
    const own = await owner.say("0", "a real word");
    await json("demo", "remove", "--yes");
    const page = (id: string) =>
      owner.browser.get<{ messages: { message: string }[] }>(`/api/rooms/${id}/messages?size=100`);
    const said = (await page("0")).body.messages.map(({ message }) => message);
    expect(said.filter(Boolean)).toEqual([own.message]);
    expect((await page(made.id)).body.messages.map(({ message }) => message)).toEqual(["ours alone"]);
    const { body: directory } = await owner.browser.get<{ name: string }[]>("/api/rooms/directory");
    expect(directory.map(({ name }) => name)).toEqual(["Ours"]);
    const { body: users } = await owner.browser.get<User[]>("/api/users");
    expect(users.map(({ username }) => username)).toEqual(["olga"]);
    expect((await new Browser(both(house)[1]).get<{ people: User[] }>("/api/demo")).body.people).toEqual([]);
    // No list has a room that is gone.
    const { redis, keys } = house;
    const lists = (await redis.keys(keys.userRooms("*"))).map((key) => redis.smembers(key));
    expect(new Set((await Promise.all(lists)).flat())).toEqual(new Set(["0", made.id]));
    // Names of demo people are free again.
    const joe = await person(both(house)[1], "Joe");
    expect(joe.user.username).toBe("Joe");
    joe.close();
    owner.close();
    expect(await json("demo", "remove", "--yes")).toEqual({ people: 0, rooms: 0, messages: 0 });
  });

  it("removes nobody if there are real people and only demo people own the server", async () => {
    const { redis, keys } = house;
    owner = await person(both(house)[0], "olga");
    await seed(config());
    await json("make-owner", "Mary");
    const roles = await redis.hgetall(keys.staff);
    await redis.hdel(keys.staff, owner.user.id);
    expect((await admin("demo", "remove", "--yes")).code).toBe(1);
    expect((await logIn("Pablo", "password123")).status).toBe(200);
    await redis.hset(keys.staff, roles);
    expect(await json("demo", "remove", "--yes")).toMatchObject({ people: 6 });
    owner.close();
  });

  it.each([
    ["lost", undefined],
    ["behind", "1"],
    ["no number", "many"],
  ])("keeps what real people made if the counters are %s, and raises them", async (_how, counted) => {
    owner = await person(both(house)[0], "olga");
    await seed(config());
    const { body: made } = await owner.browser.post<{ id: string }>("/api/rooms", { name: "Ours" });
    const { redis, keys } = house;
    for (const counter of [keys.totalUsers, keys.totalRooms])
      if (counted === undefined) await redis.del(counter);
      else await redis.set(counter, counted);
    expect(await json("demo", "remove", "--yes")).toMatchObject({ people: 6, rooms: 3 });
    expect(await json("user", "olga")).toMatchObject({ role: "owner" });
    expect(await redis.mget(keys.totalUsers, keys.totalRooms)).toEqual(["7", made.id]);
    owner.close();
  });
});
