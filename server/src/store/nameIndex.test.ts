import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { BOUNDS } from "../limits.ts";
import type { Failure, Found, ListedRoom, Presence } from "../protocol.ts";
import { both, commandsDuring, person, replicas, type House, type Person } from "../testing.ts";
import { NameIndex } from "./nameIndex.ts";

const PEOPLE = 10_000;
const ROOMS = 1_000;

let house: House;
let ann: Person;
let bob: Person;
beforeAll(async () => {
  house = await replicas(2);
  const [left, right] = both(house);
  ann = await person(left, "Ann");
  bob = await person(right, "bob");
  await fill(house);
});
afterAll(() => house.close());

/** Stores people and rooms as the server does, but without passwords. */
async function fill({ redis, keys }: House): Promise<void> {
  const writes = redis.pipeline();
  for (let id = 3; id <= PEOPLE; id += 1) {
    const name = `Person-${id}.${id % 2 ? "odd" : "even"}`;
    writes.hset(keys.user(String(id)), { username: name }).set(keys.username(name), `user:${id}`);
  }
  writes.set(keys.totalUsers, PEOPLE);
  for (let id = 1; id <= ROOMS; id += 1) writes.set(keys.roomName(String(id)), `Plan ${id}`);
  for (const [id, name] of Object.entries(ROOM_NAMES)) writes.set(keys.roomName(id), name);
  writes.hset(keys.records("7"), { [ann.user.id]: "{}", [bob.user.id]: "{}" });
  writes.set(keys.totalRooms, ROOMS);
  await writes.exec();
}

const ROOM_NAMES = {
  7: "Café Größe",
  8: "ＷＩＤＥ",
  9: "Łódź & Århus",
  10: "עִבְרִית",
  11: "Σίσυφος",
  12: "a.b*[c]",
};

async function find<T>(who: Person, path: string, query: Record<string, string | number>): Promise<Found<T>> {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) asked.set(name, String(value));
  const { status, body } = await who.browser.get<Found<T>>(`/api/${path}?${String(asked)}`);
  expect(status, String(asked)).toBe(200);
  return body;
}

async function people(q: string, more: Record<string, string | number> = {}, who = ann) {
  const { found, total, complete } = await find<Presence>(who, "users", { q, ...more });
  return { names: found.map(({ username }) => username), ids: found.map(({ id }) => id), total, complete };
}

async function rooms(q: string, more: Record<string, string | number> = {}) {
  const { found, total } = await find<ListedRoom>(ann, "rooms/directory", { q, ...more });
  return { names: found.map(({ name }) => name), total };
}

describe("a search among 10,000 people", () => {
  it("finds any part of a name, in any case and width, and tells how many match", async () => {
    expect(await people("777.EVEN")).toMatchObject({ names: [], total: 0, complete: true });
    expect(await people("ON-9998.ev")).toEqual({
      names: ["Person-9998.even"],
      ids: ["9998"],
      total: 1,
      complete: true,
    });
    expect((await people("９９９８")).names).toEqual(["Person-9998.even"]);
    expect((await people("@ann")).names).toEqual(["Ann"]);
    expect((await people("odd 9997")).names).toEqual(["Person-9997.odd"]);
    expect((await people("777")).total).toBe(19);
    expect((await people("person", { size: 5 })).total).toBe(PEOPLE - 2);
    expect((await people("")).total).toBe(PEOPLE);
  });

  it("puts names that begin with the text first, then those with a word that does, and equal ones alphabetically", async () => {
    const { names } = await people("777");
    const inside = names.findIndex((name) => !name.startsWith("Person-777"));
    expect(inside).toBe(11);
    expect(names.slice(inside).some((name) => name.startsWith("Person-777"))).toBe(false);
    expect(names.slice(0, inside)).toEqual(names.slice(0, inside).toSorted());
    expect(names.slice(inside)).toEqual(names.slice(inside).toSorted());
  });

  it("answers page by page, without a gap or a repeat", async () => {
    const all = new Set<string>();
    let pages = 0;
    for (let after: string | undefined; ; pages += 1) {
      const { ids, total } = await people("9", { size: 100, ...(after && { after }) });
      for (const id of ids) all.add(id);
      expect(total).toBe(3_439);
      after = ids.at(-1);
      if (after === undefined) break;
    }
    expect([all.size, pages]).toEqual([3_439, 35]);
    expect((await people("9", { after: ann.user.id })).names).toEqual([]);
  });

  it("tells who is online on any replica, and finds a new account of another replica at once", async () => {
    const { found } = await find<Presence>(bob, "users", { q: "ann" });
    expect(found).toEqual([{ id: ann.user.id, username: "Ann", online: true }]);
    const [, right] = both(house);
    for (const name of ["zoe1", "zoe2", "zoe3"]) {
      const zoe = await person(right, name);
      expect((await people(name)).names).toEqual([name]);
      zoe.close();
    }
  });

  it("costs Redis one command and those for the answered page", async () => {
    await people("777");
    const commands = await commandsDuring(async () => {
      for (let times = 0; times < 5; times += 1) await people("777");
    });
    const of = (...words: string[]) =>
      commands.filter(([command, key]) => command?.toLowerCase() === words[0] && key === words[1]);
    expect(of("get", house.keys.totalUsers)).toHaveLength(5);
    // One for the account of the asker; people on the page are cached.
    const accounts = house.keys.user("");
    const ofAccounts = commands.filter(
      ([command, key]) => /^hm?get$/i.test(command ?? "") && key?.startsWith(accounts),
    );
    expect(ofAccounts).toHaveLength(5);
  });

  it("refuses an invalid search with a code, and takes every character literally", async () => {
    const status = async (query: string) => (await ann.browser.get<Failure>(`/api/users?${query}`)).status;
    expect(await status(`q=${"a".repeat(10_000)}`)).toBe(413);
    expect(await status("q=a&q=b")).toBe(400);
    expect(await status("q=a&after=x")).toBe(400);
    expect(await status("q=a&size=101")).toBe(400);
    expect(await status("q=%ED%A0%80")).toBe(200);
    for (const q of [
      "(.*)+$",
      "[a-",
      "\\",
      "a".repeat(100),
      "*",
      "\uD800",
      "\u0007x",
      "%00",
      "שלום",
      "\u202Ennx",
    ])
      expect((await people(q)).total, JSON.stringify(q)).toBe(0);
    expect((await people("\u202EAn\u200Bn\u0000")).names).toEqual(["Ann"]);
    // Invisible characters count as nothing.
    expect((await people(" \u200B\u0000 ")).total).toBe((await people("")).total);
  });
});

