import type { Failure, Message, RoomId, SyncedRoom } from "@hubbub/server/protocol";
import type { RoomsState } from "./rooms.ts";
import type { SessionState } from "./session.ts";

/**
 * A message on its way. `waiting`: not tried yet. `sending`: tried, the answer is due. `unconfirmed`: tried
 * without an answer, so it may be stored; it is tried again with the same nonce. `failed`: refused for good.
 * `sent`: stored with this `seq`, which the log that is shown has not reached.
 */
export type Outgoing = {
  nonce: string;
  roomId: RoomId;
  message: string;
  /** ms since 1970 on this machine's clock. */
  created: number;
} & (
  | { state: "waiting" | "sending" | "unconfirmed" }
  | { state: "failed"; failure: Failure }
  | { state: "sent"; seq: number }
);

export type OutgoingState = { outgoing: readonly Outgoing[] };

export const initialOutgoing: OutgoingState = { outgoing: [] };

export type OutgoingEvent = { type: "outgoing"; entries: readonly Outgoing[] };

type Around = OutgoingState & RoomsState & SessionState;

/** The outbox is done with what is sent; it stays here until the log has it. */
export function applyOutgoing<S extends Around>(state: S, { entries }: OutgoingEvent): S {
  const told = new Set(entries.map((entry) => entry.nonce));
  const sent = state.outgoing.filter((entry) => entry.state === "sent" && !told.has(entry.nonce));
  return { ...state, outgoing: [...sent, ...entries].flatMap((entry) => follow(state, entry)) };
}

/** Whether the outbox is still at it. */
export function isUnderWay(entry: Outgoing): boolean {
  return entry.state !== "failed" && entry.state !== "sent";
}

/** What is still to be shown of a message on its way: nothing once the log has it, or has gone past it. */
function follow(state: Around, entry: Outgoing): Outgoing[] {
  const room = state.rooms?.get(entry.roomId);
  if (room === undefined || state.session.is !== "signed in") return [entry];
  const { id } = state.session.user;
  const isIt = (message: Message) => message.nonce === entry.nonce && message.from === id;
  if (room.log?.messages.some(isIt)) return [];
  if (entry.state === "sent") {
    const passed = room.log !== null && !room.stale && entry.seq <= room.log.head;
    return passed ? [] : [entry];
  }
  const seq = room.held.find(isIt)?.seq;
  if (seq === undefined) return [entry];
  const { nonce, roomId, message, created } = entry;
  return [{ nonce, roomId, message, created, state: "sent", seq }];
}

/** Takes what a room now shows as stored out of `outgoing`. */
export function settle<S extends Around>(state: S, roomId: RoomId): S {
  return withOutgoing(
    state,
    state.outgoing.flatMap((entry) => (entry.roomId === roomId ? follow(state, entry) : [entry])),
  );
}

/** As `settle`, after all that `sync` has to say of the room. */
export function settleSynced<S extends Around>(state: S, answer: SyncedRoom): S {
  const { roomId, more, reset } = answer;
  const settled = settle(state, roomId);
  const room = settled.rooms?.get(roomId);
  if (room === undefined || (more && reset === undefined)) return settled;
  // What was sent and is neither here nor held was of a log that is gone: it is the outbox's again.
  const held = new Set(room.held.map((message) => message.nonce));
  return withOutgoing(
    settled,
    settled.outgoing.filter(
      (entry) => entry.roomId !== roomId || entry.state !== "sent" || held.has(entry.nonce),
    ),
  );
}

function withOutgoing<S extends OutgoingState>(state: S, outgoing: readonly Outgoing[]): S {
  const { outgoing: before } = state;
  const same = outgoing.length === before.length && outgoing.every((one, at) => one === before[at]);
  return same ? state : { ...state, outgoing };
}
