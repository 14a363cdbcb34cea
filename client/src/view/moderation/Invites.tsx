import type { RoomId } from "@hubbub/server/protocol";
import { useCallback, useState } from "react";
import { moderation } from "../../chat/moderation.ts";
import { showUntil } from "../time.ts";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Missing } from "../ui/Missing.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useCopy } from "../ui/useCopy.ts";
import { useClient } from "../useChat.ts";
import { look } from "../ui/Rows.tsx";
import { Select } from "../ui/Select.tsx";
import { useAnswer, useCalls } from "../useCalls.ts";

const DAY_MS = 86_400_000;
const DAYS = [
  { value: 1, words: "1 day" },
  { value: 7, words: "7 days" },
  { value: 30, words: "30 days" },
];
const USES = [
  { value: 1, words: "1 person" },
  { value: 10, words: "10 people" },
  { value: 0, words: "Any number" },
];

/** The invite links of a room. */
export function Invites({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const copy = useCopy();
  const tell = useNotice();
  const ask = useCallback(() => moderation(chat.call()).invites(roomId), [chat, roomId]);
  const read = useAnswer(ask);
  const { answer, again } = read;
  const { busy, fault, run } = useCalls();
  const [days, setDays] = useState(7);
  const [uses, setUses] = useState(1);
  return (
    <>
      <Select label="The link works for" value={days} options={DAYS} onValue={setDays} />
      <Select label="It lets in" value={uses} options={USES} onValue={setUses} />
      <Button
        look="main"
        disabled={busy}
        onClick={() =>
          run(async () => {
            const expires = Date.now() + days * DAY_MS;
            await moderation(chat.call()).invite(roomId, { expires, ...(uses > 0 && { uses }) });
            await again();
            tell("The invite link is made.");
          })
        }
      >
        Make an invite link
      </Button>
      {fault !== null && <Fault>{fault}</Fault>}
      <Missing of={read} label="Loading invite links" />
      {answer?.length === 0 && <p className={look.about}>There are no invite links.</p>}
      <ul aria-label="Invite links">
        {answer?.map((invite) => (
          <li key={invite.code} className={look.row}>
            <span className={look.what}>
              {invite.url}
              <small>
                {invite.uses === undefined
                  ? `${invite.used} let in`
                  : `${invite.used} of ${invite.uses} let in`}
                , until {showUntil(invite.expires)}
              </small>
            </span>
            <Button icon="copy" onClick={() => void copy(invite.url)}>
              Copy link
            </Button>
            <Button
              disabled={busy}
              onClick={() =>
                run(async () => {
                  await moderation(chat.call()).revokeInvite(invite.code);
                  await again();
                  tell("The invite link is revoked.");
                })
              }
            >
              Revoke
            </Button>
          </li>
        ))}
      </ul>
    </>
  );
}
