import { useCallback } from "react";
import { admin } from "../../chat/admin.ts";
import { Fault } from "../ui/Fault.tsx";
import { look } from "../ui/Rows.tsx";
import { Spinner } from "../ui/Spinner.tsx";
import { useAnswer } from "../useCalls.ts";
import { useClient } from "../useChat.ts";
import css from "./Numbers.module.css";

/** How much there is on the server. */
export function Numbers() {
  const chat = useClient();
  const ask = useCallback(() => admin(chat.call()).stats(), [chat]);
  const { answer, fault } = useAnswer(ask);
  if (answer === null) return fault === null ? <Spinner label="Loading numbers" /> : <Fault>{fault}</Fault>;
  const numbers = [
    ["People", answer.people],
    ["Online now", answer.online],
    ["Rooms", answer.rooms],
    ["Messages", answer.messages],
  ] as const;
  return (
    <>
      <dl className={css.numbers}>
        {numbers.map(([what, number]) => (
          <div key={what}>
            <dt>{what}</dt>
            <dd>{number.toLocaleString()}</dd>
          </div>
        ))}
      </dl>
      <p className={look.about}>Messages are those of General and of named rooms.</p>
    </>
  );
}
