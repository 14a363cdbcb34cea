import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { root } from "../prepare.mjs";
import { mutate } from "../prove/mutations.ts";
import { labelOf, turnsOf } from "./ablation.ts";
import { clientFrame, findMark, idAt, Ledger, markedText, readFrames, reconcile, timeAt } from "./frames.ts";
import { wordy, type Stream } from "./frames.ts";
import type { LoadResult } from "./generator.ts";
import { Inflater } from "./inflate.ts";
import { pageOf } from "./report.ts";
import { judge, load, merged, stage } from "./run.ts";
import { percentile, spread, summarise } from "./statistics.ts";
import { sendProgram, SYSTEMS, TIERS, type SystemName } from "./systems.ts";
import type { Pass } from "./tables.ts";
import { MEASURES, TECHNIQUES, type MeasureName } from "./techniques.ts";
import { order } from "./workloads.ts";

/** A server's text frame. */
function serverFrame(text: string): Buffer {
  const frame = clientFrame(text);
  const head = text.length < 126 ? 2 : text.length < 65_536 ? 4 : 10;
  frame[1] = (frame[1] ?? 0) & 0x7f;
  return Buffer.concat([frame.subarray(0, head), frame.subarray(head + 4)]);
}

describe("the frame reader", () => {
  const texts = ["", "short", "x".repeat(200), "y".repeat(70_000), "end"];
  const wire = Buffer.concat(texts.map(serverFrame));

  it.each([1, 2, 3, 7, 125, 4_096, wire.length])("reads frames that come in pieces of %i bytes", (size) => {
    const heard: string[] = [];
    const stream: Stream = { rest: null };
    for (let at = 0; at < wire.length; at += size) {
      const chunk = Buffer.from(wire.subarray(at, at + size));
      readFrames(stream, chunk, chunk.length, (_stream, opcode, buffer, start, end) => {
        expect(opcode).toBe(1);
        heard.push(buffer.toString("latin1", start, end));
      });
      // The buffer is everybody's: what waits for its rest must not lie in it.
      chunk.fill(0);
    }
    expect(heard).toEqual(texts);
    expect(stream.rest).toBeNull();
  });

  it("refuses a fragmented and a masked frame", () => {
    const fragment = serverFrame("half");
    fragment[0] = 0x01;
    expect(() => readFrames({ rest: null }, fragment, fragment.length, () => undefined)).toThrow(
      "fragmented",
    );
    const masked = clientFrame("masked");
    expect(() => readFrames({ rest: null }, masked, masked.length, () => undefined)).toThrow("masked");
  });

  it("finds a message's number and time in whatever a server made of it", () => {
    const told = Buffer.from(`42["message",{"message":"${markedText(1234567, 9876543210123, 80)}","seq":1}]`);
    const at = findMark(told, 0, told.length);
    expect([idAt(told, at), timeAt(told, at)]).toEqual([1234567, 9876543210123]);
    expect(findMark(Buffer.from('42["user.connected",[]]'), 0, 23)).toBe(-1);
  });
});

describe("a compressed connection", () => {
  it("is read as what was said, over more than a window of it", async () => {
    const texts = Array.from({ length: 400 }, (_, index) =>
      markedText(index, index, index % 50 === 0 ? 5_000 : 200, wordy(5_000, Math.random)),
    );
    const http = createServer();
    const server = new WebSocketServer({ server: http, perMessageDeflate: { threshold: 0 } });
    server.on("connection", (socket) => {
      for (const text of texts) socket.send(text);
    });
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    const { port } = http.address() as AddressInfo;
    const socket = connect(port, "127.0.0.1");
    socket.write(
      "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    );
    const inflater = new Inflater();
    const heard: string[] = [];
    const stream: Stream = { rest: null };
    let answer = "";
    let bytes = 0;
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      // The answer to the upgrade comes first, alone or with frames behind it.
      const start = answer === "" ? chunk.indexOf("\r\n\r\n") + 4 : 0;
      answer ||= chunk.toString("latin1", 0, start);
      bytes += chunk.length - start;
      readFrames(
        stream,
        chunk.subarray(start),
        chunk.length - start,
        (_stream, opcode, buffer, from, to, compressed) => {
          if (opcode !== 1) return;
          expect(compressed).toBe(true);
          heard.push(inflater.next(buffer.subarray(from, to)).toString());
        },
      );
      if (heard.length === texts.length) break;
    }
    server.close();
    http.close();
    expect(answer).toContain("Sec-WebSocket-Extensions: permessage-deflate");
    expect(heard).toEqual(texts);
    expect(bytes).toBeLessThan(texts.join("").length / 2);
  });
});

