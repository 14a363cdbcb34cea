import { Log } from "../../server/src/store/log.ts";
import type { Message, Reply } from "../../server/src/protocol.ts";
import { clientFrame } from "../frames.ts";
import { outcome, type Attack, type Scene } from "./scene.ts";
import type { Person } from "./stage.ts";
import { codeOf, Talker, type Wire } from "./wire.ts";

/** Too much, too long, too slow, incomplete or malformed: how one client could harm others. */

/** How many MB a replica may grow in one attack. */
const GROWTH = 120;

/** Makes a room for a person, and writes messages into it without announcing them. */
async function fill(
  { room, admin, keys }: Scene,
  mary: Person,
  count: number,
  text: string,
): Promise<string> {
  const id = await room(mary);
  const store = new Log(admin, keys, {
    serverId: "attack",
    relayChannel: "rooms",
    waitReplicas: 0,
    waitMs: 500,
  });
  for (let start = 0; start < count; start += 100) {
    const rows = Array.from({ length: Math.min(100, count - start) }, (_, index) => ({
      from: mary.id,
      message: text,
      date: Date.now() - 1e7 + start + index,
    }));
    await store.load(id, rows);
  }
  return id;
}

function growth(scene: Scene): () => number {
  const before = scene.left.memory();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, scene.left.memory());
  }, 50);
  return () => {
    clearInterval(timer);
    return (Math.max(most, scene.left.memory()) - before) / 1e6;
  };
}

/**
 * Checks what another user of the attacked replica notices: none of their messages is refused, and none takes longer than
 * ten times the time of one before the attack, plus two seconds.
 */
