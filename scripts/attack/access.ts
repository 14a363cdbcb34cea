import type { Message, SyncedRoom } from "../../server/src/protocol.ts";
import { outcome, type Attack } from "./scene.ts";
import { codeOf } from "./wire.ts";

/** Other people's rooms, forged fields, and how written text is shown. */

const MARKUP = [
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  "<xmp><script>alert(1)</script></xmp>",
  "<a href=javascript:alert(1)>x</a>",
  "[x](javascript:alert(1))",
  "javascript&#0000099:alert(1)",
  'https://a.example/"onmouseover=alert(1)',
  "\u202egpj.exe \u200b",
];
const AS_TYPED = ["a<b && c>d", "Tom & Jerry", "🙂 é 𝒳", "&lt;b&gt;", " two  blanks "];

export const ACCESS: Attack[] = [
  {
    number: 1,
    title: "`GET` the messages and the transcript of others' private and named rooms",
    answer: "404, with the same body as for a room that does not exist",
    async play({ person, get, room, talker, say, must, twin }) {
      const [mary, joe, eve] = [await person(), await person(), await person()];
      const own = await room(mary, joe);
      const pair = `${mary.id}:${joe.id}`;
      await say(await talker(mary), pair, "between us");
      const unknown = await get(eve, "/api/rooms/99999/messages");
      must(unknown.status === 404, `an unknown room is answered ${unknown.status}`);
      for (const id of [own, pair])
        for (const what of ["messages", "transcript"]) {
          const answer = await get(eve, `/api/rooms/${id}/${what}`);
          must(
            answer.status === 404 && answer.body === unknown.body,
            `${what} of ${id}: ${answer.status} ${answer.body}`,
          );
        }
      const allowed = await get(joe, `/api/rooms/${pair}/messages`);
      twin(allowed.body.includes("between us"), "the other user reads the private room");
    },
  },
  {
    number: 2,
    title: "`room.join` and `sync` of others' private and named rooms",
    answer: "`not_found`, or `notFound` for the room; nothing said there reaches them",
    async play({ person, room, talker, say, right, must, twin, becomes }) {
      const [mary, joe, eve] = [await person(), await person(), await person()];
      const own = await room(mary, joe);
      const pair = `${mary.id}:${joe.id}`;
      const [hers, his, foreign] = [await talker(mary), await talker(joe, right), await talker(eve)];
      const heard = { joe: "", eve: "" };
      his.onEvent = (packet) => (heard.joe += packet);
      foreign.onEvent = (packet) => (heard.eve += packet);
      const joined = await foreign.emit("room.join", { roomId: pair });
      must(outcome(joined) === "not_found", `room.join of a private room: ${outcome(joined)}`);
      const synced = await foreign.emit<{ rooms: SyncedRoom[] }>("sync", {
        rooms: [pair, own].map((roomId) => ({ roomId, seq: 0, date: 0 })),
      });
      must(
        synced.ok && synced.value.rooms.every(({ notFound, messages }) => notFound && messages.length === 0),
        `sync: ${JSON.stringify(synced)}`,
      );
      await say(hers, pair, "secret of two");
      await say(hers, own, "secret of some");
      await say(hers, "0", "to everybody");
      twin(
        await becomes(() => ["two", "some", "everybody"].every((word) => heard.joe.includes(word)), 5_000),
        "a member hears all three",
      );
      must(await becomes(() => heard.eve.includes("to everybody"), 5_000), "General did not arrive");
      must(!heard.eve.includes("secret"), `a stranger heard ${heard.eve}`);
    },
  },
  {
    number: 3,
    title: "`message` and `room.read` to others' rooms",
    answer: "`not_found`; nothing is stored",
    async play({ person, room, talker, say, admin, keys, must, twin }) {
      const [mary, joe, eve] = [await person(), await person(), await person()];
      const own = await room(mary, joe);
      const pair = `${mary.id}:${joe.id}`;
      const [hers, foreign] = [await talker(mary), await talker(eve)];
      for (const roomId of [own, pair, "99999"]) {
        const before = await admin.zcard(keys.room(roomId));
        must(outcome(await say(foreign, roomId, "let me in")) === "not_found", `a message into ${roomId}`);
        const read = await foreign.emit("room.read", { roomId, seq: 1 });
        must(outcome(read) === "not_found", `room.read of ${roomId}: ${outcome(read)}`);
        must((await admin.zcard(keys.room(roomId))) === before, `${roomId} has a new message`);
      }
      for (const roomId of [own, pair])
        twin(outcome(await say(hers, roomId, "mine")) === "ok", `a member writes into ${roomId}`);
    },
  },
  {
    number: 4,
    title: "`message` with `from`, `date`, `seq`, `hash`, `id`, `username` of the sender's choice",
    answer: "the server stores its own values; unknown fields are dropped",
    async play({ person, talker, must, twin }) {
      const [mary, joe] = [await person(), await person()];
      const one = await talker(mary);
      const reply = await one.emit<Message>("message", {
        roomId: "0",
        message: "forged",
        nonce: "forged",
        from: joe.id,
        date: 1,
        seq: 1_000_000,
        hash: "000000000000",
        id: "1",
        username: "root",
        __proto__: { admin: true },
      });
      twin(reply.ok, "it is stored");
      if (!reply.ok) return;
      const { from, date, seq, hash } = reply.value;
      must(
        from === mary.id && date > 1e12 && seq < 1_000_000 && hash !== "000000000000",
        JSON.stringify(reply.value),
      );
      must(!("username" in reply.value) && !("id" in reply.value), JSON.stringify(reply.value));
    },
  },
  {
    number: 3,
    title: "an invite for one person, used by thirty at once; a member who is muted and banned at once",
    answer: "one gets in; who is banned is out, and nothing of theirs is stored",
    async play({ person, post, room, talker, say, right, admin, keys, must, twin }) {
      const mary = await person();
      const own = await room(mary);
      const others = await Promise.all(Array.from({ length: 30 }, () => person()));
      const made = await post(mary, `/api/rooms/${own}/invites`, { uses: 1 });
      const { code } = JSON.parse(made.body) as { code: string };
      const used = await Promise.all(others.map((one) => post(one, `/api/invites/${code}`)));
      const inside = others.filter((_, index) => used[index]?.status === 200);
      must(
        used.every(({ status }) => status === 200 || status === 404),
        used.map((one) => one.status).join(" "),
      );
      twin(inside.length === 1, `${inside.length} of 30 got in by an invite for one`);
      const [joe] = inside;
      if (joe === undefined) return;
      const his = await talker(joe, right);
      const until = Date.now() + 1;
      const calls = [
        post(mary, `/api/rooms/${own}/members/${joe.id}`, { mutedUntil: until }, { method: "PUT" }),
        post(mary, `/api/rooms/${own}/bans/${joe.id}`, {}, { method: "PUT", at: right }),
        post(joe, `/api/invites/${code}`),
      ];
      await Promise.all(calls);
      must((await admin.hexists(keys.records(own), joe.id)) === 0, "who is banned is a member");
      const said = outcome(await say(his, own, "still here"));
      must(said === "not_found", `who is banned says: ${said}`);
    },
  },
  {
    number: 5,
    title:
      "room ids: `1:name`, `0:1`, `../1`, `1:2:3`, `2:1`, `{x}`, `__proto__`, 10 KB, numbers, lists, objects",
    answer: "`invalid`; no key is touched",
    async play({ person, talker, get, admin, must, twin }) {
      const mary = await person();
      const one = await talker(mary);
      const before = new Set(await admin.keys("*"));
      const texts = [
        "1:name",
        "0:name",
        "0:1",
        "../1",
        "1:2:3",
        "2:1",
        "1:1",
        "{x}",
        "__proto__",
        "",
        " 0",
        "0 ",
        "00",
        "-1",
        "1e3",
        "٣",
        "0\n",
        "x".repeat(10_000),
      ];
      for (const roomId of [...texts, 1, 1.5, null, true, ["0"], { id: "0" }])
        for (const event of ["message", "room.join", "room.leave", "room.read", "sync"]) {
          const body =
            event === "sync"
              ? { rooms: [{ roomId, seq: 0, date: 0 }] }
              : { roomId, message: "x", nonce: "n", seq: 0 };
          const got = outcome(await one.emit(event, body));
          must(got === "invalid", `${event} of ${JSON.stringify(roomId).slice(0, 30)}: ${got}`);
        }
      for (const text of texts) {
        const { status } = await get(mary, `/api/rooms/${encodeURIComponent(text)}/messages`);
        must(status === 400 || status === 404, `GET of ${text.slice(0, 20)}: ${status}`);
      }
      const after = (await admin.keys("*room*")).filter(
        (key) => !before.has(key) && !/^user:|:nonce:[^:]*:bystander/.test(key),
      );
      must(after.length === 0, `new keys: ${after.join(" ")}`);
      twin(outcome(await one.emit("room.read", { roomId: "0", seq: 0 })) === "ok", "General is still there");
    },
  },
  {
    number: 6,
    title: "a private room with oneself, with nobody, with an id that nobody has",
    answer: "`invalid` or `not_found`; no key is created",
    async play({ person, post, talker, say, admin, must, twin }) {
      const [mary, joe] = [await person(), await person()];
      const rooms = async () => (await admin.keys("*room*")).filter((key) => !key.includes(":nonce:")).length;
      const before = await rooms();
      for (const userId of [mary.id, "99999999", "0", "-1", "x", "", "__proto__"]) {
        const { status, body } = await post(mary, "/api/rooms/private", { userId });
        must(status === 400 || status === 404, `with ${userId}: ${status} ${body}`);
      }
      const got = outcome(await say(await talker(mary), `${mary.id}:99999999`, "anybody there?"));
      must(got === "not_found" || got === "invalid", `a message to nobody: ${got}`);
      must((await rooms()) === before, "a key was created");
      const { status } = await post(mary, "/api/rooms/private", { userId: joe.id });
      twin(status === 201 || status === 200, `with somebody: ${status}`);
    },
  },
  {
    number: 7,
    title: "somebody who left a room sends, reads, marks, syncs with an old cursor, listens",
    answer: "`not_found` each time; nothing said afterwards reaches them",
    async play({ person, room, talker, say, get, right, must, twin, becomes }) {
      const [mary, joe] = [await person(), await person()];
      const own = await room(mary, joe);
      const [hers, his, hisOther] = [await talker(mary, right), await talker(joe), await talker(joe, right)];
      const first = await say(hers, own, "while both are here");
      must(first.ok, "the first message was refused");
      const cursor = first.ok ? first.value : undefined;
      let heard = "";
      for (const talks of [his, hisOther]) talks.onEvent = (packet) => (heard += packet);
      must(outcome(await his.emit("room.leave", { roomId: own })) === "ok", "leaving failed");
      must(await becomes(() => heard.includes("hide.room"), 5_000), "the other window was not told");
      const allowed = await say(hers, own, "after he left");
      twin(allowed.ok, "a remaining member still writes");
      await say(hers, "0", "everybody hears this");
      must(
        await becomes(() => heard.split("everybody hears this").length > 2, 5_000),
        "General did not arrive",
      );
      must(!heard.includes("after he left"), "heard after leaving");
      must(outcome(await say(his, own, "still here")) === "not_found", "sent after leaving");
      must(
        outcome(await his.emit("room.read", { roomId: own, seq: 1 })) === "not_found",
        "marked after leaving",
      );
      const synced = await his.emit<{ rooms: SyncedRoom[] }>("sync", {
        rooms: [{ roomId: own, seq: cursor?.seq, date: cursor?.date, hash: cursor?.hash }],
      });
      must(synced.ok && synced.value.rooms[0]?.notFound === true, `sync: ${JSON.stringify(synced)}`);
      must((await get(joe, `/api/rooms/${own}/messages`)).status === 404, "read after leaving");
    },
  },
  {
    number: 8,
    title: "a third person listens while two others start a private room",
    answer: "no `show.room`, message or mark reaches them",
    async play({ person, talker, say, right, must, twin, becomes }) {
      const [mary, joe, eve] = [await person(), await person(), await person()];
      const [hers, his, foreign] = [await talker(mary), await talker(joe, right), await talker(eve, right)];
      const heard = { joe: "", eve: "" };
      his.onEvent = (packet) => (heard.joe += packet);
      foreign.onEvent = (packet) => (heard.eve += packet);
      const roomId = `${mary.id}:${joe.id}`;
      await say(hers, roomId, "psst");
      await hers.emit("room.read", { roomId, seq: 1 });
      twin(await becomes(() => heard.joe.includes("psst"), 5_000), "the other user hears it");
      await say(hers, "0", "in public");
      must(await becomes(() => heard.eve.includes("in public"), 5_000), "General did not arrive");
      must(!heard.eve.includes(roomId), `a stranger heard of it: ${heard.eve}`);
    },
  },
  {
    number: 9,
    title: "lists of users, presence events, log-in's answer: is there more than a name?",
    answer: "only `id`, `username` and `online`",
    async play({ person, get, talker, right, must, twin, becomes }) {
      const mary = await person();
      const one = await talker(mary);
      let heard = "";
      one.onEvent = (packet) => (heard += packet);
      const joe = await person();
      await talker(joe, right);
      for (const path of ["/api/users", "/api/users/online", `/api/users?ids=${mary.id}`, "/api/me"]) {
        const { status, body } = await get(mary, path);
        twin(status === 200 && body.includes("username"), `${path}: ${status}`);
        const fields = new Set([...body.matchAll(/"(\w+)":/g)].map(([, name]) => name));
        for (const name of ["id", "username", "online"]) fields.delete(name);
        must(fields.size === 0, `${path} also reveals ${[...fields].join(", ")}`);
      }
      must(await becomes(() => heard.includes("user.connected"), 5_000), "no presence event came");
      const events = [...heard.matchAll(/42(\["user\.\w+",\[.*?\]\])/g)]
        .map(([, json = ""]) => json)
        .join("");
      must(!/password|sid|created|127\./.test(events), `presence reveals ${events}`);
    },
  },
  {
    number: 10,
    title: "markup, `javascript:` links, RTL and zero-width characters as a message",
    answer:
      "text is data: JSON has it as typed, with `nosniff`; the transcript escapes it. The page: `npm test -- chat`",
    async play({ person, room, talker, say, get, must, twin }) {
      const mary = await person();
      const own = await room(mary);
      const one = await talker(mary);
      for (const text of MARKUP) twin((await say(one, own, text)).ok, `"${text}" is accepted`);
      const page = await get(mary, `/api/rooms/${own}/messages`);
      const { messages } = JSON.parse(page.body) as { messages: Message[] };
      must(
        JSON.stringify(messages.map(({ message }) => message)) === JSON.stringify(MARKUP),
        "the texts came back changed",
      );
      must(
        String(page.headers["content-type"]).startsWith("application/json"),
        String(page.headers["content-type"]),
      );
      must(page.headers["x-content-type-options"] === "nosniff", "without nosniff");
      const { body } = await get(mary, `/api/rooms/${own}/transcript`);
      const tags = [...body.matchAll(/<\/?([a-z]+)/gi)].map(([, tag = ""]) => tag.toLowerCase());
      must(
        !tags.some((tag) => ["img", "svg", "xmp", "script", "iframe", "object"].includes(tag)),
        `the transcript has ${[...new Set(tags)].join(" ")}`,
      );
      const links = [...body.matchAll(/href="([^"]*)"/g)].map(([, href = ""]) => href);
      must(
        links.every((href) => /^(https?:|mailto:)/.test(href)),
        `the transcript links to ${links.join(" ")}`,
      );
      must(!/<[^>]*\son\w+=/i.test(body), "the transcript has a handler");
    },
  },
  {
    number: 11,
    title: "the same as username and as a room's name",
    answer: "refused as a username; a room's name is text, escaped in the transcript",
    async play({ person, post, get, address, must, twin }) {
      const mary = await person();
      for (const username of MARKUP) {
        const { status } = await post({ from: address() }, "/api/users", {
          username,
          password: "correct horse battery",
        });
        must(status === 400, `the username ${username}: ${status}`);
      }
      const name = `<img src=x onerror=alert(${Math.random()})>`;
      const made = await post(mary, "/api/rooms", { name });
      twin(made.status === 201, `the room is made: ${made.status} ${made.body}`);
      const { id, names } = JSON.parse(made.body) as { id: string; names: string[] };
      must(names[0] === name, `it is called ${names[0]}`);
      const { body, headers } = await get(mary, `/api/rooms/${id}/transcript`);
      must(!body.includes("<img"), "the transcript has the tag");
      must(/attachment/.test(String(headers["content-disposition"])), "the transcript is shown, not saved");
    },
  },
  {
    number: 12,
    title: "`a<b && c>d`, `Tom & Jerry`, emoji, `&lt;`",
    answer: "come back exactly as typed",
    async play({ person, room, talker, say, get, right, must, twin, becomes }) {
      const [mary, joe] = [await person(), await person()];
      const own = await room(mary, joe);
      const [hers, his] = [await talker(mary), await talker(joe, right)];
      const heard: string[] = [];
      his.onEvent = (packet) => {
        if (packet.startsWith('42["message"'))
          heard.push((JSON.parse(packet.slice(2)) as [string, Message])[1].message);
      };
      for (const text of AS_TYPED) await say(hers, own, text);
      twin(await becomes(() => heard.length === AS_TYPED.length, 5_000), "all are heard");
      must(JSON.stringify(heard) === JSON.stringify(AS_TYPED), JSON.stringify(heard));
      const { messages } = JSON.parse((await get(joe, `/api/rooms/${own}/messages`)).body) as {
        messages: Message[];
      };
      must(
        JSON.stringify(messages.map(({ message }) => message)) === JSON.stringify(AS_TYPED),
        "the texts were stored changed",
      );
    },
  },
  {
    number: 38,
    title: "TRACE, PUT and DELETE on every route; parameters twice and as lists",
    answer: "4xx, never 500; the first rule that fits decides",
    async play({ person, get, must, twin }) {
      const mary = await person();
      for (const method of ["TRACE", "PUT", "DELETE", "PATCH"])
        for (const path of [
          "/",
          "/api/rooms",
          "/api/rooms/0/messages",
          "/api/login",
          "/healthz",
          "/socket.io/",
        ]) {
          const { status } = await get(mary, path, { method });
          must(status >= 400 && status < 500, `${method} ${path}: ${status}`);
        }
      for (const query of [
        "size=1&size=2",
        "size[]=1",
        "size[x]=1",
        "before=1&before=2",
        "__proto__[x]=1&size=a",
        "size=1%00",
      ]) {
        const { status } = await get(mary, `/api/rooms/0/messages?${query}`);
        must(status === 400 || status === 200, `${query}: ${status}`);
      }
      const { status } = await get(mary, "/api/users?ids=1&ids=2");
      must(status === 400, `ids twice: ${status}`);
      twin((await get(mary, "/api/rooms/0/messages?size=1")).status === 200, "one parameter");
    },
  },
  {
    number: 39,
    title: "another's nonce, one nonce for other texts and rooms, nonces by the thousand",
    answer:
      "a nonce belongs to one user and room; its first message is the answer; the limit counts every attempt",
    async play({ person, room, talker, must, twin }) {
      const [mary, joe] = [await person(), await person()];
      const own = await room(mary, joe);
      const [hers, his] = [await talker(mary), await talker(joe)];
      const send = (talks: typeof hers, roomId: string, message: string, nonce: string) =>
        talks.emit<Message>("message", { roomId, message, nonce });
      const first = await send(hers, own, "first", "same");
      const again = await send(hers, own, "second", "same");
      const foreign = await send(his, own, "third", "same");
      const elsewhere = await send(hers, "0", "fourth", "same");
      twin(first.ok && foreign.ok && elsewhere.ok, "each has its own nonces");
      if (!first.ok || !again.ok || !foreign.ok || !elsewhere.ok) return must(false, "not all were accepted");
      must(
        again.value.seq === first.value.seq && again.value.message === "first",
        "the retry stored another message",
      );
      must(
        foreign.value.message === "third" && elsewhere.value.message === "fourth",
        "a nonce counted for another user or room",
      );
      const many = await Promise.all(
        Array.from({ length: 400 }, (_, index) => send(hers, own, "many", `n${index % 3}`)),
      );
      must(many.filter((reply) => reply.ok).length <= 120, "400 at once are all accepted");
    },
  },
  {
    number: 40,
    title: "read marks: 10^12, negative, of a foreign room, a fraction, text",
    answer: "limited to the newest message, or `invalid`, or `not_found`",
    async play({ person, room, talker, say, get, must, twin }) {
      const [mary, joe] = [await person(), await person()];
      const own = await room(mary, joe);
      const [hers, his] = [await talker(mary), await talker(joe)];
      await say(hers, own, "one");
      for (const seq of [-1, 1.5, "1", null, 2 ** 53, Number.NaN]) {
        const got = outcome(await his.emit("room.read", { roomId: own, seq }));
        must(got === "invalid", `${String(seq)}: ${got}`);
      }
      const far = await his.emit<{ read: number }>("room.read", { roomId: own, seq: 1e12 });
      must(far.ok && far.value.read === 1, `10^12: ${JSON.stringify(far)}`);
      await say(hers, own, "two");
      const rooms = JSON.parse((await get(joe, "/api/rooms")).body) as { id: string; unread: number }[];
      twin(rooms.find(({ id }) => id === own)?.unread === 1, "the next message is unread");
    },
  },
  {
    number: 48,
    title: "pages: 10^9, -1, 0, 101, a word",
    answer: "`invalid`; any other page has exactly as many as were requested",
    async play({ person, room, talker, say, get, must, twin }) {
      const mary = await person();
      const own = await room(mary);
      const one = await talker(mary);
      for (let index = 0; index < 60; index += 1) await say(one, own, String(index));
      for (const path of [`/api/rooms/${own}/messages`, "/api/users", "/api/rooms/directory"])
        for (const size of ["1000000000", "-1", "0", "101", "x", "1.5", "1e2"]) {
          const got = codeOf(await get(mary, `${path}?size=${size}`));
          must(got === "invalid", `${path} of ${size}: ${got}`);
        }
      const count = async (query: string) => {
        const { messages } = JSON.parse((await get(mary, `/api/rooms/${own}/messages${query}`)).body) as {
          messages: unknown[];
        };
        return messages.length;
      };
      twin(
        (await count("")) === 50 && (await count("?size=10")) === 10 && (await count("?size=100")) === 60,
        "pages have the requested size",
      );
    },
  },
];
