import { LIMITS, type RoomId } from "@hubbub/server/protocol";
import { useState, type FormEvent } from "react";
import { ChatError, wordsOf } from "../../chat/api.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { useClient } from "../useChat.ts";

type Props = { onClose: () => void; onCreated: (roomId: RoomId) => void };

export function NewRoom({ onClose, onCreated }: Props) {
  const chat = useClient();
  const [name, setName] = useState("");
  const [fault, setFault] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const wanted = name.trim();
    if (wanted === "") {
      setFault("Give the room a name.");
      return;
    }
    setBusy(true);
    chat.createRoom(wanted).then(onCreated, (error: unknown) => {
      setBusy(false);
      const taken = error instanceof ChatError && error.code === "taken";
      setFault(taken ? "There is a room of that name already." : wordsOf(error));
    });
  }

  return (
    <Dialog title="New room" onClose={onClose}>
      <form onSubmit={onSubmit} noValidate>
        <p className="dialog-lead">Everybody on this server can find the room and join it.</p>
        <div className="field">
          <label htmlFor="new-room-name">Name</label>
          <div className="field-box">
            <input
              id="new-room-name"
              value={name}
              maxLength={LIMITS.roomName}
              placeholder="Lunch plans"
              autoComplete="off"
              data-first
              aria-invalid={fault !== null}
              aria-describedby={fault === null ? undefined : "new-room-fault"}
              onChange={(event) => {
                setName(event.target.value);
                setFault(null);
              }}
            />
          </div>
          {fault !== null && (
            <p id="new-room-fault" className="fault" role="alert">
              {fault}
            </p>
          )}
        </div>
        <div className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button button-main" disabled={busy}>
            Create room
          </button>
        </div>
      </form>
    </Dialog>
  );
}
