import type { AuditEntry, RoomId } from "@hubbub/server/protocol";
import { useCallback, useState } from "react";
import { admin } from "../../chat/admin.ts";
import { moderation } from "../../chat/moderation.ts";
import { nameIn } from "../../chat/state/people.ts";
import { showFull, showWhen } from "../time.ts";
import { Missing } from "../ui/Missing.tsx";
import { look } from "../ui/Rows.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { useAnswer } from "../useCalls.ts";
import { useChat, useClient } from "../useChat.ts";
import { wordsOfEntry } from "./entries.ts";
import { readPages } from "./pages.ts";
import { readRoomNames, useRoomTitles } from "./roomNames.ts";

/** What was done about a room, or with null on the whole server, newest first. */
export function AuditLog({ roomId }: { roomId: RoomId | null }) {
  const chat = useClient();
  const users = useChat((state) => state.users);
  const [pages, setPages] = useState(1);
  const ask = useCallback(async () => {
    const { found, more } = await readPages<AuditEntry>(pages, (last) =>
      roomId === null ? admin(chat.call()).audit(last?.id) : moderation(chat.call()).audit(roomId, last?.id),
    );
    chat.learn(found.flatMap(({ by, userId = "" }) => [by, userId].filter((id) => id !== "")));
    const places = roomId === null ? found.flatMap((entry) => entry.roomId ?? []) : [];
    return { found, more, names: await readRoomNames(chat, places) };
  }, [chat, roomId, pages]);
  const read = useAnswer(ask);
  const { answer } = read;
  const titleIn = useRoomTitles(answer?.names);
  return (
    <>
      <Missing of={read} label="Loading the log" />
      {answer?.found.length === 0 && <p className={look.about}>Nothing has been done here yet.</p>}
      <ul aria-label="Log">
        {answer?.found.map((entry) => (
          <li key={entry.id} className={look.row}>
            <span className={look.what}>
              {wordsOfEntry(entry, (id) => nameIn(users, id, `user ${id}`))}
              <small>
                {roomId === null && entry.roomId !== undefined && (
                  <>
                    In <bdi>{titleIn(entry.roomId)}</bdi> ·{" "}
                  </>
                )}
                <span title={showFull(entry.at)}>{showWhen(entry.at)}</span>
              </small>
            </span>
          </li>
        ))}
      </ul>
      <ShowMore
        more={answer?.more === true}
        count={answer?.found.length ?? 0}
        onMore={() => setPages(pages + 1)}
      />
    </>
  );
}
