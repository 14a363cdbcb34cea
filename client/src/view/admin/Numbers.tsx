import { useCallback } from "react";
import { admin } from "../../chat/admin.ts";
import { Missing } from "../ui/Missing.tsx";
import { look } from "../ui/Rows.tsx";
import { useAnswer } from "../useCalls.ts";
import { useClient } from "../useChat.ts";
import css from "./Numbers.module.css";

/** How much there is on the server. */
export function Numbers() {
  const chat = useClient();
  const ask = useCallback(() => admin(chat.call()).stats(), [chat]);
  const read = useAnswer(ask);
  const { answer } = read;
  if (answer === null) return <Missing of={read} label="Loading numbers" />;
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
