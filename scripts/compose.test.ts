import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { DCLinter } from "dclint";
import { afterAll, expect, test } from "vitest";
import { parse } from "yaml";
import { readConfig } from "../server/src/config.ts";
import { REPLICA_OPTIONS, which } from "./child.ts";
import { HAPROXY_CFG } from "./haproxy.ts";
import { root } from "./prepare.mjs";

type Service = {
  image?: string;
  build?: { context: string; dockerfile: string; target?: string };
  container_name?: string;
  user?: string;
  command?: string[];
  profiles?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  volumes?: string[];
  networks: string[];
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
  healthcheck?: { test?: string[]; disable?: boolean };
};
type Compose = { services: Record<string, Service>; networks: Record<string, { internal?: boolean } | null> };

const COMPOSE = join(root, "docker-compose.yml");
const text = readFileSync(COMPOSE, "utf8");
const { services, networks } = parse(text, { merge: true }) as Compose;
const dockerfile = readFileSync(join(root, "server/Dockerfile"), "utf8");
const example = readFileSync(join(root, ".env.example"), "utf8");
const scratch = mkdtempSync(join(tmpdir(), "hubbub-compose-"));
const haproxy = which("haproxy") ?? which("/usr/sbin/haproxy") ?? "";

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The violations of the Compose Specification's JSON schema in a file. */
function faultsOf(content: string): string[] {
  const file = join(scratch, "docker-compose.yml");
  writeFileSync(file, content);
  const linter = new DCLinter({ rules: {}, quiet: false, debug: false, exclude: [] });
  // An ESM project cannot resolve the package's own types.
  const results = linter.lintFiles([file], false) as { messages: { rule: string; message: string }[] }[];
  const messages = results.flatMap((result) => result.messages);
  return messages.filter(({ rule }) => rule.startsWith("invalid-")).map(({ message }) => message);
}

test("docker-compose.yml is valid by the Compose Specification's schema", () => {
  expect(faultsOf(text)).toEqual([]);
});

test("the schema refuses a misspelt key and a wrong type", () => {
  expect(faultsOf(text.replace("stop_grace_period:", "stop_grace:"))).not.toEqual([]);
  expect(faultsOf(text.replace("replicas: 2", "replicas: [2]"))).not.toEqual([]);
});

test("every service has a health check, except those that run once and only by name", () => {
  const without = Object.entries(services).filter(([, { healthcheck }]) => !healthcheck?.test);
  expect(without.map(([name]) => name)).toEqual(["seed", "admin"]);
  for (const [name, { profiles }] of without) expect(profiles).toEqual([name]);
});

test("only HAProxy is published, and only on loopback", () => {
  const ports = Object.entries(services).flatMap(([name, service]) =>
    (service.ports ?? []).map((port) => `${name} ${port}`),
  );
  expect(ports).toEqual(["haproxy 127.0.0.1:${PORT:-3000}:3000"]);
});

test("HAProxy cannot reach Redis, and Redis' network has no way out", () => {
  expect(services["redis"]?.networks).toEqual(["back"]);
  expect(services["haproxy"]?.networks).toEqual(["front"]);
  expect(networks["back"]?.internal).toBe(true);
});

test("every service has a read-only root and no privileges", () => {
  for (const service of Object.values(services)) {
    expect(service).toMatchObject({
      read_only: true,
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"],
    });
  }
});

test("the replicas can be scaled: no name, no port and no server id of their own", () => {
  const app = services["app"];
  expect(app?.container_name).toBeUndefined();
  expect(app?.ports).toBeUndefined();
  expect(app?.environment?.["SERVER_ID"]).toBe("");
});

test("Redis keeps everything in an append-only file on a volume", () => {
  expect(services["redis"]?.command?.join(" ")).toMatch(
    /--appendonly yes --appendfsync everysec .*--maxmemory-policy noeviction/,
  );
  expect(services["redis"]?.volumes).toEqual(["redis:/data"]);
});

test("a replica's environment is valid, with or without a copy of .env.example", () => {
  const fixed = Object.fromEntries(
    Object.entries(services["app"]?.environment ?? {}).map(([name, value]) => [name, interpolate(value)]),
  );
  for (const env of [fixed, { ...readEnvFile(example), ...fixed }]) {
    expect(readConfig(env)).toMatchObject({
      production: true,
      host: "0.0.0.0",
      port: 3000,
      trustProxy: 1,
      redisUrl: "redis://redis:6379",
    });
  }
});