async function beside({ person, talker, say, must }: Scene, during: () => Promise<void>): Promise<void> {
  const mary = await person();
  const one = await talker(mary);
  const took = async (text: string) => {
    const began = performance.now();
    const got = outcome(await say(one, "0", text));
    must(got === "ok", `somebody else was answered ${got}`);
    return performance.now() - began;
  };
  let quiet = 0;
  for (let turn = 0; turn < 5; turn += 1) quiet = Math.max(quiet, await took(`before ${turn}`));
  let longest = 0;
  let over = false;
  const saying = (async () => {
    for (let turn = 0; !over; turn += 1) {
      longest = Math.max(longest, await took(`meanwhile ${turn}`));
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
  })();
  await during();
  over = true;
  await saying;
  must(
    longest <= 2_000 + 10 * quiet,
    `somebody else waited ${longest.toFixed(0)} ms, ${quiet.toFixed(0)} before`,
  );
}

/** Malformed packets: a replica ignores them or closes the connection, nothing else. */
const MALFORMED: Record<string, string[]> = {
  "attachments without end": ["40", '451000-["message",{"_placeholder":true,"num":0}]'],
  "more attachments than allowed": ["40", '4511-["a"]'],
  "an event's name that is no text": ["40", '42[{"a":1}]', '42[["message"]]', "42[1]", "42[null]"],
  "reserved names": [
    "40",
    '42["error"]',
    '42["connect"]',
    '42["disconnect"]',
    '42["disconnecting"]',
    '42["newListener"]',
    '42["removeListener"]',
    '42["connect_error"]',
  ],
  "names of the language": [
    "40",
    '421["__proto__",{}]',
    '422["constructor",{}]',
    '423["toString",{}]',
    '424["hasOwnProperty",{}]',
  ],
  "huge ids of acknowledgements": [
    "40",
    '4299999999999999999999["message",{}]',
    '429007199254740993["sync",{"rooms":[]}]',
  ],
  "acknowledgements that nobody asked for": ["40", "431[]", "430[1]", "4399[{}]", "43[]"],
  "an event before CONNECT": ['42["message",{}]'],
  "an event after DISCONNECT": ["40", "41", '421["sync",{"rooms":[]}]'],
  "two namespaces": ["40", "40/,", "40/admin,", "40/x,{}", '42/x,["message",{}]', "41/x,"],
  "CONNECT twice at once": ["40", "40"],
  "CONNECT with a payload": ['40{"sid":"x","__proto__":{"a":1}}', "40[]", "40null", '40"x"'],
  "packets of the server's": ['0{"sid":"x"}', '44{"message":"x"}', "6", "7", "1", ""],
  "an upgrade of a WebSocket": ["2probe", "5", "2probe", "5", "5"],
  "half JSON": ["40", '42["message",{"roomId":"0"', "42[", "42", "4", "42{}", '42["message"'],
  "deep JSON": ["40", `421["message",${"[".repeat(10_000)}${"]".repeat(10_000)}]`],
  "arguments by the thousand": ["40", `421["message"${",1".repeat(10_000)}]`],
  "no arguments": ["40", '421["message"]', '42["sync"]', '422["room.join",null]', '423["room.read",[]]'],
};

type FrameBytes = [name: string, bytes: Buffer[]];
const frame = (opcode: number, payload: Buffer | string, fin = true) => {
  const made = clientFrame(payload, opcode);
  made[0] = (fin ? 0x80 : 0) | opcode;
  return made;
};
const BROKEN_FRAMES: FrameBytes[] = [
  ["bad UTF-8", [frame(1, Buffer.from([0x34, 0x32, 0xc3, 0x28]))]],
  ["an unmasked frame", [Buffer.from([0x81, 0x02, 0x34, 0x30])]],
  ["reserved bits", [Buffer.from([0xf1, 0x80, 0, 0, 0, 0])]],
  ["an unknown opcode", [frame(11, "x")]],
  ["a long control frame", [frame(9, "x".repeat(126))]],
  ["a fragmented control frame", [frame(9, "x", false)]],
  ["a continuation of nothing", [frame(0, "x")]],
  ["a new message inside another", [frame(1, "4", false), frame(1, "40")]],
  ["a length of 2^63", [Buffer.from([0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]],
  ["a close code that is none", [frame(8, Buffer.from([0, 0]))]],
  ["a close frame of one byte", [frame(8, Buffer.from([3]))]],
  ["noise", [Buffer.from(Array.from({ length: 300 }, (_, index) => (index * 89) % 256))]],
];

export const STRAIN: Attack[] = [
  {
    number: 13,
    title:
      "300 KB of nested tags, 64 KB of `<`, 1 MB of JSON, 10,000 levels, 10,000 fields, a field of 10 MB announced",
    answer: "`too_large` or `invalid` before it is parsed; nobody else waits",
    async play(scene) {
      const { person, post, talker, must, twin } = scene;
      const mary = await person();
      await beside(scene, async () => {
        for (const body of [
          `{"name":"${"<b>".repeat(100_000)}"}`,
          `{"name":"${"<".repeat(65_536)}"}`,
          `{"name":"${"x".repeat(1_000_000)}"}`,
          `${"[".repeat(10_000)}${"]".repeat(10_000)}`,
          `{${Array.from({ length: 3_000 }, (_, index) => `"f${index}":1`).join(",")}}`,
        ]) {
          const { status } = await post(mary, "/api/rooms", body);
          must(status === 413 || status === 400, `${body.slice(0, 20)} of ${body.length}: ${status}`);
        }
        const one = await talker(mary);
        const long = await one.emit("message", { roomId: "0", message: "x".repeat(5_000), nonce: "long" });
        must(outcome(long) === "too_large", `5,000 characters: ${outcome(long)}`);
        const closed = one.emit("message", { roomId: "0", message: "<".repeat(65_536), nonce: "longer" });
        must(
          outcome(await closed) !== "ok" && (await one.wire.endsWithin(2_000)),
          "64 KB left the connection open",
        );
      });
      const one = await talker(mary);
      const full = await one.emit<Message>("message", {
        roomId: "0",
        message: "€".repeat(4_000),
        nonce: "full",
      });
      twin(full.ok, "4,000 characters of three bytes");
    },
  },
  {
    number: 31,
    title: "500 events a second, also after `rate_limited`; 10,000 as fast as possible",
    answer: "`rate_limited`, then closed with code 1013; served again once the limit allows",
    async play(scene) {
      const { person, talker, must, twin, becomes } = scene;
      const [mary, joe] = [await person(), await person()];
      const codes: Record<string, number> = {};
      const tally = (reply: Reply<unknown>) =>
        void (codes[outcome(reply)] = (codes[outcome(reply)] ?? 0) + 1);
      let [closed, floodClosed] = [false, false];
      await beside(scene, async () => {
        const [one, other] = [await talker(mary), await talker(joe)];
        for (let turn = 0; turn < 300 && !one.wire.isClosed; turn += 1) {
          for (let count = 0; count < 5; count += 1)
            void one.emit("room.read", { roomId: "0", seq: turn }).then(tally);
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        closed = await one.wire.endsWithin(3_000);
        must(one.wire.closeCode === 1013, `closed with ${one.wire.closeCode}`);
        for (let turn = 0; turn < 100 && !other.wire.isClosed; turn += 1) {
          for (let count = 0; count < 100; count += 1)
            void other.emit("room.read", { roomId: "0", seq: turn });
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        floodClosed = await other.wire.endsWithin(3_000);
      });
      must((codes["rate_limited"] ?? 0) > 0 && (codes["ok"] ?? 0) <= 400, JSON.stringify(codes));
      must(closed && floodClosed, "the user was never disconnected");
      const back = await becomes(async () => {
        const one = await talker(mary).catch(() => undefined);
        if (one && outcome(await one.emit("room.read", { roomId: "0", seq: 0 })) === "ok") return true;
        await new Promise((resolve) => setTimeout(resolve, 1_000));
        return false;
      }, 15_000);
      twin(back, "the user is served again within 15 s");
    },
  },
  {
    number: 31,
    title: "200 connections of one user",
    answer: "their number is limited: a new one replaces the oldest or is refused",
    async play({ person, address, left, must, twin, sleep }) {
      const mary = await person();
      const open: Talker[] = [];
      for (let turn = 0; turn < 200; turn += 20)
        await Promise.all(
          Array.from({ length: 20 }, async () => {
            const talker = await Talker.connect(left.port, { ...mary, from: address() }).catch(
              () => undefined,
            );
            if (talker) open.push(talker);
          }),
        );
      await sleep(200);
      const alive = open.filter(({ wire }) => !wire.isClosed);
      must(alive.length <= 100, `${alive.length} are open`);
      const newest = alive.at(-1);
      twin(
        newest !== undefined && outcome(await newest.emit("sync", { rooms: [] })) === "ok",
        "one of them is served",
      );
      for (const { wire } of open) wire.destroy();
    },
  },
  {
    number: 31,
    title: "a `sync` that names a room of 240 long messages 100 times, or 10,000 rooms; 30 of these at once",
    answer: "`invalid`: a `sync` may name a room only once; Redis bounds rows and bytes",
    async play(scene) {
      const { person, talker, right, must, twin } = scene;
      const mary = await person();
      const heavy = await fill(scene, mary, 240, "€".repeat(4_000));
      const one = await talker(mary);
      const grown = growth(scene);
      const cursor = { roomId: heavy, seq: 0, date: 0 };
      await beside(scene, async () => {
        const twice = await one.emit("sync", { rooms: [cursor, cursor] });
        must(outcome(twice) === "invalid", `the room twice: ${outcome(twice)}`);
        const replies = await Promise.all(
          Array.from({ length: 30 }, () =>
            one.emit("sync", { rooms: Array.from({ length: 100 }, () => cursor) }),
          ),
        );
        must(
          replies.every((reply) => !reply.ok),
          "100 times the room is served",
        );
      });
      must((await right.ready()) === 200, "the other replica is not ready");
      const again = one.wire.isClosed ? await talker(mary) : one;
      const many = Array.from({ length: 700 }, (_, index) => ({ roomId: String(index), seq: 0, date: 0 }));
      const got = outcome(await again.emit("sync", { rooms: many }));
      must(got === "invalid" || got === "unavailable" || got === "too_large", `700 rooms: ${got}`);
      const mb = grown();
      must(mb < GROWTH, `it took ${mb.toFixed(0)} MB`);
      const other = await person();
      const allowed = await fill(scene, other, 240, "€".repeat(4_000));
      const pages = await (
        await talker(other)
      ).emit<{ rooms: { messages: Message[] }[] }>("sync", {
        rooms: [{ roomId: allowed, seq: 0, date: 0 }],
      });
      twin(pages.ok && (pages.value.rooms[0]?.messages.length ?? 0) > 0, "the room once");
    },
  },
  {
    number: 31,
    title: "30 transcripts of 3,000 messages at once, by one user",
    answer: "few at once for each user, the rest `rate_limited` or `unavailable`; nobody else waits",
    async play(scene) {
      const { person, get, must, twin } = scene;
      const mary = await person();
      const long = await fill(
        scene,
        mary,
        3_000,
        "a sentence as people write them in a chat, of some length but not too long",
      );
      const path = `/api/rooms/${long}/transcript`;
      let codes: (string | number)[] = [];
      await beside(scene, async () => {
        codes = await Promise.all(Array.from({ length: 30 }, async () => codeOf(await get(mary, path))));
      });
      must(
        codes.some((code) => code === "rate_limited" || code === "unavailable"),
        "all 30 are served",
      );
      const other = await person();
      const short = await fill(scene, other, 100, "hello");
      const one = await get(other, `/api/rooms/${short}/transcript`);
      twin(one.status === 200 && one.body.includes("hello"), `one transcript: ${one.status}`);
    },
  },
  {
    number: 31,
    title: "1,000 new rooms by one user; 20 requests at once for the list of 5,000 rooms",
    answer: "a cap for each user and day; lists have pages; few costly requests at once",
    long: true,
    async play(scene) {
      const { person, post, get, admin, keys, must, twin } = scene;
      const mary = await person();
      let made = 0;
      let refused = "";
      await beside(scene, async () => {
        for (let turn = 0; turn < 50 && refused === ""; turn += 1) {
          const answers = await Promise.all(
            Array.from({ length: 20 }, (_, index) =>
              post(mary, "/api/rooms", { name: `many ${mary.id} ${turn} ${index}` }),
            ),
          );
          made += answers.filter((answer) => answer.status === 201).length;
          refused =
            answers
              .map(codeOf)
              .find((code) => code === "rate_limited" || code === "invalid" || code === "forbidden")
              ?.toString() ?? "";
        }
      });
      must(refused !== "", `${made} rooms were made`);
      const joe = await person();
      const rooms = Array.from({ length: 5_000 }, (_, index) => String(1_000_000 + index));
      await admin.sadd(keys.userRooms(joe.id), rooms);
      await beside(scene, async () => {
        for (let turn = 0; turn < 3; turn += 1)
          await Promise.all(Array.from({ length: 20 }, () => get(joe, "/api/rooms")));
      });
      const other = await person();
      twin(
        (await post(other, "/api/rooms", { name: `one of ${other.id}` })).status === 201,
        "another user makes one",
      );
    },
  },
  {
    number: 31,
    title: "8 connections send masked pings and read nothing, with a session and without",
    answer: "everything that a connection leaves unread counts: it is cut, and memory does not grow",
    async play(scene) {
      const { person, wire, address, must, twin } = scene;
      const people = await Promise.all(Array.from({ length: 4 }, () => person()));
      const grown = growth(scene);
      const ping = clientFrame(Buffer.alloc(125, 0x2e), 9);
      const many = Buffer.concat(Array.from({ length: 400 }, () => ping));
      const flood = async (one: Wire, connect: boolean) => {
        if (connect) one.send("40");
        one.tcp.pause();
        // 20 MB of answers: several times what a connection may leave unread.
        for (let turn = 0; turn < 400 && !one.isClosed; turn += 1) await one.press(many);
        one.tcp.resume();
        return one;
      };
      await beside(scene, async () => {
        const wires = await Promise.all([
          ...people.map(async (one) => flood(await wire(one), true)),
          ...people.map(async () => flood(await wire({ from: address() }), false)),
        ]);
        for (const one of wires) one.destroy();
      });
      const mb = grown();
      must(mb < GROWTH, `it took ${mb.toFixed(0)} MB`);
      const calm = await wire(people[0] ?? { from: address() });
      let pongs = 0;
      calm.onPong = () => (pongs += 1);
      calm.write(ping);
      twin(await scene.becomes(() => pongs === 1, 2_000), "one ping is answered");
    },
  },
  {
    number: 31,
    title: "20 connections without a session repeat `40`, and come back when they are cut",
    answer: "cut at the first refusal, then limited by address; others are served",
    async play(scene) {
      const { person, wire, address, must, twin, right } = scene;
      const burst = Buffer.concat(Array.from({ length: 50 }, () => clientFrame("40")));
      const addresses = Array.from({ length: 4 }, address);
      let cut = 0;
      await beside(scene, async () => {
        const end = performance.now() + 2_000;
        await Promise.all(
          Array.from({ length: 20 }, async (_, index) => {
            while (performance.now() < end) {
              const one = await wire({ from: addresses[index % 4] ?? "" });
              while (!one.isClosed && performance.now() < end) {
                one.write(burst);
                await new Promise((resolve) => setTimeout(resolve, 5));
              }
              if (one.isClosed) cut += 1;
              one.destroy();
              await new Promise((resolve) => setTimeout(resolve, 20));
            }
          }),
        );
      });
      must(cut > 0, "none was cut");
      must((await right.ready()) === 200, "the other replica is not ready");
      const mary = await person();
      twin((await wire(mary)).status === 101, "another address is let in");
    },
  },
  {
    number: 31,
    title: "two connections read nothing of a busy room, while one of them requests long pages",
    answer: "cut when too much is unread; after a reconnect the cursor brings everything",
    async play(scene) {
      const { person, room, talker, say, must, twin, becomes } = scene;
      const [mary, joe] = [await person(), await person()];
      const others = await Promise.all(Array.from({ length: 4 }, () => person()));
      const own = await room(mary, joe, ...others);
      const deaf = await talker(joe);
      deaf.wire.tcp.pause();
      const asking = await talker(joe);
      asking.wire.tcp.pause();
      const grown = growth(scene);
      const speakers = await Promise.all([mary, ...others].map((one) => talker(one)));
      const text = "x".repeat(3_900);
      // 80 messages from each of 5 people: about 1.6 MB for each listener.
      for (let turn = 0; turn < 80; turn += 1) {
        await Promise.all(speakers.map((one) => say(one, own, text)));
        if (turn % 2 === 0) void asking.emit("sync", { rooms: [{ roomId: own, seq: 0, date: 0 }] });
      }
      const ping = setInterval(() => {
        deaf.wire.send("3");
        asking.wire.send("3");
      }, 100);
      must(
        await becomes(() => asking.wire.isClosed, 5_000),
        "the connection that requests and reads nothing is not cut",
      );
      clearInterval(ping);
      const mb = grown();
      must(mb < GROWTH, `it took ${mb.toFixed(0)} MB`);
      const back = await talker(joe);
      const page = await back.emit<{ rooms: { messages: Message[] }[] }>("sync", {
        rooms: [{ roomId: own, seq: 0, date: 0 }],
      });
      twin(page.ok && (page.value.rooms[0]?.messages.length ?? 0) > 0, "the connection comes back and reads");
    },
  },
  {
    number: 32,
    title: "malformed packets: attachments, names, ids, namespaces, CONNECT twice, half and deep JSON",
    answer: "ignored, answered `invalid`, or the connection is closed",
    async play({ person, wire, talker, say, must, twin, replicas, sleep, becomes }) {
      const mary = await person();
      for (const [name, packets] of Object.entries(MALFORMED)) {
        // One after the other, and all in one read.
        for (const together of [false, true]) {
          const one = await wire(mary);
          if (one.status !== 101) {
            must(
              await becomes(async () => (await wire(mary)).status === 101, 12_000),
              `${name}: no more let in`,
            );
            continue;
          }
          if (together) one.write(Buffer.concat(packets.map((packet) => clientFrame(packet))));
          else
            for (const packet of packets) {
              one.send(packet);
              await sleep(3);
            }
          await sleep(15);
          const odd = one.packets.filter((packet) => /"internal"/.test(packet));
          must(odd.length === 0, `${name}: ${odd.join(" ").slice(0, 200)}`);
          for (const replica of replicas)
            must(!replica.hasEnded(), `${name}: the ${replica.name} replica ended`);
          one.destroy();
        }
      }
      const joe = await person();
      twin((await say(await talker(joe), "0", "well-formed")).ok, "a well-formed message");
    },
  },
  {
    number: 32,
    title:
      "frames that break the protocol: masks, reserved bits, lengths, continuations, control frames, bad UTF-8",
    answer: "the connection is closed",
    async play({ person, wire, must, twin }) {
      const mary = await person();
      await Promise.all(
        BROKEN_FRAMES.map(async ([name, bytes]) => {
          const one = await wire(mary);
          one.send("40");
          for (const each of bytes) one.write(each);
          must(await one.endsWithin(3_000), `${name}: it is still open`);
        }),
      );
      const one = await wire(mary);
      one.write(Buffer.concat([frame(1, "4", false), frame(9, "between"), frame(0, "0")]));
      twin(
        (await one.packet((packet) => packet.startsWith("40"))) !== undefined,
        "two fragments with a ping between",
      );
    },
  },
  {
    number: 32,
    title: "connections that are reset while their upgrade waits for Redis, with and without a cookie",
    answer: "nothing happens: every socket has an error listener from the start",
    async play({ person, line, talker, address, left, must, twin, becomes }) {
      const mary = await person();
      for (const protocol of ["websocket", "h2c"])
        for (const path of ["/socket.io/?EIO=4&transport=websocket", "/socket.io/", "/elsewhere"])
          for (const cookie of [mary.cookie, "hubbub=s%3Aabc.def", ""])
            for (let turn = 0; turn < 8 && !left.hasEnded(); turn += 1) {
              const one = await line(address());
              one.write(
                `${turn % 2 ? "" : "GET /api/users HTTP/1.1\r\nHost: x\r\n\r\n"}GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${left.port}\r\nUpgrade: ${protocol}\r\nConnection: Upgrade\r\n${cookie && `Cookie: ${cookie}\r\n`}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`,
              );
              if (turn % 3) await new Promise((resolve) => setTimeout(resolve, 0));
              one.tcp.resetAndDestroy();
            }
      must(!(await becomes(() => left.hasEnded(), 300)), "the replica ended");
      twin((await talker(mary).catch(() => undefined)) !== undefined, "an upgrade that waits for its answer");
    },
  },
  {
    number: 33,
    title: "endless fragments on 50 connections without a session",
    answer: "cut by their number or after 5 s; memory does not grow",
    async play(scene) {
      const { person, wire, talker, say, address, must, twin, sleep } = scene;
      const grown = growth(scene);
      const addresses = Array.from({ length: 10 }, address);
      const start = frame(1, "4", false);
      const one = frame(0, "2", false);
      const burst = Buffer.concat(Array.from({ length: 500 }, () => one));
      const wires = await Promise.all(
        Array.from({ length: 50 }, (_, index) => wire({ from: addresses[index % 10] ?? "" })),
      );
      await beside(scene, async () => {
        for (const each of wires) each.write(start);
        for (let turn = 0; turn < 40; turn += 1) {
          for (const each of wires) each.write(burst);
          await sleep(20);
        }
      });
      const mb = grown();
      must(mb < GROWTH, `it took ${mb.toFixed(0)} MB`);
      const ended = await Promise.all(wires.map((each) => each.endsWithin(6_000)));
      must(ended.every(Boolean), `${ended.filter((is) => !is).length} of 50 are open after 6 s`);
      twin((await say(await talker(await person()), "0", "in one piece")).ok, "a message in one piece");
    },
  },
  {
    number: 34,
    title: "a request's head, a byte at a time; a body that never comes; silence after the upgrade",
    answer: "closed: heads after 10 s, whole requests after 30 s, silence after 5 s",
    waits: true,
    long: true,
    async play({ person, line, wire, get, address, must, twin }) {
      const mary = await person();
      const [head, body, silent] = [await line(address()), await line(address()), await wire(mary)];
      head.write("POST /api/login HTTP/1.1\r\nHost: x\r\n");
      body.write(
        "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
      );
      const dribble = setInterval(() => {
        head.write("X");
        body.write("x");
      }, 500);
      const began = performance.now();
      const seconds = async (closed: Promise<void>) => {
        await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 45_000))]);
        return (performance.now() - began) / 1_000;
      };
      const took = await Promise.all([seconds(head.closed), seconds(body.closed), seconds(silent.closed)]);
      clearInterval(dribble);
      must(took[0] < 16, `the head: ${took[0].toFixed(1)} s`);
      must(took[1] < 40, `the body: ${took[1].toFixed(1)} s`);
      must(took[2] < 8, `silence: ${took[2].toFixed(1)} s`);
      twin((await get(mary, "/api/me")).status === 200, "a quick request");
    },
  },
  {
    number: 35,
    title: "4,000 characters that make patterns backtrack: dots and brackets after `https://`, `@`, blanks",
    answer: "every pattern takes linear time; their transcript takes milliseconds",
    async play({ person, room, talker, say, get, post, address, must, twin }) {
      const mary = await person();
      const own = await room(mary);
      const one = await talker(mary);
      const texts = [
        `https://${".".repeat(1_900)}a${")".repeat(1_900)}`,
        `https://${"(".repeat(1_990)}${")".repeat(1_990)}`,
        `https://a.example/${"?.!,".repeat(990)}`,
        "www.".repeat(990),
        "a@".repeat(1_990),
        `a@${"a.".repeat(1_990)}`,
        "http://".repeat(570),
        `https://a.example/${"%".repeat(3_900)}`,
        `${" ".repeat(3_999)}x`,
        `https://[${":".repeat(3_900)}]`,
      ];
      const began = performance.now();
      for (const text of texts) must((await say(one, own, text)).ok, `${text.slice(0, 20)} is refused`);
      const transcript = await get(mary, `/api/rooms/${own}/transcript`);
      const took = performance.now() - began;
      must(took < 2_000, `it took ${took.toFixed(0)} ms`);
      twin(transcript.status === 200, `the transcript: ${transcript.status}`);
      for (const username of ["a".repeat(10_000), `${"._-".repeat(5_000)}!`]) {
        const answer = await post({ from: address() }, "/api/users", {
          username,
          password: "correct horse battery",
        });
        must(
          answer.status === 400 && answer.ms < 1_000,
          `a username of ${username.length}: ${answer.status} in ${answer.ms.toFixed(0)} ms`,
        );
      }
    },
  },
];
