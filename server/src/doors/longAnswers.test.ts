import { randomBytes } from "node:crypto";
import { request, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../config.ts";
import { BOUNDS } from "../limits.ts";
import type { Room, UploadedFile } from "../protocol.ts";
import { Log } from "../store/log.ts";
import { person, replicas, unwrap, type House, type Person } from "../testing.ts";

/** More than fits into the buffers between a server and a client that does not read. */
const LONG = 40_000_000;

let house: House;
let ann: Person;
let room: Room;
let file: UploadedFile;

beforeAll(async () => {
  house = await replicas(1, { FILES_MAX: String(LONG), FILES_USER_MAX: String(LONG) });
  ann = await person(house.replicas[0]!);
  const asked = { name: "Long answers", kind: "open" };
  room = (await ann.browser.post<Room>("/api/rooms", asked)).body;
  const { address, cookie } = ann.browser;
  const response = await fetch(`${address}/api/files`, {
    method: "POST",
    headers: { origin: address, cookie, "x-file-name": "long.bin", "x-room-id": room.id },
    body: randomBytes(LONG),
  });
  file = (await response.json()) as UploadedFile;
  const sent = { roomId: room.id, message: "", nonce: "long-file", files: [{ id: file.id }] };
  unwrap(await ann.socket.emitWithAck("message", sent));
  const log = new Log(house.redis, house.keys, { ...readConfig(house.env), serverId: "loads" });
  const text = "long ".repeat(400);
  const old = Array.from({ length: 500 }, (_, date) => ({ from: ann.user.id, message: text, date }));
  for (let loaded = 0; loaded * text.length < LONG; loaded += old.length) await log.load(room.id, old);
}, 60_000);

afterAll(async () => {
  ann.close();
  await house.close();
});

/** Asks as this person, and reads nothing yet. */
async function begun({ browser }: Person, path: string): Promise<IncomingMessage> {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { cookie: browser.cookie };
    request(`${browser.address}${path}`, { headers, agent: false }, resolve).on("error", reject).end();
  });
  expect(answer.statusCode).toBe(200);
  return answer;
}

/** Reads the rest; whether it came whole. */
async function isWhole(answer: IncomingMessage): Promise<boolean> {
  try {
    for await (const _ of answer);
    return answer.complete;
  } catch {
    return false;
  }
}

describe.concurrent("an answer that is still on its way", () => {
  const ends: Record<string, (reader: Person) => Promise<unknown>> = {
    "its reader logs out": ({ browser }) => browser.post("/api/logout", {}),
    "its reader's account is deleted": ({ browser }) =>
      browser.fetch("DELETE", "/api/me", { password: "correct horse", messages: "keep" }),
    "its reader is removed from the room": ({ user }) =>
      ann.browser.fetch("DELETE", `/api/rooms/${room.id}/members/${user.id}`),
  };
  const paths = { file: () => `/api/files/${file.id}`, transcript: () => `/api/rooms/${room.id}/transcript` };

  it.each(Object.keys(ends).flatMap((end) => Object.keys(paths).map((path) => [end, path] as const)))(
    "ends when %s: %s",
    { timeout: 60_000 },
    async (end, path) => {
      const bob = await person(house.replicas[0]!);
      const eve = await person(house.replicas[0]!);
      try {
        for (const one of [bob, eve]) unwrap(await one.socket.emitWithAck("room.join", { roomId: room.id }));
        const [answer, other] = [
          await begun(bob, paths[path as "file"]()),
          await begun(eve, paths[path as "file"]()),
        ];
        await ends[end]!(bob);
        await sleep(2 * BOUNDS.answerLook.value);
        expect(await isWhole(answer)).toBe(false);
        expect(await isWhole(other)).toBe(true);
      } finally {
        bob.close();
        eve.close();
      }
    },
  );
});