describe("a technique that is taken out", () => {
  it.each(Object.entries(TECHNIQUES))("%s: changes the sources as they are now", (_name, technique) => {
    const { edits = [], env = {} } = technique;
    expect(edits.length + Object.keys(env).length).toBeGreaterThan(0);
    const config = readFileSync(join(root, "server/src/config.ts"), "utf8");
    for (const variable of Object.keys(env)) expect(config).toContain(variable);
    for (const edit of edits) {
      const source = readFileSync(join(root, "server/src", edit.file), "utf8");
      expect(mutate(edit)).toBe(source.replace(edit.from, () => edit.to));
      expect(mutate(edit)).not.toBe(source);
    }
    // One edit of a file at most: each starts from the source.
    expect(new Set(edits.map(({ file }) => file)).size).toBe(edits.length);
  });
  it.each(Object.entries(TECHNIQUES))("%s: has a turn for all that it is measured on", (name, { on }) => {
    for (const measure of on) {
      const { ablation, options = {} } = MEASURES[measure];
      const turns = turnsOf(ablation);
      for (const without of [undefined, name]) {
        const found = turns.filter(({ variant }) => variant.without === without && !variant.connections);
        expect(found).toHaveLength(1);
        for (const [option, value] of Object.entries(options))
          expect(found[0]?.values(option)).toContain(value);
      }
    }
  });
  it("is refused where the sources have changed", () => {
    const edit = { file: "delivery.ts", from: "what is not there", to: "" };
    expect(() => mutate(edit)).toThrow("delivery.ts has 0 times");
  });
});

describe("a system's job", () => {
  const town = {
    roomIds: ["1", "2"],
    members: [0, 0, 0, 1, 1].map((room) => ({ rooms: [room] })),
  };
  const systems: SystemName[] = [
    "hubbub",
    "ws",
    "ws tier 2",
    "ws tier 3",
    "socket.io classic tier 1",
    "socket.io classic",
    "socket.write",
    ...(sendProgram() ? (["C send"] as const) : []),
  ];

  it.each(systems)("is done by %s, to the last message", { timeout: 60_000 }, async (name) => {
    const at = await stage(name, { town });
    try {
      const loaded = await load(at, order(50, { warmSeconds: 1, warmRate: 50, measureSeconds: 1 }));
      // 50 messages into a room of three and 50 into one of two.
      const account = { expected: 250, received: 250, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };
      expect(loaded).toMatchObject({ sent: 100, refused: 0, unanswered: 0, reconciliation: account });
      const tier = TIERS[name] ?? 0;
      expect(loaded.answerMs?.count ?? 0).toBe(tier === 3 ? 50 : 0);
      const { redis } = at.system;
      const stored = [await redis?.zcard("room:1"), await redis?.zcard("room:2")];
      expect(stored).toEqual(tier >= 2 ? [50, 50] : [0, 0]);
      expect(await redis?.scard("online_users")).toBe(tier === 3 ? 5 : 0);
    } finally {
      await at.stop();
    }
  });

  it("has `ws` know its people in tier 3, and let members alone write", { timeout: 60_000 }, async () => {
    const system = await SYSTEMS["ws tier 3"]({ town });
    const url = `ws://${system.host}:${system.ports[0]}/`;
    const come = (cookie: string) => {
      const heard: string[] = [];
      const socket = new WebSocket(url, { headers: { cookie } });
      socket.on("message", (text: Buffer) => heard.push(text.toString()));
      const isThere = async (what: string) => {
        await expect.poll(() => heard.find((text) => text.includes(what)), { timeout: 10_000 }).toBeDefined();
        return JSON.parse(heard.find((text) => text.includes(what)) ?? "") as unknown;
      };
      return { socket, heard, isThere };
    };
    try {
      const nobody = new WebSocket(url, { headers: { cookie: "hubbub=s%3Amade.up" } });
      const refusal = await new Promise<Error>((resolve) => void nobody.once("error", resolve));
      expect(refusal.message).toContain("401");

      const one = come(system.members[0]?.cookie ?? "");
      await one.isThere("ready");
      const four = come(system.members[3]?.cookie ?? "");
      await four.isThere("ready");
      const user = { id: "4", username: "member000004" };
      expect(await one.isThere('user.connected":{"id":"4"')).toEqual({ "user.connected": user });

      four.socket.send(JSON.stringify({ id: 7, roomId: "1", message: "not mine", nonce: "a" }));
      expect(await four.isThere('"answer":7')).toEqual({ answer: 7, ok: false, value: null });
      four.socket.send(JSON.stringify({ id: 8, roomId: "2", message: "mine", nonce: "b" }));
      const told = { answer: 8, ok: true, value: { roomId: "2", from: "4", message: "mine", nonce: "b" } };
      expect(await four.isThere('"answer":8')).toMatchObject(told);
      const { value } = (await four.isThere('"answer":8')) as { value: object };
      expect(await four.isThere('{"message":')).toEqual({ message: value });
      expect(await system.redis?.zrange("room:2", "0", "-1")).toEqual([JSON.stringify(value)]);
      expect(await system.redis?.exists("room:1")).toBe(0);

      four.socket.terminate();
      expect(await one.isThere("user.disconnected")).toEqual({ "user.disconnected": user });
      await expect.poll(() => system.redis?.smembers("online_users")).toEqual(["1"]);
      expect(one.heard.join("")).not.toContain("mine");
      one.socket.terminate();
    } finally {
      await system.stop();
    }
  });
});

