import { useEffect, useState } from "react";
import { announce } from "../announce.tsx";
import { keepSetting, readSetting } from "../settings.ts";
import { Button } from "../ui/Button.tsx";
import { useClient } from "../useChat.ts";
import css from "./AskToNotify.module.css";

const QUESTION = "Something was said while you were away. Be told on your desktop next time?";

/** Offers notifications, after there was a reason for one. After a refusal it never asks again. */
export function AskToNotify() {
  const chat = useClient();
  const [refused, setRefused] = useState(() => readSetting("notifications") === "no");
  useEffect(() => {
    if (!refused) announce(QUESTION);
  }, [refused]);
  if (refused) return null;
  return (
    <section className={css.ask} aria-label="Notifications">
      <p>{QUESTION}</p>
      <div>
        <Button
          onClick={() => {
            keepSetting("notifications", "no");
            setRefused(true);
          }}
        >
          Not now
        </Button>
        <Button look="main" onClick={() => void chat.allowNotifications()}>
          Turn on
        </Button>
      </div>
    </section>
  );
}
