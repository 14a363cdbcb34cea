import { afterAll, beforeAll, expect, it } from "vitest";
import type { Message, Reply } from "../protocol.ts";
import { PATIENCE_MS, both, person, replicas, until, unwrap, type House } from "../testing.ts";

let house: House;

beforeAll(async () => {
  house = await replicas(2);
});

afterAll(() => house.close());

it("a connected client hears everything from its connect event on, also on a replica that was empty", async () => {
  for (const replica of both(house)) {
    const ana = await person(replica);
    ana.close();
    for (let round = 0; round < 15; round += 1) {
      const socket = ana.browser.socket();
      const heard: Message[] = [];
      socket.on("message", (message) => heard.push(message));
      const sent = new Promise<Message>((resolve, reject) => {
        socket.once("connect", () => {
          const nonce = `first-${socket.id ?? ""}`;
          socket.emit("message", { roomId: "0", message: "first", nonce }, (reply: Reply<Message>) => {
            if (reply.ok) resolve(reply.value);
            else reject(new Error(reply.error.code));
          });
        });
      });
      socket.connect();
      const stored = await sent;
      await until(() => heard.length > 0, PATIENCE_MS, `round ${round} to be heard`);
      expect(heard).toEqual([stored]);
      socket.disconnect();
    }
  }
});

it("messages that one person sends to a new private room without waiting are stored in send order", async () => {
  const [left, right] = both(house);
  for (let round = 0; round < 5; round += 1) {
    const [ana, ben] = [await person(left), await person(right)];
    const roomId = `${ana.user.id}:${ben.user.id}`;
    const texts = Array.from({ length: 60 }, (_, index) => `${index}`);
    const sent = await Promise.all(texts.map((text) => ana.say(roomId, text)));
    expect(sent.toSorted((one, other) => one.date - other.date).map(({ message }) => message)).toEqual(texts);
    await until(() => ben.messages.length >= texts.length);
    expect(ben.messages.map(({ message }) => message)).toEqual(texts);
    ana.close();
    ben.close();
  }
});

it("a forged copy of an announcement with another text reaches nobody", async () => {
  const [left, right] = both(house);
  const [ana, ben] = [await person(left), await person(right)];
  const stored = await ana.say("0", "the original");
  await ben.hears("the original");
  const copies = [
    { ...stored, message: "copied" },
    { ...stored, message: "copied ahead", seq: stored.seq + 1, date: stored.date + 1 },
    stored,
  ];
  for (const data of copies) {
    const text = JSON.stringify({ serverId: "elsewhere", type: "message", data });
    await house.redis.publish(house.keys.roomChannel("0"), text);
  }
  const next = await ana.say("0", "the barrier");
  expect(next.seq).toBe(stored.seq + 1);
  await ben.hears("the barrier");
  expect(ben.messages.map(({ message }) => message)).toEqual(["the original", "the barrier"]);
  ana.close();
  ben.close();
});

it("an event that does not exist is answered as invalid", async () => {
  const ana = await person(both(house)[0]);
  const socket = ana.socket as unknown as {
    timeout: (ms: number) => { emitWithAck: (event: string, body: unknown) => Promise<Reply<null>> };
  };
  const reply = await socket.timeout(PATIENCE_MS).emitWithAck("no.such.event", {});
  expect(reply).toMatchObject({ ok: false, error: { code: "invalid" } });
  unwrap(await ana.socket.timeout(PATIENCE_MS).emitWithAck("sync", { rooms: [] }));
  ana.close();
});
