import { createWriteStream, mkdirSync } from "node:fs";
import { once } from "node:events";
import { dirname } from "node:path";
import type { RoomId } from "../../server/src/protocol.ts";

/** One message in a room's log, as stored or as shown; `now` has the parts that may change, as JSON. */
export type Place = { seq: number; date: number; hash: string; from: string; nonce: string; now: string };

/** A change of a message. */
export type Change =
  { is: "edit"; text: string } | { is: "delete" } | { is: "react"; emoji: string; on: boolean };

/**
 * One event, seen from outside the server. `person` is a username, `session` one signed-in browser. Times are ms on the
 * driver's monotonic clock: one process sees everything, so that "before" is defined.
 */
export type Line = { at: number } & (
  | { kind: "joined"; person: string; room: RoomId }
  /** Messages sent more than `withinMs` after this must not reach the person. */
  | { kind: "left"; person: string; room: RoomId; withinMs: number }
  /** Given to the outbox. A person's submissions to a room must be stored in this order. */
  | { kind: "submitted"; person: string; room: RoomId; nonce: string }
  /** One attempt went out. */
  | { kind: "sent"; person: string; room: RoomId; nonce: string }
  | { kind: "acknowledged"; person: string; room: RoomId; nonce: string; seq: number; hash: string }
  /** There was no answer: the message may be stored. */
  | { kind: "unknown"; person: string; room: RoomId; nonce: string }
  | { kind: "refused"; person: string; room: RoomId; nonce: string; code: string; final: boolean }
  /** The person was told that this message failed. */
  | { kind: "shown failed"; person: string; room: RoomId; nonce: string; code: string }
  /** The message came over a live connection. */
  | { kind: "heard"; person: string; socket: string; room: RoomId; seq: number; hash: string; nonce: string }
  /** A change was sent. */
  | {
      kind: "change sent";
      person: string;
      room: RoomId;
      seq: number;
      hash: string;
      id: number;
      change: Change;
    }
  /** It was done, with the room's change `rev` or an earlier one. */
  | { kind: "change acknowledged"; id: number; rev: number }
  | { kind: "change refused"; id: number; code: string }
  /** A deleted text was found at the end: in a key of Redis, or in a window. */
  | { kind: "deleted text found"; where: string; text: string }
  /** `sync` answered that the client's log is not the stored one. */
  | { kind: "reset"; person: string; room: RoomId; reason: string }
  | { kind: "offered again"; person: string; room: RoomId; nonce: string }
  /** The faults are over and nobody sends: convergence is measured from here. */
  | { kind: "calm" }
  /** What a person sees at the end. */
  | { kind: "view"; person: string; room: RoomId; places: Place[] }
  /** What Redis has at the end. */
  | { kind: "stored"; room: RoomId; places: Place[] }
  /** Counts from the API, and the bounds of the read mark. */
  | {
      kind: "unread";
      person: string;
      room: RoomId;
      seq: number;
      read: number;
      unread: number;
      least: number;
      most: number;
    }
  /** Who is online according to `by`, and who has a connection. */
  | { kind: "presence"; by: string; online: string[]; connected: string[] }
  /** The session ended: its sockets must close within this time, and its requests be refused at once. */
  | { kind: "session over"; session: string; withinMs: number }
  | { kind: "socket opened" | "socket closed"; session: string; socket: string }
  /** A request that began at `beganAt` was served in this session's name. */
  | { kind: "session used"; session: string; how: string; beganAt: number }
  | { kind: "fault"; what: string }
);

/** The lines of one kind. */
export type Of<K extends Line["kind"]> = Line extends infer L
  ? L extends { kind: infer Kind }
    ? K extends Kind
      ? L
      : never
    : never
  : never;

type Without<T> = T extends unknown ? Omit<T, "at"> : never;
export type Happening = Without<Line>;

/** The history of one scenario. */
export type History = {
  lines: Line[];
  /** Milliseconds since the history began. */
  now: () => number;
  add: (happening: Happening) => void;
  /** Writes the history as JSONL. */
  write: (file: string) => Promise<void>;
};

export function createHistory(): History {
  const lines: Line[] = [];
  const began = performance.now();
  const now = () => Math.round((performance.now() - began) * 100) / 100;
  return {
    lines,
    now,
    add: (happening) => lines.push({ at: now(), ...happening }),
    async write(file) {
      mkdirSync(dirname(file), { recursive: true });
      const stream = createWriteStream(file);
      for (const line of lines) {
        if (!stream.write(`${JSON.stringify(line)}\n`)) await once(stream, "drain");
      }
      stream.end();
      await once(stream, "finish");
    },
  };
}
