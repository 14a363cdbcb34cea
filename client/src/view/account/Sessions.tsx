import type { OwnSession } from "@hubbub/server/protocol";
import { useCallback } from "react";
import { account } from "../../chat/account.ts";
import { showAtWhen, showFull } from "../time.ts";
import { Tag } from "../ui/Badge.tsx";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { look } from "../ui/Rows.tsx";
import { Missing } from "../ui/Missing.tsx";
import { useAnswer, useCalls } from "../useCalls.ts";
import { useClient } from "../useChat.ts";

/** Where this user is logged in. */
export function Sessions() {
  const chat = useClient();
  const tell = useNotice();
  const ask = useCallback(() => account(chat.call()).sessions(), [chat]);
  const read = useAnswer(ask);
  const { answer, again } = read;
  const { busy, fault, run } = useCalls();
  const others = answer?.filter(({ current }) => !current) ?? [];
  const end = (call: () => Promise<unknown>, words: string) =>
    run(async () => {
      await call();
      await again();
      tell(words);
    });

  return (
    <>
      <p className={look.about}>
        Where you are logged in. If you do not know one of these, end it and change your password.
      </p>
      {fault !== null && <Fault>{fault}</Fault>}
      <Missing of={read} label="Loading sessions" />
      <ul aria-label="Sessions">
        {answer?.map((session) => (
          <li key={session.id} className={look.row}>
            <SessionWords session={session} />
            {!session.current && (
              <Button
                disabled={busy}
                aria-label={`End the session on ${deviceOf(session)}`}
                onClick={() =>
                  end(() => account(chat.call()).endSession(session.id), "The session has ended.")
                }
              >
                End
              </Button>
            )}
          </li>
        ))}
      </ul>
      {others.length > 0 && (
        <div className={look.foot}>
          <Button
            look="danger"
            disabled={busy}
            onClick={() =>
              end(() => account(chat.call()).endOtherSessions(), "All other sessions have ended.")
            }
          >
            Log out everywhere else
          </Button>
        </div>
      )}
    </>
  );
}

function SessionWords({ session }: { session: OwnSession }) {
  const { current, created, seen, address } = session;
  return (
    <span className={look.what}>
      <span>
        {deviceOf(session)} {current && <Tag>this one</Tag>}
      </span>
      <small>
        {address !== undefined && `${address} · `}
        <span title={showFull(seen)}>Last used {showAtWhen(seen)}</span>
        {" · "}
        <span title={showFull(created)}>Logged in {showAtWhen(created)}</span>
      </small>
    </span>
  );
}

function deviceOf({ device }: OwnSession): string {
  return device === undefined || device === "unknown" ? "an unknown device" : device;
}
