import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { until } from "../server/src/testing.ts";
import { which, type Child } from "./child.ts";
import { HAPROXY_CFG, startHaproxy } from "./haproxy.ts";
import { freePort } from "./redis.ts";

const folder = mkdtempSync(join(tmpdir(), "hubbub haproxy "));
const ends: (() => unknown)[] = [];
const haproxy = which("haproxy") ?? which("/usr/sbin/haproxy");

afterEach(async () => {
  vi.unstubAllEnvs();
  for (const end of ends.splice(0)) await end();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Answers like a replica, as far as a load balancer can see; `ready` is the answer of /readyz, null means none. */
async function backend(
  name: string,
): Promise<{ port: number; ready: number | null; seen: IncomingMessage[] }> {
  const seen: IncomingMessage[] = [];
  const server: Server = createServer((incoming, response) => {
    if (incoming.url === "/readyz") {
      if (state.ready !== null) response.writeHead(state.ready).end();
      return;
    }
    seen.push(incoming);
    response.end(name);
  });
  server.on("upgrade", ({ headers }, socket: Socket) => {
    socket.on("error", () => {});
    // RFC 6455, 1.3: HAProxy checks that the answer fits the key.
    const accept = createHash("sha1").update(
      `${headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`,
    );
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    socket.write(`Sec-WebSocket-Accept: ${accept.digest("base64")}\r\n\r\n${name}`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const state = { port: (server.address() as AddressInfo).port, ready: 200 as number | null, seen };
  return state;
}

async function balancer(replicas: number[]): Promise<{ url: string; child: Child }> {
  const port = await freePort();
  const child = await startHaproxy({ host: "127.0.0.1", port, replicas, dir: folder, say: () => {} });
  ends.push(() => child.stop(300));
  return { url: `http://127.0.0.1:${port}`, child };
}

/** An open WebSocket: its backend, and whether it is still open. */
async function upgrade(url: string): Promise<{ backend: string; open: () => boolean }> {
  const outgoing = request(`${url}/socket.io/?transport=websocket`, {
    headers: {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": randomBytes(16).toString("base64"),
    },
  }).end();
  const [, socket, head] = (await once(outgoing, "upgrade")) as [IncomingMessage, Socket, Buffer];
  ends.push(() => socket.destroy());
  socket.on("error", () => {});
  let name = head.toString();
  socket.on("data", (data: Buffer) => (name += data.toString()));
  await until(() => name !== "");
  return { backend: name, open: () => !socket.destroyed && !socket.readableEnded };
}

/** Spellings that some server on the way may take for /readyz and /metrics. */
const SPELLINGS = [
  "/readyz",
  "/readyz/",
  "/READYZ",
  "//readyz",
  "/./readyz",
  "/x/../readyz",
  "/%72eadyz",
  "/%2572eadyz",
  "/readyz?x",
  "/readyz;x",
  "/readyz%2f",
  "/readyz%3fx",
  "/%2freadyz",
  "/metrics/",
  "/Metrics",
  "//metrics",
  "/%6detrics",
  "http://other.example/metrics",
];

const names = (url: string, count: number, headers = {}) =>
  Promise.all(Array.from({ length: count }, async () => (await fetch(url, { headers })).text()));

describe.skipIf(!haproxy)("haproxy.cfg", () => {
  it("is valid as docker-compose mounts it, with and without long-polling", () => {
    for (const env of [{}, { POLLING: "on" }, { REPLICAS: "chat:3000", HOST: "0.0.0.0", PORT: "80" }]) {
      const { BACKEND: _, ...rest } = process.env;
      const checked = spawnSync(haproxy ?? "", ["-c", "-f", HAPROXY_CFG], {
        env: { ...rest, ...env },
        encoding: "utf8",
      });
      expect(checked.stderr).not.toMatch(/ALERT|WARNING/);
      expect(checked.status).toBe(0);
    }
  });

  it("balances requests, passes on the client's address, and hides the metrics", async () => {
    const [one, two] = await Promise.all([backend("one"), backend("two")]);
    const { url } = await balancer([one.port, two.port]);
    expect(new Set(await names(url, 20))).toEqual(new Set(["one", "two"]));
    expect(
      [...one.seen, ...two.seen].every(({ headers }) => headers["x-forwarded-for"] === "127.0.0.1"),
    ).toBe(true);
    expect(one.seen.at(-1)?.headers.host).toBe(new URL(url).host);
    const { hostname, port } = new URL(url);
    for (const path of ["/metrics", ...SPELLINGS]) {
      const [answer] = (await once(request({ hostname, port, path }).end(), "response")) as [IncomingMessage];
      answer.resume();
      expect([path, answer.statusCode]).toEqual([path, answer.statusCode === 400 ? 400 : 404]);
    }
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect((await fetch(url)).headers.get("set-cookie")).toBeNull();
  });

  it("keeps the open connections of a replica that is not ready and gives it no new ones", async () => {
    const [one, two] = await Promise.all([backend("one"), backend("two")]);
    const { url, child } = await balancer([one.port, two.port]);
    const sockets = await Promise.all(Array.from({ length: 6 }, () => upgrade(url)));
    const held = sockets.filter((socket) => socket.backend === "one");
    expect(held.length).toBeGreaterThan(0);
    one.ready = 503;
    await until(
      () => child.lastLines.some((line) => /replica-1 .*(stopping|DRAIN|NOLB)/i.test(line)),
      5_000,
      "the check",
    );
    expect(new Set(await names(url, 20))).toEqual(new Set(["two"]));
    expect(held.every((socket) => socket.open())).toBe(true);
  });

  it("cuts the connections of a replica that stopped answering, so that their clients reconnect", async () => {
    const [one, two] = await Promise.all([backend("one"), backend("two")]);
    const { url } = await balancer([one.port, two.port]);
    const sockets = await Promise.all(Array.from({ length: 6 }, () => upgrade(url)));
    one.ready = null;
    await until(
      () => sockets.every((socket) => socket.open() === (socket.backend === "two")),
      10_000,
      "the cut",
    );
    expect(new Set(await names(url, 20))).toEqual(new Set(["two"]));
  });

  it("with POLLING=on, keeps a browser with one replica by a cookie", async () => {
    vi.stubEnv("POLLING", "on");
    const [one, two] = await Promise.all([backend("one"), backend("two")]);
    const { url } = await balancer([one.port, two.port]);
    const first = await fetch(url);
    const name = await first.text();
    const cookie = first.headers.get("set-cookie")?.split(";")[0] ?? "";
    expect(cookie).toMatch(/^replica=/);
    expect(new Set(await names(url, 20, { cookie }))).toEqual(new Set([name]));
  });
});
