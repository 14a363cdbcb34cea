import type { Report, RoomId } from "@hubbub/server/protocol";
import { useCallback, useMemo, useState } from "react";
import { admin } from "../../chat/admin.ts";
import { cut } from "../../chat/cut.ts";
import { moderation } from "../../chat/moderation.ts";
import { nameIn } from "../../chat/state/people.ts";
import { useWays } from "../rooms/useWays.ts";
import { toSaid } from "../useBlocks.ts";
import { showWhen } from "../time.ts";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Missing } from "../ui/Missing.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useChat, useClient } from "../useChat.ts";
import { useKnown } from "../useKnown.ts";
import { look } from "../ui/Rows.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { useAnswer, useCalls } from "../useCalls.ts";
import { readPages } from "./pages.ts";
import { readRoomNames, useRoomTitles } from "./roomNames.ts";

/** The messages of a room that people have reported, or with null those of all rooms that nobody has looked at. */
export function Reports({ roomId }: { roomId: RoomId | null }) {
  const chat = useClient();
  const { enter } = useWays();
  const tell = useNotice();
  const users = useChat((state) => state.users);
  const [pages, setPages] = useState(1);
  const ask = useCallback(async () => {
    const { found, more } = await readPages<Report>(pages, (last) =>
      roomId === null
        ? admin(chat.call()).reports(last?.cursor)
        : moderation(chat.call()).reports(roomId, last?.cursor),
    );
    chat.learn(found.flatMap(({ by, message }) => [by, message.from]));
    const places = found.map((report) => report.roomId);
    return { found, more, names: await readRoomNames(chat, places) };
  }, [chat, roomId, pages]);
  const read = useAnswer(ask);
  const { answer, again } = read;
  const { busy, fault, run } = useCalls();
  const titleIn = useRoomTitles(answer?.names);
  const rooms = useChat((state) => state.rooms);
  const reported = useKnown(useMemo(() => answer?.found.map(({ message }) => message) ?? [], [answer]));
  const nameOf = (id: string) => nameIn(users, id, `user ${id}`);
  return (
    <>
      {fault !== null && <Fault>{fault}</Fault>}
      <Missing of={read} label="Loading reports" />
      {answer?.found.length === 0 && (
        <p className={look.about}>
          {roomId === null ? "There is no report to look at." : "Nobody has reported a message here."}
        </p>
      )}
      <ul aria-label="Reports">
        {answer?.found.map((report, index) => {
          const message = reported[index] ?? report.message;
          return (
            <li key={report.id} className={look.row}>
              <span className={look.what}>
                <span>
                  <b>
                    <bdi>{nameOf(message.from)}</bdi>
                  </b>
                  : <bdi>{message.deleted === undefined ? cut(toSaid(message), 200) : "Message deleted"}</bdi>
                </span>
                <small>
                  {roomId === null && (
                    <>
                      In <bdi>{titleIn(report.roomId)}</bdi>.{" "}
                    </>
                  )}
                  Reported by <bdi>{nameOf(report.by)}</bdi>, {showWhen(report.at)}
                  {report.reason !== undefined && report.reason !== "" && (
                    <>
                      : <bdi>{report.reason}</bdi>
                    </>
                  )}
                </small>
              </span>
              {(rooms?.has(report.roomId) === true || answer.names.has(report.roomId)) && (
                <Button onClick={() => enter(report.roomId, report.seq)}>Go to the message</Button>
              )}
              {report.state === "open" ? (
                <Button
                  disabled={busy}
                  onClick={() =>
                    run(async () => {
                      await moderation(chat.call()).closeReport(report);
                      await again();
                      tell("The report is closed.");
                    })
                  }
                >
                  Done
                </Button>
              ) : (
                <span className={look.note}>Done</span>
              )}
            </li>
          );
        })}
      </ul>
      <ShowMore
        more={answer?.more === true}
        count={answer?.found.length ?? 0}
        onMore={() => setPages(pages + 1)}
      />
    </>
  );
}
