import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { pino } from "pino";
import { SHED } from "./limits.ts";
import { Load, type Shed } from "./load.ts";
import { createMetrics } from "./metrics.ts";
import type { Failure } from "./protocol.ts";
import { createSecurity } from "./security.ts";
import { Browser, both, person, replicas, type House, type Person } from "./testing.ts";

const KINDS: Shed[] = ["presence", "history", "handshakes", "sends"];

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe("the delay of the event loop", () => {
  /** A load with a clock that the test controls: `late` is how late each of its next ticks is. */
  function clocked() {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    let now = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now);
    const metrics = createMetrics();
    const load = new Load({ rateLimits: true }, metrics, createSecurity(metrics, pino({ level: "silent" })));
    load.start();
    const run = (late: number, ticks = 10) => {
      for (let tick = 0; tick < ticks; tick += 1) {
        now += 100 + late;
        vi.advanceTimersByTime(100);
      }
    };
    return { run, shed: () => KINDS.filter((kind) => load.sheds(kind)), load, metrics };
  }

  it("sheds nothing while it is short, nor for a single pause", () => {
    const { run, shed } = clocked();
    run(20);
    expect(shed()).toEqual([]);
    run(700, 1);
    expect(shed()).toEqual([]);
  });

  it.each(KINDS)("sheds %s and everything less important, and recovers within a second", async (kind) => {
    const { run, shed, load, metrics } = clocked();
    run(SHED[kind].delayMs + 1);
    expect(shed()).toEqual(KINDS.slice(0, KINDS.indexOf(kind) + 1));
    expect(load.isOverloaded).toBe(kind === "sends");
    const { values } = await metrics.sheds.get();
    const counted = values.filter(({ value }) => value > 0).map(({ labels }) => labels["kind"]);
    expect(counted).toEqual(KINDS.slice(0, KINDS.indexOf(kind) + 1));
    run(0);
    expect(shed()).toEqual([]);
  });
});

describe("the memory in use", () => {
  it.each(KINDS)("sheds %s and everything less important", (kind) => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const { heapTotal, arrayBuffers, rss } = process.memoryUsage();
    const limit = 1_000_000_000;
    vi.spyOn(process, "constrainedMemory").mockReturnValue(limit);
    const usage = { heapUsed: limit * (SHED[kind].memory + 0.01), external: 0, heapTotal, arrayBuffers, rss };
    vi.spyOn(process, "memoryUsage").mockReturnValue(usage);
    const metrics = createMetrics();
    const load = new Load({ rateLimits: true }, metrics, createSecurity(metrics, pino({ level: "silent" })));
    load.start();
    vi.advanceTimersByTime(1_000);
    expect(KINDS.filter((one) => load.sheds(one))).toEqual(KINDS.slice(0, KINDS.indexOf(kind) + 1));
    load.close();
  });
});

describe("an overloaded replica", () => {
  let house: House;
  let mary: Person;
  beforeAll(async () => {
    house = await replicas(2);
    mary = await person(both(house)[0], "mary");
  });
  afterAll(() => house.close());

  const shedding = (...kinds: Shed[]) =>
    vi.spyOn(Load.prototype, "sheds").mockImplementation((kind) => kinds.includes(kind));

  it("refuses history, and still takes messages and connections", async () => {
    shedding("presence", "history");
    const page = await mary.browser.get<Failure>("/api/rooms/0/messages");
    expect([page.status, page.body.code]).toEqual([503, "unavailable"]);
    expect(page.body.retryAfterMs).toBeGreaterThanOrEqual(1_000);
    expect((await mary.browser.get("/api/rooms")).status).toBe(503);
    expect((await mary.browser.get("/api/rooms/0/transcript")).status).toBe(503);
    const cursor = { roomId: "0", seq: 0, date: 0 };
    const synced = await mary.socket.emitWithAck("sync", { rooms: [cursor] });
    expect(synced).toMatchObject({ ok: false, error: { code: "unavailable" } });
    const joined = await mary.socket.emitWithAck("room.join", { roomId: "0" });
    expect(joined).toMatchObject({ ok: false, error: { code: "unavailable" } });
    const friend = await person(both(house)[0], "friend");
    await friend.say("0", "still heard");
    await mary.hears("still heard");
  });

  it("refuses handshakes before the upgrade, and keeps open connections", async () => {
    shedding("presence", "history", "handshakes");
    const late = mary.browser.socket();
    const refused = new Promise((resolve) => late.once("connect_error", resolve));
    late.connect();
    await refused;
    await mary.say("0", "still said");
    await mary.hears("still said");
  });

  it("refuses messages last, to be retried, and log-outs never", async () => {
    const [left, right] = both(house);
    const leaving = await person(left, "leaving");
    const shed = shedding(...KINDS);
    vi.spyOn(Load.prototype, "isOverloaded", "get").mockReturnValue(true);
    await expect(mary.say("0", "later", "the-nonce")).rejects.toThrow("unavailable");
    expect((await new Browser(left).get("/readyz")).status).toBe(503);
    expect((await leaving.browser.post("/api/logout")).status).toBe(204);
    shed.mockRestore();
    vi.restoreAllMocks();
    expect((await mary.say("0", "later", "the-nonce")).message).toBe("later");
    expect((await new Browser(right).get("/readyz")).status).toBe(200);
  });

  it("collects presence, and tells it once the load is over", async () => {
    const [left] = both(house);
    const heard = new Promise<string[]>((resolve) => {
      mary.socket.on("user.connected", (users) => {
        const names = users.map(({ username }) => username);
        if (names.includes("newcomer")) resolve(names);
      });
    });
    const shed = shedding("presence");
    const newcomer = await person(left, "newcomer");
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    shed.mockRestore();
    expect(await heard).toContain("newcomer");
    newcomer.close();
  });
});
