import type { Farewell } from "@hubbub/server/protocol";
import { useState, type FormEvent } from "react";
import { EXPORT_ADDRESS } from "../../chat/account.ts";
import { Button, ButtonLink } from "../ui/Button.tsx";
import { Choices } from "../ui/Choices.tsx";
import { DialogActions } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { PasswordField } from "../ui/PasswordField.tsx";
import { look } from "../ui/Rows.tsx";
import { useCalls } from "../useCalls.ts";
import { useClient, useMe } from "../useChat.ts";

const FAREWELLS: readonly { value: Farewell; words: string; note: string }[] = [
  { value: "keep", words: "Keep my messages", note: "They stay, as those of a deleted user." },
  {
    value: "delete",
    words: "Delete my messages",
    note: "In all rooms, one after another. Replies to them stay.",
  },
];

/** Takes one's data along, and ends the account. */
export function OwnData() {
  const [leaving, setLeaving] = useState(false);
  return (
    <>
      <h3>Your data</h3>
      <p className={look.about}>
        Your account, your sessions, your rooms and everything that you have said in them, as one JSON file.
      </p>
      <ButtonLink icon="save" href={EXPORT_ADDRESS} download>
        Download my data
      </ButtonLink>
      <h3>Delete your account</h3>
      <p className={look.about}>
        You will be logged out everywhere, and cannot come back. Nobody else gets your username.
      </p>
      {leaving ? (
        <DeleteAccount onStay={() => setLeaving(false)} />
      ) : (
        <Button onClick={() => setLeaving(true)}>Delete my account…</Button>
      )}
    </>
  );
}

function DeleteAccount({ onStay }: { onStay: () => void }) {
  const chat = useClient();
  const me = useMe();
  const { busy, fault, run } = useCalls();
  const [messages, setMessages] = useState<Farewell>("keep");
  const [password, setPassword] = useState("");
  const [missing, setMissing] = useState<string>();

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    if (password === "") setMissing("Enter your password.");
    else run(() => chat.deleteAccount({ password, messages }));
  }

  return (
    <form onSubmit={onSubmit} noValidate>
      <Choices
        legend="What becomes of your messages"
        value={messages}
        choices={FAREWELLS}
        onChoose={setMessages}
      />
      <input hidden name="username" autoComplete="username" value={me.username} readOnly />
      <PasswordField
        label="Your password"
        value={password}
        fault={missing}
        autoComplete="current-password"
        // oxlint-disable-next-line jsx-a11y/no-autofocus -- the button that was pressed is gone
        autoFocus
        onText={(text) => {
          setPassword(text);
          setMissing(undefined);
        }}
      />
      {fault !== null && <Fault>{fault}</Fault>}
      <DialogActions>
        <Button onClick={onStay}>Keep my account</Button>
        <Button type="submit" look="danger" busy={busy}>
          Delete my account
        </Button>
      </DialogActions>
    </form>
  );
}
