import { LIMITS } from "@hubbub/server/protocol";
import { useEffect, useState, type FormEvent } from "react";
import { wordsOf } from "../../chat/api.ts";
import { keepFocus } from "../regions.ts";
import { Button } from "../ui/Button.tsx";
import { PasswordField } from "../ui/PasswordField.tsx";
import { Wordmark } from "../ui/Wordmark.tsx";
import { useClient } from "../useChat.ts";
import css from "./NewPassword.module.css";

/** Chooses a new password, by the link that an admin has made for somebody who has forgotten theirs. */
export function NewPassword({ code, onDone }: { code: string; onDone: () => void }) {
  const chat = useClient();
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState<string>();
  const [state, setState] = useState<"asking" | "busy" | "done">("asking");

  useEffect(keepFocus, []);

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    if (password.length < LIMITS.passwordMin) {
      setFault(`At least ${LIMITS.passwordMin} characters.`);
      return;
    }
    setState("busy");
    chat.resetPassword(code, password).then(
      () => setState("done"),
      (error: unknown) => {
        setState("asking");
        setFault(wordsOf(error));
      },
    );
  }

  return (
    <main className={css.page}>
      <Wordmark />
      <h1 tabIndex={-1}>{state === "done" ? "Your password is changed." : "Choose a new password"}</h1>
      {state === "done" ? (
        <p>Log in with it.</p>
      ) : (
        <form onSubmit={onSubmit} noValidate>
          <PasswordField
            label="New password"
            value={password}
            fault={fault}
            hint={`At least ${LIMITS.passwordMin} characters`}
            autoComplete="new-password"
            onText={(text) => {
              setPassword(text);
              setFault(undefined);
            }}
          />
          <Button type="submit" look="main" wide disabled={state === "busy"}>
            Change the password
          </Button>
        </form>
      )}
      <Button look="link" onClick={onDone}>
        Go to the log-in
      </Button>
    </main>
  );
}
