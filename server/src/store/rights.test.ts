import { readFileSync, readdirSync } from "node:fs";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { readConfig } from "../config.ts";
import { createKeys } from "../keys.ts";
import { ownRedis, testRedisUrl, type OwnRedis } from "../testing.ts";
import { checkRights } from "./rights.ts";

/** The rights of the user `hubbub`, after its password. */
const RIGHTS = (
  /^user hubbub on >PASSWORD (.*)$/m.exec(
    readFileSync(new URL("../../../docs/redis.acl", import.meta.url), "utf8"),
  )?.[1] ?? ""
).split(" ");
const NAMES = RIGHTS.filter((right) => /^[~&]/.test(right));

let own: OwnRedis;
let admin: Redis;
beforeAll(async () => {
  own = await ownRedis({ persistent: false });
  admin = new Redis(own.url);
});
afterAll(async () => {
  admin.disconnect();
  await own.close();
});

/** What a start says to a user with these rights. */
async function said(rights: string[], env: Record<string, string> = {}): Promise<string[]> {
  await admin.call("ACL", "SETUSER", "weak", "reset", "on", ">word", ...rights);
  const user = admin.duplicate({ username: "weak", password: "word" });
  onTestFinished(() => user.disconnect());
  const config = readConfig({ REDIS_URL: own.url, KEY_PREFIX: "", ...env });
  const found = await checkRights(user, config, createKeys(config.keyPrefix));
  return found.map(({ level, says, cure }) => `${level}: ${says}: ${cure}`);
}

describe("a start and the rights of its user in Redis", () => {
  it("has no fault to find with the user of docs/redis.acl, and leaves no refusal in Redis' own log", async () => {
    expect(await said(RIGHTS)).toEqual([]);
    expect(
      await said(
        RIGHTS.map((right) => right.replace(/^([~&]\{?)/, "$1chat:")),
        { KEY_PREFIX: "chat:" },
      ),
    ).toEqual([]);
    expect(await admin.call("ACL", "LOG")).toEqual([]);
    expect(await admin.keys("*")).toEqual([]);
  });

  it.each(NAMES)("is refused without %s, and names it", async (missing) => {
    const [finding = "", ...more] = await said(RIGHTS.filter((right) => right !== missing));
    expect(more).toEqual([]);
    expect(finding).toMatch(/^refuse: /);
    const pattern = missing === "~audit:rooms" ? "~audit:*" : missing;
    expect(finding).toMatch(`not use ${pattern}: `);
    expect(finding).toMatch(`ACL SETUSER and ${pattern},`);
  });

  it.each([
    ["-@write", /\+set, .*\+zadd|\+set, .* and \d+ more/],
    ["-eval", /not use \+eval: /],
    ["-evalsha", /not use \+evalsha: /],
    ["-publish", /not use \+publish: /],
    ["-hset -zadd", /not use \+hset, \+zadd: /],
    ["resetkeys %R~*", /not use ~total_users, /],
  ])("is refused with %s, and names what is missing", async (taken, words) => {
    expect((await said([...RIGHTS, ...taken.split(" ")])).join()).toMatch(words);
  });

  it("needs no right that it does not use: to write demo data, to the secret of SESSION_SECRET, to rooms' channels", async () => {
    const without = (...names: string[]) => RIGHTS.filter((right) => !names.includes(right));
    expect(await said([...without("~seed:*"), "%R~seed:*"])).toEqual([]);
    expect(
      await said(without("~session_secret"), { SESSION_SECRET: "kD8f0sK2mQ9xZ4vB7nL1pR5tW3yC6hJ0" }),
    ).toEqual([]);
    expect(await said(without("&MESSAGES:*"), { RELAY_CHANNEL: "single" })).toEqual([]);
    expect(await said([...RIGHTS, "-wait"])).toEqual([]);
    expect(await said([...RIGHTS, "-wait"], { WAIT_REPLICAS: "1" })).toHaveLength(1);
  });

  it("asks for every command of the scripts", async () => {
    const folder = new URL(".", import.meta.url);
    const lua = readdirSync(folder).filter((name) => name.endsWith(".lua"));
    const used = lua.flatMap((name) =>
      [...readFileSync(new URL(name, folder), "utf8").matchAll(/redis\.p?call\('(\w+)'/g)].map(
        ([, command = ""]) => command.toLowerCase(),
      ),
    );
    expect(used.length).toBeGreaterThan(50);
    for (const command of new Set(used))
      expect(await said([...RIGHTS, `-${command}`]), command).toHaveLength(1);
  });
});

it("a Redis that cannot be asked for rights refuses nobody", async () => {
  const redis = new Redis(testRedisUrl());
  onTestFinished(() => redis.disconnect());
  const config = readConfig({});
  const old = {
    eval: (script: string, ...rest: unknown[]) =>
      redis.eval(script.replaceAll("acl_check_cmd", "unknown"), ...(rest as [number, string])),
  };
  const as = Object.assign(Object.create(redis) as Redis, old);
  expect(await checkRights(as, config, createKeys(""))).toEqual([]);
});
