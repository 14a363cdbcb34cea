import { LIMITS, type Message } from "@hubbub/server/protocol";
import { useState, type FormEvent } from "react";
import { moderation } from "../../chat/moderation.ts";
import { useOverlays } from "../overlays.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog, DialogActions } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Field } from "../ui/Field.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useClient } from "../useChat.ts";
import { useCalls } from "../useCalls.ts";

/** Reports a message to the moderators of its room. */
export function ReportMessage({ message: { roomId, seq } }: { message: Message }) {
  const chat = useClient();
  const { close } = useOverlays();
  const tell = useNotice();
  const { busy, fault, run } = useCalls();
  const [reason, setReason] = useState("");

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const given = reason.trim();
    run(async () => {
      await moderation(chat.call()).report({ roomId, seq, ...(given !== "" && { reason: given }) });
      close();
      tell("The message is reported.");
    });
  }

  return (
    <Dialog title="Report message" onClose={close}>
      <form onSubmit={onSubmit} noValidate>
        <Field
          label="Reason (optional)"
          hint="The moderators see the message, your name and the reason."
          value={reason}
          maxLength={LIMITS.reason}
          autoComplete="off"
          data-first
          onText={setReason}
        />
        {fault !== null && <Fault>{fault}</Fault>}
        <DialogActions>
          <Button onClick={close}>Cancel</Button>
          <Button type="submit" look="danger" busy={busy}>
            Report
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
