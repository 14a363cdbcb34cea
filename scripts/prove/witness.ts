import type { Outgoing } from "../../client/src/chat/state/outgoing.ts";
import type { World } from "../../client/src/chat/world.ts";
import type { ClientEvents, Message, Reply, RoomId, Target } from "../../server/src/protocol.ts";
import type { Change, History } from "./history.ts";

/** After these codes a retry may succeed, and the message may be stored nevertheless. */
const NOT_FINAL = ["unavailable", "rate_limited", "internal"];

type Body<E extends keyof ClientEvents> = Parameters<ClientEvents[E]>[0];
type Answer<E extends keyof ClientEvents> = Parameters<Parameters<ClientEvents[E]>[1]>[0];
/** Called when a request is sent; calls its result with the answer, or with null if none came. */
type Notes = { [E in keyof ClientEvents]?: (body: Body<E>) => (answer: Answer<E> | null) => void };

type About = {
  person: string;
  session: string;
  history: History;
};

/**
 * A world that records in the history what its ChatClient sends and hears: on its connections, by REST, and in its stored
 * outbox.
 */
export function createWitness(world: World, { person, session, history }: About) {
  let connections = 0;
  const marks = new Map<RoomId, { tried: number; acknowledged: number }>();
  /** The ids of unanswered changes, by their request. */
  const unanswered = new Map<string, number>();
  const states = new Map<string, Outgoing["state"]>();

  const notes: Notes = {
    message({ roomId: room, nonce }) {
      history.add({ kind: "sent", person, room, nonce });
      return (answer) => {
        if (answer === null) history.add({ kind: "unknown", person, room, nonce });
        else if (answer.ok) {
          const { seq, hash } = answer.value;
          history.add({ kind: "acknowledged", person, room, nonce, seq, hash });
        } else {
          const { code } = answer.error;
          history.add({ kind: "refused", person, room, nonce, code, final: !NOT_FINAL.includes(code) });
        }
      };
    },
    "message.edit": ({ message, nonce, ...target }) =>
      noteChange(target, { is: "edit", text: message }, nonce),
    "message.delete": (target) => noteChange(target, { is: "delete" }),
    "message.react": ({ emoji, on, ...target }) => noteChange(target, { is: "react", emoji, on }),
    "room.read"({ roomId, seq }) {
      const mark = marks.get(roomId) ?? { tried: 0, acknowledged: 0 };
      marks.set(roomId, mark);
      mark.tried = Math.max(mark.tried, seq);
      return (answer) => {
        if (answer?.ok) mark.acknowledged = Math.max(mark.acknowledged, seq);
      };
    },
    sync: () => (answer) => {
      for (const { roomId: room, reset } of answer?.ok ? answer.value.rooms : [])
        if (reset) history.add({ kind: "reset", person, room, reason: reset });
    },
  };

  /** A change that is repeated because it had no answer counts as one change. */
  function noteChange({ roomId: room, seq, hash = "" }: Target, change: Change, nonce?: string) {
    const asked = JSON.stringify([room, seq, hash, change, nonce]);
    const before = unanswered.get(asked);
    const id = before ?? history.lines.length;
    if (before === undefined) {
      unanswered.set(asked, id);
      history.add({ kind: "change sent", person, room, seq, hash, id, change });
    }
    return (answer: Reply<Message> | null) => {
      if (answer === null || (!answer.ok && NOT_FINAL.includes(answer.error.code))) return;
      unanswered.delete(asked);
      if (answer.ok) history.add({ kind: "change acknowledged", id, rev: answer.value.rev ?? 0 });
      // An earlier attempt may have been done.
      else if (before === undefined) history.add({ kind: "change refused", id, code: answer.error.code });
    };
  }

  function noteEntry({ nonce, roomId: room, change, ...entry }: Outgoing): void {
    if (change !== undefined) return;
    const before = states.get(nonce);
    states.set(nonce, entry.state);
    if (before === undefined) history.add({ kind: "submitted", person, room, nonce });
    else if (before === "sent" && entry.state !== "sent")
      history.add({ kind: "offered again", person, room, nonce });
    if (entry.state === "failed" && before !== "failed")
      history.add({ kind: "shown failed", person, room, nonce, code: entry.failure.code });
  }

  const witnessed: World = {
    ...world,
    async fetch(path, init) {
      const beganAt = history.now();
      const response = await world.fetch(path, init);
      const how = `${init.method ?? "GET"} ${path}`;
      if (response.ok) history.add({ kind: "session used", session, how, beganAt });
      return response;
    },
    connect(options) {
      const wire = world.connect(options);
      let socket = "";
      wire.on("connect", () => {
        connections += 1;
        socket = `${session} ${wire.id}`;
        history.add({ kind: "socket opened", session, socket });
      });
      wire.on("disconnect", () => history.add({ kind: "socket closed", session, socket }));
      wire.on("message", ({ roomId: room, seq, hash, nonce = "" }) =>
        history.add({ kind: "heard", person, socket, room, seq, hash, nonce }),
      );
      const emit = wire.emitWithAck.bind(wire) as (event: string, body: unknown) => Promise<unknown>;
      return Object.assign(wire, {
        async emitWithAck<E extends keyof ClientEvents>(event: E, body: Body<E>): Promise<Answer<E>> {
          const note = notes[event]?.(body);
          try {
            const answer = (await emit(event, body)) as Answer<E>;
            note?.(answer);
            return answer;
          } catch (error) {
            note?.(null);
            throw error;
          }
        },
      });
    },
    outbox(userId) {
      const store = world.outbox(userId);
      return {
        ...store,
        put(entry) {
          noteEntry(entry);
          return store.put(entry);
        },
      };
    },
  };

  return {
    world: witnessed,
    get connections() {
      return connections;
    },
    /** Up to where the client marked a room as read, and up to where the server confirmed it. */
    markOf: (room: RoomId) => ({ tried: 0, acknowledged: 0, ...marks.get(room) }),
  };
}
