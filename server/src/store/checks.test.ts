import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  checkClient,
  checkEnvironment,
  checkInfo,
  checkProcess,
  connectionsMost,
  heed,
  type Finding,
} from "./checks.ts";
import { VARIABLES, readConfig } from "../config.ts";

const about = (findings: Finding[]) => findings.map((finding) => finding.about);
const said = (env: Record<string, string>) => checkEnvironment(env, readConfig(env));

describe("checkEnvironment", () => {
  it("finds nothing wrong with the defaults, with every known variable, or with other programs' variables", () => {
    expect(said({})).toEqual([]);
    expect(
      checkEnvironment(Object.fromEntries(Object.keys(VARIABLES).map((name) => [name, "x"])), undefined),
    ).toEqual([]);
    const others =
      "HOME PATH HOSTNAME LANG LOGNAME NODE_PATH NODE_OPTIONS NODE_EXTRA_CA_CERTS SHELL TERM USER PWD OLDPWD " +
      "npm_config_port npm_package_name SESSION_MANAGER XDG_SESSION_ID DATA_DIR REDIS_SERVER_BIN TEST_REDIS_URL " +
      "REDIS_SERVICE_HOST REDIS_PORT_6379_TCP LS_COLORS VITEST_WORKER_ID CI DEBUG EDITOR TZ";
    expect(
      checkEnvironment(Object.fromEntries(others.split(" ").map((name) => [name, "x"])), undefined),
    ).toEqual([]);
    expect(checkEnvironment({ REDIS_PORT: "tcp://10.0.0.1:6379" }, undefined)).toEqual([]);
  });

  it("takes what Kubernetes tells of services for other programs' variables", () => {
    for (const service of ["HUBBUB", "METRICS", "REDIS", "BATCH_JOBS"]) {
      const env = {
        [`${service}_PORT`]: "tcp://10.0.0.1:80",
        [`${service}_SERVICE_HOST`]: "10.0.0.1",
        [`${service}_SERVICE_PORT`]: "80",
        [`${service}_SERVICE_PORT_HTTP`]: "80",
        [`${service}_PORT_80_TCP`]: "tcp://10.0.0.1:80",
        [`${service}_PORT_80_TCP_ADDR`]: "10.0.0.1",
        [`${service}_PORT_80_TCP_PORT`]: "80",
        [`${service}_PORT_80_TCP_PROTO`]: "tcp",
      };
      expect(said(env)).toEqual([]);
    }
    expect(about(said({ HUBBUB_PORT: "80" }))).toEqual(["HUBBUB_PORT"]);
  });

  it("warns of a PUBLIC_URL that does not go with COOKIE_SECURE", () => {
    const of = (PUBLIC_URL: string, COOKIE_SECURE: string) =>
      about(said({ PUBLIC_URL, COOKIE_SECURE, TRUST_PROXY: "1" }));
    const [plain, secure] = ["http://chat.example", "https://chat.example"];
    expect(of(plain, "on")).toEqual(["PUBLIC_URL"]);
    expect(of(secure, "off")).toEqual(["COOKIE_SECURE"]);
    expect(of(`${plain},${secure}`, "on")).toEqual(["PUBLIC_URL"]);
    expect([...of(plain, "off"), ...of(secure, "on")]).toEqual([]);
  });

  it("warns of bounds of files that are below that of one file", () => {
    const of = (env: Record<string, string>) => about(said({ FILES_MAX: "100", ...env }));
    expect(of({ FILES_USER_MAX: "99", FILES_TOTAL_MAX: "99" })).toEqual([
      "FILES_USER_MAX",
      "FILES_TOTAL_MAX",
    ]);
    expect(of({ FILES_USER_MAX: "100", FILES_TOTAL_MAX: "0" })).toEqual([]);
  });

  it("warns of a CLIENT_DIR without a page, and says what to do", () => {
    expect(checkClient(readConfig({ CLIENT_DIR: "off" }))).toEqual([]);
    const built = mkdtempSync(join(tmpdir(), "hubbub-test-"));
    onTestFinished(() => rmSync(built, { recursive: true, force: true }));
    mkdirSync(join(built, "assets"));
    writeFileSync(join(built, "index.html"), "<!doctype html>");
    expect(checkClient(readConfig({ CLIENT_DIR: built }))).toEqual([]);
    // The sources of the page are none.
    for (const folder of ["no/such/folder", "README.md", "server", "client"])
      expect(checkClient(readConfig({ CLIENT_DIR: folder }))).toMatchObject([
        { level: "warn", about: "CLIENT_DIR", cure: expect.stringContaining("CLIENT_DIR=off") as string },
      ]);
  });

  it.each([
    ["COOKIE_SECUR", "COOKIE_SECURE"],
    ["COOKIES_SECURE", "COOKIE_SECURE"],
    ["REDIS_URI", "REDIS_URL"],
    ["REDISURL", "REDIS_URL"],
    ["redis_url", "REDIS_URL"],
    ["PORTT", "PORT"],
    ["PROT", "PORT"],
    ["HOSTS", "HOST"],
    ["ORIGIN", "ORIGINS"],
    ["TRUST_PROXI", "TRUST_PROXY"],
    ["SESSION_SECRETS", "SESSION_SECRET"],
    ["WORKER", "WORKERS"],
    ["NODE_ENW", "NODE_ENV"],
    ["REDIS_PASSWORD", "REDIS_URL"],
    ["REDIS_HOST", "REDIS_URL"],
  ])("takes %s for a misspelt %s, and does not repeat its value", (name, meant) => {
    const [finding, ...more] = checkEnvironment({ [name]: "hunter2" }, undefined);
    expect(more).toEqual([]);
    expect(finding).toMatchObject({
      level: "warn",
      about: name,
      cure: expect.stringContaining(`did you mean ${meant}?`),
    });
    expect(JSON.stringify(finding)).not.toContain("hunter2");
  });

  it("names an unknown variable that begins like one of ours", () => {
    expect(
      about(checkEnvironment({ COOKIE_DOMAIN: "x", RATE_LIMIT_LOGIN: "5", HUBBUB_PORT: "1" }, undefined)),
    ).toEqual(["COOKIE_DOMAIN", "RATE_LIMIT_LOGIN", "HUBBUB_PORT"]);
    expect(checkEnvironment({ COOKIE_DOMAIN: "" }, undefined)).toEqual([]);
  });

  it("warns of a public address without HTTPS or production, and of HTTPS behind a proxy that is not trusted", () => {
    expect(about(said({ HOST: "0.0.0.0" }))).toEqual(["HOST", "NODE_ENV"]);
    expect(about(said({ HOST: "::", NODE_ENV: "production", COOKIE_SECURE: "on" }))).toEqual([
      "TRUST_PROXY",
      "SESSION_SECRET",
    ]);
    const well = { HOST: "0.0.0.0", NODE_ENV: "production", COOKIE_SECURE: "on", TRUST_PROXY: "1" };
    expect(about(said({ ...well, SESSION_SECRET: "kD8f0sK2mQ9xZ4vB7nL1pR5tW3yC6hJ0" }))).toEqual([]);
    expect(about(said({ HOST: "127.0.0.53" }))).toEqual([]);
  });

  it("warns of long-polling with workers, among which nothing is sticky", () => {
    expect(about(said({ POLLING: "on", WORKERS: "2" }))).toEqual(["POLLING"]);
    expect(said({ POLLING: "on", WORKERS: "1" })).toEqual([]);
  });

  it("warns in production of settings that are for tests only", () => {
    const found = said({
      NODE_ENV: "production",
      RATE_LIMITS: "off",
      BCRYPT_COST: "4",
      SESSION_SECRET: "x".repeat(40),
    });
    expect(about(found)).toEqual(["RATE_LIMITS", "BCRYPT_COST", "SESSION_SECRET"]);
    expect(found.every(({ level }) => level === "warn")).toBe(true);
  });

  it("warns of a Redis on another network without TLS, and notes a missing password", () => {
    expect(about(said({ REDIS_URL: "redis://:secret@cache.example.org" }))).toEqual(["REDIS_URL"]);
    expect(about(said({ REDIS_URL: "rediss://:secret@cache.example.org" }))).toEqual([]);
    expect(about(said({ REDIS_URL: "redis://:secret@10.0.0.9" }))).toEqual([]);
    expect(said({ REDIS_URL: "redis://redis" })).toMatchObject([{ level: "note", about: "REDIS_URL" }]);
  });
});