test("the replicas' health check follows /readyz", async () => {
  let status = 200;
  const server = createServer((request, response) => {
    response.statusCode = request.url === "/readyz" ? status : 404;
    response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const inCompose = services["app"]?.healthcheck?.test?.at(-1) ?? "";
  const inImage = (JSON.parse(/^ {2}CMD (\[.*\])$/m.exec(dockerfile)?.[1] ?? "[]") as string[]).at(-1) ?? "";
  const check = async (code: string) => {
    const child = spawn(process.execPath, ["--eval", code.replace(":3000/", `:${port}/`)], {
      env: { PORT: String(port) },
      stdio: "ignore",
    });
    return (await once(child, "exit"))[0] as number;
  };
  expect([await check(inCompose), await check(inImage)]).toEqual([0, 0]);
  status = 503;
  expect([await check(inCompose), await check(inImage)]).toEqual([1, 1]);
  server.close();
  await once(server, "close");
  expect([await check(inCompose), await check(inImage)]).toEqual([1, 1]);
});

test("the image runs as a user who cannot change the program", () => {
  const last = dockerfile.slice(dockerfile.lastIndexOf("\nFROM "));
  expect(last).toMatch(/^USER node$/m);
  // Nothing is installed in it.
  expect(last).toMatch(/^RUN rm -rf \/usr\/local\/lib\/node_modules [^]*^USER node$/m);
  expect(
    dockerfile.match(/npm (?:ci|install|prune).*/g)?.every((call) => call.includes("--ignore-scripts")),
  ).toBe(true);
  expect(last).not.toMatch(/--chown(?!=\S+ \/app\/data data)/);
  const [, command = "[]"] = /^CMD (.*)$/m.exec(last) ?? [];
  expect(JSON.parse(command)).toEqual(["node", ...REPLICA_OPTIONS, "server/dist/main.js"]);
  expect(services["redis"]?.user).toBe("redis");
});

test("what compose builds exists", () => {
  for (const { build } of Object.values(services)) {
    if (!build) continue;
    expect(resolve(root, build.context)).toBe(resolve(root));
    expect(join(root, build.dockerfile)).toBe(join(root, "server/Dockerfile"));
    if (build.target) expect(dockerfile).toMatch(new RegExp(`^FROM .* AS ${build.target}$`, "m"));
  }
});

test("HAProxy accepts the very file that compose mounts, which npm start uses too", ({ skip }) => {
  const [mounted = ""] = (services["haproxy"]?.volumes ?? [])[0]?.split(":") ?? [];
  expect(resolve(root, mounted)).toBe(HAPROXY_CFG);
  skip(!haproxy, "no haproxy on this machine");
  for (const polling of ["off", "on"]) {
    const env = { ...haproxyEnvironment(), POLLING: polling };
    const { status, stderr } = spawnSync(haproxy, ["-c", "-f", HAPROXY_CFG], { env, encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  }
});

test("HAProxy finds replicas by their common name as their number changes", async ({ skip }) => {
  skip(!haproxy, "no haproxy on this machine");
  const namespaces = ["--net", "--mount", ...(process.getuid?.() === 0 ? [] : ["--map-root-user"])];
  const possible = spawnSync("unshare", [...namespaces, "ip", "link", "set", "lo", "up"]).status === 0;
  skip(!possible, "no namespaces on this machine");
  const resolvConf = join(scratch, "resolv.conf");
  writeFileSync(resolvConf, "nameserver 127.0.0.1\n");
  const script = fileURLToPath(new URL("composeNetwork.mjs", import.meta.url));
  const options = JSON.stringify({ haproxy, cfg: HAPROXY_CFG, env: haproxyEnvironment() });
  const inside = 'ip link set lo up && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"';
  const command = ["sh", "-c", inside, "sh", resolvConf, process.execPath, script, options];
  const child = spawn("unshare", [...namespaces, "--kill-child", ...command], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  expect((await once(child, "exit"))[0]).toBe(0);
  const used = output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as string[]);
  expect(used).toEqual([
    ["127.0.0.2", "127.0.0.3"],
    ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"],
    ["127.0.0.2"],
  ]);
}, 120_000);

test("an unchanged copy of .env.example changes nothing", () => {
  expect(readEnvFile(example)).toEqual({});
});

/** The values that HAProxy gets from compose when .env sets none of them. */
function haproxyEnvironment(): Record<string, string> {
  const environment = services["haproxy"]?.environment ?? {};
  return Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, interpolate(value)]));
}

/** `${NAME:-default}` with NAME unset. */
function interpolate(value: string): string {
  return value.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1");
}

function readEnvFile(content: string): Record<string, string> {
  return Object.fromEntries(
    [...content.matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]),
  );
}
