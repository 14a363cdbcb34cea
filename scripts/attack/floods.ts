import { Agent } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { clientFrame } from "../frames.ts";
import { blackPng } from "./files.ts";
import type { Person } from "./stage.ts";
import { ask, codeOf, Line, Talker, Wire, type Caller } from "./wire.ts";

/**
 * A separate process that floods a replica, on orders from its parent. A real attacker does not use the victim's cores,
 * so the parent gives the victims priority over this process.
 */
export type Order = {
  flood: FloodName;
  port: number;
  ms: number;
  people: Person[];
  /** Somebody whose password's hash has the usual cost. */
  owner: { username: string; password: string };
  /** The addresses of callers without a session. */
  addresses: string[];
  /**
   * A room with 240 long messages, and one with 3,000; all people are members of both, and the first five of `many` with
   * a long message each.
   */
  rooms: { heavy: string; long: string; many: string[] };
};

/** Counts, by what was sent or by the code of the answer. */
export type Tally = Record<string, number>;

type Flood = { title: string; run: (order: Order, tally: Count) => Promise<void> };
type Count = (what: string | number, by?: number) => void;

const PACE_MS = 5;

/** Repeats `one` for `ms`, `count` at once. */
async function lanes(ms: number, count: number, one: (lane: number) => Promise<void>): Promise<void> {
  const end = performance.now() + ms;
  await Promise.all(
    Array.from({ length: count }, async (_, lane) => {
      while (performance.now() < end) {
        await one(lane).catch(() => sleep(10));
      }
    }),
  );
}

/** Calls `some` with how many are due, to make `rate` a second. */
async function paced(ms: number, rate: number, some: (due: number) => void): Promise<void> {
  const began = performance.now();
  for (let done = 0, now = began; now - began < ms; now = performance.now()) {
    const due = Math.floor(((now - began) / 1_000) * rate) - done;
    some(Math.min(due, rate / 10));
    done += due;
    await sleep(PACE_MS);
  }
}

/** A connection that reconnects whenever it is closed, soon but not at once, as a determined attacker does. */
function stubborn(port: number, caller: Caller, tally: Count, ready?: (talker: Talker) => void) {
  let talker: Talker | undefined;
  let stopped = false;
  void (async () => {
    while (!stopped) {
      try {
        talker = await Talker.connect(port, caller);
        ready?.(talker);
        await talker.wire.closed;
        tally("cut");
      } catch (error) {
        tally(`refused ${error instanceof Error ? error.message : ""}`);
      }
      talker = undefined;
      await sleep(100);
    }
  })();
  return {
    now: () => talker,
    stop() {
      stopped = true;
      talker?.close();
    },
  };
}

function at<T>(list: readonly T[], index: number): T {
  const one = list[index % list.length];
  if (one === undefined) throw new Error("an empty list");
  return one;
}

function reply(tally: Count, answer: { ok: true } | { ok: false; error: { code: string; message: string } }) {
  tally(answer.ok ? "ok" : answer.error.message === "closed" ? "closed" : answer.error.code);
}

async function pings({ ms }: Order, callers: Caller[], port: number, tally: Count, session: boolean) {
  const ping = clientFrame(Buffer.alloc(125, 0x2e), 9);
  const many = Buffer.concat(Array.from({ length: 500 }, () => ping));
  await lanes(ms, callers.length, async (lane) => {
    const wire = await Wire.dial(port, at(callers, lane));
    if (wire.status !== 101) {
      tally(wire.status);
      await sleep(100);
      return;
    }
    if (session) wire.send("40");
    wire.tcp.pause();
    const end = performance.now() + ms;
    while (!wire.isClosed && performance.now() < end) {
      await wire.press(many);
      tally("pings", 500);
    }
    tally(wire.isClosed ? "cut" : "still open");
    wire.destroy();
  });
}

async function connects({ ms, port }: Order, callers: Caller[], tally: Count) {
  const many = clientFrame("40");
  const burst = Buffer.concat(Array.from({ length: 50 }, () => many));
  await lanes(ms, callers.length, async (lane) => {
    const wire = await Wire.dial(port, at(callers, lane));
    if (wire.status !== 101) {
      tally(wire.status);
      await sleep(100);
      return;
    }
    const end = performance.now() + ms;
    while (!wire.isClosed && performance.now() < end) {
      wire.write(burst);
      tally("connects", 50);
      await sleep(PACE_MS);
    }
    tally(wire.isClosed ? "cut" : "still open");
    wire.destroy();
    await sleep(20);
  });
}

/** Sends an event again and again, by 5 users on 20 connections, two at a time on each. */
async function asks({ port, ms, people }: Order, tally: Count, event: string, body: () => object) {
  const connections = Array.from({ length: 20 }, (_, index) => stubborn(port, at(people, index % 5), tally));
  await sleep(200);
  await lanes(ms, 40, async (lane) => {
    const talker = at(connections, lane).now();
    if (!talker) return sleep(20);
    reply(tally, await talker.emit(event, body()));
    await sleep(1);
  });
  for (const connection of connections) connection.stop();
}