describe("a search among 1,000 rooms", () => {
  it.each([
    ["cafe", "Café Größe"],
    ["GROSSE", "Café Größe"],
    ["größe café", "Café Größe"],
    ["wide", "ＷＩＤＥ"],
    ["lodz", "Łódź & Århus"],
    ["arhus", "Łódź & Århus"],
    ["עברית", "עִבְרִית"],
    ["σισυφος", "Σίσυφος"],
    ["ΣΊΣΥΦΟΣ", "Σίσυφος"],
    ["b*[", "a.b*[c]"],
    ["#plan 1000", "Plan 1000"],
  ])("finds %s", async (q, name) => {
    expect((await rooms(q)).names).toEqual([name]);
  });

  it("lists all rooms by name, with their members and the total", async () => {
    const { names, total } = await rooms("", { size: 3 });
    expect([names, total]).toEqual([["a.b*[c]", "Café Größe", "Łódź & Århus"], ROOMS]);
    const { found } = await find<ListedRoom>(ann, "rooms/directory", { q: "grosse" });
    expect(found).toEqual([{ id: "7", kind: "open", name: "Café Größe", members: 2, joined: true }]);
  });

  it("finds a room that another replica has just made", async () => {
    await bob.browser.post("/api/rooms", { name: "Brand new" });
    expect((await rooms("brand")).names).toEqual(["Brand new"]);
  });
});

describe("the index of names", () => {
  /** Numbered names that a test changes; `reads` counts the names that were read. */
  function source(last: number) {
    const told = { last, reads: 0, names: new Map<number, string | null>() };
    const index = new NameIndex({
      last: () => Promise.resolve(told.last),
      read: (ids) => {
        told.reads += ids.length;
        return Promise.resolve(
          ids.map((id) => {
            const name = told.names.get(Number(id));
            return name === undefined ? `name ${id}` : name;
          }),
        );
      },
    });
    return { told, find: (text: string) => index.find(text, undefined, 10) };
  }

  it("reads a bounded number of names per search, continues at the next search, and says when it is complete", async () => {
    const { told, find: look } = source(BOUNDS.namesRead.value + 500);
    const first = await look("name");
    expect([first.complete, first.total, told.reads]).toEqual([false, 20_000, 20_000]);
    const second = await look("name");
    expect([second.complete, second.total, told.reads]).toEqual([true, 20_500, 20_500]);
    await look("name");
    expect(told.reads).toBe(20_500);
  });

  it("reads a name once for concurrent searches", async () => {
    const { told, find: look } = source(2_000);
    await Promise.all(Array.from({ length: 20 }, () => look("name 7")));
    expect(told.reads).toBe(2_000);
  });

  it("knows no more names than it may", async () => {
    const { told, find: look } = source(BOUNDS.namesKnown.value + 5_000);
    for (let times = 0; times < 6; times += 1) await look("x");
    expect(await look("name")).toMatchObject({ complete: false, total: BOUNDS.namesKnown.value });
    expect(told.reads).toBe(BOUNDS.namesKnown.value);
  });

  it("reads new, deleted and changed names once the cached ones are old", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    try {
      const { told, find: look } = source(300);
      told.names.set(290, null);
      expect((await look("name 29")).total).toBe(12);
      // This number has a name by now.
      told.names.delete(290);
      expect((await look("name 29")).total).toBe(13);
      told.names.set(29, "other").set(295, null);
      told.last = 301;
      expect((await look("301")).total).toBe(1);
      expect((await look("name 29")).total).toBe(13);
      vi.advanceTimersByTime(BOUNDS.namesFresh.value + 1);
      expect((await look("name 29")).total).toBe(11);
      expect((await look("other")).ids).toEqual(["29"]);
      // The data was replaced.
      told.last = 5;
      expect((await look("")).total).toBe(5);
    } finally {
      vi.useRealTimers();
    }
  });

  it("recovers after Redis did not answer", async () => {
    let fails = true;
    const index = new NameIndex({
      last: () => Promise.resolve(3),
      read: (ids) => (fails ? Promise.reject(new Error("no Redis")) : Promise.resolve(ids)),
    });
    await expect(index.find("1", undefined, 5)).rejects.toThrow("no Redis");
    fails = false;
    expect((await index.find("1", undefined, 5)).ids).toEqual(["1"]);
  });
});
