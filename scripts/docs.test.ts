import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../server/src/config.ts";
import { COMMANDS } from "../server/src/store/rights.ts";
import { both, person, replicas } from "../server/src/testing.ts";
import { ATTACKS, rowOf } from "./attack/attacks.ts";
import { backup } from "./backup.ts";
import { root } from "./prepare.mjs";
import { freePort, startRedis, type PrivateRedis } from "./redis.ts";
import { restore } from "./restore.ts";
import { seed } from "./seed.ts";
import { keys, remade } from "./tables.ts";

const read = (file: string) => readFileSync(join(root, file), "utf8");
const pages = readdirSync(join(root, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => `docs/${name}`);
const documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", ...pages];

/** The cells of a table's body, by its first heading. */
function table(document: string, heading: string): string[][] {
  const rows = document.split("\n");
  const start = rows.findIndex((row) => row.replaceAll(/[|\s]+/g, " ").startsWith(` ${heading} `));
  const length = rows.slice(start).findIndex((row) => !row.startsWith("|"));
  const cells = (row: string) => row.split(/(?<!\\)\|/).map((cell) => cell.trim());
  return rows.slice(start + 2, start + length).map((row) => cells(row).slice(1, -1));
}

/** The texts in backticks. */
function code(text = ""): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? "");
}

/** The paths of docs/tree.md, top to bottom; a folder that is one line ends with a slash. */
function tree(): string[] {
  const block = /```text\n([^]*?)\n```/.exec(read("docs/tree.md"))?.[1] ?? "";
  const lines = block.split("\n").map((line) => ({
    depth: line.search(/\S/) / 2,
    name: line.trim().split(" ")[0] ?? "",
  }));
  const folders: string[] = [];
  return lines.flatMap(({ depth, name }, index) => {
    folders.length = depth;
    const path = [...folders, name].join("");
    folders.push(name);
    return (lines[index + 1]?.depth ?? 0) > depth ? [] : [path];
  });
}

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory())
      return ["attack", "bench", "prove"].includes(entry.name) ? [`${path}/`] : sources(path);
    return /\.test\.tsx?$|\.module\.css$|tsconfig\.json$/.test(entry.name) ? [] : [path];
  });
}

/** The files that a file imports, as paths from the root; of other packages only what the server exports. */
function importsOf(file: string): string[] {
  return [...read(file).matchAll(/\bfrom "(\.[^"]+|@hubbub\/server\/\w+)"/g)].map(([, path = ""]) =>
    path.startsWith(".") ? join(dirname(file), path) : path.replace("@hubbub/server", "server/src") + ".ts",
  );
}

describe("the tree", () => {
  it("has a line for every source file, and no other", () => {
    const listed = tree();
    const missing = listed.filter((path) => !existsSync(join(root, path)));
    expect(missing).toEqual([]);
    const all = ["server/src", "client/src", "scripts"].flatMap(sources);
    expect(all.filter((path) => !listed.includes(path))).toEqual([]);
  });

  it("lists every file below all files that it imports", () => {
    const listed = tree();
    const place = (path: string) => listed.indexOf(path);
    const upwards = listed
      .filter((path) => /^(server|client)\/src\/.*\.tsx?$/.test(path))
      .flatMap((path) => importsOf(path).map((other) => ({ path, other })))
      .filter(({ path, other }) => place(other) > place(path));
    expect(upwards).toEqual([]);
  });
});

describe("what is generated from the code", () => {
  const made = pages.filter((page) => read(page).includes("<!-- made:"));

  it.each(made)("is up to date in %s", async (page) => {
    await expect(await remade(page)).toMatchFileSnapshot(join(root, page));
  });

  it("has no empty cell, except for empty defaults", () => {
    expect(made).toEqual([
      "docs/api.md",
      "docs/configuration.md",
      "docs/data.md",
      "docs/limits.md",
      "docs/rights.md",
    ]);
    const empty = made.flatMap((page) =>
      read(page)
        .split("\n")
        .filter((line) => /^\|.*\| +\|$|^\| +\|/.test(line)),
    );
    expect(empty).toEqual([]);
  });
});

describe("the attacks of SECURITY.md", () => {
  it("are those of `npm run attack`, with the same defences", () => {
    expect(table(read("SECURITY.md"), "attack")).toEqual(ATTACKS.map(rowOf));
  });

  it("are all 48, each of them played, covered by another test, or not built yet for a reason", () => {
    const numbers = new Set(ATTACKS.map(({ number }) => number));
    expect([...numbers].toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 48 }, (_, index) => index + 1),
    );
  });
});

