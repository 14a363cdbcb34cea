import {
  createServer,
  request,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type Server,
} from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createListener, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { readConfig } from "../server/src/config.ts";
import { startServer } from "../server/src/server.ts";
import { Browser, newServer, ownRedis, person, replicas, until, type House } from "../server/src/testing.ts";
import { demoPeople } from "./demo.ts";
import { examine, main } from "./doctor.ts";
import { freePort } from "./redis.ts";

let house: House;
let env: Record<string, string>;
beforeAll(async () => {
  const port = String(await freePort());
  house = await replicas(0, { PORT: port, RATE_LIMITS: "on", TRUST_PROXY: "1", HOST: "127.0.0.1" });
  env = house.env;
  await house.addReplica();
});
afterAll(() => house.close());

/** An HTTP proxy without WebSockets, which passes on `headers`, and answers for `down` itself. */
async function proxy(
  headers: (given: IncomingHttpHeaders, address: string) => OutgoingHttpHeaders,
  down?: string,
): Promise<string> {
  const server: Server = createServer((incoming, outgoing) => {
    if (incoming.url === down) {
      outgoing.writeHead(503, { "content-type": "text/html" }).end("<h1>No server</h1>");
      return;
    }
    const { host: _, upgrade: __, connection: ___, "x-forwarded-for": ____, ...rest } = incoming.headers;
    const onward = request(
      {
        port: env["PORT"],
        method: incoming.method,
        path: incoming.url,
        headers: { ...rest, ...headers(incoming.headers, incoming.socket.remoteAddress ?? "") },
      },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      },
    );
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The findings about a subject, with their levels. */
async function about(what: string[], url?: string): Promise<string[]> {
  const found = await examine(env, url);
  return found.filter((each) => what.includes(each.about)).map(({ level, says }) => `${level} ${says}`);
}

describe("the doctor, for a running replica", () => {
  it("reports working WebSockets, clocks, memory, and that the server believes a forged header", async () => {
    const what = ["replica", "WebSocket", "clock", "memory", "X-Forwarded-For", "cookie", "files"];
    const found = await about(what, `http://127.0.0.1:${env["PORT"]}`);
    const stored = found.find((line) => line.startsWith(`note ${env["FILES_URL"]} takes`)) ?? "";
    expect(stored).toMatch(/ takes a file and gives it back, in \d+ ms$/);
    expect(found.join("\n")).toMatch(/^note Redis's clock agrees/m);
    expect(found.join("\n")).toMatch(/^note the server's clock agrees/m);
    expect(found.join("\n")).toMatch(/^note Redis: \d+ MiB used/m);
    expect(found.join("\n")).toMatch(/^note WebSockets reach the server/m);
    // TRUST_PROXY is 1, but there is no proxy.
    expect(found.join("\n")).toMatch(/^warn the server believes the address that anybody writes/m);
  });

  it("finds nothing wrong with a replica that only its proxy for HTTPS may reach, though it is asked directly", async () => {
    const port = String(await freePort());
    const own = await ownRedis({ persistent: true });
    onTestFinished(() => own.close());
    const given = {
      ...env,
      REDIS_URL: own.url,
      PORT: port,
      PUBLIC_URL: "https://chat.example.org",
      COOKIE_SECURE: "on",
      TRUST_PROXY: "1",
    };
    const started = await newServer(0, given);
    onTestFinished(() => started.close());
    const replica = await started.addReplica();
    const joe = { username: "Joe", password: "correct horse" };
    const made = await fetch(`${replica.address}/api/users`, {
      method: "POST",
      headers: {
        origin: "https://chat.example.org",
        "x-forwarded-proto": "https",
        "content-type": "application/json",
      },
      body: JSON.stringify(joe),
    });
    expect(made.status).toBe(201);
    await started.redis.set(started.keys.demo, JSON.stringify([joe]));
    const found = await examine(started.env, undefined);
    expect(found.filter(({ level }) => level !== "note")).toEqual([]);
    expect(found.find((each) => each.about === "cookie")?.says).toMatch(/has .*Secure$/);
  });

  it("reports a proxy that drops Upgrade and hides the client's address", async () => {
    const url = await proxy(({ host }) => ({ host }));
    const found = await about(["WebSocket", "X-Forwarded-For", "Host"], url);
    expect(found[0]).toMatch(/^warn no WebSocket reaches the server \(status \d+\)/);
    expect(found[1]).toMatch(/^warn the server takes everybody for its proxy/);
  });

  it("accepts a proxy that replaces X-Forwarded-For", async () => {
    const url = await proxy(({ host }, address) => ({ host, "x-forwarded-for": address }));
    expect(await about(["X-Forwarded-For"], url)).toEqual(["note the server sees where people come from"]);
  });

  it("reports a proxy that changes Host", async () => {
    const url = await proxy(() => ({ host: "app.internal", "x-forwarded-for": "127.0.0.9" }));
    expect((await about(["Host", "WebSocket"], url)).join("\n")).toMatch(
      /^warn the server does not take http/m,
    );
  });

  it("says in words that a proxy answers for a replica that is not ready", async () => {
    const url = await proxy(({ host }) => ({ host }), "/readyz");
    expect(await about(["readiness", "replica"], url)).toEqual([
      `note a replica runs at ${url}`,
      "refuse /readyz is answered 503, and not by the server",
    ]);
  });

  it("passes on what only the replica knows, and says nothing twice", async () => {
    const own = await ownRedis({ persistent: false });
    onTestFinished(() => own.close());
    const started = await newServer(0, { REDIS_URL: own.url, PORT: String(await freePort()) });
    onTestFinished(() => started.close());
    const replica = await started.addReplica();
    (await person(replica)).close();
    const settings = ["maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"];
    await started.redis.flushall();
    await started.redis.config("SET", ...(settings as [string, string]));
    const warnings = () => new Browser(replica).get<{ warnings?: string[] }>("/readyz");
    await until(async () => (await warnings()).body.warnings?.length === 2);
    const found = await examine(started.env, undefined);
    const warned = found.filter(({ about: what }) => what === "maxmemory-policy" || what === "readiness");
    expect(warned).toMatchObject([
      { about: "maxmemory-policy" },
      { level: "warn", says: expect.stringMatching(/^it warns: Redis has lost its data/) as string },
    ]);
  });

  it("tells another program's answer from no answer", async () => {
    const other = createServer((_, response) => response.end("hello"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void other.close());
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    expect(await about(["replica"], url)).toEqual([
      expect.stringMatching(/^refuse what answers .* is no replica/),
    ]);
    expect(await about(["replica"], "http://127.0.0.1:1")).toEqual([
      expect.stringMatching(/^refuse nothing answers/),
    ]);
    expect(await about(["replica"], url.replace("http:", "https:"))).toEqual([
      expect.stringMatching(/^refuse what answers at https:.* does not speak HTTPS \(EPROTO\)/),
    ]);
  });
});

/** A server that takes connections, and does with them what `answer` does. */
async function listener(answer: (socket: Socket) => void): Promise<number> {
  const server = createListener((socket) => answer(socket.on("error", () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

describe("the doctor, where something listens and hangs", () => {
  const hangs = "refuse something listens at http://127.0.0.1:PORT, and does not answer within 5 s: it hangs";

  it.each([
    ["that never answers", () => undefined],
    [
      "that sends a byte from time to time",
      (socket: Socket) => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
        const timer = setInterval(() => socket.write("."), 1_000);
        socket.on("close", () => clearInterval(timer));
      },
    ],
  ])("refuses a replica of this machine %s, and ends", async (_, answer) => {
    const port = String(await listener(answer));
    const found = await examine({ ...env, PORT: port }, undefined);
    const said = found
      .filter((each) => each.about === "replica")
      .map(({ level, says }) => `${level} ${says}`);
    expect(said).toEqual([hangs.replace("PORT", port)]);
  });

  it("notes that nothing listens here yet", async () => {
    const found = await examine({ ...env, PORT: "1" }, undefined);
    expect(found.find((each) => each.about === "replica")).toMatchObject({ level: "note" });
  });
});

describe("the doctor", () => {
  it.each(["0", "1", "2"])(
    "makes no server with TRUST_PROXY=%s log that proxies are wrong",
    async (trust) => {
      const lines: string[] = [];
      const port = String(await freePort());
      const given = { ...env, PORT: port, TRUST_PROXY: trust };
      const logger = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
      const replica = await startServer(readConfig(given), logger);
      try {
        const found = await examine(given, undefined);
        expect(found.map((one) => one.says).join("\n")).toContain("WebSockets reach the server");
        expect(lines.filter((line) => line.includes("X-Forwarded-For"))).toEqual([]);
      } finally {
        await replica.close();
      }
    },
  );
});

describe("the doctor, before a start", () => {
  const levels = async (given: Record<string, string>) =>
    (await examine(given, undefined))
      .filter(({ level }) => level !== "note")
      .map((each) => `${each.level} ${each.about}`);

  it("takes a garbled list of demo people for none", () => {
    for (const stored of [null, "", "rubbish", "null", "{}", '["Joe"]', '[{"username":1,"password":"x"}]'])
      expect(demoPeople(stored), String(stored)).toEqual([]);
    expect(demoPeople('[null,{"username":"Joe","password":"x"}]')).toEqual([
      { username: "Joe", password: "x" },
    ]);
  });

  it("reports refusals and warnings together", async () => {
    const broken = { ...env, COOKIE_SECUR: "on", POLLING: "yes", REDIS_URL: "redis://127.0.0.1:1" };
    expect(await levels(broken)).toEqual(expect.arrayContaining(["warn COOKIE_SECUR", "refuse environment"]));
    const away = { ...env, PORTT: "1", REDIS_URL: "redis://:hunter2@127.0.0.1:1" };
    expect(await levels(away)).toEqual(expect.arrayContaining(["warn PORTT", "refuse Redis"]));
    expect(JSON.stringify(await examine(away, undefined))).not.toContain("hunter2");
  });

  it("refuses a Redis user without a right, and names that instead of what fails for the lack of it", async () => {
    const user = `test-${process.pid}`;
    const { keys, redis } = house;
    await redis.call(
      "ACL",
      "SETUSER",
      user,
      "on",
      ">word",
      "~*",
      "&*",
      "+@all",
      "resetkeys",
      `~${keys.settings}`,
    );
    onTestFinished(async () => void (await redis.call("ACL", "DELUSER", user)));
    const url = (env["REDIS_URL"] ?? "").replace(/:\/\/(?:[^@]*@)?/, `://${user}:word@`);
    const found = await examine({ ...env, REDIS_URL: url }, undefined);
    const refused = found.filter(({ level }) => level === "refuse");
    expect(refused).toMatchObject([{ about: "rights" }]);
    expect(refused[0]?.says).toContain(`~${keys.totalUsers}`);
  });

  it("looks at the files of the data folder if FILES_URL is unset, empty or blank", async () => {
    const { FILES_URL: _, ...rest } = env;
    const dataDir = mkdtempSync(join(tmpdir(), "hubbub doctor "));
    onTestFinished(() => rmSync(dataDir, { recursive: true }));
    for (const given of [{}, { FILES_URL: "" }, { FILES_URL: " " }]) {
      const found = await examine({ ...rest, ...given, DATA_DIR: dataDir }, undefined);
      expect(found.find((each) => each.about === "files")?.says).toContain(`file:${dataDir}/files takes`);
    }
  });

  it.each([
    ["READONLY", "replicaof 127.0.0.1 1"],
    ["OOM", "maxmemory 100kb"],
    ["NOREPLICAS", "min-replicas-to-write 1"],
  ])("refuses a Redis that answers writes with %s, as a start does", async (code, setting) => {
    const own = await ownRedis({ persistent: false, args: [setting] });
    onTestFinished(() => own.close());
    const given = { ...env, REDIS_URL: own.url, PORT: "0" };
    expect(await levels(given)).toContain("refuse writes");
    await expect(startServer(readConfig(given), pino({ level: "silent" }))).rejects.toThrow(
      new RegExp(`^Redis at .* takes no writes \\(${code}\\): `),
    );
  });

  it("accepts only http and https for --url, and lists its options", async () => {
    await expect(main(["--url", "chat.example.org"])).rejects.toThrow(/--url takes an address/);
    expect(await main(["--help"])).toBe(0);
  });

  it("refuses a path in --url, under which nothing works", async () => {
    for (const url of ["http://127.0.0.1:1/chat", "http://127.0.0.1:1/?a", "http://127.0.0.1:1/#a"])
      await expect(main(["--url", url]), url).rejects.toThrow(/--url takes no path/);
  });
});
