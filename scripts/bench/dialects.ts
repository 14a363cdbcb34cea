import { clientFrame } from "../frames.ts";

/** The user of a generated connection. `rooms` are indices into the run's list of room ids. */
export type MemberPlan = { cookie: string; rooms: number[] };

export const KIND = { delivery: 0, answer: 1, other: 2 } as const;
type Kind = (typeof KIND)[keyof typeof KIND];

/** How to talk to one kind of server once the WebSocket is open. */
export type Dialect = {
  path: (member: MemberPlan, roomIds: readonly string[]) => string;
  /** The kind of a text frame, judged by its first bytes. */
  kind: (buffer: Uint8Array, start: number) => Kind;
  /** The reaction to any other frame: what to send, and whether the connection now hears its rooms. */
  react: (text: string) => { send?: Buffer; ready?: boolean; refused?: string };
  /** A message to a room. `id` counts from 0 and comes back in the answer. */
  message: (roomId: string, text: string, id: number, nonce: string) => Buffer;
  /** Reads an answer's id and success; null for a server that does not answer. */
  answer: ((text: string) => { id: number; ok: boolean } | null) | null;
};

/** Engine.IO's "message" and Socket.IO's packet types, as bytes of a text frame. */
const FOUR = 0x34;
const TWO = 0x32;
const THREE = 0x33;
const PONG = clientFrame("3");
const CONNECT = clientFrame("40");
/** Every Socket.IO server here answers this request once the connection hears its rooms. */
const READY_ID = 0;
const ASK_READY = clientFrame(`42${READY_ID}["sync",{"rooms":[]}]`);

const socketio: Dialect = {
  path: () => "/socket.io/?EIO=4&transport=websocket",
  kind: (buffer, start) => {
    if (buffer[start] !== FOUR) return KIND.other;
    const type = buffer[start + 1];
    return type === TWO ? KIND.delivery : type === THREE ? KIND.answer : KIND.other;
  },
  react: (text) => {
    if (text === "2") return { send: PONG };
    if (text.startsWith("0")) return { send: CONNECT };
    if (text.startsWith("40")) return { send: ASK_READY };
    if (text.startsWith("44")) return { refused: text };
    if (text.startsWith(`43${READY_ID}[`)) return { ready: true };
    return {};
  },
  message: (roomId, text, id, nonce) =>
    clientFrame(`42${id + 1}["message",{"roomId":"${roomId}","message":"${text}","nonce":"${nonce}"}]`),
  answer: (text) => {
    const match = /^43(\d+)\[\{"ok":(true|false)/.exec(text);
    return match && { id: Number(match[1]) - 1, ok: match[2] === "true" };
  },
};

/** A bare WebSocket hub: the path chooses the connection's only room, and texts are passed on unchanged. */
const plain: Dialect = {
  path: ({ rooms }, roomIds) => `/room/${roomIds[rooms[0] ?? 0]}`,
  kind: () => KIND.delivery,
  react: () => ({}),
  message: (_roomId, text) => clientFrame(text),
  answer: null,
};

const A = 0x61;
const M = 0x6d;

/** A WebSocket hub that speaks JSON: a frame's first field says what it is. */
const hub: Dialect = {
  path: plain.path,
  kind: (buffer, start) =>
    buffer[start + 2] === M ? KIND.delivery : buffer[start + 2] === A ? KIND.answer : KIND.other,
  react: (text) => ({ ready: text === '{"ready":true}' }),
  message: (roomId, text, id, nonce) =>
    clientFrame(`{"id":${id},"roomId":"${roomId}","message":"${text}","nonce":"${nonce}"}`),
  answer: (text) => {
    const match = /^\{"answer":(\d+),"ok":(true|false)/.exec(text);
    return match && { id: Number(match[1]), ok: match[2] === "true" };
  },
};

export const dialects = { socketio, plain, hub };
export type DialectName = keyof typeof dialects;