describe.each(documents)("%s", (name) => {
  const document = read(name);

  it("names only existing npm scripts", () => {
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
    const named = [...document.matchAll(/(?:^|`|[A-Z]=\S+ )npm (?:run )?(?:--silent )?([a-z]+)/gm)].map(
      (match) => match[1] ?? "",
    );
    const own = named.filter((script) => !["ci", "audit"].includes(script));
    expect(own.filter((script) => !(script in scripts))).toEqual([]);
  });

  it("names only existing tests", () => {
    const stages = ["format", "lint", "types", "unused", "lock", "unit", "build", "attack", "browser"];
    const files = ["server/src", "client/src", "client/e2e", "scripts"].flatMap((folder) =>
      existsSync(join(root, folder))
        ? readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).filter((file) =>
            /\.(test|e2e)\.tsx?$/.test(file),
          )
        : [],
    );
    const named = [...document.matchAll(/npm test -- ([\w ]+)/g)].flatMap((match) =>
      (match[1] ?? "").trim().split(/ +/),
    );
    const unknown = named.filter(
      (part) => !stages.includes(part) && !files.some((file) => file.includes(part)),
    );
    expect(unknown).toEqual([]);
  });

  it("links only to existing files", () => {
    const links = [...document.matchAll(/(?<!!)\[[^\]]*\]\((?!https?:)([^)#]+)/g)].map(
      (match) => match[1] ?? "",
    );
    expect(links.filter((link) => !existsSync(join(root, dirname(name), link)))).toEqual([]);
  });
});

describe("the Redis users of docs/redis.acl", () => {
  const dir = mkdtempSync(join(tmpdir(), "hubbub-docs-"));
  const aclFile = join(dir, "users.acl");
  const urlOf = (name: string) => redis.url.replace(/\/\/[^@]*@/, "//").replace("//", `//${name}:PASSWORD@`);
  let redis: PrivateRedis;
  let admin: Redis;
  beforeAll(async () => {
    const port = await freePort();
    writeFileSync(aclFile, `${read("docs/redis.acl")}user default on >admin ~* &* +@all\n`);
    redis = await startRedis({
      dir,
      persistent: false,
      port,
      password: "admin",
      args: [`aclfile "${aclFile}"`],
    });
    admin = new Redis(`redis://:admin@127.0.0.1:${port}`);
  });
  afterAll(async () => {
    admin.disconnect();
    await redis.stop(2_000);
    rmSync(dir, { recursive: true, force: true });
  });

  it("may do everything that two replicas do, and a start asks whether they may", async () => {
    const house = await replicas(2, { REDIS_URL: urlOf("hubbub"), KEY_PREFIX: "", RATE_LIMITS: "on" });
    const [left, right] = both(house);
    try {
      const [mary, joe] = [await person(left, "mary"), await person(right, "joe")];
      await mary.say("0", "to all");
      await joe.hears("to all");
      await joe.say("1:2", "to one");
      await mary.hears("to one");
      const { body } = await mary.browser.post<{ id: string }>("/api/rooms", { name: "Harbour" });
      await joe.socket.emitWithAck("room.join", { roomId: body.id });
      await joe.say(body.id, "to some");
      await mary.hears("to some");
      await mary.socket.emitWithAck("room.read", { roomId: "0", seq: 1 });
      expect((await joe.browser.get<unknown[]>("/api/users/online")).body).toHaveLength(2);
      expect((await joe.browser.post("/api/login", { username: "joe", password: "wrong" })).status).toBe(401);
      expect((await mary.browser.get(`/api/rooms/${body.id}/transcript`)).status).toBe(200);
      expect((await joe.browser.get(`/api/rooms/${body.id}/messages?threads=true`)).status).toBe(200);
      await joe.socket.emitWithAck("room.leave", { roomId: body.id });
      expect((await joe.browser.post("/api/logout")).status).toBe(204);
      const stats = await admin.info("commandstats");
      const run = [...stats.matchAll(/^cmdstat_(\w+):/gm)].map(([, name = ""]) => name);
      const asked = COMMANDS.map(([name = ""]) => name.toLowerCase());
      expect(run.filter((name) => !asked.includes(name)).toSorted()).toEqual(["auth", "hello", "info"]);
      await seed(readConfig({ ...house.env, BCRYPT_COST: "4" }));
    } finally {
      await Promise.all(house.replicas.map((replica) => replica.close()));
      house.redis.disconnect();
      // Check here, so that the refusal is reported before its consequences.
      expect(await admin.call("ACL", "LOG")).toEqual([]);
    }
  });

  it("may back up and restore, each as its own user", async () => {
    const file = join(dir, "backup.gz");
    const config = (name: string) => readConfig({ REDIS_URL: urlOf(name) });
    const counts = await backup(config("hubbub-backup"), file, { sessions: true });
    expect(counts.messages).toBeGreaterThan(3);
    await admin.flushdb();
    await expect(restore(config("hubbub-restore"), file, { again: false })).resolves.toMatchObject(counts);
    expect(await admin.call("ACL", "LOG")).toEqual([]);
    expect(await admin.call("ACL", "DRYRUN", "hubbub-backup", "SET", "user:1", "x")).toMatch(
      /no permissions/,
    );
  });

  it("may access every key of the table in keys.ts", async () => {
    for (const [key = "", type] of keys()) {
      const name = (code(key)[0] ?? "").replace(/<[^>]+>/g, "1");
      const command = type === "channel" ? ["PUBLISH", name, "x"] : ["TYPE", name];
      for (const user of type === "channel" ? ["hubbub"] : ["hubbub", "hubbub-restore"])
        expect(await admin.call("ACL", "DRYRUN", user, ...command), `${user} ${name}`).toBe("OK");
    }
  });

  it("may administer nothing and access no other key or channel", async () => {
    const user = new Redis(urlOf("hubbub"));
    const refused = async (...[command = "", ...args]: string[]) =>
      user.call(command, ...args).then(
        () => "allowed",
        (error: unknown) => (error instanceof Error ? error.message : ""),
      );
    for (const command of [["FLUSHALL"], ["CONFIG", "GET", "dir"], ["SHUTDOWN"], ["KEYS", "room:0"]])
      expect(await refused(...command)).toMatch(/^NOPERM/);
    expect(await refused("GET", "other")).toMatch(/^NOPERM/);
    expect(await refused("PUBLISH", "other", "x")).toMatch(/^NOPERM/);
    expect(await refused("EVAL", "return redis.call('GET', 'other')", "0")).toMatch(/can't access/);
    expect(await refused("GET", "total_users")).toBe("allowed");
    user.disconnect();
  });
});
