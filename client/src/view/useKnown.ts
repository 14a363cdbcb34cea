import type { Message, RoomId } from "@hubbub/server/protocol";
import { useEffect, useMemo, useRef, useState } from "react";
import { allNewest, isNewer, revOf } from "../chat/state/revisions.ts";
import type { RoomState } from "../chat/state/room.ts";
import type { RoomsState } from "../chat/state/rooms.ts";
import { useChat } from "./useChat.ts";

/**
 * Messages that are listed apart from their rooms, as they are now: a text that is deleted or edited while the list is
 * open leaves it. What is remembered of a room's changes is limited, so the list remembers what became of its own.
 */
export function useKnown(listed: readonly Message[]): readonly Message[] {
  const [before, setBefore] = useState({ listed, known: listed });
  const rooms = useChat((state) => state.rooms);
  const known = useMemo(() => {
    const kept = before.listed === listed ? before.known : allNewest(listed, before.known);
    return allKnown({ rooms }, kept);
  }, [rooms, listed, before]);
  if (before.listed !== listed || before.known !== known) setBefore({ listed, known });
  return known;
}

/** How often the connection has come back: what is not heard while it is away must be asked for again. */
export function useReturns(): number {
  const online = useChat((state) => state.connection === "online");
  const [seen, setSeen] = useState({ online, times: 0 });
  if (seen.online !== online) setSeen({ online, times: seen.times + (online ? 1 : 0) });
  return seen.times;
}

/** Calls `ask`, which must stay the same function, each time that the connection has come back. */
export function useAtReturn(ask: () => void): void {
  const times = useReturns();
  const asked = useRef(times);
  useEffect(() => {
    if (asked.current === times) return;
    asked.current = times;
    ask();
  }, [times, ask]);
}

/** Each message in its newest state that is known here; the same array if nothing is newer. */
function allKnown({ rooms }: Pick<RoomsState, "rooms">, messages: readonly Message[]): readonly Message[] {
  const rowsIn = new Map<RoomId, Map<number, Message[]>>();
  let same = true;
  const known = messages.map((message) => {
    const { roomId, seq } = message;
    let rows = rowsIn.get(roomId);
    if (rows === undefined) rowsIn.set(roomId, (rows = rowsBySeq(rooms?.get(roomId))));
    const now = (rows.get(seq) ?? []).reduce((one, row) => (isNewer(row, one) ? row : one), message);
    same &&= now === message;
    return now;
  });
  return same ? messages : known;
}

function rowsBySeq(room: RoomState | undefined): Map<number, Message[]> {
  const rows = new Map<number, Message[]>();
  for (const row of [...(room?.changed ?? []), ...(room?.log?.messages ?? [])])
    if (revOf(row) > 0) rows.set(row.seq, [...(rows.get(row.seq) ?? []), row]);
  return rows;
}
