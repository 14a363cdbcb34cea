import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request, type RequestOptions } from "node:https";
import type { IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { pino } from "pino";
import { io } from "socket.io-client";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { readConfig } from "../server/src/config.ts";
import { startServer, type Replica } from "../server/src/server.ts";
import { METRICS_TOKEN, replicas, until, type House } from "../server/src/testing.ts";
import { startChild, which, type Child } from "./child.ts";
import { unpacked } from "./debian.ts";
import { root } from "./prepare.mjs";
import { freePort } from "./redis.ts";

const read = (file: string) => readFileSync(join(root, "docs/proxies", file), "utf8");
const dir = mkdtempSync(join(tmpdir(), "hubbub-proxies-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

/** Spellings that some server on the way may take for /readyz and /metrics. */
const SPELLINGS = [
  "/readyz",
  "/readyz/",
  "/READYZ",
  "//readyz",
  "/./readyz",
  "/x/../readyz",
  "/%72eadyz",
  "/readyz?x",
  "/readyz;x",
  "/metrics",
  "/metrics/",
  "/Metrics",
  "//metrics",
  "/%6detrics",
  "/%2fmetrics",
];

const nginx = which("nginx") ?? which("/usr/sbin/nginx");
const caddy = which("caddy") ?? unpacked("caddy", "usr/bin/caddy")?.command;
const openssl = which("openssl");

function replaced(text: string, ...pairs: [string, string][]): string {
  return pairs.reduce((result, [from, to]) => {
    // A changed example must not go untested.
    expect(result).toContain(from);
    return result.replaceAll(from, to);
  }, text);
}

function certificate(): { cert: string; key: string } {
  const [cert, key] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  const subject = [
    "-subj",
    "/CN=chat.example.org",
    "-addext",
    "subjectAltName=DNS:chat.example.org,IP:127.0.0.1",
  ];
  const made = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "2",
  ];
  execFileSync(openssl ?? "", [...made, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  return { cert, key };
}

type Port = { https: number; http: number; replica: number };

const programs: [string, string | undefined, (ports: Port) => { args: string[]; env?: object }][] = [
  [
    "nginx.conf",
    nginx,
    (ports) => {
      const { cert, key } = certificate();
      const site = replaced(
        read("nginx.conf"),
        ["listen 80;", `listen 127.0.0.1:${ports.http};`],
        ["listen 443 ssl;", `listen 127.0.0.1:${ports.https} ssl;`],
        ["/etc/ssl/chat.example.org.pem", cert],
        ["/etc/ssl/chat.example.org.key", key],
        ["127.0.0.1:3000", `127.0.0.1:${ports.replica}`],
      );
      for (const name of ["body", "proxy", "fastcgi", "uwsgi", "scgi"])
        mkdirSync(join(dir, name), { recursive: true });
      const file = join(dir, "nginx.conf");
      writeFileSync(
        file,
        `daemon off; pid ${dir}/pid; error_log stderr; ${process.getuid?.() === 0 ? "user root;" : ""} events {}
         http { access_log off; client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy;
         fastcgi_temp_path ${dir}/fastcgi; uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
         ${site} }`,
      );
      return { args: ["-c", file, "-e", "stderr"] };
    },
  ],
  [
    "Caddyfile",
    caddy,
    (ports) => {
      const { cert, key } = certificate();
      const site = replaced(
        read("Caddyfile"),
        ["chat.example.org {\n", `https://127.0.0.1:${ports.https} {\n\ttls ${cert} ${key}\n`],
        ["127.0.0.1:3000", `127.0.0.1:${ports.replica}`],
      );
      const file = join(dir, "Caddyfile");
      writeFileSync(
        file,
        `{\n\tadmin off\n\tauto_https disable_redirects\n\thttp_port ${ports.http}\n}\n${site}`,
      );
      const env = { XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir, HOME: dir };
      return { args: ["run", "--adapter", "caddyfile", "--config", file], env };
    },
  ],
];

type Answer = { status: number; headers: IncomingMessage["headers"]; body: string };

async function ask(port: number, path: string, options: RequestOptions = {}, body?: object): Promise<Answer> {
  const sent = request({
    host: "127.0.0.1",
    port,
    path,
    rejectUnauthorized: false,
    agent: false,
    ...options,
  });
  sent.end(body && JSON.stringify(body));
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += chunk as string;
  return { status: response.statusCode ?? 0, headers: response.headers, body: text };
}

describe.each(programs)("%s", (_name, program, configure) => {
  const can = program !== undefined && openssl !== null && openssl !== undefined;

  async function running() {
    const [https, http] = [await freePort(), await freePort()];
    const house: House = await replicas(0, {
      COOKIE_SECURE: "on",
      TRUST_PROXY: "1",
      PUBLIC_URL: `https://127.0.0.1:${https}`,
    });
    ends.push(() => house.close());
    const lines: string[] = [];
    const log = pino({}, { write: (line: string) => lines.push(line) });
    const replica: Replica = await startServer(readConfig(house.env), log);
    house.replicas.push(replica);
    const { args, env } = configure({ https, http, replica: replica.port });
    const child: Child = startChild({ command: program ?? "", args, env: { ...process.env, ...env } });
    ends.push(() => child.stop(2_000));
    await until(
      async () =>
        child.hasEnded() ||
        (await ask(https, "/healthz").then(
          ({ status }) => status === 200,
          () => false,
        )),
      15_000,
      `the proxy: ${child.lastLines.join("\n")}`,
    );
    expect(child.hasEnded(), child.lastLines.join("\n")).toBe(false);
    return { https, lines };
  }

  it.skipIf(!can)(
    "lets people in by HTTPS and WebSocket, and tells who they are",
    { timeout: 120_000 },
    async () => {
      const { https, lines } = await running();
      const origin = `https://127.0.0.1:${https}`;
      const headers = { origin, "content-type": "application/json", "x-forwarded-for": "192.0.2.1" };
      const who = { username: "ann", password: "correct horse battery" };
      const made = await ask(https, "/api/users", { method: "POST", headers }, who);
      expect([made.status, made.body]).toEqual([201, expect.stringContaining('"ann"')]);
      const cookie = made.headers["set-cookie"]?.[0]?.split(";")[0] ?? "";
      expect(cookie).toMatch(/^__Host-hubbub=/);
      const socket = io(origin, {
        transports: ["websocket"],
        rejectUnauthorized: false,
        reconnection: false,
        extraHeaders: { cookie, origin },
      });
      ends.push(() => socket.disconnect());
      await new Promise((resolve, reject) => {
        socket.once("connect", () => resolve(true));
        socket.once("connect_error", reject);
      });
      const reply = await socket.emitWithAck("message", {
        roomId: "0",
        message: "through the proxy",
        nonce: "n",
      });
      expect(reply).toMatchObject({ ok: true });
      const wrong = await ask(
        https,
        "/api/login",
        { method: "POST", headers },
        { ...who, password: "wrong password" },
      );
      expect(wrong.status).toBe(401);
      // The client's claim about its address is not believed.
      expect(lines.filter((line) => line.includes('"login.failed"'))).toEqual([
        expect.stringContaining('"address":"127.0.0.1"'),
      ]);
      const fooled = await ask(
        https,
        "/api/login",
        { method: "POST", headers: { ...headers, origin: "https://evil.example" } },
        who,
      );
      expect(fooled.status).toBe(403);
      expect(lines.filter((line) => /proxies than TRUST_PROXY|COOKIE_SECURE/.test(line))).toEqual([]);
    },
  );

  it.skipIf(!can)(
    "keeps health and figures for the inside, however they are spelled",
    { timeout: 120_000 },
    async () => {
      const { https } = await running();
      const headers = { authorization: `Bearer ${METRICS_TOKEN}` };
      for (const path of SPELLINGS) {
        const { status, body } = await ask(https, path, { headers });
        expect([path, status]).toEqual([path, 404]);
        // The proxy refuses this: Hubbub's own 404 would have a code.
        expect([path, body]).toEqual([path, expect.not.stringContaining("not_found")]);
      }
      expect((await ask(https, "/healthz")).status).toBe(200);
    },
  );
});

it("traefik.yml, which is not run here, is valid YAML whose rule blocks the same paths", () => {
  const { http } = parse(read("traefik.yml")) as { http: { routers: Record<string, { rule: string }> } };
  const rule = http.routers["hubbub"]?.rule ?? "";
  const pattern = /!PathRegexp\(`\(\?i\)([^`]*)`\)/.exec(rule)?.[1] ?? "";
  const inside = new RegExp(pattern, "i");
  // Traefik compares the decoded path, as Go's URL.Path.
  for (const path of SPELLINGS) expect(decodeURIComponent(path.replace(/\?.*/, ""))).toMatch(inside);
  for (const path of ["/", "/api/rooms/0/messages", "/healthz", "/socket.io/", "/assets/metrics-1.js"])
    expect(path).not.toMatch(inside);
});