describe("checkInfo", () => {
  const look = (info: string, more: { production?: boolean; waitReplicas?: number } = {}) =>
    checkInfo(info.replaceAll("\n", "\r\n"), "Redis", {
      production: false,
      waitReplicas: 0,
      redisUrl: "redis://:secret@cache/2",
      ...more,
    }).filter(({ level }) => level !== "note");
  const well =
    "redis_version:7.0.15\naof_enabled:1\nmaxmemory:0\nmaxmemory_policy:noeviction\nused_memory:1000000\n";

  it("accepts a Redis that keeps everything, and notes its version, address, database and memory", () => {
    expect(look(well, { production: true })).toEqual([]);
    const notes = checkInfo(well, "Redis", {
      production: true,
      waitReplicas: 0,
      redisUrl: "redis://:secret@cache/2",
    });
    expect(notes.map(({ says }) => says).join(" ")).toMatch(
      /7\.0\.15, database 2, at redis:\/\/cache:6379\/2.*no maxmemory/,
    );
  });

  it.each(["allkeys-lru", "allkeys-lfu", "allkeys-random"])(
    "refuses %s in production, warns elsewhere",
    (policy) => {
      const info = well.replace("noeviction", policy);
      expect(look(info, { production: true })).toMatchObject([
        { level: "refuse", about: "maxmemory-policy" },
      ]);
      expect(look(info)).toMatchObject([{ level: "warn", about: "maxmemory-policy" }]);
    },
  );

  it.each(["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])(
    "warns of %s everywhere",
    (policy) => {
      const info = well.replace("noeviction", policy);
      expect(look(info, { production: true })).toMatchObject([{ level: "warn", about: "maxmemory-policy" }]);
    },
  );

  it("lists every refusal in one Error", () => {
    const info = "redis_version:6.2.1\naof_enabled:0\nmaxmemory_policy:allkeys-lru\n";
    const found = look(info, { production: true });
    expect(about(found)).toEqual(["version", "maxmemory-policy", "append-only file"]);
    expect(() => heed(found, pino({ level: "silent" }))).toThrow(
      /^Redis 6\.2 is too old: .*\n.*allkeys-lru.*\n.*appendonly yes/,
    );
  });

  it("warns of nearly full memory, a failing disk, too few replicas and too many clients", () => {
    const info =
      well.replace("maxmemory:0", "maxmemory:1100000") +
      "aof_last_write_status:err\nconnected_slaves:0\nconnected_clients:95\nmaxclients:100\n";
    expect(about(look(info, { waitReplicas: 1 }))).toEqual([
      "maxmemory",
      "disk",
      "WAIT_REPLICAS",
      "maxclients",
    ]);
  });

  it("ignores fields that a managed Redis leaves out", () => {
    expect(look("", { production: true, waitReplicas: 1 })).toEqual([]);
  });
});

describe("checkProcess", () => {
  const limits = (soft: number) =>
    `Max open files            ${soft}                 1048576              files\n`;

  it("warns if fewer than 4096 files may be open, and says how many connections that allows", () => {
    expect(checkProcess(limits(1_024))).toMatchObject([
      { level: "warn", says: expect.stringContaining("853 connections") },
    ]);
    expect(checkProcess(limits(65_536))).toMatchObject([{ level: "note" }]);
    expect(checkProcess("")).toEqual([]);
  });
});

it.each([
  [200, 136],
  [1_024, 854],
  [65_536, 64_512],
  [64, 1],
])("leaves, of %i open files, %i for connections", (files, connections) => {
  expect(connectionsMost(`Max open files            ${files}              ${files}  files\n`)).toBe(
    connections,
  );
});

it("does not limit connections if the system tells no limit of open files", () => {
  expect(connectionsMost("")).toBe(Infinity);
});
