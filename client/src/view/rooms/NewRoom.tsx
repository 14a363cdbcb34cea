import { LIMITS, type ListedRoom } from "@hubbub/server/protocol";
import { useState, type FormEvent } from "react";
import { ChatError, wordsOf } from "../../chat/api.ts";
import { useOverlays } from "../overlays.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog, DialogActions } from "../ui/Dialog.tsx";
import { Field } from "../ui/Field.tsx";
import { useClient } from "../useChat.ts";
import { RoomKindField } from "./RoomKindField.tsx";
import { useWays } from "./useWays.ts";

/** Creates a named room, and opens it. */
export function NewRoom() {
  const chat = useClient();
  const { close } = useOverlays();
  const { enter } = useWays();
  const [name, setName] = useState("");
  const [topic, setTopic] = useState("");
  const [kind, setKind] = useState<ListedRoom["kind"]>("open");
  const [fault, setFault] = useState<string>();
  const [busy, setBusy] = useState(false);

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const wanted = name.trim();
    if (wanted === "") {
      setFault("Give the room a name.");
      return;
    }
    setBusy(true);
    const about = topic.trim();
    chat
      .createRoom({ name: wanted, kind, ...(about !== "" && { topic: about }) })
      .then(enter, (error: unknown) => {
        setBusy(false);
        const taken = error instanceof ChatError && error.code === "taken";
        setFault(taken ? "There is a room of that name already." : wordsOf(error));
      });
  }

  return (
    <Dialog title="New room" onClose={close}>
      <form onSubmit={onSubmit} noValidate>
        <Field
          label="Name"
          value={name}
          fault={fault}
          maxLength={LIMITS.roomName}
          placeholder="Lunch plans"
          autoComplete="off"
          data-first
          onText={(given) => {
            setName(given);
            setFault(undefined);
          }}
        />
        <Field
          label="Topic (optional)"
          value={topic}
          maxLength={LIMITS.topic}
          placeholder="Where and when we eat"
          autoComplete="off"
          onText={setTopic}
        />
        <RoomKindField kind={kind} onKind={setKind} />
        <DialogActions>
          <Button onClick={close}>Cancel</Button>
          <Button type="submit" look="main" busy={busy}>
            Create room
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}
