import { LIMITS } from "@hubbub/server/protocol";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { account } from "../../chat/account.ts";
import { ChatError, wordsOf } from "../../chat/api.ts";
import { Button } from "../ui/Button.tsx";
import { DialogActions } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { PasswordField } from "../ui/PasswordField.tsx";
import { look } from "../ui/Rows.tsx";
import { useCalls } from "../useCalls.ts";
import { useEdited } from "../useEdited.ts";
import { useClient, useMe } from "../useChat.ts";

type Faults = { current?: string; next?: string };

/** Chooses another password. */
export function ChangePassword() {
  const chat = useClient();
  const me = useMe();
  const tell = useNotice();
  const { busy, fault, run } = useCalls();
  const { fields, edited, edit, settle } = useEdited({ current: "", next: "" });
  const { current, next } = fields;
  const [faults, setFaults] = useState<Faults>({});
  const form = useRef<HTMLFormElement>(null);

  useEffect(() => {
    if (faults.current ?? faults.next)
      form.current?.querySelector<HTMLInputElement>("[aria-invalid=true]")?.focus();
  }, [faults]);

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const found: Faults = {
      ...(current === "" && { current: "Enter your present password." }),
      ...(next.length < LIMITS.passwordMin && { next: `At least ${LIMITS.passwordMin} characters.` }),
    };
    setFaults(found);
    if (found.current ?? found.next) return;
    run(async () => {
      try {
        await account(chat.call()).changePassword({ current, next });
      } catch (error) {
        const code = error instanceof ChatError ? error.code : null;
        if (code === "forbidden") setFaults({ current: "This is not your password." });
        else if (code === "invalid") setFaults({ next: wordsOf(error) });
        else throw error;
        return;
      }
      settle(edited);
      tell("Your password is changed, and your other sessions have ended.");
    });
  }

  return (
    <form ref={form} onSubmit={onSubmit} noValidate>
      <p className={look.about}>
        Everywhere else, in other browsers and on other devices, you have to log in again.
      </p>
      {/* For password managers: whose passwords these are. */}
      <input hidden name="username" autoComplete="username" value={me.username} readOnly />
      <PasswordField
        label="Present password"
        value={current}
        fault={faults.current}
        autoComplete="current-password"
        onText={(text) => edit({ current: text })}
      />
      <PasswordField
        label="New password"
        value={next}
        fault={faults.next}
        hint={`At least ${LIMITS.passwordMin} characters`}
        autoComplete="new-password"
        onText={(text) => edit({ next: text })}
      />
      {fault !== null && <Fault>{fault}</Fault>}
      <DialogActions>
        <Button type="submit" look="main" busy={busy}>
          Change password
        </Button>
      </DialogActions>
    </form>
  );
}
