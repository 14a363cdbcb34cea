import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { startChild } from "../child.ts";
import { root } from "../prepare.mjs";
import { outcome, type Attack } from "./scene.ts";
import { BUNDLE } from "./stage.ts";
import { ask } from "./wire.ts";

/** Headers, errors, Redis, secrets, logs and what a proxy exposes. */

const POLICY = ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"];

export const HOUSE: Attack[] = [
  {
    number: 36,
    title: "headers of the page, of files, of the API, of errors",
    answer:
      "a policy without inline code, `nosniff`, no framing, `no-store` for personal data, no `X-Powered-By`",
    async play({ person, get, must, twin }) {
      const mary = await person();
      for (const path of [
        "/",
        "/favicon.svg",
        "/api/me",
        "/api/rooms",
        "/api/rooms/0/messages",
        "/nowhere",
        "/api/nowhere",
      ]) {
        const { headers } = await get(mary, path);
        const policy = String(headers["content-security-policy"]);
        for (const rule of POLICY) must(policy.includes(rule), `${path} lacks ${rule}: ${policy}`);
        must(!policy.includes("unsafe"), `${path}: ${policy}`);
        must(headers["x-content-type-options"] === "nosniff", `${path} lacks nosniff`);
        must(headers["x-powered-by"] === undefined, `${path} has X-Powered-By`);
        must(headers["cross-origin-opener-policy"] === "same-origin", `${path} lacks COOP`);
        if (path.startsWith("/api")) must(headers["cache-control"] === "no-store", `${path} may be cached`);
      }
      twin((await get(mary, "/api/me")).status === 200, "the API answers");
    },
  },
  {
    number: 37,
    title: "bad JSON, unknown routes, wrong types: what do errors tell?",
    answer: "a code of the closed list; no stack, path, key or word of Redis",
    async play({ person, get, post, talker, must, twin }) {
      const mary = await person();
      const answers = [
        await post(mary, "/api/rooms", "{"),
        await post(mary, "/api/rooms", "null"),
        await post(mary, "/api/rooms", "[]"),
        await post(mary, "/api/login", '{"username":1}'),
        await post(mary, "/api/rooms", "x", { headers: { "content-encoding": "gzip" } }),
        await post(mary, "/api/rooms", "x", {
          headers: { "content-type": "application/json; charset=utf-7" },
        }),
        await get(mary, "/api/nowhere"),
        await get(mary, "/api/rooms/%ff/messages"),
        await get(mary, "/%"),
        await get(mary, "/..%2f..%2fpackage.json"),
      ];
      for (const { status, body } of answers) {
        must(status >= 400 && status < 500, `${status} ${body.slice(0, 100)}`);
        must(!/\bat \/|node_modules|node:|ReplyError|ECONN|WRONGTYPE|Redis/.test(body), body.slice(0, 300));
      }
      twin(outcome(await (await talker(mary)).emit("sync", { rooms: [] })) === "ok", "a well-formed request");
    },
  },
  {
    number: 37,
    title: "Redis is stopped for 4 s: requests, messages, log-ins, `/readyz`",
    answer:
      "`unavailable` within 3 s, `/readyz` 503, connections stay open; everything works again within seconds",
    alone: true,
    async play({ person, talker, say, get, redis, left, must, twin, becomes, sleep }) {
      const mary = await person();
      const one = await talker(mary);
      process.kill(redis.pid, "SIGSTOP");
      try {
        const began = performance.now();
        const [reply, answer] = await Promise.all([say(one, "0", "into the void"), get(mary, "/api/rooms")]);
        must(outcome(reply) === "unavailable", `a message: ${outcome(reply)}`);
        must(
          answer.status === 503 && !/Redis|ECONN|timed/i.test(answer.body),
          `a request: ${answer.status} ${answer.body}`,
        );
        must(performance.now() - began < 3_500, `after ${performance.now() - began} ms`);
        const ready = await left.ready();
        must(ready === 503, `/readyz: ${ready}`);
        await sleep(500);
      } finally {
        process.kill(redis.pid, "SIGCONT");
      }
      must(!one.wire.isClosed, "the connection was closed");
      twin(
        await becomes(async () => outcome(await say(one, "0", "and back")) === "ok", 10_000),
        "a message is stored again",
      );
      must(await becomes(async () => (await left.ready()) === 200, 10_000), "not ready after 10 s");
    },
  },
  {
    number: 41,
    title: "addresses that the server would fetch",
    answer: "",
    missing: "a replica connects only to Redis",
  },
  {
    number: 43,
    title: "Redis as the app's user: `FLUSHALL`, `KEYS`, `CONFIG`, foreign keys also inside a script",
    answer: "NOPERM",
    test: "npm test -- docs",
  },
  {
    number: 44,
    title: "`keyboard cat`, short and empty secrets; secrets in the page's files",
    answer: "the replica does not start; without a secret it makes one and keeps it",
    waits: true,
    async play({ get, person, redis, must, twin }) {
      const child = startChild({
        command: process.execPath,
        args: [join(BUNDLE, "main.js")],
        env: {
          PATH: process.env["PATH"],
          REDIS_URL: redis.url,
          PORT: "0",
          SESSION_SECRET: "keyboard cat",
          CLIENT_DIR: "off",
          NODE_ENV: "production",
        },
      });
      const code = await Promise.race([child.ended, new Promise((resolve) => setTimeout(resolve, 30_000))]);
      await child.stop(1_000);
      must(code === 69, `the replica ended with ${String(code)}`);
      must(child.lastLines.join("").includes("SESSION_SECRET"), child.lastLines.join(" "));
      const client = join(root, "client/dist/assets");
      const files = readdirSync(client).filter((name) => name.endsWith(".js"));
      const text = files.map((name) => readFileSync(join(client, name), "utf8")).join("");
      must(
        files.length > 0 && !/keyboard cat|SESSION_SECRET|REDIS_URL|METRICS_TOKEN/.test(text),
        "the page's files have secrets",
      );
      twin((await get(await person(), "/api/me")).status === 200, "replicas without a set secret share one");
    },
  },
  {
    number: 45,
    title:
      "`/metrics` directly, through a proxy that sends only `Via`, in other spellings; `.git`, `.env`, source maps",
    answer: "404: metrics need their token or their own port",
    async play({ get, person, left, address, must, twin }) {
      const outside = { from: address() };
      const proxied: Record<string, string>[] = [
        {},
        { via: "1.1 proxy" },
        { "x-forwarded-for": "127.0.0.1" },
        { forwarded: "for=127.0.0.1" },
        { authorization: "Bearer wrong" },
      ];
      for (const path of [
        "/metrics",
        "/metrics/",
        "//metrics",
        "/METRICS",
        "/metrics?x=1",
        "/api/metrics",
        "/%6detrics",
        "/metrics%2f",
        "/./metrics",
      ])
        for (const headers of proxied) {
          const { status, body } = await ask(left.port, path, outside, { headers });
          must(status >= 400 && !body.includes("hubbub_"), `${path} ${JSON.stringify(headers)}: ${status}`);
        }
      for (const path of [
        "/.git/config",
        "/.env",
        "/package.json",
        "/server/src/main.ts",
        "/assets/",
        "/assets/index.js.map",
        "/debug",
        "/admin",
        "/.well-known/../.env",
      ]) {
        const { status } = await get(outside, path);
        must(status === 404 || status === 400, `${path}: ${status}`);
      }
      const mary = await person();
      twin((await get(mary, "/readyz")).status === 200, "/readyz without a proxy");
      twin((await left.metric("hubbub_connections")) > 0, "/metrics with its token");
    },
  },
  {
    number: 46,
    title: "CRLF, ANSI and `%s` in names and messages; passwords, sessions and texts in the log",
    answer: "one line of JSON for each entry, without any password, session or text",
    async play(scene) {
      const { person, talker, say, post, get, address, replicas, must, twin } = scene;
      const mary = await person();
      const marker = "zzmarkerzz";
      const one = await talker(mary);
      await say(one, "0", `${marker} \r\n{"level":60}\u001b[31m %s %o`);
      await post({ from: address() }, "/api/login", {
        username: `x\r\n${marker}`,
        password: `${marker}password`,
      });
      await post({ from: address() }, "/api/login", {
        username: mary.username,
        password: `${marker}password`,
      });
      await post({ from: address() }, "/api/users", { username: marker, password: `${marker}password` });
      await post(mary, "/api/rooms", { name: `${marker}\r\nfake` });
      await get(mary, `/api/${marker}%0d%0afake`);
      await one.emit(`${marker}event`, {});
      const sid = decodeURIComponent(mary.cookie).replace(/^.*?=s:([^.]*)\..*$/, "$1");
      const lines = replicas
        .flatMap(({ log }) => log)
        .filter((line) => !line.startsWith("Hubbub listens on"));
      const broken = lines.filter((line) => {
        try {
          JSON.parse(line);
          return false;
        } catch {
          return true;
        }
      });
      must(broken.length === 0, `not JSON: ${broken[0]}`);
      const telling = lines.filter(
        (line) => line.includes(`${marker}password`) || line.includes(sid) || line.includes(`${marker} `),
      );
      must(telling.length === 0, `the log reveals: ${telling[0]}`);
      twin(outcome(await say(one, "0", "hello")) === "ok", "people can still talk");
    },
  },
  {
    number: 47,
    title: "known faults in packages, another package than the locked one",
    answer: "locked with digests, no install scripts; audited before a deploy",
    test: "npm test -- lock",
  },
];
