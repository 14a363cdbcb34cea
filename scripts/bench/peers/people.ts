import { createHmac, timingSafeEqual } from "node:crypto";
import type { Server } from "node:http";
import type { Redis } from "ioredis";

/**
 * What the peers that are chats have alike, and Hubbub with them: a message is stored before it is sent out, the user
 * and the rooms come from the session, members alone write, the stored message is the acknowledgement, everybody is
 * told who came and went, and `online_users` is kept.
 */
const secret = process.env["SESSION_SECRET"] ?? "";

export type User = { id: string; username: string };
export type Sent = { roomId: string; message: string; nonce: string };
type Stored = Sent & { date: number; from: string };

/** Whose session a request's cookies name, or undefined. */
export async function readUser(redis: Redis, cookies = ""): Promise<User | undefined> {
  const sid = readSid(cookies);
  const stored = sid && (await redis.get(`sess:${sid}`));
  return stored ? (JSON.parse(stored) as { user?: User }).user : undefined;
}

export function roomsOf(redis: Redis, { id }: User): Promise<string[]> {
  return redis.smembers(`user:${id}:rooms`);
}

/** The message as it is stored; null where its sender is no member of the room. */
export async function store(redis: Redis, userId: string, sent: Sent): Promise<Stored | null> {
  const { roomId, message, nonce } = sent;
  const stored = { roomId, date: Date.now(), from: userId, nonce, message };
  if ((await redis.sismember(`user:${userId}:rooms`, roomId)) === 0) return null;
  await redis.zadd(`room:${roomId}`, stored.date, JSON.stringify(stored));
  return stored;
}

/** Listens on its port, and ends at SIGTERM. */
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
