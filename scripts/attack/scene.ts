import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Message, Reply } from "../../server/src/protocol.ts";
import { becomes, type Person, type Replica, type Stage } from "./stage.ts";
import { ask, Line, Talker, Wire, type Answer, type Ask, type Caller, type Handshake } from "./wire.ts";

/** An attack in SECURITY.md's list; several may share a number. */
export type Attack = {
  number: number;
  /** What is sent. */
  title: string;
  /** What answers it, in a few words. */
  answer: string;
} & (
  | {
      /** Reports what it finds with `must` and `twin`, and throws nothing. */
      play: (scene: Scene) => Promise<void>;
      /** Too long for `--short`. */
      long?: true;
      /** Mostly waits, so it runs beside the others. */
      waits?: true;
      /** Runs alone: nobody else can be served meanwhile. */
      alone?: true;
    }
  /** Another test covers it. */
  | { test: string }
  /** Why there is nothing to attack. */
  | { missing: string }
);

/** What an attack works with. Its connections are closed when it ends. */
export type Scene = Pick<
  Stage,
  "left" | "right" | "replicas" | "admin" | "keys" | "person" | "address" | "redis"
> & {
  /** A promise that the attack must not break. */
  must: (is: boolean, what: string) => void;
  /** Something allowed that must still work. Each attack shows at least one. */
  twin: (is: boolean, what: string) => void;
  get: (caller: Caller, path: string, asked?: Ask & { at?: Replica }) => Promise<Answer>;
  post: (caller: Caller, path: string, body?: unknown, asked?: Ask & { at?: Replica }) => Promise<Answer>;
  /** Throws the code if it is refused. */
  talker: (caller: Caller, at?: Replica, handshake?: Handshake) => Promise<Talker>;
  wire: (caller: Caller, at?: Replica, handshake?: Handshake) => Promise<Wire>;
  line: (from: string, at?: Replica) => Promise<Line>;
  /** A new named room with these members; the first one creates it. */
  room: (...members: Person[]) => Promise<string>;
  /** Sends a text to a room. */
  say: (talker: Talker, roomId: string, message: string) => Promise<Reply<Message>>;
  becomes: typeof becomes;
  sleep: (ms: number) => Promise<unknown>;
};

export type Judged = { broken: string[]; twins: number };

/** Plays one attack on the stage; never throws. */
export async function playOn(stage: Stage, play: (scene: Scene) => Promise<void>): Promise<Judged> {
  const broken: string[] = [];
  const open: { destroy: () => void }[] = [];
  let twins = 0;
  const keep = <T extends { destroy: () => void }>(one: T): T => {
    open.push(one);
    return one;
  };
  const { left } = stage;
  const scene: Scene = {
    left,
    right: stage.right,
    replicas: stage.replicas,
    admin: stage.admin,
    keys: stage.keys,
    redis: stage.redis,
    person: stage.person,
    address: stage.address,
    must: (is, what) => void (is || broken.push(what)),
    twin(is, what) {
      twins += 1;
      if (!is) broken.push(`allowed, but fails: ${what}`);
    },
    get: (caller, path, { at = left, ...asked } = {}) => ask(at.port, path, caller, asked),
    post: (caller, path, body = {}, { at = left, ...asked } = {}) =>
      ask(at.port, path, caller, { method: "POST", body, ...asked }),
    async talker(caller, at = left, handshake?) {
      const talker = await Talker.connect(at.port, caller, handshake);
      keep(talker.wire);
      return talker;
    },
    wire: async (caller, at = left, handshake?) => keep(await Wire.dial(at.port, caller, handshake)),
    line: async (from, at = left) => keep(await Line.open(at.port, from)),
    async room(first, ...others) {
      const name = `room ${randomBytes(6).toString("hex")}`;
      const made = await ask(left.port, "/api/rooms", first, { method: "POST", body: { name } });
      const { id } = JSON.parse(made.body) as { id?: string };
      if (!id) throw new Error(`a room was answered ${made.status}: ${made.body}`);
      for (const other of others) {
        const talker = await Talker.connect(left.port, other);
        await talker.emit("room.join", { roomId: id });
        talker.close();
      }
      return id;
    },
    say: (talker, roomId, message) =>
      talker.emit("message", { roomId, message, nonce: randomBytes(8).toString("hex") }),
    becomes,
    sleep,
  };
  try {
    await play(scene);
    if (twins === 0) broken.push("it did not show that something allowed still works");
  } catch (error) {
    broken.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    for (const one of open) one.destroy();
  }
  return { broken, twins };
}

/** The code of a reply, or "ok". */
export function outcome(reply: Reply<unknown>): string {
  return reply.ok ? "ok" : reply.error.code;
}