describe("a percentile", () => {
  it("is a value that was measured, by nearest rank", () => {
    const values = Array.from({ length: 100 }, (_, index) => index + 1);
    expect([0, 0.5, 0.99, 1].map((p) => percentile(values, p))).toEqual([1, 50, 99, 100]);
    expect(percentile([7], 0.99)).toBe(7);
    expect(percentile([], 0.5)).toBeNaN();
    expect(summarise([3, 1, 2])).toMatchObject({ count: 3, min: 1, p50: 2, max: 3, mean: 2 });
    expect(summarise([])).toBeNull();
  });

  it("has a median between two middle values, and passes over what was not measured", () => {
    expect(spread([4, 1, Number.NaN, 3, 2])).toEqual({ runs: 4, min: 1, median: 2.5, max: 4 });
    expect(spread([])).toBeNull();
  });
});

describe("the account", () => {
  const sent = [0, 1, 0, 1, 0, 0];
  /** Two members of room 0 and one of both, who heard everything, but for `change`. */
  function account(change: (heard: number[][]) => void) {
    const rooms = [[0], [0], [0, 1]];
    const heard = [
      [0, 2, 4, 5],
      [0, 2, 4, 5],
      [0, 1, 2, 3, 4, 5],
    ];
    change(heard);
    const members = rooms.map((theirs, index) => {
      const ledger = new Ledger(sent.length);
      for (const id of heard[index] ?? []) ledger.add(id);
      return { rooms: theirs, ledger };
    });
    return reconcile(members, sent);
  }
  const clean = { expected: 14, received: 14, lost: 0, duplicated: 0, unknown: 0, disordered: 0 };

  it("balances where everybody heard everything once and in one order", () => {
    expect(account(() => undefined)).toEqual(clean);
  });
  it("shows a loss", () => {
    expect(account((heard) => heard[1]?.splice(1, 1))).toEqual({ ...clean, received: 13, lost: 1 });
  });
  it("shows a duplicate", () => {
    expect(account((heard) => heard[0]?.push(2))).toEqual({ ...clean, duplicated: 1 });
  });
  it("shows two orders of one room", () => {
    expect(account((heard) => (heard[0] = [5, 4, 2, 0]))).toEqual({ ...clean, disordered: 1 });
  });
  it("shows a message that was not theirs, and one that nobody sent", () => {
    expect(account((heard) => heard[0]?.push(1))).toMatchObject({ lost: 0, unknown: 1 });
    expect(account((heard) => heard[0]?.push(99))).toMatchObject({ lost: 0, unknown: 1 });
  });
});

