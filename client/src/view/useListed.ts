import { LIMITS, type ListedRoom } from "@hubbub/server/protocol";
import { useEffect, useState } from "react";
import { wordsOf } from "../chat/api.ts";
import { useClient } from "./useChat.ts";

/** `complete`: these are all there are. */
type Listed = { rooms: readonly ListedRoom[]; complete: boolean; fault: string | null };

const NONE: Listed = { rooms: [], complete: false, fault: null };

/** The named rooms of the server, page after page until all are here, while `wanted`. */
export function useListed(wanted: boolean): Listed {
  const chat = useClient();
  const [listed, setListed] = useState(NONE);
  useEffect(() => {
    if (!wanted) return undefined;
    let over = false;
    async function load() {
      const rooms: ListedRoom[] = [];
      for (let complete = false; !complete && !over;) {
        const page = await chat.listedRooms(rooms.at(-1)?.id);
        if (over) return;
        rooms.push(...page);
        complete = page.length < LIMITS.page;
        setListed({ rooms: [...rooms], complete, fault: null });
      }
    }
    load().catch((error: unknown) => {
      if (!over) setListed((before) => ({ ...before, fault: wordsOf(error) }));
    });
    return () => {
      over = true;
    };
  }, [chat, wanted]);
  return listed;
}
