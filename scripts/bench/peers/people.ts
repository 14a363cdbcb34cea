import { createHmac, timingSafeEqual } from "node:crypto";
import type { Server } from "node:http";
import type { Redis } from "ioredis";

/**
 * What the chat peers share with each other and with Hubbub: they store a message before they send it out, take the
 * user and the rooms from the session, let only members write, acknowledge with the stored message, tell everybody who
 * came and went, and keep `online_users`.
 */
const secret = process.env["SESSION_SECRET"] ?? "";

export type User = { id: string; username: string };
export type Sent = { roomId: string; message: string; nonce: string };
type Stored = Sent & { date: number; from: string };

/** The user of the session that the cookies name, or undefined. */
export async function readUser(redis: Redis, cookies = ""): Promise<User | undefined> {
  const sid = readSid(cookies);
  const stored = sid && (await redis.get(`sess:${sid}`));
  return stored ? (JSON.parse(stored) as { user?: User }).user : undefined;
}

export function roomsOf(redis: Redis, { id }: User): Promise<string[]> {
  return redis.smembers(`user:${id}:rooms`);
}

/** Stores a message and answers it; null if its sender is not a member of the room. */
export async function store(redis: Redis, userId: string, sent: Sent): Promise<Stored | null> {
  const { roomId, message, nonce } = sent;
  const stored = { roomId, date: Date.now(), from: userId, nonce, message };
  if ((await redis.sismember(`user:${userId}:rooms`, roomId)) === 0) return null;
  await redis.zadd(`room:${roomId}`, stored.date, JSON.stringify(stored));
  return stored;
}

/** Listens on `PORT`; the process ends at SIGTERM. */
export function listen(http: Server): void {
  http.listen(Number(process.env["PORT"]), "127.0.0.1");
  process.on("SIGTERM", () => process.exit(0));
}

function readSid(cookies: string): string | null {
  const value = /(?:^|; )hubbub=([^;]+)/.exec(cookies)?.[1];
  const [sid, signature] = decodeURIComponent(value ?? "")
    .replace(/^s:/, "")
    .split(/\.(.*)/s);
  if (!sid || !signature) return null;
  const right = Buffer.from(createHmac("sha256", secret).update(sid).digest("base64").replace(/=+$/, ""));
  const given = Buffer.from(signature);
  return right.length === given.length && timingSafeEqual(right, given) ? sid : null;
}
