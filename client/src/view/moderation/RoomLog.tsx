import { LIMITS, type AuditEntry, type RoomId } from "@hubbub/server/protocol";
import { useCallback, useState } from "react";
import { moderation } from "../../chat/moderation.ts";
import { nameIn } from "../../chat/state/people.ts";
import { showFull, showWhen } from "../time.ts";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useChat, useClient } from "../useChat.ts";
import { wordsOfEntry } from "./entries.ts";
import { look } from "../ui/Rows.tsx";
import { useAnswer } from "../useCalls.ts";

/** What was done about a room, newest first. */
export function RoomLog({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const users = useChat((state) => state.users);
  const [pages, setPages] = useState(1);
  const ask = useCallback(async () => {
    const found: AuditEntry[] = [];
    let more = true;
    for (let page = 0; page < pages && more; page += 1) {
      const entries = await moderation(chat.call()).audit(roomId, found.at(-1)?.id);
      found.push(...entries);
      more = entries.length === LIMITS.pageDefault;
    }
    chat.learn(found.flatMap(({ by, userId = "" }) => [by, userId].filter((id) => id !== "")));
    return { found, more };
  }, [chat, roomId, pages]);
  const { answer, fault } = useAnswer(ask);
  return (
    <>
      {fault !== null && <Fault>{fault}</Fault>}
      {answer === null && fault === null && <Spinner label="Loading the log" />}
      {answer?.found.length === 0 && <p className={look.about}>Nothing has been done here yet.</p>}
      <ul aria-label="Log">
        {answer?.found.map((entry) => (
          <li key={entry.id} className={look.row}>
            <span className={look.what}>
              {wordsOfEntry(entry, (id) => nameIn(users, id, `user ${id}`))}
              <small title={showFull(entry.at)}>{showWhen(entry.at)}</small>
            </span>
          </li>
        ))}
      </ul>
      {answer?.more === true && (
        <Button wide onClick={() => setPages(pages + 1)}>
          Show more
        </Button>
      )}
    </>
  );
}