export const FLOODS = {
  events: {
    title: "10,000 events a second over 20 connections of 5 users",
    async run({ port, ms, people }, tally) {
      const connections = Array.from({ length: 20 }, (_, index) =>
        stubborn(port, at(people, index % 5), tally),
      );
      let turn = 0;
      await paced(ms, 10_000, (due) => {
        for (let count = 0; count < due; count += 1) {
          turn += 1;
          const talker = at(connections, turn).now();
          if (talker) tally("events");
          void talker?.emit("room.read", { roomId: "0", seq: turn }).then((answer) => reply(tally, answer));
        }
      });
      for (const connection of connections) connection.stop();
    },
  },
  rest: {
    title: "REST reads of 4 users, 64 at a time",
    async run({ port, ms, people }, tally) {
      const agent = new Agent({ keepAlive: true });
      const paths = ["/api/rooms", "/api/users", "/api/rooms/0/messages?size=100", "/api/rooms/directory"];
      await lanes(ms, 64, async (lane) => {
        tally(codeOf(await ask(port, at(paths, lane), at(people, lane % 4), { agent })));
      });
      agent.destroy();
    },
  },
  slow: {
    title: "200 connections of 40 users that read nothing of a busy room",
    async run({ port, ms, people }, tally) {
      const readers = Array.from({ length: 200 }, (_, index) =>
        stubborn(port, at(people, 20 + (index % 40)), tally, ({ wire }) => {
          wire.tcp.pause();
          // A socket that reads nothing learns only from a write that it was cut.
          const timer = setInterval(() => wire.send("3"), 300);
          void wire.closed.then(() => clearInterval(timer));
        }),
      );
      const talkers = people.slice(0, 15).map((person) => stubborn(port, person, tally));
      const text = "x".repeat(3_900);
      let turn = 0;
      await paced(ms, 120, (due) => {
        for (let count = 0; count < due; count += 1) {
          turn += 1;
          void at(talkers, turn)
            .now()
            ?.emit("message", { roomId: "0", message: text, nonce: `slow-${turn}-${performance.now()}` })
            .then((answer) => reply(tally, answer));
        }
      });
      for (const connection of [...readers, ...talkers]) connection.stop();
    },
  },
  bodies: {
    title: "bodies of 300 KB, 50 at a time",
    async run({ port, ms, people, addresses }, tally) {
      const body = `{"name":"${"x".repeat(300_000)}"}`;
      await lanes(ms, 50, async (lane) => {
        const caller = lane % 2 === 0 ? at(people, lane) : { from: at(addresses, lane) };
        tally(codeOf(await ask(port, "/api/rooms", caller, { method: "POST", body })));
      });
    },
  },
  handshakes: {
    title: "handshakes as fast as they go, half of them without a session",
    async run({ port, ms, people, addresses }, tally) {
      await lanes(ms, 60, async (lane) => {
        const caller = lane % 2 === 0 ? at(people, lane) : { from: at(addresses, lane) };
        const talker = await Talker.connect(port, caller).catch((error: unknown) => {
          tally(error instanceof Error ? error.message : "");
          return undefined;
        });
        if (talker) tally("connected");
        talker?.close();
      });
    },
  },
  fragments: {
    title: "endless fragments of one byte on 50 connections",
    async run({ port, ms, people, addresses }, tally) {
      const start = clientFrame("4", 1);
      start[0] = 0x01;
      const one = clientFrame("2", 0);
      one[0] = 0x00;
      const burst = Buffer.concat(Array.from({ length: 200 }, () => one));
      await lanes(ms, 50, async (lane) => {
        const caller = lane % 2 === 0 ? at(people, lane) : { from: at(addresses, lane) };
        const wire = await Wire.dial(port, caller);
        if (wire.status !== 101) {
          tally(wire.status);
          await sleep(100);
          return;
        }
        if (lane % 2 === 0) wire.send("40");
        wire.write(start);
        const end = performance.now() + ms;
        while (!wire.isClosed && performance.now() < end) {
          wire.write(burst);
          tally("fragments", 200);
          await sleep(20);
        }
        tally(wire.isClosed ? "cut" : "still open");
        wire.destroy();
      });
    },
  },
  slowloris: {
    title: "500 connections that dribble their request's head",
    async run({ port, ms, addresses }, tally) {
      await lanes(ms, 500, async (lane) => {
        const line = await Line.open(port, at(addresses, lane));
        line.write("POST /api/login HTTP/1.1\r\nHost: x\r\n");
        const end = performance.now() + ms;
        while (!line.isClosed && performance.now() < end) {
          line.write("X");
          await sleep(250);
        }
        tally(line.isClosed ? "cut" : "still open");
        line.destroy();
        await sleep(100);
      });
    },
  },
  sync: {
    title: "`sync` of a heavy room, named 100 times, by 5 users on 20 connections",
    run(order, tally) {
      const cursor = { roomId: order.rooms.heavy, seq: 0, date: 0 };
      const body = { rooms: Array.from({ length: 100 }, () => cursor) };
      return asks(order, tally, "sync", () => body);
    },
  },
  pages: {
    title: "`sync` of a heavy room, named once, by 5 users on 20 connections",
    run(order, tally) {
      const seq = () => Math.floor(Math.random() * 40);
      return asks(order, tally, "sync", () => ({
        rooms: [{ roomId: order.rooms.heavy, seq: seq(), date: 0 }],
      }));
    },
  },
  longPages: {
    title: "REST pages of 100 long messages, 40 at a time, by 5 users",
    async run({ port, ms, people, rooms }, tally) {
      const agent = new Agent({ keepAlive: true });
      await lanes(ms, 40, async (lane) => {
        // Equal pages are read once.
        const before = Date.now() * 2 - Math.floor(Math.random() * 1e9);
        const path = `/api/rooms/${rooms.heavy}/messages?size=100&before=${before}`;
        tally(codeOf(await ask(port, path, at(people, lane % 5), { agent })));
      });
      agent.destroy();
    },
  },
  lists: {
    title: "lists of 60 rooms whose last messages are long, 40 at a time, by 5 users",
    async run({ port, ms, people }, tally) {
      const agent = new Agent({ keepAlive: true });
      await lanes(ms, 40, async (lane) => {
        tally(codeOf(await ask(port, "/api/rooms", at(people, lane % 5), { agent })));
      });
      agent.destroy();
    },
  },
  joins: {
    title: "`room.join` of a heavy room that they are in, by 5 users on 20 connections",
    run: (order, tally) => asks(order, tally, "room.join", () => ({ roomId: order.rooms.heavy })),
  },
  transcripts: {
    title: "transcripts of 3,000 messages, 30 at a time, by 3 users",
    async run({ port, ms, people, rooms }, tally) {
      await lanes(ms, 30, async (lane) => {
        const path = `/api/rooms/${rooms.long}/transcript`;
        tally(codeOf(await ask(port, path, at(people, lane % 3))));
      });
    },
  },
  logins: {
    title: "log-ins with one account's right password, 210 at a time, from 4 addresses",
    async run({ port, ms, owner, addresses }, tally) {
      const agent = new Agent({ keepAlive: true });
      await lanes(ms, 210, async (lane) => {
        const caller = { from: at(addresses, lane % 4) };
        tally(codeOf(await ask(port, "/api/login", caller, { method: "POST", body: owner, agent })));
      });
      agent.destroy();
    },
  },
  pings: {
    title: "masked pings on 8 connections of 4 users that read nothing",
    run: (order, tally) =>
      pings(
        order,
        Array.from({ length: 8 }, (_, index) => at(order.people, index % 4)),
        order.port,
        tally,
        true,
      ),
  },
  barePings: {
    title: "masked pings on 8 connections without a session that read nothing",
    run: (order, tally) =>
      pings(
        order,
        Array.from({ length: 8 }, (_, index) => ({ from: at(order.addresses, index) })),
        order.port,
        tally,
        false,
      ),
  },
  connects: {
    title: "`40` again and again on 20 connections without a session",
    run: (order, tally) =>
      connects(
        order,
        Array.from({ length: 20 }, (_, index) => ({ from: at(order.addresses, index) })),
        tally,
      ),
  },
  uploads: {
    title: "pictures of 12 megapixels and files of 2 MB, 100 at a time, by 5 users",
    async run({ port, ms, people }, tally) {
      const picture = blackPng(4_000, 3_000);
      const file = Buffer.alloc(2_000_000, 7);
      await lanes(ms, 100, async (lane) => {
        const headers = { "x-room-id": "0", "x-file-name": "x", "content-type": "application/octet-stream" };
        const body = lane % 4 === 0 ? picture : file;
        const asked = { method: "POST", body, headers, timeoutMs: 60_000 };
        tally(codeOf(await ask(port, "/api/files", at(people, lane % 5), asked)));
      });
    },
  },
  chat: {
    title: "valid messages just under the limit: 20 users, 9 a second each, in General",
    async run({ port, ms, people }, tally) {
      const talkers = people.slice(0, 20).map((person) => stubborn(port, person, tally));
      let turn = 0;
      await paced(ms, 180, (due) => {
        for (let count = 0; count < due; count += 1) {
          turn += 1;
          void at(talkers, turn)
            .now()
            ?.emit("message", {
              roomId: "0",
              message: `chat ${turn}`,
              nonce: `c${turn}-${performance.now()}`,
            })
            .then((answer) => reply(tally, answer));
        }
      });
      for (const connection of talkers) connection.stop();
    },
  },
} satisfies Record<string, Flood>;

export type FloodName = keyof typeof FLOODS;

if (process.send) {
  process.on("disconnect", () => process.exit(0));
  process.on("message", (order: Order) => {
    const tally: Tally = {};
    const count: Count = (what, by = 1) => {
      tally[what] = (tally[what] ?? 0) + by;
    };
    const flood: Flood = FLOODS[order.flood];
    void flood.run(order, count).then(
      () => process.send?.(tally),
      (error: unknown) => process.send?.({ ...tally, [String(error)]: 1 }),
    );
  });
}