describe("a load that several generators heard", () => {
  const time = (ms: number) => ({ count: 1, min: ms, p50: ms, p90: ms, p99: ms, max: ms, mean: ms });
  function heard(deliveries: number, ms: number, more: Partial<LoadResult> = {}): LoadResult {
    const account = { expected: deliveries, received: deliveries, lost: 0 };
    return {
      seconds: 5,
      sent: 5,
      deliveries,
      offered: deliveries,
      bytesPerDelivery: 300,
      deliveriesPerRead: 1,
      latencyMs: time(ms),
      answerMs: null,
      refused: 0,
      unanswered: 0,
      reconciliation: { ...account, duplicated: 0, unknown: 0, disordered: 0 },
      cpuUs: { replica: 30, redis: 10 },
      cpuUsAll: 40,
      busy: { replica: 0.5 },
      rss: {},
      foreign: 0,
      stolen: 0,
      generator: { busy: 0.3, latenessMs: time(1), foreign: 0.6 },
      drainMs: ms,
      otherFrames: 0,
      ...more,
    };
  }

  it("spreads the system's CPU over what all of them heard, and has the latency of the latest", () => {
    const all = merged([heard(100, 10), heard(200, 30), heard(100, 20, { deliveriesPerRead: 2 })]);
    expect(all).toMatchObject({
      deliveries: 400,
      offered: 400,
      cpuUs: { replica: 7.5, redis: 2.5 },
      cpuUsAll: 10,
      latencyMs: { p99: 30 },
      drainMs: 30,
      reconciliation: { expected: 400, received: 400, lost: 0 },
    });
    expect(all.deliveriesPerRead).toBeCloseTo(400 / 350);
    expect(all.generator.foreign).toBeCloseTo(0);
  });
  it("is refused where hardly anything arrived in time", () => {
    const far = judge(heard(100, 10, { offered: 10_000 }));
    expect(far.verdict).toBe("refused");
    expect(far.reasons).toEqual(["only 1.0 % arrived in the measured time, the rest later"]);
  });
  it("is refused where all generators together are above the limit of one", () => {
    expect(judge(heard(100, 10)).verdict).toBe("ok");
    const [one, two, three] = [heard(100, 10), heard(100, 10), heard(100, 10)];
    expect(judge(merged([one, two, three])).verdict).toBe("refused");
  });
  it("is failed where one of them missed something", () => {
    const lossy = heard(100, 10);
    lossy.reconciliation = { ...lossy.reconciliation, received: 99, lost: 1 };
    expect(judge(merged([heard(100, 10), lossy]))).toEqual({ verdict: "failed", reasons: ["1 lost"] });
  });
});

