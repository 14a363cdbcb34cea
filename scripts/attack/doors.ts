import { Agent } from "node:http";
import type { Attack, Scene } from "./scene.ts";
import { PASSWORD, type Person } from "./stage.ts";
import { ask, codeOf, cookieOf, type Answer, type Caller, type Talker } from "./wire.ts";

/** Other sites, handshakes, sessions, passwords and names: who gets in, and as whom. */

const OWN_PASSWORD = "a password of its own";

/** Makes an account whose stored hash has the cost of production. */
async function signUp({ post, address, left }: Scene, username: string): Promise<Person> {
  const caller = { from: address() };
  const answer = await post(caller, "/api/users", { username, password: OWN_PASSWORD }, { at: left });
  const cookie = cookieOf(answer);
  if (answer.status !== 201 || !cookie)
    throw new Error(`sign-up was answered ${answer.status}: ${answer.body}`);
  return { ...caller, cookie, ...(JSON.parse(answer.body) as { id: string; username: string }) };
}

async function status(talker: Promise<Talker>): Promise<string> {
  return talker.then(
    (open) => {
      open.close();
      return "connected";
    },
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

function isAlive({ get }: Scene, caller: Caller): Promise<boolean> {
  return get(caller, "/api/me").then((answer) => answer.status === 200);
}

/** Log-ins that are written at once, on open connections. */
async function atOnce(port: number, attempts: { from: string; body: unknown }[]): Promise<Answer[]> {
  const agents = new Map<string, Agent>();
  const agentOf = (from: string) => {
    const known = agents.get(from) ?? new Agent({ keepAlive: true, maxSockets: 400 });
    agents.set(from, known);
    return known;
  };
  await Promise.all(attempts.map(({ from }) => ask(port, "/healthz", { from }, { agent: agentOf(from) })));
  const answers = await Promise.all(
    attempts.map(({ from, body }) =>
      ask(port, "/api/login", { from }, { method: "POST", body, agent: agentOf(from), timeoutMs: 60_000 }),
    ),
  );
  for (const agent of agents.values()) agent.destroy();
  return answers;
}

function count(answers: Answer[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const answer of answers) counts[codeOf(answer)] = (counts[codeOf(answer)] ?? 0) + 1;
  return counts;
}

export const DOORS: Attack[] = [
  {
    number: 14,
    title: "handshakes with a foreign, `null` or look-alike Origin, and from another site's page without one",
    answer: "refused before the upgrade; programs, which send neither Origin nor Sec-Fetch-Site, are let in",
    async play({ person, wire, left, must, twin }) {
      const mary = await person();
      const own = `127.0.0.1:${left.port}`;
      for (const origin of [
        "https://evil.example",
        "null",
        `http://${own}.evil.example`,
        `http://evil.example/${own}`,
        `http://${own}@evil.example`,
        "file://",
        "http://127.0.0.1",
        `ws://evil.example:${left.port}`,
      ]) {
        const got = (await wire(mary, left, { origin })).status;
        must(got >= 400, `Origin ${origin}: ${got}`);
      }
      for (const site of ["cross-site", "same-site"]) {
        const got = (await wire(mary, left, { origin: null, headers: { "Sec-Fetch-Site": site } })).status;
        must(got >= 400, `no Origin, ${site}: ${got}`);
      }
      twin((await wire(mary)).status === 101, "the own page");
      twin((await wire(mary, left, { origin: null })).status === 101, "a program");
    },
  },
  {
    number: 14,
    title: "Host and Origin both name a foreign site (DNS rebinding), for requests and handshakes",
    answer: "refused: without `PUBLIC_URL` only loopback names count as the server's own",
    async play({ person, wire, post, address, left, must, twin }) {
      const mary = await person();
      const host = `evil.example:${left.port}`;
      const headers = { host, origin: `http://${host}`, "sec-fetch-site": "same-origin" };
      const body = { username: `rebound${left.port}`, password: OWN_PASSWORD };
      const made = await post({ from: address() }, "/api/users", body, { headers });
      must(made.status === 403, `sign-up: ${made.status} ${made.body}`);
      const upgraded = await wire(mary, left, { host, origin: `http://${host}` });
      must(upgraded.status >= 400, `handshake: ${upgraded.status}`);
      const local = `localhost:${left.port}`;
      twin((await wire(mary, left, { host: local, origin: `http://${local}` })).status === 101, "localhost");
    },
  },
  {
    number: 15,
    title: "handshakes without a cookie, and with a forged, unknown, deleted or cut one",
    answer: "`unauthorized`, and the connection is closed",
    async play({ person, talker, address, admin, keys, must, twin }) {
      const [mary, joe] = [await person(), await person()];
      const sid = decodeURIComponent(joe.cookie).replace(/^.*=s:(.*)\..*$/, "$1");
      const signature = mary.cookie.slice(mary.cookie.lastIndexOf("."));
      const forged = joe.cookie.slice(0, joe.cookie.lastIndexOf(".")) + signature;
      await admin.del(keys.session(sid));
      for (const [name, cookie] of Object.entries({
        none: "",
        empty: "hubbub=",
        forged,
        deleted: joe.cookie,
        cut: mary.cookie.slice(0, -3),
        unsigned: `hubbub=${sid}`,
        strange: "hubbub=s%3A__proto__.constructor",
      })) {
        const got = await status(talker({ from: address(), cookie }));
        must(got === "unauthorized" || got === "closed" || got === "401", `${name}: ${got}`);
      }
      twin((await status(talker(mary))) === "connected", "a session's own cookie");
    },
  },
  {
    number: 15,
    title: "`40` repeated on one connection, without a session and with one",
    answer: "closed at the first refusal; a second CONNECT is refused or ignored",
    async play({ person, wire, talker, address, must, twin, sleep }) {
      const bare = await wire({ from: address() });
      bare.send("40");
      must(await bare.endsWithin(2_000), "the connection is open after a refusal");
      const mary = await person();
      const one = await wire(mary);
      for (let turn = 0; turn < 200; turn += 1) one.send("40");
      await sleep(200);
      const connected = one.packets.filter((packet) => packet.startsWith("40")).length;
      must(connected <= 1, `${connected} Socket.IO connections on one`);
      twin((await status(talker(mary))) === "connected", "one CONNECT");
    },
  },
  {
    number: 16,
    title:
      "log-in, log-out and new rooms from another site: as a form, as text, without Origin but with Sec-Fetch-Site",
    answer: "403 or 400; nothing changes",
    async play(scene) {
      const { person, post, get, must, twin } = scene;
      const mary = await person();
      const rooms = (await get(mary, "/api/rooms/directory")).body;
      const foreign: Record<string, string>[] = [
        { origin: "https://evil.example" },
        { origin: "null" },
        { origin: "https://evil.example", "content-type": "text/plain" },
        { origin: "https://evil.example", "content-type": "application/x-www-form-urlencoded" },
      ];
      for (const headers of foreign)
        for (const path of ["/api/logout", "/api/rooms", "/api/login", "/api/users", "/api/rooms/private"]) {
          const { status: got } = await post(mary, path, { name: "forged" }, { headers });
          must(got === 403 || got === 415, `${path} from ${headers["origin"]}: ${got}`);
        }
      for (const type of [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
      ]) {
        const { status: got } = await post(mary, "/api/rooms", "name=forged", {
          headers: { "content-type": type },
        });
        must(got === 400 || got === 415, `${type}: ${got}`);
      }
      must(await isAlive(scene, mary), "the session was ended");
      must((await get(mary, "/api/rooms/directory")).body === rooms, "a room was made");
      twin((await post(mary, "/api/logout")).status === 204, "the own page logs out");
    },
  },
  {
    number: 17,
    title: "is the session anywhere but in a cookie that scripts and other sites cannot use?",
    answer:
      "`HttpOnly; SameSite=Lax; Path=/`; with `COOKIE_SECURE=on` also `Secure`, named `__Host-`: `npm test -- rest`",
    async play({ person, post, get, must, twin }) {
      const mary = await person();
      const answer = await post({ from: mary.from }, "/api/login", {
        username: mary.username,
        password: PASSWORD,
      });
      twin(answer.status === 200, `log-in: ${answer.status}`);
      const [cookie = ""] = answer.headers["set-cookie"] ?? [];
      for (const flag of ["HttpOnly", "SameSite=Lax", "Path=/"])
        must(cookie.includes(flag), `${cookie} lacks ${flag}`);
      must(!/domain=/i.test(cookie), cookie);
      const sid = decodeURIComponent(cookie).replace(/^.*?=s:([^.;]*).*$/, "$1");
      must(!answer.body.includes(sid), "the body reveals the session");
      must(!(await get(mary, "/api/me")).body.includes(sid), "/api/me reveals the session");
      must(
        (await get({ from: mary.from }, `/api/me?hubbub=${sid}`)).status === 401,
        "a session id in the address was accepted",
      );
    },
  },
  {
    number: 18,
    title: "log-in with a planted session, one's own or another's",
    answer: "a new session; the old one ends, and its connections are closed",
    async play(scene) {
      const { person, post, talker, right, must, twin } = scene;
      const mary = await person();
      const old = await talker(mary, right);
      const answer = await post(mary, "/api/login", { username: mary.username, password: PASSWORD });
      const cookie = cookieOf(answer);
      must(cookie !== undefined && cookie !== mary.cookie, "the session is the same");
      must(!(await isAlive(scene, mary)), "the old session still works");
      must(await old.wire.endsWithin(2_000), "the old session's connection is open");
      twin(await isAlive(scene, { from: mary.from, cookie: cookie ?? "" }), "the new session");
      const planted = await post({ from: mary.from, cookie: "hubbub=s%3Aplanted.planted" }, "/api/login", {
        username: mary.username,
        password: PASSWORD,
      });
      must(!(cookieOf(planted) ?? "planted").includes("planted"), "an invented session was accepted");
    },
  },
  {
    number: 19,
    title: "after log-out: the other replica's connection, the cookie again, what the browser keeps",
    answer: "closed within a second, 401, `Clear-Site-Data`",
    async play(scene) {
      const { person, post, talker, say, right, must, twin } = scene;
      const mary = await person();
      const other = await person();
      const [window, bystander] = [await talker(mary, right), await talker(other, right)];
      const answer = await post(mary, "/api/logout");
      must(answer.status === 204, `log-out: ${answer.status}`);
      must(await window.wire.endsWithin(1_000), "the connection is open after a second");
      must(!(await isAlive(scene, mary)), "the cookie still works");
      must((await status(talker(mary))) !== "connected", "a handshake with the old cookie was accepted");
      must(answer.headers["clear-site-data"] !== undefined, "no Clear-Site-Data");
      twin((await say(bystander, "0", "still here")).ok, "others stay");
    },
  },
  {
    number: 20,
    title: "log-out during 60 requests that prolong the session",
    answer: "401 from then on: a session is written only at log-in",
    async play(scene) {
      const { person, post, get, right, must, twin, sleep } = scene;
      const [mary, joe] = [await person(), await person()];
      const requests = Array.from({ length: 60 }, (_, index) =>
        index % 2 === 0
          ? get(mary, "/api/rooms", { at: right })
          : post(mary, "/api/rooms/private", { userId: joe.id }),
      );
      const answer = await post(mary, "/api/logout");
      await Promise.all(requests);
      await sleep(100);
      must(answer.status === 204, `log-out: ${answer.status}`);
      must(!(await isAlive(scene, mary)), "the session came back");
      twin(await isAlive(scene, joe), "another's session");
    },
  },
  {
    number: 21,
    title: "what a change of password leaves open",
    answer: "it ends all other sessions and their connections",
    test: "npm test -- doors/accounts",
  },
  {
    number: 22,
    title: "the session's key, and the account's keys, are deleted in Redis while connections are idle",
    answer: "events are refused at once or the connection is closed within 35 s; requests get 401",
    waits: true,
    long: true,
    async play(scene) {
      const { person, talker, say, admin, keys, right, must, twin } = scene;
      const [mary, joe, eve] = [await person(), await person(), await person()];
      const sid = decodeURIComponent(mary.cookie).replace(/^.*=s:(.*)\..*$/, "$1");
      const [hers, his, others] = [
        await talker(mary, right),
        await talker(joe, right),
        await talker(eve, right),
      ];
      await admin.del(keys.session(sid));
      await admin.del(keys.user(joe.id), keys.username(joe.username), keys.userRooms(joe.id));
      must(!(await isAlive(scene, mary)), "a request without its session was accepted");
      must(!(await isAlive(scene, joe)), "a request without its account was accepted");
      const [first, second] = await Promise.all([hers.wire.endsWithin(36_000), his.wire.endsWithin(36_000)]);
      must(first, "the connection without its session is open");
      must(second, "the connection without its account is open");
      twin((await say(others, "0", "still here")).ok, "others stay");
    },
  },
  {
    number: 23,
    title: "passwords: 72 bytes and more, 18 emoji and a letter, NUL inside, 1 MB",
    answer: "over 72 bytes or with NUL: `invalid`; over 32 KB: `too_large`",
    async play({ post, address, person, must, twin }) {
      const mary = await person();
      const sign = async (username: string, password: string) =>
        codeOf(await post({ from: address() }, "/api/users", { username, password }));
      for (const password of [
        "x".repeat(73),
        "x".repeat(200),
        `${"🙂".repeat(18)}x`,
        "correct\0horse battery",
        "1234567",
      ])
        must(
          (await sign("wontwork", password)) === "invalid",
          `a password of ${Buffer.byteLength(password)} bytes was accepted`,
        );
      must((await sign("wontwork", "x".repeat(1_000_000))) === "too_large", "1 MB");
      const wrong = { username: mary.username, password: `${PASSWORD}${"x".repeat(80)}` };
      must(
        (await post({ from: address() }, "/api/login", wrong)).status !== 200,
        "a longer password logs in",
      );
      const long = `${"x".repeat(71)}y`;
      twin((await sign("longpassword", long)) === 201, "72 bytes");
      const almost = await post({ from: address() }, "/api/login", {
        username: "longpassword",
        password: `${"x".repeat(71)}z`,
      });
      must(almost.status === 401, `the 72nd byte is ignored: ${almost.status}`);
    },
  },
  {
    number: 24,
    title: "`password`, `12345678`, eight blanks, the own name as password",
    answer: "`invalid`; there are no rules about digits and symbols",
    async play({ post, address, must, twin }) {
      const sign = async (username: string, password: string) =>
        codeOf(await post({ from: address() }, "/api/users", { username, password }));
      for (const [username, password] of [
        ["somebody1", "password"],
        ["somebody2", "12345678"],
        ["somebody3", "        "],
        ["somebody4x", "somebody4x"],
        ["somebody5x", "SOMEBODY5X"],
        ["somebody6", "PassWord"],
      ] as const)
        must((await sign(username, password)) === "invalid", `"${password}" for ${username}`);
      twin((await sign("somebody7", "all lower case, no digits")) === 201, "a long one in lower case");
    },
  },
  {
    number: 25,
    title: "a wrong password and an unknown name: body, status, time",
    answer: "equal; the shortest times differ by less than a sixth",
    long: true,
    async play(scene) {
      const { post, address, must, twin } = scene;
      let owner = await signUp(scene, "timed-owner");
      // The shortest of each: other work of the machine only adds time, now and then to all of several turns.
      const shortest = { wrong: Infinity, unknown: Infinity };
      const isSame = () => Math.abs(shortest.wrong - shortest.unknown) < Math.max(5, shortest.wrong / 6);
      const bodies = new Set<string>();
      for (let turn = 1; turn <= 10 || (turn <= 50 && !isSame()); turn += 1) {
        // After ten wrong passwords a name is limited.
        if (turn % 10 === 0) owner = await signUp(scene, `timed-owner${turn}`);
        for (const kind of ["wrong", "unknown"] as const) {
          const username = kind === "wrong" ? owner.username : `nobody${turn}`;
          const answer = await post({ from: address() }, "/api/login", {
            username,
            password: "not this one, no",
          });
          shortest[kind] = Math.min(shortest[kind], answer.ms);
          bodies.add(`${answer.status} ${answer.body}`);
        }
      }
      must(bodies.size === 1, [...bodies].join(" / "));
      must(isSame(), `${shortest.wrong.toFixed(1)} and ${shortest.unknown.toFixed(1)} ms`);
      const right = await post({ from: owner.from }, "/api/login", {
        username: owner.username,
        password: OWN_PASSWORD,
      });
      twin(right.status === 200, "the right password");
    },
  },
  {
    number: 26,
    title: "sign-ups under taken names, one after the other, to learn which exist",
    answer: "`taken` (names are public), then `rate_limited` for the address",
    async play({ person, post, address, must, twin }) {
      const mary = await person();
      const from = address();
      const answers = new Set<string | number>();
      for (let turn = 0; turn < 20 && !answers.has("rate_limited"); turn += 1) {
        const some = await Promise.all(
          Array.from({ length: 10 }, () =>
            post({ from }, "/api/users", { username: mary.username, password: OWN_PASSWORD }),
          ),
        );
        for (const answer of some) answers.add(codeOf(answer));
      }
      must(answers.has("rate_limited"), `200 times: ${[...answers].join(", ")}`);
      const elsewhere = await post({ from: address() }, "/api/users", {
        username: "from-elsewhere",
        password: OWN_PASSWORD,
      });
      twin(elsewhere.status === 201, `another address: ${elsewhere.status}`);
    },
  },
  {
    number: 27,
    title: "guessing: 20 passwords for one name; one password for 150 names, from one address",
    answer:
      "`rate_limited` with `Retry-After` at the 11th and the 31st; an owner is not locked out at an address where they logged in before",
    async play(scene) {
      const { person, post, address, left, right, must, twin } = scene;
      const mary = await person();
      const from = address();
      const guesses = [];
      for (let turn = 0; turn < 20; turn += 1)
        guesses.push(
          await post(
            { from },
            "/api/login",
            { username: mary.username, password: `guess ${turn} of many` },
            { at: turn % 2 ? left : right },
          ),
        );
      const let10 = guesses.filter((answer) => answer.status === 401).length;
      must(let10 <= 10, `${let10} guesses were tried`);
      const refused = guesses.at(-1);
      must(
        refused?.status === 429 && Number(refused.headers["retry-after"]) > 0,
        `the 20th: ${refused?.status}`,
      );
      const allowed = await post({ from }, "/api/login", { username: mary.username, password: PASSWORD });
      must(allowed.status === 429, "the right password is still tried");
      const owner = await post({ from: mary.from }, "/api/login", {
        username: mary.username,
        password: PASSWORD,
      });
      twin(owner.status === 200, `the owner from home: ${owner.status}`);
      const spray = await atOnce(
        left.port,
        Array.from({ length: 150 }, (_, index) => ({
          from,
          body: { username: `spray${index}`, password: "spring2026!" },
        })),
      );
      const counts = count(spray);
      must((counts["unauthorized"] ?? 0) <= 30 && (counts["rate_limited"] ?? 0) > 0, JSON.stringify(counts));
    },
  },
  {
    number: 27,
    title: "200 log-ins for one name at once, the 151st with the right password",
    answer: "attempts are counted before the hash: at most ten are tried, the right one not among them",
    async play(scene) {
      const { address, left, post, must, twin } = scene;
      const owner = await signUp(scene, `guessed${left.port}`);
      const from = address();
      const answers = await atOnce(
        left.port,
        Array.from({ length: 200 }, (_, index) => ({
          from,
          body: {
            username: owner.username,
            password: index === 150 ? OWN_PASSWORD : `guess ${index} of many`,
          },
        })),
      );
      const counts = count(answers);
      must(counts[200] === undefined, `the right password was accepted: ${JSON.stringify(counts)}`);
      must((counts["unauthorized"] ?? 0) <= 10, JSON.stringify(counts));
      const elsewhere = await post({ from: owner.from }, "/api/login", {
        username: owner.username,
        password: OWN_PASSWORD,
      });
      twin(elsewhere.status === 200, `the owner from home: ${elsewhere.status}`);
    },
  },
  {
    number: 27,
    title: "210 log-ins at once with one account's right password, from one address",
    answer: "refused before hashing; others log in within 2 s; a user's sessions are limited, the oldest end",
    async play(scene) {
      const { person, post, address, left, admin, keys, must, twin } = scene;
      const owner = await signUp(scene, `flooder${left.port}`);
      const from = address();
      const mary = await person();
      const flood = atOnce(
        left.port,
        Array.from({ length: 210 }, () => ({
          from,
          body: { username: owner.username, password: OWN_PASSWORD },
        })),
      );
      await scene.sleep(300);
      const other = await post(
        { from: address() },
        "/api/login",
        { username: mary.username, password: PASSWORD },
        { timeoutMs: 30_000 },
      );
      twin(
        other.status === 200 && other.ms < 2_000,
        `another's log-in: ${other.status} in ${other.ms.toFixed(0)} ms`,
      );
      const counts = count(await flood);
      must(
        (counts["rate_limited"] ?? 0) + (counts["unavailable"] ?? 0) > 100,
        `all were served: ${JSON.stringify(counts)}`,
      );
      const stored = await admin.keys(`${keys.sessionPrefix}*`);
      const values = stored.length > 0 ? await admin.mget(stored) : [];
      const own = values.filter((value) => value?.includes(`"${owner.username}"`)).length;
      must(own <= 100, `${own} sessions of one user`);
    },
  },
  {
    number: 28,
    title:
      "ways around limits: X-Forwarded-For, X-Real-IP, Forwarded, the name in other cases, the other replica",
    answer: "the limit holds; an IPv6 network of /64 counts as one: `npm test -- rest`",
    async play({ person, post, address, left, right, must, twin }) {
      const mary = await person();
      const from = address();
      let heard = 0;
      for (let turn = 0; turn < 16; turn += 1) {
        const other = `10.0.${turn}.1`;
        const headers = {
          "x-forwarded-for": other,
          "x-real-ip": other,
          forwarded: `for=${other}`,
          "cf-connecting-ip": other,
          "true-client-ip": other,
        };
        const username = turn % 2 ? mary.username.toUpperCase() : mary.username;
        const answer = await post(
          { from },
          "/api/login",
          { username, password: `guess ${turn} of many` },
          { headers, at: turn % 3 ? left : right },
        );
        if (answer.status === 401) heard += 1;
      }
      must(heard <= 10, `${heard} guesses were tried`);
      const owner = await post({ from: mary.from }, "/api/login", {
        username: mary.username,
        password: PASSWORD,
      });
      twin(owner.status === 200, `the owner from home: ${owner.status}`);
    },
  },
  {
    number: 29,
    title: "names: other cases, full width, look-alikes, RLO, zero width, blanks, 10 KB, `admin`, `system`",
    answer: "`taken` or `invalid`; `__proto__` and `constructor` are names like any other",
    async play({ person, post, get, address, must, twin }) {
      const mary = await person();
      const sign = async (username: string) =>
        codeOf(await post({ from: address() }, "/api/users", { username, password: OWN_PASSWORD }));
      must((await sign(mary.username.toUpperCase())) === "taken", "another case of a name");
      for (const username of [
        "ａｄｍｉｎ１",
        "pаblo",
        "abc\u202edef",
        "zero\u200bwidth",
        "two words",
        " lead",
        "x".repeat(10_240),
        "ab",
        "",
        "a/b",
        "a\0b",
        "admin",
        "System",
        "a\r\nb",
      ])
        must((await sign(username)) !== 201, `the username ${JSON.stringify(username.slice(0, 20))}`);
      for (const name of [
        "General",
        "GENERAL",
        "Generаl",
        "Ｇｅｎｅｒａｌ",
        "Gene\u200bral",
        "",
        "   ",
        "x".repeat(65),
      ]) {
        const { status: got } = await post(mary, "/api/rooms", { name });
        must([400, 409, 413].includes(got), `the room ${JSON.stringify(name.slice(0, 20))}: ${got}`);
      }
      for (const username of ["constructor", "__proto__"]) {
        const got = await sign(username);
        must(got === 201 || got === "invalid", `${username}: ${got}`);
      }
      twin((await sign("Un.usual_name-7")) === 201, "dots, underscores and hyphens");
      must((await get(mary, "/api/users")).status === 200, "the list of users");
    },
  },
  {
    number: 30,
    title: "50 sign-ups of one name at once, on both replicas, and 20 rooms of one name",
    answer: "one 201; the rest `taken`, or refused for now",
    async play({ person, post, address, left, right, must, twin }) {
      const username = `wanted${left.port}`;
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          post(
            { from: address() },
            "/api/users",
            { username: index % 3 ? username : username.toUpperCase(), password: OWN_PASSWORD },
            { at: index % 2 ? left : right, timeoutMs: 60_000 },
          ),
        ),
      );
      const counts = count(answers);
      twin(counts[201] === 1, `one gets the name: ${JSON.stringify(counts)}`);
      must(
        Object.keys(counts).every((code) => ["201", "taken", "unavailable", "rate_limited"].includes(code)),
        JSON.stringify(counts),
      );
      const makers = await Promise.all(Array.from({ length: 4 }, () => person()));
      const rooms = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          post(
            makers[index % 4] ?? { from: address() },
            "/api/rooms",
            { name: `wanted ${left.port}` },
            { at: index % 2 ? left : right },
          ),
        ),
      );
      must(count(rooms)[201] === 1, JSON.stringify(count(rooms)));
    },
  },
];
