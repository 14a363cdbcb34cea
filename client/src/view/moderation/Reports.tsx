import type { RoomId } from "@hubbub/server/protocol";
import { useCallback } from "react";
import { moderation } from "../../chat/moderation.ts";
import { nameIn } from "../../chat/state/people.ts";
import { useWays } from "../rooms/useWays.ts";
import { toSaid } from "../useBlocks.ts";
import { showWhen } from "../time.ts";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useChat, useClient } from "../useChat.ts";
import { look } from "../ui/Rows.tsx";
import { useAnswer, useCalls } from "../useCalls.ts";

/** The messages of a room that people have reported. */
export function Reports({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const { enter } = useWays();
  const users = useChat((state) => state.users);
  const ask = useCallback(async () => {
    const reports = await moderation(chat.call()).reports(roomId);
    chat.learn(reports.flatMap(({ by, message }) => [by, message.from]));
    return reports;
  }, [chat, roomId]);
  const { answer, fault, again } = useAnswer(ask);
  const { busy, fault: refused, run } = useCalls();
  const failed = refused ?? fault;
  const nameOf = (id: string) => nameIn(users, id, `user ${id}`);
  return (
    <>
      {failed !== null && <Fault>{failed}</Fault>}
      {answer === null && failed === null && <Spinner label="Loading reports" />}
      {answer?.length === 0 && <p className={look.about}>Nobody has reported a message here.</p>}
      <ul aria-label="Reports">
        {answer?.map((report) => (
          <li key={report.id} className={look.row}>
            <span className={look.what}>
              <span>
                <b>{nameOf(report.message.from)}</b>:{" "}
                {report.message.deleted === undefined
                  ? toSaid(report.message).slice(0, 200)
                  : "Message deleted"}
              </span>
              <small>
                Reported by {nameOf(report.by)}, {showWhen(report.at)}
                {report.reason !== undefined && report.reason !== "" && `: ${report.reason}`}
              </small>
            </span>
            <Button onClick={() => enter(roomId, report.seq)}>Go to the message</Button>
            {report.state === "open" ? (
              <Button
                disabled={busy}
                onClick={() =>
                  run(async () => {
                    await moderation(chat.call()).closeReport(report);
                    await again();
                  })
                }
              >
                Done
              </Button>
            ) : (
              <span className={look.note}>Done</span>
            )}
          </li>
        ))}
      </ul>
    </>
  );
}