describe("the results page", () => {
  const host = { cpu: "any", cores: 2, memory: 2 ** 33, kernel: "6", node: "20" };
  const [began, ended] = ["2026-01-01T10:00:00.000Z", "2026-01-01T10:30:00.000Z"];
  function page(runs: Pick<Pass["runs"][number], "workload" | "system" | "options" | "figures">[]): string {
    const common = { verdict: "ok" as const, reasons: [], at: began, commit: "abc" };
    return pageOf({ began, ended, host, absent: [], runs: runs.map((run) => ({ ...common, ...run })) });
  }
  function calibration(limit: number, end: string | null) {
    const step = { rate: 1, perSecond: limit, perRead: 1, generatorBusy: 0.7, lateP99Ms: 1, serverBusy: 0.7 };
    const steps = [{ ...step, perSecond: limit / 2 }, step];
    const figures = { members: 500, limit, end, steps };
    return { workload: "calibration", system: "null", options: { window: 0 }, figures } as const;
  }

  it("says of nothing that it was measured where nothing was", () => {
    const empty = page([]);
    expect(empty).toContain("It was not calibrated.");
    expect(empty).not.toMatch(/\| (yes|\*\*no\*\*) \|/);
    expect(empty).not.toContain("NaN");
  });
  it("has the app's targets missed and met by the median of its runs, and a jump by the worst", () => {
    const time = (ms: number) => ({ count: 1, min: ms, p50: ms, p90: ms, p99: ms, max: ms, mean: ms });
    const run = (cachedMs: number, movedPx: number) => {
      const figures = {
        script: { files: 1, plain: 600_000, gzip: 170_001, brotli: 140_000 },
        switchMs: { cached: time(cachedMs), cold: time(200) },
        busy: {
          rate: 100,
          framesPerSecond: 50,
          longestFrameMs: 60,
          longestTaskMs: null,
          keyMs: time(20),
        },
        scroll: { messages: 10_000, seen: 10_000, seconds: 40, mostRows: 360, mostNodes: 3_000, movedPx },
      };
      return { workload: "app", system: "hubbub", options: {}, figures } as const;
    };
    const rows = page([run(49, 0), run(51, 0), run(50, 2)])
      .split("\n")
      .filter((row) => row.startsWith("| the app"))
      .map((row) => row.split(" | ").at(-1));
    expect(rows).toEqual(["**no** |", "yes |", "yes |", "yes |", "**no** |"]);
  });
  type Told = Pass["runs"][number];
  function hot(system: SystemName, rate: number, cpuUs: number, more: Partial<Told> = {}): Told {
    const figures = { cpuUs, redisUs: 0.2, p50Ms: 1, p99Ms: 2, deliveries: 1, offered: 1 };
    const told = { verdict: "ok" as const, reasons: [], at: began, commit: "abc" };
    return { ...told, workload: "hot room", system, options: { members: 500, rate }, figures, ...more };
  }
  const pageWith = (runs: Told[]) => pageOf({ began, ended, host, absent: [], runs });

  it("says of every system which job it does, and why a run was refused", () => {
    const reasons = ["the generator used 97 % of its core"];
    const all = pageWith([
      hot("hubbub", 100, 6),
      hot("hubbub", 400, 2),
      hot("nchan", 100, 8),
      hot("nchan", 400, 3, { verdict: "refused", reasons }),
      hot("ws tier 3", 400, 9),
    ]);
    expect(all).toMatch(/\| 400 \| hubbub \| 3 \| 2\.00 \|/);
    expect(all).toMatch(/\| 400 \| ws tier 3 \| 3 \| 9\.00 \|/);
    expect(all).toMatch(/\| 400 \| nchan \| 1 \| refused \| .*\| 0 of 1; 1 refused: the generator used 97 %/);
    expect(all).toContain("| nginx with nchan | 1 | 8.00 | refused | — | — |");
    const target = all.split("\n").find((row) => row.includes("beside nginx with nchan"));
    expect(target).toContain(`at 400 refused: ${reasons[0]}; at 100: 6.00 µs and 8.00 µs | yes |`);
    // 0.2 µs of Redis for each of 500 deliveries.
    expect(all).toContain("| 400 | the hot room of 500 | 100 |");
  });
  it("has a technique gain only where it is cheaper in every turn", () => {
    const runs = (without: string | undefined, costs: number[], verdict: Told["verdict"] = "ok") =>
      costs.map((cpuUs) => {
        const options = { members: 500, rate: 400, ...(without && { without }) };
        return hot("hubbub", 400, cpuUs, { workload: "ablation", options, verdict });
      });
    const rows = (told: Told[]) =>
      pageWith(told)
        .split("\n")
        .filter((row) => row.includes("hot room, 400 messages a second: µs per delivery"))
        .filter((row) => !row.startsWith("| messages collected"))
        .map((row) => row.split(" | "))
        .map((cells) => [cells[0]?.slice(2), ...cells.slice(-2)].join(" | "));
    const all = rows([
      ...runs(undefined, [2, 2.2, 2.1]),
      ...runs("encoded once", [2.9, 3.1, 3.15]),
      ...runs("gathered Redis writes", [2.2, 2.1, 2.4]),
      ...runs("direct write", [15, 14, 16], "failed"),
    ]);
    expect(all).toEqual([
      "batches | — | not measured |",
      "direct write | — | gains: without it the replica breaks down |",
      "encoded once | 1.45 times | gains |",
      "stored together | — | not measured |",
      "gathered Redis writes | 1.10 times | nothing beyond chance |",
    ]);
  });
  it("has a row for all that each technique is measured on, and its figure from there", () => {
    const measured = Object.entries(TECHNIQUES).flatMap(([without, { on }], index) =>
      on.map((measure) => ({ without, measure, cost: 101 + index })),
    );
    const run = (measure: MeasureName, cost: number, without?: string): Told => {
      const { ablation, options, figure, per = 1 } = MEASURES[measure];
      return hot("hubbub", 0, 1, {
        workload: labelOf(ablation),
        options: { ...options, members: 500, ...(without && { without }) },
        figures: { [figure]: cost * per },
      });
    };
    const all = pageWith([
      ...[...new Set(measured.map(({ measure }) => measure))].map((measure) => run(measure, 100)),
      ...measured.map(({ without, measure, cost }) => run(measure, cost, without)),
    ]).split("\n");
    for (const { without, measure, cost } of measured) {
      const told = `| ${without} | ${measure}: ${MEASURES[measure].unit} | 100 | ${cost} |`;
      expect(all.filter((row) => row.startsWith(told))).toHaveLength(1);
    }
  });
  it("tells the generator's limit as least, median and most of the calibrations", () => {
    const three = [120_000, 100_000, 110_000].map((limit) => calibration(limit, "it was busy"));
    expect(page(three)).toContain(
      "| one message | 100,000 / **110,000** / 120,000 | 1.00 | 70 % | it was busy |",
    );
  });
});
